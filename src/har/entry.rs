use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use jiff::Timestamp;

use crate::{
    har::{
        Unreadable, body,
        read::{RawEntry, RawHeader},
        url::{self, UrlError},
    },
    model::{NotInspected, RequestHead},
};

/// One request of a recording.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place in the recording, from 0.
    pub index: usize,
    /// When it began, in milliseconds since 1970; `None` if the recording does not say so in a way that can be read.
    pub time_ms: Option<i64>,
    /// Method, target and header fields. Pseudo header fields of HTTP/2 are not among them.
    pub head: RequestHead,
    /// What the recording holds of the body.
    pub body: RecordedBody,
    /// What was answered; `None` if nothing was.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Bytes of the answer's body, as far as the recording says.
    pub response_bytes: u64,
}

/// What a recording holds of a body.
///
/// Recorders write what is left once the content coding is undone, and keep the header that names the coding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordedBody {
    /// All of it; empty if nothing was sent.
    Complete(Bytes),
    /// Nothing, although something was sent.
    Missing(NotInspected),
}

impl Entry {
    pub(super) fn new(index: usize, raw: RawEntry) -> Result<Self, Unreadable> {
        let request = raw.request;
        let error = |what: String| Unreadable::Broken { index, what };
        let url = url::parse(&request.url).map_err(|reason| match reason {
            UrlError::Malformed(why) => error(format!("request.url: {why}")),
            UrlError::NotHttp(scheme) => Unreadable::NotHttp { index, scheme },
        })?;
        let method = match request.method.as_str() {
            "" => return Err(error("request.method is empty".to_owned())),
            method => Method::from_bytes(method.as_bytes())
                .map_err(|_| error("request.method is no method".to_owned()))?,
        };
        let mut headers = headers(&request.headers);
        let recorded = body::recorded(&request).map_err(|why| error(format!("request.postData: {why}")))?;
        if let Some(content_type) = recorded.content_type {
            headers.insert(http::header::CONTENT_TYPE, content_type);
        } else if let Some(mime_type) = request.post_data.as_ref().and_then(|data| data.mime_type.as_deref())
            && !mime_type.is_empty()
            && !headers.contains_key(http::header::CONTENT_TYPE)
            && let Ok(mime_type) = HeaderValue::from_str(mime_type)
        {
            headers.insert(http::header::CONTENT_TYPE, mime_type);
        }
        let body = match raw.web_socket_messages {
            // What was sent over the WebSocket is in a place of its own, and is no request.
            messages if messages > 0 => RecordedBody::Missing(NotInspected::Upgraded),
            _ => recorded.body,
        };
        Ok(Self {
            index,
            time_ms: time_ms(&raw.started_date_time),
            head: RequestHead {
                scheme: url.scheme,
                authority: url.authority,
                method,
                target: url.target,
                version: version(&request.http_version),
                headers,
            },
            body,
            status: Some(raw.response.status as u16).filter(|status| *status > 0),
            duration_ms: milliseconds(raw.time),
            response_bytes: raw.response.body_size as u64,
        })
    }
}

/// The header fields that can be sent; what cannot (a name with a blank, a value with a line break) was not.
fn headers(raw: &[RawHeader]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for header in raw {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(header.value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            // Beyond 32,768 fields the map is full; no message has so many.
            _ = headers.try_append(name, value);
        }
    }
    headers
}

fn time_ms(text: &str) -> Option<i64> {
    text.trim().parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// The spellings in use: `HTTP/1.1`, `http/2.0`, `HTTP/2`, `h2`, `h2c`, `h3-29`.
fn version(text: &str) -> Version {
    let text = text.trim().to_ascii_lowercase();
    let number = text.strip_prefix("http/").or_else(|| text.strip_prefix('h')).unwrap_or(&text);
    match number.as_bytes() {
        b"0.9" => Version::HTTP_09,
        b"1.0" => Version::HTTP_10,
        [b'2', ..] => Version::HTTP_2,
        [b'3', ..] => Version::HTTP_3,
        _ => Version::HTTP_11,
    }
}

fn milliseconds(time: f64) -> u64 {
    // Casts saturate: what is negative or no number becomes zero.
    time.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_version_is_known() {
        for (text, expected) in [
            ("HTTP/1.1", Version::HTTP_11),
            ("http/1.1", Version::HTTP_11),
            ("HTTP/1.0", Version::HTTP_10),
            ("HTTP/2.0", Version::HTTP_2),
            ("HTTP/2", Version::HTTP_2),
            ("http/2.0", Version::HTTP_2),
            ("h2", Version::HTTP_2),
            ("h2c", Version::HTTP_2),
            ("h3", Version::HTTP_3),
            ("h3-29", Version::HTTP_3),
            ("HTTP/3", Version::HTTP_3),
            ("", Version::HTTP_11),
            ("unknown", Version::HTTP_11),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }

    #[test]
    fn a_time_is_read_with_its_offset() {
        assert_eq!(time_ms("2026-11-21T06:22:18.163516+00:00"), Some(1_795_242_138_163));
        assert_eq!(time_ms("2026-11-21T07:22:18.163+01:00"), Some(1_795_242_138_163));
        assert_eq!(time_ms("yesterday"), None);
    }

    #[test]
    fn a_duration_is_never_negative() {
        assert_eq!(milliseconds(3.446), 3);
        assert_eq!(milliseconds(-1.0), 0);
        assert_eq!(milliseconds(f64::NAN), 0);
    }
}
