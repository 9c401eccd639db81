//! The words that people read instead of those that files hold.

use crate::model::{Action, Answer, FlowKind, FlowRecord, NotInspected, Outcome, Severity};

/// Why something was not read.
pub(super) const fn reason(reason: NotInspected) -> &'static str {
    match reason {
        NotInspected::BodyTooLarge => "larger than the limit",
        NotInspected::ClientRefusedCertificate => "client refused our certificate",
        NotInspected::CodingBroken => "broken compression",
        NotInspected::CodingUnsupported => "unknown compression",
        NotInspected::DecodedTooLarge => "unpacks beyond the limit",
        NotInspected::Conversation => "the conversation, not looked at",
        NotInspected::FormatBroken => "broken format, read in part",
        NotInspected::FormatUnsupported => "no decoder for it yet",
        NotInspected::InternalError => "reading failed on our side",
        NotInspected::NestingBudget => "nested too deep, read in part",
        NotInspected::NotIntercepted => "a tunnel, not decrypted",
        NotInspected::NotRecorded => "not in the recording",
        NotInspected::UnknownProtocol => "neither TLS nor HTTP",
        NotInspected::Upgraded => "switched protocols",
    }
}

/// The scheme of what `scan` read from a file of which nobody knows whether it was sent.
pub(super) const FILE_SCHEME: &str = "file";

/// What became of a flow, in one word.
pub(super) fn fate(flow: &FlowRecord) -> &'static str {
    match (flow.closing.as_ref().map(|closing| closing.outcome), flow.opening.action) {
        (None, _) if &*flow.opening.scheme == FILE_SCHEME => "in a file",
        (None, _) => "open",
        (Some(Outcome::ClientGone), _) => "cut off",
        (Some(Outcome::Tunneled), _) => "tunnel",
        (Some(Outcome::UpstreamFailed), _) => "failed",
        (Some(_), Action::Block) if flow.opening.answered == Some(Answer::Sink) => "sunk",
        (Some(Outcome::Refused | Outcome::Forwarded), Action::Block) => "blocked",
        (Some(Outcome::Refused), _) => "refused",
        (Some(Outcome::Forwarded), Action::Redact) => "redacted",
        (Some(Outcome::Forwarded), Action::Allow) => "sent",
    }
}

/// Why a flow was not read, as it is known at its end.
pub(super) fn not_inspected(flow: &FlowRecord) -> Option<NotInspected> {
    flow.closing.as_ref().and_then(|closing| closing.not_inspected).or(flow.opening.not_inspected)
}

/// Bytes of the request as the client sent it.
pub(super) fn request_bytes(flow: &FlowRecord) -> u64 {
    match (flow.opening.request_bytes, &flow.closing) {
        (0, Some(closing)) => closing.request_bytes,
        (announced, _) => announced,
    }
}

/// The authority without the port that everyone expects.
pub(super) fn host(flow: &FlowRecord) -> &str {
    let opening = &flow.opening;
    let usual = match (&*opening.scheme, opening.kind) {
        ("http", _) => ":80",
        ("https", _) | (_, FlowKind::Tunnel) => ":443",
        _ => return &opening.authority,
    };
    opening.authority.strip_suffix(usual).unwrap_or(&opening.authority)
}

/// The worst severity of a flow's findings.
pub(super) fn worst(flow: &FlowRecord) -> Option<Severity> {
    flow.opening.findings.iter().map(|finding| finding.severity).max()
}
