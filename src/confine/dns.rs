//! Answers DNS questions with addresses that are handed out here. Forwards nothing: what a question says stays on the
//! machine until somebody connects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    confine::names::Names,
    model::{Authority, Host},
};

/// Answers one DNS message. `None` for what is no question, which nobody would answer.
///
/// Every name that can stand in an authority has an address; whether there is such a host is seen when it is dialled.
/// `has_ipv6` says whether IPv6 addresses may be handed out.
pub fn answer(query: &[u8], names: &mut Names, has_ipv6: bool) -> Option<Vec<u8>> {
    let header = query.first_chunk::<HEADER_BYTES>()?;
    let is_answer = header[2] & 0x80 != 0;
    if is_answer {
        return None;
    }
    let opcode = header[2] >> 3 & 0xf;
    let questions = u16::from_be_bytes([header[4], header[5]]);
    if opcode != 0 || questions != 1 {
        return Some(message(header, &[], NOT_IMPLEMENTED, None));
    }
    let Some(question) = Question::read(&query[HEADER_BYTES..]) else {
        return Some(message(header, &[], FORMAT_ERROR, None));
    };
    let (code, address) = resolve(&question, names, has_ipv6);
    Some(message(header, question.bytes, code, address))
}

fn resolve(question: &Question<'_>, names: &mut Names, has_ipv6: bool) -> (u8, Option<Data>) {
    if question.class != CLASS_INTERNET {
        return (NOT_IMPLEMENTED, None);
    }
    if question.kind == TYPE_PTR {
        return match reverse(&question.name).and_then(|address| names.host(address)) {
            Some(Host::Domain(name)) => (NO_ERROR, Some(Data::Name(name))),
            _ => (NO_SUCH_NAME, None),
        };
    }
    let is_local = question.name == "localhost" || question.name.ends_with(".localhost");
    let (v4, v6) = match Authority::parse(&question.name, Some(1)).map(|authority| authority.host().clone()) {
        _ if is_local => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
        Ok(Host::Domain(name)) => names.addresses(&name),
        _ => return (NO_SUCH_NAME, None),
    };
    let data = match question.kind {
        TYPE_A => Some(Data::V4(v4)),
        TYPE_AAAA if has_ipv6 => Some(Data::V6(v6)),
        _ => None,
    };
    (NO_ERROR, data)
}

enum Data {
    Name(Box<str>),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

struct Question<'q> {
    bytes: &'q [u8],
    /// Lower case, labels joined by dots; empty for the root.
    name: String,
    kind: u16,
    class: u16,
}

impl<'q> Question<'q> {
    fn read(bytes: &'q [u8]) -> Option<Self> {
        let (mut name, mut at) = (String::new(), 0);
        loop {
            let length = usize::from(*bytes.get(at)?);
            // A pointer has its top bits set; there is nothing before a question that it could point to.
            if length > LONGEST_LABEL_BYTES {
                return None;
            }
            let label = bytes.get(at + 1..at + 1 + length)?;
            at += 1 + length;
            if length == 0 {
                break;
            }
            if !name.is_empty() {
                name.push('.');
            }
            // What is no ASCII, or holds a dot, is no name of a host; it is kept apart from every one that is.
            name.extend(label.iter().map(|byte| match byte {
                b'.' => '\u{fffd}',
                byte if byte.is_ascii() => char::from(byte.to_ascii_lowercase()),
                _ => '\u{fffd}',
            }));
            if name.len() > LONGEST_NAME_BYTES {
                return None;
            }
        }
        let fixed = bytes.get(at..at + 4)?;
        Some(Self {
            bytes: &bytes[..at + 4],
            name,
            kind: u16::from_be_bytes([fixed[0], fixed[1]]),
            class: u16::from_be_bytes([fixed[2], fixed[3]]),
        })
    }
}

/// The address in `1.0.18.198.in-addr.arpa` or its IPv6 counterpart.
fn reverse(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = digits.splitn(4, '.').map(|digits| digits.parse::<u8>().ok());
        let mut next = || octets.next().flatten();
        let (d, c, b, a) = (next()?, next()?, next()?, next()?);
        return Some(Ipv4Addr::new(a, b, c, d).into());
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut bits = 0_u128;
    let mut count = 0;
    for digit in digits.rsplit('.') {
        let digit = u128::from_str_radix(digit, 16).ok().filter(|digit| *digit < 16)?;
        count += 1;
        if count > 32 {
            return None;
        }
        bits = bits << 4 | digit;
    }
    (count == 32).then(|| Ipv6Addr::from_bits(bits).into())
}

fn message(query: &[u8; HEADER_BYTES], question: &[u8], code: u8, data: Option<Data>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + question.len() + 32);
    bytes.extend_from_slice(&query[..2]);
    let keeps_opcode_and_recursion = query[2] & 0x79;
    bytes.extend_from_slice(&[0x80 | keeps_opcode_and_recursion, RECURSION_AVAILABLE | code]);
    bytes.extend_from_slice(&[0, u8::from(!question.is_empty()), 0, u8::from(data.is_some()), 0, 0, 0, 0]);
    bytes.extend_from_slice(question);
    let Some(data) = data else { return bytes };
    let (kind, data) = match data {
        Data::Name(name) => (TYPE_PTR, encode_name(&name)),
        Data::V4(address) => (TYPE_A, address.octets().to_vec()),
        Data::V6(address) => (TYPE_AAAA, address.octets().to_vec()),
    };
    // The question's name, by a pointer to where it stands.
    bytes.extend_from_slice(&[0xc0, HEADER_BYTES as u8]);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&CLASS_INTERNET.to_be_bytes());
    bytes.extend_from_slice(&TIME_TO_LIVE_SECS.to_be_bytes());
    // A name of at most 253 characters, or an address.
    bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&data);
    bytes
}

fn encode_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

const HEADER_BYTES: usize = 12;
const LONGEST_LABEL_BYTES: usize = 63;
const LONGEST_NAME_BYTES: usize = 253;
/// An address stays good for as long as its name is remembered; clients ask again before that.
const TIME_TO_LIVE_SECS: u32 = 60;

const RECURSION_AVAILABLE: u8 = 0x80;
const NO_ERROR: u8 = 0;
const FORMAT_ERROR: u8 = 1;
const NO_SUCH_NAME: u8 = 3;
const NOT_IMPLEMENTED: u8 = 4;

const CLASS_INTERNET: u16 = 1;
const TYPE_A: u16 = 1;
const TYPE_PTR: u16 = 12;
const TYPE_AAAA: u16 = 28;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::testing::query;

    fn ask(names: &mut Names, name: &str, kind: u16) -> (u8, Vec<u8>) {
        let answer = answer(&query(name, kind), names, true).unwrap();
        let answers = u16::from_be_bytes([answer[6], answer[7]]);
        let data = if answers == 0 { Vec::new() } else { answer[query(name, kind).len() + 12..].to_vec() };
        (answer[3] & 0xf, data)
    }

    #[test]
    fn every_name_has_an_address_that_leads_back_to_it() {
        let mut names = Names::default();

        let (_, v4) = ask(&mut names, "api.example.com", TYPE_A);
        let (_, v6) = ask(&mut names, "API.Example.COM", TYPE_AAAA);

        let v4 = IpAddr::from(<[u8; 4]>::try_from(v4).unwrap());
        let v6 = IpAddr::from(<[u8; 16]>::try_from(v6).unwrap());
        assert_eq!(names.host(v4), Some(Host::Domain("api.example.com".into())));
        assert_eq!(names.host(v6), Some(Host::Domain("api.example.com".into())));
    }

    #[test]
    fn an_answer_has_the_number_and_the_question_of_its_query() {
        let query = query("Api.Example", TYPE_A);

        let answer = answer(&query, &mut Names::default(), true).unwrap();

        assert_eq!(answer[..2], query[..2]);
        assert_eq!(answer[2] & 0x80, 0x80);
        assert_eq!(answer[12..query.len()], query[12..]);
    }

    #[test]
    fn other_types_have_no_data_and_other_names_do_not_exist() {
        let mut names = Names::default();

        assert_eq!(ask(&mut names, "api.example", 65), (NO_ERROR, Vec::new()));
        assert_eq!(ask(&mut names, "a b.example", TYPE_A), (NO_SUCH_NAME, Vec::new()));
        assert_eq!(ask(&mut names, "1.2.3.4", TYPE_A), (NO_SUCH_NAME, Vec::new()));
        assert_eq!(ask(&mut names, "localhost", TYPE_A), (NO_ERROR, vec![127, 0, 0, 1]));
    }

    #[test]
    fn without_ipv6_no_such_address_is_handed_out() {
        let answer = answer(&query("a.example", TYPE_AAAA), &mut Names::default(), false).unwrap();

        assert_eq!((answer[3] & 0xf, answer[7]), (NO_ERROR, 0));
    }

    #[test]
    fn an_address_that_was_handed_out_has_its_name() {
        let mut names = Names::default();
        let (v4, v6) = names.addresses("api.example");
        let nibbles: Vec<String> = v6
            .octets()
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|digit| format!("{digit:x}"))
            .collect();
        let [a, b, c, d] = v4.octets();

        let by_v4 = ask(&mut names, &format!("{d}.{c}.{b}.{a}.in-addr.arpa"), TYPE_PTR);
        let by_v6 = ask(
            &mut names,
            &format!("{}.ip6.arpa", nibbles.into_iter().rev().collect::<Vec<_>>().join(".")),
            TYPE_PTR,
        );

        assert_eq!(by_v4, (NO_ERROR, b"\x03api\x07example\0".to_vec()));
        assert_eq!(by_v6, by_v4);
        assert_eq!(ask(&mut names, "8.8.8.8.in-addr.arpa", TYPE_PTR).0, NO_SUCH_NAME);
    }

    #[test]
    fn what_is_no_question_is_answered_with_an_error_or_not_at_all() {
        let mut names = Names::default();
        let whole = query("api.example", TYPE_A);
        let mut answered = whole.clone();
        answered[2] |= 0x80;

        assert_eq!(answer(&whole[..11], &mut names, true), None);
        assert_eq!(answer(&answered, &mut names, true), None);
        for end in HEADER_BYTES..whole.len() {
            assert_eq!(answer(&whole[..end], &mut names, true).unwrap()[3] & 0xf, FORMAT_ERROR, "{end}");
        }
    }
}
