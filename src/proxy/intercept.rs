//! Inside a tunnel that policy names: TLS is ended here, with a leaf for the host that `CONNECT` named.

use std::{
    io,
    sync::{Arc, Mutex},
};

use bytes::BytesMut;
use rustls::server::{Acceptor, ClientHello};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::{
    model::{Authority, Host, NotInspected, Outcome, Scheme},
    proxy::{
        client::{Next, Scope, Site, serve_http1, serve_http2},
        engine::Engine,
        error::UpstreamError,
        flow::Start,
        io::{Prefixed, Stream},
        sniff::{Spoken, sniff, sniff_both},
        tunnel,
        upstream::{Offer, Protocol, Route, Wire},
        websocket,
    },
};

/// Serves an intercepted tunnel to its end.
pub(crate) async fn intercept(
    engine: Arc<Engine>,
    authority: Authority,
    dialled: Option<Stream>,
    start: Start,
    client: Stream,
) {
    let (prefix, mut stream) = client.into_parts();
    let mut buffer = BytesMut::from(prefix);
    // A client that is slow to speak must not be taken for one that waits, and have its telemetry passed unread.
    let may_pass = engine.may_pass(&authority, start, NotInspected::UnknownProtocol);
    let patience = if may_pass { engine.limits.sniff_time } else { engine.limits.head_time };
    let spoken = tokio::select! {
        spoken = sniff(&mut stream, &mut buffer, patience) => spoken,
        () = engine.stopped() => return,
    };
    let (spoken, dialled) = match spoken {
        Some(spoken) => (spoken, dialled),
        None if !may_pass => (Ok(Spoken::Unknown), dialled),
        None => {
            let first = first_word(&engine, &authority, dialled, start, &mut stream, &mut buffer);
            match Box::pin(first).await {
                Some((spoken, upstream)) => (spoken, Some(upstream)),
                None => return,
            }
        }
    };
    let client = Prefixed::new(buffer.freeze(), stream);
    match spoken {
        Ok(Spoken::Tls) => {
            // Boxed stage by stage, so that an idle connection does not keep the room of its handshake.
            let ended = Box::pin(end_tls(&engine, authority, dialled, start, client)).await;
            if let Some((site, stream)) = ended {
                Box::pin(serve(engine, site, stream)).await;
            }
        }
        Ok(Spoken::Http1) => Box::pin(serve_plain(engine, authority, Protocol::Http1, dialled, client)).await,
        Ok(Spoken::Http2) => Box::pin(serve_plain(engine, authority, Protocol::Http2, dialled, client)).await,
        Ok(Spoken::Unknown) => Box::pin(pass_unknown(&engine, &authority, dialled, start, client)).await,
        // Opened ahead of need and never used: nothing was said, nothing is recorded.
        Ok(Spoken::Nothing) | Err(_) => {}
    }
}

/// Waits until either side speaks, however long that takes. `None` if there is no other side, which is then recorded, or
/// if the proxy stops.
async fn first_word(
    engine: &Engine,
    authority: &Authority,
    dialled: Option<Stream>,
    start: Start,
    client: &mut TcpStream,
    buffer: &mut BytesMut,
) -> Option<(io::Result<Spoken>, Stream)> {
    let upstream = match dialled {
        Some(dialled) => dialled,
        None => match engine.upstream.dial(authority).await {
            Ok(dialled) => dialled,
            Err(error) => {
                let (outcome, why) = (Outcome::UpstreamFailed, error.to_string());
                engine.record_failure(Some(authority), start, None, outcome, why);
                return None;
            }
        },
    };
    let (prefix, mut upstream) = upstream.into_parts();
    let mut said = BytesMut::from(prefix);
    let spoken = tokio::select! {
        spoken = sniff_both(client, buffer, &mut upstream, &mut said) => spoken,
        () = engine.stopped() => return None,
    };
    Some((spoken, Prefixed::new(said.freeze(), upstream)))
}

/// Ends TLS: asks the other side first what it speaks, then answers the client with that.
async fn end_tls(
    engine: &Engine,
    authority: Authority,
    dialled: Option<Stream>,
    start: Start,
    client: Stream,
) -> Option<(Site, Box<TlsStream<Stream>>)> {
    let refuse = |reason, why: String| {
        engine.record_failure(Some(&authority), start, reason, Outcome::Refused, why);
        None
    };
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), client);
    let handshake = match timeout(engine.limits.head_time, &mut acceptor).await {
        Ok(Ok(handshake)) => handshake,
        Ok(Err(error)) => return refuse(None, format!("the ClientHello is malformed: {error}")),
        Err(_) => return refuse(None, "the ClientHello took too long".to_owned()),
    };
    let hello = handshake.client_hello();
    if let Err(name) = agrees(&hello, authority.host()) {
        close_with(handshake.io, UNRECOGNISED_NAME).await;
        return refuse(None, format!("CONNECT names {}, but TLS names {name}", authority.host()));
    }
    let offer = hello.alpn().map_or(Offer::Nothing, Offer::from_client);
    let certificate = match engine.services.leaves.certificate(authority.host()) {
        Ok(certificate) => certificate,
        Err(error) => {
            close_with(handshake.io, INTERNAL_ERROR).await;
            return refuse(None, error.to_string());
        }
    };
    let (protocol, broken) = match choose(engine, &authority, offer, dialled).await {
        Ok(protocol) => (protocol, None),
        Err(error) => (offer.fallback(), Some(error)),
    };
    let named = (offer != Offer::Nothing).then_some(protocol);
    let config = engine.acceptors.config(named, certificate);
    let stream = match timeout(engine.limits.head_time, handshake.into_stream(config)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return refuse(Some(NotInspected::ClientRefusedCertificate), describe(&error));
        }
        Err(_) => return refuse(None, "the TLS handshake took too long".to_owned()),
    };
    let route = Route { authority: authority.clone(), wire: Wire::Tls, protocol, offer };
    let site = Site { authority, scheme: Scheme::Https, route: Arc::new(route), broken: Mutex::new(broken) };
    Some((site, Box::new(stream)))
}

/// What is spoken with the client: what the other side chose of what the client offers.
async fn choose(
    engine: &Engine,
    authority: &Authority,
    offer: Offer,
    dialled: Option<Stream>,
) -> Result<Protocol, UpstreamError> {
    let dialled = match dialled {
        Some(dialled) => dialled,
        None => match engine.upstream.known_choice(authority, offer) {
            Some(protocol) => return Ok(protocol),
            None => engine.upstream.dial(authority).await?,
        },
    };
    engine.upstream.secure(authority, offer, dialled).await
}

async fn serve(engine: Arc<Engine>, site: Site, stream: Box<TlsStream<Stream>>) {
    let protocol = site.route.protocol;
    let scope = Arc::new(Scope { engine: Arc::clone(&engine), site: Some(site), receiver: None });
    match protocol {
        Protocol::Http1 => {
            if let Some((Next::Upgrade(upgrade), stream)) = serve_http1(scope, stream).await {
                websocket::relay(&engine, upgrade, stream).await;
            }
        }
        Protocol::Http2 => serve_http2(scope, stream).await,
    }
}

/// HTTP in cleartext inside the tunnel.
async fn serve_plain(
    engine: Arc<Engine>,
    authority: Authority,
    protocol: Protocol,
    dialled: Option<Stream>,
    client: Stream,
) {
    let route =
        Arc::new(Route { authority: authority.clone(), wire: Wire::Plain, protocol, offer: Offer::Nothing });
    let kept = match dialled {
        Some(dialled) => engine.upstream.keep_plain(&route, dialled).await,
        None => Ok(()),
    };
    let site = Site { authority, scheme: Scheme::Http, route, broken: Mutex::new(kept.err()) };
    let scope = Arc::new(Scope { engine: Arc::clone(&engine), site: Some(site), receiver: None });
    match protocol {
        Protocol::Http1 => {
            if let Some((Next::Upgrade(upgrade), stream)) = serve_http1(scope, client).await {
                websocket::relay(&engine, upgrade, stream).await;
            }
        }
        Protocol::Http2 => serve_http2(scope, client).await,
    }
}

/// A protocol that is none of ours, such as one in which the server speaks first.
async fn pass_unknown(
    engine: &Engine,
    authority: &Authority,
    dialled: Option<Stream>,
    start: Start,
    client: Stream,
) {
    if engine.lets_pass(authority, start, NotInspected::UnknownProtocol).is_err() {
        return;
    }
    let flow = engine.record_tunnel(Some(authority), start, Some(NotInspected::UnknownProtocol));
    let upstream = match dialled {
        Some(dialled) => Ok(dialled),
        None => engine.upstream.dial(authority).await,
    };
    match upstream {
        Ok(upstream) => tunnel::tunnel(engine, client, upstream, flow).await,
        Err(error) => flow.finish(Outcome::UpstreamFailed, Some(error.to_string())),
    }
}

/// Whether the name in the ClientHello is the host that `CONNECT` named. No name agrees with everything.
fn agrees(hello: &ClientHello<'_>, host: &Host) -> Result<(), String> {
    let Some(name) = hello.server_name() else { return Ok(()) };
    match host {
        Host::Domain(domain) if domain.eq_ignore_ascii_case(name.strip_suffix('.').unwrap_or(name)) => Ok(()),
        _ => Err(name.to_owned()),
    }
}

/// Says goodbye with a fatal alert, before there are any keys.
async fn close_with(mut stream: Stream, alert: u8) {
    // The client may be gone already; there is nothing more to tell it.
    if stream.write_all(&[21, 3, 3, 0, 2, 2, alert]).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}

fn describe(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "the client closed the connection during the TLS handshake".to_owned();
    }
    format!("the client refused the TLS handshake: {error}")
}

/// TLS alert `unrecognized_name`.
const UNRECOGNISED_NAME: u8 = 112;
/// TLS alert `internal_error`.
const INTERNAL_ERROR: u8 = 80;
