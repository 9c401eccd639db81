use bytes::Bytes;

use crate::{
    model::{Confidence, Document, DocumentBuilder, NotInspected},
    payload::{
        Budget, OtlpEncoding, PayloadError, StreamMessage, compressed,
        json::looks_like_json,
        otlp,
        shape::{self, Shape},
    },
};

/// The format of a payload: how its bytes are read, and by which name its paths begin.
///
/// To add one, add a file with its decoder and a line in [`PayloadFormat::name`], [`recognise`] and [`decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PayloadFormat {
    /// Datadog's log intake: a list of log entries in JSON.
    Datadog,
    /// No body, or nothing but white space.
    Empty,
    /// GrowthBook's remote evaluation, in JSON.
    FeatureFlags,
    /// Feedback and transcripts that a person sends on purpose, in JSON.
    Feedback,
    /// Anthropic's event batches, in JSON with base64 in it.
    FirstPartyEvents,
    /// Anthropic's metrics, in JSON.
    FirstPartyMetrics,
    /// A form as a browser sends it.
    Form,
    /// Protobuf messages in gRPC's frames, without a known schema.
    Grpc,
    /// Gzip that no header announces, as statsig-js sends it with `?gz=1`.
    Gzip,
    /// Any other JSON.
    Json,
    /// A form of several parts, as for uploads.
    Multipart,
    /// The plan's use.
    OauthUsage,
    /// OpenTelemetry, in whichever encoding.
    Otlp(OtlpEncoding),
    /// Protobuf without a known schema.
    Protobuf,
    /// Segment's batches, in JSON.
    Segment,
    /// Sentry's envelopes.
    Sentry,
    /// A crash's memory, in a form of several parts, as Sentry takes it.
    SentryMinidump,
    /// One event for Sentry in JSON, perhaps in base64 of zlib, as old clients send it.
    SentryStore,
    /// Account, settings and limits.
    Settings,
    /// Statsig's events and initialisation, in JSON whatever its label.
    Statsig,
    /// Text without a structure.
    Text,
    /// Questions about new versions.
    Updates,
    /// None of these.
    Unknown,
}

impl PayloadFormat {
    /// The word for it, which begins the paths of its fields.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Datadog => "datadog",
            Self::Empty => "empty",
            Self::FeatureFlags => "feature-flags",
            Self::Feedback => "feedback",
            Self::FirstPartyEvents => "first-party-events",
            Self::FirstPartyMetrics => "first-party-metrics",
            Self::Form => "form",
            Self::Grpc => "grpc",
            Self::Gzip => "gzip",
            Self::Json => "json",
            Self::Multipart => "multipart",
            Self::OauthUsage => "oauth-usage",
            Self::Otlp(_) => "otlp",
            Self::Protobuf => "protobuf",
            Self::Segment => "segment",
            Self::Sentry | Self::SentryMinidump | Self::SentryStore => "sentry",
            Self::Settings => "settings",
            Self::Statsig => "statsig",
            Self::Text => "text",
            Self::Unknown => "unknown",
            Self::Updates => "updates",
        }
    }

    /// Whether a body is a stream of messages with codings of their own, see [`decode_stream`].
    pub const fn is_stream(self) -> bool {
        matches!(self, Self::Otlp(OtlpEncoding::Grpc(_)))
    }
}

/// Which format a payload is in, and how sure that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recognition {
    /// The format.
    pub format: PayloadFormat,
    /// Certain when destination and bytes agree; low when only a label speaks for it.
    pub confidence: Confidence,
}

/// Says which format `body` is in, once its content coding is undone.
///
/// The destination gives the format its name. Whether it is JSON at all, the bytes say, because labels lie: Statsig
/// sends JSON as `text/plain`, Sentry sends no label. `path` is the request's path without its query.
pub fn recognise(destination: &str, content_type: Option<&str>, path: &str, body: &[u8]) -> Recognition {
    let is = |format, confidence| Recognition { format, confidence };
    let media_type = media_type(content_type);
    if body.trim_ascii().is_empty() {
        return is(PayloadFormat::Empty, Confidence::Certain);
    }
    if let Some((encoding, confidence)) = otlp::recognise(destination, &media_type, path, body) {
        return is(PayloadFormat::Otlp(encoding), confidence);
    }
    if media_type.starts_with("application/grpc") {
        return is(PayloadFormat::Grpc, Confidence::High);
    }
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if destination == "sentry" {
        let format = match path.trim_end_matches('/').rsplit_once('/') {
            Some((_, "minidump")) if media_type != "application/json" => PayloadFormat::SentryMinidump,
            Some((_, "store")) => PayloadFormat::SentryStore,
            _ => PayloadFormat::Sentry,
        };
        return is(format, Confidence::Certain);
    }
    let named = json_of(destination);
    if compressed::detect(body).is_some() {
        return is(named.unwrap_or(PayloadFormat::Gzip), Confidence::High);
    }
    let says_json = media_type == "application/json" || media_type.ends_with("+json");
    if looks_like_json(body) {
        return match named {
            _ if media_type == "application/x-sentry-envelope" => is(PayloadFormat::Sentry, Confidence::High),
            Some(format) => is(format, Confidence::Certain),
            None => is(PayloadFormat::Json, if says_json { Confidence::Certain } else { Confidence::High }),
        };
    }
    match media_type.as_str() {
        "application/x-www-form-urlencoded" => is(PayloadFormat::Form, Confidence::Medium),
        "application/x-protobuf" | "application/protobuf" => is(PayloadFormat::Protobuf, Confidence::Medium),
        _ if media_type.starts_with("multipart/") => {
            is(named.unwrap_or(PayloadFormat::Multipart), Confidence::High)
        }
        // A lone value, or broken from the start: the walk finds out and says so.
        _ if says_json => is(named.unwrap_or(PayloadFormat::Json), Confidence::Low),
        _ if compressed::is_text(body) => is(named.unwrap_or(PayloadFormat::Text), Confidence::Low),
        _ => is(PayloadFormat::Unknown, Confidence::Low),
    }
}

/// Takes a payload apart.
///
/// What cannot be read of a known format is a gap in the document; its bytes can be scanned all the same.
///
/// # Errors
/// [`PayloadError::Unsupported`] for a format without a decoder (and for a stream, see [`decode_stream`]),
/// [`PayloadError::TooLarge`] for a body of 4 GiB.
pub fn decode(format: &PayloadFormat, body: Bytes, budget: &Budget) -> Result<Document, PayloadError> {
    if u32::try_from(body.len()).is_err() {
        return Err(PayloadError::TooLarge);
    }
    let read = |shape| Ok(shape::decode(format.name(), shape, body.clone(), budget));
    match format {
        PayloadFormat::Empty => Ok(DocumentBuilder::new(format.name(), body.clone()).finish()),
        PayloadFormat::Datadog
        | PayloadFormat::FeatureFlags
        | PayloadFormat::Feedback
        | PayloadFormat::FirstPartyEvents
        | PayloadFormat::FirstPartyMetrics
        | PayloadFormat::Gzip
        | PayloadFormat::OauthUsage
        | PayloadFormat::Segment
        | PayloadFormat::SentryStore
        | PayloadFormat::Settings
        | PayloadFormat::Text
        | PayloadFormat::Unknown
        | PayloadFormat::Updates => read(Shape::Any),
        PayloadFormat::Form => read(Shape::Form),
        PayloadFormat::Json => read(Shape::Json),
        PayloadFormat::Multipart | PayloadFormat::SentryMinidump => read(Shape::Multipart),
        PayloadFormat::Sentry => read(Shape::Envelope),
        PayloadFormat::Statsig => read(Shape::Statsig),
        PayloadFormat::Otlp(encoding) => otlp::decode(*encoding, body.clone(), budget),
        PayloadFormat::Grpc | PayloadFormat::Protobuf => Err(PayloadError::Unsupported(format.name())),
    }
}

/// Takes apart a body that is a stream of messages, which whoever knows content codings has opened.
///
/// Paths do not tell messages apart: lists count on from one to the next. `ending` says why what stands behind the
/// last message was not read.
///
/// # Errors
/// As [`decode`].
pub fn decode_stream(
    format: &PayloadFormat,
    body: Bytes,
    messages: &[StreamMessage],
    ending: Option<NotInspected>,
    budget: &Budget,
) -> Result<Document, PayloadError> {
    if u32::try_from(body.len()).is_err() {
        return Err(PayloadError::TooLarge);
    }
    match format {
        PayloadFormat::Otlp(OtlpEncoding::Grpc(signal)) => {
            otlp::decode_stream(*signal, body, messages, ending, budget)
        }
        _ => Err(PayloadError::Unsupported(format.name())),
    }
}

/// What a destination's JSON is called; `None` where it has no name of its own.
fn json_of(destination: &str) -> Option<PayloadFormat> {
    Some(match destination {
        "datadog" => PayloadFormat::Datadog,
        "feature-flags" => PayloadFormat::FeatureFlags,
        "feedback" => PayloadFormat::Feedback,
        "first-party-events" => PayloadFormat::FirstPartyEvents,
        "first-party-metrics" => PayloadFormat::FirstPartyMetrics,
        "oauth-usage" => PayloadFormat::OauthUsage,
        "segment" => PayloadFormat::Segment,
        "settings" => PayloadFormat::Settings,
        "statsig" => PayloadFormat::Statsig,
        "updates" => PayloadFormat::Updates,
        _ => return None,
    })
}

/// A content type without its parameters.
fn media_type(content_type: Option<&str>) -> String {
    let value = content_type.unwrap_or_default();
    value.split_once(';').map_or(value, |(media_type, _)| media_type).trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(destination: &str, content_type: &str, path: &str, body: &[u8]) -> PayloadFormat {
        recognise(destination, Some(content_type), path, body).format
    }

    #[test]
    fn the_destination_names_the_format() {
        let body = br#"{"events":[]}"#;
        let json = "application/json; charset=utf-8";
        for expected in [
            PayloadFormat::Datadog,
            PayloadFormat::FeatureFlags,
            PayloadFormat::Feedback,
            PayloadFormat::FirstPartyEvents,
            PayloadFormat::FirstPartyMetrics,
            PayloadFormat::Statsig,
        ] {
            let found = recognise(expected.name(), Some(json), "/", body);

            assert_eq!(found, Recognition { format: expected, confidence: Confidence::Certain });
        }
        assert_eq!(format("third-party", json, "/", body), PayloadFormat::Json);
    }

    #[test]
    fn json_is_known_by_its_bytes_and_not_by_its_label() {
        let body = b" \n[{\"a\":1}]";

        assert_eq!(format("statsig", "text/plain;charset=UTF-8", "/v1/rgstr", body), PayloadFormat::Statsig);
        assert_eq!(recognise("unknown", None, "/", body).format, PayloadFormat::Json);
        assert_eq!(format("unknown", "text/plain", "/", b"[INFO] hello"), PayloadFormat::Text);
    }

    #[test]
    fn the_body_decides_and_labels_only_hint() {
        let gzip = encode_gzip(b"{}");
        let cases = [
            (format("statsig", "text/plain", "/v1/rgstr", &gzip), PayloadFormat::Statsig),
            (format("x", "", "/", &gzip), PayloadFormat::Gzip),
            (format("sentry", "", "/api/1/envelope/", b"{}\n{}\n{}"), PayloadFormat::Sentry),
            (format("sentry", "", "/api/1/store/", b"eJw"), PayloadFormat::SentryStore),
            (
                format("sentry", "multipart/form-data; boundary=x", "/api/1/minidump/", b"--x"),
                PayloadFormat::SentryMinidump,
            ),
            (format("x", "application/x-www-form-urlencoded", "/", b"a=b"), PayloadFormat::Form),
            (format("x", "application/x-www-form-urlencoded", "/", b"{\"a\":1}"), PayloadFormat::Json),
            (format("x", "multipart/form-data; boundary=x", "/", b"--x"), PayloadFormat::Multipart),
            (format("x", "", "/", b"just text"), PayloadFormat::Text),
            (format("x", "application/octet-stream", "/", b"\x00\x01"), PayloadFormat::Unknown),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_has_no_decoder_yet_is_named_and_refused() {
        let cases = [
            (format("x", "application/grpc+proto", "/x/Export", b"\0\0\0\0\0"), PayloadFormat::Grpc),
            (format("x", "application/x-protobuf", "/", b"\x0a\x01"), PayloadFormat::Protobuf),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);

            let error = decode(&found, Bytes::from_static(b"x"), &Budget::default()).unwrap_err();

            assert_eq!(error, PayloadError::Unsupported(expected.name()));
            assert_eq!(error.reason(), NotInspected::FormatUnsupported);
        }
    }

    #[test]
    fn bytes_without_a_format_are_a_gap_and_can_be_scanned() {
        let document = decode(
            &PayloadFormat::Unknown,
            Bytes::from_static(b"\x00bob@example.com\x01"),
            &Budget::default(),
        )
        .unwrap();

        assert_eq!(document.gaps()[0].1, NotInspected::FormatUnsupported);
        assert_eq!(document.fields().len(), 1);
    }

    fn encode_gzip(bytes: &[u8]) -> Vec<u8> {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn an_empty_body_is_an_empty_document() {
        let found = recognise("settings", None, "/", b"\r\n");

        let document = decode(&found.format, Bytes::new(), &Budget::default()).unwrap();

        assert_eq!(found.format, PayloadFormat::Empty);
        assert!(document.gaps().is_empty());
        assert_eq!(document.fields().len(), 1);
    }
}
