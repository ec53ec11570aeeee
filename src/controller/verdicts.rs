//! What follows for processes from what settling the jobs decides: the first stage of each end, in the same transaction.
//!
//! A pass that settled something ends there, and the next one looks anew. Only this much is anticipated, because the time from
//! a job's end to the end of its processes is the promise: the plan of the settled state is made on the look at hand, and
//! its stops are recorded with the jobs. All else waits for the next pass.

use super::settle::World;
use crate::act::{Verdict, staged, tell};
use crate::model::{AnyObject, Cause, Job, Kind, ProcId, Snapshot, Stage, Workload, WorkloadUid};
use crate::plan::{self, Action, Guard, Violation};
use crate::store::Txn;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// How many processes are held by descriptors at most, before a commit; the rest are opened after it.
const HELD: usize = 256;

/// What is to be done about one workload once its verdict is committed.
#[derive(Debug, Clone, PartialEq)]
pub enum Send {
    /// SIGTERM to these: held before the commit, so that it can leave at once after it.
    Terminate(Stage, Vec<ProcId>),
    /// This.
    Other(Action),
}

/// Adds to a transaction the stops that follow from it, and gives what is to be done once it is committed.
pub(super) fn follow(mut txn: Txn, world: &World<'_>) -> Result<(Txn, Vec<(WorkloadUid, Send)>), Violation> {
    let settled = with(world.desired, &txn);
    let plan = plan::diff(&settled, world.observed, world.acts, world.bounds, world.now);
    plan::check(&plan, &settled, world.observed, &Guard { bounds: world.bounds, user: world.user })?;
    let mut written: BTreeSet<String> = txn.puts.iter().map(|object| object.meta().uid.clone()).collect();
    let (mut sends, mut free) = (Vec::new(), HELD);
    for (uid, action, _) in plan.actions() {
        let Action::Stop { stage, cause, message, targets, processes, held_bytes } = action else { continue };
        // What has nothing to be signalled is in no hurry, and what is written already is not written twice.
        if matches!(stage, Stage::Clean) || written.contains(uid.as_str()) {
            continue;
        }
        let Some(row) = world.desired.workloads.get(uid) else { continue };
        // An owner that has ended may be wanted to go on, since it was read: it is written as it is, so that this is a conflict.
        if matches!(*cause, Cause::OwnerTerminal | Cause::OwnerMissing) {
            for owner in row.spec.owners.iter().filter_map(|owner| world.desired.jobs.get(&owner.uid)) {
                if written.insert(owner.metadata.uid.clone()) {
                    txn = txn.put(AnyObject::Job(Job::clone(owner)));
                }
            }
        }
        let verdict = Verdict { cause: *cause, message, processes, held_bytes: *held_bytes };
        let (row, event) = staged(Workload::clone(row), *stage, &verdict, world.now);
        tell(uid, *cause, &event.message);
        txn = txn.put(AnyObject::Workload(row)).event(event);
        let send = match stage {
            Stage::Terminate { .. } if targets.len() <= free => {
                free -= targets.len();
                Send::Terminate(*stage, targets.clone())
            }
            _ => Send::Other(Action::Send { stage: *stage, targets: targets.clone() }),
        };
        sends.push((uid.clone(), send));
    }
    Ok((txn, sends))
}

/// What should be, once a transaction is committed.
fn with(desired: &Snapshot, txn: &Txn) -> Snapshot {
    let mut settled = desired.clone();
    let runs = txn.deletes.iter().filter(|(kind, _, _)| *kind == Kind::StepRun);
    let gone: HashSet<&str> = runs.map(|(_, name, _)| name.as_str()).collect();
    if !gone.is_empty() {
        for run in desired.all_runs().filter(|run| gone.contains(run.metadata.name.as_str())) {
            settled.remove_run(&run.spec.job_uid, &run.metadata.name);
        }
    }
    for object in &txn.puts {
        match object {
            AnyObject::Job(job) => {
                settled.jobs.insert(job.uid(), Arc::new(job.clone()));
            }
            AnyObject::StepRun(run) => settled.put_run(run.clone()),
            AnyObject::Workload(workload) => {
                settled.workloads.insert(workload.uid(), Arc::new(workload.clone()));
            }
            AnyObject::Flow(_)
            | AnyObject::AgentClass(_)
            | AnyObject::MachineClass(_)
            | AnyObject::Ledger(_)
            | AnyObject::Policy(_) => {}
        }
    }
    settled
}
