//! Settings: defaults, then the file, then the environment, then flags. The only room that reads environment
//! variables, and the one that reads the system's roots; everyone beneath is told.

mod env;
mod file;
mod git;
mod known;
mod paths;
mod roots;
mod settings;
mod size;

use std::{io, path::PathBuf};

pub use env::Env;
pub use known::known_values;
pub use paths::Paths;
pub use roots::{Roots, system_roots, upstream_roots};
pub use settings::{AuditSync, Overrides, Settings};
pub use size::{SizeError, parse_size};

/// What goes wrong in this room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A line of the configuration file.
    #[error("{}:{line}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what was perhaps meant.
        why: String,
    },
    /// The disk said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Neither a home folder nor a data folder is known.
    #[error("no data folder: set HOME, or PLAINSIGHT_DATA_DIR")]
    NoDataDir,
    /// A file of certificates without any.
    #[error("{}: {why}", path.display())]
    NoRoots {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// An environment variable of ours.
    #[error("{variable}: {why}")]
    Variable {
        /// The variable.
        variable: &'static str,
        /// What is wrong.
        why: String,
    },
}
