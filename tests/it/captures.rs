//! The recordings of the real client, whole: `tests/fixtures/captures` holds what was measured (see the README there).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::support::product::{Product, differences, rules_and_paths};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/captures")
}

fn recordings() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "har"));
    paths.sort();
    paths
}

/// The values of `findings`, as the bytes of the body that they name, where the recording holds the body as text.
fn values_found(recording: &Path, objects: &[Value]) -> BTreeSet<String> {
    let har: Value = serde_json::from_slice(&fs::read(recording).unwrap()).unwrap();
    let mut values = BTreeSet::new();
    for object in objects {
        let entry = &har["log"]["entries"][object["index"].as_u64().unwrap() as usize];
        let Some(body) = entry["request"]["postData"]["text"].as_str() else { continue };
        for finding in object["findings"].as_array().unwrap() {
            let [start, end] = [0, 1].map(|at| finding["span"][at].as_u64().unwrap() as usize);
            values.extend(body.get(start..end).map(str::to_owned));
        }
    }
    values
}

/// What every recording holds. Places in lists are `*`, so that an event more is not a line more. Where the change is
/// meant: `PLAINSIGHT_UPDATE_SNAPSHOTS=1 cargo nextest run whole_recordings`.
#[test]
fn whole_recordings_give_the_findings_that_they_gave() {
    let product = Product::new();
    let mut found = String::new();
    let recordings = recordings();
    assert_eq!(recordings.len(), 7, "{recordings:?}");
    for path in &recordings {
        let mut requests: BTreeMap<String, usize> = BTreeMap::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for object in product.scan_json(path) {
            let destination = object["destination"].as_str().unwrap();
            let state = object["not_inspected"].as_str().unwrap_or("read");
            *requests.entry(format!("{destination} {state}")).or_default() += 1;
            for (rule, field) in rules_and_paths(&object) {
                let field: Vec<&str> = field
                    .split('/')
                    .map(|part| if part.bytes().all(|byte| byte.is_ascii_digit()) { "*" } else { part })
                    .collect();
                *places.entry(format!("{destination}  {rule}  {}", field.join("/"))).or_default() += 1;
            }
        }
        _ = writeln!(found, "{}", path.file_name().unwrap().to_str().unwrap());
        for (line, count) in requests.iter().chain(&places) {
            _ = writeln!(found, "  {line}  ×{count}");
        }
    }
    let snapshot = folder().join("findings.txt");
    if std::env::var_os("PLAINSIGHT_UPDATE_SNAPSHOTS").is_some() {
        fs::write(&snapshot, &found).unwrap();
    }
    let expected = fs::read_to_string(&snapshot).unwrap_or_default();

    let differences = differences(&expected, &found);

    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn what_was_planted_is_found_and_what_only_looks_like_it_is_not() {
    let product = Product::new();
    let path = folder().join("2.1.329-otlp-http-json.har");

    let objects = product.scan_json(&path);

    let values = values_found(&path, &objects);
    for planted in [
        "bob@example.com",
        "carol@example.net",
        "dave@example.org",
        "canary.user@example.com",
        "say hello to bob@example.com",
    ] {
        assert!(values.contains(planted), "{planted}: {values:#?}");
    }
    let names: BTreeSet<&str> =
        objects.iter().flat_map(rules_and_paths).map(|(_, path)| path.rsplit('/').next().unwrap()).collect();
    for harmless in ["input_tokens", "output_tokens", "prompt_length", "cost_usd", "duration_ms", "author"] {
        assert!(!names.contains(harmless), "{harmless}: {names:?}");
    }
}
