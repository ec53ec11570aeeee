//! The watched directory: what is dropped runs, what is broken changes nothing, what goes takes its objects along.

use crate::support::{World, wait_for};
use std::fs;

const HELLO: &str = "steps:\n  a:\n    run: printf hello\n";

#[test]
fn a_bare_flow_is_run_and_superseded_by_its_change() {
    let world = World::new();
    world.drop_file("greet.flow.yaml", HELLO);
    let first = world.wait_job("greet", "Succeeded");
    assert_eq!(first["status"]["outputs"]["stdout"], "hello");
    world.drop_file("greet.flow.yaml", &HELLO.replace("hello", "bye"));
    let second = wait_for("the new job", || {
        let job = world.job("greet")?;
        (job["metadata"]["name"] != first["metadata"]["name"] && job["status"]["phase"] == "Succeeded").then_some(job)
    });
    assert_eq!(second["status"]["outputs"]["stdout"], "bye");
    assert_eq!(world.list("jobs").len(), 1, "the old job is gone");
}

#[test]
fn a_directory_with_a_flow_in_it_is_a_flow() {
    let world = World::new();
    let tools = world.manifests().join("tools");
    fs::create_dir(&tools).unwrap();
    let script = tools.join("say.sh");
    fs::write(&script, "#!/bin/sh\necho said\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // A lone path is relative to the flow's directory.
    world.drop_file("tools/FLOW.yaml", "steps:\n  a:\n    run: ./say.sh\n");
    assert_eq!(world.wait_job("tools", "Succeeded")["status"]["outputs"]["stdout"], "said");
}

#[test]
fn a_file_that_does_not_parse_changes_nothing_and_says_where() {
    let world = World::new();
    let job = "apiVersion: tenure.dev/v1alpha1\nkind: Job\nmetadata: {name: job}\nspec:\n  flow: {steps: {a: {executor: external, outputs: [x]}}}\n";
    world.drop_file("job.yaml", job);
    world.wait_job("job", "Running");
    world.drop_file("job.yaml", &job.replace("flow:", "floww:"));
    let event = wait_for("the complaint", || {
        let events = world.ok(&["events"]);
        events.lines().find(|line| line.contains("ManifestInvalid")).map(str::to_owned)
    });
    assert!(event.contains("job.yaml:5:3: unknown key `floww`; did you mean `flow`?"), "{event}");
    let stored = world.job("job").unwrap();
    assert_eq!(stored["status"]["phase"], "Running");
    assert_eq!(stored["status"]["conditions"][0]["type"], "ManifestValid", "{stored:#}");
    // An editor that truncates before it writes is not somebody who removes a job.
    world.drop_file("job.yaml", "");
    wait_for("the emptied file to be seen", || world.ok(&["events"]).contains("the file is empty").then_some(()));
    assert!(world.job("job").is_some());
    world.drop_file("job.yaml", job);
    wait_for("the condition to go", || {
        world.job("job")?["status"]["conditions"].as_array().is_none_or(Vec::is_empty).then_some(())
    });
    world.remove_file("job.yaml");
    wait_for("the job to go", || world.job("job").is_none().then_some(()));
}

#[test]
fn a_directory_that_is_gone_holds_everything_back() {
    let world = World::new();
    world.drop_file(
        "job.yaml",
        "apiVersion: tenure.dev/v1alpha1\nkind: Job\nmetadata: {name: job}\nspec:\n  flow: {steps: {a: {run: sleep 1000}}}\n",
    );
    let traces = wait_for("the script", || {
        let traces = world.traces_of("job");
        traces.processes.iter().any(|process| process.command == "sleep 1000").then_some(traces)
    });
    let away = world.path().join("away");
    fs::rename(world.manifests(), &away).unwrap();
    wait_for("the loss to be noticed", || world.log().contains("nothing is ended until").then_some(()));
    world.ok(&["cancel", "job"]);
    world.wait_job("job", "Cancelled");
    let plan = world.ok(&["plan"]);
    assert!(plan.contains("is held back until the directory"), "{plan}");
    assert!(traces.processes.iter().all(|process| process.is_alive()));
    fs::rename(&away, world.manifests()).unwrap();
    world.wait_gone(&traces);
}

#[test]
fn a_job_that_was_deleted_does_not_run_again_and_a_second_controller_is_refused() {
    let mut world = World::new();
    world.drop_file("greet.flow.yaml", HELLO);
    let job = world.wait_job("greet", "Succeeded");
    let name = job["metadata"]["name"].as_str().unwrap().to_owned();
    world.ok(&["delete", "job", &name]);
    assert_eq!(world.cli(&["get", "job", &name]).status.code(), Some(3));
    world.kill_controller();
    world.start();
    wait_for("the directory to be read", || (!world.list("flows").is_empty()).then_some(()));
    assert!(world.job("greet").is_none());
    let second = world.cli(&["run"]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("is held by another controller (pid"), "{said}");
    assert!(world.end_controller().success());
}

#[test]
fn once_converges_and_exits() {
    let world = World::idle();
    world.drop_file("greet.flow.yaml", HELLO);
    let dir = world.manifests().display().to_string();
    world.ok(&["run", &dir, "--once"]);
    assert_eq!(world.job("greet").unwrap()["status"]["phase"], "Succeeded");
    assert!(world.list("workloads").iter().all(|workload| workload["status"]["phase"] == "Stopped"));
    let instance = crate::support::procs::instance_of(&world.state()).unwrap();
    let base = crate::support::procs::cgroups_of(&format!("tenure-{instance}"));
    assert!(base.is_empty(), "nothing runs on, so nothing stays: {base:?}");
}
