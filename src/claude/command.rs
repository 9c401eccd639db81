use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::claude::{ClaudeError, ClientSettings};

/// A command line that starts the client: where its options begin, and what `--settings` says.
///
/// What `--settings` says wins over every settings file but the managed one, and so over the `env` of those files. It is
/// the only means by which a variable that a settings file sets can be set otherwise for one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCommand {
    options: usize,
    settings: Option<Place>,
}

/// Where `--settings` stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    at: usize,
    /// How many arguments it takes: two, or one as `--settings=…`.
    count: usize,
    value: String,
}

impl ClientCommand {
    /// Knows the client by the name of its program, or of the script that Node runs. `None` for any other program, a
    /// shell that starts the client included.
    pub fn find(program: &OsStr, arguments: &[OsString]) -> Option<Self> {
        let options = match name(program)?.as_str() {
            "claude" => 0,
            "node" | "bun" | "deno" => {
                let script =
                    arguments.iter().position(|argument| !argument.as_encoded_bytes().starts_with(b"-"))?;
                if !is_client_script(Path::new(&arguments[script])) {
                    return None;
                }
                script + 1
            }
            _ => return None,
        };
        Some(Self { options, settings: settings(arguments, options) })
    }

    /// What `--settings` says: the text of the file that it names, or its own. `None` if there is none.
    ///
    /// # Errors
    /// [`ClaudeError`] for what is neither.
    pub fn settings(
        &self,
        read: impl Fn(&Path) -> std::io::Result<String>,
    ) -> Result<Option<(ClientSettings, String)>, ClaudeError> {
        let Some(Place { value, .. }) = &self.settings else { return Ok(None) };
        let text = if value.trim_start().starts_with('{') {
            value.clone()
        } else {
            let path = PathBuf::from(value);
            read(&path).map_err(|source| ClaudeError::Io { path, source })?
        };
        Ok(Some((ClientSettings::parse(Path::new("--settings"), &text)?, text)))
    }

    /// The arguments with `file` as `--settings`, in place of what they had.
    pub fn with_settings(&self, arguments: &[OsString], file: &Path) -> Vec<OsString> {
        let (at, count) =
            self.settings.as_ref().map_or((self.options, 0), |settings| (settings.at, settings.count));
        let mut changed = arguments.to_vec();
        changed.splice(at..at + count, ["--settings".into(), file.as_os_str().to_owned()]);
        changed
    }
}

/// A settings file that says what `text` says, and sets `variables` besides. `text` was read before.
pub fn settings_with<'a>(
    text: Option<&str>,
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<u8> {
    let mut settings: Map<String, Value> =
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let environment = settings.entry("env").or_insert_with(|| Value::Object(Map::new()));
    if !environment.is_object() {
        *environment = Value::Object(Map::new());
    }
    if let Some(environment) = environment.as_object_mut() {
        environment.extend(variables.into_iter().map(|(name, value)| (name.to_owned(), value.into())));
    }
    Value::Object(settings).to_string().into_bytes()
}

fn settings(arguments: &[OsString], options: usize) -> Option<Place> {
    let mut found = None;
    for (at, argument) in arguments.iter().enumerate().skip(options) {
        let Some(argument) = argument.to_str() else { continue };
        if argument == "--" {
            break;
        }
        if argument == "--settings" {
            let value = arguments.get(at + 1)?.to_str()?.to_owned();
            found = Some(Place { at, count: 2, value });
        } else if let Some(value) = argument.strip_prefix("--settings=") {
            found = Some(Place { at, count: 1, value: value.to_owned() });
        }
    }
    found
}

/// The program's name without folder and extension.
fn name(program: &OsStr) -> Option<String> {
    Some(Path::new(program).file_stem()?.to_str()?.to_ascii_lowercase())
}

/// `…/claude-code/cli.js`, or the link that npm makes to it.
fn is_client_script(path: &Path) -> bool {
    let is_package = path.components().any(|part| part.as_os_str() == "claude-code");
    path.file_name().is_some_and(|name| name == "claude")
        || is_package && path.extension().is_some_and(|extension| extension == "js" || extension == "mjs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect()
    }

    fn changed(program: &str, arguments: &str) -> Option<String> {
        let arguments = words(arguments);
        let command = ClientCommand::find(OsStr::new(program), &arguments)?;
        let changed = command.with_settings(&arguments, Path::new("/ours.json"));
        Some(changed.join(OsStr::new(" ")).into_string().unwrap())
    }

    #[test]
    fn the_client_is_known_by_its_program_or_its_script() {
        assert_eq!(changed("/usr/bin/claude", "-p hello").as_deref(), Some("--settings /ours.json -p hello"));
        assert_eq!(changed("claude.exe", "").as_deref(), Some("--settings /ours.json"));
        assert_eq!(
            changed("node", "--no-warnings /lib/claude-code/cli.js -p x").as_deref(),
            Some("--no-warnings /lib/claude-code/cli.js --settings /ours.json -p x")
        );
        assert_eq!(changed("bash", "-c claude"), None);
        assert_eq!(changed("node", "server.js"), None);
    }

    #[test]
    fn settings_that_were_named_are_replaced_where_they_stand() {
        assert_eq!(
            changed("claude", "-p --settings /own.json hello").as_deref(),
            Some("-p --settings /ours.json hello")
        );
        assert_eq!(changed("claude", "--settings={} hello").as_deref(), Some("--settings /ours.json hello"));
        assert_eq!(
            changed("claude", "mcp add x -- y --settings z").unwrap().matches("--settings").count(),
            2
        );
    }

    #[test]
    fn settings_are_read_from_a_file_or_as_they_stand() {
        let read = |path: &Path| match path.to_str() {
            Some("/own.json") => Ok(r#"{"env":{"A":"file"},"model":"x"}"#.to_owned()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        };
        let settings = |text: &str| {
            let command = ClientCommand::find(OsStr::new("claude"), &words(text)).unwrap();
            command.settings(read).map(|found| found.map(|(settings, _)| settings.environment))
        };

        assert_eq!(settings("-p").unwrap(), None);
        assert_eq!(settings("--settings /own.json").unwrap().unwrap()[OsStr::new("A")], "file");
        assert_eq!(settings(r#"--settings {"env":{"A":"own"}}"#).unwrap().unwrap()[OsStr::new("A")], "own");
        assert!(settings("--settings /none.json").is_err());
    }

    #[test]
    fn what_settings_said_besides_is_kept() {
        let merged = settings_with(Some(r#"{"model":"x","env":{"A":"1","B":"2"}}"#), [("A", "ours")]);
        let alone = settings_with(None, [("A", "ours")]);

        assert_eq!(String::from_utf8(merged).unwrap(), r#"{"model":"x","env":{"A":"ours","B":"2"}}"#);
        assert_eq!(String::from_utf8(alone).unwrap(), r#"{"env":{"A":"ours"}}"#);
    }
}
