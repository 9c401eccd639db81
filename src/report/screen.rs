use crate::{
    model::{ByteSize, DestinationKind, NotInspected},
    report::{
        Summary, Told, View, sanitize,
        text::{self, Ink},
        words,
    },
};

/// The one screen at the end of a run: who was told, what was personal, what stayed unseen, and where to look next.
pub fn screen(summary: &Summary, view: &View) -> String {
    let mut page = Page { view, columns: view.columns().min(WIDEST), out: String::new() };
    page.head(summary);
    page.told(summary);
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
    out: String,
}

impl Page<'_> {
    fn head(&mut self, summary: &Summary) {
        let mut parts = Vec::new();
        match summary.runs().collect::<Vec<_>>().as_slice() {
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
        let line = format!("  {}  {}", self.view.paint(Ink::Bold, "plainsight"), self.view.paint(Ink::Dim, rest));
        self.line(&line);
    }

    fn told(&mut self, summary: &Summary) {
        let told = summary.told();
        if told.is_empty() {
            self.blank();
            self.line("  No request was decrypted: nothing of telemetry was seen.");
            return;
        }
        let name = told.iter().map(|(id, _)| text::width(&sanitize(id.as_str()))).max().unwrap_or(0);
        // What is left of the numbers, which take 9 + 10 + 16 + 12 columns at most.
        let name = name.clamp(11, self.columns.saturating_sub(INDENT + 47).max(12));
        let last = self.columns.saturating_sub(INDENT + name + 9 + 10 + 2 + 14 + 2);
        let heading = format!("{:>9}{:>10}  {:<14}  {}", "requests", "bytes", "findings", text::fit("done", last));
        self.heading("WHO WAS TOLD", name, heading.trim_end());
        for (id, told) in told.iter().take(DESTINATIONS) {
            let found = text::left(&findings(told), 14);
            let ink = match (told.worst, told.findings) {
                (Some(worst), 1..) => Ink::of(worst),
                _ => Ink::Dim,
            };
            let line = format!(
                "  {}{:>9}{}  {}  {}",
                text::left(&sanitize(id.as_str()), name),
                text::fit(&text::thousands(told.requests), 8),
                text::right(&ByteSize::bytes(told.request_bytes).to_string(), 10),
                self.view.paint(ink, found),
                text::fit(&fates(told), last),
            );
            self.line(&line);
        }
        self.more(told.len(), DESTINATIONS, "destination");
    }

    fn found(&mut self, summary: &Summary) {
        let found = summary.found();
        if found.is_empty() {
            if !summary.told().is_empty() {
                self.blank();
                let line = "  No rule found anything personal in what could be read.";
                self.line(&self.view.paint(Ink::Good, line));
            }
            return;
        }
        let name = found.iter().map(|(rule, _)| text::width(&sanitize(rule.as_str()))).max().unwrap_or(0);
        let name = name.clamp(14, self.columns.saturating_sub(INDENT + 42).clamp(14, 26));
        let whom = self.columns.saturating_sub(INDENT + name + 2 + 8 + 8 + 7 + 2);
        let heading = format!("  {:<8}{:>8}{:>7}  {}", "severity", "values", "seen", text::fit("told to", whom));
        self.heading("WHAT WAS PERSONAL", name, heading.trim_end());
        for (rule, found) in found.iter().take(RULES) {
            let destinations: Vec<_> = found.destinations.iter().map(|id| sanitize(id.as_str())).collect();
            let line = format!(
                "  {}  {}{}{}  {}",
                text::left(&sanitize(rule.as_str()), name),
                self.view.paint(Ink::of(found.severity), text::left(found.severity.as_str(), 8)),
                text::right(&text::thousands(found.values.len() as u64), 8),
                text::right(&text::thousands(found.findings), 7),
                some_of(&destinations, whom),
            );
            self.line(&line);
        }
        self.more(found.len(), RULES, "rule");
    }

    fn tunneled(&mut self, summary: &Summary) {
        let tunneled = summary.tunneled();
        if tunneled.is_empty() {
            return;
        }
        let name = self.columns.saturating_sub(INDENT + 9 + 12 + 12).min(44);
        let heading = format!("{:>9}{:>12}{:>12}", "tunnels", "sent", "received");
        self.heading("PASSED THROUGH, NOT DECRYPTED", name, &heading);
        for (host, tunneled) in tunneled.iter().take(TUNNELS) {
            let line = format!(
                "  {}{}{}{}",
                text::left(&text::fit_middle(&sanitize(host), name), name),
                text::right(&text::thousands(tunneled.tunnels), 9),
                text::right(&ByteSize::bytes(tunneled.request_bytes).to_string(), 12),
                text::right(&ByteSize::bytes(tunneled.response_bytes).to_string(), 12),
            );
            self.line(&line);
        }
        self.more(tunneled.len(), TUNNELS, "host");
    }

    fn unread(&mut self, summary: &Summary) {
        let unread = summary.unread();
        if unread.is_empty() {
            return;
        }
        self.heading("COULD NOT BE READ", 0, "");
        for (reason, whom, unread) in unread.iter().take(UNREAD) {
            let tail = format!(", {}", ByteSize::bytes(unread.request_bytes));
            let content = format!("{}{tail}: {}", text::thousands(unread.flows), words::reason(*reason));
            let whom = text::fit_middle(&sanitize(whom), 26).into_owned();
            let room = self.columns.saturating_sub(INDENT + text::width(&whom) + 2);
            let content = text::fit(&content, room).into_owned();
            let ink = if *reason == NotInspected::InternalError { Ink::High } else { Ink::Medium };
            self.line(&format!("  {whom}  {}", self.view.paint(ink, content)));
        }
        self.more(unread.len(), UNREAD, "reason");
    }

    fn news(&mut self, summary: &Summary) {
        let news: Vec<_> = summary.news().collect();
        if news.is_empty() {
            return;
        }
        self.heading("NEW, NOT IN THE CATALOGUE", 0, "");
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
            let line = format!("  {} could not be stored and are missing above.", text::count(summary.lost(), "record"));
            let line = text::fit(&line, self.columns).into_owned();
            self.line(&self.view.paint(Ink::Critical, line));
        }
    }

    fn next(&mut self, summary: &Summary) {
        if summary.flows() == 0 {
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
    }

    /// A blank line and a heading: the section's name, and the names of its columns from `column` on.
    fn heading(&mut self, title: &str, column: usize, columns: &str) {
        self.blank();
        let title = text::fit(title, self.columns.saturating_sub(INDENT)).into_owned();
        // The title may reach into the columns' space where that is blank.
        let overlap = text::width(&title).saturating_sub(column);
        let blank = columns.chars().take_while(|character| *character == ' ').count();
        let rest = if overlap < blank { &columns[overlap..] } else { "" };
        let padding = column.saturating_sub(text::width(&title));
        let line = format!(
            "  {}{:padding$}{}",
            self.view.paint(Ink::Bold, title),
            "",
            self.view.paint(Ink::Dim, rest)
        );
        self.line(&line);
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

fn findings(told: &Told) -> String {
    match (told.kind, told.worst) {
        (DestinationKind::Conversation, None) => "not looked at".to_owned(),
        (_, Some(worst)) => format!("{} {worst}", text::thousands(told.findings)),
        (_, None) => "none".to_owned(),
    }
}

/// `sent`, or `3 sent, 1 failed`.
fn fates(told: &Told) -> String {
    let mut fates: Vec<_> = told.fates.iter().collect();
    if let [(fate, _)] = fates.as_slice() {
        return (**fate).to_owned();
    }
    fates.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let fates: Vec<_> = fates.into_iter().map(|(fate, count)| format!("{count} {fate}")).collect();
    fates.join(", ")
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

        println!("{page}");
        assert_eq!(page, include_str!("snapshots/screen-80.txt"));
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
