use crate::{
    compliance::{CheckReport, ClaimVerdict, ControlResult, Outcome, SubjectReport, Verdict},
    report::{
        View,
        check::{client, sorted, sum, switches, watched, word},
        sanitize,
        text::{self, Ink},
    },
};

/// Verdicts for people: one line each, and beneath what is broken or missing its reason and the records.
pub fn table(report: &CheckReport, view: &View) -> String {
    let mut page = Page { view, columns: view.columns(), out: String::new() };
    for subject in &report.subjects {
        page.subject(subject);
    }
    for note in &report.baseline_notes {
        page.line(Ink::Medium, "", &format!("baseline: {note}"));
    }
    page.out.push_str(&last(report, Some(view)));
    page.out
}

/// The line that a check ends with.
pub fn last_line(report: &CheckReport) -> String {
    last(report, None)
}

fn last(report: &CheckReport, view: Option<&View>) -> String {
    let ink = match report.outcome() {
        Outcome::CouldNotTell => Ink::Medium,
        Outcome::Holds => Ink::Good,
        Outcome::Violated => Ink::High,
    };
    let line = sum(report);
    let line = view.map_or_else(|| line.clone(), |view| view.paint(ink, &line));
    format!("{line}\n")
}

struct Page<'v> {
    view: &'v View,
    columns: usize,
    out: String,
}

impl Page<'_> {
    fn subject(&mut self, subject: &SubjectReport) {
        let head = format!("{}: {}", sanitize(&subject.subject.name()), client(subject));
        self.line(Ink::Bold, "", &head);
        self.line(Ink::Plain, "  ", &watched(subject));
        if subject.told.is_none() {
            let why = "nobody knows what the client was told; say it with --assume or --assume-settings";
            self.wrapped(Ink::Medium, "  ", why);
        }
        for switch in switches(subject) {
            self.line(Ink::Plain, "  ", &switch);
        }
        self.out.push('\n');
        let control = subject.results.iter().map(|result| text::width(&result.control)).max().unwrap_or(0);
        let room = self.columns.saturating_sub(VERDICT + 2 + DESTINATION);
        let control = control.clamp("CONTROL".len(), CONTROL.min(room));
        if !subject.results.is_empty() {
            let heading =
                format!("{}{}  DESTINATION", text::left("VERDICT", VERDICT), text::left("CONTROL", control));
            self.line(Ink::Dim, "", &heading);
        }
        for result in sorted(subject).into_iter().filter(|result| result.is_binding) {
            self.result(result, control);
        }
        self.unbinding(subject);
        self.claims(subject);
        if !subject.unpromised.is_empty() {
            let told =
                subject.unpromised.iter().map(|told| format!("{} ({})", told.destination, told.requests));
            let told = told.collect::<Vec<_>>().join(", ");
            self.out.push('\n');
            self.wrapped(Ink::Plain, "", &format!("sent, and no promise in force speaks of it: {told}"));
        }
        let hosts = subject
            .coverage
            .unread
            .iter()
            .map(|host| format!("{} ({}, {})", host.authority, host.reason, host.flows));
        let hosts: Vec<String> = hosts.collect();
        if !hosts.is_empty() {
            self.out.push('\n');
            self.wrapped(Ink::Dim, "", &format!("not read: {}", hosts.join(", ")));
        }
        self.out.push('\n');
    }

    fn result(&mut self, result: &ControlResult, control: usize) {
        let ink = match (result.is_binding, result.verdict) {
            (false, _) => Ink::Dim,
            (true, Verdict::Fail) if result.accepted.is_some() => Ink::Low,
            (true, Verdict::Fail) => Ink::High,
            (true, Verdict::Inconclusive) => Ink::Medium,
            (true, Verdict::Pass) => Ink::Good,
            (true, Verdict::Unaffected) => Ink::Dim,
        };
        let destination = result.destination.as_ref().map_or("", |id| id.as_str());
        let rest = self.columns.saturating_sub(VERDICT + control + 2);
        let destination = text::fit(&sanitize(destination), rest).into_owned();
        let verdict = self.view.paint(ink, text::left(word(result), VERDICT));
        let name = text::left(&sanitize(&result.control), control);
        self.out.push_str(format!("{verdict}{name}  {destination}").trim_end());
        self.out.push('\n');
        if !result.is_binding || result.verdict == Verdict::Pass {
            return;
        }
        self.wrapped(Ink::Plain, INDENT, &result.because);
        for missing in result.missing.iter().skip(1).take(SHOWN) {
            self.wrapped(Ink::Plain, INDENT, &missing.detail);
        }
        for evidence in result.evidence.iter().take(SHOWN) {
            let path = evidence.path.as_deref().map_or_else(String::new, |path| format!(" {path}"));
            self.line(Ink::Dim, INDENT, &format!("{} {}{path}", evidence.flow, evidence.what));
        }
        if let Some(more) = result.evidence_total.checked_sub(SHOWN as u64).filter(|more| *more > 0) {
            self.line(Ink::Dim, INDENT, &format!("and {more} more"));
        }
        for note in &result.notes {
            self.wrapped(Ink::Dim, INDENT, note);
        }
        if let Some(accepted) = &result.accepted {
            self.wrapped(
                Ink::Low,
                INDENT,
                &format!("accepted until {}: {}", accepted.expires, accepted.reason),
            );
        }
    }

    /// What no verdict counts for, in a line each: whom a switch does not reach, and of whom nobody says.
    fn unbinding(&mut self, subject: &SubjectReport) {
        for (verdict, says) in [
            (Verdict::Inconclusive, "nobody says whether the switches reach"),
            (Verdict::Unaffected, "the switches do not reach"),
        ] {
            let meant =
                subject.results.iter().filter(|result| !result.is_binding && result.verdict == verdict);
            let mut names: Vec<String> = meant
                .filter_map(|result| {
                    let sent = if result.evidence_total > 0 {
                        format!(" ({})", result.evidence_total)
                    } else {
                        String::new()
                    };
                    Some(format!("{}{sent}", result.destination.as_ref()?))
                })
                .collect();
            names.sort_unstable();
            names.dedup();
            if !names.is_empty() {
                self.wrapped(Ink::Dim, "", &format!("{says}: {}", names.join(", ")));
            }
        }
    }

    fn claims(&mut self, subject: &SubjectReport) {
        if subject.claims.is_empty() {
            return;
        }
        self.out.push('\n');
        self.line(Ink::Dim, "", "CLAIM");
        let (untested, tested): (Vec<_>, Vec<_>) =
            subject.claims.iter().partition(|claim| claim.verdict == ClaimVerdict::Untested);
        for claim in tested {
            let ink = match claim.verdict {
                ClaimVerdict::Refuted => Ink::High,
                ClaimVerdict::Untested => Ink::Dim,
                ClaimVerdict::Upheld => Ink::Good,
            };
            let verdict = self.view.paint(ink, text::left(claim.verdict.as_str(), VERDICT));
            let rest = self.columns.saturating_sub(VERDICT);
            self.out.push_str(&format!("{verdict}{}\n", text::fit(&sanitize(&claim.statement), rest)));
            if claim.verdict == ClaimVerdict::Refuted {
                let mut flows: Vec<&str> = claim.evidence.iter().map(|evidence| &*evidence.flow).collect();
                flows.dedup();
                flows.truncate(SHOWN);
                let line = format!("{}: {}", claim.because, flows.join(", "));
                self.wrapped(Ink::Plain, INDENT, &line);
            }
        }
        if !untested.is_empty() {
            let ids: Vec<&str> = untested.iter().map(|claim| &*claim.id).collect();
            self.wrapped(Ink::Dim, "", &format!("untested: {}", ids.join(", ")));
        }
    }

    /// One line, cut where the page ends.
    fn line(&mut self, ink: Ink, indent: &str, line: &str) {
        let rest = self.columns.saturating_sub(indent.len());
        let line = text::fit_middle(&sanitize(line), rest).into_owned();
        self.out.push_str(indent);
        self.out.push_str(&self.view.paint(ink, line));
        self.out.push('\n');
    }

    /// As many lines as it takes.
    fn wrapped(&mut self, ink: Ink, indent: &str, line: &str) {
        let rest = self.columns.saturating_sub(indent.len());
        let mut current = String::new();
        let safe = sanitize(line).into_owned();
        for word in safe.split(' ') {
            if !current.is_empty() && text::width(&current) + 1 + text::width(word) > rest {
                self.line(ink, indent, &std::mem::take(&mut current));
            }
            if !current.is_empty() {
                current.push(' ');
            }
            current.push_str(word);
        }
        self.line(ink, indent, &current);
    }
}

/// Columns of a verdict: `inconclusive` and a gap.
const VERDICT: usize = 14;

/// Columns of a control, at most: destinations are what a reader looks for.
const CONTROL: usize = 36;

/// Columns of a destination, at least.
const DESTINATION: usize = 14;

/// Records shown of each verdict; JSON has them all.
const SHOWN: usize = 4;

/// As wide as a verdict's column.
const INDENT: &str = "              ";
