//! The policies that ship with the program.

/// A policy that ships with the program.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// What `--policy` calls it.
    pub name: &'static str,
    /// Its file's name, for errors.
    pub file: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! profiles {
    ($($name:literal),+ $(,)?) => {
        &[$(Profile {
            name: $name,
            file: concat!("policy.", $name, ".toml"),
            text: include_str!(concat!("../../rules/policies/", $name, ".toml")),
        }),+]
    };
}

/// Every profile, from the one that changes nothing to the one that lets least out.
pub const PROFILES: &[Profile] = profiles!["observe", "private", "silent", "locked"];
