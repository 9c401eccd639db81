//! Splits a regex before the run of bytes that its value ends in: `KEY=(?P<hit>[a-z][a-z0-9]{5,})` is run as
//! `KEY=(?P<hit>[a-z][a-z0-9]{5})`, and a loop over a table takes what follows.
//!
//! Groups cost an engine many times what a table does, and a value may be as long as its window.

use regex_syntax::hir::{Capture, Class, Hir, HirKind, Repetition};

/// A run of bytes that a value goes on with behind the regex's match.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    /// What the run is made of.
    class: Box<[bool; 256]>,
    /// It is at most this long.
    most: usize,
    /// How long the value is ahead of the run, if that is the same for each. Then its place follows from where the
    /// match ends, and an engine need not say where groups lie, nor where the match begins.
    pub(super) ahead: Option<usize>,
}

impl Tail {
    /// The regex up to its last run, and the run; `None` for a regex that does not end in one, inside its only group.
    ///
    /// Both find what the regex finds: the run takes all it can, and nothing behind it can make it give back.
    pub(super) fn split(hir: &Hir) -> Option<(Hir, Self)> {
        let parts = match hir.kind() {
            HirKind::Concat(parts) => &parts[..],
            _ => std::slice::from_ref(hir),
        };
        let (last, before) = parts.split_last()?;
        let HirKind::Capture(capture) = last.kind() else { return None };
        if before.iter().any(|part| part.properties().explicit_captures_len() > 0) {
            return None;
        }
        let (head, mut tail) = match capture.sub.kind() {
            HirKind::Concat(parts) => {
                let (last, before) = parts.split_last()?;
                let (least, tail) = Self::of(last)?;
                (Hir::concat(before.iter().cloned().chain([least]).collect()), tail)
            }
            _ => Self::of(&capture.sub)?,
        };
        if head.properties().explicit_captures_len() > 0 || head.properties().minimum_len() == Some(0) {
            return None;
        }
        let (shortest, longest) = (head.properties().minimum_len(), head.properties().maximum_len());
        tail.ahead = longest.filter(|_| shortest == longest);
        let capture = Hir::capture(Capture { sub: Box::new(head), ..capture.clone() });
        Some((Hir::concat(before.iter().cloned().chain([capture]).collect()), tail))
    }

    /// The least that a repetition of one class takes, and the run that it goes on with.
    fn of(hir: &Hir) -> Option<(Hir, Self)> {
        let HirKind::Repetition(repetition) = hir.kind() else { return None };
        let HirKind::Class(Class::Bytes(bytes)) = repetition.sub.kind() else { return None };
        if !repetition.greedy {
            return None;
        }
        let mut class = Box::new([false; 256]);
        for range in bytes.ranges() {
            class[usize::from(range.start())..=usize::from(range.end())].fill(true);
        }
        let most = repetition.max.map_or(usize::MAX, |max| (max - repetition.min) as usize);
        let least = Hir::repetition(Repetition { max: Some(repetition.min), ..repetition.clone() });
        Some((least, Self { class, most, ahead: None }))
    }

    /// How many bytes at the front of `text` belong to the run.
    pub(super) fn length(&self, text: &[u8]) -> usize {
        let text = &text[..text.len().min(self.most)];
        text.iter().position(|byte| !self.class[usize::from(*byte)]).unwrap_or(text.len())
    }
}

#[cfg(test)]
mod tests {
    use regex_automata::{meta::Regex, util::syntax};

    use super::*;
    use crate::rules::tests::Noise;

    fn hir(regex: &str) -> Hir {
        syntax::parse_with(regex, &syntax::Config::new().unicode(false).utf8(false)).unwrap()
    }

    fn built(hir: &Hir) -> Regex {
        Regex::builder().build_from_hir(hir).unwrap()
    }

    fn hit(regex: &Regex, text: &[u8]) -> Option<std::ops::Range<usize>> {
        let mut captures = regex.create_captures();
        regex.captures(text, &mut captures);
        captures.get_group_by_name("hit").map(|span| span.start..span.end)
    }

    #[test]
    fn a_regex_in_two_parts_finds_what_it_finds_whole() {
        let regexes = [
            "a(?:b|bc)?=(?P<hit>[abc][abc=]{2,})",
            "[ab]{0,3}=?(?P<hit>b?[bc]{1,3})",
            r"\b(?P<hit>a[a-c]+)",
            "(?i:ab|a)[=:]{1,2}(?P<hit>(?:b|bc)[a-c]{2,})",
            "(?P<hit>ab[abc=]*)",
            "(?:c|a=)(?P<hit>a*b+[ab]{2,4})",
        ];
        let mut noise = Noise(7);
        for regex in regexes {
            let whole = hir(regex);
            let (head, tail) = Tail::split(&whole).unwrap();
            let (whole, head) = (built(&whole), built(&head));
            for _ in 0..4000 {
                let text = noise.text(b"abc=:b", 12);

                let run = |hit: std::ops::Range<usize>| hit.start..hit.end + tail.length(&text[hit.end..]);
                let found = hit(&head, &text).map(run);

                assert_eq!(found, hit(&whole, &text), "{regex} in {}", String::from_utf8_lossy(&text));
                if let (Some(ahead), Some(found)) = (tail.ahead, found) {
                    let end = head.search_half(&regex_automata::Input::new(&text)).unwrap().offset();
                    assert_eq!(end - ahead, found.start, "{regex}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_end_in_a_run_is_left_whole() {
        for regex in [
            "a(?P<hit>b+)c",
            "(?P<hit>ab+?)",
            r"(?P<hit>ab+)\b",
            "(?P<hit>ab)",
            "a(?P<hit>b*)",
            "(?P<hit>(?:ab)+)",
        ] {
            assert!(Tail::split(&hir(regex)).is_none(), "{regex}");
        }
    }
}
