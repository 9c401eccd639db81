use bytes::Bytes;

use crate::{
    model::{Confidence, Document, DocumentBuilder},
    payload::{Budget, PayloadError, container, json::looks_like_json},
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
    /// Anthropic's event batches, in JSON with base64 in it.
    FirstPartyEvents,
    /// Anthropic's metrics, in JSON.
    FirstPartyMetrics,
    /// A form as a browser sends it.
    Form,
    /// Protobuf messages in gRPC's frames.
    Grpc,
    /// Gzip that no header announces, as statsig-js sends it with `?gz=1`.
    Gzip,
    /// Any other JSON.
    Json,
    /// A form of several parts, as for uploads.
    Multipart,
    /// OpenTelemetry, in whichever encoding.
    Otlp,
    /// Protobuf without a known schema.
    Protobuf,
    /// Sentry's envelopes.
    Sentry,
    /// Statsig's events and initialisation, in JSON whatever its label.
    Statsig,
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
            Self::FirstPartyEvents => "first-party-events",
            Self::FirstPartyMetrics => "first-party-metrics",
            Self::Form => "form",
            Self::Grpc => "grpc",
            Self::Gzip => "gzip",
            Self::Json => "json",
            Self::Multipart => "multipart",
            Self::Otlp => "otlp",
            Self::Protobuf => "protobuf",
            Self::Sentry => "sentry",
            Self::Statsig => "statsig",
            Self::Unknown => "unknown",
        }
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
    if media_type.starts_with("application/grpc") {
        return is(PayloadFormat::Grpc, Confidence::High);
    }
    if body.starts_with(GZIP_MAGIC) {
        return is(PayloadFormat::Gzip, Confidence::High);
    }
    match destination {
        "otlp" => return is(PayloadFormat::Otlp, Confidence::High),
        "sentry" if path.trim_end_matches('/').ends_with("/envelope") => {
            return is(PayloadFormat::Sentry, Confidence::Certain);
        }
        _ => {}
    }
    let says_json = media_type == "application/json" || media_type.ends_with("+json");
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if looks_like_json(body) {
        return match json_of(destination) {
            Some(format) => is(format, Confidence::Certain),
            None => is(PayloadFormat::Json, if says_json { Confidence::Certain } else { Confidence::High }),
        };
    }
    match media_type.as_str() {
        "application/x-www-form-urlencoded" => is(PayloadFormat::Form, Confidence::Medium),
        "application/x-protobuf" | "application/protobuf" => is(PayloadFormat::Protobuf, Confidence::Medium),
        "application/x-sentry-envelope" => is(PayloadFormat::Sentry, Confidence::High),
        "multipart/form-data" => is(PayloadFormat::Multipart, Confidence::High),
        // A lone value, or broken from the start: the walk finds out and says so.
        _ if says_json => is(json_of(destination).unwrap_or(PayloadFormat::Json), Confidence::Low),
        _ => is(PayloadFormat::Unknown, Confidence::Low),
    }
}

/// Takes a payload apart.
///
/// What cannot be read of a known format is a gap in the document; its bytes can be scanned all the same.
///
/// # Errors
/// [`PayloadError::Unsupported`] for a format without a decoder, [`PayloadError::TooLarge`] for a body of 4 GiB.
pub fn decode(format: &PayloadFormat, body: Bytes, budget: &Budget) -> Result<Document, PayloadError> {
    if u32::try_from(body.len()).is_err() {
        return Err(PayloadError::TooLarge);
    }
    match format {
        PayloadFormat::Empty => Ok(DocumentBuilder::new(format.name(), body).finish()),
        PayloadFormat::Datadog
        | PayloadFormat::FeatureFlags
        | PayloadFormat::FirstPartyEvents
        | PayloadFormat::FirstPartyMetrics
        | PayloadFormat::Json
        | PayloadFormat::Statsig => Ok(container::decode(format.name(), body, budget)),
        PayloadFormat::Form
        | PayloadFormat::Grpc
        | PayloadFormat::Gzip
        | PayloadFormat::Multipart
        | PayloadFormat::Otlp
        | PayloadFormat::Protobuf
        | PayloadFormat::Sentry
        | PayloadFormat::Unknown => Err(PayloadError::Unsupported(format.name())),
    }
}

const GZIP_MAGIC: &[u8] = b"\x1f\x8b\x08";

/// What a destination's JSON is called; `None` where it has no name of its own.
fn json_of(destination: &str) -> Option<PayloadFormat> {
    Some(match destination {
        "datadog" => PayloadFormat::Datadog,
        "feature-flags" => PayloadFormat::FeatureFlags,
        "first-party-events" => PayloadFormat::FirstPartyEvents,
        "first-party-metrics" => PayloadFormat::FirstPartyMetrics,
        "statsig" => PayloadFormat::Statsig,
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
    use crate::model::NotInspected;

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
            PayloadFormat::FirstPartyEvents,
            PayloadFormat::FirstPartyMetrics,
            PayloadFormat::Statsig,
        ] {
            let found = recognise(expected.name(), Some(json), "/", body);

            assert_eq!(found, Recognition { format: expected, confidence: Confidence::Certain });
        }
        assert_eq!(format("feedback", json, "/", body), PayloadFormat::Json);
    }

    #[test]
    fn json_is_known_by_its_bytes_and_not_by_its_label() {
        let body = b" \n[{\"a\":1}]";

        assert_eq!(format("statsig", "text/plain;charset=UTF-8", "/v1/rgstr", body), PayloadFormat::Statsig);
        assert_eq!(recognise("unknown", None, "/", body).format, PayloadFormat::Json);
        assert_eq!(format("unknown", "text/plain", "/", b"[INFO] hello"), PayloadFormat::Unknown);
    }

    #[test]
    fn what_has_no_decoder_yet_is_named_and_refused() {
        let cases = [
            (format("statsig", "text/plain", "/v1/rgstr", b"\x1f\x8b\x08\0rest"), PayloadFormat::Gzip),
            (format("otlp", "application/json", "/v1/logs", b"{\"resourceLogs\":[]}"), PayloadFormat::Otlp),
            (format("otlp", "application/grpc+proto", "/x/Export", b"\0\0\0\0\0"), PayloadFormat::Grpc),
            (format("sentry", "", "/api/1/envelope/", b"{}\n{}\n{}"), PayloadFormat::Sentry),
            (format("x", "application/x-www-form-urlencoded", "/", b"a=b"), PayloadFormat::Form),
            (format("x", "multipart/form-data; boundary=x", "/", b"--x"), PayloadFormat::Multipart),
            (format("x", "application/x-protobuf", "/", b"\x0a\x01"), PayloadFormat::Protobuf),
            (format("x", "application/octet-stream", "/", b"\x00\x01"), PayloadFormat::Unknown),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);

            let error = decode(&found, Bytes::from_static(b"x"), &Budget::default()).unwrap_err();

            assert_eq!(error, PayloadError::Unsupported(expected.name()));
            assert_eq!(error.reason(), NotInspected::FormatUnsupported);
        }
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
