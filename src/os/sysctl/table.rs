//! The process table, kept from look to look.
//!
//! Each pass lists every process, with its parent, state, and memory. Arguments and environment cost a call each, and are read of
//! those that were not there before, and again because they go stale: an exec replaces them, and nothing in the list shows it. A
//! young process is read at each pass; an old one at least once a minute; and one that is asked for with
//! [`ProcessTable::again`] always.
//!
//! A process whose environment can not be read, or shows none, has the mark that it had before: on macOS an exec of a program of
//! Apple's own hides it. A pass that fails says so: nothing is known then.

use super::process::failed_on;
use super::row::{List, Row};
use super::{call, system};
use crate::model::{Pid, ProcId};
use crate::os::OsError;
use crate::os::mark::mark_in;
use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

/// A process that has been seen for less than this may still exec.
const YOUNG: Duration = Duration::from_secs(3);
/// What was read is read again after this much and a part of `SPREAD`, so that not all of it falls due at once.
const STALE: Duration = Duration::from_secs(30);
const SPREAD: Duration = Duration::from_secs(25);
/// More of a command line than this is not kept.
const MAX_COMMAND: usize = 4096;

/// A process, as it was last read.
#[derive(Debug, Clone)]
pub struct Process {
    /// Which one.
    pub id: ProcId,
    /// Its parent.
    pub parent: Option<Pid>,
    /// In Linux's letters: `R`, `S`, `D`, `T`, `Z`.
    pub state: char,
    /// Its resident memory.
    pub rss_bytes: u64,
    /// The value of `TENURE_WORKLOAD` in its environment. None also where the environment may not be read, and never could.
    pub mark: Option<String>,
    /// Whether its environment could be read. On macOS one that is hidden reads as an empty one.
    pub environ_readable: bool,
    comm: String,
    cmdline: Vec<u8>,
    user: u32,
    seen_first: Instant,
    /// When command line and environment were last read.
    read_at: Instant,
}

impl Process {
    /// Its argument vector (its first 4 kB).
    pub fn argv(&self) -> impl Iterator<Item = &[u8]> {
        words(&self.cmdline)
    }

    /// Its command line, words joined by spaces, or its name in brackets.
    pub fn command(&self) -> String {
        command(&self.cmdline, &self.comm)
    }

    /// Whether it has ended and only waits to be collected.
    pub fn is_zombie(&self) -> bool {
        self.state == 'Z'
    }

    fn is_due(&self, now: Instant) -> bool {
        let spread = SPREAD * (self.id.pid.get().unsigned_abs() % 32) / 32;
        now < self.seen_first + YOUNG || now >= self.read_at + STALE + spread
    }
}

/// What a pass found, besides the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Processes that were listed and had ended when they were read, and marked ones that are no longer listed. Such a one
    /// may have left a child that the list was too early for.
    pub vanished: usize,
}

/// All processes of the host; on macOS all of this user, unless that is root.
#[derive(Debug, Default)]
pub struct ProcessTable {
    processes: HashMap<Pid, Process>,
}

impl ProcessTable {
    /// An empty table; the first [`refresh`](Self::refresh) reads everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// One pass over all processes. On an error the table is as incomplete as what could be read.
    pub fn refresh(&mut self) -> Result<Pass, OsError> {
        let List { rows, mut vanished } =
            system::all().map_err(|source| OsError::Read { path: call::PROCESS.into(), source })?;
        // We are there ourselves: a list without anybody is not a list.
        if rows.is_empty() {
            return Err(OsError::Form { path: call::PROCESS.into(), what: "it lists no process".into() });
        }
        let now = Instant::now();
        let mut before = std::mem::take(&mut self.processes);
        for row in rows {
            let pid = row.id.pid;
            let known = before.get(&pid).is_some_and(|old| old.id == row.id).then(|| before.remove(&pid)).flatten();
            let due = known.as_ref().is_none_or(|old| old.is_due(now));
            match read(row, known, due, now)? {
                Some(process) => drop(self.processes.insert(pid, process)),
                None => vanished += 1,
            }
        }
        vanished += before.values().filter(|gone| gone.mark.is_some()).count();
        Ok(Pass { vanished })
    }

    /// The process with this pid at the last pass.
    pub fn get(&self, pid: Pid) -> Option<&Process> {
        self.processes.get(&pid)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.processes.values()
    }

    /// Those that have a mark, whosever it is.
    pub fn marked(&self) -> impl Iterator<Item = &Process> {
        self.iter().filter(|process| process.mark.is_some())
    }

    /// Those that had this parent when they were last read.
    pub fn children(&self, parent: Pid) -> impl Iterator<Item = &Process> {
        self.iter().filter(move |process| process.parent == Some(parent))
    }

    /// The process with this pid; one that no pass has listed yet is read now. `None`: there is none that can be read.
    pub fn find(&mut self, pid: Pid) -> Result<Option<&Process>, OsError> {
        if !self.processes.contains_key(&pid)
            && let Some(row) = listed(pid)?
            && let Some(process) = read(row, None, true, Instant::now())?
        {
            self.processes.insert(pid, process);
        }
        Ok(self.get(pid))
    }

    /// The children that a process has: those that the last pass listed, which was just now ([`catch_up`](Self::catch_up)).
    pub fn children_now(&mut self, parent: Pid) -> Result<Vec<Pid>, OsError> {
        Ok(self.children(parent).map(|child| child.id.pid).collect())
    }

    /// Brings descent up to date: a pass. There is no way to it that costs less.
    pub fn catch_up(&mut self) -> Result<Pass, OsError> {
        self.refresh()
    }

    /// Reads one process afresh. `None`: it has ended, and leaves the table.
    pub fn again(&mut self, pid: Pid) -> Result<Option<&Process>, OsError> {
        let Some(before) = self.processes.remove(&pid) else { return Ok(None) };
        let Some(row) = listed(pid)?.filter(|row| row.id == before.id) else { return Ok(None) };
        let Some(process) = read(row, Some(before), true, Instant::now())? else { return Ok(None) };
        Ok(Some(self.processes.entry(pid).insert_entry(process).into_mut()))
    }

    /// The real user of a process; `None`: it has ended.
    pub fn user(&mut self, pid: Pid) -> Result<Option<u32>, OsError> {
        Ok(self.get(pid).map(|process| process.user))
    }

    /// Whether a process is in this cgroup: there are none.
    pub fn is_in_cgroup(&mut self, _pid: Pid, _cgroup: &str) -> Result<bool, OsError> {
        Ok(false)
    }
}

/// The words of a command line (each followed by a NUL byte), joined by spaces; of one without any, its name in brackets.
pub(super) fn command(cmdline: &[u8], name: &str) -> String {
    if cmdline.is_empty() {
        return format!("[{name}]");
    }
    let words: Vec<_> = words(cmdline).map(String::from_utf8_lossy).collect();
    words.join(" ").trim_end().to_owned()
}

fn words(cmdline: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = cmdline.strip_suffix(b"\0").unwrap_or(cmdline);
    text.split(|byte| *byte == 0).filter(|_| !cmdline.is_empty())
}

/// One process as the list has it; `None`: it is not there, or not for us to see.
pub(super) fn listed(pid: Pid) -> Result<Option<Row>, OsError> {
    match system::one(pid) {
        Ok(row) => Ok(row),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(source) => Err(failed_on(pid, source)),
    }
}

/// A process from its row, what was known of it, and, if that is `due`, its arguments. `None`: it has ended.
fn read(row: Row, before: Option<Process>, due: bool, now: Instant) -> Result<Option<Process>, OsError> {
    let mut process = Process {
        id: row.id,
        parent: row.parent,
        state: row.state,
        rss_bytes: row.rss_bytes,
        mark: None,
        environ_readable: true,
        comm: row.comm,
        cmdline: Vec::new(),
        user: row.user,
        seen_first: now,
        read_at: now,
    };
    if let Some(before) = before {
        process.mark = before.mark;
        process.environ_readable = before.environ_readable;
        process.cmdline = before.cmdline;
        process.seen_first = before.seen_first;
        process.read_at = before.read_at;
    }
    // One that has ended has no arguments any more: what it had before holds.
    if !due || process.is_zombie() {
        return Ok(Some(process));
    }
    process.read_at = now;
    let Some(arguments) = system::arguments(process.id.pid).map_err(|source| failed_on(process.id.pid, source))? else {
        // It is another user's, or hangs in its end; or it has ended just now.
        let Some(row) = listed(process.id.pid)?.filter(|row| row.id == process.id) else { return Ok(None) };
        process.state = row.state;
        process.environ_readable &= process.is_zombie();
        return Ok(Some(process));
    };
    process.environ_readable = arguments.environ.is_some();
    if arguments.environ.as_ref().is_some_and(|environ| !environ.is_empty()) {
        process.mark = arguments.environ.as_deref().and_then(mark_in);
    }
    process.cmdline = arguments.command;
    process.cmdline.truncate(MAX_COMMAND);
    Ok(Some(process))
}
