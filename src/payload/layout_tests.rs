//! Bodies that are not JSON from end to end: envelopes, forms, parts, lines, compressed ones, and heads.

use std::io::Write as _;

use ::base64::{Engine as _, prelude::BASE64_STANDARD};
use proptest::prelude::*;
use serde_json::json;

use super::{tests::check, *};
use crate::model::{ByteSize, Document, Field, TextId};

fn read(format: PayloadFormat, body: impl Into<Vec<u8>>) -> Document {
    decode(&format, body.into().into(), &Budget::default()).unwrap()
}

fn field<'d>(document: &'d Document, path: &str) -> Field<'d> {
    let paths = || document.fields().map(|field| field.path().to_string()).collect::<Vec<_>>();
    document
        .fields()
        .find(|field| field.path().as_str() == path)
        .unwrap_or_else(|| panic!("no {path} in {:#?}", paths()))
}

fn shown(document: &Document, path: &str) -> String {
    field(document, path).display().into_owned()
}

fn has(document: &Document, path: &str) -> bool {
    document.fields().any(|field| field.path().as_str() == path)
}

fn origin<'b>(document: &'b Document, path: &str) -> &'b [u8] {
    &document.text(TextId::BODY)[field(document, path).body_span()]
}

fn gaps(document: &Document) -> Vec<(String, NotInspected)> {
    document.gaps().iter().map(|(node, why)| (document.field(*node).path().to_string(), *why)).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

// ---- Sentry

const EVENT: &str = r#"{"message":"it\nbroke","user":{"email":"bob@example.com"},"server_name":"box"}"#;

#[test]
fn an_envelope_is_read_with_and_without_lengths() {
    let with = format!(
        "{{\"event_id\":\"1\"}}\n{{\"type\":\"event\",\"length\":{}}}\n{EVENT}\n{{\"type\":\"session\",\"length\":8}}\n{{\"a\":12}}\n",
        EVENT.len()
    );
    let without = format!(
        "{{\"event_id\":\"1\"}}\n{{\"type\":\"event\"}}\n{EVENT}\n{{\"type\":\"session\"}}\n{{\"a\":12}}"
    );
    let crlf = without.replace('\n', "\r\n");
    for body in [with.clone(), with.trim_end().to_owned(), without.clone(), format!("{without}\n\n"), crlf] {
        let document = read(PayloadFormat::Sentry, body.clone());

        assert_eq!(shown(&document, "sentry:header/event_id"), "1");
        assert_eq!(shown(&document, "sentry:items/0/header/type"), "event");
        assert_eq!(shown(&document, "sentry:items/0/event/user/email"), "bob@example.com");
        assert_eq!(shown(&document, "sentry:items/0/event/message"), "it\nbroke");
        assert_eq!(shown(&document, "sentry:items/1/session/a"), "12");
        assert_eq!(origin(&document, "sentry:items/0/event/user/email"), b"bob@example.com");
        assert!(!has(&document, "sentry:items/2"), "{body}");
        assert_eq!(gaps(&document), [], "{body:?}");
    }
}

#[test]
fn payloads_may_be_empty_or_hold_line_breaks() {
    let body = "{}\n{\"type\":\"attachment\",\"length\":0,\"filename\":\"a\"}\n\n{\"type\":\"attachment\",\"length\":11}\nhello\nworld\n{\"type\":\"mystery\",\"length\":2}\n{}";

    let document = read(PayloadFormat::Sentry, body);

    assert_eq!(shown(&document, "sentry:items/0/attachment"), "");
    assert_eq!(shown(&document, "sentry:items/1/attachment"), "hello\nworld");
    assert!(has(&document, "sentry:items/2/mystery"));
    assert!(document.gaps().is_empty());
}

#[test]
fn an_envelope_of_a_header_alone_has_no_items() {
    for body in ["{\"sdk\":{\"name\":\"x\"}}", "{\"sdk\":{\"name\":\"x\"}}\n"] {
        let document = read(PayloadFormat::Sentry, body);

        assert_eq!(shown(&document, "sentry:header/sdk/name"), "x");
        assert!(!has(&document, "sentry:items") && document.gaps().is_empty());
    }
}

#[test]
fn binary_attachments_are_a_gap_of_their_item_alone() {
    let mut body = b"{}\n{\"type\":\"attachment\",\"length\":8,\"attachment_type\":\"event.minidump\"}\nMDMP\x93\xa7\x00\n\n".to_vec();
    body.extend_from_slice(b"{\"type\":\"attachment\"}\nsaid bob@example.com");

    let document = read(PayloadFormat::Sentry, body);

    assert_eq!(gaps(&document), [("sentry:items/0/attachment".into(), NotInspected::FormatUnsupported)]);
    assert_eq!(shown(&document, "sentry:items/1/attachment"), "said bob@example.com");
}

#[test]
fn a_recording_is_unpacked_in_each_way_that_sdks_pack_it() {
    let events = br#"[{"type":4,"data":{"href":"https://x.example/?m=bob"}}]"#;
    for (packed, way) in
        [(gzip(events), "/!gzip/!json"), (zlib(events), "/!zlib/!json"), (events.to_vec(), "")]
    {
        let mut payload = b"{\"segment_id\":3}\n".to_vec();
        payload.extend_from_slice(&packed);
        let mut body =
            format!("{{}}\n{{\"type\":\"replay_recording\",\"length\":{}}}\n", payload.len()).into_bytes();
        body.extend_from_slice(&payload);
        body.push(b'\n');

        let document = read(PayloadFormat::Sentry, body);

        let inside = "sentry:items/0/replay_recording";
        assert_eq!(shown(&document, &format!("{inside}/header/segment_id")), "3");
        assert_eq!(
            shown(&document, &format!("{inside}/recording{way}/0/data/href")),
            "https://x.example/?m=bob"
        );
        assert!(document.gaps().is_empty(), "{:?}", gaps(&document));
    }
}

#[test]
fn a_length_that_is_wrong_is_a_gap_and_loses_nothing() {
    let short = format!(
        "{{}}\n{{\"type\":\"event\",\"length\":{}}}\n{EVENT}\n{{\"type\":\"session\"}}\n{{\"a\":1}}",
        EVENT.len() - 9
    );
    let long = format!("{{}}\n{{\"type\":\"event\",\"length\":99999999999999999999}}\n{EVENT}");
    let past = format!("{{}}\n{{\"type\":\"event\",\"length\":9999}}\n{EVENT}");

    let (short, long, past) = (
        read(PayloadFormat::Sentry, short),
        read(PayloadFormat::Sentry, long),
        read(PayloadFormat::Sentry, past),
    );

    for document in [&short, &long, &past] {
        assert_eq!(shown(document, "sentry:items/0/event/user/email"), "bob@example.com");
    }
    assert_eq!(shown(&short, "sentry:items/1/session/a"), "1");
    assert_eq!(gaps(&short), [("sentry:items/0".into(), NotInspected::FormatBroken)]);
    assert_eq!(gaps(&past), [("sentry:items/0".into(), NotInspected::FormatBroken)]);
}

#[test]
fn a_stored_event_is_read_plain_and_in_base64_of_zlib() {
    let packed = BASE64_STANDARD.encode(zlib(EVENT.as_bytes()));

    let (plain, packed) = (read(PayloadFormat::SentryStore, EVENT), read(PayloadFormat::SentryStore, packed));

    assert_eq!(shown(&plain, "sentry:user/email"), "bob@example.com");
    assert_eq!(shown(&packed, "sentry:!base64/!zlib/!json/user/email"), "bob@example.com");
    assert!(packed.gaps().is_empty());
}

// ---- forms and parts

#[test]
fn a_form_is_read_as_a_browser_wrote_it() {
    let document = read(
        PayloadFormat::Form,
        "email=bob%40example.com&na%20me=Bob+B.&empty=&flag&&json=%7B%22a%22%3A%22x+y%22%7D&p=50%25",
    );

    assert_eq!(shown(&document, "form:email"), "bob@example.com");
    assert_eq!(origin(&document, "form:email"), b"bob%40example.com");
    assert_eq!(shown(&document, "form:na me"), "Bob B.");
    assert_eq!(shown(&document, "form:empty"), "");
    assert_eq!(shown(&document, "form:flag"), "");
    assert_eq!(shown(&document, "form:json/!json/a"), "x y");
    assert_eq!(shown(&document, "form:p"), "50%");
    let (text, bytes) = document.texts().nth(1).unwrap();
    let at = bytes.iter().position(|byte| *byte == b'@').unwrap();
    assert_eq!(&document.text(TextId::BODY)[document.body_span(text, at..at + 1)], b"%40");
    assert_eq!(document.field_at(text, at).path().as_str(), "form:email");
}

const PARTS: &str = "--B\r\nContent-Disposition: form-data; name=\"who\"\r\n\r\nbob@example.com\r\n\
    --B\r\nContent-Disposition: form-data; name=\"meta\"; filename=\"a b.json\"\r\nContent-Type: application/json\r\n\r\n{\"k\":\"a\\tb\"}\r\n\
    --B\r\nContent-Disposition: form-data; name=dump; filename=\"x.dmp\"\r\n\r\nMDMP\u{0}\u{1}\r\n--B--\r\n";

#[test]
fn parts_are_read_by_their_boundary() {
    for body in [PARTS.to_owned(), PARTS.replace("\r\n", "\n"), format!("preamble\r\n{PARTS}epilogue")] {
        let document = read(PayloadFormat::Multipart, body);

        assert_eq!(shown(&document, "multipart:who"), "bob@example.com");
        assert_eq!(shown(&document, "multipart:meta/filename"), "a b.json");
        assert_eq!(shown(&document, "multipart:meta/content/k"), "a\tb");
        assert_eq!(gaps(&document), [("multipart:dump/content".into(), NotInspected::FormatUnsupported)]);
    }
}

#[test]
fn a_minidump_is_a_gap_and_its_text_is_read() {
    let document = read(PayloadFormat::SentryMinidump, PARTS);

    assert_eq!(shown(&document, "sentry:who"), "bob@example.com");
    assert_eq!(gaps(&document), [("sentry:dump/content".into(), NotInspected::FormatUnsupported)]);
}

#[test]
fn parts_within_parts_are_read() {
    let body = "--A\nContent-Type: multipart/mixed; boundary=B\n\n--B\n\none\n--B\n\ntwo\n--B--\n--A--";

    let document = read(PayloadFormat::Multipart, body);

    assert_eq!(shown(&document, "multipart:0/0"), "one");
    assert_eq!(shown(&document, "multipart:0/1"), "two");
    assert!(document.gaps().is_empty());
}

#[test]
fn parts_that_are_cut_off_are_read_and_a_gap() {
    let document = read(PayloadFormat::Multipart, &PARTS[..80]);

    assert!(shown(&document, "multipart:who").starts_with("bob"));
    assert_eq!(gaps(&document)[0].1, NotInspected::FormatBroken);
}

#[test]
fn a_part_that_the_budget_left_no_node_for_is_no_place_for_a_gap() {
    let part = "--B\nContent-Disposition: form-data; name=\"a\"\n\n{\"k\":[1,2]}";
    let nested = "--A\nContent-Type: multipart/mixed; boundary=B\n\n--B\n\none";
    for body in [part, nested] {
        for nodes in 1..8 {
            let budget = Budget { nodes, ..Budget::default() };

            let document = decode(&PayloadFormat::Multipart, body.as_bytes().into(), &budget).unwrap();

            let count = document.fields().len();
            assert!(document.gaps().iter().all(|(node, _)| node.index() < count), "{nodes}: {body}");
            assert!(!document.gaps().is_empty(), "{nodes}: {body}");
        }
    }
}

// ---- lines, text, what was compressed, tags

#[test]
fn lines_of_json_are_read_one_by_one() {
    let document = read(PayloadFormat::Datadog, "{\"a\":1}\r\n\n{\"b\":\"x\\ny\"}\n[2]\noops\n");

    assert_eq!(shown(&document, "datadog:lines/0/a"), "1");
    assert_eq!(shown(&document, "datadog:lines/1/b"), "x\ny");
    assert_eq!(shown(&document, "datadog:lines/2/0"), "2");
    assert_eq!(shown(&document, "datadog:lines/3"), "oops");
    assert!(document.gaps().is_empty());
}

#[test]
fn feedback_is_read_down_to_each_message_of_the_conversation() {
    let message =
        json!({"type": "user", "message": {"content": [{"type": "text", "text": "mail\nbob@example.com"}]}});
    let report = json!({
        "description": "it broke",
        "transcript": [message],
        "rawTranscriptJsonl": format!("{message}\n{message}\n"),
    });
    let body = json!({"content": report.to_string()}).to_string();
    let bundle = "--B\r\nContent-Disposition: form-data; name=\"description\"\r\n\r\nit broke\r\n--B--\r\n";

    let (feedback, bundle) = (read(PayloadFormat::Feedback, body), read(PayloadFormat::Feedback, bundle));

    let text = "message/content/0/text";
    assert_eq!(
        shown(&feedback, &format!("feedback:content/!json/transcript/0/{text}")),
        "mail\nbob@example.com"
    );
    let line = format!("feedback:content/!json/rawTranscriptJsonl/!lines/1/{text}");
    assert_eq!(shown(&feedback, &line), "mail\nbob@example.com");
    assert_eq!(origin(&feedback, &line), br"mail\\\\nbob@example.com");
    assert_eq!(shown(&bundle, "feedback:description"), "it broke");
    assert!(feedback.gaps().is_empty());
}

#[test]
fn json_over_several_lines_is_one_document() {
    for body in ["{\n\"a\":1}", "[\n{\"a\":1},\n{\"a\":2}]", "{\"a\":1}\n"] {
        assert!(!has(&read(PayloadFormat::Json, body), "json:lines"), "{body}");
    }
}

#[test]
fn text_is_one_field_and_what_it_holds_is_opened() {
    let text = read(PayloadFormat::Text, "mail bob@example.com");
    let percent = read(PayloadFormat::Text, "mail bob%40example.com");

    assert_eq!(shown(&text, "text:"), "mail bob@example.com");
    assert_eq!(shown(&percent, "text:!percent"), "mail bob@example.com");
}

#[test]
fn a_body_that_no_header_calls_compressed_is_opened() {
    let batch = br#"{"events":[{"user":{"email":"bob@example.com"}}]}"#;
    let envelope = format!("{{}}\n{{\"type\":\"event\"}}\n{EVENT}");

    let statsig = read(PayloadFormat::Statsig, gzip(batch));
    let zstd = read(PayloadFormat::Gzip, zstd::encode_all(&batch[..], 1).unwrap());
    let sentry = read(PayloadFormat::Sentry, gzip(envelope.as_bytes()));

    assert_eq!(shown(&statsig, "statsig:!gzip/!json/events/0/user/email"), "bob@example.com");
    let whole = statsig.text(TextId::BODY).len();
    assert_eq!(field(&statsig, "statsig:!gzip/!json/events/0/user/email").body_span(), 0..whole);
    assert_eq!(shown(&zstd, "gzip:!zstd/!json/events/0/user/email"), "bob@example.com");
    assert_eq!(shown(&sentry, "sentry:!gzip/items/0/event/user/email"), "bob@example.com");
    assert!(statsig.gaps().is_empty() && sentry.gaps().is_empty());
}

#[test]
fn gzip_within_base64_is_opened() {
    let inner = BASE64_STANDARD.encode(gzip(br#"{"mail":"bob@example.com"}"#));
    let deeper = BASE64_STANDARD.encode(gzip(json!({ "in": inner }).to_string().as_bytes()));

    let document = read(PayloadFormat::Json, json!({"a": inner, "b": deeper}).to_string());

    assert_eq!(shown(&document, "json:a/!base64/!gzip/!json/mail"), "bob@example.com");
    assert_eq!(shown(&document, "json:b/!base64/!gzip/!json/in/!base64/!gzip/!json/mail"), "bob@example.com");
}

// PITFALLS 2
#[test]
fn a_bomb_within_a_body_is_a_gap() {
    let bomb = gzip(&gzip(&vec![b' '; 32 << 20]));
    let budget = Budget { opened_bytes: ByteSize::kibibytes(64), ..Budget::default() };

    let document = decode(&PayloadFormat::Gzip, bomb.into(), &budget).unwrap();

    let opened: usize = document.texts().skip(1).map(|(_, bytes)| bytes.len()).sum();
    assert!(opened <= 64 * 1024);
    assert_eq!(gaps(&document)[0].1, NotInspected::DecodedTooLarge);
}

#[test]
fn a_flood_of_compressed_values_ends_in_a_gap() {
    let one = BASE64_STANDARD.encode(gzip(b"[1]"));
    let body = json!(vec![one; 30_000]).to_string();

    let document = read(PayloadFormat::Json, body);

    let opened = document.fields().filter(|field| field.path().as_str().ends_with("/!gzip")).count();
    assert_eq!(opened, 1_000);
    assert!(document.gaps().iter().any(|(_, why)| *why == NotInspected::NestingBudget));
}

#[test]
fn a_flood_of_items_is_read_in_time() {
    let items = "{\"type\":\"event\"}\n{\"a\":1}\n".repeat(100_000);

    let document = read(PayloadFormat::Sentry, format!("{{}}\n{items}"));

    assert_eq!(shown(&document, "sentry:items/99999/event/a"), "1");
}

#[test]
fn what_is_cut_off_while_compressed_is_read_as_far_as_it_goes() {
    let text =
        json!((0..2_000).map(|n| json!({"n": n, "x": n * n * 79 % 10_007})).collect::<Vec<_>>()).to_string();
    let packed = gzip(text.as_bytes());

    let document = read(PayloadFormat::Statsig, &packed[..packed.len() / 2]);

    assert_eq!(shown(&document, "statsig:!gzip/!json/100/n"), "100");
    assert_eq!(gaps(&document)[0], ("statsig:".into(), NotInspected::FormatBroken));
}

#[test]
fn base64_that_runs_backwards_leads_back_to_its_bytes() {
    let forward = BASE64_STANDARD.encode(r#"{"user":{"email":"bob@example.com"}}"#);
    let body: String = forward.chars().rev().collect();

    let document = read(PayloadFormat::Statsig, body.clone());

    let email = field(&document, "statsig:!reversed-base64/!json/user/email");
    assert_eq!(&*email.display(), "bob@example.com");
    let span = email.body_span();
    let there: String = body[span.clone()].chars().rev().collect();
    assert_eq!(forward.find(&there), Some(body.len() - span.end));
    assert!(span.len() <= 22 && !there.is_empty());
    assert!(document.gaps().is_empty());
}

#[test]
fn tags_are_opened_into_pairs() {
    let body = r#"[{"ddtags":"event:tengu_start, user:bob@example.com,lone,url:http://x","message":"a"},{"ddtags":"a:x\u0040y"}]"#;

    let document = read(PayloadFormat::Datadog, body);

    assert_eq!(shown(&document, "datadog:0/ddtags/!tags/event"), "tengu_start");
    assert_eq!(shown(&document, "datadog:0/ddtags/!tags/user"), "bob@example.com");
    assert_eq!(origin(&document, "datadog:0/ddtags/!tags/user"), b"bob@example.com");
    assert_eq!(shown(&document, "datadog:0/ddtags/!tags/2"), "lone");
    assert_eq!(shown(&document, "datadog:0/ddtags/!tags/url"), "http://x");
    assert_eq!(shown(&document, "datadog:1/ddtags/!tags/a"), "x@y");
}

// ---- heads

#[test]
fn header_fields_and_their_pairs_are_fields() {
    let fields: [(&str, &[u8]); 4] = [
        ("user-agent", b"claude-cli/2 (external, cli)"),
        ("cookie", b"a=1; mail=bob@example.com ;odd"),
        ("x-sentry-auth", b"Sentry sentry_version=7, sentry_client=x/1"),
        ("x-raw", b"\xff\xfe"),
    ];

    let document = headers(fields.into_iter(), &Budget::default());

    assert_eq!(shown(&document, "header:user-agent"), "claude-cli/2 (external, cli)");
    assert_eq!(shown(&document, "header:cookie/mail"), "bob@example.com");
    assert_eq!(shown(&document, "header:x-sentry-auth/sentry_version"), "7");
    assert_eq!(shown(&document, "header:x-sentry-auth/sentry_client"), "x/1");
    assert_eq!(shown(&document, "header:x-raw"), "fffe");
}

#[test]
fn binary_metadata_is_opened_whatever_it_holds() {
    let (short, long) =
        (BASE64_STANDARD.encode("bob"), BASE64_STANDARD.encode(b"\x0a\x0fbob@example.com\xff"));
    let fields = [
        ("who-bin", short.as_bytes()),
        ("trace-bin", long.trim_end_matches('=').as_bytes()),
        ("x-bin", b"?"),
    ];

    let document = headers(fields.into_iter(), &Budget::default());

    assert_eq!(shown(&document, "header:who-bin/!base64"), "bob");
    assert_eq!(field(&document, "header:trace-bin/!base64").raw(), b"\x0a\x0fbob@example.com\xff");
    assert!(!has(&document, "header:x-bin/!base64") && document.gaps().is_empty());
}

#[test]
fn a_query_is_read_as_a_form() {
    let document = query("email=bob%40example.com&ddtags=env%3Aprod%2Cuser%3Abob", &Budget::default());

    assert_eq!(shown(&document, "query:email"), "bob@example.com");
    assert_eq!(shown(&document, "query:ddtags/!tags/user"), "bob");
}

#[test]
fn segments_of_a_path_are_called_by_their_collection_or_place() {
    let document = path("/api/oauth/organizations/0f8fad5b/x%20y", &Budget::default());

    assert_eq!(shown(&document, "path:0"), "api");
    assert_eq!(shown(&document, "path:organizations"), "0f8fad5b");
    assert_eq!(shown(&document, "path:4"), "x y");
}

// ---- nothing harms

const FORMATS: [PayloadFormat; 8] = [
    PayloadFormat::Datadog,
    PayloadFormat::Form,
    PayloadFormat::Gzip,
    PayloadFormat::Multipart,
    PayloadFormat::Sentry,
    PayloadFormat::SentryMinidump,
    PayloadFormat::Statsig,
    PayloadFormat::Text,
];

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(body: Vec<u8>) {
        for format in FORMATS {
            check(&read(format, body.clone()))?;
            check(&read(format, gzip(&body)))?;
        }
    }

    #[test]
    fn arbitrary_text_of_envelopes_and_parts_does_no_harm(
        body in r#"(\{"type":"(event|replay_recording|x)"(,"length":[0-9]{1,2})?\}|--B|name=|filename=|ddtags|eyJhIjoxfQ|Jye|[a-z]{1,3}|[\n\r&=%+:;,"{}\[\]]|\r\n){0,40}"#,
    ) {
        let tight = Budget { nodes: 9, depth: 3, containers: 2, opened_bytes: ByteSize::bytes(200) };
        for format in FORMATS {
            check(&read(format, body.clone()))?;
            check(&decode(&format, body.clone().into(), &tight).unwrap())?;
        }
        check(&query(&body, &Budget::default()))?;
        check(&path(&body, &tight))?;
        check(&headers([("cookie", body.as_bytes()), ("x-bin", body.as_bytes()), ("x", body.as_bytes())].into_iter(), &tight))?;
    }
}
