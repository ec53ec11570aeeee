//! The command line: a file a verb, or a family of verbs. It talks to the controller over the socket, as any client does.
//!
//! Exit status: 0 done, 1 failed, 2 bad usage or (for `plan`) changes, 3 not found, 4 timed out.

mod agent_log;
mod args;
mod client;
mod describe;
mod get;
mod jobs;
mod logs;
mod output;
mod plan;
mod run;
mod source;
mod state;
mod validate;
mod write;

use args::{Args, Verb};
use clap::Parser;
use std::process::ExitCode;
use thiserror::Error;

/// Why a verb did not do what it was asked.
#[derive(Debug, Error)]
pub(crate) enum CliError {
    /// It is not there.
    #[error("{0}")]
    NotFound(String),
    /// It did not happen in time.
    #[error("{0}")]
    TimedOut(String),
    /// It was asked in a way that cannot be.
    #[error("{0}")]
    Usage(String),
    /// Anything else.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl CliError {
    fn exit_status(&self) -> u8 {
        match self {
            CliError::Failed(_) => 1,
            CliError::Usage(_) => 2,
            CliError::NotFound(_) => 3,
            CliError::TimedOut(_) => 4,
        }
    }
}

/// What a verb gives: its exit status.
pub(crate) type Done = Result<u8, CliError>;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    // `tenure get jobs | head -1` ends us quietly, as it ends any other program.
    crate::os::die_of_closed_pipes();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: failed to start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let status = match runtime.block_on(dispatch(args)) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_status()
        }
    };
    // A watcher's thread or a look under way must not hold up the end.
    runtime.shutdown_background();
    ExitCode::from(status)
}

async fn dispatch(args: Args) -> Done {
    let state = state::resolve(args.state, |name| std::env::var_os(name), crate::os::effective_uid())?;
    match args.verb {
        Verb::Run(run) => run::run(run, state).await,
        Verb::Apply(apply) => write::apply(&apply, &state).await,
        Verb::Get(get) => get::get(&get, &state).await,
        Verb::Describe(describe) => describe::describe(&describe, &state).await,
        Verb::Delete(delete) => write::delete(&delete, &state).await,
        Verb::Start(start) => jobs::start(&start, &state).await,
        Verb::Cancel(cancel) => jobs::cancel(&cancel, &state).await,
        Verb::Fulfill(fulfill) => jobs::fulfill(&fulfill, &state).await,
        Verb::Wait(wait) => jobs::wait(&wait, &state).await,
        Verb::Events(events) => logs::events(&events, &state).await,
        Verb::Logs(logs) => logs::logs(&logs, &state).await,
        Verb::Plan => plan::plan(&state).await,
        Verb::Status => plan::status(&state).await,
        Verb::Validate(validate) => validate::validate(&validate),
    }
}
