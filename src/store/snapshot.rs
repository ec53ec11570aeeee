//! What should be, at one revision.

use super::changes::Touched;
use super::{Cached, Store, StoreError, read, rows};
use crate::model::{AnyObject, JobUid, Kind, PolicySpec, Runs, Snapshot, StepRun};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeSet;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// What the controller still has something to do with. Through the partial index.
pub(super) const ACTIVE: &str = "active = 1";

/// What an active job did already.
pub(super) const ENDED_RUNS_OF_ACTIVE_JOBS: &str = "kind = 'StepRun' AND active = 0 AND owner IN \
     (SELECT uid FROM objects WHERE kind = 'Job' AND active = 1)";

/// A job, ended or not.
pub(super) const JOB_OF_UID: &str = "uid = ?1 AND kind = 'Job'";

/// An object, if it is active.
pub(super) const ACTIVE_OF_NAME: &str = "kind = ?1 AND name = ?2 AND active = 1";

/// All runs of a job.
pub(super) const RUNS_OF_JOB: &str = "owner = ?1 AND kind = 'StepRun'";

/// Those that are not final.
pub(super) const ACTIVE_RUNS_OF_JOB: &str = "owner = ?1 AND kind = 'StepRun' AND active = 1";

/// One run.
pub(super) const RUN_OF_NAME: &str = "kind = 'StepRun' AND name = ?1";

impl Store {
    /// What should be: all that is active, and the jobs that it refers to. The same `Arc` for as long as nothing changed, by
    /// whomever; and after a commit of ours, only the rows that it wrote are read.
    pub fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        self.check_file()?;
        let mut reader = self.reader();
        let reader = &mut *reader;
        let sqlite = |error| self.sqlite(error);
        if let Some(cached) = &reader.cached
            && cached.version == read::data_version(&reader.connection).map_err(sqlite)?
        {
            return Ok(Arc::clone(&cached.snapshot));
        }
        // Asked before the rows are read: what a stranger writes from here on is told the next time as well.
        let strangers = self.strangers()?;
        // One read transaction, so that all queries, and the number that says how old they are, see the same commit.
        let txn = reader.connection.unchecked_transaction().map_err(sqlite)?;
        let version = read::data_version(&txn).map_err(sqlite)?;
        let revision = rows::revision(&txn).map_err(sqlite)?;
        // Gone if this fails: then everything is read the next time.
        let (snapshot, strangers) = match reader.cached.take() {
            Some(cached) => match self.own_changes(cached.strangers, cached.snapshot.revision, revision)? {
                Some(changes) => {
                    let mut snapshot = cached.snapshot;
                    // Copies nothing, unless somebody still holds the last one.
                    let renewed = Arc::make_mut(&mut snapshot);
                    renewed.revision = revision;
                    self.renew(&txn, renewed, changes)?;
                    (snapshot, cached.strangers)
                }
                None => (Arc::new(self.load(&txn)?), strangers),
            },
            None => (Arc::new(self.load(&txn)?), strangers),
        };
        drop(txn);
        reader.cached = Some(Cached { version, strangers, snapshot: Arc::clone(&snapshot) });
        Ok(snapshot)
    }

    /// Everything.
    pub(super) fn load(&self, connection: &Connection) -> Result<Snapshot, StoreError> {
        let mut snapshot = Snapshot {
            revision: rows::revision(connection).map_err(|error| self.sqlite(error))?,
            ..Snapshot::default()
        };
        for condition in [ACTIVE, ENDED_RUNS_OF_ACTIVE_JOBS] {
            for object in self.objects_on(connection, condition, [])? {
                add(&mut snapshot, object);
            }
        }
        for owner in owners(&snapshot) {
            self.add_job(connection, &mut snapshot, &owner)?;
        }
        let parents: Vec<JobUid> = snapshot.jobs.values().filter_map(|job| job.parent_uid().cloned()).collect();
        for parent in parents {
            self.add_with_parents(connection, &mut snapshot, parent)?;
        }
        snapshot.runs.values_mut().for_each(sort);
        Ok(snapshot)
    }

    /// Makes the snapshot that of a later revision, by the rows that were changed meanwhile.
    fn renew(&self, connection: &Connection, snapshot: &mut Snapshot, changes: Vec<Touched>) -> Result<(), StoreError> {
        let changes: BTreeSet<Touched> = changes.into_iter().collect();
        // Jobs that may have come to belong into the snapshot, or not to.
        let mut jobs: BTreeSet<JobUid> = BTreeSet::new();
        // Jobs whose runs are read anew as a whole: which of them belong depends on whether the job is active.
        let mut whole: BTreeSet<&JobUid> = BTreeSet::new();
        // In the order of the variants: each job before its runs.
        for change in &changes {
            match change {
                Touched::Job(uid, turned) => {
                    let before = snapshot.jobs.remove(uid);
                    jobs.extend(before.and_then(|job| job.parent_uid().cloned()));
                    if *turned {
                        self.renew_runs(connection, snapshot, uid)?;
                        whole.insert(uid);
                    }
                    jobs.insert(uid.clone());
                }
                Touched::Run(job, name) => {
                    if !whole.contains(job) {
                        self.renew_run(connection, snapshot, job, name)?;
                    }
                    jobs.insert(job.clone());
                }
                Touched::Workload(uid) => {
                    let before = snapshot.workloads.remove(uid);
                    let parameters = params![Kind::Workload.as_str(), uid.as_str()];
                    for object in self.objects_on(connection, ACTIVE_OF_NAME, parameters)? {
                        add(snapshot, object);
                    }
                    let after = snapshot.workloads.get(uid);
                    let owners = before.iter().chain(after).flat_map(|workload| &workload.spec.owners);
                    jobs.extend(owners.map(|owner| owner.uid.clone()));
                }
                Touched::Other(kind, name) => {
                    remove_other(snapshot, *kind, name);
                    for object in self.objects_on(connection, ACTIVE_OF_NAME, params![kind.as_str(), name])? {
                        add(snapshot, object);
                    }
                }
            }
        }
        self.renew_jobs(connection, snapshot, jobs)
    }

    fn renew_runs(&self, connection: &Connection, snapshot: &mut Snapshot, job: &JobUid) -> Result<(), StoreError> {
        let condition = if self.is_active_job(connection, job)? { RUNS_OF_JOB } else { ACTIVE_RUNS_OF_JOB };
        snapshot.runs.remove(job);
        for object in self.objects_on(connection, condition, [job.as_str()])? {
            add(snapshot, object);
        }
        snapshot.runs.get_mut(job).into_iter().for_each(sort);
        Ok(())
    }

    fn renew_run(
        &self,
        connection: &Connection,
        snapshot: &mut Snapshot,
        job: &JobUid,
        name: &str,
    ) -> Result<(), StoreError> {
        let found = self.objects_on(connection, RUN_OF_NAME, [name])?;
        let belongs = |run: &StepRun| run.spec.job_uid == *job;
        match found.into_iter().next() {
            Some(AnyObject::StepRun(run))
                if belongs(&run) && (!run.status.phase.is_final() || self.is_active_job(connection, job)?) =>
            {
                snapshot.put_run(run);
            }
            _ => snapshot.remove_run(job, name),
        }
        Ok(())
    }

    /// Which of these jobs belong into the snapshot: those that are active, and those that something in it refers to.
    fn renew_jobs(
        &self,
        connection: &Connection,
        snapshot: &mut Snapshot,
        jobs: BTreeSet<JobUid>,
    ) -> Result<(), StoreError> {
        let mut ended = BTreeSet::new();
        let mut open: Vec<JobUid> = jobs.into_iter().collect();
        while let Some(uid) = open.pop() {
            if ended.contains(&uid) {
                continue;
            }
            if snapshot.runs.contains_key(&uid) || self.is_active_job(connection, &uid)? {
                self.add_with_parents(connection, snapshot, uid)?;
                continue;
            }
            // Where it goes, its parent may have nothing left to be there for.
            self.add_missing_job(connection, snapshot, &uid)?;
            open.extend(snapshot.jobs.get(&uid).and_then(|job| job.parent_uid().cloned()));
            ended.insert(uid);
        }
        if ended.is_empty() {
            return Ok(());
        }
        for uid in ended.difference(&held(snapshot, &ended)) {
            snapshot.jobs.remove(uid);
        }
        Ok(())
    }

    /// A job with its parents, up the chain: of one that is there already, they are there, too.
    fn add_with_parents(
        &self,
        connection: &Connection,
        snapshot: &mut Snapshot,
        uid: JobUid,
    ) -> Result<(), StoreError> {
        let mut next = Some(uid);
        while let Some(uid) = next.take_if(|uid| !snapshot.jobs.contains_key(uid)) {
            self.add_job(connection, snapshot, &uid)?;
            next = snapshot.jobs.get(&uid).and_then(|job| job.parent_uid().cloned());
        }
        Ok(())
    }

    fn add_missing_job(
        &self,
        connection: &Connection,
        snapshot: &mut Snapshot,
        uid: &JobUid,
    ) -> Result<(), StoreError> {
        if snapshot.jobs.contains_key(uid) { Ok(()) } else { self.add_job(connection, snapshot, uid) }
    }

    fn add_job(&self, connection: &Connection, snapshot: &mut Snapshot, uid: &JobUid) -> Result<(), StoreError> {
        for object in self.objects_on(connection, JOB_OF_UID, [uid.as_str()])? {
            add(snapshot, object);
        }
        Ok(())
    }

    fn is_active_job(&self, connection: &Connection, uid: &JobUid) -> Result<bool, StoreError> {
        let read = || {
            connection
                .prepare_cached("SELECT active FROM objects WHERE uid = ?1 AND kind = 'Job'")?
                .query_row([uid.as_str()], |row| row.get(0))
                .optional()
        };
        Ok(read().map_err(|error| self.sqlite(error))?.unwrap_or(false))
    }
}

/// Jobs that something active refers to, and that are not in the snapshot yet: terminal ones, and those that are no more.
fn owners(snapshot: &Snapshot) -> BTreeSet<JobUid> {
    let of_workloads = snapshot.workloads.values().flat_map(|workload| &workload.spec.owners).map(|owner| &owner.uid);
    let all = snapshot.runs.keys().chain(of_workloads);
    all.filter(|uid| !snapshot.jobs.contains_key(uid)).cloned().collect()
}

/// Those of the jobs that have ended that are there for something: for a workload, or as a parent.
fn held(snapshot: &Snapshot, ended: &BTreeSet<JobUid>) -> BTreeSet<JobUid> {
    let owners = snapshot.workloads.values().flat_map(|workload| &workload.spec.owners).map(|owner| &owner.uid);
    let children = snapshot.jobs.iter().filter(|(uid, _)| !ended.contains(uid));
    let parents = children.filter_map(|(_, job)| job.parent_uid());
    let mut open: Vec<&JobUid> = owners.chain(parents).filter(|uid| ended.contains(uid)).collect();
    let mut held = BTreeSet::new();
    while let Some(uid) = open.pop() {
        if held.insert(uid.clone()) {
            let parent = snapshot.jobs.get(uid).and_then(|job| job.parent_uid());
            open.extend(parent.filter(|parent| ended.contains(parent)));
        }
    }
    held
}

fn add(snapshot: &mut Snapshot, object: AnyObject) {
    match object {
        AnyObject::Flow(flow) => {
            snapshot.flows.insert(flow.metadata.name.clone(), Arc::new(flow));
        }
        AnyObject::Job(job) => {
            snapshot.jobs.insert(job.uid(), Arc::new(job));
        }
        AnyObject::StepRun(run) => {
            Arc::make_mut(snapshot.runs.entry(run.spec.job_uid.clone()).or_default()).push(Arc::new(run));
        }
        AnyObject::Workload(workload) => {
            snapshot.workloads.insert(workload.uid(), Arc::new(workload));
        }
        AnyObject::AgentClass(class) => {
            snapshot.classes.insert(class.metadata.name.clone(), Arc::new(class));
        }
        // One policy rules an instance, whatever others somebody wrote.
        AnyObject::Policy(policy) => {
            if policy.metadata.name == "default" {
                snapshot.policy = policy.spec;
            }
        }
        AnyObject::Ledger(ledger) => {
            snapshot.ledgers.insert(ledger.metadata.name.clone(), Arc::new(ledger));
        }
        AnyObject::MachineClass(_) => {}
    }
}

fn sort(runs: &mut Arc<Runs>) {
    Arc::make_mut(runs).sort_by(|a, b| a.place().cmp(&b.place()));
}

fn remove_other(snapshot: &mut Snapshot, kind: Kind, name: &str) {
    match kind {
        Kind::Flow => {
            snapshot.flows.remove(name);
        }
        Kind::AgentClass => {
            snapshot.classes.remove(name);
        }
        Kind::Ledger => {
            snapshot.ledgers.remove(name);
        }
        Kind::Policy if name == "default" => snapshot.policy = PolicySpec::default(),
        Kind::Policy | Kind::Job | Kind::StepRun | Kind::Workload | Kind::MachineClass => {}
    }
}
