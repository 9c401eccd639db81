use std::{
    fs::OpenOptions,
    io::{BufWriter, Write},
    ops::ControlFlow,
    path::Path,
};

use jiff::{Span, Timestamp, ToSpan as _, civil, tz::TimeZone};

use crate::{
    audit::{Filter, Order, Reader},
    cli::{
        args::{Log, LogCommand},
        engine,
        exit::{Exit, Failure},
        output::{self, Terminal},
        verify,
    },
    config::Settings,
    har,
    model::{DestinationId, FlowId, FlowRecord, RuleId},
    report,
};

/// Records listed as a table when nobody says how many: about two screens.
const DEFAULT_LIMIT: usize = 50;

pub(super) fn execute(command: &Log, settings: &Settings, terminal: &Terminal) -> Result<Exit, Failure> {
    if let Some(LogCommand::Verify(command)) = &command.command {
        return verify::execute(command, settings);
    }
    let reader = engine::reader(settings)?;
    let filter = filter(command, settings)?;
    if command.json {
        return json(&reader, &filter);
    }
    if let Some(path) = &command.har {
        return har(&reader, &filter, path);
    }
    let records = reader.flows(&filter).map_err(|error| Failure::new("reading the log", error))?;
    if records.is_empty() {
        eprintln!("plainsight: no records match");
        return Ok(Exit::Success);
    }
    output::print(&report::table::log(&oldest_first(records), &terminal.view()))?;
    Ok(Exit::Success)
}

/// The newest are read, and shown in the order in which they happened.
fn oldest_first(mut records: Vec<FlowRecord>) -> Vec<FlowRecord> {
    records.reverse();
    records
}

fn json(reader: &Reader, filter: &Filter) -> Result<Exit, Failure> {
    let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
    let mut broken = None;
    let mut write = |record: &FlowRecord| match writeln!(stdout, "{}", report::json::flow(record)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            broken = Some(error);
            ControlFlow::Break(())
        }
    };
    let read = match filter.limit {
        // The newest few, in the order in which they happened.
        Some(_) => reader.flows(filter).map(|records| {
            for record in oldest_first(records) {
                if write(&record).is_break() {
                    break;
                }
            }
        }),
        None => {
            let filter = Filter { order: Order::OldestFirst, ..filter.clone() };
            reader.visit(&filter, |record| write(&record))
        }
    };
    read.map_err(|error| Failure::new("reading the log", error))?;
    match broken.or_else(|| stdout.flush().err()) {
        Some(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new("writing to stdout", error))
        }
        _ => Ok(Exit::Success),
    }
}

fn har(reader: &Reader, filter: &Filter, path: &Path) -> Result<Exit, Failure> {
    if path == Path::new("-") {
        return write_har(reader, filter, "stdout", std::io::stdout().lock());
    }
    let name = format!("--har {}", path.display());
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    // A body as it was sent is nobody else's business.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(|error| Failure::new(&name, error))?;
    write_har(reader, filter, &name, file)
}

fn write_har(reader: &Reader, filter: &Filter, name: &str, out: impl Write) -> Result<Exit, Failure> {
    let mut writer = har::Writer::new(BufWriter::new(out), env!("CARGO_PKG_VERSION"))
        .map_err(|error| Failure::new(name, error))?;
    let mut broken = None;
    let mut write = |id: FlowId| {
        // A listing leaves out fields and bodies; a recording is for the sake of them.
        let written = match reader.flow(id) {
            Ok(Some(record)) => writer.entry(&record).map_err(|error| Failure::new(name, error)),
            Ok(None) => Ok(()),
            Err(error) => Err(Failure::new("reading the log", error)),
        };
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                broken = Some(failure);
                ControlFlow::Break(())
            }
        }
    };
    let read = match filter.limit {
        Some(_) => reader.flows(filter).map(|records| {
            _ = oldest_first(records).iter().try_for_each(|record| write(record.opening.id));
        }),
        None => {
            let filter = Filter { order: Order::OldestFirst, ..filter.clone() };
            reader.visit(&filter, |record| write(record.opening.id))
        }
    };
    read.map_err(|error| Failure::new("reading the log", error))?;
    match broken {
        Some(failure) => Err(failure),
        None => writer.finish().map(|()| Exit::Success).map_err(|error| Failure::new(name, error)),
    }
}

fn filter(command: &Log, settings: &Settings) -> Result<Filter, Failure> {
    let session = match &command.session {
        Some(session) => Some(engine::store(settings)?.fingerprint_key().fingerprint(session.as_bytes())),
        None => None,
    };
    let since_ms = command.since.as_deref().map(since_ms).transpose()?;
    let limit = match command.limit {
        Some(0) => None,
        Some(limit) => Some(limit),
        None => (!command.json && command.har.is_none()).then_some(DEFAULT_LIMIT),
    };
    Ok(Filter {
        run: command.run,
        destination: command.destination.as_deref().map(DestinationId::new),
        rule: command.rule.as_deref().map(RuleId::new),
        action: command.action,
        outcome: command.outcome,
        since_ms,
        session,
        text: command.text.as_deref().map(Into::into),
        limit,
        order: Order::NewestFirst,
        ..Filter::default()
    })
}

/// Reads `--since`, in milliseconds since 1970 (UTC).
pub(super) fn since_ms(text: &str) -> Result<i64, Failure> {
    Ok(since(text, Timestamp::now(), &TimeZone::system())?.as_millisecond())
}

/// Reads `30m`, `2h`, `7d`, a date (its start, in local time) or a time.
pub(super) fn since(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, Failure> {
    let error = || {
        Failure(format!(
            "--since `{text}` is neither a span like `30m`, `2h`, `7d` nor a date like `2026-11-21`"
        ))
    };
    let unit = text.char_indices().next_back().filter(|(_, unit)| unit.is_ascii_alphabetic());
    if let Some((at, unit)) = unit
        && let Ok(count) = text[..at].parse::<u32>()
    {
        let count = i64::from(count);
        let span: Span = match unit {
            's' => count.seconds(),
            'm' => count.minutes(),
            'h' => count.hours(),
            'd' => (count * 24).hours(),
            'w' => (count * 7 * 24).hours(),
            _ => return Err(error()),
        };
        return now.checked_sub(span).map_err(|_| error());
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp);
    }
    let local = text
        .parse::<civil::DateTime>()
        .or_else(|_| text.parse::<civil::Date>().map(|date| date.at(0, 0, 0, 0)));
    let local = local.map_err(|_| error())?;
    zone.to_ambiguous_timestamp(local).compatible().map_err(|_| error())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        since(text, now, &TimeZone::UTC).ok().map(|timestamp| timestamp.to_string())
    }

    #[test]
    fn since_reads_spans_dates_and_times() {
        assert_eq!(read("30m").as_deref(), Some("2026-11-21T11:30:00Z"));
        assert_eq!(read("7d").as_deref(), Some("2026-11-14T12:00:00Z"));
        assert_eq!(read("2026-11-20").as_deref(), Some("2026-11-20T00:00:00Z"));
        assert_eq!(read("2026-11-20T08:15:00").as_deref(), Some("2026-11-20T08:15:00Z"));
        assert_eq!(read("2026-11-20T08:15:00+02:00").as_deref(), Some("2026-11-20T06:15:00Z"));
    }

    #[test]
    fn since_refuses_what_it_cannot_read() {
        for text in ["", "h", "5y", "yesterday", "2026-13-01", "-5m", "99999999999d", "5ü"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
