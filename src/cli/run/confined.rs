//! `run --confine`: starts the program in a namespace whose only way out is ours.

use std::{ffi::OsString, net::SocketAddr, path::Path};

use tokio::task::spawn_blocking;

use crate::{
    claude::ChildEnvironment,
    cli::{
        args::{Launcher, Run},
        engine::Engine,
        exit::Failure,
        run::child::{Running, Starting},
    },
    confine::{Handover, LauncherArguments},
};

/// Starts the program. Nothing has run, and nothing runs, if that fails.
pub(super) async fn start(
    command: &Run,
    words: &[OsString],
    starting: Starting,
    engine: &mut Engine,
    folder: &Path,
    environment: &ChildEnvironment,
) -> Result<Running, Failure> {
    let handover = Handover::prepare(folder).map_err(|error| Failure(error.to_string()))?;
    // What the program is told to export to listens on this machine's loopback, not on its own.
    let receivers = engine.receivers.iter().map(SocketAddr::port);
    let ports: Vec<u16> = command.confine_loopback.iter().copied().chain(receivers).collect();
    let words = handover.command(engine.address.port(), &ports, words);
    let launcher = starting
        .start(&words, environment)
        .map_err(|error| Failure::new("--confine: starting the launcher", error))?;
    let program = command.program[0].to_string_lossy().into_owned();
    match furnish(handover, launcher.id().unwrap_or(0), engine, program).await {
        Ok(()) => Ok(launcher),
        Err(failure) => {
            launcher.discard().await;
            Err(failure)
        }
    }
}

async fn furnish(handover: Handover, pid: u32, engine: &mut Engine, program: String) -> Result<(), Failure> {
    let ended_badly = |error| Failure::new("--confine", error);
    let met = spawn_blocking(move || handover.meet(pid)).await.map_err(ended_badly)?;
    let (namespace, devices) = met.map_err(|error| Failure(error.to_string()))?;
    engine.confine(devices)?;
    let gone = spawn_blocking(move || namespace.go(&program)).await.map_err(ended_badly)?;
    gone.map_err(|error| Failure(error.to_string()))
}

/// The inner half: becomes the program.
pub(in crate::cli) fn launch(command: Launcher) -> u8 {
    let loopback_ports = command.loopback_ports.split(',').filter_map(|port| port.parse().ok()).collect();
    crate::confine::launch(&LauncherArguments {
        folder: command.folder,
        proxy_port: command.proxy_port,
        loopback_ports,
        program: command.program,
    })
}
