//! What a tool under test is, and how one that runs in this process is timed.

use std::{fs, thread, time::Duration};

use crate::{allocations, body::Body};

/// One round of one tool over one body.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    pub bytes: usize,
    /// Of a processor's time.
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

/// The mean of the runs that fit into a short time.
pub fn time(bytes: usize, mut run: impl FnMut() -> usize) -> Round {
    /// As in `peers.py`.
    const ROUND: Duration = Duration::from_millis(250);
    run();
    let before = allocations::count();
    let hits = run();
    let allocations = allocations::count() - before;
    let begin = processor_time();
    let (mut spent, mut runs) = (Duration::ZERO, 0);
    while spent < ROUND {
        // Asking for the time is not free.
        for _ in 0..(runs / 4).max(1) {
            run();
            runs += 1;
        }
        spent = processor_time() - begin;
    }
    let seconds = spent.as_secs_f64() / f64::from(runs);
    Round { bytes, seconds, hits, allocations: Some(allocations) }
}

/// What this thread has had of a processor: others share the machine, and the peers that are programs of their own are
/// measured by it too.
fn processor_time() -> Duration {
    // The kernel brings its figure up to date when a thread yields.
    thread::yield_now();
    let said = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = said.split(' ').next().and_then(|it| it.parse().ok()).expect("nanoseconds come first");
    Duration::from_nanos(nanoseconds)
}
