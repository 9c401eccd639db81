use std::{fmt, str::FromStr};

use crate::model::{Authority, Host};

/// Dials another place than the one that is named, as curl's `--connect-to` does.
///
/// Only the address that is dialled changes: TLS, `Host` and the record keep the name.
///
/// ```
/// # use plainsight::model::{Authority, ConnectTo};
/// let rule = ConnectTo::parse("api.example.com:443:127.0.0.1:8443")?;
/// let dialled = rule.apply(&Authority::parse("api.example.com:443", None)?);
/// assert_eq!(dialled, Some(Authority::parse("127.0.0.1:8443", None)?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectTo {
    /// `None` matches any.
    from_host: Option<Host>,
    from_port: Option<u16>,
    /// `None` keeps what was asked for.
    to_host: Option<Host>,
    to_port: Option<u16>,
}

impl ConnectTo {
    /// Parses `HOST1:PORT1:HOST2:PORT2`: an empty first half matches any, an empty second half keeps what was
    /// asked for. IPv6 addresses stand in brackets.
    ///
    /// # Errors
    /// Says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, ConnectToError> {
        let error = |why| ConnectToError { text: text.escape_debug().to_string(), why };
        let parts = split_outside_brackets(text);
        let [from_host, from_port, to_host, to_port] = parts.as_slice() else {
            return Err(error("it wants four parts, HOST1:PORT1:HOST2:PORT2"));
        };
        let host = |part: &str, why| match part {
            "" => Ok(None),
            part => match Authority::parse(part, Some(0)) {
                Ok(authority) => Ok(Some(authority.host().clone())),
                Err(_) => Err(error(why)),
            },
        };
        let port = |part: &str, why| match part {
            "" => Ok(None),
            part if part.bytes().all(|byte| byte.is_ascii_digit()) => match part.parse::<u16>() {
                Ok(0) | Err(_) => Err(error(why)),
                Ok(port) => Ok(Some(port)),
            },
            _ => Err(error(why)),
        };
        Ok(Self {
            from_host: host(from_host, "HOST1 is neither a name nor an address")?,
            from_port: port(from_port, "PORT1 is no port")?,
            to_host: host(to_host, "HOST2 is neither a name nor an address")?,
            to_port: port(to_port, "PORT2 is no port")?,
        })
    }

    /// Where to dial instead; `None` when this rule is not about `authority`.
    pub fn apply(&self, authority: &Authority) -> Option<Authority> {
        if self.from_host.as_ref().is_some_and(|host| host != authority.host())
            || self.from_port.is_some_and(|port| port != authority.port())
        {
            return None;
        }
        let host = self.to_host.clone().unwrap_or_else(|| authority.host().clone());
        Some(Authority::new(host, self.to_port.unwrap_or(authority.port())))
    }
}

impl FromStr for ConnectTo {
    type Err = ConnectToError;

    fn from_str(text: &str) -> Result<Self, ConnectToError> {
        Self::parse(text)
    }
}

impl fmt::Display for ConnectTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |host: &Option<Host>| match host {
            Some(Host::Ip(std::net::IpAddr::V6(address))) => format!("[{address}]"),
            Some(host) => host.to_string(),
            None => String::new(),
        };
        let port = |port: Option<u16>| port.map(|port| port.to_string()).unwrap_or_default();
        let (from, to) = (host(&self.from_host), host(&self.to_host));
        write!(f, "{from}:{}:{to}:{}", port(self.from_port), port(self.to_port))
    }
}

fn split_outside_brackets(text: &str) -> Vec<&str> {
    let mut in_brackets = false;
    let outside_colon = |character: char| {
        match character {
            '[' => in_brackets = true,
            ']' => in_brackets = false,
            _ => {}
        }
        character == ':' && !in_brackets
    };
    text.split(outside_colon).collect()
}

/// Text that is no rule for dialling.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` does not say where to connect to: {why}")]
pub struct ConnectToError {
    text: String,
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(rule: &str, authority: &str) -> Option<String> {
        let authority = Authority::parse(authority, None).unwrap();
        ConnectTo::parse(rule).unwrap().apply(&authority).map(|authority| authority.to_string())
    }

    #[test]
    fn a_rule_moves_the_authority_that_it_names_and_no_other() {
        let rule = "API.example.com:443:127.0.0.1:8443";

        assert_eq!(apply(rule, "api.example.com:443").as_deref(), Some("127.0.0.1:8443"));
        assert_eq!(apply(rule, "api.example.com:80"), None);
        assert_eq!(apply(rule, "example.com:443"), None);
    }

    #[test]
    fn empty_parts_match_any_and_keep_what_was_asked_for() {
        assert_eq!(apply("::127.0.0.1:8443", "a.example:443").as_deref(), Some("127.0.0.1:8443"));
        assert_eq!(apply(":443::8443", "a.example:443").as_deref(), Some("a.example:8443"));
        assert_eq!(apply(":443::8443", "a.example:80"), None);
        assert_eq!(apply("a.example:::", "a.example:80").as_deref(), Some("a.example:80"));
        assert_eq!(apply("a.example::b.example:", "a.example:80").as_deref(), Some("b.example:80"));
    }

    #[test]
    fn addresses_of_version_six_stand_in_brackets() {
        assert_eq!(apply("[::1]:443:[2001:db8::1]:1", "[::1]:443").as_deref(), Some("[2001:db8::1]:1"));
    }

    #[test]
    fn a_rule_is_written_as_it_was_read() {
        for text in ["a.example:443:127.0.0.1:8443", ":::", "[::1]::[2001:db8::1]:5"] {
            assert_eq!(ConnectTo::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_rules_are_refused() {
        for text in
            ["", "a:1", "a:1:b", "a:1:b:2:3", "a:x:b:1", "a:1:b:65536", "a:0:b:1", "a b:1:c:1", "::1:1:b:1"]
        {
            assert!(ConnectTo::parse(text).is_err(), "{text}");
        }
    }
}
