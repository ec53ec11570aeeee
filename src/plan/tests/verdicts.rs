//! Whether a workload is wanted, in the words that a person reads.

use super::*;

/// A job by its name; its uid is `<name>-uid`.
fn named(name: &str, phase: JobPhase) -> Job {
    let mut job = Job { metadata: Meta::named(name), ..job(phase) };
    job.metadata.uid = format!("{name}-uid");
    job
}

fn because(name: &str, phase: JobPhase, reason: &str) -> Job {
    let mut job = named(name, phase);
    job.status.reason = Some(reason.into());
    job
}

fn deleted(name: &str, phase: JobPhase) -> Job {
    let mut job = named(name, phase);
    job.metadata.deletion_timestamp = Some(EARLIER);
    job
}

fn owned_by(owners: &[&str]) -> Workload {
    let mut row = workload(WorkloadType::Adapter, WorkloadPhase::Running, None);
    let owner = |name: &&str| Owner { name: (*name).into(), uid: JobUid(format!("{name}-uid")) };
    row.spec.owners = owners.iter().map(owner).collect();
    row
}

fn said(want: Want) -> String {
    match want {
        Want::Yes(job) => format!("wanted by {}", job.metadata.name),
        Want::No(cause, why) => format!("{}: {why}", cause.as_str()),
    }
}

#[test]
fn a_workload_is_wanted_while_one_owner_lives() {
    use JobPhase::{Cancelled, Failed, Paused, Pending, Running, Succeeded};
    let cases: Vec<(&[&str], Vec<Job>, &str)> = vec![
        (&["a"], vec![named("a", Pending)], "wanted by a"),
        (&["a"], vec![named("a", Running)], "wanted by a"),
        (&["a"], vec![named("a", Paused)], "wanted by a"),
        (&["a"], vec![named("a", Succeeded)], "OwnerTerminal: job a is Succeeded"),
        (&["a"], vec![named("a", Failed)], "OwnerTerminal: job a is Failed"),
        (&["a"], vec![named("a", Cancelled)], "OwnerTerminal: job a is Cancelled"),
        (&["a", "b"], vec![named("a", Failed), named("b", Running)], "wanted by b"),
        (&["a", "b"], vec![named("b", Running)], "wanted by b"),
        (&["a", "b"], vec![named("a", Running), named("b", Running)], "wanted by a"),
        // A reason is said, unless it only repeats the phase.
        (&["a"], vec![because("a", Failed, "Abandoned")], "OwnerTerminal: job a is Failed (Abandoned)"),
        (&["a"], vec![because("a", Cancelled, "Cancelled")], "OwnerTerminal: job a is Cancelled"),
        (
            &["a", "b"],
            vec![named("a", Failed), named("b", Succeeded)],
            "OwnerTerminal: job a is Failed, job b is Succeeded",
        ),
        // One that is missing is what is told, beside any number that have ended.
        (&["a"], vec![], "OwnerMissing: job a is missing"),
        (&["a", "b"], vec![named("a", Failed)], "OwnerMissing: job a is Failed, job b is missing"),
        (&["a", "b"], vec![named("b", Failed)], "OwnerMissing: job a is missing, job b is Failed"),
        (&["a"], vec![named("b", Running)], "OwnerMissing: job a is missing"),
        (&[], vec![named("b", Running)], "OwnerMissing: it has no owner"),
        // One that is being deleted owns nothing any more, in whatever phase it is.
        (&["a"], vec![deleted("a", Running)], "OwnerMissing: job a is deleted"),
        (&["a"], vec![deleted("a", Failed)], "OwnerMissing: job a is deleted"),
        (&["a", "b"], vec![deleted("a", Running), named("b", Running)], "wanted by b"),
        (
            &["a", "b"],
            vec![deleted("a", Running), named("b", Failed)],
            "OwnerMissing: job a is deleted, job b is Failed",
        ),
    ];
    for (owners, jobs, expected) in cases {
        let mut desired = Snapshot::default();
        desired.jobs.extend(jobs.into_iter().map(|job| (job.uid(), job.into())));
        assert_eq!(said(want(&owned_by(owners), &desired)), expected);
    }
}

#[test]
fn what_was_condemned_stays_unwanted_whatever_its_owners_say() {
    let desired = desired(Some(named("a", JobPhase::Running)), None);
    let mut row = owned_by(&["a"]);
    row.status.cause = Some(Cause::ShimLost);
    assert_eq!(said(want(&row, &desired)), "ShimLost: ShimLost");
    row.status.message = Some("its shim died".into());
    assert_eq!(said(want(&row, &desired)), "ShimLost: its shim died");
}

#[test]
fn a_living_owner_needs_a_workload_no_more_once_its_run_has_ended_or_another_one_works_on_it() {
    use RunPhase::{Cancelled, Completed, Failed, Pending, Running, Skipped, Suspended};
    let cases: Vec<(Option<RunPhase>, Option<&str>, &str)> = vec![
        (Some(Running), Some("w"), "wanted by a"),
        (Some(Pending), Some("w"), "NoLongerNeeded: run a.step.1 is Pending"),
        (Some(Suspended), Some("w"), "NoLongerNeeded: run a.step.1 is Suspended"),
        (Some(Completed), Some("w"), "NoLongerNeeded: run a.step.1 is Completed"),
        (Some(Failed), Some("w"), "NoLongerNeeded: run a.step.1 is Failed"),
        (Some(Skipped), Some("w"), "NoLongerNeeded: run a.step.1 is Skipped"),
        (Some(Cancelled), Some("w"), "NoLongerNeeded: run a.step.1 is Cancelled"),
        (Some(Running), Some("v"), "NoLongerNeeded: run a.step.1 is worked on by another workload"),
        (Some(Running), None, "NoLongerNeeded: run a.step.1 is worked on by another workload"),
        (None, None, "NoLongerNeeded: run a.step.1 is missing"),
    ];
    for (phase, works_on_it, expected) in cases {
        let mut desired = desired(Some(named("a", JobPhase::Running)), None);
        if let Some(phase) = phase {
            let mut run = StepRun { metadata: Meta::named("a.step.1"), ..StepRun::default() };
            run.status.phase = phase;
            run.status.workload = works_on_it.map(WorkloadUid::from);
            desired.runs.insert("a-uid".into(), vec![run.into()].into());
        }
        // An owner that is gone, before the one whose run it is, changes nothing.
        let mut row = owned_by(&["gone", "a"]);
        row.spec.run = Some("a.step.1".into());
        assert_eq!(said(want(&row, &desired)), expected);
        row.spec.run = None;
        assert_eq!(said(want(&row, &desired)), "wanted by a", "without a run of its own: an adapter");
    }
}

#[test]
fn a_terminal_that_an_agent_asked_for_lives_as_long_as_its_adapter_and_while_the_agent_keeps_it() {
    let terminal = || {
        let mut row = owned_by(&["a"]);
        row.spec.parent = Some("p".into());
        row
    };
    let said_of = |row: &Workload, parent: Option<WorkloadPhase>| {
        let mut desired = desired(Some(named("a", JobPhase::Running)), None);
        if let Some(phase) = parent {
            let mut adapter = owned_by(&["a"]);
            adapter.status.phase = phase;
            desired.workloads.insert("p".into(), adapter.into());
        }
        said(want(row, &desired))
    };
    let running = Some(WorkloadPhase::Running);
    assert_eq!(said_of(&terminal(), running), "wanted by a");
    assert_eq!(said_of(&terminal(), Some(WorkloadPhase::Starting)), "wanted by a");
    assert_eq!(said_of(&terminal(), None), "NoLongerNeeded: the adapter that asked for it, p, is gone");
    assert_eq!(
        said_of(&terminal(), Some(WorkloadPhase::Stopping)),
        "NoLongerNeeded: the adapter that asked for it, p, is being stopped"
    );
    let mut released = terminal();
    released.spec.released = true;
    assert_eq!(said_of(&released, running), "NoLongerNeeded: the agent released it");
    // Its adapter does not stand in for its run.
    let mut of_a_run = terminal();
    of_a_run.spec.run = Some("a.step.1".into());
    assert_eq!(said_of(&of_a_run, running), "NoLongerNeeded: run a.step.1 is missing");
}

#[test]
fn what_has_our_mark_and_no_row_is_taken_in_unless_it_was_let_go() {
    let seen = |pids: &[i32], run_dir, cgroup, let_go: usize| {
        let detached = LetGo { pid: Pid::new(77).unwrap(), command: "tmux".into(), why: LetGoWhy::Detached };
        SeenWorkload {
            processes: pids.iter().map(|pid| process(*pid, false)).collect(),
            run_dir,
            cgroup,
            let_go: vec![detached; let_go],
            ..SeenWorkload::default()
        }
    };
    // Pids 50 and 51 are protected.
    let cases = [
        (seen(&[], false, false, 0), "held: nothing of it is there"),
        (seen(&[], false, false, 1), "held: 1 let go by `tenure detach`"),
        (seen(&[], false, false, 2), "held: 2 let go by `tenure detach`"),
        (seen(&[], true, false, 0), "Adopt: it has no row, and left something behind"),
        (seen(&[], false, true, 0), "Adopt: it has no row, and left something behind"),
        (seen(&[], true, true, 1), "Adopt: it has no row, and left something behind"),
        (seen(&[11], false, false, 0), "Adopt: it has no row, and 1 living processes"),
        (seen(&[11, 12], true, false, 3), "Adopt: it has no row, and 2 living processes"),
        (seen(&[11, 50], true, false, 0), "Adopt: it has no row, and 1 living processes"),
        (seen(&[50], false, false, 0), "held: 1 processes of it match a `protect` pattern: let go"),
        (seen(&[50, 51], true, true, 1), "held: 2 processes of it match a `protect` pattern: let go"),
    ];
    let bounds = Bounds { protected: BTreeSet::from([proc_id(50), proc_id(51)]), ..open_gate() };
    for (seen, expected) in cases {
        assert_eq!(words(&line(&desired(None, None), &observed(Some(seen)), &bounds)), expected);
    }
}
