//! OTLP is the same in JSON and in protobuf: what rules find in one they find in the other, and what is made of it is the
//! same, too.

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{
        AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value as Any,
    },
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
        Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
        summary_data_point::ValueAtQuantile,
    },
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Event, span::Link},
};
use plainsight::{
    model::DestinationId,
    rules::{Scratch, preview},
};
use prost::Message;
use serde::Serialize;
use serde_json::Value;

use super::*;

/// Everything that a rule can ask of a value, asked of every field.
const ASKING: &str = r#"
schema = 1
pack = "asking"
version = "1"
[[rule]]
id = "asking.all"
title = "t"
kind = "field"
entity = "ALL"
category = "pii.a"
where = ["otlp:**/*"]
redact = { method = "replace", template = "X" }
[[rule]]
id = "asking.named"
title = "t"
kind = "field"
entity = "NAMED"
category = "pii.a"
where = ["**/{user.id,asInt,count,min}", "**/list/*", "**/bucketCounts/*"]
redact = { method = "replace", template = "X" }
[[rule]]
id = "asking.content"
title = "t"
kind = "field"
entity = "CONTENT"
category = "content.a"
where = ["**/{user.id,small,nothing,largest,smallest,share,flag,text,n}", "**/list/*", "**/body/intValue"]
redact = { method = "replace", template = "X" }
[[rule]]
id = "asking.checked"
title = "t"
kind = "field"
entity = "CHECKED"
category = "pii.a"
where = ["otlp:**/*"]
check = ["luhn"]
redact = { method = "replace", template = "X" }
[[rule]]
id = "asking.unless"
title = "t"
kind = "field"
entity = "UNLESS"
category = "pii.a"
where = ["**/{user.id,small,nothing,largest,smallest,share,flag,text,n}", "**/list/*"]
unless_value = ["true", "2.5", "-7", "8123456790"]
redact = { method = "replace", template = "X" }
[[rule]]
id = "asking.allowed"
title = "t"
kind = "field"
entity = "ALLOWED"
category = "pii.a"
where = ["**/{user.id,small,nothing,largest,smallest,share,flag,text,n}", "**/list/*"]
allow = { exact = ["false", "0.25"], regex = ["^-", "^9223"], reason = "r" }
redact = { method = "replace", template = "X" }
"#;

/// Finds something by its name alone, so that a rule which does not ask for numbers shows that it finds none.
const OTHERS: &str = r#"
schema = 1
pack = "others"
version = "1"
[[rule]]
id = "others.text"
title = "t"
kind = "field"
entity = "OTHER"
category = "pii.a"
where = ["**/attributes/text"]
redact = { method = "replace", template = "X" }
"#;

fn any(value: Any) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn pair(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: any(value), ..KeyValue::default() }
}

/// Numbers of every sort, at every depth. The first is a card's, whose last digit is a checksum.
fn attributes() -> Vec<KeyValue> {
    let list = [Any::IntValue(8_123_456_790), Any::DoubleValue(2.5), Any::BoolValue(true), Any::IntValue(-7)];
    let values = list.into_iter().map(|value| AnyValue { value: Some(value) }).collect();
    let map = vec![
        pair("user.id", Any::IntValue(4_012_888_888_881_881)),
        pair("n", Any::DoubleValue(-0.25)),
        pair("flag", Any::BoolValue(false)),
    ];
    vec![
        pair("user.id", Any::IntValue(4_012_888_888_881_881)),
        pair("small", Any::IntValue(-7)),
        pair("nothing", Any::IntValue(0)),
        pair("largest", Any::IntValue(i64::MAX)),
        pair("smallest", Any::IntValue(i64::MIN)),
        pair("share", Any::DoubleValue(0.25)),
        pair("flag", Any::BoolValue(true)),
        pair("text", Any::StringValue("8123456790".to_owned())),
        pair("list", Any::ArrayValue(ArrayValue { values })),
        pair("map", Any::KvlistValue(KeyValueList { values: map })),
    ]
}

fn resource() -> Option<Resource> {
    Some(Resource { attributes: attributes(), dropped_attributes_count: 3, ..Resource::default() })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "s".to_owned(),
        attributes: attributes(),
        dropped_attributes_count: 4,
        ..InstrumentationScope::default()
    })
}

const TIME: u64 = 1_700_000_000_000_000_001;

fn logs() -> ExportLogsServiceRequest {
    let record = LogRecord {
        time_unix_nano: TIME,
        observed_time_unix_nano: TIME,
        severity_number: 9,
        body: any(Any::IntValue(8_123_456_790)),
        attributes: attributes(),
        dropped_attributes_count: 5,
        flags: 6,
        ..LogRecord::default()
    };
    let scope_logs =
        vec![ScopeLogs { scope: scope(), log_records: vec![record.clone(), record], ..ScopeLogs::default() }];
    let of = ResourceLogs { resource: resource(), scope_logs, ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![of] }
}

fn traces() -> ExportTraceServiceRequest {
    let span = Span {
        name: "n".to_owned(),
        kind: 3,
        flags: 257,
        start_time_unix_nano: TIME,
        end_time_unix_nano: TIME + 1,
        attributes: attributes(),
        dropped_attributes_count: 7,
        events: vec![Event {
            time_unix_nano: TIME,
            name: "e".to_owned(),
            attributes: attributes(),
            dropped_attributes_count: 8,
        }],
        links: vec![Link { attributes: attributes(), flags: 9, ..Link::default() }],
        status: Some(Status { code: 2, message: "m".to_owned() }),
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { scope: scope(), spans: vec![span], ..ScopeSpans::default() }];
    let of = ResourceSpans { resource: resource(), scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![of] }
}

fn metrics() -> ExportMetricsServiceRequest {
    let point = |value| NumberDataPoint {
        attributes: attributes(),
        start_time_unix_nano: TIME,
        time_unix_nano: TIME,
        flags: 1,
        value: Some(value),
        exemplars: vec![Exemplar {
            time_unix_nano: TIME,
            filtered_attributes: attributes(),
            value: Some(exemplar::Value::AsInt(-8_123_456_790)),
            ..Exemplar::default()
        }],
    };
    let histogram = HistogramDataPoint {
        attributes: attributes(),
        count: 4_012_888_888_881_881,
        sum: Some(2.5),
        min: Some(-0.25),
        max: Some(7.5),
        bucket_counts: vec![1, 8_123_456_790, 3],
        explicit_bounds: vec![0.5, 2.5],
        ..HistogramDataPoint::default()
    };
    let exponential = ExponentialHistogramDataPoint {
        count: 5,
        scale: -2,
        zero_count: 6,
        positive: Some(Buckets { offset: -3, bucket_counts: vec![300, 1, u64::MAX] }),
        zero_threshold: 0.5,
        ..ExponentialHistogramDataPoint::default()
    };
    let summary = SummaryDataPoint {
        count: 5,
        sum: 2.5,
        quantile_values: vec![ValueAtQuantile { quantile: 0.5, value: 7.5 }],
        ..SummaryDataPoint::default()
    };
    let metric = |name: &str, data| Metric { name: name.to_owned(), data: Some(data), ..Metric::default() };
    let metrics = vec![
        metric("g", Data::Gauge(Gauge { data_points: vec![point(number_data_point::Value::AsDouble(2.5))] })),
        metric(
            "s",
            Data::Sum(Sum {
                data_points: vec![point(number_data_point::Value::AsInt(8_123_456_790))],
                aggregation_temporality: 2,
                is_monotonic: true,
            }),
        ),
        metric("h", Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: 2 })),
        metric(
            "e",
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![exponential],
                aggregation_temporality: 1,
            }),
        ),
        metric("q", Data::Summary(Summary { data_points: vec![summary] })),
    ];
    let scope_metrics = vec![ScopeMetrics { scope: scope(), metrics, ..ScopeMetrics::default() }];
    let of = ResourceMetrics { resource: resource(), scope_metrics, ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![of] }
}

/// What is found: rule, path, the value as it is read, and how it is shown.
type Found = (String, String, String, String);

fn found(rules: &RuleSet, encoding: OtlpEncoding, body: Vec<u8>) -> Vec<Found> {
    let document = payload::decode(&PayloadFormat::Otlp(encoding), body.into(), &Budget::default()).unwrap();
    let hits = rules.scan(&document, &DestinationId::new("other"), &mut Scratch::default());
    let mut found: Vec<_> = hits
        .iter()
        .map(|hit| {
            let rule = &rules.rules()[hit.rule];
            let (path, value) = (document.field(hit.node).path(), hit.value(&document));
            let shown = String::from_utf8_lossy(&value).into_owned();
            (rule.id.as_str().to_owned(), path.to_string(), shown, preview(rule, &value).into())
        })
        .collect();
    found.sort();
    found
}

/// The same in JSON with whole numbers as numbers, as some exporters write them.
fn unquoted(json: &[u8]) -> Vec<u8> {
    fn unquote(value: &mut Value) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(unquote),
            Value::Object(members) => {
                for (name, member) in members {
                    let number = member.as_str().and_then(|text| text.parse::<i64>().ok());
                    match number.filter(|_| name != "stringValue") {
                        Some(number) => *member = number.into(),
                        None => unquote(member),
                    }
                }
            }
            _ => {}
        }
    }
    let mut value: Value = serde_json::from_slice(json).unwrap();
    unquote(&mut value);
    serde_json::to_vec(&value).unwrap()
}

/// In protobuf nobody writes what is zero or empty.
fn is_default((_, _, value, _): &Found) -> bool {
    matches!(&**value, "" | "0" | "0.0" | "false")
}

#[test]
fn rules_find_the_same_numbers_in_json_and_in_protobuf() {
    fn check(signal: Signal, request: impl Message + Serialize, names: &[&str]) {
        let rules =
            RuleSet::from_sources(&[Source { name: "asking.toml".into(), text: ASKING.into() }]).unwrap();
        let json = serde_json::to_vec(&request).unwrap();
        let in_protobuf = found(&rules, OtlpEncoding::Protobuf(signal), request.encode_to_vec());
        for json in [unquoted(&json), json] {
            let in_json = found(&rules, OtlpEncoding::Json, json);

            let missing: Vec<_> =
                in_json.iter().filter(|it| !in_protobuf.contains(it) && !is_default(it)).collect();
            let more: Vec<_> = in_protobuf.iter().filter(|it| !in_json.contains(it)).collect();
            assert!(missing.is_empty() && more.is_empty(), "{signal:?}: {missing:#?} {more:#?}");
        }
        // PITFALLS 33: it is numbers that were compared.
        for (rule, end, value) in [
            ("all", "resource/attributes/user.id", "4012888888881881"),
            ("named", "resource/attributes/map/user.id", "4012888888881881"),
            ("named", "resource/attributes/list/3", "-7"),
            ("checked", "scope/attributes/user.id", "4012888888881881"),
            ("content", "scope/attributes/text", "8123456790"),
            ("unless", "scope/attributes/smallest", "-9223372036854775808"),
            ("allowed", "scope/attributes/nothing", "0"),
        ] {
            let is_there =
                |(id, path, found, _): &Found| id.ends_with(rule) && path.ends_with(end) && found == value;
            assert!(in_protobuf.iter().any(is_there), "{signal:?}: {rule} {end} {value}: {in_protobuf:#?}");
        }
        for (rule, values) in [
            ("content", &["4012888888881881", "true", "-0.25", "2.5"][..]),
            ("unless", &["true", "2.5", "-7", "8123456790"]),
            ("allowed", &["false", "0.25", "-7", "9223372036854775807"]),
        ] {
            let wrong = |(id, _, found, _): &&Found| id.ends_with(rule) && values.contains(&&**found);
            assert_eq!(in_protobuf.iter().find(wrong), None, "{signal:?}");
        }
        for name in names {
            let is_there = |(id, path, ..): &Found| id == "asking.all" && path.ends_with(name);
            assert!(in_protobuf.iter().any(is_there), "{signal:?}: {name}: {in_protobuf:#?}");
        }
    }

    check(
        Signal::Logs,
        logs(),
        &[
            "logRecords/1/body/intValue",
            "logRecords/0/severityNumber",
            "logRecords/0/flags",
            "logRecords/0/timeUnixNano",
        ],
    );
    check(
        Signal::Traces,
        traces(),
        &["spans/0/kind", "status/code", "links/0/flags", "spans/0/endTimeUnixNano"],
    );
    check(
        Signal::Metrics,
        metrics(),
        &[
            "exemplars/0/asInt",
            "sum/isMonotonic",
            "explicitBounds/1",
            "bucketCounts/2",
            "positive/offset",
            "scale",
            "max",
            "quantile",
        ],
    );
}

/// PITFALLS 32 and 33: a number is no more shown than a text is.
#[test]
fn a_number_that_was_found_is_shown_masked() {
    let rules = RuleSet::from_sources(&[Source { name: "asking.toml".into(), text: ASKING.into() }]).unwrap();

    let found = found(&rules, OtlpEncoding::Protobuf(Signal::Logs), logs().encode_to_vec());

    let (.., preview) = found.iter().find(|(_, _, value, _)| value == "4012888888881881").unwrap();
    assert_eq!(preview, "4012***");
}

#[test]
fn a_rule_that_does_not_name_a_number_finds_none() {
    let rules = RuleSet::from_sources(&[Source { name: "others.toml".into(), text: OTHERS.into() }]).unwrap();

    for (signal, body) in [
        (Signal::Logs, logs().encode_to_vec()),
        (Signal::Traces, traces().encode_to_vec()),
        (Signal::Metrics, metrics().encode_to_vec()),
    ] {
        let found = found(&rules, OtlpEncoding::Protobuf(signal), body);

        assert!(!found.is_empty() && found.iter().all(|(_, path, ..)| path.ends_with("/text")), "{found:?}");
    }
}

/// What the official reader reads of what is sent on.
fn sent(redacting: &Inspector, name: &str, planted: &Planted) -> ExportLogsServiceRequest {
    let body = bodies::BODIES.iter().find(|body| body.name == name).unwrap();
    let cell = Cell::new(body, &[], planted, &mut Random::new(5));
    let inspection = inspect(redacting, cell.request.clone());
    let Forward::Rewritten(rewritten) = &inspection.forward else { panic!("{:?}", inspection.error) };
    let plain = cell.open(rewritten.body.as_ref().unwrap());
    match body.format {
        PayloadFormat::Otlp(OtlpEncoding::Json) => serde_json::from_slice(&plain).unwrap(),
        _ => ExportLogsServiceRequest::decode(&plain[..]).unwrap(),
    }
}

/// A message's own string has no name that it could go with, and bytes in JSON go from within their base64.
fn without_what_cannot_go(mut request: ExportLogsServiceRequest) -> ExportLogsServiceRequest {
    for of in &mut request.resource_logs {
        of.resource.as_mut().unwrap().attributes.retain(|pair| pair.key != "bytes");
        for record in &mut of.scope_logs[0].log_records {
            record.attributes.retain(|pair| pair.key != "bytes");
            record.body = None;
        }
    }
    request
}

/// By all methods but `null`, for which JSON has a word of its own.
#[test]
fn what_is_redacted_says_the_same_in_json_and_in_protobuf() {
    for method in METHODS.iter().filter(|method| !method.contains("\"null\"")) {
        let redacting = redacting(method);
        let planted = Planted::new(method.contains("ip-prefix"), &mut Random::new(4));
        let sent = |name| match method.contains("\"remove\"") {
            true => without_what_cannot_go(sent(&redacting, name, &planted)),
            false => sent(&redacting, name, &planted),
        };

        let in_protobuf = sent("otlp protobuf logs");

        assert_eq!(sent("otlp json"), in_protobuf, "{method}");
        assert_eq!(sent("otlp grpc logs"), in_protobuf, "{method}");
    }
}

#[test]
fn a_number_may_stand_for_a_number() {
    let redacting = redacting("method = \"replace\", template = \"42\"");
    let planted = Planted::new(false, &mut Random::new(4));

    let in_protobuf = sent(&redacting, "otlp protobuf logs", &planted);

    let pairs = &in_protobuf.resource_logs[0].resource.as_ref().unwrap().attributes;
    let value = |name: &str| {
        let group = pairs.iter().find(|pair| pair.key == name).unwrap().value.clone().unwrap().value.unwrap();
        let Any::KvlistValue(list) = group else { panic!("{group:?}") };
        list.values.into_iter().find(|pair| pair.key == "planted").unwrap().value.unwrap().value.unwrap()
    };
    assert_eq!(value("int"), Any::IntValue(42));
    assert_eq!(value("negative"), Any::IntValue(42));
    assert_eq!(value("double"), Any::DoubleValue(42.0));
    assert_eq!(value("bool"), Any::BoolValue(false));
    assert_eq!(sent(&redacting, "otlp json", &planted), in_protobuf);
    assert_eq!(sent(&redacting, "otlp grpc logs", &planted), in_protobuf);
}

/// With what is shipped: rules, and the policy that lets nothing personal leave.
#[test]
fn a_numeric_id_does_not_leave_nor_stay_in_the_record() {
    let private = Policy::from_toml(
        "private.toml",
        PROFILES.iter().find(|profile| profile.name == "private").unwrap().text,
    );
    let inspector = Inspector::new(
        Catalogue::embedded(),
        vec![AuthorityPattern::parse(bodies::OTHER).unwrap()],
        RuleSet::from_sources(&plainsight::rules::embedded()).unwrap(),
        private.unwrap(),
        FingerprintKey::new(&[7; FingerprintKey::LEN_BYTES]),
        Options { capture: Capture::Full, ..Options::default() },
    );
    const ID: i64 = 8_123_456_790;
    let record = LogRecord {
        time_unix_nano: TIME,
        attributes: vec![pair("k", Any::IntValue(5)), pair("user.id", Any::IntValue(ID))],
        ..LogRecord::default()
    };
    let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }],
    };
    let mut varint = Vec::new();
    prost::encoding::encode_varint(ID.cast_unsigned(), &mut varint);
    let (json, protobuf) = (serde_json::to_vec(&request).unwrap(), request.encode_to_vec());
    let mut found = Vec::new();
    for (name, plain, codings, value) in [
        ("otlp json", &json, CODINGS[0], &ID.to_string().into_bytes()),
        ("otlp protobuf logs", &protobuf, CODINGS[0], &varint),
        ("otlp protobuf logs", &protobuf, CODINGS[3], &varint),
        ("otlp grpc logs", &protobuf, CODINGS[0], &varint),
        ("otlp grpc logs", &protobuf, CODINGS[3], &varint),
    ] {
        let about = format!("{name}, {codings:?}");
        let body = bodies::BODIES.iter().find(|body| body.name == name).unwrap();
        let cell = Cell::of(body, plain.clone(), codings);

        let inspection = inspect(&inspector, cell.request.clone());

        let Forward::Rewritten(rewritten) = &inspection.forward else {
            panic!("{about}: {:?} because of {:?}", inspection.forward, inspection.error)
        };
        let sent = cell.open(rewritten.body.as_ref().unwrap());
        let read: ExportLogsServiceRequest = match name {
            "otlp json" => serde_json::from_slice(&sent).unwrap(),
            _ => ExportLogsServiceRequest::decode(&sent[..]).unwrap(),
        };
        let mut expected = request.clone();
        expected.resource_logs[0].scope_logs[0].log_records[0].attributes[1] =
            pair("user.id", Any::IntValue(0));
        assert_eq!(read, expected, "{about}");
        let opening = &inspection.opening;
        let finding =
            opening.findings.iter().find(|finding| finding.path.as_str().ends_with("user.id")).unwrap();
        let span = finding.span.start as usize..finding.span.end as usize;
        // A compressed message is one place.
        if name != "otlp grpc logs" {
            assert_eq!(&plain[span], &value[..], "{about}");
        } else if codings.is_empty() {
            assert_eq!(&plain[span.start - 5..span.end - 5], &value[..], "{about}");
        } else {
            assert_eq!(span.start, 5, "{about}");
        }
        let edit = &opening.rewriting.as_ref().unwrap().edits[0];
        let told = (edit.before, edit.after, &*edit.with, edit.path.as_str());
        assert_eq!(told, (10, 1, "0", finding.path.as_str()), "{about}");
        // What was redacted stands nowhere in the record.
        let record = format!("{opening:?}");
        assert!(!record.contains(&ID.to_string()), "{about}: {record}");
        let fields = opening.fields.iter().map(|field| format!("{field:?}")).collect::<String>();
        assert!(fields.contains("user.id") && fields.contains("81***"), "{about}: {fields}");
        assert!(
            !memchr::memmem::find(opening.body.as_ref().unwrap(), value).is_some_and(|_| codings.is_empty())
        );
        found.push((
            finding.rule.clone(),
            finding.category.clone(),
            finding.path.clone(),
            finding.length,
            finding.fingerprint,
            finding.preview.clone(),
        ));
    }
    assert_eq!((found[0].3, &*found[0].5), (10, "81***"));
    found.dedup();
    assert_eq!(found.len(), 1, "{found:?}");
}
