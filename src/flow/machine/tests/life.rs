//! The job's own phases.

use super::{World, step};
use crate::flow::{Effect, Field, next_wake, settle};
use crate::model::JobPhase::{Cancelled, Failed, Paused, Pending, Running, Succeeded};
use crate::model::{ExitAction, JobState, RunPhase, Span, Time};
use serde_json::json;
use std::time::Duration;

#[test]
fn a_job_without_a_required_input_stays_pending_and_says_which() {
    let mut world = World::new([step("a").input("x", "$job.ticket")]);
    world.flow.inputs.insert("ticket".into(), Field { required: true, ..Field::default() });
    world.pass();
    world.job_is(Pending, "InputsMissing");
    assert!(world.message().contains("`ticket`"), "{}", world.message());
    assert!(world.runs.is_empty());
    world.job.spec.inputs.insert("ticket".into(), json!(482));
    world.pass();
    world.job_is(Running, "");
    assert_eq!(world.run("a.1").spec.inputs["x"], json!(482));
}

#[test]
fn an_input_that_is_not_given_has_its_default() {
    let mut world = World::new([step("a").input("x", "$job.size").input("y", "$job.other")]);
    world.flow.inputs.insert("size".into(), Field { default: Some(json!(5)), ..Field::default() });
    world.flow.inputs.insert("other".into(), Field::default());
    world.pass();
    assert_eq!(json!(world.run("a.1").spec.inputs), json!({"x": 5, "y": null}));
}

#[test]
fn a_job_of_no_steps_succeeds() {
    World::started([]).job_is(Succeeded, "");
}

#[test]
fn a_paused_job_starts_nothing_new_and_lets_what_runs_end() {
    let mut world = World::started([step("a"), step("b").after("a")]);
    world.job.spec.state = JobState::Paused;
    world.ok("a");
    world.job_is(Paused, "Paused");
    assert!(world.moving().is_empty());
    world.job.spec.state = JobState::Running;
    world.pass();
    world.job_is(Running, "");
    assert_eq!(world.moving(), ["b.1"]);
}

#[test]
fn a_job_that_is_paused_from_the_beginning_does_not_begin() {
    let mut world = World::new([step("a")]);
    world.job.spec.state = JobState::Paused;
    world.pass();
    world.job_is(Paused, "Paused");
    assert_eq!((world.job.status.started_at, world.runs.len()), (None, 0));
    world.job.spec.state = JobState::Running;
    world.pass();
    assert_eq!(world.job.status.started_at, Some(world.now));
}

#[test]
fn a_cancelled_job_cancels_its_runs_in_the_same_batch() {
    let mut world = World::started([step("a"), step("b").asks("?"), step("c").after("a")]);
    world.job.spec.state = JobState::Cancelled;
    world.pass();
    world.job_is(Cancelled, "Cancelled");
    assert_eq!((world.phase("a.1"), world.phase("b.1")), (RunPhase::Cancelled, RunPhase::Cancelled));
    assert_eq!(world.job.status.finished_at, Some(world.now));
}

#[test]
fn a_job_that_is_being_deleted_is_cancelled() {
    let mut world = World::started([step("a")]);
    world.job.metadata.deletion_timestamp = Some(world.now);
    world.pass();
    world.job_is(Cancelled, "Deleted");
    assert!(world.moving().is_empty());
}

#[test]
fn a_job_past_its_deadline_fails_also_while_it_is_paused() {
    for state in [JobState::Running, JobState::Paused] {
        let mut world = World::started([step("a")]);
        world.job.spec.state = state;
        world.job.spec.deadline = Some(Span::seconds(60));
        assert_eq!(next_wake(&world.flow, &world.job, &world.runs, world.now), Some(Time(61_000)));
        world.now = Time(60_999);
        world.pass();
        assert_eq!(world.moving(), ["a.1"]);
        world.now = Time(61_000);
        world.pass();
        world.job_is(Failed, "DeadlineExceeded");
        assert!(world.moving().is_empty());
    }
}

#[test]
fn a_run_that_takes_too_long_fails() {
    let mut slow = step("a");
    slow.limits.max_duration = Some(Duration::from_secs(60));
    let mut world = World::started([slow]);
    assert_eq!(next_wake(&world.flow, &world.job, &world.runs, world.now), None);
    world.runs[0].status.phase = RunPhase::Running;
    world.runs[0].status.started_at = Some(Time(5_000));
    assert_eq!(next_wake(&world.flow, &world.job, &world.runs, world.now), Some(Time(65_000)));
    world.now = Time(65_000);
    world.pass();
    assert_eq!(world.run("a.1").status.reason.as_deref(), Some("DurationLimitExceeded"));
    world.job_is(Failed, "StepFailed");
}

#[test]
fn a_terminal_job_wakes_when_it_may_be_deleted() {
    let mut world = World::started([]);
    assert_eq!(next_wake(&world.flow, &world.job, &world.runs, world.now), None);
    world.job.spec.ttl_after_finished = Some(Span::seconds(9));
    assert_eq!(next_wake(&world.flow, &world.job, &world.runs, world.now), Some(Time(10_000)));
}

#[test]
fn an_escalated_job_waits_until_its_spec_was_changed() {
    let mut world = World::started([step("a").exit("help", "True", ExitAction::Escalate), step("b").after("a")]);
    world.ok("a");
    world.job_is(Paused, "Escalated");
    assert!(world.message().contains("`a`") && world.message().contains("`help`"), "{}", world.message());
    assert!(world.pass().is_empty());
    world.job.spec.state = JobState::Paused;
    world.job.metadata.generation += 1;
    world.pass();
    world.job_is(Paused, "Paused");
    world.job.spec.state = JobState::Running;
    world.job.metadata.generation += 1;
    world.pass();
    world.job_is(Running, "");
    assert_eq!(world.moving(), ["b.1"]);
    world.ok("b");
    world.job_is(Succeeded, "");
}

#[test]
fn a_terminal_job_takes_along_what_is_still_in_motion() {
    let mut world = World::started([step("a")]);
    world.job.status.phase = Failed;
    world.job.status.reason = Some("Abandoned".into());
    let effects = world.pass();
    assert_eq!(world.phase("a.1"), RunPhase::Cancelled);
    assert!(effects.iter().all(|effect| !matches!(effect, Effect::Job(_))));
    assert!(world.pass().is_empty());
}

#[test]
fn a_job_costs_what_its_runs_cost() {
    let mut world = World::started([step("a"), step("b")]);
    world.runs[0].status.cost_usd = Some(0.25);
    world.runs[1].status.cost_usd = Some(0.5);
    world.pass();
    assert_eq!(world.job.status.cost_usd, Some(0.75));
}

#[test]
fn one_batch_says_it_all() {
    let mut world = World::new([step("a").exit("no", "True", ExitAction::Abandon), step("b")]);
    let all = settle(&world.flow, &mut world.job, &mut world.runs, world.now);
    assert_eq!(all.iter().filter(|effect| matches!(effect, Effect::Run(_))).count(), 2);
    assert!(settle(&world.flow, &mut world.job, &mut world.runs, world.now).is_empty());
    world.ok("a");
    assert!(world.pass().is_empty());
}
