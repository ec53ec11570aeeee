//! Agents with bad manners: whatever one does, nothing of it is left when its job has ended.

use crate::support::agent::{Agent, Turn};
use crate::support::{World, wait_for};
use std::fs;

/// A job whose agent has these flags, ended in mid-turn by command: nothing is left of it.
#[track_caller]
fn cancelled_with(world: World, flags: &'static [&'static str], processes: usize) {
    let agent = Agent::Fake(flags);
    agent.install(&world, "  gracePeriod: 500ms\n  askPeriod: 500ms\n");
    world.drop_file("job.yaml", &job(agent.prompt(&Turn::Hold)));
    let traces = wait_for(&format!("the turn, and its {processes} processes\n{}", world.log()), || {
        let runs = world.runs("job");
        runs.get("work")?["status"]["session"].as_str()?;
        let traces = world.traces_of("job");
        (traces.processes.len() >= processes).then_some(traces)
    });
    world.ok(&["cancel", "job", "--wait"]);
    world.wait_gone(&traces);
}

fn job(prompt: &str) -> String {
    format!(
        "apiVersion: tenure.dev/v1alpha1\nkind: Job\nmetadata: {{name: job}}\nspec:\n  flow:\n    steps:\n      work:\n        executor: agent\n        agent: agent\n        prompt: {}\n        output_mode: stream_result\n        outputs: [result]\n",
        serde_json::to_string(prompt).unwrap()
    )
}

/// Each with cgroups, where this machine has them, and without.
macro_rules! manners {
    ($($name:ident: $flags:expr, $processes:expr;)+) => {
        mod with_cgroups {
            use super::*;
            $(#[test] fn $name() { cancelled_with(World::new(), $flags, $processes); })+
        }
        mod without_cgroups {
            use super::*;
            $(#[test] fn $name() {
                let mut world = World::idle();
                world.env("TENURE_CGROUP", "off");
                world.start();
                cancelled_with(world, $flags, $processes);
            })+
        }
    };
}

manners! {
    one_that_ignores_sigterm: &["--ignore-term", "--ignore-eof"], 2;
    one_that_ignores_end_of_file: &["--ignore-eof"], 2;
    one_that_leaves_a_grandchild: &["--grandchild"], 3;
    one_whose_child_double_forks_away: &["--escaper"], 3;
    one_whose_child_double_forks_away_with_an_empty_environment: &["--bare-escaper"], 3;
    one_that_takes_its_time: &["--slow-exit", "300ms"], 2;
}

/// A job that fails by itself says why; nothing is left of it.
#[track_caller]
fn fails_with(flags: &'static [&'static str], class: &str, prompt: &str, expected: &str) {
    let world = World::new();
    Agent::Fake(flags).install(&world, class);
    world.drop_file("job.yaml", &job(prompt));
    let job = world.wait_job("job", "Failed");
    let message = job["status"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains(expected), "the job says why: {message}");
    let traces = world.traces_of("job");
    assert!(!traces.uids.is_empty());
    world.wait_gone(&traces);
}

#[test]
fn one_that_never_answers_the_handshake() {
    fails_with(&["--no-handshake"], "  startTimeout: 1s\n", "@say x", "did not answer initialize within 1s");
}

#[test]
fn one_that_refuses_the_handshake() {
    fails_with(&["--fail-handshake"], "", "@say x", "initialize");
}

#[test]
fn one_that_dies_in_mid_prompt() {
    fails_with(&[], "", "@die", "exit status 1");
}

#[test]
fn one_that_answers_with_an_error() {
    fails_with(&[], "", "@fail no such model", "no such model");
}

#[test]
fn one_that_cannot_be_started() {
    let world = World::new();
    world.drop_file(
        "agent.yaml",
        "apiVersion: tenure.dev/v1alpha1\nkind: AgentClass\nmetadata: {name: agent}\nspec: {command: [/no/such/agent]}\n",
    );
    world.drop_file("job.yaml", &job("x"));
    let job = world.wait_job("job", "Failed");
    let message = job["status"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("could not be started: /no/such/agent"), "{message}");
    world.wait_gone(&world.traces_of("job"));
}

#[test]
fn a_handshake_that_the_real_adapter_does_not_finish_in_time() {
    let world = World::new();
    Agent::real().install(&world, "  startTimeout: 20ms\n");
    world.drop_file("job.yaml", &job("Say done."));
    let job = world.wait_job("job", "Failed");
    let message = job["status"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("did not answer initialize within 20ms"), "{message}");
    world.wait_gone(&world.traces_of("job"));
}

#[test]
fn what_an_agent_reads_writes_and_runs_through_us_stays_in_its_directories() {
    let world = World::new();
    Agent::fake().install(&world, "");
    let secret = world.path().join("secret");
    fs::write(&secret, "hidden").unwrap();
    let prompt = format!(
        "@put notes.txt hello\n@read notes.txt\n@read {0}\n@put {0} overwritten\n@terminal echo from a terminal; pwd\n@permission",
        secret.display()
    );
    world.drop_file("job.yaml", &job(&prompt));
    let job = world.wait_job("job", "Succeeded");
    let said = job["status"]["outputs"]["result"].as_str().unwrap().to_owned();
    assert!(said.contains("hello") && said.contains("from a terminal") && said.contains("allow"), "{said}");
    assert!(said.contains("error") && !said.contains("hidden"), "{said}");
    assert_eq!(fs::read_to_string(secret).unwrap(), "hidden");
    world.wait_gone(&world.traces_of("job"));
}

#[test]
fn cost_and_session_are_on_the_run_and_outputs_come_through_a_file() {
    let world = World::new();
    Agent::fake().install(&world, "");
    let prompt = serde_json::to_string("@cost 0.25\n@file {\"verdict\": \"fine\", \"score\": 7}").unwrap();
    world.drop_file(
        "job.yaml",
        &format!(
            "apiVersion: tenure.dev/v1alpha1\nkind: Job\nmetadata: {{name: job}}\nspec:\n  flow:\n    steps:\n      work:\n        executor: agent\n        agent: agent\n        prompt: {prompt}\n        outputs: [verdict, score]\n"
        ),
    );
    let job = world.wait_job("job", "Succeeded");
    assert_eq!(job["status"]["outputs"], serde_json::json!({"verdict": "fine", "score": 7}));
    assert_eq!(job["status"]["costUsd"], 0.25);
    assert!(world.runs("job")["work"]["status"]["session"].is_string());
}

#[test]
fn a_step_that_becomes_ready_as_its_adapter_fails_gets_another_one() {
    let world = World::new();
    Agent::Fake(&["--fail-handshake"]).install(&world, "");
    let step = |name: &str, more: &str| {
        format!(
            "      {name}:\n        executor: agent\n        agent: agent\n        prompt: x\n        on_error: continue\n{more}"
        )
    };
    world.drop_file(
        "job.yaml",
        &format!(
            "apiVersion: tenure.dev/v1alpha1\nkind: Job\nmetadata: {{name: job}}\nspec:\n  flow:\n    steps:\n{}{}",
            step("first", ""),
            step("second", "        after_resolved: [first]\n")
        ),
    );
    let job = wait_for("the job to end", || {
        let job = world.job("job")?;
        job["status"]["finishedAt"].is_string().then_some(job)
    });
    assert_eq!(job["status"]["phase"], "Succeeded", "both failed, and may: {:#}", job["status"]);
    assert_eq!(world.workloads_of("job").len(), 2, "an adapter that has failed is not used again");
    world.wait_gone(&world.traces_of("job"));
}
