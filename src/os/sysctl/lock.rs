//! Locks on whole files that belong to the open file, not to the process: closing another descriptor of the same file does
//! not lose them.
//!
//! The lock is `flock`'s, and is asked about through `fcntl`. On both systems these are one kind of lock (fcntl(2): "if a file is
//! locked by a process through flock(2), any record within the file will be seen as locked from the viewpoint of another
//! process using fcntl(2)"). `flock` itself can not ask: it would have to take the lock for a moment, and a controller that
//! starts in that moment would be told that another one runs. `fcntl` can ask, but its locks belong to the process.

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{File, TryLockError};
use std::io;

/// Takes the lock at once or not at all; `false`: somebody has it.
pub(in crate::os) fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether somebody has the lock. Takes nothing.
pub(in crate::os) fn is_locked(file: &File) -> io::Result<bool> {
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
        #[cfg(target_os = "freebsd")]
        l_sysid: 0,
    };
    fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
    Ok(lock.l_type != libc::F_UNLCK)
}
