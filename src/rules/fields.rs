//! Field rules: whole values, chosen by where they stand. A name is looked up before any path is put together.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use crate::{
    model::{DestinationId, Document, Field, FieldKind, Name, PathPattern, PathWriter},
    rules::{
        Hit, Rule, RuleSet,
        scan::{applies_to, is_number, judge_value},
        spec::Kind,
    },
};

/// Which rules may hold for a field, by the last name of its path.
#[derive(Debug, Default)]
pub(super) struct FieldIndex {
    /// By the field's own name.
    named: Names,
    /// By the name of the list or the object that the field is in: patterns that end in `name/*`.
    members: Names,
    /// Patterns whose end says nothing: every field's path must be put together for these.
    unnamed: Vec<Candidate>,
    /// A bit for each [`sketch`] of a name.
    sketches: Vec<u64>,
}

type Names = HashMap<Box<[u8]>, Vec<Candidate>, BuildHasherDefault<Fnv>>;

/// FNV-1a: the names are the rules' own, so that nobody can aim at it, and short.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Words of bits that sketches are kept in.
const SKETCHES: usize = 128;

/// A number that few names share, made of three bytes and the length: most names are told apart from those of rules
/// by it alone.
fn sketch(name: &[u8]) -> Option<usize> {
    let (first, last) = (*name.first()?, *name.last()?);
    let middle = name[name.len() / 2];
    let mixed = u32::from_le_bytes([first, middle, last, name.len() as u8]).wrapping_mul(0x9e37_79b1);
    Some((mixed >> 19) as usize % (SKETCHES * 64))
}

/// A rule that may hold for a field.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    rule: u32,
    /// Whether the name alone decides, wherever the field stands: `**/{a,b}`, and no `where_not`.
    certain: bool,
}

impl FieldIndex {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut index = Self { sketches: vec![0; SKETCHES], ..Self::default() };
        for (number, rule) in rules.iter().enumerate() {
            if !matches!(rule.kind, Kind::Field) {
                continue;
            }
            for pattern in &rule.paths {
                let anywhere = pattern.prefix().is_none()
                    && pattern.as_str().strip_prefix("**/").is_some_and(|names| !names.contains('/'));
                let certain = anywhere && rule.paths_not.is_empty();
                index.add(pattern, Candidate { rule: number as u32, certain });
            }
        }
        index
    }

    fn add(&mut self, pattern: &PathPattern, rule: Candidate) {
        fn enter(map: &mut Names, names: &[Box<str>], rule: Candidate) {
            for name in names {
                // Paths write `/` and `~` in a name as `~1` and `~0`; fields have the plain name.
                let plain = name.replace("~1", "/").replace("~0", "~");
                let rules = map.entry(plain.into_bytes().into()).or_default();
                match rules.last_mut() {
                    Some(last) if last.rule == rule.rule => last.certain |= rule.certain,
                    _ => rules.push(rule),
                }
            }
        }
        let mut mark = |names: &[Box<str>]| {
            for name in names {
                let name = name.replace("~1", "/").replace("~0", "~");
                if let Some(sketch) = sketch(name.as_bytes()) {
                    self.sketches[sketch / 64] |= 1 << (sketch % 64);
                }
            }
        };
        if let Some(names) = pattern.last_names() {
            mark(names);
            enter(&mut self.named, names, rule);
            return;
        }
        let list = pattern.as_str().strip_suffix("/*").and_then(|list| PathPattern::parse(list).ok());
        match list.as_ref().and_then(PathPattern::last_names) {
            Some(names) => {
                mark(names);
                enter(&mut self.members, names, Candidate { certain: false, ..rule });
            }
            None if self.unnamed.last().is_none_or(|last| last.rule != rule.rule) => self.unnamed.push(rule),
            None => {}
        }
    }

    /// Adds what field rules name in `document` to `found`.
    pub(super) fn scan(
        &self,
        set: &RuleSet,
        document: &Document,
        destination: &DestinationId,
        found: &mut Vec<Hit>,
    ) {
        if self.named.is_empty() && self.members.is_empty() && self.unnamed.is_empty() {
            return;
        }
        let first = found.len();
        let mut paths = None;
        // Neighbours have one parent: most of the time the one of the leaf before.
        let (mut above, mut members) = (None, NONE);
        for field in document.leaves() {
            let named = self.named(document, field);
            if !self.members.is_empty() {
                let parent = field.parent().map(Field::id);
                if parent != above {
                    above = parent;
                    members = self.members(document, field);
                }
            }
            if named.is_empty() && members.is_empty() && self.unnamed.is_empty() {
                continue;
            }
            if field.kind() == FieldKind::Null || field.span().is_empty() {
                continue;
            }
            let mut last = None;
            for candidate in named.iter().chain(members).chain(&self.unnamed) {
                let index = candidate.rule as usize;
                let rule = &set.rules[index];
                if last == Some(index) || !rule.holds_for(destination.as_str()) {
                    continue;
                }
                // Only for a rule that asks where the field stands, and onto the path of the field before.
                if !candidate.certain {
                    let paths = paths.get_or_insert_with(|| PathWriter::new(document));
                    if !applies_to(rule, paths.path(field)) {
                        continue;
                    }
                }
                last = Some(index);
                // Content is text: a number behind such a name counts something.
                if rule.category.starts_with("content") && counts(document, field) {
                    continue;
                }
                let plain = match field.kind() {
                    FieldKind::EscapedString => document.plain(field.id()),
                    _ => None,
                };
                let (text, range) = plain.unwrap_or_else(|| (field.text(), field.span()));
                if is_inside(field, index, &found[first..]) {
                    continue;
                }
                let digits = field.digits();
                let value = digits.as_ref().map(|digits| digits.as_str().as_bytes());
                let value = value.unwrap_or_else(|| &document.text(text)[range.clone()]);
                if let Some(confidence) = judge_value(rule, value, b"") {
                    found.push(Hit { rule: index, text, range, node: field.id(), confidence });
                }
            }
        }
    }

    /// What may hold for a field by its own name.
    fn named(&self, document: &Document, field: Field<'_>) -> &[Candidate] {
        self.of(&self.named, document, field)
    }

    /// What may hold for a field by the name of what it is in.
    fn members(&self, document: &Document, field: Field<'_>) -> &[Candidate] {
        field.parent().map_or(NONE, |parent| self.of(&self.members, document, parent))
    }

    #[inline(always)]
    fn of<'i>(&self, names: &'i Names, document: &Document, field: Field<'_>) -> &'i [Candidate] {
        // Most names are none of ours; that shows before anything is put together.
        if let Name::Key { start, end } = field.name() {
            let text = document.text(field.text());
            let Some(name) = text.get(start as usize..end as usize) else { return NONE };
            return self.look_up(names, name);
        }
        field.last_segment().map_or(NONE, |name| self.look_up(names, &name))
    }

    #[inline(always)]
    fn look_up<'i>(&self, names: &'i Names, name: &[u8]) -> &'i [Candidate] {
        let may_hold =
            sketch(name).is_some_and(|sketch| self.sketches[sketch / 64] >> (sketch % 64) & 1 != 0);
        if may_hold { names.get(name).map_or(NONE, Vec::as_slice) } else { NONE }
    }
}

const NONE: &[Candidate] = &[];

/// Whether a value is no text but a number, or a truth value. OTLP writes whole numbers as strings in its JSON; what
/// merely stands where one should is text.
fn counts(document: &Document, field: Field<'_>) -> bool {
    match field.kind() {
        FieldKind::Binary(_) | FieldKind::Bool | FieldKind::Number => true,
        FieldKind::String => {
            let digits = field.raw().strip_prefix(b"-").unwrap_or(field.raw());
            digits.iter().all(u8::is_ascii_digit) && is_number(document, field)
        }
        _ => false,
    }
}

/// Whether the rule already named a container that `field` was opened out of: the whole is one finding.
fn is_inside(field: Field<'_>, rule: usize, found: &[Hit]) -> bool {
    let mut above = field.parent();
    while let Some(ancestor) = above {
        // Only containers have both a value of their own and members.
        if !ancestor.kind().is_branch() {
            // Fields are visited in order, so the hits are sorted by their nodes.
            let from = found.partition_point(|hit| hit.node < ancestor.id());
            let same = found[from..].iter().take_while(|hit| hit.node == ancestor.id());
            if same.into_iter().any(|hit| hit.rule == rule) {
                return true;
            }
        }
        above = ancestor.parent();
    }
    false
}
