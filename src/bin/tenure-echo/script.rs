//! What a prompt makes the agent do.

use crate::conversation::{Conversation, Session, TICK};
use crate::manners::{Child, duration};
use serde_json::{Value, json};
use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

/// How a turn ended.
pub(crate) enum Ended {
    Turn,
    Cancelled,
    Failed(String),
}

/// Follows the directives of a prompt; without any, echoes it.
pub(crate) fn follow(conversation: &Conversation, session: &Session, prompt: &str) -> Ended {
    let turn = TurnOf { conversation, session, prompt, told_usage: Cell::new(false) };
    let directives: Vec<&str> = prompt.lines().map(str::trim).filter(|line| line.starts_with('@')).collect();
    if directives.is_empty() {
        turn.say(prompt);
        turn.usage(None);
        return Ended::Turn;
    }
    for line in directives {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match turn.step(word, rest.trim()) {
            Ok(()) => {}
            Err(Stop::Ended(ended)) => return ended,
            // A request that the cancellation cut short is no error to talk about.
            Err(Stop::Error(_)) if session.is_cancelled() => return Ended::Cancelled,
            Err(Stop::Error(message)) => turn.say(&format!("error: {message}\n")),
        }
        if session.is_cancelled() {
            return Ended::Cancelled;
        }
    }
    // Not after `@cost`: an update without a cost could be taken for its withdrawal.
    if !turn.told_usage.get() {
        turn.usage(None);
    }
    Ended::Turn
}

enum Stop {
    Ended(Ended),
    /// Something that the agent can talk about, and go on.
    Error(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Error(error.to_string())
    }
}

impl From<String> for Stop {
    fn from(message: String) -> Stop {
        Stop::Error(message)
    }
}

struct TurnOf<'a> {
    conversation: &'a Conversation,
    session: &'a Session,
    prompt: &'a str,
    told_usage: Cell<bool>,
}

impl TurnOf<'_> {
    fn step(&self, word: &str, rest: &str) -> Result<(), Stop> {
        match word {
            "@say" => self.say(&format!("{rest}\n")),
            "@think" => self.chunk("agent_thought_chunk", rest),
            "@sleep" => {
                let until = Instant::now() + duration(rest)?;
                self.wait(|| Instant::now() >= until)?;
            }
            "@hang" => self.wait(|| false)?,
            "@wait-for" => self.wait(|| self.path(rest).exists())?,
            "@count" => writeln!(OpenOptions::new().create(true).append(true).open(self.path(rest))?, "1")?,
            "@write" => {
                let (path, text) = rest.split_once(' ').unwrap_or((rest, ""));
                fs::write(self.path(path), text)?;
            }
            "@file" => fs::write(self.output_file()?, rest)?,
            "@permission" => self.permission()?,
            "@read" => {
                let answer = self.ask("fs/read_text_file", json!({"path": self.path(rest)}))?;
                self.say(answer["content"].as_str().unwrap_or_default());
            }
            "@put" => {
                let (path, text) = rest.split_once(' ').unwrap_or((rest, ""));
                self.ask("fs/write_text_file", json!({"path": self.path(path), "content": text}))?;
                self.say("ok\n");
            }
            "@terminal" => self.terminal(rest)?,
            "@cost" => {
                let cost = rest.parse().map_err(|error| format!("`{rest}`: {error}"))?;
                self.usage(Some(self.session.spend(cost)));
            }
            "@recall" => {
                let earlier = self.session.earlier.iter().map(|prompt| format!("{}\n", prompt.replace('\n', " ")));
                self.say(&earlier.collect::<String>());
            }
            "@fail" => return Err(Stop::Ended(Ended::Failed(rest.to_owned()))),
            "@die" => std::process::exit(1),
            "@spawn-grandchild" => Child::Grandchild.start()?,
            "@spawn-escaper" => Child::Escaper.start()?,
            "@bare-escaper" | "@spawn-bare-escaper" => Child::BareEscaper.start()?,
            other => return Err(Stop::Error(format!("there is no directive {other}"))),
        }
        Ok(())
    }

    fn path(&self, text: &str) -> PathBuf {
        self.session.cwd.join(text)
    }

    fn say(&self, text: &str) {
        self.chunk("agent_message_chunk", text);
    }

    fn chunk(&self, kind: &str, text: &str) {
        let update = json!({"sessionUpdate": kind, "content": {"type": "text", "text": text}});
        self.conversation.update(self.session, &update);
    }

    fn usage(&self, cost: Option<f64>) {
        let mut update = json!({"sessionUpdate": "usage_update", "used": self.prompt.len(), "size": 100_000});
        if let (Some(cost), Some(fields)) = (cost, update.as_object_mut()) {
            fields.insert("cost".into(), json!({"amount": cost, "currency": "USD"}));
        }
        self.conversation.update(self.session, &update);
        self.told_usage.set(true);
    }

    fn wait(&self, done: impl Fn() -> bool) -> Result<(), Stop> {
        while !done() {
            if self.session.is_cancelled() {
                return Err(Stop::Ended(Ended::Cancelled));
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    fn ask(&self, method: &str, params: Value) -> Result<Value, Stop> {
        Ok(self.conversation.ask(self.session, method, params)?)
    }

    fn output_file(&self) -> Result<PathBuf, Stop> {
        let named = self.prompt.lines().find_map(|line| line.trim().strip_prefix("output file: "));
        named.map(|path| self.path(path)).ok_or_else(|| Stop::Error("the prompt names no output file".into()))
    }

    fn permission(&self) -> Result<(), Stop> {
        let options = json!([
            {"optionId": "allow", "name": "Allow", "kind": "allow_once"},
            {"optionId": "reject", "name": "Reject", "kind": "reject_once"},
        ]);
        let call = json!({"toolCallId": "echo", "title": "Something that needs permission"});
        let answer = self.ask("session/request_permission", json!({"toolCall": call, "options": options}))?;
        let chosen = answer["outcome"]["optionId"].as_str().or(answer["outcome"]["outcome"].as_str());
        self.say(&format!("{}\n", chosen.unwrap_or("nothing")));
        Ok(())
    }

    fn terminal(&self, command: &str) -> Result<(), Stop> {
        let created = self.ask("terminal/create", json!({"command": "sh", "args": ["-c", command]}))?;
        let terminal = json!({"terminalId": created["terminalId"]});
        let output = self
            .ask("terminal/wait_for_exit", terminal.clone())
            .and_then(|_| self.ask("terminal/output", terminal.clone()));
        // Released in any case: that is what ends the command of a cancelled turn.
        let released = self.ask("terminal/release", terminal);
        let output = output?;
        released?;
        self.say(output["output"].as_str().unwrap_or_default());
        Ok(())
    }
}
