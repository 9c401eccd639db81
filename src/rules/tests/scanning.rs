use super::*;
use crate::model::{Confidence, Severity};

/// A rule file with these rules in it.
pub(in crate::rules) fn set_of(rules: &str) -> RuleSet {
    let text = format!("schema = 1\npack = \"test\"\nversion = \"1\"\n{rules}");
    RuleSet::from_sources(&[Source { name: "test.toml".to_owned(), text }])
        .unwrap_or_else(|error| panic!("{error}"))
}

pub(in crate::rules) fn value_rule(id: &str, rest: &str) -> String {
    format!(
        "[[rule]]\nid = \"{id}\"\ntitle = \"t\"\nentity = \"E\"\ncategory = \"c\"\nredact = {{ method = \"replace\", template = \"x\" }}\n{rest}\n"
    )
}

#[test]
fn identifiers_are_found_where_the_client_puts_them() {
    let metadata = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        r#"{"rh":"0123456789abcdef","bashCommandLen":42,"to":"ann@example.net"}"#,
    );
    let body = format!(
        r#"{{"events":[{{"event_type":"E","event_data":{{"event_id":"001f112b-9d68-4e89-97bb-a9f6dabb538b",
        "device_id":"{}","email":"canary.user@example.com","session_id":"da98dd17-dba6-47bf-bfaa-dc82f7b04ecf",
        "auth":{{"organization_uuid":"66666666-7777-4888-9999-000000000000","account_uuid":"11111111-2222-4333-8444-555555555555"}},
        "env":{{"linux_kernel":"6.18.44","is_ci":false,"shell":"none","version":"2.1.329"}},
        "additional_metadata":"{metadata}","swe_bench_run_id":""}}}}]}}"#,
        "6cc3786f21198e2c".repeat(4),
    );

    let found = found(&shipped(), &json::document("first-party-events", &body));

    let event = "first-party-events:events/0/event_data";
    assert_eq!(
        found,
        [
            format!("contact.email @ {event}/additional_metadata/!base64/!json/to = ann@example.net"),
            format!("environment.os @ {event}/env/linux_kernel = 6.18.44"),
            format!("field.user-email @ {event}/email = canary.user@example.com"),
            format!(
                "identity.account-uuid @ {event}/auth/account_uuid = 11111111-2222-4333-8444-555555555555"
            ),
            format!("identity.device-id @ {event}/device_id = {}", "6cc3786f21198e2c".repeat(4)),
            format!(
                "identity.organization-uuid @ {event}/auth/organization_uuid = 66666666-7777-4888-9999-000000000000"
            ),
            format!(
                "identity.repository-hash @ {event}/additional_metadata/!base64/!json/rh = 0123456789abcdef"
            ),
            format!("identity.session-id @ {event}/session_id = da98dd17-dba6-47bf-bfaa-dc82f7b04ecf"),
        ]
    );
}

#[test]
fn false_friends_are_not_found() {
    let body = r#"{"input_tokens":10,"prompt_length":"11","prompt_id":"21ecd5d7-c102-4840-93fb-5d151ef9bb89","author":"builtin",
        "timeUnixNano":"1795242141273000000","n":1795242141313000000,"ratio":0.00040500000000000003,
        "event_id":"001f112b-9d68-4e89-97bb-a9f6dabb538b","version":"2.1.329","sha":"80cd076ae0deb1b7dad4f793b8c1ec3c8979735f",
        "icon":"src/icon@2x.png","npm":"npm i @types/node@20.1.0","ssh":"git@github.com:org/repo.git","code":"std::fmt::Debug a::b",
        "time":"2026-11-21T06:22:09.940Z","v":"version 1.2.3.4","request":"req_011abc","path":"/home/runner/x","flags":"statsig::gate_exposure",
        "tool_input_size_bytes":"31","email":"","device_id":null,"mac":"00:1b:44:11:3a:b7","user_type":"external"}"#;

    assert_eq!(found(&shipped(), &json::document("json", body)), Vec::<String>::new());
}

#[test]
fn a_value_behind_escapes_is_found_once_and_whole() {
    let set = shipped();

    let email = found(&set, &json::document("json", r#"{"m":"to:\nbob\u0040example.com\nend"}"#));
    let path = found(&set, &json::document("json", r#"{"m":"C:\\Users\\jane\\x"}"#));
    let nested = found(&set, &json::document("json", r#"{"m":"{\"to\":\"bob@example.com\"}"}"#));

    assert_eq!(email, ["contact.email @ json:m = bob@example.com"]);
    assert_eq!(path, ["path.windows-user @ json:m = jane"]);
    assert_eq!(nested, ["contact.email @ json:m/!json/to = bob@example.com"]);
}

#[test]
fn what_base64_looks_like_is_void_once_it_was_opened() {
    // The anchor stands in the encoded form only.
    let encoded =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, r#"{"key":"a plain value"}"#);
    let anchor = &encoded[8..14];
    let set =
        set_of(&value_rule("test.a", &format!("anchors = [\"{anchor}\"]\nregex = '(?P<hit>{anchor})'")));

    assert_eq!(
        found(&set, &json::document("json", &format!(r#"{{"m":"{encoded}"}}"#))),
        Vec::<String>::new()
    );
    assert_eq!(found(&set, &json::document("json", &format!(r#"{{"m":"-{encoded}"}}"#))).len(), 1);
}

#[test]
fn of_two_rules_for_one_entity_at_one_place_the_graver_stays() {
    let set = shipped();
    let document = json::document("json", r#"{"email":"bob@example.com"}"#);

    assert_eq!(found(&set, &document), ["field.user-email @ json:email = bob@example.com"]);
}

#[test]
fn a_secret_inside_content_is_named_as_well() {
    let key = samples::expand("sk-ant-api03-{{b64u:40}}", "x").unwrap();
    let document = json::document("json", &format!(r#"{{"prompt":"use {key} please"}}"#));

    let found = found(&shipped(), &document);

    assert_eq!(
        found,
        [
            format!("field.prompt @ json:prompt = use {key} please"),
            format!("secret.anthropic @ json:prompt = {key}")
        ]
    );
}

#[test]
fn a_rule_holds_for_its_destinations_only() {
    let rule =
        value_rule("test.a", "anchors = [\"abc\"]\nregex = '(?P<hit>abc)'\ndestinations = [\"statsig\"]");
    let set = set_of(&rule);
    let document = json::document("json", r#"{"m":"abc"}"#);
    let hits = |id: &str| set.scan(&document, &DestinationId::new(id), &mut Scratch::default()).len();

    assert_eq!((hits("statsig"), hits("otlp")), (1, 0));
}

#[test]
fn a_rule_holds_for_its_fields_only() {
    let rule = value_rule(
        "test.a",
        "anchors = [\"abc\"]\nregex = '(?P<hit>abc)'\nwhere = [\"**/{a,b}\"]\nwhere_not = [\"x/**\"]",
    );
    let set = set_of(&rule);

    let found =
        found(&set, &json::document("json", r#"{"a":"abc","c":"abc","x":{"b":"abc"},"y":{"b":"abc"}}"#));

    assert_eq!(found, ["test.a @ json:a = abc", "test.a @ json:y/b = abc"]);
}

#[test]
fn a_pattern_names_what_is_in_a_list_or_an_object() {
    let rule = value_rule("test.field", "kind = \"field\"\nwhere = [\"**/tags/*\", \"json:only/*\"]");
    let body = r#"{"tags":["a","b"],"x":{"tags":{"c":"d","e":{"f":"deeper"}}},"only":{"g":"h"},"y":{"only":{"i":"j"}}}"#;

    let mut found = found(&set_of(&rule), &json::document("json", body));

    found.sort();
    let expected = ["json:only/g = h", "json:tags/0 = a", "json:tags/1 = b", "json:x/tags/c = d"];
    assert_eq!(found, expected.map(|found| format!("test.field @ {found}")));
}

#[test]
fn words_nearby_and_checksums_change_the_confidence() {
    let set = shipped();
    let confidence = |text: &str| {
        let text = samples::expand(text, "x").unwrap();
        let hits = set.scan_text(text.as_bytes(), &destination(), &mut Scratch::default());
        hits.iter().map(|hit| hit.confidence).collect::<Vec<_>>()
    };

    assert_eq!(confidence("+44 20 7946 0958"), [Confidence::Medium]);
    assert_eq!(confidence("phone: +44 20 7946 0958"), [Confidence::High]);
    assert_eq!(confidence("x ghp_{{b62:36}}"), [Confidence::High]);
    assert_eq!(confidence("x ghp_{{github}}"), [Confidence::Certain]);
}

/// PITFALLS 5
#[test]
fn a_token_that_was_cut_off_is_found() {
    let set = shipped();
    let text = samples::expand("sk-ant-oat01-{{b64u:14}}", "x").unwrap();

    assert_eq!(set.scan_text(text.as_bytes(), &destination(), &mut Scratch::default()).len(), 1);
}

#[test]
fn values_side_by_side_are_all_found() {
    let set = shipped();
    let text = "a@example.com,b@example.com;c@example.com d@example.com";

    let hits = set.scan_text(text.as_bytes(), &destination(), &mut Scratch::default());

    let spans: Vec<&str> = hits.iter().map(|hit| &text[hit.range.clone()]).collect();
    assert_eq!(spans, ["a@example.com", "b@example.com", "c@example.com", "d@example.com"]);
}

#[test]
fn a_scratch_serves_several_sets() {
    let one = set_of(&value_rule("test.a", "anchors = [\"abc\"]\nregex = '(?P<hit>abc)'"));
    let two = set_of(&value_rule("test.b", "anchors = [\"xyz\"]\nregex = '(?P<hit>xyz+)'"));
    let mut scratch = Scratch::default();

    for _ in 0..2 {
        assert_eq!(one.scan_text(b"abc xyz", &destination(), &mut scratch)[0].range, 0..3);
        assert_eq!(two.scan_text(b"abc xyzz", &destination(), &mut scratch)[0].range, 4..8);
    }
    assert_ne!(one.hash(), two.hash());
}

#[test]
fn severities_say_what_matters_most() {
    let set = shipped();
    let severity = |id: &str| set.rule(id).unwrap().severity;

    assert_eq!(severity("field.prompt"), Severity::Critical);
    assert!(severity("identity.device-id") > severity("environment.os"));
}

#[test]
fn a_container_that_a_rule_names_is_one_finding() {
    let body = r#"{"tool_parameters":"{\"bash_command\":\"cat\",\"full_command\":\"cat /etc/hosts\",\"to\":\"bob@example.com\"}"}"#;

    let found = found(&shipped(), &json::document("json", body));

    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("contact.email @ json:tool_parameters/!json/to = "));
    assert!(found[1].starts_with("field.tool-input @ json:tool_parameters = "));
}

#[test]
fn names_in_code_are_not_tokens() {
    let names = "re_engagement_campaign_notification_sent fw_downloadcompletedevent npm_lifecycle_event sk_live_ \
        hf_hub_download secret_manager_reference_count api-version sdk-cli key-value glob-us1 pat_match precious DESK \
        tengu_api_success max_output_tokens=32000 MAX_TOKENS=200000 CLAUDE_CODE_ENABLE_TELEMETRY=1 Basic usage of bearer";

    assert_eq!(
        found(&shipped(), &json::document("json", &format!(r#"{{"m":"{names}"}}"#))),
        Vec::<String>::new()
    );
}

#[test]
fn values_that_were_opened_side_by_side_do_not_run_into_each_other() {
    use crate::model::{DocumentBuilder, FieldKind, Name, NodeId, SpanMap, TextId};
    let body = br#"["bob@exam\t","ple.com\t","\tann@example.com","\tx"]"#;
    let mut builder = DocumentBuilder::new("json", bytes::Bytes::from_static(body));
    let root = builder.push(NodeId::ROOT, Name::Static(""), FieldKind::Array, 0..body.len());
    let spans = [2..12, 15..24, 27..44, 47..50];
    let nodes: Vec<NodeId> = spans
        .iter()
        .enumerate()
        .map(|(index, span)| {
            builder.push(root, Name::Index(index as u32), FieldKind::EscapedString, span.clone())
        })
        .collect();
    let ranges = [0..8, 8..15, 15..30, 30..31];
    let segments = (0..4)
        .map(|index| {
            let whole = spans[index].start as u32..spans[index].end as u32;
            (ranges[index].clone(), nodes[index], SpanMap::Whole(whole))
        })
        .collect();
    builder.open_text(
        TextId::BODY,
        bytes::Bytes::from_static(b"bob@example.comann@example.comx"),
        segments,
        false,
    );

    let found = found(&shipped(), &builder.finish());

    assert_eq!(found, ["contact.email @ json:2 = ann@example.com"]);
}

#[test]
fn an_allow_entry_holds_through_its_last_day() {
    let rule = value_rule(
        "test.a",
        "anchors = [\"ab\"]\nregex = '(?P<hit>ab[0-9])'\nallow = { exact = [\"ab1\"], reason = \"r\", expires = \"2026-11-21\" }",
    );
    let text = format!("schema = 1\npack = \"test\"\nversion = \"1\"\n{rule}");
    let sources = [Source { name: "test.toml".to_owned(), text }];
    let hits = |today: &str| {
        let set = RuleSet::from_sources_at(&sources, today).unwrap();
        set.scan_text(b"ab1", &destination(), &mut Scratch::default()).len()
    };

    assert_eq!((hits("2026-11-20"), hits("2026-11-21"), hits("2026-11-22")), (0, 0, 1));
}

#[test]
fn a_match_does_not_run_from_one_opened_value_into_the_next() {
    use crate::model::{DocumentBuilder, FieldKind, Name, NodeId, SpanMap, TextId};
    let set = set_of(&value_rule("test.a", "anchors = [\"ab\"]\nregex = '(?P<hit>ab\\s?[0-9]+)'"));
    let mut builder = DocumentBuilder::new("json", bytes::Bytes::from_static(b"[\"..\",\"..\"]"));
    let root = builder.push(NodeId::ROOT, Name::Static(""), FieldKind::Array, 0..11);
    let first = builder.push(root, Name::Index(0), FieldKind::String, 2..4);
    let second = builder.push(root, Name::Index(1), FieldKind::String, 7..9);
    let segments = vec![(0..2, first, SpanMap::Whole(2..4)), (3..9, second, SpanMap::Whole(7..9))];
    builder.open_text(TextId::BODY, bytes::Bytes::from_static(b"ab\n12 ab3"), segments, true);
    let document = builder.finish();

    let hits = set.scan(&document, &destination(), &mut Scratch::default());

    assert_eq!(hits.iter().map(|hit| (hit.range.start, hit.range.end)).collect::<Vec<_>>(), [(6, 9)]);
}

#[test]
fn a_value_ends_where_a_binary_format_frames_the_next_one() {
    use crate::model::{DocumentBuilder, FieldKind, Name, NodeId};
    let body = b"\x0atoken=aB3dE6gH9kL2\x32\x0bother value";
    let mut builder = DocumentBuilder::new("otlp", bytes::Bytes::from_static(body));
    builder.push(NodeId::ROOT, Name::Static(""), FieldKind::Object, 0..body.len());
    builder.set_scannable(bytes::Bytes::from_static(b"\0token=aB3dE6gH9kL2\0\0other value"));
    let document = builder.finish();

    let hits = shipped().scan(&document, &destination(), &mut Scratch::default());

    assert_eq!(hits.iter().map(|hit| (hit.range.start, hit.range.end)).collect::<Vec<_>>(), [(7, 19)]);
}

#[test]
fn digits_inside_a_token_or_an_account_number_are_no_card() {
    let text = "xoxb-4111111111111111-401288888888188-aBcDeFgHiJkLmNoPqRsTuVwX and 4012888888881881";

    let hits = shipped().scan_text(text.as_bytes(), &destination(), &mut Scratch::default());

    let set = shipped();
    let cards = hits.iter().filter(|hit| set.rules()[hit.rule].id.as_str() == "finance.card");
    assert_eq!(cards.map(|hit| hit.range.start).collect::<Vec<_>>(), [text.len() - 16]);
}

#[test]
fn whole_numbers_are_no_cards() {
    let set = shipped();
    let number = r#"{"a":4012888888881881,"b":{"intValue":"4012888888881881"},"c":"4012888888881881"}"#;

    assert_eq!(found(&set, &json::document("json", number)), ["finance.card @ json:c = 4012888888881881"]);
}

#[test]
fn a_number_is_no_content() {
    let body = r#"{"prompt":812,"completion":3,"response":"it works"}"#;

    assert_eq!(found(&shipped(), &json::document("json", body)), ["field.prompt @ json:response = it works"]);
}
