use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json};

use crate::{
    model::{
        Action, Answer, DestinationId, DestinationKind, Fingerprint, FlowId, FlowKind, FlowRecord,
        NotInspected, RuleId, RunId, Severity,
    },
    report::words,
};

/// What many flows say together: who was told what, what was personal, and what stayed unseen.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    runs: BTreeSet<RunId>,
    flows: u64,
    first_ms: Option<i64>,
    last_ms: i64,
    told: BTreeMap<DestinationId, Told>,
    tunneled: BTreeMap<Box<str>, Tunneled>,
    unread: BTreeMap<(NotInspected, Box<str>), Unread>,
    found: BTreeMap<RuleId, Found>,
    news: BTreeMap<(Box<str>, Box<str>), u64>,
    answered: BTreeMap<Answer, u64>,
    lost: u64,
    head: Option<Box<str>>,
    is_unstored: bool,
    new_since_ms: Option<i64>,
    example: Option<((Severity, usize), FlowId)>,
}

/// What one destination was sent.
#[derive(Clone, Debug)]
pub struct Told {
    /// What the destination is for.
    pub kind: DestinationKind,
    /// How many requests.
    pub requests: u64,
    /// How many of them could not be read, wholly or in part.
    pub unread: u64,
    /// Bytes of their bodies as the client sent them.
    pub request_bytes: u64,
    /// How many findings, and the worst one.
    pub findings: u64,
    /// The worst finding.
    pub worst: Option<Severity>,
    /// What became of the requests, in a word each, with their number.
    pub fates: BTreeMap<&'static str, u64>,
}

/// What went through to one host unread.
#[derive(Clone, Debug, Default)]
pub struct Tunneled {
    /// How many tunnels.
    pub tunnels: u64,
    /// Bytes from the client.
    pub request_bytes: u64,
    /// Bytes to the client.
    pub response_bytes: u64,
}

/// What was decrypted, or should have been, and could not be read.
#[derive(Clone, Debug, Default)]
pub struct Unread {
    /// How many flows.
    pub flows: u64,
    /// Bytes from the client.
    pub request_bytes: u64,
}

/// What one rule found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The rule's category.
    pub category: Arc<str>,
    /// The worst severity it gave.
    pub severity: Severity,
    /// How often it found something.
    pub findings: u64,
    /// The values it found, as fingerprints.
    pub values: BTreeSet<Fingerprint>,
    /// To whom they were sent.
    pub destinations: BTreeSet<DestinationId>,
}

impl Summary {
    /// Sums up flows.
    pub fn from_flows<'a>(flows: impl IntoIterator<Item = &'a FlowRecord>) -> Self {
        let mut summary = Self::default();
        flows.into_iter().for_each(|flow| summary.add(flow));
        summary
    }

    /// Names the run that is summed up, which has to be done if it may have no flows.
    #[must_use]
    pub fn of_run(mut self, run: RunId) -> Self {
        self.runs.insert(run);
        self
    }

    /// Says how many records the store had to drop.
    #[must_use]
    pub const fn with_lost(mut self, lost: u64) -> Self {
        self.lost = lost;
        self
    }

    /// Says what the head of the audit chain was at the run's end.
    #[must_use]
    pub fn sealed(mut self, head: &str) -> Self {
        self.head = Some(head.into());
        self
    }

    /// The head of the audit chain at the run's end, as hex.
    pub fn head(&self) -> Option<&str> {
        self.head.as_deref()
    }

    /// Says since when what is new is new: the beginning of the run before.
    #[must_use]
    pub const fn new_since(mut self, time_ms: Option<i64>) -> Self {
        self.new_since_ms = time_ms;
        self
    }

    /// Since when what is new is new; `None` when there was no run before.
    pub const fn new_since_ms(&self) -> Option<i64> {
        self.new_since_ms
    }

    /// Says that the flows are in no store, so that neither a run nor an id names them.
    #[must_use]
    pub const fn unstored(mut self) -> Self {
        self.is_unstored = true;
        self
    }

    /// Whether the flows are in no store.
    pub const fn is_unstored(&self) -> bool {
        self.is_unstored
    }

    /// Adds one flow.
    pub fn add(&mut self, flow: &FlowRecord) {
        let opening = &flow.opening;
        let bytes = words::request_bytes(flow);
        self.flows += 1;
        self.runs.insert(opening.id.run());
        self.first_ms = Some(self.first_ms.map_or(opening.time_ms, |first| first.min(opening.time_ms)));
        let duration = flow.closing.as_ref().map_or(0, |closing| closing.duration_ms);
        let end = opening.time_ms.saturating_add_unsigned(duration);
        self.last_ms = self.last_ms.max(end);
        match opening.kind {
            FlowKind::Request => self.add_request(flow, bytes),
            FlowKind::Tunnel => {
                let tunneled = self.tunneled.entry(words::host(flow).into()).or_default();
                tunneled.tunnels += 1;
                tunneled.request_bytes += bytes;
                tunneled.response_bytes += flow.closing.as_ref().map_or(0, |closing| closing.response_bytes);
            }
        }
        match words::not_inspected(flow) {
            None | Some(NotInspected::Conversation | NotInspected::NotIntercepted) => {}
            Some(reason) => {
                let whom = match opening.kind {
                    FlowKind::Request => opening.destination.as_str(),
                    FlowKind::Tunnel => words::host(flow),
                };
                let unread = self.unread.entry((reason, whom.into())).or_default();
                unread.flows += 1;
                unread.request_bytes += bytes;
            }
        }
        for news in &opening.news {
            let key = match news.split_once(' ') {
                Some((kind, name)) => (kind.into(), name.into()),
                // As the first version wrote it: the kind alone.
                None => {
                    let path = opening.path.split('?').next().unwrap_or_default();
                    (news.clone(), format!("{} {}{path}", opening.method, words::host(flow)).into())
                }
            };
            if self.news.len() < NEWS_LIMIT || self.news.contains_key(&key) {
                *self.news.entry(key).or_default() += 1;
            }
        }
        if let Some(worst) = words::worst(flow) {
            let rank = (worst, opening.findings.len());
            if self.example.is_none_or(|(best, _)| rank > best) {
                self.example = Some((rank, opening.id));
            }
        }
    }

    /// The runs that were summed up.
    pub fn runs(&self) -> impl ExactSizeIterator<Item = RunId> + '_ {
        self.runs.iter().copied()
    }

    /// How many flows were summed up.
    pub const fn flows(&self) -> u64 {
        self.flows
    }

    /// From the first flow's start to the last one's end, in milliseconds.
    pub fn duration_ms(&self) -> u64 {
        let first = self.first_ms.unwrap_or(self.last_ms);
        u64::try_from(self.last_ms.saturating_sub(first)).unwrap_or(0)
    }

    /// Who was told: the gravest findings first, the conversation last.
    pub fn told(&self) -> Vec<(&DestinationId, &Told)> {
        let mut told: Vec<_> = self.told.iter().collect();
        told.sort_by_key(|(_, told)| {
            let conversation = told.kind == DestinationKind::Conversation;
            (conversation, Reverse((told.worst, told.findings, told.requests)))
        });
        told
    }

    /// To whom tunnels went, the busiest first.
    pub fn tunneled(&self) -> Vec<(&str, &Tunneled)> {
        let mut tunneled: Vec<_> = self.tunneled.iter().map(|(host, tunneled)| (&**host, tunneled)).collect();
        tunneled.sort_by_key(|(_, tunneled)| Reverse(tunneled.request_bytes + tunneled.response_bytes));
        tunneled
    }

    /// What could not be read: the reason, whom it was for, and how much.
    pub fn unread(&self) -> Vec<(NotInspected, &str, &Unread)> {
        let mut unread: Vec<_> =
            self.unread.iter().map(|((reason, whom), unread)| (*reason, &**whom, unread)).collect();
        unread.sort_by_key(|(.., unread)| Reverse(unread.flows));
        unread
    }

    /// What the rules found, the gravest first.
    pub fn found(&self) -> Vec<(&RuleId, &Found)> {
        let mut found: Vec<_> = self.found.iter().collect();
        found.sort_by_key(|(_, found)| Reverse((found.severity, found.findings)));
        found
    }

    /// What neither the catalogue nor an earlier run knows: its kind, its name, in how many flows.
    pub fn news(&self) -> impl ExactSizeIterator<Item = (&str, &str, u64)> {
        self.news.iter().map(|((news, what), count)| (&**news, &**what, *count))
    }

    /// How many requests were answered here in the destination's place, so that nothing of them left.
    pub fn answered(&self, how: Answer) -> u64 {
        self.answered.get(&how).copied().unwrap_or(0)
    }

    /// How many records the store had to drop.
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// The flow that shows most.
    pub fn example(&self) -> Option<FlowId> {
        self.example.map(|(_, id)| id)
    }

    /// The summary as `plainsight run --json FILE` writes it. Keys are added, never renamed.
    pub fn to_json(&self) -> Value {
        let told = self.told().into_iter().map(|(id, told)| {
            json!({
                "destination": id, "kind": told.kind, "requests": told.requests, "unread": told.unread,
                "request_bytes": told.request_bytes, "findings": told.findings, "worst": told.worst,
                "done": told.fates,
            })
        });
        let found = self.found().into_iter().map(|(rule, found)| {
            json!({
                "rule": rule, "category": found.category, "severity": found.severity,
                "findings": found.findings, "distinct_values": found.values.len(),
                "destinations": found.destinations,
            })
        });
        let tunneled = self.tunneled().into_iter().map(|(host, tunneled)| {
            json!({
                "host": host, "tunnels": tunneled.tunnels, "request_bytes": tunneled.request_bytes,
                "response_bytes": tunneled.response_bytes,
            })
        });
        let unread = self.unread().into_iter().map(|(reason, whom, unread)| {
            json!({
                "reason": reason, "whom": whom, "flows": unread.flows, "request_bytes": unread.request_bytes,
            })
        });
        let news =
            self.news().map(|(news, what, count)| json!({ "new": news, "what": what, "flows": count }));
        json!({
            "runs": self.runs.iter().map(|run| run.get()).collect::<Vec<_>>(),
            "flows": self.flows,
            "first_time": self.first_ms.and_then(super::json::time),
            "duration_ms": self.duration_ms(),
            "destinations": told.collect::<Vec<_>>(),
            "personal_data": found.collect::<Vec<_>>(),
            "tunnels": tunneled.collect::<Vec<_>>(),
            "not_inspected": unread.collect::<Vec<_>>(),
            "news": news.collect::<Vec<_>>(),
            "answered_here": {
                "sink": self.answered(Answer::Sink), "reject": self.answered(Answer::Reject),
            },
            "new_since": self.new_since_ms.and_then(super::json::time),
            "lost": self.lost,
            "head": self.head,
        })
    }

    fn add_request(&mut self, flow: &FlowRecord, bytes: u64) {
        let opening = &flow.opening;
        let told = self.told.entry(opening.destination.clone()).or_insert_with(|| Told {
            kind: opening.destination_kind,
            requests: 0,
            unread: 0,
            request_bytes: 0,
            findings: 0,
            worst: None,
            fates: BTreeMap::new(),
        });
        told.requests += 1;
        told.unread += u64::from(words::not_inspected(flow).is_some());
        told.request_bytes += bytes;
        told.findings += opening.findings.len() as u64;
        told.worst = told.worst.max(words::worst(flow));
        *told.fates.entry(words::fate(flow)).or_default() += 1;
        if let Some(answer) = opening.answered {
            *self.answered.entry(answer).or_default() += 1;
        }
        for finding in &opening.findings {
            let found = self.found.entry(finding.rule.clone()).or_insert_with(|| Found {
                category: Arc::clone(&finding.category),
                severity: finding.severity,
                findings: 0,
                values: BTreeSet::new(),
                destinations: BTreeSet::new(),
            });
            found.severity = found.severity.max(finding.severity);
            found.findings += 1;
            found.values.insert(finding.fingerprint);
            let left = opening.action != Action::Block;
            if left && !found.destinations.contains(&opening.destination) {
                found.destinations.insert(opening.destination.clone());
            }
        }
    }
}

/// New things that are summed up. A sender that makes up names must not fill our memory.
const NEWS_LIMIT: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing;

    #[test]
    fn equal_values_count_once_wherever_they_went() {
        let summary = Summary::from_flows(&testing::session());

        let found = summary.found();
        let (_, email) = found.iter().find(|(rule, _)| rule.as_str() == "account.email").unwrap();
        assert_eq!((email.findings, email.values.len(), email.destinations.len()), (2, 1, 2));
    }

    #[test]
    fn the_summary_is_available_as_json() {
        let value = Summary::from_flows(&testing::session()).with_lost(2).to_json();

        assert_eq!(value["runs"], json!([12]));
        assert_eq!(value["flows"], 10);
        assert_eq!(value["lost"], 2);
        assert_eq!(value["destinations"][0]["destination"], "first-party-events");
        assert_eq!(value["destinations"][0]["worst"], "critical");
        assert_eq!(value["destinations"][0]["done"], json!({ "sent": 1 }));
        assert_eq!(
            value["tunnels"][0],
            json!({
                "host": "files.example", "tunnels": 3, "request_bytes": 4302, "response_bytes": 1_200_000,
            })
        );
        assert_eq!(value["not_inspected"][0]["reason"], "format-unsupported");
        assert_eq!(value["news"][0]["what"], "POST api.anthropic.com/api/claude_code/brand_new");
    }

    #[test]
    fn the_example_is_the_gravest_flow() {
        let summary = Summary::from_flows(&testing::session());

        assert_eq!(summary.example().unwrap().to_string(), "12-7");
    }
}
