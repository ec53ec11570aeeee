//! Looks at our own trees: what they see without a list of the host, and what is left to a look at the host.

use super::*;

impl World {
    /// One whose first look at the host is done.
    fn with_cgroups() -> Option<(World, Cgroups)> {
        let mut world = World::with(Cgroups::detect);
        let cgroups = world.cgroups.clone()?;
        world.look();
        Some((world, cgroups))
    }

    /// The processes of a workload, by a look at our own.
    fn own(&mut self, uid: &str) -> Vec<SeenProcess> {
        let observed = self.eyes.look_at(Breadth::Own, Time(0), &BTreeSet::new());
        assert_eq!(observed.breadth, Breadth::Own);
        let Reading::Known(mut workloads) = observed.workloads else { panic!("unknown") };
        let seen: Vec<ProcId> = workloads.values().flat_map(|it| &it.processes).map(|it| it.id).collect();
        self.others.extend(seen);
        workloads.remove(&uid.into()).unwrap_or_default().processes
    }

    fn await_own(&mut self, uid: &str, command: &str) -> SeenProcess {
        eventually(command, || self.own(uid).into_iter().find(|process| process.command == command))
    }
}

#[test]
fn the_first_look_and_the_one_after_a_failure_are_at_the_whole_host() {
    let mut world = World::new();
    let breadth = |world: &mut World| world.eyes.look_at(Breadth::Own, Time(0), &BTreeSet::new()).breadth;
    assert!(!world.eyes.know_their_own());
    assert_eq!((breadth(&mut world), breadth(&mut world)), (Breadth::Host, Breadth::Own));
    world.file("workloads", "not a directory");
    assert_eq!(breadth(&mut world), Breadth::Own);
    fs::remove_file(world.scratch.path().join("workloads")).unwrap();
    assert_eq!((breadth(&mut world), breadth(&mut world)), (Breadth::Host, Breadth::Own));
}

#[test]
fn a_tree_is_seen_from_its_cgroup_on_without_a_list() {
    let Some((mut world, cgroups)) = World::with_cgroups() else { return };
    let path = cgroups.create(&"w1".into(), None).unwrap();
    let script = format!(
        "sh -c 'echo $$ >{0}/cgroup.procs; mkdir {0}/below; (env -i setsid sleep 1040 &); exec sleep 1041' & wait; exec sleep 1039",
        path.display()
    );
    let shim = world.start(Some("w1"), &script);
    world.shim_file("w1", shim);
    let main = world.await_own("w1", "sleep 1041");
    assert!(main.marks.cgroup && main.marks.environment && main.marks.shim);
    // Command line and environment are two reads; an exec between them shows the new one and the old one for a moment.
    let daemon = eventually("the cleared environment", || {
        let daemon = world.await_own("w1", "sleep 1040");
        (daemon.marks.cgroup && !daemon.marks.environment).then_some(daemon)
    });
    // Into a cgroup below: the one above lists it no more.
    fs::write(path.join("below/cgroup.procs"), main.id.pid.to_string()).unwrap();
    let mut seen = world.own("w1");
    seen.sort_by_key(|process| process.id);
    let mut ids = [shim, main.id, daemon.id];
    ids.sort_unstable();
    assert_eq!(seen.iter().map(|process| process.id).collect::<Vec<_>>(), ids);
    assert!(seen.iter().all(|process| process.marks.cgroup != (process.id == shim)));
    // What a look at the host says is the same.
    let mut host = world.processes("w1");
    host.sort_by_key(|process| process.id);
    let facts = |all: &[SeenProcess]| all.iter().map(|it| (it.id, it.parent, it.marks)).collect::<Vec<_>>();
    assert_eq!(facts(&seen), facts(&host));
    for (id, left) in [(main.id, 2), (daemon.id, 1), (shim, 0)] {
        kill(id);
        assert_eq!(world.own("w1").len(), left, "{id} has ended");
    }
}

#[test]
fn what_a_shim_forks_outside_the_cgroup_is_seen_by_its_descent() {
    let Some((mut world, _)) = World::with_cgroups() else { return };
    let shim = world.start(Some("w1"), "env -i sh -c 'env -i sleep 1042 & sleep 1043 & wait' & wait; exec sleep 1038");
    world.shim_file("w1", shim);
    let below = world.await_own("w1", "sleep 1042");
    assert_eq!((below.marks.shim, below.marks.environment, below.marks.cgroup), (true, false, false));
    world.await_own("w1", "sleep 1043");
    kill(below.parent.map(|pid| world.eyes.table.get(pid).unwrap().id).unwrap());
    // It is the shim's child now, and no list was needed to see that.
    let after = world.await_own("w1", "sleep 1042");
    assert_eq!((after.id, after.parent), (below.id, Some(shim.pid)));
}

#[test]
fn who_escapes_from_its_cgroup_is_found_by_its_environment_when_the_host_is_looked_at() {
    let Some((mut world, cgroups)) = World::with_cgroups() else { return };
    let (path, gate) = (cgroups.create(&"w1".into(), None).unwrap(), world.scratch.path().join("gate"));
    let outside = cgroups.base().parent().unwrap().to_owned();
    let script = format!(
        "echo $$ >{0}/cgroup.procs; while [ ! -e {1} ]; do sleep 0.01; done; \
         (sh -c 'echo $$ >{2}/cgroup.procs; exec setsid sleep 1044' &); exec sleep 1045",
        path.display(),
        gate.display(),
        outside.display()
    );
    let main = world.start(Some("w1"), &script);
    eventually("its start", || world.own("w1").iter().any(|process| process.id == main).then_some(()));
    fs::write(&gate, "").unwrap();
    world.await_own("w1", "sleep 1045");
    let escaped = eventually("the escaped", || {
        world.processes("w1").into_iter().find(|process| process.command == "sleep 1044" && !process.marks.cgroup)
    });
    assert!(escaped.marks.environment);
    // Once it is known, looks at our own see it too, and its end.
    assert!(world.own("w1").iter().any(|process| process.id == escaped.id));
    kill(escaped.id);
    assert!(world.own("w1").iter().all(|process| process.id != escaped.id));
}

#[test]
fn a_cgroup_that_is_removed_is_seen_no_more_and_one_that_is_made_again_is() {
    let Some((mut world, cgroups)) = World::with_cgroups() else { return };
    let uid = WorkloadUid::from("w1");
    let is_there = |world: &mut World| {
        let observed = world.eyes.look_at(Breadth::Own, Time(0), &BTreeSet::new());
        observed.workloads.known().unwrap().get(&"w1".into()).is_some_and(|workload| workload.cgroup)
    };
    for _ in 0..2 {
        let path = cgroups.create(&uid, None).unwrap();
        assert!(is_there(&mut world));
        let main = world.start(None, &format!("echo $$ >{}/cgroup.procs; exec sleep 1046", path.display()));
        world.await_own("w1", "sleep 1046");
        kill(main);
        eventually("its removal", || cgroups.remove(&uid).unwrap().then_some(()));
        assert!(!is_there(&mut world));
    }
}

/// As root, the next pid can be chosen: what is known by a pid is not what has it now.
#[test]
fn a_pid_that_was_used_again_is_never_reported_as_what_it_was() {
    let Some((mut world, cgroups)) = World::with_cgroups() else { return };
    let path = cgroups.create(&"w2".into(), None).unwrap();
    for _ in 0..20 {
        let old = world.start(Some("w1"), "exec sleep 1047");
        assert!(
            eventually("the first", || world.processes("w1").into_iter().find(|it| it.id == old)).marks.environment
        );
        kill(old);
        let mut first = world.children.pop().unwrap();
        first.wait().unwrap();
        if fs::write("/proc/sys/kernel/ns_last_pid", (old.pid.get() - 1).to_string()).is_err() {
            return; // not root
        }
        let new = world.start(None, &format!("echo $$ >{}/cgroup.procs; exec sleep 1048", path.display()));
        let taken = new.pid == old.pid && new.start != old.start;
        if taken {
            assert!(world.own("w1").is_empty());
            let seen = world.await_own("w2", "sleep 1048");
            assert_eq!((seen.id, seen.marks.cgroup, seen.marks.environment), (new, true, false));
            assert_eq!(world.processes("w2").iter().map(|it| it.id).collect::<Vec<_>>(), [new]);
        }
        kill(new);
        world.children.pop().unwrap().wait().unwrap();
        if taken {
            return;
        }
    }
    panic!("no pid was ever given out again");
}

#[test]
fn an_exec_is_noticed_without_a_list() {
    let Some((mut world, cgroups)) = World::with_cgroups() else { return };
    let path = cgroups.create(&"w1".into(), None).unwrap();
    let gate = world.scratch.path().join("gate");
    let wait = format!("while [ ! -e {} ]; do sleep 0.01; done", gate.display());
    let script = format!("echo $$ >{}/cgroup.procs; {wait}; exec env -u {MARK} sleep 1049", path.display());
    let main = world.start(Some("w1"), &script);
    eventually("its start", || {
        world.own("w1").iter().any(|it| it.id == main && it.marks.environment && it.marks.cgroup).then_some(())
    });
    fs::write(gate, "").unwrap();
    let seen = world.await_own("w1", "sleep 1049");
    assert_eq!(seen.id, main);
    eventually("its new environment", || {
        world.own("w1").iter().any(|it| it.id == main && !it.marks.environment && it.marks.cgroup).then_some(())
    });
}
