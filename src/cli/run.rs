//! `tenure run`: the controller, with its API beside it.

use super::args::{LogFormat, Run};
use super::{CliError, Done};
use crate::controller::{self, Controller, Handle, Options, RequestError};
use crate::os::StateDir;
use crate::serve::{self, ApiError, ApplyRequest, Hooks, Reason};
use anyhow::Context;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// How long an orderly end may take: requests under way are answered within it.
const GOODBYE: Duration = Duration::from_secs(2);

pub(super) async fn run(args: Run, state: StateDir) -> Done {
    log(args.log_format);
    let dirs = directories(args.dirs)?;
    let options = Options { dirs, state: state.clone(), once: args.once, resync: args.resync.0 };
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let controller = Controller::open(options).await.context("failed to start")?;
    let handle = controller.handle();
    let listener = serve::bind(&state).with_context(|| format!("failed to listen on {}", state.socket().display()))?;
    let (end, ended) = tokio::sync::watch::channel(false);
    let over = |mut ended: tokio::sync::watch::Receiver<bool>| async move {
        // An error: the sender is gone, and so are we.
        let _ = ended.wait_for(|over| *over).await;
    };
    let server = tokio::spawn(serve::serve(listener, handle.clone(), hooks(handle), over(ended.clone())));
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to end; what runs goes on, and the next controller finds it");
        let _ = end.send(true);
        // Kept, or the receivers would take its end for the word.
        std::future::pending::<()>().await;
    });
    controller.run(over(ended)).await;
    server.abort();
    let _ = tokio::time::timeout(GOODBYE, server).await;
    let _ = std::fs::remove_file(state.socket());
    Ok(0)
}

/// Those that were named; else `manifests`, where there is one.
fn directories(given: Vec<PathBuf>) -> Result<Vec<PathBuf>, CliError> {
    let dirs = if given.is_empty() {
        Some(PathBuf::from("manifests")).filter(|dir| dir.is_dir()).into_iter().collect()
    } else {
        given
    };
    for dir in &dirs {
        if !dir.is_dir() {
            let words = format!("{} is not a directory; create it, or name another one", dir.display());
            return Err(CliError::Usage(words));
        }
    }
    let absolute = |dir: PathBuf| std::path::absolute(&dir).unwrap_or(dir);
    Ok(dirs.into_iter().map(absolute).collect())
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("TENURE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let done = match format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Human => builder
            .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .with_target(false)
            .try_init(),
    };
    // A second one in the same process: the first goes on.
    let _ = done;
}

fn hooks(handle: Handle) -> Hooks {
    let (fulfil, apply, plan) = (handle.clone(), handle.clone(), handle);
    Hooks {
        fulfil: Arc::new(move |name, outputs| controller::fulfil(&fulfil.store, name, &outputs).map_err(api_error)),
        apply: Arc::new(move |request: ApplyRequest| {
            let ApplyRequest { file, text, dir } = request;
            controller::apply(&apply.store, &file, text.as_bytes(), Path::new(&dir)).map_err(|error| match error {
                RequestError::Manifest(diagnostics) => diagnostics,
                other => vec![crate::model::Diagnostic {
                    severity: crate::model::Severity::Error,
                    file,
                    line: 0,
                    column: 0,
                    source_line: String::new(),
                    message: other.to_string(),
                    help: None,
                }],
            })
        }),
        plan_now: Arc::new(move || {
            let handle = plan.clone();
            Box::pin(async move {
                let pass = handle.passes.borrow().clone();
                let look = move || controller::plan_now(&handle.store, &handle.state_dir, Some(&pass));
                let plan = tokio::task::spawn_blocking(look).await.map_err(|error| error.to_string())?;
                plan.map(|plan| controller::plan_to_json(&plan)).map_err(|error| error.to_string())
            })
        }),
    }
}

fn api_error(error: RequestError) -> ApiError {
    let message = error.to_string();
    match error {
        RequestError::NotFound(_) => ApiError::new(Reason::NotFound, message),
        RequestError::NotSuspended { .. } => ApiError::new(Reason::Conflict, message),
        RequestError::Outputs(_) | RequestError::Manifest(_) | RequestError::Flow(_) => {
            ApiError::new(Reason::Invalid, message)
        }
        RequestError::Store(error) => error.into(),
        RequestError::Os(_) => ApiError::new(Reason::Internal, message),
    }
}
