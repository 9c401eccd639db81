//! A JSON walker for these tests alone: valid JSON only, one text per opened string. The real one lives in `payload`,
//! which stands on the same floor and may not be imported.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

use crate::model::{Document, DocumentBuilder, FieldKind, Name, NodeId, SpanMap, TextId};

pub(super) fn document(prefix: &'static str, body: &str) -> Document {
    let mut walker = Walker {
        builder: DocumentBuilder::new(prefix, Bytes::from(body.to_owned())),
        text: body.as_bytes().to_vec(),
        at: 0,
        opened: Vec::new(),
    };
    walker.value(NodeId::ROOT, Name::Static(""));
    let mut queue: Vec<(TextId, NodeId, std::ops::Range<usize>, Vec<u8>)> =
        walker.opened.drain(..).map(|(node, span, raw)| (TextId::BODY, node, span, raw)).collect();
    while let Some((parent, owner, span, raw)) = queue.pop() {
        let escaped = raw.contains(&b'\\');
        let (plain, map) = match escaped {
            true => (unescape(&raw), SpanMap::Whole(span.start as u32..span.end as u32)),
            false => match STANDARD.decode(&raw) {
                Ok(plain) => (plain, SpanMap::Base64 { start: span.start as u32 }),
                Err(_) => continue,
            },
        };
        let is_json =
            serde_json::from_slice::<serde_json::Value>(&plain).is_ok_and(|value| value.is_object());
        if !escaped && !is_json {
            continue;
        }
        let text = walker.builder.open_text(
            parent,
            Bytes::from(plain.clone()),
            vec![(0..plain.len(), owner, map)],
            !escaped,
        );
        if is_json {
            walker.text = plain;
            walker.at = 0;
            let parent = match escaped {
                true => owner,
                false => {
                    let end = walker.text.len();
                    walker.builder.push(owner, Name::Static("!base64"), FieldKind::String, 0..end)
                }
            };
            walker.value(parent, Name::Static("!json"));
            queue.extend(walker.opened.drain(..).map(|(node, span, raw)| (text, node, span, raw)));
        }
    }
    walker.builder.finish()
}

struct Walker {
    builder: DocumentBuilder,
    text: Vec<u8>,
    at: usize,
    opened: Vec<(NodeId, std::ops::Range<usize>, Vec<u8>)>,
}

impl Walker {
    fn skip(&mut self) {
        while self.text.get(self.at).is_some_and(|byte| b" \t\r\n,:".contains(byte)) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> std::ops::Range<usize> {
        let start = self.at + 1;
        self.at = start;
        while self.text[self.at] != b'"' {
            self.at += if self.text[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        start..self.at - 1
    }

    fn value(&mut self, parent: NodeId, name: Name) {
        self.skip();
        let start = self.at;
        match self.text[start] {
            open @ (b'{' | b'[') => {
                let kind = if open == b'{' { FieldKind::Object } else { FieldKind::Array };
                let node = self.builder.push(parent, name, kind, start..start + 1);
                self.at += 1;
                for index in 0.. {
                    self.skip();
                    if matches!(self.text[self.at], b'}' | b']') {
                        break;
                    }
                    let name = match open {
                        b'{' => {
                            let key = self.string();
                            Name::Key { start: key.start as u32, end: key.end as u32 }
                        }
                        _ => Name::Index(index),
                    };
                    self.value(node, name);
                }
                self.at += 1;
                self.builder.close(node, self.at);
            }
            b'"' => {
                let span = self.string();
                let raw = self.text[span.clone()].to_vec();
                let escaped = raw.contains(&b'\\');
                let kind = if escaped { FieldKind::EscapedString } else { FieldKind::String };
                let node = self.builder.push(parent, name, kind, span.clone());
                if escaped || raw.len() >= 16 {
                    self.opened.push((node, span, raw));
                }
            }
            first => {
                while self.text.get(self.at).is_some_and(|byte| !b",]} \n".contains(byte)) {
                    self.at += 1;
                }
                let kind = match first {
                    b'n' => FieldKind::Null,
                    b't' | b'f' => FieldKind::Bool,
                    _ => FieldKind::Number,
                };
                self.builder.push(parent, name, kind, start..self.at);
            }
        }
    }
}

fn unescape(raw: &[u8]) -> Vec<u8> {
    let quoted = [b"\"", raw, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).map_or_else(|_| raw.to_vec(), String::into_bytes)
}
