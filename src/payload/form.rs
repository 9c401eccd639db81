use std::ops::Range;

use memchr::memchr2;

use crate::{
    model::{FieldKind, Name, NodeId},
    payload::{
        container::{Escaping, Opener},
        percent,
    },
};

/// Reads `a=1&b=2`, in which percent escapes and `+` are how it is written and no container.
pub(super) fn read(opener: &mut Opener, bytes: &[u8], range: Range<usize>, parent: NodeId) {
    opener.set_escaping(Escaping::Form);
    let Some(root) = opener.push(parent, Name::Static(""), FieldKind::Object, range.clone()) else {
        return;
    };
    let mut start = range.start;
    while start < range.end {
        let end = memchr::memchr(b'&', &bytes[start..range.end]).map_or(range.end, |at| start + at);
        let pair = &bytes[start..end];
        let equals = memchr::memchr(b'=', pair).map_or(end, |at| start + at);
        let value = (equals + 1).min(end)..end;
        let (from, to) = (start as u32, equals as u32);
        let name = match has_escape(&bytes[start..equals]) {
            true => Name::PercentKey { start: from, end: to },
            false => Name::Key { start: from, end: to },
        };
        let kind = match has_escape(&bytes[value.clone()]) {
            true => FieldKind::EscapedString,
            false => FieldKind::String,
        };
        start = end + 1;
        if !pair.is_empty() && opener.push(root, name, kind, value).is_none() {
            return;
        }
    }
}

fn has_escape(raw: &[u8]) -> bool {
    memchr2(b'+', b'%', raw).is_some_and(|at| raw[at..].contains(&b'+') || percent::has_escape(&raw[at..]))
}
