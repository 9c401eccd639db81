use crate::{
    inspect::{
        Capture, Forward, Inspection, Inspector,
        tests::{complete, inspect, inspector, request},
    },
    model::CapturedBody,
    policy::Policy,
};

use super::*;

fn silent() -> Inspector {
    Inspector { policy: Policy::profile("silent").unwrap(), ..inspector(Capture::Masked) }
}

fn answered(inspection: &Inspection) -> (u16, String) {
    let Forward::Refused(answer) = &inspection.forward else { panic!("it was sent on: {inspection:?}") };
    (answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned())
}

fn told(url: &str, content_type: &str, body: &str) -> (u16, String) {
    let (host, target) = url.split_at(url.find('/').unwrap());
    let inspection =
        inspect(&silent(), request(host, target, &[("content-type", content_type)], complete(body)));
    assert_eq!(inspection.opening.answered, Some(Answer::Sink), "{url}");
    answered(&inspection)
}

// PITFALLS 1
#[test]
fn a_sunk_request_is_answered_as_its_service_would() {
    let metrics = r#"{"resource_attributes":{},"metrics":[
        {"name":"a","data_points":[{"value":1,"attributes":{"data_points":[1,2]}},{"value":2}]},
        {"name":"b","data_points":[{"value":3}]}]}"#;
    let envelope =
        "{\"event_id\":\"9ec79c33ec9942ab8353589fcb2e04dc\"}\n{\"type\":\"event\"}\n{\"message\":\"x\"}\n";
    let json = "application/json";
    for (url, content_type, body, expected) in [
        (
            "api.anthropic.com/api/event_logging/v2/batch",
            json,
            r#"{"events":[{"events":[1,2,3]},{},{}]}"#,
            (200, r#"{"accepted_count":3,"rejected_count":0}"#),
        ),
        (
            "api.anthropic.com/api/claude_code/metrics",
            json,
            metrics,
            (200, r#"{"accepted_count":3,"rejected_count":0}"#),
        ),
        ("http-intake.logs.us5.datadoghq.com/api/v2/logs", json, "[{}]", (202, "{}")),
        ("browser-intake-us5-datadoghq.com/api/v2/logs?dd-api-key=x", json, "[{}]", (202, "{}")),
        (
            "o1.ingest.us.sentry.io/api/42/envelope/",
            "application/x-sentry-envelope",
            envelope,
            (200, r#"{"id":"9ec79c33ec9942ab8353589fcb2e04dc"}"#),
        ),
        ("o1.ingest.us.sentry.io/api/42/envelope/", "", "{}\n{\"type\":\"session\"}\n{}\n", (200, "{}")),
        ("statsig.anthropic.com/v1/initialize?k=x", "text/plain", "{}", (204, "")),
        ("statsig.anthropic.com/v1/rgstr", "text/plain", "{}", (202, r#"{"success":true}"#)),
        ("featuregates.org/v1/log_event", "text/plain", "{}", (202, r#"{"success":true}"#)),
        ("api.segment.io/v1/batch", json, "{}", (200, r#"{"success":true}"#)),
        ("otel.example.com:4318/v1/logs", json, r#"{"resourceLogs":[]}"#, (200, "{}")),
        ("otel.example.com:4318/v1/logs", "application/x-protobuf", "", (200, "")),
    ] {
        let (status, text) = told(url, content_type, body);

        assert_eq!((status, text.as_str()), expected, "{url}");
    }
}

#[test]
fn a_sunk_grpc_call_gets_an_empty_message_and_status_0_behind_it() {
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let headers = [("content-type", "application/grpc+proto")];
    let body = CapturedBody::Complete(Bytes::from_static(&[0; 5]));
    let inspection = inspect(&silent(), request("otel.example.com:4317", path, &headers, body));

    let Forward::Refused(answer) = inspection.forward else { panic!("it was sent on") };
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &[0; 5][..]));
    assert_eq!(answer.headers["content-type"], "application/grpc+proto");
    assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
}

#[test]
fn a_rejected_request_gets_an_error_that_is_not_tried_again() {
    let text = Policy::profile("silent").map(|_| crate::policy::PROFILES[2].text).unwrap();
    let text = text.replace("answer = \"sink\"\nwhy", "answer = \"reject\"\nwhy");
    let policy = Policy::from_toml("x.toml", &text).unwrap();
    let rejecting = Inspector { policy, ..inspector(Capture::Masked) };
    let http = request("api.anthropic.com", "/api/event_logging/batch", &[], complete(r#"{"events":[]}"#));
    let path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    let grpc = request("otel.example.com", path, &[("content-type", "application/grpc")], complete(""));

    let (http, grpc) = (inspect(&rejecting, http), inspect(&rejecting, grpc));

    let (status, body) = answered(&http);
    assert_eq!((status, http.opening.answered), (403, Some(Answer::Reject)));
    let value: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(value["error"]["type"], "permission_error");
    let Forward::Refused(grpc) = grpc.forward else { panic!("it was sent on") };
    assert_eq!((grpc.status, grpc.body.len()), (StatusCode::OK, 0));
    assert_eq!((&grpc.headers["grpc-status"], grpc.trailers), (&HeaderValue::from_static("7"), None));
}

#[test]
fn what_a_person_sent_is_never_dropped_silently() {
    let text = crate::policy::PROFILES[2].text.replace("kind   = [\"telemetry\"]", "kind = [\"feedback\"]");
    let policy = Policy::from_toml("x.toml", &text).unwrap();
    let sinking = Inspector { policy, ..inspector(Capture::Masked) };
    let feedback = request("api.anthropic.com", "/api/claude_cli_feedback", &[], complete("{}"));

    let inspection = inspect(&sinking, feedback);

    assert_eq!(inspection.opening.answered, Some(Answer::Reject));
    assert_eq!(answered(&inspection).0, 403);
}

#[test]
fn the_answer_to_head_has_no_body() {
    let mut head = request("api.segment.io", "/v1/batch", &[], complete("")).head;
    head.method = Method::HEAD;
    let destination = Destination {
        id: crate::model::DestinationId::new("segment"),
        kind: DestinationKind::Telemetry,
        inspected: true,
    };

    let (_, answer) = answer(Answer::Sink, &destination, &head, None, BY_POLICY);

    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
}

#[test]
fn an_id_that_is_none_is_not_said_back() {
    let (_, body) =
        told("o1.ingest.us.sentry.io/api/42/store/", "application/json", r#"{"event_id":"\"}x"}"#);

    assert_eq!(body, "{}");
}

#[test]
fn a_failure_keeps_telemetry_here_and_lets_settings_go_on() {
    let inspector = silent();
    let fail = |target: &str| {
        let head = request("api.anthropic.com", target, &[], complete("")).head;
        let destination = inspector.classify(&head);
        let id = crate::model::FlowId::new(crate::model::RunId::new(1).unwrap(), 1);
        inspector.fail(id, &head, &destination, 0, None)
    };

    let telemetry = fail("/api/event_logging/batch");
    assert_eq!(&*telemetry.opening.policy_row, "fail.telemetry");
    assert_eq!(answered(&telemetry), (200, r#"{"accepted_count":0,"rejected_count":0}"#.to_owned()));
    assert_eq!(fail("/api/oauth/profile").forward, Forward::Original);
    assert_eq!(fail("/v1/messages").forward, Forward::Original);
}
