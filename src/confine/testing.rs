//! Packets and questions for tests.

use std::net::{IpAddr, SocketAddr};

use crate::confine::packet::{TCP, UDP, fold, sum};

/// A DNS question of `kind` about `name`.
pub(super) fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = vec![0xbe, 0xef, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes
}

/// A TCP segment with sequence number 1000 and right checksums.
pub(super) fn segment(from: SocketAddr, to: SocketAddr, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut transport = Vec::new();
    transport.extend_from_slice(&from.port().to_be_bytes());
    transport.extend_from_slice(&to.port().to_be_bytes());
    transport.extend_from_slice(&1000_u32.to_be_bytes());
    transport.extend_from_slice(&[0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    transport.extend_from_slice(payload);
    packet(from.ip(), to.ip(), TCP, transport, 16)
}

/// A UDP datagram with right checksums.
pub(super) fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut transport = Vec::new();
    transport.extend_from_slice(&from.port().to_be_bytes());
    transport.extend_from_slice(&to.port().to_be_bytes());
    transport.extend_from_slice(&(8 + payload.len() as u16).to_be_bytes());
    transport.extend_from_slice(&[0, 0]);
    transport.extend_from_slice(payload);
    packet(from.ip(), to.ip(), UDP, transport, 6)
}

/// An IP packet around a transport whose checksum stands at `checksum_at`.
pub(super) fn packet(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    mut transport: Vec<u8>,
    checksum_at: usize,
) -> Vec<u8> {
    let checksum = !fold(pseudo(from, to, protocol, transport.len()) + sum(&transport));
    transport[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
    let mut bytes = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            bytes.extend_from_slice(&[0x45, 0]);
            bytes.extend_from_slice(&(20 + transport.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
            bytes.extend_from_slice(&from.octets());
            bytes.extend_from_slice(&to.octets());
            let checksum = !fold(sum(&bytes));
            bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            bytes.extend_from_slice(&[0x60, 0, 0, 0]);
            bytes.extend_from_slice(&(transport.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&[protocol, 64]);
            bytes.extend_from_slice(&from.octets());
            bytes.extend_from_slice(&to.octets());
        }
        _ => unreachable!("both ends are of one family"),
    }
    bytes.extend_from_slice(&transport);
    bytes
}

/// Whether a packet without options has right checksums.
pub(super) fn checksums_are_right(bytes: &[u8]) -> bool {
    let (header, from, to, protocol): (usize, IpAddr, IpAddr, u8) = if bytes[0] >> 4 == 4 {
        let address = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap().into();
        (20, address(12), address(16), bytes[9])
    } else {
        let address = |at: usize| <[u8; 16]>::try_from(&bytes[at..at + 16]).unwrap().into();
        (40, address(8), address(24), bytes[6])
    };
    let transport = &bytes[header..];
    let pseudo = if protocol == 1 { 0 } else { pseudo(from, to, protocol, transport.len()) };
    let header_is_right = header == 40 || fold(sum(&bytes[..20])) == 0xffff;
    header_is_right && fold(pseudo + sum(transport)) == 0xffff
}

fn pseudo(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> u32 {
    let sum_of = |address| match address {
        IpAddr::V4(address) => sum(&std::net::Ipv4Addr::octets(&address)),
        IpAddr::V6(address) => sum(&std::net::Ipv6Addr::octets(&address)),
    };
    sum_of(from) + sum_of(to) + u32::from(protocol) + length as u32
}
