//! Flows that people have: each of them validates, and those without needs of their own come to what their authors meant.

use crate::support::{World, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn flows() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/flows")
}

/// A world in which nobody sleeps for long: the flows of the corpus pretend to work by sleeping.
fn hurried() -> World {
    let mut world = World::idle();
    let bin = world.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let sleep = bin.join("sleep");
    fs::write(&sleep, "#!/bin/sh\nexit 0\n").unwrap();
    fs::set_permissions(&sleep, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    world.env("PATH", &path);
    world.start();
    world
}

fn drop_flow(world: &World, file: &str, name: &str) {
    world.drop_file(name, &fs::read_to_string(flows().join(file)).unwrap());
}

#[test]
fn every_flow_of_the_corpus_validates() {
    let mut files = Vec::new();
    for entry in fs::read_dir(flows()).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.join("FLOW.yaml") {
            inside if inside.exists() => files.push(inside),
            _ if entry.extension().is_some_and(|extension| extension == "yaml") => files.push(entry),
            _ => {}
        }
    }
    assert_eq!(files.len(), 6, "{files:?}");
    let world = World::idle();
    for file in files {
        world.ok(&["validate", file.to_str().unwrap()]);
    }
}

#[test]
fn the_linear_and_the_looping_flow_succeed_and_the_failing_one_fails_where_it_says() {
    let world = hurried();
    drop_flow(&world, "report-test-linear.flow.yaml", "linear.flow.yaml");
    drop_flow(&world, "report-test-loop.flow.yaml", "loop.flow.yaml");
    drop_flow(&world, "report-test-failure.flow.yaml", "failure.flow.yaml");
    let linear = world.wait_job("data-pipeline", "Succeeded");
    assert_eq!(linear["status"]["outputs"]["status"], "success");
    let looping = world.wait_job("quality-loop", "Succeeded");
    assert_eq!(looping["status"]["outputs"]["published"], true);
    let failing = world.wait_job("failing-pipeline", "Failed");
    assert_eq!(failing["status"]["reason"], "StepFailed");
    let message = failing["status"]["message"].as_str().unwrap();
    assert!(message.contains("step `deploy`") && message.contains("Connection refused"), "{message}");
}

/// Answers a question once it is asked.
fn answer(world: &World, job: &str, step: &str, attempt: u64, answer: &str) {
    let name = wait_for(&format!("{step} {attempt} of {job} to ask"), || {
        let run = world.runs(job).remove(step)?;
        let asks = run["status"]["phase"] == "Suspended" && run["spec"]["attempt"] == attempt;
        asks.then(|| run["metadata"]["name"].as_str().unwrap().to_owned())
    });
    world.ok(&["fulfill", &name, answer]);
}

#[test]
fn the_demo_goes_from_an_issue_to_a_deployment() {
    let world = hurried();
    drop_flow(&world, "demo/FLOW.yaml", "demo/FLOW.yaml");
    let name =
        wait_for("the demo to begin", || Some(world.job("demo")?["metadata"]["name"].as_str().unwrap().to_owned()));
    answer(&world, &name, "pick-feature", 1, "feature=todo-list");
    answer(&world, &name, "approve-plan", 1, "decision=revise");
    answer(&world, &name, "approve-plan", 2, "decision=approve");
    answer(&world, &name, "ship-it", 1, "decision=deploy");
    let job = world.wait_job("demo", "Succeeded");
    let title = "[acme-eng] todo-list";
    assert_eq!(job["status"]["outputs"]["status"], "live", "{:#}", job["status"]);
    assert_eq!(job["status"]["outputs"]["pr_title"], title);
    let runs = world.runs(&name);
    // The revised plan has four tasks, each of which was tested until it passed.
    assert_eq!(runs["plan"]["spec"]["attempt"], 2);
    let results = runs["write-code"]["status"]["outputs"]["results"].as_array().unwrap().clone();
    assert_eq!(results.len(), 4);
    assert_eq!(runs["run-tests"]["status"]["outputs"]["status"], "pass");
    assert_eq!(runs["await-review"]["status"]["outputs"]["result"], "approved");
    assert_eq!(runs["close-pr"]["status"]["phase"], "Skipped");
    // Nothing of its sub-jobs is left running.
    let jobs = world.list("jobs");
    assert!(jobs.len() >= 6, "{} jobs", jobs.len());
    assert!(jobs.iter().all(|job| job["status"]["phase"] == "Succeeded"), "{jobs:#?}");
}

#[test]
fn the_polling_flow_waits_for_each_of_its_markers() {
    let world = World::new();
    let dir = world.path().join("project");
    fs::create_dir_all(dir.join("scripts")).unwrap();
    // What the author's script does, but at once.
    let script = "mkdir -p markers; echo '{\"ready\": \"True\"}' >\"markers/$1.json\"; echo \"{\\\"marker_path\\\": \\\"$PWD/markers/$1.json\\\"}\"\n";
    fs::write(dir.join("scripts/setup-marker.sh"), script).unwrap();
    let text = fs::read_to_string(flows().join("test-polling/FLOW.yaml")).unwrap();
    // Seconds, where the author has several.
    let text = ["30", "5", "3", "2"]
        .iter()
        .fold(text, |text, seconds| text.replace(&format!("interval_seconds: {seconds}\n"), "interval_seconds: 0.1\n"));
    let flow = tenure::manifest::parse("FLOW.yaml", text.as_bytes()).documents[0].value.clone();
    let job = json!({
        "apiVersion": "tenure.dev/v1alpha1",
        "kind": "Job",
        "metadata": {"name": "polling"},
        "spec": {"flow": flow, "workingDir": dir},
    });
    world.drop_file("job.json", &job.to_string());
    let job = world.wait_job("polling", "Succeeded");
    let outputs: &Value = &job["status"]["outputs"];
    for passed in ["basic_passed", "restart_passed", "longrun_passed"] {
        assert_eq!(outputs[passed], true, "{outputs:#}");
    }
    // It found what it waited for at the fifth check; the author compares with Python's `True`, and here a truth is `true`.
    assert_eq!(world.runs("polling")["poll-backoff"]["status"]["outputs"], json!({"ready": true, "attempts": 5}));
}
