use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{
    Action, Answer, AuthorityPattern, Confidence, DestinationKind, Finding, NotInspected, ParseWordError,
    PathPattern, Place, Redaction, Severity,
};

use super::Question;

crate::model::words! {
    /// What a request to a collector carries, as its path says.
    Signal {
        /// Events and logs.
        Logs = "logs",
        /// Counts and measures.
        Metrics = "metrics",
        /// Stack samples.
        Profiles = "profiles",
        /// Spans.
        Traces = "traces",
    }
}

/// One row: whom and what it is about, and what it says. Every list that is empty means any.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub id: String,
    /// Why it is there; empty if the file does not say.
    pub why: String,
    /// Where it is written.
    pub place: Place,
    /// Globs over the names of destinations.
    pub destinations: Vec<PathPattern>,
    /// Hosts.
    pub hosts: Vec<AuthorityPattern>,
    /// Globs over the path of the request, without a leading slash.
    pub paths: Vec<PathPattern>,
    /// What the destination is for.
    pub kinds: Vec<DestinationKind>,
    /// What it carries.
    pub signals: Vec<Signal>,
    /// Why the request was not read. With it, the row is about such requests only.
    pub not_inspected: Vec<NotInspected>,
    /// Globs over the names of rules.
    pub rules: Vec<PathPattern>,
    /// Globs over categories.
    pub categories: Vec<PathPattern>,
    /// Globs over the paths of fields.
    pub fields: Vec<PathPattern>,
    /// Findings at least as bad.
    pub severity: Option<Severity>,
    /// Findings at least as sure.
    pub confidence: Option<Confidence>,
    /// What is done.
    pub action: Action,
    /// How a value is made unreadable, instead of as its rule says.
    pub redact: Option<Arc<Redaction>>,
    /// How the client is answered, instead of by the default.
    pub answer: Option<Answer>,
}

impl Row {
    /// Whether it is about certain findings, and not about requests as a whole.
    pub fn is_about_findings(&self) -> bool {
        !self.rules.is_empty()
            || !self.categories.is_empty()
            || !self.fields.is_empty()
            || self.severity.is_some()
            || self.confidence.is_some()
    }

    pub(super) fn looks_at_fields(&self) -> bool {
        !self.fields.is_empty()
    }

    pub(super) fn names_request(&self, question: &Question<'_>) -> bool {
        let Question { destination, authority, path, not_inspected, .. } = *question;
        let path = path.trim_matches('/');
        any(&self.kinds, |kind| *kind == destination.kind)
            && any(&self.destinations, |glob| glob.matches_segments_of(destination.id.as_str()))
            && any(&self.hosts, |host| host.matches(authority))
            && any(&self.paths, |glob| glob.matches_segments_of(path))
            && any(&self.signals, |signal| Signal::of_path(path) == Some(*signal))
            && any(&self.not_inspected, |reason| Some(*reason) == not_inspected)
    }

    pub(super) fn names_finding(&self, finding: &Finding) -> bool {
        self.severity.is_none_or(|least| finding.severity >= least)
            && self.confidence.is_none_or(|least| finding.confidence >= least)
            && any(&self.rules, |glob| glob.matches_segments_of(finding.rule.as_str()))
            && any(&self.categories, |glob| glob.matches_segments_of(&finding.category))
            && any(&self.fields, |glob| glob.matches(finding.path.as_str()))
    }
}

impl Signal {
    /// What a path says: `v1/logs`, or `opentelemetry.proto.collector.logs.v1.LogsService/Export`.
    pub fn of_path(path: &str) -> Option<Self> {
        let path = path.trim_matches('/');
        let named = match path.rsplit_once('/') {
            Some((service, "Export")) => {
                service.strip_prefix("opentelemetry.proto.collector.")?.split('.').next()?
            }
            Some((before, last))
                if before.rsplit('/').next().is_some_and(|version| version.starts_with('v')) =>
            {
                last
            }
            _ => return None,
        };
        // The gRPC service of spans is the only one in the singular.
        if named == "trace" { Some(Self::Traces) } else { named.parse().ok() }
    }
}

fn any<T>(list: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(matches)
}
