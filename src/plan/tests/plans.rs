//! The plan as a whole: its lines, their order, when the next look is due, and what the second opinion refuses.

use super::*;

fn row(uid: &str, phase: WorkloadPhase, stage: Option<Stage>) -> Workload {
    let mut row = workload(WorkloadType::Script, phase, stage);
    row.metadata.uid = uid.into();
    row
}

/// A row that works on this run.
fn attempt(uid: &str, run: &str, phase: WorkloadPhase, stage: Option<Stage>) -> Workload {
    let mut row = row(uid, phase, stage);
    row.spec.run = Some(run.into());
    row
}

fn with(jobs: Vec<Job>, rows: Vec<Workload>) -> Snapshot {
    let mut desired = Snapshot::default();
    desired.jobs.extend(jobs.into_iter().map(|job| (job.uid(), job.into())));
    desired.workloads.extend(rows.into_iter().map(|row| (row.uid(), row.into())));
    desired
}

fn seen(trees: Vec<(&str, SeenWorkload)>) -> Observed {
    let trees = trees.into_iter().map(|(uid, seen)| (WorkloadUid::from(uid), seen)).collect();
    Observed { workloads: Reading::Known(trees), ..observed(None) }
}

/// `uid: words`, in the order of the lines.
fn said(plan: &Plan) -> Vec<String> {
    plan.lines.iter().map(|(uid, line)| format!("{uid}: {}", words(line))).collect()
}

#[test]
fn every_row_and_every_tree_has_its_own_line() {
    let rows = vec![
        row("b", WorkloadPhase::Running, None),
        row("d", WorkloadPhase::Starting, None),
        row("e", WorkloadPhase::Stopped, None),
    ];
    let trees = vec![("a", alive()), ("b", alive()), ("c", alive()), ("f", alive())];
    let plan = diff(&with(vec![job(JobPhase::Running)], rows), &seen(trees), &Acts::default(), &open_gate(), NOW);
    let leak = "Adopt: it has no row, and 3 living processes";
    assert_eq!(
        said(&plan),
        [
            format!("a: {leak}"),
            "b: held: wanted: job j is Running".into(),
            format!("c: {leak}"),
            "d: Start: job j is Running".into(),
            "e: held: it is stopped".into(),
            format!("f: {leak}"),
        ]
    );
    // Starts come last.
    let order: Vec<&str> = plan.actions().iter().map(|(uid, _, _)| uid.as_str()).collect();
    assert_eq!(order, ["a", "c", "f", "d"]);
}

#[test]
fn the_next_look_is_due_when_the_first_line_says() {
    let told = |uid: &str, milliseconds| {
        let deadline = NOW.after(Duration::from_millis(milliseconds));
        row(uid, WorkloadPhase::Stopping, Some(Stage::Terminate { deadline, sent: true }))
    };
    let wake_at = |rows: Vec<Workload>| {
        let trees = rows.iter().map(|row| (row.metadata.uid.as_str(), alive())).collect();
        let observed = seen(trees);
        diff(&with(vec![], rows), &observed, &Acts::default(), &open_gate(), NOW).wake_at
    };
    let at = |milliseconds| Some(NOW.after(Duration::from_millis(milliseconds)));
    assert_eq!(wake_at(vec![]), None);
    assert_eq!(wake_at(vec![told("a", 700)]), at(700));
    assert_eq!(wake_at(vec![told("a", 700), told("b", 300)]), at(300));
    assert_eq!(wake_at(vec![told("a", 300), told("b", 700)]), at(300));
}

#[test]
fn a_failed_act_is_tried_again_at_its_time_and_a_look_that_is_too_old_is_taken_again_at_once() {
    let desired = with(vec![job(JobPhase::Running)], vec![row("w", WorkloadPhase::Starting, None)]);
    let line = |act: Act| {
        let acts = Acts { by_workload: BTreeMap::from([(WorkloadUid::from("w"), act)]) };
        let plan = diff(&desired, &observed(None), &acts, &open_gate(), NOW);
        (said(&plan).remove(0), plan.wake_at)
    };
    let act = Act { ended_at_look: 6, ..Act::default() };
    let start = ("w: Start: job j is Running".to_owned(), None);
    assert_eq!(line(act.clone()), start);
    assert_eq!(line(Act { in_flight: Some("Start"), ..act.clone() }).1, None, "its end wakes the loop");
    let old = "w: held: it was acted on after this look began".to_owned();
    assert_eq!(line(Act { ended_at_look: 7, ..act.clone() }), (old.clone(), Some(NOW)));
    assert_eq!(line(Act { ended_at_look: 8, ..act.clone() }), (old, Some(NOW)));
    let failed = |at| Act { retry_at: Some(at), error: Some("no space".into()), failures: 1, ..act.clone() };
    assert_eq!(line(failed(LATER)), ("w: held: failed, to be tried again: no space".into(), Some(LATER)));
    assert_eq!(line(failed(NOW)), start);
}

#[test]
fn a_closed_gate_holds_back_what_ends_and_lets_through_what_begins() {
    let closed = Bounds { gate: Reading::Unknown("the store can be read".into()), ..open_gate() };
    let held = |what: &str, why: &str| format!("held: {what} is held back until the store can be read ({why})");
    let running = || Some(job(JobPhase::Running));
    let row = |phase, stage| Some(row("w", phase, stage));
    let stage = |sent| Some(Stage::Terminate { deadline: NOW, sent });
    let exited = || SeenWorkload { exit: Some(Exit::default()), ..alive() };
    let cases = [
        (running(), row(WorkloadPhase::Starting, None), SeenWorkload::default(), "Start: job j is Running".into()),
        (running(), row(WorkloadPhase::Starting, None), alive(), "NoteRunning: its shim has started".into()),
        (None, row(WorkloadPhase::Running, None), alive(), held("Terminate", "unwanted: job j is missing")),
        (
            None,
            row(WorkloadPhase::Stopping, stage(false)),
            alive(),
            held("Terminate", "Terminate was recorded, and perhaps not done"),
        ),
        (None, row(WorkloadPhase::Stopping, stage(true)), alive(), held("Kill", "unwanted: OwnerTerminal")),
        (
            None,
            row(WorkloadPhase::Stopping, stage(true)),
            SeenWorkload::default(),
            held("Clean", "no process of it is left"),
        ),
        (None, None, alive(), held("Adopt", "it has no row, and 3 living processes")),
        (running(), row(WorkloadPhase::Running, None), exited(), held("Condemn", "its main process ended")),
    ];
    for (job, row, seen, expected) in cases {
        assert_eq!(words(&line(&desired(job, row), &observed(Some(seen)), &closed)), expected);
    }
}

#[test]
fn only_the_attempt_before_it_at_the_same_step_of_the_same_job_holds_a_start_back() {
    let told = || Some(Stage::Terminate { deadline: LATER, sent: true });
    let of_job = |mut row: Workload, job: &str| {
        row.spec.owners = vec![Owner { name: job.into(), uid: JobUid(format!("{job}-uid")) }];
        row
    };
    let ending = |run| attempt("before", run, WorkloadPhase::Stopping, told());
    let adapter = row("before", WorkloadPhase::Stopping, told());
    let mut to_be_stopped = attempt("before", "j.step.1", WorkloadPhase::Running, None);
    to_be_stopped.status.cause = Some(Cause::Exited);
    let living = attempt("before", "j.step.3", WorkloadPhase::Running, None);
    let cases = [
        ("its end is under way", ending("j.step.1"), true),
        ("its end begins in this very plan", to_be_stopped, true),
        ("of whatever attempt", ending("j.step.7"), true),
        ("another step", ending("j.other.1"), false),
        ("another job", of_job(ending("j.step.1"), "k"), false),
        ("an adapter works on no step of its own", adapter, false),
        ("one that is not being stopped", living, false),
    ];
    for (what, before, holds) in cases {
        let start = attempt("w", "j.step.2", WorkloadPhase::Starting, None);
        let mut desired = with(vec![job(JobPhase::Running)], vec![before, start]);
        let run = |name: &str, workload: &str| {
            let mut run = StepRun { metadata: Meta::named(name), ..StepRun::default() };
            run.status.phase = RunPhase::Running;
            run.status.workload = Some(workload.into());
            run
        };
        desired
            .runs
            .insert("job-uid".into(), vec![run("j.step.2", "w").into(), run("j.step.3", "before").into()].into());
        let plan = diff(&desired, &seen(vec![("before", alive())]), &Acts::default(), &open_gate(), NOW);
        let expected = if holds {
            "held: the attempt before it is still being stopped (workload before)"
        } else {
            "Start: job j is Running"
        };
        assert_eq!(words(&plan.lines[&WorkloadUid::from("w")]), expected, "{what}");
    }
}

#[test]
fn every_action_says_what_it_is_and_whom_it_signals() {
    let stage = Stage::Kill { round: 1, deadline: NOW, sent: false };
    let stop = |targets: Vec<ProcId>| Action::Stop {
        stage,
        cause: Cause::Exited,
        message: String::new(),
        targets,
        processes: vec![],
        held_bytes: 0,
    };
    let send = Action::Send { stage, targets: vec![proc_id(12)] };
    let condemn = Action::Condemn { cause: Cause::Exited, message: String::new() };
    let none: &[ProcId] = &[];
    let cases: [(Action, &str, &[ProcId], bool); 7] = [
        (Action::Start, "Start", none, false),
        (Action::NoteRunning { shim: proc_id(10), child: None }, "NoteRunning", none, false),
        (condemn, "Condemn", none, true),
        (Action::Adopt, "Adopt", none, true),
        (stop(vec![proc_id(11)]), "Kill", &[proc_id(11)], true),
        (send, "Kill", &[proc_id(12)], true),
        (Action::Clean, "Clean", none, true),
    ];
    for (action, word, targets, is_ending) in cases {
        assert_eq!((action.as_str(), action.targets(), action.is_ending()), (word, targets, is_ending));
    }
}

/// A plan of one line for workload `w`.
fn plan_to(action: Action) -> Plan {
    Plan { lines: BTreeMap::from([("w".into(), Line::Act(action, String::new()))]), ..Plan::default() }
}

fn send(pid: i32) -> Action {
    Action::Send { stage: Stage::Kill { round: 1, deadline: NOW, sent: false }, targets: vec![proc_id(pid)] }
}

#[test]
fn the_second_opinion_lets_root_signal_others_and_nobody_else() {
    let of_user = |user| {
        let mut seen = alive();
        seen.processes[1].user = user;
        observed(Some(seen))
    };
    let bounds = open_gate();
    let asked_by = |user: u32, of: u32| {
        check(&plan_to(send(11)), &desired(None, None), &of_user(of), &Guard { bounds: &bounds, user })
    };
    assert_eq!(asked_by(1000, 1000), Ok(()));
    assert_eq!(asked_by(0, 1000), Ok(()));
    assert_eq!(asked_by(0, 0), Ok(()));
    assert_eq!(asked_by(1000, 0), Err(Violation::OtherUser(proc_id(11), 0)));
    assert_eq!(asked_by(1000, 1001), Err(Violation::OtherUser(proc_id(11), 1001)));
}

#[test]
fn the_second_opinion_refuses_every_end_while_something_is_unknown() {
    let closed = Bounds { gate: Reading::Unknown("the gate".into()), ..open_gate() };
    let blind = Observed { workloads: Reading::Unknown("the table".into()), ..observed(None) };
    let open = open_gate();
    let asked = |action: Action, observed: &Observed, bounds: &Bounds| {
        check(&plan_to(action), &desired(None, None), observed, &Guard { bounds, user: 1000 })
    };
    let note = || Action::NoteRunning { shim: proc_id(10), child: None };
    for (observed, bounds, why) in
        [(&observed(Some(alive())), &closed, "the gate"), (&blind, &open, "the table"), (&blind, &closed, "the table")]
    {
        let refused = Err(Violation::Gate("w".into(), why.into()));
        for ending in [send(11), Action::Clean, Action::Adopt] {
            assert_eq!(asked(ending, observed, bounds), refused);
        }
        assert_eq!(asked(Action::Start, observed, bounds), Ok(()));
        assert_eq!(asked(note(), observed, bounds), Ok(()));
    }
}

#[test]
fn the_second_opinion_knows_what_rests_on_absence() {
    let asked = |action: Action, seen: SeenWorkload, breadth| {
        let observed = Observed { breadth, ..observed(Some(seen)) };
        let bounds = open_gate();
        check(&plan_to(action), &desired(None, None), &observed, &Guard { bounds: &bounds, user: 1000 })
    };
    let clean_up = || Action::Stop {
        stage: Stage::Clean,
        cause: Cause::Exited,
        message: String::new(),
        targets: vec![],
        processes: vec![],
        held_bytes: 0,
    };
    let condemn = || Action::Condemn { cause: Cause::Exited, message: String::new() };
    let note = || Action::NoteRunning { shim: proc_id(10), child: None };
    // An action, and whether a look at our own trees is enough for it: where nothing was seen to live, and where something was.
    let cases = [
        (Action::Start, false, false),
        (Action::Clean, false, false),
        (Action::Adopt, false, true),
        (clean_up(), false, true),
        (condemn(), true, true),
        (note(), true, true),
    ];
    for (action, gone, lives) in cases {
        for (seen, enough) in [(SeenWorkload::default(), gone), (alive(), lives)] {
            let refused = Err(Violation::Narrow("w".into(), action.as_str()));
            let expected = if enough { Ok(()) } else { refused };
            assert_eq!(asked(action.clone(), seen.clone(), Breadth::Own), expected, "{action:?}");
            assert_eq!(asked(action.clone(), seen, Breadth::Host), Ok(()), "{action:?}");
        }
    }
}

#[test]
fn the_second_opinion_protects_what_a_living_job_owns_until_it_is_condemned_or_let_go() {
    use JobPhase::{Cancelled, Failed, Paused, Pending, Running, Succeeded};
    let owned = || row("w", WorkloadPhase::Running, None);
    let condemned = || {
        let mut row = owned();
        row.status.cause = Some(Cause::Exited);
        row
    };
    let of_a_run = || attempt("w", "j.step.1", WorkloadPhase::Running, None);
    let terminal = || {
        let mut row = owned();
        row.spec.parent = Some("p".into());
        row
    };
    let deleted = || {
        let mut job = job(Running);
        job.metadata.deletion_timestamp = Some(EARLIER);
        job
    };
    let asked = |job: Option<Job>, row: Workload| {
        let bounds = open_gate();
        let guard = Guard { bounds: &bounds, user: 1000 };
        check(&plan_to(send(11)), &desired(job, Some(row)), &observed(Some(alive())), &guard)
    };
    let refused = Err(Violation::Wanted(proc_id(11), "w".into(), "j".into()));
    for living in [Pending, Running, Paused] {
        assert_eq!(asked(Some(job(living)), owned()), refused);
        assert_eq!(asked(Some(job(living)), condemned()), Ok(()));
        assert_eq!(asked(Some(job(living)), of_a_run()), Ok(()));
        assert_eq!(asked(Some(job(living)), terminal()), Ok(()));
    }
    for terminal in [Succeeded, Failed, Cancelled] {
        assert_eq!(asked(Some(job(terminal)), owned()), Ok(()));
    }
    assert_eq!(asked(Some(deleted()), owned()), Ok(()));
    assert_eq!(asked(None, owned()), Ok(()));
}
