//! What the end of the work makes of a run.

use super::{World, step};
use crate::flow::{Field, FieldType, finish, fulfil};
use crate::model::{Failure, Outcome, RunPhase};
use serde_json::{Map, Value, json};

fn number() -> Field {
    Field { required: true, r#type: FieldType::Number, min: Some(1.0), max: Some(5.0), ..Field::default() }
}

fn choice() -> Field {
    Field {
        required: true,
        r#type: FieldType::Choice,
        options: vec![json!("approve"), json!("revise")],
        ..Field::default()
    }
}

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn outcome(outputs: Value) -> Outcome {
    Outcome { result: Ok(map(outputs)), usage: Some(json!({"in": 3})), cost_usd: Some(0.5), session: Some("s".into()) }
}

#[test]
fn outputs_are_checked_against_what_is_declared() {
    let cases = [
        (json!({"n": 3, "c": "revise"}), "", ""),
        (json!({"n": 3, "c": "revise", "more": 1}), "", ""),
        (json!({"n": 1, "c": "revise"}), "", ""),
        (json!({"n": 5, "c": "revise"}), "", ""),
        (json!({"c": "revise"}), "OutputMissing", "declared, but not given: `n`"),
        (json!({}), "OutputMissing", "declared, but not given: `c`, `n`"),
        (json!({"n": "3", "c": "revise"}), "OutputInvalid", "`n` must be a number, not `\"3\"`"),
        (json!({"n": 0, "c": "revise"}), "OutputInvalid", "`n` must be at least 1, not `0`"),
        (json!({"n": 9, "c": "revise"}), "OutputInvalid", "`n` must be at most 5, not `9`"),
        (json!({"n": 3, "c": "no"}), "OutputInvalid", "`c` must be one of `approve`, `revise`, not `\"no\"`"),
    ];
    let world = World::started([step("a").gives("n", number()).gives("c", choice())]);
    for (outputs, reason, message) in cases {
        let run = finish(&world.flow, world.run("a.1"), &outcome(outputs.clone()), world.now);
        assert_eq!(run.status.reason.as_deref().unwrap_or(""), reason, "{outputs}");
        assert_eq!(run.status.message.as_deref().unwrap_or(""), message, "{outputs}");
        let phase = if reason.is_empty() { RunPhase::Completed } else { RunPhase::Failed };
        assert_eq!(run.status.phase, phase);
        assert_eq!((run.status.cost_usd, run.status.session.as_deref()), (Some(0.5), Some("s")));
        assert_eq!((run.status.usage, run.status.finished_at), (Some(json!({"in": 3})), Some(world.now)));
    }
}

#[test]
fn a_missing_output_with_a_default_has_it() {
    let world = World::started([step("a").gives("n", Field { default: Some(json!(2)), ..number() })]);
    let run = finish(&world.flow, world.run("a.1"), &outcome(json!({})), world.now);
    assert_eq!(json!(run.status.outputs), json!({"n": 2}));
}

#[test]
fn a_sensitive_value_is_not_shown() {
    let world = World::started([step("a").gives("n", Field { sensitive: true, ..number() })]);
    let run = finish(&world.flow, world.run("a.1"), &outcome(json!({"n": "hunter2"})), world.now);
    assert!(!run.status.message.unwrap().contains("hunter2"));
}

#[test]
fn a_failure_keeps_its_reason() {
    let world = World::started([step("a")]);
    let failure = Failure { reason: "WorkloadLost".into(), message: "the shim died".into() };
    let outcome = Outcome { result: Err(failure), usage: None, cost_usd: None, session: None };
    let status = finish(&world.flow, world.run("a.1"), &outcome, world.now).status;
    let seen = (status.phase, status.reason.as_deref(), status.message.as_deref());
    assert_eq!(seen, (RunPhase::Failed, Some("WorkloadLost"), Some("the shim died")));
}

#[test]
fn a_run_that_cost_too_much_fails() {
    let mut dear = step("a");
    dear.limits.max_cost_usd = Some(0.4);
    let world = World::started([dear]);
    let run = finish(&world.flow, world.run("a.1"), &outcome(json!({})), world.now);
    assert_eq!(run.status.reason.as_deref(), Some("CostLimitExceeded"));
    assert_eq!(run.status.cost_usd, Some(0.5));
}

#[test]
fn a_run_that_was_cancelled_stays_so() {
    let mut world = World::started([step("a")]);
    world.runs[0].status.phase = RunPhase::Cancelled;
    assert_eq!(finish(&world.flow, &world.runs[0], &outcome(json!({})), world.now), world.runs[0]);
}

#[test]
fn an_answer_from_a_command_line_is_typed_and_checked() {
    let bool = Field { required: true, r#type: FieldType::Bool, ..Field::default() };
    let ask = step("ask").asks("?").gives("n", number()).gives("c", choice()).gives("b", bool);
    let world = World::started([ask]);
    let answer = |outputs: Value| fulfil(&world.flow, world.run("ask.1"), map(outputs), world.now);
    let run = answer(json!({"n": "2", "c": "approve", "b": "yes"})).unwrap();
    assert_eq!(run.status.phase, RunPhase::Completed);
    assert_eq!(json!(run.status.outputs), json!({"n": 2, "c": "approve", "b": true}));
    let wrong = answer(json!({"n": "many", "c": "maybe"})).unwrap_err();
    assert_eq!(
        wrong,
        [
            "`b` is missing",
            "`c` must be one of `approve`, `revise`, not `\"maybe\"`",
            "`n` must be a number, not `\"many\"`",
        ]
    );
    let again = fulfil(&world.flow, &run, Map::new(), world.now).unwrap_err();
    assert_eq!(again, ["run `j.ask.1` is Completed: only a Suspended run takes an answer"]);
}

#[test]
fn an_output_that_is_not_required_may_be_missing_or_null() {
    let world = World::started([step("a").gives("n", Field { required: false, ..number() })]);
    let cases = [
        (json!({}), RunPhase::Completed),
        (json!({"n": null}), RunPhase::Completed),
        (json!({"n": "x"}), RunPhase::Failed),
    ];
    for (outputs, phase) in cases {
        let run = finish(&world.flow, world.run("a.1"), &outcome(outputs.clone()), world.now);
        assert_eq!(run.status.phase, phase, "{outputs}");
    }
}
