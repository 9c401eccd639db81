//! `plainsight doctor`: what the client is told, what follows from it, what is wrong on its way to a proxy, and who
//! would be seen, by trying it.

mod probe;
mod way;

use std::{ffi::OsStr, fs};

use crate::{
    claude::{self, ClientFile, ClientSettings},
    cli::{
        args::Doctor,
        engine,
        exit::{Exit, Failure},
        output::{self, Terminal},
        told::{self, Told},
    },
    config::{self, Env, Settings},
    model::ByteSize,
    report::{
        self,
        doctor::{Diagnosis, Probing, Spool, Warning},
    },
};

pub(super) fn execute(
    command: &Doctor,
    settings: Result<Settings, Failure>,
    environment: &Env,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let diagnosis = diagnose(environment, (!command.no_probe).then_some(settings))?;
    let text = match command.json {
        true => format!("{:#}\n", report::doctor::json(&diagnosis)),
        false => report::doctor::screen(&diagnosis, &terminal.view()),
    };
    output::print(&text)?;
    Ok(if diagnosis.warnings.is_empty() { Exit::Success } else { Exit::No })
}

/// With `settings`, programs are started to try it.
fn diagnose(environment: &Env, settings: Option<Result<Settings, Failure>>) -> Result<Diagnosis, Failure> {
    let client = told::find(environment, OsStr::new("claude"));
    let version = told::version_of_program(environment, OsStr::new("claude"), &[]);
    let told = Told::read(environment, &[]);
    let controls = engine::controls()?;
    let switches = told.effective(environment.variables(), version, None)?;
    let mut warnings: Vec<Warning> =
        told.problems.iter().map(|problem| Warning::new("settings", problem)).collect();
    for switch in &switches.switches {
        if let Some(misreading) = &switch.misreading {
            let value = switch.setting.value.as_deref().unwrap_or("…");
            warnings.push(Warning::new(&switch.name, &format!("`{value}` {misreading}")));
        }
        let Some(info) = controls.switch(&switch.name) else { continue };
        if let Some(why) = &info.does_nothing {
            warnings.push(Warning::new(&switch.name, &format!("does nothing: {why}")));
        }
        if let Some(renamed) = &info.renamed {
            warnings.push(Warning::new(&switch.name, &format!("was renamed; set {renamed} as well")));
        }
        for hidden in &switch.hidden {
            let said = hidden.value.as_deref().unwrap_or("…");
            let by = switch.setting.file.as_deref().unwrap_or(switch.setting.layer.as_str());
            let at = hidden.file.as_deref().unwrap_or(hidden.layer.as_str());
            if hidden.value != switch.setting.value {
                warnings
                    .push(Warning::new(&switch.name, &format!("`{said}` of {at} does not count: {by} wins")));
            }
        }
    }
    let rules = controls.rules();
    let mut environments = vec![environment.variables().clone()];
    environments.extend(told.settings().into_iter().map(|settings| settings.environment));
    for environment in &environments {
        for (name, meant) in claude::near_misses(environment, &rules) {
            warnings.push(Warning::new(name, &format!("is no switch; did you mean {meant}?")));
        }
    }
    for bypass in &switches.bypasses {
        warnings.push(Warning::new("bypass", bypass));
    }
    let seen_by_client = ClientSettings::overlay(&told.settings(), environment.variables());
    warnings.extend(way::warnings(&seen_by_client, &way::Machine::THIS));
    let mut probing = Probing::default();
    if let Some(Err(failure)) = &settings {
        // Whoever asks what is wrong is not sent away because something is.
        warnings.push(Warning::new("plainsight", &failure.to_string()));
    }
    if let Some(Ok(settings)) = &settings {
        let client = client.clone().map(|program| probe::Client { program, version });
        let trying = probe::probe(settings, environment, &seen_by_client, client.as_ref());
        probing = engine::runtime()?.block_on(trying)?;
        warnings.extend(probing.warnings());
    }
    let spool = spool(environment);
    if spool.files > 0 {
        let size = ByteSize::bytes(spool.bytes);
        let noun = if spool.files == 1 { "batch" } else { "batches" };
        warnings.push(Warning::new(
            "spool",
            &format!(
                "{} refused {noun} ({size}) wait in ~/.claude/telemetry and will be sent later; \
                 `plainsight scan ~/.claude/telemetry` shows what is in them",
                spool.files
            ),
        ));
    }
    Ok(Diagnosis { client, version, switches, titles: titles(&controls), warnings, probing, spool })
}

fn titles(controls: &crate::compliance::Controls) -> Vec<(Box<str>, Box<str>)> {
    controls.switches.iter().map(|info| (info.rule.name.clone(), info.title.clone())).collect()
}

/// What the client could not send, and keeps for a later try.
fn spool(environment: &Env) -> Spool {
    let mut spool = Spool::default();
    let paths = config::Paths::new(environment, claude::Platform::current());
    let Some(folder) = paths.client_folder else { return spool };
    let Ok(entries) = fs::read_dir(folder.join("telemetry")) else { return spool };
    for entry in entries.flatten() {
        let is_spool =
            entry.file_name().to_str().and_then(ClientFile::named) == Some(ClientFile::FailedEvents);
        if let (true, Ok(metadata)) = (is_spool, entry.metadata()) {
            spool.files += 1;
            spool.bytes += metadata.len();
        }
    }
    spool
}
