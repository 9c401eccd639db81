use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How much of a plan is used up, as the service told the client: numbers and times, and nothing of the account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanUsage {
    /// Each window, in the order of the answer.
    pub windows: Vec<UsageWindow>,
}

/// One window of a plan, such as five hours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageWindow {
    /// What the service calls it: `five_hour`, `seven_day`, `extra_usage`.
    pub name: String,
    /// How much is used, in percent. May be over 100.
    pub percent: f64,
    /// When it starts anew, in RFC 3339.
    pub resets_at: Option<String>,
}

impl PlanUsage {
    /// Reads an answer of `GET /api/oauth/usage`. Keeps what has a utilisation; `None` if nothing has.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let answer: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let windows: Vec<UsageWindow> =
            answer.iter().filter_map(|(name, value)| window(name, value)).take(MOST_WINDOWS).collect();
        (!windows.is_empty()).then_some(Self { windows })
    }

    /// The window of this name.
    pub fn window(&self, name: &str) -> Option<&UsageWindow> {
        self.windows.iter().find(|window| window.name == name)
    }
}

fn window(name: &str, value: &Value) -> Option<UsageWindow> {
    let is_name = name.len() <= LONGEST_TEXT
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let percent =
        value.get("utilization")?.as_f64().filter(|percent| (0.0..=MOST_PERCENT).contains(percent))?;
    let is_time = |text: &&str| {
        text.len() <= LONGEST_TEXT
            && text.bytes().all(|byte| byte.is_ascii_digit() || b"-:.+TZ".contains(&byte))
    };
    let resets_at = value.get("resets_at").and_then(Value::as_str).filter(is_time).map(str::to_owned);
    is_name.then(|| UsageWindow { name: name.to_owned(), percent, resets_at })
}

/// Plans have a handful; an answer that names more is none of ours to keep.
const MOST_WINDOWS: usize = 16;
/// Names and times are shorter.
const LONGEST_TEXT: usize = 40;
/// What is beyond is no percentage.
const MOST_PERCENT: f64 = 100_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_kept_and_nothing_else() {
        let usage = PlanUsage::parse(
            br#"{"five_hour":{"utilization":37.5,"resets_at":"2026-11-21T15:00:00.1+00:00","who":"jo"},
                "seven_day":{"utilization":4,"resets_at":null},"seven_day_opus":null,"note":"jo@example.com",
                "extra_usage":{"is_enabled":true,"monthly_limit":5000,"utilization":null},
                "A name":{"utilization":1},"forged":{"utilization":1,"resets_at":"\u001b[31m"}}"#,
        )
        .unwrap();

        let kept: Vec<_> = usage
            .windows
            .iter()
            .map(|window| (window.name.as_str(), window.percent, window.resets_at.as_deref()))
            .collect();
        assert_eq!(
            kept,
            [
                ("five_hour", 37.5, Some("2026-11-21T15:00:00.1+00:00")),
                ("seven_day", 4.0, None),
                ("forged", 1.0, None),
            ]
        );
    }

    #[test]
    fn what_is_no_usage_is_none() {
        for body in ["", "[]", "{}", r#"{"five_hour":{"utilization":"37"}}"#, r#"{"error":{"type":"x"}}"#] {
            assert_eq!(PlanUsage::parse(body.as_bytes()), None, "{body}");
        }
    }
}
