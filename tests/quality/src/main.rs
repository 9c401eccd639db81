//! `cargo run --release -- [--rules FOLDER] [--seed N] [--scale N] [--show CLASS] [--markdown]`

mod corpus;

use std::{path::PathBuf, time::Instant};

use plainsight::rules::{RuleSet, Source, embedded};

use corpus::{Score, Scorer, Tally};

struct Options {
    rules: Option<PathBuf>,
    seed: u64,
    /// Values of each class.
    scale: usize,
    /// Classes or rules of which misses and inventions are shown.
    show: Option<String>,
}

fn options() -> Options {
    let mut options = Options { rules: None, seed: 20_261_121, scale: 800, show: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        match name.as_str() {
            "--rules" => options.rules = Some(value.into()),
            "--scale" => options.scale = value.parse().expect("a number"),
            "--seed" => options.seed = value.parse().expect("a number"),
            "--show" => options.show = Some(value),
            other => panic!("unknown option {other}"),
        }
    }
    options
}

fn rules(options: &Options) -> RuleSet {
    let Some(folder) = &options.rules else {
        return RuleSet::from_sources(&embedded()).expect("the shipped rules load");
    };
    let sources: Vec<Source> = embedded()
        .into_iter()
        .map(|source| Source {
            text: std::fs::read_to_string(folder.join(&source.name)).expect("a rule file"),
            ..source
        })
        .collect();
    RuleSet::from_sources(&sources).unwrap_or_else(|error| panic!("{error}"))
}

fn main() {
    let options = options();
    let rules = rules(&options);
    for failure in rules.prove() {
        println!("SAMPLE {failure}");
    }
    let begin = Instant::now();
    let positives = corpus::positives(options.seed, options.scale);
    let negatives = corpus::negatives(options.seed, options.scale * 50);
    let examples = corpus::examples(options.seed);
    let mut scorer = Scorer::new(&rules);

    let mut score = scorer.score(&positives);
    let clean = scorer.score(&negatives);
    let by_hand = scorer.score(&examples);
    for (class, tally) in &clean.classes {
        score.classes.entry(class.clone()).or_default().false_positives += tally.false_positives;
    }
    println!(
        "{} rules, seed {}, {} documents with values, {} hard negatives in {} documents ({:.1} MB), {:.1} s\n",
        rules.rules().len(),
        options.seed,
        positives.len(),
        options.scale * 50,
        negatives.len(),
        clean.bytes as f64 / 1e6,
        begin.elapsed().as_secs_f64()
    );
    table(&score);
    rows("depth", score.depths.iter());
    rows("carrier", score.carriers.iter());
    let invented = clean.inventions.len();
    println!(
        "\nclean telemetry with hard negatives: {invented} false positives in {:.2} MB, {:.3} per MB",
        clean.bytes as f64 / 1e6,
        invented as f64 / (clean.bytes as f64 / 1e6)
    );
    println!("\nexamples by hand");
    table(&by_hand);
    for miss in &by_hand.misses {
        println!("  missed {} {} {}: {:?}", miss[0], miss[1], miss[2], miss[3]);
    }
    for invention in &by_hand.inventions {
        println!("  invented {} {}: {:?}", invention[0], invention[1], invention[2]);
    }
    if let Some(show) = &options.show {
        for miss in
            score.misses.iter().filter(|miss| show == "all" || miss[0] == *show || miss[1] == *show).take(60)
        {
            println!("missed {} {} {}: {:?}", miss[0], miss[1], miss[2], miss[3]);
        }
        for invention in score
            .inventions
            .iter()
            .chain(&clean.inventions)
            .filter(|it| show == "all" || it[0] == *show)
            .take(60)
        {
            println!("invented {} {}: {:?}", invention[0], invention[1], invention[2]);
        }
    }
}

fn table(score: &Score) {
    println!(
        "| {:26} | {:>7} | {:>22} | {:>22} | {:>6} | {:>7} | {:>7} |",
        "class", "values", "recall (95 %)", "precision (95 %)", "F2", "leak", "exact"
    );
    println!("|{:-<28}|{:-<8}:|{:-<23}:|{:-<23}:|{:-<7}:|{:-<8}:|{:-<8}:|", "", "", "", "", "", "", "");
    let mut all = Tally::default();
    for (class, tally) in &score.classes {
        line(class, tally);
        all.planted += tally.planted;
        all.found += tally.found;
        all.exact += tally.exact;
        all.false_positives += tally.false_positives;
        all.planted_bytes += tally.planted_bytes;
        all.leaked_bytes += tally.leaked_bytes;
    }
    line("all", &all);
}

fn line(class: &str, tally: &Tally) {
    let hits = tally.found + tally.false_positives;
    let (recall, precision) = (ratio(tally.found, tally.planted), ratio(tally.found, hits));
    let f2 =
        if recall + precision == 0.0 { 0.0 } else { 5.0 * precision * recall / (4.0 * precision + recall) };
    println!(
        "| {class:26} | {:>7} | {:>22} | {:>22} | {:>6.4} | {:>6.3}% | {:>7.4} |",
        tally.planted,
        interval(tally.found, tally.planted),
        interval(tally.found, hits),
        f2,
        100.0 * ratio(tally.leaked_bytes, tally.planted_bytes.max(1)),
        ratio(tally.exact, tally.planted),
    );
}

fn rows<'a>(title: &str, tallies: impl Iterator<Item = (&'a &'static str, &'a Tally)>) {
    println!("\nby {title}");
    for (name, tally) in tallies {
        println!("  {name:16} {:>7} recall {}", tally.planted, interval(tally.found, tally.planted));
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A share with Wilson's interval.
fn interval(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "none".to_owned();
    }
    const Z: f64 = 1.959_964;
    let (n, share) = (whole as f64, part as f64 / whole as f64);
    let middle = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    format!("{share:.4} ({:.4}-{:.4})", (middle - half).max(0.0), (middle + half).min(1.0))
}
