//! Bodies of every format, with planted values in every kind of place and random ones around them.

use std::{fmt::Write as _, io::Write as _, ops::Range};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flate2::{Compression, write::GzEncoder};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        profiles::v1development::ExportProfilesServiceRequest, trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
        metric::Data, number_data_point::Value as Number,
    },
    profiles::v1development::ResourceProfiles,
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use plainsight::{
    model::{Document, Field, TextId},
    payload::{OtlpEncoding, PayloadFormat, Signal},
};
use prost::Message as _;
use serde_json::json;

/// One kind of body: whom it goes to, how it is made, and how its receiver reads it.
pub struct Body {
    pub name: &'static str,
    pub format: PayloadFormat,
    pub host: &'static str,
    pub path: &'static str,
    pub content_type: Option<&'static str>,
    pub make: fn(&Planted, &mut Random) -> Vec<u8>,
    /// Fails if a receiver of that format could not read it.
    pub receive: fn(&[u8], &str),
    /// Whether the whole body is encoded once more, so that no byte of it stays.
    pub is_packed: bool,
    /// Where the outermost values stand that may change.
    pub outer: fn(&Document) -> Vec<Range<usize>>,
}

const JSON: Option<&str> = Some("application/json");
const API: &str = "api.anthropic.com";
pub const OTHER: &str = "other.example.com";
const SENTRY: &str = "o42.ingest.us.sentry.io";
pub const GRPC: Option<&str> = Some("application/grpc");
pub const PROTOBUF: Option<&str> = Some("application/x-protobuf");

pub const fn body(
    name: &'static str,
    format: PayloadFormat,
    (host, path, content_type): (&'static str, &'static str, Option<&'static str>),
    make: fn(&Planted, &mut Random) -> Vec<u8>,
    receive: fn(&[u8], &str),
) -> Body {
    Body { name, format, host, path, content_type, make, receive, is_packed: false, outer }
}

const fn packed(body: Body) -> Body {
    Body { is_packed: true, ..body }
}

use OtlpEncoding::{Grpc, Json as OtlpJson, Protobuf};

/// Every kind of body.
pub const BODIES: &[Body] = &[
    body(
        "datadog",
        PayloadFormat::Datadog,
        ("http-intake.logs.us5.datadoghq.com", "/api/v2/logs", JSON),
        datadog,
        is_json,
    ),
    body("feature flags", PayloadFormat::FeatureFlags, (API, "/api/eval/sdk-x", JSON), attributes, is_json),
    body("feedback", PayloadFormat::Feedback, (API, "/api/claude_cli_feedback", JSON), attributes, is_json),
    body(
        "events",
        PayloadFormat::FirstPartyEvents,
        (API, "/api/event_logging/v2/batch", JSON),
        events,
        is_json,
    ),
    packed(body(
        "events that nobody calls compressed",
        PayloadFormat::FirstPartyEvents,
        (API, "/api/event_logging/v2/batch", JSON),
        packed_events,
        is_gzip,
    )),
    body(
        "metrics",
        PayloadFormat::FirstPartyMetrics,
        (API, "/api/claude_code/metrics", JSON),
        events,
        is_json,
    ),
    body(
        "form",
        PayloadFormat::Form,
        (OTHER, "/x", Some("application/x-www-form-urlencoded")),
        form,
        is_form,
    ),
    packed(body("gzip", PayloadFormat::Gzip, (OTHER, "/x", None), packed_events, is_gzip)),
    body("json", PayloadFormat::Json, (OTHER, "/x", JSON), events, is_json),
    body("json without a label", PayloadFormat::Json, (OTHER, "/x", None), events, is_json),
    body("json lines", PayloadFormat::Json, (OTHER, "/x", Some("application/x-ndjson")), lines, are_lines),
    body("multipart", PayloadFormat::Multipart, (OTHER, "/x", MULTIPART), multipart, is_multipart),
    body("plan's use", PayloadFormat::OauthUsage, (API, "/api/oauth/usage", JSON), attributes, is_json),
    body("otlp json", PayloadFormat::Otlp(OtlpJson), (OTHER, "/v1/logs", JSON), otlp_json, is_otlp_json),
    body(
        "otlp protobuf logs",
        PayloadFormat::Otlp(Protobuf(Signal::Logs)),
        (OTHER, "/v1/logs", PROTOBUF),
        logs,
        are_logs,
    ),
    body(
        "otlp protobuf metrics",
        PayloadFormat::Otlp(Protobuf(Signal::Metrics)),
        (OTHER, "/v1/metrics", PROTOBUF),
        metrics,
        are_metrics,
    ),
    body(
        "otlp protobuf profiles",
        PayloadFormat::Otlp(Protobuf(Signal::Profiles)),
        (OTHER, "/v1development/profiles", PROTOBUF),
        profiles,
        are_profiles,
    ),
    body(
        "otlp protobuf traces",
        PayloadFormat::Otlp(Protobuf(Signal::Traces)),
        (OTHER, "/v1/traces", PROTOBUF),
        traces,
        are_traces,
    ),
    body(
        "otlp grpc logs",
        PayloadFormat::Otlp(Grpc(Signal::Logs)),
        (OTHER, "/opentelemetry.proto.collector.logs.v1.LogsService/Export", GRPC),
        logs,
        are_logs,
    ),
    body(
        "otlp grpc metrics",
        PayloadFormat::Otlp(Grpc(Signal::Metrics)),
        (OTHER, "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", GRPC),
        metrics,
        are_metrics,
    ),
    body(
        "otlp grpc profiles",
        PayloadFormat::Otlp(Grpc(Signal::Profiles)),
        (OTHER, "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export", GRPC),
        profiles,
        are_profiles,
    ),
    body(
        "otlp grpc traces",
        PayloadFormat::Otlp(Grpc(Signal::Traces)),
        (OTHER, "/opentelemetry.proto.collector.trace.v1.TraceService/Export", GRPC),
        traces,
        are_traces,
    ),
    body("segment", PayloadFormat::Segment, ("api.segment.io", "/v1/batch", JSON), events, is_json),
    body(
        "sentry envelope",
        PayloadFormat::Sentry,
        (SENTRY, "/api/4242/envelope/", None),
        envelope,
        is_envelope,
    ),
    body(
        "sentry minidump",
        PayloadFormat::SentryMinidump,
        (SENTRY, "/api/4242/minidump/", MULTIPART),
        multipart,
        is_multipart,
    ),
    body("sentry store", PayloadFormat::SentryStore, (SENTRY, "/api/4242/store/", JSON), attributes, is_json),
    body("settings", PayloadFormat::Settings, (API, "/api/claude_code/settings", JSON), attributes, is_json),
    body(
        "statsig",
        PayloadFormat::Statsig,
        ("statsig.anthropic.com", "/v1/rgstr", Some("text/plain")),
        events,
        is_json,
    ),
    body("text", PayloadFormat::Text, (OTHER, "/x", Some("text/plain")), text, is_text),
    body("updates", PayloadFormat::Updates, ("downloads.claude.ai", "/x", JSON), attributes, is_json),
];

/// Where values stand that may change: the outermost ones that are named, or hold the value itself.
fn outer(document: &Document) -> Vec<Range<usize>> {
    let is_named = super::is_named;
    let mut spans = Vec::new();
    for field in document.fields() {
        let holds = !field.kind().is_branch() && memchr::memmem::find(field.plain(), b"zq7-").is_some();
        let path = field.path();
        if !holds && !is_named(path.as_str()) && !path.as_str().contains("zq7-") {
            continue;
        }
        // Up to the last value above it that stands in the body, or to itself with its name, which may go.
        let mut span = field.body_span();
        let mut above = field.parent();
        while let Some(field) = above {
            if field.text() == TextId::BODY && !field.kind().is_branch() {
                span = field.span();
            }
            above = field.parent();
        }
        if let Some(name) = field.name_span().filter(|_| field.text() == TextId::BODY) {
            span.start = name.start.min(span.start);
        }
        // Quotes, and what separates a member from its neighbours.
        let bytes = document.text(TextId::BODY);
        let is_frame = |byte: &u8| b"\", \n\r\t&".contains(byte);
        while span.start > 0 && is_frame(&bytes[span.start - 1]) {
            span.start -= 1;
        }
        while bytes.get(span.end).is_some_and(is_frame) {
            span.end += 1;
        }
        spans.push(span);
    }
    spans
}

/// The values that are to go.
pub struct Planted {
    /// What fields hold that are named `planted`.
    pub field: String,
    /// What stands in text, wherever that is.
    pub value: String,
    number: String,
}

impl Planted {
    pub fn new(is_address: bool, random: &mut Random) -> Self {
        let value = format!("zq7-{}", random.word(20));
        let address = format!("203.0.{}.{}", 113, 100 + random.below(100));
        Self {
            field: if is_address { address } else { value.clone() },
            value,
            number: "8123456790".to_owned(),
        }
    }

    /// The fields of a document that hold one, and nothing that was opened out of them.
    pub fn places_in(&self, document: &Document) -> Vec<String> {
        let holds = super::holders(document);
        let is_leaf = |field: &Field<'_>| !holds[field.id().index()];
        let there = document.leaves().filter(is_leaf).filter(|field| self.stands_in(field.plain()));
        there.map(|field| field.path().to_string()).collect()
    }

    /// The number that is to go.
    pub fn number(&self) -> i64 {
        self.number.parse().unwrap()
    }

    /// The same as a number that is not whole.
    fn measure(&self) -> f64 {
        self.number() as f64 + 0.5
    }

    /// Whether more of one stands there than any method keeps.
    pub fn stands_in(&self, bytes: &[u8]) -> bool {
        let has = |part: &[u8]| memchr::memmem::find(bytes, part).is_some();
        let varint = |number: i64| {
            let mut varint = Vec::new();
            prost::encoding::encode_varint(number.cast_unsigned(), &mut varint);
            varint
        };
        let number = self.number();
        has(&self.value.as_bytes()[6..20])
            || has(self.number.as_bytes())
            || self.field.starts_with("203") && has(self.field.as_bytes())
            || has(&varint(number))
            || has(&varint(-number))
            || has(&number.to_le_bytes())
            || has(&self.measure().to_le_bytes())
    }

    /// Whether a method makes this of the value of a field.
    pub fn is_result(&self, method: &str, found: &[u8]) -> bool {
        let Ok(found) = std::str::from_utf8(found) else { return false };
        let word = method.split('"').nth(1).unwrap();
        let count = self.field.chars().count();
        let (first, last) = (&self.field[..2], &self.field[self.field.len() - 2..]);
        match word {
            "ip-prefix" => found == "203.0.113.0",
            "leaves" => found == "LEAF",
            "mask" => found == format!("{first}xxxx{last}"),
            "mask-same-length" => found == format!("{first}{}{last}", "x".repeat(count - 4)),
            "null" => found.is_empty() || found == "null",
            "partial" => found == "zq7-REDACTED",
            "pseudonym" => {
                found.len() == 15
                    && found
                        .strip_prefix("anon-")
                        .is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
            }
            "remove" => found.is_empty(),
            "replace" => found == "GONE",
            "summary" => found == format!("was.{count}"),
            "truncate" => found == "zq7-...",
            other => panic!("a method without an expectation: {other}"),
        }
    }
}

/// SplitMix64: the same everywhere, from a seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick(&mut self, words: &[&'static str]) -> &'static str {
        words[self.below(words.len())]
    }

    pub fn word(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[self.below(36)])).collect()
    }
}

/// A value that stays, spelled in a way that no serialiser would choose.
fn spelled(random: &mut Random) -> &'static str {
    random.pick(&[
        "1.0e0",
        "-0",
        "1E+2",
        "true",
        "null",
        "[]",
        "{ }",
        "[ 1 ,2.50]",
        "\"\"",
        "\"a\\/b\"",
        "\"\\u00e9\\ud83d\"",
        "\"é😀\"",
        "\"x@y\"",
        "{\"k\":{\"k\":1},\"k\":2}",
        "12345678901234567890123",
        "\"{\\\"k\\\":[1.0]}\"",
        "\"eyJrIjoxLjB9\"",
        "\"a%20b%7e\"",
    ])
}

/// A document with a value in every kind of place, and others around it.
fn fragment(planted: &Planted, random: &mut Random) -> String {
    let Planted { field, value, number } = planted;
    let inner = format!("{{\"a\":{},\"planted\":\"{field}\",\"z\":{}}}", spelled(random), spelled(random));
    // Without escapes: behind both, rules see a value twice, and the outer of the two places goes as well.
    let simple = format!("{{\"a\":1.50,\"planted\":\"{field}\",\"z\":\"{}\"}}", random.word(4));
    let percent = simple.replace('%', "%25").replace('"', "%22").replace('{', "%7B");
    let deep = json!({ "i": inner, "k": "kept" }).to_string();
    let mut members = vec![
        format!("\"s\" : {{\"planted\":\"{field}\"}}"),
        format!("\"first\":{{\"planted\":\"{field}\", \"k\":{}}}", spelled(random)),
        format!(
            "\"middle\":{{\"a\":{},\"planted\" :  \"{field}\" ,\"k\":{}}}",
            spelled(random),
            spelled(random)
        ),
        format!("\"escaped\":{{\"planted\":\"\\u007a{}\",\"k\":1}}", &value[1..]),
        format!("\"number\":{{\"k\":1.50,\"planted\":{number}}}"),
        format!("\"flag\":{{\"planted\":true,\"k\":{}}}", spelled(random)),
        format!("\"list\":{{\"planted\":[\"{field}\",7],\"k\":{}}}", spelled(random)),
        format!("\"object\":{{\"planted\":{{\"a\":\"{field}\",\"n\":5}}}}"),
        format!("\"packed\":{{\"planted\":{}}}", json!(format!("{{\"a\":\"{field}\",\"n\":5}}"))),
        format!("\"null\":{{\"planted\":null}}"),
        format!("\"string\":{}", json!(inner)),
        format!("\"base64\":\"{}\"", BASE64_STANDARD.encode(&inner)),
        format!("\"deep\":\"{}\"", BASE64_STANDARD.encode(&deep)),
        format!("\"percent\":\"{percent}\""),
        format!("\"zipped\":\"{}\"", BASE64_STANDARD.encode(gzip(inner.as_bytes()))),
        format!("\"note\":\"before {value}, and after\""),
        format!("\"noted\":\"before \\u007a{} \\\"quoted\\\"\"", &value[1..]),
        format!("\"{value}\":{}", spelled(random)),
    ];
    for _ in 0..4 {
        let member = format!("\"k{}\" :{}", random.word(2), spelled(random));
        members.insert(random.below(members.len() + 1), member);
    }
    // In another order each time.
    for at in (1..members.len()).rev() {
        members.swap(at, random.below(at + 1));
    }
    format!("{{ {}\n}}", members.join(random.pick(&[",", ", ", " ,\n\t"])))
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn attributes(planted: &Planted, random: &mut Random) -> Vec<u8> {
    format!(" {{\"attributes\" : {} }}", fragment(planted, random)).into()
}

fn events(planted: &Planted, random: &mut Random) -> Vec<u8> {
    let (one, other) = (fragment(planted, random), fragment(planted, random));
    format!(
        "{{\"events\":[{{\"event_data\":{one}}},{{\"event_type\":\"x\"}}, {{\"event_data\":{other}}}]}}\n"
    )
    .into()
}

fn packed_events(planted: &Planted, random: &mut Random) -> Vec<u8> {
    gzip(&events(planted, random))
}

fn datadog(planted: &Planted, random: &mut Random) -> Vec<u8> {
    let Planted { field, value, .. } = planted;
    let tags = format!("env:x,planted:{field},k:{},note:{value},last:1", random.word(3));
    format!("[{{\"ddtags\":\"{tags}\",\"message\":\"m\"}} , {}]", fragment(planted, random)).into()
}

fn lines(planted: &Planted, random: &mut Random) -> Vec<u8> {
    let one = fragment(planted, random).replace('\n', " ");
    let other = fragment(planted, random).replace('\n', " ");
    format!("{one}\n\n{{\"k\":1.0}}\r\n{other}\n").into()
}

fn percent(text: &str, plus: bool) -> String {
    let mut written = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => written.push(char::from(byte)),
            b' ' if plus => written.push('+'),
            _ => _ = write!(written, "%{byte:02x}"),
        }
    }
    written
}

fn form(planted: &Planted, random: &mut Random) -> Vec<u8> {
    let Planted { field, value, .. } = planted;
    let document = percent(&fragment(planted, random), random.below(2) == 0);
    format!("k=a+b&planted={field}&j={document}&note=by+{value}+it&%6b2=%7e&&last").into()
}

const MULTIPART: Option<&str> = Some("multipart/form-data; boundary=edge");

fn multipart(planted: &Planted, random: &mut Random) -> Vec<u8> {
    let part = |name: &str, content: &str| {
        format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
    };
    let document = fragment(planted, random);
    let note = format!("by {} it\r\n", planted.value);
    [
        part("k", "kept"),
        part("planted", &planted.field),
        part("j", &document),
        part("note", &note),
        "--edge--\r\n".to_owned(),
    ]
    .concat()
    .into()
}

fn envelope(planted: &Planted, random: &mut Random) -> Vec<u8> {
    let (one, other) =
        (fragment(planted, random).replace('\n', " "), fragment(planted, random).replace('\n', " "));
    let id = "9ec79c33ec9942ab8353589fcb2e04dc";
    let mut items = format!("{{\"event_id\":\"{id}\" , \"k\":1.0}}\n");
    _ = write!(items, "{{\"type\":\"event\",\"length\":{},\"k\":1.50}}\n{one}\n", one.len());
    // Without a length an item ends with its line.
    _ = write!(items, "{{\"type\":\"event\"}}\n{other}\n");
    _ = write!(items, "{{\"length\":{} ,\"type\":\"transaction\"}}\n{other}", other.len());
    items.into()
}

fn text(planted: &Planted, random: &mut Random) -> Vec<u8> {
    format!("{} said {} and left;\n{}\n", random.word(5), planted.value, random.word(30)).into()
}

/// A message of nobody's schema.
pub fn message(_: &Planted, _: &mut Random) -> Vec<u8> {
    vec![8, 1, 16, 2]
}

/// Bytes that are nothing.
pub fn unknown(planted: &Planted, random: &mut Random) -> Vec<u8> {
    let noise: Vec<u8> = (0..40).map(|_| 0x80 | random.below(128) as u8).collect();
    [&[0xff, 0, 1][..], &noise, b" ", planted.value.as_bytes(), b" ", &noise].concat()
}

fn any(value: Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: any(value), ..KeyValue::default() }
}

/// Attributes with values of every type, named and not.
fn pairs(planted: &Planted, random: &mut Random) -> Vec<KeyValue> {
    let Planted { field, value, .. } = planted;
    let text = |text: &str| Value::StringValue(text.to_owned());
    let group = |name: &str, values: Vec<KeyValue>| pair(name, Value::KvlistValue(KeyValueList { values }));
    let inner = format!("{{\"a\":{},\"planted\":\"{field}\"}}", spelled(random));
    let strings = vec![
        AnyValue { value: Some(text(field)) },
        AnyValue { value: Some(Value::IntValue(7)) },
        AnyValue { value: Some(Value::IntValue(planted.number())) },
    ];
    vec![
        pair("k.first", text(&random.word(9))),
        pair("planted", text(field)),
        group(
            "int",
            vec![
                pair("planted", Value::IntValue(planted.number())),
                pair("number", Value::IntValue(random.below(1000) as i64)),
                pair("k", Value::IntValue(-1)),
            ],
        ),
        group("negative", vec![pair("k", text("n")), pair("planted", Value::IntValue(-planted.number()))]),
        group("bool", vec![pair("planted", Value::BoolValue(true)), pair("k", Value::BoolValue(false))]),
        group(
            "double",
            vec![pair("k", Value::DoubleValue(1.5)), pair("planted", Value::DoubleValue(planted.measure()))],
        ),
        group(
            "bytes",
            vec![
                pair("planted", Value::BytesValue(value.clone().into())),
                pair("k", Value::BytesValue(vec![1, 255])),
            ],
        ),
        group(
            "list",
            vec![pair("planted", Value::ArrayValue(ArrayValue { values: strings })), pair("k", text("é"))],
        ),
        group(
            "map",
            vec![
                group("planted", vec![pair("a", text(field)), pair("n", Value::IntValue(planted.number()))]),
                pair("k", text("")),
            ],
        ),
        pair("json", text(&inner)),
        pair("base64", text(&BASE64_STANDARD.encode(&inner))),
        pair("note", text(&format!("by {value} it"))),
        pair("k.last", Value::IntValue(random.below(1000) as i64)),
    ]
}

fn resource(planted: &Planted, random: &mut Random) -> Option<Resource> {
    Some(Resource { attributes: pairs(planted, random), ..Resource::default() })
}

pub fn logs_of(planted: &Planted, random: &mut Random) -> ExportLogsServiceRequest {
    let record = LogRecord {
        time_unix_nano: 1_700_000_000_000_000_000,
        body: any(Value::StringValue(format!("said {} there", planted.value))),
        attributes: pairs(planted, random),
        trace_id: vec![9; 16],
        ..LogRecord::default()
    };
    let scope_logs = vec![ScopeLogs { log_records: vec![record.clone(), record], ..ScopeLogs::default() }];
    let of = ResourceLogs { resource: resource(planted, random), scope_logs, ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![of] }
}

pub fn logs(planted: &Planted, random: &mut Random) -> Vec<u8> {
    logs_of(planted, random).encode_to_vec()
}

fn otlp_json(planted: &Planted, random: &mut Random) -> Vec<u8> {
    serde_json::to_vec_pretty(&logs_of(planted, random)).unwrap()
}

fn metrics(planted: &Planted, random: &mut Random) -> Vec<u8> {
    let point = NumberDataPoint {
        attributes: pairs(planted, random),
        time_unix_nano: 7,
        value: Some(Number::AsInt(planted.number())),
        ..NumberDataPoint::default()
    };
    let histogram = HistogramDataPoint {
        bucket_counts: vec![5, planted.number().cast_unsigned(), 5],
        explicit_bounds: vec![planted.measure(), 5.5],
        count: 5,
        ..HistogramDataPoint::default()
    };
    let metric = |data| Metric { name: "m".to_owned(), data: Some(data), ..Metric::default() };
    let metrics = vec![
        metric(Data::Gauge(Gauge { data_points: vec![point] })),
        metric(Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: 1 })),
    ];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let of =
        ResourceMetrics { resource: resource(planted, random), scope_metrics, ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![of] }.encode_to_vec()
}

fn profiles(planted: &Planted, random: &mut Random) -> Vec<u8> {
    let of = ResourceProfiles { resource: resource(planted, random), ..ResourceProfiles::default() };
    ExportProfilesServiceRequest { resource_profiles: vec![of], ..ExportProfilesServiceRequest::default() }
        .encode_to_vec()
}

fn traces(planted: &Planted, random: &mut Random) -> Vec<u8> {
    let span = Span {
        name: format!("did {}", planted.value),
        span_id: vec![5; 8],
        attributes: pairs(planted, random),
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let of = ResourceSpans { resource: resource(planted, random), scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![of] }.encode_to_vec()
}

fn is_json(plain: &[u8], about: &str) {
    let read = serde_json::from_slice::<serde_json::Value>(plain);
    assert!(
        read.is_ok() || has_lone_surrogate(plain),
        "{about}: {read:?} {}",
        String::from_utf8_lossy(plain)
    );
}

/// `serde_json` refuses what JSON does not.
fn has_lone_surrogate(plain: &[u8]) -> bool {
    let without = String::from_utf8_lossy(plain).replace("ud83d", "u0041");
    serde_json::from_str::<serde_json::Value>(&without).is_ok()
}

fn is_gzip(plain: &[u8], about: &str) {
    let mut read = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(plain), &mut read).unwrap();
    is_json(&read, about);
}

fn are_lines(plain: &[u8], about: &str) {
    let lines: Vec<_> =
        plain.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
    assert_eq!(lines.len(), 3, "{about}");
    lines.iter().for_each(|line| is_json(line, about));
}

fn is_form(plain: &[u8], about: &str) {
    let names: Vec<_> =
        plain.split(|byte| *byte == b'&').map(|pair| pair.split(|byte| *byte == b'=').next()).collect();
    assert!(names.contains(&Some(&b"j"[..])) && names.contains(&Some(b"%6b2")), "{about}");
    assert!(plain.iter().all(|byte| byte.is_ascii_graphic()), "{about}: {}", String::from_utf8_lossy(plain));
}

fn is_multipart(plain: &[u8], about: &str) {
    let text = String::from_utf8_lossy(plain);
    let parts: Vec<&str> = text.split("--edge").collect();
    assert_eq!((parts.len(), parts[0], parts[5]), (6, "", "--\r\n"), "{about}: {text}");
    is_json(parts[3].split_once("\r\n\r\n").unwrap().1.as_bytes(), about);
}

/// As Sentry reads it: by the lengths that headers tell, and to the end of the line where they tell none.
fn is_envelope(plain: &[u8], about: &str) {
    let line = |from: usize| {
        plain[from..].iter().position(|byte| *byte == b'\n').map_or(plain.len(), |end| from + end)
    };
    let mut at = line(0) + 1;
    is_json(&plain[..at], about);
    for has_length in [true, false, true] {
        let start = line(at) + 1;
        let header: serde_json::Value = serde_json::from_slice(&plain[at..start]).unwrap();
        let length = header["length"].as_u64();
        assert_eq!(length.is_some(), has_length, "{about}");
        let end = length.map_or_else(|| line(start), |length| start + length as usize);
        is_json(&plain[start..end], about);
        assert!(end == plain.len() || plain[end] == b'\n', "{about}: a length is wrong");
        at = end + 1;
    }
    assert_eq!(at, plain.len() + 1, "{about}");
}

pub fn is_text(plain: &[u8], about: &str) {
    // With null and remove all of it goes.
    let text = std::str::from_utf8(plain).unwrap();
    assert!(
        text == "REDACTED" || text.contains(" said ") && text.contains(" and left;\n"),
        "{about}: {text}"
    );
}

fn is_otlp_json(plain: &[u8], about: &str) {
    let read = serde_json::from_slice::<ExportLogsServiceRequest>(plain);
    let read = read.unwrap_or_else(|error| panic!("{about}: {error}: {}", String::from_utf8_lossy(plain)));
    check_logs(&read, about);
}

fn are_logs(plain: &[u8], about: &str) {
    check_logs(
        &ExportLogsServiceRequest::decode(plain).unwrap_or_else(|error| panic!("{about}: {error}")),
        about,
    );
}

fn check_logs(read: &ExportLogsServiceRequest, about: &str) {
    let of = &read.resource_logs[0];
    check_pairs(&of.resource.as_ref().unwrap().attributes, about);
    assert_eq!(of.scope_logs[0].log_records.len(), 2, "{about}");
    for record in &of.scope_logs[0].log_records {
        check_pairs(&record.attributes, about);
        assert_eq!(
            (record.time_unix_nano, &record.trace_id[..]),
            (1_700_000_000_000_000_000, &[9; 16][..]),
            "{about}"
        );
    }
}

fn are_metrics(plain: &[u8], about: &str) {
    let read = ExportMetricsServiceRequest::decode(plain).unwrap_or_else(|error| panic!("{about}: {error}"));
    let of = &read.resource_metrics[0];
    check_pairs(&of.resource.as_ref().unwrap().attributes, about);
    let Some(Data::Gauge(gauge)) = &of.scope_metrics[0].metrics[0].data else { panic!("{about}") };
    check_pairs(&gauge.data_points[0].attributes, about);
    assert_eq!(gauge.data_points[0].time_unix_nano, 7, "{about}");
    let Some(Data::Histogram(histogram)) = &of.scope_metrics[0].metrics[1].data else { panic!("{about}") };
    let point = &histogram.data_points[0];
    assert_eq!((point.bucket_counts.len(), point.explicit_bounds.len(), point.count), (3, 2, 5), "{about}");
}

fn are_profiles(plain: &[u8], about: &str) {
    let read = ExportProfilesServiceRequest::decode(plain).unwrap_or_else(|error| panic!("{about}: {error}"));
    check_pairs(&read.resource_profiles[0].resource.as_ref().unwrap().attributes, about);
}

fn are_traces(plain: &[u8], about: &str) {
    let read = ExportTraceServiceRequest::decode(plain).unwrap_or_else(|error| panic!("{about}: {error}"));
    let of = &read.resource_spans[0];
    check_pairs(&of.resource.as_ref().unwrap().attributes, about);
    check_pairs(&of.scope_spans[0].spans[0].attributes, about);
    assert_eq!(of.scope_spans[0].spans[0].span_id, [5; 8], "{about}");
}

/// What the official reader sees of attributes that nobody named.
fn check_pairs(pairs: &[KeyValue], about: &str) {
    let group = |name: &str| {
        let found =
            pairs.iter().find(|pair| pair.key == name).unwrap_or_else(|| panic!("{about}: no {name}"));
        match found.value.clone().and_then(|value| value.value) {
            Some(Value::KvlistValue(list)) => list.values,
            other => panic!("{about}: {name} is {other:?}"),
        }
    };
    let kept =
        |name: &str| group(name).into_iter().find(|pair| pair.key == "k").and_then(|pair| pair.value?.value);
    assert_eq!(kept("int"), Some(Value::IntValue(-1)), "{about}");
    assert_eq!(kept("bool"), Some(Value::BoolValue(false)), "{about}");
    assert_eq!(kept("double"), Some(Value::DoubleValue(1.5)), "{about}");
    assert_eq!(kept("bytes"), Some(Value::BytesValue(vec![1, 255])), "{about}");
    assert_eq!(kept("list"), Some(Value::StringValue("é".to_owned())), "{about}");
    assert_eq!(kept("map"), Some(Value::StringValue(String::new())), "{about}");
    assert_eq!(pairs.first().map(|pair| &*pair.key), Some("k.first"), "{about}");
    assert_eq!(pairs.last().map(|pair| &*pair.key), Some("k.last"), "{about}");
}
