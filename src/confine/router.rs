//! Where each packet of the namespace goes: back into it, answered, asked about, or nowhere. Pure: no clock, no I/O.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use crate::{
    confine::{
        dns,
        names::Names,
        packet::{FIN, ICMP, ICMP_V6, Packet, RST, TCP, TcpHeader, UDP},
        plan::AddressPlan,
    },
    model::{Authority, Host},
};

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a verdict has to be carried out"]
pub enum Verdict {
    /// The packet's sender gets this one.
    Answer(Vec<u8>),
    /// A program wants to connect. The packet is held until [`Router::admit`] or [`Router::refuse`] says what to do.
    Ask {
        /// The connection's number, which is the port that it will come from.
        connection: u16,
        /// Whom it is for.
        target: Target,
    },
    /// Nothing: it is late, broken, or the kernel's own housekeeping.
    Drop,
    /// The first so many bytes, which were changed in place, go back into the namespace.
    Forward(usize),
    /// A program tried what is not let out. The answer, if any, tells it so at once, or is ours in place of another's.
    Refused {
        /// What it tried.
        attempt: Attempt,
        /// What its sender gets.
        answer: Option<Vec<u8>>,
    },
}

/// Whom a connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A DNS server, whichever: we answer.
    Dns(SocketAddr),
    /// A host, by the name that was asked for or by its address.
    Host(Authority),
    /// An address that nobody was given.
    Nobody(SocketAddr),
}

/// Something that was not let out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// What was spoken.
    pub transport: Transport,
    /// To whom; port 0 where there are no ports.
    pub authority: Authority,
}

/// What a refused packet carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A question to a DNS server that is not the namespace's own. It was answered here.
    Dns,
    /// A piece of a packet.
    Fragment,
    /// Ping and its kin.
    Icmp,
    /// TCP that could not be taken: malformed, or too many connections.
    Tcp,
    /// UDP, QUIC among it.
    Udp,
    /// Another protocol, by its number.
    Other(u8),
}

/// Turns the TCP connections of a namespace around, and keeps count of them.
#[derive(Debug)]
pub struct Router {
    names: Names,
    listeners: Listeners,
    connections: HashMap<u16, Connection>,
    by_client: HashMap<(u16, SocketAddr), u16>,
    last: u16,
    most: usize,
}

#[derive(Debug)]
struct Listeners {
    v4: SocketAddr,
    v6: Option<SocketAddr>,
}

#[derive(Debug)]
struct Connection {
    client: SocketAddr,
    /// Whom the program believes to speak with.
    destination: SocketAddr,
    stage: Stage,
    seen_ms: u64,
}

#[derive(Debug)]
enum Stage {
    /// The first packet waits for an answer to [`Verdict::Ask`].
    Held(Vec<u8>),
    Open {
        client_ended: bool,
        listener_ended: bool,
    },
    /// Reset, or ended on both sides.
    Over,
}

impl Router {
    /// Turns connections around to listeners on these ports of the namespace's own addresses. At most `most`
    /// connections at once.
    pub fn new(port_v4: u16, port_v6: Option<u16>, most: usize) -> Self {
        let v6 = port_v6.map(|port| SocketAddr::new(AddressPlan::OWN_V6.into(), port));
        Self {
            names: Names::default(),
            listeners: Listeners { v4: SocketAddr::new(AddressPlan::OWN_V4.into(), port_v4), v6 },
            connections: HashMap::new(),
            by_client: HashMap::new(),
            last: 0,
            most: most.min(usize::from(u16::MAX)),
        }
    }

    /// Says what becomes of a packet that the namespace sent, and changes it in place if it is to go on.
    pub fn route(&mut self, bytes: &mut [u8], now_ms: u64) -> Verdict {
        let Some(mut packet) = Packet::read(bytes) else { return Verdict::Drop };
        if packet.destination().is_multicast() && matches!(packet.protocol(), ICMP | ICMP_V6 | IGMP) {
            // The kernel looks for routers and announces its groups.
            return Verdict::Drop;
        }
        if let Some(tcp) = packet.tcp() {
            return self.route_tcp(&mut packet, &tcp, now_ms);
        }
        if let Some((_, DNS_PORT, question)) = packet.udp() {
            let has_ipv6 = self.listeners.v6.is_some();
            let answer = dns::answer(question, &mut self.names, has_ipv6);
            let answer = answer.and_then(|answer| packet.udp_answer(&answer));
            let server = SocketAddr::new(packet.destination(), DNS_PORT);
            return match Attempt::to_ask(server) {
                Some(attempt) => Verdict::Refused { attempt, answer },
                None => answer.map_or(Verdict::Drop, Verdict::Answer),
            };
        }
        let answer = if packet.protocol() == UDP { packet.port_unreachable() } else { None };
        let port = packet.udp().map_or(0, |(_, port, _)| port);
        Verdict::Refused { attempt: self.attempt(&packet, port), answer }
    }

    /// Answers a question that came over TCP.
    pub fn answer_dns(&mut self, question: &[u8]) -> Option<Vec<u8>> {
        dns::answer(question, &mut self.names, self.listeners.v6.is_some())
    }

    /// Lets a held connection in: the packet to send into the namespace.
    pub fn admit(&mut self, connection: u16) -> Option<Vec<u8>> {
        let peer = self.peer_of(connection)?;
        let open = Stage::Open { client_ended: false, listener_ended: false };
        let entry = self.connections.get_mut(&connection)?;
        let Stage::Held(mut bytes) = std::mem::replace(&mut entry.stage, open) else { return None };
        let listener = self.listeners.of(peer.ip())?;
        Packet::read(&mut bytes)?.readdress(peer, listener);
        Some(bytes)
    }

    /// Sends a held connection away: the packet that says so.
    pub fn refuse(&mut self, connection: u16) -> Option<Vec<u8>> {
        let entry = self.connections.get(&connection)?;
        if !matches!(entry.stage, Stage::Held(_)) {
            return None;
        }
        let Stage::Held(mut bytes) = self.forget(connection)?.stage else { return None };
        Packet::read(&mut bytes)?.reset()
    }

    /// The number of the connection that an accepted socket's peer stands for.
    pub fn connection_of(&self, peer: SocketAddr) -> Option<u16> {
        let is_turned = self.peer_of(peer.port())? == SocketAddr::new(peer.ip().to_canonical(), peer.port());
        is_turned.then_some(peer.port())
    }

    /// Forgets connections that are over. To be called now and then.
    pub fn expire(&mut self, now_ms: u64) {
        let over = |connection: &Connection| {
            let age = now_ms.saturating_sub(connection.seen_ms);
            matches!(connection.stage, Stage::Over) && age > LINGER_MS
        };
        let numbers: Vec<u16> = self
            .connections
            .iter()
            .filter(|(_, connection)| over(connection))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            self.forget(number);
        }
    }

    /// How many connections are known, those that linger included.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    fn route_tcp(&mut self, packet: &mut Packet<'_>, tcp: &TcpHeader, now_ms: u64) -> Verdict {
        let source = SocketAddr::new(packet.source(), tcp.source_port);
        let destination = SocketAddr::new(packet.destination(), tcp.destination_port);
        if self.listeners.of(source.ip()) == Some(source) && is_peer(destination.ip()) {
            return self.return_to_client(packet, tcp, now_ms);
        }
        let known = self.by_client.get(&(source.port(), destination)).copied();
        let known =
            known.filter(|number| self.connections.get(number).is_some_and(|entry| entry.client == source));
        let Some(number) = known else {
            return self.open(packet, tcp, source, destination, now_ms);
        };
        let (Some(entry), Some(listener)) =
            (self.connections.get_mut(&number), self.listeners.of(source.ip()))
        else {
            return Verdict::Drop;
        };
        match &mut entry.stage {
            // The same packet again, while its answer is being found out.
            Stage::Held(_) => return Verdict::Drop,
            // The program has taken the same port again.
            Stage::Over if tcp.opens() => {
                self.forget(number);
                return self.open(packet, tcp, source, destination, now_ms);
            }
            Stage::Over => {}
            Stage::Open { client_ended, listener_ended } => {
                *client_ended |= tcp.has(FIN);
                if tcp.has(RST) || (*client_ended && *listener_ended) {
                    entry.stage = Stage::Over;
                }
            }
        }
        entry.seen_ms = now_ms;
        let peer = SocketAddr::new(peer_for(source.ip()), number);
        packet.readdress(peer, listener);
        Verdict::Forward(packet.bytes().len())
    }

    fn return_to_client(&mut self, packet: &mut Packet<'_>, tcp: &TcpHeader, now_ms: u64) -> Verdict {
        let Some(entry) = self.connections.get_mut(&tcp.destination_port) else {
            return packet.reset().map_or(Verdict::Drop, Verdict::Answer);
        };
        if entry.client.is_ipv4() != packet.source().is_ipv4() {
            return Verdict::Drop;
        }
        match &mut entry.stage {
            Stage::Held(_) => return Verdict::Drop,
            Stage::Over => {}
            Stage::Open { client_ended, listener_ended } => {
                *listener_ended |= tcp.has(FIN);
                if tcp.has(RST) || (*client_ended && *listener_ended) {
                    entry.stage = Stage::Over;
                }
            }
        }
        entry.seen_ms = now_ms;
        let (from, to) = (entry.destination, entry.client);
        packet.readdress(from, to);
        Verdict::Forward(packet.bytes().len())
    }

    fn open(
        &mut self,
        packet: &Packet<'_>,
        tcp: &TcpHeader,
        client: SocketAddr,
        destination: SocketAddr,
        now_ms: u64,
    ) -> Verdict {
        let is_own = Some(client.ip()) == self.listeners.of(client.ip()).map(|own| own.ip());
        if !tcp.opens() {
            return packet.reset().map_or(Verdict::Drop, Verdict::Answer);
        }
        let refused = |router: &Self| Verdict::Refused {
            attempt: router.attempt(packet, destination.port()),
            answer: packet.reset(),
        };
        // A link-local address of the device, or one that a program made up.
        if !is_own || is_peer(destination.ip()) {
            return refused(self);
        }
        // Data in a first packet (TCP Fast Open) is sent again by whoever gets no answer.
        if packet.bytes().len() > LARGEST_HELD_BYTES {
            return Verdict::Drop;
        }
        let Some(number) = self.free_number(now_ms) else { return refused(self) };
        let stage = Stage::Held(packet.bytes().to_vec());
        self.connections.insert(number, Connection { client, destination, stage, seen_ms: now_ms });
        self.by_client.insert((client.port(), destination), number);
        let target = match self.names.host(destination.ip()) {
            _ if destination.port() == DNS_PORT => Target::Dns(destination),
            Some(host) => Target::Host(Authority::new(host, destination.port())),
            None => Target::Nobody(destination),
        };
        Verdict::Ask { connection: number, target }
    }

    /// A number that no connection has; room is made by those that are over.
    fn free_number(&mut self, now_ms: u64) -> Option<u16> {
        if self.connections.len() >= self.most {
            self.expire(now_ms);
        }
        if self.connections.len() >= self.most {
            let over = self.connections.iter().filter(|(_, entry)| matches!(entry.stage, Stage::Over));
            let oldest = over.min_by_key(|(_, entry)| entry.seen_ms).map(|(number, _)| *number)?;
            self.forget(oldest);
        }
        for _ in 0..=u16::MAX {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if !self.connections.contains_key(&self.last) {
                return Some(self.last);
            }
        }
        None
    }

    fn forget(&mut self, number: u16) -> Option<Connection> {
        let entry = self.connections.remove(&number)?;
        let key = (entry.client.port(), entry.destination);
        if self.by_client.get(&key) == Some(&number) {
            self.by_client.remove(&key);
        }
        Some(entry)
    }

    /// Where the listener sees this connection come from.
    fn peer_of(&self, connection: u16) -> Option<SocketAddr> {
        let entry = self.connections.get(&connection)?;
        Some(SocketAddr::new(peer_for(entry.client.ip()), connection))
    }

    fn attempt(&self, packet: &Packet<'_>, port: u16) -> Attempt {
        let destination = packet.destination();
        let transport = match packet.protocol() {
            _ if packet.is_fragment() => Transport::Fragment,
            ICMP | ICMP_V6 => Transport::Icmp,
            TCP => Transport::Tcp,
            UDP => Transport::Udp,
            other => Transport::Other(other),
        };
        let host = self.names.host(destination).unwrap_or(Host::Ip(destination));
        Attempt { transport, authority: Authority::new(host, port) }
    }
}

impl Attempt {
    /// The attempt that a question to a DNS server is, if it is not the one that the program was given.
    pub fn to_ask(server: SocketAddr) -> Option<Self> {
        let own = server.ip().to_canonical() == AddressPlan::DNS;
        let authority = Authority::new(Host::Ip(server.ip()), server.port());
        (!own).then_some(Self { transport: Transport::Dns, authority })
    }
}

impl Listeners {
    fn of(&self, own: IpAddr) -> Option<SocketAddr> {
        match own {
            IpAddr::V4(_) => Some(self.v4),
            IpAddr::V6(_) => self.v6,
        }
    }
}

fn is_peer(address: IpAddr) -> bool {
    address == AddressPlan::PEER_V4 || address == AddressPlan::PEER_V6
}

fn peer_for(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => AddressPlan::PEER_V4.into(),
        IpAddr::V6(_) => AddressPlan::PEER_V6.into(),
    }
}

const DNS_PORT: u16 = 53;
const IGMP: u8 = 2;
/// A first packet with every option has 100 bytes.
const LARGEST_HELD_BYTES: usize = 256;
/// How long the last packets of a connection may take. Both ends are the same kernel; a lost one is sent again after
/// 200 ms, twice that the next time.
const LINGER_MS: u64 = 10_000;

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
