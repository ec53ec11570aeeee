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
    let never = host.policy().never_for(uid);
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
    let others = host.policy().others;
    if others.is_one(uid) {
        eyes.end_others(others.only(uid, targets));
    } else {
        eyes.remember(uid, targets);
    }
    let mut frozen: BTreeSet<ProcId> = BTreeSet::new();
    while begun.elapsed() < SWEEP {
        let members = members(&mut eyes, uid, never);
        if members.is_empty() {
            return Ok(());
        }
        let new: Vec<ProcId> = members.iter().filter(|id| !frozen.contains(id)).copied().collect();
        if new.is_empty() {
            Held::kill(&members, never)?;
            // What may not be signalled, and what hangs in the kernel, stays: a later round tries again.
            let left = self::members(&mut eyes, uid, never);
            if left.iter().all(|id| frozen.contains(id)) {
                return Ok(());
            }
        } else {
            frozen.extend(&new);
            Held::send(&new, never, &[Signal::SIGSTOP])?;
        }
    }
    Ok(())
}

/// The living processes of a workload but its shim, what is protected, and what descends from that. Nobody, where nothing can
/// be seen: the loop says so.
fn members(eyes: &mut Eyes, uid: &WorkloadUid, never: &Never) -> Vec<ProcId> {
    let Reading::Known(trees) = eyes.look(Time(0), &BTreeSet::new()).workloads else { return Vec::new() };
    let Some(tree) = trees.get(uid) else { return Vec::new() };
    let free = tree.free(|process| never.protects(&process.command));
    tree.members().map(|process| process.id).filter(|id| !free.contains(id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::act::{AskClient, HostPolicy};
    use crate::model::InstanceId;
    use crate::os::testing::{KillOnDrop, eventually, id_of};
    use crate::os::{MARK, StateDir, self_and_ancestors};
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::sync::{Arc, RwLock};

    const INSTANCE: &str = "test-of-a-stop";

    fn host(state: &Path, protect: &str) -> Host {
        let never = Never {
            selves: self_and_ancestors().unwrap(),
            instance: Some(InstanceId(INSTANCE.into())),
            user: None,
            protect: regex::RegexSet::new([protect]).ok(),
            shims: None,
        };
        let policy = HostPolicy { never: Arc::new(never), ..HostPolicy::default() };
        let ask: AskClient = Arc::new(|_| false);
        let (state_dir, instance) = (StateDir(state.into()), InstanceId(INSTANCE.into()));
        Host { state_dir, instance, cgroups: None, exe: "/bin/false".into(), ask, policy: RwLock::new(policy) }
    }

    /// A shell with a child, both with the mark of workload `w`.
    fn pair(name: &str) -> (Child, KillOnDrop) {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("sleep 1040 & wait; : {name}")]).env(MARK, format!("{INSTANCE}/w"));
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let held = KillOnDrop(id_of(&child));
        (child, held)
    }

    /// What the plan names leaves out what was let go; so must what is found by looking again.
    #[test]
    fn a_kill_that_looks_for_more_spares_what_is_protected_and_what_is_below_that() {
        let scratch = tempfile::tempdir().unwrap();
        let host = host(scratch.path(), "a-shared-server");
        let uid = WorkloadUid::from("w");
        let ((mut server, held_server), (mut bound, held_bound)) = (pair("a-shared-server"), pair("bound"));
        let mut eyes = Eyes::new(host.state_dir.clone(), host.instance.clone(), None);
        let tree = eventually("both with their children", || {
            let Reading::Known(mut trees) = eyes.look(Time(0), &BTreeSet::new()).workloads else { return None };
            trees.remove(&uid).filter(|tree| tree.processes.iter().filter(|it| it.command == "sleep 1040").count() == 2)
        });
        let below = |pid| {
            let child = tree.processes.iter().find(|it| it.parent == Some(pid)).unwrap();
            (child.id, KillOnDrop(child.id))
        };
        let (servers, _held) = below(held_server.0.pid);
        let (bounds, _held_too) = below(held_bound.0.pid);
        // One of them is on the list; the other is what the plan did not see.
        kill(&host, &uid, &[held_bound.0], 2).unwrap();
        bound.wait().unwrap();
        let alive = |id: ProcId| Held::send(&[id], &Never::default(), &[Signal::SIGCONT]).unwrap() == 1;
        eventually("the end of what the plan did not name", || (!alive(bounds)).then_some(()));
        assert!(alive(held_server.0) && alive(servers), "what was let go was ended");
        drop(held_server);
        server.wait().unwrap();
    }
}
