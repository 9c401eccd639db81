//! What came and went between two runs: destinations, names of events, fields, categories. Names only, never values.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::{DestinationId, FlowKind, FlowRecord, ParseWordError, PathPattern};

crate::model::words! {
    /// What kind of thing came or went.
    Change {
        /// A category of findings, for a destination.
        Category = "category",
        /// A destination.
        Destination = "destination",
        /// An event, by name.
        Event = "event",
        /// A field, by its path without places in lists.
        Field = "field",
        /// A host that was tunnelled to.
        Host = "host",
    }
}

/// For whom, and what.
type Key = (Box<str>, Box<str>);

/// The names of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    names: BTreeMap<Change, BTreeSet<Key>>,
    /// Requests to each destination.
    pub requests: BTreeMap<DestinationId, u64>,
}

impl Profile {
    /// Adds a flow with its fields. `events` are the fields whose values are names of events.
    pub fn add(&mut self, flow: &FlowRecord, events: &[PathPattern]) {
        let opening = &flow.opening;
        if opening.kind == FlowKind::Tunnel {
            self.insert(Change::Host, "", &opening.authority);
            return;
        }
        let destination = opening.destination.as_str();
        self.insert(Change::Destination, "", destination);
        *self.requests.entry(opening.destination.clone()).or_default() += 1;
        for finding in &opening.findings {
            self.insert(Change::Category, destination, &finding.category);
        }
        for field in opening.fields.iter() {
            self.insert(Change::Field, destination, &general(&field.path));
            if events.iter().any(|pattern| pattern.matches(&field.path)) {
                self.insert(Change::Event, destination, &field.value);
            }
        }
    }

    fn insert(&mut self, kind: Change, destination: &str, name: &str) {
        self.names.entry(kind).or_default().insert((destination.into(), name.into()));
    }
}

/// What is only in one of two runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// Only in the second.
    pub came: Vec<Named>,
    /// Only in the first.
    pub went: Vec<Named>,
}

/// One thing that came or went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// What kind of thing.
    pub kind: Change,
    /// For whom; empty for destinations and hosts themselves.
    pub destination: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

impl Drift {
    /// Compares two runs.
    pub fn between(first: &Profile, second: &Profile) -> Self {
        Self { came: only_in(second, first), went: only_in(first, second) }
    }

    /// Whether nothing came or went.
    pub fn is_empty(&self) -> bool {
        self.came.is_empty() && self.went.is_empty()
    }
}

fn only_in(one: &Profile, other: &Profile) -> Vec<Named> {
    let mut named = Vec::new();
    for (kind, names) in &one.names {
        let others = other.names.get(kind);
        for (destination, name) in names {
            let key = (destination.clone(), name.clone());
            if others.is_none_or(|others| !others.contains(&key)) {
                named.push(Named { kind: *kind, destination: destination.clone(), name: name.clone() });
            }
        }
    }
    named
}

/// The path without places in lists: `events/*/event_data`.
fn general(path: &str) -> String {
    let is_number = |segment: &str| !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
    let (format, rest) = path.split_once(':').unwrap_or(("", path));
    let segments = rest.split('/').map(|segment| if is_number(segment) { "*" } else { segment });
    let rest = segments.collect::<Vec<_>>().join("/");
    if format.is_empty() { rest } else { format!("{format}:{rest}") }
}
