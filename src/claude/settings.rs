use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::claude::{ClaudeError, Environment};

/// The operating system, as far as it decides where files lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Linux and other Unix.
    Linux,
    /// macOS.
    MacOs,
    /// Windows.
    Windows,
}

impl Platform {
    /// The one that this program was built for.
    pub const fn current() -> Self {
        if cfg!(target_os = "macos") {
            Self::MacOs
        } else if cfg!(windows) {
            Self::Windows
        } else {
            Self::Linux
        }
    }
}

/// Where the client looks for its settings.
#[derive(Clone, Copy, Debug)]
pub struct SettingsPlaces<'a> {
    /// Decides where managed settings lie.
    pub platform: Platform,
    /// The client's folder: `CLAUDE_CONFIG_DIR`, or `.claude` in the user's home.
    pub client_folder: &'a Path,
    /// Where the client is started.
    pub project: &'a Path,
}

impl SettingsPlaces<'_> {
    /// The files, highest precedence first. The command line (`--settings`) stands between the first and the
    /// second, and is not looked at here.
    pub fn files(&self) -> [PathBuf; 4] {
        let managed = match self.platform {
            Platform::Linux => "/etc/claude-code/managed-settings.json",
            Platform::MacOs => "/Library/Application Support/ClaudeCode/managed-settings.json",
            Platform::Windows => r"C:\ProgramData\ClaudeCode\managed-settings.json",
        };
        let in_project = self.project.join(".claude");
        [
            managed.into(),
            in_project.join("settings.local.json"),
            in_project.join("settings.json"),
            self.client_folder.join("settings.json"),
        ]
    }
}

/// What one settings file says, as far as it is our business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// The file.
    pub path: PathBuf,
    /// Its `env` object.
    pub environment: Environment,
}

impl ClientSettings {
    /// Reads a settings file's text. Only `env` is looked at; a file without one is fine.
    ///
    /// # Errors
    /// [`ClaudeError::Settings`] for what is no JSON object, or an `env` that is none.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ClaudeError> {
        let error = |why: &str| ClaudeError::Settings { path: path.to_owned(), why: why.to_owned() };
        let settings: Map<String, Value> =
            serde_json::from_str(text).map_err(|problem| error(&format!("no JSON object: {problem}")))?;
        let environment = match settings.get("env") {
            None | Some(Value::Null) => Environment::new(),
            Some(Value::Object(variables)) => variables
                .iter()
                .filter_map(|(name, value)| Some((OsString::from(name), variable_text(value)?.into())))
                .collect(),
            Some(_) => return Err(error("`env` is no object")),
        };
        Ok(Self { path: path.to_owned(), environment })
    }

    /// Reads all of `places` that exist, highest precedence first.
    ///
    /// # Errors
    /// As [`Self::parse`]; [`ClaudeError::Io`] when a file is there and cannot be read.
    pub fn read_all(
        places: &SettingsPlaces<'_>,
        read: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Vec<Self>, ClaudeError> {
        let mut layers = Vec::new();
        for path in places.files() {
            match read(&path) {
                Ok(text) => layers.push(Self::parse(&path, &text)?),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(source) => return Err(ClaudeError::Io { path, source }),
            }
        }
        Ok(layers)
    }

    /// The environment that the client will have: `process`, overlaid by settings, of which the first wins.
    pub fn overlay(layers: &[Self], process: &Environment) -> Environment {
        let mut environment = process.clone();
        for layer in layers.iter().rev() {
            environment.extend(layer.environment.clone());
        }
        environment
    }
}

/// Numbers and booleans count as their text.
fn variable_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(_) | Value::Null | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ClientSettings, ClaudeError> {
        ClientSettings::parse(Path::new("settings.json"), text)
    }

    #[test]
    fn the_env_object_is_read_and_the_rest_left_alone() {
        let settings =
            parse(r#"{"permissions":{"allow":["x"]},"env":{"A":"1","B":2,"C":true,"D":null,"E":["no"]}}"#)
                .unwrap();

        let variables: Vec<_> =
            settings.environment.iter().map(|(name, value)| (name.to_str(), value.to_str())).collect();
        assert_eq!(variables, [(Some("A"), Some("1")), (Some("B"), Some("2")), (Some("C"), Some("true"))]);
        assert!(parse("{}").unwrap().environment.is_empty());
    }

    #[test]
    fn what_is_no_settings_file_is_refused() {
        for text in ["", "[]", "{", r#"{"env":[]}"#] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn managed_settings_win_over_local_over_project_over_user_over_process() {
        let places = SettingsPlaces {
            platform: Platform::Linux,
            client_folder: Path::new("/home/jo/.claude"),
            project: Path::new("/srv/app"),
        };
        let read = |path: &Path| match path.to_str() {
            Some("/etc/claude-code/managed-settings.json") => Ok(r#"{"env":{"A":"managed"}}"#.to_owned()),
            Some("/srv/app/.claude/settings.local.json") => {
                Ok(r#"{"env":{"A":"local","B":"local"}}"#.to_owned())
            }
            Some("/srv/app/.claude/settings.json") => {
                Ok(r#"{"env":{"B":"project","C":"project"}}"#.to_owned())
            }
            Some("/home/jo/.claude/settings.json") => Ok(r#"{"env":{"C":"user","D":"user"}}"#.to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let names = ["A", "B", "C", "D", "E"];
        let process = names.iter().map(|name| (OsString::from(name), "process".into())).collect();

        let layers = ClientSettings::read_all(&places, read).unwrap();
        let environment = ClientSettings::overlay(&layers, &process);

        let values: Vec<_> = environment.values().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(values, ["managed", "local", "project", "user", "process"]);
    }

    #[test]
    fn files_that_do_not_exist_are_no_error_and_unreadable_ones_are() {
        let places = SettingsPlaces {
            platform: Platform::MacOs,
            client_folder: Path::new("/h"),
            project: Path::new("/w"),
        };

        let none = ClientSettings::read_all(&places, |_| Err(io::ErrorKind::NotFound.into()));
        let denied = ClientSettings::read_all(&places, |_| Err(io::ErrorKind::PermissionDenied.into()));

        assert!(none.unwrap().is_empty());
        assert!(matches!(denied, Err(ClaudeError::Io { .. })));
    }
}
