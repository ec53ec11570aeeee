//! What the agent's answers to our questions mean. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::model::Failure;
use agent_client_protocol_schema::ProtocolVersion;
use agent_client_protocol_schema::v1::{
    AgentCapabilities, Error, ErrorCode, InitializeResponse, NewSessionResponse, ResumeSessionResponse,
    SessionConfigOptionCategory,
};
use serde_json::Value;

/// A session.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The agent's name for it.
    pub(crate) session: String,
    /// The id of the option that chooses a model, where there is one.
    pub(crate) model_option: Option<String>,
}

/// What the agent can do; the error says why we do not get along.
pub(crate) fn handshake(result: Result<Value, Error>) -> Result<AgentCapabilities, String> {
    let result =
        result.map_err(|error| format!("the agent answered initialize with an error: {}", in_words(&error)))?;
    let response: InitializeResponse = serde_json::from_value(result)
        .map_err(|error| format!("the agent's answer to initialize makes no sense: {error}"))?;
    if response.protocol_version != ProtocolVersion::V1 {
        return Err(format!("the agent speaks version {} of ACP, not 1", response.protocol_version));
    }
    Ok(response.agent_capabilities)
}

/// The session that was asked for. `resumed`: it is that one, which its answer does not name.
pub(crate) fn opened(result: Result<Value, Error>, resumed: Option<String>) -> Result<Opened, Failure> {
    let result = result.map_err(|error| agent_error("a session", &error))?;
    let nonsense = |error: serde_json::Error| Failure {
        reason: "AgentError".to_owned(),
        message: format!("the agent's answer to the request for a session makes no sense: {error}"),
    };
    let (session, options) = match resumed {
        Some(session) => {
            let response: ResumeSessionResponse = serde_json::from_value(result).map_err(nonsense)?;
            (session, response.config_options)
        }
        None => {
            let response: NewSessionResponse = serde_json::from_value(result).map_err(nonsense)?;
            (response.session_id.0.to_string(), response.config_options)
        }
    };
    let options = options.unwrap_or_default();
    let model = options
        .iter()
        .find(|option| option.category == Some(SessionConfigOptionCategory::Model))
        .or_else(|| options.iter().find(|option| &*option.id.0 == "model"));
    Ok(Opened { session, model_option: model.map(|option| option.id.0.to_string()) })
}

/// The session that is a fork of another.
pub(crate) fn forked(result: Result<Value, Error>) -> Result<Opened, Failure> {
    match result {
        Err(error) if error.code == ErrorCode::MethodNotFound => Err(fork_unsupported()),
        Err(error) => Err(agent_error("a fork of a session", &error)),
        Ok(result) => opened(Ok(result), None),
    }
}

/// Why there is no fork, and what to do.
pub(crate) fn fork_unsupported() -> Failure {
    Failure {
        reason: "ForkUnsupported".to_owned(),
        message: "the agent can not fork a session; share a `session` between the steps instead of `fork_from`, or \
                  choose another `agent`"
            .to_owned(),
    }
}

/// An error that a question was answered with.
pub(crate) fn agent_error(what: &str, error: &Error) -> Failure {
    let message = format!("the agent answered the request for {what} with an error: {}", in_words(error));
    Failure {
        reason: if error.code == ErrorCode::AuthRequired { "AuthRequired" } else { "AgentError" }.to_owned(),
        message,
    }
}

/// An error with its details, where they are short.
fn in_words(error: &Error) -> String {
    let details = error.data.as_ref().map(|data| match data.get("details").unwrap_or(data) {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    match details {
        Some(details) if details.len() <= 500 => format!("{} ({details})", error.message),
        _ => error.message.clone(),
    }
}
