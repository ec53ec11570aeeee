//! The edge of the world, as the hands reach it: everything that they do outside the store goes through [`Edge`]. The host
//! stands behind it, and in the simulation a world that is out to get us.

use super::ActError;
use crate::model::{BootId, Exit, ProcId, Workload, WorkloadUid};
use crate::os::OsError;
use nix::sys::signal::Signal;

/// Processes that are held, so that what is sent reaches these or nobody. Sends signals to each, in their order; the error
/// is the first refusal, the others were signalled all the same.
pub type Aim = Box<dyn FnOnce(&[Signal]) -> Result<(), OsError> + Send>;

/// What the hands can do. Each may be done twice: that is doing it once.
pub trait Edge: Send + Sync {
    /// This boot.
    ///
    /// # Errors
    /// The system's.
    fn boot_id(&self) -> Result<BootId, OsError>;

    /// Makes what a workload needs, and its shim; returns when the shim has reported.
    ///
    /// # Errors
    /// It was not started, or it is not known whether it was.
    fn start(&self, workload: &Workload) -> Result<(), ActError>;

    /// Tells a workload that no more is wanted of it: in its protocol, and by the end of its stdin.
    ///
    /// # Errors
    /// It could not be told.
    fn ask(&self, uid: &WorkloadUid) -> Result<(), ActError>;

    /// Takes hold of these processes of a workload, each checked against the never-rules, before anything is recorded.
    fn aim(&self, uid: &WorkloadUid, targets: &[ProcId]) -> Aim;

    /// SIGKILL to everything of a workload but its shim and what was let go; to the shim too, where it is among the
    /// targets. The first round is the quickest, later ones are thorough.
    ///
    /// # Errors
    /// Something refused. What could be signalled was.
    fn kill(&self, uid: &WorkloadUid, targets: &[ProcId], round: u32) -> Result<(), ActError>;

    /// Removes what a workload left outside its processes; gives how its main process ended, if that is known.
    ///
    /// # Errors
    /// Something is left.
    fn clean(&self, uid: &WorkloadUid) -> Result<Option<Exit>, ActError>;
}
