//! The chain: each record is written with a link that hashes it together with the link before.
//!
//! Whoever changes, removes or moves a record breaks the link of that record and of nothing else. Whoever rewrites the
//! chain from there on gets another head, which does not match the one that was noted elsewhere. The hash has no key:
//! the installation's key lies beside the store, so that it would keep out nobody but the reviewer.
//!
//! `docs/AUDIT-FORMAT.md` says what is hashed, byte by byte.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest;
use rusqlite::{Connection, OptionalExtension, params, types::ValueRef};

use crate::audit::{AuditError, Reader};

/// The hash of a link. Written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainHash([u8; 32]);

/// The end of a chain: whoever knows it can tell whether anything before it was changed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// The number of the last link, from 1.
    pub link: i64,
    /// Its hash.
    pub hash: ChainHash,
}

impl ChainHash {
    /// What the first link follows.
    pub(super) const NONE: Self = Self([0; 32]);

    pub(super) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(super) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ChainHash {
    type Err = NoChainHash;

    fn from_str(text: &str) -> Result<Self, NoChainHash> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(NoChainHash);
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).map_err(|_| NoChainHash)?;
        }
        Ok(Self(bytes))
    }
}

/// A text that is no hash of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a head has 64 hex digits")]
pub struct NoChainHash;

/// What a link is about. The number stands in the store and is hashed; it is never given to anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum LinkKind {
    /// So many links right before this one are about records that were there before the chain took in their kind.
    Adopted = 5,
    /// The end of a flow.
    Closing = 3,
    /// The beginning of a flow.
    Opening = 2,
    /// The beginning of a run.
    RunBegin = 1,
    /// The end of a run.
    RunEnd = 4,
    /// What happened to a run.
    RunNote = 7,
    /// What the client of a run was told.
    RunTold = 6,
}

impl LinkKind {
    pub(super) const fn from_number(number: i64) -> Option<Self> {
        match number {
            1 => Some(Self::RunBegin),
            2 => Some(Self::Opening),
            3 => Some(Self::Closing),
            4 => Some(Self::RunEnd),
            5 => Some(Self::Adopted),
            6 => Some(Self::RunTold),
            7 => Some(Self::RunNote),
            _ => None,
        }
    }
}

/// What a record says, by name: neither the order of columns nor the numbers of names count.
#[derive(Debug)]
pub(super) struct Content<'c> {
    entries: Vec<(&'c str, ValueRef<'c>)>,
}

impl<'c> Content<'c> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::with_capacity(20) }
    }

    /// Adds what stands under `name`. What is null is left out, so that a column that comes later does not change
    /// what was hashed before.
    pub(super) fn add(&mut self, name: &'c str, value: ValueRef<'c>) {
        if value != ValueRef::Null {
            self.entries.push((name, value));
        }
    }

    pub(super) fn text(&mut self, name: &'c str, text: &'c str) {
        self.add(name, ValueRef::Text(text.as_bytes()));
    }

    pub(super) fn number(&mut self, name: &'c str, number: i64) {
        self.add(name, ValueRef::Integer(number));
    }

    pub(super) fn blob(&mut self, name: &'c str, blob: &'c [u8]) {
        self.add(name, ValueRef::Blob(blob));
    }

    pub(super) fn text_if(&mut self, name: &'c str, text: Option<&'c str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    pub(super) fn number_if(&mut self, name: &'c str, number: Option<i64>) {
        if let Some(number) = number {
            self.number(name, number);
        }
    }

    pub(super) fn blob_if(&mut self, name: &'c str, blob: Option<&'c [u8]>) {
        if let Some(blob) = blob {
            self.blob(name, blob);
        }
    }

    pub(super) fn digest(mut self) -> ContentDigest {
        self.entries.sort_unstable_by_key(|(name, _)| *name);
        let mut context = digest::Context::new(&digest::SHA256);
        // What is short is hashed together with what stands around it.
        let mut gathered = Vec::with_capacity(2 * GATHERED_BYTES);
        for (name, value) in &self.entries {
            let (kind, bytes): (u8, &[u8]) = match value {
                ValueRef::Null => continue,
                ValueRef::Integer(number) => (b'i', &number.to_be_bytes()),
                ValueRef::Real(number) => (b'r', &number.to_be_bytes()),
                ValueRef::Text(text) => (b't', text),
                ValueRef::Blob(blob) => (b'b', blob),
            };
            gathered.extend_from_slice(&(name.len() as u64).to_be_bytes());
            gathered.extend_from_slice(name.as_bytes());
            gathered.push(kind);
            gathered.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            if gathered.len() + bytes.len() <= GATHERED_BYTES {
                gathered.extend_from_slice(bytes);
            } else {
                context.update(&gathered);
                context.update(bytes);
                gathered.clear();
            }
        }
        context.update(&gathered);
        ContentDigest(finish(context))
    }
}

/// The hash of what a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// Of nothing yet.
    pub(super) const BLANK: Self = Self([0; 32]);
}

/// The hash of a link.
pub(super) fn link_hash(
    previous: &ChainHash,
    link: i64,
    kind: LinkKind,
    subject: i64,
    content: &ContentDigest,
) -> ChainHash {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(LABEL);
    context.update(previous.as_bytes());
    context.update(&link.to_be_bytes());
    context.update(&[kind as u8]);
    context.update(&subject.to_be_bytes());
    context.update(&content.0);
    ChainHash(finish(context))
}

fn finish(context: digest::Context) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The end of the chain while one transaction holds the store: nobody else can append meanwhile.
#[derive(Debug)]
pub(super) struct Tail(ChainHead);

impl Tail {
    /// Reads the end. Whoever appends to it needs an immediate transaction around both.
    pub(super) fn read(connection: &Connection) -> Result<Self, AuditError> {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get_ref(1)?.as_blob()?.to_vec()));
        let last = connection.prepare_cached(SELECT_LAST)?.query_row([], read).optional()?;
        let Some((link, hash)) = last else {
            return Ok(Self(ChainHead { link: 0, hash: ChainHash::NONE }));
        };
        let hash = ChainHash::from_slice(&hash)
            .ok_or_else(|| AuditError::Damaged(format!("link {link} of the chain holds no hash")))?;
        Ok(Self(ChainHead { link, hash }))
    }

    /// The end now.
    pub(super) const fn head(&self) -> ChainHead {
        self.0
    }

    /// Appends one link.
    pub(super) fn append(
        &mut self,
        connection: &Connection,
        kind: LinkKind,
        subject: i64,
        content: &ContentDigest,
    ) -> Result<ChainHead, AuditError> {
        let link = self.0.link + 1;
        let hash = link_hash(&self.0.hash, link, kind, subject, content);
        let values = params![link, kind as u8, subject, hash.as_bytes()];
        connection.prepare_cached(INSERT)?.execute(values)?;
        self.0 = ChainHead { link, hash };
        Ok(self.0)
    }
}

/// Up to here short values are hashed at one go; most records are shorter, but for their blobs.
const GATHERED_BYTES: usize = 512;

/// Stands before what a link hashes, so that it can be taken for no other hash. The number is this format's.
const LABEL: &[u8] = b"plainsight link 1\0";

impl Reader {
    /// The end of the chain now; `None` in a store without records.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn head(&self) -> Result<Option<ChainHead>, AuditError> {
        let head = Tail::read(self.connection())?.head();
        Ok((head.link > 0).then_some(head))
    }
}

const SELECT_LAST: &str = "SELECT link, hash FROM chain ORDER BY link DESC LIMIT 1";
const INSERT: &str = "INSERT INTO chain (link, kind, subject, hash) VALUES (?1, ?2, ?3, ?4)";

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(entries: &[(&str, ValueRef<'_>)]) -> ContentDigest {
        let mut content = Content::new();
        entries.iter().for_each(|(name, value)| content.add(name, *value));
        content.digest()
    }

    #[test]
    fn the_order_of_columns_does_not_count_and_null_is_nothing() {
        let (a, b) = (("a", ValueRef::Text(b"1")), ("b", ValueRef::Integer(2)));

        assert_eq!(digest(&[a, b]), digest(&[b, ("later", ValueRef::Null), a]));
    }

    #[test]
    fn names_kinds_and_where_a_value_ends_count() {
        let of = |name, value| digest(&[(name, ValueRef::Text(value))]);
        let digests = [
            of("a", b"1"),
            of("b", b"1"),
            of("a", b"11"),
            digest(&[("a", ValueRef::Blob(b"1"))]),
            digest(&[("a", ValueRef::Integer(1))]),
            digest(&[("a", ValueRef::Text(b"")), ("b", ValueRef::Text(b"1"))]),
            digest(&[("a", ValueRef::Text(b"1")), ("b", ValueRef::Text(b""))]),
            digest(&[]),
        ];

        for (at, one) in digests.iter().enumerate() {
            assert!(digests[at + 1..].iter().all(|other| one != other), "{at}");
        }
    }

    #[test]
    fn everything_of_a_link_counts() {
        let (none, one) = (digest(&[]), digest(&[("a", ValueRef::Integer(1))]));
        let first = link_hash(&ChainHash::NONE, 1, LinkKind::Opening, 7, &none);
        let others = [
            link_hash(&first, 1, LinkKind::Opening, 7, &none),
            link_hash(&ChainHash::NONE, 2, LinkKind::Opening, 7, &none),
            link_hash(&ChainHash::NONE, 1, LinkKind::Closing, 7, &none),
            link_hash(&ChainHash::NONE, 1, LinkKind::Opening, 8, &none),
            link_hash(&ChainHash::NONE, 1, LinkKind::Opening, 7, &one),
        ];

        assert!(others.iter().all(|other| *other != first));
    }

    /// The example of `docs/AUDIT-FORMAT.md`, made with Python's hashlib: the format cannot change unnoticed.
    #[test]
    fn a_link_is_what_the_documentation_says() {
        let content = digest(&[("mode", ValueRef::Text(b"run")), ("id", ValueRef::Integer(1))]);

        let hash = link_hash(&ChainHash::NONE, 1, LinkKind::RunBegin, 1, &content);

        assert_eq!(hash.to_string(), EXAMPLE);
    }

    #[test]
    fn a_hash_survives_its_text_and_other_texts_are_refused() {
        let hash = link_hash(&ChainHash::NONE, 1, LinkKind::RunBegin, 1, &digest(&[]));

        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.to_string().to_uppercase().parse(), Ok(hash));
        for text in ["", "12", &"g".repeat(64), &"+1".repeat(32), &"é".repeat(32)] {
            assert_eq!(text.parse::<ChainHash>(), Err(NoChainHash), "{text}");
        }
    }

    const EXAMPLE: &str = "f4d240fb4d4b6aa310e2a0c9842a34fc7eb6637bcfac27ae207dfe996477308c";
}
