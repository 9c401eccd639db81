//! What was promised against what left: controls and claims (data) over the records of a run, to verdicts with evidence.
//!
//! Pure: no clock, no file, no catalogue of its own. Whoever calls brings the records, what the client was told, and which
//! hosts belong to which destination. The wall: this room judges; it neither reads the log nor prints.
//!
//! A verdict is honest or it is none. `pass` takes more than silence: the same run must show the client at work, must
//! have lasted or ended, and must have had no way around us. Whatever lacks is named, and the verdict is `inconclusive`.

mod assertion;
mod baseline;
mod check;
mod claims;
mod controls;
mod drift;
mod judge;
mod observation;
mod read;
mod report;
#[cfg(test)]
mod tests;

pub use assertion::{Assertion, AssertionError, Destinations};
pub use baseline::{Acceptance, Baseline};
pub use check::{Checks, check};
pub use claims::{Claim, Claims, Statement};
pub use controls::{
    Condition, Control, Controls, Expectation, Known, Minimum, Occasion, ProviderHosts, SourceClass,
    SwitchInfo,
};
pub use drift::{Change, Drift, Named, Profile};
pub use observation::{DestinationHosts, Ended, Observation, Subject};
pub use read::ComplianceError;
pub use report::{
    Accepted, CheckReport, ClaimResult, ClaimVerdict, ControlResult, Coverage, Evidence, Missing,
    MissingKind, Outcome, ResultKind, Source, SubjectReport, Tally, Unpromised, UnreadHost, Verdict,
};

/// The controls that are built in.
pub const EMBEDDED_CONTROLS: &str = include_str!("../../rules/controls.toml");

/// The claims that are built in.
pub const EMBEDDED_CLAIMS: &str = include_str!("../../rules/claims.toml");
