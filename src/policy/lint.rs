//! What is wrong with a policy that can be read: names of nothing, and rows that no request ever reaches.

use std::fmt;

use crate::model::{Confidence, DestinationKind, PathPattern, Place, Severity, nearest};

use super::{Policy, Row};

/// The names that a policy may refer to.
#[derive(Clone, Debug, Default)]
pub struct Names<'n> {
    /// Destinations and what they are for.
    pub destinations: Vec<(&'n str, DestinationKind)>,
    /// Rules: name, category, severity.
    pub rules: Vec<(&'n str, &'n str, Severity)>,
}

/// Something that is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    /// Where the row is written.
    pub place: Place,
    /// The row.
    pub row: String,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: row `{}`: {}", self.place, self.row, self.why)
    }
}

impl Policy {
    /// References to what does not exist: a row with one protects nobody.
    pub fn unknown_names(&self, names: &Names<'_>) -> Vec<Lint> {
        let mut lints = Vec::new();
        for row in &self.rows {
            let destinations = names.destinations.iter().map(|(id, _)| *id);
            let rules = names.rules.iter().map(|(id, ..)| *id);
            let mut categories: Vec<&str> = names.rules.iter().map(|(_, category, _)| *category).collect();
            categories.sort_unstable();
            categories.dedup();
            lints.extend(unknown(row, "destination", &row.destinations, &destinations.collect::<Vec<_>>()));
            lints.extend(unknown(row, "rule", &row.rules, &rules.collect::<Vec<_>>()));
            lints.extend(unknown(row, "category", &row.categories, &categories));
        }
        lints
    }

    /// Rows that decide nothing, because rows above them always decide first.
    ///
    /// Conditions that depend on more than names (hosts, paths, signals, fields, reasons) are taken to match in the row
    /// that is looked at, and not to match in those above, so that no row is called unreachable that is not.
    pub fn unreachable_rows(&self, names: &Names<'_>) -> Vec<Lint> {
        let cases = cases(names);
        let mut lints = Vec::new();
        for (at, row) in self.rows.iter().enumerate() {
            let above: Vec<&Row> =
                self.rows[..at].iter().filter(|above| is_plain(above) || is_as_narrow(above, row)).collect();
            let is_reached = cases
                .iter()
                .any(|case| case.is_met_by(row) && !above.iter().any(|above| case.is_met_by(above)));
            if !is_reached && cases.iter().any(|case| case.is_met_by(row)) {
                let why = "is never reached: the rows above decide everything that it is about".to_owned();
                lints.push(Lint { place: row.place.clone(), row: row.id.clone(), why });
            }
        }
        lints
    }
}

fn unknown(row: &Row, what: &str, globs: &[PathPattern], known: &[&str]) -> Vec<Lint> {
    let unknown = globs.iter().filter(|glob| !known.iter().any(|name| glob.matches_segments_of(name)));
    unknown
        .map(|glob| {
            let name = glob.as_str();
            let why = match nearest(name, known.iter().copied()) {
                _ if name.contains(['*', '{']) => format!("no {what} is called as `{name}`"),
                Some(meant) => format!("there is no {what} `{name}`; did you mean `{meant}`?"),
                None => format!("there is no {what} `{name}`"),
            };
            Lint { place: row.place.clone(), row: row.id.clone(), why }
        })
        .collect()
}

/// Something that a row may be about: a request, or a finding in it.
struct Case<'n> {
    destination: &'n str,
    kind: DestinationKind,
    finding: Option<(&'n str, &'n str, Severity, Confidence)>,
}

fn cases<'n>(names: &Names<'n>) -> Vec<Case<'n>> {
    // Third parties are in no catalogue.
    let third_party = ("third-party", DestinationKind::ThirdParty);
    let mut cases = Vec::new();
    for (destination, kind) in names.destinations.iter().copied().chain([third_party]) {
        if kind == DestinationKind::Conversation {
            continue;
        }
        cases.push(Case { destination, kind, finding: None });
        for (rule, category, severity) in &names.rules {
            for confidence in Confidence::ALL {
                let finding = Some((*rule, *category, *severity, *confidence));
                cases.push(Case { destination, kind, finding });
            }
        }
    }
    cases
}

impl Case<'_> {
    fn is_met_by(&self, row: &Row) -> bool {
        let among = |globs: &[PathPattern], name: &str| {
            globs.is_empty() || globs.iter().any(|glob| glob.matches_segments_of(name))
        };
        let of_request = (row.kinds.is_empty() || row.kinds.contains(&self.kind))
            && among(&row.destinations, self.destination);
        let of_finding = match self.finding {
            None => !row.is_about_findings(),
            Some((rule, category, severity, confidence)) => {
                among(&row.rules, rule)
                    && among(&row.categories, category)
                    && row.severity.is_none_or(|least| severity >= least)
                    && row.confidence.is_none_or(|least| confidence >= least)
            }
        };
        of_request && of_finding
    }
}

/// Whether names alone say what a row is about.
fn is_plain(row: &Row) -> bool {
    row.hosts.is_empty()
        && row.paths.is_empty()
        && row.signals.is_empty()
        && row.not_inspected.is_empty()
        && row.fields.is_empty()
}

/// Whether two rows have the same conditions besides names.
fn is_as_narrow(one: &Row, other: &Row) -> bool {
    let texts = |globs: &[PathPattern]| globs.iter().map(|glob| glob.as_str().to_owned()).collect::<Vec<_>>();
    one.hosts == other.hosts
        && texts(&one.paths) == texts(&other.paths)
        && one.signals == other.signals
        && one.not_inspected == other.not_inspected
        && texts(&one.fields) == texts(&other.fields)
}
