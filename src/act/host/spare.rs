//! What the policy protects inside a workload's cgroup leaves it before the rest is ended with it.

use super::Host;
use crate::model::{Pid, WorkloadUid};
use crate::os::{Asked, Cgroups, Never, OsError, Particulars, particulars};
use std::collections::{BTreeMap, BTreeSet};

/// How often members are looked for again: what was spared may have forked before it was moved.
const ROUNDS: usize = 10;

/// Moves what is protected, and what descends from it, out of a workload's cgroup. Freezes the cgroup for that, so that
/// nobody in it forks or ends meanwhile; the caller lets it go on. False: nothing there is protected, nothing was done.
pub(super) fn move_out(host: &Host, cgroups: &Cgroups, uid: &WorkloadUid) -> Result<bool, OsError> {
    let never = host.policy().never;
    if never.protect.is_none() || spared(cgroups, uid, &never)?.is_empty() {
        return Ok(false);
    }
    cgroups.freeze(uid, true)?;
    for _ in 0..ROUNDS {
        let spared = spared(cgroups, uid, &never)?;
        if spared.is_empty() {
            break;
        }
        for pid in spared {
            cgroups.let_go(pid)?;
        }
    }
    Ok(true)
}

/// The members of a cgroup that are protected, or descend from one that is.
fn spared(cgroups: &Cgroups, uid: &WorkloadUid, never: &Never) -> Result<BTreeSet<Pid>, OsError> {
    let mut members: BTreeMap<Pid, Particulars> = BTreeMap::new();
    for pid in cgroups.procs(uid)?.unwrap_or_default() {
        if let Some(it) = particulars(pid, Asked::ALL)? {
            members.insert(pid, it);
        }
    }
    let mut spared: BTreeSet<Pid> =
        members.iter().filter(|(_, it)| never.protects(&it.command)).map(|(pid, _)| *pid).collect();
    loop {
        let before = spared.len();
        let below = members.iter().filter(|(_, it)| it.parent.is_some_and(|parent| spared.contains(&parent)));
        let below: Vec<Pid> = below.map(|(pid, _)| *pid).collect();
        spared.extend(below);
        if spared.len() == before {
            return Ok(spared);
        }
    }
}
