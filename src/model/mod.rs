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
mod local_answer;
mod path;
mod path_writer;
mod record;
mod redaction;
mod redaction_reader;
mod request;
mod secret;
mod size;
mod switch;
mod toml_reader;
mod version;

pub use authority::{Authority, AuthorityError, Host};
pub use authority_pattern::{AuthorityPattern, AuthorityPatternError, PatternReach};
pub use captured::{CapturedField, CapturedFields};
pub(crate) use captured::{push_number, push_text, shared_prefix, take_number, take_text};
pub use connect_to::{ConnectTo, ConnectToError};
pub(crate) use decision::words;
pub use decision::{
    Action, Answer, Decision, NotInspected, Outcome, ParseWordError, RedactBy, UnknownFields,
};
pub use destination::{Destination, DestinationId, DestinationKind};
pub use document::{
    BinaryNumber, Change, Digits, Document, DocumentBuilder, Field, FieldKind, Label, Mark, Name, NodeId,
    Piece, SpanMap, TextId,
};
pub use finding::{Confidence, Finding, RuleId, Severity};
pub use fingerprint::{Fingerprint, FingerprintKey};
pub use id::{FlowId, IdError, RunId};
pub use local_answer::LocalAnswer;
pub use path::{FieldPath, PathPattern, PatternError};
pub use path_writer::PathWriter;
pub use record::{
    AppliedEdit, FlowClosing, FlowKind, FlowOpening, FlowRecord, Rewriting, RunClosing, RunOpening,
    RunRecord, SentCredential, Watch,
};
pub use redaction::{Edit, PseudonymScope, Redaction, Replacement, Template, TemplatePart};
pub(crate) use redaction_reader::read_redaction;
pub use request::{CapturedBody, CapturedRequest, RequestHead, RewrittenRequest, Scheme};
pub use secret::Secret;
pub use size::ByteSize;
pub use switch::{
    EffectiveSwitch, EffectiveSwitches, Provider, SwitchLayer, SwitchRule, SwitchSetting, SwitchState,
    ValueRule,
};
pub(crate) use toml_reader::{File, Table};
pub use toml_reader::{Place, TomlError, nearest};
pub use version::{ClientVersion, NoVersion, VersionRange};
