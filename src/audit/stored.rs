//! What records say, read back from the store for [`Content`]. Every column of a row counts, also those that come later.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row, Statement, types::ValueRef};

use crate::{
    audit::{
        AuditError,
        chain::{ChainHash, Content, ContentDigest, LinkKind, Tail},
    },
    model::push_text,
};

/// The names that flows refer to, and how flows are read.
#[derive(Debug)]
pub(super) struct Stored<'c> {
    connection: &'c Connection,
    terms: Pairs,
    places: Pairs,
    sets: HashMap<i64, Box<[u8]>>,
    columns: Vec<String>,
}

/// Two texts each, by number.
type Pairs = HashMap<i64, (Box<str>, Box<str>)>;

/// The beginning of a flow as it is stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredOpening {
    pub(super) digest: ContentDigest,
    /// Whether the row says how the flow ended.
    pub(super) is_closed: bool,
    /// How many payloads were read with it.
    pub(super) payloads: u64,
}

/// The beginning and the end of a run as they are stored.
#[derive(Clone, Debug)]
pub(super) struct StoredRun {
    pub(super) begin: ContentDigest,
    /// `None` for a run that goes on, or was killed.
    pub(super) end: Option<ContentDigest>,
    /// What its end says was the head then.
    pub(super) head: Option<String>,
}

impl<'c> Stored<'c> {
    /// Reads the names. They take some MiB in a store of a year.
    pub(super) fn new(connection: &'c Connection) -> Result<Self, AuditError> {
        let terms = pairs(connection, "SELECT id, kind, name FROM term")?;
        let places = pairs(connection, "SELECT id, authority, path FROM place")?;
        let mut sets = HashMap::new();
        let mut statement = connection.prepare("SELECT id, members FROM term_set")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let mut names = Vec::new();
            for member in members(row.get_ref(1)?) {
                // A member that is no number, or names nothing, leaves a set that no flow was written with.
                let (kind, name) =
                    member.and_then(|id| terms.get(&id)).map_or(("", ""), |(kind, name)| (kind, name));
                push_text(&mut names, kind);
                push_text(&mut names, name);
            }
            sets.insert(row.get(0)?, names.into());
        }
        drop(rows);
        drop(statement);
        let columns = column_names(&connection.prepare("SELECT * FROM flow LIMIT 0")?);
        Ok(Self { connection, terms, places, sets, columns })
    }

    /// What the beginning of a flow says; `None` if the flow is not there.
    pub(super) fn opening(&self, key: i64) -> Result<Option<StoredOpening>, AuditError> {
        let mut statement = self.connection.prepare_cached(SELECT_PAYLOADS)?;
        let payload = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?));
        let payloads = statement.query_map([key], payload)?.collect::<Result<Vec<_>, _>>()?;
        let mut statement = self.connection.prepare_cached(SELECT_FLOW)?;
        let mut rows = statement.query([key])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let mut content = Content::new();
        let mut is_closed = false;
        // A number that names nothing stands for itself, which nothing was written with.
        for (at, column) in self.columns.iter().enumerate() {
            let value = row.get_ref(at)?;
            match column.as_str() {
                "destination" | "shape" => match self.term(value, column) {
                    Some(name) => content.text(column, name),
                    None => content.add(column, value),
                },
                "place" => match id(value).and_then(|id| self.places.get(&id)) {
                    Some((authority, path)) => {
                        content.text("authority", authority);
                        content.text("path", path);
                    }
                    None => content.add(column, value),
                },
                "terms" => match id(value).and_then(|id| self.sets.get(&id)) {
                    Some(set) => content.blob(column, set),
                    None => content.add(column, value),
                },
                column if CLOSING_COLUMNS.contains(&column) => is_closed |= value != ValueRef::Null,
                _ => content.add(column, value),
            }
        }
        let names: Vec<String> = payloads.iter().map(|(kind, _)| format!("payload.{kind}")).collect();
        names.iter().zip(&payloads).for_each(|(name, (_, data))| content.blob(name, data));
        Ok(Some(StoredOpening { digest: content.digest(), is_closed, payloads: payloads.len() as u64 }))
    }

    /// What the end of a flow says; `None` if the flow is not there.
    pub(super) fn closing(&self, key: i64) -> Result<Option<ContentDigest>, AuditError> {
        let mut statement = self.connection.prepare_cached(SELECT_CLOSING)?;
        let mut rows = statement.query([key])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let mut content = Content::new();
        content.number("key", key);
        for (at, column) in CLOSING_COLUMNS.iter().enumerate() {
            content.add(column, row.get_ref(at)?);
        }
        Ok(Some(content.digest()))
    }

    fn term(&self, value: ValueRef<'_>, kind: &str) -> Option<&str> {
        let (found, name) = self.terms.get(&id(value)?)?;
        (&**found == kind).then_some(&**name)
    }
}

/// What a run says; `None` if it is not there.
pub(super) fn run(connection: &Connection, id: i64) -> Result<Option<StoredRun>, AuditError> {
    let mut statement = connection.prepare_cached("SELECT * FROM run WHERE id = ?1")?;
    let columns = column_names(&statement);
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (mut begin, mut end, mut head, mut is_ended) = (Content::new(), Content::new(), None, false);
    end.number("id", id);
    for (at, column) in columns.iter().enumerate() {
        let value = row.get_ref(at)?;
        match column.as_str() {
            "head" => head = row.get(at)?,
            "ended_ms" | "exit_code" => {
                is_ended |= value != ValueRef::Null;
                end.add(column, value);
            }
            _ => begin.add(column, value),
        }
    }
    let end = is_ended.then(|| end.digest());
    Ok(Some(StoredRun { begin: begin.digest(), end, head }))
}

/// Takes records into the chain that were written before there was one, in their order.
pub(super) fn adopt(connection: &Connection) -> Result<(), AuditError> {
    let runs: Vec<i64> = numbers(connection, "SELECT id FROM run ORDER BY id", [])?;
    let stored = Stored::new(connection)?;
    let mut tail = Tail::read(connection)?;
    let mut links = 0;
    for id in runs {
        let Some(run) = run(connection, id)? else { continue };
        tail.append(connection, LinkKind::RunBegin, id, &run.begin)?;
        links += 1;
        for key in numbers(connection, SELECT_KEYS, [id << 32, (id << 32) | i64::from(u32::MAX)])? {
            let Some(opening) = stored.opening(key)? else { continue };
            tail.append(connection, LinkKind::Opening, key, &opening.digest)?;
            links += 1;
            if let Some(closing) = stored.closing(key)?.filter(|_| opening.is_closed) {
                tail.append(connection, LinkKind::Closing, key, &closing)?;
                links += 1;
            }
        }
        if let Some(end) = run.end {
            let head = tail.append(connection, LinkKind::RunEnd, id, &end)?;
            write_head(connection, id, &head.hash)?;
            links += 1;
        }
    }
    if links > 0 {
        tail.append(connection, LinkKind::Adopted, links, &Content::new().digest())?;
    }
    Ok(())
}

/// What the client of a run was told, as it is stored; `None` if nobody knew.
pub(super) fn told(connection: &Connection, run: i64) -> Result<Option<ContentDigest>, AuditError> {
    row(connection, "SELECT * FROM run_told WHERE run = ?1", run)
}

/// What happened to a run, as it is stored; `None` if there is no such note.
pub(super) fn note(connection: &Connection, id: i64) -> Result<Option<ContentDigest>, AuditError> {
    row(connection, "SELECT * FROM run_note WHERE id = ?1", id)
}

/// The runs of which it is known what their client was told.
pub(super) fn told_runs(connection: &Connection) -> Result<Vec<i64>, AuditError> {
    numbers(connection, "SELECT run FROM run_told ORDER BY run", [])
}

/// What happened to runs, by number.
pub(super) fn notes(connection: &Connection) -> Result<Vec<i64>, AuditError> {
    numbers(connection, "SELECT id FROM run_note ORDER BY id", [])
}

/// All of a row.
fn row(connection: &Connection, sql: &str, id: i64) -> Result<Option<ContentDigest>, AuditError> {
    let mut statement = connection.prepare_cached(sql)?;
    let columns = column_names(&statement);
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let mut content = Content::new();
    for (at, column) in columns.iter().enumerate() {
        content.add(column, row.get_ref(at)?);
    }
    Ok(Some(content.digest()))
}

/// Appends a link for what runs were told and what happened to them, in a store whose chain did not take these in.
pub(super) fn adopt_told_and_notes(connection: &Connection) -> Result<(), AuditError> {
    let mut tail = Tail::read(connection)?;
    let mut links = 0;
    for run in told_runs(connection)? {
        let Some(told) = told(connection, run)? else { continue };
        tail.append(connection, LinkKind::RunTold, run, &told)?;
        links += 1;
    }
    for id in notes(connection)? {
        let Some(note) = note(connection, id)? else { continue };
        tail.append(connection, LinkKind::RunNote, id, &note)?;
        links += 1;
    }
    if links > 0 {
        tail.append(connection, LinkKind::Adopted, links, &Content::new().digest())?;
    }
    Ok(())
}

/// Notes in a run's row what the head was at its end. The head covers the row; so the row cannot cover the head.
pub(super) fn write_head(connection: &Connection, run: i64, head: &ChainHash) -> Result<(), AuditError> {
    let values = rusqlite::params![run, head.to_string()];
    connection.prepare_cached("UPDATE run SET head = ?2 WHERE id = ?1")?.execute(values)?;
    Ok(())
}

/// The first set of terms of which the index of its members says something else than the set itself.
pub(super) fn first_set_with_other_members(connection: &Connection) -> Result<Option<i64>, AuditError> {
    let mut statement = connection.prepare("SELECT id, members FROM term_set ORDER BY id")?;
    let mut rows = statement.query([])?;
    let (mut written, mut first) = (0, None);
    while let Some(row) = rows.next()? {
        let set: i64 = row.get(0)?;
        let mut listed: Vec<Option<i64>> = members(row.get_ref(1)?);
        listed.sort_unstable();
        listed.dedup();
        for member in listed {
            let mut has = connection.prepare_cached(SELECT_MEMBER)?;
            if has.query_row([member, Some(set)], |_| Ok(())).optional()?.is_none() {
                first = first.or(Some(set));
            }
            written += 1;
        }
    }
    let indexed: i64 = connection.query_row("SELECT count(*) FROM term_set_member", [], |row| row.get(0))?;
    if first.is_none() && indexed != written {
        let more = "SELECT term_set FROM term_set_member GROUP BY term_set ORDER BY count(*) DESC LIMIT 1";
        return Ok(connection.query_row(more, [], |row| row.get(0)).optional()?);
    }
    Ok(first)
}

fn members(text: ValueRef<'_>) -> Vec<Option<i64>> {
    text.as_str().unwrap_or_default().split(' ').map(|member| member.parse().ok()).collect()
}

fn id(value: ValueRef<'_>) -> Option<i64> {
    value.as_i64().ok()
}

fn column_names(statement: &Statement<'_>) -> Vec<String> {
    statement.column_names().into_iter().map(str::to_owned).collect()
}

fn pairs(connection: &Connection, sql: &str) -> Result<Pairs, AuditError> {
    let mut statement = connection.prepare(sql)?;
    let pairs = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
    Ok(pairs.collect::<Result<_, _>>()?)
}

fn numbers<P: rusqlite::Params>(
    connection: &Connection,
    sql: &str,
    values: P,
) -> Result<Vec<i64>, AuditError> {
    let mut statement = connection.prepare_cached(sql)?;
    let numbers = statement.query_map(values, |row| row.get(0))?;
    Ok(numbers.collect::<Result<_, _>>()?)
}

/// What is written at the end of a flow. Everything else in its row is written at its beginning.
pub(super) const CLOSING_COLUMNS: [&str; 7] =
    ["outcome", "status", "sent_bytes", "response_bytes", "duration_ms", "error", "closing_reason"];

const SELECT_FLOW: &str = "SELECT * FROM flow WHERE key = ?1";
const SELECT_CLOSING: &str = "SELECT outcome, status, sent_bytes, response_bytes, duration_ms, error, closing_reason \
    FROM flow WHERE key = ?1";
const SELECT_PAYLOADS: &str = "SELECT kind, data FROM payload WHERE flow = ?1";
const SELECT_KEYS: &str = "SELECT key FROM flow WHERE key BETWEEN ?1 AND ?2 ORDER BY key";
const SELECT_MEMBER: &str = "SELECT 1 FROM term_set_member WHERE term = ?1 AND term_set = ?2";
