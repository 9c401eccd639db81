//! What may leave: destination and findings in, decision out. First match wins, and every default is written down.
//! Says when something is redacted or blocked, never how the bytes change.

mod lint;
mod profiles;
mod read;
mod row;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, ptr, sync::Arc};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::model::{
    Action, Answer, Authority, Confidence, Decision, Destination, DestinationKind, Finding, NotInspected,
    ParseWordError, RedactBy, UnknownFields,
};

pub use lint::{Lint, Names};
pub use profiles::{PROFILES, Profile};
pub use read::PolicyError;
pub use row::{Row, Signal};

/// A policy, ready to decide. Immutable: a change makes another one.
#[derive(Clone, Debug)]
pub struct Policy {
    name: String,
    about: String,
    hash: Arc<str>,
    rows: Vec<Row>,
    defaults: Defaults,
}

/// What holds where no row does.
#[derive(Clone, Debug)]
struct Defaults {
    finding: Action,
    request: Action,
    answer: Answer,
    unknown_destination: Action,
    unknown_field: Action,
    unknown_fields: Option<Arc<UnknownFields>>,
    /// One for each reason, in the order of [`NotInspected::ALL`].
    not_inspected: Vec<Action>,
    /// One for each kind, in the order of [`DestinationKind::ALL`].
    fail: Vec<Fail>,
    fail_answer: Answer,
}

crate::model::words! {
    /// What becomes of a request when plainsight itself cannot do its work.
    Fail {
        /// It stays here.
        Closed = "closed",
        /// It goes on untouched.
        Open = "open",
    }
}

/// What a decision is about.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Whom the request is for.
    pub destination: &'a Destination,
    /// The host and port that it goes to.
    pub authority: &'a Authority,
    /// The path, without a query; empty for a tunnel.
    pub path: &'a str,
    /// What the rules found in it.
    pub findings: &'a [Finding],
    /// Why it was not read, if it was not.
    pub not_inspected: Option<NotInspected>,
    /// Whether it holds a field in which no rule found anything. Only looked at if [`Policy::minds_unknown_fields`].
    pub unknown_fields: bool,
}

/// What one row, or one default, says.
#[derive(Clone, Copy, Debug)]
pub struct Verdict<'p> {
    /// What to do.
    pub action: Action,
    /// The row's name, or the default's, such as `default.request`.
    pub row: &'p str,
    /// How to answer if it blocks.
    pub answer: Answer,
    /// The row itself, unless it was a default.
    pub by: Option<&'p Row>,
}

impl Policy {
    /// Reads a policy. `name` is the file's name, for errors.
    ///
    /// # Errors
    /// A file that is no TOML, has unknown or missing keys, a row twice, or one that would touch the conversation.
    pub fn from_toml(name: &str, text: &str) -> Result<Self, PolicyError> {
        let mut policy = read::read(name, text)?;
        policy.hash = hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref()).into();
        Ok(policy)
    }

    /// The built-in policy that is in force when none is given: changes nothing, reports everything.
    pub fn embedded() -> Self {
        Self::profile("observe").expect("the embedded profiles are read in a test")
    }

    /// A policy that ships with the program.
    pub fn profile(name: &str) -> Option<Self> {
        let profile = PROFILES.iter().find(|profile| profile.name == name)?;
        Self::from_toml(profile.file, profile.text).ok()
    }

    /// What it calls itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it does, in a sentence for people.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// SHA-256 of its text, in hex: what a record was decided by.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// [`Policy::hash`] as a record keeps it.
    pub fn hash_shared(&self) -> Option<Arc<str>> {
        Some(Arc::clone(&self.hash))
    }

    /// Its rows, in order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What becomes of a request to a destination of this kind when plainsight itself cannot do its work: the log
    /// cannot be written, a rule panics, what was redacted does not read as it must.
    pub fn on_failure(&self, kind: DestinationKind) -> Fail {
        match kind {
            DestinationKind::Conversation => Fail::Open,
            kind => self.defaults.fail[place(DestinationKind::ALL, kind)],
        }
    }

    /// How a request is answered that stays here because plainsight could not do its work.
    pub fn failure_answer(&self) -> Answer {
        self.defaults.fail_answer
    }

    /// Whether [`Question::unknown_fields`] makes a difference.
    pub fn minds_unknown_fields(&self) -> bool {
        self.defaults.unknown_field != Action::Allow
    }

    /// Decides. Rows are read from the top and the first that matches wins: for each finding, and for the request as
    /// a whole. What blocks one of them blocks the request; else what redacts one redacts.
    pub fn decide(&self, question: Question<'_>) -> Decision {
        let (request, verdicts) = self.verdicts(question);
        let mut redactions = Vec::with_capacity(verdicts.len());
        let mut decisive = request;
        for verdict in &verdicts {
            redactions.push(match verdict.action {
                Action::Redact => Some(match verdict.by.and_then(|row| row.redact.clone()) {
                    Some(redaction) => RedactBy::Policy(redaction),
                    None => RedactBy::Rule,
                }),
                Action::Allow | Action::Block => None,
            });
            if gravity(verdict.action) > gravity(decisive.action) {
                decisive = *verdict;
            }
        }
        let mut unknown_fields = None;
        if question.unknown_fields && !request.allows_by_row() {
            let verdict = self.default("unknown.field", self.defaults.unknown_field);
            if verdict.action == Action::Redact {
                unknown_fields = self.defaults.unknown_fields.clone();
            }
            if gravity(verdict.action) > gravity(decisive.action) {
                decisive = verdict;
            }
        }
        Decision {
            action: decisive.action,
            answer: decisive.answer,
            row: decisive.row.to_owned(),
            redactions,
            unknown_fields,
        }
    }

    /// What is said of the request as a whole, and of each finding in it, in their order.
    pub fn verdicts(&self, question: Question<'_>) -> (Verdict<'_>, Vec<Verdict<'_>>) {
        if question.destination.kind == DestinationKind::Conversation {
            let verdict = self.default("conversation", Action::Allow);
            return (verdict, vec![verdict; question.findings.len()]);
        }
        let rows: Vec<&Row> = self.rows.iter().filter(|row| row.names_request(&question)).collect();
        let by_field = rows.iter().any(|row| row.looks_at_fields());
        // A batch holds the same few findings in each of its events.
        let mut seen: HashMap<(*const u8, Confidence), Verdict<'_>> = HashMap::new();
        let verdict = |finding: &Finding| match rows.iter().find(|row| row.names_finding(finding)) {
            Some(row) => self.by(row),
            None => self.default("default.finding", self.defaults.finding),
        };
        let findings = question.findings.iter().map(|finding| {
            if by_field {
                return verdict(finding);
            }
            let key = (ptr::from_ref(finding.rule.as_str()).cast::<u8>(), finding.confidence);
            *seen.entry(key).or_insert_with(|| verdict(finding))
        });
        let findings = findings.collect();
        (self.of_request(&rows, &question), findings)
    }

    /// The first row for the request as a whole; a row that would redact what cannot be read leaves it to the defaults.
    fn of_request<'p>(&'p self, rows: &[&'p Row], question: &Question<'_>) -> Verdict<'p> {
        let row = rows.iter().find(|row| !row.is_about_findings());
        if let Some(row) = row
            && row.action != Action::Redact
        {
            return self.by(row);
        }
        let mut verdict = self.request_default();
        if question.destination.kind == DestinationKind::Unknown {
            verdict = graver(verdict, self.default("unknown.destination", self.defaults.unknown_destination));
        }
        if let Some(reason) = question.not_inspected {
            let place = place(NotInspected::ALL, reason);
            verdict =
                graver(verdict, self.default(read::REASON_ROWS[place], self.defaults.not_inspected[place]));
        }
        verdict
    }

    fn request_default(&self) -> Verdict<'_> {
        self.default("default.request", self.defaults.request)
    }

    fn default(&self, row: &'static str, action: Action) -> Verdict<'_> {
        Verdict { action, row, answer: self.defaults.answer, by: None }
    }

    fn by<'p>(&'p self, row: &'p Row) -> Verdict<'p> {
        let answer = row.answer.unwrap_or(self.defaults.answer);
        Verdict { action: row.action, row: &row.id, answer, by: Some(row) }
    }
}

impl Verdict<'_> {
    /// Whether a row says so in so many words, and no default.
    fn allows_by_row(&self) -> bool {
        self.action == Action::Allow && self.by.is_some()
    }
}

/// How much of a request an action takes away.
const fn gravity(action: Action) -> u8 {
    match action {
        Action::Allow => 0,
        Action::Redact => 1,
        Action::Block => 2,
    }
}

fn graver<'p>(one: Verdict<'p>, other: Verdict<'p>) -> Verdict<'p> {
    if gravity(other.action) > gravity(one.action) { other } else { one }
}

/// Where `wanted` stands among all of its kind.
fn place<T: PartialEq>(all: &[T], wanted: T) -> usize {
    all.iter().position(|one| *one == wanted).expect("`all` holds every variant")
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
