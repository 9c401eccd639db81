//! Puts the rooms together: settings in, a running proxy with its store out.

use std::{
    fs,
    net::SocketAddr,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::RootCertStore;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    audit::{self, Reader, RunNote, RunWriter, Store},
    ca::{CertificateAuthority, LeafCache},
    claude::{Environment, Platform, UpstreamProxies},
    cli::{
        exit::Failure,
        live::{self, Notices, Watched, Watching},
        output::now_ms,
    },
    compliance::{Claims, Controls, DestinationHosts},
    config::{self, AuditSync, Env, Roots, Settings},
    destination::{self, Catalogue, Events},
    inspect::{self, Inspector, Known},
    model::{
        AuthorityPattern, DestinationKind, EffectiveSwitches, PatternReach, RunClosing, RunId, RunOpening,
        Secret, Watch, nearest,
    },
    policy::{Names, PROFILES, Policy},
    proxy::{
        Answers, Entrance, Inspection, Limits, LiveInspector, Proxy, ProxyConfig, ReceiverConfig, Services,
    },
    report::Summary,
    rules::{self, KnownValue, RuleSet, Source},
};
#[cfg(target_os = "linux")]
use crate::{confine, proxy::Confinement};

/// Leaves kept at once. A session talks to a dozen intercepted hosts; each leaf takes about 2 KiB.
const LEAF_CACHE_CAPACITY: usize = 512;

/// What differs between `run`, `proxy` and `demo`.
pub(super) struct Plan {
    /// `run`, `proxy` or `demo`.
    pub(super) mode: &'static str,
    /// The program that is run, its name only.
    pub(super) program: Option<String>,
    /// Where to listen.
    pub(super) listen: SocketAddr,
    /// Receivers for OpenTelemetry.
    pub(super) receivers: Vec<ReceiverConfig>,
    /// `user:password` that every client must present.
    pub(super) credential: Option<Secret<String>>,
    /// Of a confined program: which addresses it may reach without a name.
    pub(super) named_only: Option<Vec<AuthorityPattern>>,
    /// Hosts to decrypt besides the catalogue's.
    pub(super) intercepted: Vec<AuthorityPattern>,
    /// The CA for intercepted hosts.
    pub(super) ca: Arc<CertificateAuthority>,
    /// Whether notices wait until the end, because a program has the terminal.
    pub(super) holds_notices: bool,
    /// Roots to trust upstream.
    pub(super) roots: RootCertStore,
    /// What this machine knows of its user; looked for, and kept in memory only.
    pub(super) known: Vec<KnownValue>,
    /// The proxies that we are behind ourselves.
    pub(super) upstream: UpstreamProxies,
    /// Whether connections around the proxy can be seen; `None` where there is no program of ours.
    pub(super) watch: Option<Watch>,
    /// What the audited client was told, if it is known.
    pub(super) told: Option<EffectiveSwitches>,
}

/// A running proxy and its run in the store.
pub(super) struct Engine {
    pub(super) address: SocketAddr,
    /// Where each of [`Plan::receivers`] listens.
    pub(super) receivers: Vec<SocketAddr>,
    watching: Watching,
    run: RunWriter,
    store: Arc<Store>,
    new_since_ms: Option<i64>,
    data_dir: PathBuf,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    entrance: Entrance,
    #[cfg(target_os = "linux")]
    confinement: Option<Confinement>,
}

impl Engine {
    /// Opens the store, begins a run, and listens.
    pub(super) async fn start(settings: &Settings, plan: Plan) -> Result<Self, Failure> {
        if let Some(proxy) = plan.upstream.over_tls() {
            return Err(Failure(format!(
                "the proxy that is set already, {}, wants TLS; plainsight can only stand in front of an `http://` proxy",
                proxy.authority()
            )));
        }
        let named_addresses = plan
            .intercepted
            .iter()
            .filter_map(|pattern| match pattern.reach() {
                PatternReach::Address(address) => Some(address),
                PatternReach::Names(_) | PatternReach::Unbounded => None,
            })
            .collect();
        let store = Arc::new(store(settings)?);
        let baseline =
            store.baseline().map_err(|error| Failure::new("reading what earlier runs have seen", error))?;
        let watched = Watched::read(settings)?;
        let known = Arc::new(plan.known);
        let rules = rules(settings)?.with_known(&known);
        let policy = policy(settings, &rules)?;
        let inspector = Inspector::new(
            Catalogue::embedded(),
            plan.intercepted,
            rules,
            policy,
            store.fingerprint_key(),
            inspect::Options { capture: settings.capture, ..inspect::Options::default() },
        )
        .with_known(Known::new(Events::embedded(), baseline.seen));
        let run = store
            .begin_run(&RunOpening {
                time_ms: now_ms(),
                mode: plan.mode.into(),
                program: plan.program.map(Into::into),
                version: env!("CARGO_PKG_VERSION").into(),
                policy_hash: inspector.policy().hash().into(),
                rules_hash: inspector.rules().hash().into(),
                watch: plan.watch,
            })
            .map_err(|error| Failure::new("the audit log cannot be written to", error))?;
        if let Some(told) = &plan.told {
            store
                .record_told(run.id(), told)
                .map_err(|error| Failure::new("the audit log cannot be written to", error))?;
        }
        let config = ProxyConfig {
            credential: plan.credential,
            connect_to: settings.connect_to.clone(),
            receivers: plan.receivers,
            answers: Some(Arc::clone(&store) as Arc<dyn Answers>),
            upstream: plan.upstream,
            named_addresses,
            named_only: plan.named_only,
            limits: Limits { body: settings.body_limit, ..Limits::default() },
            ..ProxyConfig::new(plan.listen, plan.roots)
        };
        let inspection = Arc::new(LiveInspector::new(inspector));
        let services = Services {
            inspection: Arc::clone(&inspection) as Arc<dyn Inspection>,
            audit: Arc::new(run.writer()),
            leaves: Arc::new(LeafCache::new(plan.ca, LEAF_CACHE_CAPACITY)),
        };
        let proxy = Proxy::bind(config, services).await.map_err(|error| Failure(error.to_string()))?;
        let (address, receivers) = (proxy.local_addr(), proxy.receiver_addrs());
        let entrance = proxy.entrance();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(proxy.serve(async {
            // An engine that was dropped stops the proxy as well.
            _ = stopped.await;
        }));
        let watching = live::watch(
            settings.clone(),
            watched,
            known,
            inspection,
            Notices::new(plan.holds_notices, &store, run.id()),
        );
        Ok(Self {
            address,
            receivers,
            watching,
            run,
            store,
            new_since_ms: baseline.since_ms,
            data_dir: settings.data_dir.clone(),
            stop,
            serving,
            entrance,
            #[cfg(target_os = "linux")]
            confinement: None,
        })
    }

    /// The run's number.
    pub(super) fn run(&self) -> RunId {
        self.run.id()
    }

    /// Another way into the proxy than its port.
    pub(super) fn entrance(&self) -> Entrance {
        self.entrance.clone()
    }

    /// Serves what leaves a namespace, from now on until the end.
    #[cfg(target_os = "linux")]
    pub(super) fn confine(&mut self, devices: confine::Devices) -> Result<(), Failure> {
        let confinement = Confinement::start(devices, self.entrance())
            .map_err(|error| Failure::new("--confine: serving the namespace", error))?;
        self.confinement = Some(confinement);
        Ok(())
    }

    /// Keeps what the audited client was told with the run.
    pub(super) fn record_told(&self, told: &EffectiveSwitches) -> Result<(), Failure> {
        self.store
            .record_told(self.run.id(), told)
            .map_err(|error| Failure::new("the audit log cannot be written to", error))
    }

    /// Drains what is under way, closes the records, and says what happened.
    pub(super) async fn finish(self, exit_code: Option<i32>) -> Result<Summary, Failure> {
        let id = self.run.id();
        self.watching.end();
        _ = self.stop.send(());
        self.serving.await.map_err(|_| Failure("the proxy ended badly; this is a bug".to_owned()))?;
        #[cfg(target_os = "linux")]
        if let Some(confinement) = self.confinement {
            confinement.finish().await;
        }
        let lost = self.run.writer().lost();
        if lost > 0 {
            // Who reads the log later has to know, too.
            if let Err(error) = self.store.note(id, &RunNote::of_lost(now_ms(), lost)) {
                tracing::warn!(%error, "that records were lost could not be written down");
            }
        }
        let closing = RunClosing { time_ms: now_ms(), exit_code };
        let run = self.run;
        let head = tokio::task::spawn_blocking(move || run.finish(closing))
            .await
            .map_err(|_| Failure("the audit log ended badly; this is a bug".to_owned()))?
            .map_err(|error| Failure::new("closing the audit log", error))?;
        let summary =
            summary(&self.data_dir, id, lost)?.new_since(self.new_since_ms).sealed(&head.hash.to_string());
        // Known from now on. A run that is killed does not get here: what it saw is new again in the next one.
        let news = summary.news().map(|(kind, name, _)| (kind, name));
        self.store
            .extend_baseline(id, now_ms(), news)
            .map_err(|error| Failure::new("writing down what is new", error))?;
        Ok(summary)
    }
}

fn summary(data_dir: &Path, run: RunId, lost: u64) -> Result<Summary, Failure> {
    let failed = |error| Failure::new("reading the log", error);
    let reader = Reader::open(data_dir).map_err(failed)?;
    let filter =
        audit::Filter { run: Some(run), order: audit::Order::OldestFirst, ..audit::Filter::default() };
    let mut summary = Summary::default().of_run(run).with_lost(lost);
    reader
        .visit(&filter, |flow| {
            summary.add(&flow);
            ControlFlow::Continue(())
        })
        .map_err(failed)?;
    Ok(summary)
}

/// The store in the data folder.
pub(super) fn store(settings: &Settings) -> Result<Store, Failure> {
    let sync = match settings.audit_sync {
        AuditSync::Full => audit::Sync::Full,
        AuditSync::Normal => audit::Sync::Normal,
    };
    Store::open(&settings.data_dir, audit::Options { sync })
        .map_err(|error| Failure::new("opening the audit log", error))
}

/// The store in the data folder, for reading.
pub(super) fn reader(settings: &Settings) -> Result<Reader, Failure> {
    Reader::open(&settings.data_dir).map_err(|error| Failure::new("opening the audit log", error))
}

/// The built-in rules and the user's.
pub(super) fn rules(settings: &Settings) -> Result<RuleSet, Failure> {
    let mut sources = rules::embedded();
    if let Some(folder) = &settings.rules_dir {
        let added = rule_files(folder)
            .map_err(|error| Failure::new(&format!("--rules {}", folder.display()), error))?;
        if added.is_empty() {
            return Err(Failure(format!("--rules {}: there is no *.toml file in it", folder.display())));
        }
        sources.extend(added);
    }
    // An allow list's last day is the user's day.
    let today = jiff::Zoned::now().date().to_string();
    let rules = RuleSet::from_sources_at(&sources, &today)
        .map_err(|error| Failure::new("the rules cannot be used", error))?;
    let catalogue = Catalogue::embedded();
    for rule in rules.rules() {
        if let Some(unknown) = rule.destinations.iter().find(|id| catalogue.row(id).is_none()) {
            let names = catalogue.rows().iter().map(|row| row.destination.id.as_str());
            let near = names.max_by(|a, b| strsim::jaro(a, unknown).total_cmp(&strsim::jaro(b, unknown)));
            return Err(Failure(format!(
                "the rules cannot be used: {}: rule `{}`: there is no destination `{unknown}`; did you mean `{}`?",
                rule.place,
                rule.id,
                near.unwrap_or_default()
            )));
        }
    }
    Ok(rules)
}

pub(super) fn rule_files(folder: &Path) -> std::io::Result<Vec<Source>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths
        .into_iter()
        .map(|path| Ok(Source { name: path.display().to_string(), text: fs::read_to_string(&path)? }))
        .collect()
}

/// What this machine knows of its user, with the variables that the audited program has.
pub(super) fn known(environment: &Env, variables: &Environment) -> Vec<KnownValue> {
    let folder = std::env::current_dir().unwrap_or_default();
    config::known_values(environment, variables, &folder, Platform::current())
}

/// The built-in promises.
pub(super) fn controls() -> Result<Controls, Failure> {
    let catalogue = Catalogue::embedded();
    Controls::embedded(destinations(&catalogue)).map_err(|error| Failure(error.to_string()))
}

/// The built-in promises and claims, and where destinations are.
pub(super) fn compliance() -> Result<(Controls, Claims, Vec<DestinationHosts>), Failure> {
    let catalogue = Catalogue::embedded();
    let controls = controls()?;
    let claims = Claims::embedded(&controls, destinations(&catalogue));
    let claims = claims.map_err(|error| Failure(error.to_string()))?;
    let places = catalogue.rows().iter().map(|row| DestinationHosts {
        id: row.destination.id.clone(),
        kind: row.destination.kind,
        hosts: row.hosts().to_vec(),
    });
    Ok((controls, claims, places.collect()))
}

/// Every destination that can be named, also the one that no row of the catalogue has.
fn destinations(catalogue: &Catalogue) -> impl Iterator<Item = &str> {
    let rows = catalogue.rows().iter().map(|row| row.destination.id.as_str());
    rows.chain([DestinationKind::ThirdParty.as_str()])
}

/// The policy in force: a profile by its name, a file, or the built-in one. Each name in it must be of something.
pub(super) fn policy(settings: &Settings, rules: &RuleSet) -> Result<Policy, Failure> {
    let (name, text) = policy_text(settings.policy.as_deref())?;
    checked_policy(&name, &text, rules)
}

/// Reads a policy, in which each name must be of something.
pub(super) fn checked_policy(name: &str, text: &str, rules: &RuleSet) -> Result<Policy, Failure> {
    let failed = |error: String| Failure::new("the policy cannot be used", error);
    let policy = Policy::from_toml(name, text).map_err(|error| failed(error.to_string()))?;
    match policy.unknown_names(&names(&Catalogue::embedded(), rules)).first() {
        Some(lint) => Err(failed(lint.to_string())),
        None => Ok(policy),
    }
}

/// The name of a policy for messages, and its text.
pub(super) fn policy_text(policy: Option<&Path>) -> Result<(String, String), Failure> {
    let path = policy.unwrap_or(Path::new(PROFILES[0].name));
    if let Some(profile) = PROFILES.iter().find(|profile| path == Path::new(profile.name)) {
        return Ok((profile.file.to_owned(), profile.text.to_owned()));
    }
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => Ok((name, text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let known = PROFILES.iter().map(|profile| profile.name);
            let meant = match nearest(&name, known.clone()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("profiles are {}", known.collect::<Vec<_>>().join(", ")),
            };
            Err(Failure(format!("--policy {name}: there is no such profile or file; {meant}")))
        }
        Err(error) => Err(Failure::new(&format!("--policy {name}"), error)),
    }
}

/// What a policy may refer to.
pub(super) fn names<'n>(catalogue: &'n Catalogue, rules: &'n RuleSet) -> Names<'n> {
    let destination = |row: &'n destination::Row| (row.destination.id.as_str(), row.destination.kind);
    Names {
        destinations: catalogue.rows().iter().map(destination).collect(),
        rules: rules.rules().iter().map(|rule| (rule.id.as_str(), &*rule.category, rule.severity)).collect(),
    }
}

/// The operating system's roots and the user's own, to check upstream servers against.
pub(super) fn roots(settings: &Settings, system: &Roots) -> Result<RootCertStore, Failure> {
    for problem in &system.problems {
        tracing::warn!(problem, "a part of the system's roots cannot be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system.certificates.iter().cloned());
    if let Some(path) = &settings.upstream_ca {
        let name = format!("--upstream-ca {}", path.display());
        for certificate in
            config::upstream_roots(path).map_err(|error| Failure::new("--upstream-ca", error))?
        {
            roots.add(certificate).map_err(|error| Failure::new(&name, error))?;
        }
    }
    if roots.is_empty() {
        return Err(Failure(
            "there are no roots to trust upstream; name a PEM file with --upstream-ca".to_owned(),
        ));
    }
    Ok(roots)
}

/// A runtime for the proxy.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("starting the runtime", error))
}

/// 128 random bits as hex: a proxy password.
pub(super) fn random_token() -> Result<String, Failure> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| Failure::new("no random numbers", error))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
