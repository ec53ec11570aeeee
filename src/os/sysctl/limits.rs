//! How many descriptors this process may have. What is raised could not be given back to who is started (there is no `prlimit`), so
//! it stays as it is.

use crate::model::Pid;
use rustix::process::{Resource, getrlimit};

/// The number of descriptors that this process may have.
pub fn raise_open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Gives a process that was started just now the limit that we were started with: it has it.
pub(in crate::os) fn give_back_open_files(_pid: Pid) {}
