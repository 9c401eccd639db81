use std::collections::BTreeSet;

use serde::Deserialize;

use crate::model::{Action, DestinationKind, PathPattern};

use super::{Policy, Row};

/// A policy that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {message}")]
pub struct PolicyError {
    file: String,
    message: String,
}

/// The one version of the format that exists.
const SCHEMA: u32 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    name: String,
    default: Default,
    #[serde(default)]
    row: Vec<Spec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Default {
    action: Action,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    id: String,
    #[serde(default)]
    destination: Vec<String>,
    #[serde(default)]
    kind: Vec<DestinationKind>,
    action: Action,
    #[serde(rename = "why")]
    _why: Option<String>,
}

pub(super) fn parse(name: &str, text: &str) -> Result<Policy, PolicyError> {
    let error = |message: String| PolicyError { file: name.to_owned(), message };
    let file: File =
        toml::from_str(text).map_err(|source| error(source.to_string().trim_end().to_owned()))?;
    if file.schema != SCHEMA {
        return Err(error(format!(
            "schema {} is not known; this version reads schema {SCHEMA}",
            file.schema
        )));
    }
    refuse_unbuilt("the default", file.default.action).map_err(error)?;
    let mut ids = BTreeSet::new();
    let mut rows = Vec::with_capacity(file.row.len());
    for spec in file.row {
        if !ids.insert(spec.id.clone()) {
            return Err(error(format!("row `{}` stands there twice", spec.id)));
        }
        refuse_unbuilt(&format!("row `{}`", spec.id), spec.action).map_err(error)?;
        let globs = spec.destination.iter().map(|glob| PathPattern::parse(glob));
        let destinations = globs
            .collect::<Result<_, _>>()
            .map_err(|source| error(format!("row `{}`: destination {source}", spec.id)))?;
        rows.push(Row { id: spec.id, destinations, kinds: spec.kind, action: spec.action });
    }
    Ok(Policy { name: file.name, hash: String::new(), rows, default: file.default.action })
}

/// Refuses what a person would otherwise believe to be done.
fn refuse_unbuilt(place: &str, action: Action) -> Result<(), String> {
    match action {
        Action::Allow => Ok(()),
        Action::Block | Action::Redact => {
            Err(format!("{place}: action `{action}` is not built yet; this version can only `allow`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "schema = 1\nname = \"x\"\n[default]\naction = \"allow\"\n[[row]]\nid = \"one\"\naction = \"allow\"\n";

    #[test]
    fn an_action_that_is_not_built_is_refused_at_load() {
        for action in ["redact", "block"] {
            let in_row =
                POLICY.replace("\"one\"\naction = \"allow\"", &format!("\"one\"\naction = \"{action}\""));
            let message = parse("p.toml", &in_row).unwrap_err().to_string();

            assert_eq!(
                message,
                format!(
                    "p.toml: row `one`: action `{action}` is not built yet; this version can only `allow`"
                )
            );
        }
        assert!(parse("p.toml", POLICY).is_ok());
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            (POLICY.replace("[default]\naction = \"allow\"\n", ""), "missing field `default`"),
            (POLICY.replace("[[row]]", "[[rows]]"), "rows"),
            (POLICY.replace("id = \"one\"", "id = \"one\"\nkind = [\"telemetri\"]"), "`telemetri`"),
            (POLICY.replace("schema = 1", "schema = 2"), "schema 2"),
        ] {
            let message = parse("p.toml", &text).unwrap_err().to_string();

            assert!(message.contains(expected), "{message}");
        }
    }
}
