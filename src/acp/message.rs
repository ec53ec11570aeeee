//! JSON-RPC lines: what they are, and how ours are made. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::model::{MOST_VALUES, is_too_much};
use agent_client_protocol_schema::rpc::{JsonRpcMessage, Notification};
use agent_client_protocol_schema::v1::{CLIENT_METHOD_NAMES, Error, ErrorCode, Request, RequestId, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;

/// One line, of either side.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Line {
    /// A question.
    Request { id: RequestId, method: String, params: Value },
    /// The answer to a question of the other side.
    Response { id: RequestId, result: Result<Value, Error> },
    /// No answer is expected.
    Notification { method: String, params: Value },
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(default, deserialize_with = "present")]
    id: Option<RequestId>,
    method: Option<String>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// As much of an update as says whether anybody wants the rest.
#[derive(Deserialize)]
struct Update<'a> {
    #[serde(borrow)]
    update: UpdateKind<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateKind<'a> {
    #[serde(borrow)]
    session_update: Cow<'a, str>,
}

/// The updates that are heard.
const HEARD: [&str; 3] = ["agent_message_chunk", "agent_thought_chunk", "usage_update"];

/// `"id": null` and `"result": null` are there; a missing key is not.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Line {
    /// What a line says; the error is for a log.
    pub(crate) fn parse(line: &[u8]) -> Result<Line, String> {
        let raw: Raw = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        match raw {
            Raw { id: Some(id), method: Some(method), params, .. } => {
                // What cannot be unpacked is answered all the same: that the parameters make no sense.
                Ok(Line::Request { id, params: unpacked(params).unwrap_or_default(), method })
            }
            Raw { id: None, method: Some(method), params, .. } => {
                let wanted = params.filter(|params| is_wanted(&method, params));
                Ok(Line::Notification { params: unpacked(wanted)?, method })
            }
            Raw { id: Some(id), error: Some(error), .. } => Ok(Line::Response { id, result: Err(error_of(error)) }),
            Raw { id: Some(id), result: Some(result), .. } => {
                let result = unpacked(Some(result)).map_err(|why| error(ErrorCode::InternalError, why));
                Ok(Line::Response { id, result })
            }
            // It is an answer all the same, and somebody waits for it.
            Raw { id: Some(id), .. } if id != RequestId::Null => {
                let message = "an answer without a result and without an error";
                Ok(Line::Response { id, result: Err(self::error(ErrorCode::InternalError, message)) })
            }
            _ => Err("neither a request, nor a response, nor a notification".to_owned()),
        }
    }
}

/// Tool calls and the like are most of what an agent says, and nobody here asks for them.
fn is_wanted(method: &str, params: &RawValue) -> bool {
    if method != CLIENT_METHOD_NAMES.session_update {
        return true;
    }
    let kind = serde_json::from_str::<Update<'_>>(params.get()).ok();
    kind.is_some_and(|it| HEARD.contains(&&*it.update.session_update))
}

fn unpacked(raw: Option<&RawValue>) -> Result<Value, String> {
    let Some(raw) = raw else { return Ok(Value::Null) };
    if is_too_much(raw.get().as_bytes()) {
        return Err(format!("it holds more than {MOST_VALUES} values"));
    }
    serde_json::from_str(raw.get()).map_err(|error| error.to_string())
}

/// An error, whatever its form: that it is one is what counts.
fn error_of(raw: &RawValue) -> Error {
    let known = unpacked(Some(raw)).and_then(|value| serde_json::from_value(value).map_err(|error| error.to_string()));
    known.unwrap_or_else(|_| {
        let shown: String = raw.get().chars().take(200).collect();
        error(ErrorCode::InternalError, format!("an error that makes no sense: {shown}"))
    })
}

/// A message of ours: the line without its newline.
pub(crate) type Outgoing = String;

/// A question of ours.
pub(crate) fn request(id: &str, method: &str, params: impl Serialize) -> Outgoing {
    line(Request { id: RequestId::Str(id.to_owned()), method: Arc::from(method), params: Some(params) })
}

/// A notification of ours.
pub(crate) fn notification(method: &str, params: impl Serialize) -> Outgoing {
    line(Notification { method: Arc::from(method), params: Some(params) })
}

/// An answer of ours.
pub(crate) fn response(id: &RequestId, result: Result<Value, Error>) -> Outgoing {
    line(Response::new(id.clone(), result))
}

#[expect(
    clippy::expect_used,
    reason = "the protocol's types and JSON values have text keys only; they always serialise"
)]
fn line(message: impl Serialize) -> Outgoing {
    serde_json::to_string(&JsonRpcMessage::wrap(message)).expect("protocol types serialise")
}

/// An id as a key.
pub(crate) fn key(id: &RequestId) -> String {
    match id {
        RequestId::Null => "null".to_owned(),
        RequestId::Number(number) => number.to_string(),
        RequestId::Str(text) => format!("\"{text}\""),
    }
}

/// An error with the text that the agent's user will see.
pub(crate) fn error(code: ErrorCode, message: impl Into<String>) -> Error {
    Error::new(i32::from(code), message)
}
