//! Bodies as the client sends them, made larger: each is a batch of many events, no two alike.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use serde_json::{Value, json};

/// An id that differs from event to event, and from the installation's own.
fn id(seed: u64) -> String {
    let mix = |n: u64| {
        (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    let (high, low) = (mix(seed), mix(seed ^ 0xffff));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}

/// An event batch, with metadata in base64 of JSON as the client has it, or without.
pub fn events(count: u64, with_base64: bool) -> Vec<u8> {
    let event = |n: u64| {
        let mut data = json!({
            "event_name": "tengu_api_success", "client_timestamp": format!("2026-11-21T10:{:02}:{:02}.{:03}Z", n / 60 % 60, n % 60, n % 1000),
            "session_id": id(7), "model": "claude-sonnet-4-5-20250929", "betas": "interleaved-thinking,context-management",
            "env": { "platform": "linux", "node_version": "v24.3.0", "terminal": "xterm-256color", "package_managers": "npm,pnpm",
                "is_ci": false, "arch": "x64", "version": "2.1.329", "deployment_environment": "unknown-linux", "is_running_with_bun": true },
            "entrypoint": "cli", "is_interactive": true, "client_type": "cli", "device_id": id(9),
            "process": { "uptime": n as f64 * 1.37, "rss": 312_000_000 + n, "heapTotal": 71_000_000 + n * 17, "cpuUsage": { "user": n * 991, "system": n * 37 } },
            "event_id": id(n),
        });
        if with_base64 {
            let metadata = json!({ "durationMs": n * 31 % 9000, "inputTokens": n * 7 % 4000, "requestId": format!("req_{}", id(n + 1)), "queryDepth": 0, "stop_reason": "end_turn" });
            data["additional_metadata"] = STANDARD.encode(metadata.to_string()).into();
        }
        json!({ "event_type": "ClaudeCodeInternalEvent", "event_data": data })
    };
    json!({ "events": (0..count).map(event).collect::<Vec<_>>() }).to_string().into_bytes()
}

/// A batch for Datadog's log intake.
pub fn datadog(count: u64) -> Vec<u8> {
    let entry = |n: u64| {
        json!({
            "ddsource": "nodejs", "service": "claude-code", "hostname": "claude-code", "env": "external", "message": "tengu_tool_use_success",
            "ddtags": format!("event:tengu_tool_use_success,arch:x64,client_type:cli,model:claude-sonnet-4-5,platform:linux,user_bucket:{},version:2.1.329", n % 30),
            "model": "claude-sonnet-4-5", "session_id": id(7), "duration_ms": n * 13 % 7000, "tool_name": "Bash", "uptime": n as f64 * 0.25,
            "rss": 312_000_000 + n, "message_id": id(n),
        })
    };
    Value::Array((0..count).map(entry).collect()).to_string().into_bytes()
}

fn text(value: impl Into<String>) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Any::StringValue(value.into())) })
}

fn pair(key: &str, value: impl Into<String>) -> KeyValue {
    KeyValue { key: key.to_owned(), value: text(value), ..KeyValue::default() }
}

fn attributes(n: u64) -> Vec<KeyValue> {
    let number = |key: &str, n: i64| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Any::IntValue(n)) }),
        ..KeyValue::default()
    };
    vec![
        pair("session.id", id(7)),
        pair("app.version", "2.1.329"),
        pair("organization.id", id(8)),
        pair("terminal.type", "xterm-256color"),
        pair("event.name", "api_request"),
        pair("event.timestamp", format!("2026-11-21T10:{:02}:{:02}.000Z", n / 60 % 60, n % 60)),
        number("event.sequence", n as i64),
        pair("prompt.id", id(n)),
        pair("model", "claude-sonnet-4-5-20250929"),
        number("input_tokens", (n * 7 % 4000) as i64),
        pair("cost_usd", "0.0123"),
        number("duration_ms", (n * 31 % 9000) as i64),
        pair("speed", "normal"),
    ]
}

fn resource() -> Option<Resource> {
    let attributes = vec![
        pair("host.arch", "amd64"),
        pair("os.type", "linux"),
        pair("os.version", "6.18.44"),
        pair("service.name", "claude-code"),
        pair("service.version", "2.1.329"),
    ];
    Some(Resource { attributes, ..Resource::default() })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "com.anthropic.claude_code.events".to_owned(),
        version: "2.1.329".to_owned(),
        ..InstrumentationScope::default()
    })
}

/// Log records, in protobuf.
pub fn otlp_logs(count: u64) -> Vec<u8> {
    let record = |n: u64| LogRecord {
        time_unix_nano: 1_763_700_000_000_000_000 + n * 1_000_003,
        observed_time_unix_nano: 1_763_700_000_000_000_000 + n * 1_000_003,
        body: text("claude_code.api_request"),
        attributes: attributes(n),
        ..LogRecord::default()
    };
    let log_records = (0..count).map(record).collect();
    let scope_logs = vec![ScopeLogs { scope: scope(), log_records, ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { resource: resource(), scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

/// Spans, in protobuf.
pub fn otlp_spans(count: u64) -> Vec<u8> {
    let span = |n: u64| Span {
        trace_id: n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().repeat(2),
        span_id: n.to_be_bytes().to_vec(),
        name: "claude_code.llm_request".to_owned(),
        kind: 1,
        start_time_unix_nano: 1_763_700_000_000_000_000 + n,
        end_time_unix_nano: 1_763_700_000_900_000_000 + n,
        attributes: attributes(n),
        ..Span::default()
    };
    let scope_spans =
        vec![ScopeSpans { scope: scope(), spans: (0..count).map(span).collect(), ..ScopeSpans::default() }];
    let resource_spans =
        vec![ResourceSpans { resource: resource(), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// Log records, as the JavaScript exporter writes them in JSON.
pub fn otlp_json(count: u64) -> Vec<u8> {
    let value = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => json!({ "stringValue": text }),
        Some(Any::IntValue(number)) => json!({ "intValue": number }),
        _ => json!({}),
    };
    let pairs = |list: &[KeyValue]| -> Vec<Value> {
        list.iter().map(|pair| json!({ "key": pair.key, "value": value(&pair.value) })).collect()
    };
    let record = |n: u64| {
        let time = (1_763_700_000_000_000_000 + n * 1_000_003).to_string();
        json!({ "timeUnixNano": time, "observedTimeUnixNano": time, "body": { "stringValue": "claude_code.api_request" }, "attributes": pairs(&attributes(n)), "droppedAttributesCount": 0 })
    };
    let records: Vec<Value> = (0..count).map(record).collect();
    let resource = resource().map(|resource| pairs(&resource.attributes)).unwrap_or_default();
    json!({ "resourceLogs": [{ "resource": { "attributes": resource }, "scopeLogs": [{ "scope": { "name": "events" }, "logRecords": records }] }] })
        .to_string()
        .into_bytes()
}
