use rusqlite::{OptionalExtension, params};

use crate::audit::{AuditError, Reader, Store, schema};

/// A thing that is known as of some time, such as how much of a plan is used. Not a record of what left: a newer value
/// takes the place of the older one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Since when, in milliseconds since 1970 (UTC).
    pub time_ms: i64,
    /// What is known; what it means is the caller's business.
    pub value: String,
}

/// Longest value that is kept. Longer ones are refused: facts are small.
const VALUE_LIMIT: usize = 1024 * 1024;

impl Store {
    /// Keeps a fact under `name`. One that is newer stays.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn keep_fact(&self, name: &str, fact: &Fact) -> Result<(), AuditError> {
        if fact.value.len() > VALUE_LIMIT {
            return Err(AuditError::Rejected(format!("the fact `{name}` is too long")));
        }
        let connection = schema::open_for_writing(self.database(), self.sync())?;
        connection.execute(INSERT, params![name, fact.time_ms, fact.value])?;
        Ok(())
    }
}

impl Reader {
    /// What is known under `name`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn fact(&self, name: &str) -> Result<Option<Fact>, AuditError> {
        let mut statement = self.connection().prepare_cached(SELECT)?;
        let row = statement.query_row([name], |row| Ok(Fact { time_ms: row.get(0)?, value: row.get(1)? }));
        Ok(row.optional()?)
    }
}

const INSERT: &str = "INSERT INTO fact (name, time_ms, value) VALUES (?1, ?2, ?3) \
                      ON CONFLICT (name) DO UPDATE SET time_ms = excluded.time_ms, value = excluded.value \
                      WHERE excluded.time_ms >= fact.time_ms";
const SELECT: &str = "SELECT time_ms, value FROM fact WHERE name = ?1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Options;

    fn fact(time_ms: i64, value: &str) -> Fact {
        Fact { time_ms, value: value.to_owned() }
    }

    #[test]
    fn the_newest_fact_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();

        store.keep_fact("plan-usage", &fact(2, "two")).unwrap();
        store.keep_fact("plan-usage", &fact(1, "one")).unwrap();
        store.keep_fact("other", &fact(1, "else")).unwrap();

        let reader = Reader::open(folder.path()).unwrap();
        assert_eq!(reader.fact("plan-usage").unwrap(), Some(fact(2, "two")));
        assert_eq!(reader.fact("nothing").unwrap(), None);
        assert!(store.keep_fact("long", &fact(1, &"x".repeat(VALUE_LIMIT + 1))).is_err());
    }
}
