//! The verdicts of a check, as a table, Markdown, JSON, JUnit and SARIF. Judges nothing: it writes what `compliance` says.

mod json;
mod junit;
mod markdown;
mod sarif;
mod table;
#[cfg(test)]
pub(super) mod tests;

pub use json::json;
pub use junit::junit;
pub use markdown::markdown;
pub use sarif::sarif;
pub use table::{last_line, table};

use crate::{
    compliance::{CheckReport, ControlResult, Ended, Outcome, SubjectReport, Verdict},
    report::text,
};

/// How a check ended, in a word.
const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::CouldNotTell => "could not tell",
        Outcome::Holds => "holds",
        Outcome::Violated => "violated",
    }
}

/// What was watched, in a sentence.
pub(super) fn watched(subject: &SubjectReport) -> String {
    let coverage = &subject.coverage;
    let seconds = (coverage.last_ms - coverage.first_ms).max(0) / 1000;
    let ended = match coverage.ended {
        Ended::ByItself => ", to the client's end",
        Ended::BySignal => ", until a signal ended the client",
        Ended::Open => ", not closed",
        Ended::Unknown => "",
    };
    let (requests, tunnels) =
        (text::count(coverage.requests, "request"), text::count(coverage.tunnels, "tunnel"));
    format!("{requests}, {tunnels} in {seconds} s{ended}")
}

/// The client and who answers it.
pub(super) fn client(subject: &SubjectReport) -> String {
    let version =
        subject.client_version.map_or_else(|| "unknown version".to_owned(), |version| version.to_string());
    match &subject.told {
        Some(told) => format!("client {version}, {}", told.provider),
        None => format!("client {version}"),
    }
}

/// The switches that were set, `NAME=VALUE` or `NAME` where the value is not kept.
pub(super) fn switches(subject: &SubjectReport) -> Vec<String> {
    let switches = subject.told.iter().flat_map(|told| &told.switches);
    switches
        .map(|switch| {
            let value = switch.setting.value.as_deref().map_or_else(String::new, |value| format!("={value}"));
            let file = switch.setting.file.as_deref().unwrap_or(switch.setting.layer.as_str());
            format!("{}{value} ({}, {file})", switch.name, switch.state)
        })
        .collect()
}

/// The last line: the sum of all verdicts.
fn sum(report: &CheckReport) -> String {
    let tally = report.tally();
    let accepted = if tally.accepted > 0 { format!(", {} accepted", tally.accepted) } else { String::new() };
    format!(
        "{}: {} pass, {} fail, {} inconclusive{accepted}",
        outcome(report.outcome()),
        tally.pass,
        tally.fail,
        tally.inconclusive
    )
}

/// The verdict in the word that a list shows.
pub(super) fn word(result: &ControlResult) -> &'static str {
    match result.verdict {
        Verdict::Fail if result.accepted.is_some() => "accepted",
        verdict => verdict.as_str(),
    }
}

/// Results in the order in which a reader wants them: broken first, what does not count last.
pub(super) fn sorted(subject: &SubjectReport) -> Vec<&ControlResult> {
    let mut results: Vec<&ControlResult> = subject.results.iter().collect();
    results.sort_by_key(|result| (!result.is_binding, result.accepted.is_some(), result.verdict));
    results
}
