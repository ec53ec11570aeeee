//! One pass, decided: from what should be, what is, and what was said, to what is written or done. It reads no clock, writes
//! nothing, and signals nobody; the loop performs what it gives, and so does the simulation.

use super::flows::Flows;
use super::settle::{self, World};
use super::verdicts::{self, Send};
use crate::model::{RunPhase, Stage, Time, WorkloadUid};
use crate::plan::{self, Action, Guard, Line, Plan, Violation};
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
    let mut plan = plan::diff(world.desired, world.observed, world.acts, world.bounds, world.now);
    hear_out(&mut plan, world);
    plan::check(&plan, world.desired, world.observed, &Guard { bounds: world.bounds, user: world.user })?;
    Ok(Decided { decision: Decision::Act(plan), wake_jobs })
}

/// What was said before the end counts: the files of an adapter stay where they are until they were read, if a run still
/// counts on it.
fn hear_out(plan: &mut Plan, world: &World<'_>) {
    for (uid, line) in &mut plan.lines {
        let Line::Act(Action::Clean | Action::Stop { stage: Stage::Clean, .. }, _) = line else { continue };
        let counts_on_it = || {
            let mut running = world.desired.all_runs().filter(|run| run.status.phase == RunPhase::Running);
            running.any(|run| run.status.workload.as_ref() == Some(uid))
        };
        if !world.talk.drained(uid) && counts_on_it() {
            let soon = world.now.after(settle::SOON);
            *line = Line::Held("its last words are being read".into(), Some(soon));
            plan.wake_at = Some(plan.wake_at.map_or(soon, |at| at.min(soon)));
        }
    }
}
