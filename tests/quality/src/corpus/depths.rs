//! How deep a value stands: alone, in a sentence, behind escapes, in JSON in a string, cut off, in base64, in a query.

use super::{Planted, Random};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// A JSON document in base64, as in an event's metadata.
    Base64,
    /// As above in the alphabet for URLs, without padding.
    Base64Url,
    /// JSON in a string that ends right behind the value.
    Cut,
    /// Characters of the value are written as JSON escapes.
    Escaped,
    /// JSON in a string.
    Nested,
    /// JSON in a string in JSON in a string.
    NestedTwice,
    /// A query of a URL.
    Percent,
    /// Nothing around it.
    Plain,
    /// In a sentence.
    Prose,
}

pub const DEPTHS: &[Depth] = &[
    Depth::Plain,
    Depth::Prose,
    Depth::Escaped,
    Depth::Nested,
    Depth::Cut,
    Depth::Base64,
    Depth::NestedTwice,
    Depth::Percent,
    Depth::Base64Url,
];

impl Depth {
    pub fn name(self) -> &'static str {
        match self {
            Self::Base64 => "base64",
            Self::Base64Url => "base64url",
            Self::Cut => "cut",
            Self::Escaped => "escaped",
            Self::Nested => "nested",
            Self::NestedTwice => "nested-twice",
            Self::Percent => "percent",
            Self::Plain => "plain",
            Self::Prose => "prose",
        }
    }

    /// The value of a string field that holds `planted` this deep.
    pub fn wrap(self, random: &mut Random, planted: &Planted) -> String {
        let text = &planted.text;
        let key = random.pick(&["note", "data", "argument", "detail", "x"]);
        match self {
            Self::Plain | Self::Escaped => text.clone(),
            Self::Prose => in_prose(random, text),
            Self::Nested => {
                let prose = in_prose(random, text);
                format!(
                    r#"{{"kind":"{}","{key}":{},"n":{}}}"#,
                    random.word(),
                    quote(&prose),
                    random.below(99)
                )
            }
            Self::NestedTwice => {
                let inner = format!(r#"{{"{key}":{}}}"#, quote(text));
                format!(r#"{{"outer":{},"ok":true}}"#, quote(&inner))
            }
            Self::Cut => {
                let quoted = quote(text);
                format!(r#"{{"kind":"{}","{key}":{}"#, random.word(), &quoted[..quoted.len() - 1])
            }
            Self::Base64 => base64(document_of(random, key, text).as_bytes(), false),
            Self::Base64Url => base64(document_of(random, key, text).as_bytes(), true),
            Self::Percent => {
                format!("https://app.example.test/cb?state={}&{key}={}&n=1", random.hex(8), percent(text))
            }
        }
    }
}

fn document_of(random: &mut Random, key: &str, text: &str) -> String {
    format!(r#"{{"model":"claude-x","count":{},"{key}":{},"ok":true}}"#, random.below(100), quote(text))
}

fn in_prose(random: &mut Random, text: &str) -> String {
    let (before, after) = (random.range(1, 6), random.range(1, 6));
    let (before, after) = (random.words(before), random.words(after));
    match random.below(9) {
        0 => format!("{before} {text} {after}"),
        1 => format!("{before}: {text}\n{after}"),
        2 => format!("{before} ({text}) {after}."),
        3 => format!("{before} \"{text}\", {after}"),
        4 => format!("{before} {text}. {after}"),
        5 => format!("{before}\n{text}\n{after}"),
        6 => format!("{before} '{text}' {after}"),
        7 => format!("- {before}\n- {text}\n"),
        _ => format!("{before} `{text}` {after}"),
    }
}

/// A JSON string.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

/// A JSON string in which `@`, `/`, `+`, `-` and one character in eight are escaped.
pub fn quote_hard(random: &mut Random, text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        let always = matches!(char, '"' | '\\' | '\n' | '\t' | '\r' | '@' | '+' | '<' | '>' | '&' | '\'');
        match char {
            '/' => out.push_str("\\/"),
            char if (always || random.below(8) == 0) && u32::from(char) < 0x1_0000 => {
                out.push_str(&format!("\\u{:04x}", u32::from(char)));
            }
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

/// Percent escapes for everything that is not unreserved.
pub fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

pub fn base64(bytes: &[u8], for_urls: bool) -> String {
    let digits: &[u8; 64] = if for_urls {
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    } else {
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    };
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            match place <= group.len() {
                true => out.push(char::from(digits[(bits >> (18 - 6 * place) & 63) as usize])),
                false if for_urls => {}
                false => out.push('='),
            }
        }
    }
    out
}
