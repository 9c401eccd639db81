use std::{
    ffi::{OsStr, OsString},
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
        self, ChildEnvironment, ChildInputs, ClientCommand, ClientSettings, Environment, OtlpExports,
        UpstreamProxies, otlp_endpoints,
    },
    cli::{
        args::Run,
        check,
        engine::{self, Engine, Plan},
        exit::{Exit, Failure},
        output::Terminal,
        receiver,
        told::{self, Sight, Told},
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
    if let Some(options) = command.check.then_some(&command.options) {
        // A mistake is known before the session, not after it.
        check::checks(options)?;
    }
    let told = Told::read(environment, arguments);
    for problem in &told.problems {
        eprintln!("plainsight: {problem}");
    }
    let client = ClientCommand::find(program, arguments);
    let client_settings = told.settings();
    let variables = ClientSettings::overlay(&client_settings, environment.variables());
    let intercepted = intercepted(settings, &variables);
    // Settings files say nothing to any other program.
    let parent = if client.is_some() { &variables } else { environment.variables() };
    let exports = OtlpExports::of(parent);
    let known = engine::known(environment, &variables);
    let catalogue = Catalogue::embedded();
    let scope = Scope::from_patterns(catalogue.intercepted().chain(&intercepted));
    let ca = CertificateAuthority::generate(scope, SystemTime::now(), CA_LIFETIME)
        .map_err(|error| Failure::new("making a certificate authority", error))?;
    let ca = Arc::new(ca);
    let system_roots = config::system_roots();
    let token = engine::random_token()?;
    let upstream = UpstreamProxies::from_environment(parent)
        .map_err(|error| Failure::new("the proxy that is set already", error))?;
    let roots = engine::roots(settings, &system_roots)?;
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let receiver_of = |collector| receiver::for_child(collector, loopback, parent, &roots);
    let receivers = exports.collectors.iter().map(receiver_of).collect();
    let engine = Engine::start(
        settings,
        Plan {
            mode: "run",
            program: Path::new(program).file_name().map(|name| name.to_string_lossy().into_owned()),
            listen: loopback,
            receivers,
            // The child draws on the terminal.
            holds_notices: io::IsTerminal::is_terminal(&io::stderr()),
            credential: Some(Secret::new(format!("plainsight:{token}"))),
            intercepted,
            ca: Arc::clone(&ca),
            roots,
            known,
            upstream,
            told: None,
        },
    )
    .await?;

    let folder = tempfile::Builder::new()
        .prefix("plainsight-")
        .tempdir()
        .map_err(|error| Failure::new("making a private folder for the child's certificates", error))?;
    let proxy_url = format!("http://plainsight:{token}@{}", engine.address);
    let mut child_environment = ChildEnvironment::compute(
        ChildInputs {
            parent,
            proxy_url: &proxy_url,
            folder: folder.path(),
            ca_pem: ca.certificate_pem(),
            system_roots_pem: &system_roots.to_pem(),
        },
        |path| fs::read(path),
    );
    if !exports.collectors.is_empty() {
        child_environment.extend(exports.rewritten(&engine.receivers));
    }
    let managed = told.managed();
    let (changed, kept): (Vec<_>, Vec<_>) = child_environment
        .overridden_by(&client_settings)
        .into_iter()
        .partition(|(_, path)| client.is_some() && Some(*path) != managed);
    let mut child_arguments = arguments.to_vec();
    if let Some(client) = client.as_ref().filter(|_| !changed.is_empty()) {
        let file = folder.path().join("settings.json");
        child_arguments = client.with_settings(arguments, &file);
        let value =
            |name: &OsStr| child_environment.changes().find(|(ours, _)| *ours == name).map(|(_, ours)| ours);
        let variables: Vec<_> =
            changed.iter().filter_map(|(name, _)| Some((name.to_str()?, value(name)?.to_str()?))).collect();
        // That they can be read was found out before.
        let named = client.settings(|path| fs::read_to_string(path)).ok().flatten();
        let content = claude::settings_with(named.as_ref().map(|(_, text)| text.as_str()), variables);
        child_environment.add_file(file, content);
    }
    child_environment.write_files().map_err(|error| Failure::new("preparing the child", error))?;
    for problem in child_environment.problems() {
        eprintln!("plainsight: {problem}");
    }
    for (variable, path) in &kept {
        eprintln!(
            "plainsight: {} sets {}, which overrides ours: what the client sends may not be seen{}",
            path.display(),
            variable.display(),
            if client.is_some() {
                ""
            } else {
                "; start the client itself under `plainsight run`, and it is set by --settings"
            }
        );
    }
    if !command.quiet {
        for (collector, address) in exports.collectors.iter().zip(&engine.receivers) {
            let scheme = collector.scheme.as_str();
            eprintln!(
                "plainsight: OTLP for {scheme}://{} is received at http://{address}",
                collector.authority
            );
        }
        for (variable, path) in &changed {
            eprintln!(
                "plainsight: {} sets {}; --settings sets it to ours",
                path.display(),
                variable.display()
            );
        }
    }

    let version = told::version_of_program(environment, program, arguments);
    let sight = Sight {
        overridden: kept.iter().map(|(variable, _)| *variable).collect(),
        receives: client.is_some() && !exports.collectors.is_empty(),
    };
    engine.record_told(&told.effective(environment.variables(), version, Some(&sight))?)?;

    let status = run_child(program, &child_arguments, &child_environment).await;
    drop(folder);
    let code = status.as_ref().ok().map(exit_code);
    let run = engine.run();
    let summary = engine.finish(code.map(i32::from)).await?;
    let status = status.map_err(|error| Failure(format!("{} cannot be run: {error}", program.display())))?;
    if let Some((path, file)) = json {
        serde_json::to_writer_pretty(&file, &summary.to_json())
            .map_err(|error| Failure::new(&format!("--json {}", path.display()), error))?;
    }
    if !command.quiet {
        eprint!("{}", report::screen(&summary, &terminal.view_of_stderr()));
    }
    let code = exit_code(&status);
    if !command.check {
        return Ok(Exit::Child(code));
    }
    let verdict = check::of_run(run, settings, &command.options, terminal)?;
    // What failed first is what to look at first.
    Ok(if code == 0 { verdict } else { Exit::Child(code) })
}

fn create_json(path: &Path) -> Result<(&Path, fs::File), Failure> {
    let file =
        fs::File::create(path).map_err(|error| Failure::new(&format!("--json {}", path.display()), error))?;
    Ok((path, file))
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
