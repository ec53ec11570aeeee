//! What does the work of a step: its executor, and the fields that go with it.

use super::super::types::{
    AgentStep, Executor, FlowSource, ForEach, ItemError, LlmStep, MockStep, OutputMode, PollStep, Prompt, SubFlow,
};
use super::reader::{Reader, key};
use super::step::source;
use crate::model::{DocPath, Permissions};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Between two checks of a poll, where nothing is said.
const POLL_INTERVAL: Duration = Duration::from_secs(60);

/// The name of an item where `as` gives none.
const ITEM: &str = "item";

/// The executors that have a name.
#[derive(Clone, Copy)]
pub(super) enum Word {
    Script,
    Agent,
    Llm,
    External,
    Poll,
    Mock,
}

/// As they are written after `executor:`.
const WORDS: [(&str, Word); 6] = [
    ("agent", Word::Agent),
    ("llm", Word::Llm),
    ("external", Word::External),
    ("poll", Word::Poll),
    ("mock_llm", Word::Mock),
    ("script", Word::Script),
];

/// The executor of a step.
pub(super) fn of_step(reader: &mut Reader<'_, '_>, has_outputs: bool, depth: usize) -> Option<Executor> {
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
        // What says the same twice is no choice of two.
        ["executor"] | ["run", "executor"] if says_script(reader) => named(Word::Script, reader, has_outputs),
        ["executor"] => {
            let word = reader.word("executor", &WORDS)?;
            named(word, reader, has_outputs)
        }
        ["flow"] | ["flow", "for_each"] => sub_flow(reader, depth),
        ["for_each"] => {
            let help = "write the `flow:` that each item goes through".to_owned();
            reader.error(path, "`for_each` has no flow", Some(help));
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

fn says_script(reader: &Reader<'_, '_>) -> bool {
    reader.field("executor").is_some_and(|(value, _)| value.as_str() == Some("script"))
}

/// The executor of a `fallback_ref`: its type is named, its fields are in `config`.
pub(super) fn of_fallback(reader: &mut Reader<'_, '_>, has_outputs: bool) -> Option<Executor> {
    let path = reader.path().clone();
    let word = reader.word("type", &WORDS);
    if !reader.has("type") {
        reader.error(path.clone(), "the fallback has no `type`", Some("write `type: script`, or `agent`".into()));
    }
    let word = word?;
    if matches!(word, Word::Poll) {
        reader.error(key(&path, "type"), "a poll cannot be a fallback", Some("make a step of it".into()));
        return None;
    }
    let empty = Value::Object(Map::new());
    let (config, at) = reader.field("config").unwrap_or((&empty, key(&path, "config")));
    let mut config = Reader::mapping(config, at, "`config`", reader.problems())?;
    named(word, &mut config, has_outputs)
}

fn named(word: Word, reader: &mut Reader<'_, '_>, has_outputs: bool) -> Option<Executor> {
    match word {
        Word::Script => match reader.text("run").or_else(|| reader.text("command")) {
            Some(text) => Some(Executor::Script(script(&text))),
            None => {
                let help = "write `run: …`".to_owned();
                reader.error(reader.path().clone(), "the script has no command", Some(help));
                None
            }
        },
        Word::Agent => agent(reader, has_outputs),
        Word::Llm => llm(reader),
        Word::External => Some(Executor::External { prompt: reader.text("prompt") }),
        Word::Poll => poll(reader),
        Word::Mock => Some(Executor::Mock(mock(reader))),
    }
}

/// What an agent or a model is asked.
fn prompt(reader: &mut Reader<'_, '_>, who: &str) -> Option<Prompt> {
    match (reader.text("prompt"), reader.text("prompt_file")) {
        (Some(text), None) => Some(Prompt::Text(text)),
        (None, Some(file)) => Some(Prompt::File(file)),
        (Some(_), Some(_)) => {
            reader.error(reader.path().clone(), "the step has both `prompt` and `prompt_file`", None);
            None
        }
        (None, None) => {
            let help = "write `prompt: …` or `prompt_file: …`".to_owned();
            reader.error(reader.path().clone(), &format!("the {who} is asked nothing"), Some(help));
            None
        }
    }
}

fn agent(reader: &mut Reader<'_, '_>, has_outputs: bool) -> Option<Executor> {
    let prompt = prompt(reader, "agent")?;
    let modes =
        [("effect", OutputMode::Effect), ("stream_result", OutputMode::StreamResult), ("file", OutputMode::File)];
    let permissions = [("allow", Permissions::Allow), ("approve_all", Permissions::Allow), ("deny", Permissions::Deny)];
    // Who declares outputs and says nothing of how they come about gets them through a file.
    let default = if has_outputs { OutputMode::File } else { OutputMode::Effect };
    Some(Executor::Agent(AgentStep {
        class: reader.text("agent").unwrap_or_else(|| "claude".into()),
        prompt,
        output_mode: reader.word("output_mode", &modes).unwrap_or(default),
        output_path: reader.text("output_path"),
        model: reader.text("model"),
        allowed_paths: reader.names("allowed_paths"),
        tools: reader.names("tools"),
        permissions: reader.word("permissions", &permissions),
        session: reader.text("session"),
        loop_prompt: reader.text("loop_prompt"),
        max_continuous_attempts: reader.count("max_continuous_attempts"),
        fork_from: reader.text("fork_from"),
        emit_flow: reader.flag("emit_flow").unwrap_or(false),
    }))
}

fn llm(reader: &mut Reader<'_, '_>) -> Option<Executor> {
    Some(Executor::Llm(LlmStep {
        prompt: prompt(reader, "model")?,
        model: reader.text("model"),
        system: reader.text("system"),
        temperature: reader.number("temperature"),
        max_tokens: reader.count("max_tokens"),
    }))
}

fn poll(reader: &mut Reader<'_, '_>) -> Option<Executor> {
    let interval = reader.seconds("interval_seconds").unwrap_or(POLL_INTERVAL);
    let prompt = reader.text("prompt");
    match reader.text("check_command") {
        Some(check_command) => Some(Executor::Poll(PollStep { check_command, interval, prompt })),
        None => {
            let help = "write `check_command: …`".to_owned();
            reader.error(reader.path().clone(), "the poll has nothing to check", Some(help));
            None
        }
    }
}

fn mock(reader: &mut Reader<'_, '_>) -> MockStep {
    let latency = match reader.field("latency_range") {
        None => (Duration::ZERO, Duration::ZERO),
        Some((value, path)) => {
            let bound = |at: usize| {
                let seconds = value.get(at)?.as_f64()?;
                Duration::try_from_secs_f64(seconds).ok()
            };
            match (bound(0), bound(1)) {
                (Some(least), Some(most)) if least <= most => (least, most),
                _ => {
                    let help = Some("write `latency_range: [0.1, 2]`, in seconds".to_owned());
                    reader.error(path, "`latency_range` must be the least and the most", help);
                    (Duration::ZERO, Duration::ZERO)
                }
            }
        }
    };
    let responses = match reader.field("responses") {
        Some((Value::Object(fields), _)) => fields.clone(),
        Some((_, path)) => {
            reader.error(path, "`responses` must be a mapping", None);
            Map::new()
        }
        None => Map::new(),
    };
    MockStep {
        failure_rate: rate(reader, "failure_rate"),
        partial_rate: rate(reader, "partial_rate"),
        latency,
        responses,
        prompt: reader.text("prompt"),
    }
}

fn rate(reader: &mut Reader<'_, '_>, name: &str) -> f64 {
    let Some(rate) = reader.number(name) else { return 0.0 };
    if !(0.0..=1.0).contains(&rate) {
        reader.error(key(reader.path(), name), &format!("`{name}` must be from 0 to 1"), None);
    }
    rate
}

fn sub_flow(reader: &mut Reader<'_, '_>, depth: usize) -> Option<Executor> {
    let for_each = for_each(reader);
    let (value, path) = reader.field("flow")?;
    let flow = match value {
        Value::String(name) => FlowSource::Named(name.clone()),
        Value::Object(_) => {
            let given = given(reader, for_each.as_ref());
            let flow = super::compile_at(value, path, depth + 1, &given, reader.problems());
            FlowSource::Inline(value.clone(), Arc::new(flow))
        }
        _ => {
            let help = "write a name, a path, or `flow: {steps: …}`".to_owned();
            reader.error(path, "`flow` must name a flow, or be one", Some(help));
            return None;
        }
    };
    Some(Executor::SubFlow(SubFlow { flow, for_each }))
}

/// The inputs that a sub-job is given.
fn given(reader: &Reader<'_, '_>, for_each: Option<&ForEach>) -> BTreeSet<String> {
    let inputs = reader.field("inputs").and_then(|(value, _)| value.as_object());
    let names = inputs.into_iter().flat_map(|inputs| inputs.keys().cloned());
    names.chain(for_each.map(|each| each.item.clone())).collect()
}

fn for_each(reader: &mut Reader<'_, '_>) -> Option<ForEach> {
    let (_, path) = reader.field("for_each")?;
    let text = reader.text("for_each")?;
    let list = source(&text, path, reader.problems())?;
    let item = reader.text("as").unwrap_or_else(|| ITEM.to_owned());
    super::check::input_name(&item, &item_path(reader), reader.problems());
    let words = [
        ("fail_fast", ItemError::FailFast),
        // As for every step.
        ("fail", ItemError::FailFast),
        ("continue", ItemError::Continue),
    ];
    Some(ForEach { list, item, on_error: reader.word("on_error", &words).unwrap_or_default() })
}

fn item_path(reader: &Reader<'_, '_>) -> DocPath {
    key(reader.path(), if reader.has("as") { "as" } else { "for_each" })
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
