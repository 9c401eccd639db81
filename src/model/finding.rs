use std::{fmt, ops::Range, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::model::{FieldPath, Fingerprint, ParseWordError};

/// The name of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleId(Arc<str>);

impl RuleId {
    /// Makes an id from a name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

crate::model::decision::words! {
    /// How bad it is that a value left. Declared from mild to grave, so that comparison means something.
    Severity {
        /// Worth knowing.
        Info = "info",
        /// Narrows down who it was.
        Low = "low",
        /// Identifies a person or a machine, together with other data.
        Medium = "medium",
        /// Identifies a person, or shows their work.
        High = "high",
        /// Gives access, or shows the conversation itself.
        Critical = "critical",
    }
}

crate::model::decision::words! {
    /// How sure a rule is. Declared from doubtful to sure.
    Confidence {
        /// Looks like it.
        Low = "low",
        /// Probably.
        Medium = "medium",
        /// Almost certainly.
        High = "high",
        /// Proven, by a checksum or by the field's own name.
        Certain = "certain",
    }
}

/// A value that a rule named, as it may be kept: where it was and how long, never what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule.
    pub rule: RuleId,
    /// The rule's category, such as `pii.account`.
    pub category: Arc<str>,
    /// How bad it is.
    pub severity: Severity,
    /// How sure the rule is.
    pub confidence: Confidence,
    /// The field.
    pub path: FieldPath,
    /// Where the value stands in the body after content decoding: the smallest range that encodes it.
    /// For a header or a query, where it stands in that field's value.
    pub span: Range<u32>,
    /// Length of the value in bytes, without escapes and containers.
    pub length: u32,
    /// Keyed hash of the value, without escapes and containers.
    pub fingerprint: Fingerprint,
    /// The value as far as it may be shown, such as `b***@e***.com`.
    pub preview: Box<str>,
}
