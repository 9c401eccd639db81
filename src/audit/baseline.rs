use std::collections::BTreeMap;

use rusqlite::{Connection, TransactionBehavior, params};

use crate::{
    audit::{AuditError, Store, schema},
    model::RunId,
};

/// What earlier runs have seen, so that a new thing is known to be new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    /// Facts as they stand in [`FlowOpening::news`](crate::model::FlowOpening::news): `event tengu_x`, `host x.example`.
    pub seen: Vec<Box<str>>,
    /// When the newest run before now began, in milliseconds since 1970 (UTC); `None` if there was none.
    pub since_ms: Option<i64>,
}

/// Facts that one run adds at most. A sender that makes up names must not fill the store; what is left out is new again
/// in the next run.
const PER_RUN: usize = 1_000;

/// Facts that are read at most: some MiB, and years of new things.
const MOST: usize = 50_000;

/// Longest fact that is kept, in bytes. Those that inspection makes are shorter.
const FACT_LIMIT: usize = 256;

impl Store {
    /// What earlier runs have seen.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn baseline(&self) -> Result<Baseline, AuditError> {
        let connection = self.connect()?;
        let mut statement = connection
            .prepare("SELECT kind || ' ' || name FROM baseline ORDER BY first_time_ms DESC LIMIT ?1")?;
        let seen = statement.query_map([MOST as i64], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let since_ms = connection.query_row("SELECT max(time_ms) FROM run", [], |row| row.get(0))?;
        Ok(Baseline { seen, since_ms })
    }

    /// Adds what `run` saw for the first time. Facts that are known, by whichever run, stay as they are.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn extend_baseline<'f>(
        &self,
        run: RunId,
        time_ms: i64,
        facts: impl IntoIterator<Item = (&'f str, &'f str)>,
    ) -> Result<(), AuditError> {
        let facts: BTreeMap<(&str, &str), ()> = facts
            .into_iter()
            .filter(|(kind, name)| kind.len() + name.len() <= FACT_LIMIT)
            .take(PER_RUN)
            .map(|fact| (fact, ()))
            .collect();
        if facts.is_empty() {
            return Ok(());
        }
        let mut connection = self.connect()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (kind, name) in facts.into_keys() {
            transaction.prepare_cached(INSERT)?.execute(params![kind, name, run.get(), time_ms])?;
        }
        transaction.commit()?;
        Ok(())
    }

    fn connect(&self) -> Result<Connection, AuditError> {
        schema::open_for_writing(self.database(), self.sync())
    }
}

const INSERT: &str = "INSERT INTO baseline (kind, name, first_run, first_time_ms) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audit::Options, model::RunOpening};

    fn begin(store: &Store, time_ms: i64) -> RunId {
        let opening = RunOpening {
            time_ms,
            mode: "run".into(),
            program: None,
            version: "1".into(),
            policy_hash: "".into(),
            rules_hash: "".into(),
        };
        store.begin_run(&opening).unwrap().id()
    }

    #[test]
    fn what_a_run_saw_is_known_to_the_next_with_the_run_that_saw_it_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        assert_eq!(store.baseline().unwrap(), Baseline::default());
        let (first, second) = (begin(&store, 1_000), begin(&store, 2_000));

        store.extend_baseline(first, 1_500, [("event", "tengu_x"), ("host", "a.example")]).unwrap();
        store.extend_baseline(second, 2_500, [("event", "tengu_x"), ("event", "tengu_y")]).unwrap();

        let baseline = store.baseline().unwrap();
        let seen: Vec<&str> = baseline.seen.iter().map(|fact| &**fact).collect();
        assert_eq!(seen, ["event tengu_y", "event tengu_x", "host a.example"]);
        assert_eq!(baseline.since_ms, Some(2_000));
        let first_run: u32 = store
            .connect()
            .unwrap()
            .query_row("SELECT first_run FROM baseline WHERE name = 'tengu_x'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(first_run, first.get());
    }

    #[test]
    fn a_flood_of_names_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        let run = begin(&store, 1);
        let names: Vec<String> = (0..PER_RUN + 10).map(|index| format!("e{index}")).collect();
        let long = "x".repeat(FACT_LIMIT + 1);

        let facts = names.iter().map(|name| ("event", name.as_str()));
        store.extend_baseline(run, 1, facts.chain([("event", long.as_str())])).unwrap();

        assert_eq!(store.baseline().unwrap().seen.len(), PER_RUN);
    }

    #[test]
    fn a_store_of_the_first_schema_gets_a_baseline() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        let run = begin(&store, 1_000);
        let connection = store.connect().unwrap();
        connection.execute_batch("DROP TABLE baseline; DROP TABLE chain; ALTER TABLE run DROP COLUMN head; DROP TABLE run_told; DROP TABLE fact; PRAGMA user_version = 3").unwrap();
        drop((connection, store));

        let reader = crate::audit::Reader::open(folder.path()).unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        store.extend_baseline(run, 1, [("host", "a.example")]).unwrap();

        assert_eq!(reader.runs().unwrap().len(), 1);
        assert_eq!(store.baseline().unwrap().seen.len(), 1);
    }
}
