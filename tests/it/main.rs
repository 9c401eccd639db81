//! The integration tests: the real engine between a local client and a local origin, and the laws of the sources.

#![allow(unreachable_pub, missing_docs, clippy::panic, clippy::unwrap_used)]

mod bombs;
mod captures;
mod check;
mod export;
mod layering;
mod proxy_answers;
mod proxy_basics;
mod proxy_bytes;
mod proxy_guards;
mod proxy_receiver;
mod proxy_streams;
mod proxy_tls;
mod scan;
mod support;
