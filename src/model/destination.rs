use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::model::ParseWordError;

/// The name of a destination: a row of `rules/destinations.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DestinationId(Arc<str>);

impl DestinationId {
    /// Makes an id from a name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DestinationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

crate::model::decision::words! {
    /// What a destination is for, which decides how much it is our business.
    DestinationKind {
        /// Prompts and answers: the product itself. Streams untouched and is not looked at.
        Conversation = "conversation",
        /// Feature flags and experiments.
        FeatureFlags = "feature-flags",
        /// What a person sends on purpose.
        Feedback = "feedback",
        /// Account, settings and limits.
        Settings = "settings",
        /// Usage data, events, metrics, traces, crash reports.
        Telemetry = "telemetry",
        /// Whoever is neither the vendor nor named in the catalogue.
        ThirdParty = "third-party",
        /// New versions of the client.
        Updates = "updates",
        /// A path of the vendor that the catalogue does not know: looked at, and reported as new.
        Unknown = "unknown",
    }
}

impl DestinationKind {
    /// Whether a request must stay here when it cannot be recorded or looked at.
    ///
    /// The conversation, and what the client needs to work at all, goes on whatever happens to us.
    pub const fn fails_closed(self) -> bool {
        match self {
            Self::Conversation | Self::Settings | Self::Updates => false,
            Self::FeatureFlags | Self::Feedback | Self::Telemetry | Self::ThirdParty | Self::Unknown => true,
        }
    }
}

/// Whom a request is for, as the catalogue has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The row's name.
    pub id: DestinationId,
    /// What it is for.
    pub kind: DestinationKind,
    /// Whether the body is captured and decoded before it is sent.
    pub inspected: bool,
}
