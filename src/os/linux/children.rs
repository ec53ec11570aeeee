//! What a process is told of those below it.

use nix::sys::resource::{UsageWho, getrusage};
use std::io;

/// Makes this process the one that descendants are re-parented to.
///
/// # Errors
/// The system refuses.
pub fn become_subreaper() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(io::Error::from)
}

/// The peak resident memory of the largest descendant that was collected, in bytes.
pub fn peak_rss_of_children() -> Option<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    // In kB.
    u64::try_from(usage.max_rss()).ok().map(|kb| kb * 1024)
}
