//! Serves HTTP to a client: on the proxy's own port, and inside a tunnel that is intercepted.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode};
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tracing::debug;

use crate::{
    model::{Authority, Outcome, Scheme},
    proxy::{
        connect::{self, Plan},
        engine::Engine,
        error::UpstreamError,
        exchange::exchange,
        flow::Start,
        framing::{Gate, Guarded, LARGEST_HEAD_BYTES, Violation},
        io::Prefixed,
        receiver::Receiver,
        upstream::{CONNECTION_WINDOW_BYTES, LARGEST_BUFFER_BYTES, Route, STREAM_WINDOW_BYTES},
        websocket::{self, Upgrade},
    },
};

/// Serves a connection to the proxy's own port.
pub(crate) async fn serve(engine: Arc<Engine>, stream: TcpStream) {
    let scope = Arc::new(Scope { engine: Arc::clone(&engine), site: None, receiver: None });
    // Boxed stage by stage, so that an idle tunnel does not keep the room of an HTTP connection.
    match Box::pin(serve_http1(scope, stream)).await {
        None => {}
        Some((Next::Connect(plan), stream)) => Box::pin(connect::proceed(engine, plan, stream)).await,
        Some((Next::Upgrade(upgrade), stream)) => websocket::relay(&engine, upgrade, stream).await,
    }
}

/// What all requests of a connection have in common.
pub(crate) struct Scope {
    pub(crate) engine: Arc<Engine>,
    /// Whom the tunnel is for; none on the proxy's own port.
    pub(crate) site: Option<Site>,
    /// The receiver whose port this is, if it is one's.
    pub(crate) receiver: Option<Arc<Receiver>>,
}

/// The other end of an intercepted tunnel.
pub(crate) struct Site {
    pub(crate) authority: Authority,
    pub(crate) scheme: Scheme,
    pub(crate) route: Arc<Route>,
    /// Why the other side could not be reached when the tunnel was opened; told to the first request.
    pub(crate) broken: Mutex<Option<UpstreamError>>,
}

impl Site {
    pub(crate) fn take_broken(&self) -> Option<UpstreamError> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Where an HTTP/1 connection and its requests meet.
#[derive(Default)]
pub(crate) struct Link {
    pub(crate) gate: Arc<Gate>,
    next: Mutex<Option<Next>>,
}

impl Link {
    /// Says what the connection becomes once the answer is out.
    pub(crate) fn become_next(&self, next: Next) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
    }

    fn take_next(&self) -> Option<Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What an HTTP/1 connection becomes.
pub(crate) enum Next {
    /// A tunnel.
    Connect(Plan),
    /// Another protocol.
    Upgrade(Upgrade),
}

/// Serves HTTP/1 until the connection closes or becomes something else.
pub(crate) async fn serve_http1<S>(scope: Arc<Scope>, stream: S) -> Option<(Next, Prefixed<S>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let engine = Arc::clone(&scope.engine);
    let start = Start::now();
    let guarded = Guarded::new(stream, engine.limits.head_time);
    let link = Arc::new(Link { gate: guarded.gate(), next: Mutex::default() });
    let service = {
        let (scope, link) = (Arc::clone(&scope), Arc::clone(&link));
        service_fn(move |request: Request<Incoming>| {
            Box::pin(exchange(Arc::clone(&scope), Some(Arc::clone(&link)), request))
        })
    };
    let mut connection = conn::http1::Builder::new()
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_buf_size(LARGEST_BUFFER_BYTES)
        .serve_connection(TokioIo::new(guarded), service);
    let ended = {
        let mut stopped = pin!(engine.stopped());
        let mut stopping = false;
        loop {
            tokio::select! {
                ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
                () = &mut stopped, if !stopping => {
                    Pin::new(&mut connection).graceful_shutdown();
                    stopping = true;
                }
            }
        }
    };
    let parts = connection.into_parts();
    let (held, mut stream) = parts.io.into_inner().into_parts();
    if let Some((violation, true)) = link.gate.violation() {
        refuse_head(&scope, start, violation, &mut stream).await;
        return None;
    }
    if let Err(error) = ended {
        debug!(%error, "a client connection ended");
        return None;
    }
    let Some(next) = link.take_next() else {
        // Failing to say goodbye is no failure.
        let _ = stream.shutdown().await;
        return None;
    };
    Some((next, Prefixed::new(join(parts.read_buf, held), stream)))
}

/// Serves HTTP/2 until the connection closes.
pub(crate) async fn serve_http2<S>(scope: Arc<Scope>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let engine = Arc::clone(&scope.engine);
    let service = service_fn(move |request: Request<Incoming>| exchange(Arc::clone(&scope), None, request));
    let connection = conn::http2::Builder::new(TokioExecutor::new())
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(LARGEST_HEAD_BYTES as u32)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut stopped = pin!(engine.stopped());
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(%error, "a client connection ended");
                }
                return;
            }
            () = &mut stopped, if !stopping => {
                connection.as_mut().graceful_shutdown();
                stopping = true;
            }
        }
    }
}

/// Answers bytes that are no request, and records them. hyper has not seen them, so the answer is written by hand.
async fn refuse_head<S: AsyncWrite + Unpin>(
    scope: &Scope,
    start: Start,
    violation: Violation,
    stream: &mut S,
) {
    let authority = scope.site.as_ref().map(|site| &site.authority);
    let status = match violation {
        Violation::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
        Violation::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    let mut flow = scope.engine.record_tunnel(authority, start, None);
    flow.status = Some(status);
    flow.finish(Outcome::Refused, Some(violation.to_string()));
    let body = format!("plainsight: {violation}\n");
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    // The client may be gone; the record says what happened.
    if stream.write_all(answer.as_bytes()).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}

fn join(first: Bytes, second: Bytes) -> Bytes {
    if first.is_empty() {
        return second;
    }
    if second.is_empty() {
        return first;
    }
    let mut joined = BytesMut::from(first);
    joined.extend_from_slice(&second);
    joined.freeze()
}

/// Streams at once on one h2 connection. gRPC exporters use a handful, browsers a hundred.
const MOST_STREAMS: u32 = 256;
