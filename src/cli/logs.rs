//! `tenure events` and `tenure logs`.

use super::args::{Events, Format, Logs};
use super::client::{self, escaped};
use super::source::Source;
use super::{CliError, Done, agent_log, jobs, output};
use crate::model::{Event, EventType, Kind, WorkloadUid};
use crate::os::StateDir;
use anyhow::Context;
use hyper::Method;
use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

/// How often a followed transcript is asked for more.
const FOLLOW: Duration = Duration::from_millis(200);

fn line(event: &Event) -> String {
    let mark = if event.r#type == EventType::Warning { "!" } else { " " };
    let object = format!("{}/{}", event.kind.as_str().to_ascii_lowercase(), event.name);
    format!("{} {mark} {:<18} {object}: {}", event.time, event.reason, event.message)
}

pub(super) async fn events(args: &Events, state: &StateDir) -> Done {
    let source = Source::new(state);
    let names = match &args.job {
        Some(job) => Some(names_of(&source, job).await?),
        None => None,
    };
    let of_job = |event: &Event| match (&args.job, &names) {
        (Some(job), Some(names)) => {
            names.contains(&event.name) || event.name.strip_prefix(job).is_some_and(|rest| rest.starts_with('.'))
        }
        _ => true,
    };
    let print = |event: &Event| match args.output {
        Format::Json | Format::Yaml => println!("{}", serde_json::to_string(event).unwrap_or_default()),
        Format::Table | Format::Wide | Format::Name => println!("{}", line(event)),
    };
    let past = source.events().await?;
    for event in past.iter().filter(|event| of_job(event)) {
        print(event);
    }
    if args.watch {
        let last = past.last().map_or(0, |event| event.id);
        client::lines(state, &format!("/events?watch=1&after={last}"), |value| {
            if let Ok(event) = serde_json::from_value::<Event>(value.get("object").cloned().unwrap_or(value))
                && of_job(&event)
            {
                print(&event);
            }
            Ok(true)
        })
        .await?;
    }
    Ok(0)
}

/// A job, its runs, and its workloads.
pub(super) async fn names_of(source: &Source<'_>, job: &str) -> Result<BTreeSet<String>, CliError> {
    let mut names = BTreeSet::from([job.to_owned()]);
    for workload in source.list(Kind::Workload, None).await? {
        let owners = workload["spec"]["owners"].as_array();
        if owners.into_iter().flatten().any(|owner| owner["name"] == job) {
            names.extend(workload["metadata"]["name"].as_str().map(str::to_owned));
        }
    }
    Ok(names)
}

pub(super) async fn logs(args: &Logs, state: &StateDir) -> Done {
    let source = Source::new(state);
    let (job, step) = match args.what.split_once('/') {
        Some((job, step)) => (job, Some(step)),
        None => (args.what.as_str(), None),
    };
    let (workload, run) = jobs::workload_of(&source, job, step).await?;
    let is_adapter = source.get(Kind::Workload, &workload).await?["spec"]["type"] == "Adapter";
    let stream = if args.stderr { "stderr" } else { "stdout" };
    let rendered = is_adapter && !args.raw && !args.stderr;
    let mut reader = agent_log::Renderer::new(&run);
    let mut offset = 0;
    let mut out = std::io::stdout().lock();
    loop {
        // Asked first: what was written before the end is then read below.
        let ended = source.get(Kind::Workload, &workload).await?["status"]["phase"] == "Stopped";
        let bytes = transcript(state, &workload, stream, offset).await?;
        offset += bytes.len() as u64;
        let shown = if rendered { reader.feed(&bytes).into_bytes() } else { bytes };
        out.write_all(&shown).and_then(|()| out.flush()).context("failed to print")?;
        if !args.follow || ended {
            return Ok(0);
        }
        tokio::time::sleep(FOLLOW).await;
    }
}

/// What a transcript holds from an offset on.
async fn transcript(state: &StateDir, workload: &str, stream: &str, offset: u64) -> Result<Vec<u8>, CliError> {
    if client::is_up(state).await {
        let path = format!("/logs/{}/{stream}?offset={offset}", escaped(workload));
        return Ok(client::bytes(state, Method::GET, &path, None).await?.to_vec());
    }
    let path = state.transcripts(&WorkloadUid::from(workload)).join(stream);
    let mut bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            return Err(anyhow::Error::new(error).context(format!("failed to read {}", path.display())).into());
        }
    };
    bytes.drain(..usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len()));
    Ok(bytes)
}

/// The events of a job as `describe` shows them.
pub(super) fn story(events: &[Event]) -> String {
    let rows: Vec<Vec<String>> = events
        .iter()
        .map(|event| vec![event.time.to_string(), event.reason.clone(), event.message.replace('\n', " ")])
        .collect();
    output::table(&rows)
}

/// A value of an event's details, for tests of what is printed.
#[cfg(test)]
pub(super) fn sample() -> Event {
    Event {
        id: 1,
        time: crate::model::Time(0),
        kind: Kind::Job,
        name: "j".into(),
        r#type: EventType::Warning,
        reason: "JobFailed".into(),
        message: "why".into(),
        details: serde_json::Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        assert_eq!(line(&sample()), "1970-01-01T00:00:00.000Z ! JobFailed          job/j: why");
    }
}
