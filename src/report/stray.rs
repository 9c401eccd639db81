//! What did not come by the proxy: connections that went around it, and what confinement kept in.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{FlowKind, FlowRecord},
    report::words,
};

/// Connections that went around us, and what was kept in, by whom it was for.
#[derive(Clone, Debug, Default)]
pub(super) struct Stray {
    went_around: BTreeMap<Box<str>, Around>,
    kept_in: BTreeMap<(Box<str>, Box<str>), u64>,
}

/// Connections that went around us to one place.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// How many were seen.
    pub connections: u64,
    /// Which programs, with their process numbers.
    pub programs: BTreeSet<Box<str>>,
}

impl Stray {
    pub(super) fn add(&mut self, flow: &FlowRecord) {
        let opening = &flow.opening;
        let whom: Box<str> = words::host(flow).into();
        if opening.kind == FlowKind::Attempt {
            *self.kept_in.entry((opening.method.clone(), whom)).or_default() += 1;
            return;
        }
        if self.went_around.len() >= MOST_PLACES && !self.went_around.contains_key(&whom) {
            return;
        }
        let around = self.went_around.entry(whom).or_default();
        around.connections += 1;
        if around.programs.len() < MOST_PROGRAMS {
            around.programs.extend(opening.user_agent.clone());
        }
    }

    /// To whom connections went around us.
    pub(super) fn went_around(&self) -> impl ExactSizeIterator<Item = (&str, &Around)> {
        self.went_around.iter().map(|(whom, around)| (&**whom, around))
    }

    /// What was kept in: what was spoken, to whom, how many records.
    pub(super) fn kept_in(&self) -> impl ExactSizeIterator<Item = (&str, &str, u64)> {
        self.kept_in.iter().map(|((spoken, whom), count)| (&**spoken, &**whom, *count))
    }
}

/// Places told apart. A program that tries every address must not fill our memory.
const MOST_PLACES: usize = 1_000;
const MOST_PROGRAMS: usize = 16;
