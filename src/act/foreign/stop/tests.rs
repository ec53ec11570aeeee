//! Real trees, and a verdict that is given.

use super::*;
use crate::model::{ForeignCause, ForeignVerdict, Time};
use crate::observe::Surveyor;
use crate::os::testing::{KillOnDrop, eventually, id_of};
use crate::os::{Asked, MARK, particulars};
use std::process::{Child, Command, Stdio};

fn start(script: &str, env: &[(&str, &str)]) -> (Child, KillOnDrop) {
    let mut command = Command::new("sh");
    let child = command.args(["-c", script]).envs(env.iter().copied()).stdin(Stdio::null()).spawn().unwrap();
    let held = KillOnDrop(id_of(&child));
    (child, held)
}

/// The one process with this command line.
fn find(words: &str) -> KillOnDrop {
    let found = eventually(words, || {
        let census = Surveyor::new(&[]).census(Time(0), |_| true);
        census.processes.known()?.values().find(|it| it.argv.join(" ") == words).map(|it| it.id)
    });
    KillOnDrop(found)
}

fn is_alive(id: ProcId) -> bool {
    let census = Surveyor::new(&[]).census(Time(0), |_| true);
    census.processes.known().unwrap().get(&id.pid).is_some_and(|it| it.id == id && !it.is_zombie())
}

fn tree(root: ProcId, verdict: ForeignVerdict) -> ForeignTree {
    ForeignTree {
        root,
        class: "test".into(),
        command: "sh".into(),
        user: 0,
        started_at: Time(0),
        processes: vec![root],
        others_below: Vec::new(),
        rss_bytes: 0,
        pss_bytes: None,
        owners: Vec::new(),
        verdict,
        cause: ForeignCause::OwnerTerminal,
        evidence: "the test says so".into(),
        again_at: None,
    }
}

/// Ends the tree of this root. `verdict` is what each look says of it, as long as it lives; it is told how many looks there were.
fn end(root: ProcId, never: &Never, verdict: impl Fn(u32) -> ForeignVerdict) -> Outcome {
    let mut surveyor = Surveyor::new(&[]);
    let mut all = [Stopping::new(&tree(root, ForeignVerdict::Reap), Duration::from_millis(300))];
    let mut looks = 0;
    let look = || {
        looks += 1;
        let census = surveyor.census(Time(0), |_| true);
        let alive = census.processes.known().and_then(|all| all.get(&root.pid)).is_some_and(|it| it.id == root);
        let trees = alive.then(|| tree(root, verdict(looks)));
        (census, trees.into_iter().collect())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(stop(&mut all, never, look));
    let [stopping] = all;
    stopping.outcome
}

/// Somebody has to collect what ends here.
fn collected(mut child: Child) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || drop(child.wait()))
}

#[test]
fn a_tree_is_ended_with_what_has_left_its_root_and_ignores_requests() {
    let script = "trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 1060.5; sleep 1060.6' & sleep 1060.1; sleep 1060.2";
    let (child, held) = start(script, &[]);
    let (deep, near) = (find("sleep 1060.5"), find("sleep 1060.1"));
    let collector = collected(child);
    // What ends by SIGTERM is replaced by its parent: only SIGKILL ends this.
    assert_eq!(end(held.0, &never(None).unwrap(), |_| ForeignVerdict::Reap), Outcome::Gone);
    collector.join().unwrap();
    assert!(!is_alive(held.0) && !is_alive(deep.0) && !is_alive(near.0));
    let census = Surveyor::new(&[]).census(Time(0), |_| true);
    let left = census.processes.known().unwrap().values().filter(|it| it.argv.join(" ").starts_with("sleep 1060."));
    assert_eq!(left.map(|it| it.id).collect::<Vec<_>>(), []);
}

#[test]
fn one_whose_verdict_has_changed_is_left_alone() {
    for verdict in [ForeignVerdict::Keep, ForeignVerdict::Unknown] {
        let (child, held) = start("sleep 1061; true", &[]);
        let sleeping = find("sleep 1061");
        let collector = collected(child);
        // Of one that is unknown for a while, the look that follows may know.
        let outcome = end(held.0, &never(None).unwrap(), |look| if look > 2 { ForeignVerdict::Keep } else { verdict });
        assert_eq!(outcome, Outcome::Spared("the test says so".into()));
        assert!(is_alive(held.0) && is_alive(sleeping.0));
        drop((held, sleeping));
        collector.join().unwrap();
    }
}

#[test]
fn what_has_a_mark_and_what_is_protected_is_never_reached() {
    let protect = RegexSet::new(["^sleep 1062\\.2$"]).unwrap();
    let (child, held) = start("TENURE_WORKLOAD=an-instance/w sleep 1062.1 & sleep 1062.2 & wait", &[("A", "b")]);
    let (marked, protected) = (find("sleep 1062.1"), find("sleep 1062.2"));
    let mark = particulars(marked.0.pid, Asked::ALL).unwrap().unwrap().mark;
    assert_eq!(mark.as_deref(), Some("an-instance/w"), "{MARK}");
    let collector = collected(child);
    let never = never(Some(protect)).unwrap();
    let sent = terminate(&[marked.0, protected.0, held.0], &never).unwrap();
    assert_eq!(sent, 1);
    assert_eq!(kill(&[marked.0, protected.0], &never).unwrap(), 0);
    eventually("the end of the shell", || (!is_alive(held.0)).then_some(()));
    assert!(is_alive(marked.0) && is_alive(protected.0));
    drop((marked, protected));
    collector.join().unwrap();
}
