//! What a reviewer keeps: everything that records say about an observation, as one value that is written as HTML,
//! Markdown or JSON. Nothing in it is more than the store holds: values are masked previews and fingerprints.

mod html;
mod markdown;
mod strays;
mod timeline;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    model::{
        Action, DestinationKind, FlowId, FlowKind, FlowRecord, NotInspected, RunId, RunRecord, Severity,
        Watch,
    },
    report::{json, words},
};

pub use html::html;
pub use markdown::markdown;
pub use strays::StrayLine;
pub use timeline::{Bucket, Timeline};
pub use verdicts::{CheckedLine, VerdictLine};

use strays::Strays;

/// The version of the JSON form. Keys are added without a new one.
const SCHEMA: u32 = 1;
/// Lines in the table of findings. A reviewer reads hundreds, not more; the rest is counted.
const FINDING_LINES: usize = 1_000;
/// Evidence that a line names: enough to look at, few enough to read.
const EVIDENCE: usize = 8;
/// Clients that are named.
const CLIENTS: usize = 20;

/// An observation, summed up for a reviewer.
#[derive(Clone, Debug, Serialize)]
pub struct Dossier {
    schema: u32,
    made_by: String,
    made: Option<String>,
    subject: String,
    runs: Vec<RunLine>,
    observed: Observed,
    clients: BTreeMap<String, u64>,
    destinations: Vec<DestinationLine>,
    categories: Vec<String>,
    timeline: Timeline,
    findings: Vec<FindingLine>,
    findings_left_out: u64,
    checked: Vec<CheckedLine>,
    verdicts: Vec<VerdictLine>,
    strays: Vec<StrayLine>,
    strays_left_out: u64,
    limits: Vec<String>,
    coverage: Vec<CoverageLine>,
    tunnels: Vec<TunnelLine>,
    news: Vec<(String, u64)>,
    synthetic_answers: u64,
    redacted: Redacted,
    notes: Vec<String>,
    chain_head: Option<String>,
}

/// What was observed in all.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Observed {
    /// The first flow's start, RFC 3339.
    pub from: Option<String>,
    /// The last flow's end, RFC 3339.
    pub until: Option<String>,
    /// From the one to the other, in milliseconds.
    pub duration_ms: u64,
    /// Requests that were read or counted.
    pub requests: u64,
    /// Tunnels that were passed through unread.
    pub tunnels: u64,
    /// Bytes of request bodies as the client sent them.
    pub request_bytes: u64,
}

/// What was changed before it left.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Redacted {
    /// Requests that did not leave as the client made them.
    pub requests: u64,
    /// Values that were replaced or taken out.
    pub values: u64,
}

/// Something that happened to a run.
#[derive(Clone, Debug, Serialize)]
pub struct NoteLine {
    /// When, RFC 3339.
    pub time: Option<String>,
    /// What.
    pub text: String,
}

/// A run of plainsight.
#[derive(Clone, Debug, Serialize)]
pub struct RunLine {
    /// Its number.
    pub run: String,
    /// When it began, RFC 3339.
    pub began: Option<String>,
    /// Whether it came to its end, rather than being killed.
    pub is_complete: bool,
    /// How it was started.
    pub mode: String,
    /// The program that was run.
    pub program: Option<String>,
    /// The child's exit code.
    pub exit_code: Option<i32>,
    /// SHA-256 of the policy.
    pub policy_hash: String,
    /// SHA-256 of the rules.
    pub rules_hash: String,
    /// Whether what goes around us could be seen; `None` where plainsight started no program.
    pub watch: Option<Watch>,
    /// What happened to it, such as a policy that changed.
    pub notes: Vec<NoteLine>,
}

/// Who received something.
#[derive(Clone, Debug, Serialize)]
pub struct DestinationLine {
    /// Its id in the catalogue.
    pub destination: String,
    /// What it is for.
    pub kind: DestinationKind,
    /// The hosts that were asked.
    pub hosts: BTreeSet<String>,
    /// How many requests.
    pub requests: u64,
    /// Bytes of their bodies.
    pub request_bytes: u64,
    /// The worst finding.
    pub worst: Option<Severity>,
    /// What became of the requests, in a word each.
    pub done: BTreeMap<&'static str, u64>,
    /// What was found, by category.
    pub categories: BTreeMap<String, Cell>,
}

/// What one destination was told of one category.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cell {
    /// How often.
    pub findings: u64,
    /// The worst severity.
    pub worst: Option<Severity>,
}

/// A value at a place, however often it was sent there.
#[derive(Clone, Debug, Serialize)]
pub struct FindingLine {
    /// How bad it is.
    pub severity: Severity,
    /// The rule's category.
    pub category: String,
    /// The rule.
    pub rule: String,
    /// To whom.
    pub destination: String,
    /// The field, with `*` for places in lists.
    pub path: String,
    /// The value, masked.
    pub preview: String,
    /// Its length in bytes.
    pub length: u32,
    /// How often.
    pub times: u64,
    /// The first flows that hold it.
    pub flows: Vec<String>,
}

/// Something that could not be seen, and why.
#[derive(Clone, Debug, Serialize)]
pub struct CoverageLine {
    /// Why, as a word.
    pub reason: NotInspected,
    /// Why, for people.
    pub meaning: &'static str,
    /// For whom it was.
    pub whom: String,
    /// How many flows.
    pub flows: u64,
    /// Bytes from the client.
    pub request_bytes: u64,
}

/// A host to which bytes went unread.
#[derive(Clone, Debug, Serialize)]
pub struct TunnelLine {
    /// The host.
    pub host: String,
    /// How many tunnels.
    pub tunnels: u64,
    /// Bytes from the client.
    pub request_bytes: u64,
    /// Bytes to the client.
    pub response_bytes: u64,
}

/// Gathers records, flow by flow, in any order.
#[derive(Debug, Default)]
pub struct DossierBuilder {
    observed: Observed,
    first_ms: Option<i64>,
    last_ms: i64,
    clients: BTreeMap<String, u64>,
    destinations: BTreeMap<String, DestinationLine>,
    timeline: Timeline,
    findings: BTreeMap<FindingKey, FindingLine>,
    findings_left_out: u64,
    coverage: BTreeMap<(NotInspected, String), CoverageLine>,
    tunnels: BTreeMap<String, TunnelLine>,
    news: BTreeMap<String, u64>,
    synthetic_answers: u64,
    redacted: Redacted,
    open: u64,
    strays: Strays,
    is_recording: bool,
}

/// Destination, rule, path, preview: what makes two findings one line.
type FindingKey = (String, String, String, String);

impl DossierBuilder {
    /// For the entries of a recording, which are named by their place in it, from `#0`.
    pub fn of_recording() -> Self {
        Self { is_recording: true, ..Self::default() }
    }

    /// Adds one flow.
    pub fn add(&mut self, flow: &FlowRecord) {
        let opening = &flow.opening;
        let bytes = words::request_bytes(flow);
        let duration = flow.closing.as_ref().map_or(0, |closing| closing.duration_ms);
        self.first_ms = Some(self.first_ms.map_or(opening.time_ms, |first| first.min(opening.time_ms)));
        self.last_ms = self.last_ms.max(opening.time_ms.saturating_add_unsigned(duration));
        match opening.kind {
            FlowKind::Request => self.add_request(flow, bytes),
            FlowKind::Tunnel => self.add_tunnel(flow, bytes),
            FlowKind::Attempt | FlowKind::Bypass => return self.strays.add(flow),
        }
        self.observed.request_bytes += bytes;
        self.open += u64::from(flow.closing.is_none() && !self.is_recording);
        if let Some(reason) = words::not_inspected(flow) {
            let whom = match opening.kind {
                FlowKind::Request => opening.destination.as_str(),
                _ => words::host(flow),
            };
            let line = self.coverage.entry((reason, whom.to_owned())).or_insert_with(|| CoverageLine {
                reason,
                meaning: words::reason(reason),
                whom: whom.to_owned(),
                flows: 0,
                request_bytes: 0,
            });
            line.flows += 1;
            line.request_bytes += bytes;
        }
        for news in &opening.news {
            *self.news.entry(news.to_string()).or_default() += 1;
        }
    }

    fn add_tunnel(&mut self, flow: &FlowRecord, bytes: u64) {
        self.observed.tunnels += 1;
        let host = words::host(flow);
        let line = self.tunnels.entry(host.to_owned()).or_insert_with(|| TunnelLine {
            host: host.to_owned(),
            tunnels: 0,
            request_bytes: 0,
            response_bytes: 0,
        });
        line.tunnels += 1;
        line.request_bytes += bytes;
        line.response_bytes += flow.closing.as_ref().map_or(0, |closing| closing.response_bytes);
    }

    fn add_request(&mut self, flow: &FlowRecord, bytes: u64) {
        let opening = &flow.opening;
        self.observed.requests += 1;
        let is_answered_here = opening.answered.is_some() || opening.action == Action::Block;
        self.synthetic_answers += u64::from(is_answered_here);
        if let Some(rewriting) = &opening.rewriting {
            self.redacted.requests += 1;
            self.redacted.values += rewriting.edits.len() as u64 + u64::from(rewriting.edits_left_out);
        }
        let id = reference(opening.id, self.is_recording);
        if let Some(client) = opening.user_agent.as_deref()
            && (self.clients.len() < CLIENTS || self.clients.contains_key(client))
        {
            *self.clients.entry(client.to_owned()).or_default() += 1;
        }
        self.timeline.add(opening.time_ms, opening.destination.as_str(), bytes);
        let line = self.destinations.entry(opening.destination.as_str().to_owned()).or_insert_with(|| {
            DestinationLine {
                destination: opening.destination.as_str().to_owned(),
                kind: opening.destination_kind,
                hosts: BTreeSet::new(),
                requests: 0,
                request_bytes: 0,
                worst: None,
                done: BTreeMap::new(),
                categories: BTreeMap::new(),
            }
        });
        line.hosts.insert(words::host(flow).to_owned());
        line.requests += 1;
        line.request_bytes += bytes;
        line.worst = line.worst.max(words::worst(flow));
        *line.done.entry(words::fate(flow)).or_default() += 1;
        for finding in &opening.findings {
            let cell = line.categories.entry(finding.category.to_string()).or_default();
            cell.findings += 1;
            cell.worst = cell.worst.max(Some(finding.severity));
            let path = any_place(finding.path.as_str());
            let key = (
                line.destination.clone(),
                finding.rule.as_str().to_owned(),
                path.clone(),
                finding.preview.to_string(),
            );
            if self.findings.len() >= FINDING_LINES && !self.findings.contains_key(&key) {
                self.findings_left_out += 1;
                continue;
            }
            let entry = self.findings.entry(key).or_insert_with(|| FindingLine {
                severity: finding.severity,
                category: finding.category.to_string(),
                rule: finding.rule.as_str().to_owned(),
                destination: line.destination.clone(),
                path,
                preview: finding.preview.to_string(),
                length: finding.length,
                times: 0,
                flows: Vec::new(),
            });
            entry.times += 1;
            entry.severity = entry.severity.max(finding.severity);
            if entry.flows.len() < EVIDENCE && entry.flows.last() != Some(&id) {
                entry.flows.push(id.clone());
            }
        }
    }

    /// Puts it together. `made_ms` is now, in milliseconds since 1970 (UTC); `subject` names what was observed.
    pub fn finish(self, subject: &str, made_ms: i64, runs: &[RunRecord]) -> Dossier {
        let mut destinations: Vec<_> = self.destinations.into_values().collect();
        destinations.sort_by_key(|line| {
            let conversation = line.kind == DestinationKind::Conversation;
            (conversation, std::cmp::Reverse((line.worst, line.requests)))
        });
        let categories: BTreeSet<String> =
            destinations.iter().flat_map(|line| line.categories.keys().cloned()).collect();
        let mut findings: Vec<_> = self.findings.into_values().collect();
        findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| b.times.cmp(&a.times)));
        let mut tunnels: Vec<_> = self.tunnels.into_values().collect();
        tunnels.sort_by_key(|line| std::cmp::Reverse(line.request_bytes + line.response_bytes));
        let first = self.first_ms.unwrap_or(self.last_ms);
        let (strays, strays_left_out) = self.strays.finish();
        Dossier {
            schema: SCHEMA,
            made_by: format!("plainsight {}", env!("CARGO_PKG_VERSION")),
            made: json::time(made_ms),
            subject: subject.to_owned(),
            runs: runs.iter().map(RunLine::new).collect(),
            observed: Observed {
                from: self.first_ms.and_then(json::time),
                until: self.first_ms.and_then(|_| json::time(self.last_ms)),
                duration_ms: u64::try_from(self.last_ms.saturating_sub(first)).unwrap_or(0),
                ..self.observed
            },
            clients: self.clients,
            destinations,
            categories: categories.into_iter().collect(),
            timeline: self.timeline,
            findings,
            findings_left_out: self.findings_left_out,
            checked: Vec::new(),
            verdicts: Vec::new(),
            strays,
            strays_left_out,
            limits: limits(runs, self.synthetic_answers, self.redacted, self.open, self.is_recording),
            coverage: self.coverage.into_values().collect(),
            tunnels,
            news: self.news.into_iter().collect(),
            synthetic_answers: self.synthetic_answers,
            redacted: self.redacted,
            notes: Vec::new(),
            chain_head: None,
        }
    }
}

impl Dossier {
    /// Adds what happened to a run, in order of time.
    #[must_use]
    pub fn with_run_note(mut self, run: RunId, time_ms: i64, text: &str) -> Self {
        let run = run.to_string();
        if let Some(line) = self.runs.iter_mut().find(|line| line.run == run) {
            line.notes.push(NoteLine { time: json::time(time_ms), text: text.to_owned() });
        }
        self
    }

    /// Adds what a reviewer has to know about how it was observed, a sentence each.
    #[must_use]
    pub fn with_notes(self, notes: Vec<String>) -> Self {
        Self { notes, ..self }
    }

    /// Adds the hash of the last record: whoever holds this report can tell whether the log was changed afterwards.
    #[must_use]
    pub fn with_chain_head(self, chain_head: Option<String>) -> Self {
        Self { chain_head, ..self }
    }

    /// The JSON form: every field of this value by its own name.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("maps have text keys")
    }
}

impl RunLine {
    fn new(run: &RunRecord) -> Self {
        Self {
            run: run.id.to_string(),
            began: json::time(run.opening.time_ms),
            is_complete: run.closing.is_some(),
            mode: run.opening.mode.to_string(),
            program: run.opening.program.as_deref().map(str::to_owned),
            exit_code: run.closing.as_ref().and_then(|closing| closing.exit_code),
            policy_hash: run.opening.policy_hash.to_string(),
            rules_hash: run.opening.rules_hash.to_string(),
            watch: run.opening.watch,
            notes: Vec::new(),
        }
    }
}

/// A record's id, or its place in the recording.
fn reference(id: FlowId, is_recording: bool) -> String {
    if is_recording { format!("#{}", id.number().saturating_sub(1)) } else { id.to_string() }
}

/// What the observation cannot show, however much it saw: a sentence each.
fn limits(
    runs: &[RunRecord],
    synthetic_answers: u64,
    redacted: Redacted,
    open: u64,
    is_recording: bool,
) -> Vec<String> {
    let mut limits = Vec::new();
    if is_recording {
        limits.push("This is a recording. What its maker did not record is not in it.".to_owned());
    }
    let mut watches: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for run in runs {
        watches.entry(watched(run)).or_default().push(run.id.to_string());
    }
    for (sentence, of) in watches {
        let more = of.len().saturating_sub(EVIDENCE);
        limits.push(match (runs.len(), more) {
            (1, _) => sentence.to_owned(),
            (_, 0) => format!("{sentence} (Runs: {}.)", of.join(", ")),
            _ => format!("{sentence} (Runs: {} and {more} more.)", of[..EVIDENCE].join(", ")),
        });
    }
    if synthetic_answers > 0 {
        limits.push(format!(
            "{} answered here, in the receiver's place. What the receiver would have answered, and what the \
             client would have sent then, is not known.",
            are(synthetic_answers, "request")
        ));
    }
    if redacted.requests > 0 {
        limits.push(format!(
            "{} changed before leaving, at {} places. Findings are of what the client made, not of what left.",
            are(redacted.requests, "request"),
            redacted.values
        ));
    }
    if open > 0 {
        limits.push(format!(
            "{} without an end in the log: still going on, or plainsight was killed.",
            match open {
                1 => "1 flow is".to_owned(),
                _ => format!("{open} flows are"),
            }
        ));
    }
    limits
}

fn are(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what} was") } else { format!("{count} {what}s were") }
}

/// What is known of connections past us.
fn watched(run: &RunRecord) -> &'static str {
    match (run.opening.watch, &*run.opening.mode) {
        (Some(Watch::Confined), _) => {
            "The program was confined: it had no way to the network but through plainsight."
        }
        (Some(Watch::Watched), _) => {
            "The program's connections were looked through several times a second. One that went around \
             plainsight and lived for less may have been missed."
        }
        (Some(Watch::Unwatched), _) => {
            "Nobody looked for connections that go around plainsight: that none is listed means nothing."
        }
        (None, "proxy") => {
            "A proxy sees what is sent through it. What a program sent another way is not in this report."
        }
        (None, _) => "Whether anything went around plainsight is not known.",
    }
}

/// A path with `*` for every place in a list: the third event's e-mail is the first one's.
fn any_place(path: &str) -> String {
    let is_place = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (prefix, rest) = path.split_once(':').unwrap_or(("", path));
    let rest: Vec<&str> = rest.split('/').map(|part| if is_place(part) { "*" } else { part }).collect();
    if prefix.is_empty() { rest.join("/") } else { format!("{prefix}:{}", rest.join("/")) }
}

#[cfg(test)]
mod tests;
