//! The store: what is about to leave is written here first, and read back from here later.
//!
//! One SQLite file in one private folder. Writing goes through one thread per run, which commits everything that
//! waits in one transaction and then answers everyone at once. The wall: this room keeps what it is given. It
//! does not decide what may be kept; masking is done before a record gets here.

mod after;
mod baseline;
mod chain;
#[cfg(test)]
mod chain_tests;
mod error;
mod facts;
mod files;
mod inbox;
mod notes;
mod packed;
mod reader;
mod rows;
mod schema;
mod store;
mod stored;
#[cfg(test)]
mod tests;
mod told;
mod verify;
mod writer;

pub use baseline::Baseline;
pub use chain::{ChainHash, ChainHead, NoChainHash};
pub use error::AuditError;
pub use facts::Fact;
pub use files::existing_key;
pub use notes::RunNote;
pub use reader::{Filter, Order, Reader};
pub use store::{Options, RunWriter, Store, Sync};
pub use verify::{FAULTS, Fault, FaultKind, Verification};
pub use writer::{AuditWriter, OpenFlow};
