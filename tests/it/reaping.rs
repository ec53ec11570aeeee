//! Trees that try to get away: whatever they do, nothing of one is left when its job has ended; with cgroups and without,
//! also when the shim was killed first, or the controller in the middle, or for good.
//!
//! The trees are those of `reaping/tree.pl`. Every process of one carries a tag among its arguments, so that the tests' own
//! eyes find it whatever else it sheds.

use crate::support::procs::{self, Process};
use crate::support::{Traces, World, wait_for};
use std::fs;

/// A job whose agent is such a tree: it never says a word, and is ended by command.
struct Scene {
    world: World,
    tag: String,
}

impl Scene {
    /// Starts the tree, and waits until it has this many processes.
    fn new(cgroups: bool, mode: &str, number: usize, processes: usize) -> Scene {
        Scene::with_lease(cgroups, mode, number, processes, "5m")
    }

    fn with_lease(cgroups: bool, mode: &str, number: usize, processes: usize, lease: &str) -> Scene {
        let mut world = World::idle();
        world.drop_file(
            "policy.yaml",
            &format!(
                "apiVersion: tenure.dev/v1alpha1\nkind: Policy\nmetadata: {{name: default}}\nspec: {{lease: {lease}}}\n"
            ),
        );
        if !cgroups {
            world.env("TENURE_CGROUP", "off");
        }
        world.start();
        let tag = format!("tag-{}", world.path().file_name().unwrap().to_string_lossy());
        let script = world.path().join("tree.pl");
        fs::write(&script, include_str!("reaping/tree.pl")).unwrap();
        world.drop_file(
            "agent.yaml",
            &format!(
                "apiVersion: tenure.dev/v1alpha1\nkind: AgentClass\nmetadata: {{name: agent}}\nspec:\n  command: [perl, {script:?}, {tag}, {mode}, \"{number}\"]\n  gracePeriod: 300ms\n  askPeriod: 100ms\n"
            ),
        );
        world.drop_file(
            "job.yaml",
            "apiVersion: tenure.dev/v1alpha1\nkind: Job\nmetadata: {name: job}\nspec:\n  flow:\n    steps:\n      work: {executor: agent, agent: agent, prompt: hello}\n",
        );
        let scene = Scene { world, tag };
        wait_for(&format!("{processes} processes\n{}", scene.world.log()), || {
            (scene.tree().len() >= processes).then_some(())
        });
        wait_for("its row to say that it runs", || {
            let workloads = scene.world.workloads_of("job");
            (workloads.first()?["status"]["phase"] == "Running").then_some(())
        });
        scene
    }

    /// Every living process of the tree.
    fn tree(&self) -> Vec<Process> {
        procs::all().into_iter().filter(|process| process.command.split(' ').any(|word| word == self.tag)).collect()
    }

    fn shim(&self) -> Process {
        let pid = self.world.workloads_of("job")[0]["status"]["shim"]["pid"].as_i64().unwrap();
        procs::process(i32::try_from(pid).unwrap()).unwrap()
    }

    #[track_caller]
    fn wait_gone(&self, traces: &Traces) {
        wait_for(&format!("the tree to end\n{}", self.world.log()), || self.tree().is_empty().then_some(()));
        self.world.wait_gone(traces);
        // Nor does anything come back.
        assert!(self.tree().is_empty());
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Of a test that failed.
        for _ in 0..50 {
            let left = self.tree();
            if left.is_empty() {
                return;
            }
            for process in &left {
                let _ = std::process::Command::new("kill").args(["-KILL", &process.pid.to_string()]).output();
            }
        }
    }
}

fn ends(cgroups: bool, mode: &str, number: usize, processes: usize) {
    let scene = Scene::new(cgroups, mode, number, processes);
    let traces = scene.world.traces_of("job");
    scene.world.ok(&["cancel", "job"]);
    scene.wait_gone(&traces);
}

/// Nobody comes back for it: its shim ends it, and leaves as little.
fn ends_by_its_lease(cgroups: bool, mode: &str, number: usize, processes: usize) {
    let mut scene = Scene::with_lease(cgroups, mode, number, processes, "1s");
    let traces = scene.world.traces_of("job");
    scene.world.kill_controller();
    scene.wait_gone(&traces);
}

macro_rules! trees {
    ($($name:ident: $mode:literal, $number:literal, $processes:literal;)+) => {
        mod with_cgroups {
            $(#[test] fn $name() { super::ends(true, $mode, $number, $processes); })+
        }
        mod without_cgroups {
            $(#[test] fn $name() { super::ends(false, $mode, $number, $processes); })+
        }
        mod by_their_lease_with_cgroups {
            $(#[test] fn $name() { super::ends_by_its_lease(true, $mode, $number, $processes); })+
        }
        mod by_their_lease_without_cgroups {
            $(#[test] fn $name() { super::ends_by_its_lease(false, $mode, $number, $processes); })+
        }
    };
}

trees! {
    one_whose_child_begins_a_session_of_its_own_and_loses_its_parents: "escape", 0, 2;
    one_that_escapes_and_clears_its_environment: "bare", 0, 2;
    one_that_runs_another_program_with_another_environment: "reexec", 0, 2;
    one_with_a_cgroup_of_its_own_making: "nested", 0, 2;
    one_that_is_stopped: "stopped", 0, 2;
    one_that_ignores_all_it_can: "stubborn", 0, 3;
    one_that_grows_two_heads_for_each_that_is_told_to_end: "hydra", 10, 2;
    one_that_forks_as_fast_as_it_can: "bomb", 100, 100;
    one_of_a_thousand_processes: "many", 1000, 1001;
}

/// The shim is killed first: then its workload is lost, and what is left of it is ended.
fn ends_without_its_shim(cgroups: bool, mode: &str) {
    let scene = Scene::new(cgroups, mode, 5, 2);
    let traces = scene.world.traces_of("job");
    // Where there is no cgroup and no environment, who was never seen below its shim can not be known.
    wait_for("a look that sees it all", || {
        let seen = scene.world.workloads_of("job")[0]["status"]["pids"].clone();
        let pids: Vec<i32> = serde_json::from_value(seen).unwrap_or_default();
        scene.tree().iter().all(|process| pids.contains(&process.pid)).then_some(())
    });
    procs::signal(scene.shim().pid, "KILL");
    scene.world.wait_job("job", "Failed");
    scene.wait_gone(&traces);
}

#[test]
fn an_escaped_process_whose_shim_was_killed_with_cgroups() {
    ends_without_its_shim(true, "escape");
}

#[test]
fn an_escaped_process_whose_shim_was_killed_without_cgroups() {
    ends_without_its_shim(false, "escape");
}

#[test]
fn an_escaped_process_with_a_cleared_environment_whose_shim_was_killed_with_cgroups() {
    ends_without_its_shim(true, "bare");
}

/// Without a cgroup nothing marks it any more; but it was seen below its shim, and is known by its identity.
#[test]
fn an_escaped_process_with_a_cleared_environment_whose_shim_was_killed_without_cgroups() {
    ends_without_its_shim(false, "bare");
}

/// The controller is killed when the end has just begun, and started again.
fn ends_in_spite_of_a_killed_controller(cgroups: bool) {
    let mut scene = Scene::new(cgroups, "stubborn", 0, 3);
    let traces = scene.world.traces_of("job");
    scene.world.ok(&["cancel", "job"]);
    scene.world.kill_controller();
    assert!(!scene.tree().is_empty(), "it was over before the controller was killed");
    scene.world.start();
    scene.wait_gone(&traces);
}

#[test]
fn a_stubborn_tree_whose_controller_was_killed_in_the_middle_with_cgroups() {
    ends_in_spite_of_a_killed_controller(true);
}

#[test]
fn a_stubborn_tree_whose_controller_was_killed_in_the_middle_without_cgroups() {
    ends_in_spite_of_a_killed_controller(false);
}

/// A tracer holds it: SIGTERM stops it before it acts on it, only SIGKILL ends it.
fn ends_though_it_is_traced(cgroups: bool) {
    let scene = Scene::new(cgroups, "idle", 0, 1);
    let traces = scene.world.traces_of("job");
    let pid = nix::unistd::Pid::from_raw(scene.tree()[0].pid);
    if let Err(errno) = nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty()) {
        eprintln!("this system does not let us trace ({errno}): not tried");
        return;
    }
    scene.world.ok(&["cancel", "job"]);
    wait_for("the end of what is traced", || match nix::sys::wait::waitpid(pid, None) {
        Ok(nix::sys::wait::WaitStatus::Signaled(_, signal, _)) => Some(signal),
        Ok(_) => None,
        Err(errno) => panic!("{errno}"),
    });
    scene.wait_gone(&traces);
}

#[test]
fn a_traced_process_with_cgroups() {
    ends_though_it_is_traced(true);
}

#[test]
fn a_traced_process_without_cgroups() {
    ends_though_it_is_traced(false);
}

/// An emptied state directory is another instance's: it touches nothing of the old one, whose shims end by their lease.
#[test]
fn a_wiped_state_directory_leaves_the_old_instance_to_its_shims() {
    let mut world = World::idle();
    world.drop_file(
        "policy.yaml",
        "apiVersion: tenure.dev/v1alpha1\nkind: Policy\nmetadata: {name: default}\nspec: {lease: 3s}\n",
    );
    world.drop_file(
        "job.yaml",
        "apiVersion: tenure.dev/v1alpha1\nkind: Job\nmetadata: {name: job}\nspec:\n  flow:\n    steps:\n      work: {run: sleep 1000}\n",
    );
    world.start();
    let sleeping =
        |world: &World| world.traces_of("job").processes.into_iter().find(|process| process.command == "sleep 1000");
    let old = wait_for("the script", || sleeping(&world));
    let old_traces = world.traces_of("job");
    let before = procs::instance_of(&world.state()).unwrap();
    world.kill_controller();
    // What a person does who wants to begin afresh.
    fs::remove_dir_all(world.state()).unwrap();
    world.start();
    assert_ne!(procs::instance_of(&world.state()).unwrap(), before);
    let new = wait_for("the new instance's own script", || sleeping(&world));
    assert_ne!(old, new);
    for _ in 0..3 {
        world.ok(&["plan"]);
    }
    let told = world.ok(&["events"]);
    assert!(!told.contains("Leaked"), "the old instance's are not ours to judge: {told}");
    wait_for("the old shim to end its workload", || (!old.is_alive()).then_some(()));
    assert!(new.is_alive(), "{}", world.log());
    wait_for("no process of the old instance", || {
        old_traces.processes.iter().all(|process| !process.is_alive()).then_some(())
    });
}
