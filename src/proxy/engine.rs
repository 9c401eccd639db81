//! What every connection shares.

use std::{net::SocketAddr, sync::Arc};

use http::StatusCode;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::{Ticketer, default_provider},
    server::ResolvesServerCert,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::sync::watch;

use crate::{
    model::{
        Action, Authority, AuthorityPattern, FlowId, FlowOpening, Host, NotInspected, Outcome, RunId, Secret,
    },
    proxy::{
        config::Limits,
        flow::{Flow, Start},
        probe::Probes,
        receiver::Receiver,
        services::{Answers, AuditUnavailable, Services},
        upstream::{Protocol, Upstream},
    },
};

/// What every connection shares.
pub(crate) struct Engine {
    pub(crate) services: Services,
    pub(crate) upstream: Upstream,
    pub(crate) acceptors: Acceptors,
    pub(crate) receivers: Vec<Arc<Receiver>>,
    pub(crate) answers: Option<Arc<dyn Answers>>,
    pub(crate) limits: Limits,
    /// Which addresses may be dialled without a name, if not all.
    pub(crate) named_only: Option<Vec<AuthorityPattern>>,
    /// What came of `doctor`'s probes.
    pub(crate) probes: Probes,
    /// The base64 of `user:password` that clients must present.
    pub(crate) credential: Option<Secret<String>>,
    /// Becomes true when the proxy is to stop.
    pub(crate) stopping: watch::Receiver<bool>,
    /// Cloned by every open flow.
    pub(crate) alive: Arc<()>,
}

impl Engine {
    /// Opens a record without waiting for it.
    pub(crate) fn record(&self, opening: FlowOpening, start: Start) -> Flow {
        Flow::new(self.services.audit.open_unwaited(opening), start, Arc::clone(&self.alive))
    }

    /// Opens a record, and waits until it is durable.
    pub(crate) async fn record_durably(
        &self,
        opening: FlowOpening,
        start: Start,
    ) -> Result<Flow, AuditUnavailable> {
        let entry = self.services.audit.open(opening).await?;
        Ok(Flow::new(entry, start, Arc::clone(&self.alive)))
    }

    /// Opens the record of a tunnel.
    pub(crate) fn record_tunnel(
        &self,
        authority: Option<&Authority>,
        start: Start,
        reason: Option<NotInspected>,
    ) -> Flow {
        let id = self.services.audit.next_id();
        self.record(self.services.inspection.tunnel(id, authority, start.time_ms, reason), start)
    }

    /// Whether bytes may pass through unread.
    pub(crate) fn may_pass(&self, authority: &Authority, start: Start, reason: NotInspected) -> bool {
        self.unnumbered_tunnel(authority, start, reason).action != Action::Block
    }

    /// The record of a tunnel that may come to nothing. A number is only taken for one that is written: a gap looks like
    /// a record that was lost.
    fn unnumbered_tunnel(&self, authority: &Authority, start: Start, reason: NotInspected) -> FlowOpening {
        let unnumbered = FlowId::new(RunId::FIRST, 0);
        self.services.inspection.tunnel(unnumbered, Some(authority), start.time_ms, Some(reason))
    }

    /// Whether `authority` is an address of which nobody said whose it is, and is therefore not dialled.
    pub(crate) fn keeps_in(&self, authority: &Authority) -> bool {
        let (Some(allowed), Host::Ip(address)) = (&self.named_only, authority.host()) else { return false };
        !address.to_canonical().is_loopback()
            && !self.services.inspection.intercepts(authority)
            && !allowed.iter().any(|pattern| pattern.matches(authority))
    }

    /// Asks whether bytes may pass through unread. If not, that is recorded, and the row of the policy is the error.
    pub(crate) fn lets_pass(
        &self,
        authority: &Authority,
        start: Start,
        reason: NotInspected,
    ) -> Result<(), Box<str>> {
        let opening = self.unnumbered_tunnel(authority, start, reason);
        if opening.action != Action::Block {
            return Ok(());
        }
        let row = opening.policy_row.clone();
        let mut flow = self.record(FlowOpening { id: self.services.audit.next_id(), ..opening }, start);
        flow.status = (reason == NotInspected::NotIntercepted).then_some(StatusCode::FORBIDDEN);
        flow.finish(Outcome::Refused, None);
        Err(row)
    }

    /// Records a connection that came to nothing.
    pub(crate) fn record_failure(
        &self,
        authority: Option<&Authority>,
        start: Start,
        reason: Option<NotInspected>,
        outcome: Outcome,
        error: String,
    ) {
        self.record_tunnel(authority, start, reason).finish(outcome, Some(error));
    }

    /// The receiver that listens at `authority`. Some clients take the proxy for loopback too (PITFALLS 18).
    pub(crate) fn receiver_at(&self, authority: &str) -> Option<Arc<Receiver>> {
        let found = self.receivers.iter().find(|receiver| {
            authority.parse::<SocketAddr>().is_ok_and(|named| named == receiver.address)
                || authority
                    .strip_prefix("localhost:")
                    .is_some_and(|port| port.parse() == Ok(receiver.address.port()))
        });
        found.map(Arc::clone)
    }

    /// Everything that reaches out.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        let receivers = self.receivers.iter().flat_map(|receiver| receiver.upstreams());
        std::iter::once(&self.upstream).chain(receivers)
    }

    /// Resolves once the proxy is to stop.
    pub(crate) async fn stopped(&self) {
        // An error means that whoever could say so is gone, which is the same.
        let _ = self.stopping.clone().wait_for(|stopping| *stopping).await;
    }
}

/// TLS towards clients: configurations that share tickets and crypto, and differ in what ALPN answers.
pub(crate) struct Acceptors {
    http1: ServerConfig,
    http2: ServerConfig,
    unnamed: ServerConfig,
}

impl Acceptors {
    pub(crate) fn new() -> Result<Self, rustls::Error> {
        let mut base = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(NoCertificate));
        base.ticketer = Ticketer::new()?;
        // Clients keep one; each costs an encryption and a record.
        base.send_tls13_tickets = 1;
        let (mut http1, mut http2) = (base.clone(), base.clone());
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        http2.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { http1, http2, unnamed: base })
    }

    /// A configuration that shows `certificate` and answers ALPN with `protocol`, or not at all. Costs a few clones of
    /// reference counts: the host is known from `CONNECT` even when the client sends no name.
    pub(crate) fn config(
        &self,
        protocol: Option<Protocol>,
        certificate: Arc<CertifiedKey>,
    ) -> Arc<ServerConfig> {
        let mut config = match protocol {
            Some(Protocol::Http1) => self.http1.clone(),
            Some(Protocol::Http2) => self.http2.clone(),
            None => self.unnamed.clone(),
        };
        config.cert_resolver = Arc::new(SingleCertAndKey::from(certificate));
        Arc::new(config)
    }
}

/// Stands in a configuration that never serves by itself.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}
