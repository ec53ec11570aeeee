//! The operating system: processes by identity, signals, pidfds, cgroups, locks. The only home of `unsafe` and of
//! `cfg(target_os)`.
//!
//! What differs by system is sibling directories with the same names in them: `linux` today.

mod error;
mod lock;
mod spawn;
mod state_dir;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(test)]
pub(crate) mod testing;

pub use error::*;
#[cfg(target_os = "linux")]
use linux::give_back_open_files;
#[cfg(target_os = "linux")]
pub use linux::*;
pub use lock::{LockError, StateLock, lock_is_held};
pub use spawn::{become_subreaper, ignore_requests_to_end, spawn_shim, spawn_workload};
pub use state_dir::*;

/// The environment variable that every process of a workload inherits: `<instance>/<workload uid>`.
pub const MARK: &str = "TENURE_WORKLOAD";

/// Whether a text can be the name of a directory of ours (an instance id, a workload's uid), and never a path of its own.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
