use ::base64::{Engine as _, prelude::BASE64_STANDARD};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
        Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
        exponential_histogram_data_point::Buckets, metric, number_data_point,
        summary_data_point::ValueAtQuantile,
    },
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status,
        span::{Event, Link},
    },
};
use proptest::{collection::vec, option, prelude::*};
use prost::Message as _;
use serde_json::Value;

use super::*;
use crate::{
    model::{ByteSize, Field},
    payload::{PayloadFormat, decode_stream as decode_messages},
};

type Fields = Vec<(String, String)>;

fn protobuf(signal: Signal, body: impl Into<Vec<u8>>) -> Document {
    decode(OtlpEncoding::Protobuf(signal), body.into().into(), &Budget::default()).unwrap()
}

fn json(body: impl Into<Vec<u8>>) -> Document {
    decode(OtlpEncoding::Json, body.into().into(), &Budget::default()).unwrap()
}

fn stream(signal: Signal, body: &[u8], messages: &[StreamMessage], ending: Option<NotInspected>) -> Document {
    let format = PayloadFormat::Otlp(OtlpEncoding::Grpc(signal));
    decode_messages(&format, body.to_vec().into(), messages, ending, &Budget::default()).unwrap()
}

/// Paths and values of what has a value, without what was opened out of strings.
fn fields(document: &Document) -> Fields {
    let of = |field: Field<'_>| (field.path().as_str().to_owned(), shown(field));
    let mut fields: Fields = document.leaves().map(of).filter(|(path, _)| !path.contains("/!")).collect();
    fields.sort();
    fields
}

/// A value in a notation that does not depend on the encoding.
fn shown(field: Field<'_>) -> String {
    match field.kind() {
        FieldKind::Number => number(&field.display()),
        _ => field.display().into_owned(),
    }
}

fn number(text: &str) -> String {
    if text.contains(['.', 'e', 'E']) { text.parse::<f64>().unwrap().to_string() } else { text.to_owned() }
}

fn value_at(document: &Document, path: &str) -> String {
    let found = document.fields().find(|field| field.path().as_str() == path);
    found.unwrap_or_else(|| panic!("no {path} in {:#?}", fields(document))).display().into_owned()
}

fn gaps(document: &Document) -> Vec<(String, NotInspected)> {
    document.gaps().iter().map(|(node, why)| (document.field(*node).path().to_string(), *why)).collect()
}

// ---- an oracle: what serde makes of prost's structs, flattened by the rules of the module's documentation

fn expected(value: &Value) -> Fields {
    let mut out = Vec::new();
    flatten(value, &mut vec![], &mut out);
    out.sort();
    out
}

fn flatten(value: &Value, path: &mut Vec<String>, out: &mut Fields) {
    let mut below = |name: &str, out: &mut Fields, go: &dyn Fn(&mut Vec<String>, &mut Fields)| {
        path.push(segment(name));
        go(path, out);
        path.pop();
    };
    match value {
        Value::Array(list) => {
            for (at, member) in list.iter().enumerate() {
                below(&at.to_string(), out, &|path, out| flatten(member, path, out));
            }
        }
        Value::Object(map) => {
            for (name, member) in map {
                below(name, out, &|path, out| match name.as_str() {
                    "attributes" | "filteredAttributes" | "metadata" => flatten_pairs(member, path, out),
                    "arrayValue" => flatten_values(&member["values"], path, out),
                    "kvlistValue" => flatten_pairs(&member["values"], path, out),
                    _ => flatten(member, path, out),
                });
            }
        }
        leaf => out.push((format!("otlp:{}", path.join("/")), plain(leaf))),
    }
}

fn flatten_pairs(list: &Value, path: &mut Vec<String>, out: &mut Fields) {
    for (at, pair) in list.as_array().into_iter().flatten().enumerate() {
        match pair["key"].as_str() {
            Some(key) if !key.is_empty() => {
                path.push(segment(key));
                flatten_any(&pair["value"], path, out);
            }
            _ => {
                path.push(at.to_string());
                flatten(pair, path, out);
            }
        }
        path.pop();
    }
}

fn flatten_values(list: &Value, path: &mut Vec<String>, out: &mut Fields) {
    for (at, value) in list.as_array().into_iter().flatten().enumerate() {
        path.push(at.to_string());
        flatten_any(value, path, out);
        path.pop();
    }
}

fn flatten_any(value: &Value, path: &mut Vec<String>, out: &mut Fields) {
    match value.as_object().and_then(|map| map.iter().next()) {
        None => out.push((format!("otlp:{}", path.join("/")), String::new())),
        Some((kind, value)) => match kind.as_str() {
            "arrayValue" => flatten_values(&value["values"], path, out),
            "kvlistValue" => flatten_pairs(&value["values"], path, out),
            _ => flatten(value, path, out),
        },
    }
}

/// A name as paths write it.
fn segment(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1").replace('\n', "\\u{a}")
}

fn plain(leaf: &Value) -> String {
    match leaf {
        Value::String(text) => text.clone(),
        Value::Number(value) => number(&value.to_string()),
        other => other.to_string(),
    }
}

/// Takes out what protobuf does not write: members with their default value, unless they are one of several.
fn without_defaults(value: Value) -> Value {
    const PRESENT: &[&str] = &[
        "stringValue",
        "boolValue",
        "intValue",
        "doubleValue",
        "bytesValue",
        "arrayValue",
        "kvlistValue",
        "asInt",
        "asDouble",
    ];
    let is_default = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "0",
        Value::Array(list) => list.is_empty(),
        Value::Object(_) => false,
    };
    match value {
        Value::Array(list) => list.into_iter().map(without_defaults).collect(),
        Value::Object(map) => map
            .into_iter()
            .filter(|(name, value)| PRESENT.contains(&name.as_str()) || !is_default(value))
            .map(|(name, value)| (name, without_defaults(value)))
            .collect(),
        leaf => leaf,
    }
}

/// The fields of a request from both encodings are those that the oracle names.
fn agree(signal: Signal, request: &(impl prost::Message + serde::Serialize)) {
    let value = without_defaults(serde_json::to_value(request).unwrap());
    let expected = expected(&value);
    let from_protobuf = protobuf(signal, request.encode_to_vec());
    let from_json = json(value.to_string());
    let from_spaced_json = json(serde_json::to_string_pretty(&value).unwrap());
    let from_full_json = fields(&json(serde_json::to_string(request).unwrap()));

    assert_eq!(fields(&from_protobuf), expected, "protobuf");
    assert_eq!(fields(&from_json), expected, "json of {value}");
    assert_eq!(fields(&from_spaced_json), expected, "json with spaces");
    // With defaults, there is more; nothing may be missing.
    assert!(expected.iter().all(|field| from_full_json.contains(field)), "json with defaults");
    for document in [from_protobuf, from_json] {
        assert_eq!(gaps(&document), []);
        every_field_is_found_by_its_bytes(&document);
    }
}

fn every_field_is_found_by_its_bytes(document: &Document) {
    let mut last = 0;
    for field in document.fields_in(TextId::BODY) {
        assert!(field.span().start >= last, "{} stands before another", field.path());
        last = field.span().start;
        if !field.kind().is_branch() && !field.span().is_empty() {
            for at in [field.span().start, field.span().end - 1] {
                assert_eq!(document.field_at(TextId::BODY, at).path(), field.path());
            }
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z \"\\\\/é\n]{0,12}", Just("{\"a\":\"b\"}".to_owned())]
}

fn id(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(Vec::new()), vec(any::<u8>(), length)]
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.5), Just(-1e21), Just(1.0), -1e9..1e9]
}

fn scalar() -> impl Strategy<Value = any_value::Value> {
    prop_oneof![
        text().prop_map(any_value::Value::StringValue),
        any::<bool>().prop_map(any_value::Value::BoolValue),
        any::<i64>().prop_map(any_value::Value::IntValue),
        float().prop_map(any_value::Value::DoubleValue),
    ]
}

fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = option::weighted(0.9, scalar()).prop_map(|value| AnyValue { value });
    leaf.prop_recursive(4, 24, 4, |inner| {
        let pair = (text(), option::weighted(0.9, inner.clone())).prop_map(|(key, value)| KeyValue {
            key,
            value,
            ..KeyValue::default()
        });
        prop_oneof![
            vec(inner, 0..4).prop_map(|values| any_value::Value::ArrayValue(ArrayValue { values })),
            vec(pair, 0..4).prop_map(|values| any_value::Value::KvlistValue(KeyValueList { values })),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let pair = (prop_oneof![text(), Just("user.email".to_owned())], option::weighted(0.9, any_value()))
        .prop_map(|(key, value)| KeyValue { key, value, ..KeyValue::default() });
    vec(pair, 0..4)
}

fn resource() -> impl Strategy<Value = Option<Resource>> {
    let resource = (attributes(), any::<u32>()).prop_map(|(attributes, dropped_attributes_count)| Resource {
        attributes,
        dropped_attributes_count,
        ..Resource::default()
    });
    option::of(resource)
}

fn scope() -> impl Strategy<Value = Option<InstrumentationScope>> {
    let scope = (text(), attributes()).prop_map(|(name, attributes)| InstrumentationScope {
        name,
        attributes,
        ..InstrumentationScope::default()
    });
    option::of(scope)
}

fn log_record() -> impl Strategy<Value = LogRecord> {
    let body = option::of(any_value());
    (any::<u64>(), 0..24, text(), body, attributes(), id(16), any::<u32>(), text()).prop_map(
        |(time_unix_nano, severity_number, severity_text, body, attributes, trace_id, flags, event_name)| {
            LogRecord {
                time_unix_nano,
                severity_number,
                severity_text,
                body,
                attributes,
                trace_id,
                flags,
                event_name,
                ..LogRecord::default()
            }
        },
    )
}

fn logs() -> impl Strategy<Value = ExportLogsServiceRequest> {
    let scopes = (scope(), vec(log_record(), 0..3), text())
        .prop_map(|(scope, log_records, schema_url)| ScopeLogs { scope, log_records, schema_url });
    let resources = (resource(), vec(scopes, 0..3), text())
        .prop_map(|(resource, scope_logs, schema_url)| ResourceLogs { resource, scope_logs, schema_url });
    vec(resources, 0..3).prop_map(|resource_logs| ExportLogsServiceRequest { resource_logs })
}

fn span() -> impl Strategy<Value = Span> {
    let event = (any::<u64>(), text(), attributes()).prop_map(|(time_unix_nano, name, attributes)| Event {
        time_unix_nano,
        name,
        attributes,
        dropped_attributes_count: 1,
    });
    let link =
        (id(16), id(8), text(), attributes()).prop_map(|(trace_id, span_id, trace_state, attributes)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            ..Link::default()
        });
    let status = option::of((text(), 0..3).prop_map(|(message, code)| Status { message, code }));
    (id(16), id(8), text(), 0..6, any::<u64>(), attributes(), vec(event, 0..3), vec(link, 0..3), status)
        .prop_map(
            |(trace_id, span_id, name, kind, start_time_unix_nano, attributes, events, links, status)| Span {
                trace_id,
                parent_span_id: span_id.clone(),
                span_id,
                name,
                kind,
                start_time_unix_nano,
                attributes,
                events,
                links,
                status,
                ..Span::default()
            },
        )
}

fn spans() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let scopes = (scope(), vec(span(), 0..3)).prop_map(|(scope, spans)| ScopeSpans {
        scope,
        spans,
        schema_url: "s".to_owned(),
    });
    let resources = (resource(), vec(scopes, 0..2)).prop_map(|(resource, scope_spans)| ResourceSpans {
        resource,
        scope_spans,
        ..ResourceSpans::default()
    });
    vec(resources, 0..3).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

fn exemplar() -> impl Strategy<Value = Exemplar> {
    (attributes(), any::<u64>(), any::<i64>(), id(8)).prop_map(
        |(filtered_attributes, time_unix_nano, value, span_id)| Exemplar {
            filtered_attributes,
            time_unix_nano,
            value: Some(exemplar::Value::AsInt(value)),
            span_id,
            ..Exemplar::default()
        },
    )
}

fn number_points() -> impl Strategy<Value = Vec<NumberDataPoint>> {
    let value = prop_oneof![
        any::<i64>().prop_map(number_data_point::Value::AsInt),
        float().prop_map(number_data_point::Value::AsDouble)
    ];
    let point = (attributes(), any::<u64>(), option::of(value), vec(exemplar(), 0..2)).prop_map(
        |(attributes, time_unix_nano, value, exemplars)| NumberDataPoint {
            attributes,
            time_unix_nano,
            value,
            exemplars,
            ..NumberDataPoint::default()
        },
    );
    vec(point, 0..3)
}

fn metric_data() -> impl Strategy<Value = metric::Data> {
    let buckets = || vec(any::<u64>(), 0..5);
    let histogram = (attributes(), buckets(), vec(float(), 0..4), option::of(float())).prop_map(
        |(attributes, bucket_counts, explicit_bounds, sum)| HistogramDataPoint {
            attributes,
            count: 7,
            bucket_counts,
            explicit_bounds,
            sum,
            ..HistogramDataPoint::default()
        },
    );
    let exponential = (any::<i32>(), any::<i32>(), buckets()).prop_map(|(scale, offset, bucket_counts)| {
        ExponentialHistogramDataPoint {
            scale,
            positive: Some(Buckets { offset, bucket_counts }),
            ..ExponentialHistogramDataPoint::default()
        }
    });
    let quantile = (float(), float()).prop_map(|(quantile, value)| ValueAtQuantile { quantile, value });
    let summary = (attributes(), vec(quantile, 0..3)).prop_map(|(attributes, quantile_values)| {
        SummaryDataPoint { attributes, quantile_values, ..SummaryDataPoint::default() }
    });
    prop_oneof![
        number_points().prop_map(|data_points| metric::Data::Gauge(Gauge { data_points })),
        (number_points(), any::<bool>()).prop_map(|(data_points, is_monotonic)| {
            metric::Data::Sum(Sum { data_points, is_monotonic, aggregation_temporality: 2 })
        }),
        vec(histogram, 0..3).prop_map(|data_points| {
            metric::Data::Histogram(Histogram { data_points, aggregation_temporality: 1 })
        }),
        vec(exponential, 0..3).prop_map(|data_points| {
            metric::Data::ExponentialHistogram(ExponentialHistogram {
                data_points,
                aggregation_temporality: 1,
            })
        }),
        vec(summary, 0..3).prop_map(|data_points| metric::Data::Summary(Summary { data_points })),
    ]
}

fn metrics() -> impl Strategy<Value = ExportMetricsServiceRequest> {
    let metric = (text(), text(), attributes(), option::of(metric_data()))
        .prop_map(|(name, unit, metadata, data)| Metric { name, unit, metadata, data, ..Metric::default() });
    let scopes = (scope(), vec(metric, 0..3)).prop_map(|(scope, metrics)| ScopeMetrics {
        scope,
        metrics,
        ..ScopeMetrics::default()
    });
    let resources = (resource(), vec(scopes, 0..2)).prop_map(|(resource, scope_metrics)| ResourceMetrics {
        resource,
        scope_metrics,
        ..ResourceMetrics::default()
    });
    vec(resources, 0..3).prop_map(|resource_metrics| ExportMetricsServiceRequest { resource_metrics })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn logs_have_the_fields_that_the_oracle_names(request in logs()) {
        agree(Signal::Logs, &request);
    }

    #[test]
    fn metrics_have_the_fields_that_the_oracle_names(request in metrics()) {
        agree(Signal::Metrics, &request);
    }

    #[test]
    fn spans_have_the_fields_that_the_oracle_names(request in spans()) {
        agree(Signal::Traces, &request);
    }
}

// ---- what no exporter sends, and what none should

/// A field with a length: its tag's number must be below 16.
fn length(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

/// A request with one log record of these fields.
fn log_of(record: &[u8]) -> Vec<u8> {
    length(1, &length(2, &length(2, record)))
}

const RECORD: &str = "otlp:resourceLogs/0/scopeLogs/0/logRecords/0";

fn at(rest: &str) -> String {
    format!("{RECORD}/{rest}")
}

fn pair(key: &str, value: &[u8]) -> Vec<u8> {
    length(6, &[length(1, key.as_bytes()), length(2, value)].concat())
}

fn string(text: &str) -> Vec<u8> {
    length(1, text.as_bytes())
}

#[test]
fn both_of_two_pairs_with_one_key_are_kept() {
    let body = log_of(&[pair("k", &string("first")), pair("k", &string("second"))].concat());
    let text = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"attributes":[
        {"key":"k","value":{"stringValue":"first"}},{"key":"k","value":{"stringValue":"second"}}]}]}]}]}"#;

    let both = [(at("attributes/k"), "first".to_owned()), (at("attributes/k"), "second".to_owned())];
    assert_eq!(fields(&protobuf(Signal::Logs, body)), both);
    assert_eq!(fields(&json(text)), both);
}

#[test]
fn order_and_company_of_a_pair_do_not_matter() {
    let value = length(2, &string("v"));
    let key = length(1, b"k");
    let extra = length(9, b"extra text");
    for parts in [[&value, &key, &extra], [&extra, &value, &key], [&key, &extra, &value]] {
        let document = protobuf(Signal::Logs, log_of(&length(6, &parts.map(|part| &part[..]).concat())));

        assert_eq!(value_at(&document, &at("attributes/k")), "v");
        assert_eq!(value_at(&document, &at("attributes/#9")), "extra text");
        every_field_is_found_by_its_bytes(&document);
    }
    for pair in [
        r#"{"value":{"stringValue":"v"},"key":"k","x":1}"#,
        r#"{"x":1,"value":{"stringValue":"v"},"key":"k"}"#,
        r#"{ "key" : "k" , "x":1 , "value" : { "stringValue" : "v" } }"#,
        r#"{"value":{"stringValue":"v"},"key":"\u006b","x":1}"#,
    ] {
        let document = json(format!(r#"{{"resourceLogs":[{{"attributes":[{pair}]}}]}}"#));

        let attribute = |name: &str| format!("otlp:resourceLogs/0/attributes/{name}");
        assert_eq!(fields(&document), [(attribute("k"), "v".to_owned()), (attribute("x"), "1".to_owned())]);
    }
}

#[test]
fn a_pair_without_a_key_appears_as_it_is_written() {
    let without = [length(6, &length(2, &string("v"))), length(6, b"\x18\x05"), pair("k", b"")].concat();
    let document = protobuf(Signal::Logs, log_of(&without));
    let from_json = json(
        r#"{"resourceLogs":[{"attributes":[{"value":{"stringValue":"v"}},{"key":1,"value":2},{"key":"k"},7]}]}"#,
    );

    assert_eq!(value_at(&document, &at("attributes/0/value/stringValue")), "v");
    assert_eq!(value_at(&document, &at("attributes/1/keyStrindex")), "5");
    assert_eq!(value_at(&document, &at("attributes/k")), "");
    let attribute =
        |name: &str, value: &str| (format!("otlp:resourceLogs/0/attributes/{name}"), value.to_owned());
    assert_eq!(
        fields(&from_json),
        [
            attribute("0/value/stringValue", "v"),
            attribute("1/key", "1"),
            attribute("1/value", "2"),
            attribute("3", "7"),
            attribute("k", ""),
        ]
    );
}

#[test]
fn integers_in_json_are_kept_as_they_are_written() {
    let document = json(
        r#"{"resourceLogs":[{"attributes":[{"key":"a","value":{"intValue":9007199254740993}},
            {"key":"b","value":{"intValue":"9223372036854775807"}},{"key":"c","value":{"newKind":"x"}}]}],"new":[1]}"#,
    );

    assert_eq!(value_at(&document, "otlp:resourceLogs/0/attributes/a"), "9007199254740993");
    assert_eq!(value_at(&document, "otlp:resourceLogs/0/attributes/b"), "9223372036854775807");
    assert_eq!(value_at(&document, "otlp:resourceLogs/0/attributes/c"), "x");
    assert_eq!(value_at(&document, "otlp:new/0"), "1");
}

#[test]
fn a_body_keeps_its_kind() {
    let body = length(5, &length(6, &length(1, &[length(1, b"k"), length(2, &string("v"))].concat())));
    let list = length(5, &length(5, &length(1, &string("v"))));

    assert_eq!(
        value_at(&protobuf(Signal::Logs, log_of(&length(5, &string("event")))), &at("body/stringValue")),
        "event"
    );
    assert_eq!(value_at(&protobuf(Signal::Logs, log_of(&body)), &at("body/kvlistValue/k")), "v");
    assert_eq!(value_at(&protobuf(Signal::Logs, log_of(&list)), &at("body/arrayValue/0")), "v");
}

#[test]
fn fields_without_a_name_are_kept() {
    let record =
        [&b"\x98\x06\x05"[..], b"\x9a\x06\x04text", b"\x9a\x06\x03\x01\x02\x03", b"\x9d\x06\x01\0\0\0"]
            .concat();
    // A field that has a name, but in a form that it never has.
    let odd = [&record[..], b"\x18\x07"].concat();

    let document = protobuf(Signal::Logs, log_of(&odd));

    let field = |name: &str, value: &str| (at(name), value.to_owned());
    assert_eq!(
        fields(&document),
        [
            field("#3", "7"),
            field("#99", "010203"),
            field("#99", "1"),
            field("#99", "5"),
            field("#99", "text")
        ]
    );
    assert_eq!(gaps(&document), []);
}

#[test]
fn a_group_is_a_gap() {
    let document = protobuf(Signal::Logs, log_of(b"\x9b\x06\x0a\x01a\x9c\x06\x1a\x01w"));

    assert_eq!(gaps(&document), [(at("#99"), NotInspected::FormatUnsupported)]);
    assert_eq!(value_at(&document, &at("severityText")), "w");
}

#[test]
fn numbers_may_be_packed_or_not() {
    // A histogram's data point: bucket counts, two packed and one not, and bounds.
    let counts = [
        &length(6, &[&7_u64.to_le_bytes()[..], &8_u64.to_le_bytes()].concat())[..],
        b"\x31",
        &9_u64.to_le_bytes(),
    ]
    .concat();
    let body = length(1, &length(2, &length(2, &length(9, &length(1, &counts)))));

    let document = protobuf(Signal::Metrics, body);

    let point = "otlp:resourceMetrics/0/scopeMetrics/0/metrics/0/histogram/dataPoints/0/bucketCounts";
    let expected = [("0", "7"), ("1", "8"), ("2", "9")];
    assert_eq!(
        fields(&document),
        expected.map(|(index, value)| (format!("{point}/{index}"), value.to_owned()))
    );
}

#[test]
fn profiles_have_names_too() {
    let pair = [&b"\x08\x01"[..], &length(2, &string("v"))].concat();
    let dictionary = [length(5, b""), length(5, b"main.rs"), length(6, &pair)].concat();
    let body = [length(1, &length(2, &length(2, b"\x38\x05\x3a\x02ab"))), length(2, &dictionary)].concat();

    let document = protobuf(Signal::Profiles, body);

    assert_eq!(value_at(&document, "otlp:dictionary/stringTable/1"), "main.rs");
    assert_eq!(value_at(&document, "otlp:dictionary/attributeTable/0/value/stringValue"), "v");
    assert_eq!(value_at(&document, "otlp:resourceProfiles/0/scopeProfiles/0/profiles/0/profileId"), "6162");
}

// ---- what strings hold

#[test]
fn json_in_a_string_is_opened_from_both_encodings() {
    let input = r#"{"command":"echo \"a\\b\"","note":"mail bob@example.com","list":["x"]}"#;
    let encoded = BASE64_STANDARD.encode(r#"{"user":"carol@example.net"}"#);
    let value = |text: &str| Some(AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) });
    let attribute =
        |key: &str, text: &str| KeyValue { key: key.to_owned(), value: value(text), ..KeyValue::default() };
    let attributes = vec![
        attribute("tool_input", input),
        attribute("encoded", &encoded),
        attribute("percent", "bob%40example.com is it"),
    ];
    let log_records = vec![LogRecord { attributes, ..LogRecord::default() }];
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }],
    };
    let bodies = [
        protobuf(Signal::Logs, request.encode_to_vec()),
        json(without_defaults(serde_json::to_value(&request).unwrap()).to_string()),
    ];

    for document in &bodies {
        assert_eq!(value_at(document, &at("attributes/tool_input/!json/command")), r#"echo "a\b""#);
        assert_eq!(value_at(document, &at("attributes/tool_input/!json/list/0")), "x");
        assert_eq!(value_at(document, &at("attributes/encoded/!base64/!json/user")), "carol@example.net");
        assert_eq!(value_at(document, &at("attributes/percent/!percent")), "bob@example.com is it");
        assert_eq!(gaps(document), []);
    }
    let [from_protobuf, _] = bodies;
    let note = at("attributes/tool_input/!json/note");
    let field = from_protobuf.fields().find(|field| field.path().as_str() == note).unwrap();
    assert_eq!(&from_protobuf.text(TextId::BODY)[field.body_span()], b"mail bob@example.com");
}

#[test]
fn bytes_are_text_where_they_read_as_text() {
    let text = length(7, br#"{"user":"carol@example.net"}"#);
    let body = log_of(
        &[pair("t", &text), pair("b", &length(7, &[0, 1, 2, 255])), length(9, b"sixteen letters!")].concat(),
    );
    let encoded = BASE64_STANDARD.encode(r#"{"user":"carol@example.net"}"#);
    let in_json = format!(
        r#"{{"resourceLogs":[{{"attributes":[{{"key":"t","value":{{"bytesValue":"{encoded}"}}}}]}}]}}"#
    );

    let document = protobuf(Signal::Logs, body);

    assert_eq!(value_at(&document, &at("attributes/t/!json/user")), "carol@example.net");
    assert_eq!(value_at(&document, &at("attributes/b")), "000102ff");
    assert_eq!(value_at(&document, &at("traceId")), "7369787465656e206c65747465727321");
    let path = "otlp:resourceLogs/0/attributes/t/!base64/!json/user";
    assert_eq!(value_at(&json(in_json), path), "carol@example.net");
}

#[test]
fn what_frames_a_value_is_not_scanned_with_it() {
    // The length before is a letter, the tag behind a digit, and a number reads as digits.
    let key = "k".repeat(0x61);
    let record = [
        pair(&key, &string("bob@example.com")),
        pair("b", &string("x")),
        length(3, b"text"),
        b"\x09".to_vec(),
        b"12345678".to_vec(),
    ];
    let body = log_of(&record.concat());

    let document = protobuf(Signal::Logs, body.clone());

    let scanned = document.scannable(TextId::BODY);
    assert_eq!(scanned.len(), body.len());
    let parts: Vec<&[u8]> = scanned.split(|byte| *byte == 0).filter(|part| !part.is_empty()).collect();
    assert_eq!(parts, [key.as_bytes(), b"bob@example.com", b"b", b"x", b"text"]);
}

#[test]
fn what_is_not_understood_is_scanned_as_it_is() {
    let body = log_of(b"\x1a\x01a\x0fbob@example.com");

    let document = protobuf(Signal::Logs, body);

    assert!(document.scannable(TextId::BODY).ends_with(b"\0\0a\x0fbob@example.com"));
}

// ---- what is broken

#[test]
fn a_message_that_is_cut_off_is_read_to_its_end() {
    let whole = log_of(&[pair("a", &string("first")), pair("b", &string("bob@example.com"))].concat());

    for end in 1..whole.len() {
        let document = protobuf(Signal::Logs, &whole[..end]);

        assert!(gaps(&document).iter().any(|(_, why)| *why == NotInspected::FormatBroken), "{end}");
        every_field_is_found_by_its_bytes(&document);
    }
    let document = protobuf(Signal::Logs, &whole[..whole.len() - 4]);
    assert_eq!(value_at(&document, &at("attributes/a")), "first");
    assert_eq!(value_at(&document, &at("attributes/b")), "bob@example");
}

#[test]
fn what_follows_a_broken_message_is_read() {
    let broken = length(2, &length(2, b"\x0f"));
    let whole = length(2, &length(2, &pair("k", &string("v"))));

    let document = protobuf(Signal::Logs, length(1, &[broken, whole].concat()));

    let path = "otlp:resourceLogs/0/scopeLogs/0/logRecords/0".to_owned();
    assert_eq!(gaps(&document), [(path, NotInspected::FormatBroken)]);
    assert_eq!(value_at(&document, "otlp:resourceLogs/0/scopeLogs/1/logRecords/0/attributes/k"), "v");
}

#[test]
fn a_length_past_the_end_is_a_gap() {
    let document = protobuf(Signal::Logs, &b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x1a\x03url"[..]);

    assert_eq!(value_at(&document, "otlp:resourceLogs/0/schemaUrl"), "url");
    assert_eq!(gaps(&document), [("otlp:".to_owned(), NotInspected::FormatBroken)]);
}

// Found by tests/fuzz: OTLP by its path, and no JSON from the first byte on.
#[test]
fn a_json_body_that_is_broken_from_its_first_byte_is_a_gap() {
    for body in ["\n$", "oops", "{oops", ""] {
        let document = json(body);

        assert_eq!(gaps(&document), [("otlp:".to_owned(), NotInspected::FormatBroken)], "{body:?}");
    }
}

#[test]
fn a_json_body_that_is_cut_off_keeps_its_places() {
    let body = r#"{"resourceLogs":[{"attributes":[{"key":"a","value":{"stringValue":"x"}},{"key":"b","value":{"stringValue":"bob@ex"#;

    for end in 1..body.len() {
        every_field_is_found_by_its_bytes(&json(&body[..end]));
    }
    let document = json(body);
    assert_eq!(value_at(&document, "otlp:resourceLogs/0/attributes/b"), "bob@ex");
    assert_eq!(
        gaps(&document),
        [("otlp:resourceLogs/0/attributes/b".to_owned(), NotInspected::FormatBroken)]
    );
}

// ---- bombs

#[test]
fn a_pit_of_lists_costs_no_stack_and_is_a_gap() {
    // Built from the inside out, back to front, because each level has a length.
    let mut back = vec![];
    for _ in 0..100_000 {
        for head in [0x0a_u8, 0x2a] {
            let mut length = back.len();
            let mut digits = vec![head];
            while length >= 0x80 {
                digits.push(length as u8 | 0x80);
                length >>= 7;
            }
            digits.push(length as u8);
            digits.reverse();
            back.extend(digits);
        }
    }
    back.reverse();

    let document = protobuf(Signal::Logs, log_of(&[length(5, &back), length(3, b"behind")].concat()));

    assert_eq!(document.gaps().len(), 1);
    assert_eq!(document.gaps()[0].1, NotInspected::NestingBudget);
    assert_eq!(value_at(&document, &at("severityText")), "behind");
}

#[test]
fn a_million_fields_stop_at_the_budget() {
    let body = log_of(&b"\x1a\x00".repeat(1_500_000));
    let packed = length(1, &length(2, &length(2, &length(9, &length(1, &length(6, &[0; 16_000_000]))))));
    let most = Budget::default().nodes as usize;

    for document in [protobuf(Signal::Logs, body), protobuf(Signal::Metrics, packed)] {
        assert_eq!(document.fields().len(), most);
        assert_eq!(document.gaps().last().unwrap().1, NotInspected::NestingBudget);
    }
}

/// Took minutes once, when each node was looked up by counting to it.
#[test]
fn a_large_json_body_takes_its_shape_in_one_pass() {
    let pair = r#"{"key":"k","value":{"stringValue":"v"}}"#;
    let body = format!(r#"{{"resourceLogs":[{{"attributes":[{}]}}]}}"#, vec![pair; 200_000].join(","));

    let document = json(body);

    assert_eq!(document.leaves().count(), 200_000);
}

#[test]
fn strings_stay_within_the_budget_for_opened_texts() {
    let value = format!("[\"{}\"]", "a".repeat(100_000));
    let body = log_of(&pair("k", &string(&value)));
    let budget = Budget { opened_bytes: ByteSize::kibibytes(64), ..Budget::default() };

    let document = decode(OtlpEncoding::Protobuf(Signal::Logs), body.into(), &budget).unwrap();

    assert!(document.texts().skip(1).map(|(_, bytes)| bytes.len()).sum::<usize>() <= 64 * 1024);
    assert_eq!(gaps(&document), [(at("attributes/k"), NotInspected::NestingBudget)]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>, cut in 0..200_usize, with in any::<u8>()) {
        for signal in [Signal::Logs, Signal::Metrics, Signal::Profiles, Signal::Traces] {
            every_field_is_found_by_its_bytes(&protobuf(signal, bytes.clone()));
        }
        let _ = wire::signal(&bytes);
        // A body that is nearly right goes deeper.
        let mut body = log_of(&[pair("a", &length(6, &length(1, &pair("x", &string("y"))))), pair("b", &string("z"))].concat());
        let at = cut % body.len();
        body[at] = with;
        every_field_is_found_by_its_bytes(&protobuf(Signal::Logs, body));
    }
}

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
