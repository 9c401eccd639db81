//! Rules: names what is personal or secret in a document. As written ([`Rule`]) and as run ([`RuleSet`]) are apart.
//! Knows no file, no clock and no policy: it is given texts and says where something stands, not what to do about it.

mod around;
mod check;
mod error;
mod fields;
mod finders;
mod grams;
mod heads;
mod known;
mod literals;
mod matcher;
mod outlines;
mod preview;
mod read;
mod required;
mod samples;
mod scan;
mod set;
mod spec;
mod stand_in;
mod tail;
#[cfg(test)]
mod tests;
mod validators;

pub use check::CrossHit;
pub use error::RuleError;
pub use finders::Finder;
pub use known::KnownValue;
pub use preview::preview;
pub use samples::{HitSample, SampleFailure};
pub use scan::{Hit, Scratch};
pub use set::RuleSet;
pub use spec::{
    Allow, Allowed, Container, Context, Inside, Kind, Known, Network, Rule, Sample, Shape, Variant,
};
pub use validators::Check;

/// A rule file: its name for messages, and its TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Such as `secrets.toml`.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// The rule files that ship with the program.
pub fn embedded() -> Vec<Source> {
    macro_rules! packs {
        ($($name:literal),+ $(,)?) => {
            vec![$(Source {
                name: $name.to_owned(),
                text: include_str!(concat!("../../rules/detectors/", $name)).to_owned(),
            }),+]
        };
    }
    packs![
        "core.toml",
        "identity.toml",
        "content.toml",
        "environment.toml",
        "secrets.toml",
        "head.toml",
        "feedback.toml"
    ]
}
