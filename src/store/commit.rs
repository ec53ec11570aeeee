//! Writing: one transaction, checked against what its author had read.

use super::changes::Touched;
use super::{Store, StoreError, lock, rows};
use crate::model::{AnyObject, Event, Kind, Time};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

/// All events but about the last so many.
pub(super) const OLD_EVENTS: &str = "DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?1";

/// Of a departed job: no row names it as its owner.
pub(super) const NOTHING_LEFT: &str = "NOT EXISTS (SELECT 1 FROM objects WHERE owner = departed.uid)";

/// What is to be written together. Deletes come first, so that an object can be replaced by another of its name.
#[derive(Debug, Clone, Default)]
pub struct Txn {
    /// Objects, each over the revision in its `metadata.resource_version` (0: there must be none of its name).
    pub puts: Vec<AnyObject>,
    /// Kind, name, and the revision that must be the stored one. 0: any, or none at all.
    pub deletes: Vec<(Kind, String, u64)>,
    /// What to remember about it.
    pub events: Vec<Event>,
    /// Notes that the controller keeps for itself, by key: [`Store::meta`] reads them.
    pub notes: Vec<(String, String)>,
}

impl Txn {
    /// Nothing yet.
    pub fn new() -> Txn {
        Txn::default()
    }

    /// And this object.
    pub fn put(mut self, object: AnyObject) -> Txn {
        self.puts.push(object);
        self
    }

    /// And without this object.
    pub fn delete(mut self, kind: Kind, name: impl Into<String>, resource_version: u64) -> Txn {
        self.deletes.push((kind, name.into(), resource_version));
        self
    }

    /// And with this event.
    pub fn event(mut self, event: Event) -> Txn {
        self.events.push(event);
        self
    }

    /// And with this note, in the place of an earlier one of its key.
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<String>) -> Txn {
        self.notes.push((key.into(), value.into()));
        self
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.deletes.is_empty() && self.events.is_empty() && self.notes.is_empty()
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// The revision of the store now. Every object that was written has it.
    pub revision: u64,
    /// The objects that were put, in that order, as they are stored.
    pub objects: Vec<AnyObject>,
}

/// What a commit needs to know of the row that it writes over.
struct Stored {
    uid: String,
    owner: Option<String>,
    active: bool,
    resource_version: u64,
    json: String,
}

impl Store {
    /// Writes all of it, or nothing. An object that is put as it is stored already keeps its revision; a transaction that
    /// changes nothing writes nothing.
    pub fn commit(&self, txn: Txn, now: Time) -> Result<Committed, StoreError> {
        let writer = self.writer.as_ref().ok_or_else(|| StoreError::ReadOnly { path: self.path.clone() })?;
        self.check_file()?;
        let sqlite = |error| self.sqlite(error);
        let mut writer = lock(writer);
        let connection = writer.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        let before = rows::revision(&connection).map_err(sqlite)?;
        let revision = before + 1;
        let mut changed = false;
        let mut touched = Vec::new();
        for (kind, name, expected) in &txn.deletes {
            touched.extend(self.delete(&connection, *kind, name, *expected)?);
        }
        let mut objects = Vec::with_capacity(txn.puts.len());
        for object in txn.puts {
            objects.push(self.put(&connection, object, revision, now, &mut touched)?);
        }
        for event in &txn.events {
            self.insert_event(&connection, event)?;
            changed = true;
        }
        for (key, value) in &txn.notes {
            changed |= rows::set_note(&connection, key, value).map_err(sqlite)?;
        }
        if !changed && touched.is_empty() {
            return Ok(Committed { revision: before, objects });
        }
        connection
            .execute("UPDATE meta SET value = ?1 WHERE key = 'revision'", [revision.to_string()])
            .and_then(|_| connection.commit())
            .map_err(sqlite)?;
        writer.remember(revision, touched);
        // While the writer's lock is held: revisions are told in their order.
        self.revisions.send_replace(revision);
        Ok(Committed { revision, objects })
    }

    /// Forgets all events but about the last `keep`. Gives how many went.
    pub fn prune_events(&self, keep: u64) -> Result<usize, StoreError> {
        let writer = self.writer.as_ref().ok_or_else(|| StoreError::ReadOnly { path: self.path.clone() })?;
        lock(writer).connection.execute(OLD_EVENTS, [rows::signed(keep)]).map_err(|error| self.sqlite(error))
    }

    /// Forgets the oldest notes whose keys begin so, until there are no more than `most`, of no more bytes together. How old one is
    /// its text says: it is a JSON object with the field `at`. Gives how many went.
    pub fn prune_notes(&self, prefix: &str, most: u64, most_bytes: u64) -> Result<usize, StoreError> {
        let writer = self.writer.as_ref().ok_or_else(|| StoreError::ReadOnly { path: self.path.clone() })?;
        rows::prune_notes(&mut lock(writer).connection, prefix, most, most_bytes).map_err(|error| self.sqlite(error))
    }

    /// Forgets the jobs that went and of which nothing is left.
    pub fn prune_departed(&self) -> Result<usize, StoreError> {
        let writer = self.writer.as_ref().ok_or_else(|| StoreError::ReadOnly { path: self.path.clone() })?;
        lock(writer)
            .connection
            .execute(&format!("DELETE FROM departed WHERE {NOTHING_LEFT}"), [])
            .map_err(|error| self.sqlite(error))
    }

    /// Gives what it removed.
    fn delete(
        &self,
        connection: &Connection,
        kind: Kind,
        name: &str,
        expected: u64,
    ) -> Result<Option<Touched>, StoreError> {
        let stored = self.stored(connection, kind, name)?;
        let found = stored.as_ref().map_or(0, |stored| stored.resource_version);
        if expected != 0 && expected != found {
            return Err(StoreError::Conflict { kind, name: name.to_owned(), expected, found });
        }
        connection
            .prepare_cached("DELETE FROM objects WHERE kind = ?1 AND name = ?2")
            .and_then(|mut statement| statement.execute([kind.as_str(), name]))
            .map_err(|error| self.sqlite(error))?;
        Ok(stored.map(|stored| Touched::row(kind, name, &stored.uid, stored.owner.as_deref(), true)))
    }

    /// Gives the object as it is stored now. What had to be written for that is added to `touched`.
    fn put(
        &self,
        connection: &Connection,
        mut object: AnyObject,
        revision: u64,
        now: Time,
        touched: &mut Vec<Touched>,
    ) -> Result<AnyObject, StoreError> {
        let kind = object.kind();
        let name = object.meta().name.clone();
        let stored = self.stored(connection, kind, &name)?;
        let (expected, found) =
            (object.meta().resource_version, stored.as_ref().map_or(0, |stored| stored.resource_version));
        if expected != found {
            return Err(StoreError::Conflict { kind, name, expected, found });
        }
        let turned = stored.as_ref().is_none_or(|stored| stored.active != object.is_active());
        match stored {
            None => give_birth(&mut object, now),
            Some(stored) => {
                let before = self.understand(kind, &name, &stored)?;
                if keep_what_stays(&mut object, &before) {
                    return Ok(object);
                }
                touched.push(Touched::object(&before, turned));
            }
        }
        object.meta_mut().resource_version = revision;
        self.write(connection, &object, revision)?;
        touched.push(Touched::object(&object, turned));
        Ok(object)
    }

    fn stored(&self, connection: &Connection, kind: Kind, name: &str) -> Result<Option<Stored>, StoreError> {
        let read = || {
            let query = "SELECT uid, owner, active, resource_version, json FROM objects WHERE kind = ?1 AND name = ?2";
            connection
                .prepare_cached(query)?
                .query_row([kind.as_str(), name], |row| {
                    Ok(Stored {
                        uid: row.get(0)?,
                        owner: row.get(1)?,
                        active: row.get(2)?,
                        resource_version: rows::unsigned(row.get(3)?),
                        json: row.get(4)?,
                    })
                })
                .optional()
        };
        read().map_err(|error| self.sqlite(error))
    }

    fn understand(&self, kind: Kind, name: &str, stored: &Stored) -> Result<AnyObject, StoreError> {
        rows::parse_row(&self.path, kind.as_str(), name, &stored.uid, &stored.json)
    }

    fn write(&self, connection: &Connection, object: &AnyObject, revision: u64) -> Result<(), StoreError> {
        let (kind, meta) = (object.kind(), object.meta());
        self.refuse_unstorable(connection, object)?;
        let query = "INSERT INTO objects (kind, name, uid, phase, owner, active, expires_at, resource_version, json) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
             ON CONFLICT (kind, name) DO UPDATE SET phase = excluded.phase, owner = excluded.owner, \
             active = excluded.active, expires_at = excluded.expires_at, resource_version = excluded.resource_version, json = excluded.json";
        let parameters = params![
            kind.as_str(),
            meta.name,
            meta.uid,
            object.phase(),
            object.owner().map(|owner| owner.as_str()),
            object.is_active(),
            object.expires_at().map(|at| at.0),
            rows::signed(revision),
            object.to_json().to_string(),
        ];
        connection
            .prepare_cached(query)
            .and_then(|mut statement| statement.execute(parameters))
            .map(drop)
            .map_err(|error| self.sqlite(error))
    }

    /// What would be read back as another object, or not at all, is not written.
    fn refuse_unstorable(&self, connection: &Connection, object: &AnyObject) -> Result<(), StoreError> {
        let (kind, meta) = (object.kind(), object.meta());
        let invalid = |message: String| Err(StoreError::Invalid { kind, name: meta.name.clone(), message });
        if meta.name.is_empty() {
            return invalid("it has no name".to_owned());
        }
        if kind == Kind::Workload && meta.name != meta.uid {
            return invalid(format!("a workload's name is its uid, and this one's uid is {:?}", meta.uid));
        }
        let holder: Option<(String, String)> = connection
            .prepare_cached("SELECT kind, name FROM objects WHERE uid = ?1")
            .and_then(|mut statement| statement.query_row([&meta.uid], |row| Ok((row.get(0)?, row.get(1)?))).optional())
            .map_err(|error| self.sqlite(error))?;
        match holder {
            Some((of, name)) if of != kind.as_str() || name != meta.name => {
                invalid(format!("its uid {} is that of {of} {name}", meta.uid))
            }
            _ => Ok(()),
        }
    }

    fn insert_event(&self, connection: &Connection, event: &Event) -> Result<(), StoreError> {
        let details = (!event.details.is_null()).then(|| event.details.to_string());
        let query = "INSERT INTO events (time, kind, name, type, reason, message, details) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let parameters = params![
            event.time.0,
            event.kind.as_str(),
            event.name,
            rows::event_type(event.r#type),
            event.reason,
            event.message,
            details,
        ];
        connection
            .prepare_cached(query)
            .and_then(|mut statement| statement.execute(parameters))
            .map(drop)
            .map_err(|error| self.sqlite(error))
    }
}

/// Metadata of an object that was not there before.
fn give_birth(object: &mut AnyObject, now: Time) {
    // A workload is named by its uid before its row is there: its run directory and its marks carry it.
    let is_workload = object.kind() == Kind::Workload;
    let meta = object.meta_mut();
    if meta.uid.is_empty() && !is_workload {
        meta.uid = uuid::Uuid::now_v7().to_string();
    }
    meta.generation = 1;
    meta.creation_timestamp = Some(now);
}

/// Gives an object what no author changes: uid, creation, and the count of changes of its spec. True: it is as it was.
fn keep_what_stays(object: &mut AnyObject, before: &AnyObject) -> bool {
    let old = before.meta();
    let meta = object.meta_mut();
    meta.uid = old.uid.clone();
    meta.creation_timestamp = old.creation_timestamp;
    meta.generation = old.generation;
    if object == before {
        return true;
    }
    let (is, was) = (object.to_json(), before.to_json());
    object.meta_mut().generation += u64::from(is["spec"] != was["spec"]);
    is == was
}
