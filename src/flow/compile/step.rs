//! Steps: executors, inputs, dependencies, conditions, exit rules.

use super::super::types::{
    AgentStep, Dependency, Executor, ExitRule, Input, InputSource, OnError, OutputMode, Prompt, Step, StepField, When,
};
use super::reader::{Reader, index, key, problem};
use crate::model::{DocPath, ExitAction, Problem};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const STEP_KEYS: [&str; 49] = [
    "after",
    "after_resolved",
    "agent",
    "allowed_paths",
    "as",
    "cache",
    "check_command",
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
    "requires",
    "env",
];

/// The steps of a flow.
pub(super) fn steps(value: &Value, path: DocPath, problems: &mut Vec<Problem>) -> BTreeMap<String, Step> {
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
        if let Some(step) = step(name, value, at, problems) {
            steps.insert(name.clone(), step);
        }
    }
    steps
}

fn step(name: &str, value: &Value, path: DocPath, problems: &mut Vec<Problem>) -> Option<Step> {
    let mut reader = Reader::mapping(value, path.clone(), "a step", problems)?;
    reader.known(&STEP_KEYS);
    let outputs = match reader.field("outputs") {
        Some((value, at)) => super::fields(value, at, true, reader.problems()),
        None => BTreeMap::new(),
    };
    for (what, why) in [
        ("decorators", "decorators come with a later version"),
        ("cache", "results are not reused yet"),
        ("derived_outputs", "derived outputs come with a later version"),
        ("containment", "machines come with a later version"),
        ("fork_from", "forked sessions come with a later version"),
        ("session", "named sessions come with a later version"),
        ("emit_flow", "emitted flows come with a later version"),
    ] {
        reader.refuse(what, why);
    }
    let executor = executor(&mut reader, !outputs.is_empty());
    let (max_duration, max_cost_usd) = limits(&mut reader);
    let step = Step {
        name: name.to_owned(),
        description: reader.text("description"),
        inputs: inputs(&mut reader),
        after: dependencies(&mut reader, "after"),
        after_resolved: dependencies(&mut reader, "after_resolved"),
        when: when(&mut reader),
        exits: exits(&mut reader),
        on_error: reader
            .word("on_error", &[("fail", OnError::Fail), ("continue", OnError::Continue)])
            .unwrap_or_default(),
        max_duration,
        max_cost_usd,
        working_dir: reader.text("working_dir"),
        executor: executor?,
        outputs,
        path,
    };
    Some(step)
}

fn executor(reader: &mut Reader<'_, '_>, has_outputs: bool) -> Option<Executor> {
    let given: Vec<&str> =
        ["run", "executor", "flow", "for_each"].into_iter().filter(|name| reader.has(name)).collect();
    let path = reader.path().clone();
    match given.as_slice() {
        [] => {
            let help = "write `run: …` for a script, or `executor: agent`".to_owned();
            reader.error(path, "the step has nothing to do", Some(help));
            None
        }
        ["run"] => reader.text("run").map(|text| Executor::Script(script(&text))),
        ["executor"] => named_executor(reader, has_outputs),
        ["flow"] | ["for_each"] | ["flow", "for_each"] => {
            reader.refuse("flow", "sub-flows come with a later version");
            reader.refuse("for_each", "sub-flows come with a later version");
            None
        }
        several => {
            let words: Vec<String> = several.iter().map(|word| format!("`{word}`")).collect();
            let message = format!("the step has {} of which it can have one", words.join(" and "));
            reader.error(path, &message, Some("make two steps of it".into()));
            None
        }
    }
}

fn named_executor(reader: &mut Reader<'_, '_>, has_outputs: bool) -> Option<Executor> {
    #[derive(Clone, Copy)]
    enum Word {
        Agent,
        External,
        Later,
    }
    let words = [
        ("agent", Word::Agent),
        ("external", Word::External),
        ("llm", Word::Later),
        ("poll", Word::Later),
        ("mock_llm", Word::Later),
    ];
    match reader.word("executor", &words)? {
        Word::Agent => agent(reader, has_outputs),
        Word::External => Some(Executor::External { prompt: reader.text("prompt") }),
        Word::Later => {
            reader.refuse("executor", "this executor comes with a later version");
            None
        }
    }
}

fn agent(reader: &mut Reader<'_, '_>, has_outputs: bool) -> Option<Executor> {
    let prompt = match (reader.text("prompt"), reader.text("prompt_file")) {
        (Some(text), None) => Prompt::Text(text),
        (None, Some(file)) => Prompt::File(file),
        (Some(_), Some(_)) => {
            reader.error(reader.path().clone(), "the step has both `prompt` and `prompt_file`", None);
            return None;
        }
        (None, None) => {
            let help = "write `prompt: …` or `prompt_file: …`".to_owned();
            reader.error(reader.path().clone(), "the agent is asked nothing", Some(help));
            return None;
        }
    };
    let modes =
        [("effect", OutputMode::Effect), ("stream_result", OutputMode::StreamResult), ("file", OutputMode::File)];
    // Who declares outputs and says nothing of how they come about gets them through a file.
    let default = if has_outputs { OutputMode::File } else { OutputMode::Effect };
    Some(Executor::Agent(AgentStep {
        class: reader.text("agent").unwrap_or_else(|| "claude".into()),
        prompt,
        output_mode: reader.word("output_mode", &modes).unwrap_or(default),
        output_path: reader.text("output_path"),
        model: reader.text("model"),
        allowed_paths: reader.names("allowed_paths"),
    }))
}

/// A lone path of a script is run relative to the flow's directory: by `python3` if it ends in `.py`.
fn script(text: &str) -> String {
    let lone = text.trim();
    let is_path = !lone.is_empty()
        && !lone.contains(|c: char| c.is_whitespace() || "|&;<>()$`\\\"'*?[]#~=%{}".contains(c))
        && (lone.contains('/') || lone.ends_with(".py") || lone.ends_with(".sh"));
    if !is_path {
        return text.to_owned();
    }
    let path =
        if lone.starts_with('/') { format!("'{lone}'") } else { format!("\"${{STEPWISE_FLOW_DIR:-.}}\"/'{lone}'") };
    if lone.ends_with(".py") { format!("exec python3 {path}") } else { format!("exec {path}") }
}

fn limits(reader: &mut Reader<'_, '_>) -> (Option<Duration>, Option<f64>) {
    let Some((value, path)) = reader.field("limits") else { return (None, None) };
    let Some(mut limits) = Reader::mapping(value, path.clone(), "`limits`", reader.problems()) else {
        return (None, None);
    };
    limits.known(&["max_cost_usd", "max_duration_minutes", "max_iterations"]);
    limits.refuse("max_iterations", "write it on the `loop` rule");
    let minutes = limits.number("max_duration_minutes").filter(|minutes| *minutes > 0.0 && *minutes < 1e9);
    (minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0)), limits.number("max_cost_usd"))
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
fn source(text: &str, path: DocPath, problems: &mut Vec<Problem>) -> Option<InputSource> {
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
