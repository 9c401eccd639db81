use std::ops::Range;

use memchr::memchr_iter;

use crate::{
    model::{Field, FieldKind, Name, NodeId},
    payload::container::Opener,
};

const NAME: &[u8] = b"ddtags";

/// Whether a value is Datadog's list of tags: `env:prod,version:1.2`.
pub(super) fn is_tags(field: Field<'_>, raw: &[u8]) -> bool {
    // Asked of every string: the length of the name turns nearly all of them away.
    matches!(field.name(), Name::Key { start, end } if end - start == NAME.len() as u32)
        && field.last_segment().is_some_and(|name| *name == *NAME)
        && raw.contains(&b':')
}

/// Reads tags into fields of a `!tags` container. A tag without a colon is a member without a name.
pub(super) fn read(opener: &mut Opener, bytes: &[u8], range: Range<usize>, owner: NodeId) {
    let Some(tags) = opener.push(owner, Name::Static("!tags"), FieldKind::Object, range.clone()) else {
        return;
    };
    let mut start = range.start;
    let ends = memchr_iter(b',', &bytes[range.clone()]).map(|at| range.start + at);
    for (index, end) in ends.chain([range.end]).enumerate() {
        let tag = &bytes[start..end];
        let lead = tag.len() - tag.trim_ascii_start().len();
        let (from, to) = (start + lead, start + lead + tag.trim_ascii().len());
        start = end + 1;
        if from == to {
            continue;
        }
        let (name, from) = match memchr::memchr(b':', &bytes[from..to]) {
            Some(at) => (Name::Key { start: from as u32, end: (from + at) as u32 }, from + at + 1),
            None => (Name::Index(index as u32), from),
        };
        if opener.push(tags, name, FieldKind::String, from..to).is_none() {
            return;
        }
    }
}
