//! What a check comes to: verdicts, the records that they rest on, what is missing, and what could not be seen. Every
//! type is written as JSON by its own names; renderers and reports read these and judge nothing themselves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    compliance::{Ended, Expectation, SourceClass, Subject},
    model::{ClientVersion, DestinationId, EffectiveSwitches, ParseWordError},
};

crate::model::words! {
    /// What became of a promise. Declared from the worst to the best.
    Verdict {
        /// It was broken, and records show it.
        Fail = "fail",
        /// It could not be told; what is missing is named.
        Inconclusive = "inconclusive",
        /// It held, and the same run shows that it would have been seen otherwise.
        Pass = "pass",
        /// The switch does not reach this destination; nothing was promised.
        Unaffected = "unaffected",
    }
}

crate::model::words! {
    /// What became of a published statement.
    ClaimVerdict {
        /// Records contradict it.
        Refuted = "refuted",
        /// What was recorded cannot tell.
        Untested = "untested",
        /// It held in what was recorded.
        Upheld = "upheld",
    }
}

crate::model::words! {
    /// Where a result comes from.
    ResultKind {
        /// What somebody asked for with this check.
        Assertion = "assertion",
        /// A promise of `controls.toml`.
        Control = "control",
    }
}

crate::model::words! {
    /// What a pass lacks.
    MissingKind {
        /// There may be a way around us.
        Bypass = "bypass",
        /// Nobody knows which client it was, and the promise is not for all.
        ClientVersion = "client-version",
        /// The log holds no fields to look at.
        Fields = "fields",
        /// Connections that may have been for it were not decrypted.
        Interception = "interception",
        /// Nothing was sent in which it could have been.
        Occasion = "occasion",
        /// The client was not seen at work.
        PositiveControl = "positive-control",
        /// Records were lost.
        Records = "records",
        /// It was not watched for long enough, and not to the end.
        Time = "time",
        /// Requests to it could not be read, or not wholly.
        Unread = "unread",
    }
}

/// How a check ends, for an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// What was promised held.
    Holds,
    /// Nothing was broken, but something could not be told.
    CouldNotTell,
    /// Something was broken.
    Violated,
}

/// Who says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Where it stands.
    pub text: Box<str>,
    /// What kind of source that is.
    pub class: SourceClass,
}

/// One record that a verdict rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The flow's id, or its place in a recording: `12-7`, `#3`.
    pub flow: Box<str>,
    /// When, in milliseconds since 1970 (UTC).
    pub time_ms: i64,
    /// Whom it was for.
    pub destination: DestinationId,
    /// What was seen, without any value: `POST api.anthropic.com/api/claude_code/metrics`.
    pub what: Box<str>,
    /// The field, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Box<str>>,
    /// The rule that found it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Box<str>>,
    /// The value as far as it may be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<Box<str>>,
}

/// What a pass lacks, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// In a word.
    pub what: MissingKind,
    /// In a sentence.
    pub detail: Box<str>,
}

impl Missing {
    pub(super) fn new(what: MissingKind, detail: impl Into<Box<str>>) -> Self {
        Self { what, detail: detail.into() }
    }
}

/// A failure that somebody accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Accepted {
    /// Why.
    pub reason: Box<str>,
    /// The last day, `2027-01-31`.
    pub expires: Box<str>,
}

/// One promise and one destination.
#[derive(Clone, Debug, Serialize)]
pub struct ControlResult {
    /// `CONTROL/DESTINATION`, stable between runs.
    pub id: Box<str>,
    /// Where it comes from.
    pub kind: ResultKind,
    /// The control or assertion.
    pub control: Box<str>,
    /// What it promises.
    pub title: Box<str>,
    /// Whom it is about; none for an assertion about everybody.
    pub destination: Option<DestinationId>,
    /// What was expected.
    pub expect: Expectation,
    /// What became of it.
    pub verdict: Verdict,
    /// Whether the verdict counts: not where nothing was promised.
    pub is_binding: bool,
    /// Why, in a sentence.
    pub because: Box<str>,
    /// The records: the first 20.
    pub evidence: Vec<Evidence>,
    /// How many records there are in all.
    pub evidence_total: u64,
    /// What a pass lacks.
    pub missing: Vec<Missing>,
    /// What else a reader should know.
    pub notes: Vec<Box<str>>,
    /// Who promised it.
    pub source: Source,
    /// Set when the failure was accepted, and still is.
    pub accepted: Option<Accepted>,
}

impl ControlResult {
    /// What it adds to the outcome.
    pub fn outcome(&self) -> Outcome {
        match self.verdict {
            _ if !self.is_binding => Outcome::Holds,
            Verdict::Fail if self.accepted.is_none() => Outcome::Violated,
            Verdict::Inconclusive => Outcome::CouldNotTell,
            Verdict::Fail | Verdict::Pass | Verdict::Unaffected => Outcome::Holds,
        }
    }
}

/// One published statement.
#[derive(Clone, Debug, Serialize)]
pub struct ClaimResult {
    /// The claim.
    pub id: Box<str>,
    /// What was published.
    pub statement: Box<str>,
    /// What became of it.
    pub verdict: ClaimVerdict,
    /// Why, in a sentence.
    pub because: Box<str>,
    /// The records that it rests on.
    pub evidence: Vec<Evidence>,
    /// How many there are in all.
    pub evidence_total: u64,
    /// What it lacks to be upheld.
    pub missing: Vec<Missing>,
    /// Where it was published.
    pub source: Source,
    /// Set when somebody accepted that it is refuted.
    pub accepted: Option<Accepted>,
}

/// Connections to one host that were not decrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnreadHost {
    /// Host and port.
    pub authority: Box<str>,
    /// Why, in the log's word.
    pub reason: Box<str>,
    /// How many flows.
    pub flows: u64,
}

/// Who was told something about which no promise is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unpromised {
    /// The destination.
    pub destination: DestinationId,
    /// How many requests.
    pub requests: u64,
}

/// What was watched, and what could not be seen.
#[derive(Clone, Debug, Serialize)]
pub struct Coverage {
    /// Requests in all.
    pub requests: u64,
    /// Tunnels in all.
    pub tunnels: u64,
    /// Answered requests of the conversation: the positive control.
    pub conversations: u64,
    /// From when, in milliseconds since 1970 (UTC).
    pub first_ms: i64,
    /// Until when.
    pub last_ms: i64,
    /// How it ended.
    pub ended: Ended,
    /// Versions of the client that it named itself, oldest first.
    pub versions_seen: Vec<ClientVersion>,
    /// What was not decrypted or not read, and why.
    pub unread: Vec<UnreadHost>,
}

/// Everything about one run or one recording.
#[derive(Clone, Debug, Serialize)]
pub struct SubjectReport {
    /// Which.
    pub subject: Subject,
    /// The client's version, by which controls were chosen.
    pub client_version: Option<ClientVersion>,
    /// What the client was told; none if nobody knows.
    pub told: Option<EffectiveSwitches>,
    /// What was watched.
    pub coverage: Coverage,
    /// Promises and assertions.
    pub results: Vec<ControlResult>,
    /// Published statements.
    pub claims: Vec<ClaimResult>,
    /// Whether refuted claims count.
    pub claims_count: bool,
    /// Who was told something without any promise.
    pub unpromised: Vec<Unpromised>,
}

/// What a check comes to.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// Each run, or the recording.
    pub subjects: Vec<SubjectReport>,
    /// Accepted findings that no longer occur, or have expired.
    pub baseline_notes: Vec<Box<str>>,
}

/// How many results came to what; only those that count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Tally {
    pub pass: u64,
    pub fail: u64,
    pub inconclusive: u64,
    pub accepted: u64,
}

impl CheckReport {
    /// The worst of all.
    pub fn outcome(&self) -> Outcome {
        let results =
            self.subjects.iter().flat_map(|subject| subject.results.iter().map(ControlResult::outcome));
        let claims = self.subjects.iter().filter(|subject| subject.claims_count).flat_map(|subject| {
            subject.claims.iter().map(|claim| match claim.verdict {
                ClaimVerdict::Refuted if claim.accepted.is_none() => Outcome::Violated,
                ClaimVerdict::Untested => Outcome::CouldNotTell,
                ClaimVerdict::Refuted | ClaimVerdict::Upheld => Outcome::Holds,
            })
        });
        let worst = results.chain(claims).max();
        // Without anything to watch, or to hold it against, nothing was checked.
        let is_checked = |subject: &SubjectReport| subject.told.is_some() || !subject.results.is_empty();
        if self.subjects.is_empty() || !self.subjects.iter().all(is_checked) {
            return worst.unwrap_or(Outcome::CouldNotTell).max(Outcome::CouldNotTell);
        }
        worst.unwrap_or(Outcome::Holds)
    }

    /// Counts the results that count.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for result in
            self.subjects.iter().flat_map(|subject| &subject.results).filter(|result| result.is_binding)
        {
            match result.verdict {
                Verdict::Fail if result.accepted.is_some() => tally.accepted += 1,
                Verdict::Fail => tally.fail += 1,
                Verdict::Inconclusive => tally.inconclusive += 1,
                Verdict::Pass => tally.pass += 1,
                Verdict::Unaffected => {}
            }
        }
        tally
    }

    /// How many claims came to what, by word.
    pub fn claims(&self) -> BTreeMap<ClaimVerdict, u64> {
        let mut counts = BTreeMap::new();
        for claim in self.subjects.iter().flat_map(|subject| &subject.claims) {
            *counts.entry(claim.verdict).or_default() += 1;
        }
        counts
    }
}
