//! Whether a workload is wanted, with the evidence.

use super::{Action, Case, Line};
use crate::model::{Cause, Job, JobTable, Owner, RunPhase, Snapshot, Workload, WorkloadPhase, WorkloadUid};
use std::sync::Arc;

/// Whether a workload is entitled to its processes.
#[derive(Debug, Clone, PartialEq)]
pub enum Want {
    /// This owner needs it.
    Yes(Arc<Job>),
    /// Nobody does: why, in words.
    No(Cause, String),
}

/// A workload is wanted while at least one owner exists, is not terminal, and still needs it.
pub fn want(row: &Workload, desired: &Snapshot) -> Want {
    want_of(row, desired, &JobTable::of_owners(row, desired))
}

/// The same, for who asks it of many workloads.
pub(super) fn want_of(row: &Workload, desired: &Snapshot, jobs: &JobTable<'_>) -> Want {
    if let Some(cause) = row.status.cause {
        return Want::No(cause, row.status.message.clone().unwrap_or_else(|| cause.as_str().into()));
    }
    let living = match living_owner(row, jobs) {
        Ok(job) => job,
        Err(no) => return no,
    };
    if let (Some(name), Some(_)) = (&row.spec.requirement, living.status.started_at) {
        let message = format!("job {} has begun: nobody asks for `{name}` any more", living.metadata.name);
        return Want::No(Cause::NoLongerNeeded, message);
    }
    if let Some(no) = let_go(row, desired, jobs) {
        return no;
    }
    Want::Yes(living.clone())
}

/// An owner that is entitled to processes, or why there is none.
fn living_owner<'a>(row: &Workload, jobs: &JobTable<'a>) -> Result<&'a Arc<Job>, Want> {
    let job_of = |owner: &Owner| jobs.job(&owner.uid);
    let living = |job: &&Arc<Job>| !job.status.phase.is_terminal() && !is_deleted(job);
    if let Some(job) = row.spec.owners.iter().filter_map(job_of).find(living) {
        return Ok(job);
    }
    let owners: Vec<_> = row.spec.owners.iter().map(|owner| (owner, job_of(owner))).collect();
    let missing = owners.is_empty() || owners.iter().any(|(_, job)| job.is_none_or(|job| is_deleted(job)));
    let words: Vec<String> = owners
        .iter()
        .map(|(owner, job)| match job {
            None => format!("job {} is missing", owner.name),
            Some(job) if is_deleted(job) => format!("job {} is deleted", owner.name),
            Some(job) => {
                let phase = job.status.phase.as_str();
                let reason = job.status.reason.as_deref().filter(|reason| *reason != phase);
                let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                format!("job {} is {phase}{reason}", owner.name)
            }
        })
        .collect();
    let words = if words.is_empty() { "it has no owner".to_owned() } else { words.join(", ") };
    Err(Want::No(if missing { Cause::OwnerMissing } else { Cause::OwnerTerminal }, words))
}

fn is_deleted(job: &Job) -> bool {
    job.metadata.deletion_timestamp.is_some()
}

/// Why a living owner needs this workload no more, if so.
fn let_go(row: &Workload, desired: &Snapshot, jobs: &JobTable<'_>) -> Option<Want> {
    let no = |message: String| Some(Want::No(Cause::NoLongerNeeded, message));
    if row.spec.released {
        return no("the agent released it".into());
    }
    if let Some(parent) = &row.spec.parent {
        match desired.workloads.get(parent) {
            None => return no(format!("the adapter that asked for it, {parent}, is gone")),
            Some(parent_row) if parent_row.status.phase == WorkloadPhase::Stopping => {
                return no(format!("the adapter that asked for it, {parent}, is being stopped"));
            }
            Some(_) => {}
        }
    }
    let name = row.spec.run.as_ref()?;
    let run = row.spec.owners.iter().find_map(|owner| jobs.run(&owner.uid, name));
    match run {
        None => no(format!("run {name} is missing")),
        Some(run) if run.status.phase.is_final() => no(format!("run {name} is {}", run.status.phase.as_str())),
        Some(run) if run.status.workload.as_ref().map(WorkloadUid::as_str) != Some(row.metadata.uid.as_str()) => {
            no(format!("run {name} is worked on by another workload"))
        }
        // Between two checks, or before the next try.
        Some(run) if run.status.phase != RunPhase::Running => {
            no(format!("run {name} is {}", run.status.phase.as_str()))
        }
        Some(_) => None,
    }
}

/// The line of what carries our mark and has no row.
pub(super) fn without_row(case: Case<'_>) -> Line {
    let living = case.living().count();
    let residue = case.seen.run_dir || case.seen.cgroup;
    let let_go = case.seen.let_go.len();
    match (living, case.seen.processes.len(), residue) {
        (0, 0, false) if let_go > 0 => Line::Held(format!("{let_go} let go by `tenure detach`").into(), None),
        (0, 0, false) => Line::Held("nothing of it is there".into(), None),
        (0, protected, _) if protected > 0 => {
            Line::Held(format!("{protected} processes of it match a `protect` pattern: let go").into(), None)
        }
        (0, _, true) => Line::Act(Action::Adopt, "it has no row, and left something behind".into()),
        (living, _, _) => Line::Act(Action::Adopt, format!("it has no row, and {living} living processes")),
    }
}
