use std::collections::BTreeSet;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{
    compliance::Evidence,
    model::{ByteSize, DestinationKind, Severity},
    report::text::{self, sanitize},
};

use super::{CheckedLine, DestinationLine, Dossier, EVIDENCE, VerdictLine, any_place, strays::WENT_AROUND};

/// Everything the page looks like. In the page itself, which therefore needs nothing from anywhere.
const STYLE: &str = include_str!("page.css");
/// Destinations that have a colour of their own in the timeline; the others share one.
const COLOURS: usize = 7;

/// One file that needs no other: the report as a reviewer keeps it.
pub fn html(dossier: &Dossier) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                link rel="icon" href="data:,";
                title { "plainsight report: " (clean(&dossier.subject)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "What left this machine" }
                    p.subject { (clean(&dossier.subject)) }
                    (facts(dossier))
                }
                main {
                    (verdicts(dossier))
                    (receivers(dossier))
                    (timeline(dossier))
                    (strays(dossier))
                    (findings(dossier))
                    (coverage(dossier))
                    (provenance(dossier))
                }
                footer {
                    p { "Made by " (dossier.made_by) @if let Some(made) = &dossier.made { " on " (made) } "." }
                }
            }
        }
    };
    page.into_string()
}

/// Text that came from the network: control characters would survive the escaping of HTML.
fn clean(text: &str) -> String {
    sanitize(text).into_owned()
}

fn facts(dossier: &Dossier) -> Markup {
    let observed = &dossier.observed;
    let failed = dossier.verdicts.iter().filter(|line| line.is_bad()).count();
    html! {
        dl.facts {
            div { dt { "Observed" } dd { (duration(observed.duration_ms)) } }
            div { dt { "Requests" } dd { (observed.requests) } }
            div { dt { "Sent" } dd { (ByteSize::bytes(observed.request_bytes)) } }
            div { dt { "Receivers" } dd { (dossier.destinations.len() + dossier.tunnels.len()) } }
            @if !dossier.verdicts.is_empty() {
                div.alarm[failed > 0] { dt { "Promises broken" } dd { (failed) } }
            }
            @if dossier.synthetic_answers > 0 {
                div { dt { "Answered here" } dd { (dossier.synthetic_answers) } }
            }
            @if dossier.redacted.requests > 0 {
                div { dt { "Changed before leaving" } dd { (dossier.redacted.requests) } }
            }
            @if dossier.strays.iter().any(|line| line.what == WENT_AROUND) {
                div.alarm { dt { "Went around us" } dd { (count_around(dossier)) } }
            }
        }
        @if let (Some(from), Some(until)) = (&observed.from, &observed.until) {
            p.muted { "From " time { (from) } " until " time { (until) } "." }
        }
        @for note in &dossier.notes { p.note { (clean(note)) } }
    }
}

fn count_around(dossier: &Dossier) -> u64 {
    dossier.strays.iter().filter(|line| line.what == WENT_AROUND).map(|line| line.times).sum()
}

fn verdicts(dossier: &Dossier) -> Markup {
    if dossier.checked.is_empty() {
        return html! {};
    }
    let names_subject = dossier.checked.len() > 1;
    html! {
        section aria-labelledby="verdicts" {
            h2 #verdicts { "What was promised, and what left" }
            @for line in &dossier.checked { (checked(line)) }
            @for (kind, title) in [("assertion", "Asked for"), ("control", "Switches"), ("claim", "Published claims")] {
                @let lines: Vec<_> = dossier.verdicts.iter().filter(|line| line.kind == kind).collect();
                @if !lines.is_empty() {
                    h3 { (title) }
                    table.cards {
                        thead { tr { th scope="col" { "Verdict" } th scope="col" { "Promise" } th.why scope="col" { "Why" } th.evidence scope="col" { "Evidence" } } }
                        tbody { @for line in lines { (verdict(line, names_subject)) } }
                    }
                }
            }
        }
    }
}

fn checked(line: &CheckedLine) -> Markup {
    html! {
        p { strong { (clean(&line.subject)) ": " (clean(&line.client)) } ". " (line.watched) "; " (line.conversations) " answered requests of the conversation." }
        @if !line.switches.is_empty() {
            ul { @for switch in &line.switches { li { code { (clean(switch)) } } } }
        } @else if line.is_told {
            p { "No switch was set." }
        } @else {
            p.note { "Nobody knows what the client was told, so no promise of a switch could be judged; " code { "--assume" } " says it." }
        }
        @if !line.unpromised.is_empty() {
            p { "Told something without any promise in force: " (clean(&line.unpromised.join(", "))) "." }
        }
    }
}

fn verdict(line: &VerdictLine, names_subject: bool) -> Markup {
    html! {
        tr.muted[!line.counts] {
            td data-label="Verdict" {
                span class={ "verdict " (line.verdict) } { (line.verdict) }
                @if !line.counts { br; small { "does not count" } }
            }
            td data-label="Promise" {
                @if let Some(destination) = &line.destination { strong { (clean(destination)) } ": " }
                (clean(&line.promise)) br;
                small { code { (clean(&line.id)) } " · " (clean(&line.source)) @if names_subject { " · " (clean(&line.subject)) } }
            }
            td data-label="Why" {
                (clean(&line.why))
                @for more in line.missing.iter().chain(&line.notes) { br; small { (clean(more)) } }
            }
            td data-label="Evidence" { (evidence(line)) }
        }
    }
}

fn evidence(line: &VerdictLine) -> Markup {
    if line.evidence.is_empty() {
        return html! { span.muted { "none" } };
    }
    // The same value in the third event of a batch shows nothing new.
    let mut seen = BTreeSet::new();
    let is_new = |record: &&Evidence| {
        let path = record.path.as_deref().map(any_place);
        seen.insert((record.flow.clone(), record.what.clone(), path, record.preview.clone()))
    };
    let shown: Vec<&Evidence> = line.evidence.iter().filter(is_new).take(EVIDENCE).collect();
    let more = line.evidence_total.saturating_sub(shown.len() as u64);
    html! {
        ul.evidence { @for record in shown { li { (record_of(record)) } } }
        @if more > 0 { small { "and " (more) " more" } }
    }
}

fn record_of(record: &Evidence) -> Markup {
    html! {
        code { (clean(&record.flow)) } " " small { (clean(&record.what)) }
        @if let Some(path) = &record.path { br; small { code { (clean(&any_place(path))) } } }
        @if let Some(preview) = &record.preview { " " code { (clean(preview)) } }
    }
}

fn strays(dossier: &Dossier) -> Markup {
    if dossier.strays.is_empty() {
        return html! {};
    }
    html! {
        section aria-labelledby="strays" {
            h2 #strays { "Went around us, or was not let out" }
            table.cards {
                thead {
                    tr {
                        th scope="col" { "What" } th scope="col" { "For whom" } th scope="col" { "Program" }
                        th.number scope="col" { "Times" } th scope="col" { "Evidence" }
                    }
                }
                tbody {
                    @for line in &dossier.strays {
                        tr {
                            td data-label="What" {
                                @if line.what == WENT_AROUND { span.verdict.fail { "went around us" } } @else { span.verdict { "not let out" } }
                                br; small { (clean(&line.spoken)) }
                            }
                            td data-label="For whom" { (clean(&line.whom)) }
                            td data-label="Program" { (clean(&line.programs.iter().cloned().collect::<Vec<_>>().join(", "))) }
                            td.number data-label="Times" { (line.times) }
                            td data-label="Evidence" { (flows(&line.flows)) }
                        }
                    }
                }
            }
            @if dossier.strays_left_out > 0 {
                p.note { (dossier.strays_left_out) " further records are not listed; `plainsight log` has them." }
            }
        }
    }
}

fn flows(ids: &[String]) -> Markup {
    if ids.is_empty() {
        return html! { span.muted { "none" } };
    }
    html! { @for (place, id) in ids.iter().enumerate() { @if place > 0 { ", " } code { (clean(id)) } } }
}

fn receivers(dossier: &Dossier) -> Markup {
    html! {
        section aria-labelledby="receivers" {
            h2 #receivers { "Who received what" }
            @if dossier.destinations.is_empty() {
                p { "Nothing was received by anyone." }
            } @else {
                table.matrix {
                    thead {
                        tr {
                            th scope="col" { "Receiver" }
                            th.number scope="col" { "Requests" }
                            th.number scope="col" { "Bytes" }
                            @for category in &dossier.categories { th.category scope="col" { span { (category) } } }
                        }
                    }
                    tbody { @for line in &dossier.destinations { (receiver(line, &dossier.categories)) } }
                }
                p.legend {
                    "Numbers are findings. Shade is severity: "
                    @for severity in Severity::ALL { span class={ "cell " (severity.as_str()) } { (severity.as_str()) } " " }
                }
            }
        }
    }
}

fn receiver(line: &DestinationLine, categories: &[String]) -> Markup {
    let hosts: Vec<String> = line.hosts.iter().map(|host| clean(host)).collect();
    html! {
        tr {
            th scope="row" {
                (line.destination)
                small {
                    (hosts.join(", ")) br;
                    @for (place, (done, count)) in line.done.iter().enumerate() { @if place > 0 { ", " } (count) " " (done) }
                    @if line.kind == DestinationKind::Conversation { ", content not looked at" }
                }
            }
            td.number data-label="Requests" { (line.requests) }
            td.number data-label="Bytes" { (ByteSize::bytes(line.request_bytes)) }
            @for category in categories {
                @match line.categories.get(category) {
                    Some(cell) => td data-label=(category) class={ "cell " (cell.worst.map_or("", Severity::as_str)) } { (cell.findings) },
                    None => td.empty data-label=(category) { span.hidden { "none" } },
                }
            }
        }
    }
}

/// Size of the picture, in its own units.
const WIDTH: i64 = 720;
const HEIGHT: i64 = 90;

fn timeline(dossier: &Dossier) -> Markup {
    let columns = dossier.timeline.columns();
    if columns == 0 {
        return html! {};
    }
    let names: Vec<&str> = dossier.destinations.iter().map(|line| line.destination.as_str()).collect();
    html! {
        section aria-labelledby="timeline" {
            h2 #timeline { "When" }
            (bars(dossier, &names, columns, "requests", |bucket| bucket.requests))
            (bars(dossier, &names, columns, "bytes", |bucket| bucket.request_bytes))
            p.legend {
                "A column is " (duration(dossier.timeline.step_ms.unsigned_abs())) ". "
                @for (place, name) in names.iter().enumerate().take(COLOURS) { span class={ "key c" (place) } { (name) } " " }
                @if names.len() > COLOURS { span.key.c7 { "others" } }
            }
        }
    }
}

/// A bar of the picture: its colour, and its box.
struct Bar {
    colour: usize,
    x: i64,
    y: f64,
    height: f64,
}

fn bars(
    dossier: &Dossier,
    names: &[&str],
    columns: i64,
    what: &str,
    size: impl Fn(&super::Bucket) -> u64,
) -> Markup {
    let highest = dossier.timeline.iter().map(|(.., column)| column.values().map(&size).sum::<u64>()).max();
    let highest = highest.unwrap_or(0).max(1);
    let shown = if what == "bytes" { ByteSize::bytes(highest).to_string() } else { highest.to_string() };
    let width = (WIDTH / columns.max(1)).clamp(4, 40) - 1;
    let mut bars = Vec::new();
    for (place, _, column) in dossier.timeline.iter() {
        let mut y = HEIGHT as f64;
        for (colour, name) in names.iter().enumerate() {
            let Some(bucket) = column.get(*name) else { continue };
            let height = size(bucket) as f64 / highest as f64 * (HEIGHT - 4) as f64;
            y -= height;
            bars.push(Bar {
                colour: colour.min(COLOURS),
                x: place.saturating_mul(WIDTH) / columns.max(1),
                y,
                height,
            });
        }
    }
    html! {
        figure {
            figcaption { (what) ", at most " (shown) " in a column" }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" preserveAspectRatio="none"
                aria-label={ "Bar chart of " (what) " over time; the table above has the sums" } {
                line x1="0" x2=(WIDTH) y1=(HEIGHT) y2=(HEIGHT) class="axis" {}
                @for bar in bars {
                    rect class={ "c" (bar.colour) } x=(bar.x) y={ (format!("{:.1}", bar.y)) }
                        width=(width) height={ (format!("{:.1}", bar.height)) } {}
                }
            }
        }
    }
}

fn findings(dossier: &Dossier) -> Markup {
    html! {
        section aria-labelledby="findings" {
            h2 #findings { "Everything that was found" }
            @if dossier.findings.is_empty() {
                p { "The rules found nothing in what could be read." }
            } @else {
                p { "Values are masked: they were never stored. A path with " code { "*" } " stands for every place in a list." }
                table.cards {
                    thead {
                        tr {
                            th scope="col" { "Severity" } th.what scope="col" { "What" } th.value scope="col" { "Value" }
                            th scope="col" { "Where" } th.number.times scope="col" { "Times" } th.flows scope="col" { "Evidence" }
                        }
                    }
                    tbody {
                        @for line in &dossier.findings {
                            tr {
                                td data-label="Severity" { span class={ "cell " (line.severity.as_str()) } { (line.severity.as_str()) } }
                                td data-label="What" { (clean(&line.rule)) br; small { (clean(&line.category)) } }
                                td data-label="Value" { code { (clean(&line.preview)) } br; small { (line.length) " bytes" } }
                                td data-label="Where" { (line.destination) br; small { code { (clean(&line.path)) } } }
                                td.number data-label="Times" { (line.times) }
                                td data-label="Evidence" { (flows(&line.flows)) }
                            }
                        }
                    }
                }
                @if dossier.findings_left_out > 0 {
                    p.note { (dossier.findings_left_out) " further findings are counted above and not listed; `plainsight log` has them." }
                }
            }
        }
    }
}

fn coverage(dossier: &Dossier) -> Markup {
    html! {
        section aria-labelledby="coverage" {
            h2 #coverage { "What could not be seen" }
            @if !dossier.limits.is_empty() {
                ul { @for limit in &dossier.limits { li { (clean(limit)) } } }
            }
            @if dossier.coverage.is_empty() {
                p { "Everything that passed was read." }
            } @else {
                table.cards {
                    thead { tr { th.wide scope="col" { "Why" } th scope="col" { "For whom" } th.number scope="col" { "Flows" } th.number scope="col" { "Bytes" } } }
                    tbody {
                        @for line in &dossier.coverage {
                            tr {
                                td data-label="Why" { (line.meaning) br; small { code { (line.reason.as_str()) } } }
                                td data-label="For whom" { (clean(&line.whom)) }
                                td.number data-label="Flows" { (line.flows) }
                                td.number data-label="Bytes" { (ByteSize::bytes(line.request_bytes)) }
                            }
                        }
                    }
                }
            }
            @if !dossier.news.is_empty() {
                h3 { "Not known before" }
                ul.news { @for (news, count) in &dossier.news { li { code { (clean(news)) } " " small { "×" (count) } } } }
            }
        }
    }
}

fn provenance(dossier: &Dossier) -> Markup {
    html! {
        section aria-labelledby="provenance" {
            h2 #provenance { "How this was observed" }
            @if !dossier.clients.is_empty() {
                h3 { "Clients, as they name themselves" }
                ul { @for (client, count) in &dossier.clients { li { code { (clean(client)) } " " small { (text::count(*count, "request")) } } } }
            }
            @if !dossier.runs.is_empty() {
                h3 { "Runs" }
                table.cards {
                    thead { tr { th scope="col" { "Run" } th scope="col" { "Began" } th scope="col" { "Program" } th.evidence scope="col" { "Policy and rules (SHA-256)" } } }
                    tbody {
                        @for run in &dossier.runs {
                            tr {
                                td data-label="Run" { (run.run) " " small { (run.mode) } }
                                td data-label="Began" { (run.began.as_deref().unwrap_or("unknown")) @if !run.is_complete { br; small { "did not come to its end" } } }
                                td data-label="Program" { (clean(run.program.as_deref().unwrap_or("none"))) @if let Some(code) = run.exit_code { br; small { "exit code " (code) } } }
                                td data-label="Policy and rules" { code.hash { (run.policy_hash) } br; code.hash { (run.rules_hash) } }
                            }
                        }
                    }
                }
            }
            @if dossier.runs.iter().any(|run| !run.notes.is_empty()) {
                h3 { "What happened to the runs" }
                ul {
                    @for run in &dossier.runs {
                        @for note in &run.notes {
                            li { "run " (run.run) @if let Some(time) = &note.time { ", " time { (time) } } ": " (clean(&note.text)) }
                        }
                    }
                }
            }
            @if let Some(head) = &dossier.chain_head {
                p { "Head of the record chain: " code.hash { (head) } ". " code { "plainsight log verify --head …" } " tells whether the log was changed since." }
            }
        }
    }
}

/// A duration as people say it.
pub(super) fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}
