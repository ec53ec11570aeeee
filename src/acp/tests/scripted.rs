//! A scripted agent: what it is asked is found in `stdin`, what it says is appended to `stdout`.

use super::*;
use crate::acp::{Driver, Handshake, spawn_driver};
use crate::model::Outcome;

/// An agent of whom a test plays the part, and the driver that talks to it.
struct Play {
    world: World,
    wanted: watch::Sender<Wanted>,
    driver: Driver,
    progress: watch::Receiver<Arc<Progress>>,
}

impl Play {
    fn new(wanted: impl FnOnce(&World) -> Wanted) -> Play {
        Play::with(wanted, |config| config)
    }

    fn with(wanted: impl FnOnce(&World) -> Wanted, config: impl FnOnce(DriverConfig) -> DriverConfig) -> Play {
        let world = World::new();
        let (wanted, receiver) = watch::channel(wanted(&world));
        let driver = spawn_driver(config(world.config()), receiver, || {});
        let progress = driver.progress();
        Play { world, wanted, driver, progress }
    }

    /// Waits for a line of ours with this id (or method, for a notification).
    async fn asked(&self, id: &str) -> Value {
        let found = |line: &Value| line["id"] == id || (line.get("id").is_none() && line["method"] == id);
        eventually(id, || self.world.sent().into_iter().find(found)).await
    }

    async fn answered(&self, id: i64) -> Value {
        eventually("an answer", || self.world.sent().into_iter().find(|line| line["id"] == id)).await
    }

    fn answer(&self, id: &str, result: Value) {
        self.world.say_line(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }

    fn ask(&self, id: i64, method: &str, params: Value) {
        self.world.say_line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
    }

    fn update(&self, session: &str, update: Value) {
        let params = json!({"sessionId": session, "update": update});
        self.world.say_line(&json!({"jsonrpc": "2.0", "method": "session/update", "params": params}));
    }

    fn chunk(&self, session: &str, text: &str) {
        let content = json!({"type": "text", "text": text});
        self.update(session, json!({"sessionUpdate": "agent_message_chunk", "content": content}));
    }

    async fn shake_hands(&self) {
        self.asked("initialize").await;
        let capabilities = json!({"sessionCapabilities": {"close": {}}});
        self.answer("initialize", json!({"protocolVersion": 1, "agentCapabilities": capabilities}));
    }

    /// Up to the prompt of `run`, in session `s-<run>`.
    async fn prompted(&self, run: &str) -> String {
        let session = format!("s-{run}");
        self.asked(&format!("session/{run}")).await;
        self.answer(&format!("session/{run}"), json!({"sessionId": session}));
        self.asked(&format!("prompt/{run}")).await;
        session
    }

    async fn outcome(&mut self, run: &str) -> Outcome {
        let progress = until(&mut self.progress, run, |progress| done(progress, run).is_some()).await;
        done(&progress, run).unwrap()
    }
}

#[tokio::test]
async fn a_turn_is_asked_and_its_text_cost_and_usage_are_the_outcome() {
    let mut play = Play::new(|world| wanted(&[world.turn("j.a.1")]));
    let initialize = play.asked("initialize").await;
    assert_eq!(initialize["params"]["protocolVersion"], 1);
    let capabilities = &initialize["params"]["clientCapabilities"];
    assert_eq!(capabilities["fs"], json!({"readTextFile": true, "writeTextFile": true}));
    assert_eq!(capabilities["terminal"], true);
    play.shake_hands().await;
    let session = play.prompted("j.a.1").await;
    until(&mut play.progress, "in flight", |progress| progress.turns["j.a.1"] == TurnState::InFlight).await;
    let prompt = play.asked("prompt/j.a.1").await;
    assert_eq!(prompt["params"]["prompt"], json!([{"type": "text", "text": "please do j.a.1"}]));

    let thought = json!({"type": "text", "text": "hm"});
    play.update(&session, json!({"sessionUpdate": "agent_thought_chunk", "content": thought}));
    play.chunk(&session, "one ");
    let remark = json!({"claudeCode": {"kind": "informational", "level": "warning"}});
    let content = json!({"type": "text", "text": "a remark on billing"});
    play.update(&session, json!({"sessionUpdate": "agent_message_chunk", "content": content, "_meta": remark}));
    play.update(&session, json!({"sessionUpdate": "something_new", "x": 1}));
    play.chunk(&session, "two");
    let cost = json!({"amount": 0.25, "currency": "USD"});
    play.update(&session, json!({"sessionUpdate": "usage_update", "used": 1, "size": 2, "cost": cost}));
    play.answer("prompt/j.a.1", json!({"stopReason": "end_turn", "usage": {"totalTokens": 15}}));
    play.chunk(&session, " too late");

    let outcome = play.outcome("j.a.1").await;
    assert_eq!(result(&outcome), json!({"result": "one two"}));
    assert_eq!(outcome.cost_usd, Some(0.25));
    assert_eq!(outcome.usage, Some(json!({"totalTokens": 15})));
    assert_eq!(outcome.session.as_deref(), Some("s-j.a.1"));

    // The outcome is recorded, the turn vanishes: its session is closed.
    play.wanted.send_replace(Wanted::default());
    play.asked("close/j.a.1").await;
    play.answer("close/j.a.1", json!({}));
    until(&mut play.progress, "closed", |progress| progress.sessions.is_empty()).await;
    assert!(!play.world.sent().iter().any(|line| line["method"] == "session/cancel"));
}

#[tokio::test]
async fn how_a_turn_ends_decides_its_result() {
    let answers = [
        ("j.ok.1", json!({"result": {"stopReason": "end_turn"}}), json!({"failure": "OutputMissing"})),
        ("j.refused.1", json!({"result": {"stopReason": "refusal"}}), json!({"failure": "AgentRefused"})),
        ("j.cancelled.1", json!({"result": {"stopReason": "cancelled"}}), json!({"failure": "AgentCancelled"})),
        ("j.tokens.1", json!({"result": {"stopReason": "max_tokens"}}), json!({"failure": "MaxTokens"})),
        ("j.requests.1", json!({"result": {"stopReason": "max_turn_requests"}}), json!({"failure": "MaxTurnRequests"})),
        ("j.nonsense.1", json!({"result": {}}), json!({"failure": "AgentError"})),
        ("j.error.1", json!({"error": {"code": -32603, "message": "boom"}}), json!({"failure": "AgentError"})),
        ("j.login.1", json!({"error": {"code": -32000, "message": "log in"}}), json!({"failure": "AuthRequired"})),
    ];
    let runs: Vec<&str> = answers.iter().map(|(run, ..)| *run).collect();
    let mut play = Play::new(|world| wanted(&runs.iter().map(|run| world.turn(run)).collect::<Vec<_>>()));
    play.shake_hands().await;
    for (run, ..) in &answers {
        play.prompted(run).await;
    }
    for (run, answer, _) in &answers {
        let mut line = json!({"jsonrpc": "2.0", "id": format!("prompt/{run}")});
        line.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
        play.world.say_line(&line);
    }
    for (run, _, expected) in &answers {
        assert_eq!(result(&play.outcome(run).await), *expected, "{run}");
    }
}

#[tokio::test]
async fn an_output_file_is_read_after_the_turn() {
    let files = [
        ("j.good.1", Some(r#"{"answer": 42}"#), json!({"answer": 42})),
        ("j.none.1", None, json!({"failure": "OutputMissing"})),
        ("j.list.1", Some("[1]"), json!({"failure": "OutputInvalid"})),
        ("j.torn.1", Some("{"), json!({"failure": "OutputInvalid"})),
    ];
    let path = |world: &World, run: &str| world.dir.with_file_name("outputs").join(format!("{run}.json"));
    let mut play = Play::new(|world| {
        let turn = |run| Turn { output_mode: OutputMode::File(path(world, run)), ..world.turn(run) };
        wanted(&files.iter().map(|(run, ..)| turn(run)).collect::<Vec<_>>())
    });
    play.shake_hands().await;
    for (run, text, expected) in &files {
        play.prompted(run).await;
        if let Some(text) = text {
            std::fs::write(path(&play.world, run), text).unwrap();
        }
        play.answer(&format!("prompt/{run}"), json!({"stopReason": "end_turn"}));
        assert_eq!(result(&play.outcome(run).await), *expected, "{run}");
    }
}

#[tokio::test]
async fn a_model_is_chosen_before_the_prompt_where_one_is_wanted() {
    let mut play = Play::new(|world| {
        let turn = |run| Turn { model: Some("opus".to_owned()), output_mode: OutputMode::Effect, ..world.turn(run) };
        wanted(&[turn("j.a.1"), turn("j.b.1"), turn("j.c.1")])
    });
    play.shake_hands().await;
    let option = json!({"id": "llm", "name": "Model", "category": "model", "type": "select", "currentValue": "x",
        "options": [{"value": "x", "name": "X"}]});
    for run in ["j.a.1", "j.b.1"] {
        play.asked(&format!("session/{run}")).await;
        play.answer(&format!("session/{run}"), json!({"sessionId": run, "configOptions": [option]}));
        let set = play.asked(&format!("model/{run}")).await;
        assert_eq!(set["params"], json!({"sessionId": run, "configId": "llm", "value": "opus"}));
        assert!(!play.world.sent().iter().any(|line| line["id"] == format!("prompt/{run}")));
    }
    play.answer("model/j.a.1", json!({"configOptions": []}));
    play.asked("prompt/j.a.1").await;
    play.answer("prompt/j.a.1", json!({"stopReason": "end_turn"}));
    assert_eq!(result(&play.outcome("j.a.1").await), json!({"status": "completed"}));

    let error = json!({"code": -32602, "message": "no such model"});
    play.world.say_line(&json!({"jsonrpc": "2.0", "id": "model/j.b.1", "error": error}));
    assert_eq!(result(&play.outcome("j.b.1").await), json!({"failure": "AgentError"}));

    play.answer("session/j.c.1", json!({"sessionId": "j.c.1"}));
    assert_eq!(result(&play.outcome("j.c.1").await), json!({"failure": "ModelUnavailable"}));
}

#[tokio::test]
async fn a_turn_that_vanishes_is_cancelled_and_its_session_closed() {
    let mut play = Play::new(|world| wanted(&[world.turn("j.a.1"), world.turn("j.b.1")]));
    play.shake_hands().await;
    play.prompted("j.a.1").await;
    play.prompted("j.b.1").await;
    play.wanted.send_modify(|wanted| wanted.turns.retain(|turn| turn.run == "j.b.1"));
    assert_eq!(play.asked("session/cancel").await["params"]["sessionId"], "s-j.a.1");
    // Permission asked by the turn that is being cancelled is not given.
    let options = json!([{"optionId": "yes", "name": "Yes", "kind": "allow_once"}]);
    let params = |session: &str| json!({"sessionId": session, "toolCall": {"toolCallId": "t"}, "options": options});
    play.ask(7, "session/request_permission", params("s-j.a.1"));
    assert_eq!(play.answered(7).await["result"]["outcome"], json!({"outcome": "cancelled"}));
    play.ask(8, "session/request_permission", params("s-j.b.1"));
    assert_eq!(play.answered(8).await["result"]["outcome"], json!({"outcome": "selected", "optionId": "yes"}));

    play.answer("prompt/j.a.1", json!({"stopReason": "cancelled"}));
    play.asked("close/j.a.1").await;
    play.answer("prompt/j.b.1", json!({"stopReason": "refusal"}));
    play.outcome("j.b.1").await;
    assert_eq!(play.world.sent().iter().filter(|line| line["method"] == "session/cancel").count(), 1);
}

#[tokio::test]
async fn leave_is_taken_once_every_session_is_closed() {
    let mut play = Play::new(|world| wanted(&[world.turn("j.a.1")]));
    play.shake_hands().await;
    play.prompted("j.a.1").await;
    play.wanted.send_modify(|wanted| wanted.closing = true);
    play.asked("session/cancel").await;
    play.asked("close/j.a.1").await;
    assert!(!play.progress.borrow().closed);
    play.answer("close/j.a.1", json!({}));
    until(&mut play.progress, "closed", |progress| progress.closed).await;
    assert!(play.world.dir.join("stdin.eof").exists());
}

#[tokio::test]
async fn an_agent_that_does_not_close_sees_end_of_file_anyway() {
    let mut play = Play::new(|world| wanted(&[world.turn("j.a.1")]));
    play.shake_hands().await;
    play.prompted("j.a.1").await;
    play.wanted.send_modify(|wanted| wanted.closing = true);
    until(&mut play.progress, "closed", |progress| progress.closed).await;
    assert!(play.world.dir.join("stdin.eof").exists());

    let mut mute = Play::new(|world| Wanted { closing: true, ..wanted(&[world.turn("j.a.1")]) });
    until(&mut mute.progress, "closed", |progress| progress.closed).await;
    assert_eq!(mute.world.sent(), Vec::<Value>::new(), "who takes leave opens no conversation");
}

#[tokio::test]
async fn a_handshake_fails_with_its_reason() {
    let cases = [
        (json!({"result": {"protocolVersion": 2}}), "the agent speaks version 2 of ACP, not 1"),
        (json!({"result": {}}), "the agent's answer to initialize makes no sense: missing field `protocolVersion`"),
        (
            json!({"error": {"code": -32603, "message": "boom", "data": {"details": "why"}}}),
            "the agent answered initialize with an error: boom (why)",
        ),
    ];
    for (answer, expected) in cases {
        let mut play = Play::new(|world| wanted(&[world.turn("j.a.1")]));
        play.asked("initialize").await;
        let mut line = json!({"jsonrpc": "2.0", "id": "initialize"});
        line.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
        play.world.say_line(&line);
        let failed = Handshake::Failed(expected.to_owned());
        until(&mut play.progress, expected, |progress| progress.handshake == failed).await;
    }
    let short = |config| DriverConfig { start_timeout: Span(Duration::from_millis(30)), ..config };
    let mut late = Play::with(|world| wanted(&[world.turn("j.a.1")]), short);
    let failed = Handshake::Failed("the agent did not answer initialize within 30ms".to_owned());
    until(&mut late.progress, "too late", |progress| progress.handshake == failed).await;
}

#[tokio::test]
async fn garbage_is_skipped() {
    let mut play = Play::new(|world| wanted(&[world.turn("j.a.1")]));
    play.world
        .say(b"Loading\xff\xfe...\n\n{\"jsonrpc\":\"2.0\"}\n[]\n\"x\"\n{\"id\":\"prompt/j.z.1\",\"result\":{}}\n");
    play.shake_hands().await;
    let session = play.prompted("j.a.1").await;
    play.ask(1, "no/such_method", json!({}));
    assert_eq!(play.answered(1).await["error"]["code"], -32601);
    play.ask(2, "fs/read_text_file", json!({"path": 3}));
    assert_eq!(play.answered(2).await["error"]["code"], -32602);
    play.chunk(&session, "fine");
    play.answer("prompt/j.a.1", json!({"stopReason": "end_turn"}));
    assert_eq!(result(&play.outcome("j.a.1").await), json!({"result": "fine"}));
    let progress = play.progress.borrow().clone();
    let nonsense = progress.nonsense.as_deref().unwrap();
    assert!(nonsense.contains("(at byte 0 of its stdout)") && nonsense.contains("`Loading\u{fffd}"), "{nonsense}");
    assert_eq!(progress.garbled, None);
}

#[tokio::test]
async fn answers_that_make_no_sense_are_answers_all_the_same() {
    for (answer, expected) in [
        (r#""error": "oops""#, r#"an error that makes no sense: "oops""#),
        (r#""error": {"code": "x"}"#, r#"an error that makes no sense: {"code": "x"}"#),
        (r#""results": {}"#, "an answer without a result and without an error"),
        (r#""result": [1]"#, "the answer to session/prompt makes no sense"),
        (r#""result": null"#, "the answer to session/prompt makes no sense"),
    ] {
        let mut play = Play::new(|world| wanted(&[world.turn("j.a.1")]));
        play.shake_hands().await;
        play.prompted("j.a.1").await;
        play.world.say(format!("{{\"jsonrpc\": \"2.0\", \"id\": \"prompt/j.a.1\", {answer}}}\n").as_bytes());
        let failure = play.outcome("j.a.1").await.result.unwrap_err();
        assert_eq!(failure.reason, "AgentError");
        assert!(failure.message.contains(expected), "{}", failure.message);
    }
}

#[tokio::test]
async fn after_a_line_that_is_too_long_nothing_is_heard_or_said() {
    let mut play = Play::new(|world| wanted(&[world.turn("j.a.1")]));
    play.shake_hands().await;
    play.prompted("j.a.1").await;
    let before = play.world.sent().len();
    let at = std::fs::metadata(play.world.dir.join("stdout")).unwrap().len();
    let long = vec![b'x'; 1024 * 1024];
    for _ in 0..17 {
        play.world.say(&long);
    }
    until(&mut play.progress, "the verdict", |progress| progress.garbled.is_some()).await;
    let why = play.progress.borrow().garbled.clone().unwrap();
    let expected = format!("a line that is longer than 16777216 bytes (at byte {at} of its stdout)");
    assert!(why.contains(&expected), "{why}");
    play.world.say(b"\n");
    play.ask(1, "no/such_method", json!({}));
    play.answer("prompt/j.a.1", json!({"stopReason": "end_turn"}));
    tokio::time::timeout(PATIENCE, async {
        while !play.driver.drained() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(play.progress.borrow().turns["j.a.1"], TurnState::InFlight);
    assert_eq!(play.world.sent().len(), before);
}

#[tokio::test]
async fn an_agent_with_too_many_open_questions_is_not_talked_with() {
    let mut play = Play::new(|world| wanted(&[world.turn("j.a.1")]));
    play.shake_hands().await;
    let session = play.prompted("j.a.1").await;
    for id in 1..3000 {
        play.ask(id, "no/such_method", json!({}));
    }
    play.answered(2999).await;
    assert_eq!(play.progress.borrow().garbled, None, "each of them could be answered");
    play.ask(3000, "terminal/create", json!({"sessionId": session, "command": "sleep", "args": ["1000"]}));
    let terminal = play.answered(3000).await["result"]["terminalId"].clone();
    for id in 3001..4100 {
        play.ask(id, "terminal/wait_for_exit", json!({"sessionId": session, "terminalId": terminal}));
    }
    until(&mut play.progress, "the verdict", |progress| progress.garbled.is_some()).await;
    let why = play.progress.borrow().garbled.clone().unwrap();
    assert_eq!(why, "more than 1000 questions of the agent wait for an answer");
}

#[tokio::test]
async fn a_session_in_a_directory_that_is_not_there_is_not_opened() {
    let mut play = Play::new(|world| wanted(&[Turn { cwd: world.cwd.join("missing"), ..world.turn("j.a.1") }]));
    play.shake_hands().await;
    assert_eq!(result(&play.outcome("j.a.1").await), json!({"failure": "NoWorkingDirectory"}));
    assert_eq!(play.world.sent().len(), 1);
}

#[tokio::test]
async fn files_are_read_and_written_for_the_session_that_asks() {
    let play = Play::new(|world| wanted(&[world.turn("j.a.1")]));
    play.shake_hands().await;
    let session = play.prompted("j.a.1").await;
    let path = play.world.cwd.join("notes.txt");
    play.ask(1, "fs/write_text_file", json!({"sessionId": session, "path": path, "content": "a\nb\n"}));
    assert!(play.answered(1).await.get("result").is_some());
    play.ask(2, "fs/read_text_file", json!({"sessionId": session, "path": path, "line": 2}));
    assert_eq!(play.answered(2).await["result"]["content"], "b\n");
    play.ask(3, "fs/read_text_file", json!({"sessionId": session, "path": "/etc/passwd"}));
    let error = play.answered(3).await["error"].clone();
    assert_eq!(error["code"], -32602);
    assert!(error["message"].as_str().unwrap().contains("/etc/passwd lies outside"), "{error}");
    play.ask(4, "fs/read_text_file", json!({"sessionId": "other", "path": path}));
    assert!(play.answered(4).await["error"]["message"].as_str().unwrap().contains("not known"));
}

#[tokio::test]
async fn a_terminal_is_a_workload_with_a_fixed_id() {
    let mut play = Play::new(|world| wanted(&[world.turn("j.a.1")]));
    play.shake_hands().await;
    let session = play.prompted("j.a.1").await;
    let env = json!([{"name": "K", "value": "v"}]);
    let params = json!({"sessionId": session, "command": "make", "args": ["all"], "env": env, "outputByteLimit": 3});
    play.ask(1, "terminal/create", params);
    let id = play.answered(1).await["result"]["terminalId"].as_str().unwrap().to_owned();
    play.ask(2, "terminal/create", json!({"sessionId": session, "command": "ls | wc", "cwd": "/"}));
    assert_eq!(play.answered(2).await["error"]["code"], -32602);
    let progress = until(&mut play.progress, "listed", |progress| !progress.terminals.is_empty()).await;
    let [terminal] = &progress.terminals[..] else { panic!("{:?}", progress.terminals) };
    assert_eq!((terminal.id.as_str(), terminal.run.as_deref()), (id.as_str(), Some("j.a.1")));
    assert_eq!((terminal.command.as_str(), &terminal.args[..]), ("make", &["all".to_owned()][..]));
    assert_eq!((&terminal.cwd, terminal.env["K"].as_str()), (&play.world.cwd, "v"));

    // The controller starts it; it speaks, and ends.
    let about = json!({"sessionId": session, "terminalId": id});
    play.ask(3, "terminal/wait_for_exit", about.clone());
    play.ask(4, "terminal/output", about.clone());
    assert_eq!(play.answered(4).await["result"], json!({"output": "", "truncated": false}));
    let dir = play.world.dir.with_file_name("terminals").join(&id);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("stdout"), "hello").unwrap();
    play.ask(5, "terminal/output", about.clone());
    assert_eq!(play.answered(5).await["result"], json!({"output": "llo", "truncated": true}));
    play.ask(6, "terminal/kill", about.clone());
    assert!(play.answered(6).await.get("result").is_some());
    until(&mut play.progress, "kill", |progress| progress.terminals[0].kill && !progress.terminals[0].released).await;
    assert!(!play.world.sent().iter().any(|line| line["id"] == 3));
    std::fs::write(dir.join("exit.json"), r#"{"version":1,"exit":{"signal":"SIGTERM"}}"#).unwrap();
    assert_eq!(play.answered(3).await["result"]["signal"], "SIGTERM");
    play.ask(7, "terminal/release", about.clone());
    until(&mut play.progress, "released", |progress| progress.terminals[0].released).await;
    play.ask(8, "terminal/output", about);
    assert_eq!(play.answered(8).await["error"]["code"], -32002);

    eventually("all is read", || play.driver.drained().then_some(())).await;

    // Another driver, over the same files, comes to the same.
    let before = Arc::clone(&play.driver.progress().borrow());
    let sent = play.world.sent();
    let (_keep, receiver) = watch::channel(play.wanted.borrow().clone());
    drop(std::mem::replace(&mut play.driver, spawn_driver(play.world.config(), receiver, || {})));
    until(&mut play.driver.progress(), "the same progress", |progress| *progress == *before).await;
    assert_eq!(play.world.sent(), sent);
}
