//! What others left, healed for good: a controller whose policy says `foreign: Reap` ends exactly what nobody needs.
//!
//! These controllers look at the real host. Each is told to protect whatever is not of its own test, by a letter that only the
//! test's own command lines have.

use crate::scan::host::{Host, Tree};
use crate::scan::twenty_trees;
use crate::support::procs::{self, Process};
use crate::support::{World, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

/// A host of its own with the policy that its controllers have.
struct Stage {
    host: Host,
    protect: Vec<String>,
}

impl Stage {
    fn new() -> Stage {
        let (host, others) = Host::of_one_letter();
        Stage { host, protect: vec![others] }
    }

    /// Writes the policy, and the ledger of files, as the manifest of a controller.
    fn policy(&self, world: &World, more: &Value) {
        let mut policy = json!({"foreign": "Reap", "minAge": "0s", "protect": self.protect});
        policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let object = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "tenure.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        let ledger = object("Ledger", "jobs", json!({"type": "files", "path": self.host.path("jobs")}));
        world.drop_file("ledger.yaml", &ledger.to_string());
        world.drop_file("policy.yaml", &object("Policy", "default", policy).to_string());
    }

    /// A tree of a program that keeps a file for each job.
    fn tree(&mut self, job: &str, state: &str) -> Process {
        let codex = self.host.path("node_modules/.bin/codex-acp");
        self.tree_of(job, state, &codex, 2)
    }

    fn tree_of(&mut self, job: &str, state: &str, script: &str, count: usize) -> Process {
        let root = self.host.start(job, state == "done", &["sh", script], &[], count);
        self.host.file_job(job, state, &root);
        root
    }

    fn named(&self, name: &str) -> &Tree {
        self.host.trees.iter().find(|tree| tree.name == name).unwrap()
    }

    fn is_whole(&self, name: &str) -> bool {
        self.named(name).processes.iter().all(Process::is_alive)
    }

    #[track_caller]
    fn wait_gone(&self, name: &str) {
        wait_for(&format!("the end of {name}\n{}", self.host.world.log()), || {
            (!self.named(name).processes.iter().any(Process::is_alive)).then_some(())
        });
    }

    /// The rows of what was condemned.
    fn rows(&self) -> Vec<Value> {
        let mut rows = self.host.world.list("workloads");
        rows.retain(|row| row["spec"]["type"] == "Foreign");
        rows
    }

    /// Of the plan, what it says of the tree with this root: the action or `held`, and why.
    fn planned(&self, root: &Process) -> Option<(String, String)> {
        let output = self.host.world.cli(&["plan", "-o", "json"]);
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
        let of = |key: &str| plan[key].as_array().unwrap().clone();
        let key = format!("foreign/{}", root.pid);
        let line = of("actions").into_iter().chain(of("held")).find(|line| line["key"] == *key)?;
        Some((line["action"].as_str().unwrap_or("held").into(), line["reason"].as_str().unwrap().into()))
    }

    /// Waits for an event of this reason.
    #[track_caller]
    fn wait_event(&self, kind: &str, name: &str, reason: &str) -> Value {
        wait_for(&format!("{reason} of {kind} {name}\n{}", self.host.world.log()), || {
            self.events(kind, name, reason).pop()
        })
    }

    fn events(&self, kind: &str, name: &str, reason: &str) -> Vec<Value> {
        let all = self.host.world.ok(&["events", "-o", "json"]);
        let list: Value = serde_json::from_str(&all).unwrap();
        let mut events = list["items"].as_array().unwrap().clone();
        events.retain(|event| event["kind"] == kind && event["name"] == name && event["reason"] == reason);
        events
    }

    /// Leaves a tree, and waits until it was found and ended: by then whoever was there before it has been judged, too.
    #[track_caller]
    fn prove_that_it_reaps(&mut self, name: &str) {
        self.tree(name, "done");
        self.wait_gone(name);
    }
}

/// The longest that a tree of Stepwise's is too young, with room for a busy machine.
const YOUNG: Duration = Duration::from_secs(100);

#[test]
fn of_twenty_trees_of_five_kinds_exactly_the_healthy_ones_are_left() {
    let mut stage = Stage::new();
    stage.host = twenty_trees(stage.host);
    stage.policy(&stage.host.world, &json!({}));
    stage.host.world.start();
    let begun = Instant::now();
    let lives = |tree: &Tree| tree.processes.iter().any(Process::is_alive);
    while stage.host.trees.iter().any(|tree| tree.leaked && lives(tree)) {
        let left: Vec<&str> =
            stage.host.trees.iter().filter(|tree| tree.leaked && lives(tree)).map(|tree| &*tree.name).collect();
        assert!(begun.elapsed() < YOUNG, "{left:?} were left\n{}", stage.host.world.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    let rows = wait_for("each to be on record as gone", || {
        Some(stage.rows()).filter(|rows| rows.iter().all(|row| row["status"]["phase"] == "Stopped"))
    });
    let roots = |leaked: bool| -> BTreeSet<i64> {
        let trees = stage.host.trees.iter().filter(|tree| tree.leaked == leaked);
        trees.map(|tree| i64::from(tree.root.pid)).collect()
    };
    assert_eq!(rows.iter().map(|row| row["status"]["pid"].as_i64().unwrap()).collect::<BTreeSet<_>>(), roots(true));
    for row in &rows {
        let name = row["metadata"]["name"].as_str().unwrap();
        assert_eq!(stage.events("Workload", name, "Condemned").len(), 1, "{row:#}");
        let stopped = stage.events("Workload", name, "Stopped").pop().unwrap();
        assert!(stopped["message"].as_str().unwrap().ends_with(" MB came back"), "{stopped:#}");
        assert!(row["status"]["cause"] == "OwnerTerminal" || row["status"]["cause"] == "OwnerMissing", "{row:#}");
    }
    for tree in stage.host.trees.iter().filter(|tree| !tree.leaked) {
        assert!(stage.is_whole(&tree.name), "{} was touched\n{}", tree.name, stage.host.world.log());
    }
}

#[test]
fn a_policy_that_reports_ends_nothing_and_the_plan_says_what_would_be_ended() {
    let mut stage = Stage::new();
    let (leaked, healthy) = (stage.tree("leaked", "done"), stage.tree("healthy", "running"));
    stage.policy(&stage.host.world, &json!({"foreign": "Report"}));
    stage.host.world.start();
    let (action, why) = wait_for("a line for it", || stage.planned(&leaked));
    assert_eq!(action, "held");
    assert!(why.starts_with("would be reaped, were it not for the policy `foreign: Report`: "), "{why}");
    let table = stage.host.world.ok(&["plan"]);
    assert!(table.contains(&format!("foreign/{}", leaked.pid)), "{table}");
    assert!(!table.contains(&format!("foreign/{}", healthy.pid)), "{table}");
    let wide = stage.host.world.ok(&["plan", "-o", "wide"]);
    assert!(wide.contains(&format!("foreign/{}", healthy.pid)), "{wide}");
    assert!(stage.is_whole("leaked") && stage.is_whole("healthy") && stage.rows().is_empty());
    // The same, of the store that a controller has left.
    stage.host.world.end_controller();
    assert_eq!(stage.planned(&leaked).unwrap().0, "held");
    // What it said is what is done, once it is allowed.
    stage.policy(&stage.host.world, &json!({}));
    stage.host.world.start();
    stage.wait_gone("leaked");
    assert!(stage.is_whole("healthy"));
}

#[test]
fn an_end_goes_on_where_a_killed_controller_left_it() {
    let mut stage = Stage::new();
    let stubborn = stage.host.path("node_modules/.bin/stubborn/claude-agent-acp");
    stage.tree_of("stubborn", "done", &stubborn, 2);
    stage.tree_of("neighbour", "running", &stubborn, 2);
    stage.policy(&stage.host.world, &json!({}));
    stage.host.world.start();
    wait_for("SIGTERM to be on record as sent", || {
        stage.rows().iter().any(|row| row["status"]["stage"]["sent"] == true).then_some(())
    });
    stage.host.world.kill_controller();
    assert!(stage.named("stubborn").root.is_alive());
    // Its ledger says nothing more of it: the row does.
    fs::remove_file(stage.host.path("jobs/stubborn.json")).unwrap();
    stage.host.world.start();
    stage.wait_gone("stubborn");
    wait_for("its row to say so", || (stage.rows()[0]["status"]["phase"] == "Stopped").then_some(()));
    assert_eq!(stage.rows().len(), 1);
    assert!(stage.is_whole("neighbour"));
}

#[test]
fn what_is_left_when_the_root_has_ended_goes_too() {
    let mut stage = Stage::new();
    let split = stage.host.path("node_modules/.bin/split/claude-agent-acp");
    stage.tree_of("split", "done", &split, 3);
    stage.tree_of("healthy", "running", &split, 3);
    stage.policy(&stage.host.world, &json!({}));
    stage.host.world.start();
    stage.wait_gone("split");
    wait_for("its row to say so", || (stage.rows()[0]["status"]["phase"] == "Stopped").then_some(()));
    assert!(stage.is_whole("healthy"));
}

#[test]
fn what_somebody_needs_again_or_the_policy_spares_is_kept() {
    let mut stage = Stage::new();
    let again = stage.tree("again", "done");
    let opencode = stage.host.path("bin/opencode");
    stage.tree_of("protected", "done", &opencode, 2);
    // A pid that was used again: the record is about another process, which ended long ago.
    let innocent = stage.tree("innocent", "done");
    let before = Process { start: innocent.start.saturating_sub(100_000), ..innocent.clone() };
    stage.host.file_job("innocent", "done", &before);
    stage.protect.push("/opencode$".into());
    stage.policy(&stage.host.world, &json!({"foreign": "Report"}));
    stage.host.world.start();
    let (_, why) = wait_for("a line for it", || stage.planned(&again));
    assert!(why.starts_with("would be reaped"), "{why}");
    stage.host.file_job("again", "running", &again);
    stage.policy(&stage.host.world, &json!({}));
    stage.prove_that_it_reaps("leaked");
    for name in ["again", "protected", "innocent"] {
        assert!(stage.is_whole(name), "{name} was touched\n{}", stage.host.world.log());
    }
    stage.policy(&stage.host.world, &json!({"minAge": "1h"}));
    let young = stage.tree("young", "done");
    let (action, why) = wait_for("a line for the young one", || stage.planned(&young));
    assert_eq!(action, "held", "{why}");
    assert!(stage.is_whole("young") && stage.rows().len() == 1);
}

#[test]
fn a_ledger_that_can_not_be_read_holds_its_trees_back_and_says_so() {
    let mut stage = Stage::new();
    let root = stage.tree("leaked", "running");
    stage.policy(&stage.host.world, &json!({}));
    stage.host.world.start();
    let (jobs, away) = (stage.host.path("jobs"), stage.host.path("away"));
    for (round, how) in ["gone", "a file"].into_iter().enumerate() {
        fs::rename(&jobs, &away).unwrap();
        if how == "a file" {
            fs::write(&jobs, "garbage").unwrap();
        }
        wait_for(&format!("it to be {how}\n{}", stage.host.world.log()), || {
            (stage.events("Ledger", "jobs", "LedgerUnreadable").len() == round + 1).then_some(())
        });
        let said = stage.host.world.get("ledger", "jobs").unwrap();
        assert!(said["status"]["message"].as_str().unwrap().starts_with("can not be read: "), "{said:#}");
        assert!(stage.is_whole("leaked") && stage.rows().is_empty());
        let _ = fs::remove_file(&jobs);
        fs::rename(&away, &jobs).unwrap();
        wait_for("it to be read again", || {
            (stage.events("Ledger", "jobs", "LedgerReadable").len() == round + 1).then_some(())
        });
    }
    assert!(stage.host.world.get("ledger", "jobs").unwrap()["status"]["message"].is_null());
    stage.host.file_job("leaked", "done", &root);
    stage.wait_gone("leaked");
}

#[test]
fn when_the_budget_is_used_up_the_others_wait_and_a_new_controller_counts_on() {
    let mut stage = Stage::new();
    let roots: Vec<Process> = ["a", "b", "c"].map(|name| stage.tree(name, "done")).into();
    stage.policy(&stage.host.world, &json!({"maxReapsPerMinute": 1}));
    stage.host.world.start();
    let event = stage.wait_event("Policy", "default", "ReapsSuspended");
    assert!(event["message"].as_str().unwrap().contains("2 trees wait"), "{event:#}");
    let alive = || roots.iter().filter(|root| root.is_alive()).collect::<Vec<_>>();
    wait_for("the end of one", || (alive().len() == 2).then_some(()));
    stage.host.world.kill_controller();
    stage.host.world.start();
    let (action, why) = wait_for("a line for the next one", || {
        stage.planned(alive()[0]).filter(|(_, why)| why.contains("maxReapsPerMinute"))
    });
    assert_eq!(action, "held", "{why}");
    // Both controllers said so, once each, however often they looked.
    wait_for("the second suspension", || {
        (stage.events("Policy", "default", "ReapsSuspended").len() == 2).then_some(())
    });
    assert_eq!((alive().len(), stage.rows().len()), (2, 1));
}

#[test]
fn two_controllers_side_by_side_end_the_same_ones_and_no_others() {
    let mut stage = Stage::new();
    stage.tree("leaked", "done");
    stage.tree("healthy", "running");
    let mut second = World::idle();
    stage.policy(&stage.host.world, &json!({}));
    stage.policy(&second, &json!({}));
    stage.host.world.start();
    second.start();
    stage.wait_gone("leaked");
    let ended = |world: &World| {
        let rows = world.list("workloads");
        rows.iter().all(|row| row["status"]["phase"] == "Stopped").then_some(rows.len())
    };
    let first = wait_for("the first one's rows", || ended(&stage.host.world));
    let other = wait_for("the second one's rows", || ended(&second));
    assert!(first + other >= 1);
    stage.prove_that_it_reaps("leaked too");
    assert!(stage.is_whole("healthy"));
}

#[test]
fn an_agent_in_a_workload_of_ours_is_its_job_s_business_whatever_a_ledger_says() {
    let mut stage = Stage::new();
    let codex = stage.host.path("node_modules/.bin/codex-acp");
    let bin = stage.host.path("bin");
    let flow = json!({"name": "own", "steps": {"work": {
        "run": format!("env -i BIN={bin} PATH=\"$PATH\" setsid sh {codex}"),
        "outputs": [],
    }}});
    stage.policy(&stage.host.world, &json!({}));
    stage.host.world.drop_file("own.flow.yaml", &flow.to_string());
    stage.host.world.start();
    let root = wait_for(&format!("the agent in the job\n{}", stage.host.world.log()), || {
        procs::all().into_iter().find(|process| process.command == format!("sh {codex}"))
    });
    stage.host.file_job("stolen", "done", &root);
    stage.prove_that_it_reaps("leaked");
    assert!(root.is_alive(), "{}", stage.host.world.log());
}
