//! What is measured, each with the load that it takes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::sleep,
};

use crate::{
    Failure,
    client::Route,
    origin::{self, Origin},
    statistics::{now_nanos, percentile},
    subject::Running,
};

/// One kind of load; gives one or two rows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Measure {
    /// One connection, one request at a time.
    AddedLatency,
    /// A download through an intercepted connection.
    Bulk,
    /// Many requests over few HTTP/2 connections.
    Http2,
    /// Connections that have served one request and wait.
    Idle,
    /// Connection, handshake, one request, close: always to one host.
    NewConnections,
    /// The same, each time to a host never seen before.
    NewHosts,
    /// Many requests over many kept connections.
    Requests,
    /// An event stream.
    Stream,
    /// A download through a blind tunnel.
    Tunnel,
}

impl Measure {
    /// In the order of the table.
    pub const ALL: [Self; 9] = [
        Self::Requests,
        Self::AddedLatency,
        Self::NewConnections,
        Self::NewHosts,
        Self::Bulk,
        Self::Tunnel,
        Self::Stream,
        Self::Idle,
        Self::Http2,
    ];

    /// The name for `--only`.
    pub fn id(self) -> &'static str {
        match self {
            Self::AddedLatency => "latency",
            Self::Bulk => "bulk",
            Self::Http2 => "h2",
            Self::Idle => "idle",
            Self::NewConnections => "new-connections",
            Self::NewHosts => "new-hosts",
            Self::Requests => "requests",
            Self::Stream => "sse",
            Self::Tunnel => "tunnel",
        }
    }

    /// The measure of this name.
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|measure| measure.id() == id)
    }

    /// Where names lead during this measure.
    pub fn origin(self, origin: Origin) -> std::net::SocketAddr {
        match self {
            Self::Http2 => origin.h2,
            Self::Tunnel => origin.plain,
            _ => origin.h1,
        }
    }

    /// Whether each round wants a process that has served nothing yet.
    pub fn wants_fresh_process(self) -> bool {
        self == Self::Idle
    }

    /// How often it is repeated.
    pub fn rounds(self, scale: &Scale) -> usize {
        match self {
            Self::Bulk | Self::Idle | Self::Tunnel => scale.rounds.min(3),
            Self::Stream => scale.rounds.min(5),
            _ => scale.rounds,
        }
    }

    /// Puts the load on `running` once and returns what was seen.
    pub async fn take(self, running: &Running, origin: Origin, scale: &Scale) -> Result<Samples, Failure> {
        match self {
            Self::AddedLatency => added_latency(&running.route, scale).await,
            Self::Bulk => bulk(running, scale).await,
            Self::Http2 => http2(running, scale).await,
            Self::Idle => idle(running, scale).await,
            Self::NewConnections => {
                new_connections(running, scale, Metric::NewConnections, || KNOWN_HOST.into()).await
            }
            Self::NewHosts => new_connections(running, scale, Metric::NewHosts, unseen_host).await,
            Self::Requests => requests(running, scale).await,
            Self::Stream => stream(&running.route, scale).await,
            Self::Tunnel => tunnel(running, origin, scale).await,
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Metric {
    Requests,
    RequestCpu,
    AddedLatency,
    NewConnections,
    NewHosts,
    Bulk,
    BulkPeak,
    Tunnel,
    TunnelPeak,
    StreamP50,
    StreamP99,
    Idle,
    Http2,
    Http2Cpu,
}

impl Metric {
    /// What the row says, with its unit.
    pub fn title(self) -> &'static str {
        match self {
            Self::AddedLatency => "added p50 at concurrency 1, µs",
            Self::Bulk => "download, intercepted, MiB/s",
            Self::BulkPeak => "… peak memory of the proxy, MiB",
            Self::Http2 => "h2 requests/s, 64 streams on 4 connections",
            Self::Http2Cpu => "… processor time of the proxy per request, µs",
            Self::Idle => "memory per idle intercepted connection, KiB",
            Self::NewConnections => "new intercepted connections/s, known host",
            Self::NewHosts => "new intercepted connections/s, new hosts",
            Self::RequestCpu => "… processor time of the proxy per request, µs",
            Self::Requests => "requests/s, 2 KiB telemetry POST, 64 at once",
            Self::StreamP50 => "SSE: added delay per event p50, µs",
            Self::StreamP99 => "SSE: added delay per event p99, µs",
            Self::Tunnel => "download, blind tunnel, MiB/s",
            Self::TunnelPeak => "… peak memory of the proxy, MiB",
        }
    }

    /// Whether a larger value is the better one.
    pub fn is_better_higher(self) -> bool {
        matches!(
            self,
            Self::Bulk | Self::Http2 | Self::NewConnections | Self::NewHosts | Self::Requests | Self::Tunnel
        )
    }

    /// Whether the row shows what a proxy adds to the direct way.
    pub fn is_added(self) -> bool {
        matches!(self, Self::AddedLatency | Self::StreamP50 | Self::StreamP99)
    }
}

/// What one round of a measure gave.
pub type Samples = Vec<(Metric, f64)>;

/// How much load and how often.
pub struct Scale {
    bulk_bytes: u64,
    events: u64,
    idle_connections: usize,
    rounds: usize,
    window: Duration,
}

impl Scale {
    /// For the table that is published.
    pub const FULL: Self = Self {
        bulk_bytes: 1 << 30,
        events: 400,
        idle_connections: 1_000,
        rounds: 7,
        window: Duration::from_millis(700),
    };

    /// For a look while working.
    pub const QUICK: Self = Self {
        bulk_bytes: 128 << 20,
        events: 150,
        idle_connections: 300,
        rounds: 2,
        window: Duration::from_millis(600),
    };

    /// What the numbers rest on, in words.
    pub fn words(&self) -> String {
        format!(
            "{} rounds (downloads and idle memory {}, event streams {}), windows of {:?}, downloads of {} MiB, {} events every 5 ms, \
             {} idle connections",
            self.rounds,
            self.rounds.min(3),
            self.rounds.min(5),
            self.window,
            self.bulk_bytes >> 20,
            self.events,
            self.idle_connections
        )
    }
}

async fn requests(running: &Running, scale: &Scale) -> Result<Samples, Failure> {
    let request: Arc<[u8]> = telemetry_request().into();
    let mut connections = Vec::new();
    for _ in 0..AT_ONCE {
        let mut connection = running.route.open_h1(KNOWN_HOST).await?;
        connection.exchange(&request).await?;
        connections.push(connection);
    }
    running.posted(AT_ONCE as u64);
    let before = running.usage()?;
    let start = Instant::now();
    let mut workers = JoinSet::new();
    for mut connection in connections {
        let (request, window) = (Arc::clone(&request), scale.window);
        workers.spawn(async move {
            let mut served = 0_u64;
            while start.elapsed() < window {
                connection.exchange(&request).await?;
                served += 1;
            }
            Ok::<u64, Failure>(served)
        });
    }
    let served = sum(workers).await?;
    let took = start.elapsed();
    running.posted(served);
    let served = served as f64;
    let mut samples = vec![(Metric::Requests, served / took.as_secs_f64())];
    if let (Some(before), Some(after)) = (before, running.usage()?) {
        samples.push((Metric::RequestCpu, (after.cpu - before.cpu).as_secs_f64() * 1e6 / served));
    }
    Ok(samples)
}

async fn added_latency(route: &Route, scale: &Scale) -> Result<Samples, Failure> {
    let request = telemetry_request();
    let mut connection = route.open_h1(KNOWN_HOST).await?;
    for _ in 0..WARM_REQUESTS {
        connection.exchange(&request).await?;
    }
    let start = Instant::now();
    let mut micros = Vec::new();
    while start.elapsed() < scale.window {
        let sent = Instant::now();
        connection.exchange(&request).await?;
        micros.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    Ok(vec![(Metric::AddedLatency, percentile(&mut micros, 0.5))])
}

async fn new_connections(
    running: &Running,
    scale: &Scale,
    metric: Metric,
    host: fn() -> String,
) -> Result<Samples, Failure> {
    let start = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..CONNECTING_AT_ONCE {
        let (route, window) = (running.route.clone(), scale.window);
        workers.spawn(async move {
            let mut served = 0_u64;
            while start.elapsed() < window {
                let host = host();
                route.open_h1(&host).await?.exchange(get("/v1/messages/hello", &host).as_bytes()).await?;
                served += 1;
            }
            Ok::<u64, Failure>(served)
        });
    }
    let served = sum(workers).await? as f64;
    Ok(vec![(metric, served / start.elapsed().as_secs_f64())])
}

async fn bulk(running: &Running, scale: &Scale) -> Result<Samples, Failure> {
    let mut connection = running.route.open_h1(KNOWN_HOST).await?;
    let request = |bytes: u64| get(&format!("{}{bytes}", origin::BULK_PATH), KNOWN_HOST);
    connection.download(request(1 << 20).as_bytes()).await?;
    running.forget_peak()?;
    let start = Instant::now();
    let got = connection.download(request(scale.bulk_bytes).as_bytes()).await?;
    let rate = mebibytes(got) / start.elapsed().as_secs_f64();
    expect(got, scale.bulk_bytes)?;
    with_peak(running, Metric::Bulk, rate, Metric::BulkPeak)
}

async fn tunnel(running: &Running, origin: Origin, scale: &Scale) -> Result<Samples, Failure> {
    let mut stream = running.route.open_plain(origin.plain).await?;
    running.forget_peak()?;
    let start = Instant::now();
    stream.write_all(format!("BULK {}\n", scale.bulk_bytes).as_bytes()).await?;
    let (mut got, mut piece) = (0, vec![0; PIECE_BYTES]);
    while got < scale.bulk_bytes {
        match stream.read(&mut piece).await? {
            0 => break,
            read => got += read as u64,
        }
    }
    let rate = mebibytes(got) / start.elapsed().as_secs_f64();
    expect(got, scale.bulk_bytes)?;
    with_peak(running, Metric::Tunnel, rate, Metric::TunnelPeak)
}

async fn stream(route: &Route, scale: &Scale) -> Result<Samples, Failure> {
    let mut connection = route.open_h1(KNOWN_HOST).await?;
    let body = r#"{"model":"claude-opus-5-5","stream":true,"messages":[]}"#;
    let request = format!(
        "POST {}?events={}&every_us=5000 HTTP/1.1\r\nHost: {KNOWN_HOST}\r\nContent-Type: application/json\r\n\
         Accept: text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
        origin::STREAM_PATH,
        scale.events,
        body.len()
    );
    let mut micros = Vec::new();
    connection
        .events(request.as_bytes(), scale.events, |sent| {
            micros.push(now_nanos().saturating_sub(sent) as f64 / 1e3);
        })
        .await?;
    let p50 = percentile(&mut micros, 0.5);
    Ok(vec![(Metric::StreamP50, p50), (Metric::StreamP99, percentile(&mut micros, 0.99))])
}

async fn idle(running: &Running, scale: &Scale) -> Result<Samples, Failure> {
    let mut held = Vec::new();
    held.extend(open_and_greet(&running.route, WARM_CONNECTIONS).await?);
    sleep(SETTLE).await;
    let Some(before) = running.usage()? else { return Ok(Vec::new()) };
    held.extend(open_and_greet(&running.route, scale.idle_connections).await?);
    sleep(SETTLE).await;
    let Some(after) = running.usage()? else { return Ok(Vec::new()) };
    drop(held);
    Ok(vec![(Metric::Idle, (after.resident_kib - before.resident_kib) / scale.idle_connections as f64)])
}

/// Opens `count` connections, a few at a time, and has one small request served on each.
async fn open_and_greet(route: &Route, count: usize) -> Result<Vec<crate::client::H1>, Failure> {
    let (mut held, mut opening) = (Vec::new(), JoinSet::new());
    for number in 0..count {
        let route = route.clone();
        opening.spawn(async move {
            let mut connection = route.open_h1(KNOWN_HOST).await?;
            connection.exchange(get("/v1/messages/hello", KNOWN_HOST).as_bytes()).await?;
            Ok::<_, Failure>(connection)
        });
        if number >= CONNECTING_AT_ONCE
            && let Some(opened) = opening.join_next().await
        {
            held.push(opened??);
        }
    }
    while let Some(opened) = opening.join_next().await {
        held.push(opened??);
    }
    Ok(held)
}

async fn http2(running: &Running, scale: &Scale) -> Result<Samples, Failure> {
    let body = Bytes::from(telemetry_body());
    let mut senders = Vec::new();
    for _ in 0..H2_CONNECTIONS {
        let stream = TokioIo::new(running.route.open_h2(KNOWN_HOST).await?);
        let (sender, connection) =
            hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        senders.push(sender);
    }
    let before = running.usage()?;
    let start = Instant::now();
    let mut workers = JoinSet::new();
    for number in 0..AT_ONCE {
        let (mut sender, body) = (senders[number % H2_CONNECTIONS].clone(), body.clone());
        let window = scale.window;
        workers.spawn(async move {
            let mut served = 0_u64;
            while start.elapsed() < window {
                let request = Request::post(format!("https://{KNOWN_HOST}{}", origin::METRICS_PATH))
                    .version(Version::HTTP_2)
                    .header("content-type", "application/json")
                    .header("user-agent", "claude-code/2.1.329")
                    .body(Full::new(body.clone()))?;
                let answer = sender.send_request(request).await?;
                if answer.status() != StatusCode::OK {
                    return Err(format!("answered {}", answer.status()).into());
                }
                answer.into_body().collect().await?;
                served += 1;
            }
            Ok::<u64, Failure>(served)
        });
    }
    let served = sum(workers).await? as f64;
    let took = start.elapsed();
    let mut samples = vec![(Metric::Http2, served / took.as_secs_f64())];
    if let (Some(before), Some(after)) = (before, running.usage()?) {
        samples.push((Metric::Http2Cpu, (after.cpu - before.cpu).as_secs_f64() * 1e6 / served));
    }
    Ok(samples)
}

async fn sum(mut workers: JoinSet<Result<u64, Failure>>) -> Result<u64, Failure> {
    let mut served = 0;
    while let Some(worker) = workers.join_next().await {
        served += worker??;
    }
    Ok(served)
}

fn with_peak(running: &Running, rate: Metric, value: f64, peak: Metric) -> Result<Samples, Failure> {
    let mut samples = vec![(rate, value)];
    if let Some(usage) = running.usage()? {
        samples.push((peak, usage.peak_kib / 1024.0));
    }
    Ok(samples)
}

fn expect(got: u64, wanted: u64) -> Result<(), Failure> {
    if got == wanted { Ok(()) } else { Err(format!("{got} bytes came, {wanted} were asked for").into()) }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn unseen_host() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("h{}.bench.test", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn get(path: &str, host: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: claude-code/2.1.329\r\nAccept: */*\r\n\r\n")
}

fn telemetry_request() -> Vec<u8> {
    let head = format!(
        "POST {} HTTP/1.1\r\nAccept: application/json, text/plain, */*\r\nContent-Type: application/json\r\n\
         User-Agent: claude-code/2.1.329\r\nx-api-key: made-up\r\nContent-Length: {}\r\n\
         Accept-Encoding: gzip, compress, deflate, br\r\nHost: {KNOWN_HOST}\r\n\r\n",
        origin::METRICS_PATH,
        origin::TELEMETRY_BYTES
    );
    [head.into_bytes(), telemetry_body()].concat()
}

/// A metrics body as the client shapes it, of exactly [`origin::TELEMETRY_BYTES`].
fn telemetry_body() -> Vec<u8> {
    let session = r#""user.id":"6cc3786f21198e2c0e0b3fee2fa03cc0e11096406b52e5ca4396c8a800a64799","session.id":"da98dd17-dba6-47bf-bfaa-dc82f7b04ecf","terminal.type":"xterm""#;
    let point = |kind: &str, value: u32| {
        format!(
            r#"{{"attributes":{{{session},"model":"claude-opus-5-5","query_source":"main","type":"{kind}"}},"value":{value},"timestamp":"2026-11-21T06:22:09.940Z"}}"#
        )
    };
    let points = [point("input", 20), point("output", 30), point("cacheRead", 0), point("cacheCreation", 0)];
    let body = |padding: &str| {
        format!(
            r#"{{"resource_attributes":{{"service.name":"claude-code","service.version":"2.1.329","os.type":"linux","os.version":"{padding}","host.arch":"amd64","aggregation.temporality":"delta","user.customer_type":"api"}},"metrics":[{{"name":"claude_code.session.count","description":"Count of CLI sessions started","unit":"","data_points":[{{"attributes":{{{session},"start_type":"fresh"}},"value":1,"timestamp":"2026-11-21T06:22:09.940Z"}}]}},{{"name":"claude_code.token.usage","description":"Number of tokens used","unit":"tokens","data_points":[{}]}}]}}"#,
            points.join(",")
        )
    };
    let missing = origin::TELEMETRY_BYTES.saturating_sub(body("").len());
    body(&"6.1.0 generic kernel ".chars().cycle().take(missing).collect::<String>()).into_bytes()
}

/// A host that the product knows: it intercepts it, and knows its telemetry from its conversation.
const KNOWN_HOST: &str = "api.anthropic.com";

/// Requests in flight in the rows that say so.
const AT_ONCE: usize = 64;

/// Connections being made at any time.
const CONNECTING_AT_ONCE: usize = 16;

/// Connections that carry the streams of the h2 row.
const H2_CONNECTIONS: usize = 4;

/// One read of a tunnel.
const PIECE_BYTES: usize = 64 * 1024;

/// How long memory is left to settle before it is read.
const SETTLE: Duration = Duration::from_millis(300);

/// Connections that stay open through the first reading of memory, so that what a proxy sets up once is not counted.
const WARM_CONNECTIONS: usize = 50;

/// Requests before the first that is timed.
const WARM_REQUESTS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_telemetry_body_has_the_length_that_the_origin_checks() {
        assert_eq!(telemetry_body().len(), origin::TELEMETRY_BYTES);
    }
}
