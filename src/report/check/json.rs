use serde_json::{Value, json};

use crate::compliance::{CheckReport, Outcome};

/// Everything that the check says. `docs/COMPLIANCE.md` says what each key means; keys are added, never renamed.
pub fn json(report: &CheckReport) -> Value {
    let outcome = match report.outcome() {
        Outcome::CouldNotTell => "could-not-tell",
        Outcome::Holds => "holds",
        Outcome::Violated => "violated",
    };
    json!({
        "schema": 1,
        "outcome": outcome,
        "tally": report.tally(),
        "claims": report.claims(),
        "subjects": report.subjects,
        "baseline_notes": report.baseline_notes,
    })
}
