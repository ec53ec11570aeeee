//! What holds for every flow and every course of events.

use super::{World, step};
use crate::flow::machine::graph::Graph;
use crate::flow::{Step, advance};
use crate::model::{ExitAction, Job, JobPhase, JobState, RunPhase, StepRun};
use proptest::prelude::*;
use serde_json::json;

/// How a step is tied to another.
#[derive(Debug, Clone, Copy)]
enum Tie {
    Input,
    Optional,
    AnyOf,
    After,
    AfterResolved,
}

/// A step to be: its ties, and how it behaves. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
struct Sketch {
    ties: Vec<(usize, usize, Tie)>,
    when: bool,
    go_on: bool,
    external: bool,
    exit: Option<ExitAction>,
    /// A loop rule: to which step, how often, and whether that one takes something from here.
    back: Option<(usize, u32, bool)>,
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let tie = prop_oneof![
        Just(Tie::Input),
        Just(Tie::Optional),
        Just(Tie::AnyOf),
        Just(Tie::After),
        Just(Tie::AfterResolved)
    ];
    let exit = prop_oneof![
        12 => Just(None),
        2 => Just(Some(ExitAction::Advance)),
        1 => Just(Some(ExitAction::Escalate)),
        1 => Just(Some(ExitAction::Abandon))
    ];
    let back = prop::option::weighted(0.3, (0..8_usize, 1..3_u32, any::<bool>()));
    let ties = prop::collection::vec((0..8_usize, 0..8_usize, tie), 0..3);
    (ties, prop::bool::weighted(0.2), any::<bool>(), prop::bool::weighted(0.2), exit, back)
        .prop_map(|(ties, when, go_on, external, exit, back)| Sketch { ties, when, go_on, external, exit, back })
}

/// `wild`: ties may point anywhere, as in a flow that validation would refuse; else to earlier steps only.
fn build(sketches: &[Sketch], wild: bool) -> Vec<Step> {
    let name = |place: usize| format!("s{place}");
    let mut steps: Vec<Step> = (0..sketches.len()).map(|place| step(&name(place))).collect();
    let mut loops = 0;
    for (place, sketch) in sketches.iter().enumerate() {
        let reach = if wild { sketches.len() } else { place };
        let mut made = steps[place].clone();
        for &(one, other, tie) in sketch.ties.iter().filter(|_| reach > 0) {
            let (one, other) = (name(one % reach), name(other % reach));
            let from = format!("{one}.v");
            made = match tie {
                Tie::Input => made.input("x", &from),
                Tie::Optional => made.optional("y", &from),
                Tie::AnyOf => made.any_of("z", &[&from, &format!("{other}.v")]),
                Tie::After => made.after(&one),
                Tie::AfterResolved => made.after_resolved(&one),
            };
        }
        if sketch.when && made.inputs.contains_key("x") {
            made = made.when("x == 1");
        }
        if sketch.go_on {
            made = made.go_on();
        }
        if sketch.external {
            made = made.asks("?");
        }
        if let Some((to, most, feeds)) = sketch.back.filter(|_| loops < 2) {
            loops += 1;
            let target = to % if wild { sketches.len() } else { place + 1 };
            made = made.back_to(&name(target), "outputs.v == 1", Some(most));
            if feeds && target != place {
                steps[target] = steps[target].clone().optional("back", &format!("{}.v", name(place)));
            } else if feeds {
                made = made.optional("back", &format!("{}.v", name(place)));
            }
        }
        if let Some(action) = sketch.exit {
            made = made.exit("rule", "outputs.v == 2", action);
        }
        steps[place] = made;
    }
    steps
}

/// One thing that happens: which of the runs in motion ends, and how (0, 1, 2: that value; 3: it fails).
type Happening = (usize, u8);

fn course() -> impl Strategy<Value = (Vec<Sketch>, Vec<Happening>)> {
    (prop::collection::vec(sketch(), 1..8), prop::collection::vec((0..8_usize, 0..4_u8), 1..40))
}

/// What must hold after every pass.
fn inspect(world: &World) {
    let graph = Graph::of(&world.flow);
    let newest = |name: &str| world.runs.iter().filter(|run| run.spec.step == name).map(|run| run.spec.attempt).max();
    let find = |name: &str, attempt: u32| {
        world.runs.iter().find(|run| run.spec.step == name && run.spec.attempt == attempt).unwrap()
    };
    fn is_current(
        run: &StepRun,
        graph: &Graph,
        newest: &dyn Fn(&str) -> Option<u32>,
        find: &dyn Fn(&str, u32) -> StepRun,
    ) -> bool {
        newest(&run.spec.step) == Some(run.spec.attempt) && sources_are_current(run, graph, newest, find)
    }
    fn sources_are_current(
        run: &StepRun,
        graph: &Graph,
        newest: &dyn Fn(&str) -> Option<u32>,
        find: &dyn Fn(&str, u32) -> StepRun,
    ) -> bool {
        let here = graph.node(&run.spec.step).unwrap();
        run.spec.sources.iter().all(|(name, attempt)| {
            let is_back = graph.loop_of(graph.node(name).unwrap(), here).is_some();
            is_back || is_current(&find(name, *attempt), graph, newest, find)
        })
    }
    let found = |name: &str, attempt: u32| find(name, attempt).clone();
    for run in world.runs.iter().filter(|run| !run.status.phase.is_final()) {
        assert!(!world.job.status.phase.is_terminal(), "{} moves under a terminal job", run.metadata.name);
        assert!(sources_are_current(run, &graph, &newest, &found), "{} has stale sources", run.metadata.name);
        for (name, attempt) in &run.spec.sources {
            assert_eq!(find(name, *attempt).status.phase, RunPhase::Completed);
        }
        let required = graph.steps[graph.node(&run.spec.step).unwrap()].inputs.values().filter(|input| !input.optional);
        assert!(run.spec.sources.len() >= usize::from(required.count() > 0));
    }
    let more = advance(&world.flow, &world.job, &world.runs, world.now);
    assert!(more.is_empty(), "not a fixpoint: {more:?}");
}

/// Through JSON and back, in the order of the store: what a controller finds after a crash.
fn crash(world: &mut World) {
    let job = serde_json::to_string(&world.job).unwrap();
    let runs = serde_json::to_string(&world.runs).unwrap();
    world.job = serde_json::from_str::<Job>(&job).unwrap();
    world.runs = serde_json::from_str::<Vec<StepRun>>(&runs).unwrap();
    world.runs.sort_by(|a, b| (&a.spec.step, a.spec.attempt).cmp(&(&b.spec.step, b.spec.attempt)));
}

fn happen(world: &mut World, (which, how): Happening) {
    let moving = world.moving();
    let name = &moving[which % moving.len()];
    let step = name.split('.').next().unwrap();
    match how {
        3 => world.fails(step),
        value => world.done(step, json!({"v": value})),
    };
}

/// Lets the course happen, then lets everything end with 0, until nothing moves.
fn play(steps: Vec<Step>, happenings: &[Happening], crashing: bool) -> World {
    let mut world = World::started(steps);
    inspect(&world);
    let calm = std::iter::repeat((0, 0));
    for happening in happenings.iter().copied().chain(calm).take(2_000) {
        if world.job.status.phase.is_terminal() || world.moving().is_empty() {
            break;
        }
        if crashing {
            crash(&mut world);
        }
        happen(&mut world, happening);
        inspect(&world);
    }
    world
}

fn sorted(mut world: World) -> (Job, Vec<StepRun>) {
    crash(&mut world);
    (world.job, world.runs)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_job_ends_or_waits_for_a_person((sketches, happenings) in course()) {
        let world = play(build(&sketches, false), &happenings, false);
        let phase = world.job.status.phase;
        prop_assert!(phase.is_terminal() || phase == JobPhase::Paused, "{:?}", world.job.status);
        if phase.is_terminal() {
            prop_assert!(world.moving().is_empty());
            if phase == JobPhase::Succeeded {
                prop_assert!(world.flow.steps.keys().all(|name| world.runs.iter().any(|run| &run.spec.step == name)));
            }
        }
    }

    #[test]
    fn a_flow_that_validation_would_refuse_does_no_harm((sketches, happenings) in course()) {
        let world = play(build(&sketches, true), &happenings, false);
        let phase = world.job.status.phase;
        prop_assert!(phase.is_terminal() || phase == JobPhase::Paused, "{:?}", world.job.status);
    }

    #[test]
    fn a_crash_at_any_point_changes_nothing((sketches, happenings) in course()) {
        let straight = sorted(play(build(&sketches, false), &happenings, false));
        let crashed = sorted(play(build(&sketches, false), &happenings, true));
        prop_assert_eq!(straight, crashed);
    }

    #[test]
    fn a_cancel_at_any_point_leaves_nothing_in_motion((sketches, happenings) in course()) {
        let mut world = World::started(build(&sketches, false));
        for happening in happenings {
            if world.moving().is_empty() {
                break;
            }
            happen(&mut world, happening);
        }
        let before = world.job.status.phase;
        world.job.spec.state = JobState::Cancelled;
        world.pass();
        inspect(&world);
        let expected = if before.is_terminal() { before } else { JobPhase::Cancelled };
        prop_assert_eq!(world.job.status.phase, expected);
    }
}
