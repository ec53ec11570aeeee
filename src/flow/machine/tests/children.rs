//! Sub-jobs: which there should be, and what they come to together.

use super::{World, step};
use crate::flow::{
    AgentStep, Child, Executor, FlowSource, ForEach, InputSource, ItemError, Step, StepField, SubFlow, hand_over,
    sub_flow_of,
};
use crate::model::{Failure, JobPhase, Outcome, RunPhase};
use serde_json::{Value, json};

fn one() -> Step {
    step("all").by(Executor::SubFlow(SubFlow { flow: FlowSource::Named("f".into()), for_each: None }))
}

fn each(on_error: ItemError) -> Step {
    let list = InputSource::Step(StepField { step: "list".into(), path: vec!["items".into()] });
    let for_each = Some(ForEach { list, item: "item".into(), on_error });
    step("all").by(Executor::SubFlow(SubFlow { flow: FlowSource::Named("f".into()), for_each }))
}

/// A world in which the list is there, and the run over it has begun.
fn over(items: Value, on_error: ItemError) -> World {
    let mut world = World::started([step("list"), each(on_error).input("also", "$job.x")]);
    world.done("list", json!({"items": items}));
    world.begin();
    world
}

fn child(index: usize, phase: JobPhase) -> Child {
    let outputs = (phase == JobPhase::Succeeded).then(|| json!({"at": index}));
    Child { index, phase, outputs, failure: format!("StepFailed: item {index} is bad"), cost_usd: Some(0.25) }
}

/// What the sub-jobs come to, as the outputs or `reason: message`; none: it is not certain yet.
fn come_to(world: &World, children: &[Child]) -> Option<Result<Value, String>> {
    let outcome = sub_flow_of(&world.flow, world.run("all.1")).unwrap().outcome(children)?;
    let result = outcome.result.map(Value::Object);
    Some(result.map_err(|failure| format!("{}: {}", failure.reason, failure.message)))
}

#[test]
fn a_sub_flow_runs_without_a_process_and_its_outputs_are_the_steps() {
    let mut world = World::started([one().input("x", "$job.x")]);
    assert_eq!(sub_flow_of(&world.flow, world.run("all.1")), None, "it has not begun");
    world.begin();
    let run = world.run("all.1");
    assert_eq!(
        (run.status.phase, run.status.workload.as_ref(), run.spec.items.as_ref()),
        (RunPhase::Running, None, None)
    );
    let task = sub_flow_of(&world.flow, run).unwrap();
    assert_eq!((task.count(), task.items, json!(task.inputs_of(0))), (1, None, json!({"x": null})));
    assert_eq!((task.missing(&[], 5), task.missing(&[child(0, JobPhase::Pending)], 5)), (vec![0], vec![]));
    for phase in [JobPhase::Pending, JobPhase::Running, JobPhase::Paused] {
        assert_eq!(come_to(&world, &[child(0, phase)]), None);
    }
    assert_eq!(come_to(&world, &[]), None);
    assert_eq!(come_to(&world, &[child(0, JobPhase::Succeeded)]), Some(Ok(json!({"at": 0}))));
    let failed = Some(Err("SubJobFailed: StepFailed: item 0 is bad".into()));
    assert_eq!(come_to(&world, &[child(0, JobPhase::Failed)]), failed);
    assert_eq!(come_to(&world, &[child(0, JobPhase::Cancelled)]), failed);
}

#[test]
fn each_item_has_a_sub_job_with_the_steps_inputs_and_the_item() {
    let world = over(json!(["p", {"q": 1}, null]), ItemError::FailFast);
    let run = world.run("all.1");
    assert_eq!(run.spec.items, Some(vec![json!("p"), json!({"q": 1}), json!(null)]));
    assert_eq!(run.spec.sources, [("list".to_owned(), 1)]);
    let task = sub_flow_of(&world.flow, run).unwrap();
    assert_eq!(task.count(), 3);
    assert_eq!(json!(task.inputs_of(1)), json!({"also": null, "item": {"q": 1}}));
}

#[test]
fn sub_jobs_are_made_in_list_order_as_far_as_the_bound_allows() {
    let world = over(json!([0, 1, 2, 3, 4]), ItemError::FailFast);
    let missing =
        |children: &[Child], most| sub_flow_of(&world.flow, world.run("all.1")).unwrap().missing(children, most);
    assert_eq!(missing(&[], 2), [0, 1]);
    assert_eq!(missing(&[], 9), [0, 1, 2, 3, 4]);
    assert_eq!(missing(&[child(0, JobPhase::Running), child(1, JobPhase::Pending)], 2), [0_usize; 0]);
    assert_eq!(missing(&[child(0, JobPhase::Succeeded), child(1, JobPhase::Paused)], 2), [2]);
    assert_eq!(missing(&[child(1, JobPhase::Succeeded)], 2), [0, 2], "what is missing in between comes first");
    assert_eq!(missing(&[], 0), [0], "no bound stops it for good");
}

#[test]
fn results_are_in_list_order_and_what_they_cost_adds_up() {
    let world = over(json!([0, 1]), ItemError::FailFast);
    let both = [child(1, JobPhase::Succeeded), child(0, JobPhase::Succeeded)];
    assert_eq!(come_to(&world, &both), Some(Ok(json!({"results": [{"at": 0}, {"at": 1}]}))));
    assert_eq!(come_to(&world, &both[..1]), None);
    let outcome = sub_flow_of(&world.flow, world.run("all.1")).unwrap().outcome(&both).unwrap();
    assert_eq!(outcome.cost_usd, Some(0.5));
    let free = both.map(|child| Child { cost_usd: None, ..child });
    assert_eq!(sub_flow_of(&world.flow, world.run("all.1")).unwrap().outcome(&free).unwrap().cost_usd, None);
}

#[test]
fn fail_fast_fails_with_the_first_that_failed() {
    let world = over(json!([0, 1, 2]), ItemError::FailFast);
    let failed = Some(Err("SubJobFailed: item 1: StepFailed: item 1 is bad".into()));
    assert_eq!(come_to(&world, &[child(2, JobPhase::Running), child(1, JobPhase::Failed)]), failed);
    assert_eq!(come_to(&world, &[child(2, JobPhase::Failed), child(1, JobPhase::Cancelled)]), failed);
}

#[test]
fn with_continue_a_failed_item_is_an_error_in_its_place_and_all_failing_fails_the_step() {
    let world = over(json!([0, 1]), ItemError::Continue);
    assert_eq!(come_to(&world, &[child(0, JobPhase::Failed), child(1, JobPhase::Running)]), None);
    let mixed = [child(0, JobPhase::Failed), child(1, JobPhase::Succeeded)];
    let results = json!({"results": [{"_error": "StepFailed: item 0 is bad"}, {"at": 1}]});
    assert_eq!(come_to(&world, &mixed), Some(Ok(results)));
    let all = [child(1, JobPhase::Cancelled), child(0, JobPhase::Failed)];
    let failed = "SubJobFailed: all 2 items failed; the first: StepFailed: item 0 is bad";
    assert_eq!(come_to(&world, &all), Some(Err(failed.into())));
}

#[test]
fn an_empty_list_completes_at_once() {
    for on_error in [ItemError::FailFast, ItemError::Continue] {
        let world = over(json!([]), on_error);
        assert_eq!(come_to(&world, &[]), Some(Ok(json!({"results": []}))));
    }
}

#[test]
fn what_is_no_list_fails_the_run_at_once_and_says_what_it_is() {
    for (items, shown) in [(json!("text"), "`\"text\"`"), (json!({"a": 1}), "`{\"a\":1}`"), (json!(null), "`null`")] {
        let world = {
            let mut world = World::started([step("list"), each(ItemError::FailFast)]);
            world.done("list", json!({"items": items}));
            world
        };
        let status = &world.run("all.1").status;
        assert_eq!((status.phase, status.reason.as_deref()), (RunPhase::Failed, Some("NotAList")));
        let message = format!("`for_each` goes through a list, and this is none: {shown}");
        assert_eq!(status.message, Some(message));
        world.job_is(JobPhase::Failed, "StepFailed");
    }
}

#[test]
fn a_run_that_could_not_begin_is_answered_in_the_same_batch() {
    let failing = || each(ItemError::FailFast);
    let with = |step: Step| {
        let mut world = World::started([
            super::step("list"),
            step,
            super::step("next").after_resolved("all"),
            super::step("end").after("list"),
        ]);
        world.done("list", json!({"items": 3}));
        assert!(world.pass().is_empty(), "one batch says it all");
        world
    };
    assert_eq!(with(failing().go_on()).moving(), ["end.1", "next.1"]);
    with(failing()).job_is(JobPhase::Failed, "StepFailed");
    let again = with(failing().back_to("list", "attempt < 9", Some(9)));
    assert_eq!(again.moving(), ["list.2"]);
    let bounded = with(failing().back_to("all", "True", Some(3)));
    assert_eq!((bounded.phase("all.3"), bounded.job.status.phase), (RunPhase::Failed, JobPhase::Paused));
    let unbounded = with(failing().back_to("all", "True", None));
    unbounded.job_is(JobPhase::Failed, "MachineStuck");
}

#[test]
fn a_list_that_a_job_is_given_is_gone_through() {
    let list = InputSource::Job(vec!["names".into()]);
    let for_each = Some(ForEach { list, item: "name".into(), on_error: ItemError::FailFast });
    let step = step("all").by(Executor::SubFlow(SubFlow { flow: FlowSource::Named("f".into()), for_each }));
    let mut world = World::new([step]);
    world.job.spec.inputs.insert("names".into(), json!(["a"]));
    world.pass();
    assert_eq!(world.run("all.1").spec.items, Some(vec![json!("a")]));
}

#[test]
fn a_flow_that_an_agent_left_behind_does_the_rest_of_its_work() {
    let mut world =
        World::started([step("all").by(Executor::Agent(AgentStep { emit_flow: true, ..AgentStep::default() }))]);
    world.begin();
    assert_eq!(sub_flow_of(&world.flow, world.run("all.1")), None);
    let turn = Outcome { cost_usd: Some(0.5), session: Some("s".into()), ..Outcome::of(Ok(Default::default())) };
    let emitted = json!({"steps": {"x": {"run": "true"}}});
    let run = hand_over(world.run("all.1"), &turn, emitted.clone());
    assert_eq!((run.status.phase, run.status.workload.as_ref()), (RunPhase::Running, None));
    assert_eq!((run.status.cost_usd, run.status.session.as_deref()), (Some(0.5), Some("s")));
    let task = sub_flow_of(&world.flow, &run).unwrap();
    assert!(matches!(&*task.source, FlowSource::Inline(value, _) if *value == emitted));
    let outcome = task.outcome(&[child(0, JobPhase::Succeeded)]).unwrap();
    world.runs[0] = super::finish(&world.flow, &run, &outcome, world.now);
    world.pass();
    let status = &world.run("all.1").status;
    assert_eq!((json!(status.outputs), status.cost_usd), (json!({"at": 0}), Some(0.75)));
    world.job_is(JobPhase::Succeeded, "");
    // Another try asks the agent again.
    let mut retried = world.clone();
    retried.flow.steps.values_mut().for_each(|step| {
        step.decorators = vec![crate::flow::Decorator::Retry { max_retries: 1, backoff: Default::default() }];
    });
    let mut fresh = World::started(retried.flow.steps.into_values());
    fresh.begin();
    let run = hand_over(fresh.run("all.1"), &turn, emitted);
    let failed = Failure { reason: "SubJobFailed".into(), message: "x".into() };
    let run = super::finish(&fresh.flow, &run, &Outcome::of(Err(failed)), fresh.now);
    assert_eq!((run.status.phase, run.status.emitted), (RunPhase::Pending, None));
}
