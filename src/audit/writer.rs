//! The writer thread and its queue.
//!
//! Memory is bounded: openings that someone waits for share a budget of [`WAITING_BYTES`] and wait for room; what
//! nobody waits for is cut to [`TEXT_BYTES`] per text and carries no payload, so that it takes under 1 KiB as a rule
//! and 4 KiB at most, and there are never more than [`UNWAITED`] of them. What does not fit is dropped and counted.

use std::{
    collections::VecDeque,
    io, mem,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    audit::{
        AuditError, ChainHead,
        chain::{LinkKind, Tail},
        files,
        inbox::{Inlet, Outlet, Sleep, inbox},
        rows::{self, Interner, OpeningRow},
        stored,
    },
    model::{CapturedFields, FlowClosing, FlowId, FlowOpening, Outcome, RunClosing, RunId},
};

/// Records the flows of one run. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AuditWriter {
    queue: Arc<Queue>,
}

impl AuditWriter {
    pub(super) const fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }

    /// The next flow's number.
    pub fn next_id(&self) -> FlowId {
        FlowId::new(self.queue.run, self.queue.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Writes an opening, and returns once it is committed. Waits for room if too much is waiting already.
    ///
    /// # Errors
    /// The record is not in the store; what it is about must not leave.
    pub async fn open(&self, opening: FlowOpening) -> Result<OpenFlow, AuditError> {
        let id = opening.id;
        let row = Box::new(OpeningRow::new(opening));
        let permit = self.queue.make_room(row.weight()).await?;
        let (reply, answer) = oneshot::channel();
        self.queue.send(Command::Open { row, reply, _permit: permit })?;
        // From here on the record may exist, even if the caller stops waiting: then it is closed by dropping this.
        let flow = OpenFlow::new(Arc::clone(&self.queue), id);
        match answer.await.unwrap_or(Err(AuditError::WriterEnded)) {
            Ok(()) => Ok(flow),
            Err(error) => {
                flow.forget();
                Err(error)
            }
        }
    }

    /// Writes an opening some time soon: for the conversation and for tunnels, which never wait.
    ///
    /// Payload is left out and long texts are cut, for these records are held in memory while the store cannot write.
    pub fn open_unwaited(&self, mut opening: FlowOpening) -> OpenFlow {
        let id = opening.id;
        slim(&mut opening);
        if self.queue.count_unwaited() {
            let row = Box::new(OpeningRow::new(opening));
            self.queue.send_unwaited(Command::OpenUnwaited(row));
        }
        OpenFlow::new(Arc::clone(&self.queue), id)
    }

    /// How many records had to be dropped because the store could not write for too long.
    pub fn lost(&self) -> u64 {
        self.queue.counts.lost.load(Ordering::Relaxed)
    }
}

/// A flow whose record is open. Dropped without a closing, it is closed as [`Outcome::ClientGone`].
#[derive(Debug)]
#[must_use = "an open flow must be closed with its outcome"]
pub struct OpenFlow {
    queue: Arc<Queue>,
    id: FlowId,
    since: Instant,
    done: bool,
}

impl OpenFlow {
    fn new(queue: Arc<Queue>, id: FlowId) -> Self {
        Self { queue, id, since: Instant::now(), done: false }
    }

    /// The flow's number.
    pub const fn id(&self) -> FlowId {
        self.id
    }

    /// Closes the record. Never waits.
    pub fn close(mut self, closing: FlowClosing) {
        self.done = true;
        self.queue.close(self.id, closing);
    }

    fn forget(mut self) {
        self.done = true;
    }
}

impl Drop for OpenFlow {
    fn drop(&mut self) {
        if !self.done {
            let duration = self.since.elapsed().as_millis();
            let closing = FlowClosing {
                outcome: Outcome::ClientGone,
                status: None,
                request_bytes: 0,
                response_bytes: 0,
                duration_ms: u64::try_from(duration).unwrap_or(u64::MAX),
                error: None,
                not_inspected: None,
            };
            self.queue.close(self.id, closing);
        }
    }
}

/// What the writers of a run share with its thread.
#[derive(Debug)]
pub(super) struct Queue {
    run: RunId,
    next: AtomicU32,
    inlet: Inlet<Command>,
    room: Arc<Semaphore>,
    counts: Arc<Counts>,
}

/// Kept apart from the queue, so that the thread does not hold its own sender.
#[derive(Debug, Default)]
struct Counts {
    lost: AtomicU64,
    unwaited: AtomicUsize,
}

impl Queue {
    /// Waits until everything that was sent is written, and the run is closed.
    pub(super) fn finish(&self, closing: RunClosing) -> Result<ChainHead, AuditError> {
        let (reply, answer) = mpsc::channel();
        self.send(Command::Finish { closing, reply })?;
        answer.recv().unwrap_or(Err(AuditError::WriterEnded))
    }

    #[cfg(test)]
    pub(super) fn execute(&self, sql: &'static str) {
        let (reply, answer) = mpsc::channel();
        self.send(Command::Execute { sql, reply }).unwrap();
        answer.recv().unwrap();
    }

    async fn make_room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, AuditError> {
        // One body can be larger than the whole budget; it then has the budget to itself.
        let kibibytes = (bytes / 1024 + 1).min(WAITING_BYTES / 1024);
        let permits = u32::try_from(kibibytes).unwrap_or(u32::MAX);
        Arc::clone(&self.room).acquire_many_owned(permits).await.map_err(|_| AuditError::WriterEnded)
    }

    fn send(&self, command: Command) -> Result<(), AuditError> {
        let is_urgent = !command.is_unwaited();
        self.inlet.send(command, is_urgent).map_err(|_| AuditError::WriterEnded)
    }

    fn close(&self, id: FlowId, closing: FlowClosing) {
        if self.count_unwaited() {
            self.send_unwaited(Command::Close { id, closing: Box::new(closing) });
        }
    }

    /// Counts one more record that nobody waits for; `false`, and one more lost, if there are too many.
    fn count_unwaited(&self) -> bool {
        if self.counts.unwaited.fetch_add(1, Ordering::Relaxed) < UNWAITED {
            return true;
        }
        self.counts.unwaited.fetch_sub(1, Ordering::Relaxed);
        self.counts.lost.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn send_unwaited(&self, command: Command) {
        if self.send(command).is_err() {
            self.counts.unwaited.fetch_sub(1, Ordering::Relaxed);
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Starts the writer thread of a run. It ends when the last handle is dropped and everything is written.
pub(super) fn start(run: RunId, path: PathBuf, connection: Connection) -> io::Result<Arc<Queue>> {
    let (inlet, outlet) = inbox();
    let counts = Arc::new(Counts::default());
    let identity = files::identity(&path);
    let thread = WriterThread {
        run,
        path,
        identity,
        connection,
        interner: Interner::default(),
        outlet,
        counts: Arc::clone(&counts),
        waiting: Vec::new(),
        finishing: Vec::new(),
        backlog: VecDeque::new(),
        next_try: None,
        settling: None,
        to_checkpoint: false,
    };
    thread::Builder::new().name("audit-writer".to_owned()).spawn(move || thread.run())?;
    let room = Arc::new(Semaphore::new(WAITING_BYTES / 1024));
    Ok(Arc::new(Queue { run, next: AtomicU32::new(1), inlet, room, counts }))
}

#[derive(Debug)]
enum Command {
    Close {
        id: FlowId,
        closing: Box<FlowClosing>,
    },
    #[cfg(test)]
    Execute {
        sql: &'static str,
        reply: Sender<()>,
    },
    Finish {
        closing: RunClosing,
        reply: Sender<Result<ChainHead, AuditError>>,
    },
    Open {
        row: Box<OpeningRow>,
        reply: oneshot::Sender<Result<(), AuditError>>,
        _permit: OwnedSemaphorePermit,
    },
    OpenUnwaited(Box<OpeningRow>),
}

impl Command {
    const fn is_unwaited(&self) -> bool {
        matches!(self, Self::Close { .. } | Self::OpenUnwaited(_))
    }

    /// Tells whoever waits. A waiter that went away is none.
    fn answer(self, result: Result<ChainHead, AuditError>) {
        match self {
            Self::Finish { reply, .. } => drop(reply.send(result)),
            Self::Open { reply, .. } => drop(reply.send(result.map(|_| ()))),
            #[cfg(test)]
            Self::Execute { reply, .. } => drop(reply.send(())),
            Self::Close { .. } | Self::OpenUnwaited(_) => {}
        }
    }
}

struct WriterThread {
    run: RunId,
    path: PathBuf,
    identity: Option<(u64, u64)>,
    connection: Connection,
    interner: Interner,
    outlet: Outlet<Command>,
    counts: Arc<Counts>,
    /// Commands that someone waits for, received and not yet written.
    waiting: Vec<Command>,
    /// Closings of the run, which come after everything else.
    finishing: Vec<Command>,
    /// Records that nobody waits for and that are not written yet, oldest first. Bounded by [`UNWAITED`].
    backlog: VecDeque<Command>,
    /// When to write the backlog although nothing new came that someone waits for.
    next_try: Option<Instant>,
    /// Until when closings are expected of what was written last: they need not say that they are there.
    settling: Option<Instant>,
    /// Whether something was written since the log was last folded into the database.
    to_checkpoint: bool,
}

impl WriterThread {
    fn run(mut self) {
        loop {
            match self.receive() {
                Ok(command) => self.sort_in(command),
                Err(RecvTimeoutError::Timeout) if !self.backlog.is_empty() => {}
                Err(RecvTimeoutError::Timeout) => {
                    // Nothing is left to try again, or the time to do so would be over at each turn.
                    self.next_try = None;
                    self.checkpoint();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            for _ in 1..BATCH {
                match self.outlet.take() {
                    Some(command) => self.sort_in(command),
                    None => break,
                }
            }
            if self.may_linger() {
                self.next_try.get_or_insert_with(|| Instant::now() + LINGER);
                continue;
            }
            self.write_some();
            if !self.finishing.is_empty() {
                self.finish();
            }
        }
        // Nobody is left to send anything; a last try for what could not be written.
        while !self.backlog.is_empty() && self.write_some() {}
        self.count_lost(self.backlog.len());
        self.checkpoint();
    }

    fn sort_in(&mut self, command: Command) {
        match command {
            Command::Finish { .. } => self.finishing.push(command),
            command if command.is_unwaited() => self.backlog.push_back(command),
            command => self.waiting.push(command),
        }
    }

    /// Whether what there is may wait for company: a closing goes with the next opening, and spares a commit.
    fn may_linger(&self) -> bool {
        let is_due = self.next_try.is_some_and(|next_try| next_try <= Instant::now());
        self.waiting.is_empty() && self.finishing.is_empty() && self.backlog.len() < BATCH && !is_due
    }

    /// Writes everyone who waits, and as much of the backlog as fits. Openings that someone waits for come first:
    /// a closing may be in the same batch.
    fn write_some(&mut self) -> bool {
        let mut batch = mem::take(&mut self.waiting);
        let count = self.backlog.len().min(BATCH);
        batch.extend(self.backlog.drain(..count));
        let written = self.write_batch(batch);
        if written && !self.backlog.is_empty() {
            self.next_try = Some(Instant::now());
        }
        written
    }

    fn finish(&mut self) {
        let mut written = true;
        while written && !self.backlog.is_empty() {
            written = self.write_some();
        }
        let batch = mem::take(&mut self.finishing);
        self.write_batch(batch);
    }

    /// Waits for a command; for as long as it takes if there is nothing else to do.
    fn receive(&mut self) -> Result<Command, RecvTimeoutError> {
        if self.next_try.is_some() {
            return self.outlet.receive(self.next_try, Sleep::Sound);
        }
        if let Some(settling) = self.settling {
            let received = self.outlet.receive(Some(settling), Sleep::Sound);
            if settling <= Instant::now() {
                self.settling = None;
                // What came meanwhile has waited for as long as it may.
                self.next_try = received.is_ok().then_some(settling);
            }
            if !matches!(received, Err(RecvTimeoutError::Timeout)) {
                return received;
            }
        }
        let idle = self.to_checkpoint.then(|| Instant::now() + IDLE);
        self.outlet.receive(idle, Sleep::Light)
    }

    /// Writes a batch; `false` if the store cannot write at present.
    fn write_batch(&mut self, batch: Vec<Command>) -> bool {
        if batch.is_empty() {
            return true;
        }
        self.next_try = None;
        match self.commit(&batch) {
            Ok(head) => {
                self.settle(batch, head);
                true
            }
            // One record is at fault, and the others must not suffer.
            Err(error) if error.is_about_one_record() && batch.len() > 1 => {
                let mut written = true;
                for command in batch {
                    written &= self.write_batch(vec![command]);
                }
                written
            }
            Err(error) if error.is_about_one_record() => {
                tracing::warn!(%error, "an audit record was rejected");
                self.count_lost(batch.iter().filter(|command| command.is_unwaited()).count());
                batch.into_iter().for_each(|command| command.answer(Err(error.clone())));
                true
            }
            Err(error) => {
                tracing::warn!(%error, records = batch.len(), "audit records could not be written");
                self.next_try = Some(Instant::now() + RETRY);
                let (unwaited, waiting): (Vec<_>, Vec<_>) = batch.into_iter().partition(Command::is_unwaited);
                waiting.into_iter().for_each(|command| command.answer(Err(error.clone())));
                unwaited.into_iter().rev().for_each(|command| self.backlog.push_front(command));
                false
            }
        }
    }

    /// Answers those whose records are committed.
    fn settle(&mut self, batch: impl IntoIterator<Item = Command>, head: ChainHead) {
        self.to_checkpoint = true;
        for command in batch {
            if matches!(command, Command::Open { .. } | Command::OpenUnwaited(_)) {
                self.settling = Some(Instant::now() + LINGER);
            }
            if command.is_unwaited() {
                self.counts.unwaited.fetch_sub(1, Ordering::Relaxed);
            }
            if matches!(command, Command::Finish { .. }) {
                self.checkpoint();
            }
            command.answer(Ok(head));
        }
    }

    /// Writes a batch in one transaction: all of it, or nothing. Returns the chain's new head.
    fn commit(&mut self, batch: &[Command]) -> Result<ChainHead, AuditError> {
        // Without this, commits to a file that was deleted would go on "succeeding" into nowhere.
        if files::identity(&self.path) != self.identity {
            return Err(AuditError::Gone(self.path.display().to_string()));
        }
        let written = self.write_all(batch);
        if written.is_err() {
            self.interner.clear();
        }
        written
    }

    fn write_all(&mut self, batch: &[Command]) -> Result<ChainHead, AuditError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Read under the lock: another process may have written since.
        let mut chain = Tail::read(&transaction)?;
        for command in batch {
            match command {
                Command::Close { id, closing } => {
                    rows::write_closing(&transaction, *id, closing, &mut chain)?
                }
                #[cfg(test)]
                Command::Execute { sql, .. } => transaction.execute_batch(sql)?,
                Command::Finish { closing, .. } => {
                    transaction.execute(
                        "UPDATE run SET ended_ms = ?2, exit_code = ?3 WHERE id = ?1",
                        params![self.run.get(), closing.time_ms, closing.exit_code],
                    )?;
                    let run = i64::from(self.run.get());
                    if let Some(end) = stored::run(&transaction, run)?.and_then(|run| run.end) {
                        let head = chain.append(&transaction, LinkKind::RunEnd, run, &end)?;
                        stored::write_head(&transaction, run, &head.hash)?;
                    }
                }
                Command::Open { row, .. } | Command::OpenUnwaited(row) => {
                    row.write(&transaction, &mut self.interner, &mut chain)?;
                }
            }
        }
        transaction.commit()?;
        Ok(chain.head())
    }

    /// Folds the log into the database as far as readers allow. Failing is harmless: there is a next time.
    fn checkpoint(&mut self) {
        self.to_checkpoint = false;
        if let Err(error) = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::debug!(%error, "the audit log could not be folded into the database");
        }
    }

    fn count_lost(&self, count: usize) {
        self.counts.lost.fetch_add(count as u64, Ordering::Relaxed);
        self.counts.unwaited.fetch_sub(count, Ordering::Relaxed);
    }
}

/// Takes everything from an opening that could make it large.
fn slim(opening: &mut FlowOpening) {
    let fields = u32::try_from(opening.fields.len()).unwrap_or(u32::MAX);
    opening.fields_left_out = opening.fields_left_out.saturating_add(fields);
    opening.fields = CapturedFields::default();
    opening.body = None;
    let texts = [
        &mut opening.authority,
        &mut opening.method,
        &mut opening.path,
        &mut opening.policy_row,
        &mut opening.scheme,
        &mut opening.version,
    ];
    for text in texts.into_iter().chain(&mut opening.user_agent).chain(&mut opening.format) {
        if text.len() > TEXT_BYTES {
            *text = text[..text.floor_char_boundary(TEXT_BYTES)].into();
        }
    }
}

/// Most bytes of openings that wait to be written. Eight of the largest bodies, or thousands of usual ones.
const WAITING_BYTES: usize = 64 * 1024 * 1024;

/// Most records that nobody waits for: 40 MiB as a rule. A day of one developer while the disk is full.
const UNWAITED: usize = 65_536;

/// Longest text in a record that nobody waits for; longer ones are cut. Hosts have 253, real paths under 300.
const TEXT_BYTES: usize = 1024;

/// Most commands in one transaction: a few milliseconds of writing.
const BATCH: usize = 4096;

/// How long records that nobody waits for may wait for others. Too short for a person who looks at the log.
const LINGER: Duration = Duration::from_millis(10);

/// How soon to try again what could not be written.
const RETRY: Duration = Duration::from_millis(500);

/// After this long without work the log is folded into the database, where nobody has to wait for it.
const IDLE: Duration = Duration::from_millis(500);
