//! What somebody asks for with one check: `--expect silent`, `--deny category:content`.

use crate::{
    compliance::{
        ControlResult, Evidence, Expectation, Minimum, Missing, MissingKind, ResultKind, Source, SourceClass,
        Verdict,
        judge::{Found, Watch, plural, requests},
        observation::unread_reason,
    },
    model::{DestinationId, DestinationKind, FlowKind, FlowRecord, PathPattern},
};

/// Something that must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assertion {
    /// No finding of this category, or of one beneath it.
    DenyCategory(Box<str>),
    /// No contact with a destination of this name.
    DenyDestination(Destinations),
    /// No finding of this rule.
    DenyRule(Destinations),
    /// At least one request to such a destination.
    Observed(Destinations),
    /// No contact with any such destination.
    Silent(Destinations),
}

/// Ids that a glob names; by default everything that is telemetry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destinations {
    text: Box<str>,
    glob: Option<PathPattern>,
}

/// Text that is no assertion.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no assertion; {1}")]
pub struct AssertionError(String, &'static str);

impl Assertion {
    /// Parses what stands behind `--expect`: `silent`, `observed`, `silent:datadog`, `observed:first-party-*`.
    ///
    /// # Errors
    /// [`AssertionError`].
    pub fn expectation(text: &str) -> Result<Self, AssertionError> {
        let (word, names) = text.split_once(':').map_or((text, None), |(word, names)| (word, Some(names)));
        let error = || {
            AssertionError(
                text.to_owned(),
                "write `silent` or `observed`, and `:DESTINATION` behind it if need be",
            )
        };
        let destinations = Destinations::parse(names).ok_or_else(error)?;
        match word {
            "observed" => Ok(Self::Observed(destinations)),
            "silent" => Ok(Self::Silent(destinations)),
            _ => Err(error()),
        }
    }

    /// Parses what stands behind `--deny`: `category:content`, `destination:datadog`, `rule:contact.email`.
    ///
    /// # Errors
    /// [`AssertionError`].
    pub fn denial(text: &str) -> Result<Self, AssertionError> {
        let error =
            || AssertionError(text.to_owned(), "write `category:NAME`, `destination:ID` or `rule:ID`");
        let (kind, name) = text.split_once(':').filter(|(_, name)| !name.is_empty()).ok_or_else(error)?;
        match kind {
            "category" => Ok(Self::DenyCategory(name.into())),
            "destination" => Ok(Self::DenyDestination(Destinations::parse(Some(name)).ok_or_else(error)?)),
            "rule" => Ok(Self::DenyRule(Destinations::parse(Some(name)).ok_or_else(error)?)),
            _ => Err(error()),
        }
    }

    /// As it was written.
    pub fn text(&self) -> String {
        let named = |word: &str, ids: &Destinations| match &*ids.text {
            "" => word.to_owned(),
            text => format!("{word}:{text}"),
        };
        match self {
            Self::DenyCategory(category) => format!("deny category:{category}"),
            Self::DenyDestination(ids) => named("deny destination", ids),
            Self::DenyRule(ids) => named("deny rule", ids),
            Self::Observed(ids) => named("expect observed", ids),
            Self::Silent(ids) => named("expect silent", ids),
        }
    }

    pub(super) fn judge(&self, watch: &Watch<'_>) -> ControlResult {
        let text = self.text();
        let mut result = ControlResult {
            id: text.as_str().into(),
            kind: ResultKind::Assertion,
            control: text.as_str().into(),
            title: "Asked for on the command line".into(),
            destination: None,
            expect: match self {
                Self::DenyCategory(_) | Self::DenyRule(_) => Expectation::AbsentField,
                Self::DenyDestination(_) | Self::Silent(_) => Expectation::Silent,
                Self::Observed(_) => Expectation::Observed,
            },
            verdict: Verdict::Inconclusive,
            is_binding: true,
            because: "".into(),
            evidence: Vec::new(),
            evidence_total: 0,
            missing: Vec::new(),
            notes: Vec::new(),
            source: Source { text: "command line".into(), class: SourceClass::Documented },
            accepted: None,
        };
        match self {
            Self::DenyDestination(ids) | Self::Silent(ids) => silent(watch, &ids.of(watch), &mut result),
            Self::Observed(ids) => observed(watch, &ids.of(watch), &mut result),
            Self::DenyCategory(category) => {
                let is_beneath = |found: &str| {
                    found
                        .strip_prefix(&**category)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                };
                deny_findings(watch, |_, found| is_beneath(found), &mut result);
            }
            Self::DenyRule(ids) => deny_findings(watch, |rule, _| ids.names(rule), &mut result),
        }
        result
    }
}

impl Destinations {
    fn parse(text: Option<&str>) -> Option<Self> {
        let glob = match text {
            Some(text) => Some(PathPattern::parse(text).ok()?),
            None => None,
        };
        Some(Self { text: text.unwrap_or_default().into(), glob })
    }

    fn names(&self, id: &str) -> bool {
        self.glob.as_ref().is_some_and(|glob| glob.matches_segments_of(id))
    }

    /// The destinations of the catalogue, and of the records, that are meant.
    fn of(&self, watch: &Watch<'_>) -> Vec<DestinationId> {
        let places = watch.places.iter().map(|place| (&place.id, place.kind));
        let flows = watch
            .observation
            .flows
            .iter()
            .map(|flow| (&flow.opening.destination, flow.opening.destination_kind));
        let mut ids: Vec<DestinationId> = places
            .chain(flows)
            .filter(|(id, kind)| match &self.glob {
                Some(glob) => glob.matches_segments_of(id.as_str()),
                None => matches!(kind, DestinationKind::Telemetry | DestinationKind::FeatureFlags),
            })
            .map(|(id, _)| id.clone())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

fn silent(watch: &Watch<'_>, ids: &[DestinationId], result: &mut ControlResult) {
    if ids.is_empty() {
        result.missing.push(Missing::new(MissingKind::Occasion, "there is no destination of that name"));
        result.settle("");
        return;
    }
    let contacts = watch.contacts(ids);
    if contacts.found.total > 0 {
        result.verdict = Verdict::Fail;
        result.because = format!("{}, where silence is asked for", requests(contacts.found.total)).into();
        result.take(contacts.found);
        return;
    }
    result.missing = contacts.missing();
    result.missing.extend(watch.missing(MINIMUM));
    result.settle("nothing was sent to any of them");
}

fn observed(watch: &Watch<'_>, ids: &[DestinationId], result: &mut ControlResult) {
    let contacts = watch.contacts(ids);
    if contacts.found.total > 0 {
        result.verdict = Verdict::Pass;
        result.because = requests(contacts.found.total).into();
        result.take(contacts.found);
        return;
    }
    // Nothing was seen. Whether there was nothing to see is another question.
    result.missing = contacts.missing();
    result.missing.extend(watch.missing(MINIMUM));
    (result.verdict, result.because) = match result.missing.first() {
        None => (Verdict::Fail, "nothing was sent".into()),
        Some(missing) => (Verdict::Inconclusive, missing.detail.clone()),
    };
}

fn deny_findings(watch: &Watch<'_>, is_denied: impl Fn(&str, &str) -> bool, result: &mut ControlResult) {
    let mut found = Found::default();
    let mut unread = 0;
    for flow in &watch.observation.flows {
        let opening = &flow.opening;
        for finding in &opening.findings {
            if is_denied(finding.rule.as_str(), &finding.category) {
                found.push(Evidence {
                    path: Some(finding.path.as_str().into()),
                    rule: Some(finding.rule.as_str().into()),
                    preview: Some(finding.preview.clone()),
                    ..watch.observation.evidence(flow)
                });
            }
        }
        unread += u64::from(opening.destination_kind.fails_closed() && is_unread_request(flow));
    }
    if found.total > 0 {
        result.verdict = Verdict::Fail;
        result.because =
            format!("found {} in {}", plural(found.total, "time"), requests(found.flows() as u64)).into();
        result.take(found);
        return;
    }
    if unread > 0 {
        result.missing.push(Missing::new(
            MissingKind::Unread,
            format!("{} could not be read wholly", requests(unread)),
        ));
    }
    result.missing.extend(watch.missing(MINIMUM));
    result.settle("none was found");
}

fn is_unread_request(flow: &FlowRecord) -> bool {
    flow.opening.kind == FlowKind::Request && unread_reason(flow).is_some()
}

/// As for a control that names none.
pub(super) const MINIMUM: Minimum = Minimum { conversations: 1, seconds: 330 };
