//! Results that are kept: the key of a run's result, and the run that takes one.

use crate::flow::text::substitute;
use crate::flow::{Executor, Flow, FlowSource};
use crate::model::{Job, RunPhase, StepRun, Time};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The key under which the result of this run is kept, for a step with `cache:`; none for another, and for one whose result
/// comes from outside of it: a person's answer, a poll, a flow that is elsewhere.
pub fn cache_key(flow: &Flow, job: &Job, run: &StepRun) -> Option<String> {
    let step = flow.steps.get(&run.spec.step)?;
    let cache = step.cache.as_ref()?;
    match &step.executor {
        Executor::External { .. } | Executor::Poll(_) => return None,
        Executor::SubFlow(sub) if matches!(sub.flow, FlowSource::Named(_)) => return None,
        Executor::Script(_) | Executor::Agent(_) | Executor::Llm(_) | Executor::Mock(_) | Executor::SubFlow(_) => {}
    }
    let extra = cache.key_extra.as_deref().map(|text| substitute(text, &run.spec.inputs));
    let what = format!(
        "{:?}\0{:?}\0{:?}\0{:?}\0{:?}\0{:?}\0{:?}",
        step.executor,
        step.outputs,
        step.derived_outputs,
        step.working_dir,
        job.status.flow_dir,
        Value::Object(run.spec.inputs.clone()).to_string(),
        extra
    );
    let items = run.spec.items.as_ref().map(|items| Value::from(items.clone()).to_string()).unwrap_or_default();
    let hash = Sha256::digest(format!("{what}\0{items}").as_bytes());
    Some(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The run with the result of an equal one, of this name.
pub fn from_cache(run: &StepRun, from: &str, outputs: &Map<String, Value>, now: Time) -> StepRun {
    let mut run = run.clone();
    if run.status.phase.is_final() {
        return run;
    }
    run.status.phase = RunPhase::Completed;
    run.status.outputs = Some(outputs.clone());
    run.status.cached_from = Some(from.to_owned());
    run.status.started_at.get_or_insert(now);
    run.status.finished_at = Some(now);
    (run.status.reason, run.status.message, run.status.due_at) = (None, None, None);
    run
}
