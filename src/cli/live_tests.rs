use std::{fs, path::Path};

use crate::{
    config::{Env, Overrides},
    destination::Catalogue,
    inspect::{self, Inspector},
    model::FingerprintKey,
};

use super::*;

fn policy(action: &str) -> String {
    let observe = crate::policy::PROFILES[0].text;
    observe.replace("action = \"allow\"\nwhy", &format!("action = \"{action}\"\nwhy"))
}

/// A watch over `policy.toml` and `rules` in a folder.
fn watch_of(folder: &Path) -> Watch {
    fs::write(folder.join("policy.toml"), policy("allow")).unwrap();
    fs::create_dir(folder.join("rules")).unwrap();
    fs::write(folder.join("rules/mine.toml"), RULES).unwrap();
    let overrides = Overrides {
        data_dir: Some(folder.join("data")),
        policy: Some(folder.join("policy.toml")),
        rules_dir: Some(folder.join("rules")),
        ..Overrides::default()
    };
    let settings = Settings::load(&Env::default(), overrides).unwrap();
    let rules = engine::rules(&settings).unwrap();
    let policy = engine::policy(&settings, &rules).unwrap();
    let key = FingerprintKey::new(&[7; 32]);
    let options = inspect::Options::default();
    let inspector = Inspector::new(Catalogue::embedded(), Vec::new(), rules, policy, key, options);
    let in_force = Watched::read(&settings).unwrap();
    Watch {
        known: Arc::default(),
        settings,
        seen: Ok(in_force.clone()),
        in_force,
        inspection: Arc::new(LiveInspector::new(inspector)),
    }
}

const RULES: &str = "schema = 1\npack = \"mine\"\nversion = \"1\"\n[[rule]]\nid = \"mine.a\"\ntitle = \"A\"\n\
    entity = \"A\"\ncategory = \"pii.work\"\nkind = \"field\"\nwhere = [\"**/project_name\"]\n\
    redact = { method = \"null\" }\n";

#[test]
fn a_changed_policy_is_in_force_at_the_next_look_and_what_is_under_way_keeps_the_old() {
    let folder = tempfile::tempdir().unwrap();
    let mut watch = watch_of(folder.path());
    let under_way = watch.inspection.current();
    assert_eq!(watch.look(), None);

    fs::write(folder.path().join("policy.toml"), policy("redact")).unwrap();
    let notice = watch.look().unwrap();

    let now = watch.inspection.current();
    assert_ne!(now.policy().hash(), under_way.policy().hash());
    assert_eq!(
        notice,
        format!("the policy changed: `observe` is in force, policy {}", &now.policy().hash()[..12])
    );
    assert_eq!(watch.look(), None);
}

#[test]
fn a_broken_edit_is_said_once_and_the_old_policy_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut watch = watch_of(folder.path());
    let before = watch.inspection.current();
    let path = folder.path().join("policy.toml");
    for (text, expected) in [
        (policy("permit"), "`permit` is none of allow, block, redact; the one before stays in force"),
        (
            policy("allow") + "rule = [\"mine.b\"]\n",
            "no rule `mine.b`; did you mean `mine.a`?; the one before stays in force",
        ),
    ] {
        fs::write(&path, text).unwrap();
        let notice = watch.look().unwrap();

        assert!(notice.ends_with(expected), "{notice}");
        assert_eq!(watch.look(), None);
    }
    fs::remove_file(&path).unwrap();
    assert!(watch.look().unwrap().ends_with("what was read before stays in force"));
    assert_eq!(watch.inspection.current().policy().hash(), before.policy().hash());

    // Put back as it was: nothing has changed.
    fs::write(&path, policy("allow")).unwrap();
    assert_eq!(watch.look(), None);
}

#[test]
fn changed_rules_are_in_force_at_the_next_look() {
    let folder = tempfile::tempdir().unwrap();
    let mut watch = watch_of(folder.path());
    let before = watch.inspection.current();

    let renamed = RULES.replace("mine.a", "mine.b");
    fs::write(folder.path().join("rules/mine.toml"), renamed).unwrap();
    let notice = watch.look().unwrap();

    let now = watch.inspection.current();
    assert!(before.rules().rule("mine.a").is_some() && now.rules().rule("mine.a").is_none());
    assert!(now.rules().rule("mine.b").is_some());
    assert_eq!(now.policy().hash(), before.policy().hash());
    assert!(notice.starts_with("the rules changed: "), "{notice}");

    fs::write(folder.path().join("rules/mine.toml"), "schema = 9\n").unwrap();
    assert!(watch.look().unwrap().ends_with("the one before stays in force"));
    assert!(watch.inspection.current().rules().rule("mine.b").is_some());
}
