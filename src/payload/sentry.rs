use std::ops::Range;

use crate::{
    model::{FieldKind, Name, NodeId, NotInspected},
    payload::{
        container::Opener,
        json::looks_like_json,
        shape::{line_end, read_value},
    },
};

/// Types of items that are known, so that their names need not be looked for in the bytes.
const TYPES: &[&str] = &[
    "attachment",
    "check_in",
    "client_report",
    "event",
    "feedback",
    "form_data",
    "log",
    "nel",
    "otel_log",
    "profile",
    "profile_chunk",
    "raw_security",
    "replay_event",
    "replay_recording",
    "replay_video",
    "security",
    "session",
    "sessions",
    "span",
    "statsd",
    "trace_metric",
    "transaction",
    "unreal_report",
    "user_report",
];

/// Reads an envelope: a line of JSON, then items, each of a line of JSON and a payload that is as long as that line
/// says, or else as its own line. The root's members are `header` and `items`; the payload of an item is called by
/// the item's type.
pub(super) fn read(opener: &mut Opener, bytes: &[u8], range: Range<usize>, parent: NodeId) {
    let Some(root) = opener.push(parent, Name::Static(""), FieldKind::Object, range.clone()) else {
        return;
    };
    let end = line_end(bytes, range.clone());
    opener.walk(bytes, range.start..end, root, Name::Static("header"));
    let mut at = skip_blank_lines(bytes, end..range.end);
    if at == range.end {
        return;
    }
    let Some(items) = opener.push(root, Name::Static("items"), FieldKind::Array, at..range.end) else {
        return;
    };
    for index in 0_u32.. {
        if at == range.end {
            return;
        }
        let Some(item) = opener.push(items, Name::Index(index), FieldKind::Object, at..range.end) else {
            return;
        };
        let next = read_item(opener, bytes, at..range.end, item);
        opener.builder.close(item, next);
        at = skip_blank_lines(bytes, next..range.end);
    }
}

/// Reads one item at the start of `range`, and says where it ends.
fn read_item(opener: &mut Opener, bytes: &[u8], range: Range<usize>, item: NodeId) -> usize {
    let head_end = line_end(bytes, range.clone());
    let header = NodeId::after(opener.builder.document());
    if looks_like_json(&bytes[range.start..head_end]) {
        opener.walk(bytes, range.start..head_end, item, Name::Static("header"));
    } else {
        opener.push(item, Name::Static("header"), FieldKind::String, range.start..head_end);
        opener.builder.gap(item, NotInspected::FormatBroken);
    }
    let Head { kind, length } = Head::read(opener, header);
    let start = (head_end + 1).min(range.end);
    let end = match length {
        None => line_end(bytes, start..range.end),
        Some(length) => {
            let told = start.saturating_add(length);
            // The next line begins where the payload ends. Some SDKs count characters for bytes and stop short.
            let end = if told >= range.end { range.end } else { line_end(bytes, told..range.end) };
            if told > range.end || end > told && bytes[told..end] != *b"\r" {
                opener.builder.gap(item, NotInspected::FormatBroken);
            }
            if end > told && bytes[told..end] == *b"\r" { told } else { end }
        }
    };
    let name = match kind {
        None => Name::Static("payload"),
        Some((from, to)) => TYPES
            .iter()
            .find(|name| name.as_bytes() == &bytes[from..to])
            .map_or(Name::Key { start: from as u32, end: to as u32 }, |name| Name::Static(name)),
    };
    if name == Name::Static("replay_recording") {
        read_recording(opener, bytes, start..end, item, name);
    } else {
        // Without a length the payload is the line without its break, and a carriage return may be part of that.
        let text_end = if length.is_none() { start + trim_end(&bytes[start..end]) } else { end };
        read_value(opener, bytes, start..text_end, item, name);
    }
    end
}

/// What an item's header says about its payload.
#[derive(Default)]
struct Head {
    /// Where the type stands.
    kind: Option<(usize, usize)>,
    length: Option<usize>,
}

impl Head {
    fn read(opener: &Opener, header: NodeId) -> Self {
        let mut head = Self::default();
        let members = opener.builder.document().fields_from(header);
        for field in members.filter(|field| field.parent().is_some_and(|parent| parent.id() == header)) {
            let Some(name) = field.last_segment() else { continue };
            match (&*name, field.kind()) {
                (b"type", FieldKind::String) => head.kind = Some((field.span().start, field.span().end)),
                (b"length", FieldKind::Number) => {
                    head.length =
                        std::str::from_utf8(field.raw()).ok().and_then(|digits| digits.parse().ok());
                }
                _ => {}
            }
        }
        head
    }
}

/// Reads a recording: a line of JSON, then JSON that is often compressed.
fn read_recording(opener: &mut Opener, bytes: &[u8], range: Range<usize>, item: NodeId, name: Name) {
    let head_end = line_end(bytes, range.clone());
    if head_end == range.end || !looks_like_json(&bytes[range.start..head_end]) {
        read_value(opener, bytes, range, item, name);
        return;
    }
    let Some(node) = opener.push(item, name, FieldKind::Object, range.clone()) else {
        return;
    };
    opener.walk(bytes, range.start..head_end, node, Name::Static("header"));
    read_value(opener, bytes, head_end + 1..range.end, node, Name::Static("recording"));
}

fn skip_blank_lines(bytes: &[u8], range: Range<usize>) -> usize {
    let blank = bytes[range.clone()].iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
    range.start + blank
}

fn trim_end(bytes: &[u8]) -> usize {
    bytes.strip_suffix(b"\r").unwrap_or(bytes).len()
}
