//! How the work on a run ended, made into the run's status: outputs checked against what the step declares, cost against
//! its limit.
//!
//! Choices: a declared output that is missing takes its default, if it has one; one with `required: false` may be missing
//! or `null`. What is given beyond the declared outputs is kept. A run that is final already stays as it is: it was cancelled while its work went on.

use crate::flow::machine::inputs::{coerce, misfit};
use crate::flow::{Field, Flow};
use crate::model::{Failure, Outcome, RunPhase, StepRun, Time};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The run as its outcome leaves it: `Completed`, or `Failed` with the outcome's failure, `OutputMissing`, `OutputInvalid`,
/// or `CostLimitExceeded`. Its exit rules are [`advance`](crate::flow::advance)'s matter.
pub fn finish(flow: &Flow, run: &StepRun, outcome: &Outcome, now: Time) -> StepRun {
    let mut run = run.clone();
    if run.status.phase.is_final() {
        return run;
    }
    let step = flow.steps.get(&run.spec.step);
    let limit = step.and_then(|step| step.limits.max_cost_usd);
    let result = match (outcome.cost_usd, limit) {
        (Some(cost), Some(limit)) if cost > limit => Err(Failure {
            reason: "CostLimitExceeded".into(),
            message: format!("it cost {cost} USD, {limit} are allowed (`max_cost_usd`)"),
        }),
        (Some(_) | None, Some(_) | None) => outcome.result.clone(),
    };
    let declared = step.map(|step| &step.outputs);
    let result = result.and_then(|outputs| match declared {
        Some(declared) => check(declared, outputs),
        None => Ok(outputs),
    });
    if outcome.usage.is_some() {
        run.status.usage.clone_from(&outcome.usage);
    }
    if outcome.session.is_some() {
        run.status.session.clone_from(&outcome.session);
    }
    run.status.cost_usd = outcome.cost_usd.or(run.status.cost_usd);
    run.status.finished_at = Some(now);
    match result {
        Ok(outputs) => {
            run.status.phase = RunPhase::Completed;
            run.status.outputs = Some(outputs);
            run.status.reason = None;
            run.status.message = None;
        }
        Err(failure) => {
            run.status.phase = RunPhase::Failed;
            run.status.reason = Some(failure.reason);
            run.status.message = Some(failure.message);
        }
    }
    run
}

/// The run with somebody's answer, or all that is wrong with it. Text is taken for the number or the truth value that a
/// declared output wants: a command line has only text.
pub fn fulfil(flow: &Flow, run: &StepRun, outputs: Map<String, Value>, now: Time) -> Result<StepRun, Vec<String>> {
    if run.status.phase != RunPhase::Suspended {
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
    let mut run = run.clone();
    run.status.phase = RunPhase::Completed;
    run.status.outputs = Some(outputs);
    run.status.finished_at = Some(now);
    Ok(run)
}

fn check(declared: &BTreeMap<String, Field>, outputs: Map<String, Value>) -> Result<Map<String, Value>, Failure> {
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
