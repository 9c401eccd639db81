//! What observing a request costs, and what redacting it costs on top: the whole walk from bytes to what leaves.
//!
//! It runs on one thread without waiting for anything, so that its time is processor time.

use std::hint::black_box;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Version, header::CONTENT_TYPE};
use plainsight::{
    destination::Catalogue,
    inspect::{Capture, Forward, Inspector, Options},
    model::{
        Authority, CapturedBody, CapturedRequest, FingerprintKey, FlowId, RequestHead, RunId, Scheme,
    },
    policy::Policy,
    rules::{RuleSet, embedded},
};

use crate::{best, bodies};

/// Prints a row for each body. "Redacting" is the profile that redacts all that rules name; it must have redacted.
pub fn print() {
    let (observe, private) = (inspector("observe"), inspector("private"));
    println!("\n{:28} {:>9} {:>12} {:>12} {:>12} {:>7}", "request", "bytes", "observing us", "redacting us", "added us", "ratio");
    let bodies = [
        ("events 2 KiB", bodies::events(2 << 10, 1)),
        ("events 16 KiB", bodies::events(16 << 10, 1)),
        ("events 349 KB", bodies::events(349_000, 1)),
        ("events 349 KB, clean", clean(349_000)),
    ];
    for (name, body) in bodies {
        let request = request(Bytes::from(body));
        let time = |inspector: &Inspector, redacts: bool| {
            let run = || {
                let destination = inspector.classify(&request.head);
                black_box(inspector.inspect(black_box(request.clone()), destination, 1)).forward
            };
            assert_eq!(matches!(run(), Forward::Rewritten(_)), redacts, "{name}");
            best(|| drop(run()), 20) * 1e6
        };
        let is_clean = name.ends_with("clean");
        let (observing, redacting) = (time(&observe, false), time(&private, !is_clean));
        let bytes = match &request.body {
            CapturedBody::Complete(body) => body.len(),
            _ => 0,
        };
        println!(
            "{name:28} {bytes:>9} {observing:>12.1} {redacting:>12.1} {:>12.1} {:>7.2}",
            redacting - observing,
            redacting / observing
        );
    }
}

fn inspector(profile: &str) -> Inspector {
    Inspector::new(
        Catalogue::embedded(),
        Vec::new(),
        RuleSet::from_sources(&embedded()).expect("shipped rules"),
        Policy::profile(profile).expect("a shipped profile"),
        FingerprintKey::new(&[7; FingerprintKey::LEN_BYTES]),
        Options { capture: Capture::Masked, ..Options::default() },
    )
}

/// Events in which there is nothing to redact.
fn clean(size: usize) -> String {
    let event = r#"{"event_type":"x","event_data":{"event_name":"tengu_timer","model":"m","duration":17}}"#;
    let events = vec![event; size / (event.len() + 1)].join(",");
    format!(r#"{{"events":[{events}]}}"#)
}

fn request(body: Bytes) -> CapturedRequest {
    let json = HeaderValue::from_static("application/json");
    CapturedRequest {
        id: FlowId::new(RunId::new(1).expect("one is a number of a run"), 1),
        head: RequestHead {
            scheme: Scheme::Https,
            authority: Authority::parse("api.anthropic.com", Some(443)).expect("a literal"),
            method: Method::POST,
            target: "/api/event_logging/v2/batch".to_owned(),
            version: Version::HTTP_11,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, json)]),
        },
        body: CapturedBody::Complete(body),
        trailers: None,
    }
}
