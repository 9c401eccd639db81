//! `plainsight demo`: recorded telemetry through the real engine, to an origin of our own on loopback.

mod client;
mod origin;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Deserialize;

use crate::{
    ca::{CertificateAuthority, Scope},
    claude::UpstreamProxies,
    cli::{
        args::Demo,
        engine::{self, Engine, Plan},
        exit::{Exit, Failure},
        output::{self, Terminal},
    },
    config::Settings,
    destination::Catalogue,
    model::{AuthorityPattern, ConnectTo, RunId},
    report,
};

use client::Client;
use origin::Origin;

/// The recording, made by `tests/tools/make_demo_recording.py`. Its account is invented.
const RECORDING: &str = include_str!("recording.json");

/// What stands for a credential in the recording.
const TOKEN_MARK: &str = "{{token}}";

/// One recorded request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recorded {
    pub(super) method: String,
    pub(super) authority: String,
    pub(super) target: String,
    pub(super) version: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

/// The record that is worth a look first: the larger event batch.
const SHOWN: u32 = 6;

/// How long the demo's CA is valid. It ends with the process anyway.
const CA_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The host of the recording that stands for everything that is not intercepted.
const TUNNELLED: &str = "downloads.claude.ai:443";

pub(super) fn execute(
    command: &Demo,
    settings: Settings,
    named_folder: Option<&Path>,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    engine::runtime()?.block_on(demo(command, settings, named_folder, terminal))
}

async fn demo(
    command: &Demo,
    settings: Settings,
    named_folder: Option<&Path>,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let recorded = recording()?;
    let origin = Origin::start(host_names(&recorded)).await?;
    let to_origin = ConnectTo::parse(&format!("::{}:{}", origin.address.ip(), origin.address.port()))
        .map_err(|error| Failure::new("the demo's own origin", error))?;
    let intercepted = collectors(&recorded)?;
    let settings = Settings { connect_to: vec![to_origin], ..settings };
    let scope = Scope::from_patterns(Catalogue::embedded().intercepted().chain(&intercepted));
    let ca = CertificateAuthority::generate(scope, SystemTime::now(), CA_LIFETIME)
        .map_err(|error| Failure::new("making a certificate authority", error))?;
    let trusted = |certificates: &[&rustls::pki_types::CertificateDer<'static>]| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().map(|certificate| (*certificate).clone()));
        roots
    };
    let client_roots = trusted(&[ca.certificate(), &origin.certificate]);
    let engine = Engine::start(
        &settings,
        Plan {
            mode: "demo",
            program: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            holds_notices: false,
            credential: None,
            named_only: None,
            receivers: Vec::new(),
            intercepted,
            ca: Arc::new(ca),
            roots: trusted(&[&origin.certificate]),
            // The recording is nobody's: what it shows is the same on every machine.
            known: Vec::new(),
            upstream: UpstreamProxies::default(),
            watch: None,
            told: None,
        },
    )
    .await?;
    eprintln!("Replaying {} recorded requests through the proxy at {} …\n", recorded.len(), engine.address);
    let client = Client::new(engine.address, client_roots);
    for request in recorded.iter() {
        client.send(request).await?;
    }
    let run = engine.run();
    let summary = engine.finish(None).await?;
    if let Some(path) = &command.json {
        let text = format!("{:#}\n", summary.to_json());
        std::fs::write(path, text)
            .map_err(|error| Failure::new(&format!("--json {}", path.display()), error))?;
    }
    output::print(&report::screen(&summary, &terminal.view()))?;
    output::print(&next_steps(run, named_folder))?;
    Ok(Exit::Success)
}

/// What to type next, as it has to be typed here.
fn next_steps(run: RunId, data_dir: Option<&Path>) -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    let mut program = program.display().to_string();
    if let Some(folder) = data_dir {
        program = format!("{program} --data-dir {}", folder.display());
    }
    format!(
        "\nThat was a recording with an invented account. Look further with:\n  {program} log --run {run}\n  {program} show {run}-{SHOWN}\n"
    )
}

/// Every host of the recording, without ports.
fn host_names(recorded: &[Recorded]) -> Vec<String> {
    let mut names: Vec<String> = recorded
        .iter()
        .map(|request| request.authority.as_str())
        .filter_map(|authority| authority.rsplit_once(':'))
        .map(|(host, _)| host.to_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The hosts of the recording that the catalogue does not decrypt by itself, but for the one that shows a tunnel.
fn collectors(recorded: &[Recorded]) -> Result<Vec<AuthorityPattern>, Failure> {
    let catalogue = Catalogue::embedded();
    let mut patterns = Vec::new();
    for request in recorded.iter().filter(|request| request.authority != TUNNELLED) {
        let pattern = AuthorityPattern::parse(&request.authority)
            .map_err(|error| Failure::new("the embedded recording", error))?;
        let known = catalogue.intercepted().any(|host| request.authority.starts_with(&host.to_string()));
        if !known && !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    Ok(patterns)
}

/// The recorded requests, with an invented credential wherever the client sent a real one.
pub(super) fn recording() -> Result<Arc<[Recorded]>, Failure> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| Failure::new("no random numbers", error))?;
    let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let recorded: Vec<Recorded> = serde_json::from_str(RECORDING).expect("the recording is read in a test");
    let with_token = |text: String| text.replace(TOKEN_MARK, &format!("demo-{token}"));
    Ok(recorded
        .into_iter()
        .map(|request| Recorded {
            target: with_token(request.target),
            headers: request.headers.into_iter().map(|(name, value)| (name, with_token(value))).collect(),
            ..request
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recording_is_read_and_its_credentials_are_invented() {
        let recorded = recording().unwrap();

        assert!(recorded.iter().any(|request| request.version == "2"));
        assert!(RECORDING.contains(TOKEN_MARK));
        for request in recorded.iter() {
            let head = format!("{} {:?}", request.target, request.headers);
            assert!(!head.contains(TOKEN_MARK), "{head}");
            assert!(!head.contains("sk-ant-"), "{head}");
        }
    }
}
