//! What a tool under test is, and how one that runs in this process is timed.

use std::time::Instant;

use crate::{allocations, body::Body};

/// One round of one tool over one body.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    pub bytes: usize,
    pub seconds: f64,
    pub hits: usize,
    /// Not known of tools in other processes.
    pub allocations: Option<u64>,
}

impl Round {
    pub fn gigabytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.seconds / 1e9
    }
}

pub trait Tool {
    fn name(&self) -> &'static str;

    /// An error says why there is no figure for this body.
    fn round(&mut self, body: &Body) -> Result<Round, String>;
}

/// The fastest of the runs that fit into a short time, because others share the machine.
pub fn time(bytes: usize, mut run: impl FnMut() -> usize) -> Round {
    /// As in `peers.py`, whose scrubbing is so slow that it takes two runs at least.
    const ROUND_SECONDS: f64 = 0.15;
    const LEAST_RUNS: usize = 3;
    run();
    let before = allocations::count();
    let hits = run();
    let allocations = allocations::count() - before;
    let begin = Instant::now();
    let (mut seconds, mut runs) = (f64::MAX, 0);
    while runs < LEAST_RUNS || begin.elapsed().as_secs_f64() < ROUND_SECONDS {
        let start = Instant::now();
        run();
        seconds = seconds.min(start.elapsed().as_secs_f64());
        runs += 1;
    }
    Round { bytes, seconds, hits, allocations: Some(allocations) }
}
