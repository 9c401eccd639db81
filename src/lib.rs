//! plainsight: what your coding agent says about you, in plain sight.
//!
//! # The walk of one request
//!
//! 1. [`proxy`] accepts a connection and reads `CONNECT host:port`; [`destination`] and [`policy`] say whether
//!    that authority is decrypted. Everything else becomes a blind tunnel, and a record.
//! 2. [`proxy`] looks at the first bytes, terminates TLS with a leaf from [`ca`], and reads one request.
//! 3. [`inspect`] gets the whole request as a value and walks it, with no I/O: [`destination`] says whom it is
//!    for, [`encoding`] undoes its content coding, [`payload`] turns bytes into fields, [`rules`] finds what is
//!    personal, [`policy`] decides.
//! 4. [`audit`] makes the record durable; only then does [`proxy`] send a byte upstream.
//! 5. The answer streams back, and its outcome closes the record.
//!
//! Later [`report`] and [`compliance`] read the records back for [`cli`].
//!
//! `scan` enters at step 3 with requests that [`har`] reads from a recording.
//!
//! A room imports only from floors beneath its own; `tests/layering.rs` reads the sources and holds us to it.

// Floor 0
pub mod model;
// Floor 1
pub mod audit;
pub mod ca;
pub mod claude;
pub mod compliance;
pub mod destination;
pub mod encoding;
pub mod har;
pub mod payload;
pub mod policy;
pub mod redaction;
pub mod rules;
// Floor 2
pub mod inspect;
pub mod report;
// Floor 3
pub mod proxy;
// Floor 4
pub mod config;
// Floor 5
pub mod cli;
