//! What the end of a turn means for its run.

use crate::acp::OutputMode;
use crate::acp::session::{Ended, MOST_SAID_BYTES, Said};
use crate::model::{Failure, MOST_VALUES, Outcome, is_too_much};
use agent_client_protocol_schema::v1::{PromptResponse, StopReason};
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::Path;

/// No output file is larger.
const LARGEST_OUTPUT_BYTES: u64 = 16 * 1024 * 1024;

/// What a turn gave, once the agent ended it. Reads the output file, for the mode that has one.
pub(crate) fn of(ended: &Ended, mode: &OutputMode, session: Option<&str>) -> Outcome {
    let result = match ended {
        Ended::Failed(failure) => Err(failure.clone()),
        Ended::Answered { response, said } => match stop(response, said) {
            Err(failure) => Err(failure),
            Ok(()) => outputs(mode, said),
        },
    };
    let (usage, cost_usd) = match ended {
        Ended::Failed(_) => (None, None),
        Ended::Answered { response, said } => {
            (response.get("usage").filter(|usage| usage.is_object()).cloned(), said.cost_usd)
        }
    };
    Outcome { result, usage, cost_usd, session: session.map(str::to_owned) }
}

/// Whether the turn came to its own end.
fn stop(response: &Value, said: &Said) -> Result<(), Failure> {
    let reason = match serde_json::from_value::<PromptResponse>(response.clone()) {
        Ok(response) => response.stop_reason,
        Err(error) => {
            return Err(failure("AgentError", format!("the answer to session/prompt makes no sense: {error}")));
        }
    };
    match reason {
        StopReason::EndTurn => Ok(()),
        StopReason::Refusal => {
            Err(failure("AgentRefused", with_last_words("the agent refused to go on".to_owned(), said)))
        }
        StopReason::Cancelled => Err(failure("AgentCancelled", "the turn was cancelled".to_owned())),
        StopReason::MaxTokens => {
            Err(failure("MaxTokens", with_last_words("the turn reached its limit of tokens".to_owned(), said)))
        }
        StopReason::MaxTurnRequests => {
            let text = "the turn reached its limit of requests to the model".to_owned();
            Err(failure("MaxTurnRequests", with_last_words(text, said)))
        }
        other => {
            Err(failure("AgentError", format!("the agent stopped for a reason that is not known here: {other:?}")))
        }
    }
}

fn outputs(mode: &OutputMode, said: &Said) -> Result<Map<String, Value>, Failure> {
    match mode {
        OutputMode::Effect => Ok(Map::from_iter([("status".to_owned(), json!("completed"))])),
        OutputMode::StreamResult if said.too_much => {
            Err(failure("OutputInvalid", format!("the agent said more than {MOST_SAID_BYTES} bytes")))
        }
        OutputMode::StreamResult => {
            let text = [&said.message, &said.thought].into_iter().find(|text| !text.is_empty());
            match text {
                Some(text) => Ok(Map::from_iter([("result".to_owned(), json!(text))])),
                None => Err(failure("OutputMissing", "the agent ended its turn and said nothing".to_owned())),
            }
        }
        OutputMode::File(path) => output_file(path),
    }
}

fn output_file(path: &Path) -> Result<Map<String, Value>, Failure> {
    let shown = path.display();
    let missing = |error: std::io::Error| {
        failure("OutputMissing", format!("the agent ended its turn without its output file {shown}: {error}"))
    };
    // The agent chose what is there: a FIFO would block us for ever, so look before opening.
    let metadata = std::fs::metadata(path).map_err(missing)?;
    if !metadata.is_file() {
        return Err(failure("OutputInvalid", format!("the output file {shown} is not a file")));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(missing)?;
    file.take(LARGEST_OUTPUT_BYTES + 1).read_to_end(&mut bytes).map_err(missing)?;
    if bytes.len() as u64 > LARGEST_OUTPUT_BYTES {
        return Err(failure(
            "OutputInvalid",
            format!("the output file {shown} is larger than {LARGEST_OUTPUT_BYTES} bytes"),
        ));
    }
    if is_too_much(&bytes) {
        return Err(failure("OutputInvalid", format!("the output file {shown} holds more than {MOST_VALUES} values")));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(failure("OutputInvalid", format!("the output file {shown} holds JSON, but not an object"))),
        Err(error) => Err(failure("OutputInvalid", format!("the output file {shown} is not JSON: {error}"))),
    }
}

/// A failure.
pub(crate) fn failure(reason: &str, message: String) -> Failure {
    Failure { reason: reason.to_owned(), message }
}

fn with_last_words(text: String, said: &Said) -> String {
    const SHOWN_CHARS: usize = 300;
    let words = said.message.trim();
    if words.is_empty() {
        return text;
    }
    let skipped = words.chars().count().saturating_sub(SHOWN_CHARS);
    let tail: String = words.chars().skip(skipped).collect();
    format!("{text}; it said last: {}{tail}", if skipped > 0 { "…" } else { "" })
}
