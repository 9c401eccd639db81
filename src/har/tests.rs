use std::{
    cell::Cell,
    io::{Cursor, Read as _},
    ops::ControlFlow,
};

use crate::model::{
    Action, CapturedField, DestinationId, DestinationKind, FlowClosing, FlowId, FlowKind, FlowOpening,
    FlowRecord, NotInspected, Outcome, RunId, Scheme,
};

use super::*;

fn read_all(text: &[u8]) -> (Vec<Result<Entry, Unreadable>>, Result<(), HarError>) {
    let mut entries = Vec::new();
    let result = read(text, |entry| {
        entries.push(entry);
        ControlFlow::Continue(())
    });
    (entries, result)
}

fn one(request: &str) -> Entry {
    let (mut entries, result) = read_all(har(&[request]).as_bytes());
    result.unwrap();
    assert_eq!(entries.len(), 1);
    entries.remove(0).unwrap()
}

fn har(requests: &[&str]) -> String {
    let entries: Vec<String> = requests
        .iter()
        .map(|request| {
            format!(r#"{{"startedDateTime":"2026-11-21T06:22:18.163Z","time":3.4,"request":{request},"response":{{"status":200,"content":{{"text":"x"}},"bodySize":2}},"cache":{{}},"timings":{{}}}}"#)
        })
        .collect();
    format!(
        r#"{{"log":{{"version":"1.2","creator":{{"name":"x"}},"entries":[{}],"pages":[]}}}}"#,
        entries.join(",")
    )
}

fn complete(entry: &Entry) -> &[u8] {
    match &entry.body {
        RecordedBody::Complete(body) => body,
        RecordedBody::Missing(reason) => panic!("missing: {reason}"),
    }
}

#[test]
fn an_entry_becomes_a_request() {
    let entry = one(
        r#"{"method":"POST","url":"https://a.example:4318/v1/logs?x=1","httpVersion":"http/2.0","_extra":[1],
        "headers":[{"name":":authority","value":"a.example"},{"name":"Content-Type","value":"text/plain"},{"name":"content-type","value":"b"}],
        "postData":{"mimeType":"text/plain","params":[],"text":"{\"a\":1}"},"headersSize":-1,"bodySize":7}"#,
    );

    assert_eq!(entry.head.scheme, Scheme::Https);
    assert_eq!(entry.head.authority.to_string(), "a.example:4318");
    assert_eq!(entry.head.target, "/v1/logs?x=1");
    assert_eq!(entry.head.version, http::Version::HTTP_2);
    assert_eq!(entry.head.headers.len(), 2, "pseudo header fields are none");
    assert_eq!(entry.head.header("content-type"), Some("text/plain"));
    assert_eq!(complete(&entry), br#"{"a":1}"#);
    assert_eq!((entry.status, entry.duration_ms, entry.response_bytes), (Some(200), 3, 2));
    assert_eq!(entry.time_ms, Some(1_795_242_138_163));
}

#[test]
fn binary_bodies_are_read_in_both_ways_of_writing_them() {
    let mitmproxy =
        one(r#"{"method":"POST","url":"https://a.example/","postData":{"text":"CgEA","encoding":"base64"}}"#);
    let http_toolkit = one(
        r#"{"method":"POST","url":"https://a.example/","_requestBodyStatus":"discarded:not-representable",
        "_content":{"text":"CgEA","size":3,"encoding":"base64"}}"#,
    );

    assert_eq!(complete(&mitmproxy), [0x0a, 1, 0]);
    assert_eq!(complete(&http_toolkit), [0x0a, 1, 0]);
}

#[test]
fn a_form_without_a_text_is_written_again() {
    let entry = one(
        r#"{"method":"POST","url":"https://a.example/","postData":{"mimeType":"application/x-www-form-urlencoded",
        "params":[{"name":"a b","value":"x&y@z"},{"name":"c"}]}}"#,
    );

    assert_eq!(complete(&entry), b"a+b=x%26y%40z&c=");
    assert_eq!(entry.head.header("content-type"), Some("application/x-www-form-urlencoded"));
}

// PITFALLS 2
#[test]
fn a_body_that_was_left_out_does_not_read_as_an_empty_one() {
    let missing = RecordedBody::Missing(NotInspected::NotRecorded);
    for request in [
        r#"{"method":"POST","url":"https://a.example/","_requestBodyStatus":"discarded:too-large"}"#,
        r#"{"method":"POST","url":"https://a.example/","headers":[{"name":"Content-Length","value":"7"}]}"#,
        r#"{"method":"POST","url":"https://a.example/","bodySize":7}"#,
        r#"{"method":"POST","url":"https://a.example/","postData":{"params":[{"name":"f","fileName":"x.png"}]}}"#,
    ] {
        assert_eq!(one(request).body, missing, "{request}");
    }
    for request in [
        r#"{"method":"GET","url":"https://a.example/","bodySize":16}"#,
        r#"{"method":"POST","url":"https://a.example/","bodySize":0}"#,
        r#"{"method":"POST","url":"https://a.example/","postData":{"text":""}}"#,
        r#"{"method":"POST","url":"https://a.example/","postData":null,"headers":null}"#,
    ] {
        assert!(complete(&one(request)).is_empty(), "{request}");
    }
}

#[test]
fn messages_of_a_websocket_are_not_read_and_that_is_said() {
    let text = r#"{"log":{"entries":[{"request":{"method":"GET","url":"wss://a.example/"},"_webSocketMessages":[{"type":"send","data":"x"}]}]}}"#;

    let (entries, _) = read_all(text.as_bytes());

    assert_eq!(entries[0].as_ref().unwrap().body, RecordedBody::Missing(NotInspected::Upgraded));
}

// PITFALLS 5
#[test]
fn half_a_surrogate_pair_is_no_obstacle() {
    let entry =
        one(r#"{"method":"POST","url":"https://a.example/","postData":{"text":"a\ud83d b\ud83d\ude00"}}"#);

    assert_eq!(complete(&entry), b"a\xed\xa0\xbd b\xf0\x9f\x98\x80");
}

#[test]
fn a_bom_is_passed_over() {
    let text = format!("\u{feff}{}", har(&[r#"{"method":"GET","url":"https://a.example/"}"#]));

    let (entries, result) = read_all(text.as_bytes());

    result.unwrap();
    assert!(entries[0].is_ok());
}

#[test]
fn one_bad_entry_does_not_hide_the_others() {
    let text = har(&[
        r#"{"method":"GET","url":"/relative"}"#,
        r#"{"method":7,"url":"https://a.example/"}"#,
        r#"{"method":"GET","url":"data:text/plain,x"}"#,
        r#"{"method":"POST","url":"https://a.example/","postData":{"text":"%","encoding":"base64"}}"#,
        r#"{"method":"GET","url":"https://a.example/last"}"#,
    ]);

    let (entries, result) = read_all(text.as_bytes());

    result.unwrap();
    let messages: Vec<String> =
        entries.iter().filter_map(|entry| entry.as_ref().err()).map(ToString::to_string).collect();
    assert_eq!(messages[0], "entry 0: request.url: it has no scheme");
    assert!(messages[1].starts_with("entry 1: invalid type: integer `7`"), "{}", messages[1]);
    assert_eq!(messages[2], "entry 2: `data:` is not HTTP");
    assert_eq!(messages[3], "entry 3: request.postData: it is not the base64 that `encoding` says");
    assert_eq!(entries[4].as_ref().unwrap().head.target, "/last");
}

#[test]
fn a_file_that_breaks_off_says_where() {
    let whole = har(&[r#"{"method":"GET","url":"https://a.example/"}"#; 3]);
    let cut = &whole[..whole.rfind("a.example").unwrap()];

    let (entries, result) = read_all(cut.as_bytes());

    assert_eq!(entries.len(), 2);
    let message = result.unwrap_err().to_string();
    assert!(message.starts_with("entry 2: EOF while parsing"), "{message}");
}

#[test]
fn what_is_no_har_file_is_refused() {
    for text in ["", "[]", "{}", r#"{"log":{}}"#, r#"{"log":[]}"#, r#"{"log":{"entries":{}}}"#, "\x1f\u{8b}"]
    {
        let (_, result) = read_all(text.as_bytes());

        assert!(matches!(result, Err(HarError::Format(_))), "{text:?}");
    }
}

#[test]
fn reading_stops_when_it_is_told_to() {
    let text = har(&[r#"{"method":"GET","url":"https://a.example/"}"#; 3]);
    let mut seen = 0;

    read(text.as_bytes(), |_| {
        seen += 1;
        ControlFlow::Break(())
    })
    .unwrap();

    assert_eq!(seen, 1);
}

#[test]
fn a_large_file_is_read_an_entry_at_a_time() {
    // The entries are made while they are read, so that it shows how far reading is ahead of what was seen.
    const ENTRIES: usize = 64;
    let body = "x".repeat(128 * 1024);
    let entry = format!(
        r#"{{"request":{{"method":"POST","url":"https://a.example/","postData":{{"text":"{body}"}}}}}}"#
    );
    let made = Cell::new(0);
    let middle = (0..ENTRIES).map(|index| {
        made.set(index + 1);
        if index == 0 { entry.clone() } else { format!(",{entry}") }
    });
    let parts = Parts { parts: middle, current: Cursor::new(Vec::new()) };
    let source = br#"{"log":{"entries":["#.chain(parts).chain(&b"]}}"[..]);
    let mut seen = 0;

    read(source, |entry| {
        assert_eq!(complete(&entry.unwrap()).len(), body.len());
        seen += 1;
        assert!(made.get() <= seen + 4, "{} entries are in memory at entry {seen}", made.get() - seen);
        ControlFlow::Continue(())
    })
    .unwrap();

    assert_eq!(seen, ENTRIES);
}

struct Parts<I> {
    parts: I,
    current: Cursor<Vec<u8>>,
}

impl<I: Iterator<Item = String>> std::io::Read for Parts<I> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.current.read(buffer)? {
                0 => match self.parts.next() {
                    Some(part) => self.current = Cursor::new(part.into_bytes()),
                    None => return Ok(0),
                },
                count => return Ok(count),
            }
        }
    }
}

fn field(path: &str, value: &str) -> CapturedField {
    CapturedField { path: path.into(), value: value.into() }
}

fn record(number: u32) -> FlowRecord {
    FlowRecord {
        opening: FlowOpening {
            id: FlowId::new(RunId::new(3).unwrap(), number),
            time_ms: 1_795_242_138_163,
            kind: FlowKind::Request,
            destination: DestinationId::new("statsig"),
            destination_kind: DestinationKind::Telemetry,
            method: "POST".into(),
            scheme: "https".into(),
            authority: "[2001:db8::1]:8443".into(),
            path: "/v1/rgstr?k=***&st=x".into(),
            version: "HTTP/1.1".into(),
            user_agent: None,
            session: None,
            request_bytes: 99,
            action: Action::Allow,
            answered: None,
            policy_row: "default".into(),
            policy_hash: None,
            not_inspected: None,
            format: Some("statsig".into()),
            findings: Vec::new(),
            fields: vec![field("statsig:a", "b***"), field("statsig:c", "1")].into(),
            fields_left_out: 0,
            body: None,
            credentials: Vec::new(),
            news: Vec::new(),
            rewriting: None,
        },
        closing: Some(FlowClosing {
            outcome: Outcome::Forwarded,
            status: Some(202),
            request_bytes: 99,
            response_bytes: 16,
            duration_ms: 12,
            error: None,
            not_inspected: None,
        }),
    }
}

fn written(flows: &[FlowRecord]) -> String {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, "1.0").unwrap();
    for flow in flows {
        writer.entry(flow).unwrap();
    }
    writer.finish().unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn what_we_write_we_read() {
    let mut full = record(2);
    full.opening.body = Some(bytes::Bytes::from_static(b"\x1f\x8b\x08\0\xff"));
    let mut tunnel = record(3);
    tunnel.opening.kind = FlowKind::Tunnel;
    (tunnel.opening.method, tunnel.opening.path) = ("CONNECT".into(), "".into());
    (tunnel.opening.fields, tunnel.closing) = (Vec::new().into(), None);
    let text = written(&[record(1), full, tunnel]);

    let (entries, result) = read_all(text.as_bytes());

    result.unwrap();
    let entries: Vec<Entry> = entries.into_iter().map(Result::unwrap).collect();
    assert_eq!(complete(&entries[0]), br#"{"statsig:a":"b***","statsig:c":"1"}"#);
    assert_eq!(entries[0].head.authority.to_string(), "[2001:db8::1]:8443");
    assert_eq!(entries[0].head.target, "/v1/rgstr?k=***&st=x");
    assert_eq!((entries[0].status, entries[0].duration_ms), (Some(202), 12));
    assert_eq!(entries[0].time_ms, Some(1_795_242_138_163));
    assert_eq!(complete(&entries[1]), b"\x1f\x8b\x08\0\xff");
    assert_eq!((entries[2].head.method.as_str(), entries[2].status), ("CONNECT", None));
}

#[test]
fn header_fields_come_back_and_are_no_part_of_the_body() {
    let kind = "application/grpc+proto";
    let mut masked = record(1);
    let fields = vec![
        field("path:0", "v1"),
        field("query:st", "x"),
        field("header:content-type", kind),
        field("header:x-api-key", "***"),
        field("header:cookie/a", "b"),
        field("statsig:a", "b***"),
    ];
    masked.opening.fields = fields.clone().into();
    let mut full = masked.clone();
    full.opening.body = Some(bytes::Bytes::from_static(b"\0\0\0\0\x01\xff"));
    let mut bodiless = masked.clone();
    bodiless.opening.fields = fields[..fields.len() - 1].to_vec().into();
    bodiless.opening.request_bytes = 0;
    let text = written(&[masked, full, bodiless]);

    let (entries, _) = read_all(text.as_bytes());

    let entries: Vec<Entry> = entries.into_iter().map(Result::unwrap).collect();
    let header = |at: usize, name: &str| entries[at].head.header(name);
    assert_eq!(complete(&entries[0]), br#"{"statsig:a":"b***"}"#);
    assert_eq!(header(0, "content-type"), Some("application/json"));
    assert_eq!(header(0, "x-api-key"), Some("***"));
    assert_eq!(complete(&entries[1]), b"\0\0\0\0\x01\xff");
    assert_eq!(header(1, "content-type"), Some(kind));
    assert_eq!(complete(&entries[2]), b"");
}

/// The members that HAR 1.2 wants, and of which type.
#[test]
fn what_we_write_has_every_member_that_the_specification_wants() {
    let har: serde_json::Value = serde_json::from_str(&written(&[record(1)])).unwrap();

    let log = &har["log"];
    let entry = &log["entries"][0];
    assert!(
        log["version"] == "1.2"
            && log["creator"]["name"].is_string()
            && log["creator"]["version"].is_string()
    );
    assert!(entry["startedDateTime"] == "2026-11-21T06:22:18.163Z" && entry["time"].is_number());
    for key in ["method", "url", "httpVersion"] {
        assert!(entry["request"][key].is_string(), "request.{key}");
    }
    for (side, lists) in
        [("request", &["cookies", "headers", "queryString"][..]), ("response", &["cookies", "headers"])]
    {
        for key in lists {
            assert!(entry[side][key].is_array(), "{side}.{key}");
        }
        assert!(entry[side]["headersSize"].is_i64() && entry[side]["bodySize"].is_i64(), "{side}");
    }
    assert_eq!(entry["request"]["queryString"][1], serde_json::json!({ "name": "st", "value": "x" }));
    assert!(
        entry["request"]["postData"]["mimeType"].is_string()
            && entry["request"]["postData"]["text"].is_string()
    );
    for key in ["statusText", "httpVersion", "redirectURL"] {
        assert!(entry["response"][key].is_string(), "response.{key}");
    }
    assert!(entry["response"]["status"].is_i64() && entry["response"]["content"]["size"].is_i64());
    assert!(entry["response"]["content"]["mimeType"].is_string() && entry["cache"].is_object());
    for key in ["send", "wait", "receive"] {
        assert!(entry["timings"][key].is_number(), "timings.{key}");
    }
    assert!(entry["comment"].as_str().unwrap().contains("credentials and findings masked"));
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>) {
        let _ = read_all(&bytes);
        let mut text = br#"{"log":{"entries":["#.to_vec();
        text.extend_from_slice(&bytes);
        let _ = read_all(&text);
    }
}
