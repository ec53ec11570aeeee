//! `tenure detach`: lets a command go, on purpose.

use super::failure::{Done, Exit, Failure};
use crate::shim;
use std::ffi::OsString;

/// Run a command from inside a workload, so that it outlives the workload: a build server, a terminal multiplexer
///
/// The command carries no mark of the workload: it is stopped neither with the step nor with the job, and nor is what it
/// starts. `tenure get workloads -o wide` lists it for as long as it lives. Waits for the command, and ends as it did.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub fn main(args: &Args) -> Done {
    match shim::detach(&args.command) {
        Ok(0) => Ok(Exit::Done),
        Ok(status) => Ok(Exit::OfCommand(status)),
        Err(error) => Err(Failure::failed(error.to_string())),
    }
}
