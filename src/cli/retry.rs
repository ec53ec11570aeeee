//! `tenure retry`: what failed in a job is to be tried again.

use super::cancel::post;
use super::client::Client;
use super::console::Console;
use super::failure::{Done, Exit};
use super::names::job_name;
use crate::os::StateDir;

/// Try again what failed in jobs, in place
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The jobs' names
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
}

pub async fn main(args: Args, state: &StateDir, console: &mut Console) -> Done {
    let client = Client::new(state.clone());
    for name in args.jobs.iter().map(|text| job_name(text)) {
        post(&client, name, "retry").await?;
        console.line(&format!("job/{name} to be retried"))?;
    }
    Ok(Exit::Done)
}
