use crate::{
    claude::ClientFile,
    cli::exit::Failure,
    destination::Catalogue,
    encoding::grpc_frames,
    model::{Destination, DestinationId, DestinationKind},
};

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One body.
    Body(BodyKind),
    /// Events that the client could not send.
    EventSpool,
    /// A recording.
    Har,
    /// Bodies of OTLP in JSON, one a line, as a collector's file exporter writes them.
    OtlpLines,
}

/// What one body is, in the words that a request's head would have said it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BodyKind {
    pub(super) destination: Destination,
    pub(super) content_type: Option<String>,
    /// The path that the decoder expects.
    pub(super) path: &'static str,
}

/// Which signal of OTLP a body carries. Its bytes alone do not tell in protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Logs,
    Metrics,
    Traces,
}

impl Kind {
    /// Reads what follows `--as`.
    pub(super) fn named(name: &str, catalogue: &Catalogue) -> Result<Self, Failure> {
        let body = |content_type: &str| {
            Self::Body(BodyKind { content_type: Some(content_type.to_owned()), ..BodyKind::local() })
        };
        Ok(match name {
            "event-spool" => Self::EventSpool,
            "har" => Self::Har,
            "otlp-lines" => Self::OtlpLines,
            "otlp-logs" => Self::otlp(Signal::Logs),
            "otlp-metrics" => Self::otlp(Signal::Metrics),
            "otlp-traces" => Self::otlp(Signal::Traces),
            "trace" | "json" => body("application/json"),
            "form" => body("application/x-www-form-urlencoded"),
            "grpc" => body("application/grpc"),
            "multipart" => body("multipart/form-data"),
            "protobuf" => body("application/x-protobuf"),
            "text" => body("text/plain"),
            name => match catalogue.row(name) {
                Some(row) => Self::Body(BodyKind {
                    destination: row.destination.clone(),
                    content_type: None,
                    path: path_of(name),
                }),
                None => return Err(unknown(name, catalogue)),
            },
        })
    }

    fn otlp(signal: Signal) -> Self {
        Self::Body(BodyKind { path: signal.path(false), ..BodyKind::otlp() })
    }

    /// Recognises a file by its name, then by how it begins; `None` if it is nothing that holds a request.
    pub(super) fn recognise(name: &str, start: &[u8], catalogue: &Catalogue) -> Option<Self> {
        match ClientFile::named(name) {
            Some(ClientFile::FailedEvents) => return Some(Self::EventSpool),
            Some(ClientFile::StatsCache) => return Some(Self::Body(BodyKind::local_json())),
            Some(ClientFile::Statsig) => return Some(Self::Body(statsig(catalogue))),
            None => {}
        }
        let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
        let object = start.strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
        let begins = |key: &str| {
            let rest = object?.strip_prefix(b"\"")?.strip_prefix(key.as_bytes())?.strip_prefix(b"\"")?;
            rest.trim_ascii_start().starts_with(b":").then_some(())
        };
        if name.ends_with(".har") || begins("log").is_some() {
            return Some(Self::Har);
        }
        if OTLP_KEYS.iter().any(|key| begins(key).is_some()) {
            return Some(Self::OtlpLines);
        }
        if begins("event_type").is_some() && contains(start, b"\"event_data\"") {
            return Some(Self::EventSpool);
        }
        if begins("events").is_some() && contains(start, b"\"event_data\"") {
            return Self::named("first-party-events", catalogue).ok();
        }
        let is_trace = begins("traceEvents").is_some()
            || (start.starts_with(b"[") && contains(start, b"\"ph\"") && contains(start, b"\"ts\""));
        is_trace.then(|| Self::Body(BodyKind::local_json()))
    }
}

impl BodyKind {
    /// A body of which nobody knows whom it is for.
    pub(super) fn local() -> Self {
        let destination = Destination {
            id: DestinationId::new("local-file"),
            kind: DestinationKind::ThirdParty,
            inspected: true,
        };
        Self { destination, content_type: None, path: "/" }
    }

    /// The same in JSON.
    pub(super) fn local_json() -> Self {
        Self { content_type: Some("application/json".to_owned()), ..Self::local() }
    }

    /// OTLP, of a signal that the body tells.
    pub(super) fn otlp() -> Self {
        let destination =
            Destination { id: DestinationId::new("otlp"), kind: DestinationKind::Telemetry, inspected: true };
        Self { destination, content_type: None, path: "" }
    }

    /// Settles what only the bytes tell: for OTLP the encoding, and for its JSON the signal; for a form of several
    /// parts what separates them.
    pub(super) fn settled(mut self, body: &[u8]) -> Result<Self, &'static str> {
        if self.content_type.as_deref() == Some("multipart/form-data")
            && let Some(boundary) = boundary(body)
        {
            self.content_type = Some(format!("multipart/form-data; boundary=\"{boundary}\""));
        }
        if self.destination.id.as_str() != "otlp" {
            return Ok(self);
        }
        let signal = Signal::ALL.into_iter().find(|signal| signal.path(false) == self.path);
        let start = &body[..body.len().min(SIGNAL_BYTES)];
        if start.trim_ascii_start().starts_with(b"{") {
            let told = Signal::ALL.into_iter().find(|signal| contains(start, signal.json_key().as_bytes()));
            let signal = signal.or(told).ok_or("no signal of OTLP is in it")?;
            return Ok(Self {
                path: signal.path(false),
                content_type: Some("application/json".to_owned()),
                ..self
            });
        }
        let signal =
            signal.ok_or("protobuf does not tell its signal: say --as otlp-logs, -metrics or -traces")?;
        let is_grpc = matches!(body.first(), Some(0 | 1)) && grpc_frames(body).all(|frame| frame.is_ok());
        let content_type = if is_grpc { "application/grpc" } else { "application/x-protobuf" };
        Ok(Self { path: signal.path(is_grpc), content_type: Some(content_type.to_owned()), ..self })
    }
}

impl Signal {
    const ALL: [Self; 3] = [Self::Logs, Self::Metrics, Self::Traces];

    const fn path(self, grpc: bool) -> &'static str {
        match (self, grpc) {
            (Self::Logs, false) => "/v1/logs",
            (Self::Logs, true) => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            (Self::Metrics, false) => "/v1/metrics",
            (Self::Metrics, true) => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            (Self::Traces, false) => "/v1/traces",
            (Self::Traces, true) => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        }
    }

    const fn json_key(self) -> &'static str {
        match self {
            Self::Logs => "\"resourceLogs\"",
            Self::Metrics => "\"resourceMetrics\"",
            Self::Traces => "\"resourceSpans\"",
        }
    }
}

fn statsig(catalogue: &Catalogue) -> BodyKind {
    let destination = catalogue.row("statsig").map(|row| row.destination.clone());
    let local = BodyKind::local_json();
    BodyKind { destination: destination.unwrap_or_else(|| local.destination.clone()), ..local }
}

/// A path of the destination, where its decoder looks at it.
fn path_of(destination: &str) -> &'static str {
    match destination {
        "otlp" => "",
        "sentry" => "/api/0/envelope/",
        _ => "/",
    }
}

/// The line between the parts of a form, which stands first.
fn boundary(body: &[u8]) -> Option<&str> {
    let line = body.split(|byte| *byte == b'\n').next()?;
    let boundary = std::str::from_utf8(line.strip_prefix(b"--")?).ok()?.trim_end();
    (!boundary.is_empty() && boundary.len() <= 70 && !boundary.contains('"')).then_some(boundary)
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    memchr::memmem::find(text, wanted).is_some()
}

fn unknown(name: &str, catalogue: &Catalogue) -> Failure {
    let ids = catalogue.rows().iter().map(|row| row.destination.id.as_str());
    let names = FORMATS.iter().copied().chain(ids);
    let near = names.max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
    Failure(format!("--as {name}: there is no such format; did you mean `{}`?", near.unwrap_or_default()))
}

/// What `--as` takes besides destinations.
const FORMATS: &[&str] = &[
    "event-spool",
    "form",
    "grpc",
    "har",
    "json",
    "multipart",
    "otlp-lines",
    "otlp-logs",
    "otlp-metrics",
    "otlp-traces",
    "protobuf",
    "text",
    "trace",
];

/// How an object of OTLP in JSON begins.
const OTLP_KEYS: &[&str] = &["resourceLogs", "resourceMetrics", "resourceProfiles", "resourceSpans"];

/// How far to look for the key that names the signal; it stands first.
const SIGNAL_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn recognised(name: &str, start: &str) -> Option<String> {
        let kind = Kind::recognise(name, start.as_bytes(), &Catalogue::embedded())?;
        Some(match kind {
            Kind::Body(body) => body.destination.id.to_string(),
            Kind::EventSpool => "spool".to_owned(),
            Kind::Har => "har".to_owned(),
            Kind::OtlpLines => "lines".to_owned(),
        })
    }

    #[test]
    fn files_are_told_apart_by_how_they_begin() {
        for (name, start, expected) in [
            ("x.json", "\u{feff} {\n \"log\" : {\"version\":\"1.2\"", Some("har")),
            ("x.har", "", Some("har")),
            ("1p_failed_events.a.b.json", "", Some("spool")),
            ("x", "{\"event_type\":\"ClaudeCodeInternalEvent\",\"event_data\":{", Some("spool")),
            ("x", "{\"events\":[{\"event_type\":\"x\",\"event_data\":{", Some("first-party-events")),
            ("x.jsonl", "{\"resourceSpans\":[", Some("lines")),
            ("x.json", "{\"traceEvents\":[", Some("local-file")),
            ("x.json", "[{\"name\":\"a\",\"ph\":\"B\",\"ts\":1", Some("local-file")),
            ("statsig.stable_id.1", "\"uuid\"", Some("statsig")),
            ("stats-cache.json", "{\"version\":1", Some("local-file")),
            ("settings.json", "{\"env\":{}}", None),
            ("x.jsonl", "{\"type\":\"user\",\"message\":{", None),
            ("x.json", "{\"logs\":[]}", None),
        ] {
            assert_eq!(recognised(name, start).as_deref(), expected, "{name} {start}");
        }
    }

    #[test]
    fn every_format_and_every_destination_can_be_asked_for() {
        let catalogue = Catalogue::embedded();
        for name in FORMATS {
            assert!(Kind::named(name, &catalogue).is_ok(), "{name}");
        }
        for row in catalogue.rows() {
            assert!(Kind::named(row.destination.id.as_str(), &catalogue).is_ok());
        }
        let failure = Kind::named("otlp-log", &catalogue).unwrap_err().to_string();
        assert_eq!(failure, "--as otlp-log: there is no such format; did you mean `otlp-logs`?");
    }

    #[test]
    fn the_bytes_of_otlp_tell_its_encoding() {
        let settled = |signal: Option<Signal>, body: &[u8]| {
            let path = signal.map_or("", |signal| signal.path(false));
            BodyKind { path, ..BodyKind::otlp() }
                .settled(body)
                .map(|kind| (kind.path, kind.content_type.unwrap()))
        };
        let logs = Some(Signal::Logs);

        assert_eq!(
            settled(None, b" {\"resourceSpans\":[]}"),
            Ok(("/v1/traces", "application/json".to_owned()))
        );
        assert_eq!(settled(logs, b"\x0a\x00"), Ok(("/v1/logs", "application/x-protobuf".to_owned())));
        assert_eq!(
            settled(logs, b"\0\0\0\0\x02\x0a\x00"),
            Ok(("/opentelemetry.proto.collector.logs.v1.LogsService/Export", "application/grpc".to_owned()))
        );
        assert!(settled(None, b"\x0a\x00").is_err());
    }

    #[test]
    fn a_form_says_its_own_boundary() {
        let kind = Kind::named("multipart", &Catalogue::embedded()).unwrap();
        let Kind::Body(body) = kind else { panic!("no body") };

        let settled = body.settled(b"--xyz\r\nContent-Disposition: form-data\r\n").unwrap();

        assert_eq!(settled.content_type.as_deref(), Some("multipart/form-data; boundary=\"xyz\""));
    }
}
