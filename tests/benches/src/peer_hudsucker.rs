//! The peer: hudsucker with its rcgen authority and a handler that does nothing.
//!
//! As shipped it leaves `TCP_NODELAY` unset on both sides; `--no-delay` sets it (an accepted socket inherits it from the
//! listener), to tell what hudsucker's own work costs from what Nagle's algorithm costs.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use hudsucker::{
    Body, HttpContext, HttpHandler, Proxy,
    certificate_authority::RcgenAuthority,
    rcgen::{Issuer, KeyPair},
    rustls::crypto::aws_lc_rs,
};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::{Failure, arguments::PeerArguments, certificates, certificates::Ca, subject};

/// Serves until the harness closes our standard input.
pub async fn serve(arguments: PeerArguments) -> Result<(), Failure> {
    let ca = Ca::new("peer-hudsucker")?;
    fs::write(&arguments.ca_out, ca.pem())?;
    let issuer = Issuer::from_ca_cert_pem(&ca.pem(), KeyPair::from_pem(&ca.key_pem())?)?;
    let tls = certificates::client(&arguments.origin_ca, &[])?;
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .wrap_connector(ToOrigin { no_delay: arguments.no_delay, origin: arguments.origin });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    socket2::SockRef::from(&listener).set_tcp_nodelay(arguments.no_delay)?;
    subject::announce(listener.local_addr()?);
    let proxy = Proxy::builder()
        .with_listener(listener)
        .with_ca(RcgenAuthority::new(issuer, CACHED_LEAVES, aws_lc_rs::default_provider()))
        .with_http_connector(connector)
        .with_http_handler(Nothing)
        .build()?;
    tokio::select! {
        served = proxy.start() => Ok(served?),
        () = subject::standard_input_closed() => Ok(()),
    }
}

/// Looks at nothing; a CONNECT to a literal address is a blind tunnel.
#[derive(Clone)]
struct Nothing;

impl HttpHandler for Nothing {
    async fn should_intercept_connect(&mut self, _: &HttpContext, request: &Request<Body>) -> bool {
        request.uri().host().is_some_and(|host| host.parse::<IpAddr>().is_err())
    }
}

/// Dials the origin, whatever the name.
#[derive(Clone)]
struct ToOrigin {
    no_delay: bool,
    origin: SocketAddr,
}

impl tower_service::Service<Uri> for ToOrigin {
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;
    type Response = TokioIo<TcpStream>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { no_delay, origin } = *self;
        Box::pin(async move {
            let stream = TcpStream::connect(origin).await?;
            stream.set_nodelay(no_delay)?;
            Ok(TokioIo::new(stream))
        })
    }
}

/// The size that hudsucker's documentation shows.
const CACHED_LEAVES: u64 = 1_000;
