use super::*;
use crate::model::DocumentBuilder;

fn redactor() -> Redactor {
    Redactor::new(&FingerprintKey::new(&[3; 32]))
}

fn whom() -> Whom<'static> {
    Whom { destination: "statsig", run: RunId::new(1).unwrap() }
}

fn template(text: &str) -> Template {
    Template::parse(text).unwrap()
}

/// What stands there afterwards.
fn made(redaction: &Redaction, value: &str) -> String {
    match redactor().replacement(redaction, value.as_bytes(), whom()) {
        None => value.to_owned(),
        Some(Replacement::Text(text)) => text.into(),
        Some(other) => format!("{other:?}"),
    }
}

fn all() -> Vec<Redaction> {
    let pseudonym = |scope, text| Redaction::Pseudonym { scope, template: template(text) };
    vec![
        Redaction::IpPrefix { v4: 16, v6: 48 },
        Redaction::Leaves { each: template("REDACTED.tool.{len}c") },
        Redaction::Mask { keep_first: 2, keep_last: 4 },
        Redaction::Mask { keep_first: 0, keep_last: 0 },
        Redaction::MaskSameLength { keep_first: 1, keep_last: 2 },
        Redaction::Partial { keep_prefix: 4, template: template("{prefix}REDACTED") },
        pseudonym(PseudonymScope::Install, "anon-{h10}"),
        pseudonym(PseudonymScope::Destination, "user-{h6}"),
        pseudonym(PseudonymScope::Run, "{h8}-{h4}"),
        Redaction::Replace { template: template("REDACTED") },
        Redaction::Summary { template: template("{len}") },
        Redaction::Summary { template: template("REDACTED.prompt.{len}c") },
        Redaction::Truncate { keep: 3 },
    ]
}

#[test]
fn each_method_makes_what_it_says() {
    let expected = [
        (Redaction::IpPrefix { v4: 16, v6: 48 }, "172.16.254.3", "172.16.0.0"),
        (Redaction::IpPrefix { v4: 16, v6: 48 }, "2001:db8:85a3::8a2e:370:7334", "2001:db8:85a3::"),
        (Redaction::IpPrefix { v4: 0, v6: 0 }, "10.1.2.3", "0.0.0.0"),
        (Redaction::IpPrefix { v4: 16, v6: 48 }, "no address", "REDACTED"),
        (Redaction::Mask { keep_first: 0, keep_last: 4 }, "4012 8888 8888 1881", "xxxx1881"),
        (Redaction::Mask { keep_first: 4, keep_last: 0 }, "DE89 3704 0044", "DE89xxxx"),
        (Redaction::Mask { keep_first: 2, keep_last: 2 }, "secret", "xxxx"),
        (Redaction::MaskSameLength { keep_first: 1, keep_last: 1 }, "größer", "gxxxxr"),
        (
            Redaction::Partial { keep_prefix: 4, template: template("{prefix}REDACTED") },
            "ghp_abcdefgh",
            "ghp_REDACTED",
        ),
        (Redaction::Partial { keep_prefix: 4, template: template("{prefix}REDACTED") }, "abcde", "REDACTED"),
        (Redaction::Summary { template: template("REDACTED.prompt.{len}c") }, "größe", "REDACTED.prompt.5c"),
        (Redaction::Truncate { keep: 3 }, "größe", "grö..."),
        (Redaction::Truncate { keep: 3 }, "grö", "grö"),
    ];
    for (redaction, value, result) in expected {
        assert_eq!(made(&redaction, value), result, "{redaction:?}");
    }
    assert_eq!(made(&Redaction::Null, "x"), "Null");
    assert_eq!(made(&Redaction::Remove, "x"), "Remove");
}

#[test]
fn pseudonyms_join_within_their_scope_alone() {
    let of = |scope, destination, run| {
        let redaction = Redaction::Pseudonym { scope, template: template("anon-{h10}") };
        let whom = Whom { destination, run: RunId::new(run).unwrap() };
        redactor().replacement(&redaction, b"bob@example.com", whom).unwrap()
    };
    use PseudonymScope::{Destination, Install, Run};

    assert_eq!(of(Install, "a", 1), of(Install, "b", 2));
    assert_eq!(of(Destination, "a", 1), of(Destination, "a", 2));
    assert_ne!(of(Destination, "a", 1), of(Destination, "b", 1));
    assert_eq!(of(Run, "a", 1), of(Run, "b", 1));
    assert_ne!(of(Run, "a", 1), of(Run, "a", 2));
}

#[test]
fn a_pseudonym_cannot_be_looked_up_by_a_fingerprint() {
    let key = FingerprintKey::new(&[3; 32]);
    let redaction = Redaction::Pseudonym { scope: PseudonymScope::Install, template: template("anon-{h16}") };

    assert_ne!(made(&redaction, "bob"), format!("anon-{}", key.fingerprint(b"bob")));
}

// PITFALLS 4
#[test]
fn no_pseudonym_passes_for_an_id() {
    for text in ["{h8}-{h4}-{h4}-{h4}-{h12}", "{h16}", "0x{h8}", "abc-{h6}"] {
        let redaction = Redaction::Pseudonym { scope: PseudonymScope::Install, template: template(text) };

        let made = made(&redaction, "0f8fad5b-d9cb-469f-a165-70867728950e");

        assert!(made.starts_with("anon-") || made.contains('x'), "{made}");
        assert_ne!(made.len(), 36);
    }
}

proptest::proptest! {
    #[test]
    fn redacting_again_changes_nothing(value in "\\PC{1,40}|[0-9.]{1,15}|[0-9a-f:]{2,30}|x{0,9}[a-z]{0,9}") {
        for redaction in all() {
            let once = made(&redaction, &value);

            proptest::prop_assert_eq!(made(&redaction, &once), once, "{:?}", redaction);
        }
    }

    #[test]
    fn stand_ins_are_made_of_safe_characters_and_of_the_value(value in "\\PC{1,40}") {
        for redaction in all() {
            for char in made(&redaction, &value).chars() {
                let is_safe = char.is_ascii_alphanumeric() || "._-".contains(char) || value.contains(char);
                proptest::prop_assert!(is_safe, "{:?} in {:?}", char, redaction);
            }
        }
    }
}

#[test]
fn bytes_that_are_no_text_do_no_harm() {
    for redaction in all() {
        assert!(redactor().replacement(&redaction, b"\xff\xfe\x00", whom()).is_some(), "{redaction:?}");
    }
}

#[test]
fn a_place_that_is_no_container_is_redacted_as_a_whole() {
    let document = DocumentBuilder::new("text", bytes::Bytes::from_static(b"rm -rf x")).finish();
    let place = Place { text: TextId::BODY, range: 0..8, node: NodeId::ROOT };
    let redaction = Redaction::Leaves { each: template("R.{len}") };

    let edits = redactor().edits(&Tree::new(&document), &place, &redaction, Kept::default(), whom());

    assert_eq!(edits.len(), 1);
    assert_eq!(edits[0].with, Replacement::Text("R.8".into()));
}
