//! `plainsight check`: what was promised against what was recorded.

use std::{
    fs::{self, File},
    io::Write as _,
    ops::ControlFlow,
    path::Path,
};

use jiff::{Timestamp, tz::TimeZone};

use crate::{
    audit::{Filter, Order, Reader, RunNote},
    claude,
    cli::{
        args::{Check, CheckFormat, CheckOptions},
        engine,
        exit::{Exit, Failure},
        log, output,
        output::Terminal,
        scan, told,
    },
    compliance::{self, Assertion, Baseline, CheckReport, Checks, Ended, Observation, Outcome, Subject},
    config::Settings,
    har,
    inspect::Capture,
    model::{EffectiveSwitches, FlowRecord, PathPattern, RunId, RunRecord, Watch},
    report::{self, View},
};

pub(super) fn execute(command: &Check, settings: &Settings, terminal: &Terminal) -> Result<Exit, Failure> {
    let mut options = command.options.clone();
    if command.json {
        options.format = CheckFormat::Json;
    }
    let checks = checks(&options)?;
    let assumed = told::assumed(&command.assume, &command.assume_settings, command.options.client_version)?;
    let observations = match command.files.as_slice() {
        [] => of_log(command, settings, assumed.as_ref())?,
        files => files
            .iter()
            .map(|file| of_file(file, settings, assumed.clone(), command.complete))
            .collect::<Result<_, _>>()?,
    };
    let report = compliance::check(&checks, &observations);
    write(&report, &options, &terminal.view(), false)?;
    Ok(exit(&report))
}

/// Checks one run that has just ended, for `run --check`: the table goes to stderr, for stdout is the child's.
pub(super) fn of_run(
    run: RunId,
    settings: &Settings,
    options: &CheckOptions,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let checks = checks(options)?;
    let reader = engine::reader(settings)?;
    let record = reader.run(run).map_err(|error| Failure::new("reading the log", error))?;
    let record = record.ok_or_else(|| Failure(format!("there is no run {run}")))?;
    let observation = observe(&reader, &record, None, None)?;
    let report = compliance::check(&checks, &[observation]);
    write(&report, options, &terminal.view_of_stderr(), true)?;
    Ok(exit(&report))
}

fn exit(report: &CheckReport) -> Exit {
    match report.outcome() {
        Outcome::Holds => Exit::Success,
        Outcome::CouldNotTell => Exit::Failure,
        Outcome::Violated => Exit::No,
    }
}

/// Everything that is checked, read and understood. Done before a run, so that a mistake is known before the session.
pub(super) fn checks(options: &CheckOptions) -> Result<Checks, Failure> {
    let failed = |error: compliance::AssertionError| Failure(error.to_string());
    let mut assertions = Vec::new();
    for text in &options.expect {
        assertions.push(Assertion::expectation(text).map_err(failed)?);
    }
    for text in &options.deny {
        assertions.push(Assertion::denial(text).map_err(failed)?);
    }
    let (controls, claims, places) = engine::compliance()?;
    let only = options.control.iter().map(|glob| {
        let pattern =
            PathPattern::parse(glob).map_err(|error| Failure(format!("--control {glob}: {error}")))?;
        if !controls.controls.iter().any(|control| pattern.matches_segments_of(&control.id)) {
            return Err(Failure(format!("--control {glob}: there is no such control")));
        }
        Ok(pattern)
    });
    let only = only.collect::<Result<_, _>>()?;
    let baseline = match &options.baseline {
        Some(path) => {
            let name = path.display().to_string();
            let text = fs::read_to_string(path)
                .map_err(|error| Failure::new(&format!("--baseline {name}"), error))?;
            Baseline::from_toml(&name, &text).map_err(|error| Failure(error.to_string()))?
        }
        None => Baseline::default(),
    };
    Ok(Checks {
        controls,
        claims,
        places,
        assertions,
        only,
        claims_count: options.claims,
        baseline,
        today: jiff::Zoned::now().date().to_string().into(),
        client_version: options.client_version,
        version_of: claude::client_version,
    })
}

fn write(report: &CheckReport, options: &CheckOptions, view: &View, to_stderr: bool) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let text = match options.format {
        CheckFormat::Json => format!("{:#}\n", report::check::json(report)),
        CheckFormat::Junit => report::check::junit(report),
        CheckFormat::Markdown => report::check::markdown(report),
        CheckFormat::Sarif => format!("{:#}\n", report::check::sarif(report, version)),
        CheckFormat::Table => match &options.output {
            Some(_) => report::check::table(report, &View { colour: false, ..view.clone() }),
            None => report::check::table(report, view),
        },
    };
    match &options.output {
        Some(path) => {
            let name = format!("--output {}", path.display());
            let written = File::create(path).and_then(|mut file| file.write_all(text.as_bytes()));
            written.map_err(|error| Failure::new(&name, error))?;
            // Whoever waits for the file wants to know how it ended, too.
            eprint!("{}", report::check::last_line(report));
            Ok(())
        }
        None if to_stderr => {
            eprint!("{text}");
            Ok(())
        }
        None => output::print(&text),
    }
}

/// The runs that the command line names; without a name the newest.
fn of_log(
    command: &Check,
    settings: &Settings,
    assumed: Option<&EffectiveSwitches>,
) -> Result<Vec<Observation>, Failure> {
    let reader = engine::reader(settings)?;
    let failed = |error| Failure::new("reading the log", error);
    let since = match &command.since {
        Some(text) => Some(log::since(text, Timestamp::now(), &TimeZone::system())?.as_millisecond()),
        None => None,
    };
    let mut runs = reader.runs().map_err(failed)?;
    match (command.run, since) {
        (Some(id), _) => runs.retain(|run| run.id == id),
        (None, Some(since)) => {
            // A run that is open may still be going on.
            runs.retain(|run| run.closing.as_ref().is_none_or(|closing| closing.time_ms >= since));
        }
        (None, None) => runs = runs.pop().into_iter().collect(),
    }
    if let (Some(id), true) = (command.run, runs.is_empty()) {
        return Err(Failure(format!("there is no run {id}; `plainsight log` lists what there is")));
    }
    let observed = runs.iter().map(|run| {
        let mut observation = observe(&reader, run, since, assumed)?;
        if command.complete {
            observation.ended = Ended::ByItself;
        }
        Ok(observation)
    });
    let mut observed: Vec<Observation> = observed.collect::<Result<_, _>>()?;
    if since.is_some() {
        observed.retain(|observation| !observation.flows.is_empty());
    }
    if observed.is_empty() {
        eprintln!("plainsight: there is no run to check");
    }
    Ok(observed)
}

/// What the log holds of one run.
pub(super) fn observe(
    reader: &Reader,
    run: &RunRecord,
    since_ms: Option<i64>,
    assumed: Option<&EffectiveSwitches>,
) -> Result<Observation, Failure> {
    let failed = |error| Failure::new("reading the log", error);
    let filter = Filter { run: Some(run.id), since_ms, order: Order::OldestFirst, ..Filter::default() };
    let mut flows = reader.flows(&filter).map_err(failed)?;
    for flow in &mut flows {
        // A listing leaves out fields, which promises about fields are held against.
        if flow.opening.format.is_some()
            && let Some(whole) = reader.flow(flow.opening.id).map_err(failed)?
        {
            *flow = whole;
        }
        flow.opening.body = None;
    }
    let told = match assumed {
        Some(told) => Some(told.clone()),
        None => reader.told(run.id).map_err(failed)?,
    };
    let opening = &run.opening;
    let ended = match (&run.closing, &*opening.mode) {
        (None, _) => Ended::Open,
        (Some(closing), "run") => match closing.exit_code {
            // As a shell has it: a signal's number and 128.
            Some(code) if code >= 128 => Ended::BySignal,
            Some(_) => Ended::ByItself,
            None => Ended::Unknown,
        },
        (Some(_), _) => Ended::Unknown,
    };
    let first_ms = since_ms.map_or(opening.time_ms, |since| since.max(opening.time_ms));
    let last_ms = run.closing.as_ref().map_or_else(|| last(&flows, first_ms), |closing| closing.time_ms);
    let subject = Subject {
        policy_hash: Some(opening.policy_hash.clone()),
        rules_hash: Some(opening.rules_hash.clone()),
        ..Subject::of_run(run.id, &opening.mode, opening.program.as_deref())
    };
    let notes = reader.notes(run.id).map_err(failed)?;
    let lost = notes.iter().filter_map(RunNote::lost).sum();
    let is_confined = opening.watch == Some(Watch::Confined);
    Ok(Observation { subject, told, ended, first_ms, last_ms, is_confined, lost, flows })
}

/// What a recording holds, inspected as the proxy would have.
pub(super) fn of_file(
    path: &Path,
    settings: &Settings,
    told: Option<EffectiveSwitches>,
    is_complete: bool,
) -> Result<Observation, Failure> {
    let name = path.display().to_string();
    let inspector = scan::inspector(settings, Capture::Masked, &[])?;
    let mut flows = Vec::new();
    let mut broken = None;
    let take = |entry: Result<har::Entry, har::Unreadable>| {
        match entry {
            Ok(entry) => flows.push(scan::request::entry(&inspector, entry).record),
            Err(har::Unreadable::NotHttp { .. }) => {}
            // What cannot be read may be what was looked for.
            Err(error) => {
                broken = Some(Failure::new(&name, error));
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    };
    let source: Box<dyn std::io::Read> = match path == Path::new("-") {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(File::open(path).map_err(|error| Failure::new(&name, error))?),
    };
    har::read(source, take).map_err(|error| Failure::new(&name, error))?;
    if let Some(failure) = broken {
        return Err(failure);
    }
    let first_ms = flows.iter().map(|flow| flow.opening.time_ms).min().unwrap_or_default();
    let last_ms = last(&flows, first_ms);
    let ended = if is_complete { Ended::ByItself } else { Ended::Unknown };
    let subject = Subject::of_file(&name);
    Ok(Observation { subject, told, ended, first_ms, last_ms, is_confined: false, lost: 0, flows })
}

fn last(flows: &[FlowRecord], first_ms: i64) -> i64 {
    let end = |flow: &FlowRecord| {
        let duration = flow.closing.as_ref().map_or(0, |closing| closing.duration_ms);
        flow.opening.time_ms.saturating_add_unsigned(duration)
    };
    flows.iter().map(end).max().unwrap_or(first_ms).max(first_ms)
}
