//! The chain over a whole store: what is tampered with is found, what is not stays valid.

use std::{fs, path::Path};

use rusqlite::{Connection, types::Value};

use crate::{
    audit::{
        ChainHash, FaultKind, Options, RunNote, Store, Verification,
        schema::DATABASE_FILE,
        tests::{begin, closing, finding, finish, opening, verify, wait, write},
    },
    model::{
        Action, CapturedField, EffectiveSwitches, FingerprintKey, FlowClosing, NotInspected, Outcome, RunId,
    },
};

/// A store in which every column of every table has a value somewhere and is null elsewhere, in one file.
fn sample(folder: &Path) -> ChainHash {
    let run = begin(folder);
    let writer = run.writer();
    write(&writer, Outcome::Forwarded, |_| {});
    write(&writer, Outcome::Refused, |flow| {
        flow.action = Action::Block;
        flow.findings = vec![finding("account.email", "pii.contact"), finding("net.ipv4", "pii.network")];
        flow.fields = vec![CapturedField { path: "json:a".into(), value: "b***".into() }].into();
        flow.body = Some(bytes::Bytes::from_static(b"{\"a\":1}"));
        flow.session = Some(FingerprintKey::new(&[1; 32]).fingerprint(b"session"));
        flow.not_inspected = Some(NotInspected::FormatBroken);
    });
    let open = wait(writer.open(opening(writer.next_id()))).unwrap();
    let failed = opening(writer.next_id());
    wait(writer.open(failed)).unwrap().close(FlowClosing {
        error: Some("broken pipe".into()),
        not_inspected: Some(NotInspected::Upgraded),
        ..closing(Outcome::UpstreamFailed)
    });
    let head = finish(run);
    let store = Store::open(folder, Options::default()).unwrap();
    let run = RunId::new(1).unwrap();
    store.record_told(run, &EffectiveSwitches::none()).unwrap();
    store.note(run, &RunNote { time_ms: 3, text: "the policy changed".into() }).unwrap();
    // A run that was killed, as far as the store can tell.
    let killed = begin(folder);
    write(&killed.writer(), Outcome::Tunneled, |flow| flow.path = "".into());
    std::mem::forget((open, killed));
    let connection = Connection::open(folder.join(DATABASE_FILE)).unwrap();
    connection.pragma_update(None, "busy_timeout", 5_000).unwrap();
    while connection.query_row("SELECT count(*) FROM chain", [], |row| row.get::<_, i64>(0)).unwrap() < 14 {
        std::thread::yield_now();
    }
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    head.hash
}

/// A copy of a store to tamper with.
fn copy(folder: &Path) -> (tempfile::TempDir, Connection) {
    let other = tempfile::tempdir().unwrap();
    fs::copy(folder.join(DATABASE_FILE), other.path().join(DATABASE_FILE)).unwrap();
    let connection = Connection::open(other.path().join(DATABASE_FILE)).unwrap();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    connection.pragma_update(None, "synchronous", "off").unwrap();
    (other, connection)
}

fn kinds(found: &Verification) -> Vec<FaultKind> {
    found.faults.iter().map(|fault| fault.kind).collect()
}

/// Everything that a record consists of.
const TABLES: [&str; 10] = [
    "run",
    "run_told",
    "run_note",
    "term",
    "place",
    "term_set",
    "term_set_member",
    "flow",
    "payload",
    "chain",
];

/// Calls `each` with every row of every table: its table, its columns and its values.
fn rows(folder: &Path, mut each: impl FnMut(&str, &[String], &[Value])) {
    let connection = Connection::open(folder.join(DATABASE_FILE)).unwrap();
    for table in TABLES {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<Value> = (0..columns.len()).map(|at| row.get(at).unwrap()).collect();
            each(table, &columns, &values);
        }
    }
}

fn where_row(columns: &[String]) -> String {
    let conditions: Vec<String> =
        columns.iter().enumerate().map(|(at, column)| format!("{column} IS ?{}", at + 1)).collect();
    conditions.join(" AND ")
}

/// Values that differ from `value` by little.
fn others(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => vec![Value::Integer(7), Value::Text("x".to_owned()), Value::Blob(vec![0])],
        Value::Integer(number) => {
            vec![Value::Integer(number + 1), Value::Integer(number ^ (1 << 40)), Value::Null]
        }
        Value::Real(_) => unreachable!("the store has no such columns"),
        Value::Text(text) => {
            let mut changed = text.clone().into_bytes();
            match changed.last_mut() {
                Some(last) => *last ^= 1,
                None => changed.push(b'x'),
            }
            vec![Value::Text(String::from_utf8(changed).unwrap()), Value::Null]
        }
        Value::Blob(bytes) => {
            let flipped = |at: usize| {
                let mut changed = bytes.clone();
                changed[at] ^= 0x80;
                Value::Blob(changed)
            };
            vec![flipped(0), flipped(bytes.len() / 2), flipped(bytes.len() - 1), Value::Null]
        }
    }
}

#[test]
fn a_store_that_nobody_touched_holds() {
    let folder = tempfile::tempdir().unwrap();
    let head = sample(folder.path());

    let found = verify(folder.path(), &[head]);

    assert!(found.holds(), "{:?}", found.faults);
    assert_eq!((found.links, found.flows, found.runs, found.adopted), (14, 5, 2, 0));
    assert_ne!(found.head.unwrap().hash, head);
}

#[test]
fn a_change_in_any_column_of_any_row_is_found() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());
    let (mut made, mut unfound) = (0, Vec::new());

    rows(folder.path(), |table, columns, values| {
        for (at, column) in columns.iter().enumerate() {
            let mut was_made = false;
            for other in others(&values[at]) {
                let (copied, connection) = copy(folder.path());
                let sql = format!(
                    "UPDATE {table} SET {column} = ?{} WHERE {}",
                    columns.len() + 1,
                    where_row(columns)
                );
                let parameters = rusqlite::params_from_iter(values.iter().chain([&other]));
                // What the schema refuses cannot be changed that way.
                let Ok(count) = connection.execute(&sql, parameters) else { continue };
                assert_eq!(count, 1, "{sql}");
                (made, was_made) = (made + 1, true);
                drop(connection);
                let found = crate::audit::Reader::open(copied.path()).unwrap().verify(&[], &mut |_, _| {});
                if found.is_ok_and(|found| found.holds()) {
                    unfound.push(format!("{table}.{column} of {values:?} became {other:?}"));
                }
            }
            assert!(was_made, "{table}.{column} was never changed");
        }
    });

    assert!(made > 200, "{made}");
    assert!(unfound.is_empty(), "{}", unfound.join("\n"));
}

#[test]
fn a_row_that_is_gone_is_found_but_for_the_last_link_with_its_record() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());

    rows(folder.path(), |table, columns, values| {
        let (copied, connection) = copy(folder.path());
        let sql = format!("DELETE FROM {table} WHERE {}", where_row(columns));
        assert_eq!(connection.execute(&sql, rusqlite::params_from_iter(values)).unwrap(), 1);
        drop(connection);

        let found = verify(copied.path(), &[]);

        assert!(!found.holds(), "{table}: {values:?}");
    });
}

#[test]
fn the_fault_names_the_record_and_its_link() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());
    let (copied, connection) = copy(folder.path());
    connection.execute("UPDATE flow SET status = 500 WHERE key = (1 << 32) + 2", []).unwrap();

    let found = verify(copied.path(), &[]);

    assert_eq!(kinds(&found), [FaultKind::Changed]);
    let text = found.faults[0].to_string();
    assert!(text.starts_with("flow 1-2, closing: is not what was written"), "{text}");
    assert!(text.ends_with(&format!("(link {})", found.faults[0].link.unwrap())), "{text}");
}

#[test]
fn records_that_changed_places_are_found() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());
    let swaps = [
        "UPDATE flow SET key = -1 WHERE key = (1 << 32) + 1; UPDATE flow SET key = (1 << 32) + 1 \
         WHERE key = (1 << 32) + 2; UPDATE flow SET key = (1 << 32) + 2 WHERE key = -1",
        "UPDATE chain SET link = -1 WHERE link = 2; UPDATE chain SET link = 2 WHERE link = 3; \
         UPDATE chain SET link = 3 WHERE link = -1",
        "UPDATE run SET id = -1 WHERE id = 1; UPDATE run SET id = 1 WHERE id = 2; UPDATE run SET id = 2 WHERE id = -1",
    ];

    for swap in swaps {
        let (copied, connection) = copy(folder.path());
        connection.execute_batch(swap).unwrap();

        let found = verify(copied.path(), &[]);

        assert!(!found.holds(), "{swap}");
    }
}

#[test]
fn a_record_that_was_put_in_is_found() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());
    let (copied, connection) = copy(folder.path());
    let columns = "time_ms, destination, place, shape, action, request_bytes";
    let sql = format!("INSERT INTO flow (key, {columns}) SELECT (1 << 32) + 99, {columns} FROM flow LIMIT 1");
    connection.execute(&sql, []).unwrap();

    let found = verify(copied.path(), &[]);

    assert_eq!(kinds(&found), [FaultKind::Unlinked]);
    assert!(found.faults[0].to_string().contains("flow 1-99"), "{}", found.faults[0]);
}

#[test]
fn an_end_that_was_cut_off_with_care_is_found_by_the_head_that_was_noted() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());
    let head = verify(folder.path(), &[]).head.unwrap().hash;
    let (copied, connection) = copy(folder.path());
    connection
        .execute_batch(
            "DELETE FROM chain WHERE subject > 2 << 32 OR (subject = 2 AND kind = 1);
             DELETE FROM flow WHERE key > 2 << 32; DELETE FROM run WHERE id = 2",
        )
        .unwrap();

    let (without, with) = (verify(copied.path(), &[]), verify(copied.path(), &[head]));

    assert!(without.holds(), "{:?}", without.faults);
    assert_eq!(kinds(&with), [FaultKind::HeadMissing]);
    assert!(verify(folder.path(), &[head]).holds());
}

#[test]
fn links_cut_off_without_their_records_are_found() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());
    let (copied, connection) = copy(folder.path());
    connection.execute("DELETE FROM chain WHERE link > 8", []).unwrap();

    let found = verify(copied.path(), &[]);

    assert!(kinds(&found).iter().all(|kind| *kind == FaultKind::Unlinked), "{:?}", found.faults);
    assert!(!found.holds());
}

#[test]
fn records_from_before_the_chain_are_taken_in_and_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());
    let (copied, connection) = copy(folder.path());
    crate::audit::schema::back_to(&connection, 4);
    drop(connection);
    Store::open(copied.path(), Options::default()).unwrap();
    let found = verify(copied.path(), &[]);
    assert!(found.holds(), "{:?}", found.faults);
    assert_eq!((found.flows, found.runs, found.adopted, found.links), (5, 2, 12, 13));

    let run = begin(copied.path());
    write(&run.writer(), Outcome::Forwarded, |_| {});
    let head = finish(run);

    let found = verify(copied.path(), &[head.hash]);
    assert!(found.holds(), "{:?}", found.faults);
    let connection = Connection::open(copied.path().join(DATABASE_FILE)).unwrap();
    connection.execute("UPDATE flow SET status = 1 WHERE key = (1 << 32) + 1", []).unwrap();
    assert_eq!(kinds(&verify(copied.path(), &[])), [FaultKind::Changed]);
}

#[test]
fn what_was_told_and_noted_is_named_when_it_changed_went_or_was_put_in() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());
    let told = "run 1, what its client was told";
    let cases = [
        ("UPDATE run_told SET told = replace(told, '{', '{ ')", FaultKind::Changed, told),
        ("DELETE FROM run_told", FaultKind::RecordMissing, told),
        ("INSERT INTO run_told (run, told) VALUES (2, '{}')", FaultKind::Unlinked, "run 2, what its client"),
        ("UPDATE run_note SET text = 'nothing'", FaultKind::Changed, "note 1"),
        ("UPDATE run_note SET run = 2", FaultKind::Changed, "note 1"),
        ("DELETE FROM run_note", FaultKind::RecordMissing, "note 1"),
        ("INSERT INTO run_note (run, time_ms, text) VALUES (1, 4, 'x')", FaultKind::Unlinked, "note 2"),
    ];

    for (sql, kind, record) in cases {
        let (copied, connection) = copy(folder.path());
        connection.execute_batch(sql).unwrap();

        let found = verify(copied.path(), &[]);

        assert_eq!(kinds(&found), [kind], "{sql}");
        assert!(found.faults[0].to_string().starts_with(record), "{}", found.faults[0]);
    }
}

#[test]
fn what_a_client_was_told_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());
    let store = Store::open(folder.path(), Options::default()).unwrap();

    let again = store.record_told(RunId::new(1).unwrap(), &EffectiveSwitches::none());

    assert!(again.is_err());
    assert!(verify(folder.path(), &[]).holds());
}

#[test]
fn what_was_told_and_noted_before_the_chain_took_it_in_gets_links_once() {
    let folder = tempfile::tempdir().unwrap();
    finish(begin(folder.path()));
    let connection = Connection::open(folder.path().join(DATABASE_FILE)).unwrap();
    crate::audit::schema::back_to(&connection, 9);
    let old = "INSERT INTO run_told (run, told) VALUES (1, '{}');
        INSERT INTO run_note (run, time_ms, text) VALUES (1, 1, 'a'), (1, 2, 'b')";
    connection.execute_batch(old).unwrap();
    drop(connection);

    for _ in 0..2 {
        Store::open(folder.path(), Options::default()).unwrap();
        let found = verify(folder.path(), &[]);
        assert!(found.holds(), "{:?}", found.faults);
        assert_eq!((found.links, found.adopted), (2 + 3 + 1, 3));
    }

    let connection = Connection::open(folder.path().join(DATABASE_FILE)).unwrap();
    connection.execute("UPDATE run_note SET text = 'c' WHERE id = 2", []).unwrap();
    assert_eq!(kinds(&verify(folder.path(), &[])), [FaultKind::Changed]);
}

#[test]
fn a_new_store_has_an_empty_chain() {
    let folder = tempfile::tempdir().unwrap();
    Store::open(folder.path(), Options::default()).unwrap();

    let found = verify(folder.path(), &[]);

    assert!(found.holds() && found.head.is_none() && found.links == 0);
}

#[test]
fn the_end_of_a_run_keeps_its_head() {
    let folder = tempfile::tempdir().unwrap();
    let head = finish(begin(folder.path()));

    let connection = Connection::open(folder.path().join(DATABASE_FILE)).unwrap();
    let noted: String = connection.query_row("SELECT head FROM run", [], |row| row.get(0)).unwrap();

    assert_eq!(noted, head.hash.to_string());
}

/// Every column of a flow has a value somewhere in the sample, or the tests above would show nothing about it.
#[test]
fn the_sample_leaves_no_column_of_a_flow_empty() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());
    let (_copied, connection) = copy(folder.path());
    let names: Vec<String> = connection
        .prepare("SELECT name FROM pragma_table_info('flow')")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();

    for name in names {
        let sql = format!("SELECT count({name}) FROM flow");
        assert!(connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap() > 0, "{name}");
    }
}

/// Says what a record costs to write and to verify, on stdout:
/// `PLAINSIGHT_TEST_FLOWS=1000000 cargo test --release --lib cost_of_the_chain -- --ignored --nocapture`.
#[test]
#[ignore = "measures; it holds nothing to account"]
fn cost_of_the_chain() {
    let flows: u32 = std::env::var("PLAINSIGHT_TEST_FLOWS").map_or(50_000, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let run = begin(folder.path());
    let writer = run.writer();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (begun, cpu) = (std::time::Instant::now(), cpu_ms());
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for at in 0..flows {
            let writer = writer.clone();
            tasks.spawn(async move {
                let mut opening = opening(writer.next_id());
                // As much as a batch of the recordings has: some kilobytes.
                opening.findings = vec![finding("account.email", "pii.contact"); 40];
                for (number, finding) in opening.findings.iter_mut().enumerate() {
                    finding.path =
                        crate::model::FieldPath::from_raw(format!("json:events/{number}/{at}/user/email"));
                }
                writer.open(opening).await.unwrap().close(closing(Outcome::Forwarded));
            });
            if tasks.len() >= 64 {
                tasks.join_next().await.unwrap().unwrap();
            }
        }
        tasks.join_all().await;
    });
    finish(run);
    let each = |total: f64| total / f64::from(flows);
    let bytes = fs::metadata(folder.path().join(DATABASE_FILE)).unwrap().len();
    println!(
        "{flows} flows written: {:.1} us each, {:.1} us of processor time, {:.0} bytes",
        each(begun.elapsed().as_secs_f64() * 1e6),
        each((cpu_ms() - cpu) * 1e3),
        each(bytes as f64),
    );

    let begun = std::time::Instant::now();
    let found = verify(folder.path(), &[]);

    assert!(found.holds());
    println!(
        "verified in {:.1} s: {:.1} us a flow",
        begun.elapsed().as_secs_f64(),
        each(begun.elapsed().as_secs_f64() * 1e6)
    );
}

/// Processor time of this process, in milliseconds; 0 where it cannot be told.
fn cpu_ms() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|field| field.parse().ok().or(Some(0.0)))
        .collect();
    fields.get(11).zip(fields.get(12)).map_or(0.0, |(user, system)| (user + system) * 10.0)
}
