//! Finds any number of literals by three bytes of each.
//!
//! Every second offset of the text is looked at, and three bytes there are looked up in a small bitmap. Of each literal
//! the two neighbouring triples that text holds least are in it, so that one of them lies at an offset that is looked
//! at. What one literal more costs is two bits; a pass costs the same for ten literals as for a thousand.

/// Bytes of a gram.
const GRAM: usize = 3;

/// Offsets from one look to the next.
const STRIDE: usize = 2;

/// Literals that are shorter have no two triples.
pub(super) const SHORTEST: usize = GRAM + STRIDE - 1;

/// Words of the bitmap: 8 KiB stay in the innermost cache, and 2,000 literals leave 15 of 16 bits unset.
const FILTER: usize = 1024;

/// Bytes of text per round: six grams at even offsets, and what the last one reaches beyond.
const WINDOW: usize = 14;
const ROUND: usize = 12;

/// Literals and the rule of each.
#[derive(Debug)]
pub(super) struct Grams {
    filter: Box<[u64; FILTER]>,
    /// Where each slot's entries begin; one more than there are slots.
    starts: Vec<u32>,
    /// Bits of a hash that are not its slot.
    shift: u32,
    entries: Vec<Entry>,
    anchors: Vec<(Box<[u8]>, u32)>,
}

/// A gram that a literal is known by.
#[derive(Clone, Copy, Debug)]
struct Entry {
    gram: u32,
    /// Where in the literal it stands.
    offset: u32,
    anchor: u32,
}

impl Grams {
    /// Takes (literal, rule) pairs of at least [`SHORTEST`] bytes each.
    pub(super) fn new(anchors: Vec<(Box<[u8]>, u32)>) -> Self {
        let mut entries: Vec<Entry> = Vec::with_capacity(anchors.len() * STRIDE);
        for (index, (anchor, _)) in anchors.iter().enumerate() {
            let gram_at = |offset: usize| gram(&anchor[offset..]);
            let cost = |offset: usize| {
                let both = [gram_at(offset), gram_at(offset + 1)];
                let taken = entries.iter().filter(|entry| both.contains(&entry.gram)).count();
                both.map(commonness).iter().sum::<usize>() + taken
            };
            let offset = (0..=anchor.len() - SHORTEST).min_by_key(|offset| cost(*offset)).unwrap_or(0);
            for offset in offset..offset + STRIDE {
                entries.push(Entry { gram: gram_at(offset), offset: offset as u32, anchor: index as u32 });
            }
        }
        let slots = (entries.len() * 4).next_power_of_two().max(64);
        let shift = u32::BITS - slots.trailing_zeros();
        let slot = |gram: u32| (hash(gram) >> shift) as usize;
        entries.sort_by_key(|entry| slot(entry.gram));
        let starts = (0..=slots)
            .map(|wanted| entries.partition_point(|entry| slot(entry.gram) < wanted) as u32)
            .collect();
        let mut filter = Box::new([0; FILTER]);
        for entry in &entries {
            let hash = hash(entry.gram);
            filter[(hash >> 22) as usize] |= 1 << ((hash >> 16) & 63);
        }
        Self { filter, starts, shift, entries, anchors }
    }

    pub(super) fn find(&self, text: &[u8], mut found: impl FnMut(usize, usize)) {
        let mut at = 0;
        while let Some(window) = text.get(at..).and_then(<[u8]>::first_chunk::<WINDOW>) {
            let low = load(window, 0);
            let high = load(window, WINDOW - 8);
            let bits = [
                self.bit(low),
                self.bit(low >> 16),
                self.bit(low >> 32),
                self.bit(high),
                self.bit(high >> 16),
                self.bit(high >> 32),
            ];
            if bits.iter().fold(0, |any, bit| any | bit) & 1 != 0 {
                for (index, bit) in bits.iter().enumerate() {
                    if bit & 1 != 0 {
                        self.verify(text, at + index * STRIDE, &mut found);
                    }
                }
            }
            at += ROUND;
        }
        while at + GRAM <= text.len() {
            self.verify(text, at, &mut found);
            at += STRIDE;
        }
    }

    /// In the lowest bit: whether some literal may be known by these three bytes.
    #[inline(always)]
    fn bit(&self, bytes: u64) -> u64 {
        let hash = hash(bytes as u32 & GRAM_BITS);
        self.filter[(hash >> 22) as usize] >> ((hash >> 16) & 63)
    }

    #[inline(never)]
    fn verify(&self, text: &[u8], at: usize, found: &mut impl FnMut(usize, usize)) {
        let gram = gram(&text[at..]);
        let slot = (hash(gram) >> self.shift) as usize;
        let range = self.starts[slot] as usize..self.starts[slot + 1] as usize;
        for entry in &self.entries[range] {
            if entry.gram != gram {
                continue;
            }
            let Some(start) = at.checked_sub(entry.offset as usize) else { continue };
            let (anchor, rule) = &self.anchors[entry.anchor as usize];
            if text[start..].starts_with(anchor) {
                found(*rule as usize, start);
            }
        }
    }
}

const GRAM_BITS: u32 = (1 << (8 * GRAM)) - 1;

fn gram(bytes: &[u8]) -> u32 {
    bytes.iter().take(GRAM).rev().fold(0, |gram, byte| gram << 8 | u32::from(*byte))
}

#[inline(always)]
fn load(window: &[u8; WINDOW], from: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&window[from..from + 8]);
    u64::from_le_bytes(bytes)
}

#[inline(always)]
const fn hash(gram: u32) -> u32 {
    // Fibonacci hashing: the high bits depend on every bit of the gram.
    gram.wrapping_mul(0x9e37_79b1)
}

/// How often text holds a gram, roughly: the sum over its bytes of what JSON with English words in it is made of.
fn commonness(gram: u32) -> usize {
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
