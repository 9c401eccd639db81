//! The results as a Markdown table.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    measures::{Measure, Metric},
    statistics::median,
    subject::Subject,
};

/// Everything that a run saw.
#[derive(Default)]
pub struct Results {
    failures: Vec<(Measure, Subject, String)>,
    notes: Vec<String>,
    samples: BTreeMap<Metric, BTreeMap<Subject, Vec<f64>>>,
}

impl Results {
    /// Keeps one sample.
    pub fn add(&mut self, metric: Metric, subject: Subject, value: f64) {
        self.samples.entry(metric).or_default().entry(subject).or_default().push(value);
    }

    /// Keeps what went wrong.
    pub fn fail(&mut self, measure: Measure, subject: Subject, failure: String) {
        self.failures.push((measure, subject, failure));
    }

    /// Keeps a sentence to say beneath the table.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// The table: medians with their extremes, then the ratios, then what failed.
    pub fn markdown(&self, subjects: &[Subject]) -> String {
        let mut text = String::from("| row | better |");
        for subject in subjects {
            let _ = write!(text, " {} |", subject.title());
        }
        text.push_str(" plainsight ÷ hudsucker as shipped | plainsight ÷ hudsucker + NODELAY |\n|---|---|");
        text.push_str(&"---:|".repeat(subjects.len() + 2));
        text.push('\n');
        for (metric, row) in &self.samples {
            let better = if metric.is_better_higher() { "higher" } else { "lower" };
            let _ = write!(text, "| {} | {better} |", metric.title());
            for subject in subjects {
                let _ = write!(text, " {} |", cell(*metric, *subject, row.get(subject)));
            }
            for peer in [Subject::Hudsucker, Subject::HudsuckerNoDelay] {
                let _ = write!(text, " {} |", ratio(*metric, row.get(&Subject::Plainsight), row.get(&peer)));
            }
            text.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(text, "\n{note}");
        }
        for (measure, subject, failure) in &self.failures {
            let _ = writeln!(text, "\n**Failed**: {} on {}: {failure}", measure.id(), subject.title());
        }
        text
    }
}

fn cell(metric: Metric, subject: Subject, samples: Option<&Vec<f64>>) -> String {
    let Some(samples) = samples else { return "–".into() };
    let low = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let high = samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let whole = if metric.is_added() && subject == Subject::Direct { " in all" } else { "" };
    format!("{}{whole} ({}–{})", number(median(samples)), number(low), number(high))
}

/// The ratio of medians, marked when the product is on the wrong side of 1. None where the peer's value is too near to
/// nothing to divide by.
fn ratio(metric: Metric, ours: Option<&Vec<f64>>, peer: Option<&Vec<f64>>) -> String {
    let (Some(ours), Some(peer)) = (ours, peer) else { return "–".into() };
    let (ours, peer) = (median(ours), median(peer));
    if peer <= 0.0 {
        return "n/a".into();
    }
    let ratio = ours / peer;
    let worse = if metric.is_better_higher() { ratio < 1.0 } else { ratio > 1.0 };
    format!("{ratio:.2}{}", if worse { " ▼" } else { "" })
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 10_000.0 => format!("{:.1} k", value / 1_000.0),
        size if size >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_on_the_wrong_side_is_marked_by_the_rows_direction() {
        let (two, four) = (vec![2.0], vec![4.0]);

        assert_eq!(ratio(Metric::Requests, Some(&two), Some(&four)), "0.50 ▼");
        assert_eq!(ratio(Metric::Requests, Some(&four), Some(&two)), "2.00");
        assert_eq!(ratio(Metric::Idle, Some(&four), Some(&two)), "2.00 ▼");
        assert_eq!(ratio(Metric::Idle, Some(&two), None), "–");
        assert_eq!(ratio(Metric::StreamP50, Some(&two), Some(&vec![-1.0])), "n/a");
    }
}
