use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use crate::claude::Environment;

/// The environment as it was when plainsight started.
#[derive(Clone, Default)]
pub struct Env {
    variables: Environment,
}

impl Env {
    /// Takes a copy of the process's environment. Nobody else reads it.
    pub fn snapshot() -> Self {
        Self { variables: std::env::vars_os().collect() }
    }

    /// All variables.
    pub const fn variables(&self) -> &Environment {
        &self.variables
    }

    /// A variable's value, unless it is empty: an empty variable means the same as none.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// A variable's value as a path.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// Whether a variable is there and not empty, as `NO_COLOR` counts.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

impl FromIterator<(OsString, OsString)> for Env {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        Self { variables: variables.into_iter().collect() }
    }
}

/// Shows names only: values are often credentials.
impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Env").field(&self.variables.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_none() {
        let env: Env = [("A".into(), "".into()), ("B".into(), "x".into())].into_iter().collect();

        assert!(!env.has("A") && env.has("B") && !env.has("C"));
    }

    #[test]
    fn the_snapshot_is_the_process_s_environment() {
        assert!(Env::snapshot().has("PATH"));
    }

    #[test]
    fn debug_output_holds_no_values() {
        let env: Env = [("NAME".into(), "value".into())].into_iter().collect();

        assert!(env.variables().len() == 1 && !format!("{env:?}").contains("value"));
    }
}
