//! `tenure cancel`: a job is to end.

use super::client::{Client, path_of};
use super::console::Console;
use super::failure::{Context, Done, Exit, Failure};
use super::names::job_name;
use super::text::at;
use super::wait::{self, Goal};
use crate::model::{Kind, Span};
use crate::os::StateDir;
use hyper::Method;

/// Cancel jobs: they end, and their processes with them
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The jobs' names
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
    /// Wait until the jobs have ended
    #[arg(long)]
    wait: bool,
    /// With --wait: for this long at most; 0: for ever
    #[arg(long, value_name = "SPAN", default_value = "60s", requires = "wait")]
    timeout: Span,
}

/// Asks for something of a job; gives its phase then, and whether it has ended.
pub async fn post(client: &Client, name: &str, action: &str) -> Result<(String, bool), Failure> {
    let path = format!("{}/{action}", path_of(Kind::Job, Some(name)));
    let job = client.json(Method::POST, &path, None).await.to(|| format!("{action} job/{name}"))?;
    let phase = at(&job, "/status/phase");
    let has_ended = ["Succeeded", "Failed", "Cancelled"].contains(&phase.as_str());
    Ok((phase, has_ended))
}

pub async fn main(args: Args, state: &StateDir, console: &mut Console) -> Done {
    let client = Client::new(state.clone());
    let mut names = Vec::new();
    for text in &args.jobs {
        let name = job_name(text);
        let (phase, had_ended) = post(&client, name, "cancel").await?;
        console.line(&if had_ended {
            format!("job/{name} is {phase} already")
        } else {
            format!("job/{name} cancelled")
        })?;
        names.push(name.to_owned());
    }
    console.flush()?;
    if args.wait {
        return wait::wait(&client, &names, Goal::Ended, args.timeout, console).await;
    }
    Ok(Exit::Done)
}
