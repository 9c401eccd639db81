//! Finds any number of literals by three bytes of each.
//!
//! Every second offset of the text is looked at, and three bytes there are looked up in a small table. Of each literal
//! the two neighbouring triples that text holds least are in it, so that one of them lies at an offset that is looked
//! at. What one literal more costs is two places; a pass costs the same for ten literals as for a thousand.

use std::sync::LazyLock;

use fearless_simd::{Level, dispatch, prelude::*, u8x32, u16x16};

/// Bytes of a gram.
const GRAM: usize = 3;

/// Offsets from one look to the next.
const STRIDE: usize = 2;

/// Literals that are shorter have no two triples.
pub(super) const SHORTEST: usize = GRAM + STRIDE - 1;

/// Places of the filter that can be set: 32 KiB stay in the innermost caches, and 1,000 literals leave 15 of 16 unset.
const FILTER_BITS: u32 = 15;

/// Numbers of 16 bits: no look needs a check of its bounds. The upper half is never touched.
const FILTER_PLACES: usize = 1 << u16::BITS;

/// Bytes of text per batch, grams at even offsets of it, and the bytes that the last one and the byte behind it reach
/// beyond.
const BATCH: usize = 256;
const LOOKS: usize = BATCH / STRIDE;
const WINDOW: usize = BATCH + STRIDE;

/// Bytes of text per vector, and looks at it.
const VECTOR: usize = 32;
const LANES: usize = VECTOR / STRIDE;

/// Literals and the number of each.
#[derive(Debug)]
pub(super) struct Grams {
    /// For each place the kinds of bytes ([`kind`]) that may stand behind a gram, one bit each: 0 where no gram is.
    filter: Box<[u8; FILTER_PLACES]>,
    /// Where each slot's entries begin; one more than there are slots.
    starts: Vec<u32>,
    /// Bits of a hash that are not its slot.
    shift: u32,
    entries: Vec<Entry>,
    literals: Vec<Box<[u8]>>,
}

/// A gram that a literal is known by.
#[derive(Clone, Copy, Debug)]
struct Entry {
    gram: u32,
    /// Where in the literal it stands.
    offset: u32,
    literal: u32,
    number: u32,
    /// The literal's first eight bytes as a number, and which of its bits count.
    head: u64,
    mask: u64,
    /// Whether the literal has no further bytes.
    is_all: bool,
}

impl Grams {
    /// Takes literals, each with its number, of at least [`SHORTEST`] bytes each.
    pub(super) fn new(anchors: Vec<(Box<[u8]>, u32)>) -> Self {
        /// How much rarer a gram is if the byte behind it counts too.
        const BEHIND: usize = 4;
        let common = &*COMMON;
        let mut filter = Box::new([0; FILTER_PLACES]);
        let mut entries: Vec<Entry> = Vec::with_capacity(anchors.len() * STRIDE);
        for (index, (anchor, number)) in anchors.iter().enumerate() {
            let (head, mask) = head(anchor);
            let gram_at = |offset: usize| gram(&anchor[offset..]);
            let cost = |offset: usize| {
                let cost = |offset: usize| {
                    let taken = entries.iter().filter(|entry| entry.gram == gram_at(offset)).count();
                    let known = anchor.get(offset + GRAM).is_some();
                    taken + common.of(gram_at(offset)) / if known { BEHIND } else { 1 }
                };
                cost(offset) + cost(offset + 1)
            };
            let offset = (0..=anchor.len() - SHORTEST).min_by_key(|offset| cost(*offset)).unwrap_or(0);
            for offset in offset..offset + STRIDE {
                let gram = gram_at(offset);
                filter[usize::from(place(gram))] |=
                    anchor.get(offset + GRAM).map_or(u8::MAX, |byte| kind(*byte));
                entries.push(Entry {
                    gram,
                    offset: offset as u32,
                    literal: index as u32,
                    number: *number,
                    head,
                    mask,
                    is_all: anchor.len() <= HEAD,
                });
            }
        }
        let slots = (entries.len() * 4).next_power_of_two().max(64);
        let shift = u32::BITS - slots.trailing_zeros();
        let slot = |gram: u32| (hash(gram) >> shift) as usize;
        entries.sort_by_key(|entry| slot(entry.gram));
        let starts = (0..=slots)
            .map(|wanted| entries.partition_point(|entry| slot(entry.gram) < wanted) as u32)
            .collect();
        let literals = anchors.into_iter().map(|(literal, _)| literal).collect();
        Self { filter, starts, shift, entries, literals }
    }

    pub(super) fn find(&self, text: &[u8], found: &mut impl FnMut(u32, usize)) {
        let level = Level::new();
        let (mut batch, mut kinds) = (Batch::default(), [0; LOOKS]);
        let mut at = 0;
        while let Some(window) = text.get(at..).and_then(<[u8]>::first_chunk::<WINDOW>) {
            dispatch!(level, simd => batch.read(simd, window));
            self.look(&batch.places, &mut kinds);
            let mut possible = dispatch!(level, simd => batch.possible(simd, &kinds));
            while possible != 0 {
                self.verify(text, at + possible.trailing_zeros() as usize * STRIDE, found);
                possible &= possible - 1;
            }
            at += BATCH;
        }
        while at + GRAM <= text.len() {
            self.verify(text, at, found);
            at += STRIDE;
        }
    }

    /// Looks places up. A function of its own: numbers go through memory, which costs less than taking them out of a
    /// vector one by one.
    #[inline(never)]
    fn look(&self, places: &[u16; LOOKS], kinds: &mut [u16; LOOKS]) {
        const AT_ONCE: usize = 8;
        for (kinds, places) in
            kinds.as_chunks_mut::<AT_ONCE>().0.iter_mut().zip(places.as_chunks::<AT_ONCE>().0)
        {
            *kinds = places.map(|place| u16::from(self.filter[usize::from(place)]));
        }
    }

    #[inline(never)]
    fn verify(&self, text: &[u8], at: usize, found: &mut impl FnMut(u32, usize)) {
        let gram = gram(&text[at..]);
        let slot = (hash(gram) >> self.shift) as usize;
        let range = self.starts[slot] as usize..self.starts[slot + 1] as usize;
        for entry in &self.entries[range] {
            if entry.gram != gram {
                continue;
            }
            let Some(start) = at.checked_sub(entry.offset as usize) else { continue };
            let rest = &text[start..];
            let begins = match rest.first_chunk() {
                Some(bytes) => (u64::from_le_bytes(*bytes) ^ entry.head) & entry.mask == 0,
                None => true,
            };
            if begins
                && (entry.is_all && rest.len() >= HEAD
                    || rest.starts_with(&self.literals[entry.literal as usize]))
            {
                found(entry.number, start);
            }
        }
    }
}

/// Bytes of a literal that are compared at once.
const HEAD: usize = 8;

/// The first bytes of a literal as a number, and which of its bits count.
fn head(literal: &[u8]) -> (u64, u64) {
    let head = |byte: fn(u8) -> u8| {
        let mut bytes = [0; HEAD];
        bytes.iter_mut().zip(literal).for_each(|(to, from)| *to = byte(*from));
        u64::from_le_bytes(bytes)
    };
    (head(|byte| byte), head(|_| u8::MAX))
}

fn gram(bytes: &[u8]) -> u32 {
    bytes.iter().take(GRAM).rev().fold(0, |gram, byte| gram << 8 | u32::from(*byte))
}

/// What the first two bytes of a gram and its third are multiplied with: odd, without a pattern in their bits.
const PAIR_FACTOR: u16 = 0x9e35;
const THIRD_FACTOR: u16 = 0x6a4d;

/// The place of a gram in the filter.
const fn place(gram: u32) -> u16 {
    let (pair, third) = (gram as u16, (gram >> u16::BITS) as u16);
    pair.wrapping_mul(PAIR_FACTOR).wrapping_add(third.wrapping_mul(THIRD_FACTOR)) >> (u16::BITS - FILTER_BITS)
}

/// The kind of a byte that stands behind a gram, as one of eight bits.
const fn kind(byte: u8) -> u8 {
    1 << ((byte ^ (byte >> 4)) & 7)
}

/// What is to be looked up of [`BATCH`] bytes of text.
struct Batch {
    /// For the gram at each even offset its [`place`].
    places: [u16; LOOKS],
    /// The [`kind`] of the byte behind each gram.
    behind: [u16; LOOKS],
}

impl Default for Batch {
    fn default() -> Self {
        Self { places: [0; LOOKS], behind: [0; LOOKS] }
    }
}

impl Batch {
    #[inline(always)]
    fn read<S: Simd>(&mut self, simd: S, window: &[u8; WINDOW]) {
        let splat = |number: u16| u16x16::splat(simd, number);
        let bits: u8x32<S> = u8x32::from_fn(simd, |index| 1 << (index % 8));
        let vectors = self.places.chunks_exact_mut(LANES).zip(self.behind.chunks_exact_mut(LANES));
        for (index, (places, behind)) in vectors.enumerate() {
            let start = index * VECTOR;
            let pairs: u16x16<S> = u8x32::from_slice(simd, &window[start..start + VECTOR]).bitcast();
            let next: u16x16<S> =
                u8x32::from_slice(simd, &window[start + STRIDE..start + STRIDE + VECTOR]).bitcast();
            let (third, fourth) = (next & splat(0xff), next >> 8);
            let sums = pairs * splat(PAIR_FACTOR) + third * splat(THIRD_FACTOR);
            (sums >> (u16::BITS - FILTER_BITS)).store_slice(places);
            let kinds = ((fourth ^ (fourth >> 4)) & splat(7)).to_bytes();
            let kinds: u16x16<S> = bits.swizzle_dyn_within_blocks(kinds).bitcast();
            (kinds & splat(0xff)).store_slice(behind);
        }
    }

    /// A bit for each look of which the filter holds the kind of the byte behind.
    #[inline(always)]
    fn possible<S: Simd>(&self, simd: S, kinds: &[u16; LOOKS]) -> u128 {
        let vectors = self.behind.chunks_exact(LANES).zip(kinds.chunks_exact(LANES));
        vectors.enumerate().fold(0, |possible, (index, (behind, kinds))| {
            let both = u16x16::from_slice(simd, behind) & u16x16::from_slice(simd, kinds);
            let here = both.simd_ne(u16x16::splat(simd, 0)).to_bitmask();
            possible | u128::from(here) << (index * LANES)
        })
    }
}

#[inline(always)]
const fn hash(gram: u32) -> u32 {
    // Fibonacci hashing: the high bits depend on every bit of the gram.
    gram.wrapping_mul(0x9e37_79b1)
}

/// How often telemetry holds a gram.
struct Common {
    /// By place in a filter, in samples of telemetry and names that it is made of.
    counts: Vec<u16>,
}

static COMMON: LazyLock<Common> = LazyLock::new(|| {
    let samples = [include_str!("../../rules/check-sample.json"), include_str!("../../rules/events.toml")];
    let mut counts = vec![0_u16; 1 << FILTER_BITS];
    for window in samples.iter().flat_map(|sample| sample.as_bytes().windows(GRAM)) {
        let count = &mut counts[usize::from(place(gram(window)))];
        *count = count.saturating_add(1);
    }
    Common { counts }
});

impl Common {
    fn of(&self, gram: u32) -> usize {
        /// What was seen says more than what bytes usually are in.
        const SEEN: usize = 20;
        usize::from(self.counts[usize::from(place(gram))]) * SEEN + usually(gram)
    }
}

/// How often text holds a gram, roughly: the sum over its bytes of what JSON with English words in it is made of.
fn usually(gram: u32) -> usize {
    gram.to_le_bytes()
        .into_iter()
        .take(GRAM)
        .map(|byte| match byte {
            b'"' | b':' | b',' | b'e' | b't' | b'a' | b'i' | b'n' | b'o' | b's' | b'r' => 9,
            b'j' | b'q' | b'x' | b'z' => 3,
            b'a'..=b'z' => 7,
            b' ' | b'{' | b'}' | b'0'..=b'9' => 6,
            b'_' | b'-' | b'.' | b'/' => 5,
            b'A'..=b'Z' => 2,
            _ => 1,
        })
        .sum()
}
