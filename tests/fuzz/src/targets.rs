//! The targets: each takes any bytes, and fails by a panic.

use std::ops::ControlFlow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use plainsight::{
    encoding::{self, Coding, Limits, grpc_frames},
    har::{self, RecordedBody},
    inspect::Forward,
    model::{
        Authority, ByteSize, CapturedBody, Document, Edit, FieldKind, NotInspected, Replacement, TextId,
    },
    payload::{self, Budget, Content, OtlpEncoding, PayloadFormat, Signal, StreamMessage},
};
use serde::de::IgnoredAny;

use crate::{
    document::{check, small_budget},
    packets::packets,
    request::{inspect, inspect_with, parse, redacting, request},
};

/// Takes any bytes.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("codings", codings),
    ("containers", containers),
    ("core", core),
    ("form", |input| decode(PayloadFormat::Form, input)),
    ("har", har),
    ("head", head),
    ("json", json),
    ("mask", mask),
    ("multipart", multipart),
    ("otlp-grpc", otlp_grpc),
    ("otlp-json", |input| decode(PayloadFormat::Otlp(OtlpEncoding::Json), input)),
    ("otlp-protobuf", otlp_protobuf),
    ("packets", packets),
    ("redact", redact),
    ("sentry", sentry),
    ("splice", splice),
    ("statsig", |input| decode(PayloadFormat::Statsig, input)),
];

const CODINGS: [Coding; 4] = [Coding::Brotli, Coding::Deflate, Coding::Gzip, Coding::Zstd];

const SIGNALS: [Signal; 4] = [Signal::Logs, Signal::Metrics, Signal::Profiles, Signal::Traces];

/// Decodes within the default budget and within one that is soon used up.
fn decode(format: PayloadFormat, input: &[u8]) {
    for budget in [Budget::default(), small_budget()] {
        let document = payload::decode(&format, Bytes::copy_from_slice(input), &budget)
            .expect("small, and has a decoder");
        check(&document, input, &budget);
    }
}

/// The first byte says which coding.
fn codings(input: &[u8]) {
    let Some((first, body)) = input.split_first() else { return };
    let coding = CODINGS[usize::from(*first) % CODINGS.len()];
    let limits = Limits { decoded: ByteSize::kibibytes(64), ratio: 250 };
    if let Ok(plain) = encoding::decode(&[coding], &Bytes::copy_from_slice(body), &limits) {
        assert!(plain.len() <= limits.decoded.as_usize());
    }
    let again = encoding::decode(&[coding], &encoding::encode(&[coding], body).into(), &limits);
    assert_eq!(again.as_deref(), Ok(body), "what was encoded is decoded");
}

/// Whatever a string can hold: the input is one string of a JSON object, and a whole body that nobody named.
fn containers(input: &[u8]) {
    decode(PayloadFormat::Unknown, input);
    let text = String::from_utf8_lossy(input);
    decode(PayloadFormat::FirstPartyEvents, serde_json::json!({ "v": text }).to_string().as_bytes());
    decode(PayloadFormat::Json, serde_json::json!([{ "v": STANDARD.encode(input) }]).to_string().as_bytes());
}

/// A whole request through the whole core.
fn core(input: &[u8]) {
    let Some(request) = parse(input) else { return };
    let CapturedBody::Complete(body) = request.body.clone() else { return };
    let values = request.head.headers.get_all("content-encoding");
    let codings = encoding::codings(values.iter().map(|value| value.to_str().unwrap_or("?")));
    let plain = codings.and_then(|codings| encoding::decode(&codings, &body, &Limits::default()));

    let inspection = inspect(request);

    assert!(matches!(inspection.forward, Forward::Original | Forward::Refused(_)));
    let opening = inspection.opening;
    assert_eq!(opening.request_bytes, body.len() as u64);
    assert!(opening.body.is_none(), "masked capture keeps no body");
    for finding in &opening.findings {
        assert!(finding.span.start <= finding.span.end);
        let path = finding.path.as_str();
        if ["header:", "query:", "path:", "trailer:"].iter().any(|prefix| path.starts_with(prefix)) {
            continue;
        }
        let plain = plain.as_ref().expect("a finding stands in a body that was decoded");
        assert!(finding.span.end as usize <= plain.len(), "{path} at {:?} of {}", finding.span, plain.len());
    }
    if plain.is_err() {
        assert!(opening.not_inspected.is_some(), "what was not read has a reason");
    }
}

fn har(input: &[u8]) {
    let mut count = 0;
    let read = har::read(input, |entry| {
        if let Ok(entry) = entry {
            count += 1;
            if let RecordedBody::Complete(body) = entry.body {
                assert!(body.len() <= input.len());
            }
        }
        ControlFlow::Continue(())
    });
    if count > 0 {
        _ = read;
    }
}

/// Lines of `name: value`, of which the first is the path with its query.
fn head(input: &[u8]) {
    for budget in [Budget::default(), small_budget()] {
        let mut lines = input.split(|byte| *byte == b'\n');
        let target = String::from_utf8_lossy(lines.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        check(&payload::path(path, &budget), path.as_bytes(), &budget);
        check(&payload::query(query, &budget), query.as_bytes(), &budget);
        let fields: Vec<(String, &[u8])> = lines
            .filter_map(|line| {
                let at = line.iter().position(|byte| *byte == b':')?;
                Some((String::from_utf8_lossy(&line[..at]).to_ascii_lowercase(), line[at + 1..].trim_ascii()))
            })
            .collect();
        let document = payload::headers(fields.iter().map(|(name, value)| (name.as_str(), *value)), &budget);
        check(&document, &document.text_bytes(TextId::BODY), &budget);
    }
}

/// Against `serde_json`: what it reads has no gap here, and as many members.
fn json(input: &[u8]) {
    decode(PayloadFormat::Json, input);
    if serde_json::from_slice::<IgnoredAny>(input).is_err() {
        return;
    }
    let document = payload::decode(&PayloadFormat::Json, Bytes::copy_from_slice(input), &Budget::default())
        .expect("small, and has a decoder");
    let broken = document.gaps().iter().find(|(node, why)| {
        *why == NotInspected::FormatBroken && document.field(*node).text() == TextId::BODY
    });
    assert_eq!(broken, None, "valid JSON is read to its end");
}

/// A secret in a field of its own, and the input beside it: it is found, and no part of the record shows it.
fn mask(input: &[u8]) {
    const SECRET: &str = "zq7marker.person@zq7marker-mail.com";
    let Some((&first, beside)) = input.split_first() else { return };
    if beside.windows(9).any(|part| part.eq_ignore_ascii_case(b"zq7marker")) {
        return;
    }
    let beside = String::from_utf8_lossy(beside);
    let inner = serde_json::json!({ "beside": beside, "note": SECRET }).to_string();
    let (mut headers, mut coding) = (HeaderMap::new(), Vec::new());
    let body = match first % 6 {
        0 => {
            serde_json::json!({ "events": [{ "event_data": { "a": beside, "note": SECRET, "z": beside } }] })
        }
        1 => serde_json::json!({ "a": STANDARD.encode(&inner), "b": beside }),
        2 => serde_json::json!({ "a": beside, "b": inner }),
        3 => serde_json::json!({ "a": format!("{beside} {SECRET} {beside}") }),
        4 => {
            headers.insert("content-encoding", HeaderValue::from_static("gzip"));
            coding.push(Coding::Gzip);
            serde_json::json!({ "b": SECRET, (beside.to_string()): 1 })
        }
        _ => serde_json::json!({ "a": STANDARD.encode(serde_json::json!({ "x": inner }).to_string()) }),
    };
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let mut body = body.to_string();
    if first & 0x80 != 0 {
        body = body.replace('@', "\\u0040");
    }
    let body = CapturedBody::Complete(encoding::encode(&coding, body.as_bytes()).into());
    let authority = Authority::parse("api.anthropic.com", Some(443)).expect("a name");
    let inspection = inspect(request(Method::POST, authority, "/api/event_logging/v2/batch", headers, body));

    let shown = format!("{:?}", inspection.opening);
    assert!(!shown.to_ascii_lowercase().contains("zq7marker"), "the record shows it: {shown}");
    let is_found = inspection.opening.findings.iter().any(|finding| finding.length as usize == SECRET.len());
    assert!(is_found || inspection.opening.not_inspected.is_some(), "it is not found: {shown}");
}

fn multipart(input: &[u8]) {
    decode(PayloadFormat::Multipart, input);
    decode(PayloadFormat::SentryMinidump, input);
}

/// The first byte says which signal, and which coding compressed messages have.
fn otlp_grpc(input: &[u8]) {
    let Some((first, body)) = input.split_first() else { return };
    let signal = SIGNALS[usize::from(*first) % SIGNALS.len()];
    let coding = CODINGS[usize::from(*first >> 2) % CODINGS.len()];
    let body = Bytes::copy_from_slice(body);
    let limits = Limits { decoded: ByteSize::kibibytes(64), ratio: 250 };
    let (mut messages, mut ending) = (Vec::new(), None);
    for frame in grpc_frames(&body) {
        let Ok(frame) = frame else {
            ending = Some(NotInspected::FormatBroken);
            break;
        };
        assert!(frame.message.start <= frame.message.end && frame.message.end <= body.len());
        let content = match frame.open(&body, Some(coding), &limits) {
            Ok(_) if !frame.is_compressed => Content::Plain,
            Ok(bytes) => Content::Decoded(bytes),
            Err(error) => Content::Unread(error.reason()),
        };
        messages.push(StreamMessage { span: frame.message, content });
    }
    let format = PayloadFormat::Otlp(OtlpEncoding::Grpc(signal));
    for budget in [Budget::default(), small_budget()] {
        let document = payload::decode_stream(&format, body.clone(), &messages, ending, &budget)
            .expect("small, and has a decoder");
        check(&document, &body, &budget);
    }
}

/// The first byte says which signal.
fn otlp_protobuf(input: &[u8]) {
    let Some((first, body)) = input.split_first() else { return };
    decode(PayloadFormat::Otlp(OtlpEncoding::Protobuf(SIGNALS[usize::from(*first) % SIGNALS.len()])), body);
}

/// A whole request through the core that redacts: what leaves is not redacted again, and is what the record keeps.
fn redact(input: &[u8]) {
    let Some(request) = parse(input) else { return };
    let inspection = inspect_with(redacting(), request.clone());
    let Forward::Rewritten(rewritten) = inspection.forward else { return };
    let mut sent = request;
    sent.head.target = rewritten.target;
    sent.head.headers = rewritten.headers;
    if let Some(body) = rewritten.body {
        sent.body = CapturedBody::Complete(body);
    }
    if let (CapturedBody::Complete(body), Some(kept)) = (&sent.body, &inspection.opening.body) {
        assert_eq!(body, kept, "the log keeps what was sent on");
    }

    let again = inspect_with(redacting(), sent);

    assert!(matches!(again.forward, Forward::Original), "{:?}", again.error);
}

/// The first byte says which format, the next eight which values are edited, and how.
fn splice(input: &[u8]) {
    const FORMATS: [PayloadFormat; 9] = [
        PayloadFormat::Datadog,
        PayloadFormat::Form,
        PayloadFormat::Json,
        PayloadFormat::Multipart,
        PayloadFormat::Otlp(OtlpEncoding::Json),
        PayloadFormat::Otlp(OtlpEncoding::Protobuf(Signal::Logs)),
        PayloadFormat::Otlp(OtlpEncoding::Protobuf(Signal::Traces)),
        PayloadFormat::Sentry,
        PayloadFormat::Statsig,
    ];
    let Some((first, rest)) = input.split_first() else { return };
    let Some((choice, body)) = rest.split_first_chunk::<8>() else { return };
    let choice = u64::from_le_bytes(*choice);
    let format = FORMATS[usize::from(*first) % FORMATS.len()];
    let body = Bytes::copy_from_slice(body);
    for budget in [Budget::default(), small_budget()] {
        let document = payload::decode(&format, body.clone(), &budget).expect("small, and has a decoder");
        assert_eq!(payload::splice(&document, &[]).as_deref(), Ok(&body[..]));
        let edits = edits(&document, choice);
        // What cannot be written again is refused; what is written is read again.
        if let Ok(edited) = payload::splice(&document, &edits) {
            let again = payload::decode(&format, edited.clone(), &Budget::default()).expect("still small");
            if edits.is_empty() {
                assert_eq!(edited, body);
            }
            // A form or an envelope that happens to be JSON may be emptied.
            let is_json = matches!(format, PayloadFormat::Json | PayloadFormat::Otlp(OtlpEncoding::Json));
            let was_json = is_json && serde_json::from_slice::<IgnoredAny>(&body).is_ok();
            assert!(!was_json || serde_json::from_slice::<IgnoredAny>(&edited).is_ok(), "no JSON any more");
            assert!(again.fields().len() > 0);
            // What could be read can be read still: lengths are told right, numbers are whole.
            let is_protobuf = matches!(format, PayloadFormat::Otlp(OtlpEncoding::Protobuf(_)));
            if is_protobuf && gaps_in_body(&document) == 0 {
                assert_eq!(gaps_in_body(&again), 0, "no protobuf any more");
            }
        }
    }
}

fn gaps_in_body(document: &Document) -> usize {
    document.gaps().iter().filter(|(node, _)| document.field(*node).text() == TextId::BODY).count()
}

/// Edits of the values that `choice` has a bit for. Only leaves: findings stand at no other node, and where the budget
/// was over an object or a list ends nowhere.
fn edits(document: &Document, choice: u64) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (at, field) in document.fields().enumerate() {
        let bits = choice >> (at % 61);
        if bits & 1 == 0 || field.kind().is_branch() {
            continue;
        }
        let with = match bits >> 1 & 3 {
            0 => Replacement::Null,
            1 => Replacement::Remove,
            2 => Replacement::Text("anon-0123.x_y".into()),
            _ => Replacement::Text("300".into()),
        };
        let (text, mut range) = document.plain(field.id()).unwrap_or((field.text(), field.span()));
        // A part of a text, as a value rule names it.
        let is_text = matches!(field.kind(), FieldKind::String | FieldKind::EscapedString);
        if bits >> 3 & 1 == 1 && is_text && matches!(with, Replacement::Text(_)) {
            range.start += range.len() / 3;
        }
        edits.push(Edit { text, range, node: field.id(), with });
    }
    edits
}

fn sentry(input: &[u8]) {
    decode(PayloadFormat::Sentry, input);
    decode(PayloadFormat::SentryStore, input);
}
