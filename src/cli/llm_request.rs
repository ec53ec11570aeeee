//! `tenure llm-request`: the workload of an `llm` step.

use super::console::Console;
use super::failure::{Done, Exit, Failure};
use crate::web;
use std::path::PathBuf;

/// Put the chat completion of a file to its endpoint; prints one JSON object
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The request, as the controller writes it
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub fn main(args: &Args, console: &mut Console) -> Done {
    let report = web::chat(&args.file);
    let text = serde_json::to_string(&report).map_err(|error| Failure::failed(error.to_string()))?;
    console.line(&text)?;
    Ok(if report.failure.is_none() { Exit::Done } else { Exit::Failed })
}
