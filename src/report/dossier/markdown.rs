use std::fmt::Write as _;

use crate::{model::ByteSize, report::text::sanitize};

use super::{Dossier, EVIDENCE, html::duration, strays::WENT_AROUND};

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
    if dossier.redacted.requests > 0 {
        let redacted = dossier.redacted;
        _ = writeln!(
            out,
            "{} requests were changed before leaving, at {} places.",
            redacted.requests, redacted.values
        );
    }
    for note in &dossier.notes {
        _ = writeln!(out, "\n> {}", cell(note));
    }
    verdicts(&mut out, dossier);
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
    if !dossier.strays.is_empty() {
        _ = writeln!(out, "\n## Went around us, or was not let out\n");
        let lines = dossier.strays.iter().map(|line| {
            let what = if line.what == WENT_AROUND { "**went around us**" } else { "not let out" };
            let programs: Vec<String> = line.programs.iter().cloned().collect();
            [
                format!("{what}, {}", line.spoken),
                line.whom.clone(),
                programs.join(", "),
                line.times.to_string(),
                line.flows.join(", "),
            ]
        });
        table(&mut out, ["What", "For whom", "Program", "Times", "Evidence"], lines);
        if dossier.strays_left_out > 0 {
            _ = writeln!(out, "\n{} further records are not listed.", dossier.strays_left_out);
        }
    }
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
    for limit in &dossier.limits {
        _ = writeln!(out, "- {}", cell(limit));
    }
    if !dossier.limits.is_empty() {
        out.push('\n');
    }
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
    let clients: Vec<String> = dossier
        .clients
        .iter()
        .map(|(client, count)| format!("{} ({count} requests)", cell(client)))
        .collect();
    if !clients.is_empty() {
        _ = writeln!(out, "\nClients, as they name themselves: {}.", clients.join(", "));
    }
    for run in &dossier.runs {
        for note in &run.notes {
            let time = note.time.as_deref().unwrap_or("at some time");
            _ = writeln!(out, "\n- run {}, {time}: {}", run.run, cell(&note.text));
        }
    }
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

fn verdicts(out: &mut String, dossier: &Dossier) {
    if dossier.checked.is_empty() {
        return;
    }
    _ = writeln!(out, "\n## What was promised, and what left");
    for line in &dossier.checked {
        let (subject, client) = (cell(&line.subject), cell(&line.client));
        _ = writeln!(
            out,
            "\n**{subject}: {client}.** {}; {} answered requests of the conversation.",
            line.watched, line.conversations
        );
        if !line.is_told {
            _ = writeln!(
                out,
                "Nobody knows what the client was told, so no promise of a switch could be judged."
            );
        }
        for (place, switch) in line.switches.iter().enumerate() {
            _ = writeln!(out, "{}- `{}`", if place == 0 { "\n" } else { "" }, cell(switch));
        }
        if !line.unpromised.is_empty() {
            _ = writeln!(
                out,
                "\nTold something without any promise in force: {}.",
                line.unpromised.join(", ")
            );
        }
    }
    out.push('\n');
    let lines = dossier.verdicts.iter().map(|line| {
        let whom = line.destination.as_ref().map_or_else(String::new, |whom| format!("{whom}: "));
        let mut why = line.why.clone();
        for more in line.missing.iter().chain(&line.notes) {
            why = format!("{why}; {more}");
        }
        let mut evidence: Vec<String> =
            line.evidence.iter().take(EVIDENCE).map(|record| record.flow.to_string()).collect();
        let more = line.evidence_total.saturating_sub(EVIDENCE as u64);
        if more > 0 {
            evidence.push(format!("and {more} more"));
        }
        [
            if line.is_bad() { format!("**{}**", line.verdict) } else { line.verdict.clone() },
            format!("{whom}{} (`{}`, {}, {})", line.promise, line.id, line.source, line.subject),
            why,
            evidence.join(", "),
        ]
    });
    table(out, ["Verdict", "Promise", "Why", "Evidence"], lines);
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
