//! One process, by identity: a pidfd whose start time was checked after it was opened.

use super::stat::Stat;
use crate::model::{BootId, Pid, ProcId, StartTime};
use crate::os::OsError;
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// This boot: pids and start times mean nothing in another.
pub fn boot_id() -> Result<BootId, OsError> {
    let text = fs::read_to_string(BOOT_ID).map_err(|source| OsError::Read { path: BOOT_ID.into(), source })?;
    match text.trim() {
        "" => Err(OsError::Form { path: BOOT_ID.into(), what: "it is empty".into() }),
        id => Ok(BootId::from(id)),
    }
}

/// This process.
pub fn self_id() -> Result<ProcId, OsError> {
    let path = Path::new("/proc/self/stat");
    let stat = read_stat(path)?.ok_or_else(|| OsError::Form { path: path.into(), what: "it is not there".into() })?;
    let pid = Pid::new(stat.pid).ok_or_else(|| OsError::Form {
        path: path.into(),
        what: format!("pid {}: is /proc that of another pid namespace?", stat.pid),
    })?;
    Ok(ProcId { pid, start: stat.start })
}

/// This process and every process above it: whoever they are, a controller that signalled one of them would end itself.
pub fn self_and_ancestors() -> Result<BTreeSet<Pid>, OsError> {
    let mut line = BTreeSet::new();
    let mut next = Some(self_id()?.pid);
    while let Some(pid) = next {
        // A pid that comes up twice was used again while we read: the line above it is not ours.
        if !line.insert(pid) {
            break;
        }
        next = read_stat(Path::new(&format!("/proc/{pid}/stat")))?.and_then(|stat| stat.parent);
    }
    Ok(line)
}

/// When the process with this pid started; `None`: there is none. One that has ended and was not collected is there.
pub fn start_time(pid: Pid) -> Result<Option<StartTime>, OsError> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    Ok(read_stat(&path)?.map(|stat| stat.start))
}

fn read_stat(path: &Path) -> Result<Option<Stat>, OsError> {
    match fs::read(path) {
        Ok(bytes) => match Stat::parse(&bytes) {
            Some(stat) => Ok(Some(stat)),
            None => Err(OsError::Form { path: path.into(), what: String::from_utf8_lossy(&bytes).into_owned() }),
        },
        Err(error) if is_gone(&error) => Ok(None),
        Err(source) => Err(OsError::Read { path: path.into(), source }),
    }
}

/// Whether an error on a file of `/proc/PID` says that there is no such process: `ENOENT` when it is opened, `ESRCH` when
/// it is read.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::SRCH))
}

/// The user that this process acts as.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The unit of start times: ticks a second.
pub fn clock_ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

/// The unit of resident memory in `/proc`, in bytes.
pub fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

/// A process, held: its pid may be used again, this still means the one that it was opened for.
#[derive(Debug)]
pub struct ProcRef {
    id: ProcId,
    fd: OwnedFd,
}

impl ProcRef {
    /// Takes hold of a process. `None`: it is gone, or the pid is somebody else's now.
    pub fn open(id: ProcId) -> Result<Option<ProcRef>, OsError> {
        let failed = |errno: Errno| OsError::Open { pid: id.pid, source: errno.into() };
        let raw = rustix::process::Pid::from_raw(id.pid.get()).ok_or_else(|| failed(Errno::SRCH))?;
        let fd = match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(fd) => fd,
            // The other two: the number is that of a thread of another process now.
            Err(Errno::SRCH | Errno::NOENT | Errno::INVAL) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        // In this order: what the descriptor refers to cannot change any more, so if the start time is right now, it is right
        // for the descriptor, for as long as that is open.
        Ok((start_time(id.pid)? == Some(id.start)).then_some(ProcRef { id, fd }))
    }

    /// Which one.
    pub fn id(&self) -> ProcId {
        self.id
    }

    /// Whether it has ended: nothing of it runs, though its parent may not have collected it.
    pub fn has_ended(&self) -> Result<bool, OsError> {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            match poll(&mut fds, Some(&zero)) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(OsError::Open { pid: self.id.pid, source: errno.into() }),
            }
        }
    }

    /// Sends it a signal; `false`: it had ended. Only [`crate::os::Held`] does this, once the never-rules were asked.
    pub(in crate::os) fn signal(&self, signal: Signal) -> Result<bool, OsError> {
        if self.has_ended()? {
            return Ok(false);
        }
        let failed = |errno: Errno| OsError::Signal { id: self.id, signal, source: errno.into() };
        let named = rustix::process::Signal::from_named_raw(signal as i32).ok_or_else(|| failed(Errno::INVAL))?;
        match pidfd_send_signal(&self.fd, named) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// The descriptor: readable when the process has ended.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for ProcRef {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn sleeper() -> std::process::Child {
        Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap()
    }

    fn id_of(child: &std::process::Child) -> ProcId {
        let pid = Pid::new(child.id() as i32).unwrap();
        ProcId { pid, start: start_time(pid).unwrap().unwrap() }
    }

    #[test]
    fn a_process_knows_itself() {
        let me = self_id().unwrap();
        assert_eq!(me.pid.get() as u32, std::process::id());
        assert_eq!(start_time(me.pid).unwrap(), Some(me.start));
        assert_eq!(boot_id().unwrap().as_str().len(), 36);
        assert!(page_size() >= 4096 && clock_ticks_per_second() > 0);
    }

    #[test]
    fn a_reference_signals_its_process_and_says_when_it_had_ended() {
        let mut child = sleeper();
        let id = id_of(&child);
        let held = ProcRef::open(id).unwrap().unwrap();
        assert!(!held.has_ended().unwrap());
        assert!(held.signal(Signal::SIGKILL).unwrap());
        child.wait().unwrap();
        assert!(!held.signal(Signal::SIGTERM).unwrap());
        assert!(ProcRef::open(id).unwrap().is_none());
        assert_eq!(start_time(id.pid).unwrap(), None);
    }

    #[test]
    fn a_reference_by_an_old_start_time_is_refused() {
        let mut child = sleeper();
        let id = id_of(&child);
        let before = ProcId { start: StartTime(id.start.0 - 1), ..id };
        assert!(ProcRef::open(before).unwrap().is_none());
        ProcRef::open(id).unwrap().unwrap().signal(Signal::SIGKILL).unwrap();
        child.wait().unwrap();
    }

    /// As root, the next pid can be chosen: another process takes over the pid of one that is referred to.
    #[test]
    fn a_pid_that_was_used_again_is_not_the_process_that_was_named() {
        // Somebody else on this host may be given the pid first, and keep it: then it is tried with another.
        for _ in 0..20 {
            let mut first = sleeper();
            let old = id_of(&first);
            let held = ProcRef::open(old).unwrap().unwrap();
            held.signal(Signal::SIGKILL).unwrap();
            first.wait().unwrap();
            for _ in 0..20 {
                if fs::write("/proc/sys/kernel/ns_last_pid", (old.pid.get() - 1).to_string()).is_err() {
                    return; // not root
                }
                let mut next = sleeper();
                let new = id_of(&next);
                let taken = new.pid == old.pid && new.start != old.start;
                if taken {
                    assert!(ProcRef::open(old).unwrap().is_none());
                    assert!(!held.signal(Signal::SIGKILL).unwrap(), "the old reference reached the new process");
                    assert!(!ProcRef::open(new).unwrap().unwrap().has_ended().unwrap());
                }
                ProcRef::open(new).unwrap().unwrap().signal(Signal::SIGKILL).unwrap();
                next.wait().unwrap();
                if taken {
                    return;
                }
            }
        }
        panic!("no pid was ever given out again");
    }
}
