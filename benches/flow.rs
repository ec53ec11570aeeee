//! How fast the flow machine is, alone: no store, no process. `scripts/bench flow` builds and runs it.
//!
//! - effects a second, on one core, of jobs that are played from their start to their end: a wide one (everything ends at
//!   once), a chain (one step after another), loops (each step runs again and again);
//! - `compile` of a flow of 5,000 steps.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on ends")]

use serde_json::{Map, Value, json};
use std::hint::black_box;
use std::time::Instant;
use tenure::flow::{self, Flow};
use tenure::model::{Job, JobPhase, Meta, Outcome, StepRun, Time};

const ROUNDS: usize = 7;
const NOW: Time = Time(1_000);

fn main() {
    let mut table = Map::new();
    println!("{:<64} {:>15}  promise", "what", "tenure");
    for (key, what, steps) in [
        ("wide_1000", "effects/s: 1,000 steps after one, all ended at once", wide(1_000)),
        ("chain_100", "effects/s: a chain of 100 steps, one ended at a time", chain(100)),
        ("chain_1000", "effects/s: a chain of 1,000 steps, one ended at a time", chain(1_000)),
        ("loops_50", "effects/s: 50 steps that each loop to themselves 20 times", loops(50)),
    ] {
        let spec = json!({"steps": steps});
        let flow = flow::compile(&spec).flow.expect("the flow is valid");
        let speed = median((0..ROUNDS).map(|_| effects_a_second(&flow)).collect());
        println!("{what:<64} {speed:>15.0}  at least 200,000");
        table.insert(key.into(), json!(speed));
    }
    for (key, what, steps) in [
        ("compile_wide_ms", "ms: compile, 5,000 steps side by side", wide(5_000)),
        ("compile_chain_ms", "ms: compile, 5,000 steps in a chain", chain(5_000)),
    ] {
        let spec = json!({"steps": steps});
        let millis = median((0..ROUNDS).map(|_| millis(|| drop(black_box(flow::compile(&spec))))).collect());
        println!("{what:<64} {millis:>15.1}  less than 200");
        table.insert(key.into(), json!(millis));
    }
    println!("{}", Value::Object(table));
}

fn wide(count: usize) -> Value {
    let side = |n| (format!("w{n}"), json!({"run": "true", "inputs": {"x": "root.v"}, "outputs": ["v"]}));
    let root = ("root".to_owned(), json!({"run": "true", "outputs": ["v"]}));
    Value::Object((0..count).map(side).chain([root]).collect())
}

fn chain(count: usize) -> Value {
    let link = |n: usize| {
        let inputs = match n {
            0 => json!({}),
            n => json!({"x": format!("c{}.v", n - 1)}),
        };
        (format!("c{n}"), json!({"run": "true", "inputs": inputs, "outputs": ["v"]}))
    };
    Value::Object((0..count).map(link).collect())
}

fn loops(count: usize) -> Value {
    let again = |n: usize| {
        let exits = json!([
            {"name": "again", "when": "attempt < 20", "action": "loop", "target": format!("l{n}"), "max_iterations": 30},
            {"name": "go", "when": "outputs.v == 1", "action": "advance"},
        ]);
        (format!("l{n}"), json!({"run": "true", "outputs": ["v"], "exits": exits}))
    };
    Value::Object((0..count).map(again).collect())
}

/// Plays a job from its start to its end: whatever is in motion ends well, at once.
fn effects_a_second(flow: &Flow) -> f64 {
    let mut job = Job { metadata: Meta::named("j"), ..Job::default() };
    job.metadata.uid = "u".into();
    job.metadata.generation = 1;
    let mut runs: Vec<StepRun> = Vec::new();
    let outcome = Outcome::of(Ok(Map::from_iter([("v".to_owned(), json!(1))])));
    let mut effects = 0;
    let begun = Instant::now();
    while !job.status.phase.is_terminal() {
        effects += flow::settle(flow, &mut job, &mut runs, NOW).len();
        for run in runs.iter_mut().filter(|run| !run.status.phase.is_final()) {
            let begun = flow::begin(flow, run, None, NOW);
            *run = flow::finish(flow, &begun, &outcome, NOW);
        }
    }
    let took = begun.elapsed();
    assert_eq!(job.status.phase, JobPhase::Succeeded, "{:?}", job.status.message);
    effects as f64 / took.as_secs_f64()
}

fn millis(act: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    act();
    let took = begun.elapsed();
    took.as_secs_f64() * 1000.0
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
