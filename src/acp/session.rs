//! The protocol, pure: the lines that were said on both sides → where things are → what to say next.
//!
//! All lines of `stdin` are fed before the first line of `stdout`; from then on, each as it is written or read. The state is
//! the same, whoever reads the files, and whenever. What one file alone does not tell stands in `_meta.tenure` of what we say:
//! - of a session, `conversation`: the key of the conversation that it is, if it is one;
//! - of a prompt, `heard`: how many lines of the agent were heard before. What was said up to there is no word of its turn.
//!
//! `next.rs` is what to say; `course.rs` is what was asked in one session, turn by turn.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod course;
mod next;

use crate::acp::answers::{Opened, agent_error, fork_unsupported, forked, handshake, opened};
use crate::acp::message::{Line, key};
use crate::acp::{Handshake, TerminalWanted, Turn};
use crate::model::{Failure, WorkloadUid};
use agent_client_protocol_schema::v1::{
    AGENT_METHOD_NAMES as AGENT, AgentCapabilities, CLIENT_METHOD_NAMES as CLIENT, ContentBlock, CreateTerminalRequest,
    Error, RequestId, SessionNotification, SessionUpdate,
};
use course::Course;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

/// No turn is remembered to have said more.
pub(crate) const MOST_SAID_BYTES: usize = 16 * 1024 * 1024;

/// The id of the handshake. The others are a word and a turn's key.
const INITIALIZE: &str = "initialize";

/// What opens a session: the first word of the request's id. The rest is the run on whose behalf it is opened.
const OPENINGS: [&str; 3] = ["resume", "fork", "session"];

/// What both sides said so far.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    uid: WorkloadUid,
    /// Ids of our requests, and those of them that were answered.
    asked: HashSet<String>,
    settled: HashSet<String>,
    handshake: Option<Result<AgentCapabilities, String>>,
    runs: BTreeMap<String, Run>,
    /// By the run whose turn opened it.
    sessions: BTreeMap<String, Session>,
    /// By the key of a conversation: the run that opened its latest session.
    latest: HashMap<String, String>,
    /// The same, by the agent's name for a session.
    opener_of: HashMap<String, String>,
    /// By the agent's name for a session.
    courses: HashMap<String, Course>,
    /// How many lines of the agent were heard.
    heard: u64,
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
    /// The session that it was asked in.
    session: Option<String>,
    said: Said,
    cancelled: bool,
    ended: Option<Ended>,
}

#[derive(Debug, Default)]
struct Session {
    conversation: Option<String>,
    cwd: PathBuf,
    /// The session that it was asked to go on with.
    resumed: Option<String>,
    opened: Option<Opened>,
    closed: bool,
}

/// Where a turn has its session.
enum Seat<'a> {
    /// It has none, or none any more.
    None,
    /// It was asked for.
    Opening,
    Open(&'a Opened),
    /// It is being closed.
    Leaving,
}

/// How a turn ended, as far as the protocol knows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ended {
    /// `session/prompt` was answered with this, and this was said before.
    Answered { response: Value, said: Said },
    /// It did not come to that.
    Failed(Failure),
}

/// What the agent said in a turn.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Said {
    /// To the user.
    pub(crate) message: String,
    /// To itself.
    pub(crate) thought: String,
    /// What the turn cost.
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
    /// The turn in which it was asked: the latest that was asked in its session, else the one that opened it.
    pub(crate) run: Option<String>,
    opener: Option<String>,
    nth: u32,
}

#[derive(Debug)]
struct Terminal {
    wanted: TerminalWanted,
    opener: Option<String>,
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
                self.asks(&id, &params);
                self.asked.insert(id);
            }
            Line::Notification { method, params } if method == AGENT.session_cancel => {
                let course = session_id(&params).and_then(|session| self.courses.get(session));
                if let Some(run) = course.and_then(|course| self.runs.get_mut(course.last_run()?)) {
                    run.cancelled = true;
                }
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

    fn asks(&mut self, id: &str, params: &Value) {
        let Some((what, run)) = id.split_once('/') else { return };
        if OPENINGS.contains(&what) {
            let session = self.sessions.entry(run.to_owned()).or_default();
            session.cwd = params.get("cwd").and_then(Value::as_str).map(PathBuf::from).unwrap_or_default();
            session.conversation = note(params, "conversation").and_then(Value::as_str).map(str::to_owned);
            if what == "resume" {
                session.resumed = session_id(params).map(str::to_owned);
            }
            if let Some(conversation) = &session.conversation {
                self.latest.insert(conversation.clone(), run.to_owned());
            }
            return;
        }
        let Some(session) = session_id(params) else { return };
        if what == "prompt" {
            self.runs.entry(run.to_owned()).or_default().session = Some(session.to_owned());
            let heard = note(params, "heard").and_then(Value::as_u64).unwrap_or(0);
            self.courses.entry(session.to_owned()).or_default().prompts.push((run.to_owned(), heard));
        } else if is_model(what)
            && let Some(model) = params.get("value").and_then(Value::as_str)
        {
            self.courses.entry(session.to_owned()).or_default().models.push((id.to_owned(), model.to_owned()));
        }
    }

    /// A line of `stdout`: the agent said it. The error is for a log.
    pub(crate) fn received(&mut self, line: Line) -> Result<(), String> {
        self.heard += 1;
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
        if !self.settled.insert(id.to_owned()) {
            return;
        }
        if id == INITIALIZE {
            self.handshake = Some(handshake(result));
            return;
        }
        let Some((what, run)) = id.split_once('/') else { return };
        match what {
            "resume" => {
                let resumed = self.sessions.get(run).and_then(|session| session.resumed.clone());
                // Whatever is wrong: a session is begun instead, and has its own troubles.
                if let Ok(opened) = opened(result, resumed) {
                    self.opened(run, opened);
                }
            }
            "session" | "fork" => match if what == "fork" { forked(result) } else { opened(result, None) } {
                Ok(opened) => self.opened(run, opened),
                Err(failure) => self.ended(run, Ended::Failed(failure)),
            },
            "prompt" => self.turn_answered(run, result),
            "close" => self.sessions.entry(run.to_owned()).or_default().closed = true,
            what if is_model(what) => {
                if let Err(error) = result {
                    self.ended(run, Ended::Failed(agent_error("the choice of a model", &error)));
                } else if let Some(course) = self.courses.values_mut().find(|course| course.asked_model(id)) {
                    course.model_is_set(id);
                }
            }
            _ => {}
        }
    }

    fn opened(&mut self, run: &str, opened: Opened) {
        self.opener_of.insert(opened.session.clone(), run.to_owned());
        if let Some(course) = self.courses.get_mut(&opened.session) {
            course.opened_again();
        }
        self.sessions.entry(run.to_owned()).or_default().opened = Some(opened);
    }

    fn ended(&mut self, run: &str, ended: Ended) {
        self.runs.entry(run.to_owned()).or_default().ended.get_or_insert(ended);
    }

    fn turn_answered(&mut self, name: &str, result: Result<Value, Error>) {
        let run = self.runs.entry(name.to_owned()).or_default();
        let mut said = std::mem::take(&mut run.said);
        let course = run.session.as_ref().and_then(|session| self.courses.get_mut(session));
        said.cost_usd = course.and_then(Course::cost_of_turn);
        let ended = match result {
            Ok(response) => Ended::Answered { response, said },
            Err(error) => Ended::Failed(agent_error("the prompt", &error)),
        };
        self.ended(name, ended);
    }

    fn update(&mut self, params: Value) {
        let Ok(SessionNotification { session_id, update, .. }) = serde_json::from_value(params) else { return };
        let cost_usd = match &update {
            SessionUpdate::UsageUpdate(usage) => {
                usage.cost.as_ref().filter(|cost| cost.currency.eq_ignore_ascii_case("usd")).map(|cost| cost.amount)
            }
            _ => None,
        };
        if let Some(cost_usd) = cost_usd {
            self.courses.entry(session_id.0.to_string()).or_default().costs_now(cost_usd, self.heard);
            return;
        }
        let course = self.courses.get(&*session_id.0);
        let run = course.and_then(|course| self.runs.get_mut(course.run_at(self.heard)?));
        let Some(Run { said, ended: None, .. }) = run else { return };
        match update {
            SessionUpdate::AgentMessageChunk(chunk) if !is_remark_of_the_program(&chunk.meta) => {
                said.too_much |= !hear(&mut said.message, chunk.content);
            }
            SessionUpdate::AgentThoughtChunk(chunk) => said.too_much |= !hear(&mut said.thought, chunk.content),
            _ => {}
        }
    }

    fn called(&mut self, id: RequestId, method: String, params: Value) {
        let key = key(&id);
        let nth = self.seen.entry(key.clone()).or_default();
        *nth += 1;
        let nth = *nth;
        let session = session_id(&params);
        let opener = session.and_then(|session| self.opener_of.get(session)).cloned();
        let asked = session.and_then(|session| self.courses.get(session)?.run_at(self.heard));
        let run = asked.map(str::to_owned).or_else(|| opener.clone());
        let call = Call { id, method, params, run, opener, nth };
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
                let session = call.opener.as_ref().and_then(|opener| self.sessions.get(opener));
                let cwd = request.cwd.or_else(|| Some(session?.cwd.clone())).unwrap_or_default();
                let (command, args) = program(request.command, request.args);
                let env = request.env.into_iter().map(|variable| (variable.name, variable.value)).collect();
                let run = call.run.clone();
                let wanted = TerminalWanted { id, run, command, args, env, cwd, released: false, kill: false };
                let (opener, limit) = (call.opener.clone(), request.output_byte_limit);
                self.terminals.push(Terminal { wanted, opener, limit });
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

    /// A terminal that was not released, and the limit of its output.
    pub(crate) fn terminal(&self, id: &str) -> Option<(&TerminalWanted, Option<u64>)> {
        let terminal = self.terminals.iter().find(|terminal| terminal.wanted.id.as_str() == id)?;
        (!terminal.wanted.released).then_some((&terminal.wanted, terminal.limit))
    }

    /// Every terminal; one whose session is closed is released.
    pub(crate) fn terminals(&self) -> Vec<TerminalWanted> {
        let closed = |opener: &Option<String>| opener.as_ref().is_some_and(|run| self.has_asked("close", run));
        self.terminals
            .iter()
            .map(|terminal| {
                let wanted = terminal.wanted.clone();
                TerminalWanted { released: wanted.released || closed(&terminal.opener), ..wanted }
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

    /// Open sessions, by each run that opened one or was asked in one.
    pub(crate) fn sessions(&self) -> BTreeMap<String, String> {
        let mut sessions = BTreeMap::new();
        for (opener, session) in self.sessions.iter().filter(|(_, session)| !session.closed) {
            let Some(Opened { session: name, .. }) = &session.opened else { continue };
            let asked = self.courses.get(name).map(Course::runs).into_iter().flatten();
            sessions.extend(asked.chain([opener.as_str()]).map(|run| (run.to_owned(), name.clone())));
        }
        sessions
    }

    /// The session of a run, open or not: that it was asked in, or that it opened.
    pub(crate) fn session(&self, run: &str) -> Option<&str> {
        let asked = self.runs.get(run).and_then(|run| run.session.as_deref());
        asked.or_else(|| Some(&self.sessions.get(run)?.opened.as_ref()?.session))
    }

    /// Whether a session was asked for on behalf of this run.
    pub(crate) fn has_opened(&self, run: &str) -> bool {
        OPENINGS.iter().any(|what| self.has_asked(what, run))
    }

    /// How far a turn is.
    pub(crate) fn at(&self, turn: &Turn) -> At<'_> {
        if let Some(ended) = self.runs.get(&turn.run).and_then(|run| run.ended.as_ref()) {
            return At::Ended(Cow::Borrowed(ended));
        }
        if self.has_asked("prompt", &turn.run) {
            return At::InFlight;
        }
        let failed = |reason: &str, message: String| {
            At::Ended(Cow::Owned(Ended::Failed(Failure { reason: reason.to_owned(), message })))
        };
        // The first two whatever becomes of the conversation: an end is an end.
        if self.has_asked("close", &turn.run) {
            return failed("AgentCancelled", "its session was closed before it was asked".to_owned());
        }
        if self.wants_a_fork_in_vain(turn) {
            return At::Ended(Cow::Owned(Ended::Failed(fork_unsupported())));
        }
        match (self.seat(turn), &turn.model) {
            (Seat::Open(Opened { model_option: None, .. }), Some(model)) => failed(
                "ModelUnavailable",
                format!("the agent offers no choice of a model, and the step wants `{model}`"),
            ),
            _ => At::Waiting,
        }
    }

    fn seat(&self, turn: &Turn) -> Seat<'_> {
        let opener = match &turn.conversation {
            None => Some(&turn.run),
            Some(conversation) => self.latest.get(&conversation.key),
        };
        let Some((opener, session)) = opener.and_then(|opener| Some((opener, self.sessions.get(opener)?))) else {
            return Seat::None;
        };
        match &session.opened {
            _ if session.closed => Seat::None,
            Some(_) if self.has_asked("close", opener) => Seat::Leaving,
            Some(opened) => Seat::Open(opened),
            None if OPENINGS.iter().any(|what| self.is_pending(&format!("{what}/{opener}"))) => Seat::Opening,
            None => Seat::None,
        }
    }

    fn has_asked(&self, what: &str, run: &str) -> bool {
        self.asked.contains(&format!("{what}/{run}"))
    }

    fn is_pending(&self, id: &str) -> bool {
        self.asked.contains(id) && !self.settled.contains(id)
    }
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

/// What we noted in a request of ours.
fn note<'a>(params: &'a Value, name: &str) -> Option<&'a Value> {
    params.get("_meta")?.get("tenure")?.get(name)
}

/// The first choice of a model in a session is `model/…`, a later one has its number, too: one run may come to choose twice.
fn is_model(what: &str) -> bool {
    what == "model" || what.starts_with("model.")
}
