//! Written by hand after documents of vendors and standards, apart from the generators: each line is a shape that
//! somebody's documentation shows, with its value made from the seed. `<<` and `>>` stand around the value.

use super::{Class, Planted, Random, credentials};

const POSITIVE: &[(Class, &str)] = &[
    // RFC 5322, RFC 6531, mail clients.
    ("email", "From: Pete <<<pete@silly.example.com>>>"),
    ("email", "To: <<\"Joe Q. Public\"@example.com>>"),
    ("email", "cc <<john.q.public@example.com>>; x"),
    ("email", "<<用户@例子.中国>>"),
    ("email", "<<pelé@example.com>>"),
    ("email", "<<user+mailbox/department=shipping@example.com>>"),
    ("email", "<<!def!xyz%abc@example.com>>"),
    ("email", "<<disposable.style.email.with+symbol@example.com>>"),
    ("email", "git config user.email \"<<jane@corp.dev>>\""),
    ("email", "Signed-off-by: Jane Doe <<<jane.doe@kernel.org>>>"),
    ("email", "{'email': '<<x.y@firma.gmbh>>'}"),
    ("email", "mailto:<<sales@shop.example.co.jp>>?subject=Hi"),
    ("email", "login=<<bob_smith99@yahoo.co.in>>&x=1"),
    ("email", "author <<a.b-c@sub.domain.example.travel>> 1700000000 +0100"),
    ("email", "assigned to <<BOB@EXAMPLE.COM>>, closed"),
    // E.164, RFC 3966, national habits.
    ("phone", "tel:<<+1-201-555-0123>>"),
    ("phone", "<<+358-555-1234567>>"),
    ("phone", "WhatsApp <<+52 1 55 1234 5678>>"),
    ("phone", "Tel.: <<030 9018 2000>>"),
    ("phone", "phone=<<(212) 555-0187>>"),
    ("phone", "cell <<646.555.0134>>"),
    ("phone", "Call us: <<1-800-555-0199>>"),
    ("phone", "Mobile: <<07700 900123>>"),
    ("phone", "<<+61 2 5550 1234>>"),
    ("phone", "téléphone : <<01 99 00 12 34>>"),
    ("phone", "\"phoneNumber\": \"<<2125550187>>\""),
    ("phone", "<<0049 30 901820>>"),
    ("phone", "<<+86 138 0013 8000>>"),
    // Addresses as tools print them.
    ("ipv4", "inet <<172.31.24.7>> netmask 255.255.240.0"),
    ("ipv4", "x-forwarded-for: <<203.0.112.9>>, 127.0.0.1"),
    ("ipv4", "ip-<<10.0.32.118>>"),
    ("ipv4", "Failed password for root from <<185.220.101.4>> port 22"),
    ("ipv4", "\"remote_addr\":\"<<81.2.69.142>>\""),
    ("ipv4", "server=<<192.168.0.10>>;"),
    ("ipv4", "DNS <<8.8.8.8>> is up"),
    ("ipv6", "inet6 <<fe80::42:acff:fe11:2>>%docker0"),
    ("ipv6", "AAAA <<2a00:1450:4001:82a::200e>>"),
    ("ipv6", "<<2001:0db8:85a3:0000:0000:8a2e:0370:7334>>"),
    ("ipv6", "peer=<<2606:4700:4700::1111>>"),
    ("ipv6", "[<<fd12:3456:789a:1::1>>]:8443"),
    ("ipv6", "<<::ffff:81.2.69.142>>"),
    ("ipv6", "<<64:ff9b::c000:221>>"),
    // Test numbers that processors publish.
    ("card", "<<4242 4242 4242 4242>>"),
    ("card", "<<5555-5555-5555-4444>>"),
    ("card", "<<378282246310005>>"),
    ("card", "<<6011 1111 1111 1117>>"),
    ("card", "cc:<<30569309025904>>"),
    ("card", "<<3566002020360505>>"),
    ("card", "<<6200000000000005>>"),
    ("card", "number=<<2223003122003222>>&cvc=1"),
    ("card", "<<4000056655665556>>"),
    ("card", "<<6304 0000 0000 0000>>"),
    // The registry's own examples.
    ("iban", "<<GB29 NWBK 6016 1331 9268 19>>"),
    ("iban", "<<FR1420041010050500013M02606>>"),
    ("iban", "IBAN=<<DE89370400440532013000>>"),
    ("iban", "<<ch93 0076 2011 6238 5295 7>>"),
    ("iban", "<<NO9386011117947>>"),
    ("iban", "<<MT84MALT011000012345MTLCAST001S>>"),
    ("iban", "<<NL91-ABNA-0417-1643-00>>"),
    // Paths.
    ("username", "C:\\Users\\<<Jane Doe>>\\Documents\\plan.docx"),
    ("username", "\"cwd\":\"/Users/<<maria-luisa>>/src/app\""),
    ("username", "vscode-remote://wsl%2Bubuntu/home/<<kenji>>/x"),
    ("username", "/var/home/<<tom>>/.config"),
    ("username", "\\\\?\\C:\\Users\\<<b.okafor>>\\x"),
    ("username", "drwxr-xr-x /home/<<jürgen>>/bin"),
    ("username", "D:/Users/<<li.wei>>/y"),
    ("username", "/c/Users/<<ann>>/git"),
    ("username", "/export/home/<<oracle9>>/x"),
    // Credentials in the places that documentation shows them in.
    ("secret.keyed", "[default]\naws_secret_access_key=<<{b64:40}>>"),
    ("secret.keyed", "spring.datasource.password=<<{pw:14}>>"),
    ("secret.keyed", "DJANGO_SECRET_KEY = '<<{b62:50}>>'"),
    ("secret.keyed", "const apiKey = \"<<{b62:32}>>\";"),
    ("secret.keyed", "apikey: <<{hex:32}>>"),
    ("secret.keyed", "mysql -u root -p<<{pw:12}>> shop"),
    ("secret.keyed", "sshpass -p '<<{pw:12}>>' ssh host"),
    ("secret.keyed", "docker login -u bob -p <<{pw:14}>> registry.example.test"),
    ("secret.keyed", "{\"type\":\"login\",\"passwd\":\"<<{pw:10}>>\"}"),
    ("secret.keyed", "<password><<{pw:12}>></password>"),
    ("secret.keyed", "X-Vault-Token: hvs.<<{b64u:90}>>"),
    ("secret.keyed", "PRIVATE-TOKEN: <<{b62:20}>>"),
    ("secret.keyed", "Cookie: sessionid=<<{lnum:32}>>; csrftoken=x"),
    ("secret.keyed", "\"clientSecret\": \"<<{b62:40}>>\""),
    ("secret.keyed", "\"refresh_token\":\"<<1//0{b64u:60}>>\""),
    ("secret.keyed", "TWILIO_AUTH_TOKEN=<<{hex:32}>>"),
    ("secret.keyed", "account SID AC{hex:32} auth token: <<{hex:32}>>"),
    ("secret.keyed", "heroku api_key: <<{uuid}>>"),
    ("secret.keyed", "AZURE_OPENAI_API_KEY=<<{hex:32}>>"),
    ("secret.keyed", "api-key: <<{hex:32}>>"),
    ("secret.keyed", "mistral: MISTRAL_API_KEY=<<{b62:32}>>"),
    ("secret.keyed", "db_pass: <<{pw:12}>>"),
    ("secret.keyed", "\"pwd\":\"<<{pw:12}>>\""),
    ("secret.keyed", "Data Source=s;Initial Catalog=c;User ID=u;Pwd=<<{pw:12}>>;"),
    ("secret.keyed", "token = \"<<{hex:40}>>\""),
    ("secret.keyed", "signing_secret: '<<{hex:32}>>'"),
    ("secret.keyed", "webhook_secret=<<{b62:32}>>"),
    ("secret.keyed", "encryption_key: <<{b64:43}=>>"),
    ("secret.keyed", "WANDB_API_KEY=<<{hex:40}>>"),
    ("secret.keyed", "- name: DB_PASSWORD\n  value: <<{pw:16}>>"),
    ("secret.keyed", "--token <<{b62:36}>>"),
    ("secret.keyed", "gh auth login --with-token <<<gho_{b62:36}>>"),
    ("secret.azure", "AccountKey=<<{b64:86}==>>"),
    ("secret.azure", "<<{b62:52}JQQJ99BA{b62:8}AAAAAAAAAAAAAZDO{b62:4}>>"),
    (
        "secret.google",
        "\"private_key\": \"<<-----BEGIN PRIVATE KEY-----\\nMII{b64:61}\\n{b64:64}\\n-----END PRIVATE KEY----->>\\n\"",
    ),
    ("secret.aws-secret", "aws_access_key_id=x\naws_secret_access_key=<<{b64:40}>>\nregion=us-east-1"),
    (
        "secret.aws-key-id",
        "https://bucket.s3.amazonaws.com/k?X-Amz-Credential=<<AKIA{b32:16}>>%2F20261121%2Fus-east-1",
    ),
    ("secret.aws-secret", "BEDROCK=<<ABSK{b64:128}>>"),
    ("secret.github", "git remote add o https://x-access-token:<<ghs_{b62:36}>>@github.com/o/r"),
    ("secret.gitlab", "CI_JOB_TOKEN=<<glcbt-64_{b64u:20}>>"),
    ("secret.slack", "SLACK_BOT_TOKEN=<<xoxb-{d:11}-{d:11}-{b62:24}>>"),
    // Nothing in it is literal, so that no anchor leads to it.
    ("secret.chat", "<<M{b62:23}.{b62:6}.{b64u:38}>>"),
    ("secret.pay", "Stripe.api_key = '<<sk_live_{b62:24}>>'"),
    ("secret.jwt", "Set-Cookie: auth=<<eyJhbGciOiJFUzI1NiJ9.eyJ{b64u:90}.{b64u:86}>>; Path=/"),
    ("secret.url-password", "DATABASE_URL=\"mysql2://u:<<{pw:16}>>@h/db\""),
    ("secret.url-password", "clickhouse://default:<<{pw:12}>>@ch:9000"),
    ("secret.url-password", "sqlserver://sa:<<{pw:12}>>@db:1433;database=x"),
    ("secret.url-password", "https://u:p%40<<ss{b62:8}>>@example.test/"),
    ("secret.url-password", "ldap://cn=admin:<<{pw:12}>>@ldap.example.test"),
    (
        "secret.private-key",
        "<<-----BEGIN DSA PRIVATE KEY-----\r\n{b64:64}\r\n{b64:64}\r\n-----END DSA PRIVATE KEY----->>",
    ),
    (
        "secret.private-key",
        "<<PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nComment: k\nPublic-Lines: 2\n{b64:64}\n{b64:16}\nPrivate-Lines: 1\n{b64:48}>>\nPrivate-MAC: {hex:64}",
    ),
    ("secret.observe", "<<https://{hex:32}@sentry.example.test/42>>"),
];

const INNOCENT: &[&str] = &[
    "{\"author\":\"builtin\",\"authority\":\"api\",\"input_tokens\":812,\"prompt_length\":44,\"responses\":3}",
    "Press any key: token ring, secret santa, password manager",
    "Expected token ';' but found identifier at 12:3",
    "{b62:8}: 200 OK in {d:3} ms",
    "trace {hex:32} span {hex:16} parent {hex:16}",
    "webpack:///./node_modules/@angular/core/fesm2022/core.mjs?{hex:4}",
    "https://registry.example.test/@types%2fnode/-/node-20.{d:1}.0.tgz",
    "integrity sha512-{b64:86}==",
    "resolution: {integrity: sha512-{b64:86}==}",
    "h1:{b64:43}= go.sum",
    "checksum = \"{hex:64}\"",
    "Compiling serde v1.0.{d:3}",
    "assertion failed: left == right at src/lib.rs:{d:3}:{d:2}",
    "10.15.7.{d:1} build 19H2",
    "tel_count=4 telemetry=1 phone_home=false callback=5551234",
    "callId 2125550187",
    "epoch 1763700000 and 1763700000123",
    "pid 4242 port 5432 rc 137",
    "\"id\":{d:16}",
    "MIT License Copyright (c) 2026",
    "2026-11-21 06:22:21,273 INFO main --- [nio-8080-exec-1]",
    "password_reset_url passwordField secret_santa_list token_type=bearer",
    "\"token_type\":\"Bearer\",\"expires_in\":3600",
    "{\"tokenizer\":\"o200k_base\",\"secretManager\":\"enabled\"}",
    "kubectl get secret my-secret -o yaml",
    "api_key_helper: /usr/local/bin/get-key.sh",
    "apiKeySource: ANTHROPIC_API_KEY",
    "authToken: undefined",
    "GET /repos/o/r/pulls/{d:4}/comments?per_page=100&page=2",
    "rgba(12, 34, 56, 0.78) translate(10.5px, 20.25px)",
    "1 0 0 1 4242.4242 4242.4242 cm",
    "F{d:4} GCODE X10.123 Y20.456 Z0.300",
    "Lorem +1 and +2, C++17, a+b=c, +0.5%",
    "range 100-200-3000 sku 123-456-789",
    "sort -k2,2 -t: file | head -n 20",
    "mysql -p -u root shop",
    "docker run -p 8080:80 -e DEBUG=true app",
    "openssl genrsa -out key.pem 2048",
    "Bearer authentication is required; Basic realm=\"x\"",
    "ssh -i ~/.ssh/id_ed25519 -p 22",
];

pub fn all(random: &mut Random) -> Vec<Planted> {
    POSITIVE
        .iter()
        .map(|(class, form)| {
            // `<` may stand in front of the mark, as in `<<<address>>>`: the mark is the last two.
            let at = form.rfind("<<").unwrap_or(0);
            let (head, rest) = form.split_at(at);
            let (value, tail) = rest[2..].split_once(">>").unwrap_or((&rest[2..], ""));
            let head = credentials::expand(random, head);
            let value = credentials::expand(random, value);
            let tail = credentials::expand(random, tail);
            Planted { class, text: format!("{head}{value}{tail}"), value }
        })
        .collect()
}

pub fn innocent(random: &mut Random) -> Vec<String> {
    INNOCENT.iter().map(|form| credentials::expand(random, form)).collect()
}
