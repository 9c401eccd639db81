/// A copy in the making: plain bytes, and where each of them came from, as `SpanMap::Pieces` has it.
#[derive(Debug, Default)]
pub(super) struct Copy {
    /// Offset of the copy within its text.
    pub(super) start: usize,
    /// Offsets here and there, and whether a unit begins.
    pub(super) pieces: Vec<(u32, u32, bool)>,
}

impl Copy {
    /// The bytes of memory that one piece takes.
    pub(super) const PIECE_BYTES: usize = size_of::<(u32, u32, bool)>();

    /// Begins a copy at the end of `out`.
    pub(super) fn at_end_of(out: &[u8]) -> Self {
        Self { start: out.len(), pieces: Vec::new() }
    }

    /// Notes that the bytes which follow stand one for one in the parent text from `there` on.
    pub(super) fn run(&mut self, out: &mut Vec<u8>, bytes: &[u8], there: usize) {
        if !bytes.is_empty() {
            self.pieces.push((out.len() as u32, there as u32, false));
            out.extend_from_slice(bytes);
        }
    }

    /// Notes that `bytes` as a whole stand for what begins at `there`.
    pub(super) fn unit(&mut self, out: &mut Vec<u8>, bytes: &[u8], there: usize) {
        self.pieces.push((out.len() as u32, there as u32, true));
        out.extend_from_slice(bytes);
    }

    /// Notes where the copy ends.
    pub(super) fn end(&mut self, out: &[u8], there: usize) {
        self.pieces.push((out.len() as u32, there as u32, false));
    }

    /// What the copy takes so far, its map included.
    pub(super) fn size(&self, out: &[u8]) -> usize {
        out.len() - self.start + self.pieces.len() * Self::PIECE_BYTES
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
        let mut copy = Copy::at_end_of(&out);
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
        let mut copy = Copy::at_end_of(&out);

        let fits = unescape(r"\n".repeat(1_000).as_bytes(), 0, &mut out, &mut copy, 100);

        assert!(!fits);
        assert!(copy.size(&out) < 150);
    }
}
