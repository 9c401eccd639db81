//! What is measured: no proxy, or a proxy in a process of its own, with a fresh folder and a fresh CA.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{Failure, client::Route};

/// One column of the table.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// No proxy at all.
    Direct,
    /// hudsucker as shipped.
    Hudsucker,
    /// hudsucker with `TCP_NODELAY` on both sides.
    HudsuckerNoDelay,
    /// The product, with decoding, rules and durable audit on.
    Plainsight,
    /// A bare rustls relay.
    Relay,
}

impl Subject {
    /// In the order of the table.
    pub const ALL: [Self; 5] =
        [Self::Direct, Self::Relay, Self::Hudsucker, Self::HudsuckerNoDelay, Self::Plainsight];

    /// The column's heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Hudsucker => "hudsucker as shipped",
            Self::HudsuckerNoDelay => "hudsucker + NODELAY",
            Self::Plainsight => "plainsight",
            Self::Relay => "bare relay",
        }
    }
}

/// What a subject is started with.
pub struct Setup {
    /// The CA that signed the origin.
    pub origin_ca: PathBuf,
    /// The built product, if there is one.
    pub plainsight: Option<PathBuf>,
}

/// A subject that can be reached. Its process, if it has one, ends with this value.
pub struct Running {
    folder: TempDir,
    posted: AtomicU64,
    process: Option<Child>,
    /// How to reach the origin by it.
    pub route: Route,
}

impl Running {
    /// Starts `subject` so that every name leads to `origin`.
    pub async fn start(subject: Subject, setup: &Setup, origin: SocketAddr) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        if subject == Subject::Direct {
            let route = Route::new(origin, false, &setup.origin_ca)?;
            return Ok(Self { folder, posted: AtomicU64::new(0), process: None, route });
        }
        let ca = folder.path().join("ca.pem");
        let mut command = match subject {
            Subject::Plainsight => plainsight(setup, origin, folder.path())?,
            peer => peer_command(peer, setup, origin, &ca)?,
        };
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let address = timeout(START_LIMIT, listening(&mut process)).await??;
        let ca = if subject == Subject::Plainsight { ca_path(setup, folder.path()).await? } else { ca };
        Ok(Self {
            route: Route::new(address, true, &ca)?,
            process: Some(process),
            posted: AtomicU64::new(0),
            folder,
        })
    }

    /// What the proxy's process has used so far; `None` when there is no process.
    pub fn usage(&self) -> Result<Option<Usage>, Failure> {
        self.process_id().map(Usage::read).transpose()
    }

    /// Forgets the peak of the proxy's memory, so that the next reading is of what follows.
    pub fn forget_peak(&self) -> Result<(), Failure> {
        if let Some(id) = self.process_id() {
            fs::write(format!("/proc/{id}/clear_refs"), "5")?;
        }
        Ok(())
    }

    /// Counts telemetry requests that were answered 200.
    pub fn posted(&self, count: u64) {
        self.posted.fetch_add(count, Ordering::Relaxed);
    }

    /// Reads the product's own log back: the proof that the requests counted were also decoded, scanned and recorded.
    ///
    /// # Errors
    /// When a telemetry request is missing, was not read, or nothing was found in it.
    pub async fn audited(&self, setup: &Setup) -> Result<String, Failure> {
        sleep(AUDIT_SETTLE).await;
        let path = setup.plainsight.as_ref().ok_or("there is no plainsight to ask")?;
        let mut log = Command::new(path)
            .args(["log", "--json", "--destination", "first-party-metrics", "--data-dir"])
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(log.stdout.take().ok_or("no standard output")?).lines();
        let (mut recorded, mut whole) = (0_u64, 0_u64);
        while let Some(line) = lines.next_line().await? {
            recorded += 1;
            let inspected = line.contains(r#""not_inspected":null"#) && !line.contains(r#""findings":[]"#);
            whole += u64::from(inspected && line.contains(r#""outcome":"forwarded""#));
        }
        let posted = self.posted.load(Ordering::Relaxed);
        let stored: u64 = fs::read_dir(self.folder.path())?
            .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
            .sum();
        if recorded != posted || whole != posted {
            return Err(format!(
                "{posted} telemetry requests were served; the log has {recorded}, of which {whole} are decoded, \
                 scanned, with findings and closed"
            )
            .into());
        }
        Ok(format!(
            "All {posted} telemetry requests of the first row are in plainsight's log, decoded, scanned, with findings \
             and closed ({} bytes in the data folder for each).",
            stored / posted.max(1)
        ))
    }

    fn process_id(&self) -> Option<u32> {
        self.process.as_ref().and_then(Child::id)
    }
}

/// What a process has used, as the kernel counts it.
pub struct Usage {
    /// Processor time in both modes.
    pub cpu: Duration,
    /// Largest resident memory since the last [`Running::forget_peak`], in KiB.
    pub peak_kib: f64,
    /// Resident memory in KiB.
    pub resident_kib: f64,
}

impl Usage {
    fn read(id: u32) -> Result<Self, Failure> {
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let kib = |name: &str| -> Result<f64, Failure> {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .ok_or("a line of status is missing")?;
            Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?)
        };
        let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
        let after_name = stat.rsplit_once(") ").ok_or("stat has no name")?.1;
        let ticks: u64 = after_name
            .split(' ')
            .skip(USER_TIME_FIELD)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Ok(Self {
            cpu: Duration::from_millis(ticks * TICK_MILLIS),
            peak_kib: kib("VmHWM")?,
            resident_kib: kib("VmRSS")?,
        })
    }
}

/// Says, as the product does, that a peer accepts connections.
pub fn announce(address: SocketAddr) {
    eprintln!("{LISTENING}{address}");
}

/// Ends when the harness has gone: nothing is ever written to a peer's standard input.
pub async fn standard_input_closed() {
    let mut input = tokio::io::stdin();
    let mut byte = [0; 1];
    while input.read(&mut byte).await.is_ok_and(|read| read > 0) {}
}

fn plainsight(setup: &Setup, origin: SocketAddr, folder: &Path) -> Result<Command, Failure> {
    let path = setup.plainsight.as_ref().ok_or("there is no plainsight to start")?;
    let mut command = Command::new(path);
    command.env_clear().env("HOME", folder).env("PATH", "/usr/bin:/bin");
    command.arg("--data-dir").arg(folder).arg("--upstream-ca").arg(&setup.origin_ca);
    command.args(["--connect-to", &format!("::{origin}"), "--intercept", "*.bench.test"]);
    command.args(["proxy", "--listen", "127.0.0.1:0"]);
    Ok(command)
}

fn peer_command(peer: Subject, setup: &Setup, origin: SocketAddr, ca: &Path) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(if peer == Subject::Relay { "peer-relay" } else { "peer-hudsucker" });
    command
        .args(["--origin", &origin.to_string(), "--origin-ca"])
        .arg(&setup.origin_ca)
        .arg("--ca-out")
        .arg(ca);
    if peer == Subject::HudsuckerNoDelay {
        command.arg("--no-delay");
    }
    Ok(command)
}

/// Waits for the line that says where the process listens, then keeps its standard error from filling up.
async fn listening(process: &mut Child) -> Result<SocketAddr, Failure> {
    let stderr = process.stderr.take().ok_or("no standard error")?;
    let (mut lines, mut said) = (BufReader::new(stderr).lines(), String::new());
    while let Some(line) = lines.next_line().await? {
        if let Some((_, address)) = line.split_once(LISTENING) {
            let address = address.trim().parse()?;
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(address);
        }
        said = line;
    }
    Err(format!("ended before it listened: {said}").into())
}

async fn ca_path(setup: &Setup, folder: &Path) -> Result<PathBuf, Failure> {
    let path = setup.plainsight.as_ref().ok_or("there is no plainsight to ask")?;
    let answer = Command::new(path).args(["ca", "path", "--data-dir"]).arg(folder).output().await?;
    if !answer.status.success() {
        return Err(format!("`ca path` failed: {}", String::from_utf8_lossy(&answer.stderr).trim()).into());
    }
    Ok(PathBuf::from(String::from_utf8(answer.stdout)?.trim()))
}

/// What a proxy says on standard error once it accepts.
const LISTENING: &str = "listening on http://";

/// How long the last records may take to be closed: those of requests that were answered just now.
const AUDIT_SETTLE: Duration = Duration::from_millis(500);

/// How long a proxy may take to listen.
const START_LIMIT: Duration = Duration::from_secs(10);

/// The kernel's unit of process time as it shows it: `USER_HZ` is 100 on every architecture that we run on.
const TICK_MILLIS: u64 = 10;

/// Place of the user time in `/proc/PID/stat`, counted after the name; the system time is the next.
const USER_TIME_FIELD: usize = 11;
