//! Says where in a text finders could find something, a block at a time, with a few operations per byte and no branches.
//!
//! Vector instructions say of each byte of a block which classes it is in, one bit per byte and class; what neighbours
//! must be is shifts of those bits. Which instructions there are is looked up when the program runs.

use fearless_simd::{Level, dispatch, prelude::*, u8x64};

/// Bytes of a block.
pub(super) const BLOCK: usize = WINDOW - 1 - FARTHEST;

/// The farthest neighbour behind a byte that is looked at.
const FARTHEST: usize = 12;

/// Bytes that are looked at for a block: one before it, and those behind it that its last byte's neighbours may be.
const WINDOW: usize = 64;

/// What could begin in a block, or for [`Outlines::dotted_quad`] and [`Outlines::hex_colon`] where its first mark may
/// stand: a bit for each byte, the lowest for the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outlines {
    pub(super) digit_run: u64,
    pub(super) dotted_quad: u64,
    pub(super) hex_colon: u64,
    pub(super) iban_head: u64,
    pub(super) phone_groups: u64,
}

impl Outlines {
    /// The first block in which something could begin, and where that block begins: at `from`, or whole blocks behind.
    pub(super) fn next(text: &[u8], from: usize) -> Option<(usize, Self)> {
        dispatch!(Level::new(), simd => seek(simd, text, from))
    }

    fn is_empty(self) -> bool {
        self.digit_run | self.dotted_quad | self.hex_colon | self.iban_head | self.phone_groups == 0
    }
}

#[inline(always)]
fn seek<S: Simd>(simd: S, text: &[u8], from: usize) -> Option<(usize, Outlines)> {
    let mut start = from;
    while start < text.len() {
        let before = start.checked_sub(1);
        let outlines = match before.and_then(|from| text.get(from..)).and_then(<[u8]>::first_chunk::<WINDOW>)
        {
            Some(window) => Classes::of(simd, window).outlines(),
            None => {
                // At the edges of the text: as if NULs stood beyond them.
                let mut window = [0; WINDOW];
                let part = &text[before.unwrap_or(0)..text.len().min(start + WINDOW - 1)];
                let shift = usize::from(before.is_none());
                window[shift..shift + part.len()].copy_from_slice(part);
                Classes::of(simd, &window).outlines()
            }
        };
        if !outlines.is_empty() {
            return Some((start, outlines));
        }
        start += BLOCK;
    }
    None
}

/// A bit for each byte of a window that is in a class.
#[derive(Clone, Copy)]
struct Classes {
    colon: u64,
    digit: u64,
    dot: u64,
    /// What stands between groups of digits, without dots.
    gap: u64,
    /// A digit that payment card numbers begin with. Neither `0` nor `1` (timestamps begin with that), `7` nor `9`.
    issuer: u64,
    /// Letters, digits and `_`.
    word: u64,
}

impl Classes {
    #[inline(always)]
    fn of<S: Simd>(simd: S, window: &[u8; WINDOW]) -> Self {
        let bytes = u8x64::load_array_ref(simd, window);
        let splat = |byte: u8| u8x64::splat(simd, byte);
        let is = |byte: u8| bytes.simd_eq(splat(byte));
        // One comparison says whether a byte is in a range: what lies below it wraps around.
        let digit = (bytes - splat(b'0')).simd_le(splat(9));
        let letter = ((bytes | splat(0x20)) - splat(b'a')).simd_le(splat(25));
        let issuer = (bytes - splat(b'2')).simd_le(splat(4)) | is(b'8');
        Self {
            colon: is(b':').to_bitmask(),
            digit: digit.to_bitmask(),
            dot: is(b'.').to_bitmask(),
            gap: (is(b' ') | is(b'-')).to_bitmask(),
            issuer: issuer.to_bitmask(),
            word: (digit | letter | is(b'_')).to_bitmask(),
        }
    }

    #[inline(always)]
    fn outlines(self) -> Outlines {
        let Self { colon, digit, dot, gap, issuer, word } = self;
        // And `_`, which the finder sorts out.
        let letter = word & !digit;
        // The window's first byte is the one before the block: its own bit is in the way, and shifted out at last.
        let two_digits = digit & (digit >> 1);
        let three_digits = two_digits & (digit >> 2);
        let starts = !(word << 1);
        let two_colons = (colon >> 1) | (colon >> 2);
        let hex = colon & (two_colons | (two_colons >> 2) | (colon >> 5));
        let quad = dot & (digit << 1) & (digit >> 1) & ((dot >> 2) | (dot >> 3) | (dot >> 4));
        // The shortest account number is longer than any part of a UUID.
        let iban = starts & letter & (letter >> 1) & (two_digits >> 2) & ((word | gap) >> 12);
        let phone = three_digits & ((dot | gap) >> 3) & (two_digits >> 4) & (two_digits >> 6);
        let four = issuer & (three_digits >> 1) & (three_digits >> 5);
        let cards = starts & four & ((digit | gap) >> 4);
        let block = |bits: u64| (bits >> 1) & ((1 << BLOCK) - 1);
        Outlines {
            digit_run: block(cards),
            dotted_quad: block(quad),
            hex_colon: block(hex),
            iban_head: block(iban),
            phone_groups: block(phone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where each outline is first seen in `text`: the same at every offset of a long dull text, and at its edges.
    fn seen(text: &str) -> [Option<usize>; 5] {
        let all = |text: &[u8]| {
            let mut seen = [None; 5];
            let mut from = 0;
            while let Some((start, outlines)) = Outlines::next(text, from) {
                let Outlines { digit_run, dotted_quad, hex_colon, iban_head, phone_groups } = outlines;
                let all = [digit_run, dotted_quad, hex_colon, iban_head, phone_groups];
                for (seen, places) in seen.iter_mut().zip(all).filter(|(_, places)| *places != 0) {
                    seen.get_or_insert(start + places.trailing_zeros() as usize);
                }
                from = start + BLOCK;
            }
            seen
        };
        let alone = all(text.as_bytes());
        for before in 1..BLOCK + 20 {
            let padded = format!("{}{text}{}", " ".repeat(before), "#".repeat(before % 7 * 40));
            let moved = all(padded.as_bytes()).map(|place| place.map(|place| place - before));
            assert_eq!(moved, alone, "{padded}");
        }
        alone
    }

    #[test]
    fn each_outline_is_seen_wherever_it_stands() {
        let digit_run = |text| seen(text)[0];
        let dotted_quad = |text| seen(text)[1];
        let hex_colon = |text| seen(text)[2];
        let iban_head = |text| seen(text)[3];
        let phone_groups = |text| seen(text)[4];

        assert_eq!([digit_run("4012888888881881"), digit_run("3782-822463-10005")], [Some(0); 2]);
        assert_eq!([dotted_quad("10.42.7.19"), dotted_quad("255.255.255.255")], [Some(2), Some(3)]);
        assert_eq!([hex_colon("2001:db8::1"), hex_colon("::1")], [Some(4), Some(0)]);
        assert_eq!(hex_colon("fe80:1234:1:2:3:4:5:6"), Some(4));
        assert_eq!([iban_head("DE89370400440532013000"), iban_head("de89 3704 0044 05")], [Some(0); 2]);
        assert_eq!([phone_groups("555-0132"), phone_groups("(415) 555 0132")], [Some(0), Some(6)]);
        assert_eq!(phone_groups("415.555.0132"), Some(4));
    }

    #[test]
    fn what_telemetry_is_full_of_is_none() {
        for text in [
            r#"{"key":"user.id","value":{"stringValue":"v24.3 of 0.5"}}"#,
            r#""timeUnixNano":"1795242141273000000""#,
            "dd1b5dc0-155f-4d2b-8d5e-fd9624a240ad",
            "d400a8c403245f854c33f251368a1ca19b72de8fe0f5112f08e7ada4bd522e20",
            "claude_code.tool_result and AB-12, XDE89",
        ] {
            assert_eq!(seen(text), [None; 5], "{text}");
        }
    }
}
