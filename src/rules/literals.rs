//! Finds every anchor in one buffer. How many rules there are hardly matters: see [`Grams`].

use aho_corasick::{AhoCorasick, MatchKind, Span, packed};

use crate::rules::grams::Grams;
pub(super) use crate::rules::grams::SHORTEST;

/// All anchors of a rule set.
#[derive(Debug)]
pub(super) struct Literals {
    /// One pass each over the text.
    pub(super) passes: Vec<Pass>,
}

/// What finds some of the anchors.
#[derive(Debug)]
pub(super) enum Pass {
    Grams(Grams),
    Short(Short),
}

/// Anchors too short for [`Grams`].
#[derive(Debug)]
pub(super) struct Short {
    heads: Vec<Head>,
    /// A bit for each pair of bytes that a head begins with.
    pairs: Box<[u64; PAIRS]>,
    searcher: Searcher,
}

/// Words of a bitmap of pairs of bytes.
const PAIRS: usize = (1 << 16) / 64;

/// Bytes behind a match that are looked at one by one: where there is one there are more, and a search that begins
/// anew for each of them costs more than this.
const NEAR: usize = 16;

/// The four bytes that `text` begins with, as if zeros stood behind its end. No anchor holds a zero.
fn four(text: &[u8]) -> u32 {
    match text.first_chunk::<4>() {
        Some(bytes) => u32::from_le_bytes(*bytes),
        None => text.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)),
    }
}

fn key(head: &[u8]) -> (u32, u32) {
    let mask = head.iter().take(4).fold(0, |mask, _| mask << 8 | 0xff);
    (four(head) & mask, mask)
}

/// The number of the pair that `text` begins with, as if zeros stood behind its end.
fn pair(text: &[u8]) -> usize {
    let byte = |at: usize| usize::from(text.get(at).copied().unwrap_or_default());
    byte(0) << 8 | byte(1)
}

/// A literal and the anchors that begin with it.
#[derive(Debug)]
struct Head {
    text: Box<[u8]>,
    /// The head as a number, and which of its bits count: compared with [`four`].
    key: (u32, u32),
    /// Anchors that begin with this head, and the number of each.
    anchors: Vec<(Box<[u8]>, u32)>,
}

#[derive(Debug)]
enum Searcher {
    /// Where the machine has no vector instructions that the packed one knows.
    Automaton(AhoCorasick),
    Packed(packed::Searcher),
}

/// Heads per searcher: beyond this the packed searcher's buckets overflow and it reports too many false candidates.
const GROUP: usize = 32;

impl Literals {
    /// Takes anchors, each with its number.
    pub(super) fn new(anchors: &[(Box<[u8]>, u32)]) -> Result<Self, String> {
        let (short, long): (Vec<_>, Vec<_>) =
            anchors.iter().cloned().partition(|(anchor, _)| anchor.len() < SHORTEST);
        let mut passes = Vec::new();
        if !long.is_empty() {
            passes.push(Pass::Grams(Grams::new(long)));
        }
        let mut heads = heads(short);
        // The shortest one decides how much of each a searcher looks at: keep those of one length together.
        heads.sort_by_key(|head| head.text.len());
        for same_length in heads.chunk_by(|a, b| a.text.len() == b.text.len()) {
            for group in same_length.chunks(GROUP) {
                passes.push(Pass::Short(Short::new(group)?));
            }
        }
        Ok(Self { passes })
    }
}

impl Pass {
    /// Calls `found` with the number and the offset of each anchor, nearly in order: an anchor is reported before
    /// another only if it does not begin behind the other's end.
    pub(super) fn find(&self, text: &[u8], mut found: impl FnMut(u32, usize)) {
        match self {
            Self::Grams(grams) => grams.find(text, &mut found),
            Self::Short(short) => short.find(text, found),
        }
    }
}

fn heads(mut anchors: Vec<(Box<[u8]>, u32)>) -> Vec<Head> {
    let mut heads: Vec<Head> = Vec::new();
    anchors.sort();
    for (anchor, rule) in anchors {
        // In sorted order whatever begins with a head follows it directly.
        match heads.last_mut() {
            Some(head) if anchor.starts_with(&head.text) => head.anchors.push((anchor, rule)),
            _ => heads.push(Head { text: anchor.clone(), key: key(&anchor), anchors: vec![(anchor, rule)] }),
        }
    }
    heads
}

impl Short {
    fn new(heads: &[Head]) -> Result<Self, String> {
        let texts: Vec<&[u8]> = heads.iter().map(|head| &*head.text).collect();
        let mut config = packed::Config::new();
        let packed = config.match_kind(packed::MatchKind::LeftmostFirst).builder().extend(&texts).build();
        let searcher = match packed {
            Some(searcher) => Searcher::Packed(searcher),
            None => Searcher::Automaton(
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostFirst)
                    .build(&texts)
                    .map_err(|error| error.to_string())?,
            ),
        };
        let mut pairs = Box::new([0; PAIRS]);
        for text in &texts {
            // A head of one byte begins with 256 pairs.
            let seconds = if text.len() == 1 { 0..256 } else { pair(text) & 255..(pair(text) & 255) + 1 };
            for second in seconds {
                let pair = pair(text) & !255 | second;
                pairs[pair / 64] |= 1 << (pair % 64);
            }
        }
        let heads = heads
            .iter()
            .map(|head| Head { text: head.text.clone(), key: head.key, anchors: head.anchors.clone() })
            .collect();
        Ok(Self { heads, pairs, searcher })
    }

    fn find(&self, text: &[u8], mut found: impl FnMut(u32, usize)) {
        let mut at = 0;
        while let Some(start) = self.searcher.next(text, at) {
            let near = text.len().min(start + NEAR);
            for at in start..near {
                let pair = pair(&text[at..]);
                if self.pairs[pair / 64] >> (pair % 64) & 1 == 0 {
                    continue;
                }
                let here = four(&text[at..]);
                for head in self.heads.iter().filter(|head| here & head.key.1 == head.key.0) {
                    for (anchor, number) in &head.anchors {
                        if text[at..].starts_with(anchor) {
                            found(*number, at);
                        }
                    }
                }
            }
            at = near;
        }
    }
}

impl Searcher {
    fn next(&self, text: &[u8], from: usize) -> Option<usize> {
        match self {
            Self::Automaton(automaton) => automaton
                .find(aho_corasick::Input::new(text).span(from..text.len()))
                .map(|found| found.start()),
            Self::Packed(packed) => {
                packed.find_in(text, Span { start: from, end: text.len() }).map(|found| found.start())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(anchors: &[&str], text: &str) -> Vec<(usize, usize)> {
        let pairs: Vec<_> = anchors
            .iter()
            .enumerate()
            .map(|(rule, anchor)| (anchor.as_bytes().into(), rule as u32))
            .collect();
        let mut hits = Vec::new();
        for pass in &Literals::new(&pairs).unwrap().passes {
            pass.find(text.as_bytes(), |number, at| hits.push((number as usize, at)));
        }
        hits.sort_unstable();
        hits
    }

    /// The slow way to the same answer.
    fn expected(anchors: &[&str], text: &str) -> Vec<(usize, usize)> {
        let mut hits: Vec<(usize, usize)> = anchors
            .iter()
            .enumerate()
            .flat_map(|(rule, anchor)| {
                (0..text.len()).filter(move |at| text[*at..].starts_with(anchor)).map(move |at| (rule, at))
            })
            .collect();
        hits.sort_unstable();
        hits
    }

    #[test]
    fn anchors_that_overlap_or_contain_each_other_are_all_found() {
        assert_eq!(find(&["sk-", "sk-ant-", "nt-x"], "a sk-ant-x sk-"), [(0, 2), (0, 11), (1, 2), (2, 6)]);
        assert_eq!(find(&["api_key", "key="], "my api_key=1"), [(0, 3), (1, 7)]);
        assert_eq!(find(&["aa", "aaa", "aba"], "aaaba"), expected(&["aa", "aaa", "aba"], "aaaba"));
    }

    #[test]
    fn many_anchors_are_found_in_short_and_long_texts() {
        let names: Vec<String> = (0..100).map(|number| format!("anchor{number:03}-")).collect();
        let anchors: Vec<&str> = names.iter().map(String::as_str).collect();
        let long = format!("{} anchor042- {} anchor099-", "x".repeat(1000), "y".repeat(1000));

        assert_eq!(find(&anchors, "anchor007-"), [(7, 0)]);
        assert_eq!(find(&anchors, &long).iter().map(|hit| hit.0).collect::<Vec<_>>(), [42, 99]);
    }

    #[test]
    fn an_anchor_is_found_at_every_offset_up_to_both_edges() {
        let anchors = ["ab", "xyz", "wxyz", "secret_key", "aaaa"];
        for anchor in anchors {
            for before in 0..40 {
                for after in [0, 1, 2, 15, 40] {
                    let text = format!("{}{anchor}{}", ".".repeat(before), "-".repeat(after));
                    assert_eq!(find(&anchors, &text), expected(&anchors, &text), "{text}");
                }
            }
        }
    }

    #[test]
    fn dense_texts_give_what_the_slow_way_gives() {
        let anchors = ["aba", "abab", "baba_", "b_a", "_ab", "aa", "babaab"];
        let mut state = 7_u32;
        let text: String = (0..4000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ['a', 'b', '_'][(state >> 16) as usize % 3]
            })
            .collect();

        assert_eq!(find(&anchors, &text), expected(&anchors, &text));
    }
}
