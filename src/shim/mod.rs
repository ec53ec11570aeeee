//! The shim: the small parent of one workload. It outlives the controller, and has one job: be there.
//!
//! What it promises:
//! - The workload's stdin gets every whole line that the controller appended to `stdin`, once, in order, whether or not a
//!   controller lives.
//! - Whatever the workload's processes do to their parents, they stay below the shim; it collects them, and leaves only
//!   when none is left. (macOS gives orphans to process 1 only: there it leaves when its own children have.)
//! - The end of the main process is in `exit.json` before the shim leaves.
//! - The main process is started once, at most: also when the shim dies before it could say that it has.
//! - When the controller's lock has been free for the lease, it stops the workload and cleans up by itself.
//! - Requests to end (SIGTERM, …) are for the workload, not for it.
//!
//! It starts no runtime, and but for ending a large tree no thread: a hundred of them should cost next to nothing.

pub mod files;
mod keep;
mod lease;
mod pump;

pub use keep::{DetachError, detach, run_keeper};

use crate::model::{Exit, Pid, ProcId, Time};
use crate::os::{self, LockError, MARK, RUN_DIR, StateLock, Waiter};
use files::{ExitFile, FileError, ShimFile, SpecFile};
use lease::Lease;
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use pump::Pump;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio as ChildStdio};
use std::time::Duration;
use thiserror::Error;

/// How long a hint of the file system may be late: files are looked at this often even without one.
const POLL_FALLBACK: Duration = Duration::from_secs(1);

/// How long after it was tried something is written again.
const TELL_AGAIN: Duration = Duration::from_millis(500);

/// Why a shim could not do its job. It says so on stderr, which is `shim.log`.
#[derive(Debug, Error)]
enum ShimError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("failed to {doing}: {source}")]
    System { doing: &'static str, source: io::Error },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Os(#[from] os::OsError),
    #[error("there is no spec.json: a shim is started by the controller")]
    NoSpec,
}

fn system(doing: &'static str) -> impl Fn(io::Error) -> ShimError {
    move |source| ShimError::System { doing, source }
}

/// `tenure shim <dir>`: runs the workload of a run directory to its end.
pub fn run(dir: &Path) -> ExitCode {
    match try_run(dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shim of {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

fn try_run(dir: &Path) -> Result<(), ShimError> {
    os::ignore_requests_to_end().map_err(system("ignore signals"))?;
    // Started as the leader of a group it could not; then the controller has made it one already.
    let _ = nix::unistd::setsid();
    // One shim a workload, however often a controller that was killed in between starts it.
    let _only = match StateLock::take(&dir.join("shim.lock")) {
        Ok(lock) => lock,
        Err(LockError::Held { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let begun = dir.join("begun");
    if begun.exists() || dir.join("shim.json").exists() || dir.join("exit.json").exists() {
        return Ok(());
    }
    let spec = files::read_spec(dir)?.ok_or(ShimError::NoSpec)?;
    os::become_subreaper().map_err(system("become a subreaper"))?;
    if let Some(cgroup) = &spec.cgroup {
        os::leave_other_instances(cgroup);
    }
    let lease = Lease::new(&spec).map_err(system("watch the controller's lock"))?;
    let waiter = Waiter::new(spec.stdin.then_some(dir)).map_err(system("watch for ends, and the run directory"))?;

    let me = os::self_id()?;
    let mut command = command(dir, &spec)?;
    // From here on the program may run. Whatever ends this shim, nobody starts it again.
    File::create(begun).map_err(system("say that it begins"))?;
    let child = match os::spawn_workload(&mut command, spec.cgroup.as_deref()) {
        Ok(child) => child,
        Err(error) => {
            let program = spec.command.first().map_or("", String::as_str);
            let message = format!("could not be started: {program}: {error} (in {})", spec.cwd.display());
            let exit = Exit { message: Some(message), at: Some(now()), ..Exit::default() };
            let mut news = News { dir, shim: Some(shim_file(me, None)?), exit: Some(exit) };
            while !news.tell()? {
                std::thread::sleep(TELL_AGAIN);
            }
            return Ok(());
        }
    };
    drop(command);
    let raw = i32::try_from(child.id()).ok().and_then(Pid::new);
    let start = match raw {
        Some(pid) => os::start_time(pid)?.map(|start| ProcId { pid, start }),
        None => None,
    };
    let mut news = News { dir, shim: Some(shim_file(me, start)?), exit: None };
    news.tell()?;
    os::forget_stdout();
    let pump = child.stdin.map(|pipe| Pump::new(dir, pipe)).transpose().map_err(system("open stdin"))?;
    if let Some(pump) = &pump {
        waiter.watch(pump.file()).map_err(system("watch stdin"))?;
    }
    let mut shim = Shim { dir, spec: &spec, main: start, pump, ended: false, news, lease };
    shim.live(&waiter)
}

struct Shim<'a> {
    dir: &'a Path,
    spec: &'a SpecFile,
    main: Option<ProcId>,
    pump: Option<Pump>,
    /// Whether the main process has ended.
    ended: bool,
    news: News<'a>,
    lease: Lease,
}

impl Shim<'_> {
    /// Until no process is left.
    fn live(&mut self, waiter: &Waiter) -> Result<(), ShimError> {
        loop {
            let left = self.collect()?;
            if self.news.tell()? && !left {
                return Ok(());
            }
            if let Some(pump) = &mut self.pump
                && !pump.pass_on()
            {
                self.pump = None;
            }
            if self.lease.has_run_out() {
                return self.end_by_itself();
            }
            self.wait(waiter)?;
        }
    }

    fn wait(&self, waiter: &Waiter) -> Result<(), ShimError> {
        let pipe = self.pump.as_ref().filter(|pump| pump.is_full()).map(Pump::pipe);
        let pumping = self.pump.is_some().then_some(POLL_FALLBACK);
        let telling = (!self.news.is_told()).then_some(TELL_AGAIN);
        let timeout = [pumping, telling, self.lease.next_check()].into_iter().flatten().min();
        waiter.wait(pipe, timeout).map_err(system("wait"))
    }

    /// Collects what has ended; false: no process is left.
    fn collect(&mut self) -> Result<bool, ShimError> {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return Ok(true),
                Ok(WaitStatus::Exited(pid, code)) => {
                    self.note_end(pid.as_raw(), Exit { code: Some(code), ..Exit::default() });
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    let signal = Some(signal.as_str().to_owned());
                    self.note_end(pid.as_raw(), Exit { signal, ..Exit::default() });
                }
                // Stopped, continued, or traced: it lives.
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => return Ok(false),
                Err(errno) => return Err(ShimError::System { doing: "collect", source: errno.into() }),
            }
        }
    }

    fn note_end(&mut self, pid: i32, exit: Exit) {
        if self.ended || self.main.is_some_and(|main| main.pid.get() != pid) {
            return;
        }
        self.ended = true;
        self.pump = None;
        self.news.exit = Some(Exit { at: Some(now()), peak_rss_bytes: os::peak_rss_of_children(), ..exit });
    }

    /// No controller came back: stop the workload and clean up, as a controller would have.
    fn end_by_itself(&mut self) -> Result<(), ShimError> {
        self.pump = None;
        let mut exit = None;
        lease::stop_all(self.spec, |pid, end| {
            if self.main.is_some_and(|main| main.pid.get() == pid) {
                exit = Some(end);
            }
        });
        if !self.ended {
            let how = exit.unwrap_or_default();
            let exit = Exit {
                message: Some("lease expired: no controller came back".into()),
                at: Some(now()),
                peak_rss_bytes: os::peak_rss_of_children(),
                ..how
            };
            self.news.exit = Some(exit);
        }
        // With nobody left to end, one more word is not worth staying for.
        self.news.tell()?;
        lease::clean(self.dir, self.spec).map_err(system("clean up"))
    }
}

fn now() -> Time {
    Time(jiff::Timestamp::now().as_millisecond())
}

fn shim_file(shim: ProcId, child: Option<ProcId>) -> Result<ShimFile, ShimError> {
    Ok(ShimFile { version: files::FORMAT, boot_id: os::boot_id()?, shim, child, started_at: now() })
}

/// What is to be written down for the controller, and is not yet.
struct News<'a> {
    dir: &'a Path,
    shim: Option<ShimFile>,
    exit: Option<Exit>,
}

impl News<'_> {
    fn is_told(&self) -> bool {
        self.shim.is_none() && self.exit.is_none()
    }

    /// Writes it; false: that failed, and will be tried again, as a full disk has room again some day, and an end that was
    /// not told is an outcome that is lost. Without a directory there is nobody to tell.
    fn tell(&mut self) -> Result<bool, ShimError> {
        let outcome = self.write();
        match outcome {
            Ok(()) => Ok(true),
            Err(FileError::Io { .. }) if self.dir.exists() => Ok(false),
            Err(FileError::Io { .. }) => {
                (self.shim, self.exit) = (None, None);
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The end first: whoever finds the one of a workload that could not be started finds the other.
    fn write(&mut self) -> Result<(), FileError> {
        if let Some(exit) = &self.exit {
            files::write_exit(self.dir, &ExitFile { version: files::FORMAT, exit: exit.clone() })?;
            self.exit = None;
        }
        if let Some(shim) = &self.shim {
            files::write_shim(self.dir, shim)?;
            self.shim = None;
        }
        Ok(())
    }
}

/// The main process, not yet started.
fn command(dir: &Path, spec: &SpecFile) -> Result<Command, ShimError> {
    let append = |name: &str| -> Result<File, ShimError> {
        let path = dir.join(name);
        OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(system("open a transcript"))
    };
    // A directory that cannot be made shows as a failed start, with its name.
    let _ = std::fs::create_dir_all(&spec.cwd);
    let mut words = spec.command.iter();
    let mut command = Command::new(words.next().map_or("", String::as_str));
    command
        .args(words)
        .envs(&spec.env)
        .env(MARK, format!("{}/{}", spec.instance, spec.uid))
        .env(RUN_DIR, dir)
        .current_dir(&spec.cwd)
        .stdin(if spec.stdin { ChildStdio::piped() } else { ChildStdio::null() })
        .stdout(append("stdout")?)
        .stderr(append("stderr")?);
    Ok(command)
}
