//! A Messages API on loopback, for agents under test: it answers what it was told to say, holds answers back until they are
//! released, and remembers what it was asked, to prove that a turn was asked once.

// Each test that includes this file uses a part of it.
#![allow(dead_code, reason = "shared by several test binaries")]

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// A prompt with this word in it is not answered before [`MessagesApi::release`]. (Files of other tests say it.)
pub const HOLD: &str = "HOLD";

/// A prompt with this word in it is not answered before [`MessagesApi::open_gate`], which lets nothing else through.
pub const GATE: &str = "GATE";

/// The environment of the real adapter, but for its `HOME` and `ANTHROPIC_BASE_URL`.
pub const REAL_ENV: [(&str, &str); 4] = [
    ("ANTHROPIC_API_KEY", "x"),
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("IS_SANDBOX", "1"),
    ("npm_config_update_notifier", "false"),
];

/// How the real adapter is launched, below where `scripts/install-adapter` put it: the whole chain `npm exec` → `sh` → `node` →
/// CLI, offline.
pub fn real_command(prefix: &Path) -> Vec<String> {
    let prefix = prefix.display().to_string();
    ["npm", "exec", "--offline", "--prefix", &prefix, "--", "claude-agent-acp"].map(str::to_owned).into()
}

/// One answer of the model.
#[derive(Debug, Clone)]
pub enum Reply {
    /// It says this, and the turn ends.
    Text(String),
    /// It uses a tool; the agent comes back with the result.
    Tool {
        /// The tool, such as `Bash`.
        name: String,
        /// Its input.
        input: Value,
    },
}

#[derive(Default)]
struct Script {
    default: String,
    by_prompt: Vec<(String, String)>,
    queue: VecDeque<Reply>,
    delay: Duration,
    requests: Vec<Value>,
}

#[derive(Clone, Copy, PartialEq)]
enum Held {
    /// Prompts with [`HOLD`] in them.
    Some,
    All,
    None,
}

struct Shared {
    script: Mutex<Script>,
    held: watch::Sender<Held>,
    gate_is_open: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

/// The server; it ends with this value.
pub struct MessagesApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
}

impl MessagesApi {
    /// Starts one on a free port, on a thread and a runtime of its own. It says `done`, and holds back what asks for [`HOLD`].
    pub fn start() -> MessagesApi {
        let script = Script { default: "done".to_owned(), ..Script::default() };
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            held: watch::Sender::new(Held::Some),
            gate_is_open: watch::Sender::new(false),
            waiting: watch::Sender::new(0),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        listener.set_nonblocking(true).expect("a non-blocking listener");
        let address = listener.local_addr().expect("its address");
        let (stop, stopped) = oneshot::channel();
        let router = Router::new()
            .route("/", get(|| async { "" }))
            .route("/v1/messages", post(messages))
            .route("/v1/messages/count_tokens", post(|| async { axum::Json(json!({"input_tokens": 10})) }))
            .with_state(Arc::clone(&shared));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    served = axum::serve(listener, router).into_future() => served.expect("it serves"),
                    _ = stopped => {}
                }
            });
        });
        MessagesApi { address, shared, stop: Some(stop) }
    }

    /// For `ANTHROPIC_BASE_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The environment of an agent that talks to this server, and to no other, with a home of its own.
    pub fn env(&self, home: &Path) -> Vec<(String, String)> {
        let own = [("ANTHROPIC_BASE_URL", self.url()), ("HOME", home.display().to_string())];
        let fixed = REAL_ENV.map(|(name, value)| (name, value.to_owned()));
        own.into_iter().chain(fixed).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// What it says from now on.
    pub fn say(&self, text: &str) {
        self.script(|script| script.default = text.to_owned());
    }

    /// What it says to a prompt that contains `part`.
    pub fn say_to(&self, part: &str, text: &str) {
        self.script(|script| script.by_prompt.push((part.to_owned(), text.to_owned())));
    }

    /// What it answers to the next requests, before anything else.
    pub fn queue(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script(|script| script.queue.extend(replies));
    }

    /// How long each answer takes from now on.
    pub fn delay(&self, delay: Duration) {
        self.script(|script| script.delay = delay);
    }

    /// Holds all answers back, from now on.
    pub fn hold(&self) {
        self.shared.held.send_replace(Held::All);
    }

    /// Answers what asked for [`GATE`].
    pub fn open_gate(&self) {
        self.shared.gate_is_open.send_replace(true);
    }

    /// Gives them, and holds none back any more.
    pub fn release(&self) {
        self.shared.held.send_replace(Held::None);
    }

    /// How many requests are being held back (or delayed) now.
    pub fn waiting(&self) -> usize {
        *self.shared.waiting.borrow()
    }

    /// Returns once so many are; panics after `patience`.
    pub fn wait_for_waiting(&self, count: usize, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.waiting() < count {
            assert!(Instant::now() < deadline, "{} of {count} requests came within {patience:?}", self.waiting());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How many requests put a prompt that contains `part` to the model. Results of tools do not count again, nor does what
    /// the agent asks for itself.
    pub fn asked(&self, part: &str) -> usize {
        let asks = |request: &&Value| !is_aside(request) && prompt(request).contains(part);
        self.script(|script| script.requests.iter().filter(asks).count())
    }

    /// Every request, in order.
    pub fn requests(&self) -> Vec<Value> {
        self.script(|script| script.requests.clone())
    }

    fn script<T>(&self, use_it: impl FnOnce(&mut Script) -> T) -> T {
        use_it(&mut self.shared.script.lock().expect("no holder panics"))
    }
}

impl Drop for MessagesApi {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

/// Counts a request as waiting for as long as it lives: an agent that is killed drops it.
struct Waiting(Arc<Shared>);

impl Waiting {
    fn new(shared: &Arc<Shared>) -> Waiting {
        shared.waiting.send_modify(|count| *count += 1);
        Waiting(Arc::clone(shared))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|count| *count -= 1);
    }
}

async fn messages(State(shared): State<Arc<Shared>>, body: String) -> Response {
    let request: Value = serde_json::from_str(&body).unwrap_or_default();
    let (reply, delay) = {
        let mut script = shared.script.lock().expect("no holder panics");
        script.requests.push(request.clone());
        if is_aside(&request) {
            drop(script);
            return answer(&request, Reply::Text("a title".to_owned()));
        }
        let prompt = prompt(&request);
        let by_prompt = script.by_prompt.iter().find(|(part, _)| prompt.contains(part.as_str()));
        let text = by_prompt.map_or(&script.default, |(_, text)| text).clone();
        (script.queue.pop_front().unwrap_or(Reply::Text(text)), script.delay)
    };
    {
        let _waiting = Waiting::new(&shared);
        tokio::time::sleep(delay).await;
        let mut held = shared.held.subscribe();
        let asks_for_it = prompt(&request).contains(HOLD);
        let free = |held: &Held| match held {
            Held::Some => !asks_for_it,
            Held::All => false,
            Held::None => true,
        };
        let _ = held.wait_for(free).await;
        if prompt(&request).contains(GATE) {
            let _ = shared.gate_is_open.subscribe().wait_for(|open| *open).await;
        }
    }
    answer(&request, reply)
}

/// The agent asks for things of its own too, such as a title for the session: those requests offer the model no tools.
fn is_aside(request: &Value) -> bool {
    request["tools"].as_array().is_none_or(Vec::is_empty)
}

fn answer(request: &Value, reply: Reply) -> Response {
    let (block, stop_reason) = match reply {
        Reply::Text(text) => (json!({"type": "text", "text": text}), "end_turn"),
        Reply::Tool { name, input } => {
            (json!({"type": "tool_use", "id": format!("toolu_{name}"), "name": name, "input": input}), "tool_use")
        }
    };
    if request.get("stream").and_then(Value::as_bool) == Some(true) {
        ([(CONTENT_TYPE, "text/event-stream")], stream(request, &block, stop_reason)).into_response()
    } else {
        axum::Json(message(request, &[block], Some(stop_reason))).into_response()
    }
}

/// What the user says after the model's last message. (The agent may put messages of its own, role `system`, behind it.)
fn prompt(request: &Value) -> String {
    let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let news = messages.iter().rev().take_while(|message| message["role"] != "assistant");
    let mut texts = Vec::new();
    for content in news.filter(|message| message["role"] == "user").map(|message| &message["content"]) {
        texts.extend(content.as_str());
        texts.extend(content.as_array().into_iter().flatten().filter_map(|block| block["text"].as_str()));
    }
    texts.join("\n")
}

fn message(request: &Value, content: &[Value], stop_reason: Option<&str>) -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": request["model"], "content": content,
        "stop_reason": stop_reason, "stop_sequence": null, "usage": {"input_tokens": 10, "output_tokens": 5},
    })
}

fn stream(request: &Value, block: &Value, stop_reason: &str) -> String {
    let (start, delta) = match block["type"].as_str() {
        Some("text") => (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": block["text"]})),
        _ => (
            json!({"type": "tool_use", "id": block["id"], "name": block["name"], "input": {}}),
            json!({"type": "input_json_delta", "partial_json": block["input"].to_string()}),
        ),
    };
    [
        json!({"type": "message_start", "message": message(request, &[], None)}),
        json!({"type": "content_block_start", "index": 0, "content_block": start}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": stop_reason, "stop_sequence": null},
            "usage": {"output_tokens": 5}}),
        json!({"type": "message_stop"}),
    ]
    .iter()
    .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()))
    .collect()
}
