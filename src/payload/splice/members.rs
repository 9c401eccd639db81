//! Takes members out of what holds them: with their names, and with one of the separators beside them.

use std::{collections::BTreeMap, ops::Range};

use crate::{
    model::{Document, Field, Name, NodeId, TextId},
    payload::splice::{
        key_bytes,
        patch::Patch,
        place::{self, Place},
    },
};

/// Takes `nodes`, whose bytes stand in `text`, out of it; gives back those that cannot be taken out.
pub(super) fn remove(
    document: &Document,
    text: TextId,
    nodes: &[NodeId],
    mut push: impl FnMut(Patch),
) -> Vec<NodeId> {
    let mut left = Vec::new();
    // By the bracket that opens what holds them.
    let mut lists: BTreeMap<usize, List> = BTreeMap::new();
    let bytes = document.text(text);
    for &node in nodes {
        let field = document.field(node);
        let Some(key) = key_bytes(field.name()) else {
            left.push(node);
            continue;
        };
        let whole = key.start.min(field.span().start)..field.span().end.max(key.end);
        if place::is_binary(document, text) {
            push(Patch { removes: true, ..Patch::empty(whole) });
            continue;
        }
        match Place::of_key(document, field) {
            Place::Json => match find(bytes, field, &whole, &mut lists) {
                Some((open, index)) => {
                    if let Some(list) = lists.get_mut(&open) {
                        list.gone[index] = true;
                    }
                }
                None => left.push(node),
            },
            Place::Form => push(Patch::empty(with_separator(bytes, whole, b'&'))),
            // The line break stays, so that lines can be counted.
            Place::HeaderName => push(Patch::empty(whole)),
            Place::Raw if is_tag(field) => push(Patch::empty(with_separator(bytes, whole, b','))),
            Place::Path | Place::Raw => left.push(node),
        }
    }
    for list in lists.into_values() {
        list.ranges().for_each(|range| push(Patch::empty(range)));
    }
    left
}

fn is_tag(field: Field<'_>) -> bool {
    field.parent().is_some_and(|parent| parent.name() == Name::Static("!tags"))
}

fn with_separator(bytes: &[u8], range: Range<usize>, separator: u8) -> Range<usize> {
    let before = range.start.checked_sub(1).filter(|before| bytes[*before] == separator);
    match (bytes.get(range.end), before) {
        (Some(next), _) if *next == separator => range.start..range.end + 1,
        (_, Some(before)) => before..range.end,
        _ => range,
    }
}

/// The members of a list or an object, and which of them go.
struct List {
    members: Vec<Member>,
    gone: Vec<bool>,
}

/// A member: from its key, if it has one, to its value's end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    range: Range<usize>,
    value: Range<usize>,
}

impl List {
    fn read(bytes: &[u8], open: usize) -> Option<Self> {
        let members = members(bytes, open)?;
        Some(Self { gone: vec![false; members.len()], members })
    }

    /// What goes: with the comma behind, or before if nothing stays behind.
    fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let first = at + self.gone[at..].iter().position(|gone| *gone)?;
            let next = self.gone[first..].iter().position(|gone| !gone).map(|count| first + count);
            at = next.unwrap_or(self.gone.len());
            let last = self.members[at - 1].range.end;
            Some(match (next, first.checked_sub(1)) {
                (Some(next), _) => self.members[first].range.start..self.members[next].range.start,
                (None, Some(before)) => self.members[before].range.end..last,
                (None, None) => self.members[first].range.start..last,
            })
        })
    }
}

/// Finds the smallest member that holds both a field's name and its value: the bracket before it, and its place. Not
/// all that stands in the bytes has a node: a pair of OTLP's is left out.
fn find(
    bytes: &[u8],
    field: Field<'_>,
    whole: &Range<usize>,
    lists: &mut BTreeMap<usize, List>,
) -> Option<(usize, usize)> {
    let mut holder = field.parent()?;
    while holder.text() == field.text() && !matches!(bytes.get(holder.span().start), Some(b'[' | b'{')) {
        holder = holder.parent()?;
    }
    if holder.text() != field.text() {
        return None;
    }
    let mut open = holder.span().start;
    loop {
        let list = match lists.entry(open) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(List::read(bytes, open)?),
        };
        let index = list.members.partition_point(|member| member.range.end < whole.end);
        let member = list.members.get(index)?;
        // The quote before a key belongs to the member.
        if whole.start < member.range.start || member.range.end < whole.end {
            return None;
        }
        let inner = &member.value;
        let is_inside = matches!(bytes.get(inner.start), Some(b'[' | b'{'))
            && inner.start < whole.start
            && whole.end < inner.end;
        let holds_both = is_inside && !is_split(bytes, inner.start, whole);
        if !holds_both {
            return Some((open, index));
        }
        open = inner.start;
    }
}

/// Whether what opens at `open` has the two ends of a range in different members: then it is the pair itself.
fn is_split(bytes: &[u8], open: usize, whole: &Range<usize>) -> bool {
    let Some(members) = members(bytes, open) else { return true };
    let place =
        |at: usize| members.iter().position(|member| member.range.start <= at && at <= member.range.end);
    place(whole.start) != place(whole.end)
}

/// Reads the members of what opens at `open`; `None` if it is not whole.
fn members(bytes: &[u8], open: usize) -> Option<Vec<Member>> {
    let is_object = bytes.get(open)? == &b'{';
    let mut members = Vec::new();
    let mut at = skip_space(bytes, open + 1);
    loop {
        match bytes.get(at)? {
            b'}' | b']' => return Some(members),
            b',' => at = skip_space(bytes, at + 1),
            _ => {
                let start = at;
                if is_object {
                    at = skip_space(bytes, value_end(bytes, at)?);
                    if bytes.get(at)? != &b':' {
                        return None;
                    }
                    at = skip_space(bytes, at + 1);
                }
                let value = at..value_end(bytes, at)?;
                at = skip_space(bytes, value.end);
                members.push(Member { range: start..value.end, value });
            }
        }
    }
}

fn skip_space(bytes: &[u8], at: usize) -> usize {
    at + bytes.get(at..).unwrap_or_default().iter().take_while(|byte| b" \n\r\t".contains(byte)).count()
}

/// Where the value that begins at `at` ends.
fn value_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match bytes.get(at)? {
            b'"' => at = string_end(bytes, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b',' | b':' if depth > 0 => {
                at += 1;
                continue;
            }
            b' ' | b'\n' | b'\r' | b'\t' if depth > 0 => {
                at += 1;
                continue;
            }
            b',' | b':' => return None,
            _ => {
                let rest = &bytes[at..];
                at += rest.iter().position(|byte| b",:]} \n\r\t\"".contains(byte)).unwrap_or(rest.len());
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

fn string_end(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}
