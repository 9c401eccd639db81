//! `dd-sensitive-data-scanner`, with our rules in its words. It ships none of its own.
//!
//! What it cannot say is left out, mostly to its advantage: counts of distinct characters, top-level domains, issuers'
//! number ranges, context words that only grade, allow lists, fields by name.

use std::{collections::HashMap, hint::black_box, sync::Arc};

use dd_sds::{
    RegexRuleConfig, RootRuleConfig, RuleConfig, RuleMatch, Scanner, ScannerError, SecondaryValidator,
};
use plainsight::rules::{Check, Kind, Rule, RuleSet};
use serde_json::Value;

use crate::{
    body::Body,
    tool::{Round, Tool, time},
};

type DynRule = RootRuleConfig<Arc<dyn RuleConfig>>;

/// Our rules whose regex leans on a finder or a check of ours, or matches bytes instead of characters, in a form that
/// stands by itself. The addresses are ASCII, as is usual; ours are not, so this is the cheaper regex.
const OWN_WORDS: &[(&str, &str)] = &[
    ("contact.email", r"\b(?<sds_match>[A-Za-z0-9_][A-Za-z0-9._%+'-]*@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,24})\b"),
    (
        "contact.phone-national",
        r"(?:^|[^0-9A-Za-z.-])(?<sds_match>(?:1[ .-])?(?:\([2-9]\d{2}\) ?[2-9]\d{2}[ .-]\d{4}|[2-9]\d{2}-[2-9]\d{2}-\d{4}|[2-9]\d{2}\.[2-9]\d{2}\.\d{4}))(?:[^0-9A-Za-z.-]|$)",
    ),
    ("finance.card", r"(?:^|[^0-9A-Za-z.-])(?<sds_match>[2-6]\d(?:[ -]?\d){11,17})(?:[^0-9A-Za-z.-]|$)"),
    (
        "net.ipv4",
        r"(?:^|[^0-9A-Za-z.-])(?<sds_match>(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d))(?:[^0-9A-Za-z.-]|$)",
    ),
    (
        "net.ipv6",
        r"(?:^|[^0-9A-Za-z:.])(?<sds_match>(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|(?:[0-9A-Fa-f]{1,4}:){1,6}(?::[0-9A-Fa-f]{1,4}){1,6})(?:[^0-9A-Za-z:.]|$)",
    ),
    (
        "path.home-user",
        r"(?:^|[^A-Za-z0-9_.-]|/[a-z]|/(?:var|usr|data|export|mnt|host))(?:/home/|/Users/)(?<sds_match>[A-Za-z0-9_][A-Za-z0-9._-]{0,63})",
    ),
    (
        "path.windows-user",
        r"(?:^|[^A-Za-z0-9_.-]|[A-Za-z]:)\\{1,4}Users\\{1,4}(?<sds_match>[A-Za-z0-9_][A-Za-z0-9._-]{0,63})",
    ),
];

/// Its scanner, and how much of our rules it holds.
pub struct Rules {
    scanner: Scanner,
    /// Rules that it took, by our name.
    pub taken: Vec<String>,
    /// Rules that it refused, and why.
    pub refused: Vec<(String, String)>,
}

impl Rules {
    pub fn translate(rules: &RuleSet) -> Self {
        let (mut taken, mut refused, mut configs) = (Vec::new(), Vec::new(), Vec::new());
        // Rules for paths of requests see no body of ours.
        for rule in rules.rules().iter().filter(|rule| *rule.pack != *"head") {
            let Some(config) = translated(rule) else { continue };
            let config: DynRule = RootRuleConfig::new(config.build());
            match Scanner::builder(std::slice::from_ref(&config)).build() {
                Ok(_) => {
                    taken.push(rule.id.as_str().to_owned());
                    configs.push(config);
                }
                Err(error) => refused.push((rule.id.as_str().to_owned(), error.to_string())),
            }
        }
        let scanner =
            Scanner::builder(&configs).with_return_matches(true).build().expect("rules that it took");
        Self { scanner, taken, refused }
    }

    /// Values that it names in a JSON body.
    pub fn values(&self, body: &str) -> Vec<Vec<u8>> {
        let mut event: Value = serde_json::from_str(body).expect("a body of our own");
        numbers_to_text(&mut event);
        let matches = self.scanner.scan(&mut event).expect("no rule of these waits for anything");
        matches.into_iter().filter_map(|hit| hit.match_value).map(String::into_bytes).collect()
    }
}

/// It looks at numbers as text, but panics when it finds something in one.
fn numbers_to_text(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(numbers_to_text),
        Value::Bool(_) | Value::Number(_) => *value = Value::String(value.to_string()),
        Value::Object(fields) => fields.values_mut().for_each(numbers_to_text),
        Value::Null | Value::String(_) => {}
    }
}

fn translated(rule: &Rule) -> Option<RegexRuleConfig> {
    let Kind::Value(shape) = &rule.kind else { return None };
    let own = OWN_WORDS.iter().find(|(id, _)| *id == rule.id.as_str());
    let pattern = match own {
        Some((_, pattern)) => (*pattern).to_owned(),
        None => shape.regex.replace("(?P<hit>", "(?<sds_match>"),
    };
    let validator = rule.checks.iter().find_map(|check| match check {
        Check::Iban => Some(SecondaryValidator::IbanChecker),
        Check::Luhn => Some(SecondaryValidator::LuhnChecksum),
        _ => None,
    });
    Some(RegexRuleConfig::new(&pattern).with_pattern_capture_group("sds_match").with_validator(validator))
}

/// What it is given.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// Bytes, read by serde_json, so that hits have a path.
    Json,
    /// The body as one string.
    Text,
}

pub struct Datadog<'r> {
    rules: &'r Rules,
    way: Way,
    /// It wants to be able to change what it scans, which these rules never do.
    texts: HashMap<&'static str, String>,
}

impl<'r> Datadog<'r> {
    pub fn new(rules: &'r Rules, way: Way) -> Self {
        Self { rules, way, texts: HashMap::new() }
    }
}

impl Tool for Datadog<'_> {
    fn name(&self) -> &'static str {
        match self.way {
            Way::Json => "dd-sds, bytes to findings",
            Way::Text => "dd-sds, body as one text",
        }
    }

    fn round(&mut self, body: &Body) -> Result<Round, String> {
        let scanner = &self.rules.scanner;
        let hits = |matches: Result<Vec<RuleMatch>, ScannerError>| {
            matches.expect("no rule of these waits for anything").len()
        };
        Ok(match self.way {
            Way::Json => time(body.text.len(), || {
                let mut event: Value =
                    serde_json::from_str(black_box(&body.text)).expect("a body of our own");
                hits(black_box(scanner.scan(&mut event)))
            }),
            Way::Text => {
                let text = self.texts.entry(body.name).or_insert_with(|| body.text.clone());
                time(body.text.len(), || hits(black_box(scanner.scan(black_box(&mut *text)))))
            }
        })
    }
}
