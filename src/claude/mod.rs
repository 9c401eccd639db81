//! The audited program: what environment makes it come to us, what proxy it would have used, where it sends OTLP,
//! what its settings files add. Everything is computed from values that the caller passes in; only
//! [`ChildEnvironment::write_files`] touches the disk, in the folder that it is given.

mod account;
mod child;
mod command;
mod effective;
mod exports;
mod files;
mod no_proxy;
mod otlp;
mod settings;
mod upstream;
mod usage;
mod version;

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
    path::PathBuf,
};

pub use account::account_values;
pub use child::{ChildEnvironment, ChildInputs};
pub use command::{ClientCommand, settings_with};
pub use effective::{
    CommandLine, Layer, effective, installed_version, layer_of, loopback_exporters, near_misses,
};
pub use exports::{OtlpCollector, OtlpExports, otlp_collector};
pub use files::{ClientFile, EventBatch, event_batch};
pub use no_proxy::NoProxy;
pub use otlp::{OtlpEndpoint, OtlpEndpoints, otlp_endpoints};
pub use settings::{ClientSettings, Platform, SettingsPlaces};
pub use upstream::{UpstreamProxies, UpstreamProxy};
pub use usage::{PlanUsage, UsageWindow};
pub use version::client_version;

/// Environment variables, as they were when plainsight started or as a child gets them.
pub type Environment = BTreeMap<OsString, OsString>;

/// What goes wrong in this room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaudeError {
    /// The disk said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A proxy variable that holds no proxy. Its text is not repeated: it may hold a password.
    #[error("`{variable}` holds no proxy URL: {why}")]
    ProxyUrl {
        /// The variable.
        variable: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// A settings file of the client that is none.
    #[error("{}: {why}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A proxy that we cannot speak to.
    #[error(
        "`{variable}` names a `{scheme}` proxy; only `http` and `https` proxies can stand behind plainsight"
    )]
    UnsupportedProxy {
        /// The variable.
        variable: &'static str,
        /// The URL's scheme.
        scheme: String,
    },
}

/// The variable's text, unless it is empty or no text: an empty variable means the same as none.
fn text<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    environment.get(OsStr::new(name))?.to_str().map(str::trim).filter(|text| !text.is_empty())
}
