use std::ops::Range;

use memchr::memchr2;

use crate::model::{DocumentBuilder, FieldKind, Name, NodeId, NotInspected};

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

/// A list or object whose end is still to come.
#[derive(Clone, Copy, Debug)]
struct Open {
    node: NodeId,
    is_object: bool,
    /// Position of the current member of a list.
    index: u32,
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
        let bytes = &text[..range.end];
        self.open.clear();
        let Err(Stop(ending, at)) = self.read(builder, bytes, range.start, parent, name) else {
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

    fn read(
        &mut self,
        builder: &mut DocumentBuilder,
        bytes: &[u8],
        start: usize,
        mut parent: NodeId,
        mut name: Name,
    ) -> Result<(), Stop> {
        let mut at = skip_space(bytes, start);
        loop {
            // Here stands a value: `name` of `parent`.
            let Some(&first) = bytes.get(at) else {
                return Err(Stop(Ending::CutOff, parent));
            };
            if self.nodes_left == 0 {
                return Err(Stop(Ending::OverBudget, parent));
            }
            self.nodes_left -= 1;
            let mut last;
            match first {
                b'"' => {
                    let string = Quoted::read(bytes, at + 1);
                    let kind = if string.escaped { FieldKind::EscapedString } else { FieldKind::String };
                    last = builder.push(parent, name, kind, at + 1..string.end);
                    if !string.closed {
                        return Err(Stop(Ending::CutOff, last));
                    }
                    at = string.end + 1;
                }
                b'{' | b'[' => {
                    let is_object = first == b'{';
                    let kind = if is_object { FieldKind::Object } else { FieldKind::Array };
                    let node = builder.push(parent, name, kind, at..at);
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
                        self.open.push(Open { node, is_object, index: 0 });
                        at = skip_space(bytes, at + 1);
                        let closer = if is_object { b'}' } else { b']' };
                        if bytes.get(at) != Some(&closer) {
                            parent = node;
                            (name, at) =
                                if is_object { read_key(bytes, at, node)? } else { (Name::Index(0), at) };
                            continue;
                        }
                    }
                }
                b'-' | b'0'..=b'9' => {
                    let (end, is_whole) = read_number(bytes, at);
                    if !is_whole && end < bytes.len() {
                        return Err(Stop(Ending::Broken, parent));
                    }
                    last = builder.push(parent, name, FieldKind::Number, at..end);
                    at = end;
                }
                _ => {
                    let Some((word, kind)) = LITERALS.iter().find(|(word, _)| bytes[at..].starts_with(word))
                    else {
                        let is_cut = LITERALS.iter().any(|(word, _)| word.starts_with(&bytes[at..]));
                        return Err(Stop(if is_cut { Ending::CutOff } else { Ending::Broken }, parent));
                    };
                    last = builder.push(parent, name, *kind, at..at + word.len());
                    at += word.len();
                }
            }
            // A value has ended: close what ends with it, and find the next one.
            loop {
                at = skip_space(bytes, at);
                let Some(open) = self.open.last_mut() else {
                    return if at == bytes.len() { Ok(()) } else { Err(Stop(Ending::Broken, last)) };
                };
                match bytes.get(at) {
                    Some(b',') => {
                        at = skip_space(bytes, at + 1);
                        parent = open.node;
                        if open.is_object {
                            (name, at) = read_key(bytes, at, parent)?;
                        } else {
                            open.index += 1;
                            name = Name::Index(open.index);
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

#[inline(always)]
fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Reads a key and its colon; gives the name, and where the value starts.
#[inline(always)]
fn read_key(bytes: &[u8], at: usize, parent: NodeId) -> Result<(Name, usize), Stop> {
    let stop = |at| Stop(if at < bytes.len() { Ending::Broken } else { Ending::CutOff }, parent);
    if bytes.get(at) != Some(&b'"') {
        return Err(stop(at));
    }
    let key = Quoted::read(bytes, at + 1);
    if !key.closed {
        return Err(stop(bytes.len()));
    }
    let (start, end) = (at as u32 + 1, key.end as u32);
    let colon = skip_space(bytes, key.end + 1);
    if bytes.get(colon) != Some(&b':') {
        return Err(stop(colon));
    }
    let name = if key.escaped { Name::EscapedKey { start, end } } else { Name::Key { start, end } };
    Ok((name, skip_space(bytes, colon + 1)))
}

/// Where a string ends, and whether it has escapes.
struct Quoted {
    end: usize,
    escaped: bool,
    closed: bool,
}

impl Quoted {
    /// Reads from behind the opening quote.
    #[inline(always)]
    fn read(bytes: &[u8], start: usize) -> Self {
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

/// Most strings are short: eight bytes at a time without a call, and a call only for what is longer than that.
#[inline(always)]
fn find_quote_or_backslash(bytes: &[u8], start: usize) -> Option<usize> {
    const SHORT_WORDS: usize = 4;
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    const QUOTES: u64 = u64::from_ne_bytes([b'"'; 8]);
    const BACKSLASHES: u64 = u64::from_ne_bytes([b'\\'; 8]);
    let mut at = start;
    for _ in 0..SHORT_WORDS {
        let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) else {
            break;
        };
        let word = u64::from_le_bytes(*word);
        let (quotes, backslashes) = (word ^ QUOTES, word ^ BACKSLASHES);
        // A byte that became zero borrows: its high bit is set, and the lowest such bit is exact.
        let hits =
            ((quotes.wrapping_sub(ONES) & !quotes) | (backslashes.wrapping_sub(ONES) & !backslashes)) & HIGHS;
        if hits != 0 {
            return Some(at + hits.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    Some(at + memchr2(b'"', b'\\', bytes.get(at..)?)?)
}

/// Where a number ends, and whether it is whole rather than cut off or malformed.
#[inline(always)]
fn read_number(bytes: &[u8], start: usize) -> (usize, bool) {
    let digits = |mut at: usize| {
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
