use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{HashMap, HashSet},
    ops::Range,
    rc::Rc,
};

use http::{Method, Version};

use crate::{
    encoding,
    model::{
        Action, Answer, CapturedBody, CapturedFields, CapturedRequest, Decision, Destination, DestinationId,
        DestinationKind, Document, Finding, Fingerprint, FlowId, FlowKind, FlowOpening, NodeId, NotInspected,
        PathWriter, RequestHead, Rewriting, TextId,
    },
    payload::{self, PayloadFormat},
    policy::{Fail, Question},
    rules::{self, Hit, Scratch},
};

use super::{Forward, Inspection, Inspector, answer, capture, head::Head, names, rewrite, stream};

/// Names of fields that hold the client's own session id, in the formats that are known.
const SESSION_NAMES: &[&[u8]] = &[b"session_id", b"sessionId", b"session.id", b"sessionID"];

thread_local! {
    /// One per worker thread, so that a scan allocates nothing on a clean body.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A request of which it is known whom it is for.
pub(super) struct Classified<'i> {
    pub(super) inspector: &'i Inspector,
    pub(super) request: CapturedRequest,
    pub(super) destination: Destination,
    pub(super) time_ms: i64,
}

/// A request whose body was taken apart, as far as that was possible.
pub(super) struct Decoded<'i> {
    pub(super) classified: Classified<'i>,
    pub(super) format: Option<PayloadFormat>,
    pub(super) document: Option<Document>,
    pub(super) not_inspected: Option<NotInspected>,
}

/// A request in which the rules have looked.
pub(super) struct Scanned<'i> {
    pub(super) decoded: Decoded<'i>,
    pub(super) head: Rc<Head>,
    pub(super) hits: Vec<Hit>,
    pub(super) findings: Vec<Finding>,
}

/// A request about which policy has decided.
pub(super) struct Decided<'i> {
    pub(super) scanned: Scanned<'i>,
    pub(super) decision: Decision,
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
        let decoded = if recognition.format.is_stream() {
            let (messages, ending) = stream::split(head, &plain, &options.decoding);
            payload::decode_stream(&recognition.format, plain, &messages, ending, &options.budget)
        } else {
            payload::decode(&recognition.format, plain, &options.budget)
        };
        (Some(recognition.format), decoded.map(Some).map_err(|error| error.reason()))
    }
}

impl<'i> Decoded<'i> {
    /// Runs the rules over the head and over what was decoded.
    pub(super) fn scan(mut self) -> Scanned<'i> {
        let Classified { inspector, destination, request, .. } = &self.classified;
        let head = Head::of(inspector, &destination.id, &request.head, request.trailers.as_ref());
        let mut findings = head.findings(inspector);
        let mut hits = Vec::new();
        if let Some(document) = &self.document {
            hits = scan(inspector, document, &destination.id);
            findings.extend(self::findings(inspector, document, &hits));
        }
        self.not_inspected = self.not_inspected.or(head.gap());
        Scanned { decoded: self, head: Rc::new(head), hits, findings }
    }

    /// The same for a request that was scanned `before` it was redacted: to decide about it again, not for a record. Its
    /// head is only looked at again where it has changed.
    pub(super) fn scan_again(mut self, before: &Scanned<'_>) -> Scanned<'i> {
        let Classified { inspector, destination, request, .. } = &self.classified;
        let sent = &before.decoded.classified.request;
        let is_same = sent.head.target == request.head.target
            && sent.head.headers == request.head.headers
            && sent.trailers == request.trailers;
        let (head, mut findings) = if is_same {
            let count = before.findings.len() - before.hits.len();
            (Rc::clone(&before.head), before.findings[..count].to_vec())
        } else {
            let head = Head::of(inspector, &destination.id, &request.head, request.trailers.as_ref());
            let findings = head.findings(inspector);
            (Rc::new(head), findings)
        };
        let mut hits = Vec::new();
        if let Some(document) = &self.document {
            hits = scan(inspector, document, &destination.id);
            findings.extend(undescribed(inspector, document, &hits));
        }
        self.not_inspected = self.not_inspected.or(head.gap());
        Scanned { decoded: self, head, hits, findings }
    }
}

/// Runs the rules over one document.
pub(super) fn scan(inspector: &Inspector, document: &Document, destination: &DestinationId) -> Vec<Hit> {
    // Taken out for the time: what a panic leaves half done is not there for the next request on this thread.
    let mut scratch = SCRATCH.take();
    let hits = inspector.rules.scan(document, destination, &mut scratch);
    SCRATCH.set(scratch);
    hits
}

impl<'i> Scanned<'i> {
    /// Asks policy.
    pub(super) fn decide(self) -> Decided<'i> {
        let Classified { inspector, request, destination, .. } = &self.decoded.classified;
        let decision = inspector.policy.decide(Question {
            destination,
            authority: &request.head.authority,
            path: request.head.path(),
            findings: &self.findings,
            // What follows an upgrade is never read, and cannot be stopped any more.
            not_inspected: self
                .decoded
                .not_inspected
                .or(upgrades(&request.head).then_some(NotInspected::Upgraded)),
            unknown_fields: inspector.policy.minds_unknown_fields() && self.holds_unknown_fields(),
        });
        Decided { scanned: self, decision }
    }
}

impl Scanned<'_> {
    /// Whether there is a field in the body in which no rule found anything.
    fn holds_unknown_fields(&self) -> bool {
        let Some(document) = &self.decoded.document else { return false };
        let named: HashSet<NodeId> = self.hits.iter().map(|hit| hit.node).collect();
        document.leaves().any(|field| !named.contains(&field.id()))
    }
}

impl Decided<'_> {
    /// Writes the record, and says what to send on.
    pub(super) fn finish(self) -> Inspection {
        let rewritten = (self.decision.action == Action::Redact).then(|| rewrite::rewrite(&self));
        let Self { scanned: Scanned { decoded, head, hits, findings }, decision } = self;
        let Classified { inspector, request, destination, time_ms } = decoded.classified;
        let body = match &request.body {
            CapturedBody::Complete(body) | CapturedBody::OverLimit(body) => Some(body.clone()),
            CapturedBody::Streamed => None,
        };
        let mut fields = head.fields(inspector);
        let mut fields_left_out = 0;
        let of_body = &findings[findings.len() - hits.len()..];
        let news = inspector.known.in_request(&request.head, &destination, decoded.document.as_ref(), &hits);
        if let Some(document) = &decoded.document {
            let mask = |at: usize| Cow::Borrowed(&*of_body[at].preview);
            let keep = |path: &str, value: &str| fields.push(path, value);
            fields_left_out = inspector.options.capture.fields(document, &hits, mask, keep);
        }
        let document = decoded.document.as_ref();
        let mut result = Carried { action: decision.action, row: decision.row.into(), ..Carried::default() };
        let refuse = |wanted, why| {
            let (given, answer) = answer::answer(wanted, &destination, &request.head, document, why);
            (Some(given), Forward::Refused(answer))
        };
        match (decision.action, rewritten) {
            (Action::Block, _) => {
                (result.answered, result.forward) = refuse(decision.answer, answer::BY_POLICY);
            }
            (_, None | Some(Ok(None))) => {}
            (_, Some(Ok(Some((rewritten, rewriting))))) => {
                result.rewriting = Some(rewriting);
                result.forward = Forward::Rewritten(rewritten);
            }
            (_, Some(Err(error))) => {
                result.error = Some(error.to_string());
                result.row = format!("fail.{}", destination.kind).into();
                // What fails open leaves as it is, and must not pass for redacted.
                result.action = Action::Allow;
                if inspector.policy.on_failure(destination.kind) == Fail::Closed {
                    let wanted = inspector.policy.failure_answer();
                    (result.answered, result.forward) = refuse(wanted, answer::BY_FAILURE);
                    result.action = Action::Block;
                }
            }
        }
        // What was redacted is kept in no log: of a body that was rewritten, what was sent on.
        let kept = match &result.forward {
            Forward::Rewritten(rewritten) => rewritten.body.clone().or_else(|| body.clone()),
            Forward::Original | Forward::Refused(_) => body.clone(),
        };
        let not_inspected =
            decoded.not_inspected.or(result.error.as_ref().map(|_| NotInspected::InternalError));
        let opening = FlowOpening {
            news,
            answered: result.answered,
            policy_hash: inspector.policy.hash_shared(),
            session: session(inspector, &request.head, decoded.document.as_ref()),
            request_bytes: body.as_ref().map_or(0, |body| body.len() as u64),
            action: result.action,
            policy_row: result.row,
            rewriting: result.rewriting,
            format: decoded.format.as_ref().map(|format| format.name().into()),
            findings,
            fields,
            fields_left_out,
            body: kept.filter(|body| inspector.options.capture == capture::Capture::Full && !body.is_empty()),
            ..opening(request.id, &request.head, &head, &destination, time_ms, not_inspected)
        };
        Inspection { opening, forward: result.forward, error: result.error }
    }
}

/// What came of carrying out a decision.
struct Carried {
    action: Action,
    answered: Option<Answer>,
    error: Option<String>,
    forward: Forward,
    rewriting: Option<Rewriting>,
    row: Box<str>,
}

impl Default for Carried {
    fn default() -> Self {
        Self {
            action: Action::Allow,
            answered: None,
            error: None,
            forward: Forward::Original,
            rewriting: None,
            row: "".into(),
        }
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
        answered: None,
        policy_row: "".into(),
        policy_hash: None,
        not_inspected: None,
        format: None,
        credentials: Vec::new(),
        findings: Vec::new(),
        fields: CapturedFields::default(),
        fields_left_out: 0,
        body: None,
        news: Vec::new(),
        rewriting: None,
    }
}

/// The part of a record that the request's head alone decides.
pub(super) fn opening(
    id: FlowId,
    head: &RequestHead,
    seen: &Head,
    destination: &Destination,
    time_ms: i64,
    not_inspected: Option<NotInspected>,
) -> FlowOpening {
    FlowOpening {
        time_ms,
        destination: destination.id.clone(),
        destination_kind: destination.kind,
        method: method(&head.method),
        scheme: head.scheme.as_str().into(),
        authority: head.authority.to_string().into(),
        path: seen.target(),
        version: version(head.version).into(),
        user_agent: seen.user_agent(),
        credentials: seen.credentials.clone(),
        not_inspected,
        ..blank_opening(id)
    }
}

/// Why a part of the document was not read, if one was not.
///
/// A value inside the document that was cut off before it was sent (clients cut at 512 characters and more) is read to
/// its last byte; it is the body itself that must be whole, also when it was opened as a whole.
pub(super) fn gap(document: &Document) -> Option<NotInspected> {
    let is_body = |text: TextId| text == TextId::BODY || document.segment(text, 0).0 == NodeId::ROOT;
    let hides = |(node, reason): &&(NodeId, NotInspected)| {
        *reason != NotInspected::FormatBroken || is_body(document.field(*node).text())
    };
    document.gaps().iter().find(hides).map(|(_, reason)| *reason)
}

/// What is kept of hits: for each hit a finding, in the same order.
pub(super) fn findings(inspector: &Inspector, document: &Document, hits: &[Hit]) -> Vec<Finding> {
    let mut paths = paths(inspector, document, hits);
    // The same few values stand in every event of a batch, and hashing them is most of the work.
    let mut seen: HashMap<_, (Fingerprint, Box<str>)> = HashMap::new();
    let finding = |hit: &Hit| {
        let rule = &inspector.rules.rules()[hit.rule];
        let value = hit.value(document);
        let length = value.len() as u32;
        let (fingerprint, preview) = seen
            .entry((hit.rule, value))
            .or_insert_with_key(|(_, value)| (inspector.key.fingerprint(value), rules::preview(rule, value)));
        let Range { start, end } = document.body_span(hit.text, hit.range.clone());
        Finding {
            rule: rule.id.clone(),
            category: rule.category.clone(),
            severity: rule.severity,
            confidence: hit.confidence,
            path: paths.field_path(document.field(hit.node)),
            span: start as u32..end as u32,
            length,
            fingerprint: *fingerprint,
            preview: preview.clone(),
        }
    };
    hits.iter().map(finding).collect()
}

/// Findings as far as policy asks about them: for no record.
fn undescribed(inspector: &Inspector, document: &Document, hits: &[Hit]) -> Vec<Finding> {
    let mut paths = paths(inspector, document, hits);
    let finding = |hit: &Hit| {
        let rule = &inspector.rules.rules()[hit.rule];
        Finding {
            rule: rule.id.clone(),
            category: rule.category.clone(),
            severity: rule.severity,
            confidence: hit.confidence,
            path: paths.field_path(document.field(hit.node)),
            span: 0..0,
            length: hit.value(document).len() as u32,
            fingerprint: Fingerprint::from_bytes([0; 8]),
            preview: "".into(),
        }
    };
    hits.iter().map(finding).collect()
}

/// Writes paths in which a name that was found is masked.
fn paths<'d>(inspector: &Inspector, document: &'d Document, hits: &[Hit]) -> PathWriter<'d> {
    let mask = |at: usize| {
        let hit: &Hit = &hits[at];
        Cow::Owned(preview(inspector, hit, &hit.value(document)).into())
    };
    PathWriter::new(document).masking(names::masked(document, hits, mask))
}

pub(super) fn preview(inspector: &Inspector, hit: &Hit, value: &[u8]) -> Box<str> {
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

fn upgrades(head: &RequestHead) -> bool {
    head.headers.contains_key(http::header::UPGRADE)
        && head
            .header("connection")
            .is_some_and(|value| value.split(',').any(|name| name.trim().eq_ignore_ascii_case("upgrade")))
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
