use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The host part of an authority: a lower-case domain name or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name, lower case, without a trailing dot.
    Domain(Box<str>),
    /// An address literal.
    Ip(IpAddr),
}

/// Shows the host as it stands in a certificate: no brackets around IPv6.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// A host and a port: whom a connection is for.
///
/// ```
/// # use plainsight::model::Authority;
/// let authority = Authority::parse("[::1]:4317", None)?;
/// assert_eq!(authority.to_string(), "[::1]:4317");
/// # Ok::<(), plainsight::model::AuthorityError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority {
    host: Host,
    port: u16,
}

impl Authority {
    /// Puts host and port together.
    pub const fn new(host: Host, port: u16) -> Self {
        Self { host, port }
    }

    /// Parses `host:port`, `host` (if there is a default port), `1.2.3.4:80` or `[::1]:443`.
    ///
    /// # Errors
    /// Says what is wrong with the text: user information, a bad port, a name that is no name.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, AuthorityError> {
        let error = |why| AuthorityError { text: text.escape_debug().to_string(), why };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']').ok_or_else(|| error("`[` without `]`"))?;
                let address: Ipv6Addr =
                    address.parse().map_err(|_| error("no IPv6 address in the brackets"))?;
                let port = match after {
                    "" => None,
                    after => Some(after.strip_prefix(':').ok_or_else(|| error("text after `]`"))?),
                };
                (Host::Ip(IpAddr::V6(address)), port)
            }
            None => {
                let (host, port) = match text.split_once(':') {
                    Some((_, port)) if port.contains(':') => {
                        return Err(error("an IPv6 address wants brackets"));
                    }
                    Some((host, port)) => (host, Some(port)),
                    None => (text, None),
                };
                (parse_host(host).ok_or_else(|| error("the host is neither a name nor an address"))?, port)
            }
        };
        let port = match port {
            None | Some("") => default_port.ok_or_else(|| error("the port is missing"))?,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().map_err(|_| error("the port is no number up to 65535"))?
            }
            Some(_) => return Err(error("the port is no number up to 65535")),
        };
        Ok(Self { host, port })
    }

    /// The host.
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(address)) => f.pad(&format!("[{address}]:{}", self.port)),
            host => f.pad(&format!("{host}:{}", self.port)),
        }
    }
}

fn parse_host(text: &str) -> Option<Host> {
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(Host::Ip(IpAddr::V4(address)));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let label_is_fine = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let fine = name.len() <= 253 && name.split('.').all(label_is_fine);
    fine.then(|| Host::Domain(name.to_ascii_lowercase().into()))
}

/// Text that is no authority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no host and port: {why}")]
pub struct AuthorityError {
    text: String,
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_and_lose_the_root_dot() {
        let authority = Authority::parse("API.Anthropic.COM.:443", None).unwrap();

        assert_eq!(authority.to_string(), "api.anthropic.com:443");
    }

    #[test]
    fn addresses_are_addresses() {
        let v4 = Authority::parse("127.0.0.1:80", None).unwrap();
        let v6 = Authority::parse("[2001:db8::1]", Some(443)).unwrap();

        assert!(matches!(v4.host(), Host::Ip(IpAddr::V4(_))));
        assert_eq!(v6.to_string(), "[2001:db8::1]:443");
        assert_eq!(v6.host().to_string(), "2001:db8::1");
    }

    #[test]
    fn bad_authorities_are_refused() {
        for text in [
            "",
            ":443",
            "a b:1",
            "::1:443",
            "user@host:1",
            "host:",
            "host:65536",
            "host:+1",
            "[::1",
            "[::1]x",
            "a..b:1",
        ] {
            assert!(Authority::parse(text, None).is_err(), "{text}");
        }
    }
}
