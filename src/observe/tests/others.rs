//! What others started and is being ended.

use super::*;
use crate::model::{ForeignCause, ForeignTree, ForeignTreeSpec, ForeignVerdict, Snapshot, Workload};

const COMMANDS: [&str; 4] = ["sleep 1051", "sleep 1052", "sleep 1053", "sleep 1054"];

/// A tree without any mark: its root, with a child that a row names, one that none does, and one of ours. All are known by what
/// they sleep.
fn tree(world: &mut World) -> (ProcId, BTreeMap<&'static str, ProcId>) {
    let mark = world.mark("ours");
    let script = format!("sleep 1051 & sleep 1052 & {MARK}={mark} sleep 1053 & {MARK}=elsewhere/w sleep 1054 & wait");
    let root = world.start(None, &script);
    let found = eventually("its children", || {
        world.look();
        let children: Vec<_> = world.eyes.table.children(root.pid).map(|child| child.id).collect();
        let mut found = BTreeMap::new();
        for child in children {
            // It may have been seen before it was what it is now.
            world.eyes.table.again(child.pid).unwrap();
            let command = world.eyes.table.get(child.pid)?.command();
            found.insert(COMMANDS.into_iter().find(|one| *one == command)?, child);
        }
        (found.len() == COMMANDS.len()).then_some(found)
    });
    world.others.extend(found.values());
    (root, found)
}

fn row(members: Vec<ProcId>, boot_id: &BootId) -> Snapshot {
    let mut row = Workload::default();
    (row.metadata.name, row.metadata.uid) = ("theirs".into(), "theirs".into());
    row.spec.foreign = Some(ForeignTreeSpec::of(&kept(members, ForeignCause::Unowned), boot_id));
    let mut desired = Snapshot::default();
    desired.workloads.insert(row.uid(), row.into());
    desired
}

/// A tree that is kept for this.
fn kept(processes: Vec<ProcId>, cause: ForeignCause) -> ForeignTree {
    ForeignTree {
        root: processes[0],
        class: "claude".into(),
        command: String::new(),
        user: 0,
        started_at: Time(0),
        processes,
        others_below: Vec::new(),
        rss_bytes: 0,
        pss_bytes: None,
        owners: Vec::new(),
        verdict: ForeignVerdict::Keep,
        cause,
        evidence: String::new(),
        again_at: None,
    }
}

#[test]
fn whom_a_row_names_is_found_with_what_descends_from_it_but_not_what_is_marked_or_needed() {
    use ForeignCause as C;
    let mut world = World::new();
    let (root, of) = tree(&mut world);
    let (one, two) = (of["sleep 1051"], of["sleep 1052"]);
    let boot = boot_id().unwrap();
    let mut found = |members: &[ProcId], boot_id: &BootId, trees: &[ForeignTree]| {
        // Eyes that remember nothing, as those of a controller that was just started.
        world.eyes = Eyes::new(StateDir(world.scratch.path().into()), world.instance.clone(), None);
        world.eyes.end_others(Others::new(&row(members.to_vec(), boot_id), boot_id, trees));
        let seen = world.look();
        assert_eq!(seen[&"ours".into()].processes.len(), 1, "{seen:?}");
        let theirs = seen.get(&"theirs".into()).map(|it| it.processes.as_slice()).unwrap_or_default();
        theirs.iter().map(|process| process.id).collect::<BTreeSet<_>>()
    };
    assert_eq!(found(&[root], &boot, &[]), [root, one, two].into());
    assert_eq!(found(&[two], &boot, &[]), [two].into());
    for cause in [C::OwnerActive, C::Interactive, C::Unowned, C::TooYoung, C::LedgerUnknown] {
        let needed = [kept(vec![two], cause)];
        assert_eq!(found(&[root], &boot, &needed), [root, one].into(), "{cause:?}");
        // It was a part of the tree when that was condemned.
        assert_eq!(found(&[root, two], &boot, &needed), [root, one, two].into(), "{cause:?}");
    }
    let reused = ProcId { start: StartTime(two.start.0 + 1), ..two };
    assert_eq!(found(&[reused], &boot, &[]), BTreeSet::new());
}

#[test]
fn who_was_found_below_it_stays_a_part_of_it_unless_somebody_needs_that() {
    let mut world = World::new();
    let (root, of) = tree(&mut world);
    let (one, two) = (of["sleep 1051"], of["sleep 1052"]);
    let boot = boot_id().unwrap();
    let mut found = |trees: &[ForeignTree]| {
        world.eyes.end_others(Others::new(&row(vec![root], &boot), &boot, trees));
        let theirs = world.look().remove(&"theirs".into()).unwrap();
        theirs.processes.iter().map(|process| process.id).collect::<BTreeSet<_>>()
    };
    assert_eq!(found(&[]), [root, one, two].into());
    // What is left of a tree is in no ledger.
    assert_eq!(found(&[kept(vec![two], ForeignCause::Unowned)]), [root, one, two].into());
    assert_eq!(found(&[kept(vec![two], ForeignCause::OwnerActive)]), [root, one].into());
}

/// A server of jobs is in no tree, and what the agent that started it leaves behind names it no more.
#[test]
fn what_was_below_a_tree_without_belonging_to_it_is_never_found_in_it() {
    let mut world = World::new();
    let (root, of) = tree(&mut world);
    let (one, two) = (of["sleep 1051"], of["sleep 1052"]);
    let boot = boot_id().unwrap();
    let mut desired = row(vec![root, one], &boot);
    let theirs = desired.workloads.get_mut(&"theirs".into()).unwrap();
    std::sync::Arc::make_mut(theirs).spec.foreign.as_mut().unwrap().others_below = vec![two];
    world.eyes.end_others(Others::new(&desired, &boot, &[]));
    let theirs = world.look().remove(&"theirs".into()).unwrap();
    let found: BTreeSet<_> = theirs.processes.iter().map(|process| process.id).collect();
    assert_eq!(found, [root, one].into());
}

#[test]
fn after_another_boot_nothing_of_a_row_is_alive() {
    let mut world = World::new();
    let (root, _) = tree(&mut world);
    let (now, before) = (boot_id().unwrap(), BootId("another".into()));
    world.eyes.end_others(Others::new(&row(vec![root], &before), &now, &[]));
    assert!(!world.look().contains_key(&"theirs".into()));
}
