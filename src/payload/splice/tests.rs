use base64::{
    Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_STANDARD_NO_PAD, prelude::BASE64_URL_SAFE_NO_PAD,
};
use bytes::Bytes;

use crate::{
    model::{Document, Edit, Field, FieldKind, Replacement},
    payload::{
        self, Budget, Content, OtlpEncoding, PayloadFormat, Signal, StreamMessage, splice,
        splice::{SpliceError, Surroundings},
        splice_within,
    },
};

fn read(format: PayloadFormat, body: &[u8]) -> Document {
    payload::decode(&format, Bytes::copy_from_slice(body), &Budget::default()).unwrap()
}

fn text(with: &str) -> Replacement {
    Replacement::Text(with.into())
}

/// An edit of a field's whole value, as a field rule names it: in the plain copy, if there is one.
fn whole(document: &Document, field: Field<'_>, with: Replacement) -> Edit {
    let (text, range) = document.plain(field.id()).unwrap_or((field.text(), field.span()));
    Edit { text, range, node: field.id(), with }
}

fn at<'d>(document: &'d Document, path: &str) -> Field<'d> {
    document.fields().find(|field| field.path().as_str() == path).unwrap_or_else(|| {
        let paths: Vec<_> = document.fields().map(|field| field.path().to_string()).collect();
        panic!("{path} is none of {paths:?}")
    })
}

/// Edits the fields at these paths.
fn edited(document: &Document, edits: &[(&str, Replacement)]) -> String {
    let edits: Vec<Edit> =
        edits.iter().map(|(path, with)| whole(document, at(document, path), with.clone())).collect();
    String::from_utf8(splice(document, &edits).unwrap().to_vec()).unwrap()
}

/// An edit of each place where `needle` stands in the most decoded texts.
fn found(document: &Document, needle: &str, with: &str) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (id, bytes) in document.texts() {
        for start in memchr::memmem::find_iter(bytes, needle.as_bytes()) {
            let node = document.field_at(id, start).id();
            edits.push(Edit { text: id, range: start..start + needle.len(), node, with: text(with) });
        }
    }
    edits
}

fn cleaned(format: PayloadFormat, body: &str, needle: &str, with: &str) -> String {
    let document = read(format, body.as_bytes());
    String::from_utf8(splice(&document, &found(&document, needle, with)).unwrap().to_vec()).unwrap()
}

#[test]
fn no_edit_copies_nothing() {
    let body = Bytes::from_static(b" {\"a\" : 1.0e0, \"a\":[ ] }\n");
    let document = payload::decode(&PayloadFormat::Json, body.clone(), &Budget::default()).unwrap();

    assert_eq!(splice(&document, &[]).unwrap().as_ptr(), body.as_ptr());
}

#[test]
fn a_value_keeps_its_type() {
    let document =
        read(PayloadFormat::Json, br#"{"s":"x","n":12.5,"b":true,"z":null,"l":["x",1],"o":{"p":"q"}}"#);
    let with = || text("REDACTED");
    let paths = ["s", "n", "b", "z", "l/0", "l/1", "o"].map(|path| format!("json:{path}"));
    let edits: Vec<_> = paths.iter().map(|path| (path.as_str(), with())).collect();

    let out = edited(&document, &edits);

    assert_eq!(out, r#"{"s":"REDACTED","n":0,"b":false,"z":null,"l":["REDACTED",0],"o":{}}"#);
    assert_eq!(edited(&document, &[("json:n", text("7"))]).find("\"n\":7,"), Some(9));
}

#[test]
fn a_null_stands_for_a_value_with_its_quotes() {
    let document = read(PayloadFormat::Json, br#"{"s":"x\n","n":12,"l":["x"]}"#);

    let out = edited(
        &document,
        &[("json:s", Replacement::Null), ("json:n", Replacement::Null), ("json:l/0", Replacement::Null)],
    );

    assert_eq!(out, r#"{"s":null,"n":null,"l":[null]}"#);
}

#[test]
fn a_removed_member_takes_one_comma_with_it() {
    let body = br#"{ "a" : 1, "b":"x" , "c":{"d":[1,2]} }"#;
    let document = read(PayloadFormat::Json, body);
    let without = |paths: &[&str]| {
        let edits: Vec<_> = paths.iter().map(|path| (*path, Replacement::Remove)).collect();
        edited(&document, &edits)
    };

    assert_eq!(without(&["json:a"]), r#"{ "b":"x" , "c":{"d":[1,2]} }"#);
    assert_eq!(without(&["json:b"]), r#"{ "a" : 1, "c":{"d":[1,2]} }"#);
    assert_eq!(without(&["json:c"]), r#"{ "a" : 1, "b":"x" }"#);
    assert_eq!(without(&["json:c", "json:b"]), r#"{ "a" : 1 }"#);
    assert_eq!(without(&["json:a", "json:c", "json:b"]), "{  }");
    assert_eq!(without(&["json:c/d", "json:a"]), r#"{ "b":"x" , "c":{} }"#);
    // A list keeps its places.
    assert_eq!(without(&["json:c/d/0"]), r#"{ "a" : 1, "b":"x" , "c":{"d":[0,2]} }"#);
}

#[test]
fn every_layer_is_written_again_as_it_was() {
    let inner = r#"{"who":"bob@example.com","more":"aé\"b"}"#;
    let quoted = serde_json::to_string(inner).unwrap();
    let twice = serde_json::to_string(&format!("{{\"a\":{quoted}}}")).unwrap();
    let (padded, bare) = (BASE64_STANDARD.encode(inner), BASE64_STANDARD_NO_PAD.encode(inner));
    let url_safe = BASE64_URL_SAFE_NO_PAD.encode(format!("{inner}??>>~~"));
    for layer in [
        quoted.clone(),
        twice,
        format!("\"{padded}\""),
        format!("\"{bare}\""),
        format!("\"{url_safe}\""),
        serde_json::to_string(&format!("{{\"x\":\"{padded}\"}}")).unwrap(),
        quoted.replace('@', "\\u0040"),
        "\"mail=bob%40example.com&x=%7e\"".to_owned(),
    ] {
        let body = format!("{{\"before\":1, \"v\" : {layer} ,\"after\":[1.0]}}");

        let out = cleaned(PayloadFormat::Json, &body, "bob@example.com", "REDACTED.mail");

        let document = read(PayloadFormat::Json, out.as_bytes());
        assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok(), "{out}");
        assert!(
            out.starts_with("{\"before\":1, \"v\" : \"") && out.ends_with("\" ,\"after\":[1.0]}"),
            "{out}"
        );
        let texts: Vec<_> =
            document.texts().map(|(_, text)| String::from_utf8_lossy(text).into_owned()).collect();
        assert!(texts.iter().any(|text| text.contains("REDACTED.mail")), "{layer}: {texts:?}");
        assert!(!texts.iter().any(|text| text.contains("bob@example")), "{texts:?}");
        let before = read(PayloadFormat::Json, body.as_bytes());
        assert_eq!(
            before.fields().map(|field| (field.path(), field.kind())).collect::<Vec<_>>(),
            document.fields().map(|field| (field.path(), field.kind())).collect::<Vec<_>>()
        );
    }
}

#[test]
fn base64_stays_as_it_was_before_the_edit_and_keeps_its_padding() {
    let inner = r#"{"id":"0123456789","who":"bob"}"#;
    for (encoded, pads) in
        [(BASE64_STANDARD.encode(inner), true), (BASE64_STANDARD_NO_PAD.encode(inner), false)]
    {
        for with in ["x", "xx", "xxx", "xxxx"] {
            let out = cleaned(PayloadFormat::Json, &format!("{{\"v\":\"{encoded}\"}}"), "bob", with);

            let value =
                serde_json::from_str::<serde_json::Value>(&out).unwrap()["v"].as_str().unwrap().to_owned();
            let engine = if pads { BASE64_STANDARD } else { BASE64_STANDARD_NO_PAD };
            assert_eq!(engine.decode(&value).unwrap(), inner.replace("bob", with).as_bytes());
            assert_eq!(value[..28], encoded[..28]);
        }
    }
}

// PITFALLS 5
#[test]
fn an_edit_beside_a_lone_surrogate_leaves_it() {
    let body = r#"{"a":"x\ud83d bob \ude00","b":"\u00e9bob\u00e9"}"#;

    let out = cleaned(PayloadFormat::Json, body, "bob", "anon-1");

    assert_eq!(out, body.replace("bob", "anon-1"));
}

// PITFALLS 5
#[test]
fn a_document_that_is_cut_off_stays_cut_off_where_it_was() {
    let inner = r#"{"a":"bob","b":"and then bo"#;
    let body = format!("{{\"v\":{}}}", serde_json::to_string(inner).unwrap());

    assert_eq!(cleaned(PayloadFormat::Json, &body, "bob", "anon"), body.replace("bob", "anon"));
}

#[test]
fn the_outer_of_two_edits_stands_for_both() {
    let document = read(PayloadFormat::Json, br#"{"v":"{\"mail\":\"bob@x.io\"}","w":"bob@x.io"}"#);
    let mut edits = found(&document, "bob@x.io", "MAIL");
    edits.extend(found(&document, "bob", "NAME"));
    edits.extend(found(&document, "x.io\"", "HOST"));

    let out = splice(&document, &edits).unwrap();
    edits.push(whole(&document, at(&document, "json:v"), text("ALL")));
    let all = splice(&document, &edits).unwrap();

    assert!(!String::from_utf8_lossy(&out).contains("x.io"));
    assert_eq!(all, br#"{"v":"ALL","w":"MAIL}"#[..]);
}

#[test]
fn what_a_mask_keeps_stays_as_it_is_written() {
    let document = read(PayloadFormat::Json, br#"{"v":"\u00e9a\/bob\ud83d\ude00 z"}"#);
    let edit = whole(&document, at(&document, "json:v"), text("éa/xxx😀 z"));

    assert_eq!(splice(&document, &[edit]).unwrap(), br#"{"v":"\u00e9a\/xxx\ud83d\ude00 z"}"#[..]);
}

#[test]
fn keys_are_edited_like_values() {
    let document = read(PayloadFormat::Json, br#"{"bob@x.io":1,"a\tbob@x.io":{"c":2}}"#);

    let out = splice(&document, &found(&document, "bob@x.io", "anon")).unwrap();

    assert_eq!(out, br#"{"anon":1,"a\tanon":{"c":2}}"#[..]);
}

// A name has no null, and what was found in it must not stay because its value went.
#[test]
fn a_name_that_is_to_be_null_becomes_a_word_and_its_value_stays() {
    let body = r#"{"bob@x.io":{"n":1},"\u0062ob@y.io":"v","l":[{"a bob":2}]}"#;
    let document = read(PayloadFormat::Json, body.as_bytes());
    let with = |with: Replacement| {
        let edits: Vec<Edit> =
            found(&document, "bob", "").into_iter().map(|edit| Edit { with: with.clone(), ..edit }).collect();
        assert_eq!(edits.len(), 3);
        String::from_utf8(splice(&document, &edits).unwrap().to_vec()).unwrap()
    };

    assert_eq!(
        with(Replacement::Null),
        r#"{"REDACTED@x.io":{"n":1},"REDACTED@y.io":"v","l":[{"a REDACTED":2}]}"#
    );
    assert_eq!(with(Replacement::Remove), r#"{"l":[{}]}"#);
    let form = read(PayloadFormat::Form, b"a=1&b%6fb=2");
    let edits: Vec<Edit> =
        found(&form, "bob", "").into_iter().map(|edit| Edit { with: Replacement::Null, ..edit }).collect();
    assert_eq!(splice(&form, &edits).unwrap(), "a=1&REDACTED=2");
}

#[test]
fn a_text_that_is_to_be_nothing_becomes_a_word() {
    let document = read(PayloadFormat::Text, b"said bob");
    for with in [Replacement::Null, Replacement::Remove] {
        let edits = vec![Edit { with, ..found(&document, "bob", "").remove(0) }];

        assert_eq!(splice(&document, &edits).unwrap(), "REDACTED");
    }
}

#[test]
fn forms_and_queries_are_escaped_as_they_are() {
    let document = payload::query("a=b%20c&m=bob%40x.io&e=&z=1+2", &Budget::default());
    let mail = whole(&document, at(&document, "query:m"), text("a b/é"));

    assert_eq!(splice(&document, &[mail]).unwrap(), b"a=b%20c&m=a+b%2F%C3%A9&e=&z=1+2"[..]);
    assert_eq!(splice(&document, &found(&document, "bob", "x")).unwrap(), b"a=b%20c&m=x%40x.io&e=&z=1+2"[..]);
    assert_eq!(edited(&document, &[("query:m", Replacement::Remove)]), "a=b%20c&e=&z=1+2");
    assert_eq!(edited(&document, &[("query:z", Replacement::Remove)]), "a=b%20c&m=bob%40x.io&e=");
    assert_eq!(edited(&document, &[("query:a", Replacement::Null)]), "a=&m=bob%40x.io&e=&z=1+2");
}

#[test]
fn base64_in_a_form_is_escaped_again() {
    let encoded = BASE64_STANDARD.encode(r#"{"who":"bob","x":"??>>??>>"}"#);
    let body = format!("data={}&ip=1", encoded.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D"));

    let out = cleaned(PayloadFormat::Form, &body, "bob", "anonymous");

    let value = out.strip_prefix("data=").unwrap().strip_suffix("&ip=1").unwrap();
    assert!(!value.contains(['+', '/', '=']), "{value}");
    let plain = value.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    let inner = String::from_utf8(BASE64_STANDARD.decode(plain).unwrap()).unwrap();
    assert_eq!(inner, r#"{"who":"anonymous","x":"??>>??>>"}"#);
}

#[test]
fn lines_and_parts_keep_their_frames() {
    let lines = "{\"a\":\"bob\"}\n\n {\"a\":2}\r\n{\"b\":\"bob\"}";
    let parts = "--x\r\nContent-Disposition: form-data; name=\"who\"\r\n\r\nbob\r\n--x\r\nContent-Disposition: \
                 form-data; name=\"f\"; filename=\"bob.json\"\r\n\r\n{\"n\":\"bob\"}\r\n--x--\r\n";

    assert_eq!(cleaned(PayloadFormat::Datadog, lines, "bob", "a-b"), lines.replace("bob", "a-b"));
    assert_eq!(cleaned(PayloadFormat::Multipart, parts, "bob", "a-b"), parts.replace("bob", "a-b"));
}

#[test]
fn tags_are_edited_in_their_list() {
    let body = r#"[{"ddtags":"user:bob,env:prod,host:a\/bob","x":1}]"#;
    let document = read(PayloadFormat::Datadog, body.as_bytes());

    assert_eq!(cleaned(PayloadFormat::Datadog, body, "bob", "anon"), body.replace("bob", "anon"));
    assert_eq!(
        edited(&document, &[("datadog:0/ddtags/!tags/env", Replacement::Remove)]),
        r#"[{"ddtags":"user:bob,host:a\/bob","x":1}]"#
    );
}

#[test]
fn an_envelope_says_the_new_length_where_it_said_one() {
    let payload = r#"{"user":{"email":"bob@example.com"}}"#;
    let body = format!(
        "{{\"dsn\":\"x\"}}\n{{\"type\":\"event\",\"length\":{}}}\n{payload}\n{{\"type\":\"event\"}}\n{payload}\n",
        payload.len()
    );

    let out = cleaned(PayloadFormat::Sentry, &body, "bob@example.com", "m");

    let short = payload.replace("bob@example.com", "m");
    let expected = format!(
        "{{\"dsn\":\"x\"}}\n{{\"type\":\"event\",\"length\":{}}}\n{short}\n{{\"type\":\"event\"}}\n{short}\n",
        short.len()
    );
    assert_eq!(out, expected);
}

#[test]
fn compressed_values_are_compressed_again() {
    use std::io::{Read as _, Write as _};
    let pack = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let inner = r#"{"who":"bob@example.com"}"#;
    let body = format!("{{\"v\":\"{}\",\"w\":1}}", BASE64_STANDARD.encode(pack(inner)));

    let out = cleaned(PayloadFormat::Json, &body, "bob@example.com", "anon");
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    let mut plain = String::new();
    let packed = BASE64_STANDARD.decode(value["v"].as_str().unwrap()).unwrap();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut plain).unwrap();
    // A whole body, too.
    let document = read(PayloadFormat::Statsig, &pack(inner));
    let whole = splice(&document, &found(&document, "bob@example.com", "anon")).unwrap();
    let mut again = String::new();
    flate2::read::GzDecoder::new(&whole[..]).read_to_string(&mut again).unwrap();

    assert_eq!(plain, r#"{"who":"anon"}"#);
    assert_eq!(again, plain);
}

#[test]
fn what_was_not_read_to_its_end_is_not_written() {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&r#"{"who":"bob@example.com"},"#.repeat(500).into_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    let document = read(PayloadFormat::Statsig, &packed[..packed.len() - 8]);
    let edits = found(&document, "bob@example.com", "anon");

    assert!(!edits.is_empty());
    assert_eq!(splice(&document, &edits), Err(SpliceError::NotWhole));
}

#[test]
fn header_lines_stay_where_they_are() {
    let fields: [(&str, &[u8]); 3] =
        [("x-user", b"bob@x.io"), ("cookie", b"a=1; who=bob"), ("x-meta-bin", b"eyJ3aG8iOiJib2IifQ")];
    let document = payload::headers(fields.into_iter(), &Budget::default());

    let out = splice(&document, &found(&document, "bob", "an")).unwrap();
    let removed = edited(
        &document,
        &[("header:x-user", Replacement::Remove), ("header:cookie/who", Replacement::Remove)],
    );

    assert_eq!(out, b"x-user: an@x.io\ncookie: a=1; who=an\nx-meta-bin: eyJ3aG8iOiJhbiJ9\n"[..]);
    assert_eq!(removed, "\ncookie: a=1; who=\nx-meta-bin: eyJ3aG8iOiJib2IifQ\n");
}

#[test]
fn what_was_hidden_comes_back_as_it_was() {
    let document = payload::query("k=***&m=bob", &Budget::default());
    let hidden = [(2..5, Bytes::from_static(b"a%2Bb+c"))];
    let surroundings = Surroundings { restored: &hidden, pack: None };

    let out = splice_within(&document, &found(&document, "bob", "x"), surroundings).unwrap();

    assert_eq!(out, b"k=a%2Bb+c&m=x"[..]);
}

mod protobuf {
    use opentelemetry_proto::tonic::{
        collector::logs::v1::ExportLogsServiceRequest,
        common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value},
        logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
        resource::v1::Resource,
    };
    use prost::Message as _;

    use super::*;

    fn string(text: &str) -> Option<AnyValue> {
        Some(AnyValue { value: Some(Value::StringValue(text.into())) })
    }

    fn pair(key: &str, value: Option<AnyValue>) -> KeyValue {
        KeyValue { key: key.into(), value, ..KeyValue::default() }
    }

    fn request(who: &str, long: usize) -> ExportLogsServiceRequest {
        let list = Value::KvlistValue(KeyValueList {
            values: vec![
                pair("deep", string(&format!("{}{who}", "x".repeat(long)))),
                pair("n", Some(AnyValue { value: Some(Value::IntValue(300)) })),
            ],
        });
        let array =
            Value::ArrayValue(ArrayValue { values: vec![string("a").unwrap(), string(who).unwrap()] });
        let json = format!("{{\"who\":\"{who}\"}}");
        let record = LogRecord {
            time_unix_nano: 1_763_700_000_000_000_000,
            attributes: vec![
                pair("user.email", string(who)),
                pair("list", Some(AnyValue { value: Some(list) })),
                pair("array", Some(AnyValue { value: Some(array) })),
                pair("json", string(&json)),
                pair("base64", string(&BASE64_STANDARD.encode(&json))),
            ],
            trace_id: vec![7; 16],
            ..LogRecord::default()
        };
        ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(Resource {
                    attributes: vec![pair("host", string("h"))],
                    ..Resource::default()
                }),
                scope_logs: vec![ScopeLogs {
                    log_records: vec![record.clone(), record],
                    ..ScopeLogs::default()
                }],
                ..ResourceLogs::default()
            }],
        }
    }

    fn decode(bytes: &[u8]) -> ExportLogsServiceRequest {
        ExportLogsServiceRequest::decode(bytes).unwrap()
    }

    const LOGS: PayloadFormat = PayloadFormat::Otlp(OtlpEncoding::Protobuf(Signal::Logs));

    #[test]
    fn every_length_around_a_value_is_told_again() {
        // Lengths that cross from one byte of varint to two, and to three.
        for long in [0, 90, 120, 16_300] {
            for with in ["x", "a-much-longer-stand-in-than-what-stood-there-before.a-much-longer-stand-in"] {
                let body = request("bob@example.com", long).encode_to_vec();
                let document = read(LOGS, &body);

                let out = splice(&document, &found(&document, "bob@example.com", with)).unwrap();

                assert_eq!(decode(&out), request(with, long));
                assert_eq!(out, request(with, long).encode_to_vec());
            }
        }
    }

    #[test]
    fn numbers_become_zero_and_members_go() {
        let body = request("bob", 0).encode_to_vec();
        let document = read(LOGS, &body);
        let prefix = "otlp:resourceLogs/0/scopeLogs/0/logRecords/0";
        let edit = |path: &str, with| whole(&document, at(&document, &format!("{prefix}/{path}")), with);
        let edits = [
            edit("attributes/list/n", text("x")),
            edit("timeUnixNano", text("x")),
            edit("traceId", text("x")),
            edit("attributes/user.email", Replacement::Remove),
            edit("attributes/array/1", Replacement::Remove),
            edit("attributes/json", Replacement::Null),
        ];

        let out = splice(&document, &edits).unwrap();

        let mut expected = request("bob", 0);
        let record = &mut expected.resource_logs[0].scope_logs[0].log_records[0];
        record.time_unix_nano = 0;
        record.trace_id = vec![0; 16];
        record.attributes[1].value = Some(AnyValue {
            value: Some(Value::KvlistValue(KeyValueList {
                values: vec![
                    pair("deep", string("bob")),
                    pair("n", Some(AnyValue { value: Some(Value::IntValue(0)) })),
                ],
            })),
        });
        record.attributes[2].value = Some(AnyValue {
            value: Some(Value::ArrayValue(ArrayValue {
                values: vec![string("a").unwrap(), string("").unwrap()],
            })),
        });
        record.attributes[3].value = string("");
        record.attributes.remove(0);
        assert_eq!(decode(&out), expected);
    }

    #[test]
    fn a_key_is_edited_with_its_length() {
        let body = request("bob", 0).encode_to_vec();
        let document = read(LOGS, &body);

        let out = splice(&document, &found(&document, "user.email", "x")).unwrap();

        assert_eq!(decode(&out).resource_logs[0].scope_logs[0].log_records[1].attributes[0].key, "x");
        assert_eq!(out.len(), body.len() - 2 * ("user.email".len() - 1));
    }

    #[test]
    fn frames_of_a_stream_say_their_new_length_and_stay_compressed() {
        use crate::payload::decode_stream;
        let pack = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
        let frame =
            |flag: u8, message: &[u8]| [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat();
        let plain = request("bob", 0).encode_to_vec();
        let packed = pack(&plain);
        let body =
            Bytes::from([frame(0, &plain), frame(0, b""), frame(1, &packed), frame(0, &plain)].concat());
        let (second, third) = (10 + plain.len(), 10 + plain.len() + packed.len());
        let messages = [
            StreamMessage { span: 5..5 + plain.len(), content: Content::Plain },
            StreamMessage {
                span: second + 5..second + 5 + packed.len(),
                content: Content::Decoded(plain.clone().into()),
            },
            StreamMessage { span: third + 10..third + 10 + plain.len(), content: Content::Plain },
        ];
        let format = PayloadFormat::Otlp(OtlpEncoding::Grpc(Signal::Logs));
        let document = decode_stream(&format, body.clone(), &messages, None, &Budget::default()).unwrap();
        let edits = found(&document, "bob", "somebody-else");

        let out =
            splice_within(&document, &edits, Surroundings { restored: &[], pack: Some(&pack) }).unwrap();

        let changed = request("somebody-else", 0).encode_to_vec();
        let expected =
            [frame(0, &changed), frame(0, b""), frame(1, &pack(&changed)), frame(0, &changed)].concat();
        assert_eq!(out, expected);
        assert_eq!(splice(&document, &edits), Err(SpliceError::Packing));
    }
}

mod otlp_json {
    use super::*;

    const BODY: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1763700000000000000","attributes":[{"key":"user.email","value":{"stringValue":"bob@x.io"}},{"key":"n","value":{"intValue":"12"}},{"key":"deep","value":{"kvlistValue":{"values":[{"key":"a","value":{"stringValue":"bob"}},{"key":"b","value":{"doubleValue":1.5}}]}}}],"traceId":"0af7651916cd43dd8448eb211c80319c"}]}]}]}"#;
    const RECORD: &str = "otlp:resourceLogs/0/scopeLogs/0/logRecords/0";

    fn with(edits: &[(&str, Replacement)]) -> String {
        let document = read(PayloadFormat::Otlp(OtlpEncoding::Json), BODY.as_bytes());
        let paths: Vec<String> = edits.iter().map(|(path, _)| format!("{RECORD}/{path}")).collect();
        let edits: Vec<_> =
            paths.iter().zip(edits).map(|(path, (_, with))| (path.as_str(), with.clone())).collect();
        edited(&document, &edits)
    }

    #[test]
    fn numbers_between_quotes_stay_numbers_and_ids_keep_their_length() {
        let redacted = || text("REDACTED");

        let out = with(&[
            ("timeUnixNano", redacted()),
            ("attributes/user.email", redacted()),
            ("attributes/n", redacted()),
            ("attributes/deep/b", redacted()),
            ("traceId", redacted()),
        ]);

        let expected = BODY
            .replace("1763700000000000000", "0")
            .replace("bob@x.io", "REDACTED")
            .replace("\"12\"", "\"0\"")
            .replace("1.5", "0")
            .replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32));
        assert_eq!(out, expected);
    }

    #[test]
    fn what_is_told_of_an_edit_is_what_stands_there() {
        let document = read(PayloadFormat::Otlp(OtlpEncoding::Json), BODY.as_bytes());

        for (path, with, told) in [
            ("timeUnixNano", "REDACTED", "0"),
            ("timeUnixNano", "12", "12"),
            ("attributes/user.email", "REDACTED", "REDACTED"),
            ("attributes/user.email", "12", "12"),
            ("attributes/n", "REDACTED", "0"),
            ("attributes/deep/b", "REDACTED", "0"),
            ("attributes/deep/b", "2.5", "2.5"),
            ("traceId", "REDACTED", "00000000000000000000000000000000"),
        ] {
            let path = format!("{RECORD}/{path}");
            let edit = whole(&document, at(&document, &path), text(with));

            let out = splice(&document, std::slice::from_ref(&edit)).unwrap();

            let after = read(PayloadFormat::Otlp(OtlpEncoding::Json), &out);
            assert_eq!(at(&after, &path).display(), told, "{path}");
            assert_eq!(payload::told(&document, &edit), told, "{path}");
        }
    }

    #[test]
    fn a_removed_attribute_goes_with_its_pair() {
        let email = r#"{"key":"user.email","value":{"stringValue":"bob@x.io"}},"#;
        let deep = r#",{"key":"b","value":{"doubleValue":1.5}}"#;

        let out = with(&[
            ("attributes/user.email", Replacement::Remove),
            ("attributes/deep/b", Replacement::Remove),
        ]);

        assert_eq!(out, BODY.replace(email, "").replace(deep, ""));
    }
}

#[test]
fn a_place_that_is_not_there_is_refused() {
    let document = read(PayloadFormat::Json, br#"{"a":"b"}"#);
    let field = at(&document, "json:a");
    let edit = Edit { range: 5..500, ..whole(&document, field, text("x")) };

    assert_eq!(field.kind(), FieldKind::String);
    assert_eq!(splice(&document, &[edit]), Err(SpliceError::Place));
}
