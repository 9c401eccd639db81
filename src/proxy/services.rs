//! What the proxy asks of the rest of the house, as traits: inspection, the audit log, certificates.

use std::{error::Error, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::HeaderMap;
use rustls::sign::CertifiedKey;

use crate::model::{
    Authority, CapturedRequest, Destination, DestinationId, FlowClosing, FlowId, FlowOpening, Host,
    LocalAnswer, NotInspected, RequestHead, RewrittenRequest,
};

/// Everything that the proxy asks of others.
#[derive(Clone)]
pub struct Services {
    /// Whom a request is for, and what is in it.
    pub inspection: Arc<dyn Inspection>,
    /// Where records go.
    pub audit: Arc<dyn Audit>,
    /// Where certificates for intercepted hosts come from.
    pub leaves: Arc<dyn Leaves>,
}

/// Says what is decrypted and looked at, and looks at it. Pure: no I/O, no waiting.
pub trait Inspection: Send + Sync + 'static {
    /// Whether connections to `authority` are decrypted.
    fn intercepts(&self, authority: &Authority) -> bool;

    /// Says whom a request is for.
    fn classify(&self, head: &RequestHead) -> Destination;

    /// Looks at a captured request. CPU-bound; called on a blocking thread for large bodies. May panic: that
    /// costs one request.
    fn inspect(&self, request: CapturedRequest, destination: Destination, time_ms: i64) -> Inspected;

    /// The record of a request whose body is not looked at: it streams (no `reason`: the destination says why), or was
    /// refused or broken before inspection.
    fn uninspected(
        &self,
        id: FlowId,
        head: &RequestHead,
        destination: &Destination,
        time_ms: i64,
        reason: Option<NotInspected>,
    ) -> FlowOpening;

    /// Whether a request must stay here when it cannot be recorded or looked at.
    fn fails_closed(&self, destination: &Destination) -> bool;

    /// What becomes of a request when plainsight cannot do its work: inspection broke (`reason`), or there is no record
    /// of it. What stays here then has its answer; the conversation, and what the client needs to work, goes on.
    fn failed(
        &self,
        id: FlowId,
        head: &RequestHead,
        destination: &Destination,
        time_ms: i64,
        reason: Option<NotInspected>,
    ) -> Inspected;

    /// The record of a tunnel, or of a connection on which no request could be read. There is no authority when
    /// the client never named one.
    fn tunnel(
        &self,
        id: FlowId,
        authority: Option<&Authority>,
        time_ms: i64,
        reason: Option<NotInspected>,
    ) -> FlowOpening;
}

/// What came of an inspection.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The record to write before anything leaves.
    pub opening: FlowOpening,
    /// What leaves.
    pub forward: Forward,
    /// What went wrong on our side, for people; never payload text.
    pub error: Option<String>,
}

/// What is sent on.
#[allow(clippy::large_enum_variant, reason = "there is one a request, and it is moved once")]
#[derive(Clone, Debug)]
pub enum Forward {
    /// The client's own bytes.
    Original,
    /// Nothing: the client gets this answer.
    Refused(LocalAnswer),
    /// This instead of what the client sent.
    Rewritten(RewrittenRequest),
}

/// Keeps the records.
pub trait Audit: Send + Sync + 'static {
    /// The next flow's number. Never waits.
    fn next_id(&self) -> FlowId;

    /// Opens a record; it is durable once this resolves. If the future is dropped before, the record may exist all
    /// the same: whoever keeps it closes it then.
    fn open(&self, opening: FlowOpening) -> Opened;

    /// Opens a record without waiting for it to be durable. Never waits, never fails: what cannot be kept is lost.
    fn open_unwaited(&self, opening: FlowOpening) -> Box<dyn Entry>;
}

/// Learns from answers that pass by. An answer is never delayed or changed for it.
pub trait Answers: Send + Sync + 'static {
    /// Whether answers of `destination` are to be shown to it.
    fn wants(&self, destination: &DestinationId) -> bool;

    /// Shows a whole answer with a status of 200, in its transport form. Must not wait.
    fn learn(&self, answer: Answer);
}

/// An answer that passed by.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Whose it is.
    pub destination: DestinationId,
    /// When its request arrived, in milliseconds since 1970 (UTC).
    pub time_ms: i64,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body, content coding included.
    pub body: Bytes,
}

/// A record on its way to being durable.
pub type Opened = Pin<Box<dyn Future<Output = Result<Box<dyn Entry>, AuditUnavailable>> + Send>>;

/// An open record.
#[must_use = "an open entry must be closed with its record"]
pub trait Entry: Send + Sync {
    /// Closes the record. Never waits.
    fn close(self: Box<Self>, closing: FlowClosing);
}

/// The audit log cannot write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot write: {0}")]
pub struct AuditUnavailable(pub String);

/// Makes certificates for intercepted hosts.
pub trait Leaves: Send + Sync + 'static {
    /// A certificate and its key for `host`. Cached by whoever implements it.
    ///
    /// # Errors
    /// The host is outside what the CA may sign, or its name cannot stand in a certificate.
    fn certificate(&self, host: &Host) -> Result<Arc<CertifiedKey>, LeafError>;
}

/// There is no certificate for a host.
#[derive(Debug, thiserror::Error)]
#[error("no certificate for `{host}`: {source}")]
pub struct LeafError {
    /// The host.
    pub host: Host,
    /// Why.
    pub source: Box<dyn Error + Send + Sync>,
}
