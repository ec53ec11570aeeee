//! Every executor, and what is wrapped around it, with real processes: polls, requests to a model, retries, timeouts,
//! fallbacks, notifications, kept results, requirements, values from outside, secrets, conversations, limits.

use crate::support::chat_api::{ChatApi, Reply};
use crate::support::{World, procs, wait_for};
use serde_json::{Value, json};
use std::fs;

/// Drops a job with this flow, and more of its spec.
fn start(world: &World, name: &str, flow: &Value, spec: &Value) {
    let mut job = json!({"apiVersion": "tenure.dev/v1alpha1", "kind": "Job", "metadata": {"name": name}, "spec": spec});
    job["spec"]["flow"] = flow.clone();
    world.drop_file(&format!("{name}.yaml"), &job.to_string());
}

/// The same, of these steps alone.
fn start_steps(world: &World, name: &str, steps: &Value) {
    start(world, name, &json!({"steps": steps}), &json!({}));
}

/// A path in the world, for a shell.
fn path(world: &World, name: &str) -> String {
    world.path().join(name).display().to_string()
}

/// How many lines a file has.
fn lines(path: &str) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

fn run(world: &World, job: &str, step: &str) -> Value {
    world.runs(job).get(step).cloned().unwrap_or_default()
}

/// Waits until a file has so many lines.
#[track_caller]
fn wait_lines(path: &str, count: usize) {
    wait_for(&format!("{path} to have {count} lines"), || (lines(path) >= count).then_some(()));
}

#[test]
fn a_poll_goes_on_by_its_schedule_over_a_crash_and_keeps_few_checks() {
    let mut world = World::new();
    let (asked, answer) = (path(&world, "asked"), path(&world, "answer"));
    let check = format!("echo $name >> {asked}; cat {answer} 2>&-; true");
    let steps = json!({"look": {"executor": "poll", "check_command": check, "interval_seconds": 1,
        "inputs": {"name": "$job.name"}, "outputs": ["found"]}});
    start(
        &world,
        "p",
        &json!({"inputs": {"name": {"type": "str"}}, "steps": steps}),
        &json!({"inputs": {"name": "x"}}),
    );
    wait_lines(&asked, 2);
    let suspended = wait_for("a pause between two checks", || {
        Some(run(&world, "p", "look")).filter(|run| run["status"]["phase"] == "Suspended")
    });
    assert!(suspended["status"]["dueAt"].is_string(), "{suspended:#}");
    world.kill_controller();
    world.start();
    let begun = run(&world, "p", "look")["status"]["startedAt"].clone();
    assert_eq!(begun, suspended["status"]["startedAt"], "it went on, and did not begin again");
    // Some more than are kept; the resync tidies.
    let so_far = lines(&asked);
    wait_lines(&asked, so_far + 6);
    wait_for("old checks to be tidied up", || (world.workloads_of("p").len() < 7).then_some(()));
    fs::write(&answer, r#"{"found": "it"}"#).unwrap();
    let job = world.wait_job("p", "Succeeded");
    assert_eq!(job["status"]["outputs"]["found"], "it", "{job:#}");
    assert!(fs::read_to_string(&asked).unwrap().lines().all(|line| line == "x"), "the name is replaced");
}

#[test]
fn a_model_answers_with_what_the_step_declares_and_the_run_says_what_it_cost() {
    let api = ChatApi::start();
    api.cost(0.5);
    api.answer_to("weather", Reply::Call(json!({"sky": "blue", "degrees": 21})));
    let mut world = World::idle();
    world.env("TENURE_LLM_BASE_URL", &api.url()).env("TENURE_LLM_API_KEY", "sk-never-to-be-seen").start();
    let steps = json!({
        "ask": {"executor": "llm", "model": "m", "system": "be short", "prompt": "weather in $place?",
            "inputs": {"place": "$job.place"}, "outputs": {"sky": {"type": "str"}, "degrees": {"type": "number"}}},
        "talk": {"executor": "llm", "model": "m", "prompt": "say something", "after": ["ask"], "outputs": ["response"]},
    });
    let flow = json!({"inputs": {"place": {"type": "str"}}, "steps": steps});
    start(&world, "l", &flow, &json!({"inputs": {"place": "Oslo"}}));
    let job = world.wait_job("l", "Succeeded");
    assert_eq!(job["status"]["costUsd"], 1.0, "{job:#}");
    let ask = run(&world, "l", "ask");
    assert_eq!(ask["status"]["outputs"], json!({"sky": "blue", "degrees": 21}), "{ask:#}");
    assert_eq!(ask["status"]["costUsd"], 0.5);
    assert!(ask["status"]["usage"]["totalTokens"].is_number(), "{ask:#}");
    assert_eq!(run(&world, "l", "talk")["status"]["outputs"]["response"], "done");
    assert_eq!(api.asked()[0].prompt(), "weather in Oslo?");
    assert_eq!(api.asked()[0].header("authorization"), Some("Bearer sk-never-to-be-seen"));
    let rows = world.ok(&["get", "workloads", "-o", "json"]);
    assert!(rows.contains("fromEnv") && !rows.contains("sk-never"), "{rows}");
}

#[test]
fn a_flaky_script_is_tried_again_a_slow_one_is_ended_and_another_takes_over() {
    let world = World::new();
    let (tries, tree) = (path(&world, "tries"), path(&world, "tree"));
    let flaky = format!("echo x >> {tries}; [ $(wc -l < {tries}) -ge 3 ] && echo '{{\"n\": 3}}'");
    let slow = format!("sleep 987 & echo $! > {tree}; setsid sleep 986 & wait");
    start_steps(
        &world,
        "d",
        &json!({
            "flaky": {"run": flaky, "outputs": ["n"], "decorators": [{"type": "retry", "config": {"max_retries": 5}}]},
            "slow": {"run": slow, "on_error": "continue", "decorators": [{"type": "timeout", "config": {"seconds": 1}}]},
            "first": {"run": "exit 4", "outputs": ["n"], "decorators": [
                {"type": "fallback", "config": {"fallback_ref": {"type": "script", "config": {"run": "echo '{\"n\": 2}'"}}}}]},
        }),
    );
    let job = world.wait_job("d", "Succeeded");
    assert_eq!(lines(&tries), 3);
    let flaky = run(&world, "d", "flaky");
    assert_eq!(flaky["status"]["tries"].as_array().map(Vec::len), Some(3), "{flaky:#}");
    let slow = run(&world, "d", "slow");
    assert_eq!(
        (&slow["status"]["phase"], &slow["status"]["reason"]),
        (&json!("Failed"), &json!("Timeout")),
        "{slow:#}"
    );
    assert_eq!(run(&world, "d", "first")["status"]["outputs"]["n"], 2, "{job:#}");
    let pid: i32 = fs::read_to_string(&tree).unwrap().trim().parse().unwrap();
    wait_for("the slow tree to be gone", || {
        procs::process(pid).is_none_or(|it| !it.command.contains("987")).then_some(())
    });
    world.wait_gone(&world.traces_of("d"));
}

#[test]
fn a_model_that_does_not_answer_is_replaced_and_somebody_is_told() {
    let (api, hook) = (ChatApi::start(), ChatApi::start());
    api.answer(Reply::error(400, "no such model"));
    let mut world = World::idle();
    world.env("TENURE_LLM_BASE_URL", &api.url()).start();
    start_steps(
        &world,
        "n",
        &json!({"ask": {"executor": "llm", "model": "m", "prompt": "?", "outputs": ["response"],
        "decorators": [
            {"type": "notification", "config": {"webhook_url": format!("{}/told", hook.url())}},
            {"type": "fallback", "config": {"fallback_ref":
                {"type": "script", "config": {"run": "echo '{\"response\": \"none\"}'"}}}},
        ]}}),
    );
    let job = world.wait_job("n", "Succeeded");
    assert_eq!(job["status"]["outputs"]["response"], "none", "{job:#}");
    let told = hook.asked();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].path.as_str(), &told[0].body["step"]), ("/v1/told", &json!("ask")), "{told:?}");
    assert_eq!(told[0].body["outputs"]["response"], "none", "{told:?}");
}

#[test]
fn a_try_whose_shim_is_killed_has_failed() {
    let world = World::new();
    let tries = path(&world, "tries");
    let script = format!("echo x >> {tries}; [ $(wc -l < {tries}) -ge 2 ] || sleep 985");
    start_steps(
        &world,
        "s",
        &json!({"a": {"run": script,
        "decorators": [{"type": "retry", "config": {"max_retries": 1}}]}}),
    );
    wait_lines(&tries, 1);
    let shim = wait_for("its shim to be seen", || {
        let rows = world.workloads_of("s");
        rows.first()?.pointer("/status/shim/pid").and_then(Value::as_u64)
    });
    procs::signal(u32::try_from(shim).unwrap(), "KILL");
    world.wait_job("s", "Succeeded");
    let tries = run(&world, "s", "a")["status"]["tries"].clone();
    assert_eq!(tries[0]["failure"]["reason"], "ShimLost", "{tries:#}");
}

#[test]
fn a_result_is_kept_for_an_equal_run_of_another_job() {
    let world = World::new();
    let done = path(&world, "done");
    let flow = |text: &str| {
        let script = format!("echo $who >> {done}; echo '{{\"n\": 1}}'; : {text}");
        json!({"inputs": {"who": {"type": "str"}}, "steps": {"a": {"run": script, "cache": {"ttl": "1h"},
            "inputs": {"who": "$job.who"}, "outputs": ["n"]}}})
    };
    for (name, text, who, times) in
        [("a", "one", "x", 1), ("b", "one", "x", 1), ("c", "one", "y", 2), ("d", "two", "x", 3)]
    {
        start(&world, name, &flow(text), &json!({"inputs": {"who": who}}));
        let job = world.wait_job(name, "Succeeded");
        assert_eq!((&job["status"]["outputs"]["n"], lines(&done)), (&json!(1), times), "{name}");
    }
    assert_eq!(run(&world, "b", "a")["status"]["cachedFrom"], "a.a.1");
}

#[test]
fn a_job_waits_for_what_it_requires() {
    let world = World::new();
    let there = path(&world, "there");
    let flow = json!({"name": "f", "requires": [{"name": "thing", "check": format!("echo looked >&2; test -e {there}"),
        "install": "touch it", "url": "https://example.com/thing"}], "steps": {"a": {"run": "true"}}});
    start(&world, "r", &flow, &json!({}));
    let job = wait_for("the job to say what is missing", || {
        world.job("r").filter(|job| job["status"]["reason"] == "RequirementMissing")
    });
    assert_eq!(job["status"]["phase"], "Pending");
    let message = job["status"]["message"].as_str().unwrap();
    for part in ["`thing`", "exit status 1: looked", "touch it", "https://example.com/thing"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let file = path(&world, "f.flow.yaml");
    fs::write(&file, flow.to_string()).unwrap();
    let validate = ["validate", "--check-requires", &file];
    assert_eq!(world.cli(&validate).status.code(), Some(1));
    fs::write(&there, "").unwrap();
    assert_eq!(world.cli(&validate).status.code(), Some(0));
    // Changed, it is asked at once.
    start(&world, "r", &flow, &json!({"deadline": "1h"}));
    world.wait_job("r", "Succeeded");
    fs::remove_file(&there).unwrap();
    world.wait_gone(&world.traces_of("r"));
}

#[test]
fn values_come_from_the_configuration_and_the_environment_and_stay_as_they_were() {
    let mut world = World::idle();
    world.env("STEPWISE_VAR_PLACE", "from the environment").env("STEPWISE_VAR_WHO", "hidden").start();
    fs::write(world.manifests().join("f.config.local.yaml"), "who: from a file\ncount: 3\n").unwrap();
    let flow = json!({"name": "f", "inputs": {"who": {"type": "str"}, "place": {"type": "str"}, "count": {"type": "number"},
            "given": {"type": "str", "default": "by default"}},
        "steps": {"a": {"run": "printf '%s/%s/%s/%s' \"$who\" \"$place\" \"$count\" \"$given\"", "outputs": ["stdout"],
            "inputs": {"who": "$job.who", "place": "$job.place", "count": "$job.count", "given": "$job.given"}}}});
    world.drop_file("f.flow.yaml", &flow.to_string());
    let job = world.wait_job("f", "Succeeded");
    assert_eq!(job["status"]["outputs"]["stdout"], "from a file/from the environment/3/by default", "{job:#}");
    assert_eq!(job["status"]["vars"]["count"], 3);
    assert_eq!(world.list("flows").len(), 1, "the configuration is no manifest");
}

#[test]
fn what_is_sensitive_is_never_printed() {
    let world = World::new();
    let secret = "hunter2-and-more";
    let flow = json!({"inputs": {"token": {"type": "str", "sensitive": true}}, "steps": {
        "a": {"run": "test \"$token\" = hunter2-and-more && printf '{\"echo\": \"<%s>\"}' \"$token\"",
            "inputs": {"token": "$job.token"}, "outputs": ["echo"]},
        "b": {"run": "echo failed with $token >&2; exit 1", "inputs": {"token": "$job.token", "more": "a.echo"}},
    }});
    // Through the API: a file in the directory would be the person's own text.
    let mut job = json!({"apiVersion": "tenure.dev/v1alpha1", "kind": "Job", "metadata": {"name": "s"},
        "spec": {"inputs": {"token": secret}}});
    job["spec"]["flow"] = flow;
    let file = path(&world, "s.json");
    fs::write(&file, job.to_string()).unwrap();
    world.ok(&["apply", "-f", &file]);
    world.wait_job("s", "Failed");
    let asks: [&[&str]; 9] = [
        &["logs", "s"],
        &["get", "jobs", "-o", "yaml"],
        &["get", "jobs", "-o", "wide"],
        &["get", "runs", "-o", "json"],
        &["get", "workloads", "-o", "json"],
        &["describe", "job", "s"],
        &["describe", "run", "s.b.1"],
        &["events"],
        &["get", "runs", "-o", "wide"],
    ];
    for args in asks {
        let text = world.ok(args);
        assert!(!text.contains(secret), "{args:?}: {text}");
    }
    assert!(world.ok(&["get", "jobs", "-o", "json"]).contains("***"));
    assert!(!world.log().contains(secret));
    world.ok(&["delete", "job", "s"]);
    let events = world.ok(&["events"]);
    assert!(!events.contains(secret), "{events}");
}

/// The bundled agent's class, with more lines of its spec.
fn agent(world: &World, more: &Value) {
    let mut class = json!({"apiVersion": "tenure.dev/v1alpha1", "kind": "AgentClass", "metadata": {"name": "agent"},
        "spec": {"command": [env!("CARGO_BIN_EXE_tenure-echo")], "gracePeriod": "1s"}});
    class["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.drop_file("agent.yaml", &class.to_string());
}

/// A step of that agent.
fn talk(prompt: &str, more: &Value) -> Value {
    let mut step = json!({"executor": "agent", "agent": "agent", "prompt": prompt, "output_mode": "stream_result",
        "outputs": ["result"]});
    step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    step
}

#[test]
fn steps_share_a_conversation_go_on_in_it_and_fork_it() {
    let world = World::new();
    agent(&world, &json!({}));
    let again =
        json!([{"name": "twice", "when": "attempt < 2", "action": "loop", "target": "more", "max_iterations": 3}]);
    start_steps(
        &world,
        "c",
        &json!({
            "learn": talk("@say the word is plum", &json!({"session": "talk"})),
            "more": talk("@say first", &json!({"session": "talk", "after": ["learn"], "loop_prompt": "@recall", "exits": again})),
            "aside": talk("@recall", &json!({"fork_from": "learn"})),
        }),
    );
    world.wait_job("c", "Succeeded");
    let learn = run(&world, "c", "learn");
    let more = run(&world, "c", "more");
    assert_eq!(more["spec"]["attempt"], 2, "{more:#}");
    assert_eq!(more["status"]["session"], learn["status"]["session"]);
    let said = more["status"]["outputs"]["result"].as_str().unwrap();
    assert!(said.contains("plum") && said.contains("@say first"), "{said}");
    let aside = run(&world, "c", "aside");
    assert_ne!(aside["status"]["session"], learn["status"]["session"]);
    assert!(aside["status"]["outputs"]["result"].as_str().unwrap().contains("plum"), "{aside:#}");
    assert_eq!(world.workloads_of("c").len(), 1, "one adapter for all of them");
}

#[test]
fn an_agent_may_leave_a_flow_behind_and_one_that_makes_no_sense_fails_its_run() {
    let world = World::new();
    agent(&world, &json!({}));
    let left =
        |text: &str| talk(&format!("@write $STEPWISE_EMIT_FLOW_FILE {text}\n@say done"), &json!({"emit_flow": true}));
    start_steps(&world, "e", &json!({"a": left("{\"steps\": {\"w\": {\"run\": \"true\", \"after\": [\"nobody\"]}}}")}));
    world.wait_job("e", "Failed");
    let run = run(&world, "e", "a");
    assert_eq!(run["status"]["reason"], "EmittedFlowInvalid", "{run:#}");
    assert!(run["status"]["message"].as_str().unwrap().contains("line 1"), "{run:#}");
    let mut step = left("{\"steps\": {\"w\": {\"run\": \"echo '{\\\"n\\\": 5}'\", \"outputs\": [\"n\"]}}}");
    step["outputs"] = json!(["n"]);
    start_steps(&world, "g", &json!({"a": step}));
    let job = world.wait_job("g", "Succeeded");
    assert_eq!(job["status"]["outputs"]["n"], 5, "{job:#}");
}

#[test]
fn what_a_step_asks_of_its_agent_is_in_its_command_where_the_class_has_arguments_for_it() {
    let world = World::new();
    // What is appended are flags that the example agent takes for words of a shell.
    agent(
        &world,
        &json!({"command": ["sh", "-c", format!("exec {} # $*", env!("CARGO_BIN_EXE_tenure-echo")), "sh"],
        "flags": {"model": ["--model", "$value"], "tools": ["--tool=$value"]}}),
    );
    let asks = json!({"model": "large", "tools": ["read", "write"]});
    start_steps(&world, "f", &json!({"a": talk("@say a", &asks), "b": talk("@say b", &json!({}))}));
    world.wait_job("f", "Succeeded");
    let mut commands: Vec<String> =
        world.workloads_of("f").iter().map(|row| row["spec"]["command"].to_string()).collect();
    commands.sort_by_key(String::len);
    assert_eq!(commands.len(), 2, "{commands:?}");
    assert!(commands[1].ends_with(r#""sh","--model","large","--tool=read","--tool=write"]"#), "{commands:?}");
}

#[test]
fn an_adapter_that_nobody_uses_is_stopped_and_its_job_goes_on() {
    let world = World::new();
    agent(&world, &json!({"idleTimeout": "1s"}));
    start_steps(
        &world,
        "i",
        &json!({"a": talk("@say a", &json!({})), "b": {"executor": "external", "prompt": "?",
        "after": ["a"], "outputs": ["ok"]}}),
    );
    wait_for("the adapter to be stopped", || {
        let rows = world.workloads_of("i");
        rows.first().filter(|row| row["status"]["phase"] == "Stopped").cloned()
    });
    assert_eq!(world.job("i").unwrap()["status"]["phase"], "Running");
    world.ok(&["fulfill", "i/b", "ok=1"]);
    world.wait_job("i", "Succeeded");
}

#[test]
fn a_class_has_its_own_limit_and_holds_nobody_else_back() {
    let world = World::new();
    agent(&world, &json!({}));
    let go = path(&world, "go");
    world.drop_file(
        "policy.yaml",
        &json!({"apiVersion": "tenure.dev/v1alpha1", "kind": "Policy", "metadata": {"name": "default"},
        "spec": {"maxConcurrent": {"classes": {"agent": 1}}}})
        .to_string(),
    );
    wait_for("the policy", || world.list("policies").first().cloned());
    let hold = format!("@wait-for {go}\n@say done");
    start_steps(
        &world,
        "m",
        &json!({"a": talk(&hold, &json!({})), "b": talk(&hold, &json!({})),
        "c": {"run": "true", "outputs": ["stdout"]}}),
    );
    wait_for("the script to be done", || {
        Some(run(&world, "m", "c")).filter(|run| run["status"]["phase"] == "Completed")
    });
    wait_for("one turn", || {
        let phases: Vec<String> =
            ["a", "b"].iter().map(|step| run(&world, "m", step)["status"]["phase"].to_string()).collect();
        (phases.contains(&"\"Running\"".to_owned()) && phases.contains(&"\"Pending\"".to_owned())).then_some(())
    });
    fs::write(&go, "").unwrap();
    world.wait_job("m", "Succeeded");
}
