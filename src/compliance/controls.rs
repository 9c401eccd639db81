//! Controls: which switch promises what of whom, since when, and who says so. Data in `rules/controls.toml`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::{
    compliance::{
        ComplianceError, EMBEDDED_CONTROLS, Source,
        read::{self, unknown},
    },
    model::{
        AuthorityPattern, ClientVersion, DestinationId, EffectiveSwitches, ParseWordError, PathPattern,
        Provider, SwitchRule, SwitchState, ValueRule, VersionRange,
    },
};

crate::model::words! {
    /// What a control says of a destination.
    Expectation {
        /// Some field stays away; the rest may be sent.
        AbsentField = "absent-field",
        /// Nobody says: the documentation is silent. Never a pass, never a failure.
        Inconclusive = "inconclusive",
        /// Something was sent. For ad-hoc assertions.
        Observed = "observed",
        /// Nothing is sent at all.
        Silent = "silent",
        /// The switch does not reach it, and is not meant to.
        Unaffected = "unaffected",
    }
}

crate::model::words! {
    /// Who says so. Declared from the strongest to the weakest.
    SourceClass {
        /// The vendor's documentation.
        Documented = "documented",
        /// The vendor's list of changes.
        VendorChangelog = "vendor-changelog",
        /// A recording shows it.
        Measured = "measured",
        /// Somebody else wrote it.
        ThirdParty = "third-party",
    }
}

/// A switch that the file knows.
#[derive(Clone, Debug)]
pub struct SwitchInfo {
    /// Name and how its value counts.
    pub rule: SwitchRule,
    /// What it is for, in a few words.
    pub title: Box<str>,
    /// The name that took its place.
    pub renamed: Option<Box<str>>,
    /// Why it does nothing of what people set it for.
    pub does_nothing: Option<Box<str>>,
    /// Who says so.
    pub source: Source,
}

/// Where a provider's conversation goes.
#[derive(Clone, Debug)]
pub struct ProviderHosts {
    /// The provider.
    pub provider: Provider,
    /// Its hosts.
    pub hosts: Vec<AuthorityPattern>,
}

/// One of the things that must hold for a control to be in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The switch.
    pub switch: SwitchRule,
    /// Its state.
    pub state: SwitchState,
    /// Whether it is enough that the switch is not in force: off or not set.
    pub negated: bool,
}

impl Condition {
    /// Whether it holds.
    pub fn holds(&self, told: &EffectiveSwitches) -> bool {
        (told.state(&self.switch) == self.state) != self.negated
    }
}

/// What must have been seen before silence means anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minimum {
    /// Requests of the conversation that were answered: the client was at work.
    pub conversations: u64,
    /// How long to have watched, unless the client ended by itself.
    pub seconds: u64,
}

/// What shows that a field could have been there: without it, its absence says nothing.
#[derive(Clone, Debug)]
pub struct Occasion {
    /// What happened, in words.
    pub title: Box<str>,
    /// Any of these fields.
    pub fields: Vec<PathPattern>,
    /// With one of these values, if any are named.
    pub values: Vec<Box<str>>,
}

/// One promise.
#[derive(Clone, Debug)]
pub struct Control {
    /// Its name.
    pub id: Box<str>,
    /// What it promises, in a sentence.
    pub title: Box<str>,
    /// When it is in force: of each list one must hold.
    pub when: Vec<Vec<Condition>>,
    /// For which providers; none: any.
    pub providers: Vec<Provider>,
    /// For which client versions.
    pub versions: VersionRange,
    /// Whom it is about.
    pub destinations: Vec<DestinationId>,
    /// What it says of them.
    pub expect: Expectation,
    /// The fields that stay away.
    pub fields: Vec<PathPattern>,
    /// Only with these values, if any are named: globs.
    pub values: Vec<Box<str>>,
    /// Values that stand for a field that was left out.
    pub placeholders: Vec<Box<str>>,
    /// What shows that the fields could have been there.
    pub occasion: Option<Occasion>,
    /// What must have been seen.
    pub minimum: Minimum,
    /// Who says so.
    pub source: Source,
    /// Versions in which it is known not to hold, and who says so.
    pub known: Vec<Known>,
}

/// Versions in which a control is known not to hold.
#[derive(Clone, Debug)]
pub struct Known {
    /// The versions.
    pub versions: VersionRange,
    /// Of these destinations.
    pub destinations: Vec<DestinationId>,
    /// What is known.
    pub note: Box<str>,
    /// Who says so.
    pub class: SourceClass,
}

impl Control {
    /// Whether it is in force. An unknown version counts as any.
    pub fn is_in_force(&self, told: &EffectiveSwitches, version: Option<ClientVersion>) -> bool {
        self.when.iter().all(|any| any.iter().any(|condition| condition.holds(told)))
            && (self.providers.is_empty() || self.providers.contains(&told.provider))
            && version.is_none_or(|version| self.versions.contains(version))
    }
}

/// All controls, the switches that they are about, and where providers are.
#[derive(Clone, Debug)]
pub struct Controls {
    /// The switches that are known.
    pub switches: Vec<SwitchInfo>,
    /// Where conversations go.
    pub providers: Vec<ProviderHosts>,
    /// The promises.
    pub controls: Vec<Control>,
}

impl Controls {
    /// Reads a file of controls. `destinations` are the ids that may be named.
    ///
    /// # Errors
    /// What is no such file, with its line and what was perhaps meant.
    pub fn from_toml<'d>(
        name: &str,
        text: &str,
        destinations: impl IntoIterator<Item = &'d str>,
    ) -> Result<Self, ComplianceError> {
        let file: File = read::toml(name, text)?;
        let known: BTreeSet<&str> = destinations.into_iter().collect();
        let error = |at: usize, why: String| ComplianceError::new(name, text, at, why);
        if *file.schema.get_ref() != SCHEMA {
            return Err(error(file.schema.span().start, "this version reads schema 1".to_owned()));
        }
        let mut seen = BTreeSet::new();
        let mut switches = Vec::with_capacity(file.switch.len());
        for spec in file.switch {
            let at = spec.span().start;
            let switch = spec.into_inner().compile();
            if !seen.insert(switch.rule.name.clone()) {
                return Err(error(at, format!("switch `{}` stands there twice", switch.rule.name)));
            }
            switches.push(switch);
        }
        let mut controls = Vec::with_capacity(file.control.len());
        let mut ids = BTreeSet::new();
        for spec in file.control {
            let at = spec.span().start;
            let spec = spec.into_inner();
            let id = spec.id.clone();
            let control =
                spec.compile(&switches, &known).map_err(|why| error(at, format!("control `{id}`: {why}")))?;
            if !ids.insert(control.id.clone()) {
                return Err(error(at, format!("control `{id}` stands there twice")));
            }
            controls.push(control);
        }
        let mut providers = Vec::with_capacity(file.provider.len());
        for spec in file.provider {
            let at = spec.span().start;
            let spec = spec.into_inner();
            let hosts = spec.hosts.iter().map(|host| AuthorityPattern::parse(host));
            let hosts = hosts.collect::<Result<_, _>>().map_err(|why| error(at, why.to_string()))?;
            providers.push(ProviderHosts { provider: spec.id, hosts });
        }
        Ok(Self { switches, providers, controls })
    }

    /// The built-in controls.
    ///
    /// # Errors
    /// As [`Self::from_toml`]: the catalogue may lack a destination that they name.
    pub fn embedded<'d>(destinations: impl IntoIterator<Item = &'d str>) -> Result<Self, ComplianceError> {
        Self::from_toml("controls.toml", EMBEDDED_CONTROLS, destinations)
    }

    /// The rules of every switch, for whoever reads an environment.
    pub fn rules(&self) -> Vec<SwitchRule> {
        self.switches.iter().map(|switch| switch.rule.clone()).collect()
    }

    /// What is known of a switch.
    pub fn switch(&self, name: &str) -> Option<&SwitchInfo> {
        self.switches.iter().find(|switch| &*switch.rule.name == name)
    }
}

/// The one version of the format that exists.
const SCHEMA: u32 = 1;

/// Metrics are exported every five minutes, and half a minute is left for slow machines.
const DEFAULT_SECONDS: u64 = 330;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: Spanned<u32>,
    #[serde(rename = "version")]
    _version: String,
    #[serde(default)]
    switch: Vec<Spanned<SwitchSpec>>,
    #[serde(default)]
    provider: Vec<Spanned<ProviderSpec>>,
    #[serde(default)]
    control: Vec<Spanned<Spec>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SwitchSpec {
    name: String,
    value: ValueRule,
    title: String,
    renamed: Option<String>,
    does_nothing: Option<String>,
    source: String,
    class: SourceClass,
}

impl SwitchSpec {
    fn compile(self) -> SwitchInfo {
        SwitchInfo {
            rule: SwitchRule { name: self.name.into(), value: self.value },
            title: self.title.into(),
            renamed: self.renamed.map(Into::into),
            does_nothing: self.does_nothing.map(Into::into),
            source: Source { text: self.source.into(), class: self.class },
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderSpec {
    id: Provider,
    hosts: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    id: String,
    title: String,
    #[serde(default)]
    when: Vec<String>,
    #[serde(default)]
    providers: Vec<Provider>,
    #[serde(default = "any")]
    versions: String,
    destinations: Vec<String>,
    expect: Expectation,
    #[serde(default)]
    fields: Vec<String>,
    #[serde(default)]
    values: Vec<String>,
    #[serde(default)]
    placeholders: Vec<String>,
    occasion: Option<OccasionSpec>,
    #[serde(default)]
    minimum: MinimumSpec,
    source: String,
    class: SourceClass,
    #[serde(default)]
    known: Vec<KnownSpec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OccasionSpec {
    title: String,
    fields: Vec<String>,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct MinimumSpec {
    conversations: Option<u64>,
    seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownSpec {
    versions: String,
    destinations: Vec<String>,
    note: String,
    class: SourceClass,
}

fn any() -> String {
    "*".to_owned()
}

impl Spec {
    fn compile(self, switches: &[SwitchInfo], known: &BTreeSet<&str>) -> Result<Control, String> {
        let alternatives = |text: &String| text.split(" or ").map(|text| condition(text, switches)).collect();
        let when = self.when.iter().map(alternatives).collect::<Result<_, _>>()?;
        let destinations = destinations(&self.destinations, known)?;
        if destinations.is_empty() {
            return Err("`destinations` is empty".to_owned());
        }
        match (self.expect, self.fields.is_empty()) {
            (Expectation::AbsentField, true) => return Err("`absent-field` wants `fields`".to_owned()),
            (Expectation::AbsentField, false) | (_, true) => {}
            (expect, false) => return Err(format!("`{expect}` is about whole requests and has no `fields`")),
        }
        let has_occasion = self.occasion.is_some();
        Ok(Control {
            id: self.id.into(),
            title: self.title.into(),
            when,
            providers: self.providers,
            versions: versions(&self.versions)?,
            destinations,
            expect: self.expect,
            fields: patterns(&self.fields)?,
            values: self.values.into_iter().map(Into::into).collect(),
            placeholders: self.placeholders.into_iter().map(Into::into).collect(),
            occasion: self.occasion.map(OccasionSpec::compile).transpose()?,
            // Where an occasion is named it shows by itself that the client was at work.
            minimum: Minimum {
                conversations: self.minimum.conversations.unwrap_or(u64::from(!has_occasion)),
                seconds: self.minimum.seconds.unwrap_or(DEFAULT_SECONDS),
            },
            source: Source { text: self.source.into(), class: self.class },
            known: self.known.into_iter().map(|spec| spec.compile(known)).collect::<Result<_, _>>()?,
        })
    }
}

impl KnownSpec {
    fn compile(self, known: &BTreeSet<&str>) -> Result<Known, String> {
        Ok(Known {
            versions: versions(&self.versions)?,
            destinations: destinations(&self.destinations, known)?,
            note: self.note.into(),
            class: self.class,
        })
    }
}

impl OccasionSpec {
    pub(super) fn compile(self) -> Result<Occasion, String> {
        Ok(Occasion {
            title: self.title.into(),
            fields: patterns(&self.fields)?,
            values: self.values.into_iter().map(Into::into).collect(),
        })
    }
}

/// Reads `SWITCH=on`, `SWITCH=off`, `SWITCH=unset` or `SWITCH=not-on`.
fn condition(text: &str, switches: &[SwitchInfo]) -> Result<Condition, String> {
    let (name, state) = text.split_once('=').ok_or_else(|| format!("`{text}` is no SWITCH=STATE"))?;
    let switch = switches
        .iter()
        .find(|switch| &*switch.rule.name == name)
        .ok_or_else(|| unknown("switch", name, switches.iter().map(|switch| &*switch.rule.name)))?;
    let (state, negated) = match state {
        "not-on" => (SwitchState::On, true),
        state => {
            let state = state.parse().map_err(|error: ParseWordError| format!("{error}, not-on"))?;
            (state, false)
        }
    };
    Ok(Condition { switch: switch.rule.clone(), state, negated })
}

pub(super) fn destinations(names: &[String], known: &BTreeSet<&str>) -> Result<Vec<DestinationId>, String> {
    names
        .iter()
        .map(|name| match known.contains(name.as_str()) {
            true => Ok(DestinationId::new(name)),
            false => Err(unknown("destination", name, known.iter().copied())),
        })
        .collect()
}

fn patterns(texts: &[String]) -> Result<Vec<PathPattern>, String> {
    texts.iter().map(|text| PathPattern::parse(text).map_err(|error| error.to_string())).collect()
}

fn versions(text: &str) -> Result<VersionRange, String> {
    text.parse().map_err(|_| {
        format!("versions `{text}` are none of `*`, `>=2.1.120`, `<2.1.120`, `2.0.0 to 2.1.119`, `2.1.37`")
    })
}
