//! A small labelled corpus against the shipped rules. `tests/quality` measures a large one; docs/DETECTION.md tells.

use plainsight::rules::{RuleSet, embedded};

use crate::corpus::{self, Score, Scorer};

/// Another seed than the one of the published table.
const SEED: u64 = 7;

/// Values of each class: each carrier meets each depth once.
const PER_CLASS: usize = 81;

fn shipped() -> RuleSet {
    RuleSet::from_sources(&embedded()).expect("the shipped rules load")
}

/// Shares of all values that were found, and of all hits that are values.
fn recall_and_precision(score: &Score) -> (f64, f64) {
    let sum = |count: fn(&corpus::Tally) -> u64| score.classes.values().map(count).sum::<u64>() as f64;
    let (planted, found) = (sum(|tally| tally.planted), sum(|tally| tally.found));
    (found / planted, found / (found + sum(|tally| tally.false_positives)))
}

#[test]
fn labelled_values_are_found_in_every_carrier_and_depth() {
    let rules = shipped();

    let score = Scorer::new(&rules).score(&corpus::positives(SEED, PER_CLASS));

    let (recall, precision) = recall_and_precision(&score);
    assert!(recall >= 0.99, "{recall}: {:?}", score.misses.iter().take(9).collect::<Vec<_>>());
    assert!(precision >= 0.99, "{precision}: {:?}", score.inventions.iter().take(9).collect::<Vec<_>>());
    for (class, tally) in score.classes.iter().filter(|(_, tally)| tally.planted > 0) {
        assert!(tally.found as f64 >= 0.95 * tally.planted as f64, "{class}: {tally:?}");
    }
}

#[test]
fn hard_negatives_are_left_alone() {
    let rules = shipped();

    let score = Scorer::new(&rules).score(&corpus::negatives(SEED, 2000));

    assert!(score.inventions.len() <= 2, "{:?}", score.inventions);
}

#[test]
fn shapes_from_documentation_are_found() {
    let rules = shipped();

    let score = Scorer::new(&rules).score(&corpus::examples(SEED));

    let (recall, precision) = recall_and_precision(&score);
    assert!(recall >= 0.97 && precision >= 0.99, "{recall} {precision}: {:?}", score.misses);
}
