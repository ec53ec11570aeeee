//! Letting go: `tenure detach -- CMD`, and the keeper that it starts CMD below.
//!
//! CMD must lose every mark before it begins: the cgroup, the environment, and the descent from the shim. The last cannot be
//! shed (whatever loses its parent below a shim becomes the shim's child), so a *keeper* stands between: it is registered as
//! let go ([`crate::os::keepers`]), and it stays, as the parent of all that CMD leaves behind, until nothing of that is left.

use super::files;
use crate::model::{Time, WorkloadUid};
use crate::os::{self, KEPT_FORMAT, Kept, MARK, OsError, RUN_DIR, StateDir};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::wait::{WaitStatus, waitpid};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use thiserror::Error;

/// Why a command could not be let go. Then it was not started.
#[derive(Debug, Error)]
pub enum DetachError {
    /// The command itself could not be started.
    #[error("failed to start {0}: {1}")]
    Start(String, String),
    /// It would not have been free.
    #[error("{0}; the command was not started, for it would end with its workload")]
    NotFree(String),
    /// The keeper went away.
    #[error("its keeper ended before the command did; the command may go on")]
    KeeperLost,
}

/// Starts `command` outside every mark and waits for its end; gives its exit status (128 + n after signal n, as shells do).
/// Outside of any workload there is nothing to let go of, and the command takes the place of this process.
///
/// # Errors
/// [`DetachError`].
pub fn detach(command: &[OsString]) -> Result<u8, DetachError> {
    let program = command.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let not_started = |error: io::Error| DetachError::Start(program.clone(), error.to_string());
    let (Some(run_dir), Some(_)) = (std::env::var_os(RUN_DIR), std::env::var_os(MARK)) else {
        let mut words = command.iter();
        return Err(not_started(Command::new(words.next().map_or(OsStr::new(""), |it| it)).args(words).exec()));
    };
    let (reader, writer) = io::pipe().map_err(not_started)?;
    let inherited = fcntl(&writer, FcntlArg::F_SETFD(FdFlag::empty()));
    inherited.map_err(|errno| not_started(errno.into()))?;
    let keeper = std::env::current_exe().map_err(not_started)?;
    let mut keeper = Command::new(keeper);
    keeper.arg("keep").arg(run_dir).arg(writer.as_raw_fd().to_string()).args(command);
    let _child = keeper.env_remove(MARK).env_remove(RUN_DIR).spawn().map_err(not_started)?;
    drop(writer);
    for line in BufReader::new(reader).lines() {
        let line = line.map_err(|_| DetachError::KeeperLost)?;
        match line.split_once(' ') {
            Some(("exit", status)) => return Ok(status.parse().unwrap_or(u8::MAX)),
            Some(("bound", why)) => return Err(DetachError::NotFree(why.to_owned())),
            Some(("failed", why)) => return Err(DetachError::Start(program, why.to_owned())),
            _ => {}
        }
    }
    Err(DetachError::KeeperLost)
}

#[derive(Debug, Error)]
enum KeepError {
    #[error(transparent)]
    File(#[from] files::FileError),
    #[error(transparent)]
    Os(#[from] OsError),
    #[error("failed to {0}: {1}")]
    System(&'static str, io::Error),
    #[error("{0} is not the run directory of a workload")]
    NoWorkload(PathBuf),
}

/// `tenure keep <run dir> <descriptor> CMD…`: the keeper. Tells what happens on the descriptor, a line each: `bound <why>`
/// (CMD was not started), `failed <why>` (could not be), `exit <status>`.
pub fn run_keeper(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(run_dir), Some(fd)) = (args.next(), args.next().and_then(|fd| fd.to_str()?.parse().ok())) else {
        eprintln!("`tenure keep` is started by `tenure detach -- COMMAND…`; use that");
        return ExitCode::from(2);
    };
    let mut report = match inherited(fd) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("`tenure keep` is started by `tenure detach -- COMMAND…`; use that ({error})");
            return ExitCode::from(2);
        }
    };
    // Whoever asked may be gone, and its workload with it: then nobody reads.
    let mut tell = |line: String| drop(writeln!(report, "{}", line.replace('\n', " ")));
    let command: Vec<OsString> = args.collect();
    match free_and_register(Path::new(&run_dir), &command) {
        Ok(keeper) => {
            keep(&command, &mut tell);
            keeper.forget();
            ExitCode::SUCCESS
        }
        Err(error) => {
            tell(format!("bound {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The descriptor that was handed over, from now on for us alone.
fn inherited(fd: i32) -> io::Result<File> {
    if fd < 3 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let fd = os::adopt_fd(fd)?;
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(File::from(fd))
}

/// Sheds the marks of this process, and enters it into the register.
fn free_and_register(run_dir: &Path, command: &[OsString]) -> Result<os::Keeper, KeepError> {
    let spec = files::read_spec(run_dir)?.ok_or_else(|| KeepError::NoWorkload(run_dir.to_owned()))?;
    let state = run_dir.parent().and_then(Path::parent).map(|root| StateDir(root.to_owned()));
    let state = state.ok_or_else(|| KeepError::NoWorkload(run_dir.to_owned()))?;
    os::ignore_requests_to_end().map_err(|error| KeepError::System("ignore signals", error))?;
    let _ = nix::unistd::setsid();
    os::become_subreaper().map_err(|error| KeepError::System("become a subreaper", error))?;
    if let Some(cgroup) = &spec.cgroup {
        os::leave_cgroup(cgroup)?;
    }
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    let kept = Kept {
        version: KEPT_FORMAT,
        workload: WorkloadUid::from(spec.uid.as_str()),
        command: words.join(" "),
        at: Time(jiff::Timestamp::now().as_millisecond()),
    };
    os::register_keeper(&state, &os::boot_id()?, os::self_id()?, &kept)
        .map_err(|error| KeepError::System("enter it into the register of what was let go", error))
}

/// Starts the command, and stays until nothing of it is left.
fn keep(command: &[OsString], tell: &mut impl FnMut(String)) {
    let mut words = command.iter();
    let mut process = Command::new(words.next().map_or(OsStr::new(""), |it| it));
    let main = match os::spawn_workload(process.args(words), None) {
        Ok(child) => i32::try_from(child.id()).unwrap_or(0),
        Err(error) => return tell(format!("failed {error}")),
    };
    // What reads the command's output sees its end when the command ends, not when we do.
    os::forget_stdio();
    let _ = std::env::set_current_dir("/");
    loop {
        let (pid, status) = match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, code),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(_) => return,
        };
        if pid.as_raw() == main {
            tell(format!("exit {status}"));
        }
    }
}
