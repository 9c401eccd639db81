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

mod bounds;
mod oracle;
mod places;
mod requests;

use oracle::{every_field_is_found_by_its_bytes, without_defaults};

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
