//! Proves redaction on the rules' own samples: what a rule finds is gone once its own method made it unreadable, and
//! making it unreadable again changes nothing.

use bytes::Bytes;

use crate::{
    model::{Document, FingerprintKey, Redaction, Replacement, RunId},
    payload::{self, PayloadFormat},
    redaction::{Kept, Place, Redactor, Tree, Whom},
    rules::{HitSample, Kind, Rule, RuleSet, SampleFailure, Scratch},
};

/// Redacts every sample in which a rule finds something, each by its rule's method. Returns what fails.
///
/// A field rule names a field whatever stands there, so that it finds its stand-in again; so does a rule whose method
/// makes an address of an address. These must stand still; every other value must not be found again by any rule.
pub fn prove_redaction(rules: &RuleSet) -> Vec<SampleFailure> {
    // Stand-ins hold digits of hashes: any key will do, and the same one gives the same failures.
    let redactor = Redactor::new(&FingerprintKey::new(&[0; FingerprintKey::LEN_BYTES]));
    let mut scratch = Scratch::default();
    let mut failures = Vec::new();
    for sample in rules.hit_samples() {
        if let Err(why) = prove(rules, &redactor, &sample, &mut scratch) {
            let rule = rules.rules()[sample.rule].id.as_str().into();
            failures.push(SampleFailure { rule, number: sample.number, why });
        }
    }
    failures
}

fn prove(
    rules: &RuleSet,
    redactor: &Redactor,
    sample: &HitSample,
    scratch: &mut Scratch,
) -> Result<(), Box<str>> {
    let rule = &rules.rules()[sample.rule];
    let hits = rules.scan_sample(sample, &sample.text, scratch);
    // A sample in which nothing is found fails by itself.
    let Some(hit) = hits.into_iter().find(|hit| hit.rule == sample.rule) else { return Ok(()) };
    let value = &sample.text[hit.range.clone()];
    let redacted = match redact(redactor, rule, value) {
        Some(redacted) => redacted,
        None => return Err("redaction leaves it as it is".into()),
    };
    if let Some(again) = redact(redactor, rule, &redacted) {
        return Err(format!("redacted it is `{redacted}`, and redacted again `{again}`").into());
    }
    if let Some(out) = sample.out.as_deref().filter(|out| *out != redacted) {
        return Err(format!("redaction makes `{redacted}` of it, not `{out}`").into());
    }
    let text = [&sample.text[..hit.range.start], &redacted, &sample.text[hit.range.end..]].concat();
    let place = hit.range.start..hit.range.start + redacted.len();
    for found in rules.scan_sample(sample, &text, scratch) {
        let other = &rules.rules()[found.rule];
        let overlaps = found.range.start < place.end && place.start < found.range.end;
        if !overlaps || matches!(other.kind, Kind::Field) || keeps_its_kind(&other.redact) {
            continue;
        }
        return Err(format!("redacted it is `{redacted}`, where `{}` finds something", other.id).into());
    }
    Ok(())
}

/// Whether a method makes a value of the same kind, so that it is found again and stands still.
const fn keeps_its_kind(redaction: &Redaction) -> bool {
    matches!(redaction, Redaction::IpPrefix { .. })
}

/// What a rule makes of a value; `None` if it stays.
fn redact(redactor: &Redactor, rule: &Rule, value: &str) -> Option<String> {
    if matches!(rule.redact, Redaction::Leaves { .. })
        && let Some(redacted) = redact_within(redactor, rule, value)
    {
        return (redacted != value).then_some(redacted);
    }
    match redactor.replacement(&rule.redact, value.as_bytes(), WHOM)? {
        Replacement::Null | Replacement::Remove => (!value.is_empty()).then(String::new),
        Replacement::Text(text) => Some(text.into()),
    }
}

/// The same where the value is itself a document, with the decoder's and the splicer's own ways.
fn redact_within(redactor: &Redactor, rule: &Rule, value: &str) -> Option<String> {
    let document = holding(value)?;
    let held = |document: &Document| {
        let field = document.fields().find(|field| field.path().as_str() == HELD)?;
        Some((field.id(), document.plain(field.id()).unwrap_or((field.text(), field.span()))))
    };
    let (node, (text, range)) = held(&document)?;
    let kept = rule
        .inside
        .as_ref()
        .map_or_else(Kept::default, |inside| Kept { keys: &inside.keep_keys, types: &inside.keep_types });
    let edits = redactor.edits(&Tree::new(&document), &Place { text, range, node }, &rule.redact, kept, WHOM);
    let spliced = payload::splice(&document, &edits).ok()?;
    let document = payload::decode(&PayloadFormat::Json, spliced, &payload::Budget::default()).ok()?;
    let (_, (text, range)) = held(&document)?;
    String::from_utf8(document.text(text).get(range)?.to_vec()).ok()
}

/// A document whose only field holds `value`.
fn holding(value: &str) -> Option<Document> {
    let body = Bytes::from(serde_json::json!({ "held": value }).to_string());
    payload::decode(&PayloadFormat::Json, body, &payload::Budget::default()).ok()
}

/// The field of [`holding`].
const HELD: &str = "json:held";

/// Samples are sent to nobody, in no run.
const WHOM: Whom<'static> =
    Whom { destination: "sample", run: RunId::new(1).expect("one is a number of a run") };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Source;

    /// What fails of one value rule that finds words behind `key=`.
    fn failures(redact: &str, rest: &str) -> Vec<String> {
        let text = format!(
            "schema = 1\npack = \"test\"\nversion = \"1\"\n[[rule]]\nid = \"test.a\"\ntitle = \"t\"\nentity = \"E\"\n\
             category = \"c\"\nredact = {{ {redact} }}\n{rest}\n"
        );
        let set = RuleSet::from_sources(&[Source { name: "test.toml".into(), text }]).unwrap();
        assert_eq!(set.prove(), [], "the samples themselves hold");
        prove_redaction(&set).iter().map(ToString::to_string).collect()
    }

    const KEY: &str = "anchors = [\"key=\"]\nregex = 'key=(?P<hit>[A-Za-z0-9._-]+)'\ntest = [{ hit = \"a key=abcdefgh b\" }]";
    const FIELD: &str = "kind = \"field\"\nwhere = [\"**/held\"]";

    #[test]
    fn shipped_rules_make_every_sample_unreadable_for_good() {
        let set = RuleSet::from_sources(&crate::rules::embedded()).unwrap();

        let failures: Vec<String> = prove_redaction(&set).iter().map(ToString::to_string).collect();

        assert!(set.hit_samples().len() > 200, "{}", set.hit_samples().len());
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    #[test]
    fn a_stand_in_that_is_found_again_fails() {
        assert_eq!(failures("method = \"replace\", template = \"REDACTED.key\"", KEY), [""; 0]);

        let found = failures("method = \"mask\", keep_first = 1", KEY);

        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("rule `test.a`, sample 1: redacted it is `axxxx`, where `test.a`"),
            "{found:?}"
        );
    }

    #[test]
    fn a_field_is_found_again_and_must_stand_still() {
        let sample = "test = [{ hit_path = \"json:held\", value = \"abc\", out = \"REDACTED.3c\" }]";
        let redact = "method = \"summary\", template = \"REDACTED.{len}c\"";

        assert_eq!(failures(redact, &format!("{FIELD}\n{sample}")), [""; 0]);
    }

    #[test]
    fn another_result_than_the_sample_says_fails() {
        let sample = "test = [{ hit_path = \"json:held\", value = \"abc\", out = \"REDACTED.4c\" }]";
        let redact = "method = \"summary\", template = \"REDACTED.{len}c\"";

        let found = failures(redact, &format!("{FIELD}\n{sample}"));

        assert_eq!(
            found,
            ["rule `test.a`, sample 1: redaction makes `REDACTED.3c` of it, not `REDACTED.4c`"]
        );
    }

    #[test]
    fn a_value_that_stays_fails() {
        let found = failures("method = \"truncate\", keep = 20", KEY);

        assert_eq!(found, ["rule `test.a`, sample 1: redaction leaves it as it is"]);
    }
}
