//! Credentials after the formats that vendors document. Prefixes are written here, the rest is made from the seed.
//!
//! `{b62:36}` stands for 36 characters of that alphabet. Where `<<` and `>>` stand, only what is between them is the
//! value, and the rest is what it is recognised by; elsewhere the whole is.

use super::{Class, Planted, Random};

pub struct Kind {
    pub class: Class,
    pub forms: &'static [&'static str],
}

pub const KINDS: &[Kind] = &[
    Kind {
        class: "secret.anthropic",
        forms: &[
            "sk-ant-api03-{b64u:93}AA",
            "sk-ant-admin01-{b64u:93}AA",
            "sk-ant-oat01-{b64u:86}AA",
            "sk-ant-ort01-{b64u:86}AA",
            "sk-ant-sid01-{b64u:86}AA",
        ],
    },
    Kind {
        class: "secret.openai",
        forms: &[
            "sk-proj-{b64u:74}T3BlbkFJ{b64u:74}",
            "sk-svcacct-{b64u:74}T3BlbkFJ{b64u:58}",
            "sk-admin-{b64u:58}T3BlbkFJ{b64u:58}",
            "sk-{b62:20}T3BlbkFJ{b62:20}",
        ],
    },
    Kind {
        class: "secret.ai",
        forms: &[
            "sk-or-v1-{hex:64}",
            "gsk_{b62:52}",
            "pplx-{b62:48}",
            "xai-{b62:80}",
            "hf_{b62:34}",
            "r8_{b62:37}",
            "tgp_v1_{b64u:43}",
            "lsv2_pt_{hex:32}_{hex:10}",
            "lsv2_sk_{hex:32}_{hex:10}",
            "pcsk_{b62:6}_{b62:63}",
            "tvly-{b62:32}",
            "tvly-dev-{b62:32}",
            "sk_{hex:48}",
            "nvapi-{b64u:64}",
            "<<sk-{hex:32}>>",
            "csk-{lower:48}",
            "fc-{hex:32}",
            "jina_{hex:32}{b62:33}",
            "sgp_{hex:40}",
            "e2b_{hex:40}",
        ],
    },
    Kind { class: "secret.aws-key-id", forms: &["AKIA{b32:16}", "ASIA{b32:16}"] },
    Kind {
        class: "secret.aws-secret",
        forms: &[
            "AWS_SECRET_ACCESS_KEY=<<{b64:40}>>",
            "aws_secret_access_key = <<{b64:40}>>",
            "\"SecretAccessKey\": \"<<{b64:40}>>\"",
            "secretAccessKey: '<<{b64:40}>>'",
            "aws_secret_key: <<{b64:40}>>",
            "AWS_SECRET_KEY=\"<<{b64:40}>>\"",
            "aws configure set aws_secret_access_key <<{b64:40}>>",
        ],
    },
    Kind {
        class: "secret.aws-session-token",
        forms: &[
            "AWS_SESSION_TOKEN=<<IQoJb3JpZ2luX2Vj{b64:300}>>",
            "\"SessionToken\": \"<<IQoJb3JpZ2luX2Vj{b64:300}==>>\"",
            "aws_session_token = <<FwoGZXIvYXdzE{b64:280}>>",
        ],
    },
    Kind {
        class: "secret.google",
        forms: &[
            "AIza{b64u:35}",
            "GOCSPX-{b64u:28}",
            "ya29.{b64u:140}",
            "ya29.a0{b64u:200}",
            "1//0{b64u:60}",
        ],
    },
    Kind {
        class: "secret.azure",
        forms: &[
            "DefaultEndpointsProtocol=https;AccountName=app{lower:4};AccountKey=<<{b64:86}==>>;EndpointSuffix=core.windows.net",
            "AZURE_CLIENT_SECRET=<<{b62:3}8Q~{b62:34}>>",
            "https://app{lower:3}.blob.core.windows.net/c?sv=2024-11-04&se=2027-01-01&sr=c&sp=r&sig=<<{b62:43}>>%3D",
            "Endpoint=sb://bus.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey=<<{b64:43}=>>",
            "HostName=hub.azure-devices.net;DeviceId=d1;SharedAccessKey=<<{b64:43}=>>",
        ],
    },
    Kind {
        class: "secret.github",
        forms: &[
            "ghp_{b62:36}",
            "gho_{b62:36}",
            "ghu_{b62:36}",
            "ghs_{b62:36}",
            "ghr_{b62:76}",
            "github_pat_{b62:22}_{b62:59}",
        ],
    },
    Kind {
        class: "secret.gitlab",
        forms: &[
            "glpat-{b64u:20}",
            "glpat-{b64u:27}.01.{lower:9}",
            "gldt-{b64u:20}",
            "glrt-{b64u:20}",
            "glptt-{hex:40}",
            "glcbt-1_{b64u:20}",
            "gloas-{hex:64}",
            "glsoat-{b64u:20}",
            "glffct-{b64u:20}",
        ],
    },
    Kind {
        class: "secret.registry",
        forms: &[
            "npm_{b62:36}",
            "//registry.example.test/:_authToken=<<{uuid}>>",
            "pypi-AgEIcHlwaS5vcmc{b64u:150}",
            "rubygems_{hex:48}",
            "cio{b62:32}",
            "oy2{lower:43}",
            "dckr_pat_{b64u:27}",
            "AKCp{b62:69}",
        ],
    },
    Kind {
        class: "secret.ci",
        forms: &[
            "bkua_{hex:40}",
            "CCIPAT_{b62:22}_{hex:40}",
            "squ_{hex:40}",
            "sqp_{hex:40}",
            "PMAK-{hex:24}-{hex:34}",
            "pul-{hex:40}",
            "{b62:14}.atlasv1.{b64u:67}",
            "CFPAT-{b64u:43}",
            "nfp_{b62:36}",
            "tskey-auth-{b62:17}-{b62:32}",
        ],
    },
    Kind {
        class: "secret.work",
        forms: &[
            "lin_api_{b62:40}",
            "ATATT3xFfGF0{b64u:170}={hexu:8}",
            "ATBB{b62:32}",
            "ATCTT3xFfGN0{b64u:170}={hexu:8}",
            "figd_{b64u:40}",
            "ntn_{b62:46}",
            "secret_{b62:43}",
            "pat{b62:14}.{hex:64}",
            "pat-na1-{uuid}",
            "sl.{b64u:140}",
        ],
    },
    Kind {
        class: "secret.slack",
        forms: &[
            "xoxb-{d:12}-{d:13}-{b62:24}",
            "xoxp-{d:12}-{d:12}-{d:13}-{hex:32}",
            "xapp-1-A{upper:10}-{d:13}-{hex:64}",
            "xoxe.xoxp-1-{b62:146}",
            "xoxe-1-{b62:146}",
            "xoxc-{d:12}-{d:12}-{d:13}-{hex:64}",
            "https://<<hooks.slack.com/services/T{upper:8}/B{upper:10}/{b62:24}>>",
        ],
    },
    Kind {
        class: "secret.chat",
        forms: &[
            "https://<<discord.com/api/webhooks/{d:19}/{b64u:68}>>",
            "{d:10}:AA{b64u:33}",
            "DISCORD_BOT_TOKEN=<<M{b62:23}.{b62:6}.{b64u:38}>>",
        ],
    },
    Kind {
        class: "secret.mail",
        forms: &[
            "SK{hex:32}",
            "SG.{b64u:22}.{b64u:43}",
            "key-{hex:32}",
            "{hex:32}-us12",
            "re_{b62:8}_{b62:24}",
            "xkeysib-{hex:64}-{b62:16}",
        ],
    },
    Kind {
        class: "secret.pay",
        forms: &[
            "sk_live_{b62:24}",
            "sk_live_51{b62:97}",
            "rk_live_{b62:99}",
            "sk_test_{b62:24}",
            "whsec_{b62:32}",
            "shpat_{hex:32}",
            "shpss_{hex:32}",
            "sq0atp-{b64u:22}",
            "sq0csp-{b64u:43}",
            "EAAAl{b64u:59}",
            "access_token$production${lnum:16}${hex:32}",
        ],
    },
    Kind {
        class: "secret.datadog",
        forms: &[
            "DD_API_KEY=<<{hex:32}>>",
            "DD_APP_KEY: <<{hex:40}>>",
            "dd-api-key: <<{hex:32}>>",
            "datadog_api_key = \"<<{hex:32}>>\"",
            "\"DD_APPLICATION_KEY\":\"<<{hex:40}>>\"",
        ],
    },
    Kind {
        class: "secret.observe",
        forms: &[
            "https://{hex:32}@o{d:6}.ingest.us.sentry.io/{d:16}",
            "https://{hex:32}@o{d:6}.ingest.sentry.io/{d:7}",
            "sntrys_eyJ{b64:120}_{b64:43}",
            "sntryu_{hex:64}",
            "NRAK-{uppernum:27}",
            "glsa_{b62:32}_{hex:8}",
            "glc_eyJ{b64:100}",
            "phx_{b62:43}",
            "sdk-{uuid}",
            "dt0c01.{uppernum:24}.{uppernum:64}",
        ],
    },
    Kind {
        class: "secret.host",
        forms: &[
            "dop_v1_{hex:64}",
            "doo_v1_{hex:64}",
            "dp.pt.{b62:43}",
            "dp.st.dev.{b62:43}",
            "dapi{hex:32}",
            "HRKU-AA{b64u:58}",
            "hvs.{b64u:95}",
            "sbp_{hex:40}",
            "sb_secret_{b64u:31}",
            "fm2_{b64:120}",
            "pscale_tkn_{b64u:43}",
            "ops_eyJ{b64u:300}",
            "CLOUDFLARE_API_TOKEN=<<{b64u:40}>>",
            "cloudflare_api_token: <<{b64u:40}>>",
            "rnd_{b62:32}",
            "LTAI5t{b62:18}",
        ],
    },
    Kind {
        class: "secret.jwt",
        forms: &[
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ{b64u:120}.{b64u:43}",
            "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEyMyJ9.eyJ{b64u:300}.{b64u:342}",
        ],
    },
    Kind {
        class: "secret.private-key",
        forms: &[
            "-----BEGIN RSA PRIVATE KEY-----\n{b64:64}\n{b64:64}\n{b64:64}\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\n{b64:64}\n{b64:64}\n{b64:30}==\n-----END PRIVATE KEY-----",
            "-----BEGIN OPENSSH PRIVATE KEY-----\n{b64:70}\n{b64:70}\n{b64:42}\n-----END OPENSSH PRIVATE KEY-----",
            "-----BEGIN EC PRIVATE KEY-----\n{b64:64}\n{b64:64}\n{b64:36}==\n-----END EC PRIVATE KEY-----",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\n{b64:64}\n{b64:64}\n-----END ENCRYPTED PRIVATE KEY-----",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{hexu:32}\n\n{b64:64}\n{b64:64}\n-----END RSA PRIVATE KEY-----",
            "<<-----BEGIN PRIVATE KEY-----\\n{b64:64}\\n{b64:64}\\n-----END PRIVATE KEY----->>\\n",
            "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{b64:64}\n{b64:64}\n={b64:4}\n-----END PGP PRIVATE KEY BLOCK-----",
            "AGE-SECRET-KEY-1{uppernum:58}",
        ],
    },
    Kind {
        class: "secret.url-password",
        forms: &[
            "postgres://app:<<{pw:16}>>@db.internal:5432/main",
            "postgresql+asyncpg://svc_api:<<{pw:20}>>@db-2.internal/x?sslmode=require",
            "mysql://root:<<{pw:12}>>@mysql.prod.example.test:3306/shop",
            "mongodb+srv://admin:<<{pw:18}>>@cluster0.ab1cd.mongodb.example.test/?retryWrites=true",
            "redis://default:<<{pw:24}>>@cache.internal:6379/0",
            "redis://:<<{pw:24}>>@cache.internal:6379",
            "rediss://:<<{pw:32}>>@eu1.upstash.example.test:6379",
            "amqps://user:<<{pw:16}>>@rabbit.internal/vhost",
            "https://bob:<<{pw:14}>>@git.example.test/team/repo.git",
            "ftp://backup:<<{pw:10}>>@files.example.test/dump",
            "http://user:<<{pw:12}>>@proxy.corp.example.test:3128",
            "jdbc:postgresql://app:<<{pw:12}>>@db:5432/x",
            "smtp://mailer:<<{pw:12}>>@smtp.example.test:587",
        ],
    },
    Kind {
        class: "secret.basic-auth",
        forms: &[
            "Authorization: Basic <<{b64:24}>>",
            "authorization: basic <<{b64:31}=>>",
            "\"Authorization\": \"Basic <<{b64:40}>>\"",
            "curl -H 'Authorization: Basic <<{b64:28}>>' https://api.example.test",
            "Proxy-Authorization: Basic <<{b64:22}==>>",
            "curl -u admin:<<{pw:14}>> https://api.example.test/x",
            "curl --user 'svc:<<{pw:16}>>' https://api.example.test/x",
        ],
    },
    Kind {
        class: "secret.bearer",
        forms: &[
            "Authorization: Bearer <<{b62:40}>>",
            "\"authorization\":\"Bearer <<{b64u:64}>>\"",
            "curl -H 'authorization: bearer <<{b62:32}>>' https://api.example.test",
            "Authorization: token <<{hex:40}>>",
            "-H \"Authorization: Bearer <<{hex:64}>>\"",
        ],
    },
    Kind {
        class: "secret.assignment",
        forms: &[
            "DB_PASSWORD=<<{pw:14}>>",
            "export STRIPE_WEBHOOK_SECRET=\"<<{b62:32}>>\"",
            "MY_SERVICE_TOKEN='<<{b62:30}>>'",
            "INTERNAL_API_KEY=<<{hex:32}>>",
            "set JWT_SECRET=<<{b64u:43}>>",
            "$env:API_TOKEN = \"<<{b62:32}>>\"",
            "PGPASSWORD=<<{pw:12}>> psql -h db",
            "MYSQL_PWD=<<{pw:12}>> mysql",
            "SECRET_KEY_BASE=<<{hex:64}>>",
            "-e POSTGRES_PASSWORD=<<{pw:16}>>",
            "ENCRYPTION_KEY=<<{b64:43}=>>",
            "ENV APP_SECRET <<{b62:24}>>",
        ],
    },
    Kind {
        class: "secret.keyed",
        forms: &[
            "\"password\": \"<<{pw:12}>>\"",
            "password: <<{pw:12}>>",
            "password = \"<<{pw:16}>>\"",
            "\"client_secret\":\"<<{b64u:40}>>\"",
            "client_secret=<<{b62:40}>>&grant_type=client_credentials",
            "api_key: <<{b62:32}>>",
            "apiKey: '<<{b62:39}>>'",
            "\"access_token\":\"<<{b64u:80}>>\"",
            "\"refreshToken\": \"<<{b64u:48}>>\"",
            "x-api-key: <<{b62:40}>>",
            "X-Auth-Token: <<{hex:40}>>",
            "--password <<{pw:14}>>",
            "--api-key=<<{b62:32}>>",
            "passwd: <<{pw:10}>>",
            "secret_key = '<<{b62:50}>>'",
            "Server=db;Database=x;User Id=sa;Password=<<{pw:14}>>;Encrypt=true",
            "machine api.example.test login bob password <<{pw:14}>>",
            "'auth_token' => '<<{b62:32}>>'",
            "?access_token=<<{b62:40}>>&v=1",
            "private_key_id\": \"<<{hex:40}>>\"",
        ],
    },
];

/// A value of a kind, in one of its forms and, if it is recognised by itself, in one of the places where such are kept.
pub fn make(random: &mut Random, kind: &'static Kind) -> Planted {
    let form = random.pick(kind.forms);
    let mut planted = of_form(random, kind.class, form);
    if planted.text == planted.value && !planted.value.contains('\n') {
        let value = &planted.value;
        planted.text = match random.below(8) {
            0 => format!("export TOKEN={value}"),
            1 => format!("{{\"token\":\"{value}\"}}"),
            2 => format!("key: {value}"),
            3 => format!("client --token={value} run"),
            4 => format!("KEY=\"{value}\""),
            5 => format!("token('{value}')"),
            _ => value.clone(),
        };
    }
    planted
}

pub fn of_form(random: &mut Random, class: Class, form: &str) -> Planted {
    // A part at a time, so that the marks cannot come out of a generator.
    let expanded = |random: &mut Random, part: &str| expand(random, part);
    match form.split_once("<<").and_then(|(before, rest)| Some((before, rest.split_once(">>")?))) {
        Some((before, (value, after))) => {
            let (before, value, after) =
                (expanded(random, before), expanded(random, value), expanded(random, after));
            Planted { class, text: format!("{before}{value}{after}"), value }
        }
        None => Planted::alone(class, expanded(random, form)),
    }
}

pub fn expand(random: &mut Random, form: &str) -> String {
    let mut out = String::new();
    let mut rest = form;
    while let Some(open) = rest.find('{') {
        let Some(close) = rest[open..].find('}').map(|close| open + close) else { break };
        out.push_str(&rest[..open]);
        let generator = &rest[open + 1..close];
        let (name, length) = generator.split_once(':').unwrap_or((generator, "0"));
        match length.parse::<usize>().ok().and_then(|length| generate(random, name, length)) {
            Some(text) => out.push_str(&text),
            None => out.push_str(&rest[open..=close]),
        }
        rest = &rest[close + 1..];
    }
    out.push_str(rest);
    out
}

fn generate(random: &mut Random, name: &str, length: usize) -> Option<String> {
    Some(match name {
        "b32" => random.b32(length),
        "b62" => random.b62(length),
        "b64" => random.b64(length),
        "b64u" => random.b64u(length),
        "d" => format!("{}{}", random.range(2, 8), random.digits(length - 1)),
        "hex" => random.hex(length),
        "hexu" => random.of("0123456789ABCDEF", length),
        "lnum" => random.of("abcdefghijklmnopqrstuvwxyz0123456789", length),
        "lower" => random.lower(length),
        "upper" => random.upper(length),
        "uppernum" => random.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", length),
        "uuid" => random.uuid(),
        "pw" => password(random, length),
        _ => return None,
    })
}

/// A password as a generator makes it: letters and digits of all sorts and one or two signs inside.
fn password(random: &mut Random, length: usize) -> String {
    let mut text: Vec<u8> = random.b62(length).into_bytes();
    text[1] = b"23456789"[random.below(8)];
    text[2] = b"abcdefgh"[random.below(8)];
    text[3] = b"!_.*~-^"[random.below(7)];
    String::from_utf8(text).unwrap_or_default()
}
