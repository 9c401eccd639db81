mod child;
#[cfg(target_os = "linux")]
mod confined;
mod watch;

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

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
        run::{
            child::{Running, Starting, exit_code},
            watch::Lookout,
        },
        told::{self, Sight, Told},
    },
    config::{self, Env, Settings},
    destination::Catalogue,
    model::{AuthorityPattern, Secret, Watch},
    report,
};

#[cfg(target_os = "linux")]
pub(super) use confined::launch;

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
    let watch = match command.confine {
        true if cfg!(target_os = "linux") => Watch::Confined,
        true => {
            return Err(Failure(
                "--confine needs Linux; without it the proxy variables are all there is".to_owned(),
            ));
        }
        false => watch::possible(),
    };
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
    let mut engine = Engine::start(
        settings,
        Plan {
            mode: "run",
            program: Path::new(program).file_name().map(|name| name.to_string_lossy().into_owned()),
            listen: loopback,
            receivers,
            // The child draws on the terminal.
            holds_notices: io::IsTerminal::is_terminal(&io::stderr()),
            credential: Some(Secret::new(format!("plainsight:{token}"))),
            named_only: command.confine.then(|| command.confine_allow.clone()),
            intercepted,
            ca: Arc::clone(&ca),
            roots,
            known,
            upstream,
            watch: Some(watch),
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

    let words = [std::slice::from_ref(program), &child_arguments].concat();
    let running = start(command, &words, &mut engine, folder.path(), &child_environment).await;
    let lookout = match (&running, watch) {
        (Ok(running), Watch::Watched) => Lookout::start(running.id(), engine.entrance()),
        _ => None,
    };
    let status = match running {
        Ok(running) => running
            .wait()
            .await
            .map_err(|error| Failure(format!("{} cannot be run: {error}", program.display()))),
        Err(failure) => Err(failure),
    };
    if let Some(lookout) = lookout {
        lookout.finish().await;
    }
    drop(folder);
    let code = status.as_ref().ok().map(exit_code);
    let run = engine.run();
    let summary = engine.finish(code.map(i32::from)).await?.with_watch(Some(watch));
    let status = status?;
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

/// Starts the program: directly, or in a namespace of its own.
async fn start(
    command: &Run,
    words: &[OsString],
    engine: &mut Engine,
    folder: &Path,
    environment: &ChildEnvironment,
) -> Result<Running, Failure> {
    let starting = Starting::new()?;
    #[cfg(target_os = "linux")]
    if command.confine {
        return confined::start(command, words, starting, engine, folder, environment).await;
    }
    let _ = (engine, folder);
    starting
        .start(words, environment)
        .map_err(|error| Failure(format!("{} cannot be run: {error}", command.program[0].display())))
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
