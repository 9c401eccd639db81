//! The load generator's side of a connection: through a proxy or straight to the origin.

use std::{net::SocketAddr, path::Path, sync::Arc};

use rustls::{client::Resumption, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{Failure, certificates, origin};

/// How to reach the origin: which first hop, and whose certificates to trust.
#[derive(Clone)]
pub struct Route {
    first_hop: SocketAddr,
    h1: TlsConnector,
    h2: TlsConnector,
    proxied: bool,
}

impl Route {
    /// A route by `first_hop`, a proxy if `proxied`, that trusts the CA at `ca` alone. No session is resumed: each
    /// handshake is a full one.
    pub fn new(first_hop: SocketAddr, proxied: bool, ca: &Path) -> Result<Self, Failure> {
        let connector = |protocol: &[u8]| -> Result<TlsConnector, Failure> {
            let mut tls = certificates::client(ca, &[protocol])?;
            tls.resumption = Resumption::disabled();
            Ok(TlsConnector::from(Arc::new(tls)))
        };
        Ok(Self { first_hop, h1: connector(b"http/1.1")?, h2: connector(b"h2")?, proxied })
    }

    /// Opens a TLS connection to `host` that speaks HTTP/1.1.
    pub async fn open_h1(&self, host: &str) -> Result<H1, Failure> {
        let stream = self.open_tls(&self.h1, host).await?;
        Ok(H1 { buffer: Vec::with_capacity(8 * 1024), stream })
    }

    /// Opens a TLS connection to `host` that speaks HTTP/2.
    ///
    /// # Errors
    /// Also when the other side did not agree to HTTP/2.
    pub async fn open_h2(&self, host: &str) -> Result<TlsStream<TcpStream>, Failure> {
        let stream = self.open_tls(&self.h2, host).await?;
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Ok(stream),
            other => Err(format!("asked for h2, got {other:?}").into()),
        }
    }

    /// Opens a connection to the literal address `authority` with no TLS: a blind tunnel.
    pub async fn open_plain(&self, authority: SocketAddr) -> Result<TcpStream, Failure> {
        if self.proxied { self.connect(&authority.to_string()).await } else { dial(authority).await }
    }

    async fn open_tls(&self, connector: &TlsConnector, host: &str) -> Result<TlsStream<TcpStream>, Failure> {
        let stream = if self.proxied {
            self.connect(&format!("{host}:443")).await?
        } else {
            dial(self.first_hop).await?
        };
        Ok(connector.connect(ServerName::try_from(host.to_owned())?, stream).await?)
    }

    async fn connect(&self, authority: &str) -> Result<TcpStream, Failure> {
        let mut stream = dial(self.first_hop).await?;
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut buffer = Vec::new();
        let head =
            Head::read(&mut stream, &mut buffer, Head::parse_response).await?.ok_or("closed at CONNECT")?;
        match head.status {
            200 if buffer.is_empty() => Ok(stream),
            200 => Err("bytes after the answer to CONNECT".into()),
            status => Err(format!("CONNECT {authority} was answered {status}").into()),
        }
    }
}

async fn dial(address: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One HTTP/1.1 connection, driven by hand so that the harness costs little.
pub struct H1 {
    buffer: Vec<u8>,
    stream: TlsStream<TcpStream>,
}

impl H1 {
    /// Sends `request` and reads the whole answer, which must be a 200; returns its body's length.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<usize, Failure> {
        let head = self.begin(request).await?;
        head.body(&mut self.stream, &mut self.buffer).await
    }

    /// Sends `request`, reads an answer of any length and throws its bytes away as they come; returns how many.
    pub async fn download(&mut self, request: &[u8]) -> Result<u64, Failure> {
        let head = self.begin(request).await?;
        let mut got = self.buffer.len() as u64;
        self.buffer.clear();
        let mut piece = vec![0; READ_BYTES];
        while got < head.length as u64 {
            match self.stream.read(&mut piece).await? {
                0 => return Err(format!("cut off after {got} bytes").into()),
                read => got += read as u64,
            }
        }
        Ok(got)
    }

    /// Sends `request` for an event stream; calls `seen` with the send time of each event as it arrives.
    pub async fn events(
        &mut self,
        request: &[u8],
        events: u64,
        mut seen: impl FnMut(u64),
    ) -> Result<(), Failure> {
        self.begin(request).await?;
        let mut left = events;
        loop {
            let mut done = 0;
            while let Some(at) = memchr::memmem::find(&self.buffer[done..], origin::SENT_MARK) {
                let from = done + at + origin::SENT_MARK.len();
                let Some(digits) = self.buffer.get(from..from + origin::SENT_DIGITS) else { break };
                seen(std::str::from_utf8(digits)?.parse()?);
                done = from + origin::SENT_DIGITS;
                left -= 1;
            }
            if left == 0 {
                return Ok(());
            }
            self.buffer.drain(..done);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(format!("{left} events are missing").into());
            }
        }
    }

    async fn begin(&mut self, request: &[u8]) -> Result<Head, Failure> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let head = Head::read(&mut self.stream, &mut self.buffer, Head::parse_response).await?;
        match head.ok_or("closed before an answer")? {
            head if head.status == 200 => Ok(head),
            head => Err(format!("answered {}", head.status).into()),
        }
    }
}

/// What the harness needs of a message's head, whichever way it goes.
#[derive(Default)]
pub struct Head {
    /// The body's length; 0 if the head does not say.
    pub length: usize,
    /// The status; 0 in a request.
    pub status: u16,
    /// The request target; empty in a response.
    pub target: String,
}

/// Parses a head and says how many bytes it took; `None` while it is not whole.
type Parse = fn(&[u8]) -> Result<Option<(usize, Head)>, Failure>;

impl Head {
    /// Reads one head into `buffer` and takes it off; what follows stays there. `None` at a clean end.
    pub async fn read<S: AsyncRead + Unpin>(
        stream: &mut S,
        buffer: &mut Vec<u8>,
        parse: Parse,
    ) -> Result<Option<Self>, Failure> {
        loop {
            if let Some((used, head)) = parse(buffer)? {
                buffer.drain(..used);
                return Ok(Some(head));
            }
            if buffer.len() > HEAD_BYTES {
                return Err("the head is too long".into());
            }
            if stream.read_buf(buffer).await? == 0 {
                return if buffer.is_empty() { Ok(None) } else { Err("cut off in a head".into()) };
            }
        }
    }

    /// Reads the body of this head and throws it away; returns its length.
    pub async fn body<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        buffer: &mut Vec<u8>,
    ) -> Result<usize, Failure> {
        while buffer.len() < self.length {
            if stream.read_buf(buffer).await? == 0 {
                return Err("cut off in a body".into());
            }
        }
        buffer.drain(..self.length);
        Ok(self.length)
    }

    /// Parses a request's head.
    pub fn parse_request(bytes: &[u8]) -> Result<Option<(usize, Self)>, Failure> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let httparse::Status::Complete(used) = request.parse(bytes)? else { return Ok(None) };
        let target = request.path.unwrap_or_default().to_owned();
        Ok(Some((used, Self { length: length(request.headers)?, target, ..Self::default() })))
    }

    /// Parses a response's head.
    pub fn parse_response(bytes: &[u8]) -> Result<Option<(usize, Self)>, Failure> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(used) = response.parse(bytes)? else { return Ok(None) };
        let status = response.code.unwrap_or_default();
        Ok(Some((used, Self { length: length(response.headers)?, status, ..Self::default() })))
    }
}

fn length(fields: &[httparse::Header<'_>]) -> Result<usize, Failure> {
    let Some(field) = fields.iter().find(|field| field.name.eq_ignore_ascii_case("content-length")) else {
        return Ok(0);
    };
    Ok(std::str::from_utf8(field.value)?.trim().parse()?)
}

/// Fields in one head, at most.
const FIELDS: usize = 32;

/// Length of one head, at most.
const HEAD_BYTES: usize = 64 * 1024;

/// One read of a download.
const READ_BYTES: usize = 64 * 1024;
