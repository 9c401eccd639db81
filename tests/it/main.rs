//! The integration tests: the real engine between a local client and a local origin, and the laws of the sources.

#![allow(unreachable_pub, missing_docs, clippy::panic, clippy::unwrap_used)]

mod bombs;
mod captures;
mod check;
mod core_faults;
// Made for tests/quality, which measures more of it than is looked at here.
#[allow(dead_code)]
#[path = "../quality/src/corpus/mod.rs"]
mod corpus;
mod export;
mod layering;
mod matrix;
#[cfg(target_os = "linux")]
mod open_files;
mod proxy_answers;
mod proxy_basics;
mod proxy_bytes;
mod proxy_guards;
mod proxy_receiver;
mod proxy_streams;
mod proxy_tls;
mod quality;
mod scan;
mod support;
