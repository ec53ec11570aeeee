//! `tenure pause`: a job is to start nothing new.

use super::cancel::post;
use super::client::Client;
use super::console::Console;
use super::failure::{Done, Exit};
use super::names::job_name;
use crate::os::StateDir;

/// Pause jobs: they and their sub-jobs start nothing new
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The jobs' names
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
}

pub async fn main(args: Args, state: &StateDir, console: &mut Console) -> Done {
    let client = Client::new(state.clone());
    for name in args.jobs.iter().map(|text| job_name(text)) {
        let (phase, has_ended) = post(&client, name, "pause").await?;
        console.line(&if has_ended {
            format!("job/{name} is {phase} already")
        } else {
            format!("job/{name} paused")
        })?;
    }
    Ok(Exit::Done)
}
