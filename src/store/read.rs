//! Reading one object, or many, and events.

use super::{Store, StoreError, rows};
use crate::model::{AnyObject, Event, JobUid, Kind, Time, Uid, WorkloadType};
use rusqlite::{Params, params};

/// Which events are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventFilter {
    /// Of objects of this kind.
    pub kind: Option<Kind>,
    /// Of objects of this name.
    pub name: Option<String>,
    /// Where there are more than the limit: the newest ones instead of the oldest ones.
    pub newest: bool,
}

/// One object's name and the revision of its last write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its name.
    pub name: String,
    /// Its uid: another one under the same name is another object.
    pub uid: Uid,
    /// The revision of its last write.
    pub resource_version: u64,
}

impl Store {
    /// The object of this kind and name.
    pub fn get(&self, kind: Kind, name: &str) -> Result<Option<AnyObject>, StoreError> {
        let objects = self.objects("kind = ?1 AND name = ?2", params![kind.as_str(), name])?;
        Ok(objects.into_iter().next())
    }

    /// The object with this uid.
    pub fn get_by_uid(&self, uid: &Uid) -> Result<Option<AnyObject>, StoreError> {
        let objects = self.objects("uid = ?1", params![uid.as_str()])?;
        Ok(objects.into_iter().next())
    }

    /// Whether the stored JSON of the object with this uid holds each of these texts, without making an object of it; none:
    /// there is no such object.
    pub fn mentions<const N: usize>(&self, uid: &Uid, texts: [&str; N]) -> Result<Option<[bool; N]>, StoreError> {
        let reader = self.reader();
        let read = || {
            let mut statement = reader.connection.prepare_cached("SELECT json FROM objects WHERE uid = ?1")?;
            let mut rows = statement.query([uid.as_str()])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            let json = row.get_ref(0)?.as_str()?;
            Ok(Some(texts.map(|text| json.contains(text))))
        };
        read().map_err(|error| self.sqlite(error))
    }

    /// All objects of this kind, active or not, by name.
    pub fn list(&self, kind: Kind) -> Result<Vec<AnyObject>, StoreError> {
        self.objects("kind = ?1 ORDER BY name", params![kind.as_str()])
    }

    /// All objects that belong to this job, active or not: its runs, its sub-jobs, and the workloads whose first owner it is.
    pub fn list_owned(&self, job: &JobUid) -> Result<Vec<AnyObject>, StoreError> {
        self.objects("owner = ?1 ORDER BY kind, name", params![job.as_str()])
    }

    /// What jobs that are no more have left: final runs, sub-jobs that are over, and stopped workloads without any owner that
    /// exists. At most `limit`.
    pub fn orphans(&self, limit: usize) -> Result<Vec<AnyObject>, StoreError> {
        let mut reader = self.reader();
        let sqlite = |error| self.sqlite(error);
        // Before the search: a commit that comes between makes the next call search again.
        let version = data_version(&reader.connection).map_err(sqlite)?;
        if reader.no_orphans == Some(version) {
            return Ok(Vec::new());
        }
        let query = format!("SELECT {} FROM objects WHERE {LEFT_BEHIND}", rows::OBJECT);
        let mut statement = reader.connection.prepare_cached(&query).map_err(sqlite)?;
        let mut found = statement.query([]).map_err(sqlite)?;
        let mut orphans = Vec::new();
        while let Some(row) = found.next().map_err(sqlite)?
            && orphans.len() < limit
        {
            let object = rows::object(&self.path, row)?;
            if !has_other_owner(&reader.connection, &object).map_err(sqlite)? {
                orphans.push(object);
            }
        }
        drop(found);
        drop(statement);
        reader.no_orphans = (limit > 0 && orphans.is_empty()).then_some(version);
        Ok(orphans)
    }

    /// What may be deleted by now, longest due first. At most `limit`.
    pub fn expired(&self, now: Time, limit: usize) -> Result<Vec<AnyObject>, StoreError> {
        self.objects(EXPIRED, params![now.0, i64::try_from(limit).unwrap_or(i64::MAX)])
    }

    /// How many workloads of this type have names from this one on, up to that one.
    pub fn count_workloads(&self, r#type: WorkloadType, from: &str, to: &str) -> Result<usize, StoreError> {
        let reader = self.reader();
        let count = || {
            let query = "SELECT count(*) FROM objects WHERE kind = 'Workload' AND name >= ?1 AND name < ?2 \
                 AND json_extract(json, '$.spec.type') = ?3";
            let mut statement = reader.connection.prepare_cached(query)?;
            statement.query_row(params![from, to, r#type.as_str()], |row| row.get::<_, i64>(0))
        };
        let count = count().map_err(|error| self.sqlite(error))?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// The note of this key ([`super::Txn::meta`]).
    pub fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        rows::note(&self.reader().connection, key).map_err(|error| self.sqlite(error))
    }

    /// The names and revisions of all objects of this kind: what it takes to see which of them changed.
    pub fn versions(&self, kind: Kind) -> Result<Vec<Version>, StoreError> {
        let reader = self.reader();
        let read = || {
            let mut statement =
                reader.connection.prepare_cached("SELECT name, uid, resource_version FROM objects WHERE kind = ?1")?;
            let versions = statement.query_map([kind.as_str()], |row| {
                Ok(Version { name: row.get(0)?, uid: Uid(row.get(1)?), resource_version: rows::unsigned(row.get(2)?) })
            })?;
            versions.collect::<Result<Vec<_>, _>>()
        };
        read().map_err(|error| self.sqlite(error))
    }

    /// The revision of the last commit.
    pub fn revision(&self) -> Result<u64, StoreError> {
        rows::revision(&self.reader().connection).map_err(|error| self.sqlite(error))
    }

    /// A number that differs from the one before whenever anybody, this program or another, changed anything meanwhile.
    pub fn change_mark(&self) -> Result<i64, StoreError> {
        data_version(&self.reader().connection).map_err(|error| self.sqlite(error))
    }

    /// Events after this id, oldest first, at most `limit`.
    pub fn events(&self, after_id: u64, limit: usize, filter: &EventFilter) -> Result<Vec<Event>, StoreError> {
        let direction = if filter.newest { "DESC" } else { "ASC" };
        let query = format!(
            "SELECT {} FROM events WHERE id > ?1 AND (?2 IS NULL OR kind = ?2) AND (?3 IS NULL OR name = ?3) \
             ORDER BY id {direction} LIMIT ?4",
            rows::EVENT
        );
        let sqlite = |error| self.sqlite(error);
        let reader = self.reader();
        let mut statement = reader.connection.prepare_cached(&query).map_err(sqlite)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let parameters = params![rows::signed(after_id), filter.kind.map(Kind::as_str), filter.name, limit];
        let mut found = statement.query(parameters).map_err(sqlite)?;
        let mut events = Vec::new();
        while let Some(row) = found.next().map_err(sqlite)? {
            events.push(rows::event(&self.path, row)?);
        }
        if filter.newest {
            events.reverse();
        }
        Ok(events)
    }

    fn objects(&self, condition: &str, parameters: impl Params) -> Result<Vec<AnyObject>, StoreError> {
        let reader = self.reader();
        self.objects_on(&reader.connection, condition, parameters)
    }

    pub(super) fn objects_on(
        &self,
        connection: &rusqlite::Connection,
        condition: &str,
        parameters: impl Params,
    ) -> Result<Vec<AnyObject>, StoreError> {
        let sqlite = |error| self.sqlite(error);
        let query = format!("SELECT {} FROM objects WHERE {condition}", rows::OBJECT);
        let mut statement = connection.prepare_cached(&query).map_err(sqlite)?;
        let mut found = statement.query(parameters).map_err(sqlite)?;
        let mut objects = Vec::new();
        while let Some(row) = found.next().map_err(sqlite)? {
            objects.push(rows::object(&self.path, row)?);
        }
        Ok(objects)
    }
}

/// Rows that are kept for a time, which is over.
pub(super) const EXPIRED: &str = "expires_at <= ?1 ORDER BY expires_at LIMIT ?2";

/// Inactive rows whose (first) owner was a job that is no more. By way of those jobs: of what ever was, nothing else is
/// looked at.
pub(super) const LEFT_BEHIND: &str = "active = 0 AND owner IN (SELECT uid FROM departed \
     WHERE NOT EXISTS (SELECT 1 FROM objects AS job WHERE job.uid = departed.uid))";

/// Whether any owner of a workload exists: the column knows the first one only. So does the adapter that asked for it, for as long
/// as it may ask again: that it was there already is what its row says.
fn has_other_owner(connection: &rusqlite::Connection, object: &AnyObject) -> rusqlite::Result<bool> {
    let AnyObject::Workload(workload) = object else { return Ok(false) };
    if let Some(adapter) = &workload.spec.parent {
        let mut statement = connection.prepare_cached("SELECT 1 FROM objects WHERE uid = ?1 AND active = 1")?;
        if statement.exists([adapter.as_str()])? {
            return Ok(true);
        }
    }
    let mut statement = connection.prepare_cached("SELECT 1 FROM objects WHERE uid = ?1")?;
    for owner in &workload.spec.owners {
        if statement.exists([owner.uid.as_str()])? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// SQLite's own mark of change: it differs whenever another connection committed something.
pub(super) fn data_version(connection: &rusqlite::Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0))
}
