//! Answers `doctor`, which starts a program of each runtime and asks for something that only we can give: whether what
//! the program sends comes here, and whether its TLS can be ended here. Nothing of it is dialled, inspected or recorded.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;

use crate::{
    model::Authority,
    proxy::{
        body::{ResponseBody, drain},
        engine::Engine,
        io::Prefixed,
        respond,
    },
};

/// Whom the programs of `doctor` ask. The name is the audited one, so that `NO_PROXY`, the CA's constraints and name
/// checks mean the same; nobody serves anything on the port, and a fetch of browsers does not refuse it.
pub const PROBE_AUTHORITY: &str = "api.anthropic.com:44788";

/// Whom `doctor` asks what came of it, by a whole URL in cleartext. No resolver knows the name.
pub const PROBE_HOST: &str = "probe.plainsight.invalid";

/// Stands before the path of a request that came here and could be read.
pub const PROBE_MARK: &str = "plainsight-saw";

/// What came of probes since the proxy started.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    /// Tunnels that were asked for.
    tunnels: AtomicU64,
    /// Of those, how many clients did not trust our certificate.
    refused: AtomicU64,
}

/// Whether a tunnel is a probe's.
pub(crate) fn is_probe(authority: &Authority) -> bool {
    Authority::parse(PROBE_AUTHORITY, None).is_ok_and(|probe| probe == *authority)
}

/// Whether a whole URL asks what came of probes.
pub(crate) fn asks(uri: &Uri) -> bool {
    uri.host() == Some(PROBE_HOST)
}

/// Says who we are, and what came of probes so far.
pub(crate) fn status(engine: &Engine) -> Response<ResponseBody> {
    let probes = &engine.probes;
    let text = json!({
        "plainsight": env!("CARGO_PKG_VERSION"),
        "probe": PROBE_AUTHORITY,
        "tunnels": probes.tunnels.load(Ordering::Relaxed),
        "refused": probes.refused.load(Ordering::Relaxed),
    });
    let mut response = respond::text(StatusCode::OK, "");
    *response.body_mut() = ResponseBody::local(Bytes::from(format!("{text}\n")), None);
    response
}

/// Ends a probe's TLS as for any host that is intercepted, and answers what it asks.
pub(crate) async fn answer(engine: &Engine, client: Prefixed<TcpStream>) {
    engine.probes.tunnels.fetch_add(1, Ordering::Relaxed);
    let Ok(authority) = Authority::parse(PROBE_AUTHORITY, None) else { return };
    let certificate = match engine.services.leaves.certificate(authority.host()) {
        Ok(certificate) => certificate,
        Err(error) => {
            tracing::warn!(%error, "a probe cannot be answered");
            return;
        }
    };
    let acceptor = TlsAcceptor::from(engine.acceptors.config(None, certificate));
    let Ok(Ok(stream)) = timeout(engine.limits.head_time, acceptor.accept(client)).await else {
        engine.probes.refused.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let (most, patience) = (engine.limits.drain, engine.limits.drain_time);
    let service = service_fn(|request: Request<Incoming>| async move {
        let (parts, mut body) = request.into_parts();
        // What is answered before it was read is lost in a reset (PITFALLS 3).
        drain(&mut body, most, patience).await;
        Ok::<_, Infallible>(said(&parts.method, parts.uri.path()))
    });
    let connection =
        conn::http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A program that goes away has what it wanted.
        _ = timeout(engine.limits.head_time, connection) => {}
        () = engine.stopped() => {}
    }
}

/// The answer: what was asked for, if it may be repeated. The audited client takes it for a refusal that it need not try
/// again after.
fn said(method: &Method, path: &str) -> Response<Full<Bytes>> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_');
    let path: Vec<u8> = path.bytes().take_while(is_plain).take(LONGEST_ECHO_BYTES).collect();
    let message = format!("{PROBE_MARK} {}", String::from_utf8_lossy(&path));
    let text = json!({ "type": "error", "error": { "type": "invalid_request_error", "message": message } });
    let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    if *method != Method::GET {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

/// How much of a path is repeated: a token, a name and an API's path.
const LONGEST_ECHO_BYTES: usize = 160;

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn only_what_is_harmless_is_repeated() {
        let answer = said(&Method::GET, "/0a1b/curl<script>");

        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.contains("plainsight-saw /0a1b/curl\""), "{text}");
    }

    #[test]
    fn the_audited_host_itself_is_no_probe() {
        assert!(is_probe(&Authority::parse("API.anthropic.com:44788", None).unwrap()));
        assert!(!is_probe(&Authority::parse("api.anthropic.com:443", None).unwrap()));
    }
}
