//! `plainsight export otlp` against a collector that fails in every way that one does, and the other commands that
//! reach out of this house: `env`, `usage`, `service`.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    process::Stdio,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use plainsight::{
    audit::{Fact, Options, RunWriter, Store},
    model::{
        Action, CapturedFields, DestinationId, DestinationKind, FlowClosing, FlowKind, FlowOpening, Outcome,
        RunClosing, RunOpening,
    },
    proxy::PLAN_USAGE,
};
use serde_json::Value;

use crate::support::product::{Product, text};

/// Answers as its script says, then always with success; keeps the bodies that it took.
struct Collector {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<Value>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
const BUSY: &str = "HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n";
const CUT: &str = "";
const LARGE: &str = "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n";
const BAD: &str = "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n";
const PARTIAL: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 75\r\n\r\n{\"partialSuccess\":{\"rejectedLogRecords\":\"2\",\"errorMessage\":\"too\\u001bold\"}}";

impl Collector {
    fn new(script: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (taken, heads) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let script = Arc::new(Mutex::new(VecDeque::from(script.to_vec())));
        let kept = (Arc::clone(&taken), Arc::clone(&heads));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (taken, heads) = (Arc::clone(&kept.0), Arc::clone(&kept.1));
                let script = Arc::clone(&script);
                thread::spawn(move || {
                    let mut stream = BufReader::new(stream.unwrap());
                    loop {
                        let mut head = String::new();
                        while !head.ends_with("\r\n\r\n") {
                            if stream.read_line(&mut head).unwrap_or(0) == 0 {
                                return;
                            }
                        }
                        let lower = head.to_ascii_lowercase();
                        let length = lower.split_once("content-length: ").unwrap().1.lines().next().unwrap();
                        let mut body = vec![0; length.parse().unwrap()];
                        stream.read_exact(&mut body).unwrap();
                        heads.lock().unwrap().push(head);
                        let answer = script.lock().unwrap().pop_front().unwrap_or(OK);
                        if answer == CUT {
                            return;
                        }
                        if answer.starts_with("HTTP/1.1 200") {
                            taken.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                        }
                        stream.get_mut().write_all(answer.as_bytes()).unwrap();
                    }
                });
            }
        });
        Self { address, taken, heads }
    }

    /// The numbers of the flows that it took, in order.
    fn flows(&self) -> Vec<String> {
        let taken = self.taken.lock().unwrap();
        let records = taken.iter().flat_map(|body| {
            body["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap().clone()
        });
        let id = |record: Value| {
            let attributes = record["attributes"].as_array().unwrap().clone();
            let id = attributes.into_iter().find(|pair| pair["key"] == "plainsight.flow.id").unwrap();
            id["value"]["stringValue"].as_str().unwrap().to_owned()
        };
        records.map(id).collect()
    }
}

fn begin(store: &Store) -> RunWriter {
    let opening = RunOpening {
        watch: None,
        time_ms: 1,
        mode: "run".into(),
        program: None,
        version: "1".into(),
        policy_hash: "".into(),
        rules_hash: "".into(),
    };
    store.begin_run(&opening).unwrap()
}

/// Records `count` flows in a run of their own.
async fn record(store: &Store, count: usize) {
    let run = begin(store);
    let writer = run.writer();
    for _ in 0..count {
        let opening = FlowOpening {
            id: writer.next_id(),
            time_ms: 1_795_251_966_042,
            kind: FlowKind::Request,
            destination: DestinationId::new("otlp"),
            destination_kind: DestinationKind::Telemetry,
            method: "POST".into(),
            scheme: "https".into(),
            authority: "c.example:443".into(),
            path: "/v1/logs".into(),
            version: "HTTP/1.1".into(),
            user_agent: None,
            session: None,
            request_bytes: 0,
            action: Action::Allow,
            policy_row: "default".into(),
            policy_hash: None,
            rewriting: None,
            answered: None,
            not_inspected: None,
            format: None,
            credentials: Vec::new(),
            findings: Vec::new(),
            fields: CapturedFields::default(),
            fields_left_out: 0,
            body: None,
            news: Vec::new(),
        };
        writer.open(opening).await.unwrap().close(FlowClosing {
            outcome: Outcome::Forwarded,
            status: Some(200),
            request_bytes: 0,
            response_bytes: 0,
            duration_ms: 1,
            error: None,
            not_inspected: None,
        });
    }
    run.finish(RunClosing { time_ms: 2, exit_code: None }).unwrap();
}

fn ids(run: u32, count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("{run}-{number}")).collect()
}

async fn house(count: usize) -> (Product, Store) {
    let product = Product::new();
    let store = Store::open(&product.path("data"), Options::default()).unwrap();
    record(&store, count).await;
    (product, store)
}

fn arguments<'a>(endpoint: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["export", "otlp", "--protocol", "http/json", "--endpoint", endpoint], more].concat()
}

/// Runs it in such a way that the machine's own roots do not matter.
fn export(product: &Product, endpoint: &str, more: &[&str]) -> std::process::Output {
    product.run(&arguments(endpoint, more))
}

#[tokio::test]
async fn each_record_is_delivered_once_however_the_collector_fails() {
    let (product, store) = house(250).await;
    let collector = Collector::new(&[BUSY, CUT, OK, BUSY, LARGE, OK]);
    let endpoint = format!("http://{}/otlp", collector.address);

    let first = export(&product, &endpoint, &["--header", "x-scope=a"]);
    record(&store, 3).await;
    let second = export(&product, &endpoint, &[]);
    let third = export(&product, &endpoint, &[]);

    for (output, count) in [(first, 250), (second, 3), (third, 0)] {
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains(&format!("{count} records delivered")), "{said}");
    }
    assert_eq!(collector.flows(), [ids(1, 250), ids(2, 3)].concat());
    let heads = collector.heads.lock().unwrap();
    assert!(heads[0].starts_with("POST /otlp/v1/logs HTTP/1.1\r\n"), "{}", heads[0]);
    assert!(heads[0].contains("\r\nx-scope: a\r\n"), "{}", heads[0]);
}

#[tokio::test]
async fn what_was_refused_is_delivered_once_it_is_taken() {
    let (product, _store) = house(5).await;
    let collector = Collector::new(&[BAD]);
    let endpoint = format!("http://{}", collector.address);

    let refused = export(&product, &endpoint, &[]);
    let taken = export(&product, &endpoint, &[]);

    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("400"), "{}", text(&refused.stderr));
    assert_eq!(taken.status.code(), Some(0));
    assert_eq!(collector.flows(), ids(1, 5));
}

#[tokio::test]
async fn what_a_collector_rejects_for_good_is_said_and_not_sent_again() {
    let (product, _store) = house(5).await;
    let collector = Collector::new(&[PARTIAL]);
    let endpoint = format!("http://{}", collector.address);

    let first = export(&product, &endpoint, &[]);
    let second = export(&product, &endpoint, &[]);

    let said = text(&first.stderr);
    assert!(said.contains("rejected 2 records") && said.contains("2 of them rejected"), "{said}");
    // PITFALLS 32
    assert!(!said.contains('\x1b'), "{said:?}");
    assert!(text(&second.stderr).contains("0 records delivered"));
}

#[cfg(unix)]
#[tokio::test]
async fn following_goes_on_until_it_is_told_to_end_and_then_the_next_goes_on_there() {
    let (product, store) = house(2).await;
    let collector = Collector::new(&[]);
    let endpoint = format!("http://{}", collector.address);
    let mut following = product.command(&arguments(&endpoint, &["--follow"]));
    let mut following = following.stderr(Stdio::piped()).spawn().unwrap();
    let wait_for = |count| {
        let start = Instant::now();
        while collector.flows().len() < count {
            assert!(start.elapsed() < Duration::from_secs(30), "only {:?}", collector.flows());
            thread::sleep(Duration::from_millis(20));
        }
    };
    wait_for(2);

    let beside = export(&product, &endpoint, &[]);
    record(&store, 3).await;
    wait_for(5);
    // The answer is out before it is written down.
    thread::sleep(Duration::from_millis(300));
    let pid = rustix::process::Pid::from_raw(following.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = following.wait().unwrap();
    record(&store, 1).await;
    export(&product, &endpoint, &[]);

    assert_eq!(beside.status.code(), Some(2));
    assert!(text(&beside.stderr).contains("another export"), "{}", text(&beside.stderr));
    assert_eq!(status.code(), Some(0));
    assert_eq!(collector.flows(), [ids(1, 2), ids(2, 3), ids(3, 1)].concat());
}

#[test]
fn how_much_of_the_plan_is_used_is_one_line() {
    let product = Product::new();
    let nothing = product.run(&["usage"]);
    let store = Store::open(&product.path("data"), Options::default()).unwrap();
    let nothing_yet = product.run(&["usage"]);
    let value = r#"{"windows":[{"name":"five_hour","percent":95.0,"resets_at":"2999-01-01T00:00:00Z"}]}"#;
    store.keep_fact(PLAN_USAGE, &Fact { time_ms: 1_795_251_966_042, value: value.to_owned() }).unwrap();

    let line = text(&product.run(&["usage"]).stdout);
    let tmux = text(&product.run(&["usage", "--style", "tmux"]).stdout);
    let template =
        text(&product.run(&["usage", "--format", "{five_hour.percent}|{seven_day.percent}"]).stdout);
    let wrong = product.run(&["usage", "--format", "{five_hour}"]);
    let json: Value = serde_json::from_slice(&product.run(&["usage", "--json"]).stdout).unwrap();

    assert_eq!((nothing.status.code(), text(&nothing.stdout).as_str()), (Some(1), ""));
    assert_eq!((nothing_yet.status.code(), text(&nothing_yet.stdout).as_str()), (Some(1), ""));
    assert!(
        line.starts_with("5h ▓▓▓▓▓▓▓▓ 95% ") && line.ends_with(" ago\n") && line.lines().count() == 1,
        "{line}"
    );
    assert!(tmux.starts_with("5h #[fg=red]▓"), "{tmux}");
    assert_eq!(template, "95|-\n");
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(
        (&json["windows"][0]["percent"], &json["told"]),
        (&95.0.into(), &"2026-11-21T09:06:06.042Z".into())
    );
}

#[test]
fn the_environment_is_the_one_that_run_sets_and_its_files_are_there() {
    let product = Product::new();
    let before = product.run(&["env"]);
    assert_eq!(product.run(&["ca", "rotate"]).status.code(), Some(0));

    let json = product.run(&["env", "--format", "json"]);
    let variables: Value = serde_json::from_slice(&json.stdout).unwrap();
    let again = product.command(&["env", "--format", "json"]).envs(strings(&variables)).output().unwrap();

    assert_eq!((before.status.code(), before.stdout.len()), (Some(1), 0));
    assert!(text(&json.stderr).contains("nothing listens on 127.0.0.1:8788"), "{}", text(&json.stderr));
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "grpc_proxy"] {
        assert_eq!(variables[name], "http://127.0.0.1:8788", "{name}");
    }
    let ca = std::fs::read_to_string(variables["NODE_EXTRA_CA_CERTS"].as_str().unwrap()).unwrap();
    assert_eq!(ca, std::fs::read_to_string(text(&product.run(&["ca", "path"]).stdout).trim()).unwrap());
    assert_eq!(text(&again.stdout), text(&json.stdout), "asked twice it says the same");
    let once_more = std::fs::read_to_string(variables["NODE_EXTRA_CA_CERTS"].as_str().unwrap()).unwrap();
    assert_eq!(once_more, ca);
}

fn strings(object: &Value) -> Vec<(String, String)> {
    let object = object.as_object().unwrap();
    object.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_machine_without_systemd_is_told_so_and_nothing_is_written() {
    let product = Product::new();
    let unit = product.path(".config/systemd/user/plainsight.service");

    let dry = product.run(&["service", "install", "--dry-run", "--otlp-endpoint", "http://c.example:4318"]);
    let install = product.command(&["service", "install"]).env("PATH", "").output().unwrap();
    let status = product.run(&["service", "status"]);

    let shown = text(&dry.stdout);
    assert!(
        shown.contains(" proxy --listen 127.0.0.1:8788 --otlp --otlp-endpoint=http://c.example:4318 "),
        "{shown}"
    );
    assert!(shown.contains(product.path("data").to_str().unwrap()), "{shown}");
    assert_eq!(install.status.code(), Some(2));
    assert!(text(&install.stderr).contains("there is no `systemctl` here"), "{}", text(&install.stderr));
    assert_eq!(status.status.code(), Some(1));
    assert!(!unit.exists());
}
