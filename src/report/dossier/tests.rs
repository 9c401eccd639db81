use crate::{model::Finding, report::testing};

use super::*;

fn dossier() -> Dossier {
    let mut builder = DossierBuilder::default();
    testing::session().iter().for_each(|flow| builder.add(flow));
    builder.finish("run 12", 1_795_252_000_000, &[]).with_verdicts(vec![VerdictLine {
        kind: "control",
        id: "disable-telemetry/statsig".to_owned(),
        promise: "DISABLE_TELEMETRY silences <statsig>".to_owned(),
        verdict: "fail".to_owned(),
        why: "3 requests".to_owned(),
        source: "documented".to_owned(),
        evidence: vec!["12-7".to_owned()],
    }])
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
