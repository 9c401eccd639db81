//! Runs a rule's regex, and says where in a match the value lies.
//!
//! An engine that reports groups costs many times what one does that reports where a match begins and ends. So a regex
//! is run without groups where its shape leaves no doubt about the value's place.

use std::ops::Range;

use regex_automata::{
    Input,
    meta::{Cache, Regex},
    util::primitives::NonMaxUsize,
};
use regex_syntax::hir::{Hir, HirKind};

use crate::rules::tail::Tail;

/// The group that is the value.
pub(super) const VALUE: &str = "hit";

/// A regex, ready to run.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    regex: Regex,
    place: Place,
    /// What the value goes on with behind the regex's match.
    tail: Option<Tail>,
}

/// Where in a match the value lies.
#[derive(Clone, Debug)]
enum Place {
    /// It begins so many bytes before the match's end, and ends there.
    Before(usize),
    /// In this capture group.
    Group(usize),
    /// For each alternative how many bytes of the match stand before the value and behind it; `None` for one without.
    Fixed(Vec<Option<(usize, usize)>>),
}

/// What a matcher needs to run, one per worker.
#[derive(Debug)]
pub(super) struct MatcherScratch {
    cache: Cache,
    slots: Vec<Option<NonMaxUsize>>,
}

impl Matcher {
    /// # Errors
    /// Why the regex cannot be compiled.
    pub(super) fn new(hir: &Hir) -> Result<Self, String> {
        let split = Tail::split(hir);
        let (head, tail) = match &split {
            Some((head, tail)) => (head, Some(tail.clone())),
            None => (hir, None),
        };
        if let Some(ahead) = tail.as_ref().and_then(|tail| tail.ahead) {
            return Ok(Self { regex: compile(&[head])?, place: Place::Before(ahead), tail });
        }
        let alternatives = match head.kind() {
            HirKind::Alternation(alternatives) => alternatives.iter().collect(),
            _ => vec![head],
        };
        let places: Option<Vec<_>> = alternatives.iter().map(|alternative| fixed(alternative)).collect();
        if let Some(places) = places {
            return Ok(Self { regex: compile(&alternatives)?, place: Place::Fixed(places), tail });
        }
        let regex = compile(&[head])?;
        let group = regex.group_info().to_index(regex_automata::PatternID::ZERO, VALUE).unwrap_or_default();
        Ok(Self { regex, place: Place::Group(group), tail })
    }

    /// What runs need.
    pub(super) fn scratch(&self) -> MatcherScratch {
        MatcherScratch { cache: self.regex.create_cache(), slots: Vec::new() }
    }

    /// The next match in `range`, which sees nothing outside `text`: where it ends, and where its value lies. The value
    /// of a match without one is empty.
    pub(super) fn find(
        &self,
        scratch: &mut MatcherScratch,
        text: &[u8],
        range: Range<usize>,
    ) -> Option<(usize, Range<usize>)> {
        let MatcherScratch { cache, slots } = scratch;
        let input = Input::new(text).span(range.clone());
        let (end, value) = match &self.place {
            Place::Before(bytes) => {
                let end = self.regex.search_half_with(cache, &input)?.offset();
                (end, Some(end - bytes..end))
            }
            Place::Group(group) => {
                slots.clear();
                slots.resize((group + 1) * 2, None);
                self.regex.search_slots_with(cache, &input, slots)?;
                let slot = |index: usize| slots.get(index).copied().flatten().map(NonMaxUsize::get);
                (slot(1)?, slot(group * 2).zip(slot(group * 2 + 1)).map(|(start, end)| start..end))
            }
            Place::Fixed(places) => {
                let found = self.regex.search_with(cache, &input)?;
                let place = places.get(found.pattern().as_usize()).copied().flatten();
                (found.end(), place.map(|(before, behind)| found.start() + before..found.end() - behind))
            }
        };
        let Some(value) = value else { return Some((end, end..end)) };
        let run = self.tail.as_ref().map_or(0, |tail| tail.length(&text[end..range.end.max(end)]));
        Some((end + run, value.start..value.end + run))
    }

    /// Whether the regex, made by [`Matcher::whole`], matches all of `text`.
    pub(super) fn matches(&self, scratch: &mut MatcherScratch, text: &[u8]) -> bool {
        self.regex.search_half_with(&mut scratch.cache, &Input::new(text).earliest(true)).is_some()
    }

    /// As [`Matcher::new`], for matches of all of a text.
    ///
    /// # Errors
    /// Why the regex cannot be compiled.
    pub(super) fn whole(hir: &Hir) -> Result<Self, String> {
        use regex_syntax::hir::Look;
        let whole = Hir::concat(vec![Hir::look(Look::Start), hir.clone(), Hir::look(Look::End)]);
        Ok(Self { regex: compile(&[&whole])?, place: Place::Fixed(vec![None]), tail: None })
    }
}

/// Compiles alternatives, of which the first that matches counts, as rules run them.
pub(super) fn compile(alternatives: &[&Hir]) -> Result<Regex, String> {
    /// Enough for a counted repetition of a whole PEM block, which is the largest seen.
    const NFA_LIMIT_BYTES: usize = 16 << 20;
    /// Room for the automaton's states per regex. A window is small; what does not fit is rebuilt.
    const CACHE_BYTES: usize = 1 << 20;
    let config = Regex::config()
        .utf8_empty(false)
        .nfa_size_limit(Some(NFA_LIMIT_BYTES))
        .hybrid_cache_capacity(CACHE_BYTES);
    Regex::builder()
        .configure(config)
        .build_many_from_hir(alternatives)
        .map_err(|error| format!("the regex cannot be compiled: {error}"))
}

/// How many bytes of an alternative's matches stand before the value and behind it: `Some(None)` if it has none, `None`
/// if that is not the same for every match.
fn fixed(alternative: &Hir) -> Option<Option<(usize, usize)>> {
    if !has_value(alternative) {
        return Some(None);
    }
    let parts = match alternative.kind() {
        HirKind::Concat(parts) => &parts[..],
        _ => std::slice::from_ref(alternative),
    };
    let value = parts.iter().position(has_value)?;
    if !is_value(&parts[value]) || parts[value + 1..].iter().any(has_value) {
        return None;
    }
    Some(Some((length(&parts[..value])?, length(&parts[value + 1..])?)))
}

/// The length of what `parts` match, if there is but one.
fn length(parts: &[Hir]) -> Option<usize> {
    parts.iter().try_fold(0, |sum, part| {
        let (least, most) = (part.properties().minimum_len()?, part.properties().maximum_len()?);
        (least == most).then_some(sum + least)
    })
}

fn is_value(hir: &Hir) -> bool {
    matches!(hir.kind(), HirKind::Capture(capture) if capture.name.as_deref() == Some(VALUE))
}

/// Whether the value's group is in `hir`.
pub(super) fn has_value(hir: &Hir) -> bool {
    is_value(hir)
        || match hir.kind() {
            HirKind::Alternation(parts) | HirKind::Concat(parts) => parts.iter().any(has_value),
            HirKind::Capture(capture) => has_value(&capture.sub),
            HirKind::Class(_) | HirKind::Empty | HirKind::Literal(_) | HirKind::Look(_) => false,
            HirKind::Repetition(repetition) => has_value(&repetition.sub),
        }
}

#[cfg(test)]
mod tests {
    use regex_automata::util::syntax;

    use super::*;
    use crate::rules::tests::Noise;

    fn hir(regex: &str) -> Hir {
        syntax::parse_with(regex, &syntax::Config::new().unicode(false).utf8(false)).unwrap()
    }

    /// Every match's end and value in a text, one after the other.
    fn all(
        text: &[u8],
        mut next: impl FnMut(Range<usize>) -> Option<(usize, Range<usize>)>,
    ) -> Vec<(usize, Range<usize>)> {
        let (mut found, mut at) = (Vec::new(), 0);
        while at < text.len()
            && let Some((end, value)) = next(at..text.len())
        {
            at = value.end.max(at + 1);
            found.push((end, value));
        }
        found
    }

    /// What an engine with groups says.
    fn by_groups(regex: &Regex, text: &[u8]) -> Vec<(usize, Range<usize>)> {
        all(text, |range| {
            let mut captures = regex.create_captures();
            regex.search_captures(&Input::new(text).span(range), &mut captures);
            let end = captures.get_match()?.end();
            Some((end, captures.get_group_by_name(VALUE).map_or(end..end, |span| span.start..span.end)))
        })
    }

    #[test]
    fn a_value_is_found_where_its_group_lies() {
        let regexes = [
            ("://[a-c]+@|(?P<hit>[a-c]+@[a-c]+)", "Fixed"),
            ("(?P<hit>ab+)c|(?P<other>b)=(?P<last>a)", "Fixed"),
            (r"\b(?P<hit>a[bc]{2})\b|=(?P<x>b)", "Fixed"),
            ("=(?P<hit>[ab]+)=?", "Group"),
            ("[ab]=(?P<hit>[a-c]+):", "Fixed"),
            ("a+(?P<hit>[bc]+)a", "Group"),
            (r"a?=(?P<hit>[bc]+)\b", "Group"),
            ("(?:a|bc)=(?P<hit>b[abc]*)", "Before"),
        ];
        let mut noise = Noise(11);
        for (regex, place) in regexes {
            let (matcher, whole) = (Matcher::new(&hir(regex)).unwrap(), compile(&[&hir(regex)]).unwrap());
            assert!(format!("{:?}", matcher.place).starts_with(place), "{regex}: {:?}", matcher.place);
            let (mut scratch, mut values) = (matcher.scratch(), 0);
            for _ in 0..4000 {
                let text = noise.text(b"aabbcc=:@//", 14);
                let found = all(&text, |range| matcher.find(&mut scratch, &text, range));

                assert_eq!(found, by_groups(&whole, &text), "{regex} in {}", String::from_utf8_lossy(&text));
                values += found.iter().filter(|(_, value)| !value.is_empty()).count();
            }
            assert!(values > 50, "{regex}: {values} values");
        }
    }

    #[test]
    fn a_whole_match_is_all_of_the_text() {
        let matcher = Matcher::whole(&hir("a|ab(?P<hit>c)")).unwrap();
        let mut scratch = matcher.scratch();

        assert!(matcher.matches(&mut scratch, b"abc") && matcher.matches(&mut scratch, b"a"));
        assert!(!matcher.matches(&mut scratch, b"ab") && !matcher.matches(&mut scratch, b"abca"));
    }
}
