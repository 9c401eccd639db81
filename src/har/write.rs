use std::io::{self, Write};

use bytes::Bytes;
use http::HeaderValue;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    har::base64,
    model::{FlowKind, FlowRecord, RequestHead},
};

/// Writes records as a HAR 1.2 file, one by one.
///
/// Header fields are not in our store, so their lists are empty and each entry's comment says so. Bodies are what the
/// store holds: the decoded fields with findings masked, or the body as it was sent.
#[derive(Debug)]
#[must_use = "without `finish` the file ends in the middle"]
pub struct Writer<W: Write> {
    out: W,
    is_first: bool,
}

impl<W: Write> Writer<W> {
    /// Begins a file. `version` is plainsight's own.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W, version: &str) -> io::Result<Self> {
        let creator = json!({ "name": "plainsight", "version": version });
        let comment =
            json!("Header fields are not recorded. Bodies are masked unless an entry says otherwise.");
        write!(
            out,
            "{{\"log\":{{\"version\":\"1.2\",\"creator\":{creator},\"comment\":{comment},\"entries\":["
        )?;
        Ok(Self { out, is_first: true })
    }

    /// Writes one record.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn entry(&mut self, flow: &FlowRecord) -> io::Result<()> {
        let separator = if self.is_first { "\n" } else { ",\n" };
        self.is_first = false;
        self.out.write_all(separator.as_bytes())?;
        serde_json::to_writer(&mut self.out, &entry(flow))?;
        Ok(())
    }

    /// Writes a request that stands in no record, whole: as it would have been sent on.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn request(&mut self, sent: &SentOn) -> io::Result<()> {
        let separator = if self.is_first { "\n" } else { ",\n" };
        self.is_first = false;
        self.out.write_all(separator.as_bytes())?;
        serde_json::to_writer(&mut self.out, &request(sent))?;
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.write_all(b"\n]}}\n")?;
        self.out.flush()
    }
}

/// A request as it is sent on.
#[derive(Clone, Debug)]
pub struct SentOn {
    /// When it came, in milliseconds since 1970.
    pub time_ms: i64,
    /// Method, target and header fields.
    pub head: RequestHead,
    /// The body; `None` if it is not known.
    pub body: Option<Bytes>,
    /// What was answered, if anything was.
    pub status: Option<u16>,
    /// How long that took, in milliseconds.
    pub duration_ms: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// Whether it is other than it came.
    pub is_rewritten: bool,
}

fn request(sent: &SentOn) -> Value {
    let SentOn { time_ms, head, body, status, duration_ms, response_bytes, is_rewritten } = sent;
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers =
        head.headers.iter().map(|(name, value)| json!({ "name": name.as_str(), "value": text(value) }));
    let version = format!("{:?}", head.version);
    let mut request = json!({
        "method": head.method.as_str(),
        "url": format!("{}://{}{}", head.scheme.as_str(), head.authority, head.target),
        "httpVersion": version,
        "cookies": [],
        "headers": headers.collect::<Vec<_>>(),
        "queryString": query(&head.target),
        "headersSize": -1,
        "bodySize": body.as_ref().map_or(-1, |body| i64::try_from(body.len()).unwrap_or(i64::MAX)),
    });
    if let Some(body) = body.as_ref().filter(|body| !body.is_empty()) {
        let mime_type = head.header("content-type").unwrap_or_else(|| mime_type(body));
        request["postData"] = match std::str::from_utf8(body) {
            Ok(text) => json!({ "mimeType": mime_type, "params": [], "text": text }),
            Err(_) => {
                json!({ "mimeType": mime_type, "params": [], "text": base64::encode(body), "encoding": "base64" })
            }
        };
    }
    json!({
        "startedDateTime": time(*time_ms),
        "time": duration_ms,
        "request": request,
        "response": {
            "status": status.unwrap_or(0),
            "statusText": "",
            "httpVersion": version,
            "cookies": [],
            "headers": [],
            "content": { "size": response_bytes, "mimeType": "x-unknown", "comment": "answers are not kept" },
            "redirectURL": "",
            "headersSize": -1,
            "bodySize": response_bytes,
        },
        "cache": {},
        "timings": { "send": 0, "wait": duration_ms, "receive": 0 },
        "_plainsight": { "rewritten": is_rewritten },
    })
}

fn entry(flow: &FlowRecord) -> Value {
    let (opening, closing) = (&flow.opening, flow.closing.as_ref());
    let duration = closing.map_or(0, |closing| closing.duration_ms);
    let (post_data, held) = match post_data(flow) {
        Some((data, held)) => (Some(data), held),
        None => (None, "no body is recorded"),
    };
    let headers = headers(flow).map(|(name, value)| json!({ "name": name, "value": value }));
    let mut request = json!({
        "method": opening.method,
        "url": url(flow),
        "httpVersion": opening.version,
        "cookies": [],
        "headers": headers.collect::<Vec<_>>(),
        "queryString": query(&opening.path),
        "headersSize": -1,
        "bodySize": opening.request_bytes,
    });
    if let Some(post_data) = post_data {
        request["postData"] = post_data;
    }
    let findings = opening.findings.iter().map(|finding| {
        json!({ "rule": finding.rule, "severity": finding.severity, "path": finding.path, "preview": finding.preview })
    });
    json!({
        "startedDateTime": time(opening.time_ms),
        "time": duration,
        "request": request,
        "response": {
            "status": closing.and_then(|closing| closing.status).unwrap_or(0),
            "statusText": "",
            "httpVersion": opening.version,
            "cookies": [],
            "headers": [],
            "content": {
                "size": closing.map_or(0, |closing| closing.response_bytes),
                "mimeType": "x-unknown",
                "comment": "answers are not recorded",
            },
            "redirectURL": "",
            "headersSize": -1,
            "bodySize": closing.map_or(0, |closing| closing.response_bytes),
        },
        "cache": {},
        "timings": { "send": 0, "wait": duration, "receive": 0 },
        "comment": format!("{}: header fields are in lower case, with credentials and findings masked; {held}", opening.id),
        "_plainsight": {
            "id": opening.id.to_string(),
            "destination": opening.destination,
            "action": opening.action,
            "outcome": closing.map(|closing| closing.outcome),
            "not_inspected": closing.and_then(|closing| closing.not_inspected).or(opening.not_inspected),
            "findings": findings.collect::<Vec<_>>(),
        },
    })
}

/// The header fields as far as they were kept. What speaks of a body that is not here is left out.
fn headers(flow: &FlowRecord) -> impl Iterator<Item = (String, Box<str>)> {
    let is_whole = flow.opening.body.is_some();
    let fields = flow.opening.fields.iter().filter_map(|field| {
        let name = field.path.strip_prefix("header:").filter(|name| !name.contains('/'))?;
        Some((name.replace("~0", "~"), field.value))
    });
    fields.filter(move |(name, _)| is_whole || !ABOUT_THE_BODY.contains(&name.as_str()))
}

/// Header fields that say how to read a body.
const ABOUT_THE_BODY: &[&str] =
    &["content-encoding", "content-length", "content-type", "grpc-encoding", "transfer-encoding"];

/// What a field of the head is called, in contrast to one of the body.
const HEAD: &[&str] = &["header:", "path:", "query:"];

/// The body as far as it was kept, and what that is, in words.
fn post_data(flow: &FlowRecord) -> Option<(Value, &'static str)> {
    let opening = &flow.opening;
    if let Some(body) = opening.body.as_ref().filter(|body| !body.is_empty()) {
        let held = "the body is what was sent, its content coding included";
        let named = headers(flow).find(|(name, _)| name == "content-type").map(|(_, value)| value);
        let mime_type = named.unwrap_or_else(|| mime_type(body).into());
        let data = match std::str::from_utf8(body) {
            Ok(text) => json!({ "mimeType": mime_type, "params": [], "text": text, "comment": held }),
            Err(_) => json!({
                "mimeType": mime_type, "params": [], "text": base64::encode(body), "encoding": "base64",
                "comment": held,
            }),
        };
        return Some((data, held));
    }
    let in_body = opening.fields.iter().filter(|field| !HEAD.iter().any(|head| field.path.starts_with(head)));
    let fields: Map<String, Value> =
        in_body.map(|field| (field.path.to_string(), (&*field.value).into())).collect();
    if fields.is_empty() {
        return None;
    }
    let held = "the body stands for what was sent: its decoded fields, with findings masked";
    let text = Value::Object(fields).to_string();
    Some((json!({ "mimeType": "application/json", "params": [], "text": text, "comment": held }), held))
}

/// What the bytes look like, if no header field says so.
fn mime_type(body: &[u8]) -> &'static str {
    match body.trim_ascii_start().first() {
        Some(b'{' | b'[') => "application/json",
        _ => "application/octet-stream",
    }
}

fn url(flow: &FlowRecord) -> String {
    let opening = &flow.opening;
    match opening.kind {
        FlowKind::Request => format!("{}://{}{}", opening.scheme, opening.authority, opening.path),
        FlowKind::Attempt | FlowKind::Bypass | FlowKind::Tunnel => format!("https://{}/", opening.authority),
    }
}

fn query(target: &str) -> Vec<Value> {
    let Some((_, query)) = target.split_once('?') else { return Vec::new() };
    let parameters = query.split('&').filter(|parameter| !parameter.is_empty()).map(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        json!({ "name": name, "value": value })
    });
    parameters.collect()
}

/// A moment as the format wants it; the epoch for one that no calendar has.
fn time(time_ms: i64) -> String {
    let time = Timestamp::from_millisecond(time_ms).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
