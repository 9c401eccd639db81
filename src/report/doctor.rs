//! What the client here is told, for people and as JSON.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{
    model::{ByteSize, ClientVersion, EffectiveSwitches},
    report::{
        View, sanitize,
        text::{self, Ink},
    },
};

/// What was found out.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// The client's program, if one is on the path.
    pub client: Option<PathBuf>,
    /// Its version.
    pub version: Option<ClientVersion>,
    /// What a client that is started here is told.
    pub switches: EffectiveSwitches,
    /// What each switch is for.
    pub titles: Vec<(Box<str>, Box<str>)>,
    /// What to look at.
    pub warnings: Vec<Warning>,
    /// What waits to be sent.
    pub spool: Spool,
}

/// Something to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The switch, or a word for what it is about.
    pub about: Box<str>,
    /// In a sentence.
    pub what: Box<str>,
}

impl Warning {
    /// Puts both together.
    pub fn new(about: &str, what: &str) -> Self {
        Self { about: about.into(), what: what.into() }
    }
}

/// Batches that the service refused, and that the client keeps for a later try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spool {
    /// How many files.
    pub files: u64,
    /// How large they are together.
    pub bytes: u64,
}

/// For people.
pub fn screen(diagnosis: &Diagnosis, view: &View) -> String {
    let mut out = String::new();
    let mut line = |ink: Ink, line: String| {
        let line = text::fit(&sanitize(&line), view.columns()).into_owned();
        out.push_str(&view.paint(ink, line));
        out.push('\n');
    };
    let version =
        diagnosis.version.map_or_else(|| "unknown version".to_owned(), |version| version.to_string());
    line(
        Ink::Bold,
        match &diagnosis.client {
            Some(_) => format!("client {version}, {}", diagnosis.switches.provider),
            None => format!("no client on the path; {}", diagnosis.switches.provider),
        },
    );
    line(Ink::Plain, String::new());
    if diagnosis.switches.switches.is_empty() {
        line(Ink::Plain, "no switch is set: everything is at its default".to_owned());
    }
    let name = diagnosis.switches.switches.iter().map(|switch| text::width(&switch.name)).max().unwrap_or(0);
    for switch in &diagnosis.switches.switches {
        let value = switch.setting.value.as_deref().unwrap_or("…");
        let from = switch.setting.file.as_deref().unwrap_or(switch.setting.layer.as_str());
        let shown = format!(
            "{}  {}  {value}  from {from}",
            text::left(&switch.name, name),
            text::left(switch.state.as_str(), 5)
        );
        line(Ink::Plain, shown);
        if let Some((_, title)) = diagnosis.titles.iter().find(|(known, _)| *known == switch.name) {
            line(Ink::Dim, format!("  {title}"));
        }
    }
    line(Ink::Plain, String::new());
    for warning in &diagnosis.warnings {
        let mut indent = "! ";
        let whole = format!("{}: {}", warning.about, warning.what);
        for part in wrap(&whole, view.columns().saturating_sub(2)) {
            line(Ink::Medium, format!("{indent}{part}"));
            indent = "  ";
        }
    }
    if diagnosis.warnings.is_empty() {
        line(Ink::Good, "nothing to look at".to_owned());
    }
    let size = ByteSize::bytes(diagnosis.spool.bytes);
    line(
        Ink::Dim,
        format!("waiting to be sent in ~/.claude/telemetry: {} files, {size}", diagnosis.spool.files),
    );
    out
}

/// As one object.
pub fn json(diagnosis: &Diagnosis) -> Value {
    let warning = |warning: &Warning| json!({ "about": warning.about, "what": warning.what });
    json!({
        "schema": 1,
        "client": diagnosis.client,
        "client_version": diagnosis.version,
        "told": diagnosis.switches,
        "warnings": diagnosis.warnings.iter().map(warning).collect::<Vec<_>>(),
        "spool": { "files": diagnosis.spool.files, "bytes": diagnosis.spool.bytes },
    })
}

fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(last) = lines.last_mut() else { break };
        if last.is_empty() {
            last.push_str(word);
        } else if text::width(last) + 1 + text::width(word) <= columns {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
