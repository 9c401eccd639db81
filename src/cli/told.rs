//! What the audited client was told: gathers environment, settings files and command line for `claude::effective`.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
};

use crate::{
    claude::{self, ClientSettings, CommandLine, Environment, Layer, Platform, SettingsPlaces},
    cli::{engine, exit::Failure},
    config::{self, Env},
    model::{ClientVersion, EffectiveSwitches, SwitchLayer},
};

/// The settings of a client that is started here with these arguments, strongest first.
#[derive(Debug, Default)]
pub(super) struct Told {
    layers: Vec<(SwitchLayer, &'static str, ClientSettings)>,
    /// What could not be read, in words.
    pub(super) problems: Vec<String>,
}

/// What a run does about what would go round it.
#[derive(Debug)]
pub(super) struct Sight<'a> {
    /// Variables of ours that settings override.
    pub(super) overridden: Vec<&'a OsStr>,
    /// Whether what the client exports by OTLP comes to receivers of ours, wherever it was told to send it.
    pub(super) receives: bool,
}

impl Told {
    /// Reads the settings files, and what `--settings` names.
    pub(super) fn read(environment: &Env, arguments: &[OsString]) -> Self {
        let line = CommandLine::parse(arguments.iter().map(OsString::as_os_str));
        let mut told = Self::default();
        let platform = Platform::current();
        let paths = config::Paths::new(environment, platform);
        if let (Some(client_folder), Ok(project)) = (paths.client_folder, std::env::current_dir()) {
            let places = SettingsPlaces { platform, client_folder: &client_folder, project: &project };
            match ClientSettings::read_all(&places, |path| fs::read_to_string(path)) {
                Ok(layers) => {
                    for settings in layers {
                        let (layer, name) = claude::layer_of(&settings, places.files());
                        if line.reads(layer) {
                            told.layers.push((layer, name, settings));
                        }
                    }
                }
                Err(error) => told.problems.push(format!("{error}; its `env` is not taken into account")),
            }
        }
        if let Some(text) = line.settings {
            told.add_command_line(&text);
        }
        told
    }

    fn add_command_line(&mut self, text: &str) {
        let path = Path::new(text);
        let parsed = match text.trim_start().starts_with('{') {
            true => ClientSettings::parse(Path::new("--settings"), text).map_err(|error| error.to_string()),
            false => fs::read_to_string(path)
                .map_err(|error| format!("--settings {text}: {error}"))
                .and_then(|text| ClientSettings::parse(path, &text).map_err(|error| error.to_string())),
        };
        match parsed {
            Ok(settings) => {
                let at = self.layers.iter().take_while(|(layer, ..)| *layer == SwitchLayer::Managed).count();
                self.layers.insert(at, (SwitchLayer::CommandLine, "--settings", settings));
            }
            Err(why) => self.problems.push(why),
        }
    }

    /// The settings file that nothing overrides, if there is one.
    pub(super) fn managed(&self) -> Option<&Path> {
        let managed = self.layers.iter().find(|(layer, ..)| *layer == SwitchLayer::Managed);
        managed.map(|(_, _, settings)| settings.path.as_path())
    }

    /// The settings alone, strongest first.
    pub(super) fn settings(&self) -> Vec<ClientSettings> {
        self.layers.iter().map(|(_, _, settings)| settings.clone()).collect()
    }

    /// What the client was told, with what may go round us.
    pub(super) fn effective(
        &self,
        environment: &Environment,
        version: Option<ClientVersion>,
        sight: Option<&Sight<'_>>,
    ) -> Result<EffectiveSwitches, Failure> {
        let rules = engine::controls()?.rules();
        let mut layers: Vec<Layer<'_>> = self
            .layers
            .iter()
            .map(|(layer, file, settings)| Layer {
                layer: *layer,
                file: Some(file),
                environment: &settings.environment,
            })
            .collect();
        layers.push(Layer { layer: SwitchLayer::Process, file: None, environment });
        let mut told = claude::effective(&layers, &rules, version);
        let settings = self.settings();
        let receives = sight.is_some_and(|sight| sight.receives);
        let loopback = ClientSettings::overlay(&settings, environment);
        for variable in claude::loopback_exporters(&loopback).into_iter().filter(|_| !receives) {
            told.bypasses.push(
                format!("{variable} names this machine, which the client reaches past the proxy").into(),
            );
        }
        for variable in sight.map(|sight| &*sight.overridden).unwrap_or_default() {
            let name = variable.to_string_lossy();
            told.bypasses.push(format!("a settings file sets {name}, which overrides ours").into());
        }
        Ok(told)
    }
}

/// The version of the program that is about to be run, by where it lies; scripts are looked for among the arguments.
pub(super) fn version_of_program(
    environment: &Env,
    program: &OsStr,
    arguments: &[OsString],
) -> Option<ClientVersion> {
    let found = find(environment, program)?;
    let read = |path: &Path| fs::read_to_string(path);
    let script = arguments.first().map(PathBuf::from).filter(|path| path.is_file());
    [Some(found), script]
        .into_iter()
        .flatten()
        .filter_map(|path| path.canonicalize().ok())
        .find_map(|path| claude::installed_version(&path, read))
}

/// A program as a shell finds it.
pub(super) fn find(environment: &Env, program: &OsStr) -> Option<PathBuf> {
    let path = Path::new(program);
    if path.components().count() > 1 {
        return path.is_file().then(|| path.to_owned());
    }
    let folders = environment.get("PATH")?;
    std::env::split_paths(folders).map(|folder| folder.join(path)).find(|path| path.is_file())
}

/// What is assumed of a client that was started by somebody else: `NAME=VALUE` first, then files.
pub(super) fn assumed(
    variables: &[String],
    files: &[PathBuf],
    version: Option<ClientVersion>,
) -> Result<Option<EffectiveSwitches>, Failure> {
    if variables.is_empty() && files.is_empty() {
        return Ok(None);
    }
    let mut named = Environment::new();
    for variable in variables {
        let (name, value) = variable
            .split_once('=')
            .ok_or_else(|| Failure(format!("--assume {variable}: write it as NAME=VALUE")))?;
        named.insert(name.into(), value.into());
    }
    let mut settings = Vec::new();
    for path in files {
        let name = format!("--assume-settings {}", path.display());
        let text = fs::read_to_string(path).map_err(|error| Failure::new(&name, error))?;
        settings.push(ClientSettings::parse(path, &text).map_err(|error| Failure(error.to_string()))?);
    }
    let mut layers = vec![Layer { layer: SwitchLayer::Assumed, file: None, environment: &named }];
    layers.extend(settings.iter().map(|settings| Layer {
        layer: SwitchLayer::Assumed,
        file: Some("--assume-settings"),
        environment: &settings.environment,
    }));
    let mut told = claude::effective(&layers, &engine::controls()?.rules(), version);
    for variable in claude::loopback_exporters(&ClientSettings::overlay(&settings, &named)) {
        told.bypasses
            .push(format!("{variable} names this machine, which the client reaches past the proxy").into());
    }
    Ok(Some(told))
}
