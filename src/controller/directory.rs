//! The watched directories: files → objects in the store.
//!
//! Events of the file system are hints. What counts is a whole listing, hashed: a file that changed is parsed, and what it
//! gives replaces what it gave. A file that cannot be understood, a directory that cannot be read, or one that is empty
//! and is not the one that was read before, changes nothing: unknown is not missing.

use super::load::{self, Loaded};
use crate::model::{
    AnyObject, Condition, Diagnostic, Event, EventType, Kind, Reading, SOURCE_ANNOTATION, Severity, Time,
};
use crate::store::{Store, StoreError, Txn};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The largest manifest that is read, in bytes.
const FILE_MAX: u64 = 4 << 20;

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
}

/// One file of a listing.
struct FileSeen {
    path: PathBuf,
    text: Vec<u8>,
    hash: String,
}

/// One whole listing of a directory.
struct Listing {
    identity: (u64, u64),
    /// By path below the directory.
    files: BTreeMap<String, FileSeen>,
}

/// Brings the store in line with one directory.
///
/// `Unknown`: the directory could not be read as a whole; nothing was changed.
///
/// # Errors
/// The store's; a conflict means that somebody else wrote meanwhile: try again.
pub(super) fn sync(dir: &Path, store: &Store, now: Time) -> Result<Reading<()>, StoreError> {
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
            Some(record) if record.hash == seen.hash && !sync.lost_some(record)? => record.clone(),
            _ => sync.file(name, seen, record)?,
        };
        for object in &record.objects {
            sync.given.insert(object.clone(), name.clone());
        }
        after.files.insert(name.clone(), record);
    }
    for (name, record) in &before.files {
        sync.remove_absent(name, record, after.files.get(name))?;
    }
    if after != before {
        let text = serde_json::to_string(&after).unwrap_or_default();
        let txn = std::mem::take(&mut sync.txn).meta(key, text);
        store.commit(txn, now)?;
    }
    Ok(Reading::Known(()))
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
            return Ok(FileRecord { hash: seen.hash.clone(), objects: kept });
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
        Ok(FileRecord { hash: seen.hash.clone(), objects })
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
    Diagnostic {
        severity: Severity::Error,
        file: path.display().to_string(),
        line: 1,
        column: 1,
        source_line: String::new(),
        message: "the file is empty, as a file that is being written is".into(),
        help: Some("remove the file to remove its objects".into()),
    }
}

/// Every manifest below a directory: its own, and the `FLOW.yaml` of each directory in it.
fn list(dir: &Path) -> io::Result<Listing> {
    let meta = fs::metadata(dir)?;
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_hidden(&name) {
            continue;
        }
        let path = entry.path();
        let (name, path) = if path.is_dir() {
            (format!("{name}/FLOW.yaml"), path.join("FLOW.yaml"))
        } else if is_manifest(&name) {
            (name, path)
        } else {
            continue;
        };
        match read(&path) {
            Ok(text) => {
                let hash = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
                files.insert(name, FileSeen { path, text, hash });
            }
            // Gone between the listing and the reading, or a directory without a flow.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }
    Ok(Listing { identity: (meta.dev(), meta.ino()), files })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let length = fs::metadata(path)?.len();
    if length > FILE_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{length} bytes, and the most that is read is {FILE_MAX}"),
        ));
    }
    fs::read(path)
}

fn is_manifest(name: &str) -> bool {
    [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end))
}

/// What editors and mounts leave beside the files themselves.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name.ends_with('~') || name.ends_with(".swp") || name == "4913"
}
