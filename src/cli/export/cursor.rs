//! How far an export came, and what comes next. Numbers of flows are given out before the records are written, and a flow
//! ends whenever it ends, so that "everything up to here" does not say it: what was passed over is waited for by number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    audit::{AuditError, Reader},
    model::{FlowRecord, RunRecord},
};

/// What one endpoint has got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// Of runs with a lower number it has everything.
    before: u32,
    runs: BTreeMap<u32, Progress>,
}

/// What it has got of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    /// Of flows with a lower number it has everything but what is waited for.
    next: u32,
    /// Numbers that were not there yet, or whose flow was still open, and since when they are waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waiting: Vec<(u32, i64)>,
    /// Nothing comes any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    done: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self { next: 1, waiting: Vec::new(), done: false }
    }
}

impl Cursor {
    /// The next flows, at most `limit`, and where the cursor stands once they are delivered.
    pub(super) fn next(
        &self,
        reader: &Reader,
        limit: usize,
        now_ms: i64,
    ) -> Result<(Vec<FlowRecord>, Self), AuditError> {
        let mut after = self.clone();
        let mut batch = Vec::new();
        let mut runs = reader.runs()?;
        runs.sort_unstable_by_key(|run| run.id);
        for run in runs.iter().filter(|run| run.id.get() >= self.before) {
            let progress = after.runs.entry(run.id.get()).or_default();
            if !progress.done && batch.len() < limit {
                progress.advance(reader, run, limit, now_ms, &mut batch)?;
            }
        }
        after.forget_done(&runs);
        Ok((batch, after))
    }

    /// Runs at the beginning of which nothing comes any more need no entry.
    fn forget_done(&mut self, runs: &[RunRecord]) {
        for run in runs {
            let id = run.id.get();
            if id < self.before {
                continue;
            }
            if !self.runs.get(&id).is_some_and(|progress| progress.done) {
                return;
            }
            self.runs.remove(&id);
            self.before = id + 1;
        }
    }
}

impl Progress {
    fn advance(
        &mut self,
        reader: &Reader,
        run: &RunRecord,
        limit: usize,
        now_ms: i64,
        batch: &mut Vec<FlowRecord>,
    ) -> Result<(), AuditError> {
        let ended_ms = run.closing.as_ref().map(|closing| closing.time_ms);
        // A run's last records may be written a moment after its end.
        let has_ended = ended_ms.is_some_and(|ended_ms| now_ms - ended_ms > GRACE_MS);
        let is_over = |flow: &FlowRecord| {
            flow.closing.is_some() || has_ended || now_ms - flow.opening.time_ms > OPEN_MS
        };
        let mut waiting = Vec::new();
        for (number, since_ms) in std::mem::take(&mut self.waiting) {
            if batch.len() >= limit {
                waiting.push((number, since_ms));
                continue;
            }
            let found = reader
                .flows_from(run.id, number, 1)?
                .into_iter()
                .find(|flow| flow.opening.id.number() == number);
            match found {
                Some(flow) if is_over(&flow) => batch.push(flow),
                Some(_) => waiting.push((number, since_ms)),
                // A number that was given out and never used.
                None if has_ended || now_ms - since_ms > MISSING_MS => {}
                None => waiting.push((number, since_ms)),
            }
        }
        let mut is_drained = false;
        while batch.len() < limit && !is_drained {
            let flows = reader.flows_from(run.id, self.next, limit - batch.len())?;
            is_drained = flows.is_empty();
            for flow in flows {
                let number = flow.opening.id.number();
                let first = self.next.max(number.saturating_sub(MOST_MISSING));
                waiting.extend((first..number).map(|missing| (missing, now_ms)));
                if is_over(&flow) {
                    batch.push(flow);
                } else {
                    waiting.push((number, now_ms));
                }
                self.next = number.saturating_add(1);
            }
        }
        self.done = has_ended && is_drained && waiting.is_empty();
        self.waiting = waiting;
        Ok(())
    }
}

/// After its end a run may still write for so long.
const GRACE_MS: i64 = 60_000;
/// From when on a flow without an end is delivered as one whose end is unknown: plainsight was killed.
const OPEN_MS: i64 = 24 * 3_600_000;
/// How long a number is waited for. It is given out when a head has arrived, and used when the body has.
const MISSING_MS: i64 = 3_600_000;
/// Numbers in a row that are waited for. Far more than requests are under way at once.
const MOST_MISSING: u32 = 10_000;

#[cfg(test)]
mod tests;
