//! Claims: what is published about the telemetry, as assertions over destinations and categories. Data in
//! `rules/claims.toml`.

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::Spanned;

use crate::{
    compliance::{
        ClaimResult, ClaimVerdict, ComplianceError, ControlResult, Controls, EMBEDDED_CLAIMS, Evidence,
        Missing, MissingKind, Occasion, Source, SourceClass, Verdict,
        assertion::MINIMUM,
        controls::{OccasionSpec, destinations},
        judge::{Found, Watch, plural, requests},
        read::{self, unknown},
    },
    model::{DestinationId, FlowKind},
};

/// One published statement.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its name.
    pub id: Box<str>,
    /// What was published.
    pub statement: Statement,
    /// In its own words.
    pub text: Box<str>,
    /// Whom it is about.
    pub destinations: Vec<DestinationId>,
    /// Where it was published.
    pub source: Source,
}

/// What a claim asserts.
#[derive(Clone, Debug)]
pub enum Statement {
    /// No finding of these categories (or beneath them), nor of these rules.
    Never {
        /// Categories.
        categories: Vec<Box<str>>,
        /// Rules.
        rules: Vec<Box<str>>,
        /// What shows that there was an occasion.
        occasion: Option<Occasion>,
    },
    /// A control holds.
    Control {
        /// The control.
        control: Box<str>,
    },
    /// No more than one of the destinations is sent anything.
    SingleDestination,
}

/// All claims.
#[derive(Clone, Debug)]
pub struct Claims {
    /// In the order of the file.
    pub claims: Vec<Claim>,
}

impl Claims {
    /// Reads a file of claims. `known` are the destinations that may be named.
    ///
    /// # Errors
    /// What is no such file, with its line and what was perhaps meant.
    pub fn from_toml<'d>(
        name: &str,
        text: &str,
        controls: &Controls,
        known: impl IntoIterator<Item = &'d str>,
    ) -> Result<Self, ComplianceError> {
        let file: File = read::toml(name, text)?;
        if *file.schema.get_ref() != 1 {
            return Err(ComplianceError::new(
                name,
                text,
                file.schema.span().start,
                "this version reads schema 1",
            ));
        }
        let known: BTreeSet<&str> = known.into_iter().collect();
        let mut ids = BTreeSet::new();
        let mut claims = Vec::with_capacity(file.claim.len());
        for spec in file.claim {
            let at = spec.span().start;
            let spec = spec.into_inner();
            let id = spec.id.clone();
            let claim = spec.compile(controls, &known);
            let claim =
                claim.map_err(|why| ComplianceError::new(name, text, at, format!("claim `{id}`: {why}")))?;
            if !ids.insert(claim.id.clone()) {
                return Err(ComplianceError::new(name, text, at, format!("claim `{id}` stands there twice")));
            }
            claims.push(claim);
        }
        Ok(Self { claims })
    }

    /// The built-in claims.
    ///
    /// # Errors
    /// As [`Self::from_toml`].
    pub fn embedded<'d>(
        controls: &Controls,
        known: impl IntoIterator<Item = &'d str>,
    ) -> Result<Self, ComplianceError> {
        Self::from_toml("claims.toml", EMBEDDED_CLAIMS, controls, known)
    }
}

impl Claim {
    pub(super) fn judge(&self, watch: &Watch<'_>, results: &[ControlResult]) -> ClaimResult {
        let mut result = ClaimResult {
            id: self.id.clone(),
            statement: self.text.clone(),
            verdict: ClaimVerdict::Untested,
            because: "".into(),
            evidence: Vec::new(),
            evidence_total: 0,
            missing: Vec::new(),
            source: self.source.clone(),
            accepted: None,
        };
        match &self.statement {
            Statement::Never { categories, rules, occasion } => {
                self.never(watch, categories, rules, occasion.as_ref(), &mut result);
            }
            Statement::Control { control } => self.control(control, results, &mut result),
            Statement::SingleDestination => self.single(watch, &mut result),
        }
        result
    }

    fn never(
        &self,
        watch: &Watch<'_>,
        categories: &[Box<str>],
        rules: &[Box<str>],
        occasion: Option<&Occasion>,
        result: &mut ClaimResult,
    ) {
        let mut found = Found::default();
        let mut sent = 0;
        for flow in self.destinations.iter().flat_map(|id| watch.observation.requests(id)) {
            sent += 1;
            for finding in &flow.opening.findings {
                let is_meant = rules.iter().any(|rule| **rule == *finding.rule.as_str())
                    || categories.iter().any(|category| {
                        let rest = finding.category.strip_prefix(&**category);
                        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                    });
                // What stands in the head is how the service knows who calls; the claims are about what is reported.
                let is_in_head =
                    ["header:", "query:", "path:"].iter().any(|head| finding.path.as_str().starts_with(head));
                if is_meant && !is_in_head {
                    found.push(Evidence {
                        path: Some(finding.path.as_str().into()),
                        rule: Some(finding.rule.as_str().into()),
                        preview: Some(finding.preview.clone()),
                        ..watch.observation.evidence(flow)
                    });
                }
            }
        }
        if found.total > 0 {
            result.verdict = ClaimVerdict::Refuted;
            result.because =
                format!("found {} in {}", plural(found.total, "time"), requests(found.flows() as u64)).into();
            result.take(found);
            return;
        }
        if sent == 0 {
            result.missing.push(Missing::new(MissingKind::Occasion, "nothing was sent to any of them"));
        } else {
            result.missing.extend(watch.unread(&self.destinations));
            result.missing.extend(occasion.and_then(|occasion| watch.occasion(occasion, &self.destinations)));
        }
        result.settle(&format!("in none of {}", plural(sent, "request")));
    }

    fn control(&self, control: &str, results: &[ControlResult], result: &mut ClaimResult) {
        let meant = results.iter().filter(|it| {
            *it.control == *control
                && it.destination.as_ref().is_some_and(|id| self.destinations.contains(id))
        });
        let meant: Vec<&ControlResult> = meant.collect();
        let Some(worst) = meant.iter().min_by_key(|it| it.verdict) else {
            result.missing.push(Missing::new(MissingKind::Occasion, "the switch was not set"));
            result.settle("");
            return;
        };
        result.because = worst.because.clone();
        result.verdict = match worst.verdict {
            Verdict::Fail => ClaimVerdict::Refuted,
            Verdict::Pass => ClaimVerdict::Upheld,
            Verdict::Inconclusive | Verdict::Unaffected => ClaimVerdict::Untested,
        };
        (result.evidence, result.evidence_total) = (worst.evidence.clone(), worst.evidence_total);
        result.missing.clone_from(&worst.missing);
    }

    fn single(&self, watch: &Watch<'_>, result: &mut ClaimResult) {
        let mut found = Found::default();
        let mut seen = BTreeSet::new();
        for flow in &watch.observation.flows {
            let opening = &flow.opening;
            if opening.kind == FlowKind::Request
                && self.destinations.contains(&opening.destination)
                && seen.insert(opening.destination.clone())
            {
                found.push(watch.observation.evidence(flow));
            }
        }
        let names: Vec<&str> = seen.iter().map(DestinationId::as_str).collect();
        match seen.len() {
            0 => {
                result.missing.push(Missing::new(MissingKind::Occasion, "nothing was sent to any of them"));
                result.settle("");
            }
            1 => {
                result.missing.extend(watch.contacts(&self.destinations).missing());
                result.missing.extend(watch.missing(MINIMUM));
                result.settle(&format!("only {} was sent anything", names.join(", ")));
            }
            count => {
                result.verdict = ClaimVerdict::Refuted;
                result.because = format!(
                    "{} were sent something: {}",
                    plural(count as u64, "destination"),
                    names.join(", ")
                )
                .into();
            }
        }
        result.take(found);
    }
}

impl ClaimResult {
    fn take(&mut self, found: Found) {
        (self.evidence, self.evidence_total) = (found.evidence, found.total);
    }

    fn settle(&mut self, held: &str) {
        (self.verdict, self.because) = match self.missing.first() {
            None => (ClaimVerdict::Upheld, held.into()),
            Some(missing) => (ClaimVerdict::Untested, missing.detail.clone()),
        };
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: Spanned<u32>,
    #[serde(rename = "version")]
    _version: String,
    #[serde(default)]
    claim: Vec<Spanned<Spec>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    id: String,
    statement: String,
    destinations: Vec<String>,
    #[serde(default)]
    never: Vec<String>,
    #[serde(default)]
    never_rules: Vec<String>,
    occasion: Option<OccasionSpec>,
    control: Option<String>,
    #[serde(default)]
    single_destination: bool,
    source: String,
    class: SourceClass,
}

impl Spec {
    fn compile(self, controls: &Controls, known: &BTreeSet<&str>) -> Result<Claim, String> {
        let destinations = destinations(&self.destinations, known)?;
        let is_never = !self.never.is_empty() || !self.never_rules.is_empty();
        let statement = match (is_never, self.control, self.single_destination) {
            (true, None, false) => Statement::Never {
                categories: self.never.into_iter().map(Into::into).collect(),
                rules: self.never_rules.into_iter().map(Into::into).collect(),
                occasion: self.occasion.map(OccasionSpec::compile).transpose()?,
            },
            (false, Some(control), false) => {
                let ids = || controls.controls.iter().map(|control| &*control.id);
                if !ids().any(|id| id == control) {
                    return Err(unknown("control", &control, ids()));
                }
                Statement::Control { control: control.into() }
            }
            (false, None, true) => Statement::SingleDestination,
            _ => {
                return Err(
                    "wants one of `never` (or `never_rules`), `control`, `single_destination`".to_owned()
                );
            }
        };
        Ok(Claim {
            id: self.id.into(),
            statement,
            text: self.statement.into(),
            destinations,
            source: Source { text: self.source.into(), class: self.class },
        })
    }
}
