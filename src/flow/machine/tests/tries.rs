//! What is wrapped around the work of a step.

use super::{World, step};
use crate::flow::{Backoff, Decorator, Executor, Field, Idempotency, Step, Task, next_wake, task};
use crate::model::{Failure, JobPhase, Outcome, Part, RunPhase, Time};
use serde_json::json;
use std::time::Duration;

fn timeout(seconds: u64) -> Decorator {
    Decorator::Timeout(Duration::from_secs(seconds))
}

fn retry(max_retries: u32) -> Decorator {
    Decorator::Retry { max_retries, backoff: Backoff::None }
}

fn backing_off(max_retries: u32) -> Decorator {
    Decorator::Retry { max_retries, backoff: Backoff::Exponential }
}

fn fallback(command: &str) -> Decorator {
    Decorator::Fallback(Box::new(Executor::Script(command.into())))
}

fn hook() -> Decorator {
    Decorator::Notification { webhook_url: "http://localhost/$who".into() }
}

/// A world at second 0, with one step within these, whose work has begun.
fn begun(decorators: impl IntoIterator<Item = Decorator>) -> World {
    begun_step(step("a").within(decorators))
}

fn begun_step(step: Step) -> World {
    let mut world = World::new([step]);
    world.now = Time(0);
    world.pass();
    world.begin();
    world
}

/// What was tried, and how each ended: `work ok, fallback Timeout, …`; `…` is under way.
fn tried(world: &World) -> String {
    let tries = world.run("a.1").status.tries.iter().map(|it| {
        let part = match it.part {
            Part::Work => "work",
            Part::Fallback(_) => "fallback",
            Part::Notification(_) => "post",
        };
        match (&it.failure, it.finished_at) {
            (Some(failure), _) => format!("{part} {}", failure.reason),
            (None, Some(_)) => format!("{part} ok"),
            (None, None) => format!("{part} …"),
        }
    });
    tries.collect::<Vec<_>>().join(", ")
}

/// The phase and the reason of the run.
fn is(world: &World) -> (RunPhase, &str) {
    let status = &world.run("a.1").status;
    (status.phase, status.reason.as_deref().unwrap_or(""))
}

fn wake(world: &World) -> Option<i64> {
    next_wake(&world.flow, &world.job, &world.runs, world.now).map(|time| time.0)
}

#[test]
fn a_retry_tries_the_same_run_again_and_nobody_downstream_sees_it() {
    let mut world = World::started([step("a").within([retry(2)]), step("b").input("x", "a.v")]);
    for _ in 0..2 {
        assert_eq!(world.begin(), ["a.1"]);
        assert!(world.run("a.1").status.workload.is_some());
        world.fails("a");
        assert_eq!(is(&world), (RunPhase::Pending, "Retrying"));
        assert_eq!(world.run("a.1").status.workload, None, "what is between two tries has no process");
        assert_eq!(world.moving(), ["a.1"]);
    }
    assert_eq!(world.run("a.1").status.message.as_deref(), Some("after try 2: ExitStatus: exit status 1"));
    world.begin();
    world.done("a", json!({"v": 3}));
    assert_eq!(is(&world), (RunPhase::Completed, ""));
    assert_eq!(tried(&world), "work ExitStatus, work ExitStatus, work ok");
    assert_eq!(world.run("b.1").spec.inputs["x"], json!(3));
    assert_eq!(world.run("a.1").status.started_at, world.run("a.1").status.tries.first().map(|it| it.started_at));
}

#[test]
fn after_the_last_retry_the_last_failure_is_the_runs() {
    let mut world = begun([retry(1)]);
    world.fails("a");
    world.begin();
    world.end("a", Err(Failure { reason: "OutputInvalid".into(), message: "bad".into() }));
    world.pass();
    assert_eq!(is(&world), (RunPhase::Failed, "OutputInvalid"));
    world.job_is(JobPhase::Failed, "StepFailed");
}

#[test]
fn an_exponential_backoff_doubles_up_to_a_minute_and_says_when() {
    let mut world = begun([backing_off(9)]);
    let mut now = 0;
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        world.fails("a");
        assert_eq!(wake(&world), Some(now + seconds * 1000));
        now += seconds * 1000;
        assert!(world.at(now - 1).begin().is_empty(), "not before it is due");
        assert_eq!(world.at(now).begin(), ["a.1"]);
        assert_eq!(wake(&world), None);
    }
}

#[test]
fn what_a_second_try_can_not_mend_is_not_tried_again() {
    let non_retriable = || Step { idempotency: Idempotency::NonRetriable, ..step("a").within([retry(3)]) };
    let mut world = begun_step(non_retriable());
    world.fails("a");
    assert_eq!(is(&world), (RunPhase::Failed, "ExitStatus"));
    for idempotency in [Idempotency::Idempotent, Idempotency::AllowRestart, Idempotency::RetriableWithGuard] {
        let mut world = begun_step(Step { idempotency, ..non_retriable() });
        world.fails("a");
        assert_eq!(is(&world), (RunPhase::Pending, "Retrying"));
    }
    for reason in ["ClassMissing", "ClassInvalid", "PromptMissing", "DerivedOutputInvalid"] {
        let mut world = begun([retry(3)]);
        world.end("a", Err(Failure { reason: reason.into(), message: "no".into() }));
        assert_eq!(is(&world), (RunPhase::Failed, reason));
    }
}

#[test]
fn a_try_that_takes_too_long_fails_the_run_and_says_how_long_it_had() {
    let mut world = begun([timeout(5)]);
    assert_eq!(wake(&world), Some(5_000));
    world.at(4_999);
    assert_eq!(is(&world), (RunPhase::Running, ""));
    world.at(5_000);
    assert_eq!(is(&world), (RunPhase::Failed, "Timeout"));
    assert_eq!(world.run("a.1").status.message.as_deref(), Some("it took longer than 5 s (`timeout`)"));
    assert_eq!(tried(&world), "work Timeout");
}

#[test]
fn a_retry_around_a_timeout_gives_each_try_its_time() {
    let mut world = begun([retry(1), timeout(5)]);
    world.at(6_000);
    assert_eq!(is(&world), (RunPhase::Pending, "Retrying"));
    assert_eq!((world.run("a.1").status.workload.as_ref(), wake(&world)), (None, None));
    world.begin();
    assert_eq!(wake(&world), Some(11_000));
    world.at(11_000);
    assert_eq!(is(&world), (RunPhase::Failed, "Timeout"));
    assert_eq!(tried(&world), "work Timeout, work Timeout");
}

#[test]
fn a_timeout_around_a_retry_bounds_all_tries_together() {
    let mut world = begun([timeout(5), retry(9)]);
    world.at(3_000).fails("a");
    world.begin();
    assert_eq!(wake(&world), Some(5_000));
    world.at(5_000);
    assert_eq!((is(&world), tried(&world).as_str()), ((RunPhase::Failed, "Timeout"), "work ExitStatus, work Timeout"));
    // A retry that can not begin in time is not waited for.
    let mut world = begun([timeout(5), backing_off(9)]);
    world.at(4_500).fails("a");
    assert_eq!(is(&world), (RunPhase::Failed, "Timeout"));
}

#[test]
fn the_time_runs_out_also_while_a_retry_waits_for_a_place() {
    let mut world = begun([timeout(5), retry(9)]);
    world.at(3_000).fails("a");
    assert_eq!((is(&world), wake(&world)), ((RunPhase::Pending, "Retrying"), Some(5_000)));
    world.at(5_000);
    assert_eq!(is(&world), (RunPhase::Failed, "Timeout"));

    // What follows then is the fallback's, and an outer retry's is a try of its own.
    let mut world = begun([fallback("plan-b"), timeout(5), retry(9)]);
    world.at(3_000).fails("a");
    world.at(7_000);
    assert_eq!((is(&world), wake(&world)), ((RunPhase::Pending, "FallingBack"), None));
    assert!(world.pass().is_empty());
    world.begin();
    assert_eq!(tried(&world), "work ExitStatus, fallback …");
    world.ok("a");
    assert_eq!(is(&world), (RunPhase::Completed, ""));

    let mut world = begun([retry(1), timeout(5), retry(9)]);
    world.at(3_000).fails("a");
    world.at(7_000).begin();
    assert_eq!((tried(&world).as_str(), wake(&world)), ("work ExitStatus, work …", Some(12_000)));
    world.at(12_000);
    assert_eq!(is(&world), (RunPhase::Failed, "Timeout"));
}

#[test]
fn of_two_timeouts_the_one_that_is_due_first_holds() {
    let mut world = begun([timeout(8), retry(9), timeout(5)]);
    assert_eq!(wake(&world), Some(5_000));
    world.at(5_000).begin();
    assert_eq!((tried(&world).as_str(), wake(&world)), ("work Timeout, work …", Some(8_000)));
    world.at(8_000);
    assert_eq!(is(&world), (RunPhase::Failed, "Timeout"));
    assert_eq!(world.run("a.1").status.message.as_deref(), Some("it took longer than 8 s (`timeout`)"));
}

#[test]
fn a_fallback_does_the_work_of_what_failed_and_its_outputs_are_checked_alike() {
    let step = step("a").gives("v", Field { required: true, ..Field::default() });
    let mut world = begun_step(step.within([fallback("plan-b"), retry(1)]));
    world.fails("a");
    world.begin();
    world.fails("a");
    assert_eq!(is(&world), (RunPhase::Pending, "FallingBack"));
    world.begin();
    let now = task(&world.flow, world.run("a.1"));
    assert_eq!(now, Some(Task::Work(&Executor::Script("plan-b".into()))));
    let mut other = world.clone();
    world.done("a", json!({"v": 1}));
    assert_eq!(is(&world), (RunPhase::Completed, ""));
    assert_eq!(tried(&world), "work ExitStatus, work ExitStatus, fallback ok");
    other.ok("a");
    assert_eq!(is(&other), (RunPhase::Failed, "OutputMissing"));
}

#[test]
fn a_run_that_cost_too_much_is_not_made_up_for() {
    let mut step = step("a").within([fallback("plan-b"), retry(3)]);
    step.limits.max_cost_usd = Some(0.5);
    let mut world = begun_step(step);
    let failed = Failure { reason: "ExitStatus".into(), message: "exit status 1".into() };
    let outcome = |cost: f64| Outcome { cost_usd: Some(cost), ..Outcome::of(Err(failed.clone())) };
    world.runs[0] = super::finish(&world.flow, &world.runs[0], &outcome(0.3), world.now);
    assert_eq!(is(&world), (RunPhase::Pending, "Retrying"));
    world.begin();
    world.runs[0] = super::finish(&world.flow, &world.runs[0], &outcome(0.3), world.now);
    assert_eq!(is(&world), (RunPhase::Failed, "CostLimitExceeded"), "what the tries cost adds up");
    assert_eq!(world.run("a.1").status.cost_usd, Some(0.6));
}

#[test]
fn a_notification_tells_how_the_work_ended_and_what_becomes_of_it_changes_nothing() {
    let told = |ends_well: bool, posts_well: bool| {
        let mut world = World::new([step("a").input("who", "$job.who").within([hook()])]);
        world.job.spec.inputs.insert("who".into(), json!("me"));
        world.pass();
        world.begin();
        if ends_well {
            world.done("a", json!({"v": 1}))
        } else {
            world.fails("a")
        };
        assert_eq!(is(&world), (RunPhase::Pending, "Notifying"));
        assert_eq!(world.begin(), ["a.1"]);
        let Some(Task::Notification { url, body }) = task(&world.flow, world.run("a.1")) else { panic!("no post") };
        assert_eq!(url, "http://localhost/me");
        if posts_well {
            world.ok("a")
        } else {
            world.fails("a")
        };
        (body, world)
    };
    for posts_well in [true, false] {
        let (body, world) = told(true, posts_well);
        let expected = json!({
            "job": "j", "step": "a", "attempt": 1, "status": "completed", "outputs": {"v": 1}, "error": null,
        });
        assert_eq!(body, expected);
        assert_eq!((is(&world), json!(world.run("a.1").status.outputs)), ((RunPhase::Completed, ""), json!({"v": 1})));
        let (body, world) = told(false, posts_well);
        let error = json!({"reason": "ExitStatus", "message": "exit status 1"});
        assert_eq!((&body["status"], &body["error"], &body["outputs"]), (&json!("failed"), &error, &json!(null)));
        assert_eq!(is(&world), (RunPhase::Failed, "ExitStatus"));
    }
}

#[test]
fn what_is_outermost_comes_last() {
    // Inside of a retry each try is told of, outside of it the end.
    let mut inside = begun([retry(1), hook()]);
    let mut outside = begun([hook(), retry(1)]);
    for world in [&mut inside, &mut outside] {
        while !world.run("a.1").status.phase.is_final() {
            world.fails("a");
            world.begin();
        }
    }
    assert_eq!(tried(&inside), "work ExitStatus, post ExitStatus, work ExitStatus, post ExitStatus");
    assert_eq!(tried(&outside), "work ExitStatus, work ExitStatus, post ExitStatus");
}

#[test]
fn the_limit_of_duration_counts_from_the_first_try_and_is_over_all() {
    let mut step = step("a").within([fallback("plan-b"), retry(9), timeout(5)]);
    step.limits.max_duration = Some(Duration::from_secs(7));
    let mut world = begun_step(step);
    world.at(5_000).begin();
    assert_eq!(wake(&world), Some(7_000));
    world.at(7_000);
    assert_eq!(
        (is(&world), tried(&world).as_str()),
        ((RunPhase::Failed, "DurationLimitExceeded"), "work Timeout, work DurationLimitExceeded")
    );
}

#[test]
fn a_job_that_ends_ends_the_try_that_is_under_way() {
    let mut world = begun([retry(3)]);
    world.job.spec.state = crate::model::JobState::Cancelled;
    world.pass();
    assert_eq!((is(&world), tried(&world).as_str()), ((RunPhase::Cancelled, "JobEnded"), "work JobEnded"));
}

#[test]
fn a_question_has_its_time_too_and_is_asked_again() {
    let mut world = World::new([step("a").asks("well?").within([retry(1), timeout(5)])]);
    world.now = Time(0);
    world.pass();
    assert_eq!((is(&world), wake(&world)), ((RunPhase::Suspended, ""), Some(5_000)));
    world.at(5_000);
    assert_eq!(is(&world), (RunPhase::Pending, "Retrying"));
    assert_eq!(world.begin(), ["a.1"]);
    let asked = &world.run("a.1").status;
    assert_eq!((asked.phase, asked.message.as_deref()), (RunPhase::Suspended, Some("well?")));
}
