use std::{
    cell::Cell,
    io::{self, IsTerminal as _, Read, Write as _},
    rc::Rc,
    time::{Duration, Instant},
};

use crate::model::ByteSize;

/// Says on a terminal how far a long file is read; elsewhere it says nothing.
pub(super) struct Progress {
    read: Rc<Cell<u64>>,
    total: Option<u64>,
    next: Option<Instant>,
    is_shown: bool,
}

/// Counts what goes through.
pub(super) struct Counted<R> {
    source: R,
    read: Rc<Cell<u64>>,
}

impl Progress {
    /// Watches `source`, of `total` bytes if that is known.
    pub(super) fn watch<R: Read>(source: R, total: Option<u64>) -> (Self, Counted<R>) {
        let read = Rc::new(Cell::new(0));
        let next = io::stderr().is_terminal().then(|| Instant::now() + FIRST);
        (Self { read: Rc::clone(&read), total, next, is_shown: false }, Counted { source, read })
    }

    /// Shows the state, if it is time to.
    pub(super) fn tick(&mut self, requests: usize) {
        let now = Instant::now();
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        self.next = Some(now + EVERY);
        self.is_shown = true;
        let read = ByteSize::bytes(self.read.get());
        let total = self.total.map_or_else(String::new, |total| format!(" of {}", ByteSize::bytes(total)));
        eprint!("{CLEAR}scanned {read}{total}, {requests} requests");
        _ = io::stderr().flush();
    }

    /// Takes the line away, so that something else can be written.
    pub(super) fn clear(&mut self) {
        if self.is_shown {
            self.is_shown = false;
            eprint!("{CLEAR}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.read.set(self.read.get() + count as u64);
        Ok(count)
    }
}

/// Start of the line, and everything behind it gone.
const CLEAR: &str = "\r\x1b[K";

/// What ends sooner needs no progress.
const FIRST: Duration = Duration::from_secs(1);

const EVERY: Duration = Duration::from_millis(200);
