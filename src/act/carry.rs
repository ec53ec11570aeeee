//! One action, carried out: recorded with its cause, done at the edge, recorded as done. The controller may be killed
//! between any two of these steps; the row then says where the next one goes on.

use super::record::{self, Verdict};
use super::{ActError, Edge};
use crate::model::{AnyObject, Kind, ProcId, Stage, Time, Workload, WorkloadUid};
use crate::os::OsError;
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
            let recorded = record::begin_stage(store, uid, *stage, targets, &verdict, clock())?;
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
        Stage::Terminate { .. } => as_far_as_allowed(uid, edge.aim(uid, targets)(&TERMINATE).map_err(ActError::from))?,
        Stage::Kill { round, .. } => as_far_as_allowed(uid, edge.kill(uid, targets, round))?,
        Stage::Clean => return clean(store, edge, uid, clock),
    }
    record::mark_sent(store, uid, stage, clock())
}

/// What the system refuses to do to some processes of a tree was done to the others, and so it was done: the next stage, or the
/// next round, tries again. Else one that may not be told to end would keep the others from being killed, and one that may not
/// be killed from being frozen and found.
pub(super) fn as_far_as_allowed(uid: &WorkloadUid, sent: Result<(), ActError>) -> Result<(), ActError> {
    match sent {
        Err(ActError::Os(error @ (OsError::Signal { .. } | OsError::Open { .. }))) => {
            tracing::warn!(workload = %uid, %error, "not everything of it could be signalled; the next stage tries again");
            Ok(())
        }
        other => other,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::act::Aim;
    use crate::model::{BootId, Exit, Pid, StartTime, WorkloadPhase};
    use crate::store::{Store, Txn};

    /// An edge at which one process may not be signalled.
    struct Refusing(fn() -> OsError);

    impl Edge for Refusing {
        fn boot_id(&self) -> Result<BootId, OsError> {
            Err((self.0)())
        }
        fn start(&self, _: &Workload) -> Result<(), ActError> {
            Err((self.0)().into())
        }
        fn ask(&self, _: &WorkloadUid) -> Result<(), ActError> {
            Err((self.0)().into())
        }
        fn aim(&self, _: &WorkloadUid, _: &[ProcId]) -> Aim {
            let error = self.0;
            Box::new(move |_| Err(error()))
        }
        fn kill(&self, _: &WorkloadUid, _: &[ProcId], _: u32) -> Result<(), ActError> {
            Err((self.0)().into())
        }
        fn clean(&self, _: &WorkloadUid) -> Result<Option<Exit>, ActError> {
            Err((self.0)().into())
        }
    }

    #[test]
    fn a_process_that_may_not_be_signalled_does_not_keep_the_next_stage_from_coming() {
        let refused = || OsError::Signal {
            id: ProcId { pid: Pid::new(7).unwrap(), start: StartTime(1) },
            signal: Signal::SIGTERM,
            source: std::io::Error::from(std::io::ErrorKind::PermissionDenied),
        };
        let unknown = || OsError::Form { path: "/proc/7/stat".into(), what: String::new() };
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(&scratch.path().join("tenure.db")).unwrap();
        let uid = WorkloadUid::from("w");
        let mut workload = Workload::default();
        (workload.metadata.name, workload.metadata.uid) = ("w".into(), "w".into());
        workload.status.phase = WorkloadPhase::Stopping;
        store.commit(Txn::new().put(AnyObject::Workload(workload)), Time(1)).unwrap();
        let stages = [
            Stage::Terminate { deadline: Time(9), sent: false },
            Stage::Kill { round: 1, deadline: Time(9), sent: false },
        ];
        for stage in stages {
            let send = Action::Send { stage, targets: Vec::new() };
            let carry = |edge: &dyn Edge| carry_out(&store, edge, &uid, &send, &|| Time(2));
            let recorded = || row(&store, &uid).unwrap().status.stage;
            let before = recorded();
            carry(&Refusing(unknown)).unwrap_err();
            assert_eq!(recorded(), before, "what was not done is not recorded as done");
            carry(&Refusing(refused)).unwrap();
            assert!(matches!(recorded(), Some(Stage::Terminate { sent: true, .. } | Stage::Kill { sent: true, .. })));
        }
    }
}
