//! Whether somebody is at the other end of what a process reads and writes, and whether it does anything.

use super::process::clock_ticks_per_second;
use super::read::{Found, read_stat};
use crate::model::{ProcId, Reading};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::Duration;

/// `/dev/null`, as Linux numbers devices.
const NULL: (u32, u32) = (1, 3);

/// What is at the other end of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Somebody, or something that we do not know.
    Held,
    /// Nobody any more.
    Deserted,
    /// It never had one: `/dev/null`, a file, or no descriptor at all.
    None,
}

/// Whether anybody but the process itself may write to its stdin or read from its stdout: the other end of a pipe or socket
/// is open, or it is a terminal or something else that we do not know; what is written to a file is for somebody to read. Nobody
/// is there if a pipe or socket was left. Where there never was one, it may have been detached on purpose: that is not known. A
/// pipe or socket is asked itself, through a copy of the descriptor: nothing is read or written.
pub fn has_client(id: ProcId) -> Reading<bool> {
    let asked = [0, 1].map(|descriptor| other_end(id, descriptor));
    // What was read is about this one only if it is still there.
    match read_stat(id.pid) {
        Ok(Found::There(stat)) if stat.start == id.start => {}
        _ => return Reading::Unknown("it has ended".into()),
    }
    match asked {
        [Ok(End::Held), _] | [_, Ok(End::Held)] => Reading::Known(true),
        [Err(error), _] | [_, Err(error)] => Reading::Unknown(error.to_string()),
        [Ok(End::Deserted), _] | [_, Ok(End::Deserted)] => Reading::Known(false),
        [Ok(End::None), Ok(End::None)] => Reading::Unknown("it never had a pipe or socket to a client".into()),
    }
}

fn other_end(id: ProcId, descriptor: i32) -> io::Result<End> {
    let path = format!("/proc/{}/fd/{descriptor}", id.pid);
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(End::None),
        Err(error) => return Err(error),
    };
    let kind = meta.file_type();
    if kind.is_char_device() {
        let is_null = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev())) == NULL;
        return Ok(if is_null { End::None } else { End::Held });
    }
    if !kind.is_fifo() && !kind.is_socket() {
        let is_read_from = kind.is_file() && descriptor == 0;
        return Ok(if is_read_from { End::None } else { End::Held });
    }
    let pid = Pid::from_raw(id.pid.get()).ok_or(Errno::SRCH)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let copy = pidfd_getfd(&process, descriptor, PidfdGetfdFlags::empty())?;
    let mut asked = [PollFd::new(&copy, PollFlags::empty())];
    poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    // HUP: nobody can write to it any more. ERR: nobody can read from it.
    let is_left = asked[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
    Ok(if is_left { End::Deserted } else { End::Held })
}

/// How much of processors' time a process has had. None: it has ended.
pub fn processor_time(id: ProcId) -> Option<Duration> {
    match read_stat(id.pid) {
        Ok(Found::There(stat)) if stat.start == id.start => {
            Some(Duration::from_millis(stat.ticks.saturating_mul(1000) / clock_ticks_per_second().max(1)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::{KillOnDrop, eventually, id_of};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::process::{Child, Command, Stdio};

    fn start(stdin: impl Into<Stdio>, stdout: impl Into<Stdio>) -> (Child, KillOnDrop) {
        let child = Command::new("sleep").arg("1055").stdin(stdin).stdout(stdout).spawn().unwrap();
        let held = KillOnDrop(id_of(&child));
        (child, held)
    }

    fn end((mut child, held): (Child, KillOnDrop)) {
        drop(held);
        child.wait().unwrap();
    }

    #[test]
    fn a_client_is_who_holds_the_other_end() {
        let scratch = tempfile::tempdir().unwrap();
        let log = fs::File::create(scratch.path().join("log")).unwrap();
        // As `nohup` starts it: on purpose.
        let detached = start(Stdio::null(), Stdio::null());
        assert!(matches!(has_client(detached.1.0), Reading::Unknown(_)));
        end(detached);
        let mut writes = start(Stdio::piped(), log);
        drop(writes.0.stdin.take());
        assert_eq!(has_client(writes.1.0), Reading::Known(true), "somebody will read the file");
        end(writes);

        let mut piped = start(Stdio::piped(), Stdio::piped());
        assert_eq!(has_client(piped.1.0), Reading::Known(true));
        drop(piped.0.stdin.take());
        assert_eq!(has_client(piped.1.0), Reading::Known(true), "somebody reads what it writes");
        drop(piped.0.stdout.take());
        // Another thread's child has copies of our ends until its exec.
        eventually("nobody to be there", || (has_client(piped.1.0) == Reading::Known(false)).then_some(()));
        end(piped);

        let (ours, theirs) = UnixStream::pair().unwrap();
        let socket = start(OwnedFd::from(theirs.try_clone().unwrap()), OwnedFd::from(theirs));
        assert_eq!(has_client(socket.1.0), Reading::Known(true));
        drop(ours);
        eventually("nobody to be there", || (has_client(socket.1.0) == Reading::Known(false)).then_some(()));
        assert!(processor_time(socket.1.0).is_some_and(|time| time < Duration::from_secs(5)));
        let id = socket.1.0;
        end(socket);
        assert!(has_client(id).known().is_none() && processor_time(id).is_none());
    }
}
