use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{TransactionBehavior, params};

use crate::{
    audit::{
        AuditError, AuditWriter, ChainHead,
        chain::{LinkKind, Tail},
        files, schema, stored,
        writer::{self, Queue},
    },
    model::{FingerprintKey, RunClosing, RunId, RunOpening},
};

/// How durable a commit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// Each commit is on the disk before it counts: it survives a power cut, and costs milliseconds.
    Full,
    /// Each commit is with the kernel before it counts: it survives the death of the process by any signal.
    /// A power cut may lose the last ones; the store stays sound.
    #[default]
    Normal,
}

impl Sync {
    pub(super) const fn as_pragma(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Normal => "normal",
        }
    }
}

/// How a store is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How durable a commit is.
    pub sync: Sync,
}

/// The store of one data folder. Several processes may have it open at once.
#[derive(Clone, Debug)]
pub struct Store {
    database: PathBuf,
    key: FingerprintKey,
    options: Options,
}

impl Store {
    /// Opens the store in `folder`; makes the folder, the database and the installation's key if need be.
    ///
    /// # Errors
    /// Files that others could have touched, a newer schema, a file system that cannot do it.
    pub fn open(folder: &Path, options: Options) -> Result<Self, AuditError> {
        let folder = files::private_folder(folder)?;
        let key = files::installation_key(&folder)?;
        let database = folder.join(schema::DATABASE_FILE);
        files::private_file(&database)?;
        schema::open_for_writing(&database, options.sync)?;
        Ok(Self { database, key, options })
    }

    /// The key of this installation's fingerprints and pseudonyms.
    pub fn fingerprint_key(&self) -> FingerprintKey {
        self.key.clone()
    }

    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    pub(super) const fn sync(&self) -> Sync {
        self.options.sync
    }

    /// Begins a run: takes its number, writes its opening, starts its writer thread.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn begin_run(&self, opening: &RunOpening) -> Result<RunWriter, AuditError> {
        let mut connection = schema::open_for_writing(&self.database, self.options.sync)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(
            "INSERT INTO run (time_ms, mode, program, version, policy_hash, rules_hash) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                opening.time_ms,
                opening.mode,
                opening.program,
                opening.version,
                opening.policy_hash,
                opening.rules_hash
            ],
        )?;
        let row = transaction.last_insert_rowid();
        if let Some(run) = stored::run(&transaction, row)? {
            Tail::read(&transaction)?.append(&transaction, LinkKind::RunBegin, row, &run.begin)?;
        }
        let id = u32::try_from(row).ok().and_then(RunId::new);
        let id = id.ok_or_else(|| AuditError::Rejected("there are no run numbers left".to_owned()))?;
        transaction.commit()?;
        let queue = writer::start(id, self.database.clone(), connection)
            .map_err(|error| AuditError::io(&self.database, &error))?;
        Ok(RunWriter { id, queue })
    }
}

/// The writing side of one run.
#[derive(Debug)]
#[must_use = "a run that is not finished looks like one that was killed"]
pub struct RunWriter {
    id: RunId,
    queue: Arc<Queue>,
}

impl RunWriter {
    /// The run's number.
    pub const fn id(&self) -> RunId {
        self.id
    }

    /// A handle for whoever has flows to record.
    pub fn writer(&self) -> AuditWriter {
        AuditWriter::new(Arc::clone(&self.queue))
    }

    /// Writes what is still waiting, closes the run and folds the log into the database. Blocks.
    ///
    /// Returns the head of the chain, which covers everything up to this end. Flows that are open stay open in the store;
    /// what is recorded afterwards is still written.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn finish(self, closing: RunClosing) -> Result<ChainHead, AuditError> {
        self.queue.finish(closing)
    }

    #[cfg(test)]
    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }
}
