//! What leaves is what came: compared byte for byte with what the origin got.

use http::HeaderMap;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{Request, body::Bytes};
use plainsight::{
    model::{ByteSize, CapturedBody, NotInspected, Outcome, RewrittenRequest},
    proxy::Forward,
};

use crate::support::{Client, Origin, Setup, TestCa, h2_client};

const HOST: &str = "api.example.test";

async fn setup(alpn: &[&str]) -> (Origin, Setup) {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, &[HOST], alpn).await;
    let setup = Setup::new(&ca, origin.address);
    (origin, setup)
}

#[tokio::test]
async fn a_request_arrives_byte_for_byte() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &["http/1.1"]).await;
    for path in ["/echo", "/telemetry/echo"] {
        let head = format!(
            "POST {path}?q=a%20b&c=%C3%A9&&x HTTP/1.1\r\nhOsT: api.example.test\r\nX-First: 1\r\nACCEPT: */*\r\nx-dup: a\r\n\
             X-Dup: b\r\nAccept-Encoding: gzip, br\r\nX-Empty:\r\nUser-Agent: t/1 (x; y)\r\nContent-Length: 5\r\n\r\n"
        );

        let answer = client.ask(format!("{head}h\u{0}\r\n!")).await;

        let seen = origin.seen().pop().unwrap();
        assert_eq!(seen.head, head);
        assert_eq!(seen.body, b"h\0\r\n!");
        assert_eq!(answer.body, b"h\0\r\n!");
    }
    let records = proxy.audit.closed(2).await;
    for (record, durable) in records.iter().zip([false, true]) {
        assert_eq!(record.closing().outcome, Outcome::Forwarded);
        assert_eq!((record.closing().request_bytes, record.closing().response_bytes), (5, 5));
        assert_eq!(record.closing().status, Some(200));
        assert_eq!(record.durable, durable, "only telemetry waits for its record");
    }
}

#[tokio::test]
async fn a_chunked_request_stays_chunked() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;
    for path in ["/echo", "/telemetry/echo"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: api.example.test\r\ntransfer-Encoding: chunked\r\nX-After: 1\r\n\r\n"
        );

        let answer = client.ask(format!("{head}3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")).await;

        assert_eq!(origin.seen().pop().unwrap().head, head);
        assert_eq!(answer.body, b"abcdefg");
    }
}

#[tokio::test]
async fn an_empty_chunked_body_stays_chunked() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;
    let request = "POST /telemetry/echo HTTP/1.1\r\nHost: api.example.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";

    client.ask(request).await;

    let seen = origin.seen().pop().unwrap();
    assert_eq!(format!("{}{}", seen.head, String::from_utf8(seen.body).unwrap()), request);
}

// PITFALLS 23
#[tokio::test]
async fn trailers_pass_both_ways_over_http1() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;
    for path in ["/chunked", "/telemetry/chunked"] {
        let answer = client
            .ask(format!(
                "POST {path} HTTP/1.1\r\nHost: api.example.test\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: X-Digest\r\n\r\n\
                 3\r\nabc\r\n0\r\nX-Digest: 42\r\n\r\n"
            ))
            .await;

        let body = String::from_utf8(origin.seen().pop().unwrap().body).unwrap().to_ascii_lowercase();
        assert!(body.ends_with("0\r\nx-digest: 42\r\n\r\n"), "{body}");
        assert_eq!(answer.body, b"abc");
        assert_eq!(answer.trailers.to_ascii_lowercase(), "x-sum: 7\r\n");
        assert!(answer.head.contains("X-CaSe: Kept\r\n"));
    }
    let captured = proxy.inspection.captured.lock().unwrap().pop().unwrap();
    assert_eq!(captured.trailers.unwrap()["x-digest"], "42");
}

// PITFALLS 23
#[tokio::test]
async fn grpc_passes_over_http2_with_trailers_and_trailers_only() {
    let (origin, setup) = setup(&["h2"]).await;
    let proxy = setup.start().await;
    let client = Client::tls(&proxy, "api.example.test:443", &["h2"]).await;
    assert_eq!(client.alpn().as_deref(), Some("h2"));
    let mut sender = h2_client(client.stream.into_inner()).await;
    for path in ["/grpc", "/telemetry/grpc", "/telemetry/trailers-only"] {
        let body = Full::new(Bytes::from_static(b"\0\0\0\0\x02hi")).map_err(|never| match never {});
        let request = Request::post(format!("https://api.example.test{path}"))
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .body(body.boxed())
            .unwrap();

        let response = sender.send_request(request).await.unwrap();

        let status = response.headers().get("grpc-status").cloned();
        let collected = response.into_body().collect().await.unwrap();
        match status {
            Some(status) => assert_eq!(status, "12"),
            None => assert_eq!(collected.trailers().unwrap()["grpc-status"], "0"),
        }
        let seen = origin.seen().pop().unwrap();
        assert!(seen.head.starts_with(&format!("POST https://api.example.test{path}\r\nte: trailers\r\n")));
        assert_eq!(seen.body, b"\0\0\0\0\x02hi");
    }
    let records = proxy.audit.closed(3).await;
    assert!(records.iter().all(|record| record.closing().outcome == Outcome::Forwarded));
}

#[tokio::test]
async fn nothing_is_added_over_http2() {
    let (origin, setup) = setup(&["h2"]).await;
    let proxy = setup.start().await;
    let client = Client::tls(&proxy, "api.example.test:443", &["h2"]).await;
    let mut sender = h2_client(client.stream.into_inner()).await;
    for path in ["/a", "/telemetry/a"] {
        let body = Empty::new().map_err(|never| match never {}).boxed();
        let request =
            Request::get(format!("https://api.example.test{path}?x=1")).header("a", "1").body(body).unwrap();

        sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();

        assert_eq!(
            origin.seen().pop().unwrap().head,
            format!("GET https://api.example.test{path}?x=1\r\na: 1\r\n")
        );
    }
}

// PITFALLS 21, 28
#[tokio::test]
async fn hop_by_hop_fields_go_and_nothing_names_this_tool() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;

    let answer = client
        .ask(
            "GET /hop HTTP/1.1\r\nHost: api.example.test\r\nA: 1\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nProxy-Connection: \
             keep-alive\r\nKeep-Alive: 5\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nB: 2\r\n\r\n",
        )
        .await;

    assert_eq!(
        origin.seen().pop().unwrap().head,
        "GET /hop HTTP/1.1\r\nHost: api.example.test\r\nA: 1\r\nB: 2\r\n\r\n"
    );
    assert_eq!(answer.head, "HTTP/1.1 200 OK\r\nX-Stays: 1\r\nContent-Length: 0\r\n\r\n");
    // The connection serves on after an upgrade that was not taken.
    assert_eq!(client.ask("GET /echo HTTP/1.1\r\nHost: api.example.test\r\n\r\n").await.status, 200);
}

#[tokio::test]
async fn large_bodies_pass_unchanged_and_only_their_start_is_kept() {
    let (origin, mut setup) = setup(&["http/1.1"]).await;
    setup.config.limits.body = ByteSize::kibibytes(256);
    let proxy = setup.start().await;
    let body: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    for (path, alpn) in [("/echo", "http/1.1"), ("/telemetry/echo", "http/1.1")] {
        let mut client = Client::tls(&proxy, "api.example.test:443", &[alpn]).await;
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(&body);

        let answer = client.ask(request).await;

        assert!(answer.body == body && origin.seen().pop().unwrap().body == body);
    }
    let records = proxy.audit.closed(2).await;
    assert_eq!(records[1].opening.not_inspected, Some(NotInspected::BodyTooLarge));
    assert_eq!(records[1].closing().request_bytes, 3_000_000);
    let captured = proxy.inspection.captured.lock().unwrap().pop().unwrap();
    assert!(
        matches!(captured.body, CapturedBody::OverLimit(start) if start.len() >= 256 * 1024 && start.len() < 1_000_000)
    );
}

// PITFALLS 23
#[tokio::test]
async fn answers_without_a_body_keep_their_head() {
    let (_origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;
    for (method, path, expected) in [
        ("HEAD", "/head", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"),
        ("GET", "/empty", "HTTP/1.1 204 No Content\r\nX-Empty: 1\r\n\r\n"),
        ("GET", "/fresh", "HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\nETag: \"x\"\r\n\r\n"),
    ] {
        let answer = client.ask(format!("{method} {path} HTTP/1.1\r\nHost: api.example.test\r\n\r\n")).await;

        assert_eq!(answer.head, expected);
    }
    assert!(proxy.audit.closed(3).await.iter().all(|record| record.closing().outcome == Outcome::Forwarded));
}

#[tokio::test]
async fn an_answer_that_ends_with_the_connection_arrives_whole() {
    let (_origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;

    let answer = client.ask("GET /close HTTP/1.1\r\nHost: api.example.test\r\n\r\n").await;

    assert_eq!(answer.body, b"until the end");
    assert!(answer.head.starts_with("HTTP/1.1 200 Fine\r\n"));
}

#[tokio::test]
async fn http_1_0_stays_http_1_0() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &["http/1.0"]).await;

    let answer = client.ask("GET /echo HTTP/1.0\r\nX-A: 1\r\n\r\n").await;

    assert_eq!(answer.status, 200);
    assert_eq!(client.alpn(), None);
    assert_eq!(origin.seen().pop().unwrap().head, "GET /echo HTTP/1.0\r\nX-A: 1\r\n\r\n");
}

#[tokio::test]
async fn large_bodies_pass_unchanged_over_http2() {
    let (origin, mut setup) = setup(&["h2"]).await;
    setup.config.limits.body = ByteSize::mebibytes(4);
    let proxy = setup.start().await;
    let client = Client::tls(&proxy, "api.example.test:443", &["h2"]).await;
    let mut sender = h2_client(client.stream.into_inner()).await;
    let body: Bytes = (0..6_000_000_u32).map(|number| (number % 251) as u8).collect();
    for (path, length) in
        [("/echo", 6_000_000), ("/telemetry/echo", 3_000_000), ("/telemetry/echo", 6_000_000)]
    {
        let sent = body.slice(..length);
        let request = Request::post(format!("https://api.example.test{path}"))
            .body(Full::new(sent.clone()).map_err(|never| match never {}).boxed())
            .unwrap();

        let answer =
            sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();

        assert!(answer == sent && origin.seen().pop().unwrap().body == sent);
    }
    let captured = proxy.inspection.captured.lock().unwrap();
    assert!(matches!(&captured[0].body, CapturedBody::Complete(bytes) if bytes.len() == 3_000_000));
    assert!(matches!(&captured[1].body, CapturedBody::OverLimit(_)));
}

/// What takes the place of a request, as an inspection would have it.
fn rewritten(target: &str, body: Option<&'static [u8]>) -> RewrittenRequest {
    let fields = [("host", HOST), ("x-after", "2"), ("content-length", "5")];
    RewrittenRequest {
        target: target.to_owned(),
        headers: fields
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>(),
        body: body.map(Bytes::from_static),
        trailers: None,
    }
}

// PITFALLS 22
#[tokio::test]
async fn a_rewritten_request_has_its_new_target_fields_and_length() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &["http/1.1"]).await;
    for (body, sent) in [(Some(&b"longer body"[..]), &b"longer body"[..]), (None, b"hello")] {
        let rewritten = rewritten("/telemetry/echo?who=anon", body);
        *proxy.inspection.forward.lock().unwrap() = Some(Forward::Rewritten(rewritten));
        let head = "POST /telemetry/echo?who=bob HTTP/1.1\r\nHost: api.example.test\r\nX-After: 1\r\nX-Gone: bob\r\n\
                    Content-Length: 5\r\n\r\n";

        let answer = client.ask(format!("{head}hello")).await;

        let seen = origin.seen().pop().unwrap();
        let expected = format!(
            "POST /telemetry/echo?who=anon HTTP/1.1\r\nHost: api.example.test\r\nX-After: 2\r\nContent-Length: {}\r\n\r\n",
            sent.len()
        );
        assert_eq!(seen.head, expected);
        assert_eq!(seen.body, sent);
        assert_eq!(answer.body, sent);
    }
}

// PITFALLS 22
#[tokio::test]
async fn a_rewritten_chunked_request_stays_chunked() {
    let (origin, setup) = setup(&["http/1.1"]).await;
    let proxy = setup.start().await;
    let mut client = Client::tls(&proxy, "api.example.test:443", &["http/1.1"]).await;
    let mut rewritten = rewritten("/telemetry/echo", Some(b"other"));
    rewritten.headers.remove("content-length");
    rewritten.headers.insert("transfer-encoding", "chunked".parse().unwrap());
    *proxy.inspection.forward.lock().unwrap() = Some(Forward::Rewritten(rewritten));
    let head = "POST /telemetry/echo HTTP/1.1\r\nHost: api.example.test\r\nX-After: 1\r\nTransfer-Encoding: chunked\r\n\r\n";

    client.ask(format!("{head}3\r\nbob\r\n0\r\n\r\n")).await;

    let seen = origin.seen().pop().unwrap();
    assert!(seen.head.contains("Transfer-Encoding: chunked\r\n"), "{}", seen.head);
    assert!(!seen.head.to_lowercase().contains("content-length"), "{}", seen.head);
    assert_eq!(String::from_utf8_lossy(&seen.body), "5\r\nother\r\n0\r\n\r\n");
}
