//! Floods are measured in bytes that regexes looked at, not in time.

use super::{scanning::set_of, *};

/// Enough for many regions of the widest rule; the work per byte is the same for a mebibyte.
const LENGTH: usize = 128 << 10;

/// Bytes confirmed per byte of input, for all shipped rules together.
fn work(set: &RuleSet, text: &[u8]) -> f64 {
    let mut scratch = Scratch::default();
    set.scan_text(text, &destination(), &mut scratch);
    scratch.confirmed_bytes() as f64 / text.len() as f64
}

fn repeat(unit: &str) -> Vec<u8> {
    unit.bytes().cycle().take(LENGTH).collect()
}

/// PITFALLS 34: floods cost a constant number of looks at each byte.
#[test]
fn floods_of_anchors_are_looked_at_a_constant_number_of_times() {
    let set = shipped();
    for unit in [
        "@",
        "1",
        "+",
        ":",
        ".",
        "eyJ",
        "a@",
        "a@b",
        "a@b.",
        "eyJaaaaaaaa.",
        "+1 ",
        "1.",
        "1:",
        "12 ",
        "1234 ",
        "AB12",
        "AB12 ",
        "DE12 ",
        "DE12",
        "sk-ant-",
        "sk-ant-api03-",
        "AKIA",
        "/home/",
        "://",
        "://a:",
        "-----BEGIN PRIVATE KEY-----",
        "ghp_",
        "secret_access_key=",
    ] {
        let work = work(&set, &repeat(unit));

        assert!(work <= 4.0, "{unit:?}: {work} looks at each byte");
    }
}

#[test]
fn one_anchor_beside_a_long_word_is_looked_at_in_its_window_only() {
    let set = shipped();
    let text = [b"aaaa@".to_vec(), repeat("a")].concat();
    assert!(work(&set, &text) < 0.02);
    let text = [repeat("a"), b"@example.com".to_vec()].concat();
    assert!(work(&set, &text) < 0.02);
}

#[test]
fn work_grows_with_the_input_and_not_faster() {
    let set = shipped();
    let work = |unit: &str, length: usize| {
        let text: Vec<u8> = unit.bytes().cycle().take(length).collect();
        let mut scratch = Scratch::default();
        set.scan_text(&text, &destination(), &mut scratch);
        scratch.confirmed_bytes() as f64
    };
    for unit in ["a@b.", "eyJ", "sk-ant-api03-", "1234 "] {
        let (small, large) = (work(unit, LENGTH / 8), work(unit, LENGTH));

        assert!(large <= small * 11.0 + 4096.0, "{unit:?}: {small} bytes, then {large}");
    }
}

/// The positive control: the counter does see what a window costs.
#[test]
fn the_counter_counts() {
    let set = set_of(&super::scanning::value_rule(
        "test.a",
        "anchors = [\"abc\"]\nregex = '(?P<hit>abc(?:[0-9][a-z]|[a-z][0-9]))'\nmax_len = 64",
    ));
    let mut scratch = Scratch::default();

    set.scan_text(&[b"abc12".as_slice(), &[b'-'; 200]].concat(), &destination(), &mut scratch);

    assert_eq!(scratch.confirmed_bytes(), 64);
}

#[test]
fn a_value_after_a_flood_is_still_found() {
    let set = shipped();
    for unit in ["@", "a@", "eyJ", "eyJaaaaaaaa.", "a@b.", "1234 ", "+1 "] {
        let text = [repeat(unit), b" mail zoe@example.org now".to_vec()].concat();
        let hits = set.scan_text(&text, &destination(), &mut Scratch::default());
        let last = hits.last().map(|hit| String::from_utf8_lossy(&text[hit.range.clone()]).into_owned());

        assert_eq!(last.as_deref(), Some("zoe@example.org"), "after {unit:?}");
    }
}
