//! What a process is told of those below it.

use nix::sys::resource::{UsageWho, getrusage};

/// The peak resident memory of the largest descendant that was collected, in bytes.
pub fn peak_rss_of_children() -> Option<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    // In bytes on macOS, in kB elsewhere.
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    u64::try_from(usage.max_rss()).ok().map(|units| units * unit)
}
