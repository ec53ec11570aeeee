//! `tenure events`: what happened, and why.

use super::console::{Console, Tone};
use super::failure::{Context, Done, Exit, Failure};
use super::get::{Format, whole_as_text};
use super::names::job_name;
use super::source::{Source, list_of};
use super::table::{Cell, Columns};
use super::text::at;
use crate::model::{Event, EventType, Kind};
use crate::os::StateDir;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Show what happened, and why; of one job: with its runs and workloads
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only of this job, its runs, and its workloads
    job: Option<String>,
    /// Go on with each event as it comes
    #[arg(short, long)]
    watch: bool,
    /// At most this many, the newest
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1000)]
    limit: usize,
    /// How they are shown: table, json, or yaml
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

const HEADS: [&str; 5] = ["TIME", "TYPE", "REASON", "OBJECT", "MESSAGE"];

/// How far back the events of one job are looked for among those of all.
pub const SEARCHED: usize = 100_000;

pub async fn main(args: Args, state: &StateDir, console: &mut Console) -> Done {
    let source = Source::open(state, console).await.to(|| "list events".into())?;
    let mut about = match &args.job {
        Some(job) => Some(About::of(&source, job_name(job)).await?),
        None => None,
    };
    let searched = if about.is_some() { SEARCHED.max(args.limit) } else { args.limit };
    let mut events = source.events(None, searched).await?;
    let mut last = events.last().map_or(0, |event| event.id);
    if let Some(about) = &about {
        events.retain(|event| about.covers(event));
        events.drain(..events.len().saturating_sub(args.limit));
        if events.is_empty() && !args.watch {
            source.get(Kind::Job, &about.job).await?;
        }
    }
    if !args.watch && matches!(args.output, Format::Json | Format::Yaml) {
        let list = list_of(events.iter().map(|event| json!(event)).collect());
        console.print(&whole_as_text(&list, args.output)?)?;
        return Ok(Exit::Done);
    }
    let mut columns = Columns::new(&HEADS);
    events.iter().for_each(|event| columns.fit(&row(event)));
    if matches!(args.output, Format::Table | Format::Wide) && (args.watch || !events.is_empty()) {
        console.print(&columns.head(console.colour))?;
    }
    for event in &events {
        show(event, args.output, &mut columns, console)?;
    }
    if !args.watch {
        if events.is_empty() {
            console.say("there are no events");
        }
        return Ok(Exit::Done);
    }
    console.flush()?;
    let what = || "watch events".to_owned();
    let client = source.live().to(what)?;
    let mut lines = client.lines(&format!("/events?watch=1&after={last}")).await.to(what)?;
    while let Some(line) = lines.next().await.to(what)? {
        let event: Event = serde_json::from_value(line)
            .map_err(|error| Failure::failed(format!("an event can not be understood: {error}")))
            .to(what)?;
        last = last.max(event.id);
        if let Some(about) = &mut about {
            // A workload that was not there before may be the job's.
            if event.kind == Kind::Workload && !about.covers(&event) {
                *about = About::of(&source, &about.job).await?;
            }
            if !about.covers(&event) {
                continue;
            }
        }
        show(&event, args.output, &mut columns, console)?;
        console.flush()?;
    }
    Err(Failure::failed("the controller has ended").help("start it again, then watch again")).to(what)
}

fn show(event: &Event, format: Format, columns: &mut Columns, console: &mut Console) -> Result<(), Failure> {
    match format {
        Format::Json => console.line(&json!(event).to_string()),
        Format::Yaml => console.print(&format!("---\n{}", whole_as_text(&json!(event), format)?)),
        Format::Name => console.line(&object(event)),
        Format::Table | Format::Wide => {
            let row = row(event);
            columns.fit(&row);
            console.print(&columns.line(&row, console.colour))
        }
    }
}

/// An event as a row.
pub fn row(event: &Event) -> Vec<Cell> {
    let (kind, tone) = match event.r#type {
        EventType::Normal => ("Normal", Tone::Plain),
        EventType::Warning => ("Warning", Tone::Warn),
    };
    let time = Cell::toned(event.time.to_string(), Tone::Dim);
    vec![
        time,
        Cell::toned(kind, tone),
        event.reason.as_str().into(),
        object(event).into(),
        event.message.as_str().into(),
    ]
}

fn object(event: &Event) -> String {
    format!("{}/{}", event.kind.as_str().to_lowercase(), event.name)
}

/// A job with all that belongs to it.
pub struct About {
    job: String,
    workloads: BTreeSet<String>,
}

impl About {
    /// What belongs to this job now.
    pub async fn of(source: &Source, job: &str) -> Result<About, Failure> {
        let workloads = source.list(Kind::Workload, &[]).await?;
        let is_owner = |workload: &&Value| {
            let owners = workload.pointer("/spec/owners").and_then(Value::as_array);
            owners.into_iter().flatten().any(|owner| owner["name"] == job)
        };
        let workloads = workloads.iter().filter(is_owner).map(|workload| at(workload, "/metadata/name")).collect();
        Ok(About { job: job.to_owned(), workloads })
    }

    /// Whether a workload is its own.
    pub fn has_workload(&self, name: &str) -> bool {
        self.workloads.contains(name)
    }

    /// Whether an event is about it.
    pub fn covers(&self, event: &Event) -> bool {
        match event.kind {
            Kind::Job => event.name == self.job,
            // `<job>.<step>.<attempt>`: names of jobs may have dots too, those of steps do not.
            Kind::StepRun => {
                let rest = event.name.strip_prefix(&self.job).and_then(|rest| rest.strip_prefix('.'));
                rest.is_some_and(|rest| rest.matches('.').count() == 1)
            }
            Kind::Workload => self.workloads.contains(&event.name),
            Kind::Flow | Kind::AgentClass | Kind::MachineClass | Kind::Ledger | Kind::Policy => false,
        }
    }
}
