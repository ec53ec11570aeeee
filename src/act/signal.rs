//! The one way out: every signal that the controller ever sends leaves through [`Aim::fire`].

use crate::model::{ProcId, WorkloadUid};
use crate::os::{OsError, ProcRef};
use nix::sys::signal::Signal;

/// Processes that are held by pidfds whose start times were checked after they were opened: whatever happens to their
/// pids from now on, what is sent reaches these or nobody.
#[derive(Debug, Default)]
pub struct Aim {
    held: Vec<ProcRef>,
    /// How many had ended before, or are somebody else by now.
    gone: usize,
    refused: Option<OsError>,
}

impl Aim {
    /// Holds each of `targets` that is still the process that was seen.
    pub fn at(targets: &[ProcId]) -> Aim {
        let mut aim = Aim::default();
        for target in targets {
            match ProcRef::open(*target) {
                Ok(Some(process)) => aim.held.push(process),
                Ok(None) => aim.gone += 1,
                Err(error) => {
                    aim.refused.get_or_insert(error);
                }
            }
        }
        aim
    }

    /// Sends `signals`, in their order, to each process.
    ///
    /// # Errors
    /// The first refusal of the system; the others were signalled all the same.
    pub(super) fn fire(self, uid: &WorkloadUid, signals: &[Signal]) -> Result<(), OsError> {
        let Aim { held, mut gone, mut refused } = self;
        let mut reached = 0_usize;
        for process in held {
            let sent = signals.iter().try_fold(false, |sent, signal| Ok(process.signal(*signal)? || sent));
            match sent {
                Ok(true) => reached += 1,
                Ok(false) => gone += 1,
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
        tracing::debug!(workload = %uid, ?signals, reached, gone, "signalled");
        refused.map_or(Ok(()), Err)
    }
}
