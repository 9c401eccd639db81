//! `plainsight policy`: lists, shows and checks policies, and explains what they decide.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt::Write as _,
    fs::File,
    io::BufReader,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use crate::{
    audit,
    cli::{
        args, engine,
        exit::{Exit, Failure},
        output, scan,
    },
    config::Settings,
    destination::Catalogue,
    har,
    inspect::{Capture, Inspector},
    model::{Action, Authority, Destination, FlowId, FlowKind, FlowRecord, RunId},
    policy::{PROFILES, Policy, Question, Verdict},
    report::sanitize,
};

pub(super) fn execute(command: &args::Policy, settings: &Settings) -> Result<Exit, Failure> {
    match command {
        args::Policy::Check { policy, har, run, json } => {
            let settings = with_policy(settings, policy.as_deref());
            check(&settings, har.as_deref(), *run, *json)
        }
        args::Policy::Explain { what } => explain(settings, what),
        args::Policy::List { json } => list(*json),
        args::Policy::Show { policy } => {
            let (_, text) = engine::policy_text(policy.as_deref().or(settings.policy.as_deref()))?;
            output::print(&text)?;
            Ok(Exit::Success)
        }
    }
}

fn with_policy(settings: &Settings, policy: Option<&Path>) -> Settings {
    let policy = policy.map(PathBuf::from).or_else(|| settings.policy.clone());
    Settings { policy, ..settings.clone() }
}

fn list(json: bool) -> Result<Exit, Failure> {
    let mut text = String::new();
    for policy in PROFILES.iter().filter_map(|profile| Policy::profile(profile.name)) {
        if json {
            let object = serde_json::json!({
                "name": policy.name(), "about": policy.about(), "hash": policy.hash(),
                "rows": policy.rows().len(),
            });
            let _ = writeln!(text, "{object}");
        } else {
            let _ = writeln!(text, "{:8}  {}", policy.name(), policy.about());
        }
    }
    if !json {
        text.push_str("\nUse one with --policy NAME; `plainsight policy show NAME` prints it.\n");
    }
    output::print(&text)?;
    Ok(Exit::Success)
}

/// What a policy would have done to the requests for one destination.
#[derive(Default)]
struct Outlook {
    requests: u64,
    allowed: u64,
    redacted: u64,
    blocked: u64,
    /// Requests on which the record says something else.
    changed: u64,
}

impl Outlook {
    fn add(&mut self, record: &FlowRecord, action: Action) {
        self.requests += 1;
        match action {
            Action::Allow => self.allowed += 1,
            Action::Block => self.blocked += 1,
            Action::Redact => self.redacted += 1,
        }
        self.changed += u64::from(action != record.opening.action);
    }

    fn cells(&self) -> String {
        let Self { requests, allowed, redacted, blocked, changed } = self;
        format!("{requests:>9} {allowed:>9} {redacted:>9} {blocked:>9} {changed:>9}")
    }
}

fn check(settings: &Settings, har: Option<&Path>, run: Option<RunId>, json: bool) -> Result<Exit, Failure> {
    let rules = engine::rules(settings)?;
    let catalogue = Catalogue::embedded();
    let names = engine::names(&catalogue, &rules);
    let (name, text) = engine::policy_text(settings.policy.as_deref())?;
    let policy =
        Policy::from_toml(&name, &text).map_err(|error| Failure::new("the policy cannot be used", error))?;
    let mut lints = policy.unknown_names(&names);
    lints.extend(policy.unreachable_rows(&names));
    lints.sort_by_key(|lint| lint.place.line);

    let mut outlooks: BTreeMap<String, Outlook> = BTreeMap::new();
    let mut total = Outlook::default();
    let visit = |record: &FlowRecord| {
        let Some(asked) = Asked::of(record) else { return };
        let action = policy.decide(asked.question(record)).action;
        outlooks.entry(record.opening.destination.to_string()).or_default().add(record, action);
        total.add(record, action);
    };
    let what = match har {
        Some(path) => {
            // As if nothing had been in force: a recording was not decided about.
            let observing = Settings { policy: None, ..settings.clone() };
            of_recording(&scan::inspector(&observing, Capture::None, &[])?, path, visit)?;
            path.display().to_string()
        }
        None => {
            of_log(settings, run, visit)?;
            run.map_or_else(|| "the log".to_owned(), |run| format!("run {run}"))
        }
    };

    let exit = if lints.is_empty() { Exit::Success } else { Exit::No };
    let mut text = String::new();
    if json {
        let object = |id: &str, outlook: &Outlook| {
            serde_json::json!({
                "destination": id, "requests": outlook.requests, "allow": outlook.allowed,
                "redact": outlook.redacted, "block": outlook.blocked, "changed": outlook.changed,
            })
        };
        let lints = lints.iter().map(|lint| {
            serde_json::json!({ "file": &*lint.place.file, "line": lint.place.line, "row": lint.row, "why": lint.why })
        });
        let object = serde_json::json!({
            "policy": policy.name(), "hash": policy.hash(), "lints": lints.collect::<Vec<_>>(),
            "destinations": outlooks.iter().map(|(id, outlook)| object(id, outlook)).collect::<Vec<_>>(),
        });
        let _ = writeln!(text, "{object}");
        output::print(&text)?;
        return Ok(exit);
    }
    for lint in &lints {
        let _ = writeln!(text, "error: {lint}");
    }
    let _ = writeln!(text, "`{}`: {}", policy.name(), policy.about());
    let found = if lints.is_empty() {
        "nothing is wrong with them".to_owned()
    } else {
        format!("{} errors", lints.len())
    };
    let _ = writeln!(text, "{} rows; {found}", policy.rows().len());
    if total.requests == 0 {
        let _ = writeln!(text, "\nThere is no request in {what} to decide about.");
    } else {
        let _ = writeln!(text, "\nWhat it would do with {what}:\n");
        let _ = writeln!(
            text,
            "{:26}  {:>9} {:>9} {:>9} {:>9} {:>9}",
            "destination", "requests", "allowed", "redacted", "blocked", "changed"
        );
        for (id, outlook) in &outlooks {
            let _ = writeln!(text, "{:26}  {}", sanitize(id), outlook.cells());
        }
        let _ = writeln!(text, "{:26}  {}", "all", total.cells());
        let _ = writeln!(text, "\n`changed`: not what the record says was done then.");
    }
    output::print(&text)?;
    Ok(exit)
}

fn of_log(
    settings: &Settings,
    run: Option<RunId>,
    mut visit: impl FnMut(&FlowRecord),
) -> Result<(), Failure> {
    // Checking needs no log.
    let Ok(reader) = audit::Reader::open(&settings.data_dir) else { return Ok(()) };
    let filter = audit::Filter { run, order: audit::Order::OldestFirst, ..audit::Filter::default() };
    reader
        .visit(&filter, |record| {
            visit(&record);
            ControlFlow::Continue(())
        })
        .map_err(|error| Failure::new("reading the log", error))
}

fn of_recording(
    inspector: &Inspector,
    path: &Path,
    mut visit: impl FnMut(&FlowRecord),
) -> Result<(), Failure> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| Failure::new(&name, error))?;
    har::read(BufReader::new(file), |entry| {
        match entry {
            Ok(entry) => visit(&scan::record_of(inspector, entry)),
            Err(error) => eprintln!("plainsight: {}: {}", sanitize(&name), sanitize(&error.to_string())),
        }
        ControlFlow::Continue(())
    })
    .map_err(|error| Failure::new(&name, error))
}

fn explain(settings: &Settings, what: &OsStr) -> Result<Exit, Failure> {
    let rules = engine::rules(settings)?;
    let policy = engine::policy(settings, &rules)?;
    let mut text = String::new();
    let id = what.to_str().and_then(|what| what.parse::<FlowId>().ok());
    if let Some(id) = id {
        let record = engine::reader(settings)?
            .flow(id)
            .map_err(|error| Failure::new("reading the log", error))?
            .ok_or_else(|| Failure(format!("there is no record {id}; `plainsight log` lists them")))?;
        explained(&mut text, &policy, &record, Some(id));
    } else {
        of_recording(&scan::inspector(settings, Capture::None, &[])?, Path::new(what), |record| {
            explained(&mut text, &policy, record, None);
        })?;
    }
    output::print(&text)?;
    Ok(Exit::Success)
}

/// Columns that everything is laid out for.
const COLUMNS: usize = 80;

fn explained(text: &mut String, policy: &Policy, record: &FlowRecord, id: Option<FlowId>) {
    let opening = &record.opening;
    if !text.is_empty() {
        text.push('\n');
    }
    let number = id.map(|id| format!("{id}  ")).unwrap_or_default();
    let url = format!("{}{} {}{}", number, opening.method, opening.authority, opening.path);
    let _ = writeln!(text, "{}", cut(&sanitize(&url), COLUMNS));
    let _ = writeln!(
        text,
        "  to       {} ({})",
        sanitize(opening.destination.as_str()),
        opening.destination_kind
    );
    if let Some(reason) = opening.not_inspected {
        let _ = writeln!(text, "  not read {reason}");
    }
    let Some(asked) = Asked::of(record) else {
        let _ = writeln!(text, "  no request could be read, so that no policy was asked");
        return;
    };
    let question = asked.question(record);
    let decision = policy.decide(question);
    let hash = |hash: &str| hash.get(..12).unwrap_or(hash).to_owned();
    if id.is_some() && opening.policy_hash.as_deref() != Some(policy.hash()) {
        let by = opening.policy_hash.as_deref().map_or_else(|| "an earlier policy".to_owned(), hash);
        let row = sanitize(&opening.policy_row);
        let _ = writeln!(text, "  then     {}, by row `{row}` of {by}", opening.action);
    }
    let (request, findings) = policy.verdicts(question);
    let now = if id.is_some() { "now" } else { "would" };
    let _ = writeln!(
        text,
        "  {now:7}  {}, by row `{}` of `{}` ({})",
        decision.action,
        decision.row,
        policy.name(),
        hash(policy.hash())
    );
    if decision.action == Action::Block {
        let _ = writeln!(text, "  answer   {}", decision.answer);
    }
    let decisive = std::iter::once(&request).chain(&findings).find(|verdict| verdict.row == decision.row);
    if let Some(row) = decisive.and_then(|verdict| verdict.by) {
        let _ = writeln!(text, "  written  {}", row.place);
        if !row.why.is_empty() {
            wrapped(text, "  because  ", &row.why);
        }
    }
    let _ = writeln!(text, "\n  {:28} {:7} {:>8}  rules", "row", "action", "findings");
    let _ = writeln!(text, "  {:28} {:7} {:>8}", request.row, request.action.as_str(), "request");
    let mut groups: Vec<(Verdict<'_>, u64, Vec<&str>)> = Vec::new();
    for (verdict, finding) in findings.iter().zip(&opening.findings) {
        let at = groups.iter().position(|(group, ..)| group.row == verdict.row).unwrap_or_else(|| {
            groups.push((*verdict, 0, Vec::new()));
            groups.len() - 1
        });
        let (_, count, rules) = &mut groups[at];
        *count += 1;
        if !rules.contains(&finding.rule.as_str()) {
            rules.push(finding.rule.as_str());
        }
    }
    for (verdict, count, rules) in groups {
        let line = format!("  {:28} {:7} {count:>8}  ", verdict.row, verdict.action.as_str());
        wrapped(text, &line, &rules.join(", "));
    }
}

/// Writes words behind `first`, and under each other.
fn wrapped(text: &mut String, first: &str, words: &str) {
    let indent = first.chars().count();
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in sanitize(words).split(' ') {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            let _ = writeln!(text, "{}", line.trim_end());
            line = " ".repeat(indent);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

fn cut(line: &str, columns: usize) -> String {
    match line.char_indices().nth(columns) {
        None => line.to_owned(),
        Some(_) => line.chars().take(columns - 1).chain(['…']).collect(),
    }
}

/// What a record says of a request, as policy wants it.
struct Asked {
    destination: Destination,
    authority: Authority,
    path: String,
}

impl Asked {
    /// `None` if there was no request, only a connection to nobody.
    fn of(record: &FlowRecord) -> Option<Self> {
        let opening = &record.opening;
        let path = opening.path.split('?').next().unwrap_or_default().to_owned();
        Some(Self {
            destination: Destination {
                id: opening.destination.clone(),
                kind: opening.destination_kind,
                inspected: opening.kind == FlowKind::Request,
            },
            authority: Authority::parse(&opening.authority, Some(443)).ok()?,
            path,
        })
    }

    fn question<'a>(&'a self, record: &'a FlowRecord) -> Question<'a> {
        Question {
            destination: &self.destination,
            authority: &self.authority,
            path: &self.path,
            findings: &record.opening.findings,
            not_inspected: record.opening.not_inspected,
            // Not kept: a record does not name what no rule named.
            unknown_fields: false,
        }
    }
}
