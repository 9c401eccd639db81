//! `plainsight check` on the recordings of the real client: the published statements, and the switches that were set.

use std::path::{Path, PathBuf};

use plainsight::{
    compliance::{Controls, Expectation},
    destination::{Catalogue, Events},
};
use serde_json::{Value, json};

use crate::support::product::{Product, text};

fn capture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/captures").join(name)
}

fn check(product: &Product, file: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let mut arguments = vec!["check", file.to_str().unwrap(), "--json", "--complete"];
    arguments.extend(more);
    let output = product.run(&arguments);
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)));
    (output.status.code(), report)
}

/// The word under `key` for each id.
fn by_id<'r>(report: &'r Value, list: &str) -> Vec<(&'r str, &'r str)> {
    let entries = report["subjects"][0][list].as_array().unwrap();
    entries.iter().map(|entry| (entry["id"].as_str().unwrap(), entry["verdict"].as_str().unwrap())).collect()
}

fn claims(name: &str, more: &[&str]) -> Vec<String> {
    let (_, report) = check(&Product::new(), &capture(name), more);
    by_id(&report, "claims").into_iter().map(|(id, verdict)| format!("{id} {verdict}")).collect()
}

fn verdict(report: &Value, id: &str) -> String {
    let found = by_id(report, "results").into_iter().find(|(known, _)| *known == id);
    found.map_or_else(|| "not in force".to_owned(), |(_, verdict)| verdict.to_owned())
}

#[test]
fn published_statements_are_held_against_the_recordings() {
    let signed_in = claims("2.1.329-signed-in.har", &["--assume", "TERM=xterm"]);
    let api_key = claims("2.1.329-api-key.har", &["--assume", "TERM=xterm"]);
    let old = claims("2.0.14-signed-in.har", &["--assume", "TERM=xterm"]);
    let old_switch = claims("2.0.14-nonessential-traffic-disabled.har", &["--assume", "DISABLE_TELEMETRY=1"]);
    let new_switch = claims("2.1.329-otlp-http-json.har", &["--assume", "DISABLE_TELEMETRY=1"]);

    assert_eq!(
        signed_in,
        [
            "no-personal-identifier refuted",
            "no-prompt upheld",
            "no-file-contents upheld",
            "no-command-output upheld",
            "one-endpoint refuted",
            "never-code-prompts-paths upheld",
            "disable-telemetry-stops-metrics untested",
        ]
    );
    assert_eq!(api_key[..5], signed_in[..5]);
    // What is not first-party telemetry says nothing about first-party telemetry.
    assert_eq!(old[..4].iter().filter(|claim| claim.ends_with(" untested")).count(), 4, "{old:?}");
    assert_eq!(old_switch[6], "disable-telemetry-stops-metrics refuted");
    assert_eq!(new_switch[6], "disable-telemetry-stops-metrics upheld");
    assert!(new_switch[..4].iter().all(|claim| claim.ends_with(" untested")), "{new_switch:?}");
}

#[test]
fn a_switch_that_did_not_hold_fails_with_the_record() {
    let switch = ["--assume", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1"];
    let (code, report) =
        check(&Product::new(), &capture("2.0.14-nonessential-traffic-disabled.har"), &switch);

    assert_eq!(code, Some(1));
    let results = report["subjects"][0]["results"].as_array().unwrap();
    let metrics = results.iter().find(|it| it["id"] == "nonessential-traffic/first-party-metrics").unwrap();
    assert_eq!(metrics["verdict"], "fail");
    assert_eq!(metrics["evidence"][0]["what"], "POST api.anthropic.com/api/claude_code/metrics");
    assert!(metrics["notes"][0].as_str().unwrap().contains("vendor-changelog"));
    for silent in ["first-party-events", "feature-flags", "statsig"] {
        assert_eq!(verdict(&report, &format!("nonessential-traffic/{silent}")), "pass", "{silent}");
    }
}

#[test]
fn open_gates_of_opentelemetry_promise_nothing_and_closed_ones_see_the_leak() {
    let (on, told) = (
        "CLAUDE_CODE_ENABLE_TELEMETRY=1",
        ["OTEL_LOGS_EXPORTER=otlp", "OTEL_METRICS_EXPORTER=otlp", "OTEL_TRACES_EXPORTER=otlp"],
    );
    let flags = ["OTEL_LOG_USER_PROMPTS=1", "OTEL_LOG_TOOL_DETAILS=1", "OTEL_LOG_TOOL_CONTENT=1"];
    let gates = [
        "otel-prompts/otlp",
        "otel-responses-by-prompts/otlp",
        "otel-tool-details/otlp",
        "otel-tool-content/otlp",
    ];
    for name in ["2.1.329-otlp-http-json.har", "2.1.329-otlp-http-protobuf.har", "2.1.329-otlp-grpc.har"] {
        let assume = |flags: &[&'static str]| {
            let all = [on].into_iter().chain(told).chain(flags.iter().copied());
            let arguments: Vec<&str> = all.flat_map(|one| ["--assume", one]).collect();
            check(&Product::new(), &capture(name), &arguments).1
        };

        let open = assume(&flags);
        let closed = assume(&[]);

        for gate in gates {
            assert_eq!(verdict(&open, gate), "not in force", "{name} {gate}");
            assert_eq!(verdict(&closed, gate), "fail", "{name} {gate}");
        }
        assert_eq!(verdict(&closed, "otel-api-bodies/otlp"), "pass", "{name}");
        assert_eq!(verdict(&closed, "otel-metrics-repository/otlp"), "pass", "{name}");
    }
}

// PITFALLS 33
#[test]
fn a_recording_without_a_conversation_passes_nothing() {
    let product = Product::new();
    let mut har: Value =
        serde_json::from_slice(&std::fs::read(capture("2.1.329-otlp-http-json.har")).unwrap()).unwrap();
    let whole = product.write("whole.har", har.to_string());
    let entries = har["log"]["entries"].as_array_mut().unwrap();
    entries.retain(|entry| !entry["request"]["url"].as_str().unwrap().contains("/v1/messages"));
    let silenced = product.write("silenced.har", har.to_string());
    let switch = ["--assume", "DISABLE_TELEMETRY=1", "--control", "disable-telemetry"];

    let with = check(&product, &whole, &switch);
    let without = check(&product, &silenced, &switch);

    assert_eq!(with.0, Some(0));
    assert_eq!(without.0, Some(2));
    assert!(by_id(&without.1, "results").iter().all(|(_, verdict)| *verdict == "inconclusive"));
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    let product = Product::new();
    let file = capture("2.1.329-api-key.har");
    let file = file.to_str().unwrap();
    let baseline = product
        .write("b.toml", "schema = 1\n[[accept]]\nresult = \"x\"\nreason = \"r\"\nexpire = \"2027-01-01\"\n");
    for (more, expected) in [
        (["--assume", "DISABLE_TELEMETRY"], "write it as NAME=VALUE"),
        (["--control", "disable-telemtry"], "there is no such control"),
        (["--expect", "loud"], "`loud` is no assertion"),
        (["--deny", "content"], "`content` is no assertion"),
        (["--baseline", baseline.to_str().unwrap()], "did you mean `expires`?"),
    ] {
        let output = product.run(&["check", file, more[0], more[1]]);

        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(text(&output.stderr).contains(expected), "{more:?}: {}", text(&output.stderr));
    }
}

#[test]
fn nothing_told_is_nothing_checked() {
    let product = Product::new();
    let file = capture("2.1.329-api-key.har");
    let file = file.to_str().unwrap();

    let untold = product.run(&["check", file, "--complete"]);
    let asked = product.run(&["check", file, "--complete", "--expect", "observed"]);
    let denied = product.run(&["check", file, "--complete", "--deny", "destination:first-party-*"]);

    assert_eq!(untold.status.code(), Some(2));
    assert!(text(&untold.stdout).contains("nobody knows what the client was told"));
    assert_eq!(asked.status.code(), Some(0), "{}", text(&asked.stdout));
    assert_eq!(denied.status.code(), Some(1));
}

/// The catalogue of names says which flag lets each attribute out; the controls must hold each flag to that.
#[test]
fn every_gate_of_the_catalogue_of_names_has_a_control() {
    let catalogue = Catalogue::embedded();
    let ids = catalogue.rows().iter().map(|row| row.destination.id.as_str()).chain(["third-party"]);
    let controls = Controls::embedded(ids).unwrap();
    let events = Events::embedded();
    let mut uncovered = Vec::new();
    for flag in events.flags() {
        assert!(controls.switch(&flag.id).is_some(), "{} is no switch of controls.toml", flag.id);
    }
    for attribute in events.attributes() {
        let Some(gate) = &attribute.gate else { continue };
        let signal = attribute.on.split(':').next().unwrap();
        // An attribute of this name may be sent on something else without the gate: its name alone does not tell.
        let is_free = events.attributes().iter().any(|other| {
            other.gate.is_none() && other.name == attribute.name && other.on.split(':').next() == Some(signal)
        });
        let path = match signal {
            "event" => format!("otlp:resourceLogs/0/scopeLogs/0/logRecords/0/attributes/{}", attribute.name),
            "metric" => format!(
                "otlp:resourceMetrics/0/scopeMetrics/0/metrics/0/sum/dataPoints/0/attributes/{}",
                attribute.name
            ),
            _ => format!("otlp:resourceSpans/0/scopeSpans/0/spans/0/attributes/{}", attribute.name),
        };
        let in_event =
            format!("otlp:resourceSpans/0/scopeSpans/0/spans/0/events/0/attributes/{}", attribute.name);
        let is_covered = controls.controls.iter().any(|control| {
            control.expect == Expectation::AbsentField
                && control.when.iter().flatten().any(|condition| condition.switch.name == *gate)
                && control.fields.iter().any(|field| field.matches(&path) || field.matches(&in_event))
        });
        // Whole events, which a control names by the event and not by its attributes; and counts and names of hooks,
        // which say nothing of the person.
        let is_by_event = &**gate == "OTEL_LOG_RAW_API_BODIES";
        let is_harmless = &**gate == "ENABLE_BETA_TRACING_DETAILED"
            && (&*attribute.on == "span:claude_code.hook"
                // The latter has OTEL_LOG_TOOL_DETAILS before it as well, and a control of its own there.
                || ["query_source", "tool_input"].contains(&&*attribute.name));
        if !is_covered && !is_free && !is_by_event && !is_harmless {
            uncovered.push(json!([gate, attribute.on, attribute.name]).to_string());
        }
    }
    assert!(uncovered.is_empty(), "no control for {uncovered:#?}");
}
