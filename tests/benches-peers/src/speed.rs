//! Who is how fast over which body: rounds in turns, so that whatever else the machine does meets all of them.

use crate::{
    body::Body,
    tool::{Round, Tool},
};

pub fn print(bodies: &[Body], tools: &mut [Box<dyn Tool + '_>], rounds: usize) {
    println!("| body | bytes | tool | GB/s, median (least - most) | to plainsight | hits | allocations |");
    println!("|---|---:|---|---:|---:|---:|---:|");
    for body in bodies {
        let mut results: Vec<Result<Vec<Round>, String>> = tools.iter().map(|_| Ok(Vec::new())).collect();
        for round in 0..rounds {
            for (tool, result) in tools.iter_mut().zip(&mut results) {
                if let Ok(done) = result {
                    match tool.round(body) {
                        Ok(measured) => done.push(measured),
                        Err(why) => *result = Err(why),
                    }
                }
            }
            eprintln!("{}: round {} of {rounds}", body.name, round + 1);
        }
        let first = results.first().and_then(|it| it.as_ref().ok()).map(|rounds| median(rounds));
        for (tool, result) in tools.iter().zip(&results) {
            match result {
                Ok(rounds) => row(body, tool.name(), rounds, first),
                Err(why) => {
                    println!("| {} | {} | {} | {why} | | | |", body.name, body.text.len(), tool.name())
                }
            }
        }
    }
}

fn row(body: &Body, tool: &str, rounds: &[Round], first: Option<f64>) {
    let Some(last) = rounds.last() else { return };
    let all: Vec<f64> = rounds.iter().map(Round::gigabytes_per_second).collect();
    let (least, most) =
        all.iter().fold((f64::MAX, 0.0_f64), |(least, most), it| (least.min(*it), most.max(*it)));
    println!(
        "| {} | {} | {tool} | {:.3} ({least:.3} - {most:.3}) | {} | {} | {} |",
        body.name,
        last.bytes,
        median(rounds),
        first.map_or_else(|| "-".to_owned(), |first| format!("{:.2}", median(rounds) / first)),
        last.hits,
        last.allocations.map_or_else(|| "-".to_owned(), |count| count.to_string()),
    );
}

fn median(rounds: &[Round]) -> f64 {
    let mut all: Vec<f64> = rounds.iter().map(Round::gigabytes_per_second).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}
