use std::{net::SocketAddr, sync::Arc};

use plainsight::{
    model::ConnectTo,
    proxy::{Proxy, ProxyConfig, Services},
};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{FakeAudit, FakeInspection, TestCa};

/// How a test's proxy is set up.
pub struct Setup {
    pub ca: Arc<TestCa>,
    pub inspection: Arc<FakeInspection>,
    pub audit: Arc<FakeAudit>,
    pub config: ProxyConfig,
}

impl Setup {
    /// A proxy that trusts and uses one CA, and sends every connection to `origin`.
    pub fn new(ca: &Arc<TestCa>, origin: SocketAddr) -> Self {
        let mut config = ProxyConfig::new("127.0.0.1:0".parse().unwrap(), ca.roots());
        config.connect_to = vec![ConnectTo::parse(&format!("::{}:{}", origin.ip(), origin.port())).unwrap()];
        Self { ca: Arc::clone(ca), inspection: Arc::default(), audit: Arc::default(), config }
    }

    pub async fn start(self) -> TestProxy {
        let Self { ca, inspection, audit, config } = self;
        let services = Services { inspection: inspection.clone(), audit: audit.clone(), leaves: ca.clone() };
        let proxy = Proxy::bind(config, services).await.unwrap();
        let (address, receivers) = (proxy.local_addr(), proxy.receiver_addrs());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(proxy.serve(async move {
            let _ = stopped.await;
        }));
        TestProxy { address, receivers, ca, inspection, audit, stop: Some(stop), serving }
    }
}

/// A running proxy.
pub struct TestProxy {
    pub address: SocketAddr,
    /// Where its receivers listen.
    pub receivers: Vec<SocketAddr>,
    pub ca: Arc<TestCa>,
    pub inspection: Arc<FakeInspection>,
    pub audit: Arc<FakeAudit>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl TestProxy {
    /// Asks it to stop, and waits until it has.
    pub async fn stop(&mut self) {
        drop(self.stop.take());
        (&mut self.serving).await.unwrap();
    }
}
