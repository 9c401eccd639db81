//! `cargo run --release` prints every row; `-- redaction` prints what redacting costs beside observing, and nothing else;
//! `-- profile NAME SECONDS` runs one body for a profiler; `-- count NAME RUNS` runs it so often, for a profiler that counts
//! instructions: what one run takes is the difference of two counts. NAME is that of a body, or the unit of a flood.

mod allocations;
mod bodies;
mod redaction;

use std::{hint::black_box, time::Instant};

use bytes::Bytes;
use plainsight::{
    model::{DestinationId, Document, DocumentBuilder},
    payload::{Budget, decode, recognise},
    rules::{RuleSet, Scratch, Source, embedded},
};

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

/// Bytes of the longest text.
const ONE_STRING: usize = 64 << 20;

/// Bytes of a flood that is counted or profiled.
const COUNTED_FLOOD: usize = 64 << 10;

struct Case {
    name: &'static str,
    destination: DestinationId,
    document: Document,
}

impl Case {
    fn new(name: &'static str, destination: &str, path: &str, body: String) -> Self {
        let body = Bytes::from(body);
        let recognition = recognise(destination, Some("application/json"), path, &body);
        // Every body here is JSON; a decoder that knows the format's names is better, if there is one.
        let json = || recognise("first-party-events", Some("application/json"), "/", &body).format;
        let document = decode(&recognition.format, body.clone(), &Budget::default())
            .or_else(|_| decode(&json(), body.clone(), &Budget::default()))
            .expect("a body of our own");
        Self { name, destination: DestinationId::new(destination), document }
    }

    /// Bytes that are scanned: the body and what was opened out of it.
    fn bytes(&self) -> usize {
        self.document.texts().map(|(_, bytes)| bytes.len()).sum()
    }

    fn scan(&self, set: &RuleSet, scratch: &mut Scratch) -> usize {
        black_box(set.scan(black_box(&self.document), &self.destination, scratch)).len()
    }
}

/// Seconds that one run takes: the best of many, because others share the machine.
fn best(mut run: impl FnMut(), least_runs: usize) -> f64 {
    let begin = Instant::now();
    let (mut best, mut runs) = (f64::MAX, 0);
    while runs < least_runs || (begin.elapsed().as_millis() < 400 && runs < 100_000) {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
        runs += 1;
    }
    best
}

fn cases() -> Vec<Case> {
    let otlp = |name, size, identity| Case::new(name, "otlp", "/v1/logs", bodies::otlp(size, identity, 1));
    vec![
        otlp("otlp 1 MiB, as recorded", 1 << 20, true),
        otlp("otlp 1 MiB, clean", 1 << 20, false),
        otlp("otlp 64 KiB, clean", 64 << 10, false),
        otlp("otlp 16 KiB, as recorded", 16 << 10, true),
        Case::new(
            "events 349 KB",
            "first-party-events",
            "/api/event_logging/v2/batch",
            bodies::events(349_000, 1),
        ),
        Case::new("prose 256 KiB", "first-party-events", "/x", bodies::prose(256 << 10, 1)),
    ]
}

fn plain(text: Vec<u8>) -> Document {
    DocumentBuilder::new("text", Bytes::from(text)).finish()
}

/// As many value rules as asked for, in the shape of token rules.
fn synthetic(count: usize) -> RuleSet {
    use std::fmt::Write as _;
    let mut random = bodies::Random(99);
    let mut text = "schema = 1\npack = \"synthetic\"\nversion = \"1\"\n".to_owned();
    for number in 0..count {
        let vendor: String =
            (0..3 + number % 4).map(|_| char::from(b'a' + random.below(26) as u8)).collect();
        let mark = ["_", "-", "_live_", "_pat_", "."][number % 5];
        let _ = write!(
            text,
            "[[rule]]\nid = \"synthetic.r{number}\"\ntitle = \"t\"\nwhy = \"w\"\nentity = \"API_KEY\"\ncategory = \"secret.vendor\"\nanchors = ['{vendor}{number}{mark}']\nregex = '\\b(?P<hit>{vendor}{number}{}[A-Za-z0-9]{{20,40}})'\nredact = {{ method = \"replace\", template = \"X\" }}\n",
            mark.replace('.', "\\.")
        );
    }
    RuleSet::from_sources(&[Source { name: "synthetic.toml".into(), text }]).expect("rules of our own")
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["redaction"] {
        return redaction::print();
    }
    let set = RuleSet::from_sources(&embedded()).expect("shipped rules");
    let mut scratch = Scratch::default();
    let cases = cases();
    if let [mode, name, amount] = &arguments[..] {
        let amount: u64 = amount.parse().expect("a number");
        let case = cases.iter().find(|case| case.name.starts_with(name.as_str()));
        let flood = plain(bodies::flood(name, COUNTED_FLOOD));
        let mut run = || match case {
            Some(case) => _ = case.scan(&set, &mut scratch),
            None => _ = black_box(set.scan(&flood, &DestinationId::new("otlp"), &mut scratch)),
        };
        match mode.as_str() {
            "profile" => {
                let begin = Instant::now();
                while begin.elapsed().as_secs() < amount {
                    run();
                }
            }
            _ => (0..amount).for_each(|_| run()),
        }
        let bytes = case.map_or(COUNTED_FLOOD, Case::bytes);
        println!("{bytes} bytes");
        return;
    }

    println!("rules: {}", set.rules().len());
    println!("{:28} {:>9} {:>6} {:>8} {:>8} {:>7}", "body", "bytes", "hits", "us", "GB/s", "allocs");
    for case in &cases {
        let hits = case.scan(&set, &mut scratch);
        let before = allocations::count();
        case.scan(&set, &mut scratch);
        let allocations = allocations::count() - before;
        let seconds = best(|| _ = case.scan(&set, &mut scratch), 20);
        println!(
            "{:28} {:>9} {:>6} {:>8.1} {:>8.3} {:>7}",
            case.name,
            case.bytes(),
            hits,
            seconds * 1e6,
            case.bytes() as f64 / seconds / 1e9,
            allocations
        );
    }

    let clean = &cases[2];
    let mut times: Vec<f64> = (0..4000)
        .map(|_| {
            let start = Instant::now();
            clean.scan(&set, &mut scratch);
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("\n64 KiB clean, 4000 runs: p50 {:.1} us, p99 {:.1} us", times[2000], times[3960]);

    println!("\nscaling, otlp 1 MiB clean");
    let few = synthetic(100);
    let many = synthetic(400);
    let mut scratches = (Scratch::default(), Scratch::default());
    let hundred = best(|| _ = cases[1].scan(&few, &mut scratches.0), 20);
    let four = best(|| _ = cases[1].scan(&many, &mut scratches.1), 20);
    println!(
        "100 rules {:.3} GB/s, 400 rules {:.3} GB/s, ratio {:.2}",
        cases[1].bytes() as f64 / hundred / 1e9,
        cases[1].bytes() as f64 / four / 1e9,
        four / hundred
    );

    println!("\n{:34} {:>10} {:>10} {:>10} {:>12} {:>16}", "flood: ns per byte at", "64 KiB", "1 MiB", "8 MiB", "MB/s, least", "clean after/before");
    let destination = DestinationId::new("otlp");
    let before = best(|| _ = clean.scan(&set, &mut scratch), 200);
    let units = [
        "1", "@", "+", ":", ".", "eyJ", "a@", "a@b", "a@b.", "eyJaaaaaaaa.", "+1 ", "1.", "1:", "12 ", "1234 ", "AB12",
        "DE12 ", "DE12", "sk-ant-", "sk-ant-api03-", "AKIA", "/home/", "://", "://a:", "-----BEGIN PRIVATE KEY-----",
        "ghp_", "secret_access_key=", "Bearer ", "_TOKEN=", "4111111111111112 ", "1.2.3.", "a:b:", "::", "key-", "SK", "api-", "hf_",
        "base64",
    ];
    let mut worst: (f64, &str) = (0.0, "");
    for unit in units {
        let per_byte: Vec<f64> = [64 << 10, 1 << 20, 8 << 20]
            .into_iter()
            .map(|size| {
                let text = match unit {
                    "base64" => bodies::base64_flood(size),
                    unit => bodies::flood(unit, size),
                };
                let document = plain(text);
                let runs = if size > 1 << 20 { 2 } else { 3 };
                let start = Instant::now();
                let mut best = f64::MAX;
                let mut done = 0;
                while done < runs || start.elapsed().as_millis() < 15 {
                    let start = Instant::now();
                    black_box(set.scan(&document, &destination, &mut scratch));
                    best = best.min(start.elapsed().as_secs_f64());
                    done += 1;
                }
                best / size as f64 * 1e9
            })
            .collect();
        let after = best(|| _ = clean.scan(&set, &mut scratch), 100);
        let slowest = per_byte.iter().copied().fold(0.0, f64::max);
        if slowest > worst.0 {
            worst = (slowest, unit);
        }
        println!(
            "{unit:34} {:>10.2} {:>10.2} {:>10.2} {:>12.0} {:>16.2}",
            per_byte[0],
            per_byte[1],
            per_byte[2],
            1e3 / slowest,
            after / before
        );
    }
    for (name, text) in [("letters", bodies::flood("x", ONE_STRING)), ("words", bodies::prose(ONE_STRING, 1).into_bytes())] {
        let document = plain(text);
        let seconds = best(|| _ = black_box(set.scan(&document, &destination, &mut scratch)), 2);
        let bytes: usize = document.texts().map(|(_, bytes)| bytes.len()).sum();
        println!("one text of {} MiB, {name}: {:.2} ns per byte", bytes >> 20, seconds / bytes as f64 * 1e9);
    }
    println!("worst: {} at {:.0} MB/s", worst.1, 1e3 / worst.0);
    redaction::print();
}
