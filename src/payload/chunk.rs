//! Many bytes at once: where the first of a kind stands in them.

/// How many bytes are looked at together for the end of a key or a value: most are shorter.
const CHUNK: usize = 16;

/// How many bytes are looked at together for the end of a number.
pub(super) const DIGITS: usize = 8;

/// Where the first of two bytes stands in what begins at `at`, if it stands in that chunk or the next ones that are
/// looked at; else from where on to look for it.
#[inline(always)]
pub(super) fn find_near<const A: u8, const B: u8, const CHUNKS: usize>(
    bytes: &[u8],
    mut at: usize,
) -> Result<usize, usize> {
    for _ in 0..CHUNKS {
        let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
            break;
        };
        if let Some(place) = first_of::<A, B>(chunk) {
            return Ok(at + place);
        }
        at += CHUNK;
    }
    Err(at)
}

/// Where the first of two bytes stands.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn first_of<const A: u8, const B: u8>(chunk: &[u8; CHUNK]) -> Option<usize> {
    // One step of vector instructions that every processor of this architecture has; no call, and no loop.
    memchr::arch::x86_64::sse2::memchr::Two::new(A, B)?.find(chunk)
}

/// Where the first of two bytes stands.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn first_of<const A: u8, const B: u8>(chunk: &[u8; CHUNK]) -> Option<usize> {
    const fn all(byte: u8) -> u128 {
        u128::from_ne_bytes([byte; CHUNK])
    }
    let word = u128::from_le_bytes(*chunk);
    // A byte that became zero borrows, which sets its high bit. So does one that had it, and is no ASCII. A borrow
    // may go on into the next byte, but the lowest bit that is set is exact.
    let borrows = (word ^ all(A)).wrapping_sub(all(1)) | (word ^ all(B)).wrapping_sub(all(1));
    let hits = borrows & !word & all(0x80);
    (hits != 0).then(|| hits.trailing_zeros() as usize / 8)
}

/// How many digits stand at the start; `None` when there is nothing else.
#[inline(always)]
pub(super) fn leading_digits(chunk: &[u8; DIGITS]) -> Option<usize> {
    const fn all(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; DIGITS])
    }
    const HIGHS: u64 = all(0x80);
    let word = u64::from_le_bytes(*chunk);
    // Without the high bit, so that nothing is carried over: above `9`, below `0`, or no ASCII.
    let low = word & !HIGHS;
    let others = ((low + all(0x7f - b'9')) | !(low + all(0x80 - b'0')) | word) & HIGHS;
    (others != 0).then(|| others.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte at every place, before and behind bytes of the other kind.
    fn check<const N: usize>(
        find: impl Fn(&[u8; N]) -> Option<usize>,
        is_hit: impl Fn(u8) -> bool,
        others: &[u8],
    ) {
        for &other in others {
            assert_eq!(find(&[other; N]), None, "{other}");
            for (place, byte) in (0..N).flat_map(|place| (0..=255).map(move |byte| (place, byte))) {
                for behind in [other, b'"', b'\\', 0, 0xff, b'/', b':', b']', b'#', byte] {
                    let mut chunk = [other; N];
                    chunk[place] = byte;
                    chunk[place + 1..].fill(behind);

                    let expected = chunk.iter().position(|&byte| is_hit(byte));
                    assert_eq!(find(&chunk), expected, "{chunk:?}");
                }
            }
        }
    }

    #[test]
    fn the_first_quote_or_backslash_is_found_whatever_stands_around_it() {
        let others = [b'a', 0, 0x7f, 0x80, 0xff, b'!', b'#', b'[', b']', 0xa2, 0xdc];
        check(first_of::<b'"', b'\\'>, |byte| matches!(byte, b'"' | b'\\'), &others);
    }

    #[test]
    fn the_first_byte_that_is_no_digit_is_found_whatever_stands_around_it() {
        check(leading_digits, |byte| !byte.is_ascii_digit(), b"0159");
    }
}
