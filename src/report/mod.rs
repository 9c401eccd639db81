//! Records in, text out: tables, the screen at the end of a run, one flow in full, JSON.
//!
//! Pure: no file, no terminal, no clock. Whoever prints decides on width and colour. What came from the network is
//! hostile to a terminal until it went through [`sanitize`], which is the only place that knows how.

pub mod check;
pub mod doctor;
mod dossier;
pub mod drift;
pub mod json;
mod otlp;
mod scan;
mod screen;
mod show;
mod stray;
mod summary;
pub mod table;
#[cfg(test)]
mod testing;
mod text;
mod usage;
mod words;

pub use dossier::{Dossier, DossierBuilder, html, markdown};
pub use otlp::OtlpLogs;
pub use scan::scanned;
pub use screen::screen;
pub use show::show;
pub use stray::Around;
pub use summary::{Found, Summary, Told, Tunneled, Unread};
pub use text::{View, sanitize};
pub use usage::{UnknownPlaceholder, UsageColours, UsageView, usage_line, usage_template};
