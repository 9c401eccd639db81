use std::{borrow::Cow, fmt};

use jiff::{Timestamp, tz::TimeZone};
use unicode_width::UnicodeWidthChar;

use crate::model::Severity;

/// How a report is laid out.
#[derive(Clone, Debug)]
pub struct View {
    /// Columns of the terminal. Lines are never wider, down to [`View::NARROWEST`].
    pub width: usize,
    /// Whether to write colours, as ANSI sequences.
    pub colour: bool,
    /// The time zone in which times are shown.
    pub zone: TimeZone,
}

impl View {
    /// The fewest columns that a layout is made for.
    pub const NARROWEST: usize = 40;

    /// A view in the local time zone.
    pub fn new(width: usize, colour: bool) -> Self {
        Self { width, colour, zone: TimeZone::system() }
    }

    /// The columns to lay out for.
    pub(super) fn columns(&self) -> usize {
        self.width.max(Self::NARROWEST)
    }

    /// Shows a moment in the view's time zone.
    pub(super) fn time(&self, time_ms: i64, format: &str) -> String {
        let Ok(timestamp) = Timestamp::from_millisecond(time_ms) else { return "?".to_owned() };
        timestamp.to_zoned(self.zone.clone()).strftime(format).to_string()
    }

    /// Puts text into a colour, if there are colours. The text must have its final width.
    pub(super) fn paint(&self, ink: Ink, text: impl fmt::Display) -> String {
        match ink {
            Ink::Plain => text.to_string(),
            _ if !self.colour => text.to_string(),
            _ => format!("\x1b[{}m{text}\x1b[0m", ink.code()),
        }
    }
}

/// What a piece of text is drawn with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Bold,
    Critical,
    Dim,
    Good,
    High,
    Low,
    Medium,
    Plain,
}

impl Ink {
    /// The ink of a severity.
    pub(super) const fn of(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Dim,
            Severity::Low => Self::Low,
            Severity::Medium => Self::Medium,
            Severity::High => Self::High,
            Severity::Critical => Self::Critical,
        }
    }

    const fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Critical => "1;31",
            Self::Dim => "2",
            Self::Good => "32",
            Self::High => "31",
            Self::Low => "36",
            Self::Medium => "33",
            Self::Plain => "0",
        }
    }
}

/// Makes text from the network harmless to a terminal, on one line.
///
/// Control characters become their pictures (`␛` for escape), so that they are seen; C1 controls, overrides of the
/// writing direction, separators and invisible characters become `�`. Marks that stack on one letter are cut off.
pub fn sanitize(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    let mut marks = 0;
    for character in text.chars() {
        let character = match character {
            '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(character)).unwrap_or('\u{fffd}'),
            '\x7f' => '\u{2421}',
            // Variation selectors choose a glyph, and terminals disagree on how wide it is then.
            '\u{fe00}'..='\u{fe0f}' => continue,
            _ if is_hostile(character) => '\u{fffd}',
            _ => character,
        };
        marks = if character.width() == Some(0) { marks + 1 } else { 0 };
        if marks <= STACKED_MARKS {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

const fn is_hostile(character: char) -> bool {
    matches!(
        character,
        '\u{80}'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{e000}'..='\u{f8ff}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffc}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{10ffff}'
    )
}

/// Columns that sanitised text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// Cuts sanitised text at its end to at most `columns`.
pub(super) fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut cut = take(text.chars(), columns.saturating_sub(1));
    if columns > 0 {
        cut.push('…');
    }
    Cow::Owned(cut)
}

/// Cuts sanitised text in its middle to at most `columns`.
pub(super) fn fit_middle(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns || columns < 8 {
        return fit(text, columns);
    }
    let head = take(text.chars(), (columns - 1) / 2);
    Cow::Owned(head.clone() + &fit_tail(text, columns - width(&head)))
}

/// Cuts sanitised text at its start to at most `columns`.
pub(super) fn fit_tail(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns || columns == 0 {
        return fit(text, columns);
    }
    let tail = take(text.chars().rev(), columns - 1);
    Cow::Owned(std::iter::once('…').chain(tail.chars().rev()).collect())
}

/// Cuts and pads sanitised text to exactly `columns`, flush left.
pub(super) fn left(text: &str, columns: usize) -> String {
    let text = fit(text, columns);
    let padding = columns.saturating_sub(width(&text));
    format!("{text}{:padding$}", "")
}

/// Cuts and pads sanitised text to exactly `columns`, flush right.
pub(super) fn right(text: &str, columns: usize) -> String {
    let text = fit(text, columns);
    let padding = columns.saturating_sub(width(&text));
    format!("{:padding$}{text}", "")
}

/// Shows a count with its noun: `1 tunnel`, `12,345 tunnels`.
pub(super) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", thousands(number))
}

/// Shows a number with commas.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn take(characters: impl Iterator<Item = char>, columns: usize) -> String {
    let mut left = columns;
    let mut taken = String::new();
    for character in characters {
        let Some(rest) = left.checked_sub(char_width(character)) else { break };
        left = rest;
        taken.push(character);
    }
    taken
}

fn char_width(character: char) -> usize {
    character.width().unwrap_or(0)
}

/// Accents beyond these on one letter only serve to paint over other lines.
const STACKED_MARKS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_width::UnicodeWidthStr;

    // PITFALLS 32
    #[test]
    fn nothing_that_moves_a_terminal_gets_through() {
        let hostile = "a\x1b]0;title\x07b\r\n\u{9b}2Jc\u{202e}d\u{2066}e\u{200b}f\u{7f}g\u{feff}\u{e0041}";

        let safe = sanitize(hostile);

        assert_eq!(safe, "a␛]0;title␇b␍␊�2Jc�d�e�f␡g��");
        assert!(!safe.chars().any(|character| character.is_control()));
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in ["", "plain", "Grüße", "日本語", "naïve 🎉"] {
            assert_eq!(sanitize(text), text);
        }
    }

    // PITFALLS 32
    #[test]
    fn marks_do_not_pile_up() {
        let zalgo = format!("a{}", "\u{301}".repeat(100));

        assert_eq!(sanitize(&zalgo), "a\u{301}\u{301}");
    }

    #[test]
    fn cut_text_never_exceeds_its_columns() {
        for text in [
            "日本語のパス/とても長い",
            "plain/ascii/path/of/some/length",
            "e\u{301}e\u{301}e\u{301}",
            "👩‍👩‍👧‍👧🇩🇪🇫🇷",
        ] {
            let text = sanitize(text);
            for columns in 0..20 {
                for cut in [fit(&text, columns), fit_middle(&text, columns), fit_tail(&text, columns)] {
                    assert!(cut.width() <= columns, "{cut:?} in {columns}");
                }
                assert_eq!(width(&left(&text, columns)), columns);
                assert_eq!(width(&right(&text, columns)), columns);
            }
        }
    }

    #[test]
    fn cuts_show_where_they_are() {
        assert_eq!(fit("abcdefghij", 6), "abcde…");
        assert_eq!(fit_tail("abcdefghij", 6), "…fghij");
        assert_eq!(fit_middle("abcdefghijklm", 9), "abcd…jklm");
    }

    #[test]
    fn numbers_have_commas_and_nouns() {
        assert_eq!(count(1, "request"), "1 request");
        assert_eq!(count(1_234_567, "request"), "1,234,567 requests");
    }
}
