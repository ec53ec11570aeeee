//! Which conversation a turn of an agent is part of.
//!
//! Steps that name a session share one; so do the attempts of a step that has a `loop_prompt` or a bound of attempts in one
//! conversation, and says no session. Every other run has one of its own. A conversation is begun afresh when the step that
//! is to go on with it has taken as many turns in it as it may.

use crate::flow::machine::{Task, task};
use crate::flow::{AgentStep, Executor, Flow};
use crate::model::{RunPhase, StepRun};
use std::borrow::Borrow;

/// The conversation of an agent's run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Its name, unique in its job.
    pub key: String,
    /// The step was asked in it before: a `loop_prompt` applies.
    pub is_continued: bool,
    /// The agent's session that the newest earlier run of it had.
    pub resume: Option<String>,
    /// The agent's session that it begins as a fork of.
    pub fork_of: Option<String>,
}

/// The conversation of an agent's run; none for a run of something else. `runs`: all of its job.
pub fn conversation<R: Borrow<StepRun>>(flow: &Flow, runs: &[R], run: &StepRun) -> Option<Conversation> {
    let agent = agent_of(flow, run)?;
    let Some(group) = group(agent, run) else {
        let key = format!("run:{}.{}", run.spec.step, run.spec.attempt);
        return Some(Conversation { key, is_continued: false, resume: None, fork_of: fork_of(agent, runs, run) });
    };
    let mut earlier: Vec<&StepRun> = runs
        .iter()
        .map(Borrow::borrow)
        .filter(|other: &&StepRun| other.spec.order < run.spec.order && was_asked(other))
        .filter(|other| agent_of(flow, other).and_then(|agent| self::group(agent, other)).as_ref() == Some(&group))
        .collect();
    earlier.sort_by_key(|other| other.spec.order);
    // Those of the newest conversation of this name, and how many there were before it.
    let mut number = 1;
    let mut inside: Vec<&StepRun> = Vec::new();
    for other in earlier.into_iter().chain([run]) {
        if is_full(flow, &inside, other) {
            number += 1;
            inside.clear();
        }
        inside.push(other);
    }
    inside.pop();
    let is_continued = inside.iter().any(|other| other.spec.step == run.spec.step);
    let resume = inside.iter().rev().find_map(|other| other.status.session.clone());
    let fork_of = if inside.is_empty() { fork_of(agent, runs, run) } else { None };
    Some(Conversation { key: format!("{group}#{number}"), is_continued, resume, fork_of })
}

/// The conversations of a job that may be gone on with or forked: they stay open while no turn is wanted of them.
pub fn kept_conversations<R: Borrow<StepRun>>(flow: &Flow, runs: &[R]) -> Vec<String> {
    let forked: Vec<&str> =
        flow.steps.values().filter_map(|step| agent(&step.executor)?.fork_from.as_deref()).collect();
    let is_kept = |run: &&StepRun| {
        let shared = agent_of(flow, run).is_some_and(|agent| group(agent, run).is_some());
        was_asked(run) && (shared || forked.contains(&run.spec.step.as_str()))
    };
    let keys =
        runs.iter().map(Borrow::borrow).filter(is_kept).filter_map(|run| Some(conversation(flow, runs, run)?.key));
    let mut keys: Vec<String> = keys.collect();
    keys.sort();
    keys.dedup();
    keys
}

/// Whether another run takes its turn in the conversation of this one.
pub(super) fn is_busy<R: Borrow<StepRun>>(flow: &Flow, runs: &[R], run: &StepRun) -> bool {
    let Some(mine) = agent_of(flow, run).and_then(|agent| group(agent, run)) else { return false };
    runs.iter().map(Borrow::borrow).any(|other: &StepRun| {
        other.status.phase == RunPhase::Running
            && other.status.emitted.is_none()
            && other.metadata.name != run.metadata.name
            && agent_of(flow, other).and_then(|agent| group(agent, other)).is_some_and(|other| other == mine)
    })
}

/// The agent that works on a run, or else the one of its step.
fn agent_of<'f>(flow: &'f Flow, run: &StepRun) -> Option<&'f AgentStep> {
    match task(flow, run) {
        Some(Task::Work(executor)) => agent(executor),
        Some(Task::Notification { .. }) | None => agent(&flow.steps.get(&run.spec.step)?.executor),
    }
}

fn agent(executor: &Executor) -> Option<&AgentStep> {
    match executor {
        Executor::Agent(agent) => Some(agent),
        _ => None,
    }
}

/// What the runs of a conversation that is shared have in common.
fn group(agent: &AgentStep, run: &StepRun) -> Option<String> {
    match &agent.session {
        Some(session) => Some(format!("session:{session}")),
        None if agent.loop_prompt.is_some() || agent.max_continuous_attempts.is_some() => {
            Some(format!("step:{}", run.spec.step))
        }
        None => None,
    }
}

/// Whether it ever came to asking.
fn was_asked(run: &StepRun) -> bool {
    run.status.started_at.is_some() && run.status.cached_from.is_none()
}

/// Whether the step of this run has taken as many turns in this conversation as it may.
fn is_full(flow: &Flow, inside: &[&StepRun], run: &StepRun) -> bool {
    let most = agent_of(flow, run).and_then(|agent| agent.max_continuous_attempts);
    let turns = inside.iter().filter(|other| other.spec.step == run.spec.step).count();
    most.is_some_and(|most| turns >= most as usize)
}

/// The agent's session of the run that this one begins where it ended.
fn fork_of<R: Borrow<StepRun>>(agent: &AgentStep, runs: &[R], run: &StepRun) -> Option<String> {
    let from = agent.fork_from.as_ref()?;
    let (_, attempt) = run.spec.sources.iter().rev().find(|(step, _)| step == from)?;
    let mut others = runs.iter().map(Borrow::borrow);
    let source: &StepRun =
        others.find(|other: &&StepRun| other.spec.step == *from && other.spec.attempt == *attempt)?;
    source.status.session.clone()
}
