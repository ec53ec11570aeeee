//! Turns that share a session, line by line. After each line of either side, what a driver would read back from the files is
//! compared with what the living one knows: a crash between any two lines changes nothing.

use super::*;
use crate::acp::message::Line;
use crate::acp::session::{At, Ended, Replay};
use crate::acp::{Conversation, calls};
use std::collections::BTreeMap;

/// Both sides of the talk.
struct Both {
    world: World,
    live: Replay,
    wanted: Wanted,
    sent: Vec<String>,
    received: Vec<String>,
}

impl Both {
    /// After the handshake.
    fn new(capabilities: Value) -> Both {
        let live = Replay::new(WorkloadUid::from("adapter-1"));
        let (wanted, sent, received) = (Wanted::default(), Vec::new(), Vec::new());
        let mut both = Both { world: World::new(), live, wanted, sent, received };
        assert_eq!(both.says(), ["initialize"]);
        both.answers("initialize", json!({"protocolVersion": 1, "agentCapabilities": capabilities}));
        both
    }

    fn turn(&self, run: &str, key: &str) -> Turn {
        Turn { conversation: Some(conversation(key)), ..self.world.turn(run) }
    }

    fn wants(&mut self, turns: &[Turn], keep: &[&str]) {
        self.wanted = Wanted { keep: keep.iter().map(|key| (*key).to_owned()).collect(), ..wanted(turns) };
    }

    /// Says all that there is to say: the ids, and the methods of what has none.
    fn says(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(line) = self.live.next(&self.wanted, &BTreeMap::new()).into_iter().next() {
            let message: Value = serde_json::from_str(&line).unwrap();
            said.push(message.get("id").unwrap_or(&message["method"]).as_str().unwrap().to_owned());
            self.live.sent(parse(&line));
            self.sent.push(line);
            self.check();
        }
        said
    }

    fn hears(&mut self, line: &Value) {
        let line = line.to_string();
        self.live.received(parse(&line)).unwrap();
        self.received.push(line);
        self.check();
    }

    fn answers(&mut self, id: &str, result: Value) {
        self.hears(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }

    fn fails(&mut self, id: &str, code: i64) {
        self.hears(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": "no"}}));
    }

    fn update(&mut self, session: &str, update: Value) {
        let params = json!({"sessionId": session, "update": update});
        self.hears(&json!({"jsonrpc": "2.0", "method": "session/update", "params": params}));
    }

    fn chunk(&mut self, session: &str, text: &str) {
        let content = json!({"type": "text", "text": text});
        self.update(session, json!({"sessionUpdate": "agent_message_chunk", "content": content}));
    }

    fn cost(&mut self, session: &str, usd: f64) {
        let cost = json!({"amount": usd, "currency": "USD"});
        self.update(session, json!({"sessionUpdate": "usage_update", "used": 1, "size": 2, "cost": cost}));
    }

    fn ends(&mut self, run: &str) {
        self.answers(&format!("prompt/{run}"), json!({"stopReason": "end_turn"}));
    }

    /// The whole turn of a run that was asked.
    fn takes_turn(&mut self, run: &str, session: &str, text: &str, cost_usd: f64) {
        self.chunk(session, text);
        self.cost(session, cost_usd);
        self.ends(run);
    }

    /// What we said with this id.
    fn line(&self, id: &str) -> Value {
        let mut lines = self.sent.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.find(|line| line["id"] == id).unwrap()
    }

    fn at(&self, turn: &Turn) -> At<'_> {
        self.live.at(turn)
    }

    /// What was said in a turn that ended, and what it cost.
    fn outcome(&self, turn: &Turn) -> (String, Option<f64>) {
        match self.at(turn) {
            At::Ended(ended) => match &*ended {
                Ended::Answered { said, .. } => (said.message.clone(), said.cost_usd),
                Ended::Failed(failure) => (failure.reason.clone(), None),
            },
            other => panic!("{} is {other:?}", turn.run),
        }
    }

    fn check(&self) {
        let mut again = Replay::new(WorkloadUid::from("adapter-1"));
        self.sent.iter().for_each(|line| again.sent(parse(line)));
        self.received.iter().for_each(|line| again.received(parse(line)).unwrap());
        let none = BTreeMap::new();
        assert_eq!(again.next(&self.wanted, &none), self.live.next(&self.wanted, &none));
        assert_eq!(again.sessions(), self.live.sessions());
        assert_eq!(again.terminals(), self.live.terminals());
        let runs = |replay: &Replay| replay.open_calls().into_iter().map(|call| call.run).collect::<Vec<_>>();
        assert_eq!(runs(&again), runs(&self.live));
        for turn in &self.wanted.turns {
            assert_eq!(again.at(turn), self.live.at(turn));
        }
        let mut ids = std::collections::BTreeSet::new();
        for line in self.sent.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            assert!(line.get("id").is_none() || ids.insert(line["id"].to_string()), "{} was asked twice", line["id"]);
        }
    }
}

fn parse(line: &str) -> Line {
    Line::parse(line.as_bytes()).unwrap()
}

fn conversation(key: &str) -> Conversation {
    Conversation { key: key.to_owned(), resume: None, fork_of: None }
}

fn closes() -> Value {
    json!({"sessionCapabilities": {"close": {}}})
}

#[test]
fn turns_share_a_session_one_after_the_other_and_each_has_its_own_words_and_cost() {
    let mut both = Both::new(closes());
    let [a, b, other] = [("a", "k"), ("b", "k"), ("o", "other")].map(|(run, key)| both.turn(run, key));
    both.wants(&[a.clone(), other, b.clone()], &[]);
    assert_eq!(both.says(), ["session/a", "session/o"]);
    both.answers("session/a", json!({"sessionId": "s"}));
    assert_eq!(both.says(), ["prompt/a"]);
    assert_eq!((both.at(&a), both.at(&b)), (At::InFlight, At::Waiting));
    both.takes_turn("a", "s", "one", 0.25);
    both.chunk("s", "too late");
    assert_eq!(both.says(), ["prompt/b"]);
    assert_eq!(both.line("prompt/b")["params"]["sessionId"], "s");
    assert_eq!((both.outcome(&a), both.at(&b)), (("one".to_owned(), Some(0.25)), At::InFlight));
    both.takes_turn("b", "s", "two", 0.75);
    assert_eq!(both.outcome(&b), ("two".to_owned(), Some(0.5)));
    assert_eq!(both.says(), [""; 0]);
    let sessions = both.live.sessions();
    assert_eq!(sessions.into_iter().collect::<Vec<_>>(), [("a".into(), "s".into()), ("b".into(), "s".into())]);
}

#[test]
fn a_turn_costs_the_difference_and_never_less_than_nothing() {
    let mut both = Both::new(closes());
    let turns = ["a", "b", "c", "d"].map(|run| both.turn(run, "k"));
    both.wants(&turns, &[]);
    both.says();
    both.answers("session/a", json!({"sessionId": "s"}));
    // What comes between two turns goes with the next; a sum that falls began again; a turn without a report has no cost.
    let reports: [(&[f64], &[f64], Option<f64>); 4] =
        [(&[0.25, 0.5], &[0.75], Some(0.5)), (&[1.0], &[], Some(0.5)), (&[0.25], &[], Some(0.25)), (&[], &[], None)];
    for (turn, (within, after, expected)) in turns.iter().zip(reports) {
        assert_eq!(both.says(), [format!("prompt/{}", turn.run)]);
        within.iter().for_each(|usd| both.cost("s", *usd));
        both.ends(&turn.run);
        after.iter().for_each(|usd| both.cost("s", *usd));
        assert_eq!(both.outcome(turn).1, expected, "{}", turn.run);
    }
}

#[test]
fn a_turn_that_vanishes_is_cancelled_and_the_others_go_on_in_its_session() {
    let mut both = Both::new(closes());
    let [a, b, c] = ["a", "b", "c"].map(|run| both.turn(run, "k"));
    both.wants(&[a.clone(), b.clone(), c.clone()], &[]);
    both.says();
    both.answers("session/a", json!({"sessionId": "s"}));
    assert_eq!(both.says(), ["prompt/a"]);
    // One that waits: there is nothing to say.
    both.wants(&[a, c.clone()], &[]);
    assert_eq!(both.says(), [""; 0]);
    // One in flight.
    both.wants(std::slice::from_ref(&c), &[]);
    assert_eq!(both.says(), ["session/cancel"]);
    both.chunk("s", "half a wo");
    both.cost("s", 0.25);
    both.answers("prompt/a", json!({"stopReason": "cancelled"}));
    assert_eq!(both.says(), ["prompt/c"]);
    both.takes_turn("c", "s", "three", 0.5);
    assert_eq!(both.outcome(&c), ("three".to_owned(), Some(0.25)));
    // The last one, too: a cancellation of its own, and then the session is closed.
    let d = both.turn("d", "k");
    both.wants(&[c, d], &[]);
    assert_eq!(both.says(), ["prompt/d"]);
    both.wants(&[], &[]);
    assert_eq!(both.says(), ["session/cancel"]);
    both.answers("prompt/d", json!({"stopReason": "cancelled"}));
    assert_eq!(both.says(), ["close/a"]);
}

#[test]
fn who_opens_a_session_may_vanish_before_it_is_open() {
    let mut both = Both::new(closes());
    let [a, b] = ["a", "b"].map(|run| both.turn(run, "k"));
    both.wants(&[a, b.clone()], &[]);
    assert_eq!(both.says(), ["session/a"]);
    both.wants(&[b], &[]);
    assert_eq!(both.says(), [""; 0]);
    both.answers("session/a", json!({"sessionId": "s"}));
    assert_eq!(both.says(), ["prompt/b"]);
    both.wants(&[], &[]);
    both.ends("b");
    assert_eq!(both.says(), ["close/a"]);
}

#[test]
fn a_session_that_fails_to_open_fails_its_turn_and_the_next_one_tries_again() {
    let mut both = Both::new(closes());
    let [a, b] = ["a", "b"].map(|run| both.turn(run, "k"));
    both.wants(&[a.clone(), b], &[]);
    both.says();
    both.fails("session/a", -32603);
    assert_eq!(both.outcome(&a).0, "AgentError");
    assert_eq!(both.says(), ["session/b"]);
}

#[test]
fn a_conversation_stays_open_while_it_is_kept() {
    let mut both = Both::new(closes());
    let [a, b, c] = ["a", "b", "c"].map(|run| both.turn(run, "k"));
    both.wants(&[a], &[]);
    both.says();
    both.answers("session/a", json!({"sessionId": "s"}));
    assert_eq!(both.says(), ["prompt/a"]);
    both.ends("a");
    both.wants(&[], &["k", "unheard-of"]);
    assert_eq!(both.says(), [""; 0]);
    assert_eq!(both.live.sessions().len(), 1);
    both.wants(&[b], &["k"]);
    assert_eq!(both.says(), ["prompt/b"]);
    both.ends("b");
    both.wants(&[], &[]);
    assert_eq!(both.says(), ["close/a"]);
    // Wanted again: after it was closed, another one.
    both.wants(std::slice::from_ref(&c), &[]);
    assert_eq!(both.says(), [""; 0]);
    both.answers("close/a", json!({}));
    assert_eq!((both.says(), both.live.sessions().len()), (vec!["session/c".to_owned()], 0));
    both.answers("session/c", json!({"sessionId": "s2"}));
    assert_eq!(both.says(), ["prompt/c"]);
    assert_eq!(both.live.session("c"), Some("s2"));
    both.wanted.closing = true;
    assert_eq!(both.says(), ["session/cancel", "close/c"]);
    assert!(!both.live.all_closed());
    both.answers("close/c", json!({}));
    assert!(both.live.all_closed());
}

#[test]
fn a_session_of_an_adapter_that_is_gone_goes_on_where_the_agent_can_do_that() {
    let cases = [
        (json!({"loadSession": true, "sessionCapabilities": {"resume": {}}}), Some("session/resume")),
        (json!({"loadSession": true}), Some("session/load")),
        (json!({}), None),
    ];
    for (capabilities, method) in cases {
        for found in [true, false] {
            let mut both = Both::new(capabilities.clone());
            let conversation = Conversation { resume: Some("old".to_owned()), ..conversation("k") };
            let turn = |run: &str| Turn { conversation: Some(conversation.clone()), ..both.world.turn(run) };
            let [a, b] = ["a", "b"].map(turn);
            both.wants(&[a.clone(), b.clone()], &[]);
            let mut session = "new";
            if let Some(method) = method {
                assert_eq!(both.says(), ["resume/a"], "{method}");
                let line = both.line("resume/a");
                assert_eq!((&line["method"], &line["params"]["sessionId"]), (&json!(method), &json!("old")));
                // What the history says was said in no turn of ours, and paid by another.
                both.chunk("old", "said before");
                both.cost("old", 5.0);
                if found {
                    session = "old";
                    both.answers("resume/a", json!({"configOptions": []}));
                    both.chunk("old", "said after all");
                } else {
                    both.fails("resume/a", -32002);
                }
            }
            if session == "new" {
                assert_eq!(both.says(), ["session/a"], "{method:?}");
                both.answers("session/a", json!({"sessionId": "new"}));
            }
            assert_eq!(both.says(), ["prompt/a"], "{method:?}");
            both.takes_turn("a", session, "one", 5.25);
            let expected = if session == "old" { 0.25 } else { 5.25 };
            assert_eq!(both.outcome(&a), ("one".to_owned(), Some(expected)), "{method:?}");
            assert_eq!(both.live.session("a"), Some(session));
            // The conversation is open: nobody resumes it again.
            assert_eq!(both.says(), ["prompt/b"]);
            both.takes_turn("b", session, "two", 5.5);
            assert_eq!(both.outcome(&b), ("two".to_owned(), Some(0.25)));
        }
    }
}

#[test]
fn a_conversation_begins_as_a_fork_where_the_agent_can_do_that() {
    let forks = json!({"loadSession": true, "sessionCapabilities": {"fork": {}}});
    let fork = |both: &Both, run: &str, resume: Option<&str>| Turn {
        conversation: Some(Conversation {
            fork_of: Some("origin".to_owned()),
            resume: resume.map(str::to_owned),
            ..conversation("k")
        }),
        ..both.world.turn(run)
    };
    let mut both = Both::new(forks.clone());
    let [a, b] = ["a", "b"].map(|run| fork(&both, run, None));
    both.wants(&[a.clone(), b], &[]);
    assert_eq!(both.says(), ["fork/a"]);
    let line = both.line("fork/a");
    assert_eq!((&line["method"], &line["params"]["sessionId"]), (&json!("session/fork"), &json!("origin")));
    both.answers("fork/a", json!({"sessionId": "copy"}));
    assert_eq!(both.says(), ["prompt/a"]);
    both.ends("a");
    assert_eq!((both.says(), both.live.session("b")), (vec!["prompt/b".to_owned()], Some("copy")));

    // It went on without us: resumed if it can be, else a fork again.
    let mut both = Both::new(forks.clone());
    let a = fork(&both, "a", Some("copy"));
    both.wants(&[a], &[]);
    assert_eq!(both.says(), ["resume/a"]);
    both.fails("resume/a", -32002);
    assert_eq!(both.says(), ["fork/a"]);

    for (code, reason) in [(-32601, "ForkUnsupported"), (-32002, "AgentError"), (-32000, "AuthRequired")] {
        let mut both = Both::new(forks.clone());
        let a = fork(&both, "a", None);
        both.wants(std::slice::from_ref(&a), &[]);
        both.says();
        both.fails("fork/a", code);
        assert_eq!(both.outcome(&a).0, reason);
        assert_eq!(both.says(), [""; 0]);
    }

    let mut both = Both::new(closes());
    let [a, plain] = [fork(&both, "a", None), both.turn("b", "k")];
    both.wants(&[a.clone(), plain], &[]);
    assert_eq!(both.outcome(&a).0, "ForkUnsupported");
    assert_eq!(both.says(), ["session/b"]);
    let At::Ended(ended) = both.at(&a) else { panic!() };
    let Ended::Failed(failure) = &*ended else { panic!() };
    assert!(failure.message.contains("share a `session`"), "{}", failure.message);
}

#[test]
fn a_model_is_set_where_it_differs_from_the_one_that_was_set_last() {
    let mut both = Both::new(closes());
    let models =
        [("a", None), ("b", Some("opus")), ("c", Some("opus")), ("d", Some("haiku")), ("e", None), ("f", Some("x"))];
    let turn = |(run, model): (&str, Option<&str>)| Turn { model: model.map(str::to_owned), ..both.turn(run, "k") };
    let turns = models.map(turn);
    both.wants(&turns, &[]);
    both.says();
    let option = json!({"id": "llm", "name": "Model", "category": "model", "type": "select", "currentValue": "x",
        "options": [{"value": "x", "name": "X"}]});
    both.answers("session/a", json!({"sessionId": "s", "configOptions": [option]}));
    for (run, choice) in [("a", None), ("b", Some("model/b")), ("c", None), ("d", Some("model.1/d")), ("e", None)] {
        if let Some(id) = choice {
            assert_eq!(both.says(), [id]);
            both.answers(id, json!({"configOptions": []}));
        }
        assert_eq!(both.says(), [format!("prompt/{run}")]);
        both.ends(run);
    }
    assert_eq!(both.says(), ["model.2/f"]);
    both.fails("model.2/f", -32602);
    assert_eq!(both.outcome(&turns[5]).0, "AgentError");
    // Who chose and then vanished is no reason to wait, but what it chose is not what the next one wants.
    let [g, h] = [("g", Some("opus")), ("h", Some("haiku"))]
        .map(|(run, model)| Turn { model: model.map(str::to_owned), ..both.turn(run, "k") });
    both.wants(&[g.clone(), h.clone()], &[]);
    assert_eq!(both.says(), ["model.3/g"]);
    both.wants(std::slice::from_ref(&h), &[]);
    assert_eq!(both.says(), [""; 0]);
    both.answers("model.3/g", json!({"configOptions": []}));
    assert_eq!(both.says(), ["model.4/h"]);
    both.answers("model.4/h", json!({"configOptions": []}));
    assert_eq!(both.says(), ["prompt/h"]);
    both.ends("h");
    both.wants(&[g], &[]);
    assert_eq!(both.says(), ["model.5/g"]);
}

#[test]
fn a_session_is_told_its_tools_and_we_note_its_conversation() {
    let mut both = Both::new(closes());
    let tools = ["Read", "Bash(git log:*)", "Bash(ls:*)", "mcp__tickets__get"].map(str::to_owned).to_vec();
    let turn = Turn { tools: tools.clone(), ..both.turn("a", "k") };
    let own = both.world.turn("b");
    both.wants(&[turn, own], &[]);
    assert_eq!(both.says(), ["session/a", "session/b"]);
    let meta = both.line("session/a")["params"]["_meta"].clone();
    let options = json!({"tools": ["Bash", "Read"], "allowedTools": tools});
    assert_eq!(meta, json!({"tenure": {"conversation": "k"}, "claudeCode": {"options": options}}));
    assert_eq!(both.line("session/b")["params"].get("_meta"), None);
}

#[test]
fn what_the_agent_asks_belongs_to_the_turn_in_flight() {
    let mut both = Both::new(closes());
    let [a, b] = ["a", "b"].map(|run| both.turn(run, "k"));
    both.wants(&[a, b.clone()], &[]);
    both.says();
    both.answers("session/a", json!({"sessionId": "s"}));
    both.says();
    let permission = |id: i64| {
        let options = json!([{"optionId": "yes", "name": "Yes", "kind": "allow_once"}]);
        let params = json!({"sessionId": "s", "toolCall": {"toolCallId": "t"}, "options": options});
        json!({"jsonrpc": "2.0", "id": id, "method": "session/request_permission", "params": params})
    };
    let answer = |both: &Both| {
        let call = both.live.open_calls().pop().unwrap();
        let answer = calls::answer(&call, &both.live, &both.wanted, &both.world.config()).unwrap().unwrap();
        (call.run.unwrap(), answer["outcome"]["outcome"].as_str().unwrap().to_owned())
    };
    both.hears(&permission(1));
    assert_eq!(answer(&both), ("a".to_owned(), "selected".to_owned()));
    both.wants(&[b], &[]);
    assert_eq!(answer(&both), ("a".to_owned(), "cancelled".to_owned()));
    both.says();
    both.answers("prompt/a", json!({"stopReason": "cancelled"}));
    assert_eq!(both.says(), ["prompt/b"]);
    both.hears(&permission(2));
    assert_eq!(answer(&both), ("b".to_owned(), "selected".to_owned()));
}

#[test]
fn a_session_that_was_asked_before_there_were_conversations_is_understood() {
    let mut both = Both::new(closes());
    let a = both.world.turn("a");
    both.wants(std::slice::from_ref(&a), &[]);
    let older = [
        json!({"jsonrpc": "2.0", "id": "session/a", "method": "session/new", "params": {"cwd": "/", "mcpServers": []}}),
        json!({"jsonrpc": "2.0", "id": "prompt/a", "method": "session/prompt", "params": {"sessionId": "s", "prompt": []}}),
    ];
    for line in older {
        both.live.sent(parse(&line.to_string()));
        both.sent.push(line.to_string());
    }
    both.answers("session/a", json!({"sessionId": "s"}));
    both.takes_turn("a", "s", "one", 0.25);
    assert_eq!(both.outcome(&a), ("one".to_owned(), Some(0.25)));
    both.wants(&[], &[]);
    assert_eq!(both.says(), ["close/a"]);
}
