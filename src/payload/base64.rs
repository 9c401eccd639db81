use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::payload::{compressed, json::looks_like_json};

/// Shortest base64 that is opened when it holds JSON: `eyJhIjox` is `{"a":1`. Nothing but JSON begins like that.
const SHORTEST_JSON: usize = 8;

/// Least bytes of other text that are opened, sixteen characters of base64. Identifiers and words of that length give
/// bytes that are all printable about once in 100,000.
const SHORTEST_TEXT: usize = 11;

/// How much of a text must be letters, digits and spaces, in percent. Prose, paths, addresses and credentials have more
/// than 70.
const READABLE_PERCENT: usize = 60;

/// A string that is written like base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// `-_` rather than `+/`.
    is_url_safe: bool,
    /// Characters to decode: without padding, and without a last group that is cut off.
    length: usize,
}

impl Candidate {
    /// Looks at how `raw` is written: one of the two alphabets and no other character, padding only at its end.
    ///
    /// Hexadecimal strings and UUIDs are written like base64, too, but never meant so.
    pub(super) fn of(raw: &[u8]) -> Option<Self> {
        if raw.len() < SHORTEST_JSON {
            return None;
        }
        let mut length = raw.len();
        while length > 0 && raw[length - 1] == b'=' {
            length -= 1;
        }
        let padding = raw.len() - length;
        let mut seen = 0;
        // Without a way out for each character, which costs more than to look at a few too many.
        for some in raw[..length].chunks(CHARACTERS_AT_ONCE) {
            seen = some.iter().fold(seen, |seen, &byte| seen | CLASSES[byte as usize]);
            if seen & NONE != 0 {
                return None;
            }
        }
        let rest = length % 4;
        let is_padded_well = padding == 0 || (padding <= 2 && rest >= 2 && rest + padding <= 4);
        let is_mixed = seen & STANDARD != 0 && seen & (URL_SAFE | DASH) != 0;
        // All hexadecimal digits, perhaps with dashes.
        let is_hex = seen & !(HEX | DASH) == 0;
        if is_mixed || is_hex || !is_padded_well {
            return None;
        }
        if padding == 0 && (rest == 1 || has_trailing_bits(raw, rest)) {
            length -= rest;
        }
        Some(Self { is_url_safe: seen & (URL_SAFE | DASH) != 0, length })
    }

    /// How many characters of the string are decoded.
    pub(super) fn length(self) -> usize {
        self.length
    }

    /// Appends what `raw` stands for to `out`, if that is JSON, other text or compressed; else `false` and nothing appended.
    ///
    /// Compressed bytes count only if `may_be_packed`.
    pub(super) fn decode(self, raw: &[u8], out: &mut Vec<u8>, may_be_packed: bool) -> bool {
        /// Characters that are decoded first, to turn away most of what is no text. Whole groups.
        const PROBE: usize = 32;
        let engine = if self.is_url_safe { &URL_SAFE_ENGINE } else { &STANDARD_ENGINE };
        let raw = &raw[..self.length];
        let mut probe = [0; PROBE / 4 * 3 + 3];
        let Ok(count) = engine.decode_slice(&raw[..raw.len().min(PROBE)], &mut probe) else {
            return false;
        };
        let is_packed = may_be_packed && compressed::magic(&probe[..count]).is_some();
        if !is_packed && !opens_object(&probe[..count]) && text_part(&probe[..count]).is_none() {
            return false;
        }
        let start = out.len();
        let is_opened = engine.decode_vec(raw, out).is_ok()
            && (is_packed && compressed::detect(&out[start..]).is_some()
                || opens_object(&out[start..])
                || text_part(&out[start..]).is_some_and(|text| {
                    looks_like_json(text.as_bytes()) || text.len() >= SHORTEST_TEXT && is_readable(text)
                }));
        if !is_opened {
            out.truncate(start);
        }
        is_opened
    }
}

/// Whether base64 that begins with this character may pass [`may_hold_text`].
pub(super) const fn may_begin(first: u8) -> bool {
    let value = VALUES[first as usize];
    let mut low = 0;
    while value & NO_VALUE == 0 && low < 4 {
        if BEGINNINGS[(value << 2 | low) as usize] & !CONTINUATION != 0 {
            return true;
        }
        low += 1;
    }
    false
}

/// Whether the first characters of `raw` stand for something that [`Candidate::decode`] opens. Turns away nearly all
/// strings that only are written like base64, which most identifiers are, for the cost of a few table look-ups.
#[inline]
pub(super) fn may_hold_text(raw: &[u8]) -> bool {
    let Some(&[a, b, c, d, next @ ..]) = raw.first_chunk::<SHORTEST_JSON>() else {
        return false;
    };
    let [a, b, c, d] = [a, b, c, d].map(|byte| VALUES[byte as usize]);
    if (a | b | c | d) & NO_VALUE != 0 {
        return false;
    }
    let bytes = [a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d];
    let kinds = bytes.map(|byte| BEGINNINGS[byte as usize]);
    let is_ascii = kinds[0] & kinds[1] & kinds[2] & ASCII != 0;
    let is_other = match kinds[0] & !ASCII {
        // White space or a bracket may stand before an object, in which the walk takes any byte. Otherwise it is text.
        OPENING => kinds[1] & OPENING != 0 || bytes[1] == b'"',
        LEAD => kinds[1] == CONTINUATION,
        PACKED => matches!(bytes, [0x1f, 0x8b, 8] | [0x28, 0xb5, 0x2f] | [0x78, ..]),
        _ => false,
    };
    let is_mixed = kinds[0] & ASCII != 0 && (kinds[1] == LEAD && kinds[2] == CONTINUATION)
        || kinds[0] & kinds[1] & ASCII != 0 && kinds[2] == LEAD;
    if is_ascii && kinds[0] == ASCII {
        // What begins as text goes on as text. Padding may stand here, and ends it.
        let [e, f, g, h] = next.map(|byte| VALUES[byte as usize]);
        let bytes = [e << 2 | f >> 4, f << 4 | g >> 2, g << 6 | h];
        return (e | f | g | h) & NO_VALUE != 0 || bytes.iter().all(|&byte| BEGINNINGS[byte as usize] != 0);
    }
    is_ascii || is_other || is_mixed
}

/// Appends what `raw` stands for to `out`, whatever it is: for values of which it is known that they are base64, in
/// either alphabet.
pub(super) fn decode_known(raw: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    [STANDARD_ENGINE, URL_SAFE_ENGINE].iter().any(|engine| {
        let is_decoded = engine.decode_vec(raw, out).is_ok();
        if !is_decoded {
            out.truncate(start);
        }
        is_decoded
    })
}

/// How many characters are looked at before it is asked whether one was of no alphabet.
const CHARACTERS_AT_ONCE: usize = 32;

const NONE: u8 = 32;
const HEX: u8 = 1;
const LETTER: u8 = 2;
const STANDARD: u8 = 4;
const URL_SAFE: u8 = 8;
const DASH: u8 = 16;

/// What each byte is to base64.
const CLASSES: [u8; 256] = {
    let mut classes = [NONE; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' => HEX,
            b'g'..=b'z' | b'G'..=b'Z' => LETTER,
            b'+' | b'/' => STANDARD,
            b'_' => URL_SAFE,
            b'-' => DASH,
            _ => NONE,
        };
        byte += 1;
    }
    classes
};

const NO_VALUE: u8 = 0xc0;

/// The six bits that each character stands for, in either alphabet.
const VALUES: [u8; 256] = {
    let mut values = [NO_VALUE; 256];
    let mut byte = 0;
    while byte < 256 {
        values[byte] = match byte as u8 {
            upper @ b'A'..=b'Z' => upper - b'A',
            lower @ b'a'..=b'z' => lower - b'a' + 26,
            digit @ b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => NO_VALUE,
        };
        byte += 1;
    }
    values
};

const ASCII: u8 = 1;
const CONTINUATION: u8 = 2;
const LEAD: u8 = 4;
const OPENING: u8 = 8;
const PACKED: u8 = 16;

/// What each byte is in text that begins with it: printable or white space, a part of a character, or nothing.
const BEGINNINGS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = match byte as u8 {
            b'{' | b'[' | b' ' | b'\n' | b'\r' | b'\t' => ASCII | OPENING,
            // The page break is white space to those who look for an object, and no text.
            0x0c => OPENING,
            // How the magic numbers of gzip, zstd and zlib begin.
            0x1f => PACKED,
            b'(' | b'x' => ASCII | PACKED,
            b' '..=b'~' => ASCII,
            0x80..=0xbf => CONTINUATION,
            0xc2..=0xf4 => LEAD,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD_ENGINE: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE_ENGINE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Whether the last, incomplete group has bits that an encoder would have left zero: then it was cut off.
fn has_trailing_bits(raw: &[u8], rest: usize) -> bool {
    let Some(&last) = raw.last() else { return false };
    let value = match last {
        b'A'..=b'Z' => last - b'A',
        b'a'..=b'z' => last - b'a' + 26,
        b'0'..=b'9' => last - b'0' + 52,
        b'+' | b'-' => 62,
        _ => 63,
    };
    match rest {
        2 => value & 0x0f != 0,
        3 => value & 0x03 != 0,
        _ => false,
    }
}

/// `bytes` as text without control characters; a character may be cut off at the end.
fn text_part(bytes: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    // Byte by byte and to the end, which compiles to vector code.
    let is_control = |byte: u8| byte == 0x7f || byte < b' ' && !matches!(byte, b'\n' | b'\r' | b'\t');
    let has_control = text.bytes().fold(false, |found, byte| found | is_control(byte));
    (!text.is_empty() && !has_control).then_some(text)
}

/// Whether `bytes` begin as a JSON object with a member does, or a list of these. The walk takes control characters and
/// broken characters in strings (a writer of JSON leaves 0x7f as it is), so they are no reason to look away. Random
/// bytes begin like that once in 60,000, and the walk finds no member in these.
fn opens_object(bytes: &[u8]) -> bool {
    let bytes = bytes.trim_ascii_start();
    let object = bytes.strip_prefix(b"[").map_or(bytes, <[u8]>::trim_ascii_start);
    matches!(object.strip_prefix(b"{").map(<[u8]>::trim_ascii_start), Some([b'"', ..]))
}

/// Whether a person would take it for text.
fn is_readable(text: &str) -> bool {
    let (mut readable, mut all) = (0, 0);
    for char in text.chars() {
        all += 1;
        readable += usize::from(char.is_alphanumeric() || matches!(char, ' ' | '\n' | '\r' | '\t'));
    }
    readable * 100 >= all * READABLE_PERCENT
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    fn opened(raw: &str) -> Option<String> {
        let mut out = Vec::new();
        let is_opened = Candidate::of(raw.as_bytes())?.decode(raw.as_bytes(), &mut out, true);
        is_opened.then(|| String::from_utf8_lossy(&out).into_owned())
    }

    /// That what the whole check opens was not turned away by the first look; says whether it was opened.
    fn is_opened_and_let_through(raw: &[u8]) -> bool {
        let is_opened =
            Candidate::of(raw).is_some_and(|candidate| candidate.decode(raw, &mut Vec::new(), true));
        if is_opened {
            assert!(may_begin(raw[0]), "{}", raw.escape_ascii());
            assert!(may_hold_text(raw), "{}", raw.escape_ascii());
        }
        is_opened
    }

    #[test]
    fn the_first_look_turns_away_nothing_that_is_opened_whatever_it_begins_with() {
        // One byte at least of each kind, and each that stands at the edge of one.
        let bytes = b"\0\x08\t\n\x0b\x0c\r\x0e\x1b\x1f (\"+Aax[{}~\x7f\x80\x8b\xa0\xb5\xbf\xc0\xc2\xdf\xe0\xef\xf0\xf4\xf5\xff";
        let rests = [
            &b"{\"a\":1}"[..],
            b"\"a\":[1,2]}",
            b" and what is more",
            b"\xa9 and more of it",
            b"\xfd\x00\x00\x00",
        ];
        let mut opened = 0;
        for (a, b, c) in
            bytes.iter().flat_map(|a| bytes.iter().flat_map(move |b| bytes.iter().map(move |c| (a, b, c))))
        {
            for rest in rests {
                let raw = BASE64_STANDARD.encode([&[*a, *b, *c], rest].concat());

                opened += usize::from(is_opened_and_let_through(raw.as_bytes()));
            }
        }
        assert!(opened > 4_000, "{opened}");
    }

    proptest! {
        #[test]
        fn the_first_look_turns_away_nothing_that_is_opened(
            start in prop_oneof![
                "\\PC{0,6}".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..5),
                "[ \t\r\n\u{c}]{0,3}\\[?[ \t\r\n]{0,2}\\{[ \n]{0,2}\"".prop_map(String::into_bytes),
                Just(b"\x1f\x8b\x08".to_vec()),
                Just(b"\x28\xb5\x2f\xfd".to_vec()),
                Just(b"x\x9c".to_vec()),
            ],
            rest in prop_oneof![
                "\\PC{0,20}".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..20),
            ],
            cut in 0..6_usize,
        ) {
            let bytes = [start, rest].concat();
            for engine in [BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD] {
                let raw = engine.encode(&bytes);

                is_opened_and_let_through(&raw.as_bytes()[..raw.len().saturating_sub(cut)]);
            }
        }

        #[test]
        fn the_first_look_turns_away_no_words_that_are_opened(raw in "[A-Za-z0-9+/_=-]{8,40}") {
            is_opened_and_let_through(raw.as_bytes());
        }
    }

    // Found by tests/fuzz: one such character hid a whole document.
    #[test]
    fn json_is_opened_whatever_characters_its_strings_hold() {
        for text in [&b"{\"a\":\"\x7f\"}"[..], b"[{\"a\":\"\x01\"}]", b" { \"a\":\"\xff\xed\xa0\x80\"}"] {
            let raw = BASE64_STANDARD.encode(text);
            let mut out = Vec::new();

            assert!(Candidate::of(raw.as_bytes()).unwrap().decode(raw.as_bytes(), &mut out, true), "{raw}");
            assert_eq!(out, text);
        }
    }

    #[test]
    fn json_and_text_are_opened_in_both_alphabets_with_and_without_padding() {
        for text in ["{\"ab\":1}", "{\"k\":\"??>>\"}", "mail bob@example.com now", "Größe: größer als zuvor"]
        {
            for engine in [BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD] {
                assert_eq!(opened(&engine.encode(text)).as_deref(), Some(text));
            }
        }
    }

    // PITFALLS 5
    #[test]
    fn what_is_cut_off_is_opened_up_to_the_last_whole_group() {
        let text = r#"{"model":"claude","sessionId":"none"}"#;
        let whole = BASE64_STANDARD.encode(text);
        for end in 12..whole.len() {
            let part = opened(&whole[..end]).unwrap();

            assert!(text.starts_with(&part), "{part}");
            assert!(part.len() >= (end - 3) / 4 * 3, "{end}: {part}");
        }
    }

    #[test]
    fn identifiers_and_words_are_no_base64() {
        let words = [
            "6cc3786f2b0e4f0c9d1a6f5e4b3c2d1a6cc3786f2b0e4f0c9d1a6f5e4b3c2d1a",
            "0f8fad5b-d9cb-469f-a165-70867728950e",
            "deadbeefdeadbeefdeadbeef",
            // Would decode to `kM4kM5kM6kM7`.
            "a000a001a002a003",
            "1763700000000000000",
            "internationalization",
            "tengu_api_success_with_details",
            "claudeCodeVersionNumber",
            "TelemetryConfigurationProvider",
            "home/dmitri/work/app/src/main",
            "user-agent-of-the-client",
            "msg_01XFDUDYJgAACzvnptvVoYEL",
            "abcdefghijklmnopqrstuvwxyz",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "claude-sonnet-4-5-20250929",
        ];
        for word in words {
            assert_eq!(opened(word), None, "{word}");
        }
    }

    #[test]
    fn binary_content_is_left_alone() {
        let random: Vec<u8> = (0..96_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();

        assert_eq!(opened(&BASE64_STANDARD.encode(random)), None);
        assert_eq!(opened(&BASE64_STANDARD.encode([0; 60])), None);
    }

    #[test]
    fn text_that_is_too_short_is_left_alone() {
        assert_eq!(opened(&BASE64_STANDARD.encode("bob and eve")), Some("bob and eve".to_owned()));
        assert_eq!(opened(&BASE64_STANDARD.encode("bob, eve")), None);
    }

    #[test]
    fn misplaced_padding_and_mixed_alphabets_are_refused() {
        for raw in
            ["eyJhIjox=eyJhIjox", "eyJhIjoxfQ====", "eyJh+Ijox_fQ", "eyJh-Ijox/fQ", "=======", "eyJhIjox="]
        {
            assert_eq!(Candidate::of(raw.as_bytes()), None, "{raw}");
        }
    }
}
