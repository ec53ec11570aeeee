//! The one way out: every signal that is ever sent to a process that we did not start as our own child leaves through
//! [`Held::signal`].
//!
//! In one breath: a pidfd is opened, the start time is read again, the process is held against the never-rules, and what is
//! sent then reaches that process or nobody.

use super::{Asked, OsError, Particulars, ProcRef, particulars};
use crate::model::{InstanceId, Pid, ProcId};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;

/// Who is never signalled, whatever a plan says.
#[derive(Debug, Clone, Default)]
pub struct Never {
    /// This process and all above it.
    pub selves: BTreeSet<Pid>,
    /// Our instance: what another one's mark is on is that one's business. None: that is not asked.
    pub instance: Option<InstanceId>,
    /// The user that we act as, unless it is root: others' processes are not ours to end. None: root.
    pub user: Option<u32>,
    /// Command lines that a policy protects.
    pub protect: Option<regex::RegexSet>,
    /// What the command lines of our own shims have in them.
    pub shims: Option<String>,
}

impl Never {
    /// The patterns of `protect`.
    pub fn patterns(&self) -> Vec<String> {
        self.protect.iter().flat_map(|set| set.patterns()).cloned().collect()
    }

    /// Whether a command line is protected. A shim never is: its command line is ours, and it is what stands in the way of
    /// nobody.
    pub fn protects(&self, command: &str) -> bool {
        let is_shim = self.shims.as_ref().is_some_and(|shims| command.contains(shims));
        !is_shim && self.protect.as_ref().is_some_and(|protect| protect.is_match(command))
    }

    /// Why this process is not to be signalled, if so.
    fn forbids(&self, id: ProcId, it: &Particulars) -> Option<&'static str> {
        if id.pid.get() == 1 || self.selves.contains(&id.pid) {
            return Some("it is process 1, or this one, or above it");
        }
        if it.is_kernel_thread {
            return Some("it is a thread of the kernel");
        }
        if self.user.is_some_and(|user| it.user != Some(user)) {
            return Some("it is another user's");
        }
        let of = it.mark.as_deref().and_then(|mark| mark.split_once('/')).map(|(instance, _)| instance);
        if let (Some(ours), Some(of)) = (&self.instance, of)
            && of != ours.as_str()
        {
            return Some("it carries the mark of another instance");
        }
        if self.protects(&it.command) {
            return Some("the policy protects it");
        }
        None
    }
}

/// From this many on, processes are taken hold of side by side: what is read of each costs more than the signal.
const MANY: usize = 64;
/// How many threads do that at most.
const THREADS: usize = 4;

/// Processes that are held by pidfds and passed the never-rules: whatever happens to their pids from now on, what is sent
/// reaches these or nobody.
#[derive(Debug, Default)]
pub struct Held {
    processes: Vec<ProcRef>,
    refused: Option<OsError>,
}

impl Held {
    /// Takes hold of each of `targets` that is still the process that was seen, and may be signalled.
    pub fn take(targets: &[ProcId], never: &Never) -> Held {
        let mut held = Held::default();
        for target in targets {
            match hold(*target, never) {
                Ok(Some(process)) => held.processes.push(process),
                Ok(None) => {}
                Err(error) => {
                    held.refused.get_or_insert(error);
                }
            }
        }
        held
    }

    /// Sends `signals` to each of `targets` that is still the process that was seen, and may be signalled, each as soon as it is
    /// held: of however many, one descriptor is open at a time. Gives how many were reached.
    ///
    /// # Errors
    /// The first refusal of the system; the others were signalled all the same.
    pub fn send(targets: &[ProcId], never: &Never, signals: &[Signal]) -> Result<usize, OsError> {
        let (mut reached, mut refused) = (0, None);
        for target in targets {
            match Held::take(std::slice::from_ref(target), never).signal(signals) {
                Ok(sent) => reached += sent,
                Err(error) => drop(refused.get_or_insert(error)),
            }
        }
        refused.map_or(Ok(reached), Err)
    }

    /// SIGKILL, as [`send`](Self::send) does it: while the next one is looked at, the one before ends.
    ///
    /// # Errors
    /// The first refusal of the system; the others were signalled all the same.
    pub fn kill(targets: &[ProcId], never: &Never) -> Result<usize, OsError> {
        if targets.len() < MANY {
            return Held::send(targets, never, &[Signal::SIGKILL]);
        }
        std::thread::scope(|scope| {
            let parts = targets.chunks(targets.len().div_ceil(THREADS));
            let threads: Vec<_> =
                parts.map(|part| scope.spawn(move || Held::send(part, never, &[Signal::SIGKILL]))).collect();
            let all = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            all.reduce(|one, other| Ok(one? + other?)).unwrap_or(Ok(0))
        })
    }

    /// Sends `signals`, in their order, to each process. Gives how many were reached: the others had ended.
    ///
    /// # Errors
    /// The first refusal of the system; the others were signalled all the same.
    pub fn signal(self, signals: &[Signal]) -> Result<usize, OsError> {
        let Held { processes, mut refused } = self;
        let mut reached = 0;
        for process in processes {
            match signals.iter().try_fold(false, |sent, signal| Ok(process.signal(*signal)? || sent)) {
                Ok(sent) => reached += usize::from(sent),
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
        refused.map_or(Ok(reached), Err)
    }
}

fn hold(target: ProcId, never: &Never) -> Result<Option<ProcRef>, OsError> {
    let Some(process) = ProcRef::open(target)? else { return Ok(None) };
    let asked = Asked { user: never.user.is_some(), command: never.protect.is_some() };
    let Some(seen) = particulars(target.pid, asked)? else { return Ok(None) };
    // What was read is about the process that is held only if that one had not ended by then.
    if process.has_ended()? {
        return Ok(None);
    }
    if let Some(why) = never.forbids(target, &seen) {
        let command = particulars(target.pid, Asked::ALL)?.map_or(seen.command, |seen| seen.command);
        tracing::warn!(process = %target, command, why, "not signalled");
        return Ok(None);
    }
    Ok(Some(process))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StartTime;
    use crate::os::testing::{KillOnDrop, eventually, id_of};
    use crate::os::{effective_uid, self_and_ancestors, self_id, start_time};
    use std::process::{Child, Command, Stdio};

    fn sleeper(mark: &str) -> (Child, KillOnDrop) {
        let mut command = Command::new("sleep");
        command.arg("1030").env("TENURE_WORKLOAD", mark).stdin(Stdio::null());
        let child = command.spawn().unwrap();
        let id = id_of(&child);
        // Until its exec it is a copy of this process.
        eventually("its exec", || particulars(id.pid, Asked::ALL).unwrap().filter(|it| it.command == "sleep 1030"));
        (child, KillOnDrop(id))
    }

    fn never() -> Never {
        Never {
            selves: self_and_ancestors().unwrap(),
            instance: Some(InstanceId("ours".into())),
            user: Some(effective_uid()).filter(|user| *user != 0),
            protect: None,
            shims: None,
        }
    }

    fn reached(target: ProcId, never: &Never) -> usize {
        // Signal 0 would not do: what is asked is whether a signal would leave. This one changes nothing for a sleeper.
        Held::take(&[target], never).signal(&[Signal::SIGCONT]).unwrap()
    }

    #[test]
    fn a_process_of_ours_is_reached_and_one_of_another_instance_is_not() {
        for (mark, expected) in [("ours/w", 1), ("", 1), ("no form", 1), ("theirs/w", 0)] {
            let (mut child, sleeping) = sleeper(mark);
            assert_eq!(reached(sleeping.0, &never()), expected, "{mark:?}");
            drop(sleeping);
            child.wait().unwrap();
        }
    }

    #[test]
    fn what_is_protected_is_not_reached_unless_it_is_a_shim() {
        let (mut child, sleeping) = sleeper("ours/w");
        let protect = regex::RegexSet::new(["sleep 10[0-9]{2}$"]).ok();
        assert_eq!(reached(sleeping.0, &Never { protect: protect.clone(), ..never() }), 0);
        let shims = Some("sleep".to_owned());
        assert_eq!(reached(sleeping.0, &Never { protect, shims, ..never() }), 1);
        let other = regex::RegexSet::new(["no such command"]).ok();
        assert_eq!(reached(sleeping.0, &Never { protect: other, ..never() }), 1);
        drop(sleeping);
        child.wait().unwrap();
    }

    #[test]
    fn neither_this_process_nor_one_above_it_nor_process_1_nor_the_kernel_is_reached() {
        let me = self_id().unwrap();
        assert_eq!(reached(me, &never()), 0);
        for pid in never().selves.into_iter().chain([1, 2].into_iter().filter_map(Pid::new)) {
            let Some(start) = start_time(pid).unwrap() else { continue };
            // Process 2 is the kernel's own where we see the host's processes.
            let is_kernels = particulars(pid, Asked::ALL).unwrap().is_some_and(|it| it.is_kernel_thread);
            if pid.get() != 2 || is_kernels {
                assert_eq!(reached(ProcId { pid, start }, &never()), 0, "{pid}");
            }
        }
    }

    #[test]
    fn another_users_process_is_not_reached_unless_we_are_root() {
        let (mut child, sleeping) = sleeper("ours/w");
        let somebody_else = Some(effective_uid() + 1);
        assert_eq!(reached(sleeping.0, &Never { user: somebody_else, ..never() }), 0);
        assert_eq!(reached(sleeping.0, &Never { user: None, ..never() }), 1);
        drop(sleeping);
        child.wait().unwrap();
    }

    #[test]
    fn a_pid_with_another_start_time_is_nobody() {
        let (mut child, sleeping) = sleeper("ours/w");
        let before = ProcId { start: StartTime(sleeping.0.start.0 - 1), ..sleeping.0 };
        assert_eq!(reached(before, &never()), 0);
        drop(sleeping);
        child.wait().unwrap();
    }
}
