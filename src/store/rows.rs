//! Between rows and values.

use super::StoreError;
use crate::model::{AnyObject, Event, EventType, Kind, Time};
use rusqlite::{Connection, OptionalExtension, Row};
use std::path::Path;

/// The columns that [`object`] reads.
pub(super) const OBJECT: &str = "kind, name, uid, json";

/// The columns that [`event`] reads.
pub(super) const EVENT: &str = "id, time, kind, name, type, reason, message, details";

/// The object of a row. A row whose JSON does not parse, or says that it is another object than the row does, is an error.
pub(super) fn object(path: &Path, row: &Row<'_>) -> Result<AnyObject, StoreError> {
    let sqlite = |error| StoreError::sqlite(path, error);
    let kind: String = row.get(0).map_err(sqlite)?;
    let name: String = row.get(1).map_err(sqlite)?;
    let uid: String = row.get(2).map_err(sqlite)?;
    let json: String = row.get(3).map_err(sqlite)?;
    parse_row(path, &kind, &name, &uid, &json)
}

/// The same, of columns that were read already.
pub(super) fn parse_row(path: &Path, kind: &str, name: &str, uid: &str, json: &str) -> Result<AnyObject, StoreError> {
    let bad =
        |message| StoreError::BadRow { path: path.to_owned(), kind: kind.to_owned(), name: name.to_owned(), message };
    let object = parse(kind, json).map_err(bad)?;
    let meta = object.meta();
    if meta.name == name && meta.uid == uid {
        return Ok(object);
    }
    Err(bad(format!("its json is of {} with uid {}", meta.name, meta.uid)))
}

fn parse(kind: &str, json: &str) -> Result<AnyObject, String> {
    let known = Kind::ALL.into_iter().find(|known| known.as_str() == kind).ok_or("there is no such kind")?;
    let value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    AnyObject::from_json(known, value).map_err(|error| error.to_string())
}

/// The event of a row.
pub(super) fn event(path: &Path, row: &Row<'_>) -> Result<Event, StoreError> {
    let sqlite = |error| StoreError::sqlite(path, error);
    let id: i64 = row.get(0).map_err(sqlite)?;
    let bad = |message: String| StoreError::BadRow {
        path: path.to_owned(),
        kind: "event".to_owned(),
        name: id.to_string(),
        message,
    };
    let kind: String = row.get(2).map_err(sqlite)?;
    let r#type: String = row.get(4).map_err(sqlite)?;
    let details: Option<String> = row.get(7).map_err(sqlite)?;
    Ok(Event {
        id: unsigned(id),
        time: Time(row.get(1).map_err(sqlite)?),
        kind: Kind::ALL
            .into_iter()
            .find(|known| known.as_str() == kind)
            .ok_or_else(|| bad(format!("there is no kind {kind}")))?,
        name: row.get(3).map_err(sqlite)?,
        r#type: match r#type.as_str() {
            "Normal" => EventType::Normal,
            "Warning" => EventType::Warning,
            other => return Err(bad(format!("there is no type {other}"))),
        },
        reason: row.get(5).map_err(sqlite)?,
        message: row.get(6).map_err(sqlite)?,
        details: match details {
            Some(text) => serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?,
            None => serde_json::Value::Null,
        },
    })
}

/// As the column `type` has it.
pub(super) fn event_type(r#type: EventType) -> &'static str {
    match r#type {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    }
}

/// The revision of the last commit.
pub(super) fn revision(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .query_row("SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'revision'", [], |row| row.get(0))
        .map(unsigned)
}

/// Notes share their table with the store's own facts; the prefix keeps them apart.
const NOTE: &str = "note:";

/// The note of this key.
pub(super) fn note(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM meta WHERE key = ?1", [format!("{NOTE}{key}")], |row| row.get(0)).optional()
}

/// Writes a note. False: it said so already.
pub(super) fn set_note(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<bool> {
    let query = "INSERT INTO meta (key, value) VALUES (?1, ?2) \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE value <> excluded.value";
    connection.execute(query, [&format!("{NOTE}{key}"), value]).map(|rows| rows > 0)
}

/// Removes the oldest notes of a prefix beyond these bounds.
pub(super) fn prune_notes(
    connection: &mut Connection,
    prefix: &str,
    most: u64,
    most_bytes: u64,
) -> rusqlite::Result<usize> {
    let of_prefix = "key >= ?1 AND key < ?1 || char(1114111)";
    let from = format!("{NOTE}{prefix}");
    let query = format!("SELECT count(*), coalesce(sum(octet_length(value)), 0) FROM meta WHERE {of_prefix}");
    let count = |row: &Row<'_>| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?)));
    let (all, bytes): (u64, u64) = connection.query_row(&query, [&from], count)?;
    if all <= most && bytes <= most_bytes {
        return Ok(0);
    }
    let transaction = connection.transaction()?;
    let mut removed = 0;
    {
        // A text that is no JSON is older than all.
        let age = "CASE WHEN json_valid(value) THEN json_extract(value, '$.at') END";
        let query = format!("SELECT key, octet_length(value) FROM meta WHERE {of_prefix} ORDER BY {age} DESC, key");
        let mut statement = transaction.prepare(&query)?;
        let mut newest_first = statement.query([&from])?;
        let mut delete = transaction.prepare("DELETE FROM meta WHERE key = ?1")?;
        let (mut kept, mut kept_bytes) = (0, 0);
        while let Some(row) = newest_first.next()? {
            (kept, kept_bytes) = (kept + 1, kept_bytes + unsigned(row.get(1)?));
            if kept > most || kept_bytes > most_bytes {
                removed += delete.execute([row.get::<_, String>(0)?])?;
            }
        }
    }
    transaction.commit()?;
    Ok(removed)
}

/// SQLite has signed integers only. Ids and revisions are counted up from 0, so neither direction loses anything.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The other direction.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
