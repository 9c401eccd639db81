//! What the client of a run was told, kept with the run as JSON.

use rusqlite::{OptionalExtension as _, TransactionBehavior, params};

use crate::{
    audit::{
        AuditError, Reader, Store,
        chain::{LinkKind, Tail},
        schema, stored,
    },
    model::{EffectiveSwitches, RunId},
};

/// The step of the schema that adds it.
pub(super) const MIGRATION: &str = "
    CREATE TABLE run_told (
        run   INTEGER PRIMARY KEY REFERENCES run (id),
        told  TEXT NOT NULL
    ) STRICT;
";

impl Store {
    /// Keeps what the client of `run` was told. It is told once.
    ///
    /// # Errors
    /// The store cannot be written to, or knows already what the client was told.
    pub fn record_told(&self, run: RunId, told: &EffectiveSwitches) -> Result<(), AuditError> {
        let told = serde_json::to_string(told).map_err(|error| AuditError::Rejected(error.to_string()))?;
        let mut connection = schema::open_for_writing(self.database(), self.sync())?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("INSERT INTO run_told (run, told) VALUES (?1, ?2)", params![run.get(), told])?;
        let run = i64::from(run.get());
        if let Some(told) = stored::told(&transaction, run)? {
            Tail::read(&transaction)?.append(&transaction, LinkKind::RunTold, run, &told)?;
        }
        transaction.commit()?;
        Ok(())
    }
}

impl Reader {
    /// What the client of `run` was told; none if nobody knew.
    ///
    /// # Errors
    /// The store cannot be read, or holds something else there.
    pub fn told(&self, run: RunId) -> Result<Option<EffectiveSwitches>, AuditError> {
        let told: Option<String> = self
            .connection()
            .query_row("SELECT told FROM run_told WHERE run = ?1", [run.get()], |row| row.get(0))
            .optional()?;
        let parse = |text: String| {
            serde_json::from_str(&text)
                .map_err(|error| AuditError::Damaged(format!("what run {run} was told: {error}")))
        };
        told.map(parse).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::Options,
        model::{RunClosing, RunOpening},
    };

    #[test]
    fn what_a_run_was_told_comes_back_and_other_runs_were_told_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        let opening = RunOpening {
            time_ms: 1,
            mode: "run".into(),
            program: None,
            version: "0".into(),
            policy_hash: "p".into(),
            rules_hash: "r".into(),
            watch: None,
        };
        let run = store.begin_run(&opening).unwrap();
        let id = run.id();
        let mut told = EffectiveSwitches::none();
        told.bypasses.push("x".into());

        store.record_told(id, &told).unwrap();
        run.finish(RunClosing { time_ms: 2, exit_code: Some(0) }).unwrap();

        let reader = Reader::open(folder.path()).unwrap();
        assert_eq!(reader.told(id).unwrap(), Some(told));
        assert_eq!(reader.told(RunId::new(9).unwrap()).unwrap(), None);
    }
}
