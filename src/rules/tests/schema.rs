//! The schema for editors says what the reader says: every pack validates, and what the reader refuses by its shape
//! does not. Knows the keywords that the schema uses, and fails on any other.

use serde_json::{Value, json};

use super::*;

const SCHEMA: &str = include_str!("../../../rules/schema/detectors.schema.json");

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

/// What is wrong with `value`, if anything.
fn problem(schema: &Value, value: &Value, at: &str) -> Option<String> {
    for (keyword, wanted) in schema.as_object().unwrap() {
        let wrong = match keyword.as_str() {
            "$schema" | "description" | "title" => None,
            "type" => {
                let fits = match wanted.as_str().unwrap() {
                    "array" => value.is_array(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "object" => value.is_object(),
                    "string" => value.is_string(),
                    other => panic!("unknown type {other}"),
                };
                (!fits).then(|| format!("{at}: not of type {wanted}"))
            }
            "enum" => (!wanted.as_array().unwrap().contains(value))
                .then(|| format!("{at}: {value} is none of {wanted}")),
            "minimum" => (value.as_i64() < wanted.as_i64()).then(|| format!("{at}: below {wanted}")),
            "maximum" => (value.as_i64() > wanted.as_i64()).then(|| format!("{at}: above {wanted}")),
            "pattern" => {
                let regex = regex_automata::meta::Regex::new(wanted.as_str().unwrap()).unwrap();
                (!regex.is_match(value.as_str().unwrap_or_default()))
                    .then(|| format!("{at}: {value} is not like {wanted}"))
            }
            "items" => value
                .as_array()
                .into_iter()
                .flatten()
                .enumerate()
                .find_map(|(index, item)| problem(wanted, item, &format!("{at}/{index}"))),
            "properties" => value.as_object().into_iter().flatten().find_map(|(key, member)| {
                wanted.get(key).and_then(|wanted| problem(wanted, member, &format!("{at}/{key}")))
            }),
            "required" => wanted.as_array().unwrap().iter().find_map(|key| {
                value.get(key.as_str().unwrap()).is_none().then(|| format!("{at}: {key} is missing"))
            }),
            "additionalProperties" => value.as_object().into_iter().flatten().find_map(|(key, member)| {
                let named = schema.get("properties").is_some_and(|known| known.get(key).is_some());
                match wanted {
                    _ if named => None,
                    Value::Bool(false) => Some(format!("{at}: unknown key {key}")),
                    wanted => problem(wanted, member, &format!("{at}/{key}")),
                }
            }),
            "anyOf" => {
                let fits = wanted.as_array().unwrap().iter().any(|one| problem(one, value, at).is_none());
                (!fits).then(|| format!("{at}: fits none of the alternatives: {value}"))
            }
            other => panic!("unknown keyword {other}"),
        };
        if wrong.is_some() {
            return wrong;
        }
    }
    None
}

fn file(text: &str) -> Value {
    toml::from_str::<Value>(text).unwrap()
}

#[test]
fn every_shipped_pack_fits_the_schema() {
    for source in embedded() {
        assert_eq!(problem(&schema(), &file(&source.text), &source.name), None);
    }
}

#[test]
fn what_the_reader_refuses_by_its_shape_does_not_fit() {
    let base = json!({
        "schema": 1, "pack": "p", "version": "1",
        "rule": [{"id": "a.b", "title": "t", "entity": "E", "category": "c",
                  "redact": {"method": "replace", "template": "x"}}],
    });
    assert_eq!(problem(&schema(), &base, ""), None);
    for (pointer, bad) in [
        ("/schema", json!(2)),
        ("/rule/0/id", json!("A B")),
        ("/rule/0/redact", json!({"method": "erase"})),
        ("/rule/0/redact", json!({"method": "replace", "template": "x", "extra": 1})),
        ("/rule/0/title", json!(1)),
    ] {
        let mut file = base.clone();
        *file.pointer_mut(pointer).unwrap() = bad;
        assert!(problem(&schema(), &file, "").is_some(), "{pointer}");
    }
}

/// Keys that only one of the two knows would make an editor cry wolf, or stay silent.
#[test]
fn schema_and_reader_know_the_same_keys() {
    let schema = schema();
    let keys = |pointer: &str| {
        let mut keys: Vec<String> =
            schema.pointer(pointer).unwrap().as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };

    assert_eq!(keys("/properties"), read::FILE_KEYS);
    assert_eq!(keys("/properties/defaults/properties"), read::DEFAULT_KEYS);
    assert_eq!(keys("/properties/rule/items/properties"), read::RULE_KEYS);
}
