use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Version, header::CONTENT_ENCODING, header::CONTENT_TYPE};

use crate::{
    cli::scan::kind::BodyKind,
    encoding::{self, Coding, DecodeError},
    har::{Entry, RecordedBody},
    inspect::Inspector,
    model::{
        Authority, CapturedBody, CapturedRequest, FlowClosing, FlowId, FlowRecord, NotInspected, Outcome,
        RequestHead, RunId, Scheme,
    },
};

/// The record of one request.
pub(in crate::cli) struct Scanned {
    pub(in crate::cli) record: FlowRecord,
    /// Whether the recording says when it was.
    pub(super) time_is_known: bool,
}

/// Inspects a request of a recording as the proxy would have.
pub(in crate::cli) fn entry(inspector: &Inspector, entry: Entry) -> Scanned {
    let Entry { index, time_ms, mut head, body, status, duration_ms, response_bytes } = entry;
    let id = id(index);
    let at = time_ms.unwrap_or_default();
    let time_is_known = time_ms.is_some();
    let (body, missing) = match body {
        RecordedBody::Complete(body) => (body, None),
        RecordedBody::Missing(reason) => (Bytes::new(), Some(reason)),
    };
    let request_bytes = body.len() as u64;
    let opening = if head.method == Method::CONNECT {
        inspector.tunnel(id, Some(&head.authority), at, Some(NotInspected::NotIntercepted))
    } else {
        let destination = inspector.classify(&head);
        if missing.is_some() || !destination.inspected {
            let opening = inspector.observe(id, &head, &destination, at, missing);
            crate::model::FlowOpening { request_bytes, ..opening }
        } else {
            if is_decoded(&head.headers, &body) {
                head.headers.remove(CONTENT_ENCODING);
            }
            let request = CapturedRequest { id, head, body: CapturedBody::Complete(body), trailers: None };
            inspector.inspect(request, destination, at).opening
        }
    };
    let closing = FlowClosing {
        outcome: if status.is_some() { Outcome::Forwarded } else { Outcome::UpstreamFailed },
        status,
        request_bytes,
        response_bytes,
        duration_ms,
        error: None,
        not_inspected: None,
    };
    Scanned { record: FlowRecord { opening, closing: Some(closing) }, time_is_known }
}

/// Inspects a body that is in a file. `before` bytes of it are not the file's own: spans count without them.
pub(super) fn body(
    inspector: &Inspector,
    file: &str,
    index: usize,
    kind: BodyKind,
    body: Bytes,
    before: usize,
) -> Result<Scanned, &'static str> {
    let BodyKind { destination, content_type, path } = kind.settled(&body)?;
    let request_bytes = (body.len() - before.min(body.len())) as u64;
    let mut headers = HeaderMap::new();
    if let Some(content_type) = content_type.and_then(|value| HeaderValue::from_str(&value).ok()) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    let head = RequestHead {
        scheme: Scheme::Https,
        authority: Authority::parse("file.invalid", Some(443)).map_err(|_| "no authority")?,
        method: Method::POST,
        target: path.to_owned(),
        version: Version::HTTP_11,
        headers,
    };
    let request = CapturedRequest { id: id(index), head, body: CapturedBody::Complete(body), trailers: None };
    let mut opening = inspector.inspect(request, destination, 0).opening;
    // Nobody knows to which host it went, or whether it went anywhere: it stands in a file.
    opening.scheme = "file".into();
    opening.authority = "".into();
    opening.method = "".into();
    opening.version = "".into();
    opening.path = file.into();
    opening.request_bytes = request_bytes;
    let before = u32::try_from(before).unwrap_or(u32::MAX);
    for finding in &mut opening.findings {
        finding.span = finding.span.start.saturating_sub(before)..finding.span.end.saturating_sub(before);
    }
    Ok(Scanned { record: FlowRecord { opening, closing: None }, time_is_known: false })
}

/// What is in no store has no id. The record needs one all the same, and nobody gets to see it.
fn id(index: usize) -> FlowId {
    let run = RunId::new(1).expect("1 is not 0");
    FlowId::new(run, u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1))
}

/// Whether a recorder undid the content coding that the header still names.
///
/// Browsers, mitmproxy and HTTP Toolkit do. So the header counts only when the bytes are what it says: they can be
/// decoded, or at least begin as the coding does (a damaged body must be reported as damaged).
fn is_decoded(headers: &HeaderMap, body: &Bytes) -> bool {
    let values = headers.get_all(CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("?"));
    let Ok(codings) = encoding::codings(values) else {
        // A coding that we do not know: text is text whatever it was.
        return std::str::from_utf8(body).is_ok();
    };
    let Some(outermost) = codings.last() else { return false };
    let begins = match outermost {
        Coding::Gzip => body.starts_with(b"\x1f\x8b"),
        Coding::Zstd => body.starts_with(b"\x28\xb5\x2f\xfd"),
        // These have nothing to know them by.
        Coding::Brotli | Coding::Deflate => false,
    };
    !begins
        && matches!(encoding::decode(&codings, body, &encoding::Limits::default()), Err(DecodeError::Broken))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(coding: &str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_str(coding).unwrap())])
    }

    #[test]
    fn text_that_a_recorder_decoded_is_read_as_it_stands() {
        let text = Bytes::from_static(br#"{"a":1}"#);
        for coding in ["gzip", "br", "zstd", "deflate", "gzip, br", "unheard-of"] {
            assert!(is_decoded(&headers(coding), &text), "{coding}");
        }
        assert!(!is_decoded(&HeaderMap::new(), &text));
    }

    #[test]
    fn bytes_that_are_still_encoded_are_decoded() {
        for coding in [Coding::Brotli, Coding::Deflate, Coding::Gzip, Coding::Zstd] {
            let body = Bytes::from(encoding::encode(&[coding], br#"{"a":"bob@example.com"}"#));

            assert!(!is_decoded(&headers(coding.as_str()), &body), "{}", coding.as_str());
        }
    }

    #[test]
    fn a_damaged_body_is_not_taken_for_a_decoded_one() {
        let mut body = encoding::encode(&[Coding::Gzip], &[b'x'; 1000]);
        body.truncate(20);

        assert!(!is_decoded(&headers("gzip"), &body.into()));
    }
}
