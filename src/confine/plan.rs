//! Which addresses mean what inside the namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which addresses mean what inside the namespace. Both ranges are reserved and reach nobody outside: RFC 2544 keeps
/// 198.18.0.0/15 for benchmarks, and a unique local address is nobody's but ours.
#[derive(Clone, Copy, Debug)]
pub struct AddressPlan;

impl AddressPlan {
    /// Who answers DNS, in the namespace's `resolv.conf`. Any other server's address is answered for as well.
    pub const DNS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
    /// The namespace's own address.
    pub const OWN_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
    /// The namespace's own address.
    pub const OWN_V6: Ipv6Addr = Ipv6Addr::new(PREFIX[0], PREFIX[1], PREFIX[2], PREFIX[3], 0, 0, 0, 2);
    /// Whom turned-around connections come from.
    pub const PEER_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 3);
    /// Whom turned-around connections come from.
    pub const PEER_V6: Ipv6Addr = Ipv6Addr::new(PREFIX[0], PREFIX[1], PREFIX[2], PREFIX[3], 0, 0, 0, 3);

    /// The addresses of the `slot`-th name.
    pub(super) fn of_slot(slot: u32) -> (Ipv4Addr, Ipv6Addr) {
        let [.., high, low] = [(slot >> 16) as u16, slot as u16];
        let v4 = Ipv4Addr::from_bits(FIRST_NAME_V4.to_bits() + slot);
        (v4, Ipv6Addr::new(PREFIX[0], PREFIX[1], PREFIX[2], PREFIX[3], 0, 1, high, low))
    }

    /// The slot whose address this is, whether or not it was handed out.
    pub(super) fn slot_of(address: IpAddr) -> Option<u32> {
        match address {
            IpAddr::V4(v4) => v4.to_bits().checked_sub(FIRST_NAME_V4.to_bits()).filter(|_| is_ours_v4(v4)),
            IpAddr::V6(v6) => match v6.segments() {
                [a, b, c, d, 0, 1, high, low] if [a, b, c, d] == PREFIX => {
                    Some((u32::from(high) << 16) | u32::from(low))
                }
                _ => None,
            },
        }
    }

    /// Whether an address is one of the plan's, which no host outside has.
    pub fn contains(address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => is_ours_v4(v4),
            IpAddr::V6(v6) => v6.segments()[..4] == PREFIX,
        }
    }
}

const fn is_ours_v4(address: Ipv4Addr) -> bool {
    address.octets()[0] == 198 && address.octets()[1] & 0xfe == 18
}

/// `fd` and the letters `plains`, as good as random.
const PREFIX: [u16; 4] = [0xfd70, 0x6c61, 0x696e, 0x7300];
/// The addresses before it are the plan's own.
const FIRST_NAME_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 0);
/// Largest packet that the TUN device carries. Large, because each costs two system calls whatever it holds; loopback
/// has the same order.
pub const LARGEST_PACKET_BYTES: usize = 65_520;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leads_back_to_its_slot() {
        for slot in [0, 1, 255, 256, 65_535, 100_000] {
            let (v4, v6) = AddressPlan::of_slot(slot);

            assert_eq!(AddressPlan::slot_of(v4.into()), Some(slot));
            assert_eq!(AddressPlan::slot_of(v6.into()), Some(slot));
            assert!(AddressPlan::contains(v4.into()) && AddressPlan::contains(v6.into()));
        }
    }

    #[test]
    fn other_addresses_have_no_slot() {
        for text in ["198.18.0.1", "198.20.0.0", "8.8.8.8", "fd70:6c61:696e:7300::2", "2001:db8::1"] {
            assert_eq!(AddressPlan::slot_of(text.parse().unwrap()), None, "{text}");
        }
        assert!(!AddressPlan::contains("198.20.0.1".parse().unwrap()));
    }
}
