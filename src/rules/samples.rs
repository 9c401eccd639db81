//! Samples: proofs that stand next to a rule. Secrets in them are generated, so that no file ever holds one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;

use crate::{
    model::{DestinationId, Document, DocumentBuilder, FieldKind, Name, NodeId, TextId},
    rules::{Hit, Rule, RuleSet, Sample, Scratch},
};

/// A sample that its rule does not live up to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule `{rule}`, sample {number}: {why}")]
pub struct SampleFailure {
    /// The rule.
    pub rule: Box<str>,
    /// Which of its samples, from 1.
    pub number: usize,
    /// What is wrong. Holds no generated value.
    pub why: Box<str>,
}

/// A sample in which its rule finds something, with its generators expanded.
#[derive(Clone, Debug)]
pub struct HitSample {
    /// The rule's place in [`RuleSet::rules`].
    pub rule: usize,
    /// Which of its samples, from 1.
    pub number: usize,
    /// The field that holds it; `None` for a text by itself.
    pub path: Option<Box<str>>,
    /// The text, or the field's value.
    pub text: String,
    /// What redaction makes of it, where the sample says so.
    pub out: Option<String>,
}

impl RuleSet {
    /// Every sample in which something is to be found.
    pub fn hit_samples(&self) -> Vec<HitSample> {
        let mut samples = Vec::new();
        for (index, rule) in self.rules().iter().enumerate() {
            for (number, sample) in rule.samples.iter().enumerate() {
                let (path, text, out) = match sample {
                    Sample::Hit { text, span: _ } => (None, text, &None),
                    Sample::HitPath { path, value, out } => (Some(path.clone()), value, out),
                    Sample::Miss { .. } | Sample::MissPath { .. } => continue,
                };
                let id = rule.id.as_str();
                // What cannot be expanded is refused when the file is read.
                let Ok(text) = expand(text, id) else { continue };
                let out = out.as_deref().and_then(|out| expand(out, id).ok());
                samples.push(HitSample { rule: index, number: number + 1, path, text, out });
            }
        }
        samples
    }

    /// What all rules find in `text` at the place that a sample names; overlaps are not resolved. Ranges are those of
    /// `text`.
    pub fn scan_sample(&self, sample: &HitSample, text: &str, scratch: &mut Scratch) -> Vec<Hit> {
        let destination = destination(&self.rules()[sample.rule]);
        let (document, begins) = match &sample.path {
            None => (plain_text(text), 0),
            Some(path) => match one_field(path, text) {
                Ok(document) => {
                    let begins = document.text(TextId::BODY).len() - text.len();
                    (document, begins)
                }
                Err(_) => return Vec::new(),
            },
        };
        let mut hits = self.scan_all(&document, &destination, scratch);
        hits.retain_mut(|hit| {
            let starts = hit.range.start.checked_sub(begins);
            starts.map(|start| hit.range = start..hit.range.end - begins).is_some()
        });
        hits
    }

    /// Proves every sample of every rule, each rule by itself. Returns what fails.
    pub fn prove(&self) -> Vec<SampleFailure> {
        let mut scratch = Scratch::default();
        let mut failures = Vec::new();
        for (index, rule) in self.rules().iter().enumerate() {
            for (number, sample) in rule.samples.iter().enumerate() {
                if let Err(why) = self.prove_one(index, sample, &destination(rule), &mut scratch) {
                    failures.push(SampleFailure {
                        rule: rule.id.as_str().into(),
                        number: number + 1,
                        why: why.into(),
                    });
                }
            }
        }
        failures
    }

    fn prove_one(
        &self,
        rule: usize,
        sample: &Sample,
        destination: &DestinationId,
        scratch: &mut Scratch,
    ) -> Result<(), String> {
        let id = self.rules()[rule].id.as_str();
        let expanded = |text: &str| expand(text, id);
        let (document, wanted, span) = match sample {
            Sample::Hit { text, span } => (plain_text(&expanded(text)?), true, span.as_deref()),
            Sample::Miss { text } => (plain_text(&expanded(text)?), false, None),
            Sample::HitPath { path, value, .. } => (one_field(path, &expanded(value)?)?, true, None),
            Sample::MissPath { path, value } => (one_field(path, &expanded(value)?)?, false, None),
        };
        // `scan` leaves one hit per entity; a sample proves its own rule, so others do not count.
        let hits = self.scan_one(rule, &document, destination, scratch);
        match (wanted, hits.as_slice()) {
            (true, []) => Err("nothing was found".to_owned()),
            (false, []) => Ok(()),
            (false, [hit, ..]) => Err(format!("found something at {}..{}", hit.range.start, hit.range.end)),
            (true, [hit, ..]) => {
                let Some(span) = span else { return Ok(()) };
                let span = expanded(span)?;
                match &document.text(hit.text)[hit.range.clone()] == span.as_bytes() {
                    true => Ok(()),
                    false => Err(format!("found something else, at {}..{}", hit.range.start, hit.range.end)),
                }
            }
        }
    }
}

/// Whom a rule's samples are sent to.
fn destination(rule: &Rule) -> DestinationId {
    DestinationId::new(rule.destinations.first().map_or("sample", |id| &**id))
}

pub(super) fn plain_text(text: &str) -> Document {
    DocumentBuilder::new("text", Bytes::copy_from_slice(text.as_bytes())).finish()
}

/// A document with a single field. Its names are written in front of the value, so that they lie in the bytes.
fn one_field(path: &str, value: &str) -> Result<Document, String> {
    let (prefix, rest) = path.split_once(':').ok_or_else(|| format!("`{path}` has no prefix"))?;
    // Prefixes are a handful of format names in the program; a sample may name any, so it is kept for good.
    let prefix: &'static str = known_prefix(prefix);
    let body = format!("{rest} {value}");
    let mut builder = DocumentBuilder::new(prefix, Bytes::from(body.clone()));
    let mut parent = builder.push(NodeId::ROOT, Name::Static(""), FieldKind::Object, 0..body.len());
    let mut at = 0;
    let mut names = rest.split('/').peekable();
    while let Some(name) = names.next() {
        let (start, end) = (at as u32, (at + name.len()) as u32);
        at += name.len() + 1;
        let name = match name.parse() {
            Ok(index) => Name::Index(index),
            Err(_) => Name::Key { start, end },
        };
        let kind = if names.peek().is_some() { FieldKind::Object } else { FieldKind::String };
        parent = builder.push(parent, name, kind, rest.len() + 1..body.len());
    }
    Ok(builder.finish())
}

fn known_prefix(prefix: &str) -> &'static str {
    const KNOWN: &[&str] = &[
        "datadog",
        "feature-flags",
        "feedback",
        "first-party-events",
        "first-party-metrics",
        "form",
        "header",
        "json",
        "multipart",
        "oauth-usage",
        "otlp",
        "path",
        "query",
        "segment",
        "sentry",
        "settings",
        "statsig",
        "text",
        "updates",
    ];
    KNOWN.iter().find(|known| **known == prefix).copied().unwrap_or("other")
}

/// Says what is wrong with a sample's generators, before anyone runs it.
pub(super) fn check_generators(sample: &Sample) -> Result<(), String> {
    let (Sample::Hit { text, .. }
    | Sample::Miss { text }
    | Sample::HitPath { value: text, .. }
    | Sample::MissPath { value: text, .. }) = sample;
    expand(text, "").map(drop)?;
    match sample {
        Sample::HitPath { path, .. } | Sample::MissPath { path, .. } if !path.contains(':') => {
            Err(format!("`{path}` has no prefix; write it as `otlp:{path}`"))
        }
        _ => Ok(()),
    }
}

/// Longest generated text: as long as the longest window.
const LONGEST: usize = 64 * 1024;

/// Expands the generators in a sample: the same text for the same seed, always.
///
/// `{{b62:N}}`, `{{b64:N}}`, `{{b64u:N}}`, `{{b32:N}}`, `{{hex:N}}`, `{{digits:N}}`, `{{upper:N}}`, `{{lower:N}}`: so
/// many characters; `{{jwt}}`, `{{uuid}}`, `{{github}}` (with its checksum).
pub(super) fn expand(text: &str, seed: &str) -> Result<String, String> {
    let mut random = Random::new(seed);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((generator, after)) = after.split_once("}}") else {
            return Err("`{{` without `}}`".to_owned());
        };
        generate(generator, &mut random, &mut out)?;
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn generate(generator: &str, random: &mut Random, out: &mut String) -> Result<(), String> {
    const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
    const DIGITS: &str = "0123456789";
    let unknown = || format!("unknown generator `{{{{{generator}}}}}`");
    let (name, length) = match generator.split_once(':') {
        Some((name, length)) => {
            (name, length.parse::<usize>().ok().filter(|length| *length <= LONGEST).ok_or_else(unknown)?)
        }
        None => (generator, 0),
    };
    if generator.contains(':') == matches!(name, "github" | "jwt" | "uuid") {
        return Err(unknown());
    }
    let alphabet = match name {
        "b32" => [UPPER, "234567"].concat(),
        "b62" => [UPPER, LOWER, DIGITS].concat(),
        "b64" => [UPPER, LOWER, DIGITS, "+/"].concat(),
        "b64u" => [UPPER, LOWER, DIGITS, "-_"].concat(),
        "digits" => DIGITS.to_owned(),
        "hex" => [DIGITS, "abcdef"].concat(),
        "lower" => LOWER.to_owned(),
        "upper" => UPPER.to_owned(),
        "github" => {
            let mut body = String::new();
            generate("b62:30", random, &mut body)?;
            let checksum = super::validators::base62(super::validators::crc32(body.as_bytes()));
            out.push_str(&body);
            out.extend(checksum.map(char::from));
            return Ok(());
        }
        "jwt" => {
            let mut subject = String::new();
            generate("b62:12", random, &mut subject)?;
            out.push_str(&URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#));
            out.push('.');
            out.push_str(&URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"{subject}","iat":1700000000}}"#)));
            out.push('.');
            return generate("b64u:43", random, out);
        }
        "uuid" => {
            for (index, length) in [8, 4, 3, 3, 12].into_iter().enumerate() {
                out.push_str(["", "-", "-4", "-a", "-"][index]);
                generate(&format!("hex:{length}"), random, out)?;
            }
            return Ok(());
        }
        _ => return Err(unknown()),
    };
    let alphabet = alphabet.as_bytes();
    out.extend((0..length).map(|_| char::from(alphabet[random.below(alphabet.len())])));
    Ok(())
}

/// SplitMix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn new(seed: &str) -> Self {
        // FNV-1a
        Self(seed.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generators_give_the_same_text_for_the_same_seed() {
        let text = "{{b62:36}} {{uuid}} {{jwt}}";

        assert_eq!(expand(text, "a"), expand(text, "a"));
        assert_ne!(expand(text, "a"), expand(text, "b"));
        assert_eq!(expand("x{{hex:8}}", "a").unwrap().len(), 9);
    }

    #[test]
    fn unknown_generators_are_refused() {
        for text in ["{{b63:4}}", "{{b62}}", "{{uuid:4}}", "{{b62:x}}", "{{b62:99999999}}", "{{b62:4"] {
            assert!(expand(text, "a").is_err(), "{text}");
        }
    }
}
