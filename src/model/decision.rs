use std::{error::Error, fmt, sync::Arc};

/// A word that is none of a closed list's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseWordError {
    /// What was written.
    pub found: String,
    /// What can be written.
    pub expected: &'static [&'static str],
}

impl fmt::Display for ParseWordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is none of {}", self.found, self.expected.join(", "))
    }
}

impl Error for ParseWordError {}

/// Makes an enum whose variants each have one word, the same in files, tables and JSON.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "&'static str")]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// Every variant, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word for it in files, tables and JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = ParseWordError;

            fn from_str(text: &str) -> Result<Self, ParseWordError> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(ParseWordError { found: text.to_owned(), expected: Self::WORDS }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseWordError;

            fn try_from(text: String) -> Result<Self, ParseWordError> {
                text.parse()
            }
        }

        impl From<$name> for &'static str {
            fn from(value: $name) -> Self {
                value.as_str()
            }
        }
    };
}
pub(crate) use words;

use serde::{Deserialize, Serialize};

use crate::model::{PathPattern, Redaction};

words! {
    /// What policy does with a request.
    Action {
        /// Sends it on as it is.
        Allow = "allow",
        /// Answers it here; nothing is sent on.
        Block = "block",
        /// Sends it on without the values that policy names.
        Redact = "redact",
    }
}

words! {
    /// How a flow ended.
    Outcome {
        /// The client went away before the answer was complete.
        ClientGone = "client-gone",
        /// Sent on, and answered.
        Forwarded = "forwarded",
        /// Not sent on: policy, a malformed request, or a store that cannot write.
        Refused = "refused",
        /// Passed through unread.
        Tunneled = "tunneled",
        /// The other side could not be reached, or broke off.
        UpstreamFailed = "upstream-failed",
    }
}

words! {
    /// Why the content of something that left was not read.
    NotInspected {
        /// The body is larger than the limit for inspection.
        BodyTooLarge = "body-too-large",
        /// The client refused our certificate: it pins its own, or does not know our CA.
        ClientRefusedCertificate = "client-refused-certificate",
        /// The content coding could not be undone.
        CodingBroken = "coding-broken",
        /// The content coding is not one that we know.
        CodingUnsupported = "coding-unsupported",
        /// The decoded body is larger than the limit, or grows too fast from too little.
        DecodedTooLarge = "decoded-too-large",
        /// The conversation, which is not our business.
        Conversation = "conversation",
        /// The body is no valid document of the format that it claims, from some point on.
        FormatBroken = "format-broken",
        /// There is no decoder for this format.
        FormatUnsupported = "format-unsupported",
        /// Inspection failed on our side.
        InternalError = "internal-error",
        /// Nested deeper, or made of more parts, than the budget allows.
        NestingBudget = "nesting-budget",
        /// Policy did not name this host, so it was tunnelled.
        NotIntercepted = "not-intercepted",
        /// The recording that is scanned does not hold the body, or not all that was sent.
        NotRecorded = "not-recorded",
        /// Neither TLS nor HTTP: tunnelled bytes.
        UnknownProtocol = "unknown-protocol",
        /// A protocol upgrade, such as a WebSocket: what flows afterwards is not read.
        Upgraded = "upgraded",
    }
}

words! {
    /// How a blocked request is answered.
    Answer {
        /// With an error that the client understands and does not try again.
        Reject = "reject",
        /// As the service itself would, so that the client believes it was sent and keeps nothing for later.
        Sink = "sink",
    }
}

/// What policy decided about a request, and by which row.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a decision that nobody carries out protects nobody"]
pub struct Decision {
    /// What to do.
    pub action: Action,
    /// How the client is answered if the action is [`Action::Block`].
    pub answer: Answer,
    /// The row of the policy that decided, for `policy explain`.
    pub row: String,
    /// Parallel to the findings that were asked about: how each is made unreadable; `None` where it may stay.
    /// Only meant to be carried out if the action is [`Action::Redact`].
    pub redactions: Vec<Option<RedactBy>>,
    /// What becomes of the fields in which no rule found anything; `None` where they may stay.
    pub unknown_fields: Option<Arc<UnknownFields>>,
}

/// By whose method a finding is made unreadable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedactBy {
    /// The row of the policy says how.
    Policy(Arc<Redaction>),
    /// As the rule that found it says.
    Rule,
}

/// What becomes of fields in which no rule found anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFields {
    /// How their values are made unreadable.
    pub redact: Redaction,
    /// The fields that stay as they are.
    pub keep: Vec<PathPattern>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_json() {
        for reason in NotInspected::ALL {
            let text = serde_json::to_string(reason).unwrap();

            assert_eq!(serde_json::from_str::<NotInspected>(&text).unwrap(), *reason);
        }
    }

    #[test]
    fn an_unknown_word_names_the_known_ones() {
        let error = "permit".parse::<Action>().unwrap_err();

        assert_eq!(error.to_string(), "`permit` is none of allow, block, redact");
    }
}
