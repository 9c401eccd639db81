use super::*;

fn passes(check: &str, value: &str) -> bool {
    check_after("", check, value)
}

fn check_after(before: &str, check: &str, value: &str) -> bool {
    let (value, before) = (value.as_bytes(), before.as_bytes());
    Check::parse(check).unwrap().passes(Candidate { value, variable: value, before })
}

#[test]
fn card_numbers_have_an_issuer_and_a_checksum() {
    assert!(passes("luhn", "4012 8888 8888 1881") && passes("card-iin", "4012 8888 8888 1881"));
    assert!(!passes("luhn", "4012 8888 8888 1882"));
    assert!(!passes("card-iin", "1795242141273000000"));
    assert!(!passes("luhn", "0000000000000000"));
}

#[test]
fn ibans_have_their_countrys_length_and_checksum() {
    assert!(passes("iban", "DE89 3704 0044 0532 0130 00"));
    assert!(passes("iban", "GB82WEST12345698765432"));
    assert!(!passes("iban", "DE89370400440532013001"));
    assert!(!passes("iban", "GB82WEST1234569876543"));
    assert!(IBAN_LENGTHS.is_sorted_by_key(|(country, _)| country));
}

#[test]
fn mailboxes_are_told_from_file_names() {
    assert!(
        passes("email-tld", "a@b.co")
            && passes("email-tld", "a@b.museum")
            && passes("email-tld", "a@mail.firm.rs")
    );
    for name in ["icon@2x.png", "a@b.js", "a@b.ts", "a@b.rs", "a@b.py", "a@3x.zip", "a@b.invalidtld", "a@b"] {
        assert!(!passes("email-tld", name), "{name}");
    }
    assert!(TLDS.len() > 1000);
}

#[test]
fn ipv6_addresses_are_told_from_paths_in_code() {
    assert!(
        passes("ipv6", "2001:db8:85a3::8a2e:370:7334")
            && passes("ipv6", "fe80::1")
            && passes("ipv6", "::ffff:10.0.0.1")
    );
    for text in ["a::b", "dead::beef", "12:30:45", "::", "::1", "2001::", "aa:bb:cc:dd:ee:ff", "fade::add"] {
        assert!(!passes("ipv6", text), "{text}");
    }
}

#[test]
fn versions_are_told_from_addresses() {
    let passes = |before, value| check_after(before, "not-version", value);
    assert!(passes("connect ", "10.42.7.19"));
    assert!(passes("https://", "10.42.7.19"));
    assert!(!passes("version ", "10.42.7.19"));
    assert!(!passes(r#"{"appVersion": ""#, "10.42.7.19"));
    assert!(!passes("Chrome/", "120.0.6099.1"));
    assert!(!passes("connect ", "1.2.3.4"));
}

#[test]
fn github_tokens_carry_their_checksum() {
    let body = "abcdefghijklmnopqrstuvwxyz0123";
    let sum = base62(crc32(body.as_bytes()));
    let token = format!("ghp_{body}{}", text(&sum).unwrap());

    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    assert!(passes("github-crc32", &token));
    assert!(!passes("github-crc32", &token.replace("abc", "abd")));
}

#[test]
fn variety_is_measured() {
    assert!(passes("entropy>=2.0", "abcd") && !passes("entropy>=2.1", "abcd"));
    assert!(passes("distinct>=4", "abcda") && !passes("distinct>=5", "abcda"));
    assert_eq!(Check::parse("distinct>=0"), None);
    assert_eq!(Check::parse("entropy>=9"), None);
}

#[test]
fn a_tokens_header_names_an_algorithm() {
    let header = |json: &str| format!("{}.e30.x", URL_SAFE_NO_PAD.encode(json));
    assert!(passes("jwt-header", &header(r#"{"alg":"HS256"}"#)));
    assert!(!passes("jwt-header", &header(r#"{"not-alg":1}"#)));
    assert!(!passes("jwt-header", "eyJ!.x"));
}

#[test]
fn secrets_are_told_from_names_and_code() {
    for value in [
        "hunter2",
        "s3cr3t!x",
        "aB3dE6gH9",
        "p@ssw0rd",
        "4f9a1c77d0e2b6a8c5d3e1f0",
        "qWeRtYuIoPaSdFgHjKlZxCvB",
    ] {
        assert!(passes("secret-like", value), "{value}");
    }
    for value in [
        "required",
        "12345678",
        "my-app-2",
        "API_TOKEN_2",
        "base64",
        "/etc/key2",
        "https://h/x1",
        "getToken",
        "getAccessTokenFromSessionStore",
        "a1a1a1a1",
        "key2.pem",
        "********",
    ] {
        assert!(!passes("secret-like", value), "{value}");
    }
}

#[test]
fn lower_case_ibans_have_digits_and_check() {
    assert!(passes("iban", "gb82 west 1234 5698 7654 32") && passes("iban", "de89370400440532013000"));
    assert!(!passes("iban", "de88370400440532013000"));
}
