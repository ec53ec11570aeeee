//! The jobs of a pass: outcomes are taken in, each job goes as far as it can, and what is ready gets a workload. The result
//! is one transaction: an outcome and what follows from it are never apart.

use super::admit::Admission;
use super::ends::{self, Workloads};
use super::flows::{Flows, Known, Pending, Rest, file_of, hide, note_pending, source_of, warning};
use super::outside::{self, Outside};
use super::places::{Place, Places, place_of};
use super::requirements::{self, Checks, Closed};
use super::{idle, results, speech};
use crate::acp::TerminalWanted;
use crate::flow::{self, Effect, Flow, Requirement, Secrets, Sensitive};
use crate::model::{
    AnyObject, EnvValue, Event, Exit, Failure, Job, JobPhase, Kind, Meta, Observed, Outcome, RunPhase, Snapshot,
    StepRun, Time, Workload, WorkloadSpec, WorkloadStatus, WorkloadType, WorkloadUid,
};
use crate::os::StateDir;
use crate::plan::{Acts, Bounds};
use crate::store::Txn;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
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
    let mut live = Vec::new();
    // Where a job's row went, its runs go with it, and so do its workloads, by the plan.
    for run in world.desired.runs_without_job() {
        txn = txn.delete(Kind::StepRun, &run.metadata.name, run.metadata.resource_version);
    }
    let (workloads, checks) = (ends::workloads(world), requirements::checks(world));
    for (uid, job, stored_runs) in world.desired.jobs_with_runs() {
        let flow = match flows.flow_of(uid, job, world.desired) {
            Ok(flow) => flow,
            Err(pending) => {
                txn = note_pending(txn, job, pending, world.now);
                continue;
            }
        };
        let mut next = JobNext::new(job, stored_runs, flow);
        next.pin_flow(world.desired);
        if let Err(pending) = next.take_vars(world) {
            txn = note_pending(txn, job, pending, world.now);
            continue;
        }
        for heard in requirements::hear(&mut next.job, &checks, world.talk, world.now) {
            txn = txn.put(AnyObject::Workload(heard));
        }
        next.take_outcomes(world, &workloads);
        let due = next.go_on(flows.known(uid), &checks, world.now);
        wake_at = [wake_at, due].into_iter().flatten().min();
        live.push(next);
    }
    for workload in admit(world, &mut live, &checks, new_uid) {
        txn = txn.put(AnyObject::Workload(workload));
    }
    let idle = idle::find(world, world.desired.all_runs().chain(live.iter().flat_map(|next| next.runs.iter())));
    wake_at = [wake_at, idle.due].into_iter().flatten().min();
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
            Asks::Run(at) => admission.admit(&next.flow, &next.job, &mut next.runs, at),
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
    for next in live {
        for run in next.runs.iter().filter(|run| run.status.phase == RunPhase::Running) {
            let task = flow::task(&next.flow, run).filter(|_| run.status.emitted.is_none());
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

/// A job under way through one pass: what is stored, until something about it changes.
struct JobNext<'a> {
    stored_job: &'a Arc<Job>,
    stored_runs: Option<&'a Arc<Vec<StepRun>>>,
    job: Arc<Job>,
    runs: Arc<Vec<StepRun>>,
    events: Vec<Event>,
    flow: Arc<Flow>,
    /// The checks that should begin.
    asks: Vec<Requirement>,
}

impl<'a> JobNext<'a> {
    fn new(job: &'a Arc<Job>, stored_runs: Option<&'a Arc<Vec<StepRun>>>, flow: Arc<Flow>) -> JobNext<'a> {
        let runs = stored_runs.cloned().unwrap_or_default();
        JobNext { stored_job: job, stored_runs, job: job.clone(), runs, events: Vec::new(), flow, asks: Vec::new() }
    }

    /// Until it begins, values from outside are looked up for it; then they stay as they were.
    fn take_vars(&mut self, world: &World<'_>) -> Result<(), Pending> {
        if self.job.status.started_at.is_some() || self.job.status.phase.is_terminal() || self.flow.inputs.is_empty() {
            return Ok(());
        }
        let config = file_of(&self.job, world.desired).and_then(|file| outside::config_of(&file));
        let vars = outside::vars(&self.flow, &self.job, config.as_deref(), world.outside)
            .map_err(|message| Pending { reason: "ConfigInvalid", message })?;
        if self.job.status.vars != vars {
            Arc::make_mut(&mut self.job).status.vars = vars;
        }
        Ok(())
    }

    /// The runs that may begin now, with the time since when.
    fn due(&self, now: Time) -> impl Iterator<Item = (Time, usize)> {
        let may_begin = |run: &StepRun| matches!(run.status.phase, RunPhase::Pending | RunPhase::Suspended);
        let runs = self.runs.iter().enumerate();
        let due = runs.filter(move |(_, run)| may_begin(run) && flow::is_due(&self.flow, &self.runs, run, now));
        due.map(move |(at, run)| (run.status.due_at.or(run.status.created_at).unwrap_or(now), at))
    }

    /// Where the result of an equal run was kept, it is taken instead of the work.
    fn take_results(&mut self, world: &World<'_>) {
        if self.flow.steps.values().all(|step| step.cache.is_none()) {
            return;
        }
        let due: Vec<usize> = self.due(world.now).map(|(_, at)| at).collect();
        for at in due {
            if let Some(run) = results::taken(&self.flow, &self.job, &self.runs[at], world) {
                Arc::make_mut(&mut self.runs)[at] = run;
            }
        }
    }

    /// From its first pass on, a job runs the flow as it was then.
    fn pin_flow(&mut self, desired: &Snapshot) {
        if self.job.status.flow.is_none()
            && let Some((value, dir)) = source_of(&self.job, desired)
        {
            let (value, dir) = (value.clone(), dir);
            let job = Arc::make_mut(&mut self.job);
            job.status.flow = Some(value);
            job.status.flow_dir = dir;
        }
    }

    fn take_outcomes(&mut self, world: &World<'_>, workloads: &Workloads<'_>) {
        for at in 0..self.runs.len() {
            if self.runs[at].status.phase != RunPhase::Running {
                continue;
            }
            if self.runs[at].status.session.is_none()
                && let Some(session) = world.talk.session_of(&self.runs[at])
            {
                Arc::make_mut(&mut self.runs)[at].status.session = Some(session);
            }
            if let Some(outcome) = ends::outcome_of(&self.flow, &self.runs[at], world, workloads) {
                let finished = ends::finished(&self.flow, &self.runs[at], outcome, world);
                Arc::make_mut(&mut self.runs)[at] = finished;
            }
        }
    }

    /// Takes the job as far as it goes; gives when the time alone asks for something. A state that was seen to ask for nothing
    /// is not asked again.
    fn go_on(&mut self, known: Option<&mut Known>, checks: &Checks<'_>, now: Time) -> Option<Time> {
        let rest = known.as_ref().and_then(|known| known.rest.as_ref());
        if let Some(rest) = rest.filter(|rest| rest.holds(&self.job, &self.runs, now)) {
            return rest.due;
        }
        let effects = flow::advance(&self.flow, &self.job, &self.runs, now);
        let begins = |effect: &Effect| matches!(effect, Effect::Job(status) if status.started_at.is_some());
        if self.job.status.started_at.is_none()
            && effects.iter().any(begins)
            && let Some(closed) = requirements::closed(&self.flow, &self.job, checks, now)
        {
            return self.wait(closed, now);
        }
        if !effects.is_empty() {
            let (job, runs) = (Arc::make_mut(&mut self.job), Arc::make_mut(&mut self.runs));
            let effects = flow::settle(&self.flow, job, runs, now);
            self.events.extend(effects.into_iter().filter_map(|effect| match effect {
                Effect::Event(event) => Some(event),
                Effect::Job(_) | Effect::Run(_) => None,
            }));
            return flow::next_wake(&self.flow, &self.job, &self.runs, now);
        }
        let due = flow::next_wake(&self.flow, &self.job, &self.runs, now);
        if let Some(known) = known {
            known.rest = Some(Rest { job: self.job.clone(), runs: self.runs.clone(), due });
        }
        due
    }

    /// Stays where it is until what it requires is there; gives when that is to be asked for again.
    fn wait(&mut self, closed: Closed, now: Time) -> Option<Time> {
        self.asks = closed.ask;
        if let Some(Pending { reason, message }) = closed.missing
            && (self.job.status.reason.as_deref(), self.job.status.message.as_ref()) != (Some(reason), Some(&message))
        {
            self.events.push(warning(&self.job, reason, message.clone(), now));
            let status = &mut Arc::make_mut(&mut self.job).status;
            (status.reason, status.message) = (Some(reason.into()), Some(message));
        }
        closed.due
    }

    /// What differs from what is stored.
    fn changes(self, mut txn: Txn, now: Time) -> Txn {
        // Events outlive their job, and are logged: what is sensitive does not get into them.
        let mut secrets = Secrets::default();
        if let (false, Some(flow)) = (self.events.is_empty(), &self.job.status.flow) {
            hide(&mut secrets, &Sensitive::of(flow), &self.job, self.runs.iter());
        }
        let mut changed = false;
        if !Arc::ptr_eq(self.stored_job, &self.job) && *self.stored_job != self.job {
            txn = txn.put(AnyObject::Job(Arc::unwrap_or_clone(self.job)));
            changed = true;
        }
        if !self.stored_runs.is_some_and(|runs| Arc::ptr_eq(runs, &self.runs)) {
            let stored = self.stored_runs.into_iter().flat_map(|runs| runs.iter());
            let stored: HashMap<&str, &StepRun> = stored.map(|run| (run.metadata.name.as_str(), run)).collect();
            for run in Arc::unwrap_or_clone(self.runs) {
                let before = stored.get(run.metadata.name.as_str());
                if before != Some(&&run) {
                    if let Some((key, value)) = results::kept(&self.flow, self.stored_job, before.copied(), &run, now) {
                        txn = txn.meta(key, value);
                    }
                    txn = txn.put(AnyObject::StepRun(run));
                    changed = true;
                }
            }
        }
        // An event without a change would be told again in each pass.
        if changed {
            for event in self.events {
                let message = secrets.mask_text(&event.message).into_owned();
                txn = txn.event(Event { message, ..event });
            }
        }
        txn
    }
}

/// Where a job's scripts and agents run.
pub(super) fn working_dir(job: &Job, state_dir: &StateDir) -> PathBuf {
    match &job.spec.working_dir {
        Some(dir) => PathBuf::from(dir),
        None => state_dir.workspace(&job.uid()),
    }
}
