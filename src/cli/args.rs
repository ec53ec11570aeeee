//! What can be asked.

use crate::model::Span;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// A process lives exactly as long as the job that owns it.
#[derive(Debug, Parser)]
#[command(name = "tenure", version, arg_required_else_help = true, max_term_width = 100)]
pub(super) struct Args {
    /// The state directory [default: $TENURE_STATE, $STATE_DIRECTORY, /var/lib/tenure for root, $XDG_STATE_HOME/tenure]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) state: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run the controller in the foreground, on directories of manifests
    Run(Run),
    /// Write the objects of manifests
    Apply(Apply),
    /// List objects, or show one
    Get(Get),
    /// Tell the story of one object
    Describe(Describe),
    /// Remove an object; what it owned goes with it
    Delete(Delete),
    /// Start a job of a flow
    Start(Start),
    /// End jobs, and everything that they own
    Cancel(Cancel),
    /// Answer a run that waits for somebody
    Fulfill(Fulfill),
    /// Wait until jobs have ended
    Wait(Wait),
    /// Show what happened, and why
    Events(Events),
    /// Show what the steps of a job said
    Logs(Logs),
    /// Show what the next pass would do; exit status 2: something
    Plan,
    /// Show whether a controller runs, and which
    Status,
    /// Check manifests and flows as a compiler does
    Validate(Validate),
}

#[derive(Debug, ClapArgs)]
pub(super) struct Run {
    /// Directories of manifests to watch [default: manifests, if there is one]
    pub(super) dirs: Vec<PathBuf>,
    /// Converge, then exit
    #[arg(long)]
    pub(super) once: bool,
    /// How long nothing may happen before a pass is made all the same
    #[arg(long, default_value = "10s")]
    pub(super) resync: Span,
    /// How logs are written
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    pub(super) log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Human,
    Json,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Apply {
    /// A file, a directory, or `-` for standard input
    #[arg(short, long = "file", required = true)]
    pub(super) file: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Get {
    /// jobs, stepruns (runs), workloads, flows, agentclasses, policies, …
    pub(super) kind: String,
    /// Only this one
    pub(super) name: Option<String>,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(super) output: Format,
    /// Go on, with a line for each change
    #[arg(short, long)]
    pub(super) watch: bool,
    /// Only those with these labels: k=v,k=v
    #[arg(short = 'l', long)]
    pub(super) selector: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Describe {
    pub(super) kind: String,
    pub(super) name: String,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Delete {
    pub(super) kind: String,
    #[arg(required = true)]
    pub(super) names: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Start {
    /// The flow
    pub(super) flow: String,
    /// An input: name=value, the value as JSON if it is
    #[arg(short, long = "input", value_name = "NAME=VALUE")]
    pub(super) inputs: Vec<String>,
    /// The job's name [default: the flow's, and six letters]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Wait until it has ended; exit status 1 if it did not succeed
    #[arg(long)]
    pub(super) wait: bool,
    /// How long to wait
    #[arg(long, default_value = "1h")]
    pub(super) timeout: Span,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Cancel {
    #[arg(required = true)]
    pub(super) jobs: Vec<String>,
    /// Wait until they have ended
    #[arg(long)]
    pub(super) wait: bool,
    /// How long to wait
    #[arg(long, default_value = "1m")]
    pub(super) timeout: Span,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Fulfill {
    /// The run's name, or JOB/STEP
    pub(super) run: String,
    /// Outputs: name=value, the value as JSON if it is
    pub(super) outputs: Vec<String>,
    /// All outputs as one JSON object
    #[arg(long, conflicts_with = "outputs")]
    pub(super) json: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Wait {
    #[arg(required = true)]
    pub(super) jobs: Vec<String>,
    /// A phase, or `terminal`
    #[arg(long = "for", default_value = "terminal")]
    pub(super) until: String,
    /// How long to wait
    #[arg(long, default_value = "1m")]
    pub(super) timeout: Span,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Events {
    /// Only those of this job, its runs, and its workloads
    pub(super) job: Option<String>,
    /// Go on
    #[arg(short, long)]
    pub(super) watch: bool,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(super) output: Format,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Logs {
    /// JOB or JOB/STEP
    pub(super) what: String,
    /// Go on until the workload has ended
    #[arg(short, long)]
    pub(super) follow: bool,
    /// What went to stderr
    #[arg(long)]
    pub(super) stderr: bool,
    /// What an agent said, message by message, as it was sent
    #[arg(long)]
    pub(super) raw: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Validate {
    #[arg(required = true)]
    pub(super) files: Vec<PathBuf>,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(super) output: Format,
}
