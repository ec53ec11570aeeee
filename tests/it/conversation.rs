//! The example agent in conversations of several turns, with the client that the controller has.

use crate::pump::Pumped;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tenure::acp::{Conversation, Driver, DriverConfig, OutputMode, Turn, TurnState, Wanted, spawn_driver};
use tenure::model::{Outcome, Permissions, Span, Time, WorkloadUid};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(20);

/// One agent, and the driver that talks to it.
struct Talk {
    _agent: Pumped,
    driver: Driver,
    wanted: watch::Sender<Wanted>,
    cwd: PathBuf,
}

impl Talk {
    /// `name` is that of its run directory below `base`.
    fn new(base: &Path, name: &str, args: &[&str], memory: bool) -> Talk {
        let dir = base.join(name);
        std::fs::create_dir(&dir).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenure-echo"));
        command.args(args).current_dir(base).env_remove("TENURE_ECHO_MEMORY");
        if memory {
            command.env("TENURE_ECHO_MEMORY", base.join("memory"));
        }
        let agent = Pumped::start(command, &dir);
        let config = DriverConfig {
            uid: WorkloadUid::from(name),
            dir,
            permissions: Permissions::Allow,
            start_timeout: Span::seconds(20),
            started_at: Time(jiff::Timestamp::now().as_millisecond()),
            terminal_dir: Arc::new(|uid| PathBuf::from(uid.as_str())),
        };
        let (wanted, receiver) = watch::channel(Wanted::default());
        let driver = spawn_driver(config, receiver, || {});
        Talk { _agent: agent, driver, wanted, cwd: base.to_owned() }
    }

    fn turn(&self, run: &str, prompt: &str, conversation: Option<Conversation>) -> Turn {
        Turn {
            run: run.to_owned(),
            prompt: prompt.to_owned(),
            cwd: self.cwd.clone(),
            allowed_paths: Vec::new(),
            output_mode: OutputMode::StreamResult,
            model: None,
            permissions: None,
            tools: Vec::new(),
            conversation,
        }
    }

    /// The outcomes of these turns, once all have ended.
    async fn outcomes(&self, turns: &[Turn]) -> Vec<Outcome> {
        self.wanted.send_modify(|wanted| wanted.turns = turns.to_vec());
        let mut progress = self.driver.progress();
        let all = progress.wait_for(|progress| {
            turns.iter().all(|turn| matches!(progress.turns.get(&turn.run), Some(TurnState::Done(_))))
        });
        let progress = tokio::time::timeout(PATIENCE, all).await.expect("the turns end in time").unwrap();
        let outcome = |turn: &Turn| match &progress.turns[&turn.run] {
            TurnState::Done(outcome) => outcome.clone(),
            other => panic!("{}: {other:?}", turn.run),
        };
        turns.iter().map(outcome).collect()
    }
}

fn conversation(key: &str, resume: Option<&str>, fork_of: Option<&str>) -> Option<Conversation> {
    let [resume, fork_of] = [resume, fork_of].map(|session| session.map(str::to_owned));
    Some(Conversation { key: key.to_owned(), resume, fork_of })
}

fn result(outcome: &Outcome) -> Value {
    match &outcome.result {
        Ok(outputs) => outputs["result"].clone(),
        Err(failure) => json!({"failure": failure.reason}),
    }
}

#[tokio::test]
async fn a_conversation_is_continued_forked_and_resumed_by_another_agent() {
    let temp = tempfile::tempdir().unwrap();
    let base = temp.path().canonicalize().unwrap();
    let first = Talk::new(&base, "first", &[], true);
    let main = |resume| conversation("main", resume, None);
    let turns = [
        first.turn("a", "@say hello\n@cost 0.25", main(None)),
        first.turn("b", "@recall\n@cost 0.5", main(None)),
        first.turn("own", "@say alone\n@recall", None),
    ];
    let [a, b, own] = &first.outcomes(&turns).await[..] else { panic!() };
    assert_eq!((result(a), result(b)), (json!("hello\n"), json!("@say hello @cost 0.25\n")));
    assert_eq!((a.cost_usd, b.cost_usd), (Some(0.25), Some(0.5)));
    assert_eq!((result(own), a.session == b.session, a.session == own.session), (json!("alone\n"), true, false));

    let session = a.session.as_deref();
    let [mut c, mut d] = ["c", "d"].map(|run| first.turn(run, "@recall", None));
    (c.conversation, d.conversation) = (conversation("side", None, session), main(None));
    let outcomes = first.outcomes(&[turns[0].clone(), c, d]).await;
    let before = "@say hello @cost 0.25\n@recall @cost 0.5\n";
    assert_eq!((result(&outcomes[1]), result(&outcomes[2])), (json!(before), json!(before)));
    assert!(outcomes[1].session.as_deref() != session && outcomes[2].session.as_deref() == session);
    drop(first);

    let second = Talk::new(&base, "second", &[], true);
    let e = second.turn("e", "@recall", main(session));
    let outcome = second.outcomes(&[e]).await.remove(0);
    assert_eq!((result(&outcome), outcome.session.as_deref()), (json!(format!("{before}@recall\n")), session));
}

#[tokio::test]
async fn an_agent_without_a_memory_begins_anew_and_one_that_can_not_fork_says_so() {
    let temp = tempfile::tempdir().unwrap();
    let base = temp.path().canonicalize().unwrap();
    let talk = Talk::new(&base, "forgetful", &["--no-fork"], false);
    let turns = [
        talk.turn("a", "@say new\n@recall", conversation("main", Some("echo-1-0"), None)),
        talk.turn("b", "@say x", conversation("side", None, Some("echo-1-0"))),
    ];
    let outcomes = talk.outcomes(&turns).await;
    assert_eq!(result(&outcomes[0]), json!("new\n"));
    assert_eq!(result(&outcomes[1]), json!({"failure": "ForkUnsupported"}));
}
