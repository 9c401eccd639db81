//! Protobuf and gRPC: a value's new length is told in every message around it.

use std::ops::Range;

use crate::{
    model::{Document, FieldKind, Name, NodeId, TextId},
    payload::{
        protobuf::{Form, WireField, read_varint},
        splice::{
            SpliceError,
            patch::{self, Patch},
        },
    },
};

/// The five bytes before a message in a stream: a flag, and its length.
const FRAME_HEAD: usize = 5;

/// Deepest nesting that is gone into. Documents hold no place below their budget, which is 128 nodes, each at most three
/// messages deep.
const DEEPEST: u32 = 512;

/// Whether the body is a stream of messages rather than one.
pub(super) fn is_stream(document: &Document) -> bool {
    messages(document).next().is_some()
}

/// The messages of a stream, in order.
fn messages(document: &Document) -> impl Iterator<Item = (NodeId, Range<usize>)> + '_ {
    document.fields_in(TextId::BODY).skip(1).filter_map(|field| {
        let is_message = field.name() == Name::Static("")
            && field.kind() == FieldKind::Object
            && field.parent().is_some_and(|parent| parent.id() == NodeId::ROOT);
        is_message.then(|| (field.id(), field.span()))
    })
}

/// Rewrites the messages of a stream that change, and their lengths.
pub(super) fn stream(document: &Document, patches: &[Patch]) -> Result<Vec<u8>, SpliceError> {
    let body = document.text(TextId::BODY);
    let mut edited = Vec::with_capacity(body.len());
    let mut at = 0;
    let mut rest = patches;
    for (_, span) in messages(document) {
        let count = rest.partition_point(|patch| patch.range.start < span.end);
        let (own, others) = rest.split_at(count);
        rest = others;
        if own.is_empty() {
            continue;
        }
        let head = span.start.checked_sub(FRAME_HEAD).filter(|head| *head >= at).ok_or(SpliceError::Place)?;
        let message = match own {
            // What was compressed comes back as a whole.
            [whole] if whole.value == span => patch::apply(body, span.clone(), own),
            _ => message(body, span.clone(), own)?,
        };
        let length = u32::try_from(message.len()).map_err(|_| SpliceError::TooLarge)?;
        edited.extend_from_slice(&body[at..=head]);
        edited.extend_from_slice(&length.to_be_bytes());
        edited.extend_from_slice(&message);
        at = span.end;
    }
    if !rest.is_empty() {
        return Err(SpliceError::Place);
    }
    edited.extend_from_slice(&body[at..]);
    Ok(edited)
}

/// Rewrites the message that stands in `range`.
pub(super) fn message(bytes: &[u8], range: Range<usize>, patches: &[Patch]) -> Result<Vec<u8>, SpliceError> {
    // What keeps its length moves nothing; packed numbers are no messages, and must not be read as if they were.
    let (moving, staying): (Vec<_>, Vec<_>) =
        patches.iter().cloned().partition(|patch| patch.removes || patch.growth() != 0);
    let mut bytes = bytes[..range.end].to_vec();
    for patch in &staying {
        bytes.get_mut(patch.range.clone()).ok_or(SpliceError::Place)?.copy_from_slice(&patch.with);
    }
    rewrite(&bytes, range, &moving, DEEPEST)
}

fn rewrite(
    bytes: &[u8],
    range: Range<usize>,
    patches: &[Patch],
    deepest: u32,
) -> Result<Vec<u8>, SpliceError> {
    let mut edited = Vec::with_capacity(range.len());
    let (mut at, mut rest) = (range.start, patches);
    let mut copied = range.start;
    if deepest == 0 {
        return Err(SpliceError::Place);
    }
    while let Some(next) = rest.first() {
        if at >= range.end {
            return Err(SpliceError::Place);
        }
        let field = WireField::read(bytes, at, range.end).map_err(|_| SpliceError::Place)?;
        let start = at;
        at = field.end;
        if next.value.start >= field.value.end && !(next.value.is_empty() && next.value == field.value) {
            continue;
        }
        if next.value.start < field.value.start || next.value.end > field.value.end {
            return Err(SpliceError::Place);
        }
        let count = rest.partition_point(|patch| {
            patch.value.end <= field.value.end
                && (patch.value.start < field.value.end || patch.value == field.value)
        });
        let (own, others) = rest.split_at(count);
        rest = others;
        edited.extend_from_slice(&bytes[copied..start]);
        copied = field.end;
        if own.iter().any(|patch| patch.removes && is_unit(bytes, &field, &patch.value)) {
            continue;
        }
        let value = match field.form {
            Form::Length if own.iter().all(|patch| patch.value == field.value) => {
                patch::apply(bytes, field.value.clone(), own)
            }
            Form::Length => rewrite(bytes, field.value.clone(), own, deepest - 1)?,
            // What stands between the tags of a group was not read.
            Form::Group => Vec::new(),
            Form::Fixed32 | Form::Fixed64 | Form::Varint => return Err(SpliceError::Place),
        };
        write_field(&mut edited, bytes, start, &field, &value)?;
    }
    edited.extend_from_slice(&bytes[copied..range.end]);
    Ok(edited)
}

/// Whether a field is the smallest that holds a range, so that it goes with it.
fn is_unit(bytes: &[u8], field: &WireField, range: &Range<usize>) -> bool {
    if field.form != Form::Length || *range == field.value {
        return true;
    }
    let mut at = field.value.start;
    while at < field.value.end {
        let Ok(inner) = WireField::read(bytes, at, field.value.end) else { return true };
        if inner.form == Form::Length && inner.value.start <= range.start && range.end <= inner.value.end {
            return false;
        }
        at = inner.end;
    }
    true
}

/// Appends a field with another value.
fn write_field(
    edited: &mut Vec<u8>,
    bytes: &[u8],
    start: usize,
    field: &WireField,
    value: &[u8],
) -> Result<(), SpliceError> {
    if field.form != Form::Length {
        edited.extend_from_slice(&bytes[start..field.value.start]);
        edited.extend_from_slice(value);
        edited.extend_from_slice(&bytes[field.value.end..field.end]);
        return Ok(());
    }
    let (_, after_tag) = read_varint(bytes, start, field.end).map_err(|_| SpliceError::Place)?;
    edited.extend_from_slice(&bytes[start..after_tag]);
    if value.len() == field.value.len() {
        edited.extend_from_slice(&bytes[after_tag..field.value.start]);
    } else {
        // A field that claims more than there is goes on doing so.
        let (told, _) = read_varint(bytes, after_tag, field.value.start).map_err(|_| SpliceError::Place)?;
        let missing = told.saturating_sub(field.value.len() as u64);
        write_varint(edited, missing.saturating_add(value.len() as u64));
    }
    edited.extend_from_slice(value);
    Ok(())
}

fn write_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
