//! What to say next. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::{Course, INITIALIZE, Opened, Replay, Seat, Session};
use crate::acp::message::{Outgoing, notification, request};
use crate::acp::session::At;
use crate::acp::{Conversation, Turn, Wanted};
use crate::model::Failure;
use agent_client_protocol_schema::ProtocolVersion;
use agent_client_protocol_schema::v1::{
    AGENT_METHOD_NAMES as AGENT, AgentCapabilities, CancelNotification, ClientCapabilities, CloseSessionRequest,
    ContentBlock, FileSystemCapabilities, ForkSessionRequest, Implementation, InitializeRequest, LoadSessionRequest,
    Meta, NewSessionRequest, PromptRequest, ResumeSessionRequest, SetSessionConfigOptionRequest,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Which runs and conversations are wanted.
struct Kept<'a> {
    closing: bool,
    runs: BTreeSet<&'a str>,
    conversations: BTreeSet<&'a str>,
}

impl Kept<'_> {
    fn session(&self, opener: &str, session: &Session) -> bool {
        !self.closing
            && match &session.conversation {
                None => self.runs.contains(opener),
                Some(key) => self.conversations.contains(key.as_str()),
            }
    }
}

impl Replay {
    /// What to say now. `refused`: runs that must not be asked.
    pub(crate) fn next(&self, wanted: &Wanted, refused: &BTreeMap<String, Failure>) -> Vec<Outgoing> {
        if !self.asked.contains(INITIALIZE) {
            return if wanted.closing { Vec::new() } else { vec![initialize()] };
        }
        let Some(Ok(_)) = &self.handshake else { return Vec::new() };
        let due = self.due(wanted, refused);
        let mut messages: Vec<Outgoing> = due.into_iter().filter_map(|turn| self.next_of(turn)).collect();
        let conversations = wanted.turns.iter().filter_map(|turn| Some(turn.conversation.as_ref()?.key.as_str()));
        let kept = Kept {
            closing: wanted.closing,
            runs: wanted.turns.iter().map(|turn| turn.run.as_str()).collect(),
            conversations: conversations.chain(wanted.keep.iter().map(String::as_str)).collect(),
        };
        for (opener, session) in &self.sessions {
            if let (Some(opened), false) = (&session.opened, session.closed) {
                self.take_leave(opener, session, opened, &kept, &mut messages);
            }
        }
        messages
    }

    /// The turns for which something can be said now: of a conversation, the first that was not asked yet, and only while
    /// nobody else is in it.
    pub(crate) fn due<'a>(&self, wanted: &'a Wanted, refused: &BTreeMap<String, Failure>) -> Vec<&'a Turn> {
        if wanted.closing || self.capabilities().is_none() {
            return Vec::new();
        }
        let mut conversations = BTreeSet::new();
        let mut due = Vec::new();
        for turn in wanted.turns.iter().filter(|turn| !refused.contains_key(&turn.run)) {
            let key = turn.conversation.as_ref().map(|conversation| conversation.key.as_str());
            if self.at(turn) == At::Waiting && key.is_none_or(|key| conversations.insert(key)) && self.is_free(turn) {
                due.push(turn);
            }
        }
        due
    }

    /// Whether nobody waits for an answer in the session of a turn.
    fn is_free(&self, turn: &Turn) -> bool {
        match self.seat(turn) {
            Seat::None => true,
            Seat::Opening | Seat::Leaving => false,
            Seat::Open(opened) => !self.courses.get(&opened.session).is_some_and(|course| self.is_busy(course)),
        }
    }

    fn next_of(&self, turn: &Turn) -> Option<Outgoing> {
        let Seat::Open(opened) = self.seat(turn) else { return self.opening(turn) };
        let course = self.courses.get(&opened.session);
        let (name, session) = (&turn.run, opened.session.clone());
        if let (Some(model), Some(option)) = (&turn.model, &opened.model_option)
            && course.and_then(Course::model) != Some(model)
        {
            let id = match course.map_or(0, |course| course.models.len()) {
                0 => format!("model/{name}"),
                before => format!("model.{before}/{name}"),
            };
            let params = SetSessionConfigOptionRequest::new(session, option.clone(), model.as_str());
            return Some(request(&id, AGENT.session_set_config_option, params));
        }
        let params = PromptRequest::new(session, vec![ContentBlock::from(turn.prompt.as_str())])
            .meta(Meta::from_iter([("tenure".to_owned(), json!({"heard": self.heard}))]));
        Some(request(&format!("prompt/{name}"), AGENT.session_prompt, params))
    }

    /// The session of a turn that has none: an old one goes on where it can, else it is a fork where one is wanted, else new.
    fn opening(&self, turn: &Turn) -> Option<Outgoing> {
        let capabilities = self.capabilities()?;
        let may_have_more = capabilities.session_capabilities.additional_directories.is_some();
        let directories = if may_have_more { turn.allowed_paths.clone() } else { Vec::new() };
        let (cwd, meta) = (turn.cwd.clone(), meta(turn));
        let id = |what: &str| format!("{what}/{}", turn.run);
        if let Some(session) = self.resumable(turn).map(str::to_owned) {
            return Some(if capabilities.session_capabilities.resume.is_some() {
                let params = ResumeSessionRequest::new(session, cwd).additional_directories(directories).meta(meta);
                request(&id("resume"), AGENT.session_resume, params)
            } else {
                let params = LoadSessionRequest::new(session, cwd).additional_directories(directories).meta(meta);
                request(&id("resume"), AGENT.session_load, params)
            });
        }
        let fork_of = turn.conversation.as_ref().and_then(|conversation| conversation.fork_of.clone());
        let (id, message) = match fork_of {
            Some(session) => {
                let params = ForkSessionRequest::new(session, cwd).additional_directories(directories).meta(meta);
                (id("fork"), request(&id("fork"), AGENT.session_fork, params))
            }
            None => {
                let params = NewSessionRequest::new(cwd).additional_directories(directories).meta(meta);
                (id("session"), request(&id("session"), AGENT.session_new, params))
            }
        };
        (!self.asked.contains(&id)).then_some(message)
    }

    /// The session that a turn should go on with, if the agent can do that, and has not been asked to.
    fn resumable<'a>(&self, turn: &'a Turn) -> Option<&'a str> {
        let session = turn.conversation.as_ref()?.resume.as_deref()?;
        (self.can_resume() && !self.has_asked("resume", &turn.run)).then_some(session)
    }

    /// Whether only a fork would do for a turn, and the agent can not make one.
    pub(super) fn wants_a_fork_in_vain(&self, turn: &Turn) -> bool {
        let Some(Conversation { fork_of: Some(_), resume, .. }) = &turn.conversation else { return false };
        let can = |capabilities: &AgentCapabilities| capabilities.session_capabilities.fork.is_some();
        let id = format!("resume/{}", turn.run);
        let was_resumed = self.sessions.get(&turn.run).is_some_and(|session| session.opened.is_some());
        let may_resume = resume.is_some() && self.can_resume() && (was_resumed || !self.settled.contains(&id));
        !may_resume && self.capabilities().is_some_and(|capabilities| !can(capabilities))
    }

    /// Whether the agent has something to answer in a session. One turn at a time: what was asked later proves the rest answered.
    fn is_busy(&self, course: &Course) -> bool {
        self.in_flight(course).is_some() || course.models.last().is_some_and(|(id, _)| self.is_pending(id))
    }

    fn in_flight<'a>(&self, course: &'a Course) -> Option<&'a str> {
        let run = course.last_run()?;
        self.runs.get(run).is_none_or(|run| run.ended.is_none()).then_some(run)
    }

    /// Cancel what is in flight, then close. A session that ends alone is closed when its turn has ended; when all end, at
    /// once: closing implies cancelling.
    fn take_leave(
        &self,
        opener: &str,
        session: &Session,
        opened: &Opened,
        kept: &Kept<'_>,
        messages: &mut Vec<Outgoing>,
    ) {
        let in_flight = self.courses.get(&opened.session).and_then(|course| self.in_flight(course));
        if let Some(run) = in_flight
            && (kept.closing || !kept.runs.contains(run))
            && !self.runs.get(run).is_some_and(|run| run.cancelled)
        {
            messages.push(notification(AGENT.session_cancel, CancelNotification::new(opened.session.clone())));
        }
        let may_close = !kept.session(opener, session) && (kept.closing || in_flight.is_none());
        if may_close && self.can_close() && !self.has_asked("close", opener) {
            let params = CloseSessionRequest::new(opened.session.clone());
            messages.push(request(&format!("close/{opener}"), AGENT.session_close, params));
        }
    }

    /// Whether every session that can be closed is.
    pub(crate) fn all_closed(&self) -> bool {
        !self.can_close() || self.sessions.values().all(|session| session.closed || session.opened.is_none())
    }

    fn capabilities(&self) -> Option<&AgentCapabilities> {
        self.handshake.as_ref()?.as_ref().ok()
    }

    fn can_resume(&self) -> bool {
        let can = |it: &AgentCapabilities| it.load_session || it.session_capabilities.resume.is_some();
        self.capabilities().is_some_and(can)
    }

    fn can_close(&self) -> bool {
        self.capabilities().is_some_and(|capabilities| capabilities.session_capabilities.close.is_some())
    }
}

fn initialize() -> Outgoing {
    let fs = FileSystemCapabilities::new().read_text_file(true).write_text_file(true);
    let params = InitializeRequest::new(ProtocolVersion::V1)
        .client_capabilities(ClientCapabilities::new().fs(fs).terminal(true))
        .client_info(Implementation::new("tenure", env!("CARGO_PKG_VERSION")));
    request(INITIALIZE, AGENT.initialize, params)
}

/// What goes with a session beside the protocol's own fields.
fn meta(turn: &Turn) -> Option<Meta> {
    let mut meta = Meta::new();
    if let Some(conversation) = &turn.conversation {
        meta.insert("tenure".to_owned(), json!({"conversation": conversation.key}));
    }
    if !turn.tools.is_empty() {
        meta.insert("claudeCode".to_owned(), json!({"options": claude_options(&turn.tools)}));
    }
    (!meta.is_empty()).then_some(meta)
}

/// `claude-agent-acp` hands these to its CLI: `tools` are the built-in tools that there are (`mcp__…` are not), and `allowedTools`
/// those that need no permission, where a tool may be one use of it, such as `Bash(git log:*)`.
fn claude_options(tools: &[String]) -> Value {
    let names = tools.iter().map(|tool| tool.split('(').next().unwrap_or_default().trim());
    let built_in: BTreeSet<&str> = names.filter(|name| !name.starts_with("mcp__")).collect();
    json!({"tools": built_in, "allowedTools": tools})
}
