//! Whether the file is whole. A small one is read before it is used; a large one beside its use, and until that is done
//! nobody knows: what destroys must wait.

use super::{Store, StoreError, open};
use crate::model::Reading;
use rusqlite::{Connection, OpenFlags};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Up to this size in bytes, log included, a store is checked at once: a fifth of a second, measured at 400 MB/s.
pub(super) const AT_ONCE: u64 = 64 << 20;

/// How much of a core the check beside takes: so long at a stretch, then so long a pause.
const STRETCH: Duration = Duration::from_millis(16);
const PAUSE: Duration = Duration::from_millis(4);
/// So many steps of SQLite's machine between two looks at the time: some tenths of a millisecond.
const STEPS: i32 = 10_000;
/// After a check that could not be made, and between two reminders of one that failed.
const AGAIN: Duration = Duration::from_secs(60);
/// How soon a check whose store is gone ends.
const NAP: Duration = Duration::from_millis(50);

/// What the check gave, to all who ask.
pub(super) type Verdict = watch::Sender<Reading<()>>;

impl Store {
    /// Whether the file is whole. `Unknown` while that is being found out, and for good once it was found to be damaged: the
    /// words say what is waited for.
    pub fn integrity(&self) -> Reading<()> {
        self.integrity.borrow().clone()
    }

    /// Tells when [`Store::integrity`] changes.
    pub fn integrity_changes(&self) -> watch::Receiver<Reading<()>> {
        self.integrity.subscribe()
    }
}

/// Whether a file is too large to be read before it is used.
pub(super) fn is_large(path: &Path, at_once: u64) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let size = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
    size(path) + size(&PathBuf::from(log)) > at_once
}

/// What is said of a store that is being checked.
pub(super) fn being_checked() -> Reading<()> {
    Reading::Unknown("the store is known to be whole (it is large, and is being checked)".into())
}

/// What is said of a large store that was opened to look only.
pub(super) fn not_checked() -> Reading<()> {
    Reading::Unknown("the store is known to be whole (it is large: a controller checks it when it starts)".into())
}

/// Checks a file on a thread of its own, which ends with whoever wants to know.
pub(super) fn check_beside(path: &Path, verdict: &Arc<Verdict>) -> Result<(), StoreError> {
    let (owned, weak) = (path.to_owned(), Arc::downgrade(verdict));
    std::thread::Builder::new()
        .name("store-check".into())
        .spawn(move || check_until_known(&owned, &weak))
        .map(drop)
        .map_err(|source| StoreError::Open { path: path.to_owned(), source })
}

fn check_until_known(path: &Path, verdict: &Weak<Verdict>) {
    let begun = Instant::now();
    loop {
        let result = check_slowly(path, verdict);
        let Some(told) = verdict.upgrade() else { return };
        match result {
            Ok(()) => {
                tracing::info!("the store was checked, and is whole ({:.1?})", begun.elapsed());
                told.send_replace(Reading::Known(()));
                return;
            }
            Err(error @ StoreError::Corrupt { .. }) => {
                tracing::error!("nothing is ended any more: {error}");
                told.send_replace(Reading::Unknown(format!("the store is restored ({error})")));
            }
            Err(error) => {
                tracing::warn!(%error, "the store could not be checked; trying again");
                told.send_replace(Reading::Unknown(format!("the store can be checked ({error})")));
            }
        }
        drop(told);
        let again = Instant::now() + AGAIN;
        while Instant::now() < again {
            if verdict.strong_count() == 0 {
                return;
            }
            std::thread::sleep(NAP);
        }
    }
}

/// On a connection of its own, with SQLite's usual two megabytes of cache, and with pauses.
fn check_slowly(path: &Path, verdict: &Weak<Verdict>) -> Result<(), StoreError> {
    let mut connection = open::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let (asked, mut worked_since) = (verdict.clone(), Instant::now());
    let pause = move || {
        if worked_since.elapsed() >= STRETCH {
            std::thread::sleep(PAUSE);
            worked_since = Instant::now();
        }
        asked.strong_count() == 0
    };
    connection.progress_handler(STEPS, Some(pause)).map_err(|error| StoreError::sqlite(path, error))?;
    check(&connection, path)
}

/// Reads the whole file.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let sqlite = |error| StoreError::sqlite(path, error);
    let mut statement = connection.prepare("PRAGMA quick_check(3)").map_err(sqlite)?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0)).map_err(sqlite)?;
    let lines: Vec<String> = lines.collect::<Result<_, _>>().map_err(sqlite)?;
    if lines == ["ok"] {
        return Ok(());
    }
    Err(StoreError::Corrupt { path: path.to_owned(), what: lines.join("; ") })
}
