//! Built-in finders: where something with the outline of a number, an address or a URL with a password stands.
//!
//! Each moves forward only and looks at every byte a bounded number of times, whatever the bytes are. Blocks of text in
//! which nothing of the sort could begin are passed over, see [`Outlines`].

use std::{ops::Range, sync::LazyLock};

use memchr::memmem;

use crate::rules::{
    outlines::{BLOCK, Outlines},
    validators::iban_length,
};

static SLASHES: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"://"));

/// A built-in finder. Variants and names are alphabetical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Finder {
    /// 13 to 19 digits in one group, or in groups as issuers print them with single spaces or dashes between. They begin with a
    /// digit that payment cards begin with: not with `0`, `1`, `7` or `9`.
    DigitRun,
    /// Four groups of up to three digits with dots between, and no fifth.
    DottedQuad,
    /// Groups of up to four hex digits with at least two colons, as in an IPv6 address.
    HexColon,
    /// A country's two letters, two digits, and as many characters as that country's account numbers have.
    IbanHead,
    /// Three digits, a space, dash or dot, and four digits, and before that three digits (in brackets or not) and a
    /// gap, and perhaps a `1`: a phone number as North America writes it.
    PhoneGroups,
    /// `scheme://user:password@`.
    UrlUserinfo,
}

impl Finder {
    /// Names in files, in the order of the variants.
    pub(super) const NAMES: &'static [&'static str] =
        &["digit-run", "dotted-quad", "hex-colon", "iban-head", "phone-groups", "url-userinfo"];

    const ALL: &'static [Self] = &[
        Self::DigitRun,
        Self::DottedQuad,
        Self::HexColon,
        Self::IbanHead,
        Self::PhoneGroups,
        Self::UrlUserinfo,
    ];

    pub(super) fn from_name(name: &str) -> Option<Self> {
        let index = Self::NAMES.iter().position(|known| *known == name)?;
        Self::ALL.get(index).copied()
    }

    /// Where in a block something of this sort could stand. URLs are looked for in all of the text at once.
    fn places(self, outlines: Outlines) -> u64 {
        match self {
            Self::DigitRun => outlines.digit_run,
            Self::DottedQuad => outlines.dotted_quad,
            Self::HexColon => outlines.hex_colon,
            Self::IbanHead => outlines.iban_head,
            Self::PhoneGroups => outlines.phone_groups,
            Self::UrlUserinfo => 0,
        }
    }

    /// Calls `found` with every candidate at a place that an outline named, of which no part stands before `done`.
    /// Returns where to go on.
    fn find_at(self, text: &[u8], at: usize, done: usize, found: &mut impl FnMut(Range<usize>)) -> usize {
        match self {
            Self::DigitRun => digit_run(text, at, found),
            Self::DottedQuad => dotted_quad(text, at, done, found),
            Self::HexColon => hex_colon(text, at, done, found),
            Self::IbanHead => iban_head(text, at, found),
            Self::PhoneGroups => phone_groups(text, at, found),
            Self::UrlUserinfo => text.len(),
        }
    }
}

/// Calls `found` with the place in `finders` and the range of every candidate of each, in order of the starts of each.
pub(super) fn find_all<'f>(
    finders: impl Iterator<Item = &'f Finder> + Clone,
    text: &[u8],
    mut found: impl FnMut(usize, Range<usize>),
) {
    let mut outlined = false;
    for (index, finder) in finders.clone().enumerate() {
        match finder {
            Finder::UrlUserinfo => url_userinfo(text, &mut |range| found(index, range)),
            _ => outlined = true,
        }
    }
    // A block that was looked at may have shown that something goes on behind it.
    let mut done = [0; Finder::ALL.len()];
    let mut from = 0;
    while outlined && let Some((start, outlines)) = Outlines::next(text, from) {
        for ((index, finder), done) in finders.clone().enumerate().zip(&mut done) {
            let mut places = finder.places(outlines);
            while places != 0 {
                let at = start + places.trailing_zeros() as usize;
                places &= places - 1;
                if at >= *done {
                    *done = finder.find_at(text, at, *done, &mut |range| found(index, range));
                }
            }
        }
        from = start + BLOCK;
    }
}

/// Digits of a payment card number.
const CARD_DIGITS: Range<usize> = 13..20;

fn digit_run(text: &[u8], start: usize, found: &mut impl FnMut(Range<usize>)) -> usize {
    /// Groups of a card number that is written with gaps: 4-4-4-4-3 is the longest.
    const GROUPS: usize = 5;
    /// How issuers print them. Other groups of digits are columns of a table.
    const PRINTED: &[&[usize]] = &[&[4, 4, 4, 2], &[4, 4, 4, 4], &[4, 4, 4, 4, 3], &[4, 6, 4], &[4, 6, 5]];
    let digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    let group_end = |from: usize| {
        // One byte more than a card holds is enough to know that it is none.
        let limit = text.len().min(from + CARD_DIGITS.end + 1);
        skip_digits(&text[..limit], from)
    };
    let end = group_end(start);
    let digits = end - start;
    if start.checked_sub(1).is_some_and(|before| is_word(text[before]) || text[before] == b'.') {
        return end;
    }
    if CARD_DIGITS.contains(&digits) && !text.get(end).is_some_and(|byte| is_word(*byte)) {
        found(start..end);
        return end;
    }
    if digits != 4 {
        return end;
    }
    let (mut total, mut last) = (digits, end);
    let (mut ends, mut count) = ([0; GROUPS], 0);
    let mut sizes = [digits; GROUPS];
    for group in 1..GROUPS {
        if !matches!(text.get(last), Some(b' ' | b'-')) || !digit(last + 1) {
            break;
        }
        let next = group_end(last + 1);
        let size = next - (last + 1);
        if !(2..=6).contains(&size) || total + size >= CARD_DIGITS.end {
            break;
        }
        (total, last) = (total + size, next);
        sizes[group] = size;
        if PRINTED.contains(&&sizes[..=group]) && !text.get(last).is_some_and(|byte| is_word(*byte)) {
            ends[count] = last;
            count += 1;
        }
    }
    // The longest first: a shorter number may be the beginning of it.
    for end in ends[..count].iter().rev() {
        found(start..*end);
    }
    end
}

fn skip_digits(text: &[u8], at: usize) -> usize {
    text[at..].iter().position(|byte| !byte.is_ascii_digit()).map_or(text.len(), |offset| at + offset)
}

fn dotted_quad(text: &[u8], dot: usize, done: usize, found: &mut impl FnMut(Range<usize>)) -> usize {
    let start =
        (done.max(dot.saturating_sub(4))..dot).rev().take_while(|at| text[*at].is_ascii_digit()).last();
    let Some(start) = start else { return done };
    let reach = text[dot..]
        .iter()
        .position(|byte| !byte.is_ascii_digit() && *byte != b'.')
        .map_or(text.len(), |offset| dot + offset);
    // A full stop may follow an address.
    let end = if text[reach - 1] == b'.' { reach - 1 } else { reach };
    let before = start.checked_sub(1).map(|at| text[at]);
    let quad = &text[start..end];
    if quad.len() <= 15
        && memchr::memchr_iter(b'.', quad).count() == 3
        && !before.is_some_and(|byte| is_word(byte) || byte == b'.' || byte == b'-')
        && !text.get(end).is_some_and(|byte| is_word(*byte) || *byte == b'-')
    {
        found(start..end);
    }
    reach
}

fn hex_colon(text: &[u8], colon: usize, done: usize, found: &mut impl FnMut(Range<usize>)) -> usize {
    /// The longest text form of an IPv6 address.
    const LONGEST: usize = 45;
    // Most colons stand between a key and a value.
    let next = text.get(colon + 1).copied().unwrap_or_default();
    if !(next == b':' || next.is_ascii_hexdigit()) {
        return done;
    }
    let start = (done.max(colon.saturating_sub(5))..colon)
        .rev()
        .take_while(|at| text[*at].is_ascii_hexdigit())
        .last()
        .unwrap_or(colon);
    let reach = text[colon..]
        .iter()
        .position(|byte| !byte.is_ascii_hexdigit() && !matches!(byte, b':' | b'.'))
        .map_or(text.len(), |offset| colon + offset);
    let mut end = reach;
    while end > colon && (text[end - 1] == b'.' || (text[end - 1] == b':' && !text[..end].ends_with(b"::"))) {
        end -= 1;
    }
    let before = start.checked_sub(1).map(|at| text[at]);
    if end - start <= LONGEST
        && memchr::memchr_iter(b':', &text[start..end]).count() >= 2
        && !before.is_some_and(|byte| is_word(byte) || byte == b':' || byte == b'.')
        && !text.get(end).is_some_and(|byte| is_word(*byte))
    {
        found(start..end);
    }
    reach
}

fn iban_head(text: &[u8], at: usize, found: &mut impl FnMut(Range<usize>)) -> usize {
    let Some(head) = text[at..].first_chunk::<4>() else { return at };
    let is_upper = head[0].is_ascii_uppercase();
    let same_case = |byte: u8| if is_upper { byte.is_ascii_uppercase() } else { byte.is_ascii_lowercase() };
    let is_head = same_case(head[0]) && same_case(head[1]) && head[2..].iter().all(u8::is_ascii_digit);
    if !is_head || at.checked_sub(1).is_some_and(|before| is_word(text[before])) {
        return at;
    }
    // The country says how long it is; printed ones have a space after every fourth character.
    let Some(length) = iban_length(head) else { return at };
    let (mut end, mut characters) = (at, 0);
    while characters < length {
        match text.get(end) {
            Some(byte) if same_case(*byte) || byte.is_ascii_digit() => characters += 1,
            Some(b' ') if characters % 4 == 0 && text[end - 1] != b' ' => {}
            _ => break,
        }
        end += 1;
    }
    if characters == length && !text.get(end).is_some_and(|byte| is_word(*byte)) {
        found(at..end);
    }
    at
}

/// `exchange` is where three digits, a gap and four digits begin.
fn phone_groups(text: &[u8], exchange: usize, found: &mut impl FnMut(Range<usize>)) -> usize {
    /// An exchange, a gap and a line.
    const TAIL: usize = 8;
    let is_gap = |byte: u8| matches!(byte, b' ' | b'-' | b'.');
    let end = exchange + TAIL;
    if text.get(end).is_some_and(|byte| is_word(*byte) || *byte == b'-') {
        return exchange;
    }
    let Some(start) = area_start(text, exchange) else { return exchange };
    // The country's own number, which some write in front.
    let start = match text[..start] {
        [.., b'1', gap] if is_gap(gap) => start - 2,
        _ => start,
    };
    let before = start.checked_sub(1).map(|before| text[before]);
    if before.is_some_and(|byte| is_word(byte) || matches!(byte, b'+' | b'-' | b'.' | b'/')) {
        return exchange;
    }
    found(start..end);
    end
}

/// Where the area code begins that stands before `exchange`: `(415) `, `(415)`, `415-`, `415.`, `415 `.
fn area_start(text: &[u8], exchange: usize) -> Option<usize> {
    let head = &text[exchange.saturating_sub(6)..exchange];
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    let length = match head {
        [.., b'(', a, b, c, b')', b' '] if digits(&[*a, *b, *c]) => 6,
        [.., b'(', a, b, c, b')'] if digits(&[*a, *b, *c]) => 5,
        [.., a, b, c, b' ' | b'-' | b'.'] if digits(&[*a, *b, *c]) => 4,
        _ => return None,
    };
    Some(exchange - length)
}

fn url_userinfo(text: &[u8], found: &mut impl FnMut(Range<usize>)) {
    /// Longer user information is a token, and other rules know those.
    const LONGEST: usize = 512;
    let mut done = 0;
    for slashes in SLASHES.find_iter(text) {
        let scheme = (done.max(slashes.saturating_sub(24))..slashes)
            .rev()
            .take_while(|at| text[*at].is_ascii_alphanumeric() || matches!(text[*at], b'+' | b'.' | b'-'))
            .last();
        let Some(scheme) = scheme else { continue };
        let from = slashes + 3;
        let limit = text.len().min(from + LONGEST);
        let end = (from..limit)
            .find(|at| {
                matches!(text[*at], b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>' | b'\\')
                    || text[*at].is_ascii_whitespace()
            })
            .unwrap_or(limit);
        done = end;
        // A password may hold an `@` once its percent escapes were undone; a host does not.
        let Some(at) = memchr::memrchr(b'@', &text[from..end]).map(|offset| from + offset) else { continue };
        if memchr::memchr(b':', &text[from..at]).is_some() {
            found(scheme..at + 1);
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(finder: Finder, text: &str) -> Vec<&str> {
        let mut hits = Vec::new();
        find_all([finder].iter(), text.as_bytes(), |_, range| hits.push(&text[range]));
        hits
    }

    #[test]
    fn digit_runs_are_card_shaped() {
        assert_eq!(all(Finder::DigitRun, "x 4012888888881881."), ["4012888888881881"]);
        assert!(all(Finder::DigitRun, "card 4012 8888 8888 1881 2026").contains(&"4012 8888 8888 1881"));
        assert_eq!(all(Finder::DigitRun, "3782-822463-10005"), ["3782-822463-10005"]);
        assert!(
            all(Finder::DigitRun, "0.14000000000000001 a4012888888881881 12345678901234567890").is_empty()
        );
    }

    #[test]
    fn quads_have_four_groups() {
        assert_eq!(
            all(Finder::DottedQuad, "a 10.42.7.19:5432, 1.2.3.4.5 and 10.0.0.1."),
            ["10.42.7.19", "10.0.0.1"]
        );
        assert!(all(Finder::DottedQuad, "v1.2.3.4 .1.2.3.4 2.1.329 1.2.3.4-rc").is_empty());
    }

    #[test]
    fn hex_colons_stand_alone() {
        assert_eq!(all(Finder::HexColon, "peer 2001:db8::7334 up"), ["2001:db8::7334"]);
        assert_eq!(all(Finder::HexColon, "[fe80::1]:80"), ["fe80::1"]);
        assert!(all(Finder::HexColon, "std::collections::HashMap a:b").is_empty());
    }

    #[test]
    fn iban_heads_begin_words() {
        assert_eq!(
            all(Finder::IbanHead, "DE89 3704 0044 0532 0130 00 PLEASE"),
            ["DE89 3704 0044 0532 0130 00"]
        );
        assert!(all(Finder::IbanHead, "xDE89370400440532013000 AB12 DE89 3704").is_empty());
    }

    #[test]
    fn ibans_may_be_lower_case() {
        assert_eq!(all(Finder::IbanHead, "de89 3704 0044 0532 0130 00"), ["de89 3704 0044 0532 0130 00"]);
        assert!(all(Finder::IbanHead, "dE89370400440532013000 de8937040044053201300X").is_empty());
    }

    #[test]
    fn phone_groups_have_an_area() {
        let text = "(415) 555-0132, 415-555-0132; 1.415.555.0132 (415)555 0132";
        assert_eq!(
            all(Finder::PhoneGroups, text),
            ["(415) 555-0132", "415-555-0132", "1.415.555.0132", "(415)555 0132"]
        );
        assert!(all(Finder::PhoneGroups, "555-0132 +1-415-555-0132 9415-555-0132 415-555-01321").is_empty());
    }

    #[test]
    fn groups_that_no_issuer_prints_are_passed_over() {
        assert!(all(Finder::DigitRun, "3928 2004 6275 597 and 4012 888 888 8881 881").is_empty());
    }

    #[test]
    fn of_two_card_numbers_the_longer_one_comes_first() {
        assert_eq!(
            all(Finder::DigitRun, "4732 6420 0907 3236 910"),
            ["4732 6420 0907 3236 910", "4732 6420 0907 3236"]
        );
    }

    #[test]
    fn user_information_has_a_password() {
        assert_eq!(all(Finder::UrlUserinfo, "db=postgres://u:p@h/x"), ["postgres://u:p@"]);
        assert!(all(Finder::UrlUserinfo, "https://h:80/a@b https://u@h").is_empty());
    }
}
