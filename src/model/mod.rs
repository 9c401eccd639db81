//! The words that everyone shares. Plain data with no I/O, no clock and no policy; every other room speaks in them.

mod authority;
mod authority_pattern;
mod connect_to;
mod decision;
mod destination;
mod document;
mod finding;
mod fingerprint;
mod id;
mod path;
mod record;
mod request;
mod secret;
mod size;

pub use authority::{Authority, AuthorityError, Host};
pub use authority_pattern::{AuthorityPattern, AuthorityPatternError, PatternReach};
pub use connect_to::{ConnectTo, ConnectToError};
pub(crate) use decision::words;
pub use decision::{Action, Decision, NotInspected, Outcome, ParseWordError};
pub use destination::{Destination, DestinationId, DestinationKind};
pub use document::{
    BinaryNumber, Document, DocumentBuilder, Field, FieldKind, Mark, Name, NodeId, SpanMap, TextId,
};
pub use finding::{Confidence, Finding, RuleId, Severity};
pub use fingerprint::{Fingerprint, FingerprintKey};
pub use id::{FlowId, IdError, RunId};
pub use path::{FieldPath, PathPattern, PatternError};
pub use record::{
    CapturedField, FlowClosing, FlowKind, FlowOpening, FlowRecord, RunClosing, RunOpening, RunRecord,
};
pub use request::{CapturedBody, CapturedRequest, RequestHead, Scheme};
pub use secret::Secret;
pub use size::ByteSize;
