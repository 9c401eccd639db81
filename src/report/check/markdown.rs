use std::fmt::Write as _;

use crate::{
    compliance::{CheckReport, ClaimVerdict, ControlResult, Evidence, SubjectReport, Verdict},
    report::check::{client, sorted, sum, switches, watched, word},
};

/// The verdicts for a pull request or a wiki.
pub fn markdown(report: &CheckReport) -> String {
    let mut out = format!("# Telemetry check\n\n**{}**\n", sum(report));
    for subject in &report.subjects {
        push_subject(&mut out, subject);
    }
    for note in &report.baseline_notes {
        _ = writeln!(out, "\nBaseline: {}", escape(note));
    }
    out
}

fn push_subject(out: &mut String, subject: &SubjectReport) {
    _ = writeln!(out, "\n## {}: {}\n", escape(&subject.subject.name()), escape(&client(subject)));
    _ = writeln!(out, "{}.\n", watched(subject));
    for switch in switches(subject) {
        _ = writeln!(out, "- {}", escape(&switch));
    }
    if subject.told.is_none() {
        out.push_str("- Nobody knows what the client was told.\n");
    }
    if !subject.results.is_empty() {
        out.push_str("\n| verdict | control | destination | why | records |\n|---|---|---|---|---|\n");
    }
    for result in sorted(subject) {
        let destination = result.destination.as_ref().map_or("", |id| id.as_str());
        _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            if result.verdict == Verdict::Fail && result.accepted.is_none() {
                "**fail**"
            } else {
                word(result)
            },
            escape(&result.control),
            escape(destination),
            escape(&why(result)),
            records(&result.evidence, result.evidence_total)
        );
    }
    if !subject.claims.is_empty() {
        out.push_str("\n| claim | verdict | why | records |\n|---|---|---|---|\n");
    }
    for claim in &subject.claims {
        let verdict =
            if claim.verdict == ClaimVerdict::Refuted { "**refuted**" } else { claim.verdict.as_str() };
        let records = records(&claim.evidence, claim.evidence_total);
        _ = writeln!(
            out,
            "| {} | {verdict} | {} | {records} |",
            escape(&claim.statement),
            escape(&claim.because)
        );
    }
    if !subject.unpromised.is_empty() {
        out.push_str("\nSent, and no promise in force speaks of it: ");
        let told = subject
            .unpromised
            .iter()
            .map(|told| format!("{} ({})", escape(told.destination.as_str()), told.requests));
        out.push_str(&told.collect::<Vec<_>>().join(", "));
        out.push_str(".\n");
    }
    for host in &subject.coverage.unread {
        _ = writeln!(out, "\nNot read: {} ({}, {} flows).", escape(&host.authority), host.reason, host.flows);
    }
}

fn why(result: &ControlResult) -> String {
    let mut why = result.because.to_string();
    for missing in result.missing.iter().skip(1) {
        why.push_str("; ");
        why.push_str(&missing.detail);
    }
    for note in &result.notes {
        why.push_str("; ");
        why.push_str(note);
    }
    if let Some(accepted) = &result.accepted {
        why.push_str(&format!("; accepted until {}: {}", accepted.expires, accepted.reason));
    }
    why
}

fn records(evidence: &[Evidence], total: u64) -> String {
    let mut flows: Vec<String> = evidence.iter().map(|evidence| escape(&evidence.flow)).collect();
    flows.dedup();
    let more = if total > evidence.len() as u64 { ", …" } else { "" };
    format!("{}{more}", flows.join(", "))
}

/// Takes away what Markdown and HTML would read as markup, and what would end a cell.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in crate::report::sanitize(text).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '!' => {
                out.push('\\');
                out.push(character);
            }
            _ => out.push(character),
        }
    }
    out
}
