//! The command line: a file a verb. It talks to the controller over the socket, as any client does.
//!
//! What it promises: exit status 0 done, 1 failed, 2 bad usage or (for `plan`) changes, 3 not found, 4 timed out; errors in one or
//! two lines on stderr, with what to do; results on stdout, stable when it is a pipe; a reader that goes away is no error.
//! Verbs that only read work without a controller too, from what its store last held.

mod apply;
mod cancel;
mod client;
mod console;
mod delete;
mod describe;
mod detach;
mod eval;
mod events;
mod failure;
mod fulfill;
mod get;
mod llm_request;
mod logs;
mod lookout;
mod names;
mod notify;
mod pause;
mod place;
mod plan;
mod reap;
mod requires;
mod resume;
mod retry;
mod rows;
mod run;
mod scan;
mod schema;
mod source;
mod start;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod transcript;
mod trees;
mod validate;
mod wait;

use clap::{Parser, Subcommand};
use console::Console;
use failure::{Context, Done, Exit, Failure};
use std::path::PathBuf;
use std::process::ExitCode;

/// A process lives exactly as long as the job that owns it.
#[derive(Debug, Parser)]
#[command(name = "tenure", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    /// The controller's state directory [default: $TENURE_STATE, else $STATE_DIRECTORY, else /var/lib/tenure for root, else
    /// $XDG_STATE_HOME/tenure]
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Args),
    Scan(scan::Args),
    Reap(reap::Args),
    Apply(apply::Args),
    Get(get::Args),
    Describe(describe::Args),
    Delete(delete::Args),
    Detach(detach::Args),
    Start(start::Args),
    Cancel(cancel::Args),
    Pause(pause::Args),
    Resume(resume::Args),
    Retry(retry::Args),
    Fulfill(fulfill::Args),
    Wait(wait::Args),
    Events(events::Args),
    Logs(logs::Args),
    Plan(plan::Args),
    Validate(validate::Args),
    Schema(schema::Args),
    Eval(eval::Args),
    Status(status::Args),
    #[command(hide = true)]
    LlmRequest(llm_request::Args),
    #[command(hide = true)]
    Notify(notify::Args),
}

/// Runs the verb of the process's arguments.
pub fn main() -> ExitCode {
    // Prints help and usage errors itself, and exits with 0 or 2.
    let cli = Cli::parse();
    let mut console = Console::of_process();
    let mut builder = match cli.verb {
        Verb::Run(_) => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2);
            builder
        }
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build();
    let exit = match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(execute(cli, &mut console));
            // What still blocks (a read of stdin, a look) is not waited for.
            runtime.shutdown_background();
            exit
        }
        Err(error) => {
            console.say_error(&Failure::failed(format!("failed to start: {error}")));
            Exit::Failed
        }
    };
    ExitCode::from(exit.code())
}

/// Runs a verb, says why it failed, and gives its exit status.
async fn execute(cli: Cli, console: &mut Console) -> Exit {
    let done = match dispatch(cli, console).await {
        Ok(exit) => console.flush().map(|()| exit),
        Err(failure) => Err(failure),
    };
    match done {
        Ok(exit) => exit,
        Err(failure) if failure.is_closed_pipe => Exit::Done,
        Err(failure) => {
            console.say_error(&failure);
            failure.exit
        }
    }
}

async fn dispatch(cli: Cli, console: &mut Console) -> Done {
    // These need neither a controller nor its state directory.
    let (verb, flag) = match cli.verb {
        Verb::Scan(args) => return scan::main(args, cli.state.as_deref(), console).await,
        Verb::Reap(args) => return reap::main(args, cli.state.as_deref(), console).await,
        Verb::Validate(args) => return validate::main(args, console),
        Verb::Schema(args) => return schema::main(&args, console),
        Verb::Eval(args) => return eval::main(args, console),
        Verb::Detach(args) => return detach::main(&args),
        Verb::LlmRequest(args) => return llm_request::main(&args, console),
        Verb::Notify(args) => return notify::main(&args),
        verb => (verb, cli.state),
    };
    let state = place::state_dir(flag.as_deref()).to(|| "find the state directory".into())?;
    match verb {
        Verb::Run(args) => run::main(args, state).await,
        Verb::Apply(args) => apply::main(args, &state, console).await,
        Verb::Get(args) => get::main(args, &state, console).await,
        Verb::Describe(args) => describe::main(args, &state, console).await,
        Verb::Delete(args) => delete::main(args, &state, console).await,
        Verb::Start(args) => start::main(args, &state, console).await,
        Verb::Cancel(args) => cancel::main(args, &state, console).await,
        Verb::Pause(args) => pause::main(args, &state, console).await,
        Verb::Resume(args) => resume::main(args, &state, console).await,
        Verb::Retry(args) => retry::main(args, &state, console).await,
        Verb::Fulfill(args) => fulfill::main(args, &state, console).await,
        Verb::Wait(args) => wait::main(args, &state, console).await,
        Verb::Events(args) => events::main(args, &state, console).await,
        Verb::Logs(args) => logs::main(args, &state, console).await,
        Verb::Plan(args) => plan::main(args, &state, console).await,
        Verb::Status(args) => status::main(args, &state, console).await,
        Verb::Scan(args) => scan::main(args, Some(state.root()), console).await,
        Verb::Reap(args) => reap::main(args, Some(state.root()), console).await,
        Verb::Validate(args) => validate::main(args, console),
        Verb::Schema(args) => schema::main(&args, console),
        Verb::Eval(args) => eval::main(args, console),
        Verb::Detach(args) => detach::main(&args),
        Verb::LlmRequest(args) => llm_request::main(&args, console),
        Verb::Notify(args) => notify::main(&args),
    }
}
