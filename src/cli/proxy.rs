use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use rustls::RootCertStore;

use crate::{
    ca::{self, Scope},
    claude::UpstreamProxies,
    cli::{
        args::Proxy,
        engine::{self, Engine, Plan},
        exit::{Exit, Failure},
        open_files, receiver, told,
    },
    config::{self, Env, Settings},
    destination::Catalogue,
    proxy::ReceiverConfig,
};

pub(super) fn execute(command: &Proxy, settings: Settings, environment: &Env) -> Result<Exit, Failure> {
    open_files::raise_limit();
    engine::runtime()?.block_on(serve(command, &settings, environment))
}

async fn serve(command: &Proxy, settings: &Settings, environment: &Env) -> Result<Exit, Failure> {
    let listen = command.listen.unwrap_or(settings.listen);
    if !listen.ip().is_loopback() {
        return Err(Failure(format!(
            "--listen {listen}: only loopback addresses; a proxy lends its network position to whoever reaches it"
        )));
    }
    let scope = || Scope::from_patterns(Catalogue::embedded().intercepted().chain(&settings.intercept));
    let ca = ca::stored::load_or_create(&settings.data_dir, scope, SystemTime::now())
        .map_err(|error| Failure::new("the stored CA", error))?;
    if !ca.scope().covers(&scope()) {
        return Err(Failure(
            "the stored CA may not sign for every host of --intercept; `plainsight ca rotate` with the same \
             --intercept makes one that may"
                .to_owned(),
        ));
    }
    let upstream = UpstreamProxies::from_environment(environment.variables())
        .map_err(|error| Failure::new("the proxy that is set already", error))?;
    let roots = engine::roots(settings, &config::system_roots())?;
    let receivers = receivers(command, environment, &roots)?;
    let engine = Engine::start(
        settings,
        Plan {
            mode: "proxy",
            program: None,
            listen,
            receivers,
            holds_notices: false,
            credential: None,
            named_only: None,
            intercepted: settings.intercept.clone(),
            ca: Arc::new(ca),
            roots,
            known: engine::known(environment, environment.variables()),
            upstream,
            watch: None,
            told: told::assumed(&command.assume, &command.assume_settings, None)?,
        },
    )
    .await?;
    for (protocol, address) in ["gRPC", "HTTP"].iter().zip(&engine.receivers) {
        eprintln!("receiving OTLP over {protocol} on http://{address}");
    }
    eprintln!("listening on http://{}", engine.address);
    let signal = stop_signal().await?;
    tracing::info!(signal, "draining");
    tokio::select! {
        summary = engine.finish(None) => {
            if let Some(head) = summary?.head() {
                eprintln!("sealed: {head}");
            }
        }
        signal = stop_signal() => {
            signal?;
            return Err(Failure("ended before everything was drained".to_owned()));
        }
    }
    Ok(Exit::Success)
}

/// The receivers: one on each port that collectors are known by. Both take both protocols.
fn receivers(
    command: &Proxy,
    environment: &Env,
    roots: &RootCertStore,
) -> Result<Vec<ReceiverConfig>, Failure> {
    if !command.otlp {
        return Ok(Vec::new());
    }
    let collectors = receiver::collectors(&command.otlp_endpoint, environment.variables(), roots)?;
    let receiver = |(flag, listen): (&str, SocketAddr)| {
        if !listen.ip().is_loopback() {
            return Err(Failure(format!("{flag} {listen}: only loopback addresses")));
        }
        Ok(ReceiverConfig { listen, collectors: collectors.clone() })
    };
    let addresses = [("--otlp-grpc", command.otlp_grpc), ("--otlp-http", command.otlp_http)];
    addresses.into_iter().map(receiver).collect()
}

/// Waits for the signal to end.
#[cfg(unix)]
async fn stop_signal() -> Result<&'static str, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error| Failure::new("waiting for signals", error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    tokio::select! {
        _ = interrupt.recv() => Ok("SIGINT"),
        _ = terminate.recv() => Ok("SIGTERM"),
    }
}

#[cfg(not(unix))]
async fn stop_signal() -> Result<&'static str, Failure> {
    tokio::signal::ctrl_c().await.map_err(|error| Failure::new("waiting for signals", error))?;
    Ok("Ctrl-C")
}
