use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use crate::cli::exit::Failure;

/// A local service that answers as all recorded services would, over TLS, with HTTP/1.1 and HTTP/2.
pub(in crate::cli) struct Origin {
    pub(in crate::cli) address: SocketAddr,
    /// The certificate to trust for it, and for nothing else.
    pub(in crate::cli) certificate: CertificateDer<'static>,
    task: JoinHandle<()>,
}

impl Origin {
    /// Starts it for these names on a free loopback port.
    pub(in crate::cli) async fn start(names: Vec<String>) -> Result<Self, Failure> {
        let failed =
            |error: &dyn std::fmt::Display| Failure::new("the demo's own origin did not start", error);
        let minted = rcgen::generate_simple_self_signed(names).map_err(|error| failed(&error))?;
        let certificate = minted.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(minted.signing_key.serialize_der());
        let mut config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.into())
            .map_err(|error| failed(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|error| failed(&error))?;
        let address = listener.local_addr().map_err(|error| failed(&error))?;
        let task = tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config))));
        Ok(Self { address, certificate, task })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let io = TokioIo::new(stream);
            // A connection that breaks is the client's to notice.
            if is_h2 {
                _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(io, service_fn(answer))
                    .await;
            } else {
                _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service_fn(answer)).await;
            }
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    // The body is read to its end so that the connection can be used again.
    _ = body.collect().await;
    let (status, body) = match head.uri.path() {
        "/api/v2/logs" => (202, "{}"),
        "/v1/initialize" | "/v1/rgstr" => (202, r#"{"success":true}"#),
        _ => (200, "{}"),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = http::StatusCode::from_u16(status).expect("the statuses above are valid");
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    Ok(response)
}
