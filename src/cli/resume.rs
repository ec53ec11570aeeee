//! `tenure resume`: a job is to go on.

use super::cancel::post;
use super::client::Client;
use super::console::Console;
use super::failure::{Done, Exit};
use super::names::job_name;
use crate::os::StateDir;

/// Resume jobs that are paused, or that a step escalated
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The jobs' names
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
}

pub async fn main(args: Args, state: &StateDir, console: &mut Console) -> Done {
    let client = Client::new(state.clone());
    for name in args.jobs.iter().map(|text| job_name(text)) {
        let (phase, has_ended) = post(&client, name, "resume").await?;
        console.line(&if has_ended {
            format!("job/{name} is {phase} already")
        } else {
            format!("job/{name} resumed")
        })?;
    }
    Ok(Exit::Done)
}
