//! Trees that others started and that are being ended: nothing but identity ties a process to one, so they are told to the eyes.

use crate::model::{BootId, ForeignTree, ForeignVerdict, Pid, ProcId, Snapshot, WorkloadUid};
use std::collections::{BTreeMap, BTreeSet};

/// What of others' is being ended, and what below it is not to be ended with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Others {
    /// Each tree that is being ended: whom its row names.
    members: BTreeMap<WorkloadUid, BTreeSet<ProcId>>,
    /// Roots of trees that somebody needs, and what is below one that is being ended without belonging to it.
    needed: BTreeSet<ProcId>,
    /// Roots of trees that are kept because nothing, or not enough, is known of them.
    unclear: BTreeSet<ProcId>,
}

impl Others {
    /// By the rows of this boot, and the trees of the latest look at what others started. After another boot, no process of a row
    /// can be alive.
    pub fn new(desired: &Snapshot, boot_id: &BootId, trees: &[ForeignTree]) -> Others {
        let rows = desired.workloads.iter().filter_map(|(uid, row)| Some((uid, row.spec.foreign.as_ref()?)));
        let of_this_boot = rows.filter(|(_, foreign)| foreign.boot_id == *boot_id);
        let members = |(uid, foreign): (&WorkloadUid, &crate::model::ForeignTreeSpec)| {
            (uid.clone(), foreign.members.iter().copied().chain([foreign.root]).collect())
        };
        let below = of_this_boot.clone().flat_map(|(_, foreign)| foreign.others_below.iter().copied());
        let mut others =
            Others { needed: below.collect(), members: of_this_boot.map(members).collect(), ..Others::default() };
        others.needed.extend(trees.iter().flat_map(|tree| tree.others_below.iter().copied()));
        for tree in trees.iter().filter(|tree| tree.verdict != ForeignVerdict::Reap) {
            let roots = if tree.cause.is_need() { &mut others.needed } else { &mut others.unclear };
            roots.insert(tree.root);
        }
        others
    }

    /// For one act on one tree: these belong to it.
    #[must_use]
    pub fn only(&self, uid: &WorkloadUid, members: &[ProcId]) -> Others {
        let mut own = self.members.get(uid).cloned().unwrap_or_default();
        own.extend(members);
        Others { members: [(uid.clone(), own)].into(), needed: self.needed.clone(), unclear: self.unclear.clone() }
    }

    /// Whether this is one of them.
    pub fn is_one(&self, uid: &WorkloadUid) -> bool {
        self.members.contains_key(uid)
    }

    /// Whom the rows name.
    pub(super) fn members(&self) -> impl Iterator<Item = (ProcId, &WorkloadUid)> {
        self.members.iter().flat_map(|(uid, members)| members.iter().map(move |id| (*id, uid)))
    }

    /// Whether a process, and all below it, stays out of a tree though it descends from it. Who is named by its row never does.
    /// Of one that was found to belong to it since (`known`), that nothing is known of it as a tree of its own is no reason: what
    /// is left of a tree is in no ledger.
    pub(super) fn spares(&self, uid: &WorkloadUid, id: ProcId, known: &BTreeMap<Pid, WorkloadUid>) -> bool {
        if self.members.get(uid).is_some_and(|members| members.contains(&id)) {
            return false;
        }
        let is_known = known.get(&id.pid) == Some(uid);
        self.needed.contains(&id) || (self.unclear.contains(&id) && !is_known)
    }
}
