//! `tenure start`: a job of a flow.

use super::client::{Client, path_of};
use super::console::Console;
use super::failure::{Context, Done, Exit, Failure};
use super::names;
use super::source::Source;
use super::wait::{self, Goal};
use crate::model::{Kind, Span};
use crate::os::StateDir;
use hyper::Method;
use serde_json::{Value, json};

/// Start a job of a flow
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The flow's name
    flow: String,
    /// An input of the flow: JSON if it parses, else a string; may be given again
    #[arg(short, long = "input", value_name = "KEY=VALUE", value_parser = names::pair)]
    inputs: Vec<(String, String)>,
    /// A job that must have succeeded before it begins; may be given again
    #[arg(long, value_name = "JOB")]
    after: Vec<String>,
    /// The job's name [default: the flow's name and six random characters]
    #[arg(long)]
    name: Option<String>,
    /// Wait until the job has ended
    #[arg(long)]
    wait: bool,
    /// With --wait: for this long at most; 0: for ever
    #[arg(long, value_name = "SPAN", default_value = "0", requires = "wait")]
    timeout: Span,
}

/// How often another random name is tried when one is taken.
const TRIES: usize = 4;

pub async fn main(args: Args, state: &StateDir, console: &mut Console) -> Done {
    let client = Client::new(state.clone());
    let what = || format!("start {}", args.flow);
    client.must_be_there().await.to(what)?;
    let source = Source::Live(client.clone());
    // A job of a flow that is not there would wait for it for ever.
    if source.find(Kind::Flow, &args.flow).await.to(what)?.is_none() {
        return Err(source.missing(Kind::Flow, &args.flow).await).to(what);
    }
    let name = create(&client, &args).await.to(what)?;
    console.line(&format!("job/{name} created"))?;
    console.flush()?;
    if args.wait {
        return wait::wait(&client, &[name], Goal::Succeeded, args.timeout, console).await;
    }
    Ok(Exit::Done)
}

async fn create(client: &Client, args: &Args) -> Result<String, Failure> {
    let mut tries = 0;
    loop {
        tries += 1;
        let name = args.name.clone().unwrap_or_else(|| format!("{}-{}", args.flow, random_word()));
        let job = job(&args.flow, &name, &args.inputs, &args.after);
        let created = client.exchange(Method::POST, &path_of(Kind::Job, None), Some(&job)).await?;
        let code = created.status().as_u16();
        if created.status().is_success() {
            return Ok(name);
        }
        if code != 409 || args.name.is_some() || tries == TRIES {
            return Err(super::client::refused(created).await);
        }
    }
}

fn job(flow: &str, name: &str, inputs: &[(String, String)], after: &[String]) -> Value {
    let mut spec = json!({"flowRef": flow});
    if !inputs.is_empty() {
        spec["inputs"] = Value::Object(names::values(inputs));
    }
    if !after.is_empty() {
        spec["after"] = after.iter().map(|job| names::job_name(job)).collect();
    }
    json!({"apiVersion": crate::model::API_VERSION, "kind": Kind::Job.as_str(), "metadata": {"name": name}, "spec": spec})
}

/// Six letters and digits of 32 that are not easily mistaken for each other.
fn random_word() -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let random = uuid::Uuid::new_v4();
    random.as_bytes().iter().take(6).map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_refers_to_its_flow() {
        let job = job("triage", "t", &[("ticket".into(), "482".into()), ("who".into(), "me".into())], &[]);
        assert_eq!(job["spec"], json!({"flowRef": "triage", "inputs": {"ticket": 482, "who": "me"}}));
        let after = super::job("triage", "t", &[], &["job/first".into(), "second".into()]);
        assert_eq!(after["spec"], json!({"flowRef": "triage", "after": ["first", "second"]}));
        let (first, second) = (random_word(), random_word());
        assert!(first.len() == 6 && first != second && crate::manifest::is_name(&first));
    }
}
