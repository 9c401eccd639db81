use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::cli::{demo::Recorded, exit::Failure};

/// Stands in for the audited client: one tunnel through the proxy per request, as HTTP/1.1 or HTTP/2.
pub(in crate::cli) struct Client {
    proxy: SocketAddr,
    roots: Arc<rustls::RootCertStore>,
}

impl Client {
    /// Makes a client of the proxy at `proxy` that trusts `roots` only.
    pub(in crate::cli) fn new(proxy: SocketAddr, roots: rustls::RootCertStore) -> Self {
        Self { proxy, roots: Arc::new(roots) }
    }

    /// Sends one recorded request and reads the answer to its end.
    pub(in crate::cli) async fn send(&self, recorded: &Recorded) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(&format!("replaying {} {}", recorded.method, recorded.authority), error)
        };
        let h2 = recorded.version == "2";
        let stream = self.connect(&recorded.authority, h2).await.map_err(|error| failed(&error))?;
        let request = recorded.request(h2).map_err(|error| failed(&error))?;
        let io = TokioIo::new(stream);
        let response = if h2 {
            let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                .await
                .map_err(|error| failed(&error))?;
            tokio::spawn(connection);
            sender.send_request(request).await
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
                .preserve_header_case(true)
                .handshake(io)
                .await
                .map_err(|error| failed(&error))?;
            tokio::spawn(connection);
            sender.send_request(request).await
        };
        let response = response.map_err(|error| failed(&error))?;
        let status = response.status();
        response.into_body().collect().await.map_err(|error| failed(&error))?;
        if status.is_success() { Ok(()) } else { Err(failed(&format!("the answer was {status}"))) }
    }

    async fn connect(&self, authority: &str, h2: bool) -> std::io::Result<TlsStream<TcpStream>> {
        let mut stream = TcpStream::connect(self.proxy).await?;
        stream.set_nodelay(true)?;
        stream
            .write_all(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes())
            .await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await?);
        }
        if !answer.starts_with(b"HTTP/1.1 200") {
            let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
            return Err(std::io::Error::other(format!("the proxy answered `{line}`")));
        }
        let mut config =
            rustls::ClientConfig::builder().with_root_certificates(self.roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![if h2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).to_owned();
        let name = ServerName::try_from(host).map_err(std::io::Error::other)?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

impl Recorded {
    fn request(&self, h2: bool) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::builder().method(self.method.as_str());
        if h2 {
            let host = self.authority.strip_suffix(":443").unwrap_or(&self.authority);
            request = request.uri(format!("https://{host}{}", self.target));
        } else {
            request = request.uri(&self.target).header("Host", self.authority.trim_end_matches(":443"));
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(Bytes::from(self.body.clone())))
    }
}
