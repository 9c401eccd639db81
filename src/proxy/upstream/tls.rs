//! TLS towards the other side: one shared configuration for each set of protocols that can be offered.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    ClientConfig,
    client::Resumption,
    pki_types::{DnsName, ServerName},
};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    model::{Authority, Host},
    proxy::{config::ProxyConfig, error::UpstreamError, io::Stream, receiver::Identity},
};

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// The protocols that a client offers and we can speak: what we offer in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Offer {
    /// Both.
    Both,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// The client offered nothing that we know, or nothing at all: HTTP/1.1 is spoken unnamed.
    Nothing,
}

impl Offer {
    /// What of a client's list we can offer.
    pub(crate) fn from_client<'a>(names: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut http1, mut http2) = (false, false);
        for name in names {
            http1 |= name == b"http/1.1";
            http2 |= name == b"h2";
        }
        match (http1, http2) {
            (true, true) => Self::Both,
            (true, false) => Self::Http1,
            (false, true) => Self::Http2,
            (false, false) => Self::Nothing,
        }
    }

    /// What is spoken when the other side cannot be asked.
    pub(crate) const fn fallback(self) -> Protocol {
        match self {
            Self::Both | Self::Http1 | Self::Nothing => Protocol::Http1,
            Self::Http2 => Protocol::Http2,
        }
    }
}

/// Does TLS as a client.
pub(crate) struct Connector {
    both: TlsConnector,
    http1: TlsConnector,
    http2: TlsConnector,
    nothing: TlsConnector,
    time: Duration,
}

impl Connector {
    pub(crate) fn new(config: &ProxyConfig, identity: Option<&Identity>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let trusting = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(config.roots.clone());
        let mut base = match identity {
            Some(identity) => {
                trusting.with_client_auth_cert(identity.certificates.clone(), identity.key.clone_key())?
            }
            None => trusting.with_no_client_auth(),
        };
        base.resumption = Resumption::in_memory_sessions(SESSIONS);
        // The clones share the verifier and the session store.
        let with = |names: &[&[u8]]| {
            let mut config = base.clone();
            config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        Ok(Self {
            both: with(&[b"h2", b"http/1.1"]),
            http1: with(&[b"http/1.1"]),
            http2: with(&[b"h2"]),
            nothing: with(&[]),
            time: config.limits.connect_time,
        })
    }

    pub(crate) async fn connect(
        &self,
        authority: &Authority,
        offer: Offer,
        stream: Stream,
    ) -> Result<(TlsStream<Stream>, Protocol), UpstreamError> {
        let failed = |error| UpstreamError::Tls(authority.clone(), Arc::new(error));
        let name = server_name(authority.host()).map_err(failed)?;
        let connector = match offer {
            Offer::Both => &self.both,
            Offer::Http1 => &self.http1,
            Offer::Http2 => &self.http2,
            Offer::Nothing => &self.nothing,
        };
        let stream = timeout(self.time, connector.connect(name, stream))
            .await
            .map_err(|_| UpstreamError::Timeout(authority.clone()))?
            .map_err(failed)?;
        let protocol = match (stream.get_ref().1.alpn_protocol(), offer) {
            (Some(b"h2"), _) => Protocol::Http2,
            (None, Offer::Http2) => return Err(failed(io::Error::other("it does not speak HTTP/2"))),
            _ => Protocol::Http1,
        };
        Ok((stream, protocol))
    }
}

fn server_name(host: &Host) -> io::Result<ServerName<'static>> {
    match host {
        Host::Domain(name) => DnsName::try_from(name.to_string())
            .map(ServerName::DnsName)
            .map_err(|_| io::Error::other("its name cannot stand in a certificate")),
        Host::Ip(address) => Ok(ServerName::IpAddress((*address).into())),
    }
}

/// Hosts whose sessions are remembered. A client talks to a dozen or so.
const SESSIONS: usize = 256;
