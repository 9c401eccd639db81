//! Values that this machine knows: looked for exactly, kept in memory only.

use std::{fmt::Write as _, ops::Range};

use aho_corasick::{AhoCorasick, MatchKind};

use crate::{
    model::Secret,
    rules::{
        Rule, RuleSet,
        spec::{Kind, Variant},
    },
};

/// A value of this machine, and where it comes from.
#[derive(Clone, Debug)]
pub struct KnownValue {
    /// As rules name it: `os:username`, `env:GITHUB_TOKEN`.
    pub source: String,
    /// The value.
    pub value: Secret<String>,
}

/// Finds known values.
pub(super) struct KnownValues {
    automaton: AhoCorasick,
    /// The rule of each pattern.
    rules: Vec<usize>,
}

/// Never prints a value.
impl std::fmt::Debug for KnownValues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KnownValues({})", self.rules.len())
    }
}

impl RuleSet {
    /// Gives the rules of kind `known` the values to look for. Without this they find nothing.
    ///
    /// A value counts for every rule one of whose sources names where it comes from; shorter ones than the rule's
    /// `min_len` do not count. Case is ignored for rules with the variant `lower`, and then for all.
    #[must_use]
    pub fn with_known(mut self, values: &[KnownValue]) -> Self {
        let (mut patterns, mut rules, mut any_case) = (Vec::new(), Vec::new(), false);
        for (index, rule) in self.rules.iter().enumerate() {
            for value in values.iter().filter(|value| wants(rule, value)) {
                let Kind::Known(known) = &rule.kind else { continue };
                any_case |= known.variants.contains(&Variant::Lower);
                for pattern in spellings(value.value.expose(), &known.variants) {
                    patterns.push(pattern);
                    rules.push(index);
                }
            }
        }
        self.known = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .ascii_case_insensitive(any_case)
            .build(&patterns)
            .ok()
            .filter(|_| !patterns.is_empty())
            .map(|automaton| KnownValues { automaton, rules });
        self
    }
}

impl KnownValues {
    /// Calls `found` with the rule and the place of each value that stands for itself, not within a longer word.
    pub(super) fn find(&self, text: &[u8], mut found: impl FnMut(usize, Range<usize>)) {
        let is_word = |at: Option<usize>| {
            at.and_then(|at| text.get(at)).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        };
        for hit in self.automaton.find_iter(text) {
            let (start, end) = (hit.start(), hit.end());
            let glued = is_word(Some(start)) && is_word(start.checked_sub(1))
                || is_word(end.checked_sub(1)) && is_word(Some(end));
            if !glued && let Some(rule) = self.rules.get(hit.pattern().as_usize()) {
                found(*rule, start..end);
            }
        }
    }
}

fn wants(rule: &Rule, value: &KnownValue) -> bool {
    let Kind::Known(known) = &rule.kind else { return false };
    let length = value.value.expose().len();
    length >= known.min_len.max(1) && known.sources.iter().any(|source| names(source, &value.source))
}

/// Whether a source with at most a few `*` names `source`.
fn names(pattern: &str, source: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = source.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// The forms in which a value may stand. Escapes and containers are opened before rules run, so that the plain form
/// finds those; the percent form serves text in which only the value was encoded, and base64 is left to the opener.
fn spellings(value: &str, variants: &[Variant]) -> Vec<String> {
    let mut spellings = vec![value.to_owned()];
    if variants.contains(&Variant::Percent) {
        let mut encoded = String::with_capacity(value.len());
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    encoded.push(byte.into())
                }
                _ => _ = write!(encoded, "%{byte:02X}"),
            }
        }
        if encoded != value {
            spellings.push(encoded);
        }
    }
    spellings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{destination, shipped};

    fn known(source: &str, value: &str) -> KnownValue {
        KnownValue { source: source.to_owned(), value: Secret::new(value.to_owned()) }
    }

    fn found(values: &[KnownValue], text: &str) -> Vec<String> {
        let set = shipped().with_known(values);
        let hits = set.scan_text(text.as_bytes(), &destination(), &mut crate::rules::Scratch::default());
        hits.iter().map(|hit| text[hit.range.clone()].to_owned()).collect()
    }

    #[test]
    fn a_value_of_this_machine_is_found_in_any_case_and_percent_form() {
        let values = [known("os:hostname", "anns-laptop"), known("git:user.name", "Ann Example")];

        assert_eq!(found(&values, "on ANNS-LAPTOP: x"), ["ANNS-LAPTOP"]);
        assert_eq!(found(&values, "by Ann%20Example."), ["Ann%20Example"]);
    }

    #[test]
    fn a_part_of_a_word_and_a_short_value_are_not_found() {
        assert!(found(&[known("os:username", "runner")], "the forerunners").is_empty());
        assert!(found(&[known("os:username", "ann")], "ann").is_empty());
    }

    #[test]
    fn a_value_counts_only_for_rules_that_name_its_source() {
        assert!(found(&[known("env:EDITOR", "someeditor")], "someeditor").is_empty());
        assert_eq!(found(&[known("env:MY_TOKEN", "sometoken1")], "sometoken1"), ["sometoken1"]);
        assert_eq!(found(&[known("env:A_SECRET_B", "sometoken2")], "sometoken2"), ["sometoken2"]);
    }

    #[test]
    fn debug_output_does_not_hold_the_value() {
        let set = shipped().with_known(&[known("os:hostname", "anns-laptop")]);

        assert!(set.known.is_some());
        assert!(!format!("{:?}", set.known).contains("anns-laptop"));
    }
}
