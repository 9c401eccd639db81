//! What a client is told when its request stays here: as the service would say it, so that nothing is tried again,
//! spooled or logged, or as an error that it understands.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::CONTENT_TYPE};

use crate::model::{Answer, Destination, DestinationKind, Document, Field, LocalAnswer, NodeId, RequestHead};

/// What an error says when policy blocks.
pub(super) const BY_POLICY: &str = "refused by local policy";

/// What an error says when plainsight could not do its work.
pub(super) const BY_FAILURE: &str = "plainsight could not do its work, so nothing was sent on";

/// Answers as `wanted`, if this destination can be answered so: what a person sent on purpose is never dropped
/// silently, and nobody knows what a service says that the catalogue does not know. Says how it answered.
pub(super) fn answer(
    wanted: Answer,
    destination: &Destination,
    head: &RequestHead,
    document: Option<&Document>,
    why: &'static str,
) -> (Answer, LocalAnswer) {
    let given = match destination.kind {
        DestinationKind::Telemetry | DestinationKind::FeatureFlags => wanted,
        DestinationKind::Conversation
        | DestinationKind::Feedback
        | DestinationKind::Settings
        | DestinationKind::ThirdParty
        | DestinationKind::Unknown
        | DestinationKind::Updates => Answer::Reject,
    };
    let mut answer = match given {
        Answer::Reject => reject(head, why),
        Answer::Sink => sink(destination, head, document),
    };
    if head.method == Method::HEAD {
        answer.body = Bytes::new();
    }
    (given, answer)
}

/// An error that the client does not try again: SDKs give up on 403 at once, and on gRPC's PERMISSION_DENIED.
fn reject(head: &RequestHead, message: &'static str) -> LocalAnswer {
    if is_grpc(head) {
        let mut answer = empty(StatusCode::OK, grpc_type(head));
        // In the head, for there is no message: gRPC's "Trailers-Only".
        answer.headers.insert("grpc-status", HeaderValue::from_static(PERMISSION_DENIED));
        answer.headers.insert("grpc-message", HeaderValue::from_static(message));
        return answer;
    }
    let body = format!(r#"{{"type":"error","error":{{"type":"permission_error","message":"{message}"}}}}"#);
    let mut answer = json(StatusCode::FORBIDDEN, body);
    // The vendor's SDK asks this field before it tries again.
    answer.headers.insert("x-should-retry", HeaderValue::from_static("false"));
    answer
}

/// What the service itself would say.
fn sink(destination: &Destination, head: &RequestHead, document: Option<&Document>) -> LocalAnswer {
    let path = head.path().trim_end_matches('/');
    match destination.id.as_str() {
        "first-party-events" => accepted(document.map_or(0, |document| members_of(document, b"events", 1))),
        "first-party-metrics" => {
            accepted(document.map_or(0, |document| members_of(document, b"data_points", 3)))
        }
        "datadog" => json(StatusCode::ACCEPTED, "{}"),
        "feature-flags" if path.starts_with("/sub/") => nothing(),
        "feature-flags" => json(StatusCode::OK, r#"{"features":{}}"#),
        "segment" => json(StatusCode::OK, r#"{"success":true}"#),
        "sentry" => match document.and_then(event_id) {
            Some(id) => json(StatusCode::OK, format!(r#"{{"id":"{id}"}}"#)),
            None => json(StatusCode::OK, "{}"),
        },
        "statsig" => match path.rsplit('/').next() {
            Some("initialize") => nothing(),
            Some("download_config_specs") => json(StatusCode::OK, r#"{"has_updates":false}"#),
            Some("get_id_lists") => json(StatusCode::OK, "{}"),
            _ => json(StatusCode::ACCEPTED, r#"{"success":true}"#),
        },
        _ if is_grpc(head) => grpc_success(head),
        _ => match content_type(head) {
            "application/x-protobuf" | "application/protobuf" => {
                empty(StatusCode::OK, HeaderValue::from_static("application/x-protobuf"))
            }
            _ => json(StatusCode::OK, "{}"),
        },
    }
}

/// As the vendor's own collectors answer.
fn accepted(count: usize) -> LocalAnswer {
    json(StatusCode::OK, format!(r#"{{"accepted_count":{count},"rejected_count":0}}"#))
}

fn json(status: StatusCode, body: impl Into<Bytes>) -> LocalAnswer {
    LocalAnswer { body: body.into(), ..empty(status, HeaderValue::from_static("application/json")) }
}

/// 204: done, and there is nothing to say. A stream of events is not opened again after it.
fn nothing() -> LocalAnswer {
    LocalAnswer {
        status: StatusCode::NO_CONTENT,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        trailers: None,
    }
}

fn empty(status: StatusCode, content_type: HeaderValue) -> LocalAnswer {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, content_type);
    LocalAnswer { status, headers, body: Bytes::new(), trailers: None }
}

/// An empty message, and status 0 behind it.
fn grpc_success(head: &RequestHead) -> LocalAnswer {
    /// Not compressed, no bytes: protobuf's form of a message in which nothing is set.
    const EMPTY_MESSAGE: [u8; 5] = [0; 5];
    let mut answer = empty(StatusCode::OK, grpc_type(head));
    if content_type(head).starts_with(GRPC_WEB) {
        // A browser sees no trailers, so they are a frame of the body.
        let fields = b"grpc-status:0\r\n";
        let frame = [&EMPTY_MESSAGE[..], &[0x80, 0, 0, 0, fields.len() as u8], fields].concat();
        answer.body = frame.into();
        return answer;
    }
    answer.body = Bytes::from_static(&EMPTY_MESSAGE);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    answer.trailers = Some(trailers);
    answer
}

fn is_grpc(head: &RequestHead) -> bool {
    content_type(head).starts_with(GRPC)
}

/// The request's own type, which says how messages are written.
fn grpc_type(head: &RequestHead) -> HeaderValue {
    head.headers.get(CONTENT_TYPE).cloned().unwrap_or(HeaderValue::from_static(GRPC))
}

fn content_type(head: &RequestHead) -> &str {
    head.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

/// How many members the lists of this name have that stand so deep below the root.
fn members_of(document: &Document, name: &[u8], depth: usize) -> usize {
    let is_list = |field: Field<'_>| {
        field.last_segment().is_some_and(|segment| *segment == *name) && depth_of(field) == depth
    };
    let mut last: Option<(NodeId, bool)> = None;
    let counts = document.fields().filter(|field| {
        let Some(parent) = field.parent() else { return false };
        // Members of a list stand close together: most ask about the same parent as the one before.
        match last {
            Some((id, counts)) if id == parent.id() => counts,
            _ => {
                let counts = is_list(parent);
                last = Some((parent.id(), counts));
                counts
            }
        }
    });
    counts.count()
}

fn depth_of(field: Field<'_>) -> usize {
    std::iter::successors(field.parent(), |field| field.parent()).count()
}

/// The event's id, if it looks like one: it is about to stand in an answer.
fn event_id(document: &Document) -> Option<&str> {
    let field = document.leaves().find(|field| {
        field.last_segment().is_some_and(|name| &*name == b"event_id" || &*name == b"eventID")
    })?;
    let id = std::str::from_utf8(field.plain()).ok()?;
    let fits = matches!(id.len(), 32 | 36) && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    fits.then_some(id)
}

const GRPC: &str = "application/grpc";
const GRPC_WEB: &str = "application/grpc-web";

/// gRPC's code 7. `UNAVAILABLE` and `RESOURCE_EXHAUSTED` would be tried again.
const PERMISSION_DENIED: &str = "7";

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
