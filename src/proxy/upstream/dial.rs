//! Opens TCP connections: names, several addresses, addresses that are not dialled, and a proxy on the way.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::HeaderValue;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    model::{Authority, ConnectTo, Host},
    proxy::{
        config::{ProxyConfig, UpstreamProxy},
        error::UpstreamError,
        io::{Prefixed, Stream},
    },
};

/// Opens TCP connections.
pub(crate) struct Dialer {
    connect_to: Vec<ConnectTo>,
    proxy: Option<UpstreamProxy>,
    proxy_authorisation: Option<HeaderValue>,
    forbidden: Vec<SocketAddr>,
    time: Duration,
}

impl Dialer {
    pub(crate) fn new(
        config: &ProxyConfig,
        own: SocketAddr,
        proxy_authorisation: Option<HeaderValue>,
    ) -> Self {
        let mut forbidden = config.forbidden.clone();
        forbidden.push(own);
        Self {
            connect_to: config.connect_to.clone(),
            proxy: config.upstream_proxy.clone(),
            proxy_authorisation,
            forbidden,
            time: config.limits.connect_time,
        }
    }

    /// The upstream proxy, if `authority` is reached through one.
    pub(crate) fn proxy_for(&self, authority: &Authority) -> Option<&UpstreamProxy> {
        super::applies(self.proxy.as_ref(), authority)
    }

    /// Opens a connection whose bytes reach `authority`.
    pub(crate) async fn tunnel(&self, authority: &Authority, named: bool) -> Result<Stream, UpstreamError> {
        let redirected = self.connect_to.iter().find_map(|rule| rule.apply(authority));
        let named = named || redirected.is_some();
        let target = redirected.as_ref().unwrap_or(authority);
        let dialling = async {
            let Some(proxy) = self.proxy_for(authority) else {
                return Ok(Prefixed::new(Bytes::new(), self.direct(target, named).await?));
            };
            if let Host::Ip(address) = target.host() {
                self.check(target, SocketAddr::new(*address, target.port()), named)?;
            }
            // Whoever configured the proxy named it.
            let stream = self.direct(&proxy.authority, true).await?;
            self.ask(proxy, target, stream).await
        };
        timeout(self.time, dialling).await.unwrap_or_else(|_| Err(UpstreamError::Timeout(authority.clone())))
    }

    /// Opens a connection to the proxy itself, for whole URLs.
    pub(crate) async fn proxy(&self, authority: &Authority) -> Result<Stream, UpstreamError> {
        let Some(proxy) = self.proxy_for(authority) else { return self.tunnel(authority, false).await };
        let stream = timeout(self.time, self.direct(&proxy.authority, true))
            .await
            .map_err(|_| UpstreamError::Timeout(proxy.authority.clone()))??;
        Ok(Prefixed::new(Bytes::new(), stream))
    }

    async fn direct(&self, authority: &Authority, named: bool) -> Result<TcpStream, UpstreamError> {
        let port = authority.port();
        let addresses: Vec<SocketAddr> = match authority.host() {
            Host::Ip(address) => vec![SocketAddr::new(*address, port)],
            Host::Domain(name) => lookup_host((&**name, port))
                .await
                .map_err(|error| UpstreamError::Resolve(authority.clone(), Arc::new(error)))?
                .collect(),
        };
        for address in &addresses {
            self.check(authority, *address, named)?;
        }
        let stream = connect_any(interleave(addresses))
            .await
            .map_err(|error| UpstreamError::Connect(authority.clone(), Arc::new(error)))?;
        prepare(&stream);
        Ok(stream)
    }

    /// Refuses to dial ourselves, and link-local addresses that nobody named.
    fn check(&self, authority: &Authority, address: SocketAddr, named: bool) -> Result<(), UpstreamError> {
        let forbidden = |why| Err(UpstreamError::Forbidden(authority.clone(), address, why));
        if self.forbidden.iter().any(|own| is_same(*own, address)) {
            return forbidden("that is plainsight itself");
        }
        if !named && is_link_local(address.ip().to_canonical()) {
            return forbidden("link-local addresses serve cloud credentials");
        }
        Ok(())
    }

    /// Asks the upstream proxy for a tunnel. Reads byte by byte, so as not to take what belongs to the tunnel.
    async fn ask(
        &self,
        proxy: &UpstreamProxy,
        target: &Authority,
        mut stream: TcpStream,
    ) -> Result<Stream, UpstreamError> {
        let broken = |error| UpstreamError::Connect(proxy.authority.clone(), Arc::new(error));
        let refused = |why: String| UpstreamError::Proxy(proxy.authority.clone(), why);
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
        if let Some(value) = &self.proxy_authorisation {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(value.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await.map_err(broken)?;
        let mut answer = Vec::with_capacity(256);
        loop {
            let mut bytes = [0; 512];
            let count = stream.read(&mut bytes).await.map_err(broken)?;
            if count == 0 {
                return Err(refused("it closed the connection".to_owned()));
            }
            answer.extend_from_slice(&bytes[..count]);
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut headers);
            match response.parse(&answer) {
                Ok(httparse::Status::Complete(end)) => {
                    return match response.code {
                        Some(200..=299) => Ok(Prefixed::new(Bytes::copy_from_slice(&answer[end..]), stream)),
                        code => Err(refused(format!("status {}", code.unwrap_or(0)))),
                    };
                }
                Ok(httparse::Status::Partial) if answer.len() < LARGEST_ANSWER_BYTES => {}
                _ => return Err(refused("it does not answer as a proxy".to_owned())),
            }
        }
    }
}

/// What every socket of ours has: no delay, and a probe now and then while it is quiet.
pub(crate) fn prepare(stream: &TcpStream) {
    // Failing means that the socket is gone, which the next read says better.
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Tries one address after the other, the next one a moment later or as soon as one fails; the first to connect wins.
async fn connect_any(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    if let [address] = addresses[..] {
        return TcpStream::connect(address).await;
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut attempts = JoinSet::new();
    let mut waiting = addresses.into_iter();
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(TcpStream::connect(address));
        } else if attempts.is_empty() {
            return Err(last);
        }
        let more = waiting.len() > 0;
        tokio::select! {
            Some(attempt) = attempts.join_next() => match attempt {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(error) => last = io::Error::other(error),
            },
            () = sleep(HEAD_START), if more => {}
        }
    }
}

/// Puts IPv4 and IPv6 in turn, beginning with what the system prefers.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv6) else { return addresses };
    let (preferred, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let mut mixed = Vec::new();
    loop {
        match (preferred.next(), other.next()) {
            (None, None) => return mixed,
            (one, two) => mixed.extend(one.into_iter().chain(two)),
        }
    }
}

/// Whether dialling `address` reaches the listener at `own`.
fn is_same(own: SocketAddr, address: SocketAddr) -> bool {
    let (own_ip, ip) = (own.ip().to_canonical(), address.ip().to_canonical());
    let is_here = ip.is_loopback() || ip.is_unspecified();
    // Unspecified on either side means this machine; its other addresses are not known here, so any would do.
    own.port() == address.port()
        && (own_ip == ip || own_ip.is_unspecified() || (ip.is_unspecified() && own_ip.is_loopback()) || {
            own_ip.is_loopback() && is_here && own_ip.is_ipv4() == ip.is_ipv4()
        })
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address == AWS_METADATA,
    }
}

/// Where Amazon's machines serve credentials over IPv6.
const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// Before the next address is tried beside the first; RFC 8305 says 250 ms.
const HEAD_START: Duration = Duration::from_millis(250);
/// Quiet streams last for minutes; a dead peer should be noticed all the same.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// A proxy's answer to CONNECT, error page included, as far as it is read.
const LARGEST_ANSWER_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    // PITFALLS 19
    #[test]
    fn our_own_listener_is_known_by_any_of_its_names() {
        let own = address("127.0.0.1:8788");

        for text in
            ["127.0.0.1:8788", "0.0.0.0:8788", "[::ffff:127.0.0.1]:8788", "[::]:8788", "127.0.0.2:8788"]
        {
            assert!(is_same(own, address(text)), "{text}");
        }
        assert!(is_same(address("0.0.0.0:8788"), address("192.0.2.7:8788")));
        for text in ["127.0.0.1:8789", "192.0.2.7:8788"] {
            assert!(!is_same(own, address(text)), "{text}");
        }
    }

    // PITFALLS 30
    #[test]
    fn metadata_addresses_are_link_local() {
        for text in ["169.254.169.254", "fe80::1", "fd00:ec2::254"] {
            assert!(is_link_local(text.parse().unwrap()), "{text}");
        }
        for text in ["10.0.0.1", "fd00::1", "127.0.0.1"] {
            assert!(!is_link_local(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn families_take_turns() {
        let mixed = interleave(["[::1]:1", "[::2]:1", "1.1.1.1:1"].map(address).to_vec());

        assert_eq!(mixed, ["[::1]:1", "1.1.1.1:1", "[::2]:1"].map(address));
    }
}
