//! `tenure run`: the controller, in the foreground.

use super::failure::{Done, Exit, Failure};
use crate::controller::{self, Controller};
use crate::model::{Diagnostic, Severity, Span};
use crate::os::StateDir;
use crate::serve::{self, ApiError, ApplyRequest, Hooks};
use clap::ValueEnum;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Run the controller in the foreground: watch directories of manifests, run their jobs, end what outlived its own
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directories of manifests to watch [default: ./manifests, if it is there]
    #[arg(value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Bring what is to what should be, then exit
    #[arg(long)]
    once: bool,
    /// Look at everything again after this long, even if nothing happened
    #[arg(long, value_name = "SPAN", default_value = "10s")]
    resync: Span,
    /// How the log on stderr is written [default: human]
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Log more: -v debug, -vv trace ($TENURE_LOG says it finer)
    #[arg(short, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Human,
    /// A JSON object a line.
    Json,
}

/// Where manifests are, when nobody says.
const DEFAULT_DIR: &str = "manifests";

pub async fn main(args: Args, state: StateDir) -> Done {
    if args.resync.is_zero() {
        return Err(Failure::usage("--resync 0 would never rest").help("give a span such as 10s"));
    }
    log_to_stderr(&args);
    let options = controller::Options { dirs: dirs(args.dirs)?, state, once: args.once, resync: args.resync.0 };
    match run(options).await {
        Ok(0) => Ok(Exit::Done),
        Ok(_) => Ok(Exit::Failed),
        Err(error) => Err(Failure::failed(format!("{error:#}"))),
    }
}

/// The directories to watch, absolute. One that is not there is a mistake: an empty answer would look like an empty directory.
fn dirs(named: Vec<PathBuf>) -> Result<Vec<PathBuf>, Failure> {
    let mut dirs = named;
    if dirs.is_empty() && Path::new(DEFAULT_DIR).is_dir() {
        dirs.push(DEFAULT_DIR.into());
    }
    let absolute = |dir: PathBuf| {
        if !dir.is_dir() {
            let why = format!("{} is not a directory", dir.display());
            return Err(Failure::usage(why).help("name directories of manifests, or none at all"));
        }
        std::path::absolute(&dir).map_err(|error| Failure::failed(format!("{}: {error}", dir.display())))
    };
    dirs.into_iter().map(absolute).collect()
}

/// The log goes to stderr. `TENURE_LOG` holds over `-v`.
fn log_to_stderr(args: &Args) {
    let level = match args.verbose {
        0 => "info",
        1 => "info,tenure=debug",
        _ => "info,tenure=trace",
    };
    let filter = EnvFilter::try_from_env("TENURE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    // An error: somebody has set a subscriber already, and that one stands.
    let _ = match args.log_format {
        Some(LogFormat::Json) => log.json().try_init(),
        Some(LogFormat::Human) | None => log.with_target(false).try_init(),
    };
}

/// The controller with its API, until SIGTERM or SIGINT or, with `once`, until what is is what should be. Gives the exit
/// status.
pub async fn run(options: controller::Options) -> anyhow::Result<u8> {
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let signalled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to end; what runs goes on, and the next controller finds it");
        signalled.send_replace(true);
    });
    let until_stopped = move || {
        let mut stopping = stopping.clone();
        async move {
            // An error: the sender went with this function, and so do we.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
    };
    let state = options.state.clone();
    let controller = Controller::open(options).await?;
    let handle = controller.handle();
    let listener = serve::bind(&state)?;
    let server = serve::serve(listener, handle.clone(), hooks(&handle), until_stopped());
    let server = tokio::spawn(async move {
        // The loop goes on all the same: what should end must end.
        server.await.inspect_err(
            |error| tracing::error!(%error, "the API has ended; start the controller again to have it back"),
        )
    });
    controller.run(until_stopped()).await;
    stop.send_replace(true);
    server.await??;
    Ok(0)
}

/// What the API asks of the controller.
fn hooks(handle: &controller::Handle) -> Hooks {
    let (fulfil_store, apply_store, plan_handle) = (handle.store.clone(), handle.store.clone(), handle.clone());
    Hooks {
        fulfil: Arc::new(move |name, outputs| controller::fulfil(&fulfil_store, name, &outputs).map_err(refused)),
        apply: Arc::new(move |request: ApplyRequest| {
            let ApplyRequest { file, text, dir } = request;
            let applied = controller::apply(&apply_store, &file, text.as_bytes(), &dir);
            applied.map_err(|error| diagnostics(file, error))
        }),
        plan_now: Arc::new(move || {
            let handle = plan_handle.clone();
            Box::pin(async move {
                let last = handle.passes.borrow().clone();
                let task = tokio::task::spawn_blocking(move || {
                    controller::plan_now(&handle.store, &handle.state_dir, Some(&last))
                        .map(|plan| controller::plan_to_json(&plan))
                });
                match task.await {
                    Ok(plan) => plan.map_err(|error| error.to_string()),
                    Err(error) => Err(format!("the look was not finished: {error}")),
                }
            })
        }),
    }
}

/// Why a manifest was not applied, as the diagnostics that the API gives.
fn diagnostics(file: String, error: controller::RequestError) -> Vec<Diagnostic> {
    match error {
        controller::RequestError::Manifest(diagnostics) => diagnostics,
        other => vec![Diagnostic::of_file(Severity::Error, file, other.to_string())],
    }
}

fn refused(error: controller::RequestError) -> ApiError {
    use controller::RequestError as E;
    match error {
        E::NotFound(_) => ApiError::not_found(error.to_string()),
        E::NotSuspended { .. } => ApiError::conflict(error.to_string()),
        E::Outputs(_) | E::Manifest(_) => ApiError::invalid(error.to_string()),
        E::Store(error) => error.into(),
        E::Flow(_) | E::Os(_) => ApiError::internal(error.to_string()),
    }
}
