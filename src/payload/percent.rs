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
    }
    is_changed && is_text
}

/// Whether anything in `raw` reads as an escape.
pub(super) fn has_escape(raw: &[u8]) -> bool {
    memchr::memchr_iter(b'%', raw).any(|at| read_escape(&raw[at..]).is_some())
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
        let mut copy = Copy::at_end_of(&out);
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
