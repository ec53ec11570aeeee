//! The operating system: processes by identity, signals, notices of an end, cgroups, locks. The only home of `unsafe` and of
//! `cfg(target_os)`.
//!
//! What differs by system is sibling directories with the same names in them: `linux`, and `sysctl` for macOS and FreeBSD. What
//! the latter can not promise is said there. They can not be run here: `scripts/check-other-systems` type-checks them.

mod aim;
mod error;
mod let_go;
mod lock;
mod mark;
mod plain_file;
mod spawn;
mod state_dir;
mod users;
mod values;

#[cfg(any(not(target_os = "linux"), test))]
mod arguments;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(target_os = "macos", target_os = "freebsd"))]
mod sysctl;
#[cfg(test)]
pub(crate) mod testing;

#[cfg(not(any(target_os = "linux", target_os = "macos", target_os = "freebsd")))]
compile_error!("tenure knows Linux, macOS, and FreeBSD; another system needs a directory beside `os/linux`");

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(any(target_os = "macos", target_os = "freebsd"))]
use sysctl as system;

use system::give_back_open_files;

pub use aim::{Held, Never};
pub use error::*;
pub use let_go::{KEPT_FORMAT, Keeper, Kept, keepers, register_keeper};
pub use lock::{LockError, LockWatch, StateLock};
pub use mark::{MARK, RUN_DIR};
pub use plain_file::{open_plain, open_plain_itself, read_plain};
pub use spawn::{adopt_fd, forget_stdio, forget_stdout, ignore_requests_to_end, spawn_shim, spawn_workload};
pub use state_dir::*;
pub use system::*;
pub use users::{home_of, user_name};
pub use values::*;

/// Whether a text can be the name of a directory of ours (an instance id, a workload's uid), and never a path of its own.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
