//! `tenure status`: whether a controller runs, and how it is.

use super::client::Client;
use super::console::Console;
use super::failure::{Context, Done, Exit};
use super::get::{Format, whole_as_text};
use super::text::{age_at, at};
use crate::os::StateDir;
use serde_json::Value;

/// Show whether a controller runs on the state directory, and how it is
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How it is shown
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

pub async fn main(args: Args, state: &StateDir, console: &mut Console) -> Done {
    let client = Client::new(state.clone());
    let status = client.get("/status").await.to(|| "ask the controller".into())?;
    if matches!(args.output, Format::Json | Format::Yaml) {
        console.print(&whole_as_text(&status, args.output)?)?;
        return Ok(Exit::Done);
    }
    let last_pass = match status.get("lastPass") {
        None | Some(Value::Null) => "none yet".to_owned(),
        Some(pass) => format!("{} ago (look {})", age_at(pass, "/at", (console.now)()), at(pass, "/look")),
    };
    let state = state.root().display().to_string();
    for (name, value) in [
        ("instance", at(&status, "/instance")),
        ("state", state),
        ("pid", at(&status, "/pid")),
        ("version", at(&status, "/version")),
        ("last pass", last_pass),
    ] {
        console.line(&format!("{name:<10} {value}"))?;
    }
    Ok(Exit::Done)
}
