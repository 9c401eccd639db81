//! While a collector is away: when a client is asked to try again, and how long its export is held for the collector to
//! come back. Keeps no export beyond its request, and no more of a refused one than a number and a time.

use std::{
    collections::{HashMap, VecDeque, hash_map::RandomState},
    hash::BuildHasher,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::Notify;

/// One attempt at an export.
///
/// The attempts of one batch carry the same bytes, so that how long a client has waited already is known for each batch.
/// That is what counts: a client gives up as soon as it is asked to wait longer than it would, and most would wait for ten
/// seconds, however long the collector has been away.
pub(crate) struct Attempt {
    /// The batch, by its bytes.
    batch: u64,
    arrived: Instant,
    /// When the client stops waiting, if it said so, as clients of gRPC do.
    deadline: Option<Instant>,
}

/// In how many seconds a client is to try again; rides on the answer that refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryIn(pub(crate) u64);

impl RetryIn {
    /// When nothing is known of the batch.
    pub(crate) const FIRST: Self = Self(TRIES_SECS[0]);

    /// What to ask of a client whose batch is `age` old and which, if it said so, waits for `left` more.
    fn of(age: Duration, left: Option<Duration>) -> Self {
        let age = age.as_secs_f64();
        let tries = TRIES_SECS.into_iter().map(|secs| secs as f64);
        let next = tries.map(|at| at - age).find(|wait| *wait >= 1.0);
        let wait = next.map_or(LATER_SECS, |wait| wait.round() as u64);
        // One try more, just before it stops waiting.
        let last = left.map(|left| left.saturating_sub(MARGIN).as_secs()).filter(|secs| *secs >= 1);
        Self(last.map_or(wait, |last| wait.min(last)))
    }

    /// `google.rpc.RetryInfo`, whose only field is a `Duration`, whose first is the seconds.
    pub(crate) fn message(self) -> [u8; 4] {
        // No wait takes more than one byte.
        [0x0a, 2, 0x08, self.0.min(0x7f) as u8]
    }
}

/// The batches that were refused lately.
#[derive(Default)]
pub(crate) struct Refused {
    hasher: RandomState,
    batches: Mutex<Batches>,
    held: Mutex<HashMap<u64, Arc<Notify>>>,
}

#[derive(Default)]
struct Batches {
    first_arrival: HashMap<u64, Instant>,
    /// The oldest is first.
    order: VecDeque<u64>,
}

impl Refused {
    /// An attempt to export `body`, which arrived then.
    pub(crate) fn attempt(&self, body: &Bytes, headers: &HeaderMap, arrived: Instant) -> Attempt {
        let allowed = headers.get("grpc-timeout").and_then(|value| grpc_timeout(value.to_str().ok()?));
        let deadline = allowed.and_then(|allowed| arrived.checked_add(allowed));
        Attempt { batch: self.hasher.hash_one(body), arrived, deadline }
    }

    /// Notes that `attempt` is refused at `now`, and says when its client is to try again.
    pub(crate) fn refuse(&self, attempt: &Attempt, now: Instant) -> RetryIn {
        let key = attempt.batch;
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let Batches { first_arrival, order } = &mut *batches;
        let first = first_arrival.entry(key).or_insert_with(|| {
            order.push_back(key);
            attempt.arrived
        });
        if now.saturating_duration_since(*first) > FORGOTTEN_AFTER {
            // What is sent again so late was not waiting all the time.
            *first = attempt.arrived;
        }
        let age = now.saturating_duration_since(*first);
        if order.len() > MOST_BATCHES
            && let Some(oldest) = order.pop_front()
        {
            first_arrival.remove(&oldest);
        }
        RetryIn::of(age, attempt.deadline.map(|deadline| deadline.saturating_duration_since(now)))
    }

    /// How long `attempt` may wait here for its collector.
    ///
    /// Only where that can lose nothing: a client that says how long it waits is answered before it stops, and one that does
    /// not is held in the attempt that is its last if it waits for ten seconds, as clients do that nobody told otherwise.
    pub(crate) fn holds(&self, attempt: &Attempt, now: Instant) -> Option<Duration> {
        if let Some(deadline) = attempt.deadline {
            let left = deadline.saturating_duration_since(now).checked_sub(MARGIN)?;
            return Some(left.min(LONGEST_HELD));
        }
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.saturating_duration_since(*batches.first_arrival.get(&attempt.batch)?);
        (HELD_FROM..FORGOTTEN_AFTER).contains(&age).then_some(HELD_UNTOLD)
    }

    /// Notes that a collector answered: the next batch with these bytes is another one.
    pub(crate) fn answered(&self, attempt: &Attempt) {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        if batches.first_arrival.remove(&attempt.batch).is_some() {
            batches.order.retain(|batch| *batch != attempt.batch);
        }
    }

    /// Begins to hold an attempt, and ends an older one of the same batch: its client has stopped waiting for that, or it
    /// would not try again, and the batch must not arrive twice.
    pub(crate) fn held(&self, attempt: &Attempt) -> Held<'_> {
        let superseded = Arc::new(Notify::new());
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(older) = held.insert(attempt.batch, Arc::clone(&superseded)) {
            older.notify_one();
        }
        Held { refused: self, batch: attempt.batch, superseded }
    }
}

/// An attempt that is held, for as long as it is.
pub(crate) struct Held<'r> {
    refused: &'r Refused,
    batch: u64,
    superseded: Arc<Notify>,
}

impl Held<'_> {
    /// Waits until a newer attempt of the same batch is held.
    pub(crate) async fn superseded(&self) {
        self.superseded.notified().await;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut held = self.refused.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(&self.batch).is_some_and(|newest| Arc::ptr_eq(newest, &self.superseded)) {
            held.remove(&self.batch);
        }
    }
}

/// As `grpc-timeout` says it: up to eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let count: u32 = digits.parse().ok()?;
    let one = match unit {
        "n" => Duration::from_nanos(1),
        "u" => Duration::from_micros(1),
        "m" => Duration::from_millis(1),
        "S" => Duration::from_secs(1),
        "M" => Duration::from_secs(60),
        "H" => Duration::from_secs(3600),
        _ => return None,
    };
    one.checked_mul(count)
}

/// When a client is to try again, in seconds from its first attempt. SDKs try six times at most and not once more than they
/// are told to wait for (Python, Node), so each time but the first is just before one of the times that people set: 10, 30, 60 and
/// 90 seconds. The first is for a collector that only restarts.
const TRIES_SECS: [u64; 5] = [2, 9, 29, 59, 89];
/// How far apart the tries after those are.
const LATER_SECS: u64 = 30;
/// What is left of a client's time when it is answered, for the answer to get there.
const MARGIN: Duration = Duration::from_secs(1);
/// Longest that an export is held for a client that said how long it waits.
const LONGEST_HELD: Duration = Duration::from_secs(120);
/// Age of a batch from which on it is held though its client did not say for how long. With ten seconds, which is what SDKs have by default,
/// the next try that we could ask for would never come.
const HELD_FROM: Duration = Duration::from_secs(7);
/// How long it is held then. Node's SDK waits for eight seconds more in such an attempt, Python's for one; a client that gives
/// each attempt ten seconds is answered before they are over.
const HELD_UNTOLD: Duration = Duration::from_secs(9);
/// Batches that are remembered: forty bytes each, and more than clients with a queue each can have.
const MOST_BATCHES: usize = 4096;
/// How long they are.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests;
