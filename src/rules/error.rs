use crate::rules::Place;

/// A rule file that cannot be loaded. Every variant says where, what, and where possible what was meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// An anchor that stands in no match of its regex, or a regex that matches without any of its anchors.
    #[error("{place}: rule `{rule}`: {why}")]
    Anchor {
        /// Where.
        place: Place,
        /// Which rule.
        rule: Box<str>,
        /// What is wrong.
        why: Box<str>,
    },
    /// A value that its key does not take.
    #[error("{place}: `{key}`: {why}")]
    BadValue {
        /// Where.
        place: Place,
        /// The key.
        key: Box<str>,
        /// What is wrong.
        why: Box<str>,
    },
    /// Two rules, or two packs, with one name.
    #[error("{place}: {what} `{name}` is already defined at {first}")]
    Duplicate {
        /// Where the second one stands.
        place: Place,
        /// `rule` or `pack`.
        what: &'static str,
        /// The name.
        name: Box<str>,
        /// Where the first one stands.
        first: Place,
    },
    /// A key that must be there.
    #[error("{place}: {owner} has no `{key}`")]
    MissingKey {
        /// Where the owner begins.
        place: Place,
        /// What lacks it.
        owner: Box<str>,
        /// The key.
        key: &'static str,
    },
    /// A regex that cannot be run.
    #[error("{place}: rule `{rule}`: {why}")]
    Regex {
        /// Where.
        place: Place,
        /// Which rule.
        rule: Box<str>,
        /// What is wrong.
        why: Box<str>,
    },
    /// Text that is not TOML.
    #[error("{place}: not valid TOML: {why}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser says.
        why: Box<str>,
    },
    /// A key that nobody reads.
    #[error("{place}: unknown key `{key}` in {owner}{}", did_you_mean(.meant.as_deref()))]
    UnknownKey {
        /// Where.
        place: Place,
        /// The key.
        key: Box<str>,
        /// What it stands in.
        owner: Box<str>,
        /// The nearest known key.
        meant: Option<Box<str>>,
    },
    /// A reference to something that does not exist: a validator, a finder, a method.
    #[error("{place}: unknown {what} `{name}`{}", did_you_mean(.meant.as_deref()))]
    UnknownName {
        /// Where.
        place: Place,
        /// What kind of thing.
        what: &'static str,
        /// The name as written.
        name: Box<str>,
        /// The nearest known name.
        meant: Option<Box<str>>,
    },
}

impl RuleError {
    /// Where in which file.
    pub fn place(&self) -> &Place {
        match self {
            Self::Anchor { place, .. }
            | Self::BadValue { place, .. }
            | Self::Duplicate { place, .. }
            | Self::MissingKey { place, .. }
            | Self::Regex { place, .. }
            | Self::Syntax { place, .. }
            | Self::UnknownKey { place, .. }
            | Self::UnknownName { place, .. } => place,
        }
    }
}

fn did_you_mean(meant: Option<&str>) -> String {
    meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default()
}

/// The known name that is nearest to `name`, if one is near enough to have been meant.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<Box<str>> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(name.len()) / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate.into())
}
