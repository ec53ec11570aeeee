//! The store: objects and events in one SQLite file.
//!
//! What it promises:
//! - **One writer, whole transactions.** A [`Txn`] is written as a whole or not at all, each object only over the revision
//!   that its author read; when [`Store::commit`] returns, it is on the disk (WAL, `synchronous=FULL`).
//! - **Cost follows what is alive.** [`Store::snapshot`] reads active rows through a partial index: a million finished jobs
//!   make it no slower. The same `Arc` comes back for as long as nothing changed, and after commits of our own only the rows
//!   that they wrote are read.
//! - **Nothing behind its back.** Rows that another program changes or deletes are seen by the next snapshot.
//! - **Unknown is not missing.** A damaged file, a row that does not parse, a store that a newer program wrote, a file that was
//!   removed while it was open: each is an error, never fewer rows.
//!
//! It keeps to a narrow set of operations, so that another store could stand behind them one day.

mod changes;
mod commit;
mod error;
mod integrity;
mod open;
mod read;
mod records;
mod rows;
mod snapshot;
#[cfg(test)]
mod tests;

pub use commit::{Committed, Txn};
pub use error::StoreError;
pub use read::{EventFilter, Version};
pub use records::Records;

use crate::model::{InstanceId, Snapshot};
use changes::Writer;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The store of one instance. Shared as `Arc<Store>`; every method takes `&self`.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// Device and inode of the file when it was opened: what is written to a file that was unlinked since is lost.
    file: (u64, u64),
    instance: InstanceId,
    /// None: opened read-only.
    writer: Option<Mutex<Writer>>,
    reader: Mutex<Reader>,
    revisions: watch::Sender<u64>,
    integrity: Arc<integrity::Verdict>,
}

#[derive(Debug)]
struct Reader {
    connection: Connection,
    cached: Option<Cached>,
    /// The `data_version` at which there were no orphans: while it holds there are none, and nobody needs to search.
    no_orphans: Option<i64>,
}

/// The last snapshot, and what tells whether it still holds.
#[derive(Debug)]
struct Cached {
    /// The `data_version` that it was read at. The reader never writes, so that number changes with every commit, our own
    /// writer's too.
    version: i64,
    /// How often anybody but our own writer had written by then.
    strangers: Option<u64>,
    snapshot: Arc<Snapshot>,
}

impl Store {
    /// The id of this instance: made with the store, once.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// The revision of the last commit that was made through this `Store`. A hint to look again, no more: what other programs
    /// do to the file does not ring here.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.revisions.subscribe()
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        lock(&self.reader)
    }

    /// Whether the file that is open is still the one at its path.
    fn check_file(&self) -> Result<(), StoreError> {
        match open::identity(&self.path) {
            Ok(found) if found == self.file => Ok(()),
            _ => Err(StoreError::Gone { path: self.path.clone() }),
        }
    }

    fn sqlite(&self, error: rusqlite::Error) -> StoreError {
        StoreError::sqlite(&self.path, error)
    }
}

/// A panic while the lock was held has rolled its transaction back already, so the connection is good to use.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
