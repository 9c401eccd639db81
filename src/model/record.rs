use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::model::{
    Action, Answer, CapturedFields, DestinationId, DestinationKind, FieldPath, Finding, Fingerprint, FlowId,
    NotInspected, Outcome, ParseWordError, RunId,
};

crate::model::decision::words! {
    /// What kind of flow a record is about.
    FlowKind {
        /// One request and its answer.
        Request = "request",
        /// A tunnel whose bytes were passed through unread.
        Tunnel = "tunnel",
    }
}

/// A credential that was sent: where, and a keyed hash of it. Its value is in no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentCredential {
    /// The field, such as `header:x-api-key`.
    pub path: FieldPath,
    /// Keyed hash of the value, without escapes and without a scheme such as `Bearer`.
    pub fingerprint: Fingerprint,
}

/// What was changed before something left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewriting {
    /// Bytes of the body that was sent on, content coding included.
    pub body_bytes: u64,
    /// The changes, in order of place.
    pub edits: Vec<AppliedEdit>,
    /// How many more there were than are listed.
    pub edits_left_out: u32,
}

/// One change of a field. Neither what stood there nor what of it was kept is in any record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedEdit {
    /// The field.
    pub path: FieldPath,
    /// How, such as `pseudonym`.
    pub method: Box<str>,
    /// Length in bytes of what went, without escapes and containers.
    pub before: u32,
    /// Length in bytes of what came.
    pub after: u32,
    /// What came, where it holds nothing of the value; else empty.
    pub with: Box<str>,
}

/// What is written before anything leaves. Its debug form has the length of the body only.
#[derive(Clone, Serialize, Deserialize)]
pub struct FlowOpening {
    /// Its number.
    #[serde(skip, default = "placeholder_id")]
    pub id: FlowId,
    /// When the request's head had arrived, in milliseconds since 1970 (UTC).
    pub time_ms: i64,
    /// Request or tunnel.
    pub kind: FlowKind,
    /// Whom it is for; `None` for a tunnel to a host that the catalogue does not know.
    pub destination: DestinationId,
    /// What the destination is for.
    pub destination_kind: DestinationKind,
    /// The method; `CONNECT` for a tunnel.
    pub method: Box<str>,
    /// `http` or `https`; empty for a tunnel.
    pub scheme: Box<str>,
    /// Host and port.
    pub authority: Box<str>,
    /// Path and query, with credentials and findings masked; empty for a tunnel.
    pub path: Box<str>,
    /// The HTTP version that the client spoke, such as `HTTP/1.1`.
    pub version: Box<str>,
    /// The client's `User-Agent`, cut at 200 bytes.
    pub user_agent: Option<Box<str>>,
    /// Keyed hash of the client's own session id, if the request named one.
    pub session: Option<Fingerprint>,
    /// Bytes of the request body as it was sent; for a streamed body what its head announced, or zero.
    pub request_bytes: u64,
    /// What policy decided.
    pub action: Action,
    /// How the client was answered in the destination's place, if it was. [`Answer::Sink`] marks a synthetic answer.
    #[serde(default)]
    pub answered: Option<Answer>,
    /// The row of the policy that decided.
    pub policy_row: Box<str>,
    /// SHA-256 of the policy that decided, hex; `None` in records that are older than policies that change.
    #[serde(default)]
    pub policy_hash: Option<Arc<str>>,
    /// Why the content was not read, if it was not.
    pub not_inspected: Option<NotInspected>,
    /// The decoder that read the body, such as `first-party-events`.
    pub format: Option<Box<str>>,
    /// Credentials in the head that were sent, in order of place.
    #[serde(default)]
    pub credentials: Vec<SentCredential>,
    /// What the rules found, in order of place.
    pub findings: Vec<Finding>,
    /// The decoded fields, masked; empty unless payload capture is on.
    pub fields: CapturedFields,
    /// How many decoded fields were left out of `fields` because there were too many.
    pub fields_left_out: u32,
    /// The body as it was sent, content coding included; only with full payload capture.
    #[serde(skip)]
    pub body: Option<bytes::Bytes>,
    /// Things that the catalogue does not know, such as `path`.
    pub news: Vec<Box<str>>,
    /// What was changed before it left, if anything was.
    #[serde(default)]
    pub rewriting: Option<Rewriting>,
}

impl fmt::Debug for FlowOpening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body.as_ref().map(|body| format!("{} bytes", body.len()));
        // What the log prints of a flow, and the fields. Everything in it was masked, but for the body.
        let said = serde_json::to_value(self).map_err(|_| fmt::Error)?;
        f.debug_struct("FlowOpening").field("id", &self.id).field("said", &said).field("body", &body).finish()
    }
}

const fn placeholder_id() -> FlowId {
    match RunId::new(1) {
        Some(run) => FlowId::new(run, 0),
        None => unreachable!(),
    }
}

/// What closes a record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlowClosing {
    /// How it ended.
    pub outcome: Outcome,
    /// The status that the client got, if any.
    pub status: Option<u16>,
    /// Bytes of the request body that were sent on (from the client, for a tunnel).
    pub request_bytes: u64,
    /// Bytes of the response body (from the other side, for a tunnel).
    pub response_bytes: u64,
    /// From the head's arrival to the end, in milliseconds.
    pub duration_ms: u64,
    /// What went wrong, for people; never payload text.
    pub error: Option<Box<str>>,
    /// Replaces the opening's reason, when it is only known at the end.
    pub not_inspected: Option<NotInspected>,
}

/// A flow as it is read back. Without `closing` it is still going on, or plainsight was killed.
#[derive(Clone, Debug)]
pub struct FlowRecord {
    /// What was written before anything left.
    pub opening: FlowOpening,
    /// How it ended.
    pub closing: Option<FlowClosing>,
}

/// What is written when plainsight starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunOpening {
    /// When, in milliseconds since 1970 (UTC).
    pub time_ms: i64,
    /// `run`, `proxy`, `demo` or `scan`.
    pub mode: Box<str>,
    /// The program that was run: its name only, for its arguments are often a prompt.
    pub program: Option<Box<str>>,
    /// Our own version.
    pub version: Box<str>,
    /// SHA-256 of the policy in force, hex.
    pub policy_hash: Box<str>,
    /// SHA-256 of the rules in force, hex.
    pub rules_hash: Box<str>,
}

/// What is written when plainsight ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunClosing {
    /// When, in milliseconds since 1970 (UTC).
    pub time_ms: i64,
    /// The child's exit code.
    pub exit_code: Option<i32>,
}

/// A run as it is read back.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// Its number.
    pub id: RunId,
    /// How it began.
    pub opening: RunOpening,
    /// How it ended; `None` while it is going on, or when plainsight was killed.
    pub closing: Option<RunClosing>,
}
