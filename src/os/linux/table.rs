//! The process table, kept from look to look.
//!
//! One pass over `/proc` gives (pid, inode) of everything that lives. Only what was not there before is read: `stat`, the
//! command line, and of the environment the value of [`MARK`](crate::os::MARK). The inode is used to discover (it changes when a
//! pid is used again), never as identity. What was read goes stale in two ways, and is read again for each:
//! - **exec** replaces command line and environment, and changes neither pid nor start time. A young process is read at each
//!   pass; an old one at least once a minute; and one that is asked for with [`ProcessTable::again`] whenever its addresses say
//!   that there was an exec.
//! - **the parent** changes when it ends, and only then: who had a parent that is not listed any more is read again. A parent
//!   that has ended and was not collected is still listed; so who follows children must ask for each process on the way with
//!   `again`, the ended ones among them.
//!
//! A process that may not be read (another user's) has no mark. A pass that fails says so: nothing is known then.

use super::process::{clock_ticks_per_second, is_gone, page_size};
use super::stat::Stat;
use crate::model::{Pid, ProcId};
use crate::os::{MARK, OsError};
use rustix::fs::{CWD, Dir, Mode, OFlags, open, openat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// A process this young may still exec.
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
    /// Field 3 of `/proc/PID/stat`.
    pub state: char,
    /// Its resident memory.
    pub rss_bytes: u64,
    /// The value of `TENURE_WORKLOAD` in its environment. None also where the environment may not be read.
    pub mark: Option<String>,
    /// Whether its environment could be read.
    pub environ_readable: bool,
    comm: String,
    cmdline: Vec<u8>,
    layout: [u64; 5],
    inode: u64,
    /// The inode of the parent when the parent was read; 0: not listed.
    parent_inode: u64,
    /// When command line and environment were last read, since boot.
    read_at: Duration,
    /// It was in the middle of an exec, or of its end: read it again at the next pass.
    unsettled: bool,
    user: Option<u32>,
    cgroup: Option<String>,
}

impl Process {
    /// Its argument vector (its first 4 kB).
    pub fn argv(&self) -> impl Iterator<Item = &[u8]> {
        let cmdline = self.cmdline.strip_suffix(b"\0").unwrap_or(&self.cmdline);
        cmdline.split(|byte| *byte == 0).filter(|_| !self.cmdline.is_empty())
    }

    /// Its command line, words joined by spaces, or its name in brackets.
    pub fn command(&self) -> String {
        if self.cmdline.is_empty() {
            return format!("[{}]", self.comm);
        }
        let words: Vec<_> = self.argv().map(String::from_utf8_lossy).collect();
        words.join(" ").trim_end().to_owned()
    }

    /// Whether it has ended and only waits to be collected.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
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
    processes: HashMap<Pid, Process>,
}

impl ProcessTable {
    /// An empty table; the first [`refresh`](Self::refresh) reads everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// One pass over `/proc`. On an error the table is as incomplete as what could be read.
    pub fn refresh(&mut self) -> Result<Pass, OsError> {
        let root = open_proc()?;
        let listed = list(&root)?;
        let now = since_boot();
        let mut vanished = 0;
        self.processes.retain(|pid, process| {
            let stays = listed.get(pid) == Some(&process.inode);
            // `/proc` is listed by number, a batch at a time: a child may have been given a number that was passed already.
            vanished += usize::from(!stays && process.mark.is_some());
            stays
        });
        for (&pid, &inode) in &listed {
            let old = self.processes.get(&pid);
            let read = match old {
                Some(old) if old.is_due(now) => read_all(&root, pid, inode, Some(old), now)?,
                Some(old) if old.parent_left(&listed) => match read_stat(&root, pid)? {
                    Found::There(stat) if stat.start == old.id.start => {
                        let mut process = old.clone();
                        process.take(stat, &listed);
                        Found::There(process)
                    }
                    Found::There(_) => read_all(&root, pid, inode, None, now)?,
                    Found::Gone => Found::Gone,
                    Found::Hidden => Found::Hidden,
                },
                Some(_) => continue,
                None => read_all(&root, pid, inode, None, now)?,
            };
            match read {
                Found::There(mut process) => {
                    process.note_parent(&listed);
                    self.processes.insert(pid, process);
                }
                Found::Gone => {
                    vanished += 1;
                    self.processes.remove(&pid);
                }
                Found::Hidden => {
                    self.processes.remove(&pid);
                }
            }
        }
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

    /// Reads the changing part of one process afresh (state, parent, memory), all of it if there was an exec. `None`: it has
    /// ended, and leaves the table.
    pub fn again(&mut self, pid: Pid) -> Result<Option<&Process>, OsError> {
        let Some(mut process) = self.processes.remove(&pid) else { return Ok(None) };
        let root = open_proc()?;
        let Found::There(stat) = read_stat(&root, pid)? else { return Ok(None) };
        if stat.start != process.id.start {
            return Ok(None);
        }
        if stat.virtual_bytes > 0 && (stat.layout != process.layout || stat.comm != process.comm) {
            let Found::There(fresh) = read_all(&root, pid, process.inode, Some(&process), since_boot())? else {
                return Ok(None);
            };
            process = fresh;
        } else {
            process.state = stat.state;
            process.parent = stat.parent;
            process.rss_bytes = stat.rss_pages * page_size();
        }
        process.parent_inode = process.parent.and_then(|parent| self.processes.get(&parent)).map_or(0, |it| it.inode);
        Ok(Some(self.processes.entry(pid).insert_entry(process).into_mut()))
    }

    /// The real user of a process; `None`: it has ended.
    pub fn user(&mut self, pid: Pid) -> Result<Option<u32>, OsError> {
        let Some(process) = self.processes.get_mut(&pid) else { return Ok(None) };
        if process.user.is_none() {
            let Found::There(text) = read_file(CWD, &format!("/proc/{pid}/status"))? else { return Ok(None) };
            process.user = status_number(&text, "Uid:");
        }
        Ok(process.user)
    }

    /// Whether a process that was just read from a `cgroup.procs` is the one that this table knows: its own account of where
    /// it is, between two readings of its start time. Asked of the system once for each process and cgroup.
    pub fn is_in_cgroup(&mut self, pid: Pid, cgroup: &str) -> Result<bool, OsError> {
        if self.processes.get(&pid).is_some_and(|it| it.cgroup.as_deref() == Some(cgroup)) {
            return Ok(true);
        }
        let Found::There(text) = read_file(CWD, &format!("/proc/{pid}/cgroup"))? else { return Ok(false) };
        if self.again(pid)?.is_none() {
            return Ok(false);
        }
        let Some(process) = self.processes.get_mut(&pid) else { return Ok(false) };
        let own = String::from_utf8_lossy(&text).lines().find_map(|line| line.strip_prefix("0::").map(str::to_owned));
        let inside = own.is_some_and(|own| {
            own.strip_prefix(cgroup).is_some_and(|below| below.is_empty() || below.starts_with('/'))
        });
        process.cgroup = inside.then(|| cgroup.to_owned());
        Ok(inside)
    }
}

impl Process {
    fn is_due(&self, now: Duration) -> bool {
        let spread = SPREAD * (self.id.pid.get().unsigned_abs() % 32) / 32;
        self.unsettled || self.read_at < self.started() + YOUNG || now >= self.read_at + STALE + spread
    }

    fn started(&self) -> Duration {
        Duration::from_millis(self.id.start.0.saturating_mul(1000) / clock_ticks_per_second().max(1))
    }

    fn parent_left(&self, listed: &HashMap<Pid, u64>) -> bool {
        self.parent.is_some_and(|parent| listed.get(&parent).copied().unwrap_or(0) != self.parent_inode)
    }

    fn note_parent(&mut self, listed: &HashMap<Pid, u64>) {
        self.parent_inode = self.parent.and_then(|parent| listed.get(&parent)).copied().unwrap_or(0);
    }

    fn take(&mut self, stat: Stat, listed: &HashMap<Pid, u64>) {
        self.state = stat.state;
        self.parent = stat.parent;
        self.rss_bytes = stat.rss_pages * page_size();
        self.note_parent(listed);
    }
}

/// What a file of `/proc/PID` gave.
enum Found<T> {
    There(T),
    /// The process has ended.
    Gone,
    /// It is not for us to read.
    Hidden,
}

fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn open_proc() -> Result<OwnedFd, OsError> {
    open("/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| OsError::Read { path: "/proc".into(), source: errno.into() })
}

/// Everything that is listed in `/proc`, by pid: its inode.
fn list(root: &OwnedFd) -> Result<HashMap<Pid, u64>, OsError> {
    let failed = |errno: Errno| OsError::Read { path: "/proc".into(), source: errno.into() };
    let mut listed = HashMap::with_capacity(256);
    for entry in Dir::read_from(root).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        let pid = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()).and_then(Pid::new);
        if let Some(pid) = pid {
            listed.insert(pid, entry.ino());
        }
    }
    // We are there ourselves: a list without anybody is not a list.
    if listed.is_empty() {
        return Err(OsError::Form { path: "/proc".into(), what: "it lists no process; is it mounted?".into() });
    }
    Ok(listed)
}

/// Reads a process: first `stat`, so that an exec while the rest is read shows as a change of addresses the next time.
fn read_all(
    root: &OwnedFd,
    pid: Pid,
    inode: u64,
    old: Option<&Process>,
    now: Duration,
) -> Result<Found<Process>, OsError> {
    // Files opened below this handle are those of this process, or fail: the pid cannot be used again in between.
    let home = match openat(root, pid.to_string(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(home) => home,
        Err(errno) => return gone_or_hidden(errno.into(), pid, ""),
    };
    let below = |file: &str| read_file(&home, file).map_err(|error| at(error, pid));
    let mut stat = match below("stat")? {
        Found::There(bytes) => parse(&bytes, pid)?,
        Found::Gone => return Ok(Found::Gone),
        Found::Hidden => return Ok(Found::Hidden),
    };
    let old = old.filter(|old| old.id.start == stat.start);
    let (mut cmdline, mut environ) = (Vec::new(), Some(Vec::new()));
    if stat.virtual_bytes > 0 {
        cmdline = match below("cmdline")? {
            Found::There(bytes) => bytes,
            Found::Gone => return Ok(Found::Gone),
            Found::Hidden => Vec::new(),
        };
        cmdline.truncate(MAX_COMMAND);
        environ = match below("environ")? {
            Found::There(bytes) => Some(bytes),
            // Newer kernels say this of a process that is there and has no memory of its own any more.
            Found::Gone => match below("stat")? {
                Found::There(bytes) => {
                    stat = parse(&bytes, pid)?;
                    Some(Vec::new())
                }
                Found::Gone => return Ok(Found::Gone),
                Found::Hidden => return Ok(Found::Hidden),
            },
            Found::Hidden => None,
        };
    }
    let mut mark = environ.as_deref().and_then(mark_in);
    let mut unsettled = false;
    // An empty environment is also what is read of a process that is ending (its memory is gone, it may hang in the kernel
    // for long), or that is in the middle of an exec. What it was before holds until that is over.
    if let Some(old) = old
        && environ.as_ref().is_some_and(Vec::is_empty)
    {
        let ending = stat.virtual_bytes == 0;
        let changed = stat.layout != old.layout;
        if ending || changed {
            mark = old.mark.clone();
            unsettled = !ending;
        }
        if ending {
            cmdline.clone_from(&old.cmdline);
        }
    }
    Ok(Found::There(Process {
        id: ProcId { pid, start: stat.start },
        parent: stat.parent,
        state: stat.state,
        rss_bytes: stat.rss_pages * page_size(),
        mark,
        environ_readable: environ.is_some(),
        comm: stat.comm,
        cmdline,
        layout: stat.layout,
        inode,
        parent_inode: 0,
        read_at: now,
        unsettled,
        // An exec may change the user, and a process may change its cgroup.
        user: None,
        cgroup: old.and_then(|old| old.cgroup.clone()),
    }))
}

fn read_stat(root: &OwnedFd, pid: Pid) -> Result<Found<Stat>, OsError> {
    Ok(match read_file(root, &format!("{pid}/stat")).map_err(|error| at(error, pid))? {
        Found::There(bytes) => Found::There(parse(&bytes, pid)?),
        Found::Gone => Found::Gone,
        Found::Hidden => Found::Hidden,
    })
}

fn parse(bytes: &[u8], pid: Pid) -> Result<Stat, OsError> {
    Stat::parse(bytes).ok_or_else(|| OsError::Form {
        path: format!("/proc/{pid}/stat").into(),
        what: String::from_utf8_lossy(bytes).into_owned(),
    })
}

/// Completes a path below `/proc/PID` in an error.
fn at(error: OsError, pid: Pid) -> OsError {
    match error {
        OsError::Read { path, source } => {
            OsError::Read { path: PathBuf::from(format!("/proc/{pid}")).join(path), source }
        }
        other => other,
    }
}

fn read_file(root: impl AsFd, path: &str) -> Result<Found<Vec<u8>>, OsError> {
    let read = || -> io::Result<Vec<u8>> {
        let fd = openat(root, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            match rustix::io::read(&fd, &mut chunk) {
                Ok(0) => return Ok(bytes),
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    };
    match read() {
        Ok(bytes) => Ok(Found::There(bytes)),
        Err(error) if is_gone(&error) => Ok(Found::Gone),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Found::Hidden),
        Err(source) => Err(OsError::Read { path: path.into(), source }),
    }
}

fn gone_or_hidden<T>(source: io::Error, pid: Pid, path: &str) -> Result<Found<T>, OsError> {
    if is_gone(&source) {
        Ok(Found::Gone)
    } else if source.kind() == io::ErrorKind::PermissionDenied {
        Ok(Found::Hidden)
    } else {
        Err(OsError::Read { path: PathBuf::from(format!("/proc/{pid}")).join(path), source })
    }
}

/// The value of [`MARK`] in an environment; the first, as `getenv` takes it.
pub(super) fn mark_in(environ: &[u8]) -> Option<String> {
    environ.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(MARK.as_bytes())?.strip_prefix(b"=")?;
        String::from_utf8(value.to_vec()).ok()
    })
}

/// The first number of a line of `/proc/PID/status`.
pub(super) fn status_number(text: &[u8], key: &str) -> Option<u32> {
    let text = String::from_utf8_lossy(text);
    text.lines().find_map(|line| line.strip_prefix(key)?.split_ascii_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::{KillOnDrop, eventually, id_of, kill, subreaper};

    #[test]
    fn a_host_where_nothing_ends_comes_to_rest() {
        let mut table = ProcessTable::new();
        // Kernel threads and processes that wait to be collected are there for good.
        let mut ended = subreaper("exec true").spawn().unwrap();
        eventually("a pass that nothing vanished from", || (table.refresh().unwrap().vanished == 0).then_some(()));
        let id = id_of(&ended);
        eventually("its end", || {
            table.refresh().unwrap();
            table.get(id.pid).is_some_and(Process::is_zombie).then_some(())
        });
        ended.wait().unwrap();
        eventually("its leaving", || {
            table.refresh().unwrap();
            table.get(id.pid).is_none().then_some(())
        });
    }

    #[test]
    fn who_lost_its_parent_is_read_again() {
        let mut table = ProcessTable::new();
        let mut top = subreaper("sh -c 'sleep 1020 & wait' & wait; exec sleep 1021").spawn().unwrap();
        let top_id = id_of(&top);
        let _top = KillOnDrop(top_id);
        let sleeper = |table: &mut ProcessTable| {
            table.refresh().unwrap();
            table.iter().find(|it| it.command() == "sleep 1020").cloned()
        };
        let before = eventually("the sleeper", || sleeper(&mut table));
        let _sleeper = KillOnDrop(before.id);
        let middle = table.get(before.parent.unwrap()).unwrap().id;
        assert_ne!(middle, top_id);
        kill(middle);
        eventually("its new parent", || sleeper(&mut table).filter(|it| it.parent == Some(top_id.pid)));
        kill(top_id);
        kill(before.id);
        top.wait().unwrap();
    }

    #[test]
    fn an_environment_names_a_workload_in_one_variable_only() {
        for (environ, mark) in [
            (&b"A=1\0TENURE_WORKLOAD=i/w\0B=2\0"[..], Some("i/w")),
            (b"TENURE_WORKLOAD=i/w\0TENURE_WORKLOAD=i/x\0", Some("i/w")),
            (b"XTENURE_WORKLOAD=i/w\0A=TENURE_WORKLOAD=i/w\0", None),
            (b"TENURE_WORKLOADS=i/w\0", None),
            (b"TENURE_WORKLOAD=\xff\0", None),
            (b"", None),
        ] {
            assert_eq!(mark_in(environ).as_deref(), mark);
        }
    }
}
