//! How the work on a run ended, made into the run's status: outputs checked against what the step declares, cost against
//! its limit.
//!
//! Choices: a declared output that is missing takes its default, if it has one; one with `required: false` may be missing
//! or `null`. What is given beyond the declared outputs is kept. A run that is final already stays as it is: it was cancelled while its work went on.

use crate::flow::machine::attempt::{is_poll, next_time};
use crate::flow::machine::inputs::{coerce, misfit};
use crate::flow::machine::wrap::{self, Next};
use crate::flow::machine::{Task, task};
use crate::flow::text::substitute;
use crate::flow::{Executor, Field, Flow, Step, expr};
use crate::model::{Failure, Outcome, Part, RunPhase, StepRun, Time};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What the work gave, or why it did not.
type WorkResult = Result<Map<String, Value>, Failure>;

/// The run as its outcome leaves it: `Completed`, or `Failed` with the outcome's failure, `OutputMissing`, `OutputInvalid`,
/// `DerivedOutputInvalid`, or `CostLimitExceeded`; `Pending` again, if another try follows; `Suspended` again, if a poll found
/// nothing. Its exit rules are [`advance`](crate::flow::advance)'s matter.
pub fn finish(flow: &Flow, run: &StepRun, outcome: &Outcome, now: Time) -> StepRun {
    let mut run = run.clone();
    if run.status.phase.is_final() {
        return run;
    }
    let step = flow.steps.get(&run.spec.step);
    if is_poll(flow, &run)
        && let Some(step) = step
        && let Some(wait) = keeps_waiting(step, &run, outcome, now)
    {
        return wait;
    }
    note_price(&mut run, outcome);
    let is_work = matches!(task(flow, &run), Some(Task::Work(_)));
    let result = match (step, is_work) {
        (Some(step), true) => judged(step, &run, outcome.result.clone()),
        (Some(_), false) | (None, _) => outcome.result.clone(),
    };
    match step.filter(|step| !step.decorators.is_empty()) {
        Some(step) => {
            close_try(&mut run, result, now);
            follow_tries(step, &mut run, now);
        }
        None => close(&mut run, result, now),
    }
    run
}

/// The run of an agent whose turn ended so, and who left a flow behind: that does the rest of the work.
pub fn hand_over(run: &StepRun, outcome: &Outcome, emitted: Value) -> StepRun {
    let mut run = run.clone();
    if run.status.phase == RunPhase::Running && run.status.emitted.is_none() {
        note_price(&mut run, outcome);
        run.status.emitted = Some(emitted);
        run.status.workload = None;
    }
    run
}

/// What an outcome says besides its result: tokens, cost, session. What several tries cost adds up.
fn note_price(run: &mut StepRun, outcome: &Outcome) {
    let status = &mut run.status;
    if outcome.usage.is_some() {
        status.usage.clone_from(&outcome.usage);
    }
    if outcome.session.is_some() {
        status.session.clone_from(&outcome.session);
    }
    if let Some(cost) = outcome.cost_usd {
        status.cost_usd = Some(status.cost_usd.unwrap_or(0.0) + cost);
    }
}

/// The result of the work: within its limit of cost, as declared, with what is derived.
fn judged(step: &Step, run: &StepRun, result: WorkResult) -> WorkResult {
    if let (Some(cost), Some(limit)) = (run.status.cost_usd, step.limits.max_cost_usd)
        && cost > limit
    {
        let message = format!("it cost {cost} USD, {limit} are allowed (`max_cost_usd`)");
        return Err(Failure { reason: "CostLimitExceeded".into(), message });
    }
    result.and_then(|outputs| check(&step.outputs, outputs)).and_then(|outputs| derived(step, outputs))
}

/// With the outputs that expressions give: over the outputs, and over those that were derived before.
fn derived(step: &Step, mut outputs: Map<String, Value>) -> WorkResult {
    for (name, text) in &step.derived_outputs {
        let mut names = outputs.clone();
        names.insert("outputs".into(), Value::Object(outputs.clone()));
        match expr::eval(text, &names) {
            Ok(value) => {
                outputs.insert(name.clone(), value);
            }
            Err(error) => {
                let message = format!("`{name}`: {}", error.message);
                return Err(Failure { reason: "DerivedOutputInvalid".into(), message });
            }
        }
    }
    Ok(outputs)
}

/// The run in between two checks of its poll; none: this one was the last.
fn keeps_waiting(step: &Step, run: &StepRun, outcome: &Outcome, now: Time) -> Option<StepRun> {
    let Executor::Poll(poll) = &step.executor else { return None };
    let error = match &outcome.result {
        Ok(outputs) => match outputs.get("stdout").and_then(Value::as_str).filter(|_| outputs.len() == 1) {
            Some(text) if text.trim().is_empty() => None,
            Some(_) if !step.outputs.contains_key("stdout") => {
                Some("the check printed something that is no JSON object".to_owned())
            }
            Some(_) | None => return None,
        },
        Err(failure) => Some(format!("{}: {}", failure.reason, failure.message)),
    };
    let mut run = run.clone();
    let status = &mut run.status;
    status.phase = RunPhase::Suspended;
    status.reason = Some(if error.is_some() { "CheckFailed" } else { "Polling" }.into());
    status.message = error.or_else(|| poll.prompt.as_deref().map(|text| substitute(text, &run.spec.inputs)));
    status.workload = None;
    status.due_at = Some(next_time(status.due_at.unwrap_or(now), poll.interval, now));
    Some(run)
}

/// Notes how the try that is under way ended.
pub(super) fn close_try(run: &mut StepRun, result: WorkResult, now: Time) {
    let Some(last) = run.status.tries.last_mut().filter(|last| last.finished_at.is_none()) else { return };
    last.finished_at = Some(now);
    match result {
        Ok(outputs) => last.outputs = Some(outputs),
        Err(failure) => last.failure = Some(failure),
    }
}

/// Takes a run with decorators as far as its tries say.
pub(super) fn follow_tries(step: &Step, run: &mut StepRun, now: Time) {
    match wrap::next(step, run, now) {
        Next::Ended(result) => close(run, result, now),
        Next::Begin(part, from, _) => {
            let last = run.status.tries.iter().rev().find_map(|it| it.failure.as_ref());
            let why = last.map(|failure| format!("{}: {}", failure.reason, failure.message)).unwrap_or_default();
            let status = &mut run.status;
            status.phase = RunPhase::Pending;
            (status.workload, status.emitted) = (None, None);
            (status.reason, status.message) = match part {
                Part::Work => (Some("Retrying".into()), Some(format!("after try {}: {why}", status.tries.len()))),
                Part::Fallback(_) => (Some("FallingBack".into()), Some(why)),
                Part::Notification(_) => (Some("Notifying".into()), None),
            };
            status.due_at = Some(from);
        }
        Next::UnderWay(_) => {}
    }
}

/// Makes a run final.
fn close(run: &mut StepRun, result: WorkResult, now: Time) {
    let status = &mut run.status;
    status.finished_at = Some(now);
    status.due_at = None;
    match result {
        Ok(outputs) => {
            status.phase = RunPhase::Completed;
            status.outputs = Some(outputs);
            status.reason = None;
            status.message = None;
        }
        Err(failure) => {
            status.phase = RunPhase::Failed;
            status.reason = Some(failure.reason);
            status.message = Some(failure.message);
        }
    }
}

/// The run with somebody's answer, or all that is wrong with it. Text is taken for the number or the truth value that a
/// declared output wants: a command line has only text.
pub fn fulfil(flow: &Flow, run: &StepRun, outputs: Map<String, Value>, now: Time) -> Result<StepRun, Vec<String>> {
    let waits = matches!(task(flow, run), Some(Task::Work(Executor::External { .. })));
    if run.status.phase != RunPhase::Suspended || !waits {
        let (name, phase) = (&run.metadata.name, run.status.phase.as_str());
        return Err(vec![format!("run `{name}` is {phase}: only a Suspended run takes an answer")]);
    }
    let none = BTreeMap::new();
    let declared = flow.steps.get(&run.spec.step).map_or(&none, |step| &step.outputs);
    let typed = |(name, value): (String, Value)| {
        let value = declared.get(&name).map_or(value.clone(), |field| coerce(field, value));
        (name, value)
    };
    let outputs = complete(declared, outputs.into_iter().map(typed).collect());
    let mut wrong: Vec<String> = missing(declared, &outputs).map(|name| format!("`{name}` is missing")).collect();
    wrong.extend(misfits(declared, &outputs));
    if !wrong.is_empty() {
        return Err(wrong);
    }
    Ok(finish(flow, run, &Outcome::of(Ok(outputs)), now))
}

fn check(declared: &BTreeMap<String, Field>, outputs: Map<String, Value>) -> WorkResult {
    let outputs = complete(declared, outputs);
    let missing: Vec<String> = missing(declared, &outputs).map(|name| format!("`{name}`")).collect();
    if !missing.is_empty() {
        let message = format!("declared, but not given: {}", missing.join(", "));
        return Err(Failure { reason: "OutputMissing".into(), message });
    }
    let misfits: Vec<String> = misfits(declared, &outputs).collect();
    if !misfits.is_empty() {
        return Err(Failure { reason: "OutputInvalid".into(), message: misfits.join("; ") });
    }
    Ok(outputs)
}

/// With the defaults of what is missing.
fn complete(declared: &BTreeMap<String, Field>, mut outputs: Map<String, Value>) -> Map<String, Value> {
    for (name, field) in declared {
        if let (false, Some(default)) = (outputs.contains_key(name), &field.default) {
            outputs.insert(name.clone(), default.clone());
        }
    }
    outputs
}

fn missing<'d>(
    declared: &'d BTreeMap<String, Field>,
    outputs: &'d Map<String, Value>,
) -> impl Iterator<Item = &'d String> {
    let required = declared.iter().filter(|(_, field)| field.required);
    required.map(|(name, _)| name).filter(|name| !outputs.contains_key(*name))
}

fn misfits<'d>(
    declared: &'d BTreeMap<String, Field>,
    outputs: &'d Map<String, Value>,
) -> impl Iterator<Item = String> + 'd {
    let both = declared.iter().filter_map(|(name, field)| Some((name, field, outputs.get(name)?)));
    let both = both.filter(|(_, field, value)| field.required || !value.is_null());
    both.filter_map(|(name, field, value)| misfit(field, value).map(|why| format!("`{name}` {why}")))
}
