use super::*;

const PAGE: &str = include_str!("../../../docs/RULES.md");

#[test]
fn the_worked_example_of_the_page_loads_and_its_samples_hold() {
    let text = PAGE.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let set = RuleSet::from_sources(&[Source { name: "acme.toml".to_owned(), text: text.to_owned() }])
        .unwrap_or_else(|error| panic!("{error}"));

    assert_eq!(set.rules().len(), 2);
    assert_eq!(set.prove(), []);
}

#[test]
fn the_page_names_every_key_check_and_finder() {
    let named = |name: &str| PAGE.contains(&format!("`{name}`"));
    let keys = [read::FILE_KEYS, read::DEFAULT_KEYS, read::RULE_KEYS].concat();

    for name in keys.iter().filter(|key| !["defaults", "rule"].contains(key)).chain(Finder::NAMES) {
        assert!(named(name), "{name} is not on the page");
    }
    for name in validators::Check::NAMES {
        assert!(PAGE.contains(name.split('>').next().unwrap()), "{name} is not on the page");
    }
}
