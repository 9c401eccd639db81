use serde_json::json;

use crate::{
    audit::{AuditError, Reader},
    claude::PlanUsage,
    cli::{
        args::{Usage, UsageStyle},
        exit::{Exit, Failure},
        output::{self, Terminal, now_ms},
    },
    config::Settings,
    proxy::PLAN_USAGE,
    report::{UsageColours, UsageView, usage_line, usage_template},
};

pub(super) fn execute(command: &Usage, settings: &Settings, terminal: &Terminal) -> Result<Exit, Failure> {
    let failed = |error| Failure::new("reading what is known of the plan", error);
    let fact = match Reader::open(&settings.data_dir) {
        Ok(reader) => reader.fact(PLAN_USAGE).map_err(failed)?,
        Err(AuditError::NoStore(_)) => None,
        Err(error) => return Err(failed(error)),
    };
    let Some(fact) = fact else {
        eprintln!(
            "plainsight: no answer about the plan has passed by yet; the client asks for it with /usage"
        );
        return Ok(Exit::No);
    };
    let usage: PlanUsage = serde_json::from_str(&fact.value)
        .map_err(|error| Failure::new("what is kept of the plan cannot be read", error))?;
    if command.json {
        let windows = usage.windows.iter().map(|window| {
            json!({
                "name": window.name,
                "percent": window.percent,
                "resets_at": window.resets_at,
                "resets_in_secs": window.resets_at.as_deref().and_then(time_ms).map(|time| (time - now_ms()) / 1000),
            })
        });
        let told = jiff::Timestamp::from_millisecond(fact.time_ms).unwrap_or_default();
        let line = json!({
            "told": told.to_string(),
            "age_secs": (now_ms() - fact.time_ms) / 1000,
            "windows": windows.collect::<Vec<_>>(),
        });
        output::print(&format!("{line}\n"))?;
        return Ok(Exit::Success);
    }
    let colours = match command.style {
        UsageStyle::Auto if terminal.colour => UsageColours::Ansi,
        UsageStyle::Auto | UsageStyle::Plain => UsageColours::None,
        UsageStyle::Tmux => UsageColours::Tmux,
    };
    let view = UsageView {
        now_ms: now_ms(),
        told_ms: fact.time_ms,
        thresholds: (command.warn, command.alert),
        colours,
    };
    let line = match &command.format {
        Some(template) => usage_template(template, &usage, &view, time_ms)
            .map_err(|error| Failure::new("--format", error))?,
        None => usage_line(&usage, &view, time_ms),
    };
    output::print(&format!("{line}\n"))?;
    Ok(Exit::Success)
}

fn time_ms(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}
