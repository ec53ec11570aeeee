//! The lock on a state directory: held by a living controller, watched by shims.

use super::system::lock::{is_locked, try_lock};
use crate::model::Pid;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why the lock cannot be had.
#[derive(Debug, Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error(
        "the state directory of {path} is held by another controller{}; end that one first, or choose another directory with --state",
        .by.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who, if it said so.
        by: Option<Pid>,
    },
    /// The file cannot be opened or locked.
    #[error("failed to lock {path}: {source}")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A held lock. The kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock at once or not at all. The file then holds our pid, for the messages of others.
    ///
    /// # Errors
    /// [`LockError::Held`] if somebody has it.
    pub fn take(path: &Path) -> Result<StateLock, LockError> {
        let io = |source| LockError::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        if !try_lock(&file).map_err(io)? {
            let mut text = String::new();
            // Only for the message.
            let _ = file.read_to_string(&mut text);
            let by = text.trim().parse().ok().and_then(Pid::new);
            return Err(LockError::Held { path: path.to_owned(), by });
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(io)?;
        Ok(StateLock { _file: file })
    }
}

/// Whether somebody holds the lock. Takes nothing, so that it is never in a controller's way.
///
/// # Errors
/// The file cannot be opened or asked about.
pub fn lock_is_held(path: &Path) -> io::Result<bool> {
    is_locked(&OpenOptions::new().read(true).write(true).open(path)?)
}
