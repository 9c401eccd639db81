//! Protocol upgrades: 101 on both sides, then bytes. What flows is not read.

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    model::{NotInspected, Outcome},
    proxy::{engine::Engine, flow::Flow, tunnel},
};

/// An upgrade that the other side agreed to.
pub(crate) struct Upgrade {
    upstream: OnUpgrade,
    flow: Flow,
}

impl Upgrade {
    pub(crate) fn new(upstream: OnUpgrade, mut flow: Flow) -> Self {
        flow.not_inspected = Some(NotInspected::Upgraded);
        Self { upstream, flow }
    }
}

/// Passes bytes between the client and the other side after both have switched.
pub(crate) async fn relay<S: AsyncRead + AsyncWrite + Unpin>(engine: &Engine, upgrade: Upgrade, client: S) {
    let Upgrade { upstream, flow } = upgrade;
    match upstream.await {
        Ok(upstream) => tunnel::tunnel(engine, client, into_stream(upstream), flow).await,
        Err(error) => flow.finish(Outcome::UpstreamFailed, Some(format!("the upgrade broke off: {error}"))),
    }
}

fn into_stream(upgraded: Upgraded) -> TokioIo<Upgraded> {
    TokioIo::new(upgraded)
}
