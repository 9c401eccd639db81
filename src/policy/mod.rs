//! What may leave: destination and findings in, decision out. First match wins, and the default is written down.
//! Says when something is redacted or blocked, never how.

mod spec;

use aws_lc_rs::digest;

use crate::model::{Action, Decision, Destination, DestinationKind, Finding, NotInspected, PathPattern};

pub use spec::PolicyError;

/// The policy in force when none is given: change nothing, report everything.
pub const EMBEDDED: &str = include_str!("../../rules/policy.default.toml");

/// A policy, ready to decide.
#[derive(Clone, Debug)]
pub struct Policy {
    name: String,
    hash: String,
    rows: Vec<Row>,
    default: Action,
}

#[derive(Clone, Debug)]
struct Row {
    id: String,
    /// Globs over destination ids; empty: any.
    destinations: Vec<PathPattern>,
    /// Empty: any.
    kinds: Vec<DestinationKind>,
    action: Action,
}

/// What a decision is about.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Whom the request is for.
    pub destination: &'a Destination,
    /// What the rules found in it.
    pub findings: &'a [Finding],
    /// Why it was not read, if it was not.
    pub not_inspected: Option<NotInspected>,
}

impl Policy {
    /// Reads a policy. `name` is the file's name, for errors.
    ///
    /// # Errors
    /// A file that is no TOML, has unknown or missing keys, a row twice, or an action that is not built yet.
    pub fn from_toml(name: &str, text: &str) -> Result<Self, PolicyError> {
        let mut policy = spec::parse(name, text)?;
        policy.hash = hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        Ok(policy)
    }

    /// The built-in policy.
    pub fn embedded() -> Self {
        Self::from_toml("policy.default.toml", EMBEDDED).expect("the embedded policy is read in a test")
    }

    /// What it calls itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of its text, in hex: what a record was decided by.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Decides. Rows are read from the top and the first that matches wins.
    pub fn decide(&self, question: Question<'_>) -> Decision {
        match self.rows.iter().find(|row| row.matches(question)) {
            Some(row) => Decision { action: row.action, row: row.id.clone() },
            None => Decision { action: self.default, row: "default".to_owned() },
        }
    }
}

impl Row {
    fn matches(&self, question: Question<'_>) -> bool {
        let id = question.destination.id.as_str();
        (self.destinations.is_empty() || self.destinations.iter().any(|glob| glob.matches_segments_of(id)))
            && (self.kinds.is_empty() || self.kinds.contains(&question.destination.kind))
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use crate::model::DestinationId;

    use super::*;

    fn decide(policy: &Policy, id: &str, kind: DestinationKind) -> Decision {
        let destination = Destination { id: DestinationId::new(id), kind, inspected: true };
        policy.decide(Question { destination: &destination, findings: &[], not_inspected: None })
    }

    #[test]
    fn the_embedded_policy_changes_nothing() {
        let policy = Policy::embedded();

        for kind in DestinationKind::ALL {
            assert_eq!(decide(&policy, "any", *kind).action, Action::Allow);
        }
        assert_eq!(policy.name(), "observe");
        assert_eq!(policy.hash().len(), 64);
    }

    #[test]
    fn the_first_matching_row_decides() {
        let text = "schema = 1\nname = \"x\"\n[default]\naction = \"allow\"\n\
            [[row]]\nid = \"one\"\ndestination = [\"first-party-*\"]\nkind = [\"telemetry\"]\naction = \"allow\"\n\
            [[row]]\nid = \"two\"\ndestination = [\"first-party-metrics\"]\naction = \"allow\"\n";
        let policy = Policy::from_toml("x.toml", text).unwrap();

        assert_eq!(decide(&policy, "first-party-metrics", DestinationKind::Telemetry).row, "one");
        assert_eq!(decide(&policy, "first-party-metrics", DestinationKind::Unknown).row, "two");
        assert_eq!(decide(&policy, "statsig", DestinationKind::Telemetry).row, "default");
    }
}
