use std::{fs, path::Path};

use tempfile::TempDir;

use super::*;
use crate::config::file::KEYS;

fn env(variables: &[(&str, &str)]) -> Env {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn with_file(text: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, text).unwrap();
    (folder, path)
}

fn strings<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

#[test]
fn without_any_word_the_defaults_hold() {
    let home = TempDir::new().unwrap();
    let home = home.path().to_str().unwrap();

    let settings = Settings::load(&env(&[("HOME", home), ("USERPROFILE", home)]), Overrides::default());

    let settings = settings.unwrap();
    assert_eq!(settings.capture, Capture::Masked);
    assert_eq!(settings.audit_sync, AuditSync::Normal);
    assert_eq!(settings.body_limit, ByteSize::mebibytes(8));
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8788");
    assert!(
        settings.connect_to.is_empty() && settings.intercept.is_empty() && settings.config_file.is_none()
    );
    assert!(settings.data_dir.starts_with(home));
}

#[test]
fn the_file_is_overruled_by_the_environment_and_that_by_flags() {
    let (_folder, path) = with_file(
        "data_dir = '/file'\nrules_dir = '/file'\npolicy = '/file'\ncapture = 'none'\nbody_limit = '1 KiB'\n\
         audit_sync = 'full'\nlisten = '127.0.0.1:1'\n",
    );
    let variables = [
        ("PLAINSIGHT_CONFIG", path.to_str().unwrap()),
        ("PLAINSIGHT_RULES", "/env"),
        ("PLAINSIGHT_POLICY", "/env"),
        ("PLAINSIGHT_BODY_LIMIT", "2KiB"),
        ("PLAINSIGHT_LISTEN", "127.0.0.1:2"),
    ];
    let flags = Overrides {
        policy: Some("/flag".into()),
        listen: Some("127.0.0.1:3".parse().unwrap()),
        ..Overrides::default()
    };

    let settings = Settings::load(&env(&variables), flags).unwrap();

    assert_eq!(settings.data_dir, Path::new("/file"));
    assert_eq!(settings.rules_dir.as_deref(), Some(Path::new("/env")));
    assert_eq!(settings.policy.as_deref(), Some(Path::new("/flag")));
    assert_eq!(settings.capture, Capture::None);
    assert_eq!(settings.audit_sync, AuditSync::Full);
    assert_eq!(settings.body_limit, ByteSize::kibibytes(2));
    assert_eq!(settings.listen.port(), 3);
    assert_eq!(settings.config_file.as_deref(), Some(path.as_path()));
}

#[test]
fn lists_add_up_with_flags_first() {
    let (_folder, path) = with_file("intercept = ['file.example']\nconnect_to = ['::127.0.0.1:1']\n");
    let variables = [
        ("PLAINSIGHT_DATA_DIR", "/d"),
        ("PLAINSIGHT_INTERCEPT", "env.example, *.env.example:4318"),
        ("PLAINSIGHT_CONNECT_TO", "::127.0.0.1:2"),
    ];
    let flags = Overrides {
        config: Some(path),
        intercept: vec!["flag.example".parse().unwrap()],
        connect_to: vec!["::127.0.0.1:3".parse().unwrap()],
        ..Overrides::default()
    };

    let settings = Settings::load(&env(&variables), flags).unwrap();

    assert_eq!(
        strings(&settings.intercept),
        ["flag.example", "env.example", "*.env.example:4318", "file.example"]
    );
    assert_eq!(strings(&settings.connect_to), ["::127.0.0.1:3", "::127.0.0.1:2", "::127.0.0.1:1"]);
}

#[test]
fn relative_paths_in_the_file_count_from_its_folder() {
    let (folder, path) = with_file("data_dir = 'data'\nupstream_ca = 'corp.pem'\n");
    let flags = Overrides { config: Some(path), policy: Some("mine.toml".into()), ..Overrides::default() };

    let settings = Settings::load(&env(&[]), flags).unwrap();

    assert_eq!(settings.data_dir, folder.path().join("data"));
    assert_eq!(settings.upstream_ca, Some(folder.path().join("corp.pem")));
    assert_eq!(settings.policy.as_deref(), Some(Path::new("mine.toml")));
}

#[test]
fn the_name_of_a_profile_in_the_file_is_no_path() {
    let (folder, path) = with_file("data_dir = 'data'\npolicy = 'private'\n");
    let (other, file) = with_file("data_dir = 'data'\npolicy = 'mine.toml'\n");
    let load = |path| Settings::load(&env(&[]), Overrides { config: Some(path), ..Overrides::default() });

    assert_eq!(load(path).unwrap().policy.as_deref(), Some(Path::new("private")));
    assert_eq!(load(file).unwrap().policy, Some(other.path().join("mine.toml")));
    drop(folder);
}

#[test]
fn a_file_that_was_asked_for_must_exist() {
    let variables = [("PLAINSIGHT_CONFIG", "/nowhere/config.toml"), ("PLAINSIGHT_DATA_DIR", "/d")];

    let error = Settings::load(&env(&variables), Overrides::default()).unwrap_err();

    assert!(error.to_string().starts_with("/nowhere/config.toml: "), "{error}");
}

#[test]
fn a_wrong_variable_is_named() {
    for (name, wrong) in [
        ("PLAINSIGHT_CAPTURE", "some"),
        ("PLAINSIGHT_BODY_LIMIT", "8 MB"),
        ("PLAINSIGHT_LISTEN", "8788"),
        ("PLAINSIGHT_INTERCEPT", "a..b"),
        ("PLAINSIGHT_CONNECT_TO", "a:1"),
        ("PLAINSIGHT_AUDIT_SYNC", "off"),
    ] {
        let error =
            Settings::load(&env(&[("PLAINSIGHT_DATA_DIR", "/d"), (name, wrong)]), Overrides::default());

        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(&format!("{name}: ")), "{error}");
    }
}

#[test]
fn without_a_home_a_data_folder_must_be_named() {
    assert!(matches!(Settings::load(&env(&[]), Overrides::default()), Err(ConfigError::NoDataDir)));
    assert!(Settings::load(&env(&[("PLAINSIGHT_DATA_DIR", "/d")]), Overrides::default()).is_ok());
}

#[test]
fn a_mistyped_variable_is_mentioned() {
    let variables = [("PLAINSIGHT_DATA_DIR", "/d"), ("PLAINSIGHT_CAPTUR", "none"), ("PLAINSIGHT_X", "1")];

    let settings = Settings::load(&env(&variables), Overrides::default()).unwrap();

    assert_eq!(
        settings.warnings,
        ["PLAINSIGHT_CAPTUR means nothing; did you mean PLAINSIGHT_CAPTURE?", "PLAINSIGHT_X means nothing"]
    );
}

#[test]
fn the_documentation_names_every_key_and_variable_and_its_example_loads() {
    let text = include_str!("../../../docs/CONFIG.md");
    let example = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let (_folder, path) = with_file(example);
    let flags = Overrides { config: Some(path), ..Overrides::default() };

    let settings = Settings::load(&env(&[]), flags).unwrap();

    assert_eq!(settings.connect_to.len(), 1);
    for key in KEYS {
        let is_set = |line: &str| line.split('=').next().is_some_and(|name| name.trim() == key);
        assert!(example.lines().any(is_set), "{key}");
        assert!(text.contains(&format!("| `{key}` |")), "{key}");
    }
    for variable in VARIABLES {
        assert!(text.contains(variable), "{variable}");
    }
}
