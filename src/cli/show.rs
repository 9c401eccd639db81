use std::io::Write as _;

use crate::{
    cli::{
        args::Show,
        engine,
        exit::{Exit, Failure},
        output::{self, Terminal},
    },
    config::Settings,
    report,
};

pub(super) fn execute(command: &Show, settings: &Settings, terminal: &Terminal) -> Result<Exit, Failure> {
    let record = engine::reader(settings)?
        .flow(command.id)
        .map_err(|error| Failure::new("reading the log", error))?
        .ok_or_else(|| Failure(format!("there is no record {}; `plainsight log` lists them", command.id)))?;
    if command.reveal {
        let body = record.opening.body.as_ref().ok_or_else(|| {
            Failure(format!(
                "the body of {} was not kept: it is only with `--capture full`, for requests that are inspected",
                command.id
            ))
        })?;
        let mut stdout = std::io::stdout().lock();
        stdout
            .write_all(body)
            .and_then(|()| stdout.flush())
            .map_err(|error| Failure::new("writing to stdout", error))?;
        return Ok(Exit::Success);
    }
    if command.json {
        output::print(&format!("{}\n", report::json::flow_with_fields(&record)))?;
    } else {
        output::print(&report::show(&record, &terminal.view()))?;
    }
    Ok(Exit::Success)
}
