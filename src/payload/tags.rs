use std::ops::Range;

use memchr::memchr2;

use crate::{
    model::{Field, FieldKind, Name, NodeId},
    payload::{chunk::find_near, container::Opener},
};

const NAME: &[u8] = b"ddtags";

/// Whether a value is Datadog's list of tags: `env:prod,version:1.2`.
#[inline]
pub(super) fn is_tags(field: Field<'_>, raw: &[u8]) -> bool {
    // Asked of every string: the length of the name turns nearly all of them away.
    field.plain_key().is_some_and(|key| key.len() == NAME.len()) && has_tags(field, raw)
}

fn has_tags(field: Field<'_>, raw: &[u8]) -> bool {
    field.last_segment().is_some_and(|name| *name == *NAME) && raw.contains(&b':')
}

/// Reads tags into fields of a `!tags` container. A tag without a colon is a member without a name.
pub(super) fn read(opener: &mut Opener, bytes: &[u8], range: Range<usize>, owner: NodeId) {
    let Some(tags) = opener.push(owner, Name::Static("!tags"), FieldKind::Object, range.clone()) else {
        return;
    };
    let (bytes, mut start) = (&bytes[..range.end], range.start);
    for index in 0_u32.. {
        // The first colon ends the name; what stands behind it ends with the comma.
        let mut end = find::<b':'>(bytes, start);
        let colon = (bytes.get(end) == Some(&b':')).then_some(end);
        if colon.is_some() {
            end = find::<b','>(bytes, end + 1);
        }
        let (mut from, mut to) = (start, end);
        while from < to && bytes[from].is_ascii_whitespace() {
            from += 1;
        }
        while to > from && bytes[to - 1].is_ascii_whitespace() {
            to -= 1;
        }
        if from < to {
            let (name, from) = match colon {
                Some(at) => (Name::Key { start: from as u32, end: at as u32 }, at + 1),
                None => (Name::Index(index), from),
            };
            if opener.push(tags, name, FieldKind::String, from..to).is_none() {
                return;
            }
        }
        if end == range.end {
            return;
        }
        start = end + 1;
    }
}

/// Where the next comma stands, or the next `OTHER`; the end of the text if there is none.
#[inline(always)]
fn find<const OTHER: u8>(bytes: &[u8], start: usize) -> usize {
    find_near::<b',', OTHER, 1>(bytes, start).unwrap_or_else(|at| {
        let rest = bytes.get(at..).unwrap_or_default();
        memchr2(b',', OTHER, rest).map_or(bytes.len(), |found| at + found)
    })
}
