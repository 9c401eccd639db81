use std::{fmt, net::IpAddr, str::FromStr};

use crate::model::{Authority, Host, path::matches_name};

/// A glob for hosts, with or without a port: `*.sentry.io`, `collector.internal:4318`, `[::1]:4317`.
///
/// `*` is any run of characters, dots included: `*.sentry.io` matches every name below `sentry.io`, and not
/// `sentry.io` itself. A lone `*` matches addresses of either version too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AuthorityPattern {
    host: HostPattern,
    /// `None` matches any port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum HostPattern {
    Any,
    Exactly(Host),
    /// Lower case, holds a `*`; for names and dotted addresses.
    Glob(Box<str>),
}

/// What a certificate authority must be allowed to sign so that a pattern can be intercepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternReach<'a> {
    /// This one address.
    Address(IpAddr),
    /// This name and everything below it, as a dNSName constraint means it. May be wider than the pattern.
    Names(&'a str),
    /// No name bounds it.
    Unbounded,
}

impl AuthorityPattern {
    /// Parses `HOST[:PORT]`, where the host may hold `*` and the port may be `*`.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, AuthorityPatternError> {
        let error = |why| AuthorityPatternError { text: text.escape_debug().to_string(), why };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']').ok_or_else(|| error("`[` without `]`"))?;
                let address = address.parse().map_err(|_| error("no IPv6 address in the brackets"))?;
                let port = match after {
                    "" => None,
                    after => Some(after.strip_prefix(':').ok_or_else(|| error("text after `]`"))?),
                };
                (HostPattern::Exactly(Host::Ip(IpAddr::V6(address))), port)
            }
            None => {
                let (host, port) = match text.split_once(':') {
                    Some((_, port)) if port.contains(':') => {
                        return Err(error("an IPv6 address wants brackets"));
                    }
                    Some((host, port)) => (host, Some(port)),
                    None => (text, None),
                };
                (HostPattern::parse(host).ok_or_else(|| error("the host is no name, address or glob"))?, port)
            }
        };
        let port = match port {
            None | Some("*") => None,
            Some(port) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(port.parse().map_err(|_| error("the port is no number up to 65535"))?)
            }
            Some(_) => return Err(error("the port is no number up to 65535")),
        };
        Ok(Self { host, port })
    }

    /// The pattern that matches `authority` alone.
    pub fn exactly(authority: &Authority) -> Self {
        Self { host: HostPattern::Exactly(authority.host().clone()), port: Some(authority.port()) }
    }

    /// Whether `authority` is meant.
    pub fn matches(&self, authority: &Authority) -> bool {
        self.port.is_none_or(|port| port == authority.port()) && self.matches_host(authority.host())
    }

    /// Whether `host` is meant, on whatever port.
    pub fn matches_host(&self, host: &Host) -> bool {
        match (&self.host, host) {
            (HostPattern::Any, _) => true,
            (HostPattern::Exactly(wanted), host) => wanted == host,
            (HostPattern::Glob(glob), Host::Domain(name)) => matches_name(glob.as_bytes(), name.as_bytes()),
            (HostPattern::Glob(glob), Host::Ip(IpAddr::V4(address))) => {
                matches_name(glob.as_bytes(), address.to_string().as_bytes())
            }
            (HostPattern::Glob(_), Host::Ip(IpAddr::V6(_))) => false,
        }
    }

    /// The port, if only one is meant.
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// What must be signed for so that all that matches can be intercepted.
    pub fn reach(&self) -> PatternReach<'_> {
        match &self.host {
            HostPattern::Any => PatternReach::Unbounded,
            HostPattern::Exactly(Host::Domain(name)) => PatternReach::Names(name),
            HostPattern::Exactly(Host::Ip(address)) => PatternReach::Address(*address),
            HostPattern::Glob(glob) => {
                let after_star = glob.rsplit('*').next().unwrap_or_default();
                match after_star.split_once('.') {
                    Some((_, suffix)) if !suffix.is_empty() => PatternReach::Names(suffix),
                    _ => PatternReach::Unbounded,
                }
            }
        }
    }
}

impl HostPattern {
    fn parse(text: &str) -> Option<Self> {
        if !text.is_empty() && text.bytes().all(|byte| byte == b'*') {
            return Some(Self::Any);
        }
        if !text.contains('*') {
            return Authority::parse(text, Some(0))
                .ok()
                .map(|authority| Self::Exactly(authority.host().clone()));
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        let label_is_fine = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'*' | b'-' | b'_'))
        };
        text.split('.').all(label_is_fine).then(|| Self::Glob(text.to_ascii_lowercase().into()))
    }
}

impl FromStr for AuthorityPattern {
    type Err = AuthorityPatternError;

    fn from_str(text: &str) -> Result<Self, AuthorityPatternError> {
        Self::parse(text)
    }
}

impl fmt::Display for AuthorityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostPattern::Any => f.write_str("*")?,
            HostPattern::Exactly(Host::Ip(IpAddr::V6(address))) => write!(f, "[{address}]")?,
            HostPattern::Exactly(host) => host.fmt(f)?,
            HostPattern::Glob(glob) => f.write_str(glob)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Text that is no pattern for authorities.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no HOST[:PORT] pattern: {why}")]
pub struct AuthorityPatternError {
    text: String,
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, authority: &str) -> bool {
        let authority = Authority::parse(authority, None).unwrap();
        AuthorityPattern::parse(pattern).unwrap().matches(&authority)
    }

    #[test]
    fn a_star_crosses_dots_but_the_name_itself_is_not_below_itself() {
        assert!(matches("*.sentry.io", "o1.ingest.us.sentry.io:443"));
        assert!(!matches("*.sentry.io", "sentry.io:443"));
        assert!(!matches("*.sentry.io", "evilsentry.io:443"));
        assert!(!matches("*.sentry.io", "a.sentry.io.evil.example:443"));
        assert!(matches("http-intake.logs.*.datadoghq.com", "http-intake.logs.us5.datadoghq.com:443"));
    }

    #[test]
    fn a_port_narrows_and_no_port_does_not() {
        assert!(matches("Collector.internal:4318", "collector.INTERNAL:4318"));
        assert!(!matches("collector.internal:4318", "collector.internal:4317"));
        assert!(matches("collector.internal", "collector.internal:4317"));
        assert!(matches("collector.internal:*", "collector.internal:4317"));
    }

    #[test]
    fn addresses_match_as_addresses() {
        assert!(matches("[2001:DB8:0::1]:443", "[2001:db8::1]:443"));
        assert!(matches("10.0.*:4318", "10.0.0.7:4318"));
        assert!(!matches("f*", "[fe80::1]:443"));
        assert!(matches("*", "[fe80::1]:443"));
    }

    #[test]
    fn the_reach_is_the_fixed_end_of_the_name() {
        let reach = |text: &str| format!("{:?}", AuthorityPattern::parse(text).unwrap().reach());

        assert_eq!(reach("api.example.com:443"), r#"Names("api.example.com")"#);
        assert_eq!(reach("*.sentry.io"), r#"Names("sentry.io")"#);
        assert_eq!(reach("http-intake.logs.*.datadoghq.com"), r#"Names("datadoghq.com")"#);
        assert_eq!(reach("browser-*-datadoghq.com"), r#"Names("com")"#);
        assert_eq!(reach("127.0.0.1"), "Address(127.0.0.1)");
        assert_eq!(reach("10.*"), "Unbounded");
        assert_eq!(reach("*:443"), "Unbounded");
    }

    #[test]
    fn a_pattern_is_written_as_it_was_read() {
        for text in ["*", "*:443", "*.sentry.io", "[::1]:4317", "127.0.0.1", "collector:4318"] {
            assert_eq!(AuthorityPattern::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        for text in [
            "",
            ":443",
            "a..b",
            "*..b",
            "a b",
            "::1",
            "[::1",
            "[::1]x",
            "[*]:1",
            "a:",
            "a:+1",
            "a:65536",
            "https://a",
        ] {
            assert!(AuthorityPattern::parse(text).is_err(), "{text}");
        }
    }
}
