//! The words that everyone shares. Plain data with no I/O, no clock and no policy; every other room speaks in them.

mod authority;
mod authority_pattern;
mod captured;
mod connect_to;
mod decision;
mod destination;
mod document;
mod finding;
mod fingerprint;
mod id;
mod path;
mod path_writer;
mod record;
mod redaction;
mod request;
mod secret;
mod size;

pub use authority::{Authority, AuthorityError, Host};
pub use authority_pattern::{AuthorityPattern, AuthorityPatternError, PatternReach};
pub use captured::{CapturedField, CapturedFields};
pub(crate) use captured::{push_number, push_text, shared_prefix, take_number, take_text};
pub use connect_to::{ConnectTo, ConnectToError};
pub(crate) use decision::words;
pub use decision::{Action, Decision, NotInspected, Outcome, ParseWordError};
pub use destination::{Destination, DestinationId, DestinationKind};
pub use document::{
    BinaryNumber, Change, Document, DocumentBuilder, Field, FieldKind, Mark, Name, NodeId, SpanMap, TextId,
};
pub use finding::{Confidence, Finding, RuleId, Severity};
pub use fingerprint::{Fingerprint, FingerprintKey};
pub use id::{FlowId, IdError, RunId};
pub use path::{FieldPath, PathPattern, PatternError};
pub use path_writer::PathWriter;
pub use record::{
    FlowClosing, FlowKind, FlowOpening, FlowRecord, RunClosing, RunOpening, RunRecord, SentCredential, Watch,
};
pub use redaction::{Edit, PseudonymScope, Redaction, Replacement, Template, TemplatePart};
pub use request::{CapturedBody, CapturedRequest, RequestHead, Scheme};
pub use secret::Secret;
pub use size::ByteSize;
