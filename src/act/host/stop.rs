//! What the stages of an end do to the host.

use super::{Host, spare};
use crate::act::ActError;
use crate::model::{ProcId, Reading, Time, WorkloadUid};
use crate::observe::Eyes;
use crate::os::{self, Held, Never};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

/// How long one round of a kill goes on finding more. What is left then is found by the next round.
const SWEEP: Duration = Duration::from_secs(2);

/// Tells the shim to close the workload's stdin once all that was written has been passed on.
pub(super) fn end_of_file(host: &Host, uid: &WorkloadUid) -> Result<(), ActError> {
    let path = host.state_dir.workload(uid).join("stdin.eof");
    match OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path) {
        Ok(_) => {
            os::ring(&host.state_dir.workload(uid));
            Ok(())
        }
        // No run directory: nothing to be asked.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(ActError::File { doing: "create", path, source }),
    }
}

/// SIGKILL to a whole workload. Its cgroup ends it at once, forks in flight included. What is outside of the cgroup, or
/// everything where there is none, is signalled one by one; what was not ended by that in the first round may be forking
/// faster than it is found, and is frozen, found, and killed.
pub(super) fn kill(host: &Host, uid: &WorkloadUid, targets: &[ProcId], round: u32) -> Result<(), ActError> {
    let never = host.policy().never;
    let mut outside = targets.to_vec();
    if let Some(cgroups) = &host.cgroups {
        let inside: BTreeSet<_> = cgroups.procs(uid)?.unwrap_or_default().into_iter().collect();
        let spared = spare::move_out(host, cgroups, uid)?;
        // A controller that was started from inside of the tree would end itself.
        let killed = !inside.iter().any(|pid| never.selves.contains(pid)) && cgroups.kill(uid)?;
        if spared {
            cgroups.freeze(uid, false)?;
        }
        if killed {
            outside.retain(|target| !inside.contains(&target.pid));
        }
    }
    let killed = Held::kill(&outside, &never);
    if round > 1 && !outside.is_empty() {
        sweep(host, uid, targets, &never)?;
    }
    killed?;
    Ok(())
}

/// Stops every member until a look finds none that is not stopped, then kills them: a tree that forks faster than it can be
/// found forks no more. Again, until a look finds nobody.
fn sweep(host: &Host, uid: &WorkloadUid, targets: &[ProcId], never: &Never) -> Result<(), ActError> {
    let begun = Instant::now();
    let mut eyes = Eyes::new(host.state_dir.clone(), host.instance.clone(), host.cgroups.clone());
    eyes.remember(uid, targets);
    let mut frozen: BTreeSet<ProcId> = BTreeSet::new();
    while begun.elapsed() < SWEEP {
        let members = members(&mut eyes, uid);
        if members.is_empty() {
            return Ok(());
        }
        let new: Vec<ProcId> = members.iter().filter(|id| !frozen.contains(id)).copied().collect();
        if new.is_empty() {
            Held::kill(&members, never)?;
            // What may not be signalled, and what hangs in the kernel, stays: a later round tries again.
            let left = self::members(&mut eyes, uid);
            if left.iter().all(|id| frozen.contains(id)) {
                return Ok(());
            }
        } else {
            frozen.extend(&new);
            Held::take(&new, never).signal(&[Signal::SIGSTOP])?;
        }
    }
    Ok(())
}

/// The living processes of a workload but its shim. Nobody, where nothing can be seen: the loop says so.
fn members(eyes: &mut Eyes, uid: &WorkloadUid) -> Vec<ProcId> {
    match eyes.look(Time(0), &BTreeSet::new()).workloads {
        Reading::Known(trees) => trees.get(uid).into_iter().flat_map(|tree| tree.members()).map(|it| it.id).collect(),
        Reading::Unknown(_) => Vec::new(),
    }
}
