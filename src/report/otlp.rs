//! Flows as OpenTelemetry logs, in JSON and in protobuf. `docs/EXPORT.md` says what each attribute means; attributes are
//! added, never renamed. Values of payloads are in none of them: a finding has its masked preview.

use serde_json::{Value, json};

use crate::{
    model::{AppliedEdit, Finding, FlowRecord, Severity},
    report::words,
};

/// Log records of one installation, ready to be written in either encoding.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpLogs {
    resource: Vec<Attribute>,
    records: Vec<Record>,
}

#[derive(Clone, Debug, PartialEq)]
struct Record {
    time_ms: i64,
    observed_ms: i64,
    severity: (u8, &'static str),
    body: String,
    attributes: Vec<Attribute>,
}

type Attribute = (&'static str, Any);

/// A value as OTLP knows it.
#[derive(Clone, Debug, PartialEq)]
enum Any {
    Int(i64),
    List(Vec<Any>),
    Map(Vec<Attribute>),
    Text(String),
}

impl OtlpLogs {
    /// One log record for each flow. `instance` tells installations apart without saying whose they are.
    pub fn new<'f>(instance: &str, flows: impl IntoIterator<Item = &'f FlowRecord>) -> Self {
        let resource = vec![
            ("service.name", text("plainsight")),
            ("service.version", text(env!("CARGO_PKG_VERSION"))),
            ("service.instance.id", text(instance)),
        ];
        Self { resource, records: flows.into_iter().map(record).collect() }
    }

    /// The request in JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let records: Vec<Value> = self.records.iter().map(Record::to_json).collect();
        let request = json!({ "resourceLogs": [{
            "resource": { "attributes": attributes_json(&self.resource) },
            "scopeLogs": [{ "scope": { "name": SCOPE }, "logRecords": records }],
        }] });
        request.to_string().into_bytes()
    }

    /// The request in protobuf: `ExportLogsServiceRequest`.
    pub fn to_protobuf(&self) -> Vec<u8> {
        let mut resource = Vec::new();
        attributes_protobuf(&mut resource, 1, &self.resource);
        let mut scope = Vec::new();
        bytes_field(&mut scope, 1, SCOPE.as_bytes());
        let mut scope_logs = Vec::new();
        bytes_field(&mut scope_logs, 1, &scope);
        for record in &self.records {
            bytes_field(&mut scope_logs, 2, &record.to_protobuf());
        }
        let mut resource_logs = Vec::new();
        bytes_field(&mut resource_logs, 1, &resource);
        bytes_field(&mut resource_logs, 2, &scope_logs);
        let mut request = Vec::new();
        bytes_field(&mut request, 1, &resource_logs);
        request
    }
}

fn record(flow: &FlowRecord) -> Record {
    let (opening, closing) = (&flow.opening, flow.closing.as_ref());
    let worst = opening.findings.iter().map(|finding| finding.severity).max();
    let (host, port) = opening.authority.rsplit_once(':').unwrap_or((&opening.authority, ""));
    let outcome = closing.map_or("unknown", |closing| closing.outcome.as_str());
    let mut attributes = vec![
        ("plainsight.flow.id", text(opening.id.to_string())),
        ("plainsight.flow.kind", text(opening.kind.as_str())),
        ("plainsight.run.id", Any::Int(opening.id.run().get().into())),
        ("plainsight.destination", text(opening.destination.as_str())),
        ("plainsight.destination.kind", text(opening.destination_kind.as_str())),
        ("plainsight.action", text(opening.action.as_str())),
        ("plainsight.policy_row", text(&*opening.policy_row)),
        ("plainsight.outcome", text(outcome)),
        ("plainsight.findings.count", Any::Int(count(opening.findings.len()))),
        ("server.address", text(host)),
        ("http.request.method", text(&*opening.method)),
        ("http.request.body.size", Any::Int(signed(words::request_bytes(flow)))),
    ];
    let mut add = |name, value: Option<Any>| attributes.extend(value.map(|value| (name, value)));
    let some = |written: &str| (!written.is_empty()).then(|| text(written));
    add("server.port", port.parse().ok().map(Any::Int));
    add("url.scheme", some(&opening.scheme));
    add("url.path", some(&opening.path));
    add("network.protocol.version", opening.version.strip_prefix("HTTP/").map(text));
    add("user_agent.original", opening.user_agent.as_deref().map(text));
    add("plainsight.session", opening.session.map(|session| text(session.to_string())));
    add("plainsight.format", opening.format.as_deref().map(text));
    add("plainsight.not_inspected", words::not_inspected(flow).map(|reason| text(reason.as_str())));
    add("plainsight.answered", opening.answered.map(|answer| text(answer.as_str())));
    if let Some(rewriting) = &opening.rewriting {
        let all = count(rewriting.edits.len()).saturating_add(rewriting.edits_left_out.into());
        add("plainsight.edits.count", Some(Any::Int(all)));
        add("plainsight.edits", list(rewriting.edits.iter().take(MOST_FINDINGS).map(edit)));
        let left_out = all.saturating_sub(count(rewriting.edits.len().min(MOST_FINDINGS)));
        add("plainsight.edits.left_out", (left_out > 0).then_some(Any::Int(left_out)));
    }
    add("plainsight.news", list(opening.news.iter().map(|news| text(&**news))));
    if let Some(closing) = closing {
        add("http.response.status_code", closing.status.map(|status| Any::Int(status.into())));
        add("http.response.body.size", Some(Any::Int(signed(closing.response_bytes))));
        add("plainsight.sent_bytes", Some(Any::Int(signed(closing.request_bytes))));
        add("plainsight.duration_ms", Some(Any::Int(signed(closing.duration_ms))));
        add("error.message", closing.error.as_deref().map(text));
    }
    add("plainsight.findings.max_severity", worst.map(|severity| text(severity.as_str())));
    let mut rules: Vec<&str> = opening.findings.iter().map(|finding| finding.rule.as_str()).collect();
    rules.sort_unstable();
    rules.dedup();
    add("plainsight.findings.rules", list(rules.into_iter().map(text)));
    add("plainsight.findings", list(opening.findings.iter().take(MOST_FINDINGS).map(finding)));
    let left_out = opening.findings.len().saturating_sub(MOST_FINDINGS);
    add("plainsight.findings.left_out", (left_out > 0).then(|| Any::Int(count(left_out))));
    let credentials = opening.credentials.iter().map(|sent| {
        Any::Map(vec![
            ("path", text(sent.path.to_string())),
            ("fingerprint", text(sent.fingerprint.to_string())),
        ])
    });
    add("plainsight.credentials", list(credentials));
    let duration_ms = closing.map_or(0, |closing| signed(closing.duration_ms));
    Record {
        time_ms: opening.time_ms,
        observed_ms: opening.time_ms.saturating_add(duration_ms),
        severity: severity(worst),
        body: format!(
            "{} {}{}: {outcome}, {} findings",
            opening.method,
            opening.authority,
            opening.path,
            opening.findings.len()
        ),
        attributes,
    }
}

fn finding(finding: &Finding) -> Any {
    Any::Map(vec![
        ("rule", text(finding.rule.as_str())),
        ("category", text(&*finding.category)),
        ("severity", text(finding.severity.as_str())),
        ("path", text(finding.path.to_string())),
        ("length", Any::Int(finding.length.into())),
        ("fingerprint", text(finding.fingerprint.to_string())),
        ("preview", text(&*finding.preview)),
    ])
}

fn edit(edit: &AppliedEdit) -> Any {
    Any::Map(vec![
        ("path", text(edit.path.to_string())),
        ("method", text(&*edit.method)),
        ("before", Any::Int(edit.before.into())),
        ("after", Any::Int(edit.after.into())),
    ])
}

/// A log record's severity is that of its worst finding.
const fn severity(worst: Option<Severity>) -> (u8, &'static str) {
    match worst {
        None | Some(Severity::Info) => (9, "INFO"),
        Some(Severity::Low) => (10, "INFO2"),
        Some(Severity::Medium) => (13, "WARN"),
        Some(Severity::High) => (14, "WARN2"),
        Some(Severity::Critical) => (17, "ERROR"),
    }
}

fn text(text: impl Into<String>) -> Any {
    Any::Text(text.into())
}

fn list(values: impl Iterator<Item = Any>) -> Option<Any> {
    let values: Vec<Any> = values.collect();
    (!values.is_empty()).then_some(Any::List(values))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn nanoseconds(time_ms: i64) -> u64 {
    u64::try_from(time_ms).unwrap_or(0).saturating_mul(1_000_000)
}

impl Record {
    fn to_json(&self) -> Value {
        json!({
            "timeUnixNano": nanoseconds(self.time_ms).to_string(),
            "observedTimeUnixNano": nanoseconds(self.observed_ms).to_string(),
            "severityNumber": self.severity.0,
            "severityText": self.severity.1,
            "eventName": EVENT,
            "body": { "stringValue": self.body },
            "attributes": attributes_json(&self.attributes),
        })
    }

    /// `opentelemetry.proto.logs.v1.LogRecord`.
    fn to_protobuf(&self) -> Vec<u8> {
        let mut record = Vec::new();
        fixed64_field(&mut record, 1, nanoseconds(self.time_ms));
        varint_field(&mut record, 2, self.severity.0.into());
        bytes_field(&mut record, 3, self.severity.1.as_bytes());
        bytes_field(&mut record, 5, &text(self.body.as_str()).to_protobuf());
        attributes_protobuf(&mut record, 6, &self.attributes);
        fixed64_field(&mut record, 11, nanoseconds(self.observed_ms));
        bytes_field(&mut record, 12, EVENT.as_bytes());
        record
    }
}

fn attributes_json(attributes: &[Attribute]) -> Value {
    attributes.iter().map(|(key, value)| json!({ "key": key, "value": value.to_json() })).collect()
}

fn attributes_protobuf(out: &mut Vec<u8>, field: u32, attributes: &[Attribute]) {
    for (key, value) in attributes {
        let mut pair = Vec::new();
        bytes_field(&mut pair, 1, key.as_bytes());
        bytes_field(&mut pair, 2, &value.to_protobuf());
        bytes_field(out, field, &pair);
    }
}

impl Any {
    fn to_json(&self) -> Value {
        match self {
            Self::Int(number) => json!({ "intValue": number.to_string() }),
            Self::List(values) => {
                json!({ "arrayValue": { "values": values.iter().map(Self::to_json).collect::<Vec<_>>() } })
            }
            Self::Map(entries) => json!({ "kvlistValue": { "values": attributes_json(entries) } }),
            Self::Text(text) => json!({ "stringValue": text }),
        }
    }

    /// `opentelemetry.proto.common.v1.AnyValue`.
    fn to_protobuf(&self) -> Vec<u8> {
        let mut value = Vec::new();
        match self {
            Self::Int(number) => varint_field(&mut value, 3, number.cast_unsigned()),
            Self::List(values) => {
                let mut list = Vec::new();
                values.iter().for_each(|one| bytes_field(&mut list, 1, &one.to_protobuf()));
                bytes_field(&mut value, 5, &list);
            }
            Self::Map(entries) => {
                let mut map = Vec::new();
                attributes_protobuf(&mut map, 1, entries);
                bytes_field(&mut value, 6, &map);
            }
            Self::Text(text) => bytes_field(&mut value, 1, text.as_bytes()),
        }
        value
    }
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn varint_field(out: &mut Vec<u8>, field: u32, number: u64) {
    varint(out, u64::from(field << 3));
    varint(out, number);
}

fn fixed64_field(out: &mut Vec<u8>, field: u32, number: u64) {
    varint(out, u64::from(field << 3 | 1));
    out.extend_from_slice(&number.to_le_bytes());
}

fn bytes_field(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    varint(out, u64::from(field << 3 | 2));
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The name of the scope, and of the one kind of event in it.
const SCOPE: &str = "plainsight.audit";
const EVENT: &str = "plainsight.flow";
/// Findings that one log record lists. An event batch has thousands, and collectors refuse records above some size; the
/// rest are counted, and stand in `plainsight show`.
const MOST_FINDINGS: usize = 100;

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use prost::Message as _;

    use super::*;
    use crate::{
        model::{Answer, FieldPath, Rewriting},
        report::testing,
    };

    fn read(logs: &OtlpLogs) -> ExportLogsServiceRequest {
        ExportLogsServiceRequest::decode(&*logs.to_protobuf()).unwrap()
    }

    fn sent() -> (OtlpLogs, Value) {
        let mut events = testing::events();
        events.opening.answered = Some(Answer::Sink);
        let edit = AppliedEdit {
            path: FieldPath::from_raw("first-party-events:events/0/email"),
            method: "pseudonym".into(),
            before: 15,
            after: 20,
            with: "".into(),
        };
        events.opening.rewriting = Some(Rewriting { body_bytes: 9, edits: vec![edit], edits_left_out: 2 });
        let logs = OtlpLogs::new("i1", [&events]);
        let json = serde_json::from_slice(&logs.to_json()).unwrap();
        (logs, json)
    }

    #[test]
    fn both_encodings_say_the_same() {
        let (logs, json) = sent();

        let from_json: ExportLogsServiceRequest = serde_json::from_value(json).unwrap();

        assert_eq!(read(&logs), from_json);
    }

    #[test]
    fn a_flow_becomes_a_log_record_with_documented_attributes() {
        let (_, json) = sent();
        let record = &json["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        let attribute = |name: &str| {
            let found = record["attributes"].as_array().unwrap().iter().find(|pair| pair["key"] == name);
            found.map_or(Value::Null, |pair| pair["value"].clone())
        };

        assert_eq!(record["timeUnixNano"], "1795251966042000000");
        assert_eq!(record["severityText"], "ERROR");
        assert_eq!(record["eventName"], "plainsight.flow");
        assert_eq!(attribute("plainsight.flow.id"), json!({ "stringValue": "12-7" }));
        assert_eq!(attribute("server.address"), json!({ "stringValue": "api.anthropic.com" }));
        assert_eq!(attribute("server.port"), json!({ "intValue": "443" }));
        assert_eq!(attribute("http.response.status_code"), json!({ "intValue": "200" }));
        assert_eq!(attribute("plainsight.answered"), json!({ "stringValue": "sink" }));
        assert_eq!(attribute("plainsight.edits.count"), json!({ "intValue": "3" }));
        assert_eq!(attribute("plainsight.edits.left_out"), json!({ "intValue": "2" }));
        assert!(attribute("plainsight.edits").to_string().contains("pseudonym"));
        let findings = attribute("plainsight.findings");
        let first = &findings["arrayValue"]["values"][0]["kvlistValue"]["values"];
        assert!(first.to_string().contains("b***@e***.example"), "{first}");
    }

    #[test]
    fn every_attribute_is_documented() {
        let documented = include_str!("../../docs/EXPORT.md");
        let (logs, _) = sent();
        let names = logs.records.iter().flat_map(|record| &record.attributes).chain(&logs.resource);

        for (name, _) in names {
            assert!(documented.contains(&format!("`{name}`")), "{name} is not in docs/EXPORT.md");
        }
    }

    #[test]
    fn a_flow_without_an_end_says_so() {
        let mut record = testing::events();
        record.closing = None;

        let json = String::from_utf8(OtlpLogs::new("i1", [&record]).to_json()).unwrap();

        assert!(json.contains(r#"{"key":"plainsight.outcome","value":{"stringValue":"unknown"}}"#), "{json}");
    }

    #[test]
    fn findings_are_listed_up_to_a_number_and_counted_beyond() {
        let mut record = testing::events();
        let one = record.opening.findings[0].clone();
        record.opening.findings = vec![one; MOST_FINDINGS + 5];

        let request = read(&OtlpLogs::new("i1", [&record]));

        let attributes = &request.resource_logs[0].scope_logs[0].log_records[0].attributes;
        let text = format!("{:?}", attributes.iter().find(|pair| pair.key == "plainsight.findings.left_out"));
        assert!(text.contains("IntValue(5)"), "{text}");
    }
}
