use std::ops::Range;

use memchr::memchr2;

use crate::{
    model::{DocumentBuilder, FieldKind, Label, Name, NodeId, NotInspected},
    payload::chunk::{DIGITS, find_near, leading_digits},
};

/// Reads JSON into nodes, in one pass and without recursion. Owns what several walks share, so that a walk
/// allocates nothing of its own.
///
/// Tolerant, because what is half broken still carries data: takes duplicate keys, numbers of any size, `NaN` and
/// `Infinity`, control characters, lone surrogates and invalid UTF-8 in strings, and reads a document that is cut off
/// as far as it goes.
#[derive(Debug)]
pub(super) struct Walker {
    open: Vec<Open>,
    /// How many brackets may be open at once.
    depth: usize,
    /// How many nodes may still be added.
    nodes_left: usize,
}

/// Where a text came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// No JSON from some point on, though there are more bytes.
    Broken,
    /// One value and nothing else.
    Complete,
    /// The bytes ended before the value did.
    CutOff,
    /// The budget for nodes ran out.
    OverBudget,
}

/// What a format's JSON says in more words than its fields need, and what a walk takes for one field at once.
pub(super) trait Shortcut {
    /// Whether there is anything of the kind.
    const EXISTS: bool;

    /// How a list or object that is opened is read: by what its parent calls it (nothing in
    /// lists) and how that one is read.
    fn enter(&mut self, around: Reading, key: &[u8], is_object: bool) -> Reading;

    /// Reads a whole member of a list that is [`Reading::Members`], at its opening brace; `None` if it is not written
    /// as most are.
    fn member(&self, bytes: &[u8], at: usize) -> Option<Member>;
}

/// How what stands in a list or object is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// As it is written, and all within it.
    AsWritten,
    /// Members may be fields each, brackets and all. It is a map, though written as a list.
    Members,
    /// As it is written; what is within it is looked at.
    Open,
}

/// A field that was read at once.
pub(super) struct Member {
    pub(super) label: Label,
    pub(super) kind: FieldKind,
    pub(super) span: Range<usize>,
    /// Where it ends, brackets and all.
    pub(super) end: usize,
}

/// For formats that use no more words than they have fields.
struct NoShortcut;

impl Shortcut for NoShortcut {
    const EXISTS: bool = false;

    fn enter(&mut self, around: Reading, _: &[u8], _: bool) -> Reading {
        around
    }

    fn member(&self, _: &[u8], _: usize) -> Option<Member> {
        None
    }
}

/// How many brackets a [`Member`] has.
const MEMBER_DEPTH: usize = 2;

/// A list or object whose end is still to come.
#[derive(Clone, Copy, Debug)]
struct Open {
    node: NodeId,
    /// Position of the current member of a list.
    index: u32,
    is_object: bool,
    reading: Reading,
}

/// Why a walk stops early, and at which node.
struct Stop(Ending, NodeId);

impl Walker {
    pub(super) fn new(depth: usize, nodes: usize) -> Self {
        Self { open: Vec::new(), depth, nodes_left: nodes }
    }

    pub(super) fn nodes_left(&self) -> usize {
        self.nodes_left
    }

    /// Counts nodes that were added outside of a walk.
    pub(super) fn spend(&mut self, nodes: usize) {
        self.nodes_left = self.nodes_left.saturating_sub(nodes);
    }

    /// Gives back what a walk took whose nodes were taken back.
    pub(super) fn refund(&mut self, nodes: usize) {
        self.nodes_left += nodes;
    }

    /// Reads one value from `range` of `text`, which must be the builder's current text, as `name` of `parent`.
    ///
    /// What cannot be read is noted as a gap at the innermost node that holds it; that node then spans the rest.
    pub(super) fn walk(
        &mut self,
        builder: &mut DocumentBuilder,
        text: &[u8],
        range: Range<usize>,
        parent: NodeId,
        name: Name,
    ) -> Ending {
        self.walk_with(builder, text, range, (parent, name), &mut NoShortcut)
    }

    /// As [`Walker::walk`], with a shortcut.
    pub(super) fn walk_with<S: Shortcut>(
        &mut self,
        builder: &mut DocumentBuilder,
        text: &[u8],
        range: Range<usize>,
        place: (NodeId, Name),
        shortcut: &mut S,
    ) -> Ending {
        let bytes = &text[..range.end];
        self.open.clear();
        let label = builder.label(place.1);
        let most = builder.count() + self.nodes_left;
        let read = self.read(builder, bytes, range.start, (place.0, label), most, shortcut);
        self.nodes_left = most - builder.count();
        let Err(Stop(ending, at)) = read else {
            return Ending::Complete;
        };
        while let Some(open) = self.open.pop() {
            builder.close(open.node, bytes.len());
        }
        let why = match ending {
            Ending::OverBudget => NotInspected::NestingBudget,
            _ => NotInspected::FormatBroken,
        };
        builder.gap(at, why);
        ending
    }

    /// Reads until the value has ended. `most` is how many nodes the document may have.
    fn read<S: Shortcut>(
        &mut self,
        builder: &mut DocumentBuilder,
        bytes: &[u8],
        start: usize,
        (mut parent, mut label): (NodeId, Label),
        most: usize,
        shortcut: &mut S,
    ) -> Result<(), Stop> {
        // The innermost list or object, a copy of what is on the stack.
        let mut open = Open { node: parent, index: 0, is_object: false, reading: Reading::Open };
        let mut at = skip_space(bytes, start);
        loop {
            // Here stands a value: `label` of `parent`.
            let Some(&first) = bytes.get(at) else {
                return Err(Stop(Ending::CutOff, parent));
            };
            if builder.count() >= most {
                return Err(Stop(Ending::OverBudget, parent));
            }
            let mut last;
            match first {
                b'"' => {
                    let string = Quoted::read(bytes, at + 1);
                    let kind = if string.escaped { FieldKind::EscapedString } else { FieldKind::String };
                    last = builder.push_labelled(parent, label, kind, at + 1..string.end);
                    if !string.closed {
                        return Err(Stop(Ending::CutOff, last));
                    }
                    at = string.end + 1;
                }
                b'{' if S::EXISTS
                    && open.reading == Reading::Members
                    && self.open.len() + MEMBER_DEPTH <= self.depth
                    && let Some(member) = shortcut.member(bytes, at) =>
                {
                    last = builder.push_labelled(parent, member.label, member.kind, member.span);
                    at = member.end;
                }
                b'{' | b'[' => {
                    let is_object = first == b'{';
                    let mut kind = if is_object { FieldKind::Object } else { FieldKind::Array };
                    let mut reading = Reading::Open;
                    if S::EXISTS {
                        let key = label.plain_key().and_then(|key| bytes.get(key)).unwrap_or_default();
                        reading = shortcut.enter(open.reading, key, is_object);
                        if reading == Reading::Members {
                            kind = FieldKind::Object;
                        }
                    }
                    let node = builder.push_labelled(parent, label, kind, at..at);
                    last = node;
                    if self.open.len() == self.depth {
                        builder.gap(node, NotInspected::NestingBudget);
                        let Some(end) = skip_value(bytes, at) else {
                            builder.close(node, bytes.len());
                            return Err(Stop(Ending::CutOff, node));
                        };
                        builder.close(node, end);
                        at = end;
                    } else {
                        if let Some(outer) = self.open.last_mut() {
                            *outer = open;
                        }
                        open = Open { node, index: 0, is_object, reading };
                        self.open.push(open);
                        at = skip_space(bytes, at + 1);
                        let closer = if is_object { b'}' } else { b']' };
                        if bytes.get(at) != Some(&closer) {
                            parent = node;
                            (label, at) =
                                if is_object { read_key(bytes, at, node)? } else { (Label::index(0), at) };
                            continue;
                        }
                    }
                }
                b'-' | b'0'..=b'9' => {
                    let (end, is_whole) = read_number(bytes, at);
                    if !is_whole && end < bytes.len() {
                        return Err(Stop(Ending::Broken, parent));
                    }
                    last = builder.push_labelled(parent, label, FieldKind::Number, at..end);
                    at = end;
                }
                _ => {
                    let Some((length, kind)) = read_literal(&bytes[at..]) else {
                        let is_cut = LITERALS.iter().any(|(word, _)| word.starts_with(&bytes[at..]));
                        return Err(Stop(if is_cut { Ending::CutOff } else { Ending::Broken }, parent));
                    };
                    last = builder.push_labelled(parent, label, kind, at..at + length);
                    at += length;
                }
            }
            // A value has ended: close what ends with it, and find the next one.
            loop {
                // Written without space, as by all who write for machines. Nothing is open behind the last bracket.
                if open.is_object && starts_with(bytes, at, b",\"") {
                    parent = open.node;
                    (label, at) = read_key(bytes, at + 1, parent)?;
                    break;
                }
                at = skip_space(bytes, at);
                if self.open.is_empty() {
                    return if at == bytes.len() { Ok(()) } else { Err(Stop(Ending::Broken, last)) };
                }
                match bytes.get(at) {
                    Some(b',') => {
                        at = skip_space(bytes, at + 1);
                        parent = open.node;
                        if open.is_object {
                            (label, at) = read_key(bytes, at, parent)?;
                        } else {
                            open.index += 1;
                            label = Label::index(open.index);
                        }
                        break;
                    }
                    Some(b'}') if open.is_object => {}
                    Some(b']') if !open.is_object => {}
                    Some(_) => return Err(Stop(Ending::Broken, open.node)),
                    None => return Err(Stop(Ending::CutOff, open.node)),
                }
                at += 1;
                last = open.node;
                builder.close(last, at);
                self.open.pop();
                match self.open.last() {
                    Some(outer) => open = *outer,
                    None => open.is_object = false,
                }
            }
        }
    }
}

/// Whether `bytes` start as a JSON object or list would: enough to try a walk.
pub(super) fn looks_like_json(bytes: &[u8]) -> bool {
    let at = skip_space(bytes, 0);
    let inner = bytes.get(skip_space(bytes, at + 1));
    match (bytes.get(at), inner) {
        (Some(b'{'), Some(inner)) => matches!(inner, b'"' | b'}'),
        (Some(b'['), Some(inner)) => {
            matches!(inner, b'"' | b'{' | b'[' | b']' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n')
        }
        _ => false,
    }
}

/// Words that are values. The last two are no JSON, but Python writes them.
const LITERALS: [(&[u8], FieldKind); 5] = [
    (b"null", FieldKind::Null),
    (b"true", FieldKind::Bool),
    (b"false", FieldKind::Bool),
    (b"NaN", FieldKind::Number),
    (b"Infinity", FieldKind::Number),
];

/// How long the word is that stands at the start, and what it is.
#[inline]
pub(super) fn read_literal(bytes: &[u8]) -> Option<(usize, FieldKind)> {
    match bytes {
        [b't', b'r', b'u', b'e', ..] => Some((4, FieldKind::Bool)),
        [b'f', b'a', b'l', b's', b'e', ..] => Some((5, FieldKind::Bool)),
        _ => {
            LITERALS.iter().find(|(word, _)| bytes.starts_with(word)).map(|(word, kind)| (word.len(), *kind))
        }
    }
}

#[inline(always)]
fn starts_with<const N: usize>(bytes: &[u8], at: usize, word: &[u8; N]) -> bool {
    bytes.get(at..).and_then(<[u8]>::first_chunk) == Some(word)
}

#[inline(always)]
fn skip_space(bytes: &[u8], at: usize) -> usize {
    // One comparison where there is none, which is the rule.
    match bytes.get(at) {
        Some(..=b' ') => skip_more_space(bytes, at),
        _ => at,
    }
}

fn skip_more_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Reads a key and its colon; gives the name, and where the value starts.
#[inline(always)]
fn read_key(bytes: &[u8], at: usize, parent: NodeId) -> Result<(Label, usize), Stop> {
    let stop = |at| Stop(if at < bytes.len() { Ending::Broken } else { Ending::CutOff }, parent);
    if bytes.get(at) != Some(&b'"') {
        return Err(stop(at));
    }
    let key = Quoted::read(bytes, at + 1);
    if !key.closed {
        return Err(stop(bytes.len()));
    }
    let label = Label::key(at as u32 + 1, key.end as u32, key.escaped);
    if let Some(&[b':', b'!'..=0xff]) = bytes.get(key.end + 1..).and_then(<[u8]>::first_chunk::<2>) {
        return Ok((label, key.end + 2));
    }
    let colon = skip_space(bytes, key.end + 1);
    if bytes.get(colon) != Some(&b':') {
        return Err(stop(colon));
    }
    Ok((label, skip_space(bytes, colon + 1)))
}

/// Where a string ends, and whether it has escapes.
pub(super) struct Quoted {
    pub(super) end: usize,
    pub(super) escaped: bool,
    pub(super) closed: bool,
}

impl Quoted {
    /// Reads from behind the opening quote.
    #[inline(always)]
    pub(super) fn read(bytes: &[u8], start: usize) -> Self {
        let (mut at, mut escaped) = (start, false);
        loop {
            let Some(hit) = find_quote_or_backslash(bytes, at) else {
                return Self { end: bytes.len(), escaped, closed: false };
            };
            if bytes[hit] == b'"' {
                return Self { end: hit, escaped, closed: true };
            }
            escaped = true;
            at = hit + 2;
        }
    }
}

/// Most strings are short: a few bytes at a time without a call, and a call only for what is longer than that.
#[inline(always)]
fn find_quote_or_backslash(bytes: &[u8], start: usize) -> Option<usize> {
    // Enough for an identifier.
    const SHORT_CHUNKS: usize = 3;
    match find_near::<b'"', b'\\', SHORT_CHUNKS>(bytes, start) {
        Ok(place) => Some(place),
        Err(at) => find_far(bytes, at),
    }
}

#[inline(never)]
fn find_far(bytes: &[u8], at: usize) -> Option<usize> {
    Some(at + memchr2(b'"', b'\\', bytes.get(at..)?)?)
}

/// Where a number ends, and whether it is whole rather than cut off or malformed.
#[inline(always)]
pub(super) fn read_number(bytes: &[u8], start: usize) -> (usize, bool) {
    let digits = |mut at: usize| {
        if let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
            match leading_digits(chunk) {
                Some(count) => return at + count,
                None => at += DIGITS,
            }
        }
        while let Some(b'0'..=b'9') = bytes.get(at) {
            at += 1;
        }
        at
    };
    let mut at = start;
    if bytes.get(at) == Some(&b'-') {
        at += 1;
        if bytes[at..].starts_with(b"Infinity") {
            return (at + b"Infinity".len(), true);
        }
    }
    let mut end = digits(at);
    let mut is_whole = end > at;
    if bytes.get(end) == Some(&b'.') {
        at = end + 1;
        end = digits(at);
        is_whole &= end > at;
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        at = end + 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        end = digits(at);
        is_whole &= end > at;
    }
    (end, is_whole)
}

/// Where the list or object that opens at `start` ends, without a look at what is in it.
fn skip_value(bytes: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut depth) = (start, 0_usize);
    loop {
        match bytes.get(at)? {
            b'"' => {
                let string = Quoted::read(bytes, at + 1);
                if !string.closed {
                    return None;
                }
                at = string.end;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}
