//! How the work on a run ended, from what was seen and what was said.

use super::places::place_of;
use super::settle::{Process, World};
use super::speech;
use crate::flow::{self, Executor, Flow, Task};
use crate::model::{Failure, Finger, Outcome, SeenWorkload, StepRun, Workload};

/// Every workload with what was seen of it, by uid.
pub(super) type Workloads<'a> = Finger<'a, (&'a Workload, Option<&'a SeenWorkload>)>;

/// Finds them.
pub(super) fn workloads<'a>(world: &World<'a>) -> Workloads<'a> {
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

/// How the work on a running run ended, if it has.
pub(super) fn outcome_of(flow: &Flow, run: &StepRun, world: &World<'_>, workloads: &Workloads<'_>) -> Option<Outcome> {
    let failure = |reason: &str, message: String| {
        let failed = Outcome::of(Err(Failure { reason: reason.into(), message }));
        Outcome { session: run.status.session.clone(), ..failed }
    };
    // A flow that its agent left behind does the work now.
    if run.status.emitted.is_some() {
        return None;
    }
    let task = flow::task(flow, run);
    let Some(uid) = &run.status.workload else {
        // Nobody works on what time ends, or jobs of its own.
        place_of(&task?)?;
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
    if let (Some(what), Some(exit)) = (process_of(task.as_ref()), seen.and_then(|seen| seen.exit.as_ref())) {
        if exit.code.is_none() && exit.signal.is_none() {
            return Some(failure("WorkloadLost", exit.to_string()));
        }
        return Some(world.talk.outcome_of_process(what, workload, exit));
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

/// The run as this outcome leaves it. Where its agent left a flow behind, that does the rest.
pub(super) fn finished(flow: &Flow, run: &StepRun, outcome: Outcome, world: &World<'_>) -> StepRun {
    let may_emit = |task: &Task<'_>| matches!(task, Task::Work(Executor::Agent(agent)) if agent.emit_flow);
    let emits = outcome.result.is_ok() && flow::task(flow, run).as_ref().is_some_and(may_emit);
    match emits.then(|| world.talk.emitted_by(run)).flatten() {
        Some(Ok(emitted)) => flow::hand_over(run, &outcome, emitted),
        Some(Err(failure)) => flow::finish(flow, run, &Outcome { result: Err(failure), ..outcome }, world.now),
        None => flow::finish(flow, run, &outcome, world.now),
    }
}

/// What the program of a task is for; none: it is an adapter's, or nobody's. A step that the flow does not have (any more)
/// had a script.
fn process_of(task: Option<&Task<'_>>) -> Option<Process> {
    match task {
        None | Some(Task::Work(Executor::Script(_))) => Some(Process::Script),
        Some(Task::Work(Executor::Llm(_))) => Some(Process::Llm),
        Some(Task::Work(Executor::Poll(_))) => Some(Process::Check),
        Some(Task::Notification { .. }) => Some(Process::Notification),
        Some(Task::Work(Executor::Agent(_) | Executor::External { .. } | Executor::Mock(_) | Executor::SubFlow(_))) => {
            None
        }
    }
}
