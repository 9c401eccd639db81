//! Finds every anchor in one buffer. How many rules there are hardly matters: see [`Grams`].

use crate::rules::{
    grams::{self, Grams},
    heads::{self, Heads},
};

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
    Heads(Heads),
}

impl Literals {
    /// Takes anchors, each with its number.
    pub(super) fn new(anchors: &[(Box<[u8]>, u32)]) -> Self {
        let (short, long): (Vec<_>, Vec<_>) =
            anchors.iter().cloned().partition(|(anchor, _)| anchor.len() < grams::SHORTEST);
        let mut passes = Vec::new();
        if !long.is_empty() {
            passes.push(Pass::Grams(Grams::new(long)));
        }
        passes.extend(short.chunks(heads::MOST).map(|heads| Pass::Heads(Heads::new(heads.to_vec()))));
        Self { passes }
    }
}

impl Pass {
    /// Calls `found` with the number and the offset of each anchor, nearly in order: an anchor is reported before
    /// another only if it does not begin behind the other's end.
    pub(super) fn find(&self, text: &[u8], mut found: impl FnMut(u32, usize)) {
        match self {
            Self::Grams(grams) => grams.find(text, &mut found),
            Self::Heads(heads) => heads.find(text, &mut found),
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
        for pass in &Literals::new(&pairs).passes {
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
