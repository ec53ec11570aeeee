//! `tenure delete`: objects go, and what they owned with them.

use super::client::{Client, path_of};
use super::console::Console;
use super::failure::{Context, Done, Exit, Failure};
use super::names;
use crate::controller;
use crate::manifest::render;
use crate::model::Kind;
use crate::os::StateDir;
use hyper::Method;
use std::path::PathBuf;

/// Delete objects; what they owned goes with them
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The kind, or KIND/NAME
    #[arg(required_unless_present = "files", conflicts_with = "files")]
    kind: Option<String>,
    /// The names
    names: Vec<String>,
    /// The objects of these manifests: files, directories, or `-` for standard input
    #[arg(short, long = "filename", value_name = "FILE", num_args = 1..)]
    files: Vec<PathBuf>,
}

pub async fn main(args: Args, state: &StateDir, console: &mut Console) -> Done {
    let targets = match args.kind {
        Some(kind) => named(&kind, args.names)?,
        None => of_files(&args.files, console)?,
    };
    let client = Client::new(state.clone());
    let mut exit = Exit::Done;
    for (kind, name) in targets {
        let object = format!("{}/{name}", kind.as_str().to_lowercase());
        match client.send(Method::DELETE, &path_of(kind, Some(&name)), None).await {
            Ok(_) => console.line(&format!("{object} deleted"))?,
            Err(failure) if failure.exit == Exit::NotFound => {
                exit = Exit::NotFound;
                let failure = Err::<(), _>(failure).to(|| format!("delete {object}"));
                failure.unwrap_or_else(|failure| console.say_error(&failure));
            }
            Err(failure) => return Err(failure).to(|| format!("delete {object}")),
        }
    }
    Ok(exit)
}

fn named(kind: &str, given: Vec<String>) -> Result<Vec<(Kind, String)>, Failure> {
    if given.is_empty() {
        return match names::kind_and_name(kind, None)? {
            (kind, Some(name)) => Ok(vec![(kind, name)]),
            (kind, None) => {
                let failure = Failure::usage(format!("which {} are to be deleted?", kind.plural()));
                Err(failure.help("name one: `tenure delete KIND NAME`"))
            }
        };
    }
    given.into_iter().map(|name| Ok((names::kind_and_name(kind, Some(name.clone()))?.0, name))).collect()
}

/// The objects of manifests, the last first: a job goes before its flow.
fn of_files(files: &[PathBuf], console: &mut Console) -> Result<Vec<(Kind, String)>, Failure> {
    let mut targets = Vec::new();
    for file in names::files(files)? {
        let loaded = controller::load_text(&file.name, &file.text, Some(&file.dir));
        if let Some(error) = loaded.first_error() {
            console.say(&render(error, console.colour_err));
            let failure = Failure::failed("it has errors, and so may name the wrong objects; nothing was deleted");
            return Err(failure).to(|| format!("read {}", file.name));
        }
        targets.extend(loaded.objects.iter().map(|object| (object.kind(), object.meta().name.clone())));
    }
    targets.reverse();
    Ok(targets)
}
