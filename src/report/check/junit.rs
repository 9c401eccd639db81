use std::fmt::Write as _;

use crate::{
    compliance::{CheckReport, ClaimVerdict, ControlResult, SubjectReport, Verdict},
    report::check::{client, word},
};

/// The verdicts as JUnit XML: a suite for each run, a case for each promise that counts. What could not be told is an
/// error, what was accepted or counts for nothing is skipped.
pub fn junit(report: &CheckReport) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let suites: Vec<Suite> = report.subjects.iter().map(suite).collect();
    let sum = |count: fn(&Suite) -> usize| suites.iter().map(count).sum::<usize>();
    _ = writeln!(
        out,
        "<testsuites name=\"plainsight check\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">",
        sum(|suite| suite.tests),
        sum(|suite| suite.failures),
        sum(|suite| suite.errors),
        sum(|suite| suite.skipped),
    );
    for suite in &suites {
        _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{}\">",
            suite.name, suite.tests, suite.failures, suite.errors, suite.skipped, suite.seconds
        );
        out.push_str(&suite.cases);
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

#[derive(Default)]
struct Suite {
    name: String,
    tests: usize,
    failures: usize,
    errors: usize,
    skipped: usize,
    seconds: i64,
    cases: String,
}

fn suite(subject: &SubjectReport) -> Suite {
    let mut suite = Suite {
        name: escape(&format!("{}, {}", subject.subject.name(), client(subject))),
        seconds: (subject.coverage.last_ms - subject.coverage.first_ms).max(0) / 1000,
        ..Suite::default()
    };
    for result in &subject.results {
        suite.result(result);
    }
    for claim in &subject.claims {
        let body = match (subject.claims_count, claim.verdict) {
            (_, ClaimVerdict::Upheld) => None,
            (true, ClaimVerdict::Refuted) if claim.accepted.is_none() => Some("failure"),
            (true, ClaimVerdict::Untested) => Some("error"),
            _ => Some("skipped"),
        };
        let text = format!("{}: {}", claim.verdict, claim.because);
        let evidence = claim.evidence.iter().map(|evidence| format!("{} {}", evidence.flow, evidence.what));
        suite.case("claim", &claim.id, body, &text, &evidence.collect::<Vec<_>>().join("\n"));
    }
    suite
}

impl Suite {
    fn result(&mut self, result: &ControlResult) {
        let body = match result.verdict {
            Verdict::Pass => None,
            _ if !result.is_binding || result.accepted.is_some() => Some("skipped"),
            Verdict::Fail => Some("failure"),
            Verdict::Inconclusive | Verdict::Unaffected => Some("error"),
        };
        let mut details: Vec<String> =
            result.missing.iter().map(|missing| missing.detail.to_string()).collect();
        details.extend(result.evidence.iter().map(|evidence| {
            let path = evidence.path.as_deref().unwrap_or_default();
            format!("{} {} {path}", evidence.flow, evidence.what).trim_end().to_owned()
        }));
        details.extend(result.notes.iter().map(ToString::to_string));
        let text = format!("{}: {}", word(result), result.because);
        self.case(result.kind.as_str(), &result.id, body, &text, &details.join("\n"));
    }

    fn case(&mut self, class: &str, name: &str, body: Option<&str>, message: &str, details: &str) {
        self.tests += 1;
        let head = format!("    <testcase classname=\"plainsight.{class}\" name=\"{}\"", escape(name));
        match body {
            None => self.cases.push_str(&format!("{head}/>\n")),
            Some(body) => {
                match body {
                    "failure" => self.failures += 1,
                    "error" => self.errors += 1,
                    _ => self.skipped += 1,
                }
                let (message, details) = (escape(message), escape(details));
                let type_ = if body == "skipped" { "" } else { " type=\"compliance\"" };
                self.cases
                    .push_str(&format!("{head}>\n      <{body} message=\"{message}\"{type_}>{details}</{body}>\n    </testcase>\n"));
            }
        }
    }
}

/// Escapes for XML. What XML cannot hold at all becomes `�`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(character),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(character),
        }
    }
    out
}
