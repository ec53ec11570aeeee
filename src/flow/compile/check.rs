//! What must hold between the parts of a flow.

use super::super::types::{Dependency, Executor, Flow, InputSource, Prompt, Step, StepField, When};
use super::reader::{did_you_mean, index, key, problem, warning};
use crate::model::{DocPath, ExitAction, Problem};
use std::collections::{BTreeMap, BTreeSet};

/// Names with a meaning to the shell or the loader: an input of that name would change how the script runs.
const REFUSED: [&str; 24] = [
    "PATH",
    "HOME",
    "IFS",
    "ENV",
    "BASH_ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "PS1",
    "PS2",
    "PS4",
    "CDPATH",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONHOME",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PERL5LIB",
    "PERL5OPT",
    "RUBYOPT",
    "SHELL",
    "USER",
    "PWD",
    "OLDPWD",
    "TMPDIR",
];

pub(super) fn input_name(name: &str, path: &DocPath, problems: &mut Vec<Problem>) {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let message = if !begins || !plain {
        format!("`{name}` cannot be the name of an input")
    } else if REFUSED.contains(&name) || ["LD_", "DYLD_", "BASH_FUNC_", "TENURE_"].iter().any(|p| name.starts_with(p)) {
        format!("an input cannot be called `{name}`: the name means something to the shell or the loader")
    } else {
        return;
    };
    let help = Some("use another name of letters, digits, `_`, and `-`".to_owned());
    problems.push(Problem { at_key: true, ..problem(path.clone(), &message, help) });
}

/// Everything that can only be seen of the flow as a whole.
pub(super) fn check(flow: &Flow, problems: &mut Vec<Problem>) {
    for step in flow.steps.values() {
        references(flow, step, problems);
        expressions(step, problems);
        loops(flow, step, problems);
        prompt(step, problems);
    }
    cycles(flow, problems);
}

fn unknown_step(flow: &Flow, name: &str, path: DocPath, problems: &mut Vec<Problem>) {
    if !flow.steps.contains_key(name) {
        let help = did_you_mean(name, flow.steps.keys().map(String::as_str));
        problems.push(problem(path, &format!("there is no step `{name}`"), help));
    }
}

fn references(flow: &Flow, step: &Step, problems: &mut Vec<Problem>) {
    for (name, input) in &step.inputs {
        let path = key(&key(&step.path, "inputs"), name);
        let fields: Vec<&StepField> = match &input.source {
            InputSource::Step(field) => vec![field],
            InputSource::AnyOf(fields) => fields.iter().collect(),
            InputSource::Job(job) => {
                if let Some(first) = job.first().filter(|first| !flow.inputs.contains_key(*first)) {
                    let help = did_you_mean(first, flow.inputs.keys().map(String::as_str))
                        .unwrap_or("declare it under `inputs:`, or give it with the job".into());
                    let message = format!("the flow declares no input `{first}`");
                    problems.push(warning(path.clone(), &message, Some(help)));
                }
                Vec::new()
            }
        };
        for field in fields {
            unknown_step(flow, &field.step, path.clone(), problems);
            let Some(source) = flow.steps.get(&field.step) else { continue };
            if let Some(first) = field.path.first()
                && !source.outputs.is_empty()
                && !source.outputs.contains_key(first)
            {
                let help = did_you_mean(first, source.outputs.keys().map(String::as_str)).unwrap_or_else(|| {
                    let all: Vec<&str> = source.outputs.keys().map(String::as_str).collect();
                    format!("its outputs are {}", all.join(", "))
                });
                let message = format!("step `{}` declares no output `{first}`", field.step);
                problems.push(problem(path.clone(), &message, Some(help)));
            }
        }
    }
    for (name, dependencies) in [("after", &step.after), ("after_resolved", &step.after_resolved)] {
        for (number, dependency) in dependencies.iter().enumerate() {
            let path = index(&key(&step.path, name), number);
            match dependency {
                Dependency::Step(source) => unknown_step(flow, source, path, problems),
                Dependency::AnyOf(sources) => {
                    for source in sources {
                        unknown_step(flow, source, path.clone(), problems);
                    }
                }
            }
        }
    }
    for (number, rule) in step.exits.iter().enumerate() {
        if let Some(target) = &rule.target {
            unknown_step(flow, target, key(&index(&key(&step.path, "exits"), number), "target"), problems);
        }
    }
    if let Some(When::IsPresent(input, _) | When::IsNull(input, _)) = &step.when
        && !step.inputs.contains_key(input)
    {
        let help = did_you_mean(input, step.inputs.keys().map(String::as_str));
        problems.push(problem(key(&step.path, "when"), &format!("the step has no input `{input}`"), help));
    }
}

fn expressions(step: &Step, problems: &mut Vec<Problem>) {
    let mut check = |text: &str, path: DocPath| {
        if let Err((message, offset)) = super::super::parses(text) {
            problems.push(Problem { offset, ..problem(path, &message, None) });
        }
    };
    if let Some(When::Expression(text)) = &step.when {
        check(text, key(&step.path, "when"));
    }
    for (number, rule) in step.exits.iter().enumerate() {
        if let Some(text) = &rule.when {
            check(text, key(&index(&key(&step.path, "exits"), number), "when"));
        }
    }
}

/// A loop that nothing bounds runs for ever.
fn loops(flow: &Flow, step: &Step, problems: &mut Vec<Problem>) {
    let bounded_before = |number: usize| {
        step.exits.iter().take(number).any(|rule| rule.when.as_deref().is_some_and(|when| when.contains("attempt")))
    };
    for (number, rule) in step.exits.iter().enumerate() {
        let path = index(&key(&step.path, "exits"), number);
        let own_bound = rule.max_iterations.is_some()
            || rule.when.as_deref().is_some_and(|when| when.contains("attempt"))
            || matches!(step.executor, Executor::External { .. });
        if rule.action == ExitAction::Loop && !own_bound && !bounded_before(number) {
            let help = Some("write `max_iterations: …`".to_owned());
            problems.push(warning(path, "nothing bounds this loop", help));
        }
    }
    let _ = flow;
}

/// A `$name` in a prompt that no input provides stays as it is: probably misspelt.
fn prompt(step: &Step, problems: &mut Vec<Problem>) {
    let text = match &step.executor {
        Executor::Agent(agent) => match &agent.prompt {
            Prompt::Text(text) => text,
            Prompt::File(_) => return,
        },
        Executor::External { prompt: Some(text) } => text,
        Executor::External { prompt: None } | Executor::Script(_) => return,
    };
    for name in super::super::variables(text) {
        if !step.inputs.contains_key(&name) && name != "STEPWISE_OUTPUT_FILE" {
            let help = did_you_mean(&name, step.inputs.keys().map(String::as_str))
                .unwrap_or("declare it under `inputs:`, or write `$$` for a dollar sign".into());
            let message = format!("no input provides `${name}`");
            problems.push(warning(key(&step.path, "prompt"), &message, Some(help)));
        }
    }
}

/// The steps that must have ended before this one, without the inputs that may be absent: those may close a loop.
fn needs(step: &Step) -> BTreeSet<&str> {
    let mut needs = BTreeSet::new();
    for input in step.inputs.values().filter(|input| !input.optional) {
        if let InputSource::Step(field) = &input.source {
            needs.insert(field.step.as_str());
        }
    }
    for dependency in step.after.iter().chain(&step.after_resolved) {
        if let Dependency::Step(name) = dependency {
            needs.insert(name.as_str());
        }
    }
    needs
}

/// A cycle of steps that all need each other can never begin.
fn cycles(flow: &Flow, problems: &mut Vec<Problem>) {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        Open,
        Done,
    }
    let mut marks: BTreeMap<&str, Mark> = BTreeMap::new();
    for start in flow.steps.keys() {
        // Depth first with a stack of our own: a chain of thousands of steps is fine.
        let mut stack: Vec<(&str, Vec<&str>)> = Vec::new();
        let open = |name: &str| -> Vec<&str> {
            flow.steps.get(name).map(|s| needs(s).into_iter().collect()).unwrap_or_default()
        };
        if !marks.contains_key(start.as_str()) {
            marks.insert(start, Mark::Open);
            stack.push((start, open(start)));
        }
        while let Some((name, rest)) = stack.last_mut() {
            let Some(next) = rest.pop() else {
                marks.insert(name, Mark::Done);
                stack.pop();
                continue;
            };
            match marks.get(next) {
                Some(Mark::Done) => {}
                Some(Mark::Open) => {
                    let from = stack.iter().position(|(name, _)| *name == next).unwrap_or(0);
                    let names: Vec<&str> = stack.iter().skip(from).map(|(name, _)| *name).collect();
                    let message = format!("these steps wait for each other: {}", names.join(" → "));
                    let help = "make one input of the loop `optional`, and close it with a `loop` rule".to_owned();
                    let path = flow.steps.get(next).map(|step| step.path.clone()).unwrap_or_default();
                    problems.push(problem(path, &message, Some(help)));
                    return;
                }
                None if flow.steps.contains_key(next) => {
                    marks.insert(next, Mark::Open);
                    let needs = open(next);
                    stack.push((next, needs));
                }
                None => {}
            }
        }
    }
}
