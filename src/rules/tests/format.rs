use crate::model::TomlError;

use super::*;

const HEAD: &str = "schema = 1\npack = \"test\"\nversion = \"1\"\n";
const RULE: &str = r#"[[rule]]
id = "test.a"
title = "A"
entity = "A"
category = "c"
anchors = ["abc"]
regex = '(?P<hit>abc[0-9]+)'
redact = { method = "replace", template = "x" }
"#;

fn load(text: &str) -> Result<RuleSet, RuleError> {
    RuleSet::from_sources(&[Source { name: "a.toml".to_owned(), text: text.to_owned() }])
}

/// The message that a file gives with one thing changed.
fn complaint(from: &str, to: &str) -> String {
    let good = format!("{HEAD}{RULE}");
    assert!(good.contains(from), "{from}");
    load(&good).unwrap();
    load(&good.replace(from, to)).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn complaints_say_where_what_and_what_was_meant() {
    for (from, to, expected) in [
        ("anchors =", "anchor =", "a.toml:9: unknown key `anchor` in rule `test.a`; did you mean `anchors`?"),
        ("title = \"A\"", "title = 7", "a.toml:6: `title`: expected a text, found integer"),
        ("title = \"A\"\n", "", "a.toml:4: rule `test.a` has no `title`"),
        (
            "\"replace\"",
            "\"replce\"",
            "a.toml:11: unknown redaction method `replce`; did you mean `replace`?",
        ),
        (
            "template = \"x\"",
            "template = \"<x>\"",
            "a.toml:11: `template`: replacement text is made of letters, digits, `.`, `_` and `-` only",
        ),
        (
            "template = \"x\"",
            "template = \"{size}\"",
            "a.toml:11: `template`: unknown placeholder `{size}`; there are {len}, {prefix}, {h4} to {h16}",
        ),
        (
            "template = \"x\"",
            "template = \"{h8}-0\"",
            "a.toml:11: `template`: a value may look like this; put a word in it, such as `REDACTED`, by which it is told from one",
        ),
        ("schema = 1", "schema = 2", "a.toml:1: `schema`: this version reads schema 1, not 2"),
        (
            "(?P<hit>abc[0-9]+)",
            "abc[0-9]+",
            "a.toml:10: rule `test.a`: the regex has no group `(?P<hit>…)`, which says what the value is",
        ),
        (
            "(?P<hit>abc[0-9]+)",
            "(?P<hit>(?:abc)?)",
            "a.toml:10: rule `test.a`: the regex matches the empty text",
        ),
        (
            "(?P<hit>abc[0-9]+)",
            "(?P<hit>abc[0-9+)",
            "a.toml:10: rule `test.a`: the regex cannot be read: unclosed character class",
        ),
        (
            "[\"abc\"]",
            "[\"abd\"]",
            "a.toml:9: rule `test.a`: no match of its regex spells out the anchor `abd`",
        ),
        (
            "abc[0-9]+",
            "abc[0-9]+|[a-z]{9}",
            "a.toml:9: rule `test.a`: its regex matches without any of its anchors",
        ),
        (
            "entity = \"A\"\n",
            "entity = \"A\"\nseverity = \"hihg\"\n",
            "a.toml:8: unknown severity `hihg`; did you mean `high`?",
        ),
        (
            "entity = \"A\"\n",
            "entity = \"A\"\ncheck = [\"lun\"]\n",
            "a.toml:8: unknown check `lun`; did you mean `luhn`?",
        ),
        (
            "anchors = [\"abc\"]",
            "scan = \"digit-runs\"",
            "a.toml:9: unknown finder `digit-runs`; did you mean `digit-run`?",
        ),
        (
            "entity = \"A\"\n",
            "entity = \"A\"\nwhere = [\"a//b\"]\n",
            "a.toml:8: `where`: `a//b` is no path pattern: a segment is empty",
        ),
        (
            "entity = \"A\"\n",
            "entity = \"A\"\nsources = [\"os:username\"]\n",
            "a.toml:8: `sources`: it belongs to rules of kind `known`, this one is `value`",
        ),
        (
            "entity = \"A\"\n",
            "entity = \"A\"\nkind = \"vaule\"\n",
            "a.toml:8: unknown kind `vaule`; did you mean `value`?",
        ),
        (
            "entity = \"A\"\n",
            "entity = \"A\"\ntest = [{ hit = \"{{b63:4}}\" }]\n",
            "a.toml:8: `hit`: unknown generator `{{b63:4}}`",
        ),
        (
            "entity = \"A\"\n",
            "entity = \"A\"\nallow = { cidr = [\"10.0.0.0/33\"] }\n",
            "a.toml:8: `cidr`: `10.0.0.0/33` is no network",
        ),
        (
            "entity = \"A\"\n",
            "entity = \"A\"\nallow = { exact = [\"x\"], expires = \"soon\" }\n",
            "a.toml:8: `expires`: expected a day as `YYYY-MM-DD`",
        ),
    ] {
        assert_eq!(complaint(from, to), expected);
    }
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    let error = load(&format!("{HEAD}[[rule]\n")).unwrap_err();

    assert_eq!(error.place().line, 4);
    assert!(matches!(error, RuleError::Written(TomlError::Syntax { .. })));
}

#[test]
fn a_pack_of_the_same_name_replaces_the_embedded_one() {
    let mut sources = embedded();
    let shipped = RuleSet::from_sources(&sources).unwrap();
    sources.push(Source {
        name: "mine.toml".to_owned(),
        text: format!("{HEAD}{RULE}").replace("\"test\"", "\"core\""),
    });

    let mine = RuleSet::from_sources(&sources).unwrap();

    assert!(mine.rule("test.a").is_some() && mine.rule("contact.email").is_none());
    assert!(mine.rule("identity.device-id").is_some());
    assert_ne!(mine.hash(), shipped.hash());
}

#[test]
fn a_rule_id_in_two_packs_is_refused() {
    let mut sources = embedded();
    let text = format!("{HEAD}{RULE}").replace("test.a", "contact.email");
    sources.push(Source { name: "mine.toml".to_owned(), text });

    let error = RuleSet::from_sources(&sources).unwrap_err().to_string();

    assert!(
        error.starts_with("mine.toml:4: rule `contact.email` is already defined at core.toml:"),
        "{error}"
    );
}

#[test]
fn a_rule_id_twice_in_one_pack_is_refused() {
    let error = load(&format!("{HEAD}{RULE}{RULE}")).unwrap_err().to_string();

    assert_eq!(error, "a.toml:12: rule `test.a` is already defined at a.toml:4");
}
