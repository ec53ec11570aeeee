//! What an agent said, as a person reads it: from the ACP messages that it sent.

use serde_json::Value;
use std::collections::BTreeSet;

/// Turns the lines of an adapter's stdout into text, piece by piece.
pub(super) struct Renderer {
    /// The session of the run that is shown; learnt from the answer to `session/<run>`.
    opened_by: String,
    session: Option<String>,
    rest: Vec<u8>,
    /// Whether the last thing printed ended a line.
    at_line_start: bool,
    told_tools: BTreeSet<String>,
}

impl Renderer {
    /// For one run: the others on the same adapter are left out.
    pub(super) fn new(run: &str) -> Renderer {
        Renderer {
            opened_by: format!("session/{run}"),
            session: None,
            rest: Vec::new(),
            at_line_start: true,
            told_tools: BTreeSet::new(),
        }
    }

    /// What the next bytes say.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let mut text = String::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            if let Ok(message) = serde_json::from_slice::<Value>(&line) {
                self.message(&message, &mut text);
            }
        }
        text
    }

    fn message(&mut self, message: &Value, text: &mut String) {
        if message["id"] == self.opened_by.as_str() {
            self.session = message["result"]["sessionId"].as_str().map(str::to_owned);
            return;
        }
        if message["method"] != "session/update" || message["params"]["sessionId"].as_str() != self.session.as_deref() {
            return;
        }
        let update = &message["params"]["update"];
        let words = update["content"]["text"].as_str().unwrap_or_default();
        match update["sessionUpdate"].as_str() {
            Some("agent_message_chunk") => {
                text.push_str(words);
                self.at_line_start = if words.is_empty() { self.at_line_start } else { words.ends_with('\n') };
            }
            Some("agent_thought_chunk") => self.line(&format!("(thinks) {words}"), text),
            Some("tool_call") => {
                let id = update["toolCallId"].as_str().unwrap_or_default().to_owned();
                if self.told_tools.insert(id) {
                    let title = update["title"].as_str().unwrap_or("a tool");
                    self.line(&format!("→ {title}"), text);
                }
            }
            _ => {}
        }
    }

    fn line(&mut self, words: &str, text: &mut String) {
        if !self.at_line_start {
            text.push('\n');
        }
        text.push_str(words.trim_end());
        text.push('\n');
        self.at_line_start = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_tools_get_a_line() {
        let update = |session: &str, update: Value| {
            serde_json::json!({"method": "session/update", "params": {"sessionId": session, "update": update}})
                .to_string()
                + "\n"
        };
        let said = |text: &str| serde_json::json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}});
        let tool = serde_json::json!({"sessionUpdate": "tool_call", "toolCallId": "1", "title": "Read x"});
        let mut lines = String::from("{\"id\": \"session/j.s.1\", \"result\": {\"sessionId\": \"A\"}}\nnot json\n");
        for line in [
            update("A", said("hel")),
            update("B", said("not ours")),
            update("A", said("lo")),
            update("A", tool.clone()),
            update("A", tool),
            update("A", said("bye\n")),
        ] {
            lines.push_str(&line);
        }
        let mut renderer = Renderer::new("j.s.1");
        let (first, second) = lines.split_at(100);
        let text = renderer.feed(first.as_bytes()) + &renderer.feed(second.as_bytes());
        assert_eq!(text, "hello\n→ Read x\nbye\n");
    }
}
