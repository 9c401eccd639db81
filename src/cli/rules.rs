use std::{fmt::Write as _, ops::ControlFlow};

use crate::{
    audit,
    cli::{
        args::Rules,
        engine,
        exit::{Exit, Failure},
        output::{self, Terminal},
    },
    config::Settings,
    inspect,
    rules::{Kind, Rule, RuleSet},
};

/// What rules are timed on: telemetry as clients send it, with nothing real in it.
const SAMPLE: &[u8] = include_bytes!("../../rules/check-sample.json");

pub(super) fn execute(command: &Rules, settings: &Settings, _terminal: &Terminal) -> Result<Exit, Failure> {
    let rules = engine::rules(settings)?;
    let (text, exit) = match command {
        Rules::Check { json, budget } => check(&rules, *json, *budget),
        Rules::List { json: true } => (list_json(&rules), Exit::Success),
        Rules::List { json: false } => (list(&rules), Exit::Success),
        Rules::Explain { id } => (explain(&rules, id, settings)?, Exit::Success),
    };
    output::print(&text)?;
    Ok(exit)
}

fn check(rules: &RuleSet, json: bool, budget: f64) -> (String, Exit) {
    let failures = rules.prove();
    let unredacted = inspect::prove_redaction(rules);
    let crossed = rules.cross_hits();
    let costs: Vec<(&Rule, f64)> = rules
        .rules()
        .iter()
        .zip(rules.work(SAMPLE))
        .map(|(rule, bytes)| (rule, bytes as f64 / SAMPLE.len() as f64))
        .collect();
    let dear: Vec<_> = costs.iter().filter(|(_, cost)| *cost > budget).collect();
    let exit = if failures.is_empty() && unredacted.is_empty() && dear.is_empty() {
        Exit::Success
    } else {
        Exit::No
    };
    let mut text = String::new();
    if json {
        for (kind, failure) in
            failures.iter().map(|it| ("sample", it)).chain(unredacted.iter().map(|it| ("redaction", it)))
        {
            let object = serde_json::json!({
                "kind": kind, "rule": failure.rule, "sample": failure.number, "why": failure.why,
            });
            let _ = writeln!(text, "{object}");
        }
        for hit in &crossed {
            let object = serde_json::json!({
                "kind": "cross-hit", "rule": hit.rule, "sample": hit.number, "other": hit.other,
            });
            let _ = writeln!(text, "{object}");
        }
        for (rule, cost) in &costs {
            let object = serde_json::json!({
                "kind": "cost", "rule": rule.id, "ratio": cost, "over_budget": *cost > budget,
            });
            let _ = writeln!(text, "{object}");
        }
        return (text, exit);
    }
    for failure in failures.iter().chain(&unredacted) {
        let place = rules.rule(&failure.rule).map(|rule| rule.place.to_string()).unwrap_or_default();
        let _ = writeln!(text, "error: {place}: {failure}");
    }
    for (rule, cost) in &dear {
        let _ = writeln!(
            text,
            "error: {}: rule `{}` looks at {cost:.2} bytes for each byte of telemetry, more than {budget}; give it a rarer anchor or a smaller `max_len`",
            rule.place, rule.id
        );
    }
    for hit in &crossed {
        let _ = writeln!(
            text,
            "info: `{}` also finds something in sample {} of `{}`",
            hit.other, hit.number, hit.rule
        );
    }
    let samples: usize = rules.rules().iter().map(|rule| rule.samples.len()).sum();
    let dearest = costs.iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let _ = writeln!(
        text,
        "{} rules, {samples} samples: {} failed, {} failed once redacted, {} over the budget, {} cross-hits",
        rules.rules().len(),
        failures.len(),
        unredacted.len(),
        dear.len(),
        crossed.len()
    );
    if let Some((rule, cost)) = dearest {
        let _ = writeln!(
            text,
            "the dearest is `{}`: {cost:.3} bytes looked at for each byte of telemetry",
            rule.id
        );
    }
    (text, exit)
}

fn list_json(rules: &RuleSet) -> String {
    let mut text = String::new();
    for rule in rules.rules() {
        let object = serde_json::json!({
            "id": rule.id, "title": rule.title, "entity": rule.entity, "category": rule.category,
            "severity": rule.severity, "confidence": rule.confidence, "why": rule.why, "pack": rule.pack,
            "kind": rule.kind.as_str(), "place": rule.place.to_string(),
        });
        let _ = writeln!(text, "{object}");
    }
    text
}

fn list(rules: &RuleSet) -> String {
    let mut sorted: Vec<&Rule> = rules.rules().iter().collect();
    // Stable: within a category, in the order of the file. Packs stay in their order as well.
    let first = |rule: &Rule| rules.rules().iter().position(|other| other.pack == rule.pack);
    sorted.sort_by_key(|rule| (first(rule), rule.category.clone()));
    let width = sorted.iter().map(|rule| rule.id.as_str().len()).max().unwrap_or_default();
    let mut text = String::new();
    let mut group = None;
    for rule in sorted {
        let here = (&rule.pack, &rule.category);
        if group != Some(here) {
            let gap = if group.is_some() { "\n" } else { "" };
            let _ = writeln!(text, "{gap}{} / {}", rule.pack, rule.category);
            group = Some(here);
        }
        let _ = writeln!(text, "  {:width$}  {:8}  {}", rule.id, rule.severity, rule.title);
    }
    text
}

fn explain(rules: &RuleSet, id: &str, settings: &Settings) -> Result<String, Failure> {
    let rule = rules.rule(id).ok_or_else(|| {
        let names = rules.rules().iter().map(|rule| rule.id.as_str());
        let near = names.max_by(|a, b| strsim::jaro(a, id).total_cmp(&strsim::jaro(b, id)));
        Failure(format!("there is no rule `{id}`; did you mean `{}`?", near.unwrap_or_default()))
    })?;
    let mut text = format!("{}\n  {}\n", rule.id, rule.title);
    if !rule.why.is_empty() {
        let _ = writeln!(text, "  {}", rule.why);
    }
    let _ = writeln!(text, "\n  entity      {}", rule.entity);
    let _ = writeln!(text, "  category    {}", rule.category);
    let _ = writeln!(text, "  severity    {}", rule.severity);
    let _ = writeln!(text, "  confidence  {}", rule.confidence);
    let _ = writeln!(text, "  written in  {} (pack `{}`)", rule.place, rule.pack);
    let looks_at = match &rule.kind {
        Kind::Field => "the whole value of certain fields",
        Kind::Known(_) => "exact values that this machine knows",
        Kind::Value(_) => "anything that looks like it, in any text",
    };
    let _ = writeln!(text, "  looks at    {looks_at}");
    for pattern in rule.paths.iter().filter(|pattern| !pattern.matches_everything()) {
        let _ = writeln!(text, "  where       {}", pattern.as_str());
    }
    for pattern in &rule.paths_not {
        let _ = writeln!(text, "  not where   {}", pattern.as_str());
    }
    let _ = writeln!(text, "\nSeen\n  {}", seen(rule, settings));
    let _ = writeln!(
        text,
        "\nSilence it\n  Copy the pack `{}` into a folder, change the rule there, and name the folder with --rules:\n    \
         for one value     allow = {{ exact = [\"…\"], reason = \"why\", expires = \"2027-01-31\" }}\n    \
         for one field     where_not = [\"**/name_of_the_field\"]\n  \
         `plainsight rules check --rules FOLDER` proves that its samples still hold.",
        rule.pack
    );
    Ok(text)
}

/// Where a rule was seen, as far as there is a log.
fn seen(rule: &Rule, settings: &Settings) -> String {
    let Ok(reader) = audit::Reader::open(&settings.data_dir) else {
        return "there is no log yet".to_owned();
    };
    let filter = audit::Filter { rule: Some(rule.id.clone()), ..audit::Filter::default() };
    let (mut flows, mut values) = (0_u64, 0_u64);
    let visited = reader.visit(&filter, |flow| {
        flows += 1;
        values += flow.opening.findings.iter().filter(|finding| finding.rule == rule.id).count() as u64;
        ControlFlow::Continue(())
    });
    match (visited, flows) {
        (Err(error), _) => format!("the log cannot be read: {error}"),
        (Ok(()), 0) => "never, in this log".to_owned(),
        (Ok(()), flows) => format!("{values} values in {flows} requests: plainsight log --rule {}", rule.id),
    }
}
