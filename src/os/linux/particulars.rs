//! What one process is at this moment, as far as it decides whether it may be signalled.

use super::process::is_gone;
use super::read::status_number;
use crate::model::Pid;
use crate::os::mark::mark_in;
use crate::os::{OsError, Particulars};
use std::fs;
use std::io;
use std::path::PathBuf;

/// What the process with this pid is; `None`: there is none.
///
/// # Errors
/// `/proc` cannot be read.
pub fn particulars(pid: Pid) -> Result<Option<Particulars>, OsError> {
    let Some(status) = read(pid, "status")? else { return Ok(None) };
    let Some(mut cmdline) = read(pid, "cmdline")? else { return Ok(None) };
    while cmdline.last() == Some(&0) {
        cmdline.pop();
    }
    cmdline.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    // Of one that is ending there is none to be read: nobody's mark, as it is then.
    let environ = read(pid, "environ")?.unwrap_or_default();
    Ok(Some(Particulars {
        parent: status_number(&status, "PPid:").and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::new),
        user: status_number(&status, "Uid:"),
        command: String::from_utf8_lossy(&cmdline).into_owned(),
        mark: mark_in(&environ),
        is_kernel_thread: is_kernel_thread(&status),
    }))
}

/// Newer kernels say it; of older ones, what has no memory of its own and has not ended.
fn is_kernel_thread(status: &[u8]) -> bool {
    if let Some(says) = status_number(status, "Kthread:") {
        return says == 1;
    }
    let text = String::from_utf8_lossy(status);
    let has = |key: &str| text.lines().any(|line| line.starts_with(key));
    !has("VmSize:") && !has("State:\tZ") && !has("State:\tX")
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
