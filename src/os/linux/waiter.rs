//! What a shim sleeps on: a signalfd, a FIFO that serves as a doorbell, and a pipe, in one `poll`. It costs two descriptors, no
//! thread, and no runtime; and nothing that is scarce: of inotify instances, a user has 128 for all programs together.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fs::{CWD, Mode, OFlags, mkfifoat, open};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// The doorbell of a run directory.
const BELL: &str = "bell";

/// Rings at the shim of a run directory: there is something new in it. Nobody may be there to hear it.
pub fn ring(dir: &Path) {
    // A bell that is not there, that nobody listens to, or that has been rung often is as good as rung: the shim looks by itself.
    if let Ok(bell) = open(dir.join(BELL), OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::io::write(&bell, b"!");
    }
}

/// Waits until a child has ended, or somebody rings.
#[derive(Debug)]
pub struct Waiter {
    ends: SignalFd,
    bell: Option<OwnedFd>,
}

impl Waiter {
    /// Begins to listen: what happens from now on ends the next [`wait`](Self::wait). SIGCHLD is blocked in this thread, so this
    /// belongs before the first child and before the first other thread. `dir`: the run directory, if its bell matters.
    ///
    /// # Errors
    /// The system has no descriptor left for it, or there is no such directory.
    pub fn new(dir: Option<&Path>) -> io::Result<Waiter> {
        let mut ends = SigSet::empty();
        ends.add(Signal::SIGCHLD);
        ends.thread_block()?;
        let ends = SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Waiter { ends, bell: dir.map(hang_up).transpose()? })
    }

    /// Wakes also when this file of the directory grows, for as long as it is open. Here who appends to it rings.
    ///
    /// # Errors
    /// None here.
    pub fn watch(&self, _file: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Sleeps until there is something to look at, `writable` can be written to, or the time is over. May wake for nothing.
    ///
    /// # Errors
    /// The system refuses to wait.
    pub fn wait(&self, writable: Option<BorrowedFd<'_>>, timeout: Option<Duration>) -> io::Result<()> {
        let mut fds = vec![PollFd::new(self.ends.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.bell.as_ref().map(|bell| PollFd::new(bell.as_fd(), PollFlags::POLLIN)));
        fds.extend(writable.map(|pipe| PollFd::new(pipe, PollFlags::POLLOUT)));
        let timeout = timeout.map_or(PollTimeout::NONE, |span| {
            PollTimeout::try_from(span.max(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        while let Ok(Some(_)) = self.ends.read_signal() {}
        if let Some(bell) = &self.bell {
            let mut buffer = [0; 64];
            while rustix::io::read(bell, &mut buffer).is_ok_and(|count| count > 0) {}
        }
        Ok(())
    }
}

/// Open for writing too: without a writer, it would be at its end, and always ready.
fn hang_up(dir: &Path) -> io::Result<OwnedFd> {
    let path = dir.join(BELL);
    match mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(open(&path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(20);

    /// Whether a wait was ended by something else than its time.
    fn wakes(waiter: &Waiter, writable: Option<BorrowedFd<'_>>, timeout: Duration) -> bool {
        let begun = Instant::now();
        waiter.wait(writable, Some(timeout)).unwrap();
        begun.elapsed() < timeout
    }

    /// But for the end of a child: that needs a process whose every thread blocks SIGCHLD, as a shim is.
    #[test]
    fn each_reason_to_wake_wakes_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = std::fs::File::create(dir.path().join("stdin")).unwrap();
        ring(dir.path());
        let waiter = Waiter::new(Some(dir.path())).unwrap();
        waiter.watch(file.as_fd()).unwrap();
        let idle = Duration::from_millis(20);
        assert!(!wakes(&waiter, None, idle), "nothing has happened");

        file.write_all(b"line\n").unwrap();
        (0..100_000).for_each(|_| ring(dir.path()));
        assert!(wakes(&waiter, None, LONG), "somebody rang");
        assert!(!wakes(&waiter, None, idle), "that was told");

        let (_read, write) = rustix::pipe::pipe().unwrap();
        assert!(wakes(&waiter, Some(write.as_fd()), LONG), "there is room in the pipe");
        rustix::io::ioctl_fionbio(&write, true).unwrap();
        while rustix::io::write(&write, &[0; 4096]).is_ok() {}
        assert!(!wakes(&waiter, Some(write.as_fd()), idle), "the pipe is full");
    }
}
