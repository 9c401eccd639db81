//! Finds every anchor in one buffer: few SIMD passes, whatever the number of rules.

use aho_corasick::{AhoCorasick, MatchKind, Span, packed};

/// A literal and the rules that it is an anchor of.
#[derive(Debug)]
struct Head {
    text: Box<[u8]>,
    /// Anchors that begin with this head, and the rule of each.
    anchors: Vec<(Box<[u8]>, u32)>,
}

/// All anchors of a rule set.
#[derive(Debug)]
pub(super) struct Literals {
    heads: Vec<Head>,
    groups: Vec<Group>,
}

/// Some of the heads, and what finds them.
#[derive(Debug)]
struct Group {
    first_head: usize,
    searcher: Searcher,
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
    /// Takes (anchor, rule) pairs.
    pub(super) fn new(anchors: &[(Box<[u8]>, u32)]) -> Result<Self, String> {
        let mut heads: Vec<Head> = Vec::new();
        let mut sorted: Vec<_> = anchors.to_vec();
        sorted.sort();
        for (anchor, rule) in sorted {
            // In sorted order whatever begins with a head follows it directly.
            match heads.last_mut() {
                Some(head) if anchor.starts_with(&head.text) => head.anchors.push((anchor, rule)),
                _ => heads.push(Head { text: anchor.clone(), anchors: vec![(anchor, rule)] }),
            }
        }
        // Short heads slow a searcher down: keep them together.
        heads.sort_by_key(|head| head.text.len());
        let mut groups = Vec::new();
        for (index, chunk) in heads.chunks(GROUP).enumerate() {
            let texts: Vec<&[u8]> = chunk.iter().map(|head| &*head.text).collect();
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
            groups.push(Group { first_head: index * GROUP, searcher });
        }
        Ok(Self { heads, groups })
    }

    /// Calls `found` with the rule and the offset of each anchor. For one rule, offsets never go down within a group,
    /// and groups come one after the other.
    pub(super) fn find(&self, text: &[u8], mut found: impl FnMut(usize, usize)) {
        for group in &self.groups {
            let mut at = 0;
            while let Some((start, pattern)) = group.searcher.next(text, at) {
                let head = &self.heads[group.first_head + pattern];
                for (anchor, rule) in &head.anchors {
                    if text[start..].starts_with(anchor) {
                        found(*rule as usize, start);
                    }
                }
                // Anchors may overlap: go on behind the first byte, not behind the match.
                at = start + 1;
            }
        }
    }
}

impl Searcher {
    fn next(&self, text: &[u8], from: usize) -> Option<(usize, usize)> {
        match self {
            Self::Automaton(automaton) => automaton
                .find(aho_corasick::Input::new(text).span(from..text.len()))
                .map(|found| (found.start(), found.pattern().as_usize())),
            Self::Packed(packed) => packed
                .find_in(text, Span { start: from, end: text.len() })
                .map(|found| (found.start(), found.pattern().as_usize())),
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
        Literals::new(&pairs).unwrap().find(text.as_bytes(), |rule, at| hits.push((rule, at)));
        hits.sort_unstable();
        hits
    }

    #[test]
    fn anchors_that_overlap_or_contain_each_other_are_all_found() {
        assert_eq!(find(&["sk-", "sk-ant-", "nt-x"], "a sk-ant-x sk-"), [(0, 2), (0, 11), (1, 2), (2, 6)]);
        assert_eq!(find(&["api_key", "key="], "my api_key=1"), [(0, 3), (1, 7)]);
    }

    #[test]
    fn many_anchors_are_found_in_short_and_long_texts() {
        let names: Vec<String> = (0..100).map(|number| format!("anchor{number:03}-")).collect();
        let anchors: Vec<&str> = names.iter().map(String::as_str).collect();
        let long = format!("{} anchor042- {} anchor099-", "x".repeat(1000), "y".repeat(1000));

        assert_eq!(find(&anchors, "anchor007-"), [(7, 0)]);
        assert_eq!(find(&anchors, &long).iter().map(|hit| hit.0).collect::<Vec<_>>(), [42, 99]);
    }
}
