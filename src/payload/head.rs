//! The head of a request as documents: header fields, query and path. Made from plain values, so that whoever calls
//! decides which of them may be looked at.

use std::ops::Range;

use bytes::Bytes;

use crate::{
    model::{Document, FieldKind, Name, NodeId},
    payload::{
        Budget,
        container::{Escaping, Opener},
        percent,
        shape::{self, Shape},
    },
};

/// Header fields whose value is a list of pairs, and what stands between these.
const PAIRS: &[(&[u8], u8)] = &[(b"cookie", b';'), (b"x-sentry-auth", b',')];

/// Segments of a path after which an id stands: that id's field is called like this.
const COLLECTIONS: &[&str] = &[
    "account",
    "accounts",
    "devices",
    "eval",
    "features",
    "organization",
    "organizations",
    "orgs",
    "projects",
    "sessions",
    "sub",
    "teams",
    "transcripts",
    "users",
    "workspaces",
];

/// Takes header and trailer fields apart: `header:user-agent`, `header:cookie/NAME`.
///
/// The body of the document is a line for each field, in which its value stands as it was sent.
pub fn headers<'h>(fields: impl Iterator<Item = (&'h str, &'h [u8])>, budget: &Budget) -> Document {
    let mut body = Vec::new();
    let mut lines = Vec::new();
    for (name, value) in fields {
        let start = body.len();
        body.extend_from_slice(name.as_bytes());
        let name = start..body.len();
        body.extend_from_slice(b": ");
        let start = body.len();
        body.extend_from_slice(value);
        lines.push((name, start..body.len()));
        body.push(b'\n');
    }
    let body = Bytes::from(body);
    let mut opener = Opener::new("header", body.clone(), Shape::Any, budget);
    let Some(root) = opener.push(NodeId::ROOT, Name::Static(""), FieldKind::Object, 0..body.len()) else {
        return opener.finish();
    };
    let mut base64 = Vec::new();
    for (name, value) in lines {
        // What gRPC calls binary metadata.
        let is_base64 = body[name.clone()].ends_with(b"-bin");
        let separator = PAIRS.iter().find(|(list, _)| *list == &body[name.clone()]);
        let name = Name::Key { start: name.start as u32, end: name.end as u32 };
        let kind = match separator {
            Some(_) => FieldKind::Object,
            None if is_base64 => FieldKind::Bytes,
            None if std::str::from_utf8(&body[value.clone()]).is_ok() => FieldKind::String,
            None => FieldKind::Bytes,
        };
        let Some(node) = opener.push(root, name, kind, value.clone()) else {
            break;
        };
        if is_base64 {
            base64.push((node, value.clone()));
        }
        if let Some((_, separator)) = separator {
            read_pairs(&mut opener, &body, value, *separator, node);
        }
    }
    opener.open_known_base64(&body, &base64);
    opener.finish()
}

/// Takes a query apart, without its question mark: `query:k`.
pub fn query(query: &str, budget: &Budget) -> Document {
    shape::decode("query", Shape::Form, Bytes::copy_from_slice(query.as_bytes()), budget)
}

/// Takes a path apart: each segment is a field, called by the collection before it (`path:organizations`) or by its
/// place (`path:0`).
pub fn path(path: &str, budget: &Budget) -> Document {
    let body = Bytes::copy_from_slice(path.as_bytes());
    let mut opener = Opener::new("path", body.clone(), Shape::Any, budget);
    opener.set_escaping(Escaping::Percent);
    let Some(root) = opener.push(NodeId::ROOT, Name::Static(""), FieldKind::Object, 0..body.len()) else {
        return opener.finish();
    };
    let mut before = "";
    for (index, (start, segment)) in segments(path).enumerate() {
        let name = match COLLECTIONS.iter().find(|name| **name == before) {
            Some(name) => Name::Static(name),
            None => Name::Index(index as u32),
        };
        let kind = match percent::has_escape(segment.as_bytes()) {
            true => FieldKind::EscapedString,
            false => FieldKind::String,
        };
        if opener.push(root, name, kind, start..start + segment.len()).is_none() {
            break;
        }
        before = segment;
    }
    opener.finish()
}

/// The segments of a path that are not empty, and where each begins.
pub fn segments(path: &str) -> impl Iterator<Item = (usize, &str)> {
    path.split('/')
        .scan(0, |at, segment| {
            let start = *at;
            *at += segment.len() + 1;
            Some((start, segment))
        })
        .filter(|(_, segment)| !segment.is_empty())
}

fn read_pairs(opener: &mut Opener, body: &[u8], range: Range<usize>, separator: u8, node: NodeId) {
    let mut start = range.start;
    while start < range.end {
        let end = memchr::memchr(separator, &body[start..range.end]).map_or(range.end, |at| start + at);
        let pair = &body[start..end];
        let from = end - pair.trim_ascii_start().len();
        let to = start + pair.trim_ascii_end().len();
        start = end + 1;
        if from >= to {
            continue;
        }
        let (name, from) = match memchr::memchr(b'=', &body[from..to]) {
            Some(at) => {
                // `Sentry sentry_version=7`: the scheme is no part of the first name.
                let name =
                    memchr::memrchr(b' ', &body[from..from + at]).map_or(from, |space| from + space + 1);
                (Name::Key { start: name as u32, end: (from + at) as u32 }, from + at + 1)
            }
            None => (Name::Static(""), from),
        };
        if opener.push(node, name, FieldKind::String, from..to).is_none() {
            return;
        }
    }
}
