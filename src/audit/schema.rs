//! The schema, its migrations, and how a connection is opened. `docs/AUDIT-FORMAT.md` describes it for people.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::audit::{AuditError, Sync, files, stored, told};

/// What the store is called in its folder.
pub(super) const DATABASE_FILE: &str = "audit.db";

/// The newest schema known here.
pub(super) const NEWEST: u32 = OLDEST - 1 + MIGRATIONS.len() as u32;

/// The oldest schema known here. Those before were of no release, and encoded records in another way.
const OLDEST: u32 = 3;

/// Opens a connection that writes, and brings the schema up to date. The file has to be there.
pub(super) fn open_for_writing(path: &Path, sync: Sync) -> Result<Connection, AuditError> {
    files::check_file(path)?;
    let mut connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    check_version(&connection)?;
    switch_to_wal(&connection)?;
    connection.pragma_update(None, "synchronous", sync.as_pragma())?;
    connection.pragma_update(None, "cache_size", CACHE_KIBIBYTES)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    // What a flow refers to is written, or was found, in the same transaction; asking again costs a look-up for each.
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    migrate(&mut connection)?;
    Ok(connection)
}

/// Opens a connection that only reads. `None` if the schema has to be brought up to date first.
///
/// On a read-only file system SQLite cannot make the file by which readers and writers share a log. Where there is no
/// log, nobody writes, and the database is read by itself.
pub(super) fn open_for_reading(path: &Path) -> Result<Option<Connection>, AuditError> {
    files::check_file(path)?;
    match read(path, OpenFlags::empty()) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) && has_no_log(path) => {
            prepare_to_read(read(&unchanging(path), OpenFlags::SQLITE_OPEN_URI)?)
        }
        connection => prepare_to_read(connection?),
    }
}

fn read(path: &Path, more: OpenFlags) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags | more)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Opening alone looks at nothing.
    connection.pragma_query_value(None, "schema_version", |_| Ok(()))?;
    Ok(connection)
}

fn has_no_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).map_or(true, |metadata| metadata.len() == 0)
}

/// A database as SQLite wants it to be named when nothing in it changes.
fn unchanging(path: &Path) -> PathBuf {
    let mut name = String::from("file:");
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' => name.push(byte.into()),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    name.push_str("?immutable=1");
    name.into()
}

fn prepare_to_read(connection: Connection) -> Result<Option<Connection>, AuditError> {
    connection.pragma_update(None, "cache_size", CACHE_KIBIBYTES)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let version = check_version(&connection)?;
    Ok((version == NEWEST).then_some(connection))
}

fn check_version(connection: &Connection) -> Result<u32, AuditError> {
    let found = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if (1..OLDEST).contains(&found) {
        return Err(AuditError::OlderSchema { found, oldest: OLDEST });
    }
    if found > NEWEST {
        return Err(AuditError::NewerSchema { found, known: NEWEST });
    }
    Ok(found)
}

/// Changing the journal mode does not wait for other processes by itself, so this does.
fn switch_to_wal(connection: &Connection) -> Result<(), AuditError> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        let mode: rusqlite::Result<String> =
            connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0));
        match mode.map_err(AuditError::from) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                return Err(AuditError::Database(format!(
                    "this file system supports journal mode `{mode}` only, not `wal`"
                )));
            }
            Err(AuditError::Busy) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error),
        }
    }
}

fn migrate(connection: &mut Connection) -> Result<(), AuditError> {
    if check_version(connection)? == NEWEST {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Asked again under the lock: another process may have been faster.
    let found = check_version(&transaction)?;
    // A new file has schema 0, and needs every step.
    let had_chain = has_chain(&transaction)?;
    for migration in MIGRATIONS.iter().skip(found.saturating_sub(OLDEST - 1) as usize) {
        transaction.execute_batch(migration)?;
    }
    if !had_chain {
        // After every step, so that what is hashed is what later readers see.
        stored::adopt(&transaction)?;
    }
    if found < WITH_TOLD_AND_NOTES {
        stored::adopt_told_and_notes(&transaction)?;
    }
    transaction.pragma_update(None, "user_version", NEWEST)?;
    transaction.commit()?;
    Ok(())
}

fn has_chain(connection: &Connection) -> Result<bool, AuditError> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'chain'";
    Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))? > 0)
}

/// A step must not change what earlier records say, for the chain has hashed it: columns are added and may be null; none
/// is renamed, filled in afterwards, or dropped.
///
/// The first step makes schema [`OLDEST`], each other one the next. A step that was released is never changed again.
const MIGRATIONS: &[&str] = &[FIRST, BASELINE, CHAIN, told::MIGRATION, NOTES, WATCH, FACTS, TOLD_AND_NOTES];

/// Takes a store back to an older schema, as it was before a later version opened it.
#[cfg(test)]
pub(super) fn back_to(connection: &Connection, version: u32) {
    /// What undoes each step but the first.
    const UNDONE: &[&str] = &[
        "DROP TABLE baseline",
        "DROP TABLE chain; ALTER TABLE run DROP COLUMN head",
        "DROP TABLE run_told",
        "DROP TABLE run_note",
        "ALTER TABLE run DROP COLUMN watch",
        "DROP TABLE fact",
        "DELETE FROM chain WHERE kind IN (6, 7)",
    ];
    assert_eq!(UNDONE.len() + 1, MIGRATIONS.len(), "each step has what undoes it");
    for undo in UNDONE[(version - OLDEST) as usize..].iter().rev() {
        connection.execute_batch(undo).unwrap();
    }
    connection.pragma_update(None, "user_version", version).unwrap();
}

/// Rows are narrow, because a year has ten million of them: what repeats (hosts and paths, user agents,
/// destinations, the rules that found something) is written once and referred to. Rules and categories by the set:
/// requests of a kind find the same ones each time, and a row for each of them cost more than all the rest.
///
/// Every index ends in `time_ms`, followed by the key as in any SQLite index, so that the newest rows of each
/// filter come first without sorting. `action` and `outcome` index the rare values only; the common ones are
/// found by walking back in time.
const FIRST: &str = "
    PRAGMA application_id = 0x706c7374;

    CREATE TABLE run (
        id           INTEGER PRIMARY KEY AUTOINCREMENT,
        time_ms      INTEGER NOT NULL,
        mode         TEXT NOT NULL,
        program      TEXT,
        version      TEXT NOT NULL,
        policy_hash  TEXT NOT NULL,
        rules_hash   TEXT NOT NULL,
        ended_ms     INTEGER,
        exit_code    INTEGER
    ) STRICT;

    CREATE TABLE term (
        id    INTEGER PRIMARY KEY,
        kind  TEXT NOT NULL,
        name  TEXT NOT NULL,
        UNIQUE (kind, name)
    ) STRICT;

    CREATE TABLE place (
        id         INTEGER PRIMARY KEY,
        authority  TEXT NOT NULL,
        path       TEXT NOT NULL,
        UNIQUE (authority, path)
    ) STRICT;

    CREATE TABLE term_set (
        id       INTEGER PRIMARY KEY,
        members  TEXT NOT NULL UNIQUE
    ) STRICT;

    CREATE TABLE term_set_member (
        term      INTEGER NOT NULL REFERENCES term (id),
        term_set  INTEGER NOT NULL REFERENCES term_set (id),
        PRIMARY KEY (term, term_set)
    ) WITHOUT ROWID, STRICT;

    CREATE TABLE flow (
        key             INTEGER PRIMARY KEY,
        time_ms         INTEGER NOT NULL,
        destination     INTEGER NOT NULL REFERENCES term (id),
        place           INTEGER NOT NULL REFERENCES place (id),
        shape           INTEGER NOT NULL REFERENCES term (id),
        action          TEXT NOT NULL,
        not_inspected   TEXT,
        session         TEXT,
        request_bytes   INTEGER NOT NULL,
        details         BLOB,
        terms           INTEGER REFERENCES term_set (id),
        outcome         TEXT,
        status          INTEGER,
        sent_bytes      INTEGER,
        response_bytes  INTEGER,
        duration_ms     INTEGER,
        error           TEXT,
        closing_reason  TEXT
    ) STRICT;

    CREATE INDEX flow_time ON flow (time_ms);
    CREATE INDEX flow_destination ON flow (destination, time_ms);
    CREATE INDEX flow_place ON flow (place, time_ms);
    CREATE INDEX flow_terms ON flow (terms, time_ms) WHERE terms IS NOT NULL;
    CREATE INDEX flow_session ON flow (session, time_ms) WHERE session IS NOT NULL;
    CREATE INDEX flow_action ON flow (action, time_ms) WHERE action <> 'allow';
    CREATE INDEX flow_outcome ON flow (outcome, time_ms) WHERE outcome <> 'forwarded';

    CREATE TABLE payload (
        flow  INTEGER NOT NULL REFERENCES flow (key),
        kind  TEXT NOT NULL,
        data  BLOB NOT NULL,
        PRIMARY KEY (flow, kind)
    ) WITHOUT ROWID, STRICT;

    CREATE VIEW flows AS
    SELECT (flow.key >> 32) || '-' || (flow.key & 0xffffffff) AS id,
           strftime('%Y-%m-%dT%H:%M:%fZ', flow.time_ms / 1000.0, 'unixepoch') AS time,
           destination.name AS destination,
           shape.name ->> '$.method' AS method,
           place.authority, place.path,
           flow.status, flow.request_bytes, flow.response_bytes, flow.action, flow.outcome,
           coalesce(flow.closing_reason, flow.not_inspected) AS not_inspected,
           flow.key
    FROM flow
    JOIN term AS destination ON destination.id = flow.destination
    JOIN term AS shape ON shape.id = flow.shape
    JOIN place ON place.id = flow.place;
";

/// What runs have seen that the catalogue does not name, each thing once.
const BASELINE: &str = "
    CREATE TABLE baseline (
        kind           TEXT NOT NULL,
        name           TEXT NOT NULL,
        first_run      INTEGER NOT NULL REFERENCES run (id),
        first_time_ms  INTEGER NOT NULL,
        PRIMARY KEY (kind, name)
    ) WITHOUT ROWID, STRICT;
";

/// Whether connections around the proxy could have been seen in a run.
const WATCH: &str = "
    ALTER TABLE run ADD COLUMN watch TEXT;
";

/// What is known as of some time; not a record, and never part of one.
const FACTS: &str = "
    CREATE TABLE fact (
        name     TEXT PRIMARY KEY,
        time_ms  INTEGER NOT NULL,
        value    TEXT NOT NULL
    ) WITHOUT ROWID, STRICT;
";

/// The first schema whose chain takes in what runs were told and what happened to them.
const WITH_TOLD_AND_NOTES: u32 = 10;

/// Changes no table: what is there gets its links.
const TOLD_AND_NOTES: &str = "";

/// One link a record, in the order in which they were written. Of a run's end the row keeps the head.
const CHAIN: &str = "
    CREATE TABLE chain (
        link     INTEGER PRIMARY KEY,
        kind     INTEGER NOT NULL,
        subject  INTEGER NOT NULL,
        hash     BLOB NOT NULL
    ) STRICT;

    ALTER TABLE run ADD COLUMN head TEXT;
";

/// What happened to a run itself, such as a policy that changed.
const NOTES: &str = "
    CREATE TABLE run_note (
        id       INTEGER PRIMARY KEY,
        run      INTEGER NOT NULL REFERENCES run (id),
        time_ms  INTEGER NOT NULL,
        text     TEXT NOT NULL
    ) STRICT;

    CREATE INDEX run_note_run ON run_note (run);
";

/// How long to wait for another process. Its transactions take milliseconds; two seconds mean that something
/// else holds the lock, and telemetry must be refused rather than stall the client.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// 16 MiB, as SQLite wants it: a negative number of KiB. Holds the inner pages of every index of ten million rows.
const CACHE_KIBIBYTES: i32 = -16 * 1024;

/// The log is folded into the database after this many pages (16 MiB). Larger than SQLite's 1,000, because
/// folding stalls the writer and idle moments are used for it as well.
const CHECKPOINT_PAGES: u32 = 4000;

/// More than there are distinct statements.
const STATEMENTS: usize = 64;
