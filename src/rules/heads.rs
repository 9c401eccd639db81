//! Finds a few literals of up to three bytes: in every vector of text at once by the halves of their bytes, the way that
//! is known as Teddy.
//!
//! Each literal is in one of eight buckets. For the low and the high half of each of its bytes a table says in which
//! buckets that half stands; what is left of all six tables are the buckets of which a literal may begin at an offset.

use fearless_simd::{Level, dispatch, prelude::*, u8x32};

/// The longest literal.
pub(super) const LONGEST: usize = 3;

/// Literals at most: with more of them a bucket holds so many halves that it is left nearly everywhere.
pub(super) const MOST: usize = 64;

const BUCKETS: usize = 8;

/// Offsets that are looked at at once, in two vectors, and the bytes that takes.
const BLOCK: usize = 64;
const VECTOR: usize = 32;
const WINDOW: usize = BLOCK + LONGEST - 1;

/// For each value of half a byte a bit for each bucket, twice, because vectors look up in sixteen entries each.
type Table = [u8; VECTOR];

/// Literals, ready to be found.
#[derive(Debug)]
pub(super) struct Heads {
    /// For each byte of a literal what its low half and its high half stand in.
    tables: [(Table, Table); LONGEST],
    /// For each first byte of a literal where those that begin with it are.
    starts: Box<[u8; 257]>,
    literals: Vec<Head>,
}

/// A literal, and the number of each anchor that is it.
#[derive(Clone, Copy, Debug)]
struct Head {
    /// Its bytes as a number, and which of its bits count.
    bytes: u32,
    mask: u32,
    number: u32,
}

impl Heads {
    /// Takes up to [`MOST`] literals, each with its number.
    pub(super) fn new(mut literals: Vec<(Box<[u8]>, u32)>) -> Self {
        // Of one length: behind a short literal anything may stand, and would behind all others in its bucket. And
        // neighbours in order of their bytes, so that a bucket holds as few different halves as may be.
        literals.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
        let lengths = literals.chunk_by(|(a, _), (b, _)| a.len() == b.len()).count();
        let per_bucket = literals.len().div_ceil(BUCKETS.saturating_sub(lengths) + 1).max(1);
        let buckets = literals
            .chunk_by(|(a, _), (b, _)| a.len() == b.len())
            .flat_map(|same_length| same_length.chunks(per_bucket));
        let mut tables = [([0; VECTOR], [0; VECTOR]); LONGEST];
        for (bucket, (literal, _)) in buckets
            .enumerate()
            .flat_map(|(bucket, literals)| literals.iter().map(move |literal| (bucket, literal)))
        {
            let bucket = 1 << (bucket % BUCKETS);
            for (place, (low, high)) in tables.iter_mut().enumerate() {
                for half in 0..16 {
                    // Behind a literal anything may stand.
                    let byte = literal.get(place);
                    let is_low = byte.is_none_or(|byte| usize::from(byte & 15) == half);
                    let is_high = byte.is_none_or(|byte| usize::from(byte >> 4) == half);
                    for copy in [half, half + 16] {
                        low[copy] |= if is_low { bucket } else { 0 };
                        high[copy] |= if is_high { bucket } else { 0 };
                    }
                }
            }
        }
        literals.sort();
        let mut starts = Box::new([0; 257]);
        for (first, start) in starts.iter_mut().enumerate() {
            *start = literals.partition_point(|(literal, _)| usize::from(literal[0]) < first) as u8;
        }
        let literals = literals.iter().map(|(literal, number)| Head::new(literal, *number)).collect();
        Self { tables, starts, literals }
    }

    /// Calls `found` with the number and the offset of each literal, in order of the offsets.
    pub(super) fn find(&self, text: &[u8], found: &mut impl FnMut(u32, usize)) {
        let level = Level::new();
        let mut at = 0;
        while let Some((start, mut places)) = dispatch!(level, simd => self.next(simd, text, at)) {
            while places != 0 {
                self.verify(text, start + places.trailing_zeros() as usize, found);
                places &= places - 1;
            }
            at = start + BLOCK;
        }
    }

    /// The first block at `from` or whole blocks behind in which literals may begin, with a bit for each such offset.
    #[inline(always)]
    fn next<S: Simd>(&self, simd: S, text: &[u8], from: usize) -> Option<(usize, u64)> {
        let vector = |table: &Table| u8x32::load_array_ref(simd, table);
        let tables = self.tables.each_ref().map(|(low, high)| (vector(low), vector(high)));
        let mut start = from;
        while start < text.len() {
            let places = match text[start..].first_chunk::<WINDOW>() {
                Some(window) => buckets(simd, &tables, window),
                None => {
                    let mut window = [0; WINDOW];
                    window[..text.len() - start].copy_from_slice(&text[start..]);
                    buckets(simd, &tables, &window)
                }
            };
            if places != 0 {
                return Some((start, places));
            }
            start += BLOCK;
        }
        None
    }

    #[inline(always)]
    fn verify(&self, text: &[u8], at: usize, found: &mut impl FnMut(u32, usize)) {
        let Some(rest) = text.get(at..) else { return };
        let Some(first) = rest.first() else { return };
        let bytes = match rest.first_chunk() {
            Some(bytes) => u32::from_le_bytes(*bytes),
            // As if zeros stood behind the text: no literal holds one.
            None => rest.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)),
        };
        let range = self.starts[usize::from(*first)].into()..self.starts[usize::from(*first) + 1].into();
        for head in &self.literals[range] {
            if (bytes ^ head.bytes) & head.mask == 0 {
                found(head.number, at);
            }
        }
    }
}

impl Head {
    fn new(literal: &[u8], number: u32) -> Self {
        let bytes = |byte: fn(u8) -> u8| {
            literal.iter().rev().fold(0, |number, part| number << 8 | u32::from(byte(*part)))
        };
        Self { bytes: bytes(|byte| byte), mask: bytes(|_| u8::MAX), number }
    }
}

/// A bit for each offset at which one bucket is left of all tables.
#[inline(always)]
fn buckets<S: Simd>(simd: S, tables: &[(u8x32<S>, u8x32<S>); LONGEST], window: &[u8; WINDOW]) -> u64 {
    let low_half = u8x32::splat(simd, 15);
    let mut places = 0;
    for from in [0, VECTOR] {
        let mut left = u8x32::splat(simd, u8::MAX);
        for (place, (low, high)) in tables.iter().enumerate() {
            let bytes = u8x32::from_slice(simd, &window[from + place..from + place + VECTOR]);
            let (low_halves, high_halves) = (bytes & low_half, bytes >> 4);
            left = left
                & low.swizzle_dyn_within_blocks(low_halves)
                & high.swizzle_dyn_within_blocks(high_halves);
        }
        places |= left.simd_ne(u8x32::splat(simd, 0)).to_bitmask() << from;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(literals: &[&str], text: &[u8]) -> Vec<(usize, u32)> {
        let numbered = literals.iter().zip(0..).map(|(literal, number)| (literal.as_bytes().into(), number));
        let mut found = Vec::new();
        Heads::new(numbered.collect()).find(text, &mut |number, at| found.push((at, number)));
        found.sort_unstable();
        found
    }

    /// The slow way to the same answer.
    fn expected(literals: &[&str], text: &[u8]) -> Vec<(usize, u32)> {
        let at = |at: usize| {
            let here = literals
                .iter()
                .zip(0..)
                .filter(move |(literal, _)| text[at..].starts_with(literal.as_bytes()));
            here.map(move |(_, number)| (at, number))
        };
        (0..text.len()).flat_map(at).collect()
    }

    #[test]
    fn every_literal_is_found_wherever_it_stands() {
        let literals = ["-", "SK", "Q~", "sk-", "sk_", "hf_", "re_", "\u{e9}-", "a:", "a:b"];
        for literal in literals {
            for before in 0..BLOCK + 5 {
                for after in [0, 1, 2, 40, 130] {
                    let text = format!("{}{literal}{}", ".".repeat(before), "x".repeat(after)).into_bytes();
                    assert_eq!(
                        find(&literals, &text),
                        expected(&literals, &text),
                        "{literal} behind {before}"
                    );
                }
            }
        }
    }

    #[test]
    fn noise_gives_what_the_slow_way_gives() {
        let literals: Vec<String> = (0..MOST).map(|number| format!("{:03}", number * 37 % 1000)).collect();
        let literals: Vec<&str> =
            literals.iter().zip(0..).map(|(literal, index)| &literal[..1 + index % LONGEST]).collect();
        let mut state = 5_u32;
        let text: Vec<u8> = (0..5000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                b"0123456789ab"[(state >> 16) as usize % 12]
            })
            .collect();

        assert_eq!(find(&literals, &text), expected(&literals, &text));
        assert!(find(&[], &text).is_empty() && find(&literals, b"").is_empty());
    }
}
