//! The first bytes inside a tunnel: what does the client speak?

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

/// What a client speaks inside a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// HTTP/1 in cleartext.
    Http1,
    /// HTTP/2 in cleartext, with prior knowledge.
    Http2,
    /// The client closed without a word.
    Nothing,
    /// A TLS ClientHello.
    Tls,
    /// Something else, or the client waits for the server to speak.
    Unknown,
}

/// Reads until the first bytes of `stream` say what is spoken; `None` when `patience` is over before they do. What was
/// read is in `buffer`.
pub(crate) async fn sniff<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    patience: Duration,
) -> Option<io::Result<Spoken>> {
    timeout(patience, listen(stream, buffer)).await.ok()
}

/// Reads until either side has spoken. It is [`Spoken::Unknown`] if that is the other side, which in TLS and in HTTP
/// waits for the client; what it said is in `said`.
pub(crate) async fn sniff_both<C: AsyncRead + Unpin, U: AsyncRead + Unpin>(
    client: &mut C,
    buffer: &mut BytesMut,
    upstream: &mut U,
    said: &mut BytesMut,
) -> io::Result<Spoken> {
    // Neither loses what it has read when the other one wins.
    tokio::select! {
        biased;
        spoken = listen(client, buffer) => spoken,
        count = upstream.read_buf(said) => Ok(match count? {
            0 => Spoken::Nothing,
            _ if is_goodbye(said) => Spoken::Nothing,
            _ => Spoken::Unknown,
        }),
    }
}

async fn listen<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut) -> io::Result<Spoken> {
    loop {
        if let Some(spoken) = recognise(buffer) {
            return Ok(spoken);
        }
        buffer.reserve(FIRST_READ_BYTES);
        if stream.read_buf(buffer).await? == 0 {
            return Ok(if buffer.is_empty() { Spoken::Nothing } else { Spoken::Unknown });
        }
    }
}

/// Whether this is how a server of TLS or HTTP ends a connection on which it was asked nothing: an alert, or a 408.
fn is_goodbye(said: &[u8]) -> bool {
    said.starts_with(&[21, 3]) || said.starts_with(b"HTTP/1.")
}

/// `None` as long as there are too few bytes to tell.
fn recognise(bytes: &[u8]) -> Option<Spoken> {
    match bytes {
        [] => None,
        // A handshake record (22) of some version 3.x.
        [22] | [22, 3] => None,
        [22, 3, ..] => Some(Spoken::Tls),
        _ if PREFACE.starts_with(&bytes[..bytes.len().min(PREFACE.len())]) => {
            (bytes.len() >= PREFACE.len()).then_some(Spoken::Http2)
        }
        _ => recognise_http1(bytes),
    }
}

/// A method of capital letters and a space, and then something that can start a target.
fn recognise_http1(bytes: &[u8]) -> Option<Spoken> {
    let letters = bytes.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
    if letters > LONGEST_METHOD_BYTES {
        return Some(Spoken::Unknown);
    }
    match &bytes[letters..] {
        [] | [b' '] if letters > 0 => None,
        [b' ', first, ..] if letters > 0 && (b'!'..=b'~').contains(first) => Some(Spoken::Http1),
        _ => Some(Spoken::Unknown),
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `VERSION-CONTROL` and `UPDATEREDIRECTREF` are the longest registered methods.
const LONGEST_METHOD_BYTES: usize = 20;
/// A ClientHello with a post-quantum key share is about 1,700 bytes.
const FIRST_READ_BYTES: usize = 2048;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn each_protocol_is_known_by_its_first_bytes() {
        assert_eq!(recognise(b"\x16\x03\x01\x02\x00"), Some(Spoken::Tls));
        assert_eq!(recognise(b"GET / HTTP/1.1\r\n"), Some(Spoken::Http1));
        assert_eq!(recognise(PREFACE), Some(Spoken::Http2));
        assert_eq!(recognise(b"PROPFIND /"), Some(Spoken::Http1));
        assert_eq!(recognise(b"SSH-2.0-OpenSSH_9.6\r\n"), Some(Spoken::Unknown));
        assert_eq!(recognise(b"\x00\x01\x02"), Some(Spoken::Unknown));
        assert_eq!(recognise(b"get /"), Some(Spoken::Unknown));
    }

    // PITFALLS 25
    #[tokio::test]
    async fn short_reads_are_put_together() {
        let (mut client, mut server) = tokio::io::duplex(64);
        let writing = tokio::spawn(async move {
            for byte in PREFACE {
                client.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            client
        });
        let mut buffer = BytesMut::new();

        let spoken = sniff(&mut server, &mut buffer, Duration::from_secs(10)).await.unwrap().unwrap();

        assert_eq!(spoken, Spoken::Http2);
        assert_eq!(&buffer[..], PREFACE);
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn silence_says_nothing() {
        let (_client, mut server) = tokio::io::duplex(64);

        assert!(sniff(&mut server, &mut BytesMut::new(), Duration::from_millis(1)).await.is_none());
    }

    // PITFALLS 25
    #[tokio::test]
    async fn whoever_speaks_first_says_what_it_is() {
        for (by_client, by_server, expected) in [
            (&b""[..], &b"220 mail.example ESMTP\r\n"[..], Spoken::Unknown),
            (b"\x16\x03\x01\x02\x00", b"", Spoken::Tls),
            (b"GET / HTTP/1.1\r\n", b"", Spoken::Http1),
            (b"", b"\x15\x03\x03\x00\x02\x01\x00", Spoken::Nothing),
            (b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n", Spoken::Nothing),
        ] {
            let (mut client, mut from_client) = tokio::io::duplex(64);
            let (mut server, mut from_server) = tokio::io::duplex(64);
            client.write_all(by_client).await.unwrap();
            server.write_all(by_server).await.unwrap();
            let (mut buffer, mut said) = (BytesMut::new(), BytesMut::new());

            let spoken =
                sniff_both(&mut from_client, &mut buffer, &mut from_server, &mut said).await.unwrap();

            assert_eq!(spoken, expected);
            assert_eq!((&buffer[..], &said[..]), (by_client, by_server));
        }
    }

    #[tokio::test]
    async fn a_side_that_goes_away_ends_the_silence() {
        let (_client, mut from_client) = tokio::io::duplex(64);
        let (server, mut from_server) = tokio::io::duplex(64);
        drop(server);
        let (mut buffer, mut said) = (BytesMut::new(), BytesMut::new());

        let spoken = sniff_both(&mut from_client, &mut buffer, &mut from_server, &mut said).await.unwrap();

        assert_eq!(spoken, Spoken::Nothing);
    }
}
