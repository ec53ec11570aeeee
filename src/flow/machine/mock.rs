//! A model that answers by chance: from a hash of who asks, so that the same try of the same run has the same luck.

use crate::flow::{Field, MockStep};
use crate::model::{Failure, Outcome, StepRun};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the present try takes.
pub(super) fn latency(mock: &MockStep, run: &StepRun) -> Duration {
    let (least, most) = mock.latency;
    least + most.saturating_sub(least).mul_f64(chance(run, "latency"))
}

/// What it comes to.
pub(super) fn outcome(mock: &MockStep, declared: &BTreeMap<String, Field>, run: &StepRun) -> Outcome {
    if chance(run, "failure") < mock.failure_rate {
        let message = format!("it fails {} of 100 times (`failure_rate`)", mock.failure_rate * 100.0);
        return Outcome::of(Err(Failure { reason: "MockFailure".into(), message }));
    }
    // Either the outputs, or by step the outputs.
    let by_step = mock.responses.get(&run.spec.step).and_then(Value::as_object);
    let given = by_step.unwrap_or(&mock.responses);
    let answer = |(name, field): (&String, &Field)| {
        let value = given.get(name).cloned().or_else(|| field.default.clone());
        (name.clone(), value.unwrap_or_else(|| json!(format!("mock {name}"))))
    };
    let mut outputs: Map<String, Value> = match (declared.is_empty(), given.is_empty()) {
        (false, _) => declared.iter().map(answer).collect(),
        (true, false) => given.clone(),
        (true, true) => Map::from_iter([("response".to_owned(), json!("mock response"))]),
    };
    if chance(run, "partial") < mock.partial_rate {
        let last = outputs.keys().next_back().cloned();
        last.map(|name| outputs.shift_remove(&name));
    }
    Outcome::of(Ok(outputs))
}

/// From 0 to 1, without 1.
fn chance(run: &StepRun, what: &str) -> f64 {
    let tries = run.status.tries.len();
    let who = format!("{what}\0{}\0{}\0{}\0{tries}", run.spec.job_uid, run.spec.step, run.spec.attempt);
    let hash = Sha256::digest(who.as_bytes());
    let number = hash.iter().take(4).fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
    f64::from(number) / (f64::from(u32::MAX) + 1.0)
}
