use std::ops::Range;

use crate::payload::escape::Copy;

/// Appends what `raw`, which stands at `offset` of its text, reads without percent escapes; `false` and nothing
/// appended when there are none, or when what they give is no text. A `%` without two digits stays as it is.
pub(super) fn decode(raw: &[u8], offset: usize, out: &mut Vec<u8>, copy: &mut Copy) -> bool {
    let start = out.len();
    let (mut run, mut at) = (0, 0);
    while let Some(found) = memchr::memchr(b'%', &raw[at..]) {
        at += found;
        let Some(byte) = read_escape(&raw[at..]) else {
            at += 1;
            continue;
        };
        copy.run(out, &raw[run..at], offset + run);
        copy.unit(out, &[byte], offset + at);
        at += 3;
        run = at;
    }
    let is_changed = run > 0;
    copy.run(out, &raw[run..], offset + run);
    copy.end(out, offset + raw.len());
    // A character may be cut off at the end, as values often are.
    let is_text =
        std::str::from_utf8(&out[start..]).map_or_else(|error| error.error_len().is_none(), |_| true);
    if !(is_changed && is_text) {
        out.truncate(start);
        copy.give_up();
    }
    is_changed && is_text
}

/// Appends what `raw` reads without percent escapes, whatever that gives: they are the format's own. Otherwise as
/// [`escape::unescape`](super::escape::unescape).
pub(super) fn unescape(raw: &[u8], offset: usize, out: &mut Vec<u8>, copy: &mut Copy, room: usize) -> bool {
    undo(raw, offset, out, copy, room, false)
}

/// As [`unescape`], with `+` for a space.
pub(super) fn unescape_form(
    raw: &[u8],
    offset: usize,
    out: &mut Vec<u8>,
    copy: &mut Copy,
    room: usize,
) -> bool {
    undo(raw, offset, out, copy, room, true)
}

fn undo(
    raw: &[u8],
    offset: usize,
    out: &mut Vec<u8>,
    copy: &mut Copy,
    room: usize,
    plus_is_space: bool,
) -> bool {
    let (mut run, mut at) = (0, 0);
    let plus = if plus_is_space { b'+' } else { b'%' };
    while let Some(found) = memchr::memchr2(b'%', plus, &raw[at..]) {
        at += found;
        let (byte, length) = match (raw[at], read_escape(&raw[at..])) {
            (b'+', _) => (b' ', 1),
            (_, Some(byte)) => (byte, 3),
            (_, None) => {
                at += 1;
                continue;
            }
        };
        if copy.size(out) + (at - run) > room {
            copy.end(out, offset + run);
            return false;
        }
        copy.run(out, &raw[run..at], offset + run);
        copy.unit(out, &[byte], offset + at);
        at += length;
        run = at;
    }
    let fits = copy.size(out) + (raw.len() - run) <= room;
    if fits {
        copy.run(out, &raw[run..], offset + run);
        run = raw.len();
    }
    copy.end(out, offset + run);
    fits
}

/// Whether anything in `raw` reads as an escape.
pub(super) fn has_escape(raw: &[u8]) -> bool {
    memchr::memchr_iter(b'%', raw).any(|at| read_escape(&raw[at..]).is_some())
}

/// Finds out which strings of a text have escapes, with one look at the text for all of them.
pub(super) struct Escapes<'t> {
    text: &'t [u8],
    /// Where was looked from.
    from: usize,
    /// The next `%` from there.
    next: usize,
}

impl<'t> Escapes<'t> {
    pub(super) fn of(text: &'t [u8]) -> Self {
        // Nothing has been looked at.
        Self { text, from: usize::MAX, next: 0 }
    }

    /// Whether anything in `range` reads as an escape. Cheap when ranges come in order, right in any.
    #[inline]
    pub(super) fn stand_in(&mut self, range: &Range<usize>) -> bool {
        if self.from <= range.start && self.next >= range.end {
            return false;
        }
        self.search(range)
    }

    fn search(&mut self, range: &Range<usize>) -> bool {
        if self.from > range.start || self.next < range.start {
            self.seek(range.start);
        }
        self.next < range.end && has_escape(&self.text[range.clone()])
    }

    fn seek(&mut self, from: usize) {
        self.from = from;
        self.next = memchr::memchr(b'%', &self.text[from..]).map_or(usize::MAX, |at| from + at);
    }
}

fn read_escape(raw: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = raw else {
        return None;
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    Some((digit(high)? << 4 | digit(low)?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(raw: &str) -> Option<String> {
        let mut out = Vec::new();
        let mut copy = Copy::default();
        decode(raw.as_bytes(), 0, &mut out, &mut copy).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn escapes_become_their_bytes() {
        assert_eq!(decoded("bob%40example.com%2F%C3%a9").as_deref(), Some("bob@example.com/é"));
        assert_eq!(decoded("100% of %41 and %4").as_deref(), Some("100% of A and %4"));
    }

    #[test]
    fn what_is_no_percent_text_is_left_alone() {
        for raw in ["100%", "50% off", "%zz", "load %ff of it", "plain", ""] {
            assert_eq!(decoded(raw), None, "{raw}");
        }
    }
}
