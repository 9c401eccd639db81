//! Holds the sources to the first law of the design: a room imports only from floors beneath its own.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The rooms by floor, lowest first. A room that is not listed fails the test.
const FLOORS: &[&[&str]] = &[
    &["model"],
    &[
        "audit",
        "ca",
        "claude",
        "compliance",
        "destination",
        "encoding",
        "har",
        "payload",
        "policy",
        "redaction",
        "rules",
    ],
    &["inspect", "report"],
    &["proxy", "web"],
    &["config"],
    &["cli"],
];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The rooms that a source names after `crate::`, with line numbers. Comments may name any room.
fn named_rooms(source: &str) -> Vec<(usize, String)> {
    let code: Vec<&str> = source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for (at, marker) in code.match_indices("crate::") {
        let line = code[..at].matches('\n').count() + 1;
        for name in first_names(&code[at + marker.len()..]) {
            found.push((line, name.to_owned()));
        }
    }
    found
}

/// The first segment of each path in `a::b…` or `{a::b, c::{d, e}, …}`.
fn first_names(code: &str) -> Vec<&str> {
    let identifier =
        |text: &str| text.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(text.len());
    let Some(list) = code.strip_prefix('{') else {
        return vec![&code[..identifier(code)]];
    };
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, char) in list.char_indices() {
        match char {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                let name = list[start..at].trim();
                names.push(&name[..identifier(name)]);
                start = at + 1;
                if char == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// What is wrong with a file of `room`: one line for each import that goes up or sideways.
fn violations(room: &str, file: &str, source: &str) -> Vec<String> {
    let Some(own) = floor(room) else {
        return vec![format!("{file}: room `{room}` stands on no floor")];
    };
    named_rooms(source)
        .into_iter()
        .filter(|(_, named)| named != room)
        .filter_map(|(line, named)| match floor(&named) {
            Some(other) if other < own => None,
            Some(other) => {
                Some(format!("{file}:{line}: `{room}` (floor {own}) imports `{named}` (floor {other})"))
            }
            None => Some(format!("{file}:{line}: `crate::{named}` is no room")),
        })
        .collect()
}

#[test]
fn a_room_imports_only_from_floors_beneath_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 20, "the sources are where they should be");

    let mut found = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
        if let Some((room, _)) = relative.split_once('/') {
            found.extend(violations(room, &relative, &fs::read_to_string(&file).unwrap()));
        }
    }

    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn the_check_sees_imports_that_go_up_or_sideways() {
    assert_eq!(violations("model", "model/a.rs", "use crate::proxy::X;").len(), 1);
    assert_eq!(violations("rules", "rules/a.rs", "    crate::payload::decode();").len(), 1);
    assert_eq!(violations("rules", "rules/a.rs", "use crate::{model::{A, proxy}, policy::B};").len(), 1);
    assert_eq!(violations("rules", "rules/a.rs", "use crate::{\n    model::A,\n    audit::B,\n};").len(), 1);
    assert_eq!(violations("cellar", "cellar/a.rs", "").len(), 1);
    assert!(
        violations("proxy", "proxy/a.rs", "use crate::{\n    model::A,\n};\n//! [`crate::cli`]").is_empty()
    );
    assert!(violations("inspect", "inspect/a.rs", "use crate::rules::A;\nuse crate::inspect::b;").is_empty());
}
