//! One process, by identity: a kqueue that tells of its end, and a start time that is checked before each signal.

use super::{call, system};
use crate::model::{BootId, Pid, ProcId, StartTime};
use crate::os::OsError;
use nix::errno::Errno;
use nix::libc::{timespec, uintptr_t};
use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use nix::sys::signal::{Signal, kill};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// This boot: pids and start times mean nothing in another.
pub fn boot_id() -> Result<BootId, OsError> {
    let read = |source| OsError::Read { path: system::BOOT_ID.into(), source };
    match system::boot_id().map_err(read)? {
        id if id.is_empty() => Err(OsError::Form { path: system::BOOT_ID.into(), what: "it is empty".into() }),
        id => Ok(BootId(id)),
    }
}

/// This process.
pub fn self_id() -> Result<ProcId, OsError> {
    let form = |what: &str| OsError::Form { path: call::PROCESS.into(), what: what.into() };
    let pid = Pid::new(nix::unistd::getpid().as_raw()).ok_or_else(|| form("this process has no pid"))?;
    let start = start_time(pid)?.ok_or_else(|| form("this process is not in it"))?;
    Ok(ProcId { pid, start })
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
        next = system::parent(pid).map_err(|source| failed_on(pid, source))?;
    }
    Ok(line)
}

/// When the process with this pid started; `None`: there is none. One that has ended and was not collected is there. On macOS
/// this is refused to an ordinary user for a process of another user's.
pub fn start_time(pid: Pid) -> Result<Option<StartTime>, OsError> {
    let row = system::one(pid).map_err(|source| failed_on(pid, source))?;
    Ok(row.map(|row| row.id.start))
}

/// The user that this process acts as.
pub fn effective_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

pub(super) fn failed_on(pid: Pid, source: io::Error) -> OsError {
    OsError::Read { path: format!("{}.{pid}", call::PROCESS).into(), source }
}

/// A process, held as well as can be here: its pid may be used again, and then this refers to nobody.
#[derive(Debug)]
pub struct ProcRef {
    id: ProcId,
    /// Holds one event when the process has ended. It is never taken out: an exit is told once.
    queue: OwnedFd,
}

impl ProcRef {
    /// Takes hold of a process. `None`: it is gone, or the pid is somebody else's now. On macOS also one that has ended and was not
    /// collected is gone.
    pub fn open(id: ProcId) -> Result<Option<ProcRef>, OsError> {
        let failed = |errno: Errno| OsError::Open { pid: id.pid, source: errno.into() };
        let queue = Kqueue::new().map_err(failed)?;
        let pid = uintptr_t::try_from(id.pid.get()).map_err(|_| failed(Errno::ESRCH))?;
        let exit = KEvent::new(pid, EventFilter::EVFILT_PROC, EvFlags::EV_ADD, FilterFlag::NOTE_EXIT, 0, 0);
        match queue.kevent(&[exit], &mut [], Some(timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(_) => {}
            Err(Errno::ESRCH) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        }
        // In this order: the subscription is to a process, not to its pid, so if the start time is right now, it is to this one.
        Ok((start_time(id.pid)? == Some(id.start)).then_some(ProcRef { id, queue: queue.into() }))
    }

    /// Which one.
    pub fn id(&self) -> ProcId {
        self.id
    }

    /// Whether it has ended: nothing of it runs, though its parent may not have collected it.
    pub fn has_ended(&self) -> Result<bool, OsError> {
        let mut fds = [PollFd::new(&self.queue, PollFlags::IN)];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            match poll(&mut fds, Some(&zero)) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(OsError::Open { pid: self.id.pid, source: errno.into() }),
            }
        }
    }

    /// Sends it a signal; `false`: it had ended. By number, so its start time is read once more, and the signal is sent at once.
    /// Only [`crate::os::Held`] does this, once the never-rules were asked.
    pub(in crate::os) fn signal(&self, signal: Signal) -> Result<bool, OsError> {
        if self.has_ended()? || start_time(self.id.pid)? != Some(self.id.start) {
            return Ok(false);
        }
        match kill(nix::unistd::Pid::from_raw(self.id.pid.get()), signal) {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => Err(OsError::Signal { id: self.id, signal, source: errno.into() }),
        }
    }

    /// The descriptor: readable when the process has ended.
    pub fn into_fd(self) -> OwnedFd {
        self.queue
    }
}

impl AsFd for ProcRef {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}
