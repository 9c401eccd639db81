use std::{net::IpAddr, sync::Arc};

use regex_automata::meta::Regex;

use crate::{
    model::{Confidence, PathPattern, Place, Redaction, RuleId, Severity},
    rules::{finders::Finder, matcher::Matcher, validators::Check},
};

/// A rule as it is written, checked and typed.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name.
    pub id: RuleId,
    /// Its name for people.
    pub title: Box<str>,
    /// What kind of thing it names, such as `EMAIL_ADDRESS`.
    pub entity: Box<str>,
    /// Such as `pii.account`.
    pub category: Arc<str>,
    /// How bad a hit is.
    pub severity: Severity,
    /// How sure a hit is, before context and checksums.
    pub confidence: Confidence,
    /// Why it matters, in one sentence; empty if the file does not say.
    pub why: Box<str>,
    /// The pack that it came with.
    pub pack: Arc<str>,
    /// Where it is written.
    pub place: Place,
    /// What it looks at.
    pub kind: Kind,
    /// Fields that it holds for.
    pub paths: Vec<PathPattern>,
    /// Fields that it does not hold for.
    pub paths_not: Vec<PathPattern>,
    /// Destinations that it holds for; empty means all.
    pub destinations: Vec<Box<str>>,
    /// Containers that may be opened to look inside.
    pub decode: Vec<Container>,
    /// What a hit's value must pass, in order.
    pub checks: Vec<Check>,
    /// Checks that change a hit's confidence and never hide it.
    pub grades: Vec<(Check, Confidence)>,
    /// Words nearby that change a hit's confidence.
    pub context: Option<Context>,
    /// Values that are no finding.
    pub allow: Vec<Allow>,
    /// Whole values that are no finding.
    pub unless_value: Vec<Box<str>>,
    /// What stays readable inside a value that is a container.
    pub inside: Option<Inside>,
    /// How a value is made unreadable.
    pub redact: Redaction,
    /// Its samples.
    pub samples: Vec<Sample>,
}

impl Rule {
    /// Whether the rule looks at what is sent to `destination`.
    pub fn holds_for(&self, destination: &str) -> bool {
        self.destinations.is_empty() || self.destinations.iter().any(|id| **id == *destination)
    }
}

/// What a rule looks at.
#[derive(Clone, Debug)]
pub enum Kind {
    /// The whole value of certain fields, whatever it looks like.
    Field,
    /// Exact values that this machine knows.
    Known(Known),
    /// Anything that looks like it, in any text.
    Value(Shape),
}

impl Kind {
    /// The word for it in files.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Field => "field",
            Self::Known(_) => "known",
            Self::Value(_) => "value",
        }
    }
}

/// What a value looks like, and how it is found.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Literals, one of which stands in every match.
    pub anchors: Vec<Box<str>>,
    /// A built-in finder, instead of anchors.
    pub finder: Option<Finder>,
    /// Bytes before an anchor that a match may begin at.
    pub back: usize,
    /// Bytes after an anchor's start that a match may reach to.
    pub max_len: usize,
    /// The regex as written.
    pub regex: Box<str>,
    /// Whether the value is all of what the finder found, so that the regex must match that from end to end.
    pub(super) whole: bool,
    /// The regex as run.
    pub(super) matcher: Matcher,
}

/// Values that this machine knows, by where they come from.
#[derive(Clone, Debug)]
pub struct Known {
    /// Such as `os:username` or `env:*_TOKEN`.
    pub sources: Vec<Box<str>>,
    /// Shorter values are too common to be looked for.
    pub min_len: usize,
    /// The forms that are looked for.
    pub variants: Vec<Variant>,
}

/// A form of a known value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Variant {
    Base64,
    Json,
    Lower,
    Percent,
    Raw,
}

/// A container that holds further text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Container {
    Base64,
    Json,
    Percent,
}

/// Words nearby that make a hit more (or less) likely.
#[derive(Clone, Debug)]
pub struct Context {
    /// The words, lower case.
    pub words: Vec<Box<str>>,
    /// How many bytes before and after a hit count as nearby.
    pub within: usize,
    /// The confidence of a hit with such a word nearby.
    pub adds: Confidence,
}

/// A value that is no finding, and why.
#[derive(Clone, Debug)]
pub struct Allow {
    /// Which values.
    pub what: Allowed,
    /// Why; empty if the file does not say.
    pub reason: Box<str>,
    /// The last day on which it holds, as `YYYY-MM-DD`: see [`RuleSet::from_sources_at`](crate::rules::RuleSet::from_sources_at).
    pub expires: Option<Box<str>>,
}

/// Which values an [`Allow`] names.
#[derive(Clone, Debug)]
pub enum Allowed {
    /// Addresses in this network.
    Cidr(Network),
    /// Exactly this value.
    Exact(Box<str>),
    /// What this regex finds something in.
    Regex(Regex),
    /// Values that end in this.
    Suffix(Box<str>),
}

/// A network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// First address.
    pub address: IpAddr,
    /// Bits that count.
    pub bits: u8,
}

impl Network {
    /// Parses `10.0.0.0/8`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let bits: u8 = bits.parse().ok()?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        (bits <= widest).then_some(Self { address, bits })
    }

    /// Whether `address` lies in it.
    pub(super) fn contains(self, address: IpAddr) -> bool {
        let bits = u32::from(self.bits);
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros() >= bits
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros() >= bits
            }
            _ => false,
        }
    }
}

/// What stays readable inside a container that is redacted leaf by leaf.
#[derive(Clone, Debug, Default)]
pub struct Inside {
    /// Members that stay.
    pub keep_keys: Vec<Box<str>>,
    /// Types that stay: `bool`, `null`, `number`.
    pub keep_types: Vec<Box<str>>,
    /// Whether value rules still look at what stays.
    pub value_rules: bool,
}

/// An example that proves a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sample {
    /// The rule finds something in this text; if `span` is given, exactly that, and nothing else.
    Hit {
        /// The text, with generators.
        text: Box<str>,
        /// What is found.
        span: Option<Box<str>>,
    },
    /// The rule finds this field's value.
    HitPath {
        /// The field.
        path: Box<str>,
        /// Its value.
        value: Box<str>,
        /// What redaction makes of it.
        out: Option<Box<str>>,
    },
    /// The rule finds nothing in this text.
    Miss {
        /// The text, with generators.
        text: Box<str>,
    },
    /// The rule does not hold for this field and value.
    MissPath {
        /// The field.
        path: Box<str>,
        /// Its value.
        value: Box<str>,
    },
}
