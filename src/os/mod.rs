//! The operating system: processes by identity, signals, pidfds, cgroups, locks. The only home of `unsafe` and of
//! `cfg(target_os)`.
//!
//! What differs by system is sibling directories with the same names in them: `linux` today.

mod aim;
mod error;
mod let_go;
mod lock;
mod spawn;
mod state_dir;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(test)]
pub(crate) mod testing;

pub use aim::{Held, Never};
pub use error::*;
pub use let_go::{KEPT_FORMAT, Keeper, Kept, keepers, register_keeper};
#[cfg(target_os = "linux")]
pub use linux::*;
pub use lock::{LockError, StateLock, lock_is_held};
pub use spawn::{adopt_fd, become_subreaper, forget_stdio, ignore_requests_to_end, spawn_shim, spawn_workload};
pub use state_dir::*;

/// The environment variable that every process of a workload inherits: `<instance>/<workload uid>`.
pub const MARK: &str = "TENURE_WORKLOAD";

/// The environment variable that tells a workload's processes where its run directory is.
pub const RUN_DIR: &str = "TENURE_RUN_DIR";

/// Whether a text can be the name of a directory of ours (an instance id, a workload's uid), and never a path of its own.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
