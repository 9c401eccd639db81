use std::collections::BTreeMap;

use serde::Serialize;

/// Columns of the picture: what 80 characters or 390 pixels can show.
const COLUMNS: i64 = 60;
/// Widths of a column, in milliseconds, that people can name.
const STEPS: [i64; 12] = [
    1_000,
    5_000,
    15_000,
    60_000,
    5 * 60_000,
    15 * 60_000,
    3_600_000,
    6 * 3_600_000,
    24 * 3_600_000,
    7 * 24 * 3_600_000,
    30 * 24 * 3_600_000,
    365 * 24 * 3_600_000,
];

/// Requests and bytes over time. A column grows wider as the observation grows longer, so it needs no second look at
/// the records and no memory for each of them.
#[derive(Clone, Debug, Serialize)]
pub struct Timeline {
    /// How much time a column stands for, in milliseconds.
    pub step_ms: i64,
    /// By the number of the step since 1970, and by destination.
    buckets: BTreeMap<i64, BTreeMap<String, Bucket>>,
}

/// What was sent to one destination in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// How many requests.
    pub requests: u64,
    /// Bytes of their bodies.
    pub request_bytes: u64,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { step_ms: STEPS[0], buckets: BTreeMap::new() }
    }
}

impl Timeline {
    pub(super) fn add(&mut self, time_ms: i64, destination: &str, bytes: u64) {
        let place = time_ms.div_euclid(self.step_ms);
        let bucket = self.buckets.entry(place).or_default().entry(destination.to_owned()).or_default();
        bucket.requests += 1;
        bucket.request_bytes += bytes;
        while self.columns() > COLUMNS && self.widen() {}
    }

    /// How many columns there are, from the first to the last.
    pub(super) fn columns(&self) -> i64 {
        match (self.buckets.first_key_value(), self.buckets.last_key_value()) {
            (Some((first, _)), Some((last, _))) => last.saturating_sub(*first).saturating_add(1),
            _ => 0,
        }
    }

    /// Every column that holds something: its place from the first one, its start in milliseconds since 1970, and what
    /// it holds.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, i64, &BTreeMap<String, Bucket>)> {
        let first = self.buckets.first_key_value().map_or(0, |(first, _)| *first);
        self.buckets.iter().map(move |(place, buckets)| {
            (place.saturating_sub(first), place.saturating_mul(self.step_ms), buckets)
        })
    }

    /// Takes the next width; false at the last one.
    fn widen(&mut self) -> bool {
        let Some(step) = STEPS.into_iter().find(|step| *step > self.step_ms) else { return false };
        let old = std::mem::take(&mut self.buckets);
        for (place, destinations) in old {
            let place = place.saturating_mul(self.step_ms).div_euclid(step);
            let column = self.buckets.entry(place).or_default();
            for (destination, bucket) in destinations {
                let sum = column.entry(destination).or_default();
                sum.requests += bucket.requests;
                sum.request_bytes += bucket.request_bytes;
            }
        }
        self.step_ms = step;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_observation_has_wider_columns_and_loses_nothing() {
        let mut timeline = Timeline::default();

        for minute in 0..600 {
            timeline.add(minute * 60_000, "a", 10);
        }

        assert!(timeline.columns() <= COLUMNS, "{}", timeline.columns());
        assert_eq!(timeline.step_ms, 15 * 60_000);
        let sum: u64 = timeline.iter().map(|(.., column)| column["a"].requests).sum();
        assert_eq!(sum, 600);
    }

    #[test]
    fn times_that_make_no_sense_are_counted_too() {
        let mut timeline = Timeline::default();

        timeline.add(i64::MIN, "a", 1);
        timeline.add(i64::MAX, "a", 1);

        let sum: u64 = timeline.iter().map(|(.., column)| column["a"].requests).sum();
        assert_eq!(sum, 2);
    }
}
