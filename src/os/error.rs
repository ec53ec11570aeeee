//! What the operating system refused, with the file or the process that it was about.

use crate::model::{Pid, ProcId};
use nix::sys::signal::Signal;
use std::io;
use std::path::PathBuf;

/// The operating system refused something that should work.
#[derive(Debug, thiserror::Error)]
pub enum OsError {
    /// A file or a directory could not be read.
    #[error("could not read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written, or a directory could not be made or removed.
    #[error("could not {verb} {}: {source}", path.display())]
    Write {
        /// `write`, `make`, or `remove`.
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the system's does not have the form that it should have.
    #[error("could not understand {}: {what}", path.display())]
    Form {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A process could not be referred to.
    #[error("could not take hold of process {pid}: {source}")]
    Open {
        /// Which.
        pid: Pid,
        /// Why.
        source: io::Error,
    },
    /// A signal could not be sent.
    #[error("could not send {signal} to process {id}: {source}")]
    Signal {
        /// To which.
        id: ProcId,
        /// What.
        signal: Signal,
        /// Why: `EPERM` is another user's process.
        source: io::Error,
    },
    /// A name that would be a path of its own.
    #[error("`{0}` cannot name a cgroup: use letters, digits, `.`, `_`, and `-`")]
    Name(String),
}
