//! Loops: what runs again, with what, and how often.

use super::{World, step};
use crate::flow::When;
use crate::model::JobPhase::{Paused, Running, Succeeded};
use crate::model::{ExitAction, JobState, RunPhase};
use serde_json::json;

#[test]
fn a_step_loops_to_itself_and_what_follows_waits() {
    let make = step("make").back_to("make", "outputs.ok == False", Some(3)).exit("go", "True", ExitAction::Advance);
    let mut world = World::started([make, step("publish").input("x", "make.x")]);
    world.done("make", json!({"ok": false, "x": 1}));
    assert_eq!(world.moving(), ["make.2"]);
    assert_eq!(world.run("make.2").spec.cause, Some(("make".into(), 1)));
    world.done("make", json!({"ok": true, "x": 2}));
    assert_eq!(world.run("publish.1").spec.inputs["x"], json!(2));
    world.ok("publish");
    world.job_is(Succeeded, "");
}

/// The corpus's `fix-tests`: tests fail, a fix loops back to them, and what waits for a pass goes on.
#[test]
fn what_is_downstream_of_the_target_runs_again() {
    let mut world = World::started([
        step("build"),
        step("test").after("build"),
        step("fix").input("status", "test.status").when("status == 'fail'").back_to("test", "True", Some(5)),
        step("ship").input("status", "test.status").optional("fixes", "fix.fixes").when("status == 'pass'"),
    ]);
    world.ok("build").done("test", json!({"status": "fail"})).done("fix", json!({"fixes": "some"}));
    assert_eq!(world.moving(), ["test.2"]);
    assert_eq!(world.run("test.2").spec.sources, [("build".to_owned(), 1)]);
    world.done("test", json!({"status": "pass"}));
    assert_eq!(world.moving(), ["ship.1"]);
    assert_eq!(world.run("ship.1").spec.inputs["fixes"], json!(null));
    world.ok("ship");
    world.job_is(Succeeded, "");
}

#[test]
fn a_loop_cancels_the_superseded_runs_that_are_in_motion() {
    let mut world = World::started([
        step("a"),
        step("check").after("a").back_to("a", "outputs.bad == True", None),
        step("slow").after("a"),
        step("other"),
    ]);
    world.ok("a");
    world.done("check", json!({"bad": true}));
    assert_eq!(world.moving(), ["a.2", "other.1"]);
    let slow = world.run("slow.1");
    assert_eq!((slow.status.phase, slow.status.reason.as_deref()), (RunPhase::Cancelled, Some("Superseded")));
    world.ok("a");
    assert_eq!(world.moving(), ["check.2", "other.1", "slow.2"]);
}

#[test]
fn a_loop_back_input_is_absent_first_and_carries_the_previous_value_later() {
    let mut world = World::started([
        step("draft").optional("feedback", "review.feedback"),
        step("review").input("text", "draft.text").back_to("draft", "outputs.ok == False", Some(5)),
    ]);
    assert_eq!(world.run("draft.1").spec.inputs["feedback"], json!(null));
    world.done("draft", json!({"text": "v1"})).done("review", json!({"ok": false, "feedback": "longer"}));
    assert_eq!(world.run("draft.2").spec.inputs["feedback"], json!("longer"));
    world.done("draft", json!({"text": "v2"})).done("review", json!({"ok": true}));
    world.job_is(Succeeded, "");
    assert_eq!(world.run("review.2").spec.inputs["text"], json!("v2"));
}

/// Draft, review, revise; the review takes the revision once there is one.
#[test]
fn any_of_takes_the_first_draft_and_then_the_revision() {
    let forms: [fn(crate::flow::Step) -> crate::flow::Step; 2] = [
        |revise| revise.input("feedback", "review.feedback"),
        |revise| {
            let mut revise = revise.optional("feedback", "review.feedback");
            revise.when = Some(When::IsPresent("feedback".into(), true));
            revise
        },
    ];
    for form in forms {
        let mut world = World::started([
            step("draft"),
            step("review").any_of("text", &["revise.text", "draft.text"]).back_to(
                "revise",
                "outputs.ok == False",
                None,
            ),
            form(step("revise")),
        ]);
        assert_eq!(world.moving(), ["draft.1"]);
        world.done("draft", json!({"text": "v1"}));
        assert_eq!(world.run("review.1").spec.inputs["text"], json!("v1"));
        world.done("review", json!({"ok": false, "feedback": "f1"}));
        assert_eq!(world.moving(), ["revise.1"], "the review waits for the revision");
        assert_eq!(world.run("revise.1").spec.inputs["feedback"], json!("f1"));
        world.done("revise", json!({"text": "v2"}));
        assert_eq!(world.run("review.2").spec.inputs["text"], json!("v2"));
        world.done("review", json!({"ok": false, "feedback": "f2"}));
        assert_eq!(world.run("revise.2").spec.inputs["feedback"], json!("f2"));
        world.done("revise", json!({"text": "v3"})).done("review", json!({"ok": true}));
        world.job_is(Succeeded, "");
        assert_eq!(world.run("review.3").spec.inputs["text"], json!("v3"));
    }
}

/// The loop is in the step that refines: `score` is its target and takes what it made.
#[test]
fn a_refinement_loops_back_to_what_scores_it() {
    let mut world = World::started([
        step("make"),
        step("score").any_of("text", &["refine.text", "make.text"]),
        step("refine").input("low", "score.low").when("low == True").back_to("score", "True", Some(4)),
    ]);
    world.done("make", json!({"text": "v1"})).done("score", json!({"low": true})).done("refine", json!({"text": "v2"}));
    assert_eq!(world.run("score.2").spec.inputs["text"], json!("v2"));
    world.done("score", json!({"low": false}));
    world.job_is(Succeeded, "");
}

#[test]
fn a_loop_escalates_after_max_iterations_completed_runs_of_its_target() {
    let mut world = World::started([step("a"), step("b").after("a").back_to("a", "True", Some(2))]);
    world.ok("a").ok("b").ok("a").ok("b");
    world.job_is(Paused, "Escalated");
    assert!(world.message().contains("`b`") && world.message().contains("`again`"), "{}", world.message());
    assert_eq!(world.run("b.2").status.decision.as_ref().unwrap().action, ExitAction::Escalate);
    assert!(world.moving().is_empty());
}

#[test]
fn max_attempts_is_the_bound_of_the_rule() {
    let a = step("a").back_to("a", "max_attempts == 3", Some(3));
    let mut world = World::started([a]);
    world.ok("a");
    assert_eq!(world.moving(), ["a.2"]);
}

#[test]
fn a_loop_answers_a_failure_and_is_bounded_too() {
    let mut world = World::started([step("a").back_to("a", "'_error' in outputs", Some(2))]);
    world.fails("a");
    world.job_is(Running, "");
    assert_eq!(world.moving(), ["a.2"]);
    world.fails("a");
    world.job_is(Paused, "Escalated");
    let mut world = World::started([step("a").back_to("a", "'_error' in outputs", Some(2))]);
    world.fails("a").ok("a");
    world.job_is(Succeeded, "");
}

/// outer: plan … accept → plan; inner: make → check → make, at most twice in each outer iteration.
#[test]
fn an_inner_loop_starts_afresh_in_each_outer_iteration() {
    let mut world = World::started([
        step("plan").optional("verdict", "accept.verdict"),
        step("make").input("plan", "plan.plan").optional("why", "check.why").optional("verdict", "accept.verdict"),
        step("check").input("made", "make.made").back_to("make", "outputs.ok == False", Some(2)),
        step("accept").after("check").back_to("plan", "outputs.ok == False", Some(9)),
    ]);
    let inner = |world: &mut World| {
        world.done("make", json!({"made": 1})).done("check", json!({"ok": false, "why": "thin"}));
        assert_eq!(world.runs.last().unwrap().spec.inputs["why"], json!("thin"));
        world.done("make", json!({"made": 2})).done("check", json!({"ok": true, "why": "fine"}));
    };
    world.done("plan", json!({"plan": "p1"}));
    inner(&mut world);
    world.done("accept", json!({"ok": false, "verdict": "no"}));
    assert_eq!(world.run("plan.2").spec.inputs["verdict"], json!("no"));
    world.done("plan", json!({"plan": "p2"}));
    let make = world.run("make.3");
    assert_eq!(json!(make.spec.inputs), json!({"plan": "p2", "verdict": "no", "why": null}));
    assert_eq!(make.spec.cause, None);
    inner(&mut world);
    assert_eq!(world.run("make.4").spec.inputs["verdict"], json!("no"));
    world.done("accept", json!({"ok": true}));
    world.job_is(Succeeded, "");
}

#[test]
fn of_two_loops_at_once_the_outer_one_voids_the_inner() {
    let mut world = World::started([
        step("a"),
        step("b").after("a").back_to("b", "True", None),
        step("c").after("a").back_to("a", "True", None),
    ]);
    world.ok("a");
    for run in &mut world.runs {
        run.status.phase = RunPhase::Completed;
    }
    world.pass();
    assert_eq!(world.moving(), ["a.2"]);
    world.ok("a");
    assert_eq!(world.moving(), ["b.2", "c.2"]);
}

#[test]
fn a_loop_that_was_decided_while_paused_runs_when_the_job_goes_on() {
    let mut world = World::started([step("a").back_to("a", "attempt == 1", None)]);
    world.job.spec.state = JobState::Paused;
    world.ok("a");
    assert!(world.moving().is_empty());
    world.job.spec.state = JobState::Running;
    world.pass();
    assert_eq!(world.moving(), ["a.2"]);
    world.ok("a");
    world.job_is(Succeeded, "");
}

#[test]
fn a_superseded_run_that_ends_is_not_asked() {
    let mut world = World::started([
        step("a"),
        step("b").after("a").back_to("a", "attempt == 1", None),
        step("c").after("a").exit("no", "attempt == 1", ExitAction::Abandon),
    ]);
    world.ok("a").ok("b");
    let late = world.runs.iter().position(|run| run.metadata.name == "j.c.1").unwrap();
    assert_eq!(world.runs[late].status.phase, RunPhase::Cancelled);
    world.runs[late].status.phase = RunPhase::Completed;
    world.pass();
    world.job_is(Running, "");
}

#[test]
fn a_loop_whose_target_is_not_ready_satisfies_nobody_and_the_job_settles() {
    let mut world = World::started([
        step("a").optional("back", "b.back").when("back == None"),
        step("b").after("a").back_to("a", "True", None),
        step("c").after("b"),
    ]);
    world.ok("a").done("b", json!({"back": 1}));
    assert_eq!(world.phase("c.1"), RunPhase::Skipped);
    world.job_is(Succeeded, "");
}

#[test]
fn a_revision_that_nobody_asked_for_does_not_run() {
    let mut revise = step("revise").optional("feedback", "review.feedback");
    revise.when = Some(When::IsPresent("feedback".into(), true));
    let review =
        step("review").any_of("text", &["revise.text", "draft.text"]).back_to("revise", "outputs.ok == False", None);
    let mut world = World::started([step("draft"), review, revise]);
    world.done("draft", json!({"text": "v1"})).done("review", json!({"ok": true, "feedback": "fine"}));
    assert_eq!(world.phase("revise.1"), RunPhase::Skipped);
    world.job_is(Succeeded, "");
}

/// Its target is made by a loop only: no run of it begins an iteration by itself.
#[test]
fn a_bound_counts_anew_after_an_outer_loop() {
    let mut world = World::started([
        step("plan"),
        step("draft").after("plan"),
        step("review").any_of("text", &["revise.text", "draft.text"]).back_to("revise", "outputs.ok == False", Some(1)),
        step("revise").input("feedback", "review.feedback").after("plan"),
        step("accept").after("review").back_to("plan", "outputs.ok == False", None),
    ]);
    let iteration = |world: &mut World, text: &str| {
        world.ok("plan").done("draft", json!({"text": text}));
        assert_eq!(world.runs.last().unwrap().spec.inputs["text"], json!(text));
        world.done("review", json!({"ok": false, "feedback": text}));
        assert_eq!(world.runs.last().unwrap().spec.inputs["feedback"], json!(text));
        world.done("revise", json!({"text": "better"})).done("review", json!({"ok": true}));
    };
    iteration(&mut world, "v1");
    world.done("accept", json!({"ok": false}));
    assert_eq!(world.moving(), ["plan.2"]);
    iteration(&mut world, "v2");
    world.done("accept", json!({"ok": true}));
    world.job_is(Succeeded, "");
}

#[test]
fn a_loop_of_a_run_that_another_loop_superseded_is_void() {
    let mut world = World::started([
        step("a"),
        step("b"),
        step("c").after("a").back_to("a", "True", None),
        step("d").after("a").after("b").back_to("b", "True", None),
    ]);
    world.ok("a").ok("b");
    for run in &mut world.runs {
        run.status.phase = RunPhase::Completed;
    }
    world.pass();
    assert_eq!(world.moving(), ["a.2"]);
}

#[test]
fn a_loop_to_a_step_beside_it_cancels_the_run_there() {
    let mut world = World::started([step("a"), step("b").back_to("a", "attempt == 1", None)]);
    world.ok("b");
    assert_eq!(world.moving(), ["a.2"]);
    assert_eq!(world.phase("a.1"), RunPhase::Cancelled);
}

#[test]
fn a_retry_by_a_person_supersedes_what_is_downstream_also_of_a_paused_job() {
    let mut world = World::started([step("a"), step("b").after("a")]);
    world.ok("a");
    let mut again = world.run("a.1").clone();
    again.metadata.name = "j.a.2".into();
    again.spec.attempt = 2;
    again.spec.order = 3;
    again.spec.cause = Some(("a".into(), 1));
    again.status = Default::default();
    world.runs.push(again);
    world.job.spec.state = JobState::Paused;
    world.pass();
    assert_eq!(world.moving(), ["a.2"]);
    world.job.spec.state = JobState::Running;
    world.ok("a");
    assert_eq!(world.moving(), ["b.2"]);
}

#[test]
fn a_superseded_run_that_does_not_become_ready_again_is_skipped() {
    let mut world = World::started([
        step("a"),
        step("b").input("x", "a.x").when("x == 1"),
        step("c").after("a").back_to("a", "attempt == 1", None),
    ]);
    world.done("a", json!({"x": 1})).ok("c");
    assert_eq!(world.phase("b.1"), RunPhase::Cancelled);
    world.done("a", json!({"x": 2})).ok("c");
    assert_eq!(world.phase("b.2"), RunPhase::Skipped);
    world.job_is(Succeeded, "");
}

#[test]
fn a_loop_to_a_step_that_waits_for_it_makes_one_run() {
    let mut world =
        World::started([step("a").back_to("b", "True", Some(1)), step("b").input("x", "a.x"), step("c").after("a")]);
    world.done("a", json!({"x": 1}));
    assert_eq!(world.moving(), ["b.1", "c.1"]);
    assert_eq!(world.run("b.1").spec.inputs["x"], json!(1));
}
