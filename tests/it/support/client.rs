use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::TestProxy;

/// An answer as it stood on the wire.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    /// The body without chunk framing.
    pub body: Vec<u8>,
    /// Trailer lines of a chunked body.
    pub trailers: String,
}

/// A client that writes and reads bytes.
pub struct Client<S> {
    pub stream: BufReader<S>,
}

impl Client<TcpStream> {
    /// Talks to the proxy itself.
    pub async fn plain(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Opens a tunnel; fails the test if there is none.
    pub async fn tunnel(proxy: &TestProxy, authority: &str) -> Self {
        let mut client = Self::plain(proxy.address).await;
        let answer = client.connect(authority).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        client
    }

    /// Asks for a tunnel.
    pub async fn connect(&mut self, authority: &str) -> Answer {
        self.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await;
        self.answer("CONNECT").await
    }
}

impl Client<TlsStream<TcpStream>> {
    /// Opens an intercepted tunnel and speaks TLS in it, offering `alpn`.
    pub async fn tls(proxy: &TestProxy, authority: &str, alpn: &[&str]) -> Self {
        let host = authority.split(':').next().unwrap();
        let stream =
            Self::handshake(proxy, authority, host, tls_config(proxy.ca.roots(), alpn)).await.unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Opens an intercepted tunnel and speaks TLS in it to `name`.
    pub async fn handshake(
        proxy: &TestProxy,
        authority: &str,
        name: &str,
        config: Arc<ClientConfig>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let tunnel = Client::tunnel(proxy, authority).await.stream.into_inner();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(config).connect(name, tunnel).await
    }

    pub fn alpn(&self) -> Option<String> {
        let alpn = self.stream.get_ref().get_ref().1.alpn_protocol();
        alpn.map(|name| String::from_utf8(name.to_vec()).unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends a whole request and reads the answer.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        let bytes = request.as_ref().to_vec();
        let method = String::from_utf8(bytes.split(|byte| *byte == b' ').next().unwrap().to_vec()).unwrap();
        self.send(bytes).await;
        self.answer(&method).await
    }

    pub async fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&head)),
            }
        }
        String::from_utf8(head).unwrap()
    }

    pub async fn read_line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.push(self.stream.read_u8().await.unwrap());
        }
        String::from_utf8(line).unwrap()
    }

    /// Reads the answer to a request with `method`, skipping `100 Continue`.
    pub async fn answer(&mut self, method: &str) -> Answer {
        let mut head = self.read_head().await;
        while head.starts_with("HTTP/1.1 100") {
            head = self.read_head().await;
        }
        let status = head[9..12].parse().unwrap();
        let lower = head.to_ascii_lowercase();
        let (mut body, mut trailers) = (Vec::new(), String::new());
        let bodiless = method == "HEAD" || status == 204 || status == 304 || status == 101;
        if bodiless || (method == "CONNECT" && status == 200) {
        } else if lower.contains("transfer-encoding: chunked") {
            loop {
                let line = self.read_line().await;
                let size = usize::from_str_radix(line.trim(), 16).unwrap();
                if size == 0 {
                    break;
                }
                let start = body.len();
                body.resize(start + size, 0);
                self.stream.read_exact(&mut body[start..]).await.unwrap();
                self.read_line().await;
            }
            loop {
                let line = self.read_line().await;
                if line == "\r\n" {
                    break;
                }
                trailers.push_str(&line);
            }
        } else if let Some(at) = lower.find("content-length: ") {
            body.resize(lower[at + 16..].lines().next().unwrap().parse().unwrap(), 0);
            self.stream.read_exact(&mut body).await.unwrap();
        } else {
            self.stream.read_to_end(&mut body).await.unwrap();
        }
        Answer { status, head, body, trailers }
    }

    /// Whether the other side has closed.
    pub async fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 16]).await, Ok(0) | Err(_))
    }
}

pub fn tls_config(roots: RootCertStore, alpn: &[&str]) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Speaks HTTP/2 on a stream.
pub async fn h2_client<S>(stream: S) -> SendRequest<BoxBody<Bytes, std::io::Error>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}
