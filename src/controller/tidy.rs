//! What a job leaves behind in the store and in the state directory, once the job itself is gone: its final runs, its
//! stopped workloads, their transcripts, its own directory. The files first, the rows last: a crash in between is made
//! good the next time, because the rows still say what there was.

use super::clock;
use crate::act::Tools;
use crate::model::{AnyObject, JobUid};
use crate::store::Txn;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// How many rows are removed at a time.
const BATCH: usize = 500;
/// How many events are kept.
const EVENTS: u64 = 100_000;

/// Removes what belongs to jobs that are no more.
pub(super) fn tidy(tools: &Tools) {
    if let Err(error) = try_tidy(tools) {
        tracing::warn!(%error, "failed to tidy up; it will be tried again");
    }
}

fn try_tidy(tools: &Tools) -> anyhow::Result<()> {
    tools.store.prune_events(EVENTS)?;
    let orphans = tools.store.orphans(BATCH)?;
    if orphans.is_empty() {
        tools.store.prune_departed()?;
        return Ok(());
    }
    let mut txn = Txn::default();
    let mut jobs: BTreeSet<JobUid> = BTreeSet::new();
    for orphan in &orphans {
        jobs.extend(orphan.owner().cloned());
        if let AnyObject::Workload(workload) = orphan {
            remove(&tools.state_dir.log(&workload.uid()))?;
        }
        let meta = orphan.meta();
        txn = txn.delete(orphan.kind(), &meta.name, meta.resource_version);
    }
    for job in jobs.iter().filter(|job| !job.as_str().is_empty()) {
        // Something of it still runs: its directory goes with the last of it.
        if tools.store.list_owned(job)?.iter().all(|object| !object.is_active()) {
            remove(&tools.state_dir.job(job))?;
        }
    }
    tools.store.commit(txn, clock())?;
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
