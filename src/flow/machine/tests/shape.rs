//! The graph: order, loop-back edges, terminal steps; and that size does not hurt.

use super::{World, step};
use crate::flow::machine::graph::Graph;
use crate::flow::{Step, advance};
use crate::model::{ExitAction, RunPhase};
use serde_json::json;

fn check(steps: impl IntoIterator<Item = Step>, back: &[(&str, &str, &str)], terminal: &[&str]) {
    let world = World::new(steps);
    let graph = Graph::of(&world.flow);
    assert_eq!(graph.order.len(), graph.steps.len());
    let name = |node: usize| graph.steps[node].name.as_str();
    let mut found = Vec::new();
    for source in 0..graph.steps.len() {
        for dependent in 0..graph.steps.len() {
            if let Some(target) = graph.loop_of(source, dependent) {
                found.push((name(source), name(dependent), name(target)));
            }
        }
    }
    assert_eq!(found, back);
    let ends: Vec<&str> = (0..graph.steps.len()).filter(|&node| graph.is_terminal(node)).map(name).collect();
    assert_eq!(ends, terminal);
}

#[test]
fn the_edge_into_the_target_of_a_loop_is_the_loop_back_edge() {
    check([step("a").optional("x", "a.x").back_to("a", "True", None)], &[("a", "a", "a")], &[]);
    check(
        [
            step("a").optional("x", "d.x"),
            step("b").optional("a", "a.x").optional("c", "c.x").optional("d", "d.x"),
            step("c").after("b").back_to("b", "True", None),
            step("d").after("c").back_to("a", "True", None).exit("go", "True", ExitAction::Advance),
        ],
        &[("c", "b", "b"), ("d", "a", "a"), ("d", "b", "a")],
        &["d"],
    );
}

#[test]
fn a_loop_back_edge_belongs_to_a_loop_that_has_both_its_ends() {
    check(
        [
            step("a").optional("x", "c.x"),
            step("b").after("a"),
            step("c").after("b").back_to("a", "True", None),
            step("d").after("c").back_to("b", "True", None),
        ],
        &[("c", "a", "a")],
        &[],
    );
}

#[test]
fn steps_whose_rules_never_advance_are_not_terminal() {
    check([step("a"), step("b").exit("no", "True", ExitAction::Abandon), step("c").after("a")], &[], &["c"]);
}

#[test]
fn a_cycle_that_is_not_allowed_is_cut_where_it_closes() {
    let cycle = || [step("a").after("c"), step("b").after("a"), step("c").after("b"), step("d").after("d")];
    check(cycle(), &[("c", "a", "a"), ("d", "d", "d")], &["c", "d"]);
    // Beside one that is allowed, of which the required input orders.
    let allowed = [step("x").optional("v", "y.v"), step("y").input("v", "x.v")];
    check(cycle().into_iter().chain(allowed), &[("c", "a", "a"), ("d", "d", "d"), ("y", "x", "x")], &["c", "d", "y"]);
}

#[test]
fn a_cycle_that_is_not_allowed_is_no_hang() {
    let mut world = World::started([step("a").after("b"), step("b").after("a"), step("c").after("c"), step("d")]);
    world.ok("d");
    assert!(world.job.status.phase.is_terminal());
}

/// Not timed; a pass that were quadratic in steps or runs would be felt here.
#[test]
fn five_thousand_steps_are_no_burden() {
    let wide =
        (0..4_000).map(|n| step(&format!("w{n}")).input("x", "root.x").back_to(&format!("w{n}"), "attempt == 1", None));
    let long = (0..1_000).map(|n| match n {
        0 => step("l0").after("root"),
        _ => step(&format!("l{n}")).after(&format!("l{}", n - 1)),
    });
    let mut world = World::started(wide.chain(long).chain([step("root")]));
    world.done("root", json!({"x": 1}));
    for round in 0..2 {
        for run in world.runs.iter_mut().filter(|run| !run.status.phase.is_final()) {
            run.status.phase = RunPhase::Completed;
        }
        world.pass();
        assert_eq!(world.moving().len(), if round == 0 { 4_001 } else { 1 });
    }
    assert!(advance(&world.flow, &world.job, &world.runs, world.now).is_empty());
}
