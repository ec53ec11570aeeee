//! `tenure start`, `cancel`, `fulfill`, `wait`.

use super::args::{Cancel, Fulfill, Start, Wait};
use super::client::{self, API, escaped};
use super::source::Source;
use super::{CliError, Done};
use crate::model::{API_VERSION, Kind, Span};
use crate::os::StateDir;
use anyhow::anyhow;
use hyper::Method;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// `name=value`, the value as JSON if it is, else as text.
fn pairs(words: &[String]) -> Result<Map<String, Value>, CliError> {
    let mut values = Map::new();
    for word in words {
        let (name, text) = word
            .split_once('=')
            .ok_or_else(|| CliError::Usage(format!("`{word}` is not name=value; quote it if it holds blanks")))?;
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        values.insert(name.to_owned(), value);
    }
    Ok(values)
}

pub(super) async fn start(args: &Start, state: &StateDir) -> Done {
    // A flow that is not there would leave a job that waits for it.
    Source::new(state).get(Kind::Flow, &args.flow).await?;
    let letters: String = uuid::Uuid::new_v4().simple().to_string().chars().take(6).collect();
    let name = args.name.clone().unwrap_or_else(|| format!("{}-{letters}", args.flow));
    let body = json!({
        "apiVersion": API_VERSION,
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"flowRef": args.flow, "inputs": pairs(&args.inputs)?},
    });
    client::call(state, Method::POST, &format!("{API}/jobs"), Some(&body)).await?;
    println!("job/{name} created");
    if !args.wait {
        return Ok(0);
    }
    until(state, &name, "terminal", args.timeout).await
}

pub(super) async fn cancel(args: &Cancel, state: &StateDir) -> Done {
    for job in &args.jobs {
        let path = format!("{API}/jobs/{}/cancel", escaped(job));
        client::call(state, Method::POST, &path, None).await?;
        println!("job/{job} to be cancelled");
    }
    if args.wait {
        for job in &args.jobs {
            until(state, job, "terminal", args.timeout).await?;
        }
    }
    Ok(0)
}

pub(super) async fn fulfill(args: &Fulfill, state: &StateDir) -> Done {
    let outputs = match &args.json {
        Some(text) => serde_json::from_str(text)
            .map_err(|error| CliError::Usage(format!("--json is not a JSON object: {error}")))?,
        None => pairs(&args.outputs)?,
    };
    let run = match args.run.split_once('/') {
        Some((job, step)) => suspended(state, job, step).await?,
        None => args.run.clone(),
    };
    let path = format!("{API}/stepruns/{}/fulfill", escaped(&run));
    client::call(state, Method::POST, &path, Some(&json!({"outputs": outputs}))).await?;
    println!("steprun/{run} fulfilled");
    Ok(0)
}

/// The run of a step that waits; `job` may be the whole name, or that of a bare flow.
async fn suspended(state: &StateDir, job: &str, step: &str) -> Result<String, CliError> {
    let runs = Source::new(state).list(Kind::StepRun, None).await?;
    let of_step = |run: &&Value| run["spec"]["job"] == job && run["spec"]["step"] == step;
    let newest = runs.iter().filter(of_step).max_by_key(|run| run["spec"]["attempt"].as_u64());
    newest.and_then(|run| run["metadata"]["name"].as_str()).map(str::to_owned).ok_or_else(|| {
        CliError::NotFound(format!("step `{step}` of job `{job}` has no run; `tenure get runs` shows all"))
    })
}

pub(super) async fn wait(args: &Wait, state: &StateDir) -> Done {
    let mut status = 0;
    for job in &args.jobs {
        status = status.max(until(state, job, &args.until, args.timeout).await?);
    }
    Ok(status)
}

/// Waits until a job is in a phase, or has ended. 0: it is in the phase, or has succeeded.
async fn until(state: &StateDir, job: &str, wanted: &str, timeout: Span) -> Done {
    let terminal = |phase: &str| matches!(phase, "Succeeded" | "Failed" | "Cancelled");
    let source = Source::new(state);
    let look = async {
        let mut pause = Duration::from_millis(20);
        loop {
            let object = source.get(Kind::Job, job).await?;
            let phase = object["status"]["phase"].as_str().unwrap_or_default().to_owned();
            let there = if wanted == "terminal" { terminal(&phase) } else { phase.eq_ignore_ascii_case(wanted) };
            if there || terminal(&phase) {
                let word = |key: &str| object["status"][key].as_str().map(str::to_owned);
                let why = word("reason").map(|reason| format!(" ({reason})")).unwrap_or_default();
                let message = word("message").map(|message| format!(": {message}")).unwrap_or_default();
                println!("job/{job} {phase}{why}{message}");
                let well = if wanted == "terminal" { phase == "Succeeded" } else { there };
                return Ok(u8::from(!well));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    };
    match tokio::time::timeout(timeout.0, look).await {
        Ok(done) => done,
        Err(_) => Err(CliError::TimedOut(format!("job `{job}` was not {wanted} within {timeout}"))),
    }
}

/// The workload of a step's newest run, or of the newest run of all that has one.
pub(super) async fn workload_of(
    source: &Source<'_>,
    job: &str,
    step: Option<&str>,
) -> Result<(String, String), CliError> {
    source.get(Kind::Job, job).await?;
    let runs = source.list(Kind::StepRun, None).await?;
    let wanted = |run: &&Value| {
        run["spec"]["job"] == job
            && step.is_none_or(|step| run["spec"]["step"] == step)
            && run["status"]["workload"].is_string()
    };
    let newest = runs
        .iter()
        .filter(wanted)
        .max_by_key(|run| (run["status"]["startedAt"].as_str().map(str::to_owned), run["spec"]["attempt"].as_u64()));
    let run = newest.ok_or_else(|| CliError::NotFound(format!("nothing of job `{job}` has run in a workload yet")))?;
    match (run["status"]["workload"].as_str(), run["metadata"]["name"].as_str()) {
        (Some(workload), Some(name)) => Ok((workload.to_owned(), name.to_owned())),
        _ => Err(CliError::Failed(anyhow!("the run of job `{job}` has no name"))),
    }
}
