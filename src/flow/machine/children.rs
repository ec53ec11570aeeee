//! The sub-jobs of a run: which there should be, and what they come to together.

use crate::flow::{Executor, Flow, FlowSource, ItemError};
use crate::model::{Failure, JobPhase, Outcome, RunPhase, StepRun};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The sub-jobs that do the work of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct SubFlowTask<'a> {
    /// What they run; for a flow that an agent left behind: that one.
    pub source: Cow<'a, FlowSource>,
    /// The items, one sub-job each; none: one sub-job.
    pub items: Option<&'a [Value]>,
    /// The name of the item among the inputs.
    pub item: &'a str,
    /// Whether one that fails takes the others along.
    pub on_error: ItemError,
    inputs: &'a Map<String, Value>,
}

/// How far a sub-job is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Child {
    /// The place of its item; 0 where there is no list.
    pub index: usize,
    /// Its phase.
    pub phase: JobPhase,
    /// What it gave.
    pub outputs: Option<Value>,
    /// Why it did not, for a person: `reason: message`.
    pub failure: String,
    /// What it has cost so far.
    pub cost_usd: Option<f64>,
}

/// The sub-jobs that do the work of a run which is at it; none if it is done otherwise.
pub fn sub_flow_of<'a>(flow: &'a Flow, run: &'a StepRun) -> Option<SubFlowTask<'a>> {
    if run.status.phase != RunPhase::Running {
        return None;
    }
    let inputs = &run.spec.inputs;
    if let Some(emitted) = &run.status.emitted {
        let compiled = crate::flow::compile(emitted).flow.unwrap_or_default();
        let source = Cow::Owned(FlowSource::Inline(emitted.clone(), compiled.into()));
        return Some(SubFlowTask { source, items: None, item: "", on_error: ItemError::FailFast, inputs });
    }
    let super::Task::Work(Executor::SubFlow(sub)) = super::task(flow, run)? else { return None };
    let source = Cow::Borrowed(&sub.flow);
    Some(match &sub.for_each {
        None => SubFlowTask { source, items: None, item: "", on_error: ItemError::FailFast, inputs },
        Some(each) => {
            let items = Some(run.spec.items.as_deref().unwrap_or_default());
            SubFlowTask { source, items, item: &each.item, on_error: each.on_error, inputs }
        }
    })
}

impl SubFlowTask<'_> {
    /// How many there should be in all.
    pub fn count(&self) -> usize {
        self.items.map_or(1, <[Value]>::len)
    }

    /// The inputs of one of them.
    pub fn inputs_of(&self, index: usize) -> BTreeMap<String, Value> {
        let mut inputs: BTreeMap<String, Value> =
            self.inputs.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        if let Some(item) = self.items.and_then(|items| items.get(index)) {
            inputs.insert(self.item.to_owned(), item.clone());
        }
        inputs
    }

    /// Which are still to be made, in the order of the list, so that no more than `most` are under way.
    pub fn missing(&self, children: &[Child], most: usize) -> Vec<usize> {
        let under_way = children.iter().filter(|child| !child.phase.is_terminal()).count();
        let mut there = vec![false; self.count()];
        for child in children {
            if let Some(place) = there.get_mut(child.index) {
                *place = true;
            }
        }
        let missing = there.iter().enumerate().filter(|(_, there)| !**there).map(|(index, _)| index);
        missing.take(most.max(1).saturating_sub(under_way)).collect()
    }

    /// What they come to together, once it is certain.
    pub fn outcome(&self, children: &[Child]) -> Option<Outcome> {
        let result = self.result(children)?;
        let costs: Vec<f64> = children.iter().filter_map(|child| child.cost_usd).collect();
        let cost_usd = (!costs.is_empty()).then(|| costs.iter().sum());
        Some(Outcome { cost_usd, ..Outcome::of(result) })
    }

    fn result(&self, children: &[Child]) -> Option<Result<Map<String, Value>, Failure>> {
        let failed = |child: &&Child| matches!(child.phase, JobPhase::Failed | JobPhase::Cancelled);
        let Some(items) = self.items else {
            let child = children.first()?;
            return match child.phase {
                JobPhase::Succeeded => Some(Ok(as_outputs(child.outputs.clone()))),
                JobPhase::Failed | JobPhase::Cancelled => Some(Err(failure(&child.failure))),
                JobPhase::Pending | JobPhase::Running | JobPhase::Paused => None,
            };
        };
        if self.on_error == ItemError::FailFast
            && let Some(child) = children.iter().filter(failed).min_by_key(|child| child.index)
        {
            return Some(Err(failure(&format!("item {}: {}", child.index, child.failure))));
        }
        let mut results = vec![None; items.len()];
        for child in children.iter().filter(|child| child.phase.is_terminal()) {
            if let Some(place) = results.get_mut(child.index) {
                *place = Some(match child.phase {
                    JobPhase::Succeeded => Value::Object(as_outputs(child.outputs.clone())),
                    _ => json!({"_error": child.failure}),
                });
            }
        }
        let results: Vec<Value> = results.into_iter().collect::<Option<_>>()?;
        let all_failed = !items.is_empty() && children.iter().filter(failed).count() >= items.len();
        if all_failed {
            let first = children.iter().min_by_key(|child| child.index).map_or("", |child| child.failure.as_str());
            return Some(Err(failure(&format!("all {} items failed; the first: {first}", items.len()))));
        }
        Some(Ok(Map::from_iter([("results".to_owned(), Value::Array(results))])))
    }
}

fn failure(message: &str) -> Failure {
    Failure { reason: "SubJobFailed".into(), message: message.to_owned() }
}

fn as_outputs(outputs: Option<Value>) -> Map<String, Value> {
    match outputs {
        Some(Value::Object(outputs)) => outputs,
        _ => Map::new(),
    }
}
