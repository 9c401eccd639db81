//! The schema, its migrations, and how a connection is opened. `docs/AUDIT-FORMAT.md` describes it for people.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::audit::{AuditError, Sync, files};

/// What the store is called in its folder.
pub(super) const DATABASE_FILE: &str = "audit.db";

/// The newest schema known here.
pub(super) const NEWEST: u32 = MIGRATIONS.len() as u32;

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
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    migrate(&mut connection)?;
    Ok(connection)
}

/// Opens a connection that only reads. `None` if the schema has to be brought up to date first.
pub(super) fn open_for_reading(path: &Path) -> Result<Option<Connection>, AuditError> {
    files::check_file(path)?;
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "cache_size", CACHE_KIBIBYTES)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let version = check_version(&connection)?;
    Ok((version == NEWEST).then_some(connection))
}

fn check_version(connection: &Connection) -> Result<u32, AuditError> {
    let found = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
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
    for migration in MIGRATIONS.iter().skip(found as usize) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", NEWEST)?;
    transaction.commit()?;
    Ok(())
}

/// Step `n` leads from schema `n` to `n + 1`. A step that was released is never changed again.
const MIGRATIONS: &[&str] = &[FIRST];

/// Rows are narrow, because a year has ten million of them: what repeats (hosts and paths, user agents,
/// destinations, rules) is written once and referred to.
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
    CREATE INDEX flow_session ON flow (session, time_ms) WHERE session IS NOT NULL;
    CREATE INDEX flow_action ON flow (action, time_ms) WHERE action <> 'allow';
    CREATE INDEX flow_outcome ON flow (outcome, time_ms) WHERE outcome <> 'forwarded';

    CREATE TABLE flow_term (
        term     INTEGER NOT NULL REFERENCES term (id),
        time_ms  INTEGER NOT NULL,
        flow     INTEGER NOT NULL REFERENCES flow (key),
        PRIMARY KEY (term, time_ms, flow)
    ) WITHOUT ROWID, STRICT;

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
