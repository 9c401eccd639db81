//! HAR 1.2 in and out: recordings that browsers, mitmproxy and HTTP Toolkit make, and our own records for them.
//!
//! One entry is in memory at a time, however large the file. The wall: this room knows what a recording says about
//! requests. It does not undo content codings, and does not know what bodies mean.

mod base64;
mod body;
mod entry;
mod read;
#[cfg(test)]
mod tests;
mod url;
mod write;

pub use entry::{Entry, RecordedBody};
pub use read::{Unreadable, read};
pub use write::{SentOn, Writer};

/// Why a recording could not be read, as a whole or from some point on.
#[derive(Debug, thiserror::Error)]
pub enum HarError {
    /// The file ends, or stops being JSON, within or after an entry.
    #[error("entry {index}: {source}")]
    Entry {
        /// Which entry, counted from 0.
        index: usize,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// The file is no HAR file: no JSON, or without `log.entries`.
    #[error("no HAR file: {0}")]
    Format(serde_json::Error),
    /// The operating system refused.
    #[error("{0}")]
    Io(std::io::Error),
}
