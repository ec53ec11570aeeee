//! The second opinion: what must never be in a plan, stated without a look at how plans are made.

use super::{Action, Bounds, Plan};
use crate::model::{Breadth, Observed, ProcId, Reading, SeenProcess, Snapshot, WorkloadUid};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// Who may be signalled at all.
#[derive(Debug, Clone, PartialEq)]
pub struct Guard<'a> {
    /// What bounds the plan.
    pub bounds: &'a Bounds,
    /// The user that the controller runs as; only root may signal others' processes.
    pub user: u32,
}

/// A rule that a plan breaks. Such a plan is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// Pid 1, the controller, or one of its ancestors.
    #[error("the plan would signal {0}, which is pid 1, the controller, or one of its ancestors")]
    Self_(ProcId),
    /// A process that matches a `protect` pattern.
    #[error("the plan would signal {0}, which is protected")]
    Protected(ProcId),
    /// A process that this look did not find by a mark of that workload.
    #[error("the plan would signal {0}, which was not seen with a mark of workload {1}")]
    NotSeen(ProcId, WorkloadUid),
    /// A process of another user.
    #[error("the plan would signal {0}, which is a process of user {1}")]
    OtherUser(ProcId, u32),
    /// A process of a workload that a living job owns, and that is not condemned.
    #[error("the plan would signal {0} of workload {1}, which is wanted by job {2}")]
    Wanted(ProcId, WorkloadUid, String),
    /// Something is concluded from absence, and the look was not at the whole host.
    #[error("the plan would {1} workload {0} after a look that was not at the whole host")]
    Narrow(WorkloadUid, &'static str),
    /// Something is ended although the gate is closed or the process table unknown.
    #[error("the plan would end workload {0} although {1}")]
    Gate(WorkloadUid, String),
}

/// Checks a plan against the never-rules.
///
/// # Errors
/// The first rule that it breaks.
pub fn check(plan: &Plan, desired: &Snapshot, observed: &Observed, guard: &Guard<'_>) -> Result<(), Violation> {
    for (uid, action, _) in plan.actions() {
        let trees = match (&observed.workloads, &guard.bounds.gate) {
            (Reading::Known(trees), Reading::Known(())) => trees,
            (Reading::Unknown(why), _) | (_, Reading::Unknown(why)) => {
                if action.is_ending() {
                    return Err(Violation::Gate(uid.clone(), why.clone()));
                }
                continue;
            }
        };
        let living = trees.get(uid).is_some_and(|tree| !tree.processes.is_empty());
        let from_absence = match action {
            Action::Start | Action::Clean => true,
            // Whatever else is begun without a living process rests on there being none.
            Action::Adopt | Action::Stop { .. } => !living,
            Action::NoteRunning { .. } | Action::Condemn { .. } | Action::Send { .. } => false,
        };
        if from_absence && observed.breadth == Breadth::Own {
            return Err(Violation::Narrow(uid.clone(), action.as_str()));
        }
        let seen = trees.get(uid).map(|tree| tree.processes.as_slice()).unwrap_or_default();
        let targets: BTreeSet<&ProcId> = action.targets().iter().collect();
        let seen: BTreeMap<&ProcId, &SeenProcess> = if targets.is_empty() {
            BTreeMap::new()
        } else {
            seen.iter().map(|process| (&process.id, process)).collect()
        };
        for target in targets {
            let process = seen.get(target).ok_or_else(|| Violation::NotSeen(*target, uid.clone()))?;
            if target.pid.get() == 1 || guard.bounds.selves.contains(&target.pid) {
                return Err(Violation::Self_(*target));
            }
            if guard.bounds.protected.contains(target) {
                return Err(Violation::Protected(*target));
            }
            if guard.user != 0 && process.user != guard.user {
                return Err(Violation::OtherUser(*target, process.user));
            }
        }
        check_unwanted(uid, action, desired)?;
    }
    Ok(())
}

/// Only what is condemned, let go, or without a living owner may be ended.
fn check_unwanted(uid: &WorkloadUid, action: &Action, desired: &Snapshot) -> Result<(), Violation> {
    let (Some(row), Some(target)) = (desired.workloads.get(uid), action.targets().first()) else { return Ok(()) };
    let condemned = row.status.cause.is_some();
    let bound_to_a_run_or_adapter = row.spec.run.is_some() || row.spec.parent.is_some();
    let living = row
        .spec
        .owners
        .iter()
        .filter_map(|owner| desired.jobs.get(&owner.uid))
        .find(|job| !job.status.phase.is_terminal() && job.metadata.deletion_timestamp.is_none());
    match living {
        Some(job) if !condemned && !bound_to_a_run_or_adapter => {
            Err(Violation::Wanted(*target, uid.clone(), job.metadata.name.clone()))
        }
        _ => Ok(()),
    }
}
