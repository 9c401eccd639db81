//! The real inspector and the real store behind the proxy, when the inspector breaks, and when policy minds every field.

use std::sync::Arc;

use plainsight::{
    audit::{self, Filter, Reader, Store},
    destination::Catalogue,
    inspect::{Inspector, Options},
    model::{
        Action, Authority, CapturedRequest, ConnectTo, Destination, FlowId, FlowOpening, FlowRecord,
        NotInspected, Outcome, RequestHead, RunClosing, RunOpening,
    },
    policy::{PROFILES, Policy},
    proxy::{Inspected, Inspection, Proxy, ProxyConfig, Services},
    rules::{RuleSet, embedded},
};
use tokio::sync::oneshot;

use crate::support::{Client, Origin, TestCa, tls_config};

const HOST: &str = "api.anthropic.com";
const BATCH: &str = "/api/event_logging/v2/batch";
const PLANTED: &str = "canary.person@example.com";

/// The inspector itself; but a request with `x-break` makes it panic when it has done its work, with the body in what it says.
struct Breaking(Inspector);

impl Inspection for Breaking {
    fn intercepts(&self, authority: &Authority) -> bool {
        self.0.intercepts(authority)
    }

    fn classify(&self, head: &RequestHead) -> Destination {
        self.0.classify(head)
    }

    fn inspect(&self, request: CapturedRequest, destination: Destination, time_ms: i64) -> Inspected {
        let breaks = request.head.headers.contains_key("x-break");
        let body = format!("{:?}", request.body);
        let inspected = Inspection::inspect(&self.0, request, destination, time_ms);
        assert!(!breaks, "{body} {PLANTED}");
        inspected
    }

    fn uninspected(
        &self,
        id: FlowId,
        head: &RequestHead,
        destination: &Destination,
        time_ms: i64,
        reason: Option<NotInspected>,
    ) -> FlowOpening {
        Inspection::uninspected(&self.0, id, head, destination, time_ms, reason)
    }

    fn fails_closed(&self, destination: &Destination) -> bool {
        Inspection::fails_closed(&self.0, destination)
    }

    fn failed(
        &self,
        id: FlowId,
        head: &RequestHead,
        destination: &Destination,
        time_ms: i64,
        reason: Option<NotInspected>,
    ) -> Inspected {
        Inspection::failed(&self.0, id, head, destination, time_ms, reason)
    }

    fn tunnel(
        &self,
        id: FlowId,
        authority: Option<&Authority>,
        time_ms: i64,
        reason: Option<NotInspected>,
    ) -> FlowOpening {
        Inspection::tunnel(&self.0, id, authority, time_ms, reason)
    }
}

/// Sends requests on one connection; returns the statuses, the bodies at the origin and the records.
async fn exchange(policy: Policy, requests: &[String]) -> (Vec<u16>, Vec<String>, Vec<FlowRecord>) {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, &[HOST], &["http/1.1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), audit::Options::default()).unwrap();
    let run = store.begin_run(&run_opening()).unwrap();
    let inspector = Inspector::new(
        Catalogue::embedded(),
        Vec::new(),
        RuleSet::from_sources(&embedded()).unwrap(),
        policy,
        store.fingerprint_key(),
        Options::default(),
    );
    let mut config = ProxyConfig::new("127.0.0.1:0".parse().unwrap(), ca.roots());
    config.connect_to = vec![ConnectTo::parse(&format!("::127.0.0.1:{}", origin.address.port())).unwrap()];
    let services = Services {
        inspection: Arc::new(Breaking(inspector)),
        audit: Arc::new(run.writer()),
        leaves: Arc::clone(&ca) as _,
    };
    let proxy = Proxy::bind(config, services).await.unwrap();
    let address = proxy.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(proxy.serve(async move {
        let _ = stopped.await;
    }));

    let mut tunnel = Client::plain(address).await;
    assert_eq!(tunnel.connect(&format!("{HOST}:443")).await.status, 200);
    let connector = tokio_rustls::TlsConnector::from(tls_config(ca.roots(), &["http/1.1"]));
    let stream = connector.connect(HOST.try_into().unwrap(), tunnel.stream.into_inner()).await.unwrap();
    let mut client = Client { stream: tokio::io::BufReader::new(stream) };
    let mut statuses = Vec::new();
    for request in requests {
        statuses.push(client.ask(request).await.status);
    }
    drop(client);
    drop(stop);
    serving.await.unwrap();
    run.finish(RunClosing { time_ms: 2, exit_code: None }).unwrap();

    let bodies = origin.seen().into_iter().map(|seen| String::from_utf8(seen.body).unwrap()).collect();
    let reader = Reader::open(folder.path()).unwrap();
    assert!(reader.verify(&[], &mut |_, _| {}).unwrap().faults.is_empty());
    let mut flows = reader.flows(&Filter::default()).unwrap();
    flows.sort_by_key(|flow| flow.opening.id);
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(memchr::memmem::find(&bytes, PLANTED.as_bytes()).is_none(), "the store holds it");
    }
    (statuses, bodies, flows)
}

fn run_opening() -> RunOpening {
    RunOpening {
        time_ms: 1,
        mode: "run".into(),
        program: None,
        version: "0".into(),
        policy_hash: "0".into(),
        rules_hash: "0".into(),
        watch: None,
    }
}

fn post(more: &str, body: &str) -> String {
    format!(
        "POST {BATCH} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn events(padding: usize) -> String {
    let padding = "x ".repeat(padding);
    format!(
        r#"{{"events":[{{"event_type":"e","event_data":{{"email":"{PLANTED}","pad":"{padding}","n":17}}}}]}}"#
    )
}

#[tokio::test]
async fn a_panic_behind_the_proxy_costs_one_request_and_is_recorded() {
    // Small bodies are looked at where they arrive, large ones on another thread.
    let (small, large) = (events(0), events(100_000));
    let requests =
        [post("", &small), post("x-break: 1\r\n", &small), post("x-break: 1\r\n", &large), post("", &small)];

    let (statuses, bodies, flows) = exchange(Policy::profile("private").unwrap(), &requests).await;

    // `private` answers what it keeps here as the service would.
    assert_eq!(statuses, [200; 4]);
    assert_eq!(bodies.len(), 2);
    assert!(bodies.iter().all(|body| body.contains("anon-") && !body.contains(PLANTED)), "{bodies:?}");
    assert_eq!(bodies[0], bodies[1], "what came after the panic is redacted as what came before");
    assert_eq!(flows.len(), 4);
    for (at, flow) in flows.iter().enumerate() {
        let closing = flow.closing.as_ref().unwrap();
        let seen = (flow.opening.action, closing.outcome, flow.opening.not_inspected);
        match at {
            1 | 2 => {
                assert_eq!(seen, (Action::Block, Outcome::Refused, Some(NotInspected::InternalError)));
                assert_eq!(&*flow.opening.policy_row, "fail.telemetry");
                assert_eq!(closing.error.as_deref(), Some("inspection failed on our side"));
            }
            _ => assert_eq!(seen, (Action::Redact, Outcome::Forwarded, None)),
        }
    }
}

#[tokio::test]
async fn fields_that_no_rule_knows_go_and_those_that_are_kept_stay() {
    let private = PROFILES.iter().find(|profile| profile.name == "private").unwrap().text;
    let own = private.replacen(
        "field       = \"allow\"",
        "keep = [\"**/event_type\"]\nredact = { method = \"replace\", template = \"GONE\" }\nfield = \"redact\"",
        1,
    );
    let policy = Policy::from_toml("own.toml", &own).unwrap();
    let body = concat!(
        r#"{"events":[{"event_type":"e","event_data":{"email":"canary.person@example.com","nobody":"knows","n":17,"#,
        r#""flag":true,"none":null,"list":["a",1],"inner":"{\"deep\":\"down\"}","b":"eyJrIjoidiJ9"}}]}"#
    );

    let (statuses, bodies, flows) = exchange(policy, &[post("", body)]).await;

    assert_eq!(statuses, [200]);
    let json: serde_json::Value = serde_json::from_str(&bodies[0]).unwrap();
    let event = &json["events"][0];
    assert_eq!(event["event_type"], "e");
    let data = &event["event_data"];
    assert!(data["email"].as_str().unwrap().starts_with("anon-"), "{data}");
    assert_eq!(data["nobody"], "GONE");
    assert_eq!(
        (&data["n"], &data["flag"], &data["none"]),
        (&0.into(), &false.into(), &serde_json::Value::Null)
    );
    assert_eq!(data["list"], serde_json::json!(["GONE", 0]));
    assert_eq!(data["inner"], r#"{"deep":"GONE"}"#);
    assert_eq!(data["b"], "eyJrIjoiR09ORSJ9");
    let opening = &flows[0].opening;
    assert_eq!(
        (opening.action, flows[0].closing.as_ref().unwrap().outcome),
        (Action::Redact, Outcome::Forwarded)
    );
}
