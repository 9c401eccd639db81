use std::collections::{HashMap, HashSet};

use crate::{
    model::{Answer, ByteSize, CapturedField, Finding, FlowRecord, Severity},
    report::{
        View, sanitize,
        text::{self, Ink},
        words,
    },
};

/// One flow in full: what it was, what was decided, and its decoded fields as a tree with the findings marked.
pub fn show(flow: &FlowRecord, view: &View) -> String {
    let mut page = Page { view, columns: view.columns(), out: String::new() };
    page.head(flow);
    page.findings(flow);
    page.changes(flow);
    page.fields(flow);
    page.out
}

struct Page<'v> {
    view: &'v View,
    columns: usize,
    out: String,
}

impl Page<'_> {
    fn head(&mut self, flow: &FlowRecord) {
        let (opening, closing) = (&flow.opening, flow.closing.as_ref());
        let time = self.view.time(opening.time_ms, "%Y-%m-%d %H:%M:%S");
        let title = format!("flow {}", opening.id);
        self.line(&format!("{}  {}", self.view.paint(Ink::Bold, title), self.view.paint(Ink::Dim, time)));
        self.blank();
        self.entry("to", Ink::Plain, &format!("{} ({})", opening.destination, opening.destination_kind));
        let scheme = if opening.scheme.is_empty() { String::new() } else { format!("{}://", opening.scheme) };
        let url = format!("{} {scheme}{}{}", opening.method, words::host(flow), opening.path);
        self.entry("request", Ink::Plain, &url);
        if let Some(user_agent) = &opening.user_agent {
            self.entry("client", Ink::Plain, &format!("{user_agent}  {}", opening.version));
        }
        let sent = ByteSize::bytes(words::request_bytes(flow)).to_string();
        let format =
            opening.format.as_deref().map(|format| format!(", read as {format}")).unwrap_or_default();
        self.entry("body", Ink::Plain, &format!("{sent}{format}"));
        if let Some(closing) = closing {
            let status =
                closing.status.map_or_else(|| "none".to_owned(), |status| format!("status {status}"));
            let bytes = ByteSize::bytes(closing.response_bytes);
            self.entry("answer", Ink::Plain, &format!("{status}, {bytes}, after {} ms", closing.duration_ms));
        }
        self.entry(
            "decision",
            Ink::Plain,
            &format!("{}, by policy row `{}`", opening.action, opening.policy_row),
        );
        match opening.answered {
            Some(Answer::Sink) => {
                let what = "synthetic: the client was told that it arrived; nothing left this machine";
                self.entry("answered", Ink::Medium, what);
            }
            Some(Answer::Reject) => self.entry("answered", Ink::Medium, "here, with an error; nothing left"),
            None => {}
        }
        if let Some(hash) = &opening.policy_hash {
            self.entry("policy", Ink::Dim, &hash[..hash.floor_char_boundary(12)]);
        }
        let fate = match closing {
            Some(closing) => format!("{} ({})", words::fate(flow), closing.outcome),
            None => "open: still going on, or plainsight was killed".to_owned(),
        };
        self.entry("outcome", Ink::Plain, &fate);
        if let Some(error) = closing.and_then(|closing| closing.error.as_deref()) {
            self.entry("error", Ink::High, error);
        }
        if let Some(reason) = words::not_inspected(flow) {
            self.entry("not read", Ink::Medium, &format!("{} ({reason})", words::reason(reason)));
        }
        if !opening.news.is_empty() {
            self.entry("new", Ink::Medium, &opening.news.join(", "));
        }
        if let Some(session) = opening.session {
            self.entry("session", Ink::Dim, &session.to_string());
        }
    }

    /// Every rule that found something, and what was found outside the fields that are shown below.
    fn findings(&mut self, flow: &FlowRecord) {
        let findings = &flow.opening.findings;
        let mut by_severity: Vec<String> = Vec::new();
        for severity in Severity::ALL.iter().rev() {
            match findings.iter().filter(|finding| finding.severity == *severity).count() {
                0 => {}
                count => by_severity.push(format!("{} {severity}", text::thousands(count as u64))),
            }
        }
        let worst = words::worst(flow);
        let ink = worst.map_or(Ink::Plain, Ink::of);
        let content = if by_severity.is_empty() { "none".to_owned() } else { by_severity.join(", ") };
        self.entry("findings", ink, &content);
        let shown: HashSet<Box<str>> = flow.opening.fields.iter().map(|field| field.path).collect();
        let elsewhere: Vec<&Finding> =
            findings.iter().filter(|finding| !shown.contains(finding.path.as_str())).collect();
        if elsewhere.is_empty() {
            return;
        }
        self.section(if shown.is_empty() { "FINDINGS" } else { "FINDINGS OUTSIDE THE FIELDS" });
        for finding in elsewhere.iter().take(ELSEWHERE) {
            self.value_line(0, &sanitize(finding.path.as_str()), &finding.preview, &[finding]);
        }
        if let Some(rest @ 1..) = elsewhere.len().checked_sub(ELSEWHERE) {
            self.line(&self.view.paint(Ink::Dim, format!("  … and {} more", text::thousands(rest as u64))));
        }
    }

    /// What was sent on is what was sent but for these.
    fn changes(&mut self, flow: &FlowRecord) {
        let Some(rewriting) = &flow.opening.rewriting else { return };
        self.section("CHANGED BEFORE IT LEFT");
        for edit in rewriting.edits.iter().take(CHANGES) {
            let with = match (&*edit.with, edit.after) {
                ("", 0) => String::new(),
                ("", _) => " ***".to_owned(),
                (with, _) => format!(" {with}"),
            };
            let change = format!("{} bytes -> {} {}{with}", edit.before, edit.after, edit.method);
            self.value_line(0, &sanitize(edit.path.as_str()), &change, &[]);
        }
        let rest = rewriting.edits.len().saturating_sub(CHANGES) as u64 + u64::from(rewriting.edits_left_out);
        if rest > 0 {
            self.line(&self.view.paint(Ink::Dim, format!("  … and {} more", text::thousands(rest))));
        }
    }

    fn fields(&mut self, flow: &FlowRecord) {
        let fields: Vec<CapturedField> = flow.opening.fields.iter().collect();
        if fields.is_empty() {
            return;
        }
        let mut marks: HashMap<&str, Vec<&Finding>> = HashMap::new();
        for finding in &flow.opening.findings {
            marks.entry(finding.path.as_str()).or_default().push(finding);
        }
        let paths: Vec<Vec<&str>> = fields.iter().map(|field| segments(&field.path)).collect();
        self.section("FIELDS");
        // Depths at which a branch was printed, so that what follows is indented beneath it.
        let mut branches: Vec<usize> = vec![0];
        for (index, (field, path)) in fields.iter().zip(&paths).enumerate() {
            let shared = index.checked_sub(1).map_or(0, |before| shared(&paths[before], path));
            while branches.len() > 1 && branches.last().is_some_and(|depth| *depth > shared) {
                branches.pop();
            }
            let mut depth = branches.last().copied().unwrap_or(0);
            let ahead = paths
                .get(index + 1)
                .map_or(0, |next| self::shared(path, next))
                .min(path.len().saturating_sub(1));
            if ahead > depth {
                self.branch(branches.len() - 1, &path[depth..ahead]);
                branches.push(ahead);
                depth = ahead;
            }
            let name = sanitize(&path[depth..].concat()).into_owned();
            self.field(branches.len() - 1, &name, field, &marks);
        }
        if flow.opening.fields_left_out > 0 {
            let rest = text::count(u64::from(flow.opening.fields_left_out), "more field");
            self.line(&self.view.paint(Ink::Dim, format!("  … and {rest} that were not kept")));
        }
    }

    fn branch(&mut self, level: usize, path: &[&str]) {
        let indent = self.indent(level);
        let name = path.concat();
        let name = name.trim_end_matches('/');
        let name = text::fit_middle(&sanitize(name), self.columns.saturating_sub(indent)).into_owned();
        self.line(&format!("{:indent$}{}", "", self.view.paint(Ink::Low, name)));
    }

    fn field(
        &mut self,
        level: usize,
        name: &str,
        field: &CapturedField,
        marks: &HashMap<&str, Vec<&Finding>>,
    ) {
        let marks = marks.get(&*field.path).map_or(&[][..], Vec::as_slice);
        self.value_line(level, name, &field.value, marks);
    }

    /// `name  value  ◀ rule severity`: the mark always shows, the value takes what the others leave.
    fn value_line(&mut self, level: usize, name: &str, value: &str, marks: &[&Finding]) {
        let indent = self.indent(level);
        let room = self.columns.saturating_sub(indent);
        let mark = match marks {
            [] => String::new(),
            [only] => format!("  ◀ {} {}", sanitize(only.rule.as_str()), only.severity),
            [first, rest @ ..] => {
                format!("  ◀ {} {} +{}", sanitize(first.rule.as_str()), first.severity, rest.len())
            }
        };
        let mark = text::fit(&mark, room / 2).into_owned();
        let room = room.saturating_sub(text::width(&mark));
        let name = text::fit_middle(name, room.saturating_sub(SHORTEST_VALUE + 2)).into_owned();
        let value = sanitize(value);
        let value = text::fit(&value, room.saturating_sub(text::width(&name) + 2));
        let worst = marks.iter().map(|finding| finding.severity).max();
        let ink = worst.map_or(Ink::Plain, Ink::of);
        let name = self.view.paint(Ink::Dim, name);
        self.line(&format!(
            "{:indent$}{name}  {}{}",
            "",
            self.view.paint(ink, value),
            self.view.paint(ink, mark)
        ));
    }

    fn entry(&mut self, label: &str, ink: Ink, content: &str) {
        let content = text::fit(&sanitize(content), self.columns.saturating_sub(12)).into_owned();
        let label = self.view.paint(Ink::Dim, text::left(label, 8));
        self.line(&format!("  {label}  {}", self.view.paint(ink, content)));
    }

    fn section(&mut self, title: &str) {
        self.blank();
        self.line(&self.view.paint(Ink::Bold, title));
    }

    /// Deep nesting must not push the text out of sight.
    fn indent(&self, level: usize) -> usize {
        ((level + 1) * 2).min(self.columns / 3)
    }

    fn blank(&mut self) {
        self.out.push('\n');
    }

    fn line(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }
}

/// A path in pieces. They keep their escapes, so that what is shown can be pasted into a rule.
fn segments(path: &str) -> Vec<&str> {
    path.split_inclusive('/').collect()
}

fn shared(one: &[&str], other: &[&str]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// A name gives way so that at least this much of a value shows.
const SHORTEST_VALUE: usize = 12;

/// Most findings listed when their fields were not kept. `--json` has them all.
const ELSEWHERE: usize = 40;

/// Most changes on a page: a batch repeats the same few in each of its events.
const CHANGES: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{AppliedEdit, CapturedFields, FieldPath, Rewriting},
        report::testing,
    };
    use unicode_width::UnicodeWidthStr;

    #[test]
    fn changes_are_listed_with_what_came() {
        let mut record = testing::events();
        let edit = |path: &str, method: &str, with: &str| AppliedEdit {
            path: FieldPath::from_raw(path),
            method: method.into(),
            before: 17,
            after: 12,
            with: with.into(),
        };
        let edits = vec![edit("json:mail", "pseudonym", "anon-01234567"), edit("json:card", "mask", "")];
        record.opening.rewriting = Some(Rewriting { body_bytes: 9, edits, edits_left_out: 3 });

        let page = show(&record, &testing::view(100));

        assert!(page.contains("CHANGED BEFORE IT LEFT"), "{page}");
        assert!(page.contains("17 bytes -> 12 pseudonym anon-01234567"), "{page}");
        assert!(page.contains("17 bytes -> 12 mask ***"), "{page}");
        assert!(page.contains("… and 3 more"), "{page}");
    }

    #[test]
    fn a_flow_is_shown_with_its_findings_marked() {
        let page = show(&testing::events(), &testing::view(80));

        assert_eq!(page, include_str!("snapshots/show-80.txt"));
    }

    #[test]
    fn findings_are_listed_when_no_fields_were_kept() {
        let mut flow = testing::events();
        flow.opening.fields = CapturedFields::default();

        let page = show(&flow, &testing::view(100));

        assert!(page.contains("FINDINGS\n"), "{page}");
        assert!(page.contains("header:x-api-key"), "{page}");
    }

    // PITFALLS 32
    #[test]
    fn no_line_is_wider_than_the_terminal_and_none_is_dangerous() {
        let mut flow = testing::events();
        let hostile = "\x1b]8;;http://x\x07日本\u{202e}\r\n".repeat(30);
        flow.opening.path = hostile.clone().into();
        flow.opening.user_agent = Some(hostile.clone().into());
        flow.opening.news = vec![hostile.clone().into()];
        let deep = format!("json:{}", "a/".repeat(500));
        for path in
            [format!("{deep}x"), format!("{deep}y"), format!("json:{hostile}"), "json".into(), "".into()]
        {
            flow.opening.findings.push(testing::finding(&hostile, "pii", Severity::High, &path, "v"));
            flow.opening.fields.push(&path, &hostile);
        }

        for width in 40..=200 {
            let page = show(&flow, &testing::view(width));
            for line in page.lines() {
                assert!(line.width() <= width, "{} > {width}: {line}", line.width());
                assert!(!line.chars().any(char::is_control), "{line:?}");
            }
        }
    }
}
