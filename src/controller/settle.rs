//! The jobs of a pass: outcomes are taken in, each job goes as far as it can, and what is ready gets a workload. The result
//! is one transaction: an outcome and what follows from it are never apart.

use super::admit::Admission;
use super::dependencies::{self, Before, Dependencies};
use super::family::Family;
use super::shelf::Shelf;
use super::speech;
use super::subjobs::{self, Making};
use crate::acp::TerminalWanted;
use crate::flow::{self, Effect, Flow};
use crate::model::{
    AnyObject, EnvValue, Event, EventType, Exit, Failure, Finger, Job, JobPhase, JobState, JobUid, Kind, Meta,
    Observed, Outcome, RunPhase, SeenWorkload, Snapshot, StepRun, Time, Workload, WorkloadSpec, WorkloadStatus,
    WorkloadType, WorkloadUid,
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

/// Compiled flows of active jobs, and which of the jobs ask for nothing. A cache: it may be dropped at any moment.
#[derive(Default)]
pub struct Flows {
    by_job: HashMap<JobUid, Known>,
}

/// What is known of one job.
struct Known {
    flow: Arc<Flow>,
    rest: Option<Rest>,
}

/// A state of a job that asks for nothing. What follows for a job depends on this state alone, and on the time.
struct Rest {
    job: Arc<Job>,
    runs: Arc<Vec<StepRun>>,
    /// What was wanted of it.
    wanted: JobState,
    /// From then on the time alone asks for something.
    due: Option<Time>,
}

impl Rest {
    /// Whether this is that state still, and its time has not come.
    fn holds(&self, job: &Arc<Job>, runs: &Arc<Vec<StepRun>>, wanted: JobState, now: Time) -> bool {
        let same_runs = Arc::ptr_eq(&self.runs, runs) || (self.runs.is_empty() && runs.is_empty());
        Arc::ptr_eq(&self.job, job) && same_runs && self.wanted == wanted && self.due.is_none_or(|due| now < due)
    }
}

/// What workloads have said and come to, as far as it was read.
pub trait Talk {
    /// How a run's turn ended, if it did.
    fn outcome_of(&self, run: &StepRun) -> Option<Outcome>;

    /// The outcome of a script whose main process ended so.
    fn outcome_of_script(&self, workload: &Workload, exit: &Exit) -> Outcome;

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
    let mut admission = Admission::new(world, new_uid);
    let mut live = Vec::new();
    // Where a job's row went, its runs go with it, and so do its workloads, by the plan.
    for run in world.desired.runs_without_job() {
        txn = txn.delete(Kind::StepRun, &run.metadata.name, run.metadata.resource_version);
    }
    let workloads = workloads(world);
    for (uid, job, stored_runs) in world.desired.jobs_with_runs() {
        live.push(JobNext::new(uid, job, stored_runs));
    }
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
        if let Err(pending) = next.find_flow(world.desired, flows) {
            next.wait(pending, world.now);
            continue;
        }
        next.take_outcomes(world, &workloads);
        for (place, outcome) in subjobs::outcomes(&live, &family, at) {
            live[at].finish(place, &outcome, world.now);
        }
        let next = &mut live[at];
        if before.is_some_and(|before| !next.follow(before, world.now)) {
            continue;
        }
        let due = next.go_on(flows.by_job.get_mut(next.uid), wanted, world.now);
        wake_at = [wake_at, due].into_iter().flatten().min();
        subjobs::tell_of_escalation(&mut live, &family, at);
    }
    order.reverse();
    subjobs::end_with_their_parents(&mut live, &family, &order, world.now);
    // Fair: what has waited longest is admitted first, whichever job it belongs to.
    let mut waiting: Vec<(Time, usize, usize)> = Vec::new();
    for (j, next) in live.iter().enumerate().filter(|(_, next)| next.job.status.phase == JobPhase::Running) {
        for (r, run) in next.runs.iter().enumerate().filter(|(_, run)| run.status.phase == RunPhase::Pending) {
            waiting.push((run.status.created_at.unwrap_or(world.now), j, r));
        }
    }
    waiting.sort_unstable();
    for (_, j, r) in waiting {
        let next = &mut live[j];
        let Some(flow) = next.flow.clone() else { continue };
        if !flow::is_due(&flow, &next.runs, &next.runs[r], world.now) {
            continue;
        }
        if is_without_workload(&flow, &next.runs[r]) {
            let begun = flow::begin(&flow, &next.runs[r], None, world.now);
            Arc::make_mut(&mut next.runs)[r] = begun;
        } else {
            admission.admit(&flow, &next.job, &mut next.runs, r);
        }
    }
    let mut making = Making::new(world, &family);
    for &at in &order {
        making.bring_up(&mut live, at);
    }
    wake_at = [wake_at, making.wake_at].into_iter().flatten().min();
    for left in making.left {
        txn = txn.delete(Kind::Job, &left.metadata.name, left.metadata.resource_version);
    }
    for job in making.jobs {
        txn = txn.put(AnyObject::Job(job));
    }
    for next in live {
        txn = next.changes(txn);
    }
    for workload in admission.changed() {
        txn = txn.put(AnyObject::Workload(workload));
    }
    txn = speech::judge(world, txn);
    for workload in terminals(world) {
        txn = txn.put(AnyObject::Workload(workload));
    }
    Settled { txn, wake_at }
}

/// Whether the work of a run needs no process of its own.
fn is_without_workload(flow: &Flow, run: &StepRun) -> bool {
    let mock = || matches!(flow::task(flow, run), Some(flow::Task::Work(flow::Executor::Mock(_))));
    let left_behind = run.status.phase == RunPhase::Running && run.status.emitted.is_some();
    left_behind || subjobs::is_sub_flow(flow, run) || mock()
}

/// Every workload with what was seen of it, by uid.
type Workloads<'a> = Finger<'a, (&'a Workload, Option<&'a SeenWorkload>)>;

fn workloads<'a>(world: &World<'a>) -> Workloads<'a> {
    let mut trees = world.observed.workloads.known().map(|trees| trees.iter().peekable());
    let both = world.desired.workloads.iter().map(|(uid, row)| {
        let seen = trees.as_mut().and_then(|trees| {
            while trees.next_if(|(of, _)| *of < uid).is_some() {}
            trees.next_if(|(of, _)| *of == uid)
        });
        (uid.as_str(), (&**row, seen.map(|(_, seen)| seen)))
    });
    Finger::over(both)
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
pub(super) struct JobNext<'a> {
    pub(super) uid: &'a JobUid,
    stored_job: &'a Arc<Job>,
    stored_runs: Option<&'a Arc<Vec<StepRun>>>,
    pub(super) job: Arc<Job>,
    pub(super) runs: Arc<Vec<StepRun>>,
    pub(super) events: Vec<Event>,
    /// None: there is none (yet), or it is not needed any more.
    pub(super) flow: Option<Arc<Flow>>,
}

impl<'a> JobNext<'a> {
    fn new(uid: &'a JobUid, job: &'a Arc<Job>, runs: Option<&'a Arc<Vec<StepRun>>>) -> JobNext<'a> {
        JobNext {
            uid,
            stored_job: job,
            stored_runs: runs,
            job: job.clone(),
            runs: runs.cloned().unwrap_or_default(),
            events: Vec::new(),
            flow: None,
        }
    }

    /// The directory that relative paths in its flow are relative to.
    pub(super) fn flow_dir(&self) -> Option<&str> {
        self.job.status.flow_dir.as_deref()
    }

    /// Whether nothing more comes of it: it is here for what refers to it.
    fn is_at_rest(&self) -> bool {
        self.job.is_over() && self.runs.iter().all(|run| run.status.phase.is_final())
    }

    fn find_flow(&mut self, desired: &Snapshot, flows: &mut Flows) -> Result<(), Pending> {
        self.flow = Some(flow_of(self.uid, &self.job, desired, flows)?);
        self.pin_flow(desired);
        Ok(())
    }

    /// Makes the run at this place what the outcome makes of it.
    pub(super) fn finish(&mut self, place: usize, outcome: &Outcome, now: Time) {
        let Some(flow) = &self.flow else { return };
        if let Some(run) = Arc::make_mut(&mut self.runs).get_mut(place) {
            *run = flow::finish(flow, run, outcome, now);
        }
    }

    /// Follows what the jobs before this one mean for it. False: it does not begin now.
    fn follow(&mut self, before: Before, now: Time) -> bool {
        // Who is to end, ends; whoever it waits for.
        let is_to_end = self.job.spec.state == JobState::Cancelled || self.job.metadata.deletion_timestamp.is_some();
        match before {
            _ if is_to_end => true,
            Before::Done(values) => {
                if values.iter().any(|(name, value)| self.job.status.vars.get(name) != Some(value)) {
                    Arc::make_mut(&mut self.job).status.vars.extend(values);
                }
                true
            }
            Before::Wait(reason, message, seen) => {
                dependencies::note_seen(&mut self.job, &seen, now);
                self.wait(Pending { reason, message }, now);
                false
            }
            Before::Fail(reason, message) => {
                let status = &mut Arc::make_mut(&mut self.job).status;
                status.phase = JobPhase::Failed;
                status.reason = Some(reason.to_owned());
                status.message = Some(message.clone());
                status.finished_at = Some(now);
                self.tell("JobFailed", format!("{reason}: {message}"), now);
                false
            }
        }
    }

    fn tell(&mut self, reason: &str, message: String, now: Time) {
        self.events.push(Event {
            id: 0,
            time: now,
            kind: Kind::Job,
            name: self.job.metadata.name.clone(),
            r#type: EventType::Warning,
            reason: reason.to_owned(),
            message,
            details: Value::Null,
        });
    }

    /// Notes why the job can not begin.
    fn wait(&mut self, pending: Pending, now: Time) {
        let status = &self.job.status;
        let told =
            status.reason.as_deref() == Some(pending.reason) && status.message.as_ref() == Some(&pending.message);
        if told || status.phase.is_terminal() {
            return;
        }
        let job = Arc::make_mut(&mut self.job);
        // A job that nobody wants to run any more needs no flow for that.
        if job.spec.state == JobState::Cancelled {
            job.status.phase = JobPhase::Cancelled;
            job.status.reason = Some("Cancelled".into());
            job.status.finished_at = Some(now);
            return;
        }
        job.status.reason = Some(pending.reason.into());
        job.status.message = Some(pending.message.clone());
        self.tell(pending.reason, pending.message, now);
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
            // Without a workload there is nobody to hear: sub-jobs, and the flow machine, say how these end.
            let run = &self.runs[at];
            let is_by_itself = |flow: &Arc<Flow>| run.status.workload.is_none() && is_without_workload(flow, run);
            if run.status.phase != RunPhase::Running || self.flow.as_ref().is_some_and(is_by_itself) {
                continue;
            }
            if self.runs[at].status.session.is_none()
                && let Some(session) = world.talk.session_of(&self.runs[at])
            {
                Arc::make_mut(&mut self.runs)[at].status.session = Some(session);
            }
            if let Some(outcome) = outcome_of(&self.runs[at], world, workloads) {
                self.finish(at, &outcome, world.now);
            }
        }
    }

    /// Takes the job as far as it goes; gives when the time alone asks for something. A state that was seen to ask for nothing
    /// is not asked again.
    fn go_on(&mut self, known: Option<&mut Known>, wanted: JobState, now: Time) -> Option<Time> {
        let flow = self.flow.clone()?;
        let rest = known.as_ref().and_then(|known| known.rest.as_ref());
        if let Some(rest) = rest.filter(|rest| rest.holds(&self.job, &self.runs, wanted, now)) {
            return rest.due;
        }
        let before = self.job.clone();
        if before.spec.state != wanted {
            Arc::make_mut(&mut self.job).spec.state = wanted;
        }
        let asks = !flow::advance(&flow, &self.job, &self.runs, now).is_empty();
        if asks {
            let (job, runs) = (Arc::make_mut(&mut self.job), Arc::make_mut(&mut self.runs));
            let effects = flow::settle(&flow, job, runs, now);
            self.events.extend(effects.into_iter().filter_map(|effect| match effect {
                Effect::Event(event) => Some(event),
                Effect::Job(_) | Effect::Run(_) => None,
            }));
        }
        // What it says itself is the person's word, and stays.
        if before.spec.state != wanted {
            match asks {
                true => Arc::make_mut(&mut self.job).spec.state = before.spec.state,
                false => self.job = before,
            }
        }
        let due = flow::next_wake(&flow, &self.job, &self.runs, now);
        if let Some(known) = known.filter(|_| !asks) {
            known.rest = Some(Rest { job: self.job.clone(), runs: self.runs.clone(), wanted, due });
        }
        due
    }

    /// What differs from what is stored.
    fn changes(self, mut txn: Txn) -> Txn {
        let mut changed = false;
        if !Arc::ptr_eq(self.stored_job, &self.job) && *self.stored_job != self.job {
            txn = txn.put(AnyObject::Job(Arc::unwrap_or_clone(self.job)));
            changed = true;
        }
        if !self.stored_runs.is_some_and(|runs| Arc::ptr_eq(runs, &self.runs)) {
            let stored = self.stored_runs.into_iter().flat_map(|runs| runs.iter());
            let stored: HashMap<&str, &StepRun> = stored.map(|run| (run.metadata.name.as_str(), run)).collect();
            for run in Arc::unwrap_or_clone(self.runs) {
                if stored.get(run.metadata.name.as_str()) != Some(&&run) {
                    txn = txn.put(AnyObject::StepRun(run));
                    changed = true;
                }
            }
        }
        // An event without a change would be told again in each pass.
        if changed {
            for event in self.events {
                txn = txn.event(event);
            }
        }
        txn
    }
}

/// How the work on a running run ended, if it has.
fn outcome_of(run: &StepRun, world: &World<'_>, workloads: &Workloads<'_>) -> Option<Outcome> {
    let failure = |reason: &str, message: String| Outcome {
        result: Err(Failure { reason: reason.into(), message }),
        usage: None,
        cost_usd: None,
        session: run.status.session.clone(),
    };
    let Some(uid) = &run.status.workload else {
        return Some(failure("WorkloadLost", "the run has no workload".into()));
    };
    let Some(&(workload, seen)) = workloads.get(uid.as_str()) else {
        return Some(failure("WorkloadLost", format!("workload {uid} is gone")));
    };
    // What was said before the end counts, whatever the end was.
    if let Some(outcome) = world.talk.outcome_of(run) {
        return Some(outcome);
    }
    if let Some((cause, message)) = speech::verdict(world.talk, uid) {
        return Some(failure(cause.as_str(), message));
    }
    if let (WorkloadType::Script, Some(exit)) = (workload.spec.r#type, seen.and_then(|seen| seen.exit.as_ref())) {
        if exit.code.is_none() && exit.signal.is_none() {
            return Some(failure("WorkloadLost", exit.to_string()));
        }
        return Some(world.talk.outcome_of_script(workload, exit));
    }
    let cause = workload.status.cause?;
    // An adapter that is being closed may still say its last words: they are read to the end first. Where nothing was seen,
    // nobody has begun to read.
    if world.observed.workloads.known().is_none() || !world.talk.drained(uid) {
        return None;
    }
    let message = workload.status.message.clone().unwrap_or_else(|| cause.as_str().into());
    Some(failure(cause.as_str(), speech::with_nonsense(message, world.talk, uid)))
}

/// Why a job cannot begin.
struct Pending {
    reason: &'static str,
    message: String,
}

/// The mapping of a job's flow, and the directory that its paths are relative to.
fn source_of<'a>(job: &'a Job, desired: &'a Snapshot) -> Option<(&'a Value, Option<String>)> {
    if let Some(value) = &job.status.flow {
        return Some((value, job.status.flow_dir.clone()));
    }
    let dir = |annotations: &std::collections::BTreeMap<String, String>| {
        annotations.get(crate::model::FLOW_DIR_ANNOTATION).cloned()
    };
    if let Some(value) = &job.spec.flow {
        return Some((value, dir(&job.metadata.annotations)));
    }
    let flow = desired.flows.get(job.spec.flow_ref.as_deref()?)?;
    Some((&flow.spec, dir(&flow.metadata.annotations)))
}

fn flow_of(uid: &JobUid, job: &Job, desired: &Snapshot, flows: &mut Flows) -> Result<Arc<Flow>, Pending> {
    // Until it is pinned, the flow may still change.
    if job.status.flow.is_some()
        && let Some(known) = flows.by_job.get(uid)
    {
        return Ok(known.flow.clone());
    }
    let Some((value, _)) = source_of(job, desired) else {
        let message = match &job.spec.flow_ref {
            Some(name) => format!("there is no flow `{name}` (yet): drop it into the directory or apply it"),
            None => "spec has neither `flowRef` nor `flow`".to_owned(),
        };
        return Err(Pending { reason: "FlowMissing", message });
    };
    let compiled = flow::compile(value);
    match compiled.flow {
        Some(flow) => {
            let flow = Arc::new(flow);
            flows.by_job.insert(uid.clone(), Known { flow: flow.clone(), rest: None });
            Ok(flow)
        }
        None => {
            let words: Vec<String> = compiled.problems.iter().map(|problem| problem.message.clone()).collect();
            Err(Pending { reason: "FlowInvalid", message: words.join("; ") })
        }
    }
}

impl Flows {
    /// Compiles the flows of all active jobs that are under way. A driver that did not know a job's turn would take it for
    /// cancelled.
    pub fn fill(&mut self, desired: &Snapshot) {
        // As many as there are jobs do no harm: a uid is never used again.
        if self.by_job.len() > desired.jobs.len() {
            self.by_job.retain(|uid, _| desired.jobs.contains_key(uid));
        }
        for (uid, job) in desired.jobs.iter().filter(|(_, job)| job.status.flow.is_some() && !job.is_over()) {
            // What cannot be compiled is told when the job is settled.
            let _ = flow_of(uid, job, desired, self);
        }
    }

    /// The flow of this job, if it has been compiled.
    pub(super) fn get(&self, job: &JobUid) -> Option<Arc<Flow>> {
        self.by_job.get(job).map(|known| known.flow.clone())
    }
}

/// Where a job's scripts and agents run.
pub(super) fn working_dir(job: &Job, state_dir: &StateDir) -> PathBuf {
    match &job.spec.working_dir {
        Some(dir) => PathBuf::from(dir),
        None => state_dir.workspace(&job.uid()),
    }
}
