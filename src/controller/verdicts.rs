//! What follows for processes from what settling the jobs decides: the first stage of each end, in the same transaction.
//!
//! A pass that settled something ends there, and the next one looks anew. Only this much is anticipated, because the time from
//! a job's end to the end of its processes is the promise: the plan of the settled state is made on the look at hand, and
//! its stops are recorded with the jobs. All else waits for the next pass.

use super::settle::World;
use crate::act::{Verdict, staged, tell};
use crate::model::{AnyObject, Kind, ProcId, Snapshot, Stage, WorkloadUid};
use crate::plan::{self, Action, Guard, Violation};
use crate::store::Txn;
use std::collections::BTreeSet;

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
    let written: BTreeSet<String> = txn.puts.iter().map(|object| object.meta().uid.clone()).collect();
    let (mut sends, mut free) = (Vec::new(), HELD);
    for (uid, action, _) in plan.actions() {
        let Action::Stop { stage, cause, message, targets, processes, held_bytes } = action else { continue };
        // What has nothing to be signalled is in no hurry, and what is written already is not written twice.
        if matches!(stage, Stage::Clean) || written.contains(uid.as_str()) {
            continue;
        }
        let Some(row) = world.desired.workloads.get(uid) else { continue };
        let verdict = Verdict { cause: *cause, message, processes, held_bytes: *held_bytes };
        let (row, event) = staged(row.clone(), *stage, &verdict, world.now);
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
    for (kind, name, _) in &txn.deletes {
        if *kind == Kind::StepRun {
            settled.runs.values_mut().for_each(|runs| runs.retain(|run| run.metadata.name != *name));
        }
    }
    for object in &txn.puts {
        match object {
            AnyObject::Job(job) => {
                settled.jobs.insert(job.uid(), job.clone());
            }
            AnyObject::StepRun(run) => {
                let runs = settled.runs.entry(run.spec.job_uid.clone()).or_default();
                match runs.iter_mut().find(|known| known.metadata.name == run.metadata.name) {
                    Some(known) => known.clone_from(run),
                    None => runs.push(run.clone()),
                }
            }
            AnyObject::Workload(workload) => {
                settled.workloads.insert(workload.uid(), workload.clone());
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
