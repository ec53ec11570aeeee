//! The protocol, pure: the lines that were said on both sides → where things are → what to say next.
//!
//! All lines of `stdin` are fed before the first line of `stdout`; from then on, each as it is written or read. The state is
//! the same, whoever reads the files, and whenever.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::acp::answers::{Opened, agent_error, handshake, opened};
use crate::acp::message::{Line, Outgoing, key, notification, request};
use crate::acp::{Handshake, TerminalWanted, Turn, Wanted};
use crate::model::{Failure, WorkloadUid};
use agent_client_protocol_schema::ProtocolVersion;
use agent_client_protocol_schema::v1::{
    AGENT_METHOD_NAMES as AGENT, AgentCapabilities, CLIENT_METHOD_NAMES as CLIENT, CancelNotification,
    ClientCapabilities, CloseSessionRequest, ContentBlock, CreateTerminalRequest, Error, FileSystemCapabilities,
    Implementation, InitializeRequest, NewSessionRequest, PromptRequest, RequestId, SessionNotification, SessionUpdate,
    SetSessionConfigOptionRequest,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

/// No turn is remembered to have said more.
pub(crate) const MOST_SAID_BYTES: usize = 16 * 1024 * 1024;

/// The id of the handshake. The others are a prefix and a turn's key.
const INITIALIZE: &str = "initialize";

/// What both sides said so far.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    uid: WorkloadUid,
    asked: HashSet<String>,
    cancelled: HashSet<String>,
    handshake: Option<Result<AgentCapabilities, String>>,
    runs: BTreeMap<String, Run>,
    run_of_session: HashMap<String, String>,
    said: HashMap<String, Said>,
    /// How often we answered an id, and how often it was asked: an agent may use an id again after its answer.
    answered: HashMap<String, u32>,
    seen: HashMap<String, u32>,
    open: BTreeMap<u64, Call>,
    calls_seen: u64,
    made: HashSet<String>,
    terminals: Vec<Terminal>,
}

#[derive(Debug, Default)]
struct Run {
    cwd: PathBuf,
    opened: Option<Opened>,
    model_set: bool,
    ended: Option<Ended>,
    closed: bool,
}

/// How a turn ended, as far as the protocol knows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ended {
    /// `session/prompt` was answered with this, and this was said before.
    Answered { response: Value, said: Said },
    /// It did not come to that.
    Failed(Failure),
}

/// What the agent said in a session.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Said {
    /// To the user.
    pub(crate) message: String,
    /// To itself.
    pub(crate) thought: String,
    /// The session's cost so far.
    pub(crate) cost_usd: Option<f64>,
    /// It said more than is remembered.
    pub(crate) too_much: bool,
}

/// How far a turn is, by the protocol.
#[derive(Debug, PartialEq)]
pub(crate) enum At<'a> {
    /// It was not asked yet.
    Waiting,
    /// It was asked, and is not answered.
    InFlight,
    /// It ended.
    Ended(Cow<'a, Ended>),
}

/// A question of the agent that we did not answer yet.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) id: RequestId,
    pub(crate) method: String,
    pub(crate) params: Value,
    nth: u32,
}

#[derive(Debug)]
struct Terminal {
    wanted: TerminalWanted,
    limit: Option<u64>,
}

impl Replay {
    /// Nothing was said yet.
    pub(crate) fn new(uid: WorkloadUid) -> Replay {
        Replay { uid, ..Replay::default() }
    }

    /// A line of `stdin`: we said it.
    pub(crate) fn sent(&mut self, line: Line) {
        match line {
            Line::Request { id: RequestId::Str(id), params, .. } => {
                if let Some(run) = id.strip_prefix("session/") {
                    let cwd = params.get("cwd").and_then(Value::as_str).map(PathBuf::from).unwrap_or_default();
                    self.runs.entry(run.to_owned()).or_default().cwd = cwd;
                }
                self.asked.insert(id);
            }
            Line::Notification { method, params } if method == AGENT.session_cancel => {
                self.cancelled.extend(session_id(&params).map(str::to_owned));
            }
            Line::Response { id, result } => {
                let key = key(&id);
                let terminal = result.ok().and_then(|result| Some(result.get("terminalId")?.as_str()?.to_owned()));
                self.made.extend(terminal);
                if let Some(at) = self.open.iter().find(|(_, call)| call.id == id).map(|(at, _)| *at)
                    && let Some(call) = self.open.remove(&at)
                {
                    self.took_effect(&call);
                }
                *self.answered.entry(key).or_default() += 1;
            }
            Line::Request { .. } | Line::Notification { .. } => {}
        }
    }

    /// A line of `stdout`: the agent said it. The error is for a log.
    pub(crate) fn received(&mut self, line: Line) -> Result<(), String> {
        match line {
            Line::Request { id, method, params } => {
                self.called(id, method, params);
                Ok(())
            }
            Line::Response { id: RequestId::Str(id), result } if self.asked.contains(&id) => {
                self.answer(&id, result);
                Ok(())
            }
            Line::Response { id, .. } => Err(format!("an answer to {id}, which was not asked")),
            Line::Notification { method, params } => {
                if method == CLIENT.session_update {
                    self.update(params);
                }
                Ok(())
            }
        }
    }

    fn answer(&mut self, id: &str, result: Result<Value, Error>) {
        if id == INITIALIZE {
            self.handshake.get_or_insert_with(|| handshake(result));
            return;
        }
        let Some((what, name)) = id.split_once('/') else { return };
        let run = self.runs.entry(name.to_owned()).or_default();
        match what {
            "session" if run.opened.is_none() && run.ended.is_none() => match opened(result) {
                Ok(opened) => {
                    self.run_of_session.insert(opened.session.clone(), name.to_owned());
                    run.opened = Some(opened);
                }
                Err(failure) => run.ended = Some(Ended::Failed(failure)),
            },
            "model" if !run.model_set && run.ended.is_none() => match result {
                Ok(_) => run.model_set = true,
                Err(error) => run.ended = Some(Ended::Failed(agent_error("the choice of a model", &error))),
            },
            "prompt" if run.ended.is_none() => {
                let said = run.opened.as_ref().and_then(|opened| self.said.remove(&opened.session)).unwrap_or_default();
                run.ended = Some(match result {
                    Ok(response) => Ended::Answered { response, said },
                    Err(error) => Ended::Failed(agent_error("the prompt", &error)),
                });
            }
            "close" => run.closed = true,
            _ => {}
        }
    }

    fn update(&mut self, params: Value) {
        let Ok(SessionNotification { session_id, update, .. }) = serde_json::from_value(params) else { return };
        let session = session_id.0.to_string();
        let ended =
            self.run_of_session.get(&session).and_then(|run| self.runs.get(run)).is_some_and(|run| run.ended.is_some());
        if ended {
            return;
        }
        let said = self.said.entry(session).or_default();
        match update {
            SessionUpdate::AgentMessageChunk(chunk) if !is_remark_of_the_program(&chunk.meta) => {
                said.too_much |= !hear(&mut said.message, chunk.content);
            }
            SessionUpdate::AgentThoughtChunk(chunk) => said.too_much |= !hear(&mut said.thought, chunk.content),
            SessionUpdate::UsageUpdate(usage) => {
                if let Some(cost) = usage.cost.filter(|cost| cost.currency.eq_ignore_ascii_case("usd")) {
                    said.cost_usd = Some(cost.amount);
                }
            }
            _ => {}
        }
    }

    fn called(&mut self, id: RequestId, method: String, params: Value) {
        let key = key(&id);
        let nth = self.seen.entry(key.clone()).or_default();
        *nth += 1;
        let call = Call { id, method, params, nth: *nth };
        self.calls_seen += 1;
        if call.nth <= self.answered.get(&key).copied().unwrap_or(0) {
            self.took_effect(&call);
        } else {
            self.open.insert(self.calls_seen, call);
        }
    }

    /// An answered question about a terminal changed what is wanted.
    fn took_effect(&mut self, call: &Call) {
        if call.method == CLIENT.terminal_create {
            let id = self.terminal_uid(call);
            if self.made.contains(id.as_str())
                && let Ok(request) = serde_json::from_value::<CreateTerminalRequest>(call.params.clone())
            {
                let run = self.run_of_session.get(&*request.session_id.0).cloned();
                let cwd = request.cwd.or_else(|| Some(self.runs.get(run.as_ref()?)?.cwd.clone())).unwrap_or_default();
                let (command, args) = program(request.command, request.args);
                let env = request.env.into_iter().map(|variable| (variable.name, variable.value)).collect();
                let wanted = TerminalWanted { id, run, command, args, env, cwd, released: false, kill: false };
                self.terminals.push(Terminal { wanted, limit: request.output_byte_limit });
            }
            return;
        }
        let id = call.params.get("terminalId").and_then(Value::as_str);
        let Some(terminal) = self.terminals.iter_mut().find(|terminal| Some(terminal.wanted.id.as_str()) == id) else {
            return;
        };
        terminal.wanted.kill |= call.method == CLIENT.terminal_kill;
        terminal.wanted.released |= call.method == CLIENT.terminal_release;
    }

    /// The uid of the terminal that a call of `terminal/create` makes.
    pub(crate) fn terminal_uid(&self, call: &Call) -> WorkloadUid {
        let name = format!("terminal\0{}\0{}\0{}", self.uid, key(&call.id), call.nth);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&Sha256::digest(name.as_bytes())[..16]);
        WorkloadUid(uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string())
    }

    /// The questions of the agent without an answer, in its order.
    pub(crate) fn open_calls(&self) -> Vec<Call> {
        self.open.values().cloned().collect()
    }

    /// How many there are.
    pub(crate) fn count_of_open_calls(&self) -> usize {
        self.open.len()
    }

    /// Whether any is.
    pub(crate) fn has_open_calls(&self) -> bool {
        !self.open.is_empty()
    }

    /// The run whose session this is.
    pub(crate) fn run_of(&self, session: &str) -> Option<&str> {
        self.run_of_session.get(session).map(String::as_str)
    }

    /// A terminal that was not released, and the limit of its output.
    pub(crate) fn terminal(&self, id: &str) -> Option<(&TerminalWanted, Option<u64>)> {
        let terminal = self.terminals.iter().find(|terminal| terminal.wanted.id.as_str() == id)?;
        (!terminal.wanted.released).then_some((&terminal.wanted, terminal.limit))
    }

    /// Every terminal; one whose session is closed is released.
    pub(crate) fn terminals(&self) -> Vec<TerminalWanted> {
        let closed = |run: &Option<String>| run.as_ref().is_some_and(|run| self.has_asked("close", run));
        self.terminals
            .iter()
            .map(|terminal| {
                let wanted = terminal.wanted.clone();
                TerminalWanted { released: wanted.released || closed(&wanted.run), ..wanted }
            })
            .collect()
    }

    /// How far the handshake is.
    pub(crate) fn handshake(&self) -> Handshake {
        match &self.handshake {
            None => Handshake::Pending,
            Some(Ok(_)) => Handshake::Done,
            Some(Err(why)) => Handshake::Failed(why.clone()),
        }
    }

    /// Open sessions, by run.
    pub(crate) fn sessions(&self) -> BTreeMap<String, String> {
        let open = self.runs.iter().filter(|(_, run)| !run.closed);
        open.filter_map(|(name, run)| Some((name.clone(), run.opened.as_ref()?.session.clone()))).collect()
    }

    /// The session of a run, open or not.
    pub(crate) fn session(&self, run: &str) -> Option<&str> {
        Some(&self.runs.get(run)?.opened.as_ref()?.session)
    }

    /// Whether a session was asked for this run.
    pub(crate) fn has_session(&self, run: &str) -> bool {
        self.has_asked("session", run)
    }

    /// How far a turn is.
    pub(crate) fn at(&self, turn: &Turn) -> At<'_> {
        let Some(run) = self.runs.get(&turn.run) else { return At::Waiting };
        if let Some(ended) = &run.ended {
            return At::Ended(Cow::Borrowed(ended));
        }
        if self.has_asked("prompt", &turn.run) {
            return At::InFlight;
        }
        let failed = |reason: &str, message: String| {
            At::Ended(Cow::Owned(Ended::Failed(Failure { reason: reason.to_owned(), message })))
        };
        match (&turn.model, &run.opened) {
            _ if self.has_asked("close", &turn.run) => {
                failed("AgentCancelled", "its session was closed before it was asked".to_owned())
            }
            (Some(model), Some(Opened { model_option: None, .. })) => failed(
                "ModelUnavailable",
                format!("the agent offers no choice of a model, and the step wants `{model}`"),
            ),
            _ => At::Waiting,
        }
    }

    /// What to say now. `refused`: runs whose session must not be opened.
    pub(crate) fn next(&self, wanted: &Wanted, refused: &BTreeMap<String, Failure>) -> Vec<Outgoing> {
        if !self.asked.contains(INITIALIZE) {
            return if wanted.closing { Vec::new() } else { vec![initialize()] };
        }
        let Some(Ok(_)) = &self.handshake else { return Vec::new() };
        let turns = wanted.turns.iter().filter(|turn| !wanted.closing && !refused.contains_key(&turn.run));
        let mut messages: Vec<Outgoing> = turns.filter_map(|turn| self.next_of(turn)).collect();
        let kept: BTreeSet<&str> = wanted.turns.iter().map(|turn| turn.run.as_str()).collect();
        for (name, run) in &self.runs {
            if (wanted.closing || !kept.contains(name.as_str()))
                && let Some(opened) = &run.opened
            {
                self.take_leave(name, run, &opened.session, wanted.closing, &mut messages);
            }
        }
        messages
    }

    fn next_of(&self, turn: &Turn) -> Option<Outgoing> {
        let name = &turn.run;
        if !self.has_asked("session", name) {
            let mut params = NewSessionRequest::new(turn.cwd.clone());
            if self.capabilities()?.session_capabilities.additional_directories.is_some() {
                params = params.additional_directories(turn.allowed_paths.clone());
            }
            return Some(request(&format!("session/{name}"), AGENT.session_new, params));
        }
        let run = self.runs.get(name)?;
        let opened = run.opened.as_ref()?;
        if self.at(turn) != At::Waiting {
            return None;
        }
        if let (Some(model), Some(option), false) = (&turn.model, &opened.model_option, run.model_set) {
            let id = format!("model/{name}");
            let params = SetSessionConfigOptionRequest::new(opened.session.clone(), option.clone(), model.as_str());
            return (!self.asked.contains(&id)).then(|| request(&id, AGENT.session_set_config_option, params));
        }
        let params = PromptRequest::new(opened.session.clone(), vec![ContentBlock::from(turn.prompt.as_str())]);
        Some(request(&format!("prompt/{name}"), AGENT.session_prompt, params))
    }

    /// Cancel what is in flight, then close. A session that ends alone is closed when its turn has ended; when all end, at
    /// once: closing implies cancelling.
    fn take_leave(&self, name: &str, run: &Run, session: &str, closing: bool, messages: &mut Vec<Outgoing>) {
        let in_flight = run.ended.is_none() && self.has_asked("prompt", name);
        if in_flight && !self.cancelled.contains(session) {
            messages.push(notification(AGENT.session_cancel, CancelNotification::new(session.to_owned())));
        }
        if self.can_close() && !self.has_asked("close", name) && (closing || !in_flight) {
            let params = CloseSessionRequest::new(session.to_owned());
            messages.push(request(&format!("close/{name}"), AGENT.session_close, params));
        }
    }

    /// Whether every session that can be closed is.
    pub(crate) fn all_closed(&self) -> bool {
        !self.can_close() || self.runs.values().all(|run| run.closed || run.opened.is_none())
    }

    fn capabilities(&self) -> Option<&AgentCapabilities> {
        self.handshake.as_ref()?.as_ref().ok()
    }

    fn can_close(&self) -> bool {
        self.capabilities().is_some_and(|capabilities| capabilities.session_capabilities.close.is_some())
    }

    fn has_asked(&self, what: &str, run: &str) -> bool {
        self.asked.contains(&format!("{what}/{run}"))
    }
}

fn initialize() -> Outgoing {
    let fs = FileSystemCapabilities::new().read_text_file(true).write_text_file(true);
    let params = InitializeRequest::new(ProtocolVersion::V1)
        .client_capabilities(ClientCapabilities::new().fs(fs).terminal(true))
        .client_info(Implementation::new("tenure", env!("CARGO_PKG_VERSION")));
    request(INITIALIZE, AGENT.initialize, params)
}

/// `claude-agent-acp` sends remarks of the program itself (on billing, on settings) as message chunks that carry this.
fn is_remark_of_the_program(meta: &Option<serde_json::Map<String, Value>>) -> bool {
    let kind = meta.as_ref().and_then(|meta| meta.get("claudeCode")?.get("kind")?.as_str());
    kind == Some("informational")
}

/// False: there is no room for it.
fn hear(into: &mut String, content: ContentBlock) -> bool {
    let ContentBlock::Text(text) = content else { return true };
    let fits = into.len() + text.text.len() <= MOST_SAID_BYTES;
    if fits {
        into.push_str(&text.text);
    }
    fits
}

/// Agents that give no arguments mean a command line.
fn program(command: String, args: Vec<String>) -> (String, Vec<String>) {
    if args.is_empty() { ("sh".to_owned(), vec!["-c".to_owned(), command]) } else { (command, args) }
}

fn session_id(params: &Value) -> Option<&str> {
    params.get("sessionId")?.as_str()
}
