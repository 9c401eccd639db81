use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Version};

use crate::{
    encoding::Coding,
    model::{Action, CapturedBody, RunId, Scheme},
};

use super::*;

const TIME_MS: i64 = 1_763_700_000_000;

pub(super) fn inspector(capture: Capture) -> Inspector {
    Inspector::new(
        Catalogue::embedded(),
        Vec::new(),
        RuleSet::from_sources(&crate::rules::embedded()).unwrap(),
        Policy::embedded(),
        FingerprintKey::new(&[7; 32]),
        Options { capture, ..Options::default() },
    )
}

pub(super) fn request(
    authority: &str,
    target: &str,
    headers: &[(&'static str, &str)],
    body: CapturedBody,
) -> CapturedRequest {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    CapturedRequest {
        id: FlowId::new(RunId::new(1).unwrap(), 1),
        head: RequestHead {
            scheme: Scheme::Https,
            authority: Authority::parse(authority, Some(443)).unwrap(),
            method: Method::POST,
            target: target.to_owned(),
            version: Version::HTTP_11,
            headers: map,
        },
        body,
        trailers: None,
    }
}

pub(super) fn inspect(inspector: &Inspector, request: CapturedRequest) -> Inspection {
    let destination = inspector.classify(&request.head);
    inspector.inspect(request, destination, TIME_MS)
}

pub(super) fn complete(body: &str) -> CapturedBody {
    CapturedBody::Complete(Bytes::copy_from_slice(body.as_bytes()))
}

const EVENTS: &str = concat!(
    r#"{"events":[{"event_type":"x","event_data":{"session_id":"ce3f46bf-4b3b-484a-8c15-a4c877b304c6","email":"#,
    r#""canary.user@example.com","model":"m","note":"mail \u0062ob@corp.example.com now","#,
    r#""additional_metadata":"eyJtYWlsIjoiY2Fyb2xAZXhhbXBsZS5uZXQifQ=="}}]}"#
);

fn events(capture: Capture) -> Inspection {
    let request = request("api.anthropic.com", "/api/event_logging/v2/batch", &[], complete(EVENTS));
    inspect(&inspector(capture), request)
}

#[test]
fn an_event_batch_is_decoded_and_its_personal_fields_are_named() {
    let inspection = events(Capture::Masked);

    let opening = &inspection.opening;
    let found = |rule: &str, path: &str| {
        opening.findings.iter().any(|f| f.rule.as_str() == rule && f.path.as_str() == path)
    };
    assert_eq!(opening.destination.as_str(), "first-party-events");
    assert_eq!((opening.not_inspected, opening.action), (None, Action::Allow));
    assert_eq!(inspection.forward, Forward::Original);
    assert!(
        found("field.user-email", "first-party-events:events/0/event_data/email"),
        "{:?}",
        opening.findings
    );
    assert!(found("contact.email", "first-party-events:events/0/event_data/note"));
    assert!(found(
        "contact.email",
        "first-party-events:events/0/event_data/additional_metadata/!base64/!json/mail"
    ));
}

#[test]
fn a_value_that_a_field_is_called_by_is_masked_in_every_path_below_it() {
    let bodies = [
        r#"{"to dora@example.net":{"inner":[1]},"plain":{"inner":2},"b64":"eyJkb3JhQGV4YW1wbGUubmV0Ijp7ImlubmVyIjoxfX0="}"#,
        r#"{"to \u0064ora@example.net":{"inner":"erik@example.org"},"\"dora@example.net\"":3}"#,
    ];
    for body in bodies {
        let request = request("api.anthropic.com", "/api/event_logging/v2/batch", &[], complete(body));

        let opening = inspect(&inspector(Capture::Masked), request).opening;

        let kept = serde_json::to_string(&opening).unwrap();
        assert!(kept.contains("inner") && !opening.fields.is_empty(), "{kept}");
        assert!(opening.findings.iter().any(|found| found.rule.as_str() == "contact.email"), "{kept}");
        assert!(!kept.contains("dora@") && !kept.contains("erik@"), "{kept}");
    }
    let containers = r#"{"events":[{"event_data":{"tool_input":{"command":"ls"}}}]}"#;
    let request = request("api.anthropic.com", "/api/event_logging/v2/batch", &[], complete(containers));
    let opening = inspect(&inspector(Capture::Masked), request).opening;
    assert!(opening.fields.iter().all(|field| !field.path.contains("***")), "{:?}", opening.fields);
}

#[test]
fn a_finding_names_the_bytes_that_encode_it() {
    let inspection = events(Capture::Masked);

    let spans: Vec<&str> = inspection
        .opening
        .findings
        .iter()
        .filter(|finding| finding.rule.as_str() == "contact.email")
        .map(|finding| &EVENTS[finding.span.start as usize..finding.span.end as usize])
        .collect();
    assert!(spans.contains(&r"\u0062ob@corp.example.com"), "{spans:?}");
}

#[test]
fn what_is_kept_holds_no_value_that_a_rule_named() {
    // The probe sees a leak when there is one: full capture keeps the body.
    let leaks = |opening: &FlowOpening| {
        let kept = format!("{:?} {}", opening.body, serde_json::to_string(opening).unwrap());
        ["canary.user@", "bob@corp", "carol@example", "ce3f46bf-4b3b", "eyJtYWls"]
            .into_iter()
            .filter(|value| kept.contains(value))
            .count()
    };

    assert_eq!(leaks(&events(Capture::Masked).opening), 0, "{:#?}", events(Capture::Masked).opening);
    assert_eq!(leaks(&events(Capture::None).opening), 0);
    assert!(leaks(&events(Capture::Full).opening) >= 3);
    assert!(events(Capture::None).opening.fields.is_empty());
}

#[test]
fn masked_capture_keeps_fields_that_no_rule_named() {
    let opening = events(Capture::Masked).opening;

    let model = opening.fields.iter().find(|field| field.path.ends_with("/model")).unwrap();
    let note = opening.fields.iter().find(|field| field.path.ends_with("/note")).unwrap();
    assert_eq!(&*model.value, "m");
    assert!(note.value.starts_with("mail ") && note.value.ends_with(" now"), "{}", note.value);
}

#[test]
fn a_compressed_body_is_read() {
    let body = encoding::encode(&[Coding::Gzip], EVENTS.as_bytes());
    let request = request(
        "api.anthropic.com",
        "/api/event_logging/v2/batch",
        &[("content-encoding", "gzip")],
        CapturedBody::Complete(body.into()),
    );

    let opening = inspect(&inspector(Capture::None), request).opening;

    assert_eq!(opening.not_inspected, None);
    assert!(!opening.findings.is_empty());
}

// PITFALLS 2
#[test]
fn what_was_not_read_says_why() {
    let inspector = inspector(Capture::Masked);
    let reason = |headers: &[(&'static str, &str)], body| {
        let request = request("api.anthropic.com", "/api/event_logging/v2/batch", headers, body);
        inspect(&inspector, request).opening.not_inspected
    };

    assert_eq!(reason(&[], complete(EVENTS)), None);
    assert_eq!(reason(&[("content-encoding", "gzip")], complete("x")), Some(NotInspected::CodingBroken));
    assert_eq!(reason(&[("content-encoding", "lzma")], complete("x")), Some(NotInspected::CodingUnsupported));
    assert_eq!(reason(&[], CapturedBody::OverLimit(Bytes::new())), Some(NotInspected::BodyTooLarge));
    assert_eq!(reason(&[], complete(&EVENTS[..60])), Some(NotInspected::FormatBroken));
    assert_eq!(reason(&[], complete("\u{1}\u{2}\u{3}")), Some(NotInspected::FormatUnsupported));
}

#[test]
fn a_body_that_no_header_calls_compressed_must_be_whole_too() {
    let inspector = inspector(Capture::Masked);
    let opening = |body: &str| {
        let body = encoding::encode(&[Coding::Gzip], body.as_bytes());
        let request = request("statsigapi.net", "/v1/rgstr?gz=1", &[], CapturedBody::Complete(body.into()));
        inspect(&inspector, request).opening
    };

    let (whole, cut) = (opening(EVENTS), opening(&EVENTS[..EVENTS.len() - 3]));

    assert_eq!((whole.not_inspected, cut.not_inspected), (None, Some(NotInspected::FormatBroken)));
    assert!(
        cut.findings
            .iter()
            .any(|finding| finding.path.as_str() == "statsig:!gzip/!json/events/0/event_data/email")
    );
}

#[test]
fn a_cut_off_document_is_read_as_far_as_it_goes() {
    let cut = &EVENTS[..EVENTS.find(r#","model""#).unwrap()];
    let request = request("api.anthropic.com", "/api/event_logging/v2/batch", &[], complete(cut));

    let opening = inspect(&inspector(Capture::Masked), request).opening;

    assert!(opening.findings.iter().any(|finding| finding.rule.as_str() == "field.user-email"));
    assert_eq!(opening.not_inspected, Some(NotInspected::FormatBroken));
}

// PITFALLS 5
#[test]
fn a_value_that_was_cut_off_before_it_was_sent_counts_as_read() {
    let body = r#"{"events":[{"event_data":{"additional_metadata":"{\"mail\":\"carol@corp.example.com\",\"x\":\"cu"}}]}"#;
    let request = request("api.anthropic.com", "/api/event_logging/v2/batch", &[], complete(body));

    let opening = inspect(&inspector(Capture::Masked), request).opening;

    assert_eq!(opening.not_inspected, None);
    assert_eq!(opening.findings.len(), 1, "{:?}", opening.findings);
}

#[test]
fn an_unknown_path_of_the_vendor_is_looked_at_and_news() {
    let request =
        request("api.anthropic.com", "/api/brand_new", &[], complete(r#"{"m":"a@corp.example.com"}"#));

    let opening = inspect(&inspector(Capture::Masked), request).opening;

    assert_eq!(opening.destination.as_str(), "first-party-unknown");
    assert_eq!(opening.findings.len(), 1);
    assert_eq!(opening.news, ["path POST api.anthropic.com/api/brand_new".into()]);
}

#[test]
fn the_same_session_has_the_same_fingerprint_wherever_it_is_named() {
    let inspector = inspector(Capture::None);
    let in_body =
        inspect(&inspector, request("api.anthropic.com", "/api/event_logging/batch", &[], complete(EVENTS)));
    let header = [("x-claude-code-session-id", "ce3f46bf-4b3b-484a-8c15-a4c877b304c6")];
    let in_header = request("api.anthropic.com", "/api/claude_code/metrics", &header, complete("{}"));

    let in_header = inspect(&inspector, in_header);

    assert!(in_body.opening.session.is_some());
    assert_eq!(in_body.opening.session, in_header.opening.session);
}

#[test]
fn cleartext_to_a_third_party_is_not_looked_at_unless_it_was_asked_for() {
    let mut inspector = inspector(Capture::Full);
    let request = request("mcp.example.com:80", "/x", &[], CapturedBody::Streamed);

    let destination = inspector.classify(&request.head);
    let opening = inspector.observe(request.id, &request.head, &destination, TIME_MS, None);
    inspector.intercepted = [AuthorityPattern::parse("mcp.example.com").unwrap()].into();

    assert!(!destination.inspected);
    assert_eq!(opening.not_inspected, Some(NotInspected::NotIntercepted));
    assert!(inspector.classify(&request.head).inspected);
}

#[test]
fn the_record_of_the_conversation_says_that_it_was_not_read() {
    let inspector = inspector(Capture::Full);
    let request = request("api.anthropic.com", "/v1/messages?beta=true", &[], CapturedBody::Streamed);
    let destination = inspector.classify(&request.head);

    let opening = inspector.observe(request.id, &request.head, &destination, TIME_MS, None);

    assert_eq!(opening.not_inspected, Some(NotInspected::Conversation));
    assert!(opening.body.is_none() && opening.fields.is_empty());
}

fn news(inspector: &Inspector, body: &str) -> Vec<String> {
    let request = request("api.anthropic.com", "/api/event_logging/v2/batch", &[], complete(body));
    inspect(inspector, request).opening.news.iter().map(ToString::to_string).collect()
}

#[test]
fn a_name_that_nobody_has_seen_is_news() {
    let known = r#"{"events":[{"event_type":"x","event_data":{"event_name":"tengu_init","model":"m"}}]}"#;
    let metadata = "eyJicmFuZF9uZXdfdG9vIjp7ImlubmVyIjoxfX0="; // {"brand_new_too":{"inner":1}}
    let new = format!(
        r#"{{"events":[{{"event_data":{{"event_name":"tengu_brand_new","brand_new":1,"additional_metadata":"{metadata}"}}}}]}}"#
    );

    assert_eq!(news(&inspector(Capture::None), known), [""; 0]);
    assert_eq!(
        news(&inspector(Capture::None), &new),
        [
            "event tengu_brand_new",
            "field first-party-events:brand_new",
            "field first-party-events:brand_new_too",
        ]
    );
}

#[test]
fn what_an_earlier_run_has_seen_is_no_news() {
    let seen = ["event tengu_brand_new".into(), "host x.example".into()];
    let inspector = inspector(Capture::None).with_known(Known::new(Events::embedded(), seen));
    let body = r#"{"events":[{"event_data":{"event_name":"tengu_brand_new","brand_new":1}}]}"#;
    let id = FlowId::new(RunId::new(1).unwrap(), 1);
    let tunnel = |host: &str| {
        let authority = Authority::parse(host, Some(443)).unwrap();
        inspector.tunnel(id, Some(&authority), TIME_MS, Some(NotInspected::NotIntercepted)).news
    };

    assert_eq!(news(&inspector, body), ["field first-party-events:brand_new"]);
    assert_eq!(tunnel("x.example"), []);
    assert_eq!(tunnel("y.example"), ["host y.example".into()]);
    assert_eq!(tunnel("127.0.0.1:8080"), []);
    assert_eq!(tunnel("downloads.claude.ai"), []);
}

#[test]
fn a_name_that_may_be_data_is_not_repeated() {
    let body = r#"{"events":[{"event_data":{"event_name":"bob@example.com","carol@example.net":1,"66666666-7777-4888-9999-000000000000":2}}]}"#;

    let news = news(&inspector(Capture::None), body);

    assert_eq!(
        news,
        ["event (a name that may be data)", "field first-party-events:(a name that may be data)"]
    );
}

#[test]
fn a_flood_of_new_names_is_bounded() {
    let names: Vec<String> =
        ('a'..='z').flat_map(|a| ('a'..='z').map(move |b| format!("\"new_{a}{b}\":1"))).collect();
    let body = format!(r#"{{"events":[{{"event_data":{{{}}}}}]}}"#, names.join(","));

    assert_eq!(news(&inspector(Capture::None), &body).len(), 50);
}

// ---- streams of gRPC

const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// A request in protobuf: one log record with this text as an attribute `user.email`.
fn log_with(email: &str) -> Vec<u8> {
    let length = |tag: u8, content: &[u8]| [&[tag, content.len() as u8][..], content].concat();
    let pair = [length(0x0a, b"user.email"), length(0x12, &length(0x0a, email.as_bytes()))].concat();
    length(0x0a, &length(0x12, &length(0x12, &length(0x32, &pair))))
}

fn framed(is_compressed: bool, message: &[u8]) -> Vec<u8> {
    [&[u8::from(is_compressed)][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

fn inspect_stream(coding: &str, body: Vec<u8>) -> FlowOpening {
    let headers = [("content-type", "application/grpc+proto"), ("grpc-encoding", coding)];
    let request =
        request("collector.corp.example:4317", EXPORT, &headers, CapturedBody::Complete(body.into()));
    inspect(&inspector(Capture::Masked), request).opening
}

#[test]
fn messages_of_a_stream_are_read_whatever_their_coding() {
    let codings = [("gzip", Coding::Gzip), ("deflate", Coding::Deflate), ("zstd", Coding::Zstd)];
    for (word, coding) in codings {
        let packed = encoding::encode(&[coding], &log_with("packed@corp.example.com"));
        let plain = framed(false, &log_with("plain@corp.example.com"));
        let body = [framed(true, &packed), framed(false, b""), plain.clone()].concat();

        let opening = inspect_stream(word, body);

        assert_eq!((opening.not_inspected, opening.format.as_deref()), (None, Some("otlp")), "{word}");
        let found: Vec<_> = opening
            .findings
            .iter()
            .filter(|finding| finding.rule.as_str() == "field.user-email")
            .map(|finding| (finding.path.as_str(), finding.span.clone()))
            .collect();
        let path =
            |at: usize| format!("otlp:resourceLogs/{at}/scopeLogs/0/logRecords/0/attributes/user.email");
        let packed_end = 5 + packed.len() as u32;
        let plain_start = packed_end + 5 + plain.len() as u32 - "plain@corp.example.com".len() as u32;
        assert_eq!(
            found,
            [(&*path(0), plain_start..plain_start + 22), (&*path(1), 5..packed_end)],
            "{word}: {:?}",
            opening.findings
        );
    }
}

// PITFALLS 2
#[test]
fn what_was_not_read_of_a_stream_says_why() {
    let whole = framed(false, &log_with("plain@corp.example.com"));
    let after = |rest: &[u8]| [&whole[..], rest].concat();
    let packed = encoding::encode(&[Coding::Gzip], &log_with("packed@corp.example.com"));
    let truncated = encoding::encode(&[Coding::Gzip], &log_with("packed@corp.example.com")[..40]);
    let bomb = encoding::encode(&[Coding::Gzip], &vec![0; 64 * 1024 * 1024]);
    let cases = [
        ("identity", whole.clone(), None),
        ("gzip", after(&framed(true, &packed)), None),
        // A length of 4 GiB less one, and heads that are cut off.
        ("gzip", after(b"\0\xff\xff\xff\xffabc"), Some(NotInspected::FormatBroken)),
        ("gzip", after(b"\x01\0\0"), Some(NotInspected::FormatBroken)),
        ("gzip", after(b"\x07\0\0\0\0"), Some(NotInspected::FormatBroken)),
        ("gzip", after(&framed(true, b"oops")), Some(NotInspected::CodingBroken)),
        ("gzip", after(&framed(true, &truncated)), Some(NotInspected::FormatBroken)),
        ("identity", after(&framed(true, &packed)), Some(NotInspected::CodingBroken)),
        ("snappy", after(&framed(true, &packed)), Some(NotInspected::CodingUnsupported)),
        ("snappy", whole.clone(), None),
        ("gzip", after(&framed(true, &bomb)), Some(NotInspected::DecodedTooLarge)),
    ];
    for (coding, body, reason) in cases {
        let opening = inspect_stream(coding, body);

        assert_eq!(opening.not_inspected, reason, "{coding}");
        assert!(
            opening.findings.iter().any(|finding| finding.rule.as_str() == "field.user-email"),
            "{coding}"
        );
    }
}

#[test]
fn many_bombs_in_a_stream_stop_at_one_limit() {
    // Each fits by itself, all together do not.
    let message = framed(true, &encoding::encode(&[Coding::Gzip], &vec![b'a'; 900_000]));
    let body = Bytes::from(message.repeat(2_000));
    let headers = [("grpc-encoding", "gzip")];
    let head = request("x.example", EXPORT, &headers, CapturedBody::Streamed).head;

    let (messages, ending) = stream::split(&head, &body, &encoding::Limits::default());

    let decoded: usize = messages
        .iter()
        .map(|message| match &message.content {
            payload::Content::Decoded(bytes) => bytes.len(),
            _ => 0,
        })
        .sum();
    assert_eq!((messages.len(), ending), (2_000, None));
    assert!(decoded > 0 && decoded <= encoding::Limits::default().decoded.as_usize(), "{decoded}");
}

#[test]
fn a_stream_of_countless_messages_is_cut() {
    let body = Bytes::from([&framed(false, b"")[..], &framed(false, b"\x08")].concat().repeat(20_000));
    let head = request("x.example", EXPORT, &[], CapturedBody::Streamed).head;

    let (messages, ending) = stream::split(&head, &body, &encoding::Limits::default());

    assert!(messages.len() < 20_000);
    assert_eq!(ending, Some(NotInspected::NestingBudget));
}
