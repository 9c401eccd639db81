//! Who finds which values of tests/quality, where all can be asked: values as they are or in a sentence, in bodies that
//! are one JSON document.

use std::{collections::BTreeMap, fs, path::Path};

use plainsight::rules::RuleSet;
use serde_json::{Value, json};

use crate::{
    corpus::{self, Document, score::cover},
    datadog, product,
    python::Python,
};

/// Values of a class, over all carriers and depths; about an eighth of them is asked about.
const PER_CLASS: usize = 400;

/// Hard negatives, eight to a document.
const NEGATIVES: usize = 8000;

const SEED: u64 = 20_261_121;

/// Not: protobuf, queries, envelopes of several documents, and metadata in base64.
const CARRIERS: &[&str] = &["datadog", "events", "feedback", "otlp-json", "statsig"];

const DEPTHS: &[&str] = &["plain", "prose"];

/// What a tool says of a document.
struct Said {
    /// For each label, whether all of its value is named.
    found: Vec<bool>,
    hits: usize,
}

/// A tool's answers to some documents.
struct Column<'a> {
    name: &'static str,
    answer: Box<dyn FnMut(&[Document]) -> Result<Vec<Said>, String> + 'a>,
}

#[derive(Clone, Copy, Default)]
struct Row {
    values: usize,
    found: [usize; 6],
}

pub fn print(rules: &RuleSet, translated: &datadog::Rules, python: &Python) {
    let mut columns = columns(rules, translated, python);
    let positives = positives();
    let negatives: Vec<Document> = corpus::negatives(SEED, NEGATIVES).into_iter().filter(is_asked).collect();
    let negative_bytes: usize = negatives.iter().map(|document| document.body.len()).sum();
    println!(
        "\nquality: {} values, each in a document of its own, seed {SEED}; {:.2} MB of hard negatives",
        positives.len(),
        negative_bytes as f64 / 1e6
    );

    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let mut vain = Vec::new();
    for (at, column) in columns.iter_mut().enumerate() {
        match ((column.answer)(&positives), (column.answer)(&negatives)) {
            (Ok(said), Ok(invented)) => {
                for (document, said) in positives.iter().zip(said) {
                    for (label, found) in document.labels.iter().zip(said.found) {
                        let secret = label.class.starts_with("secret.").then_some("all secrets");
                        for class in [Some(label.class), secret].into_iter().flatten() {
                            rows.entry(class).or_default().found[at] += usize::from(found);
                        }
                    }
                }
                vain.push(invented.iter().map(|said| said.hits).sum::<usize>().to_string());
            }
            (Err(why), _) | (_, Err(why)) => {
                println!("{}: {why}", column.name);
                vain.push("-".to_owned());
            }
        }
    }
    for label in positives.iter().flat_map(|document| &document.labels) {
        rows.entry(label.class).or_default().values += 1;
        if label.class.starts_with("secret.") {
            rows.entry("all secrets").or_default().values += 1;
        }
    }

    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    println!("\n| class | values | {} |", names.join(" | "));
    println!("|---|---:|{}", "---:|".repeat(names.len()));
    for (class, row) in &rows {
        let shares: Vec<String> = row.found[..names.len()]
            .iter()
            .map(|found| format!("{:.3}", *found as f64 / row.values.max(1) as f64))
            .collect();
        println!("| {class} | {} | {} |", row.values, shares.join(" | "));
    }
    println!("| hits in hard negatives | | {} |", vain.join(" | "));
}

fn columns<'a>(rules: &'a RuleSet, translated: &'a datadog::Rules, python: &'a Python) -> Vec<Column<'a>> {
    let mut product = product::Product::new(rules, product::Way::Whole);
    let mut columns = vec![
        Column {
            name: "plainsight",
            answer: Box::new(move |documents: &[Document]| {
                let mut say = |it: &Document| judge(it, &product.values(it.destination, it.path, text(it)));
                Ok(documents.iter().map(&mut say).collect())
            }),
        },
        Column {
            name: "dd-sds",
            answer: Box::new(move |documents: &[Document]| {
                Ok(documents.iter().map(|it| judge(it, &translated.values(text(it)))).collect())
            }),
        },
    ];
    if python.has("sentry-relay") {
        for (name, config) in [("relay, default", "default"), ("relay, all", "all")] {
            let answer = move |documents: &[Document]| relay(python, config, documents);
            columns.push(Column { name, answer: Box::new(answer) });
        }
    }
    if python.has("kingfisher-bin") {
        let answer = move |documents: &[Document]| kingfisher(python, documents);
        columns.push(Column { name: "kingfisher", answer: Box::new(answer) });
    }
    columns
}

/// Documents of which the one value that was put in is asked for. What their carriers say by themselves is told by the
/// names of fields, which no peer looks at.
fn positives() -> Vec<Document> {
    corpus::positives(SEED, PER_CLASS)
        .into_iter()
        .filter(is_asked)
        .filter_map(|mut document| {
            document.labels.retain(|label| DEPTHS.contains(&label.depth));
            (!document.labels.is_empty()).then_some(document)
        })
        .collect()
}

fn is_asked(document: &Document) -> bool {
    CARRIERS.contains(&document.carrier) && serde_json::from_slice::<Value>(&document.body).is_ok()
}

fn text(document: &Document) -> &str {
    std::str::from_utf8(&document.body).expect("JSON of our own")
}

fn judge(document: &Document, values: &[Vec<u8>]) -> Said {
    let found = document.labels.iter().map(|label| {
        let mut covered = vec![false; label.value.len()];
        for value in values {
            cover(&mut covered, label.value.as_bytes(), value);
        }
        covered.iter().all(|covered| *covered)
    });
    Said { found: found.collect(), hits: values.len() }
}

/// It names nothing but rewrites: a value that cannot be read any more was found.
fn relay(python: &Python, config: &str, documents: &[Document]) -> Result<Vec<Said>, String> {
    let folder = write(python, documents)?;
    let files: Vec<Value> = documents
        .iter()
        .enumerate()
        .map(|(number, document)| {
            let values: Vec<&str> = document.labels.iter().map(|label| label.value.as_str()).collect();
            json!([folder.join(file_name(number)), values])
        })
        .collect();
    let answer = python.ask(json!({ "do": "relay-leaves", "config": config, "files": files }))?;
    let answer: Vec<(Vec<bool>, usize)> =
        serde_json::from_value(answer["left"].clone()).map_err(|error| error.to_string())?;
    Ok(answer
        .into_iter()
        .map(|(left, hits)| Said { found: left.into_iter().map(|left| !left).collect(), hits })
        .collect())
}

fn kingfisher(python: &Python, documents: &[Document]) -> Result<Vec<Said>, String> {
    let folder = write(python, documents)?;
    let answer = python.ask(json!({ "do": "kingfisher-finds", "folder": folder, "options": [] }))?;
    let findings: Vec<(String, String)> =
        serde_json::from_value(answer["findings"].clone()).map_err(|error| error.to_string())?;
    let mut values: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for (file, snippet) in findings {
        // It quotes what the file says, with JSON's escapes.
        let plain = serde_json::from_str(&format!("\"{snippet}\"")).unwrap_or(snippet);
        values.entry(file).or_default().push(plain.into_bytes());
    }
    Ok(documents
        .iter()
        .enumerate()
        .map(|(number, document)| judge(document, values.get(&file_name(number)).map_or(&[], Vec::as_slice)))
        .collect())
}

fn file_name(number: usize) -> String {
    format!("{number}.json")
}

fn write(python: &Python, documents: &[Document]) -> Result<std::path::PathBuf, String> {
    let folder = python.folder("documents");
    _ = fs::remove_dir_all(&folder);
    let write_all = |folder: &Path| -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        for (number, document) in documents.iter().enumerate() {
            fs::write(folder.join(file_name(number)), &document.body)?;
        }
        Ok(())
    };
    write_all(&folder).map_err(|error| error.to_string())?;
    Ok(folder)
}
