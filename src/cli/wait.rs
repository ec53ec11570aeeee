//! `tenure wait`: until jobs are what they are waited for to be.

use super::client::Client;
use super::console::Console;
use super::failure::{Context, Done, Exit, Failure};
use super::names::job_name;
use super::rows::tone_of;
use super::source::{Source, list_path};
use super::text::at;
use crate::model::{JobPhase, Kind, Span};
use crate::os::StateDir;
use serde_json::Value;
use std::str::FromStr;
use std::time::Duration;
use tokio::time::Instant;

/// Wait until jobs have ended, or are in a phase
///
/// Exit status: 0 all are what was waited for, 1 one ended otherwise, 3 there is no such job, 4 it took too long.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The jobs' names
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
    /// What for: `terminal` (exit status 1 unless Succeeded), or a phase
    #[arg(long = "for", value_name = "PHASE", default_value = "terminal")]
    goal: Goal,
    /// For this long at most; 0: for ever
    #[arg(long, value_name = "SPAN", default_value = "60s")]
    timeout: Span,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// It ends; well is good, badly is not.
    Succeeded,
    /// It ends; any way is good.
    Ended,
    /// It is in this phase.
    Phase(JobPhase),
}

impl FromStr for Goal {
    type Err = String;
    fn from_str(text: &str) -> Result<Goal, String> {
        use JobPhase::{Cancelled, Failed, Paused, Pending, Running, Succeeded};
        if text.eq_ignore_ascii_case("terminal") {
            return Ok(Goal::Succeeded);
        }
        let phases = [Pending, Running, Paused, Succeeded, Failed, Cancelled];
        let phase = phases.into_iter().find(|phase| phase.as_str().eq_ignore_ascii_case(text));
        phase.map(Goal::Phase).ok_or_else(|| {
            format!("`{text}` is neither `terminal` nor one of {}", phases.map(JobPhase::as_str).join(", "))
        })
    }
}

impl Goal {
    /// Whether a job in this phase is done waiting for, and how. None: not yet.
    fn verdict(self, phase: &str) -> Option<Exit> {
        let has_ended = ["Succeeded", "Failed", "Cancelled"].contains(&phase);
        match self {
            Goal::Succeeded if has_ended => Some(if phase == "Succeeded" { Exit::Done } else { Exit::Failed }),
            Goal::Ended if has_ended => Some(Exit::Done),
            Goal::Phase(goal) if goal.as_str() == phase => Some(Exit::Done),
            Goal::Phase(_) if has_ended => Some(Exit::Failed),
            Goal::Succeeded | Goal::Ended | Goal::Phase(_) => None,
        }
    }
}

/// How long after a controller went the next one is looked for.
const RETRY: Duration = Duration::from_millis(200);

pub async fn main(args: Args, state: &StateDir, console: &mut Console) -> Done {
    let client = Client::new(state.clone());
    let names: Vec<String> = args.jobs.iter().map(|text| job_name(text).to_owned()).collect();
    wait(&client, &names, args.goal, args.timeout, console).await
}

/// Waits for all of them, and says how each one came out. Zero time: for ever.
pub async fn wait(client: &Client, names: &[String], goal: Goal, timeout: Span, console: &mut Console) -> Done {
    client.must_be_there().await.to(|| "wait".into())?;
    let source = Source::Live(client.clone());
    // Who is not there at the beginning is a mistake; say so before anything else.
    for name in names {
        source.get(Kind::Job, name).await?;
    }
    let deadline = (!timeout.is_zero()).then(|| Instant::now() + timeout.0);
    let mut worst = Exit::Done;
    for name in names {
        let end = until(client, name, goal);
        let result = match deadline {
            None => Ok(end.await),
            Some(deadline) => tokio::time::timeout_at(deadline, end).await,
        };
        let Ok(found) = result else {
            let phase = source.find(Kind::Job, name).await.ok().flatten().map(|job| at(&job, "/status/phase"));
            let why = format!("it is still {} after {timeout}", phase.as_deref().unwrap_or("under way"));
            let failure =
                Failure::new(Exit::TimedOut, why).help(format!("`tenure describe job {name}` says what it waits for"));
            return Err(failure).to(|| format!("wait for job/{name}"));
        };
        let (job, exit) = found.to(|| format!("wait for job/{name}"))?;
        console.line(&outcome(name, &job, console))?;
        console.flush()?;
        if exit != Exit::Done {
            worst = exit;
        }
    }
    Ok(worst)
}

/// The job once it is what it is waited for to be. A controller that is started again meanwhile is waited for too.
async fn until(client: &Client, name: &str, goal: Goal) -> Result<(Value, Exit), Failure> {
    let path = list_path(Kind::Job, &[], Some(name), true);
    loop {
        if let Ok(mut lines) = client.lines(&path).await {
            while let Ok(Some(change)) = lines.next().await {
                let job = &change["object"];
                if let Some(exit) = goal.verdict(&at(job, "/status/phase")) {
                    return Ok((job.clone(), exit));
                }
                if change["type"] == "DELETED" {
                    return Err(Failure::not_found("it was deleted"));
                }
            }
        }
        tokio::time::sleep(RETRY).await;
        // A watch says nothing about what is not there.
        if let Ok(None) = Source::Live(client.clone()).find(Kind::Job, name).await {
            return Err(Failure::not_found("it was deleted"));
        }
    }
}

fn outcome(name: &str, job: &Value, console: &Console) -> String {
    let phase = at(job, "/status/phase");
    let mut line = format!("job/{name} {}", console.paint(tone_of(&phase), &phase));
    let (reason, message) = (at(job, "/status/reason"), at(job, "/status/message"));
    if !reason.is_empty() {
        line.push_str(&format!(" ({reason})"));
    }
    if !message.is_empty() {
        line.push_str(&format!(": {}", super::console::one_line(&message)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_goal_has_its_verdict_on_each_phase() {
        let cases = [
            ("terminal", ["-", "-", "-", "Done", "Failed", "Failed"]),
            ("succeeded", ["-", "-", "-", "Done", "Failed", "Failed"]),
            ("Failed", ["-", "-", "-", "Failed", "Done", "Failed"]),
            ("paused", ["-", "-", "Done", "Failed", "Failed", "Failed"]),
            ("Running", ["-", "Done", "-", "Failed", "Failed", "Failed"]),
        ];
        let phases = ["Pending", "Running", "Paused", "Succeeded", "Failed", "Cancelled"];
        for (goal, expected) in cases {
            let verdicts = phases.map(|phase| goal.parse::<Goal>().unwrap().verdict(phase));
            let verdicts = verdicts.map(|verdict| verdict.map_or("-".to_owned(), |exit| format!("{exit:?}")));
            assert_eq!(verdicts, expected, "{goal}");
        }
        assert!("Finished".parse::<Goal>().is_err());
    }
}
