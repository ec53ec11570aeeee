//! The decisions: every case has exactly one line, and the never-rules hold over generated worlds.

use super::*;
use crate::model::*;
use proptest::prelude::*;
use std::time::Duration;

mod ends;
mod foreign;
mod plans;
mod verdicts;

const NOW: Time = Time(1_000_000);
const SOON: Time = Time(1_000_050);
const LATER: Time = Time(1_002_000);
/// Later than any stage is long.
const MUCH_LATER: Time = Time(1_060_000);
const EARLIER: Time = Time(998_000);

fn proc_id(pid: i32) -> ProcId {
    ProcId { pid: Pid::new(pid).unwrap(), start: StartTime(u64::try_from(pid).unwrap() * 10) }
}

fn process(pid: i32, is_shim: bool) -> SeenProcess {
    SeenProcess {
        id: proc_id(pid),
        parent: None,
        user: 1000,
        state: 'S',
        command: format!("process {pid}"),
        rss_bytes: 1000,
        is_shim,
        marks: Marks { environment: true, ..Marks::default() },
    }
}

fn job(phase: JobPhase) -> Job {
    let mut job = Job { metadata: Meta::named("j"), ..Job::default() };
    job.metadata.uid = "job-uid".into();
    job.status.phase = phase;
    job
}

fn workload(r#type: WorkloadType, phase: WorkloadPhase, stage: Option<Stage>) -> Workload {
    let mut workload = Workload { metadata: Meta::named("w"), ..Workload::default() };
    workload.metadata.uid = "w".into();
    workload.spec.r#type = r#type;
    workload.spec.owners = vec![Owner { name: "j".into(), uid: JobUid::from("job-uid") }];
    workload.spec.grace_period = Span::seconds(5);
    workload.status.phase = phase;
    workload.status.stage = stage;
    // Whoever records a stage records its cause with it.
    workload.status.cause = stage.map(|_| Cause::OwnerTerminal);
    workload
}

fn desired(job: Option<Job>, row: Option<Workload>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.jobs.extend(job.map(|job| (job.uid(), job.into())));
    snapshot.workloads.extend(row.map(|row| (row.uid(), row.into())));
    snapshot
}

fn observed(seen: Option<SeenWorkload>) -> Observed {
    let trees = seen.into_iter().map(|seen| (WorkloadUid::from("w"), seen)).collect();
    Observed {
        look: 7,
        as_of: NOW,
        breadth: Breadth::Host,
        boot_id: BootId::from("boot"),
        workloads: Reading::Known(trees),
    }
}

fn open_gate() -> Bounds {
    Bounds {
        gate: Reading::Known(()),
        protected: BTreeSet::new(),
        selves: BTreeSet::from([Pid::new(4242).unwrap()]),
        user: 1000,
    }
}

/// A shim, its main process, and another one.
fn alive() -> SeenWorkload {
    SeenWorkload {
        processes: vec![process(10, true), process(11, false), process(12, false)],
        run_dir: true,
        shim: Some(ShimSeen { shim: proc_id(10), child: Some(proc_id(11)), boot_id: BootId::from("boot") }),
        ..SeenWorkload::default()
    }
}

fn line(desired: &Snapshot, observed: &Observed, bounds: &Bounds) -> Line {
    let plan = diff(desired, observed, &Acts::default(), bounds, NOW);
    assert_eq!(plan.lines.len(), 1, "one line for one workload: {plan:?}");
    let guard = Guard { bounds, user: 1000 };
    check(&plan, desired, observed, &guard).unwrap();
    plan.lines.into_values().next().unwrap()
}

fn word(line: &Line) -> String {
    match line {
        Line::Act(action, _) => action.as_str().to_owned(),
        Line::Held(why, _) => format!("held: {why}"),
    }
}

/// An action with its reason, or why nothing is done.
fn words(line: &Line) -> String {
    match line {
        Line::Act(action, reason) => format!("{}: {reason}", action.as_str()),
        Line::Held(why, _) => format!("held: {why}"),
    }
}

#[test]
fn each_stage_follows_from_what_is_seen_and_from_the_time() {
    use WorkloadPhase::{Running, Starting, Stopping};
    use WorkloadType::{Adapter, Script};
    let shim_only = || SeenWorkload { processes: vec![process(10, true)], ..alive() };
    let exited = || SeenWorkload { exit: Some(Exit { code: Some(0), ..Exit::default() }), ..alive() };
    let orphaned = || SeenWorkload { processes: vec![process(11, false)], ..alive() };
    let gone = SeenWorkload::default;
    let begun = || SeenWorkload { run_dir: true, begun: true, ..SeenWorkload::default() };
    let ask = |deadline, sent| Some(Stage::Ask { deadline, sent });
    let terminate = |deadline, sent| Some(Stage::Terminate { deadline, sent });
    let kill = |deadline, sent| Some(Stage::Kill { round: 1, deadline, sent });
    let running = Some(JobPhase::Running);
    let failed = Some(JobPhase::Failed);
    type Case =
        (&'static str, Option<JobPhase>, WorkloadType, WorkloadPhase, Option<Stage>, SeenWorkload, &'static str);
    let cases: Vec<Case> = vec![
        ("wanted, not there", running, Adapter, Starting, None, gone(), "Start"),
        ("wanted, perhaps begun", running, Adapter, Starting, None, begun(), "Condemn"),
        ("wanted, reported", running, Adapter, Starting, None, alive(), "NoteRunning"),
        ("wanted, runs", running, Adapter, Running, None, alive(), "held: wanted: job j is Running"),
        (
            "a paused job keeps its adapter",
            Some(JobPhase::Paused),
            Adapter,
            Running,
            None,
            alive(),
            "held: wanted: job j is Paused",
        ),
        ("wanted, ended by itself", running, Adapter, Running, None, exited(), "Condemn"),
        ("wanted, its shim was killed", running, Adapter, Running, None, orphaned(), "Condemn"),
        ("owner terminal: an adapter is asked", failed, Adapter, Running, None, alive(), "Ask"),
        ("owner missing: an adapter is asked", None, Adapter, Running, None, alive(), "Ask"),
        ("owner terminal: a script is told", failed, Script, Running, None, alive(), "Terminate"),
        ("no shim: it cannot be asked", failed, Adapter, Running, None, orphaned(), "Terminate"),
        ("owner terminal, never started", failed, Adapter, Starting, None, gone(), "Clean"),
        ("asked, waiting", failed, Adapter, Stopping, ask(LATER, true), alive(), "held: Ask: 2 processes left"),
        ("asking was recorded, and perhaps not done", failed, Adapter, Stopping, ask(LATER, false), alive(), "Ask"),
        ("asked in vain", failed, Adapter, Stopping, ask(EARLIER, true), alive(), "Terminate"),
        ("asked, and the clock was set back", failed, Adapter, Stopping, ask(MUCH_LATER, true), alive(), "Terminate"),
        ("told, and the clock was set back", failed, Adapter, Stopping, terminate(MUCH_LATER, true), alive(), "Kill"),
        ("killed, and the clock was set back", failed, Adapter, Stopping, kill(MUCH_LATER, true), alive(), "Kill"),
        (
            "told, waiting",
            failed,
            Script,
            Stopping,
            terminate(LATER, true),
            alive(),
            "held: Terminate: 2 processes left",
        ),
        ("told in vain", failed, Script, Stopping, terminate(EARLIER, true), alive(), "Kill"),
        ("killed, waiting", failed, Script, Stopping, kill(SOON, true), alive(), "held: Kill: 2 processes left"),
        ("killed in vain", failed, Script, Stopping, kill(EARLIER, true), alive(), "Kill"),
        (
            "only the shim is left",
            failed,
            Script,
            Stopping,
            terminate(LATER, true),
            shim_only(),
            "held: Terminate: its shim left",
        ),
        ("none left", failed, Script, Stopping, terminate(LATER, true), gone(), "Clean"),
        ("an end is not taken back", running, Adapter, Stopping, ask(EARLIER, true), alive(), "Terminate"),
        ("something came back", failed, Script, Stopping, Some(Stage::Clean), orphaned(), "Terminate"),
    ];
    for (what, phase, r#type, workload_phase, stage, seen, expected) in cases {
        let desired = desired(phase.map(job), Some(workload(r#type, workload_phase, stage)));
        assert_eq!(word(&line(&desired, &observed(Some(seen)), &open_gate())), expected, "{what}");
    }
}

#[test]
fn a_tree_with_our_mark_and_no_row_is_a_leak_without_any_waiting_time() {
    assert_eq!(word(&line(&desired(None, None), &observed(Some(alive())), &open_gate())), "Adopt");
}

#[test]
fn unknown_is_not_missing() {
    let row = workload(WorkloadType::Script, WorkloadPhase::Running, None);
    let unknown = Observed { workloads: Reading::Unknown("EMFILE".into()), ..observed(None) };
    for phase in [None, Some(JobPhase::Failed), Some(JobPhase::Running)] {
        let desired = desired(phase.map(job), Some(row.clone()));
        assert_eq!(word(&line(&desired, &unknown, &open_gate())), "held: the process table is unknown: EMFILE");
    }
    let closed = Bounds { gate: Reading::Unknown("the directory can be read".into()), ..open_gate() };
    let held = word(&line(&desired(Some(job(JobPhase::Failed)), Some(row)), &observed(Some(alive())), &closed));
    assert_eq!(held, "held: Terminate is held back until the directory can be read (unwanted: job j is Failed)");
}

#[test]
fn what_was_acted_on_is_judged_only_by_a_look_that_began_later() {
    let desired =
        desired(Some(job(JobPhase::Running)), Some(workload(WorkloadType::Script, WorkloadPhase::Starting, None)));
    let acted = |act: Act| Acts { by_workload: BTreeMap::from([(WorkloadUid::from("w"), act)]) };
    let line = |act| {
        let plan = diff(&desired, &observed(None), &acted(act), &open_gate(), NOW);
        word(plan.lines.values().next().unwrap())
    };
    assert_eq!(line(Act { in_flight: Some("Start"), ..Act::default() }), "held: Start is under way");
    assert_eq!(line(Act { ended_at_look: 7, ..Act::default() }), "held: it was acted on after this look began");
    assert_eq!(line(Act { ended_at_look: 6, ..Act::default() }), "Start");
    let failed =
        |at| Act { ended_at_look: 6, retry_at: Some(at), failures: 1, error: Some("no".into()), ..Act::default() };
    assert_eq!(line(failed(LATER)), "held: failed, to be tried again: no");
    assert_eq!(line(failed(EARLIER)), "Start");
    assert_eq!(line(failed(MUCH_LATER)), "Start", "the clock was set back");
}

#[test]
fn a_new_attempt_waits_for_the_end_of_the_one_before_it() {
    let mut before =
        workload(WorkloadType::Script, WorkloadPhase::Stopping, Some(Stage::Terminate { deadline: LATER, sent: true }));
    before.spec.run = Some("j.step.1".into());
    let mut after = workload(WorkloadType::Script, WorkloadPhase::Starting, None);
    after.metadata.uid = "v".into();
    after.spec.run = Some("j.step.2".into());
    let mut run = StepRun { metadata: Meta::named("j.step.2"), ..StepRun::default() };
    run.status.phase = RunPhase::Running;
    run.status.workload = Some(WorkloadUid::from("v"));
    let mut desired = desired(Some(job(JobPhase::Running)), Some(before));
    desired.workloads.insert(after.uid(), after.into());
    desired.runs.insert(JobUid::from("job-uid"), vec![run.into()].into());
    let plan = diff(&desired, &observed(Some(alive())), &Acts::default(), &open_gate(), NOW);
    assert_eq!(
        word(&plan.lines[&WorkloadUid::from("v")]),
        "held: the attempt before it is still being stopped (workload w)"
    );
}

#[test]
fn a_protected_process_is_let_go_and_the_rest_is_ended() {
    let row = workload(WorkloadType::Script, WorkloadPhase::Running, None);
    let bounds = Bounds { protected: BTreeSet::from([proc_id(12)]), ..open_gate() };
    match line(&desired(Some(job(JobPhase::Failed)), Some(row)), &observed(Some(alive())), &bounds) {
        Line::Act(action, _) => assert_eq!(action.targets(), [proc_id(11)]),
        held => panic!("{held:?}"),
    }
}

#[test]
fn a_look_at_our_own_trees_leads_to_nothing_that_rests_on_absence() {
    use WorkloadPhase::{Running, Starting, Stopping};
    let failed = Some(JobPhase::Failed);
    let running = Some(JobPhase::Running);
    let told = Some(Stage::Terminate { deadline: LATER, sent: true });
    let gone = SeenWorkload::default;
    let residue = || SeenWorkload { cgroup: true, ..gone() };
    let orphans = || SeenWorkload { processes: vec![process(11, false)], ..alive() };
    let row = |phase, stage| Some(workload(WorkloadType::Script, phase, stage));
    type Case = (&'static str, Option<JobPhase>, Option<Workload>, SeenWorkload, &'static str, bool);
    let cases: Vec<Case> = vec![
        ("a start", running, row(Starting, None), gone(), "Start (job j is Running)", true),
        ("a clean-up", failed, row(Stopping, told), gone(), "Clean (no process of it is left)", true),
        ("the verdict before it", failed, row(Running, None), gone(), "Clean (unwanted: job j is Failed)", true),
        ("what was left", None, None, residue(), "Adopt (it has no row, and left something behind)", true),
        ("a report", running, row(Starting, None), alive(), "NoteRunning", false),
        ("a shim that died", running, row(Running, None), orphans(), "Condemn", false),
        ("an end", failed, row(Running, None), alive(), "Terminate", false),
        ("a leak", None, None, alive(), "Adopt", false),
        ("waiting", failed, row(Stopping, told), alive(), "held: Terminate: 2 processes left", false),
    ];
    for (what, phase, row, seen, expected, wants_host) in cases {
        let (desired, host) = (desired(phase.map(job), row), observed(Some(seen)));
        let own = Observed { breadth: Breadth::Own, ..host.clone() };
        let plan = diff(&desired, &own, &Acts::default(), &open_gate(), NOW);
        let guard_bounds = open_gate();
        let guard = Guard { bounds: &guard_bounds, user: 1000 };
        check(&plan, &desired, &own, &guard).unwrap();
        let expected = if wants_host {
            format!("held: {expected}; a look at the whole host follows")
        } else {
            expected.to_owned()
        };
        assert_eq!(word(plan.lines.values().next().unwrap()), expected, "{what}");
        // It follows at once, and then the same is done.
        assert_eq!((plan.wants_host, plan.wake_at == Some(NOW)), (wants_host, wants_host), "{what}");
        let wide = diff(&desired, &host, &Acts::default(), &open_gate(), NOW);
        assert!(!wide.wants_host, "{what}");
        if wants_host {
            assert!(matches!(wide.lines.values().next().unwrap(), Line::Act(..)), "{what}");
            // The second opinion is its own.
            assert!(matches!(check(&wide, &desired, &own, &guard), Err(Violation::Narrow(..))), "{what}");
        }
    }
}

#[test]
fn the_second_opinion_refuses_what_the_rules_forbid() {
    let row = || workload(WorkloadType::Adapter, WorkloadPhase::Running, None);
    let stop = |targets: Vec<ProcId>| Plan {
        lines: BTreeMap::from([(
            WorkloadUid::from("w"),
            Line::Act(
                Action::Stop {
                    stage: Stage::Terminate { deadline: LATER, sent: false },
                    cause: Cause::OwnerTerminal,
                    message: String::new(),
                    targets,
                    processes: Vec::new(),
                    held_bytes: 0,
                },
                String::new(),
            ),
        )]),
        ..Plan::default()
    };
    let ended = desired(Some(job(JobPhase::Failed)), Some(row()));
    let bounds = open_gate();
    let verdict = |desired: &Snapshot, seen: SeenWorkload, target: i32, bounds: &Bounds| {
        check(&stop(vec![proc_id(target)]), desired, &observed(Some(seen)), &Guard { bounds, user: 1000 })
    };
    let with = |pid| SeenWorkload { processes: vec![process(pid, false)], ..alive() };
    assert_eq!(verdict(&ended, with(1), 1, &bounds), Err(Violation::Self_(proc_id(1))));
    assert_eq!(verdict(&ended, with(4242), 4242, &bounds), Err(Violation::Self_(proc_id(4242))));
    assert!(matches!(verdict(&ended, alive(), 99, &bounds), Err(Violation::NotSeen(..))));
    let mut others = with(11);
    others.processes[0].user = 0;
    assert!(matches!(verdict(&ended, others, 11, &bounds), Err(Violation::OtherUser(..))));
    let wanted = desired(Some(job(JobPhase::Running)), Some(row()));
    assert!(matches!(verdict(&wanted, alive(), 11, &bounds), Err(Violation::Wanted(..))));
    let protected = Bounds { protected: BTreeSet::from([proc_id(11)]), ..open_gate() };
    assert!(matches!(verdict(&ended, alive(), 11, &protected), Err(Violation::Protected(..))));
    let closed = Bounds { gate: Reading::Unknown("x".into()), ..open_gate() };
    assert!(matches!(verdict(&ended, alive(), 11, &closed), Err(Violation::Gate(..))));
}

fn any_stage() -> impl Strategy<Value = Option<Stage>> {
    let at = || prop_oneof![Just(EARLIER), Just(LATER)];
    prop_oneof![
        Just(None),
        (at(), any::<bool>()).prop_map(|(deadline, sent)| Some(Stage::Ask { deadline, sent })),
        (at(), any::<bool>()).prop_map(|(deadline, sent)| Some(Stage::Terminate { deadline, sent })),
        (0_u32..40, at(), any::<bool>()).prop_map(|(round, deadline, sent)| Some(Stage::Kill {
            round,
            deadline,
            sent
        })),
        Just(Some(Stage::Clean)),
    ]
}

fn any_row() -> impl Strategy<Value = Option<Workload>> {
    use WorkloadPhase::{Running, Starting, Stopping};
    let phase = prop_oneof![Just(Starting), Just(Running), Just(Stopping)];
    let r#type = prop_oneof![Just(WorkloadType::Adapter), Just(WorkloadType::Script)];
    proptest::option::of((r#type, phase, any_stage()).prop_map(|(t, p, s)| workload(t, p, s)))
}

fn any_seen() -> impl Strategy<Value = Option<SeenWorkload>> {
    let pids = proptest::collection::btree_set(1_i32..20, 0..6);
    let seen = (pids, any::<[bool; 4]>()).prop_map(|(pids, [shim, exit, dir, report])| SeenWorkload {
        processes: pids.iter().enumerate().map(|(i, pid)| process(*pid, shim && i == 0)).collect(),
        run_dir: dir,
        cgroup: dir,
        shim: report.then(|| ShimSeen { shim: proc_id(10), child: Some(proc_id(11)), boot_id: BootId::from("boot") }),
        exit: exit.then(|| Exit { code: Some(0), ..Exit::default() }),
        ..SeenWorkload::default()
    });
    proptest::option::of(seen)
}

proptest! {
    #[test]
    fn nothing_wanted_and_nothing_forbidden_is_ever_signalled(
        phase in proptest::option::of(prop_oneof![
            Just(JobPhase::Pending), Just(JobPhase::Running), Just(JobPhase::Paused),
            Just(JobPhase::Succeeded), Just(JobPhase::Failed), Just(JobPhase::Cancelled),
        ]),
        row in any_row(),
        seen in any_seen(),
        protected in proptest::collection::btree_set(1_i32..20, 0..4),
        breadth in prop_oneof![Just(Breadth::Host), Just(Breadth::Own)],
    ) {
        let bounds = Bounds { protected: protected.into_iter().map(proc_id).collect(), ..open_gate() };
        let desired = desired(phase.map(job), row.clone());
        let observed = Observed { breadth, ..observed(seen.clone()) };
        let plan = diff(&desired, &observed, &Acts::default(), &bounds, NOW);
        let expected = usize::from(row.is_some() || seen.is_some());
        prop_assert_eq!(plan.lines.len(), expected, "exactly one line");
        let broken = |violation: &Violation| matches!(violation, Violation::Narrow(..));
        let checked = check(&plan, &desired, &observed, &Guard { bounds: &bounds, user: 1000 });
        prop_assert!(!checked.as_ref().is_err_and(broken), "{checked:?}");
        prop_assert!(!plan.wants_host || breadth == Breadth::Own);
        for (_, action, _) in plan.actions() {
            let seen = seen.clone().unwrap_or_default();
            let from_absence = matches!(action, Action::Start | Action::Clean);
            prop_assert!(!from_absence || breadth == Breadth::Host, "a narrow look is no proof of absence: {action:?}");
            for target in action.targets() {
                prop_assert!(!bounds.protected.contains(target));
                prop_assert!(seen.processes.iter().any(|process| process.id == *target));
            }
            let wanted = phase.is_some_and(|phase| !phase.is_terminal())
                && row.as_ref().is_some_and(|row| row.status.stage.is_none() && row.status.phase != WorkloadPhase::Stopping);
            prop_assert!(!wanted || action.targets().is_empty(), "a wanted tree is signalled: {action:?}");
        }
        // Whatever is held waits for something: an event, or a time that is not past.
        if let Some(at) = plan.wake_at {
            prop_assert!(at >= NOW && at.since(NOW) <= Duration::from_secs(60));
        }
    }
}
