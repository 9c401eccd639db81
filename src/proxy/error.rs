//! What goes wrong between sockets, and whose side it was on.

use std::{io, net::SocketAddr, sync::Arc};

use http::StatusCode;

use crate::model::Authority;

/// The proxy cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken, or is not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Something on the way to the other side failed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("{0} does not accept connections: {1}")]
    Connect(Authority, Arc<io::Error>),
    #[error("the connection to {0} broke: {1}")]
    Broken(Authority, Arc<hyper::Error>),
    #[error("{0} is at {1}, which is not dialled: {2}")]
    Forbidden(Authority, SocketAddr, &'static str),
    #[error("the upstream proxy {0} refused: {1}")]
    Proxy(Authority, String),
    #[error("the name of {0} does not resolve: {1}")]
    Resolve(Authority, Arc<io::Error>),
    #[error("{0} did not answer in time")]
    Timeout(Authority),
    #[error("TLS with {0} failed: {1}")]
    Tls(Authority, Arc<io::Error>),
}

impl UpstreamError {
    /// Whether it may be over in a moment, without anybody's doing.
    pub(crate) const fn may_pass(&self) -> bool {
        match self {
            Self::Broken(..) | Self::Connect(..) | Self::Proxy(..) | Self::Resolve(..) | Self::Timeout(_) => {
                true
            }
            Self::Forbidden(..) | Self::Tls(..) => false,
        }
    }

    /// The status that the client gets for it.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Forbidden(..) => StatusCode::FORBIDDEN,
            Self::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Broken(..) | Self::Connect(..) | Self::Proxy(..) | Self::Resolve(..) | Self::Tls(..) => {
                StatusCode::BAD_GATEWAY
            }
        }
    }
}
