//! What holds for every document and every choice of edits.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    model::{Document, Edit, Field, FieldKind, Replacement, TextId},
    payload::{self, Budget, OtlpEncoding, PayloadFormat, splice},
};

/// Values as telemetry has them: strings that hold documents in every layer that is opened.
fn value() -> impl Strategy<Value = Value> {
    let word = "[a-z@/+ \"\\\\é😀\u{1}]{0,12}";
    let leaf = prop_oneof![
        word.prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c\"é/]{1,3}", inner.clone(), 0..4)
                .prop_map(|map| Value::from(map.into_iter().collect::<serde_json::Map<_, _>>())),
            (inner, 0_u8..7)
                .prop_map(|(value, layer)| layered(&json!({ "in": value, "k": "vv" }).to_string(), layer)),
        ]
    })
}

fn layered(text: &str, layer: u8) -> Value {
    match layer {
        0 => text.into(),
        1 => BASE64_STANDARD.encode(text).into(),
        2 => BASE64_STANDARD_NO_PAD.encode(text).into(),
        3 => BASE64_URL_SAFE.encode(text).into(),
        4 => BASE64_URL_SAFE_NO_PAD.encode(text).into(),
        5 => text.replace('%', "%25").replace('"', "%22").replace('{', "%7B").into(),
        _ => json!({ "cut": text.chars().take(text.chars().count() * 2 / 3).collect::<String>() }),
    }
}

/// A body around a value, and how it is read.
fn bodies(value: &Value) -> Vec<(PayloadFormat, String)> {
    let text = json!({ "v": value }).to_string();
    let escaped = json!({ "v": value }).to_string().replace('/', "\\/").replace('é', "\\u00e9");
    let form: String = text
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' => char::from(byte).to_string(),
            b' ' => "+".to_owned(),
            _ => format!("%{byte:02x}"),
        })
        .collect();
    let boundary = "--edge\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n";
    let item = format!("{{\"type\":\"event\",\"length\":{}}}\n{text}\n", text.len());
    let pair = json!({ "key": "k", "value": { "stringValue": text } });
    let otlp =
        json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": [{ "attributes": [pair, pair] }] }] }] });
    vec![
        (PayloadFormat::Json, text.clone()),
        (PayloadFormat::Json, format!(" {}\n", escaped)),
        (PayloadFormat::Datadog, format!("{text}\n{text}\n\n{escaped}")),
        (PayloadFormat::Form, format!("a=b&v={form}&z={form}")),
        (PayloadFormat::Multipart, format!("{boundary}{text}\r\n{boundary}b\r\n--edge--\r\n")),
        (PayloadFormat::Sentry, format!("{{}}\n{item}{{\"type\":\"event\"}}\n{text}\n{item}")),
        (PayloadFormat::Otlp(OtlpEncoding::Json), otlp.to_string()),
    ]
}

fn read(format: PayloadFormat, body: Bytes) -> Document {
    payload::decode(&format, body, &Budget::default()).unwrap()
}

/// Leaves that hold nothing else.
fn leaves(document: &Document) -> Vec<Field<'_>> {
    let mut opened = vec![false; document.fields().len()];
    for field in document.fields() {
        if let Some(parent) = field.parent() {
            opened[parent.id().index()] = true;
        }
    }
    document.leaves().filter(|field| !opened[field.id().index()] && !field.span().is_empty()).collect()
}

fn edit(document: &Document, field: Field<'_>, with: Replacement) -> Edit {
    let (text, range) = document.plain(field.id()).unwrap_or((field.text(), field.span()));
    Edit { text, range, node: field.id(), with }
}

const STAND_IN: &str = "anon-0123.x_y";

/// What a leaf is: its path, its type and its plain value.
fn seen(field: Field<'_>) -> (String, String, Vec<u8>) {
    let kind = if field.kind() == FieldKind::EscapedString { FieldKind::String } else { field.kind() };
    (field.path().to_string(), format!("{kind:?}"), field.plain().to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn only_what_is_edited_changes_and_keeps_its_type(value in value(), choice in any::<u64>(), null in any::<bool>()) {
        for (format, body) in bodies(&value) {
            let before = read(format, Bytes::from(body.clone()));
            let chosen: Vec<(usize, Field<'_>)> = leaves(&before)
                .into_iter()
                .enumerate()
                .filter(|(at, _)| choice >> (at % 64) & 1 == 1)
                .collect();
            let with = if null { Replacement::Null } else { Replacement::Text(STAND_IN.into()) };
            let edits: Vec<Edit> = chosen.iter().map(|(_, field)| edit(&before, *field, with.clone())).collect();

            let out = splice(&before, &edits).unwrap();

            let after = read(format, out.clone());
            if edits.is_empty() {
                prop_assert_eq!(&out[..], body.as_bytes());
            }
            if matches!(format, PayloadFormat::Json | PayloadFormat::Otlp(_)) {
                prop_assert!(serde_json::from_slice::<Value>(&out).is_ok(), "{}", String::from_utf8_lossy(&out));
            }
            if null {
                // Where there is no null, there is an empty value, of which nothing more can be said.
                continue;
            }
            // In the order of paths: what has no escapes any more is opened in another text.
            let mut expected: Vec<_> = leaves(&before)
                .into_iter()
                .enumerate()
                .map(|(at, field)| {
                    let (path, kind, value) = seen(field);
                    let is_chosen = chosen.iter().any(|(chosen, _)| *chosen == at);
                    let value = match &*kind {
                        _ if !is_chosen => value,
                        "Number" => b"0".to_vec(),
                        "Bool" => b"false".to_vec(),
                        "Null" => b"null".to_vec(),
                        // What an envelope is read by stays true, whatever is asked for.
                        _ => STAND_IN.as_bytes().to_vec(),
                    };
                    (path, kind, value)
                })
                .filter(|(path, ..)| !path.ends_with("/header/length") && !path.ends_with("/header/type"))
                .collect();
            expected.sort();
            let types_stay = chosen.iter().all(|(_, field)| !field.path().as_str().ends_with("/header/type"));
            if types_stay {
                let mut found: Vec<_> = leaves(&after)
                    .into_iter()
                    .map(seen)
                    .filter(|(path, ..)| !path.ends_with("/header/length") && !path.ends_with("/header/type"))
                    .collect();
                found.sort();
                prop_assert_eq!(&found, &expected, "{}\n{}", body, String::from_utf8_lossy(&out));
            }
            // Again, the same places say the same.
            let again: Vec<Edit> = leaves(&after)
                .into_iter()
                .filter(|field| field.plain() == STAND_IN.as_bytes())
                .map(|field| edit(&after, field, Replacement::Text(STAND_IN.into())))
                .collect();
            prop_assert_eq!(splice(&after, &again).unwrap(), out);
        }
    }

    #[test]
    fn bytes_outside_of_the_edits_stay(value in value(), choice in any::<u64>()) {
        let body = json!({ "v": value, "w": [value, 1.0] }).to_string();
        let before = read(PayloadFormat::Json, Bytes::from(body.clone()));
        let chosen: Vec<Field<'_>> = leaves(&before)
            .into_iter()
            .enumerate()
            .filter_map(|(at, field)| (choice >> (at % 64) & 1 == 1).then_some(field))
            .collect();
        let edits: Vec<Edit> = chosen.iter().map(|field| edit(&before, *field, Replacement::Text(STAND_IN.into()))).collect();

        let out = splice(&before, &edits).unwrap();

        // The outermost value that holds an edit is what may change.
        let mut spans: Vec<_> = chosen.iter().map(|field| {
            let mut outer = *field;
            let mut above = Some(*field);
            while let Some(field) = above {
                if field.text() == TextId::BODY && !field.kind().is_branch() {
                    outer = field;
                }
                above = field.parent();
            }
            outer.span()
        }).collect();
        spans.sort_by_key(|span| span.start);
        spans.dedup();
        let (mut at, mut rest) = (0, &out[..]);
        for span in spans {
            let kept = &body.as_bytes()[at..span.start];
            prop_assert!(rest.starts_with(kept), "{}\n{}", body, String::from_utf8_lossy(&out));
            rest = &rest[kept.len()..];
            at = span.end;
            let next = &body.as_bytes()[at..at + 1];
            // What came has no quote that is not escaped; numbers and words end where JSON goes on.
            let mut end = 0;
            while rest[end..end + 1] != *next {
                end += if rest[end] == b'\\' { 2 } else { 1 };
            }
            rest = &rest[end..];
        }
        prop_assert_eq!(rest, &body.as_bytes()[at..]);
    }

    #[test]
    fn members_that_are_removed_leave_json(value in value(), choice in any::<u64>()) {
        let body = json!({ "v": value, "w": { "x": value } }).to_string();
        let before = read(PayloadFormat::Json, Bytes::from(body));
        let edits: Vec<Edit> = leaves(&before)
            .into_iter()
            .enumerate()
            .filter(|(at, _)| choice >> (at % 64) & 1 == 1)
            .map(|(_, field)| edit(&before, field, Replacement::Remove))
            .collect();

        let out = splice(&before, &edits).unwrap();

        prop_assert!(serde_json::from_slice::<Value>(&out).is_ok(), "{}", String::from_utf8_lossy(&out));
    }
}
