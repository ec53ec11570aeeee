//! Starting processes: a shim from the controller, a workload from its shim.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{self, PipeReader};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Starts `exe shim <dir>` with this mark in its environment. Nothing runs between fork and exec, so the cost does not grow
/// with the controller's memory (measured: with `pre_exec` and 500 MB, 20 a second instead of 1,000); nor is it made the
/// leader of a group, which could not begin a session of its own.
///
/// What it gives ends when the shim has reported (or has ended): the shim's stdout, on which nothing is written.
///
/// # Errors
/// The program cannot be started, or `<dir>/shim.log` cannot be written.
pub fn spawn_shim(exe: &Path, dir: &Path, mark: &str) -> io::Result<PipeReader> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(dir.join("shim.log"))?;
    let (report, until_reported) = io::pipe()?;
    let mut child = Command::new(exe)
        .arg("shim")
        .arg(dir)
        .env(super::MARK, mark)
        .stdin(Stdio::null())
        .stdout(until_reported)
        .stderr(log)
        .spawn()?;
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(crate::model::Pid::new) {
        super::give_back_open_files(pid);
    }
    // Somebody has to collect it, or it would stay a zombie for as long as we live.
    std::thread::Builder::new().name("collect".into()).stack_size(64 << 10).spawn(move || child.wait())?;
    Ok(report)
}

/// Starts the main process of a workload from its shim: in a session of its own, in `cgroup` from before its first
/// instruction, with default signal handling.
///
/// # Errors
/// The program cannot be started.
pub fn spawn_workload(command: &mut Command, cgroup: Option<&Path>) -> io::Result<Child> {
    let cgroup = match cgroup {
        Some(path) => Some(CString::new(path.join("cgroup.procs").as_os_str().as_bytes())?),
        None => None,
    };
    let enter = move || {
        nix::unistd::setsid()?;
        if let Some(procs) = &cgroup {
            let fd = nix::fcntl::open(
                procs.as_c_str(),
                nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_CLOEXEC,
                nix::sys::stat::Mode::empty(),
            )?;
            // 0: the writer itself.
            nix::unistd::write(&fd, b"0")?;
        }
        // What the shim ignores, its child would ignore too.
        for signal in nix::sys::signal::Signal::iterator() {
            if !matches!(signal, nix::sys::signal::Signal::SIGKILL | nix::sys::signal::Signal::SIGSTOP) {
                // SAFETY: restores the default action; no handler is installed.
                unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl)? };
            }
        }
        nix::sys::signal::SigSet::empty().thread_set_mask()?;
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made; nothing allocates and nothing locks.
    unsafe { command.pre_exec(enter) };
    command.spawn()
}

/// Ignores the signals that ask a process to end: a shim ends when its workload has.
///
/// # Errors
/// The system refuses.
pub fn ignore_requests_to_end() -> io::Result<()> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    for kind in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
        // SAFETY: no handler is installed.
        unsafe { signal(kind, SigHandler::SigIgn)? };
    }
    Ok(())
}

/// Takes over a descriptor that the parent handed down by its number.
///
/// # Errors
/// Nothing is open under it.
pub fn adopt_fd(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: the number is only asked about here; nobody else's descriptor is closed.
    let open = unsafe { nix::libc::fcntl(number, nix::libc::F_GETFD) };
    if open == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and by the agreement between this process and the one that started it, ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Lets go of this process's stdout: to who started a shim, it has reported. Where that fails it stays as it is.
pub fn forget_stdout() {
    if let Ok(null) = OpenOptions::new().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(&null);
    }
}

/// Lets go of this process's stdin, stdout, and stderr. Where that fails they stay as they are.
pub fn forget_stdio() {
    if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
}
