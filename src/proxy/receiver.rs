//! The OTLP receiver: listens as an OpenTelemetry collector does, and gives each request the address of the
//! collector that it is for. Failures on the way there are said as a collector would say them, so that a client
//! keeps what it has and tries again.

mod patience;
mod peer;

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode, Uri, Version,
    header::{CONTENT_TYPE, HOST, ORIGIN, RETRY_AFTER},
    request::Parts,
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

use crate::{
    claude::UpstreamProxies,
    model::{Authority, Host, Scheme},
    proxy::{
        body::ResponseBody,
        client::{Scope, serve_http1, serve_http2},
        config::ProxyConfig,
        engine::Engine,
        io::Prefixed,
        respond::Said,
        sniff::{Spoken, sniff},
        upstream::{Offer, Protocol, Route, Upstream, Wire},
    },
};

use patience::Refused;
pub(crate) use patience::{Attempt, RetryIn};

/// A listener that speaks as an OpenTelemetry collector does: OTLP over gRPC (h2c) and over HTTP, on one port.
#[derive(Clone, Debug)]
pub struct ReceiverConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where requests go: to the first that takes them.
    pub collectors: Vec<CollectorConfig>,
}

/// A collector that was configured.
#[derive(Clone, Debug)]
pub struct CollectorConfig {
    /// Which requests are for it.
    pub takes: Takes,
    /// Cleartext or TLS.
    pub scheme: Scheme,
    /// Host and port.
    pub authority: Authority,
    /// Where it takes OTLP over HTTP.
    pub path: CollectorPath,
    /// Header fields that are added where the client sends none of that name.
    pub headers: HeaderMap,
    /// Certificates of its own.
    pub tls: Option<CollectorTls>,
}

/// Which requests a collector takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Every one.
    Everything,
    /// Those over gRPC.
    Grpc,
    /// Those over HTTP.
    Http,
    /// Those of one signal.
    Signal(Signal),
}

/// A signal of OpenTelemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Log records and events.
    Logs,
    /// Metrics.
    Metrics,
    /// Spans.
    Traces,
}

impl Signal {
    /// The signal of a request to `path`, which is HTTP's or gRPC's.
    fn of(path: &str) -> Option<Self> {
        [
            (Self::Logs, "/v1/logs", SERVICE_LOGS),
            (Self::Metrics, "/v1/metrics", SERVICE_METRICS),
            (Self::Traces, "/v1/traces", SERVICE_TRACES),
        ]
        .into_iter()
        .find_map(|(signal, http, grpc)| (path.ends_with(http) || path.starts_with(grpc)).then_some(signal))
    }
}

/// Where a collector takes OTLP over HTTP. The paths of gRPC are never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CollectorPath {
    /// Where the client asks for.
    AsSent,
    /// What the client asks for, below this path.
    Below(Box<str>),
    /// Here, whatever the client asks for.
    Exactly(Box<str>),
}

/// What is special about TLS with one collector.
#[derive(Clone)]
pub struct CollectorTls {
    /// What its certificate is checked against, instead of the usual roots.
    pub roots: Option<RootCertStore>,
    /// How we show who we are.
    pub identity: Option<Arc<Identity>>,
}

/// A client certificate and its key.
pub struct Identity {
    /// The certificate first, then those of whoever issued it.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl fmt::Debug for CollectorTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectorTls")
            .field("own_roots", &self.roots.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

/// A receiver at work.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    collectors: Vec<Arc<Collector>>,
    permits: Arc<Semaphore>,
    refused: Refused,
}

/// A collector, and the way there.
pub(crate) struct Collector {
    config: CollectorConfig,
    pub(crate) upstream: Upstream,
}

/// Why a receiver does not take a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    #[error("too many exports are under way")]
    Busy,
    #[error("a web page may not send telemetry through plainsight")]
    FromWebPage,
    #[error("no collector was configured for {0}")]
    NoCollector(String),
}

impl NotTaken {
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::FromWebPage => StatusCode::FORBIDDEN,
            Self::NoCollector(_) => StatusCode::NOT_FOUND,
        }
    }
}

impl Receiver {
    /// Prepares the way to each collector. `own` are all the addresses that we listen on: a collector is none of them.
    pub(crate) fn new(
        address: SocketAddr,
        receiver: ReceiverConfig,
        proxy: &ProxyConfig,
        own: &[SocketAddr],
    ) -> Result<Self, rustls::Error> {
        let collector = |config: CollectorConfig| {
            let tls = config.tls.as_ref();
            let roots = tls.and_then(|tls| tls.roots.clone()).unwrap_or_else(|| proxy.roots.clone());
            let forbidden = proxy.forbidden.iter().chain(own).copied().collect();
            let mut named_addresses = proxy.named_addresses.clone();
            let is_here = match config.authority.host() {
                Host::Domain(name) => &**name == "localhost",
                Host::Ip(address) => {
                    // Whoever configured the collector named its address.
                    named_addresses.push(*address);
                    address.is_loopback()
                }
            };
            // No proxy reaches what is on this machine, and no client asks one.
            let upstream = if is_here { UpstreamProxies::default() } else { proxy.upstream.clone() };
            let to_collector = ProxyConfig {
                upstream,
                named_addresses,
                roots,
                forbidden,
                receivers: Vec::new(),
                ..proxy.clone()
            };
            let identity = tls.and_then(|tls| tls.identity.as_deref());
            let upstream = Upstream::new(&to_collector, address, identity)?;
            Ok(Arc::new(Collector { config, upstream }))
        };
        Ok(Self {
            address,
            collectors: receiver
                .collectors
                .into_iter()
                .map(collector)
                .collect::<Result<_, rustls::Error>>()?,
            permits: Arc::new(Semaphore::new(MOST_EXPORTS)),
            refused: Refused::default(),
        })
    }

    /// Serves one connection.
    pub(crate) async fn serve(self: Arc<Self>, engine: Arc<Engine>, mut stream: TcpStream) {
        // OTLP has no place for the credential that a run's proxy wants; the kernel knows who it is.
        if engine.credential.is_some() && peer::is_someone_else(&stream) {
            tracing::warn!(
                "another user of this machine connected to the OTLP receiver, and was turned away"
            );
            return;
        }
        let mut buffer = bytes::BytesMut::new();
        let spoken = tokio::select! {
            spoken = sniff(&mut stream, &mut buffer, engine.limits.head_time) => spoken,
            () = engine.stopped() => return,
        };
        let stream = Prefixed::new(buffer.freeze(), stream);
        let scope = Arc::new(Scope { engine, site: None, receiver: Some(self) });
        match spoken {
            Some(Ok(Spoken::Http1)) => drop(Box::pin(serve_http1(scope, stream)).await),
            Some(Ok(Spoken::Http2)) => Box::pin(serve_http2(scope, stream)).await,
            Some(Ok(Spoken::Tls)) => {
                tracing::warn!(
                    "a client speaks TLS to the OTLP receiver; its endpoint must begin with http://"
                );
            }
            Some(Ok(Spoken::Unknown | Spoken::Nothing) | Err(_)) | None => {}
        }
    }

    /// Finds the collector that a request is for, and makes the request one to it.
    pub(crate) fn take(&self, parts: &mut Parts) -> Result<Arc<Collector>, NotTaken> {
        // PITFALLS 29. Browsers name the page's origin on every POST, whatever name led them here.
        if parts.headers.contains_key(ORIGIN) {
            return Err(NotTaken::FromWebPage);
        }
        let collector = self.collectors.iter().find(|collector| collector.takes(parts));
        let Some(collector) = collector else {
            return Err(NotTaken::NoCollector(
                parts.uri.path().escape_debug().take(LONGEST_NAMED_PATH).collect(),
            ));
        };
        collector.address(parts);
        Ok(Arc::clone(collector))
    }

    /// Waits for its turn: bodies are held in memory until they are sent on, so only so many are read at once.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, NotTaken> {
        let turn = timeout(TURN_TIME, Arc::clone(&self.permits).acquire_owned());
        turn.await.ok().and_then(Result::ok).ok_or(NotTaken::Busy)
    }

    /// Notes that an attempt failed, and says when its client is to try again.
    pub(crate) fn refuse(&self, attempt: &Attempt) -> RetryIn {
        self.refused.refuse(attempt, Instant::now())
    }

    /// An attempt of a client to export `body`.
    pub(crate) fn attempt(&self, body: &Bytes, headers: &HeaderMap, arrived: Instant) -> Attempt {
        self.refused.attempt(body, headers, arrived)
    }

    /// Notes that the collector answered an attempt.
    pub(crate) fn answered(&self, attempt: &Attempt) {
        self.refused.answered(attempt);
    }

    /// Waits for the collector to take connections, where the client has nothing to lose by it. What is held takes
    /// the place of others, so no more than half of them are. Says whether to send then: not what the client tries
    /// anew meanwhile.
    pub(crate) async fn hold(&self, attempt: &Attempt, collector: &Collector, route: &Route) -> bool {
        let room = self.permits.available_permits() >= MOST_EXPORTS / 2;
        let Some(time) = self.refused.holds(attempt, Instant::now()).filter(|_| room) else { return true };
        let held = self.refused.held(attempt);
        let reached = async {
            while let Err(error) = collector.upstream.reach(route).await {
                if !error.may_pass() {
                    return;
                }
                sleep(REACH_PAUSE).await;
            }
        };
        tokio::select! {
            biased;
            () = held.superseded() => false,
            // Whether it was reached is seen when the export is sent.
            _ = timeout(time, reached) => true,
        }
    }

    /// Everything that reaches out from here.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.collectors.iter().map(|collector| &collector.upstream)
    }
}

impl Collector {
    pub(crate) const fn scheme(&self) -> Scheme {
        self.config.scheme
    }

    pub(crate) const fn authority(&self) -> &Authority {
        &self.config.authority
    }

    /// The route of a request in `version`: what the client speaks is spoken with the collector.
    pub(crate) fn route(&self, version: Version) -> Route {
        let authority = self.config.authority.clone();
        let (protocol, offer) = match version {
            Version::HTTP_2 => (Protocol::Http2, Offer::Http2),
            _ => (Protocol::Http1, Offer::Http1),
        };
        let wire = match (self.config.scheme, protocol) {
            (Scheme::Https, _) => Wire::Tls,
            (Scheme::Http, Protocol::Http1) => self.upstream.plain_wire(&authority),
            (Scheme::Http, Protocol::Http2) => Wire::Plain,
        };
        Route { authority, wire, protocol, offer }
    }

    fn takes(&self, parts: &Parts) -> bool {
        let is_grpc = Dialect::of(&parts.headers) == Dialect::Grpc;
        match self.config.takes {
            Takes::Everything => true,
            Takes::Grpc => is_grpc,
            Takes::Http => !is_grpc,
            Takes::Signal(signal) => Signal::of(parts.uri.path()) == Some(signal),
        }
    }

    /// Names the collector where the request named us.
    fn address(&self, parts: &mut Parts) {
        let sent = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let target = self.target(sent, Dialect::of(&parts.headers));
        let CollectorConfig { scheme, authority, .. } = &self.config;
        let named = authority.to_string();
        let named = named.strip_suffix(&format!(":{}", scheme.default_port())).unwrap_or(&named);
        let is_http2 = parts.version == Version::HTTP_2;
        let uri = if is_http2 { format!("{}://{named}{target}", scheme.as_str()) } else { target };
        // What was a target with a path that was parsed before stays one.
        if let Ok(uri) = Uri::try_from(uri) {
            parts.uri = uri;
        }
        if let Ok(host) = HeaderValue::from_str(named)
            && (!is_http2 || parts.headers.contains_key(HOST))
        {
            parts.headers.insert(HOST, host);
        }
        for (name, value) in &self.config.headers {
            if !parts.headers.contains_key(name) {
                parts.headers.insert(name, value.clone());
            }
        }
    }

    fn target(&self, sent: &str, dialect: Dialect) -> String {
        if dialect == Dialect::Grpc {
            return sent.to_owned();
        }
        match &self.config.path {
            CollectorPath::AsSent => sent.to_owned(),
            CollectorPath::Below(base) => format!("{}{sent}", base.trim_end_matches('/')),
            CollectorPath::Exactly(path) => path.to_string(),
        }
    }
}

/// How a client wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// gRPC: the status stands in trailers.
    Grpc,
    /// OTLP over HTTP in JSON.
    Json,
    /// OTLP over HTTP in protobuf.
    Protobuf,
}

impl Dialect {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if kind.starts_with("application/grpc") {
            Self::Grpc
        } else if kind.contains("json") {
            Self::Json
        } else {
            Self::Protobuf
        }
    }

    /// Says what we ourselves have to say as a collector says it. What came from the collector stays as it is.
    pub(crate) fn translate(self, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
        let Some(Said(message)) = response.extensions_mut().remove::<Said>() else { return response };
        let retry_in = response.extensions_mut().remove::<RetryIn>().unwrap_or(RetryIn::FIRST);
        let status = match response.status() {
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => StatusCode::SERVICE_UNAVAILABLE,
            status => status,
        };
        let code = grpc_code(status);
        let (kind, body) = match self {
            Self::Grpc => ("application/grpc", Bytes::new()),
            Self::Json => {
                let body = serde_json::json!({ "code": code, "message": message });
                ("application/json", Bytes::from(body.to_string()))
            }
            Self::Protobuf => ("application/x-protobuf", rpc_status(code, &message)),
        };
        let connection = response.headers_mut().remove(http::header::CONNECTION);
        let mut answer = Response::new(ResponseBody::local(body, None));
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(connection) = connection {
            headers.insert(http::header::CONNECTION, connection);
        }
        if self == Self::Grpc {
            headers.insert("grpc-status", HeaderValue::from(u16::from(code)));
            if let Ok(message) = HeaderValue::from_str(&percent_encoded(&message)) {
                headers.insert("grpc-message", message);
            }
            if status == StatusCode::SERVICE_UNAVAILABLE {
                retry_info(headers, code, &message, retry_in);
            }
        } else {
            *answer.status_mut() = status;
            if status == StatusCode::SERVICE_UNAVAILABLE {
                answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_in.0));
            }
        }
        answer
    }
}

/// The code of `google.rpc.Code` that says what an HTTP status says.
fn grpc_code(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 3,
        403 => 7,
        404 => 12,
        408 | 503 => 14,
        _ => 13,
    }
}

/// `google.rpc.Status`: the code is field 1, the message field 2.
fn rpc_status(code: u8, message: &str) -> Bytes {
    let mut bytes = vec![0x08, code, 0x12];
    let mut length = message.len();
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(message.as_bytes());
    Bytes::from(bytes)
}

/// What `Retry-After` is over HTTP: as OpenTelemetry has it in a status, and as Python's SDK reads it, by itself.
fn retry_info(headers: &mut HeaderMap, code: u8, message: &str, retry_in: RetryIn) {
    let info = retry_in.message();
    let kind = b"type.googleapis.com/google.rpc.RetryInfo";
    // Details are field 3, each an `Any`: its type is field 1, what it holds field 2.
    let mut any = vec![0x0a, kind.len() as u8];
    any.extend_from_slice(kind);
    any.extend_from_slice(&[0x12, info.len() as u8]);
    any.extend_from_slice(&info);
    let mut status = Vec::from(rpc_status(code, message));
    status.extend_from_slice(&[0x1a, any.len() as u8]);
    status.extend_from_slice(&any);
    for (name, bytes) in [("grpc-status-details-bin", &status[..]), ("google.rpc.retryinfo-bin", &info)] {
        if let Ok(value) = HeaderValue::from_str(&STANDARD_NO_PAD.encode(bytes)) {
            headers.insert(name, value);
        }
    }
}

/// As `grpc-message` wants it.
fn percent_encoded(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

const SERVICE_LOGS: &str = "/opentelemetry.proto.collector.logs.";
const SERVICE_METRICS: &str = "/opentelemetry.proto.collector.metrics.";
const SERVICE_TRACES: &str = "/opentelemetry.proto.collector.trace.";
/// Exports that one receiver holds in memory at once: a process has one for each signal, and a body of 8 MiB is the
/// largest. More wait, unread, in the client's own window.
const MOST_EXPORTS: usize = 32;
/// How long an export waits for its turn. SDKs give up after ten seconds.
const TURN_TIME: Duration = Duration::from_secs(5);
/// How long a collector may take to answer. SDKs have given up long before; what is held for it is let go.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(60);
/// How often an export that is held looks for its collector.
const REACH_PAUSE: Duration = Duration::from_millis(500);
/// How much of a path is repeated to whoever asked for it.
const LONGEST_NAMED_PATH: usize = 80;

#[cfg(test)]
mod tests;
