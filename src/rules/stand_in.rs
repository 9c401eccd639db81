//! What redaction puts in the place of a value is no value: a rule that goes by what stands before it would find it again.

use std::{fmt::Write as _, sync::LazyLock};

use regex_automata::meta::Regex;

use crate::{
    model::{Redaction, Template, TemplatePart},
    rules::{
        read::compile,
        spec::{Allow, Allowed},
    },
};

/// What every value rule leaves alone: the usual stand-in, with or without a prefix that names the kind. Another rule's
/// prefix may be kept in front of it.
static USUAL: LazyLock<Option<Regex>> =
    LazyLock::new(|| compile(r"^[A-Za-z0-9_.-]{0,24}REDACTED(?:[.-][A-Za-z0-9._-]{1,40})?$").ok());

/// What the rule that makes a value unreadable in this way must not find again.
pub(super) fn allowed(redaction: &Redaction) -> Vec<Allow> {
    let own = match redaction {
        Redaction::Leaves { each: template }
        | Redaction::Partial { keep_prefix: _, template }
        | Redaction::Pseudonym { scope: _, template }
        | Redaction::Replace { template }
        | Redaction::Summary { template } => pattern(template),
        Redaction::IpPrefix { .. }
        | Redaction::Mask { .. }
        | Redaction::MaskSameLength { .. }
        | Redaction::Null
        | Redaction::Remove
        | Redaction::Truncate { .. } => None,
    };
    let own = own.and_then(|pattern| compile(&pattern).ok());
    own.into_iter()
        .chain(USUAL.clone())
        .map(|regex| Allow { what: Allowed::Regex(regex), reason: "a stand-in".into(), expires: None })
        .collect()
}

/// What a template can become; `None` if that could be a value as well, for want of a word that no digits spell.
fn pattern(template: &Template) -> Option<String> {
    let mut pattern = "^".to_owned();
    for part in &template.0 {
        match part {
            TemplatePart::Hash(digits) => drop(write!(pattern, "[0-9a-f]{{{digits}}}")),
            TemplatePart::Length => pattern.push_str("[0-9]+"),
            TemplatePart::Literal(literal) => {
                pattern.push_str(&literal.replace('.', r"\."));
            }
            TemplatePart::Prefix => pattern.push_str("[A-Za-z0-9_.-]{0,24}"),
        }
    }
    pattern.push('$');
    template.has_word().then_some(pattern)
}

#[cfg(test)]
mod tests {
    use crate::{
        model::DestinationId,
        rules::{
            Scratch,
            tests::{set_of, value_rule},
        },
    };

    /// What [`value_rule`] writes.
    const REPLACE: &str = "\"replace\", template = \"x\"";

    #[test]
    fn a_rule_that_goes_by_what_stands_before_does_not_find_a_stand_in() {
        let set = set_of(
            &value_rule("test.a", "anchors = [\"user=\"]\nregex = 'user=(?P<hit>[A-Za-z0-9._-]+)'")
                .replace(REPLACE, "\"pseudonym\", template = \"user-{h6}\""),
        );
        let finds = |text: &str| {
            !set.scan_text(text.as_bytes(), &DestinationId::new("test"), &mut Scratch::default()).is_empty()
        };

        for text in ["user=user-0a1b2c", "user=REDACTED", "user=REDACTED.email", "user=sk-ant-REDACTED"] {
            assert!(!finds(text), "{text}");
        }
        for text in
            ["user=user-0a1b2", "user=user-ghijkl", "user=ann", "user=xREDACTEDx", "user=user-0a1b2c-ann"]
        {
            assert!(finds(text), "{text}");
        }
    }

    #[test]
    fn a_template_of_digits_alone_hides_no_value() {
        let set = set_of(
            &value_rule("test.a", "anchors = [\"id=\"]\nregex = 'id=(?P<hit>[a-z0-9]+)'")
                .replace(REPLACE, "\"pseudonym\", template = \"{h8}\""),
        );

        let hits = set.scan_text(b"id=0a1b2c3d", &DestinationId::new("test"), &mut Scratch::default());

        assert_eq!(hits.len(), 1);
    }
}
