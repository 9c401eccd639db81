//! Speaks OTLP to a collector: one request at a time, and what its answer means.

use std::{sync::Arc, time::Duration};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    cli::exit::Failure,
    model::{Authority, Host, Scheme},
    report::OtlpLogs,
};

/// How OTLP is written and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Grpc,
    HttpJson,
    HttpProtobuf,
}

/// A collector.
pub(super) struct Collector {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    /// Path and query.
    pub(super) target: String,
    pub(super) protocol: Protocol,
    pub(super) headers: HeaderMap,
    connector: TlsConnector,
    connection: Option<Sender>,
}

enum Sender {
    Http1(conn::http1::SendRequest<Full<Bytes>>),
    Http2(conn::http2::SendRequest<Full<Bytes>>),
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The collector has it, but for so many records that it will never take, and why.
    Accepted { rejected: u64, why: String },
    /// It will never take this.
    Refused(String),
    /// It is to be tried again, perhaps not before some time.
    TryAgain(String, Option<Duration>),
    /// It is too large in one piece.
    TooLarge,
}

impl Collector {
    pub(super) fn new(
        scheme: Scheme,
        authority: Authority,
        path: &str,
        protocol: Protocol,
        headers: HeaderMap,
        roots: RootCertStore,
    ) -> Result<Self, Failure> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::new("setting up TLS", error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let is_grpc = protocol == Protocol::Grpc;
        config.alpn_protocols = vec![if is_grpc { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let target = match protocol {
            Protocol::Grpc => GRPC_METHOD.to_owned(),
            Protocol::HttpJson | Protocol::HttpProtobuf => http_target(path),
        };
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { scheme, authority, target, protocol, headers, connector, connection: None })
    }

    /// Sends one request and waits for what becomes of it.
    pub(super) async fn send(&mut self, logs: &OtlpLogs) -> Delivery {
        let body = match self.protocol {
            Protocol::Grpc => grpc_frame(&logs.to_protobuf()),
            Protocol::HttpJson => Bytes::from(logs.to_json()),
            Protocol::HttpProtobuf => Bytes::from(logs.to_protobuf()),
        };
        match timeout(ANSWER_TIME, self.exchange(body)).await {
            Ok(Ok(delivery)) => delivery,
            Ok(Err(why)) => {
                self.connection = None;
                Delivery::TryAgain(why, None)
            }
            Err(_) => {
                self.connection = None;
                Delivery::TryAgain(format!("{} did not answer in time", self.authority), None)
            }
        }
    }

    async fn exchange(&mut self, body: Bytes) -> Result<Delivery, String> {
        let request = self.request(body).map_err(|error| error.to_string())?;
        let usable = self.connection.take_if(|_| true).filter(Sender::is_open);
        let mut sender = match usable {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let answer = match &mut sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(|error| error.to_string())?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => sender.send_request(request).await,
        };
        let (head, body) = answer.map_err(|error| format!("{}: {error}", self.authority))?.into_parts();
        let (body, trailers) = read(body).await?;
        self.connection = Some(sender);
        Ok(match self.protocol {
            Protocol::Grpc => grpc_delivery(head.status, &head.headers, &trailers, body),
            Protocol::HttpJson | Protocol::HttpProtobuf => http_delivery(head.status, &head.headers, &body),
        })
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, http::Error> {
        let named = self.authority.to_string();
        let named =
            named.strip_suffix(&format!(":{}", self.scheme.default_port())).unwrap_or(&named).to_owned();
        let (uri, kind) = match self.protocol {
            Protocol::Grpc => {
                (format!("{}://{named}{}", self.scheme.as_str(), self.target), "application/grpc")
            }
            Protocol::HttpJson => (self.target.clone(), "application/json"),
            Protocol::HttpProtobuf => (self.target.clone(), "application/x-protobuf"),
        };
        let mut request = Request::builder().method(Method::POST).uri(Uri::try_from(uri)?);
        if self.protocol == Protocol::Grpc {
            request = request.header(header::TE, "trailers");
        } else {
            request = request.header(header::HOST, named);
        }
        request = request
            .header(header::CONTENT_TYPE, kind)
            .header(header::USER_AGENT, concat!("plainsight/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(body))
    }

    async fn connect(&self) -> Result<Sender, String> {
        let failed = |error: std::io::Error| format!("{} cannot be reached: {error}", self.authority);
        let host = self.authority.host().to_string();
        let stream = TcpStream::connect((host.as_str(), self.authority.port())).await.map_err(failed)?;
        // It only makes things slower if it cannot be set.
        _ = stream.set_nodelay(true);
        if self.scheme == Scheme::Http {
            return self.handshake(stream).await;
        }
        let name = match self.authority.host() {
            Host::Domain(name) => {
                ServerName::try_from(name.to_string()).map_err(|error| error.to_string())?
            }
            Host::Ip(address) => ServerName::IpAddress((*address).into()),
        };
        let stream = self.connector.connect(name, stream).await;
        self.handshake(stream.map_err(|error| format!("TLS with {}: {error}", self.authority))?).await
    }

    async fn handshake<S>(&self, stream: S) -> Result<Sender, String>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = TokioIo::new(stream);
        if self.protocol == Protocol::Grpc {
            let (sender, connection) = conn::http2::handshake(TokioExecutor::new(), stream)
                .await
                .map_err(|error| error.to_string())?;
            // How it ends is told to whoever waits for an answer.
            tokio::spawn(async move { drop(connection.await) });
            return Ok(Sender::Http2(sender));
        }
        let (sender, connection) = conn::http1::handshake(stream).await.map_err(|error| error.to_string())?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Sender::Http1(sender))
    }
}

impl Sender {
    fn is_open(&self) -> bool {
        match self {
            Self::Http1(sender) => !sender.is_closed(),
            Self::Http2(sender) => !sender.is_closed(),
        }
    }
}

async fn read(mut body: Incoming) -> Result<(Bytes, HeaderMap), String> {
    let (mut bytes, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame.map_err(|error| error.to_string())?.into_data() {
            Ok(data) if bytes.len() + data.len() <= LARGEST_ANSWER_BYTES => bytes.extend_from_slice(&data),
            Ok(_) => return Err("its answer is too long".to_owned()),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    Ok((bytes.into(), trailers))
}

/// Where OTLP over HTTP is taken below `path`. A path that names the signal already is the whole of it.
fn http_target(path: &str) -> String {
    let (path, query) = path.find('?').map_or((path, ""), |at| path.split_at(at));
    let base = path.trim_end_matches('/');
    if base.ends_with("/v1/logs") { format!("{base}{query}") } else { format!("{base}/v1/logs{query}") }
}

fn http_delivery(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Delivery {
    let retry_after =
        headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    match status.as_u16() {
        200..=299 => {
            let kind =
                headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            let (rejected, why) =
                if kind.contains("json") { rejected_json(body) } else { rejected_protobuf(body) };
            Delivery::Accepted { rejected, why }
        }
        413 => Delivery::TooLarge,
        429 | 502 | 503 | 504 => {
            Delivery::TryAgain(format!("it answered {status}"), retry_after.map(Duration::from_secs))
        }
        _ => Delivery::Refused(format!("it answered {status}")),
    }
}

fn grpc_delivery(status: StatusCode, head: &HeaderMap, trailers: &HeaderMap, body: Bytes) -> Delivery {
    let field =
        |name: &str| trailers.get(name).or_else(|| head.get(name)).and_then(|value| value.to_str().ok());
    let Some(code) = field("grpc-status").and_then(|code| code.parse::<u8>().ok()) else {
        return http_delivery(status, head, &[]).or_no_grpc(status);
    };
    let message = field("grpc-message").unwrap_or_default();
    match code {
        0 => {
            let mut message = body;
            if message.len() >= GRPC_PREFIX_BYTES {
                message.advance(GRPC_PREFIX_BYTES);
            }
            let (rejected, why) = rejected_protobuf(&message);
            Delivery::Accepted { rejected, why }
        }
        // Cancelled, deadline, exhausted, aborted, out of range, unavailable, data loss: OTLP says to try those again.
        1 | 4 | 8 | 10 | 11 | 14 | 15 => {
            Delivery::TryAgain(format!("it answered with gRPC status {code}: {message}"), None)
        }
        _ => Delivery::Refused(format!("it answered with gRPC status {code}: {message}")),
    }
}

impl Delivery {
    /// An answer without a gRPC status is none of gRPC's, whatever else it says.
    fn or_no_grpc(self, status: StatusCode) -> Self {
        match self {
            Self::Accepted { .. } => Self::Refused(format!("it answered {status}, but not as gRPC does")),
            other => other,
        }
    }
}

fn rejected_json(body: &[u8]) -> (u64, String) {
    let answer: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let partial = &answer["partialSuccess"];
    let rejected = &partial["rejectedLogRecords"];
    let count = rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or(0);
    (count, partial["errorMessage"].as_str().unwrap_or_default().to_owned())
}

/// `ExportLogsServiceResponse`: field 1 is the partial success, of which field 1 is the number and field 2 the reason.
fn rejected_protobuf(body: &[u8]) -> (u64, String) {
    let (mut rejected, mut why) = (0, String::new());
    for (_, value) in fields(body).into_iter().filter(|(field, _)| *field == 1) {
        let Wire::Bytes(partial) = value else { continue };
        for (field, value) in fields(partial) {
            match (field, value) {
                (1, Wire::Number(number)) => rejected = number,
                (2, Wire::Bytes(text)) => why = String::from_utf8_lossy(text).into_owned(),
                _ => {}
            }
        }
    }
    (rejected, why)
}

enum Wire<'b> {
    Bytes(&'b [u8]),
    Number(u64),
}

/// The fields of a message as far as they are varints and bytes; stops at anything else.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Wire<'_>)> {
    let mut found = Vec::new();
    while let Some(tag) = varint(&mut bytes) {
        let value = match tag & 7 {
            0 => varint(&mut bytes).map(Wire::Number),
            2 => varint(&mut bytes).and_then(|length| {
                let (value, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
                bytes = rest;
                Some(Wire::Bytes(value))
            }),
            _ => None,
        };
        let Some(value) = value else { break };
        found.push((tag >> 3, value));
    }
    found
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Not compressed, and the length of what follows.
fn grpc_frame(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    Bytes::from([&[0], &length.to_be_bytes()[..], message].concat())
}

const GRPC_METHOD: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const GRPC_PREFIX_BYTES: usize = 5;
/// SDKs wait ten seconds; nobody waits for us.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// An answer says a number and a sentence.
const LARGEST_ANSWER_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use opentelemetry_proto::tonic::collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceResponse,
    };
    use prost::Message as _;

    use super::*;

    fn partial() -> Vec<u8> {
        let partial =
            ExportLogsPartialSuccess { rejected_log_records: 300, error_message: "too old".to_owned() };
        ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec()
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_signal_is_added_to_a_path_that_does_not_name_it() {
        for (path, target) in [
            ("", "/v1/logs"),
            ("/", "/v1/logs"),
            ("/otlp/", "/otlp/v1/logs"),
            (
                "/insert/opentelemetry/v1/logs?_stream_fields=a",
                "/insert/opentelemetry/v1/logs?_stream_fields=a",
            ),
        ] {
            assert_eq!(http_target(path), target);
        }
    }

    #[test]
    fn a_partial_success_says_what_was_lost_and_why() {
        let accepted = Delivery::Accepted { rejected: 300, why: "too old".to_owned() };
        let json = br#"{"partialSuccess":{"rejectedLogRecords":"300","errorMessage":"too old"}}"#;
        let framed = grpc_frame(&partial());

        let ok = StatusCode::OK;
        assert_eq!(
            http_delivery(ok, &headers(&[("content-type", "application/x-protobuf")]), &partial()),
            accepted
        );
        assert_eq!(http_delivery(ok, &headers(&[("content-type", "application/json")]), json), accepted);
        assert_eq!(grpc_delivery(ok, &headers(&[]), &headers(&[("grpc-status", "0")]), framed), accepted);
        assert_eq!(
            http_delivery(ok, &headers(&[]), b""),
            Delivery::Accepted { rejected: 0, why: String::new() }
        );
    }

    #[test]
    fn what_passes_is_tried_again_and_what_does_not_is_not() {
        let http = |status| {
            http_delivery(StatusCode::from_u16(status).unwrap(), &headers(&[("retry-after", "7")]), b"")
        };
        let grpc = |code| {
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from(code))]);
            grpc_delivery(StatusCode::OK, &headers(&[]), &trailers, Bytes::new())
        };

        for status in [429, 502, 503, 504] {
            assert!(
                matches!(http(status), Delivery::TryAgain(_, Some(after)) if after.as_secs() == 7),
                "{status}"
            );
        }
        assert!(matches!(http(400), Delivery::Refused(_)));
        assert_eq!(http(413), Delivery::TooLarge);
        assert!(matches!(grpc(14_u16), Delivery::TryAgain(..)));
        assert!(matches!(grpc(3_u16), Delivery::Refused(_)));
        let no_grpc = grpc_delivery(StatusCode::OK, &headers(&[]), &headers(&[]), Bytes::new());
        assert!(matches!(no_grpc, Delivery::Refused(_)));
    }

    #[test]
    fn a_damaged_answer_is_read_as_far_as_it_goes() {
        for cut in 0..partial().len() {
            rejected_protobuf(&partial()[..cut]);
        }
        assert_eq!(rejected_protobuf(&[0xff; 12]), (0, String::new()));
    }
}
