use std::{collections::VecDeque, ops::Range};

use bytes::Bytes;

use crate::{
    model::{
        ByteSize, Document, DocumentBuilder, FieldKind, Mark, Name, NodeId, NotInspected, SpanMap, TextId,
    },
    payload::{
        base64::Candidate,
        escape::{Copy, unescape},
        json::{Ending, Walker, looks_like_json},
        percent,
    },
};

/// How much of a document is taken apart. What lies beyond is a gap in the document, never an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// How many containers may stand one within another. The recordings nest two (base64, then JSON); eight leaves
    /// room for tool input that was quoted again and again.
    pub containers: u32,
    /// How many brackets may be open at once in one text. The recordings need 13; 128 is also what `serde_json` allows.
    pub depth: u32,
    /// How many nodes a document has at most. A batch of 310 KiB makes 12,000; a million take about 48 MiB.
    pub nodes: u32,
    /// How much memory opened texts take, with their maps. A batch of 310 KiB takes 90 KiB; the default is as much as
    /// a decoded body may have.
    pub opened_bytes: ByteSize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { containers: 8, depth: 128, nodes: 1 << 20, opened_bytes: ByteSize::mebibytes(64) }
    }
}

/// A text whose strings are still to be looked into.
struct Pending {
    text: TextId,
    /// How many containers stand around it.
    containers: u32,
    /// Values in it that have no node of their own there: whose value, and where.
    loose: Vec<(NodeId, Range<usize>)>,
}

/// What the strings of one text hold, by kind.
#[derive(Default)]
struct Strings {
    /// Keys with escapes.
    keys: Vec<(NodeId, Range<usize>)>,
    /// Values with escapes, and values that look like JSON without any.
    values: Vec<(NodeId, Range<usize>)>,
    base64: Vec<(NodeId, Range<usize>, Candidate)>,
    percent: Vec<(NodeId, Range<usize>)>,
}

impl Strings {
    /// Sorts a value that is written without escapes.
    fn sort_in(&mut self, node: NodeId, range: Range<usize>, raw: &[u8]) {
        if let Some(candidate) = Candidate::of(raw) {
            self.base64.push((node, range, candidate));
        } else if percent::has_escape(raw) {
            self.percent.push((node, range));
        }
    }

    fn first(&self) -> Option<NodeId> {
        let first = |list: &[(NodeId, Range<usize>)]| list.first().map(|(node, _)| *node);
        first(&self.values)
            .or_else(|| first(&self.keys))
            .or_else(|| self.base64.first().map(|(node, ..)| *node))
            .or_else(|| first(&self.percent))
    }
}

/// A text in the making, from values of another one.
#[derive(Default)]
struct Opened {
    bytes: Vec<u8>,
    segments: Vec<(Range<usize>, NodeId, SpanMap)>,
}

impl Opened {
    /// Where the next segment starts: after a line break that keeps hits from running over.
    fn begin(&mut self) -> usize {
        if !self.segments.is_empty() {
            self.bytes.push(b'\n');
        }
        self.bytes.len()
    }

    /// Forgets the segment that was begun.
    fn give_up(&mut self) {
        let end = self.segments.last().map_or(0, |(range, ..)| range.end);
        self.bytes.truncate(end);
    }

    fn end(&mut self, start: usize, node: NodeId, map: SpanMap) {
        self.segments.push((start..self.bytes.len(), node, map));
    }
}

/// Opens what strings hold: breadth first, text by text, so that the nodes of a text lie together.
///
/// The strings of one text give at most one text of each kind: plain copies of values with escapes, the same of keys,
/// what base64 holds, what percent escapes give. Those that look like JSON are walked where they stand; the rest is
/// looked into again.
pub(super) struct Opener {
    builder: DocumentBuilder,
    walker: Walker,
    pending: VecDeque<Pending>,
    most_containers: u32,
    bytes_left: usize,
}

/// Reads a JSON body and everything that its strings hold.
pub(super) fn decode(prefix: &'static str, body: Bytes, budget: &Budget) -> Document {
    let mut opener = Opener::new(prefix, body.clone(), budget);
    let start = if body.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    opener.walker.walk(&mut opener.builder, &body, start..body.len(), NodeId::ROOT, Name::Static(""));
    opener.finish()
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Opener {
    fn new(prefix: &'static str, body: Bytes, budget: &Budget) -> Self {
        let pending = VecDeque::from([Pending { text: TextId::BODY, containers: 0, loose: Vec::new() }]);
        Self {
            builder: DocumentBuilder::new(prefix, body),
            walker: Walker::new(budget.depth as usize, budget.nodes as usize),
            pending,
            most_containers: budget.containers,
            bytes_left: budget.opened_bytes.as_usize(),
        }
    }

    fn finish(mut self) -> Document {
        while let Some(pending) = self.pending.pop_front() {
            let bytes = self.builder.document().text_bytes(pending.text);
            let strings = self.collect(&pending, &bytes);
            let Some(first) = strings.first() else {
                continue;
            };
            if pending.containers == self.most_containers {
                self.builder.gap(first, NotInspected::NestingBudget);
                continue;
            }
            self.open_values(&pending, &bytes, &strings.values);
            self.open_keys(&pending, &bytes, &strings.keys);
            self.open_base64(&pending, &bytes, &strings.base64);
            self.open_percent(&pending, &bytes, &strings.percent);
        }
        self.builder.finish()
    }

    fn collect(&self, pending: &Pending, bytes: &[u8]) -> Strings {
        let mut strings = Strings::default();
        for (node, range) in &pending.loose {
            strings.sort_in(*node, range.clone(), &bytes[range.clone()]);
        }
        for field in self.builder.document().fields_in(pending.text) {
            if let Name::EscapedKey { start, end } = field.name() {
                strings.keys.push((field.id(), start as usize..end as usize));
            }
            match field.kind() {
                FieldKind::EscapedString => strings.values.push((field.id(), field.span())),
                // A static name is a container's own: what it holds is in `loose`, or was walked.
                FieldKind::String if !matches!(field.name(), Name::Static(name) if name.starts_with('!')) => {
                    let raw = &bytes[field.span()];
                    match raw.first() {
                        Some(b'{' | b'[') if looks_like_json(raw) => {
                            strings.values.push((field.id(), field.span()));
                        }
                        Some(_) => strings.sort_in(field.id(), field.span(), raw),
                        None => {}
                    }
                }
                _ => {}
            }
        }
        strings
    }

    fn open_values(&mut self, pending: &Pending, bytes: &[u8], values: &[(NodeId, Range<usize>)]) {
        let Some((text, opened)) = self.open_plain(pending, bytes, values) else {
            return;
        };
        let mut loose = Vec::new();
        for (range, owner) in opened.segments {
            if !self.walk_json(&opened.bytes, range.clone(), owner) {
                loose.push((owner, range));
            }
        }
        self.pending.push_back(Pending { text, containers: pending.containers + 1, loose });
    }

    fn open_keys(&mut self, pending: &Pending, bytes: &[u8], keys: &[(NodeId, Range<usize>)]) {
        self.open_plain(pending, bytes, keys);
    }

    /// Opens a text of plain copies, as far as the budget goes.
    fn open_plain(
        &mut self,
        pending: &Pending,
        bytes: &[u8],
        strings: &[(NodeId, Range<usize>)],
    ) -> Option<(TextId, Walkable)> {
        let mut opened = Opened::default();
        for (node, range) in strings {
            let start = opened.begin();
            let mut copy = Copy::at_end_of(&opened.bytes);
            let fits =
                unescape(&bytes[range.clone()], range.start, &mut opened.bytes, &mut copy, self.bytes_left);
            self.bytes_left = self.bytes_left.saturating_sub(copy.size(&opened.bytes));
            opened.end(start, *node, SpanMap::Pieces(copy.pieces));
            if !fits {
                self.builder.gap(*node, NotInspected::NestingBudget);
                break;
            }
        }
        self.open_text(pending, opened, false)
    }

    fn open_base64(
        &mut self,
        pending: &Pending,
        bytes: &[u8],
        candidates: &[(NodeId, Range<usize>, Candidate)],
    ) {
        let mut opened = Opened::default();
        for (node, range, candidate) in candidates {
            if candidate.length() / 4 * 3 > self.bytes_left {
                self.builder.gap(*node, NotInspected::NestingBudget);
                break;
            }
            let start = opened.begin();
            if candidate.decode(&bytes[range.clone()], &mut opened.bytes) {
                self.bytes_left -= (opened.bytes.len() - start).min(self.bytes_left);
                opened.end(start, *node, SpanMap::Base64 { start: range.start as u32 });
            } else {
                opened.give_up();
            }
        }
        self.open_named(pending, opened, "!base64");
    }

    fn open_percent(&mut self, pending: &Pending, bytes: &[u8], strings: &[(NodeId, Range<usize>)]) {
        let mut opened = Opened::default();
        for (node, range) in strings {
            // Each escape makes at most two pieces of three characters.
            if range.len().saturating_mul(Copy::PIECE_BYTES) > self.bytes_left {
                self.builder.gap(*node, NotInspected::NestingBudget);
                break;
            }
            let start = opened.begin();
            let mut copy = Copy::at_end_of(&opened.bytes);
            if percent::decode(&bytes[range.clone()], range.start, &mut opened.bytes, &mut copy) {
                self.bytes_left -= copy.size(&opened.bytes).min(self.bytes_left);
                opened.end(start, *node, SpanMap::Pieces(copy.pieces));
            } else {
                opened.give_up();
            }
        }
        self.open_named(pending, opened, "!percent");
    }

    /// Opens a text in which every segment has a node of its own, and is JSON or looked into again.
    fn open_named(&mut self, pending: &Pending, opened: Opened, name: &'static str) {
        let Some((text, opened)) = self.open_text(pending, opened, true) else {
            return;
        };
        let mut loose = Vec::new();
        for (range, owner) in opened.segments {
            if self.walker.nodes_left() == 0 {
                self.builder.gap(owner, NotInspected::NestingBudget);
                break;
            }
            self.walker.spend(1);
            let node = self.builder.push(owner, Name::Static(name), FieldKind::String, range.clone());
            if !self.walk_json(&opened.bytes, range.clone(), node) {
                loose.push((node, range));
            }
        }
        self.pending.push_back(Pending { text, containers: pending.containers + 1, loose });
    }

    fn open_text(
        &mut self,
        pending: &Pending,
        opened: Opened,
        replaces_parent: bool,
    ) -> Option<(TextId, Walkable)> {
        if opened.segments.is_empty() {
            return None;
        }
        let bytes = Bytes::from(opened.bytes);
        let segments = opened.segments.iter().map(|(range, node, _)| (range.clone(), *node)).collect();
        let text = self.builder.open_text(pending.text, bytes.clone(), opened.segments, replaces_parent);
        Some((text, Walkable { bytes, segments }))
    }

    /// Adds what stands in `range` of the current text as `!json` of `owner`, if it is JSON.
    fn walk_json(&mut self, bytes: &[u8], range: Range<usize>, owner: NodeId) -> bool {
        if !looks_like_json(&bytes[range.clone()]) {
            return false;
        }
        let mark = self.builder.mark();
        let ending = self.walker.walk(&mut self.builder, bytes, range, owner, Name::Static("!json"));
        let is_json = self.is_json(ending, mark);
        if !is_json {
            self.walker.refund(self.builder.document().fields().len() - mark.nodes());
            self.builder.rollback(mark);
        }
        is_json
    }

    /// Whether what a walk made of a string is worth having: a string may begin with a bracket and be prose.
    ///
    /// An object proves itself by a member, and a list by an object with a member.
    fn is_json(&self, ending: Ending, mark: Mark) -> bool {
        let mut fields = self.builder.document().fields().skip(mark.nodes());
        let has_member = |first: FieldKind, second: Option<FieldKind>, third: bool| match first {
            FieldKind::Object => second.is_some(),
            _ => second == Some(FieldKind::Object) && third,
        };
        match ending {
            Ending::Complete | Ending::OverBudget => true,
            Ending::CutOff => fields.len() > 1,
            Ending::Broken => fields.next().is_some_and(|first| {
                let second = fields.next().map(|field| field.kind());
                has_member(first.kind(), second, fields.next().is_some())
            }),
        }
    }
}

/// The bytes of a text that was opened, and its segments, to be walked.
struct Walkable {
    bytes: Bytes,
    segments: Vec<(Range<usize>, NodeId)>,
}
