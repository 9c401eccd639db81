//! Reads TOML tables strictly: every key is known, every value has its type, every complaint has a line.

use std::{ops::Range, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::rules::{Place, RuleError, error::nearest};

/// A file's name, and where its lines begin.
pub(super) struct File {
    name: Arc<str>,
    line_starts: Vec<usize>,
}

impl File {
    pub(super) fn new(name: &str, text: &str) -> Self {
        let breaks = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        Self { name: name.into(), line_starts: std::iter::once(0).chain(breaks).collect() }
    }

    pub(super) fn place(&self, span: Range<usize>) -> Place {
        let line = self.line_starts.partition_point(|start| *start <= span.start);
        Place { file: self.name.clone(), line: line as u32 }
    }
}

/// One table, whose keys are checked before any of them is read.
pub(super) struct Table<'t> {
    file: &'t File,
    table: &'t DeTable<'t>,
    /// What it is, for messages: "rule `x`".
    owner: String,
    place: Place,
}

impl<'t> Table<'t> {
    /// Takes a table if each of its keys is among `known`.
    pub(super) fn new(
        file: &'t File,
        table: &'t DeTable<'t>,
        span: Range<usize>,
        owner: String,
        known: &[&'static str],
    ) -> Result<Self, RuleError> {
        for (key, _) in table {
            if !known.contains(&key.get_ref().as_ref()) {
                return Err(RuleError::UnknownKey {
                    place: file.place(key.span()),
                    key: key.get_ref().as_ref().into(),
                    owner: owner.into(),
                    meant: nearest(key.get_ref(), known.iter().copied()),
                });
            }
        }
        Ok(Self { file, table, place: file.place(span), owner })
    }

    /// Takes a value that is a table.
    pub(super) fn of(
        file: &'t File,
        key: &str,
        value: &'t Spanned<DeValue<'t>>,
        owner: String,
        known: &[&'static str],
    ) -> Result<Self, RuleError> {
        let table = value.get_ref().as_table().ok_or_else(|| wrong_type(file, key, value, "a table"))?;
        Self::new(file, table, value.span(), owner, known)
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Where a key's value stands; where the table does if the key is absent.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.get(key).map_or_else(|| self.place.clone(), |value| self.file.place(value.span()))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.table.get(key)
    }

    pub(super) fn bad(&self, key: &str, why: impl Into<Box<str>>) -> RuleError {
        RuleError::BadValue { place: self.place_of(key), key: key.into(), why: why.into() }
    }

    pub(super) fn unknown(
        &self,
        key: &str,
        what: &'static str,
        name: &str,
        known: &[&'static str],
    ) -> RuleError {
        RuleError::UnknownName {
            place: self.place_of(key),
            what,
            name: name.into(),
            meant: nearest(name, known.iter().copied()),
        }
    }

    pub(super) fn missing(&self, key: &'static str) -> RuleError {
        RuleError::MissingKey { place: self.place.clone(), owner: self.owner.as_str().into(), key }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'t str>, RuleError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::String(text) => Ok(Some(text)),
            _ => Err(wrong_type(self.file, key, value, "a text")),
        }
    }

    pub(super) fn required_text(&self, key: &'static str) -> Result<&'t str, RuleError> {
        let text = self.text(key)?.ok_or_else(|| self.missing(key))?;
        if text.is_empty() {
            return Err(self.bad(key, "it is empty"));
        }
        Ok(text)
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<usize>, RuleError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value
            .get_ref()
            .as_integer()
            .and_then(|number| usize::from_str_radix(number.as_str(), number.radix()).ok())
            .map(Some)
            .ok_or_else(|| wrong_type(self.file, key, value, "a whole number, not negative"))
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, RuleError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.get_ref().as_bool().map(Some).ok_or_else(|| wrong_type(self.file, key, value, "true or false"))
    }

    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&'t str>>, RuleError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let list = value.get_ref().as_array().ok_or_else(|| wrong_type(self.file, key, value, "a list"))?;
        let texts = list
            .iter()
            .map(|item| item.get_ref().as_str().ok_or_else(|| wrong_type(self.file, key, item, "a text")));
        texts.collect::<Result<_, _>>().map(Some)
    }

    /// The tables under `key`: a list of them, or a single one.
    pub(super) fn tables(
        &self,
        key: &str,
        owner: impl Fn(&DeTable<'_>) -> String,
        known: &[&'static str],
    ) -> Result<Vec<Table<'t>>, RuleError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let items: Vec<&'t Spanned<DeValue<'t>>> = match value.get_ref() {
            DeValue::Array(list) => list.iter().collect(),
            _ => vec![value],
        };
        items
            .into_iter()
            .map(|item| {
                let table =
                    item.get_ref().as_table().ok_or_else(|| wrong_type(self.file, key, item, "a table"))?;
                Table::new(self.file, table, item.span(), owner(table), known)
            })
            .collect()
    }

    /// The single table under `key`.
    pub(super) fn table(&self, key: &str, known: &[&'static str]) -> Result<Option<Table<'t>>, RuleError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        Table::of(self.file, key, value, format!("`{key}` of {}", self.owner), known).map(Some)
    }

    /// Parses one of a closed list of words.
    pub(super) fn word<T: std::str::FromStr>(
        &self,
        key: &str,
        what: &'static str,
        known: &[&'static str],
    ) -> Result<Option<T>, RuleError> {
        let Some(word) = self.text(key)? else { return Ok(None) };
        word.parse().map(Some).map_err(|_| self.unknown(key, what, word, known))
    }

    /// Every key with its value.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'t str, &'t Spanned<DeValue<'t>>)> {
        self.table.iter().map(|(key, value)| (key.get_ref().as_ref(), value))
    }
}

fn wrong_type(file: &File, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) -> RuleError {
    RuleError::BadValue {
        place: file.place(value.span()),
        key: key.into(),
        why: format!("expected {wanted}, found {}", value.get_ref().type_str()).into(),
    }
}
