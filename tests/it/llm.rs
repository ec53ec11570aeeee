//! `tenure llm-request` and `tenure notify` as processes, against a server on loopback: what they ask, what they say, and that
//! they end.

use crate::support::PATIENCE;
use crate::support::chat_api::{ChatApi, Reply};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const KEY: &str = "sk-never-to-be-seen";

struct Desk {
    dir: tempfile::TempDir,
    api: ChatApi,
}

impl Desk {
    fn new() -> Desk {
        Desk { dir: tempfile::tempdir().unwrap(), api: ChatApi::start() }
    }

    fn file(&self, content: &Value) -> PathBuf {
        let path = self.dir.path().join("request.json");
        std::fs::write(&path, content.to_string()).unwrap();
        path
    }

    fn command(&self, verb: &str, file: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenure"));
        command.env_clear().env("TENURE_LLM_API_KEY", KEY).env("TENURE_LLM_BASE_URL", self.api.url());
        command.arg(verb).arg(file).current_dir(self.dir.path());
        command
    }

    /// Runs a request with these fields; what it says, and whether it is content.
    fn ask(&self, fields: &Value) -> (Value, bool) {
        let mut request = json!({"version": 1, "model": "m", "prompt": "Judge it."});
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let output = self.command("llm-request", &self.file(&request)).output().unwrap();
        never_shows_the_key(&output);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
        (serde_json::from_slice(&output.stdout).unwrap(), output.status.success())
    }

    fn fails(&self, fields: &Value) -> (String, String) {
        let (said, content) = self.ask(fields);
        assert!(!content, "{said}");
        let word = |name: &str| said["failure"][name].as_str().unwrap().replace(&self.address(), "HOST");
        (word("reason"), word("message"))
    }

    fn notify(&self, fields: &Value) -> Output {
        let mut request = json!({"version": 1, "url": format!("{}/hook/secret", self.api.url()), "body": {"job": "j"}});
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let output = self.command("notify", &self.file(&request)).output().unwrap();
        assert_eq!(output.stdout, b"");
        never_shows_the_key(&output);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("secret"), "{output:?}");
        output
    }

    fn address(&self) -> String {
        self.api.url().trim_start_matches("http://").trim_end_matches("/v1").to_owned()
    }
}

fn never_shows_the_key(output: &Output) {
    for text in [&output.stdout, &output.stderr] {
        assert!(!String::from_utf8_lossy(text).contains(KEY), "{output:?}");
    }
}

/// Where nobody listens: the port is taken, and never accepted from.
fn nobody() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

#[test]
fn a_request_gives_the_models_text_and_what_it_took() {
    let desk = Desk::new();
    desk.api.answer(Reply::Text("Fine.".into()));
    desk.api.cost(0.25);
    let (said, content) = desk.ask(&json!({"system": "Be brief.", "temperature": 0.5, "maxTokens": 9}));
    assert!(content);
    let usage = json!({"inputTokens": 10, "outputTokens": 5, "totalTokens": 15});
    assert_eq!(said, json!({"outputs": {"response": "Fine."}, "usage": usage, "costUsd": 0.25, "model": "m"}));
    let asked = desk.api.asked().remove(0);
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/v1/chat/completions"));
    assert_eq!(asked.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(asked.header("content-type"), Some("application/json"));
    let messages = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Judge it."}]);
    assert_eq!(asked.body, json!({"model": "m", "messages": messages, "temperature": 0.5, "max_tokens": 9}));
}

#[test]
fn declared_outputs_come_by_a_tool_call() {
    let desk = Desk::new();
    desk.api.answer(Reply::Call(json!({"verdict": "yes", "score": 4})));
    let outputs = json!({"verdict": {}, "score": {"type": "number"}});
    let (said, content) = desk.ask(&json!({"outputs": outputs}));
    assert!(content);
    assert_eq!(said["outputs"], json!({"verdict": "yes", "score": 4}));
    assert_eq!(said.get("costUsd"), None);
    assert_eq!(desk.api.asked()[0].body["tool_choice"], "required");
}

#[test]
fn what_passes_is_tried_again() {
    let desk = Desk::new();
    desk.api.queue([Reply::error(429, "slow down").header("Retry-After", "0"), Reply::Close, Reply::error(503, "")]);
    let (said, content) = desk.ask(&json!({}));
    assert!(content, "{said}");
    assert_eq!(said["outputs"], json!({"response": "done"}));
    assert_eq!(desk.api.asked().len(), 4);
}

#[test]
fn what_does_not_pass_in_time_is_a_failure() {
    let desk = Desk::new();
    desk.api.answer(Reply::error(429, "slow down").header("Retry-After", "3600"));
    let (reason, message) = desk.fails(&json!({}));
    assert_eq!(reason, "LlmUnavailable");
    assert_eq!(message, "HOST answered 429 Too Many Requests: slow down; try again later");
    assert_eq!(desk.api.asked().len(), 1, "an hour is not waited for");
    desk.api.answer(Reply::Close);
    let (reason, message) = desk.fails(&json!({"retryForMs": 2000}));
    assert_eq!(reason, "LlmUnavailable");
    assert!(message.starts_with("failed to reach HOST: "), "{message}");
    assert!(message.contains("; is the base URL right ($TENURE_LLM_BASE_URL)? (tried "), "{message}");
    assert!(desk.api.asked().len() > 2);
}

#[test]
fn a_key_that_is_not_taken_is_said_once_and_not_shown() {
    let desk = Desk::new();
    desk.api.answer(Reply::error(401, &format!("wrong key {KEY}")));
    let (reason, message) = desk.fails(&json!({}));
    assert_eq!(reason, "LlmUnauthorized");
    assert_eq!(message, "HOST answered 401 Unauthorized: wrong key ***; check the key in $TENURE_LLM_API_KEY");
    assert_eq!(desk.api.asked().len(), 1);
}

#[test]
fn a_redirect_does_not_get_the_key() {
    let (desk, other) = (Desk::new(), ChatApi::start());
    desk.api.answer(Reply::error(307, "").header("Location", &other.url()));
    assert_eq!(desk.fails(&json!({})).0, "LlmRejected");
    assert!(other.asked().is_empty());
}

#[test]
fn a_server_that_hangs_is_given_up() {
    let desk = Desk::new();
    for reply in [Reply::Hang, Reply::HangWithin] {
        desk.api.answer(reply);
        let (reason, message) = desk.fails(&json!({"timeoutMs": 300}));
        assert_eq!((reason.as_str(), message.as_str()), ("LlmTimedOut", "HOST gave no whole answer within 300ms"));
    }
    assert!(desk.api.asked().len() <= 2, "who hangs is not asked again");
    let (_listener, url) = nobody();
    let begun = Instant::now();
    assert_eq!(desk.fails(&json!({"baseUrl": url, "timeoutMs": 300})).0, "LlmTimedOut");
    assert!(begun.elapsed() < PATIENCE / 2);
}

#[test]
fn an_answer_without_end_is_none() {
    let desk = Desk::new();
    desk.api.answer(Reply::Raw { status: 200, headers: Vec::new(), body: vec![b' '; 9 << 20] });
    let (reason, message) = desk.fails(&json!({}));
    assert_eq!(reason, "LlmUnavailable");
    assert_eq!(message, "failed to ask HOST: the answer is longer than 8388608 bytes");
}

#[test]
fn a_request_that_is_stopped_ends_at_once() {
    let desk = Desk::new();
    desk.api.answer(Reply::Hang);
    let file = desk.file(&json!({"version": 1, "model": "m", "prompt": "Judge it."}));
    let mut child = desk.command("llm-request", &file).stdout(Stdio::null()).spawn().unwrap();
    desk.api.wait_for_waiting(1, PATIENCE);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert!(!child.wait().unwrap().success());
    desk.api.wait_for_waiting(0, PATIENCE);
}

#[test]
fn a_request_file_that_makes_no_sense_is_a_failure_with_a_reason() {
    let desk = Desk::new();
    assert_eq!(desk.fails(&json!({"version": 2})).0, "LlmRequestInvalid");
    assert_eq!(desk.fails(&json!({"model": " "})).1, "no model is named; set `model`");
    assert_eq!(desk.fails(&json!({"baseUrl": "file:///etc/passwd"})).0, "LlmRequestInvalid");
    let output = desk.command("llm-request", Path::new("missing.json")).output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["failure"]["message"], "failed to read missing.json: No such file or directory (os error 2)");
    assert!(desk.api.asked().is_empty());
}

#[test]
fn a_notification_reaches_its_webhook_without_the_key() {
    let desk = Desk::new();
    desk.api.queue([Reply::error(500, ""), Reply::Close]);
    assert!(desk.notify(&json!({})).status.success());
    let asked = desk.api.asked();
    assert_eq!(asked.len(), 3);
    assert_eq!((asked[2].method.as_str(), asked[2].path.as_str()), ("POST", "/v1/hook/secret"));
    assert_eq!(asked[2].body, json!({"job": "j"}));
    assert_eq!(asked[2].header("authorization"), None);
}

#[test]
fn a_notification_that_is_not_taken_says_so_in_a_line() {
    let desk = Desk::new();
    let said = |output: Output| {
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap().replace(&desk.address(), "HOST")
    };
    desk.api.answer(Reply::error(404, ""));
    let gone = said(desk.notify(&json!({})));
    desk.api.answer(Reply::Hang);
    let hangs = said(desk.notify(&json!({"timeoutMs": 300})));
    let file = said(desk.notify(&json!({"url": "file:///secret"})));
    desk.api.answer(Reply::error(503, ""));
    let begun = Instant::now();
    let busy = said(desk.notify(&json!({"timeoutMs": 600})));
    assert!(begun.elapsed() < Duration::from_secs(10));
    insta::assert_snapshot!([gone, hangs, file, busy].concat(), @r"
    error: failed to notify the webhook: HOST answered 404 Not Found; check `webhook_url`
    error: failed to notify the webhook: HOST did not answer in time
    error: failed to notify the webhook: the webhook's URL does not begin with http:// or https://
    error: failed to notify the webhook: HOST answered 503 Service Unavailable; it is not well, or busy
    ");
}
