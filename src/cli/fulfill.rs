//! `tenure fulfill`: the answer that a suspended run waits for.

use super::client::{Client, path_of};
use super::console::Console;
use super::failure::{Context, Done, Exit, Failure};
use super::names;
use super::source::Source;
use super::text::at;
use crate::model::Kind;
use crate::os::StateDir;
use hyper::Method;
use serde_json::{Map, Value, json};

/// Give a suspended run the outputs that it waits for
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run: its name, JOB/STEP, or a JOB that has one suspended run
    run: String,
    /// Outputs: values are JSON if they parse, else strings
    #[arg(value_name = "KEY=VALUE", value_parser = names::pair)]
    outputs: Vec<(String, String)>,
    /// All outputs, as one JSON object
    #[arg(long, value_name = "JSON", conflicts_with = "outputs")]
    json: Option<String>,
}

pub async fn main(args: Args, state: &StateDir, console: &mut Console) -> Done {
    let outputs = outputs(&args)?;
    let client = Client::new(state.clone());
    let what = || format!("fulfill {}", args.run);
    client.must_be_there().await.to(what)?;
    let source = Source::Live(client.clone());
    let runs = names::runs(&source, &args.run).await.to(what)?;
    let run = suspended(&runs).to(what)?;
    let path = format!("{}/fulfill", path_of(Kind::StepRun, Some(&run)));
    client.send(Method::POST, &path, Some(&json!({"outputs": outputs}))).await.to(what)?;
    console.line(&format!("steprun/{run} fulfilled"))?;
    Ok(Exit::Done)
}

fn outputs(args: &Args) -> Result<Map<String, Value>, Failure> {
    let Some(text) = &args.json else { return Ok(names::values(&args.outputs)) };
    match serde_json::from_str(text) {
        Ok(Value::Object(outputs)) => Ok(outputs),
        Ok(_) => Err(Failure::usage("--json is not an object").help("write --json '{\"key\": \"value\"}'")),
        Err(error) => {
            Err(Failure::usage(format!("--json is not JSON: {error}")).help("write --json '{\"key\": \"value\"}'"))
        }
    }
}

/// The one of these runs that waits.
fn suspended(runs: &[Value]) -> Result<String, Failure> {
    let name = |run: &Value| at(run, "/metadata/name");
    let waiting: Vec<String> = runs.iter().filter(|run| at(run, "/status/phase") == "Suspended").map(name).collect();
    match (waiting.as_slice(), runs.last()) {
        ([one], _) => Ok(one.clone()),
        ([], Some(last)) => {
            let why = format!(
                "run {} is {}, and only a Suspended one waits for outputs",
                name(last),
                at(last, "/status/phase")
            );
            Err(Failure::failed(why))
        }
        ([], None) => Err(Failure::not_found("there is no run")),
        (several, _) => {
            Err(Failure::usage(format!("several runs wait: {}", several.join(", "))).help("name one of them"))
        }
    }
}
