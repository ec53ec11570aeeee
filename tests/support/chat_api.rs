//! An OpenAI-compatible server on loopback, for `llm` steps under test, and for webhooks: it answers what it was told to, in
//! order, holds answers back until they are released, and remembers what it was asked.
//!
//! A thread a connection, one request a connection, and nothing but the standard library and JSON.

// Each test that includes this file uses a part of it.
#![allow(dead_code, reason = "shared by several test binaries")]

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// One answer.
#[derive(Debug, Clone)]
pub enum Reply {
    /// The model says this.
    Text(String),
    /// The model calls the tool that it was given, with these arguments.
    Call(Value),
    /// This status with these headers and this body, to the letter.
    Raw {
        /// The status, such as 429.
        status: u16,
        /// Names and values.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// Nothing, for as long as the client waits, or until this server ends.
    Hang,
    /// The head of an answer and the begin of its body, and then nothing, as with [`Reply::Hang`].
    HangWithin,
    /// The connection is closed without an answer.
    Close,
    /// This, but not before [`ChatApi::release`].
    Held(Box<Reply>),
}

impl Reply {
    /// A status with an error in OpenAI's shape.
    pub fn error(status: u16, message: &str) -> Reply {
        let body = json!({"error": {"message": message, "type": "test"}}).to_string().into_bytes();
        Reply::Raw { status, headers: Vec::new(), body }
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Reply {
        if let Reply::Raw { headers, .. } = &mut self {
            headers.push((name.into(), value.into()));
        }
        self
    }
}

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Such as `POST`.
    pub method: String,
    /// Such as `/v1/chat/completions`.
    pub path: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Value,
}

impl Asked {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What the user says to the model.
    pub fn prompt(&self) -> &str {
        let messages = self.body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        messages.iter().rfind(|message| message["role"] == "user").and_then(|m| m["content"].as_str()).unwrap_or("")
    }
}

#[derive(Default)]
struct Script {
    queue: VecDeque<Reply>,
    by_prompt: Vec<(String, Reply)>,
    default: Option<Reply>,
    cost_usd: Option<f64>,
    asked: Vec<Asked>,
    waiting: usize,
    released: bool,
    ended: bool,
    open: Vec<TcpStream>,
}

#[derive(Default)]
struct Shared {
    script: Mutex<Script>,
    changed: Condvar,
}

/// The server; it ends with this value.
pub struct ChatApi {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl ChatApi {
    /// Starts one on a free port. It says `done` to everything.
    pub fn start() -> ChatApi {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                {
                    let mut script = of_thread.script.lock().expect("no holder panics");
                    if script.ended {
                        return;
                    }
                    script.open.extend(stream.try_clone());
                }
                let shared = Arc::clone(&of_thread);
                // A client may go away at any time: then there is nobody to answer.
                std::thread::spawn(move || {
                    let _ = serve(&shared, &stream);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        ChatApi { address, shared }
    }

    /// For `TENURE_LLM_BASE_URL`.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What it answers to the next requests, before anything else.
    pub fn queue(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script(|script| script.queue.extend(replies));
    }

    /// What it answers to a prompt that contains `part`, whenever nothing is queued.
    pub fn answer_to(&self, part: &str, reply: Reply) {
        self.script(|script| script.by_prompt.push((part.into(), reply)));
    }

    /// What it answers to everything else.
    pub fn answer(&self, reply: Reply) {
        self.script(|script| script.default = Some(reply));
    }

    /// What each answer of the model costs from now on. None at first.
    pub fn cost(&self, usd: f64) {
        self.script(|script| script.cost_usd = Some(usd));
    }

    /// Every request, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.script(|script| script.asked.clone())
    }

    /// Gives the answers that were held, and holds none any more.
    pub fn release(&self) {
        self.script(|script| script.released = true);
        self.shared.changed.notify_all();
    }

    /// Returns once so many requests are held or left hanging (those whose client has gone away are counted no more); panics
    /// after `patience`.
    pub fn wait_for_waiting(&self, count: usize, patience: Duration) {
        let script = self.shared.script.lock().expect("no holder panics");
        let differs = |script: &mut Script| script.waiting != count;
        let (script, timed) =
            self.shared.changed.wait_timeout_while(script, patience, differs).expect("no holder panics");
        assert!(!timed.timed_out(), "{} requests wait, not {count}, after {patience:?}", script.waiting);
    }

    fn script<T>(&self, use_it: impl FnOnce(&mut Script) -> T) -> T {
        use_it(&mut self.shared.script.lock().expect("no holder panics"))
    }
}

impl Drop for ChatApi {
    fn drop(&mut self) {
        let open = self.script(|script| {
            script.ended = true;
            script.released = true;
            std::mem::take(&mut script.open)
        });
        self.shared.changed.notify_all();
        for stream in open {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the listener, which sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(shared: &Arc<Shared>, stream: &TcpStream) -> std::io::Result<()> {
    let Some(asked) = read(stream)? else { return Ok(()) };
    let (mut reply, cost_usd) = {
        let mut script = shared.script.lock().expect("no holder panics");
        script.asked.push(asked.clone());
        let by_prompt = script.by_prompt.iter().find(|(part, _)| asked.prompt().contains(part.as_str()));
        let standing = by_prompt.map(|(_, reply)| reply).or(script.default.as_ref()).cloned();
        let reply = script.queue.pop_front().or(standing).unwrap_or_else(|| Reply::Text("done".into()));
        (reply, script.cost_usd)
    };
    while let Reply::Held(inner) = reply {
        wait(shared, stream);
        reply = *inner;
    }
    match reply {
        Reply::Text(text) => {
            respond(stream, 200, &[], &completion(&asked, &json!({"content": text}), "stop", cost_usd))
        }
        Reply::Call(arguments) => {
            let name = &asked.body["tools"][0]["function"]["name"];
            let call = json!({"id": "call_1", "type": "function",
                "function": {"name": name, "arguments": arguments.to_string()}});
            let message = json!({"content": null, "tool_calls": [call]});
            respond(stream, 200, &[], &completion(&asked, &message, "tool_calls", cost_usd))
        }
        Reply::Raw { status, headers, body } => respond(stream, status, &headers, &body),
        Reply::Hang => hang(shared, stream),
        Reply::HangWithin => {
            let mut stream = stream;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")?;
            hang(shared, stream)
        }
        Reply::Close | Reply::Held(_) => Ok(()),
    }
}

/// A request, if a whole one comes.
fn read(stream: &TcpStream) -> std::io::Result<Option<Asked>> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(Some(Asked { method, path, headers, body: serde_json::from_slice(&body).unwrap_or_default() }))
}

fn respond(mut stream: &TcpStream, status: u16, headers: &[(String, String)], body: &[u8]) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Status\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(body)
}

fn completion(asked: &Asked, message: &Value, finish_reason: &str, cost_usd: Option<f64>) -> Vec<u8> {
    let mut usage = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15});
    if let Some(cost_usd) = cost_usd {
        usage["cost"] = json!(cost_usd);
    }
    let mut message = message.clone();
    message["role"] = json!("assistant");
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": asked.body["model"], "usage": usage,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
    })
    .to_string()
    .into_bytes()
}

fn count(shared: &Shared, change: isize) {
    let mut script = shared.script.lock().expect("no holder panics");
    script.waiting = script.waiting.saturating_add_signed(change);
    drop(script);
    shared.changed.notify_all();
}

/// Until it is released, or the client has gone away.
fn wait(shared: &Arc<Shared>, stream: &TcpStream) {
    count(shared, 1);
    if let Ok(of_thread) = stream.try_clone() {
        let shared = Arc::clone(shared);
        // The client has said all it has to say: what comes is its end.
        std::thread::spawn(move || {
            let _ = (&of_thread).read(&mut [0]);
            count(&shared, -1);
        });
    }
    let script = shared.script.lock().expect("no holder panics");
    drop(shared.changed.wait_while(script, |script| !script.released).expect("no holder panics"));
}

fn hang(shared: &Arc<Shared>, mut stream: &TcpStream) -> std::io::Result<()> {
    count(shared, 1);
    let end = stream.read(&mut [0]);
    count(shared, -1);
    end.map(drop)
}
