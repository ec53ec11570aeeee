//! Reading another program's SQLite file without its noticing, and without being fooled.
//!
//! | what is beside the file | how it is read |
//! | --- | --- |
//! | `-wal` and `-shm`: its program runs, or was killed | as any reader does, but with `readonly_shm`: shared locks only, nothing is written |
//! | neither: its program ended in order | *still*: no lock, no side file made (`immutable`); and only if the file, by what the system says of it, has not been touched until the end |
//! | `-journal` | not: it is in the middle of a transaction |
//!
//! Without a log there is nothing that a *still* reading could miss; with one it would lie, so it is looked for before and
//! after. The usual read-only way would make `-wal` and `-shm`, and leave them there. No connection is kept between looks:
//! while one is open, its program can not tidy up at its end. The file itself is never opened by anything but SQLite: to
//! close it would drop the locks of our own readings.

use crate::ledger::trust::{Place, in_words};
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// A lock that is held longer is answered by `Unknown`.
const LOCKED_FOR: Duration = Duration::from_millis(200);

/// The clock of file times moves in steps of up to so much: within one of them, two changes look like one.
const CLOCK_STEP: Duration = Duration::from_millis(20);

/// How often a reading begins anew when the file changed under it.
const ATTEMPTS: u32 = 4;

/// So many instructions of SQLite's pass between two looks at the clock: well below a millisecond.
const INSTRUCTIONS: i32 = 2_000;

/// Which file it is: its device and inode.
pub(super) type Identity = (u64, u64);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    Sqlite(rusqlite::Error),
    /// It is not what we know how to read.
    Newer(String),
    /// There was not enough time.
    Slow(String),
    /// It says one thing and then another.
    Unsteady,
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Trouble::Sqlite(error)
    }
}

impl Trouble {
    fn in_words(self) -> String {
        let error = match self {
            Trouble::Newer(what) => return format!("it is no Stepwise store that we know, or a newer one: {what}"),
            Trouble::Slow(what) => return format!("it could not be read in time: {what}"),
            Trouble::Unsteady => return "it changes faster than it can be read".into(),
            // A missing table or column.
            Trouble::Sqlite(rusqlite::Error::SqlInputError { msg, .. }) => return Trouble::Newer(msg).in_words(),
            Trouble::Sqlite(error) => error,
        };
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "its program has locked it".into(),
            Some(ErrorCode::OperationInterrupted) => "it could not be read in time".into(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => format!("it is damaged: {error}"),
            _ => format!("it could not be read: {error}"),
        }
    }

    fn extended(&self) -> i32 {
        match self {
            Trouble::Sqlite(error) => error.sqlite_error().map_or(0, |error| error.extended_code),
            _ => 0,
        }
    }
}

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// With its log, as a reader that can write nothing.
    Log,
    /// The same, but as any reader: it notes in `-shm` how far it reads.
    Mark,
    /// Without a log or a lock.
    Still,
}

/// What the system says of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stand {
    identity: Identity,
    owner: u32,
    size: u64,
    /// Of the last change, of the content and of anything.
    changed: [(i64, i64); 2],
    has_log: bool,
    has_journal: bool,
}

impl Stand {
    fn of(place: &Place) -> Result<Stand, String> {
        let path = &place.path;
        let meta = fs::symlink_metadata(path).map_err(|error| in_words(path, &error))?;
        if !meta.is_file() {
            return Err(format!("{} is not a file", path.display()));
        }
        let log = beside(place, "-wal")?;
        let index = beside(place, "-shm")?;
        Ok(Stand {
            identity: (meta.dev(), meta.ino()),
            owner: meta.uid(),
            size: meta.len(),
            changed: [(meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())],
            // An empty log without its index was left by a reader.
            has_log: log.is_some_and(|log| log.len() > 0 || index.is_some()),
            has_journal: beside(place, "-journal")?.is_some(),
        })
    }

    /// Waits until the clock of file times has moved on since the last change, so that the next one shows.
    fn settle(&self) -> bool {
        let [_, (seconds, nanoseconds)] = self.changed;
        let at = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanoseconds).unwrap_or(0));
        let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + at).unwrap_or(Duration::ZERO);
        let rest = CLOCK_STEP.saturating_sub(age);
        thread::sleep(rest);
        rest.is_zero()
    }
}

/// A file beside the store, if it is there. It says as much as the store itself, so the same is asked of who owns it.
fn beside(place: &Place, suffix: &str) -> Result<Option<Metadata>, String> {
    let mut name = OsString::from(&place.path);
    name.push(suffix);
    let path = PathBuf::from(name);
    match fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_file() => place.trust.refuse(&path, &meta).map(|()| Some(meta)),
        Ok(_) => Err(format!("{} is not a file", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(in_words(&path, &error)),
    }
}

/// Does the work inside of one read transaction; it is told which file it is.
pub(super) fn read<T>(
    place: &Place,
    deadline: Instant,
    mut work: impl FnMut(&Connection, Identity) -> Result<T, Trouble>,
) -> Result<T, String> {
    let mut way = Way::Log;
    let mut last = Trouble::Unsteady;
    for _ in 0..ATTEMPTS {
        let before = Stand::of(place)?;
        if before.size == 0 {
            return Err("it is empty".into());
        }
        if !before.has_log {
            if before.has_journal {
                return Err("a transaction is being written, or was when its program died".into());
            }
            way = Way::Still;
            if !before.settle() {
                continue;
            }
        } else if way == Way::Still {
            way = Way::Log;
        }
        let outcome = attempt(&place.path, way, deadline, |connection| work(connection, before.identity));
        let after = Stand::of(place)?;
        let is_same = match way {
            Way::Still => before == after,
            // The transaction saw one moment of it, whatever came later.
            Way::Log | Way::Mark => before.identity == after.identity,
        };
        match outcome {
            _ if !is_same => {}
            Ok(value) => return Ok(value),
            Err(Trouble::Unsteady) => {}
            Err(trouble) if trouble.extended() == ffi::SQLITE_READONLY_CANTINIT => {
                // Of the first transaction in a new log there is no mark yet, and who can write nothing can not set one. In
                // a file of our own we may. Elsewhere the next transaction sets one.
                if way == Way::Log && before.owner == place.trust.me {
                    way = Way::Mark;
                } else {
                    thread::sleep(CLOCK_STEP);
                }
                last = trouble;
            }
            Err(trouble) => return Err(trouble.in_words()),
        }
        if Instant::now() > deadline {
            break;
        }
    }
    Err(last.in_words())
}

fn attempt<T>(
    path: &Path,
    way: Way,
    deadline: Instant,
    work: impl FnOnce(&Connection) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(uri(path, way), flags)?;
    connection.progress_handler(INSTRUCTIONS, Some(move || Instant::now() > deadline))?;
    connection.busy_timeout(LOCKED_FOR)?;
    connection.execute_batch("PRAGMA query_only = 1; PRAGMA trusted_schema = 0; PRAGMA cell_size_check = 1; BEGIN")?;
    work(&connection)
}

fn uri(path: &Path, way: Way) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str(match way {
        Way::Log => "?mode=ro&readonly_shm=1",
        Way::Mark => "?mode=ro",
        Way::Still => "?mode=ro&immutable=1",
    });
    uri
}
