//! Answers that the proxy gives itself. Errors become HTTP here and nowhere else.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::{
    model::LocalAnswer,
    proxy::{body::ResponseBody, error::UpstreamError},
};

/// What we said ourselves; rides on an answer so that it can be said in another way.
#[derive(Clone, Debug)]
pub(crate) struct Said(pub(crate) String);

/// A short text for the person who reads the client's log.
pub(crate) fn text(status: StatusCode, message: &str) -> Response<ResponseBody> {
    let mut response =
        Response::new(ResponseBody::local(Bytes::from(format!("plainsight: {message}\n")), None));
    *response.status_mut() = status;
    response.extensions_mut().insert(Said(message.to_owned()));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The other side failed.
pub(crate) fn upstream_failed(error: &UpstreamError) -> Response<ResponseBody> {
    text(error.status(), &error.to_string())
}

/// Policy lets nothing through unread.
pub(crate) fn kept_here(row: &str) -> Response<ResponseBody> {
    text(StatusCode::FORBIDDEN, &format!("kept here by the policy, row `{row}`"))
}

/// A confined program names an address in place of a host.
pub(crate) const UNNAMED: &str =
    "confined: an address that no name stands for is not let out; --confine-allow would";

/// The client must say who it is.
pub(crate) fn unauthorised() -> Response<ResponseBody> {
    let mut response = text(
        StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        "this proxy wants the credential that `plainsight` printed",
    );
    let challenge = HeaderValue::from_static("Basic realm=\"plainsight\"");
    response.headers_mut().insert(header::PROXY_AUTHENTICATE, challenge);
    response
}

/// Someone opened the proxy's own address as if it were a site.
pub(crate) fn not_a_site() -> Response<ResponseBody> {
    text(
        StatusCode::BAD_REQUEST,
        "this is an HTTP proxy, not a web site; set HTTPS_PROXY and HTTP_PROXY to its address, or use `plainsight run`",
    )
}

/// An answer in place of the destination's.
pub(crate) fn local(answer: LocalAnswer) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::local(answer.body, answer.trailers));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

/// The store cannot write: the client is to try again.
pub(crate) fn unavailable() -> LocalAnswer {
    LocalAnswer {
        status: StatusCode::SERVICE_UNAVAILABLE,
        headers: http::HeaderMap::new(),
        body: Bytes::new(),
        trailers: None,
    }
}

/// Tells an HTTP/1 client that the connection ends with this answer.
pub(crate) fn closing(mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
