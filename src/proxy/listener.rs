//! Accepts connections, as many as may be, and sees them to their end at shutdown.

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    model::Secret,
    proxy::{
        client,
        config::ProxyConfig,
        engine::{Acceptors, Engine},
        error::BindError,
        probe::Probes,
        receiver::Receiver,
        services::Services,
        upstream::{Upstream, prepare},
    },
};

/// A proxy that listens.
pub struct Proxy {
    listener: TcpListener,
    address: SocketAddr,
    receivers: Vec<TcpListener>,
    engine: Arc<Engine>,
    stop: watch::Sender<bool>,
    entrance: Entrance,
    jobs: mpsc::UnboundedReceiver<Job>,
}

/// Another way into the proxy than its port: connections that were accepted elsewhere. Closed once the proxy drains.
#[derive(Clone)]
pub struct Entrance {
    pub(crate) engine: Arc<Engine>,
    jobs: mpsc::UnboundedSender<Job>,
}

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Entrance {
    /// Serves something among the proxy's connections, and to its end at shutdown.
    pub(crate) fn serve(&self, job: impl Future<Output = ()> + Send + 'static) {
        // Nobody is there to take it once the proxy drains; what it holds is closed by dropping it.
        let _ = self.jobs.send(Box::pin(job));
    }
}

impl Proxy {
    /// Listens. Connections wait in the queue until [`Proxy::serve`].
    ///
    /// # Errors
    /// The address cannot be listened on, or TLS cannot be set up.
    pub async fn bind(mut config: ProxyConfig, services: Services) -> Result<Self, BindError> {
        let (listener, address) = listen(config.listen).await?;
        let (mut listeners, mut own) = (Vec::new(), vec![address]);
        for receiver in &config.receivers {
            let (listener, address) = listen(receiver.listen).await?;
            listeners.push(listener);
            own.push(address);
        }
        let receivers = std::mem::take(&mut config.receivers);
        let receivers = receivers
            .into_iter()
            .zip(&own[1..])
            .map(|(receiver, address)| Receiver::new(*address, receiver, &config, &own).map(Arc::new));
        let receivers = receivers.collect::<Result<_, _>>()?;
        let (stop, stopping) = watch::channel(false);
        let credential = config
            .credential
            .as_ref()
            .map(|credential| Secret::new(BASE64_STANDARD.encode(credential.expose())));
        let engine = Engine {
            services,
            upstream: Upstream::new(&config, address, None)?,
            acceptors: Acceptors::new()?,
            receivers,
            answers: config.answers,
            limits: config.limits,
            named_only: config.named_only,
            probes: Probes::default(),
            credential,
            stopping,
            alive: Arc::default(),
        };
        let engine = Arc::new(engine);
        // Who sends bounds what waits: the jobs of a confinement by the number of its connections.
        let (sender, jobs) = mpsc::unbounded_channel();
        let entrance = Entrance { engine: Arc::clone(&engine), jobs: sender };
        Ok(Self { listener, address, receivers: listeners, engine, stop, entrance, jobs })
    }

    /// Another way in.
    pub fn entrance(&self) -> Entrance {
        self.entrance.clone()
    }

    /// Where it listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where each receiver listens, in the order of [`ProxyConfig::receivers`].
    pub fn receiver_addrs(&self) -> Vec<SocketAddr> {
        self.engine.receivers.iter().map(|receiver| receiver.address).collect()
    }

    /// Serves until `shutdown` resolves; then lets open flows end for a bounded time and closes every record.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, receivers, engine, stop, mut jobs, .. } = self;
        let permits = Arc::new(Semaphore::new(engine.limits.connections));
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        let mut reaping = interval(REAP_INTERVAL);
        reaping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                _ = reaping.tick() => engine.upstreams().for_each(Upstream::reap),
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        // Not the error's own text: it repeats what a panic said, which may quote the payload.
                        warn!(panicked = error.is_panic(), "a connection failed on our side");
                    }
                }
                Some(job) = jobs.recv() => {
                    connections.spawn(job);
                }
                accepted = accept_export(&receivers, &permits) => match accepted {
                    Ok((stream, at, permit)) => {
                        let (engine, receiver) = (Arc::clone(&engine), Arc::clone(&engine.receivers[at]));
                        connections.spawn(async move {
                            receiver.serve(engine, stream).await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        warn!(%error, "cannot accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                accepted = accept(&listener, &permits) => match accepted {
                    Ok((stream, permit)) => {
                        let engine = Arc::clone(&engine);
                        connections.spawn(async move {
                            client::serve(engine, stream).await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        warn!(%error, "cannot accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
        drop((listener, receivers, jobs));
        debug!(open = connections.len(), "draining");
        // Nobody listens only if nobody is left.
        let _ = stop.send(true);
        engine.upstreams().for_each(Upstream::close_idle);
        let draining = async { while connections.join_next().await.is_some() {} };
        if timeout(engine.limits.shutdown_time, draining).await.is_err() {
            connections.shutdown().await;
        }
        // Streams of h2 connections are tasks of their own; they end as they notice that their connection is gone.
        let closing = async {
            while Arc::strong_count(&engine.alive) > 1 {
                sleep(CLOSE_POLL).await;
            }
        };
        if timeout(CLOSE_TIME, closing).await.is_err() {
            warn!("some records could not be closed in time");
        }
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let failed = |source| BindError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Accepts at whichever receiver has a connection, and says at which.
async fn accept_export(
    listeners: &[TcpListener],
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, usize, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let accepting = poll_fn(|cx| {
        for (at, listener) in listeners.iter().enumerate() {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(stream, _)| (stream, at)));
            }
        }
        Poll::Pending
    });
    let (stream, at) = accepting.await?;
    prepare(&stream);
    Ok((stream, at, permit))
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    prepare(&stream);
    Ok((stream, permit))
}

/// How often idle upstream connections are looked through.
const REAP_INTERVAL: Duration = Duration::from_secs(5);
/// Out of file descriptors: trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often, and how long, the last records are waited for.
const CLOSE_POLL: Duration = Duration::from_millis(2);
const CLOSE_TIME: Duration = Duration::from_secs(1);
