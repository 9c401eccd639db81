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

/// Everything about a request but its body.
#[derive(Clone, Debug)]
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

/// A request as it is to leave, where that differs from how it came.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// What was kept of a request's body, in its transport form.
#[derive(Clone, Debug)]
pub enum CapturedBody {
    /// All of it.
    Complete(Bytes),
    /// The start of it; the rest is larger than the limit and was not kept.
    OverLimit(Bytes),
    /// None of it was looked at: it streams.
    Streamed,
}

/// A request as it stood on the wire, ready to be inspected.
#[derive(Clone, Debug)]
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
