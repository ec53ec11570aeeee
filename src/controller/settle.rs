//! The jobs of a pass: outcomes are taken in, each job goes as far as it can, and what is ready gets a workload. The result
//! is one transaction: an outcome and what follows from it are never apart.

use super::admit::Admission;
use super::dependencies::{self, Dependencies};
use super::ends;
use super::family::Family;
use super::flows::Flows;
use super::job_next::JobNext;
use super::outside::Outside;
use super::places::{Place, Places, place_of};
use super::requirements::{self, Checks};
use super::shelf::Shelf;
use super::subjobs::{self, Making};
use super::{idle, speech};
use crate::acp::TerminalWanted;
use crate::flow;
use crate::model::{
    AnyObject, EnvValue, Exit, Failure, Job, JobPhase, Kind, Meta, Observed, Outcome, RunPhase, Snapshot, StepRun,
    Time, Workload, WorkloadSpec, WorkloadStatus, WorkloadType, WorkloadUid,
};
use crate::os::StateDir;
use crate::plan::{Acts, Bounds};
use crate::store::Txn;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How soon a pass follows while something is being read.
pub(super) const SOON: Duration = Duration::from_millis(20);

/// What a program that runs to its end was for: it tells what its end means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// A script.
    Script,
    /// A check of a poll.
    Check,
    /// A check of what a job requires.
    Requirement,
    /// A request to a model.
    Llm,
    /// A webhook.
    Notification,
}

/// What workloads have said and come to, as far as it was read.
pub trait Talk {
    /// How a run's turn ended, if it did.
    fn outcome_of(&self, run: &StepRun) -> Option<Outcome>;

    /// The flow that the agent of a run left behind, or what is wrong with it; none: it left none.
    fn emitted_by(&self, _run: &StepRun) -> Option<Result<Value, Failure>> {
        None
    }

    /// The outcome of a program whose main process ended so.
    fn outcome_of_process(&self, what: Process, workload: &Workload, exit: &Exit) -> Outcome;

    /// The session of a run's turn, once it has one.
    fn session_of(&self, run: &StepRun) -> Option<String>;

    /// Why an adapter could not be spoken with, if it could not.
    fn failed_start(&self, uid: &WorkloadUid) -> Option<String>;

    /// What an adapter said that makes no sense, if anything; it goes on.
    fn nonsense(&self, _uid: &WorkloadUid) -> Option<String> {
        None
    }

    /// Why it makes no sense to talk on with an adapter, if so.
    fn garbled(&self, _uid: &WorkloadUid) -> Option<String> {
        None
    }

    /// Whether all that an adapter has said was read; one that is not spoken with has nothing to say.
    fn drained(&self, uid: &WorkloadUid) -> bool;

    /// The terminals that agents asked for: with each the adapter that it belongs to.
    fn terminals(&self) -> Vec<(WorkloadUid, TerminalWanted)>;
}

/// What a pass decides from.
pub struct World<'a> {
    /// What should be.
    pub desired: &'a Snapshot,
    /// What is: a look that is older than `desired`.
    pub observed: &'a Observed,
    /// What was said.
    pub talk: &'a dyn Talk,
    /// What else is known.
    pub outside: &'a dyn Outside,
    /// What was done.
    pub acts: &'a Acts,
    /// What bounds the plan.
    pub bounds: &'a Bounds,
    /// The user that we act as.
    pub user: u32,
    /// Where things are.
    pub state_dir: &'a StateDir,
    /// Our own program: the bundled agent is beside it.
    pub exe: &'a Path,
    /// Terminals that have been stopped: workloads that are no longer active.
    pub ended: &'a BTreeSet<WorkloadUid>,
    /// What is asked for by name.
    pub shelf: &'a dyn Shelf,
    /// The time.
    pub now: Time,
}

/// What settling found.
pub(super) struct Settled {
    /// What changes; empty when the jobs are at rest.
    pub(super) txn: Txn,
    /// When a job has something to do even if nothing happens.
    pub(super) wake_at: Option<Time>,
}

/// Settles every active job.
pub(super) fn settle(world: &World<'_>, flows: &mut Flows, new_uid: &mut dyn FnMut() -> String) -> Settled {
    let mut txn = Txn::default();
    // Last words are about to be read: look again soon.
    let reading =
        world.desired.workloads.iter().any(|(uid, row)| row.status.cause.is_some() && !world.talk.drained(uid));
    let mut wake_at: Option<Time> = reading.then(|| world.now.after(SOON));
    // Where a job's row went, its runs go with it, and so do its workloads, by the plan.
    for run in world.desired.runs_without_job() {
        txn = txn.delete(Kind::StepRun, &run.metadata.name, run.metadata.resource_version);
    }
    let (workloads, checks) = (ends::workloads(world), requirements::checks(world));
    let jobs = world.desired.jobs_with_runs();
    let mut live: Vec<JobNext<'_>> = jobs.map(|(uid, job, runs)| JobNext::new(uid, job, runs)).collect();
    let family = Family::of(&live);
    let dependencies = Dependencies::of(world.desired.jobs.values(), world.shelf);
    let mut order = family.children_first();
    for &at in &order {
        let wanted = family.wanted(&live, at);
        let next = &mut live[at];
        if next.is_at_rest() {
            continue;
        }
        let waits = dependencies::waits(&next.job);
        if waits {
            dependencies::wait_anew(&mut next.job);
        }
        let before = waits.then(|| dependencies.before(&next.job));
        if let Err(pending) = next.find_flow(world, flows) {
            next.wait(pending, world.now);
            continue;
        }
        for heard in requirements::hear(&mut next.job, &checks, world.talk, world.now) {
            txn = txn.put(AnyObject::Workload(heard));
        }
        next.take_outcomes(world, &workloads);
        for (place, outcome) in subjobs::outcomes(&live, &family, at) {
            live[at].finish(place, &outcome, world.now);
        }
        let next = &mut live[at];
        if before.is_some_and(|before| !next.follow(before, world.now)) {
            continue;
        }
        let due = next.go_on(flows.known(next.uid), wanted, &checks, world.now);
        wake_at = [wake_at, due].into_iter().flatten().min();
        subjobs::tell_of_escalation(&mut live, &family, at);
    }
    order.reverse();
    subjobs::end_with_their_parents(&mut live, &family, &order, world.now);
    for workload in admit(world, &mut live, &checks, new_uid) {
        txn = txn.put(AnyObject::Workload(workload));
    }
    let mut making = Making::new(world, &family);
    for &at in &order {
        making.bring_up(&mut live, at);
    }
    for left in making.left {
        txn = txn.delete(Kind::Job, &left.metadata.name, left.metadata.resource_version);
    }
    for job in making.jobs {
        txn = txn.put(AnyObject::Job(job));
    }
    let idle = idle::find(
        world,
        world.desired.all_runs().chain(live.iter().flat_map(|next| next.runs.iter().map(|run| &**run))),
    );
    wake_at = [wake_at, making.wake_at, idle.due].into_iter().flatten().min();
    for workload in idle.condemned {
        txn = txn.put(AnyObject::Workload(workload));
    }
    for next in live {
        txn = next.changes(txn, world.now);
    }
    txn = speech::judge(world, txn);
    for workload in terminals(world) {
        txn = txn.put(AnyObject::Workload(workload));
    }
    Settled { txn, wake_at }
}

/// Begins what is due, as far as there are places; gives the workloads for it.
fn admit(
    world: &World<'_>,
    live: &mut [JobNext<'_>],
    checks: &Checks<'_>,
    new_uid: &mut dyn FnMut() -> String,
) -> Vec<Workload> {
    // Fair: what has waited longest is admitted first, whichever job it belongs to.
    let mut waiting: Vec<(Time, usize, Asks)> = Vec::new();
    for (j, next) in live.iter_mut().enumerate() {
        waiting.extend((0..next.asks.len()).map(|at| (world.now, j, Asks::Requirement(at))));
        if next.job.status.phase == JobPhase::Running {
            next.take_results(world);
            waiting.extend(next.due(world.now).map(|(since, at)| (since, j, Asks::Run(at))));
        }
    }
    if waiting.is_empty() {
        return Vec::new();
    }
    waiting.sort_unstable();
    let mut admission = Admission::new(world, new_uid, seated(live, checks));
    for (_, j, asks) in waiting {
        let Some(next) = live.get_mut(j) else { continue };
        match asks {
            Asks::Run(at) => {
                if let Some(flow) = &next.flow {
                    admission.admit(flow, &next.job, &mut next.runs, at);
                }
            }
            Asks::Requirement(at) => {
                if let Some(requirement) = next.asks.get(at) {
                    admission.ask(&next.job, requirement);
                }
            }
        }
    }
    admission.changed().collect()
}

/// Who waits for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asks {
    /// The run at this place of its job.
    Run(usize),
    /// The check at this place of those that its job asks for.
    Requirement(usize),
}

/// The places that are taken.
fn seated(live: &[JobNext<'_>], checks: &Checks<'_>) -> Places {
    let mut places = Places::default();
    checks.values().flatten().for_each(|_| places.seat(Place::Check));
    for (next, flow) in live.iter().filter_map(|next| Some((next, next.flow.as_ref()?))) {
        for run in next.runs.iter().filter(|run| run.status.phase == RunPhase::Running) {
            let task = flow::task(flow, run).filter(|_| run.status.emitted.is_none());
            if let Some(place) = task.and_then(|task| place_of(&task)) {
                places.seat(place);
            }
        }
    }
    places
}

/// The terminals that agents asked for, as far as they are not as they should be: workloads like any other, that their
/// adapter's owners own.
fn terminals(world: &World<'_>) -> Vec<Workload> {
    let mut changed = Vec::new();
    for (adapter, terminal) in world.talk.terminals() {
        let let_go = terminal.released || terminal.kill;
        match (world.desired.workloads.get(&terminal.id), world.desired.workloads.get(&adapter)) {
            (Some(row), _) if let_go && !row.spec.released => {
                let mut row = Workload::clone(row);
                row.spec.released = true;
                changed.push(row);
            }
            (Some(_), _) | (None, None) => {}
            // Let go before it began, or stopped already: there is nothing to run.
            (None, Some(_)) if let_go || world.ended.contains(&terminal.id) => {}
            (None, Some(parent)) => changed.push(Workload {
                metadata: Meta { uid: terminal.id.0.clone(), ..Meta::named(terminal.id.0.clone()) },
                spec: WorkloadSpec {
                    r#type: WorkloadType::Script,
                    owners: parent.spec.owners.clone(),
                    parent: Some(adapter),
                    command: std::iter::once(terminal.command).chain(terminal.args).collect(),
                    env: terminal.env.into_iter().map(|(name, value)| (name, EnvValue::Literal(value))).collect(),
                    cwd: terminal.cwd.to_string_lossy().into_owned(),
                    grace_period: parent.spec.grace_period,
                    ..WorkloadSpec::default()
                },
                status: WorkloadStatus::default(),
            }),
        }
    }
    changed
}

/// Where a job's scripts and agents run.
pub(super) fn working_dir(job: &Job, state_dir: &StateDir) -> PathBuf {
    match &job.spec.working_dir {
        Some(dir) => PathBuf::from(dir),
        None => state_dir.workspace(&job.uid()),
    }
}
