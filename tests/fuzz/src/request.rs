//! Whole requests, and the core that inspects them.

use std::sync::OnceLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use plainsight::{
    destination::Catalogue,
    inspect::{Capture, Inspection, Inspector, Options},
    model::{Authority, CapturedBody, CapturedRequest, FingerprintKey, FlowId, RequestHead, RunId, Scheme},
    policy::Policy,
    rules::{self, RuleSet},
};

/// The core as a user gets it: built-in catalogue, rules and policy, masked capture.
pub fn inspector() -> &'static Inspector {
    static INSPECTOR: OnceLock<Inspector> = OnceLock::new();
    INSPECTOR.get_or_init(|| {
        Inspector::new(
            Catalogue::embedded(),
            Vec::new(),
            RuleSet::from_sources(&rules::embedded()).expect("the built-in rules are tested"),
            Policy::embedded(),
            FingerprintKey::new(&[7; 32]),
            Options { capture: Capture::Masked, ..Options::default() },
        )
    })
}

/// Reads `METHOD AUTHORITY TARGET`, header lines, an empty line and a body; `None` when it is no such thing.
pub fn parse(input: &[u8]) -> Option<CapturedRequest> {
    let end = input.windows(2).position(|two| two == b"\n\n")?;
    let head = std::str::from_utf8(&input[..end]).ok()?;
    let mut lines = head.split('\n');
    let mut words = lines.next()?.split(' ');
    let method = Method::from_bytes(words.next()?.as_bytes()).ok()?;
    let authority = Authority::parse(words.next()?, Some(443)).ok()?;
    let target = words.next()?;
    let mut headers = HeaderMap::new();
    for line in lines.take(64) {
        let (name, value) = line.split_once(": ")?;
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).ok()?);
    }
    let body = CapturedBody::Complete(Bytes::copy_from_slice(&input[end + 2..]));
    Some(request(method, authority, target, headers, body))
}

/// A request for the core.
pub fn request(
    method: Method,
    authority: Authority,
    target: &str,
    headers: HeaderMap,
    body: CapturedBody,
) -> CapturedRequest {
    let run = RunId::new(1).expect("one is not zero");
    CapturedRequest {
        id: FlowId::new(run, 1),
        head: RequestHead {
            scheme: Scheme::Https,
            authority,
            method,
            target: target.to_owned(),
            version: Version::HTTP_11,
            headers,
        },
        body,
        trailers: None,
    }
}

/// As [`inspector`], with the policy that redacts.
pub fn redacting() -> &'static Inspector {
    static INSPECTOR: OnceLock<Inspector> = OnceLock::new();
    INSPECTOR.get_or_init(|| {
        Inspector::new(
            Catalogue::embedded(),
            Vec::new(),
            RuleSet::from_sources(&rules::embedded()).expect("the built-in rules are tested"),
            Policy::profile("private").expect("the built-in profiles are tested"),
            FingerprintKey::new(&[7; 32]),
            Options { capture: Capture::Full, ..Options::default() },
        )
    })
}

/// Takes a request through the whole core.
pub fn inspect(request: CapturedRequest) -> Inspection {
    inspect_with(inspector(), request)
}

/// Takes a request through this core.
pub fn inspect_with(inspector: &Inspector, request: CapturedRequest) -> Inspection {
    let destination = inspector.classify(&request.head);
    inspector.inspect(request, destination, 1_763_700_000_000)
}
