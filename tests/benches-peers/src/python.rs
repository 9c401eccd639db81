//! The peers that come as Python packages, in an interpreter of their own that `peers.py` runs in.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
};

use serde_json::{Value, json};

use crate::{
    body::Body,
    tool::{Round, Tool},
};

/// What of `requirements.txt` could be had, and a process that runs it.
pub struct Python {
    /// Version of each peer that works.
    pub versions: BTreeMap<String, String>,
    /// Why the others do not.
    pub missing: Vec<String>,
    cache: PathBuf,
    talk: Option<Mutex<Talk>>,
}

struct Talk {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Python {
    /// Installs the peers into `cache` unless they are there, one by one, so that one that cannot be had keeps none out.
    pub fn start(package: &Path, cache: &Path) -> Self {
        let mut python =
            Self { versions: BTreeMap::new(), missing: Vec::new(), cache: cache.to_owned(), talk: None };
        if let Err(error) = fs::create_dir_all(cache) {
            python.missing.push(format!("{}: {error}", cache.display()));
            return python;
        }
        let interpreter = cache.join("venv/bin/python");
        if !interpreter.exists()
            && let Err(why) = run(Command::new("python3").arg("-m").arg("venv").arg(cache.join("venv")))
        {
            python.missing.push(format!("no Python environment: {why}"));
            return python;
        }
        let wanted = fs::read_to_string(package.join("requirements.txt")).unwrap_or_default();
        for requirement in wanted.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut pip = Command::new(&interpreter);
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]);
            if let Err(why) = run(&mut pip) {
                python.missing.push(format!("{requirement} cannot be installed: {why}"));
            }
        }
        match talk(&interpreter, &package.join("peers.py"), cache) {
            Ok(talk) => python.talk = Some(Mutex::new(talk)),
            Err(why) => python.missing.push(format!("peers.py: {why}")),
        }
        match python.ask(json!({ "do": "versions" })) {
            Ok(versions) => {
                python.versions = serde_json::from_value(versions).unwrap_or_default();
            }
            Err(why) => python.missing.push(why),
        }
        for name in ["sentry-relay", "kingfisher-bin"] {
            if !python.versions.contains_key(name) {
                python.missing.push(format!("{name} does not run here"));
            }
        }
        python
    }

    pub fn has(&self, peer: &str) -> bool {
        self.versions.contains_key(peer)
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        self.cache.join(name.replace([' ', ','], "-"))
    }

    pub fn ask(&self, command: Value) -> Result<Value, String> {
        let talk = self.talk.as_ref().ok_or("no Python")?;
        let mut talk = talk.lock().map_err(|_| "a thread panicked")?;
        let mut answer = String::new();
        writeln!(talk.commands, "{command}").map_err(|error| error.to_string())?;
        talk.commands.flush().map_err(|error| error.to_string())?;
        talk.answers.read_line(&mut answer).map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))?;
        match answer.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok(answer),
        }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        if let Some(talk) = self.talk.take().and_then(|talk| talk.into_inner().ok()) {
            let Talk { mut child, commands, answers } = talk;
            drop((commands, answers));
            _ = child.wait();
        }
    }
}

/// Runs to the end. An error is the last line of what it said.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().last().unwrap_or("without a word").to_owned())
}

fn talk(interpreter: &Path, script: &Path, cache: &Path) -> Result<Talk, String> {
    let mut child = Command::new(interpreter)
        .arg(script)
        .arg(cache)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let (commands, answers) = (child.stdin.take(), child.stdout.take());
    let commands = commands.ok_or("no standard input")?;
    Ok(Talk { child, commands, answers: BufReader::new(answers.ok_or("no standard output")?) })
}

/// Sentry's scrubbing, in the process of `peers.py`: reads the event that holds the body, scrubs it, writes it.
pub struct Relay<'p> {
    pub python: &'p Python,
    /// A configuration that `peers.py` knows: `default`, or `all`.
    pub config: &'static str,
}

impl Tool for Relay<'_> {
    fn name(&self) -> &'static str {
        match self.config {
            "default" => "sentry-relay, default scrubbing",
            _ => "sentry-relay, all its rules",
        }
    }

    fn round(&mut self, body: &Body) -> Result<Round, String> {
        let folder = self.python.folder("bodies");
        let file = folder.join(body.name.replace([' ', ','], "-"));
        if !file.exists() {
            fs::create_dir_all(&folder)
                .and_then(|()| fs::write(&file, &body.text))
                .map_err(|error| error.to_string())?;
        }
        let answer = self.python.ask(json!({ "do": "relay", "config": self.config, "file": file }))?;
        Ok(Round {
            bytes: body.text.len(),
            seconds: number(&answer, "seconds")?,
            hits: number(&answer, "hits")? as usize,
            allocations: None,
        })
    }
}

/// A program that scans files. Its time is processor time, less that of a run over a folder with nothing in it.
pub struct Kingfisher<'p> {
    pub python: &'p Python,
    pub options: &'static [&'static str],
}

impl Tool for Kingfisher<'_> {
    fn name(&self) -> &'static str {
        match self.options {
            [] => "kingfisher, as it comes",
            _ => "kingfisher, --turbo",
        }
    }

    fn round(&mut self, body: &Body) -> Result<Round, String> {
        /// Enough for its start, most of a second, to be the smaller part.
        const LEAST_BYTES: usize = 256 << 20;
        let folder = self.python.folder(&format!("copies {}", body.name));
        let empty = self.python.folder("empty");
        if !folder.exists() {
            body.write_copies(&folder, LEAST_BYTES).map_err(|error| error.to_string())?;
        }
        fs::create_dir_all(&empty)
            .and_then(|()| fs::write(empty.join("empty.json"), "{}"))
            .map_err(|error| error.to_string())?;
        let answer = self
            .python
            .ask(json!({ "do": "kingfisher", "folder": folder, "empty": empty, "options": self.options }))?;
        let bytes = number(&answer, "bytes")? as usize;
        // All copies together, said for one.
        let copies = bytes as f64 / body.text.len() as f64;
        Ok(Round {
            bytes: body.text.len(),
            seconds: number(&answer, "seconds")? / copies,
            hits: (number(&answer, "hits")? / copies).round() as usize,
            allocations: None,
        })
    }
}

fn number(answer: &Value, name: &str) -> Result<f64, String> {
    answer.get(name).and_then(Value::as_f64).ok_or_else(|| format!("no {name} in {answer}"))
}
