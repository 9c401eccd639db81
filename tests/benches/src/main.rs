//! Measures the built `plainsight` against hudsucker (with no inspection at all), against a bare rustls relay and against no
//! proxy, in one run on one machine, and prints ratios as a Markdown table.
//!
//! Each proxy is a process of its own; the origin and the load generator share this process, and so one clock. Everything
//! stays on loopback. The peers are this same executable under another first argument.

use std::process::ExitCode;

mod arguments;
mod certificates;
mod client;
mod measures;
mod origin;
mod peer_hudsucker;
mod peer_relay;
mod runner;
mod statistics;
mod subject;
mod table;

use arguments::{Arguments, PeerArguments};

/// What any step of the harness may fail with: nothing here recovers, it only says what went wrong.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.first().map(String::as_str) {
        Some("peer-hudsucker") => match PeerArguments::parse(&words[1..]) {
            Ok(arguments) => peer_hudsucker::serve(arguments).await,
            Err(failure) => Err(failure),
        },
        Some("peer-relay") => match PeerArguments::parse(&words[1..]) {
            Ok(arguments) => peer_relay::serve(arguments).await,
            Err(failure) => Err(failure),
        },
        _ => match Arguments::parse(&words) {
            Ok(arguments) => runner::run(&arguments).await,
            Err(failure) => Err(failure),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("plainsight-bench: {failure}");
            ExitCode::from(2)
        }
    }
}
