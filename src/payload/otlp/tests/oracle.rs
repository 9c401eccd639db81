//! What serde makes of prost's structs, flattened by the rules of the module's documentation, names the fields.

use super::*;

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
pub(super) fn without_defaults(value: Value) -> Value {
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

pub(super) fn every_field_is_found_by_its_bytes(document: &Document) {
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
