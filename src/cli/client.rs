//! The HTTP client over the controller's unix socket: one connection a request.

use super::failure::{Context, Exit, Failure};
use super::text::url;
use crate::model::Kind;
use crate::os::StateDir;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::net::UnixStream;

/// How long an answer may take to begin.
const ANSWER: Duration = Duration::from_secs(30);

/// The controller of a state directory, as seen through its socket.
#[derive(Debug, Clone)]
pub struct Client {
    state: StateDir,
}

/// The path of a kind, or of one object of it.
pub fn path_of(kind: Kind, name: Option<&str>) -> String {
    let plural = kind.plural();
    match name {
        None => format!("/apis/tenure.dev/v1alpha1/{plural}"),
        Some(name) => format!("/apis/tenure.dev/v1alpha1/{plural}/{}", url(name)),
    }
}

impl Client {
    /// The client of the controller that has this state directory, whether or not one runs.
    pub fn new(state: StateDir) -> Client {
        Client { state }
    }

    /// Whether a controller listens.
    pub async fn is_there(&self) -> Result<bool, Failure> {
        Ok(self.connect().await?.is_some())
    }

    /// A controller listens, or this is a failure that says how to start one.
    pub async fn must_be_there(&self) -> Result<(), Failure> {
        if self.is_there().await? { Ok(()) } else { Err(self.nobody()) }
    }

    /// None: nobody listens.
    async fn connect(&self) -> Result<Option<UnixStream>, Failure> {
        let socket = self.state.socket();
        match UnixStream::connect(&socket).await {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
            Err(error) => {
                let failure = Failure::failed(format!("the socket {} does not answer: {error}", socket.display()));
                Err(match error.kind() {
                    ErrorKind::PermissionDenied => failure.help("it serves the user who runs the controller, and root"),
                    _ => failure.help("name the controller's state directory with --state DIR"),
                })
            }
        }
    }

    /// Nobody listens.
    pub fn nobody(&self) -> Failure {
        let root = self.state.root().display();
        Failure::failed(format!("no controller runs on {root}")).help(format!(
            "start one with `tenure run --state {root}`, or name another one's state directory with --state"
        ))
    }

    /// Sends a request; gives the answer if it is a success.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>, Failure> {
        let response = self.exchange(method, path, body).await?;
        if response.status().is_success() { Ok(response) } else { Err(refused(response).await) }
    }

    /// Sends a request; gives the answer, whatever it is.
    pub async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Failure> {
        let answer = tokio::time::timeout(ANSWER, self.exchange_patiently(method, path, body));
        answer.await.map_err(|_| {
            Failure::new(Exit::TimedOut, format!("the controller gave no answer within {}s", ANSWER.as_secs()))
                .help("its log says what it is busy with")
        })?
    }

    async fn exchange_patiently(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Failure> {
        let broken = |error: hyper::Error| Failure::failed(format!("the controller broke off the connection: {error}"));
        let stream = self.connect().await?.ok_or_else(|| self.nobody())?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Its errors come out at the request or at the body.
        tokio::spawn(connection);
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "tenure")
            .header("content-type", "application/json")
            .body(Full::new(bytes))
            .map_err(|error| Failure::failed(format!("the request can not be written: {error}")))?;
        sender.send_request(request).await.map_err(broken)
    }

    /// Sends a request; gives the JSON of the answer.
    pub async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let bytes = read_all(self.send(method, path, body).await?).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::failed(format!("the controller's answer is not JSON: {error}")))
    }

    /// Asks for something.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.json(Method::GET, path, None).await
    }

    /// Asks for JSON lines, as they come.
    pub async fn lines(&self, path: &str) -> Result<Lines, Failure> {
        let response = self.send(Method::GET, path, None).await?;
        Ok(Lines { body: response.into_body(), buffer: Vec::new() })
    }

    /// The bytes of a transcript from `offset` to its present end, and where to go on.
    pub async fn log(&self, workload: &str, stream: &str, offset: u64) -> Result<(Bytes, u64), Failure> {
        let path = format!("/logs/{}/{stream}?offset={offset}", url(workload));
        let response = self.send(Method::GET, &path, None).await.to(|| format!("read the {stream} of {workload}"))?;
        let bytes = read_all(response).await?;
        let end = offset + bytes.len() as u64;
        Ok((bytes, end))
    }
}

/// The whole body.
pub async fn read_all(response: Response<Incoming>) -> Result<Bytes, Failure> {
    let whole = response.into_body().collect().await;
    let whole = whole.map_err(|error| Failure::failed(format!("the controller's answer broke off: {error}")))?;
    Ok(whole.to_bytes())
}

/// What an answer that is not a success says.
pub async fn refused(response: Response<Incoming>) -> Failure {
    let code = response.status().as_u16();
    match read_all(response).await {
        Ok(bytes) => refusal(code, &bytes),
        Err(failure) => failure,
    }
}

/// What a `Status` says.
pub fn refusal(code: u16, bytes: &[u8]) -> Failure {
    let status: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let message = status["message"].as_str().map(str::to_owned);
    let message = message.unwrap_or_else(|| {
        format!("the controller answered with HTTP status {code}: {}", String::from_utf8_lossy(bytes).trim())
    });
    let exit = match code {
        404 => Exit::NotFound,
        _ => Exit::Failed,
    };
    Failure::new(exit, message)
}

/// JSON lines, as they come.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next value; none at the end. An `ERROR` line is a failure.
    pub async fn next(&mut self) -> Result<Option<Value>, Failure> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let value: Value = serde_json::from_slice(&line).map_err(|error| {
                    Failure::failed(format!("the controller sent a line that is not JSON: {error}"))
                })?;
                return match value["type"].as_str() {
                    Some("ERROR") => {
                        let message = value.pointer("/object/message").and_then(Value::as_str).unwrap_or("unknown");
                        Err(Failure::failed(message))
                    }
                    _ => Ok(Some(value)),
                };
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => self.buffer.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(Failure::failed(format!("the controller's answer broke off: {error}"))),
            }
        }
    }
}
