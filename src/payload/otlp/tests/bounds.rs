//! What is broken, and what was made to do harm.

use super::*;

// ---- what is broken

#[test]
fn a_message_that_is_cut_off_is_read_to_its_end() {
    let whole = log_of(&[pair("a", &string("first")), pair("b", &string("bob@example.com"))].concat());

    for end in 1..whole.len() {
        let document = protobuf(Signal::Logs, &whole[..end]);

        assert!(gaps(&document).iter().any(|(_, why)| *why == NotInspected::FormatBroken), "{end}");
        every_field_is_found_by_its_bytes(&document);
    }
    let document = protobuf(Signal::Logs, &whole[..whole.len() - 4]);
    assert_eq!(value_at(&document, &at("attributes/a")), "first");
    assert_eq!(value_at(&document, &at("attributes/b")), "bob@example");
}

#[test]
fn what_follows_a_broken_message_is_read() {
    let broken = length(2, &length(2, b"\x0f"));
    let whole = length(2, &length(2, &pair("k", &string("v"))));

    let document = protobuf(Signal::Logs, length(1, &[broken, whole].concat()));

    let path = "otlp:resourceLogs/0/scopeLogs/0/logRecords/0".to_owned();
    assert_eq!(gaps(&document), [(path, NotInspected::FormatBroken)]);
    assert_eq!(value_at(&document, "otlp:resourceLogs/0/scopeLogs/1/logRecords/0/attributes/k"), "v");
}

#[test]
fn a_length_past_the_end_is_a_gap() {
    let document = protobuf(Signal::Logs, &b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x1a\x03url"[..]);

    assert_eq!(value_at(&document, "otlp:resourceLogs/0/schemaUrl"), "url");
    assert_eq!(gaps(&document), [("otlp:".to_owned(), NotInspected::FormatBroken)]);
}

// Found by tests/fuzz: OTLP by its path, and no JSON from the first byte on.
#[test]
fn a_json_body_that_is_broken_from_its_first_byte_is_a_gap() {
    for body in ["\n$", "oops", "{oops", ""] {
        let document = json(body);

        assert_eq!(gaps(&document), [("otlp:".to_owned(), NotInspected::FormatBroken)], "{body:?}");
    }
}

#[test]
fn a_json_body_that_is_cut_off_keeps_its_places() {
    let body = r#"{"resourceLogs":[{"attributes":[{"key":"a","value":{"stringValue":"x"}},{"key":"b","value":{"stringValue":"bob@ex"#;

    for end in 1..body.len() {
        every_field_is_found_by_its_bytes(&json(&body[..end]));
    }
    let document = json(body);
    assert_eq!(value_at(&document, "otlp:resourceLogs/0/attributes/b"), "bob@ex");
    assert_eq!(
        gaps(&document),
        [("otlp:resourceLogs/0/attributes/b".to_owned(), NotInspected::FormatBroken)]
    );
}

// ---- bombs

#[test]
fn a_pit_of_lists_costs_no_stack_and_is_a_gap() {
    // Built from the inside out, back to front, because each level has a length.
    let mut back = vec![];
    for _ in 0..100_000 {
        for head in [0x0a_u8, 0x2a] {
            let mut length = back.len();
            let mut digits = vec![head];
            while length >= 0x80 {
                digits.push(length as u8 | 0x80);
                length >>= 7;
            }
            digits.push(length as u8);
            digits.reverse();
            back.extend(digits);
        }
    }
    back.reverse();

    let document = protobuf(Signal::Logs, log_of(&[length(5, &back), length(3, b"behind")].concat()));

    assert_eq!(document.gaps().len(), 1);
    assert_eq!(document.gaps()[0].1, NotInspected::NestingBudget);
    assert_eq!(value_at(&document, &at("severityText")), "behind");
}

#[test]
fn a_million_fields_stop_at_the_budget() {
    let body = log_of(&b"\x1a\x00".repeat(1_500_000));
    let packed = length(1, &length(2, &length(2, &length(9, &length(1, &length(6, &[0; 16_000_000]))))));
    let most = Budget::default().nodes as usize;

    for document in [protobuf(Signal::Logs, body), protobuf(Signal::Metrics, packed)] {
        assert_eq!(document.fields().len(), most);
        assert_eq!(document.gaps().last().unwrap().1, NotInspected::NestingBudget);
    }
}

/// Took minutes once, when each node was looked up by counting to it.
#[test]
fn a_large_json_body_takes_its_shape_in_one_pass() {
    let pair = r#"{"key":"k","value":{"stringValue":"v"}}"#;
    let body = format!(r#"{{"resourceLogs":[{{"attributes":[{}]}}]}}"#, vec![pair; 200_000].join(","));

    let document = json(body);

    assert_eq!(document.leaves().count(), 200_000);
}

#[test]
fn strings_stay_within_the_budget_for_opened_texts() {
    let value = format!("[\"{}\"]", "a".repeat(100_000));
    let body = log_of(&pair("k", &string(&value)));
    let budget = Budget { opened_bytes: ByteSize::kibibytes(64), ..Budget::default() };

    let document = decode(OtlpEncoding::Protobuf(Signal::Logs), body.into(), &budget).unwrap();

    assert!(document.texts().skip(1).map(|(_, bytes)| bytes.len()).sum::<usize>() <= 64 * 1024);
    assert_eq!(gaps(&document), [(at("attributes/k"), NotInspected::NestingBudget)]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>, cut in 0..200_usize, with in any::<u8>()) {
        for signal in [Signal::Logs, Signal::Metrics, Signal::Profiles, Signal::Traces] {
            every_field_is_found_by_its_bytes(&protobuf(signal, bytes.clone()));
        }
        let _ = wire::signal(&bytes);
        // A body that is nearly right goes deeper.
        let mut body = log_of(&[pair("a", &length(6, &length(1, &pair("x", &string("y"))))), pair("b", &string("z"))].concat());
        let at = cut % body.len();
        body[at] = with;
        every_field_is_found_by_its_bytes(&protobuf(Signal::Logs, body));
    }
}
