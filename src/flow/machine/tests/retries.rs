//! A person wants what failed to be tried again.

use super::{World, step};
use crate::flow::{Executor, FlowSource, Step, SubFlow};
use crate::model::JobPhase::{Cancelled, Failed, Paused, Running, Succeeded};
use crate::model::{ExitAction, JobState, RunPhase, Span, Time};
use serde_json::json;

impl World {
    /// A person asks for a retry, and a pass follows.
    fn retry(&mut self) -> &mut World {
        self.job.spec.retry += 1;
        self.job.metadata.generation += 1;
        self.pass();
        assert_eq!(self.job.status.retried, self.job.spec.retry);
        assert!(self.pass().is_empty(), "one batch says it all");
        self
    }
}

#[test]
fn a_failed_job_goes_on_with_a_new_attempt_of_what_failed_only() {
    let mut world = World::started([step("a"), step("b").input("x", "a.v"), step("c").after("b"), step("d")]);
    world.done("a", json!({"v": 1})).ok("d").fails("b");
    world.job_is(Failed, "StepFailed");
    let ended = world.clone();
    world.now = Time(9_000);
    world.retry().job_is(Running, "");
    assert_eq!((world.message(), world.job.status.finished_at), ("", None));
    assert_eq!(world.moving(), ["b.2"]);
    let again = world.run("b.2");
    assert_eq!((again.spec.cause.clone(), &again.spec.inputs["x"]), (Some(("b".into(), 1)), &json!(1)));
    assert_eq!((world.run("a.1"), world.run("d.1")), (ended.run("a.1"), ended.run("d.1")), "what was done stays");
    world.ok("b").ok("c");
    world.job_is(Succeeded, "");
}

#[test]
fn what_is_downstream_of_what_is_tried_again_runs_again() {
    let mut world = World::started([step("a").go_on(), step("b").after_resolved("a"), step("c").after("b")]);
    world.fails("a").ok("b").fails("c");
    world.retry();
    assert_eq!(world.moving(), ["a.2"]);
    world.ok("a");
    assert_eq!(world.moving(), ["b.2"]);
    world.ok("b");
    assert_eq!(world.moving(), ["c.2"]);
}

#[test]
fn what_ended_with_the_job_is_tried_again_with_it() {
    let mut world = World::started([step("a"), step("b"), step("c").after("a")]);
    world.ok("a").fails("b");
    assert_eq!(world.phase("c.1"), RunPhase::Cancelled);
    world.retry();
    assert_eq!(world.moving(), ["b.2", "c.2"]);
}

#[test]
fn a_cancelled_job_goes_on_once_nobody_wants_it_cancelled() {
    let mut world = World::started([step("a")]);
    world.job.spec.state = JobState::Cancelled;
    world.pass();
    world.retry().job_is(Cancelled, "Cancelled");
    world.job.spec.state = JobState::Running;
    assert!(world.pass().is_empty(), "that alone is no retry");
    world.retry().job_is(Running, "");
    assert_eq!(world.moving(), ["a.2"]);
}

#[test]
fn an_abandoned_job_tries_the_step_again_that_abandoned_it() {
    let mut world = World::started([step("a").exit("no", "attempt == 1", ExitAction::Abandon), step("b").after("a")]);
    world.ok("a");
    world.job_is(Failed, "Abandoned");
    world.retry();
    assert_eq!(world.moving(), ["a.2"]);
    world.ok("a");
    assert_eq!(world.moving(), ["b.1"]);
}

#[test]
fn an_escalated_job_tries_the_step_again_that_asked() {
    let helps = |name: &str| step(name).exit("help", "attempt == 1", ExitAction::Escalate);
    let mut world = World::started([helps("a"), step("b").after("a")]);
    world.ok("a");
    world.job_is(Paused, "Escalated");
    world.retry().job_is(Running, "");
    assert_eq!(world.moving(), ["a.2"]);
    // An escalation that a person let pass is none of it.
    for second in [step("b").after("a"), helps("b").after("a")] {
        let mut world = World::started([helps("a"), second]);
        world.ok("a");
        world.job.metadata.generation += 1;
        world.pass();
        if world.flow.steps["b"].exits.is_empty() {
            world.fails("b")
        } else {
            world.ok("b")
        };
        world.retry();
        assert_eq!(world.moving(), ["b.2"]);
    }
}

#[test]
fn a_retry_of_what_goes_well_is_noted_and_no_more() {
    let mut running = World::started([step("a")]);
    let before = running.runs.clone();
    assert_eq!(running.retry().runs, before);
    let mut succeeded = World::started([step("a")]);
    succeeded.ok("a");
    let before = succeeded.runs.clone();
    assert_eq!(succeeded.retry().runs, before);
    succeeded.job_is(Succeeded, "");
    let mut paused = World::started([step("a")]);
    paused.job.spec.state = JobState::Paused;
    paused.pass();
    paused.retry().job_is(Paused, "Paused");
}

#[test]
fn a_job_in_which_nothing_failed_settles_again() {
    let mut world = World::started([step("a").exit("go", "True", ExitAction::Advance), step("b").after("a")]);
    world.fails("a");
    world.job_is(Failed, "NoTerminalReached");
    world.retry();
    assert_eq!(world.moving(), ["a.2"]);
    world.ok("a");
    assert_eq!(world.moving(), ["b.2"], "what was skipped is not any more");
    let mut world = World::started([]);
    world.job.status.phase = Failed;
    world.retry().job_is(Succeeded, "");
}

#[test]
fn the_time_of_a_job_that_is_tried_again_begins_anew() {
    let mut world = World::started([step("a")]);
    world.job.spec.deadline = Some(Span::seconds(5));
    world.at(6_000).job_is(Failed, "DeadlineExceeded");
    world.now = Time(60_000);
    world.retry().job_is(Running, "");
    world.at(65_000).job_is(Failed, "DeadlineExceeded");
}

#[test]
fn a_paused_job_is_tried_again_when_it_goes_on() {
    let mut world = World::started([step("a")]);
    world.fails("a");
    world.job.spec.state = JobState::Paused;
    world.retry().job_is(Paused, "Paused");
    assert!(world.moving().is_empty());
    world.job.spec.state = JobState::Running;
    world.pass();
    assert_eq!(world.moving(), ["a.2"]);
}

#[test]
fn a_retry_is_told_with_its_steps() {
    let mut world = World::started([step("a"), step("b").go_on()]);
    world.fails("b").fails("a");
    world.job.spec.retry += 1;
    let told: Vec<String> = (world.pass().into_iter())
        .filter_map(|effect| match effect {
            crate::flow::Effect::Event(event) => Some(format!("{} {}: {}", event.name, event.reason, event.message)),
            crate::flow::Effect::Run(_) | crate::flow::Effect::Job(_) => None,
        })
        .collect();
    assert_eq!(
        told,
        [
            "j JobRetried: tried again: `a`, `b`",
            "j.a.2 StepReady: attempt 2: what it waited for is there",
            "j.b.2 StepReady: attempt 2: what it waited for is there",
        ]
    );
}

#[test]
fn a_sub_flow_that_is_tried_again_goes_on_with_the_sub_jobs_of_the_first_attempt() {
    let sub = |name: &str| -> Step {
        step(name).by(Executor::SubFlow(SubFlow { flow: FlowSource::Named("f".into()), for_each: None }))
    };
    let mut world = World::started([sub("a"), step("b")]);
    for attempt in [1, 2, 3] {
        world.begin();
        let adopts = (attempt > 1).then_some(1);
        assert_eq!(world.run(&format!("a.{attempt}")).spec.adopts, adopts);
        world.fails("a");
        world.retry();
    }
    assert_eq!(world.run("b.2").spec.adopts, None);
    // A loop begins afresh.
    let mut world = World::started([sub("a").back_to("a", "attempt == 1", None)]);
    world.begin();
    world.ok("a");
    assert_eq!(world.run("a.2").spec.adopts, None);
}

#[test]
fn a_retry_is_asked_for_once_for_each_count() {
    let mut world = World::started([step("a")]);
    world.fails("a");
    world.retry().fails("a").job_is(Failed, "StepFailed");
    assert!(world.pass().is_empty());
    world.retry();
    assert_eq!(world.moving(), ["a.3"]);
}

#[test]
fn a_loop_back_value_that_a_retry_supersedes_is_no_value_in_the_same_batch() {
    let mut world = World::started([
        step("root").any_of("z", &["root.v"]).optional("back", "late.v"),
        step("a").any_of("z", &["b.v", "root.v"]).input("x", "late.v"),
        step("b").after_resolved("a").exit("no", "outputs.v == 2", ExitAction::Abandon),
        step("late").back_to("root", "outputs.v == 1", Some(1)),
    ]);
    world.done("b", json!({"v": 2}));
    world.job_is(Failed, "Abandoned");
    world.retry();
    assert_eq!(world.moving(), ["b.2", "late.2"]);
}
