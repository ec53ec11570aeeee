//! What should be, at one revision.

use super::{Store, StoreError, read, rows};
use crate::model::{AnyObject, JobUid, Snapshot};
use rusqlite::{Connection, params};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the controller still has something to do with. Through the partial index.
pub(super) const ACTIVE: &str = "active = 1";

/// What an active job did already.
pub(super) const ENDED_RUNS_OF_ACTIVE_JOBS: &str = "kind = 'StepRun' AND active = 0 AND owner IN \
     (SELECT uid FROM objects WHERE kind = 'Job' AND active = 1)";

/// A job, ended or not.
pub(super) const JOB_OF_UID: &str = "uid = ?1 AND kind = 'Job'";

impl Store {
    /// What should be: all that is active, and the jobs that it refers to. The same `Arc` for as long as nothing changed, by
    /// whomever.
    pub fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        self.check_file()?;
        let mut reader = self.reader();
        let reader = &mut *reader;
        // One read transaction, so that all queries, and the number that says how old they are, see the same commit.
        let txn = reader.connection.unchecked_transaction().map_err(|error| self.sqlite(error))?;
        let version = read::data_version(&txn).map_err(|error| self.sqlite(error))?;
        if let Some((cached, snapshot)) = &reader.cached
            && *cached == version
        {
            return Ok(Arc::clone(snapshot));
        }
        let snapshot = self.load(&txn).map(Arc::new);
        drop(txn);
        reader.cached = snapshot.as_ref().ok().map(|snapshot| (version, Arc::clone(snapshot)));
        snapshot
    }

    fn load(&self, connection: &Connection) -> Result<Snapshot, StoreError> {
        let mut snapshot = Snapshot {
            revision: rows::revision(connection).map_err(|error| self.sqlite(error))?,
            ..Snapshot::default()
        };
        for object in self.objects_on(connection, ACTIVE, [])? {
            add(&mut snapshot, object);
        }
        for object in self.objects_on(connection, ENDED_RUNS_OF_ACTIVE_JOBS, [])? {
            add(&mut snapshot, object);
        }
        for owner in owners(&snapshot) {
            for object in self.objects_on(connection, JOB_OF_UID, params![owner.as_str()])? {
                add(&mut snapshot, object);
            }
        }
        for runs in snapshot.runs.values_mut() {
            runs.sort_by(|a, b| (&a.spec.step, a.spec.attempt).cmp(&(&b.spec.step, b.spec.attempt)));
        }
        Ok(snapshot)
    }
}

/// Jobs that something active refers to, and that are not in the snapshot yet: terminal ones, and those that are no more.
fn owners(snapshot: &Snapshot) -> BTreeSet<JobUid> {
    let of_workloads = snapshot.workloads.values().flat_map(|workload| &workload.spec.owners).map(|owner| &owner.uid);
    let all = snapshot.runs.keys().chain(of_workloads);
    all.filter(|uid| !snapshot.jobs.contains_key(uid)).cloned().collect()
}

fn add(snapshot: &mut Snapshot, object: AnyObject) {
    match object {
        AnyObject::Flow(flow) => {
            snapshot.flows.insert(flow.metadata.name.clone(), flow);
        }
        AnyObject::Job(job) => {
            snapshot.jobs.insert(job.uid(), job);
        }
        AnyObject::StepRun(run) => snapshot.runs.entry(run.spec.job_uid.clone()).or_default().push(run),
        AnyObject::Workload(workload) => {
            snapshot.workloads.insert(workload.uid(), workload);
        }
        AnyObject::AgentClass(class) => {
            snapshot.classes.insert(class.metadata.name.clone(), class);
        }
        // One policy rules an instance, whatever others somebody wrote.
        AnyObject::Policy(policy) => {
            if policy.metadata.name == "default" {
                snapshot.policy = policy.spec;
            }
        }
        AnyObject::MachineClass(_) | AnyObject::Ledger(_) => {}
    }
}
