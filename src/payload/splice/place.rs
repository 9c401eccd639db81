use std::ops::Range;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::{
    model::{BinaryNumber, Document, Field, FieldKind, NodeId, TextId},
    payload::splice::key_bytes,
};

/// How a value is written where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a form or a query.
    Form,
    /// The name of a header field.
    HeaderName,
    /// In JSON: a string between its quotes, or another value.
    Json,
    /// A segment of a URL's path.
    Path,
    /// As it is.
    Raw,
}

impl Place {
    /// How a field's value is written.
    pub(super) fn of_value(document: &Document, field: Field<'_>) -> Self {
        let text = field.text();
        if is_binary(document, text) {
            return Self::Raw;
        }
        match document.prefix() {
            "path" if text == TextId::BODY => return Self::Path,
            "form" | "query" if is_body(document, text) => return Self::Form,
            _ => {}
        }
        let (bytes, start) = (document.text(text), field.span().start);
        let is_json = match field.kind() {
            FieldKind::Bool | FieldKind::Null | FieldKind::Number => true,
            FieldKind::Array | FieldKind::Object => {
                matches!(bytes.get(start), Some(b'[' | b'{')) && !is_envelope(document, field)
            }
            FieldKind::EscapedString | FieldKind::String => is_quoted(bytes, start),
            FieldKind::Binary(_) | FieldKind::Bytes => false,
        };
        if is_json { Self::Json } else { Self::Raw }
    }

    /// How a field's name is written.
    pub(super) fn of_key(document: &Document, field: Field<'_>) -> Self {
        let text = field.text();
        if is_binary(document, text) {
            return Self::Raw;
        }
        match document.prefix() {
            "form" | "query" if is_body(document, text) => return Self::Form,
            "header" if text == TextId::BODY && is_header(field) => return Self::HeaderName,
            _ => {}
        }
        let is_json = key_bytes(field.name()).is_some_and(|key| is_quoted(document.text(text), key.start));
        if is_json { Self::Json } else { Self::Raw }
    }

    /// Writes plain bytes as this place wants them.
    pub(super) fn write(self, plain: &[u8]) -> Vec<u8> {
        match self {
            Self::Form => escape_percent(plain, true),
            Self::HeaderName => plain.to_ascii_lowercase(),
            Self::Json => escape_json(plain),
            Self::Path => escape_percent(plain, false),
            Self::Raw => plain.to_vec(),
        }
    }

    /// What stands for a value whose text means something else than text: numbers and ids that OTLP's JSON writes
    /// between quotes, and binary metadata.
    pub(super) fn fixed(self, document: &Document, field: Field<'_>, with: &str) -> Option<Vec<u8>> {
        let bytes = document.text(field.text());
        if document.prefix() == "header" && field.kind() == FieldKind::Bytes {
            return Some(BASE64_STANDARD.encode(with).into());
        }
        if self != Self::Json || document.prefix() != "otlp" || field.text() != TextId::BODY {
            return None;
        }
        let raw = &bytes[field.span()];
        let key = key_before(bytes, field.span().start);
        match key {
            b"stringValue" => None,
            b"bytesValue" => Some(BASE64_STANDARD.encode(with).into()),
            b"parentSpanId" | b"spanId" | b"traceId" => Some(vec![b'0'; raw.len()]),
            _ => is_integer(raw)
                .then(|| if is_integer(with.as_bytes()) { with.as_bytes().to_vec() } else { b"0".to_vec() }),
        }
    }
}

/// Whether a range lies in a field's name rather than in its value.
pub(super) fn is_key(field: Field<'_>, range: &Range<usize>) -> bool {
    let span = field.span();
    let is_value = span.start <= range.start && range.end <= span.end && !range.is_empty();
    !is_value && key_bytes(field.name()).is_some_and(|key| key.start <= range.start && range.end <= key.end)
}

/// Where a field's name stands.
pub(super) fn key_range(field: Field<'_>) -> Range<usize> {
    key_bytes(field.name()).unwrap_or_default()
}

/// Whether a text is in a binary format, in which lengths stand before values.
pub(super) fn is_binary(document: &Document, text: TextId) -> bool {
    !std::ptr::eq(document.scannable(text), document.text(text))
}

pub(super) fn is_varint(kind: FieldKind) -> bool {
    use BinaryNumber::{Bool, Sint, Varint, VarintSigned};
    matches!(kind, FieldKind::Binary(Bool | Sint | Varint | VarintSigned))
}

/// Whether a text is the body, or what the body was before it was compressed.
fn is_body(document: &Document, text: TextId) -> bool {
    text == TextId::BODY || document.segment(text, 0).0 == NodeId::ROOT && document.replaces_parent(text)
}

/// Whether what begins at `start` is between quotes of JSON. Parameters have quotes of their own, behind `=`.
fn is_quoted(bytes: &[u8], start: usize) -> bool {
    match start.checked_sub(1) {
        Some(quote) if bytes[quote] == b'"' => quote == 0 || bytes[quote - 1] != b'=',
        _ => false,
    }
}

/// Envelopes begin with JSON, but are none.
fn is_envelope(document: &Document, field: Field<'_>) -> bool {
    document.prefix() == "sentry"
        && document.fields_from(field.id()).skip(1).take(1).any(|member| {
            member.parent().is_some_and(|parent| parent.id() == field.id())
                && member.name() == crate::model::Name::Static("header")
        })
}

fn is_header(field: Field<'_>) -> bool {
    field.parent().is_some_and(|parent| parent.id() == NodeId::ROOT)
}

/// The key that stands before a value in JSON, without its quotes.
fn key_before(bytes: &[u8], start: usize) -> &[u8] {
    let before = bytes[..start].strip_suffix(b"\"").unwrap_or_default().trim_ascii_end();
    let key = before.strip_suffix(b":").unwrap_or_default().trim_ascii_end();
    let key = key.strip_suffix(b"\"").unwrap_or_default();
    memchr::memrchr(b'"', key).map_or(b"", |quote| &key[quote + 1..])
}

pub(super) fn is_integer(raw: &[u8]) -> bool {
    let digits = raw.strip_prefix(b"-").unwrap_or(raw);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

fn escape_json(plain: &[u8]) -> Vec<u8> {
    let mut written = Vec::with_capacity(plain.len());
    for &byte in plain {
        match byte {
            b'"' | b'\\' => written.extend_from_slice(&[b'\\', byte]),
            b'\n' => written.extend_from_slice(b"\\n"),
            b'\r' => written.extend_from_slice(b"\\r"),
            b'\t' => written.extend_from_slice(b"\\t"),
            ..b' ' => written.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => written.push(byte),
        }
    }
    written
}

/// Percent escapes for all but what RFC 3986 never reserves.
pub(super) fn escape_percent(plain: &[u8], plus_is_space: bool) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut written = Vec::with_capacity(plain.len());
    for &byte in plain {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => written.push(byte),
            b' ' if plus_is_space => written.push(b'+'),
            _ => written.extend_from_slice(&[
                b'%',
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]),
        }
    }
    written
}
