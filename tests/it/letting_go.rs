//! Letting go, on purpose: what `tenure detach` started and what the policy protects outlives its workload, and is listed;
//! what was not let go does not.

use crate::support::procs::{self, Process};
use crate::support::{Traces, World, wait_for};
use std::collections::BTreeMap;
use std::fs;

/// A script that starts the same kind of server three times, each with a child: one detached, one protected, one neither.
/// Each writes its pid, and its child's.
const SERVERS: &str = r#"
server() { printf '%s' "sleep 1000 & echo \$! >pids/$1-child; echo \$\$ >pids/$1; : $1-server; wait"; }
mkdir -p pids
"$TENURE" detach -- sh -c "$(server detached)" &
sh -c "$(server protected)" &
sh -c "$(server bound)" &
wait
"#;

const POLICY: &str = "apiVersion: tenure.dev/v1alpha1\nkind: Policy\nmetadata: {name: default}\nspec: {protect: [protected-server], lease: LEASE}\n";

struct Scene {
    world: World,
    pids: BTreeMap<String, Process>,
    traces: Traces,
}

impl Scene {
    fn new(cgroups: bool, lease: &str) -> Scene {
        let mut world = World::idle();
        if !cgroups {
            world.env("TENURE_CGROUP", "off");
        }
        world.env("TENURE", env!("CARGO_BIN_EXE_tenure"));
        world.drop_file("policy.yaml", &POLICY.replace("LEASE", lease));
        world.start();
        let work = world.path().join("work");
        fs::create_dir(&work).unwrap();
        world.drop_file(
            "job.yaml",
            &format!(
                "apiVersion: tenure.dev/v1alpha1\nkind: Job\nmetadata: {{name: job}}\nspec:\n  workingDir: {}\n  flow:\n    steps:\n      work:\n        run: {}\n",
                work.display(),
                serde_json::to_string(SERVERS).unwrap()
            ),
        );
        let pid = |name: &str| -> Option<Process> {
            let text = fs::read_to_string(work.join("pids").join(name)).ok()?;
            procs::process(text.trim().parse().ok()?)
        };
        let names = ["detached", "detached-child", "protected", "protected-child", "bound", "bound-child"];
        let pids = wait_for(&format!("the servers\n{}", world.log()), || {
            names.iter().map(|name| Some(((*name).to_owned(), pid(name)?))).collect::<Option<BTreeMap<_, _>>>()
        });
        let traces = wait_for("the row to say what is let go", || {
            let workloads = world.workloads_of("job");
            let let_go = workloads.first()?["status"]["letGo"].as_array()?.len();
            (let_go == 3).then(|| world.traces_of("job"))
        });
        Scene { world, pids, traces }
    }

    fn is_alive(&self, name: &str) -> bool {
        self.pids[name].is_alive()
    }

    /// Everything that was not let go has ended, residue and all; what was let go has not.
    fn only_what_was_let_go_is_left(&self) {
        let free = ["detached", "detached-child", "protected", "protected-child"];
        let free_pids: Vec<i32> = free.iter().map(|name| self.pids[*name].pid).collect();
        let keepers: Vec<i32> = self.keepers().iter().map(|keeper| keeper.pid).collect();
        wait_for(&format!("the rest to be gone\n{}", self.world.log()), || {
            let left = self.traces.processes.iter().filter(|process| process.is_alive());
            let left: Vec<_> =
                left.filter(|process| !free_pids.contains(&process.pid) && !keepers.contains(&process.pid)).collect();
            let residue = self.traces.uids.iter().any(|uid| {
                self.world.state().join("workloads").join(uid).exists() || !procs::cgroups_of(uid).is_empty()
            });
            (left.is_empty() && !residue).then_some(())
        });
        assert!(!self.is_alive("bound") && !self.is_alive("bound-child"));
        for name in free {
            assert!(self.is_alive(name), "{name} was let go, and ended\n{}", self.world.log());
        }
    }

    /// The parents of what was detached.
    fn keepers(&self) -> Vec<Process> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pids["detached"].pid)).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        parent.and_then(procs::process).into_iter().filter(|it| it.command.contains(" keep ")).collect()
    }

    fn listed(&self) -> Vec<(String, String)> {
        let workloads = self.world.list("workloads");
        let let_go = workloads.iter().flat_map(|it| it["status"]["letGo"].as_array().cloned().unwrap_or_default());
        let mut words: Vec<_> = let_go
            .map(|it| (it["why"].as_str().unwrap().to_owned(), it["command"].as_str().unwrap().to_owned()))
            .collect();
        words.sort();
        words
    }

    /// Parents first: one that lost its child may end by itself before it is signalled.
    fn end_what_was_let_go(&self) {
        for name in ["detached", "protected", "detached-child", "protected-child"] {
            if self.is_alive(name) {
                procs::signal(self.pids[name].pid, "KILL");
            }
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for process in self.pids.values().filter(|process| process.is_alive()) {
            procs::signal(process.pid, "KILL");
        }
    }
}

fn outlives_its_job(cgroups: bool) {
    let mut scene = Scene::new(cgroups, "5m");
    scene.world.ok(&["cancel", "job", "--wait"]);
    scene.only_what_was_let_go_is_left();
    let listed = wait_for("the three to be listed", || Some(scene.listed()).filter(|listed| listed.len() == 3));
    assert_eq!(listed[0].0, "Detached");
    assert!(listed[0].1.contains(": detached-server"), "{listed:?}");
    assert_eq!((listed[1].0.as_str(), listed[2].0.as_str()), ("Protected", "Protected"));
    let table = scene.world.ok(&["get", "workloads", "-o", "wide"]);
    assert!(table.contains("LET-GO") && table.contains("sleep 1000"), "{table}");

    // A controller that starts anew, and a job that is no more, change nothing about it.
    scene.world.kill_controller();
    scene.world.start();
    scene.world.remove_file("job.yaml");
    wait_for("the job's row to go", || scene.world.job("job").is_none().then_some(()));
    wait_for("a pass after the job was forgotten", || scene.world.list("stepruns").is_empty().then_some(()));
    scene.only_what_was_let_go_is_left();
    assert_eq!(scene.listed(), listed);

    scene.end_what_was_let_go();
    wait_for("nothing to be listed any more", || scene.listed().is_empty().then_some(()));
    wait_for("the keeper to end with what it kept", || scene.keepers().is_empty().then_some(()));
    let register = scene.world.state().join("let-go");
    wait_for("an empty register", || fs::read_dir(&register).unwrap().next().is_none().then_some(()));
}

#[test]
fn what_was_let_go_outlives_its_job_with_cgroups() {
    outlives_its_job(true);
}

#[test]
fn what_was_let_go_outlives_its_job_without_cgroups() {
    outlives_its_job(false);
}

fn outlives_the_lease(cgroups: bool) {
    let mut scene = Scene::new(cgroups, "1s");
    scene.world.kill_controller();
    scene.only_what_was_let_go_is_left();
    scene.end_what_was_let_go();
}

#[test]
fn what_was_let_go_outlives_the_lease_with_cgroups() {
    outlives_the_lease(true);
}

#[test]
fn what_was_let_go_outlives_the_lease_without_cgroups() {
    outlives_the_lease(false);
}

#[test]
fn a_detached_command_ends_as_it_would_have_and_so_does_one_outside_of_any_workload() {
    let mut world = World::idle();
    world.env("TENURE", env!("CARGO_BIN_EXE_tenure"));
    world.start();
    let script = r#"out=$("$TENURE" detach -- sh -c 'echo "mark: $TENURE_WORKLOAD"; sleep 0.2 >/dev/null & exit 3'); status=$?
"$TENURE" detach no-such-program 2>err; printf '{"out": "%s", "status": %d, "missing": %d, "err": "%s"}' "$out" $status $? "$(cat err)""#;
    world.drop_file(
        "job.yaml",
        &format!(
            "apiVersion: tenure.dev/v1alpha1\nkind: Job\nmetadata: {{name: job}}\nspec:\n  flow:\n    steps:\n      work:\n        run: {}\n        outputs: [out, status, missing, err]\n",
            serde_json::to_string(script).unwrap()
        ),
    );
    let outputs = world.wait_job("job", "Succeeded")["status"]["outputs"].clone();
    assert_eq!((&outputs["out"], &outputs["status"]), (&"mark: ".into(), &3.into()));
    assert_eq!(outputs["missing"], 1);
    assert!(outputs["err"].as_str().unwrap().contains("failed to start no-such-program"), "{outputs}");

    let plain = std::process::Command::new(env!("CARGO_BIN_EXE_tenure"))
        .args(["detach", "--", "sh", "-c", "echo plain; exit 4"])
        .env_remove("TENURE_WORKLOAD")
        .output()
        .unwrap();
    assert_eq!((plain.status.code(), plain.stdout.as_slice()), (Some(4), &b"plain\n"[..]));
}
