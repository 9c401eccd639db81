//! A policy's text -> rows and defaults: types and names are checked here, deciding is not.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use toml::de::DeTable;

use crate::model::{
    Action, Answer, AuthorityPattern, DestinationKind, File, NotInspected, PathPattern, Place, Table,
    TomlError, UnknownFields, nearest, read_redaction,
};

use super::{Defaults, Fail, Policy, Row};

/// A policy that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A row that would touch what is none of our business.
    #[error("{place}: row `{row}` would {action} the conversation, which is never touched")]
    Conversation {
        /// Where.
        place: Place,
        /// Which row.
        row: Box<str>,
        /// What it would do.
        action: Action,
    },
    /// Two rows of one name.
    #[error("{place}: row `{row}` is already defined at {first}")]
    Duplicate {
        /// Where the second one stands.
        place: Place,
        /// The name.
        row: Box<str>,
        /// Where the first one stands.
        first: Place,
    },
    /// A file that is not written as it must be.
    #[error(transparent)]
    Written(#[from] TomlError),
}

/// The one version of the format that exists.
const SCHEMA: usize = 1;

const FILE_KEYS: &[&str] = &["about", "default", "fail", "name", "not_inspected", "row", "schema", "unknown"];
const DEFAULT_KEYS: &[&str] = &["answer", "finding", "request"];
const UNKNOWN_KEYS: &[&str] = &["destination", "field", "keep", "redact"];
const ROW_KEYS: &[&str] = &[
    "action",
    "answer",
    "category",
    "confidence",
    "destination",
    "field",
    "host",
    "id",
    "kind",
    "not_inspected",
    "path",
    "redact",
    "rule",
    "severity",
    "signal",
    "why",
];

/// The reasons that a policy answers for. The others are no choice: see [`is_a_choice`].
const REASON_KEYS: &[&str] = &[
    "body-too-large",
    "coding-broken",
    "coding-unsupported",
    "decoded-too-large",
    "format-broken",
    "format-unsupported",
    "internal-error",
    "nesting-budget",
    "not-intercepted",
    "unknown-protocol",
    "upgraded",
];

/// What a record names when the default for a reason decided, in the order of [`NotInspected::ALL`].
pub(super) const REASON_ROWS: &[&str] = &[
    "not_inspected.body-too-large",
    "not_inspected.client-refused-certificate",
    "not_inspected.coding-broken",
    "not_inspected.coding-unsupported",
    "not_inspected.decoded-too-large",
    "not_inspected.conversation",
    "not_inspected.format-broken",
    "not_inspected.format-unsupported",
    "not_inspected.internal-error",
    "not_inspected.nesting-budget",
    "not_inspected.not-intercepted",
    "not_inspected.not-recorded",
    "not_inspected.unknown-protocol",
    "not_inspected.upgraded",
];

pub(super) fn read(name: &str, text: &str) -> Result<Policy, PolicyError> {
    let file = File::new(name, text);
    let parsed = DeTable::parse(text).map_err(|error| TomlError::Syntax {
        place: file.place(error.span().unwrap_or(0..0)),
        why: error.message().into(),
    })?;
    let top = Table::new(&file, parsed.get_ref(), 0..0, format!("file `{name}`"), FILE_KEYS)?;
    match top.number("schema")?.ok_or_else(|| top.missing("schema"))? {
        SCHEMA => {}
        other => {
            let why = format!("this version reads schema {SCHEMA}, not {other}");
            return Err(top.bad("schema", why).into());
        }
    }
    let name = top.required_text("name")?.to_owned();
    let about = top.required_text("about")?.to_owned();
    let defaults = read_defaults(&top)?;
    let owner = |table: &DeTable<'_>| match table.get("id").and_then(|id| id.get_ref().as_str()) {
        Some(id) => format!("row `{id}`"),
        None => "a row".to_owned(),
    };
    let mut places: BTreeMap<String, Place> = BTreeMap::new();
    let mut rows = Vec::new();
    for table in top.tables("row", owner, ROW_KEYS)? {
        let row = read_row(&table)?;
        if let Some(first) = places.insert(row.id.clone(), row.place.clone()) {
            return Err(PolicyError::Duplicate { place: row.place, row: row.id.into(), first });
        }
        if row.action != Action::Allow && row.kinds.contains(&DestinationKind::Conversation) {
            let Row { id, place, action, .. } = row;
            return Err(PolicyError::Conversation { place, row: id.into(), action });
        }
        rows.push(row);
    }
    Ok(Policy { name, about, hash: "".into(), rows, defaults })
}

fn read_defaults(top: &Table<'_>) -> Result<Defaults, TomlError> {
    let default = top.table("default", DEFAULT_KEYS)?.ok_or_else(|| top.missing("default"))?;
    let unknown = top.table("unknown", UNKNOWN_KEYS)?.ok_or_else(|| top.missing("unknown"))?;
    let unknown_field = required(&unknown, "field", "action")?;
    let redact = read_redaction(&unknown, "redact")?;
    let keep = patterns(&unknown, "keep")?;
    let unknown_fields = match (unknown_field, redact) {
        (Action::Redact, Some(redact)) => Some(Arc::new(UnknownFields { redact, keep })),
        (Action::Redact, None) => return Err(unknown.missing("redact")),
        (Action::Allow | Action::Block, Some(_)) => {
            return Err(unknown.bad("redact", "it only goes with `field = \"redact\"`"));
        }
        (Action::Allow | Action::Block, None) if !keep.is_empty() => {
            return Err(unknown.bad("keep", "it only goes with `field = \"redact\"`"));
        }
        (Action::Allow | Action::Block, None) => None,
    };
    let unknown_destination = required(&unknown, "destination", "action")?;
    if unknown_destination == Action::Redact {
        return Err(unknown.bad("destination", "a request as a whole is allowed or blocked; rows redact"));
    }
    let request = required(&default, "request", "action")?;
    if request == Action::Redact {
        return Err(default.bad("request", "a request as a whole is allowed or blocked; rows redact"));
    }
    let reasons = top.table("not_inspected", REASON_KEYS)?.ok_or_else(|| top.missing("not_inspected"))?;
    let mut not_inspected = Vec::new();
    for reason in NotInspected::ALL {
        let Some(key) = REASON_KEYS.iter().find(|key| **key == reason.as_str()) else {
            not_inspected.push(Action::Allow);
            continue;
        };
        let action = required(&reasons, key, "action")?;
        if action == Action::Redact {
            return Err(reasons.bad(key, "what was not read cannot be redacted"));
        }
        not_inspected.push(action);
    }
    let words: Vec<&'static str> =
        DestinationKind::ALL.iter().map(|kind| kind.as_str()).chain(["answer"]).collect();
    let modes = top.table("fail", &words)?.ok_or_else(|| top.missing("fail"))?;
    let mut fail = Vec::new();
    for kind in DestinationKind::ALL {
        let mode = required(&modes, kind.as_str(), "fail mode")?;
        if *kind == DestinationKind::Conversation && mode == Fail::Closed {
            return Err(modes.bad(kind.as_str(), "the conversation is never touched, so it fails `open`"));
        }
        fail.push(mode);
    }
    Ok(Defaults {
        finding: required(&default, "finding", "action")?,
        request,
        answer: required(&default, "answer", "answer")?,
        unknown_destination,
        unknown_field,
        unknown_fields,
        not_inspected,
        fail,
        fail_answer: required(&modes, "answer", "answer")?,
    })
}

fn read_row(table: &Table<'_>) -> Result<Row, TomlError> {
    let id = table.required_text("id")?;
    if !id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte)) {
        return Err(table.bad("id", "an id is made of `a-z`, `0-9`, `.`, `-` and `_`"));
    }
    let paths = table.texts("path")?.unwrap_or_default().into_iter().map(|path| {
        let rest = path.strip_prefix('/').ok_or_else(|| table.bad("path", "a path begins with `/`"))?;
        PathPattern::parse(rest).map_err(|error| table.bad("path", error.to_string()))
    });
    let hosts = table.texts("host")?.unwrap_or_default().into_iter();
    let hosts =
        hosts.map(|host| AuthorityPattern::parse(host).map_err(|error| table.bad("host", error.to_string())));
    let row = Row {
        id: id.to_owned(),
        why: table.text("why")?.unwrap_or_default().to_owned(),
        place: table.place().clone(),
        destinations: patterns(table, "destination")?,
        hosts: hosts.collect::<Result<_, _>>()?,
        paths: paths.collect::<Result<_, _>>()?,
        kinds: words(table, "kind", "kind")?,
        signals: words(table, "signal", "signal")?,
        not_inspected: words(table, "not_inspected", "reason")?,
        rules: patterns(table, "rule")?,
        categories: patterns(table, "category")?,
        fields: patterns(table, "field")?,
        severity: word(table, "severity", "severity")?,
        confidence: word(table, "confidence", "confidence")?,
        action: required(table, "action", "action")?,
        redact: read_redaction(table, "redact")?.map(Arc::new),
        answer: word(table, "answer", "answer")?,
    };
    if row.redact.is_some() && row.action != Action::Redact {
        return Err(table.bad("redact", "it only goes with `action = \"redact\"`"));
    }
    if row.answer.is_some() && row.action != Action::Block {
        return Err(table.bad("answer", "it only goes with `action = \"block\"`"));
    }
    if !row.not_inspected.is_empty() && row.action == Action::Redact {
        return Err(table.bad("not_inspected", "what was not read cannot be redacted"));
    }
    if let Some(reason) = row.not_inspected.iter().find(|reason| !REASON_KEYS.contains(&reason.as_str())) {
        return Err(table.bad("not_inspected", format!("`{reason}` is not for a policy to decide")));
    }
    Ok(row)
}

/// One of a closed list of words.
fn word<T: Words>(table: &Table<'_>, key: &str, what: &'static str) -> Result<Option<T>, TomlError> {
    let Some(word) = table.text(key)? else { return Ok(None) };
    word.parse().map(Some).map_err(|_| unknown::<T>(table, key, what, word))
}

fn required<T: Words>(table: &Table<'_>, key: &'static str, what: &'static str) -> Result<T, TomlError> {
    word(table, key, what)?.ok_or_else(|| table.missing(key))
}

fn words<T: Words>(table: &Table<'_>, key: &str, what: &'static str) -> Result<Vec<T>, TomlError> {
    let words = table.texts(key)?.unwrap_or_default().into_iter();
    words.map(|word| word.parse().map_err(|_| unknown::<T>(table, key, what, word))).collect()
}

fn unknown<T: Words>(table: &Table<'_>, key: &str, what: &'static str, word: &str) -> TomlError {
    let known = T::all_words();
    match nearest(word, known.iter().copied()) {
        Some(_) => table.unknown(key, what, word, &known),
        None => table.bad(key, format!("`{word}` is none of {}", known.join(", "))),
    }
}

fn patterns(table: &Table<'_>, key: &str) -> Result<Vec<PathPattern>, TomlError> {
    let texts = table.texts(key)?.unwrap_or_default().into_iter();
    texts.map(|text| PathPattern::parse(text).map_err(|error| table.bad(key, error.to_string()))).collect()
}

/// An enum whose variants each have one word.
trait Words: FromStr {
    fn all_words() -> Vec<&'static str>;
}

macro_rules! words_of {
    ($($name:ty),+ $(,)?) => {
        $(impl Words for $name {
            fn all_words() -> Vec<&'static str> {
                <$name>::ALL.iter().map(|one| one.as_str()).collect()
            }
        })+
    };
}

words_of![
    Action,
    Answer,
    Fail,
    NotInspected,
    DestinationKind,
    super::Signal,
    crate::model::Confidence,
    crate::model::Severity,
];
