//! Steps: executors, inputs, dependencies, conditions, exit rules.

use super::super::types::{Dependency, ExitRule, Idempotency, Input, InputSource, OnError, Step, StepField, When};
use super::reader::{Reader, index, key, problem};
use super::{executor, wrap};
use crate::model::{DocPath, ExitAction, Problem};
use serde_json::Value;
use std::collections::BTreeMap;

const STEP_KEYS: [&str; 48] = [
    "after",
    "after_resolved",
    "agent",
    "allowed_paths",
    "as",
    "cache",
    "check_command",
    "command",
    "containment",
    "decorators",
    "derived_outputs",
    "description",
    "emit_flow",
    "executor",
    "exits",
    "failure_rate",
    "flow",
    "for_each",
    "fork_from",
    "idempotency",
    "inputs",
    "interval_seconds",
    "latency_range",
    "limits",
    "loop_prompt",
    "max_continuous_attempts",
    "max_tokens",
    "model",
    "on_error",
    "output_mode",
    "output_path",
    "outputs",
    "partial_rate",
    "permissions",
    "prompt",
    "prompt_file",
    "responses",
    "run",
    "session",
    "system",
    "temperature",
    "timeout",
    "tools",
    "when",
    "working_dir",
    "config",
    "name",
    "effort",
];

const IDEMPOTENCY: [(&str, Idempotency); 4] = [
    ("idempotent", Idempotency::Idempotent),
    ("allow_restart", Idempotency::AllowRestart),
    ("retriable_with_guard", Idempotency::RetriableWithGuard),
    ("non_retriable", Idempotency::NonRetriable),
];

/// The steps of a flow, which is inside of so many others.
pub(super) fn steps(value: &Value, path: DocPath, depth: usize, problems: &mut Vec<Problem>) -> BTreeMap<String, Step> {
    let Some(entries) = value.as_object() else {
        problems.push(problem(path, "`steps` must be a mapping", Some("write `steps: {name: {run: …}}`".into())));
        return BTreeMap::new();
    };
    if entries.is_empty() {
        problems.push(problem(path.clone(), "the flow has no steps", None));
    }
    let mut steps = BTreeMap::new();
    for (name, value) in entries {
        let at = key(&path, name);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            let help = "use letters, digits, `-`, and `_`; at most 64".to_owned();
            let wrong = problem(at.clone(), &format!("`{name}` cannot be the name of a step"), Some(help));
            problems.push(Problem { at_key: true, ..wrong });
        }
        if let Some(step) = step(name, value, at, depth, problems) {
            steps.insert(name.clone(), step);
        }
    }
    steps
}

fn step(name: &str, value: &Value, path: DocPath, depth: usize, problems: &mut Vec<Problem>) -> Option<Step> {
    let mut reader = Reader::mapping(value, path.clone(), "a step", problems)?;
    reader.known(&STEP_KEYS);
    let outputs = match reader.field("outputs") {
        Some((value, at)) => super::fields(value, at, true, reader.problems()),
        None => BTreeMap::new(),
    };
    reader.refuse("containment", "machines come with a later version");
    let executor = executor::of_step(&mut reader, !outputs.is_empty(), depth);
    let (decorators, cache, limits) =
        (wrap::decorators(&mut reader, !outputs.is_empty()), wrap::cache(&mut reader), wrap::limits(&mut reader));
    let step = Step {
        name: name.to_owned(),
        description: reader.text("description"),
        inputs: inputs(&mut reader),
        after: dependencies(&mut reader, "after"),
        after_resolved: dependencies(&mut reader, "after_resolved"),
        when: when(&mut reader),
        exits: exits(&mut reader),
        on_error: on_error(&mut reader),
        limits,
        decorators,
        idempotency: reader.word("idempotency", &IDEMPOTENCY).unwrap_or_default(),
        cache,
        derived_outputs: derived_outputs(&mut reader),
        working_dir: reader.text("working_dir"),
        executor: executor?,
        outputs,
        path,
    };
    Some(step)
}

fn inputs(reader: &mut Reader<'_, '_>) -> BTreeMap<String, Input> {
    let mut inputs = BTreeMap::new();
    let Some((value, path)) = reader.field("inputs") else { return inputs };
    let Some(entries) = value.as_object() else {
        reader.error(path, "`inputs` must be a mapping", Some("write `inputs: {name: step.field}`".into()));
        return inputs;
    };
    for (name, value) in entries {
        let at = key(&path, name);
        super::check::input_name(name, &at, reader.problems());
        if let Some(input) = input(value, at, reader.problems()) {
            inputs.insert(name.clone(), input);
        }
    }
    inputs
}

fn input(value: &Value, path: DocPath, problems: &mut Vec<Problem>) -> Option<Input> {
    if let Some(text) = value.as_str() {
        return source(text, path, problems).map(|source| Input { source, optional: false });
    }
    let mut reader = Reader::mapping(value, path.clone(), "an input", problems)?;
    reader.known(&["from", "any_of", "optional", "description"]);
    let optional = reader.flag("optional").unwrap_or(false);
    match (reader.text("from"), reader.field("any_of")) {
        (Some(text), None) => {
            source(&text, key(&path, "from"), reader.problems()).map(|source| Input { source, optional })
        }
        (None, Some((value, at))) => {
            let fields =
                any_of(value, at, reader.problems(), |text, at, problems| match source(text, at.clone(), problems)? {
                    InputSource::Step(field) => Some(field),
                    InputSource::Job(_) | InputSource::AnyOf(_) => {
                        problems.push(problem(at, "`any_of` chooses among steps", None));
                        None
                    }
                })?;
            Some(Input { source: InputSource::AnyOf(fields), optional })
        }
        _ => {
            reader.error(path, "an input needs one of `from` and `any_of`", None);
            None
        }
    }
}

/// The members of an `any_of`, of which there must be two or more.
fn any_of<T>(
    value: &Value,
    path: DocPath,
    problems: &mut Vec<Problem>,
    read: impl Fn(&str, DocPath, &mut Vec<Problem>) -> Option<T>,
) -> Option<Vec<T>> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    if items.len() < 2 {
        let help = Some("with one source there is nothing to choose: write it alone".to_owned());
        problems.push(problem(path, "`any_of` needs a list of two or more", help));
        return None;
    }
    let mut found = Vec::new();
    for (number, item) in items.iter().enumerate() {
        match item.as_str() {
            Some(text) => found.extend(read(text, index(&path, number), problems)),
            None => problems.push(problem(index(&path, number), "must be a text", None)),
        }
    }
    Some(found)
}

/// `step.field.path…` or `$job.name.path…`.
pub(super) fn source(text: &str, path: DocPath, problems: &mut Vec<Problem>) -> Option<InputSource> {
    let mut parts = text.split('.').map(str::to_owned);
    let first = parts.next().unwrap_or_default();
    let rest: Vec<String> = parts.collect();
    if first == "$job" && !rest.is_empty() {
        return Some(InputSource::Job(rest));
    }
    if first.is_empty() || first.starts_with('$') || rest.iter().any(String::is_empty) || rest.is_empty() {
        let help = Some("write `step.field`, or `$job.name` for an input of the job".to_owned());
        problems.push(problem(path, &format!("`{text}` is not a source"), help));
        return None;
    }
    Some(InputSource::Step(StepField { step: first, path: rest }))
}

/// Of a step that goes through a list, it is about the items: when all of them fail, so does the step.
fn on_error(reader: &mut Reader<'_, '_>) -> OnError {
    if reader.has("for_each") {
        return OnError::Fail;
    }
    reader.word("on_error", &[("fail", OnError::Fail), ("continue", OnError::Continue)]).unwrap_or_default()
}

fn derived_outputs(reader: &mut Reader<'_, '_>) -> Vec<(String, String)> {
    let Some((value, path)) = reader.field("derived_outputs") else { return Vec::new() };
    let help = || Some("write `derived_outputs: {name: \"expression over the outputs\"}`".to_owned());
    let Some(mut derived) = Reader::mapping(value, path.clone(), "`derived_outputs`", reader.problems()) else {
        return Vec::new();
    };
    let names: Vec<String> = value.as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect();
    let mut outputs = Vec::new();
    for name in names {
        match derived.expression(&name) {
            Some(text) => outputs.push((name, text)),
            None if !derived.has(&name) => derived.error(key(&path, &name), "it has no expression", help()),
            None => {}
        }
    }
    outputs
}

fn dependencies(reader: &mut Reader<'_, '_>, name: &str) -> Vec<Dependency> {
    let Some((value, path)) = reader.field(name) else { return Vec::new() };
    let single = [value.clone()];
    let items = value.as_array().map_or(single.as_slice(), Vec::as_slice);
    let mut found = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let at = if value.is_array() { index(&path, number) } else { path.clone() };
        match (item.as_str(), item.get("any_of")) {
            (Some(step), _) => found.push(Dependency::Step(step.to_owned())),
            (None, Some(group)) => {
                let members = any_of(group, key(&at, "any_of"), reader.problems(), |text, _, _| Some(text.to_owned()));
                found.extend(members.map(Dependency::AnyOf));
            }
            (None, None) => reader.error(at, &format!("`{name}` holds names of steps and `any_of` groups"), None),
        }
    }
    found
}

fn when(reader: &mut Reader<'_, '_>) -> Option<When> {
    let (value, path) = reader.field("when")?;
    if !value.is_object() {
        return reader.expression("when").map(When::Expression);
    }
    let mut inner = Reader::mapping(value, path.clone(), "`when`", reader.problems())?;
    inner.known(&["input", "is_present", "is_null"]);
    let input = inner.text("input");
    match (input, inner.flag("is_present"), inner.flag("is_null")) {
        (Some(input), Some(flag), None) => Some(When::IsPresent(input, flag)),
        (Some(input), None, Some(flag)) => Some(When::IsNull(input, flag)),
        _ => {
            let help = Some("write `{input: x, is_present: true}` or `{input: x, is_null: true}`".to_owned());
            inner.error(path, "`when` as a mapping asks about one input", help);
            None
        }
    }
}

fn exits(reader: &mut Reader<'_, '_>) -> Vec<ExitRule> {
    let Some((value, path)) = reader.field("exits") else { return Vec::new() };
    let Some(items) = value.as_array() else {
        reader.error(path, "`exits` must be a list of rules", None);
        return Vec::new();
    };
    let rule = |(number, item)| exit_rule(item, index(&path, number), reader.problems());
    items.iter().enumerate().filter_map(rule).collect()
}

fn exit_rule(value: &Value, path: DocPath, problems: &mut Vec<Problem>) -> Option<ExitRule> {
    let mut reader = Reader::mapping(value, path.clone(), "an exit rule", problems)?;
    reader.known(&["name", "when", "action", "target", "max_iterations", "description"]);
    let actions = [
        ("advance", ExitAction::Advance),
        ("loop", ExitAction::Loop),
        ("escalate", ExitAction::Escalate),
        ("abandon", ExitAction::Abandon),
    ];
    if !reader.has("action") {
        let help = Some("write `action: advance`, `loop`, `escalate`, or `abandon`".to_owned());
        reader.error(path.clone(), "the rule has no `action`", help);
    }
    let action = reader.word("action", &actions);
    let target = reader.text("target");
    match (action, &target) {
        (Some(ExitAction::Loop), None) => {
            reader.error(path, "a `loop` rule needs a `target`", Some("write `target: <step>`".into()));
        }
        (Some(ExitAction::Advance | ExitAction::Abandon), Some(_)) => {
            reader.error(key(&path, "target"), "only `loop` and `escalate` have a target", Some("remove it".into()));
        }
        _ => {}
    }
    Some(ExitRule {
        name: reader.text("name"),
        when: reader.expression("when"),
        action: action?,
        target,
        max_iterations: reader.count("max_iterations"),
    })
}
