//! Opening: the file, its pragmas, its schema, its integrity, its instance id.

use super::changes::Writer;
use super::{Reader, Store, StoreError, integrity, rows};
use crate::model::{InstanceId, Reading};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// `PRAGMA application_id` of a store: "tenu".
const APPLICATION: i64 = 0x7465_6e75;

/// Each entry brings a store from the schema of its index to the next one; `user_version` counts them. Never edit an entry
/// that was released: add one.
const MIGRATIONS: [&str; 3] = [
    "
    CREATE TABLE meta (
        key TEXT NOT NULL PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE objects (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        uid TEXT NOT NULL UNIQUE,
        phase TEXT NOT NULL,
        owner TEXT,
        active INTEGER NOT NULL,
        resource_version INTEGER NOT NULL,
        json TEXT NOT NULL,
        PRIMARY KEY (kind, name)
    ) STRICT;
    CREATE INDEX objects_active ON objects (kind, name) WHERE active = 1;
    CREATE INDEX objects_owner ON objects (owner, kind) WHERE owner IS NOT NULL;

    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time INTEGER NOT NULL,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        type TEXT NOT NULL,
        reason TEXT NOT NULL,
        message TEXT NOT NULL,
        details TEXT
    ) STRICT;
    CREATE INDEX events_object ON events (kind, name);

    INSERT INTO meta (key, value) VALUES ('revision', '0');
",
    "
    CREATE TABLE departed (
        uid TEXT NOT NULL PRIMARY KEY
    ) STRICT, WITHOUT ROWID;
    -- A trigger, so that it is written down whoever deletes the job.
    CREATE TRIGGER objects_departed AFTER DELETE ON objects WHEN OLD.kind = 'Job' BEGIN
        INSERT OR IGNORE INTO departed (uid) VALUES (OLD.uid);
    END;
    INSERT INTO departed (uid) SELECT owner FROM
        (SELECT DISTINCT owner FROM objects WHERE owner IS NOT NULL) AS owners
        WHERE NOT EXISTS (SELECT 1 FROM objects AS job WHERE job.uid = owners.owner);
",
    "
    ALTER TABLE objects ADD COLUMN expires_at INTEGER;
    CREATE INDEX objects_expiry ON objects (expires_at) WHERE expires_at IS NOT NULL;
",
];

const SCHEMA: i64 = MIGRATIONS.len() as i64;

impl Store {
    /// Opens the store, or makes it (mode 0600), and brings it to the newest schema. Reads the whole file first, to check it.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        Store::open_within(path, u64::MAX)
    }

    /// The same, but a large file is checked beside its use: until then [`Store::integrity`] is `Unknown`.
    pub fn open_beside(path: &Path) -> Result<Store, StoreError> {
        Store::open_within(path, integrity::AT_ONCE)
    }

    /// A file larger than this many bytes is checked beside its use.
    pub(super) fn open_within(path: &Path, at_once: u64) -> Result<Store, StoreError> {
        let io = |source| StoreError::Open { path: path.to_owned(), source };
        // Whoever opens a FIFO waits for its other end.
        if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            return Err(io(io::Error::other("it is not a file")));
        }
        let witness = Witness::of(path)?;
        // Opening an empty file is enough to make SQLite remove the log beside it, which may be all that is left.
        if fs::metadata(path).map_or(0, |meta| meta.len()) == 0 {
            witness.refuse_another(path, None)?;
        }
        // SQLite would make the file by the umask; its side files take the mode of the file.
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io)?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(io)?;

        let sqlite = |error| StoreError::sqlite(path, error);
        let mut writer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let fresh = refuse_others(&writer, path)?;
        let found = if fresh { None } else { read_instance(&writer).map_err(sqlite)? };
        witness.refuse_another(path, found.as_ref())?;
        writer.pragma_update(None, "journal_mode", "WAL").map_err(sqlite)?;
        writer.pragma_update(None, "synchronous", "FULL").map_err(sqlite)?;
        let beside = integrity::is_large(path, at_once);
        if !fresh && !beside {
            integrity::check(&writer, path)?;
        }
        migrate(&mut writer).map_err(sqlite)?;
        let instance = make_instance(&mut writer).map_err(sqlite)?;
        witness.note(&instance)?;
        if !beside {
            return Store::assemble(path, instance, Some(writer), Reading::Known(()));
        }
        let store = Store::assemble(path, instance, Some(writer), integrity::being_checked())?;
        integrity::check_beside(path, &store.integrity)?;
        Ok(store)
    }

    /// Opens a store that a controller made, to look only. What would change it is refused with `ReadOnly`. A small one is
    /// checked first; who looks at a large one does not wait for that.
    pub fn open_read_only(path: &Path) -> Result<Store, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        if refuse_others(&connection, path)? {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        let found = version(&connection).map_err(|error| StoreError::sqlite(path, error))?;
        if found < SCHEMA {
            return Err(StoreError::Older { path: path.to_owned(), found });
        }
        let large = integrity::is_large(path, integrity::AT_ONCE);
        if !large {
            integrity::check(&connection, path)?;
        }
        let instance = read_instance(&connection)
            .map_err(|error| StoreError::sqlite(path, error))?
            .ok_or_else(|| StoreError::Corrupt { path: path.to_owned(), what: "it has no instance id".to_owned() })?;
        let integrity = if large { integrity::not_checked() } else { Reading::Known(()) };
        Store::assemble(path, instance, None, integrity)
    }

    fn assemble(
        path: &Path,
        instance: InstanceId,
        writer: Option<Connection>,
        integrity: Reading<()>,
    ) -> Result<Store, StoreError> {
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let sqlite = |error| StoreError::sqlite(path, error);
        let revision = rows::revision(&connection).map_err(sqlite)?;
        Ok(Store {
            path: path.to_owned(),
            file: identity(path).map_err(|source| StoreError::Open { path: path.to_owned(), source })?,
            instance,
            writer: writer.map(Writer::new).transpose().map_err(sqlite)?.map(Mutex::new),
            reader: Mutex::new(Reader { connection, cached: None, no_orphans: None }),
            revisions: watch::Sender::new(revision),
            integrity: Arc::new(watch::Sender::new(integrity)),
        })
    }
}

/// The file beside a store, `tenure.instance`, that says whose it is: a store that was emptied, or is gone, can not be told from
/// one that never was, and who takes it for new forgets every job and every process that it had.
struct Witness {
    path: PathBuf,
    instance: Option<InstanceId>,
}

impl Witness {
    fn of(store: &Path) -> Result<Witness, StoreError> {
        let path = store.with_extension("instance");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(StoreError::Open { path, source }),
        };
        let instance = Some(text.trim()).filter(|text| !text.is_empty()).map(|text| InstanceId(text.to_owned()));
        Ok(Witness { path, instance })
    }

    /// Refuses a store that is not of the instance that was here. `found`: whose it is; none: it holds nothing.
    fn refuse_another(&self, store: &Path, found: Option<&InstanceId>) -> Result<(), StoreError> {
        match &self.instance {
            Some(expected) if Some(expected) != found => Err(StoreError::Another {
                path: store.to_owned(),
                expected: expected.clone(),
                found: found.cloned(),
                witness: self.path.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn note(&self, instance: &InstanceId) -> Result<(), StoreError> {
        if self.instance.is_some() {
            return Ok(());
        }
        let beside = self.path.with_extension("instance.tmp");
        let io = |source| StoreError::Open { path: self.path.clone(), source };
        fs::write(&beside, format!("{instance}\n")).map_err(io)?;
        fs::rename(&beside, &self.path).map_err(io)
    }
}

/// Device and inode of the file at this path.
pub(super) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

pub(super) fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let sqlite = |error| StoreError::sqlite(path, error);
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(sqlite)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(sqlite)?;
    Ok(connection)
}

/// Refuses the file of another program, and that of a newer tenure, before anything is written to it. Gives whether the
/// file is empty.
fn refuse_others(connection: &Connection, path: &Path) -> Result<bool, StoreError> {
    let sqlite = |error| StoreError::sqlite(path, error);
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(sqlite)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sqlite)?;
    let found = version(connection).map_err(sqlite)?;
    if application != APPLICATION && (tables > 0 || found > 0) {
        return Err(StoreError::NotOurs { path: path.to_owned() });
    }
    if found > SCHEMA {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: SCHEMA });
    }
    Ok(tables == 0)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let txn = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = version(&txn)?;
    for (index, script) in MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        txn.execute_batch(script)?;
        txn.pragma_update(None, "user_version", index as i64 + 1)?;
        txn.execute(
            "INSERT OR REPLACE INTO meta (key, value) VALUES ('schema', ?1), ('schema_by', ?2)",
            [(index + 1).to_string(), format!("tenure {}", env!("CARGO_PKG_VERSION"))],
        )?;
    }
    if found == 0 {
        txn.pragma_update(None, "application_id", APPLICATION)?;
    }
    txn.commit()
}

fn make_instance(connection: &mut Connection) -> rusqlite::Result<InstanceId> {
    if let Some(instance) = read_instance(connection)? {
        return Ok(instance);
    }
    let random = uuid::Uuid::new_v4().simple().to_string();
    let instance: String = random.chars().take(12).collect();
    connection.execute("INSERT INTO meta (key, value) VALUES ('instance', ?1)", [&instance])?;
    Ok(InstanceId(instance))
}

fn read_instance(connection: &Connection) -> rusqlite::Result<Option<InstanceId>> {
    connection
        .query_row("SELECT value FROM meta WHERE key = 'instance'", [], |row| row.get(0))
        .optional()
        .map(|found| found.map(InstanceId))
}
