//! `plainsight scan`: what the proxy does to a request, done to a recording. Reads files; stores and sends nothing.

mod files;
mod kind;
mod progress;
pub(super) mod request;

use std::{
    io::{self, BufWriter, Write},
    path::Path,
};

use serde_json::Value;

use crate::{
    audit,
    cli::{
        args::Scan,
        engine,
        exit::{Exit, Failure},
        output::Terminal,
    },
    config::{Env, Settings},
    destination::Catalogue,
    har::Entry,
    inspect::{self, Capture, Inspector},
    model::{Action, FingerprintKey, FlowRecord, Severity},
    report::{self, Summary, View, sanitize},
    rules::KnownValue,
};

use kind::Kind;
use request::Scanned;

pub(super) fn execute(
    command: &Scan,
    settings: &Settings,
    environment: &Env,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let known = if command.known { engine::known(environment, environment.variables()) } else { Vec::new() };
    let inspector = inspector(settings, Capture::None, &known)?;
    let kind = command.format.as_deref().map(|name| Kind::named(name, inspector.catalogue())).transpose()?;
    let mut scan = Run {
        inspector,
        out: BufWriter::new(io::stdout()),
        json: command.json,
        view: terminal.view(),
        summary: Summary::default().unstored(),
        worst: None,
        failures: 0,
        passed_over: 0,
        is_closed: false,
    };
    for path in &command.files {
        scan.path(path, kind.as_ref())?;
    }
    scan.finish(command.fail_on)
}

/// As for the proxy, but for the fields of a payload, which `scan` has no use for.
pub(super) fn inspector(
    settings: &Settings,
    capture: Capture,
    known: &[KnownValue],
) -> Result<Inspector, Failure> {
    let rules = engine::rules(settings)?.with_known(known);
    let policy = engine::policy(settings, &rules)?;
    Ok(Inspector::new(
        Catalogue::embedded(),
        settings.intercept.clone(),
        rules,
        policy,
        key(settings)?,
        inspect::Options { capture, ..inspect::Options::default() },
    ))
}

/// The record that a request of a recording would have.
pub(super) fn record_of(inspector: &Inspector, entry: Entry) -> FlowRecord {
    request::entry(inspector, entry).record
}

/// The installation's key, so that fingerprints are those of the log; without an installation, one for this process.
fn key(settings: &Settings) -> Result<FingerprintKey, Failure> {
    let existing = audit::existing_key(&settings.data_dir)
        .map_err(|error| Failure::new("reading the key for fingerprints", error))?;
    if let Some(key) = existing {
        return Ok(key);
    }
    let mut raw = [0; FingerprintKey::LEN_BYTES];
    getrandom::fill(&mut raw).map_err(|error| Failure::new("no random numbers", error))?;
    Ok(FingerprintKey::new(&raw))
}

/// A scan that is under way.
struct Run {
    inspector: Inspector,
    out: BufWriter<io::Stdout>,
    json: bool,
    view: View,
    summary: Summary,
    worst: Option<Severity>,
    /// Files and entries that could not be read.
    failures: u64,
    /// Files of folders, and entries, that hold no request.
    passed_over: u64,
    /// Whether the reader of our output has gone away.
    is_closed: bool,
}

impl Run {
    /// Takes in one request.
    fn add(&mut self, file: &str, index: usize, scanned: Scanned) -> Result<(), Failure> {
        let Scanned { mut record, time_is_known } = scanned;
        let worst = record.opening.findings.iter().map(|finding| finding.severity).max();
        self.worst = self.worst.max(worst);
        if self.json {
            let mut value = report::json::flow(&record);
            // It is in no store: there is no id to look it up by.
            (value["id"], value["run"]) = (Value::Null, Value::Null);
            if !time_is_known {
                value["time"] = Value::Null;
            }
            (value["file"], value["index"]) = (file.into(), index.into());
            return self.line(&value.to_string());
        }
        // What policy would do was not done.
        record.opening.action = Action::Allow;
        record.opening.answered = None;
        self.summary.add(&record);
        if worst.is_some() {
            let line = report::scanned(index, &record, &self.view);
            self.line(&line)?;
        }
        Ok(())
    }

    /// Says on stderr what could not be read, and goes on.
    fn fail(&mut self, file: &str, why: impl std::fmt::Display) {
        self.failures += 1;
        eprintln!("plainsight: {}: {}", sanitize(file), sanitize(&why.to_string()));
    }

    fn line(&mut self, line: &str) -> Result<(), Failure> {
        match writeln!(self.out, "{line}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.is_closed = true,
            Err(error) => return Err(Failure::new("writing to stdout", error)),
            Ok(()) => {}
        }
        Ok(())
    }

    fn finish(mut self, fail_on: Option<Severity>) -> Result<Exit, Failure> {
        if !self.json && (self.summary.flows() > 0 || self.failures == 0) {
            if self.worst.is_some() {
                self.line("")?;
            }
            let screen = report::screen(&self.summary, &self.view);
            self.line(screen.trim_end_matches('\n'))?;
        }
        match self.out.flush() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(Failure::new("writing to stdout", error));
            }
            _ => {}
        }
        if self.passed_over > 0 {
            eprintln!("plainsight: {} held no request and were passed over", self.passed_over);
        }
        match fail_on {
            _ if self.failures > 0 => Ok(Exit::Failure),
            Some(limit) if self.worst.is_some_and(|worst| worst >= limit) => Ok(Exit::No),
            _ => Ok(Exit::Success),
        }
    }
}

/// A path as it stands in messages and in JSON.
fn name_of(path: &Path) -> String {
    path.display().to_string()
}
