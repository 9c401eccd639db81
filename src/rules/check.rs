//! What `rules check` says beyond samples: which rules see each other's samples, and what each rule costs.

use crate::{
    model::DestinationId,
    rules::{
        RuleSet, Sample, Scratch,
        samples::{expand, plain_text},
    },
};

/// A rule that finds something in another rule's sample. Often right (a token in a URL is also a password), and worth
/// knowing when it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrossHit {
    /// Whose sample it is.
    pub rule: Box<str>,
    /// Which of its samples, from 1.
    pub number: usize,
    /// Which rule found something.
    pub other: Box<str>,
}

impl RuleSet {
    /// Runs every rule over every other rule's texts.
    pub fn cross_hits(&self) -> Vec<CrossHit> {
        let destination = DestinationId::new("sample");
        let mut scratch = Scratch::default();
        let mut crossed = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            for (number, sample) in rule.samples.iter().enumerate() {
                let (Sample::Hit { text, .. } | Sample::Miss { text }) = sample else { continue };
                let Ok(text) = expand(text, rule.id.as_str()) else { continue };
                let mut others: Vec<usize> = self
                    .scan_all(&plain_text(&text), &destination, &mut scratch)
                    .into_iter()
                    .map(|hit| hit.rule)
                    .filter(|other| *other != index)
                    .collect();
                others.sort_unstable();
                others.dedup();
                crossed.extend(others.into_iter().map(|other| CrossHit {
                    rule: rule.id.as_str().into(),
                    number: number + 1,
                    other: self.rules[other].id.as_str().into(),
                }));
            }
        }
        crossed
    }

    /// For each rule, the bytes that its regex looks at in `text`: what it costs, the same on every machine.
    pub fn work(&self, text: &[u8]) -> Vec<u64> {
        let mut scratch = Scratch::default();
        self.scan_text(text, &DestinationId::new("sample"), &mut scratch);
        (0..self.rules.len()).map(|rule| scratch.confirmed_by(rule)).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::tests::{set_of, value_rule};

    #[test]
    fn a_rule_that_sees_anothers_sample_is_named() {
        let rule = |id: &str, regex: &str| {
            value_rule(
                id,
                &format!("anchors = [\"ab\"]\nregex = '(?P<hit>{regex})'\ntest = [{{ hit = \"abc\" }}]"),
            )
        };
        let set = set_of(&(rule("test.a", "abc") + &rule("test.b", "ab[a-z]") + &rule("test.c", "abd?")));

        let crossed: Vec<String> =
            set.cross_hits().iter().map(|hit| format!("{} {} {}", hit.rule, hit.number, hit.other)).collect();

        assert!(crossed.contains(&"test.a 1 test.b".to_owned()), "{crossed:?}");
        assert!(!crossed.iter().any(|line| line == "test.a 1 test.a"));
    }

    #[test]
    fn work_is_counted_by_rule() {
        let set = set_of(
            &(value_rule(
                "test.a",
                "anchors = [\"abc\"]\nmax_len = 32\nregex = '(?P<hit>abc(?:[0-9][a-z]|[a-z][0-9]))'",
            ) + &value_rule("test.b", "anchors = [\"xyz\"]\nregex = '(?P<hit>xyz[0-9])'")),
        );

        assert_eq!(set.work(&[b"abc12".as_slice(), &[b'-'; 100]].concat()), [32, 0]);
    }
}
