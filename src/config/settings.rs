use std::{
    ffi::OsStr,
    fmt::Display,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{
    claude::Platform,
    config::{
        ConfigError, Env, Paths,
        file::{ConfigFile, nearest},
        parse_size,
    },
    inspect::Capture,
    model::{AuthorityPattern, ByteSize, ConnectTo, ParseWordError},
};

crate::model::words! {
    /// How sure the audit log is to be on the disk.
    AuditSync {
        /// Survives a power cut.
        Full = "full",
        /// Survives the end of the process, however it comes.
        Normal = "normal",
    }
}

/// What plainsight was told, all sources taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the audit log and the stored CA lie.
    pub data_dir: PathBuf,
    /// A folder with rule files besides the embedded ones.
    pub rules_dir: Option<PathBuf>,
    /// A policy file instead of the embedded one.
    pub policy: Option<PathBuf>,
    /// A PEM file with roots besides the system's.
    pub upstream_ca: Option<PathBuf>,
    /// Where to dial instead. The first that applies counts; flags stand before the environment before the file.
    pub connect_to: Vec<ConnectTo>,
    /// What is decrypted besides what the catalogue names, from all sources.
    pub intercept: Vec<AuthorityPattern>,
    /// How much of a payload is kept.
    pub capture: Capture,
    /// Largest body that is inspected.
    pub body_limit: ByteSize,
    /// How sure the audit log is to be on the disk.
    pub audit_sync: AuditSync,
    /// Where `proxy` listens.
    pub listen: SocketAddr,
    /// The configuration file that was read, if there was one.
    pub config_file: Option<PathBuf>,
    /// Our own variables that nobody reads, with what was perhaps meant.
    pub warnings: Vec<String>,
}

/// What flags say; the command line fills it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--config FILE`.
    pub config: Option<PathBuf>,
    /// `--data-dir DIR`.
    pub data_dir: Option<PathBuf>,
    /// `--rules DIR`.
    pub rules_dir: Option<PathBuf>,
    /// `--policy NAME|FILE`.
    pub policy: Option<PathBuf>,
    /// `--upstream-ca FILE`.
    pub upstream_ca: Option<PathBuf>,
    /// `--connect-to HOST:PORT:ADDR:PORT`, repeatable.
    pub connect_to: Vec<ConnectTo>,
    /// `--intercept HOST[:PORT]`, repeatable.
    pub intercept: Vec<AuthorityPattern>,
    /// `--capture none|masked|full`.
    pub capture: Option<Capture>,
    /// `--body-limit SIZE`.
    pub body_limit: Option<ByteSize>,
    /// `--audit-sync normal|full`.
    pub audit_sync: Option<AuditSync>,
    /// `--listen ADDR:PORT`.
    pub listen: Option<SocketAddr>,
}

impl Settings {
    /// Puts them together: defaults, then the file, then the environment, then flags. Lists add up.
    ///
    /// # Errors
    /// For the first thing that is wrong, with where it stands. A file that was asked for must exist.
    pub fn load(env: &Env, overrides: Overrides) -> Result<Self, ConfigError> {
        let paths = Paths::new(env, Platform::current());
        let asked_for = overrides.config.or_else(|| env.path(CONFIG));
        let (file, config_file) = match (asked_for, &paths.config_file) {
            (Some(path), _) => match ConfigFile::read(&path)? {
                Some(file) => (file, Some(path)),
                None => return Err(ConfigError::Io { path, source: std::io::ErrorKind::NotFound.into() }),
            },
            (None, Some(path)) => match ConfigFile::read(path)? {
                Some(file) => (file, Some(path.clone())),
                None => (ConfigFile::default(), None),
            },
            (None, None) => (ConfigFile::default(), None),
        };
        let mut connect_to = overrides.connect_to;
        connect_to.extend(words(env, CONNECT_TO)?);
        connect_to.extend(file.connect_to.into_iter().map(|word| word.0));
        let mut intercept = overrides.intercept;
        intercept.extend(words(env, INTERCEPT)?);
        intercept.extend(file.intercept.into_iter().map(|word| word.0));
        let data_dir = overrides.data_dir.or_else(|| env.path(DATA_DIR)).or(file.data_dir);
        let body_limit = match (overrides.body_limit, value(env, BODY_LIMIT)?) {
            (Some(limit), _) => Some(limit),
            (None, Some(text)) => Some(parse_size(text).map_err(|error| wrong(BODY_LIMIT, error))?),
            (None, None) => file.body_limit.map(|size| size.0),
        };
        Ok(Self {
            data_dir: data_dir.map_or_else(|| paths.data_dir(), Ok)?,
            rules_dir: overrides.rules_dir.or_else(|| env.path(RULES)).or(file.rules_dir),
            policy: overrides.policy.or_else(|| env.path(POLICY)).or(file.policy),
            upstream_ca: overrides.upstream_ca.or_else(|| env.path(UPSTREAM_CA)).or(file.upstream_ca),
            connect_to,
            intercept,
            capture: layered(overrides.capture, word(env, CAPTURE)?, file.capture.map(|word| word.0))
                .unwrap_or(Capture::Masked),
            body_limit: body_limit.unwrap_or(DEFAULT_BODY_LIMIT),
            audit_sync: layered(
                overrides.audit_sync,
                word(env, AUDIT_SYNC)?,
                file.audit_sync.map(|word| word.0),
            )
            .unwrap_or(AuditSync::Normal),
            listen: layered(overrides.listen, word(env, LISTEN)?, file.listen.map(|word| word.0))
                .unwrap_or(DEFAULT_LISTEN),
            config_file,
            warnings: unknown_variables(env),
        })
    }
}

fn layered<T>(flag: Option<T>, variable: Option<T>, file: Option<T>) -> Option<T> {
    flag.or(variable).or(file)
}

fn value<'a>(env: &'a Env, variable: &'static str) -> Result<Option<&'a str>, ConfigError> {
    let text = env.get(variable).map(|value| value.to_str().ok_or_else(|| wrong(variable, "it is no UTF-8")));
    text.transpose()
}

fn word<T>(env: &Env, variable: &'static str) -> Result<Option<T>, ConfigError>
where
    T: FromStr,
    T::Err: Display,
{
    let parse = |text: &str| text.trim().parse().map_err(|error| wrong(variable, error));
    value(env, variable)?.map(parse).transpose()
}

/// Words between commas or spaces.
fn words<T>(env: &Env, variable: &'static str) -> Result<Vec<T>, ConfigError>
where
    T: FromStr,
    T::Err: Display,
{
    let text = value(env, variable)?.unwrap_or_default();
    text.split(|character: char| character == ',' || character.is_whitespace())
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().map_err(|error| wrong(variable, error)))
        .collect()
}

fn wrong(variable: &'static str, why: impl Display) -> ConfigError {
    ConfigError::Variable { variable, why: why.to_string() }
}

/// Not errors: another version of plainsight may know them.
fn unknown_variables(env: &Env) -> Vec<String> {
    let names = env.variables().keys().filter_map(|name: &std::ffi::OsString| OsStr::to_str(name));
    let unknown = names.filter(|name| name.starts_with(PREFIX) && !VARIABLES.contains(name));
    unknown
        .map(|name| match nearest(&name[PREFIX.len()..], &VARIABLES.map(|known| &known[PREFIX.len()..])) {
            Some(meant) => format!("{name} means nothing; did you mean {PREFIX}{meant}?"),
            None => format!("{name} means nothing"),
        })
        .collect()
}

/// Largest body inspected. Event batches seen in the wild stay under 1 MiB; eight leaves room.
const DEFAULT_BODY_LIMIT: ByteSize = ByteSize::mebibytes(8);

/// Loopback only, on a port that no common service has.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8788);

const PREFIX: &str = "PLAINSIGHT_";
const AUDIT_SYNC: &str = "PLAINSIGHT_AUDIT_SYNC";
const BODY_LIMIT: &str = "PLAINSIGHT_BODY_LIMIT";
const CAPTURE: &str = "PLAINSIGHT_CAPTURE";
const CONFIG: &str = "PLAINSIGHT_CONFIG";
const CONNECT_TO: &str = "PLAINSIGHT_CONNECT_TO";
const DATA_DIR: &str = "PLAINSIGHT_DATA_DIR";
const INTERCEPT: &str = "PLAINSIGHT_INTERCEPT";
const LISTEN: &str = "PLAINSIGHT_LISTEN";
const LOG: &str = "PLAINSIGHT_LOG";
const POLICY: &str = "PLAINSIGHT_POLICY";
const RULES: &str = "PLAINSIGHT_RULES";
const UPSTREAM_CA: &str = "PLAINSIGHT_UPSTREAM_CA";

/// All that are read. `PLAINSIGHT_LOG` is the filter for diagnostics, which the command line reads by [`Env::get`].
const VARIABLES: [&str; 12] = [
    AUDIT_SYNC,
    BODY_LIMIT,
    CAPTURE,
    CONFIG,
    CONNECT_TO,
    DATA_DIR,
    INTERCEPT,
    LISTEN,
    LOG,
    POLICY,
    RULES,
    UPSTREAM_CA,
];

#[cfg(test)]
mod tests;
