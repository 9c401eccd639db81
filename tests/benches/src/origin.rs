//! The origin: answers telemetry, bulk downloads and event streams as cheaply as it can, so that what is measured is the proxy.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{MissedTickBehavior, interval},
};
use tokio_rustls::TlsAcceptor;

use crate::{Failure, certificates::Ca, client::Head, statistics};

/// The origin's three ports on loopback.
#[derive(Clone, Copy)]
pub struct Origin {
    /// TLS that speaks HTTP/1.1 only.
    pub h1: SocketAddr,
    /// TLS that speaks HTTP/2 only.
    pub h2: SocketAddr,
    /// No TLS and no HTTP: answers `BULK n` and a line feed with n bytes.
    pub plain: SocketAddr,
}

impl Origin {
    /// Starts the three listeners.
    pub async fn start(ca: &Ca) -> Result<Self, Failure> {
        let h1 = TlsAcceptor::from(ca.origin(&[b"http/1.1"])?);
        let h2 = TlsAcceptor::from(ca.origin(&[b"h2"])?);
        Ok(Self {
            h1: listen(move |stream| {
                let acceptor = h1.clone();
                async move { serve_h1(acceptor.accept(stream).await?).await }
            })
            .await?,
            h2: listen(move |stream| {
                let acceptor = h2.clone();
                async move { serve_h2(acceptor.accept(stream).await?).await }
            })
            .await?,
            plain: listen(serve_plain).await?,
        })
    }
}

async fn listen<S, F>(serve: S) -> Result<SocketAddr, Failure>
where
    S: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            // A connection that ends badly shows at the client, which counts.
            tokio::spawn(serve(stream));
        }
    });
    Ok(address)
}

async fn serve_plain(mut stream: TcpStream) -> Result<(), Failure> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        if stream.read_buf(&mut line).await? == 0 || line.len() > 64 {
            return Err("no BULK line".into());
        }
    }
    let bytes = String::from_utf8(line)?.trim().strip_prefix("BULK ").ok_or("no BULK line")?.parse()?;
    send_bulk(&mut stream, bytes).await
}

async fn serve_h2<S>(stream: S) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| async move {
        let metrics = request.uri().path() == METRICS_PATH;
        let body = request.into_body().collect().await?.to_bytes();
        let whole = !metrics || body.len() == TELEMETRY_BYTES;
        let mut answer = Response::new(Full::new(Bytes::from_static(ACCEPTED)));
        *answer.status_mut() = if whole { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        Ok::<_, hyper::Error>(answer)
    });
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}

async fn serve_h1<S>(mut stream: S) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = Vec::with_capacity(8 * 1024);
    loop {
        let Some(head) = Head::read(&mut stream, &mut buffer, Head::parse_request).await? else {
            return Ok(());
        };
        let body = head.body(&mut stream, &mut buffer).await?;
        let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
        if path == METRICS_PATH && body != TELEMETRY_BYTES {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await?;
        } else if let Some(bytes) = path.strip_prefix(BULK_PATH) {
            let bytes: u64 = bytes.parse()?;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {bytes}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await?;
            send_bulk(&mut stream, bytes).await?;
        } else if path == STREAM_PATH {
            let number =
                |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.parse::<u64>().ok());
            let events = number("events=").ok_or("no count of events")?;
            let every = number("every_us=").ok_or("no interval")?;
            send_events(&mut stream, events, Duration::from_micros(every)).await?;
        } else {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                ACCEPTED.len()
            );
            stream.write_all(&[head.as_bytes(), ACCEPTED].concat()).await?;
        }
        stream.flush().await?;
    }
}

async fn send_bulk<S: AsyncWrite + Unpin>(stream: &mut S, mut bytes: u64) -> Result<(), Failure> {
    let piece: Arc<[u8]> = vec![b'x'; BULK_PIECE_BYTES].into();
    while bytes > 0 {
        let take = usize::try_from(bytes).unwrap_or(usize::MAX).min(piece.len());
        stream.write_all(&piece[..take]).await?;
        bytes -= take as u64;
    }
    stream.flush().await?;
    Ok(())
}

/// Sends time-stamped events as the Messages API frames them, one chunk and one flush each.
async fn send_events<S: AsyncWrite + Unpin>(
    stream: &mut S,
    events: u64,
    every: Duration,
) -> Result<(), Failure> {
    stream
        .write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
              transfer-encoding: chunked\r\n\r\n",
        )
        .await?;
    stream.flush().await?;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..events {
        ticks.tick().await;
        let event = format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":\
             {{\"type\":\"text_delta\",\"text\":\"some words of an answer\"}},\"sent\":{:020}}}\n\n",
            statistics::now_nanos()
        );
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
        stream.flush().await?;
    }
    stream.write_all(b"0\r\n\r\n").await?;
    Ok(())
}

/// Where telemetry goes; a body that is not whole is answered 400.
pub const METRICS_PATH: &str = "/api/claude_code/metrics";

/// A download that counts as conversation, followed by its length in bytes.
pub const BULK_PATH: &str = "/v1/messages/bulk-";

/// An event stream, with `events` and `every_us` in its query.
pub const STREAM_PATH: &str = "/v1/messages";

/// Length of a telemetry body: what one short session sends.
pub const TELEMETRY_BYTES: usize = 2 * 1024;

/// What comes before the send time in an event.
pub const SENT_MARK: &[u8] = b"\"sent\":";

/// Digits of a send time.
pub const SENT_DIGITS: usize = 20;

const ACCEPTED: &[u8] = br#"{"accepted_count":7,"rejected_count":0}"#;

const BULK_PIECE_BYTES: usize = 64 * 1024;

/// Room for the bursts of the connection rows.
const BACKLOG: i32 = 1024;
