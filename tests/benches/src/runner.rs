//! The order of a run: each measure, round after round, each subject in turn, so that the machine's moods fall on all alike.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    time::{Duration, Instant},
};

use tokio::time::timeout;

use crate::{
    Failure,
    arguments::Arguments,
    certificates::Ca,
    measures::{Measure, Metric, Scale},
    origin::Origin,
    subject::{Running, Setup, Subject},
    table::Results,
};

/// Takes every measure that was asked for and prints the table.
pub async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let start = Instant::now();
    let scale = if arguments.quick { Scale::QUICK } else { Scale::FULL };
    let folder = tempfile::tempdir()?;
    let origin_ca = folder.path().join("origin.pem");
    let ca = Ca::new("bench-origin")?;
    fs::write(&origin_ca, ca.pem())?;
    let origin = Origin::start(&ca).await?;
    let setup = Setup { origin_ca, plainsight: arguments.plainsight.clone() };
    let subjects: Vec<Subject> = Subject::ALL
        .into_iter()
        .filter(|subject| *subject != Subject::Plainsight || setup.plainsight.is_some())
        .collect();
    if setup.plainsight.is_none() {
        eprintln!(
            "no plainsight to measure: build it with `cargo build --release`, or name it with --plainsight"
        );
    }
    let mut results = Results::default();
    for measure in &arguments.measures {
        take(*measure, &subjects, &setup, origin, &scale, &mut results).await;
    }
    println!("{}\n", machine());
    println!(
        "{}. Medians, with the lowest and highest round in brackets. ▼ marks a ratio on the wrong side of 1.\n",
        scale.words()
    );
    println!("{}", results.markdown(&subjects));
    println!("The run took {} s.", start.elapsed().as_secs());
    Ok(())
}

async fn take(
    measure: Measure,
    subjects: &[Subject],
    setup: &Setup,
    origin: Origin,
    scale: &Scale,
    results: &mut Results,
) {
    let mut started: BTreeMap<Subject, Running> = BTreeMap::new();
    let mut failed: Vec<Subject> = Vec::new();
    for round in 0..measure.rounds(scale) {
        let mut direct: BTreeMap<Metric, f64> = BTreeMap::new();
        for subject in in_turn(subjects, round, measure) {
            if failed.contains(&subject) {
                continue;
            }
            if measure.wants_fresh_process() {
                started.remove(&subject);
            }
            match timeout(ROUND_LIMIT, one(measure, subject, &mut started, setup, origin, scale)).await {
                Ok(Ok(samples)) => {
                    for (metric, value) in samples {
                        let shown = if metric.is_added() && subject != Subject::Direct {
                            value - direct.get(&metric).copied().unwrap_or(f64::NAN)
                        } else {
                            direct.insert(metric, value);
                            value
                        };
                        results.add(metric, subject, shown);
                        eprintln!(
                            "{:16} round {} {:22} {:46} {shown:12.1}",
                            measure.id(),
                            round + 1,
                            subject.title(),
                            metric.title()
                        );
                    }
                }
                Ok(Err(failure)) => {
                    failed.push(subject);
                    eprintln!("{:16} {} failed: {failure}", measure.id(), subject.title());
                    results.fail(measure, subject, failure.to_string());
                }
                Err(_) => {
                    failed.push(subject);
                    results.fail(measure, subject, format!("took longer than {ROUND_LIMIT:?}"));
                }
            }
        }
    }
    if measure == Measure::Requests
        && let Some(running) = started.get(&Subject::Plainsight)
    {
        match running.audited(setup).await {
            Ok(note) => results.note(note),
            Err(failure) => results.fail(measure, Subject::Plainsight, failure.to_string()),
        }
    }
}

async fn one(
    measure: Measure,
    subject: Subject,
    started: &mut BTreeMap<Subject, Running>,
    setup: &Setup,
    origin: Origin,
    scale: &Scale,
) -> Result<Vec<(Metric, f64)>, Failure> {
    let running = match started.entry(subject) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(Running::start(subject, setup, measure.origin(origin)).await?),
    };
    measure.take(running, origin, scale).await
}

/// The subjects of one round. Who goes first changes with the round, but what others are compared with goes before them.
fn in_turn(subjects: &[Subject], round: usize, measure: Measure) -> Vec<Subject> {
    let (direct, mut proxies): (Vec<Subject>, Vec<Subject>) =
        subjects.iter().partition(|subject| **subject == Subject::Direct);
    let by = round % proxies.len().max(1);
    proxies.rotate_left(by);
    if measure == Measure::Idle { proxies } else { [direct, proxies].concat() }
}

/// What the run ran on, in one line.
fn machine() -> String {
    let line = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let found = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
        found.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    format!(
        "{}, {cores} cores for everything (origin, load and proxy), Linux {}, load average at the end {load}.",
        line("/proc/cpuinfo", "model name"),
        kernel.trim()
    )
}

/// One round of one subject, at most.
const ROUND_LIMIT: Duration = Duration::from_secs(40);
