use crate::model::{Place, TomlError};

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
    /// A file that is not written as it must be.
    #[error(transparent)]
    Written(#[from] TomlError),
}

impl RuleError {
    /// Where in which file.
    pub fn place(&self) -> &Place {
        match self {
            Self::Anchor { place, .. } | Self::Duplicate { place, .. } | Self::Regex { place, .. } => place,
            Self::Written(error) => error.place(),
        }
    }
}
