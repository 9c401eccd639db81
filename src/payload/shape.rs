use std::ops::Range;

use bytes::Bytes;

use crate::{
    model::{Document, Field, FieldKind, Name, NodeId, NotInspected},
    payload::{
        Budget, compressed,
        container::{BYTE_ORDER_MARK, Opener},
        form,
        json::looks_like_json,
        multipart, sentry,
    },
};

/// How the bytes of a body are laid out, whatever the format is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// As the bytes say: JSON, lines of JSON, text, or none of these.
    Any,
    /// Sentry's: JSON headers and payloads in lines.
    Envelope,
    /// Pairs with percent escapes.
    Form,
    /// JSON, or broken.
    Json,
    /// Parts between boundaries.
    Multipart,
    /// As [`Shape::Any`], and perhaps base64 that runs backwards.
    Statsig,
}

impl Shape {
    /// Whether a text may be base64 of JSON from its end: then it ends as base64 of `{"` begins.
    pub(super) fn may_be_reversed(self, field: Field<'_>, raw: &[u8]) -> bool {
        self == Self::Statsig && field.id() == NodeId::ROOT && raw.ends_with(b"Jye")
    }
}

/// Reads a body and everything that it holds.
pub(super) fn decode(prefix: &'static str, shape: Shape, body: Bytes, budget: &Budget) -> Document {
    let mut opener = Opener::new(prefix, body.clone(), shape, budget);
    let start = if body.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let range = start..body.len();
    if compressed::detect(&body[range.clone()]).is_some() {
        opener.push(NodeId::ROOT, Name::Static(""), FieldKind::Bytes, range);
    } else if !read_structure(&mut opener, shape, &body, range.clone(), NodeId::ROOT) {
        if shape == Shape::Json || looks_like_json(&body[range.clone()]) {
            opener.walk(&body, range, NodeId::ROOT, Name::Static(""));
        } else {
            read_leaf(&mut opener, &body, range, NodeId::ROOT, Name::Static(""));
        }
    }
    opener.finish()
}

/// Reads what a body that was compressed holds, unless it is JSON or nothing that has a structure; then `false`.
pub(super) fn read_inside(
    opener: &mut Opener,
    shape: Shape,
    bytes: &[u8],
    range: Range<usize>,
    node: NodeId,
) -> bool {
    read_structure(opener, shape, bytes, range, node)
}

/// Adds a value as what it is: JSON as its members, text as a leaf, other bytes as a leaf that was not read.
pub(super) fn read_value(
    opener: &mut Opener,
    bytes: &[u8],
    range: Range<usize>,
    parent: NodeId,
    name: Name,
) -> Option<NodeId> {
    let next = NodeId::after(opener.builder.document());
    if opener.walk_if_json(bytes, range.clone(), parent, name) {
        return opener.added(next);
    }
    read_leaf(opener, bytes, range, parent, name)
}

fn read_structure(
    opener: &mut Opener,
    shape: Shape,
    bytes: &[u8],
    range: Range<usize>,
    parent: NodeId,
) -> bool {
    match shape {
        Shape::Any | Shape::Json | Shape::Statsig if is_lines(&bytes[range.clone()]) => {
            if let Some(root) = opener.push(parent, Name::Static(""), FieldKind::Object, range.clone()) {
                read_lines(opener, bytes, range, root, Name::Static("lines"));
            }
        }
        Shape::Any if multipart::begins(&bytes[range.clone()]) => {
            return multipart::read(opener, bytes, range, parent);
        }
        Shape::Any | Shape::Json | Shape::Statsig => return false,
        Shape::Envelope if looks_like_json(&bytes[range.clone()]) => {
            sentry::read(opener, bytes, range, parent);
        }
        Shape::Envelope => return false,
        Shape::Form => form::read(opener, bytes, range, parent),
        Shape::Multipart => return multipart::read(opener, bytes, range, parent),
    }
    true
}

fn read_leaf(
    opener: &mut Opener,
    bytes: &[u8],
    range: Range<usize>,
    parent: NodeId,
    name: Name,
) -> Option<NodeId> {
    let raw = &bytes[range.clone()];
    let is_text = compressed::is_text(raw);
    let kind = if is_text { FieldKind::String } else { FieldKind::Bytes };
    let node = opener.push(parent, name, kind, range)?;
    if !is_text && compressed::detect(raw).is_none() {
        opener.builder.gap(node, NotInspected::FormatUnsupported);
    }
    Some(node)
}

/// Whether there is a document of JSON on the first line, and another one begins on the next that is not blank.
pub(super) fn is_lines(bytes: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return false;
    };
    let first = bytes[..end].trim_ascii();
    matches!((first.first(), first.last()), (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')))
        && looks_like_json(first)
        && matches!(bytes[end..].trim_ascii_start().first(), Some(b'{' | b'['))
}

/// Adds each line that is not blank as a member of `name`.
pub(super) fn read_lines(opener: &mut Opener, bytes: &[u8], range: Range<usize>, parent: NodeId, name: Name) {
    let Some(lines) = opener.push(parent, name, FieldKind::Array, range.clone()) else {
        return;
    };
    let mut index = 0;
    let mut start = range.start;
    while start < range.end {
        let end = line_end(bytes, start..range.end);
        let line = &bytes[start..end];
        let (from, to) = (end - line.trim_ascii_start().len(), start + line.trim_ascii_end().len());
        start = end + 1;
        if from >= to {
            continue;
        }
        if read_value(opener, bytes, from..to, lines, Name::Index(index)).is_none() {
            return;
        }
        index += 1;
    }
}

/// Where the line that begins `range` ends: at its line feed, or with the range.
pub(super) fn line_end(bytes: &[u8], range: Range<usize>) -> usize {
    memchr::memchr(b'\n', &bytes[range.clone()]).map_or(range.end, |at| range.start + at)
}
