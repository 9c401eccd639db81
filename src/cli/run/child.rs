//! The program: started directly or in a namespace, watched, and waited for.

use std::{ffi::OsString, io, process::ExitStatus};

use tokio::process::{Child, Command};

use crate::{
    claude::ChildEnvironment,
    cli::{exit::Failure, open_files},
};

/// Signals are taken before the program starts, so that none is lost.
pub(super) struct Starting {
    signals: Signals,
}

/// A program that runs.
pub(super) struct Running {
    child: Child,
    signals: Signals,
}

impl Starting {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self { signals: Signals::new().map_err(|error| Failure::new("taking signals", error))? })
    }

    /// Starts a program in the foreground.
    pub(super) fn start(self, words: &[OsString], environment: &ChildEnvironment) -> io::Result<Running> {
        let (program, arguments) = words.split_first().expect("a program is required");
        let child = Command::new(program).args(arguments).envs(environment.changes()).spawn()?;
        // Only now: the program has the limit that it would have without us.
        open_files::raise_limit();
        Ok(Running { child, signals: self.signals })
    }
}

impl Running {
    /// Its process number; `None` once it was waited for.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it ends. Signals that a terminal sends to the whole group are left to the program; those that reach
    /// only us are passed on.
    pub(super) async fn wait(mut self) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                status = self.child.wait() => return status,
                signal = self.signals.next() => self.signals.pass_on(signal, &self.child),
            }
        }
    }

    /// Ends what has not become the program yet.
    #[cfg(target_os = "linux")]
    pub(super) async fn discard(mut self) {
        // It may have ended by itself, which is as well.
        let _ = self.child.kill().await;
    }
}

/// The child's code as a shell would give it: 128 and the signal's number when a signal ended it.
pub(super) fn exit_code(status: &ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(status) {
        return u8::try_from(128 + signal).unwrap_or(u8::MAX);
    }
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(unix)]
struct Signals {
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> rustix::process::Signal {
        use rustix::process::Signal;
        tokio::select! {
            _ = self.hangup.recv() => Signal::HUP,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.quit.recv() => Signal::QUIT,
            _ = self.terminate.recv() => Signal::TERM,
        }
    }

    fn pass_on(&self, signal: rustix::process::Signal, child: &Child) {
        use rustix::process::{Pid, Signal, kill_process};
        // A terminal's Ctrl-C and Ctrl-\ go to the whole foreground group: the child has its own copy.
        let from_terminal =
            matches!(signal, Signal::INT | Signal::QUIT) && io::IsTerminal::is_terminal(&io::stdin());
        if from_terminal {
            return;
        }
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::debug!(%error, "a signal could not be passed on");
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        // The console sends Ctrl-C to the child as well; it is enough not to die of it.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn pass_on(&self, (): (), _child: &Child) {}
}
