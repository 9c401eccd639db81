//! Walks the chain from its first link and says which records are not what was written.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
};

use rusqlite::Connection;

use crate::{
    audit::{
        AuditError, Reader,
        chain::{ChainHash, ChainHead, Content, ContentDigest, LinkKind, link_hash},
        stored::{self, Stored},
    },
    model::{FlowId, RunId},
};

/// What walking the chain showed.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// How many links the chain has.
    pub links: u64,
    /// Its end; `None` while there is no link.
    pub head: Option<ChainHead>,
    /// How many flows are in the chain.
    pub flows: u64,
    /// How many runs are in the chain.
    pub runs: u64,
    /// How many links are about records that are older than them.
    pub adopted: u64,
    /// What is wrong, in order of place; the first [`FAULTS`].
    pub faults: Vec<Fault>,
    /// How many more there are.
    pub more_faults: u64,
}

impl Verification {
    /// Whether nothing is wrong.
    pub const fn holds(&self) -> bool {
        self.faults.is_empty()
    }

    fn add(&mut self, kind: FaultKind, link: Option<i64>, record: Option<Record>) {
        if self.faults.len() < FAULTS {
            self.faults.push(Fault { kind, link, record: record.map(|record| record.to_string()) });
        } else {
            self.more_faults += 1;
        }
    }
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// The link at which it showed, if at one.
    pub link: Option<i64>,
    /// The record that is concerned, such as `flow 12-7, opening`; or the head that is missing.
    pub record: Option<String>,
}

/// What is wrong with a record or with the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// What the record says does not give the link's hash: one of them was changed, or the link was moved.
    Changed,
    /// No link has the head that was noted: what came before it was rewritten, or the end was cut off.
    HeadMissing,
    /// There are two links for one record.
    LinkedTwice,
    /// Links are gone.
    LinksMissing,
    /// Rules are looked up in an index that says something else than the records.
    MembersChanged,
    /// A payload belongs to no record.
    PayloadLoose,
    /// The chain names a record that is gone.
    RecordMissing,
    /// The end of a run notes a head that is not the one of its link.
    RunHeadChanged,
    /// A record that the chain does not name: it was put in, or its link was cut off.
    Unlinked,
    /// A link about something that this plainsight does not know.
    UnknownLink,
}

impl FaultKind {
    /// The word for it in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::HeadMissing => "head-missing",
            Self::LinkedTwice => "linked-twice",
            Self::LinksMissing => "links-missing",
            Self::MembersChanged => "members-changed",
            Self::PayloadLoose => "payload-loose",
            Self::RecordMissing => "record-missing",
            Self::RunHeadChanged => "run-head-changed",
            Self::Unlinked => "unlinked",
            Self::UnknownLink => "unknown-link",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.record.as_deref().unwrap_or("the chain");
        match self.kind {
            FaultKind::Changed => write!(f, "{record}: is not what was written, or not at its place"),
            FaultKind::HeadMissing => {
                write!(
                    f,
                    "head {record}: is not in the chain; what it sealed was rewritten, or the end was cut off"
                )
            }
            FaultKind::LinkedTwice => write!(f, "{record}: is in the chain twice"),
            FaultKind::LinksMissing => write!(f, "{record}: gone from the chain"),
            FaultKind::MembersChanged => {
                write!(f, "{record}: the index of rules says something else than the records")
            }
            FaultKind::PayloadLoose => write!(f, "payload: there is some that belongs to no record"),
            FaultKind::RecordMissing => write!(f, "{record}: is gone"),
            FaultKind::RunHeadChanged => write!(f, "{record}: notes a head that is not the chain's"),
            FaultKind::Unlinked => {
                write!(f, "{record}: is not in the chain; it was put in, or the end was cut off")
            }
            FaultKind::UnknownLink => write!(f, "{record}: this plainsight does not know what it is about"),
        }?;
        match self.link {
            Some(link) => write!(f, " (link {link})"),
            None => Ok(()),
        }
    }
}

/// A record, for people.
#[derive(Clone, Copy)]
enum Record {
    Flow(i64, &'static str),
    Links(i64, i64),
    Note(i64),
    Run(i64, &'static str),
    Set(i64),
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Flow(key, part) => match FlowId::from_key(key) {
                Some(id) => write!(f, "flow {id}, {part}"),
                None => write!(f, "flow with key {key}, {part}"),
            },
            Self::Links(first, last) if first == last => write!(f, "link {first}"),
            Self::Links(first, last) => write!(f, "links {first} to {last}"),
            Self::Note(id) => write!(f, "note {id} of what happened to a run"),
            Self::Run(id, part) => match u32::try_from(id).ok().and_then(RunId::new) {
                Some(id) => write!(f, "run {id}, {part}"),
                None => write!(f, "run with number {id}, {part}"),
            },
            Self::Set(id) => write!(f, "set of rules {id}"),
        }
    }
}

const BEGIN: &str = "begin";
const CLOSING: &str = "closing";
const END: &str = "end";
const OPENING: &str = "opening";
const TOLD: &str = "what its client was told";

impl Reader {
    /// Checks every record against the chain, and looks for `heads` that were noted earlier. `progress` is told how many
    /// links are done, of how many.
    ///
    /// Reads one state of the store, also while others write. Takes some seconds for a million flows.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn verify(
        &self,
        heads: &[ChainHash],
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Verification, AuditError> {
        let state = self.connection().unchecked_transaction()?;
        let mut walk = Walk {
            connection: &state,
            stored: Stored::new(&state)?,
            found: Verification::default(),
            flows: Seen::default(),
            open: HashSet::new(),
            runs: BTreeMap::new(),
            told: BTreeSet::new(),
            notes: BTreeSet::new(),
            payloads: 0,
        };
        let mut missing: Vec<ChainHash> = heads.to_vec();
        walk.links(&mut missing, progress)?;
        walk.rest()?;
        for head in missing {
            walk.found.faults.insert(
                0,
                Fault { kind: FaultKind::HeadMissing, link: None, record: Some(head.to_string()) },
            );
        }
        Ok(walk.found)
    }
}

struct Walk<'c> {
    connection: &'c Connection,
    stored: Stored<'c>,
    found: Verification,
    flows: Seen,
    /// Flows whose rows say how they ended, until the link of that comes.
    open: HashSet<i64>,
    /// Runs that began, and the head that each notes while the link of its end has not come.
    runs: BTreeMap<i64, bool>,
    /// Runs of which it is known what their client was told.
    told: BTreeSet<i64>,
    notes: BTreeSet<i64>,
    payloads: u64,
}

impl Walk<'_> {
    fn links(
        &mut self,
        missing: &mut Vec<ChainHash>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), AuditError> {
        let total: u64 = self.connection.query_row("SELECT count(*) FROM chain", [], |row| {
            Ok(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0))
        })?;
        let mut statement =
            self.connection.prepare("SELECT link, kind, subject, hash FROM chain ORDER BY link")?;
        let mut rows = statement.query([])?;
        let mut previous = Some(ChainHash::NONE);
        let mut next = 1;
        while let Some(row) = rows.next()? {
            let (link, kind, subject): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let hash = row.get_ref(3)?.as_blob().ok().and_then(ChainHash::from_slice);
            if link != next {
                let gone = Record::Links(next, link.saturating_sub(1));
                self.found.add(FaultKind::LinksMissing, None, Some(gone));
                // What the gap ended in is unknown: of this link only its record's being there can be checked.
                previous = None;
            }
            next = link.saturating_add(1);
            match LinkKind::from_number(kind) {
                Some(kind) => self.link(link, kind, subject, previous, hash)?,
                None => self.found.add(FaultKind::UnknownLink, None, Some(Record::Links(link, link))),
            }
            previous = hash;
            if let Some(hash) = hash {
                missing.retain(|head| *head != hash);
                self.found.head = Some(ChainHead { link, hash });
            }
            self.found.links += 1;
            if self.found.links.is_multiple_of(PROGRESS) {
                progress(self.found.links, total);
            }
        }
        Ok(())
    }

    /// Checks one link: its record is there, and says what was written.
    fn link(
        &mut self,
        link: i64,
        kind: LinkKind,
        subject: i64,
        previous: Option<ChainHash>,
        hash: Option<ChainHash>,
    ) -> Result<(), AuditError> {
        let (record, is_first) = match kind {
            LinkKind::Adopted => (Record::Links(link, link), true),
            LinkKind::Closing => (Record::Flow(subject, CLOSING), true),
            LinkKind::Opening => (Record::Flow(subject, OPENING), self.flows.insert(subject)),
            LinkKind::RunBegin => (Record::Run(subject, BEGIN), self.runs.insert(subject, false).is_none()),
            LinkKind::RunEnd => (Record::Run(subject, END), self.runs.insert(subject, true) != Some(true)),
            LinkKind::RunNote => (Record::Note(subject), self.notes.insert(subject)),
            LinkKind::RunTold => (Record::Run(subject, TOLD), self.told.insert(subject)),
        };
        if !is_first {
            self.found.add(FaultKind::LinkedTwice, Some(link), Some(record));
        }
        let content = match kind {
            LinkKind::Adopted => {
                self.found.adopted = self.found.adopted.saturating_add(u64::try_from(subject).unwrap_or(0));
                Some(Content::new().digest())
            }
            LinkKind::Closing => {
                self.open.remove(&subject);
                self.stored.closing(subject)?
            }
            LinkKind::Opening => self.opening(subject)?,
            LinkKind::RunBegin => {
                self.found.runs += 1;
                stored::run(self.connection, subject)?.map(|run| run.begin)
            }
            LinkKind::RunEnd => {
                let run = stored::run(self.connection, subject)?;
                let head = run.as_ref().and_then(|run| run.head.clone());
                if run.is_some() && head != hash.map(|hash| hash.to_string()) {
                    self.found.add(FaultKind::RunHeadChanged, Some(link), Some(record));
                }
                run.and_then(|run| run.end)
            }
            LinkKind::RunNote => stored::note(self.connection, subject)?,
            LinkKind::RunTold => stored::told(self.connection, subject)?,
        };
        let Some(content) = content else {
            self.found.add(FaultKind::RecordMissing, Some(link), Some(record));
            return Ok(());
        };
        let Some(previous) = previous else { return Ok(()) };
        if hash != Some(link_hash(&previous, link, kind, subject, &content)) {
            self.found.add(FaultKind::Changed, Some(link), Some(record));
        }
        Ok(())
    }

    fn opening(&mut self, key: i64) -> Result<Option<ContentDigest>, AuditError> {
        let Some(opening) = self.stored.opening(key)? else { return Ok(None) };
        self.found.flows += 1;
        self.payloads += opening.payloads;
        if opening.is_closed {
            self.open.insert(key);
        }
        Ok(Some(opening.digest))
    }

    /// Looks for what no link names.
    fn rest(&mut self) -> Result<(), AuditError> {
        let mut closed: Vec<i64> = self.open.drain().collect();
        closed.sort_unstable();
        for key in closed {
            self.found.add(FaultKind::Unlinked, None, Some(Record::Flow(key, CLOSING)));
        }
        if self.count("flow")? != self.found.flows {
            let mut statement = self.connection.prepare("SELECT key FROM flow ORDER BY key")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let key = row.get(0)?;
                if !self.flows.contains(key) {
                    self.found.add(FaultKind::Unlinked, None, Some(Record::Flow(key, OPENING)));
                    self.payloads += self.stored.opening(key)?.map_or(0, |opening| opening.payloads);
                }
            }
        }
        let mut statement = self.connection.prepare("SELECT id FROM run ORDER BY id")?;
        let runs = statement.query_map([], |row| row.get(0))?.collect::<Result<BTreeSet<i64>, _>>()?;
        for id in runs {
            let Some(run) = stored::run(self.connection, id)? else { continue };
            let ends = run.end.is_some() || run.head.is_some();
            match self.runs.get(&id) {
                None => self.found.add(FaultKind::Unlinked, None, Some(Record::Run(id, BEGIN))),
                Some(false) if ends => self.found.add(FaultKind::Unlinked, None, Some(Record::Run(id, END))),
                Some(_) => {}
            }
        }
        for run in stored::told_runs(self.connection)? {
            if !self.told.contains(&run) {
                self.found.add(FaultKind::Unlinked, None, Some(Record::Run(run, TOLD)));
            }
        }
        for note in stored::notes(self.connection)? {
            if !self.notes.contains(&note) {
                self.found.add(FaultKind::Unlinked, None, Some(Record::Note(note)));
            }
        }
        if self.count("payload")? != self.payloads {
            self.found.add(FaultKind::PayloadLoose, None, None);
        }
        if let Some(set) = stored::first_set_with_other_members(self.connection)? {
            self.found.add(FaultKind::MembersChanged, None, Some(Record::Set(set)));
        }
        Ok(())
    }

    fn count(&self, table: &str) -> Result<u64, AuditError> {
        let count = |row: &rusqlite::Row<'_>| Ok(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0));
        Ok(self.connection.query_row(&format!("SELECT count(*) FROM {table}"), [], count)?)
    }
}

/// Keys of flows, by pages of bits: they are dense within a run.
#[derive(Debug, Default)]
struct Seen(HashMap<i64, [u64; 16]>);

impl Seen {
    /// Adds a key; `false` if it was there.
    fn insert(&mut self, key: i64) -> bool {
        let (page, word, bit) = Self::place(key);
        let word = &mut self.0.entry(page).or_default()[word];
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    fn contains(&self, key: i64) -> bool {
        let (page, word, bit) = Self::place(key);
        self.0.get(&page).is_some_and(|words| words[word] & bit != 0)
    }

    const fn place(key: i64) -> (i64, usize, u64) {
        (key >> 10, (key >> 6 & 15) as usize, 1 << (key & 63))
    }
}

/// Faults that are told one by one. More of them say nothing more.
pub const FAULTS: usize = 100;

/// How often progress is told.
const PROGRESS: u64 = 4096;
