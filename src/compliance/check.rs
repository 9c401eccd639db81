//! One check: every control in force, every assertion, every claim, over each observation.

use std::collections::BTreeMap;

use crate::{
    compliance::{
        Accepted, Assertion, Baseline, CheckReport, ClaimVerdict, Claims, Controls, DestinationHosts,
        Observation, SubjectReport, Unpromised, Verdict, judge::Watch,
    },
    model::{ClientVersion, DestinationId, DestinationKind, EffectiveSwitches, FlowKind, PathPattern},
};

/// What to check.
#[derive(Clone, Debug)]
pub struct Checks {
    /// The promises.
    pub controls: Controls,
    /// The published statements.
    pub claims: Claims,
    /// Which hosts belong to which destination.
    pub places: Vec<DestinationHosts>,
    /// What was asked for besides.
    pub assertions: Vec<Assertion>,
    /// Only these controls; none: all.
    pub only: Vec<PathPattern>,
    /// Whether a refuted claim is a violation.
    pub claims_count: bool,
    /// Accepted failures.
    pub baseline: Baseline,
    /// The day, written `2026-11-21`, that decides whether an acceptance has expired.
    pub today: Box<str>,
    /// The client's version, if somebody names it.
    pub client_version: Option<ClientVersion>,
    /// Reads a version out of a user agent.
    pub version_of: fn(&str) -> Option<ClientVersion>,
}

/// Checks each observation.
pub fn check(checks: &Checks, observations: &[Observation]) -> CheckReport {
    let mut report = CheckReport {
        subjects: observations.iter().map(|observation| checks.subject(observation)).collect(),
        baseline_notes: Vec::new(),
    };
    checks.accept(&mut report);
    report
}

impl Checks {
    fn subject(&self, observation: &Observation) -> SubjectReport {
        let versions_seen = observation.versions(self.version_of);
        let told_version = observation.told.as_ref().and_then(|told| told.client_version);
        // What the client names itself in its requests is what ran; the newest, if a run held several.
        let version = self.client_version.or_else(|| versions_seen.last().copied()).or(told_version);
        let nothing = EffectiveSwitches::none();
        let watch = Watch {
            observation,
            told: observation.told.as_ref().unwrap_or(&nothing),
            version,
            controls: &self.controls,
            places: &self.places,
        };
        let mut results = Vec::new();
        if observation.told.is_some() {
            for control in &self.controls.controls {
                let is_meant = self.only.is_empty()
                    || self.only.iter().any(|glob| glob.matches_segments_of(&control.id));
                if is_meant && control.is_in_force(watch.told, version) {
                    results.extend(
                        control.destinations.iter().map(|destination| watch.judge(control, destination)),
                    );
                }
            }
        }
        let claims = self.claims.claims.iter().map(|claim| claim.judge(&watch, &results)).collect();
        results.extend(self.assertions.iter().map(|assertion| assertion.judge(&watch)));
        let promised: Vec<&DestinationId> = results
            .iter()
            .filter(|it| it.verdict != Verdict::Unaffected)
            .filter_map(|it| it.destination.as_ref())
            .collect();
        let unpromised = unpromised(observation, &promised);
        SubjectReport {
            subject: observation.subject.clone(),
            client_version: version,
            told: observation.told.clone(),
            coverage: observation.coverage(&self.controls.providers, versions_seen),
            results,
            claims,
            claims_count: self.claims_count,
            unpromised,
        }
    }

    fn accept(&self, report: &mut CheckReport) {
        for acceptance in &self.baseline.accepted {
            let counts = acceptance.counts(&self.today);
            let mut is_used = false;
            let mut accept = |id: &str,
                              accepted: &mut Option<Accepted>,
                              notes: Option<&mut Vec<Box<str>>>| {
                if !acceptance.names(id) {
                    return;
                }
                is_used = true;
                if counts {
                    *accepted = Some(acceptance.why.clone());
                } else if let Some(notes) = notes {
                    notes.push(
                        format!("was accepted until {}: {}", acceptance.why.expires, acceptance.why.reason)
                            .into(),
                    );
                }
            };
            for subject in &mut report.subjects {
                for result in subject.results.iter_mut().filter(|result| result.verdict == Verdict::Fail) {
                    accept(&result.id, &mut result.accepted, Some(&mut result.notes));
                }
                for claim in subject.claims.iter_mut().filter(|claim| claim.verdict == ClaimVerdict::Refuted)
                {
                    accept(&claim.id, &mut claim.accepted, None);
                }
            }
            let note = match (is_used, counts) {
                (true, true) => continue,
                (true, false) => {
                    format!("`{}` expired on {} and counts again", acceptance.result, acceptance.why.expires)
                }
                (false, _) => format!("`{}` no longer occurs and can be taken out", acceptance.result),
            };
            report.baseline_notes.push(note.into());
        }
    }
}

/// Telemetry that no promise speaks of: sent, and fine by every switch that was set.
fn unpromised(observation: &Observation, promised: &[&DestinationId]) -> Vec<Unpromised> {
    let mut counts: BTreeMap<&DestinationId, u64> = BTreeMap::new();
    for flow in &observation.flows {
        let opening = &flow.opening;
        let is_telemetry = matches!(
            opening.destination_kind,
            DestinationKind::FeatureFlags
                | DestinationKind::Feedback
                | DestinationKind::Telemetry
                | DestinationKind::Unknown
        );
        if opening.kind == FlowKind::Request && is_telemetry && !promised.contains(&&opening.destination) {
            *counts.entry(&opening.destination).or_default() += 1;
        }
    }
    counts.into_iter().map(|(id, requests)| Unpromised { destination: id.clone(), requests }).collect()
}
