//! The last net: a shim whose controller is gone for good stops its workload by itself.

use super::ShimError;
use super::files::SpecFile;
use crate::model::{Exit, ProcId};
use crate::os::{self, Held, Never, OsError, ProcessTable};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

const CHECK_AT_MOST_EVERY: Duration = Duration::from_millis(50);
const CHECK_AT_LEAST_EVERY: Duration = Duration::from_secs(5);
const ROUND: Duration = Duration::from_millis(20);

/// How long the controller's lock has been free.
pub(super) struct Lease {
    length: Duration,
    every: Duration,
    checked: Instant,
    free_since: Option<Instant>,
}

impl Lease {
    pub(super) fn new(spec: &SpecFile) -> Lease {
        let length = Duration::from_millis(spec.lease_ms);
        let every = (length / 4).clamp(CHECK_AT_MOST_EVERY, CHECK_AT_LEAST_EVERY);
        Lease { length, every, checked: Instant::now(), free_since: None }
    }

    /// When to look next; never, for a lease without an end.
    pub(super) fn next_check(&self) -> Option<Duration> {
        (!self.length.is_zero()).then(|| self.every.saturating_sub(self.checked.elapsed()))
    }

    /// Whether the lock has been free for the lease.
    pub(super) fn has_run_out(&mut self, spec: &SpecFile) -> bool {
        if self.length.is_zero() || self.checked.elapsed() < self.every {
            return false;
        }
        self.checked = Instant::now();
        match os::lock_is_held(&spec.lock_file) {
            Ok(true) => self.free_since = None,
            // A lock file that is gone is held by nobody.
            Ok(false) | Err(_) => {
                self.free_since.get_or_insert_with(Instant::now);
            }
        }
        self.free_since.is_some_and(|since| since.elapsed() >= self.length)
    }
}

/// SIGTERM, time, SIGKILL until nothing is left. Tells each process that it collects.
pub(super) fn stop_all(spec: &SpecFile, mut collected: impl FnMut(i32, Exit)) -> Result<(), ShimError> {
    let begun = Instant::now();
    let grace = Duration::from_millis(spec.grace_ms);
    let mut told: BTreeSet<ProcId> = BTreeSet::new();
    let never = Never {
        selves: os::self_and_ancestors()?,
        instance: Some(spec.instance.clone()),
        user: Some(os::effective_uid()).filter(|user| *user != 0),
        protect: None,
    };
    loop {
        collect(&mut collected);
        let members = members(spec)?;
        if members.is_empty() {
            return Ok(());
        }
        let over = begun.elapsed() >= grace;
        if over && let Some(cgroup) = &spec.cgroup {
            // An older kernel has no such file: the list below does it then.
            let _ = fs::write(cgroup.join("cgroup.kill"), "1");
        }
        if over {
            Held::take(&members, &never).signal(&[Signal::SIGKILL])?;
        } else {
            let new: Vec<ProcId> = members.into_iter().filter(|member| told.insert(*member)).collect();
            Held::take(&new, &never).signal(&[Signal::SIGTERM, Signal::SIGCONT])?;
        }
        std::thread::sleep(ROUND);
    }
}

/// Every living process of the workload but this one: what carries its mark, and what descends from the shim.
fn members(spec: &SpecFile) -> Result<Vec<ProcId>, OsError> {
    let me = os::self_id()?;
    let mark = format!("{}/{}", spec.instance, spec.uid);
    let mut table = ProcessTable::new();
    table.refresh()?;
    let in_cgroup = spec.cgroup.as_deref().map(cgroup_members).unwrap_or_default();
    let mut found: BTreeSet<_> = table
        .iter()
        .filter(|process| {
            process.mark.as_deref() == Some(&mark)
                || process.parent == Some(me.pid)
                || in_cgroup.contains(&process.id.pid.get())
        })
        .map(|process| process.id.pid)
        .collect();
    loop {
        let before = found.len();
        let children: Vec<_> = table
            .iter()
            .filter(|process| process.parent.is_some_and(|parent| found.contains(&parent)))
            // Another workload's process is that workload's, whoever its parent is.
            .filter(|process| process.mark.as_deref().is_none_or(|of| of == mark))
            .map(|process| process.id.pid)
            .collect();
        found.extend(children);
        if found.len() == before {
            break;
        }
    }
    let living = table.iter().filter(|process| {
        found.contains(&process.id.pid) && process.id != me && process.id.pid.get() != 1 && !process.is_zombie()
    });
    Ok(living.map(|process| process.id).collect())
}

fn cgroup_members(cgroup: &Path) -> BTreeSet<i32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn collect(collected: &mut impl FnMut(i32, Exit)) {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => {
                collected(pid.as_raw(), Exit { code: Some(code), ..Exit::default() });
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                let signal = Some(signal.as_str().to_owned());
                collected(pid.as_raw(), Exit { signal, ..Exit::default() });
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Ok(_) | Err(_) => {}
        }
    }
}

/// What the controller's clean-up would have done.
pub(super) fn clean(dir: &Path, spec: &SpecFile) -> io::Result<()> {
    for name in ["spec.json", "shim.json", "stdin.eof", "shim.lock"] {
        match fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    if let Some(cgroup) = &spec.cgroup {
        // The last member leaves its cgroup a moment after it was collected.
        for _ in 0..50 {
            match fs::remove_dir(cgroup) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(ROUND),
                _ => break,
            }
        }
        // The instance's own, if this was the last in it.
        let _ = cgroup.parent().map(fs::remove_dir);
    }
    if let Some(parent) = spec.log_dir.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::rename(dir, &spec.log_dir)
}
