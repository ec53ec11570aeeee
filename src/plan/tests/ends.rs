//! The life of one workload in full: whom a stage signals, until when it waits, and what is said about it.

use super::*;

fn script(phase: WorkloadPhase, stage: Option<Stage>) -> Workload {
    workload(WorkloadType::Script, phase, stage)
}

fn adapter(phase: WorkloadPhase, stage: Option<Stage>) -> Workload {
    workload(WorkloadType::Adapter, phase, stage)
}

/// The line of a workload whose job has failed.
fn ended(row: Workload, seen: SeenWorkload, bounds: &Bounds) -> Line {
    line(&desired(Some(job(JobPhase::Failed)), Some(row)), &observed(Some(seen)), bounds)
}

/// The line of a workload whose job runs.
fn wanted(row: Workload, seen: SeenWorkload) -> Line {
    line(&desired(Some(job(JobPhase::Running)), Some(row)), &observed(Some(seen)), &open_gate())
}

fn after(milliseconds: u64) -> Time {
    NOW.after(Duration::from_millis(milliseconds))
}

fn ask(deadline: Time) -> Option<Stage> {
    Some(Stage::Ask { deadline, sent: true })
}

fn terminate(deadline: Time) -> Option<Stage> {
    Some(Stage::Terminate { deadline, sent: true })
}

fn kill(round: u32, deadline: Time) -> Option<Stage> {
    Some(Stage::Kill { round, deadline, sent: true })
}

fn pids(of: &[i32]) -> SeenWorkload {
    SeenWorkload { processes: of.iter().map(|pid| process(*pid, *pid == 10)).collect(), ..alive() }
}

fn exited(seen: SeenWorkload) -> SeenWorkload {
    SeenWorkload { exit: Some(Exit { code: Some(3), ..Exit::default() }), ..seen }
}

/// The stage that a line begins, with whom it signals.
fn begun(line: &Line) -> (Stage, Vec<i32>) {
    match line {
        Line::Act(Action::Stop { stage, targets, .. }, _) => {
            (*stage, targets.iter().map(|target| target.pid.get()).collect())
        }
        other => panic!("no stage is begun: {other:?}"),
    }
}

#[test]
fn a_start_is_told_from_what_the_shim_left() {
    let starting = || adapter(WorkloadPhase::Starting, None);
    let shim = |child| ShimSeen { shim: proc_id(10), child, boot_id: BootId::from("boot") };
    let nothing = SeenWorkload::default;
    let unreadable = || Some("shim.json: not JSON".to_owned());
    let reported = |child| Line::Act(Action::NoteRunning { shim: proc_id(10), child }, "its shim has started".into());
    let condemned = |cause, message: &str, reason: &str| {
        Line::Act(Action::Condemn { cause, message: message.into() }, reason.into())
    };
    let ended =
        condemned(Cause::Exited, "its main process ended: exit status 3", "it ended before it was seen running");
    let failed = condemned(Cause::StartFailed, "shim.json: not JSON", "its shim's report cannot be read");
    let lost = condemned(
        Cause::ShimLost,
        "its shim died while it started the program, which may have run",
        "its shim is gone and left no report",
    );
    let cases = [
        ("nothing is there", nothing(), Line::Act(Action::Start, "job j is Running".into())),
        ("a report", alive(), reported(Some(proc_id(11)))),
        ("no child: it is told from the exit", SeenWorkload { shim: Some(shim(None)), ..nothing() }, reported(None)),
        ("a report, and an end", exited(alive()), reported(Some(proc_id(11)))),
        ("an end without a report", exited(nothing()), ended.clone()),
        ("an end, and a shim", exited(SeenWorkload { shim: None, ..alive() }), ended),
        (
            "a shim that has not reported",
            SeenWorkload { shim: None, begun: true, ..alive() },
            Line::Held("its shim 10@100 is about to report".into(), None),
        ),
        ("garbage", SeenWorkload { unreadable: unreadable(), ..nothing() }, failed.clone()),
        ("garbage, and its shim lives", SeenWorkload { shim: None, unreadable: unreadable(), ..alive() }, failed),
        ("it may have run", SeenWorkload { begun: true, ..nothing() }, lost),
    ];
    for (what, seen, expected) in cases {
        assert_eq!(wanted(starting(), seen), expected, "{what}");
    }
}

#[test]
fn what_runs_and_is_wanted_is_left_alone_until_it_ends_or_loses_its_shim() {
    let running = |child: Option<i32>| {
        let mut row = adapter(WorkloadPhase::Running, None);
        row.status.pid = child.and_then(Pid::new);
        row
    };
    let left_alone = |at| Line::Held(Reason::Wanted(Arc::new(job(JobPhase::Running))), at);
    assert_eq!(wanted(running(None), alive()), left_alone(None));
    assert_eq!(wanted(running(Some(11)), alive()), left_alone(None));
    // Its main process is gone, and its shim is about to say how it ended.
    assert_eq!(wanted(running(Some(99)), alive()), left_alone(Some(after(20))));
    assert_eq!(wanted(running(Some(10)), alive()), left_alone(Some(after(20))), "the shim is not its main process");
    let condemned = |cause, message: &str, reason: &str| {
        Line::Act(Action::Condemn { cause, message: message.into() }, reason.into())
    };
    let end = "its main process ended: exit status 3";
    assert_eq!(wanted(running(Some(11)), exited(alive())), condemned(Cause::Exited, end, "its main process ended"));
    let gone = "its shim is gone and left no exit status";
    let orphans = || SeenWorkload { processes: vec![process(11, false), process(12, false)], ..alive() };
    let died = condemned(Cause::ShimLost, "its shim died; 2 of its processes were left", gone);
    assert_eq!(wanted(running(None), orphans()), died);
    let mut row = running(None);
    row.status.shim = Some(proc_id(10));
    let died = condemned(Cause::ShimLost, "its shim (pid 10) died; 2 of its processes were left", gone);
    assert_eq!(wanted(row, orphans()), died);
}

#[test]
fn an_end_begins_with_asking_only_where_somebody_can_be_asked() {
    let with_ask_period = |period| {
        let mut row = adapter(WorkloadPhase::Running, None);
        row.spec.ask_period = period;
        row
    };
    let because = |cause| {
        let mut row = adapter(WorkloadPhase::Running, None);
        row.status.cause = Some(cause);
        row
    };
    let ask = |milliseconds| (Stage::Ask { deadline: after(milliseconds), sent: false }, vec![]);
    let terminate = |targets| (Stage::Terminate { deadline: after(5000), sent: false }, targets);
    let cases = [
        ("by default, two seconds", with_ask_period(None), alive(), ask(2000)),
        ("or what its row says", with_ask_period(Some(Span::seconds(7))), alive(), ask(7000)),
        ("its owner has ended", because(Cause::OwnerTerminal), alive(), ask(2000)),
        ("its owner is gone", because(Cause::OwnerMissing), alive(), ask(2000)),
        ("nobody needs it", because(Cause::NoLongerNeeded), alive(), ask(2000)),
        ("it has ended", because(Cause::Exited), alive(), terminate(vec![11, 12])),
        ("it did not start", because(Cause::StartFailed), alive(), terminate(vec![11, 12])),
        ("it was never ours", because(Cause::NoRow), alive(), terminate(vec![11, 12])),
        ("its shim is gone", because(Cause::ShimLost), pids(&[11]), terminate(vec![11])),
        ("no shim, no stdin", with_ask_period(None), pids(&[11]), terminate(vec![11])),
        ("a script reads no stdin", script(WorkloadPhase::Running, None), alive(), terminate(vec![11, 12])),
        ("nothing lives", with_ask_period(None), pids(&[]), (Stage::Clean, vec![])),
        ("only the shim lives", script(WorkloadPhase::Running, None), pids(&[10]), terminate(vec![])),
        ("it was only just begun", script(WorkloadPhase::Starting, None), alive(), terminate(vec![11, 12])),
    ];
    for (what, row, seen, expected) in cases {
        assert_eq!(begun(&ended(row, seen, &open_gate())), expected, "{what}");
    }
}

#[test]
fn an_end_is_recorded_with_its_cause_its_evidence_and_what_it_will_free() {
    let expected = |cause, message: &str, reason: &str| {
        Line::Act(
            Action::Stop {
                stage: Stage::Terminate { deadline: after(5000), sent: false },
                cause,
                message: message.into(),
                targets: vec![proc_id(11)],
                processes: vec![Pid::new(10).unwrap(), Pid::new(11).unwrap()],
                held_bytes: 2000,
            },
            reason.into(),
        )
    };
    // What is protected is neither signalled nor counted.
    let bounds = Bounds { protected: BTreeSet::from([proc_id(12)]), ..open_gate() };
    assert_eq!(
        ended(script(WorkloadPhase::Running, None), alive(), &bounds),
        expected(Cause::OwnerTerminal, "job j is Failed", "unwanted: job j is Failed")
    );
    // A row that says `Stopping` and no stage: what it says of its cause, else the weakest one.
    let mut row = script(WorkloadPhase::Stopping, None);
    assert_eq!(
        ended(row.clone(), alive(), &bounds),
        expected(Cause::NoLongerNeeded, "NoLongerNeeded", "unwanted: NoLongerNeeded")
    );
    row.status.cause = Some(Cause::Exited);
    assert_eq!(ended(row.clone(), alive(), &bounds), expected(Cause::Exited, "Exited", "unwanted: Exited"));
    row.status.message = Some("it broke".into());
    assert_eq!(ended(row, alive(), &bounds), expected(Cause::Exited, "it broke", "unwanted: it broke"));
}

#[test]
fn a_stage_waits_for_its_time_and_then_gives_way_to_the_next() {
    let told = |milliseconds| Stage::Terminate { deadline: after(milliseconds), sent: false };
    let killed = |round, milliseconds| Stage::Kill { round, deadline: after(milliseconds), sent: false };
    let (asked, script) = (|s| adapter(WorkloadPhase::Stopping, s), |s| script(WorkloadPhase::Stopping, s));
    let both = || vec![11, 12];
    // At its deadline a stage is over, and one that ends later than it is long was written before the clock was set back.
    let cases = [
        (asked(ask(NOW)), alive(), (told(5000), both())),
        (asked(ask(after(2001))), alive(), (told(5000), both())),
        (script(terminate(NOW)), alive(), (killed(1, 200), both())),
        (script(terminate(after(5001))), alive(), (killed(1, 200), both())),
        (script(kill(1, NOW)), alive(), (killed(2, 400), both())),
        (script(kill(1, after(201))), alive(), (killed(2, 400), both())),
        // The delay doubles up to half a minute, and no round is the last.
        (script(kill(2, NOW)), alive(), (killed(3, 800), both())),
        (script(kill(7, NOW)), alive(), (killed(8, 25_600), both())),
        (script(kill(8, NOW)), alive(), (killed(9, 30_000), both())),
        (script(kill(60, NOW)), alive(), (killed(61, 30_000), both())),
        (script(kill(u32::MAX, NOW)), alive(), (killed(u32::MAX, 30_000), both())),
        // The shim ends when the others have: it is signalled when it alone is left, and does not.
        (script(terminate(NOW)), pids(&[10]), (killed(1, 200), vec![10])),
        (script(kill(1, NOW)), pids(&[10]), (killed(2, 400), vec![10])),
        // Something with its mark came back after the clean-up.
        (script(Some(Stage::Clean)), alive(), (told(5000), both())),
    ];
    for (row, seen, expected) in cases {
        let what = format!("{:?} of {}", row.status.stage, seen.processes.len());
        assert_eq!(begun(&ended(row, seen, &open_gate())), expected, "{what}");
    }
    // A shim that nobody is left below has two seconds, of which nothing is sent.
    let shim_alone = ended(asked(ask(NOW)), pids(&[10]), &open_gate());
    assert_eq!(begun(&shim_alone), (Stage::Terminate { deadline: after(2000), sent: true }, vec![]));

    let until = |row, at| {
        let line = ended(row, alive(), &open_gate());
        assert!(matches!(&line, Line::Held(_, Some(until)) if *until == at), "{line:?} until {at:?}");
    };
    until(asked(ask(after(1))), after(1));
    until(asked(ask(after(2000))), after(2000));
    until(script(terminate(after(1))), after(1));
    until(script(terminate(after(5000))), after(5000));
    until(script(kill(1, after(200))), after(200));
    until(script(kill(2, after(400))), after(400));
    // As long as the shim's grace, where that of the workload is shorter.
    let mut hasty = script(terminate(after(2000)));
    hasty.spec.grace_period = Span::seconds(1);
    until(hasty, after(2000));
}

#[test]
fn a_stage_that_was_recorded_and_perhaps_not_done_is_done_again() {
    let cases = [
        (Stage::Ask { deadline: EARLIER, sent: false }, vec![]),
        (Stage::Terminate { deadline: EARLIER, sent: false }, vec![proc_id(11), proc_id(12)]),
        (Stage::Kill { round: 3, deadline: EARLIER, sent: false }, vec![proc_id(11), proc_id(12)]),
    ];
    for (stage, targets) in cases {
        let reason = format!("{} was recorded, and perhaps not done", stage.as_str());
        for phase in [WorkloadPhase::Starting, WorkloadPhase::Running, WorkloadPhase::Stopping] {
            let line = ended(script(phase, Some(stage)), alive(), &open_gate());
            assert_eq!(line, Line::Act(Action::Send { stage, targets: targets.clone() }, reason.clone()));
            let none_left = ended(script(phase, Some(stage)), pids(&[]), &open_gate());
            assert_eq!(none_left, Line::Act(Action::Clean, "no process of it is left".into()));
        }
    }
    let stopped = ended(script(WorkloadPhase::Stopped, None), alive(), &open_gate());
    assert_eq!(stopped, Line::Held("it is stopped".into(), None));
}

#[test]
fn what_no_signal_can_end_is_named_and_kept_on_the_list() {
    let said = |seen, bounds: &Bounds| words(&ended(script(WorkloadPhase::Stopping, kill(1, after(50))), seen, bounds));
    let of = |change: fn(&mut SeenProcess)| {
        let mut seen = alive();
        seen.processes[1..].iter_mut().for_each(change);
        seen
    };
    let normal = open_gate();
    let root = Bounds { user: 0, ..open_gate() };
    assert_eq!(said(alive(), &normal), "held: Kill: 2 processes left");
    assert_eq!(said(pids(&[10]), &normal), "held: Kill: its shim left");
    assert_eq!(
        said(of(|process| process.state = 'D'), &normal),
        "held: Kill: 2 processes left; in uninterruptible sleep: 11 (process 11); in uninterruptible sleep: 12 (process 12)"
    );
    let mut others = alive();
    others.processes[2].user = 7;
    assert_eq!(said(others.clone(), &normal), "held: Kill: 2 processes left; another user's: 12 (process 12)");
    assert_eq!(said(others.clone(), &root), "held: Kill: 2 processes left");
    let above = Bounds { selves: BTreeSet::from([Pid::new(12).unwrap()]), ..open_gate() };
    assert_eq!(said(alive(), &above), "held: Kill: 2 processes left; this controller runs below it: 12 (process 12)");
    let bounds_of_root = Bounds { user: 0, ..above.clone() };
    assert_eq!(
        said(alive(), &bounds_of_root),
        "held: Kill: 2 processes left; this controller runs below it: 12 (process 12)"
    );
    // Nor are they signalled; and while they live, the shim is needed.
    let targets = |seen: SeenWorkload, bounds: &Bounds| {
        begun(&ended(script(WorkloadPhase::Stopping, kill(1, NOW)), seen, bounds)).1
    };
    assert_eq!(targets(others.clone(), &normal), [11]);
    assert_eq!(targets(alive(), &above), [11]);
    others.processes.remove(1);
    assert_eq!(targets(others.clone(), &normal), [] as [i32; 0]);
    let in_vain = begun(&ended(adapter(WorkloadPhase::Stopping, ask(NOW)), others, &normal));
    assert_eq!(in_vain, (Stage::Terminate { deadline: after(5000), sent: false }, vec![]), "it is not alone");
}

#[test]
fn a_shim_that_stays_for_what_was_let_go_is_ended_at_once() {
    let detached = |seen| SeenWorkload {
        let_go: vec![LetGo { pid: Pid::new(77).unwrap(), command: "tmux".into(), why: LetGoWhy::Detached }],
        ..seen
    };
    let protected = Bounds { protected: BTreeSet::from([proc_id(12)]), ..open_gate() };
    let now = (Stage::Kill { round: 1, deadline: after(200), sent: false }, vec![10]);
    for stage in [ask(after(1000)), terminate(after(1000))] {
        let line = |seen, bounds: &Bounds| ended(adapter(WorkloadPhase::Stopping, stage), seen, bounds);
        let waits =
            |seen, bounds: &Bounds| matches!(line(seen, bounds), Line::Held(_, Some(until)) if until == after(1000));
        assert_eq!(begun(&line(exited(detached(pids(&[10]))), &open_gate())), now);
        assert_eq!(begun(&line(exited(pids(&[10, 12])), &protected)), now);
        assert!(waits(exited(pids(&[10])), &open_gate()), "nothing was let go: it ends by itself");
        assert!(waits(detached(pids(&[10])), &open_gate()), "it has yet to say how its main process ended");
        assert!(waits(exited(detached(pids(&[10, 11]))), &open_gate()), "another process is left");
        assert!(waits(exited(pids(&[10, 11, 12])), &protected), "another process is left");
    }
}
