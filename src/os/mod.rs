//! The operating system: processes by identity, signals, pidfds, cgroups, locks. The only home of `unsafe` and of
//! `cfg(target_os)`.

mod state_dir;

pub use state_dir::*;
