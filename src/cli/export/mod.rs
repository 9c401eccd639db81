mod client;
mod cursor;

use std::{
    fs::{self, File},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{
    audit::{Fact, Reader, Store},
    claude::otlp_collector,
    cli::{
        args::{Export, ExportOtlp, ExportProtocol},
        engine,
        exit::{Exit, Failure},
        output::now_ms,
    },
    config::{self, Env, Settings},
    report::OtlpLogs,
};

use client::{Collector, Delivery, Protocol};
use cursor::Cursor;

pub(super) fn execute(command: &Export, settings: &Settings, environment: &Env) -> Result<Exit, Failure> {
    let Export::Otlp(command) = command;
    engine::runtime()?.block_on(export(command, settings, environment))
}

async fn export(command: &ExportOtlp, settings: &Settings, environment: &Env) -> Result<Exit, Failure> {
    let store = engine::store(settings)?;
    let mut shipment = Shipment::new(command, settings, environment, store)?;
    let stop = stop_signal()?;
    let ended = shipment.run(command.follow, stop).await;
    let Shipment { delivered, rejected, .. } = shipment;
    eprintln!(
        "plainsight: {delivered} records delivered{}",
        match rejected {
            0 => String::new(),
            rejected => format!(", {rejected} of them rejected by the collector"),
        }
    );
    ended
}

/// Records on their way to one endpoint.
struct Shipment {
    collector: Collector,
    store: Store,
    reader: Reader,
    instance: String,
    /// The name under which the cursor is kept.
    name: String,
    cursor: Cursor,
    saved_ms: i64,
    delivered: u64,
    rejected: u64,
    /// Held until the end: two exports to one endpoint would send everything twice.
    _lock: File,
}

impl Shipment {
    fn new(
        command: &ExportOtlp,
        settings: &Settings,
        environment: &Env,
        store: Store,
    ) -> Result<Self, Failure> {
        let endpoint = command.endpoint.trim();
        let (found, path) =
            otlp_collector(environment.variables(), Some("logs"), endpoint).ok_or_else(|| {
                Failure(format!("--endpoint {endpoint}: no URL, such as https://collector.example:4318"))
            })?;
        let protocol = match command.protocol {
            ExportProtocol::Grpc => Protocol::Grpc,
            ExportProtocol::HttpJson => Protocol::HttpJson,
            ExportProtocol::HttpProtobuf => Protocol::HttpProtobuf,
        };
        let roots = engine::roots(settings, &config::system_roots())?;
        let headers = headers(&command.header)?;
        let collector = Collector::new(found.scheme, found.authority, &path, protocol, headers, roots)?;
        let name =
            format!("export {}://{}{}", collector.scheme.as_str(), collector.authority, collector.target);
        let key = store.fingerprint_key();
        let lock = lock(settings, &key.fingerprint(name.as_bytes()).to_string(), endpoint)?;
        let reader = engine::reader(settings)?;
        let fact =
            reader.fact(&name).map_err(|error| Failure::new("reading how far the export came", error))?;
        let cursor = match &fact {
            Some(fact) => serde_json::from_str(&fact.value)
                .map_err(|error| Failure::new("how far the export came cannot be read", error))?,
            None => Cursor::default(),
        };
        Ok(Self {
            collector,
            instance: key.fingerprint(b"plainsight installation").to_string(),
            store,
            reader,
            name,
            cursor,
            saved_ms: fact.map_or(0, |fact| fact.time_ms),
            delivered: 0,
            rejected: 0,
            _lock: lock,
        })
    }

    /// Delivers what there is; with `follow` also what comes, until `stop`.
    async fn run(&mut self, follow: bool, mut stop: watch::Receiver<bool>) -> Result<Exit, Failure> {
        let mut limit = BATCH;
        while !*stop.borrow() {
            let (batch, after) = self
                .cursor
                .next(&self.reader, limit, now_ms())
                .map_err(|error| Failure::new("reading the log", error))?;
            if batch.is_empty() {
                self.save(after)?;
                if !follow {
                    return Ok(Exit::Success);
                }
                // Ends early if it is to stop.
                _ = timeout(POLL, stop.changed()).await;
                continue;
            }
            let logs = OtlpLogs::new(&self.instance, &batch);
            match self.deliver(&logs, follow, &mut stop).await? {
                Delivered::Yes => {
                    self.delivered += batch.len() as u64;
                    self.save(after)?;
                    limit = (limit * 2).min(BATCH);
                }
                Delivered::TooLarge if limit > 1 => limit = batch.len().div_ceil(2).min(limit / 2).max(1),
                Delivered::TooLarge => {
                    return Err(Failure(format!(
                        "the collector does not take record {}: it is too large",
                        batch[0].opening.id
                    )));
                }
                Delivered::Stopped => break,
            }
        }
        Ok(Exit::Success)
    }

    /// Tries until it is delivered. What is under way when we are to stop is waited for: whether it arrived would not be
    /// known otherwise.
    async fn deliver(
        &mut self,
        logs: &OtlpLogs,
        follow: bool,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Delivered, Failure> {
        let since = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.collector.send(logs).await {
                Delivery::Accepted { rejected, why } => {
                    if rejected > 0 {
                        self.rejected += rejected;
                        let why = crate::report::sanitize(&why);
                        eprintln!(
                            "plainsight: the collector rejected {rejected} records, which it does not want again: {why}"
                        );
                    }
                    return Ok(Delivered::Yes);
                }
                Delivery::Refused(why) => {
                    let why = crate::report::sanitize(&why);
                    return Err(Failure(format!(
                        "{} does not take the records: {why}",
                        self.collector.authority
                    )));
                }
                Delivery::TooLarge => return Ok(Delivered::TooLarge),
                Delivery::TryAgain(why, after) => {
                    let why = crate::report::sanitize(&why);
                    if !follow && since.elapsed() > PATIENCE {
                        return Err(Failure(format!(
                            "given up after {} minutes: {why}",
                            PATIENCE.as_secs() / 60
                        )));
                    }
                    tracing::info!(%why, "trying again");
                    let wait = after.unwrap_or(pause).min(LONGEST_PAUSE);
                    tokio::select! {
                        () = sleep(wait) => {}
                        _ = stop.changed() => return Ok(Delivered::Stopped),
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Keeps how far it came. The clock may have been set back; the cursor never is.
    fn save(&mut self, cursor: Cursor) -> Result<(), Failure> {
        if cursor == self.cursor {
            return Ok(());
        }
        self.cursor = cursor;
        self.saved_ms = now_ms().max(self.saved_ms);
        let value = serde_json::to_string(&self.cursor)
            .map_err(|error| Failure::new("writing down how far the export came", error))?;
        self.store
            .keep_fact(&self.name, &Fact { time_ms: self.saved_ms, value })
            .map_err(|error| Failure::new("writing down how far the export came", error))
    }
}

enum Delivered {
    Stopped,
    TooLarge,
    Yes,
}

/// `name=value` or `name: value`.
fn headers(words: &[String]) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for word in words {
        // What is wrong is not repeated: it is often a credential.
        let wrong = || Failure("--header wants NAME=VALUE".to_owned());
        let (name, value) = word.split_once(['=', ':']).ok_or_else(wrong)?;
        let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

fn lock(settings: &Settings, name: &str, endpoint: &str) -> Result<File, Failure> {
    let path = settings.data_dir.join(format!("export-{name}.lock"));
    let failed = |error: std::io::Error| Failure::new(&path.display().to_string(), error);
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(Failure(format!("another export to {endpoint} is running; both would send everything twice")))
        }
        Err(fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Becomes true with the first signal to end; the second ends at once, as it would without us.
fn stop_signal() -> Result<watch::Receiver<bool>, Failure> {
    let (stop, stopping) = watch::channel(false);
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|error| Failure::new("waiting for signals", error))?;
    tokio::spawn(async move {
        for number in 1.. {
            #[cfg(unix)]
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            #[cfg(not(unix))]
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            if number > 1 {
                std::process::exit(130);
            }
            _ = stop.send(true);
        }
    });
    Ok(stopping)
}

/// Records in one request: with a hundred findings each this stays under collectors' usual 4 MiB.
const BATCH: usize = 100;
/// How often the log is looked at for more.
const POLL: Duration = Duration::from_secs(1);
/// Before the second attempt; doubled for each one after.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long an export that is to end tries to deliver one request.
const PATIENCE: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_fields_are_read_and_what_is_wrong_is_not_repeated() {
        let words = |text: &str| headers(&[text.to_owned()]);

        assert_eq!(words("Authorization=Basic eDp5==").unwrap()["authorization"], "Basic eDp5==");
        assert_eq!(words("X-Scope: a").unwrap()["x-scope"], "a");
        assert!(!words("geheim").unwrap_err().to_string().contains("geheim"));
    }
}
