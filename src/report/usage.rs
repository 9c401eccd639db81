use std::fmt::Write as _;

use crate::claude::{PlanUsage, UsageWindow};

/// How colours are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageColours {
    /// Escape sequences of a terminal.
    Ansi,
    /// Not at all.
    None,
    /// As in tmux's status line.
    Tmux,
}

/// A template asks for something that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no `{{{0}}}`; known are WINDOW.percent, WINDOW.gauge, WINDOW.reset, WINDOW.colour, off, age"
)]
pub struct UnknownPlaceholder(String);

/// What is shown besides the usage itself.
#[derive(Clone, Copy, Debug)]
pub struct UsageView {
    /// Now, in milliseconds since 1970 (UTC).
    pub now_ms: i64,
    /// When the usage was told.
    pub told_ms: i64,
    /// From these percentages on it is yellow, and red.
    pub thresholds: (f64, f64),
    /// How colours are written.
    pub colours: UsageColours,
}

/// One line: each window with gauge, percentage and countdown, and how old that is.
pub fn usage_line(usage: &PlanUsage, view: &UsageView, reset_ms: impl Fn(&str) -> Option<i64>) -> String {
    let mut line = String::new();
    for window in &usage.windows {
        let short = short_name(&window.name);
        let (on, off) = (view.colour(window), view.off());
        let _ = write!(line, "{short} {on}{} {}%{off}", gauge(window.percent), percent(window));
        if let Some(left) = countdown(window, view, &reset_ms) {
            let _ = write!(line, " {left}");
        }
        line.push_str(" · ");
    }
    let _ = write!(line, "{} ago", age(view));
    line
}

/// A template filled in. A window that the service did not name is `-`.
///
/// # Errors
/// The first placeholder that means nothing.
pub fn usage_template(
    template: &str,
    usage: &PlanUsage,
    view: &UsageView,
    reset_ms: impl Fn(&str) -> Option<i64>,
) -> Result<String, UnknownPlaceholder> {
    let mut filled = String::new();
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let (before, after) = rest.split_at(start);
        filled.push_str(before);
        let Some(end) = after.find('}') else {
            filled.push_str(after);
            return Ok(filled);
        };
        let name = &after[1..end];
        rest = &after[end + 1..];
        let unknown = || UnknownPlaceholder(name.to_owned());
        match name {
            "age" => filled.push_str(&age(view)),
            "off" => filled.push_str(view.off()),
            _ => {
                let (window, what) = name.rsplit_once('.').ok_or_else(unknown)?;
                if !matches!(what, "percent" | "gauge" | "reset" | "colour" | "color") {
                    return Err(unknown());
                }
                let Some(window) = usage.window(window) else {
                    filled.push('-');
                    continue;
                };
                match what {
                    "percent" => filled.push_str(&percent(window)),
                    "gauge" => filled.push_str(&gauge(window.percent)),
                    "reset" => filled.push_str(countdown(window, view, &reset_ms).as_deref().unwrap_or("-")),
                    _ => filled.push_str(view.colour(window)),
                }
            }
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

impl UsageView {
    fn colour(&self, window: &UsageWindow) -> &'static str {
        let (warn, alert) = self.thresholds;
        let level = usize::from(window.percent >= warn) + usize::from(window.percent >= alert);
        match self.colours {
            UsageColours::Ansi => ["\x1b[32m", "\x1b[33m", "\x1b[31m"][level],
            UsageColours::None => "",
            UsageColours::Tmux => ["#[fg=green]", "#[fg=yellow]", "#[fg=red]"][level],
        }
    }

    const fn off(&self) -> &'static str {
        match self.colours {
            UsageColours::Ansi => "\x1b[0m",
            UsageColours::None => "",
            UsageColours::Tmux => "#[default]",
        }
    }
}

fn short_name(name: &str) -> &str {
    match name {
        "five_hour" => "5h",
        "seven_day" => "7d",
        "extra_usage" => "extra",
        name => name.strip_prefix("seven_day_").unwrap_or(name),
    }
}

fn percent(window: &UsageWindow) -> String {
    format!("{:.0}", window.percent)
}

fn gauge(percent: f64) -> String {
    let full = (percent / 100.0 * GAUGE_CELLS as f64).round().clamp(0.0, GAUGE_CELLS as f64) as usize;
    "▓".repeat(full) + &"░".repeat(GAUGE_CELLS - full)
}

/// Until the window starts anew; `reset` once it has, for then the percentage is of the window before.
fn countdown(
    window: &UsageWindow,
    view: &UsageView,
    reset_ms: &impl Fn(&str) -> Option<i64>,
) -> Option<String> {
    let left_ms = reset_ms(window.resets_at.as_deref()?)? - view.now_ms;
    Some(if left_ms <= 0 { "reset".to_owned() } else { duration(left_ms) })
}

fn age(view: &UsageView) -> String {
    duration((view.now_ms - view.told_ms).max(0))
}

/// In the two largest units that count: `3d4h`, `2h13m`, `9m`, `40s`.
fn duration(ms: i64) -> String {
    let secs = ms / 1000;
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, minutes) => format!("{hours}h{minutes:02}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

/// Cells of a gauge: one for each eighth.
const GAUGE_CELLS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn usage() -> PlanUsage {
        let window = |name: &str, percent, resets_at: Option<&str>| UsageWindow {
            name: name.to_owned(),
            percent,
            resets_at: resets_at.map(str::to_owned),
        };
        PlanUsage {
            windows: vec![
                window("five_hour", 37.4, Some("soon")),
                window("seven_day", 91.0, Some("later")),
                window("extra_usage", 75.0, None),
            ],
        }
    }

    fn view(colours: UsageColours) -> UsageView {
        UsageView { now_ms: 10 * HOUR_MS, told_ms: 10 * HOUR_MS - 720_000, thresholds: (70.0, 90.0), colours }
    }

    fn reset_ms(text: &str) -> Option<i64> {
        match text {
            "soon" => Some(12 * HOUR_MS + 780_000),
            "later" => Some(86 * HOUR_MS),
            "past" => Some(9 * HOUR_MS),
            _ => None,
        }
    }

    #[test]
    fn the_line_has_gauges_countdowns_and_the_age_of_what_it_says() {
        let line = usage_line(&usage(), &view(UsageColours::None), reset_ms);

        assert_eq!(line, "5h ▓▓▓░░░░░ 37% 2h13m · 7d ▓▓▓▓▓▓▓░ 91% 3d4h · extra ▓▓▓▓▓▓░░ 75% · 12m ago");
    }

    #[test]
    fn colours_go_by_threshold_and_are_written_as_asked() {
        let tmux = usage_line(&usage(), &view(UsageColours::Tmux), reset_ms);
        let ansi = usage_line(&usage(), &view(UsageColours::Ansi), reset_ms);

        assert!(tmux.starts_with("5h #[fg=green]▓▓▓░░░░░ 37%#[default] 2h13m"), "{tmux}");
        assert!(tmux.contains("7d #[fg=red]") && tmux.contains("extra #[fg=yellow]"), "{tmux}");
        assert!(ansi.contains("7d \x1b[31m▓▓▓▓▓▓▓░ 91%\x1b[0m"), "{ansi:?}");
    }

    #[test]
    fn a_template_is_filled_in() {
        let fill = |template: &str| usage_template(template, &usage(), &view(UsageColours::None), reset_ms);

        assert_eq!(
            fill("{five_hour.percent}% {five_hour.reset} {extra_usage.reset} {weekly.percent} {age} {")
                .unwrap(),
            "37% 2h13m - - 12m {"
        );
        assert_eq!(fill("{five_hour.size}"), Err(UnknownPlaceholder("five_hour.size".to_owned())));
        assert!(fill("{nothing}").unwrap_err().to_string().contains("there is no `{nothing}`"));
    }

    #[test]
    fn a_window_that_has_started_anew_says_so() {
        let usage = PlanUsage {
            windows: vec![UsageWindow {
                name: "five_hour".into(),
                percent: 200.0,
                resets_at: Some("past".into()),
            }],
        };

        let line = usage_line(&usage, &view(UsageColours::None), reset_ms);

        assert_eq!(line, "5h ▓▓▓▓▓▓▓▓ 200% reset · 12m ago");
    }
}
