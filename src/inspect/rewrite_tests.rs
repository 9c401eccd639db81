//! What policy wants redacted: that it is gone, and that all else is there.

use std::{fs::File, ops::ControlFlow, path::Path};

use bytes::Bytes;
use http::HeaderValue;

use crate::{
    encoding::{self, Coding, Limits},
    har::{self, RecordedBody},
    model::{Action, CapturedBody, CapturedRequest, FlowId, NotInspected, RewrittenRequest, RunId},
};

use super::{
    tests::{complete, inspect, request},
    *,
};

fn with_policy(policy: Policy) -> Inspector {
    Inspector::new(
        Catalogue::embedded(),
        Vec::new(),
        RuleSet::from_sources(&crate::rules::embedded()).unwrap(),
        policy,
        FingerprintKey::new(&[7; 32]),
        Options { capture: Capture::Full, ..Options::default() },
    )
}

fn private() -> Inspector {
    with_policy(Policy::profile("private").unwrap())
}

fn rewritten(inspection: &Inspection) -> &RewrittenRequest {
    match &inspection.forward {
        Forward::Rewritten(request) => request,
        other => panic!("{other:?} because of {:?}", inspection.error),
    }
}

/// The request as it leaves.
fn sent_on(request: &CapturedRequest, rewritten: &RewrittenRequest) -> CapturedRequest {
    let mut sent = request.clone();
    sent.head.target.clone_from(&rewritten.target);
    sent.head.headers.clone_from(&rewritten.headers);
    sent.trailers.clone_from(&rewritten.trailers);
    if let Some(body) = &rewritten.body {
        sent.body = CapturedBody::Complete(body.clone());
    }
    sent
}

const EVENTS: &str = concat!(
    r#"{"events" : [{"event_type":"x","event_data":{"session_id":"ce3f46bf-4b3b-484a-8c15-a4c877b304c6","email":"#,
    r#""canary.user@example.com","n":1.50,"note":"mail \u0062ob@corp.example.com now","#,
    r#""additional_metadata":"eyJtYWlsIjoiY2Fyb2xAZXhhbXBsZS5uZXQiLCAibiI6MS4wfQ=="}}]}"#
);

const PLANTED: [&str; 4] = ["ce3f46bf", "canary.user", "ob@corp.example", "eyJtYWlsIjoiY2Fyb2xA"];

#[test]
fn an_event_batch_leaves_without_what_policy_names_and_with_all_else() {
    let request = request("api.anthropic.com", "/api/event_logging/v2/batch", &[], complete(EVENTS));

    let inspection = inspect(&private(), request);

    let body = rewritten(&inspection).body.clone().unwrap();
    let text = std::str::from_utf8(&body).unwrap();
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    for planted in PLANTED {
        assert!(!text.contains(planted), "{planted} in {text}");
    }
    assert!(
        text.starts_with("{\"events\" : [{\"event_type\":\"x\",") && text.contains("\"n\":1.50,"),
        "{text}"
    );
    assert!(text.contains("\"note\":\"mail ") && text.contains(" now\""), "{text}");
    assert!(json["events"][0]["event_data"]["email"].is_string());
    assert_eq!((inspection.opening.action, inspection.opening.not_inspected), (Action::Redact, None));
}

#[test]
fn a_record_lists_the_changes_and_keeps_nothing_that_was_taken_out() {
    let request = request("api.anthropic.com", "/api/event_logging/v2/batch", &[], complete(EVENTS));

    let opening = inspect(&private(), request).opening;

    let rewriting = opening.rewriting.as_ref().unwrap();
    let path = "first-party-events:events/0/event_data/additional_metadata/!base64/!json/mail";
    let edit = rewriting.edits.iter().find(|edit| edit.path.as_str() == path).unwrap();
    assert_eq!((edit.before, &*edit.method), (17, "pseudonym"));
    assert!(edit.with.starts_with("anon-"), "{edit:?}");
    let kept = format!("{:?} {}", opening.body, serde_json::to_string(&opening).unwrap());
    for planted in PLANTED.iter().chain(&["carol@"]) {
        assert!(!kept.contains(planted), "{planted} in {kept}");
    }
}

#[test]
fn a_record_of_changes_does_not_write_down_a_name_that_is_a_value() {
    let body = r#"{"events":[{"event_data":{"bob@corp.example.com":{"email":"carol@example.net"}}}]}"#;
    let request = request("api.anthropic.com", "/api/event_logging/v2/batch", &[], complete(body));

    let inspection = inspect(&private(), request);

    let edits = &inspection.opening.rewriting.as_ref().unwrap().edits;
    let below = edits.iter().filter(|edit| edit.path.as_str().ends_with("/email")).count();
    assert!(below == 1 && edits.len() == 2, "{edits:?}");
    let kept = format!("{edits:?} {}", serde_json::to_string(&inspection.opening).unwrap());
    assert!(!kept.contains("bob@") && !kept.contains("carol@"), "{kept}");
}

#[test]
fn an_envelope_that_tells_lengths_leaves_redacted_with_the_right_ones() {
    let event = r#"{"user":{"email":"canary.user@example.com"},"n":1.50}"#;
    let other = r#"{"n":2}"#;
    let body = format!(
        "{{\"event_id\":\"9ec79c33ec9942ab8353589fcb2e04dc\"}}\n{{\"type\":\"event\",\"length\":{}}}\n{event}\n{{\"type\":\"transaction\",\"length\":{}}}\n{other}\n",
        event.len(),
        other.len()
    );
    let body = CapturedBody::Complete(Bytes::from(body));
    let request = request("o42.ingest.us.sentry.io", "/api/4242/envelope/", &[], body);

    let inspection = inspect(&private(), request);

    let sent = rewritten(&inspection).body.clone().unwrap();
    let text = std::str::from_utf8(&sent).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let header: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
    assert!(!text.contains("canary"), "{text}");
    assert_eq!(header["length"], lines[2].len());
    assert_eq!(
        (lines[3], lines[4]),
        (&*format!("{{\"type\":\"transaction\",\"length\":{}}}", other.len()), other)
    );
}

// PITFALLS 22
#[test]
fn every_content_coding_is_put_on_again() {
    for coding in [Coding::Brotli, Coding::Deflate, Coding::Gzip, Coding::Zstd] {
        let body = Bytes::from(encoding::encode(&[coding], EVENTS.as_bytes()));
        let headers = [("content-encoding", coding.as_str())];
        let target = "/api/event_logging/v2/batch";
        let request = request("api.anthropic.com", target, &headers, CapturedBody::Complete(body));

        let inspection = inspect(&private(), request);

        let sent = rewritten(&inspection).body.clone().unwrap();
        let plain = encoding::decode(&[coding], &sent, &Limits::default()).unwrap();
        let text = std::str::from_utf8(&plain).unwrap();
        assert!(PLANTED.iter().all(|planted| !text.contains(planted)), "{text}");
        assert_eq!(rewritten(&inspection).headers["content-encoding"], coding.as_str());
        assert_eq!(inspection.opening.rewriting.unwrap().body_bytes, sent.len() as u64);
    }
}

// PITFALLS 22
#[test]
fn what_is_signed_or_has_a_digest_is_not_touched_and_stays_here() {
    for name in ["content-digest", "content-md5", "digest", "signature"] {
        let headers = [(name, "sha-256=:AAAA:")];
        let request = request("api.anthropic.com", "/api/event_logging/v2/batch", &headers, complete(EVENTS));

        let inspection = inspect(&private(), request);

        assert!(matches!(inspection.forward, Forward::Refused(_)), "{name}");
        assert_eq!(inspection.opening.action, Action::Block);
        assert_eq!(inspection.opening.not_inspected, Some(NotInspected::InternalError));
        assert!(inspection.error.unwrap().contains("signed"));
        assert!(inspection.opening.policy_row.starts_with("fail."));
    }
}

#[test]
fn what_fails_open_leaves_as_it_is_and_does_not_pass_for_redacted() {
    let private = crate::policy::PROFILES.iter().find(|profile| profile.name == "private").unwrap().text;
    let text = private.replacen("telemetry     = \"closed\"", "telemetry     = \"open\"", 1);
    let inspector = with_policy(Policy::from_toml("own.toml", &text).unwrap());
    let headers = [("signature", "sha-256=:AAAA:")];
    let request = request("api.anthropic.com", "/api/event_logging/v2/batch", &headers, complete(EVENTS));

    let inspection = inspect(&inspector, request);

    assert!(matches!(inspection.forward, Forward::Original));
    let opening = &inspection.opening;
    assert_eq!((opening.action, &*opening.policy_row), (Action::Allow, "fail.telemetry"));
    assert_eq!(opening.not_inspected, Some(NotInspected::InternalError));
    assert!(inspection.error.unwrap().contains("signed") && opening.rewriting.is_none());
}

#[test]
fn the_head_is_redacted_and_its_credentials_are_not() {
    let key = ["sk", "ant", "api03", &"Ab3dEf7hIj".repeat(5)].join("-");
    let headers = [
        ("x-api-key", key.as_str()),
        ("user-agent", "tool/1 (mail bob@corp.example.com)"),
        ("cookie", "a=1; sessionKey=Zz0%2B/==; mail=carol%40corp.example.com"),
        ("content-length", "2"),
    ];
    let target = "/api/claude_code/metrics?k=client-aB%2Bc&who=dora%40corp.example.com&x=1+2";
    let mut request = request("api.anthropic.com", target, &headers, complete("{}"));
    request.trailers = Some(
        [("x-who".parse().unwrap(), HeaderValue::from_static("eve@corp.example.com"))].into_iter().collect(),
    );

    let inspection = inspect(&private(), request);

    let sent = rewritten(&inspection);
    let whole = format!("{} {:?} {:?}", sent.target, sent.headers, sent.trailers);
    for who in ["bob@", "carol", "dora", "eve@"] {
        assert!(!whole.contains(who), "{who} in {whole}");
    }
    assert_eq!(sent.body, None);
    assert!(sent.target.starts_with("/api/claude_code/metrics?k=client-aB%2Bc&who=anon-"), "{}", sent.target);
    assert!(sent.target.ends_with("&x=1+2"));
    assert_eq!(sent.headers["x-api-key"], key.as_str());
    let cookie = sent.headers["cookie"].to_str().unwrap();
    assert!(cookie.starts_with("a=1; sessionKey=Zz0%2B/==; mail=anon-"), "{cookie}");
    assert!(sent.trailers.as_ref().unwrap()["x-who"].to_str().unwrap().starts_with("anon-"));
    let names: Vec<_> = sent.headers.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["x-api-key", "user-agent", "cookie", "content-length"]);
}

#[test]
fn what_was_redacted_is_not_redacted_again() {
    let first = request("api.anthropic.com", "/api/event_logging/v2/batch", &[], complete(EVENTS));
    let inspector = private();
    let inspection = inspect(&inspector, first.clone());

    let again = inspect(&inspector, sent_on(&first, rewritten(&inspection)));

    assert_eq!(again.forward, Forward::Original);
    assert!(again.opening.rewriting.is_none());
}

#[test]
fn the_whole_conversation_between_quotes_keeps_its_shape() {
    let input = r#"{"command":"cat /etc/passwd","timeout":5,"deep":[{"a":"b"}],"cut":"of"#;
    let body = format!(r#"{{"events":[{{"tool_input":{},"x":1}}]}}"#, serde_json::to_string(input).unwrap());
    let request = request("api.anthropic.com", "/api/event_logging/v2/batch", &[], complete(&body));

    let inspection = inspect(&private(), request);

    let sent = rewritten(&inspection).body.clone().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&sent).unwrap();
    let expected = r#"{"command":"REDACTED.tool.15c","timeout":5,"deep":[{"a":"REDACTED.tool.1c"}],"cut":"REDACTED.tool.2c"#;
    assert_eq!(json["events"][0]["tool_input"], expected);
}

/// Every request of the recordings, under the policy that redacts.
#[test]
fn recordings_leave_redacted_and_still() {
    let inspector = private();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recordings");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "har") {
            continue;
        }
        har::read(File::open(&path).unwrap(), |entry| {
            let Ok(entry) = entry else { return ControlFlow::Continue(()) };
            let RecordedBody::Complete(body) = entry.body else { return ControlFlow::Continue(()) };
            let request = CapturedRequest {
                id: FlowId::new(RunId::new(1).unwrap(), 1),
                head: entry.head,
                body: CapturedBody::Complete(body),
                trailers: None,
            };
            if !inspector.classify(&request.head).inspected {
                return ControlFlow::Continue(());
            }
            let inspection = inspect(&inspector, request.clone());
            assert_eq!(inspection.error, None, "{}: {}", path.display(), request.head.target);
            if let Forward::Rewritten(rewritten) = &inspection.forward {
                count += 1;
                let again = inspect(&inspector, sent_on(&request, rewritten));
                assert_eq!(again.forward, Forward::Original, "{}", request.head.target);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    assert!(count >= 10, "{count}");
}

#[test]
fn fields_that_no_rule_knows_go_when_policy_says_so() {
    let text = crate::policy::PROFILES
        .iter()
        .find(|profile| profile.name == "private")
        .unwrap()
        .text
        .replacen(
            "field       = \"allow\"",
            "keep = [\"**/event_type\"]\nredact = { method = \"replace\", template = \"GONE\" }\nfield       = \"redact\"",
            1,
        );
    let inspector = with_policy(Policy::from_toml("own.toml", &text).unwrap());
    let request = request("api.anthropic.com", "/api/event_logging/v2/batch", &[], complete(EVENTS));

    let inspection = inspect(&inspector, request);

    let sent = rewritten(&inspection).body.clone().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&sent).unwrap();
    let event = &json["events"][0];
    assert_eq!(event["event_type"], "x");
    assert_eq!(event["event_data"]["n"], 0);
    assert!(event["event_data"]["email"].as_str().unwrap().starts_with("anon-"), "{event}");
}

#[test]
fn grpc_messages_leave_redacted_and_compressed_as_they_came() {
    use crate::payload::{Budget, OtlpEncoding, PayloadFormat, Signal};
    use opentelemetry_proto::tonic::{
        collector::logs::v1::ExportLogsServiceRequest,
        common::v1::{AnyValue, KeyValue, any_value::Value},
        logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    };
    use prost::Message as _;
    let value = Some(AnyValue { value: Some(Value::StringValue("bob@corp.example.com".into())) });
    let pair = KeyValue { key: "user.email".into(), value, ..KeyValue::default() };
    let record = LogRecord { attributes: vec![pair], time_unix_nano: 7, ..LogRecord::default() };
    let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
    let message = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }],
    };
    let packed = encoding::encode(&[Coding::Gzip], &message.encode_to_vec());
    let body = [&[1][..], &(packed.len() as u32).to_be_bytes(), &packed].concat();
    let headers = [("content-type", "application/grpc"), ("grpc-encoding", "gzip"), ("te", "trailers")];
    let target = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    let request =
        request("collector.example:4317", target, &headers, CapturedBody::Complete(Bytes::from(body)));

    let inspection = inspect(&private(), request);

    let sent = rewritten(&inspection).body.clone().unwrap();
    let frame = encoding::grpc_frames(&sent).next().unwrap().unwrap();
    let plain = frame.open(&sent, Some(Coding::Gzip), &Limits::default()).unwrap();
    let read = ExportLogsServiceRequest::decode(plain.clone()).unwrap();
    let log = &read.resource_logs[0].scope_logs[0].log_records[0];
    let Some(Value::StringValue(who)) = log.attributes[0].value.clone().unwrap().value else { panic!() };
    assert!(frame.is_compressed && frame.message.end == sent.len());
    assert!(who.starts_with("anon-"), "{who}");
    assert_eq!((log.time_unix_nano, &*log.attributes[0].key), (7, "user.email"));
    let format = PayloadFormat::Otlp(OtlpEncoding::Protobuf(Signal::Logs));
    assert!(payload::decode(&format, plain, &Budget::default()).unwrap().gaps().is_empty());
}
