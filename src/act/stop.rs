//! What each stage of an end does, once it is recorded.

use super::{ActError, Aim, AskClient, Tools, record};
use crate::model::{ProcId, Stage, Time, WorkloadUid};
use crate::os::OsError;
use nix::sys::signal::Signal;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

/// Does what `stage` does, then records that it was done. A crash in between repeats it.
pub(super) fn send(
    tools: &Tools,
    ask: &AskClient,
    uid: &WorkloadUid,
    stage: Stage,
    targets: &[ProcId],
    clock: fn() -> Time,
) -> Result<(), ActError> {
    match stage {
        Stage::Ask { .. } => {
            // Nobody speaks with it: end-of-file is all that can be said.
            if !ask(uid) {
                end_of_file(tools, uid)?;
            }
        }
        Stage::Terminate { .. } => {
            terminate(uid, Aim::at(targets))?;
        }
        Stage::Kill { .. } => {
            // Both: the group ends what forks faster than it can be found, the list what left the group.
            if let Some(cgroups) = &tools.cgroups {
                cgroups.kill(uid)?;
            }
            Aim::at(targets).fire(uid, &[Signal::SIGKILL])?;
        }
        Stage::Clean => return super::clean::clean(tools, uid, clock),
    }
    record::mark_sent(tools, uid, stage, clock())
}

/// SIGTERM; a stopped process sees it only when it is continued.
pub(super) fn terminate(uid: &WorkloadUid, aim: Aim) -> Result<(), OsError> {
    aim.fire(uid, &[Signal::SIGTERM, Signal::SIGCONT])
}

/// Tells the shim to close the workload's stdin once all that was written has been passed on.
fn end_of_file(tools: &Tools, uid: &WorkloadUid) -> Result<(), ActError> {
    let path = tools.state_dir.workload(uid).join("stdin.eof");
    match OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path) {
        Ok(_) => Ok(()),
        // No run directory: nothing to be asked.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(ActError::File { doing: "create", path, source }),
    }
}
