//! Things that nobody has seen before: events, fields, paths and hosts that neither the catalogue names nor an earlier
//! run has seen. Their names come from the wire, so what could be data of a person is not repeated.

use std::collections::{BTreeSet, HashSet};

use crate::{
    destination::{Events, Names},
    model::{
        Authority, Destination, DestinationKind, Document, Field, Host, Name, NodeId, PathPattern,
        RequestHead,
    },
    rules::Hit,
};

/// What is known, and therefore no news.
#[derive(Clone, Debug)]
pub struct Known {
    events: Events,
    seen: HashSet<Box<str>>,
}

impl Known {
    /// What the catalogue names, and what was seen in earlier runs: facts as they stand in
    /// [`FlowOpening::news`](crate::model::FlowOpening::news).
    pub fn new(events: Events, seen: impl IntoIterator<Item = Box<str>>) -> Self {
        Self { events, seen: seen.into_iter().collect() }
    }

    /// The catalogue of names.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// What is new in a request: its path or host, and the names in its body, at most [`LIMIT`] of them.
    pub(super) fn in_request(
        &self,
        head: &RequestHead,
        destination: &Destination,
        document: Option<&Document>,
        hits: &[Hit],
    ) -> Vec<Box<str>> {
        let mut news = News { known: self, found: BTreeSet::new() };
        match destination.kind {
            DestinationKind::ThirdParty => news.host(&head.authority),
            DestinationKind::Unknown => {
                let host = head.authority.host();
                news.add("path", &format!("{} {host}{}", head.method, plain_path(head.path())));
            }
            _ => {}
        }
        if let Some(document) = document {
            news.names(document, hits);
        }
        news.found.into_iter().collect()
    }

    /// Whether the host of a tunnel is new.
    pub(super) fn in_tunnel(&self, authority: &Authority, destination: &Destination) -> Vec<Box<str>> {
        let mut news = News { known: self, found: BTreeSet::new() };
        if destination.kind == DestinationKind::ThirdParty {
            news.host(authority);
        }
        news.found.into_iter().collect()
    }
}

/// Facts that one request adds at most. A sender that makes up names must not fill the store.
const LIMIT: usize = 50;

/// Longest name that is repeated, in bytes. The longest known has 49.
const NAME_LIMIT: usize = 64;

/// What stands for a name that may be data.
const UNNAMED: &str = "(a name that may be data)";

struct News<'k> {
    known: &'k Known,
    found: BTreeSet<Box<str>>,
}

impl News<'_> {
    fn add(&mut self, kind: &str, name: &str) {
        let fact = format!("{kind} {name}");
        if self.found.len() < LIMIT && !self.known.seen.contains(fact.as_str()) {
            self.found.insert(fact.into());
        }
    }

    fn host(&mut self, authority: &Authority) {
        // An address that serves a person's own machine is no news, and would be one for every port of every test.
        match authority.host() {
            Host::Ip(address) if address.is_loopback() => {}
            Host::Domain(name) if &**name == "localhost" => {}
            host => self.add("host", &host.to_string()),
        }
    }

    fn names(&mut self, document: &Document, hits: &[Hit]) {
        let prefix = document.prefix();
        let Some(format) = self.known.events.format(prefix) else { return };
        let mut with_hits: Vec<NodeId> = hits.iter().map(|hit| hit.node).collect();
        with_hits.sort_unstable();
        let has_hit = |field: Field<'_>| with_hits.binary_search(&field.id()).is_ok();
        for field in document.fields() {
            if self.found.len() == LIMIT {
                break;
            }
            let Some(name) = field.last_segment() else { continue };
            if is_event(format.events.as_slice(), field, &name) {
                let event = field.plain();
                let known =
                    std::str::from_utf8(event).is_ok_and(|event| self.known.events.event(event).is_some());
                if !known {
                    self.add("event", shown(event, has_hit(field)));
                }
            }
            // Most keys are known, and knowing is cheaper than finding out where they stand.
            if matches!(field.name(), Name::Key { .. } | Name::EscapedKey { .. })
                && !format.knows(&name)
                && counts(format.names, field)
            {
                self.add("field", &format!("{prefix}:{}", shown(&name, has_hit(field))));
            }
        }
    }
}

/// Whether a field's value is the name of an event.
fn is_event(patterns: &[PathPattern], field: Field<'_>, name: &[u8]) -> bool {
    let may_be = |pattern: &&PathPattern| {
        pattern.last_names().is_some_and(|names| names.iter().any(|one| one.as_bytes() == name))
    };
    // Paths are written out for the few fields that end like one.
    field.kind().is_text()
        && patterns.iter().filter(may_be).any(|pattern| pattern.matches(field.path().as_str()))
}

/// Whether a field's key is a name that the sender chose, rather than data.
fn counts(names: Names, field: Field<'_>) -> bool {
    // How many keys lead to it within its container, its own included, and how many documents were opened to get there.
    let (mut depth, mut containers) = (0, 0);
    let mut current = field;
    while let Some(parent) = current.parent() {
        match current.name() {
            Name::Static(opened) if opened.starts_with('!') => containers += usize::from(opened == "!json"),
            Name::Index(_) | Name::Static("") => {}
            _ if containers == 0 => depth += 1,
            _ => {}
        }
        current = parent;
    }
    match names {
        Names::Attributes => {
            let parent = field.parent().and_then(Field::last_segment);
            containers == 0 && parent.is_some_and(|parent| &*parent == b"attributes")
        }
        Names::Keys => {
            let limit = if containers == 0 { Names::DEEPEST } else { 1 };
            containers <= 1 && depth <= limit
        }
    }
}

/// Whether a rule found something in a field, its key included.
/// The name, unless it could be data: a rule found something there, or it does not look like a word in a program.
fn shown(name: &[u8], has_hit: bool) -> &str {
    match std::str::from_utf8(name) {
        Ok(name) if !has_hit && is_word(name) => name,
        _ => UNNAMED,
    }
}

/// Whether text looks like a word that a programmer chose: short, of letters, with few digits.
fn is_word(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'$' | b':');
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    (1..=NAME_LIMIT).contains(&text.len())
        && text.bytes().all(is_fine)
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
        && digits <= 4
        && text.split(['_', '.', '-', ':']).all(|part| part.len() <= 32)
}

/// A path in which segments that are no words are stars, so that an id in it is not one new path each time.
fn plain_path(path: &str) -> String {
    let mut plain = String::new();
    if path.trim_matches('/').is_empty() {
        return "/".to_owned();
    }
    for segment in path.trim_matches('/').split('/') {
        plain.push('/');
        plain.push_str(if is_word(segment) { segment } else { "*" });
        if plain.len() > NAME_LIMIT * 2 {
            plain.push('…');
            break;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_from_data() {
        for word in [
            "tengu_init",
            "statsig::diagnostics",
            "cache_creation_1h_input_tokens",
            "user.email",
            "v2",
            "a-b",
        ] {
            assert!(is_word(word), "{word}");
        }
        let long = "a".repeat(65);
        for data in [
            "",
            "bob@example.com",
            "5f3b797e-8ffb-4446-8ea1-9f47bdfa99d7",
            "12",
            "/home/bob",
            "a b",
            "ü",
            &long,
        ] {
            assert!(!is_word(data), "{data}");
        }
    }

    #[test]
    fn ids_in_a_path_become_stars() {
        assert_eq!(
            plain_path("/api/organization/66666666-7777-4888-9999-000000000000/new_thing/"),
            "/api/organization/*/new_thing"
        );
        assert_eq!(plain_path("/"), "/");
        assert!(plain_path(&"/long".repeat(1000)).len() < 200);
    }
}
