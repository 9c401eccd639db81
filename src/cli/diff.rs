//! `plainsight diff`: what came or went between two runs.

use crate::{
    audit::Reader,
    cli::{
        args::Diff,
        check, engine,
        exit::{Exit, Failure},
        output::{self, Terminal},
    },
    compliance::{Drift, Profile},
    config::Settings,
    destination::{Catalogue, Events},
    model::{EffectiveSwitches, PathPattern, RunId},
    report,
};

pub(super) fn execute(command: &Diff, settings: &Settings, terminal: &Terminal) -> Result<Exit, Failure> {
    let reader = engine::reader(settings)?;
    let (first, told_first) = profile(&reader, command.first)?;
    let (second, told_second) = profile(&reader, command.second)?;
    let drift = Drift::between(&first, &second);
    let runs = (command.first, command.second);
    let told = (told_first.as_ref(), told_second.as_ref());
    let text = match command.json {
        true => format!("{:#}\n", report::drift::json(runs, told, &drift)),
        false => report::drift::table(runs, told, &drift, &terminal.view()),
    };
    output::print(&text)?;
    Ok(if drift.is_empty() || !command.exit_code { Exit::Success } else { Exit::No })
}

fn profile(reader: &Reader, id: RunId) -> Result<(Profile, Option<EffectiveSwitches>), Failure> {
    let run = reader.run(id).map_err(|error| Failure::new("reading the log", error))?;
    let run =
        run.ok_or_else(|| Failure(format!("there is no run {id}; `plainsight log` lists what there is")))?;
    let observation = check::observe(reader, &run, None, None)?;
    let events = Events::embedded();
    let catalogue = Catalogue::embedded();
    let formats = catalogue.rows().iter().filter_map(|row| events.format(row.destination.id.as_str()));
    let events: Vec<PathPattern> = formats.flat_map(|format| format.events.iter().cloned()).collect();
    let mut profile = Profile::default();
    observation.flows.iter().for_each(|flow| profile.add(flow, &events));
    Ok((profile, observation.told))
}
