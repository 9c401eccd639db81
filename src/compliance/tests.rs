use super::*;
use crate::model::{
    Action, AuthorityPattern, CapturedField, CapturedFields, ClientVersion, Confidence, DestinationId,
    DestinationKind, EffectiveSwitch, EffectiveSwitches, FieldPath, Finding, FingerprintKey, FlowClosing,
    FlowId, FlowKind, FlowOpening, FlowRecord, NotInspected, Provider, RuleId, RunId, Severity, SwitchLayer,
    SwitchSetting, ValueRule,
};

const DESTINATIONS: [(&str, DestinationKind, &[&str]); 17] = [
    ("first-party-metrics", DestinationKind::Telemetry, &["api.anthropic.com"]),
    ("first-party-events", DestinationKind::Telemetry, &["api.anthropic.com"]),
    ("feature-flags", DestinationKind::FeatureFlags, &["api.anthropic.com", "cdn.growthbook.io"]),
    ("metrics-opt-out", DestinationKind::Settings, &["api.anthropic.com"]),
    ("statsig", DestinationKind::Telemetry, &["statsig.anthropic.com"]),
    ("sentry", DestinationKind::Telemetry, &["*.sentry.io"]),
    ("datadog", DestinationKind::Telemetry, &["http-intake.logs.*.datadoghq.com"]),
    ("segment", DestinationKind::Telemetry, &["api.segment.io"]),
    ("feedback", DestinationKind::Feedback, &["api.anthropic.com"]),
    ("conversation", DestinationKind::Conversation, &["api.anthropic.com"]),
    ("oauth-usage", DestinationKind::Settings, &["api.anthropic.com"]),
    ("domain-check", DestinationKind::Settings, &["api.anthropic.com"]),
    ("settings", DestinationKind::Settings, &["api.anthropic.com"]),
    ("first-party-unknown", DestinationKind::Unknown, &["api.anthropic.com", "statsig.anthropic.com"]),
    ("updates", DestinationKind::Updates, &["downloads.claude.ai"]),
    ("otlp", DestinationKind::Telemetry, &["*"]),
    ("third-party", DestinationKind::ThirdParty, &[]),
];

fn names() -> impl Iterator<Item = &'static str> {
    DESTINATIONS.iter().map(|(id, ..)| *id)
}

fn checks() -> Checks {
    let controls = Controls::embedded(names()).unwrap();
    let claims = Claims::embedded(&controls, names()).unwrap();
    let places = DESTINATIONS.iter().map(|(id, kind, hosts)| DestinationHosts {
        id: DestinationId::new(id),
        kind: *kind,
        hosts: hosts.iter().map(|host| AuthorityPattern::parse(host).unwrap()).collect(),
    });
    Checks {
        controls,
        claims,
        places: places.collect(),
        assertions: Vec::new(),
        only: Vec::new(),
        claims_count: false,
        baseline: Baseline::default(),
        today: "2026-11-21".into(),
        client_version: None,
        version_of: |agent| agent.strip_prefix("claude-cli/")?.parse().ok(),
    }
}

fn told(switches: &[(&str, &str)]) -> EffectiveSwitches {
    let controls = Controls::embedded(names()).unwrap();
    let switches = switches.iter().map(|(name, value)| EffectiveSwitch {
        name: (*name).into(),
        state: controls.switch(name).expect("a switch that is known").rule.value.state(Some(value)),
        setting: SwitchSetting { layer: SwitchLayer::Process, file: None, value: Some((*value).into()) },
        hidden: Vec::new(),
        misreading: None,
    });
    EffectiveSwitches { switches: switches.collect(), ..EffectiveSwitches::none() }
}

fn request(number: u32, destination: &str, authority: &str) -> FlowRecord {
    let (_, kind, _) = *DESTINATIONS.iter().find(|(id, ..)| *id == destination).unwrap();
    FlowRecord {
        opening: FlowOpening {
            id: FlowId::new(RunId::new(12).unwrap(), number),
            time_ms: 1_000 + i64::from(number),
            kind: FlowKind::Request,
            destination: DestinationId::new(destination),
            destination_kind: kind,
            method: "POST".into(),
            scheme: "https".into(),
            authority: format!("{authority}:443").into(),
            path: "/p".into(),
            version: "HTTP/1.1".into(),
            user_agent: Some("claude-cli/2.1.329".into()),
            session: None,
            request_bytes: 10,
            action: Action::Allow,
            policy_row: "default".into(),
            policy_hash: None,
            answered: None,
            rewriting: None,
            not_inspected: None,
            format: Some(destination.into()),
            credentials: Vec::new(),
            findings: Vec::new(),
            fields: CapturedFields::default(),
            fields_left_out: 0,
            body: None,
            news: Vec::new(),
        },
        closing: Some(FlowClosing {
            outcome: crate::model::Outcome::Forwarded,
            status: Some(200),
            request_bytes: 10,
            response_bytes: 2,
            duration_ms: 5,
            error: None,
            not_inspected: None,
        }),
    }
}

fn conversation(number: u32) -> FlowRecord {
    let mut flow = request(number, "conversation", "api.anthropic.com");
    flow.opening.not_inspected = Some(NotInspected::Conversation);
    flow
}

fn tunnel(number: u32, authority: &str, reason: NotInspected) -> FlowRecord {
    let mut flow = request(number, "third-party", authority);
    flow.opening.kind = FlowKind::Tunnel;
    flow.opening.method = "CONNECT".into();
    flow.opening.path = "".into();
    flow.opening.format = None;
    flow.opening.not_inspected = Some(reason);
    flow
}

fn otlp(number: u32, fields: &[(&str, &str)]) -> FlowRecord {
    let mut flow = request(number, "otlp", "otel.example.com");
    for (path, value) in fields {
        flow.opening.fields.extend([CapturedField { path: (*path).into(), value: (*value).into() }]);
    }
    flow
}

fn observation(told: EffectiveSwitches, flows: Vec<FlowRecord>) -> Observation {
    Observation {
        subject: Subject::of_run(RunId::new(12).unwrap(), "run", Some("claude")),
        told: Some(told),
        ended: Ended::ByItself,
        first_ms: 1_000,
        last_ms: 3_000,
        is_confined: false,
        lost: 0,
        flows,
    }
}

fn result(checks: &Checks, observation: &Observation, id: &str) -> ControlResult {
    let report = check(checks, std::slice::from_ref(observation));
    let found = report.subjects[0].results.iter().find(|result| *result.id == *id);
    found.unwrap_or_else(|| panic!("no result {id}")).clone()
}

fn verdict(observation: &Observation, id: &str) -> Verdict {
    result(&checks(), observation, id).verdict
}

const METRICS: &str = "disable-telemetry/first-party-metrics";

fn silent() -> Observation {
    observation(told(&[("DISABLE_TELEMETRY", "0")]), vec![conversation(1)])
}

#[test]
fn silence_passes_with_a_positive_control() {
    let result = result(&checks(), &silent(), METRICS);

    assert_eq!((result.verdict, result.is_binding), (Verdict::Pass, true));
    assert!(result.evidence.is_empty() && result.missing.is_empty());
}

// PITFALLS 33
#[test]
fn without_a_positive_control_silence_proves_nothing() {
    let mut observation = silent();
    observation.flows = vec![request(1, "settings", "api.anthropic.com")];

    let result = result(&checks(), &observation, METRICS);

    assert_eq!(result.verdict, Verdict::Inconclusive);
    assert_eq!(result.missing[0].what, MissingKind::PositiveControl);
}

#[test]
fn a_conversation_that_was_not_answered_is_no_positive_control() {
    let mut observation = silent();
    observation.flows[0].closing.as_mut().unwrap().status = Some(401);

    assert_eq!(verdict(&observation, METRICS), Verdict::Inconclusive);
}

#[test]
fn one_request_is_a_failure_that_names_it() {
    let mut observation = silent();
    observation.flows.push(request(7, "first-party-metrics", "api.anthropic.com"));

    let result = result(&checks(), &observation, METRICS);

    assert_eq!(result.verdict, Verdict::Fail);
    assert_eq!(&*result.evidence[0].flow, "12-7");
    assert_eq!(&*result.evidence[0].what, "POST api.anthropic.com/p");
}

#[test]
fn a_failure_needs_no_positive_control_and_a_block_is_no_excuse() {
    let mut blocked = request(7, "first-party-metrics", "api.anthropic.com");
    blocked.opening.action = Action::Block;
    let mut observation = silent();
    observation.flows = vec![blocked];

    assert_eq!(verdict(&observation, METRICS), Verdict::Fail);
}

#[test]
fn a_connection_that_was_never_decrypted_is_contact() {
    let mut observation = silent();
    observation.flows.push(tunnel(
        2,
        "http-intake.logs.us5.datadoghq.com",
        NotInspected::ClientRefusedCertificate,
    ));

    assert_eq!(verdict(&observation, "disable-telemetry/datadog"), Verdict::Fail);
    assert_eq!(verdict(&observation, METRICS), Verdict::Pass);
}

#[test]
fn a_row_for_unknown_paths_takes_no_host_away() {
    let mut observation = silent();
    observation.flows.push(tunnel(2, "statsig.anthropic.com", NotInspected::ClientRefusedCertificate));

    assert_eq!(verdict(&observation, "disable-telemetry/statsig"), Verdict::Fail);
}

#[test]
fn a_connection_to_a_shared_host_that_was_never_decrypted_leaves_it_open() {
    let mut observation = silent();
    observation.flows.push(tunnel(2, "api.anthropic.com", NotInspected::ClientRefusedCertificate));

    let result = result(&checks(), &observation, METRICS);

    assert_eq!(result.verdict, Verdict::Inconclusive);
    assert_eq!(result.missing[0].what, MissingKind::Interception);
}

#[test]
fn a_watch_must_last_or_see_the_end() {
    for (ended, seconds, expected) in [
        (Ended::ByItself, 1, Verdict::Pass),
        (Ended::BySignal, 1, Verdict::Inconclusive),
        (Ended::Open, 1, Verdict::Inconclusive),
        (Ended::Unknown, 1, Verdict::Inconclusive),
        (Ended::Unknown, 329, Verdict::Inconclusive),
        (Ended::Unknown, 330, Verdict::Pass),
        (Ended::BySignal, 330, Verdict::Pass),
    ] {
        let observation = Observation { ended, last_ms: 1_000 + seconds * 1_000, ..silent() };

        assert_eq!(verdict(&observation, METRICS), expected, "{ended} after {seconds} s");
    }
}

#[test]
fn an_end_that_nobody_knows_names_the_flag_that_says_it() {
    let said = |ended| {
        let result = result(&checks(), &Observation { ended, ..silent() }, METRICS);
        result.missing[0].detail.contains("--complete")
    };

    assert!(said(Ended::Unknown));
    assert!(!said(Ended::BySignal));
}

#[test]
fn lost_records_leave_it_open() {
    let result = result(&checks(), &Observation { lost: 2, ..silent() }, METRICS);

    assert_eq!(result.verdict, Verdict::Inconclusive);
    assert_eq!(result.missing[0].what, MissingKind::Records);
    assert!(result.missing[0].detail.starts_with("2 records lost"), "{:?}", result.missing);
}

#[test]
fn a_confined_client_has_no_way_round_us() {
    let mut observation = Observation { is_confined: true, ..silent() };
    observation.told.as_mut().unwrap().bypasses.push("a settings file sets HTTPS_PROXY".into());

    assert_eq!(verdict(&observation, METRICS), Verdict::Pass);
}

#[test]
fn a_way_round_us_leaves_it_open() {
    let mut observation = silent();
    observation.told.as_mut().unwrap().bypasses.push("a settings file sets HTTPS_PROXY".into());

    let result = result(&checks(), &observation, METRICS);

    assert_eq!(result.missing[0].what, MissingKind::Bypass);
    assert_eq!(result.verdict, Verdict::Inconclusive);
}

#[test]
fn a_connection_that_was_seen_to_go_round_us_leaves_it_open() {
    for (method, authority, expected) in [
        ("TCP", "203.0.113.7:443", Verdict::Inconclusive),
        ("UDP", "203.0.113.7:443", Verdict::Inconclusive),
        ("UDP", "192.0.2.1:53", Verdict::Pass),
    ] {
        let mut observation = silent();
        let mut bypass = tunnel(9, authority, NotInspected::NotIntercepted);
        bypass.opening.kind = FlowKind::Bypass;
        bypass.opening.method = method.into();
        bypass.opening.authority = authority.into();
        observation.flows.push(bypass);

        assert_eq!(verdict(&observation, METRICS), expected, "{method} {authority}");
    }
}

#[test]
fn elsewhere_the_provider_s_host_is_the_positive_control() {
    let mut told = told(&[("CLAUDE_CODE_USE_BEDROCK", "1")]);
    told.provider = Provider::Bedrock;
    let id = "provider-bedrock/first-party-metrics";
    let with = |flow| observation(told.clone(), vec![flow]);
    let mut answered = tunnel(1, "bedrock-runtime.eu-west-1.amazonaws.com", NotInspected::NotIntercepted);
    answered.closing.as_mut().unwrap().outcome = crate::model::Outcome::Tunneled;

    assert_eq!(verdict(&with(answered), id), Verdict::Pass);
    assert_eq!(
        verdict(&with(tunnel(1, "s3.amazonaws.com", NotInspected::NotIntercepted)), id),
        Verdict::Inconclusive
    );
}

#[test]
fn what_nobody_promised_never_counts() {
    let mut observation = silent();
    observation.flows.push(request(2, "otlp", "otel.example.com"));
    observation.flows.push(tunnel(3, "api.segment.io", NotInspected::NotIntercepted));
    observation.told = Some(told(&[("DISABLE_TELEMETRY", "1"), ("CLAUDE_CODE_ENABLE_TELEMETRY", "1")]));

    let report = check(&checks(), std::slice::from_ref(&observation));

    let find = |id: &str| report.subjects[0].results.iter().find(|result| *result.id == *id).unwrap();
    let unaffected = find("disable-telemetry.not-reached/otlp");
    assert_eq!((unaffected.verdict, unaffected.is_binding), (Verdict::Unaffected, false));
    let silent = find("disable-telemetry.undocumented/segment");
    assert_eq!((silent.verdict, silent.is_binding), (Verdict::Inconclusive, false));
    assert_eq!(silent.evidence_total, 1);
}

#[test]
fn the_version_decides_what_is_known_and_not_what_is_promised() {
    let mut observation = silent();
    observation.flows.push(request(7, "first-party-metrics", "api.anthropic.com"));
    for flow in &mut observation.flows {
        flow.opening.user_agent = Some("claude-cli/2.0.14".into());
    }

    let result = result(&checks(), &observation, METRICS);

    assert_eq!(result.verdict, Verdict::Fail);
    assert!(result.notes[0].contains("vendor-changelog"), "{:?}", result.notes);
}

#[test]
fn a_promise_for_some_versions_wants_a_version() {
    let text = EMBEDDED_CONTROLS.replacen(
        "id           = \"disable-telemetry\"\n",
        "id           = \"disable-telemetry\"\nversions     = \">=2.1.0\"\n",
        1,
    );
    let controls = Controls::from_toml("c.toml", &text, names()).unwrap();
    let mut observation = silent();
    observation.flows[0].opening.user_agent = None;
    let named = |version: Option<&str>| Checks {
        controls: controls.clone(),
        client_version: version.map(|version| version.parse().unwrap()),
        ..checks()
    };

    let unknown = result(&named(None), &observation, METRICS);
    let known = result(&named(Some("2.1.329")), &observation, METRICS);
    let older = check(&named(Some("2.0.14")), std::slice::from_ref(&observation));

    assert_eq!(unknown.missing.last().unwrap().what, MissingKind::ClientVersion);
    assert_eq!((unknown.verdict, known.verdict), (Verdict::Inconclusive, Verdict::Pass));
    assert!(!older.subjects[0].results.iter().any(|result| *result.id == *METRICS));
}

const ENABLED: [(&str, &str); 4] = [
    ("CLAUDE_CODE_ENABLE_TELEMETRY", "1"),
    ("OTEL_LOGS_EXPORTER", "otlp"),
    ("OTEL_METRICS_EXPORTER", "otlp"),
    ("OTEL_TRACES_EXPORTER", "otlp"),
];

const RECORD: &str = "otlp:resourceLogs/0/scopeLogs/0/logRecords/0/attributes";
const SPAN: &str = "otlp:resourceSpans/0/scopeSpans/0/spans/0";
const POINT: &str = "otlp:resourceMetrics/0/scopeMetrics/0/metrics/0";

/// Each gate: its control, the switch that opens it, the field that it keeps away, and one that shows an occasion.
fn gates() -> Vec<(&'static str, &'static str, &'static str, String, &'static str, String, &'static str)> {
    let tool = "OTEL_LOG_TOOL_DETAILS";
    let point = |name: &str| format!("{POINT}/sum/dataPoints/0/attributes/{name}");
    let metric = format!("{POINT}/name");
    vec![
        (
            "otel-prompts",
            "OTEL_LOG_USER_PROMPTS",
            "1",
            format!("{RECORD}/prompt"),
            "fix it",
            format!("{RECORD}/prompt_length"),
            "6",
        ),
        (
            "otel-prompts",
            "OTEL_LOG_USER_PROMPTS",
            "1",
            format!("{SPAN}/attributes/user_prompt"),
            "fix it",
            format!("{SPAN}/attributes/user_prompt_length"),
            "6",
        ),
        (
            "otel-responses-by-prompts",
            "OTEL_LOG_USER_PROMPTS",
            "1",
            format!("{RECORD}/response"),
            "done",
            format!("{RECORD}/response_length"),
            "4",
        ),
        (
            "otel-tool-details",
            tool,
            "1",
            format!("{RECORD}/tool_input"),
            "{}",
            format!("{RECORD}/tool_name"),
            "Bash",
        ),
        (
            "otel-tool-details",
            tool,
            "1",
            format!("{RECORD}/tool_parameters/!json/command"),
            "ls",
            format!("{RECORD}/tool_name"),
            "Bash",
        ),
        (
            "otel-tool-details",
            tool,
            "1",
            format!("{SPAN}/attributes/full_command"),
            "ls",
            format!("{SPAN}/attributes/tool_name"),
            "Bash",
        ),
        (
            "otel-tool-content",
            "OTEL_LOG_TOOL_CONTENT",
            "1",
            format!("{SPAN}/events/0/attributes/output"),
            "a b",
            format!("{SPAN}/attributes/tool_name"),
            "Bash",
        ),
        (
            "otel-api-bodies",
            "OTEL_LOG_RAW_API_BODIES",
            "file:/tmp",
            format!("{RECORD}/event.name"),
            "api_request_body",
            format!("{RECORD}/event.name"),
            "api_request",
        ),
        (
            "otel-managed-settings",
            "OTEL_LOG_MANAGED_SETTINGS",
            "1",
            format!("{RECORD}/managed_settings.settings"),
            "{}",
            format!("{RECORD}/event.name"),
            "x",
        ),
        (
            "otel-metrics-version",
            "OTEL_METRICS_INCLUDE_VERSION",
            "true",
            point("app.version"),
            "2",
            metric.clone(),
            "m",
        ),
        (
            "otel-metrics-entrypoint",
            "OTEL_METRICS_INCLUDE_ENTRYPOINT",
            "true",
            point("app.entrypoint"),
            "cli",
            metric.clone(),
            "m",
        ),
        (
            "otel-metrics-repository",
            "OTEL_METRICS_INCLUDE_REPOSITORY",
            "true",
            point("vcs.repository.name"),
            "r",
            metric.clone(),
            "m",
        ),
    ]
}

#[test]
fn a_gate_that_is_closed_passes_with_an_occasion_and_fails_with_a_leak() {
    for (control, switch, open, field, value, occasion, seen) in gates() {
        let id = format!("{control}/otlp");
        let with =
            |fields: &[(&str, &str)]| observation(told(&ENABLED), vec![conversation(1), otlp(2, fields)]);

        let quiet = with(&[(&occasion, seen)]);
        let leak = with(&[(&occasion, seen), (&field, value)]);
        let nothing = with(&[("otlp:resourceLogs/0/schemaUrl", "x")]);
        let mut opened = leak.clone();
        opened.told.as_mut().unwrap().switches.extend(told(&[(switch, open)]).switches);

        assert_eq!(verdict(&quiet, &id), Verdict::Pass, "{control}");
        assert_eq!(verdict(&leak, &id), Verdict::Fail, "{control} {field}");
        assert_eq!(result(&checks(), &nothing, &id).missing[0].what, MissingKind::Occasion, "{control}");
        let report = check(&checks(), &[opened]);
        assert!(
            !report.subjects[0].results.iter().any(|result| *result.id == *id),
            "{control} is in force though open"
        );
    }
}

#[test]
fn a_cardinality_switch_that_is_off_keeps_its_attribute_away() {
    for (control, switch, name) in [
        ("otel-metrics-session-id", "OTEL_METRICS_INCLUDE_SESSION_ID", "session.id"),
        ("otel-metrics-account-uuid", "OTEL_METRICS_INCLUDE_ACCOUNT_UUID", "user.account_uuid"),
        ("otel-metrics-account-uuid", "OTEL_METRICS_INCLUDE_ACCOUNT_UUID", "user.account_id"),
    ] {
        let id = format!("{control}/otlp");
        let metric = format!("{POINT}/name");
        let field = format!("{POINT}/sum/dataPoints/0/attributes/{name}");
        let mut switches = ENABLED.to_vec();
        let by_default = observation(told(&switches), vec![otlp(2, &[(&metric, "m"), (&field, "x")])]);
        switches.push((switch, "false"));
        let leak = observation(told(&switches), vec![otlp(2, &[(&metric, "m"), (&field, "x")])]);
        let quiet = observation(told(&switches), vec![otlp(2, &[(&metric, "m")])]);

        assert_eq!(verdict(&leak, &id), Verdict::Fail, "{name}");
        assert_eq!(verdict(&quiet, &id), Verdict::Pass, "{name}");
        let report = check(&checks(), &[by_default]);
        assert!(
            !report.subjects[0].results.iter().any(|result| *result.id == *id),
            "{name} is on by default"
        );
    }
}

#[test]
fn a_placeholder_is_no_leak_and_an_unread_export_is_no_pass() {
    let length = format!("{RECORD}/prompt_length");
    let prompt = format!("{RECORD}/prompt");
    let redacted = observation(told(&ENABLED), vec![otlp(2, &[(&length, "6"), (&prompt, "<REDACTED>")])]);
    let mut unread = otlp(3, &[]);
    unread.opening.not_inspected = Some(NotInspected::BodyTooLarge);
    let partly = observation(told(&ENABLED), vec![otlp(2, &[(&length, "6")]), unread]);
    let kept_none = observation(told(&ENABLED), vec![otlp(2, &[(&length, "6")]), otlp(3, &[])]);

    assert_eq!(verdict(&redacted, "otel-prompts/otlp"), Verdict::Pass);
    assert_eq!(result(&checks(), &partly, "otel-prompts/otlp").missing[0].what, MissingKind::Unread);
    assert_eq!(result(&checks(), &kept_none, "otel-prompts/otlp").missing[0].what, MissingKind::Fields);
}

#[test]
fn without_its_switch_no_opentelemetry_is_promised() {
    let quiet = observation(told(&[]), vec![conversation(1)]);
    let sent = observation(told(&[]), vec![conversation(1), otlp(2, &[])]);

    assert_eq!(verdict(&quiet, "otel-opt-in/otlp"), Verdict::Pass);
    assert_eq!(verdict(&sent, "otel-opt-in/otlp"), Verdict::Fail);
}

fn finding(rule: &str, category: &str, path: &str) -> Finding {
    Finding {
        rule: RuleId::new(rule),
        category: category.into(),
        severity: Severity::High,
        confidence: Confidence::Certain,
        path: FieldPath::from_raw(path),
        span: 0..1,
        length: 1,
        fingerprint: FingerprintKey::new(&[1; 32]).fingerprint(b"x"),
        preview: "b***".into(),
    }
}

fn assertion(observation: &Observation, assertion: Assertion) -> Verdict {
    let checks = Checks { assertions: vec![assertion.clone()], ..checks() };
    result(&checks, observation, &assertion.text()).verdict
}

#[test]
fn what_is_asked_for_is_judged_as_honestly() {
    let quiet = observation(told(&[]), vec![conversation(1)]);
    let nothing = observation(told(&[]), Vec::new());
    let mut events = request(2, "first-party-events", "api.anthropic.com");
    events.opening.findings.push(finding("field.prompt", "content.conversation", "first-party-events:a"));
    let sent = observation(told(&[]), vec![conversation(1), events]);
    let expect = |text| Assertion::expectation(text).unwrap();
    let deny = |text| Assertion::denial(text).unwrap();
    use Verdict::{Fail, Inconclusive, Pass};
    for (asked, on_quiet, on_nothing, on_sent) in [
        (expect("silent"), Pass, Inconclusive, Fail),
        (expect("silent:datadog"), Pass, Inconclusive, Pass),
        (expect("observed"), Fail, Inconclusive, Pass),
        (expect("observed:datadog"), Fail, Inconclusive, Fail),
        (deny("category:content"), Pass, Inconclusive, Fail),
        (deny("category:cont"), Pass, Inconclusive, Pass),
        (deny("destination:first-party-*"), Pass, Inconclusive, Fail),
        (deny("rule:field.prompt"), Pass, Inconclusive, Fail),
    ] {
        let verdicts = [&quiet, &nothing, &sent].map(|observation| assertion(observation, asked.clone()));

        assert_eq!(verdicts, [on_quiet, on_nothing, on_sent], "{}", asked.text());
    }
    assert_eq!(assertion(&quiet, expect("silent:datadgo")), Inconclusive);
    for text in ["loud", "silent:{", ""] {
        assert!(Assertion::expectation(text).is_err(), "{text}");
    }
    for text in ["content", "category:", "kind:x"] {
        assert!(Assertion::denial(text).is_err(), "{text}");
    }
}

#[test]
fn the_outcome_is_the_worst_verdict_that_counts() {
    let mut failed = silent();
    failed.flows.push(request(7, "first-party-metrics", "api.anthropic.com"));
    let mut open = silent();
    open.flows.clear();
    let outcome = |observation: &Observation| check(&checks(), std::slice::from_ref(observation)).outcome();

    assert_eq!(outcome(&silent()), Outcome::Holds);
    assert_eq!(outcome(&open), Outcome::CouldNotTell);
    assert_eq!(outcome(&failed), Outcome::Violated);
    assert_eq!(check(&checks(), &[]).outcome(), Outcome::CouldNotTell);
    assert_eq!(outcome(&Observation { told: None, ..silent() }), Outcome::CouldNotTell);
}

#[test]
fn an_accepted_failure_counts_until_its_day_and_says_so() {
    let text = "schema = 1\n[[accept]]\nresult = \"disable-telemetry/*-metrics\"\nreason = \"known\"\nexpires = \"2026-11-21\"\n[[accept]]\nresult = \"gone\"\nreason = \"old\"\nexpires = \"2027-01-01\"\n";
    let mut observation = silent();
    observation.flows.push(request(7, "first-party-metrics", "api.anthropic.com"));
    let on = |today: &str| {
        let baseline = Baseline::from_toml("b.toml", text).unwrap();
        check(&Checks { baseline, today: today.into(), ..checks() }, std::slice::from_ref(&observation))
    };

    let last_day = on("2026-11-21");
    let day_after = on("2026-11-22");

    assert_eq!(last_day.outcome(), Outcome::Holds);
    assert_eq!(last_day.tally().accepted, 1);
    assert_eq!(day_after.outcome(), Outcome::Violated);
    assert!(day_after.baseline_notes[0].contains("expired on 2026-11-21"));
    assert!(last_day.baseline_notes[0].contains("`gone` no longer occurs"));
}

fn claim(observation: &Observation, id: &str) -> ClaimVerdict {
    let report = check(&checks(), std::slice::from_ref(observation));
    report.subjects[0].claims.iter().find(|claim| *claim.id == *id).unwrap().verdict
}

#[test]
fn a_claim_is_upheld_only_where_it_could_have_been_refuted() {
    let name = "first-party-events:events/0/event_data/event_name";
    let events = |event: &str| {
        let mut flow = request(2, "first-party-events", "api.anthropic.com");
        flow.opening.fields.extend([CapturedField { path: name.into(), value: event.into() }]);
        observation(told(&[]), vec![flow])
    };
    let mut leak = events("tengu_input_prompt");
    leak.flows[0].opening.findings.push(finding(
        "field.prompt",
        "content.conversation",
        "first-party-events:a",
    ));
    let mut head = events("tengu_input_prompt");
    head.flows[0].opening.findings.push(finding("head.device-id", "pii.device", "header:x-device"));

    assert_eq!(claim(&observation(told(&[]), Vec::new()), "no-prompt"), ClaimVerdict::Untested);
    assert_eq!(claim(&events("tengu_init"), "no-prompt"), ClaimVerdict::Untested);
    assert_eq!(claim(&events("tengu_input_prompt"), "no-prompt"), ClaimVerdict::Upheld);
    assert_eq!(claim(&leak, "no-prompt"), ClaimVerdict::Refuted);
    assert_eq!(claim(&head, "no-personal-identifier"), ClaimVerdict::Upheld);
}

#[test]
fn a_claim_about_a_switch_follows_its_control() {
    let mut broken = silent();
    broken.flows.push(request(7, "first-party-metrics", "api.anthropic.com"));

    assert_eq!(claim(&silent(), "disable-telemetry-stops-metrics"), ClaimVerdict::Upheld);
    assert_eq!(claim(&broken, "disable-telemetry-stops-metrics"), ClaimVerdict::Refuted);
    assert_eq!(
        claim(&observation(told(&[]), vec![conversation(1)]), "disable-telemetry-stops-metrics"),
        ClaimVerdict::Untested
    );
}

#[test]
fn mistakes_in_a_file_are_named_with_their_line_and_what_was_meant() {
    let row = "schema = 1\nversion = \"1\"\n[[switch]]\nname = \"A\"\nvalue = \"presence\"\ntitle = \"t\"\nsource = \"s\"\nclass = \"measured\"\n[[control]]\nid = \"c\"\ntitle = \"t\"\nwhen = [\"A=on\"]\ndestinations = [\"datadog\"]\nexpect = \"silent\"\nsource = \"s\"\nclass = \"measured\"\n";
    assert!(Controls::from_toml("c.toml", row, names()).is_ok());
    for (from, to, expected) in [
        ("expect =", "expct =", "did you mean `expect`?"),
        ("\"silent\"", "\"silnet\"", "did you mean `silent`?"),
        ("\"presence\"", "\"presense\"", "did you mean `presence`?"),
        ("[\"datadog\"]", "[\"datadgo\"]", "there is no destination `datadgo`; did you mean `datadog`?"),
        ("[\"datadog\"]", "[]", "`destinations` is empty"),
        ("A=on", "B=on", "there is no switch `B`"),
        ("A=on", "A=up", "is none of off, on, unset"),
        ("A=on", "A", "is no SWITCH=STATE"),
        ("schema = 1", "schema = 2", "c.toml:1: this version reads schema 1"),
        ("\"silent\"", "\"absent-field\"", "`absent-field` wants `fields`"),
        ("source = \"s\"\nclass = \"measured\"\n[[", "titel = 1\n[[", "did you mean `title`?"),
        ("id = \"c\"", "id = \"c\"\nversions = \"new\"", "versions `new` are none of"),
    ] {
        let message =
            Controls::from_toml("c.toml", &row.replacen(from, to, 1), names()).unwrap_err().to_string();

        assert!(message.starts_with("c.toml:") && message.contains(expected), "{to}: {message}");
    }
    let controls = Controls::from_toml("c.toml", row, names()).unwrap();
    let claim = "schema = 1\nversion = \"1\"\n[[claim]]\nid = \"x\"\nstatement = \"s\"\ndestinations = [\"datadog\"]\ncontrol = \"cc\"\nsource = \"s\"\nclass = \"measured\"\n";
    let message = Claims::from_toml("x.toml", claim, &controls, names()).unwrap_err().to_string();
    assert_eq!(message, "x.toml:3: claim `x`: there is no control `cc`; did you mean `c`?");
    let no_reason = "schema = 1\n[[accept]]\nresult = \"x\"\nreason = \" \"\nexpires = \"2027-01-01\"\n";
    assert!(Baseline::from_toml("b", no_reason).unwrap_err().to_string().contains("`reason` is empty"));
    assert!(
        Baseline::from_toml("b", &no_reason.replace("\" \"", "\"r\"").replace("2027-01-01", "soon")).is_err()
    );
}

#[test]
fn every_documented_switch_silences_whom_it_should() {
    let reach = |switch: (&str, &str)| {
        let report = check(&checks(), &[observation(told(&[switch]), vec![conversation(1)])]);
        let results = report.subjects[0].results.iter();
        let silent = results.filter(|result| result.is_binding && *result.control != *"otel-opt-in");
        let mut ids: Vec<String> =
            silent.filter_map(|it| it.destination.as_ref()).map(ToString::to_string).collect();
        ids.sort();
        ids
    };
    let usage = ["datadog", "feature-flags", "first-party-events", "first-party-metrics", "statsig"];
    let all = [
        "datadog",
        "feature-flags",
        "feedback",
        "first-party-events",
        "first-party-metrics",
        "sentry",
        "statsig",
        "updates",
    ];

    for value in ["1", "0", "false"] {
        assert_eq!(reach(("DISABLE_TELEMETRY", value)), usage);
        assert_eq!(reach(("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", value)), all);
        assert_eq!(reach(("DISABLE_ERROR_REPORTING", value)), ["sentry"]);
    }
    assert_eq!(reach(("DO_NOT_TRACK", "yes")), usage);
    assert_eq!(reach(("DO_NOT_TRACK", "0")), [""; 0]);
    assert_eq!(reach(("DISABLE_TELEMETRY", "")), [""; 0]);
    assert_eq!(reach(("DISABLE_BUG_COMMAND", "1")), ["feedback"]);
    assert_eq!(reach(("DISABLE_FEEDBACK_COMMAND", "1")), ["feedback"]);
    assert_eq!(reach(("DISABLE_AUTOUPDATER", "1")), ["updates"]);
    assert_eq!(reach(("DISABLE_GROWTHBOOK", "1")), ["feature-flags"]);
    assert_eq!(ValueRule::Boolean.state(Some("on")), crate::model::SwitchState::On);
}

#[test]
fn drift_names_what_came_and_what_went_without_places_in_lists() {
    let events = [crate::model::PathPattern::parse("first-party-events:events/*/event_name").unwrap()];
    let profile = |names: &[&str], extra: &[FlowRecord]| {
        let mut flow = request(1, "first-party-events", "api.anthropic.com");
        for (at, name) in names.iter().enumerate() {
            let path = format!("first-party-events:events/{at}/event_name").into();
            flow.opening.fields.extend([CapturedField { path, value: (*name).into() }]);
        }
        let mut profile = Profile::default();
        profile.add(&flow, &events);
        extra.iter().for_each(|flow| profile.add(flow, &events));
        profile
    };
    let first = profile(&["a", "b"], &[]);
    let second = profile(&["b", "b", "c"], &[request(2, "datadog", "x.example")]);

    let drift = Drift::between(&first, &second);

    let shown =
        |named: &[Named]| named.iter().map(|it| format!("{} {}", it.kind, it.name)).collect::<Vec<_>>();
    assert_eq!(shown(&drift.came), ["destination datadog", "event c"]);
    assert_eq!(shown(&drift.went), ["event a"]);
    assert!(Drift::between(&first, &first).is_empty());
}

#[test]
fn versions_are_read_from_what_the_client_calls_itself() {
    let report = check(&checks(), &[silent()]);

    let expected: ClientVersion = "2.1.329".parse().unwrap();
    assert_eq!(report.subjects[0].client_version, Some(expected));
    assert_eq!(report.subjects[0].coverage.versions_seen, [expected]);
}
