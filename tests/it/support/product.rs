//! The built program as a user runs it, with a home and a data folder of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// The program with a data folder in which nothing was ever recorded.
pub struct Product {
    folder: TempDir,
}

impl Product {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plainsight"));
        command.env_clear().env("HOME", self.folder.path()).stdin(Stdio::null());
        command.arg("--data-dir").arg(self.path("data")).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn scan_json(&self, file: &Path) -> Vec<Value> {
        let output = self.run(&["scan", "--json", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        objects(&output)
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn objects(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn rules_and_paths(object: &Value) -> Vec<(&str, &str)> {
    let findings = object["findings"].as_array().unwrap();
    findings.iter().map(|one| (one["rule"].as_str().unwrap(), one["path"].as_str().unwrap())).collect()
}

/// What two snapshots differ by, line by line.
pub fn differences(expected: &str, found: &str) -> Vec<String> {
    let (before, after): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    let gone = before.iter().filter(|line| !after.contains(line)).map(|line| format!("- {line}"));
    let come = after.iter().filter(|line| !before.contains(line)).map(|line| format!("+ {line}"));
    let mut differences: Vec<String> = gone.chain(come).collect();
    if differences.is_empty() && before != after {
        differences.push("the same lines, in another order or number".to_owned());
    }
    differences
}
