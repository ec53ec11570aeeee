//! The watched directories: files → objects in the store.
//!
//! Events of the file system are hints. What counts is a whole listing, hashed: a file that changed is parsed, and what it
//! gives replaces what it gave. A file that cannot be understood, a directory that cannot be read, or one that is empty
//! and is not the one that was read before, changes nothing: unknown is not missing.

use super::listing::{FileSeen, list};
use super::load::{self, Loaded};
use crate::model::{
    AnyObject, Condition, Diagnostic, Event, EventType, Kind, Reading, SOURCE_ANNOTATION, Severity, Time,
};
use crate::store::{Store, StoreError, Txn};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// How long a file is absent before that counts: who saves a file may remove it first, and write it again.
const ABSENT_FOR: Duration = Duration::from_secs(1);

/// What a directory gave when it was last read as a whole; kept in the store, so that it outlives the controller.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Record {
    /// Device and inode of the directory: tells an emptied one from another one mounted in its place.
    identity: (u64, u64),
    files: BTreeMap<String, FileRecord>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct FileRecord {
    /// Of the content that was last looked at, whether or not it could be understood.
    hash: String,
    /// What the file last gave.
    objects: Vec<(Kind, String)>,
    /// Since when the file is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    absent_since: Option<Time>,
}

/// Brings the store in line with one directory.
///
/// `Unknown`: the directory could not be read as a whole; nothing was changed. `Known`: when it is to be read again, to see whether
/// a file that is absent comes back.
///
/// # Errors
/// The store's; a conflict means that somebody else wrote meanwhile: try again.
pub(super) fn sync(dir: &Path, store: &Store, now: Time) -> Result<Reading<Option<Time>>, StoreError> {
    let key = format!("manifests:{}", dir.display());
    let before: Option<Record> = store.meta(&key)?.and_then(|text| serde_json::from_str(&text).ok());
    let listing = match list(dir) {
        Ok(listing) => listing,
        Err(error) => return Ok(Reading::Unknown(format!("the directory {} can be read ({error})", dir.display()))),
    };
    let before = before.unwrap_or_default();
    if listing.files.is_empty() && !before.files.is_empty() && listing.identity != before.identity {
        return Ok(Reading::Unknown(format!(
            "the directory {} holds its manifests again: it is empty, and not the one that was read before (a mount that \
             is missing?)",
            dir.display()
        )));
    }
    let mut sync = Sync { store, dir, now, txn: Txn::default(), given: BTreeMap::new() };
    let mut after = Record { identity: listing.identity, files: BTreeMap::new() };
    for (name, seen) in &listing.files {
        let record = before.files.get(name);
        let record = match record {
            Some(record) if record.hash == seen.hash && !sync.lost_some(record)? => {
                FileRecord { absent_since: None, ..record.clone() }
            }
            _ => sync.file(name, seen, record)?,
        };
        for object in &record.objects {
            sync.given.insert(object.clone(), name.clone());
        }
        after.files.insert(name.clone(), record);
    }
    let mut again_at = None;
    for (name, record) in &before.files {
        if !after.files.contains_key(name)
            && let Some(at) = comes_back_until(record, now)
        {
            again_at = again_at.max(Some(at));
            let absent_since = Some(Time(at.0 - ABSENT_FOR.as_millis() as i64));
            after.files.insert(name.clone(), FileRecord { absent_since, ..record.clone() });
        }
        sync.remove_absent(name, record, after.files.get(name))?;
    }
    if after != before {
        let text = serde_json::to_string(&after).unwrap_or_default();
        let txn = std::mem::take(&mut sync.txn).meta(key, text);
        store.commit(txn, now)?;
    }
    Ok(Reading::Known(again_at))
}

/// Until when an absent file may come back; none: it is gone. (A time that is yet to come is another clock's.)
fn comes_back_until(record: &FileRecord, now: Time) -> Option<Time> {
    let since = record.absent_since.filter(|since| *since <= now).unwrap_or(now);
    let until = since.after(ABSENT_FOR);
    (now < until).then_some(until)
}

struct Sync<'a> {
    store: &'a Store,
    dir: &'a Path,
    now: Time,
    txn: Txn,
    /// What has been given so far, and by which file: the first one wins.
    given: BTreeMap<(Kind, String), String>,
}

impl Sync<'_> {
    /// Whether something other than a job is gone that this file gives. A job runs once: it does not come back when it
    /// was deleted, or when its time to be kept is over.
    fn lost_some(&self, record: &FileRecord) -> Result<bool, StoreError> {
        for (kind, name) in record.objects.iter().filter(|(kind, _)| *kind != Kind::Job) {
            if self.store.get(*kind, name)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A file that is new or has changed.
    fn file(&mut self, name: &str, seen: &FileSeen, before: Option<&FileRecord>) -> Result<FileRecord, StoreError> {
        let kept = before.map(|record| record.objects.clone()).unwrap_or_default();
        let same_text = before.is_some_and(|record| record.hash == seen.hash);
        let loaded = if seen.text.iter().all(u8::is_ascii_whitespace) && !kept.is_empty() {
            Loaded { objects: Vec::new(), diagnostics: vec![emptied(&seen.path)] }
        } else {
            load::load(&seen.path, &seen.text)
        };
        for diagnostic in &loaded.diagnostics {
            self.report(name, diagnostic, same_text);
        }
        if let Some(error) = loaded.first_error() {
            self.mark(&kept, Some(error))?;
            return Ok(FileRecord { hash: seen.hash.clone(), objects: kept, absent_since: None });
        }
        let mut objects = Vec::new();
        for mut object in loaded.objects {
            let key = (object.kind(), object.meta().name.clone());
            if let Some(first) = self.given.get(&key) {
                let (kind, object_name) = &key;
                self.warn(
                    name,
                    format!("{kind} `{object_name}` is already given by {first}; this one is passed over: rename it"),
                );
                continue;
            }
            self.given.insert(key.clone(), name.to_owned());
            object.meta_mut().annotations.insert(SOURCE_ANNOTATION.into(), name.to_owned());
            // A job that this file gave before and that is gone has had its run.
            let had_its_run = same_text && key.0 == Kind::Job;
            self.upsert(object, had_its_run)?;
            objects.push(key);
        }
        Ok(FileRecord { hash: seen.hash.clone(), objects, absent_since: None })
    }

    /// Writes an object if it differs from what is stored; the status stays the controller's.
    fn upsert(&mut self, object: AnyObject, had_its_run: bool) -> Result<(), StoreError> {
        let (kind, name) = (object.kind(), object.meta().name.clone());
        let (object, reason) = match self.store.get(kind, &name)? {
            None if had_its_run => return Ok(()),
            None => (object, "Created"),
            Some(stored) => {
                let object = load::merged(&stored, object);
                if object == stored {
                    return Ok(());
                }
                (object, "Changed")
            }
        };
        let text = format!("from {}", self.dir.join(self.source(&object)).display());
        self.event(kind, &name, EventType::Normal, reason, text);
        self.txn = std::mem::take(&mut self.txn).put(object);
        Ok(())
    }

    fn source(&self, object: &AnyObject) -> String {
        object.meta().annotations.get(SOURCE_ANNOTATION).cloned().unwrap_or_default()
    }

    /// What a file gave, and gives no more (nor does another one), goes.
    fn remove_absent(&mut self, name: &str, before: &FileRecord, now: Option<&FileRecord>) -> Result<(), StoreError> {
        for key @ (kind, object_name) in &before.objects {
            let still = now.is_some_and(|record| record.objects.contains(key)) || self.given.contains_key(key);
            if still {
                continue;
            }
            if let Some(stored) = self.store.get(*kind, object_name)? {
                let text = format!("{} gives it no more", self.dir.join(name).display());
                self.event(*kind, object_name, EventType::Normal, "Removed", text);
                self.txn = std::mem::take(&mut self.txn).delete(*kind, object_name, stored.meta().resource_version);
            }
        }
        Ok(())
    }

    /// Says on the objects of a file whether the file can be understood.
    fn mark(&mut self, objects: &[(Kind, String)], error: Option<&Diagnostic>) -> Result<(), StoreError> {
        let message = error.map(|error| format!("{}:{}:{}: {}", error.file, error.line, error.column, error.message));
        for (kind, name) in objects {
            let Some(mut object) = self.store.get(*kind, name)? else { continue };
            match &mut object {
                AnyObject::Job(job) => {
                    job.status.conditions.retain(|condition| condition.r#type != load::MANIFEST_VALID);
                    if let Some(message) = &message {
                        job.status.conditions.push(Condition {
                            r#type: load::MANIFEST_VALID.into(),
                            status: false,
                            reason: "NotUnderstood".into(),
                            message: message.clone(),
                            last_transition_time: self.now,
                            observed_generation: None,
                        });
                    }
                }
                AnyObject::Flow(object) => object.status.message = message.clone(),
                AnyObject::AgentClass(object) => object.status.message = message.clone(),
                AnyObject::MachineClass(object) => object.status.message = message.clone(),
                AnyObject::Ledger(object) => object.status.message = message.clone(),
                AnyObject::Policy(object) => object.status.message = message.clone(),
                AnyObject::StepRun(_) | AnyObject::Workload(_) => continue,
            }
            self.txn = std::mem::take(&mut self.txn).put(object);
        }
        Ok(())
    }

    fn report(&mut self, name: &str, diagnostic: &Diagnostic, told: bool) {
        if told {
            return;
        }
        let place = format!("{}:{}:{}", diagnostic.file, diagnostic.line, diagnostic.column);
        let help = diagnostic.help.as_deref().map(|help| format!("; {help}")).unwrap_or_default();
        match diagnostic.severity {
            Severity::Error => {
                tracing::error!("{place}: {}{help}; what the file gave before stays", diagnostic.message);
            }
            Severity::Warning => tracing::warn!("{place}: {}{help}", diagnostic.message),
        }
        let reason = match diagnostic.severity {
            Severity::Error => "ManifestInvalid",
            Severity::Warning => "ManifestWarning",
        };
        let text = format!("{place}: {}{help}", diagnostic.message);
        self.event(Kind::Flow, name, EventType::Warning, reason, text);
    }

    fn warn(&mut self, name: &str, text: String) {
        tracing::warn!("{}: {text}", self.dir.join(name).display());
        self.event(Kind::Flow, name, EventType::Warning, "ManifestWarning", text);
    }

    fn event(&mut self, kind: Kind, name: &str, r#type: EventType, reason: &str, message: String) {
        self.txn = std::mem::take(&mut self.txn).event(Event {
            id: 0,
            time: self.now,
            kind,
            name: name.to_owned(),
            r#type,
            reason: reason.into(),
            message,
            details: Value::Null,
        });
    }
}

fn emptied(path: &Path) -> Diagnostic {
    let message = "the file is empty, as a file that is being written is";
    Diagnostic {
        line: 1,
        column: 1,
        help: Some("remove the file to remove its objects".into()),
        ..Diagnostic::of_file(Severity::Error, path.display().to_string(), message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const JOB: &str = "apiVersion: tenure.dev/v1alpha1\nkind: Job\nmetadata: {name: job}\nspec: {flow: {steps: {a: {run: 'true'}}}}\n";

    /// As some editors save: the file is not there for a moment.
    #[test]
    fn a_file_is_gone_once_it_has_been_absent_for_a_while() {
        let scratch = tempfile::tempdir().unwrap();
        let (dir, file) = (scratch.path().join("manifests"), scratch.path().join("manifests/job.yaml"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("other.yaml"), JOB.replace("name: job", "name: other")).unwrap();
        fs::write(&file, JOB).unwrap();
        let store = Store::open(&scratch.path().join("tenure.db")).unwrap();
        let sync_at = |second: i64| match sync(&dir, &store, Time(second * 1000)).unwrap() {
            Reading::Known(again_at) => again_at.map(|at| at.0 / 1000),
            Reading::Unknown(why) => panic!("{why}"),
        };
        let uid = || store.get(Kind::Job, "job").unwrap().map(|job| job.meta().uid.clone());
        assert_eq!(sync_at(100), None);
        let first = uid().unwrap();

        fs::remove_file(&file).unwrap();
        assert_eq!(sync_at(110), Some(111));
        assert_eq!(uid().as_ref(), Some(&first));
        fs::write(&file, JOB).unwrap();
        assert_eq!(sync_at(110), None);
        assert_eq!(uid().as_ref(), Some(&first));

        // Its absence begins anew, also where the clock was set back since it began.
        fs::remove_file(&file).unwrap();
        assert_eq!(sync_at(112), Some(113));
        assert_eq!(sync_at(50), Some(51));
        assert_eq!(uid().as_ref(), Some(&first));
        assert_eq!(sync_at(51), None);
        assert_eq!(uid(), None);
        assert!(store.get(Kind::Job, "other").unwrap().is_some());
    }
}
