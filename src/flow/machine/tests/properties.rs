//! What holds for every flow and every course of events.

use super::{World, step};
use crate::flow::machine::graph::Graph;
use crate::flow::{
    AgentStep, Backoff, Child, Decorator, Executor, FlowSource, ForEach, InputSource, ItemError, MockStep, PollStep,
    Step, StepField, SubFlow, advance, finish, next_wake, sub_flow_of,
};
use crate::model::{ExitAction, Failure, Job, JobPhase, JobState, Outcome, RunPhase, StepRun};
use proptest::prelude::*;
use serde_json::json;
use std::time::Duration;

/// How a step is tied to another.
#[derive(Debug, Clone, Copy)]
enum Tie {
    Input,
    Optional,
    AnyOf,
    After,
    AfterResolved,
}

/// Who does the work.
#[derive(Debug, Clone, Copy)]
enum Work {
    Script,
    External,
    Mock,
    Poll,
    SubFlow,
    /// Over the list that the step before gives, or over something that is no list.
    ForEach(bool, ItemError),
    /// An agent whose session others share.
    Agent,
}

/// What is wrapped around it.
#[derive(Debug, Clone, Copy)]
enum Wrap {
    Timeout(u64),
    Retry(u32, Backoff),
    Fallback,
    Notification,
}

fn wrap() -> impl Strategy<Value = Wrap> {
    prop_oneof![
        (1..6_u64).prop_map(Wrap::Timeout),
        (0..3_u32, prop_oneof![Just(Backoff::None), Just(Backoff::Exponential)])
            .prop_map(|(most, backoff)| Wrap::Retry(most, backoff)),
        Just(Wrap::Fallback),
        Just(Wrap::Notification),
    ]
}

fn work() -> impl Strategy<Value = Work> {
    prop_oneof![
        8 => Just(Work::Script),
        2 => Just(Work::External),
        2 => Just(Work::Mock),
        2 => Just(Work::Poll),
        2 => Just(Work::SubFlow),
        1 => any::<bool>().prop_map(|is_list| Work::ForEach(is_list, ItemError::FailFast)),
        1 => Just(Work::ForEach(true, ItemError::Continue)),
        2 => Just(Work::Agent),
    ]
}

/// A step to be: its ties, and how it behaves. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
struct Sketch {
    ties: Vec<(usize, usize, Tie)>,
    when: bool,
    go_on: bool,
    work: Work,
    wraps: Vec<Wrap>,
    /// Whether a run has a time that it may take.
    limit: bool,
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
    let wraps = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(wrap(), 1..4)];
    let flags = (prop::bool::weighted(0.2), any::<bool>(), prop::bool::weighted(0.1));
    (ties, flags, work(), wraps, exit, back).prop_map(|(ties, (when, go_on, limit), work, wraps, exit, back)| Sketch {
        ties,
        when,
        go_on,
        work,
        wraps,
        limit,
        exit,
        back,
    })
}

fn executor(work: Work, before: Option<String>) -> Executor {
    let sub_flow = |for_each| Executor::SubFlow(SubFlow { flow: FlowSource::Named("f".into()), for_each });
    let script = || Executor::Script("true".into());
    match work {
        Work::Script => script(),
        Work::External => Executor::External { prompt: None },
        Work::Mock => Executor::Mock(MockStep {
            failure_rate: 0.3,
            latency: (Duration::from_secs(1), Duration::from_secs(3)),
            responses: json!({"v": 1}).as_object().unwrap().clone(),
            ..MockStep::default()
        }),
        Work::Poll => {
            let interval = Duration::from_secs(2);
            Executor::Poll(PollStep { check_command: "check".into(), interval, prompt: None })
        }
        Work::SubFlow => sub_flow(None),
        Work::ForEach(is_list, on_error) => before.map_or_else(script, |step| {
            let path = vec![if is_list { "items" } else { "v" }.to_owned()];
            let list = InputSource::Step(StepField { step, path });
            sub_flow(Some(ForEach { list, item: "item".into(), on_error }))
        }),
        Work::Agent => Executor::Agent(AgentStep { session: Some("shared".into()), ..AgentStep::default() }),
    }
}

fn decorator(wrap: Wrap) -> Decorator {
    match wrap {
        Wrap::Timeout(seconds) => Decorator::Timeout(Duration::from_secs(seconds)),
        Wrap::Retry(max_retries, backoff) => Decorator::Retry { max_retries, backoff },
        Wrap::Fallback => Decorator::Fallback(Box::new(Executor::Script("plan-b".into()))),
        Wrap::Notification => Decorator::Notification { webhook_url: "http://localhost".into() },
    }
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
        made = made.by(executor(sketch.work, place.checked_sub(1).map(name)));
        made = made.within(sketch.wraps.iter().copied().map(decorator));
        made.limits.max_duration = sketch.limit.then_some(Duration::from_secs(9));
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

/// One thing that happens: which of the runs at work ends, and how (0, 1, 2: that value; 3: it fails); or 4: time goes by;
/// 5: a person asks for a retry; 6: a person lets an escalated job go on.
type Happening = (usize, u8);

fn course() -> impl Strategy<Value = (Vec<Sketch>, Vec<Happening>)> {
    (prop::collection::vec(sketch(), 1..8), prop::collection::vec((0..8_usize, 0..7_u8), 1..60))
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
    for run in &world.runs {
        let (status, name) = (&run.status, &run.metadata.name);
        let open = status.tries.iter().filter(|it| it.finished_at.is_none()).count();
        let is_last = status.tries.last().is_some_and(|last| last.finished_at.is_none());
        assert_eq!(open, usize::from(is_last), "{name}: one try at a time, the last one");
        let at_work = matches!(status.phase, RunPhase::Running | RunPhase::Suspended);
        assert!(at_work || open == 0, "{name} is {} with a try under way", status.phase.as_str());
        assert!(status.phase != RunPhase::Pending || status.workload.is_none(), "{name} waits, and has a workload");
        assert!(status.tries.is_empty() || !world.flow.steps[&run.spec.step].decorators.is_empty());
    }
    let talks = |run: &&StepRun| {
        let agent = matches!(world.flow.steps[&run.spec.step].executor, Executor::Agent(_));
        agent && run.status.phase == RunPhase::Running && run.status.tries.len() < 2
    };
    assert!(world.runs.iter().filter(talks).count() <= 1, "one writer of a session at a time");
    assert_eq!(world.job.spec.retry, world.job.status.retried);
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

/// Gives whether anything could happen.
fn happen(world: &mut World, (which, how): Happening) -> bool {
    match how {
        5 => {
            world.job.spec.retry += 1;
            world.job.metadata.generation += 1;
            world.pass();
            return true;
        }
        6 => {
            world.job.metadata.generation += 1;
            world.pass();
            return true;
        }
        _ => {}
    }
    // A job that waits for a person begins nothing.
    if world.job.status.phase == JobPhase::Running {
        world.begin();
        inspect(world);
    }
    let at_work: Vec<usize> = (0..world.runs.len()).filter(|&at| is_at_work(world, &world.runs[at])).collect();
    let wake = next_wake(&world.flow, &world.job, &world.runs, world.now);
    match (how, at_work.is_empty(), wake) {
        (4, _, Some(wake)) | (_, true, Some(wake)) if !world.job.status.phase.is_terminal() => {
            world.at(wake.0.max(world.now.0 + 1).min(world.now.0 + 5_000));
            true
        }
        (_, true, _) => false,
        (_, false, _) => {
            let mut names: Vec<(String, usize)> =
                at_work.iter().map(|&at| (world.runs[at].metadata.name.clone(), at)).collect();
            names.sort();
            let at = names[which % names.len()].1;
            let outcome = ended(world, &world.runs[at], how);
            world.runs[at] = finish(&world.flow, &world.runs[at], &outcome, world.now);
            world.pass();
            true
        }
    }
}

/// Whether a run ends by what somebody does, not by time alone.
fn is_at_work(world: &World, run: &StepRun) -> bool {
    let asks = matches!(world.flow.steps[&run.spec.step].executor, Executor::External { .. });
    match run.status.phase {
        RunPhase::Running => run.status.workload.is_some() || sub_flow_of(&world.flow, run).is_some(),
        RunPhase::Suspended => asks,
        RunPhase::Pending | RunPhase::Completed | RunPhase::Failed | RunPhase::Skipped | RunPhase::Cancelled => false,
    }
}

/// The outcome of a run, for a sub-flow by way of its sub-jobs: of several, the first one fails, if any does.
fn ended(world: &World, run: &StepRun, how: u8) -> Outcome {
    let fails = how == 3;
    let value = if how < 3 { how } else { 0 };
    let outputs = json!({"v": value, "items": vec![0; value.into()]});
    let Some(task) = sub_flow_of(&world.flow, run) else {
        let failure = Failure { reason: "ExitStatus".into(), message: "exit status 1".into() };
        return Outcome::of(if fails { Err(failure) } else { Ok(outputs.as_object().unwrap().clone()) });
    };
    let mut children: Vec<Child> = Vec::new();
    while let Some(&index) = task.missing(&children, 1).first() {
        assert!(task.outcome(&children).is_none_or(|outcome| outcome.result.is_err()), "it waits for all of them");
        let phase = if fails && index == 0 { JobPhase::Failed } else { JobPhase::Succeeded };
        children.push(Child { index, phase, outputs: Some(outputs.clone()), ..Child::default() });
    }
    task.outcome(&children).unwrap_or_else(|| panic!("all {} sub-jobs have ended", children.len()))
}

/// Lets the course happen, then lets everything end with 0, until nothing moves.
fn play(steps: Vec<Step>, happenings: &[Happening], crashing: bool) -> World {
    let mut world = World::started(steps);
    inspect(&world);
    for happening in happenings {
        if crashing {
            crash(&mut world);
        }
        happen(&mut world, *happening);
        inspect(&world);
    }
    for _ in 0..5_000 {
        if crashing {
            crash(&mut world);
        }
        if !happen(&mut world, (0, 0)) {
            return world;
        }
        inspect(&world);
    }
    panic!("no end: {:?}", world.moving());
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
