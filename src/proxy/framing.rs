//! Stands in front of the HTTP/1 parser and refuses requests that two parsers could frame in two ways.
//!
//! hyper is lenient where RFC 9112 lets it be: with both `Transfer-Encoding` and `Content-Length` it drops the length and
//! goes on. What goes through here reaches hyper unchanged or not at all. Only heads are parsed; bodies are counted.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// Why the bytes of a request were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("a line of the request ends in a bare line feed or a bare carriage return")]
    BareNewline,
    #[error("the chunked body is malformed")]
    Chunk,
    #[error("CONNECT with a body")]
    ConnectBody,
    #[error("the request head is malformed: {0}")]
    Head(&'static str),
    #[error("the request head took too long")]
    HeadTimeout,
    #[error("the request head is too large")]
    HeadTooLarge,
    #[error("Content-Length is not one number")]
    Length,
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    #[error("a transfer coding other than one `chunked`")]
    TransferCoding,
}

/// Where the guard and whoever answers requests meet.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<GateState>);

#[derive(Debug, Default)]
struct GateState {
    reopened: bool,
    violation: Option<(Violation, bool)>,
    waker: Option<Waker>,
}

impl Gate {
    /// Says that a `CONNECT` or an upgrade was refused, so that the next bytes are a request again.
    pub(crate) fn reopen(&self) {
        let waker = {
            let mut state = self.state();
            state.reopened = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What was wrong with the bytes, once something was, and whether it was in a head: that no request came of.
    pub(crate) fn violation(&self) -> Option<(Violation, bool)> {
        self.state().violation
    }

    fn poll_reopened(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if std::mem::take(&mut state.reopened) {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn state(&self) -> std::sync::MutexGuard<'_, GateState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream whose reading side goes through the guard.
#[derive(Debug)]
pub(crate) struct Guarded<S> {
    inner: S,
    framing: Framing,
    /// Bytes behind a `CONNECT` or an upgrade, kept until it is decided.
    held: BytesMut,
    gate: Arc<Gate>,
    failed: Option<Violation>,
    head_time: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    /// Guards `inner`; a head may take `head_time` from its first byte to its last.
    pub(crate) fn new(inner: S, head_time: Duration) -> Self {
        Self {
            inner,
            framing: Framing::default(),
            held: BytesMut::new(),
            gate: Arc::default(),
            failed: None,
            head_time,
            deadline: None,
        }
    }

    /// The other end of the guard.
    pub(crate) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// The stream, and what was read of it beyond the last head.
    pub(crate) fn into_parts(self) -> (Bytes, S) {
        (self.held.freeze(), self.inner)
    }

    fn fail(&mut self, violation: Violation) -> Poll<io::Result<()>> {
        self.failed = Some(violation);
        self.gate.state().violation = Some((violation, self.framing.place == Place::Head));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation)))
    }

    /// Looks at what was read from `start` on; keeps back what nobody may see yet.
    fn pass(&mut self, buf: &mut ReadBuf<'_>, start: usize) -> Poll<io::Result<()>> {
        match self.framing.advance(&buf.filled()[start..]) {
            Ok(count) => {
                if start + count < buf.filled().len() {
                    self.held.extend_from_slice(&buf.filled()[start + count..]);
                    buf.set_filled(start + count);
                }
                Poll::Ready(Ok(()))
            }
            Err(violation) => {
                buf.set_filled(start);
                self.fail(violation)
            }
        }
    }

    /// Fails once a head that has begun is not complete in time.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.framing.is_within_head() {
            self.deadline = None;
            return Poll::Pending;
        }
        let at = Instant::now() + self.head_time;
        self.deadline.get_or_insert_with(|| Box::pin(sleep_until(at))).as_mut().poll(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if let Some(violation) = me.failed {
            return me.fail(violation);
        }
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if me.framing.is_undecided() {
            match me.gate.poll_reopened(cx) {
                Poll::Ready(()) => me.framing.resume(),
                Poll::Pending => return Poll::Pending,
            }
        }
        let start = buf.filled().len();
        if !me.held.is_empty() {
            let count = me.held.len().min(buf.remaining());
            buf.put_slice(&me.held.split_to(count));
            let rest = std::mem::take(&mut me.held);
            let passed = me.pass(buf, start);
            me.held.unsplit(rest);
            return passed;
        }
        match Pin::new(&mut me.inner).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let passed = me.pass(buf, start);
                if me.deadline.is_some() && !me.framing.is_within_head() {
                    me.deadline = None;
                }
                passed
            }
            Poll::Pending if me.poll_deadline(cx).is_ready() => me.fail(Violation::HeadTimeout),
            other => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Where in a stream of requests the reader is.
#[derive(Debug, Default)]
struct Framing {
    place: Place,
    /// The part of a head that came in earlier reads.
    partial: Vec<u8>,
    /// Bytes of the current line, its end not included.
    line: usize,
    /// Whether the last byte was a carriage return.
    after_return: bool,
    /// The request asks for another protocol.
    upgrades: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Head,
    Length(u64),
    ChunkSize {
        size: u64,
        digits: u8,
    },
    ChunkExtension {
        size: u64,
    },
    ChunkSizeEnd {
        size: u64,
    },
    ChunkData(u64),
    ChunkReturn,
    ChunkFeed,
    Trailers,
    /// Behind a `CONNECT` or an upgrade that nobody has answered.
    Undecided,
}

impl Framing {
    const fn is_undecided(&self) -> bool {
        matches!(self.place, Place::Undecided)
    }

    const fn is_within_head(&self) -> bool {
        matches!(self.place, Place::Head) && !self.partial.is_empty()
    }

    fn resume(&mut self) {
        self.place = Place::Head;
    }

    /// Takes note of `bytes`. Returns how many of them may be passed on: fewer than all where a decision is awaited.
    fn advance(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.place {
                Place::Undecided => return Ok(at),
                Place::Head => at += self.head(rest)?,
                Place::Length(left) => {
                    let count = left.min(rest.len() as u64);
                    at += count as usize;
                    self.place = Place::Length(left - count);
                    if left == count {
                        self.end_message();
                    }
                }
                Place::ChunkData(left) => {
                    let count = left.min(rest.len() as u64);
                    at += count as usize;
                    self.place =
                        if left == count { Place::ChunkReturn } else { Place::ChunkData(left - count) };
                }
                _ => {
                    self.chunk_byte(rest[0])?;
                    at += 1;
                }
            }
        }
        Ok(at)
    }

    /// Reads on in a head; returns how many bytes belong to it.
    fn head(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        if self.partial.is_empty() && bytes[0] == b'\r' || bytes[0] == b'\n' && self.partial.is_empty() {
            return Ok(1); // empty lines before a request line are allowed, and hyper skips them
        }
        let end = self.find_head_end(bytes)?;
        let taken = end.unwrap_or(bytes.len());
        if self.partial.len() + taken > LARGEST_HEAD_BYTES {
            return Err(Violation::HeadTooLarge);
        }
        let Some(end) = end else {
            self.partial.extend_from_slice(bytes);
            return Ok(bytes.len());
        };
        if self.partial.is_empty() {
            self.check_head(&bytes[..end])?;
        } else {
            let mut head = std::mem::take(&mut self.partial);
            head.extend_from_slice(&bytes[..end]);
            self.check_head(&head)?;
        }
        (self.line, self.after_return) = (0, false);
        Ok(end)
    }

    /// Finds the end of the empty line that ends a head; every line must end in CR LF.
    fn find_head_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        let mut start = 0;
        if self.after_return {
            if bytes[0] != b'\n' {
                return Err(Violation::BareNewline);
            }
            self.after_return = false;
            start = 1;
            if self.line == 0 {
                return Ok(Some(1));
            }
            self.line = 0;
        }
        for found in memchr::memchr2_iter(b'\r', b'\n', bytes) {
            if found < start {
                continue;
            }
            if bytes[found] == b'\n' {
                return Err(Violation::BareNewline);
            }
            let line = self.line + (found - start);
            match bytes.get(found + 1) {
                None => {
                    (self.line, self.after_return) = (line, true);
                    return Ok(None);
                }
                Some(b'\n') if line == 0 => return Ok(Some(found + 2)),
                Some(b'\n') => {
                    self.line = 0;
                    start = found + 2;
                }
                Some(_) => return Err(Violation::BareNewline),
            }
        }
        self.line += bytes.len() - start;
        Ok(None)
    }

    fn check_head(&mut self, head: &[u8]) -> Result<(), Violation> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(head) {
            Ok(httparse::Status::Complete(count)) if count == head.len() => {}
            Ok(_) => return Err(Violation::Head("it does not end where it should")),
            Err(error) => return Err(reason(error)),
        }
        let connects = request.method == Some("CONNECT");
        let is_http_10 = request.version == Some(0);
        let (mut length, mut chunked) = (None, false);
        self.upgrades = connects;
        for header in request.headers.iter() {
            let name = header.name;
            if name.eq_ignore_ascii_case("content-length") {
                if length.is_some() {
                    return Err(Violation::Length);
                }
                length = Some(number(header.value).ok_or(Violation::Length)?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                if chunked || is_http_10 || !header.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(Violation::TransferCoding);
                }
                chunked = true;
            } else if name.eq_ignore_ascii_case("upgrade") && !is_http_10 {
                self.upgrades = true;
            }
        }
        self.place = match (chunked, length) {
            (true, Some(_)) => return Err(Violation::LengthAndCoding),
            (true, None) | (false, Some(1..)) if connects => return Err(Violation::ConnectBody),
            (true, None) => Place::ChunkSize { size: 0, digits: 0 },
            (false, Some(length @ 1..)) => Place::Length(length),
            (false, Some(0) | None) => {
                self.end_message();
                return Ok(());
            }
        };
        Ok(())
    }

    /// One byte of what frames a chunk.
    fn chunk_byte(&mut self, byte: u8) -> Result<(), Violation> {
        self.place = match (self.place, byte) {
            (Place::ChunkSize { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 16 => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Place::ChunkSize { size: (size << 4) | u64::from(digit), digits: digits + 1 }
            }
            (Place::ChunkSize { size, digits: 1.. }, b';' | b' ' | b'\t') => Place::ChunkExtension { size },
            (Place::ChunkSize { size, digits: 1.. } | Place::ChunkExtension { size }, b'\r') => {
                Place::ChunkSizeEnd { size }
            }
            (Place::ChunkExtension { size }, b' '..=b'~' | b'\t' | 0x80..) => Place::ChunkExtension { size },
            (Place::ChunkSizeEnd { size: 0 }, b'\n') => Place::Trailers,
            (Place::ChunkSizeEnd { size }, b'\n') => Place::ChunkData(size),
            (Place::ChunkReturn, b'\r') => Place::ChunkFeed,
            (Place::ChunkFeed, b'\n') => Place::ChunkSize { size: 0, digits: 0 },
            (Place::Trailers, _) => return self.trailer_byte(byte),
            _ => return Err(Violation::Chunk),
        };
        Ok(())
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<(), Violation> {
        match (byte, self.after_return) {
            (b'\n', true) if self.line == 0 => {
                self.after_return = false;
                self.end_message();
            }
            (b'\n', true) => (self.line, self.after_return) = (0, false),
            (b'\r', false) => self.after_return = true,
            (b'\n', false) | (_, true) => return Err(Violation::BareNewline),
            (b' ' | b'\t', false) if self.line == 0 => return Err(Violation::Chunk), // obsolete folding
            (_, false) => self.line += 1,
        }
        Ok(())
    }

    fn end_message(&mut self) {
        self.place = if std::mem::take(&mut self.upgrades) { Place::Undecided } else { Place::Head };
    }
}

fn number(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    let fine = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    fine.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

const fn reason(error: httparse::Error) -> Violation {
    match error {
        httparse::Error::HeaderName => Violation::Head("a header name is invalid, or a line is folded"),
        httparse::Error::HeaderValue => Violation::Head("a header value is invalid"),
        httparse::Error::NewLine => Violation::BareNewline,
        httparse::Error::TooManyHeaders => Violation::HeadTooLarge,
        httparse::Error::Version => Violation::Head("the version is neither HTTP/1.0 nor HTTP/1.1"),
        httparse::Error::Status | httparse::Error::Token => Violation::Head("the request line is invalid"),
    }
}

/// Largest request head. Browsers and servers commonly stop at 8 to 64 KiB.
pub(crate) const LARGEST_HEAD_BYTES: usize = 64 * 1024;
/// Most header fields; hyper's own limit, which must not be the smaller one.
const MOST_HEADERS: usize = 100;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verdict(bytes: &[u8]) -> Result<usize, Violation> {
        Framing::default().advance(bytes)
    }

    // PITFALLS 20
    #[test]
    fn ambiguous_framing_is_refused() {
        let cases: &[(&str, Violation)] = &[
            ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", Violation::LengthAndCoding),
            ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", Violation::LengthAndCoding),
            ("Content-Length: 4\r\nContent-Length: 5\r\n", Violation::Length),
            ("Content-Length: 4\r\nContent-Length: 4\r\n", Violation::Length),
            ("Content-Length: 4, 4\r\n", Violation::Length),
            ("Content-Length: +4\r\n", Violation::Length),
            ("Content-Length: 18446744073709551616\r\n", Violation::Length),
            ("Transfer-Encoding: gzip, chunked\r\n", Violation::TransferCoding),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Violation::TransferCoding),
            ("Transfer-Encoding: xchunked\r\n", Violation::TransferCoding),
            ("X: a\nY: b\r\n", Violation::BareNewline),
            ("X: a\rY: b\r\n", Violation::BareNewline),
            ("X: a\r\n folded\r\n", Violation::Head("a header name is invalid, or a line is folded")),
            ("X : a\r\n", Violation::Head("a header name is invalid, or a line is folded")),
        ];
        for (fields, expected) in cases {
            let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");

            assert_eq!(verdict(request.as_bytes()), Err(*expected), "{fields:?}");
        }
    }

    // PITFALLS 20
    #[test]
    fn a_head_ended_by_bare_line_feeds_never_reaches_the_parser() {
        assert_eq!(verdict(b"GET / HTTP/1.1\r\nHost: a\n\n"), Err(Violation::BareNewline));
        assert_eq!(verdict(b"GET / HTTP/1.1\r\nHost: a\r\n\n"), Err(Violation::BareNewline));
    }

    // PITFALLS 20
    #[test]
    fn chunks_that_are_none_are_refused() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in
            ["4\nabcd\r\n", "x\r\n", "\r\n", "4\r\nabcdX", "11111111111111111\r\n", "0x4\r\nabcd", "-1\r\n"]
        {
            let request = format!("{head}{body}");

            assert!(verdict(request.as_bytes()).is_err(), "{body:?}");
        }
    }

    #[test]
    fn what_follows_a_connect_is_kept_back_until_it_is_decided() {
        let mut framing = Framing::default();
        let request = b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";
        let bytes = [&request[..], b"\x16\x03\x01"].concat();

        assert_eq!(framing.advance(&bytes), Ok(request.len()));
        assert!(framing.is_undecided());
        framing.resume();
        assert_eq!(framing.advance(b"GET / HTTP/1.1\r\n\r\n"), Ok(18));
    }

    fn valid_request() -> impl Strategy<Value = Vec<u8>> {
        let body = proptest::collection::vec(any::<u8>(), 0..300);
        (body, 0..4u8, proptest::collection::vec("[a-z]{1,8}", 0..5)).prop_map(|(body, kind, names)| {
            let mut bytes = b"POST /x HTTP/1.1\r\nHost: a\r\n".to_vec();
            for name in names {
                bytes.extend_from_slice(format!("x-{name}: {name} {name}\r\n").as_bytes());
            }
            match kind {
                0 => bytes.extend_from_slice(b"\r\n"),
                1 => {
                    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
                    bytes.extend_from_slice(&body);
                }
                _ => {
                    bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                    for chunk in body.chunks(37) {
                        bytes.extend_from_slice(format!("{:x};ext=1\r\n", chunk.len()).as_bytes());
                        bytes.extend_from_slice(chunk);
                        bytes.extend_from_slice(b"\r\n");
                    }
                    bytes.extend_from_slice(b"0\r\n");
                    if kind == 3 {
                        bytes.extend_from_slice(b"x-trailer: 1\r\n");
                    }
                    bytes.extend_from_slice(b"\r\n");
                }
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn pipelined_valid_requests_pass_however_they_are_cut(
            requests in proptest::collection::vec(valid_request(), 1..4),
            cuts in proptest::collection::vec(1..50usize, 1..20),
        ) {
            let bytes = requests.concat();
            let mut framing = Framing::default();

            let mut at = 0;
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(bytes.len());
                prop_assert_eq!(framing.advance(&bytes[at..end]), Ok(end - at));
                at = end;
                if at == bytes.len() {
                    break;
                }
            }

            prop_assert_eq!(framing.place, Place::Head);
            prop_assert!(framing.partial.is_empty());
        }

        #[test]
        fn any_bytes_however_they_are_cut_get_one_verdict(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b' '), any::<u8>()], 0..200),
            cut in 0..200usize,
        ) {
            let mut request = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            request.extend_from_slice(&bytes);
            let cut = cut.min(request.len());

            let whole = verdict(&request).map(|_| ());
            let mut framing = Framing::default();
            let parts = framing.advance(&request[..cut]).and_then(|_| framing.advance(&request[cut..])).map(|_| ());

            prop_assert_eq!(whole, parts);
        }
    }
}
