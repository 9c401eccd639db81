//! Reads `/proc/net/tcp` and its kin.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A line of such a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) remote: SocketAddr,
    pub(super) inode: u64,
}

/// The sockets in a table; lines that are none are passed over.
pub(super) fn sockets(table: &[u8]) -> impl Iterator<Item = Socket> + '_ {
    table.split(|byte| *byte == b'\n').filter_map(|line| read(std::str::from_utf8(line).ok()?))
}

fn read(line: &str) -> Option<Socket> {
    // Number, own end, other end, state, queues, timer, retransmissions, user, timeout, inode.
    let mut words = line.split_ascii_whitespace();
    let remote = read_end(words.nth(2)?)?;
    let inode = words.nth(6)?.parse().ok()?;
    Some(Socket { remote, inode })
}

/// `0100007F:1F90`: the address in words as the machine keeps them, the port as a number.
fn read_end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let address: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut octets = [0; 16];
            for (number, chunk) in octets.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(number * 8)?);
            }
            Ipv6Addr::from(octets).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_both_families_are_read() {
        let table = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0200120A:C350 077100CB:01BB 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0\n\
            \x20  1: 00000000000000000000000001000000:0016 B80D0120000000000000000001000000:0050 02 00000000:00000000 00:00000000 00000000     0        0 4712 1\n\
            torn";

        let found: Vec<Socket> = sockets(table).collect();

        assert_eq!(
            found,
            [
                Socket { remote: "203.0.113.7:443".parse().unwrap(), inode: 4711 },
                Socket { remote: "[2001:db8::1]:80".parse().unwrap(), inode: 4712 },
            ]
        );
    }

    #[test]
    fn what_is_no_line_is_passed_over() {
        for line in
            ["", "0: 1 2 3", "0: 00:1 ZZZZZZZZ:1 01 0 0 0 0 0 7", "0: x 0100007F:FFFFF 01 0 0 0 0 0 7"]
        {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
