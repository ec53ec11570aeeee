//! The one way out: every signal that is ever sent to a process that we did not start as our own child leaves through
//! [`Held::signal`].
//!
//! In one breath: a pidfd is opened, the start time is read again, the process is held against the never-rules, and what is
//! sent then reaches that process or nobody.

use super::{OsError, Particulars, ProcRef, particulars};
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
    let Some(seen) = particulars(target.pid)? else { return Ok(None) };
    // What was read is about the process that is held only if that one had not ended by then.
    if process.has_ended()? {
        return Ok(None);
    }
    if let Some(why) = never.forbids(target, &seen) {
        tracing::warn!(process = %target, command = %seen.command, why, "not signalled");
        return Ok(None);
    }
    Ok(Some(process))
}
