//! OTLP in JSON: gives the nodes of a JSON walk the places that they have in protobuf's.

use std::ops::Range;

use memchr::memmem;

use crate::{
    model::{Change, Document, DocumentBuilder, Field, FieldKind, Label, Name, NodeId, TextId},
    payload::{
        json::{Member, Quoted, Reading, Shortcut, read_literal, read_number},
        otlp::schema::PAIR_LISTS,
    },
};

/// Takes pairs for fields while JSON is walked, as far as they are written as exporters do:
/// `{"key":"model","value":{"stringValue":"claude"}}`.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// Whether anything was read as it is written that has another place.
    is_left: bool,
}

impl Pairs {
    /// Gives the other nodes their places, too, and says which hold bytes.
    pub(super) fn reshape(self, builder: &mut DocumentBuilder) -> Vec<(NodeId, Range<usize>)> {
        if self.is_left {
            reshape(builder);
        }
        bytes_values(builder.document())
    }
}

impl Shortcut for Pairs {
    const EXISTS: bool = true;

    fn enter(&mut self, around: Reading, key: &[u8], is_object: bool) -> Reading {
        let inner = match (around, key) {
            (Reading::Open, key) if !is_object && PAIR_LISTS.contains(&key) => Reading::Members,
            (Reading::Open, b"arrayValue" | b"kvlistValue") if is_object => Reading::AsWritten,
            (Reading::Open, _) => Reading::Open,
            (Reading::AsWritten | Reading::Members, _) => Reading::AsWritten,
        };
        self.is_left |= inner == Reading::AsWritten;
        inner
    }

    #[inline]
    fn member(&self, bytes: &[u8], at: usize) -> Option<Member> {
        let start = at + skip(bytes, at, b"{\"key\":\"")?;
        let key = Quoted::read(bytes, start);
        if !key.closed || key.end == start {
            return None;
        }
        let label = Label::key(start as u32, key.end as u32, key.escaped);
        let at = key.end + skip(bytes, key.end, b"\",\"value\":{\"")?;
        let (kind, span, end) = if let Some(length) = skip(bytes, at, b"stringValue\":\"") {
            read_string(bytes, at + length)?
        } else {
            let kind = Quoted::read(bytes, at);
            read_simple(bytes, kind.end + skip(bytes, kind.end, b"\":")?)?
        };
        Some(Member { label, kind, end: end + skip(bytes, end, b"}}")?, span })
    }
}

/// How long `word` is, if it stands at `at`.
#[inline(always)]
fn skip<const N: usize>(bytes: &[u8], at: usize, word: &[u8; N]) -> Option<usize> {
    (bytes.get(at..)?.first_chunk() == Some(word)).then_some(N)
}

/// A string from behind its opening quote: what it is, where it stands, and where it ends with its quote.
#[inline(always)]
fn read_string(bytes: &[u8], start: usize) -> Option<(FieldKind, Range<usize>, usize)> {
    let string = Quoted::read(bytes, start);
    let kind = if string.escaped { FieldKind::EscapedString } else { FieldKind::String };
    string.closed.then_some((kind, start..string.end, string.end + 1))
}

/// The strings that are bytes in base64: those called `bytesValue`. Looked for by that name, which hardly any body has.
fn bytes_values(document: &Document) -> Vec<(NodeId, Range<usize>)> {
    const NAME: &[u8] = b"\"bytesValue\"";
    let body = document.text(TextId::BODY);
    let mut found = Vec::new();
    for at in memmem::find_iter(body, NAME) {
        let rest = body[at + NAME.len()..].trim_ascii_start();
        let Some(rest) = rest.strip_prefix(b":").map(<[u8]>::trim_ascii_start) else { continue };
        let Some(rest) = rest.strip_prefix(b"\"") else { continue };
        let start = body.len() - rest.len();
        let field = document.field_at(TextId::BODY, start);
        if field.kind() == FieldKind::String && field.span().start == start && !field.span().is_empty() {
            found.push((field.id(), field.span()));
        }
    }
    found
}

/// A value without members.
#[inline]
fn read_simple(bytes: &[u8], at: usize) -> Option<(FieldKind, Range<usize>, usize)> {
    match *bytes.get(at)? {
        b'"' => read_string(bytes, at + 1),
        b'-' | b'0'..=b'9' => {
            let (end, is_whole) = read_number(bytes, at);
            is_whole.then_some((FieldKind::Number, at..end, end))
        }
        b't' | b'f' => {
            let (length, kind) = read_literal(&bytes[at..])?;
            Some((kind, at..at + length, at + length))
        }
        _ => None,
    }
}

/// What a node of the JSON is, which decides what becomes of its members.
#[derive(Clone, Copy, Debug)]
enum What {
    /// An object whose members are a value by its kind: they take the value's name.
    AnyValue(Name),
    /// An object with `values`.
    ArrayValue,
    /// A pair, by its key, and whether it has a value.
    KeyValue(Name, bool),
    /// An object with `values` that are pairs.
    KeyValueList,
    Other,
    /// A list of pairs.
    Pairs,
    /// A list of values.
    Values,
}

/// Makes maps of lists of pairs, and leaves out what only says of which kind a value is.
///
/// Goes by names alone: whatever a key is, a list of this name is a list of pairs wherever it stands, and what else a
/// sender adds is kept as it is written.
fn reshape(builder: &mut DocumentBuilder) {
    let mut known: Vec<What> = Vec::with_capacity(builder.document().fields().len());
    builder.reshape(|document, id| {
        let field = document.field(id);
        let parent = field.parent().and_then(|parent| known.get(parent.id().index())).copied();
        let (what, change) = classify(document, field, parent.unwrap_or(What::Other));
        known.push(what);
        change
    });
}

fn classify(document: &Document, field: Field<'_>, parent: What) -> (What, Change) {
    use FieldKind::{Array, Object};
    match (parent, field.kind()) {
        (What::AnyValue(name), kind) => match (key(document, field), kind) {
            (b"arrayValue", Object) => (What::ArrayValue, Change::Rename(name, Array)),
            (b"kvlistValue", Object) => (What::KeyValueList, Change::Rename(name, Object)),
            _ => (What::Other, Change::Rename(name, kind)),
        },
        (What::ArrayValue, Array) if key(document, field) == b"values" => (What::Values, Change::LeaveOut),
        (What::KeyValueList, Array) if key(document, field) == b"values" => (What::Pairs, Change::LeaveOut),
        (What::KeyValue(name, has_value), kind) => match key(document, field) {
            b"key" if has_value => (What::Other, Change::LeaveOut),
            b"key" => (What::Other, Change::Void(name)),
            b"value" => any_value(document, field, name),
            _ => other(document, field, kind),
        },
        (What::Pairs, Object) => match pair(document, field) {
            Some((name, has_value)) => (What::KeyValue(name, has_value), Change::LeaveOut),
            None => (What::Other, Change::Keep),
        },
        (What::Values, _) => any_value(document, field, field.name()),
        (_, kind) => other(document, field, kind),
    }
}

fn other(document: &Document, field: Field<'_>, kind: FieldKind) -> (What, Change) {
    match kind {
        FieldKind::Array if PAIR_LISTS.contains(&key(document, field)) => {
            (What::Pairs, Change::Rename(field.name(), FieldKind::Object))
        }
        // The walk has made a map of it already.
        FieldKind::Object if field.raw().first() == Some(&b'[') => (What::Pairs, Change::Keep),
        FieldKind::Object => match key(document, field) {
            b"arrayValue" => (What::ArrayValue, Change::Rename(field.name(), FieldKind::Array)),
            b"kvlistValue" => (What::KeyValueList, Change::Keep),
            _ => (What::Other, Change::Keep),
        },
        _ => (What::Other, Change::Keep),
    }
}

/// A value, which is to appear as `name`.
fn any_value(document: &Document, field: Field<'_>, name: Name) -> (What, Change) {
    match field.kind() {
        FieldKind::Object if members(document, field).next().is_none() => (What::Other, Change::Void(name)),
        FieldKind::Object => (What::AnyValue(name), Change::LeaveOut),
        FieldKind::Null => (What::Other, Change::Void(name)),
        kind => (What::Other, Change::Rename(name, kind)),
    }
}

/// The name that a pair gives its value, and whether it has one. Without a key, or with several, it is no pair.
fn pair(document: &Document, pair: Field<'_>) -> Option<(Name, bool)> {
    let (mut name, mut has_value) = (None, false);
    for member in members(document, pair) {
        match key(document, member) {
            b"key" => {
                // In protobuf an empty key is not written at all.
                if member.span().is_empty() {
                    continue;
                }
                let (start, end) = (member.span().start as u32, member.span().end as u32);
                let own = match member.kind() {
                    FieldKind::String => Name::Key { start, end },
                    FieldKind::EscapedString => Name::EscapedKey { start, end },
                    _ => return None,
                };
                if name.replace(own).is_some() {
                    return None;
                }
            }
            b"value" => has_value = true,
            _ => {}
        }
        // Nothing but the closing brace stands behind what has been seen, so there is no need to look for it.
        if name.is_some() && has_value && member.span().end + 1 == pair.span().end {
            break;
        }
    }
    name.map(|name| (name, has_value))
}

/// The members of an object that stands in the body.
fn members<'d>(document: &'d Document, object: Field<'d>) -> impl Iterator<Item = Field<'d>> {
    let (id, end) = (object.id(), object.span().end);
    document
        .fields_from(id)
        .skip(1)
        .take_while(move |field| field.span().start < end)
        .filter(move |field| field.parent().is_some_and(|parent| parent.id() == id))
}

/// What an object calls its member; nothing for the members of lists, and for keys with escapes.
fn key<'d>(document: &'d Document, field: Field<'d>) -> &'d [u8] {
    match field.name() {
        Name::Key { start, end } => &document.text(TextId::BODY)[start as usize..end as usize],
        _ => b"",
    }
}
