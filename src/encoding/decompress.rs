use std::io::Read;

use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, enc::StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status, bufread::MultiGzDecoder};

use crate::{
    encoding::{Coding, DecodeError},
    model::ByteSize,
};

/// How much is decoded at a time: the most by which memory exceeds the limit.
const CHUNK_BYTES: usize = 32 * 1024;

/// Largest Zstandard window, 8 MiB: what RFC 9659 allows in a content coding. The library's own limit is 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Undoes one coding. The stream must fill `body` exactly.
pub(super) fn decompress(coding: Coding, body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let mut sink = Sink { out: Vec::new(), limit };
    match coding {
        Coding::Brotli => brotli(body, &mut sink)?,
        Coding::Deflate if has_zlib_header(body) => {
            // Two bytes of a raw stream can look like the frame's header, once in a thousand.
            match inflate(Decompress::new(true), body, &mut sink) {
                Err(DecodeError::Broken) => {
                    sink.out.clear();
                    inflate(Decompress::new(false), body, &mut sink)?;
                }
                done => done?,
            }
        }
        Coding::Deflate => inflate(Decompress::new(false), body, &mut sink)?,
        Coding::Gzip => drain(MultiGzDecoder::new(body), &mut sink)?,
        Coding::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(body).map_err(|_| DecodeError::Broken)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|_| DecodeError::Broken)?;
            drain(decoder, &mut sink)?;
        }
    }
    Ok(sink.out)
}

/// Takes decoded bytes up to a limit.
struct Sink {
    out: Vec<u8>,
    limit: usize,
}

impl Sink {
    fn push(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let room = self.limit - self.out.len();
        if bytes.len() > room {
            return Err(DecodeError::TooLarge { limit: ByteSize::bytes(self.limit as u64) });
        }
        if self.out.capacity() - self.out.len() < bytes.len() {
            // Doubles, as a vector would, but never beyond the limit.
            self.out.reserve_exact(self.out.len().max(CHUNK_BYTES).min(room));
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

fn drain(mut reader: impl Read, sink: &mut Sink) -> Result<(), DecodeError> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match reader.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => sink.push(&chunk[..count])?,
            Err(_) => return Err(DecodeError::Broken),
        }
    }
}

pub(super) fn has_zlib_header(body: &[u8]) -> bool {
    match *body {
        [method, flags, ..] => {
            method & 0x0f == 8 && method >> 4 <= 7 && (u16::from(method) << 8 | u16::from(flags)) % 31 == 0
        }
        _ => false,
    }
}

/// Driven by hand, because flate2's readers take the end of their input for the end of the stream.
fn inflate(mut state: Decompress, body: &[u8], sink: &mut Sink) -> Result<(), DecodeError> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let (read, written) = (state.total_in(), state.total_out());
        let status = state
            .decompress(&body[read as usize..], &mut chunk, FlushDecompress::None)
            .map_err(|_| DecodeError::Broken)?;
        let count = (state.total_out() - written) as usize;
        sink.push(&chunk[..count])?;
        match status {
            Status::StreamEnd if state.total_in() == body.len() as u64 => return Ok(()),
            Status::StreamEnd => return Err(DecodeError::Broken),
            Status::Ok | Status::BufError if count == 0 && state.total_in() == read => {
                return Err(DecodeError::Broken);
            }
            Status::Ok | Status::BufError => {}
        }
    }
}

/// Driven by hand, to see what stands behind the stream.
fn brotli(body: &[u8], sink: &mut Sink) -> Result<(), DecodeError> {
    let mut state =
        BrotliState::new(StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default());
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut unread, mut read, mut total) = (body.len(), 0, 0);
    loop {
        let (mut room, mut written) = (chunk.len(), 0);
        let result = BrotliDecompressStream(
            &mut unread,
            &mut read,
            body,
            &mut room,
            &mut written,
            &mut chunk,
            &mut total,
            &mut state,
        );
        sink.push(&chunk[..written])?;
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultSuccess if read == body.len() => return Ok(()),
            BrotliResult::NeedsMoreInput | BrotliResult::ResultFailure | BrotliResult::ResultSuccess => {
                return Err(DecodeError::Broken);
            }
        }
    }
}
