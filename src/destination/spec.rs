use std::collections::BTreeSet;

use serde::Deserialize;

use crate::model::{AuthorityPattern, Destination, DestinationId, DestinationKind, PathPattern};

use super::Row;

/// A catalogue that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {message}")]
pub struct CatalogueError {
    file: String,
    message: String,
}

/// The one version of the format that exists.
const SCHEMA: u32 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    #[serde(rename = "version")]
    _version: String,
    destination: Vec<Spec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    id: String,
    title: String,
    owner: String,
    purpose: String,
    kind: DestinationKind,
    hosts: Vec<String>,
    #[serde(default)]
    methods: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    types: Vec<String>,
    intercept: bool,
    #[serde(default = "yes")]
    inspect: bool,
    versions: Option<String>,
    #[serde(rename = "source")]
    _source: Source,
}

/// Where a row's facts come from.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Source {
    Documented,
    Measured,
    Public,
}

fn yes() -> bool {
    true
}

pub(super) fn parse(name: &str, text: &str) -> Result<Vec<Row>, CatalogueError> {
    let error = |message: String| CatalogueError { file: name.to_owned(), message };
    let file: File =
        toml::from_str(text).map_err(|source| error(source.to_string().trim_end().to_owned()))?;
    if file.schema != SCHEMA {
        return Err(error(format!(
            "schema {} is not known; this version reads schema {SCHEMA}",
            file.schema
        )));
    }
    let mut ids = BTreeSet::new();
    let mut rows = Vec::with_capacity(file.destination.len());
    for spec in file.destination {
        if !ids.insert(spec.id.clone()) {
            return Err(error(format!("destination `{}` stands there twice", spec.id)));
        }
        let id = spec.id.clone();
        rows.push(spec.compile().map_err(|message| error(format!("destination `{id}`: {message}")))?);
    }
    Ok(rows)
}

impl Spec {
    fn compile(self) -> Result<Row, String> {
        if self.hosts.is_empty() {
            return Err("`hosts` is empty".to_owned());
        }
        if self.intercept && self.hosts.iter().any(|host| host == "*") {
            return Err("`intercept` with the host `*` would decrypt everything".to_owned());
        }
        let hosts =
            self.hosts.iter().map(|host| AuthorityPattern::parse(host).map_err(|error| error.to_string()));
        let paths = self.paths.iter().map(|path| {
            let rest =
                path.strip_prefix('/').ok_or_else(|| format!("path `{path}` does not begin with `/`"))?;
            PathPattern::parse(rest).map_err(|error| error.to_string())
        });
        Ok(Row {
            destination: Destination {
                id: DestinationId::new(&self.id),
                kind: self.kind,
                inspected: self.inspect,
            },
            title: self.title.into(),
            owner: self.owner.into(),
            purpose: self.purpose.into(),
            versions: self.versions.map(Into::into),
            intercept: self.intercept,
            hosts: hosts.collect::<Result<_, _>>()?,
            methods: self.methods,
            paths: paths.collect::<Result<_, _>>()?,
            types: self.types,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "schema = 1\nversion = \"1\"\n[[destination]]\nid = \"a\"\ntitle = \"A\"\nowner = \"o\"\npurpose = \"p\"\nkind = \"telemetry\"\nhosts = [\"a.example\"]\nintercept = true\nsource = \"measured\"\n";

    #[test]
    fn a_row_without_extras_is_read() {
        assert_eq!(parse("x.toml", ROW).unwrap().len(), 1);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let mistakes = [
            (ROW.replace("intercept", "intercpet"), "intercpet"),
            (ROW.replace("\"telemetry\"", "\"telemetri\""), "`telemetri` is none of conversation"),
            (ROW.replace("schema = 1", "schema = 9"), "schema 9"),
            (ROW.replace("[\"a.example\"]", "[]"), "`hosts` is empty"),
            (ROW.replace("[\"a.example\"]", "[\"*\"]"), "would decrypt everything"),
            (format!("{ROW}paths = [\"a\"]\n"), "does not begin with `/`"),
            (format!("{ROW}{}", ROW.split_once("\"1\"\n").unwrap().1), "stands there twice"),
        ];
        for (text, expected) in mistakes {
            let message = parse("x.toml", &text).unwrap_err().to_string();

            assert!(message.starts_with("x.toml: ") && message.contains(expected), "{message}");
        }
    }
}
