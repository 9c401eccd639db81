use std::io::Read;

use flate2::{Decompress, FlushDecompress, Status, bufread::MultiGzDecoder};

/// How much is unpacked at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// Largest Zstandard window, 8 MiB: as for content codings.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Bytes that are unpacked to see whether that works at all.
const TRIAL_BYTES: usize = 64;

/// A way to compress that its own first bytes announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zlib,
    Zstd,
}

/// How unpacking came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The bytes are damaged or cut off; what came out before that is good.
    Broken,
    /// There was no room for more.
    Full,
    /// At the end of the stream.
    Whole,
}

impl Packing {
    pub(super) const ALL: [Self; 3] = [Self::Gzip, Self::Zlib, Self::Zstd];

    /// Its segment in a path.
    pub(super) const fn segment(self) -> &'static str {
        match self {
            Self::Gzip => "!gzip",
            Self::Zlib => "!zlib",
            Self::Zstd => "!zstd",
        }
    }

    /// Appends what `raw` holds to `out`, at most `room` bytes.
    pub(super) fn unpack(self, raw: &[u8], out: &mut Vec<u8>, room: usize) -> Ended {
        match self {
            Self::Gzip => drain(MultiGzDecoder::new(raw), out, room),
            Self::Zlib => inflate(raw, out, room),
            Self::Zstd => {
                let Ok(mut decoder) = zstd::Decoder::with_buffer(raw) else {
                    return Ended::Broken;
                };
                match decoder.window_log_max(ZSTD_WINDOW_LOG) {
                    Ok(()) => drain(decoder, out, room),
                    Err(_) => Ended::Broken,
                }
            }
        }
    }
}

/// How `raw` is compressed, if it is.
pub(super) fn detect(raw: &[u8]) -> Option<Packing> {
    let packing = magic(raw)?;
    if packing != Packing::Zlib {
        return Some(packing);
    }
    // Two bytes that add up are no proof: what is in it must be text, as all of it that we know is.
    let mut out = Vec::new();
    packing.unpack(raw, &mut out, TRIAL_BYTES);
    (!out.is_empty() && is_text(&out)).then_some(packing)
}

/// Whether there is a magic number that begins with this byte.
pub(super) const fn may_begin(byte: u8) -> bool {
    matches!(byte, 0x1f | 0x28 | 0x78)
}

/// What the first bytes say.
#[inline]
pub(super) fn magic(raw: &[u8]) -> Option<Packing> {
    match *raw {
        [0x1f, 0x8b, 8, ..] => Some(Packing::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Packing::Zstd),
        [0x78, flags, ..] if (0x7800 | u16::from(flags)) % 31 == 0 => Some(Packing::Zlib),
        _ => None,
    }
}

/// Whether `bytes` are UTF-8 without control characters; a character may be cut off at the end.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let end = match std::str::from_utf8(bytes) {
        Ok(text) => text.len(),
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => return false,
    };
    let is_control = |byte: u8| byte == 0x7f || byte < b' ' && !matches!(byte, b'\n' | b'\r' | b'\t' | 0x1b);
    !bytes[..end].iter().fold(false, |found, &byte| found | is_control(byte))
}

/// Whether bytes of no known type are text: UTF-8 without control characters.
pub(super) fn is_whole_text(bytes: &[u8]) -> bool {
    let is_control = |byte: u8| byte == 0x7f || byte < b' ' && !matches!(byte, b'\n' | b'\r' | b'\t');
    !bytes.is_empty()
        && !bytes.iter().fold(false, |found, byte| found | is_control(*byte))
        && std::str::from_utf8(bytes).is_ok()
}

/// Whether `bytes` are UTF-8; a character may be cut off at the end.
pub(super) fn is_utf8(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true)
}

fn drain(mut reader: impl Read, out: &mut Vec<u8>, room: usize) -> Ended {
    let mut chunk = vec![0; CHUNK_BYTES.min(room + 1)];
    let mut room = room;
    loop {
        match reader.read(&mut chunk) {
            Ok(0) => return Ended::Whole,
            Ok(count) => {
                out.extend_from_slice(&chunk[..count.min(room)]);
                if count > room {
                    return Ended::Full;
                }
                room -= count;
            }
            Err(_) => return Ended::Broken,
        }
    }
}

/// Driven by hand, because flate2's readers take the end of their input for the end of the stream.
fn inflate(raw: &[u8], out: &mut Vec<u8>, room: usize) -> Ended {
    let mut state = Decompress::new(true);
    let mut chunk = vec![0; CHUNK_BYTES.min(room + 1)];
    let mut room = room;
    loop {
        let (read, written) = (state.total_in(), state.total_out());
        let status = state.decompress(&raw[read as usize..], &mut chunk, FlushDecompress::None);
        let count = (state.total_out() - written) as usize;
        out.extend_from_slice(&chunk[..count.min(room)]);
        if count > room {
            return Ended::Full;
        }
        room -= count;
        match status {
            Ok(Status::StreamEnd) => return Ended::Whole,
            Ok(_) if count > 0 || state.total_in() > read => {}
            Ok(_) | Err(_) => return Ended::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn pack(packing: Packing, bytes: &[u8]) -> Vec<u8> {
        match packing {
            Packing::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Packing::Zlib => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Packing::Zstd => zstd::encode_all(bytes, 3).unwrap(),
        }
    }

    #[test]
    fn each_packing_is_known_by_its_bytes_and_undone() {
        let text = "{\"a\":1}".repeat(10_000);
        for packing in Packing::ALL {
            let packed = pack(packing, text.as_bytes());
            let mut out = b"before".to_vec();

            let ended = packing.unpack(&packed, &mut out, usize::MAX - 1);

            assert_eq!(detect(&packed), Some(packing));
            assert_eq!((ended, &out[6..]), (Ended::Whole, text.as_bytes()));
        }
    }

    #[test]
    fn what_is_cut_off_gives_what_came_before_and_says_so() {
        let text: Vec<u8> = (0..9_000_u32).flat_map(|n| format!("{}\n", n * n).into_bytes()).collect();
        for packing in Packing::ALL {
            let packed = pack(packing, &text);
            let mut out = Vec::new();

            let ended = packing.unpack(&packed[..packed.len() - 20], &mut out, usize::MAX - 1);

            assert_eq!(ended, Ended::Broken, "{packing:?}");
            assert!(text.starts_with(&out));
        }
    }

    // PITFALLS 2
    #[test]
    fn a_bomb_stops_where_the_room_ends() {
        for packing in Packing::ALL {
            let packed = pack(packing, &vec![b' '; 4 << 20]);
            let mut out = Vec::new();

            let ended = packing.unpack(&packed, &mut out, 1_000);

            assert_eq!((ended, out.len()), (Ended::Full, 1_000));
        }
    }

    #[test]
    fn the_two_bytes_of_zlib_are_no_proof() {
        for raw in [&b"x\x9chello world, this is text"[..], b"x^y", b"x\x01", b"x"] {
            assert_eq!(detect(raw), None, "{raw:?}");
        }
    }
}
