//! For tests with real processes.

use crate::model::{Pid, ProcId};
use crate::os::{ProcRef, start_time};
use nix::sys::signal::Signal;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A shell that runs `script`, in a session of its own, and to which what loses its parent below it is given: as a shim is.
pub(crate) fn subreaper(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: both are single system calls that allocate nothing, in the child between fork and exec.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            nix::sys::prctl::set_child_subreaper(true)?;
            Ok(())
        });
    }
    command
}

/// The identity of a child that was not waited for.
pub(crate) fn id_of(child: &Child) -> ProcId {
    let pid = Pid::new(i32::try_from(child.id()).unwrap()).unwrap();
    ProcId { pid, start: start_time(pid).unwrap().unwrap() }
}

/// Ends a process, whoever its parent is, and waits until nothing of it runs.
pub(crate) fn kill(id: ProcId) {
    if let Some(held) = ProcRef::open(id).unwrap() {
        held.signal(Signal::SIGKILL).unwrap();
        eventually("its end", || held.has_ended().unwrap().then_some(()));
    }
}

/// Ends a process when the test ends, however that ends.
pub(crate) struct KillOnDrop(pub(crate) ProcId);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        kill(self.0);
    }
}

/// Asks until there is an answer; panics after ten seconds without one.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
