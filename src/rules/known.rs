//! Values that this machine knows: looked for exactly, kept in memory only.

use std::{fmt::Write as _, ops::Range};

use aho_corasick::{AhoCorasick, MatchKind};

use crate::{
    model::{Secret, TextId},
    rules::{
        Hit, RuleSet,
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
    patterns: Vec<Pattern>,
}

/// What is known of one pattern of the automaton.
struct Pattern {
    rule: usize,
    /// The spelling to compare with, where upper and lower case are not the same. The automaton knows no such difference
    /// as soon as one rule makes none.
    exact: Option<Box<[u8]>>,
    form: Form,
}

/// What must stand around a spelling.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Anything: it is a piece of a longer encoding.
    Piece,
    /// The ends of a word, and before it something that says what it is.
    ShortWord,
    /// The ends of a word.
    Word,
}

/// Never prints a value.
impl std::fmt::Debug for KnownValues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KnownValues({})", self.patterns.len())
    }
}

impl RuleSet {
    /// Gives the rules of kind `known` the values to look for. Without this they find nothing.
    ///
    /// A value counts for every rule one of whose sources names where it comes from. One that is shorter than the rule's
    /// `min_len` is found only behind a word that says what it is, such as `user` or `/home/`; one that is shorter than
    /// three bytes, or that every other machine has, is not looked for. With the variant `lower`, case is ignored.
    #[must_use]
    pub fn with_known(mut self, values: &[KnownValue]) -> Self {
        let (mut spelled, mut patterns, mut any_case) = (Vec::new(), Vec::new(), false);
        for (index, rule) in self.rules.iter().enumerate() {
            let Kind::Known(known) = &rule.kind else { continue };
            let ignores_case = known.variants.contains(&Variant::Lower);
            for value in
                values.iter().filter(|value| known.sources.iter().any(|source| names(source, &value.source)))
            {
                let value = value.value.expose();
                if value.len() < SHORTEST || is_common(value) {
                    continue;
                }
                let form = if value.len() < known.min_len { Form::ShortWord } else { Form::Word };
                let pieces = base64_pieces(value).into_iter().map(|piece| (piece, Form::Piece));
                let pieces =
                    pieces.filter(|_| form == Form::Word && known.variants.contains(&Variant::Base64));
                let words = spellings(value, &known.variants).into_iter().map(|word| (word, form));
                for (spelling, form) in words.chain(pieces) {
                    let is_exact = form == Form::Piece || !ignores_case;
                    any_case |= !is_exact;
                    let exact = is_exact.then(|| spelling.as_bytes().into());
                    patterns.push(Pattern { rule: index, exact, form });
                    spelled.push(spelling);
                }
            }
        }
        self.known = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .ascii_case_insensitive(any_case)
            .build(&spelled)
            .ok()
            .filter(|_| !spelled.is_empty())
            .map(|automaton| KnownValues { automaton, patterns });
        self
    }
}

impl KnownValues {
    /// Calls `found` with the rule and the place of each value that stands for itself, not within a longer word.
    pub(super) fn find(&self, text: &[u8], mut found: impl FnMut(usize, Range<usize>)) {
        for hit in self.automaton.find_iter(text) {
            let Some(pattern) = self.patterns.get(hit.pattern().as_usize()) else { continue };
            let range = hit.start()..hit.end();
            let is_spelled = pattern.exact.as_ref().is_none_or(|exact| text[range.clone()] == **exact);
            let stands = match pattern.form {
                Form::Piece => true,
                Form::ShortWord => !is_glued(text, &range) && is_said(&text[..range.start]),
                Form::Word => !is_glued(text, &range),
            };
            if is_spelled && stands {
                found(pattern.rule, range);
            }
        }
    }
}

/// Takes away what a `known` rule found where another rule says what it is: that says more.
pub(super) fn drop_named(set: &RuleSet, hits: &mut Vec<Hit>) {
    let is_known = |hit: &Hit| matches!(set.rules[hit.rule].kind, Kind::Known(_));
    if !hits.iter().any(is_known) {
        return;
    }
    let mut named: Vec<(TextId, Range<usize>)> =
        hits.iter().filter(|hit| !is_known(hit)).map(|hit| (hit.text, hit.range.clone())).collect();
    named.sort_unstable_by_key(|(text, range)| (*text, range.start));
    let covers = |hit: &Hit| {
        // The whole of a long text is named by what it is; what stands in it is another matter.
        let longest = hit.range.len() * 2 + NAMED_BYTES;
        let behind =
            named.partition_point(|(text, range)| (*text, range.start) <= (hit.text, hit.range.start));
        let near = named[..behind].iter().rev();
        near.take_while(|(text, range)| *text == hit.text && range.start + longest > hit.range.start)
            .any(|(_, range)| hit.range.end <= range.end && range.len() <= longest)
    };
    hits.retain(|hit| !is_known(hit) || !covers(hit));
}

/// Whether letters, digits or underscores go on at either end.
fn is_glued(text: &[u8], range: &Range<usize>) -> bool {
    let is_word = |at: Option<usize>| {
        at.and_then(|at| text.get(at)).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    is_word(Some(range.start)) && is_word(range.start.checked_sub(1))
        || is_word(range.end.checked_sub(1)) && is_word(Some(range.end))
}

/// Whether what stands just before says that a name follows.
fn is_said(before: &[u8]) -> bool {
    let near = &before[before.len().saturating_sub(CONTEXT_BYTES)..];
    CONTEXT.iter().any(|word| near.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word)))
}

/// Whether a value is one that a great many machines have.
fn is_common(value: &str) -> bool {
    COMMON.iter().any(|common| value.eq_ignore_ascii_case(common))
        || value.bytes().all(|byte| byte.is_ascii_digit()) && value.len() < LONG_NUMBER
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
/// finds those; the others serve text in which only the value was encoded, and documents that are cut off.
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
        spellings.push(encoded);
    }
    if variants.contains(&Variant::Json) {
        let (mut short, mut ascii) = (String::new(), String::new());
        for character in value.chars() {
            if matches!(character, '"' | '\\') {
                short.push('\\');
                ascii.push('\\');
            }
            short.push(character);
            if character.is_ascii() {
                ascii.push(character);
            } else {
                let mut units = [0; 2];
                character.encode_utf16(&mut units).iter().for_each(|unit| _ = write!(ascii, "\\u{unit:04x}"));
            }
        }
        spellings.extend([short, ascii]);
    }
    spellings.sort_unstable();
    spellings.dedup();
    spellings
}

/// What base64 of any text with `value` in it contains, for each of the three places that it may begin at, in both
/// alphabets. Characters that also depend on a neighbour are left out.
fn base64_pieces(value: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    for before in 0..3 {
        let bytes: Vec<u8> = std::iter::repeat_n(0, before).chain(value.bytes()).collect();
        let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1);
        let first = (before * 8).div_ceil(6);
        let sixes = (first..bytes.len() * 8 / 6)
            .map(|six| (0..6).fold(0, |sum, at| sum << 1 | usize::from(bit(six * 6 + at))));
        let sixes: Vec<usize> = sixes.collect();
        if sixes.len() < SHORTEST_PIECE {
            continue;
        }
        for last in ["+/", "-_"] {
            let alphabet = [ALPHANUMERIC, last].concat().into_bytes();
            pieces.push(sixes.iter().map(|six| char::from(alphabet[*six])).collect::<String>());
        }
    }
    pieces.sort_unstable();
    pieces.dedup();
    pieces
}

/// What another rule found may be so much longer than twice a known value, and still be said to name it.
const NAMED_BYTES: usize = 16;

/// Shorter values are looked for nowhere.
const SHORTEST: usize = 3;

/// Shorter pieces of base64 stand in any of it.
const SHORTEST_PIECE: usize = 8;

/// The first 62 digits of base64, in both alphabets.
const ALPHANUMERIC: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A number with fewer digits is a setting or a count, whatever variable it stands in.
const LONG_NUMBER: usize = 12;

/// How far before a short value the word stands that says what it is.
const CONTEXT_BYTES: usize = 24;

/// Words that say that a name follows.
const CONTEXT: &[&[u8]] =
    &[b"author", b"/home/", b"host", b"login", b"name", b"owner", b"user", b"\\users\\", b"/users/"];

/// Users, hosts and values that identify nobody: those of systems, images and build machines, and words for yes and no.
const COMMON: &[&str] = &[
    "admin",
    "administrator",
    "app",
    "azureuser",
    "build",
    "builder",
    "circleci",
    "claude",
    "codespace",
    "debian",
    "default",
    "dev",
    "developer",
    "disabled",
    "docker",
    "ec2-user",
    "enabled",
    "false",
    "fedora",
    "git",
    "gitpod",
    "guest",
    "home",
    "host",
    "jenkins",
    "linux",
    "local",
    "localdomain",
    "localhost",
    "localhost.localdomain",
    "mac",
    "macbook",
    "node",
    "nobody",
    "none",
    "null",
    "owner",
    "pi",
    "postgres",
    "root",
    "runner",
    "runneradmin",
    "sandbox",
    "server",
    "system",
    "test",
    "tester",
    "true",
    "ubuntu",
    "unknown",
    "user",
    "username",
    "vagrant",
    "vscode",
    "web",
    "windows",
    "workspace",
    "www-data",
    "your name",
    "you@example.com",
];

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
        assert!(found(&[known("os:username", "ann")], "the user annotated it").is_empty());
    }

    #[test]
    fn a_short_value_is_found_where_a_word_says_what_it_is() {
        let values = [known("os:username", "ann")];

        assert_eq!(found(&values, "cd /home/ann/src"), ["ann"]);
        assert_eq!(found(&values, "logged in as user: ann"), ["ann"]);
        assert!(found(&values, &format!("user {} ann", "-".repeat(CONTEXT_BYTES))).is_empty());
    }

    #[test]
    fn what_every_other_machine_has_is_not_looked_for() {
        for common in ["root", "Ubuntu", "localhost", "runner", "100000"] {
            let text = format!("user {common}: {common}");

            assert!(found(&[known("os:username", common)], &text).is_empty(), "{common}");
        }
    }

    /// A value of which every alignment differs, and both alphabets.
    #[test]
    fn a_value_is_found_in_base64_wherever_it_begins() {
        use base64::{
            Engine as _,
            engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
        };
        let value = "ann~?>~laptop";
        let values = [known("os:hostname", value)];

        for before in 0..6 {
            let bytes = [&b"\xff\xfe\xfd\xfc\xfb\xfa"[..before], value.as_bytes(), b"\xf1\xf2"].concat();
            for text in [STANDARD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
                assert_eq!(found(&values, &text).len(), 1, "{before}: {text}");
            }
        }
        assert!(found(&values, &STANDARD.encode("something else entirely, and longer")).is_empty());
    }

    #[test]
    fn a_value_is_found_with_the_escapes_of_json() {
        let values = [known("git:user.name", r#"Änne "Bo" X"#)];

        let escaped = r#"cut {"a":"\u00c4nne \"Bo\" X"#;
        assert_eq!(found(&values, escaped), [r#"\u00c4nne \"Bo\" X"#]);
    }

    #[test]
    fn the_case_of_a_secret_counts() {
        let values = [known("env:MY_TOKEN", "SomeToken1"), known("os:hostname", "anns-laptop")];

        assert!(found(&values, "sometoken1").is_empty());
        assert_eq!(found(&values, "SomeToken1 on Anns-Laptop").len(), 2);
    }

    #[test]
    fn where_another_rule_says_what_it_is_that_one_stays() {
        let values = [known("git:user.email", "ann.example@corp.example.org")];
        let set = shipped().with_known(&values);
        let text = b"mail ann.example@corp.example.org";

        let hits = set.scan_text(text, &destination(), &mut crate::rules::Scratch::default());

        let rules: Vec<_> = hits.iter().map(|hit| set.rules()[hit.rule].id.as_str()).collect();
        assert_eq!(rules, ["contact.email"]);
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
