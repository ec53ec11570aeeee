//! What every system says of processes in the same words.

use crate::model::Pid;
use std::collections::BTreeSet;

/// What is asked about a process, besides what always is: it costs a reading each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Whose it is.
    pub user: bool,
    /// Its command line.
    pub command: bool,
}

impl Asked {
    /// All of it.
    pub const ALL: Asked = Asked { user: true, command: true };
}

/// What one process is at this moment, as far as it decides whether it may be signalled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Particulars {
    /// Its parent.
    pub parent: Option<Pid>,
    /// Its real user; none: the system does not say, or nobody asked.
    pub user: Option<u32>,
    /// Its command line, words joined by spaces; empty: nobody asked.
    pub command: String,
    /// The value of `TENURE_WORKLOAD` in its environment; none also where that may not be read.
    pub mark: Option<String>,
    /// Whether it is one of the kernel's own.
    pub is_kernel_thread: bool,
}

/// Whose events ring, of those that a [`Connector`](super::Connector) hears.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// The end of these.
    pub ends: BTreeSet<Pid>,
    /// A fork of these.
    pub forks: BTreeSet<Pid>,
}
