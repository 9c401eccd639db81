use std::{
    ffi::OsString,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::ExitStatus,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::process::{Child, Command};

use crate::{
    ca::{CertificateAuthority, Scope},
    claude::{
        ChildEnvironment, ChildInputs, ClientSettings, Environment, Platform, SettingsPlaces,
        UpstreamProxies, otlp_endpoints,
    },
    cli::{
        args::Run,
        engine::{self, Engine, Plan},
        exit::{Exit, Failure},
        output::Terminal,
    },
    config::{self, Env, Settings},
    destination::Catalogue,
    model::{AuthorityPattern, Secret},
    report,
};

/// How long the CA of a run is valid: longer than any session, shorter than a forgotten file is dangerous.
const CA_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

pub(super) fn execute(
    command: &Run,
    settings: &Settings,
    environment: &Env,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    engine::runtime()?.block_on(run(command, settings, environment, terminal))
}

async fn run(
    command: &Run,
    settings: &Settings,
    environment: &Env,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let (program, arguments) = command.program.split_first().expect("clap requires a program");
    // Opened first: a summary that cannot be written is known before the session, not after it.
    let json = command.json.as_deref().map(create_json).transpose()?;
    let client_settings = client_settings(environment);
    let intercepted =
        intercepted(settings, &ClientSettings::overlay(&client_settings, environment.variables()));
    let catalogue = Catalogue::embedded();
    let scope = Scope::from_patterns(catalogue.intercepted().chain(&intercepted));
    let ca = CertificateAuthority::generate(scope, SystemTime::now(), CA_LIFETIME)
        .map_err(|error| Failure::new("making a certificate authority", error))?;
    let ca = Arc::new(ca);
    let system_roots = config::system_roots();
    let token = engine::random_token()?;
    let upstream = UpstreamProxies::from_environment(environment.variables())
        .map_err(|error| Failure::new("the proxy that is set already", error))?;
    let engine = Engine::start(
        settings,
        Plan {
            mode: "run",
            program: Path::new(program).file_name().map(|name| name.to_string_lossy().into_owned()),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            // The child draws on the terminal.
            holds_notices: io::IsTerminal::is_terminal(&io::stderr()),
            credential: Some(Secret::new(format!("plainsight:{token}"))),
            intercepted,
            ca: Arc::clone(&ca),
            roots: engine::roots(settings, &system_roots)?,
            upstream,
        },
    )
    .await?;

    let folder = tempfile::Builder::new()
        .prefix("plainsight-")
        .tempdir()
        .map_err(|error| Failure::new("making a private folder for the child's certificates", error))?;
    let proxy_url = format!("http://plainsight:{token}@{}", engine.address);
    let child_environment = ChildEnvironment::compute(
        ChildInputs {
            parent: environment.variables(),
            proxy_url: &proxy_url,
            folder: folder.path(),
            ca_pem: ca.certificate_pem(),
            system_roots_pem: &system_roots.to_pem(),
        },
        |path| fs::read(path),
    );
    child_environment.write_files().map_err(|error| Failure::new("preparing the child", error))?;
    for problem in child_environment.problems() {
        eprintln!("plainsight: {problem}");
    }
    for (variable, path) in child_environment.overridden_by(&client_settings) {
        eprintln!(
            "plainsight: {} sets {}, which overrides ours: what the client sends may not be seen",
            path.display(),
            variable.display()
        );
    }

    let status = run_child(program, arguments, &child_environment).await;
    drop(folder);
    let code = status.as_ref().ok().map(exit_code);
    let summary = engine.finish(code.map(i32::from)).await?;
    let status = status.map_err(|error| Failure(format!("{} cannot be run: {error}", program.display())))?;
    if let Some((path, file)) = json {
        serde_json::to_writer_pretty(&file, &summary.to_json())
            .map_err(|error| Failure::new(&format!("--json {}", path.display()), error))?;
    }
    if !command.quiet {
        eprint!("{}", report::screen(&summary, &terminal.view_of_stderr()));
    }
    Ok(Exit::Child(exit_code(&status)))
}

fn create_json(path: &Path) -> Result<(&Path, fs::File), Failure> {
    let file =
        fs::File::create(path).map_err(|error| Failure::new(&format!("--json {}", path.display()), error))?;
    Ok((path, file))
}

/// What the client's own settings files say, as far as they can be read.
fn client_settings(environment: &Env) -> Vec<ClientSettings> {
    let platform = Platform::current();
    let paths = config::Paths::new(environment, platform);
    let (Some(client_folder), Ok(project)) = (paths.client_folder, std::env::current_dir()) else {
        return Vec::new();
    };
    let places = SettingsPlaces { platform, client_folder: &client_folder, project: &project };
    ClientSettings::read_all(&places, |path| fs::read_to_string(path)).unwrap_or_else(|error| {
        eprintln!("plainsight: {error}; its `env` is not taken into account");
        Vec::new()
    })
}

/// The hosts to decrypt besides the catalogue's: what was asked for, and the collectors that the child is told of.
fn intercepted(settings: &Settings, environment: &Environment) -> Vec<AuthorityPattern> {
    let otlp = otlp_endpoints(environment);
    for variable in &otlp.unreadable {
        eprintln!("plainsight: {variable} holds no endpoint; what is sent there may not be seen");
    }
    let endpoints = otlp.endpoints.iter().map(|endpoint| AuthorityPattern::exactly(&endpoint.authority));
    settings.intercept.iter().cloned().chain(endpoints).collect()
}

/// Runs the child in the foreground until it ends. Signals that a terminal sends to the whole group are left to the
/// child; those that reach only us are passed on.
async fn run_child(
    program: &OsString,
    arguments: &[OsString],
    environment: &ChildEnvironment,
) -> io::Result<ExitStatus> {
    let mut signals = Signals::new()?;
    let mut child = Command::new(program).args(arguments).envs(environment.changes()).spawn()?;
    loop {
        tokio::select! {
            status = child.wait() => return status,
            signal = signals.next() => signals.pass_on(signal, &child),
        }
    }
}

/// The child's code as a shell would give it: 128 and the signal's number when a signal ended it.
fn exit_code(status: &ExitStatus) -> u8 {
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
