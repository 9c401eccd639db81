//! Bodies that were made to do harm: how long they take, and how much memory at most beyond the body itself.

use std::{
    io::{self, Read, Write},
    time::Instant,
};

use bytes::Bytes;
use plainsight::{
    encoding::{self, Coding, Limits, grpc_frames},
    model::Document,
    payload::{self, Budget, OtlpEncoding, PayloadFormat, Signal},
};

use crate::counting::taken;

/// What the bombs in content codings grow to: 1 GiB.
const ZEROS: u64 = 1 << 30;

/// Prints a row for each.
pub fn table() {
    println!("| bomb | body, bytes | time, ms | peak beyond the body, MiB | ended by |");
    println!("|---|---:|---:|---:|---|");
    for coding in [Coding::Brotli, Coding::Deflate, Coding::Gzip, Coding::Zstd] {
        let body = zeros(coding);
        row(&format!("1 GiB of zeros in {}", coding.as_str()), &body, |body| {
            match encoding::decode(&[coding], body, &Limits::default()) {
                Ok(_) => "nothing".to_owned(),
                Err(error) => error.reason().to_string(),
            }
        });
    }
    let json = |body: &Bytes| reason(payload::decode(&PayloadFormat::Json, body.clone(), &Budget::default()));
    let nested = b"[".repeat(100_000);
    row("100,000 lists one in another", &nested.into(), json);
    let string = [b"{\"a\":\"", &b"x".repeat(64 << 20)[..], b"\"}"].concat();
    row("a string of 64 MiB", &string.into(), json);
    let escaped = [b"{\"a\":\"", &b"\\u0041".repeat((64 << 20) / 6)[..], b"\"}"].concat();
    row("a string of 64 MiB, all escapes", &escaped.into(), json);
    let encoded = [b"{\"a\":\"", &b"ICAg".repeat(16 << 20)[..], b"\"}"].concat();
    row("64 MiB of base64", &encoded.into(), json);
    let fields: Vec<u8> = (0..1_000_000).flat_map(|n| format!("\"k{n}\":{n},").into_bytes()).collect();
    row("a million fields", &[b"{", &fields[..], b"\"z\":0}"].concat().into(), json);
    row("eight million numbers", &[b"[", &b"1,".repeat(8 << 20)[..], b"1]"].concat().into(), json);
    let protobuf = |body: &Bytes| {
        let format = PayloadFormat::Otlp(OtlpEncoding::Protobuf(Signal::Logs));
        reason(payload::decode(&format, body.clone(), &Budget::default()))
    };
    let past_the_end = b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f".repeat(100_000);
    row("protobuf lengths past the end, one in another", &past_the_end.into(), protobuf);
    row("eight million empty messages", &b"\x0a\0".repeat(8 << 20).into(), protobuf);
    row(
        "a gRPC message of 4 GiB",
        &Bytes::from_static(b"\0\xff\xff\xff\xffshort"),
        |body| match grpc_frames(body).next() {
            Some(Err(error)) => error.to_string(),
            _ => "nothing".to_owned(),
        },
    );
}

fn row(name: &str, body: &Bytes, work: impl FnOnce(&Bytes) -> String) {
    let start = Instant::now();
    let (ended, taken) = taken(|| work(body));
    let elapsed = start.elapsed().as_secs_f64() * 1e3;
    println!(
        "| {name} | {} | {elapsed:.1} | {:.1} | {ended} |",
        body.len(),
        taken.peak_bytes as f64 / 1048576.0
    );
}

fn reason(document: Result<Document, payload::PayloadError>) -> String {
    match document {
        Ok(document) => document
            .gaps()
            .first()
            .map_or("nothing: all of it is read".to_owned(), |(_, why)| why.to_string()),
        Err(error) => error.reason().to_string(),
    }
}

/// Zeros in a coding, made as a stream.
fn zeros(coding: Coding) -> Bytes {
    let mut zeros = io::repeat(0).take(ZEROS);
    let done = match coding {
        Coding::Brotli => {
            let mut writer = brotli::CompressorWriter::new(Vec::new(), 1 << 16, 1, 22);
            io::copy(&mut zeros, &mut writer).map(|_| writer.into_inner())
        }
        Coding::Deflate => {
            drain(zeros, flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast()), |w| {
                w.finish()
            })
        }
        Coding::Gzip => {
            drain(zeros, flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()), |w| {
                w.finish()
            })
        }
        Coding::Zstd => {
            zstd::Encoder::new(Vec::new(), 1).and_then(|writer| drain(zeros, writer, |w| w.finish()))
        }
    };
    done.expect("memory takes it").into()
}

fn drain<W: Write>(
    mut from: impl Read,
    mut to: W,
    finish: impl FnOnce(W) -> io::Result<Vec<u8>>,
) -> io::Result<Vec<u8>> {
    io::copy(&mut from, &mut to)?;
    finish(to)
}
