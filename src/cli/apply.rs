//! `tenure apply`: manifests → the store, through the controller.

use super::client::Client;
use super::console::Console;
use super::failure::{Context, Done, Exit, Failure};
use super::names::{self, NamedFile};
use super::source::items;
use super::text::at;
use crate::manifest::render;
use crate::model::Diagnostic;
use crate::os::StateDir;
use hyper::Method;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Create or change the objects of manifests
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifests: files, directories, or `-` for standard input
    #[arg(short, long = "filename", value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
}

pub async fn main(args: Args, state: &StateDir, console: &mut Console) -> Done {
    let client = Client::new(state.clone());
    let mut exit = Exit::Done;
    for file in names::files(&args.files)? {
        match apply(&client, &file).await.to(|| format!("apply {}", file.name))? {
            Ok(objects) => {
                for object in objects {
                    console.line(&format!(
                        "{}/{} applied",
                        at(&object, "/kind").to_lowercase(),
                        at(&object, "/metadata/name")
                    ))?;
                }
            }
            Err(diagnostics) => {
                exit = Exit::Failed;
                for diagnostic in &diagnostics {
                    console.say(&render(diagnostic, console.colour_err));
                }
                let failure = Failure {
                    what: Some(format!("apply {}", file.name)),
                    ..Failure::failed("it has errors; nothing of it was applied")
                };
                console.say_error(&failure);
            }
        }
    }
    Ok(exit)
}

/// The objects as they are stored now, or what is wrong with the text.
async fn apply(client: &Client, file: &NamedFile) -> Result<Result<Vec<Value>, Vec<Diagnostic>>, Failure> {
    let Ok(text) = std::str::from_utf8(&file.text) else {
        return Err(Failure::failed("the text is not UTF-8").help("save the file as UTF-8"));
    };
    let body = json!({"file": file.name, "text": text, "dir": file.dir});
    let response = client.exchange(Method::POST, "/apply", Some(&body)).await?;
    let is_success = response.status().is_success();
    let code = response.status().as_u16();
    let bytes = super::client::read_all(response).await?;
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if is_success {
        return Ok(Ok(items(answer)));
    }
    let causes = answer.pointer("/details/causes").and_then(Value::as_array);
    let diagnostics: Vec<Diagnostic> =
        causes.into_iter().flatten().filter_map(|cause| serde_json::from_value(cause.clone()).ok()).collect();
    if diagnostics.is_empty() { Err(super::client::refusal(code, &bytes)) } else { Ok(Err(diagnostics)) }
}
