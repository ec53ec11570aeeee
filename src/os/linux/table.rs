//! The process table, kept from look to look.
//!
//! One pass over `/proc` gives (pid, inode) of everything that lives. Only what was not there before is read: `stat`, and of the
//! environment the value of [`MARK`](crate::os::MARK). The inode is used to discover (it changes when a pid is used again),
//! never as identity. What was read goes stale in two ways, and is read again for each:
//! - **exec** replaces command line and environment, and changes neither pid nor start time. A young process is read at each
//!   pass; an old one when its turn comes, within a minute; and one that is asked for with [`ProcessTable::again`] whenever its
//!   addresses say that there was an exec.
//! - **the parent** changes when it ends, and only then: the children of who is not listed any more are read again. A parent
//!   that has ended and was not collected is still listed; so who follows children must ask for each process on the way with
//!   `again`, the ended ones among them.
//!
//! So a pass costs what the kernel takes to list, and what has changed; nothing is done for each process that has not. The
//! marked ones, and the children of each, are found without a walk over the rest. Of a process without a mark that nobody asked
//! for, the command line is not even read.
//!
//! A process that may not be read (another user's) has no mark. A pass that fails says so: nothing is known then, and what it
//! did not get to is read by the next one.

#[cfg(test)]
mod tests;

use super::listing::{Listed, Listing};
use super::process::{clock_ticks_per_second, page_size};
use super::read::{Found, Home, read_one, read_stat, status_number};
use super::turns::Turns;
use crate::model::{Pid, ProcId};
use crate::os::OsError;
use crate::os::mark::mark_in;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// A process this young may still exec.
const YOUNG: Duration = Duration::from_secs(3);

/// More of a command line than this is not kept.
const MAX_COMMAND: usize = 4096;

/// A process, as it was last read.
#[derive(Debug, Clone)]
pub struct Process {
    /// Which one.
    pub id: ProcId,
    /// Its parent.
    pub parent: Option<Pid>,
    /// Field 3 of `/proc/PID/stat`.
    pub state: char,
    /// Its resident memory, in bytes.
    pub rss_bytes: u64,
    /// The value of `TENURE_WORKLOAD` in its environment. None also where the environment may not be read.
    pub mark: Option<String>,
    /// Whether its environment could be read.
    pub environ_readable: bool,
    inode: u64,
    /// Its environment was empty.
    bare: bool,
    /// It was in the middle of an exec, or of its end: read it again at the next pass.
    unsettled: bool,
    kept: Option<Box<Kept>>,
}

/// What is kept of a process that matters: one with a mark, or one that somebody asked for.
#[derive(Debug, Clone)]
struct Kept {
    comm: String,
    cmdline: Vec<u8>,
    layout: [u64; 5],
    user: Option<u32>,
    cgroup: Option<String>,
    /// It was asked for since it was last read as a whole.
    asked: bool,
}

impl Process {
    /// Its argument vector (its first 4 kB). Empty for one without a mark that was not asked for with
    /// [`ProcessTable::again`].
    pub fn argv(&self) -> impl Iterator<Item = &[u8]> {
        let cmdline = self.kept.as_deref().map(|kept| kept.cmdline.as_slice()).unwrap_or_default();
        let words = cmdline.strip_suffix(b"\0").unwrap_or(cmdline);
        words.split(|byte| *byte == 0).filter(|_| !cmdline.is_empty())
    }

    /// Its command line, words joined by spaces, or its name in brackets. As for [`argv`](Self::argv), it is there for those
    /// that matter.
    pub fn command(&self) -> String {
        let words: Vec<_> = self.argv().map(String::from_utf8_lossy).collect();
        if words.is_empty() {
            return format!("[{}]", self.kept.as_deref().map(|kept| kept.comm.as_str()).unwrap_or_default());
        }
        words.join(" ").trim_end().to_owned()
    }

    /// Whether it has ended and only waits to be collected.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    fn started(&self) -> Duration {
        Duration::from_millis(self.id.start.0.saturating_mul(1000) / clock_ticks_per_second().max(1))
    }
}

/// What a pass found, besides the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Processes that were listed and had ended when they were read, and marked ones that are no longer listed. Such a one
    /// may have left a child that the list was too early for.
    pub vanished: usize,
}

/// All processes of the host.
#[derive(Debug, Default)]
pub struct ProcessTable {
    listing: Listing,
    processes: HashMap<Pid, Process>,
    /// Those that have a mark.
    marked: BTreeSet<Pid>,
    /// (parent, child), as they were last read.
    children: BTreeSet<(Pid, Pid)>,
    /// Who is to be read as a whole at the next pass: young ones, unsettled ones, and what the last one did not get to.
    soon: Vec<Listed>,
    /// Who lost its parent since it was read.
    orphans: BTreeSet<Pid>,
    turns: Turns,
}

impl ProcessTable {
    /// An empty table; the first [`refresh`](Self::refresh) reads everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// One pass over `/proc`. On an error the table is as incomplete as what could be read.
    pub fn refresh(&mut self) -> Result<Pass, OsError> {
        self.refresh_at(since_boot())
    }

    fn refresh_at(&mut self, now: Duration) -> Result<Pass, OsError> {
        let changes = self.listing.pass()?;
        let mut vanished = 0;
        for (pid, inode) in changes.went {
            if self.processes.get(&pid).is_some_and(|process| process.inode == inode) {
                // `/proc` is listed by number, a batch at a time: a child may have been given a number that was passed already.
                vanished += usize::from(self.forget(pid).is_some_and(|process| process.mark.is_some()));
            }
        }
        for &listed in &changes.came {
            self.turns.push(listed, now);
            // A look at our own trees may have read it before it was first listed.
            if self.processes.get(&listed.0).is_none_or(|process| process.inode != listed.1) {
                self.soon.push(listed);
            }
        }
        let listing = &self.listing;
        for listed in self.turns.due(now, listing.len(), |(pid, inode)| listing.inode(pid) == Some(inode)) {
            self.turns.push(listed, now);
            self.soon.push(listed);
        }
        vanished += self.read_those_of(now)?;
        vanished += self.catch_up()?.vanished;
        Ok(Pass { vanished })
    }

    /// Reads who is to be read as a whole. How many of them had ended.
    fn read_those_of(&mut self, now: Duration) -> Result<usize, OsError> {
        let mut vanished = 0;
        let mut soon = std::mem::take(&mut self.soon);
        soon.sort_unstable();
        soon.dedup();
        while let Some((pid, inode)) = soon.pop() {
            if self.listing.inode(pid) != Some(inode) {
                continue;
            }
            match self.read(pid, inode, false) {
                Ok(Found::There(process)) => self.insert(process, now),
                Ok(Found::Gone) => {
                    vanished += 1;
                    self.forget(pid);
                    // If it is still listed then, it is asked once more.
                    self.soon.push((pid, inode));
                }
                Ok(Found::Hidden) => {
                    self.forget(pid);
                }
                Err(error) => {
                    self.soon.append(&mut soon);
                    self.soon.push((pid, inode));
                    return Err(error);
                }
            }
        }
        Ok(vanished)
    }

    /// Reads the parent of who lost its parent since it was read. Part of each pass; without a pass, it keeps descent right
    /// among those that are asked for with [`again`](Self::again).
    pub fn catch_up(&mut self) -> Result<Pass, OsError> {
        let mut vanished = 0;
        for pid in self.orphans.iter().copied().collect::<Vec<_>>() {
            let stat = read_stat(pid)?;
            self.orphans.remove(&pid);
            let Some(process) = self.processes.get(&pid) else { continue };
            match stat {
                Found::There(stat) if stat.start == process.id.start => {
                    let mut process = process.clone();
                    (process.state, process.parent) = (stat.state, stat.parent);
                    process.rss_bytes = stat.rss_pages * page_size();
                    self.place(process);
                }
                // Another process has its pid: the next list says so.
                Found::There(_) | Found::Gone => {
                    vanished += 1;
                    self.forget(pid);
                }
                Found::Hidden => {
                    self.forget(pid);
                }
            }
        }
        Ok(Pass { vanished })
    }

    /// The process with this pid, as it was last read.
    pub fn get(&self, pid: Pid) -> Option<&Process> {
        self.processes.get(&pid)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.processes.values()
    }

    /// Those that have a mark, whosever it is.
    pub fn marked(&self) -> impl Iterator<Item = &Process> {
        self.marked.iter().filter_map(|pid| self.processes.get(pid))
    }

    /// Those that had this parent when they were last read.
    pub fn children(&self, parent: Pid) -> impl Iterator<Item = &Process> {
        self.children_of(parent).filter_map(|pid| self.processes.get(&pid))
    }

    fn children_of(&self, parent: Pid) -> impl Iterator<Item = Pid> {
        let from = Pid::new(1).map(|first| self.children.range((parent, first)..));
        from.into_iter().flatten().take_while(move |(of, _)| *of == parent).map(|(_, child)| *child)
    }

    /// The process with this pid; one that no pass has listed yet is read now. `None`: there is none that can be read.
    pub fn find(&mut self, pid: Pid) -> Result<Option<&Process>, OsError> {
        if !self.processes.contains_key(&pid) {
            let Found::There(home) = Home::open(pid)? else { return Ok(None) };
            let Found::There(inode) = home.inode()? else { return Ok(None) };
            let Found::There(process) = read(&home, pid, inode, None, true)? else { return Ok(None) };
            self.insert(process, since_boot());
        }
        Ok(self.processes.get(&pid))
    }

    /// The children that this process has now, whether a pass has listed them or not, as far as the kernel says (it may leave
    /// one out while others end). They are in the table then.
    pub fn children_now(&mut self, parent: Pid) -> Result<Vec<Pid>, OsError> {
        let Found::There(home) = Home::open(parent)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for pid in home.children()? {
            // What is known by this pid may be another process by now, or have had another parent.
            if self.get(pid).is_some_and(|known| known.parent != Some(parent)) {
                self.again(pid)?;
            }
            if self.find(pid)?.is_some() {
                found.push(pid);
            }
        }
        Ok(found)
    }

    /// Reads the changing part of one process afresh (state, parent, memory), all of it if there was an exec. `None`: it has
    /// ended, and leaves the table.
    pub fn again(&mut self, pid: Pid) -> Result<Option<&Process>, OsError> {
        let Some(old) = self.processes.get(&pid) else { return Ok(None) };
        let stat = match read_stat(pid)? {
            Found::There(stat) if stat.start == old.id.start => stat,
            Found::There(_) | Found::Gone | Found::Hidden => {
                self.forget(pid);
                return Ok(None);
            }
        };
        let same = match &old.kept {
            None => false,
            Some(_) if stat.virtual_bytes == 0 => true,
            Some(kept) => !old.unsettled && stat.layout == kept.layout && stat.comm == kept.comm,
        };
        if same {
            let mut process = old.clone();
            (process.state, process.parent) = (stat.state, stat.parent);
            process.rss_bytes = stat.rss_pages * page_size();
            if let Some(kept) = &mut process.kept {
                kept.asked = true;
            }
            self.place(process);
        } else {
            let Found::There(fresh) = self.read(pid, old.inode, true)? else {
                self.forget(pid);
                return Ok(None);
            };
            self.insert(fresh, since_boot());
        }
        Ok(self.processes.get(&pid))
    }

    /// The real user of a process; `None`: it has ended.
    pub fn user(&mut self, pid: Pid) -> Result<Option<u32>, OsError> {
        let Some(process) = self.processes.get_mut(&pid) else { return Ok(None) };
        if let Some(user) = process.kept.as_deref().and_then(|kept| kept.user) {
            return Ok(Some(user));
        }
        let Found::There(text) = read_one(pid, "status")? else { return Ok(None) };
        let user = status_number(&text, "Uid:");
        if let Some(kept) = &mut process.kept {
            kept.user = user;
        }
        Ok(user)
    }

    /// Whether a process that was just read from a `cgroup.procs` is the one that this table knows: its own account of where
    /// it is, between two readings of its start time. Asked of the system once for each process and cgroup.
    pub fn is_in_cgroup(&mut self, pid: Pid, cgroup: &str) -> Result<bool, OsError> {
        let known = self.processes.get(&pid).and_then(|it| it.kept.as_deref()).and_then(|kept| kept.cgroup.as_deref());
        if known == Some(cgroup) {
            return Ok(true);
        }
        let Found::There(text) = read_one(pid, "cgroup")? else { return Ok(false) };
        if self.again(pid)?.is_none() {
            return Ok(false);
        }
        let own = String::from_utf8_lossy(&text).lines().find_map(|line| line.strip_prefix("0::").map(str::to_owned));
        let inside = own.is_some_and(|own| {
            own.strip_prefix(cgroup).is_some_and(|below| below.is_empty() || below.starts_with('/'))
        });
        if let Some(kept) = self.processes.get_mut(&pid).and_then(|it| it.kept.as_mut()) {
            kept.cgroup = inside.then(|| cgroup.to_owned());
        }
        Ok(inside)
    }

    /// Reads a process as a whole.
    fn read(&self, pid: Pid, inode: u64, asked: bool) -> Result<Found<Process>, OsError> {
        match Home::open(pid)? {
            Found::There(home) => read(&home, pid, inode, self.processes.get(&pid), asked),
            Found::Gone => Ok(Found::Gone),
            Found::Hidden => Ok(Found::Hidden),
        }
    }

    /// Takes in a process that was read as a whole.
    fn insert(&mut self, process: Process, now: Duration) {
        if process.unsettled || now < process.started() + YOUNG {
            self.soon.push((process.id.pid, process.inode));
        }
        self.place(process);
    }

    /// Replaces what is known of a process, in the indexes too.
    fn place(&mut self, process: Process) {
        let pid = process.id.pid;
        let before = self.processes.get(&pid).map(|known| known.parent);
        if before != Some(process.parent) {
            if let Some(parent) = before.flatten() {
                self.children.remove(&(parent, pid));
            }
            if let Some(parent) = process.parent {
                self.children.insert((parent, pid));
                // It may have ended since: nothing would say so. One that we may not see is asked for once only.
                if self.listing.inode(parent).is_none() && !self.processes.contains_key(&parent) {
                    self.orphans.insert(pid);
                }
            }
        }
        if process.mark.is_some() {
            self.marked.insert(pid);
        } else {
            self.marked.remove(&pid);
        }
        self.processes.insert(pid, process);
    }

    fn forget(&mut self, pid: Pid) -> Option<Process> {
        let process = self.processes.remove(&pid)?;
        self.marked.remove(&pid);
        self.orphans.remove(&pid);
        if let Some(parent) = process.parent {
            self.children.remove(&(parent, pid));
        }
        let orphans: Vec<Pid> = self.children_of(pid).collect();
        self.orphans.extend(orphans);
        Some(process)
    }
}

pub(super) fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Reads a process: first `stat`, so that an exec while the rest is read shows as a change of addresses the next time.
/// `asked`: somebody wants to know its command line, whether it has a mark or not.
fn read(home: &Home, pid: Pid, inode: u64, old: Option<&Process>, asked: bool) -> Result<Found<Process>, OsError> {
    let mut stat = match home.stat()? {
        Found::There(stat) => stat,
        Found::Gone => return Ok(Found::Gone),
        Found::Hidden => return Ok(Found::Hidden),
    };
    let old = old.filter(|old| old.id.start == stat.start);
    let mut environ = Some(Vec::new());
    if stat.virtual_bytes > 0 {
        environ = match home.environment()? {
            Found::There(bytes) => Some(bytes),
            // Newer kernels say this of a process that is there and has no memory of its own any more.
            Found::Gone => match home.stat()? {
                Found::There(again) => {
                    stat = again;
                    Some(Vec::new())
                }
                Found::Gone => return Ok(Found::Gone),
                Found::Hidden => return Ok(Found::Hidden),
            },
            Found::Hidden => None,
        };
    }
    let mut mark = environ.as_deref().and_then(mark_in);
    let bare = environ.as_ref().is_some_and(Vec::is_empty);
    let ending = stat.virtual_bytes == 0;
    let old_kept = old.and_then(|old| old.kept.as_deref());
    let mut unsettled = false;
    // An empty environment is also what is read of a process that is ending (its memory is gone, it may hang in the kernel
    // for long), or that is in the middle of an exec. What it was before holds until that is over.
    if bare {
        let changed = match (old, old_kept) {
            (_, Some(kept)) => stat.layout != kept.layout,
            (old, None) => old.is_none_or(|old| !old.bare),
        };
        if ending || changed {
            mark = old.and_then(|old| old.mark.clone());
            unsettled = !ending;
        }
    }
    let asked_before = old_kept.is_some_and(|kept| kept.asked);
    let kept = if mark.is_some() || asked || asked_before {
        let cmdline = match old_kept {
            Some(kept) if ending => kept.cmdline.clone(),
            _ if ending => Vec::new(),
            _ => match home.command_line(MAX_COMMAND)? {
                Found::There(bytes) => bytes,
                Found::Gone => return Ok(Found::Gone),
                Found::Hidden => Vec::new(),
            },
        };
        Some(Box::new(Kept {
            comm: stat.comm,
            cmdline,
            layout: stat.layout,
            // An exec may change the user, and a process may change its cgroup.
            user: None,
            cgroup: old_kept.and_then(|kept| kept.cgroup.clone()),
            asked,
        }))
    } else {
        None
    };
    Ok(Found::There(Process {
        id: ProcId { pid, start: stat.start },
        parent: stat.parent,
        state: stat.state,
        rss_bytes: stat.rss_pages * page_size(),
        mark,
        environ_readable: environ.is_some(),
        inode,
        bare,
        unsettled,
        kept,
    }))
}
