//! Everything that can go wrong with the store, and what to do about it.

use crate::model::{InstanceId, Kind};
use rusqlite::ErrorCode;
use std::io;
use std::path::{Path, PathBuf};

/// Why the store could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A read-only open found no file.
    #[error("there is no store at {}: start a controller there (`tenure run`), or name its state directory with --state", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file can not be made, or its mode not be set.
    #[error("the store {} can not be opened: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is damaged.
    #[error(
        "the store {} is damaged ({what}): nothing will be started or reaped; stop the controller, keep a copy of the file, and \
         restore it from a backup or with `sqlite3 {} .recover`", path.display(), path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        what: String,
    },
    /// The state directory was an instance's, and the store is not, or no longer, that instance's.
    #[error(
        "the store {} {}, and this state directory is that of instance {expected} (so says {}): nothing will be started or reaped; \
         put the store back, or empty the state directory to begin afresh", path.display(),
         .found.as_ref().map_or_else(|| "is empty".to_owned(), |found| format!("is that of instance {found}")), witness.display()
    )]
    Another {
        /// The store.
        path: PathBuf,
        /// Whose it should be.
        expected: InstanceId,
        /// Whose it is; none: it holds nothing.
        found: Option<InstanceId>,
        /// The file that says so.
        witness: PathBuf,
    },
    /// The file was removed or replaced while it was open: what is written to it now would be lost.
    #[error(
        "the store {} was removed or replaced while it was open: nothing will be started or reaped; stop the controller, put the \
         file back, and start it again", path.display()
    )]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error(
        "the store {} has schema {found}, and this tenure knows {known}: use the newer tenure that wrote it, or another state \
         directory", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema that this program knows.
        known: i64,
    },
    /// An older program wrote it, and it was opened read-only.
    #[error("the store {} has the older schema {found}: start a controller on it once (`tenure run`), which brings it up to date", path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
    },
    /// Another program's SQLite file.
    #[error("{} is an SQLite file of another program: name a state directory of tenure's own with --state", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// Another program holds the file's write lock.
    #[error("the store {} is locked by another program: end what has it open, such as a sqlite3 shell in a transaction", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// It was opened read-only.
    #[error("the store {} is open for reading only", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else wrote the object since it was read. Nothing was written: read again, and decide again.
    #[error("{kind} {name} changed meanwhile: expected {}, found {}", revision(*expected), revision(*found))]
    Conflict {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// The resource version that was expected; 0: none.
        expected: u64,
        /// The stored one; 0: none.
        found: u64,
    },
    /// An object that can not be stored as it is. Nothing was written.
    #[error("{kind} {name:?} can not be stored: {message}")]
    Invalid {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// A stored row that can not be understood.
    #[error(
        "the row of {kind} {name} in {} can not be understood ({message}): nothing is reaped while an object's row is bad; mend \
         it, or delete it, with `sqlite3`", path.display()
    )]
    BadRow {
        /// The file.
        path: PathBuf,
        /// The kind, as the row says.
        kind: String,
        /// The name, as the row says.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// Anything else that SQLite says.
    #[error("the store {}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
}

impl StoreError {
    /// Whether somebody else was faster: the one error after which it makes sense to read and try again at once.
    pub fn is_conflict(&self) -> bool {
        matches!(self, StoreError::Conflict { .. })
    }

    pub(super) fn sqlite(path: &Path, source: rusqlite::Error) -> StoreError {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Corrupt { path, what: source.to_string() }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
            _ => StoreError::Sqlite { path, source },
        }
    }
}

fn revision(number: u64) -> String {
    if number == 0 { "no such object".to_owned() } else { format!("revision {number}") }
}
