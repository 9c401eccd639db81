use crate::{
    model::{Answer, ByteSize, DestinationKind},
    report::{
        Summary, Told, View, sanitize,
        text::{self, Ink},
        words,
    },
};

/// The one screen at the end of a run: who was told, what was personal, what stayed unseen, and where to look next.
pub fn screen(summary: &Summary, view: &View) -> String {
    let columns = view.columns().min(WIDEST);
    let name = name_width(summary, columns);
    let mut page = Page { view, columns, name, out: String::new() };
    page.head(summary);
    page.told(summary);
    page.answered(summary);
    page.found(summary);
    page.tunneled(summary);
    page.unread(summary);
    page.news(summary);
    page.lost(summary);
    page.next(summary);
    page.out
}

struct Page<'v> {
    view: &'v View,
    columns: usize,
    /// Columns for the first cell of every section, so that the numbers stand under each other.
    name: usize,
    out: String,
}

struct Cell {
    content: String,
    align: Align,
    width: usize,
    ink: Ink,
}

enum Align {
    Left,
    /// Flush left, and takes what is left of the line.
    Rest,
    Right,
}

impl Cell {
    fn left(content: &str, width: usize) -> Self {
        Self { content: content.to_owned(), align: Align::Left, width, ink: Ink::Plain }
    }

    fn number(content: &str) -> Self {
        Self { content: content.to_owned(), align: Align::Right, width: NUMBER, ink: Ink::Plain }
    }

    fn rest(content: &str) -> Self {
        Self { content: content.to_owned(), align: Align::Rest, width: 0, ink: Ink::Plain }
    }

    const fn none() -> Self {
        Self { content: String::new(), align: Align::Right, width: 0, ink: Ink::Plain }
    }

    fn ink(self, ink: Ink) -> Self {
        Self { ink, ..self }
    }
}

impl Page<'_> {
    fn head(&mut self, summary: &Summary) {
        let mut parts = Vec::new();
        match summary.runs().collect::<Vec<_>>().as_slice() {
            _ if summary.is_unstored() => parts.push("scan".to_owned()),
            [run] => parts.push(format!("run {run}")),
            [] => {}
            runs => parts.push(text::count(runs.len() as u64, "run")),
        }
        parts.push(text::count(summary.flows() - tunnels(summary), "request"));
        if tunnels(summary) > 0 {
            parts.push(text::count(tunnels(summary), "tunnel"));
        }
        if summary.flows() > 0 {
            parts.push(duration(summary.duration_ms()));
        }
        let rest = parts.join(" · ");
        let rest = text::fit(&rest, self.columns.saturating_sub(INDENT + 13)).into_owned();
        let line =
            format!("  {}  {}", self.view.paint(Ink::Bold, "plainsight"), self.view.paint(Ink::Dim, rest));
        self.line(&line);
    }

    fn told(&mut self, summary: &Summary) {
        let told = summary.told();
        if told.is_empty() {
            self.blank();
            self.line(match summary.is_unstored() {
                true => "  There is no request in it.",
                false => "  No request was decrypted: nothing of telemetry was seen.",
            });
            return;
        }
        let cells = |done: &str, request: &str, bytes: &str, findings: &str, worst: &str, ink| {
            let narrow = self.columns < ALL_NUMBERS;
            let bytes = if narrow { Cell::none() } else { Cell::number(bytes) };
            let worst = Cell::left(worst, 13).ink(ink);
            [Cell::number(request), bytes, Cell::number(findings), worst, Cell::rest(done)]
        };
        let heading = cells("done", "requests", "bytes", "findings", "worst", Ink::Dim);
        let rows: Vec<_> = told
            .iter()
            .take(DESTINATIONS)
            .map(|(id, told)| {
                let (findings, worst, ink) = findings(told);
                let requests = text::thousands(told.requests);
                let bytes = ByteSize::bytes(told.request_bytes).to_string();
                (id.as_str(), cells(&fates(told), &requests, &bytes, &findings, worst, ink))
            })
            .collect();
        self.section("WHO WAS TOLD", &heading, &rows);
        self.more(told.len(), DESTINATIONS, "destination");
    }

    /// A synthetic answer misleads the client on purpose, so it is always counted aloud.
    fn answered(&mut self, summary: &Summary) {
        for (how, what) in [
            (Answer::Sink, "answered here as the service would: nothing of it left"),
            (Answer::Reject, "refused with an error: nothing of it left"),
        ] {
            let count = summary.answered(how);
            if count > 0 {
                let line = format!("  {} {what}", text::count(count, "request"));
                let line = text::fit(&line, self.columns).into_owned();
                self.line(&self.view.paint(Ink::Medium, line));
            }
        }
    }

    fn found(&mut self, summary: &Summary) {
        let found = summary.found();
        if found.is_empty() {
            if summary.told().iter().any(|(_, told)| told.unread < told.requests) {
                self.blank();
                let line = "  No rule found anything personal in what was read.";
                self.line(&self.view.paint(Ink::Good, line));
            }
            return;
        }
        let cells = |values: &str, seen: &str, severity: &str, ink, whom: &dyn Fn(usize) -> String| {
            let narrow = self.columns < ALL_NUMBERS;
            let seen = if narrow { Cell::none() } else { Cell::number(seen) };
            let taken = INDENT + self.name + NUMBER + seen.width + 2 + 8 + 2;
            let whom = whom(self.columns.saturating_sub(taken));
            [Cell::number(values), seen, Cell::left(severity, 8).ink(ink), Cell::rest(&whom)]
        };
        let heading = cells("values", "seen", "severity", Ink::Dim, &|_| "told to".to_owned());
        let rows: Vec<_> = found
            .iter()
            .take(RULES)
            .map(|(rule, found)| {
                let destinations: Vec<_> =
                    found.destinations.iter().map(|id| sanitize(id.as_str())).collect();
                let (values, seen) = (found.values.len() as u64, found.findings);
                let ink = Ink::of(found.severity);
                let severity = found.severity.as_str();
                let whom = |columns| match destinations.as_slice() {
                    [] => "nobody".to_owned(),
                    some => some_of(some, columns),
                };
                (rule.as_str(), cells(&text::thousands(values), &text::thousands(seen), severity, ink, &whom))
            })
            .collect();
        self.section("PERSONAL OR SECRET", &heading, &rows);
        self.more(found.len(), RULES, "rule");
    }

    fn tunneled(&mut self, summary: &Summary) {
        let tunneled = summary.tunneled();
        if tunneled.is_empty() {
            return;
        }
        let cells = |tunnels: &str, sent: &str, received: &str| {
            [Cell::number(tunnels), Cell::number(sent), Cell::number(received)]
        };
        let size = |bytes| ByteSize::bytes(bytes).to_string();
        let rows: Vec<_> = tunneled
            .iter()
            .take(TUNNELS)
            .map(|(host, tunneled)| {
                let tunnels = text::thousands(tunneled.tunnels);
                (*host, cells(&tunnels, &size(tunneled.request_bytes), &size(tunneled.response_bytes)))
            })
            .collect();
        self.section("TUNNELLED, NOT READ", &cells("tunnels", "sent", "received"), &rows);
        self.more(tunneled.len(), TUNNELS, "host");
    }

    fn unread(&mut self, summary: &Summary) {
        let unread = summary.unread();
        if unread.is_empty() {
            return;
        }
        let cells = |times: &str, bytes: &str, why: &str, ink| {
            [Cell::number(times), Cell::number(bytes), Cell::rest(why).ink(ink)]
        };
        let rows: Vec<_> = unread
            .iter()
            .take(UNREAD)
            .map(|(reason, whom, unread)| {
                let bytes = ByteSize::bytes(unread.request_bytes).to_string();
                let why = words::reason(*reason);
                (*whom, cells(&text::thousands(unread.flows), &bytes, why, Ink::Medium))
            })
            .collect();
        self.section("COULD NOT BE READ", &cells("times", "bytes", "why", Ink::Dim), &rows);
        self.more(unread.len(), UNREAD, "line");
    }

    fn news(&mut self, summary: &Summary) {
        let news: Vec<_> = summary.news().collect();
        if news.is_empty() {
            return;
        }
        match summary.new_since_ms() {
            Some(time) => {
                self.plain_section(&format!("NEW SINCE {}", self.view.time(time, "%Y-%m-%d %H:%M")));
            }
            None => self.plain_section("NEW, NOT IN THE CATALOGUE"),
        }
        for (kind, what, flows) in news.iter().take(NEWS) {
            let (kind, what) = (sanitize(kind), sanitize(what));
            let kind = text::fit(&kind, 12);
            let times = if *flows > 1 { format!(" ×{}", text::thousands(*flows)) } else { String::new() };
            let room = self.columns.saturating_sub(INDENT + text::width(&kind) + 2 + text::width(&times));
            self.line(&format!("  {kind}  {}{times}", text::fit_tail(&what, room)));
        }
        self.more(news.len(), NEWS, "new thing");
    }

    fn lost(&mut self, summary: &Summary) {
        if summary.lost() > 0 {
            self.blank();
            let line = format!(
                "  {} could not be stored and are missing above.",
                text::count(summary.lost(), "record")
            );
            let line = text::fit(&line, self.columns).into_owned();
            self.line(&self.view.paint(Ink::Critical, line));
        }
    }

    fn next(&mut self, summary: &Summary) {
        if summary.flows() == 0 || summary.is_unstored() {
            self.sealed(summary);
            return;
        }
        self.blank();
        let log = match summary.runs().collect::<Vec<_>>().as_slice() {
            [run] => format!("plainsight log --run {run}"),
            _ => "plainsight log".to_owned(),
        };
        let example = summary.example().map_or_else(|| "ID".to_owned(), |id| id.to_string());
        let show = format!("plainsight show {example}");
        let (all, one) = ("every request: ", "one in full: ");
        let together = INDENT + all.len() + log.len() + 4 + one.len() + show.len();
        let paint = |label: &str, command: &str| {
            format!("{}{}", self.view.paint(Ink::Dim, label), self.view.paint(Ink::Bold, command))
        };
        let (all, one) = (paint(all, &log), paint(one, &show));
        if together <= self.columns {
            self.line(&format!("  {all}    {one}"));
        } else {
            self.line(&format!("  {all}"));
            self.line(&format!("  {one}"));
        }
        self.sealed(summary);
    }

    /// The head is for copying: it is never cut, however narrow the terminal.
    fn sealed(&mut self, summary: &Summary) {
        if let Some(head) = summary.head() {
            self.line(&format!("  {}{head}", self.view.paint(Ink::Dim, "sealed: ")));
        }
    }

    /// A blank line, a line of headings, and rows whose names all start alike.
    fn section<const N: usize>(&mut self, title: &str, heading: &[Cell; N], rows: &[(&str, [Cell; N])]) {
        self.blank();
        let title = text::left(title, self.name);
        let heading = self.row(&self.view.paint(Ink::Bold, title), heading, Some(Ink::Dim));
        self.line(&heading);
        for (name, cells) in rows {
            let name = sanitize(name);
            let row = self.row(&text::left(&text::fit_middle(&name, self.name), self.name), cells, None);
            self.line(&row);
        }
    }

    /// Joins cells as far as there are columns for them.
    fn row(&self, name: &str, cells: &[Cell], ink: Option<Ink>) -> String {
        let mut line = format!("  {name}");
        let mut left = self.columns.saturating_sub(INDENT + self.name);
        for cell in cells {
            let (gap, width) = match cell.align {
                Align::Left => (2, cell.width),
                Align::Rest => (2, left.saturating_sub(2)),
                Align::Right => (0, cell.width),
            };
            if gap + width > left || width == 0 {
                continue;
            }
            left -= gap + width;
            let content = match cell.align {
                Align::Left => text::left(&cell.content, width),
                Align::Rest => text::fit(&cell.content, width).into_owned(),
                Align::Right => text::right(&cell.content, width),
            };
            line.push_str(&" ".repeat(gap));
            line.push_str(&self.view.paint(ink.unwrap_or(cell.ink), content));
        }
        line
    }

    fn plain_section(&mut self, title: &str) {
        self.blank();
        let title = text::fit(title, self.columns.saturating_sub(INDENT)).into_owned();
        self.line(&format!("  {}", self.view.paint(Ink::Bold, title)));
    }

    fn more(&mut self, count: usize, shown: usize, noun: &str) {
        if let Some(rest @ 1..) = count.checked_sub(shown) {
            let line = format!("  … and {}", text::count(rest as u64, &format!("more {noun}")));
            self.line(&self.view.paint(Ink::Dim, line));
        }
    }

    fn blank(&mut self) {
        self.out.push('\n');
    }

    fn line(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }
}

fn tunnels(summary: &Summary) -> u64 {
    summary.tunneled().iter().map(|(_, tunneled)| tunneled.tunnels).sum()
}

fn name_width(summary: &Summary, columns: usize) -> usize {
    let width = |name: &str| text::width(&sanitize(name));
    let told = summary.told().into_iter().map(|(id, _)| width(id.as_str()));
    let found = summary.found().into_iter().map(|(rule, _)| width(rule.as_str()));
    let tunneled = summary.tunneled().into_iter().map(|(host, _)| width(host));
    let widest = told.chain(found).chain(tunneled).max().unwrap_or(0);
    let most = if columns < ALL_NUMBERS { 14 } else { 26.max(columns / 3) };
    widest.max(TITLE).min(most)
}

/// How many findings, the worst severity or why there is none, and in which ink.
fn findings(told: &Told) -> (String, &'static str, Ink) {
    match (told.kind, told.worst) {
        (DestinationKind::Conversation, None) => ("-".to_owned(), "not looked at", Ink::Dim),
        (_, Some(worst)) => (text::thousands(told.findings), worst.as_str(), Ink::of(worst)),
        (_, None) if told.unread == told.requests => ("?".to_owned(), "not read", Ink::Medium),
        (_, None) if told.unread > 0 => ("0".to_owned(), "read in part", Ink::Medium),
        (_, None) => ("0".to_owned(), "-", Ink::Dim),
    }
}

/// `sent`, or `sent, 1 failed`: what is most common goes without its number.
fn fates(told: &Told) -> String {
    let mut fates: Vec<_> = told.fates.iter().collect();
    fates.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut fates = fates.into_iter();
    let mut words = fates.next().map_or_else(String::new, |(fate, _)| (*fate).to_owned());
    for (fate, count) in fates {
        words.push_str(&format!(", {} {fate}", text::thousands(*count)));
    }
    words
}

/// As many names as fit, and the number of the others.
fn some_of(names: &[std::borrow::Cow<'_, str>], columns: usize) -> String {
    for shown in (1..=names.len()).rev() {
        let rest = names.len() - shown;
        let more = if rest > 0 { format!(" +{rest}") } else { String::new() };
        let text = names[..shown].join(", ") + &more;
        if text::width(&text) <= columns {
            return text;
        }
    }
    match names {
        [] => String::new(),
        [only] => text::fit(only, columns).into_owned(),
        names => text::fit(&text::count(names.len() as u64, "destination"), columns).into_owned(),
    }
}

fn duration(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{:.1} s", milliseconds as f64 / 1000.0),
        60_000..3_600_000 => format!("{} min {} s", milliseconds / 60_000, milliseconds / 1000 % 60),
        _ => format!("{} h {} min", milliseconds / 3_600_000, milliseconds / 60_000 % 60),
    }
}

/// Columns of a number: `1023 KiB`, and a blank before it.
const NUMBER: usize = 10;

/// With fewer columns than these some numbers go.
const ALL_NUMBERS: usize = 72;

/// The longest title over a column of names.
const TITLE: usize = 19;

/// Columns left free at the start of each line.
const INDENT: usize = 2;

/// Wider than this, lines are hard to follow.
const WIDEST: usize = 110;

// What makes the page fit a screen of 30 lines or so, whatever happened.
const DESTINATIONS: usize = 10;
const RULES: usize = 8;
const TUNNELS: usize = 3;
const UNREAD: usize = 4;
const NEWS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::RunId, report::testing};
    use unicode_width::UnicodeWidthStr;

    #[test]
    fn the_screen_tells_the_story_in_eighty_columns() {
        let page = screen(&Summary::from_flows(&testing::session()), &testing::view(80));

        assert_eq!(page, include_str!("snapshots/screen-80.txt"));
    }

    #[test]
    fn the_head_of_the_audit_chain_stands_whole_in_the_last_line() {
        let head = "5a".repeat(32);
        for summary in [Summary::from_flows(&testing::session()), Summary::default()] {
            let page = screen(&summary.sealed(&head), &testing::view(40));

            assert_eq!(page.lines().last(), Some(&*format!("  sealed: {head}")));
        }
    }

    #[test]
    fn a_run_without_flows_says_so() {
        let summary = Summary::default().of_run(RunId::new(3).unwrap());

        let page = screen(&summary, &testing::view(80));

        assert_eq!(
            page,
            "  plainsight  run 3 · 0 requests\n\n  No request was decrypted: nothing of telemetry was seen.\n"
        );
    }

    // PITFALLS 32
    #[test]
    fn the_screen_is_never_wider_than_the_terminal() {
        let mut flows = testing::session();
        for mut flow in testing::session() {
            let hostile = "\x1b[31m日本語\u{202e}".repeat(20);
            flow.opening.destination = crate::model::DestinationId::new(&hostile);
            flow.opening.authority = hostile.clone().into();
            flow.opening.news = vec![hostile.clone().into()];
            flow.opening.findings.push(testing::finding(
                &hostile,
                "pii",
                crate::model::Severity::Critical,
                "x",
                "y",
            ));
            flow.opening.request_bytes = u64::MAX >> 8;
            flows.push(flow);
        }
        let summary = Summary::from_flows(&flows).with_lost(u64::MAX);

        for width in 40..=200 {
            let page = screen(&summary, &testing::view(width));
            for line in page.lines() {
                assert!(line.width() <= width, "{} > {width}: {line}", line.width());
                assert!(!line.chars().any(char::is_control), "{line:?}");
            }
        }
    }

    #[test]
    fn lost_records_are_said_aloud() {
        let page = screen(&Summary::from_flows(&testing::session()).with_lost(3), &testing::view(80));

        assert!(page.contains("3 records could not be stored"), "{page}");
    }

    #[test]
    fn a_long_story_still_fits_a_screen() {
        let mut flows = Vec::new();
        for number in 1..200 {
            let mut flow = testing::record(number, &format!("d{number}"), DestinationKind::Telemetry, "/x");
            flow.opening.findings = vec![testing::finding(
                &format!("rule.{number}"),
                "pii",
                crate::model::Severity::Low,
                "x",
                "y",
            )];
            flows.push(flow);
        }

        let page = screen(&Summary::from_flows(&flows), &testing::view(80));

        assert!(page.lines().count() <= 30, "{page}");
        assert!(page.contains("… and 189 more destinations"), "{page}");
    }
}
