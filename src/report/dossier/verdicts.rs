use serde::Serialize;

use crate::{
    compliance::{ClaimVerdict, Evidence, Missing, Source, SubjectReport, Verdict},
    report::check,
};

use super::Dossier;

/// A promise, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct VerdictLine {
    /// Of which run or recording.
    pub subject: String,
    /// `assertion`, `claim` or `control`.
    pub kind: &'static str,
    /// Its id.
    pub id: String,
    /// What was promised.
    pub promise: String,
    /// About whom, unless it is about everybody.
    pub destination: Option<String>,
    /// `accepted`, `fail`, `inconclusive`, `pass`, `unaffected`; `refuted`, `untested`, `upheld` of a claim.
    pub verdict: String,
    /// Whether it counts: not where nothing was promised.
    pub counts: bool,
    /// Why, in a sentence.
    pub why: String,
    /// What it lacks to hold, a sentence each.
    pub missing: Vec<String>,
    /// What else a reader should know.
    pub notes: Vec<String>,
    /// Where the promise was made, and of which class that source is.
    pub source: String,
    /// The first records that show it.
    pub evidence: Vec<Evidence>,
    /// How many there are in all.
    pub evidence_total: u64,
}

/// What was held against its promises.
#[derive(Clone, Debug, Serialize)]
pub struct CheckedLine {
    /// The run or recording.
    pub subject: String,
    /// The client's version, and who answers it.
    pub client: String,
    /// The version alone, if it is known.
    pub client_version: Option<String>,
    /// How much was watched, and how it ended.
    pub watched: String,
    /// Answered requests of the conversation: that it was at work, and seen.
    pub conversations: u64,
    /// Whether anybody knows what the client was told. Without it no promise of a switch can be judged.
    pub is_told: bool,
    /// Switches that were set, and where.
    pub switches: Vec<String>,
    /// Destinations that were told something about which no promise is in force.
    pub unpromised: Vec<String>,
}

impl VerdictLine {
    /// Whether somebody has to explain it.
    pub(super) fn is_bad(&self) -> bool {
        self.counts && [Verdict::Fail.as_str(), ClaimVerdict::Refuted.as_str()].contains(&&*self.verdict)
    }
}

impl Dossier {
    /// Adds what was promised about one run or recording, and what came of it.
    #[must_use]
    pub fn with_check(mut self, report: &SubjectReport) -> Self {
        let subject = report.subject.name();
        self.checked.push(CheckedLine {
            subject: subject.clone(),
            client: check::client(report),
            client_version: report.client_version.map(|version| version.to_string()),
            watched: check::watched(report),
            conversations: report.coverage.conversations,
            is_told: report.told.is_some(),
            switches: check::switches(report),
            unpromised: report.unpromised.iter().map(|it| it.destination.as_str().to_owned()).collect(),
        });
        self.verdicts.extend(check::sorted(report).into_iter().map(|result| VerdictLine {
            subject: subject.clone(),
            kind: result.kind.as_str(),
            id: result.id.to_string(),
            promise: result.title.to_string(),
            destination: result.destination.as_ref().map(|id| id.as_str().to_owned()),
            verdict: check::word(result).to_owned(),
            counts: result.is_binding,
            why: result.because.to_string(),
            missing: sentences(&result.missing, &result.because),
            notes: result.notes.iter().map(ToString::to_string).collect(),
            source: source(&result.source),
            evidence: result.evidence.clone(),
            evidence_total: result.evidence_total,
        }));
        let mut claims: Vec<_> = report.claims.iter().collect();
        claims.sort_by_key(|claim| match claim.verdict {
            ClaimVerdict::Refuted => 0,
            ClaimVerdict::Upheld => 1,
            ClaimVerdict::Untested => 2,
        });
        self.verdicts.extend(claims.into_iter().map(|claim| VerdictLine {
            subject: subject.clone(),
            kind: "claim",
            id: claim.id.to_string(),
            promise: claim.statement.to_string(),
            destination: None,
            verdict: claim.verdict.as_str().to_owned(),
            counts: claim.accepted.is_none(),
            why: claim.because.to_string(),
            missing: sentences(&claim.missing, &claim.because),
            notes: Vec::new(),
            source: source(&claim.source),
            evidence: claim.evidence.clone(),
            evidence_total: claim.evidence_total,
        }));
        self
    }
}

/// What is missing, without what was said already.
fn sentences(missing: &[Missing], said: &str) -> Vec<String> {
    missing.iter().filter(|it| *it.detail != *said).map(|it| it.detail.to_string()).collect()
}

fn source(source: &Source) -> String {
    format!("{}, {}", source.class, source.text)
}
