use std::ops::Range;

use crate::{
    model::{Field, FieldKind},
    payload::splice::{is_number, place},
};

/// A change of a text's bytes, ready to be put in: escaped as its place wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Patch {
    /// What goes.
    pub(super) range: Range<usize>,
    /// What comes.
    pub(super) with: Vec<u8>,
    /// The whole value that `range` is a part of: in a binary format that is what has a length.
    pub(super) value: Range<usize>,
    /// Whether the field goes with what it is written in. Only in a binary format.
    pub(super) removes: bool,
}

impl Patch {
    /// Takes a value out.
    pub(super) fn empty(range: Range<usize>) -> Self {
        Self { value: range.clone(), range, with: Vec::new(), removes: false }
    }

    /// A binary number becomes zero in as many bytes as it had, so that no length changes.
    pub(super) fn zeros(field: Field<'_>) -> Self {
        let mut with = vec![if place::is_varint(field.kind()) { 0x80 } else { 0 }; field.span().len()];
        if let Some(last) = with.last_mut() {
            *last = 0;
        }
        Self { with, ..Self::empty(field.span()) }
    }

    /// A binary number becomes the one that `with` writes, if it writes one that fits into as many bytes, and zero
    /// otherwise: no length changes, and packed numbers have none of their own.
    pub(super) fn number(field: Field<'_>, with: &str) -> Self {
        let with = match field.kind() {
            FieldKind::Binary(number) if is_number(with) => number.bytes(with, field.span().len()),
            _ => None,
        };
        with.map_or_else(|| Self::zeros(field), |with| Self { with, ..Self::empty(field.span()) })
    }

    /// Leaves out what stays the same at both ends: what a mask keeps stays as it is written.
    pub(super) fn trim(&mut self, bytes: &[u8]) {
        let before = &bytes[self.range.clone()];
        let start = before.iter().zip(&self.with).take_while(|(one, other)| one == other).count();
        let (rest, with) = (&before[start..], &self.with[start..]);
        let end = rest.iter().rev().zip(with.iter().rev()).take_while(|(one, other)| one == other).count();
        self.range = self.range.start + start..self.range.end - end;
        self.with = with[..with.len() - end].to_vec();
    }

    /// By how much the text grows.
    pub(super) fn growth(&self) -> isize {
        self.with.len().cast_signed() - self.range.len().cast_signed()
    }
}

/// Puts patches in order, and makes one of those that overlap: the one that holds the others stands for them.
pub(super) fn merge(mut patches: Vec<Patch>) -> Vec<Patch> {
    // The sort is stable: of equal ranges the first stays, which is what was asked for rather than what follows of it.
    patches.sort_by_key(|patch| (patch.range.start, std::cmp::Reverse(patch.range.end)));
    let mut merged: Vec<Patch> = Vec::with_capacity(patches.len());
    for patch in patches {
        match merged.last_mut() {
            Some(last) if patch.range == last.range || patch.range.start < last.range.end => {
                last.removes |= patch.removes && patch.range == last.range;
                last.range.end = last.range.end.max(patch.range.end);
                last.value = last.value.start.min(patch.value.start)..last.value.end.max(patch.value.end);
            }
            _ => merged.push(patch),
        }
    }
    merged
}

/// A part of a text with patches that lie in it put in.
pub(super) fn apply(bytes: &[u8], within: Range<usize>, patches: &[Patch]) -> Vec<u8> {
    let mut edited = Vec::with_capacity(within.len());
    let mut at = within.start;
    for patch in patches {
        edited.extend_from_slice(&bytes[at..patch.range.start]);
        edited.extend_from_slice(&patch.with);
        at = patch.range.end;
    }
    edited.extend_from_slice(&bytes[at..within.end]);
    edited
}
