//! Redaction: what comes in the place of a value. Knows how a value is made unreadable, not which values and not how
//! bytes are put together again.
//!
//! What was redacted is recognised, so that redacting again changes nothing. No stand-in looks like what it stands
//! for: a pseudonym keeps its own beginning, and an id never becomes another id.

mod leaves;
mod mask;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, ops::Range};

use crate::model::{
    Document, Edit, FingerprintKey, NodeId, PseudonymScope, Redaction, Replacement, RunId, Template,
    TemplatePart, TextId,
};

pub use leaves::Tree;

/// Makes stand-ins for values, with the installation's key.
#[derive(Clone, Debug)]
pub struct Redactor {
    key: FingerprintKey,
}

/// Whom a value is sent to, and in which run: pseudonyms may depend on either.
#[derive(Clone, Copy, Debug)]
pub struct Whom<'w> {
    /// The destination's id.
    pub destination: &'w str,
    /// The run.
    pub run: RunId,
}

/// A value in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The text that it stands in: the most decoded one.
    pub text: TextId,
    /// Where.
    pub range: Range<usize>,
    /// The field that holds it.
    pub node: NodeId,
}

/// What stays readable in a container that is redacted leaf by leaf.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept<'k> {
    /// Members that stay.
    pub keys: &'k [Box<str>],
    /// Types that stay: `bool`, `null`, `number`.
    pub types: &'k [Box<str>],
}

/// Sets pseudonyms apart from fingerprints, which are in the log: nobody can look one up by the other.
const PURPOSE: &[u8] = b"plainsight pseudonym 1";

/// Stands for a value that its method cannot read.
const UNREADABLE: &str = "REDACTED";

/// Begins a pseudonym whose template has no word of its own, so that it passes for nothing else.
const PSEUDONYM: &str = "anon-";

impl Redactor {
    /// Derives its key from the installation's.
    pub fn new(installation: &FingerprintKey) -> Self {
        Self { key: installation.derive(PURPOSE) }
    }

    /// What comes in the place of `value`; `None` when that stands there already.
    pub fn replacement(&self, redaction: &Redaction, value: &[u8], whom: Whom<'_>) -> Option<Replacement> {
        let text = match redaction {
            Redaction::Null if value.is_empty() => return None,
            Redaction::Null => return Some(Replacement::Null),
            Redaction::Remove => return Some(Replacement::Remove),
            Redaction::IpPrefix { v4, v6 } => ip_prefix(value, *v4, *v6),
            Redaction::Leaves { each: template }
            | Redaction::Replace { template }
            | Redaction::Summary { template } => self.fill(template, value, "", &self.key)?,
            Redaction::Mask { keep_first, keep_last } => mask::mask(value, *keep_first, *keep_last),
            Redaction::MaskSameLength { keep_first, keep_last } => {
                mask::same_length(value, *keep_first, *keep_last)
            }
            Redaction::Partial { keep_prefix, template } => {
                self.fill(template, value, prefix(value, *keep_prefix), &self.key)?
            }
            Redaction::Pseudonym { scope, template } => {
                let key = match scope {
                    PseudonymScope::Install => self.key.clone(),
                    PseudonymScope::Destination => self.key.derive(whom.destination.as_bytes()),
                    PseudonymScope::Run => self.key.derive(whom.run.to_string().as_bytes()),
                };
                match says_what_it_is(template) {
                    true => self.fill(template, value, "", &key)?,
                    false => {
                        let marked = [&[TemplatePart::Literal(PSEUDONYM.into())][..], &template.0].concat();
                        self.fill(&Template(marked), value, "", &key)?
                    }
                }
            }
            Redaction::Truncate { keep } => mask::truncate(value, *keep),
        };
        (text.as_bytes() != value).then(|| Replacement::Text(text.into()))
    }

    /// The edits that make one value of a document unreadable: one, or with [`Redaction::Leaves`] one for each text in it.
    pub fn edits(
        &self,
        tree: &Tree<'_>,
        place: &Place,
        redaction: &Redaction,
        kept: Kept<'_>,
        whom: Whom<'_>,
    ) -> Vec<Edit> {
        if matches!(redaction, Redaction::Leaves { .. })
            && let Some(places) = tree.leaves(place, kept)
        {
            return places
                .iter()
                .filter_map(|leaf| self.edit(tree.document(), leaf, redaction, whom))
                .collect();
        }
        self.edit(tree.document(), place, redaction, whom).into_iter().collect()
    }

    fn edit(
        &self,
        document: &Document,
        place: &Place,
        redaction: &Redaction,
        whom: Whom<'_>,
    ) -> Option<Edit> {
        document.text(place.text).get(place.range.clone())?;
        let value = document.value(place.node, place.text, place.range.clone());
        let with = self.replacement(redaction, &value, whom)?;
        Some(Edit { text: place.text, range: place.range.clone(), node: place.node, with })
    }

    /// Fills a template in; `None` when the value was made with it.
    fn fill(&self, template: &Template, value: &[u8], prefix: &str, key: &FingerprintKey) -> Option<String> {
        if is_filled(template, value, prefix) || is_filled(template, value, "") {
            return None;
        }
        let mut text = String::new();
        for part in &template.0 {
            match part {
                TemplatePart::Hash(digits) => {
                    let hash = key.fingerprint(value).to_string();
                    text.push_str(hash.get(..*digits).unwrap_or(&hash));
                }
                TemplatePart::Length => text.push_str(&length(value).to_string()),
                TemplatePart::Literal(literal) => text.push_str(literal),
                TemplatePart::Prefix => text.push_str(prefix),
            }
        }
        Some(text)
    }
}

/// Whether a value is what a template makes of some value.
fn is_filled(template: &Template, value: &[u8], prefix: &str) -> bool {
    let mut rest = value;
    for part in &template.0 {
        let taken = match part {
            TemplatePart::Hash(digits) => {
                let is_hash = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                rest.get(..*digits).filter(|hash| hash.iter().all(is_hash)).map(<[u8]>::len)
            }
            TemplatePart::Length => {
                Some(rest.iter().take_while(|byte| byte.is_ascii_digit()).count()).filter(|count| *count > 0)
            }
            TemplatePart::Literal(literal) => rest.starts_with(literal.as_bytes()).then_some(literal.len()),
            TemplatePart::Prefix => rest.starts_with(prefix.as_bytes()).then_some(prefix.len()),
        };
        let Some(behind) = taken.and_then(|count| rest.get(count..)) else { return false };
        rest = behind;
    }
    rest.is_empty()
}

/// Whether a template has a letter that no number has in any base: its words then pass for no id.
fn says_what_it_is(template: &Template) -> bool {
    template.0.iter().any(|part| match part {
        TemplatePart::Literal(literal) => {
            literal.bytes().any(|byte| byte.is_ascii_alphabetic() && !byte.is_ascii_hexdigit())
        }
        TemplatePart::Hash(_) | TemplatePart::Length | TemplatePart::Prefix => false,
    })
}

/// The length in characters, as people count it.
fn length(value: &[u8]) -> usize {
    String::from_utf8_lossy(value).chars().count()
}

/// What may be kept at the start: nothing if little else would be left, or if it is no text.
fn prefix(value: &[u8], keep: usize) -> &str {
    /// Least bytes behind a prefix.
    const REST: usize = 4;
    let Some(prefix) = value.get(..keep).filter(|_| value.len() >= keep + REST) else { return "" };
    std::str::from_utf8(prefix).unwrap_or("")
}

fn ip_prefix(value: &[u8], v4: u8, v6: u8) -> String {
    let Some(address) = std::str::from_utf8(value).ok().and_then(|text| text.parse::<IpAddr>().ok()) else {
        return UNREADABLE.to_owned();
    };
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(v4.min(32))).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into()).to_string()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(v6.min(128))).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into()).to_string()
        }
    }
}
