//! What the loop and the hands need of a store: three operations. Another store could stand behind them, and in the
//! simulation one does.

use super::{Committed, Store, StoreError, Txn};
use crate::model::{AnyObject, Kind, Snapshot, Time};
use std::sync::Arc;

/// Objects, read as of one revision and written over the revision that was read.
pub trait Records: Send + Sync {
    /// What should be, as [`Store::snapshot`] gives it.
    ///
    /// # Errors
    /// The store cannot be read or understood: then nothing is known.
    fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError>;

    /// The object of this kind and name.
    ///
    /// # Errors
    /// As for `snapshot`.
    fn get(&self, kind: Kind, name: &str) -> Result<Option<AnyObject>, StoreError>;

    /// Writes all of it, or nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if somebody wrote over what its author had read.
    fn commit(&self, txn: Txn, now: Time) -> Result<Committed, StoreError>;
}

impl Records for Store {
    fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        Store::snapshot(self)
    }

    fn get(&self, kind: Kind, name: &str) -> Result<Option<AnyObject>, StoreError> {
        Store::get(self, kind, name)
    }

    fn commit(&self, txn: Txn, now: Time) -> Result<Committed, StoreError> {
        Store::commit(self, txn, now)
    }
}
