//! The OTLP receiver: requests to it reach the collector that was configured, and a collector that is down is said as
//! a collector would say it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use plainsight::{
    claude::UpstreamProxies,
    model::{Authority, ConnectTo, Outcome, Scheme},
    proxy::{CollectorConfig, CollectorPath, CollectorTls, Identity, ReceiverConfig, Takes},
};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Client, Origin, Setup, TestCa, TestProxy, h2_client};

const GRPC: &str = "/telemetry/opentelemetry.proto.collector.trace.v1.TraceService/Export";

fn collector(scheme: Scheme, authority: &str) -> CollectorConfig {
    CollectorConfig {
        takes: Takes::Everything,
        scheme,
        authority: Authority::parse(authority, None).unwrap(),
        path: CollectorPath::Below("/telemetry".into()),
        headers: HeaderMap::from_iter([("x-tenant".parse().unwrap(), HeaderValue::from_static("a"))]),
        tls: None,
    }
}

async fn receiving(mut setup: Setup, collector: CollectorConfig) -> (TestProxy, SocketAddr) {
    let listen = "127.0.0.1:0".parse().unwrap();
    setup.config.receivers = vec![ReceiverConfig { listen, collectors: vec![collector] }];
    let proxy = setup.start().await;
    let address = proxy.receivers[0];
    (proxy, address)
}

/// Sends `body` over h2c; the answer's header fields, trailer fields and body.
async fn grpc(address: SocketAddr, body: &'static [u8]) -> (HeaderMap, HeaderMap, Bytes) {
    grpc_within(address, body, "100m").await
}

/// The same, from a client that waits for `time`.
async fn grpc_within(address: SocketAddr, body: &'static [u8], time: &str) -> (HeaderMap, HeaderMap, Bytes) {
    let mut sender = h2_client(TcpStream::connect(address).await.unwrap()).await;
    let body = Full::new(Bytes::from_static(body)).map_err(|never| match never {}).boxed();
    let request = Request::post(format!("http://{address}{GRPC}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", time)
        .body(body)
        .unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    (head.headers, trailers, body.to_bytes())
}

/// An address where nothing listens.
async fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn an_export_over_http_reaches_the_collector_byte_for_byte() {
    let origin = Origin::plain().await;
    let setup = Setup::new(&TestCa::new(), origin.address);
    let (proxy, address) = receiving(setup, collector(Scheme::Http, "collector.example:4318")).await;
    let mut client = Client::plain(address).await;

    let answer = client
        .ask(format!("POST /v1/logs?a HTTP/1.1\r\nhOst: {address}\r\nX-A: 1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"))
        .await;

    assert_eq!((answer.status, &answer.body[..]), (200, &b"{}"[..]));
    assert_eq!(
        origin.seen()[0].head,
        "POST /telemetry/v1/logs?a HTTP/1.1\r\nhOst: collector.example:4318\r\nX-A: 1\r\nContent-Type: application/json\r\nContent-Length: 2\r\nx-tenant: a\r\n\r\n"
    );
    let records = proxy.audit.closed(1).await;
    assert_eq!(&*records[0].opening.authority, "collector.example:4318");
    assert_eq!(&*records[0].opening.path, "/telemetry/v1/logs?a");
    assert!(records[0].durable);
    assert_eq!(proxy.inspection.captured.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_export_over_grpc_reaches_a_collector_in_cleartext_and_in_tls() {
    let ca = TestCa::new();
    let plain = Origin::plain().await;
    let secure = Origin::tls(&ca, &["collector.example"], &["h2"]).await;
    for (origin, scheme) in [(&plain, Scheme::Http), (&secure, Scheme::Https)] {
        let setup = Setup::new(&ca, origin.address);
        let (proxy, address) = receiving(setup, collector(scheme, "collector.example:4317")).await;

        let (_, _, body) = grpc(address, b"\0\0\0\0\x02hi").await;

        assert_eq!(&body[..], b"\0\0\0\0\x02hi");
        let head = &origin.seen()[0].head;
        let uri = format!("POST {}://collector.example:4317{GRPC}\r\n", scheme.as_str());
        assert!(head.starts_with(&uri), "{head}");
        assert!(head.contains("te: trailers\r\n"), "{head}");
        assert_eq!(proxy.audit.closed(1).await[0].closing().outcome, Outcome::Forwarded);
    }
}

#[tokio::test]
async fn the_collector_sees_the_client_certificate_and_is_checked_against_its_own_root() {
    let (ours, theirs) = (TestCa::new(), TestCa::new());
    let origin = Origin::mutual_tls(&theirs, &["collector.example"]).await;
    let (certificate, key) = theirs.leaf(&["client.example"]);
    let identity = Arc::new(Identity { certificates: vec![certificate], key });
    let with = CollectorTls { roots: Some(theirs.roots()), identity: Some(identity) };
    let without = CollectorTls { roots: Some(theirs.roots()), identity: None };
    let mut statuses = Vec::new();
    for tls in [Some(with), Some(without), None] {
        let collector = CollectorConfig { tls, ..collector(Scheme::Https, "collector.example:443") };
        let (_proxy, address) = receiving(Setup::new(&ours, origin.address), collector).await;
        let mut client = Client::plain(address).await;

        let answer = client.ask("POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}").await;

        statuses.push(answer.status);
    }

    assert_eq!(statuses, [200, 503, 503]);
}

#[tokio::test]
async fn a_collector_that_is_down_is_said_as_a_collector_says_it() {
    let down = nowhere().await;
    let setup = Setup::new(&TestCa::new(), down);
    let (proxy, address) = receiving(setup, collector(Scheme::Http, "collector.example:4318")).await;
    let mut client = Client::plain(address).await;

    let http = client
        .ask("POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        .await;
    let (head, _, body) = grpc(address, b"\0\0\0\0\0").await;

    assert_eq!(http.status, 503);
    assert!(http.head.to_ascii_lowercase().contains("\r\nretry-after: 2\r\n"), "{}", http.head);
    let said: serde_json::Value = serde_json::from_slice(&http.body).unwrap();
    assert_eq!(said["code"], 14);
    assert_eq!((head["grpc-status"].as_bytes(), body.len()), (&b"14"[..], 0));
    for record in proxy.audit.closed(2).await {
        assert_eq!((record.closing().outcome, record.closing().status), (Outcome::UpstreamFailed, Some(503)));
    }
}

#[tokio::test]
async fn a_batch_that_was_refused_before_is_to_come_back_later() {
    let setup = Setup::new(&TestCa::new(), nowhere().await);
    let (_proxy, address) = receiving(setup, collector(Scheme::Http, "collector.example:4318")).await;
    let mut client = Client::plain(address).await;
    let mut retry_after = async |body: &str| {
        let request =
            format!("POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let head = client.ask(&request).await.head.to_ascii_lowercase();
        head.split("retry-after: ").nth(1).unwrap().split_once("\r\n").unwrap().0.parse::<u64>().unwrap()
    };

    let first = retry_after("one").await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let again = retry_after("one").await;
    let another = retry_after("two").await;

    assert_eq!((first, another), (2, 2));
    assert!((7..=8).contains(&again), "{again}");
}

#[tokio::test]
async fn an_export_is_held_for_a_client_that_says_how_long_it_waits() {
    let origin = Origin::plain().await;
    let down = nowhere().await;
    let setup = Setup::new(&TestCa::new(), down);
    let (proxy, address) = receiving(setup, collector(Scheme::Http, "collector.example:4318")).await;

    let impatient = grpc_within(address, b"\0\0\0\0\x01a", "1500m").await;
    let patient = tokio::spawn(grpc_within(address, b"\0\0\0\0\x01b", "30S"));
    tokio::time::sleep(Duration::from_millis(700)).await;
    let seen_while_down = origin.seen().len();
    let listener = TcpListener::bind(down).await.unwrap();
    let far = origin.address;
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = TcpStream::connect(far).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    let (head, _, _) = patient.await.unwrap();

    assert_eq!(impatient.0["grpc-status"], "14");
    assert!(impatient.0.contains_key("google.rpc.retryinfo-bin"));
    assert_eq!(seen_while_down, 0);
    assert_ne!(head.get("grpc-status"), Some(&HeaderValue::from(14)));
    assert_eq!(origin.seen().len(), 1);
    let outcomes: Vec<_> =
        proxy.audit.closed(2).await.iter().map(|record| record.closing().outcome).collect();
    assert_eq!(outcomes, [Outcome::UpstreamFailed, Outcome::Forwarded]);
}

#[tokio::test]
async fn a_store_that_cannot_write_makes_the_client_try_again() {
    let origin = Origin::plain().await;
    let setup = Setup::new(&TestCa::new(), origin.address);
    setup.audit.unavailable.store(true, std::sync::atomic::Ordering::Relaxed);
    let (_proxy, address) = receiving(setup, collector(Scheme::Http, "collector.example:4318")).await;

    let (head, _, _) = grpc(address, b"\0\0\0\0\0").await;

    assert_eq!(head["grpc-status"], "14");
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn a_collector_on_this_machine_is_not_asked_of_the_proxy_that_we_are_behind() {
    let (ours, origin) = (TestCa::new(), Origin::plain().await);
    let proxies = [("http_proxy".into(), format!("http://{}", nowhere().await).into())];
    let mut setup = Setup::new(&ours, origin.address);
    setup.config.connect_to = Vec::new();
    setup.config.upstream = UpstreamProxies::from_environment(&proxies.into()).unwrap();
    let (_proxy, address) = receiving(setup, collector(Scheme::Http, &origin.address.to_string())).await;
    let mut client = Client::plain(address).await;

    let answer = client.ask("POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}").await;

    assert_eq!(answer.status, 200);
}

// PITFALLS 18
#[tokio::test]
async fn a_client_that_takes_the_proxy_for_loopback_reaches_the_receiver_once() {
    let origin = Origin::plain().await;
    let setup = Setup::new(&TestCa::new(), origin.address);
    let (proxy, address) = receiving(setup, collector(Scheme::Http, "collector.example:4318")).await;
    let mut client = Client::plain(proxy.address).await;

    let answer = client
        .ask(format!(
            "POST http://{address}/v1/logs HTTP/1.1\r\nHost: {address}\r\nContent-Length: 2\r\n\r\n{{}}"
        ))
        .await;

    assert_eq!(answer.status, 200);
    assert!(origin.seen()[0].head.starts_with("POST /telemetry/v1/logs HTTP/1.1\r\n"));
    assert_eq!(proxy.audit.closed(1).await.len(), 1);
}

// PITFALLS 19
#[tokio::test]
async fn a_collector_that_is_the_receiver_itself_is_not_dialled() {
    let listen = nowhere().await;
    let mut setup = Setup::new(&TestCa::new(), listen);
    setup.config.connect_to =
        vec![ConnectTo::parse(&format!("::{}:{}", listen.ip(), listen.port())).unwrap()];
    let config = collector(Scheme::Http, &listen.to_string());
    setup.config.receivers = vec![ReceiverConfig { listen, collectors: vec![config] }];
    let proxy = setup.start().await;
    let mut client = Client::plain(proxy.receivers[0]).await;

    let answer = client.ask("POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}").await;

    assert_eq!(answer.status, 503);
    assert_eq!(proxy.audit.closed(1).await[0].closing().outcome, Outcome::Refused);
}

// PITFALLS 29
#[tokio::test]
async fn a_web_page_cannot_export() {
    let origin = Origin::plain().await;
    let setup = Setup::new(&TestCa::new(), origin.address);
    let (proxy, address) = receiving(setup, collector(Scheme::Http, "collector.example:4318")).await;
    let mut client = Client::plain(address).await;

    let answer = client
        .ask("POST /v1/logs HTTP/1.1\r\nHost: localhost\r\nOrigin: https://page.example\r\nContent-Length: 2\r\n\r\n{}")
        .await;

    assert_eq!(answer.status, 403);
    assert!(origin.seen().is_empty());
    assert_eq!(proxy.audit.closed(1).await[0].closing().outcome, Outcome::Refused);
}
