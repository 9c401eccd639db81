//! `cargo run --release --locked -- [speed|quality] [--rounds N] [--rules FOLDER]`: plainsight's detection beside other
//! scanners, over the same bodies, in one run. The tables go to stdout, progress to stderr.

#[path = "../../benches-core/src/allocations.rs"]
mod allocations;
mod body;
// Made for tests/quality, which measures more of it than is looked at here.
#[allow(dead_code, unused_imports)]
#[path = "../../quality/src/corpus/mod.rs"]
mod corpus;
mod datadog;
mod product;
mod python;
mod quality;
// Made for tests/benches-core, which has more bodies.
#[allow(dead_code)]
#[path = "../../benches-core/src/bodies.rs"]
mod shapes;
mod speed;
mod tool;

use std::{
    fs,
    path::{Path, PathBuf},
};

use plainsight::rules::{RuleSet, Source, embedded};

use python::{Kingfisher, Python, Relay};
use tool::Tool;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

struct Options {
    speed: bool,
    quality: bool,
    rounds: usize,
    /// Rule files instead of those that are built in.
    rules: Option<PathBuf>,
}

fn options() -> Options {
    let mut options = Options { speed: true, quality: true, rounds: 5, rules: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "speed" => options.quality = false,
            "quality" => options.speed = false,
            "--rounds" => options.rounds = arguments.next().and_then(|it| it.parse().ok()).expect("a number"),
            "--rules" => options.rules = Some(arguments.next().expect("a folder").into()),
            other => panic!("unknown option {other}"),
        }
    }
    options
}

fn main() {
    let options = options();
    let rules = rules(&options);
    let translated = datadog::Rules::translate(&rules);
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = Python::start(package, &package.join("../../.cache/peers"));

    println!("plainsight: {} rules", rules.rules().len());
    println!("dd-sensitive-data-scanner: {} of them", translated.taken.len());
    for (id, why) in &translated.refused {
        println!("  refused {id}: {why}");
    }
    for (name, version) in &python.versions {
        println!("{name} {version}");
    }
    for why in &python.missing {
        println!("SKIPPED: {why}");
    }
    println!("load: {}\n", load());

    if options.speed {
        let mut tools: Vec<Box<dyn Tool + '_>> = vec![
            Box::new(product::Product::new(&rules, product::Way::Whole)),
            Box::new(product::Product::new(&rules, product::Way::Scan)),
            Box::new(product::Product::new(&rules, product::Way::Text)),
            Box::new(datadog::Datadog::new(&translated, datadog::Way::Json)),
            Box::new(datadog::Datadog::new(&translated, datadog::Way::Text)),
        ];
        if python.has("sentry-relay") {
            tools.push(Box::new(Relay { python: &python, config: "default" }));
            tools.push(Box::new(Relay { python: &python, config: "all" }));
        }
        if python.has("kingfisher-bin") {
            tools.push(Box::new(Kingfisher { python: &python, options: &[] }));
            tools.push(Box::new(Kingfisher { python: &python, options: &["--turbo"] }));
        }
        speed::print(&body::all(), &mut tools, options.rounds);
        println!("\nload: {}", load());
    }
    if options.quality {
        quality::print(&rules, &translated, &python);
    }
}

fn rules(options: &Options) -> RuleSet {
    let mut sources = embedded();
    if let Some(folder) = &options.rules {
        for Source { name, text } in &mut sources {
            *text = fs::read_to_string(folder.join(name)).expect("a rule file");
        }
    }
    RuleSet::from_sources(&sources).unwrap_or_else(|error| panic!("{error}"))
}

fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}
