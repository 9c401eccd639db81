//! What was watched: the records of one run or recording, and which connections may have been for whom.

use serde::{Deserialize, Serialize};

use crate::{
    compliance::{Coverage, Evidence, ProviderHosts, UnreadHost},
    model::{
        Authority, AuthorityPattern, CapturedField, ClientVersion, DestinationId, DestinationKind,
        EffectiveSwitches, FlowKind, FlowOpening, FlowRecord, NotInspected, Outcome, ParseWordError,
        PatternReach, Provider, RunId,
    },
};

crate::model::words! {
    /// How a watch ended.
    Ended {
        /// The client ended by itself: what it keeps for its end was sent.
        ByItself = "by-itself",
        /// The client was ended by a signal: what it keeps for its end may not have been sent.
        BySignal = "by-signal",
        /// It is still going on, or plainsight was killed.
        Open = "open",
        /// Nobody knows: a service that was stopped, a recording.
        Unknown = "unknown",
    }
}

/// What is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// The run, if it is one of the log.
    pub run: Option<u32>,
    /// The recording, if it is one.
    pub file: Option<Box<str>>,
    /// The program that was run.
    pub program: Option<Box<str>>,
    /// `run`, `proxy`, `demo` or `har`.
    pub mode: Box<str>,
    /// SHA-256 of the policy in force then, if it is known.
    pub policy_hash: Option<Box<str>>,
    /// SHA-256 of the rules in force then, if it is known.
    pub rules_hash: Option<Box<str>>,
}

impl Subject {
    /// As a person names it: `run 12`, or the file.
    pub fn name(&self) -> String {
        match (self.run, &self.file) {
            (Some(run), _) => format!("run {run}"),
            (None, Some(file)) => file.to_string(),
            (None, None) => "nothing".to_owned(),
        }
    }
}

/// Which hosts belong to a destination: a row of the catalogue.
#[derive(Clone, Debug)]
pub struct DestinationHosts {
    /// The row.
    pub id: DestinationId,
    /// What it is for.
    pub kind: DestinationKind,
    /// Its hosts.
    pub hosts: Vec<AuthorityPattern>,
}

/// The records of one run or recording.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Which.
    pub subject: Subject,
    /// What the client was told; none if nobody knows.
    pub told: Option<EffectiveSwitches>,
    /// How it ended.
    pub ended: Ended,
    /// From when, in milliseconds since 1970 (UTC).
    pub first_ms: i64,
    /// Until when.
    pub last_ms: i64,
    /// Whether the client had no way out but us.
    pub is_confined: bool,
    /// How many records were lost because the log could not be written.
    pub lost: u64,
    /// Every flow, with its fields where it has any, oldest first.
    pub flows: Vec<FlowRecord>,
}

/// The destinations for which a connection may have been.
pub(super) enum Reach {
    /// This one, and no other.
    One(DestinationId),
    /// One of these.
    OneOf(Vec<DestinationId>),
}

impl Observation {
    /// The versions that the client named, oldest first. `version_of` reads one out of a user agent.
    pub fn versions(&self, version_of: impl Fn(&str) -> Option<ClientVersion>) -> Vec<ClientVersion> {
        let agents = self.flows.iter().filter_map(|flow| flow.opening.user_agent.as_deref());
        let mut versions: Vec<_> = agents.filter_map(version_of).collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    }

    /// How long it was watched, in whole seconds.
    pub fn seconds(&self) -> u64 {
        u64::try_from(self.last_ms.saturating_sub(self.first_ms) / 1000).unwrap_or_default()
    }

    /// Requests that reached `destination`, or would have.
    pub(super) fn requests<'f>(
        &'f self,
        destination: &'f DestinationId,
    ) -> impl Iterator<Item = &'f FlowRecord> {
        self.flows.iter().filter(move |flow| {
            flow.opening.kind == FlowKind::Request && flow.opening.destination == *destination
        })
    }

    /// Answered requests of the conversation: the client was at work, and we saw it.
    pub(super) fn conversations(&self, providers: &[ProviderHosts]) -> u64 {
        let provider = self.told.as_ref().map_or(Provider::Anthropic, |told| told.provider);
        let named = self.told.as_ref().and_then(|told| told.conversation_host.as_deref());
        let hosts = providers.iter().filter(|row| row.provider == provider).flat_map(|row| &row.hosts);
        let hosts: Vec<&AuthorityPattern> = hosts.collect();
        let is_conversation = |flow: &&FlowRecord| {
            let opening = &flow.opening;
            let is_sent = flow.closing.as_ref().is_some_and(|closing| {
                matches!(closing.outcome, Outcome::Forwarded | Outcome::Tunneled)
                    && closing.status.is_none_or(|status| (200..300).contains(&status))
            });
            if opening.destination_kind == DestinationKind::Conversation {
                return is_sent;
            }
            // Elsewhere the conversation is a tunnel that we do not look into.
            if provider == Provider::Anthropic && named.is_none() {
                return false;
            }
            let authority = Authority::parse(&opening.authority, Some(443)).ok();
            is_sent
                && authority.is_some_and(|authority| {
                    named == Some(authority.to_string().as_str())
                        || hosts.iter().any(|host| host.matches(&authority))
                })
        };
        self.flows.iter().filter(is_conversation).count() as u64
    }

    /// Connections that went around us. Not a question to a DNS server: it names a host, and sends nothing to it.
    pub(super) fn went_around(&self) -> impl Iterator<Item = &FlowRecord> {
        let is_question =
            |opening: &FlowOpening| &*opening.method == "UDP" && opening.authority.ends_with(":53");
        let bypasses = self.flows.iter().filter(|flow| flow.opening.kind == FlowKind::Bypass);
        bypasses.filter(move |flow| !is_question(&flow.opening)).take(MOST_BYPASSES)
    }

    /// Connections that were not decrypted, each with those for whom it may have been.
    pub(super) fn undecrypted<'f>(
        &'f self,
        places: &'f [DestinationHosts],
    ) -> impl Iterator<Item = (&'f FlowRecord, Reach)> {
        self.flows.iter().filter(|flow| flow.opening.kind == FlowKind::Tunnel).filter_map(|flow| {
            let authority = Authority::parse(&flow.opening.authority, Some(443)).ok()?;
            let is_named = |place: &&DestinationHosts| {
                // A row for whatever a host has besides the others takes nothing away from them.
                place.kind != DestinationKind::Unknown
                    && place
                        .hosts
                        .iter()
                        .any(|host| host.reach() != PatternReach::Unbounded && host.matches(&authority))
            };
            let mut ids: Vec<DestinationId> =
                places.iter().filter(is_named).map(|place| place.id.clone()).collect();
            match ids.len() {
                0 => None,
                1 => Some((flow, Reach::One(ids.remove(0)))),
                _ => Some((flow, Reach::OneOf(ids))),
            }
        })
    }

    /// A record as evidence.
    pub(super) fn evidence(&self, flow: &FlowRecord) -> Evidence {
        let opening = &flow.opening;
        let host = opening.authority.strip_suffix(":443").unwrap_or(&opening.authority);
        let outcome = match (flow.closing.as_ref().map(|closing| closing.outcome), opening.kind) {
            (_, FlowKind::Attempt) => ", not let out",
            (_, FlowKind::Bypass) => ", around plainsight",
            (_, FlowKind::Tunnel) => ", not decrypted",
            _ if opening.answered.is_some() => ", answered here and not sent on",
            (Some(Outcome::Refused), _) => ", not sent on",
            (Some(Outcome::UpstreamFailed), _) => ", tried and failed",
            _ => "",
        };
        Evidence {
            flow: self.reference(flow),
            time_ms: opening.time_ms,
            destination: opening.destination.clone(),
            what: format!("{} {host}{}{outcome}", opening.method, opening.path).into(),
            path: None,
            rule: None,
            preview: None,
        }
    }

    /// A record's id, or its place in the recording.
    pub fn reference(&self, flow: &FlowRecord) -> Box<str> {
        match self.subject.run {
            Some(_) => flow.opening.id.to_string().into(),
            None => format!("#{}", flow.opening.id.number().saturating_sub(1)).into(),
        }
    }

    /// A field of a record as evidence.
    pub(super) fn evidence_of_field(&self, flow: &FlowRecord, field: &CapturedField) -> Evidence {
        Evidence { path: Some(field.path.clone()), preview: Some(field.value.clone()), ..self.evidence(flow) }
    }

    pub(super) fn coverage(
        &self,
        providers: &[ProviderHosts],
        versions_seen: Vec<ClientVersion>,
    ) -> Coverage {
        let mut unread: Vec<UnreadHost> = Vec::new();
        for flow in &self.flows {
            let Some(reason) = unread_reason(flow) else { continue };
            let (authority, reason) = (flow.opening.authority.clone(), Box::from(reason.as_str()));
            match unread.iter_mut().find(|host| host.authority == authority && host.reason == reason) {
                Some(host) => host.flows += 1,
                None => unread.push(UnreadHost { authority, reason, flows: 1 }),
            }
        }
        let of_kind =
            |kind| self.flows.iter().filter(|flow: &&FlowRecord| flow.opening.kind == kind).count() as u64;
        let tunnels = of_kind(FlowKind::Tunnel);
        Coverage {
            requests: of_kind(FlowKind::Request),
            tunnels,
            conversations: self.conversations(providers),
            first_ms: self.first_ms,
            last_ms: self.last_ms,
            ended: self.ended,
            versions_seen,
            unread,
        }
    }
}

impl Subject {
    /// A run of the log.
    pub fn of_run(run: RunId, mode: &str, program: Option<&str>) -> Self {
        Self {
            run: Some(run.get()),
            file: None,
            program: program.map(Into::into),
            mode: mode.into(),
            policy_hash: None,
            rules_hash: None,
        }
    }

    /// A recording.
    pub fn of_file(file: &str) -> Self {
        Self {
            run: None,
            file: Some(file.into()),
            program: None,
            mode: "har".into(),
            policy_hash: None,
            rules_hash: None,
        }
    }
}

/// Why a flow was not read, as it is known at its end. The conversation is not meant to be.
pub(super) fn unread_reason(flow: &FlowRecord) -> Option<NotInspected> {
    let reason =
        flow.closing.as_ref().and_then(|closing| closing.not_inspected).or(flow.opening.not_inspected);
    reason.filter(|reason| *reason != NotInspected::Conversation)
}

/// Bypasses that are named; more say no more.
const MOST_BYPASSES: usize = 5;
