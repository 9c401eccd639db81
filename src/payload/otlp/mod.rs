//! OpenTelemetry's protocol: the same fields under the same paths from JSON, protobuf and gRPC.
//!
//! Names are those of the JSON encoding. A list of pairs appears as a map, and what only says of which kind a value is
//! (`{"stringValue": …}`) is left out within maps and lists of values: `attributes/user.email`, `attributes/tags/0`,
//! `attributes/request/header/host`. Two pairs with one key are two fields with one path. A value that stands for
//! itself keeps its kind, because rules tell a log's text from an attribute by it: `logRecords/0/body/stringValue`.
//!
//! What the schema does not name keeps its number (`#99`) or its name; within a pair or a value it appears beside the
//! pair, or as the value. A pair without a key appears as it is written: `attributes/3/value/stringValue`.

use std::ops::Range;

use bytes::Bytes;

use crate::{
    model::{Confidence, Document, DocumentBuilder, FieldKind, Name, NodeId, NotInspected, SpanMap, TextId},
    payload::{Budget, PayloadError, container, json::looks_like_json},
};

mod json;
mod schema;
mod wire;

use wire::WireWalker;

/// How a request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OtlpEncoding {
    /// Protobuf messages in gRPC's frames.
    Grpc(Signal),
    /// JSON, which names its signal itself.
    Json,
    /// One protobuf message.
    Protobuf(Signal),
}

/// What a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Log records, events among them.
    Logs,
    /// Metrics.
    Metrics,
    /// Profiles, whose schema is still in development.
    Profiles,
    /// Spans.
    Traces,
}

/// One message of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamMessage {
    /// Where it stands in the body, without its head.
    pub span: Range<usize>,
    /// What it holds.
    pub content: Content,
}

/// What a message of a stream holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// These bytes, once its coding is undone.
    Decoded(Bytes),
    /// What stands in the body.
    Plain,
    /// Something that was not read.
    Unread(NotInspected),
}

/// Whether a body that is not empty is OTLP, on whatever host: by path, content type and shape. `media_type` is lower
/// case and without parameters.
pub(super) fn recognise(
    destination: &str,
    media_type: &str,
    path: &str,
    body: &[u8],
) -> Option<(OtlpEncoding, Confidence)> {
    let is_sent_to_otlp = destination == "otlp";
    let named = signal_of(path);
    if media_type.starts_with("application/grpc") {
        let signal = named.filter(|_| is_sent_to_otlp || path.contains(SERVICES))?;
        return Some((OtlpEncoding::Grpc(signal), Confidence::Certain));
    }
    let says_protobuf = matches!(media_type, "application/x-protobuf" | "application/protobuf");
    let says_json = media_type == "application/json" || media_type.ends_with("+json");
    // Without a label: no OTLP message begins with this byte, but one that begins with a line feed may read like JSON.
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let is_json = !says_protobuf && (text.first() == Some(&b'{') || says_json && looks_like_json(text));
    if is_json {
        let has_shape = has_json_shape(text);
        return match (is_sent_to_otlp, has_shape) {
            (_, true) => Some((OtlpEncoding::Json, Confidence::Certain)),
            (true, false) => Some((OtlpEncoding::Json, Confidence::High)),
            (false, false) => None,
        };
    }
    if is_sent_to_otlp && says_json {
        // Broken from the start: the walk finds out and says so.
        return Some((OtlpEncoding::Json, Confidence::Low));
    }
    let shape = || wire::signal(body);
    match named {
        Some(signal) if says_protobuf => Some((OtlpEncoding::Protobuf(signal), Confidence::Certain)),
        Some(signal) if is_sent_to_otlp || shape() == Some(signal) => {
            Some((OtlpEncoding::Protobuf(signal), Confidence::High))
        }
        _ if is_sent_to_otlp || says_protobuf => {
            shape().map(|signal| (OtlpEncoding::Protobuf(signal), Confidence::Medium))
        }
        _ => None,
    }
}

/// Takes one message apart.
pub(super) fn decode(encoding: OtlpEncoding, body: Bytes, budget: &Budget) -> Result<Document, PayloadError> {
    match encoding {
        OtlpEncoding::Grpc(_) => Err(PayloadError::Unsupported("grpc")),
        OtlpEncoding::Json => {
            Ok(container::decode_reshaped(PREFIX, body, budget, json::Pairs::default(), json::Pairs::reshape))
        }
        OtlpEncoding::Protobuf(signal) => {
            let (mut builder, root, mut walker) = begin(&body, budget);
            let mut view = body.to_vec();
            walker.walk(
                &mut builder,
                (&body, &mut view),
                0..body.len(),
                schema::request(signal),
                root,
                false,
            );
            builder.set_scannable(view.into());
            Ok(container::open_texts(builder, &[TextId::BODY], walker.nodes_left(), budget))
        }
    }
}

/// Takes a stream of messages apart. Each has a node without a name, below which its fields stand.
pub(super) fn decode_stream(
    signal: Signal,
    body: Bytes,
    messages: &[StreamMessage],
    ending: Option<NotInspected>,
    budget: &Budget,
) -> Result<Document, PayloadError> {
    let (mut builder, root, mut walker) = begin(&body, budget);
    let schema = schema::request(signal);
    let mut decoded = Vec::new();
    let mut view = body.to_vec();
    for message in messages {
        if walker.nodes_left() == 0 {
            builder.gap(root, NotInspected::NestingBudget);
            break;
        }
        walker.spend(1);
        let node = builder.push(root, Name::Static(""), FieldKind::Object, message.span.clone());
        match &message.content {
            Content::Decoded(bytes) if u32::try_from(bytes.len()).is_err() => {
                builder.gap(node, NotInspected::DecodedTooLarge);
            }
            Content::Decoded(bytes) => decoded.push((node, message.span.clone(), bytes.clone())),
            Content::Plain => {
                let text = (&body[..], &mut view[..]);
                walker.walk(&mut builder, text, message.span.clone(), schema, node, false);
            }
            Content::Unread(why) => builder.gap(node, *why),
        }
    }
    builder.set_scannable(view.into());
    if let Some(why) = ending {
        builder.gap(root, why);
    }
    // Texts come after the body's nodes, which lie together.
    let mut texts = vec![TextId::BODY];
    for (node, span, bytes) in decoded {
        let map = SpanMap::Whole(span.start as u32..span.end as u32);
        let segment = (0..bytes.len(), node, map);
        texts.push(builder.open_text(TextId::BODY, bytes.clone(), vec![segment], true));
        let mut view = bytes.to_vec();
        walker.walk(&mut builder, (&bytes, &mut view), 0..bytes.len(), schema, node, true);
        builder.set_scannable(view.into());
    }
    Ok(container::open_texts(builder, &texts, walker.nodes_left(), budget))
}

const PREFIX: &str = "otlp";

fn begin(body: &Bytes, budget: &Budget) -> (DocumentBuilder, NodeId, WireWalker) {
    let mut builder = DocumentBuilder::new(PREFIX, body.clone());
    let root = builder.push(NodeId::ROOT, Name::Static(""), FieldKind::Object, 0..body.len());
    (builder, root, WireWalker::new(budget.depth as usize, (budget.nodes as usize).saturating_sub(1)))
}

/// What the paths of OTLP's services have in common.
const SERVICES: &str = "opentelemetry.proto.collector.";

/// The signal that a path names: `/v1/logs` behind whatever prefix, or a service of gRPC.
fn signal_of(path: &str) -> Option<Signal> {
    let path = path.trim_end_matches('/');
    if let Some((_, service)) = path.split_once(SERVICES) {
        return match service.split('.').next()? {
            "logs" => Some(Signal::Logs),
            "metrics" => Some(Signal::Metrics),
            "profiles" => Some(Signal::Profiles),
            "trace" => Some(Signal::Traces),
            _ => None,
        };
    }
    let ends = [
        ("/v1/logs", Signal::Logs),
        ("/v1/metrics", Signal::Metrics),
        ("/v1development/profiles", Signal::Profiles),
        ("/v1/traces", Signal::Traces),
    ];
    ends.into_iter().find(|(end, _)| path.ends_with(end)).map(|(_, signal)| signal)
}

/// Whether the first name in a JSON body is one that an OTLP request begins with.
fn has_json_shape(body: &[u8]) -> bool {
    const NAMES: [&[u8]; 4] = [b"resourceLogs", b"resourceMetrics", b"resourceProfiles", b"resourceSpans"];
    let Some(name) = body.trim_ascii_start().strip_prefix(b"{").map(<[u8]>::trim_ascii_start) else {
        return false;
    };
    let name = name.strip_prefix(b"\"").unwrap_or_default();
    NAMES.iter().any(|wanted| name.strip_prefix(*wanted).is_some_and(|rest| rest.starts_with(b"\"")))
}

#[cfg(test)]
mod tests;
