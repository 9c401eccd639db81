//! Contact, network, financial and account data, after the standards that define their forms.

use super::{Class, Planted, Random};

pub type Make = fn(&mut Random) -> Planted;

pub const MAKERS: &[(Class, Make)] = &[
    ("card", card),
    ("email", email),
    ("iban", iban),
    ("ipv4", ipv4),
    ("ipv6", ipv6),
    ("phone", phone),
    ("username", username),
];

const FIRST: &[&str] = &[
    "ann", "bob", "carol", "dmitri", "elif", "farid", "grace", "hiro", "ines", "jurgen", "kofi", "lena",
    "mateo", "nadia", "olu", "priya", "quentin", "rosa", "sven", "tomas", "uma", "vera", "wei", "xenia",
    "yusuf", "zoe",
];
const LAST: &[&str] = &[
    "abbott", "bauer", "castro", "dubois", "eriksson", "fischer", "garcia", "haddad", "ivanova", "jansen",
    "kim", "larsen", "moreau", "nakamura", "okafor", "petrov", "quinn", "rossi", "silva", "tanaka", "ueda",
    "virtanen",
];

fn email(random: &mut Random) -> Planted {
    let (first, last) = (random.pick(FIRST), random.pick(LAST));
    let initial = &first[..1];
    let local = match random.below(14) {
        0 => format!("{first}.{last}"),
        1 => format!("{initial}{last}{}", random.below(99)),
        2 => format!("{first}+{}", random.word()),
        3 => format!("{first}_{last}"),
        4 => first.to_owned(),
        5 => format!("{first}-{last}.{}", random.below(2000)),
        6 => format!("o'{last}"),
        7 => initial.to_owned(),
        8 => format!("{}{}", first[..1].to_uppercase(), last.to_uppercase()),
        9 => format!("{first}.{last}+{}.{}", random.word(), random.below(99)),
        10 => format!("{}", random.below(9_999_999)),
        11 => format!("\"{first} {last}\""),
        12 => "jörg.møller".to_owned() + &random.digits(2),
        _ => format!("{first}%{last}"),
    };
    let domain = match random.below(10) {
        0 => format!("{last}.example.com"),
        1 => format!("mail.{last}-corp.co.uk"),
        2 => format!("{last}.io"),
        3 => format!("{}.dev", random.lower(8)),
        4 => format!("sub.team.{last}.museum"),
        5 => format!("{}.DE", last.to_uppercase()),
        6 => format!("xn--{}-kva.ch", random.lower(6)),
        7 => format!("{last}.rs"),
        8 => "müller-fabrik.de".to_owned(),
        _ => format!("{}{}.org", random.lower(5), random.below(99)),
    };
    // A country whose domain is also an ending of files needs more than one label in front.
    let domain = if domain.ends_with(".rs") { format!("mail.{domain}") } else { domain };
    let value = format!("{local}@{domain}");
    let text = match random.below(6) {
        0 => format!("<{value}>"),
        1 => format!("mailto:{value}"),
        2 => format!("email={value}"),
        _ => value.clone(),
    };
    Planted { class: "email", text, value }
}

fn phone(random: &mut Random) -> Planted {
    let area = format!("{}{}", random.range(2, 9), random.digits(2));
    let exchange = format!("{}{}", random.range(2, 9), random.digits(2));
    let line = random.digits(4);
    let value = match random.below(16) {
        0 => format!("+1{area}{exchange}{line}"),
        1 => format!("+1 {area}-{exchange}-{line}"),
        2 => format!("+1 ({area}) {exchange}-{line}"),
        3 => format!("+1-{area}-{exchange}-{line}"),
        4 => format!("({area}) {exchange}-{line}"),
        5 => format!("{area}-{exchange}-{line}"),
        6 => format!("+44 20 {} {}", random.digits(4), random.digits(4)),
        7 => format!("+44 (0)20 {} {}", random.digits(4), random.digits(4)),
        8 => format!("+49 {} {}", random.range(151, 179), random.digits(8)),
        9 => format!(
            "+33 {} {} {} {} {}",
            random.range(1, 9),
            random.digits(2),
            random.digits(2),
            random.digits(2),
            random.digits(2)
        ),
        10 => format!("+91 {}{} {}", random.range(6, 9), random.digits(4), random.digits(5)),
        11 => format!("+81-3-{}-{}", random.digits(4), random.digits(4)),
        12 => format!("1-{area}-{exchange}-{line}"),
        13 => format!("+55 11 9{}-{}", random.digits(4), random.digits(4)),
        14 => {
            let value = format!("020 {} {}", random.digits(4), random.digits(4));
            return Planted {
                class: "phone",
                text: format!("{}: {value}", random.pick(&["phone", "Tel", "Mobile", "telephone", "Fax"])),
                value,
            };
        }
        _ => {
            let value = format!(
                "0{} {} {} {} {}",
                random.range(1, 9),
                random.digits(2),
                random.digits(2),
                random.digits(2),
                random.digits(2)
            );
            return Planted {
                class: "phone",
                text: format!("{} {value}", random.pick(&["phone number", "tel.", "call me at", "mobile:"])),
                value,
            };
        }
    };
    let text = match random.below(5) {
        0 => format!("tel:{value}"),
        1 => format!("phone: {value}"),
        _ => value.clone(),
    };
    Planted { class: "phone", text, value }
}

fn ipv4(random: &mut Random) -> Planted {
    let value = match random.below(6) {
        0 => format!("10.{}.{}.{}", random.range(10, 255), random.below(256), random.range(1, 254)),
        1 => format!("192.168.{}.{}", random.below(256), random.range(1, 254)),
        2 => format!("172.{}.{}.{}", random.range(16, 31), random.below(256), random.range(1, 254)),
        _ => format!(
            "{}.{}.{}.{}",
            random.pick(&["34", "52", "81", "95", "104", "142", "185", "212"]),
            random.range(10, 255),
            random.below(256),
            random.range(1, 254)
        ),
    };
    let text = match random.below(7) {
        0 => format!("{value}:{}", random.range(1024, 65_000)),
        1 => format!("http://{value}:8080/health"),
        2 => format!("ssh deploy@{value}"),
        3 => format!("connect ECONNREFUSED {value}:5432"),
        4 => format!("{value}/24"),
        _ => value.clone(),
    };
    Planted { class: "ipv4", text, value }
}

fn ipv6(random: &mut Random) -> Planted {
    let group = |random: &mut Random| {
        let length = random.range(1, 4);
        let text = random.hex(length);
        let trimmed = text.trim_start_matches('0').to_owned();
        if trimmed.is_empty() { "1".to_owned() } else { trimmed }
    };
    let groups =
        |random: &mut Random, count: usize| (0..count).map(|_| group(random)).collect::<Vec<_>>().join(":");
    let head = random.pick(&["2001:db8", "2a02:8109", "2600:1f18", "2a01:4f8", "2607:f8b0"]);
    let value = match random.below(7) {
        0 => format!("{head}:{}", groups(random, 6)),
        1 => format!("{head}::{}", groups(random, 3)),
        2 => format!("fe80::{}", groups(random, 4)),
        3 => format!("fd{}:{}::{}", random.hex(2), random.hex(4), group(random)),
        4 => format!(
            "::ffff:{}.{}.{}.{}",
            random.range(11, 199),
            random.below(256),
            random.below(256),
            random.range(1, 254)
        ),
        5 => format!("{head}:{}::1", groups(random, 2)).to_uppercase(),
        _ => format!("{head}:0:0:{}", groups(random, 4)),
    };
    let text = match random.below(6) {
        0 => format!("[{value}]:443"),
        1 => format!("https://[{value}]/x"),
        2 if value.starts_with("fe80") => format!("{value}%eth0"),
        3 => format!("{value}/64"),
        _ => value.clone(),
    };
    Planted { class: "ipv6", text, value }
}

fn card(random: &mut Random) -> Planted {
    let (head, length) = [
        ("4", 16),
        ("4", 16),
        ("51", 16),
        ("55", 16),
        ("2221", 16),
        ("2720", 16),
        ("34", 15),
        ("37", 15),
        ("6011", 16),
        ("65", 16),
        ("36", 14),
        ("3528", 16),
        ("62", 16),
        ("4", 19),
        ("5018", 16),
        ("6759", 16),
        ("644", 16),
    ][random.below(17)];
    let mut digits = head.to_owned();
    digits.push_str(&random.digits(length - 1 - head.len()));
    let check = (0..10).find(|check| luhn(&format!("{digits}{check}"))).unwrap_or(0);
    digits.push_str(&check.to_string());
    let groups: &[usize] = match length {
        15 => &[4, 6, 5],
        14 => &[4, 6, 4],
        19 => &[4, 4, 4, 4, 3],
        _ => &[4, 4, 4, 4],
    };
    let value = match random.below(4) {
        0 => grouped(&digits, groups, " "),
        1 => grouped(&digits, groups, "-"),
        _ => digits,
    };
    let text = match random.below(5) {
        0 => format!("card {value} exp 12/29"),
        1 => format!("pan={value};"),
        2 => format!("\"card_number\": \"{value}\""),
        _ => value.clone(),
    };
    Planted { class: "card", text, value }
}

fn grouped(digits: &str, groups: &[usize], gap: &str) -> String {
    let mut at = 0;
    let parts: Vec<&str> = groups
        .iter()
        .map(|length| {
            at += length;
            &digits[at - length..at]
        })
        .collect();
    parts.join(gap)
}

pub fn luhn(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(at, byte)| {
            let digit = u32::from(byte - b'0');
            match at % 2 {
                0 => digit,
                _ if digit > 4 => digit * 2 - 9,
                _ => digit * 2,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

fn iban(random: &mut Random) -> Planted {
    // Country and structure as the registry has them: n digits, a capitals, c either.
    let (country, parts): (&str, &[(char, usize)]) = [
        ("DE", &[('n', 18)][..]),
        ("GB", &[('a', 4), ('n', 14)]),
        ("FR", &[('n', 10), ('c', 11), ('n', 2)]),
        ("ES", &[('n', 20)]),
        ("IT", &[('a', 1), ('n', 10), ('c', 12)]),
        ("NL", &[('a', 4), ('n', 10)]),
        ("BE", &[('n', 12)]),
        ("CH", &[('n', 5), ('c', 12)]),
        ("AT", &[('n', 16)]),
        ("PL", &[('n', 24)]),
        ("SE", &[('n', 20)]),
        ("NO", &[('n', 11)]),
        ("MT", &[('a', 4), ('n', 5), ('c', 18)]),
        ("TR", &[('n', 6), ('c', 16)]),
        ("SA", &[('n', 2), ('c', 18)]),
        ("IE", &[('a', 4), ('n', 14)]),
    ][random.below(16)];
    let mut account = String::new();
    for (sort, length) in parts {
        account.push_str(&match sort {
            'n' => random.digits(*length),
            'a' => random.upper(*length),
            _ => random.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", *length),
        });
    }
    let remainder = format!("{account}{country}00").bytes().fold(0_u32, |sum, byte| match byte {
        b'0'..=b'9' => (sum * 10 + u32::from(byte - b'0')) % 97,
        _ => (sum * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    let iban = format!("{country}{:02}{account}", 98 - remainder);
    let spaced = || iban.as_bytes().chunks(4).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
    let value = match random.below(5) {
        0 | 1 => spaced(),
        2 => iban.to_lowercase(),
        _ => iban.clone(),
    };
    let text = match random.below(3) {
        0 => format!("IBAN: {value}"),
        _ => value.clone(),
    };
    Planted { class: "iban", text, value }
}

fn username(random: &mut Random) -> Planted {
    let (first, last) = (random.pick(FIRST), random.pick(LAST));
    let name = match random.below(6) {
        0 => format!("{first}.{last}"),
        1 => format!("{}{last}", &first[..1]),
        2 => format!("{first}{}", random.below(99)),
        3 => format!("{}{}", first[..1].to_uppercase(), &first[1..]),
        4 => format!("{first}_{last}"),
        _ => format!("{first}-{last}"),
    };
    let text = match random.below(10) {
        0 => format!("/home/{name}/work/app/src/main.rs"),
        1 => format!("/Users/{name}/Projects/x"),
        2 => format!("C:\\Users\\{name}\\AppData\\Local\\Temp"),
        3 => format!("cd /home/{name} && ls"),
        4 => format!("file:///home/{name}/notes.md:12:3"),
        5 => format!("/mnt/c/Users/{name}/src"),
        6 => format!("at run (/Users/{name}/code/index.js:10:5)"),
        7 => format!("C:/Users/{name}/repo"),
        8 => format!("PATH=/usr/bin:/home/{name}/.local/bin:/bin"),
        _ => format!("/home/{name}"),
    };
    Planted { class: "username", text, value: name }
}
