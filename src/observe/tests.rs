//! The eyes on real processes.

mod others;
mod own;

use super::*;
use crate::model::{Exit, SeenProcess, ShimSeen, StartTime};
use crate::os::testing::{eventually, id_of, kill, subreaper};
use crate::os::{MARK, start_time};
use std::fs;
use std::process::{Child, Command, Stdio};

/// An instance of its own, and everything that it started; ended when dropped.
struct World {
    scratch: tempfile::TempDir,
    eyes: Eyes,
    instance: InstanceId,
    cgroups: Option<Cgroups>,
    children: Vec<Child>,
    others: Vec<ProcId>,
}

impl World {
    fn new() -> World {
        World::with(|_| None)
    }

    fn with(cgroups: impl Fn(&InstanceId) -> Option<Cgroups>) -> World {
        let scratch = tempfile::tempdir().unwrap();
        let name = scratch.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_lowercase();
        let instance = InstanceId(format!("{name}-{}", std::process::id()));
        let cgroups = cgroups(&instance);
        let eyes = Eyes::new(StateDir(scratch.path().into()), instance.clone(), cgroups.clone());
        World { scratch, eyes, instance, cgroups, children: Vec::new(), others: Vec::new() }
    }

    fn mark(&self, uid: &str) -> String {
        format!("{}/{uid}", self.instance)
    }

    /// Starts `sh -c script` as a shim is started, with or without the mark.
    fn start(&mut self, uid: Option<&str>, script: &str) -> ProcId {
        let mut command = subreaper(script);
        command.env_remove(MARK);
        if let Some(uid) = uid {
            command.env(MARK, self.mark(uid));
        }
        self.spawn(command)
    }

    fn spawn(&mut self, mut command: Command) -> ProcId {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let id = id_of(&child);
        self.children.push(child);
        id
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.scratch.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn shim_file(&self, uid: &str, shim: ProcId) {
        let boot = boot_id().unwrap();
        self.file(
            &format!("workloads/{uid}/shim.json"),
            &format!(
                r#"{{"version":1,"bootId":"{boot}","shim":{{"pid":{},"start":{}}},"child":null,"startedAt":"2026-03-01T12:00:00Z"}}"#,
                shim.pid, shim.start.0
            ),
        );
    }

    fn look(&mut self) -> BTreeMap<WorkloadUid, SeenWorkload> {
        match self.eyes.look(Time(0), &BTreeSet::new()).workloads {
            Reading::Known(workloads) => {
                for process in workloads.values().flat_map(|workload| &workload.processes) {
                    self.others.push(process.id);
                }
                workloads
            }
            Reading::Unknown(why) => panic!("{why}"),
        }
    }

    fn processes(&mut self, uid: &str) -> Vec<SeenProcess> {
        self.look().remove(&uid.into()).unwrap_or_default().processes
    }

    /// Looks until one process of the workload, and no other, has this command line.
    fn await_command(&mut self, uid: &str, command: &str) -> SeenProcess {
        eventually(command, || {
            let mut found = self.processes(uid);
            found.retain(|process| process.command == command);
            (found.len() == 1).then(|| found.remove(0))
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.look();
        }
        for id in self.others.drain(..).chain(self.children.iter().map(id_of)) {
            kill(id);
        }
        for child in &mut self.children {
            child.wait().unwrap();
        }
        if let Some(cgroups) = &self.cgroups {
            for uid in cgroups.list().unwrap() {
                eventually("an empty cgroup", || cgroups.remove(&uid).unwrap().then_some(()));
            }
            cgroups.remove_base();
        }
    }
}

#[test]
fn a_daemon_that_left_its_parents_and_session_is_found_by_its_environment() {
    let mut world = World::new();
    let mut command = Command::new("sh");
    command.args(["-c", "(setsid sh -c 'sleep 1001 & exit' &)"]).env(MARK, world.mark("w1"));
    let first = world.spawn(command);
    let daemon = world.await_command("w1", "sleep 1001");
    eventually("its parent's end", || {
        let daemon = world.await_command("w1", "sleep 1001");
        (daemon.parent != Some(first.pid) && world.processes("w1").len() == 1).then_some(())
    });
    assert!(daemon.marks.environment && !daemon.is_shim);
    assert_eq!(daemon.user, rustix::process::getuid().as_raw());
    assert!(daemon.rss_bytes > 0);
}

#[test]
fn who_cleared_its_environment_is_found_by_descent_wherever_it_went() {
    let mut world = World::new();
    // The parent of `sleep 1002` ends and is never collected: `sleep 1003` waits for nobody.
    let script = "sh -c '(sleep 0.3 & env -i setsid sleep 1002 & wait %1) & exec env -i sleep 1003' & wait; wait";
    let shim = world.start(Some("w1"), script);
    world.shim_file("w1", shim);
    // Command line and environment are two reads; an exec between them shows the new one and the old one for a moment.
    let before = eventually("the cleared environment", || {
        let process = world.await_command("w1", "sleep 1002");
        ((process.marks.shim, process.marks.environment) == (true, false)).then_some(process)
    });
    assert!(start_time(before.parent.unwrap()).unwrap().is_some());
    let after = eventually("the shim as its parent", || {
        let process = world.await_command("w1", "sleep 1002");
        (process.parent == Some(shim.pid)).then_some(process)
    });
    assert_eq!((after.id, after.marks.shim), (before.id, true));
    let seen = world.processes("w1");
    assert!(seen.iter().all(|process| !process.is_zombie()));
    assert_eq!(seen.iter().filter(|process| process.is_shim).map(|process| process.id).collect::<Vec<_>>(), [shim]);
}

#[test]
fn who_cleared_its_environment_is_found_when_the_shim_is_dead_but_its_parent_lives() {
    let mut world = World::new();
    let shim = world.start(Some("w1"), "sh -c 'env -i sleep 1004 & wait' & wait");
    world.shim_file("w1", shim);
    let before = world.await_command("w1", "sleep 1004");
    kill(shim);
    let workload = world.look().remove(&"w1".into()).unwrap();
    assert!(workload.living_shim().is_none());
    assert!(workload.shim.is_some());
    assert!(workload.processes.iter().any(|process| process.id == before.id));
}

#[test]
fn who_cleared_everything_is_found_by_its_cgroup() {
    let mut world = World::with(Cgroups::detect);
    let Some(cgroups) = world.cgroups.clone() else { return };
    let path = cgroups.create(&"w1".into(), None).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ >\"$0/cgroup.procs\"; (env -i setsid sleep 1005 &)"]).arg(&path).env_remove(MARK);
    world.spawn(command);
    let daemon = world.await_command("w1", "sleep 1005");
    assert_eq!((daemon.marks.cgroup, daemon.marks.environment, daemon.marks.shim), (true, false, false));
    kill(daemon.id);
    let workload = eventually("an empty cgroup", || {
        world.look().remove(&"w1".into()).filter(|workload| workload.processes.is_empty())
    });
    assert!(workload.cgroup);
    assert!(cgroups.remove(&"w1".into()).unwrap());
    assert!(world.look().is_empty());
}

#[test]
fn an_exec_is_noticed_in_both_directions_and_who_was_ours_stays_ours() {
    let mut world = World::new();
    let (gate, mark) = (world.scratch.path().join("gate"), world.mark("w1"));
    let wait = format!("while [ ! -e {} ]; do sleep 0.01; done", gate.display());
    let comes = world.start(None, &format!("{wait}; exec env {MARK}={mark} sleep 1006"));
    let goes = world.start(Some("w1"), &format!("{wait}; exec env -u {MARK} sleep 1007"));
    eventually("the one that is marked", || {
        let seen = world.processes("w1");
        (seen.iter().any(|it| it.id == goes) && seen.iter().all(|it| it.id != comes)).then_some(())
    });
    fs::write(gate, "").unwrap();
    eventually("the change", || {
        let seen = world.processes("w1");
        let has_mark = |id| seen.iter().find(|it| it.id == id).map(|it| it.marks.environment);
        ((has_mark(comes), has_mark(goes)) == (Some(true), Some(false))).then_some(())
    });
    // Eyes that have not seen it with its mark know nothing of it.
    let mut others = Eyes::new(StateDir(world.scratch.path().into()), world.instance.clone(), None);
    let seen = |eyes: &mut Eyes| match eyes.look(Time(0), &BTreeSet::new()).workloads {
        Reading::Known(trees) => trees[&"w1".into()].processes.iter().map(|it| it.id).collect::<BTreeSet<_>>(),
        Reading::Unknown(reason) => panic!("{reason}"),
    };
    assert_eq!(seen(&mut others), BTreeSet::from([comes]));
    others.remember(&"w1".into(), &[goes]);
    assert_eq!(seen(&mut others), BTreeSet::from([comes, goes]));
    // Nor is it remembered as the process that it was, once another one has its pid.
    others.remember(&"w1".into(), &[ProcId { start: StartTime(goes.start.0 + 1), ..goes }]);
    kill(goes);
    assert_eq!(seen(&mut others), BTreeSet::from([comes]));
}

#[test]
fn a_marked_process_that_changes_long_after_its_start_is_noticed_at_once() {
    let mut world = World::new();
    let gate = world.scratch.path().join("gate");
    let wait = format!("while [ ! -e {} ]; do sleep 0.05; done", gate.display());
    let goes = world.start(Some("w1"), &format!("{wait}; exec env -u {MARK} sleep 1008"));
    let born = std::time::Instant::now();
    eventually("a process that is young no more", || {
        let seen = world.processes("w1");
        (born.elapsed().as_secs() >= 4 && seen.iter().any(|it| it.id == goes)).then_some(())
    });
    fs::write(gate, "").unwrap();
    eventually("its new environment", || (!world.processes("w1")[0].marks.environment).then_some(()));
    assert!(start_time(goes.pid).unwrap() == Some(goes.start));
}

#[test]
fn what_is_not_ours_is_not_seen() {
    let mut world = World::new();
    for mark in ["other/w1", "w1", "", "/", "a/b/c"].map(str::to_owned).into_iter().chain([
        format!("{}/", world.instance),
        format!("{}/../w1", world.instance),
        format!("{}/a b", world.instance),
        format!("{}/.w1", world.instance),
        format!("{}x/w1", world.instance),
    ]) {
        let mut command = Command::new("sleep");
        command.arg("1009").env(MARK, mark);
        world.spawn(command);
    }
    let ours = world.start(Some("w1"), "exec sleep 1010");
    let seen = eventually("ours", || Some(world.look()).filter(|seen| !seen.is_empty()));
    assert_eq!(seen.keys().map(WorkloadUid::as_str).collect::<Vec<_>>(), ["w1"]);
    assert_eq!(seen[&"w1".into()].processes.iter().map(|process| process.id).collect::<Vec<_>>(), [ours]);
}

#[test]
fn who_names_another_workload_belongs_to_that_one() {
    let mut world = World::new();
    let (other, foreign) = (world.mark("w2"), "elsewhere/w1");
    let script = format!("{MARK}={other} sleep 1011 & {MARK}={foreign} sleep 1012 & sleep 1013 & wait");
    let shim = world.start(Some("w1"), &script);
    world.shim_file("w1", shim);
    world.await_command("w1", "sleep 1013");
    world.await_command("w2", "sleep 1011");
    let seen = eventually("all three in their places", || {
        let seen = world.look();
        let of = |uid: &str| seen.get(&uid.into()).map_or(0, |workload| workload.processes.len());
        ((of("w1"), of("w2")) == (2, 1)).then_some(seen)
    });
    assert_eq!(seen[&"w2".into()].processes[0].command, "sleep 1011");
    // The one of another instance is in neither; it is ended here.
    let table_has = |it: &crate::os::Process| it.command() == "sleep 1012" && it.parent == Some(shim.pid);
    let foreign = world.eyes.table.iter().find(|it| table_has(it)).unwrap().id;
    world.others.push(foreign);
}

#[test]
fn a_shim_is_known_by_its_file_and_before_it_wrote_one_by_its_command_line() {
    let mut world = World::new();
    world.file("workloads/w1/spec.json", "{}");
    world.file("workloads/w2/spec.json", "{}");
    world.file("shim", "sleep 1014 & wait");
    let start = |world: &mut World, directory: &str| {
        let mut command = Command::new("sh");
        let directory_path = world.scratch.path().join("workloads").join(directory);
        command.arg("shim").arg(directory_path).current_dir(world.scratch.path()).env(MARK, world.mark("w1"));
        world.spawn(command)
    };
    let shim = start(&mut world, "w1");
    let not_of_w1 = start(&mut world, "w2");
    let seen = eventually("both", || {
        let seen = world.look();
        (seen[&"w1".into()].processes.len() == 4).then_some(seen)
    });
    let shims = |seen: &BTreeMap<WorkloadUid, SeenWorkload>| -> Vec<ProcId> {
        seen.values().flat_map(|it| &it.processes).filter(|it| it.is_shim).map(|it| it.id).collect()
    };
    assert_eq!(shims(&seen), [shim]);
    assert!(seen[&"w2".into()].run_dir);
    // Its file is the better witness.
    world.shim_file("w1", not_of_w1);
    assert_eq!(shims(&world.look()), [not_of_w1]);
}

#[test]
fn the_files_of_a_shim_are_read_and_what_is_not_understood_is_not_missing() {
    let mut world = World::new();
    let exit = r#"{"version":1,"exit":{"code":3,"at":"2026-03-01T12:00:00Z","peakRssBytes":9}}"#;
    let sleeper = world.start(None, "exec sleep 1015");
    world.file(
        "workloads/oldboot/shim.json",
        &format!(
            r#"{{"version":1,"bootId":"before","shim":{{"pid":{0},"start":{1}}},"child":{{"pid":{0},"start":{1}}}}}"#,
            sleeper.pid, sleeper.start.0
        ),
    );
    world.file("workloads/ended/exit.json", exit);
    world.file("workloads/newer/exit.json", r#"{"version":2,"result":"?"}"#);
    world.file("workloads/torn/shim.json", r#"{"version":1,"bootId"#);
    world.file("workloads/negative/shim.json", r#"{"version":1,"bootId":"b","shim":{"pid":-1,"start":1}}"#);
    world.file("workloads/begun/begun", "");
    world.file("workloads/stray-file", "");
    world.file("logs/cared/exit.json", exit);
    world.file("logs/forgotten/exit.json", exit);
    let interested = BTreeSet::from(["cared".into(), "absent".into(), "../logs/forgotten".into(), "ended".into()]);
    let observed = world.eyes.look(Time(7), &interested);
    assert_eq!((observed.look, observed.as_of, observed.boot_id), (1, Time(7), boot_id().unwrap()));
    let Reading::Known(seen) = observed.workloads else { panic!("unknown") };
    let names: Vec<_> = seen.keys().map(WorkloadUid::as_str).collect();
    assert_eq!(names, ["begun", "cared", "ended", "negative", "newer", "oldboot", "torn"]);

    let expected =
        Exit { code: Some(3), at: Some(Time(1_772_366_400_000)), peak_rss_bytes: Some(9), ..Exit::default() };
    assert_eq!(
        seen[&"ended".into()],
        SeenWorkload { run_dir: true, exit: Some(expected.clone()), ..Default::default() }
    );
    assert_eq!(seen[&"cared".into()], SeenWorkload { exit: Some(expected), ..Default::default() });
    let shim = ShimSeen { shim: sleeper, child: Some(sleeper), boot_id: "before".into() };
    assert_eq!(
        seen[&"oldboot".into()],
        SeenWorkload { run_dir: true, begun: true, shim: Some(shim), ..Default::default() }
    );
    assert_eq!(seen[&"begun".into()], SeenWorkload { run_dir: true, begun: true, ..Default::default() });
    for (uid, said) in [
        ("newer", "exit.json cannot be understood: it has format 2, and this tenure understands 1"),
        ("torn", "shim.json cannot be understood: EOF"),
        ("negative", "shim.json cannot be understood: -1 is not a process id"),
    ] {
        let workload = &seen[&uid.into()];
        let why = workload.unreadable.as_deref().unwrap();
        assert!(why.contains(said), "{why}");
        assert!(workload.run_dir && workload.shim.is_none() && workload.exit.is_none());
    }
    assert_eq!(world.eyes.look(Time(8), &interested).look, 2);
}

#[test]
fn an_identity_of_another_life_of_the_pid_is_no_shim() {
    let mut world = World::new();
    let sleeper = world.start(None, "exec sleep 1016");
    world.shim_file("w1", ProcId { start: StartTime(sleeper.start.0 + 1), ..sleeper });
    let workload = world.look().remove(&"w1".into()).unwrap();
    assert!(workload.shim.is_some() && workload.processes.is_empty());
}

#[test]
fn who_has_ended_and_was_not_collected_is_left_out() {
    let mut world = World::new();
    let ended = world.start(Some("w1"), "exec true");
    eventually("its end", || world.look().is_empty().then_some(()));
    assert_eq!(start_time(ended.pid).unwrap(), Some(ended.start), "it was collected");
}

#[test]
fn a_directory_that_cannot_be_read_makes_the_look_unknown() {
    let mut world = World::new();
    world.file("workloads", "not a directory");
    let observed = world.eyes.look(Time(0), &BTreeSet::new());
    let Reading::Unknown(why) = observed.workloads else { panic!("known") };
    assert!(why.contains("workloads"), "{why}");
    fs::remove_file(world.scratch.path().join("workloads")).unwrap();
}
