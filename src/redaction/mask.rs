//! Fillers in the place of characters. They are letters: nothing that a rule takes for a number or an address.

/// Stands for one character.
const FILLER: char = 'x';

/// As many as stand for any number of characters.
const FILLERS: &str = "xxxx";

/// Says that there was more.
const MORE: &str = "...";

/// Keeps the ends, and puts a fixed filler between them. Ends that would be half of the value or more are not kept.
pub(super) fn mask(value: &[u8], keep_first: usize, keep_last: usize) -> String {
    let text = String::from_utf8_lossy(value);
    let count = text.chars().count();
    let (first, rest) = split(&text, keep_first);
    let is_masked = count == keep_first + FILLERS.len() + keep_last && rest.starts_with(FILLERS);
    if is_masked {
        return text.into_owned();
    }
    if count <= 2 * (keep_first + keep_last) {
        return FILLERS.to_owned();
    }
    format!("{first}{FILLERS}{}", split(&text, count - keep_last).1)
}

/// Keeps the ends, and puts as many fillers between them as there were characters.
pub(super) fn same_length(value: &[u8], keep_first: usize, keep_last: usize) -> String {
    let text = String::from_utf8_lossy(value);
    let count = text.chars().count();
    let is_short = count <= 2 * (keep_first + keep_last);
    let kept = |at: usize| !is_short && (at < keep_first || at >= count - keep_last);
    text.chars().enumerate().map(|(at, char)| if kept(at) { char } else { FILLER }).collect()
}

/// Keeps the start, and says that there was more.
pub(super) fn truncate(value: &[u8], keep: usize) -> String {
    let text = String::from_utf8_lossy(value);
    let (first, rest) = split(&text, keep);
    if rest.is_empty() || rest == MORE {
        return text.into_owned();
    }
    format!("{first}{MORE}")
}

/// The first `count` characters, and the others.
fn split(text: &str, count: usize) -> (&str, &str) {
    let at = text.char_indices().nth(count).map_or(text.len(), |(at, _)| at);
    text.split_at(at)
}
