use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Version};

use crate::{
    encoding::Coding,
    model::{Action, CapturedBody, RunId, Scheme},
};

use super::*;

const TIME_MS: i64 = 1_763_700_000_000;

fn inspector(capture: Capture) -> Inspector {
    Inspector::new(
        Catalogue::embedded(),
        Vec::new(),
        RuleSet::from_sources(&crate::rules::embedded()).unwrap(),
        Policy::embedded(),
        FingerprintKey::new(&[7; 32]),
        Options { capture, ..Options::default() },
    )
}

fn request(
    authority: &str,
    target: &str,
    headers: &[(&'static str, &str)],
    body: CapturedBody,
) -> CapturedRequest {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    CapturedRequest {
        id: FlowId::new(RunId::new(1).unwrap(), 1),
        head: RequestHead {
            scheme: Scheme::Https,
            authority: Authority::parse(authority, Some(443)).unwrap(),
            method: Method::POST,
            target: target.to_owned(),
            version: Version::HTTP_11,
            headers: map,
        },
        body,
        trailers: None,
    }
}

fn inspect(inspector: &Inspector, request: CapturedRequest) -> Inspection {
    let destination = inspector.classify(&request.head);
    inspector.inspect(request, destination, TIME_MS)
}

fn complete(body: &str) -> CapturedBody {
    CapturedBody::Complete(Bytes::copy_from_slice(body.as_bytes()))
}

const EVENTS: &str = concat!(
    r#"{"events":[{"event_type":"x","event_data":{"session_id":"ce3f46bf-4b3b-484a-8c15-a4c877b304c6","email":"#,
    r#""canary.user@example.com","model":"m","note":"mail \u0062ob@corp.example.com now","#,
    r#""additional_metadata":"eyJtYWlsIjoiY2Fyb2xAZXhhbXBsZS5uZXQifQ=="}}]}"#
);

fn events(capture: Capture) -> Inspection {
    let request = request("api.anthropic.com", "/api/event_logging/v2/batch", &[], complete(EVENTS));
    inspect(&inspector(capture), request)
}

#[test]
fn an_event_batch_is_decoded_and_its_personal_fields_are_named() {
    let inspection = events(Capture::Masked);

    let opening = &inspection.opening;
    let found = |rule: &str, path: &str| {
        opening.findings.iter().any(|f| f.rule.as_str() == rule && f.path.as_str() == path)
    };
    assert_eq!(opening.destination.as_str(), "first-party-events");
    assert_eq!((opening.not_inspected, opening.action), (None, Action::Allow));
    assert_eq!(inspection.forward, Forward::Original);
    assert!(
        found("field.user-email", "first-party-events:events/0/event_data/email"),
        "{:?}",
        opening.findings
    );
    assert!(found("contact.email", "first-party-events:events/0/event_data/note"));
    assert!(found(
        "contact.email",
        "first-party-events:events/0/event_data/additional_metadata/!base64/!json/mail"
    ));
}

#[test]
fn a_finding_names_the_bytes_that_encode_it() {
    let inspection = events(Capture::Masked);

    let spans: Vec<&str> = inspection
        .opening
        .findings
        .iter()
        .filter(|finding| finding.rule.as_str() == "contact.email")
        .map(|finding| &EVENTS[finding.span.start as usize..finding.span.end as usize])
        .collect();
    assert!(spans.contains(&r"\u0062ob@corp.example.com"), "{spans:?}");
}

#[test]
fn what_is_kept_holds_no_value_that_a_rule_named() {
    // The probe sees a leak when there is one: full capture keeps the body.
    let leaks = |opening: &FlowOpening| {
        let kept = format!("{:?} {}", opening.body, serde_json::to_string(opening).unwrap());
        ["canary.user@", "bob@corp", "carol@example", "ce3f46bf-4b3b", "eyJtYWls"]
            .into_iter()
            .filter(|value| kept.contains(value))
            .count()
    };

    assert_eq!(leaks(&events(Capture::Masked).opening), 0, "{:#?}", events(Capture::Masked).opening);
    assert_eq!(leaks(&events(Capture::None).opening), 0);
    assert!(leaks(&events(Capture::Full).opening) >= 3);
    assert!(events(Capture::None).opening.fields.is_empty());
}

#[test]
fn masked_capture_keeps_fields_that_no_rule_named() {
    let opening = events(Capture::Masked).opening;

    let model = opening.fields.iter().find(|field| field.path.ends_with("/model")).unwrap();
    let note = opening.fields.iter().find(|field| field.path.ends_with("/note")).unwrap();
    assert_eq!(&*model.value, "m");
    assert!(note.value.starts_with("mail ") && note.value.ends_with(" now"), "{}", note.value);
}

#[test]
fn a_compressed_body_is_read() {
    let body = encoding::encode(&[Coding::Gzip], EVENTS.as_bytes());
    let request = request(
        "api.anthropic.com",
        "/api/event_logging/v2/batch",
        &[("content-encoding", "gzip")],
        CapturedBody::Complete(body.into()),
    );

    let opening = inspect(&inspector(Capture::None), request).opening;

    assert_eq!(opening.not_inspected, None);
    assert!(!opening.findings.is_empty());
}

// PITFALLS 2
#[test]
fn what_was_not_read_says_why() {
    let inspector = inspector(Capture::Masked);
    let reason = |headers: &[(&'static str, &str)], body| {
        let request = request("api.anthropic.com", "/api/event_logging/v2/batch", headers, body);
        inspect(&inspector, request).opening.not_inspected
    };

    assert_eq!(reason(&[], complete(EVENTS)), None);
    assert_eq!(reason(&[("content-encoding", "gzip")], complete("x")), Some(NotInspected::CodingBroken));
    assert_eq!(reason(&[("content-encoding", "lzma")], complete("x")), Some(NotInspected::CodingUnsupported));
    assert_eq!(reason(&[], CapturedBody::OverLimit(Bytes::new())), Some(NotInspected::BodyTooLarge));
    assert_eq!(reason(&[], complete(&EVENTS[..60])), Some(NotInspected::FormatBroken));
    assert_eq!(reason(&[], complete("\u{1}\u{2}\u{3}")), Some(NotInspected::FormatUnsupported));
}

#[test]
fn a_cut_off_document_is_read_as_far_as_it_goes() {
    let cut = &EVENTS[..EVENTS.find(r#","model""#).unwrap()];
    let request = request("api.anthropic.com", "/api/event_logging/v2/batch", &[], complete(cut));

    let opening = inspect(&inspector(Capture::Masked), request).opening;

    assert!(opening.findings.iter().any(|finding| finding.rule.as_str() == "field.user-email"));
    assert_eq!(opening.not_inspected, Some(NotInspected::FormatBroken));
}

// PITFALLS 5
#[test]
fn a_value_that_was_cut_off_before_it_was_sent_counts_as_read() {
    let body = r#"{"events":[{"event_data":{"additional_metadata":"{\"mail\":\"carol@corp.example.com\",\"x\":\"cu"}}]}"#;
    let request = request("api.anthropic.com", "/api/event_logging/v2/batch", &[], complete(body));

    let opening = inspect(&inspector(Capture::Masked), request).opening;

    assert_eq!(opening.not_inspected, None);
    assert_eq!(opening.findings.len(), 1, "{:?}", opening.findings);
}

#[test]
fn an_unknown_path_of_the_vendor_is_looked_at_and_news() {
    let request =
        request("api.anthropic.com", "/api/brand_new", &[], complete(r#"{"m":"a@corp.example.com"}"#));

    let opening = inspect(&inspector(Capture::Masked), request).opening;

    assert_eq!(opening.destination.as_str(), "first-party-unknown");
    assert_eq!(opening.findings.len(), 1);
    assert_eq!(opening.news, ["path".into()]);
}

#[test]
fn the_same_session_has_the_same_fingerprint_wherever_it_is_named() {
    let inspector = inspector(Capture::None);
    let in_body =
        inspect(&inspector, request("api.anthropic.com", "/api/event_logging/batch", &[], complete(EVENTS)));
    let header = [("x-claude-code-session-id", "ce3f46bf-4b3b-484a-8c15-a4c877b304c6")];
    let in_header = request("api.anthropic.com", "/api/claude_code/metrics", &header, complete("{}"));

    let in_header = inspect(&inspector, in_header);

    assert!(in_body.opening.session.is_some());
    assert_eq!(in_body.opening.session, in_header.opening.session);
}

#[test]
fn the_record_of_the_conversation_says_that_it_was_not_read() {
    let inspector = inspector(Capture::Full);
    let request = request("api.anthropic.com", "/v1/messages?beta=true", &[], CapturedBody::Streamed);
    let destination = inspector.classify(&request.head);

    let opening = inspector.observe(request.id, &request.head, &destination, TIME_MS, None);

    assert_eq!(opening.not_inspected, Some(NotInspected::Conversation));
    assert!(opening.body.is_none() && opening.fields.is_empty());
}
