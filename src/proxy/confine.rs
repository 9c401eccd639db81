//! Serves a confined program: every connection that leaves its namespace is dialled, intercepted and recorded as if
//! `CONNECT` had asked for it. Packets are [`Router`]'s business; this is where its verdicts are carried out.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustls::server::Acceptor;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, unix::AsyncFd},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    confine::{Attempt, Devices, LARGEST_PACKET_BYTES, Router, Target, Transport, Verdict},
    model::{Authority, FlowKind, Host, NotInspected, Outcome},
    proxy::{
        client,
        connect::record_undialled,
        engine::Engine,
        flow::{Flow, Start},
        intercept,
        io::{Prefixed, Stream},
        listener::Entrance,
        tunnel,
        upstream::prepare,
    },
};

/// A confined program's way out. Dropped, it is none any more.
pub struct Confinement {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Confinement {
    /// Serves what leaves a namespace.
    ///
    /// # Errors
    /// The sockets cannot be used.
    pub fn start(devices: Devices, entrance: Entrance) -> io::Result<Self> {
        let Devices { tun, proxy, turned_v4, turned_v6, loopback } = devices;
        let port_v6 = turned_v6.as_ref().map(|listener| listener.local_addr().map(|address| address.port()));
        let port_v4 = turned_v4.local_addr()?.port();
        let most = entrance.engine.limits.connections;
        #[expect(deprecated, reason = "its replacement is unsafe; an owned descriptor stays the same one")]
        let tun = AsyncFd::new(tun)?;
        let shared = Arc::new(Shared {
            router: Mutex::new(Router::new(port_v4, port_v6.transpose()?, most)),
            tun,
            entrance,
            permits: Arc::new(Semaphore::new(most)),
            waiting: Mutex::default(),
            attempts: Mutex::default(),
            began: Instant::now(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(pump(Arc::clone(&shared)));
        tasks.spawn(tidy(Arc::clone(&shared)));
        for listener in [Some(turned_v4), turned_v6].into_iter().flatten() {
            tasks.spawn(accept(listen(listener)?, Arc::clone(&shared), turned));
        }
        tasks.spawn(accept(listen(proxy)?, Arc::clone(&shared), |shared, stream, _, permit| {
            let engine = Arc::clone(&shared.entrance.engine);
            shared.serve(permit, client::serve(engine, stream));
        }));
        for (port, listener) in loopback {
            let own = listener.local_addr()?;
            tasks.spawn(accept(listen(listener)?, Arc::clone(&shared), move |shared, stream, _, permit| {
                let engine = Arc::clone(&shared.entrance.engine);
                let there = SocketAddr::new(own.ip(), port);
                shared.serve(permit, async move { pass_to_loopback(&engine, stream, there).await });
            }));
        }
        Ok(Self { shared, tasks })
    }

    /// Ends it, and closes the records of what was kept in. To be called when the proxy has drained.
    pub async fn finish(mut self) {
        self.tasks.shutdown().await;
        lock(&self.shared.attempts).close(|_| true);
        self.shared.abandon(Duration::ZERO);
    }
}

struct Shared {
    router: Mutex<Router>,
    tun: AsyncFd<OwnedFd>,
    entrance: Entrance,
    /// One for each connection that is served; more wait in the listen queue.
    permits: Arc<Semaphore>,
    /// What was dialled for connections that are about to be accepted.
    waiting: Mutex<HashMap<u16, Waiting>>,
    attempts: Mutex<Attempts>,
    began: Instant,
}

struct Waiting {
    since: Instant,
    what: Ready,
}

enum Ready {
    Dns,
    Intercept {
        authority: Authority,
        dialled: Option<Stream>,
        start: Start,
    },
    Tunnel {
        authority: Authority,
        upstream: Stream,
        start: Start,
    },
    /// An address; the program has yet to say whom it means. `bytes` were those of its first packet.
    Unnamed {
        authority: Authority,
        bytes: usize,
    },
}

impl Shared {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether a program has to name whom it means before anything goes out.
    fn must_name(&self, authority: &Authority) -> bool {
        self.entrance.engine.keeps_in(authority)
    }

    fn carry_out(self: &Arc<Self>, packet: &mut [u8]) {
        let verdict = lock(&self.router).route(packet, self.now_ms());
        match verdict {
            Verdict::Answer(bytes) => self.send(&bytes),
            Verdict::Ask { connection, target: Target::Host(authority) } if self.must_name(&authority) => {
                // Not even a first packet gets out to an address of which nobody said whose it is.
                self.admit(connection, Ready::Unnamed { authority, bytes: packet.len() });
            }
            Verdict::Ask { connection, target: Target::Host(authority) } => {
                self.entrance.serve(ask(Arc::clone(self), connection, authority));
            }
            Verdict::Ask { connection, target: Target::Dns(server) } => {
                if let Some(attempt) = Attempt::to_ask(server) {
                    self.note(attempt, packet.len());
                }
                self.admit(connection, Ready::Dns);
            }
            Verdict::Ask { connection, target: Target::Nobody(address) } => {
                let authority = Authority::new(Host::Ip(address.ip()), address.port());
                self.note(Attempt { transport: Transport::Tcp, authority }, packet.len());
                self.refuse(connection);
            }
            Verdict::Drop => {}
            Verdict::Forward(length) => self.send(&packet[..length.min(packet.len())]),
            Verdict::Refused { attempt, answer } => {
                self.note(attempt, packet.len());
                if let Some(answer) = answer {
                    self.send(&answer);
                }
            }
        }
    }

    /// A packet that cannot be sent is lost, as packets are; TCP sends it again.
    fn send(&self, packet: &[u8]) {
        if let Err(error) = rustix::io::write(&self.tun, packet) {
            debug!(%error, "a packet was lost");
        }
    }

    fn admit(&self, connection: u16, what: Ready) {
        lock(&self.waiting).insert(connection, Waiting { since: Instant::now(), what });
        let packet = lock(&self.router).admit(connection);
        if let Some(packet) = packet {
            self.send(&packet);
        }
    }

    fn refuse(&self, connection: u16) {
        let packet = lock(&self.router).refuse(connection);
        if let Some(packet) = packet {
            self.send(&packet);
        }
    }

    /// Serves a connection to its end.
    fn serve(&self, permit: OwnedSemaphorePermit, job: impl Future<Output = ()> + Send + 'static) {
        self.entrance.serve(async move {
            job.await;
            drop(permit);
        });
    }

    /// Gives up what was dialled for a program that went away meanwhile. It reached out, so it is a record.
    fn abandon(&self, patience: Duration) {
        let engine = &self.entrance.engine;
        let mut waiting = lock(&self.waiting);
        for (_, given_up) in waiting.extract_if(|_, waiting| waiting.since.elapsed() >= patience) {
            match given_up.what {
                Ready::Tunnel { authority, start, .. } => {
                    let error = "the program went away before it was connected".to_owned();
                    let reason = Some(NotInspected::NotIntercepted);
                    engine.record_failure(Some(&authority), start, reason, Outcome::ClientGone, error);
                }
                Ready::Unnamed { authority, bytes } => {
                    self.note(Attempt { transport: Transport::Tcp, authority }, bytes);
                }
                Ready::Dns | Ready::Intercept { .. } => {}
            }
        }
    }

    fn note(&self, attempt: Attempt, bytes: usize) {
        lock(&self.attempts).note(attempt, bytes, &self.entrance.engine);
    }
}

/// Takes packets from the namespace, one by one.
async fn pump(shared: Arc<Shared>) {
    let mut buffer = vec![0; LARGEST_PACKET_BYTES];
    loop {
        let Ok(mut ready) = shared.tun.readable().await else { return };
        for _ in 0..PACKETS_AT_ONCE {
            match ready.try_io(|tun| Ok(rustix::io::read(tun.get_ref(), &mut buffer)?)) {
                Ok(Ok(count)) => shared.carry_out(&mut buffer[..count]),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => {
                    warn!(%error, "the namespace's device is gone");
                    return;
                }
                Err(_would_block) => break,
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Forgets what is over.
async fn tidy(shared: Arc<Shared>) {
    let mut ticks = interval(TIDY_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        lock(&shared.router).expire(shared.now_ms());
        shared.abandon(PATIENCE);
        lock(&shared.attempts).close(|kept| kept.last.elapsed() > QUIET_TIME);
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    serve: impl Fn(&Arc<Shared>, TcpStream, SocketAddr, OwnedSemaphorePermit),
) {
    loop {
        let Ok(permit) = Arc::clone(&shared.permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                prepare(&stream);
                serve(&shared, stream, peer, permit);
            }
            Err(error) => {
                warn!(%error, "cannot accept a confined connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Dials for a connection that is held; it is let in if that works, and reset if not.
async fn ask(shared: Arc<Shared>, connection: u16, authority: Authority) {
    let engine = Arc::clone(&shared.entrance.engine);
    let start = Start::now();
    let intercepts = engine.services.inspection.intercepts(&authority);
    if intercepts && engine.upstream.has_live(&authority) {
        return shared.admit(connection, Ready::Intercept { authority, dialled: None, start });
    }
    if !intercepts && engine.lets_pass(&authority, start, NotInspected::NotIntercepted).is_err() {
        return shared.refuse(connection);
    }
    match engine.upstream.dial(&authority).await {
        Ok(dialled) if intercepts => {
            shared.admit(connection, Ready::Intercept { authority, dialled: Some(dialled), start });
        }
        Ok(upstream) => shared.admit(connection, Ready::Tunnel { authority, upstream, start }),
        Err(error) => {
            record_undialled(&engine, &authority, start, &error);
            shared.refuse(connection);
        }
    }
}

/// A connection that was turned around has arrived.
fn turned(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
    let connection = lock(&shared.router).connection_of(peer);
    // A program may also dial the listener itself: that is nobody's connection.
    let Some(waiting) = connection.and_then(|number| lock(&shared.waiting).remove(&number)) else { return };
    let engine = Arc::clone(&shared.entrance.engine);
    let whole = |stream| Prefixed::new(Bytes::new(), stream);
    match waiting.what {
        Ready::Dns => shared.serve(permit, answer_dns(Arc::clone(shared), stream)),
        Ready::Intercept { authority, dialled, start } => {
            shared.serve(permit, intercept::intercept(engine, authority, dialled, start, whole(stream)));
        }
        Ready::Tunnel { authority, upstream, start } => shared.serve(permit, async move {
            if let Some(named) = intercepted_name(&engine, &authority, &stream).await {
                debug!(%authority, %named, "an address literal is spoken to by name");
                drop(upstream);
                return intercept::intercept(engine, named, None, start, whole(stream)).await;
            }
            let flow = engine.record_tunnel(Some(&authority), start, Some(NotInspected::NotIntercepted));
            tunnel::tunnel(&engine, stream, upstream, flow).await;
        }),
        Ready::Unnamed { authority, bytes } => {
            let noted = Arc::clone(shared);
            shared.serve(permit, async move {
                let start = Start::now();
                let named = tokio::select! {
                    named = timeout(NAMING_TIME, peek_name(&stream, authority.port())) => named.ok().flatten(),
                    () = engine.stopped() => None,
                };
                match named {
                    Some(named) => by_name(engine, &authority, named, start, stream).await,
                    None => {
                        noted.note(Attempt { transport: Transport::Tcp, authority }, bytes);
                        // Cut off with a reset, as from a machine on which nobody listens.
                        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                    }
                }
            });
        }
    }
}

/// Serves a connection to an address as one to the host that it names: whoever has the address is not asked.
async fn by_name(
    engine: Arc<Engine>,
    address: &Authority,
    named: Authority,
    start: Start,
    stream: TcpStream,
) {
    debug!(%address, %named, "an address literal is spoken to by name");
    let intercepts = engine.services.inspection.intercepts(&named);
    if intercepts {
        return intercept::intercept(engine, named, None, start, Prefixed::new(Bytes::new(), stream)).await;
    }
    if engine.lets_pass(&named, start, NotInspected::NotIntercepted).is_err() {
        return;
    }
    match engine.upstream.dial(&named).await {
        Ok(upstream) => {
            let flow = engine.record_tunnel(Some(&named), start, Some(NotInspected::NotIntercepted));
            tunnel::tunnel(&engine, stream, upstream, flow).await;
        }
        Err(error) => record_undialled(&engine, &named, start, &error),
    }
}

/// The host that is really meant, when a program dials an address (found by DNS over HTTPS, or built in) and then names
/// a host in TLS that is intercepted.
async fn intercepted_name(engine: &Engine, authority: &Authority, stream: &TcpStream) -> Option<Authority> {
    let Host::Ip(_) = authority.host() else { return None };
    let named = timeout(HELLO_TIME, peek_name(stream, authority.port())).await.ok().flatten()?;
    engine.services.inspection.intercepts(&named).then_some(named)
}

/// The host that the first bytes name, in a ClientHello or in a `Host`; `None` if they name none, or an address. They
/// are left in the socket for whoever reads it.
async fn peek_name(stream: &TcpStream, port: u16) -> Option<Authority> {
    let mut bytes = vec![0; LARGEST_HELLO_BYTES];
    loop {
        let count = stream.peek(&mut bytes).await.ok()?;
        match named(&bytes[..count]) {
            Naming::Host(text) => {
                let named = Authority::parse(&text, Some(port)).ok()?;
                // Whoever names another port there means the one that it dialled.
                let named = Authority::new(named.host().clone(), port);
                return matches!(named.host(), Host::Domain(_)).then_some(named);
            }
            Naming::Unfinished if count > 0 && count < bytes.len() => sleep(PEEK_PAUSE).await,
            Naming::Nobody | Naming::Unfinished => return None,
        }
    }
}

/// Whom first bytes name.
#[derive(Debug, PartialEq, Eq)]
enum Naming {
    Host(String),
    Nobody,
    Unfinished,
}

fn named(bytes: &[u8]) -> Naming {
    if bytes.first().is_some_and(|first| *first != TLS_HANDSHAKE) {
        return named_in_http(bytes);
    }
    let mut acceptor = Acceptor::default();
    if acceptor.read_tls(&mut &*bytes).is_err() {
        return Naming::Nobody;
    }
    match acceptor.accept() {
        Ok(Some(accepted)) => match accepted.client_hello().server_name() {
            Some(name) => Naming::Host(name.to_owned()),
            None => Naming::Nobody,
        },
        Ok(None) => Naming::Unfinished,
        Err(_) => Naming::Nobody,
    }
}

fn named_in_http(bytes: &[u8]) -> Naming {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {
            let hosts = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
            let mut hosts = hosts.filter_map(|header| str::from_utf8(header.value).ok());
            match (hosts.next(), hosts.next()) {
                (Some(host), None) => Naming::Host(host.trim().to_owned()),
                _ => Naming::Nobody,
            }
        }
        Ok(httparse::Status::Partial) => Naming::Unfinished,
        Err(_) => Naming::Nobody,
    }
}

/// DNS over TCP: messages behind their lengths.
async fn answer_dns(shared: Arc<Shared>, mut stream: TcpStream) {
    let conversation = async {
        loop {
            let length = usize::from(stream.read_u16().await?);
            let mut question = vec![0; length];
            stream.read_exact(&mut question).await?;
            let Some(answer) = lock(&shared.router).answer_dns(&question) else { return Ok(()) };
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            let message = [&length.to_be_bytes()[..], &answer].concat();
            stream.write_all(&message).await?;
        }
    };
    // A resolver that goes away, or stays silent, is done.
    let _: Result<io::Result<()>, _> = timeout(DNS_TIME, conversation).await;
}

/// A loopback port of the machine that the user opened to the program.
async fn pass_to_loopback(engine: &Engine, stream: TcpStream, there: SocketAddr) {
    let start = Start::now();
    let authority = Authority::new(Host::Ip(there.ip()), there.port());
    match TcpStream::connect(there).await {
        Ok(upstream) => {
            prepare(&upstream);
            let flow = engine.record_tunnel(Some(&authority), start, Some(NotInspected::NotIntercepted));
            tunnel::tunnel(engine, stream, upstream, flow).await;
        }
        Err(error) => {
            engine.record_failure(Some(&authority), start, None, Outcome::UpstreamFailed, error.to_string());
        }
    }
}

/// What was kept in: one record for each destination, until it has been quiet for a while.
#[derive(Default)]
struct Attempts {
    kept: HashMap<Attempt, Kept>,
    /// Those for which there was no room.
    others: Option<Kept>,
}

struct Kept {
    flow: Flow,
    spoken: String,
    packets: u64,
    bytes: u64,
    last: Instant,
}

impl Attempts {
    fn note(&mut self, attempt: Attempt, bytes: usize, engine: &Engine) {
        let has_room = self.kept.len() < MOST_ATTEMPTS || self.kept.contains_key(&attempt);
        let kept = if has_room {
            self.kept
                .entry(attempt.clone())
                .or_insert_with(|| Kept::new(&attempt, Some(&attempt.authority), engine))
        } else {
            self.others.get_or_insert_with(|| Kept::new(&attempt, None, engine))
        };
        kept.packets += 1;
        kept.bytes += bytes as u64;
        kept.last = Instant::now();
    }

    fn close(&mut self, is_over: impl Fn(&Kept) -> bool) {
        self.kept.extract_if(|_, kept| is_over(kept)).for_each(|(_, kept)| kept.close());
        if let Some(others) = self.others.take_if(|kept| is_over(kept)) {
            others.close();
        }
    }
}

impl Kept {
    fn new(attempt: &Attempt, authority: Option<&Authority>, engine: &Engine) -> Self {
        let start = Start::now();
        let id = engine.services.audit.next_id();
        let mut opening = engine.services.inspection.tunnel(id, authority, start.time_ms, None);
        let spoken = match attempt.transport {
            Transport::Dns => "DNS".to_owned(),
            Transport::Fragment => "FRAGMENT".to_owned(),
            Transport::Icmp => "ICMP".to_owned(),
            Transport::Other(number) => format!("IP-{number}"),
            Transport::Tcp => "TCP".to_owned(),
            Transport::Udp => "UDP".to_owned(),
        };
        opening.kind = FlowKind::Attempt;
        opening.method = spoken.as_str().into();
        Self { flow: engine.record(opening, start), spoken, packets: 0, bytes: 0, last: Instant::now() }
    }

    fn close(self) {
        let Self { flow, spoken, packets, bytes, .. } = self;
        let packets = if packets == 1 { "1 packet".to_owned() } else { format!("{packets} packets") };
        let what = if spoken == "DNS" { "was answered here and not let out" } else { "was not let out" };
        flow.finish(Outcome::Refused, Some(format!("confined: {spoken} {what} ({packets}, {bytes} bytes)")));
    }
}

fn listen(listener: StdListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Packets taken before other tasks have their turn.
const PACKETS_AT_ONCE: usize = 64;
const TIDY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a dialled connection waits for the program's own, which arrives within a millisecond.
const PATIENCE: Duration = Duration::from_secs(15);
/// After so long another attempt is another record. QUIC clients try again within two seconds.
const QUIET_TIME: Duration = Duration::from_secs(5);
/// Destinations whose attempts are told apart at one time.
const MOST_ATTEMPTS: usize = 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a program that dialled an address may stay silent before it is taken for one that waits for the server.
/// Every TLS client speaks at once; those that wait (SSH, SMTP) lose this time.
const HELLO_TIME: Duration = Duration::from_millis(300);
/// How long a program that dialled an address may take to name a host. Those that do speak at once; on a loaded machine
/// at once is a while.
const NAMING_TIME: Duration = Duration::from_secs(5);
const PEEK_PAUSE: Duration = Duration::from_millis(2);
/// A ClientHello with a post-quantum key share is about 1,700 bytes; the largest possible record has 16 KiB.
const LARGEST_HELLO_BYTES: usize = 16 * 1024 + 5;
/// First byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 22;
/// What a browser sends has two dozen.
const MOST_HEADERS: usize = 100;
/// A conversation with a DNS server over TCP, as a whole.
const DNS_TIME: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_by_a_client_hello_or_by_a_host_field() {
        let mut hello = Vec::new();
        let config =
            rustls::ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into());
        let config = config
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = "api.example".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        client.write_tls(&mut hello).unwrap();

        assert_eq!(named(&hello), Naming::Host("api.example".to_owned()));
        assert_eq!(named(&hello[..hello.len() / 2]), Naming::Unfinished);
        assert_eq!(
            named(b"GET / HTTP/1.1\r\nHost: api.example:80\r\n\r\n"),
            Naming::Host("api.example:80".to_owned())
        );
    }

    #[test]
    fn what_names_nobody_is_known_by_its_first_bytes() {
        assert_eq!(named(b"SSH-2.0-OpenSSH_9.6\r\n"), Naming::Nobody);
        assert_eq!(named(b"evader tcp4\n"), Naming::Nobody);
        assert_eq!(named(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), Naming::Nobody);
        assert_eq!(named(b"GET / HTTP/1.1\r\nHo"), Naming::Unfinished);
    }
}
