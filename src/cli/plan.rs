//! `tenure plan`: what the next pass would do.

use super::console::{Console, Tone};
use super::failure::{Context, Done, Exit};
use super::get::{Format, whole_as_text};
use super::source::Source;
use super::table::{self, Cell};
use super::text::at;
use crate::os::StateDir;
use serde_json::Value;

/// Show what the next pass would do to processes; exit status 0: nothing, 2: something
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How it is shown
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

pub async fn main(args: Args, state: &StateDir, console: &mut Console) -> Done {
    let source = Source::open(state, console).await.to(|| "make a plan".into())?;
    let plan = source.plan().await?;
    let lines = |key: &str| plan[key].as_array().cloned().unwrap_or_default();
    let (actions, mut held) = (lines("actions"), lines("held"));
    if args.output != Format::Wide {
        // Of what others started, what is kept in any case is shown by `tenure scan`.
        held.retain(|line| line["verdict"] != "Keep");
    }
    match args.output {
        Format::Json | Format::Yaml => console.print(&whole_as_text(&plan, args.output)?)?,
        Format::Name => {
            for action in &actions {
                let key = at(action, "/key");
                let is_foreign = action.get("verdict").is_some();
                console.line(&if is_foreign { key } else { format!("workload/{key}") })?;
            }
        }
        Format::Table | Format::Wide if actions.is_empty() && held.is_empty() => console.say("nothing to do"),
        Format::Table | Format::Wide => {
            let row = |line: &Value, action: Cell| vec![action, at(line, "/key").into(), at(line, "/reason").into()];
            let acts = actions.iter().map(|line| row(line, Cell::toned(at(line, "/action"), Tone::Warn)));
            let held = held.iter().map(|line| row(line, Cell::toned("held", Tone::Dim)));
            let rows: Vec<_> = acts.chain(held).collect();
            console.print(&table::render(&["ACTION", "WORKLOAD", "REASON"], &rows, console.colour))?;
        }
    }
    Ok(if actions.is_empty() { Exit::Done } else { Exit::UsageOrChanges })
}
