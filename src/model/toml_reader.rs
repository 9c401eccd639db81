//! Reads TOML tables strictly: every key is known, every value has its type, every complaint has a line. For the
//! files that people write and more than one room reads: rules and policies.

use std::{fmt, ops::Range, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Where something is written: file and line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file's name.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A file that is not written as it must be. Every variant says where, what, and where possible what was meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TomlError {
    /// A value that its key does not take.
    #[error("{place}: `{key}`: {why}")]
    BadValue {
        /// Where.
        place: Place,
        /// The key.
        key: Box<str>,
        /// What is wrong.
        why: Box<str>,
    },
    /// A key that must be there.
    #[error("{place}: {owner} has no `{key}`")]
    MissingKey {
        /// Where the owner begins.
        place: Place,
        /// What lacks it.
        owner: Box<str>,
        /// The key.
        key: &'static str,
    },
    /// Text that is not TOML.
    #[error("{place}: not valid TOML: {why}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser says.
        why: Box<str>,
    },
    /// A key that nobody reads.
    #[error("{place}: unknown key `{key}` in {owner}{}", did_you_mean(.meant.as_deref()))]
    UnknownKey {
        /// Where.
        place: Place,
        /// The key.
        key: Box<str>,
        /// What it stands in.
        owner: Box<str>,
        /// The nearest known key.
        meant: Option<Box<str>>,
    },
    /// A reference to something that does not exist: a validator, a finder, a method.
    #[error("{place}: unknown {what} `{name}`{}", did_you_mean(.meant.as_deref()))]
    UnknownName {
        /// Where.
        place: Place,
        /// What kind of thing.
        what: &'static str,
        /// The name as written.
        name: Box<str>,
        /// The nearest known name.
        meant: Option<Box<str>>,
    },
}

impl TomlError {
    /// Where in which file.
    pub fn place(&self) -> &Place {
        match self {
            Self::BadValue { place, .. }
            | Self::MissingKey { place, .. }
            | Self::Syntax { place, .. }
            | Self::UnknownKey { place, .. }
            | Self::UnknownName { place, .. } => place,
        }
    }
}

fn did_you_mean(meant: Option<&str>) -> String {
    meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default()
}

/// The known name that is nearest to `name`, if one is near enough to have been meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<Box<str>> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(name.len()) / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate.into())
}

/// A file's name, and where its lines begin.
pub(crate) struct File {
    name: Arc<str>,
    line_starts: Vec<usize>,
}

impl File {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let breaks = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        Self { name: name.into(), line_starts: std::iter::once(0).chain(breaks).collect() }
    }

    pub(crate) fn place(&self, span: Range<usize>) -> Place {
        let line = self.line_starts.partition_point(|start| *start <= span.start);
        Place { file: self.name.clone(), line: line as u32 }
    }
}

/// One table, whose keys are checked before any of them is read.
pub(crate) struct Table<'t> {
    file: &'t File,
    table: &'t DeTable<'t>,
    /// What it is, for messages: "rule `x`".
    owner: String,
    place: Place,
}

impl<'t> Table<'t> {
    /// Takes a table if each of its keys is among `known`.
    pub(crate) fn new(
        file: &'t File,
        table: &'t DeTable<'t>,
        span: Range<usize>,
        owner: String,
        known: &[&'static str],
    ) -> Result<Self, TomlError> {
        for (key, _) in table {
            if !known.contains(&key.get_ref().as_ref()) {
                return Err(TomlError::UnknownKey {
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
    pub(crate) fn of(
        file: &'t File,
        key: &str,
        value: &'t Spanned<DeValue<'t>>,
        owner: String,
        known: &[&'static str],
    ) -> Result<Self, TomlError> {
        let table = value.get_ref().as_table().ok_or_else(|| wrong_type(file, key, value, "a table"))?;
        Self::new(file, table, value.span(), owner, known)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Where a key's value stands; where the table does if the key is absent.
    pub(crate) fn place_of(&self, key: &str) -> Place {
        self.get(key).map_or_else(|| self.place.clone(), |value| self.file.place(value.span()))
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.table.get(key)
    }

    pub(crate) fn bad(&self, key: &str, why: impl Into<Box<str>>) -> TomlError {
        TomlError::BadValue { place: self.place_of(key), key: key.into(), why: why.into() }
    }

    pub(crate) fn unknown(
        &self,
        key: &str,
        what: &'static str,
        name: &str,
        known: &[&'static str],
    ) -> TomlError {
        TomlError::UnknownName {
            place: self.place_of(key),
            what,
            name: name.into(),
            meant: nearest(name, known.iter().copied()),
        }
    }

    pub(crate) fn missing(&self, key: &'static str) -> TomlError {
        TomlError::MissingKey { place: self.place.clone(), owner: self.owner.as_str().into(), key }
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&'t str>, TomlError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::String(text) => Ok(Some(text)),
            _ => Err(wrong_type(self.file, key, value, "a text")),
        }
    }

    pub(crate) fn required_text(&self, key: &'static str) -> Result<&'t str, TomlError> {
        let text = self.text(key)?.ok_or_else(|| self.missing(key))?;
        if text.is_empty() {
            return Err(self.bad(key, "it is empty"));
        }
        Ok(text)
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<usize>, TomlError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value
            .get_ref()
            .as_integer()
            .and_then(|number| usize::from_str_radix(number.as_str(), number.radix()).ok())
            .map(Some)
            .ok_or_else(|| wrong_type(self.file, key, value, "a whole number, not negative"))
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, TomlError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.get_ref().as_bool().map(Some).ok_or_else(|| wrong_type(self.file, key, value, "true or false"))
    }

    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<&'t str>>, TomlError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let list = value.get_ref().as_array().ok_or_else(|| wrong_type(self.file, key, value, "a list"))?;
        let texts = list
            .iter()
            .map(|item| item.get_ref().as_str().ok_or_else(|| wrong_type(self.file, key, item, "a text")));
        texts.collect::<Result<_, _>>().map(Some)
    }

    /// The tables under `key`: a list of them, or a single one.
    pub(crate) fn tables(
        &self,
        key: &str,
        owner: impl Fn(&DeTable<'_>) -> String,
        known: &[&'static str],
    ) -> Result<Vec<Table<'t>>, TomlError> {
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
    pub(crate) fn table(&self, key: &str, known: &[&'static str]) -> Result<Option<Table<'t>>, TomlError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        Table::of(self.file, key, value, format!("`{key}` of {}", self.owner), known).map(Some)
    }

    /// Parses one of a closed list of words.
    pub(crate) fn word<T: std::str::FromStr>(
        &self,
        key: &str,
        what: &'static str,
        known: &[&'static str],
    ) -> Result<Option<T>, TomlError> {
        let Some(word) = self.text(key)? else { return Ok(None) };
        word.parse().map(Some).map_err(|_| self.unknown(key, what, word, known))
    }

    /// Every key with its value.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'t str, &'t Spanned<DeValue<'t>>)> {
        self.table.iter().map(|(key, value)| (key.get_ref().as_ref(), value))
    }
}

fn wrong_type(file: &File, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) -> TomlError {
    TomlError::BadValue {
        place: file.place(value.span()),
        key: key.into(),
        why: format!("expected {wanted}, found {}", value.get_ref().type_str()).into(),
    }
}
