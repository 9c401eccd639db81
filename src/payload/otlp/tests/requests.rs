//! Streams of messages, and by what a request is known.

use super::*;

// ---- streams

#[test]
fn messages_of_a_stream_are_read_as_one() {
    let first = log_of(&pair("a", &string("first")));
    let second = log_of(&pair("b", &string("second")));
    let third = log_of(&pair("c", &string("third")));
    let mut body = vec![0; 5];
    let mut add = |bytes: &[u8]| {
        let start = body.len();
        body.extend_from_slice(bytes);
        start..body.len()
    };
    let messages = [
        StreamMessage { span: add(&first), content: Content::Plain },
        StreamMessage { span: add(b"packed"), content: Content::Decoded(second.into()) },
        StreamMessage { span: add(&third), content: Content::Plain },
        StreamMessage { span: add(b"odd"), content: Content::Unread(NotInspected::CodingUnsupported) },
    ];

    let document = stream(Signal::Logs, &body, &messages, Some(NotInspected::FormatBroken));

    let attribute = |at: usize, key: &str, value: &str| {
        (format!("otlp:resourceLogs/{at}/scopeLogs/0/logRecords/0/attributes/{key}"), value.to_owned())
    };
    assert_eq!(
        fields(&document),
        [attribute(0, "a", "first"), attribute(1, "c", "third"), attribute(2, "b", "second")]
    );
    let packed = document.leaves().find(|field| field.raw() == b"second").unwrap();
    assert_eq!(&body[packed.body_span()], b"packed");
    assert!(document.replaces_parent(packed.text()));
    let plain = document.leaves().find(|field| field.raw() == b"third").unwrap();
    assert_eq!(&body[plain.body_span()], b"third");
    let why: Vec<_> = document.gaps().iter().map(|(_, why)| *why).collect();
    assert_eq!(why, [NotInspected::CodingUnsupported, NotInspected::FormatBroken]);
}

#[test]
fn a_broken_message_that_was_opened_is_a_gap_in_the_body() {
    let message =
        StreamMessage { span: 5..8, content: Content::Decoded(Bytes::from_static(b"\x0a\x09\x1a\x01u")) };

    let document = stream(Signal::Logs, b"\x01\0\0\0\x03abc", &[message], None);

    assert_eq!(value_at(&document, "otlp:resourceLogs/0/schemaUrl"), "u");
    assert_eq!(document.field(document.gaps()[0].0).text(), TextId::BODY);
}

// ---- recognition

#[test]
fn it_is_known_on_any_host() {
    use OtlpEncoding::{Grpc, Json, Protobuf};

    let log = log_of(&[&b"\x09"[..], &[1; 8], b"\x10\x09"].concat());
    let span = length(
        1,
        &length(2, &length(2, &[length(1, &[1; 16]), length(2, &[2; 8]), length(5, b"n")].concat())),
    );
    let metric = length(
        1,
        &length(2, &length(2, &[length(1, b"requests"), length(3, b"1"), length(7, b"")].concat())),
    );
    let text = br#" {"resourceSpans" : []}"#.to_vec();
    let service = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    #[expect(clippy::type_complexity, reason = "a table of cases")]
    let cases: &[(&str, &str, &str, &[u8], Option<OtlpEncoding>)] = &[
        ("unknown", "application/grpc+proto", service, b"\0\0\0\0\0", Some(Grpc(Signal::Metrics))),
        ("unknown", "application/grpc", "/other.Service/Export", b"\0\0\0\0\0", None),
        ("unknown", "application/x-protobuf", "/prefix/v1/logs/", &metric, Some(Protobuf(Signal::Logs))),
        ("unknown", "application/x-protobuf", "/ingest", &log, Some(Protobuf(Signal::Logs))),
        ("unknown", "application/x-protobuf", "/ingest", &span, Some(Protobuf(Signal::Traces))),
        ("unknown", "application/x-protobuf", "/ingest", &metric, Some(Protobuf(Signal::Metrics))),
        ("unknown", "application/x-protobuf", "/ingest", b"\x08\x01", None),
        ("unknown", "", "/v1/traces", &span, Some(Protobuf(Signal::Traces))),
        ("unknown", "", "/v1/traces", b"hello", None),
        ("otlp", "", "/v1development/profiles", b"\x0a\x00", Some(Protobuf(Signal::Profiles))),
        ("unknown", "application/json", "/ingest", &text, Some(Json)),
        ("unknown", "application/json", "/v1/logs", br#"{"logs":[]}"#, None),
        ("otlp", "application/json", "/v1/logs", br#"{"logs":[]}"#, Some(Json)),
        ("otlp", "application/json", "/v1/logs", b"oops", Some(Json)),
        // Begins with a line feed and a brace, as JSON might.
        ("unknown", "application/x-protobuf", "/v1/logs", b"\n{\n\"", Some(Protobuf(Signal::Logs))),
        ("otlp", "", "/v1/logs", b"\n{\n\"", Some(Protobuf(Signal::Logs))),
    ];
    for (destination, media_type, path, body, expected) in cases {
        let found = recognise(destination, media_type, path, body).map(|(encoding, _)| encoding);

        assert_eq!(found, *expected, "{destination} {media_type} {path} {body:?}");
    }
}
