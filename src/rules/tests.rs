use super::*;

#[test]
fn every_shipped_sample_is_proven() {
    let set = RuleSet::from_sources(&embedded()).unwrap_or_else(|error| panic!("{error}"));

    let failures: Vec<String> = set.prove().iter().map(ToString::to_string).collect();

    assert!(failures.is_empty(), "{failures:#?}");
}
