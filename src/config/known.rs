//! What this machine knows of its user, for the rules that look for exactly that. It stays in memory: no value goes into
//! a log line or an error.

use std::{fs, io::Read as _, path::Path};

use crate::{
    claude::{Environment, Platform, account_values},
    config::{Env, git},
    model::Secret,
    rules::KnownValue,
};

/// Gathers the values. `environment` is what the audited program will have, `folder` where it is started.
///
/// Nothing is required: what cannot be read is not known.
pub fn known_values(
    env: &Env,
    environment: &Environment,
    folder: &Path,
    platform: Platform,
) -> Vec<KnownValue> {
    let mut values = Gathered::default();
    let home = env.path(if platform == Platform::Windows { "USERPROFILE" } else { "HOME" });
    for variable in ["LOGNAME", "USER", "USERNAME"] {
        values.add("os:username", env.get(variable).and_then(|value| value.to_str()));
    }
    let parent =
        home.as_deref().and_then(Path::parent).and_then(Path::file_name).and_then(|name| name.to_str());
    if parent.is_some_and(|parent| ["home", "users"].iter().any(|usual| parent.eq_ignore_ascii_case(usual))) {
        let name = home.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
        values.add("os:username", name);
    }
    for name in host_names(env) {
        let short = name.split('.').next().map(str::to_owned);
        values.add("os:hostname", Some(&name));
        values.add("os:hostname", short.as_deref());
    }
    for (key, value) in git::identities(env, home.as_deref(), folder) {
        values.add(&format!("git:{key}"), Some(&value));
    }
    let client_folder = env.path("CLAUDE_CONFIG_DIR").or_else(|| home.clone());
    if let Some(text) = client_folder.and_then(|folder| read(&folder.join(".claude.json"), STATE_BYTES)) {
        for (name, value) in account_values(&text) {
            values.add(&format!("claude:{name}"), Some(value.expose()));
        }
    }
    for (name, value) in environment {
        if let (Some(name), Some(value)) = (name.to_str(), value.to_str())
            && !OURS.contains(&name)
        {
            // Which variables count is for the rules to say; this only keeps paths and words from being copied.
            let upper = name.to_ascii_uppercase();
            if SECRET_NAMES.iter().any(|part| upper.contains(part)) {
                values.add(&format!("env:{upper}"), Some(value));
            }
        }
    }
    values.0
}

#[derive(Default)]
struct Gathered(Vec<KnownValue>);

impl Gathered {
    fn add(&mut self, source: &str, value: Option<&str>) {
        let Some(value) = value.map(str::trim).filter(|value| !value.is_empty() && value.len() <= LONGEST)
        else {
            return;
        };
        let is_there = |known: &KnownValue| known.source == source && known.value.expose() == value;
        if !self.0.iter().any(is_there) {
            self.0.push(KnownValue { source: source.to_owned(), value: Secret::new(value.to_owned()) });
        }
    }
}

fn host_names(env: &Env) -> Vec<String> {
    let mut names: Vec<String> = ["COMPUTERNAME", "HOSTNAME"]
        .into_iter()
        .filter_map(|variable| env.get(variable)?.to_str().map(str::to_owned))
        .collect();
    #[cfg(unix)]
    names.push(rustix::system::uname().nodename().to_string_lossy().into_owned());
    names
}

/// The text of a file of usual size, if it can be read.
pub(super) fn read_small(path: &Path) -> Option<String> {
    read(path, SMALL_BYTES)
}

fn read(path: &Path, limit: u64) -> Option<String> {
    // A pipe or a device would never end, or wait for ever.
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    let read = fs::File::open(path).ok()?.take(limit + 1).read_to_string(&mut text).ok()?;
    (read as u64 <= limit).then_some(text)
}

/// Parts of the names of variables that hold secrets. Rules choose among them.
const SECRET_NAMES: &[&str] = &["AUTH", "CREDENTIAL", "KEY", "PASS", "PAT", "SECRET", "TOKEN"];

/// Variables whose names look like those of secrets and that hold none.
const OURS: &[&str] = &["PATH", "SSH_AUTH_SOCK", "XAUTHORITY"];

/// Longest value that is looked for; a private key has some kilobytes, and rules of its own.
const LONGEST: usize = 4096;

/// git's files have some kilobytes.
const SMALL_BYTES: u64 = 1024 * 1024;

/// The client's state file holds the history of prompts, images included.
const STATE_BYTES: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(variables: &[(&str, &str)]) -> Vec<KnownValue> {
        let env: Env = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        known_values(&env, env.variables(), Path::new("/nowhere"), Platform::Linux)
    }

    fn of(values: &[KnownValue], source: &str) -> Vec<String> {
        let of = values.iter().filter(|known| known.source == source);
        of.map(|known| known.value.expose().clone()).collect()
    }

    #[test]
    fn the_user_s_name_comes_from_variables_and_home() {
        let values = gathered(&[("HOME", "/home/annex"), ("USER", "annex"), ("LOGNAME", "ann")]);

        assert_eq!(of(&values, "os:username"), ["ann", "annex"]);
    }

    #[test]
    fn a_home_elsewhere_names_nobody() {
        assert!(of(&gathered(&[("HOME", "/srv/work")]), "os:username").is_empty());
    }

    #[test]
    fn a_host_is_known_with_and_without_its_domain() {
        let names = of(&gathered(&[("HOSTNAME", "anns-laptop.corp.example")]), "os:hostname");

        assert_eq!(names[..2], ["anns-laptop.corp.example", "anns-laptop"]);
    }

    #[test]
    fn secrets_of_the_environment_are_known_by_the_variable() {
        let values =
            gathered(&[("SOME_API_KEY", "k1"), ("my_token", "t1"), ("EDITOR", "vi"), ("PATH", "/bin")]);

        assert_eq!(of(&values, "env:SOME_API_KEY"), ["k1"]);
        assert_eq!(of(&values, "env:MY_TOKEN"), ["t1"]);
        assert!(
            values.iter().all(|known| !known.source.contains("PATH") && !known.source.contains("EDITOR"))
        );
    }

    #[test]
    fn the_client_s_account_is_read_where_the_client_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = r#"{"oauthAccount":{"emailAddress":"ann@corp.example"}}"#;
        fs::write(folder.path().join(".claude.json"), state).unwrap();

        let values =
            gathered(&[("HOME", "/nowhere"), ("CLAUDE_CONFIG_DIR", folder.path().to_str().unwrap())]);

        assert_eq!(of(&values, "claude:email"), ["ann@corp.example"]);
    }

    #[test]
    fn no_value_is_printed() {
        let values = gathered(&[("SOME_API_KEY", "canary-value"), ("USER", "canary-user")]);

        assert!(!values.is_empty());
        assert!(!format!("{values:?}").contains("canary"));
    }
}
