//! TLS on both sides: names, ALPN, certificates that are refused.

use plainsight::model::{NotInspected, Outcome};
use rustls::RootCertStore;

use crate::support::{Client, Origin, Setup, TestCa, tls_config};

// PITFALLS 14
#[tokio::test]
async fn alpn_answers_what_upstream_chose_of_what_the_client_offered() {
    let cases: &[(&[&str], &[&str], Option<&str>)] = &[
        (&["h2", "http/1.1"], &["h2", "http/1.1"], Some("h2")),
        (&["h2", "http/1.1"], &["http/1.1"], Some("http/1.1")),
        (&["http/1.1"], &["h2", "http/1.1"], Some("http/1.1")),
        (&["http/1.0", "http/1.1"], &["h2", "http/1.1"], Some("http/1.1")),
        (&["http/1.0"], &["h2", "http/1.1"], None),
        (&["h2"], &["h2", "http/1.1"], Some("h2")),
        (&[], &["h2", "http/1.1"], None),
    ];
    for (client, upstream, expected) in cases {
        let ca = TestCa::new();
        let origin = Origin::tls(&ca, &["api.example.test"], upstream).await;
        let proxy = Setup::new(&ca, origin.address).start().await;

        let client = Client::tls(&proxy, "api.example.test:443", client).await;

        assert_eq!(client.alpn().as_deref(), *expected);
    }
}

// PITFALLS 13
#[tokio::test]
async fn a_server_name_other_than_the_tunnels_is_refused_with_a_record() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, &["api.example.test"], &[]).await;
    let proxy = Setup::new(&ca, origin.address).start().await;

    let config = tls_config(ca.roots(), &[]);
    let refused = Client::handshake(&proxy, "api.example.test:443", "other.example.test", config).await;

    assert!(refused.is_err());
    let record = proxy.audit.closed(1).await.remove(0);
    assert_eq!(record.closing().outcome, Outcome::Refused);
    assert!(record.closing().error.as_deref().unwrap().contains("other.example.test"));
}

// PITFALLS 10
#[tokio::test]
async fn an_address_without_a_server_name_is_intercepted() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, &["192.0.2.1"], &["http/1.1"]).await;
    let proxy = Setup::new(&ca, origin.address).start().await;
    let mut client = Client::tls(&proxy, "192.0.2.1:443", &["http/1.1"]).await;

    let answer = client.ask("GET /telemetry HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n").await;

    assert_eq!(answer.status, 200);
}

// PITFALLS 16
#[tokio::test]
async fn a_client_that_refuses_our_certificate_is_recorded_and_never_passed_through() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, &["api.example.test"], &[]).await;
    let proxy = Setup::new(&ca, origin.address).start().await;
    let trusts_nobody = tls_config(RootCertStore { roots: TestCa::new().roots().roots }, &[]);
    for _ in 0..2 {
        let refused =
            Client::handshake(&proxy, "api.example.test:443", "api.example.test", trusts_nobody.clone())
                .await;

        assert!(refused.is_err());
    }
    for record in proxy.audit.closed(2).await {
        assert_eq!(record.opening.not_inspected, Some(NotInspected::ClientRefusedCertificate));
        assert_eq!(record.closing().outcome, Outcome::Refused);
        assert!(record.closing().error.as_deref().unwrap().contains("alert"), "{record:?}");
    }
}

#[tokio::test]
async fn a_bad_certificate_upstream_is_a_502_inside_the_tunnel() {
    let ca = TestCa::new();
    for alpn in ["http/1.1", "h2"] {
        let origin = Origin::tls(&TestCa::new(), &["api.example.test"], &[alpn]).await;
        let proxy = Setup::new(&ca, origin.address).start().await;
        let mut client = Client::tls(&proxy, "api.example.test:443", &["http/1.1"]).await;

        let request = "POST /telemetry HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: 2\r\n\r\n{}";
        for _ in 0..2 {
            let answer = client.ask(request).await;

            assert_eq!(answer.status, 502);
            assert!(String::from_utf8(answer.body).unwrap().contains("TLS with api.example.test:443 failed"));
        }
        let records = proxy.audit.closed(2).await;
        assert!(records.iter().all(|record| record.closing().outcome == Outcome::UpstreamFailed));
        assert!(origin.seen().is_empty());
    }
}

#[tokio::test]
async fn sessions_are_resumed() {
    let ca = TestCa::new();
    let origin = Origin::tls(&ca, &["api.example.test"], &["http/1.1"]).await;
    let proxy = Setup::new(&ca, origin.address).start().await;
    let config = tls_config(ca.roots(), &["http/1.1"]);
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let stream = Client::handshake(&proxy, "api.example.test:443", "api.example.test", config.clone())
            .await
            .unwrap();
        let mut client = Client { stream: tokio::io::BufReader::new(stream) };
        client.ask("GET / HTTP/1.1\r\nHost: api.example.test\r\n\r\n").await;
        kinds.push(client.stream.get_ref().get_ref().1.handshake_kind().unwrap());
    }

    assert_eq!(kinds[1], rustls::HandshakeKind::Resumed);
}
