mod unit;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::{
    claude::Platform,
    cli::{
        args::{CaptureArg, Global, Service},
        exit::{Exit, Failure},
        output,
    },
    config::{Env, Settings},
};

pub(super) fn execute(
    command: &Service,
    global: &Global,
    settings: &Settings,
    environment: &Env,
) -> Result<Exit, Failure> {
    let manager = Manager::of(Platform::current(), environment)?;
    match command {
        Service::Install { dry_run, listen, otlp_endpoint } => {
            let listen = listen.unwrap_or(settings.listen);
            if listen.port() == 0 || !listen.ip().is_loopback() {
                return Err(Failure(format!(
                    "--listen {listen}: a service wants a fixed port on a loopback address"
                )));
            }
            let program =
                std::env::current_exe().map_err(|error| Failure::new("finding our own program", error))?;
            let mut words =
                vec![text(&program)?, "proxy".to_owned(), "--listen".to_owned(), listen.to_string()];
            if !otlp_endpoint.is_empty() {
                words.push("--otlp".to_owned());
                words.extend(otlp_endpoint.iter().map(|endpoint| format!("--otlp-endpoint={endpoint}")));
            }
            words.extend(flags(global, settings)?);
            let unit = manager.unit(&words);
            if *dry_run {
                output::print(&unit)?;
                eprintln!("plainsight: would be written to {}", manager.file.display());
                return Ok(Exit::Success);
            }
            manager.install(&unit)?;
            output::print(&format!(
                "installed: {}\nlistens on http://{listen} from now on\n",
                manager.file.display()
            ))?;
            eprintln!(
                "plainsight: `eval \"$(plainsight env)\"` brings a shell to it; logs: {}",
                manager.logs()
            );
            Ok(Exit::Success)
        }
        Service::Status => manager.status(),
        Service::Remove => {
            if !manager.file.exists() {
                eprintln!("plainsight: there is no service: {} is not there", manager.file.display());
                return Ok(Exit::No);
            }
            manager.remove()?;
            output::print(&format!("removed: {}\n", manager.file.display()))?;
            Ok(Exit::Success)
        }
    }
}

/// The global options that the service gets as well, with paths that hold from any folder.
fn flags(global: &Global, settings: &Settings) -> Result<Vec<String>, Failure> {
    let mut words = vec!["--data-dir".to_owned(), absolute(&settings.data_dir)?];
    for (flag, path) in [
        ("--config", &global.config),
        ("--rules", &global.rules),
        ("--policy", &global.policy),
        ("--upstream-ca", &global.upstream_ca),
    ] {
        if let Some(path) = path {
            words.extend([flag.to_owned(), absolute(path)?]);
        }
    }
    words.extend(global.connect_to.iter().map(|rule| format!("--connect-to={rule}")));
    words.extend(global.intercept.iter().map(|pattern| format!("--intercept={pattern}")));
    let capture = global.capture.map(|capture| match capture {
        CaptureArg::Full => "full",
        CaptureArg::Masked => "masked",
        CaptureArg::None => "none",
    });
    words.extend(capture.map(|capture| format!("--capture={capture}")));
    Ok(words)
}

fn absolute(path: &Path) -> Result<String, Failure> {
    let path = std::path::absolute(path).map_err(|error| Failure::new(&path.display().to_string(), error))?;
    text(&path)
}

fn text(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| Failure(format!("{} is no UTF-8", path.display())))
}

/// Whoever starts services on this system.
struct Manager {
    kind: Kind,
    /// Where it looks for ours.
    file: PathBuf,
    log: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Launchd,
    Systemd,
}

impl Manager {
    fn of(platform: Platform, environment: &Env) -> Result<Self, Failure> {
        let home = environment.path("HOME").ok_or_else(|| Failure("no home folder: set HOME".to_owned()))?;
        let log = home.join("Library/Logs/plainsight.log");
        match platform {
            Platform::Linux => {
                let config = environment.path("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
                let config = config.unwrap_or_else(|| home.join(".config"));
                Ok(Self { kind: Kind::Systemd, file: config.join("systemd/user").join(UNIT), log })
            }
            Platform::MacOs => {
                let file = home.join("Library/LaunchAgents").join(format!("{}.plist", unit::LABEL));
                Ok(Self { kind: Kind::Launchd, file, log })
            }
            Platform::Windows => Err(Failure(
                "there is no service for Windows yet; start `plainsight proxy` from the Task Scheduler at log on"
                    .to_owned(),
            )),
        }
    }

    fn unit(&self, words: &[String]) -> String {
        match self.kind {
            Kind::Launchd => unit::launchd(words, &self.log.display().to_string()),
            Kind::Systemd => unit::systemd(words),
        }
    }

    const fn logs(&self) -> &'static str {
        match self.kind {
            Kind::Launchd => "~/Library/Logs/plainsight.log",
            Kind::Systemd => "`journalctl --user -u plainsight`",
        }
    }

    fn install(&self, unit: &str) -> Result<(), Failure> {
        self.check()?;
        let failed = |error: io::Error| Failure::new(&self.file.display().to_string(), error);
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        fs::write(&self.file, unit).map_err(failed)?;
        match self.kind {
            Kind::Launchd => {
                // One that is there already is replaced; that there is none is no failure.
                _ = run("launchctl", &["unload", &self.file.display().to_string()]);
                done("launchctl", &["load", "-w", &self.file.display().to_string()])
            }
            Kind::Systemd => {
                done("systemctl", &["--user", "daemon-reload"])?;
                done("systemctl", &["--user", "enable", UNIT])?;
                // Starts it, or starts it anew with what the unit says now.
                done("systemctl", &["--user", "restart", UNIT])
            }
        }
    }

    fn remove(&self) -> Result<(), Failure> {
        let stopped = self.check().and_then(|()| match self.kind {
            Kind::Launchd => done("launchctl", &["unload", "-w", &self.file.display().to_string()]),
            Kind::Systemd => done("systemctl", &["--user", "disable", "--now", UNIT]),
        });
        fs::remove_file(&self.file).map_err(|error| Failure::new(&self.file.display().to_string(), error))?;
        if self.kind == Kind::Systemd && stopped.is_ok() {
            done("systemctl", &["--user", "daemon-reload"])?;
        }
        stopped
    }

    fn status(&self) -> Result<Exit, Failure> {
        if !self.file.exists() {
            output::print("not installed; `plainsight service install` does that\n")?;
            return Ok(Exit::No);
        }
        self.check()?;
        let answer = match self.kind {
            Kind::Launchd => run("launchctl", &["list", unit::LABEL])?,
            Kind::Systemd => run("systemctl", &["--user", "--no-pager", "status", UNIT])?,
        };
        output::print(&String::from_utf8_lossy(&answer.stdout))?;
        eprint!("{}", String::from_utf8_lossy(&answer.stderr));
        Ok(if answer.status.success() { Exit::Success } else { Exit::No })
    }

    /// Whether the manager can be talked to at all, before anything is written.
    fn check(&self) -> Result<(), Failure> {
        if self.kind == Kind::Launchd {
            return Ok(());
        }
        let answer = run("systemctl", &["--user", "show", "--property=Version"])?;
        if answer.status.success() {
            return Ok(());
        }
        Err(Failure(format!(
            "systemd runs no services for this user ({}); in a container or over su there is none: start `plainsight proxy` by other means",
            said(&answer)
        )))
    }
}

fn done(program: &str, arguments: &[&str]) -> Result<(), Failure> {
    let answer = run(program, arguments)?;
    if answer.status.success() {
        return Ok(());
    }
    Err(Failure(format!("`{program} {}` failed: {}", arguments.join(" "), said(&answer))))
}

fn run(program: &str, arguments: &[&str]) -> Result<Output, Failure> {
    Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure(format!(
            "there is no `{program}` here, so there are no user services; start `plainsight proxy` by other means"
        )),
        _ => Failure::new(program, error),
    })
}

fn said(answer: &Output) -> String {
    let text = String::from_utf8_lossy(&answer.stderr);
    text.lines().next().unwrap_or("it did not say why").trim().to_owned()
}

/// What systemd calls it.
const UNIT: &str = "plainsight.service";

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(platform: Platform, variables: &[(&str, &str)]) -> Result<PathBuf, Failure> {
        let environment = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Manager::of(platform, &environment).map(|manager| manager.file)
    }

    #[test]
    fn each_system_has_its_place_for_units() {
        let home = ("HOME", "/home/jo");

        assert_eq!(
            manager(Platform::Linux, &[home]).unwrap(),
            Path::new("/home/jo/.config/systemd/user/plainsight.service")
        );
        assert_eq!(
            manager(Platform::Linux, &[home, ("XDG_CONFIG_HOME", "/c")]).unwrap(),
            Path::new("/c/systemd/user/plainsight.service")
        );
        assert_eq!(
            manager(Platform::MacOs, &[home]).unwrap(),
            Path::new("/home/jo/Library/LaunchAgents/plainsight.proxy.plist")
        );
        assert!(manager(Platform::Windows, &[home]).unwrap_err().to_string().contains("Task Scheduler"));
        assert!(manager(Platform::Linux, &[]).is_err());
    }

    #[test]
    fn a_machine_without_the_manager_is_told_so() {
        let error = run("plainsight-has-no-such-manager", &[]).unwrap_err().to_string();

        assert!(error.contains("there are no user services"), "{error}");
    }
}
