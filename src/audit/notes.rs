//! What happened to a run itself: a policy that changed, an edit that could not be used.

use rusqlite::{TransactionBehavior, params};

use crate::{
    audit::{
        AuditError, Reader, Store,
        chain::{LinkKind, Tail},
        schema, stored,
    },
    model::RunId,
};

/// Something that happened to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunNote {
    /// When, in milliseconds since 1970 (UTC).
    pub time_ms: i64,
    /// What, for people.
    pub text: String,
}

impl RunNote {
    /// Says that so many records were lost.
    pub fn of_lost(time_ms: i64, lost: u64) -> Self {
        Self { time_ms, text: format!("{LOST}{lost}") }
    }

    /// How many records were lost, if that is what it says.
    pub fn lost(&self) -> Option<u64> {
        self.text.strip_prefix(LOST)?.parse().ok()
    }
}

const LOST: &str = "records dropped, because the log could not be written for too long: ";

impl Store {
    /// Writes down what happened to a run.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn note(&self, run: RunId, note: &RunNote) -> Result<(), AuditError> {
        let mut connection = schema::open_for_writing(self.database(), self.sync())?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(
            "INSERT INTO run_note (run, time_ms, text) VALUES (?1, ?2, ?3)",
            params![run.get(), note.time_ms, note.text],
        )?;
        let id = transaction.last_insert_rowid();
        if let Some(note) = stored::note(&transaction, id)? {
            Tail::read(&transaction)?.append(&transaction, LinkKind::RunNote, id, &note)?;
        }
        transaction.commit()?;
        Ok(())
    }
}

impl Reader {
    /// What happened to a run, in order.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn notes(&self, run: RunId) -> Result<Vec<RunNote>, AuditError> {
        let mut statement = self
            .connection()
            .prepare_cached("SELECT time_ms, text FROM run_note WHERE run = ?1 ORDER BY id")?;
        let notes = statement
            .query_map([run.get()], |row| Ok(RunNote { time_ms: row.get(0)?, text: row.get(1)? }))?;
        Ok(notes.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Options, tests::run_opening};

    #[test]
    fn what_was_lost_is_read_back() {
        assert_eq!(RunNote::of_lost(1, 7).lost(), Some(7));
        assert_eq!(RunNote { time_ms: 1, text: "the policy changed".to_owned() }.lost(), None);
    }

    #[test]
    fn notes_of_a_run_come_back_in_order_and_of_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        let one = store.begin_run(&run_opening()).unwrap();
        let other = store.begin_run(&run_opening()).unwrap();
        let note = |time_ms, text: &str| RunNote { time_ms, text: text.to_owned() };

        store.note(one.id(), &note(2, "b")).unwrap();
        store.note(other.id(), &note(1, "x")).unwrap();
        store.note(one.id(), &note(2, "a")).unwrap();

        let reader = Reader::open(folder.path()).unwrap();
        assert_eq!(reader.notes(one.id()).unwrap(), [note(2, "b"), note(2, "a")]);
        assert_eq!(reader.notes(other.id()).unwrap(), [note(1, "x")]);
    }
}
