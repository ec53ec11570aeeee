//! What a job leaves behind in the store and in the state directory, once the job itself is gone: its final runs, its
//! stopped workloads, their transcripts, its own directory. The files first, the rows last: a crash in between is made
//! good the next time, because the rows still say what there was.

use super::{clock, results};
use crate::model::{
    AnyObject, Event, EventType, Job, JobUid, Kind, RunPhase, StepRun, Workload, WorkloadPhase, WorkloadType,
    WorkloadUid,
};
use crate::os::StateDir;
use crate::store::{Store, Txn};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// How many rows are removed at a time.
const BATCH: usize = 500;
/// How many events are kept.
const EVENTS: u64 = 100_000;
/// How many checks of one poll, or of one requirement, are kept.
const CHECKS: usize = 3;

/// Removes what belongs to jobs that are no more, but not the rows of workloads that something was let go of: these say
/// what it is, for as long as it lives.
pub(super) fn tidy(store: &Store, state_dir: &StateDir, let_go: &BTreeSet<WorkloadUid>) {
    if let Err(error) = try_tidy(store, state_dir, let_go) {
        tracing::warn!(%error, "failed to tidy up; it will be tried again");
    }
}

fn try_tidy(store: &Store, state_dir: &StateDir, let_go: &BTreeSet<WorkloadUid>) -> anyhow::Result<()> {
    store.prune_events(EVENTS)?;
    store.prune_notes(results::PREFIX, results::MOST, results::MOST_BYTES)?;
    tidy_checks(store, state_dir, let_go)?;
    delete_expired(store)?;
    let orphans = store.orphans(BATCH)?;
    if orphans.is_empty() {
        store.prune_departed()?;
        return Ok(());
    }
    let mut txn = Txn::default();
    let mut jobs: BTreeSet<JobUid> = BTreeSet::new();
    for orphan in &orphans {
        if let AnyObject::Workload(workload) = orphan {
            if let_go.contains(&workload.uid()) {
                continue;
            }
            remove(&state_dir.log(&workload.uid()))?;
        }
        // A sub-job's own directory goes with it, its parent's with that.
        match orphan {
            AnyObject::Job(job) => drop(jobs.insert(job.uid())),
            _ => jobs.extend(orphan.owner().cloned()),
        }
        let meta = orphan.meta();
        txn = txn.delete(orphan.kind(), &meta.name, meta.resource_version);
    }
    for job in jobs.iter().filter(|job| !job.as_str().is_empty()) {
        // Something of it still runs: its directory goes with the last of it.
        if store.list_owned(job)?.iter().all(|object| !object.is_active()) {
            remove(&state_dir.job(job))?;
        }
    }
    store.commit(txn, clock())?;
    Ok(())
}

/// Of the checks that a job under way makes again and again, all but the last few.
fn tidy_checks(store: &Store, state_dir: &StateDir, let_go: &BTreeSet<WorkloadUid>) -> anyhow::Result<()> {
    let desired = store.snapshot()?;
    let polls = |run: &StepRun| run.status.phase == RunPhase::Suspended && run.status.due_at.is_some();
    let begun = |job: &Job| job.status.started_at.is_some();
    let jobs = desired.jobs_with_runs().filter(|(_, job, runs)| {
        let requires = !begun(job) && !job.status.conditions.is_empty();
        requires || runs.is_some_and(|runs| runs.iter().any(|run| polls(run)))
    });
    for (uid, _, _) in jobs {
        let mut spent: BTreeMap<(Option<String>, Option<String>), Vec<Workload>> = BTreeMap::new();
        for object in store.list_owned(uid)? {
            if let AnyObject::Workload(row) = object
                && row.spec.r#type == WorkloadType::Check
                && row.status.phase == WorkloadPhase::Stopped
                && !let_go.contains(&row.uid())
            {
                spent.entry((row.spec.run.clone(), row.spec.requirement.clone())).or_default().push(row);
            }
        }
        let mut txn = Txn::default();
        for mut rows in spent.into_values() {
            // Their ids are in the order of their making.
            rows.sort_by(|a, b| b.metadata.uid.cmp(&a.metadata.uid));
            for row in rows.into_iter().skip(CHECKS).take(BATCH) {
                remove(&state_dir.log(&row.uid()))?;
                txn = txn.delete(Kind::Workload, &row.metadata.name, row.metadata.resource_version);
            }
        }
        if !txn.is_empty() {
            store.commit(txn, clock())?;
        }
    }
    Ok(())
}

/// Deletes the jobs that are over and whose `ttlAfterFinished` is, and the rows of others' trees that ended long ago. What jobs leave
/// is tidied up from the next time on.
fn delete_expired(store: &Store) -> anyhow::Result<()> {
    let now = clock();
    let expired = store.expired(now, BATCH)?;
    if expired.is_empty() {
        return Ok(());
    }
    let mut txn = Txn::default();
    for object in expired {
        let (kind, meta) = (object.kind(), object.meta());
        let message = match kind {
            Kind::Workload => "it had ended longer ago than such rows are kept",
            _ => "it had ended longer ago than its `ttlAfterFinished`",
        };
        txn = txn.event(Event {
            id: 0,
            time: now,
            kind,
            name: meta.name.clone(),
            r#type: EventType::Normal,
            reason: "Expired".into(),
            message: message.to_owned(),
            details: serde_json::Value::Null,
        });
        txn = txn.delete(kind, &meta.name, meta.resource_version);
    }
    store.commit(txn, now)?;
    Ok(())
}

fn remove(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io::Error::new(error.kind(), format!("{}: {error}", dir.display())))
        }
        _ => Ok(()),
    }
}
