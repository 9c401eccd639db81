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
    records: u64,
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
        self.records += 1;
        if opening.kind == FlowKind::Attempt {
            let key = (opening.method.clone(), whom);
            if self.kept_in.len() < MOST_PLACES || self.kept_in.contains_key(&key) {
                *self.kept_in.entry(key).or_default() += 1;
            }
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

    /// How many records there were.
    pub(super) const fn records(&self) -> u64 {
        self.records
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        model::{DestinationKind, FlowKind, FlowRecord, Outcome, Watch},
        report::{Summary, screen, testing},
    };

    fn stray(number: u32, kind: FlowKind, spoken: &str, authority: &str) -> FlowRecord {
        let mut flow = testing::record(number, "unknown", DestinationKind::Unknown, "");
        flow.opening.kind = kind;
        flow.opening.method = spoken.into();
        flow.opening.authority = authority.into();
        flow.opening.scheme = "".into();
        flow.opening.user_agent = Some("curl (4711)".into());
        if let Some(closing) = &mut flow.closing {
            closing.outcome = if kind == FlowKind::Bypass { Outcome::Bypassed } else { Outcome::Refused };
        }
        flow
    }

    #[test]
    fn what_went_around_us_and_what_was_kept_in_stand_on_the_screen() {
        let flows = [
            stray(1, FlowKind::Bypass, "TCP", "203.0.113.7:443"),
            stray(2, FlowKind::Bypass, "TCP", "203.0.113.7:443"),
            stray(3, FlowKind::Attempt, "UDP", "api.example:443"),
        ];

        let summary = Summary::from_flows(&flows).with_watch(Some(Watch::Watched));

        let page = screen(&summary, &testing::view(100));
        assert!(page.contains("0 requests"), "{page}");
        let line =
            |start: &str| page.lines().find(|line| line.trim_start().starts_with(start)).unwrap_or_default();
        assert!(page.contains("WENT AROUND US") && line("203.0.113.7").ends_with("2  curl (4711)"), "{page}");
        assert!(page.contains("NOT LET OUT") && line("api.example").ends_with("1  UDP"), "{page}");
        let value = summary.to_json();
        assert_eq!(value["watch"], "watched");
        assert_eq!(
            value["bypasses"],
            json!([{ "to": "203.0.113.7", "connections": 2, "programs": ["curl (4711)"] }])
        );
        assert_eq!(value["kept_in"], json!([{ "spoken": "UDP", "to": "api.example", "attempts": 1 }]));
    }

    #[test]
    fn that_nobody_watched_is_said() {
        let said = |watch| {
            screen(&Summary::default().with_watch(watch), &testing::view(100)).contains("not watched for")
        };

        assert!(said(Some(Watch::Unwatched)));
        assert!(!said(Some(Watch::Confined)) && !said(Some(Watch::Watched)) && !said(None));
    }
}
