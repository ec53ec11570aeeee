//! What is looked at again and again, and what answers by chance.

use super::{World, step};
use crate::flow::{Decorator, Executor, Field, MockStep, PollStep, Step, fulfil, next_wake};
use crate::model::{JobPhase, RunPhase, Time};
use serde_json::{Map, Value, json};
use std::time::Duration;

fn poll() -> Step {
    let interval = Duration::from_secs(10);
    step("a").by(Executor::Poll(PollStep { check_command: "check".into(), interval, prompt: Some("a build".into()) }))
}

/// What a check that finds nothing prints.
fn silence() -> Value {
    json!({"stdout": ""})
}

fn world(step: Step) -> World {
    let mut world = World::new([step]);
    world.now = Time(0);
    world.pass();
    world
}

fn status(world: &World) -> (RunPhase, &str, &str) {
    let status = &world.run("a.1").status;
    (status.phase, status.reason.as_deref().unwrap_or(""), status.message.as_deref().unwrap_or(""))
}

fn wake(world: &World) -> Option<i64> {
    next_wake(&world.flow, &world.job, &world.runs, world.now).map(|time| time.0)
}

#[test]
fn a_poll_checks_at_once_and_then_by_its_schedule_which_a_late_check_does_not_shift() {
    let mut world = world(poll());
    assert_eq!(world.begin(), ["a.1"]);
    assert_eq!(status(&world), (RunPhase::Running, "", ""));
    world.at(3_000).done("a", silence());
    assert_eq!(status(&world), (RunPhase::Suspended, "Polling", "a build"));
    assert_eq!((world.run("a.1").status.workload.as_ref(), wake(&world)), (None, Some(10_000)));
    assert!(world.at(9_999).begin().is_empty());
    // A late check, and one that is so late that others are missed.
    assert_eq!(world.at(14_000).begin(), ["a.1"]);
    world.done("a", silence());
    assert_eq!(wake(&world), Some(20_000));
    world.at(20_000).begin();
    world.at(47_000).done("a", silence());
    assert_eq!(wake(&world), Some(50_000));
    world.at(50_000).begin();
    world.done("a", json!({"found": 1}));
    assert_eq!(status(&world), (RunPhase::Completed, "", ""));
    assert_eq!(world.run("a.1").status.started_at, Some(Time(0)));
    world.job_is(JobPhase::Succeeded, "");
}

#[test]
fn a_check_that_fails_is_noted_and_tried_again() {
    let mut world = world(poll());
    world.begin();
    world.fails("a");
    assert_eq!(status(&world), (RunPhase::Suspended, "CheckFailed", "ExitStatus: exit status 1"));
    world.at(10_000).begin();
    assert_eq!(status(&world), (RunPhase::Running, "", ""));
    world.done("a", json!({"stdout": "no JSON"}));
    assert_eq!(
        status(&world),
        (RunPhase::Suspended, "CheckFailed", "the check printed something that is no JSON object")
    );
    world.at(20_000).begin();
    world.done("a", json!({"stdout": "\n"}));
    assert_eq!(status(&world), (RunPhase::Suspended, "Polling", "a build"));
}

#[test]
fn an_object_ends_the_waiting_even_if_there_is_nothing_in_it() {
    let mut world = world(poll());
    world.begin();
    world.done("a", json!({}));
    assert_eq!(status(&world), (RunPhase::Completed, "", ""));
}

#[test]
fn what_a_poll_finds_is_checked_like_all_outputs() {
    let mut world = world(poll().gives("found", Field { required: true, ..Field::default() }));
    world.begin();
    world.done("a", json!({"other": 1}));
    assert_eq!(status(&world).1, "OutputMissing");
}

#[test]
fn a_poll_has_its_time_also_between_two_checks_and_takes_no_answer_of_a_person() {
    let mut step = poll().within([Decorator::Timeout(Duration::from_secs(15))]);
    step.limits.max_duration = Some(Duration::from_secs(60));
    let mut world = world(step);
    world.begin();
    world.done("a", silence());
    assert!(fulfil(&world.flow, world.run("a.1"), Map::new(), world.now).is_err());
    assert_eq!(wake(&world), Some(10_000));
    world.at(10_000).begin();
    world.done("a", silence());
    assert_eq!((world.run("a.1").status.tries.len(), wake(&world)), (1, Some(15_000)), "the checks are one try");
    world.at(15_000);
    assert_eq!(status(&world).1, "Timeout");
}

fn mock(mock: MockStep) -> Step {
    step("a").by(Executor::Mock(mock)).gives("v", Field { required: true, ..Field::default() })
}

#[test]
fn a_mock_answers_when_its_time_has_come_by_itself() {
    let latency = (Duration::from_secs(2), Duration::from_secs(4));
    let mut world = world(mock(MockStep { latency, ..MockStep::default() }));
    assert_eq!(world.begin(), ["a.1"]);
    let due = wake(&world).unwrap();
    assert!((2_000..=4_000).contains(&due), "{due}");
    assert!(world.at(due - 1).pass().is_empty());
    assert_eq!(status(&world), (RunPhase::Running, "", ""));
    world.at(due);
    assert_eq!(json!(world.run("a.1").status.outputs), json!({"v": "mock v"}));
    world.job_is(JobPhase::Succeeded, "");
    assert!(world.pass().is_empty());
}

#[test]
fn a_mock_has_the_luck_of_its_run_and_try() {
    let ended = |uid: &str, mock_step: MockStep, decorators: Vec<Decorator>| {
        let mut world = World::new([mock(mock_step).within(decorators)]);
        world.job.metadata.uid = uid.into();
        world.pass();
        while !world.begin().is_empty() {
            world.pass();
        }
        let run = world.run("a.1");
        assert!(run.status.phase.is_final());
        (run.status.reason.clone().unwrap_or_default(), run.status.tries.len(), run.status.outputs.clone())
    };
    let failing = |failure_rate| MockStep { failure_rate, ..MockStep::default() };
    assert_eq!(ended("u", failing(0.0), Vec::new()).0, "");
    assert_eq!(ended("u", failing(1.0), Vec::new()).0, "MockFailure");
    assert_eq!(ended("u", MockStep { partial_rate: 1.0, ..MockStep::default() }, Vec::new()).0, "OutputMissing");
    let uids = (0..100).map(|n| n.to_string());
    let failed = uids.filter(|uid| ended(uid, failing(0.3), Vec::new()).0 == "MockFailure").count();
    assert!((15..45).contains(&failed), "{failed} of 100");
    let retried = || {
        let retry = Decorator::Retry { max_retries: 40, backoff: Default::default() };
        ended("u", failing(0.9), vec![retry])
    };
    assert_eq!(retried(), retried(), "the same each time");
    let (reason, tries, _) = retried();
    assert!(reason.is_empty() && tries > 1, "another try has other luck: {tries}");
}

#[test]
fn a_mock_gives_what_it_is_told_to_by_output_or_by_step() {
    let given = |responses| {
        let mut world = world(mock(MockStep { responses, ..MockStep::default() }));
        world.begin();
        world.pass();
        json!(world.run("a.1").status.outputs)
    };
    let map = |value: serde_json::Value| value.as_object().unwrap().clone();
    assert_eq!(given(map(json!({"v": 7}))), json!({"v": 7}));
    assert_eq!(given(map(json!({"a": {"v": 8}, "b": {"v": 9}}))), json!({"v": 8}));
}
