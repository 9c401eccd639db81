//! OTLP in protobuf: the wire walk, with names.

use std::ops::Range;

use crate::{
    model::{BinaryNumber, DocumentBuilder, FieldKind, Label, Name, NodeId, NotInspected},
    payload::{
        compressed::is_whole_text,
        otlp::schema::{ANY_VALUE, Field, KEY_VALUE, Kind, Message, Role},
        protobuf::{Broken, Form, VARINT_BYTES, WireField, read_varint},
    },
};

/// Reads messages into nodes, in one pass and without recursion; a walk allocates nothing but the nodes.
///
/// Several messages in one document count on: the lists of the second begin where those of the first ended, as if
/// both had been one message, which is what protobuf makes of messages that stand one behind the other.
#[derive(Debug)]
pub(super) struct WireWalker {
    open: Vec<Open>,
    /// Lists of the open messages, those of the innermost last.
    lists: Vec<List>,
    /// How many members the lists of earlier messages have.
    earlier: Vec<(u32, u32)>,
    /// How many messages may be open at once.
    depth: usize,
    /// How many nodes may still be added.
    nodes_left: usize,
}

/// Tags in a pair.
const KEY: u8 = 1 << 3 | 2;
const VALUE: u8 = 2 << 3 | 2;

/// Tags in a value: its kinds.
const STRING: u8 = 1 << 3 | 2;
const BOOL: u8 = 2 << 3;
const INT: u8 = 3 << 3;
const DOUBLE: u8 = 4 << 3 | 1;

/// A message whose end is still to come.
#[derive(Clone, Copy, Debug)]
struct Open {
    end: usize,
    /// Whose members its fields are.
    node: NodeId,
    what: What,
    /// Where its own lists begin.
    first_list: usize,
}

/// How the fields of a message appear.
#[derive(Clone, Copy, Debug)]
enum What {
    /// The fields of a value take the value's name: the wrapper is left out.
    AnyValue(Name),
    /// A list of values, and how many there were.
    ArrayValue(u32),
    /// A pair, which appears as its value, named by its key; and whether there was one.
    KeyValue(Name, bool),
    /// A list of pairs, and how many there were.
    KeyValueList(u32),
    Other(&'static Message),
}

/// A repeated field of an open message.
#[derive(Clone, Copy, Debug)]
struct List {
    number: u32,
    node: NodeId,
    members: u32,
}

/// The budget for nodes ran out.
struct OverBudget;

impl WireWalker {
    pub(super) fn new(depth: usize, nodes: usize) -> Self {
        Self { open: Vec::new(), lists: Vec::new(), earlier: Vec::new(), depth, nodes_left: nodes }
    }

    pub(super) fn nodes_left(&self) -> usize {
        self.nodes_left
    }

    /// Counts nodes that were added outside of a walk.
    pub(super) fn spend(&mut self, nodes: usize) {
        self.nodes_left = self.nodes_left.saturating_sub(nodes);
    }

    /// Reads one message from `range` of `text`, which must be the builder's current text, as the members of `node`.
    /// Blanks in `view`, a copy of the text, what is no value: tags, lengths and numbers.
    ///
    /// What cannot be read is noted as a gap: at the innermost node that holds it, or at `node` when that is
    /// `outside` this text, because a gap in an opened text counts for less.
    pub(super) fn walk(
        &mut self,
        builder: &mut DocumentBuilder,
        (text, view): (&[u8], &mut [u8]),
        range: Range<usize>,
        message: &'static Message,
        node: NodeId,
        outside: bool,
    ) {
        self.open.clear();
        self.lists.clear();
        self.open.push(Open { end: range.end, node, what: What::Other(message), first_list: 0 });
        let mut walk = Walk {
            walker: self,
            builder,
            bytes: text,
            view,
            at: range.start,
            gaps_at: outside.then_some(node),
        };
        if walk.run().is_err() {
            let at = walk.walker.open.last().map_or(node, |open| open.node);
            walk.gap(at, NotInspected::NestingBudget);
        }
        for list in &self.lists {
            match self.earlier.iter_mut().find(|(number, _)| *number == list.number) {
                Some((_, members)) => *members = list.members,
                None => self.earlier.push((list.number, list.members)),
            }
        }
    }
}

struct Walk<'w> {
    walker: &'w mut WireWalker,
    builder: &'w mut DocumentBuilder,
    bytes: &'w [u8],
    /// What a scanner reads in place of `bytes`.
    view: &'w mut [u8],
    at: usize,
    /// Where gaps are noted, if not where they are.
    gaps_at: Option<NodeId>,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), OverBudget> {
        while let Some(&open) = self.walker.open.last() {
            if self.at >= open.end {
                self.close(open)?;
                continue;
            }
            let start = self.at;
            let Ok(field) = WireField::read(self.bytes, start, open.end) else {
                // What the message claimed to be long is skipped; what stands behind it can still be read.
                self.gap(open.node, NotInspected::FormatBroken);
                self.at = open.end;
                continue;
            };
            self.at = field.end;
            self.blank(start, &field);
            if field.is_cut {
                self.gap(open.node, NotInspected::FormatBroken);
            }
            self.field(open, start, field)?;
        }
        Ok(())
    }

    /// A field's tag and length may read as a part of the text beside them, and so may a number.
    fn blank(&mut self, start: usize, field: &WireField) {
        let value = match field.form {
            Form::Group | Form::Length => &field.value,
            Form::Fixed32 | Form::Fixed64 | Form::Varint => &(field.end..field.end),
        };
        zero(self.view, start..value.start);
        zero(self.view, value.end..field.end);
    }

    fn close(&mut self, open: Open) -> Result<(), OverBudget> {
        if let What::KeyValue(key, false) = open.what {
            self.push(open.node, key, FieldKind::Null, open.end..open.end)?;
        }
        // The outermost message's lists are needed to count on.
        if self.walker.open.len() > 1 {
            self.walker.lists.truncate(open.first_list);
        }
        self.walker.open.pop();
        Ok(())
    }

    fn field(&mut self, open: Open, start: usize, field: WireField) -> Result<(), OverBudget> {
        match open.what {
            What::AnyValue(name) => {
                let known = ANY_VALUE.field(field.number);
                self.value(open.node, name, known, Role::AnyValue, field)
            }
            What::ArrayValue(members) if (field.number, field.form) == (1, Form::Length) => {
                self.count(What::ArrayValue(members + 1));
                self.any_value(open.node, Name::Index(members), field.value)
            }
            What::KeyValue(key, _) if (field.number, field.form) == (2, Form::Length) => {
                self.count(What::KeyValue(key, true));
                self.any_value(open.node, key, field.value)
            }
            What::KeyValue(..) if (field.number, field.form) == (1, Form::Length) => Ok(()),
            What::KeyValueList(members) if (field.number, field.form) == (1, Form::Length) => {
                self.count(What::KeyValueList(members + 1));
                self.key_value(open.node, members, field.value)
            }
            What::KeyValue(..) => self.named(open.node, KEY_VALUE, start, field),
            What::ArrayValue(_) | What::KeyValueList(_) => {
                self.unknown(open.node, Name::FieldNumber(field.number), field)
            }
            What::Other(message) => self.named(open.node, message, start, field),
        }
    }

    /// Notes in the open message how far it has come.
    fn count(&mut self, what: What) {
        if let Some(open) = self.walker.open.last_mut() {
            open.what = what;
        }
    }

    /// Adds a field under the name that its message gives it.
    fn named(
        &mut self,
        parent: NodeId,
        message: &'static Message,
        start: usize,
        field: WireField,
    ) -> Result<(), OverBudget> {
        let known = message.field(field.number).filter(|known| fits(known, field.form));
        let Some(known) = known else {
            return self.unknown(parent, Name::FieldNumber(field.number), field);
        };
        if !known.is_repeated {
            return self.value(parent, Name::Static(known.name), Some(known), message.role, field);
        }
        let is_map = matches!(known.kind, Kind::Message(message) if message.role == Role::KeyValue);
        let kind = if is_map { FieldKind::Object } else { FieldKind::Array };
        let list = self.list(parent, field.number, known.name, kind, start)?;
        if is_map {
            return self.pairs(list, start, field);
        }
        self.builder.close(self.walker.lists[list].node, field.end);
        if let (Kind::Number(number), Form::Length) = (known.kind, field.form) {
            return self.packed(list, number, field.value);
        }
        let List { node, members, .. } = self.walker.lists[list];
        self.walker.lists[list].members += 1;
        self.value(node, Name::Index(members), Some(known), message.role, field)
    }

    /// Adds a pair to a list, and those that stand right behind it, as long as they are written as everyone does.
    fn pairs(&mut self, list: usize, start: usize, field: WireField) -> Result<(), OverBudget> {
        let end = self.walker.open.last().map_or(0, |open| open.end);
        let List { node, mut members, .. } = self.walker.lists[list];
        let tag = u8::try_from(field.number << 3 | 2).ok().filter(|tag| *tag < 0x80);
        if let Some(tag) = tag {
            let short = self.short_pairs(node, tag, start..end)?;
            if short > 0 {
                self.walker.lists[list].members = members + short;
                self.builder.close(node, self.at);
                return Ok(());
            }
        }
        let mut pair = field.value;
        let is_plain = loop {
            members += 1;
            if !self.plain_pair(node, &pair)? {
                break false;
            }
            let Some(&[next, length @ ..0x80, ref rest @ ..]) = self.bytes.get(self.at..end) else {
                break true;
            };
            if Some(next) != tag || usize::from(length) > rest.len() {
                break true;
            }
            zero(self.view, self.at..self.at + 2);
            pair = self.at + 2..self.at + 2 + usize::from(length);
            self.at = pair.end;
        };
        self.walker.lists[list].members = members;
        self.builder.close(node, self.at);
        if is_plain { Ok(()) } else { self.key_value(node, members - 1, pair) }
    }

    /// Adds pairs of a key and a text or a whole number, with their own tags, as long as each has less than 128 bytes:
    /// nearly all are like that, and need no more than two looks. Says how many there were.
    fn short_pairs(&mut self, parent: NodeId, tag: u8, range: Range<usize>) -> Result<u32, OverBudget> {
        let Some(bytes) = self.bytes.get(..range.end) else { return Ok(0) };
        if self.walker.open.len() + 1 >= self.walker.depth {
            return Ok(0);
        }
        let (mut at, mut count) = (range.start, 0);
        while let Some(&[own, length @ ..0x80, KEY, key @ 1..0x80]) = some(bytes, at)
            && own == tag
        {
            let middle = at + 4 + usize::from(key);
            let end = at + 2 + usize::from(length);
            let Some(&[VALUE, outer, form, inner]) = some(bytes, middle) else { break };
            if middle + 2 + usize::from(outer) != end || end > bytes.len() {
                break;
            }
            let (kind, value) = if form == STRING && usize::from(outer) == usize::from(inner) + 2 {
                zero_some::<4>(self.view, middle);
                (FieldKind::String, middle + 4)
            } else if matches!(form, BOOL | INT) && bytes.get(middle + 3..end).is_some_and(is_varint) {
                // An empty value ends before its form would stand: what was read as one is somebody else's byte.
                zero(self.view, middle..end);
                let number = if form == INT { BinaryNumber::VarintSigned } else { BinaryNumber::Bool };
                (FieldKind::Binary(number), middle + 3)
            } else {
                break;
            };
            zero_some::<4>(self.view, at);
            self.push_key(parent, at + 4..middle, kind, value..end)?;
            count += 1;
            at = end;
        }
        if count > 0 {
            self.at = at;
        }
        Ok(count)
    }

    /// Adds a pair that is a key and a simple value and nothing else, in this order; says whether it was one.
    #[inline]
    fn plain_pair(&mut self, parent: NodeId, pair: &Range<usize>) -> Result<bool, OverBudget> {
        let Some(&[KEY, key_length @ 1..0x80, ..]) = self.bytes.get(pair.clone()) else {
            return Ok(false);
        };
        let (start, end) = (pair.start + 2, pair.start + 2 + usize::from(key_length));
        if end >= pair.end || self.bytes[end] != VALUE || self.walker.open.len() + 1 >= self.walker.depth {
            return Ok(false);
        }
        let Some(inner) = read_rest(self.bytes, end + 1, pair.end) else {
            return Ok(false);
        };
        let after = |kind: FieldKind| {
            let (_, after) = read_varint(self.bytes, inner + 1, pair.end).ok()?;
            (after == pair.end).then_some((kind, inner + 1))
        };
        let value = match self.bytes.get(inner) {
            Some(&STRING) if inner < pair.end => {
                read_rest(self.bytes, inner + 1, pair.end).map(|start| (FieldKind::String, start))
            }
            Some(&BOOL) => after(FieldKind::Binary(BinaryNumber::Bool)),
            Some(&INT) => after(FieldKind::Binary(BinaryNumber::VarintSigned)),
            Some(&DOUBLE) if inner + 9 == pair.end => {
                Some((FieldKind::Binary(BinaryNumber::Double), inner + 1))
            }
            _ => None,
        };
        let Some((kind, value)) = value else {
            return Ok(false);
        };
        zero(self.view, pair.start..start);
        zero(self.view, end..if kind == FieldKind::String { value } else { pair.end });
        self.push_key(parent, start..end, kind, value..pair.end)?;
        Ok(true)
    }

    /// Adds one value. `of` is what its message is.
    fn value(
        &mut self,
        parent: NodeId,
        name: Name,
        known: Option<&'static Field>,
        of: Role,
        field: WireField,
    ) -> Result<(), OverBudget> {
        let Some(known) = known.filter(|known| fits(known, field.form)) else {
            return self.unknown(parent, name, field);
        };
        let kind = match known.kind {
            // Bytes that someone chose to send may be text; ids never are, though they may look so.
            Kind::Bytes if of == Role::AnyValue && is_whole_text(&self.bytes[field.value.clone()]) => {
                FieldKind::String
            }
            Kind::Bytes => FieldKind::Bytes,
            Kind::Message(message) => {
                let (kind, what) = match message.role {
                    Role::ArrayValue => (FieldKind::Array, What::ArrayValue(0)),
                    Role::KeyValueList => (FieldKind::Object, What::KeyValueList(0)),
                    _ => (FieldKind::Object, What::Other(message)),
                };
                let node = self.push(parent, name, kind, field.value.clone())?;
                self.enter(node, what, field.value, Some(node));
                return Ok(());
            }
            // A number that is not packed has its form; a packed one that is not repeated is unknown.
            Kind::Number(_) if field.form == Form::Length => return self.unknown(parent, name, field),
            Kind::Number(number) => FieldKind::Binary(number),
            Kind::String => FieldKind::String,
        };
        self.push(parent, name, kind, field.value)?;
        Ok(())
    }

    /// Adds a value whose wrapper is left out.
    fn any_value(&mut self, parent: NodeId, name: Name, range: Range<usize>) -> Result<(), OverBudget> {
        if range.is_empty() {
            self.push(parent, name, FieldKind::Null, range)?;
        } else if self.is_too_deep() {
            let node = self.push(parent, name, FieldKind::Object, range.clone())?;
            self.enter(node, What::AnyValue(name), range, Some(node));
        } else {
            self.enter(parent, What::AnyValue(name), range, None);
        }
        Ok(())
    }

    /// Adds a pair of a list. One without a key (or with several) is no pair, and appears as it is written.
    fn key_value(&mut self, parent: NodeId, index: u32, range: Range<usize>) -> Result<(), OverBudget> {
        match self.key_of(range.clone()) {
            Some(key) if !self.is_too_deep() => {
                self.enter(parent, What::KeyValue(key, false), range, None);
            }
            key => {
                let name = key.unwrap_or(Name::Index(index));
                let node = self.push(parent, name, FieldKind::Object, range.clone())?;
                self.enter(node, What::Other(KEY_VALUE), range, Some(node));
            }
        }
        Ok(())
    }

    fn key_of(&self, range: Range<usize>) -> Option<Name> {
        let (mut at, mut key) = (range.start, None);
        while at < range.end {
            let Ok(field) = WireField::read(self.bytes, at, range.end) else {
                break;
            };
            if (field.number, field.form) == (1, Form::Length) && !field.value.is_empty() {
                if key.is_some() {
                    return None;
                }
                key = Some(Name::Key { start: field.value.start as u32, end: field.value.end as u32 });
            }
            at = field.end;
        }
        key
    }

    /// Adds packed numbers, which stand one behind the other.
    fn packed(&mut self, list: usize, number: BinaryNumber, range: Range<usize>) -> Result<(), OverBudget> {
        self.view[range.clone()].fill(0);
        let mut at = range.start;
        while at < range.end {
            let List { node, members, .. } = self.walker.lists[list];
            let end = match form_of(number) {
                Form::Fixed32 => at + 4,
                Form::Fixed64 => at + 8,
                _ => read_varint(self.bytes, at, range.end).map_or(usize::MAX, |(_, end)| end),
            };
            if end > range.end {
                self.gap(node, NotInspected::FormatBroken);
                break;
            }
            self.push(node, Name::Index(members), FieldKind::Binary(number), at..end)?;
            self.walker.lists[list].members += 1;
            at = end;
        }
        Ok(())
    }

    /// Adds a field that the schema does not have, or not in this form.
    fn unknown(&mut self, parent: NodeId, name: Name, field: WireField) -> Result<(), OverBudget> {
        let kind = match field.form {
            Form::Fixed32 => FieldKind::Binary(BinaryNumber::Fixed32),
            Form::Fixed64 => FieldKind::Binary(BinaryNumber::Fixed64),
            Form::Varint => FieldKind::Binary(BinaryNumber::Varint),
            Form::Length if is_whole_text(&self.bytes[field.value.clone()]) => FieldKind::String,
            Form::Group | Form::Length => FieldKind::Bytes,
        };
        let node = self.push(parent, name, kind, field.value)?;
        if field.form == Form::Group {
            self.gap(node, NotInspected::FormatUnsupported);
        }
        Ok(())
    }

    /// The open message's list for a field: its place in `lists`.
    fn list(
        &mut self,
        parent: NodeId,
        number: u32,
        name: &'static str,
        kind: FieldKind,
        start: usize,
    ) -> Result<usize, OverBudget> {
        let first = self.walker.open.last().map_or(0, |open| open.first_list);
        let found = self.walker.lists[first..].iter().rposition(|list| list.number == number);
        if let Some(found) = found {
            return Ok(first + found);
        }
        let node = self.push(parent, Name::Static(name), kind, start..start)?;
        let earlier = self.walker.earlier.iter().find(|(other, _)| *other == number);
        let is_outermost = self.walker.open.len() == 1;
        let members = earlier.filter(|_| is_outermost).map_or(0, |(_, members)| *members);
        self.walker.lists.push(List { number, node, members });
        Ok(self.walker.lists.len() - 1)
    }

    fn is_too_deep(&self) -> bool {
        self.walker.open.len() >= self.walker.depth
    }

    /// Opens a message, if there is room for one more; else notes a gap at `own`, the node that it has to itself.
    fn enter(&mut self, node: NodeId, what: What, range: Range<usize>, own: Option<NodeId>) {
        if self.is_too_deep() {
            self.gap(own.unwrap_or(node), NotInspected::NestingBudget);
            return;
        }
        self.at = range.start;
        let first_list = self.walker.lists.len();
        self.walker.open.push(Open { end: range.end, node, what, first_list });
    }

    #[inline]
    fn push(
        &mut self,
        parent: NodeId,
        name: Name,
        kind: FieldKind,
        span: Range<usize>,
    ) -> Result<NodeId, OverBudget> {
        self.walker.nodes_left = self.walker.nodes_left.checked_sub(1).ok_or(OverBudget)?;
        Ok(self.builder.push(parent, name, kind, span))
    }

    /// As [`Walk::push`], under a name that stands in the text.
    #[inline(always)]
    fn push_key(
        &mut self,
        parent: NodeId,
        key: Range<usize>,
        kind: FieldKind,
        span: Range<usize>,
    ) -> Result<(), OverBudget> {
        self.walker.nodes_left = self.walker.nodes_left.checked_sub(1).ok_or(OverBudget)?;
        let label = Label::key(key.start as u32, key.end as u32, false);
        self.builder.push_labelled(parent, label, kind, span);
        Ok(())
    }

    /// Notes a gap; one is enough for a node.
    fn gap(&mut self, at: NodeId, why: NotInspected) {
        let gap = (self.gaps_at.unwrap_or(at), why);
        if self.builder.document().gaps().last() != Some(&gap) {
            self.builder.gap(gap.0, why);
        }
    }
}

/// Where what a length announces begins, if it reaches to `end` and no less.
#[inline]
fn read_rest(bytes: &[u8], at: usize, end: usize) -> Option<usize> {
    let (length, start) = read_varint(bytes, at, end).ok()?;
    (length == (end - start) as u64).then_some(start)
}

/// The bytes that stand at a place.
#[inline(always)]
fn some<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

/// Whether `bytes` are a varint, and nothing behind it.
#[inline]
fn is_varint(bytes: &[u8]) -> bool {
    let Some((last, before)) = bytes.split_last() else {
        return false;
    };
    *last < 0x80 && before.len() < VARINT_BYTES && before.iter().all(|byte| *byte >= 0x80)
}

/// Blanks so many bytes.
#[inline(always)]
fn zero_some<const N: usize>(view: &mut [u8], at: usize) {
    if let Some(frame) = view.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<N>) {
        *frame = [0; N];
    }
}

/// Blanks a range. Those that frame values are of two to eleven bytes, and not worth a call.
#[inline(always)]
fn zero(view: &mut [u8], range: Range<usize>) {
    let Some(frame) = view.get_mut(range) else {
        return;
    };
    match frame.len() {
        0 => {}
        2 => frame.copy_from_slice(&[0; 2]),
        4..=8 => {
            let length = frame.len();
            frame[..4].copy_from_slice(&[0; 4]);
            frame[length - 4..].copy_from_slice(&[0; 4]);
        }
        9..=16 => {
            let length = frame.len();
            frame[..8].copy_from_slice(&[0; 8]);
            frame[length - 8..].copy_from_slice(&[0; 8]);
        }
        _ => frame.fill(0),
    }
}

/// Whether a field of this type may have this form.
fn fits(known: &Field, form: Form) -> bool {
    match known.kind {
        Kind::Bytes | Kind::Message(_) | Kind::String => form == Form::Length,
        Kind::Number(number) => form == form_of(number) || (known.is_repeated && form == Form::Length),
    }
}

fn form_of(number: BinaryNumber) -> Form {
    match number {
        BinaryNumber::Double | BinaryNumber::Fixed64 | BinaryNumber::Sfixed64 => Form::Fixed64,
        BinaryNumber::Fixed32 | BinaryNumber::Float | BinaryNumber::Sfixed32 => Form::Fixed32,
        BinaryNumber::Bool | BinaryNumber::Sint | BinaryNumber::Varint | BinaryNumber::VarintSigned => {
            Form::Varint
        }
    }
}

/// Which signal a request is for, by the form of its first record; `None` when there is none, or it looks like none.
pub(super) fn signal(bytes: &[u8]) -> Option<super::Signal> {
    // A request holds resources, those hold scopes, and those hold records.
    let mut range = 0..bytes.len();
    for number in [1, 2, 2] {
        range = first(bytes, range, number)?.filter(|field| field.form == Form::Length)?.value;
    }
    let field = |number| first(bytes, range.clone(), number);
    let form = |number| field(number).flatten().map(|field| (field.form, field.value.len()));
    const TRACE_ID: (Form, usize) = (Form::Length, 16);
    const SPAN_ID: (Form, usize) = (Form::Length, 8);
    match (form(1), form(2)) {
        (Some((Form::Fixed64, _)), _) => Some(super::Signal::Logs),
        (None, _) if matches!(form(11), Some((Form::Fixed64, _))) => Some(super::Signal::Logs),
        (Some(TRACE_ID), Some(SPAN_ID)) if form(5).is_some() => Some(super::Signal::Traces),
        (Some((Form::Length, _)), None | Some((Form::Length, _))) => {
            // The data of a metric is one of five messages.
            let has_data =
                [5, 7, 9, 10, 11].iter().any(|data| matches!(form(*data), Some((Form::Length, _))));
            has_data.then_some(super::Signal::Metrics)
        }
        _ => None,
    }
}

/// The first field with this number; the outer `None` says that what stands before it is no message.
fn first(bytes: &[u8], range: Range<usize>, number: u32) -> Option<Option<WireField>> {
    let mut at = range.start;
    while at < range.end {
        let field = WireField::read(bytes, at, range.end).map_err(|Broken| ()).ok()?;
        if field.number == number {
            return Some(Some(field));
        }
        at = field.end;
    }
    Some(None)
}
