use std::net::IpAddr;

use crate::model::{Authority, AuthorityPattern, Host};

/// Whom the user's own proxy is not to be asked for: `NO_PROXY`.
///
/// Entries stand between commas or spaces: `*`; a name, which means what is below it, too, with or without a
/// leading `.` or `*.`; an address; a range such as `10.0.0.0/8`; a glob such as `192.168.*`. Each but a range may
/// end in a port. What cannot be read is left out, as everyone does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoProxy {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Address { address: IpAddr, port: Option<u16> },
    Everyone,
    Glob(AuthorityPattern),
    Names { suffix: Box<str>, port: Option<u16> },
    Range { network: IpAddr, bits: u8 },
}

impl NoProxy {
    /// Parses the variable's text.
    pub fn parse(text: &str) -> Self {
        let entries = text.split(|character: char| character == ',' || character.is_whitespace());
        Self { entries: entries.filter(|entry| !entry.is_empty()).filter_map(Entry::parse).collect() }
    }

    /// Whether `authority` is to be dialled directly.
    pub fn matches(&self, authority: &Authority) -> bool {
        self.entries.iter().any(|entry| entry.matches(authority))
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Everyone);
        }
        if let Some((network, bits)) = text.split_once('/') {
            let network: IpAddr = network.trim_matches(['[', ']']).parse().ok()?;
            let bits = bits.parse().ok()?;
            return (bits <= width(network)).then_some(Self::Range { network, bits });
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Address { address, port: None });
        }
        let text = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text);
        let pattern = AuthorityPattern::parse(text).ok()?;
        if text.contains('*') {
            return Some(Self::Glob(pattern));
        }
        let authority = Authority::parse(text, Some(0)).ok()?;
        Some(match authority.host() {
            Host::Domain(name) => Self::Names { suffix: name.clone(), port: pattern.port() },
            Host::Ip(address) => Self::Address { address: *address, port: pattern.port() },
        })
    }

    fn matches(&self, authority: &Authority) -> bool {
        let port_is_meant = |port: &Option<u16>| port.is_none_or(|port| port == authority.port());
        match (self, authority.host()) {
            (Self::Everyone, _) => true,
            (Self::Glob(pattern), _) => pattern.matches(authority),
            (Self::Names { suffix, port }, Host::Domain(name)) => {
                let below = name.strip_suffix(&**suffix);
                below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.')) && port_is_meant(port)
            }
            (Self::Address { address, port }, Host::Ip(host)) => {
                address.to_canonical() == host.to_canonical() && port_is_meant(port)
            }
            (Self::Range { network, bits }, Host::Ip(host)) => is_in_range(*host, *network, *bits),
            _ => false,
        }
    }
}

fn is_in_range(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let prefix = |value: u128, width: u8| value.checked_shr(u32::from(width - bits)).unwrap_or(0);
    match (address.to_canonical(), network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            prefix(address.to_bits().into(), 32) == prefix(network.to_bits().into(), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            prefix(address.to_bits(), 128) == prefix(network.to_bits(), 128)
        }
        _ => false,
    }
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(no_proxy: &str, authority: &str) -> bool {
        NoProxy::parse(no_proxy).matches(&Authority::parse(authority, None).unwrap())
    }

    #[test]
    fn a_name_means_itself_and_what_is_below_it() {
        for entry in ["example.com", ".example.com", "*.example.com", "EXAMPLE.com"] {
            assert!(matches(entry, "example.com:443"), "{entry}");
            assert!(matches(entry, "a.b.example.com:80"), "{entry}");
            assert!(!matches(entry, "notexample.com:443"), "{entry}");
            assert!(!matches(entry, "example.com.evil.example:443"), "{entry}");
        }
    }

    #[test]
    fn entries_stand_between_commas_or_spaces() {
        let no_proxy = "localhost, 10.0.0.1 a.example,,b.example\tc.example";

        for authority in ["localhost:1", "10.0.0.1:1", "a.example:1", "b.example:1", "c.example:1"] {
            assert!(matches(no_proxy, authority), "{authority}");
        }
        assert!(!matches(no_proxy, "d.example:1"));
    }

    #[test]
    fn a_star_means_everyone_and_an_empty_text_no_one() {
        assert!(matches("*", "example.com:443") && matches("a, *", "[::1]:443"));
        assert!(!matches("", "example.com:443") && !matches(" , ", "example.com:443"));
    }

    #[test]
    fn a_port_narrows() {
        assert!(matches("example.com:8080", "a.example.com:8080"));
        assert!(!matches("example.com:8080", "example.com:443"));
        assert!(matches("[::1]:80", "[::1]:80") && !matches("[::1]:80", "[::1]:81"));
        assert!(matches("10.0.0.1:80", "10.0.0.1:80") && !matches("10.0.0.1:80", "10.0.0.1:81"));
    }

    #[test]
    fn addresses_and_ranges_match_addresses() {
        assert!(matches("::1", "[::1]:443") && matches("[::1]", "[::1]:443"));
        assert!(matches("10.0.0.0/8", "10.255.1.2:443") && !matches("10.0.0.0/8", "11.0.0.1:443"));
        assert!(matches("10.1.2.3/32", "10.1.2.3:1") && !matches("10.1.2.3/32", "10.1.2.4:1"));
        assert!(matches("0.0.0.0/0", "8.8.8.8:53") && !matches("0.0.0.0/0", "[::1]:53"));
        assert!(matches("fd00::/8", "[fd12::1]:443") && !matches("fd00::/8", "[fe80::1]:443"));
        assert!(matches("::/0", "[fe80::1]:443"));
        assert!(matches("192.168.*", "192.168.3.4:443"));
        assert!(matches("10.0.0.1", "[::ffff:10.0.0.1]:443"));
        assert!(!matches("10.0.0.0/8", "a10.example:443"));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(NoProxy::parse("10.0.0.0/33 <local> a..b fd00::/129 x/y :80"), NoProxy::default());
    }
}
