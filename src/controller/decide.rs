//! One pass, decided: from what should be, what is, and what was said, to what is written or done. It reads no clock, writes
//! nothing, and signals nobody; the loop performs what it gives, and so does the simulation.

use super::settle::{self, Flows, World};
use super::verdicts::{self, Send};
use crate::model::{Time, WorkloadUid};
use crate::plan::{self, Guard, Plan, Violation};
use crate::store::Txn;

/// What a pass comes to.
#[derive(Debug)]
pub struct Decided {
    /// The decision.
    pub decision: Decision,
    /// When a job has something to do even if nothing happens.
    pub wake_jobs: Option<Time>,
}

/// Jobs first: processes are judged only by jobs that are settled.
#[derive(Debug)]
pub enum Decision {
    /// Write this; once it is on record, do these.
    Settle(Txn, Vec<(WorkloadUid, Send)>),
    /// The jobs are at rest: do this.
    Act(Plan),
}

/// Decides one pass.
///
/// # Errors
/// The plan breaks a never-rule, and nothing of it may be done.
pub fn decide(world: &World<'_>, flows: &mut Flows, new_uid: &mut dyn FnMut() -> String) -> Result<Decided, Violation> {
    let settled = settle::settle(world, flows, new_uid);
    let wake_jobs = settled.wake_at;
    if !settled.txn.is_empty() {
        // The ends that follow are recorded in the same transaction: once a job is terminal, its processes have their
        // verdicts, and the signals need wait for no further pass.
        let (txn, sends) = verdicts::follow(settled.txn, world)?;
        return Ok(Decided { decision: Decision::Settle(txn, sends), wake_jobs });
    }
    let plan = plan::diff(world.desired, world.observed, world.acts, world.bounds, world.now);
    plan::check(&plan, world.desired, world.observed, &Guard { bounds: world.bounds, user: world.user })?;
    Ok(Decided { decision: Decision::Act(plan), wake_jobs })
}
