//! Drivers that die at every moment: each question is asked once, and the outcome is the same.

use super::*;
use crate::acp::message::Line;
use crate::acp::session::Replay;
use crate::acp::{Conversation, spawn_driver};
use std::collections::BTreeMap;

/// An agent that answers line by line, and asks for permission, a file, and a terminal in between.
#[derive(Default)]
struct Agent {
    heard: usize,
    to_say: std::collections::VecDeque<Value>,
    questions: i64,
    prompts: BTreeMap<i64, Value>,
    /// What each session has cost in all.
    costs: BTreeMap<String, f64>,
}

impl Agent {
    /// Hears one line, or says one: false when there is nothing to do.
    fn step(&mut self, world: &World) -> bool {
        if let Some(line) = self.to_say.pop_front() {
            world.say_line(&line);
            return true;
        }
        let Some(line) = world.sent().get(self.heard).cloned() else { return false };
        self.heard += 1;
        self.hear(&line);
        true
    }

    fn hear(&mut self, line: &Value) {
        let id = &line["id"];
        let session = line["params"]["sessionId"].clone();
        let answer = |result: Value| json!({"jsonrpc": "2.0", "id": id, "result": result});
        match line["method"].as_str() {
            Some("initialize") => {
                let capabilities = json!({"loadSession": true, "sessionCapabilities": {"close": {}, "fork": {}}});
                self.to_say.push_back(answer(json!({"protocolVersion": 1, "agentCapabilities": capabilities})));
            }
            Some("session/new" | "session/fork") => {
                let name = id.as_str().unwrap().replace('/', "-");
                self.to_say.push_back(answer(json!({"sessionId": name})));
            }
            Some("session/load") if session == "lost" => {
                self.to_say.push_back(json!({"id": id, "error": {"code": -32002, "message": "no such session"}}));
            }
            Some("session/load") => {
                self.chunk(&session, "said before");
                self.cost(&session, 5.0);
                self.to_say.push_back(answer(json!({})));
            }
            Some("session/prompt") => {
                let first = self.questions + 1;
                self.chunk(&session, "one ");
                self.ask(
                    "session/request_permission",
                    json!({"sessionId": session, "toolCall": {"toolCallId": "t"},
                        "options": [{"optionId": "yes", "name": "Yes", "kind": "allow_once"}]}),
                );
                self.ask("terminal/create", json!({"sessionId": session, "command": "true"}));
                self.ask("no/such_method", json!({}));
                self.chunk(&session, "two");
                self.cost(&session, 0.25);
                self.prompts.insert(first + 2, id.clone());
            }
            Some("session/close") => self.to_say.push_back(answer(json!({}))),
            Some(_) => {}
            None => {
                // Our answer to its last question ends the turn.
                if let Some(prompt) = self.prompts.remove(&id.as_i64().unwrap()) {
                    self.to_say
                        .push_back(json!({"jsonrpc": "2.0", "id": prompt, "result": {"stopReason": "end_turn"}}));
                }
            }
        }
    }

    fn cost(&mut self, session: &Value, usd: f64) {
        let sum = self.costs.entry(session.to_string()).or_default();
        *sum += usd;
        let cost = json!({"amount": *sum, "currency": "USD"});
        let update = json!({"sessionUpdate": "usage_update", "used": 1, "size": 2, "cost": cost});
        let params = json!({"sessionId": session, "update": update});
        self.to_say.push_back(json!({"jsonrpc": "2.0", "method": "session/update", "params": params}));
    }

    fn chunk(&mut self, session: &Value, text: &str) {
        let update = json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}});
        let params = json!({"sessionId": session, "update": update});
        self.to_say.push_back(json!({"jsonrpc": "2.0", "method": "session/update", "params": params}));
    }

    fn ask(&mut self, method: &str, params: Value) {
        self.questions += 1;
        self.to_say.push_back(json!({"jsonrpc": "2.0", "id": self.questions, "method": method, "params": params}));
    }
}

/// Sessions of their own, one that is shared, one that goes on, one that can not, and a fork that is shared.
const RUNS: [&str; 9] =
    ["j.a.1", "j.b.1", "j.shared-1.1", "j.c.1", "j.shared-2.1", "j.shared-3.1", "j.old.1", "j.lost.1", "j.fork.1"];

fn turns(world: &World) -> Vec<Turn> {
    let conversation = |key: &str, resume: Option<&str>, fork_of: Option<&str>| {
        let [resume, fork_of] = [resume, fork_of].map(|session| session.map(str::to_owned));
        Some(Conversation { key: key.to_owned(), resume, fork_of })
    };
    let turn = |run: &str| {
        let conversation = match run {
            "j.old.1" => conversation("old", Some("old"), None),
            "j.lost.1" => conversation("lost", Some("lost"), None),
            "j.fork.1" => conversation("fork", None, Some("any")),
            run if run.contains("shared") => conversation("shared", None, None),
            _ => None,
        };
        Turn { conversation, ..world.turn(run) }
    };
    RUNS.map(turn).to_vec()
}

fn all_done(progress: &Progress) -> bool {
    progress.turns.len() == RUNS.len() && progress.turns.values().all(|state| matches!(state, TurnState::Done(_)))
}

/// No id was asked, and no question of the agent answered, twice.
fn assert_said_once(world: &World) {
    let mut seen = std::collections::BTreeSet::new();
    for line in world.sent() {
        let key = line.get("id").map_or_else(|| line.to_string(), Value::to_string);
        assert!(seen.insert(key.clone()), "{key} was said twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_dies_between_any_two_lines_asks_each_prompt_once() {
    let world = World::new();
    let (wants, receiver) = watch::channel(wanted(&turns(&world)));
    let mut agent = Agent::default();
    let mut drivers = 0;
    let deadline = std::time::Instant::now() + PATIENCE * 2;
    let progress = loop {
        assert!(std::time::Instant::now() < deadline, "not done after {drivers} drivers");
        let driver = spawn_driver(world.config(), receiver.clone(), || {});
        drivers += 1;
        // It lives until it said something, or has nothing to say; now and then it is not even given that time.
        let before = std::fs::metadata(world.dir.join("stdin")).map_or(0, |metadata| metadata.len());
        let patience = Duration::from_millis([30, 0, 3][drivers % 3]);
        let said = async {
            while std::fs::metadata(world.dir.join("stdin")).map_or(0, |metadata| metadata.len()) == before {
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        };
        let _ = tokio::time::timeout(patience, said).await;
        let progress = Arc::clone(&driver.progress().borrow());
        drop(driver);
        if all_done(&progress) {
            break progress;
        }
        if drivers % 5 == 0 {
            tear(&world);
        }
        agent.step(&world);
    };
    assert!(drivers > 30, "only {drivers} drivers");
    assert_said_once(&world);
    for run in RUNS {
        let outcome = done(&progress, run).unwrap();
        assert_eq!(result(&outcome), json!({"result": "one two"}), "{run}");
        assert_eq!(outcome.cost_usd, Some(0.25), "{run}");
        let session = match run {
            "j.old.1" => "old".to_owned(),
            "j.fork.1" => "fork-j.fork.1".to_owned(),
            run if run.contains("shared") => "session-j.shared-1.1".to_owned(),
            run => format!("session-{run}"),
        };
        assert_eq!(outcome.session.as_deref(), Some(session.as_str()), "{run}");
        let prompts = world.sent().iter().filter(|line| line["id"] == format!("prompt/{run}")).count();
        assert_eq!(prompts, 1, "{run}");
    }
    assert_eq!(progress.terminals.len(), RUNS.len());
    let runs: std::collections::BTreeSet<_> = progress.terminals.iter().filter_map(|it| it.run.as_deref()).collect();
    assert_eq!(runs, RUNS.into());
    drop(wants);
}

/// A controller died in the middle of a write: half a line, which the shim never pumped. It dies with its lock, as here.
fn tear(world: &World) {
    let Ok(file) = std::fs::OpenOptions::new().append(true).open(world.dir.join("stdin")) else { return };
    if file.try_lock().is_ok() {
        (&file).write_all(b"{\"jsonrpc\":\"2.0\",\"id\":\"prompt/j").unwrap();
    }
}

/// Every prefix of a conversation, read back from the files, gives the state that the driver had when it was there.
#[tokio::test]
async fn a_replay_of_any_prefix_is_the_state_at_that_moment() {
    let world = World::new();
    let wants = wanted(&turns(&world));
    let config = world.config();
    let mut agent = Agent::default();
    let mut live = Replay::new(config.uid.clone());
    let (mut sent, mut received) = (Vec::new(), Vec::<Vec<u8>>::new());
    let none = BTreeMap::new();
    let parse = |line: &[u8]| Line::parse(line).unwrap();
    for _ in 0..1000 {
        let mut again = Replay::new(config.uid.clone());
        sent.iter().for_each(|line: &String| again.sent(parse(line.as_bytes())));
        received.iter().for_each(|line| again.received(parse(line)).unwrap());
        assert_eq!(again.next(&wants, &none), live.next(&wants, &none));
        assert_eq!(again.terminals(), live.terminals());
        assert_eq!(again.sessions(), live.sessions());
        for turn in &wants.turns {
            assert_eq!(again.at(turn), live.at(turn));
        }
        // One line of ours, else one of the agent.
        let answers = again.open_calls().into_iter().filter_map(|call| {
            let result = crate::acp::calls::answer(&call, &again, &wants, &config)?;
            Some(crate::acp::message::response(&call.id, result))
        });
        let ours = answers.chain(again.next(&wants, &none)).next();
        if let Some(line) = ours {
            live.sent(parse(line.as_bytes()));
            agent.hear(&serde_json::from_str(&line).unwrap());
            sent.push(line);
        } else if let Some(line) = agent.to_say.pop_front() {
            let line = line.to_string().into_bytes();
            live.received(parse(&line)).unwrap();
            received.push(line);
        } else {
            let ended = wants.turns.iter().all(|turn| matches!(live.at(turn), crate::acp::session::At::Ended(_)));
            assert!(ended && sent.len() > 15);
            return;
        }
    }
    panic!("the conversation does not end");
}
