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

/// The lock seen from outside. It is asked about by the file that was there at first: who makes a state directory of the same
/// name afresh holds another lock.
#[derive(Debug)]
pub struct LockWatch {
    file: Option<File>,
}

impl LockWatch {
    /// Watches the lock that this file is now. A file that is not there is held by nobody.
    ///
    /// # Errors
    /// The file is there, and cannot be opened.
    pub fn open(path: &Path) -> io::Result<LockWatch> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => Ok(LockWatch { file: Some(file) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(LockWatch { file: None }),
            Err(error) => Err(error),
        }
    }

    /// Whether somebody holds the lock. Takes nothing, so that it is never in a controller's way.
    ///
    /// # Errors
    /// The file cannot be asked about.
    pub fn is_held(&self) -> io::Result<bool> {
        self.file.as_ref().map_or(Ok(false), is_locked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_watched_by_its_file_and_not_by_its_name() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        assert!(!LockWatch::open(&path).unwrap().is_held().unwrap());
        let held = StateLock::take(&path).unwrap();
        let watch = LockWatch::open(&path).unwrap();
        assert!(watch.is_held().unwrap());
        drop(held);
        assert!(!watch.is_held().unwrap());
        let again = StateLock::take(&path).unwrap();
        assert!(watch.is_held().unwrap());
        std::fs::remove_file(&path).unwrap();
        let other = StateLock::take(&path).unwrap();
        assert!(watch.is_held().unwrap());
        drop(again);
        assert!(!watch.is_held().unwrap());
        assert!(LockWatch::open(&path).unwrap().is_held().unwrap());
        drop(other);
    }
}
