use std::{
    fmt::Write as _,
    fs,
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    audit::{ChainHash, Verification},
    cli::{
        args::Verify,
        engine,
        exit::{Exit, Failure},
        output,
    },
    config::Settings,
};

pub(super) fn execute(command: &Verify, settings: &Settings) -> Result<Exit, Failure> {
    let heads = command.head.iter().map(|head| noted(head)).collect::<Result<Vec<_>, _>>()?;
    let reader = engine::reader(settings)?;
    let mut progress = Progress::new();
    let found = reader
        .verify(&heads, &mut |done, total| progress.tick(done, total))
        .map_err(|error| Failure::new("reading the log", error))?;
    drop(progress);
    if let Some(path) = &command.seal
        && found.holds()
    {
        seal(path, &found)?;
    }
    let text = if command.json { format!("{}\n", as_json(&found)) } else { as_text(&found) };
    output::print(&text)?;
    Ok(if found.holds() { Exit::Success } else { Exit::No })
}

/// A head as it was typed, or out of a file that [`seal`] wrote.
fn noted(head: &str) -> Result<ChainHash, Failure> {
    if let Ok(hash) = head.parse() {
        return Ok(hash);
    }
    let fails = |error: &dyn std::fmt::Display| Failure(format!("--head {head}: {error}"));
    let neither = || fails(&"is neither 64 hex digits nor a file that `--seal` wrote");
    let text = match fs::read_to_string(head) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(neither()),
        Err(error) => return Err(fails(&error)),
    };
    text.split_whitespace().next().and_then(|hash| hash.parse().ok()).ok_or_else(neither)
}

fn seal(path: &Path, found: &Verification) -> Result<(), Failure> {
    let Some(head) = found.head else {
        return Err(Failure(format!("--seal {}: there is no record yet", path.display())));
    };
    let line = format!("{} link {} {}\n", head.hash, head.link, jiff::Timestamp::now());
    fs::write(path, line).map_err(|error| Failure::new(&format!("--seal {}", path.display()), error))
}

fn as_text(found: &Verification) -> String {
    let mut text = String::new();
    for fault in &found.faults {
        _ = writeln!(text, "{fault}");
    }
    if found.more_faults > 0 {
        _ = writeln!(text, "… and {} more", found.more_faults);
    }
    if found.adopted > 0 {
        let adopted = found.adopted;
        _ = writeln!(
            text,
            "{adopted} links were made later than their records: since then nothing may change."
        );
    }
    let what = if found.holds() { "holds" } else { "does not hold" };
    let (links, flows, runs) = (found.links, found.flows, found.runs);
    _ = writeln!(text, "The log {what}: {links} links, {flows} flows, {runs} runs");
    if let Some(head) = found.head {
        _ = writeln!(text, "head: {}", head.hash);
    }
    text
}

fn as_json(found: &Verification) -> serde_json::Value {
    let faults = found.faults.iter().map(|fault| {
        json!({
            "what": fault.kind.as_str(), "link": fault.link, "record": fault.record, "text": fault.to_string(),
        })
    });
    json!({
        "holds": found.holds(), "links": found.links, "flows": found.flows, "runs": found.runs,
        "adopted": found.adopted, "head": found.head.map(|head| head.hash.to_string()),
        "faults": faults.collect::<Vec<_>>(), "more_faults": found.more_faults,
    })
}

/// Says on a terminal how far it is; elsewhere it says nothing.
struct Progress {
    next: Option<Instant>,
    is_shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { next: io::stderr().is_terminal().then(|| Instant::now() + FIRST), is_shown: false }
    }

    fn tick(&mut self, done: u64, total: u64) {
        let now = Instant::now();
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        self.next = Some(now + EVERY);
        self.is_shown = true;
        eprint!("{CLEAR}verified {done} of {total} links");
        _ = io::stderr().flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            eprint!("{CLEAR}");
        }
    }
}

/// Start of the line, and everything behind it gone.
const CLEAR: &str = "\r\x1b[K";

/// What ends sooner needs no progress.
const FIRST: Duration = Duration::from_secs(1);

const EVERY: Duration = Duration::from_millis(200);
