//! Tries it: starts a program of each runtime that is there, in the environment that is to be proved, and lets it ask
//! for something that only plainsight can answer. Nobody outside is asked: see [`PROBE_AUTHORITY`].

use std::{
    ffi::{OsStr, OsString},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use crate::{
    ca::{CertificateAuthority, Scope},
    claude::{ChildEnvironment, ChildInputs, Environment, UpstreamProxies, UpstreamProxy},
    cli::{
        doctor::way,
        engine::{self, Engine, Plan},
        exit::Failure,
        told,
    },
    config::{self, Env, Settings},
    destination::Catalogue,
    model::{Authority, ClientVersion, ConnectTo, Scheme, Secret},
    proxy::{PROBE_AUTHORITY, PROBE_HOST, PROBE_MARK},
    report::doctor::{Probing, Trial, Verdict},
};

/// The client that may be tried, and where it is.
pub(super) struct Client {
    /// Its program.
    pub(super) program: PathBuf,
    /// Its version.
    pub(super) version: Option<ClientVersion>,
}

/// Tries every runtime: through the proxy that `environment` names, or as `plainsight run` would start it if there is
/// none.
pub(super) async fn probe(
    settings: &Settings,
    own: &Env,
    environment: &Environment,
    client: Option<&Client>,
) -> Result<Probing, Failure> {
    let Ok(proxies) = UpstreamProxies::from_environment(environment) else {
        return Ok(Probing::default());
    };
    if proxies.is_empty() {
        return under_run(settings, own, environment, client).await;
    }
    let Some(proxy) = any_of(&proxies, environment) else { return Ok(Probing::default()) };
    let at = proxy.authority();
    let way = format!("through the proxy at {at}");
    let untried =
        |why: String| Probing { way: way.as_str().into(), untried: Some(why.into()), ..Probing::default() };
    if !way::is_here(at) {
        return Ok(untried("another machine's proxy is not ours to try".to_owned()));
    }
    match ask(&proxy).await {
        Ok(_) => {}
        Err(Unanswered::Nobody) => return Ok(untried(format!("nothing listens at {at}"))),
        Err(Unanswered::Refused) => {
            return Ok(untried(format!(
                "what listens at {at} wants another credential than the variables hold"
            )));
        }
        Err(Unanswered::Stranger) => {
            return Ok(untried(format!("what listens at {at} is not plainsight, or an older one")));
        }
    }
    let trials = trials(own, environment, &proxy, client).await?;
    Ok(Probing { way: way.into(), is_set_up: true, untried: None, trials })
}

/// The proxy that somebody would use for the audited host, whatever `NO_PROXY` says.
fn any_of(proxies: &UpstreamProxies, environment: &Environment) -> Option<UpstreamProxy> {
    let probed = Authority::parse(PROBE_AUTHORITY, None).ok()?;
    if let Some(proxy) = proxies.choose(Scheme::Https, &probed) {
        return Some(proxy.clone());
    }
    let mut environment = environment.clone();
    environment.retain(|name, _| name != "no_proxy" && name != "NO_PROXY");
    UpstreamProxies::from_environment(&environment).ok()?.choose(Scheme::Https, &probed).cloned()
}

/// Whether a client that reads either of the two variables would still ask the proxy for the probed host.
fn is_let_through(environment: &Environment) -> bool {
    let Ok(probed) = Authority::parse(PROBE_AUTHORITY, None) else { return false };
    ["no_proxy", "NO_PROXY"].into_iter().all(|other| {
        let mut environment = environment.clone();
        environment.remove(OsStr::new(other));
        let proxies = UpstreamProxies::from_environment(&environment);
        proxies.is_ok_and(|proxies| proxies.choose(Scheme::Https, &probed).is_some())
    })
}

/// Tries what `run` would do, with a proxy that reaches nobody and a log that is thrown away.
async fn under_run(
    settings: &Settings,
    own: &Env,
    environment: &Environment,
    client: Option<&Client>,
) -> Result<Probing, Failure> {
    let failed = |error| Failure::new("making a private folder for the probe", error);
    let folder = tempfile::Builder::new().prefix("plainsight-doctor-").tempdir().map_err(failed)?;
    let ca = CertificateAuthority::generate(
        Scope::from_patterns(Catalogue::embedded().intercepted()),
        SystemTime::now(),
        CA_LIFETIME,
    )
    .map_err(|error| Failure::new("making a certificate authority", error))?;
    let ca = Arc::new(ca);
    let system_roots = config::system_roots();
    let token = engine::random_token()?;
    let nobody = ConnectTo::parse(NOBODY).map_err(|error| Failure::new("the probe's own proxy", error))?;
    let data_dir = folder.path().join("data");
    let engine = Engine::start(
        &Settings { connect_to: vec![nobody], data_dir, ..settings.clone() },
        Plan {
            mode: "run",
            program: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            receivers: Vec::new(),
            holds_notices: true,
            credential: Some(Secret::new(format!("plainsight:{token}"))),
            named_only: None,
            intercepted: Vec::new(),
            ca: Arc::clone(&ca),
            roots: engine::roots(settings, &system_roots)?,
            known: Vec::new(),
            upstream: UpstreamProxies::default(),
            watch: None,
            told: None,
        },
    )
    .await?;
    let child = ChildEnvironment::compute(
        ChildInputs {
            parent: environment,
            proxy_url: &format!("http://plainsight:{token}@{}", engine.address),
            folder: folder.path(),
            ca_pem: ca.certificate_pem(),
            system_roots_pem: &system_roots.to_pem(),
        },
        |path| std::fs::read(path),
    );
    child.write_files().map_err(|error| Failure::new("preparing the probe", error))?;
    let environment = child.apply(environment);
    let proxies =
        UpstreamProxies::from_environment(&environment).map_err(|error| Failure(error.to_string()))?;
    let trials = match any_of(&proxies, &environment) {
        Some(proxy) => trials(own, &environment, &proxy, client).await?,
        None => Vec::new(),
    };
    engine.finish(None).await?;
    Ok(Probing { way: "as `plainsight run` starts them".into(), is_set_up: false, untried: None, trials })
}

/// Tries each runtime, one after the other: what the proxy counts meanwhile is then of the one that runs.
async fn trials(
    own: &Env,
    environment: &Environment,
    proxy: &UpstreamProxy,
    client: Option<&Client>,
) -> Result<Vec<Trial>, Failure> {
    let folder = tempfile::tempdir().map_err(|error| Failure::new("making a folder for the probe", error))?;
    let mut trials = Vec::new();
    for runtime in RUNTIMES {
        let Some(program) = told::find(own, OsStr::new(runtime.program)) else { continue };
        let url = format!("https://{PROBE_AUTHORITY}/{}/{}", engine::random_token()?, runtime.mark);
        let arguments: Vec<OsString> =
            runtime.arguments.iter().map(|word| word.replace(URL, &url).into()).collect();
        let run = Run { program: &program, arguments, environment, folder: None, patience: PATIENCE };
        if let Some(verdict) = run.verdict(&url, proxy).await {
            trials.push(Trial::new(runtime.name, verdict, |verdict| runtime.fix(verdict, environment)));
        }
    }
    if let Some(client) = client {
        trials.push(client.trial(environment, proxy, folder.path()).await?);
    }
    Ok(trials)
}

/// A way in which programs reach others.
struct Runtime {
    name: &'static str,
    program: &'static str,
    /// Its name in the path that is asked for.
    mark: &'static str,
    arguments: &'static [&'static str],
    /// The variable by which it trusts the CA.
    roots: &'static str,
}

impl Runtime {
    /// What to do about it.
    fn fix(&self, verdict: &Verdict, environment: &Environment) -> Option<String> {
        let roots = self.roots;
        match verdict {
            Verdict::Around if self.program == "node" => {
                Some(match environment.contains_key(OsStr::new(NODE_SWITCH)) {
                    false => format!("set {NODE_SWITCH}=1 (Node 22.21, 24.5 and later)"),
                    true => format!(
                        "this Node does not know {NODE_SWITCH}: take 22.21, 24.5 or later, or start what runs on it by \
                     `plainsight run --confine`"
                    ),
                })
            }
            Verdict::Around => {
                Some("set HTTPS_PROXY and https_proxy, and take the audited hosts out of NO_PROXY".to_owned())
            }
            Verdict::Untrusted => Some(format!(
                "set {roots} to the file that `plainsight env` names for it, which has today's CA"
            )),
            Verdict::Failed(_) | Verdict::Seen | Verdict::Untried(_) => None,
        }
    }
}

impl Client {
    /// Starts the client on one prompt with an invented key, in a folder of its own, with everything switched off that
    /// it sends besides, and with the probe in place of its service.
    async fn trial(
        &self,
        environment: &Environment,
        proxy: &UpstreamProxy,
        folder: &Path,
    ) -> Result<Trial, Failure> {
        let untried = |why: &str| Ok(Trial::new(CLIENT, Verdict::Untried(why.into()), |_| None));
        if self.version.is_none_or(|version| version < FIRST_QUIET_CLIENT) {
            return untried("its version is unknown, or it cannot be kept from sending telemetry");
        }
        if !is_let_through(environment) {
            return Ok(Trial::new(CLIENT, Verdict::Around, |_| {
                Some("take the audited hosts out of NO_PROXY".to_owned())
            }));
        }
        let base = format!("https://{PROBE_AUTHORITY}/{}/client", engine::random_token()?);
        let mut environment = environment.clone();
        environment.retain(|name, _| {
            let name = name.to_string_lossy();
            !LEFT_OUT.iter().any(|prefix| name.starts_with(prefix))
        });
        let home = folder.as_os_str();
        let set = [("ANTHROPIC_BASE_URL", OsStr::new(&base)), ("CLAUDE_CONFIG_DIR", home), ("HOME", home)];
        let quiet = QUIET.iter().map(|(name, value)| (*name, OsStr::new(*value)));
        environment.extend(set.into_iter().chain(quiet).map(|(name, value)| (name.into(), value.to_owned())));
        let run = Run {
            program: &self.program,
            arguments: vec!["-p".into(), "plainsight doctor".into()],
            environment: &environment,
            folder: Some(folder),
            patience: CLIENT_PATIENCE,
        };
        let verdict = run.verdict(&base, proxy).await.unwrap_or(Verdict::Untried("it is not there".into()));
        Ok(Trial::new(CLIENT, verdict, |verdict| {
            (*verdict == Verdict::Untrusted)
                .then(|| "set NODE_EXTRA_CA_CERTS to the file that `plainsight env` names for it".to_owned())
        }))
    }
}

/// A program on its way.
struct Run<'r> {
    program: &'r Path,
    arguments: Vec<OsString>,
    environment: &'r Environment,
    folder: Option<&'r Path>,
    patience: Duration,
}

impl Run<'_> {
    /// Runs it, and says what the proxy saw of it. `None` if the runtime lacks what is tried.
    async fn verdict(&self, url: &str, proxy: &UpstreamProxy) -> Option<Verdict> {
        let before = ask(proxy).await.ok()?;
        let ended = self.run().await;
        let after = ask(proxy).await.ok()?;
        let said = match ended {
            Ended::Absent => return None,
            Ended::Late(said) | Ended::Said(said) if saw(&said, url) => return Some(Verdict::Seen),
            Ended::Late(said) if said.trim().is_empty() && after == before => {
                let late = format!("did nothing within {} s, and was ended", self.patience.as_secs());
                return Some(Verdict::Failed(late.into()));
            }
            Ended::Late(said) | Ended::Said(said) => said,
        };
        Some(if after.refused > before.refused {
            Verdict::Untrusted
        } else if after.tunnels == before.tunnels && goes_around(&said) {
            Verdict::Around
        } else {
            Verdict::Failed(last_line(&said).into())
        })
    }

    async fn run(&self) -> Ended {
        let mut command = Command::new(self.program);
        command.args(&self.arguments).env_clear().envs(self.environment);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        if let Some(folder) = self.folder {
            command.current_dir(folder);
        }
        let Ok(mut child) = command.spawn() else { return Ended::Absent };
        let (mut out, mut error) = (Vec::new(), Vec::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ended = timeout(self.patience, async {
            tokio::join!(read(stdout, &mut out), read(stderr, &mut error));
            child.wait().await
        })
        .await;
        let said = String::from_utf8_lossy(&[&*out, b"\n", &*error].concat()).into_owned();
        match ended {
            Ok(Ok(status)) if status.code() == Some(NOT_THERE) => Ended::Absent,
            Ok(_) => Ended::Said(said),
            Err(_) => {
                // It may have ended by itself meanwhile, which is as well.
                let _ = child.kill().await;
                Ended::Late(said)
            }
        }
    }
}

enum Ended {
    Absent,
    Late(String),
    Said(String),
}

async fn read(stream: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    if let Some(stream) = stream {
        // What cannot be read was not said.
        let _ = stream.take(LARGEST_OUTPUT_BYTES).read_to_end(into).await;
    }
}

/// Whether the program got our answer to exactly this question.
fn saw(said: &str, url: &str) -> bool {
    let path = url.split_once(PROBE_AUTHORITY).map_or(url, |(_, path)| path);
    said.contains(&format!("{PROBE_MARK} {path}"))
}

/// Whether the program tried to reach the probed host itself.
fn goes_around(said: &str) -> bool {
    let (host, port) = PROBE_AUTHORITY.split_once(':').unwrap_or((PROBE_AUTHORITY, ""));
    said.contains(AROUND)
        || said.contains(&format!("{host} port {port}"))
        || said.contains(&format!("127.0.0.1 port {port}"))
}

/// What went wrong, in the program's words.
fn last_line(said: &str) -> &str {
    said.lines().rfind(|line| !line.trim().is_empty()).map_or("it said nothing", str::trim)
}

/// What the proxy counted.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
struct Counts {
    tunnels: u64,
    refused: u64,
}

enum Unanswered {
    /// Nobody listens.
    Nobody,
    /// It wants another credential.
    Refused,
    /// Whoever listens does not know the question.
    Stranger,
}

/// Asks the proxy what it counted.
async fn ask(proxy: &UpstreamProxy) -> Result<Counts, Unanswered> {
    let at = proxy.authority().to_string();
    let asking = async {
        let mut stream = TcpStream::connect(&at).await.map_err(|_| Unanswered::Nobody)?;
        let mut question =
            format!("GET http://{PROBE_HOST}/ HTTP/1.1\r\nHost: {PROBE_HOST}\r\nConnection: close\r\n");
        if let Some(value) = proxy.authorization() {
            question.push_str(&format!("Proxy-Authorization: {}\r\n", value.expose()));
        }
        question.push_str("\r\n");
        let stranger = |_| Unanswered::Stranger;
        stream.write_all(question.as_bytes()).await.map_err(stranger)?;
        let mut answer = Vec::new();
        stream.take(LARGEST_OUTPUT_BYTES).read_to_end(&mut answer).await.map_err(stranger)?;
        let answer = String::from_utf8_lossy(&answer);
        if answer.starts_with("HTTP/1.1 407") {
            return Err(Unanswered::Refused);
        }
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).map_err(|_| Unanswered::Stranger)
    };
    timeout(PROXY_PATIENCE, asking).await.unwrap_or(Err(Unanswered::Stranger))
}

/// Stands for what is asked for.
const URL: &str = "{url}";
/// What the programs say when they would have resolved the name themselves.
const AROUND: &str = "plainsight-around";
/// What a program ends with when its runtime lacks what is tried.
const NOT_THERE: i32 = 77;
const NODE_SWITCH: &str = "NODE_USE_ENV_PROXY";
const CLIENT: &str = "the client";

const RUNTIMES: [Runtime; 5] = [
    Runtime {
        name: "curl",
        program: "curl",
        mark: "curl",
        // Without a proxy the name leads to a port of this machine on which nobody listens.
        arguments: &["-sS", "--max-time", "8", "--resolve", "api.anthropic.com:44788:127.0.0.1", URL],
        roots: "CURL_CA_BUNDLE",
    },
    Runtime {
        name: "Node: fetch",
        program: "node",
        mark: "fetch",
        arguments: &["-e", include_str!("probe/node.cjs"), "--", "fetch", URL],
        roots: "NODE_EXTRA_CA_CERTS",
    },
    Runtime {
        name: "Node: https",
        program: "node",
        mark: "https",
        arguments: &["-e", include_str!("probe/node.cjs"), "--", "https", URL],
        roots: "NODE_EXTRA_CA_CERTS",
    },
    Runtime {
        name: "Python: urllib",
        program: "python3",
        mark: "urllib",
        arguments: &["-c", include_str!("probe/python.py"), "urllib", URL],
        roots: "SSL_CERT_FILE",
    },
    Runtime {
        name: "Python: requests",
        program: "python3",
        mark: "requests",
        arguments: &["-c", include_str!("probe/python.py"), "requests", URL],
        roots: "REQUESTS_CA_BUNDLE",
    },
];

/// What the client must not be given: its user's credentials, other services, and exporters.
const LEFT_OUT: [&str; 9] = [
    "ANTHROPIC_",
    "AWS_",
    "CLAUDE_CODE_ENABLE_",
    "CLAUDE_CODE_ENHANCED_",
    "CLAUDE_CODE_OAUTH_",
    "CLAUDE_CODE_SKIP_",
    "CLAUDE_CODE_USE_",
    "OTEL_",
    "VERTEX_",
];

/// What keeps the client from sending anything but the one prompt. The key is invented.
const QUIET: [(&str, &str); 8] = [
    ("ANTHROPIC_API_KEY", "plainsight-doctor-no-key"),
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("CLAUDE_CODE_MAX_RETRIES", "0"),
    ("DISABLE_AUTOUPDATER", "1"),
    ("DISABLE_ERROR_REPORTING", "1"),
    ("DISABLE_TELEMETRY", "1"),
    ("DO_NOT_TRACK", "1"),
    ("TERM", "dumb"),
];

/// Clients before it send metrics whatever they are told (FACTS: 2.0.14).
const FIRST_QUIET_CLIENT: ClientVersion = ClientVersion { major: 2, minor: 1, patch: 0 };

/// Where a proxy of ours that is to reach nobody dials: port 1 of this machine.
const NOBODY: &str = "::127.0.0.1:1";

/// The probe's own CA ends with it anyway.
const CA_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Each starts within a second, also on a loaded machine, and everything that it asks is on this machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// The client takes two to three seconds to start.
const CLIENT_PATIENCE: Duration = Duration::from_secs(25);
/// A proxy of this machine answers at once.
const PROXY_PATIENCE: Duration = Duration::from_secs(2);
/// An answer, or a traceback.
const LARGEST_OUTPUT_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests;
