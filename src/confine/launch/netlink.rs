//! Switches devices on and gives them addresses and routes, by rtnetlink messages that are put together here: six of
//! them, and no other program (`ip`) has to be there.

use std::{io, net::IpAddr, os::fd::OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send, socket_with,
};

/// A socket to the routing part of the kernel, in the network namespace of whoever opened it.
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The number of a device.
    pub(super) fn index(&self, device: &str) -> io::Result<u32> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        Ok(netdevice::name_to_index(&socket, device)?)
    }

    /// Switches a device on, with another largest packet if there is one.
    pub(super) fn switch_on(&mut self, index: u32, largest_packet: Option<u32>) -> io::Result<()> {
        let mut body = vec![0; 4];
        body.extend_from_slice(&index.to_ne_bytes());
        body.extend_from_slice(&IFF_UP.to_ne_bytes());
        body.extend_from_slice(&IFF_UP.to_ne_bytes());
        if let Some(bytes) = largest_packet {
            push_attribute(&mut body, IFLA_MTU, &bytes.to_ne_bytes());
        }
        self.ask(RTM_NEWLINK, 0, &body)
    }

    /// Gives a device an address, of which it is the only one in its network.
    pub(super) fn add_address(&mut self, index: u32, address: IpAddr) -> io::Result<()> {
        let (family, bits, bytes) = parts(address);
        let mut body = vec![family, bits, IFA_F_NODAD, RT_SCOPE_UNIVERSE];
        body.extend_from_slice(&index.to_ne_bytes());
        push_attribute(&mut body, IFA_LOCAL, &bytes);
        push_attribute(&mut body, IFA_ADDRESS, &bytes);
        self.ask(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body)
    }

    /// Sends everything of the address's family to a device, from that address.
    pub(super) fn route_all(&mut self, index: u32, from: IpAddr) -> io::Result<()> {
        let (family, _, bytes) = parts(from);
        let mut body =
            vec![family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0, 0, 0, 0];
        push_attribute(&mut body, RTA_OIF, &index.to_ne_bytes());
        push_attribute(&mut body, RTA_PREFSRC, &bytes);
        self.ask(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &body)
    }

    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let length = u32::try_from(HEADER_BYTES + body.len()).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(length as usize);
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(body);
        send(&self.socket, &message, SendFlags::empty())?;
        let mut answer = [0; 4096];
        let (count, _) = recv(&self.socket, &mut answer, RecvFlags::empty())?;
        // The answer's header, and then the error's number: zero is yes.
        let number =
            answer[..count].get(HEADER_BYTES..HEADER_BYTES + 4).and_then(|bytes| bytes.first_chunk::<4>());
        match number.map(|bytes| i32::from_ne_bytes(*bytes)) {
            Some(0) => Ok(()),
            Some(number) => Err(io::Error::from_raw_os_error(-number)),
            None => Err(io::Error::other("the kernel's answer is too short")),
        }
    }
}

fn parts(address: IpAddr) -> (u8, u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (AF_INET, 32, address.octets().to_vec()),
        IpAddr::V6(address) => (AF_INET6, 128, address.octets().to_vec()),
    }
}

/// Attributes here have four bytes or sixteen, so that they need no filling up.
fn push_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
}

// As <linux/netlink.h> and <linux/rtnetlink.h> have them.
const HEADER_BYTES: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFF_UP: u32 = 1;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
const RTA_OIF: u16 = 4;
const RTA_PREFSRC: u16 = 7;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
