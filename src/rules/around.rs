//! What a regex says of the bytes around an anchor: most places where an anchor stands are no match, and one look at each
//! of a few bytes shows that for a fraction of what a regex costs.
//!
//! Read off the regex once, when rules are loaded. Whoever fails [`Around::holds`] is in no match; whoever passes may be.

use std::ops::Range;

use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

use crate::rules::required::SPELLED_CLASS;

/// Bytes that are looked at before an anchor and behind it, at most: as many as a number has bits.
const PLACES: usize = u32::BITS as usize;

/// What must stand before an anchor and behind it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Around {
    before: Side,
    after: Side,
}

/// What must stand on one side, counted away from the anchor.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Side {
    /// For each byte in which places it may stand.
    bytes: Box<[u32; 256]>,
    /// In which places the value may be at its end.
    edges: u32,
    /// Places behind which nothing is said.
    length: usize,
    /// Whether a byte may stand in the first place if one does, wherever the value ends.
    first: Box<[bool; 256]>,
}

impl Around {
    /// Reads off what must stand around `anchor` in a match that has a value, and behind it one of `last`.
    ///
    /// Alternatives without the value's group are left out: what they match is no value.
    pub(super) fn new(graph: &Graph, anchor: &[u8], last: Option<&[u8]>) -> Self {
        let backward: Vec<u8> = anchor.iter().rev().copied().collect();
        let mut after = graph.side(anchor, Direction::Forward);
        if let Some(last) = last {
            if after.length == 0 {
                (after.length, *after.bytes) = (1, [1; 256]);
            }
            for (byte, places) in (0..=u8::MAX).zip(after.bytes.iter_mut()) {
                *places &= if last.contains(&byte) { u32::MAX } else { !1 };
            }
            after.edges &= !1;
        }
        let mut before = graph.side(&backward, Direction::Backward);
        for side in [&mut before, &mut after] {
            let says_nothing = side.length == 0 || side.edges & 1 != 0;
            for (first, places) in side.first.iter_mut().zip(side.bytes.iter()) {
                *first = says_nothing || places & 1 != 0;
            }
        }
        Self { before, after }
    }

    /// Whether the neighbours of `place` leave it possible that [`Around::holds`], wherever the value ends: a look that
    /// costs next to nothing, for floods.
    #[inline]
    pub(super) fn could_hold(&self, text: &[u8], place: Range<usize>) -> bool {
        let could = |side: &Side, byte: Option<&u8>| byte.is_none_or(|byte| side.first[usize::from(*byte)]);
        // Nothing has this index: it stands before the text.
        could(&self.after, text.get(place.end)) && could(&self.before, text.get(place.start.wrapping_sub(1)))
    }

    /// Whether a match could hold the anchor that takes up `place` of `text`, in a value that takes up `value`.
    #[inline]
    pub(super) fn holds(&self, text: &[u8], value: &Range<usize>, place: Range<usize>) -> bool {
        let before = text.get(value.start..place.start).unwrap_or_default();
        let after = text.get(place.end..value.end).unwrap_or_default();
        self.after.holds(after.iter()) && self.before.holds(before.iter().rev())
    }
}

impl Side {
    #[inline]
    fn holds<'t>(&self, mut bytes: impl Iterator<Item = &'t u8>) -> bool {
        for place in 0..self.length {
            let Some(byte) = bytes.next() else { return self.edges >> place & 1 != 0 };
            if self.bytes[usize::from(*byte)] >> place & 1 == 0 {
                return false;
            }
        }
        true
    }
}

/// A regex as nodes that each take one byte, or none.
///
/// It takes more than the regex does: what is repeated often may be repeated without end.
#[derive(Debug)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    /// Whether what is being added may be repeated.
    repeats: bool,
}

#[derive(Debug)]
struct Node {
    takes: Takes,
    next: Vec<u32>,
    previous: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Takes {
    /// The place behind everything.
    Accept,
    /// The place before everything.
    Begin,
    /// One of these bytes; whether that is as good as spelled out.
    Byte(Bytes, bool),
    /// The end of the value.
    End,
    Nothing,
    /// The start of the value.
    Start,
    /// The edge of a word.
    WordEdge,
}

type Bytes = [u64; 4];

const WORD: Bytes = {
    let mut word = [0; 4];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() || byte as u8 == b'_' {
            word[byte / 64] |= 1 << (byte % 64);
        }
        byte += 1;
    }
    word
};

const BEGIN: u32 = 0;
const ACCEPT: u32 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Backward,
    Forward,
}

/// What the byte before a place is, as far as the edge of a word needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Gone {
    /// It may be none of a word.
    Any,
    /// It is one of a word.
    Word,
    /// It is one of a word, and the word ends here.
    WordEnded,
}

/// Nodes and what was before them: a graph has few nodes, and a set that hashes costs more than all else here.
struct Seen(Vec<u8>);

impl Seen {
    fn new(nodes: usize) -> Self {
        Self(vec![0; nodes])
    }

    /// Whether it was not there before.
    fn insert(&mut self, node: u32, gone: Gone) -> bool {
        let (seen, bit) = (&mut self.0[node as usize], 1 << gone as u8);
        let is_new = *seen & bit == 0;
        *seen |= bit;
        is_new
    }
}

impl Graph {
    pub(super) fn new(hir: &Hir) -> Self {
        let node = |takes| Node { takes, next: Vec::new(), previous: Vec::new() };
        let mut graph = Self { nodes: vec![node(Takes::Begin), node(Takes::Accept)], repeats: false };
        let last = graph.add(hir, BEGIN);
        graph.link(last, ACCEPT);
        graph
    }

    /// Adds what takes `hir` behind `from`; the answer is the node that it ends in.
    fn add(&mut self, hir: &Hir, from: u32) -> u32 {
        match hir.kind() {
            HirKind::Empty => from,
            HirKind::Literal(literal) => literal.0.iter().fold(from, |from, byte| {
                let mut bytes = [0; 4];
                insert(&mut bytes, *byte..=*byte);
                self.push(Takes::Byte(bytes, true), from)
            }),
            HirKind::Class(Class::Bytes(class)) => {
                let mut bytes = [0; 4];
                class.ranges().iter().for_each(|range| insert(&mut bytes, range.start()..=range.end()));
                let size = bytes.iter().map(|part| part.count_ones() as usize).sum::<usize>();
                self.push(Takes::Byte(bytes, size <= SPELLED_CLASS), from)
            }
            HirKind::Class(Class::Unicode(_)) => {
                // Not with the syntax that rules have; any bytes at all take more than it does.
                let node = self.push(Takes::Byte([u64::MAX; 4], false), from);
                self.link(node, node);
                node
            }
            HirKind::Look(Look::Start) => self.push(Takes::Start, from),
            HirKind::Look(Look::End) => self.push(Takes::End, from),
            HirKind::Look(Look::WordAscii | Look::WordUnicode) => self.push(Takes::WordEdge, from),
            HirKind::Look(_) => from,
            HirKind::Capture(capture) => self.add(&capture.sub, from),
            HirKind::Concat(parts) => parts.iter().fold(from, |from, part| self.add(part, from)),
            HirKind::Alternation(branches) => {
                // What is repeated may have had its value in another round.
                let some = !self.repeats && branches.iter().any(has_value);
                let ends: Vec<u32> = branches
                    .iter()
                    .filter(|branch| !some || has_value(branch))
                    .map(|branch| self.add(branch, from))
                    .collect();
                self.join(&ends)
            }
            HirKind::Repetition(repetition) => self.repeat(repetition, from),
        }
    }

    fn repeat(&mut self, repetition: &Repetition, from: u32) -> u32 {
        let outer = std::mem::replace(&mut self.repeats, true);
        let rounds = repetition.min.min(PLACES as u32 + 1);
        let mut last = (0..rounds).fold(from, |from, _| self.add(&repetition.sub, from));
        let end = match repetition.max {
            Some(most) if most == repetition.min => last,
            Some(1) => {
                let once = self.add(&repetition.sub, last);
                self.join(&[last, once])
            }
            _ => {
                last = self.push(Takes::Nothing, last);
                let round = self.add(&repetition.sub, last);
                self.link(round, last);
                // A node of its own, so that what follows does not hang on the loop's first node twice.
                self.push(Takes::Nothing, last)
            }
        };
        self.repeats = outer;
        end
    }

    fn join(&mut self, ends: &[u32]) -> u32 {
        let (first, others) = ends.split_first().unwrap_or((&BEGIN, &[]));
        let joint = self.push(Takes::Nothing, *first);
        others.iter().for_each(|end| self.link(*end, joint));
        joint
    }

    fn push(&mut self, takes: Takes, from: u32) -> u32 {
        let node = self.nodes.len() as u32;
        self.nodes.push(Node { takes, next: Vec::new(), previous: Vec::new() });
        self.link(from, node);
        node
    }

    fn link(&mut self, from: u32, to: u32) {
        self.nodes[from as usize].next.push(to);
        self.nodes[to as usize].previous.push(from);
    }

    /// What stands on one side of `anchor`, whose bytes come in that direction.
    fn side(&self, anchor: &[u8], direction: Direction) -> Side {
        let mut side = Side { bytes: Box::new([0; 256]), edges: 0, length: 0, first: Box::new([true; 256]) };
        let Some((first, others)) = anchor.split_first() else { return side };
        // An occurrence counts if its first byte is spelled out: what follows may be taken by a wide class, as the space
        // in `curl -s -u` is by `curl\b.*`, but a run of letters at a value's end is no anchor.
        let spelled = match direction {
            Direction::Backward => anchor.len() - 1,
            Direction::Forward => 0,
        };
        let takes = |node: u32, byte: u8, index: usize| match &self.nodes[node as usize].takes {
            Takes::Byte(bytes, is_spelled) => contains(bytes, byte) && (*is_spelled || index != spelled),
            _ => false,
        };
        let gone = |byte: u8| if contains(&WORD, byte) { Gone::Word } else { Gone::Any };
        let mut here: Vec<(u32, Gone)> = (0..self.nodes.len() as u32)
            .filter(|node| takes(*node, *first, 0))
            .map(|node| (node, gone(*first)))
            .collect();
        for (index, byte) in others.iter().enumerate() {
            let mut reached = self.reached(&here, direction);
            reached.retain(|(node, _)| takes(*node, *byte, index + 1));
            here = reached.into_iter().map(|(node, _)| (node, gone(*byte))).collect();
        }
        if here.is_empty() {
            // Whoever wrote the rule knows better.
            return side;
        }
        let (edge, end) = match direction {
            Direction::Backward => (Takes::Start, Takes::Begin),
            Direction::Forward => (Takes::End, Takes::Accept),
        };
        while side.length < PLACES {
            let reached = self.reached(&here, direction);
            let (mut allowed, mut may_end, mut ended) = ([0; 4], false, false);
            let (mut next, mut seen) = (Vec::new(), Seen::new(self.nodes.len()));
            for (node, before) in reached {
                let takes = &self.nodes[node as usize].takes;
                if let Takes::Byte(bytes, _) = takes {
                    let (bytes, gone) = match before {
                        Gone::WordEnded => (without(bytes, &WORD), Gone::Any),
                        _ if without(bytes, &WORD) == [0; 4] => (*bytes, Gone::Word),
                        _ => (*bytes, Gone::Any),
                    };
                    if bytes != [0; 4] {
                        add(&mut allowed, &bytes);
                        if seen.insert(node, gone) {
                            next.push((node, gone));
                        }
                    }
                } else if *takes == edge {
                    may_end = true;
                } else if *takes == end {
                    if before != Gone::WordEnded {
                        // Matches end here: nothing is said of what follows.
                        return side;
                    }
                    add(&mut allowed, &without(&[u64::MAX; 4], &WORD));
                    (may_end, ended) = (true, true);
                }
            }
            let place = 1 << side.length;
            side.edges |= if may_end { place } else { 0 };
            for (byte, places) in (0..=u8::MAX).zip(side.bytes.iter_mut()) {
                *places |= if contains(&allowed, byte) { place } else { 0 };
            }
            side.length += 1;
            if ended || next.is_empty() {
                break;
            }
            here = next;
        }
        side
    }

    /// The nodes that come next behind some, each with what is gone before it.
    fn reached(&self, from: &[(u32, Gone)], direction: Direction) -> Vec<(u32, Gone)> {
        let neighbours = |node: u32| match direction {
            Direction::Backward => &self.nodes[node as usize].previous,
            Direction::Forward => &self.nodes[node as usize].next,
        };
        let edge = if direction == Direction::Forward { Takes::End } else { Takes::Start };
        let mut seen = Seen::new(self.nodes.len());
        let mut waiting: Vec<(u32, Gone)> = from
            .iter()
            .flat_map(|(node, gone)| neighbours(*node).iter().map(move |next| (*next, *gone)))
            .collect();
        let mut reached = Vec::new();
        while let Some((node, gone)) = waiting.pop() {
            if !seen.insert(node, gone) {
                continue;
            }
            let takes = &self.nodes[node as usize].takes;
            let through = match takes {
                Takes::Accept | Takes::Begin | Takes::Byte(..) => None,
                Takes::End | Takes::Start if *takes == edge => None,
                Takes::WordEdge if gone == Gone::Word => Some(Gone::WordEnded),
                Takes::End | Takes::Nothing | Takes::Start | Takes::WordEdge => Some(gone),
            };
            match through {
                Some(gone) => waiting.extend(neighbours(node).iter().map(|next| (*next, gone))),
                None => reached.push((node, gone)),
            }
        }
        reached
    }
}

/// Whether a match of it has a value.
fn has_value(hir: &Hir) -> bool {
    if hir.properties().explicit_captures_len() == 0 {
        return false;
    }
    match hir.kind() {
        HirKind::Alternation(parts) | HirKind::Concat(parts) => parts.iter().any(has_value),
        HirKind::Capture(capture) => capture.name.as_deref() == Some("hit") || has_value(&capture.sub),
        HirKind::Repetition(repetition) => has_value(&repetition.sub),
        _ => false,
    }
}

fn insert(bytes: &mut Bytes, range: std::ops::RangeInclusive<u8>) {
    for byte in range {
        bytes[usize::from(byte / 64)] |= 1 << (byte % 64);
    }
}

fn contains(bytes: &Bytes, byte: u8) -> bool {
    bytes[usize::from(byte / 64)] >> (byte % 64) & 1 != 0
}

fn add(bytes: &mut Bytes, others: &Bytes) {
    bytes.iter_mut().zip(others).for_each(|(part, other)| *part |= other);
}

fn without(bytes: &Bytes, others: &Bytes) -> Bytes {
    std::array::from_fn(|part| bytes[part] & !others[part])
}

#[cfg(test)]
mod tests {
    use regex_automata::{meta::Regex, util::syntax};

    use super::*;
    use crate::rules::tests::Noise;

    fn hir(regex: &str) -> Hir {
        syntax::parse_with(regex, &syntax::Config::new().unicode(false).utf8(false)).unwrap()
    }

    /// Whether the first `anchor` of a value that is `text` may be part of a match.
    fn holds(regex: &str, anchor: &str, text: &str) -> bool {
        let at = text.find(anchor).unwrap();
        let around = Around::new(&Graph::new(&hir(regex)), anchor.as_bytes(), None);
        around.holds(text.as_bytes(), &(0..text.len()), at..at + anchor.len())
    }

    #[test]
    fn what_follows_must_fit() {
        let regex = r"\b(?P<hit>gh[pousr]_[A-Za-z0-9]{20,255})";

        assert!(holds(regex, "ghp_", "ghp_aaaaaaaaaaaaaaaaaaaa"));
        assert!(!holds(regex, "ghp_", "ghp_aaaaaaaaaaaaaaaaaaa"));
        assert!(!holds(regex, "ghp_", "ghp_aaaaaaaaaaaaaaaaaaa_"));
    }

    #[test]
    fn what_leads_up_to_it_must_fit() {
        assert!(holds("[a-z]+@[0-9]+", "@", "q@7") && !holds("[a-z]+@[0-9]+", "@", "7@7"));
        assert!(holds(r"(?:^|[^0-9])\+[1-9]", "+", "\"+1") && holds(r"(?:^|[^0-9])\+[1-9]", "+", "+1"));
        assert!(!holds(r"(?:^|[^0-9])\+[1-9]", "+", "1+1"));
        assert!(!holds("[a-f]{32}-us", "-us", &format!("{}-us", "a".repeat(31))));
    }

    #[test]
    fn a_word_ends_where_a_match_must_end_one() {
        assert!(holds(r"\bre_[a-z]", "re_", " re_x") && holds(r"\bre_[a-z]", "re_", "re_x"));
        assert!(!holds(r"\bre_[a-z]", "re_", "core_x"));
        assert!(holds(r"AKIA[A-Z]{2}\b", "AKIA", "AKIAAA") && holds(r"AKIA[A-Z]{2}\b", "AKIA", "AKIAAA."));
        assert!(!holds(r"AKIA[A-Z]{2}\b", "AKIA", "AKIAAAA"));
        assert!(holds(r"x=(?:ab|a-)\b", "x=", "x=a-b") && holds(r"x=(?:ab|a-)\b", "x=", "x=ab"));
    }

    #[test]
    fn a_wide_class_may_take_the_rest_of_an_anchor() {
        let regex = r"\bcurl\b[^|]{0,200}? -u (?P<hit>[a-z]+)";

        assert!(holds(regex, "curl ", "curl -u a") && holds(regex, "curl ", "curl -s -u a"));
        assert!(!holds(regex, "curl ", "curl | -u a"));
    }

    #[test]
    fn alternatives_without_the_value_do_not_count() {
        let regex = "://[^@]+@|(?P<hit>[a-z]+@[a-z]{3})";

        assert!(!holds(regex, "@", "://a@b.c") && holds(regex, "@", "a@bcd"));
        assert!(holds("(?:(?P<hit>a@b)|x@y)+", "@", "a@bx@y"), "a value may be an earlier round's");
    }

    #[test]
    fn of_anchors_with_one_beginning_the_last_byte_counts() {
        let graph = Graph::new(&hir(r"token[ :=>]{1,3}(?P<hit>[a-z]+)"));
        let around = Around::new(&graph, b"token", Some(b":="));
        let holds = |text: &str| around.holds(text.as_bytes(), &(0..text.len()), 0..5);

        assert!(holds("token: a") && holds("token=a"));
        assert!(!holds("token a") && !holds("tokens") && !holds("token"));
    }

    /// The anchor that lets a match be found, which is the first that the match spells out, always passes.
    #[test]
    fn no_match_is_lost() {
        let regexes = [
            ("(?P<hit>a+b=[ab]{2})", "b="),
            (r"\b(?P<hit>ab[a-c=]{2,4})\b", "ab"),
            ("(?:^|[^a])(?P<hit>=b?[bc]{1,3})(?:[^a]|$)", "="),
            ("(?i:ab|b)=:?(?P<hit>(?:b|bc)[a-c]{2,})", "b="),
            ("b[a:]{0,3}=(?P<hit>[bc]+)", "b"),
            ("(?:c|a=)(?P<hit>a*b+[ab]{2,4})", "b"),
            ("b=|(?P<hit>(?:a=)+[bc]=)", "="),
        ];
        let mut noise = Noise(7);
        for (regex, anchor) in regexes {
            let around = Around::new(&Graph::new(&hir(regex)), anchor.as_bytes(), None);
            let compiled = Regex::builder().build_from_hir(&hir(regex)).unwrap();
            let (mut matches, mut refused) = (0, 0);
            for _ in 0..6000 {
                let text = noise.text(b"abc=:b", 12);
                let passing = |range: Range<usize>| {
                    range
                        .filter(|at| text[*at..].starts_with(anchor.as_bytes()))
                        .filter(|at| around.holds(&text, &(0..text.len()), *at..*at + anchor.len()))
                        .count()
                };
                let mut captures = compiled.create_captures();
                compiled.captures(&text, &mut captures);

                if captures.get_group_by_name("hit").is_some() {
                    let span = captures.get_match().unwrap().range();
                    assert!(passing(span) > 0, "{regex} in {}", String::from_utf8_lossy(&text));
                    matches += 1;
                } else if passing(0..text.len()) == 0 {
                    refused += 1;
                }
            }
            assert!(matches > 20 && refused > 20, "{regex}: {matches} matches, {refused} refused");
        }
    }
}
