//! Every format × content coding × redaction method, through the whole core: from a captured request to what leaves.
//!
//! Bodies are random in what stands around the planted values, by a seed that a failure names. Cells are counted: one that
//! is left out fails the test, and so does a format, coding or method that somebody adds and does not list here.

mod bodies;
mod encodings;
mod places;

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use plainsight::{
    destination::Catalogue,
    encoding::{self, Coding, Limits, grpc_frames},
    inspect::{Capture, Forward, Inspection, Inspector, Options},
    model::{
        Action, Authority, AuthorityPattern, CapturedBody, CapturedRequest, Document, Field, FieldKind,
        FingerprintKey, FlowId, NotInspected, PathWriter, Redaction, RequestHead, RewrittenRequest, RunId,
        Scheme, TextId,
    },
    payload::{self, Budget, Content, OtlpEncoding, PayloadFormat, Signal, StreamMessage},
    policy::{PROFILES, Policy},
    rules::{RuleSet, Source},
};

use bodies::{Body, Planted, Random};

/// Finds the values that [`Planted`] makes: by the name of their field, and by their own look.
const RULES: &str = r#"
schema = 1
pack = "matrix"
version = "1"
[[rule]]
id = "matrix.field"
title = "t"
kind = "field"
entity = "A"
category = "pii.a"
where = ["**/planted", "**/planted/*", "**/planted/{a,n}", "otlp:**/asInt", "otlp:**/{bucketCounts,explicitBounds}/*"]
redact = { method = "replace", template = "X" }
[[rule]]
id = "matrix.value"
title = "t"
entity = "B"
category = "pii.b"
anchors = ["zq7-"]
regex = '(?P<hit>zq7-[a-z0-9]{20})'
redact = { method = "replace", template = "X" }
"#;

/// Each method as a policy writes it.
const METHODS: [&str; 11] = [
    "method = \"ip-prefix\", v4 = 24, v6 = 48",
    "method = \"leaves\", each = \"LEAF\"",
    "method = \"mask\", keep_first = 2, keep_last = 2",
    "method = \"mask-same-length\", keep_first = 2, keep_last = 2",
    "method = \"null\"",
    "method = \"partial\", keep_prefix = 4, template = \"{prefix}REDACTED\"",
    "method = \"pseudonym\", scope = \"destination\", template = \"anon-{h10}\"",
    "method = \"remove\"",
    "method = \"replace\", template = \"GONE\"",
    "method = \"summary\", template = \"was.{len}\"",
    "method = \"truncate\", keep = 4",
];

/// Content codings, outermost last.
const CODINGS: [&[Coding]; 6] = [
    &[],
    &[Coding::Brotli],
    &[Coding::Deflate],
    &[Coding::Gzip],
    &[Coding::Zstd],
    &[Coding::Gzip, Coding::Brotli],
];

/// Random bodies in each cell; `PLAINSIGHT_MATRIX_SEEDS` raises it.
const SEEDS: u64 = 1;

/// Of what no body is made, for there is nothing in it or no decoder: it is refused where policy redacts.
fn is_left_out(format: PayloadFormat) -> bool {
    match format {
        PayloadFormat::Empty | PayloadFormat::Grpc | PayloadFormat::Protobuf | PayloadFormat::Unknown => true,
        PayloadFormat::Datadog
        | PayloadFormat::FeatureFlags
        | PayloadFormat::Feedback
        | PayloadFormat::FirstPartyEvents
        | PayloadFormat::FirstPartyMetrics
        | PayloadFormat::Form
        | PayloadFormat::Gzip
        | PayloadFormat::Json
        | PayloadFormat::Multipart
        | PayloadFormat::OauthUsage
        | PayloadFormat::Otlp(OtlpEncoding::Json)
        | PayloadFormat::Otlp(OtlpEncoding::Protobuf(
            Signal::Logs | Signal::Metrics | Signal::Profiles | Signal::Traces,
        ))
        | PayloadFormat::Otlp(OtlpEncoding::Grpc(
            Signal::Logs | Signal::Metrics | Signal::Profiles | Signal::Traces,
        ))
        | PayloadFormat::Segment
        | PayloadFormat::Sentry
        | PayloadFormat::SentryMinidump
        | PayloadFormat::SentryStore
        | PayloadFormat::Settings
        | PayloadFormat::Statsig
        | PayloadFormat::Text
        | PayloadFormat::Updates => false,
    }
}

/// How many formats [`is_left_out`] names and does not leave out.
const FORMATS: usize = 27;

fn word(method: &Redaction) -> &'static str {
    match method {
        Redaction::IpPrefix { .. }
        | Redaction::Leaves { .. }
        | Redaction::Mask { .. }
        | Redaction::MaskSameLength { .. }
        | Redaction::Null
        | Redaction::Partial { .. }
        | Redaction::Pseudonym { .. }
        | Redaction::Remove
        | Redaction::Replace { .. }
        | Redaction::Summary { .. }
        | Redaction::Truncate { .. } => method.method(),
    }
}

fn inspector(policy: Policy) -> Inspector {
    let rules =
        RuleSet::from_sources(&[Source { name: "matrix.toml".into(), text: RULES.to_owned() }]).unwrap();
    Inspector::new(
        Catalogue::embedded(),
        vec![AuthorityPattern::parse("other.example.com").unwrap()],
        rules,
        policy,
        FingerprintKey::new(&[7; FingerprintKey::LEN_BYTES]),
        Options { capture: Capture::Masked, ..Options::default() },
    )
}

/// Redacts all that is found by one method; what cannot be read stays here.
fn redacting(method: &str) -> Inspector {
    let private = PROFILES.iter().find(|profile| profile.name == "private").unwrap().text;
    let (head, _) = private.split_once("[[row]]").unwrap();
    let row = format!(
        "{head}[[row]]\nid = \"all\"\nrule = [\"matrix.*\"]\naction = \"redact\"\nredact = {{ {method} }}\n"
    );
    inspector(Policy::from_toml("matrix.toml", &row).unwrap())
}

/// A request in one of the formats, with one coding.
struct Cell<'c> {
    body: &'c Body,
    plain: Vec<u8>,
    codings: &'c [Coding],
    request: CapturedRequest,
}

impl<'c> Cell<'c> {
    fn new(body: &'c Body, codings: &'c [Coding], planted: &Planted, random: &mut Random) -> Self {
        Self::of(body, (body.make)(planted, random), codings)
    }

    fn of(body: &'c Body, plain: Vec<u8>, codings: &'c [Coding]) -> Self {
        let mut headers = HeaderMap::new();
        let mut add = |name: &'static str, value: &str| {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        };
        if let Some(content_type) = body.content_type {
            add("content-type", content_type);
        }
        let sent = if let PayloadFormat::Otlp(OtlpEncoding::Grpc(_)) = body.format {
            match codings {
                // A message has its own coding.
                [coding] => {
                    add("grpc-encoding", coding.as_str());
                    framed(1, &encoding::encode(codings, &plain))
                }
                _ => encoding::encode(codings, &framed(0, &plain)),
            }
        } else {
            encoding::encode(codings, &plain)
        };
        if !codings.is_empty() && !headers.contains_key("grpc-encoding") {
            let names: Vec<&str> = codings.iter().map(|coding| coding.as_str()).collect();
            headers.append("content-encoding", HeaderValue::from_str(&names.join(", ")).unwrap());
        }
        let request = CapturedRequest {
            id: FlowId::new(RunId::new(1).unwrap(), 1),
            head: RequestHead {
                scheme: Scheme::Https,
                authority: Authority::parse(body.host, Some(443)).unwrap(),
                method: Method::POST,
                target: body.path.to_owned(),
                version: Version::HTTP_11,
                headers,
            },
            body: CapturedBody::Complete(sent.into()),
            trailers: None,
        };
        Self { body, plain, codings, request }
    }

    /// What the receiver reads of these bytes, once every coding is undone.
    fn open(&self, sent: &Bytes) -> Vec<u8> {
        let PayloadFormat::Otlp(OtlpEncoding::Grpc(_)) = self.body.format else {
            return encoding::decode(self.codings, sent, &Limits::default()).unwrap().to_vec();
        };
        let (coding, stream) = match self.codings {
            [coding] => (Some(*coding), sent.clone()),
            codings => (None, encoding::decode(codings, sent, &Limits::default()).unwrap()),
        };
        let frames: Vec<_> = grpc_frames(&stream).map(Result::unwrap).collect();
        assert_eq!(frames.len(), 1);
        assert_eq!((frames[0].is_compressed, frames[0].message.end), (coding.is_some(), stream.len()));
        frames[0].open(&stream, coding, &Limits::default()).unwrap().to_vec()
    }

    /// The fields of a body of this cell.
    fn read(&self, plain: &[u8]) -> Document {
        let (plain, budget) = (Bytes::copy_from_slice(plain), Budget::default());
        match self.body.format {
            PayloadFormat::Otlp(OtlpEncoding::Grpc(_)) => {
                let stream = Bytes::from(framed(0, &plain));
                let message = StreamMessage { span: 5..stream.len(), content: Content::Plain };
                payload::decode_stream(&self.body.format, stream, &[message], None, &budget).unwrap()
            }
            format => payload::decode(&format, plain, &budget).unwrap(),
        }
    }
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

fn inspect(inspector: &Inspector, request: CapturedRequest) -> Inspection {
    let destination = inspector.classify(&request.head);
    inspector.inspect(request, destination, 1)
}

#[test]
fn every_format_coding_and_method_changes_what_is_named_and_nothing_else() {
    let seeds =
        std::env::var("PLAINSIGHT_MATRIX_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let observing = inspector(Policy::embedded());
    let mut cells = BTreeSet::new();
    let mut formats = Vec::new();
    let mut words = BTreeSet::new();
    for method in METHODS {
        let redacting = redacting(method);
        words.insert(word(redacting.policy().rows()[0].redact.as_deref().unwrap()));
        for body in bodies::BODIES {
            assert!(!is_left_out(body.format), "{}", body.name);
            if !formats.contains(&body.format) {
                formats.push(body.format);
            }
            for (at, codings) in CODINGS.iter().enumerate() {
                for seed in 0..seeds {
                    let about = format!("{}, {codings:?}, {method}, seed {seed}", body.name);
                    let mut random = Random::new(seed * 1000 + at as u64);
                    let planted = Planted::new(method.contains("ip-prefix"), &mut random);
                    let cell = Cell::new(body, codings, &planted, &mut random);

                    check(&about, &cell, &planted, method, &observing, &redacting);
                }
                cells.insert((method, body.name, at));
            }
        }
    }

    assert_eq!(words.len(), METHODS.len(), "each method once: {words:?}");
    assert_eq!(formats.len(), FORMATS, "every format that is not left out");
    assert_eq!(cells.len(), METHODS.len() * bodies::BODIES.len() * CODINGS.len(), "cells");
    // One that is added makes this number wrong, and that is the point.
    assert_eq!(cells.len(), 11 * 30 * 6);
}

/// What has no decoder stays here where policy redacts, whatever its coding; and where it only observes, it goes on.
#[test]
fn what_has_no_decoder_is_refused_and_not_redacted() {
    let (observing, redacting) = (inspector(Policy::embedded()), redacting(METHODS[8]));
    let to = |content_type| (bodies::OTHER, "/x", content_type);
    let left_out = [
        bodies::body("grpc", PayloadFormat::Grpc, to(bodies::GRPC), bodies::message, bodies::is_text),
        bodies::body(
            "protobuf",
            PayloadFormat::Protobuf,
            to(bodies::PROTOBUF),
            bodies::message,
            bodies::is_text,
        ),
        bodies::body("unknown", PayloadFormat::Unknown, to(None), bodies::unknown, bodies::is_text),
    ];
    for body in &left_out {
        assert!(is_left_out(body.format));
        for codings in CODINGS {
            let mut random = Random::new(1);
            let planted = Planted::new(false, &mut random);
            let cell = Cell::new(body, codings, &planted, &mut random);
            let about = format!("{}, {codings:?}", body.name);

            let observed = inspect(&observing, cell.request.clone());
            let redacted = inspect(&redacting, cell.request.clone());

            assert_eq!(observed.forward, Forward::Original, "{about}");
            assert!(matches!(redacted.forward, Forward::Refused(_)), "{about}: {:?}", redacted.forward);
            assert_eq!(redacted.opening.not_inspected, Some(NotInspected::FormatUnsupported), "{about}");
        }
    }
}

/// All that must hold in one cell.
fn check(
    about: &str,
    cell: &Cell<'_>,
    planted: &Planted,
    method: &str,
    observing: &Inspector,
    redacting: &Inspector,
) {
    (cell.body.receive)(&cell.plain, about);
    // PITFALLS 33: what is to go is there, the rules see it, and nothing changes under a policy that only observes.
    let observed = inspect(observing, cell.request.clone());
    assert_eq!((&observed.forward, observed.error.as_deref()), (&Forward::Original, None), "{about}");
    assert_eq!(observed.opening.not_inspected, None, "{about}");
    let before = cell.read(&cell.plain);
    let places = planted.places_in(&before);
    assert!(!places.is_empty() && observed.opening.findings.len() >= places.len(), "{about}: {places:?}");

    let inspection = inspect(redacting, cell.request.clone());

    let Forward::Rewritten(rewritten) = &inspection.forward else {
        panic!("{about}: {:?} because of {:?}", inspection.forward, inspection.error)
    };
    assert_eq!((inspection.opening.action, inspection.error.as_deref()), (Action::Redact, None), "{about}");
    assert_eq!(rewritten.headers, cell.request.head.headers, "{about}");
    assert_eq!(rewritten.target, cell.request.head.target, "{about}");
    let sent = rewritten.body.clone().unwrap();
    let rewriting = inspection.opening.rewriting.as_ref().unwrap();
    assert_eq!(rewriting.body_bytes, sent.len() as u64, "{about}");
    let plain = cell.open(&sent);
    let after = cell.read(&plain);
    let shown = String::from_utf8_lossy(&plain);
    assert_eq!(after.gaps(), before.gaps(), "{about}: {shown}");
    assert_eq!(planted.places_in(&after), [""; 0], "{about}: {shown}");
    assert!(!planted.stands_in(&plain), "{about}: {shown}");
    (cell.body.receive)(&plain, about);
    let changes: Vec<_> = rewriting.edits.iter().map(|edit| edit.path.to_string()).collect();
    check_fields(&format!("{about}, {changes:?}"), &before, &after, planted, method);
    check_bytes(about, cell, &before, &plain, method);

    let again = inspect(redacting, sent_on(&cell.request, rewritten));
    assert_eq!((&again.forward, again.error.as_deref()), (&Forward::Original, None), "{about}: {shown}");
    assert!(again.opening.rewriting.is_none(), "{about}");
}

fn sent_on(request: &CapturedRequest, rewritten: &RewrittenRequest) -> CapturedRequest {
    let mut sent = request.clone();
    sent.body = CapturedBody::Complete(rewritten.body.clone().unwrap());
    sent
}

/// What a field is: its path, its type, its plain value.
type Seen = (String, FieldKind, Vec<u8>);

fn seen<'d>(paths: &mut PathWriter<'d>, field: Field<'d>) -> Seen {
    let kind = if field.kind() == FieldKind::EscapedString { FieldKind::String } else { field.kind() };
    (paths.path(field).to_owned(), kind, field.plain().to_vec())
}

/// Whether something in the document was opened out of a field.
fn holders(document: &Document) -> Vec<bool> {
    let mut holds = vec![false; document.fields().len()];
    for field in document.fields() {
        if let Some(parent) = field.parent() {
            holds[parent.id().index()] = true;
        }
    }
    holds
}

/// What is not named is there as it was; what is named has its type still, and says what its method makes of it.
fn check_fields(about: &str, before: &Document, after: &Document, planted: &Planted, method: &str) {
    let keeps_type = !method.contains("null") && !method.contains("remove");
    let mut paths = PathWriter::new(after);
    let mut there: HashMap<Seen, usize> = HashMap::new();
    let mut kinds: HashMap<String, Vec<(FieldKind, Vec<u8>)>> = HashMap::new();
    let mut shown: HashMap<String, Vec<String>> = HashMap::new();
    let after_holds = holders(after);
    for field in after.fields() {
        let (path, kind, value) = seen(&mut paths, field);
        kinds.entry(path.clone()).or_default().push((kind, value.clone()));
        if !kind.is_branch() {
            shown.entry(path.clone()).or_default().push(field.display().into_owned());
        }
        if !kind.is_branch() && !after_holds[field.id().index()] {
            *there.entry((path, kind, value)).or_default() += 1;
        }
    }
    let before_holds = holders(before);
    let mut paths = PathWriter::new(before);
    let mut untouched = 0;
    for field in before.fields() {
        let (path, kind, value) = seen(&mut paths, field);
        let is_named = is_named(&path);
        let is_leaf = !kind.is_branch() && !before_holds[field.id().index()];
        let holds_value = planted.stands_in(&value) || planted.stands_in(path.as_bytes());
        if path.ends_with("planted") && keeps_type && !before_holds_text(before, field) {
            let now = kinds.get(&path).unwrap_or_else(|| panic!("{about}: {path} is gone"));
            assert!(now.iter().any(|(now, _)| *now == kind), "{about}: {path} is {now:?}, was {kind:?}");
        }
        if !is_leaf {
            continue;
        }
        if path.ends_with("planted") && kind == FieldKind::String && value == planted.field.as_bytes() {
            let now = kinds.get(&path).cloned().unwrap_or_default();
            let fits = |(_, value): &(FieldKind, Vec<u8>)| planted.is_result(method, value);
            assert!(
                now.iter().any(fits) || (!keeps_type && now.is_empty()),
                "{about}: {path} became {now:?}"
            );
        }
        if is_named && keeps_type && is_number(before, field) && !path.contains("/!") {
            let now = kinds.get(&path).unwrap_or_else(|| panic!("{about}: {path} is gone"));
            assert!(now.iter().all(|(now, _)| *now == kind), "{about}: {path} is {now:?}, was {kind:?}");
            let is_short = method.contains("truncate") && field.display().len() <= 4;
            let now = &shown[&path];
            let is_nothing = |now: &String| now == "0" || now == "false";
            assert!(is_short || now.iter().all(is_nothing), "{about}: {path} is {now:?}");
        }
        let is_length = path.ends_with("/header/length");
        if is_named || holds_value || is_length {
            continue;
        }
        untouched += 1;
        match there.get_mut(&(path.clone(), kind, value.clone())) {
            Some(left @ 1..) => *left -= 1,
            _ => {
                let texts: Vec<_> = after.texts().map(|(_, text)| String::from_utf8_lossy(text)).collect();
                panic!(
                    "{about}: {path} was {kind:?} {:?}, and now: {texts:#?}",
                    String::from_utf8_lossy(&value)
                )
            }
        }
    }
    assert!(
        untouched > 0 || before.fields().len() == 1,
        "{about}: nothing else is there, so that this shows nothing"
    );
}

/// Whether the rules of [`RULES`] name a field, or one above it.
fn is_named(path: &str) -> bool {
    path.split('/').any(|segment| {
        segment.ends_with("planted") || ["asInt", "bucketCounts", "explicitBounds"].contains(&segment)
    })
}

/// Whether a value is a number, or a truth value; OTLP's JSON writes whole numbers as strings.
fn is_number(document: &Document, field: Field<'_>) -> bool {
    match field.kind() {
        FieldKind::Binary(_) | FieldKind::Bool | FieldKind::Number => true,
        FieldKind::String => document.prefix() == "otlp" && field.display().parse::<i64>().is_ok(),
        _ => false,
    }
}

/// Whether a field's value is a document that was opened: what becomes of it may not be one any more.
fn before_holds_text(document: &Document, field: Field<'_>) -> bool {
    document
        .fields_from(field.id())
        .skip(1)
        .any(|inner| inner.is_segment() && inner.parent().is_some_and(|parent| parent.id() == field.id()))
}

/// Outside of the outermost values that hold something named, every byte is as it was; but for the lengths that formats
/// tell.
fn check_bytes(about: &str, cell: &Cell<'_>, before: &Document, plain: &[u8], method: &str) {
    let is_framed = matches!(
        cell.body.format,
        PayloadFormat::Otlp(OtlpEncoding::Protobuf(_) | OtlpEncoding::Grpc(_)) | PayloadFormat::Sentry
    );
    // A body that is opened as a whole has no byte outside.
    let is_packed = before.fields().any(|field| field.text() == TextId::BODY && field.is_segment())
        || matches!(cell.body.format, PayloadFormat::Gzip);
    // A pair goes with its braces, which are no field.
    let is_pair = cell.body.format == PayloadFormat::Otlp(OtlpEncoding::Json) && method.contains("remove");
    if is_framed || is_packed || is_pair || cell.body.is_packed {
        return;
    }
    let mut changed: Vec<_> = (cell.body.outer)(before);
    changed.sort_by_key(|span| span.start);
    let (mut at, mut rest) = (0, plain);
    for span in changed {
        if span.start < at {
            at = at.max(span.end);
            continue;
        }
        let kept = &cell.plain[at..span.start];
        let found = memchr::memmem::find(rest, kept).unwrap_or_else(|| {
            panic!(
                "{about}: {:?} is not in {:?}",
                String::from_utf8_lossy(kept),
                String::from_utf8_lossy(rest)
            )
        });
        assert!(at > 0 || found == 0, "{about}: the start is another");
        rest = &rest[found + kept.len()..];
        at = span.end;
    }
    assert!(
        rest.ends_with(&cell.plain[at..]),
        "{about}: the end is another: {:?}",
        String::from_utf8_lossy(rest)
    );
}
