//! What a shim sleeps on: a signalfd, inotify, and a pipe, in one `poll`. It costs two descriptors, no thread, and no runtime.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

/// Waits until a child has ended, or something has changed in a directory.
#[derive(Debug)]
pub struct Waiter {
    ends: SignalFd,
    hints: Inotify,
}

impl Waiter {
    /// Begins to listen: what happens from now on ends the next [`wait`](Self::wait). SIGCHLD is blocked in this thread, so this
    /// belongs before the first child and before the first other thread.
    ///
    /// # Errors
    /// The system has no descriptor or no watch left for it, or there is no such directory.
    pub fn new(dir: &Path) -> io::Result<Waiter> {
        let mut ends = SigSet::empty();
        ends.add(Signal::SIGCHLD);
        ends.thread_block()?;
        let ends = SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let hints = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let what = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        hints.add_watch(dir, what)?;
        Ok(Waiter { ends, hints })
    }

    /// Wakes also when this file of the directory grows, for as long as it is open. Here the watch of the directory says so.
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
        let mut fds =
            vec![PollFd::new(self.ends.as_fd(), PollFlags::POLLIN), PollFd::new(self.hints.as_fd(), PollFlags::POLLIN)];
        fds.extend(writable.map(|pipe| PollFd::new(pipe, PollFlags::POLLOUT)));
        let timeout = timeout.map_or(PollTimeout::NONE, |span| {
            PollTimeout::try_from(span.max(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        while let Ok(Some(_)) = self.ends.read_signal() {}
        while self.hints.read_events().is_ok_and(|events| !events.is_empty()) {}
        Ok(())
    }
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
        let waiter = Waiter::new(dir.path()).unwrap();
        waiter.watch(file.as_fd()).unwrap();
        let idle = Duration::from_millis(20);
        assert!(!wakes(&waiter, None, idle), "nothing has happened");

        file.write_all(b"line\n").unwrap();
        assert!(wakes(&waiter, None, LONG), "a file grew");
        assert!(!wakes(&waiter, None, idle), "that was told");

        std::fs::File::create(dir.path().join("stdin.eof")).unwrap();
        assert!(wakes(&waiter, None, LONG), "a file appeared");

        let (_read, write) = rustix::pipe::pipe().unwrap();
        assert!(wakes(&waiter, Some(write.as_fd()), LONG), "there is room in the pipe");
        rustix::io::ioctl_fionbio(&write, true).unwrap();
        while rustix::io::write(&write, &[0; 4096]).is_ok() {}
        assert!(!wakes(&waiter, Some(write.as_fd()), idle), "the pipe is full");
    }
}
