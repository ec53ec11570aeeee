//! Who belongs to which workload: the union of the three marks, over one pass of the process table.

use super::Others;
use crate::model::{InstanceId, Marks, Pid, WorkloadUid};
use crate::os::{OsError, Process, ProcessTable, effective_uid, is_plain_name};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Where membership starts, besides the environments.
#[derive(Debug, Default)]
pub(super) struct Roots {
    /// Members of cgroups.
    pub(super) cgroup: BTreeSet<(Pid, WorkloadUid)>,
    /// The living shims that wrote who they are.
    pub(super) shims: BTreeMap<Pid, WorkloadUid>,
    /// Who was found before, and is the same process still.
    pub(super) known: BTreeMap<Pid, WorkloadUid>,
    /// The living keepers of what was let go: they belong to nobody, and nobody is what it is by descending from them.
    pub(super) keepers: BTreeSet<Pid>,
}

/// Who belongs where.
pub(super) struct Found {
    /// Living processes, each read in this pass.
    pub(super) members: BTreeMap<(WorkloadUid, Pid), Marks>,
    /// Nothing ended in the meantime.
    pub(super) settled: bool,
}

/// What an environment says.
enum Named {
    Nobody,
    /// A workload of this instance.
    Ours(WorkloadUid),
    /// A workload of another instance.
    Foreign,
}

fn named(process: &Process, instance: &InstanceId) -> Named {
    match process.mark.as_deref().and_then(|mark| mark.split_once('/')) {
        Some((of, uid)) if is_plain_name(of) && is_plain_name(uid) => {
            if of == instance.as_str() {
                Named::Ours(uid.into())
            } else {
                Named::Foreign
            }
        }
        // Anybody can write anything into an environment: what does not have the form is not a mark.
        _ => Named::Nobody,
    }
}

/// Whether its environment names another workload than this.
fn is_elsewhere(process: &Process, instance: &InstanceId, uid: &WorkloadUid) -> bool {
    match named(process, instance) {
        Named::Nobody => false,
        Named::Ours(other) => other != *uid,
        Named::Foreign => true,
    }
}

/// Who names a workload of this instance in its environment.
pub(super) fn marked(table: &ProcessTable, instance: &InstanceId) -> impl Iterator<Item = (WorkloadUid, Pid)> {
    table.marked().filter_map(|process| match named(process, instance) {
        Named::Ours(uid) => Some((uid, process.id.pid)),
        Named::Nobody | Named::Foreign => None,
    })
}

/// Finds the members. `me`, and process 1, belong to nobody.
///
/// Each that is found is read afresh, which may show that it has another parent now, or another environment, or has ended: so
/// membership is worked out again until everything in it was read in this pass.
///
/// An environment says nothing of another user's process: that user wrote it. (What a workload of root runs as another user is
/// found by its group, by its parents, or by having been found before.)
pub(super) fn find(
    table: &mut ProcessTable,
    instance: &InstanceId,
    roots: &Roots,
    others: &Others,
    me: Pid,
) -> Result<Found, OsError> {
    let mut fresh = HashSet::new();
    let mut settled = true;
    let user = effective_uid();
    loop {
        let mut claims = Vec::new();
        for (uid, pid) in marked(table, instance).collect::<Vec<_>>() {
            if table.user(pid)?.is_none_or(|of| of == user) {
                claims.push((uid, pid));
            }
        }
        let mut members = closure(table, instance, roots, &claims, others, me);
        let theirs = of_others(table, instance, roots, others, &members, me);
        members.extend(theirs);
        let stale: Vec<Pid> = members.keys().map(|(_, pid)| *pid).filter(|pid| !fresh.contains(pid)).collect();
        if stale.is_empty() {
            let living = |pid: &Pid| table.get(*pid).is_some_and(|process| !process.is_zombie());
            let members = members.into_iter().filter(|((_, pid), _)| living(pid)).collect();
            return Ok(Found { members, settled });
        }
        for pid in stale {
            fresh.insert(pid);
            settled &= table.again(pid)?.is_some();
        }
    }
}

/// Membership by what the table says now. Processes that have ended and were not collected are in it: the way to
/// children that they had leads through them until those are read again.
fn closure(
    table: &ProcessTable,
    instance: &InstanceId,
    roots: &Roots,
    claims: &[(WorkloadUid, Pid)],
    others: &Others,
    me: Pid,
) -> BTreeMap<(WorkloadUid, Pid), Marks> {
    let mut members: BTreeMap<(WorkloadUid, Pid), Marks> = BTreeMap::new();
    let allowed = |pid: Pid| pid != me && pid.get() != 1 && !roots.keepers.contains(&pid);
    for claim in claims.iter().filter(|(_, pid)| allowed(*pid)) {
        members.entry(claim.clone()).or_default().environment = true;
    }
    for (pid, uid) in roots.cgroup.iter().filter(|(pid, _)| allowed(*pid) && table.get(*pid).is_some()) {
        members.entry((uid.clone(), *pid)).or_default().cgroup = true;
    }
    let ours = |pid: Pid, uid| table.get(pid).is_some_and(|it| !is_elsewhere(it, instance, uid));
    for (pid, uid) in roots.shims.iter().filter(|(pid, uid)| allowed(**pid) && ours(**pid, uid)) {
        members.entry((uid.clone(), *pid)).or_default().shim = true;
    }
    let mut open: Vec<(WorkloadUid, Pid)> = members.keys().cloned().collect();
    descend(&mut open, &mut members, table, instance, &allowed);
    // Once a member, always a member: what leaves its group, its parents, and its environment behind is who it was.
    for (pid, uid) in roots.known.iter().filter(|(pid, uid)| allowed(**pid) && !others.is_one(uid)) {
        let key = (uid.clone(), *pid);
        if !members.contains_key(&key) && ours(*pid, uid) {
            members.entry(key.clone()).or_default().known = true;
            open.push(key);
        }
    }
    descend(&mut open, &mut members, table, instance, &allowed);
    members
}

/// The members of what others started and is being ended: whom its row names, or was found before, with what descends from them.
/// Nobody who is `ours`, none with a mark, and nothing that somebody else needs.
fn of_others(
    table: &ProcessTable,
    instance: &InstanceId,
    roots: &Roots,
    others: &Others,
    ours: &BTreeMap<(WorkloadUid, Pid), Marks>,
    me: Pid,
) -> BTreeMap<(WorkloadUid, Pid), Marks> {
    let mut members: BTreeMap<(WorkloadUid, Pid), Marks> = BTreeMap::new();
    let known: Vec<(&Pid, &WorkloadUid)> = roots.known.iter().filter(|(_, uid)| others.is_one(uid)).collect();
    // Mostly nothing of others' is being ended.
    if known.is_empty() {
        return members;
    }
    let ours: BTreeSet<Pid> = ours.keys().map(|(_, pid)| *pid).collect();
    let allowed = |uid: &WorkloadUid, pid: Pid| {
        let Some(process) = table.get(pid) else { return false };
        let is_free = pid != me && pid.get() != 1 && !roots.keepers.contains(&pid) && !ours.contains(&pid);
        is_free && !is_elsewhere(process, instance, uid) && !others.spares(uid, process.id, &roots.known)
    };
    for (pid, uid) in known.into_iter().filter(|(pid, uid)| allowed(uid, **pid)) {
        members.entry((uid.clone(), *pid)).or_default().known = true;
    }
    let mut open: Vec<(WorkloadUid, Pid)> = members.keys().cloned().collect();
    while let Some((uid, pid)) = open.pop() {
        for child in table.children(pid).map(|child| child.id.pid).filter(|child| allowed(&uid, *child)) {
            let key = (uid.clone(), child);
            if !members.contains_key(&key) {
                members.insert(key.clone(), Marks { known: true, ..Marks::default() });
                open.push(key);
            }
        }
    }
    members
}

/// Adds whoever descends from the open ones.
fn descend(
    open: &mut Vec<(WorkloadUid, Pid)>,
    members: &mut BTreeMap<(WorkloadUid, Pid), Marks>,
    table: &ProcessTable,
    instance: &InstanceId,
    allowed: &impl Fn(Pid) -> bool,
) {
    while let Some((uid, pid)) = open.pop() {
        for child in table.children(pid).filter(|child| allowed(child.id.pid)) {
            if is_elsewhere(child, instance, &uid) {
                continue;
            }
            let key = (uid.clone(), child.id.pid);
            let known = members.contains_key(&key);
            members.entry(key.clone()).or_default().shim = true;
            if !known {
                open.push(key);
            }
        }
    }
}
