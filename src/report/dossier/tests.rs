use crate::{
    model::{Answer, AppliedEdit, FieldPath, Finding, Outcome, Rewriting, RunClosing, RunOpening},
    report::{check, testing},
};

use super::*;

fn dossier() -> Dossier {
    let mut builder = DossierBuilder::default();
    testing::session().iter().for_each(|flow| builder.add(flow));
    let dossier = builder.finish("run 12", 1_795_252_000_000, &[run(12, "run", Some(Watch::Watched))]);
    check::tests::report().subjects.iter().fold(dossier, Dossier::with_check)
}

fn run(id: u32, mode: &str, watch: Option<Watch>) -> RunRecord {
    RunRecord {
        id: RunId::new(id).unwrap(),
        opening: RunOpening {
            time_ms: 1_795_251_000_000,
            mode: mode.into(),
            program: Some("claude".into()),
            version: "0".into(),
            policy_hash: "p".repeat(64).into(),
            rules_hash: "r".repeat(64).into(),
            watch,
        },
        closing: Some(RunClosing { time_ms: 1_795_252_000_000, exit_code: Some(0) }),
    }
}

/// One that went around us, and one that was kept in.
fn stray(kind: FlowKind, spoken: &str, whom: &str) -> FlowRecord {
    let mut flow = testing::record(20, "third-party", DestinationKind::ThirdParty, "");
    flow.opening.kind = kind;
    flow.opening.method = spoken.into();
    flow.opening.scheme = "".into();
    flow.opening.authority = whom.into();
    flow.opening.user_agent = Some("curl (4711) <b>".into());
    flow.closing.as_mut().unwrap().outcome = Outcome::Bypassed;
    flow
}

#[test]
fn every_receiver_and_category_has_its_cell() {
    let dossier = dossier();

    let events = dossier.destinations.iter().find(|line| line.destination == "first-party-events").unwrap();
    assert_eq!(events.categories["pii.contact"].findings, 1);
    assert_eq!(events.categories["secret.token"].worst, Some(Severity::Critical));
    assert_eq!(dossier.destinations.last().unwrap().destination, "conversation");
    assert!(dossier.categories.contains(&"pii.device".to_owned()), "{:?}", dossier.categories);
}

#[test]
fn equal_values_at_equal_places_are_one_line() {
    let mut builder = DossierBuilder::default();
    builder.add(&testing::events());
    let mut second = testing::events();
    for finding in &mut second.opening.findings {
        let path = finding.path.as_str().replace("events/0", "events/17");
        finding.path = crate::model::FieldPath::from_raw(path);
    }
    builder.add(&second);

    let dossier = builder.finish("x", 0, &[]);

    let email = dossier.findings.iter().find(|line| line.rule == "account.email").unwrap();
    assert_eq!(email.path, "first-party-events:events/*/event_data/email");
    assert_eq!((email.times, email.flows.len()), (2, 1));
}

#[test]
fn the_page_needs_nothing_from_anywhere() {
    let page = html(&dossier());

    assert!(page.contains("first-party-events"), "the probe sees the page");
    for outside in ["src=", "@import", "url(", "<script", "http://", "https://"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn what_came_from_the_network_is_text_in_every_form() {
    let mut flow = testing::events();
    flow.opening.user_agent = Some("<script>alert(1)</script>|\u{1b}[31m".into());
    flow.opening.findings[0].preview = "<img onerror=x>|`".into();
    let mut builder = DossierBuilder::default();
    builder.add(&flow);
    let dossier = builder.finish("<b>subject</b>", 0, &[]);

    let (page, text) = (html(&dossier), markdown(&dossier));

    assert!(page.contains("&lt;script&gt;alert(1)"), "it is shown");
    for raw in ["<script>alert", "<img onerror", "<b>subject", "\u{1b}"] {
        assert!(!page.contains(raw), "{raw:?} in HTML");
        assert!(!text.contains(raw), "{raw:?} in Markdown");
    }
    assert!(text.contains("\\|`"), "a bar ends no cell");
}

#[test]
fn the_json_form_holds_what_the_page_shows() {
    let value = dossier().to_json();

    assert_eq!(value["schema"], 1);
    assert_eq!(value["verdicts"][0]["verdict"], "fail");
    assert_eq!(value["checked"][0]["is_told"], true);
    assert_eq!(value["observed"]["requests"], 6);
    assert_eq!(value["tunnels"][0]["host"], "files.example");
    assert_eq!(value["coverage"].as_array().unwrap().len(), 4, "{}", value["coverage"]);
}

#[test]
fn findings_beyond_the_limit_are_counted() {
    let mut flow = testing::events();
    let pattern = flow.opening.findings[0].clone();
    flow.opening.findings = (0..FINDING_LINES + 5)
        .map(|number| Finding { preview: format!("v{number}").into(), ..pattern.clone() })
        .collect();
    let mut builder = DossierBuilder::default();
    builder.add(&flow);

    let dossier = builder.finish("x", 0, &[]);

    assert_eq!((dossier.findings.len(), dossier.findings_left_out), (FINDING_LINES, 5));
    assert!(html(&dossier).contains("5 further findings"));
}

#[test]
fn every_verdict_is_in_every_form_with_its_records() {
    let dossier = dossier();
    let (page, text, value) = (html(&dossier), markdown(&dossier), dossier.to_json());

    let lines = value["verdicts"].as_array().unwrap();
    let report = check::tests::report();
    let subject = &report.subjects[0];
    assert_eq!(lines.len(), subject.results.len() + subject.claims.len());
    assert_eq!(lines[0]["evidence"][0]["flow"], "12-7");
    assert_eq!(lines[0]["evidence_total"], 9);
    for result in &subject.results {
        assert!(page.contains(&*result.id), "{} in HTML", result.id);
        assert!(text.contains(&*result.id), "{} in Markdown", result.id);
    }
    for claim in &subject.claims {
        assert!(page.contains(&*claim.statement) && text.contains(&*claim.statement), "{}", claim.id);
    }
    assert!(page.contains("POST api.anthropic.com/&lt;b&gt;|"), "what the record shows");
    assert!(
        page.contains("and 1 more") || page.contains("and 8 more"),
        "records beyond those that are named"
    );
    assert!(text.contains("**fail**") && text.contains("**refuted**"), "{text}");
    let repeated = "no answered request of the conversation was seen";
    assert_eq!(page.matches(repeated).count(), 1, "a reason is said once");
}

#[test]
fn a_failure_that_does_not_count_or_was_accepted_is_no_broken_promise() {
    let mut report = check::tests::report();
    let subject = &mut report.subjects[0];
    subject.claims.clear();
    for result in &mut subject.results {
        result.is_binding = false;
    }
    let dossier = DossierBuilder::default().finish("x", 0, &[]).with_check(subject);

    assert!(dossier.verdicts.iter().any(|line| line.verdict == "fail"));
    assert!(!dossier.verdicts.iter().any(VerdictLine::is_bad));
    assert!(html(&dossier).contains("does not count"));
}

#[test]
fn what_went_around_us_is_in_every_form_and_in_no_sum() {
    let mut builder = DossierBuilder::default();
    builder.add(&stray(FlowKind::Attempt, "UDP", "api.example:443"));
    builder.add(&stray(FlowKind::Bypass, "TCP", "203.0.113.7:443"));
    builder.add(&stray(FlowKind::Bypass, "TCP", "203.0.113.7:443"));

    let dossier = builder.finish("x", 0, &[]);

    let value = dossier.to_json();
    assert_eq!(value["strays"][0]["what"], "went-around");
    assert_eq!(value["strays"][0]["times"], 2);
    assert_eq!(value["strays"][1]["what"], "not-let-out");
    assert_eq!(value["observed"]["requests"], 0);
    assert_eq!(value["observed"]["request_bytes"], 0);
    for (form, text) in [("HTML", html(&dossier)), ("Markdown", markdown(&dossier))] {
        assert!(text.contains("203.0.113.7") && text.contains("curl (4711) &lt;b"), "{form}: {text}");
        assert!(text.contains("not let out"), "{form}");
    }
}

#[test]
fn what_the_observation_cannot_show_is_said() {
    let said = |runs: &[RunRecord], flow: &dyn Fn(&mut FlowRecord)| {
        let mut record = testing::events();
        flow(&mut record);
        let mut builder = DossierBuilder::default();
        builder.add(&record);
        let dossier = builder.finish("x", 0, runs);
        let text = markdown(&dossier);
        assert!(dossier.limits.iter().all(|limit| text.contains(limit)), "{text}");
        dossier.limits.join("\n")
    };
    let edit = AppliedEdit {
        path: FieldPath::from_raw("x"),
        method: "token".into(),
        before: 1,
        after: 1,
        with: "".into(),
    };

    let watch = |watch| said(&[run(1, "run", watch)], &|_| {});
    assert!(watch(Some(Watch::Confined)).contains("confined"));
    assert!(watch(Some(Watch::Unwatched)).contains("means nothing"));
    assert!(watch(None).contains("is not known"));
    let mixed = [run(1, "run", Some(Watch::Confined)), run(2, "proxy", None), run(3, "proxy", None)];
    assert!(said(&mixed, &|_| {}).contains("(Runs: 2, 3.)"), "{}", said(&mixed, &|_| {}));
    assert!(said(&[], &|flow| flow.opening.answered = Some(Answer::Sink)).contains("1 request was answered"));
    assert!(said(&[], &|flow| flow.closing = None).contains("1 flow is without an end"));
    let redacted = said(&[], &|flow| {
        let edits = vec![edit.clone()];
        flow.opening.rewriting = Some(Rewriting { body_bytes: 1, edits, edits_left_out: 2 });
    });
    assert!(redacted.contains("1 request was changed before leaving, at 3 places"), "{redacted}");
    assert_eq!(said(&[], &|_| {}), "");
}

#[test]
fn what_happened_to_a_run_stands_with_it() {
    let id = RunId::new(12).unwrap();

    let dossier = dossier().with_run_note(id, 1_795_251_500_000, "policy <changed>");

    assert_eq!(dossier.to_json()["runs"][0]["notes"][0]["text"], "policy <changed>");
    assert!(
        html(&dossier).contains("policy &lt;changed&gt;")
            && markdown(&dossier).contains("policy &lt;changed>")
    );
}

#[test]
fn entries_of_a_recording_are_named_by_their_place() {
    let mut builder = DossierBuilder::of_recording();
    builder.add(&testing::events());

    let dossier = builder.finish("x", 0, &[]);

    assert_eq!(dossier.findings[0].flows, ["#6"]);
    assert!(dossier.limits[0].contains("recording"), "{:?}", dossier.limits);
}
