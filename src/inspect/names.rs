use std::{borrow::Cow, collections::HashMap, ops::Range};

use crate::{
    model::{Document, FieldKind, NodeId},
    rules::Hit,
};

/// Names of fields in which something was found, and what stands for each in paths. A name can be a value: somebody may use
/// an address, or a token, as a key.
///
/// `mask` says what stands for a hit, which is named by its place in `hits`. Costs nothing as long as hits lie in values.
pub(super) fn masked<'m>(
    document: &Document,
    hits: &[Hit],
    mask: impl Fn(usize) -> Cow<'m, str>,
) -> HashMap<NodeId, Box<str>> {
    let mut in_names: Vec<(Range<usize>, usize)> = Vec::new();
    for (at, hit) in hits.iter().enumerate() {
        let field = document.field(hit.node);
        let span = document.body_span(hit.text, hit.range.clone());
        let value = field.body_span();
        let is_container = matches!(field.kind(), FieldKind::Array | FieldKind::Object);
        let is_value =
            if is_container { span == value } else { value.start <= span.start && span.end <= value.end };
        if !is_value {
            in_names.push((span, at));
        }
    }
    if in_names.is_empty() {
        return HashMap::new();
    }
    in_names.sort_unstable_by_key(|(span, _)| span.start);
    let mut masks = HashMap::new();
    for field in document.fields() {
        let Some(name) = field.name_span() else { continue };
        let before = in_names.partition_point(|(span, _)| span.start < name.end);
        // Those that begin last are looked at first; a few may lie around each other.
        let found = in_names[..before].iter().rev().take(AROUND).find(|(span, _)| name.start < span.end);
        if let Some((_, at)) = found {
            masks.insert(field.id(), mask(*at).into());
        }
    }
    masks
}

/// Hits around one place: one for each entity that it may be.
const AROUND: usize = 16;
