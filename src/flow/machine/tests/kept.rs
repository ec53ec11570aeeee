//! Results that are kept, and values that are derived.

use super::{World, step};
use crate::flow::{Cache, Executor, Field, FlowSource, PollStep, Step, SubFlow, cache_key, from_cache};
use crate::model::{JobPhase, RunPhase};
use serde_json::{Value, json};
use std::time::Duration;

fn cached(step: Step) -> Step {
    Step { cache: Some(Cache::default()), ..step }
}

/// The key of step `a`'s run, in a job with `x` given.
fn key(step: Step, x: Value) -> Option<String> {
    let mut world = World::new([step.input("x", "$job.x")]);
    world.job.spec.inputs.insert("x".into(), x);
    world.pass();
    cache_key(&world.flow, &world.job, world.run("a.1"))
}

#[test]
fn equal_work_has_an_equal_key_and_other_work_another() {
    let a = || cached(step("a"));
    let first = key(a(), json!(1)).unwrap();
    assert_eq!(first.len(), 64);
    assert_eq!(key(a(), json!(1)).as_ref(), Some(&first));
    let extra = |text: &str| Step { cache: Some(Cache { key_extra: Some(text.into()), ttl: None }), ..step("a") };
    let others = [
        key(a(), json!(2)),
        key(a(), json!("1")),
        key(a().by(Executor::Script("false".into())), json!(1)),
        key(a().gives("v", Field::default()), json!(1)),
        key(Step { working_dir: Some("d".into()), ..a() }, json!(1)),
        key(Step { derived_outputs: vec![("d".into(), "1".into())], ..a() }, json!(1)),
        key(extra("v1"), json!(1)),
        key(extra("v$x"), json!(1)),
    ];
    let mut all: Vec<String> = others.into_iter().flatten().chain([first.clone()]).collect();
    all.sort();
    all.dedup();
    // `v1` and `v$x` with 1 are the same extra.
    assert_eq!(all.len(), 8);
    // What does not bear on the result does not bear on the key.
    let mut limited = a().go_on().exit("go", "True", crate::model::ExitAction::Advance);
    limited.cache = Some(Cache { ttl: Some(Duration::from_secs(9)), key_extra: None });
    assert_eq!(key(limited, json!(1)), Some(first));
}

#[test]
fn what_comes_from_outside_is_not_kept() {
    assert_eq!(key(step("a"), json!(1)), None, "nobody wants it");
    let poll = PollStep { check_command: "x".into(), interval: Duration::from_secs(1), prompt: None };
    for executor in [
        Executor::External { prompt: None },
        Executor::Poll(poll),
        Executor::SubFlow(SubFlow { flow: FlowSource::Named("f".into()), for_each: None }),
    ] {
        assert_eq!(key(cached(step("a").by(executor)), json!(1)), None);
    }
}

#[test]
fn a_kept_result_completes_the_run_without_work() {
    let mut world = World::started([cached(step("a")), step("b").input("x", "a.v")]);
    let outputs = json!({"v": 5}).as_object().unwrap().clone();
    world.runs[0] = from_cache(&world.runs[0], "j0.a.1", &outputs, world.now);
    world.pass();
    let status = &world.run("a.1").status;
    assert_eq!((status.phase, status.cached_from.as_deref()), (RunPhase::Completed, Some("j0.a.1")));
    assert_eq!((status.workload.as_ref(), status.finished_at), (None, Some(world.now)));
    assert_eq!(world.run("b.1").spec.inputs["x"], json!(5));
    let again = from_cache(&world.runs[0], "other", &outputs, world.now);
    assert_eq!(again, world.runs[0], "what has ended stays as it ended");
}

#[test]
fn derived_outputs_see_the_outputs_and_each_other_and_come_before_the_exit_rules() {
    let derived = [("twice", "n * 2"), ("more", "outputs.twice + 1"), ("big", "more > 5")];
    let mut a = step("a").exit("go", "outputs.big", crate::model::ExitAction::Advance);
    a.derived_outputs = derived.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let mut world = World::started([a.clone(), step("b").input("x", "a.more")]);
    world.done("a", json!({"n": 3}));
    assert_eq!(json!(world.run("a.1").status.outputs), json!({"n": 3, "twice": 6, "more": 7, "big": true}));
    assert_eq!(world.run("b.1").spec.inputs["x"], json!(7));
    let mut world = World::started([a]);
    world.done("a", json!({"m": 3}));
    let status = &world.run("a.1").status;
    assert_eq!((status.phase, status.reason.as_deref()), (RunPhase::Failed, Some("DerivedOutputInvalid")));
    assert!(status.message.as_deref().unwrap().starts_with("`twice`: "), "{:?}", status.message);
}

#[test]
fn a_loop_rule_without_a_bound_has_its_targets() {
    let bounded = |most_of_rule, most_of_target: Option<u32>| {
        let mut a = step("a").back_to("a", "max_attempts is None or attempt <= max_attempts", most_of_rule);
        a.limits.max_iterations = most_of_target;
        let mut world = World::started([a]);
        for attempt in 1..=6 {
            if world.moving().is_empty() {
                assert_eq!(world.job.status.phase, JobPhase::Paused);
                return attempt - 1;
            }
            world.ok("a");
        }
        6
    };
    assert_eq!(
        [bounded(None, Some(2)), bounded(Some(3), Some(2)), bounded(Some(1), None), bounded(None, None)],
        [2, 3, 1, 6]
    );
}

#[test]
fn a_value_from_beside_the_flow_comes_after_what_is_given_and_before_the_default() {
    let resolved = |given: Option<Value>, beside: Option<Value>| {
        let mut world = World::new([step("a").input("x", "$job.x")]);
        let field = Field { default: Some(json!("default")), ..Field::default() };
        world.flow.inputs.insert("x".into(), field);
        world.job.spec.inputs.extend(given.map(|value| ("x".to_owned(), value)));
        world.job.status.vars.extend(beside.map(|value| ("x".to_owned(), value)));
        world.pass();
        world.run("a.1").spec.inputs["x"].clone()
    };
    assert_eq!(resolved(Some(json!("given")), Some(json!("beside"))), json!("given"));
    assert_eq!(resolved(None, Some(json!("beside"))), json!("beside"));
    assert_eq!(resolved(Some(json!(null)), Some(json!("beside"))), json!("beside"));
    assert_eq!(resolved(None, None), json!("default"));
}
