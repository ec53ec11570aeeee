//! One action, carried out: recorded with its cause, done at the edge, recorded as done. The controller may be killed
//! between any two of these steps; the row then says where the next one goes on.

use super::record::{self, Verdict};
use super::{ActError, Edge};
use crate::model::{AnyObject, Kind, ProcId, Stage, Time, Workload, WorkloadUid};
use crate::plan::Action;
use crate::store::Records;
use nix::sys::signal::Signal;

/// What the stage Terminate sends. A stopped process sees the first only when it is continued.
pub(super) const TERMINATE: [Signal; 2] = [Signal::SIGTERM, Signal::SIGCONT];

/// Carries out one action of a plan that was checked.
///
/// # Errors
/// What could not be done; it is tried again after a while.
pub fn carry_out(
    store: &dyn Records,
    edge: &dyn Edge,
    uid: &WorkloadUid,
    action: &Action,
    clock: &dyn Fn() -> Time,
) -> Result<(), ActError> {
    match action {
        Action::Start => edge.start(&row(store, uid)?),
        Action::NoteRunning { shim, child } => {
            let boot_id = edge.boot_id()?;
            record::note_running(store, uid, *shim, *child, boot_id, clock())
        }
        Action::Condemn { cause, message } => record::condemn(store, uid, *cause, message, clock()),
        Action::Adopt => record::adopt(store, uid, clock()),
        Action::Stop { stage, cause, message, targets, processes, held_bytes } => {
            let verdict = Verdict { cause: *cause, message, processes, held_bytes: *held_bytes };
            let recorded = record::begin_stage(store, uid, *stage, &verdict, clock())?;
            send(store, edge, uid, recorded, targets, clock)
        }
        Action::Send { stage, targets } => send(store, edge, uid, *stage, targets, clock),
        Action::Clean => clean(store, edge, uid, clock),
    }
}

/// Does what `stage` does, then records that it was done. A crash in between repeats it.
fn send(
    store: &dyn Records,
    edge: &dyn Edge,
    uid: &WorkloadUid,
    stage: Stage,
    targets: &[ProcId],
    clock: &dyn Fn() -> Time,
) -> Result<(), ActError> {
    match stage {
        Stage::Ask { .. } => edge.ask(uid)?,
        Stage::Terminate { .. } => edge.aim(uid, targets)(&TERMINATE)?,
        Stage::Kill { round, .. } => edge.kill(uid, targets, round)?,
        Stage::Clean => return clean(store, edge, uid, clock),
    }
    record::mark_sent(store, uid, stage, clock())
}

fn clean(store: &dyn Records, edge: &dyn Edge, uid: &WorkloadUid, clock: &dyn Fn() -> Time) -> Result<(), ActError> {
    let exit = edge.clean(uid)?;
    record::stopped(store, uid, exit, clock())
}

/// The row of a workload, as it is now.
pub(super) fn row(store: &dyn Records, uid: &WorkloadUid) -> Result<Workload, ActError> {
    match store.get(Kind::Workload, uid.as_str())? {
        Some(AnyObject::Workload(workload)) => Ok(workload),
        _ => Err(ActError::NoRow),
    }
}
