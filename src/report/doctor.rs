//! What the client here is told, for people and as JSON.

use std::{fmt, path::PathBuf};

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
    /// Who would be seen.
    pub probing: Probing,
    /// What waits to be sent.
    pub spool: Spool,
}

/// What came of trying it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probing {
    /// Which way was tried; empty if there is none.
    pub way: Box<str>,
    /// Whether that is how programs here go already, in place of how they would go.
    pub is_set_up: bool,
    /// Why nothing was tried.
    pub untried: Option<Box<str>>,
    /// What became of each runtime.
    pub trials: Vec<Trial>,
}

/// What became of one runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Its name.
    pub runtime: Box<str>,
    /// Whether it was seen.
    pub verdict: Verdict,
    /// What to do about it.
    pub fix: Option<Box<str>>,
}

/// Whether a program was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It went, or would have gone, around the proxy.
    Around,
    /// Something else went wrong, in its own words.
    Failed(Box<str>),
    /// Its request came to plainsight and could be read.
    Seen,
    /// It was not started, and why.
    Untried(Box<str>),
    /// It came to plainsight, and did not trust its certificate.
    Untrusted,
}

impl Trial {
    /// Puts a verdict together with its fix.
    pub fn new(runtime: &str, verdict: Verdict, fix: impl FnOnce(&Verdict) -> Option<String>) -> Self {
        let fix = fix(&verdict).map(String::into_boxed_str);
        Self { runtime: runtime.into(), verdict, fix }
    }

    fn said(&self) -> String {
        match (&self.verdict, &self.fix) {
            (verdict, Some(fix)) => format!("{verdict}; {fix}"),
            (verdict, None) => verdict.to_string(),
        }
    }
}

impl Verdict {
    /// In a word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Around => "around",
            Self::Failed(_) => "failed",
            Self::Seen => "seen",
            Self::Untried(_) => "untried",
            Self::Untrusted => "untrusted",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Around => f.write_str("goes around the proxy, unseen"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Seen => f.write_str("seen and read"),
            Self::Untried(why) => write!(f, "not tried: {why}"),
            Self::Untrusted => f.write_str("does not trust the proxy's certificate: its requests fail"),
        }
    }
}

impl Probing {
    /// What to look at: whoever would not be seen, where programs here go this way already.
    pub fn warnings(&self) -> impl Iterator<Item = Warning> {
        let unseen = |trial: &&Trial| !matches!(trial.verdict, Verdict::Seen | Verdict::Untried(_));
        let trials = self.trials.iter().filter(move |trial| self.is_set_up && unseen(trial));
        trials.map(|trial| Warning::new(&trial.runtime, &trial.said()))
    }
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
    let probing = &diagnosis.probing;
    if !probing.way.is_empty() {
        line(Ink::Plain, String::new());
        line(Ink::Bold, format!("tried {}", probing.way));
    }
    if let Some(why) = &probing.untried {
        line(Ink::Plain, format!("  nothing: {why}"));
    }
    let runtime = probing.trials.iter().map(|trial| text::width(&trial.runtime)).max().unwrap_or(0);
    for trial in &probing.trials {
        let ink = match trial.verdict {
            Verdict::Seen => Ink::Good,
            Verdict::Untried(_) => Ink::Dim,
            _ => Ink::Medium,
        };
        let mut before = format!("  {}  ", text::left(&trial.runtime, runtime));
        let rest = text::width(&before);
        for part in wrap(&trial.said(), view.columns().saturating_sub(rest)) {
            line(ink, format!("{before}{part}"));
            before = " ".repeat(rest);
        }
    }
    if !probing.way.is_empty() {
        line(Ink::Plain, String::new());
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
    let trial = |trial: &Trial| {
        json!({
            "runtime": trial.runtime,
            "verdict": trial.verdict.as_str(),
            "what": trial.verdict.to_string(),
            "fix": trial.fix,
        })
    };
    json!({
        "schema": 1,
        "client": diagnosis.client,
        "client_version": diagnosis.version,
        "told": diagnosis.switches,
        "warnings": diagnosis.warnings.iter().map(warning).collect::<Vec<_>>(),
        "probing": {
            "way": diagnosis.probing.way,
            "set_up": diagnosis.probing.is_set_up,
            "untried": diagnosis.probing.untried,
            "trials": diagnosis.probing.trials.iter().map(trial).collect::<Vec<_>>(),
        },
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
