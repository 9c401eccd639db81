use unicode_width::UnicodeWidthStr as _;

use super::*;
use crate::{
    compliance::{
        Accepted, ClaimResult, ClaimVerdict, Coverage, Evidence, Expectation, Missing, MissingKind,
        ResultKind, Source, SourceClass, Subject, Unpromised, UnreadHost,
    },
    model::{
        DestinationId, EffectiveSwitch, EffectiveSwitches, RunId, SwitchLayer, SwitchSetting, SwitchState,
    },
    report::testing,
};

fn source() -> Source {
    Source { text: "data usage documentation".into(), class: SourceClass::Documented }
}

fn evidence(flow: &str, what: &str) -> Evidence {
    Evidence {
        flow: flow.into(),
        time_ms: 1,
        destination: DestinationId::new("first-party-metrics"),
        what: what.into(),
        path: None,
        rule: None,
        preview: None,
    }
}

fn result(control: &str, destination: &str, verdict: Verdict) -> ControlResult {
    ControlResult {
        id: format!("{control}/{destination}").into(),
        kind: ResultKind::Control,
        control: control.into(),
        title: "DISABLE_TELEMETRY silences usage telemetry".into(),
        destination: Some(DestinationId::new(destination)),
        expect: Expectation::Silent,
        verdict,
        is_binding: true,
        because: "1 request, where silence was promised".into(),
        evidence: Vec::new(),
        evidence_total: 0,
        missing: Vec::new(),
        notes: Vec::new(),
        source: source(),
        accepted: None,
    }
}

/// One of each verdict, with hostile text where text can come from the network.
pub(in crate::report) fn report() -> CheckReport {
    let mut fail = result("disable-telemetry", "first-party-metrics", Verdict::Fail);
    fail.evidence = vec![evidence("12-7", "POST api.anthropic.com/<b>|\x1b]0;x\x07&\"'")];
    fail.evidence_total = 9;
    fail.notes = vec!["before 2.1.120 it did not stop first-party metrics (vendor-changelog)".into()];
    let mut open = result("disable-telemetry", "datadog", Verdict::Inconclusive);
    let detail =
        "no answered request of the conversation was seen, so silence may mean that the client did nothing";
    open.because = detail.into();
    open.missing = vec![Missing { what: MissingKind::PositiveControl, detail: detail.into() }];
    let mut accepted = result("disable-telemetry", "statsig", Verdict::Fail);
    accepted.accepted = Some(Accepted { reason: "known & reported".into(), expires: "2027-01-31".into() });
    let mut unbinding = result("disable-telemetry.not-reached", "otlp", Verdict::Unaffected);
    unbinding.is_binding = false;
    let pass = result("disable-telemetry", "feature-flags", Verdict::Pass);
    let setting = SwitchSetting {
        layer: SwitchLayer::User,
        file: Some("~/.claude/settings.json".into()),
        value: Some("0".into()),
    };
    let switch = EffectiveSwitch {
        name: "DISABLE_TELEMETRY".into(),
        state: SwitchState::On,
        setting,
        hidden: Vec::new(),
        misreading: None,
    };
    let claim = ClaimResult {
        id: "no-prompt".into(),
        statement: "No prompt or conversation text".into(),
        verdict: ClaimVerdict::Refuted,
        because: "found 1 time in 1 request".into(),
        evidence: vec![evidence("12-8", "POST x")],
        evidence_total: 1,
        missing: Vec::new(),
        source: source(),
        accepted: None,
    };
    let subject = SubjectReport {
        subject: Subject::of_run(RunId::new(12).unwrap(), "run", Some("claude")),
        client_version: Some("2.1.329".parse().unwrap()),
        told: Some(EffectiveSwitches { switches: vec![switch], ..EffectiveSwitches::none() }),
        coverage: Coverage {
            requests: 4,
            tunnels: 1,
            conversations: 2,
            first_ms: 1_000,
            last_ms: 3_000,
            ended: Ended::ByItself,
            versions_seen: Vec::new(),
            unread: vec![UnreadHost {
                authority: "x.example:443".into(),
                reason: "not-intercepted".into(),
                flows: 1,
            }],
        },
        results: vec![pass, unbinding, accepted, open, fail],
        claims: vec![claim],
        claims_count: false,
        unpromised: vec![Unpromised { destination: DestinationId::new("segment"), requests: 3 }],
    };
    CheckReport { subjects: vec![subject], baseline_notes: vec!["`gone` no longer occurs".into()] }
}

// PITFALLS 32
#[test]
fn the_table_fits_its_columns_and_moves_no_terminal() {
    for columns in [40, 80, 130] {
        let text = table(&report(), &testing::view(columns));

        for line in text.lines() {
            assert!(line.width() <= columns, "{columns}: {line}");
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
}

#[test]
fn the_table_shows_what_is_broken_first_and_ends_with_the_sum() {
    let text = table(&report(), &testing::view(80));

    let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what} in {text}"));
    assert!(place("fail   ") < place("inconclusive  "));
    assert!(place("12-7 POST api.anthropic.com") < place("and 5 more"));
    assert!(text.contains("the switches do not reach: otlp"));
    assert!(text.contains("accepted until 2027-01-31"));
    assert!(text.ends_with("violated: 1 pass, 1 fail, 1 inconclusive, 1 accepted\n"), "{text}");
}

#[test]
fn json_has_every_verdict_under_its_own_names() {
    let value = json(&report());

    assert_eq!(value["outcome"], "violated");
    assert_eq!(value["tally"]["fail"], 1);
    let subject = &value["subjects"][0];
    assert_eq!(subject["results"][4]["evidence"][0]["flow"], "12-7");
    assert_eq!(subject["results"][3]["missing"][0]["what"], "positive-control");
    assert_eq!(subject["told"]["switches"][0]["state"], "on");
    assert_eq!(subject["coverage"]["ended"], "by-itself");
}

#[test]
fn junit_counts_what_it_holds_and_escapes() {
    let text = junit(&report());

    assert!(text.contains("tests=\"6\" failures=\"1\" errors=\"1\" skipped=\"3\""), "{text}");
    assert!(text.contains("&lt;b&gt;") && !text.contains("<b>"), "{text}");
    assert!(!text.chars().any(|it| it.is_control() && it != '\n'));
}

#[test]
fn markdown_holds_no_markup_of_others() {
    let text = markdown(&report());

    assert!(text.contains("| **fail** | disable-telemetry | first-party-metrics |"), "{text}");
    assert!(!text.contains("<b>") && !text.contains('\x1b'));
}

#[test]
fn sarif_suppresses_what_was_accepted_and_names_records() {
    let value = sarif(&report(), "0.1.0");

    let results = value["runs"][0]["results"].as_array().unwrap();
    assert_eq!(results.len(), 6);
    assert_eq!(results[4]["level"], "error");
    assert_eq!(results[4]["locations"][0]["logicalLocations"][0]["name"], "12-7");
    assert_eq!(results[2]["suppressions"][0]["status"], "accepted");
    assert_eq!(results[0]["kind"], "pass");
    assert_eq!(results[3]["kind"], "review");
}
