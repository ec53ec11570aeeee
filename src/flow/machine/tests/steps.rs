//! Readiness, exit rules, failure, and settlement.

use super::{World, step};
use crate::flow::{Dependency, Effect, InputSource, When};
use crate::model::ExitAction::{Abandon, Advance, Escalate};
use crate::model::JobPhase::{Failed, Paused, Running, Succeeded};
use crate::model::RunPhase;
use serde_json::json;

#[test]
fn ready_steps_run_at_once_and_their_inputs_are_recorded_with_their_sources() {
    let mut world = World::started([step("a"), step("b"), step("c").input("x", "a.v.w").after("b")]);
    assert_eq!(world.moving(), ["a.1", "b.1"]);
    world.done("a", json!({"v": {"w": 7}}));
    assert_eq!(world.moving(), ["b.1"]);
    world.ok("b");
    let run = world.run("c.1");
    assert_eq!(run.spec.inputs["x"], json!(7));
    assert_eq!(run.spec.sources, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
    assert_eq!((run.spec.job.as_str(), run.spec.job_uid.as_str(), run.metadata.uid.as_str()), ("j", "u1", ""));
    assert_eq!(run.status.created_at, Some(world.now));
}

#[test]
fn an_external_step_is_suspended_with_its_prompt() {
    let mut world = World::started([step("a"), step("ask").input("name", "a.name").asks("Ship $name?")]);
    world.done("a", json!({"name": "it"}));
    let status = &world.run("ask.1").status;
    assert_eq!((status.phase, status.message.as_deref()), (RunPhase::Suspended, Some("Ship it?")));
}

/// `when`, with the inputs `x` = "yes" and the absent `y`.
#[test]
fn a_step_becomes_ready_when_its_condition_holds() {
    let text = |text: &str| When::Expression(text.into());
    let cases = [
        (text("x == 'yes'"), true),
        (text("x == 'no'"), false),
        (text("nobody == 'no'"), false),
        (text("x.deep == 'no'"), false),
        (When::IsPresent("x".into(), true), true),
        (When::IsPresent("y".into(), true), false),
        (When::IsPresent("y".into(), false), true),
        (When::IsNull("x".into(), true), false),
        (When::IsNull("y".into(), true), true),
    ];
    for (when, expected) in cases {
        let mut b = step("b").input("x", "a.x").optional("y", "never.y");
        b.when = Some(when.clone());
        let mut world = World::started([step("a"), step("never").input("x", "a.x").when("False"), b]);
        world.done("a", json!({"x": "yes"}));
        assert_eq!(
            world.runs.iter().any(|run| run.spec.step == "b" && !run.status.phase.is_final()),
            expected,
            "{when:?}"
        );
        assert_eq!(world.job.status.phase, if expected { Running } else { Succeeded });
    }
}

#[test]
fn an_optional_input_waits_for_its_source_and_does_without_one_that_will_not_come() {
    let steps = || [step("a"), step("b").input("x", "a.x").when("x == 1").go_on(), step("c").optional("y", "b.y")];
    let mut world = World::started(steps());
    assert_eq!(world.moving(), ["a.1"]);
    world.done("a", json!({"x": 1})).done("b", json!({"y": 2}));
    assert_eq!(world.run("c.1").spec.inputs["y"], json!(2));
    let mut world = World::started(steps());
    world.done("a", json!({"x": 0}));
    assert_eq!(world.run("c.1").spec.inputs["y"], json!(null));
    let mut world = World::started(steps());
    world.done("a", json!({"x": 1})).fails("b");
    assert_eq!(world.run("c.1").spec.inputs["y"], json!(null));
}

#[test]
fn any_of_takes_the_first_in_the_list_that_is_there() {
    let steps = || [step("a"), step("b"), step("c").any_of("x", &["a.x", "b.x"])];
    let mut world = World::started(steps());
    world.done("b", json!({"x": "from b"}));
    assert_eq!(world.run("c.1").spec.inputs["x"], json!("from b"));
    world.done("a", json!({"x": "late"})).ok("c");
    assert_eq!(world.runs.len(), 3);
    world.job_is(Succeeded, "");
    let mut world = World::started(steps().map(|step| if step.name == "c" { step } else { step.go_on() }));
    world.fails("a");
    assert_eq!(world.moving(), ["b.1"]);
    world.fails("b");
    assert_eq!(world.phase("c.1"), RunPhase::Skipped);
}

#[test]
fn after_resolved_accepts_a_source_that_was_skipped_or_failed_with_continue() {
    let steps = |when: &str| {
        [step("a"), step("b").after("a").when(when).go_on(), step("c").after_resolved("b"), step("d").after("b")]
    };
    let mut world = World::started(steps("False"));
    world.ok("a");
    assert_eq!(world.moving(), ["c.1"]);
    let mut world = World::started(steps("True"));
    world.ok("a");
    assert_eq!(world.moving(), ["b.1"]);
    world.fails("b");
    assert_eq!(world.moving(), ["c.1"]);
    world.ok("c");
    assert_eq!(world.phase("d.1"), RunPhase::Skipped);
    world.job_is(Succeeded, "");
}

#[test]
fn after_any_of_waits_for_one() {
    let mut c = step("c");
    c.after.push(Dependency::AnyOf(vec!["a".into(), "b".into()]));
    let mut world = World::started([step("a"), step("b"), c]);
    world.ok("b");
    assert_eq!(world.moving(), ["a.1", "c.1"]);
}

/// Rules, whether the run fails → job phase and reason, the rule, whether `next` runs.
#[test]
fn exit_rules_decide_the_first_match_wins() {
    let a = || step("a");
    let ok = json!({"v": 1});
    let cases = [
        ("no rules", a(), Some(&ok), Running, "", None),
        ("advance", a().exit("go", "outputs.v == 1", Advance), Some(&ok), Running, "", Some("go")),
        ("first wins", a().exit("go", "True", Advance).exit("no", "True", Abandon), Some(&ok), Running, "", Some("go")),
        ("abandon", a().exit("no", "outputs.v == 1", Abandon), Some(&ok), Failed, "Abandoned", Some("no")),
        ("escalate", a().exit("help", "True", Escalate), Some(&ok), Paused, "Escalated", Some("help")),
        ("none, no advance", a().exit("no", "False", Abandon), Some(&ok), Running, "", None),
        ("none, an advance", a().exit("go", "False", Advance), Some(&ok), Failed, "StepFailed", None),
        ("error is no match", a().exit("no", "nobody", Abandon), Some(&ok), Running, "", None),
        ("failure", a(), None, Failed, "StepFailed", None),
        ("failure, abandon", a().exit("no", "'_error' in outputs", Abandon), None, Failed, "Abandoned", Some("no")),
        ("failure, no match", a().exit("no", "outputs.v == 1", Abandon), None, Failed, "StepFailed", None),
        ("success has no _error", a().exit("no", "'_error' in outputs", Abandon), Some(&ok), Running, "", None),
        ("attempt", a().exit("no", "attempt >= 1", Abandon), Some(&ok), Failed, "Abandoned", Some("no")),
        ("no max", a().exit("no", "max_attempts == None", Abandon), Some(&ok), Failed, "Abandoned", Some("no")),
    ];
    for (name, step_a, outputs, phase, reason, rule) in cases {
        let mut world = World::started([step_a, step("next").after("a")]);
        match outputs {
            Some(outputs) => world.done("a", outputs.clone()),
            None => world.fails("a"),
        };
        assert_eq!(world.job.status.phase, phase, "{name}");
        assert_eq!(world.job.status.reason.as_deref().unwrap_or(""), reason, "{name}");
        let decision = world.run("a.1").status.decision.clone();
        assert_eq!(decision.and_then(|decision| decision.rule).as_deref(), rule, "{name}");
        assert_eq!(world.moving() == ["next.1"], phase == Running, "{name}");
    }
}

#[test]
fn inputs_are_names_in_exit_rules() {
    let mut world = World::started([step("a"), step("b").input("x", "a.x").exit("no", "x == 3", Abandon)]);
    world.done("a", json!({"x": 3})).ok("b");
    world.job_is(Failed, "Abandoned");
    assert_eq!(world.message(), "step `b`, rule `no`");
}

#[test]
fn a_rule_that_can_not_be_evaluated_is_a_warning() {
    let mut world = World::started([step("a").exit("no", "nobody", Abandon)]);
    world.runs[0].status.phase = RunPhase::Completed;
    let effects = world.pass();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Event(event) if event.reason == "ExitRuleError")));
}

#[test]
fn abandon_cancels_what_is_in_flight_in_the_same_batch() {
    let mut world = World::started([step("a").exit("no", "True", Abandon), step("b"), step("c").asks("?")]);
    world.runs[1].status.phase = RunPhase::Running;
    world.ok("a");
    world.job_is(Failed, "Abandoned");
    assert_eq!(world.message(), "step `a`, rule `no`");
    assert_eq!((world.phase("b.1"), world.phase("c.1")), (RunPhase::Cancelled, RunPhase::Cancelled));
    assert_eq!(world.phase("a.1"), RunPhase::Completed);
}

#[test]
fn a_failure_that_nothing_answers_fails_the_job_and_says_why() {
    let mut world = World::started([step("a"), step("b")]);
    world.fails("a");
    world.job_is(Failed, "StepFailed");
    assert_eq!(world.message(), "step `a`: ExitStatus: exit status 1");
    assert!(world.moving().is_empty());
}

#[test]
fn no_matching_rule_fails_the_step_with_its_own_reason_and_on_error_holds() {
    let mut world = World::started([step("a").exit("go", "False", Advance).go_on(), step("b").optional("x", "a.x")]);
    world.done("a", json!({"x": 1}));
    assert_eq!(world.run("a.1").status.reason.as_deref(), Some("NoExitRuleMatched"));
    assert_eq!(world.run("b.1").spec.inputs["x"], json!(null));
}

#[test]
fn a_job_that_settles_without_a_terminal_step_fails() {
    let mut world = World::started([step("a").exit("go", "True", Advance), step("b").after("a")]);
    world.fails("a");
    world.job_is(Failed, "NoTerminalReached");
    assert_eq!(world.phase("b.1"), RunPhase::Skipped);
    assert!(world.message().contains("`a`: Failed"), "{}", world.message());
}

#[test]
fn a_job_of_which_all_is_completed_or_skipped_succeeds() {
    let mut world = World::started([step("a"), step("b").after("a").when("False"), step("c").after("b")]);
    world.ok("a");
    world.job_is(Succeeded, "");
    assert_eq!((world.phase("b.1"), world.phase("c.1")), (RunPhase::Skipped, RunPhase::Skipped));
}

#[test]
fn the_outputs_of_a_job_are_those_of_its_terminal_steps() {
    let outputs = |steps: [crate::flow::Step; 2], one, two| {
        let mut world = World::started(steps);
        world.done("a", one).done("b", two);
        world.job.status.outputs
    };
    let chain = [step("a"), step("b").after("a")];
    assert_eq!(outputs(chain, json!({"x": 1}), json!({"y": 2})), Some(json!({"y": 2})));
    assert_eq!(outputs([step("a"), step("b")], json!({"x": 1}), json!({"y": 2})), Some(json!({"x": 1, "y": 2})));
    let collision = json!({"a": {"x": 1}, "b": {"x": 2}});
    assert_eq!(outputs([step("a"), step("b")], json!({"x": 1}), json!({"x": 2})), Some(collision));
}

#[test]
fn a_whole_step_can_be_an_input() {
    let mut world = World::started([step("a"), step("b").input("x", "a")]);
    assert!(matches!(world.flow.steps["b"].inputs["x"].source, InputSource::Step(_)));
    world.done("a", json!({"v": 1}));
    assert_eq!(world.run("b.1").spec.inputs["x"], json!({"v": 1}));
}

#[test]
fn a_step_that_lacks_one_source_for_good_does_not_wait_for_the_others() {
    let mut world = World::started([
        step("a"),
        step("never").after("a").when("False"),
        step("slow"),
        step("b").input("x", "slow.x").input("y", "never.y").after("slow"),
        step("c").optional("z", "b.z"),
    ]);
    world.ok("a");
    assert_eq!(world.moving(), ["c.1", "slow.1"]);
}

#[test]
fn of_two_runs_that_ended_together_the_older_one_decides_first() {
    let ends = |name: &str| step(name).exit("no", "True", Abandon);
    let mut world = World::started([ends("a").after("z"), ends("b"), step("z")]);
    world.ok("z");
    world.runs.reverse();
    for run in &mut world.runs {
        run.status.phase = RunPhase::Completed;
    }
    world.pass();
    assert_eq!(world.message(), "step `b`, rule `no`");
}

#[test]
fn an_any_of_that_is_optional_does_without_when_none_of_its_sources_will_come() {
    let mut c = step("c").any_of("x", &["a.v", "b.v"]);
    c.inputs.values_mut().for_each(|input| input.optional = true);
    let mut world = World::started([step("a").go_on(), step("b").go_on(), c]);
    world.fails("a");
    assert_eq!(world.moving(), ["b.1"], "one of them may still come");
    world.fails("b");
    assert_eq!(json!(world.run("c.1").spec.inputs), json!({"x": null}));
}
