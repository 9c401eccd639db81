//! The shapes of real requests: event batches, OTLP, Sentry envelopes, Datadog logs, Statsig events, feedback, heads.

use std::fmt::Write as _;

use super::{
    Class, Document, Label, Planted, Random,
    depths::{Depth, base64, quote, quote_hard},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    Datadog,
    Events,
    EventsMetadata,
    Feedback,
    OtlpBytes,
    OtlpJson,
    Query,
    Sentry,
    Statsig,
}

pub const CARRIERS: &[Carrier] = &[
    Carrier::Events,
    Carrier::OtlpJson,
    Carrier::OtlpBytes,
    Carrier::Sentry,
    Carrier::Datadog,
    Carrier::Statsig,
    Carrier::Feedback,
    Carrier::EventsMetadata,
    Carrier::Query,
];

/// A named string that a carrier holds.
pub struct Field {
    pub name: String,
    pub written: Written,
}

/// A string, and how it is spelled in JSON.
pub struct Written {
    pub plain: String,
    pub json: String,
}

impl Written {
    fn new(plain: &str) -> Self {
        Self { plain: plain.to_owned(), json: quote(plain) }
    }
}

/// Names of fields that say nothing of what they hold.
const NEUTRAL: &[&str] =
    &["note", "detail", "label", "reason", "context", "argument", "custom_field", "info"];

/// A request that holds `planted`, next to what such requests say anyway.
pub fn document(random: &mut Random, carrier: Carrier, depth: Depth, planted: &Planted) -> Document {
    let plain = depth.wrap(random, planted);
    let json = match depth {
        Depth::Escaped => quote_hard(random, &plain),
        _ => quote(&plain),
    };
    let field = Field { name: random.pick(NEUTRAL).to_owned(), written: Written { plain, json } };
    let mut labels = vec![Label { class: planted.class, value: planted.value.clone(), depth: depth.name() }];
    let (fields, identity) = identity(random, carrier);
    labels.extend(identity);
    let mut fields = fields;
    let at = random.below(fields.len() + 1);
    fields.insert(at, field);
    write(random, carrier, fields, labels)
}

/// A request with these texts, and with nothing in it to find.
pub fn clean(random: &mut Random, carrier: Carrier, texts: &[String]) -> Document {
    let fields = texts
        .iter()
        .enumerate()
        .map(|(number, text)| {
            let plain = match random.below(4) {
                0 => format!("{} {text} {}", random.words(2), random.words(2)),
                1 => format!("{{\"note\":{},\"n\":{number}}}", quote(text)),
                _ => text.clone(),
            };
            Field { name: format!("{}{number}", random.pick(NEUTRAL)), written: Written::new(&plain) }
        })
        .collect();
    write(random, carrier, fields, Vec::new())
}

/// Fields that name account, machine and session, and content fields, under the names that are in use.
fn identity(random: &mut Random, carrier: Carrier) -> (Vec<Field>, Vec<Label>) {
    let rows: &[(Class, &[&str])] = match carrier {
        Carrier::Query | Carrier::Feedback => &[],
        Carrier::OtlpBytes | Carrier::OtlpJson => &[
            ("device", &["user.id", "host.id"]),
            ("session", &["session.id"]),
            ("organization", &["organization.id"]),
            ("email", &["user.email"]),
            ("account", &["user.account_uuid", "user.account_id"]),
            ("host", &["host.name"]),
            ("username", &["process.owner", "user.name", "member"]),
            (
                "content",
                &[
                    "prompt",
                    "response",
                    "user_prompt",
                    "tool_input",
                    "tool_parameters",
                    "full_command",
                    "gen_ai.input.messages",
                    "gen_ai.output.messages",
                    "gen_ai.system_instructions",
                    "response.model_output",
                    "new_context",
                    "prompt_text",
                    "response_text",
                    "tool_output",
                    "tool.output",
                    "system_prompt",
                ],
            ),
            ("environment", &["os.version", "terminal.type", "os.type", "host.arch"]),
        ],
        _ => &[
            ("device", &["device_id", "deviceId", "stableID", "machine_id"]),
            ("session", &["session_id", "sessionId", "sessionID"]),
            ("organization", &["organization_uuid", "organizationUUID", "organization_id", "orgUUID"]),
            ("email", &["email", "emailAddress", "user_email"]),
            ("account", &["account_uuid", "accountUUID", "account_id"]),
            ("host", &["hostname", "host_name", "server_name"]),
            ("username", &["username", "user_name", "display_name"]),
            (
                "content",
                &[
                    "prompt",
                    "user_prompt",
                    "tool_input",
                    "tool_output",
                    "file_content",
                    "diff",
                    "transcript",
                    "bash_command",
                    "old_string",
                    "new_string",
                    "stdout",
                    "stderr",
                    "prompt_text",
                    "assistant_message",
                    "system_prompt",
                ],
            ),
            ("environment", &["terminal", "node_version", "package_managers", "linux_kernel"]),
        ],
    };
    let (mut fields, mut labels) = (Vec::new(), Vec::new());
    for (class, names) in rows {
        if random.below(2) == 0 {
            continue;
        }
        let value = match *class {
            "device" => random.hex(64),
            "email" => format!("{}.{}@example.com", random.lower(6), random.lower(5)),
            "host" => format!("{}-laptop-{}", random.lower(5), random.below(99)),
            "username" => random.lower(9),
            "content" => format!("{} {}", random.words(6), random.lower(8)),
            "environment" => format!("{}.{}-{}", random.lower(5), random.below(99), random.lower(4)),
            _ => random.uuid(),
        };
        labels.push(Label { class, value: value.clone(), depth: "field" });
        fields.push(Field { name: random.pick(names).to_owned(), written: Written::new(&value) });
    }
    (fields, labels)
}

fn write(random: &mut Random, carrier: Carrier, fields: Vec<Field>, labels: Vec<Label>) -> Document {
    let (name, destination, path, content_type, body) = match carrier {
        Carrier::Datadog => {
            ("datadog", "datadog", "/api/v2/logs", "application/json", datadog(random, &fields))
        }
        Carrier::Events => (
            "events",
            "first-party-events",
            "/api/event_logging/v2/batch",
            "application/json",
            events(random, &fields, false),
        ),
        Carrier::EventsMetadata => (
            "events-metadata",
            "first-party-events",
            "/api/event_logging/v2/batch",
            "application/json",
            events(random, &fields, true),
        ),
        Carrier::Feedback => (
            "feedback",
            "feedback",
            "/api/claude_cli_feedback",
            "application/json",
            feedback(random, &fields),
        ),
        Carrier::OtlpBytes => {
            ("otlp-protobuf", "otlp", "/v1/logs", "application/x-protobuf", otlp_bytes(random, &fields))
        }
        Carrier::OtlpJson => {
            ("otlp-json", "otlp", "/v1/logs", "application/json", otlp_json(random, &fields))
        }
        Carrier::Query => ("query", "query", "/", "", query(random, &fields)),
        Carrier::Sentry => (
            "sentry",
            "sentry",
            "/api/4507/envelope/",
            "application/x-sentry-envelope",
            sentry(random, &fields),
        ),
        Carrier::Statsig => ("statsig", "statsig", "/v1/rgstr", "application/json", statsig(random, &fields)),
    };
    Document { carrier: name, destination, path, content_type, body, labels }
}

fn members(fields: &[Field]) -> String {
    fields.iter().fold(String::new(), |mut out, field| {
        let _ = write!(out, ",\"{}\":{}", field.name, field.written.json);
        out
    })
}

fn events(random: &mut Random, fields: &[Field], in_metadata: bool) -> Vec<u8> {
    let time = time(random);
    let (outer, metadata) = if in_metadata {
        (
            String::new(),
            format!("{{\"model\":\"claude-x\",\"messageCount\":{}{}}}", random.below(100), members(fields)),
        )
    } else {
        (members(fields), format!("{{\"model\":\"claude-x\",\"messageCount\":{}}}", random.below(100)))
    };
    format!(
        r#"{{"events":[{{"event_type":"ClaudeCodeInternalEvent","event_data":{{"event_id":"{}","event_name":"tengu_{}","client_timestamp":"{time}","model":"claude-x","user_type":"external","entrypoint":"cli"{outer},"additional_metadata":"{}","input_tokens":{},"uptime":{}.{}}}}}]}}"#,
        random.uuid(), random.word(), base64(metadata.as_bytes(), false), random.below(9999), random.below(99), random.digits(14),
    ).into_bytes()
}

fn otlp_json(random: &mut Random, fields: &[Field]) -> Vec<u8> {
    let attributes = fields.iter().fold(String::new(), |mut out, field| {
        let _ =
            write!(out, r#"{{"key":"{}","value":{{"stringValue":{}}}}},"#, field.name, field.written.json);
        out
    });
    let nanos = 1_795_242_141_273_000_000_u64 + random.next() % 1_000_000_000_000;
    format!(
        r#"{{"resourceLogs":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"claude-code"}}}}],"droppedAttributesCount":0}},"scopeLogs":[{{"scope":{{"name":"com.anthropic.claude_code.events","version":"2.1.329"}},"logRecords":[{{"timeUnixNano":"{nanos}","observedTimeUnixNano":"{nanos}","body":{{"stringValue":"claude_code.{}"}},"attributes":[{attributes}{{"key":"event.sequence","value":{{"intValue":{}}}}},{{"key":"nanos","value":{{"intValue":{}}}}},{{"key":"big","value":{{"intValue":"{}"}}}},{{"key":"cost","value":{{"doubleValue":0.{}}}}}],"droppedAttributesCount":0,"traceId":"{}","spanId":"{}"}}]}}]}}]}}"#,
        random.word(), random.below(999), random.next() >> 4, random.next() >> 4, random.digits(16), random.hex(32), random.hex(16),
    ).into_bytes()
}

fn sentry(random: &mut Random, fields: &[Field]) -> Vec<u8> {
    let id = random.hex(32);
    let extra = members(fields);
    let event = format!(
        r#"{{"event_id":"{id}","level":"error","platform":"node","release":"2.1.329","exception":{{"values":[{{"type":"Error","mechanism":{{"handled":true}}}}]}},"extra":{{"count":{}{extra}}}}}"#,
        random.below(9),
    );
    format!(
        "{{\"event_id\":\"{id}\",\"sent_at\":\"{}\"}}\n{{\"type\":\"event\",\"length\":{}}}\n{event}\n",
        time(random),
        event.len()
    )
    .into_bytes()
}

fn datadog(random: &mut Random, fields: &[Field]) -> Vec<u8> {
    format!(
        r#"[{{"ddsource":"nodejs","ddtags":"event:tengu_{},arch:x64,client_type:cli,model:claude-x,version:2.1.329","message":"tengu_{}","service":"claude-code","hostname":"claude-code","env":"external"{}}}]"#,
        random.word(), random.word(), members(fields).replace(r#","hostname":"#, r#","host_name":"#),
    ).into_bytes()
}

fn statsig(random: &mut Random, fields: &[Field]) -> Vec<u8> {
    format!(
        r#"{{"events":[{{"eventName":"tengu_{}","metadata":{{"betas":"oauth","sequence":"{}"{}}},"time":{}}}],"statsigMetadata":{{"sdkType":"statsig-node","sdkVersion":"5.{}.0"}}}}"#,
        random.word(), random.below(999), members(fields), 1_795_242_141_273_u64 + random.next() % 1_000_000, random.below(30),
    ).into_bytes()
}

/// A transcript in JSON in a string.
fn feedback(random: &mut Random, fields: &[Field]) -> Vec<u8> {
    let texts = fields.iter().fold(String::new(), |mut out, field| {
        let _ = write!(out, r#"{{"type":"user","uuid":"{}","message":{{"role":"user","content":[{{"type":"text","text":{}}}]}}}},"#, random.uuid(), field.written.json);
        out
    });
    let content = format!(
        r#"{{"version":"2.1.329","message_count":{},"transcript":[{}{{"type":"end"}}]}}"#,
        fields.len(),
        texts
    );
    format!(r#"{{"content":{}}}"#, quote(&content)).into_bytes()
}

fn query(random: &mut Random, fields: &[Field]) -> Vec<u8> {
    let mut out = format!("st={}&v=2.1.329", random.digits(4));
    for field in fields {
        let _ = write!(out, "&{}={}", field.name, super::depths::percent(&field.written.plain));
    }
    out.into_bytes()
}

fn time(random: &mut Random) -> String {
    format!("2026-11-21T06:22:{:02}.{:03}Z", random.below(60), random.below(1000))
}

fn otlp_bytes(random: &mut Random, fields: &[Field]) -> Vec<u8> {
    let mut record = Vec::new();
    record.push(9);
    record.extend((1_795_242_141_273_000_000_u64 + random.next() % 1_000_000_000_000).to_le_bytes());
    message(&mut record, 5, &string(random.word()));
    for field in fields {
        message(&mut record, 6, &attribute(&field.name, &string(&field.written.plain)));
    }
    let mut number = vec![0x18];
    varint(&mut number, random.next() >> 5);
    message(&mut record, 6, &attribute("nanos", &number));
    message(&mut record, 9, &(0..16).map(|_| random.next() as u8).collect::<Vec<_>>());
    let mut scope = Vec::new();
    message(&mut scope, 1, &{
        let mut name = Vec::new();
        message(&mut name, 1, b"com.anthropic.claude_code.events");
        name
    });
    message(&mut scope, 2, &record);
    let mut resource = Vec::new();
    message(&mut resource, 1, &{
        let mut one = Vec::new();
        message(&mut one, 1, &attribute("service.name", &string("claude-code")));
        one
    });
    message(&mut resource, 2, &scope);
    let mut out = Vec::new();
    message(&mut out, 1, &resource);
    out
}

fn attribute(key: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, 1, key.as_bytes());
    message(&mut out, 2, value);
    out
}

fn string(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, 1, text.as_bytes());
    out
}

fn message(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 127 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}
