//! The second opinion: what must never be in a plan, stated without a look at how plans are made.

use super::{Action, Bounds, ForeignCase, ForeignGuard, ForeignPlan, Plan};
use crate::model::{
    Breadth, Foreign, ForeignCause, ForeignVerdict, Observed, ProcId, Reading, SeenProcess, Snapshot, WorkloadUid,
};
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
    /// A process with a mark, or of another workload, for a tree that others started.
    #[error("the plan would signal {0} for workload {1}, which others started, and it is not theirs")]
    Ours(ProcId, WorkloadUid),
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
            let is_others = desired.workloads.get(uid).is_some_and(|row| row.spec.foreign.is_some());
            let elsewhere =
                || trees.iter().any(|(of, tree)| of != uid && tree.processes.iter().any(|it| it.id == *target));
            if is_others && (process.marks.environment || process.marks.cgroup || elsewhere()) {
                return Err(Violation::Ours(*target, uid.clone()));
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

/// A rule that a condemnation breaks. It is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the plan would condemn the tree of {root}, {why} (please report this)")]
pub struct ForeignViolation {
    /// The root.
    pub root: ProcId,
    /// Which.
    pub why: String,
}

/// Checks a plan for what others started against the never-rules: every condemnation that breaks one.
pub fn check_foreign(plan: &ForeignPlan, case: &ForeignCase<'_>, guard: &ForeignGuard<'_>) -> Vec<ForeignViolation> {
    let budget = u64::from(case.desired.policy.max_reaps_per_minute);
    let mut spent = u64::try_from(case.recent).unwrap_or(u64::MAX);
    let mut violations = Vec::new();
    for (root, ..) in plan.condemned() {
        spent = spent.saturating_add(1);
        let why = if spent > budget {
            Some(format!("which is more than {budget} within a minute"))
        } else {
            broken_rule(root, case, guard)
        };
        violations.extend(why.map(|why| ForeignViolation { root, why }));
    }
    violations
}

/// The rule that the condemnation of this root breaks, in words.
fn broken_rule(root: ProcId, case: &ForeignCase<'_>, guard: &ForeignGuard<'_>) -> Option<String> {
    let because = |why: &str| Some(why.to_owned());
    if case.desired.policy.foreign != Foreign::Reap {
        return because("and the policy does not say `foreign: Reap`");
    }
    let (Reading::Known(ours), Reading::Known(())) = (&case.observed.workloads, &case.bounds.gate) else {
        return because("and not all is known that has to be");
    };
    let Some(tree) = case.trees.iter().find(|tree| tree.root == root) else {
        return because("which was not seen");
    };
    let has_proof =
        matches!(tree.cause, ForeignCause::OwnerTerminal | ForeignCause::OwnerMissing | ForeignCause::Orphaned);
    if tree.verdict != ForeignVerdict::Reap || !has_proof {
        return because("and there is no proof that nobody needs it");
    }
    if guard.user != 0 && tree.user != guard.user {
        return because("which is another user's");
    }
    for id in tree.processes.iter().copied().chain([root]) {
        let what = if id.pid.get() == 1 || guard.selves.contains(&id.pid) || case.bounds.selves.contains(&id.pid) {
            "is process 1, the controller, or one of its ancestors"
        } else if guard.protected.contains(&id) || case.bounds.protected.contains(&id) {
            "is protected"
        } else if guard.marked.contains(&id) {
            "carries a mark of a tenure"
        } else if ours.values().any(|tree| tree.processes.iter().any(|process| process.id == id)) {
            "belongs to a workload"
        } else {
            continue;
        };
        return Some(format!("of which {} {what}", id.pid));
    }
    let has_row = case.desired.workloads.values().filter_map(|row| row.spec.foreign.as_ref());
    let mut of_this_boot = has_row.filter(|it| it.boot_id == *case.boot_id);
    of_this_boot.any(|it| it.root == root).then(|| "which has a row already".to_owned())
}
