//! Tunnels, whole URLs, credentials, upstream proxies, shutdown.

use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes};
use plainsight::{
    model::{Authority, NotInspected, Outcome, Secret},
    proxy::UpstreamProxy,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{Client, Origin, Setup, TestCa, h2_client};

#[tokio::test]
async fn a_host_that_policy_does_not_name_is_tunnelled_and_recorded() {
    let ca = TestCa::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Setup::new(&ca, listener.local_addr().unwrap()).start().await;
    let mut client = Client::tunnel(&proxy, "blind.tunnel:22").await;
    let (mut server, _) = listener.accept().await.unwrap();

    server.write_all(b"server speaks first\n").await.unwrap();
    assert_eq!(client.read_line().await, "server speaks first\n");
    client.send(b"\x16\x03\x01 not looked at\n").await;
    let mut bytes = [0; 18];
    server.read_exact(&mut bytes).await.unwrap();
    drop((client, server));

    let records = proxy.audit.closed(1).await;
    assert_eq!(&*records[0].opening.authority, "blind.tunnel:22");
    assert_eq!(records[0].opening.not_inspected, Some(NotInspected::NotIntercepted));
    assert_eq!(records[0].closing().outcome, Outcome::Tunneled);
    assert_eq!((records[0].closing().request_bytes, records[0].closing().response_bytes), (18, 20));
}

#[tokio::test]
async fn a_whole_url_is_sent_as_a_path() {
    let ca = TestCa::new();
    let origin = Origin::plain().await;
    let proxy = Setup::new(&ca, origin.address).start().await;
    let mut client = Client::plain(proxy.address).await;
    for path in ["/v1/traces", "/telemetry/v1/traces"] {
        let answer = client
            .ask(format!("POST http://collector.test:4318{path}?a HTTP/1.1\r\nHost: collector.test:4318\r\nX-A: 1\r\nContent-Length: 2\r\n\r\n{{}}"))
            .await;

        assert_eq!(answer.body, b"{}");
        assert_eq!(
            origin.seen().pop().unwrap().head,
            format!(
                "POST {path}?a HTTP/1.1\r\nHost: collector.test:4318\r\nX-A: 1\r\nContent-Length: 2\r\n\r\n"
            )
        );
    }
    assert_eq!(origin.connections(), 1, "the connection is kept for the next request");
}

#[tokio::test]
async fn a_request_to_the_proxy_itself_says_what_this_is() {
    let ca = TestCa::new();
    let proxy = Setup::new(&ca, "127.0.0.1:1".parse().unwrap()).start().await;
    let mut client = Client::plain(proxy.address).await;

    let answer = client.ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;

    assert_eq!(answer.status, 400);
    assert!(String::from_utf8(answer.body).unwrap().contains("HTTPS_PROXY"));
}

// PITFALLS 30
#[tokio::test]
async fn a_credential_is_asked_for_and_never_forwarded() {
    let ca = TestCa::new();
    let origin = Origin::plain().await;
    let mut setup = Setup::new(&ca, origin.address);
    setup.config.credential = Some(Secret::new("run:secret".to_owned()));
    let proxy = setup.start().await;
    let mut client = Client::plain(proxy.address).await;

    assert_eq!(client.ask("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n").await.status, 407);
    assert_eq!(client.connect("a.test:443").await.status, 407);
    let wrong =
        "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nProxy-Authorization: Basic cnVuOndyb25nIQ==\r\n\r\n";
    assert_eq!(client.ask(wrong).await.status, 407);
    let right =
        "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nProxy-Authorization: Basic cnVuOnNlY3JldA==\r\n\r\n";
    assert_eq!(client.ask(right).await.status, 200);

    assert_eq!(origin.seen().pop().unwrap().head, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(origin.seen().len(), 1);
}

// PITFALLS 25
#[tokio::test]
async fn a_failed_dial_is_a_502_with_a_reason_and_a_record() {
    let ca = TestCa::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let proxy = Setup::new(&ca, nobody).start().await;
    let mut client = Client::plain(proxy.address).await;
    for authority in ["api.example.test:443", "blind.tunnel:443"] {
        let answer = client.connect(authority).await;

        assert_eq!(answer.status, 502);
        assert!(String::from_utf8(answer.body).unwrap().contains("does not accept connections"));
    }
    let records = proxy.audit.closed(2).await;
    assert!(records.iter().all(|record| record.closing().outcome == Outcome::UpstreamFailed));
}

// PITFALLS 19
#[tokio::test]
async fn the_proxy_does_not_dial_itself_nor_its_dashboard() {
    let ca = TestCa::new();
    let dashboard = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dashboard_address = dashboard.local_addr().unwrap();
    let mut setup = Setup::new(&ca, dashboard_address);
    setup.config.connect_to.clear();
    setup.config.forbidden = vec![dashboard_address];
    let proxy = setup.start().await;
    for port in [proxy.address.port(), dashboard_address.port()] {
        for host in ["127.0.0.1", "localhost", "0.0.0.0"] {
            let mut client = Client::plain(proxy.address).await;

            assert_eq!(client.connect(&format!("{host}:{port}")).await.status, 403, "{host}:{port}");
            let request = format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
            assert_eq!(client.ask(request).await.status, 403);
        }
    }
    assert!(proxy.audit.closed(12).await.iter().all(|record| record.closing().outcome == Outcome::Refused));
}

// PITFALLS 30
#[tokio::test]
async fn metadata_addresses_are_not_dialled() {
    let ca = TestCa::new();
    let mut setup = Setup::new(&ca, "127.0.0.1:1".parse().unwrap());
    setup.config.connect_to.clear();
    let proxy = setup.start().await;
    let mut client = Client::plain(proxy.address).await;

    let answer =
        client.ask("GET http://169.254.169.254/latest HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n").await;

    assert_eq!(answer.status, 403);
    assert_eq!(proxy.audit.closed(1).await[0].closing().outcome, Outcome::Refused);
}

#[tokio::test]
async fn http_in_cleartext_inside_a_tunnel_is_looked_at() {
    let ca = TestCa::new();
    let origin = Origin::plain().await;
    let proxy = Setup::new(&ca, origin.address).start().await;
    let mut client = Client::tunnel(&proxy, "collector.test:4318").await;
    let answer = client
        .ask("POST /telemetry/x HTTP/1.1\r\nHost: collector.test:4318\r\nContent-Length: 2\r\n\r\n{}")
        .await;
    assert_eq!(answer.body, b"{}");

    let tunnel = Client::tunnel(&proxy, "collector.test:4317").await;
    let mut sender = h2_client(tunnel.stream.into_inner()).await;
    let body = Full::new(Bytes::from_static(b"hi")).map_err(|never| match never {}).boxed();
    let request = Request::post("http://collector.test:4317/telemetry/grpc").body(body).unwrap();
    let response = sender.send_request(request).await.unwrap();

    assert_eq!(response.into_body().collect().await.unwrap().trailers().unwrap()["grpc-status"], "0");
    assert_eq!(proxy.inspection.captured.lock().unwrap().len(), 2);
    assert_eq!(origin.connections(), 2, "the dialled connection is the one that is used");
}

// PITFALLS 25
#[tokio::test]
async fn an_unknown_protocol_in_an_intercepted_tunnel_is_tunnelled() {
    let ca = TestCa::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Setup::new(&ca, listener.local_addr().unwrap()).start().await;
    let mut client = Client::tunnel(&proxy, "api.example.test:443").await;
    let (mut server, _) = listener.accept().await.unwrap();

    client.send(b"SSH-2.0-x\r\n").await;
    let mut bytes = [0; 11];
    server.read_exact(&mut bytes).await.unwrap();
    drop((client, server));

    let record = proxy.audit.closed(1).await.remove(0);
    assert_eq!(record.opening.not_inspected, Some(NotInspected::UnknownProtocol));
    assert_eq!(record.closing().outcome, Outcome::Tunneled);
}

// PITFALLS 17
#[tokio::test]
async fn an_upstream_proxy_is_used_for_tunnels_and_interception_and_whole_urls() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, &["api.example.test"], &["http/1.1"]).await;
    let plain = Origin::plain().await;
    // The corporate proxy is another of ours, which tunnels blindly and asks for a credential.
    let mut corporate = Setup::new(&ca, origin.address);
    corporate.config.credential = Some(Secret::new("corp:pw".to_owned()));
    corporate.config.connect_to.insert(
        0,
        plainsight::model::ConnectTo::parse(&format!(":80:{}:{}", plain.address.ip(), plain.address.port()))
            .unwrap(),
    );
    let corporate = corporate.start().await;
    let mut setup = Setup::new(&ca, origin.address);
    setup.config.connect_to.clear();
    setup.config.upstream_proxy = Some(UpstreamProxy {
        authority: Authority::parse(&corporate.address.to_string(), None).unwrap(),
        credential: Some(Secret::new("corp:pw".to_owned())),
        bypass: std::sync::Arc::new(|authority| authority.port() == 9),
    });
    let proxy = setup.start().await;

    let mut client = Client::tls(&proxy, "api.example.test:443", &[]).await;
    assert_eq!(client.ask("GET /telemetry HTTP/1.1\r\nHost: api.example.test\r\n\r\n").await.status, 200);
    let mut client = Client::plain(proxy.address).await;
    assert_eq!(client.ask("GET http://plain.test/x HTTP/1.1\r\nHost: plain.test\r\n\r\n").await.status, 200);

    assert_eq!(plain.seen().pop().unwrap().head, "GET /x HTTP/1.1\r\nHost: plain.test\r\n\r\n");
    let records = corporate.audit.records();
    assert_eq!(&*records.last().unwrap().opening.authority, "plain.test:80");
    let mut client = Client::plain(proxy.address).await;
    assert_ne!(client.connect("localhost:9").await.status, 200, "NO_PROXY goes around it");
}

#[tokio::test]
async fn shutdown_lets_answers_end_and_closes_every_record() {
    let ca = TestCa::new();
    let origin = Origin::plain().await;
    let mut proxy = Setup::new(&ca, origin.address).start().await;
    let mut waiting = Client::plain(proxy.address).await;
    waiting.send("GET http://a.test/wait HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    let _idle = Client::plain(proxy.address).await;
    let _tunnel = Client::tunnel(&proxy, "blind.tunnel:1").await;
    let _silent = Client::tunnel(&proxy, "api.example.test:443").await;
    while origin.seen().is_empty() {
        tokio::task::yield_now().await;
    }

    let (_, answer) = tokio::join!(proxy.stop(), async {
        origin.go_on.notify_one();
        waiting.answer("GET").await
    });

    assert_eq!(answer.status, 200);
    let mut outcomes: Vec<_> = proxy.audit.records().iter().map(|record| record.closing().outcome).collect();
    outcomes.sort();
    assert_eq!(outcomes, [Outcome::Forwarded, Outcome::Tunneled]);
}
