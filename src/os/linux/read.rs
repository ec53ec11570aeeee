//! Reading one process from `/proc/PID`: what is there, what has ended, what is not for us to see.

use super::process::is_gone;
use super::stat::Stat;
use crate::model::Pid;
use crate::os::OsError;
use rustix::fs::{CWD, Dir, Mode, OFlags, fstat, open, openat, readlinkat};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// What a file of `/proc/PID` gave.
pub(super) enum Found<T> {
    There(T),
    /// The process has ended.
    Gone,
    /// It is not for us to read.
    Hidden,
}

/// The directory of a process. Files opened below it are those of this process, or fail: the pid cannot be used again in
/// between.
pub(super) struct Home {
    pid: Pid,
    fd: OwnedFd,
}

impl Home {
    pub(super) fn open(pid: Pid) -> Result<Found<Home>, OsError> {
        match open(format!("/proc/{pid}"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(Found::There(Home { pid, fd })),
            Err(errno) => gone_or_hidden(errno.into(), pid, ""),
        }
    }

    /// What `/proc` lists it as.
    pub(super) fn inode(&self) -> Result<Found<u64>, OsError> {
        match fstat(&self.fd) {
            Ok(stat) => Ok(Found::There(stat.st_ino)),
            Err(errno) => gone_or_hidden(errno.into(), self.pid, ""),
        }
    }

    pub(super) fn stat(&self) -> Result<Found<Stat>, OsError> {
        Ok(match self.file("stat")? {
            Found::There(bytes) => Found::There(Stat::of(&bytes, self.pid)?),
            Found::Gone => Found::Gone,
            Found::Hidden => Found::Hidden,
        })
    }

    /// The command line, up to this many bytes. One that is hidden is empty.
    pub(super) fn command_line(&self, most: usize) -> Result<Found<Vec<u8>>, OsError> {
        Ok(match self.file("cmdline")? {
            Found::There(mut bytes) => {
                bytes.truncate(most);
                Found::There(bytes)
            }
            Found::Gone => Found::Gone,
            Found::Hidden => Found::There(Vec::new()),
        })
    }

    /// Its `status`: users, and pids in other namespaces.
    pub(super) fn status(&self) -> Result<Found<Vec<u8>>, OsError> {
        self.file("status")
    }

    /// The path of the executable; none: there is none, or it is not for us to see.
    pub(super) fn executable(&self) -> Option<String> {
        let path = readlinkat(&self.fd, "exe", Vec::new()).ok()?.into_string().ok()?;
        // An upgrade replaces the file under those that run.
        Some(path.strip_suffix(" (deleted)").map(str::to_owned).unwrap_or(path))
    }

    pub(super) fn environment(&self) -> Result<Found<Vec<u8>>, OsError> {
        self.file("environ")
    }

    /// What its threads have forked and not collected, as far as the kernel says: it may leave out one whose sibling ends
    /// at this moment.
    pub(super) fn children(&self) -> Result<Vec<Pid>, OsError> {
        let mut children = Vec::new();
        let failed = |errno: Errno| at(OsError::Read { path: "task".into(), source: errno.into() }, self.pid);
        let tasks = match openat(&self.fd, "task", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        {
            Ok(tasks) => tasks,
            Err(Errno::NOENT | Errno::SRCH | Errno::ACCESS | Errno::PERM) => return Ok(children),
            Err(errno) => return Err(failed(errno)),
        };
        for entry in Dir::read_from(&tasks).map_err(failed)? {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::NOENT | Errno::SRCH) => break,
                Err(errno) => return Err(failed(errno)),
            };
            let Some(thread) = entry.file_name().to_str().ok().filter(|name| !name.starts_with('.')) else { continue };
            // Not there in every kernel: then the next look at the whole host finds them.
            if let Found::There(bytes) =
                read_file(&tasks, &format!("{thread}/children")).map_err(|error| at(error, self.pid))?
            {
                let text = String::from_utf8_lossy(&bytes);
                children.extend(text.split_ascii_whitespace().filter_map(|word| word.parse().ok().and_then(Pid::new)));
            }
        }
        Ok(children)
    }

    fn file(&self, file: &str) -> Result<Found<Vec<u8>>, OsError> {
        read_file(&self.fd, file).map_err(|error| at(error, self.pid))
    }
}

/// A file of a process of which nothing else is read.
pub(super) fn read_one(pid: Pid, file: &str) -> Result<Found<Vec<u8>>, OsError> {
    read_file(CWD, &format!("/proc/{pid}/{file}"))
}

pub(super) fn read_stat(pid: Pid) -> Result<Found<Stat>, OsError> {
    Ok(match read_one(pid, "stat")? {
        Found::There(bytes) => Found::There(Stat::of(&bytes, pid)?),
        Found::Gone => Found::Gone,
        Found::Hidden => Found::Hidden,
    })
}

impl Stat {
    fn of(bytes: &[u8], pid: Pid) -> Result<Stat, OsError> {
        Stat::parse(bytes).ok_or_else(|| OsError::Form {
            path: format!("/proc/{pid}/stat").into(),
            what: String::from_utf8_lossy(bytes).into_owned(),
        })
    }
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

/// The first number of a line of `/proc/PID/status`.
pub(super) fn status_number(text: &[u8], key: &str) -> Option<u32> {
    let text = String::from_utf8_lossy(text);
    text.lines().find_map(|line| line.strip_prefix(key)?.split_ascii_whitespace().next()?.parse().ok())
}
