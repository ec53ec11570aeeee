//! `tenure notify`: the workload of a `notification`.

use super::failure::{Context, Done, Exit, Failure};
use crate::web;
use std::path::PathBuf;

/// Post the notification of a file to its webhook
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The notification, as the controller writes it
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub fn main(args: &Args) -> Done {
    web::notify(&args.file).map_err(Failure::failed).to(|| "notify the webhook".into())?;
    Ok(Exit::Done)
}
