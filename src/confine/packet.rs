//! One IP packet: what it says, other addresses for it, and answers to it. Every byte comes from a program that may
//! want to harm; nothing here panics or trusts a length.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A packet whose headers have been read.
#[derive(Debug)]
pub(super) struct Packet<'p> {
    bytes: &'p mut [u8],
    source: IpAddr,
    destination: IpAddr,
    /// Where the transport's header begins.
    transport_at: usize,
    protocol: u8,
    /// A piece of a larger packet.
    is_fragment: bool,
}

impl<'p> Packet<'p> {
    /// Reads the headers. `None` for what is no IP packet.
    pub(super) fn read(bytes: &'p mut [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::read_v4(bytes),
            6 => Self::read_v6(bytes),
            _ => None,
        }
    }

    fn read_v4(bytes: &'p mut [u8]) -> Option<Self> {
        let header = bytes.first_chunk::<V4_HEADER_BYTES>()?;
        let header_bytes = usize::from(header[0] & 0xf) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        let protocol = header[9];
        let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
        let destination = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
        if header_bytes < V4_HEADER_BYTES || total < header_bytes {
            return None;
        }
        let bytes = bytes.get_mut(..total)?;
        let (source, destination) = (source.into(), destination.into());
        Some(Self { bytes, source, destination, transport_at: header_bytes, protocol, is_fragment })
    }

    fn read_v6(bytes: &'p mut [u8]) -> Option<Self> {
        let header = bytes.first_chunk::<V6_HEADER_BYTES>()?;
        let total = V6_HEADER_BYTES + usize::from(u16::from_be_bytes([header[4], header[5]]));
        let mut protocol = header[6];
        let source = Ipv6Addr::from(*header[8..].first_chunk::<16>()?);
        let destination = Ipv6Addr::from(*header[24..].first_chunk::<16>()?);
        let bytes = bytes.get_mut(..total)?;
        let mut at = V6_HEADER_BYTES;
        // Options for hops and for the destination change nothing for us. Any other header is left as the protocol.
        while matches!(protocol, HOP_OPTIONS | DESTINATION_OPTIONS) {
            let [next, length] = *bytes.get(at..)?.first_chunk::<2>()?;
            at += (usize::from(length) + 1) * 8;
            protocol = next;
        }
        let is_fragment = protocol == V6_FRAGMENT;
        bytes.get(at..)?;
        let (source, destination) = (source.into(), destination.into());
        Some(Self { bytes, source, destination, transport_at: at, protocol, is_fragment })
    }

    pub(super) const fn source(&self) -> IpAddr {
        self.source
    }

    pub(super) const fn destination(&self) -> IpAddr {
        self.destination
    }

    pub(super) const fn protocol(&self) -> u8 {
        self.protocol
    }

    pub(super) const fn is_fragment(&self) -> bool {
        self.is_fragment
    }

    /// The whole packet.
    pub(super) const fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// What follows the IP headers.
    pub(super) fn transport(&self) -> &[u8] {
        &self.bytes[self.transport_at..]
    }

    /// The header of a whole TCP segment.
    pub(super) fn tcp(&self) -> Option<TcpHeader> {
        if self.protocol != TCP || self.is_fragment {
            return None;
        }
        let segment = self.transport();
        let header = segment.first_chunk::<TCP_HEADER_BYTES>()?;
        let header_bytes = usize::from(header[12] >> 4) * 4;
        if header_bytes < TCP_HEADER_BYTES || header_bytes > segment.len() {
            return None;
        }
        Some(TcpHeader {
            source_port: u16::from_be_bytes([header[0], header[1]]),
            destination_port: u16::from_be_bytes([header[2], header[3]]),
            sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            acknowledgement: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
            flags: header[13],
            payload_bytes: (segment.len() - header_bytes) as u32,
        })
    }

    /// The ports and the payload of a whole UDP datagram.
    pub(super) fn udp(&self) -> Option<(u16, u16, &[u8])> {
        if self.protocol != UDP || self.is_fragment {
            return None;
        }
        let header = self.transport().first_chunk::<UDP_HEADER_BYTES>()?;
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let payload = self.transport().get(UDP_HEADER_BYTES..length)?;
        Some((
            u16::from_be_bytes([header[0], header[1]]),
            u16::from_be_bytes([header[2], header[3]]),
            payload,
        ))
    }

    /// Gives a TCP segment other ends, and corrects its checksums. Both ends must be of the packet's own family.
    pub(super) fn readdress(&mut self, source: SocketAddr, destination: SocketAddr) {
        let before = self.ends_sum();
        match (source.ip(), destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) if self.source.is_ipv4() => {
                let addresses_before = sum(&self.bytes[12..20]);
                self.bytes[12..16].copy_from_slice(&from.octets());
                self.bytes[16..20].copy_from_slice(&to.octets());
                let addresses_after = sum(&self.bytes[12..20]);
                adjust(&mut self.bytes[10..12], addresses_before, addresses_after);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) if self.source.is_ipv6() => {
                self.bytes[8..24].copy_from_slice(&from.octets());
                self.bytes[24..40].copy_from_slice(&to.octets());
            }
            _ => return,
        }
        self.source = source.ip();
        self.destination = destination.ip();
        let segment = &mut self.bytes[self.transport_at..];
        if segment.len() >= TCP_HEADER_BYTES {
            segment[..2].copy_from_slice(&source.port().to_be_bytes());
            segment[2..4].copy_from_slice(&destination.port().to_be_bytes());
            let after = self.ends_sum();
            adjust(&mut self.bytes[self.transport_at + 16..self.transport_at + 18], before, after);
        }
    }

    /// What addresses and ports add to a transport's checksum.
    fn ends_sum(&self) -> u32 {
        let addresses = if self.source.is_ipv4() { &self.bytes[12..20] } else { &self.bytes[8..40] };
        let ports = &self.transport()[..self.transport().len().min(4)];
        sum(addresses) + sum(ports)
    }

    /// A datagram back to where this one came from.
    pub(super) fn udp_answer(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let (source_port, destination_port, _) = self.udp()?;
        let length = u16::try_from(UDP_HEADER_BYTES + payload.len()).ok()?;
        let mut datagram = Vec::with_capacity(usize::from(length));
        datagram.extend_from_slice(&destination_port.to_be_bytes());
        datagram.extend_from_slice(&source_port.to_be_bytes());
        datagram.extend_from_slice(&length.to_be_bytes());
        datagram.extend_from_slice(&[0, 0]);
        datagram.extend_from_slice(payload);
        self.answer(UDP, datagram, 6)
    }

    /// A reset, as a host sends it that knows nothing of the connection. None for a reset.
    pub(super) fn reset(&self) -> Option<Vec<u8>> {
        let tcp = self.tcp()?;
        if tcp.has(RST) {
            return None;
        }
        let occupied = tcp.payload_bytes + u32::from(tcp.has(SYN)) + u32::from(tcp.has(FIN));
        let (sequence, acknowledgement, flags) = if tcp.has(ACK) {
            (tcp.acknowledgement, 0, RST)
        } else {
            (0, tcp.sequence.wrapping_add(occupied), RST | ACK)
        };
        let mut segment = Vec::with_capacity(TCP_HEADER_BYTES);
        segment.extend_from_slice(&tcp.destination_port.to_be_bytes());
        segment.extend_from_slice(&tcp.source_port.to_be_bytes());
        segment.extend_from_slice(&sequence.to_be_bytes());
        segment.extend_from_slice(&acknowledgement.to_be_bytes());
        segment.extend_from_slice(&[(TCP_HEADER_BYTES as u8 / 4) << 4, flags, 0, 0, 0, 0, 0, 0]);
        self.answer(TCP, segment, 16)
    }

    /// An ICMP message that says: nobody listens on that port. The program's `send` or `recv` then fails at once.
    pub(super) fn port_unreachable(&self) -> Option<Vec<u8>> {
        let (protocol, kind, code, most) = match self.source {
            IpAddr::V4(_) => (ICMP, 3, 3, QUOTED_V4_BYTES),
            IpAddr::V6(_) => (ICMP_V6, 1, 4, QUOTED_V6_BYTES),
        };
        let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
        message.extend_from_slice(&self.bytes[..self.bytes.len().min(most)]);
        self.answer(protocol, message, 2)
    }

    /// A packet back to the sender. `checksum_at` is where the transport's checksum stands.
    fn answer(&self, protocol: u8, mut transport: Vec<u8>, checksum_at: usize) -> Option<Vec<u8>> {
        let (from, to) = (self.destination, self.source);
        let length = u16::try_from(transport.len()).ok()?;
        let pseudo = match (from, to) {
            // ICMP for IPv4 alone has no pseudo-header.
            (IpAddr::V4(_), IpAddr::V4(_)) if protocol == ICMP => 0,
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                sum(&from.octets()) + sum(&to.octets()) + u32::from(protocol) + u32::from(length)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                sum(&from.octets()) + sum(&to.octets()) + u32::from(protocol) + u32::from(length)
            }
            _ => return None,
        };
        let mut checksum = !fold(pseudo + sum(&transport));
        if checksum == 0 && protocol == UDP {
            // Zero would mean that there is none.
            checksum = 0xffff;
        }
        transport.get_mut(checksum_at..checksum_at + 2)?.copy_from_slice(&checksum.to_be_bytes());
        let mut bytes = Vec::with_capacity(V6_HEADER_BYTES + transport.len());
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let total = length.checked_add(V4_HEADER_BYTES as u16)?;
                bytes.extend_from_slice(&[0x45, 0]);
                bytes.extend_from_slice(&total.to_be_bytes());
                bytes.extend_from_slice(&[0, 0, 0x40, 0, HOPS, protocol, 0, 0]);
                bytes.extend_from_slice(&from.octets());
                bytes.extend_from_slice(&to.octets());
                let checksum = !fold(sum(&bytes));
                bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                bytes.extend_from_slice(&[0x60, 0, 0, 0]);
                bytes.extend_from_slice(&length.to_be_bytes());
                bytes.extend_from_slice(&[protocol, HOPS]);
                bytes.extend_from_slice(&from.octets());
                bytes.extend_from_slice(&to.octets());
            }
            _ => return None,
        }
        bytes.append(&mut transport);
        Some(bytes)
    }
}

/// What a TCP segment says.
#[derive(Clone, Copy, Debug)]
pub(super) struct TcpHeader {
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    payload_bytes: u32,
}

impl TcpHeader {
    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether it asks for a new connection.
    pub(super) const fn opens(&self) -> bool {
        self.has(SYN) && !self.has(ACK) && !self.has(RST)
    }
}

/// The one's complement sum of RFC 1071, not yet folded. Even a packet of 64 KiB does not overflow it.
pub(super) fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |byte| u32::from(*byte) << 8);
    words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum::<u32>() + last
}

pub(super) fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Corrects a checksum over bytes whose sum was `before` and is `after` (RFC 1624, equation 3).
fn adjust(checksum: &mut [u8], before: u32, after: u32) {
    let old = u16::from_be_bytes([checksum[0], checksum[1]]);
    let new = !fold(u32::from(!old) + u32::from(!fold(before)) + u32::from(fold(after)));
    checksum.copy_from_slice(&new.to_be_bytes());
}

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMP_V6: u8 = 58;
const HOP_OPTIONS: u8 = 0;
const V6_FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;

const V4_HEADER_BYTES: usize = 20;
const V6_HEADER_BYTES: usize = 40;
const TCP_HEADER_BYTES: usize = 20;
const UDP_HEADER_BYTES: usize = 8;
const HOPS: u8 = 64;
/// As much of a packet as fits into an answer of 576 bytes (RFC 1812, 4.3.2.3).
const QUOTED_V4_BYTES: usize = 576 - 20 - 8;
/// As much as fits into 1280 bytes (RFC 4443, 3.1).
const QUOTED_V6_BYTES: usize = 1280 - 40 - 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::testing::{checksums_are_right, datagram, segment};

    #[test]
    fn a_readdressed_segment_keeps_right_checksums() {
        for (from, to, new_from, new_to) in [
            ("198.18.0.2:40000", "203.0.113.7:443", "198.18.0.3:1", "198.18.0.2:5000"),
            ("[fd70::2]:40000", "[2001:db8::1]:443", "[fd70::3]:1", "[fd70::2]:5000"),
        ] {
            let mut bytes = segment(from.parse().unwrap(), to.parse().unwrap(), SYN, b"payload");
            assert!(checksums_are_right(&bytes), "the check sees a right packet");

            Packet::read(&mut bytes).unwrap().readdress(new_from.parse().unwrap(), new_to.parse().unwrap());

            assert!(checksums_are_right(&bytes));
            let packet = Packet::read(&mut bytes).unwrap();
            let tcp = packet.tcp().unwrap();
            assert_eq!(SocketAddr::new(packet.source(), tcp.source_port), new_from.parse().unwrap());
            assert_eq!(SocketAddr::new(packet.destination(), tcp.destination_port), new_to.parse().unwrap());
            bytes[30] ^= 1;
            assert!(!checksums_are_right(&bytes), "the check sees a wrong packet");
        }
    }

    #[test]
    fn answers_have_right_checksums_and_go_back() {
        for (from, to) in [("198.18.0.2:40000", "203.0.113.7:443"), ("[fd70::2]:40000", "[2001:db8::1]:443")]
        {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let mut udp = datagram(from, to, &[7; 1301]);
            let udp = Packet::read(&mut udp).unwrap();
            let mut tcp = segment(from, to, SYN, b"");
            let tcp = Packet::read(&mut tcp).unwrap();

            let answers =
                [udp.udp_answer(b"answer").unwrap(), udp.port_unreachable().unwrap(), tcp.reset().unwrap()];

            for mut answer in answers {
                assert!(checksums_are_right(&answer));
                let packet = Packet::read(&mut answer).unwrap();
                assert_eq!((packet.source(), packet.destination()), (to.ip(), from.ip()));
            }
        }
    }

    #[test]
    fn cut_packets_are_no_packets() {
        let from = "[fd70::2]:1".parse().unwrap();
        for whole in [
            segment(from, "[2001:db8::1]:443".parse().unwrap(), SYN, b"x"),
            datagram("198.18.0.2:1".parse().unwrap(), "8.8.8.8:53".parse().unwrap(), b"x"),
        ] {
            for end in 0..whole.len() {
                assert!(Packet::read(&mut whole[..end].to_vec()).is_none(), "{end}");
            }
            assert!(Packet::read(&mut whole.clone()).is_some());
        }
    }

    #[test]
    fn a_reset_is_never_answered() {
        let mut bytes = segment("198.18.0.2:1".parse().unwrap(), "8.8.8.8:1".parse().unwrap(), RST, b"");

        assert_eq!(Packet::read(&mut bytes).unwrap().reset(), None);
    }
}
