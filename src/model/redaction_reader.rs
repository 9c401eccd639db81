//! Reads how a value is made unreadable, as rules and rows of a policy write it.

use toml::de::DeValue;

use crate::model::{PseudonymScope, Redaction, Table, Template, TemplatePart, TomlError};

/// Reads the table under `key`, such as `{ method = "mask", keep_last = 4 }`; `None` if there is none.
///
/// # Errors
/// An unknown method, a key that does not go with it, or a value that it does not take.
pub(crate) fn read_redaction(table: &Table<'_>, key: &str) -> Result<Option<Redaction>, TomlError> {
    let Some(value) = table.get(key) else { return Ok(None) };
    let method =
        value.get_ref().as_table().and_then(|table| table.get("method")).map(|method| method.get_ref());
    let keys: &[&str] = match method.and_then(DeValue::as_str) {
        Some("ip-prefix") => &["method", "v4", "v6"],
        Some("leaves") => &["each", "method"],
        Some("mask" | "mask-same-length") => &["keep_first", "keep_last", "method"],
        Some("partial") => &["keep_prefix", "method", "template"],
        Some("pseudonym") => &["keep", "method", "scope", "template"],
        Some("null" | "remove") => &["method"],
        Some("truncate") => &["keep", "method"],
        Some("replace" | "summary") => &["method", "template"],
        Some(other) => return Err(table.unknown(key, "redaction method", other, METHODS)),
        None => return Err(table.bad(key, "expected a table with a `method`")),
    };
    let Some(redact) = table.table(key, keys)? else { return Ok(None) };
    let template = |key: &'static str| {
        let text = redact.text(key)?.ok_or_else(|| redact.missing(key))?;
        Template::parse(text).map_err(|why| redact.bad(key, why))
    };
    // A value that looks as if it were filled in already stays as it is: without a word, a number would.
    let worded = |key: &'static str| {
        let template = template(key)?;
        let varies = |part: &TemplatePart| matches!(part, TemplatePart::Hash(_) | TemplatePart::Length);
        if template.0.iter().any(varies) && !template.has_word() {
            let why = "a value may look like this; put a word in it, such as `REDACTED`, by which it is told from one";
            return Err(redact.bad(key, why));
        }
        Ok(template)
    };
    Ok(Some(match redact.required_text("method")? {
        "ip-prefix" => Redaction::IpPrefix { v4: bits(&redact, "v4", 32)?, v6: bits(&redact, "v6", 128)? },
        "leaves" => Redaction::Leaves { each: worded("each")? },
        "mask" => Redaction::Mask {
            keep_first: redact.number("keep_first")?.unwrap_or(0),
            keep_last: redact.number("keep_last")?.unwrap_or(0),
        },
        "mask-same-length" => Redaction::MaskSameLength {
            keep_first: redact.number("keep_first")?.unwrap_or(0),
            keep_last: redact.number("keep_last")?.unwrap_or(0),
        },
        "null" => Redaction::Null,
        "partial" => Redaction::Partial {
            keep_prefix: redact.number("keep_prefix")?.ok_or_else(|| redact.missing("keep_prefix"))?,
            template: worded("template")?,
        },
        "pseudonym" => Redaction::Pseudonym {
            scope: match redact.text("scope")? {
                None | Some("install") => PseudonymScope::Install,
                Some("destination") => PseudonymScope::Destination,
                Some("run") => PseudonymScope::Run,
                Some(other) => return Err(redact.unknown("scope", "scope", other, SCOPES)),
            },
            template: match (redact.text("keep")?, redact.has("template")) {
                (None | Some("none"), true) => template("template")?,
                (None | Some("none"), false) => default_pseudonym(),
                (Some(other), _) => return Err(redact.unknown("keep", "part to keep", other, &["none"])),
            },
        },
        "remove" => Redaction::Remove,
        "replace" => Redaction::Replace { template: worded("template")? },
        "truncate" => {
            Redaction::Truncate { keep: redact.number("keep")?.ok_or_else(|| redact.missing("keep"))? }
        }
        _ => Redaction::Summary { template: worded("template")? },
    }))
}

fn default_pseudonym() -> Template {
    Template(vec![TemplatePart::Literal("anon-".into()), TemplatePart::Hash(10)])
}

fn bits(table: &Table<'_>, key: &str, widest: usize) -> Result<u8, TomlError> {
    match table.number(key)? {
        None => Ok(0),
        Some(bits) if bits <= widest => Ok(bits as u8),
        Some(_) => Err(table.bad(key, format!("at most {widest} bits"))),
    }
}

const SCOPES: &[&str] = &["destination", "install", "run"];

const METHODS: &[&str] = &[
    "ip-prefix",
    "leaves",
    "mask",
    "mask-same-length",
    "null",
    "partial",
    "pseudonym",
    "remove",
    "replace",
    "summary",
    "truncate",
];
