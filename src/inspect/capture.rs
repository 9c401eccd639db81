use std::{borrow::Cow, ops::Range};

use crate::{
    inspect::names,
    model::{Document, Field, ParseWordError, PathWriter},
    rules::Hit,
};

use serde::{Deserialize, Serialize};

crate::model::words! {
    /// How much of a payload the record keeps.
    #[derive(Default)]
    Capture {
        /// The decoded fields with findings masked, and the body as it was sent.
        Full = "full",
        /// The decoded fields, with findings masked.
        #[default]
        Masked = "masked",
        /// Nothing but the findings.
        None = "none",
    }
}

/// Most fields kept of one request. The largest batch seen had 8,000; more than this is no page that a person reads.
const FIELD_LIMIT: usize = 20_000;

/// Longest value kept, in bytes.
const VALUE_LIMIT: usize = 2_000;

impl Capture {
    /// Gives `keep` path and value of each decoded field as they may be kept; returns how many were left out because
    /// there were too many.
    ///
    /// `mask` says what stands for the value of a hit, which is named by its place in `hits`.
    pub(super) fn fields<'m>(
        self,
        document: &Document,
        hits: &[Hit],
        mask: impl Fn(usize) -> Cow<'m, str>,
        mut keep: impl FnMut(&str, &str),
    ) -> u32 {
        if self == Self::None {
            return 0;
        }
        let opened = Opened::of(document);
        let mut by_field: Vec<usize> = (0..hits.len()).collect();
        by_field.sort_unstable_by_key(|at| (hits[*at].node, hits[*at].text, hits[*at].range.start, *at));
        let mut paths = PathWriter::new(document).masking(names::masked(document, hits, &mask));
        let mut next = 0;
        let mut kept = 0;
        let mut left_out = 0;
        // The value of an opened container is shown by what was found inside it.
        for field in document.leaves().filter(|field| !opened.contains(*field)) {
            if kept == FIELD_LIMIT {
                left_out += 1;
                continue;
            }
            kept += 1;
            while by_field.get(next).is_some_and(|at| hits[*at].node < field.id()) {
                next += 1;
            }
            let first = next;
            while by_field.get(next).is_some_and(|at| hits[*at].node == field.id()) {
                next += 1;
            }
            let own = by_field[first..next].iter().map(|at| (&hits[*at], *at));
            keep(paths.path(field), &masked_value(document, field, own, &mask));
        }
        left_out
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

fn masked_value<'d, 'm>(
    document: &'d Document,
    field: Field<'d>,
    hits: impl Iterator<Item = (&'d Hit, usize)>,
    mask: impl Fn(usize) -> Cow<'m, str>,
) -> Cow<'d, str>
where
    'm: 'd,
{
    let mut hits = hits.peekable();
    if hits.peek().is_none() {
        return cut(field.display());
    }
    let (text, whole) = document.plain(field.id()).unwrap_or((field.text(), field.span()));
    let bytes = document.text(text);
    let mut masked = String::new();
    let mut at = whole.start;
    while let Some((hit, index)) = hits.next() {
        if hit.text != text || !within(&hit.range, &whole) {
            // Found in another form of this value, so that its place here is not known: nothing of it may be shown.
            return mask(index);
        }
        if hit.range.end <= at {
            continue;
        }
        if hit.range.start < at {
            // Two rules named overlapping values; the first one's mask stands for the part that they share.
            at = hit.range.end;
            continue;
        }
        if hit.range == whole && hits.peek().is_none() {
            return cut(mask(index));
        }
        masked.push_str(&String::from_utf8_lossy(&bytes[at..hit.range.start]));
        masked.push_str(&mask(index));
        at = hit.range.end;
    }
    masked.push_str(&String::from_utf8_lossy(&bytes[at..whole.end]));
    cut(masked.into())
}

fn within(inner: &Range<usize>, outer: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn cut(value: Cow<'_, str>) -> Cow<'_, str> {
    let start = super::walk::cut(&value, VALUE_LIMIT);
    if start.len() == value.len() {
        return value;
    }
    format!("{start}… ({} bytes)", value.len()).into()
}
