use std::fmt::Write as _;

use crate::{model::ByteSize, report::text::sanitize};

use super::{Dossier, html::duration};

/// The report as Markdown: the same sections, for a pull request or a ticket.
pub fn markdown(dossier: &Dossier) -> String {
    let mut out = String::new();
    let observed = &dossier.observed;
    _ = writeln!(out, "# What left this machine\n\n{}\n", cell(&dossier.subject));
    _ = writeln!(
        out,
        "Observed for {}: {} requests, {} sent, {} receivers.",
        duration(observed.duration_ms),
        observed.requests,
        ByteSize::bytes(observed.request_bytes),
        dossier.destinations.len() + dossier.tunnels.len()
    );
    if let (Some(from), Some(until)) = (&observed.from, &observed.until) {
        _ = writeln!(out, "From {from} until {until}.");
    }
    if dossier.synthetic_answers > 0 {
        _ = writeln!(out, "{} requests were answered here and not sent on.", dossier.synthetic_answers);
    }
    for note in &dossier.notes {
        _ = writeln!(out, "\n> {}", cell(note));
    }
    if !dossier.verdicts.is_empty() {
        _ = writeln!(out, "\n## What was promised, and what left\n");
        let lines = dossier.verdicts.iter().map(|line| {
            let promise = format!("{} (`{}`, {})", line.promise, line.id, line.source);
            [line.verdict.clone(), promise, line.why.clone(), line.evidence.join(", ")]
        });
        table(&mut out, ["Verdict", "Promise", "Why", "Evidence"], lines);
    }
    _ = writeln!(out, "\n## Who received what\n");
    let lines = dossier.destinations.iter().map(|line| {
        let categories: Vec<String> =
            line.categories.iter().map(|(name, cell)| format!("{name} ×{}", cell.findings)).collect();
        let done: Vec<String> = line.done.iter().map(|(done, count)| format!("{count} {done}")).collect();
        [
            line.destination.clone(),
            line.requests.to_string(),
            ByteSize::bytes(line.request_bytes).to_string(),
            done.join(", "),
            categories.join(", "),
        ]
    });
    table(&mut out, ["Receiver", "Requests", "Bytes", "Done", "Found"], lines);
    if !dossier.findings.is_empty() {
        _ = writeln!(out, "\n## Everything that was found\n\nValues are masked: they were never stored.\n");
        let lines = dossier.findings.iter().map(|line| {
            [
                line.severity.as_str().to_owned(),
                line.rule.clone(),
                line.preview.clone(),
                format!("{} `{}`", line.destination, line.path),
                line.times.to_string(),
                line.flows.join(", "),
            ]
        });
        table(&mut out, ["Severity", "Rule", "Value", "Where", "Times", "Evidence"], lines);
        if dossier.findings_left_out > 0 {
            _ = writeln!(out, "\n{} further findings are not listed.", dossier.findings_left_out);
        }
    }
    _ = writeln!(out, "\n## What could not be seen\n");
    if dossier.coverage.is_empty() {
        _ = writeln!(out, "Everything that passed was read.");
    }
    let lines = dossier.coverage.iter().map(|line| {
        let bytes = ByteSize::bytes(line.request_bytes).to_string();
        [line.meaning.to_owned(), line.whom.clone(), line.flows.to_string(), bytes]
    });
    table(&mut out, ["Why", "For whom", "Flows", "Bytes"], lines);
    _ = writeln!(out, "\n## How this was observed\n");
    let lines = dossier.runs.iter().map(|run| {
        let program = run.program.clone().unwrap_or_default();
        let began = run.began.clone().unwrap_or_default();
        [run.run.clone(), began, program, run.policy_hash.clone(), run.rules_hash.clone()]
    });
    table(&mut out, ["Run", "Began", "Program", "Policy (SHA-256)", "Rules (SHA-256)"], lines);
    if let Some(head) = &dossier.chain_head {
        _ = writeln!(out, "\nHead of the record chain: `{head}`.");
    }
    _ = writeln!(
        out,
        "\nMade by {} on {}.",
        dossier.made_by,
        dossier.made.as_deref().unwrap_or("an unknown day")
    );
    out
}

fn table<const N: usize>(out: &mut String, head: [&str; N], lines: impl Iterator<Item = [String; N]>) {
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        return;
    }
    _ = writeln!(out, "| {} |\n|{}", head.join(" | "), "---|".repeat(N));
    for line in lines {
        _ = writeln!(out, "| {} |", line.map(|text| cell(&text)).join(" | "));
    }
}

/// Text that came from the network, as a cell: it ends no row and starts no markup.
fn cell(text: &str) -> String {
    sanitize(text).replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace(['\n', '\r'], " ")
}
