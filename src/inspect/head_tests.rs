//! The head of a request: what is found in it, and what is never kept of it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use crate::model::{CapturedBody, Finding, NotInspected};

use super::{
    tests::{complete, inspect, inspector, request},
    *,
};

const UUID: &str = "ce3f46bf-4b3b-484a-8c15-a4c877b304c6";

fn key() -> String {
    ["sk", "ant", "api03", &"Ab3dEf7hIj".repeat(5)].join("-")
}

fn find<'o>(opening: &'o FlowOpening, path: &str) -> &'o Finding {
    let found = || opening.findings.iter().map(|finding| finding.path.as_str()).collect::<Vec<_>>();
    opening
        .findings
        .iter()
        .find(|finding| finding.path.as_str() == path)
        .unwrap_or_else(|| panic!("{:?}", found()))
}

fn kept(opening: &FlowOpening) -> String {
    format!("{opening:?} {:?} {}", opening.body, serde_json::to_string(opening).unwrap())
}

#[test]
fn header_fields_cookies_and_queries_are_looked_at() {
    let agent = "tool/1 (mail bob@corp.example.com)";
    let headers = [
        ("user-agent", agent),
        ("cookie", "a=1; mail=carol%40corp.example.com"),
        ("x-claude-code-session-id", UUID),
    ];
    let target = "/api/claude_code/settings?who=dora%40corp.example.com&x=1";
    let request = request("api.anthropic.com", target, &headers, CapturedBody::Complete(Bytes::new()));

    let opening = inspect(&inspector(Capture::Masked), request).opening;

    let span = find(&opening, "header:user-agent").span.clone();
    assert_eq!(&agent[span.start as usize..span.end as usize], "bob@corp.example.com");
    let span = find(&opening, "header:cookie/mail/!percent").span.clone();
    assert_eq!(span, 0.."carol%40corp.example.com".len() as u32);
    let finding = find(&opening, "query:who");
    assert_eq!((finding.span.clone(), finding.length), (0..23, 21));
    assert_eq!(find(&opening, "header:x-claude-code-session-id").rule.as_str(), "head.session-id");
    for value in ["bob@corp", "carol", "dora", UUID] {
        assert!(!kept(&opening).contains(value), "{value} in {opening:#?}");
    }
    assert!(opening.path.starts_with("/api/claude_code/settings?who=***") && opening.path.ends_with("&x=1"));
    assert_eq!(opening.user_agent.as_deref(), Some("tool/1 (mail ***)"));
}

#[test]
fn ids_in_a_path_are_findings_and_not_shown() {
    let target = format!("/api/oauth/organizations/{UUID}/usage");
    let request = request("api.anthropic.com", &target, &[], CapturedBody::Complete(Bytes::new()));

    let opening = inspect(&inspector(Capture::Masked), request).opening;

    assert_eq!(find(&opening, "path:organizations").rule.as_str(), "head.path-id");
    assert_eq!(&*opening.path, "/api/oauth/organizations/***/usage");
    assert!(!kept(&opening).contains(UUID));
}

#[test]
fn what_is_only_observed_shows_no_ids_either() {
    let inspector = inspector(Capture::Full);
    let target = format!("/v1/messages/{UUID}?k={}&mail=bob@corp.example.com", key());
    let headers = [("authorization", key()), ("user-agent", "x bob@corp.example.com".to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let request = request("api.anthropic.com", &target, &headers, CapturedBody::Streamed);
    let destination = inspector.classify(&request.head);

    let opening =
        inspector.observe(request.id, &request.head, &destination, 0, Some(NotInspected::Conversation));

    assert_eq!(&*opening.path, "/v1/messages/***?k=***&mail=***");
    assert!(!kept(&opening).contains(&key()) && !kept(&opening).contains("bob@"));
    assert!(opening.fields.is_empty() && opening.findings.is_empty());
}

// PITFALLS 33
#[test]
fn no_credential_reaches_the_record() {
    let key = key();
    let bearer = format!("Bearer {key}");
    let sentry = format!("Sentry sentry_version=7, sentry_key={key}");
    let cookie = format!("sessionKey={key}; theme=dark");
    let credentials = [
        ("authorization", &*bearer),
        ("proxy-authorization", &*bearer),
        ("x-api-key", &*key),
        ("dd-api-key", &*key),
        ("x-sentry-auth", &*sentry),
        ("cookie", &*cookie),
    ];
    // The probe sees the key where it is no credential: full capture keeps the body.
    let body = || CapturedBody::Complete(Bytes::from(format!(r#"{{"a":"{key}"}}"#)));
    let control = inspect(&inspector(Capture::Full), request("x.example", "/", &[], body())).opening;
    assert!(kept(&control).contains(&key));
    let target = format!("/v1/rgstr?k={key}&sentry_key={key}&dd-api-key={key}&%6b={key}&st=js");

    for capture in [Capture::Full, Capture::Masked, Capture::None] {
        let mut request = request("statsigapi.net", &target, &credentials, complete("{}"));
        let mut trailers = HeaderMap::new();
        trailers.insert("x-api-key", HeaderValue::from_str(&key).unwrap());
        request.trailers = Some(trailers);
        let opening = inspect(&inspector(capture), request).opening;

        assert!(!kept(&opening).contains(&key), "{opening:#?}");
        assert!(!kept(&opening).contains(&key[14..]), "{opening:#?}");
        assert_eq!(opening.findings, []);
        assert_eq!(opening.credentials.len(), 4 + 6 + 1);
        let of_key = FingerprintKey::new(&[7; 32]).fingerprint(key.as_bytes());
        assert!(
            opening.credentials.iter().all(|sent| sent.fingerprint == of_key),
            "{:?}",
            opening.credentials
        );
        assert_eq!(&*opening.path, "/v1/rgstr?k=***&sentry_key=***&dd-api-key=***&%6b=***&st=js");
    }
}

#[test]
fn a_credential_is_a_field_with_its_fingerprint() {
    let key = key();
    let request = request(
        "statsigapi.net",
        "/v1/rgstr",
        &[("x-api-key", &key), ("x-api-key", "other")],
        complete("{}"),
    );

    let opening = inspect(&inspector(Capture::Masked), request).opening;

    let shown: Vec<_> = opening
        .fields
        .iter()
        .filter(|field| &*field.path == "header:x-api-key")
        .map(|field| String::from(field.value))
        .collect();
    let wanted: Vec<_> =
        opening.credentials.iter().map(|sent| format!("*** (fingerprint {})", sent.fingerprint)).collect();
    assert_eq!(shown, wanted);
    assert_ne!(shown[0], shown[1]);
}

#[test]
fn a_head_without_a_body_is_looked_at_too() {
    let request = request(
        "api.anthropic.com",
        "/api/oauth/usage",
        &[("x-who", "bob@corp.example.com")],
        CapturedBody::Complete(Bytes::new()),
    );

    let opening = inspect(&inspector(Capture::None), request).opening;

    assert_eq!(find(&opening, "header:x-who").rule.as_str(), "contact.email");
    assert!(opening.fields.is_empty());
}
