//! What must hold between steps that share a conversation, or fork one.

use super::super::types::{AgentStep, Dependency, Executor, Flow, InputSource, Step};
use super::reader::{did_you_mean, key, problem, warning};
use crate::model::Problem;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(flow: &Flow, problems: &mut Vec<Problem>) {
    let mut shared: BTreeMap<&str, Vec<&Step>> = BTreeMap::new();
    for step in flow.steps.values() {
        let Executor::Agent(agent) = &step.executor else { continue };
        fork(flow, step, agent, problems);
        if let Some(name) = &agent.session {
            shared.entry(name).or_default().push(step);
        }
    }
    for (name, steps) in shared {
        writers(flow, name, &steps, problems);
    }
}

/// What a fork begins with is a conversation.
fn fork(flow: &Flow, step: &Step, agent: &AgentStep, problems: &mut Vec<Problem>) {
    let Some(from) = &agent.fork_from else { return };
    let path = key(&step.path, "fork_from");
    let help = || did_you_mean(from, flow.steps.keys().map(String::as_str));
    match flow.steps.get(from).map(|step| &step.executor) {
        None => problems.push(problem(path, &format!("there is no step `{from}`"), help())),
        Some(Executor::Agent(source)) if source.class == agent.class => {}
        Some(Executor::Agent(source)) => {
            let message = format!("step `{from}` is done by `{}`, this one by `{}`", source.class, agent.class);
            problems.push(problem(path, &message, Some("give both the same `agent`".into())));
        }
        Some(_) => problems.push(problem(path, &format!("step `{from}` is not done by an agent"), None)),
    }
}

/// One conversation takes one turn at a time: steps that may run side by side take turns in an order that nobody chose.
fn writers(flow: &Flow, name: &str, steps: &[&Step], problems: &mut Vec<Problem>) {
    let before: Vec<BTreeSet<&str>> = steps.iter().map(|step| upstream(flow, step)).collect();
    for (later, step) in steps.iter().enumerate() {
        let loose = (0..later).find(|&earlier| {
            !before[later].contains(steps[earlier].name.as_str()) && !before[earlier].contains(step.name.as_str())
        });
        if let Some(earlier) = loose {
            let message =
                format!("nothing orders this step and `{}`, which share the session `{name}`", steps[earlier].name);
            let help = format!("write `after: [{}]`, or give one of them another session", steps[earlier].name);
            problems.push(warning(key(&step.path, "session"), &message, Some(help)));
        }
    }
}

/// All that comes before a step.
fn upstream<'f>(flow: &'f Flow, step: &'f Step) -> BTreeSet<&'f str> {
    let mut found = BTreeSet::new();
    let mut next = vec![step];
    while let Some(step) = next.pop() {
        for name in sources(step) {
            if found.insert(name) {
                next.extend(flow.steps.get(name));
            }
        }
    }
    found
}

/// Every step that this one names as a source.
pub(super) fn sources(step: &Step) -> Vec<&str> {
    let mut names: Vec<&str> = step.implied_sources().collect();
    for input in step.inputs.values() {
        match &input.source {
            InputSource::Job(_) => {}
            InputSource::Step(field) => names.push(&field.step),
            InputSource::AnyOf(fields) => names.extend(fields.iter().map(|field| field.step.as_str())),
        }
    }
    for dependency in step.after.iter().chain(&step.after_resolved) {
        match dependency {
            Dependency::Step(name) => names.push(name),
            Dependency::AnyOf(several) => names.extend(several.iter().map(String::as_str)),
        }
    }
    names
}
