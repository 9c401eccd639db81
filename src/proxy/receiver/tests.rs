use http::Request;

use super::*;

fn collector(takes: Takes, path: CollectorPath, headers: &[(&'static str, &'static str)]) -> CollectorConfig {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, HeaderValue::from_static(value));
    }
    CollectorConfig {
        takes,
        scheme: Scheme::Https,
        authority: Authority::parse("collector.example:443", None).unwrap(),
        path,
        headers: map,
        tls: None,
    }
}

fn receiver(collectors: Vec<CollectorConfig>) -> Receiver {
    let address = "127.0.0.1:4318".parse().unwrap();
    let config = ReceiverConfig { listen: address, collectors };
    let proxy = ProxyConfig::new("127.0.0.1:1".parse().unwrap(), RootCertStore::empty());
    Receiver::new(address, config, &proxy, &[address]).unwrap()
}

fn parts(version: Version, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::post(uri).version(version);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

#[test]
fn a_request_to_the_receiver_becomes_one_to_the_collector() {
    let receiver = receiver(vec![collector(
        Takes::Everything,
        CollectorPath::Below("/otlp/".into()),
        &[("authorization", "Basic eDp5"), ("x-client", "ours")],
    )]);
    let sent = [("host", "localhost:4318"), ("content-type", "application/json"), ("x-client", "its own")];
    let mut parts = parts(Version::HTTP_11, "/v1/logs?a=b", &sent);

    receiver.take(&mut parts).unwrap();

    assert_eq!(parts.uri, "/otlp/v1/logs?a=b");
    let fields: Vec<_> =
        parts.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(
        fields,
        [
            ("host", "collector.example"),
            ("content-type", "application/json"),
            ("x-client", "its own"),
            ("authorization", "Basic eDp5"),
        ]
    );
}

#[test]
fn grpc_keeps_its_path_and_names_the_collector() {
    let receiver =
        receiver(vec![collector(Takes::Everything, CollectorPath::Exactly("/elsewhere".into()), &[])]);
    let service = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let uri = format!("http://127.0.0.1:4317{service}");
    let mut parts = parts(Version::HTTP_2, &uri, &[("content-type", "application/grpc")]);

    let collector = receiver.take(&mut parts).unwrap();

    assert_eq!(parts.uri.to_string(), format!("https://collector.example{service}"));
    assert!(!parts.headers.contains_key(HOST));
    let route = collector.route(parts.version);
    assert_eq!((route.wire, route.protocol), (Wire::Tls, Protocol::Http2));
}

#[test]
fn each_signal_finds_its_collector_and_the_rest_none() {
    let logs = CollectorPath::Exactly("/insert/opentelemetry/v1/logs?_stream_fields=x".into());
    let receiver = receiver(vec![
        collector(Takes::Signal(Signal::Logs), logs, &[]),
        collector(Takes::Grpc, CollectorPath::AsSent, &[]),
    ]);
    let taken = |uri: &str, kind: &str| {
        let mut parts = parts(Version::HTTP_11, uri, &[("content-type", kind)]);
        receiver.take(&mut parts).map(|_| parts.uri.to_string())
    };

    let logs = taken("/v1/logs", "application/x-protobuf").unwrap();
    let metrics =
        taken("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", "application/grpc");
    let traces = taken("/v1/traces", "application/json");

    assert_eq!(logs, "/insert/opentelemetry/v1/logs?_stream_fields=x");
    assert!(metrics.is_ok());
    assert_eq!(traces.unwrap_err().status(), StatusCode::NOT_FOUND);
}

// PITFALLS 29
#[test]
fn a_web_page_is_turned_away() {
    let receiver = receiver(vec![collector(Takes::Everything, CollectorPath::AsSent, &[])]);
    let mut parts = parts(Version::HTTP_11, "/v1/logs", &[("origin", "https://page.example")]);

    let taken = receiver.take(&mut parts).map(|_| ());

    assert_eq!(taken.unwrap_err().status(), StatusCode::FORBIDDEN);
}

#[test]
fn failures_are_said_as_a_collector_says_them() {
    let failed = || crate::proxy::respond::text(StatusCode::BAD_GATEWAY, "it is down: 100 %\n");

    let json = Dialect::Json.translate(failed());
    let protobuf = Dialect::Protobuf.translate(failed());
    let grpc = Dialect::Grpc.translate(failed());

    for answer in [&json, &protobuf] {
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()[RETRY_AFTER], "2");
    }
    assert_eq!(json.headers()[CONTENT_TYPE], "application/json");
    assert_eq!((grpc.status(), &grpc.headers()["grpc-status"]), (StatusCode::OK, &HeaderValue::from(14)));
    assert_eq!(grpc.headers()["grpc-message"], "it is down: 100 %25%0A");
}

#[test]
fn when_to_try_again_is_said_over_http_and_over_grpc() {
    let failed = || {
        let mut answer = crate::proxy::respond::text(StatusCode::BAD_GATEWAY, "no");
        answer.extensions_mut().insert(RetryIn(30));
        answer
    };

    let http = Dialect::Protobuf.translate(failed());
    let grpc = Dialect::Grpc.translate(failed());

    assert_eq!(http.headers()[RETRY_AFTER], "30");
    let field = |name| STANDARD_NO_PAD.decode(grpc.headers()[name].as_bytes()).unwrap();
    assert_eq!(field("google.rpc.retryinfo-bin"), b"\x0a\x02\x08\x1e");
    let details =
        b"\x08\x0e\x12\x02no\x1a\x30\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x04\x0a\x02\x08\x1e";
    assert_eq!(field("grpc-status-details-bin"), details);
}

#[test]
fn a_status_is_a_message_of_protobuf() {
    let long = "x".repeat(300);

    assert_eq!(&rpc_status(14, "no")[..], b"\x08\x0e\x12\x02no");
    assert_eq!(&rpc_status(14, &long)[..5], b"\x08\x0e\x12\xac\x02");
}

#[test]
fn what_a_collector_answered_stays_as_it_is() {
    let mut answer = Response::new(ResponseBody::empty());
    *answer.status_mut() = StatusCode::BAD_GATEWAY;

    let translated = Dialect::Json.translate(answer);

    assert_eq!(translated.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn exports_wait_for_their_turn() {
    let receiver = receiver(Vec::new());
    let mut held = Vec::new();
    for _ in 0..MOST_EXPORTS {
        held.push(receiver.turn().await.unwrap());
    }

    let one_too_many = timeout(Duration::from_millis(20), receiver.turn()).await;
    held.pop();
    let next = timeout(Duration::from_millis(20), receiver.turn()).await;

    assert!(one_too_many.is_err(), "it waits");
    assert!(next.unwrap().is_ok());
}
