//! The transcript of an agent, for people: its JSON lines → what it said, thought, and did. Pure.

use super::console::{Tone, harmless, one_line, paint};
use serde_json::Value;

/// Reads the JSON lines of an adapter as they come; keeps what it needs to join chunks.
#[derive(Debug, Default)]
pub struct Transcript {
    /// The run that is shown; none: all that the adapter did.
    run: Option<String>,
    /// The session of that run, once its lines said so.
    session: Option<String>,
    colour: bool,
    /// What is being said, so that chunks of it are joined.
    saying: Option<Voice>,
    at_line_start: bool,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Voice {
    User,
    Agent,
    Thought,
}

impl Transcript {
    /// A transcript of this run, or of all that the adapter did. An adapter may serve several runs: each has its session.
    pub fn new(run: Option<String>, colour: bool) -> Transcript {
        Transcript { run, session: None, colour, saying: None, at_line_start: true }
    }

    /// What one line adds.
    pub fn line(&mut self, line: &str) -> String {
        let mut text = String::new();
        match serde_json::from_str::<Value>(line) {
            Ok(message) => self.message(&message, &mut text),
            // npm and others write there too.
            Err(_) if line.trim().is_empty() => {}
            Err(_) => self.note(Tone::Dim, &one_line(line), &mut text),
        }
        text
    }

    /// Ends what is being said.
    pub fn end(&mut self) -> String {
        let mut text = String::new();
        self.break_off(&mut text);
        text
    }

    fn message(&mut self, message: &Value, text: &mut String) {
        let params = &message["params"];
        if message["method"].is_null() {
            return self.answer(message, text);
        }
        if self.run.is_some() && params["sessionId"].as_str() != self.session.as_deref() {
            return;
        }
        match message["method"].as_str() {
            Some("session/update") => self.update(&params["update"], text),
            Some("session/request_permission") => {
                let title = params.pointer("/toolCall/title").and_then(Value::as_str).unwrap_or("a tool");
                self.note(Tone::Warn, &format!("asks for permission: {}", one_line(title)), text);
            }
            Some(method @ ("fs/read_text_file" | "fs/write_text_file")) => {
                let path = params["path"].as_str().unwrap_or_default();
                self.note(Tone::Dim, &format!("{method} {}", one_line(path)), text);
            }
            Some("terminal/create") => {
                let args = params["args"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let words: Vec<&str> = params["command"].as_str().into_iter().chain(args).collect();
                self.note(Tone::Dim, &format!("runs {}", one_line(&words.join(" "))), text);
            }
            Some(_) | None => {}
        }
    }

    /// An answer to one of our requests: a session, the end of a turn, or an error. Their ids name the run.
    fn answer(&mut self, message: &Value, text: &mut String) {
        let id = message["id"].as_str().unwrap_or_default();
        let of = id.split_once('/').map(|(_, run)| run);
        if self.run.is_some() && of.is_some() && of != self.run.as_deref() {
            return;
        }
        if id.starts_with("session/")
            && let Some(session) = message["result"]["sessionId"].as_str()
        {
            self.session = Some(session.to_owned());
        } else if let Some(error) = message["error"]["message"].as_str() {
            self.note(Tone::Bad, &format!("error: {}", one_line(error)), text);
        } else if let Some(reason) = message["result"]["stopReason"].as_str() {
            self.break_off(text);
            if reason != "end_turn" {
                self.note(Tone::Warn, &format!("stopped: {reason}"), text);
            }
        }
    }

    fn update(&mut self, update: &Value, text: &mut String) {
        match update["sessionUpdate"].as_str().unwrap_or_default() {
            "user_message_chunk" => self.chunk(Voice::User, &update["content"], text),
            "agent_message_chunk" => self.chunk(Voice::Agent, &update["content"], text),
            "agent_thought_chunk" => self.chunk(Voice::Thought, &update["content"], text),
            "tool_call" => {
                let title = update["title"].as_str().unwrap_or("a tool");
                let kind = update["kind"].as_str().map(|kind| format!(" ({kind})")).unwrap_or_default();
                self.note(Tone::Bold, &format!("{}{kind}", one_line(title)), text);
            }
            // The line of the call said all else that there is to say.
            "tool_call_update" if update["status"] == "failed" => {
                let title = update["title"].as_str().or(update["toolCallId"].as_str()).unwrap_or("a tool");
                self.note(Tone::Bad, &format!("failed: {}", one_line(title)), text);
            }
            "plan" => {
                for entry in update["entries"].as_array().into_iter().flatten() {
                    let mark = match entry["status"].as_str() {
                        Some("completed") => "x",
                        Some("in_progress") => ">",
                        _ => " ",
                    };
                    let content = entry["content"].as_str().unwrap_or_default();
                    self.note(Tone::Dim, &format!("[{mark}] {}", one_line(content)), text);
                }
            }
            _ => {}
        }
    }

    /// A piece of what is said.
    fn chunk(&mut self, voice: Voice, content: &Value, text: &mut String) {
        let said = match (content["text"].as_str(), content["type"].as_str()) {
            (Some(said), _) => harmless(said),
            (None, Some(kind)) => format!("[{kind}]"),
            (None, None) => return,
        };
        if said.is_empty() {
            return;
        }
        if self.saying != Some(voice) {
            self.break_off(text);
            self.saying = Some(voice);
        }
        self.at_line_start = said.ends_with('\n');
        let tone = match voice {
            Voice::Agent => Tone::Plain,
            Voice::Thought => Tone::Dim,
            Voice::User => Tone::Bold,
        };
        text.push_str(&paint(self.colour, tone, &said));
    }

    /// A line of its own.
    fn note(&mut self, tone: Tone, note: &str, text: &mut String) {
        self.break_off(text);
        text.push_str(&paint(self.colour, tone, &format!("* {note}")));
        text.push('\n');
    }

    fn break_off(&mut self, text: &mut String) {
        if self.saying.take().is_some() && !self.at_line_start {
            text.push('\n');
        }
        self.at_line_start = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn update(session: &str, update: Value) -> String {
        json!({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": session, "update": update}})
            .to_string()
    }

    fn said(session: &str, voice: &str, text: &str) -> String {
        update(session, json!({"sessionUpdate": voice, "content": {"type": "text", "text": text}}))
    }

    fn rendered(lines: &[String], colour: bool) -> String {
        let mut transcript = Transcript::new(Some("a.b.1".into()), colour);
        let text: String = lines.iter().map(|line| transcript.line(line)).collect();
        text + &transcript.end()
    }

    #[test]
    fn chunks_are_joined_and_what_it_does_is_a_line_each() {
        let lines = [
            json!({"jsonrpc": "2.0", "id": "initialize", "result": {"protocolVersion": 1}}).to_string(),
            "npm notice: a new version".to_owned(),
            json!({"id": "session/a.b.1", "result": {"sessionId": "s1"}}).to_string(),
            json!({"id": "session/a.c.1", "result": {"sessionId": "s2"}}).to_string(),
            said("s1", "agent_thought_chunk", "Let me "),
            said("s1", "agent_thought_chunk", "look."),
            said("s2", "agent_message_chunk", "Another session."),
            update("s1", json!({"sessionUpdate": "tool_call", "toolCallId": "t", "title": "Read\nfile", "kind": "read"})),
            update("s1", json!({"sessionUpdate": "tool_call_update", "toolCallId": "t", "status": "completed"})),
            update("s1", json!({"sessionUpdate": "tool_call_update", "toolCallId": "t", "status": "failed"})),
            said("s1", "agent_message_chunk", "It is "),
            said("s1", "agent_message_chunk", "\x1b[31mred\nand blue."),
            json!({"id": 7, "method": "session/request_permission", "params": {"sessionId": "s1", "toolCall": {"title": "rm"}}}).to_string(),
            json!({"id": 8, "method": "terminal/create", "params": {"sessionId": "s1", "command": "ls", "args": ["-l"]}}).to_string(),
            update("s1", json!({"sessionUpdate": "plan", "entries": [{"content": "one", "status": "completed"}, {"content": "two", "status": "pending"}]})),
            said("s1", "agent_message_chunk", "Done."),
            json!({"id": "prompt/a.b.1", "result": {"stopReason": "end_turn"}}).to_string(),
            json!({"id": "prompt/a.b.1", "result": {"stopReason": "refusal"}}).to_string(),
            json!({"id": "prompt/a.b.1", "error": {"code": 1, "message": "no credit"}}).to_string(),
            json!({"id": "prompt/a.c.1", "error": {"code": 1, "message": "of another run"}}).to_string(),
        ];
        insta::assert_snapshot!(rendered(&lines, false), @r"
        * npm notice: a new version
        Let me look.
        * Read file (read)
        * failed: t
        It is [31mred
        and blue.
        * asks for permission: rm
        * runs ls -l
        * [x] one
        * [ ] two
        Done.
        * stopped: refusal
        * error: no credit
        ");
    }

    #[test]
    fn thoughts_are_dim() {
        let session = json!({"id": "session/a.b.1", "result": {"sessionId": "s1"}}).to_string();
        let lines = [session, said("s1", "agent_thought_chunk", "hm"), said("s1", "agent_message_chunk", "yes")];
        assert_eq!(rendered(&lines, true), "\x1b[2mhm\x1b[0m\nyes\n");
    }
}
