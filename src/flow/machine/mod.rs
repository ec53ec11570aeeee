//! The life of a job, as a pure function: a flow, the job, its runs, and the time go in; what follows comes out.
//!
//! [`advance`] answers everything that the present state asks for, in one batch that is meant to be one transaction: the
//! decisions about runs that ended, the runs that these make, supersede, or cancel, and the job's phase. Promises:
//!
//! - It is level-triggered: the answer depends on the state alone, never on how the state came about. Applied, it leaves
//!   a state that asks for nothing: a second call is empty.
//! - No run is left in motion under a terminal job.
//! - A run is made only when its inputs are current; they are recorded on it with the runs they came from.
//! - The exit rules of a run are asked once; the decision stands on the run.
//!
//! **What supersedes what.** Runs are numbered in the order of their making ([`RunSpec::order`](crate::model::RunSpec)). A
//! run that a loop rule (or a person's retry) asked for names its cause, and everything older at and downstream of its step
//! is superseded. A run is *current* if it is the newest attempt of its step and not superseded. Its sources are then
//! current too: a newer attempt of one of them would have superseded it.
//!
//! **Who waits.** A step waits for a source that may still come, also behind an `optional` input: an input orders. It does
//! without an optional source that can not come any more (a `when` that is false, a failure that was continued from, a
//! source of those). An `any_of` takes what is there first, but waits for a member that a loop runs again.
//!
//! **Choices where the language is silent** are documented where they are made: [`exits`], [`readiness`], [`settlement`].

mod attempt;
mod children;
mod condition;
mod course;
mod exits;
mod graph;
mod inputs;
mod kept;
mod mock;
mod outcome;
mod readiness;
mod retry;
mod settlement;
mod talk;
#[cfg(test)]
mod tests;
mod work;
mod wrap;

pub(in crate::flow) use graph::KnownShape;

pub use attempt::{Task, begin, is_due, task};
pub use children::{Child, SubFlowTask, sub_flow_of};
pub use kept::{cache_key, from_cache};
pub use outcome::{finish, fulfil, hand_over};
pub use talk::{Conversation, conversation, kept_conversations};

use crate::flow::{Executor, Flow};
use crate::model::{Event, Job, JobPhase, JobStatus, RunPhase, StepRun, Time};
use course::Course;
use graph::Graph;
use std::borrow::Borrow;
use std::collections::HashMap;
use work::Work;

/// One thing that follows.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "effects are moved one at a time; a box would only add noise")]
pub enum Effect {
    /// A new run (its uid is empty), or a changed one: the whole value as it shall be. The name tells which.
    Run(StepRun),
    /// The job's new status.
    Job(JobStatus),
    /// Something to tell.
    Event(Event),
}

/// More rounds than this of [`settle`] are a bug: [`advance`] leaves nothing to do.
const MAX_ROUNDS: usize = 100;

/// Of so many effects, each is looked up among the runs by itself: for more, an index pays.
const FEW: usize = 16;

/// What follows from the present state: one batch, for one transaction. Empty when nothing does.
///
/// `runs` must be all runs of a job that is not terminal, or that a person wants to be tried again; of another terminal one,
/// those that are not final will do.
pub fn advance<R: Borrow<StepRun>>(flow: &Flow, job: &Job, runs: &[R], now: Time) -> Vec<Effect> {
    let is_over = job.status.phase.is_terminal() && job.spec.retry <= job.status.retried;
    if is_over && runs.iter().all(|run| run.borrow().status.phase.is_final()) {
        return Vec::new();
    }
    advance_in(&Graph::of(flow), flow, job, &borrowed(runs), now)
}

fn borrowed<R: Borrow<StepRun>>(runs: &[R]) -> Vec<&StepRun> {
    runs.iter().map(Borrow::borrow).collect()
}

fn advance_in(graph: &Graph, flow: &Flow, job: &Job, runs: &[&StepRun], now: Time) -> Vec<Effect> {
    let mut work = Work::new(graph, flow, job, runs, now);
    match work.set_course() {
        Course::Ended | Course::Waiting => {}
        Course::Held => work.answer_what_ended(),
        Course::Going => {
            work.answer_what_ended();
            work.go_on();
        }
    }
    work.into_effects()
}

impl Work<'_> {
    fn answer_what_ended(&mut self) {
        self.cancel_superseded();
        self.expire_runs();
        self.answer_mocks();
        self.decide_ended_runs();
    }

    fn go_on(&mut self) {
        match self.status.phase {
            JobPhase::Running => self.start_and_settle(),
            // A decision escalated the job, or ended it.
            JobPhase::Pending | JobPhase::Paused | JobPhase::Succeeded | JobPhase::Failed | JobPhase::Cancelled => {}
        }
    }

    /// Starts what is ready, in as many rounds as it takes: a run that can not even begin is answered at once, and a
    /// loop-back value that a loop supersedes does not come any more.
    fn start_and_settle(&mut self) {
        for _ in 0..MAX_ROUNDS {
            let supersedes = self.start_ready() && self.graph.has_loop_backs();
            let decided = self.decide_ended_runs();
            if self.status.phase != JobPhase::Running {
                return;
            }
            if !supersedes && !decided {
                if !self.in_motion() {
                    self.settle();
                }
                return;
            }
            self.raise_barriers();
        }
        self.get_stuck();
    }

    fn get_stuck(&mut self) {
        let message = format!("no end after {MAX_ROUNDS} rounds: please report this flow");
        self.end(JobPhase::Failed, "MachineStuck", message);
    }
}

/// Makes the effects true of the values: changed runs replace those of their name, new ones are added.
pub fn apply<R: Borrow<StepRun> + From<StepRun>>(job: &mut Job, runs: &mut Vec<R>, effects: &[Effect]) {
    let named = |(at, run): (usize, &R)| (run.borrow().metadata.name.clone(), at);
    let mut places: Option<HashMap<String, usize>> =
        (effects.len() > FEW).then(|| runs.iter().enumerate().map(named).collect());
    for effect in effects {
        match effect {
            Effect::Run(run) => {
                let name = &run.metadata.name;
                let place = match &places {
                    Some(places) => places.get(name).copied(),
                    // What changes is mostly new.
                    None => runs.iter().rposition(|other| other.borrow().metadata.name == *name),
                };
                match place {
                    Some(at) => runs[at] = run.clone().into(),
                    None => {
                        places.as_mut().map(|places| places.insert(name.clone(), runs.len()));
                        runs.push(run.clone().into());
                    }
                }
            }
            Effect::Job(status) => job.status = status.clone(),
            Effect::Event(_) => {}
        }
    }
}

/// Advances and applies until nothing more follows, and gives all that did. If that should not end (a bug), the job is
/// `Failed` with the reason `MachineStuck`.
pub fn settle<R: Borrow<StepRun> + From<StepRun>>(
    flow: &Flow,
    job: &mut Job,
    runs: &mut Vec<R>,
    now: Time,
) -> Vec<Effect> {
    let first = advance(flow, job, runs, now);
    follow(flow, job, runs, first, now)
}

/// The same for who has asked already what follows first.
pub fn follow<R: Borrow<StepRun> + From<StepRun>>(
    flow: &Flow,
    job: &mut Job,
    runs: &mut Vec<R>,
    first: Vec<Effect>,
    now: Time,
) -> Vec<Effect> {
    let graph = Graph::of(flow);
    let (mut all, mut effects) = (Vec::new(), first);
    for _ in 0..MAX_ROUNDS {
        if effects.is_empty() {
            return all;
        }
        apply(job, runs, &effects);
        all.append(&mut effects);
        effects = advance_in(&graph, flow, job, &borrowed(runs), now);
    }
    let given = borrowed(runs);
    let mut work = Work::new(&graph, flow, job, &given, now);
    work.get_stuck();
    let effects = work.into_effects();
    apply(job, runs, &effects);
    all.extend(effects);
    all
}

/// When [`advance`] has something to do by time alone, or a run may go on: the job's deadline, the longest that a run or a
/// try of it may take, the answer of a mock, the next try of a retry, the next check of a poll; for a terminal job, when it
/// may be deleted (`ttlAfterFinished`). May lie in the past. None: time changes nothing.
pub fn next_wake<R: Borrow<StepRun>>(flow: &Flow, job: &Job, runs: &[R], now: Time) -> Option<Time> {
    if job.status.phase.is_terminal() {
        return Some(job.status.finished_at?.after(job.spec.ttl_after_finished?.0));
    }
    let of_runs = runs.iter().map(Borrow::borrow).filter(|run: &&StepRun| !run.status.phase.is_final());
    let times = |run: &StepRun| {
        [overdue_at(flow, run), wrapped_until(flow, run).map(|bound| bound.due), due_at(flow, run, now)]
    };
    of_runs.flat_map(times).flatten().chain(deadline(job, &job.status)).min()
}

/// When a job must have ended.
fn deadline(job: &Job, status: &JobStatus) -> Option<Time> {
    Some(status.started_at?.after(job.spec.deadline?.0))
}

/// When a run must have ended, all of its tries included.
fn overdue_at(flow: &Flow, run: &StepRun) -> Option<Time> {
    if run.status.phase.is_final() {
        return None;
    }
    let limit = flow.steps.get(&run.spec.step)?.limits.max_duration?;
    Some(run.status.started_at?.after(limit))
}

/// When the try that is under way must have ended, or the next one must have begun.
fn wrapped_until(flow: &Flow, run: &StepRun) -> Option<wrap::Bound> {
    let step = flow.steps.get(&run.spec.step).filter(|step| !step.decorators.is_empty())?;
    if run.status.phase.is_final() {
        return None;
    }
    match wrap::as_written(step, run) {
        wrap::Next::UnderWay(bound) | wrap::Next::Begin(_, _, bound) => bound,
        wrap::Next::Ended(_) => None,
    }
}

/// When a run can go on: a try, a check, the answer of a mock. One that could already waits for a place, not for a time.
fn due_at(flow: &Flow, run: &StepRun, now: Time) -> Option<Time> {
    match (run.status.phase, task(flow, run)?) {
        (RunPhase::Pending | RunPhase::Suspended, _) => run.status.due_at.filter(|due| *due > now),
        (RunPhase::Running, Task::Work(Executor::Mock(_))) => run.status.due_at,
        _ => None,
    }
}
