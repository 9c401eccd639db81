use proptest::prelude::*;

use super::*;

fn verdict(bytes: &[u8]) -> Result<usize, Violation> {
    Framing::default().advance(bytes).map_err(|refused| refused.violation)
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

/// The bodies that hyper makes of `bytes`.
fn hyper_reads(bytes: Vec<u8>) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async move {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counting = Arc::clone(&count);
        let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let counting = Arc::clone(&counting);
            async move {
                if http_body_util::BodyExt::collect(request.into_body()).await.is_ok() {
                    counting.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                }
                Ok::<_, std::convert::Infallible>(hyper::Response::new(http_body_util::Empty::<Bytes>::new()))
            }
        });
        tokio::io::AsyncWriteExt::write_all(&mut client, &bytes).await.unwrap();
        let (mut reading, mut writing) = tokio::io::split(client);
        tokio::io::AsyncWriteExt::shutdown(&mut writing).await.unwrap();
        let drained = tokio::spawn(async move {
            let _ = tokio::io::copy(&mut reading, &mut tokio::io::sink()).await;
        });
        let _ = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(hyper_util::rt::TokioIo::new(server), service)
            .await;
        drained.await.unwrap();
        count.load(std::sync::atomic::Ordering::SeqCst)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    // PITFALLS 20
    #[test]
    fn what_passes_is_framed_as_hyper_frames_it(
        requests in proptest::collection::vec(valid_request(), 1..3),
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<bool>(), "[\r\n \t:;,0-9a-fx]"), 0..3),
    ) {
        let mut bytes = requests.concat();
        let edited = !edits.is_empty();
        for (place, inserts, text) in edits {
            let at = place.index(bytes.len());
            bytes.splice(at..at + usize::from(!inserts), text.bytes());
        }
        let mut framing = Framing::default();

        if framing.advance(&bytes) == Ok(bytes.len()) {
            // hyper may refuse more, such as a malformed trailer field; it must never find a request that we did not.
            let read = hyper_reads(bytes.clone());
            prop_assert!(read <= framing.ended, "{read} > {} in {}", framing.ended, bytes.escape_ascii());
            prop_assert!(read == framing.ended || edited, "{}", bytes.escape_ascii());
        }
    }

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
        let parts = framing
            .advance(&request[..cut])
            .and_then(|_| framing.advance(&request[cut..]))
            .map(|_| ())
            .map_err(|refused| refused.violation);

        prop_assert_eq!(whole, parts);
    }
}
