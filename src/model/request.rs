use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, Version};

use crate::model::{Authority, FlowId};

/// How the client meant to speak to the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// The scheme as it stands in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port when none is written.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Everything about a request but its body. Its debug form names the header fields and holds no value of them.
#[derive(Clone)]
pub struct RequestHead {
    /// Cleartext or TLS.
    pub scheme: Scheme,
    /// Whom it is for.
    pub authority: Authority,
    /// The method.
    pub method: Method,
    /// Path and query exactly as they were sent; starts with `/`, or is `*`.
    pub target: String,
    /// The version of HTTP that the client spoke.
    pub version: Version,
    /// Header fields, hop-by-hop ones included.
    pub headers: HeaderMap,
}

impl RequestHead {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The query without its question mark.
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The first value of a header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A request as it is to leave, where that differs from how it came. Its debug form holds lengths only.
#[derive(Clone, PartialEq, Eq)]
pub struct RewrittenRequest {
    /// Path and query.
    pub target: String,
    /// Header fields, in their order; the length is still the old one.
    pub headers: HeaderMap,
    /// The body with its content coding on; `None` where it stays as it is.
    pub body: Option<Bytes>,
    /// Trailer fields.
    pub trailers: Option<HeaderMap>,
}

impl fmt::Debug for RewrittenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body.as_ref().map(|body| format!("{} bytes", body.len()));
        f.debug_struct("RewrittenRequest")
            .field("headers", &self.headers.len())
            .field("body", &body)
            .finish_non_exhaustive()
    }
}

/// What was kept of a request's body, in its transport form. Its debug form holds the length only.
#[derive(Clone)]
pub enum CapturedBody {
    /// All of it.
    Complete(Bytes),
    /// The start of it; the rest is larger than the limit and was not kept.
    OverLimit(Bytes),
    /// None of it was looked at: it streams.
    Streamed,
}

/// A request as it stood on the wire, ready to be inspected. Its debug form holds nothing of what it says.
#[derive(Clone)]
pub struct CapturedRequest {
    /// Its number.
    pub id: FlowId,
    /// Method, target and header fields.
    pub head: RequestHead,
    /// The body, with its content coding still on.
    pub body: CapturedBody,
    /// Trailer fields, if any came.
    pub trailers: Option<HeaderMap>,
}

impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, authority, method, target, version, headers } = self;
        f.debug_struct("RequestHead")
            .field("scheme", scheme)
            .field("authority", authority)
            .field("method", method)
            .field("target_bytes", &target.len())
            .field("version", version)
            .field("headers", &Names(headers))
            .finish()
    }
}

impl fmt::Debug for CapturedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete(body) => write!(f, "Complete({} bytes)", body.len()),
            Self::OverLimit(start) => write!(f, "OverLimit({} bytes)", start.len()),
            Self::Streamed => f.write_str("Streamed"),
        }
    }
}

impl fmt::Debug for CapturedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, head, body, trailers } = self;
        f.debug_struct("CapturedRequest")
            .field("id", id)
            .field("head", head)
            .field("body", body)
            .field("trailers", &trailers.as_ref().map(Names))
            .finish()
    }
}

/// The names of header fields.
struct Names<'h>(&'h HeaderMap);

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_a_request_holds_no_value() {
        let mut headers = HeaderMap::new();
        headers.insert("x-test", "canary-header".parse().unwrap());
        let request = CapturedRequest {
            id: "1-1".parse().unwrap(),
            head: RequestHead {
                scheme: Scheme::Https,
                authority: Authority::parse("a.example:443", None).unwrap(),
                method: Method::POST,
                target: "/canary-path?canary-query".to_owned(),
                version: Version::HTTP_11,
                headers: headers.clone(),
            },
            body: CapturedBody::Complete(Bytes::from_static(b"canary-body")),
            trailers: Some(headers),
        };
        assert!(request.head.headers.values().any(|value| value == "canary-header"));

        for body in [request.body.clone(), CapturedBody::OverLimit(Bytes::from_static(b"canary-body"))] {
            let text = format!("{:?}", CapturedRequest { body, ..request.clone() });

            assert!(text.contains("x-test") && text.contains("11 bytes"), "{text}");
            assert!(!text.contains("canary"), "{text}");
        }
    }
}
