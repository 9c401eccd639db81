use bytes::Bytes;
use http::{HeaderMap, StatusCode};

/// An answer given here in place of the destination's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalAnswer {
    /// The status.
    pub status: StatusCode,
    /// The header fields, `Content-Length` not among them.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Trailer fields, as gRPC wants them.
    pub trailers: Option<HeaderMap>,
}
