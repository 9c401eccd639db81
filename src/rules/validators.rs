//! Offline checks that a value must pass: checksums, tables and shapes. No network, no state.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// A check by name. Variants and names are alphabetical.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Check {
    /// `card-iin`: begins as an issuer's cards do, and is as long as they are.
    CardIin,
    /// `distinct>=N`: at least so many different bytes.
    Distinct(u16),
    /// `e164-length`: 8 to 15 digits after the plus sign.
    E164Length,
    /// `email-tld`: ends in a top-level domain that exists, and not in what is rather a file name.
    EmailTld,
    /// `entropy>=X`: at least so many bits per byte.
    Entropy(f32),
    /// `github-crc32`: the last six characters are the checksum of those before.
    GithubCrc32,
    /// `iban`: as long as the country's are, and its check digits hold.
    Iban,
    /// `ipv4`: four numbers below 256 without leading zeros.
    Ipv4,
    /// `ipv6`: an address from a range that is in use, with more than a prefix.
    Ipv6,
    /// `jwt-header`: the first part is a JSON object that names an algorithm.
    JwtHeader,
    /// `luhn`: the last digit is the checksum.
    Luhn,
    /// `not-version`: not a version number, by its words nearby and its size.
    NotVersion,
    /// `secret-like`: letters with digits or signs among them; no name, path, number or word of code.
    SecretLike,
}

impl Check {
    /// Names in files. Those with a parameter end in `>=`.
    pub(super) const NAMES: &'static [&'static str] = &[
        "card-iin",
        "distinct>=",
        "e164-length",
        "email-tld",
        "entropy>=",
        "github-crc32",
        "iban",
        "ipv4",
        "ipv6",
        "jwt-header",
        "luhn",
        "not-version",
        "secret-like",
    ];

    pub(super) fn parse(name: &str) -> Option<Self> {
        if let Some((name, parameter)) = name.split_once(">=") {
            return match name {
                "distinct" => {
                    parameter.parse().ok().filter(|count| (1..=256).contains(count)).map(Self::Distinct)
                }
                "entropy" => {
                    parameter.parse().ok().filter(|bits| (0.0..=8.0).contains(bits)).map(Self::Entropy)
                }
                _ => None,
            };
        }
        Some(match name {
            "card-iin" => Self::CardIin,
            "e164-length" => Self::E164Length,
            "email-tld" => Self::EmailTld,
            "github-crc32" => Self::GithubCrc32,
            "iban" => Self::Iban,
            "ipv4" => Self::Ipv4,
            "ipv6" => Self::Ipv6,
            "jwt-header" => Self::JwtHeader,
            "luhn" => Self::Luhn,
            "not-version" => Self::NotVersion,
            "secret-like" => Self::SecretLike,
            _ => return None,
        })
    }

    /// Whether it looks at [`Candidate::variable`].
    pub(super) fn wants_variety(&self) -> bool {
        matches!(self, Self::Distinct(_) | Self::Entropy(_))
    }

    /// Whether a value passes.
    pub(super) fn passes(self, candidate: Candidate<'_>) -> bool {
        let Candidate { value, variable, before } = candidate;
        match self {
            Self::CardIin => card_iin(value),
            Self::Distinct(least) => distinct(variable) >= least,
            Self::E164Length => (8..=15).contains(&digits(value).count()),
            Self::EmailTld => email_tld(value),
            Self::Entropy(least) => entropy(variable) >= least,
            Self::GithubCrc32 => github_crc32(value),
            Self::Iban => iban(value),
            Self::Ipv4 => text(value).is_some_and(|text| text.parse::<Ipv4Addr>().is_ok()),
            Self::Ipv6 => ipv6(value),
            Self::JwtHeader => jwt_header(value),
            Self::Luhn => luhn(value),
            Self::NotVersion => not_version(value, before),
            Self::SecretLike => secret_like(value) && !is_place_in_list(before),
        }
    }
}

/// A value that is to be checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    /// The whole value.
    pub(super) value: &'a [u8],
    /// The value without the anchor that it begins with.
    pub(super) variable: &'a [u8],
    /// The text that leads up to it.
    pub(super) before: &'a [u8],
}

/// Parses an address for allow lists.
pub(super) fn address(value: &[u8]) -> Option<IpAddr> {
    text(value)?.parse().ok()
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok()
}

fn digits(value: &[u8]) -> impl DoubleEndedIterator<Item = u32> {
    value.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| u32::from(byte - b'0'))
}

fn distinct(value: &[u8]) -> u16 {
    let mut seen = [false; 256];
    value.iter().map(|byte| u16::from(!std::mem::replace(&mut seen[usize::from(*byte)], true))).sum()
}

fn entropy(value: &[u8]) -> f32 {
    let mut counts = [0_u32; 256];
    for byte in value {
        counts[usize::from(*byte)] += 1;
    }
    let total = value.len() as f32;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = *count as f32 / total;
            -share * share.log2()
        })
        .sum()
}

/// Every top-level domain in use, sorted.
static TLDS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let mut names: Vec<&str> = include_str!("../../rules/tlds.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    names.sort_unstable();
    names
});

/// Country domains that are also common file endings: `name@file.rs` is a path more often than a mailbox. A domain of
/// three labels (`name@mail.firm.rs`) is believed.
const FILE_LIKE: &[&str] = &["md", "mov", "ps", "py", "rs", "sh", "so", "zip"];

fn email_tld(value: &[u8]) -> bool {
    let Some(at) = memchr::memrchr(b'@', value) else { return false };
    let domain = &value[at + 1..];
    let Some(dot) = memchr::memrchr(b'.', domain) else { return false };
    let (host, tld) = (&domain[..dot], &domain[dot + 1..]);
    if !tld.is_ascii() {
        // The list has them in their other spelling; a domain that was written so far is meant.
        return true;
    }
    let lower = tld.to_ascii_lowercase();
    let Some(lower) = text(&lower) else { return false };
    if TLDS.binary_search(&lower).is_err() {
        return false;
    }
    // `icon@2x.zip`, `logo@3x.sh`: a label of a scale, then an ending.
    let scale = host.len() <= 3 && host.first().is_some_and(u8::is_ascii_digit) && host.ends_with(b"x");
    let file_like = FILE_LIKE.contains(&lower);
    !(scale || file_like && !host.contains(&b'.'))
}

fn luhn(value: &[u8]) -> bool {
    let sum: u32 = digits(value)
        .rev()
        .enumerate()
        .map(|(index, digit)| match index % 2 {
            0 => digit,
            _ if digit > 4 => digit * 2 - 9,
            _ => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10) && digits(value).any(|digit| digit != 0)
}

fn card_iin(value: &[u8]) -> bool {
    let length = digits(value).count();
    let prefix = digits(value).take(6).fold(0, |prefix, digit| prefix * 10 + digit);
    match prefix {
        // American Express
        340_000..=349_999 | 370_000..=379_999 => length == 15,
        // Diners Club
        300_000..=305_999 | 309_500..=309_599 | 380_000..=399_999 => (14..=19).contains(&length),
        360_000..=369_999 => (14..=19).contains(&length),
        // JCB
        352_800..=358_999 => (16..=19).contains(&length),
        // Visa
        400_000..=499_999 => matches!(length, 13 | 16 | 19),
        // Mastercard
        222_100..=272_099 | 510_000..=559_999 => length == 16,
        // Maestro and UnionPay, Discover, RuPay
        500_000..=509_999 | 560_000..=589_999 => (16..=19).contains(&length),
        630_400..=630_499 | 675_900..=676_399 => (16..=19).contains(&length),
        601_100..=601_199 | 622_000..=622_999 | 644_000..=659_999 => (16..=19).contains(&length),
        620_000..=629_999 | 810_000..=817_199 => (16..=19).contains(&length),
        // Mir
        220_000..=220_499 => (16..=19).contains(&length),
        _ => false,
    }
}

/// Lengths of IBANs by country, as the registry has them; sorted.
const IBAN_LENGTHS: &[(&[u8; 2], u8)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// How many characters an IBAN of the country that `value` begins with has.
pub(super) fn iban_length(value: &[u8]) -> Option<usize> {
    /// The lengths by the place of both letters in the alphabet; 0 where there is no such country.
    static BY_LETTERS: LazyLock<[[u8; 26]; 26]> = LazyLock::new(|| {
        let mut lengths = [[0; 26]; 26];
        for ([first, second], length) in IBAN_LENGTHS {
            lengths[usize::from(first - b'A')][usize::from(second - b'A')] = *length;
        }
        lengths
    });
    let [first, second] =
        value.first_chunk::<2>()?.map(|letter| usize::from(letter.to_ascii_uppercase().wrapping_sub(b'A')));
    let length = *BY_LETTERS.get(first)?.get(second)?;
    (length > 0).then_some(usize::from(length))
}

fn iban(value: &[u8]) -> bool {
    let compact = || value.iter().filter(|byte| **byte != b' ').map(u8::to_ascii_uppercase);
    // Names in code are lower case as well, and one in 97 has the right check digits.
    let lower = value.first().is_some_and(u8::is_ascii_lowercase);
    if lower && digits(value).count() * 4 < compact().count() {
        return false;
    }
    if iban_length(value) != Some(compact().count()) {
        return false;
    }
    let rearranged = compact().skip(4).chain(compact().take(4));
    /// Far enough below the largest number for two more digits.
    const FULL: u64 = u64::MAX / 1000;
    let remainder = rearranged.fold(0_u64, |remainder, byte| {
        let remainder = if remainder > FULL { remainder % 97 } else { remainder };
        match byte {
            b'0'..=b'9' => remainder * 10 + u64::from(byte - b'0'),
            _ => remainder * 100 + u64::from(byte.wrapping_sub(b'A')) + 10,
        }
    });
    remainder % 97 == 1
}

fn jwt_header(value: &[u8]) -> bool {
    /// Headers with certificates in them are longer, but name the algorithm all the same.
    const LONGEST_HEADER: usize = 4096;
    let end = memchr::memchr(b'.', value).unwrap_or(value.len());
    let Ok(header) = URL_SAFE_NO_PAD.decode(&value[..end.min(LONGEST_HEADER)]) else { return false };
    serde_json::from_slice::<serde_json::Value>(&header)
        .is_ok_and(|header| header.get("alg").is_some_and(serde_json::Value::is_string))
}

fn not_version(value: &[u8], before: &[u8]) -> bool {
    const WORDS: &[&[u8]] =
        &[b"version", b"ver", b"v", b"release", b"revision", b"build", b"chrome", b"assembly"];
    /// As far before as a label can stand: `"version": "`.
    const NEAR: usize = 24;
    let near = &before[before.len().saturating_sub(NEAR)..];
    let end = near.iter().rposition(|byte| byte.is_ascii_alphanumeric()).map_or(0, |last| last + 1);
    let start = near[..end].iter().rposition(|byte| !byte.is_ascii_alphabetic()).map_or(0, |at| at + 1);
    let word = &near[start..end];
    let ends_in_version =
        |word: &[u8]| word.len() > 7 && word[word.len() - 7..].eq_ignore_ascii_case(b"version");
    if ends_in_version(word) || WORDS.iter().any(|known| word.eq_ignore_ascii_case(known)) {
        return false;
    }
    // `Chrome/120.0.0.0` and `pkg-1.2.3.4`: glued to a name.
    let glued = matches!(before.last(), Some(b'/' | b'-' | b'=' | b'@')) && before.len() > 1 && {
        let byte = before[before.len() - 2];
        byte.is_ascii_alphabetic() && before.last() == Some(&b'/')
            || before.last() == Some(&b'-')
            || before.last() == Some(&b'=') && byte == b'='
    };
    // Four small numbers are a version or an object id far more often than a machine.
    let all_small = value.split(|byte| *byte == b'.').all(|group| group.len() == 1);
    !(glued || all_small)
}

/// What stands behind the name of a secret is one unless it looks like code or words.
fn secret_like(value: &[u8]) -> bool {
    /// Names of algorithms and the like, which have digits in them.
    const TERMS: &[&[u8]] = &[
        b"aes128",
        b"aes256",
        b"argon2",
        b"argon2i",
        b"argon2id",
        b"base32",
        b"base64",
        b"base64url",
        b"cl100k_base",
        b"ed25519",
        b"es256",
        b"hs256",
        b"hs512",
        b"http2",
        b"oauth2",
        b"o200k_base",
        b"pbkdf2",
        b"rs256",
        b"scrypt2",
        b"sha1",
        b"sha256",
        b"sha384",
        b"sha512",
        b"utf-16",
        b"utf-8",
        b"x25519",
    ];
    const ENDINGS: &[&[u8]] = &[
        b".css", b".go", b".html", b".java", b".js", b".json", b".jsx", b".key", b".log", b".md", b".pem",
        b".php", b".py", b".rb", b".rs", b".sh", b".sql", b".toml", b".ts", b".tsx", b".txt", b".xml",
        b".yaml", b".yml",
    ];
    /// Shorter ones are numbers of versions and the like.
    const SHORTEST: usize = 6;
    /// Fewer different bytes are a pattern typed for the eye.
    const LEAST_DISTINCT: u16 = 5;
    /// From here on values are made by machines, and are as varied as such are.
    const LONG: usize = 20;
    const LONG_ENTROPY: f32 = 2.8;
    // What rules most values out comes first, and costs one look at each byte.
    let (mut has_letter, mut has_upper, mut has_digit, mut has_sign) = (false, false, false, false);
    let (mut turns, mut was_lower) = (0, false);
    for byte in value {
        let (is_lower, is_upper) = (byte.is_ascii_lowercase(), byte.is_ascii_uppercase());
        has_letter |= is_lower | is_upper;
        has_upper |= is_upper;
        has_digit |= byte.is_ascii_digit();
        has_sign |= matches!(byte, b'!' | b'#' | b'^' | b'~' | b'+' | b'?' | b'@');
        // Random letters change case more often than words that were run together.
        turns += usize::from(was_lower & is_upper);
        was_lower = is_lower;
    }
    let is_random = value.len() >= LONG && turns * 6 > value.len();
    if value.len() < SHORTEST || !has_letter || !(has_digit || has_sign || is_random) {
        return false;
    }
    let lower = value.to_ascii_lowercase();
    let is_path = value.starts_with(b"/") && !(has_upper && has_digit && value.len() >= LONG)
        || value.starts_with(b"./")
        || value.starts_with(b"~/")
        || memchr::memmem::find(value, b"://").is_some()
        || ENDINGS.iter().any(|ending| lower.ends_with(ending));
    !is_path
        && !TERMS.contains(&&*lower)
        && !is_name(value)
        && distinct(value) >= LEAST_DISTINCT
        && (value.len() < LONG || entropy(value) >= LONG_ENTROPY)
}

/// Whether what leads up to a value calls it a token of the sort that is no secret: a place in a list, a word of a parser.
fn is_place_in_list(before: &[u8]) -> bool {
    const SORTS: &[&[u8]] = &[
        b"bos",
        b"cancel",
        b"cancellation",
        b"continuation",
        b"csrf",
        b"cursor",
        b"eos",
        b"expected",
        b"invalid",
        b"next",
        b"pad",
        b"page",
        b"per",
        b"stop",
        b"sync",
        b"unexpected",
        b"unk",
        b"xsrf",
    ];
    /// As far before as the name can stand.
    const NEAR: usize = 40;
    let near = before[before.len().saturating_sub(NEAR)..].to_ascii_lowercase();
    let Some(at) = memchr::memmem::rfind(&near, b"token") else { return false };
    let name = near[..at].trim_ascii_end();
    let name = name.strip_suffix(b"_").or_else(|| name.strip_suffix(b"-")).unwrap_or(name);
    SORTS.iter().any(|sort| {
        name.strip_suffix(*sort).is_some_and(|rest| !rest.last().is_some_and(u8::is_ascii_lowercase))
            // `nextPageToken`, which is `nextpagetoken` here.
            || name.ends_with(sort) && sort.len() > 3
    })
}

/// Whether it is words and short numbers with signs between, as names of things are: `my-app-2`, `API_TOKEN_2`.
fn is_name(value: &[u8]) -> bool {
    let mut parts =
        value.split(|byte| matches!(byte, b'-' | b'_' | b'.' | b':')).filter(|part| !part.is_empty());
    let is_word = |part: &[u8]| {
        part.iter().all(u8::is_ascii_lowercase)
            || part.iter().all(u8::is_ascii_uppercase)
            || part[0].is_ascii_uppercase() && part[1..].iter().all(u8::is_ascii_lowercase)
    };
    let is_number = |part: &[u8]| part.len() <= 4 && part.iter().all(u8::is_ascii_digit);
    parts.clone().count() > 1 && parts.all(|part| is_word(part) || is_number(part))
}

fn ipv6(value: &[u8]) -> bool {
    // Addresses in use begin with a full group, with the well-known prefix, or with zeros.
    let first = &value[..memchr::memchr(b':', value).unwrap_or(value.len())];
    if !(first.is_empty() || first.len() == 4 || first == b"64" || first[0] == b'0') {
        return false;
    }
    let Some(address) = text(value).and_then(|text| text.parse::<Ipv6Addr>().ok()) else { return false };
    let segments = address.segments();
    let in_use = matches!(segments[0], 0x2000..=0x3fff | 0xfc00..=0xfdff | 0xfe80..=0xfebf | 0xff00..=0xff0f)
        || address.to_ipv4_mapped().is_some()
        || segments[0] == 0x64 && segments[1] == 0xff9b;
    // `2001::` alone is a network, and `2026::1` in code is rarely a machine: something must come after a prefix.
    in_use && segments.iter().filter(|segment| **segment != 0).count() >= 2
}

/// Fine-grained tokens and the newer classic ones end in the CRC-32 of what stands before, in base 62.
fn github_crc32(value: &[u8]) -> bool {
    const CHECKSUM: usize = 6;
    let Some(underscore) = memchr::memrchr(b'_', value) else { return false };
    let secret = &value[underscore + 1..];
    let Some(split) = secret.len().checked_sub(CHECKSUM) else { return false };
    let (body, checksum) = secret.split_at(split);
    base62(crc32(body)) == *checksum
}

/// The checksum of `body` as GitHub writes it.
pub(super) fn base62(mut number: u32) -> [u8; 6] {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = [b'0'; 6];
    for place in text.iter_mut().rev() {
        *place = DIGITS[(number % 62) as usize];
        number /= 62;
    }
    text
}

/// CRC-32 as in zlib, without a table: tokens are short.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests;
