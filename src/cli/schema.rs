//! `tenure schema`: the JSON Schema of what people write, for editors.

use super::console::Console;
use super::failure::{Done, Exit, Failure};
use super::get::{Format, whole_as_text};
use super::names;
use crate::flow::schema::schema;
use crate::manifest::{schema_of, schema_of_all};
use crate::model::Kind;

/// Print the JSON Schema of flows and manifests, with which editors complete and check them
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `flow` (a flow file), a kind (`Flow`, `Job`, `AgentClass`, …), or `all`: whatever a manifest may hold
    #[arg(default_value = "all")]
    what: String,
}

pub fn main(args: &Args, console: &mut Console) -> Done {
    let flow = schema();
    let whole = match args.what.as_str() {
        "all" => schema_of_all(flow),
        "flow" => flow.clone(),
        kind => {
            let kind = names::kind(kind)?;
            schema_of(kind, flow).ok_or_else(|| not_written(kind))?
        }
    };
    console.print(&whole_as_text(&whole, Format::Json)?)?;
    Ok(Exit::Done)
}

fn not_written(kind: Kind) -> Failure {
    let written: Vec<&str> = Kind::ALL.into_iter().filter(|kind| kind.is_authored()).map(Kind::as_str).collect();
    Failure::usage(format!("a {kind} is written by the controller"))
        .help(format!("people write {}", written.join(", ")))
}
