//! The verdict on one promise and one destination.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    compliance::{
        Control, ControlResult, Controls, DestinationHosts, Ended, Evidence, Expectation, Minimum, Missing,
        MissingKind, Observation, Occasion, ResultKind, Verdict,
        observation::{Reach, unread_reason},
    },
    model::{
        Authority, CapturedField, ClientVersion, DestinationId, DestinationKind, EffectiveSwitches, FlowKind,
        FlowRecord, PathPattern,
    },
};

/// Records named as evidence. More say nothing new, and reports stay readable.
pub(super) const EVIDENCE: usize = 20;

/// What judging needs to know.
pub(super) struct Watch<'w> {
    pub(super) observation: &'w Observation,
    pub(super) told: &'w EffectiveSwitches,
    pub(super) version: Option<ClientVersion>,
    pub(super) controls: &'w Controls,
    pub(super) places: &'w [DestinationHosts],
}

/// Records that were found, of which only the first are kept.
#[derive(Default)]
pub(super) struct Found {
    pub(super) evidence: Vec<Evidence>,
    pub(super) total: u64,
    flows: BTreeSet<Box<str>>,
}

impl Found {
    pub(super) fn push(&mut self, evidence: Evidence) {
        self.total += 1;
        // One record may break a promise in many fields; each record is named before any is named again.
        let is_new = self.flows.insert(evidence.flow.clone());
        if self.evidence.len() < EVIDENCE && (is_new || self.flows.len() < EVIDENCE) {
            self.evidence.push(evidence);
        }
    }

    pub(super) fn flows(&self) -> usize {
        self.flows.len()
    }
}

/// What was sent to some destinations, read or not.
pub(super) struct Contacts {
    pub(super) found: Found,
    /// Connections that may have been for one of them, or for somebody else: by host.
    ambiguous: BTreeMap<Box<str>, u64>,
}

impl Watch<'_> {
    /// Judges a control for one of its destinations.
    pub(super) fn judge(&self, control: &Control, destination: &DestinationId) -> ControlResult {
        let mut result = ControlResult {
            id: format!("{}/{destination}", control.id).into(),
            kind: ResultKind::Control,
            control: control.id.clone(),
            title: control.title.clone(),
            destination: Some(destination.clone()),
            expect: control.expect,
            verdict: Verdict::Inconclusive,
            is_binding: !matches!(control.expect, Expectation::Inconclusive | Expectation::Unaffected),
            because: "".into(),
            evidence: Vec::new(),
            evidence_total: 0,
            missing: Vec::new(),
            notes: Vec::new(),
            source: control.source.clone(),
            accepted: None,
        };
        match control.expect {
            Expectation::AbsentField => self.absent_field(control, destination, &mut result),
            Expectation::Silent => self.silent(control, destination, &mut result),
            Expectation::Inconclusive | Expectation::Observed | Expectation::Unaffected => {
                let contacts = self.contacts(std::slice::from_ref(destination));
                let seen = requests(contacts.found.total);
                (result.verdict, result.because) = match control.expect {
                    Expectation::Unaffected => {
                        (Verdict::Unaffected, format!("the switch does not reach it; {seen}").into())
                    }
                    _ => (
                        Verdict::Inconclusive,
                        format!("nobody says whether the switch reaches it; {seen}").into(),
                    ),
                };
                result.take(contacts.found);
            }
        }
        for known in &control.known {
            if known.destinations.contains(destination)
                && self.version.is_some_and(|it| known.versions.contains(it))
            {
                result.notes.push(format!("{} ({})", known.note, known.class).into());
            }
        }
        result
    }

    fn silent(&self, control: &Control, destination: &DestinationId, result: &mut ControlResult) {
        let contacts = self.contacts(std::slice::from_ref(destination));
        if contacts.found.total > 0 {
            result.verdict = Verdict::Fail;
            result.because = format!("{}, where silence was promised", requests(contacts.found.total)).into();
            result.take(contacts.found);
        } else {
            result.missing = contacts.missing();
            result.missing.extend(self.missing(control.minimum));
            result.settle("nothing was sent to it");
        }
        self.version_matters(control, result);
        self.notes_on_unknown_paths(destination, result);
    }

    /// A pass for versions in a range needs a version.
    fn version_matters(&self, control: &Control, result: &mut ControlResult) {
        if self.version.is_some() || control.versions.is_any() {
            return;
        }
        result.verdict = Verdict::Inconclusive;
        result.missing.push(Missing::new(
            MissingKind::ClientVersion,
            format!("the promise is for client {}; name the version with --client-version", control.versions),
        ));
        result.because = result.missing.last().map_or_else(|| "".into(), |missing| missing.detail.clone());
    }

    /// The vendor may have moved it: a path that nobody knows, on a host of the destination.
    fn notes_on_unknown_paths(&self, destination: &DestinationId, result: &mut ControlResult) {
        let Some(place) = self.places.iter().find(|place| place.id == *destination) else { return };
        let is_near = |flow: &&FlowRecord| {
            flow.opening.destination_kind == DestinationKind::Unknown
                && Authority::parse(&flow.opening.authority, Some(443))
                    .is_ok_and(|authority| place.hosts.iter().any(|host| host.matches(&authority)))
        };
        let unknown: Vec<_> = self.observation.flows.iter().filter(is_near).collect();
        if let Some(first) = unknown.first() {
            result.notes.push(
                format!(
                    "{} to paths of its host that the catalogue does not know, such as {} ({})",
                    requests(unknown.len() as u64),
                    first.opening.path,
                    self.observation.reference(first)
                )
                .into(),
            );
        }
    }

    fn absent_field(&self, control: &Control, destination: &DestinationId, result: &mut ControlResult) {
        let mut found = Found::default();
        for flow in self.observation.requests(destination) {
            for field in flow.opening.fields.iter() {
                let is_meant = matches(&control.fields, &control.values, &field)
                    && !control.placeholders.contains(&field.value);
                if is_meant && !field.value.is_empty() {
                    found.push(self.observation.evidence_of_field(flow, &field));
                }
            }
        }
        if found.total > 0 {
            result.verdict = Verdict::Fail;
            result.because = format!("it was sent, in {}", requests(found.flows() as u64)).into();
            result.take(found);
        } else {
            result.missing.extend(self.unread(std::slice::from_ref(destination)));
            if let Some(occasion) = &control.occasion {
                result.missing.extend(self.occasion(occasion, std::slice::from_ref(destination)));
            }
            result.missing.extend(self.missing(control.minimum));
            let read = self.observation.requests(destination).count() as u64;
            result.settle(&format!("it is in none of the {} to it", plural(read, "request")));
        }
        self.version_matters(control, result);
    }

    /// Everything that was sent to `destinations`, or was tried to be.
    pub(super) fn contacts(&self, destinations: &[DestinationId]) -> Contacts {
        let mut contacts = Contacts { found: Found::default(), ambiguous: BTreeMap::new() };
        for flow in &self.observation.flows {
            if flow.opening.kind == FlowKind::Request && destinations.contains(&flow.opening.destination) {
                contacts.found.push(self.observation.evidence(flow));
            }
        }
        for (flow, reach) in self.observation.undecrypted(self.places) {
            match reach {
                Reach::One(id) if destinations.contains(&id) => {
                    let evidence = Evidence { destination: id, ..self.observation.evidence(flow) };
                    contacts.found.push(evidence);
                }
                Reach::OneOf(ids) if ids.iter().any(|id| destinations.contains(id)) => {
                    *contacts.ambiguous.entry(flow.opening.authority.clone()).or_default() += 1;
                }
                Reach::One(_) | Reach::OneOf(_) => {}
            }
        }
        contacts
    }

    /// What a pass lacks that has nothing to do with one destination.
    pub(super) fn missing(&self, minimum: Minimum) -> Vec<Missing> {
        let mut missing = Vec::new();
        let conversations = self.observation.conversations(&self.controls.providers);
        if conversations < minimum.conversations {
            missing.push(Missing::new(
                MissingKind::PositiveControl,
                match conversations {
                    0 => "no answered request of the conversation was seen, so silence may mean that the client did \
                          nothing, or went another way"
                        .to_owned(),
                    seen => format!(
                        "{} of the conversation seen, {} are needed",
                        plural(seen, "answered request"),
                        minimum.conversations
                    ),
                },
            ));
        }
        let seconds = self.observation.seconds();
        if self.observation.ended != Ended::ByItself && seconds < minimum.seconds {
            let how = match self.observation.ended {
                Ended::BySignal => "the client was ended by a signal",
                Ended::Open => "the run is not closed",
                Ended::ByItself | Ended::Unknown => "nobody knows whether the client had ended",
            };
            let hint = match self.observation.ended {
                Ended::Unknown => " (if it had: --complete)",
                Ended::BySignal | Ended::ByItself | Ended::Open => "",
            };
            missing.push(Missing::new(
                MissingKind::Time,
                format!(
                    "{how} after {seconds} s of {} s; what is sent at the client's end may not have been{hint}",
                    minimum.seconds
                ),
            ));
        }
        if self.observation.lost > 0 {
            missing.push(Missing::new(
                MissingKind::Records,
                format!(
                    "{} lost, because the log could not be written; what they held is not known",
                    plural(self.observation.lost, "record")
                ),
            ));
        }
        // Whatever variables a confined client heeds, there is one way out.
        let bypasses = self.told.bypasses.iter().filter(|_| !self.observation.is_confined);
        missing.extend(bypasses.map(|bypass| Missing::new(MissingKind::Bypass, bypass.clone())));
        missing.extend(self.observation.went_around().map(|flow| {
            let opening = &flow.opening;
            let program = opening.user_agent.as_deref().unwrap_or("a program");
            let id = self.observation.reference(flow);
            Missing::new(
                MissingKind::Bypass,
                format!("{program} went around plainsight to {} ({id})", opening.authority),
            )
        }));
        missing
    }

    /// Requests to `destinations` that were not read, or whose fields were not kept.
    pub(super) fn unread(&self, destinations: &[DestinationId]) -> Vec<Missing> {
        let mut missing = self.contacts(destinations).missing();
        let mut without_fields = 0;
        for flow in &self.observation.flows {
            let opening = &flow.opening;
            if !destinations.contains(&opening.destination) {
                continue;
            }
            if let Some(reason) = unread_reason(flow) {
                missing.push(Missing::new(
                    MissingKind::Unread,
                    format!("{} could not be read wholly: {reason}", self.observation.reference(flow)),
                ));
            } else if opening.fields_left_out > 0 {
                missing.push(Missing::new(
                    MissingKind::Unread,
                    format!(
                        "{}: {} were not kept",
                        self.observation.reference(flow),
                        plural(opening.fields_left_out.into(), "field")
                    ),
                ));
            } else if opening.fields.is_empty() && opening.request_bytes > 0 {
                without_fields += 1;
            }
        }
        if without_fields > 0 {
            missing.push(Missing::new(
                MissingKind::Fields,
                format!(
                    "the log holds no fields of {}; record with --capture masked",
                    requests(without_fields)
                ),
            ));
        }
        missing
    }

    /// Whether something was sent in which the field could have been.
    pub(super) fn occasion(&self, occasion: &Occasion, destinations: &[DestinationId]) -> Option<Missing> {
        let mut fields = destinations
            .iter()
            .flat_map(|id| self.observation.requests(id))
            .flat_map(|flow| flow.opening.fields.iter().collect::<Vec<_>>());
        let was_there = fields.any(|field| matches(&occasion.fields, &occasion.values, &field));
        (!was_there).then(|| {
            Missing::new(
                MissingKind::Occasion,
                format!("nothing was sent in which it could have been: no {}", occasion.title),
            )
        })
    }
}

impl Contacts {
    pub(super) fn missing(&self) -> Vec<Missing> {
        self.ambiguous
            .iter()
            .map(|(authority, flows)| {
                Missing::new(
                    MissingKind::Interception,
                    format!(
                        "{} to {authority} not decrypted, which may have been for it",
                        plural(*flows, "connection")
                    ),
                )
            })
            .collect()
    }
}

impl ControlResult {
    pub(super) fn take(&mut self, found: Found) {
        (self.evidence, self.evidence_total) = (found.evidence, found.total);
    }

    /// A pass if nothing is missing.
    pub(super) fn settle(&mut self, held: &str) {
        (self.verdict, self.because) = match self.missing.first() {
            None => (Verdict::Pass, held.into()),
            Some(missing) => (Verdict::Inconclusive, missing.detail.clone()),
        };
    }
}

/// Whether a field is one of `patterns`, with one of `values` if any are named.
fn matches(patterns: &[PathPattern], values: &[Box<str>], field: &CapturedField) -> bool {
    patterns.iter().any(|pattern| pattern.matches(&field.path))
        && (values.is_empty() || values.iter().any(|glob| is_like(glob, &field.value)))
}

/// Matches a value against a glob in which `*` is any run of characters.
fn is_like(glob: &str, value: &str) -> bool {
    PathPattern::parse(glob).is_ok_and(|pattern| pattern.matches_segments_of(value))
}

pub(super) fn requests(count: u64) -> String {
    match count {
        0 => "no request was seen".to_owned(),
        count => plural(count, "request"),
    }
}

pub(super) fn plural(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
