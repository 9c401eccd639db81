//! What the client was told: its environment and the `env` objects of its settings files, in their precedence.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

use crate::{
    claude::{ClientSettings, Environment, otlp_endpoints, text},
    model::{
        Authority, ClientVersion, EffectiveSwitch, EffectiveSwitches, Host, Provider, Scheme, SwitchLayer,
        SwitchRule, SwitchSetting, SwitchState, ValueRule,
    },
};

/// One place where values are said.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'l> {
    /// How strong it is.
    pub layer: SwitchLayer,
    /// The file, as it may be written down.
    pub file: Option<&'l str>,
    /// What it says.
    pub environment: &'l Environment,
}

/// Works out what the client was told, from layers of which the first wins.
///
/// `switches` are the ones to look for. Values are kept only where they can be none but a switch's: short, and of
/// letters, digits and a few signs. Of URLs only the host is kept.
pub fn effective(
    layers: &[Layer<'_>],
    switches: &[SwitchRule],
    client_version: Option<ClientVersion>,
) -> EffectiveSwitches {
    let switches: Vec<EffectiveSwitch> = switches.iter().filter_map(|rule| switch(layers, rule)).collect();
    let is_on = |name: &str| {
        winner(layers, name)
            .is_some_and(|(_, value)| ValueRule::Boolean.state(value.to_str()) == SwitchState::On)
    };
    let base_url =
        winner(layers, "ANTHROPIC_BASE_URL").and_then(|(_, value)| value.to_str()).and_then(host_of);
    let provider = match () {
        () if is_on("CLAUDE_CODE_USE_BEDROCK") => Provider::Bedrock,
        () if is_on("CLAUDE_CODE_USE_VERTEX") => Provider::Vertex,
        () if is_on("CLAUDE_CODE_USE_FOUNDRY") => Provider::Foundry,
        () if base_url.as_ref().is_some_and(|host| host.host().to_string() != VENDOR) => Provider::Gateway,
        () => Provider::Anthropic,
    };
    let named = match provider {
        Provider::Anthropic => None,
        Provider::Bedrock => winner(layers, "ANTHROPIC_BEDROCK_BASE_URL"),
        Provider::Foundry => winner(layers, "ANTHROPIC_FOUNDRY_BASE_URL"),
        Provider::Gateway => winner(layers, "ANTHROPIC_BASE_URL"),
        Provider::Vertex => winner(layers, "ANTHROPIC_VERTEX_BASE_URL"),
    };
    let named = named.and_then(|(_, value)| value.to_str()).and_then(host_of);
    EffectiveSwitches {
        provider,
        conversation_host: named.map(|authority| authority.to_string().into()),
        client_version,
        switches,
        bypasses: Vec::new(),
    }
}

/// The value of `--settings` and the layers that `--setting-sources` leaves, as the client's own arguments say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// A file's path, or JSON itself.
    pub settings: Option<String>,
    /// The layers that are read besides managed ones and the command line; none: all.
    pub sources: Option<Vec<SwitchLayer>>,
}

impl CommandLine {
    /// Reads the arguments of the client.
    pub fn parse<'a>(arguments: impl IntoIterator<Item = &'a OsStr>) -> Self {
        let mut line = Self::default();
        let mut arguments = arguments.into_iter().filter_map(OsStr::to_str);
        while let Some(argument) = arguments.next() {
            // What stands behind `--` is a prompt.
            if argument == "--" {
                break;
            }
            let (name, value) =
                argument.split_once('=').map_or((argument, None), |(name, value)| (name, Some(value)));
            if !matches!(name, "--settings" | "--setting-sources") {
                continue;
            }
            let Some(value) = value.or_else(|| arguments.next()) else { break };
            if name == "--settings" {
                line.settings = Some(value.to_owned());
            } else {
                line.sources = Some(value.split(',').filter_map(|word| word.trim().parse().ok()).collect());
            }
        }
        line
    }

    /// Whether a layer is read.
    pub fn reads(&self, layer: SwitchLayer) -> bool {
        match layer {
            SwitchLayer::Local | SwitchLayer::Project | SwitchLayer::User => {
                self.sources.as_ref().is_none_or(|sources| sources.contains(&layer))
            }
            _ => true,
        }
    }
}

/// The layer of a settings file, and how the file may be written down: without the person's folders.
pub fn layer_of(settings: &ClientSettings, places: [PathBuf; 4]) -> (SwitchLayer, &'static str) {
    let [managed, local, project, _] = places;
    match &settings.path {
        path if *path == managed => (SwitchLayer::Managed, "managed-settings.json"),
        path if *path == local => (SwitchLayer::Local, ".claude/settings.local.json"),
        path if *path == project => (SwitchLayer::Project, ".claude/settings.json"),
        _ => (SwitchLayer::User, "~/.claude/settings.json"),
    }
}

/// The version of an installed client, by where its program lies and what lies around it: `versions/2.1.329`, or the
/// nearest `package.json` of the client. The program itself is not run.
pub fn installed_version(
    program: &Path,
    read: impl Fn(&Path) -> io::Result<String>,
) -> Option<ClientVersion> {
    let named = program.file_name()?.to_str()?.parse().ok();
    named.or_else(|| {
        program.ancestors().skip(1).take(PARENTS).find_map(|folder| {
            let package: serde_json::Value =
                serde_json::from_str(&read(&folder.join("package.json")).ok()?).ok()?;
            let is_client = package["name"].as_str().is_some_and(|name| name.starts_with(PACKAGE));
            if is_client { package["version"].as_str()?.parse().ok() } else { None }
        })
    })
}

/// Variables that look like a switch mistyped: no switch themselves, and one or two letters off.
pub fn near_misses<'e>(environment: &'e Environment, switches: &[SwitchRule]) -> Vec<(&'e str, Box<str>)> {
    let names = environment.keys().filter_map(|name| name.to_str());
    names
        .filter(|name| !switches.iter().any(|rule| *rule.name == **name))
        .filter_map(|name| {
            let near = switches.iter().find(|rule| {
                let distance = strsim::damerau_levenshtein(&rule.name, name);
                distance <= TYPING_ERRORS && name.len() > NAME_BYTES
            })?;
            Some((name, near.name.clone()))
        })
        .collect()
}

fn switch(layers: &[Layer<'_>], rule: &SwitchRule) -> Option<EffectiveSwitch> {
    let mut said = layers.iter().filter_map(|layer| {
        let value = layer.environment.get(OsStr::new(&*rule.name))?;
        Some((layer, value.to_str().unwrap_or("?")))
    });
    let (layer, value) = said.next()?;
    Some(EffectiveSwitch {
        name: rule.name.clone(),
        state: rule.value.state(Some(value)),
        setting: setting(layer, value),
        hidden: said.map(|(layer, value)| setting(layer, value)).collect(),
        misreading: rule.value.misreading(value).map(Into::into),
    })
}

fn setting(layer: &Layer<'_>, value: &str) -> SwitchSetting {
    let is_plain = value.len() <= VALUE_BYTES
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" ,._-".contains(&byte));
    SwitchSetting {
        layer: layer.layer,
        file: layer.file.map(Into::into),
        value: is_plain.then(|| value.into()),
    }
}

fn winner<'l>(layers: &[Layer<'l>], name: &str) -> Option<(SwitchLayer, &'l OsStr)> {
    layers.iter().find_map(|layer| Some((layer.layer, layer.environment.get(OsStr::new(name))?.as_os_str())))
}

fn host_of(url: &str) -> Option<Authority> {
    let (scheme, rest) = url.trim().split_once("://")?;
    let port = if scheme.eq_ignore_ascii_case("http") { Scheme::Http } else { Scheme::Https }.default_port();
    let authority = rest.split(['/', '?', '#']).next()?;
    let without_user = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Authority::parse(without_user, Some(port)).ok()
}

/// Exporters on this machine: the client reaches them past the proxy.
pub fn loopback_exporters(environment: &Environment) -> Vec<&'static str> {
    let is_loopback = |authority: &Authority| {
        matches!(authority.host(), Host::Ip(address) if address.is_loopback())
            || authority.host().to_string() == "localhost"
    };
    if text(environment, "CLAUDE_CODE_ENABLE_TELEMETRY").is_none() {
        return Vec::new();
    }
    let found = otlp_endpoints(environment);
    found
        .endpoints
        .iter()
        .filter(|endpoint| is_loopback(&endpoint.authority))
        .map(|endpoint| endpoint.variable)
        .collect()
}

/// The vendor's own host.
const VENDOR: &str = "api.anthropic.com";

/// How the client's packages begin.
const PACKAGE: &str = "@anthropic-ai/claude-code";

/// Folders above a program in which its package is looked for: `cli.js` lies beside it, `bin/claude` one below.
const PARENTS: usize = 4;

/// Longest value that is kept: a list of exporters. Keys and tokens are longer, or hold other signs.
const VALUE_BYTES: usize = 32;

/// Letters that a mistyped name has wrong.
const TYPING_ERRORS: usize = 2;

/// Shorter names are like too many others.
const NAME_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
    }

    fn rules() -> Vec<SwitchRule> {
        [("DISABLE_TELEMETRY", ValueRule::Presence), ("DO_NOT_TRACK", ValueRule::Boolean)]
            .map(|(name, value)| SwitchRule { name: name.into(), value })
            .into()
    }

    fn told(process: &[(&str, &str)], user: &[(&str, &str)]) -> EffectiveSwitches {
        let (process, user) = (environment(process), environment(user));
        let layers = [
            Layer { layer: SwitchLayer::User, file: Some("~/.claude/settings.json"), environment: &user },
            Layer { layer: SwitchLayer::Process, file: None, environment: &process },
        ];
        effective(&layers, &rules(), None)
    }

    #[test]
    fn a_settings_file_wins_over_the_process_and_what_it_hides_is_named() {
        let told = told(&[("DO_NOT_TRACK", "1")], &[("DO_NOT_TRACK", "0")]);

        let switch = told.switch("DO_NOT_TRACK").unwrap();
        assert_eq!((switch.state, switch.setting.layer), (SwitchState::Off, SwitchLayer::User));
        assert_eq!(switch.hidden[0].layer, SwitchLayer::Process);
        assert!(told.switch("DISABLE_TELEMETRY").is_none());
    }

    #[test]
    fn an_empty_value_in_a_file_unsets() {
        let told = told(&[("DISABLE_TELEMETRY", "1")], &[("DISABLE_TELEMETRY", "")]);

        assert_eq!(told.switch("DISABLE_TELEMETRY").unwrap().state, SwitchState::Unset);
    }

    #[test]
    fn what_may_be_a_secret_is_not_kept() {
        let secret = "s3cr3t/".repeat(3);

        let told = told(&[("DISABLE_TELEMETRY", &secret)], &[]);

        assert_eq!(told.switch("DISABLE_TELEMETRY").unwrap().state, SwitchState::On);
        assert!(!serde_json::to_string(&told).unwrap().contains("s3cr3t"));
    }

    #[test]
    fn the_provider_follows_its_switches_and_the_base_url() {
        let provider = |variables: &[(&str, &str)]| {
            let told = told(variables, &[]);
            (told.provider, told.conversation_host.map(|host| host.to_string()))
        };

        assert_eq!(provider(&[]), (Provider::Anthropic, None));
        assert_eq!(provider(&[("CLAUDE_CODE_USE_BEDROCK", "1")]).0, Provider::Bedrock);
        assert_eq!(provider(&[("CLAUDE_CODE_USE_BEDROCK", "0")]).0, Provider::Anthropic);
        assert_eq!(provider(&[("CLAUDE_CODE_USE_VERTEX", "true")]).0, Provider::Vertex);
        assert_eq!(provider(&[("ANTHROPIC_BASE_URL", "https://api.anthropic.com")]).0, Provider::Anthropic);
        let (gateway, host) = provider(&[("ANTHROPIC_BASE_URL", "https://jo:pw@gw.example/v1?k=x")]);
        assert_eq!((gateway, host.as_deref()), (Provider::Gateway, Some("gw.example:443")));
    }

    #[test]
    fn the_command_line_names_settings_and_the_sources_that_count() {
        let parse = |arguments: &[&str]| CommandLine::parse(arguments.iter().map(OsStr::new));

        let line = parse(&["-p", "hi", "--settings", "x.json", "--setting-sources=user,local"]);

        assert_eq!(line.settings.as_deref(), Some("x.json"));
        assert!(line.reads(SwitchLayer::User) && !line.reads(SwitchLayer::Project));
        assert!(line.reads(SwitchLayer::Managed));
        assert_eq!(parse(&["--", "--settings", "x"]), CommandLine::default());
    }

    #[test]
    fn the_version_stands_in_the_path_or_in_the_package() {
        let read = |path: &Path| match path.to_str() {
            Some("/n/claude-code/package.json") => {
                Ok(r#"{"name":"@anthropic-ai/claude-code","version":"2.0.14"}"#.to_owned())
            }
            Some("/x/package.json") => Ok(r#"{"name":"other","version":"9.9.9"}"#.to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let version =
            |path: &str| installed_version(Path::new(path), read).map(|version| version.to_string());

        assert_eq!(version("/h/.local/share/claude/versions/2.1.329").as_deref(), Some("2.1.329"));
        assert_eq!(version("/n/claude-code/cli.js").as_deref(), Some("2.0.14"));
        assert_eq!(version("/x/claude"), None);
    }

    #[test]
    fn a_mistyped_switch_is_noticed() {
        let environment =
            environment(&[("DISABLE_TELEMTRY", "1"), ("DISABLE_TELEMETRY", "1"), ("HOME", "/")]);

        assert_eq!(near_misses(&environment, &rules()), [("DISABLE_TELEMTRY", "DISABLE_TELEMETRY".into())]);
    }

    #[test]
    fn a_collector_on_this_machine_is_out_of_sight() {
        let on = ("CLAUDE_CODE_ENABLE_TELEMETRY", "1");
        let endpoint = |url| environment(&[on, ("OTEL_EXPORTER_OTLP_ENDPOINT", url)]);

        assert_eq!(loopback_exporters(&endpoint("http://localhost:4318")), ["OTEL_EXPORTER_OTLP_ENDPOINT"]);
        assert!(loopback_exporters(&endpoint("https://otel.example.com")).is_empty());
    }
}
