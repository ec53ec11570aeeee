//! What one process is at this moment, as far as it decides whether it may be signalled.

use super::process::is_gone;
use super::read::{Found, read_stat, status_number};
use crate::model::Pid;
use crate::os::mark::mark_in;
use crate::os::{Asked, OsError, Particulars};
use std::fs;
use std::io;
use std::path::PathBuf;

/// `PF_KTHREAD` of the kernel's `sched.h`, in the flags that `stat` shows.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// What the process with this pid is; `None`: there is none.
///
/// # Errors
/// `/proc` cannot be read.
pub fn particulars(pid: Pid, asked: Asked) -> Result<Option<Particulars>, OsError> {
    let Found::There(stat) = read_stat(pid)? else { return Ok(None) };
    let mut user = None;
    if asked.user {
        let Some(status) = read(pid, "status")? else { return Ok(None) };
        user = status_number(&status, "Uid:");
    }
    let mut cmdline = Vec::new();
    if asked.command {
        let Some(words) = read(pid, "cmdline")? else { return Ok(None) };
        cmdline = words;
        while cmdline.last() == Some(&0) {
            cmdline.pop();
        }
        cmdline.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    }
    // Of one that is ending there is none to be read: nobody's mark, as it is then.
    let environ = read(pid, "environ")?.unwrap_or_default();
    Ok(Some(Particulars {
        parent: stat.parent,
        user,
        command: String::from_utf8_lossy(&cmdline).into_owned(),
        mark: mark_in(&environ),
        is_kernel_thread: stat.flags & KERNEL_THREAD != 0,
    }))
}

/// A file of `/proc/PID`; empty where it is not for us to read, `None` where the process is gone.
fn read(pid: Pid, file: &str) -> Result<Option<Vec<u8>>, OsError> {
    let path = PathBuf::from(format!("/proc/{pid}/{file}"));
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Some(Vec::new())),
        Err(source) => Err(OsError::Read { path, source }),
    }
}
