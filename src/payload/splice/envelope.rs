//! Sentry's envelopes: an item's header says how long its payload is.

use crate::{
    model::{Document, Field, FieldKind, Name, TextId},
    payload::splice::patch::Patch,
};

/// The lengths in the headers of items whose payload grows or shrinks by `patches`, corrected.
pub(super) fn lengths(document: &Document, text: TextId, patches: &[Patch]) -> Vec<Patch> {
    let mut corrected = Vec::new();
    for header in document.fields_in(text) {
        let Some(item) = item_of(header) else { continue };
        let (from, to) = (header.span().end, item.span().end);
        let first = patches.partition_point(|patch| patch.range.start < from);
        let growth: isize =
            patches[first..].iter().take_while(|patch| patch.range.start < to).map(Patch::growth).sum();
        if growth == 0 {
            continue;
        }
        let told = document
            .fields_from(header.id())
            .skip(1)
            .take_while(|field| field.span().end <= from)
            .find(|field| item_told(*field).is_some_and(|told| told.id() == item.id()));
        let Some(told) = told else { continue };
        let length = std::str::from_utf8(told.raw()).ok().and_then(|digits| digits.parse::<isize>().ok());
        if let Some(length) = length {
            let with = (length + growth).max(0).to_string().into_bytes();
            corrected.push(Patch { with, ..Patch::empty(told.span()) });
        }
    }
    corrected
}

/// The item whose payload this field tells the length of: it changes with what stands there.
pub fn item_told(field: Field<'_>) -> Option<Field<'_>> {
    let is_length =
        field.kind() == FieldKind::Number && field.last_segment().is_some_and(|name| *name == *b"length");
    field.parent().filter(|_| is_length).and_then(item_of)
}

/// The item that a node is the header of.
fn item_of(field: Field<'_>) -> Option<Field<'_>> {
    let item = field.parent().filter(|_| field.name() == Name::Static("header"))?;
    let items = item.parent()?;
    (matches!(item.name(), Name::Index(_)) && items.name() == Name::Static("items")).then_some(item)
}
