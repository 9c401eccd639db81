//! Bodies in the shapes that FACTS describes, made from a seed. No value in them is real.

use std::fmt::Write as _;

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn hex(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(b"0123456789abcdef"[self.below(16)])).collect()
    }

    pub fn uuid(&mut self) -> String {
        format!("{}-{}-4{}-8{}-{}", self.hex(8), self.hex(4), self.hex(3), self.hex(3), self.hex(12))
    }

    pub fn word(&mut self) -> &'static str {
        const WORDS: &[&str] = &[
            "accept", "api_request", "assistant", "cache", "claude_code.tool_result", "completed", "config",
            "count", "decision", "duration", "first-wins", "hook", "input", "main", "model", "none", "output",
            "permission", "plugin_loaded", "project", "queue", "refresh", "resolved", "result", "startup",
            "success", "system", "terminal", "timeout", "tool_decision", "update", "version", "window",
        ];
        WORDS[self.below(WORDS.len())]
    }
}

fn attribute(out: &mut String, key: &str, value: &str) {
    let _ = write!(out, r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}},"#);
}

/// OTLP logs as JSON. With `identity` every record names the account, as the real client's do; without, nothing in it is
/// a finding.
pub fn otlp(size: usize, identity: bool, seed: u64) -> String {
    let mut random = Random(seed);
    let (user, session, organization, account) = (random.hex(64), random.uuid(), random.uuid(), random.uuid());
    let mut out = String::with_capacity(size + 4096);
    out.push_str(r#"{"resourceLogs":[{"resource":{"attributes":["#);
    if identity {
        attribute(&mut out, "host.arch", "amd64");
        attribute(&mut out, "os.type", "linux");
        attribute(&mut out, "os.version", "6.18.44-fc-v595");
    }
    out.push_str(r#"{"key":"service.name","value":{"stringValue":"claude-code"}},{"key":"service.version","value":{"stringValue":"2.1.329"}}],"droppedAttributesCount":0},"scopeLogs":[{"scope":{"name":"com.anthropic.claude_code.events","version":"2.1.329"},"logRecords":["#);
    let mut sequence = 0;
    while out.len() < size {
        if sequence > 0 {
            out.push(',');
        }
        let time = 1_795_242_141_273_000_000_u64 + random.next() % 1_000_000_000_000;
        let _ = write!(
            out,
            r#"{{"timeUnixNano":"{time}","observedTimeUnixNano":"{time}","body":{{"stringValue":"claude_code.{}"}},"attributes":["#,
            random.word()
        );
        if identity {
            attribute(&mut out, "user.id", &user);
            attribute(&mut out, "session.id", &session);
            attribute(&mut out, "organization.id", &organization);
            attribute(&mut out, "user.email", "canary.user@example.com");
            attribute(&mut out, "user.account_uuid", &account);
            attribute(&mut out, "user.account_id", "user_0137EWfXHPPeDwCqkCAyqKNk");
            attribute(&mut out, "terminal.type", "xterm");
        }
        attribute(&mut out, "anthropic.provider", "firstParty");
        if identity {
            attribute(&mut out, "anthropic.plan", "max");
        }
        attribute(&mut out, "event.name", random.word());
        attribute(&mut out, "event.timestamp", "2026-11-21T06:22:21.273Z");
        let _ = write!(out, r#"{{"key":"event.sequence","value":{{"intValue":{sequence}}}}},"#);
        for _ in 0..4 + random.below(6) {
            let key = format!("managed_settings.{}", random.word().replace('.', "_"));
            attribute(&mut out, &key, random.word());
        }
        let _ = write!(
            out,
            r#"{{"key":"duration_ms","value":{{"intValue":{}}}}}],"droppedAttributesCount":0,"traceId":"{}","spanId":"{}"}}"#,
            random.below(5000),
            random.hex(32),
            random.hex(16)
        );
        sequence += 1;
    }
    out.push_str("]}]}]}");
    out
}

/// A batch of first-party events: base64 of JSON, and strings with JSON in them.
pub fn events(size: usize, seed: u64) -> String {
    let mut random = Random(seed);
    let (device, session, account) = (random.hex(64), random.uuid(), random.uuid());
    let mut out = String::from(r#"{"events":["#);
    let mut first = true;
    while out.len() < size {
        if !first {
            out.push(',');
        }
        first = false;
        let metadata = format!(
            r#"{{"model":"claude-x","rh":"{}","subscriptionType":"max","betas":"oauth-2025-04-20,{}-2026-01-01","messageCount":{},"note":"{} \"{}\""}}"#,
            random.hex(16), random.word(), random.below(100), random.word(), random.word()
        );
        let process = format!(
            r#"{{"uptime":{}.{},"rss":{},"heapTotal":{},"cpuUsage":{{"user":{},"system":{}}}}}"#,
            random.below(1000), random.below(1_000_000), random.next() % 1_000_000_000, random.next() % 100_000_000,
            random.below(10_000_000), random.below(10_000_000)
        );
        let _ = write!(
            out,
            r#"{{"event_type":"ClaudeCodeInternalEvent","event_data":{{"event_id":"{}","event_name":"tengu_{}","client_timestamp":"2026-11-21T06:22:21.{:03}Z","device_id":"{device}","session_id":"{session}","email":"canary.user@example.com","auth":{{"organization_uuid":"{account}","account_uuid":"{account}"}},"model":"claude-x","user_type":"external","betas":"oauth","env":{{"platform":"linux","node_version":"v24.3.0","terminal":"xterm","package_managers":"npm","runtimes":"node","is_ci":false,"version":"2.1.329","arch":"x64"}},"entrypoint":"cli","additional_metadata":"{}","process":"{}"}}}}"#,
            random.uuid(), random.word(), random.below(1000), base64(metadata.as_bytes()), base64(process.as_bytes())
        );
    }
    out.push_str("]}");
    out
}

/// Prose and code in a JSON string, with escapes, and nothing to find.
pub fn prose(size: usize, seed: u64) -> String {
    let mut random = Random(seed);
    let mut out = String::from(r#"{"messages":["#);
    while out.len() < size {
        out.push('"');
        for _ in 0..40 + random.below(200) {
            let _ = write!(out, "{} {} ", random.word(), ["the", "of", "fn main() {}", "a::b", "let x = 1;\\n", "v1.2.3"][random.below(6)]);
        }
        out.push_str("\",");
    }
    out.push_str("0]}");
    out
}

pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len() / 3 * 4 + 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            out.push(match place <= group.len() {
                true => char::from(DIGITS[(bits >> (18 - 6 * place) & 63) as usize]),
                false => '=',
            });
        }
    }
    out
}

/// `unit` over and over.
pub fn flood(unit: &str, size: usize) -> Vec<u8> {
    unit.bytes().cycle().take(size).collect()
}

/// Random base64 characters.
pub fn base64_flood(size: usize) -> Vec<u8> {
    let mut random = Random(7);
    let bytes: Vec<u8> = (0..size).map(|_| random.next() as u8).collect();
    let mut text = base64(&bytes).into_bytes();
    text.truncate(size);
    text
}
