//! Content codings: undoes what transport did to a body, and does it again. Knows nothing of what the bytes mean.

use bytes::Bytes;

use crate::model::{ByteSize, NotInspected};

mod compress;
mod decompress;
mod grpc;

pub use grpc::{GrpcFrame, grpc_frames};

/// One content coding. The absence of any (`identity`) is an empty list of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Brotli (RFC 7932).
    Brotli,
    /// Deflate, with the zlib frame (RFC 1950) that the standard wants or without, as some senders have it.
    Deflate,
    /// Gzip (RFC 1952), of one member or several.
    Gzip,
    /// Zstandard (RFC 8878), of one frame or several.
    Zstd,
}

impl Coding {
    /// The word for it in `Content-Encoding`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Deflate => "deflate",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// How far a body may grow when it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest decoded body, after any one coding of a list.
    pub decoded: ByteSize,
    /// Most decoded bytes for one byte of the body as sent. Counts only above [`Limits::RATIO_FREE`].
    pub ratio: u32,
}

impl Limits {
    /// What any body may grow to, whatever the ratio: small repetitive bodies compress by hundreds and harm nobody.
    pub const RATIO_FREE: ByteSize = ByteSize::mebibytes(1);

    /// Event batches seen in the wild stay under 1 MiB decoded; sixty-four leaves room for eight times the largest
    /// body that is captured, and still fits a small machine several times over.
    const DECODED: ByteSize = ByteSize::mebibytes(64);

    /// The recordings' telemetry compresses 2 to 17 times with gzip. A batch of nearly equal events may go ten times
    /// further; a bomb in deflate reaches 1,000 times, in the other codings far more.
    const RATIO: u32 = 250;

    /// The most that a body of `sent` bytes may become.
    fn of_body(&self, sent: usize) -> usize {
        let by_ratio = sent.saturating_mul(self.ratio as usize).max(Self::RATIO_FREE.as_usize());
        self.decoded.as_usize().min(by_ratio)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { decoded: Self::DECODED, ratio: Self::RATIO }
    }
}

/// Why a body could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The client's bytes are not what their coding says: cut off, damaged, or followed by others.
    #[error("the body is no complete and valid stream of its content coding")]
    Broken,
    /// More came out than the limits allow.
    #[error("the body grows beyond {limit} when it is decoded")]
    TooLarge {
        /// The limit for this body.
        limit: ByteSize,
    },
    /// A coding that is not known here, or too long a list of them.
    #[error("content coding `{0}` is not supported")]
    Unsupported(String),
}

impl DecodeError {
    /// The same for a record.
    pub fn reason(&self) -> NotInspected {
        match self {
            Self::Broken => NotInspected::CodingBroken,
            Self::TooLarge { .. } => NotInspected::DecodedTooLarge,
            Self::Unsupported(_) => NotInspected::CodingUnsupported,
        }
    }
}

/// Longest list of codings that is undone. Nobody sends two; each one more costs a whole pass at the limit.
const MOST_CODINGS: usize = 3;

/// Reads the values of `Content-Encoding`, in the order in which they were applied. `identity` adds nothing.
///
/// # Errors
/// [`DecodeError::Unsupported`] with the first unknown word, or with the word that makes the list too long.
pub fn codings<'v>(
    content_encoding_values: impl Iterator<Item = &'v str>,
) -> Result<Vec<Coding>, DecodeError> {
    let mut codings = Vec::new();
    for word in content_encoding_values.flat_map(|value| value.split(',')) {
        let word = word.trim_matches([' ', '\t']).to_ascii_lowercase();
        let coding = match word.as_str() {
            "" | "identity" => continue,
            "br" => Coding::Brotli,
            "deflate" => Coding::Deflate,
            "gzip" | "x-gzip" => Coding::Gzip,
            "zstd" => Coding::Zstd,
            _ => return Err(DecodeError::Unsupported(word)),
        };
        if codings.len() == MOST_CODINGS {
            return Err(DecodeError::Unsupported(word));
        }
        codings.push(coding);
    }
    Ok(codings)
}

/// Undoes `codings`, the last one first. Copies nothing when there are none; an empty body is empty in every coding.
///
/// # Errors
/// [`DecodeError::Broken`], and [`DecodeError::TooLarge`] as soon as more than the limit has come out.
pub fn decode(codings: &[Coding], body: &Bytes, limits: &Limits) -> Result<Bytes, DecodeError> {
    let limit = limits.of_body(body.len());
    let mut body = body.clone();
    for &coding in codings.iter().rev() {
        if body.is_empty() {
            break;
        }
        body = decompress::decompress(coding, &body, limit)?.into();
    }
    Ok(body)
}

/// Applies `codings` to `body` as whoever sent `sent` did: deflate without its frame stays without.
pub fn encode_like(codings: &[Coding], sent: &[u8], body: &[u8]) -> Vec<u8> {
    match codings {
        [inner @ .., Coding::Deflate] if !decompress::has_zlib_header(sent) => {
            compress::deflate_raw(&encode(inner, body))
        }
        _ => encode(codings, body),
    }
}

/// Applies `codings`, the first one first.
pub fn encode(codings: &[Coding], body: &[u8]) -> Vec<u8> {
    codings.iter().fold(body.to_vec(), |body, &coding| compress::compress(coding, &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Coding; 4] = [Coding::Brotli, Coding::Deflate, Coding::Gzip, Coding::Zstd];

    /// Text that compresses, but not absurdly.
    fn text() -> Vec<u8> {
        (0..2_000_u32).flat_map(|n| format!("{{\"event\":{n},\"x\":{}}}\n", n * n).into_bytes()).collect()
    }

    fn broken(coding: Coding, body: Vec<u8>) -> bool {
        decode(&[coding], &body.into(), &Limits::default()) == Err(DecodeError::Broken)
    }

    #[test]
    fn every_coding_is_undone() {
        for coding in ALL {
            let body = Bytes::from(encode(&[coding], &text()));

            let decoded = decode(&[coding], &body, &Limits::default()).unwrap();

            assert_ne!(body, decoded);
            assert_eq!(decoded, text(), "{}", coding.as_str());
        }
    }

    #[test]
    fn a_list_is_undone_from_its_end() {
        let list = codings(["gzip, BR".to_owned().as_str(), "x-gzip"].into_iter()).unwrap();
        assert_eq!(list, [Coding::Gzip, Coding::Brotli, Coding::Gzip]);
        let body = encode(&[Coding::Gzip], &encode(&[Coding::Brotli], &encode(&[Coding::Gzip], b"abc")));

        let decoded = decode(&list, &body.into(), &Limits::default()).unwrap();

        assert_eq!(decoded, b"abc"[..]);
    }

    #[test]
    fn identity_copies_nothing() {
        let body = Bytes::from(text());

        let decoded = decode(&codings(["identity", ""].into_iter()).unwrap(), &body, &Limits::default());

        assert_eq!(decoded.unwrap().as_ptr(), body.as_ptr());
    }

    #[test]
    fn an_unknown_coding_is_named() {
        for (value, word) in [("gzip, Compress", "compress"), ("aws-chunked", "aws-chunked")] {
            let error = codings([value].into_iter()).unwrap_err();

            assert_eq!(error, DecodeError::Unsupported(word.to_owned()));
            assert_eq!(error.reason(), NotInspected::CodingUnsupported);
        }
    }

    #[test]
    fn a_long_list_is_refused() {
        assert!(codings(["gzip, gzip, gzip, gzip"].into_iter()).is_err());
        assert!(codings(["gzip, identity, identity, gzip, gzip"].into_iter()).is_ok());
    }

    #[test]
    fn several_gzip_members_and_zstd_frames_are_one_body() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let body = [encode(&[coding], b"first "), encode(&[coding], b"second")].concat();

            let decoded = decode(&[coding], &body.into(), &Limits::default()).unwrap();

            assert_eq!(decoded, b"first second"[..]);
        }
    }

    #[test]
    fn deflate_comes_with_and_without_its_frame() {
        let framed = encode(&[Coding::Deflate], &text());
        let raw = framed[2..framed.len() - 4].to_vec();

        let decoded = decode(&[Coding::Deflate], &raw.into(), &Limits::default()).unwrap();

        assert_eq!(decoded, text());
    }

    #[test]
    fn a_body_is_encoded_as_another_one_was() {
        let framed = encode(&[Coding::Deflate], &text());
        let raw = framed[2..framed.len() - 4].to_vec();
        for (sent, has_frame) in [(framed, true), (raw, false)] {
            let again = encode_like(&[Coding::Deflate], &sent, b"other");

            assert_eq!(decompress::has_zlib_header(&again), has_frame);
            assert_eq!(decode(&[Coding::Deflate], &again.into(), &Limits::default()).unwrap(), b"other"[..]);
        }
    }

    #[test]
    fn a_stream_that_is_cut_off_is_broken() {
        for coding in ALL {
            let whole = encode(&[coding], &text());
            for end in [1, 3, whole.len() / 2, whole.len() - 5, whole.len() - 1] {
                assert!(broken(coding, whole[..end].to_vec()), "{} at {end}", coding.as_str());
            }
        }
    }

    #[test]
    fn what_follows_a_stream_makes_it_broken() {
        for coding in ALL {
            for tail in [&b"x"[..], b"\0", b"something longer than any header of a stream"] {
                let body = [&encode(&[coding], &text())[..], tail].concat();

                assert!(broken(coding, body), "{} with {tail:?}", coding.as_str());
            }
        }
    }

    #[test]
    fn plain_bytes_under_a_coding_are_broken() {
        for coding in ALL {
            assert!(broken(coding, br#"{"events":[]}"#.to_vec()), "{}", coding.as_str());
        }
    }

    #[test]
    fn an_empty_body_is_empty_in_every_coding() {
        for coding in ALL {
            assert_eq!(decode(&[coding], &Bytes::new(), &Limits::default()), Ok(Bytes::new()));
        }
    }

    // PITFALLS 2
    #[test]
    fn a_bomb_stops_at_the_limit() {
        let limits = Limits { decoded: ByteSize::mebibytes(2), ratio: u32::MAX };
        let zeros = vec![0; 8 * 1024 * 1024];
        for coding in ALL {
            let body = Bytes::from(encode(&[coding], &zeros));

            let error = decode(&[coding], &body, &limits).unwrap_err();

            assert_eq!(error, DecodeError::TooLarge { limit: ByteSize::mebibytes(2) });
            assert_eq!(error.reason(), NotInspected::DecodedTooLarge);
        }
    }

    // PITFALLS 2
    #[test]
    fn a_bomb_within_a_bomb_stops_at_the_limit_of_what_was_sent() {
        let zeros = vec![0; 64 * 1024 * 1024];
        let list = [Coding::Gzip, Coding::Gzip];
        let body = Bytes::from(encode(&list, &zeros));

        let error = decode(&list, &body, &Limits::default()).unwrap_err();

        assert_eq!(error, DecodeError::TooLarge { limit: Limits::RATIO_FREE });
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        let limits = Limits { decoded: ByteSize::kibibytes(64), ratio: 1 };
        for coding in ALL {
            let fits = Bytes::from(encode(&[coding], &vec![b'a'; 64 * 1024]));
            let over = Bytes::from(encode(&[coding], &vec![b'a'; 64 * 1024 + 1]));

            assert!(decode(&[coding], &fits, &limits).is_ok(), "{}", coding.as_str());
            assert!(decode(&[coding], &over, &limits).is_err(), "{}", coding.as_str());
        }
    }

    #[test]
    fn a_small_repetitive_body_may_exceed_the_ratio() {
        let zeros = vec![0; 1024 * 1024];
        let body = Bytes::from(encode(&[Coding::Brotli], &zeros));
        assert!(zeros.len() / body.len() > Limits::default().ratio as usize);

        let decoded = decode(&[Coding::Brotli], &body, &Limits::default());

        assert_eq!(decoded.unwrap().len(), zeros.len());
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>) {
            for coding in ALL {
                let _ = decode(&[coding], &bytes.clone().into(), &Limits::default());
            }
        }

        #[test]
        fn what_is_encoded_is_decoded(bytes: Vec<u8>) {
            for coding in ALL {
                let body = Bytes::from(encode(&[coding], &bytes));
                proptest::prop_assert_eq!(decode(&[coding], &body, &Limits::default()).unwrap(), &bytes);
            }
        }
    }
}
