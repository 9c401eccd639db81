use std::{cell::RefCell, ops::Range};

use http::{Method, Version};

use crate::{
    encoding,
    model::{
        Action, CapturedBody, CapturedRequest, Decision, Destination, DestinationId, DestinationKind,
        Document, Finding, Fingerprint, FlowId, FlowKind, FlowOpening, NodeId, NotInspected, RequestHead,
        TextId,
    },
    payload::{self, PayloadFormat},
    policy::Question,
    rules::{self, Hit, Scratch},
};

use super::{Forward, Inspection, Inspector, capture, credential};

/// Longest `User-Agent` kept, in bytes. Real ones stay under 100.
const USER_AGENT_LIMIT: usize = 200;

/// Names of fields that hold the client's own session id, in the formats that are known.
const SESSION_NAMES: &[&[u8]] = &[b"session_id", b"sessionId", b"session.id", b"sessionID"];

thread_local! {
    /// One per worker thread, so that a scan allocates nothing on a clean body.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A request of which it is known whom it is for.
pub(super) struct Classified<'i> {
    inspector: &'i Inspector,
    request: CapturedRequest,
    destination: Destination,
    time_ms: i64,
}

/// A request whose body was taken apart, as far as that was possible.
pub(super) struct Decoded<'i> {
    classified: Classified<'i>,
    format: Option<PayloadFormat>,
    document: Option<Document>,
    not_inspected: Option<NotInspected>,
}

/// A request in which the rules have looked.
pub(super) struct Scanned<'i> {
    decoded: Decoded<'i>,
    hits: Vec<Hit>,
    findings: Vec<Finding>,
}

/// A request about which policy has decided.
pub(super) struct Decided<'i> {
    scanned: Scanned<'i>,
    decision: Decision,
}

impl<'i> Classified<'i> {
    pub(super) fn new(
        inspector: &'i Inspector,
        request: CapturedRequest,
        destination: Destination,
        time_ms: i64,
    ) -> Self {
        Self { inspector, request, destination, time_ms }
    }

    /// Undoes the content coding and takes the payload apart.
    pub(super) fn decode(self) -> Decoded<'i> {
        let (format, read) = self.read_body();
        let (document, not_inspected) = match read {
            Ok(document) => {
                let gap = document.as_ref().and_then(gap);
                (document, gap)
            }
            Err(reason) => (None, Some(reason)),
        };
        Decoded { classified: self, format, document, not_inspected }
    }

    fn read_body(&self) -> (Option<PayloadFormat>, Result<Option<Document>, NotInspected>) {
        let head = &self.request.head;
        let body = match &self.request.body {
            CapturedBody::Complete(body) => body,
            CapturedBody::OverLimit(_) => return (None, Err(NotInspected::BodyTooLarge)),
            CapturedBody::Streamed => return (None, Err(NotInspected::Conversation)),
        };
        if body.is_empty() {
            return (None, Ok(None));
        }
        let values = head.headers.get_all(http::header::CONTENT_ENCODING);
        let codings = values.iter().map(|value| value.to_str().unwrap_or("?"));
        let options = &self.inspector.options;
        let plain = match encoding::codings(codings)
            .and_then(|codings| encoding::decode(&codings, body, &options.decoding))
        {
            Ok(plain) => plain,
            Err(error) => return (None, Err(error.reason())),
        };
        let content_type = head.header("content-type");
        let recognition = payload::recognise(self.destination.id.as_str(), content_type, head.path(), &plain);
        let decoded = payload::decode(&recognition.format, plain, &options.budget);
        (Some(recognition.format), decoded.map(Some).map_err(|error| error.reason()))
    }
}

impl<'i> Decoded<'i> {
    /// Runs the rules over what was decoded.
    pub(super) fn scan(self) -> Scanned<'i> {
        let Classified { inspector, destination, .. } = &self.classified;
        let Some(document) = &self.document else {
            return Scanned { decoded: self, hits: Vec::new(), findings: Vec::new() };
        };
        let hits =
            SCRATCH.with_borrow_mut(|scratch| inspector.rules.scan(document, &destination.id, scratch));
        let findings = hits.iter().map(|hit| finding(inspector, document, hit)).collect();
        Scanned { decoded: self, hits, findings }
    }
}

impl<'i> Scanned<'i> {
    /// Asks policy.
    pub(super) fn decide(self) -> Decided<'i> {
        let Classified { inspector, destination, .. } = &self.decoded.classified;
        let decision = inspector.policy.decide(Question {
            destination,
            findings: &self.findings,
            not_inspected: self.decoded.not_inspected,
        });
        Decided { scanned: self, decision }
    }
}

impl Decided<'_> {
    /// Writes the record, and says what to send on.
    pub(super) fn finish(self) -> Inspection {
        let Self { scanned: Scanned { decoded, hits, findings }, decision } = self;
        let Classified { inspector, request, destination, time_ms } = decoded.classified;
        let body = match &request.body {
            CapturedBody::Complete(body) | CapturedBody::OverLimit(body) => Some(body.clone()),
            CapturedBody::Streamed => None,
        };
        let (fields, fields_left_out) = match &decoded.document {
            Some(document) => {
                inspector.options.capture.fields(document, &hits, |hit, value| preview(inspector, hit, value))
            }
            None => (Vec::new(), 0),
        };
        let opening = FlowOpening {
            session: session(inspector, &request.head, decoded.document.as_ref()),
            request_bytes: body.as_ref().map_or(0, |body| body.len() as u64),
            action: decision.action,
            policy_row: decision.row.into(),
            format: decoded.format.as_ref().map(|format| format.name().into()),
            findings,
            fields,
            fields_left_out,
            body: body.filter(|body| inspector.options.capture == capture::Capture::Full && !body.is_empty()),
            ..opening(request.id, &request.head, &destination, time_ms, decoded.not_inspected)
        };
        let forward = match decision.action {
            Action::Allow => Forward::Original,
            // Policy refuses to load a row that redacts; if one came this far, nothing may leave.
            Action::Block | Action::Redact => Forward::Refused,
        };
        Inspection { opening, forward }
    }
}

/// A record with nothing in it but its number.
pub(super) fn blank_opening(id: FlowId) -> FlowOpening {
    FlowOpening {
        id,
        time_ms: 0,
        kind: FlowKind::Request,
        destination: DestinationId::new(DestinationKind::ThirdParty.as_str()),
        destination_kind: DestinationKind::ThirdParty,
        method: "".into(),
        scheme: "".into(),
        authority: "".into(),
        path: "".into(),
        version: "".into(),
        user_agent: None,
        session: None,
        request_bytes: 0,
        action: Action::Allow,
        policy_row: "".into(),
        not_inspected: None,
        format: None,
        findings: Vec::new(),
        fields: Vec::new(),
        fields_left_out: 0,
        body: None,
        news: Vec::new(),
    }
}

/// The part of a record that the request's head alone decides.
pub(super) fn opening(
    id: FlowId,
    head: &RequestHead,
    destination: &Destination,
    time_ms: i64,
    not_inspected: Option<NotInspected>,
) -> FlowOpening {
    let news = (destination.kind == DestinationKind::Unknown).then(|| "path".into()).into_iter().collect();
    FlowOpening {
        time_ms,
        destination: destination.id.clone(),
        destination_kind: destination.kind,
        method: method(&head.method),
        scheme: head.scheme.as_str().into(),
        authority: head.authority.to_string().into(),
        path: credential::masked_target(&head.target),
        version: version(head.version).into(),
        user_agent: head.header("user-agent").map(|text| cut(text, USER_AGENT_LIMIT).into()),
        not_inspected,
        news,
        ..blank_opening(id)
    }
}

/// Why a part of the document was not read, if one was not.
///
/// A value inside the document that was cut off before it was sent (clients cut at 512 characters and more) is read to
/// its last byte; it is the body itself that must be whole.
fn gap(document: &Document) -> Option<NotInspected> {
    let hides = |(node, reason): &&(NodeId, NotInspected)| {
        *reason != NotInspected::FormatBroken || document.field(*node).text() == TextId::BODY
    };
    document.gaps().iter().find(hides).map(|(_, reason)| *reason)
}

fn finding(inspector: &Inspector, document: &Document, hit: &Hit) -> Finding {
    let rule = &inspector.rules.rules()[hit.rule];
    let value = &document.text(hit.text)[hit.range.clone()];
    let Range { start, end } = document.body_span(hit.text, hit.range.clone());
    Finding {
        rule: rule.id.clone(),
        category: rule.category.clone(),
        severity: rule.severity,
        confidence: hit.confidence,
        path: document.field(hit.node).path(),
        span: start as u32..end as u32,
        length: value.len() as u32,
        fingerprint: inspector.key.fingerprint(value),
        preview: preview(inspector, hit, value),
    }
}

fn preview(inspector: &Inspector, hit: &Hit, value: &[u8]) -> Box<str> {
    rules::preview(&inspector.rules.rules()[hit.rule], value)
}

/// The fingerprint of the client's own session id: from a header, else from the first field that is named so.
fn session(inspector: &Inspector, head: &RequestHead, document: Option<&Document>) -> Option<Fingerprint> {
    if let Some(value) = head.headers.get("x-claude-code-session-id") {
        return Some(inspector.key.fingerprint(value.as_bytes()));
    }
    let field = document?.leaves().find(|field| {
        field.kind().is_text() && field.last_segment().is_some_and(|name| SESSION_NAMES.contains(&&*name))
    })?;
    let value = field.plain();
    (!value.is_empty()).then(|| inspector.key.fingerprint(value))
}

fn method(method: &Method) -> Box<str> {
    // A method may be any token of any length; real ones are short.
    cut(method.as_str(), 32).into()
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "unknown",
    }
}

/// The start of `text`, at most `limit` bytes, cut between characters.
pub(super) fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}
