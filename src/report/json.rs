//! Flows as JSON. `docs/AUDIT-FORMAT.md` says what each key means; keys are added, never renamed.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    model::{AppliedEdit, CapturedField, Finding, FlowRecord, SentCredential},
    report::words,
};

/// One flow, as `plainsight log --json` prints it.
pub fn flow(flow: &FlowRecord) -> Value {
    let (opening, closing) = (&flow.opening, flow.closing.as_ref());
    json!({
        "id": opening.id.to_string(),
        "time": time(opening.time_ms),
        "run": opening.id.run().get(),
        "kind": opening.kind,
        "destination": opening.destination,
        "destination_kind": opening.destination_kind,
        "method": opening.method,
        "scheme": opening.scheme,
        "authority": opening.authority,
        "path": opening.path,
        "version": opening.version,
        "user_agent": opening.user_agent,
        "session": opening.session,
        "status": closing.and_then(|closing| closing.status),
        "request_bytes": words::request_bytes(flow),
        "sent_bytes": closing.map(|closing| closing.request_bytes),
        "response_bytes": closing.map(|closing| closing.response_bytes),
        "duration_ms": closing.map(|closing| closing.duration_ms),
        "action": opening.action,
        "answered": opening.answered,
        "policy_row": opening.policy_row,
        "policy_hash": opening.policy_hash,
        "outcome": closing.map(|closing| closing.outcome),
        "error": closing.and_then(|closing| closing.error.as_deref()),
        "not_inspected": words::not_inspected(flow),
        "format": opening.format,
        "news": opening.news,
        "credentials": opening.credentials.iter().map(credential).collect::<Vec<_>>(),
        "findings": opening.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

/// One flow with its decoded fields, as `plainsight show --json` prints it.
pub fn flow_with_fields(flow: &FlowRecord) -> Value {
    let mut value = self::flow(flow);
    let field = |field: CapturedField| json!({ "path": field.path, "value": field.value });
    value["fields"] = flow.opening.fields.iter().map(field).collect();
    value["fields_left_out"] = flow.opening.fields_left_out.into();
    let edit = |edit: &AppliedEdit| {
        json!({
            "path": edit.path, "method": edit.method, "before": edit.before, "after": edit.after, "with": edit.with,
        })
    };
    value["rewriting"] = match &flow.opening.rewriting {
        None => Value::Null,
        Some(rewriting) => json!({
            "body_bytes": rewriting.body_bytes,
            "edits": rewriting.edits.iter().map(edit).collect::<Vec<_>>(),
            "edits_left_out": rewriting.edits_left_out,
        }),
    };
    value
}

/// A moment as RFC 3339 in UTC, with milliseconds.
pub(super) fn time(time_ms: i64) -> Option<String> {
    let timestamp = Timestamp::from_millisecond(time_ms).ok()?;
    Some(timestamp.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

fn credential(sent: &SentCredential) -> Value {
    json!({ "path": sent.path, "fingerprint": sent.fingerprint })
}

fn finding(finding: &Finding) -> Value {
    json!({
        "rule": finding.rule,
        "category": finding.category,
        "severity": finding.severity,
        "confidence": finding.confidence,
        "path": finding.path,
        "span": [finding.span.start, finding.span.end],
        "length": finding.length,
        "fingerprint": finding.fingerprint,
        "preview": finding.preview,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing;

    #[test]
    fn a_flow_has_the_stable_keys() {
        let value = flow(&testing::events());

        let finding = &value["findings"][0];
        assert_eq!(
            value,
            json!({
                "id": "12-7", "time": "2026-11-21T09:06:06.042Z", "run": 12, "kind": "request",
                "destination": "first-party-events", "destination_kind": "telemetry", "method": "POST",
                "scheme": "https", "authority": "api.anthropic.com:443",
                "path": "/api/event_logging/v2/batch", "version": "HTTP/1.1",
                "user_agent": "claude-code/2.1.329", "session": null, "status": 200,
                "request_bytes": 316_302, "sent_bytes": 316_302, "response_bytes": 42, "duration_ms": 87,
                "action": "allow", "answered": null, "policy_row": "default", "policy_hash": null, "outcome": "forwarded", "error": null,
                "not_inspected": null, "format": "first-party-events", "news": [],
                "credentials": [],
                "findings": value["findings"],
            })
        );
        assert_eq!(
            *finding,
            json!({
                "rule": "account.email", "category": "pii.contact", "severity": "high",
                "confidence": "certain", "path": "first-party-events:events/0/event_data/email",
                "span": [10, 22], "length": 12, "fingerprint": finding["fingerprint"],
                "preview": "b***@e***.example",
            })
        );
    }

    #[test]
    fn an_open_flow_has_nulls_where_its_end_will_stand() {
        let mut record = testing::events();
        record.closing = None;

        let value = flow(&record);

        for key in ["outcome", "status", "response_bytes", "duration_ms"] {
            assert!(value[key].is_null(), "{key}");
        }
        assert_eq!(value["request_bytes"], 316_302);
    }

    #[test]
    fn showing_adds_the_fields() {
        let value = flow_with_fields(&testing::events());

        assert_eq!(value["fields"][0]["path"], "first-party-events:events/0/event_type");
        assert_eq!(value["fields_left_out"], 0);
        assert!(value["rewriting"].is_null());
    }
}
