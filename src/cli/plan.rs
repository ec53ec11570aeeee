//! `tenure plan` and `tenure status`.

use super::client;
use super::{CliError, Done, output};
use crate::controller;
use crate::os::StateDir;
use crate::store::Store;
use anyhow::Context;
use hyper::Method;
use serde_json::Value;

pub(super) async fn plan(state: &StateDir) -> Done {
    let plan = if client::is_up(state).await {
        client::call(state, Method::GET, "/plan", None).await?
    } else {
        let store = Store::open_read_only(&state.store_file()).context("failed to open the store")?;
        let plan = controller::plan_now(&store, state, None).context("failed to look")?;
        eprintln!("note: no controller runs; this is what one would do");
        controller::plan_to_json(&plan)
    };
    let cell = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let actions = plan["actions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut rows: Vec<Vec<String>> =
        actions.iter().map(|line| vec![cell(line, "action"), cell(line, "key"), cell(line, "reason")]).collect();
    for line in plan["held"].as_array().into_iter().flatten() {
        rows.push(vec!["held".into(), cell(line, "key"), cell(line, "reason")]);
    }
    print!("{}", output::table(&rows));
    Ok(if actions.is_empty() { 0 } else { 2 })
}

pub(super) async fn status(state: &StateDir) -> Done {
    if !client::is_up(state).await {
        let words = format!("no controller runs on {}; start one with `tenure run`", state.root().display());
        return Err(CliError::Failed(anyhow::anyhow!(words)));
    }
    let status = client::call(state, Method::GET, "/status", None).await?;
    let rows: Vec<Vec<String>> = status
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| vec![name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)])
        .collect();
    print!("{}", output::table(&rows));
    Ok(0)
}
