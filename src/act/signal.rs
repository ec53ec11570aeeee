//! The one way out: every signal that the controller ever sends leaves through [`send`].

use crate::model::{ProcId, WorkloadUid};
use crate::os::{OsError, ProcRef};
use nix::sys::signal::Signal;

/// What became of one signal to several processes.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// How many got it.
    pub(super) reached: usize,
    /// How many had ended before, or are somebody else by now.
    pub(super) gone: usize,
}

/// Sends `signals`, in their order, to each of `targets` that is still the process that was seen: a pidfd is opened, the
/// start time is read again, and the signals go through the pidfd.
///
/// # Errors
/// The first refusal of the system; the others were signalled all the same.
pub(super) fn send(uid: &WorkloadUid, signals: &[Signal], targets: &[ProcId]) -> Result<Sent, OsError> {
    let mut sent = Sent::default();
    let mut refused = None;
    for target in targets {
        let reached = ProcRef::open(*target).and_then(|process| match process {
            Some(process) => signals.iter().try_fold(false, |reached, signal| Ok(process.signal(*signal)? || reached)),
            None => Ok(false),
        });
        match reached {
            Ok(true) => sent.reached += 1,
            Ok(false) => sent.gone += 1,
            Err(error) => {
                refused.get_or_insert(error);
            }
        }
    }
    tracing::debug!(workload = %uid, ?signals, reached = sent.reached, gone = sent.gone, "signalled");
    match refused {
        Some(error) => Err(error),
        None => Ok(sent),
    }
}
