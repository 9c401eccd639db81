//! Says for a block of text which finders could begin something in it, with a few operations per byte and no branches.
//!
//! Written so that the compiler turns it into vector instructions: classes of bytes first, then their neighbourhoods.

/// Bytes of a block.
pub(super) const BLOCK: usize = 128;

/// Bytes that are looked at for a block: one before it and a few after, rounded up to whole vectors.
const WINDOW: usize = 144;

const DIGIT: u8 = 1;
/// A digit that payment card numbers begin with. Neither `0` nor `1` (timestamps begin with that), `7` nor `9`.
const ISSUER: u8 = 2;
const LETTER: u8 = 4;
/// Letters, digits and `_`.
const WORD: u8 = 8;
const COLON: u8 = 16;
const DOT: u8 = 32;
/// What stands between groups of digits.
const GAP: u8 = 64;

/// What could begin in a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outlines {
    pub(super) digit_run: bool,
    pub(super) dotted_quad: bool,
    pub(super) hex_colon: bool,
    pub(super) iban_head: bool,
    pub(super) phone_groups: bool,
}

impl Outlines {
    /// Looks at the [`BLOCK`] bytes of `text` that begin at `start`.
    pub(super) fn of(text: &[u8], start: usize) -> Self {
        let from = start.checked_sub(1);
        match from.and_then(|from| text.get(from..)).and_then(<[u8]>::first_chunk::<WINDOW>) {
            Some(window) => look(window),
            None => {
                // At the edges of the text: as if NULs stood beyond them.
                let mut window = [0; WINDOW];
                let before = usize::from(from.is_none());
                let part = &text[from.unwrap_or(0)..text.len().min(start + WINDOW - 1)];
                window[before..before + part.len()].copy_from_slice(part);
                look(&window)
            }
        }
    }
}

/// Whether [`look`] could see anything: a first look that is wrong now and then, and costs a third.
fn is_worth_a_look(window: &[u8; WINDOW]) -> bool {
    let set = |holds: bool| if holds { u8::MAX } else { 0 };
    let map = |holds: fn(u8) -> bool| window.map(|byte| set(holds(byte)));
    let digit = map(|byte| byte.wrapping_sub(b'0') < 10);
    let issuer = map(|byte| byte.wrapping_sub(b'2') < 5 || byte == b'8');
    let letter = map(|byte| (byte | 0x20).wrapping_sub(b'a') < 26);
    let colon = map(|byte| byte == b':');
    let dot = map(|byte| byte == b'.');
    let (d, l, c, p) = (digit.as_slice(), letter.as_slice(), colon.as_slice(), dot.as_slice());
    let (d0, d1, d2, d3, d4) = (part(d, 0), part(d, 1), part(d, 2), part(d, 3), part(d, 4));
    let (d5, d6, d7, d8) = (part(d, 5), part(d, 6), part(d, 7), part(d, 8));
    let n1 = part(&issuer, 1);
    let (l0, l1, l2) = (part(l, 0), part(l, 1), part(l, 2));
    let (c1, c2, c3, c4, c5, c6) = (part(c, 1), part(c, 2), part(c, 3), part(c, 4), part(c, 5), part(c, 6));
    let (p1, p3, p4, p5) = (part(p, 1), part(p, 3), part(p, 4), part(p, 5));
    let mut any = 0;
    for i in 0..BLOCK {
        any |= c1[i] & (c2[i] | c3[i] | c4[i] | c5[i] | c6[i]);
        any |= p1[i] & d0[i] & d2[i] & (p3[i] | p4[i] | p5[i]);
        any |= !(l0[i] | d0[i]) & l1[i] & l2[i] & d3[i] & d4[i];
        let three = d2[i] & d3[i] & d6[i] & d7[i] & d8[i];
        any |= three & ((d1[i] & !d4[i] & d5[i]) | (n1[i] & !d0[i] & d4[i]));
    }
    any != 0
}

/// The classes of a block's bytes, or of their neighbours.
#[inline(always)]
fn part(class: &[u8], offset: usize) -> &[u8; BLOCK] {
    // The farthest neighbour that is asked for is 12 bytes behind the block's last byte, and the window is wider.
    class[offset..].first_chunk().unwrap_or(&[0; BLOCK])
}

fn look(window: &[u8; WINDOW]) -> Outlines {
    if !is_worth_a_look(window) {
        return Outlines::default();
    }
    let class = classes(window);
    let at = |offset: usize| part(&class, offset);
    let (before, here) = (at(0), at(1));
    let (n1, n2, n3, n4, n5, n6, n7) = (at(2), at(3), at(4), at(5), at(6), at(7), at(8));
    // The shortest account number is longer than any part of a UUID.
    let n12 = at(13);
    let (mut digits, mut quad, mut hex, mut iban, mut phone) = (0_u8, 0_u8, 0_u8, 0_u8, 0_u8);
    for i in 0..BLOCK {
        hex |= here[i] & (n1[i] | n2[i] | n3[i] | n4[i] | n5[i]) & COLON;
        quad |= here[i] & (n2[i] | n3[i] | n4[i]) & ((before[i] & n1[i] & DIGIT) << 5);
        let starts = !before[i] & WORD;
        iban |= starts
            & ((here[i] & n1[i] & LETTER) << 1)
            & ((n2[i] & n3[i] & DIGIT) << 3)
            & (n12[i] | (n12[i] >> 3));
        let gap = (n3[i] >> 5) | (n3[i] >> 6);
        phone |= here[i] & n1[i] & n2[i] & gap & n4[i] & n5[i] & n6[i] & n7[i] & DIGIT;
        let four = (here[i] >> 1) & n1[i] & n2[i] & n3[i] & n5[i] & n6[i] & n7[i] & DIGIT;
        digits |= (starts >> 3) & four & (n4[i] | (n4[i] >> 6));
    }
    Outlines {
        digit_run: digits & DIGIT != 0,
        dotted_quad: quad & DOT != 0,
        hex_colon: hex & COLON != 0,
        iban_head: iban & WORD != 0,
        phone_groups: phone & DIGIT != 0,
    }
}

fn classes(window: &[u8; WINDOW]) -> [u8; WINDOW] {
    let mut classes = [0; WINDOW];
    for (class, byte) in classes.iter_mut().zip(window) {
        let byte = *byte;
        let set = |holds: bool, bit: u8| if holds { bit } else { 0 };
        let digit = byte.wrapping_sub(b'0') < 10;
        let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        let issuer = byte.wrapping_sub(b'2') < 5 || byte == b'8';
        *class = set(digit, DIGIT | WORD)
            | set(letter, LETTER | WORD)
            | set(byte == b'_', WORD)
            | set(issuer, ISSUER)
            | set(byte == b':', COLON)
            | set(byte == b'.', DOT)
            | set(byte == b' ', GAP)
            | set(byte == b'-', GAP);
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen of `text` at every offset of a long dull text, and at its edges; the same everywhere.
    fn seen(text: &str) -> Outlines {
        let all = |text: &[u8]| {
            let mut seen = Outlines::default();
            for start in (0..text.len()).step_by(BLOCK) {
                let here = Outlines::of(text, start);
                seen.digit_run |= here.digit_run;
                seen.dotted_quad |= here.dotted_quad;
                seen.hex_colon |= here.hex_colon;
                seen.iban_head |= here.iban_head;
                seen.phone_groups |= here.phone_groups;
            }
            seen
        };
        let alone = all(text.as_bytes());
        for before in 1..BLOCK + 20 {
            let padded = format!("{}{text}{}", " ".repeat(before), "#".repeat(before % 7 * 40));
            assert_eq!(all(padded.as_bytes()), alone, "{padded}");
        }
        alone
    }

    #[test]
    fn each_outline_is_seen_wherever_it_stands() {
        assert!(seen("4012888888881881").digit_run && seen("3782-822463-10005").digit_run);
        assert!(seen("10.42.7.19").dotted_quad && seen("255.255.255.255").dotted_quad);
        assert!(
            seen("2001:db8::1").hex_colon && seen("::1").hex_colon && seen("fe80:1234:1:2:3:4:5:6").hex_colon
        );
        assert!(seen("DE89370400440532013000").iban_head && seen("de89 3704 0044 05").iban_head);
        assert!(seen("555-0132").phone_groups && seen("(415) 555 0132").phone_groups);
        assert!(seen("415.555.0132").phone_groups);
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
            assert_eq!(seen(text), Outlines::default(), "{text}");
        }
    }
}
