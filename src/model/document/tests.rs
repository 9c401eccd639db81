use super::*;

/// `{"a":"x\u0040y","b":"eyJrIjoxfQ=="}` as a walker would build it.
fn sample() -> Document {
    let body = br#"{"a":"x\u0040y","b":"eyJrIjoxfQ=="}"#;
    let mut builder = DocumentBuilder::new("json", Bytes::from_static(body));
    let root = builder.push(NodeId::ROOT, Name::Static(""), FieldKind::Object, 0..body.len());
    let a = builder.push(root, Name::Key { start: 2, end: 3 }, FieldKind::EscapedString, 6..14);
    let b = builder.push(root, Name::Key { start: 17, end: 18 }, FieldKind::String, 21..33);
    let pieces = vec![(0, 6, false), (1, 7, true), (2, 13, false)];
    let segments = vec![(0..3, a, SpanMap::Pieces(0..3))];
    builder.open_copies(TextId::BODY, Bytes::from_static(b"x@y"), segments, pieces, false);
    let map = SpanMap::Base64 { start: 21 };
    builder.open_text(TextId::BODY, Bytes::from_static(br#"{"k":1}"#), vec![(0..7, b, map)], true);
    let base64 = builder.push(b, Name::Static("!base64"), FieldKind::String, 0..7);
    let json = builder.push(base64, Name::Static("!json"), FieldKind::Object, 0..7);
    builder.push(json, Name::Key { start: 2, end: 3 }, FieldKind::Number, 5..6);
    builder.finish()
}

#[test]
fn a_nested_value_leads_back_to_the_body() {
    let document = sample();
    let field = document.field_at(TextId(2), 5);

    assert_eq!(field.path().as_str(), "json:b/!base64/!json/k");
    // Byte 5 is the last of the second group of three: characters 6 and 7 of the base64 text.
    assert_eq!(field.body_span(), 21 + 6..21 + 8);
}

#[test]
fn an_escape_maps_as_a_whole() {
    let document = sample();

    assert_eq!(document.body_span(TextId(1), 0..3), 6..14);
    assert_eq!(document.body_span(TextId(1), 1..2), 7..13);
    assert_eq!(document.body_span(TextId(1), 2..3), 13..14);
    assert_eq!(document.field_at(TextId(1), 1).path().as_str(), "json:a");
}

#[test]
fn an_escaped_string_reads_plain() {
    let document = sample();

    let field = document.fields().find(|field| field.kind() == FieldKind::EscapedString).unwrap();

    assert_eq!(field.plain(), b"x@y");
    assert_eq!(field.raw(), br"x\u0040y");
}

#[test]
fn an_offset_in_a_key_belongs_to_its_field() {
    let document = sample();

    assert_eq!(document.field_at(TextId::BODY, 17).path().as_str(), "json:b");
    assert_eq!(document.field_at(TextId::BODY, 22).path().as_str(), "json:b");
    assert_eq!(document.field_at(TextId::BODY, 15).path().as_str(), "json:");
}

#[test]
fn separators_and_control_characters_in_keys_cannot_forge_a_path() {
    let body = b"{\"a/b\x1b\":1}";
    let mut builder = DocumentBuilder::new("json", Bytes::from_static(body));
    let root = builder.push(NodeId::ROOT, Name::Static(""), FieldKind::Object, 0..body.len());
    let leaf = builder.push(root, Name::Key { start: 2, end: 6 }, FieldKind::Number, 8..9);

    let document = builder.finish();

    assert_eq!(document.field(leaf).path().as_str(), r"json:a~1b\u{1b}");
}
