//! What a shim sleeps on: one kqueue. No thread, and no runtime.

use nix::errno::Errno;
use nix::libc::{self, intptr_t, timespec, uintptr_t};
use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

/// Waits until a child has ended, or something has changed in a directory.
#[derive(Debug)]
pub struct Waiter {
    queue: Kqueue,
    /// Watched for as long as it is open.
    _dir: Option<File>,
}

/// Rings at the shim of a run directory: there is something new in it. Here the system tells it.
pub fn ring(_dir: &Path) {}

impl Waiter {
    /// Begins to listen: what happens from now on ends the next [`wait`](Self::wait). So this belongs before the first child.
    /// `dir`: the run directory, if changes in it matter.
    ///
    /// # Errors
    /// The system has no descriptor left for it, or there is no such directory.
    pub fn new(dir: Option<&Path>) -> io::Result<Waiter> {
        let dir = dir.map(File::open).transpose()?;
        let queue = Kqueue::new()?;
        // Told though SIGCHLD has its default action, which is to do nothing.
        let ends = event(libc::SIGCHLD as uintptr_t, EventFilter::EVFILT_SIGNAL, FilterFlag::empty());
        let changes: Vec<KEvent> = [ends].into_iter().chain(dir.as_ref().map(|dir| vnode(dir.as_fd()))).collect();
        apply(&queue, &changes)?;
        Ok(Waiter { queue, _dir: dir })
    }

    /// Wakes also when this file of the directory grows, for as long as it is open: of a directory, only comings and goings are
    /// told.
    ///
    /// # Errors
    /// The file is of a kind that can not be watched.
    pub fn watch(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        apply(&self.queue, &[vnode(file)])
    }

    /// Sleeps until there is something to look at, `writable` can be written to, or the time is over. May wake for nothing.
    ///
    /// # Errors
    /// The system refuses to wait.
    pub fn wait(&self, writable: Option<BorrowedFd<'_>>, timeout: Option<Duration>) -> io::Result<()> {
        let room = writable.map(|pipe| {
            let flags = EvFlags::EV_ADD | EvFlags::EV_ONESHOT;
            KEvent::new(descriptor(pipe), EventFilter::EVFILT_WRITE, flags, FilterFlag::empty(), 0, 0)
        });
        let timeout = timeout.map(|span| {
            let span = span.max(Duration::from_millis(1));
            timespec {
                tv_sec: libc::time_t::try_from(span.as_secs()).unwrap_or(libc::time_t::MAX),
                tv_nsec: span.subsec_nanos().into(),
            }
        });
        // A pipe that nobody reads any more may be refused here; with room for it, the refusal is an event, and writing says why.
        let mut told = [event(0, EventFilter::EVFILT_SIGNAL, FilterFlag::empty()); 4];
        match self.queue.kevent(room.as_slice(), &mut told, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn descriptor(file: BorrowedFd<'_>) -> uintptr_t {
    // A descriptor that is open is not negative.
    file.as_raw_fd().cast_unsigned() as uintptr_t
}

fn vnode(file: BorrowedFd<'_>) -> KEvent {
    event(descriptor(file), EventFilter::EVFILT_VNODE, FilterFlag::NOTE_WRITE | FilterFlag::NOTE_EXTEND)
}

/// A subscription; what is told once is not told again.
fn event(of: uintptr_t, filter: EventFilter, what: FilterFlag) -> KEvent {
    let no_data: intptr_t = 0;
    KEvent::new(of, filter, EvFlags::EV_ADD | EvFlags::EV_CLEAR, what, no_data, no_data)
}

fn apply(queue: &Kqueue, changes: &[KEvent]) -> io::Result<()> {
    let now = timespec { tv_sec: 0, tv_nsec: 0 };
    // With no room for events, nothing is taken out, and a refusal is an error.
    queue.kevent(changes, &mut [], Some(now))?;
    Ok(())
}
