//! Texts that look like something personal or secret and are not: what telemetry of a coding agent is full of.

use super::{Random, depths::base64, personal::luhn};

pub type Make = fn(&mut Random) -> String;

pub const MAKERS: &[Make] = &[
    // Numbers.
    |r| (1_795_242_141_273_000_000_u64 + r.next() % 10_000_000_000_000_000).to_string(),
    |r| luhn_time(r),
    |r| (1_795_242_141_273_u64 + r.next() % 10_000_000_000).to_string(),
    |r| format!("{}.{}", r.below(1000), r.digits(16)),
    |r| (0..r.range(3, 9)).map(|_| format!("0.{}", r.digits(17))).collect::<Vec<_>>().join(","),
    |r| format!("{{\"rss\":{},\"heapTotal\":{},\"external\":{}}}", r.digits(9), r.digits(9), r.digits(7)),
    |r| {
        format!(
            "input_tokens={} output_tokens={} cache_read_input_tokens={}",
            r.digits(5),
            r.digits(4),
            r.digits(6)
        )
    },
    |r| format!("prompt_length: {}, max_output_tokens: {}", r.digits(4), r.digits(5)),
    |r| format!("cost_usd {}.{}", r.below(9), r.digits(16)),
    |r| format!("order {} of {}", r.digits(10), r.digits(12)),
    |r| format!("{} {} {} {}", r.digits(4), r.digits(4), r.digits(4), r.digits(3)),
    |r| format!("[{}, {}, {}]", r.digits(5), r.digits(6), r.digits(7)),
    |r| format!("{}-{}-{}", r.digits(4), r.digits(2), r.digits(2)),
    // Identifiers.
    |r| r.uuid(),
    |r| r.uuid().to_uppercase(),
    |r| r.hex(40),
    |r| r.hex(64),
    |r| r.hex(32),
    |r| format!("{}..{}", r.hex(7), r.hex(7)),
    |r| format!("req_011C{}", r.b62(20)),
    |r| format!("msg_01{}", r.b62(22)),
    |r| format!("toolu_01{}", r.b62(22)),
    |r| format!("sha256:{}", r.hex(64)),
    |r| format!("sha512-{}==", r.b64(86)),
    |r| format!("sha1-{}=", r.b64(27)),
    |r| format!("00-{}-{}-01", r.hex(32), r.hex(16)),
    |r| format!("etag W/\"{}-{}\"", r.hex(3), r.b64(27)),
    |r| format!("chatcmpl-{}", r.b62(29)),
    |r| format!("srvtoolu_{} batch_{}", r.b62(24), r.b62(24)),
    |r| base64(&(0..r.range(24, 300)).map(|_| r.next() as u8).collect::<Vec<_>>(), false),
    |r| base64(r.words(12).as_bytes(), false),
    |r| format!("data:image/png;base64,iVBORw0KGgo{}", r.b64(120)),
    |r| format!("nonce-{}", r.b64(24)),
    |r| format!("commit {}\nMerge: {} {}", r.hex(40), r.hex(7), r.hex(7)),
    |r| format!("index {}..{} 100644", r.hex(7), r.hex(7)),
    // Versions.
    |r| format!("{}.{}.{}", r.below(30), r.below(60), r.below(400)),
    |r| format!("version {}.{}.{}.{}", r.below(30), r.below(60), r.below(200), r.below(200)),
    |r| {
        format!(
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36",
            r.range(90, 140)
        )
    },
    |r| format!("v{}.{}.{}-rc.{}+build.{}", r.below(9), r.below(9), r.below(9), r.below(9), r.below(999)),
    |r| format!("@types/node@20.{}.{}", r.below(20), r.below(20)),
    |r| {
        format!(
            "npm i react@^18.{}.0 lodash@~4.17.{} @babel/core@7.{}.1",
            r.below(9),
            r.below(30),
            r.below(30)
        )
    },
    |r| format!("pnpm-lock: /@scope/{}@{}.{}.{}(react@18.2.0)", r.word(), r.below(9), r.below(9), r.below(9)),
    |r| {
        format!(
            "\"{}\": \"{}.{}.{}.{}\"",
            "fileVersion",
            r.range(10, 30),
            r.range(10, 60),
            r.below(200),
            r.below(200)
        )
    },
    |r| format!("6.18.{}-generic #{}~22.04.1-Ubuntu SMP", r.below(99), r.below(99)),
    |r| format!("node v24.{}.{} npm 11.{}.0", r.below(9), r.below(9), r.below(9)),
    |r| format!("claude-opus-4-5-2025110{}", r.below(9)),
    |r| format!("us.anthropic.claude-sonnet-4-20250514-v1:{}", r.below(3)),
    |r| format!("gpt-5-mini-2025-08-0{} gemini-2.5-pro-exp-03-25", r.range(1, 9)),
    // At signs that are no addresses.
    |r| format!("src/assets/{}@{}x.png", r.word(), r.range(2, 3)),
    |r| format!("git@github.com:{}/{}.git", r.word(), r.word()),
    |r| format!("ssh://git@gitlab.com/{}/{}.git", r.word(), r.word()),
    |r| format!("@app.route('/{}')\ndef {}():", r.word(), r.word()),
    |r| format!("@media (max-width: {}px) {{ .{} {{ width: 1.5rem }} }}", r.digits(3), r.word()),
    |r| format!("@Override public void {}()", r.word()),
    |r| format!("import x from '@{}/{}'", r.word(), r.word()),
    |r| format!("@@ -{},{} +{},{} @@ fn {}", r.below(900), r.below(30), r.below(900), r.below(30), r.word()),
    |r| format!("uses: actions/checkout@v{}", r.below(9)),
    |r| format!("docker pull {}@sha256:{}", r.word(), r.hex(64)),
    |r| format!("user@host:~/{}$ make", r.word()),
    |r| format!("{}@{}", r.word(), r.word()),
    |r| format!("module.{}@plt main.{}@rs", r.word(), r.word()),
    |_| "Co-Authored-By: Claude <noreply@anthropic.com>".to_owned(),
    |r| format!("go get example.test/{}@v1.{}.0", r.word(), r.below(30)),
    |r| format!("@{} @param {{string}} {} @returns", r.word(), r.word()),
    |r| format!("{}@latest {}@next", r.word(), r.word()),
    // Colons and dots.
    |r| format!("std::collections::{}::new()", r.word()),
    |r| format!("a::b face::add::{}", r.word()),
    |r| format!("{:02}:{:02}:{:02}", r.below(24), r.below(60), r.below(60)),
    |r| {
        format!(
            "2026-{:02}-{:02}T{:02}:{:02}:{:02}.{}Z",
            r.range(1, 12),
            r.range(1, 28),
            r.below(24),
            r.below(60),
            r.below(60),
            r.digits(3)
        )
    },
    |r| format!("2026-11-21T06:22:09.{}+0{}:00", r.digits(6), r.below(9)),
    |r| format!("00:{}:{}:{}:{}:{}", r.hex(2), r.hex(2), r.hex(2), r.hex(2), r.hex(2)),
    |r| {
        format!(
            "SHA256 Fingerprint={}",
            (0..32).map(|_| r.hex(2).to_uppercase()).collect::<Vec<_>>().join(":")
        )
    },
    |r| format!("listening on 127.0.0.1:{}", r.range(1024, 65_000)),
    |r| format!("http://localhost:{}/{}", r.range(1024, 65_000), r.word()),
    |r| format!("[::1]:{} 0.0.0.0:{}", r.range(1024, 65_000), r.range(1024, 65_000)),
    |r| format!("example host 192.0.2.{} or 203.0.113.{}", r.below(255), r.below(255)),
    |r| format!("mask 255.255.255.{} oid 1.3.6.1.{}", r.below(255), r.below(9)),
    |r| format!("src/main.rs:{}:{}", r.below(900), r.below(80)),
    |r| {
        format!(
            "    at {} (node:internal/modules/cjs/loader:{}:{})\n    at async Promise.all (index {})",
            r.word(),
            r.digits(4),
            r.below(60),
            r.below(9)
        )
    },
    |r| format!("  File \"/usr/lib/python3.12/{}.py\", line {}, in {}", r.word(), r.below(900), r.word()),
    |r| format!("pseudo a:hover::before {{ content: '{}' }}", r.word()),
    |r| format!("{}::{}::{}", r.hex(4), r.word(), r.below(9)),
    // Placeholders and masked values.
    |_| "keys start with sk-ant-api03-... and sk-ant-oat01-".to_owned(),
    |_| "sk-ant-xxxxxxxxxxxxxxxxxxxxxxxxxxxx".to_owned(),
    |r| format!("ghp_{}", "x".repeat(r.range(20, 40))),
    |_| "export OPENAI_API_KEY=<your-api-key> ANTHROPIC_API_KEY=sk-...".to_owned(),
    |_| "GITHUB_TOKEN=${{ secrets.GITHUB_TOKEN }}".to_owned(),
    |r| format!("password: ${{{}_PASSWORD}}", r.word().to_uppercase()),
    |_| "DATABASE_URL=postgres://user:password@localhost:5432/db".to_owned(),
    |_| "redis://:${REDIS_PASSWORD}@redis:6379 https://user:<token>@host/".to_owned(),
    |_| "api_key=YOUR_API_KEY&token=REDACTED".to_owned(),
    |_| "password=******** token=[FILTERED] secret: ***".to_owned(),
    |_| "const token = process.env.API_TOKEN; let password = getPassword();".to_owned(),
    |r| format!("password = os.environ[\"{}\"]; api_key=config.api_key", r.word().to_uppercase()),
    |_| "\"password\": null, \"token\": true, \"secret\": \"\"".to_owned(),
    |_| "Authorization: Bearer <token> and Basic auth".to_owned(),
    |_| "MAX_TOKENS=200000 token_count=4711 tokenizer: cl100k_base".to_owned(),
    |_| "CLAUDE_CODE_MAX_OUTPUT_TOKENS=32000 MAX_THINKING_TOKENS=10000".to_owned(),
    |_| "secret_name: my-app-secret-store secretKeyRef: {name: db, key: password}".to_owned(),
    |_| "password must be at least 8 characters long; password: required".to_owned(),
    |_| "if (token === undefined) throw new Error('missing token: expected identifier')".to_owned(),
    |_| "token: string; password?: string; apiKey: string | undefined".to_owned(),
    |_| "passwordResetTokenExpiresAt password_hash_algorithm=argon2id".to_owned(),
    |r| format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", r.b64(64)),
    |r| format!("-----BEGIN CERTIFICATE-----\n{}\n{}\n-----END CERTIFICATE-----", r.b64(64), r.b64(64)),
    |r| format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{}", r.b64(43)),
    |_| "grep -r 'BEGIN RSA PRIVATE KEY' . | wc -l".to_owned(),
    |_| "/home/runner/work/repo /Users/Shared/x /home/node/app".to_owned(),
    |_| "GET /homepage/users /api/users/123 /home/ ~/".to_owned(),
    // Code.
    |r| {
        format!(
            "function t(e,n){{return e&&n?{}:void 0}}var r=/[a-z]+@/,o={{a:1,b:{}}};",
            r.below(99),
            r.hex(4)
        )
    },
    |r| {
        format!(
            "!function(e){{var t={{}};function n(r){{if(t[r])return t[r].exports}}}}([{}]);//# sourceMappingURL={}.js.map",
            r.digits(3),
            r.hex(20)
        )
    },
    |r| format!("const {} = (a, b) => a * b + {};", r.word(), r.below(99)),
    |r| format!("+        let {} = {}?;\n-        let {} = None;", r.word(), r.word(), r.word()),
    |r| format!("def {}(self, {}: int = {}) -> str:", r.word(), r.word(), r.below(99)),
    |r| format!("SELECT * FROM {} WHERE id = {} LIMIT 10", r.word(), r.digits(6)),
    |r| format!("tengu_{}_{}_success duration_ms={}", r.word(), r.word(), r.digits(5)),
    |r| format!("claude_code.{}.{}", r.word(), r.word()),
    |r| format!("author=builtin author_count={} authored: true authority", r.below(9)),
    |r| {
        format!("#{} rgb({}, {}, {}) 1.5e-{}", r.hex(6), r.below(255), r.below(255), r.below(255), r.below(9))
    },
    |r| {
        format!(
            "M{}.{} {}.{}L{} {}z",
            r.below(99),
            r.digits(3),
            r.below(99),
            r.digits(3),
            r.below(99),
            r.below(99)
        )
    },
    |r| format!("{}-{}-{}-{}", r.word(), r.word(), r.word(), r.below(99)),
    |r| format!("{}_{}_{}_{}_{}", r.word(), r.word(), r.word(), r.word(), r.word()),
    |r| {
        format!(
            "x86_64-unknown-linux-gnu rustc 1.{}.0 ({} 2026-01-{:02})",
            r.range(70, 99),
            r.hex(9),
            r.range(1, 28)
        )
    },
    |r| format!("ISBN 978-{}-{}-{}-{}", r.below(9), r.digits(3), r.digits(5), r.below(9)),
    |r| format!("issue #{} PR {}/{} CVE-2026-{}", r.digits(4), r.below(9), r.digits(3), r.digits(5)),
    |r| format!("room {} ext {} zip {}-{}", r.digits(3), r.digits(4), r.digits(5), r.digits(4)),
    |r| format!("arn:aws:lambda:us-east-1:{}:function:{}", r.digits(12), r.word()),
    |r| format!("s3://{}-{}/{}/part-{}.parquet", r.word(), r.word(), r.word(), r.digits(5)),
    |r| {
        format!(
            "betas oauth-2025-04-20,interleaved-thinking-2025-05-14,{}-2026-01-0{}",
            r.word(),
            r.range(1, 9)
        )
    },
    |r| format!("{}%", r.below(100)),
    |r| r.words(30),
];

/// A time in nanoseconds that passes the checksum of card numbers.
fn luhn_time(random: &mut Random) -> String {
    let head = format!("1795242{}", random.digits(11));
    (0..10).map(|last| format!("{head}{last}")).find(|time| luhn(time)).unwrap_or(head)
}
