mod child;
#[cfg(target_os = "linux")]
mod confined;
mod watch;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

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
        run::{
            child::{Running, Starting, exit_code},
            watch::Lookout,
        },
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
    let program = command.program.first().expect("clap requires a program");
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
    let mut engine = Engine::start(
        settings,
        Plan {
            mode: "run",
            program: Path::new(program).file_name().map(|name| name.to_string_lossy().into_owned()),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            credential: Some(Secret::new(format!("plainsight:{token}"))),
            intercepted,
            ca: Arc::clone(&ca),
            roots: engine::roots(settings, &system_roots)?,
            upstream,
            watch: Some(watch),
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

    let running = start(command, &mut engine, folder.path(), &child_environment).await;
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
    let summary = engine.finish(code.map(i32::from)).await?.with_watch(Some(watch));
    let status = status?;
    if let Some((path, file)) = json {
        serde_json::to_writer_pretty(&file, &summary.to_json())
            .map_err(|error| Failure::new(&format!("--json {}", path.display()), error))?;
    }
    if !command.quiet {
        eprint!("{}", report::screen(&summary, &terminal.view_of_stderr()));
    }
    Ok(Exit::Child(exit_code(&status)))
}

/// Starts the program: directly, or in a namespace of its own.
async fn start(
    command: &Run,
    engine: &mut Engine,
    folder: &Path,
    environment: &ChildEnvironment,
) -> Result<Running, Failure> {
    let starting = Starting::new()?;
    #[cfg(target_os = "linux")]
    if command.confine {
        return confined::start(command, starting, engine, folder, environment).await;
    }
    let _ = (engine, folder);
    starting
        .start(&command.program, environment)
        .map_err(|error| Failure(format!("{} cannot be run: {error}", command.program[0].display())))
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
