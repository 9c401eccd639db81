//! Records to rows and back. Encoding happens on the caller's thread, so that the writer only writes.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use crate::{
    audit::{
        AuditError,
        chain::{Content, ContentDigest, LinkKind, Tail},
        packed::{self, Details},
    },
    model::{
        Action, Answer, CapturedFields, DestinationId, DestinationKind, Finding, Fingerprint, FlowClosing,
        FlowId, FlowKind, FlowOpening, FlowRecord, NotInspected, Outcome, push_text, take_text,
    },
};

/// An opening that is ready to be written.
#[derive(Debug)]
pub(super) struct OpeningRow {
    key: i64,
    time_ms: i64,
    destination: DestinationId,
    authority: Box<str>,
    path: Box<str>,
    shape: String,
    action: Action,
    not_inspected: Option<NotInspected>,
    session: Option<String>,
    request_bytes: u64,
    details: Option<Vec<u8>>,
    terms: Option<Vec<u8>>,
    fields: Option<Vec<u8>>,
    body: Option<Vec<u8>>,
    digest: ContentDigest,
}

impl OpeningRow {
    /// Encodes an opening.
    pub(super) fn new(opening: FlowOpening) -> Self {
        let shape = Shape {
            kind: opening.kind,
            destination_kind: opening.destination_kind,
            method: opening.method,
            scheme: opening.scheme,
            version: opening.version,
            user_agent: opening.user_agent,
            policy_row: opening.policy_row,
            policy_hash: opening.policy_hash,
            answered: opening.answered,
            format: opening.format,
        };
        let terms = terms_of(&opening.findings);
        let details = Details {
            credentials: opening.credentials,
            findings: opening.findings,
            news: opening.news,
            fields_left_out: opening.fields_left_out,
            rewriting: opening.rewriting,
        };
        let fields = (!opening.fields.is_empty()).then(|| packed::pack_fields(&opening.fields));
        let mut row = Self {
            key: opening.id.to_key(),
            time_ms: opening.time_ms,
            destination: opening.destination,
            authority: opening.authority,
            path: opening.path,
            shape: serde_json::to_string(&shape).expect("a shape has string keys and no failing serialiser"),
            action: opening.action,
            not_inspected: opening.not_inspected,
            session: opening.session.map(String::from),
            request_bytes: opening.request_bytes,
            details: details.pack(),
            terms,
            fields,
            body: opening.body.map(|body| packed::compress(&body)),
            digest: ContentDigest::BLANK,
        };
        row.digest = row.content().digest();
        row
    }

    /// What the record says, by the names of the columns; `stored.rs` reads the same back.
    fn content(&self) -> Content<'_> {
        let mut content = Content::new();
        content.number("key", self.key);
        content.number("time_ms", self.time_ms);
        content.text("destination", self.destination.as_str());
        content.text("authority", &self.authority);
        content.text("path", &self.path);
        content.text("shape", &self.shape);
        content.text("action", self.action.as_str());
        content.text_if("not_inspected", self.not_inspected.map(NotInspected::as_str));
        content.text_if("session", self.session.as_deref());
        content.number("request_bytes", to_integer(self.request_bytes));
        content.blob_if("details", self.details.as_deref());
        content.blob_if("terms", self.terms.as_deref());
        content.blob_if("payload.fields", self.fields.as_deref());
        content.blob_if("payload.body", self.body.as_deref());
        content
    }

    /// What it occupies in memory, roughly, in bytes.
    pub(super) fn weight(&self) -> usize {
        let blobs = [&self.details, &self.fields, &self.body];
        let blobs: usize = blobs.into_iter().flatten().map(Vec::len).sum();
        size_of::<Self>()
            + self.authority.len()
            + self.path.len()
            + self.shape.len()
            + blobs
            + self.terms.as_ref().map_or(0, Vec::len)
    }

    /// Writes it, within the caller's transaction.
    pub(super) fn write(
        &self,
        connection: &Connection,
        interner: &mut Interner,
        chain: &mut Tail,
    ) -> Result<(), AuditError> {
        let destination = interner.term(connection, "destination", self.destination.as_str())?;
        let shape = interner.term(connection, "shape", &self.shape)?;
        let place = interner.place(connection, &self.authority, &self.path)?;
        let terms = match &self.terms {
            Some(terms) => Some(interner.term_set(connection, terms)?),
            None => None,
        };
        connection.prepare_cached(INSERT_FLOW)?.execute(params![
            self.key,
            self.time_ms,
            destination,
            place,
            shape,
            self.action.as_str(),
            self.not_inspected.map(NotInspected::as_str),
            self.session,
            to_integer(self.request_bytes),
            self.details,
            terms,
        ])?;
        for (kind, data) in [("fields", &self.fields), ("body", &self.body)] {
            if let Some(data) = data {
                connection.prepare_cached(INSERT_PAYLOAD)?.execute(params![self.key, kind, data])?;
            }
        }
        chain.append(connection, LinkKind::Opening, self.key, &self.digest)?;
        Ok(())
    }
}

/// Writes a closing. A flow whose opening was never written is passed over.
pub(super) fn write_closing(
    connection: &Connection,
    id: FlowId,
    closing: &FlowClosing,
    chain: &mut Tail,
) -> Result<(), AuditError> {
    let written = connection.prepare_cached(CLOSE_FLOW)?.execute(params![
        id.to_key(),
        closing.outcome.as_str(),
        closing.status,
        to_integer(closing.request_bytes),
        to_integer(closing.response_bytes),
        to_integer(closing.duration_ms),
        closing.error,
        closing.not_inspected.map(NotInspected::as_str),
    ])?;
    if written > 0 {
        let mut content = Content::new();
        content.number("key", id.to_key());
        content.text("outcome", closing.outcome.as_str());
        content.number_if("status", closing.status.map(i64::from));
        content.number("sent_bytes", to_integer(closing.request_bytes));
        content.number("response_bytes", to_integer(closing.response_bytes));
        content.number("duration_ms", to_integer(closing.duration_ms));
        content.text_if("error", closing.error.as_deref());
        content.text_if("closing_reason", closing.not_inspected.map(NotInspected::as_str));
        chain.append(connection, LinkKind::Closing, id.to_key(), &content.digest())?;
    }
    Ok(())
}

/// Reads a row that was selected with [`COLUMNS`]; fields and body are left out.
pub(super) fn read_flow(row: &Row<'_>) -> Result<FlowRecord, AuditError> {
    let key: i64 = row.get(0)?;
    let damaged = |what: &str| AuditError::Damaged(format!("flow {key}: {what}"));
    let shape: Shape = serde_json::from_str(row.get_ref(4)?.as_str().map_err(|_| damaged("shape"))?)
        .map_err(|_| damaged("shape"))?;
    let details = match row.get_ref(9)?.as_blob_or_null().map_err(|_| damaged("details"))? {
        Some(packed) => Details::unpack(packed).ok_or_else(|| damaged("details"))?,
        None => Details::default(),
    };
    let session: Option<String> = row.get(7)?;
    let opening = FlowOpening {
        id: FlowId::from_key(key).ok_or_else(|| damaged("key"))?,
        time_ms: row.get(1)?,
        kind: shape.kind,
        destination: DestinationId::new(row.get_ref(2)?.as_str().map_err(|_| damaged("destination"))?),
        destination_kind: shape.destination_kind,
        method: shape.method,
        scheme: shape.scheme,
        authority: row.get(3)?,
        path: row.get(10)?,
        version: shape.version,
        user_agent: shape.user_agent,
        session: session.map(Fingerprint::try_from).transpose().map_err(|_| damaged("session"))?,
        request_bytes: from_integer(row.get(8)?),
        action: read_word(row, 5)?.ok_or_else(|| damaged("action"))?,
        answered: shape.answered,
        policy_row: shape.policy_row,
        policy_hash: shape.policy_hash,
        not_inspected: read_word(row, 6)?,
        format: shape.format,
        credentials: details.credentials,
        findings: details.findings,
        fields: CapturedFields::default(),
        fields_left_out: details.fields_left_out,
        body: None,
        news: details.news,
        rewriting: details.rewriting,
    };
    let closing = match read_word::<Outcome>(row, 11)? {
        Some(outcome) => Some(FlowClosing {
            outcome,
            status: row.get(12)?,
            request_bytes: from_integer(row.get(13)?),
            response_bytes: from_integer(row.get(14)?),
            duration_ms: from_integer(row.get(15)?),
            error: row.get(16)?,
            not_inspected: read_word(row, 17)?,
        }),
        None => None,
    };
    Ok(FlowRecord { opening, closing })
}

/// Reads fields and body of a flow into its record.
pub(super) fn read_payload(connection: &Connection, record: &mut FlowRecord) -> Result<(), AuditError> {
    let key = record.opening.id.to_key();
    let damaged = |kind: &str| AuditError::Damaged(format!("flow {key}: {kind}"));
    let read = |kind: &str| -> Result<Option<Vec<u8>>, AuditError> {
        let mut statement = connection.prepare_cached(SELECT_PAYLOAD)?;
        Ok(statement.query_row(params![key, kind], |row| row.get(0)).optional()?)
    };
    if let Some(fields) = read("fields")? {
        record.opening.fields = packed::unpack_fields(&fields).ok_or_else(|| damaged("fields"))?;
    }
    if let Some(body) = read("body")? {
        record.opening.body = Some(Bytes::from(packed::decompress(&body).ok_or_else(|| damaged("body"))?));
    }
    Ok(())
}

/// Remembers the numbers of names, so that most rows are written without looking any up.
#[derive(Debug, Default)]
pub(super) struct Interner {
    terms: HashMap<(&'static str, Box<str>), i64>,
    places: HashMap<Box<str>, HashMap<Box<str>, i64>>,
    term_sets: HashMap<Box<[u8]>, i64>,
    count: usize,
}

impl Interner {
    /// Forgets everything. Needed after a rollback, for the numbers may not have been committed.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn term(&mut self, connection: &Connection, kind: &'static str, name: &str) -> Result<i64, AuditError> {
        // One allocation per look-up: the price of a plain key.
        let known = (kind, Box::from(name));
        if let Some(id) = self.terms.get(&known) {
            return Ok(*id);
        }
        connection.prepare_cached(INSERT_NAME)?.execute(params![kind, name])?;
        let id = connection.prepare_cached(SELECT_NAME)?.query_row(params![kind, name], |row| row.get(0))?;
        self.make_room();
        self.terms.insert(known, id);
        Ok(id)
    }

    /// The number of a set of rules and categories, which stand as [`terms_of`] gives them.
    fn term_set(&mut self, connection: &Connection, terms: &[u8]) -> Result<i64, AuditError> {
        if let Some(id) = self.term_sets.get(terms) {
            return Ok(*id);
        }
        let mut members = Vec::new();
        let mut rest = terms;
        while let (Some(kind), Some(name)) = (take_text(&mut rest), take_text(&mut rest)) {
            let kind = if kind == RULE { RULE } else { CATEGORY };
            members.push(self.term(connection, kind, name)?);
        }
        let text = members.iter().map(i64::to_string).collect::<Vec<_>>().join(" ");
        connection.prepare_cached(INSERT_SET)?.execute([&text])?;
        let id = connection.prepare_cached(SELECT_SET)?.query_row([&text], |row| row.get(0))?;
        for member in members {
            connection.prepare_cached(INSERT_MEMBER)?.execute([member, id])?;
        }
        self.make_room();
        self.term_sets.insert(terms.into(), id);
        Ok(id)
    }

    fn place(&mut self, connection: &Connection, authority: &str, path: &str) -> Result<i64, AuditError> {
        if let Some(id) = self.places.get(authority).and_then(|paths| paths.get(path)) {
            return Ok(*id);
        }
        connection.prepare_cached(INSERT_PLACE)?.execute(params![authority, path])?;
        let id =
            connection.prepare_cached(SELECT_PLACE)?.query_row(params![authority, path], |row| row.get(0))?;
        self.make_room();
        self.places.entry(authority.into()).or_default().insert(path.into(), id);
        Ok(id)
    }

    fn make_room(&mut self) {
        if self.count >= INTERNED {
            self.clear();
        }
        self.count += 1;
    }
}

/// What many flows have in common; written once as JSON.
#[derive(Serialize, Deserialize)]
struct Shape {
    kind: FlowKind,
    destination_kind: DestinationKind,
    method: Box<str>,
    scheme: Box<str>,
    version: Box<str>,
    user_agent: Option<Box<str>>,
    policy_row: Box<str>,
    format: Option<Box<str>>,
    // Absent in records of the first versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy_hash: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answered: Option<Answer>,
}

/// Rules, categories and the categories above them (`pii` for `pii.account`), each once and in one order:
/// kind and name by turns.
fn terms_of(findings: &[Finding]) -> Option<Vec<u8>> {
    let mut rules: Vec<&str> = findings.iter().map(|finding| finding.rule.as_str()).collect();
    let mut categories: Vec<&str> = findings.iter().map(|finding| &*finding.category).collect();
    for names in [&mut rules, &mut categories] {
        names.sort_unstable();
        names.dedup();
    }
    for at in 0..categories.len() {
        let category = categories[at];
        categories.extend(category.match_indices('.').map(|(dot, _)| &category[..dot]));
    }
    categories.sort_unstable();
    categories.dedup();
    let mut terms = Vec::new();
    for (kind, names) in [(RULE, rules), (CATEGORY, categories)] {
        for name in names {
            push_text(&mut terms, kind);
            push_text(&mut terms, name);
        }
    }
    (!terms.is_empty()).then_some(terms)
}

fn read_word<T: std::str::FromStr>(row: &Row<'_>, column: usize) -> Result<Option<T>, AuditError> {
    let text = row
        .get_ref(column)?
        .as_str_or_null()
        .map_err(|_| AuditError::Damaged(format!("column {column} is no text")))?;
    let parse = |text: &str| {
        text.parse().map_err(|_| AuditError::Damaged(format!("column {column} holds an unknown word")))
    };
    text.map(parse).transpose()
}

/// SQLite's integers end at 2^63; no flow is that large.
fn to_integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn from_integer(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// What [`read_flow`] reads, in its order.
pub(super) const COLUMNS: &str = "flow.key, flow.time_ms, destination.name, place.authority, shape.name, \
    flow.action, flow.not_inspected, flow.session, flow.request_bytes, flow.details, place.path, flow.outcome, \
    flow.status, flow.sent_bytes, flow.response_bytes, flow.duration_ms, flow.error, flow.closing_reason";

/// Where [`COLUMNS`] come from. `CROSS JOIN` keeps SQLite from starting anywhere but at the flow.
pub(super) const JOINS: &str = "CROSS JOIN term AS destination ON destination.id = flow.destination \
    CROSS JOIN term AS shape ON shape.id = flow.shape CROSS JOIN place ON place.id = flow.place";

/// What a term is, of those that [`Filter`](super::Filter) asks for.
pub(super) const RULE: &str = "rule";
pub(super) const CATEGORY: &str = "category";

const INSERT_FLOW: &str = "INSERT INTO flow (key, time_ms, destination, place, shape, action, not_inspected, \
    session, request_bytes, details, terms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const CLOSE_FLOW: &str = "UPDATE flow SET outcome = ?2, status = ?3, sent_bytes = ?4, response_bytes = ?5, \
    duration_ms = ?6, error = ?7, closing_reason = ?8 WHERE key = ?1";
const INSERT_PAYLOAD: &str = "INSERT INTO payload (flow, kind, data) VALUES (?1, ?2, ?3)";
const SELECT_PAYLOAD: &str = "SELECT data FROM payload WHERE flow = ?1 AND kind = ?2";
const INSERT_NAME: &str = "INSERT INTO term (kind, name) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
const SELECT_NAME: &str = "SELECT id FROM term WHERE kind = ?1 AND name = ?2";
const INSERT_SET: &str = "INSERT INTO term_set (members) VALUES (?1) ON CONFLICT DO NOTHING";
const SELECT_SET: &str = "SELECT id FROM term_set WHERE members = ?1";
const INSERT_MEMBER: &str =
    "INSERT INTO term_set_member (term, term_set) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
const INSERT_PLACE: &str = "INSERT INTO place (authority, path) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
const SELECT_PLACE: &str = "SELECT id FROM place WHERE authority = ?1 AND path = ?2";

/// Most names remembered at once; a few MiB. A client that never repeats a path must not eat memory.
const INTERNED: usize = 20_000;
