//! The diff: what would bring what is to what should be. Pure: it imports `model` only, and is given the time.
//!
//! [`diff`] answers every row and every tree with exactly one line: an action, or *held* with the reason. It leaves the
//! hands no choice. [`check`] is a second opinion on its answer: the never-rules, stated independently.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod check;
mod foreign;
mod reason;
mod stages;
#[cfg(test)]
mod tests;
mod verdict;

pub use check::{ForeignViolation, Guard, Violation, check, check_foreign};
pub use foreign::{BUDGET_WINDOW, FRESH_FOR, ForeignCase, ForeignGuard, ForeignLine, ForeignPlan, foreign};
pub use reason::Reason;
pub use verdict::{Want, want};

use crate::model::{
    Breadth, Cause, JobTable, JobUid, Observed, Pid, ProcId, Reading, SeenProcess, SeenWorkload, Snapshot, Stage, Time,
    Workload, WorkloadUid,
};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What has been, and is being, done to a workload by this controller since it started: what the next look may judge.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Acts {
    /// By workload; one that is not here was not acted on.
    pub by_workload: BTreeMap<WorkloadUid, Act>,
}

/// The last act on one workload.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Act {
    /// What is under way, if something is.
    pub in_flight: Option<&'static str>,
    /// The number of the last look that began before the act ended: a judgement needs a later one.
    pub ended_at_look: u64,
    /// After a failure: not before this.
    pub retry_at: Option<Time>,
    /// How often it failed in a row.
    pub failures: u32,
    /// The last failure, in words.
    pub error: Option<String>,
}

/// What is known about the host beyond one look, that bounds every plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    /// Whether anything may be ended now: the start gate, the manifest directories, the store. `Unknown` says what is
    /// waited for.
    pub gate: Reading<()>,
    /// Processes that match one of these are never signalled: decided at the edge from the policy's patterns.
    pub protected: BTreeSet<ProcId>,
    /// The controller and its ancestors.
    pub selves: BTreeSet<Pid>,
    /// The user that the controller acts as: only root (0) signals others' processes.
    pub user: u32,
}

/// What to do about one workload.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make its run directory and its shim.
    Start,
    /// Its shim is there: say so in its row.
    NoteRunning {
        /// The shim.
        shim: ProcId,
        /// The main process, if it could be started.
        child: Option<ProcId>,
    },
    /// It can serve no more: say so in its row, and fail the runs that count on it.
    Condemn {
        /// Why.
        cause: Cause,
        /// The same for a person.
        message: String,
    },
    /// It carries our mark and has no row: write one, so that its end has a place to be recorded.
    Adopt,
    /// Record this stage with its reason, then do what the stage does.
    Stop {
        /// The stage, not yet sent.
        stage: Stage,
        /// Why.
        cause: Cause,
        /// The evidence, in words.
        message: String,
        /// Whom to signal.
        targets: Vec<ProcId>,
        /// All processes of it that live, the shim among them.
        processes: Vec<Pid>,
        /// The memory that they hold, in bytes.
        held_bytes: u64,
    },
    /// The stage is recorded and what it does may not have been done: do it (again).
    Send {
        /// The stage.
        stage: Stage,
        /// Whom to signal.
        targets: Vec<ProcId>,
    },
    /// Nothing of it is alive: remove what it left, then say that it is stopped.
    Clean,
}

impl Action {
    /// One word, as printed.
    pub fn as_str(&self) -> &'static str {
        match self {
            Action::Start => "Start",
            Action::NoteRunning { .. } => "NoteRunning",
            Action::Condemn { .. } => "Condemn",
            Action::Adopt => "Adopt",
            Action::Stop { stage, .. } | Action::Send { stage, .. } => stage.as_str(),
            Action::Clean => "Clean",
        }
    }

    /// The processes that it would signal.
    pub fn targets(&self) -> &[ProcId] {
        match self {
            Action::Stop { targets, .. } | Action::Send { targets, .. } => targets,
            Action::Start | Action::NoteRunning { .. } | Action::Condemn { .. } | Action::Adopt | Action::Clean => &[],
        }
    }

    /// Whether it ends something, or removes what was left of it: what the gate holds back.
    pub fn is_ending(&self) -> bool {
        match self {
            Action::Stop { .. } | Action::Send { .. } | Action::Clean | Action::Adopt | Action::Condemn { .. } => true,
            Action::Start | Action::NoteRunning { .. } => false,
        }
    }
}

/// What is to be done about one workload, or why nothing is.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// Do this.
    Act(Action, String),
    /// Do nothing now, because of this; look again at this time, if one is given.
    Held(Reason, Option<Time>),
}

/// What would bring what is to what should be.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// One line for every row and every tree.
    pub lines: BTreeMap<WorkloadUid, Line>,
    /// When the next pass is due even if nothing happens.
    pub wake_at: Option<Time>,
    /// Something waits for a look at the whole host.
    pub wants_host: bool,
}

impl Plan {
    /// What it does, ends before starts.
    pub fn actions(&self) -> Vec<(&WorkloadUid, &Action, &str)> {
        let all = self.lines.iter().filter_map(|(uid, line)| match line {
            Line::Act(action, reason) => Some((uid, action, reason.as_str())),
            Line::Held(..) => None,
        });
        let (starts, others): (Vec<_>, Vec<_>) = all.partition(|(_, action, _)| matches!(action, Action::Start));
        others.into_iter().chain(starts).collect()
    }
}

/// What one workload looks like from both sides: the only thing that a line is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'a> {
    /// Its row; none: only its marks were seen.
    pub(crate) row: Option<&'a Workload>,
    /// What was seen of it; an empty one: nothing was.
    pub(crate) seen: &'a SeenWorkload,
    pub(crate) bounds: &'a Bounds,
    pub(crate) now: Time,
}

impl Action {
    /// Whether it is right only if nothing more is there than what was seen.
    fn needs_absence(&self, seen: &SeenWorkload) -> bool {
        match self {
            Action::Start | Action::Clean | Action::Stop { stage: Stage::Clean, .. } => true,
            Action::Adopt => seen.processes.is_empty(),
            Action::NoteRunning { .. } | Action::Condemn { .. } | Action::Stop { .. } | Action::Send { .. } => false,
        }
    }
}

impl Case<'_> {
    /// The processes that may be signalled: without the shim, which ends by itself, and without what is protected.
    pub(crate) fn targets(&self) -> Vec<ProcId> {
        let members = self.living().filter(|process| !process.is_shim);
        members.filter(|process| self.out_of_reach(process).is_none()).map(|process| process.id).collect()
    }

    /// Why a process of the tree is not ours to signal, if so: it ends by itself, or a person ends it.
    pub(crate) fn out_of_reach(&self, process: &SeenProcess) -> Option<&'static str> {
        if self.bounds.user != 0 && process.user != self.bounds.user {
            return Some("another user's");
        }
        self.bounds.selves.contains(&process.id.pid).then_some("this controller runs below it")
    }

    /// The processes that count as being of the tree: what is protected was let go.
    pub(crate) fn living(&self) -> impl Iterator<Item = &SeenProcess> {
        self.seen.processes.iter().filter(|process| !self.bounds.protected.contains(&process.id))
    }
}

/// The plan: one line for every row and every tree.
///
/// `observed` must be older than `desired` (look first, then read): then a process that it shows has a row in `desired`,
/// unless that row is gone for good.
pub fn diff(desired: &Snapshot, observed: &Observed, acts: &Acts, bounds: &Bounds, now: Time) -> Plan {
    let mut plan = Plan::default();
    let nothing = SeenWorkload::default();
    let empty = BTreeMap::new();
    let (trees, unknown) = match &observed.workloads {
        Reading::Known(trees) => (trees, None),
        Reading::Unknown(why) => (&empty, Some(why)),
    };
    let jobs = JobTable::of(desired);
    let mut lines = Vec::with_capacity(desired.workloads.len().max(trees.len()));
    for (uid, row, seen) in sides(&desired.workloads, trees) {
        let case = Case { row, seen: seen.unwrap_or(&nothing), bounds, now };
        let line = match held_by_acts(acts.by_workload.get(uid), observed.look, now) {
            Some(held) => held,
            None => match unknown {
                Some(why) => Line::Held(format!("the process table is unknown: {why}").into(), None),
                None => narrowed(gated(judge(desired, &jobs, case), bounds), case, observed.breadth, &mut plan),
            },
        };
        if let Line::Held(_, Some(at)) = &line {
            plan.wake_at = Some(plan.wake_at.map_or(*at, |earlier| earlier.min(*at)));
        }
        lines.push((uid.clone(), line));
    }
    // In their order already: made at once, not by ten thousand insertions.
    plan.lines = lines.into_iter().collect();
    hold_back_collisions(desired, &mut plan);
    plan
}

/// Every row and every tree, both sides of one workload together: one walk along both, which are in the same order.
fn sides<'a>(
    rows: &'a BTreeMap<WorkloadUid, Arc<Workload>>,
    trees: &'a BTreeMap<WorkloadUid, SeenWorkload>,
) -> impl Iterator<Item = (&'a WorkloadUid, Option<&'a Workload>, Option<&'a SeenWorkload>)> {
    let (mut rows, mut trees) = (rows.iter().peekable(), trees.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (rows.peek(), trees.peek()) {
            (Some((row, _)), Some((tree, _))) => row.cmp(tree),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let row = if order.is_le() { rows.next() } else { None };
        let tree = if order.is_ge() { trees.next() } else { None };
        let uid = row.map(|(uid, _)| uid).or(tree.map(|(uid, _)| uid))?;
        Some((uid, row.map(|(_, row)| &**row), tree.map(|(_, tree)| tree)))
    })
}

/// How long a failed act is put off, at most.
pub const RETRY_WITHIN: Duration = Duration::from_secs(30);

/// What was acted on is judged again only by a look that began after the act ended, and after a failure not at once.
fn held_by_acts(act: Option<&Act>, look: u64, now: Time) -> Option<Line> {
    let act = act?;
    if let Some(doing) = act.in_flight {
        return Some(Line::Held(format!("{doing} is under way").into(), None));
    }
    if look <= act.ended_at_look {
        return Some(Line::Held("it was acted on after this look began".into(), Some(now)));
    }
    match (act.retry_at, &act.error) {
        // Later than that it was not put off: the clock was set back since.
        (Some(at), Some(error)) if at > now && at <= now.after(RETRY_WITHIN) => {
            Some(Line::Held(format!("failed, to be tried again: {error}").into(), Some(at)))
        }
        _ => None,
    }
}

/// Nothing is ended through a closed gate.
fn gated(line: Line, bounds: &Bounds) -> Line {
    match (&line, &bounds.gate) {
        (Line::Act(action, reason), Reading::Unknown(why)) if action.is_ending() => {
            Line::Held(format!("{} is held back until {why} ({reason})", action.as_str()).into(), None)
        }
        _ => line,
    }
}

/// A look at our own trees proves that something is there, or has ended; never that nothing is.
fn narrowed(line: Line, case: Case<'_>, breadth: Breadth, plan: &mut Plan) -> Line {
    match (breadth, &line) {
        (Breadth::Own, Line::Act(action, reason)) if action.needs_absence(case.seen) => {
            plan.wants_host = true;
            let word = action.as_str();
            Line::Held(format!("{word} ({reason}); a look at the whole host follows").into(), Some(case.now))
        }
        (Breadth::Own | Breadth::Host, _) => line,
    }
}

/// The line of one workload, from its row and from what was seen of it.
fn judge(desired: &Snapshot, jobs: &JobTable<'_>, case: Case<'_>) -> Line {
    match case.row {
        None => verdict::without_row(case),
        Some(row) => stages::with_row(row, &verdict::want_of(row, desired, jobs), case),
    }
}

/// Stop before start: what works on the same step of the same job, in the same directory, waits until its predecessor is
/// gone.
fn hold_back_collisions(desired: &Snapshot, plan: &mut Plan) {
    fn step_of(row: &Workload) -> Option<(&JobUid, &str)> {
        let (step, _attempt) = row.spec.run.as_deref()?.rsplit_once('.')?;
        Some((&row.spec.owners.first()?.uid, step))
    }
    let acts = |wanted: fn(&Action) -> bool| {
        plan.lines.iter().filter(move |(_, line)| matches!(line, Line::Act(action, _) if wanted(action)))
    };
    let starts: Vec<WorkloadUid> = acts(|action| matches!(action, Action::Start)).map(|(uid, _)| uid.clone()).collect();
    // Mostly nothing starts, and then no row needs to be looked at.
    if starts.is_empty() {
        return;
    }
    let stops = acts(|action| matches!(action, Action::Stop { .. }));
    let stops = stops.filter_map(|(uid, _)| desired.workloads.get_key_value(uid));
    let under_way = desired.workloads.iter().filter(|(_, row)| row.status.stage.is_some());
    let ending: BTreeMap<_, _> = stops.chain(under_way).filter_map(|(uid, row)| Some((step_of(row)?, uid))).collect();
    for uid in starts {
        let step = desired.workloads.get(&uid).and_then(|row| step_of(row));
        if let Some(before) = step.and_then(|step| ending.get(&step)) {
            let held = format!("the attempt before it is still being stopped (workload {before})");
            plan.lines.insert(uid, Line::Held(held.into(), None));
        }
    }
}
