//! What the body of an answer means; pure.

use super::report::{Report, failure};
use super::request::{ChatRequest, OutputType, TEXT_OUTPUT, TOOL};
use crate::model::{Failure, MOST_VALUES, is_too_much};
use serde_json::{Map, Value};

/// How much of what others said is shown.
const SHOWN_CHARS: usize = 500;

/// The server says that something went wrong; some say so with status 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    /// The status that it would be.
    pub status: Option<u16>,
    /// In its words.
    pub message: String,
}

/// What the model answered, from the body of a response; that it refused to, or made no sense, is in the report.
pub(super) fn read(request: &ChatRequest, body: &[u8]) -> Result<Report, Complaint> {
    if is_too_much(body) {
        return Ok(invalid(format!("the answer holds more than {MOST_VALUES} values")));
    }
    let body: Value = match serde_json::from_slice(body) {
        Ok(body) => body,
        Err(error) => {
            return Ok(invalid(with_words(&format!("the answer is not JSON ({error})"), &shown(body))));
        }
    };
    let choice = &body["choices"][0];
    if let Some(error) = [&body["error"], &choice["error"]].into_iter().find(|error| !error.is_null()) {
        let status = error["code"].as_u64().and_then(|code| u16::try_from(code).ok());
        return Err(Complaint { status, message: error_message(error) });
    }
    let (outputs, failure) = match outputs(request, choice) {
        Ok(outputs) => (Some(outputs), None),
        Err(failure) => (None, Some(failure)),
    };
    Ok(Report {
        outputs,
        failure,
        usage: usage(&body["usage"]),
        cost_usd: body["usage"]["cost"].as_f64().filter(|cost| cost.is_finite() && *cost >= 0.0),
        model: body["model"].as_str().map(str::to_owned),
    })
}

/// What the server says is wrong, from the body of a response with a status that is no success.
pub(super) fn complaint(body: &[u8]) -> String {
    if is_too_much(body) {
        return String::new();
    }
    match serde_json::from_slice::<Value>(body) {
        Ok(value) if !value["error"].is_null() => error_message(&value["error"]),
        Ok(value) if value.is_object() => error_message(&value),
        Ok(_) | Err(_) => shown(body),
    }
}

fn error_message(error: &Value) -> String {
    let text = [error, &error["message"], &error["detail"]].into_iter().find_map(Value::as_str);
    let text = text.map_or_else(|| error.to_string(), str::to_owned);
    // OpenRouter says "Provider returned error", and here what the provider said.
    match error["metadata"]["raw"].as_str() {
        Some(raw) => shown(format!("{text}: {raw}").as_bytes()),
        None => shown(text.as_bytes()),
    }
}

fn outputs(request: &ChatRequest, choice: &Value) -> Result<Map<String, Value>, Failure> {
    let message = &choice["message"];
    if !message.is_object() {
        return Err(failure("LlmAnswerInvalid", "the answer holds no message of the model".into()));
    }
    let content = text(&message["content"]);
    let content = content.trim();
    let finish = choice["finish_reason"].as_str().unwrap_or_default();
    let refusal = message["refusal"].as_str().filter(|text| !text.is_empty());
    if refusal.is_some() || finish == "content_filter" {
        let words = shown(refusal.unwrap_or(content).as_bytes());
        return Err(failure("LlmRefused", with_words("the model refused to answer", &words)));
    }
    let found = if request.wants_text() { None } else { called(message).or_else(|| object_within(content)) };
    if let Some(outputs) = found {
        return Ok(outputs);
    }
    if finish == "length" {
        let what = "the answer was cut off at the limit of tokens; raise `max_tokens`, or ask for less";
        return Err(failure("LlmTruncated", what.into()));
    }
    if content.is_empty() {
        let what = if finish.is_empty() { String::new() } else { format!(" (finish_reason: {finish})") };
        return Err(failure("LlmAnswerInvalid", format!("the answer is empty{what}")));
    }
    if request.wants_text() {
        return Ok(Map::from_iter([(TEXT_OUTPUT.to_owned(), content.into())]));
    }
    // A model that was asked for one thing, and says it without ceremony.
    if let Some((name, schema)) = request.outputs.first_key_value().filter(|_| request.outputs.len() == 1) {
        let is_text = !matches!(schema.r#type, OutputType::Number | OutputType::Bool);
        let value = if is_text { None } else { serde_json::from_str(content).ok() };
        return Ok(Map::from_iter([(name.clone(), value.unwrap_or_else(|| content.into()))]));
    }
    let words = shown(content.as_bytes());
    Err(failure("LlmAnswerInvalid", with_words("the answer holds neither a tool call nor a JSON object", &words)))
}

/// The arguments of the tool call: text with JSON in it, or (some servers) the JSON itself.
fn called(message: &Value) -> Option<Map<String, Value>> {
    let calls = message["tool_calls"].as_array()?;
    let call = calls.iter().map(|call| &call["function"]).find(|function| function["name"] == TOOL)?;
    match &call["arguments"] {
        Value::Object(arguments) => Some(arguments.clone()),
        Value::String(text) => object(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
}

/// The JSON object that a text is, or that stands in it: in a fence, or among prose.
fn object_within(text: &str) -> Option<Map<String, Value>> {
    let fenced = text.split("```").skip(1).step_by(2).filter_map(|block| {
        let block = block.trim_start_matches(|c: char| c.is_alphanumeric());
        object(block)
    });
    let braced = || object(text.get(text.find('{')?..=text.rfind('}')?)?);
    object(text).or_else(|| fenced.last()).or_else(braced)
}

fn object(text: &str) -> Option<Map<String, Value>> {
    if is_too_much(text.as_bytes()) {
        return None;
    }
    serde_json::from_str(text.trim()).ok()
}

/// The text of a message, whole or in parts.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

fn usage(told: &Value) -> Option<Value> {
    let names =
        [("prompt_tokens", "inputTokens"), ("completion_tokens", "outputTokens"), ("total_tokens", "totalTokens")];
    let counts: Map<String, Value> =
        names.into_iter().filter_map(|(theirs, ours)| Some((ours.to_owned(), told[theirs].as_u64()?.into()))).collect();
    (!counts.is_empty()).then(|| counts.into())
}

fn invalid(message: String) -> Report {
    Report::failed("LlmAnswerInvalid", message)
}

pub(super) fn with_words(what: &str, words: &str) -> String {
    if words.is_empty() { what.to_owned() } else { format!("{what}: {words}") }
}

/// The begin of what others said, on one line, without what could steer a terminal.
fn shown(bytes: &[u8]) -> String {
    let bytes = bytes.get(..SHOWN_CHARS * 8).unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    let line = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = line.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}
