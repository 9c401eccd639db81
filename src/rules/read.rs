//! A rule file's text -> rules as written: types, names and references are checked here, matching is not.

use std::sync::Arc;

use regex_automata::{meta::Regex, util::syntax};
use regex_syntax::hir::Hir;
use toml::de::{DeTable, DeValue};

use crate::{
    model::{Confidence, File, PathPattern, RuleId, Severity, Table, TomlError, read_redaction},
    rules::{
        Rule, RuleError, Source,
        finders::Finder,
        matcher::{self, Matcher},
        required,
        spec::{Allow, Allowed, Container, Context, Inside, Kind, Known, Network, Sample, Shape, Variant},
        stand_in,
        validators::Check,
    },
};

/// One file's rules.
#[derive(Debug)]
pub(super) struct Pack {
    pub(super) name: Arc<str>,
    pub(super) rules: Vec<Rule>,
}

/// The schema that this version reads.
const SCHEMA: usize = 1;

/// Bound of the confirm window when neither the rule nor its file's defaults say.
const DEFAULT_MAX_LEN: usize = 512;

/// Largest window. A PEM block of an 8192-bit key with escaped line breaks stays below.
const MAX_LEN_LIMIT: usize = 64 * 1024;

/// Bytes looked at before an anchor when that cannot be read off the regex: as long as an e-mail's local part.
const DEFAULT_BACK: usize = 64;

pub(super) const FILE_KEYS: &[&str] = &["defaults", "pack", "rule", "schema", "version"];
pub(super) const DEFAULT_KEYS: &[&str] =
    &["confidence", "decode", "destinations", "max_len", "severity", "unless_value", "where", "where_not"];
pub(super) const RULE_KEYS: &[&str] = &[
    "allow",
    "anchors",
    "back",
    "category",
    "check",
    "confidence",
    "context",
    "decode",
    "destinations",
    "entity",
    "grade",
    "id",
    "inside",
    "kind",
    "max_len",
    "min_len",
    "redact",
    "regex",
    "scan",
    "severity",
    "sources",
    "test",
    "title",
    "unless_value",
    "variants",
    "where",
    "where_not",
    "why",
];
const KINDS: &[&str] = &["field", "known", "value"];
const SEVERITIES: &[&str] = &["info", "low", "medium", "high", "critical"];
const CONFIDENCES: &[&str] = &["low", "medium", "high", "certain"];
const CONTAINERS: &[&str] = &["base64", "json", "percent"];
const VARIANTS: &[&str] = &["base64", "json", "lower", "percent", "raw"];

/// Reads one file.
pub(super) fn read(source: &Source) -> Result<Pack, RuleError> {
    let file = File::new(&source.name, &source.text);
    let parsed = DeTable::parse(&source.text).map_err(|error| TomlError::Syntax {
        place: file.place(error.span().unwrap_or(0..0)),
        why: error.message().into(),
    })?;
    let top = Table::new(&file, parsed.get_ref(), 0..0, format!("file `{}`", source.name), FILE_KEYS)?;
    match top.number("schema")?.ok_or_else(|| top.missing("schema"))? {
        SCHEMA => {}
        other => {
            return Err(top.bad("schema", format!("this version reads schema {SCHEMA}, not {other}")).into());
        }
    }
    top.required_text("version")?;
    let name: Arc<str> = top.required_text("pack")?.into();
    let defaults = match top.table("defaults", DEFAULT_KEYS)? {
        Some(table) => Defaults::read(&table)?,
        None => Defaults::default(),
    };
    let rules = top
        .tables("rule", describe, RULE_KEYS)?
        .iter()
        .map(|table| read_rule(table, &defaults, &name))
        .collect::<Result<_, _>>()?;
    Ok(Pack { name, rules })
}

fn describe(table: &DeTable<'_>) -> String {
    match table.get("id").map(|id| id.get_ref()) {
        Some(DeValue::String(id)) => format!("rule `{id}`"),
        _ => "a rule without an id".to_owned(),
    }
}

/// What a file's `[defaults]` say, for rules that do not.
struct Defaults {
    confidence: Confidence,
    decode: Vec<Container>,
    destinations: Vec<Box<str>>,
    max_len: usize,
    paths: Vec<PathPattern>,
    paths_not: Vec<PathPattern>,
    severity: Severity,
    unless_value: Vec<Box<str>>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            confidence: Confidence::High,
            decode: vec![Container::Json, Container::Percent, Container::Base64],
            destinations: Vec::new(),
            max_len: DEFAULT_MAX_LEN,
            paths: Vec::new(),
            paths_not: Vec::new(),
            severity: Severity::Medium,
            unless_value: Vec::new(),
        }
    }
}

impl Defaults {
    fn read(table: &Table<'_>) -> Result<Self, TomlError> {
        let base = Self::default();
        Ok(Self {
            confidence: table.word("confidence", "confidence", CONFIDENCES)?.unwrap_or(base.confidence),
            decode: containers(table)?.unwrap_or(base.decode),
            destinations: boxed(table, "destinations")?.unwrap_or_default(),
            max_len: max_len(table)?.unwrap_or(base.max_len),
            paths: patterns(table, "where")?.unwrap_or_default(),
            paths_not: patterns(table, "where_not")?.unwrap_or_default(),
            severity: table.word("severity", "severity", SEVERITIES)?.unwrap_or(base.severity),
            unless_value: boxed(table, "unless_value")?.unwrap_or_default(),
        })
    }
}

fn read_rule(table: &Table<'_>, defaults: &Defaults, pack: &Arc<str>) -> Result<Rule, RuleError> {
    let id = table.required_text("id")?;
    if !id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte)) {
        return Err(table.bad("id", "an id is made of `a-z`, `0-9`, `.`, `-` and `_`").into());
    }
    let kind_word = table.text("kind")?.unwrap_or("value");
    let kind = match kind_word {
        "field" => read_field(table)?,
        "known" => Kind::Known(read_known(table)?),
        "value" => Kind::Value(read_shape(table, id, defaults)?),
        other => return Err(table.unknown("kind", "kind", other, KINDS).into()),
    };
    for (key, owner) in [
        ("anchors", "value"),
        ("back", "value"),
        ("max_len", "value"),
        ("regex", "value"),
        ("scan", "value"),
        ("context", "value"),
        ("inside", "field"),
        ("sources", "known"),
        ("min_len", "known"),
        ("variants", "known"),
    ] {
        if table.has(key) && kind.as_str() != owner {
            let why = format!("it belongs to rules of kind `{owner}`, this one is `{kind_word}`");
            return Err(table.bad(key, why).into());
        }
    }
    let redact = read_redaction(table, "redact")?.ok_or_else(|| table.missing("redact"))?;
    let mut allow = read_allow(table)?;
    if matches!(kind, Kind::Value(_)) {
        allow.extend(stand_in::allowed(&redact));
    }
    Ok(Rule {
        id: RuleId::new(id),
        title: table.required_text("title")?.into(),
        entity: table.required_text("entity")?.into(),
        category: table.required_text("category")?.into(),
        severity: table.word("severity", "severity", SEVERITIES)?.unwrap_or(defaults.severity),
        confidence: table.word("confidence", "confidence", CONFIDENCES)?.unwrap_or(defaults.confidence),
        why: table.text("why")?.unwrap_or_default().into(),
        pack: pack.clone(),
        place: table.place().clone(),
        paths: patterns(table, "where")?.unwrap_or_else(|| defaults.paths.clone()),
        paths_not: patterns(table, "where_not")?.unwrap_or_else(|| defaults.paths_not.clone()),
        destinations: boxed(table, "destinations")?.unwrap_or_else(|| defaults.destinations.clone()),
        decode: containers(table)?.unwrap_or_else(|| defaults.decode.clone()),
        checks: read_checks(table)?,
        grades: read_grades(table)?,
        context: read_context(table)?,
        allow,
        unless_value: boxed(table, "unless_value")?.unwrap_or_else(|| defaults.unless_value.clone()),
        inside: read_inside(table)?,
        redact,
        samples: read_samples(table, &kind)?,
        kind,
    })
}

fn read_field(table: &Table<'_>) -> Result<Kind, TomlError> {
    let paths = patterns(table, "where")?.ok_or_else(|| table.missing("where"))?;
    if paths.iter().any(|pattern| pattern.as_str().ends_with("**")) {
        return Err(table.bad("where", "a field rule names its fields; `**` at the end names all"));
    }
    Ok(Kind::Field)
}

fn read_known(table: &Table<'_>) -> Result<Known, TomlError> {
    const SOURCES: &[&str] = &["claude", "env", "git", "os"];
    let sources = boxed(table, "sources")?.ok_or_else(|| table.missing("sources"))?;
    for source in &sources {
        let (kind, name) = source.split_once(':').unwrap_or((source, ""));
        if !SOURCES.contains(&kind) {
            return Err(table.unknown("sources", "source", kind, SOURCES));
        }
        if name.is_empty() {
            return Err(table.bad("sources", format!("`{source}` names nothing; write it as `{kind}:name`")));
        }
    }
    let variants = table.texts("variants")?.unwrap_or_else(|| vec!["raw"]);
    let variants = variants.into_iter().map(|word| match word {
        "base64" => Ok(Variant::Base64),
        "json" => Ok(Variant::Json),
        "lower" => Ok(Variant::Lower),
        "percent" => Ok(Variant::Percent),
        "raw" => Ok(Variant::Raw),
        other => Err(table.unknown("variants", "variant", other, VARIANTS)),
    });
    Ok(Known {
        sources,
        min_len: table.number("min_len")?.unwrap_or(6),
        variants: variants.collect::<Result<_, _>>()?,
    })
}

fn read_shape(table: &Table<'_>, id: &str, defaults: &Defaults) -> Result<Shape, RuleError> {
    let regex = table.required_text("regex")?;
    let bad_regex =
        |why: String| RuleError::Regex { place: table.place_of("regex"), rule: id.into(), why: why.into() };
    let hir = parse(regex).map_err(bad_regex)?;
    if !matcher::has_value(&hir) {
        let why = "the regex has no group `(?P<hit>…)`, which says what the value is";
        return Err(bad_regex(why.to_owned()));
    }
    // Compiling costs more than all else here: the matcher is what runs, and this is for the few that could.
    let may_be_empty = hir.properties().minimum_len() == Some(0);
    if may_be_empty && matcher::compile(&[&hir]).map_err(bad_regex)?.is_match("") {
        return Err(bad_regex("the regex matches the empty text".to_owned()));
    }
    let finder = match table.text("scan")? {
        Some(name) => Some(
            Finder::from_name(name).ok_or_else(|| table.unknown("scan", "finder", name, Finder::NAMES))?,
        ),
        None => None,
    };
    let anchors = boxed(table, "anchors")?.unwrap_or_default();
    if anchors.is_empty() && finder.is_none() {
        return Err(table.missing("anchors").into());
    }
    if anchors.iter().any(|anchor| anchor.is_empty()) {
        return Err(table.bad("anchors", "an anchor is empty").into());
    }
    let mut back = 0;
    let whole = finder.is_some() && required::is_one_group(&hir);
    let matcher = if whole { Matcher::whole(&hir) } else { Matcher::new(&hir) }.map_err(bad_regex)?;
    if finder.is_none() {
        let anchor_error = |why: String| RuleError::Anchor {
            place: table.place_of("anchors"),
            rule: id.into(),
            why: why.into(),
        };
        back = required::look_back(&hir, &anchors).map_err(anchor_error)?.unwrap_or(DEFAULT_BACK);
    }
    Ok(Shape {
        back: table.number("back")?.unwrap_or(back.min(MAX_LEN_LIMIT)),
        max_len: max_len(table)?.unwrap_or(defaults.max_len),
        anchors,
        finder,
        regex: regex.into(),
        whole,
        matcher,
    })
}

/// Bytes, not characters: a body need not be UTF-8, and Unicode classes make automata large and slow (PITFALLS 34).
fn syntax_config() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

/// Compiles a regex as rules run it.
pub(super) fn compile(regex: &str) -> Result<Regex, String> {
    matcher::compile(&[&parse(regex)?])
}

fn parse(regex: &str) -> Result<Hir, String> {
    syntax::parse_with(regex, &syntax_config())
        .map_err(|error| format!("the regex cannot be read: {}", one_line(&error.to_string())))
}

/// The regex parser draws a picture over several lines; its last line says what is wrong.
fn one_line(message: &str) -> &str {
    message.trim_end().rsplit('\n').next().unwrap_or(message).trim_start_matches("error: ")
}

fn read_checks(table: &Table<'_>) -> Result<Vec<Check>, TomlError> {
    let names = table.texts("check")?.unwrap_or_default();
    names
        .into_iter()
        .map(|name| Check::parse(name).ok_or_else(|| table.unknown("check", "check", name, Check::NAMES)))
        .collect()
}

fn read_grades(table: &Table<'_>) -> Result<Vec<(Check, Confidence)>, TomlError> {
    let Some(value) = table.get("grade") else { return Ok(Vec::new()) };
    let Some(grades) = value.get_ref().as_table() else {
        return Err(table.bad("grade", "expected a table of checks and confidences"));
    };
    grades
        .iter()
        .map(|(check, confidence)| {
            let check = Check::parse(check.get_ref())
                .ok_or_else(|| table.unknown("grade", "check", check.get_ref(), Check::NAMES))?;
            let word = confidence.get_ref().as_str().unwrap_or_default();
            let confidence =
                word.parse().map_err(|_| table.unknown("grade", "confidence", word, CONFIDENCES))?;
            Ok((check, confidence))
        })
        .collect()
}

fn read_context(table: &Table<'_>) -> Result<Option<Context>, TomlError> {
    /// Farther away a word says nothing about a value.
    const WITHIN_LIMIT: usize = 1024;
    let Some(context) = table.table("context", &["adds", "within", "words"])? else { return Ok(None) };
    let words: Vec<Box<str>> = context
        .texts("words")?
        .ok_or_else(|| context.missing("words"))?
        .into_iter()
        .map(|word| word.to_ascii_lowercase().into())
        .collect();
    if words.iter().any(|word| word.is_empty()) {
        return Err(context.bad("words", "a word is empty"));
    }
    let within = context.number("within")?.ok_or_else(|| context.missing("within"))?;
    if within > WITHIN_LIMIT {
        return Err(context.bad("within", format!("at most {WITHIN_LIMIT} bytes")));
    }
    let adds = context.word("adds", "confidence", CONFIDENCES)?.ok_or_else(|| context.missing("adds"))?;
    Ok(Some(Context { words, within, adds }))
}

fn read_allow(table: &Table<'_>) -> Result<Vec<Allow>, TomlError> {
    const KEYS: &[&str] = &["cidr", "exact", "expires", "reason", "regex", "suffix"];
    let mut allowed = Vec::new();
    for list in table.tables("allow", |_| "`allow`".to_owned(), KEYS)? {
        let reason: Box<str> = list.text("reason")?.unwrap_or_default().into();
        let expires: Option<Box<str>> = list.text("expires")?.map(Into::into);
        if expires.as_deref().is_some_and(|day| !is_day(day)) {
            return Err(list.bad("expires", "expected a day as `YYYY-MM-DD`"));
        }
        let before = allowed.len();
        for (key, make) in [
            ("exact", (|text| Ok(Allowed::Exact(text.into()))) as fn(&str) -> Result<Allowed, String>),
            ("suffix", |text| Ok(Allowed::Suffix(text.into()))),
            ("regex", |text| compile(text).map(Allowed::Regex)),
            ("cidr", |text| {
                Network::parse(text).map(Allowed::Cidr).ok_or_else(|| format!("`{text}` is no network"))
            }),
        ] {
            for text in list.texts(key)?.unwrap_or_default() {
                if text.is_empty() && key != "exact" {
                    return Err(list.bad(key, "an entry is empty, and would allow everything"));
                }
                let what = make(text).map_err(|why| list.bad(key, why))?;
                allowed.push(Allow { what, reason: reason.clone(), expires: expires.clone() });
            }
        }
        if allowed.len() == before {
            return Err(table.bad("allow", "it allows nothing; give `exact`, `suffix`, `regex` or `cidr`"));
        }
    }
    Ok(allowed)
}

fn is_day(text: &str) -> bool {
    text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10
}

fn read_inside(table: &Table<'_>) -> Result<Option<Inside>, TomlError> {
    const TYPES: &[&str] = &["bool", "null", "number"];
    let Some(inside) = table.table("inside", &["keep_keys", "keep_types", "value_rules"])? else {
        return Ok(None);
    };
    let keep_types = boxed(&inside, "keep_types")?.unwrap_or_default();
    if let Some(unknown) = keep_types.iter().find(|kind| !TYPES.contains(&&***kind)) {
        return Err(inside.unknown("keep_types", "type", unknown, TYPES));
    }
    Ok(Some(Inside {
        keep_keys: boxed(&inside, "keep_keys")?.unwrap_or_default(),
        keep_types,
        value_rules: inside.flag("value_rules")?.unwrap_or(false),
    }))
}

fn read_samples(table: &Table<'_>, kind: &Kind) -> Result<Vec<Sample>, TomlError> {
    const KEYS: &[&str] = &["hit", "hit_path", "miss", "miss_path", "out", "span", "value"];
    let mut samples = Vec::new();
    for sample in table.tables("test", |_| "a sample".to_owned(), KEYS)? {
        let mut forms = Vec::new();
        for (key, _) in sample.entries() {
            match key {
                "hit" => forms.push((key, vec!["span"])),
                "miss" => forms.push((key, vec![])),
                "hit_path" => forms.push((key, vec!["value", "out"])),
                "miss_path" => forms.push((key, vec!["value"])),
                _ => {}
            }
        }
        let [(form, companions)] = &forms[..] else {
            return Err(table.bad("test", "a sample is one of `hit`, `miss`, `hit_path`, `miss_path`"));
        };
        if let Some((extra, _)) = sample.entries().find(|(key, _)| key != form && !companions.contains(key)) {
            return Err(sample.bad(extra, format!("it does not go with `{form}`")));
        }
        let fits = match kind {
            Kind::Field => form.ends_with("_path"),
            Kind::Known(_) => !form.ends_with("_path"),
            // A value rule may hold for certain fields only.
            Kind::Value(_) => true,
        };
        if !fits {
            return Err(sample.bad(form, format!("it does not prove a rule of kind `{}`", kind.as_str())));
        }
        let text =
            |key: &'static str| Ok(Box::<str>::from(sample.text(key)?.ok_or_else(|| sample.missing(key))?));
        let optional = |key: &'static str| Ok(sample.text(key)?.map(Box::<str>::from));
        let read = match *form {
            "hit" => Sample::Hit { text: text("hit")?, span: optional("span")? },
            "miss" => Sample::Miss { text: text("miss")? },
            "hit_path" => {
                Sample::HitPath { path: text("hit_path")?, value: text("value")?, out: optional("out")? }
            }
            _ => Sample::MissPath { path: text("miss_path")?, value: text("value")? },
        };
        crate::rules::samples::check_generators(&read).map_err(|why| sample.bad(form, why))?;
        samples.push(read);
    }
    Ok(samples)
}

fn containers(table: &Table<'_>) -> Result<Option<Vec<Container>>, TomlError> {
    let Some(words) = table.texts("decode")? else { return Ok(None) };
    let containers = words.into_iter().map(|word| match word {
        "base64" => Ok(Container::Base64),
        "json" => Ok(Container::Json),
        "percent" => Ok(Container::Percent),
        other => Err(table.unknown("decode", "container", other, CONTAINERS)),
    });
    containers.collect::<Result<_, _>>().map(Some)
}

fn max_len(table: &Table<'_>) -> Result<Option<usize>, TomlError> {
    match table.number("max_len")? {
        Some(0) => Err(table.bad("max_len", "nothing fits into no bytes")),
        Some(len) if len > MAX_LEN_LIMIT => {
            Err(table.bad("max_len", format!("at most {MAX_LEN_LIMIT} bytes")))
        }
        other => Ok(other),
    }
}

fn boxed(table: &Table<'_>, key: &str) -> Result<Option<Vec<Box<str>>>, TomlError> {
    Ok(table.texts(key)?.map(|texts| texts.into_iter().map(Into::into).collect()))
}

fn patterns(table: &Table<'_>, key: &str) -> Result<Option<Vec<PathPattern>>, TomlError> {
    let Some(texts) = table.texts(key)? else { return Ok(None) };
    let patterns = texts
        .into_iter()
        .map(|text| PathPattern::parse(text).map_err(|error| table.bad(key, error.to_string())));
    patterns.collect::<Result<_, _>>().map(Some)
}
