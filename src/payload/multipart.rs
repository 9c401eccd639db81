use std::ops::Range;

use memchr::memmem;

use crate::{
    model::{FieldKind, Name, NodeId, NotInspected},
    payload::{
        container::Opener,
        shape::{line_end, read_value},
    },
};

/// How many multiparts may stand one within another. Real ones nest one, for several files of one field.
const DEEPEST: u32 = 4;

/// Longest line of a part's head that is read. Real ones stay under 300 bytes.
const LINE_LIMIT: usize = 8 * 1024;

/// Reads parts between boundaries, and says `false` when there is no boundary. The bytes name it: the first line that
/// begins with two dashes.
///
/// A part is named by its `name`, or by its place. A file has members `filename` and `content`.
pub(super) fn read(opener: &mut Opener, bytes: &[u8], range: Range<usize>, parent: NodeId) -> bool {
    read_at(opener, bytes, range, parent, Name::Static(""), DEEPEST)
}

/// Whether a body begins with a boundary and the head of a part.
pub(super) fn begins(bytes: &[u8]) -> bool {
    if !bytes.starts_with(b"--") {
        return false;
    }
    let head = &bytes[..bytes.len().min(LINE_LIMIT)];
    let mut lines = head.splitn(3, |byte| *byte == b'\n');
    let second = lines.nth(1).unwrap_or_default();
    second.get(..b"content-".len()).is_some_and(|it| it.eq_ignore_ascii_case(b"content-"))
}

fn read_at(
    opener: &mut Opener,
    bytes: &[u8],
    range: Range<usize>,
    parent: NodeId,
    name: Name,
    deepest: u32,
) -> bool {
    let Some(first) = first_boundary(bytes, range.clone()) else {
        return false;
    };
    let Some(root) = opener.push(parent, name, FieldKind::Object, range.clone()) else {
        return true;
    };
    let finder = memmem::Finder::new(&bytes[first.clone()]);
    let mut start = (line_end(bytes, first.end..range.end) + 1).min(range.end);
    for index in 0_u32.. {
        // A boundary stands at the start of a line; the line break before it belongs to it.
        let mut search = start;
        let next = loop {
            match finder.find(&bytes[search..range.end]) {
                Some(at) if search + at == start || bytes[search + at - 1] == b'\n' => {
                    break Some(search + at);
                }
                Some(at) => search += at + 1,
                None => break None,
            }
        };
        let end = next.unwrap_or(range.end);
        let mut part = start..end;
        if next.is_some() && part.end > part.start {
            part.end -= 1;
            if part.end > part.start && bytes[part.end - 1] == b'\r' {
                part.end -= 1;
            }
        }
        if next.is_none() && bytes[part.clone()].trim_ascii().is_empty() {
            opener.builder.gap(root, NotInspected::FormatBroken);
            return true;
        }
        let Some(node) = read_part(opener, bytes, part, root, index, deepest) else {
            return true;
        };
        let Some(next) = next else {
            // Cut off before the last boundary.
            opener.builder.gap(node, NotInspected::FormatBroken);
            return true;
        };
        let after = next + first.len();
        if bytes[after..range.end].starts_with(b"--") {
            return true;
        }
        start = (line_end(bytes, after..range.end) + 1).min(range.end);
    }
    true
}

fn first_boundary(bytes: &[u8], range: Range<usize>) -> Option<Range<usize>> {
    let mut start = range.start;
    while start < range.end {
        let end = line_end(bytes, start..range.end);
        let line = bytes[start..end].trim_ascii_end();
        if line.len() > 2 && line.starts_with(b"--") {
            return Some(start..start + line.len());
        }
        start = end + 1;
    }
    None
}

/// What the head of a part says.
#[derive(Default)]
struct Head {
    name: Option<Range<usize>>,
    filename: Option<Range<usize>>,
    is_multipart: bool,
}

fn read_part(
    opener: &mut Opener,
    bytes: &[u8],
    part: Range<usize>,
    root: NodeId,
    index: u32,
    deepest: u32,
) -> Option<NodeId> {
    let (head, content) = read_head(bytes, part.clone());
    let name = match &head.name {
        Some(name) if !name.is_empty() => Name::Key { start: name.start as u32, end: name.end as u32 },
        _ => Name::Index(index),
    };
    if head.is_multipart && deepest > 0 {
        let next = NodeId::after(opener.builder.document());
        if read_at(opener, bytes, content.clone(), root, name, deepest - 1) {
            return opener.added(next);
        }
    }
    let Some(filename) = head.filename else {
        return read_value(opener, bytes, content, root, name);
    };
    let node = opener.push(root, name, FieldKind::Object, filename.start..part.end)?;
    opener.push(node, Name::Static("filename"), FieldKind::String, filename)?;
    read_value(opener, bytes, content, node, Name::Static("content"))
}

/// Reads the lines before the blank one, and where the content stands.
fn read_head(bytes: &[u8], part: Range<usize>) -> (Head, Range<usize>) {
    let mut head = Head::default();
    let mut start = part.start;
    while start < part.end {
        let end = line_end(bytes, start..part.end);
        let line = start..start + bytes[start..end].trim_ascii_end().len();
        start = (end + 1).min(part.end);
        if line.is_empty() {
            return (head, start..part.end);
        }
        let line = line.start..line.end.min(line.start + LINE_LIMIT);
        let is = |name: &[u8]| {
            bytes[line.clone()].get(..name.len()).is_some_and(|it| it.eq_ignore_ascii_case(name))
        };
        if is(b"content-disposition:") {
            head.name = parameter(bytes, line.clone(), b"name=");
            head.filename = parameter(bytes, line.clone(), b"filename=")
                .or_else(|| parameter(bytes, line.clone(), b"filename*="));
        } else if is(b"content-type:") {
            head.is_multipart =
                memmem::find(&bytes[line.clone()].to_ascii_lowercase(), b"multipart/").is_some();
        }
    }
    // No blank line: all of it is content.
    (Head::default(), part)
}

/// The value of a parameter, without its quotes. `name` ends in its equals sign.
fn parameter(bytes: &[u8], line: Range<usize>, name: &[u8]) -> Option<Range<usize>> {
    let text = &bytes[line.clone()];
    let at = (1..text.len()).find(|&at| {
        matches!(text[at - 1], b';' | b' ' | b'\t')
            && text[at..].get(..name.len()).is_some_and(|it| it.eq_ignore_ascii_case(name))
    })?;
    let start = at + name.len();
    let (start, end) = match text.get(start) {
        Some(b'"') => (start + 1, closing_quote(text, start + 1)),
        _ => {
            (start, text[start..].iter().position(|byte| *byte == b';').map_or(text.len(), |end| start + end))
        }
    };
    Some(line.start + start..line.start + end)
}

fn closing_quote(text: &[u8], start: usize) -> usize {
    memchr::memchr(b'"', &text[start..]).map_or(text.len(), |end| start + end)
}
