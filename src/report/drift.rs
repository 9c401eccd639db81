//! What came and went between two runs.

use serde_json::{Value, json};

use crate::{
    compliance::{Drift, Named},
    model::{EffectiveSwitches, RunId},
    report::{
        View, sanitize,
        text::{self, Ink},
    },
};

/// What two runs were told.
type Told<'t> = (Option<&'t EffectiveSwitches>, Option<&'t EffectiveSwitches>);

/// For people: `+` came, `-` went.
pub fn table((first, second): (RunId, RunId), told: Told<'_>, drift: &Drift, view: &View) -> String {
    let mut out = String::new();
    let mut line = |ink: Ink, line: String| {
        let line = text::fit_middle(&sanitize(&line), view.columns()).into_owned();
        out.push_str(&view.paint(ink, line));
        out.push('\n');
    };
    line(Ink::Bold, format!("run {first} ({}) against run {second} ({})", said(told.0), said(told.1)));
    let shown = |named: &Named| match &*named.destination {
        "" => format!("{} {}", named.kind, named.name),
        destination => format!("{} {destination} {}", named.kind, named.name),
    };
    for named in &drift.went {
        line(Ink::Low, format!("- {}", shown(named)));
    }
    for named in &drift.came {
        line(Ink::Medium, format!("+ {}", shown(named)));
    }
    line(Ink::Plain, format!("{} came, {} went", drift.came.len(), drift.went.len()));
    out
}

/// As one object.
pub fn json((first, second): (RunId, RunId), told: Told<'_>, drift: &Drift) -> Value {
    json!({
        "schema": 1,
        "first": { "run": first.get(), "told": told.0 },
        "second": { "run": second.get(), "told": told.1 },
        "came": drift.came,
        "went": drift.went,
    })
}

fn said(told: Option<&EffectiveSwitches>) -> String {
    let Some(told) = told else { return "nobody knows what it was told".to_owned() };
    let version = told.client_version.map(|version| version.to_string());
    let switches = told.switches.iter().map(|switch| {
        let value = switch.setting.value.as_deref().map_or_else(String::new, |value| format!("={value}"));
        format!("{}{value}", switch.name)
    });
    let all: Vec<String> = version.into_iter().chain(switches).collect();
    if all.is_empty() { "defaults".to_owned() } else { all.join(" ") }
}
