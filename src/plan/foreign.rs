//! What is to be done about trees that others started: one line for each, as for our own.

use super::Bounds;
use crate::model::{
    BootId, Cause, Foreign, ForeignTree, ForeignVerdict, Observed, Pid, ProcId, Reading, Snapshot, Time, Workload,
    WorkloadUid,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How old a look may be that a tree is condemned by: what its ledger says may have changed since.
pub const FRESH_FOR: Duration = Duration::from_secs(2);

/// The time that the budget is about.
pub const BUDGET_WINDOW: Duration = Duration::from_secs(60);

/// Everything that decides about others' trees.
#[derive(Debug, Clone, Copy)]
pub struct ForeignCase<'a> {
    /// The trees of one look, each with its verdict.
    pub trees: &'a [ForeignTree],
    /// When that look began.
    pub as_of: Time,
    /// This boot.
    pub boot_id: &'a BootId,
    /// What should be: the policy, and the rows of what is being ended.
    pub desired: &'a Snapshot,
    /// What was seen of our own.
    pub observed: &'a Observed,
    /// What bounds every plan.
    pub bounds: &'a Bounds,
    /// How many trees were condemned within the last [`BUDGET_WINDOW`].
    pub recent: usize,
    /// The time.
    pub now: Time,
}

/// What is to be done about one tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForeignLine {
    /// Give it a row that says why it is to go: its end follows.
    Condemn(Cause, String),
    /// It would go, and waits for the budget.
    Waits(String),
    /// Nothing, because of this.
    Held(String),
}

/// One line for each tree, by its root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForeignPlan {
    /// The lines.
    pub lines: BTreeMap<ProcId, ForeignLine>,
}

impl ForeignPlan {
    /// How many wait for the budget.
    pub fn waiting(&self) -> usize {
        self.lines.values().filter(|line| matches!(line, ForeignLine::Waits(_))).count()
    }

    /// The roots of those that are condemned, with the reason.
    pub fn condemned(&self) -> impl Iterator<Item = (ProcId, Cause, &str)> {
        self.lines.iter().filter_map(|(root, line)| match line {
            ForeignLine::Condemn(cause, why) => Some((*root, *cause, why.as_str())),
            ForeignLine::Waits(_) | ForeignLine::Held(_) => None,
        })
    }
}

/// The plan for what others started. Where the budget does not do for all, the largest go first.
pub fn foreign(case: ForeignCase<'_>) -> ForeignPlan {
    let rows = Rows::of(&case);
    let mut plan = ForeignPlan::default();
    let mut due: Vec<(&ForeignTree, Cause)> = Vec::new();
    for tree in case.trees {
        match rows.judge(tree, &case) {
            Ok(cause) => due.push((tree, cause)),
            Err(why) => drop(plan.lines.insert(tree.root, ForeignLine::Held(why))),
        }
    }
    due.sort_by_key(|(tree, _)| (std::cmp::Reverse(tree.rss_bytes), tree.root));
    let most = case.desired.policy.max_reaps_per_minute;
    let left = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(case.recent);
    for (place, (tree, cause)) in due.into_iter().enumerate() {
        let line = if place < left {
            ForeignLine::Condemn(cause, tree.evidence.clone())
        } else {
            ForeignLine::Waits(format!(
                "waits: the policy allows {most} trees a minute (maxReapsPerMinute); to be reaped: {}",
                tree.evidence
            ))
        };
        plan.lines.insert(tree.root, line);
    }
    plan
}

/// Who belongs to something that has a row, or a mark.
struct Rows<'a> {
    /// Whom the rows of others' trees name.
    named: BTreeMap<ProcId, &'a Workload>,
    /// Who was seen in a workload.
    seen: BTreeMap<ProcId, &'a WorkloadUid>,
}

impl<'a> Rows<'a> {
    fn of(case: &ForeignCase<'a>) -> Rows<'a> {
        let mut named = BTreeMap::new();
        for row in case.desired.workloads.values() {
            let Some(foreign) = row.spec.foreign.as_ref().filter(|it| it.boot_id == *case.boot_id) else { continue };
            named.extend(foreign.members.iter().chain([&foreign.root]).map(|id| (*id, &**row)));
        }
        let trees = case.observed.workloads.known().into_iter().flatten();
        let seen = trees.flat_map(|(uid, tree)| tree.processes.iter().map(move |process| (process.id, uid)));
        Rows { named, seen: seen.collect() }
    }

    /// Why a tree is to go now; or why it is not.
    fn judge(&self, tree: &ForeignTree, case: &ForeignCase<'_>) -> Result<Cause, String> {
        let members = || tree.processes.iter().chain([&tree.root]);
        if let Some(row) = members().find_map(|id| self.named.get(id)) {
            return Err(format!("it is being ended: workload {}", row.metadata.name));
        }
        let (evidence, verdict) = (&tree.evidence, tree.verdict);
        let cause = match (verdict, tree.cause.of_reaping()) {
            (ForeignVerdict::Reap, Some(cause)) => cause,
            (ForeignVerdict::Reap, None) | (ForeignVerdict::Keep | ForeignVerdict::Unknown, _) => {
                return Err(evidence.clone());
            }
        };
        if let Some((id, uid)) = members().find_map(|id| Some((id, self.seen.get(id)?))) {
            return Err(format!("process {} of it belongs to workload {uid}", id.pid));
        }
        if case.desired.policy.foreign == Foreign::Report {
            return Err(format!("would be reaped, were it not for the policy `foreign: Report`: {evidence}"));
        }
        if let Reading::Unknown(why) = &case.observed.workloads {
            return Err(format!("the process table is unknown: {why} (to be reaped: {evidence})"));
        }
        if let Reading::Unknown(why) = &case.bounds.gate {
            return Err(format!("Condemn is held back until {why} (to be reaped: {evidence})"));
        }
        // A clock that was set back makes a look old, too: its age is not known.
        if case.now < case.as_of || case.now.since(case.as_of) > FRESH_FOR {
            let age = case.now.since(case.as_of).as_secs();
            return Err(format!("a new look comes first: this one began {age} s ago (to be reaped: {evidence})"));
        }
        Ok(cause)
    }
}

/// Who may be condemned at all: the second opinion's own sources.
#[derive(Debug, Clone)]
pub struct ForeignGuard<'a> {
    /// This process and all above it, as of the look.
    pub selves: &'a BTreeSet<Pid>,
    /// Processes that the policy protects, as of the look.
    pub protected: &'a BTreeSet<ProcId>,
    /// Processes whose environment carries a mark of any tenure.
    pub marked: &'a BTreeSet<ProcId>,
    /// The user that the controller runs as.
    pub user: u32,
}
