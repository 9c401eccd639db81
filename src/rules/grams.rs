//! Finds any number of literals by three bytes of each.
//!
//! Every second offset of the text is looked at, and three bytes there are looked up in a small table. Of each literal
//! the two neighbouring triples that text holds least are in it, so that one of them lies at an offset that is looked
//! at. What one literal more costs is two places; a pass costs the same for ten literals as for a thousand.

/// Bytes of a gram.
const GRAM: usize = 3;

/// Offsets from one look to the next.
const STRIDE: usize = 2;

/// Literals that are shorter have no two triples.
pub(super) const SHORTEST: usize = GRAM + STRIDE - 1;

/// Bits of the filter's number of places: 32 KiB stay in the innermost caches, and 1,000 literals leave 15 of 16 unset.
const FILTER_BITS: u32 = 15;

/// Bytes of text per round: six grams at even offsets, and what the last one reaches beyond.
const WINDOW: usize = 14;
const ROUND: usize = 12;

/// Literals and the number of each.
#[derive(Debug)]
pub(super) struct Grams {
    filter: Box<[u8; 1 << FILTER_BITS]>,
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
    /// Takes literals, each with its number, of at least [`SHORTEST`] bytes each.
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
        let mut filter = Box::new([0; 1 << FILTER_BITS]);
        for entry in &entries {
            filter[place(entry.gram)] = 1;
        }
        Self { filter, starts, shift, entries, anchors }
    }

    pub(super) fn find(&self, text: &[u8], mut found: impl FnMut(u32, usize)) {
        let mut at = 0;
        while let Some(window) = text.get(at..).and_then(<[u8]>::first_chunk::<WINDOW>) {
            let low = load(window, 0);
            let high = load(window, WINDOW - 8);
            let possible = [
                self.possible(low),
                self.possible(low >> 16),
                self.possible(low >> 32),
                self.possible(high),
                self.possible(high >> 16),
                self.possible(high >> 32),
            ];
            if possible.iter().fold(0, |any, possible| any | possible) != 0 {
                for (index, possible) in possible.iter().enumerate() {
                    if *possible != 0 {
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

    /// Not 0 if some literal may be known by the first three of these bytes.
    #[inline(always)]
    fn possible(&self, bytes: u64) -> u8 {
        self.filter[place(bytes as u32)]
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
            let (anchor, number) = &self.anchors[entry.anchor as usize];
            if text[start..].starts_with(anchor) {
                found(*number, start);
            }
        }
    }
}

fn gram(bytes: &[u8]) -> u32 {
    bytes.iter().take(GRAM).rev().fold(0, |gram, byte| gram << 8 | u32::from(*byte))
}

#[inline(always)]
fn load(window: &[u8; WINDOW], from: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&window[from..from + 8]);
    u64::from_le_bytes(bytes)
}

/// The place of a gram in the filter, whatever its fourth byte is: that one is multiplied out of the number.
#[inline(always)]
const fn place(gram: u32) -> usize {
    (gram.wrapping_mul(0x3779_b100) >> (u32::BITS - FILTER_BITS)) as usize
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
