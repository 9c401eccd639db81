use std::{
    fmt::Display,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    config::{AuditSync, ConfigError, parse_size},
    inspect::Capture,
    model::{AuthorityPattern, ByteSize, ConnectTo},
    policy::PROFILES,
};

/// The configuration file as it is written. Every key may be left out; an unknown one is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigFile {
    pub(super) data_dir: Option<PathBuf>,
    pub(super) rules_dir: Option<PathBuf>,
    pub(super) policy: Option<PathBuf>,
    pub(super) upstream_ca: Option<PathBuf>,
    #[serde(default)]
    pub(super) connect_to: Vec<Word<ConnectTo>>,
    #[serde(default)]
    pub(super) intercept: Vec<Word<AuthorityPattern>>,
    pub(super) capture: Option<Word<Capture>>,
    pub(super) body_limit: Option<Size>,
    pub(super) audit_sync: Option<Word<AuditSync>>,
    pub(super) listen: Option<Word<SocketAddr>>,
}

/// The keys of the file, for "did you mean".
pub(super) const KEYS: [&str; 10] = [
    "audit_sync",
    "body_limit",
    "capture",
    "connect_to",
    "data_dir",
    "intercept",
    "listen",
    "policy",
    "rules_dir",
    "upstream_ca",
];

impl ConfigFile {
    /// Reads the file; `None` if there is none. Relative paths in it count from the folder it lies in.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, ConfigError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ConfigError::Io { path: path.to_owned(), source }),
        };
        let mut file = Self::parse(path, &text)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let paths = [&mut file.data_dir, &mut file.rules_dir, &mut file.policy, &mut file.upstream_ca];
        let is_profile = |path: &PathBuf| PROFILES.iter().any(|profile| path == Path::new(profile.name));
        for path in paths.into_iter().flatten().filter(|path| !is_profile(path)) {
            *path = folder.join(&*path);
        }
        Ok(Some(file))
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start).min(text.len());
            let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
            ConfigError::File { path: path.to_owned(), line, why: explain(error.message()) }
        })
    }
}

/// Shortens what serde says of an unknown key, and names the nearest known one.
fn explain(message: &str) -> String {
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
    match unknown {
        Some((key, _)) => match nearest(key, &KEYS) {
            Some(meant) => format!("unknown key `{key}`; did you mean `{meant}`?"),
            None => format!("unknown key `{key}`; known are {}", KEYS.join(", ")),
        },
        None => message.to_owned(),
    }
}

/// The one of `known` that `word` was perhaps meant to be.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let alike = |known: &&str| strsim::jaro_winkler(&word.to_ascii_lowercase(), &known.to_ascii_lowercase());
    let best = known.iter().copied().max_by(|one, other| alike(one).total_cmp(&alike(other)))?;
    (alike(&best) >= ALIKE).then_some(best)
}

/// From here on two words look like one mistyped. Known keys of one another stay below it.
const ALIKE: f64 = 0.85;

/// A value that is written as a string and parsed, so that an error has its line.
#[derive(Debug)]
pub(super) struct Word<T>(pub(super) T);

impl<'de, T> Deserialize<'de> for Word<T>
where
    T: FromStr,
    T::Err: Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// A size, as a number of bytes or with a unit.
#[derive(Debug)]
pub(super) struct Size(pub(super) ByteSize);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a number of bytes, or a text such as \"8 MiB\"")]
        enum Written {
            Bytes(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Bytes(bytes) => Ok(Self(ByteSize::bytes(bytes))),
            Written::Text(text) => parse_size(&text).map(Self).map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        ConfigFile::parse(Path::new("config.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
        assert_eq!(
            error("capture = \"full\"\n\nintercepts = []\n"),
            "config.toml:3: unknown key `intercepts`; did you mean `intercept`?"
        );
        assert!(
            error("colour = 1").starts_with("config.toml:1: unknown key `colour`; known are audit_sync, ")
        );
    }

    #[test]
    fn a_bad_value_is_named_with_its_line() {
        let bad = error("capture = \"none\"\nconnect_to = [\n  \"a:1\",\n]\n");

        assert!(bad.starts_with("config.toml:"), "{bad}");
        assert!(bad.contains("`a:1` does not say where to connect to"), "{bad}");
        assert!(error("capture = \"some\"").contains("`some` is none of full, masked, none"));
        assert!(error("body_limit = \"8 MB\"").contains("is no size"));
        assert!(error("listen = \"nowhere\"").starts_with("config.toml:1: "));
        assert!(error("capture = ").starts_with("config.toml:1: "));
    }

    #[test]
    fn every_known_key_is_taken() {
        for key in KEYS {
            let bad = error(&format!("{key} = {{}}"));

            assert!(!bad.contains("unknown key"), "{bad}");
        }
    }

    #[test]
    fn no_known_key_is_taken_for_another() {
        for key in KEYS {
            let others: Vec<_> = KEYS.into_iter().filter(|other| *other != key).collect();

            assert_eq!(nearest(key, &others), None, "{key}");
        }
    }
}
