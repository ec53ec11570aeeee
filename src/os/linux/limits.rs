//! How many descriptors this process may have, and what those that it starts are given.

use crate::model::Pid;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit, setrlimit};
use std::sync::OnceLock;

/// More than this is never asked for: nobody here needs it, and some programs go through all numbers that are allowed.
const MOST: u64 = 65_536;

/// What we were started with, once it was raised.
static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Raises the number of descriptors that this process may have, as far as it is allowed to. Gives the number that holds.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(MOST);
    let wanted = limit.maximum.unwrap_or(MOST).min(MOST);
    if current >= wanted {
        return current;
    }
    let _ = BEFORE.set(limit);
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays at {current}");
            current
        }
    }
}

/// Gives a process that was started just now the limit that we were started with: programs that use `select` break when
/// descriptors get numbers that it cannot hold.
pub(in crate::os) fn give_back_open_files(pid: Pid) {
    let pid = rustix::process::Pid::from_raw(pid.get());
    if let (Some(before), Some(pid)) = (BEFORE.get(), pid)
        && let Err(error) = prlimit(Some(pid), Resource::Nofile, *before)
    {
        tracing::debug!(%error, "a shim keeps the raised limit of open files");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn who_is_started_is_given_the_limit_that_we_were_started_with() {
        // Each test is a process of its own, or shares one where all of this is done already.
        let before = getrlimit(Resource::Nofile);
        let lower = Rlimit { current: before.maximum.map(|most| most.min(512)), maximum: before.maximum };
        if BEFORE.get().is_none() {
            setrlimit(Resource::Nofile, lower).unwrap();
        }
        let most = raise_open_files();
        assert_eq!(most, before.maximum.unwrap_or(MOST).min(MOST));
        assert_eq!(raise_open_files(), most);
        let mut child = Command::new("sleep").arg("1031").stdin(Stdio::null()).spawn().unwrap();
        give_back_open_files(Pid::new(child.id() as i32).unwrap());
        let theirs =
            prlimit(rustix::process::Pid::from_raw(child.id() as i32), Resource::Nofile, getrlimit(Resource::Nofile));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(theirs.unwrap().current, lower.current);
    }
}
