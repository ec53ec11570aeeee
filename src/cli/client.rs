//! HTTP over the controller's socket.

use super::CliError;
use crate::os::StateDir;
use anyhow::{Context, anyhow};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// The prefix of every object's path.
pub(super) const API: &str = "/apis/tenure.dev/v1alpha1";

/// Whether a controller listens.
pub(super) async fn is_up(state: &StateDir) -> bool {
    UnixStream::connect(state.socket()).await.is_ok()
}

async fn send(
    state: &StateDir,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Response<Incoming>, CliError> {
    let socket = state.socket();
    let stream = UnixStream::connect(&socket).await.map_err(|error| {
        anyhow!(
            "no controller answers at {} ({error}); start one with `tenure run`, or name its state directory with --state",
            socket.display()
        )
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .context("failed to talk to the controller")?;
    tokio::spawn(connection);
    let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "tenure")
        .header("content-type", kind)
        .body(Full::new(bytes))
        .context("failed to make a request")?;
    let response = sender.send_request(request).await.context("failed to talk to the controller")?;
    if response.status().is_success() {
        return Ok(response);
    }
    Err(failure(response).await)
}

/// What a `Status` object says, as an error of ours.
async fn failure(response: Response<Incoming>) -> CliError {
    let code = response.status();
    let bytes = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let status: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut message =
        status["message"].as_str().map_or_else(|| format!("the controller answered {code}"), str::to_owned);
    for cause in status["details"]["causes"].as_array().into_iter().flatten() {
        if let Ok(diagnostic) = serde_json::from_value(cause.clone()) {
            message.push('\n');
            message.push_str(crate::manifest::render(&diagnostic, false).trim_end());
        }
    }
    if code == StatusCode::NOT_FOUND { CliError::NotFound(message) } else { CliError::Failed(anyhow!(message)) }
}

/// One request, and its answer as JSON.
pub(super) async fn call(
    state: &StateDir,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, CliError> {
    let bytes = bytes(state, method, path, body).await?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    Ok(serde_json::from_slice(&bytes).context("failed to understand the controller's answer")?)
}

/// One request, and its answer as it is.
pub(super) async fn bytes(
    state: &StateDir,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Bytes, CliError> {
    let response = send(state, method, path, body).await?;
    let body = response.into_body().collect().await.context("failed to read the controller's answer")?;
    Ok(body.to_bytes())
}

/// One request whose answer is a stream of JSON lines, until it ends or `each` says that it is enough.
pub(super) async fn lines(
    state: &StateDir,
    path: &str,
    mut each: impl FnMut(Value) -> Result<bool, CliError>,
) -> Result<(), CliError> {
    let mut body = send(state, Method::GET, path, None).await?.into_body();
    let mut rest: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.context("failed to read the controller's answer")?;
        let Ok(data) = frame.into_data() else { continue };
        rest.extend_from_slice(&data);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            if line.trim_ascii().is_empty() {
                continue;
            }
            let value = serde_json::from_slice(&line).context("failed to understand the controller's answer")?;
            if !each(value)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A text as it can stand in a path or a query.
pub(super) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
