//! Watches the policy and the rule folder while the proxy runs: a change is put in force at once, a broken one is
//! said aloud and changes nothing.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::task::JoinHandle;

use crate::{
    cli::{engine, exit::Failure},
    config::Settings,
    proxy::LiveInspector,
    rules::KnownValue,
};

/// How often the files are looked at. A person who has saved a file looks up about as fast.
const EVERY: Duration = Duration::from_secs(1);

/// What the files held when they were last looked at. They are small, and contents say more than times do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    policy: (String, String),
    rules: Vec<(String, String)>,
}

impl Watched {
    /// Reads the files that `settings` name.
    pub(super) fn read(settings: &Settings) -> Result<Self, Failure> {
        let rules = match &settings.rules_dir {
            Some(folder) => engine::rule_files(folder)
                .map_err(|error| Failure::new(&format!("--rules {}", folder.display()), error))?,
            None => Vec::new(),
        };
        let rules = rules.into_iter().map(|source| (source.name, source.text)).collect();
        Ok(Self { policy: engine::policy_text(settings.policy.as_deref())?, rules })
    }
}

/// A watch that is being kept.
pub(super) struct Watching {
    task: JoinHandle<()>,
    notices: Arc<Notices>,
}

impl Watching {
    /// Stops, and says what had to wait.
    pub(super) fn end(&self) {
        self.task.abort();
        let held = std::mem::take(&mut *self.notices.held.lock().unwrap_or_else(PoisonError::into_inner));
        held.iter().for_each(|notice| eprintln!("plainsight: {notice}"));
    }
}

/// What is said to the person, now or when the terminal is free again.
struct Notices {
    holds: bool,
    held: Mutex<Vec<String>>,
}

impl Notices {
    fn say(&self, notice: String) {
        if self.holds {
            self.held.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
        } else {
            eprintln!("plainsight: {notice}");
        }
    }
}

/// Watches until the end of the run.
pub(super) fn watch(
    settings: Settings,
    began_with: Watched,
    known: Arc<Vec<KnownValue>>,
    inspection: Arc<LiveInspector>,
    holds_notices: bool,
) -> Watching {
    let notices = Arc::new(Notices { holds: holds_notices, held: Mutex::default() });
    let said = Arc::clone(&notices);
    let task = tokio::spawn(async move {
        let mut watch =
            Watch { settings, known, seen: Ok(began_with.clone()), in_force: began_with, inspection };
        loop {
            tokio::time::sleep(EVERY).await;
            // Compiling rules takes a while, and no request should wait for it.
            let looked = tokio::task::spawn_blocking(move || {
                let notice = watch.look();
                (watch, notice)
            });
            let Ok((next, notice)) = looked.await else { return };
            watch = next;
            if let Some(notice) = notice {
                said.say(notice);
            }
        }
    });
    Watching { task, notices }
}

struct Watch {
    settings: Settings,
    /// What the rules look for besides what their files say.
    known: Arc<Vec<KnownValue>>,
    /// What was last seen, so that a mistake is said once.
    seen: Result<Watched, String>,
    in_force: Watched,
    inspection: Arc<LiveInspector>,
}

impl Watch {
    /// Looks once. Says what is to be said.
    fn look(&mut self) -> Option<String> {
        let seen = Watched::read(&self.settings).map_err(|failure| failure.to_string());
        if seen == self.seen {
            return None;
        }
        self.seen.clone_from(&seen);
        match seen {
            Ok(watched) if watched == self.in_force => None,
            Ok(watched) => Some(match self.put_in_force(&watched) {
                Ok(notice) => {
                    self.in_force = watched;
                    notice
                }
                Err(failure) => format!("{failure}; the one before stays in force"),
            }),
            Err(failure) => Some(format!("{failure}; what was read before stays in force")),
        }
    }

    fn put_in_force(&self, watched: &Watched) -> Result<String, Failure> {
        let before = self.inspection.current();
        let rules =
            (watched.rules != self.in_force.rules).then(|| engine::rules(&self.settings)).transpose()?;
        let rules = rules.map(|rules| rules.with_known(&self.known));
        let (name, text) = &watched.policy;
        let policy = engine::checked_policy(name, text, rules.as_ref().unwrap_or(before.rules()))?;
        let what = match (&rules, policy.hash() == before.policy().hash()) {
            (Some(rules), true) => format!("the rules changed: {} are in force", rules.rules().len()),
            (Some(_), false) => format!("the rules and the policy changed: `{}` is in force", policy.name()),
            (None, _) => format!("the policy changed: `{}` is in force", policy.name()),
        };
        let hash = &policy.hash()[..12];
        let notice = format!("{what}, policy {hash}");
        self.inspection.exchange(before.changed(policy, rules));
        Ok(notice)
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
