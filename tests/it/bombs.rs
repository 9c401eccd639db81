//! Bodies that were made to do harm: each ends within its bounds with a named reason, and the session goes on.

use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Version};
use plainsight::{
    destination::Catalogue,
    encoding::{self, Coding, DecodeError, Limits},
    inspect::{Inspector, Options},
    model::{
        Authority, AuthorityPattern, CapturedBody, CapturedRequest, ConnectTo, Document, FingerprintKey,
        FlowId, FlowOpening, NotInspected, RequestHead, RunId, Scheme,
    },
    payload::{self, Budget, OtlpEncoding, PayloadFormat, Signal},
    policy::Policy,
    proxy::{Proxy, ProxyConfig, Services},
    rules::{self, RuleSet},
};

use crate::support::{Client, FakeAudit, Origin, TestCa};

/// How much is zeros in one piece of a bomb.
const PIECE: usize = 1 << 20;

/// How many pieces make 1 GiB.
const GIBIBYTE: usize = 1024;

/// `pieces` MiB of zeros in a coding. One piece is compressed, and repeated as the coding allows: as another member or
/// frame, or as the same block of a stream that was flushed.
fn zeros(coding: Coding, pieces: usize) -> Bytes {
    let zeros = vec![0; PIECE];
    match coding {
        Coding::Gzip | Coding::Zstd => encoding::encode(&[coding], &zeros).repeat(pieces),
        Coding::Deflate => {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&zeros).unwrap();
            encoder.flush().unwrap();
            let last = [0x03, 0x00];
            [encoder.get_ref().repeat(pieces), last.to_vec()].concat()
        }
        Coding::Brotli => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 1 << 16, 1, 22);
            let mut ends = Vec::new();
            for _ in 0..2 {
                encoder.write_all(&zeros).unwrap();
                encoder.flush().unwrap();
                ends.push(encoder.get_ref().len());
            }
            let stream = encoder.get_ref().clone();
            let last = [0x03];
            [stream[..ends[0]].to_vec(), stream[ends[0]..].repeat(pieces - 1), last.to_vec()].concat()
        }
    }
    .into()
}

const CODINGS: [Coding; 4] = [Coding::Brotli, Coding::Deflate, Coding::Gzip, Coding::Zstd];

// PITFALLS 2
#[test]
fn a_gibibyte_of_zeros_ends_at_the_limit_in_every_coding() {
    let all = Limits { ratio: u32::MAX, ..Limits::default() };
    for coding in CODINGS {
        let small = encoding::decode(&[coding], &zeros(coding, 3), &all).unwrap();
        assert_eq!(small, vec![0; 3 * PIECE], "the pieces are one stream: {}", coding.as_str());
        let bomb = zeros(coding, GIBIBYTE);
        let limit = Limits::default().decoded.as_usize().min(bomb.len() * Limits::default().ratio as usize);

        let error = encoding::decode(&[coding], &bomb, &Limits::default()).unwrap_err();

        let DecodeError::TooLarge { limit: stopped_at } = &error else { panic!("{error}") };
        assert_eq!(stopped_at.as_usize(), limit, "{}", coding.as_str());
        assert_eq!(error.reason(), NotInspected::DecodedTooLarge);
    }
}

fn decode(format: PayloadFormat, body: Vec<u8>) -> Document {
    payload::decode(&format, body.into(), &Budget::default()).unwrap()
}

fn reasons(document: &Document) -> Vec<NotInspected> {
    document.gaps().iter().map(|(_, why)| *why).collect()
}

#[test]
fn json_100_000_deep_ends_at_the_limit() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
        let deep = [open.repeat(100_000), "1".to_owned(), close.repeat(100_000)].concat();

        let document = decode(PayloadFormat::Json, deep.into_bytes());

        assert_eq!(reasons(&document), [NotInspected::NestingBudget], "{open}");
        assert!(document.fields().len() <= 1 + Budget::default().depth as usize);
    }
}

#[test]
fn json_100_000_deep_within_strings_ends_at_the_limit() {
    let mut text = "[".repeat(100_000);
    for _ in 0..3 {
        text = serde_json::json!([{ "a": text }]).to_string();
    }

    let document = decode(PayloadFormat::Json, text.into_bytes());

    let opened: usize = document.texts().skip(1).map(|(_, bytes)| bytes.len()).sum();
    assert!(document.fields().len() < 1_000, "{}", document.fields().len());
    assert!(opened < 500_000, "{opened}");
}

#[test]
fn a_string_of_64_mebibytes_is_one_field_and_is_not_copied() {
    let body = [b"{\"a\":\"", &b"x".repeat(64 << 20)[..], b"\"}"].concat();

    let document = decode(PayloadFormat::Json, body);

    assert_eq!((document.fields().len(), document.texts().len()), (2, 1));
    assert_eq!(reasons(&document), []);
}

#[test]
fn a_long_string_in_escapes_stays_within_the_budget() {
    let body = [b"{\"a\":\"", &b"\\u0041".repeat((64 << 20) / 6)[..], b"\"}"].concat();

    let document = decode(PayloadFormat::Json, body);

    let opened: usize = document.texts().skip(1).map(|(_, bytes)| bytes.len()).sum();
    assert!(opened <= Budget::default().opened_bytes.as_usize());
    assert!(reasons(&document).iter().all(|why| *why == NotInspected::NestingBudget));
    assert!(!reasons(&document).is_empty(), "its map alone is larger than the budget");
}

#[test]
fn a_million_fields_are_read_and_two_million_end_at_the_limit() {
    let body = |fields: usize| {
        let fields: Vec<u8> = (0..fields).flat_map(|n| format!("\"{n:x}\":1,").into_bytes()).collect();
        [b"{", &fields[..], b"\"z\":0}"].concat()
    };

    let all = decode(PayloadFormat::Json, body(1_000_000));
    let part = decode(PayloadFormat::Json, body(2_000_000));

    assert_eq!((all.fields().len(), reasons(&all)), (1_000_002, Vec::new()));
    assert_eq!(part.fields().len(), Budget::default().nodes as usize);
    assert_eq!(reasons(&part), [NotInspected::NestingBudget]);
}

#[test]
fn protobuf_lengths_past_the_end_are_gaps() {
    let otlp = PayloadFormat::Otlp(OtlpEncoding::Protobuf(Signal::Logs));
    for body in [
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f".repeat(100_000),
        b"\x0a\xff\xff\xff\xff\x0f\x12".repeat(100_000),
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01".to_vec(),
    ] {
        let document = decode(otlp, body);

        assert!(reasons(&document).contains(&NotInspected::FormatBroken));
        assert!(document.fields().len() < 1_000, "{}", document.fields().len());
    }
}

fn inspector() -> Inspector {
    Inspector::new(
        Catalogue::embedded(),
        vec![AuthorityPattern::parse("collector.test").unwrap()],
        RuleSet::from_sources(&rules::embedded()).unwrap(),
        Policy::embedded(),
        FingerprintKey::new(&[7; 32]),
        Options::default(),
    )
}

fn inspect(
    inspector: &Inspector,
    target: &str,
    headers: &[(&'static str, &'static str)],
    body: Bytes,
) -> FlowOpening {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
        .collect();
    let head = RequestHead {
        scheme: Scheme::Https,
        authority: Authority::parse("collector.test", Some(4318)).unwrap(),
        method: Method::POST,
        target: target.to_owned(),
        version: Version::HTTP_11,
        headers,
    };
    let destination = inspector.classify(&head);
    let id = FlowId::new(RunId::new(1).unwrap(), 1);
    let request = CapturedRequest { id, head, body: CapturedBody::Complete(body), trailers: None };
    inspector.inspect(request, destination, 0).opening
}

#[test]
fn the_core_names_a_reason_for_every_bomb() {
    let inspector = inspector();
    let grpc = &[("content-type", "application/grpc"), ("grpc-encoding", "gzip")][..];
    let export = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    let packed = zeros(Coding::Gzip, GIBIBYTE);
    let message = [&b"\x01"[..], &(packed.len() as u32).to_be_bytes(), &packed].concat();
    let json = &[("content-type", "application/json")][..];
    let protobuf = &[("content-type", "application/x-protobuf")][..];
    let cases: [(&str, &[_], Vec<u8>, NotInspected); 6] = [
        ("/v1/logs", &[("content-encoding", "gzip")], packed.to_vec(), NotInspected::DecodedTooLarge),
        (export, grpc, message, NotInspected::DecodedTooLarge),
        (export, grpc, b"\0\xff\xff\xff\xffshort".to_vec(), NotInspected::FormatBroken),
        ("/v1/logs", json, b"{\"a\":".repeat(100_000), NotInspected::NestingBudget),
        ("/v1/logs", protobuf, b"\x0a\xff\xff\xff\xff\x0f".to_vec(), NotInspected::FormatBroken),
        ("/v1/logs", protobuf, b"\x0a\0".repeat(2_000_000), NotInspected::NestingBudget),
    ];
    for (target, headers, body, reason) in cases {
        let start = Instant::now();
        let opening = inspect(&inspector, target, headers, body.into());

        assert_eq!(opening.not_inspected, Some(reason), "{target} {headers:?}");
        // Generous: the build is not optimised, and the machine may be busy.
        assert!(start.elapsed() < Duration::from_secs(20), "{target} took {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn after_a_bomb_the_session_goes_on() {
    let ca = TestCa::new();
    let origin = Origin::plain().await;
    let audit = Arc::new(FakeAudit::default());
    let mut config = ProxyConfig::new("127.0.0.1:0".parse().unwrap(), ca.roots());
    config.connect_to = vec![ConnectTo::parse(&format!("::127.0.0.1:{}", origin.address.port())).unwrap()];
    let services = Services { inspection: Arc::new(inspector()), audit: audit.clone(), leaves: ca };
    let proxy = Proxy::bind(config, services).await.unwrap();
    let mut client = Client::plain(proxy.local_addr()).await;
    tokio::spawn(proxy.serve(std::future::pending()));
    let post = |headers: &str, body: &[u8]| {
        let head = format!(
            "POST http://collector.test:4318/v1/logs HTTP/1.1\r\nHost: collector.test:4318\r\n{headers}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let bomb = zeros(Coding::Gzip, GIBIBYTE);
    let normal = br#"{"resourceLogs":[{"resource":{"attributes":[{"key":"user.email","value":{"stringValue":"canary.user@example.com"}}]}}]}"#;

    let after_bomb = client.ask(post("Content-Encoding: gzip\r\n", &bomb)).await;
    let after_normal = client.ask(post("", normal)).await;

    assert_eq!((after_bomb.status, after_normal.status), (200, 200));
    assert_eq!(origin.seen().len(), 2);
    assert!(origin.seen()[0].body == bomb, "the bomb went on as it came");
    let records = audit.closed(2).await;
    assert_eq!(records[0].opening.not_inspected, Some(NotInspected::DecodedTooLarge));
    assert_eq!(records[1].opening.not_inspected, None);
    assert!(!records[1].opening.findings.is_empty(), "the next request is inspected as ever");
}
