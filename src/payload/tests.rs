use std::fmt::Write as _;

use ::base64::{Engine as _, prelude::BASE64_STANDARD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::{ByteSize, Document, Field, FieldKind, TextId};

fn document(body: impl Into<Vec<u8>>) -> Document {
    within(body, Budget::default())
}

fn within(body: impl Into<Vec<u8>>, budget: Budget) -> Document {
    decode(&PayloadFormat::Json, body.into().into(), &budget).unwrap()
}

fn field<'d>(document: &'d Document, path: &str) -> Field<'d> {
    let paths = || document.fields().map(|field| field.path().to_string()).collect::<Vec<_>>();
    document
        .fields()
        .find(|field| field.path().as_str() == path)
        .unwrap_or_else(|| panic!("no {path} in {:#?}", paths()))
}

fn has(document: &Document, path: &str) -> bool {
    document.fields().any(|field| field.path().as_str() == path)
}

fn shown(document: &Document, path: &str) -> String {
    field(document, path).display().into_owned()
}

/// The part of the body that a field's value was read from.
fn origin<'b>(document: &'b Document, path: &str) -> &'b [u8] {
    &document.text(TextId::BODY)[field(document, path).body_span()]
}

fn gaps(document: &Document) -> Vec<(String, NotInspected)> {
    document.gaps().iter().map(|(node, why)| (document.field(*node).path().to_string(), *why)).collect()
}

// ---- one text

#[test]
fn a_body_becomes_fields_with_paths() {
    let body = r#" {"a":{"b":[1,-2.5e+10,true,null]},"c.d":"x","e":[],"f":{}} "#;

    let document = document(body);

    let fields: Vec<_> = document
        .leaves()
        .map(|field| (field.path().to_string(), field.kind(), field.display().into_owned()))
        .collect();
    let expect = |path: &str, kind, value: &str| (path.to_owned(), kind, value.to_owned());
    assert_eq!(
        fields,
        [
            expect("json:a/b/0", FieldKind::Number, "1"),
            expect("json:a/b/1", FieldKind::Number, "-2.5e+10"),
            expect("json:a/b/2", FieldKind::Bool, "true"),
            expect("json:a/b/3", FieldKind::Null, "null"),
            expect("json:c.d", FieldKind::String, "x"),
        ]
    );
    assert_eq!(field(&document, "json:a").raw(), br#"{"b":[1,-2.5e+10,true,null]}"#);
    assert_eq!(field(&document, "json:f").kind(), FieldKind::Object);
    assert!(document.gaps().is_empty());
}

#[test]
fn duplicate_keys_and_huge_numbers_survive() {
    let number = "9".repeat(400);

    let document = document(format!(r#"{{"a":1,"a":9007199254740993,"b":{number}}}"#));

    let values: Vec<_> = document.leaves().map(|field| field.display().into_owned()).collect();
    assert_eq!(values, ["1", "9007199254740993", &number]);
}

#[test]
fn broken_text_within_strings_is_text_all_the_same() {
    let document =
        document(b"{\"a\":\"x\xff\x00\n\x1by\",\"b\":\"\\ud83d\",\"c\":NaN,\"d\":-Infinity}".to_vec());

    assert_eq!(field(&document, "json:a").plain(), b"x\xff\x00\n\x1by");
    assert_eq!(shown(&document, "json:b"), "\u{fffd}");
    assert_eq!(field(&document, "json:d").kind(), FieldKind::Number);
    assert!(document.gaps().is_empty());
}

#[test]
fn what_follows_the_document_is_a_gap() {
    let document = document(r#"{"a":1} {"b":2}"#);

    assert_eq!(shown(&document, "json:a"), "1");
    assert_eq!(gaps(&document), [("json:".to_owned(), NotInspected::FormatBroken)]);
}

#[test]
fn a_broken_place_is_a_gap_at_the_innermost_field() {
    for (body, at) in [
        (r#"{"a":{"b":1,oops},"c":2}"#, "json:a"),
        (r#"{"a":[1,2},"c":2}"#, "json:a"),
        (r#"{"a":[1,-]}"#, "json:a"),
        (r#"{"a":[1,]}"#, "json:a"),
        (r#"{"a" 1}"#, "json:"),
        ("oops", "json:"),
        ("", "json:"),
    ] {
        let document = document(body);

        assert_eq!(gaps(&document), [(at.to_owned(), NotInspected::FormatBroken)], "{body}");
        assert_eq!(document.text(TextId::BODY), body.as_bytes());
    }
}

// PITFALLS 5
#[test]
fn a_value_that_is_cut_off_is_read_to_its_end() {
    let document = document(r#"{"a":[1,{"b":"bob@exam"#);

    assert_eq!(shown(&document, "json:a/1/b"), "bob@exam");
    assert_eq!(gaps(&document), [("json:a/1/b".to_owned(), NotInspected::FormatBroken)]);
    assert_eq!(document.field_at(TextId::BODY, 20).path().as_str(), "json:a/1/b");
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let document = document("\u{feff}{\"a\":1}");

    assert_eq!(origin(&document, "json:a"), b"1");
    assert!(document.gaps().is_empty());
}

// ---- containers

#[test]
fn base64_of_json_is_opened_as_first_party_events_have_it() {
    let metadata = json!({"rh": "0123456789abcdef", "model": "claude", "path": "a\\b"}).to_string();
    let body = json!({"events": [
        {"event_type": "E", "event_data": {"event_name": "n", "additional_metadata": BASE64_STANDARD.encode(&metadata)}},
        {"event_type": "E", "event_data": {"process": BASE64_STANDARD.encode(r#"{"rss":1}"#)}},
    ]});

    let document =
        decode(&PayloadFormat::FirstPartyEvents, body.to_string().into(), &Budget::default()).unwrap();

    let inside = "first-party-events:events/0/event_data/additional_metadata/!base64/!json";
    assert_eq!(shown(&document, &format!("{inside}/model")), "claude");
    assert_eq!(shown(&document, &format!("{inside}/path")), r"a\b");
    assert_eq!(shown(&document, "first-party-events:events/1/event_data/process/!base64/!json/rss"), "1");
    // What encodes the value decodes to it, together with at most two bytes on either side.
    let model = field(&document, &format!("{inside}/model"));
    let start = field(&document, "first-party-events:events/0/event_data/additional_metadata").span().start;
    let span = model.body_span();
    let group = start + (span.start - start) / 4 * 4..start + (span.end - start).div_ceil(4) * 4;
    let decoded = BASE64_STANDARD.decode(&document.text(TextId::BODY)[group]).unwrap();
    assert!(String::from_utf8(decoded).unwrap().contains("claude"));
    assert!(document.replaces_parent(model.text()));
}

#[test]
fn json_in_a_string_is_opened_as_statsig_has_it() {
    let env = r#"{"platform":"linux","home":"\/home\/bob","mail":"bob\u0040example.com"}"#;
    let body =
        json!({"events": [{"eventName": "tengu", "metadata": {"env": env, "empty": "{}"}}]}).to_string();

    let document = decode(&PayloadFormat::Statsig, body.into(), &Budget::default()).unwrap();

    let inside = "statsig:events/0/metadata/env/!json";
    assert_eq!(shown(&document, &format!("{inside}/platform")), "linux");
    assert_eq!(shown(&document, &format!("{inside}/home")), "/home/bob");
    assert_eq!(origin(&document, &format!("{inside}/home")), br"\\/home\\/bob");
    assert_eq!(shown(&document, &format!("{inside}/mail")), "bob@example.com");
    assert_eq!(origin(&document, &format!("{inside}/mail")), br"bob\\u0040example.com");
    assert!(has(&document, "statsig:events/0/metadata/empty/!json"));
    assert!(document.gaps().is_empty());
}

#[test]
fn percent_escapes_are_opened() {
    let document = document(
        r#"{"url":"https://x.example/?q=%7B%22mail%22%3A%22bob%40example.com%22%7D","j":"%7B%22a%22:1}"}"#,
    );

    assert!(shown(&document, "json:url/!percent").contains(r#"{"mail":"bob@example.com"}"#));
    assert_eq!(shown(&document, "json:j/!percent/!json/a"), "1");
    let opened = field(&document, "json:url/!percent");
    let at = opened.raw().iter().position(|&byte| byte == b'@').unwrap() + opened.span().start;
    let span = document.body_span(opened.text(), at..at + 1);
    assert_eq!(&document.text(TextId::BODY)[span], b"%40");
}

#[test]
fn containers_stack_in_any_order() {
    let inner = json!({"mail": "bob@example.com"}).to_string();
    let quoted = json!({"deep": inner}).to_string();
    let encoded = BASE64_STANDARD.encode(quoted).replace('=', "%3D");
    let body = json!({"a": encoded, "b": [json!({"c": [BASE64_STANDARD.encode(BASE64_STANDARD.encode(&inner))]}).to_string()]});

    let document = document(body.to_string());

    let a = if encoded.contains('%') { "json:a/!percent/!base64" } else { "json:a/!base64" };
    assert_eq!(shown(&document, &format!("{a}/!json/deep/!json/mail")), "bob@example.com");
    assert_eq!(shown(&document, "json:b/0/!json/c/0/!base64/!base64/!json/mail"), "bob@example.com");
}

#[test]
fn base64_with_escaped_slashes_is_opened() {
    let encoded = BASE64_STANDARD.encode(r#"{"k":"???>>>"}"#);
    assert!(encoded.contains('/'));

    let document = document(format!(r#"{{"a":"{}"}}"#, encoded.replace('/', r"\/")));

    assert_eq!(shown(&document, "json:a/!base64/!json/k"), "???>>>");
}

// PITFALLS 5
#[test]
fn containers_that_are_cut_off_are_opened_as_far_as_they_go() {
    let text = r#"{"first":"bob@example.com","second":"carol@example.net"}"#;
    let encoded = BASE64_STANDARD.encode(text);
    let body = json!({"a": &encoded[..58], "b": &text[..40], "c": &format!("{}…", &text[..40])});

    let document = document(body.to_string());

    assert_eq!(shown(&document, "json:a/!base64/!json/first"), "bob@example.com");
    assert_eq!(shown(&document, "json:b/!json/second"), "car");
    assert_eq!(shown(&document, "json:c/!json/second"), "car…");
    let broken = |path: &str| (path.to_owned(), NotInspected::FormatBroken);
    assert!(gaps(&document).contains(&broken("json:a/!base64/!json/second")));
    assert!(gaps(&document).contains(&broken("json:b/!json/second")));
}

#[test]
fn prose_that_begins_with_a_bracket_is_no_json() {
    for text in [
        "[INFO] it\nworks",
        "[2024-01-01] \"it\"",
        "[1] see \"below\"",
        "{template} \\ x",
        "[\"a\"] is \"deprecated\"",
    ] {
        let document = document(json!({"a": text}).to_string());

        assert_eq!(shown(&document, "json:a"), text);
        assert!(!has(&document, "json:a/!json"), "{text}");
        assert!(document.gaps().is_empty(), "{text}");
    }
}

#[test]
fn broken_json_in_a_string_keeps_the_members_before_the_break() {
    let document = document(json!({"a": "{\"k\":1}...(truncated)", "b": "[{\"k\":1}, oops"}).to_string());

    assert_eq!(shown(&document, "json:a/!json/k"), "1");
    assert_eq!(shown(&document, "json:b/!json/0/k"), "1");
}

#[test]
fn escaped_keys_have_a_plain_copy() {
    let document = document(r#"{"bob\u0040example.com":"x\ny","plain":1}"#);

    let (text, bytes) = document.texts().find(|(_, bytes)| *bytes == b"bob@example.com").unwrap();
    assert_eq!(document.field_at(text, 3).path().as_str(), "json:bob@example.com");
    assert_eq!(document.body_span(text, 0..bytes.len()), 2..22);
    assert_eq!(field(&document, "json:bob@example.com").plain(), b"x\ny");
}

#[test]
fn plain_copies_do_not_run_into_one_another() {
    let document = document(r#"{"a":"x\ty","b":"q","c":"\/z"}"#);

    let (text, bytes) = document.texts().nth(1).unwrap();
    assert_eq!(bytes, b"x\ty\n/z");
    assert_eq!(document.field_at(text, 1).path().as_str(), "json:a");
    assert_eq!(document.field_at(text, 4).path().as_str(), "json:c");
    assert_eq!(document.body_span(text, 4..5), 25..27);
}

#[test]
fn an_escape_at_the_end_of_a_value_maps_as_a_whole() {
    let document = document(r#"{"a":"x\u0040","b":"%40%41"}"#);

    let (text, bytes) = document.texts().nth(1).unwrap();
    assert_eq!(bytes, b"x@");
    assert_eq!(document.body_span(text, 1..2), 7..13);
    assert_eq!(document.body_span(text, 0..2), 6..13);
    assert_eq!(origin(&document, "json:b/!percent"), b"%40%41");
}

// ---- budgets

#[test]
fn a_pit_of_brackets_costs_no_stack_and_is_a_gap() {
    let deep = "[".repeat(1_000_000);
    let closed = format!("{{\"a\":{}1{},\"b\":2}}", "[".repeat(500), "]".repeat(500));

    let (deep, closed) = (document(deep), document(closed));

    assert_eq!(deep.gaps()[0].1, NotInspected::NestingBudget);
    assert_eq!(closed.gaps().len(), 1);
    assert_eq!(shown(&closed, "json:b"), "2");
}

#[test]
fn too_many_nodes_are_a_gap() {
    let document = within(r#"{"a":[1,2,3,4,5],"b":"x\ty"}"#, Budget { nodes: 4, ..Budget::default() });

    assert_eq!(document.fields().len(), 4);
    assert_eq!(gaps(&document), [("json:a".to_owned(), NotInspected::NestingBudget)]);
}

#[test]
fn too_many_containers_are_a_gap() {
    let mut value = json!({"mail": "bob@example.com"});
    for _ in 0..5 {
        value = json!({"in": value.to_string()});
    }
    let body = value.to_string();

    let (all, some) = (document(&*body), within(&*body, Budget { containers: 2, ..Budget::default() }));

    let deepest = format!("json:{}/mail", ["in/!json"; 5].join("/"));
    assert_eq!(shown(&all, &deepest), "bob@example.com");
    assert_eq!(gaps(&some), [("json:in/!json/in/!json/in".to_owned(), NotInspected::NestingBudget)]);
}

#[test]
fn opened_texts_stay_within_their_budget() {
    let limit = ByteSize::kibibytes(64);
    let budget = Budget { opened_bytes: limit, ..Budget::default() };
    let strings =
        [r"\n".repeat(500_000), BASE64_STANDARD.encode("word ".repeat(100_000)), "%41".repeat(300_000)];
    for string in strings {
        let document = within(format!(r#"{{"a":"{string}"}}"#), budget);

        let opened: usize = document.texts().skip(1).map(|(_, bytes)| bytes.len()).sum();
        assert!(opened <= limit.as_usize());
        assert_eq!(gaps(&document), [("json:a".to_owned(), NotInspected::NestingBudget)]);
    }
}

// ---- against an oracle

/// A text for a value, in which some characters are written as escapes that nobody needs.
fn write(value: &Value, out: &mut String) {
    let quote = |text: &str, out: &mut String| {
        out.push('"');
        for (at, char) in text.chars().enumerate() {
            match char {
                '"' | '\\' => _ = write!(out, "\\{char}"),
                '/' if at % 2 == 0 => out.push_str("\\/"),
                char if char < ' ' || (char as usize + at).is_multiple_of(5) => {
                    for unit in char.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                char => out.push(char),
            }
        }
        out.push('"');
    };
    match value {
        Value::Array(list) => {
            out.push('[');
            for (at, member) in list.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { " ,\n" });
                write(member, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push_str("{ ");
            for (at, (name, member)) in map.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                quote(name, out);
                out.push_str(":\t");
                write(member, out);
            }
            out.push('}');
        }
        Value::String(text) => quote(text, out),
        scalar => _ = write!(out, "{scalar}"),
    }
}

/// Path and value of everything in a value; branches have no value.
fn flatten(value: &Value, path: &mut Vec<String>, out: &mut Vec<(String, Option<String>)>) {
    let own = format!("json:{}", path.join("/"));
    let mut below = |name: String, member: &Value, out: &mut Vec<(String, Option<String>)>| {
        path.push(name.replace('~', "~0").replace('/', "~1"));
        flatten(member, path, out);
        path.pop();
    };
    match value {
        Value::Array(list) => {
            out.push((own, None));
            list.iter().enumerate().for_each(|(at, member)| below(at.to_string(), member, out));
        }
        Value::Object(map) => {
            out.push((own, None));
            map.iter().for_each(|(name, member)| below(name.clone(), member, out));
        }
        Value::String(text) => out.push((own, Some(text.clone()))),
        scalar => out.push((own, Some(scalar.to_string()))),
    }
}

fn flattened(document: &Document) -> Vec<(String, Option<String>)> {
    document
        .fields_in(TextId::BODY)
        .map(|field| {
            let value = (!field.kind().is_branch()).then(|| field.display().into_owned());
            (field.path().to_string(), value)
        })
        .collect()
}

/// Path and bytes of everything in the body; branches without bytes.
fn raw(document: &Document) -> Vec<(String, Vec<u8>)> {
    document
        .fields_in(TextId::BODY)
        .map(|field| {
            let raw = if field.kind().is_branch() { &[][..] } else { field.raw() };
            (field.path().to_string(), raw.to_vec())
        })
        .collect()
}

/// What `bytes` read as when they are taken for the inside of a JSON string, so many times.
fn unquote(bytes: &[u8], times: usize) -> Vec<u8> {
    (0..times).fold(bytes.to_vec(), |bytes, _| {
        let quoted = [b"\"", &bytes[..], b"\""].concat();
        serde_json::from_slice::<String>(&quoted).unwrap().into_bytes()
    })
}

/// Holds of every document.
pub(super) fn check(document: &Document) -> Result<(), TestCaseError> {
    let body = document.text(TextId::BODY).len();
    for (text, bytes) in document.texts() {
        let mut start = 0;
        for field in document.fields_in(text) {
            let span = field.span();
            prop_assert!(field.text() == text && span.start >= start && span.start <= span.end);
            prop_assert!(span.end <= bytes.len());
            start = span.start;
            let in_body = field.body_span();
            prop_assert!(in_body.start <= in_body.end && in_body.end <= body, "{in_body:?} {}", field.path());
            if field.kind().is_text() && !span.is_empty() {
                let found = document.field_at(text, span.start);
                prop_assert!(found.path().as_str().starts_with(field.path().as_str()));
            }
            field.display();
        }
        for at in 0..bytes.len() {
            document.field_at(text, at);
            // The line breaks between segments came from nowhere.
            let is_separator = !document.segment(text, at).1.contains(&at);
            let in_body = document.body_span(text, at..at + 1);
            prop_assert!(
                (in_body.start < in_body.end) != is_separator && in_body.end <= body,
                "{at} of {text:?}: {in_body:?}"
            );
        }
    }
    Ok(())
}

fn any_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z@/~%=\"\\\\\n\u{0}é😀]{0,40}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[ -~]{16,40}".prop_map(|text| Value::from(BASE64_STANDARD.encode(text))),
    ];
    scalar.prop_recursive(5, 60, 6, |inner| {
        let name = "[a-z~/@\"\\\\é😀]{0,12}";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name, inner.clone()), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
            inner.prop_map(|value| Value::from(value.to_string())),
        ]
    })
}

proptest! {
    #[test]
    fn a_whole_document_reads_as_serde_reads_it(value in any_value()) {
        let mut body = String::new();
        write(&value, &mut body);
        let oracle: Value = serde_json::from_str(&body).unwrap();
        let (mut written, mut expected) = (Vec::new(), Vec::new());
        flatten(&value, &mut Vec::new(), &mut written);
        flatten(&oracle, &mut Vec::new(), &mut expected);

        let document = document(&*body);

        let found = flattened(&document);
        prop_assert_eq!(&found, &written);
        // serde_json rounds the last digit of some fractions.
        let without_numbers = |list: &[(String, Option<String>)]| -> Vec<_> {
            let is_number = |text: &String| text.parse::<f64>().is_ok();
            list.iter().map(|(path, value)| (path.clone(), value.clone().filter(|text| !is_number(text)))).collect()
        };
        prop_assert_eq!(without_numbers(&found), without_numbers(&expected));
        for field in document.leaves().filter(|field| field.kind() == FieldKind::String) {
            let path = field.path();
            if !path.as_str().contains("!base64") && !path.as_str().contains("!percent") {
                let levels = path.as_str().matches("!json").count();
                prop_assert_eq!(unquote(&document.text(TextId::BODY)[field.body_span()], levels), field.raw());
            }
        }
        let broken_body = document.gaps().iter().any(|(node, _)| document.field(*node).text() == TextId::BODY);
        prop_assert!(!broken_body);
        check(&document)?;
    }

    // PITFALLS 5
    #[test]
    fn a_document_that_is_cut_off_reads_as_a_prefix(value in any_value(), cut in any::<prop::sample::Index>()) {
        let mut body = String::new();
        write(&json!({"root": value}), &mut body);
        let end = cut.index(body.len());
        let whole = raw(&document(&*body));

        let document = document(&body.as_bytes()[..end]);

        // A body without a single field has a root of its bytes.
        let mut part = if end == 0 { Vec::new() } else { raw(&document) };
        if let Some((path, last)) = part.pop() {
            let (expected_path, expected) = &whole[part.len()];
            prop_assert_eq!(&path, expected_path);
            prop_assert!(expected.starts_with(&last));
        }
        prop_assert_eq!(&part[..], &whole[..part.len()]);
        prop_assert_eq!(document.gaps()[0].1, NotInspected::FormatBroken);
        check(&document)?;
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(body: Vec<u8>) {
        check(&document(body))?;
    }

    #[test]
    fn arbitrary_text_of_json_does_no_harm(body in r#"[\[\]{}",:\\/u0-9a-fn%= \-+.]{0,80}"#) {
        let budget = Budget { nodes: 40, depth: 5, containers: 3, opened_bytes: ByteSize::bytes(400) };
        check(&document(&*body))?;
        check(&within(&*body, budget))?;
        check(&document(json!({"a": body, "b": [BASE64_STANDARD.encode(&body)]}).to_string()))?;
    }
}

#[test]
fn paths_are_the_same_in_any_order() {
    let body = br#"{"a":[{"":1,"b/~c":"{\"d\":[2,{\"e\\u0000\":3}]}"},4],"f":{"g":{}},"h":[[5]]}"#;
    let document = decode(&PayloadFormat::Json, body.as_slice().into(), &Budget::default());
    let document = document.unwrap();
    let ids: Vec<crate::model::NodeId> = document.fields().map(|field| field.id()).collect();
    let alone: Vec<crate::model::FieldPath> = ids.iter().map(|id| document.field(*id).path()).collect();
    let mut writer = crate::model::PathWriter::new(&document);
    // Steps that are prime to the number of fields visit each of them, in many orders.
    let orders = (1..ids.len()).flat_map(|step| (0..=ids.len()).map(move |at| at * step));

    for at in orders.map(|at| at % ids.len()) {
        assert_eq!(writer.path(document.field(ids[at])), alone[at].as_str());
    }

    assert!(alone.iter().any(|path| path.as_str() == "json:a/0/b~1~0c/!json/d/1/e\\u{0}"), "{alone:?}");
}
