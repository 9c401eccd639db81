//! What the proxy is told when it starts.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::RootCertStore;

use crate::{
    claude::UpstreamProxies,
    model::{AuthorityPattern, ByteSize, ConnectTo, Secret},
    proxy::{receiver::ReceiverConfig, services::Answers},
};

/// What the proxy is told when it starts.
#[derive(Clone)]
pub struct ProxyConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `user:password` that every client must present, if any.
    pub credential: Option<Secret<String>>,
    /// Sends connections elsewhere, as curl's `--connect-to` does: the first that matches. What it names may be dialled
    /// whatever it is.
    pub connect_to: Vec<ConnectTo>,
    /// The proxies that we are behind ourselves.
    pub upstream: UpstreamProxies,
    /// Link-local addresses that may be dialled because somebody named each of them; a glob names none.
    pub named_addresses: Vec<IpAddr>,
    /// The certificates that upstream servers are checked against.
    pub roots: RootCertStore,
    /// If anything: an address that no name stands for is dialled only if it is loopback, intercepted, or among these.
    pub named_only: Option<Vec<AuthorityPattern>>,
    /// Addresses that are never dialled, such as our own dashboard. Our own listener is among them anyway.
    pub forbidden: Vec<SocketAddr>,
    /// Listeners that speak as OpenTelemetry collectors do.
    pub receivers: Vec<ReceiverConfig>,
    /// Whoever learns from answers.
    pub answers: Option<Arc<dyn Answers>>,
    /// Sizes, numbers and times.
    pub limits: Limits,
}

impl ProxyConfig {
    /// Listens on `listen`, goes out directly, trusts `roots`, and has the default limits.
    pub fn new(listen: SocketAddr, roots: RootCertStore) -> Self {
        Self {
            listen,
            credential: None,
            connect_to: Vec::new(),
            upstream: UpstreamProxies::default(),
            named_addresses: Vec::new(),
            roots,
            named_only: None,
            forbidden: Vec::new(),
            receivers: Vec::new(),
            answers: None,
            limits: Limits::default(),
        }
    }
}

impl fmt::Debug for ProxyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyConfig")
            .field("listen", &self.listen)
            .field("credential", &self.credential)
            .field("upstream", &self.upstream)
            .field("forbidden", &self.forbidden)
            .field("receivers", &self.receivers)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Sizes, numbers and times that bound the proxy.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest body inspected. Event batches seen in the wild stay under 1 MiB; eight leaves room.
    pub body: ByteSize,
    /// Bodies from this size on are inspected on a blocking thread, so that a stream on the same worker never waits.
    pub inline_body: ByteSize,
    /// How much of a refused request is read before the connection is closed instead.
    pub drain: ByteSize,
    /// How long a refused request is read at most.
    pub drain_time: Duration,
    /// Client connections at once; more wait in the listen queue.
    pub connections: usize,
    /// From the first byte of a request head to its last; a TLS handshake has the same. Idle connections are not bound.
    pub head_time: Duration,
    /// Time for the name and for TCP to connect, and again for TLS.
    pub connect_time: Duration,
    /// How long a client may stay silent at the start of an intercepted tunnel before the other side is listened to as
    /// well, in case it speaks a protocol in which the server begins.
    pub sniff_time: Duration,
    /// How long open flows may go on after shutdown was asked for.
    pub shutdown_time: Duration,
    /// Idle upstream connections per authority.
    pub idle_per_authority: usize,
    /// Idle upstream connections in all.
    pub idle_total: usize,
    /// How long an upstream connection is kept idle. Servers commonly close after 60 seconds; just before that.
    pub idle_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: ByteSize::mebibytes(8),
            inline_body: ByteSize::kibibytes(64),
            drain: ByteSize::mebibytes(1),
            drain_time: Duration::from_secs(5),
            connections: 4096,
            head_time: Duration::from_secs(30),
            connect_time: Duration::from_secs(10),
            sniff_time: Duration::from_secs(2),
            shutdown_time: Duration::from_secs(5),
            idle_per_authority: 64,
            idle_total: 256,
            idle_time: Duration::from_secs(55),
        }
    }
}
