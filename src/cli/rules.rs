use std::fmt::Write as _;

use crate::{
    cli::{
        args::Rules,
        engine,
        exit::{Exit, Failure},
        output::{self, Terminal},
    },
    config::Settings,
};

pub(super) fn execute(command: &Rules, settings: &Settings, _terminal: &Terminal) -> Result<Exit, Failure> {
    let rules = engine::rules(settings)?;
    let mut text = String::new();
    match command {
        Rules::List { json: true } => {
            for rule in rules.rules() {
                let object = serde_json::json!({
                    "id": rule.id, "title": rule.title, "entity": rule.entity, "category": rule.category,
                    "severity": rule.severity, "confidence": rule.confidence, "why": rule.why,
                });
                let _ = writeln!(text, "{object}");
            }
        }
        Rules::List { json: false } => {
            let width = rules.rules().iter().map(|rule| rule.id.as_str().len()).max().unwrap_or_default();
            for rule in rules.rules() {
                let _ = writeln!(text, "{:width$}  {:8}  {}", rule.id, rule.severity, rule.title);
            }
        }
        Rules::Explain { id } => {
            let rule = rules.rules().iter().find(|rule| rule.id.as_str() == id).ok_or_else(|| {
                let names = rules.rules().iter().map(|rule| rule.id.as_str());
                let near = names.max_by(|a, b| strsim::jaro(a, id).total_cmp(&strsim::jaro(b, id)));
                Failure(format!("there is no rule `{id}`; did you mean `{}`?", near.unwrap_or_default()))
            })?;
            let _ = writeln!(text, "{}\n  {}\n", rule.id, rule.title);
            let _ = writeln!(text, "  entity      {}", rule.entity);
            let _ = writeln!(text, "  category    {}", rule.category);
            let _ = writeln!(text, "  severity    {}", rule.severity);
            let _ = writeln!(text, "  confidence  {}", rule.confidence);
            if !rule.why.is_empty() {
                let _ = writeln!(text, "\n  {}", rule.why);
            }
            let _ = writeln!(text, "\nSeen: plainsight log --rule {}", rule.id);
        }
    }
    output::print(&text)?;
    Ok(Exit::Success)
}
