mod docs;
mod floods;
mod format;
mod json;
mod scanning;
mod schema;

pub(in crate::rules) use scanning::{set_of, value_rule};

use super::*;
use crate::model::{DestinationId, Document};

pub(super) fn shipped() -> RuleSet {
    RuleSet::from_sources(&embedded()).unwrap_or_else(|error| panic!("{error}"))
}

pub(super) fn destination() -> DestinationId {
    DestinationId::new("first-party-events")
}

/// What a set finds, as `rule @ path = value`.
pub(super) fn found(set: &RuleSet, document: &Document) -> Vec<String> {
    let hits = set.scan(document, &destination(), &mut Scratch::default());
    let mut lines: Vec<String> = hits
        .iter()
        .map(|hit| {
            let value = String::from_utf8_lossy(&hit.value(document)).into_owned();
            format!("{} @ {} = {value}", set.rules()[hit.rule].id, document.field(hit.node).path())
        })
        .collect();
    lines.sort();
    lines
}

/// Texts out of a few bytes, the same in every run.
pub(in crate::rules) struct Noise(pub(in crate::rules) u64);

impl Noise {
    pub(in crate::rules) fn text(&mut self, alphabet: &[u8], length: usize) -> Vec<u8> {
        let mut byte = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            alphabet[(self.0 >> 33) as usize % alphabet.len()]
        };
        (0..length).map(|_| byte()).collect()
    }
}

#[test]
fn every_shipped_sample_is_proven() {
    let failures: Vec<String> = shipped().prove().iter().map(ToString::to_string).collect();

    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_sample_that_is_wrong_is_noticed() {
    let mut sources = embedded();
    sources[0].text = sources[0].text.replace(r#"span = "dmitri""#, r#"span = "dmitra""#);

    let failures = RuleSet::from_sources(&sources).unwrap().prove();

    assert_eq!(failures.len(), 1);
    assert_eq!(&*failures[0].rule, "path.home-user");
}

#[test]
fn every_shipped_rule_says_why_and_has_two_samples_of_each_sort() {
    for rule in shipped().rules() {
        let hits = rule
            .samples
            .iter()
            .filter(|sample| matches!(sample, Sample::Hit { .. } | Sample::HitPath { .. }))
            .count();
        let misses = rule.samples.len() - hits;
        let known = matches!(rule.kind, Kind::Known(_));

        assert!(!rule.why.is_empty(), "{} has no why", rule.id);
        assert!(known || (hits >= 2 && misses >= 2), "{}: {hits} hits, {misses} misses", rule.id);
    }
}

#[test]
fn previews_reveal_little() {
    let set = shipped();
    let show = |rule: &str, value: &str| preview(set.rule(rule).unwrap(), value.as_bytes()).into_string();
    let key = samples::expand("sk-ant-api03-{{b64u:93}}", "x").unwrap();

    assert_eq!(show("contact.email", "bob@example.com"), "b***@e***.com");
    assert_eq!(show("secret.anthropic", &key), "sk-ant-api03-***");
    assert_eq!(show("field.prompt", &"x".repeat(123)), "*** (123 characters)");
    assert_eq!(show("identity.device-id", &"0123456789abcdef".repeat(4)), "0123***");
    assert_eq!(show("path.home-user", "bob"), "*** (3 characters)");
    assert_eq!(show("contact.email", "a@b.co"), "***@***.***");
}

#[test]
fn previews_never_show_more_than_a_quarter_nor_control_characters() {
    let set = shipped();
    for rule in set.rules() {
        for value in
            ["ab", "abcdefgh", "\x1b[31mred\x1b[0m and more", "äöüäöüäöüäöü", "a@b.co", "bob@example.com"]
        {
            let shown = preview(rule, value.as_bytes());
            let revealed = shown.chars().filter(char::is_ascii_alphanumeric).count();

            assert!(shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}: {shown:?}", rule.id);
            if !shown.ends_with("characters)") {
                // The dots and signs of an address are no secret, nor is `.com`.
                assert!(revealed <= value.len() / 4 + 3, "{} shows {shown} of {value}", rule.id);
            }
        }
    }
}
