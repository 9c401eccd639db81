//! The table of `plainsight log`.

use crate::{
    model::{ByteSize, FlowRecord, Severity},
    report::{
        View, sanitize,
        text::{self, Ink},
        words,
    },
};

/// Lists flows, one a line, under a line of headings. As many columns as fit: the least important go first.
pub fn log(flows: &[FlowRecord], view: &View) -> String {
    let rows: Vec<Row> = flows.iter().map(|flow| Row::new(flow, view)).collect();
    let same_day = rows.windows(2).all(|pair| pair[0].day == pair[1].day);
    let mut columns = Column::ALL.to_vec();
    let layout = loop {
        let layout = Layout::new(&columns, &rows, same_day, view.columns());
        if layout.request >= NARROWEST_REQUEST || columns.len() <= 2 {
            break layout;
        }
        let Some(dropped) = Column::DROPPED_FIRST.iter().find(|column| columns.contains(column)) else {
            break layout;
        };
        columns.retain(|column| column != dropped);
    };
    let mut out = String::new();
    let heading: Vec<String> =
        layout.cells().map(|(column, width)| column.align(column.heading(), width)).collect();
    push_line(&mut out, &view.paint(Ink::Dim, heading.join(layout.gap).trim_end()));
    for row in &rows {
        let cells = layout.cells().map(|(column, width)| row.cell(column, width, same_day, view));
        let line = cells.collect::<Vec<_>>().join(layout.gap);
        push_line(&mut out, line.trim_end());
    }
    out
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Bytes,
    Destination,
    Fate,
    Findings,
    Id,
    Request,
    Status,
    Time,
}

impl Column {
    const ALL: &'static [Self] = &[
        Self::Id,
        Self::Time,
        Self::Destination,
        Self::Request,
        Self::Status,
        Self::Bytes,
        Self::Findings,
        Self::Fate,
    ];
    const DROPPED_FIRST: &'static [Self] =
        &[Self::Bytes, Self::Status, Self::Time, Self::Destination, Self::Findings, Self::Fate];

    const fn heading(self) -> &'static str {
        match self {
            Self::Bytes => "BYTES",
            Self::Destination => "DESTINATION",
            Self::Fate => "DONE",
            Self::Findings => "FOUND",
            Self::Id => "ID",
            Self::Request => "REQUEST",
            Self::Status => "ST",
            Self::Time => "TIME",
        }
    }

    fn align(self, content: &str, width: usize) -> String {
        match self {
            Self::Bytes => text::right(content, width),
            _ => text::left(content, width),
        }
    }
}

/// Column widths: what the content needs, and the rest for the request.
struct Layout {
    columns: Vec<(Column, usize)>,
    request: usize,
    gap: &'static str,
}

impl Layout {
    fn new(columns: &[Column], rows: &[Row], same_day: bool, width: usize) -> Self {
        let gap = if width >= ROOMY { "  " } else { " " };
        let needed = |column: Column| {
            let content = rows.iter().map(|row| text::width(row.text(column, same_day))).max().unwrap_or(0);
            let most = match column {
                Column::Destination if width < ROOMY => 19,
                Column::Destination => 28,
                // An id is there to be typed, so it is not cut: this holds the longest one.
                Column::Id => 21,
                Column::Request => 0,
                _ => 12,
            };
            content.max(column.heading().len()).min(most)
        };
        let columns: Vec<_> = columns.iter().map(|column| (*column, needed(*column))).collect();
        let taken = columns.iter().map(|(_, width)| width).sum::<usize>() + gap.len() * (columns.len() - 1);
        Self { columns, request: width.saturating_sub(taken), gap }
    }

    fn cells(&self) -> impl Iterator<Item = (Column, usize)> {
        self.columns.iter().map(|(column, width)| match column {
            Column::Request => (*column, self.request),
            _ => (*column, *width),
        })
    }
}

/// The texts of one line, harmless and uncut.
struct Row {
    id: String,
    day: String,
    clock: String,
    day_and_clock: String,
    destination: String,
    method: String,
    host: String,
    path: String,
    status: String,
    bytes: String,
    findings: String,
    worst: Option<Severity>,
    fate: &'static str,
}

impl Row {
    fn new(flow: &FlowRecord, view: &View) -> Self {
        let opening = &flow.opening;
        let status = flow.closing.as_ref().and_then(|closing| closing.status);
        let worst = words::worst(flow);
        let total = words::request_bytes(flow);
        Self {
            id: opening.id.to_string(),
            day: view.time(opening.time_ms, "%Y-%m-%d"),
            clock: view.time(opening.time_ms, "%H:%M:%S"),
            day_and_clock: view.time(opening.time_ms, "%m-%d %H:%M"),
            destination: sanitize(opening.destination.as_str()).into_owned(),
            method: sanitize(&opening.method).into_owned(),
            host: sanitize(words::host(flow)).into_owned(),
            path: sanitize(&opening.path).into_owned(),
            status: status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
            bytes: ByteSize::bytes(total).to_string(),
            findings: match worst {
                Some(worst) => {
                    let all = opening.findings.len();
                    let gravest = opening.findings.iter().filter(|finding| finding.severity == worst).count();
                    // The plus says that there are milder ones as well.
                    format!("{gravest} {}{}", short(worst), if all > gravest { "+" } else { "" })
                }
                None if words::not_inspected(flow).is_some() => "unread".to_owned(),
                None => "-".to_owned(),
            },
            worst,
            fate: words::fate(flow),
        }
    }

    fn text(&self, column: Column, same_day: bool) -> &str {
        match column {
            Column::Bytes => &self.bytes,
            Column::Destination => &self.destination,
            Column::Fate => self.fate,
            Column::Findings => &self.findings,
            Column::Id => &self.id,
            Column::Request => "",
            Column::Status => &self.status,
            Column::Time if same_day => &self.clock,
            Column::Time => &self.day_and_clock,
        }
    }

    fn cell(&self, column: Column, width: usize, same_day: bool, view: &View) -> String {
        if column == Column::Request {
            return text::left(&self.request(width), width);
        }
        let cell = column.align(self.text(column, same_day), width);
        let ink = match (column, self.worst) {
            (Column::Findings, Some(worst)) => Ink::of(worst),
            (Column::Findings | Column::Time, _) => Ink::Dim,
            (Column::Fate, _) if matches!(self.fate, "failed" | "refused" | "cut off") => Ink::Medium,
            (Column::Fate, _) if matches!(self.fate, "blocked" | "redacted") => Ink::Good,
            (Column::Fate, _) if self.fate == "tunnel" => Ink::Dim,
            _ => Ink::Plain,
        };
        view.paint(ink, cell)
    }

    /// The most telling part of the request that fits: of a path its end, of a host both ends.
    fn request(&self, width: usize) -> String {
        let Self { method, host, path, .. } = self;
        if path.is_empty() {
            return text::fit_middle(host, width).into_owned();
        }
        let whole = format!("{method} {host}{path}");
        if text::width(&whole) <= width {
            return whole;
        }
        let room = width.saturating_sub(text::width(method) + 1);
        if text::width(path) <= room || room >= ROOM_FOR_METHOD {
            return format!("{method} {}", text::fit_tail(path, room));
        }
        text::fit_tail(path, width).into_owned()
    }
}

const fn short(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Low => "low",
        Severity::Medium => "med",
        Severity::High => "high",
        Severity::Critical => "crit",
    }
}

fn push_line(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

/// From this width on columns stand two apart, and destinations are hardly ever cut.
const ROOMY: usize = 100;

/// With less than this for the request, another column has to go.
const NARROWEST_REQUEST: usize = 14;

/// With less than this for a path, the method gives way.
const ROOM_FOR_METHOD: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{DestinationId, DestinationKind},
        report::testing,
    };
    use unicode_width::UnicodeWidthStr;

    #[test]
    fn the_table_fits_a_terminal() {
        let table = log(&testing::session()[..7], &testing::view(80));

        assert_eq!(table, include_str!("snapshots/log-80.txt"));
    }

    #[test]
    fn a_wide_table_shows_everything() {
        let table = log(&testing::session()[..7], &testing::view(130));

        assert_eq!(table, include_str!("snapshots/log-130.txt"));
    }

    // PITFALLS 32
    #[test]
    fn no_line_is_ever_wider_than_the_terminal() {
        let mut hostile =
            testing::record(u32::MAX, "x", DestinationKind::Unknown, "/日本語\x1b[2J\u{202e}e\u{301}");
        hostile.opening.destination = DestinationId::new(&"日本\u{9b}".repeat(50));
        hostile.opening.authority = "\x1b]0;x\x07👩‍👩‍👧‍👧".repeat(40).into();
        hostile.opening.method = "LONGMETHOD\r\n".repeat(9).into();
        hostile.opening.time_ms = i64::MAX;
        let mut flows = testing::session();
        flows.push(hostile);

        for width in 40..=200 {
            let table = log(&flows, &testing::view(width));
            for line in table.lines() {
                assert!(line.width() <= width, "{} > {width}: {line}", line.width());
                assert!(!line.chars().any(char::is_control), "{line:?}");
            }
            assert_eq!(table.lines().count(), flows.len() + 1);
        }
    }

    #[test]
    fn colours_do_not_change_the_layout() {
        let view = View { colour: true, ..testing::view(80) };

        let table = log(&testing::session(), &view);

        assert!(table.contains("\x1b[1;31m1 crit+"), "{table:?}");
        let plain = regex::Regex::new("\x1b\\[[0-9;]*m").unwrap().replace_all(&table, "").into_owned();
        let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        assert_eq!(trimmed(&plain), trimmed(&log(&testing::session(), &testing::view(80))));
    }
}
