//! Answers that somebody learns from: copied while they stream, never delayed, changed or kept when they are long.

use std::sync::{Arc, Mutex};

use plainsight::{
    audit::{Options, Reader, Store},
    model::DestinationId,
    proxy::{Answer, Answers, PLAN_USAGE},
};

use crate::support::{Client, Origin, Setup, TestCa, TestProxy};

#[derive(Default)]
struct Learner(Mutex<Vec<Answer>>);

impl Answers for Learner {
    fn wants(&self, destination: &DestinationId) -> bool {
        destination.as_str() == "settings"
    }

    fn learn(&self, answer: Answer) {
        self.0.lock().unwrap().push(answer);
    }
}

async fn learning(answers: Arc<dyn Answers>) -> (Origin, TestProxy) {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, &["api.example.test"], &["http/1.1"]).await;
    let mut setup = Setup::new(&ca, origin.address);
    setup.config.answers = Some(answers);
    let proxy = setup.start().await;
    (origin, proxy)
}

async fn ask(proxy: &TestProxy, path: &str, body: &[u8]) -> Vec<u8> {
    let mut client = Client::tls(proxy, "api.example.test:443", &[]).await;
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: {}\r\n\r\n", body.len());
    client.ask([head.as_bytes(), body].concat()).await.body
}

#[tokio::test]
async fn an_answer_that_is_wanted_is_learnt_and_arrives_as_it_was() {
    let learner = Arc::new(Learner::default());
    let (_origin, proxy) = learning(learner.clone()).await;
    let long = vec![b'x'; 200_000];

    let wanted = ask(&proxy, "/settings", b"{\"a\":1}").await;
    let unwanted = ask(&proxy, "/telemetry", b"{\"b\":1}").await;
    let too_long = ask(&proxy, "/settings", &long).await;

    assert_eq!((&wanted[..], &unwanted[..]), (&b"{\"a\":1}"[..], &b"{\"b\":1}"[..]));
    assert!(too_long == long);
    proxy.audit.closed(3).await;
    let learnt = learner.0.lock().unwrap();
    let bodies: Vec<_> = learnt.iter().map(|answer| &answer.body[..]).collect();
    assert_eq!(bodies, [b"{\"a\":1}"]);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_learnt() {
    let learner = Arc::new(Learner::default());
    let (_origin, proxy) = learning(learner.clone()).await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;

    client.send("POST /settings/cut HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: 0\r\n\r\n").await;
    client.read_head().await;
    while !client.is_closed().await {}

    proxy.audit.closed(1).await;
    assert!(learner.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn how_much_of_the_plan_is_used_becomes_a_fact_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Options::default()).unwrap();
    let body =
        br#"{"five_hour":{"utilization":12.5,"resets_at":"2026-11-21T15:00:00Z"},"mail":"jo@example.com"}"#;
    let answer = |id: &str, time_ms| Answer {
        destination: DestinationId::new(id),
        time_ms,
        headers: http::HeaderMap::new(),
        body: bytes::Bytes::from_static(body),
    };

    assert!(store.wants(&DestinationId::new("oauth-usage")));
    assert!(!store.wants(&DestinationId::new("settings")));
    store.learn(answer("oauth-usage", 7));

    let reader = Reader::open(folder.path()).unwrap();
    let mut fact = None;
    for _ in 0..1000 {
        fact = reader.fact(PLAN_USAGE).unwrap();
        if fact.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let fact = fact.unwrap();
    assert_eq!(fact.time_ms, 7);
    assert_eq!(
        fact.value,
        r#"{"windows":[{"name":"five_hour","percent":12.5,"resets_at":"2026-11-21T15:00:00Z"}]}"#
    );
}
