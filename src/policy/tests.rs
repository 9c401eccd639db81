use crate::model::{DestinationId, FieldPath, Fingerprint, RuleId, Severity};

use super::*;

const HEAD: &str = r#"schema = 1
name = "x"
about = "a test"
[default]
finding = "allow"
request = "allow"
answer = "sink"
[unknown]
destination = "block"
field = "allow"
[not_inspected]
body-too-large = "block"
coding-broken = "allow"
coding-unsupported = "allow"
decoded-too-large = "allow"
format-broken = "allow"
format-unsupported = "allow"
internal-error = "allow"
nesting-budget = "allow"
not-intercepted = "allow"
unknown-protocol = "allow"
upgraded = "allow"
[fail]
conversation = "open"
feature-flags = "closed"
feedback = "closed"
settings = "open"
telemetry = "closed"
third-party = "closed"
unknown = "closed"
updates = "open"
answer = "reject"
"#;

fn policy(rows: &str) -> Policy {
    Policy::from_toml("x.toml", &format!("{HEAD}{rows}")).unwrap()
}

fn finding(rule: &str, category: &str, severity: Severity, confidence: Confidence) -> Finding {
    Finding {
        rule: RuleId::new(rule),
        category: category.into(),
        severity,
        confidence,
        path: FieldPath::from_raw("json:user/email"),
        span: 0..1,
        length: 1,
        fingerprint: Fingerprint::from_bytes([0; 8]),
        preview: "x".into(),
    }
}

fn email() -> Finding {
    finding("contact.email", "pii.contact", Severity::High, Confidence::High)
}

struct Asked {
    id: &'static str,
    kind: DestinationKind,
    path: &'static str,
    findings: Vec<Finding>,
    not_inspected: Option<NotInspected>,
    unknown_fields: bool,
}

const PLAIN: Asked = Asked {
    id: "statsig",
    kind: DestinationKind::Telemetry,
    path: "/v1/rgstr",
    findings: Vec::new(),
    not_inspected: None,
    unknown_fields: false,
};

fn decide(policy: &Policy, asked: &Asked) -> Decision {
    let destination = Destination { id: DestinationId::new(asked.id), kind: asked.kind, inspected: true };
    let authority = Authority::parse("collector.example.com:4318", None).unwrap();
    policy.decide(Question {
        destination: &destination,
        authority: &authority,
        path: asked.path,
        findings: &asked.findings,
        not_inspected: asked.not_inspected,
        unknown_fields: asked.unknown_fields,
    })
}

#[test]
fn every_profile_is_read_and_is_called_as_its_file() {
    for profile in PROFILES {
        let policy = Policy::from_toml(profile.file, profile.text).unwrap();

        assert_eq!(policy.name(), profile.name);
        assert_eq!(policy.hash().len(), 64);
    }
    assert!(Policy::profile("loud").is_none());
}

#[test]
fn observe_changes_nothing() {
    let policy = Policy::embedded();

    for kind in DestinationKind::ALL {
        for reason in [None].into_iter().chain(NotInspected::ALL.iter().copied().map(Some)) {
            let asked = Asked { kind: *kind, findings: vec![email()], not_inspected: reason, ..PLAIN };
            let decision = decide(&policy, &asked);

            assert_eq!(decision.action, Action::Allow, "{kind} {reason:?}");
            assert_eq!(decision.redactions, [None]);
        }
    }
}

#[test]
fn the_first_matching_row_decides_for_each_finding() {
    let policy = policy(
        "[[row]]\nid = \"keep\"\nrule = [\"contact.email\"]\ndestination = [\"otlp\"]\naction = \"allow\"\n\
         [[row]]\nid = \"pii\"\ncategory = [\"pii.*\"]\naction = \"redact\"\nredact = { method = \"null\" }\n\
         [[row]]\nid = \"grave\"\nseverity = \"critical\"\naction = \"block\"\n",
    );
    let device = finding("device", "pii.device", Severity::Critical, Confidence::Low);
    let key = finding("key", "secret.vendor", Severity::Critical, Confidence::Low);

    let kept = decide(&policy, &Asked { id: "otlp", findings: vec![email(), device.clone()], ..PLAIN });
    let redacted = decide(&policy, &Asked { findings: vec![email(), device], ..PLAIN });
    let blocked = decide(&policy, &Asked { findings: vec![email(), key], ..PLAIN });

    let null = Some(RedactBy::Policy(Arc::new(crate::model::Redaction::Null)));
    assert_eq!((kept.action, kept.row.as_str()), (Action::Redact, "pii"));
    assert_eq!(kept.redactions, [None, null.clone()]);
    assert_eq!(redacted.redactions, [null.clone(), null]);
    assert_eq!(
        (blocked.action, blocked.row.as_str(), blocked.answer),
        (Action::Block, "grave", Answer::Sink)
    );
}

#[test]
fn every_condition_narrows_a_row() {
    let hit = Asked { findings: vec![email()], path: "/v1/logs", ..PLAIN };
    for (condition, expected) in [
        ("", Action::Redact),
        ("host = [\"*.example.com\"]", Action::Redact),
        ("host = [\"*.example.org\"]", Action::Allow),
        ("host = [\"*.example.com:1\"]", Action::Allow),
        ("path = [\"/v1/*\"]", Action::Redact),
        ("path = [\"/v2/*\"]", Action::Allow),
        ("kind = [\"telemetry\", \"updates\"]", Action::Redact),
        ("kind = [\"updates\"]", Action::Allow),
        ("signal = [\"logs\"]", Action::Redact),
        ("signal = [\"traces\"]", Action::Allow),
        ("destination = [\"stat*\"]", Action::Redact),
        ("destination = [\"otlp\"]", Action::Allow),
        ("rule = [\"contact.*\"]", Action::Redact),
        ("rule = [\"secret.*\"]", Action::Allow),
        ("category = [\"pii.*\"]", Action::Redact),
        ("category = [\"pii\"]", Action::Allow),
        ("field = [\"**/email\"]", Action::Redact),
        ("field = [\"**/mail\"]", Action::Allow),
        ("severity = \"high\"", Action::Redact),
        ("severity = \"critical\"", Action::Allow),
        ("confidence = \"medium\"", Action::Redact),
        ("confidence = \"certain\"", Action::Allow),
    ] {
        let policy = policy(&format!("[[row]]\nid = \"one\"\n{condition}\naction = \"redact\"\n"));

        assert_eq!(decide(&policy, &hit).action, expected, "{condition}");
    }
}

#[test]
fn a_request_without_findings_is_blocked_by_a_row_about_requests_only() {
    let about_findings = policy("[[row]]\nid = \"a\"\ncategory = [\"pii.*\"]\naction = \"block\"\n");
    let about_requests =
        policy("[[row]]\nid = \"a\"\nkind = [\"telemetry\"]\naction = \"block\"\nanswer = \"reject\"\n");

    assert_eq!(decide(&about_findings, &PLAIN).action, Action::Allow);
    let blocked = decide(&about_requests, &PLAIN);
    assert_eq!((blocked.action, blocked.answer), (Action::Block, Answer::Reject));
}

#[test]
fn what_was_not_read_is_answered_by_its_reason_unless_a_row_decides() {
    let unread = Asked { not_inspected: Some(NotInspected::BodyTooLarge), ..PLAIN };
    let redacting = policy("[[row]]\nid = \"a\"\naction = \"redact\"\n");
    let allowing = policy("[[row]]\nid = \"a\"\naction = \"allow\"\n");
    let narrow = policy("[[row]]\nid = \"a\"\nnot_inspected = [\"format-broken\"]\naction = \"block\"\n");

    let by_default = decide(&redacting, &unread);
    assert_eq!((by_default.action, by_default.row.as_str()), (Action::Block, "not_inspected.body-too-large"));
    assert_eq!(decide(&allowing, &unread).action, Action::Allow);
    assert_eq!(decide(&narrow, &PLAIN).action, Action::Allow);
    let broken = Asked { not_inspected: Some(NotInspected::FormatBroken), ..PLAIN };
    assert_eq!(decide(&narrow, &broken).row, "a");
}

#[test]
fn names_of_reasons_and_their_rows_agree() {
    assert_eq!(read::REASON_ROWS.len(), NotInspected::ALL.len());
    for (row, reason) in read::REASON_ROWS.iter().zip(NotInspected::ALL) {
        assert_eq!(*row, format!("not_inspected.{reason}"));
    }
}

#[test]
fn an_unknown_destination_has_its_own_default() {
    let unknown = Asked { kind: DestinationKind::Unknown, ..PLAIN };

    assert_eq!(decide(&policy(""), &unknown).row, "unknown.destination");
    assert_eq!(decide(&policy("[[row]]\nid = \"a\"\naction = \"allow\"\n"), &unknown).row, "a");
}

#[test]
fn fields_that_no_rule_names_are_redacted_where_no_row_allows_the_request() {
    let text = HEAD.replace(
        "field = \"allow\"",
        "field = \"redact\"\nredact = { method = \"null\" }\nkeep = [\"**/event_name\"]",
    );
    let strict = Policy::from_toml("x.toml", &text).unwrap();
    let lenient =
        Policy::from_toml("x.toml", &format!("{text}[[row]]\nid = \"a\"\naction = \"allow\"\n")).unwrap();
    let asked = Asked { unknown_fields: true, ..PLAIN };

    let decision = decide(&strict, &asked);
    assert_eq!((decision.action, decision.row.as_str()), (Action::Redact, "unknown.field"));
    assert_eq!(decision.unknown_fields.unwrap().keep.len(), 1);
    assert_eq!(decide(&strict, &PLAIN).action, Action::Allow);
    assert_eq!(decide(&lenient, &asked).action, Action::Allow);
}

#[test]
fn no_policy_touches_the_conversation() {
    let everything = policy("[[row]]\nid = \"a\"\naction = \"block\"\n");
    let asked = Asked {
        kind: DestinationKind::Conversation,
        findings: vec![email()],
        not_inspected: Some(NotInspected::BodyTooLarge),
        unknown_fields: true,
        ..PLAIN
    };

    for policy in PROFILES.iter().map(|profile| Policy::profile(profile.name).unwrap()).chain([everything]) {
        let decision = decide(&policy, &asked);
        assert_eq!((decision.action, decision.row.as_str()), (Action::Allow, "conversation"));
        assert_eq!((decision.redactions, decision.unknown_fields), (vec![None], None));
        assert_eq!(policy.on_failure(DestinationKind::Conversation), Fail::Open);
    }
}

#[test]
fn the_profiles_do_what_they_are_called_for() {
    let action = |profile: &str, asked: &Asked| decide(&Policy::profile(profile).unwrap(), asked).action;
    let secret = finding("secret.x", "secret.vendor", Severity::Critical, Confidence::High);
    let content = finding("content.x", "content.conversation", Severity::Critical, Confidence::High);
    let terminal = finding("environment.x", "environment.terminal", Severity::Info, Confidence::High);
    let of = |kind, finding: &Finding| Asked { kind, findings: vec![finding.clone()], ..PLAIN };
    let telemetry = DestinationKind::Telemetry;
    let flags = DestinationKind::FeatureFlags;

    for named in [&email(), &secret, &content] {
        assert_eq!(action("private", &of(telemetry, named)), Action::Redact);
        assert_eq!(action("silent", &of(flags, named)), Action::Redact);
        assert_eq!(action("locked", &of(flags, named)), Action::Redact);
        assert_eq!(action("private", &of(DestinationKind::Settings, named)), Action::Allow);
    }
    assert_eq!(action("private", &of(telemetry, &terminal)), Action::Allow);
    assert_eq!(action("private", &of(DestinationKind::Feedback, &content)), Action::Allow);
    assert_eq!(action("private", &of(DestinationKind::Feedback, &secret)), Action::Redact);
    for sinking in ["silent", "locked"] {
        assert_eq!(action(sinking, &PLAIN), Action::Block);
        assert_eq!(action(sinking, &of(telemetry, &terminal)), Action::Block);
        assert_eq!(action(sinking, &Asked { kind: flags, ..PLAIN }), Action::Allow);
    }
    let unknown = Asked { kind: DestinationKind::Unknown, ..PLAIN };
    assert_eq!((action("silent", &unknown), action("locked", &unknown)), (Action::Allow, Action::Block));
}

#[test]
fn mistakes_are_named_with_their_line() {
    let row = "[[row]]\nid = \"one\"\naction = \"allow\"\n";
    for (from, to, expected) in [
        ("schema = 1", "schema = 2", "x.toml:1: `schema`: this version reads schema 1, not 2"),
        ("[fail]", "[fial]", "x.toml:23: unknown key `fial` in file `x.toml`; did you mean `fail`?"),
        ("updates = \"open\"\n", "", "x.toml:23: `fail` of file `x.toml` has no `updates`"),
        ("upgraded = \"allow\"\n", "", "x.toml:11: `not_inspected` of file `x.toml` has no `upgraded`"),
        (
            "conversation = \"open\"",
            "conversation = \"closed\"",
            "x.toml:24: `conversation`: the conversation is never touched, so it fails `open`",
        ),
        (
            "coding-broken = \"allow\"",
            "coding-broken = \"redact\"",
            "x.toml:13: `coding-broken`: what was not read cannot be redacted",
        ),
        ("field = \"allow\"", "field = \"redact\"", "x.toml:8: `unknown` of file `x.toml` has no `redact`"),
        (
            "action = \"allow\"",
            "action = \"alow\"",
            "x.toml:35: unknown action `alow`; did you mean `allow`?",
        ),
        (
            "action = \"allow\"",
            "action = \"permit\"",
            "x.toml:35: `action`: `permit` is none of allow, block, redact",
        ),
        (
            "id = \"one\"",
            "id = \"one\"\nkind = [\"telemetri\"]",
            "x.toml:35: unknown kind `telemetri`; did you mean `telemetry`?",
        ),
        (
            "id = \"one\"",
            "id = \"one\"\nanswer = \"sink\"",
            "x.toml:35: `answer`: it only goes with `action = \"block\"`",
        ),
        (
            "id = \"one\"",
            "id = \"one\"\nredact = { method = \"nul\" }",
            "x.toml:35: unknown redaction method `nul`; did you mean `null`?",
        ),
        (
            "id = \"one\"",
            "id = \"one\"\nactoin = \"allow\"",
            "x.toml:35: unknown key `actoin` in row `one`; did you mean `action`?",
        ),
        (
            "action = \"allow\"",
            "action = \"block\"\nkind = [\"conversation\"]",
            "x.toml:33: row `one` would block the conversation, which is never touched",
        ),
        (
            "[[row]]",
            "[[row]]\nid = \"one\"\naction = \"allow\"\n[[row]]",
            "x.toml:36: row `one` is already defined at x.toml:33",
        ),
    ] {
        let good = format!("{HEAD}{row}");
        let at = good.find(from).unwrap_or_else(|| panic!("{from}"));
        let message =
            Policy::from_toml("x.toml", &format!("{}{}", &good[..at], good[at..].replacen(from, to, 1)));

        assert_eq!(message.map(|_| ()).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_path_tells_the_signal() {
    for (path, expected) in [
        ("/v1/logs", Some(Signal::Logs)),
        ("/collector/v1/metrics/", Some(Signal::Metrics)),
        ("/v1development/profiles", Some(Signal::Profiles)),
        ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", Some(Signal::Traces)),
        ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", Some(Signal::Logs)),
        ("/api/logs", None),
        ("/", None),
    ] {
        assert_eq!(Signal::of_path(path), expected, "{path}");
    }
}

fn names() -> Names<'static> {
    Names {
        destinations: vec![
            ("otlp", DestinationKind::Telemetry),
            ("statsig", DestinationKind::Telemetry),
            ("settings", DestinationKind::Settings),
        ],
        rules: vec![
            ("contact.email", "pii.contact", Severity::High),
            ("secret.key", "secret.vendor", Severity::Critical),
        ],
    }
}

#[test]
fn names_of_nothing_are_named_with_what_was_meant() {
    let policy = policy(
        "[[row]]\nid = \"a\"\ndestination = [\"otpl\", \"stat*\"]\naction = \"allow\"\n\
         [[row]]\nid = \"b\"\nrule = [\"contact.emial\"]\naction = \"allow\"\n\
         [[row]]\nid = \"c\"\ncategory = [\"finance.*\", \"pii.*\"]\naction = \"allow\"\n",
    );

    let lints: Vec<String> = policy.unknown_names(&names()).iter().map(ToString::to_string).collect();

    assert_eq!(
        lints,
        [
            "x.toml:33: row `a`: there is no destination `otpl`; did you mean `otlp`?",
            "x.toml:37: row `b`: there is no rule `contact.emial`; did you mean `contact.email`?",
            "x.toml:41: row `c`: no category is called as `finance.*`",
        ]
    );
}

#[test]
fn a_row_that_no_request_reaches_is_named() {
    let unreachable = |rows: &[&str]| {
        let rows: String = rows
            .iter()
            .enumerate()
            .map(|(at, conditions)| format!("[[row]]\nid = \"r{at}\"\n{conditions}\naction = \"allow\"\n"))
            .collect();
        policy(&rows).unreachable_rows(&names()).into_iter().map(|lint| lint.row).collect::<Vec<_>>()
    };

    assert_eq!(unreachable(&["", "rule = [\"contact.email\"]"]), ["r1"]);
    assert_eq!(unreachable(&["category = [\"pii.*\"]", "rule = [\"contact.email\"]", ""]), ["r1"]);
    assert_eq!(unreachable(&["severity = \"high\"", "confidence = \"high\""]), ["r1"]);
    assert_eq!(unreachable(&["severity = \"high\"", "kind = [\"settings\"]"]), [""; 0]);
    // Two rows together leave nothing to a third.
    let kinds = ["kind = [\"telemetry\", \"third-party\"]", "kind = [\"settings\"]", "severity = \"low\""];
    assert_eq!(unreachable(&kinds), ["r2"]);
    // A host narrows in a way that names do not tell.
    assert_eq!(unreachable(&["host = [\"a.example\"]", "destination = [\"otlp\"]"]), [""; 0]);
    assert_eq!(unreachable(&["host = [\"a.example\"]", "host = [\"a.example\"]"]), ["r1"]);
}
