use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A version of the client, such as 2.1.329.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientVersion {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
    /// The third.
    pub patch: u32,
}

impl FromStr for ClientVersion {
    type Err = NoVersion;

    /// Parses three numbers; what follows `-` or `+` is left out.
    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let text = text.split(['-', '+']).next().unwrap_or_default();
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().ok_or(NoVersion)
        };
        match text.split('.').collect::<Vec<_>>().as_slice() {
            [major, minor, patch] => {
                Ok(Self { major: number(major)?, minor: number(minor)?, patch: number(patch)? })
            }
            _ => Err(NoVersion),
        }
    }
}

impl fmt::Display for ClientVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}.{}", self.major, self.minor, self.patch))
    }
}

/// Text that is no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version is three numbers with dots between")]
pub struct NoVersion;

impl TryFrom<String> for ClientVersion {
    type Error = NoVersion;

    fn try_from(text: String) -> Result<Self, NoVersion> {
        text.parse()
    }
}

impl From<ClientVersion> for String {
    fn from(version: ClientVersion) -> Self {
        version.to_string()
    }
}

/// Client versions from one to another, both bounds included: `*`, `>=2.1.120`, `<2.1.120`, `2.0.0 to 2.1.119`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VersionRange {
    from: Option<ClientVersion>,
    before: Option<ClientVersion>,
    to: Option<ClientVersion>,
}

impl VersionRange {
    /// Whether every version is in it.
    pub const fn is_any(&self) -> bool {
        self.from.is_none() && self.before.is_none() && self.to.is_none()
    }

    /// Whether `version` is in it.
    pub fn contains(&self, version: ClientVersion) -> bool {
        self.from.is_none_or(|from| version >= from)
            && self.before.is_none_or(|before| version < before)
            && self.to.is_none_or(|to| version <= to)
    }
}

impl FromStr for VersionRange {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let text = text.trim();
        if text == "*" {
            return Ok(Self::default());
        }
        if let Some(from) = text.strip_prefix(">=") {
            return Ok(Self { from: Some(from.trim().parse()?), ..Self::default() });
        }
        if let Some(before) = text.strip_prefix('<') {
            return Ok(Self { before: Some(before.trim().parse()?), ..Self::default() });
        }
        match text.split_once(" to ") {
            Some((from, to)) => {
                Ok(Self { from: Some(from.trim().parse()?), to: Some(to.trim().parse()?), before: None })
            }
            None => {
                let only = text.parse()?;
                Ok(Self { from: Some(only), to: Some(only), before: None })
            }
        }
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.before, self.to) {
            (Some(from), _, Some(to)) if from == to => write!(f, "{from}"),
            (Some(from), _, Some(to)) => write!(f, "{from} to {to}"),
            (Some(from), ..) => write!(f, ">={from}"),
            (None, Some(before), _) => write!(f, "<{before}"),
            (None, None, _) => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> ClientVersion {
        text.parse().unwrap()
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(version("2.1.37") < version("2.1.120"));
        assert!("2.1".parse::<ClientVersion>().is_err());
    }

    #[test]
    fn a_range_holds_what_it_says() {
        let holds = |range: &str, text: &str| range.parse::<VersionRange>().unwrap().contains(version(text));

        assert!(holds("*", "0.0.1"));
        assert!(holds("<2.1.120", "2.1.119") && !holds("<2.1.120", "2.1.120"));
        assert!(holds(">=2.1.120", "2.1.120") && !holds(">=2.1.120", "2.1.119"));
        assert!(holds("2.0.0 to 2.1.119", "2.1.119") && !holds("2.0.0 to 2.1.119", "2.1.120"));
        for text in ["*", "<2.1.120", ">=2.1.120", "2.0.0 to 2.1.119", "2.1.37"] {
            assert_eq!(text.parse::<VersionRange>().unwrap().to_string(), text);
        }
        assert!("2.x".parse::<VersionRange>().is_err());
    }
}
