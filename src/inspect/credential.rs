//! Which values of a request's head open a door. They are what a service needs, so they are no findings; and what
//! they open is nobody's business, so nothing of them is looked at, kept or shown but a keyed fingerprint.

use std::{cell::RefCell, collections::HashMap, ops::Range, sync::LazyLock};

use bytes::Bytes;

use crate::model::{
    Document, Field, FieldKind, FingerprintKey, PathPattern, PathWriter, SentCredential, TextId,
};

/// Stands for a credential's value.
pub(super) const MASK: &str = "***";

/// Fields of a head that hold credentials, as globs over their paths in lower case.
const CREDENTIALS: &[&str] = &[
    "header:{authorization,proxy-authorization,*-authorization,api-key,apikey,*api-key,*api_key,*apikey}",
    "header:{*token,*token-bin,*secret*,*password*,*passwd*,*credential*,*signature*,x-auth-*,*-auth,*-auth-key}",
    "header:{*access-key*,*-ingestion-key,*license-key,x-honeycomb-team,x-functions-key,x-amz-security-token}",
    "header:x-sentry-auth/{sentry_key,sentry_secret}",
    "header:{cookie,set-cookie}/{*sess*,*token*,*auth*,*sid,sid*,*key,*jwt*,*csrf*,*xsrf*,*secret*,*login*}",
    "header:{cookie,set-cookie}/{*remember*,*credential*,*pass*,__secure-*,__host-*,cf_clearance,__cf_bm,_cfuvid}",
    "query:{access_token,auth,code,k,key,sig,pass,jwt,sdk-key,sdkkey,sdk_key,sentry_key,sentry_secret}",
    "query:{*api-key,*api_key,*apikey,*token,*secret*,*password*,*passwd*,*signature*,*credential*}",
];

/// Paths whose last segment is a key: GrowthBook's.
const KEYS_IN_PATHS: &[&str] = &["api/eval/*", "api/features/*", "sub/*"];

/// Ways to say who one is that stand before a credential, in any header.
const SCHEMES: &[&[u8]] = &[b"basic ", b"bearer ", b"digest ", b"negotiate "];

/// Shortest value of a cookie that is taken for a key when its name says nothing.
const OPAQUE_COOKIE: usize = 20;

/// Names of which it is remembered whether they name a credential, in each thread. A client sends about twenty.
const MOST_REMEMBERED: usize = 512;

/// Longest of them, in bytes.
const LONGEST_REMEMBERED: usize = 128;

static PATTERNS: LazyLock<Vec<PathPattern>> = LazyLock::new(|| parse(CREDENTIALS));
static PATH_PATTERNS: LazyLock<Vec<PathPattern>> = LazyLock::new(|| parse(KEYS_IN_PATHS));

fn parse(globs: &[&str]) -> Vec<PathPattern> {
    globs.iter().map(|glob| PathPattern::parse(glob).expect("a literal glob, read in tests")).collect()
}

/// A document's body without its credentials.
pub(super) struct Hidden {
    /// The body, with their values masked.
    pub(super) body: Vec<u8>,
    /// What they were.
    pub(super) sent: Vec<SentCredential>,
    /// Where the masks stand, and what stood there: needed to send it on, and for nothing else.
    pub(super) values: Vec<(Range<usize>, Bytes)>,
}

/// A document's body with the values of credentials masked; `None` when there are none.
pub(super) fn hide(document: &Document, key: &FingerprintKey) -> Option<Hidden> {
    let body = document.text(TextId::BODY);
    let mut masked = Vec::new();
    let mut credentials = Vec::new();
    let mut values = Vec::new();
    let mut at = 0;
    let mut paths = PathWriter::new(document);
    for field in document.fields_in(TextId::BODY) {
        if field.kind().is_branch()
            || field.span().is_empty()
            || !is_credential(document, field, paths.path(field))
        {
            continue;
        }
        let plain = field.plain();
        credentials.push(SentCredential {
            path: paths.field_path(field),
            fingerprint: key.fingerprint(&plain[scheme_length(plain)..]),
        });
        masked.extend_from_slice(&body[at..field.span().start]);
        let start = masked.len();
        masked.extend_from_slice(MASK.as_bytes());
        values.push((start..masked.len(), document.text_bytes(TextId::BODY).slice(field.span())));
        at = field.span().end;
    }
    if credentials.is_empty() {
        return None;
    }
    masked.extend_from_slice(&body[at..]);
    Some(Hidden { body: masked, sent: credentials, values })
}

fn is_credential(document: &Document, field: Field<'_>, path: &str) -> bool {
    if document.prefix() == "path" {
        let path = String::from_utf8_lossy(document.text(TextId::BODY));
        let is_last = document.text(TextId::BODY)[field.span().end..].iter().all(|byte| *byte == b'/');
        return is_last && PATH_PATTERNS.iter().any(|it| it.matches_segments_of(path.trim_matches('/')));
    }
    let name = path.to_lowercase();
    if is_named_as_one(&name) {
        return true;
    }
    let value = field.plain();
    if name.starts_with("header:cookie/") || name == "header:cookie" {
        return is_opaque(value);
    }
    document.prefix() == "header" && scheme_length(value) > 0
}

/// Whether the name alone says that a value is a credential. Clients send the same few fields with each request.
fn is_named_as_one(name: &str) -> bool {
    thread_local! {
        static ASKED: RefCell<HashMap<Box<str>, bool>> = RefCell::default();
    }
    let look = || PATTERNS.iter().any(|pattern| pattern.matches(name));
    if name.len() > LONGEST_REMEMBERED {
        return look();
    }
    ASKED.with_borrow_mut(|asked| {
        if let Some(known) = asked.get(name) {
            return *known;
        }
        if asked.len() >= MOST_REMEMBERED {
            asked.clear();
        }
        let named = look();
        asked.insert(name.into(), named);
        named
    })
}

fn scheme_length(value: &[u8]) -> usize {
    let is = |scheme: &&&[u8]| value.get(..scheme.len()).is_some_and(|it| it.eq_ignore_ascii_case(scheme));
    SCHEMES.iter().find(is).map_or(0, |scheme| scheme.len())
}

/// Whether a value reads as a key rather than as a word, a number, an address or a UUID.
fn is_opaque(value: &[u8]) -> bool {
    let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=_-.%:".contains(byte);
    let is_uuid = value.len() == 36 && value.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-');
    let is_address = memchr::memmem::find(value, b"%40").is_some();
    value.len() >= OPAQUE_COOKIE
        && !is_uuid
        && !is_address
        && value.iter().all(is_key)
        && value.iter().any(u8::is_ascii_digit)
        && value.iter().any(u8::is_ascii_alphabetic)
}

/// Whether a field is one whose value was masked.
pub(super) fn is_masked(field: Field<'_>) -> bool {
    field.kind() == FieldKind::String && field.raw() == MASK.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{self, Budget};

    fn key() -> FingerprintKey {
        FingerprintKey::new(&[7; 32])
    }

    fn masked(document: &Document) -> (String, Vec<String>) {
        let (body, credentials) = match hide(document, &key()) {
            Some(hidden) => (hidden.body, hidden.sent),
            None => (document.text(TextId::BODY).to_vec(), Vec::new()),
        };
        let names = credentials.iter().map(|credential| credential.path.to_string()).collect();
        (String::from_utf8(body).unwrap(), names)
    }

    fn query(text: &str) -> String {
        masked(&payload::query(text, &Budget::default())).0
    }

    #[test]
    fn credentials_in_a_query_are_masked() {
        assert_eq!(query("k=client-abc&st=javascript"), "k=***&st=javascript");
        assert_eq!(query("DD-API-KEY=x&b&Token=y="), "DD-API-KEY=***&b&Token=***");
        assert_eq!(query("%6b=client-abc&k="), "%6b=***&k=");
        assert_eq!(query("beta=true"), "beta=true");
    }

    #[test]
    fn keys_in_a_path_are_masked() {
        let path = |text| masked(&payload::path(text, &Budget::default()));

        assert_eq!(path("/api/eval/sdk-abc"), ("/api/eval/***".to_owned(), vec!["path:eval".to_owned()]));
        assert_eq!(path("/sub/sdk-abc/").0, "/sub/***/");
        assert_eq!(path("/api/claude_code/features/list").0, "/api/claude_code/features/list");
    }

    #[test]
    fn credentials_in_headers_and_cookies_are_masked() {
        let fields: [(&str, &[u8]); 9] = [
            ("authorization", b"Bearer abc"),
            ("x-api-key", b"abc"),
            ("dd-api-key", b"abc"),
            ("x-custom", b"Basic YWJj"),
            ("cookie", b"theme=dark; sessionKey=abc; odd=aaaaaaaaaa0000000000; mail=bob@example.com"),
            ("x-sentry-auth", b"Sentry sentry_version=7, sentry_key=abc"),
            ("anthropic-version", b"2023-06-01"),
            ("user-agent", b"claude-cli/2 (token)"),
            ("x-request-id", b"abc"),
        ];

        let (body, names) = masked(&payload::headers(fields.into_iter(), &Budget::default()));

        assert_eq!(
            body,
            "authorization: ***\nx-api-key: ***\ndd-api-key: ***\nx-custom: ***\n\
             cookie: theme=dark; sessionKey=***; odd=***; mail=bob@example.com\n\
             x-sentry-auth: Sentry sentry_version=7, sentry_key=***\n\
             anthropic-version: 2023-06-01\nuser-agent: claude-cli/2 (token)\nx-request-id: abc\n"
        );
        assert_eq!(names.len(), 7);
    }

    #[test]
    fn one_key_has_one_fingerprint_whatever_stands_before_it() {
        let of = |name, value: &[u8]| {
            let document = payload::headers([(name, value)].into_iter(), &Budget::default());
            hide(&document, &key()).unwrap().sent[0].fingerprint
        };

        assert_eq!(of("authorization", b"Bearer abc"), of("x-api-key", b"abc"));
        assert_ne!(of("authorization", b"Bearer abd"), of("x-api-key", b"abc"));
    }
}
