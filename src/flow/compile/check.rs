//! What must hold between the parts of a flow.

use super::super::types::{AgentStep, Dependency, Executor, Flow, InputSource, LlmStep, Prompt, Step, StepField, When};
use super::reader::{did_you_mean, index, key, problem, warning};
use super::{cycles, sessions};
use crate::model::{DocPath, ExitAction, Problem};
use std::collections::BTreeSet;

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

/// Everything that can only be seen of the flow as a whole. `given`: inputs that its jobs have whatever it declares.
pub(super) fn check(flow: &Flow, given: &BTreeSet<String>, problems: &mut Vec<Problem>) {
    for step in flow.steps.values() {
        references(flow, given, step, problems);
        expressions(step, problems);
        loops(flow, step, problems);
        prompts(step, problems);
    }
    cycles::check(flow, problems);
    sessions::check(flow, problems);
}

fn unknown_step(flow: &Flow, name: &str, path: DocPath, problems: &mut Vec<Problem>) {
    if !flow.steps.contains_key(name) {
        let help = did_you_mean(name, flow.steps.keys().map(String::as_str));
        problems.push(problem(path, &format!("there is no step `{name}`"), help));
    }
}

/// Whether a value can come from there.
fn source(flow: &Flow, given: &BTreeSet<String>, source: &InputSource, path: &DocPath, problems: &mut Vec<Problem>) {
    let fields: Vec<&StepField> = match source {
        InputSource::Step(field) => vec![field],
        InputSource::AnyOf(fields) => fields.iter().collect(),
        InputSource::Job(job) => {
            let is_known = |name: &String| flow.inputs.contains_key(name) || given.contains(name);
            if let Some(first) = job.first().filter(|first| !is_known(first)) {
                let known = flow.inputs.keys().chain(given).map(String::as_str);
                let help =
                    did_you_mean(first, known).unwrap_or("declare it under `inputs:`, or give it with the job".into());
                let message = format!("the flow declares no input `{first}`");
                problems.push(warning(path.clone(), &message, Some(help)));
            }
            Vec::new()
        }
    };
    for field in fields {
        unknown_step(flow, &field.step, path.clone(), problems);
        let Some(source) = flow.steps.get(&field.step) else { continue };
        let derived = || source.derived_outputs.iter().map(|(name, _)| name);
        let declared = || source.outputs.keys().chain(derived()).map(String::as_str);
        if let Some(first) = field.path.first()
            && !source.outputs.is_empty()
            && !declared().any(|name| name == first)
        {
            let help = did_you_mean(first, declared())
                .unwrap_or_else(|| format!("its outputs are {}", declared().collect::<Vec<_>>().join(", ")));
            let message = format!("step `{}` declares no output `{first}`", field.step);
            problems.push(problem(path.clone(), &message, Some(help)));
        }
    }
}

fn references(flow: &Flow, given: &BTreeSet<String>, step: &Step, problems: &mut Vec<Problem>) {
    for (name, input) in &step.inputs {
        source(flow, given, &input.source, &key(&key(&step.path, "inputs"), name), problems);
    }
    if let Executor::SubFlow(sub) = &step.executor
        && let Some(each) = &sub.for_each
    {
        source(flow, given, &each.list, &key(&step.path, "for_each"), problems);
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
    for (name, text) in &step.derived_outputs {
        check(text, key(&key(&step.path, "derived_outputs"), name));
    }
}

/// A loop that nothing bounds runs for ever.
fn loops(flow: &Flow, step: &Step, problems: &mut Vec<Problem>) {
    let bounded_before = |number: usize| {
        step.exits.iter().take(number).any(|rule| rule.when.as_deref().is_some_and(|when| when.contains("attempt")))
    };
    for (number, rule) in step.exits.iter().enumerate() {
        let path = index(&key(&step.path, "exits"), number);
        let of_target = rule.target.as_ref().and_then(|target| flow.steps.get(target)?.limits.max_iterations);
        let own_bound = rule.max_iterations.or(of_target).is_some()
            || rule.when.as_deref().is_some_and(|when| when.contains("attempt"))
            || matches!(step.executor, Executor::External { .. });
        if rule.action == ExitAction::Loop && !own_bound && !bounded_before(number) {
            let help = Some("write `max_iterations: …`".to_owned());
            problems.push(warning(path, "nothing bounds this loop", help));
        }
    }
}

/// A `$name` in a prompt that no input provides stays as it is: probably misspelt.
fn prompts(step: &Step, problems: &mut Vec<Problem>) {
    let texts: Vec<(&str, &str)> = match &step.executor {
        Executor::Agent(AgentStep { prompt, loop_prompt, .. }) => {
            text_of(prompt).chain(loop_prompt.as_deref().map(|text| ("loop_prompt", text))).collect()
        }
        Executor::Llm(LlmStep { prompt, system, .. }) => {
            text_of(prompt).chain(system.as_deref().map(|text| ("system", text))).collect()
        }
        Executor::External { prompt } => prompt.as_deref().map(|text| ("prompt", text)).into_iter().collect(),
        Executor::Poll(poll) => poll.prompt.as_deref().map(|text| ("prompt", text)).into_iter().collect(),
        Executor::Script(_) | Executor::Mock(_) | Executor::SubFlow(_) => return,
    };
    for (field, text) in texts {
        for name in super::super::variables(text) {
            if !step.inputs.contains_key(&name) && name != "STEPWISE_OUTPUT_FILE" {
                let help = did_you_mean(&name, step.inputs.keys().map(String::as_str))
                    .unwrap_or("declare it under `inputs:`, or write `$$` for a dollar sign".into());
                let message = format!("no input provides `${name}`");
                problems.push(warning(key(&step.path, field), &message, Some(help)));
            }
        }
    }
}

fn text_of(prompt: &Prompt) -> impl Iterator<Item = (&'static str, &str)> {
    let text = match prompt {
        Prompt::Text(text) => Some(("prompt", text.as_str())),
        Prompt::File(_) => None,
    };
    text.into_iter()
}
