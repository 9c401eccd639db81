//! What is refused, and how it is said.

use std::time::Duration;

use plainsight::{
    model::{ByteSize, FlowKind, LocalAnswer, NotInspected, Outcome},
    proxy::Forward,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{Client, Origin, Setup, TestCa, h2_client, tls_config};

async fn setup(alpn: &[&str]) -> (Origin, Setup) {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, &["api.example.test"], alpn).await;
    let setup = Setup::new(&ca, origin.address);
    (origin, setup)
}

// PITFALLS 20
#[tokio::test]
async fn ambiguous_requests_get_a_400_a_closed_connection_and_a_record() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let requests = [
        "POST /telemetry HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /telemetry HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "POST /telemetry HTTP/1.1\r\nHost: api.example.test\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
        "GET /telemetry HTTP/1.1\r\nHost: api.example.test\r\nX: a\r\n folded\r\n\r\n",
        "GET /telemetry HTTP/1.1\r\nHost: api.example.test\r\nX: a\rb\r\n\r\n",
        "GET /telemetry HTTP/1.1\r\nHost : api.example.test\r\n\r\n",
    ];
    for request in requests {
        let mut client = Client::tls(&proxy, "api.example.test:443", &["http/1.1"]).await;

        assert_eq!(client.ask(request).await.status, 400, "{request:?}");
        assert!(client.is_closed().await);
    }
    let records = proxy.audit.closed(requests.len()).await;
    assert!(
        records
            .iter()
            .all(|record| record.closing().outcome == Outcome::Refused && record.closing().error.is_some())
    );
    assert!(origin.seen().is_empty());
}

// PITFALLS 20
#[tokio::test]
async fn a_malformed_chunk_is_refused_before_anything_is_sent() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;

    let answer = client
        .ask("POST /telemetry HTTP/1.1\r\nHost: api.example.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX")
        .await;

    assert_eq!(answer.status, 400);
    assert_eq!(proxy.audit.closed(1).await[0].closing().outcome, Outcome::Refused);
    assert!(origin.seen().is_empty());
}

// PITFALLS 13
#[tokio::test]
async fn host_must_be_the_host_of_the_tunnel_on_every_request() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;

    assert_eq!(client.ask("GET /a HTTP/1.1\r\nHost: API.example.test:443\r\n\r\n").await.status, 200);
    assert_eq!(client.ask("GET /b HTTP/1.1\r\nHost: other.example.test\r\n\r\n").await.status, 421);
    assert_eq!(client.ask("GET /c HTTP/1.1\r\nHost: api.example.test:8443\r\n\r\n").await.status, 421);
    assert_eq!(
        client.ask("GET http://other.test/d HTTP/1.1\r\nHost: api.example.test\r\n\r\n").await.status,
        421
    );
    assert_eq!(client.ask("GET /e HTTP/1.1\r\nHost: api.example.test\r\nHost: b\r\n\r\n").await.status, 400);
    assert_eq!(client.ask("GET /f HTTP/1.1\r\nX: a\r\n\r\n").await.status, 400);

    let outcomes: Vec<_> =
        proxy.audit.closed(6).await.iter().map(|record| record.closing().outcome).collect();
    assert_eq!(outcomes[0], Outcome::Forwarded);
    assert!(outcomes[1..].iter().all(|outcome| *outcome == Outcome::Refused));
    assert_eq!(origin.seen().len(), 1);
}

// PITFALLS 13
#[tokio::test]
async fn authority_must_be_the_host_of_the_tunnel_over_http2() {
    use http_body_util::{BodyExt, Empty};

    let (origin, setup) = setup(&["h2"]).await;
    let proxy = setup.start().await;
    let client = Client::tls(&proxy, "api.example.test:443", &["h2"]).await;
    let mut sender = h2_client(client.stream.into_inner()).await;
    for (authority, status) in [("other.example.test", 421), ("api.example.test", 200)] {
        let body = Empty::new().map_err(|never| match never {}).boxed();
        let request = hyper::Request::get(format!("https://{authority}/x")).body(body).unwrap();

        assert_eq!(sender.send_request(request).await.unwrap().status(), status);
    }
    assert_eq!(proxy.audit.closed(2).await[0].closing().outcome, Outcome::Refused);
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn telemetry_is_refused_when_the_store_cannot_write_and_the_conversation_goes_on() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    proxy.audit.unavailable.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;

    let telemetry =
        client.ask("POST /telemetry HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: 2\r\n\r\n{}").await;
    let conversation =
        client.ask("POST /v1 HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: 2\r\n\r\n{}").await;

    assert_eq!((telemetry.status, telemetry.body.as_slice()), (403, &b"failed"[..]));
    assert_eq!(conversation.status, 200);
    assert_eq!(origin.seen().len(), 1);
    let records = proxy.audit.closed(2).await;
    assert_eq!(records[0].closing().outcome, Outcome::Refused);
    assert!(records[0].closing().error.as_deref().unwrap().contains("the disk is full"));
}

#[tokio::test]
async fn settings_go_on_when_we_fail() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;

    let panicked = client.ask("GET /settings/panic HTTP/1.1\r\nHost: api.example.test\r\n\r\n").await;
    proxy.audit.unavailable.store(true, std::sync::atomic::Ordering::Relaxed);
    let unrecorded = client.ask("GET /settings HTTP/1.1\r\nHost: api.example.test\r\n\r\n").await;

    assert_eq!((panicked.status, unrecorded.status), (200, 200));
    assert_eq!(origin.seen().len(), 2);
    let records = proxy.audit.closed(2).await;
    assert_eq!(records[0].opening.not_inspected, Some(NotInspected::InternalError));
    assert_eq!(records[0].closing().outcome, Outcome::Forwarded);
}

#[tokio::test]
async fn a_panic_in_inspection_costs_one_request() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;
    let large = "x".repeat(100_000);
    for body in ["{}", large.as_str()] {
        let head = format!(
            "POST /telemetry/panic HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: {}",
            body.len()
        );

        assert_eq!(client.ask(format!("{head}\r\n\r\n{body}")).await.status, 403);
    }
    assert_eq!(client.ask("GET /telemetry HTTP/1.1\r\nHost: api.example.test\r\n\r\n").await.status, 200);

    let records = proxy.audit.closed(3).await;
    assert_eq!(records[0].opening.not_inspected, Some(NotInspected::InternalError));
    assert_eq!(records[1].closing().outcome, Outcome::Refused);
    assert_eq!(origin.seen().len(), 1);
}

// PITFALLS 3
#[tokio::test]
async fn a_refused_request_is_read_to_its_end_or_the_connection_closes() {
    let (origin, mut setup) = setup(&["http/1.1"]).await;
    setup.config.limits.body = ByteSize::kibibytes(1);
    setup.config.limits.drain = ByteSize::kibibytes(512);
    *setup.inspection.forward.lock().unwrap() = Some(Forward::Refused(LocalAnswer {
        status: http::StatusCode::ACCEPTED,
        headers: http::HeaderMap::new(),
        body: "{}".into(),
        trailers: None,
    }));
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;
    let request = |length: usize| {
        let head =
            format!("POST /telemetry HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: {length}\r\n\r\n");
        head + &"x".repeat(length)
    };

    let drained = client.ask(request(400 * 1024)).await;
    let again = client.ask(request(10)).await;
    let mut closing = Client::tls(&proxy, "api.example.test:443", &[]).await;
    closing.send(&request(4 * 1024 * 1024)[..3 * 1024 * 1024]).await;
    let closed = closing.answer("POST").await;

    assert_eq!((drained.status, again.status, closed.status), (202, 202, 202));
    assert_eq!(drained.body, b"{}");
    assert!(closed.head.contains("connection: close\r\n"));
    assert!(origin.seen().is_empty());
}

// PITFALLS 23
#[tokio::test]
async fn expect_continue_is_answered_when_the_body_is_wanted() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;
    for path in ["/echo", "/telemetry/echo"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: api.example.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        );

        client.send(&head).await;
        assert_eq!(client.read_head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("{}").await;

        assert_eq!(client.answer("POST").await.body, b"{}");
        assert_eq!(origin.seen().pop().unwrap().head, head);
    }
}

// PITFALLS 23
#[tokio::test]
async fn expect_continue_is_not_answered_when_the_head_is_refused() {
    let (_origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;

    client
        .send("POST /x HTTP/1.1\r\nHost: other.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .await;
    let head = client.read_head().await;

    assert!(head.starts_with("HTTP/1.1 421 ") && head.contains("connection: close"), "{head}");
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up_and_an_idle_connection_is_not() {
    let (_origin, mut setup) = setup(&["http/1.1"]).await;
    setup.config.limits.head_time = std::time::Duration::from_millis(200);
    let proxy = setup.start().await;
    let mut idle = Client::tls(&proxy, "api.example.test:443", &[]).await;
    let request = "GET / HTTP/1.1\r\nHost: api.example.test\r\n\r\n";
    assert_eq!(idle.ask(request).await.status, 200);
    let mut slow = Client::plain(proxy.address).await;

    slow.send("GET http://a.test/ HTTP/1.1\r\nX: ").await;

    assert_eq!(slow.answer("GET").await.status, 408);
    assert_eq!(idle.ask(request).await.status, 200);
    assert_eq!(
        proxy.audit.closed(3).await.iter().filter(|r| r.closing().outcome == Outcome::Refused).count(),
        1
    );
}

#[tokio::test]
async fn a_head_without_end_in_size_is_refused() {
    let (_origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;

    client.send(format!("GET / HTTP/1.1\r\nHost: api.example.test\r\nX: {}", "x".repeat(65 * 1024))).await;

    assert_eq!(client.answer("GET").await.status, 431);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_blocked_call_over_http_2_gets_its_trailers_and_the_connection_goes_on() {
    use http_body_util::{BodyExt, Full};

    let (origin, setup) = setup(&["h2"]).await;
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    *setup.inspection.forward.lock().unwrap() = Some(Forward::Refused(LocalAnswer {
        status: http::StatusCode::OK,
        headers: http::HeaderMap::new(),
        body: vec![0; 5].into(),
        trailers: Some(trailers),
    }));
    let proxy = setup.start().await;
    let client = Client::tls(&proxy, "api.example.test:443", &["h2"]).await;
    let mut sender = h2_client(client.stream.into_inner()).await;
    for _ in 0..2 {
        let body =
            Full::new(hyper::body::Bytes::from_static(b"call")).map_err(|never| match never {}).boxed();
        let request = hyper::Request::post("https://api.example.test/telemetry").body(body).unwrap();

        let answer = sender.send_request(request).await.unwrap();
        let answer = answer.into_body().collect().await.unwrap();

        assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(&answer.to_bytes()[..], [0; 5]);
    }
    assert!(origin.seen().is_empty());
    assert_eq!(proxy.audit.closed(2).await[1].closing().outcome, Outcome::Refused);
}

#[tokio::test]
async fn a_tunnel_that_policy_does_not_let_pass_is_refused_before_anything_is_dialled() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::plain(proxy.address).await;

    let kept = client.connect("secret.kept.tunnel:443").await;

    assert_eq!(kept.status, 403);
    assert!(String::from_utf8(kept.body).unwrap().contains("row `default`"));
    let record = proxy.audit.closed(1).await.remove(0);
    assert_eq!(record.closing().outcome, Outcome::Refused);
    assert_eq!(record.opening.not_inspected, Some(NotInspected::NotIntercepted));
    assert_eq!(origin.connections(), 0);
    // The same way lets others pass.
    assert_eq!(Client::plain(proxy.address).await.connect("other.tunnel:443").await.status, 200);
}

// A busy machine takes seconds from `CONNECT` to the ClientHello.
#[tokio::test]
async fn a_client_that_is_slow_to_speak_is_waited_for_where_nothing_may_pass_unread() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, &["slow.kept.test"], &["http/1.1"]).await;
    let mut setup = Setup::new(&ca, origin.address);
    setup.config.limits.sniff_time = std::time::Duration::from_millis(20);
    let proxy = setup.start().await;
    let tunnel = Client::tunnel(&proxy, "slow.kept.test:443").await;

    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let mut tunnel = tunnel;
    tunnel.send("GET /telemetry HTTP/1.1\r\nHost: slow.kept.test:443\r\n\r\n").await;
    let answer = tunnel.answer("GET").await;

    // In cleartext, to an origin that speaks TLS: what matters is that it was read.
    let record = proxy.audit.closed(1).await.remove(0);
    assert_eq!((&*record.opening.path, record.opening.not_inspected), ("/telemetry", None), "{answer:?}");
}

// The same where a protocol that is unknown may pass: the client is not taken for one that waits for the server.
#[tokio::test]
async fn a_client_that_is_slow_to_speak_is_read_where_unknown_protocols_may_pass() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, &["slow.test"], &["http/1.1"]).await;
    let mut setup = Setup::new(&ca, origin.address);
    setup.config.limits.sniff_time = Duration::from_millis(20);
    let proxy = setup.start().await;
    // A word that is not said to its end is waited for as well.
    for first in ["", "G"] {
        let mut tunnel = Client::tunnel(&proxy, "slow.test:443").await;
        tunnel.send(first).await;

        tokio::time::sleep(Duration::from_millis(200)).await;
        let request = "GET /telemetry HTTP/1.1\r\nHost: slow.test:443\r\n\r\n";
        tunnel.send(&request[first.len()..]).await;
        let answer = tunnel.answer("GET").await;

        // In cleartext, to an origin that speaks TLS: what matters is that it was read.
        let record = proxy.audit.closed(1).await.remove(0);
        assert_eq!((&*record.opening.path, record.opening.not_inspected), ("/telemetry", None), "{answer:?}");
    }
    let tls = tls_config(proxy.ca.roots(), &["http/1.1"]);
    let tunnel = Client::tunnel(&proxy, "slow.test:443").await.stream.into_inner();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let name = "slow.test".try_into().unwrap();
    let stream = tokio_rustls::TlsConnector::from(tls).connect(name, tunnel).await.unwrap();
    let mut client = Client { stream: tokio::io::BufReader::new(stream) };

    let answer = client.ask("GET /telemetry HTTP/1.1\r\nHost: slow.test\r\n\r\n").await;

    assert_eq!(answer.status, 200);
    assert!(proxy.audit.closed(3).await.iter().all(|record| record.opening.kind == FlowKind::Request));
}

// PITFALLS 25
#[tokio::test]
async fn a_server_that_speaks_first_is_passed_through_and_recorded() {
    let ca = TestCa::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut setup = Setup::new(&ca, listener.local_addr().unwrap());
    setup.config.limits.sniff_time = Duration::from_millis(20);
    let proxy = setup.start().await;
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 hello\r\n").await.unwrap();
        let mut said = [0; 6];
        stream.read_exact(&mut said).await.unwrap();
        said
    });
    let mut tunnel = Client::tunnel(&proxy, "mail.test:443").await;

    assert_eq!(tunnel.read_line().await, "220 hello\r\n");
    tunnel.send("HELO a").await;

    assert_eq!(&serving.await.unwrap(), b"HELO a");
    drop(tunnel);
    let record = proxy.audit.closed(1).await.remove(0);
    assert_eq!(record.opening.not_inspected, Some(NotInspected::UnknownProtocol));
    assert_eq!(record.closing().outcome, Outcome::Tunneled);
    assert_eq!((record.closing().request_bytes, record.closing().response_bytes), (6, 11));
}

// A server gives up a connection on which nothing is said; so does the proxy, and passes nothing on unread.
#[tokio::test]
async fn a_client_that_never_speaks_is_let_go_when_the_server_does() {
    let ca = TestCa::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut setup = Setup::new(&ca, listener.local_addr().unwrap());
    setup.config.limits.sniff_time = Duration::from_millis(20);
    let proxy = setup.start().await;
    for goodbye in [&b""[..], b"\x15\x03\x03\x00\x02\x01\x00", b"HTTP/1.1 408 Request Timeout\r\n\r\n"] {
        let mut tunnel = Client::tunnel(&proxy, "silent.test:443").await;
        let (mut stream, _) = listener.accept().await.unwrap();

        stream.write_all(goodbye).await.unwrap();
        drop(stream);

        assert!(tunnel.is_closed().await, "{goodbye:?}");
    }
    assert!(proxy.audit.records().is_empty());
}
