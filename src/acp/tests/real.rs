//! The real adapter, through files, with a pump in the shim's place.

use super::*;
use crate::acp::{Conversation, Handshake, spawn_driver};
use std::process::Command;

#[path = "../../../tests/support/messages_api.rs"]
mod messages_api;
use messages_api::{HOLD, MessagesApi, Reply, real_command};

#[path = "../../../tests/support/pump.rs"]
mod pump;
use pump::Pumped;

/// Where `scripts/install-adapter` puts it. `None`: it is not there; with `TENURE_REQUIRE_ADAPTER` set that is a failure.
fn adapter() -> Option<PathBuf> {
    let dir = std::env::var_os("TENURE_ADAPTER_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/adapter"), PathBuf::from);
    if dir.join("node_modules/.bin/claude-agent-acp").exists() {
        return Some(dir);
    }
    assert!(std::env::var_os("TENURE_REQUIRE_ADAPTER").is_none(), "no adapter in {}", dir.display());
    eprintln!("skipped: no adapter in {} (scripts/install-adapter brings it)", dir.display());
    None
}

fn start(installed: &Path, world: &World, api: &MessagesApi) -> Pumped {
    let home = world.temp.path().join("home");
    std::fs::create_dir_all(&home).unwrap();
    let command = real_command(installed);
    let mut adapter = Command::new(&command[0]);
    adapter.args(&command[1..]).envs(api.env(&home)).current_dir(&world.cwd);
    Pumped::start(adapter, &world.dir)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_adapter_takes_turns_through_files_and_drivers_come_and_go() {
    let Some(installed) = adapter() else { return };
    let api = MessagesApi::start();
    api.say_to("please do j.a.1", "the first answer");
    api.say_to("please do j.b.1", "the second answer");
    api.hold();
    let world = World::new();
    let mut adapter = start(&installed, &world, &api);
    let model = Some("opus".to_owned());
    let (wants, receiver) = watch::channel(wanted(&[world.turn("j.a.1"), Turn { model, ..world.turn("j.b.1") }]));
    let driver = spawn_driver(world.config(), receiver.clone(), || {});
    until(&mut driver.progress(), "handshake", |progress| progress.handshake == Handshake::Done).await;
    let in_flight = |progress: &Progress| progress.turns.values().all(|state| *state == TurnState::InFlight);
    until(&mut driver.progress(), "both in flight", in_flight).await;
    eventually("both asked", || (api.waiting() == 2).then_some(())).await;

    // The controller dies in the middle of both turns; while it is away, they end.
    drop(driver);
    api.release();
    eventually("an answer in stdout", || {
        let said = lines(&world.dir.join("stdout"));
        said.iter().any(|line| line["id"] == "prompt/j.a.1").then_some(())
    })
    .await;
    let driver = spawn_driver(world.config(), receiver.clone(), || {});
    let all_done = |progress: &Progress| {
        progress.turns.len() == 2 && progress.turns.values().all(|state| matches!(state, TurnState::Done(_)))
    };
    let progress = until(&mut driver.progress(), "both done", all_done).await;
    for (run, text) in [("j.a.1", "the first answer"), ("j.b.1", "the second answer")] {
        let outcome = done(&progress, run).unwrap();
        assert_eq!(result(&outcome), json!({"result": text}));
        assert_eq!(outcome.usage.unwrap()["totalTokens"], 15);
        assert!(outcome.cost_usd.is_some_and(|cost| cost > 0.0));
        assert_eq!(api.asked(&format!("please do {run}")), 1, "{run}");
    }

    wants.send_modify(|wanted| wanted.closing = true);
    until(&mut driver.progress(), "leave", |progress| progress.closed).await;
    let status = eventually("the adapter's end", || adapter.child.try_wait().unwrap()).await;
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_adapter_cancels_a_turn_that_vanishes() {
    let Some(installed) = adapter() else { return };
    let api = MessagesApi::start();
    let world = World::new();
    let mut adapter = start(&installed, &world, &api);
    let turn = Turn { prompt: format!("Say {HOLD}."), ..world.turn("j.a.1") };
    let (wants, receiver) = watch::channel(wanted(&[turn]));
    let driver = spawn_driver(world.config(), receiver, || {});
    eventually("asked", || (api.waiting() == 1).then_some(())).await;
    wants.send_modify(|wanted| wanted.turns.clear());
    until(&mut driver.progress(), "session closed", |progress| progress.sessions.is_empty()).await;
    let said = lines(&world.dir.join("stdout"));
    let stopped = said.iter().find(|line| line["id"] == "prompt/j.a.1").unwrap();
    assert_eq!(stopped["result"]["stopReason"], "cancelled");
    wants.send_modify(|wanted| wanted.closing = true);
    eventually("the adapter's end", || adapter.child.try_wait().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_adapter_uses_a_tool() {
    let Some(installed) = adapter() else { return };
    let api = MessagesApi::start();
    let world = World::new();
    let path = world.cwd.join("answer.json");
    let input = json!({"file_path": path, "content": "{\"answer\": 42}"});
    api.queue([Reply::Tool { name: "Write".to_owned(), input }]);
    let mut adapter = start(&installed, &world, &api);
    let turn = Turn { output_mode: OutputMode::File(path), ..world.turn("j.a.1") };
    let (wants, receiver) = watch::channel(wanted(&[turn]));
    let driver = spawn_driver(world.config(), receiver, || {});
    let progress = until(&mut driver.progress(), "done", |progress| done(progress, "j.a.1").is_some()).await;
    assert_eq!(result(&done(&progress, "j.a.1").unwrap()), json!({"answer": 42}));
    wants.send_modify(|wanted| wanted.closing = true);
    eventually("the adapter's end", || adapter.child.try_wait().unwrap()).await;
}

/// The tools that the model was offered.
fn tools_offered(request: &Value) -> std::collections::BTreeSet<&str> {
    request["tools"].as_array().into_iter().flatten().filter_map(|tool| tool["name"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_adapter_goes_on_with_a_conversation_forks_it_and_resumes_it() {
    let Some(installed) = adapter() else { return };
    let api = MessagesApi::start();
    for (prompt, answer) in [("first", "one"), ("second", "two"), ("third", "three"), ("fourth", "four")] {
        api.say_to(&format!("the {prompt} prompt"), answer);
    }
    let world = World::new();
    let turn = |run: &str, prompt: &str, resume: Option<&str>, fork_of: Option<&str>, key: &str| Turn {
        prompt: format!("This is the {prompt} prompt."),
        tools: vec!["Read".to_owned(), "Bash(ls:*)".to_owned()],
        conversation: Some(Conversation {
            key: key.to_owned(),
            resume: resume.map(str::to_owned),
            fork_of: fork_of.map(str::to_owned),
        }),
        ..world.turn(run)
    };
    // The latest request that tells `part` to the model; what the agent asks for itself, such as a title, comes without tools.
    let before = |part: &str| {
        let requests = api.requests();
        let told =
            |request: &&Value| !tools_offered(request).is_empty() && request["messages"].to_string().contains(part);
        requests.iter().rev().find(told).cloned().unwrap()
    };
    let mut adapter = start(&installed, &world, &api);
    let both = [turn("j.a.1", "first", None, None, "main"), turn("j.b.1", "second", None, None, "main")];
    let (wants, receiver) = watch::channel(wanted(&both));
    let driver = spawn_driver(world.config(), receiver, || {});
    let progress = until(&mut driver.progress(), "both done", |progress| done(progress, "j.b.1").is_some()).await;
    let [a, b] = ["j.a.1", "j.b.1"].map(|run| done(&progress, run).unwrap());
    assert_eq!((result(&a), result(&b)), (json!({"result": "one"}), json!({"result": "two"})));
    assert_eq!(a.session, b.session);
    let costs = [a.cost_usd.unwrap(), b.cost_usd.unwrap()];
    assert!(costs.iter().all(|cost| *cost > 0.0), "{costs:?}");
    let request = before("the second prompt");
    assert!(request["messages"].to_string().contains("the first prompt"), "{request}");
    let offered = tools_offered(&request);
    assert!(offered.contains("Read") && offered.contains("Bash") && !offered.contains("Write"), "{offered:?}");

    let main = b.session.unwrap();
    wants.send_modify(|wanted| {
        wanted.turns = vec![turn("j.c.1", "third", None, Some(&main), "side")];
        wanted.keep = ["main".to_owned()].into();
    });
    let progress = until(&mut driver.progress(), "the fork", |progress| done(progress, "j.c.1").is_some()).await;
    let c = done(&progress, "j.c.1").unwrap();
    assert_eq!(result(&c), json!({"result": "three"}));
    assert_ne!(c.session.as_ref(), Some(&main));
    let messages = before("the third prompt")["messages"].to_string();
    assert!(messages.contains("the first prompt") && messages.contains("the second prompt"), "{messages}");
    assert!(c.cost_usd.is_some_and(|cost| cost > 0.0), "{:?}", c.cost_usd);
    eprintln!("costs: {costs:?}, of the fork: {:?}", c.cost_usd);
    wants.send_modify(|wanted| wanted.closing = true);
    eventually("the adapter's end", || adapter.child.try_wait().unwrap()).await;
    drop((driver, adapter));

    // The adapter is gone; another one goes on.
    let again = World { dir: world.dir.with_file_name("another"), cwd: world.cwd.clone(), temp: world.temp };
    std::fs::create_dir(&again.dir).unwrap();
    let fourth = Turn {
        conversation: Some(Conversation { key: "main".to_owned(), resume: Some(main.clone()), fork_of: None }),
        prompt: "This is the fourth prompt.".to_owned(),
        ..again.turn("j.d.1")
    };
    let mut adapter = start(&installed, &again, &api);
    let (wants, receiver) = watch::channel(wanted(&[fourth]));
    let driver = spawn_driver(again.config(), receiver, || {});
    let progress = until(&mut driver.progress(), "resumed", |progress| done(progress, "j.d.1").is_some()).await;
    let d = done(&progress, "j.d.1").unwrap();
    assert_eq!((result(&d), d.session.as_ref()), (json!({"result": "four"}), Some(&main)));
    let messages = before("the fourth prompt")["messages"].to_string();
    assert!(messages.contains("the second prompt") && !messages.contains("the third prompt"), "{messages}");
    eprintln!("cost after it was resumed: {:?}", d.cost_usd);
    wants.send_modify(|wanted| wanted.closing = true);
    eventually("the adapter's end", || adapter.child.try_wait().unwrap()).await;
}
