use std::path::PathBuf;

use crate::{
    claude::Platform,
    config::{ConfigError, Env},
};

/// Where things lie when nobody says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The audit log, the stored CA, the key for fingerprints.
    pub data_dir: Option<PathBuf>,
    /// The configuration file, whether or not there is one.
    pub config_file: Option<PathBuf>,
    /// The client's own folder: settings, spool.
    pub client_folder: Option<PathBuf>,
}

impl Paths {
    /// Works them out. Relative paths in `XDG_*` are not looked at, as that specification wants it.
    pub fn new(env: &Env, platform: Platform) -> Self {
        let home = env.path(if platform == Platform::Windows { "USERPROFILE" } else { "HOME" });
        let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let absolute = |name: &str| env.path(name).filter(|path| path.has_root());
        let (data, config) = match platform {
            Platform::Linux => (
                absolute("XDG_DATA_HOME").or_else(|| in_home(".local/share")),
                absolute("XDG_CONFIG_HOME").or_else(|| in_home(".config")),
            ),
            Platform::MacOs => (
                absolute("XDG_DATA_HOME").or_else(|| in_home("Library/Application Support")),
                absolute("XDG_CONFIG_HOME").or_else(|| in_home(".config")),
            ),
            Platform::Windows => (env.path("LOCALAPPDATA"), env.path("APPDATA")),
        };
        Self {
            data_dir: data.map(|folder| folder.join("plainsight")),
            config_file: config.map(|folder| folder.join("plainsight").join("config.toml")),
            client_folder: env.path("CLAUDE_CONFIG_DIR").or_else(|| in_home(".claude")),
        }
    }

    pub(super) fn data_dir(self) -> Result<PathBuf, ConfigError> {
        self.data_dir.ok_or(ConfigError::NoDataDir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(platform: Platform, variables: &[(&str, &str)]) -> [Option<String>; 3] {
        let env = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let paths = Paths::new(&env, platform);
        [paths.data_dir, paths.config_file, paths.client_folder]
            .map(|path| path.map(|path| path.to_str().unwrap().replace('\\', "/")))
    }

    fn some(texts: [&str; 3]) -> [Option<String>; 3] {
        texts.map(|text| Some(text.to_owned()))
    }

    #[test]
    fn each_system_has_its_place() {
        assert_eq!(
            paths(Platform::Linux, &[("HOME", "/home/jo")]),
            some([
                "/home/jo/.local/share/plainsight",
                "/home/jo/.config/plainsight/config.toml",
                "/home/jo/.claude"
            ])
        );
        assert_eq!(
            paths(Platform::MacOs, &[("HOME", "/Users/jo")]),
            some([
                "/Users/jo/Library/Application Support/plainsight",
                "/Users/jo/.config/plainsight/config.toml",
                "/Users/jo/.claude"
            ])
        );
        assert_eq!(
            paths(Platform::Windows, &[("USERPROFILE", "U:"), ("LOCALAPPDATA", "L:"), ("APPDATA", "A:")]),
            some(["L:/plainsight", "A:/plainsight/config.toml", "U:/.claude"])
        );
    }

    #[test]
    fn xdg_counts_when_it_is_absolute() {
        let home = ("HOME", "/h");

        let moved = paths(Platform::Linux, &[home, ("XDG_DATA_HOME", "/d"), ("XDG_CONFIG_HOME", "/c")]);
        let relative = paths(Platform::Linux, &[home, ("XDG_DATA_HOME", "d"), ("XDG_CONFIG_HOME", "")]);

        assert_eq!(moved, some(["/d/plainsight", "/c/plainsight/config.toml", "/h/.claude"]));
        assert_eq!(relative, paths(Platform::Linux, &[home]));
    }

    #[test]
    fn without_a_home_there_is_no_place() {
        assert_eq!(paths(Platform::Linux, &[]), [None, None, None]);
        assert!(Paths::new(&Env::default(), Platform::Linux).data_dir().is_err());
    }
}
