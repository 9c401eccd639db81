//! Reads the files of this room strictly: an unknown key, word or name is an error that names what was perhaps meant.

use serde::de::DeserializeOwned;

/// A file of controls, claims or accepted findings that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {why}")]
pub struct ComplianceError {
    file: String,
    line: usize,
    why: String,
}

impl ComplianceError {
    pub(super) fn new(file: &str, text: &str, at: usize, why: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: line_of(text, at), why: why.into() }
    }
}

/// Reads a file whose every table refuses unknown keys.
pub(super) fn toml<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, ComplianceError> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        ComplianceError::new(file, text, at, explain(error.message()))
    })
}

/// Puts the nearest known word behind what serde says of an unknown one.
fn explain(message: &str) -> String {
    let message = message.trim_end();
    let Some((before, after)) = message.split_once("expected").or_else(|| message.split_once("is none of"))
    else {
        return message.to_owned();
    };
    let Some(found) = before.split('`').nth(1) else { return message.to_owned() };
    let quoted: Vec<&str> = after.split('`').skip(1).step_by(2).collect();
    let known: Vec<&str> = if quoted.is_empty() { after.split(',').map(str::trim).collect() } else { quoted };
    match nearest(found, known.iter().copied()) {
        Some(meant) => format!("{}; did you mean `{meant}`?", message.replace('\n', " ")),
        None => message.replace('\n', " "),
    }
}

/// What to say of a name that nobody knows.
pub(super) fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some(meant) => format!("there is no {what} `{name}`; did you mean `{meant}`?"),
        None => format!("there is no {what} `{name}`"),
    }
}

fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let alike = |known: &str| strsim::jaro_winkler(&word.to_ascii_lowercase(), &known.to_ascii_lowercase());
    let best = known.max_by(|one, other| alike(one).total_cmp(&alike(other)))?;
    (alike(best) >= ALIKE).then_some(best)
}

/// From here on two words look like one mistyped.
const ALIKE: f64 = 0.8;

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}
