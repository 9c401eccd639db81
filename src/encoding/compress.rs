use std::io::Write as _;

use flate2::{Compression, write};

use crate::encoding::Coding;

/// Brotli at 5 is about as fast as gzip at 6, and smaller; its default of 11 is fifty times slower.
const BROTLI_QUALITY: i32 = 5;

/// Brotli's usual window, 4 MiB.
const BROTLI_WINDOW_LOG: i32 = 22;

/// Zstandard's own default. Its window stays within what content codings allow.
const ZSTD_LEVEL: i32 = 3;

/// Applies one coding.
pub(super) fn compress(coding: Coding, body: &[u8]) -> Vec<u8> {
    const INFALLIBLE: &str = "a vector takes whatever is written to it";
    match coding {
        Coding::Brotli => {
            let mut out = Vec::new();
            let params = brotli::enc::BrotliEncoderParams {
                quality: BROTLI_QUALITY,
                lgwin: BROTLI_WINDOW_LOG,
                ..Default::default()
            };
            brotli::BrotliCompress(&mut &body[..], &mut out, &params).expect(INFALLIBLE);
            out
        }
        Coding::Deflate => {
            let mut encoder = write::ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(body).expect(INFALLIBLE);
            encoder.finish().expect(INFALLIBLE)
        }
        Coding::Gzip => {
            let mut encoder = write::GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(body).expect(INFALLIBLE);
            encoder.finish().expect(INFALLIBLE)
        }
        Coding::Zstd => zstd::encode_all(body, ZSTD_LEVEL).expect(INFALLIBLE),
    }
}

/// Deflate without the frame that the standard wants.
pub(super) fn deflate_raw(body: &[u8]) -> Vec<u8> {
    const INFALLIBLE: &str = "a vector takes whatever is written to it";
    let mut encoder = write::DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).expect(INFALLIBLE);
    encoder.finish().expect(INFALLIBLE)
}
