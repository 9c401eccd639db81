//! The proxy: sockets, TLS and HTTP. Takes a client's connection to where it wants to go, and shows what policy
//! names to the services it was given; it decodes nothing, decides nothing and stores nothing itself.
//!
//! The walk: `listener` accepts, `client` serves the proxy's own HTTP, `connect` opens a tunnel, `sniff` looks
//! at its first bytes, `intercept` ends TLS, `exchange` takes one request through inspection and audit to
//! `upstream` and streams the answer back; `tunnel` passes everything else through unread. `framing` stands
//! in front of each HTTP/1 parser and refuses what two parsers could read in two ways. `receiver` listens as an
//! OpenTelemetry collector does, and takes requests the same way from `exchange` on. `probe` answers `doctor`.

mod body;
mod bypass;
mod client;
mod config;
#[cfg(target_os = "linux")]
mod confine;
mod connect;
mod engine;
mod error;
mod exchange;
mod flow;
mod framing;
mod headers;
mod intercept;
mod io;
mod listener;
mod live;
mod probe;
mod receiver;
mod respond;
mod rooms;
mod services;
mod sniff;
mod survive;
mod tunnel;
mod upstream;
mod websocket;

pub use config::{Limits, ProxyConfig};
#[cfg(target_os = "linux")]
pub use confine::Confinement;
pub use error::BindError;
pub use listener::{Entrance, Proxy};
pub use live::LiveInspector;
pub use probe::{PROBE_AUTHORITY, PROBE_HOST, PROBE_MARK};
pub use receiver::{CollectorConfig, CollectorPath, CollectorTls, Identity, ReceiverConfig, Signal, Takes};
pub use rooms::PLAN_USAGE;
pub use services::{
    Answer, Answers, Audit, AuditUnavailable, Entry, Forward, Inspected, Inspection, LeafError, Leaves,
    Opened, Services,
};
