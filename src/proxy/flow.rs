//! One flow's record while it is open: closed exactly once, whatever becomes of the flow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use http::StatusCode;

use crate::{
    model::{FlowClosing, NotInspected, Outcome},
    proxy::services::Entry,
};

/// When a flow began, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) time_ms: i64,
    pub(crate) instant: Instant,
}

impl Start {
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { time_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX), instant: Instant::now() }
    }
}

/// An open record. Dropped without [`Flow::finish`], it says that the client went away.
#[derive(Debug)]
#[must_use = "a flow must be finished with its outcome"]
pub(crate) struct Flow {
    entry: Option<OpenEntry>,
    start: Start,
    pub(crate) status: Option<StatusCode>,
    pub(crate) request_bytes: Arc<AtomicU64>,
    pub(crate) response_bytes: u64,
    pub(crate) not_inspected: Option<NotInspected>,
    /// What failed on our side before it was sent on all the same; what fails later takes its place.
    pub(crate) error: Option<String>,
    /// Counted by the listener, which waits for it at shutdown.
    _alive: Arc<()>,
}

struct OpenEntry(Box<dyn Entry>);

impl std::fmt::Debug for OpenEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpenEntry")
    }
}

impl Flow {
    pub(crate) fn new(entry: Box<dyn Entry>, start: Start, alive: Arc<()>) -> Self {
        Self {
            entry: Some(OpenEntry(entry)),
            start,
            status: None,
            request_bytes: Arc::default(),
            response_bytes: 0,
            not_inspected: None,
            error: None,
            _alive: alive,
        }
    }

    /// Closes the record.
    pub(crate) fn finish(mut self, outcome: Outcome, error: Option<String>) {
        self.close(outcome, error);
    }

    fn close(&mut self, outcome: Outcome, error: Option<String>) {
        let Some(OpenEntry(entry)) = self.entry.take() else { return };
        entry.close(FlowClosing {
            outcome,
            status: self.status.map(|status| status.as_u16()),
            request_bytes: self.request_bytes.load(Ordering::Relaxed),
            response_bytes: self.response_bytes,
            duration_ms: u64::try_from(self.start.instant.elapsed().as_millis()).unwrap_or(u64::MAX),
            error: error.or_else(|| self.error.take()).map(String::into_boxed_str),
            not_inspected: self.not_inspected,
        });
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        let error = if std::thread::panicking() {
            "plainsight failed on its own side"
        } else {
            "the connection ended before the answer was complete"
        };
        self.close(Outcome::ClientGone, Some(error.to_owned()));
    }
}
