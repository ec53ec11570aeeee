//! Programs that write nonsense on stdout: scripts, whose output it is, and adapters, from whom a protocol is expected. Kept
//! apart from `garbage`, which is about files that are ours.

use crate::garbage::{failed_because, goes_on, script};
use crate::support::{World, wait_for};
use std::fs;

fn agent(command: &str) -> String {
    let echo = env!("CARGO_BIN_EXE_tenure-echo");
    let command = serde_json::to_string(&command.replace("$AGENT", echo)).unwrap();
    format!(
        "apiVersion: tenure.dev/v1alpha1\nkind: AgentClass\nmetadata: {{name: agent}}\nspec:\n  command: [sh, -c, {command}]\n  startTimeout: 5s\n  gracePeriod: 500ms\n"
    )
}

const TALK: &str = "apiVersion: tenure.dev/v1alpha1\nkind: Job\nmetadata: {name: job}\nspec:\n  flow:\n    steps:\n      work: {executor: agent, agent: agent, prompt: '@say done', output_mode: stream_result, outputs: [result]}\n";

#[test]
fn what_a_script_says_is_its_output_whatever_it_is_up_to_a_limit() {
    let world = World::new();
    /// What the text is like, or why there is none.
    type Expected = Result<fn(&str) -> bool, &'static str>;
    let cases: [(&str, &str, Expected); 9] = [
        ("bytes", r"printf '\377\376ok\300'", Ok(|text| text == "\u{fffd}\u{fffd}ok\u{fffd}")),
        ("half", r#"printf '{"a": 1, "b'"#, Ok(|text| text == r#"{"a": 1, "b"#)),
        ("zeros", "head -c 1000 /dev/zero", Ok(|text| text.len() == 1000)),
        ("deep", "head -c 1000000 /dev/zero | tr '\\0' '['", Ok(|text| text.len() == 1_000_000)),
        ("flood", "yes x | head -n 1000000", Ok(|text| text.len() == 1_999_999)),
        ("long", "head -c 100000000 /dev/zero | tr '\\0' x", Err("stdout is longer than 8388608 bytes")),
        ("fifo", r#"cd "$TENURE_RUN_DIR"; rm stdout; mkfifo stdout"#, Err("it is not a file")),
        ("directory", r#"cd "$TENURE_RUN_DIR"; rm stdout; mkdir stdout"#, Err("it is not a file")),
        ("gone", r#"cd "$TENURE_RUN_DIR"; rm stdout"#, Err("failed to read stdout")),
    ];
    for (name, text, _) in &cases {
        world.drop_file(&format!("{name}.yaml"), &script(name, text));
    }
    for (name, _, expected) in &cases {
        // One by one: a list of them all would be megabytes each time.
        let job = wait_for(&format!("job {name} to end\n{}", world.log()), || {
            world.get("job", name).filter(|job| job["status"]["finishedAt"].is_string())
        });
        match expected {
            Ok(is_right) => {
                assert_eq!(job["status"]["phase"], "Succeeded", "{name}");
                assert!(is_right(job["status"]["outputs"]["stdout"].as_str().unwrap()), "{name}");
            }
            Err(words) => {
                assert_eq!(job["status"]["phase"], "Failed", "{name}");
                let message = job["status"]["message"].as_str().unwrap();
                assert!(message.contains("OutputInvalid") && message.contains(words), "{name}: {message}");
            }
        }
        world.wait_gone(&world.traces_of(name));
    }
    goes_on(&world);
}

/// Unpacked, it would take more than a gigabyte.
#[test]
fn what_a_script_says_that_is_small_only_as_text() {
    let world = World::new();
    let zeros = "printf '{\"a\":[0'; yes ,0 | tr -d '\\n' | head -c 8000000; printf ']}'";
    world.drop_file("job.yaml", &script("job", zeros));
    let message = world.wait_job("job", "Failed")["status"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("stdout holds more than 100000 values; write large results to a file"), "{message}");
    goes_on(&world);
}

/// What it says on stderr is nobody's business until it fails.
#[test]
fn what_a_script_says_as_it_fails_is_cut_and_made_harmless() {
    let world = World::new();
    let noisy = "head -c 30000000 /dev/zero | tr '\\0' y >&2; printf '\\033[31m\\377\\nlast words\\n' >&2; exit 3";
    world.drop_file("job.yaml", &script("job", noisy));
    let message = world.wait_job("job", "Failed")["status"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("exit status 3") && message.contains("last words") && message.len() < 4096, "{message}");
    assert!(!message.contains('\u{1b}'));
    world.wait_gone(&world.traces_of("job"));
    goes_on(&world);
}

/// An adapter whose nonsense is no hindrance: the turn succeeds, and the row says what was heard.
#[track_caller]
fn is_put_up_with(babble: &str, words: &[&str]) {
    let world = World::new();
    world.drop_file("agent.yaml", &agent(&format!("{babble}; exec $AGENT")));
    world.drop_file("job.yaml", TALK);
    let job = world.wait_job("job", "Succeeded");
    assert_eq!(job["status"]["outputs"]["result"], "done\n");
    let workload = world.workloads_of("job").pop().unwrap();
    let events = world.ok(&["events"]);
    let told = events.lines().find(|line| line.contains("Nonsense")).unwrap_or_default();
    for word in words {
        let nonsense = workload["status"]["nonsense"].as_str().unwrap_or_default();
        assert!(nonsense.contains(word) && told.contains(word), "`{word}`: {nonsense}\n{told}");
    }
    assert_eq!(events.lines().filter(|line| line.contains("Nonsense")).count(), usize::from(!words.is_empty()));
    world.wait_gone(&world.traces_of("job"));
    goes_on(&world);
}

/// An adapter that no sense can be made of: its run fails, and it is ended.
#[track_caller]
fn is_the_end(babble: &str, cause: &str, words: &[&str]) {
    let world = World::new();
    world.drop_file("agent.yaml", &agent(babble));
    world.drop_file("job.yaml", TALK);
    failed_because(&world, "job", cause, words);
    goes_on(&world);
    let log = world.log();
    let lines = log.lines().filter(|line| line.contains("no message of ACP")).count();
    assert!(lines < 50, "a flood of an agent is a flood in the log: {lines} lines");
}

#[test]
fn an_adapter_that_greets_its_user() {
    is_put_up_with("echo Loading; echo; printf '\\377\\376\\n'", &["at byte 0 of its stdout", "`Loading`"]);
}

#[test]
fn an_adapter_that_says_what_nests_too_deeply() {
    let deep = "head -c 3000000 /dev/zero | tr '\\0' '['; echo";
    is_put_up_with(deep, &["at byte 0 of its stdout", "`[[[["]);
}

/// What nobody asks for is not unpacked: it would take thirty times its length in memory.
#[test]
fn an_adapter_that_tells_long_stories_that_nobody_asks_for() {
    let story = "printf '{\"jsonrpc\":\"2.0\",\"method\":\"session/update\",\"params\":{\"sessionId\":\"x\",\"update\":{\"sessionUpdate\":\"tool_call\",\"x\":[0'; \
                 yes ,0 | tr -d '\\n' | head -c 15000000; echo ']}}}'";
    is_put_up_with(story, &[]);
}

/// What somebody does ask for is not unpacked either when it is too much.
#[test]
fn an_adapter_that_tells_long_stories_in_the_place_of_a_message() {
    let story = "printf '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"fs/read_text_file\",\"params\":[0'; \
                 yes ,0 | tr -d '\\n' | head -c 15000000; echo ']}'";
    is_put_up_with(story, &[]);
}

#[test]
fn an_adapter_that_chatters_a_million_times() {
    is_put_up_with("yes '{\"jsonrpc\":\"2.0\",\"method\":\"chatter\"}' | head -n 1000000", &[]);
}

#[test]
fn an_adapter_that_asks_a_hundred_thousand_questions_at_once() {
    is_put_up_with("seq 100000 | sed 's/.*/{\"jsonrpc\":\"2.0\",\"id\":&,\"method\":\"chatter\"}/'", &[]);
}

#[test]
fn an_adapter_whose_line_has_no_end() {
    let long = "head -c 100000000 /dev/zero | tr '\\0' x; exec $AGENT";
    is_the_end(long, "Garbled", &["a line that is longer than 16777216 bytes (at byte 0 of its stdout)"]);
}

#[test]
fn an_adapter_whose_line_has_no_end_and_a_controller_that_was_killed() {
    let mut world = World::new();
    let go = world.path().join("go");
    let waits = format!(
        "while [ ! -e {} ]; do sleep 0.02; done; head -c 100000000 /dev/zero | tr '\\0' x; sleep 1000",
        go.display()
    );
    world.drop_file("agent.yaml", &agent(&waits).replace("5s", "10m"));
    world.drop_file("job.yaml", TALK);
    let said = wait_for("its stdout", || {
        let stdout = crate::garbage::run_dir(&world, "job")?.join("stdout");
        stdout.exists().then_some(stdout)
    });
    world.kill_controller();
    fs::write(go, "").unwrap();
    wait_for("all that it says", || (fs::metadata(&said).unwrap().len() == 100_000_000).then_some(()));
    world.start();
    failed_because(&world, "job", "Garbled", &["a line that is longer than 16777216 bytes"]);
    goes_on(&world);
}

#[test]
fn an_adapter_that_floods() {
    let flood = "yes flood | head -n 1000000; exec $AGENT";
    is_the_end(flood, "Garbled", &["1000 lines in a row of the agent are no messages", "`flood`"]);
}

#[test]
fn an_adapter_that_does_not_stop_flooding() {
    is_the_end("exec yes \"$(printf '\\377')\"", "Garbled", &["1000 lines in a row of the agent are no messages"]);
}

#[test]
fn an_adapter_that_ends_in_the_middle_of_a_line() {
    let half = "echo '{\"jsonrpc\":\"2.0\",\"method\":\"x\"}'; printf '{\"jsonrpc\":\"2.0\",\"id\":\"init'; exit 7";
    let world = World::new();
    world.drop_file("agent.yaml", &agent(half));
    world.drop_file("job.yaml", TALK);
    let message = world.wait_job("job", "Failed")["status"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("exit status 7"), "{message}");
    assert!(message.contains("ended in the middle of a line (that begins at byte 31 of its stdout)"), "{message}");
    world.wait_gone(&world.traces_of("job"));
    goes_on(&world);
}

#[test]
fn an_adapter_whose_answer_has_the_wrong_form() {
    let wrong = "read -r line; echo '{\"jsonrpc\":\"2.0\",\"id\":\"initialize\",\"result\":{\"protocolVersion\":[]}}'; exec sleep 1000";
    is_the_end(wrong, "StartFailed", &["the agent's answer to initialize makes no sense"]);
}

#[test]
fn an_adapter_whose_error_has_the_wrong_form() {
    let wrong = "read -r line; echo '{\"jsonrpc\":\"2.0\",\"id\":\"initialize\",\"error\":[\"no\"]}'; exec sleep 1000";
    is_the_end(wrong, "StartFailed", &["an error that makes no sense: [\"no\"]"]);
}

#[test]
fn an_adapter_whose_answer_is_to_nothing_that_was_asked() {
    let wrong = "echo '{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"protocolVersion\":1}}'; exec sleep 1000";
    is_the_end(
        wrong,
        "StartFailed",
        &["did not answer initialize within 5s", "an answer to 1, which was not asked", "at byte 0 of its stdout"],
    );
}
