use std::{fmt, str::FromStr};

/// A version of the client, such as 2.1.329.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientVersion {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
    /// The third.
    pub patch: u32,
}

/// The client's version, if a `User-Agent` names it: `claude-code/2.1.329 (…)`, `claude-cli/2.0.14 (external, cli)`.
pub fn client_version(user_agent: &str) -> Option<ClientVersion> {
    let products = user_agent.split_ascii_whitespace();
    let mut versions = products.filter_map(|product| {
        product.strip_prefix("claude-code/").or_else(|| product.strip_prefix("claude-cli/"))
    });
    versions.find_map(|version| version.parse().ok())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_s_names_are_known() {
        let version = |text| client_version(text).map(|version| version.to_string());

        assert_eq!(version("claude-code/2.1.329 (native)").as_deref(), Some("2.1.329"));
        assert_eq!(version("claude-cli/2.0.14 (external, cli)").as_deref(), Some("2.0.14"));
        assert_eq!(version("Mozilla/5.0 claude-code/2.1.37").as_deref(), Some("2.1.37"));
        assert_eq!(version("claude-cli/2.1.0-beta.3 (x)").as_deref(), Some("2.1.0"));
    }

    #[test]
    fn other_programs_have_no_client_version() {
        for text in
            ["", "curl/8.5.0", "claude-code/", "claude-code/2.1", "xclaude-code/1.2.3", "claude-cli/1.2.x"]
        {
            assert_eq!(client_version(text), None, "{text}");
        }
    }

    #[test]
    fn versions_compare_as_numbers() {
        let version = |text: &str| text.parse::<ClientVersion>().unwrap();

        assert!(version("2.1.37") < version("2.1.120"));
    }
}
