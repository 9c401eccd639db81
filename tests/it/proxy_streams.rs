//! Streams: events, upgrades, resets, broken connections, the pool.

use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes};
use plainsight::model::{NotInspected, Outcome};

use crate::support::{Client, Origin, Setup, TestCa, h2_client};

async fn setup(alpn: &[&str]) -> (Origin, Setup) {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, &["api.example.test"], alpn).await;
    let setup = Setup::new(&ca, origin.address);
    (origin, setup)
}

// PITFALLS 27, 36
#[tokio::test]
async fn each_event_arrives_before_the_next_is_sent() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;

    client.send("POST /events HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: 0\r\n\r\n").await;
    client.read_head().await;
    for number in 0..3 {
        origin.go_on.notify_one();
        assert_eq!(client.read_line().await.to_ascii_lowercase(), "d\r\n");
        assert_eq!(client.read_line().await, format!("data: event{number}\n"));
        client.read_line().await;
    }

    assert_eq!(client.read_line().await, "0\r\n");
    assert_eq!(proxy.audit.closed(1).await[0].closing().response_bytes, 39);
}

#[tokio::test]
async fn an_upgrade_passes_bytes_and_is_recorded_as_such() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;
    let request = "GET /upgrade HTTP/1.1\r\nHost: api.example.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-Key: 1\r\n\r\n";

    let answer = client.ask(request).await;
    client.send("GET / not a request\n").await;

    assert_eq!(
        answer.head,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
    );
    assert_eq!(client.read_line().await, "GET / not a request\n");
    assert_eq!(origin.seen().pop().unwrap().head, request);
    drop(client);
    let record = proxy.audit.closed(1).await.remove(0);
    assert_eq!(record.closing().not_inspected, Some(NotInspected::Upgraded));
    assert_eq!(record.closing().outcome, Outcome::Tunneled);
    assert_eq!((record.closing().request_bytes, record.closing().response_bytes), (20, 20));
}

// PITFALLS 24
#[tokio::test]
async fn a_reset_stream_leaves_the_connection_alone() {
    let (origin, setup) = setup(&["h2"]).await;
    let proxy = setup.start().await;
    let client = Client::tls(&proxy, "api.example.test:443", &["h2"]).await;
    let mut sender = h2_client(client.stream.into_inner()).await;
    let request = |path: &str| {
        let body = Full::new(Bytes::from_static(b"hi")).map_err(|never| match never {}).boxed();
        Request::post(format!("https://api.example.test{path}")).body(body).unwrap()
    };

    // A reset may overtake the head of the answer.
    let broken = match sender.send_request(request("/reset")).await {
        Ok(response) => response.into_body().collect().await.map(drop),
        Err(error) => Err(error),
    };
    let whole = sender.send_request(request("/echo")).await.unwrap().into_body().collect().await.unwrap();

    assert!(broken.is_err());
    assert_eq!(whole.to_bytes(), "hi");
    let records = proxy.audit.closed(2).await;
    assert_eq!(records[0].closing().outcome, Outcome::UpstreamFailed);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn an_answer_that_is_cut_short_is_cut_short_for_the_client() {
    let (_origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;

    client.send("GET /cut HTTP/1.1\r\nHost: api.example.test\r\n\r\n").await;
    assert!(client.read_head().await.contains("Content-Length: 100"));
    let mut rest = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut rest).await;

    assert_eq!(rest, b"half");
    assert_eq!(proxy.audit.closed(1).await[0].closing().outcome, Outcome::UpstreamFailed);
}

#[tokio::test]
async fn a_client_that_leaves_is_recorded_as_gone() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    for path in ["/events", "/wait"] {
        let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: api.example.test\r\n\r\n")).await;
        while !origin.seen().iter().any(|seen| seen.head.contains(path)) {
            tokio::task::yield_now().await;
        }
        drop(client);
    }

    let records = proxy.audit.closed(2).await;

    assert!(records.iter().all(|record| record.closing().outcome == Outcome::ClientGone), "{records:#?}");
}

// PITFALLS 6
#[tokio::test]
async fn a_value_split_over_two_chunks_is_inspected_whole() {
    let (_origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;
    let head = "POST /telemetry HTTP/1.1\r\nHost: api.example.test\r\nTransfer-Encoding: chunked\r\n\r\n";

    client.send(format!("{head}9\r\n{{\"m\":\"bob\r\n")).await;
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert_eq!(client.ask("f\r\n@corp.example\"}\r\n0\r\n\r\n").await.status, 200);

    let captured = proxy.inspection.captured.lock().unwrap().pop().unwrap();
    let plainsight::model::CapturedBody::Complete(body) = captured.body else {
        panic!("{:?}", captured.body)
    };
    assert_eq!(&body[..], br#"{"m":"bob@corp.example"}"#);
}

// The real client ends without waiting for the answer to its last batch.
#[tokio::test]
async fn what_arrived_whole_is_sent_on_even_if_the_client_hangs_up() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;
    let body = "x".repeat(100_000);
    let head = "POST /telemetry/slow HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: 100000";

    client.send(format!("{head}\r\n\r\n{body}")).await;
    while proxy.inspection.captured.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(client);

    proxy.audit.closed(1).await;
    assert_eq!(origin.seen().pop().unwrap().body.len(), 100_000);
}

// PITFALLS 26
#[tokio::test]
async fn a_dead_pooled_connection_is_replaced() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;
    for _ in 0..3 {
        // The origin answers as if it kept the connection, and closes it.
        assert_eq!(client.ask("GET /once HTTP/1.1\r\nHost: api.example.test\r\n\r\n").await.status, 200);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }

    assert_eq!(origin.seen().len(), 3);
    assert!(proxy.audit.closed(3).await.iter().all(|record| record.closing().outcome == Outcome::Forwarded));
}

#[tokio::test]
async fn a_second_connection_to_a_known_host_needs_no_dial() {
    for alpn in ["http/1.1", "h2"] {
        let (origin, setup) = setup(&[alpn]).await;
        let proxy = setup.start().await;
        for _ in 0..3 {
            let client = Client::tls(&proxy, "api.example.test:443", &["h2", "http/1.1"]).await;
            assert_eq!(client.alpn().as_deref(), Some(alpn));
        }

        assert_eq!(origin.connections(), 1);
    }
}

// PITFALLS 35
#[tokio::test]
async fn idle_upstream_connections_are_bounded_in_number() {
    let ca = TestCa::new();
    let origin = Origin::plain().await;
    let mut setup = Setup::new(&ca, origin.address);
    setup.config.limits.idle_total = 4;
    let proxy = setup.start().await;
    let mut client = Client::plain(proxy.address).await;
    for number in 0..12 {
        let request = format!("GET http://host{number}.test/ HTTP/1.1\r\nHost: host{number}.test\r\n\r\n");
        assert_eq!(client.ask(request).await.status, 200);
    }
    assert_eq!(origin.connections(), 12);

    // The last four are still there, the others are not.
    for number in (0..12).rev() {
        let request = format!("GET http://host{number}.test/ HTTP/1.1\r\nHost: host{number}.test\r\n\r\n");
        assert_eq!(client.ask(request).await.status, 200);
    }
    assert_eq!(origin.connections(), 12 + 8);
}

// PITFALLS 3
#[tokio::test]
async fn an_answer_that_comes_before_the_request_is_read_arrives() {
    let (_origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    for path in ["/early", "/telemetry/early"] {
        let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;
        client
            .send(format!("POST {path} HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: 100\r\n\r\n"))
            .await;
        if path == "/telemetry/early" {
            client.send("x".repeat(100)).await;
        }

        assert_eq!(client.answer("POST").await.status, 413);
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_it_sends_is_recorded_as_gone() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    for path in ["/echo", "/telemetry/echo"] {
        let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;
        client
            .send(format!(
                "POST {path} HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: 100\r\n\r\nhalf"
            ))
            .await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        drop(client);
    }

    let records = proxy.audit.closed(2).await;

    assert!(records.iter().all(|record| record.closing().outcome == Outcome::ClientGone), "{records:#?}");
    assert!(
        origin.seen().iter().all(|seen| seen.head.contains(" /echo ")),
        "half of a telemetry body does not leave"
    );
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (_origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;
    let request = |body: &str| {
        format!("POST /echo HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: 1\r\n\r\n{body}")
    };

    client.send(["a", "b", "c"].map(request).concat()).await;

    for body in ["a", "b", "c"] {
        assert_eq!(client.answer("POST").await.body, body.as_bytes());
    }
}

#[tokio::test]
async fn many_requests_at_once_over_http2_share_one_connection() {
    let (origin, setup) = setup(&["h2"]).await;
    let proxy = setup.start().await;
    let client = Client::tls(&proxy, "api.example.test:443", &["h2"]).await;
    let sender = h2_client(client.stream.into_inner()).await;
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..64 {
        let mut sender = sender.clone();
        asking.spawn(async move {
            let text = number.to_string().repeat(5000);
            let body = Full::new(Bytes::from(text.clone())).map_err(|never| match never {}).boxed();
            let path = if number % 2 == 0 { "/telemetry" } else { "/echo" };
            let request = Request::post(format!("https://api.example.test{path}")).body(body).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert!(response.into_body().collect().await.unwrap().to_bytes() == text);
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked.unwrap();
    }

    assert_eq!(origin.connections(), 1);
    assert!(proxy.audit.closed(64).await.iter().all(|record| record.closing().outcome == Outcome::Forwarded));
}

// PITFALLS 35
#[tokio::test]
async fn upstream_connections_that_were_idle_for_too_long_are_not_used() {
    let ca = TestCa::new();
    let origin = Origin::plain().await;
    let mut setup = Setup::new(&ca, origin.address);
    setup.config.limits.idle_time = std::time::Duration::ZERO;
    let proxy = setup.start().await;
    let mut client = Client::plain(proxy.address).await;
    for _ in 0..3 {
        assert_eq!(client.ask("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n").await.status, 200);
    }

    assert_eq!(origin.connections(), 3);
}

#[tokio::test]
async fn a_batch_whose_client_ended_early_is_recorded_with_its_answer() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;
    let batch = "POST /telemetry/wait HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: 2\r\n\r\nhi";

    client.send(batch).await;
    while !origin.seen().iter().any(|seen| seen.body == b"hi") {
        tokio::task::yield_now().await;
    }
    drop(client);
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    origin.go_on.notify_one();

    let closing = proxy.audit.closed(1).await.remove(0).closing().clone();
    assert_eq!((closing.outcome, closing.status), (Outcome::Forwarded, Some(200)), "{closing:?}");
}

#[tokio::test]
async fn a_batch_whose_answer_stalls_for_nobody_is_recorded_as_left() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;

    client
        .send("POST /telemetry/events HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: 0\r\n\r\n")
        .await;
    origin.go_on.notify_one();
    client.read_head().await;
    drop(client);

    let closing = proxy.audit.closed(1).await.remove(0).closing().clone();
    assert_eq!((closing.outcome, closing.status), (Outcome::ClientGone, Some(200)), "{closing:?}");
}

/// Over HTTP/2 the end of an answer may come after the last of its bytes; a client that counts them is gone by then.
#[tokio::test]
async fn an_answer_with_all_its_bytes_is_whole_before_its_stream_ends() {
    let (_origin, setup) = setup(&["h2"]).await;
    let proxy = setup.start().await;
    let client = Client::tls(&proxy, "api.example.test:443", &["h2"]).await;
    let mut sender = h2_client(client.stream.into_inner()).await;
    let body = Full::new(Bytes::from_static(b"hi")).map_err(|never| match never {}).boxed();

    let mut answer = sender
        .send_request(Request::post("https://api.example.test/unended").body(body).unwrap())
        .await
        .unwrap();
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "hi");
    drop((answer, sender));

    let closing = proxy.audit.closed(1).await.remove(0).closing().clone();
    assert_eq!((closing.outcome, closing.response_bytes), (Outcome::Forwarded, 2), "{closing:?}");
}
