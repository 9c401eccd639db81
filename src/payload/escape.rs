use std::ops::Range;

use crate::model::Piece;

/// Plain copies in the making: where each of their bytes came from, as `SpanMap::Pieces` has it. One list for all
/// copies of a text, so that none of them allocates.
#[derive(Debug, Default)]
pub(super) struct Copy {
    /// Offset of the copy within its text.
    start: usize,
    /// Its first piece.
    first: usize,
    pieces: Vec<Piece>,
    /// How many pieces there is room for.
    most: usize,
}

impl Copy {
    /// The bytes of memory that one piece takes.
    pub(super) const PIECE_BYTES: usize = size_of::<Piece>();

    /// Begins a copy at the end of `out`, which will take no more than `room` bytes.
    pub(super) fn begin(&mut self, out: &[u8], room: usize) {
        self.start = out.len();
        self.first = self.pieces.len();
        self.most = self.first.saturating_add(room / Self::PIECE_BYTES);
    }

    /// Forgets the copy that was begun.
    pub(super) fn give_up(&mut self) {
        self.pieces.truncate(self.first);
    }

    /// The pieces of the copy that was begun last.
    pub(super) fn own(&self) -> Range<u32> {
        self.first as u32..self.pieces.len() as u32
    }

    /// The pieces of all copies.
    pub(super) fn into_pieces(self) -> Vec<Piece> {
        self.pieces
    }

    fn push(&mut self, piece: Piece) {
        const AT_ONCE: usize = 16;
        let count = self.pieces.len();
        if count == self.pieces.capacity() {
            // Twice as many as they are, but not beyond what they may take.
            self.pieces.reserve_exact(count.min(self.most.saturating_sub(count)).max(AT_ONCE));
        }
        self.pieces.push(piece);
    }

    /// Notes that the bytes which follow stand one for one in the parent text from `there` on.
    pub(super) fn run(&mut self, out: &mut Vec<u8>, bytes: &[u8], there: usize) {
        if !bytes.is_empty() {
            self.push((out.len() as u32, there as u32, false));
            out.extend_from_slice(bytes);
        }
    }

    /// Notes that `bytes` as a whole stand for what begins at `there`.
    pub(super) fn unit(&mut self, out: &mut Vec<u8>, bytes: &[u8], there: usize) {
        self.push((out.len() as u32, there as u32, true));
        out.extend_from_slice(bytes);
    }

    /// Notes where the copy ends.
    pub(super) fn end(&mut self, out: &[u8], there: usize) {
        self.push((out.len() as u32, there as u32, false));
    }

    /// Copies `bytes` as they are, if that takes no more than `room`; else only notes where the copy ends.
    pub(super) fn whole(&mut self, out: &mut Vec<u8>, bytes: &[u8], there: usize, room: usize) -> bool {
        let fits = self.size(out) + bytes.len() <= room;
        if fits {
            self.run(out, bytes, there);
        }
        self.end(out, there + if fits { bytes.len() } else { 0 });
        fits
    }

    /// What the copy takes so far, its map included.
    pub(super) fn size(&self, out: &[u8]) -> usize {
        out.len() - self.start + (self.pieces.len() - self.first) * Self::PIECE_BYTES
    }
}

/// Appends `raw`, the inside of a JSON string that stands at `offset` of its text, to `out` without its escapes.
///
/// A lone surrogate becomes U+FFFD. What is no escape, or one that is cut off, stays as it is. Gives up when the copy
/// would take more than `room` bytes with its map, and then says `false`.
pub(super) fn unescape(raw: &[u8], offset: usize, out: &mut Vec<u8>, copy: &mut Copy, room: usize) -> bool {
    let mut run = 0;
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &raw[at..]) {
        at += found;
        let Some((char, length)) = read_escape(&raw[at..]) else {
            at = raw.len().min(at + 2);
            continue;
        };
        if copy.size(out) + (at - run) > room {
            copy.end(out, offset + run);
            return false;
        }
        copy.run(out, &raw[run..at], offset + run);
        copy.unit(out, char.encode_utf8(&mut [0; 4]).as_bytes(), offset + at);
        at += length;
        run = at;
    }
    let fits = copy.size(out) + (raw.len() - run) <= room;
    if fits {
        copy.run(out, &raw[run..], offset + run);
        run = raw.len();
    }
    copy.end(out, offset + run);
    fits
}

/// The character that an escape stands for, and its length. `raw` starts with the backslash.
fn read_escape(raw: &[u8]) -> Option<(char, usize)> {
    let char = match raw.get(1)? {
        b'"' => '"',
        b'/' => '/',
        b'\\' => '\\',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return read_unicode_escape(raw),
        _ => return None,
    };
    Some((char, 2))
}

fn read_unicode_escape(raw: &[u8]) -> Option<(char, usize)> {
    const SINGLE: usize = 6;
    let first = hex_unit(raw)?;
    if let 0xd800..0xdc00 = first
        && let Some(second @ 0xdc00..0xe000) = raw.get(SINGLE..).and_then(hex_unit)
    {
        let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return Some((char::from_u32(code)?, 2 * SINGLE));
    }
    Some((char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), SINGLE))
}

/// The number in `\uXXXX`.
fn hex_unit(raw: &[u8]) -> Option<u32> {
    let (b"\\u", digits) = raw.get(..6)?.split_at_checked(2)? else {
        return None;
    };
    digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(raw: &str) -> String {
        let mut out = Vec::new();
        let mut copy = Copy::default();
        assert!(unescape(raw.as_bytes(), 0, &mut out, &mut copy, usize::MAX));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_become_their_characters() {
        assert_eq!(plain(r#"a\u0040b\/c\"\\\n\t\r\b\f\u00E9"#), "a@b/c\"\\\n\t\r\u{8}\u{c}é");
        assert_eq!(plain(r"\ud83d\ude00!"), "😀!");
    }

    // PITFALLS 5
    #[test]
    fn lone_surrogates_become_replacement_characters() {
        assert_eq!(plain(r"\ud83d"), "\u{fffd}");
        assert_eq!(plain(r"\ude00x\ud83dy"), "\u{fffd}x\u{fffd}y");
        assert_eq!(plain(r"\ud83d\ud83d\ude00"), "\u{fffd}😀");
    }

    // PITFALLS 5
    #[test]
    fn what_is_no_escape_or_is_cut_off_stays() {
        for raw in [r"\q", r"a\", r"\u12", r"\uzzzz", r"\", r"\u"] {
            assert_eq!(plain(raw), raw);
        }
        assert_eq!(plain(r"\q\n"), "\\q\n");
        assert_eq!(plain(r"\ud83d\u"), "\u{fffd}\\u");
    }

    #[test]
    fn a_copy_without_room_stops() {
        let mut out = Vec::new();
        let mut copy = Copy::default();

        let fits = unescape(r"\n".repeat(1_000).as_bytes(), 0, &mut out, &mut copy, 100);

        assert!(!fits);
        assert!(copy.size(&out) < 150);
    }
}
