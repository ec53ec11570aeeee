//! JSON-RPC on stdio: one message a line, prompts on threads of their own.

use crate::manners::Manners;
use crate::memory::Memory;
use crate::script::{self, Ended};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How soon a cancellation is noticed.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// One session, as its current turn sees it.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) cwd: PathBuf,
    /// The prompts of its earlier turns.
    pub(crate) earlier: Vec<String>,
    /// What its earlier turns cost. Here it starts at nothing: who goes on with a session does not know.
    cost_usd: Arc<Mutex<f64>>,
    cancelled: Arc<AtomicBool>,
}

impl Session {
    fn new(id: &str, params: &Value, earlier: Vec<String>) -> Session {
        let cwd = params["cwd"].as_str().map(PathBuf::from).unwrap_or_default();
        Session { id: id.to_owned(), cwd, earlier, cost_usd: Arc::default(), cancelled: Arc::default() }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// What the session has cost once this turn costs so much more.
    pub(crate) fn spend(&self, usd: f64) -> f64 {
        let mut sum = lock(&self.cost_usd);
        *sum += usd;
        *sum
    }
}

/// The talk with one client.
#[derive(Clone)]
pub(crate) struct Conversation {
    manners: Manners,
    memory: Memory,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    sessions: Mutex<HashMap<String, Session>>,
    /// Our requests that are not answered yet.
    asked: Mutex<HashMap<u64, Sender<Result<Value, String>>>>,
    next: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(message: &Value) {
    let mut out = std::io::stdout().lock();
    // A client that is gone hears nothing; the end of stdin tells us.
    let _ = writeln!(out, "{message}").and_then(|()| out.flush());
}

impl Conversation {
    pub(crate) fn new(manners: Manners) -> Conversation {
        Conversation { manners, memory: Memory::of_environment(), shared: Arc::default() }
    }

    /// Until end-of-file.
    pub(crate) fn listen(&self, input: impl BufRead) {
        for line in input.lines() {
            let Ok(line) = line else { return };
            match serde_json::from_str::<Value>(&line) {
                Ok(message) => self.hear(&message),
                Err(error) => eprintln!("not JSON: {error}"),
            }
        }
    }

    fn hear(&self, message: &Value) {
        let params = &message["params"];
        match (message["method"].as_str(), message.get("id")) {
            (Some(method), Some(id)) => self.request(method, id.clone(), params),
            (Some("session/cancel"), None) => self.cancel(params),
            (Some(_), None) => {}
            (None, _) => self.answered(message),
        }
    }

    fn request(&self, method: &str, id: Value, params: &Value) {
        match method {
            "initialize" if self.manners.no_handshake => {}
            "initialize" if self.manners.fail_handshake => error(&id, -32603, "initialize: not in the mood"),
            "initialize" => {
                let mut sessions = json!({"close": {}});
                if !self.manners.no_fork {
                    sessions["fork"] = json!({});
                }
                if self.memory.is_there() {
                    sessions["resume"] = json!({});
                }
                let capabilities = json!({"loadSession": self.memory.is_there(), "sessionCapabilities": sessions});
                result(
                    &id,
                    &json!({
                        "protocolVersion": 1,
                        "agentCapabilities": capabilities,
                        "agentInfo": {"name": "tenure-echo", "version": env!("CARGO_PKG_VERSION")},
                        "authMethods": [],
                    }),
                );
            }
            "session/new" => self.begin(&id, params, Vec::new()),
            "session/fork" if !self.manners.no_fork => match self.prompts_of(params) {
                Some(prompts) => self.begin(&id, params, prompts),
                None => error(&id, -32002, "there is no such session"),
            },
            "session/load" | "session/resume" if self.memory.is_there() => match self.prompts_of(params) {
                Some(prompts) => self.go_on(method, &id, params, prompts),
                None => error(&id, -32002, "there is no such session"),
            },
            "session/prompt" => self.prompt(id, params),
            "session/close" => {
                self.cancel(params);
                lock(&self.shared.sessions).remove(params["sessionId"].as_str().unwrap_or_default());
                result(&id, &json!({}));
            }
            other => error(&id, -32601, &format!("there is no method {other}")),
        }
    }

    fn begin(&self, id: &Value, params: &Value, earlier: Vec<String>) {
        let name = loop {
            let number = self.shared.next.fetch_add(1, Ordering::SeqCst);
            let name = format!("echo-{}-{number}", std::process::id());
            // An earlier agent may have had the same process id.
            if self.memory.recall(&name).is_none() {
                break name;
            }
        };
        self.memory.keep(&name, &earlier);
        lock(&self.shared.sessions).insert(name.clone(), Session::new(&name, params, earlier));
        result(id, &json!({"sessionId": name}));
    }

    /// A session of another agent, perhaps; one that is loaded tells its history first.
    fn go_on(&self, method: &str, id: &Value, params: &Value, earlier: Vec<String>) {
        let name = params["sessionId"].as_str().unwrap_or_default();
        let session = Session::new(name, params, earlier);
        if method == "session/load" {
            for prompt in &session.earlier {
                for kind in ["user_message_chunk", "agent_message_chunk"] {
                    let content = json!({"type": "text", "text": prompt});
                    self.update(&session, &json!({"sessionUpdate": kind, "content": content}));
                }
            }
        }
        lock(&self.shared.sessions).insert(name.to_owned(), session);
        result(id, &json!({}));
    }

    /// What was asked in a session that is open here, or remembered.
    fn prompts_of(&self, params: &Value) -> Option<Vec<String>> {
        let open = self.session(params).map(|session| session.earlier);
        open.or_else(|| self.memory.recall(params["sessionId"].as_str()?))
    }

    fn session(&self, params: &Value) -> Option<Session> {
        lock(&self.shared.sessions).get(params["sessionId"].as_str()?).cloned()
    }

    fn cancel(&self, params: &Value) {
        if let Some(session) = self.session(params) {
            session.cancelled.store(true, Ordering::SeqCst);
        }
    }

    fn prompt(&self, id: Value, params: &Value) {
        let Some(mut session) = self.session(params) else {
            return error(&id, -32602, "there is no such session");
        };
        let blocks = params["prompt"].as_array().cloned().unwrap_or_default();
        let text: Vec<&str> = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
        let text = text.join("\n");
        // A flag of its own: clearing the old one could undo a cancellation that the previous turn has yet to notice.
        session.cancelled = Arc::default();
        let mut next = session.clone();
        next.earlier.push(text.clone());
        self.memory.keep(&next.id, &next.earlier);
        lock(&self.shared.sessions).insert(next.id.clone(), next);
        let conversation = self.clone();
        std::thread::spawn(move || match script::follow(&conversation, &session, &text) {
            Ended::Turn => {
                let tokens = u64::try_from(text.len()).unwrap_or(u64::MAX);
                let usage = json!({"totalTokens": tokens, "inputTokens": tokens, "outputTokens": 0});
                result(&id, &json!({"stopReason": "end_turn", "usage": usage}));
            }
            Ended::Cancelled => result(&id, &json!({"stopReason": "cancelled"})),
            Ended::Failed(message) => error(&id, -32000, &message),
        });
    }

    /// Tells the client something about a session.
    pub(crate) fn update(&self, session: &Session, update: &Value) {
        write(&json!({
            "jsonrpc": "2.0",
            "method": "session/update",
            "params": {"sessionId": session.id, "update": update},
        }));
    }

    /// Asks the client, and waits for its answer, or until the turn is cancelled.
    pub(crate) fn ask(&self, session: &Session, method: &str, mut params: Value) -> Result<Value, String> {
        let id = self.shared.next.fetch_add(1, Ordering::SeqCst);
        let (sender, answer): (_, Receiver<Result<Value, String>>) = channel();
        lock(&self.shared.asked).insert(id, sender);
        if let Some(fields) = params.as_object_mut() {
            fields.insert("sessionId".into(), session.id.clone().into());
        }
        write(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        loop {
            match answer.recv_timeout(TICK) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => return Err("the client is gone".into()),
                Err(RecvTimeoutError::Timeout) if session.is_cancelled() => {
                    lock(&self.shared.asked).remove(&id);
                    return Err("cancelled".into());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn answered(&self, message: &Value) {
        let Some(sender) = message["id"].as_u64().and_then(|id| lock(&self.shared.asked).remove(&id)) else { return };
        let answer = match message.get("error").filter(|error| !error.is_null()) {
            Some(error) => Err(error["message"].as_str().unwrap_or("error").to_owned()),
            None => Ok(message["result"].clone()),
        };
        // Whoever asked may have been cancelled meanwhile.
        let _ = sender.send(answer);
    }
}

fn result(id: &Value, result: &Value) {
    write(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
}

fn error(id: &Value, code: i32, message: &str) {
    write(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}));
}
