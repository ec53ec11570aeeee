//! The last net: a shim whose controller is gone for good stops its workload by itself.

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
/// The longest pause between two rounds, while the workload has time to end by itself, and when it can not be ended: what hangs
/// in the kernel may do so for days.
const MOST_IN_GRACE: Duration = Duration::from_millis(200);
const MOST_BETWEEN_ROUNDS: Duration = Duration::from_secs(5);

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

/// SIGTERM, time, SIGKILL until nothing is left. Tells each process that it collects. What cannot be done, or seen, is tried
/// again, and so is what no signal ends: nobody else would.
pub(super) fn stop_all(spec: &SpecFile, mut collected: impl FnMut(i32, Exit)) {
    let mut ending = Ending::new(spec);
    let mut said = String::new();
    loop {
        collect(&mut collected);
        let pause = match ending.round() {
            Ok(None) => return,
            Ok(Some(pause)) => pause,
            Err(error) => {
                let error = error.to_string();
                if error != said {
                    eprintln!("ending the workload: {error}; trying again");
                    said = error;
                }
                ending.pause.after(false, MOST_BETWEEN_ROUNDS)
            }
        };
        std::thread::sleep(pause);
    }
}

/// How long is waited between two rounds: doubled with each that came to nothing.
struct Pause(Duration);

impl Pause {
    fn after(&mut self, progress: bool, most: Duration) -> Duration {
        self.0 = if progress { ROUND } else { (self.0 * 2).clamp(ROUND, most) };
        self.0
    }
}

/// An end under way.
struct Ending<'a> {
    spec: &'a SpecFile,
    begun: Instant,
    table: ProcessTable,
    told: BTreeSet<ProcId>,
    frozen: BTreeSet<ProcId>,
    /// Who was there at the last round.
    before: Vec<ProcId>,
    pause: Pause,
}

impl Ending<'_> {
    fn new(spec: &SpecFile) -> Ending<'_> {
        Ending {
            spec,
            begun: Instant::now(),
            table: ProcessTable::new(),
            told: BTreeSet::new(),
            frozen: BTreeSet::new(),
            before: Vec::new(),
            pause: Pause(Duration::ZERO),
        }
    }

    /// Looks, and does what is due. Gives how long to wait before the next round; none: nobody is left.
    fn round(&mut self) -> Result<Option<Duration>, OsError> {
        let spec = self.spec;
        let never = Never {
            selves: os::self_and_ancestors()?,
            instance: Some(spec.instance.clone()),
            user: Some(os::effective_uid()).filter(|user| *user != 0),
            // What cannot be understood protects nobody here; a controller would have ended nothing because of it.
            protect: regex::RegexSet::new(&spec.protect).ok().filter(|set| !set.is_empty()),
            shims: None,
        };
        let members = members(spec, &never, &mut self.table)?;
        if members.is_empty() {
            return Ok(None);
        }
        let progress = members != self.before;
        self.before.clone_from(&members);
        if self.begun.elapsed() < Duration::from_millis(spec.grace_ms) {
            let new: Vec<ProcId> = members.into_iter().filter(|member| self.told.insert(*member)).collect();
            Held::send(&new, &never, &[Signal::SIGTERM, Signal::SIGCONT])?;
            return Ok(Some(self.pause.after(progress, MOST_IN_GRACE)));
        }
        if let (Some(cgroup), None) = (&spec.cgroup, &never.protect) {
            // Where the kernel cannot, what follows does it.
            let _ = os::kill_cgroup(cgroup);
        }
        // All are stopped before one is killed: what forks faster than it is found forks no more.
        let new: Vec<ProcId> = members.iter().filter(|member| self.frozen.insert(**member)).copied().collect();
        if new.is_empty() {
            Held::kill(&members, &never)?;
            return Ok(Some(self.pause.after(progress, MOST_BETWEEN_ROUNDS)));
        }
        self.pause = Pause(Duration::ZERO);
        Held::send(&new, &never, &[Signal::SIGSTOP])?;
        Ok(Some(Duration::ZERO))
    }
}

/// Every living process of the workload but this one: what carries its mark, what is in its cgroup, and what descends from the
/// shim. Not what was let go, or is protected, nor what descends from that.
fn members(spec: &SpecFile, never: &Never, table: &mut ProcessTable) -> Result<Vec<ProcId>, OsError> {
    let me = os::self_id()?;
    let mark = format!("{}/{}", spec.instance, spec.uid);
    table.refresh()?;
    let in_cgroup = spec.cgroup.as_deref().map(os::members_of_cgroup).transpose()?.unwrap_or_default();
    let roots = table.iter().filter(|process| {
        process.mark.as_deref() == Some(&mark) || process.parent == Some(me.pid) || in_cgroup.contains(&process.id.pid)
    });
    let mut roots: BTreeSet<Pid> = roots.map(|process| process.id.pid).collect();
    // The environment of another user's process is that user's word, and no mark.
    let user = os::effective_uid();
    for pid in roots.clone() {
        let is_proved = in_cgroup.contains(&pid) || table.get(pid).is_some_and(|it| it.parent == Some(me.pid));
        if !is_proved && table.user(pid)?.is_some_and(|of| of != user) {
            roots.remove(&pid);
        }
    }
    // Another workload's process is that workload's, whoever its parent is.
    let mut found = with_what_is_below(table, roots, |it| it.mark.as_deref().is_none_or(|of| of == mark));
    // Their state, and what of them is known by its name.
    for pid in &found {
        table.again(*pid)?;
    }
    let free = let_go(spec, never, table, &found)?;
    found.retain(|pid| !free.contains(pid));
    let living = table.iter().filter(|process| {
        found.contains(&process.id.pid) && process.id != me && process.id.pid.get() != 1 && !process.is_zombie()
    });
    let mut living: Vec<ProcId> = living.map(|process| process.id).collect();
    living.sort_unstable();
    Ok(living)
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
            match os::remove_cgroup(cgroup) {
                Ok(false) => std::thread::sleep(ROUND),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_ended_is_tried_ever_more_rarely_and_for_ever() {
        let mut pause = Pause(Duration::ZERO);
        let mut next = |progress| pause.after(progress, Duration::from_millis(100)).as_millis();
        assert_eq!([false, false, false, false, false].map(&mut next), [20, 40, 80, 100, 100]);
        assert_eq!([true, true, false].map(&mut next), [20, 20, 40]);
    }
}
