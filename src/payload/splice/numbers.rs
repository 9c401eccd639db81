//! Numbers in protobuf: whatever is edited among them, the official reader reads what was asked for and all else.

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
};
use proptest::prelude::*;
use prost::Message as _;

use crate::{
    model::{Edit, Replacement},
    payload::{self, Budget, OtlpEncoding, PayloadFormat, Signal, splice},
};

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::IntValue),
        (-200_i64..200).prop_map(Value::IntValue),
        any::<i32>().prop_map(|number| Value::DoubleValue(f64::from(number) / 4.0)),
        any::<bool>().prop_map(Value::BoolValue),
        "[a-z]{0,6}".prop_map(Value::StringValue),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|values| {
                let values = values.into_iter().map(|value| AnyValue { value: Some(value) }).collect();
                Value::ArrayValue(ArrayValue { values })
            }),
            pairs(inner).prop_map(|values| Value::KvlistValue(KeyValueList { values })),
        ]
    })
}

fn pairs(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Vec<KeyValue>> {
    prop::collection::vec(("[a-z]{1,3}", value), 0..5).prop_map(|pairs| {
        let pair = |(key, value)| KeyValue {
            key,
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        };
        pairs.into_iter().map(pair).collect()
    })
}

fn request(attributes: Vec<KeyValue>) -> ExportLogsServiceRequest {
    let record = LogRecord { time_unix_nano: 1_700_000_000, attributes, flags: 5, ..LogRecord::default() };
    let scope_logs = vec![ScopeLogs { log_records: vec![record.clone(), record], ..ScopeLogs::default() }];
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] }
}

/// What is asked for at one value: two bits of the choice.
fn asked(choice: u64, at: usize) -> Option<Replacement> {
    match choice >> (2 * at % 62) & 3 {
        0 => None,
        1 => Some(Replacement::Text("anon-0123".into())),
        2 => Some(Replacement::Text("300".into())),
        _ => Some(if at.is_multiple_of(2) { Replacement::Remove } else { Replacement::Null }),
    }
}

/// What becomes of the values in a value; whether it goes itself.
fn edited(value: &mut Value, choice: u64, at: &mut usize) -> bool {
    match value {
        Value::ArrayValue(list) => {
            for value in list.values.iter_mut().filter_map(|value| value.value.as_mut()) {
                // A member of a list stays, so that the others keep their places.
                edited(value, choice, at);
            }
            return false;
        }
        Value::KvlistValue(list) => {
            edited_pairs(&mut list.values, choice, at);
            return false;
        }
        _ => {}
    }
    let asked = asked(choice, *at);
    *at += 1;
    let Some(asked) = asked else { return false };
    let text = match &asked {
        Replacement::Text(text) => &**text,
        Replacement::Null | Replacement::Remove => "",
    };
    match value {
        Value::BoolValue(flag) => *flag = false,
        Value::DoubleValue(number) => *number = text.parse().unwrap_or_default(),
        Value::IntValue(number) => {
            // In as many bytes as there were.
            let fits = !(0..0x80).contains(number);
            *number = text.parse().ok().filter(|_| fits).unwrap_or_default();
        }
        // Where nothing stands, nothing is put.
        Value::StringValue(string) if !string.is_empty() => *string = text.to_owned(),
        _ => {}
    }
    asked == Replacement::Remove
}

fn edited_pairs(pairs: &mut Vec<KeyValue>, choice: u64, at: &mut usize) {
    pairs.retain_mut(|pair| {
        let value = pair.value.as_mut().and_then(|value| value.value.as_mut());
        value.is_none_or(|value| !edited(value, choice, at))
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn edited_numbers_are_read_as_such_and_all_else_as_it_was(attributes in pairs(value()), choice in any::<u64>()) {
        let body = Bytes::from(request(attributes.clone()).encode_to_vec());
        let format = PayloadFormat::Otlp(OtlpEncoding::Protobuf(Signal::Logs));
        let document = payload::decode(&format, body, &Budget::default()).unwrap();
        // The first of the two records is edited.
        let values = document.leaves().filter(|field| {
            let path = field.path();
            path.as_str().contains("logRecords/0/attributes/")
        });
        let edits: Vec<Edit> = values
            .enumerate()
            .filter_map(|(at, field)| {
                let edit = |with| Edit { text: field.text(), range: field.span(), node: field.id(), with };
                asked(choice, at).map(edit)
            })
            .collect();

        let out = splice(&document, &edits).unwrap();

        let mut expected = request(attributes);
        let first = &mut expected.resource_logs[0].scope_logs[0].log_records[0];
        edited_pairs(&mut first.attributes, choice, &mut 0);
        prop_assert_eq!(ExportLogsServiceRequest::decode(&out[..]).unwrap(), expected);
        // Nothing was removed: then every node is where it was, and says what a record says of it.
        let after = payload::decode(&format, out, &Budget::default()).unwrap();
        let is_text = |edit: &Edit| matches!(edit.with, Replacement::Text(_));
        if edits.iter().all(is_text) {
            for edit in edits.iter().filter(|edit| !edit.range.is_empty()) {
                prop_assert_eq!(after.field(edit.node).display(), payload::told(&document, edit));
            }
        }
    }
}
