//! Compares what a scan finds with what the labels say.

use std::collections::BTreeMap;

use bytes::Bytes;
use plainsight::{
    model::DestinationId,
    payload::{self, Budget},
    rules::{Rule, RuleSet, Scratch},
};

use super::{Class, Document};

/// What was counted of one class.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Values that are there.
    pub planted: u64,
    /// Of these, those that hits cover from end to end.
    pub found: u64,
    /// Of these, those that a hit names with exactly their bytes. A hit that is too long covers a value as well, and would
    /// go unnoticed otherwise.
    pub exact: u64,
    /// Hits that are no value of the class.
    pub false_positives: u64,
    pub planted_bytes: u64,
    /// Bytes of values that no hit covers.
    pub leaked_bytes: u64,
}

#[derive(Default)]
pub struct Score {
    pub classes: BTreeMap<String, Tally>,
    /// By depth.
    pub depths: BTreeMap<&'static str, Tally>,
    /// By carrier.
    pub carriers: BTreeMap<&'static str, Tally>,
    pub bytes: u64,
    /// Class, depth, carrier and value of what was missed; rule, carrier and value of what was found in vain.
    pub misses: Vec<[String; 4]>,
    pub inventions: Vec<[String; 3]>,
}

pub struct Scorer<'r> {
    rules: &'r RuleSet,
    scratch: Scratch,
}

struct Found<'r> {
    rule: &'r Rule,
    value: Vec<u8>,
}

impl<'r> Scorer<'r> {
    pub fn new(rules: &'r RuleSet) -> Self {
        Self { rules, scratch: Scratch::default() }
    }

    pub fn score(&mut self, documents: &[Document]) -> Score {
        let mut score = Score::default();
        for document in documents {
            self.add(document, &mut score);
        }
        score
    }

    fn find(&mut self, document: &Document) -> Vec<Found<'r>> {
        let budget = Budget::default();
        let taken_apart = if document.destination == "query" {
            payload::query(&String::from_utf8_lossy(&document.body), &budget)
        } else {
            let body = Bytes::from(document.body.clone());
            let recognised =
                payload::recognise(document.destination, Some(document.content_type), document.path, &body);
            payload::decode(&recognised.format, body, &budget).expect("a body of our own")
        };
        let destination = DestinationId::new(document.destination);
        self.rules
            .scan(&taken_apart, &destination, &mut self.scratch)
            .into_iter()
            .map(|hit| Found {
                rule: &self.rules.rules()[hit.rule],
                value: taken_apart.text(hit.text)[hit.range].to_vec(),
            })
            // It says that documentation's key was seen, which gives access to nothing.
            .filter(|found| found.rule.id.as_str() != "secret.aws-example-key")
            .collect()
    }

    fn add(&mut self, document: &Document, score: &mut Score) {
        score.bytes += document.body.len() as u64;
        let found = self.find(document);
        for label in &document.labels {
            let family = family_of_class(label.class);
            let hits = found.iter().filter(|found| family_of_rule(found.rule) == family);
            let mut covered = vec![false; label.value.len()];
            let mut exact = false;
            for hit in hits {
                exact |= hit.value == label.value.as_bytes();
                cover(&mut covered, label.value.as_bytes(), &hit.value);
            }
            let leaked = covered.iter().filter(|covered| !**covered).count() as u64;
            let tallies = [
                score.classes.entry(label.class.to_owned()).or_default(),
                score.depths.entry(label.depth).or_default(),
                score.carriers.entry(document.carrier).or_default(),
            ];
            for tally in tallies {
                tally.planted += 1;
                tally.found += u64::from(leaked == 0);
                tally.exact += u64::from(exact);
                tally.planted_bytes += covered.len() as u64;
                tally.leaked_bytes += leaked;
            }
            if leaked > 0 {
                score.misses.push([
                    label.class.to_owned(),
                    label.depth.to_owned(),
                    document.carrier.to_owned(),
                    label.value.clone(),
                ]);
            }
        }
        for hit in &found {
            let family = family_of_rule(hit.rule);
            // Whatever people say in feedback is content.
            if document.carrier == "feedback" && family == "content" {
                continue;
            }
            let wanted = document.labels.iter().any(|label| {
                let mut covered = vec![false; label.value.len()];
                cover(&mut covered, label.value.as_bytes(), &hit.value);
                family_of_class(label.class) == family && covered.contains(&true)
            });
            if !wanted {
                let class = class_of_rule(hit.rule, &hit.value);
                score.classes.entry(class).or_default().false_positives += 1;
                score.carriers.entry(document.carrier).or_default().false_positives += 1;
                score.inventions.push([
                    hit.rule.id.as_str().to_owned(),
                    document.carrier.to_owned(),
                    String::from_utf8_lossy(&hit.value).into_owned(),
                ]);
            }
        }
    }
}

/// Marks what of `value` stands in `hit`. A hit that overlaps an end covers that end.
pub fn cover(covered: &mut [bool], value: &[u8], hit: &[u8]) {
    /// Shorter overlaps of ends are chance.
    const LEAST: usize = 4;
    if hit.is_empty() || value.is_empty() {
        return;
    }
    if hit.windows(value.len()).any(|part| part == value) {
        return covered.fill(true);
    }
    if let Some(at) = value.windows(hit.len()).position(|part| part == hit) {
        return covered[at..at + hit.len()].fill(true);
    }
    let most = value.len().min(hit.len());
    for length in (LEAST..most).rev() {
        if hit.ends_with(&value[..length]) {
            covered[..length].fill(true);
            break;
        }
        if hit.starts_with(&value[value.len() - length..]) {
            let start = value.len() - length;
            covered[start..].fill(true);
            break;
        }
    }
}

fn family_of_class(class: Class) -> &'static str {
    match class {
        "ipv4" | "ipv6" => "ip",
        class if class.starts_with("secret.") => "secret",
        class => class,
    }
}

fn family_of_rule(rule: &Rule) -> &'static str {
    if rule.category.starts_with("secret.") {
        return "secret";
    }
    if rule.category.starts_with("content.") {
        return "content";
    }
    if rule.category.starts_with("environment.") {
        return "environment";
    }
    match &*rule.entity {
        "ACCOUNT_ID" => "account",
        "CREDIT_CARD" => "card",
        "DEVICE_ID" => "device",
        "EMAIL_ADDRESS" => "email",
        "HOST_NAME" => "host",
        "IBAN" => "iban",
        "IP_ADDRESS" => "ip",
        "ORGANIZATION_ID" => "organization",
        "PHONE_NUMBER" => "phone",
        "SESSION_ID" => "session",
        "USERNAME" => "username",
        _ => "other",
    }
}

fn class_of_rule(rule: &Rule, value: &[u8]) -> String {
    match family_of_rule(rule) {
        "ip" if value.contains(&b':') => "ipv6".to_owned(),
        "ip" => "ipv4".to_owned(),
        "secret" => rule.id.as_str().to_owned(),
        family => family.to_owned(),
    }
}
