use std::ops::Range;

use crate::{
    model::{CapturedField, Document, Field, ParseWordError},
    rules::Hit,
};

use serde::{Deserialize, Serialize};

crate::model::words! {
    /// How much of a payload the record keeps.
    Capture {
        /// The decoded fields with findings masked, and the body as it was sent.
        Full = "full",
        /// The decoded fields, with findings masked.
        Masked = "masked",
        /// Nothing but the findings.
        None = "none",
    }
}

impl Default for Capture {
    fn default() -> Self {
        Self::Masked
    }
}

/// Most fields kept of one request. The largest batch seen had 8,000; more than this is no page that a person reads.
const FIELD_LIMIT: usize = 20_000;

/// Longest value kept, in bytes.
const VALUE_LIMIT: usize = 2_000;

impl Capture {
    /// The decoded fields as they may be kept, and how many were left out because there were too many.
    ///
    /// `mask` gives what stands for a hit's value.
    pub(super) fn fields(
        self,
        document: &Document,
        hits: &[Hit],
        mask: impl Fn(&Hit, &[u8]) -> Box<str>,
    ) -> (Vec<CapturedField>, u32) {
        if self == Self::None {
            return (Vec::new(), 0);
        }
        let opened = Opened::of(document);
        let mut by_field: Vec<&Hit> = hits.iter().collect();
        by_field.sort_by_key(|hit| (hit.node, hit.text, hit.range.start));
        let mut fields = Vec::new();
        let mut left_out = 0;
        // The value of an opened container is shown by what was found inside it.
        for field in document.leaves().filter(|field| !opened.contains(*field)) {
            if fields.len() == FIELD_LIMIT {
                left_out += 1;
                continue;
            }
            let first = by_field.partition_point(|hit| hit.node < field.id());
            let own = by_field[first..].iter().take_while(|hit| hit.node == field.id());
            fields.push(CapturedField {
                path: field.path().as_str().into(),
                value: masked_value(document, field, own.copied(), &mask),
            });
        }
        (fields, left_out)
    }
}

/// Which leaves were opened into something that is shown in their stead.
struct Opened(Vec<bool>);

impl Opened {
    fn of(document: &Document) -> Self {
        let mut opened = vec![false; document.fields().len()];
        for field in document.fields() {
            if let Some(parent) = field.parent() {
                opened[parent.id().index()] = true;
            }
        }
        Self(opened)
    }

    fn contains(&self, field: Field<'_>) -> bool {
        self.0[field.id().index()]
    }
}

fn masked_value<'h>(
    document: &Document,
    field: Field<'_>,
    hits: impl Iterator<Item = &'h Hit>,
    mask: impl Fn(&Hit, &[u8]) -> Box<str>,
) -> Box<str> {
    let (text, whole) = document.plain(field.id()).unwrap_or((field.text(), field.span()));
    let mut masked = String::new();
    let mut at = whole.start;
    let mut found = false;
    for hit in hits {
        found = true;
        if hit.text != text || !within(&hit.range, &whole) {
            // Found in another form of this value, so that its place here is not known: nothing of it may be shown.
            return mask(hit, &document.text(hit.text)[hit.range.clone()]);
        }
        if hit.range.end <= at {
            continue;
        }
        if hit.range.start < at {
            // Two rules named overlapping values; the first one's mask stands for the part that they share.
            at = hit.range.end;
            continue;
        }
        masked.push_str(&String::from_utf8_lossy(&document.text(text)[at..hit.range.start]));
        masked.push_str(&mask(hit, &document.text(text)[hit.range.clone()]));
        at = hit.range.end;
    }
    if !found {
        return cut(&field.display());
    }
    masked.push_str(&String::from_utf8_lossy(&document.text(text)[at..whole.end]));
    cut(&masked)
}

fn within(inner: &Range<usize>, outer: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn cut(value: &str) -> Box<str> {
    let start = super::walk::cut(value, VALUE_LIMIT);
    if start.len() == value.len() {
        value.into()
    } else {
        format!("{start}… ({} bytes)", value.len()).into()
    }
}
