//! `plainsight report`: what a reviewer keeps of a run, of a span of time, or of a recording.

use std::{
    collections::BTreeSet,
    fs::OpenOptions,
    io::Write as _,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use crate::{
    audit::{Filter, Order},
    cli::{
        args::{CheckOptions, Report, ReportFormat},
        check, engine,
        exit::{Exit, Failure},
        log,
        output::{self, now_ms},
        told,
    },
    compliance::{self, Checks, Ended, Observation},
    config::Settings,
    model::{EffectiveSwitches, RunRecord},
    report::{self, Dossier, DossierBuilder},
};

pub(super) fn execute(command: &Report, settings: &Settings) -> Result<Exit, Failure> {
    let dossier = dossier(command, settings)?;
    let text = match command.format {
        ReportFormat::Html => report::html(&dossier),
        ReportFormat::Json => format!("{:#}\n", dossier.to_json()),
        ReportFormat::Markdown => report::markdown(&dossier),
    };
    let name = command.out.clone().unwrap_or_else(|| match command.format {
        // A page is for a browser; the others are for a pipe.
        ReportFormat::Html => PathBuf::from("plainsight-report.html"),
        ReportFormat::Json | ReportFormat::Markdown => PathBuf::from("-"),
    });
    if name == Path::new("-") {
        output::print(&text)?;
        return Ok(Exit::Success);
    }
    write(&name, &text).map_err(|error| Failure::new(&name.display().to_string(), error))?;
    eprintln!("plainsight: the report is in {}", name.display());
    Ok(Exit::Success)
}

/// Who received what is nobody else's business either.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}

fn dossier(command: &Report, settings: &Settings) -> Result<Dossier, Failure> {
    let assumed = told::assumed(&command.assume, &command.assume_settings, command.client_version)?;
    let checks = check::checks(&CheckOptions {
        client_version: command.client_version,
        baseline: command.baseline.clone(),
        ..CheckOptions::default()
    })?;
    match &command.file {
        Some(file) => of_file(file, settings, command, assumed, &checks),
        None => of_log(command, settings, assumed.as_ref(), &checks),
    }
}

/// About a recording.
fn of_file(
    file: &Path,
    settings: &Settings,
    command: &Report,
    assumed: Option<EffectiveSwitches>,
    checks: &Checks,
) -> Result<Dossier, Failure> {
    let observation = check::of_file(file, settings, assumed, command.complete)?;
    let mut builder = DossierBuilder::of_recording();
    observation.flows.iter().for_each(|flow| builder.add(flow));
    let dossier = builder.finish(&format!("recording {}", file.display()), now_ms(), &[]);
    Ok(checked(dossier, checks, &[observation]))
}

/// About runs of the log.
fn of_log(
    command: &Report,
    settings: &Settings,
    assumed: Option<&EffectiveSwitches>,
    checks: &Checks,
) -> Result<Dossier, Failure> {
    let reader = engine::reader(settings)?;
    let failed = |error| Failure::new("reading the log", error);
    let all = reader.runs().map_err(failed)?;
    let since_ms = command.since.as_deref().map(log::since_ms).transpose()?;
    let chosen = match (command.run, since_ms) {
        (Some(run), _) => Some(run),
        (None, Some(_)) => None,
        // What a person has just done is what they ask about.
        (None, None) => all.iter().map(|run| run.id).max(),
    };
    let runs: Vec<RunRecord> = all.into_iter().filter(|run| chosen.is_none_or(|id| run.id == id)).collect();
    if let Some(run) = command.run
        && runs.is_empty()
    {
        return Err(Failure(format!("there is no run {run}; `plainsight log` lists what was recorded")));
    }
    let filter = Filter { run: chosen, since_ms, order: Order::OldestFirst, ..Filter::default() };
    let mut builder = DossierBuilder::default();
    let mut seen = BTreeSet::new();
    reader
        .visit(&filter, |record| {
            seen.insert(record.opening.id.run());
            builder.add(&record);
            ControlFlow::Continue(())
        })
        .map_err(failed)?;
    let runs: Vec<RunRecord> =
        runs.into_iter().filter(|run| Some(run.id) == chosen || seen.contains(&run.id)).collect();
    let subject = match (chosen, runs.as_slice()) {
        (Some(id), [run]) => match &run.opening.program {
            Some(program) => format!("{program}, run {id}"),
            None => format!("{}, run {id}", run.opening.mode),
        },
        _ => match &command.since {
            Some(since) => format!("since {since}"),
            None => "nothing was recorded yet".to_owned(),
        },
    };
    let mut dossier = builder.finish(&subject, now_ms(), &runs);
    for run in &runs {
        for note in reader.notes(run.id).map_err(failed)? {
            dossier = dossier.with_run_note(run.id, note.time_ms, &note.text);
        }
        // One run at a time: its records are held whole while they are judged.
        let mut observation = check::observe(&reader, run, since_ms, assumed)?;
        if command.complete {
            observation.ended = Ended::ByItself;
        }
        dossier = checked(dossier, checks, &[observation]);
    }
    let head = reader.head().map_err(failed)?;
    Ok(dossier.with_chain_head(head.map(|head| head.hash.to_string())))
}

/// Adds what was promised, and what came of it.
fn checked(dossier: Dossier, checks: &Checks, observations: &[Observation]) -> Dossier {
    let report = compliance::check(checks, observations);
    report.subjects.iter().fold(dossier, Dossier::with_check)
}
