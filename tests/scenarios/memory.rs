//! A store in memory that keeps the rules of the real one: `differential` proves it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use tenure::model::{AnyObject, Event, JobUid, Kind, Runs, Snapshot, Time};
use tenure::store::{Committed, StoreError, Txn};

/// Objects and events.
#[derive(Debug, Default)]
pub struct Memory {
    pub revision: u64,
    pub objects: BTreeMap<(Kind, String), AnyObject>,
    pub events: Vec<Event>,
    holders: BTreeMap<String, (Kind, String)>,
    /// The uids of jobs that were there once.
    departed: BTreeSet<String>,
    /// The last snapshot: what did not change since is shared with it.
    last: Option<Arc<Snapshot>>,
    uids: u64,
}

/// One object before and after a commit.
pub struct Change {
    pub before: Option<AnyObject>,
    pub after: Option<AnyObject>,
}

/// What a busy store says.
pub fn busy() -> StoreError {
    StoreError::Busy { path: PathBuf::from("memory") }
}

impl Memory {
    pub fn get(&self, kind: Kind, name: &str) -> Option<&AnyObject> {
        self.objects.get(&(kind, name.to_owned()))
    }

    /// Writes all of it, or nothing; and tells what changed.
    pub fn commit(&mut self, txn: Txn, now: Time) -> Result<(Committed, Vec<Change>), StoreError> {
        let revision = self.revision + 1;
        // By name, what the transaction has made of it so far.
        let mut staged: BTreeMap<(Kind, String), Option<AnyObject>> = BTreeMap::new();
        for (kind, name, expected) in &txn.deletes {
            let key = (*kind, name.clone());
            let found = self.staged(&staged, &key).map_or(0, |object| object.meta().resource_version);
            if *expected != 0 && *expected != found {
                return Err(StoreError::Conflict { kind: *kind, name: name.clone(), expected: *expected, found });
            }
            if found != 0 {
                staged.insert(key, None);
            }
        }
        let mut written = Vec::with_capacity(txn.puts.len());
        for mut object in txn.puts {
            let key = (object.kind(), object.meta().name.clone());
            let stored = self.staged(&staged, &key);
            let expected = object.meta().resource_version;
            let found = stored.map_or(0, |stored| stored.meta().resource_version);
            if expected != found {
                return Err(StoreError::Conflict { kind: key.0, name: key.1, expected, found });
            }
            match stored {
                None => self.give_birth(&mut object, now),
                Some(before) => {
                    if keep_what_stays(&mut object, before) {
                        written.push(object);
                        continue;
                    }
                }
            }
            object.meta_mut().resource_version = revision;
            self.refuse_unstorable(&staged, &object)?;
            written.push(object.clone());
            staged.insert(key, Some(object));
        }
        if staged.is_empty() && txn.events.is_empty() && txn.notes.is_empty() {
            return Ok((Committed { revision: self.revision, objects: written }, Vec::new()));
        }
        self.revision = revision;
        self.events.extend(txn.events);
        let mut changes = Vec::with_capacity(staged.len());
        // Deletes first: a uid may pass from one name to another.
        for (key, _) in staged.iter().filter(|(_, after)| after.is_none()) {
            let before = self.objects.remove(key);
            if let Some(object) = &before {
                self.holders.remove(&object.meta().uid);
            }
            if let Some(AnyObject::Job(job)) = &before {
                self.departed.insert(job.metadata.uid.clone());
            }
            changes.push(Change { before, after: None });
        }
        for (key, after) in staged.into_iter().filter_map(|(key, after)| Some((key, after?))) {
            self.holders.insert(after.meta().uid.clone(), key.clone());
            let before = self.objects.insert(key, after.clone());
            if let Some(before) = before.as_ref().filter(|before| before.meta().uid != after.meta().uid) {
                self.holders.remove(&before.meta().uid);
                // It was deleted, and another one took its name.
                if before.kind() == Kind::Job {
                    self.departed.insert(before.meta().uid.clone());
                }
            }
            changes.push(Change { before, after: Some(after) });
        }
        Ok((Committed { revision, objects: written }, changes))
    }

    fn staged<'a>(
        &'a self,
        staged: &'a BTreeMap<(Kind, String), Option<AnyObject>>,
        key: &(Kind, String),
    ) -> Option<&'a AnyObject> {
        match staged.get(key) {
            Some(object) => object.as_ref(),
            None => self.objects.get(key),
        }
    }

    fn give_birth(&mut self, object: &mut AnyObject, now: Time) {
        let is_workload = object.kind() == Kind::Workload;
        let meta = object.meta_mut();
        if meta.uid.is_empty() && !is_workload {
            self.uids += 1;
            meta.uid = format!("u{}", self.uids);
        }
        meta.generation = 1;
        meta.creation_timestamp = Some(now);
    }

    fn refuse_unstorable(
        &self,
        staged: &BTreeMap<(Kind, String), Option<AnyObject>>,
        object: &AnyObject,
    ) -> Result<(), StoreError> {
        let (kind, meta) = (object.kind(), object.meta());
        let invalid = |message: String| Err(StoreError::Invalid { kind, name: meta.name.clone(), message });
        if meta.name.is_empty() {
            return invalid("it has no name".to_owned());
        }
        if kind == Kind::Workload && meta.name != meta.uid {
            return invalid(format!("a workload's name is its uid, and this one's uid is {:?}", meta.uid));
        }
        let new_holder = staged.iter().find(|(_, it)| it.as_ref().is_some_and(|it| it.meta().uid == meta.uid));
        let old_holder = self.holders.get(&meta.uid).filter(|key| !matches!(staged.get(*key), Some(None)));
        match new_holder.map(|(key, _)| key).or(old_holder) {
            Some((of, name)) if (*of, name.as_str()) != (kind, meta.name.as_str()) => {
                invalid(format!("its uid {} is that of {of} {name}", meta.uid))
            }
            _ => Ok(()),
        }
    }

    /// What should be, as `Store::snapshot` gives it.
    pub fn snapshot(&mut self) -> Arc<Snapshot> {
        if let Some(snapshot) = self.last.as_ref().filter(|last| last.revision == self.revision) {
            return snapshot.clone();
        }
        let snapshot = Arc::new(self.read(&self.last.clone().unwrap_or_default()));
        self.last = Some(snapshot.clone());
        snapshot
    }

    fn read(&self, last: &Snapshot) -> Snapshot {
        let mut snapshot = Snapshot { revision: self.revision, ..Snapshot::default() };
        let mut runs: BTreeMap<JobUid, Runs> = BTreeMap::new();
        for object in self.objects.values().filter(|object| object.is_active()) {
            match object {
                AnyObject::Flow(flow) => {
                    let name = flow.metadata.name.clone();
                    let shared = shared(flow, last.flows.get(&name));
                    snapshot.flows.insert(name, shared);
                }
                AnyObject::Job(job) => drop(snapshot.jobs.insert(job.uid(), shared(job, last.jobs.get(&job.uid())))),
                AnyObject::StepRun(run) => {
                    runs.entry(run.spec.job_uid.clone()).or_default().push(Arc::new(run.clone()))
                }
                AnyObject::Workload(row) => {
                    drop(snapshot.workloads.insert(row.uid(), shared(row, last.workloads.get(&row.uid()))));
                }
                AnyObject::AgentClass(class) => {
                    let name = class.metadata.name.clone();
                    let shared = shared(class, last.classes.get(&name));
                    snapshot.classes.insert(name, shared);
                }
                AnyObject::Policy(policy) if policy.metadata.name == "default" => {
                    snapshot.policy = policy.spec.clone();
                }
                AnyObject::Ledger(ledger) => {
                    let name = ledger.metadata.name.clone();
                    let shared = shared(ledger, last.ledgers.get(&name));
                    snapshot.ledgers.insert(name, shared);
                }
                AnyObject::Policy(_) | AnyObject::MachineClass(_) => {}
            }
        }
        for object in self.objects.values().filter(|object| !object.is_active()) {
            if let AnyObject::StepRun(run) = object
                && snapshot.jobs.contains_key(&run.spec.job_uid)
            {
                runs.entry(run.spec.job_uid.clone()).or_default().push(Arc::new(run.clone()));
            }
        }
        for (job, mut runs) in runs {
            runs.sort_by(|a, b| a.place().cmp(&b.place()));
            let known = last.runs.get(&job).filter(|known| ***known == runs);
            let runs = known.cloned().unwrap_or_else(|| Arc::new(runs));
            snapshot.runs.insert(job, runs);
        }
        let of_workloads = snapshot.workloads.values().flat_map(|row| &row.spec.owners).map(|owner| &owner.uid);
        let owners: Vec<JobUid> = snapshot.runs.keys().chain(of_workloads).cloned().collect();
        for owner in owners {
            if let Some(AnyObject::Job(job)) = self.holders.get(owner.as_str()).and_then(|key| self.objects.get(key)) {
                let job = shared(job, last.jobs.get(&owner));
                snapshot.jobs.insert(owner, job);
            }
        }
        let mut parents: Vec<JobUid> = snapshot.jobs.values().filter_map(|job| job.parent_uid().cloned()).collect();
        while let Some(uid) = parents.pop() {
            if !snapshot.jobs.contains_key(&uid)
                && let Some(AnyObject::Job(job)) = self.holders.get(uid.as_str()).and_then(|key| self.objects.get(key))
            {
                parents.extend(job.parent_uid().cloned());
                snapshot.jobs.insert(uid.clone(), shared(job, last.jobs.get(&uid)));
            }
        }
        snapshot
    }

    /// What jobs that are no more have left, as `Store::orphans` gives it.
    pub fn orphans(&self) -> Vec<AnyObject> {
        let there = |uid: &JobUid| self.holders.contains_key(uid.as_str());
        let left_behind = |object: &&AnyObject| {
            let of_one = object.owner().is_some_and(|owner| self.departed.contains(owner.as_str()) && !there(owner));
            let of_another = match object {
                AnyObject::Workload(row) => {
                    let asked = row.spec.parent.as_ref().and_then(|adapter| self.get(Kind::Workload, adapter.as_str()));
                    row.spec.owners.iter().any(|owner| there(&owner.uid)) || asked.is_some_and(AnyObject::is_active)
                }
                _ => false,
            };
            of_one && !of_another
        };
        self.objects.values().filter(|object| !object.is_active()).filter(left_behind).cloned().collect()
    }
}

/// Gives an object what no author changes. True: it is as it was.
fn keep_what_stays(object: &mut AnyObject, before: &AnyObject) -> bool {
    let old = before.meta();
    let meta = object.meta_mut();
    meta.uid.clone_from(&old.uid);
    meta.creation_timestamp = old.creation_timestamp;
    meta.generation = old.generation;
    if object == before {
        return true;
    }
    let same_spec = match (&*object, before) {
        (AnyObject::Flow(is), AnyObject::Flow(was)) => is.spec == was.spec,
        (AnyObject::Job(is), AnyObject::Job(was)) => is.spec == was.spec,
        (AnyObject::StepRun(is), AnyObject::StepRun(was)) => is.spec == was.spec,
        (AnyObject::Workload(is), AnyObject::Workload(was)) => is.spec == was.spec,
        (AnyObject::AgentClass(is), AnyObject::AgentClass(was)) => is.spec == was.spec,
        (AnyObject::MachineClass(is), AnyObject::MachineClass(was)) => is.spec == was.spec,
        (AnyObject::Ledger(is), AnyObject::Ledger(was)) => is.spec == was.spec,
        (AnyObject::Policy(is), AnyObject::Policy(was)) => is.spec == was.spec,
        _ => false,
    };
    object.meta_mut().generation += u64::from(!same_spec);
    false
}

/// The same value, in the same place where it was there before.
fn shared<T: Clone + PartialEq>(value: &T, before: Option<&Arc<T>>) -> Arc<T> {
    match before {
        Some(before) if **before == *value => before.clone(),
        _ => Arc::new(value.clone()),
    }
}
