//! `plainsight scan` and `log --har` as a user runs them: the built program, a data folder of its own, no network.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::{Value, json};

use crate::support::product::{Product, differences, objects, rules_and_paths, text};

fn recordings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recordings")
}

const EVENT: &str = r#"{"event_type":"ClaudeCodeInternalEvent","event_data":{"event_name":"tengu_init","email":"bob@example.com"}}"#;

fn har(bodies: &[&str]) -> String {
    let entries: Vec<Value> = bodies
        .iter()
        .map(|body| {
            json!({
                "startedDateTime": "2026-11-21T06:22:18.163Z", "time": 3,
                "request": {
                    "method": "POST", "url": "https://api.anthropic.com/api/event_logging/v2/batch",
                    "httpVersion": "h2", "headers": [{ "name": "content-encoding", "value": "gzip" }],
                    "postData": { "mimeType": "application/json", "text": body },
                },
                "response": { "status": 200 },
            })
        })
        .collect();
    json!({ "log": { "version": "1.2", "entries": entries } }).to_string()
}

#[test]
fn a_recording_is_one_object_a_request_in_order() {
    let product = Product::new();
    let body = format!(r#"{{"events":[{EVENT}]}}"#);
    let file = product.write("x.har", har(&[&body, "{\"events\":[]}"]));

    let objects = product.scan_json(&file);

    let indices: Vec<_> = objects.iter().map(|object| object["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [0, 1]);
    let first = &objects[0];
    assert_eq!((&first["id"], &first["run"]), (&Value::Null, &Value::Null));
    assert_eq!(first["file"], file.to_str().unwrap());
    assert_eq!(first["destination"], "first-party-events");
    assert_eq!(first["time"], "2026-11-21T06:22:18.163Z");
    assert_eq!((&first["not_inspected"], &first["status"]), (&Value::Null, &json!(200)));
    let finding = &first["findings"].as_array().unwrap()[0];
    let span = finding["span"].as_array().unwrap();
    let (start, end) = (span[0].as_u64().unwrap() as usize, span[1].as_u64().unwrap() as usize);
    assert_eq!(&body[start..end], "bob@example.com", "{finding}");
    assert!(!product.path("data").exists(), "a scan stores nothing");
}

#[test]
fn standard_input_is_a_file_too() {
    let product = Product::new();
    let mut child = product
        .command(&["scan", "--json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let body = format!(r#"{{"events":[{EVENT}]}}"#);

    child.stdin.take().unwrap().write_all(har(&[&body]).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();

    let objects = objects(&output);
    assert_eq!((objects.len(), &objects[0]["file"]), (1, &json!("-")));
    assert!(!rules_and_paths(&objects[0]).is_empty());
}

#[test]
fn the_screen_is_that_of_run_without_what_only_a_store_has() {
    let product = Product::new();
    let body = format!(r#"{{"events":[{EVENT}]}}"#);
    let file = product.write("x.har", har(&[&body]));

    let output = product.run(&["scan", file.to_str().unwrap()]);

    let screen = text(&output.stdout);
    assert!(screen.contains("WHO WAS TOLD") && screen.contains("first-party-events"), "{screen}");
    assert!(screen.contains("    #0  "), "the request has its line\n{screen}");
    assert!(!screen.contains("plainsight show") && !screen.contains("run 1"), "{screen}");
    assert!(!screen.contains("bob@example.com"), "{screen}");
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn only_a_limit_makes_findings_fail() {
    let product = Product::new();
    let body = format!(r#"{{"events":[{EVENT}]}}"#);
    let found = product.write("found.har", har(&[&body]));
    let clean = product.write("clean.har", har(&["{\"events\":[]}"]));
    let code = |arguments: &[&str]| product.run(&[&["scan"], arguments].concat()).status.code();
    let (found, clean) = (found.to_str().unwrap(), clean.to_str().unwrap());

    assert_eq!(code(&[found]), Some(0));
    assert_eq!(code(&["--fail-on", "low", found]), Some(1));
    assert_eq!(code(&["--fail-on", "critical", found]), Some(0));
    assert_eq!(code(&["--fail-on", "info", clean]), Some(0));
    assert_eq!(code(&["/nowhere/at/all"]), Some(2));
    assert_eq!(code(&["--as", "nonsense", clean]), Some(2));
}

#[test]
fn what_is_broken_is_named_and_the_rest_is_scanned() {
    let product = Product::new();
    let broken = har(&["{}", "{}"]).replacen("https://api", "nowhere", 1);
    let file = product.write("x.har", &broken);
    let cut = product.write("cut.har", &broken[..broken.len() - 40]);

    let output = product.run(&["scan", "--json", file.to_str().unwrap(), cut.to_str().unwrap()]);

    assert_eq!(output.status.code(), Some(2));
    let errors = text(&output.stderr);
    assert!(errors.contains("x.har: entry 0: request.url: it has no scheme"), "{errors}");
    assert!(errors.contains("cut.har: entry 1: EOF while parsing"), "{errors}");
    let objects = objects(&output);
    assert_eq!((objects.len(), &objects[0]["index"]), (1, &json!(1)));
}

#[test]
fn refused_events_are_read_as_the_batch_that_they_will_be() {
    let product = Product::new();
    let file = format!("{}\n{EVENT}\n", EVENT.replace("bob@", "carol@"));
    let path = product.write("telemetry/1p_failed_events.a.b.json", &file);

    let objects = product.scan_json(&path);

    assert_eq!(objects.len(), 1);
    assert_eq!(objects[0]["request_bytes"].as_u64().unwrap(), file.len() as u64 + 1);
    let findings = objects[0]["findings"].as_array().unwrap();
    let emails: Vec<(&str, &str)> = findings
        .iter()
        .map(|finding| {
            let at = |place: usize| finding["span"][place].as_u64().unwrap() as usize;
            (finding["path"].as_str().unwrap(), &file[at(0)..at(1)])
        })
        .collect();
    assert!(
        emails.contains(&("first-party-events:events/0/event_data/email", "carol@example.com")),
        "{emails:?}"
    );
    assert!(
        emails.contains(&("first-party-events:events/1/event_data/email", "bob@example.com")),
        "{emails:?}"
    );
}

#[test]
fn a_folder_is_searched_for_what_can_be_read() {
    let product = Product::new();
    product.write("home/.claude/telemetry/1p_failed_events.a.b.json", EVENT);
    product.write(
        "home/.claude/statsig/statsig.failed_logs.1",
        r#"[{"eventName":"tengu_init","user":{"email":"bob@example.com"}}]"#,
    );
    product.write("home/.claude/stats-cache.json", r#"{"version":1,"note":"bob@example.com"}"#);
    product.write(
        "home/.claude/traces/trace.json",
        r#"{"traceEvents":[{"name":"x","ph":"B","args":{"note":"bob@example.com"}}]}"#,
    );
    product.write("home/.claude/settings.json", r#"{"env":{"X":"bob@example.com"}}"#);
    product.write("home/.claude/projects/p/s.jsonl", r#"{"type":"user","message":"bob@example.com"}"#);
    let folder = product.path("home");

    let output = product.run(&["scan", "--json", folder.to_str().unwrap()]);

    let objects = objects(&output);
    let files: Vec<&str> =
        objects.iter().map(|object| object["file"].as_str().unwrap().rsplit('/').next().unwrap()).collect();
    assert_eq!(
        files,
        ["stats-cache.json", "statsig.failed_logs.1", "1p_failed_events.a.b.json", "trace.json"]
    );
    assert!(objects.iter().all(|object| !rules_and_paths(object).is_empty()), "{objects:#?}");
    let destinations: Vec<_> = objects.iter().map(|object| object["destination"].as_str().unwrap()).collect();
    assert_eq!(destinations, ["local-file", "statsig", "first-party-events", "local-file"]);
    assert_eq!(text(&output.stderr), "plainsight: 2 held no request and were passed over\n");
}

#[test]
fn the_lines_of_a_file_exporter_are_a_body_each() {
    let product = Product::new();
    let file = product.write("x.jsonl", "{\"resourceLogs\":[]}\n\n{\"resourceSpans\":[]}\n");

    let objects = product.scan_json(&file);

    let places: Vec<_> = objects.iter().map(|object| (&object["index"], &object["destination"])).collect();
    assert_eq!(places, [(&json!(0), &json!("otlp")), (&json!(2), &json!("otlp"))]);
}

#[test]
fn a_raw_body_is_what_it_is_said_to_be() {
    let product = Product::new();
    let file = product.write("body.bin", r#"[{"message":"tengu_init","note":"bob@example.com"}]"#);

    let output = product.run(&["scan", "--json", "--as", "datadog", file.to_str().unwrap()]);

    let objects = objects(&output);
    assert_eq!(objects[0]["format"], "datadog");
    assert!(rules_and_paths(&objects[0]).contains(&("contact.email", "datadog:0/note")), "{:?}", objects[0]);
}

/// What the small recordings in the repository hold, as a file that is easy to compare. Where the change is meant:
/// `PLAINSIGHT_UPDATE_SNAPSHOTS=1 cargo nextest run recordings_give`.
#[test]
fn recordings_give_the_findings_that_they_gave() {
    let product = Product::new();
    let folder = recordings();
    let mut found = String::new();
    let mut names: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "har"));
    names.sort();
    assert!(names.len() >= 6, "{names:?}");
    for path in &names {
        for object in product.scan_json(path) {
            let file = path.file_name().unwrap().to_str().unwrap();
            let state = object["not_inspected"].as_str().unwrap_or("read");
            _ = writeln!(
                found,
                "{file} #{} {} {state}",
                object["index"],
                object["destination"].as_str().unwrap()
            );
            let mut spans: BTreeMap<(&str, &str), usize> = BTreeMap::new();
            for place in rules_and_paths(&object) {
                *spans.entry(place).or_default() += 1;
            }
            for ((rule, field), count) in spans {
                _ = writeln!(found, "  {rule}  {field}  ×{count}");
            }
            for news in object["news"].as_array().unwrap() {
                _ = writeln!(found, "  new: {}", news.as_str().unwrap());
            }
        }
    }
    let snapshot = folder.join("findings.txt");
    if std::env::var_os("PLAINSIGHT_UPDATE_SNAPSHOTS").is_some() {
        fs::write(&snapshot, &found).unwrap();
    }
    let expected = fs::read_to_string(&snapshot).unwrap_or_default();

    let differences = differences(&expected, &found);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn a_host_is_new_once() {
    let product = Product::new();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let summary = || -> Value {
        let file = product.path("summary.json");
        // Nobody listens there: the tunnel fails, and is recorded.
        let to_nowhere = "nowhere.example:443:127.0.0.1:1";
        let arguments =
            ["run", "--quiet", "--json", file.to_str().unwrap(), "--connect-to", to_nowhere, "--"];
        let child = ["curl", "--silent", "https://nowhere.example/"];
        let output = product.command(&[&arguments[..], &child].concat()).env("PATH", &path).output().unwrap();
        assert_ne!(output.status.code(), Some(2), "{}", text(&output.stderr));
        serde_json::from_slice(&fs::read(&file).unwrap()).unwrap()
    };

    let (first, second) = (summary(), summary());

    assert_eq!(first["news"], json!([{ "new": "host", "what": "nowhere.example", "flows": 1 }]));
    assert_eq!(first["new_since"], Value::Null);
    assert_eq!(second["news"], json!([]));
    assert!(second["new_since"].is_string());
}

#[test]
fn records_leave_as_har_and_come_back() {
    let product = Product::new();
    assert_eq!(product.run(&["demo"]).status.code(), Some(0));
    let file = product.path("log.har");
    let records = objects(&product.run(&["log", "--json"]));

    let output = product.run(&["log", "--har", file.to_str().unwrap()]);

    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let scanned = product.scan_json(&file);
    assert!(records.len() > 5);
    let what = |objects: &[Value]| -> Vec<(Value, Value, Value)> {
        let key = |object: &Value| {
            (object["destination"].clone(), object["authority"].clone(), object["status"].clone())
        };
        objects.iter().map(key).collect()
    };
    assert_eq!(what(&scanned), what(&records));
    let written = fs::read_to_string(&file).unwrap();
    // PITFALLS 33: the probe sees what is there.
    assert!(written.contains("additional_metadata"));
    assert!(!written.contains("canary.user@example.com"), "bodies are masked");
}

#[test]
fn what_a_policy_would_have_let_out_is_written_and_what_it_blocks_is_counted() {
    let product = Product::new();
    let clean = r#"{"events":[{"event_type":"x","event_data":{"event_name":"y"}}]}"#;
    let body = format!(r#"{{"events":[{EVENT}]}}"#);
    let file = product.write("x.har", har(&[&body, clean, "\u{1}\u{2}broken"]));
    let out = product.path("out.har");
    let scan = |policy: &str| {
        let output = product
            .command(&["scan", "--policy", policy, "--har-out"])
            .arg(&out)
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let written: Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
        let texts: Vec<String> = written["log"]["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["request"]["postData"]["text"].as_str().unwrap().to_owned())
            .collect();
        (texts, String::from_utf8_lossy(&output.stderr).into_owned())
    };

    let (observed, _) = scan("observe");
    let (private, said) = scan("private");

    assert_eq!(observed, [&body, clean, "\u{1}\u{2}broken"], "the probe sees what is there");
    assert_eq!(private.len(), 2);
    assert!(!private[0].contains("bob@example.com"), "{}", private[0]);
    assert!(private[0].starts_with(&body[..body.find("bob@").unwrap()]), "{}", private[0]);
    assert_eq!(private[1], clean);
    assert!(said.contains("2 sent on, 1 of them changed; 1 blocked and left out"), "{said}");
    let onto_itself = product.command(&["scan", "--har-out"]).arg(&file).arg(&file).output().unwrap();
    assert_eq!(onto_itself.status.code(), Some(2), "{}", text(&onto_itself.stderr));
    assert!(fs::read_to_string(&file).unwrap().contains("bob@example.com"), "the recording is whole");
}

#[test]
fn rules_whose_samples_are_found_again_once_redacted_fail_the_check() {
    let product = Product::new();
    let rules = |method: &str| {
        format!(
            "schema = 1\npack = \"mine\"\nversion = \"1\"\n[[rule]]\nid = \"mine.key\"\ntitle = \"Key\"\nentity = \"API_KEY\"\n\
             category = \"secret.vendor\"\nanchors = [\"minekey=\"]\nregex = 'minekey=(?P<hit>[a-zA-Z.]{{4,20}})'\n\
             redact = {{ {method} }}\ntest = [{{ hit = \"minekey=abcdefgh\" }}, {{ miss = \"minekey=\" }}]\n"
        )
    };
    let check = |method: &str| {
        let file = product.write("rules/mine.toml", rules(method));
        let folder = file.parent().unwrap().to_str().unwrap();
        product.run(&["rules", "check", "--json", "--budget", "10", "--rules", folder])
    };

    let (still, found) = (
        check("method = \"replace\", template = \"REDACTED.mine\""),
        check("method = \"mask\", keep_first = 1"),
    );

    assert_eq!(still.status.code(), Some(0), "{}{}", text(&still.stdout), text(&still.stderr));
    assert_eq!(found.status.code(), Some(1));
    let objects = objects(&found);
    let failures: Vec<_> = objects.iter().filter(|object| object["kind"] == "redaction").collect();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!((&failures[0]["rule"], &failures[0]["sample"]), (&json!("mine.key"), &json!(1)));
    assert!(failures[0]["why"].as_str().unwrap().contains("`mine.key` finds something"), "{failures:?}");
}
