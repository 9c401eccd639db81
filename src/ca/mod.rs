//! The certificate authority: makes it, keeps it, signs leaves with it. Knows nothing of sockets, nor of which
//! hosts are to be intercepted: it is told its [`Scope`], writes that into the certificate as name constraints,
//! and refuses in code what lies outside.

mod authority;
mod leaf_cache;
mod scope;
pub mod stored;
#[cfg(test)]
mod verifiers;

use std::{io, path::PathBuf};

pub use authority::{CertificateAuthority, MAX_CA_VALIDITY, MAX_LEAF_VALIDITY};
pub use leaf_cache::LeafCache;
pub use scope::Scope;

/// What goes wrong in this room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// Another process was first.
    #[error("there is a CA already: {}", .0.display())]
    AlreadyStored(PathBuf),
    /// The stored CA cannot be read as one.
    #[error("the CA at {} is damaged: {why}; replace it with `plainsight ca rotate`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The CA is not valid at this time.
    #[error("the CA is not valid at this time; replace it with `plainsight ca rotate`, or set the clock")]
    Expired,
    /// The disk said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A validity that clients would refuse.
    #[error("a CA cannot be valid for so long, or at such a time")]
    LifetimeTooLong,
    /// There is no stored CA.
    #[error("there is no CA yet: {} does not exist", .0.display())]
    NotStored(PathBuf),
    /// The host is not one that this CA signs for.
    #[error("this CA does not sign for `{0}`")]
    OutsideScope(String),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// A name that cannot stand in a certificate.
    #[error("`{0}` is no DNS name")]
    ScopeName(String),
    /// The certificate could not be made.
    #[error("the certificate could not be made: {0}")]
    Signing(#[from] rcgen::Error),
    /// The TLS library did not take the key.
    #[error("the TLS library refuses the key: {0}")]
    Tls(#[from] rustls::Error),
    /// Someone else could read or change the key.
    #[error("refusing to use {}: {why}", path.display())]
    Unsafe {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
}
