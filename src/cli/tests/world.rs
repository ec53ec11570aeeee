//! A state directory with a controller that is made up, and outputs that can be read.

use super::super::console::Console;
use super::super::{Cli, execute};
use super::NOW;
use crate::os::StateDir;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use clap::Parser;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use tokio::net::UnixListener;

/// What is written to it can be read.
#[derive(Clone, Default)]
pub struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A reader that has gone.
pub struct ClosedPipe;

impl Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

type Answer = (u16, String);
/// By the beginning of the request.
type Answers = Arc<Mutex<Vec<(String, Answer)>>>;
/// Request lines with their bodies.
type Requests = Arc<Mutex<Vec<(String, Value)>>>;

/// A state directory whose controller answers as it is told to.
pub struct World {
    dir: tempfile::TempDir,
    requests: Requests,
}

impl World {
    /// Nobody listens.
    pub fn silent() -> World {
        World { dir: tempfile::tempdir().unwrap(), requests: Arc::default() }
    }

    /// Each answer is for requests that begin like this; the longest that fits holds. Of several for the same, each is given
    /// once, and the last one stays.
    pub fn new(answers: &[(&str, u16, Value)]) -> World {
        let text = |value: &Value| match value {
            Value::Array(lines) => lines.iter().map(|line| format!("{line}\n")).collect(),
            other => other.to_string(),
        };
        let answers: Vec<_> = answers.iter().map(|(at, code, value)| (at.to_string(), (*code, text(value)))).collect();
        World::silent().serving(Arc::new(Mutex::new(answers)))
    }

    fn serving(self, answers: Answers) -> World {
        let listener = UnixListener::bind(self.state().socket()).unwrap();
        let app = Router::new().fallback(answer).with_state((answers, self.requests.clone()));
        tokio::spawn(async move { axum::serve(listener, app).await });
        self
    }

    pub fn path(&self) -> String {
        self.dir.path().display().to_string()
    }

    pub fn state(&self) -> StateDir {
        StateDir(self.dir.path().to_owned())
    }

    pub async fn run(&self, args: &str) -> (u8, String, String) {
        self.run_with(&args.split_whitespace().collect::<Vec<_>>()).await
    }

    pub async fn run_with(&self, args: &[&str]) -> (u8, String, String) {
        let (out, err) = (Buffer::default(), Buffer::default());
        let mut console = Console::for_test(out.clone(), err.clone(), || NOW);
        let state = self.dir.path().to_str().unwrap();
        let cli = Cli::try_parse_from([&["tenure"], args, &["--state", state]].concat()).unwrap();
        let exit = execute(cli, &mut console).await;
        (exit.code(), out.text(), err.text().replace(state, "STATE"))
    }

    pub fn requests(&self) -> Vec<(String, Value)> {
        self.requests.lock().unwrap().clone()
    }
}

async fn answer(State((answers, requests)): State<(Answers, Requests)>, request: Request) -> Response {
    let line = format!("{} {}", request.method(), request.uri());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    requests.lock().unwrap().push((line.clone(), body));
    let mut answers = answers.lock().unwrap();
    let longest =
        answers.iter().map(|(start, _)| start).filter(|start| line.starts_with(*start)).max_by_key(|start| start.len());
    let Some(longest) = longest.cloned() else {
        let status =
            json!({"kind": "Status", "reason": "NotFound", "message": format!("there is no {line}"), "code": 404});
        return (StatusCode::NOT_FOUND, Json(status)).into_response();
    };
    let fitting: Vec<usize> = (0..answers.len()).filter(|index| answers[*index].0 == longest).collect();
    let (code, text) = match fitting.as_slice() {
        [first, _, ..] => answers.remove(*first).1,
        _ => answers[fitting[0]].1.clone(),
    };
    (StatusCode::from_u16(code).unwrap(), Body::from(Bytes::from(text))).into_response()
}
