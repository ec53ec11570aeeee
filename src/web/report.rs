//! What `tenure llm-request` prints, and what that means for its run.

use crate::model::{Exit, Failure, MOST_VALUES, Outcome, is_too_much};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// No report is longer, in bytes: read so much and one more of the transcript.
pub const REPORT_MAX: usize = 16 << 20;

/// One line of JSON on stdout: what came of the request.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The step's outputs, where it has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Map<String, Value>>,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// `inputTokens`, `outputTokens`, `totalTokens`: those that the server told. Of a failure, too: it may have been paid for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Value>,
    /// What it cost, where the server told. None is made up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// The model that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl Report {
    /// The report of a failure without an answer.
    pub(super) fn failed(reason: &str, message: String) -> Report {
        Report { failure: Some(failure(reason, message)), ..Report::default() }
    }
}

pub(super) fn failure(reason: &str, message: String) -> Failure {
    Failure { reason: reason.into(), message }
}

/// The outcome of a run whose request ended so and printed `stdout`. Garbage, half a report, and none are failures.
pub fn outcome(exit: &Exit, stdout: &[u8]) -> Outcome {
    let (report, flaw) = if stdout.len() > REPORT_MAX {
        (None, format!("its stdout is longer than {REPORT_MAX} bytes"))
    } else if is_too_much(stdout) {
        (None, format!("its stdout holds more than {MOST_VALUES} values"))
    } else {
        (serde_json::from_slice::<Report>(stdout).ok(), "its stdout holds no result".to_owned())
    };
    let Report { outputs, failure: told, usage, cost_usd, model: _ } = report.unwrap_or_default();
    let result = match (exit.code, outputs, told) {
        (Some(0), Some(outputs), None) => Ok(outputs),
        (Some(1), None, Some(told)) => Err(told),
        (Some(_), _, _) => Err(failure("ExitStatus", format!("the request ended with {exit}, but {flaw}"))),
        (None, _, _) => Err(failure("ExitStatus", format!("the request ended before it was answered: {exit}"))),
    };
    let usage = usage.filter(Value::is_object);
    Outcome { result, usage, cost_usd: cost_usd.filter(|cost| cost.is_finite() && *cost >= 0.0), session: None }
}
