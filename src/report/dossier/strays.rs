use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    model::{FlowKind, FlowRecord},
    report::words,
};

use super::EVIDENCE;

/// What did not come by the proxy.
#[derive(Clone, Debug, Serialize)]
pub struct StrayLine {
    /// `went-around` for what was seen to go past us, `not-let-out` for what confinement kept in.
    pub what: &'static str,
    /// What was spoken, such as `TCP` or `UDP`.
    pub spoken: String,
    /// For whom it was.
    pub whom: String,
    /// How many records.
    pub times: u64,
    /// Which programs, with their process numbers.
    pub programs: BTreeSet<String>,
    /// The first records.
    pub flows: Vec<String>,
}

/// What did not come by the proxy, by what became of it, what was spoken, and for whom it was.
#[derive(Debug, Default)]
pub(super) struct Strays {
    lines: BTreeMap<(&'static str, String, String), StrayLine>,
    left_out: u64,
}

impl Strays {
    pub(super) fn add(&mut self, flow: &FlowRecord) {
        let opening = &flow.opening;
        let what = if opening.kind == FlowKind::Bypass { WENT_AROUND } else { "not-let-out" };
        let (spoken, whom) = (opening.method.to_string(), words::host(flow).to_owned());
        let key = (what, spoken.clone(), whom.clone());
        if self.lines.len() >= MOST_PLACES && !self.lines.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        let line = self.lines.entry(key).or_insert_with(|| StrayLine {
            what,
            spoken,
            whom,
            times: 0,
            programs: BTreeSet::new(),
            flows: Vec::new(),
        });
        line.times += 1;
        if line.programs.len() < EVIDENCE {
            line.programs.extend(opening.user_agent.as_deref().map(str::to_owned));
        }
        if line.flows.len() < EVIDENCE {
            line.flows.push(opening.id.to_string());
        }
    }

    /// The lines, what went around us first, and how many records are in none of them.
    pub(super) fn finish(self) -> (Vec<StrayLine>, u64) {
        let mut lines: Vec<_> = self.lines.into_values().collect();
        lines.sort_by_key(|line| line.what != WENT_AROUND);
        (lines, self.left_out)
    }
}

pub(super) const WENT_AROUND: &str = "went-around";

/// Places that are listed: a program that tries every address of a network would fill any page.
const MOST_PLACES: usize = 200;
