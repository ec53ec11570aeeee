//! Whether somebody is at the other end of what a process reads and writes: these systems do not tell.

use crate::model::{ProcId, Reading};
use std::time::Duration;

/// Whether anybody but the process itself may write to its stdin or read from its stdout: not known.
pub fn has_client(_id: ProcId) -> Reading<bool> {
    Reading::Unknown("this system does not tell".into())
}

/// How much of processors' time a process has had: not known.
pub fn processor_time(_id: ProcId) -> Option<Duration> {
    None
}
