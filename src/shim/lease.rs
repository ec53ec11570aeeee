//! The last net: a shim whose controller is gone for good stops its workload by itself.

use super::ShimError;
use super::files::{self, SpecFile};
use crate::model::{Exit, Pid, ProcId};
use crate::os::{self, Held, LockWatch, Never, OsError, Process, ProcessTable, StateDir};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

const CHECK_AT_MOST_EVERY: Duration = Duration::from_millis(50);
const CHECK_AT_LEAST_EVERY: Duration = Duration::from_secs(5);
const ROUND: Duration = Duration::from_millis(20);

/// How long the controller's lock has been free.
pub(super) struct Lease {
    lock: LockWatch,
    length: Duration,
    every: Duration,
    checked: Instant,
    free_since: Option<Instant>,
}

impl Lease {
    pub(super) fn new(spec: &SpecFile) -> io::Result<Lease> {
        let length = Duration::from_millis(spec.lease_ms);
        let every = (length / 4).clamp(CHECK_AT_MOST_EVERY, CHECK_AT_LEAST_EVERY);
        let lock = LockWatch::open(&spec.lock_file)?;
        Ok(Lease { lock, length, every, checked: Instant::now(), free_since: None })
    }

    /// When to look next; never, for a lease without an end.
    pub(super) fn next_check(&self) -> Option<Duration> {
        (!self.length.is_zero()).then(|| self.every.saturating_sub(self.checked.elapsed()))
    }

    /// Whether the lock has been free for the lease.
    pub(super) fn has_run_out(&mut self) -> bool {
        if self.length.is_zero() || self.checked.elapsed() < self.every {
            return false;
        }
        self.checked = Instant::now();
        match self.lock.is_held() {
            Ok(true) => self.free_since = None,
            Ok(false) => {
                self.free_since.get_or_insert_with(Instant::now);
            }
            // Nothing is known: the time neither begins nor ends.
            Err(_) => {}
        }
        self.free_since.is_some_and(|since| since.elapsed() >= self.length)
    }
}

/// SIGTERM, time, SIGKILL until nothing is left. Tells each process that it collects.
pub(super) fn stop_all(spec: &SpecFile, mut collected: impl FnMut(i32, Exit)) -> Result<(), ShimError> {
    let begun = Instant::now();
    let grace = Duration::from_millis(spec.grace_ms);
    let (mut told, mut frozen) = (BTreeSet::<ProcId>::new(), BTreeSet::<ProcId>::new());
    let never = Never {
        selves: os::self_and_ancestors()?,
        instance: Some(spec.instance.clone()),
        user: Some(os::effective_uid()).filter(|user| *user != 0),
        // What cannot be understood protects nobody here; a controller would have ended nothing because of it.
        protect: regex::RegexSet::new(&spec.protect).ok().filter(|set| !set.is_empty()),
        shims: None,
    };
    loop {
        collect(&mut collected);
        let members = members(spec, &never)?;
        if members.is_empty() {
            return Ok(());
        }
        if begun.elapsed() < grace {
            let new: Vec<ProcId> = members.into_iter().filter(|member| told.insert(*member)).collect();
            Held::take(&new, &never).signal(&[Signal::SIGTERM, Signal::SIGCONT])?;
            std::thread::sleep(ROUND);
            continue;
        }
        if let (Some(cgroup), None) = (&spec.cgroup, &never.protect) {
            // An older kernel has no such file: what follows does it then.
            let _ = fs::write(cgroup.join("cgroup.kill"), "1");
        }
        // All are stopped before one is killed: what forks faster than it is found forks no more.
        let new: Vec<ProcId> = members.iter().filter(|member| frozen.insert(**member)).copied().collect();
        if new.is_empty() {
            Held::kill(&members, &never)?;
            std::thread::sleep(ROUND);
        } else {
            Held::take(&new, &never).signal(&[Signal::SIGSTOP])?;
        }
    }
}

/// Every living process of the workload but this one: what carries its mark, what is in its cgroup, and what descends from the
/// shim. Not what was let go, or is protected, nor what descends from that.
fn members(spec: &SpecFile, never: &Never) -> Result<Vec<ProcId>, OsError> {
    let me = os::self_id()?;
    let mark = format!("{}/{}", spec.instance, spec.uid);
    let mut table = ProcessTable::new();
    table.refresh()?;
    let in_cgroup = spec.cgroup.as_deref().map(cgroup_members).unwrap_or_default();
    let roots = table.iter().filter(|process| {
        process.mark.as_deref() == Some(&mark)
            || process.parent == Some(me.pid)
            || in_cgroup.contains(&process.id.pid.get())
    });
    let mut roots: BTreeSet<Pid> = roots.map(|process| process.id.pid).collect();
    // The environment of another user's process is that user's word, and no mark.
    let user = os::effective_uid();
    for pid in roots.clone() {
        let is_proved = in_cgroup.contains(&pid.get()) || table.get(pid).is_some_and(|it| it.parent == Some(me.pid));
        if !is_proved && table.user(pid)?.is_some_and(|of| of != user) {
            roots.remove(&pid);
        }
    }
    // Another workload's process is that workload's, whoever its parent is.
    let mut found = with_what_is_below(&table, roots, |it| it.mark.as_deref().is_none_or(|of| of == mark));
    // What of it is known by its name is read for that.
    for pid in &found {
        table.again(*pid)?;
    }
    let free = let_go(spec, never, &table, &found)?;
    found.retain(|pid| !free.contains(pid));
    let living = table.iter().filter(|process| {
        found.contains(&process.id.pid) && process.id != me && process.id.pid.get() != 1 && !process.is_zombie()
    });
    Ok(living.map(|process| process.id).collect())
}

/// Of these, the keepers and what is protected, with all that descends from them.
fn let_go(
    spec: &SpecFile,
    never: &Never,
    table: &ProcessTable,
    among: &BTreeSet<Pid>,
) -> Result<BTreeSet<Pid>, OsError> {
    let state = StateDir(spec.lock_file.parent().unwrap_or(Path::new("/")).to_owned());
    // Where the state directory is gone, the register is: then keepers are known by what they are called.
    let registered = os::keepers(&state, &os::boot_id()?).unwrap_or_default();
    let run_dir = state.workload(&spec.uid);
    let is_keeper = |process: &Process| {
        let mut words = process.argv().skip(1);
        words.next() == Some(b"keep") && words.next() == Some(run_dir.as_os_str().as_bytes())
    };
    let is_free = |process: &&Process| {
        registered.iter().any(|keeper| keeper.id == process.id)
            || is_keeper(process)
            || never.protects(&process.command())
    };
    let free = among.iter().filter_map(|pid| table.get(*pid)).filter(is_free).map(|process| process.id.pid).collect();
    Ok(with_what_is_below(table, free, |it| among.contains(&it.id.pid)))
}

/// These, their children that pass, the children of those, and so on.
fn with_what_is_below(
    table: &ProcessTable,
    mut found: BTreeSet<Pid>,
    passes: impl Fn(&Process) -> bool,
) -> BTreeSet<Pid> {
    loop {
        let before = found.len();
        let below = table.iter().filter(|it| it.parent.is_some_and(|parent| found.contains(&parent)) && passes(it));
        let below: Vec<Pid> = below.map(|it| it.id.pid).collect();
        found.extend(below);
        if found.len() == before {
            return found;
        }
    }
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
    files::remove_passing(dir).map_err(io::Error::other)?;
    if let Some(cgroup) = &spec.cgroup {
        // Who is left in it is protected by the policy.
        if !spec.protect.is_empty() {
            os::empty_cgroup(cgroup).map_err(io::Error::other)?;
        }
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
