//! The way to the other side: dialling, TLS, an upstream proxy, and connections kept for the next request.

mod dial;
mod pool;
mod tls;

use std::sync::Arc;

use http::{HeaderValue, Request, Response, Uri, header};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    claude::UpstreamProxy,
    model::{Authority, Scheme},
    proxy::{
        body::{Progress, RequestBody},
        config::ProxyConfig,
        error::UpstreamError,
        framing::LARGEST_HEAD_BYTES,
        io::Stream,
        receiver::Identity,
    },
};

use dial::Dialer;
pub(crate) use dial::prepare;
pub(crate) use pool::Return;
use pool::{Pool, Sender};
use tls::Connector;
pub(crate) use tls::{Offer, Protocol};

/// How bytes travel to an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wire {
    /// In cleartext.
    Plain,
    /// In cleartext, as whole URLs to an upstream proxy.
    Proxied,
    /// In TLS.
    Tls,
}

/// Which connections can carry a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    pub(crate) authority: Authority,
    pub(crate) wire: Wire,
    pub(crate) protocol: Protocol,
    /// What TLS offers when a new connection is made.
    pub(crate) offer: Offer,
}

/// Everything that reaches out.
pub(crate) struct Upstream {
    dialer: Dialer,
    connector: Connector,
    pool: Arc<Pool>,
}

impl Upstream {
    /// `own` is never dialled; `identity` is shown to servers that ask for one.
    pub(crate) fn new(
        config: &ProxyConfig,
        own: std::net::SocketAddr,
        identity: Option<&Identity>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            dialer: Dialer::new(config, own),
            connector: Connector::new(config, identity)?,
            pool: Arc::new(Pool::new(&config.limits)),
        })
    }

    /// Opens TCP to `authority`, through the upstream proxy if there is one.
    pub(crate) async fn dial(&self, authority: &Authority) -> Result<Stream, UpstreamError> {
        self.dialer.tunnel(authority).await
    }

    /// How a cleartext request gets to `authority`.
    pub(crate) fn plain_wire(&self, authority: &Authority) -> Wire {
        if self.dialer.proxy_for(Scheme::Http, authority).is_some() { Wire::Proxied } else { Wire::Plain }
    }

    /// Whether TLS to `authority` needs no dialling now.
    pub(crate) fn has_live(&self, authority: &Authority) -> bool {
        self.pool.has_live(authority)
    }

    /// What `authority` would choose of `offer`, if that is known and a connection is at hand.
    pub(crate) fn known_choice(&self, authority: &Authority, offer: Offer) -> Option<Protocol> {
        let choice = match offer {
            Offer::Both => self.pool.choice(authority)?,
            Offer::Http2 => Protocol::Http2,
            Offer::Http1 | Offer::Nothing => Protocol::Http1,
        };
        self.pool.has_live_for(authority, choice).then_some(choice)
    }

    /// Does TLS on a dialled connection and keeps it for the requests to come. Returns what the other side chose.
    pub(crate) async fn secure(
        &self,
        authority: &Authority,
        offer: Offer,
        stream: Stream,
    ) -> Result<Protocol, UpstreamError> {
        let (stream, protocol) = self.connector.connect(authority, offer, stream).await?;
        if offer == Offer::Both {
            self.pool.remember(authority, protocol);
        }
        let route = Route { authority: authority.clone(), wire: Wire::Tls, protocol, offer };
        let sender = handshake(authority, protocol, stream).await?;
        self.pool.put(&route, sender);
        Ok(protocol)
    }

    /// Keeps a dialled cleartext connection for the requests to come.
    pub(crate) async fn keep_plain(&self, route: &Route, stream: Stream) -> Result<(), UpstreamError> {
        let sender = handshake(&route.authority, route.protocol, stream).await?;
        self.pool.put(route, sender);
        Ok(())
    }

    /// Makes sure that there is a connection for the next request, if one can be had.
    pub(crate) async fn reach(&self, route: &Route) -> Result<(), UpstreamError> {
        let sender = match self.pool.take(route).await {
            Some(sender) => sender,
            None => Box::pin(self.open(route)).await?,
        };
        // Shared ones are in the pool already.
        if matches!(sender, Sender::Http1(_)) {
            self.pool.put(route, sender);
        }
        Ok(())
    }

    /// Sends a request and waits for the head of the answer. A connection that turns out to be dead before anything was
    /// sent is replaced once.
    pub(crate) async fn send(
        &self,
        route: &Arc<Route>,
        mut request: Request<RequestBody>,
        progress: &Arc<Progress>,
    ) -> Result<(Response<Incoming>, Option<Return>), UpstreamError> {
        if route.wire == Wire::Proxied {
            self.address_to_proxy(route, &mut request);
        }
        let mut reused = true;
        loop {
            let pooled = if reused { self.pool.take(route).await } else { None };
            let sender = match pooled {
                Some(sender) => sender,
                None => {
                    reused = false;
                    // Rare, and large: every request would carry the room for it.
                    Box::pin(self.open(route)).await?
                }
            };
            let broken = |error| UpstreamError::Broken(route.authority.clone(), Arc::new(error));
            let mut failed = match sender {
                Sender::Http1(mut sender) => match sender.try_send_request(request).await {
                    Ok(response) => {
                        let give = Return::new(sender, route, &self.pool, progress);
                        return Ok((response, Some(give)));
                    }
                    Err(failed) => failed,
                },
                Sender::Http2(mut sender) => match sender.try_send_request(request).await {
                    Ok(response) => return Ok((response, None)),
                    Err(failed) => {
                        if sender.is_closed() {
                            self.pool.forget(route);
                        }
                        failed
                    }
                },
            };
            match failed.take_message() {
                Some(unsent) if reused => request = unsent,
                _ => return Err(broken(failed.into_error())),
            }
            self.pool.forget(route);
            reused = false;
        }
    }

    /// Closes idle connections that are too old.
    pub(crate) fn reap(&self) {
        self.pool.reap();
    }

    /// Closes every idle connection.
    pub(crate) fn close_idle(&self) {
        self.pool.clear();
    }

    async fn open(&self, route: &Route) -> Result<Sender, UpstreamError> {
        if route.protocol == Protocol::Http2 {
            // One at a time: the first connection serves all who wait for it.
            let dialling = self.pool.dialling(route);
            let _turn = dialling.lock().await;
            if let Some(sender) = self.pool.take(route).await {
                return Ok(sender);
            }
            let sender = self.open_unshared(route).await?;
            let Sender::Http2(shared) = &sender else { return Ok(sender) };
            self.pool.put(route, Sender::Http2(shared.clone()));
            return Ok(sender);
        }
        self.open_unshared(route).await
    }

    async fn open_unshared(&self, route: &Route) -> Result<Sender, UpstreamError> {
        let authority = &route.authority;
        match route.wire {
            Wire::Plain => {
                let stream = self.dialer.tunnel(authority).await?;
                handshake(authority, route.protocol, stream).await
            }
            Wire::Proxied => {
                let stream = self.dialer.proxy(authority).await?;
                handshake(authority, route.protocol, stream).await
            }
            Wire::Tls => {
                let stream = self.dialer.tunnel(authority).await?;
                let offer = match (route.offer, route.protocol) {
                    (Offer::Nothing, _) => Offer::Nothing,
                    (_, Protocol::Http1) => Offer::Http1,
                    (_, Protocol::Http2) => Offer::Http2,
                };
                let (stream, protocol) = self.connector.connect(authority, offer, stream).await?;
                if protocol != route.protocol {
                    let error =
                        std::io::Error::other("it no longer speaks the protocol that it chose before");
                    return Err(UpstreamError::Tls(authority.clone(), Arc::new(error)));
                }
                handshake(authority, protocol, stream).await
            }
        }
    }

    /// Makes the target a whole URL, and shows our credential to the upstream proxy.
    fn address_to_proxy(&self, route: &Route, request: &mut Request<RequestBody>) {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let authority = match (route.authority.port(), route.authority.to_string()) {
            (80, text) => text.strip_suffix(":80").unwrap_or(&text).to_owned(),
            (_, text) => text,
        };
        if let Ok(uri) = Uri::try_from(format!("http://{authority}{target}")) {
            *request.uri_mut() = uri;
        }
        let proxy = self.dialer.proxy_for(Scheme::Http, &route.authority);
        if let Some(text) = proxy.and_then(UpstreamProxy::authorization)
            && let Ok(mut value) = HeaderValue::from_str(text.expose())
        {
            value.set_sensitive(true);
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, value);
        }
    }
}

/// Starts HTTP on a connection, and a task that drives it.
async fn handshake<S>(authority: &Authority, protocol: Protocol, stream: S) -> Result<Sender, UpstreamError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broken = |error| UpstreamError::Broken(authority.clone(), Arc::new(error));
    match protocol {
        Protocol::Http1 => {
            let (sender, connection) = conn::http1::Builder::new()
                .preserve_header_case(true)
                .max_buf_size(LARGEST_BUFFER_BYTES)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(broken)?;
            // How it ends is told to whoever waits for an answer.
            tokio::spawn(async move { drop(connection.with_upgrades().await) });
            Ok(Sender::Http1(sender))
        }
        Protocol::Http2 => {
            let (sender, connection) = conn::http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .max_header_list_size(LARGEST_HEAD_BYTES as u32)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(broken)?;
            tokio::spawn(async move { drop(connection.await) });
            Ok(Sender::Http2(sender))
        }
    }
}

/// Most that an HTTP/1 connection buffers; larger does not make a download faster.
pub(crate) const LARGEST_BUFFER_BYTES: usize = 128 * 1024;
/// An h2 stream may be this far ahead of its reader: enough for a gigabit over 16 ms.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// All streams of an h2 connection together.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
