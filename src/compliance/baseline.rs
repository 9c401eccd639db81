//! Failures that somebody accepted: each with a reason, and a day from which it fails again.

use serde::Deserialize;
use toml::Spanned;

use crate::{
    compliance::{Accepted, ComplianceError, read},
    model::PathPattern,
};

/// A file of accepted failures.
#[derive(Clone, Debug, Default)]
pub struct Baseline {
    /// In the order of the file.
    pub accepted: Vec<Acceptance>,
}

/// One accepted failure.
#[derive(Clone, Debug)]
pub struct Acceptance {
    /// Which results or claims: a glob over `CONTROL/DESTINATION`, an assertion's text, a claim's id.
    pub result: Box<str>,
    glob: PathPattern,
    /// Why, and until when.
    pub why: Accepted,
}

impl Baseline {
    /// Reads the file.
    ///
    /// # Errors
    /// What is no such file: an unknown key, an entry without a reason or a day.
    pub fn from_toml(name: &str, text: &str) -> Result<Self, ComplianceError> {
        let file: File = read::toml(name, text)?;
        if *file.schema.get_ref() != 1 {
            return Err(ComplianceError::new(
                name,
                text,
                file.schema.span().start,
                "this version reads schema 1",
            ));
        }
        let accepted = file.accept.into_iter().map(|spec| {
            let at = spec.span().start;
            spec.into_inner().compile().map_err(|why| ComplianceError::new(name, text, at, why))
        });
        Ok(Self { accepted: accepted.collect::<Result<_, _>>()? })
    }
}

impl Acceptance {
    /// Whether it speaks of the result with this id.
    pub fn names(&self, result: &str) -> bool {
        *self.result == *result || self.glob.matches_segments_of(result)
    }

    /// Whether it still counts on `today`, written `2026-11-21`. The last day counts.
    pub fn counts(&self, today: &str) -> bool {
        *self.why.expires >= *today
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: Spanned<u32>,
    #[serde(default)]
    accept: Vec<Spanned<Spec>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    result: String,
    reason: String,
    expires: String,
}

impl Spec {
    fn compile(self) -> Result<Acceptance, String> {
        if self.reason.trim().is_empty() {
            return Err("`reason` is empty".to_owned());
        }
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let parts: Vec<&str> = self.expires.split('-').collect();
        let is_day = matches!(parts.as_slice(), [year, month, day]
            if year.len() == 4 && month.len() == 2 && day.len() == 2 && digits(year) && digits(month) && digits(day));
        if !is_day {
            return Err(format!("`expires` is no day like `2027-01-31`: `{}`", self.expires));
        }
        let glob = PathPattern::parse(&self.result).map_err(|error| error.to_string())?;
        let why = Accepted { reason: self.reason.into(), expires: self.expires.into() };
        Ok(Acceptance { result: self.result.into(), glob, why })
    }
}
