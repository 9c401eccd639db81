use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    compliance::{CheckReport, ClaimResult, ClaimVerdict, ControlResult, Evidence, SubjectReport, Verdict},
    report::check::word,
};

/// The verdicts as SARIF 2.1.0: a rule for each control and claim, a result for each verdict. What holds is a result of
/// kind `pass`, so that a viewer can show what was checked; what could not be told is of kind `review`.
pub fn sarif(report: &CheckReport, version: &str) -> Value {
    let mut rules: BTreeMap<&str, Value> = BTreeMap::new();
    let mut results = Vec::new();
    for subject in &report.subjects {
        for result in &subject.results {
            rules.entry(&result.control).or_insert_with(|| {
                json!({
                    "id": result.control,
                    "shortDescription": { "text": result.title },
                    "help": { "text": format!("Source: {} ({})", result.source.text, result.source.class) },
                })
            });
            results.push(of_result(subject, result));
        }
        for claim in &subject.claims {
            rules.entry(&claim.id).or_insert_with(|| {
                json!({
                    "id": claim.id,
                    "shortDescription": { "text": claim.statement },
                    "help": { "text": format!("Source: {} ({})", claim.source.text, claim.source.class) },
                })
            });
            results.push(of_claim(subject, claim));
        }
    }
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "plainsight",
                "version": version,
                "rules": rules.into_values().collect::<Vec<_>>(),
            } },
            "results": results,
        }],
    })
}

fn of_result(subject: &SubjectReport, result: &ControlResult) -> Value {
    let (kind, level) = match result.verdict {
        Verdict::Fail => ("fail", "error"),
        Verdict::Inconclusive if result.is_binding => ("review", "none"),
        Verdict::Inconclusive | Verdict::Unaffected => ("informational", "none"),
        Verdict::Pass => ("pass", "none"),
    };
    let destination = result.destination.as_ref().map_or_else(String::new, |id| format!(" for {id}"));
    let mut text = format!("{}{destination}: {}", word(result), result.because);
    for missing in result.missing.iter().skip(1) {
        text.push_str(&format!("; {}", missing.detail));
    }
    let mut value = json!({
        "ruleId": result.control,
        "kind": kind,
        "level": level,
        "message": { "text": text },
        "locations": locations(subject, &result.evidence),
        "partialFingerprints": { "plainsight/v1": result.id },
    });
    if let Some(accepted) = &result.accepted {
        let why = format!("{} (until {})", accepted.reason, accepted.expires);
        value["suppressions"] = json!([{ "kind": "external", "status": "accepted", "justification": why }]);
    }
    value
}

fn of_claim(subject: &SubjectReport, claim: &ClaimResult) -> Value {
    let (kind, level) = match claim.verdict {
        ClaimVerdict::Refuted if subject.claims_count => ("fail", "error"),
        ClaimVerdict::Refuted => ("fail", "note"),
        ClaimVerdict::Untested => ("review", "none"),
        ClaimVerdict::Upheld => ("pass", "none"),
    };
    let mut value = json!({
        "ruleId": claim.id,
        "kind": kind,
        "level": level,
        "message": { "text": format!("{}: {}", claim.verdict, claim.because) },
        "locations": locations(subject, &claim.evidence),
        "partialFingerprints": { "plainsight/v1": claim.id },
    });
    if let Some(accepted) = &claim.accepted {
        let why = format!("{} (until {})", accepted.reason, accepted.expires);
        value["suppressions"] = json!([{ "kind": "external", "status": "accepted", "justification": why }]);
    }
    value
}

/// Records as logical locations. Viewers that want a file get the recording, or the name of the run.
fn locations(subject: &SubjectReport, evidence: &[Evidence]) -> Value {
    let name = subject.subject.name();
    let uri: String = name
        .bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    let location = |logical: Value| {
        json!({
            "physicalLocation": { "artifactLocation": { "uri": uri } },
            "logicalLocations": [logical],
        })
    };
    if evidence.is_empty() {
        return json!([location(json!({ "fullyQualifiedName": name, "kind": "resource" }))]);
    }
    let of_record = |evidence: &Evidence| {
        let path = evidence.path.as_deref().map_or_else(String::new, |path| format!(" {path}"));
        location(json!({
            "name": evidence.flow,
            "fullyQualifiedName": format!("{name} {} {}{path}", evidence.flow, evidence.what),
            "kind": "resource",
        }))
    };
    evidence.iter().map(of_record).collect()
}
