//! Where fields appear that no exporter sends, or none should, and what strings hold.

use super::*;

#[test]
fn both_of_two_pairs_with_one_key_are_kept() {
    let body = log_of(&[pair("k", &string("first")), pair("k", &string("second"))].concat());
    let text = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"attributes":[
        {"key":"k","value":{"stringValue":"first"}},{"key":"k","value":{"stringValue":"second"}}]}]}]}]}"#;

    let both = [(at("attributes/k"), "first".to_owned()), (at("attributes/k"), "second".to_owned())];
    assert_eq!(fields(&protobuf(Signal::Logs, body)), both);
    assert_eq!(fields(&json(text)), both);
}

#[test]
fn order_and_company_of_a_pair_do_not_matter() {
    let value = length(2, &string("v"));
    let key = length(1, b"k");
    let extra = length(9, b"extra text");
    for parts in [[&value, &key, &extra], [&extra, &value, &key], [&key, &extra, &value]] {
        let document = protobuf(Signal::Logs, log_of(&length(6, &parts.map(|part| &part[..]).concat())));

        assert_eq!(value_at(&document, &at("attributes/k")), "v");
        assert_eq!(value_at(&document, &at("attributes/#9")), "extra text");
        every_field_is_found_by_its_bytes(&document);
    }
    for pair in [
        r#"{"value":{"stringValue":"v"},"key":"k","x":1}"#,
        r#"{"x":1,"value":{"stringValue":"v"},"key":"k"}"#,
        r#"{ "key" : "k" , "x":1 , "value" : { "stringValue" : "v" } }"#,
        r#"{"value":{"stringValue":"v"},"key":"\u006b","x":1}"#,
    ] {
        let document = json(format!(r#"{{"resourceLogs":[{{"attributes":[{pair}]}}]}}"#));

        let attribute = |name: &str| format!("otlp:resourceLogs/0/attributes/{name}");
        assert_eq!(fields(&document), [(attribute("k"), "v".to_owned()), (attribute("x"), "1".to_owned())]);
    }
}

#[test]
fn a_pair_without_a_key_appears_as_it_is_written() {
    let without = [length(6, &length(2, &string("v"))), length(6, b"\x18\x05"), pair("k", b"")].concat();
    let document = protobuf(Signal::Logs, log_of(&without));
    let from_json = json(
        r#"{"resourceLogs":[{"attributes":[{"value":{"stringValue":"v"}},{"key":1,"value":2},{"key":"k"},7]}]}"#,
    );

    assert_eq!(value_at(&document, &at("attributes/0/value/stringValue")), "v");
    assert_eq!(value_at(&document, &at("attributes/1/keyStrindex")), "5");
    assert_eq!(value_at(&document, &at("attributes/k")), "");
    let attribute =
        |name: &str, value: &str| (format!("otlp:resourceLogs/0/attributes/{name}"), value.to_owned());
    assert_eq!(
        fields(&from_json),
        [
            attribute("0/value/stringValue", "v"),
            attribute("1/key", "1"),
            attribute("1/value", "2"),
            attribute("3", "7"),
            attribute("k", ""),
        ]
    );
}

#[test]
fn integers_in_json_are_kept_as_they_are_written() {
    let document = json(
        r#"{"resourceLogs":[{"attributes":[{"key":"a","value":{"intValue":9007199254740993}},
            {"key":"b","value":{"intValue":"9223372036854775807"}},{"key":"c","value":{"newKind":"x"}}]}],"new":[1]}"#,
    );

    assert_eq!(value_at(&document, "otlp:resourceLogs/0/attributes/a"), "9007199254740993");
    assert_eq!(value_at(&document, "otlp:resourceLogs/0/attributes/b"), "9223372036854775807");
    assert_eq!(value_at(&document, "otlp:resourceLogs/0/attributes/c"), "x");
    assert_eq!(value_at(&document, "otlp:new/0"), "1");
}

#[test]
fn a_body_keeps_its_kind() {
    let body = length(5, &length(6, &length(1, &[length(1, b"k"), length(2, &string("v"))].concat())));
    let list = length(5, &length(5, &length(1, &string("v"))));

    assert_eq!(
        value_at(&protobuf(Signal::Logs, log_of(&length(5, &string("event")))), &at("body/stringValue")),
        "event"
    );
    assert_eq!(value_at(&protobuf(Signal::Logs, log_of(&body)), &at("body/kvlistValue/k")), "v");
    assert_eq!(value_at(&protobuf(Signal::Logs, log_of(&list)), &at("body/arrayValue/0")), "v");
}

#[test]
fn fields_without_a_name_are_kept() {
    let record =
        [&b"\x98\x06\x05"[..], b"\x9a\x06\x04text", b"\x9a\x06\x03\x01\x02\x03", b"\x9d\x06\x01\0\0\0"]
            .concat();
    // A field that has a name, but in a form that it never has.
    let odd = [&record[..], b"\x18\x07"].concat();

    let document = protobuf(Signal::Logs, log_of(&odd));

    let field = |name: &str, value: &str| (at(name), value.to_owned());
    assert_eq!(
        fields(&document),
        [
            field("#3", "7"),
            field("#99", "010203"),
            field("#99", "1"),
            field("#99", "5"),
            field("#99", "text")
        ]
    );
    assert_eq!(gaps(&document), []);
}

#[test]
fn a_group_is_a_gap() {
    let document = protobuf(Signal::Logs, log_of(b"\x9b\x06\x0a\x01a\x9c\x06\x1a\x01w"));

    assert_eq!(gaps(&document), [(at("#99"), NotInspected::FormatUnsupported)]);
    assert_eq!(value_at(&document, &at("severityText")), "w");
}

#[test]
fn numbers_may_be_packed_or_not() {
    // A histogram's data point: bucket counts, two packed and one not, and bounds.
    let counts = [
        &length(6, &[&7_u64.to_le_bytes()[..], &8_u64.to_le_bytes()].concat())[..],
        b"\x31",
        &9_u64.to_le_bytes(),
    ]
    .concat();
    let body = length(1, &length(2, &length(2, &length(9, &length(1, &counts)))));

    let document = protobuf(Signal::Metrics, body);

    let point = "otlp:resourceMetrics/0/scopeMetrics/0/metrics/0/histogram/dataPoints/0/bucketCounts";
    let expected = [("0", "7"), ("1", "8"), ("2", "9")];
    assert_eq!(
        fields(&document),
        expected.map(|(index, value)| (format!("{point}/{index}"), value.to_owned()))
    );
}

#[test]
fn profiles_have_names_too() {
    let pair = [&b"\x08\x01"[..], &length(2, &string("v"))].concat();
    let dictionary = [length(5, b""), length(5, b"main.rs"), length(6, &pair)].concat();
    let body = [length(1, &length(2, &length(2, b"\x38\x05\x3a\x02ab"))), length(2, &dictionary)].concat();

    let document = protobuf(Signal::Profiles, body);

    assert_eq!(value_at(&document, "otlp:dictionary/stringTable/1"), "main.rs");
    assert_eq!(value_at(&document, "otlp:dictionary/attributeTable/0/value/stringValue"), "v");
    assert_eq!(value_at(&document, "otlp:resourceProfiles/0/scopeProfiles/0/profiles/0/profileId"), "6162");
}

// ---- what strings hold

#[test]
fn json_in_a_string_is_opened_from_both_encodings() {
    let input = r#"{"command":"echo \"a\\b\"","note":"mail bob@example.com","list":["x"]}"#;
    let encoded = BASE64_STANDARD.encode(r#"{"user":"carol@example.net"}"#);
    let value = |text: &str| Some(AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) });
    let attribute =
        |key: &str, text: &str| KeyValue { key: key.to_owned(), value: value(text), ..KeyValue::default() };
    let attributes = vec![
        attribute("tool_input", input),
        attribute("encoded", &encoded),
        attribute("percent", "bob%40example.com is it"),
    ];
    let log_records = vec![LogRecord { attributes, ..LogRecord::default() }];
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }],
    };
    let bodies = [
        protobuf(Signal::Logs, request.encode_to_vec()),
        json(without_defaults(serde_json::to_value(&request).unwrap()).to_string()),
    ];

    for document in &bodies {
        assert_eq!(value_at(document, &at("attributes/tool_input/!json/command")), r#"echo "a\b""#);
        assert_eq!(value_at(document, &at("attributes/tool_input/!json/list/0")), "x");
        assert_eq!(value_at(document, &at("attributes/encoded/!base64/!json/user")), "carol@example.net");
        assert_eq!(value_at(document, &at("attributes/percent/!percent")), "bob@example.com is it");
        assert_eq!(gaps(document), []);
    }
    let [from_protobuf, _] = bodies;
    let note = at("attributes/tool_input/!json/note");
    let field = from_protobuf.fields().find(|field| field.path().as_str() == note).unwrap();
    assert_eq!(&from_protobuf.text(TextId::BODY)[field.body_span()], b"mail bob@example.com");
}

#[test]
fn bytes_are_text_where_they_read_as_text() {
    let text = length(7, br#"{"user":"carol@example.net"}"#);
    let body = log_of(
        &[pair("t", &text), pair("b", &length(7, &[0, 1, 2, 255])), length(9, b"sixteen letters!")].concat(),
    );

    let document = protobuf(Signal::Logs, body);

    assert_eq!(value_at(&document, &at("attributes/t/!json/user")), "carol@example.net");
    assert_eq!(value_at(&document, &at("attributes/b")), "000102ff");
    assert_eq!(value_at(&document, &at("traceId")), "7369787465656e206c65747465727321");
}

#[test]
fn bytes_have_one_path_and_one_value_in_both_encodings() {
    let values: [&[u8]; 6] = [
        br#"{"user":"carol@example.net"}"#,
        b"hi",
        b"",
        "größer als".as_bytes(),
        b"\x00\x01\xfb\xff",
        b"mail bob@example.com now",
    ];
    let key = |index: usize| format!("key{index}");
    let in_protobuf: Vec<Vec<u8>> =
        values.iter().enumerate().map(|(index, value)| pair(&key(index), &length(7, value))).collect();
    let in_json: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(index, value)| {
            let (key, value) = (key(index), BASE64_STANDARD.encode(value));
            format!(r#"{{"key":"{key}","value":{{"bytesValue" : "{value}"}}}}"#)
        })
        .collect();
    let in_json = format!(
        r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"attributes":[{}]}}]}}]}}]}}"#,
        in_json.join(",")
    );

    let (from_protobuf, from_json) = (protobuf(Signal::Logs, log_of(&in_protobuf.concat())), json(&*in_json));

    assert_eq!(fields(&from_json), fields(&from_protobuf));
    for document in [&from_protobuf, &from_json] {
        assert_eq!(value_at(document, &at("attributes/key0/!json/user")), "carol@example.net");
        assert_eq!(gaps(document), []);
    }
    let mail = from_json.leaves().find(|field| field.path().as_str() == at("attributes/key5")).unwrap();
    let encoded = BASE64_STANDARD.encode(values[5]);
    assert_eq!(&in_json[mail.body_span()], encoded.as_str());
}

#[test]
fn what_frames_a_value_is_not_scanned_with_it() {
    // The length before is a letter, the tag behind a digit, and a number reads as digits.
    let key = "k".repeat(0x61);
    let record = [
        pair(&key, &string("bob@example.com")),
        pair("b", &string("x")),
        length(3, b"text"),
        b"\x09".to_vec(),
        b"12345678".to_vec(),
    ];
    let body = log_of(&record.concat());

    let document = protobuf(Signal::Logs, body.clone());

    let scanned = document.scannable(TextId::BODY);
    assert_eq!(scanned.len(), body.len());
    let parts: Vec<&[u8]> = scanned.split(|byte| *byte == 0).filter(|part| !part.is_empty()).collect();
    assert_eq!(parts, [key.as_bytes(), b"bob@example.com", b"b", b"x", b"text"]);
}

#[test]
fn what_is_not_understood_is_scanned_as_it_is() {
    let body = log_of(b"\x1a\x01a\x0fbob@example.com");

    let document = protobuf(Signal::Logs, body);

    assert!(document.scannable(TextId::BODY).ends_with(b"\0\0a\x0fbob@example.com"));
}

/// The byte behind an empty value may look like the form of one.
#[test]
fn an_empty_value_takes_nothing_of_what_follows() {
    for count in [1, 2, 0x10, 0x18, 300] {
        let attributes = ["empty", "full"].map(|key| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: (key == "full").then_some(any_value::Value::BoolValue(true)) }),
            ..KeyValue::default()
        });
        for attributes in [attributes.to_vec(), attributes[..1].to_vec()] {
            let resource = Resource { attributes, dropped_attributes_count: count, ..Resource::default() };
            let logs = ResourceLogs { resource: Some(resource), ..ResourceLogs::default() };
            let body = ExportLogsServiceRequest { resource_logs: vec![logs] }.encode_to_vec();

            let document = protobuf(Signal::Logs, body);

            let path = "otlp:resourceLogs/0/resource/droppedAttributesCount";
            assert_eq!((value_at(&document, path), gaps(&document)), (count.to_string(), vec![]));
        }
    }
}
