//! Records for the tests of this room, shaped like what the real client sends.

use jiff::tz::TimeZone;

use crate::{
    model::{
        Action, CapturedField, CapturedFields, Confidence, DestinationId, DestinationKind, FieldPath,
        Finding, FingerprintKey, FlowClosing, FlowId, FlowKind, FlowOpening, FlowRecord, NotInspected,
        Outcome, RuleId, RunId, Severity,
    },
    report::View,
};

pub(super) fn view(width: usize) -> View {
    View { width, colour: false, zone: TimeZone::UTC }
}

/// A flow with a destination, and nothing special.
pub(super) fn record(number: u32, destination: &str, kind: DestinationKind, path: &str) -> FlowRecord {
    FlowRecord {
        opening: FlowOpening {
            id: FlowId::new(RunId::new(12).unwrap(), number),
            time_ms: 1_795_251_966_042,
            kind: FlowKind::Request,
            destination: DestinationId::new(destination),
            destination_kind: kind,
            method: "POST".into(),
            scheme: "https".into(),
            authority: "api.anthropic.com:443".into(),
            path: path.into(),
            version: "HTTP/1.1".into(),
            user_agent: Some("claude-code/2.1.329".into()),
            session: None,
            request_bytes: 1434,
            action: Action::Allow,
            answered: None,
            policy_row: "default".into(),
            policy_hash: None,
            not_inspected: None,
            format: Some(destination.into()),
            credentials: Vec::new(),
            findings: Vec::new(),
            fields: CapturedFields::default(),
            fields_left_out: 0,
            body: None,
            news: Vec::new(),
            rewriting: None,
        },
        closing: Some(FlowClosing {
            outcome: Outcome::Forwarded,
            status: Some(200),
            request_bytes: 1434,
            response_bytes: 42,
            duration_ms: 87,
            error: None,
            not_inspected: None,
        }),
    }
}

pub(super) fn finding(rule: &str, category: &str, severity: Severity, path: &str, value: &str) -> Finding {
    Finding {
        rule: RuleId::new(rule),
        category: category.into(),
        severity,
        confidence: Confidence::Certain,
        path: FieldPath::from_raw(path),
        span: 10..22,
        length: 12,
        fingerprint: FingerprintKey::new(&[1; 32]).fingerprint(value.as_bytes()),
        preview: "b***@e***.example".into(),
    }
}

/// An event batch with an e-mail and a device id, the latter inside base64.
pub(super) fn events() -> FlowRecord {
    let mut flow = record(7, "first-party-events", DestinationKind::Telemetry, "/api/event_logging/v2/batch");
    flow.opening.request_bytes = 316_302;
    flow.closing.as_mut().unwrap().request_bytes = 316_302;
    let email = "first-party-events:events/0/event_data/email";
    let device = "first-party-events:events/0/event_data/additional_metadata/!base64/!json/device_id";
    flow.opening.findings = vec![
        finding("account.email", "pii.contact", Severity::High, email, "bob"),
        finding("id.device", "pii.device", Severity::Medium, device, "device"),
        finding("account.credential", "secret.token", Severity::Critical, "header:x-api-key", "key"),
    ];
    let field = |path: &str, value: &str| CapturedField { path: path.into(), value: value.into() };
    flow.opening.fields = CapturedFields::from(vec![
        field("first-party-events:events/0/event_type", "ClaudeCodeInternalEvent"),
        field("first-party-events:events/0/event_data/event_name", "tengu_init"),
        field(email, "b***@e***.example"),
        field("first-party-events:events/0/event_data/additional_metadata/!base64/!json/model", "opus"),
        field(device, "4f1c…"),
        field("first-party-events:events/1/event_type", "GrowthbookExperimentEvent"),
    ]);
    flow
}

/// One `run`, shaped like a real one.
pub(super) fn session() -> Vec<FlowRecord> {
    use DestinationKind as Kind;
    let mut metrics = record(3, "first-party-metrics", Kind::Telemetry, "/api/claude_code/metrics");
    let user = "first-party-metrics:metrics/0/data_points/0/attributes/user.id";
    metrics.opening.findings = vec![finding("id.user", "pii.device", Severity::Medium, user, "device")];
    let mut flags = record(1, "feature-flags", Kind::FeatureFlags, "/api/eval/sdk-REDACTED");
    let flag = |name| format!("feature-flags:attributes/{name}");
    flags.opening.findings = vec![
        finding("account.email", "pii.contact", Severity::High, &flag("email"), "bob"),
        finding("account.uuid", "pii.account", Severity::High, &flag("accountUUID"), "account"),
    ];
    let mut conversation = record(4, "conversation", Kind::Conversation, "/v1/messages?beta=true");
    conversation.opening.not_inspected = Some(NotInspected::Conversation);
    conversation.opening.request_bytes = 49_152;
    let mut otlp = record(5, "otlp", Kind::Telemetry, "/v1/traces");
    otlp.opening.authority = "collector.example:4318".into();
    otlp.opening.not_inspected = Some(NotInspected::FormatUnsupported);
    let mut new = record(6, "first-party-unknown", Kind::Unknown, "/api/claude_code/brand_new");
    new.opening.news = vec!["path".into()];
    let mut flows = vec![flags, metrics, conversation, otlp, new, events()];
    for number in 8..12 {
        let mut tunnel = record(number, "third-party", Kind::ThirdParty, "");
        tunnel.opening.kind = FlowKind::Tunnel;
        tunnel.opening.method = "CONNECT".into();
        tunnel.opening.scheme = "".into();
        tunnel.opening.request_bytes = 0;
        tunnel.opening.not_inspected = Some(NotInspected::NotIntercepted);
        let (host, answer) =
            if number == 8 { ("github.example:22", 900) } else { ("files.example:443", 400_000) };
        tunnel.opening.authority = host.into();
        let closing = tunnel.closing.as_mut().unwrap();
        (closing.outcome, closing.status, closing.response_bytes) = (Outcome::Tunneled, None, answer);
        flows.push(tunnel);
    }
    flows
}
