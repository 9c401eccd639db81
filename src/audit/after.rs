use rusqlite::params;

use crate::{
    audit::{
        AuditError, Reader,
        rows::{self, COLUMNS, JOINS},
    },
    model::{FlowId, FlowRecord, RunId},
};

impl Reader {
    /// The flows of `run` whose number is at least `number`, in order of their numbers, at most `limit`. Numbers are given
    /// out before records are written: one that is missing may come later.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn flows_from(&self, run: RunId, number: u32, limit: usize) -> Result<Vec<FlowRecord>, AuditError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM flow {JOINS} WHERE flow.key BETWEEN ?1 AND ?2 ORDER BY flow.key LIMIT ?3"
        );
        let mut statement = self.connection().prepare_cached(&sql)?;
        let first = FlowId::new(run, number).to_key();
        let last = FlowId::new(run, u32::MAX).to_key();
        let mut rows = statement.query(params![first, last, i64::try_from(limit).unwrap_or(i64::MAX)])?;
        let mut flows = Vec::new();
        while let Some(row) = rows.next()? {
            flows.push(rows::read_flow(row)?);
        }
        Ok(flows)
    }
}
