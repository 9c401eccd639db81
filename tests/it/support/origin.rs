use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::Notify,
};
use tokio_rustls::TlsAcceptor;

use super::TestCa;

/// What reached the origin, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The head as it stood on the wire; for HTTP/2 the request line and fields that it would be.
    pub head: String,
    /// The body as it stood on the wire, chunk framing included.
    pub body: Vec<u8>,
    /// HTTP/2 trailer fields.
    pub trailers: Option<HeaderMap>,
}

/// A server that keeps what it got. The path says what it answers.
pub struct Origin {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    /// Lets a waiting answer go on.
    pub go_on: Arc<Notify>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Origin {
    /// TLS for `names`, offering `alpn`.
    pub async fn tls(ca: &TestCa, names: &[&str], alpn: &[&str]) -> Self {
        Self::start(Some(TlsAcceptor::from(ca.server_config(names, alpn)))).await
    }

    /// TLS that wants a certificate of `ca` from its clients.
    pub async fn mutual_tls(ca: &TestCa, names: &[&str]) -> Self {
        Self::start(Some(TlsAcceptor::from(ca.mutual_config(names)))).await
    }

    /// Cleartext HTTP/1, or HTTP/2 with prior knowledge.
    pub async fn plain() -> Self {
        Self::start(None).await
    }

    async fn start(acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            go_on: Arc::default(),
            seen: Arc::default(),
        };
        let (connections, go_on, seen) =
            (Arc::clone(&origin.connections), Arc::clone(&origin.go_on), Arc::clone(&origin.seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                let (acceptor, go_on, seen) = (acceptor.clone(), Arc::clone(&go_on), Arc::clone(&seen));
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            let Ok(stream) = acceptor.accept(stream).await else { return };
                            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                                serve_h2(stream, seen).await;
                            } else {
                                serve_h1(stream, seen, go_on).await;
                            }
                        }
                        None => {
                            let mut first = [0; 4];
                            if stream.peek(&mut first).await.unwrap_or(0) > 0 && &first == b"PRI " {
                                serve_h2(stream, seen).await;
                            } else {
                                serve_h1(stream, seen, go_on).await;
                            }
                        }
                    }
                });
            }
        });
        origin
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve_h1<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    seen: Arc<Mutex<Vec<Seen>>>,
    go_on: Arc<Notify>,
) {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(head) = read_head(&mut stream).await else { return };
        let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
        let path = path
            .strip_prefix("http://")
            .and_then(|rest| rest.find('/').map(|at| &rest[at..]))
            .unwrap_or(&path);
        let path = path
            .split('?')
            .next()
            .unwrap_or("/")
            .trim_start_matches("/telemetry")
            .trim_start_matches("/settings");
        if path == "/early" {
            let _ = stream
                .write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .await;
            return;
        }
        if head.to_ascii_lowercase().contains("expect: 100-continue") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        }
        let Some(body) = read_body(&mut stream, &head).await else {
            seen.lock().unwrap().push(Seen { head, body: b"(broken off)".to_vec(), trailers: None });
            return;
        };
        let decoded = if head.contains("chunked") { unchunk(&body) } else { body.clone() };
        seen.lock().unwrap().push(Seen { head: head.clone(), body, trailers: None });
        let answer: Vec<u8> = match path {
            "/cut" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec(),
            "/chunked" => b"HTTP/1.1 200 OK\r\nX-CaSe: Kept\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n".to_vec(),
            "/close" => b"HTTP/1.1 200 Fine\r\nConnection: close\r\n\r\nuntil the end".to_vec(),
            "/empty" => b"HTTP/1.1 204 No Content\r\nX-Empty: 1\r\n\r\n".to_vec(),
            "/fresh" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\nETag: \"x\"\r\n\r\n".to_vec(),
            "/head" => b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n".to_vec(),
            "/hop" => b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-Stays: 1\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "/upgrade" => b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n".to_vec(),
            "/events" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
                for number in 0..3 {
                    go_on.notified().await;
                    let chunk = format!("d\r\ndata: event{number}\n\r\n");
                    if stream.write_all(chunk.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
                b"0\r\n\r\n".to_vec()
            }
            "/wait" => {
                go_on.notified().await;
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()
            }
            _ => {
                let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", decoded.len()).into_bytes();
                answer.extend_from_slice(&decoded);
                answer
            }
        };
        if stream.write_all(&answer).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        if path == "/upgrade" {
            let mut bytes = [0; 1024];
            while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                stream.write_all(&bytes[..count]).await.unwrap();
                stream.flush().await.unwrap();
            }
            return;
        }
        if matches!(path, "/cut" | "/close" | "/once") {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

async fn read_body<S: AsyncRead + Unpin>(stream: &mut S, head: &str) -> Option<Vec<u8>> {
    let lower = head.to_ascii_lowercase();
    let mut body = Vec::new();
    if let Some(at) = lower.find("content-length: ") {
        let length = lower[at + 16..].lines().next().unwrap().parse().unwrap();
        body.resize(length, 0);
        stream.read_exact(&mut body).await.ok()?;
    } else if lower.contains("transfer-encoding: chunked") {
        loop {
            let line = read_line(stream, &mut body).await?;
            let size = usize::from_str_radix(line.trim().split(';').next().unwrap(), 16).unwrap();
            if size == 0 {
                while read_line(stream, &mut body).await? != "\r\n" {}
                break;
            }
            let start = body.len();
            body.resize(start + size + 2, 0);
            stream.read_exact(&mut body[start..]).await.ok()?;
        }
    }
    Some(body)
}

async fn read_line<S: AsyncRead + Unpin>(stream: &mut S, body: &mut Vec<u8>) -> Option<String> {
    let start = body.len();
    while !body[start..].ends_with(b"\n") {
        body.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(body[start..].to_vec()).unwrap())
}

/// The content of a chunked body.
pub fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n").unwrap();
        let line = std::str::from_utf8(&body[..end]).unwrap();
        let size = usize::from_str_radix(line.split(';').next().unwrap(), 16).unwrap();
        if size == 0 {
            return content;
        }
        content.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 2 + size + 2..];
    }
}

async fn serve_h2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    let service = service_fn(move |request| answer_h2(request, Arc::clone(&seen)));
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type H2Body = BoxBody<Bytes, std::io::Error>;

async fn answer_h2(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<H2Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let mut head = format!("{} {}\r\n", parts.method, parts.uri);
    for (name, value) in &parts.headers {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    let path = parts.uri.path().to_owned();
    let collected = body.collect().await;
    let (trailers, body) = match collected {
        Ok(collected) => (collected.trailers().cloned(), collected.to_bytes()),
        Err(_) => (None, Bytes::from_static(b"(broken off)")),
    };
    seen.lock().unwrap().push(Seen { head, body: body.to_vec(), trailers });
    let (whole, length) = (body.clone(), body.len());
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames: Vec<Result<Frame<Bytes>, std::io::Error>> = match path.trim_start_matches("/telemetry") {
        "/reset" => vec![Ok(Frame::data(Bytes::from_static(b"half"))), Err(std::io::Error::other("reset"))],
        "/grpc" => vec![Ok(Frame::data(body)), Ok(Frame::trailers(trailers))],
        "/trailers-only" => Vec::new(),
        _ => vec![Ok(Frame::data(body))],
    };
    let mut response = Response::new(BodyExt::boxed(Frames { frames: frames.into_iter(), yields: 0 }));
    if path.ends_with("/trailers-only") {
        response.headers_mut().insert("grpc-status", HeaderValue::from_static("12"));
        *response.body_mut() = BodyExt::boxed(http_body_util::Empty::new().map_err(|never| match never {}));
    }
    if path.ends_with("/unended") {
        response.headers_mut().insert("content-length", HeaderValue::from(length));
        let frames = Frames { frames: vec![Ok(Frame::data(whole))].into_iter(), yields: 0 };
        *response.body_mut() = BodyExt::boxed(Unended(frames));
    }
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

/// Frames without an end.
struct Unended(Frames);

impl hyper::body::Body for Unended {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match Pin::new(&mut self.0).poll_frame(cx) {
            Poll::Ready(Some(frame)) => Poll::Ready(Some(frame)),
            Poll::Ready(None) | Poll::Pending if self.0.frames.len() == 0 => Poll::Pending,
            other => other,
        }
    }
}

/// Frames from a list, with a pause before each in which the one before can leave: a reset overtakes what is queued.
struct Frames {
    frames: std::vec::IntoIter<Result<Frame<Bytes>, std::io::Error>>,
    yields: u8,
}

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.yields = (self.yields + 1) % 8;
        if self.yields > 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.frames.next())
    }
}
