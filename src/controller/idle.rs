//! Adapters that nobody has used for as long as their class allows: they are let go.

use super::settle::World;
use super::speech;
use crate::model::{Cause, RunPhase, StepRun, Time, Workload, WorkloadPhase, WorkloadUid};
use std::collections::HashMap;

/// What there is to do about adapters without work.
#[derive(Default)]
pub(super) struct Idle {
    /// Those that were idle for too long, with the reason.
    pub(super) condemned: Vec<Workload>,
    /// When the next one is.
    pub(super) due: Option<Time>,
}

/// Finds them; `runs`: all of all jobs, as they will be.
pub(super) fn find<'r>(world: &World<'_>, runs: impl Iterator<Item = &'r StepRun>) -> Idle {
    let mut idle = Idle::default();
    let may_idle = |row: &Workload| {
        let running = row.status.phase == WorkloadPhase::Running && row.status.stage.is_none();
        // One that cannot be talked with is condemned for that.
        running && row.status.cause.is_none() && speech::verdict(world.talk, &row.uid()).is_none()
    };
    let rows = world.desired.workloads.iter().filter(|(_, row)| row.spec.idle_timeout.is_some() && may_idle(row));
    let rows: Vec<_> = rows.collect();
    // Most classes keep their adapters, and then no run needs to be looked at.
    if rows.is_empty() {
        return idle;
    }
    let mut used: HashMap<&WorkloadUid, Option<Time>> = HashMap::new();
    for run in runs {
        let Some(uid) = &run.status.workload else { continue };
        // Until now, if it is at work.
        let until = if run.status.phase == RunPhase::Running { None } else { run.status.finished_at };
        let known = used.entry(uid).or_insert(until);
        *known = known.zip(until).map(|(known, until)| known.max(until));
    }
    for (uid, row) in rows {
        let since = match used.get(uid) {
            Some(None) => continue,
            Some(Some(last)) => Some(*last),
            None => row.status.started_at,
        };
        let (Some(since), Some(limit)) = (since, row.spec.idle_timeout) else { continue };
        let due = since.after(limit.0);
        if due > world.now {
            idle.due = Some(idle.due.map_or(due, |earlier| earlier.min(due)));
            continue;
        }
        let mut row = Workload::clone(row);
        row.status.cause = Some(Cause::NoLongerNeeded);
        row.status.message = Some(format!("no run has used it for {limit}"));
        idle.condemned.push(row);
    }
    idle
}
