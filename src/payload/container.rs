use std::{collections::VecDeque, ops::Range};

use bytes::Bytes;

use crate::{
    model::{
        ByteSize, Document, DocumentBuilder, FieldKind, Mark, Name, NodeId, NotInspected, SpanMap, TextId,
    },
    payload::{
        base64::{self, Candidate},
        compressed::{self, Ended, Packing},
        escape::{Copy, unescape},
        hint::Hint,
        json::{Ending, Shortcut, Walker, looks_like_json},
        percent,
        shape::{self, Shape},
        tags,
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
    /// How many nodes a document has at most. A batch of 310 KiB makes 12,000; a million take 32 MiB.
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
    packed: Vec<(NodeId, Range<usize>, Packing)>,
    percent: Vec<(NodeId, Range<usize>)>,
    reversed: Vec<(NodeId, Range<usize>)>,
    tags: Vec<(NodeId, Range<usize>)>,
}

/// How the strings of a text are escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escaping {
    /// As in a form: percent escapes, and `+` for a space.
    Form,
    /// As in JSON.
    Json,
    /// Not at all.
    None,
    /// Percent escapes alone, as in a path.
    Percent,
}

/// Writes a plain copy of a string, as far as there is room; says whether all of it fitted.
type Unescape = fn(&[u8], usize, &mut Vec<u8>, &mut Copy, usize) -> bool;

impl Strings {
    /// Sorts a value that is written without escapes.
    #[inline(always)]
    fn sort_in(
        &mut self,
        node: NodeId,
        range: Range<usize>,
        bytes: &[u8],
        percents: &mut percent::Escapes<'_>,
    ) {
        let raw = &bytes[range.clone()];
        let Some(&first) = raw.first() else { return };
        let hint = Hint::of(first);
        if hint.may_be_base64()
            && base64::may_hold_text(raw)
            && let Some(candidate) = Candidate::of(raw)
        {
            self.base64.push((node, range, candidate));
        } else if hint.may_be_packed()
            && compressed::magic(raw).is_some()
            && !compressed::is_utf8(raw)
            && let Some(packing) = compressed::detect(raw)
        {
            self.packed.push((node, range, packing));
        } else if percents.stand_in(&range) {
            self.percent.push((node, range));
        }
    }

    fn first(&self) -> Option<NodeId> {
        let first = |list: &[(NodeId, Range<usize>)]| list.first().map(|(node, _)| *node);
        first(&self.values)
            .or_else(|| first(&self.keys))
            .or_else(|| self.base64.first().map(|(node, ..)| *node))
            .or_else(|| first(&self.percent))
            .or_else(|| self.packed.first().map(|(node, ..)| *node))
            .or_else(|| first(&self.reversed))
            .or_else(|| first(&self.tags))
    }
}

/// A text in the making, from values of another one.
#[derive(Default)]
struct Opened {
    bytes: Vec<u8>,
    copy: Copy,
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

    /// As [`Opened::end`], for a copy.
    fn end_copy(&mut self, start: usize, node: NodeId) {
        let map = SpanMap::Pieces(self.copy.own());
        self.end(start, node, map);
    }
}

/// How many compressed values are opened. Each costs a decoder, whatever it holds; real bodies have one or two.
const MOST_PACKED: u32 = 1_000;

/// Opens what strings hold: breadth first, text by text, so that the nodes of a text lie together.
///
/// The strings of one text give at most one text of each kind: plain copies of values with escapes, the same of keys,
/// what base64 holds, what was compressed, what percent escapes give. Those that look like JSON are walked where they
/// stand; the rest is looked into again.
pub(super) struct Opener {
    pub(super) builder: DocumentBuilder,
    pub(super) walker: Walker,
    pending: VecDeque<Pending>,
    most_containers: u32,
    bytes_left: usize,
    /// How many compressed values may still be opened.
    packed_left: u32,
    /// What the body is, and what a body that was compressed is inside.
    shape: Shape,
    /// Texts whose strings are not escaped as in JSON, in order.
    escapings: Vec<(TextId, Escaping)>,
}

/// Reads a JSON body with a shortcut, and everything that its strings hold; `reshape` may change the body's nodes
/// before strings are looked into, and says which of them are bytes, written in base64.
pub(super) fn decode_reshaped<S: Shortcut>(
    prefix: &'static str,
    body: Bytes,
    budget: &Budget,
    mut shortcut: S,
    reshape: impl FnOnce(S, &mut DocumentBuilder) -> Vec<(NodeId, Range<usize>)>,
) -> Document {
    let mut opener = Opener::new(prefix, body.clone(), Shape::Json, budget);
    let start = if body.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let (range, root) = (start..body.len(), (NodeId::ROOT, Name::Static("")));
    opener.walker.walk_with(&mut opener.builder, &body, range, root, &mut shortcut);
    let encoded = reshape(shortcut, &mut opener.builder);
    opener.open_bytes(&body, &encoded);
    opener.finish()
}

/// Opens what the strings of some texts hold, which were taken apart elsewhere and have no escapes. The texts count
/// as opened. `nodes_left` is what is left of the budget for nodes.
pub(super) fn open_texts(
    builder: DocumentBuilder,
    texts: &[TextId],
    nodes_left: usize,
    budget: &Budget,
) -> Document {
    let opened: usize = builder.document().texts().skip(1).map(|(_, bytes)| bytes.len()).sum();
    let opener = Opener {
        builder,
        walker: Walker::new(budget.depth as usize, nodes_left),
        pending: texts.iter().map(|&text| Pending { text, containers: 0, loose: Vec::new() }).collect(),
        most_containers: budget.containers,
        bytes_left: budget.opened_bytes.as_usize().saturating_sub(opened),
        packed_left: MOST_PACKED,
        shape: Shape::Any,
        escapings: texts.iter().map(|&text| (text, Escaping::None)).collect(),
    };
    opener.finish()
}

pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Opener {
    pub(super) fn new(prefix: &'static str, body: Bytes, shape: Shape, budget: &Budget) -> Self {
        Self {
            builder: DocumentBuilder::new(prefix, body),
            walker: Walker::new(budget.depth as usize, budget.nodes as usize),
            pending: VecDeque::from([Pending { text: TextId::BODY, containers: 0, loose: Vec::new() }]),
            most_containers: budget.containers,
            bytes_left: budget.opened_bytes.as_usize(),
            packed_left: MOST_PACKED,
            shape,
            escapings: Vec::new(),
        }
    }

    /// Adds a node to the current text, if the budget has one left; else notes that at its parent.
    #[inline]
    pub(super) fn push(
        &mut self,
        parent: NodeId,
        name: Name,
        kind: FieldKind,
        span: Range<usize>,
    ) -> Option<NodeId> {
        if self.walker.nodes_left() == 0 {
            if self.builder.document().fields().len() > 0 {
                self.builder.gap(parent, NotInspected::NestingBudget);
            }
            return None;
        }
        self.walker.spend(1);
        Some(self.builder.push(parent, name, kind, span))
    }

    /// Reads one value in JSON from the current text, as `name` of `parent`.
    pub(super) fn walk(&mut self, bytes: &[u8], range: Range<usize>, parent: NodeId, name: Name) -> Ending {
        self.walker.walk(&mut self.builder, bytes, range, parent, name)
    }

    /// Says how strings of the current text are escaped, when it is not as in JSON.
    pub(super) fn set_escaping(&mut self, escaping: Escaping) {
        self.escapings.push((self.builder.current_text(), escaping));
    }

    fn escaping(&self, text: TextId) -> Escaping {
        let place = self.escapings.binary_search_by_key(&text, |(other, _)| *other);
        place.map_or(Escaping::Json, |place| self.escapings[place].1)
    }

    pub(super) fn finish(mut self) -> Document {
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
            self.open_packed(&pending, &bytes, &strings.packed);
            self.open_reversed(&pending, &bytes, &strings.reversed);
            self.open_tags(&pending, &bytes, &strings.tags);
        }
        self.builder.finish()
    }

    fn collect(&self, pending: &Pending, bytes: &[u8]) -> Strings {
        let mut strings = Strings::default();
        let document = self.builder.document();
        let mut percents = percent::Escapes::of(bytes);
        for (node, range) in &pending.loose {
            if tags::is_tags(document.field(*node), &bytes[range.clone()]) {
                strings.tags.push((*node, range.clone()));
            } else {
                strings.sort_in(*node, range.clone(), bytes, &mut percents);
            }
        }
        let mut percents = percent::Escapes::of(bytes);
        for field in document.fields_in(pending.text) {
            if let Some((start, end)) = field.written_key() {
                strings.keys.push((field.id(), start..end));
            }
            match field.kind() {
                FieldKind::EscapedString => strings.values.push((field.id(), field.span())),
                FieldKind::Bytes | FieldKind::String if field.is_segment() => {
                    // A container's own: what it holds is in `loose`, or was walked.
                }
                FieldKind::Bytes => {
                    if let Some(packing) = compressed::detect(&bytes[field.span()]) {
                        strings.packed.push((field.id(), field.span(), packing));
                    }
                }
                FieldKind::String => {
                    let span = field.span();
                    let raw = &bytes[span.clone()];
                    let Some(&first) = raw.first() else { continue };
                    // JSON with a string in it has quotes, and behind escapes any of it is opened.
                    if Hint::of(first).may_be_json() && looks_like_json(raw) {
                        strings.values.push((field.id(), span));
                    } else if self.shape.may_be_reversed(field, raw) {
                        strings.reversed.push((field.id(), span));
                    } else if tags::is_tags(field, raw) {
                        strings.tags.push((field.id(), span));
                    } else {
                        strings.sort_in(field.id(), span, bytes, &mut percents);
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
        let unescape: Option<Unescape> = match self.escaping(pending.text) {
            Escaping::Form => Some(percent::unescape_form),
            Escaping::Json => Some(unescape),
            Escaping::None => None,
            Escaping::Percent => Some(percent::unescape),
        };
        for (node, range) in strings {
            let start = opened.begin();
            let (raw, room) = (&bytes[range.clone()], self.bytes_left);
            opened.copy.begin(&opened.bytes, room);
            let (out, copy) = (&mut opened.bytes, &mut opened.copy);
            let fits = if let Some(unescape) = unescape {
                unescape(raw, range.start, out, copy, room)
            } else {
                // From here on the copy stands for it.
                self.builder.set_kind(*node, FieldKind::EscapedString);
                copy.whole(out, raw, range.start, room)
            };
            self.bytes_left = self.bytes_left.saturating_sub(copy.size(out));
            opened.end_copy(start, *node);
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
            if candidate.decode(&bytes[range.clone()], &mut opened.bytes, self.packed_left > 0) {
                self.bytes_left -= (opened.bytes.len() - start).min(self.bytes_left);
                opened.end(start, *node, SpanMap::Base64 { start: range.start as u32 });
            } else {
                opened.give_up();
            }
        }
        self.open_named(pending, opened, "!base64");
    }

    /// Opens values of the body of which it is known that they are base64, whatever they hold.
    pub(super) fn open_known_base64(&mut self, bytes: &[u8], values: &[(NodeId, Range<usize>)]) {
        let opened = self.decode_known(bytes, values);
        let pending = Pending { text: TextId::BODY, containers: 0, loose: Vec::new() };
        self.open_named(&pending, opened, "!base64");
    }

    /// Opens values of the body that are bytes, which their format can only write in base64: under their own paths, as
    /// where a format can write bytes as they are.
    fn open_bytes(&mut self, bytes: &[u8], values: &[(NodeId, Range<usize>)]) {
        let opened = self.decode_known(bytes, values);
        let pending = Pending { text: TextId::BODY, containers: 0, loose: Vec::new() };
        let Some((text, opened)) = self.open_text(&pending, opened, true) else {
            return;
        };
        self.set_escaping(Escaping::None);
        for (range, owner) in opened.segments {
            let is_text = compressed::is_whole_text(&opened.bytes[range.clone()]);
            let kind = if is_text { FieldKind::String } else { FieldKind::Bytes };
            if self.push(owner, Name::Static(""), kind, range).is_none() {
                break;
            }
            // Not a value as well, but where its value stands.
            self.builder.set_kind(owner, FieldKind::Object);
        }
        self.pending.push_back(Pending { text, containers: 0, loose: Vec::new() });
    }

    fn decode_known(&mut self, bytes: &[u8], values: &[(NodeId, Range<usize>)]) -> Opened {
        let mut opened = Opened::default();
        for (node, range) in values {
            if range.len() > self.bytes_left {
                self.builder.gap(*node, NotInspected::NestingBudget);
                break;
            }
            let start = opened.begin();
            if base64::decode_known(&bytes[range.clone()], &mut opened.bytes) && opened.bytes.len() > start {
                self.bytes_left -= opened.bytes.len() - start;
                opened.end(start, *node, SpanMap::Base64 { start: range.start as u32 });
            } else {
                opened.give_up();
            }
        }
        opened
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
            opened.copy.begin(&opened.bytes, self.bytes_left);
            if percent::decode(&bytes[range.clone()], range.start, &mut opened.bytes, &mut opened.copy) {
                self.bytes_left -= opened.copy.size(&opened.bytes).min(self.bytes_left);
                opened.end_copy(start, *node);
            } else {
                opened.give_up();
            }
        }
        self.open_named(pending, opened, "!percent");
    }

    fn open_packed(&mut self, pending: &Pending, bytes: &[u8], packed: &[(NodeId, Range<usize>, Packing)]) {
        for packing in Packing::ALL {
            let mut opened = Opened::default();
            for (node, range, _) in packed.iter().filter(|(.., other)| *other == packing) {
                if self.packed_left == 0 {
                    self.builder.gap(*node, NotInspected::NestingBudget);
                    break;
                }
                self.packed_left -= 1;
                let start = opened.begin();
                let ended = packing.unpack(&bytes[range.clone()], &mut opened.bytes, self.bytes_left);
                self.bytes_left -= (opened.bytes.len() - start).min(self.bytes_left);
                match ended {
                    Ended::Broken => self.builder.gap(*node, NotInspected::FormatBroken),
                    Ended::Full => self.builder.gap(*node, NotInspected::DecodedTooLarge),
                    Ended::Whole => {}
                }
                if opened.bytes.len() == start {
                    opened.give_up();
                    continue;
                }
                opened.end(start, *node, SpanMap::Whole(range.start as u32..range.end as u32));
            }
            self.open_named(pending, opened, packing.segment());
        }
    }

    fn open_reversed(&mut self, pending: &Pending, bytes: &[u8], strings: &[(NodeId, Range<usize>)]) {
        let mut opened = Opened::default();
        for (node, range) in strings {
            if range.len() > self.bytes_left {
                self.builder.gap(*node, NotInspected::NestingBudget);
                break;
            }
            let backwards: Vec<u8> = bytes[range.clone()].iter().rev().copied().collect();
            let start = opened.begin();
            if Candidate::of(&backwards).is_some_and(|it| it.decode(&backwards, &mut opened.bytes, false)) {
                self.bytes_left -= opened.bytes.len() - start;
                opened.end(start, *node, SpanMap::ReversedBase64 { end: range.end as u32 });
            } else {
                opened.give_up();
            }
        }
        self.open_named(pending, opened, "!reversed-base64");
    }

    fn open_tags(&mut self, pending: &Pending, bytes: &[u8], strings: &[(NodeId, Range<usize>)]) {
        let mut opened = Opened::default();
        for (node, range) in strings {
            if range.len() > self.bytes_left {
                self.builder.gap(*node, NotInspected::NestingBudget);
                break;
            }
            self.bytes_left -= range.len();
            let start = opened.begin();
            opened.copy.begin(&opened.bytes, self.bytes_left);
            opened.copy.run(&mut opened.bytes, &bytes[range.clone()], range.start);
            opened.copy.end(&opened.bytes, range.end);
            opened.end_copy(start, *node);
        }
        let Some((text, opened)) = self.open_text(pending, opened, true) else {
            return;
        };
        for (range, owner) in opened.segments {
            tags::read(self, &opened.bytes, range, owner);
        }
        self.pending.push_back(Pending { text, containers: pending.containers + 1, loose: Vec::new() });
    }

    /// Opens a text in which every segment has a node of its own, and is JSON or looked into again.
    fn open_named(&mut self, pending: &Pending, opened: Opened, name: &'static str) {
        let Some((text, opened)) = self.open_text(pending, opened, true) else {
            return;
        };
        let mut loose = Vec::new();
        for (range, owner) in opened.segments {
            let is_text = match compressed::detect(&opened.bytes[range.clone()]) {
                Some(_) => false,
                None => compressed::is_utf8(&opened.bytes[range.clone()]),
            };
            let kind = if is_text { FieldKind::String } else { FieldKind::Bytes };
            let Some(node) = self.push(owner, Name::Static(name), kind, range.clone()) else {
                break;
            };
            if kind == FieldKind::Bytes
                && Packing::ALL.iter().any(|packing| packing.segment() == name)
                && compressed::detect(&opened.bytes[range.clone()]).is_none()
            {
                self.builder.gap(node, NotInspected::FormatUnsupported);
            }
            let is_read = owner == NodeId::ROOT
                && shape::read_inside(self, self.shape, &opened.bytes, range.clone(), node);
            if !is_read && !self.walk_json(&opened.bytes, range.clone(), node) {
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
        let text = self.builder.open_copies(
            pending.text,
            bytes.clone(),
            opened.segments,
            opened.copy.into_pieces(),
            replaces_parent,
        );
        Some((text, Walkable { bytes, segments }))
    }

    /// Adds what stands in `range` of the current text as `!json` of `owner`, if it is JSON.
    /// Lines of JSON are `!lines`.
    fn walk_json(&mut self, bytes: &[u8], range: Range<usize>, owner: NodeId) -> bool {
        if shape::is_lines(&bytes[range.clone()]) {
            shape::read_lines(self, bytes, range, owner, Name::Static("!lines"));
            return true;
        }
        self.walk_if_json(bytes, range, owner, Name::Static("!json"))
    }

    /// As [`Opener::walk`], but adds nothing and says `false` when it is no JSON.
    pub(super) fn walk_if_json(
        &mut self,
        bytes: &[u8],
        range: Range<usize>,
        owner: NodeId,
        name: Name,
    ) -> bool {
        if !looks_like_json(&bytes[range.clone()]) {
            return false;
        }
        let mark = self.builder.mark();
        let ending = self.walker.walk(&mut self.builder, bytes, range, owner, name);
        let is_json = self.is_json(ending, mark);
        if !is_json {
            self.walker.refund(self.builder.document().fields().len() - mark.nodes());
            self.builder.rollback(mark);
        }
        is_json
    }

    /// The node that was to be added next, unless the budget was over before it was.
    pub(super) fn added(&self, next: NodeId) -> Option<NodeId> {
        (next.index() < self.builder.document().fields().len()).then_some(next)
    }

    /// Whether what a walk made of a string is worth having: a string may begin with a bracket and be prose.
    ///
    /// An object proves itself by a member, and a list by an object with a member.
    fn is_json(&self, ending: Ending, mark: Mark) -> bool {
        let mut fields = self.builder.document().fields_since(mark);
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
