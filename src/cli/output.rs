//! Objects as they are printed.

use super::CliError;
use super::args::Format;
use crate::model::{Kind, Time};
use anyhow::Context;
use serde_json::{Value, json};
use std::time::Duration;

/// A table: columns aligned, two spaces apart. The same to a terminal and to a pipe.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(column) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// A span as it is read at a glance: `5s`, `3m`, `2h`, `4d`.
pub(super) fn span(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=119 => format!("{seconds}s"),
        seconds @ 120..=7199 => format!("{}m", seconds / 60),
        seconds @ 7200..=172_799 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// A time in an object.
pub(super) fn time(value: &Value) -> Option<Time> {
    serde_json::from_value(value.clone()).ok()
}

pub(super) fn age(object: &Value, now: Time) -> String {
    time(&object["metadata"]["creationTimestamp"]).map(|at| span(now.since(at))).unwrap_or_default()
}

/// Bytes as they are read at a glance.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..=999_999 => format!("{} kB", count / 1000),
        1_000_000..=999_999_999 => format!("{}.{} MB", count / 1_000_000, count / 100_000 % 10),
        _ => format!("{}.{} GB", count / 1_000_000_000, count / 100_000_000 % 10),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// From the start of a run to its end, or to now.
pub(super) fn took(object: &Value, now: Time) -> String {
    let status = &object["status"];
    let Some(begun) = time(&status["startedAt"]) else { return String::new() };
    span(time(&status["finishedAt"]).unwrap_or(now).since(begun))
}

/// The exit of a workload in words.
pub(super) fn exit(status: &Value) -> String {
    serde_json::from_value::<crate::model::Exit>(status["exit"].clone())
        .ok()
        .filter(|_| status["exit"].is_object())
        .map(|exit| exit.to_string())
        .unwrap_or_default()
}

fn heads(kind: Kind, wide: bool) -> Vec<&'static str> {
    let (narrow, more): (&[_], &[_]) = match kind {
        Kind::Job => (&["NAME", "PHASE", "REASON", "AGE"], &["FLOW", "COST", "MESSAGE"]),
        Kind::StepRun => (&["NAME", "STEP", "ATTEMPT", "PHASE", "AGE", "DURATION"], &["WORKLOAD", "MESSAGE"]),
        Kind::Workload => {
            (&["NAME", "TYPE", "PHASE", "STAGE", "OWNERS", "PIDS", "MEMORY", "AGE"], &["EXIT", "CAUSE", "COMMAND"])
        }
        Kind::Flow | Kind::AgentClass | Kind::MachineClass | Kind::Ledger | Kind::Policy => {
            (&["NAME", "AGE"], &["SOURCE", "MESSAGE"])
        }
    };
    narrow.iter().chain(more.iter().filter(|_| wide)).copied().collect()
}

/// One object as a row of a table of its kind.
pub(super) fn row(kind: Kind, object: &Value, wide: bool, now: Time) -> Vec<String> {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    let cell = |head: &str| match head {
        "NAME" => text(&meta["name"]),
        "AGE" => age(object, now),
        "PHASE" => text(&status["phase"]),
        "REASON" => text(&status["reason"]),
        "MESSAGE" => text(&status["message"]).replace('\n', " "),
        "FLOW" => spec["flowRef"].as_str().map_or_else(|| "(inline)".into(), str::to_owned),
        "COST" => status["costUsd"].as_f64().map(|cost| format!("${cost:.4}")).unwrap_or_default(),
        "STEP" => text(&spec["step"]),
        "ATTEMPT" => text(&spec["attempt"]),
        "DURATION" => took(object, now),
        "WORKLOAD" => text(&status["workload"]),
        "TYPE" => text(&spec["type"]),
        "STAGE" => text(&status["stage"]["name"]),
        "OWNERS" => {
            let owners = spec["owners"].as_array().into_iter().flatten().map(|owner| text(&owner["name"]));
            owners.collect::<Vec<_>>().join(",")
        }
        "PIDS" => status["pids"].as_array().map_or(0, Vec::len).to_string(),
        "MEMORY" => status["rssBytes"].as_u64().map(bytes).unwrap_or_default(),
        "EXIT" => exit(status),
        "CAUSE" => text(&status["cause"]),
        "COMMAND" => {
            let words = spec["command"].as_array().into_iter().flatten().map(text);
            words.collect::<Vec<_>>().join(" ").replace('\n', "⏎").chars().take(80).collect()
        }
        "SOURCE" => text(&meta["annotations"][crate::model::SOURCE_ANNOTATION]),
        _ => String::new(),
    };
    heads(kind, wide).into_iter().map(cell).collect()
}

/// Several objects in one of the formats.
pub(super) fn list(kind: Kind, objects: &[Value], format: Format, now: Time) -> Result<String, CliError> {
    Ok(match format {
        Format::Table | Format::Wide => {
            let wide = format == Format::Wide;
            let mut rows = vec![heads(kind, wide).into_iter().map(str::to_owned).collect()];
            rows.extend(objects.iter().map(|object| row(kind, object, wide, now)));
            table(&rows)
        }
        Format::Name => objects.iter().map(|object| name(kind, object)).collect(),
        Format::Json => pretty(&json!({"kind": "List", "items": objects})),
        Format::Yaml => yaml(&json!({"kind": "List", "items": objects}))?,
    })
}

/// One object in one of the formats.
pub(super) fn one(kind: Kind, object: &Value, format: Format, now: Time) -> Result<String, CliError> {
    Ok(match format {
        Format::Json => pretty(object),
        Format::Yaml => yaml(object)?,
        Format::Table | Format::Wide | Format::Name => list(kind, std::slice::from_ref(object), format, now)?,
    })
}

fn name(kind: Kind, object: &Value) -> String {
    format!("{}/{}\n", kind.as_str().to_ascii_lowercase(), text(&object["metadata"]["name"]))
}

pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn yaml(value: &Value) -> Result<String, CliError> {
    let text = serde_yaml::to_string(value).context("failed to write YAML")?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_end_without_blanks() {
        let rows = [["NAME", "PHASE"], ["a-long-name", ""], ["b", "Running"]];
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
        assert_eq!(table(&rows), "NAME         PHASE\na-long-name\nb            Running\n");
    }

    #[test]
    fn a_workload_shows_its_owners_stage_memory_and_exit() {
        let object = json!({
            "metadata": {"name": "w", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"type": "Adapter", "owners": [{"name": "a"}, {"name": "b"}], "command": ["npx", "x"]},
            "status": {"phase": "Stopping", "stage": {"name": "Ask"}, "pids": [1, 2], "rssBytes": 5_600_000, "exit": {"code": 1}},
        });
        let now = time(&json!("2026-01-01T00:05:00Z")).unwrap();
        let row = row(Kind::Workload, &object, true, now);
        assert_eq!(row, ["w", "Adapter", "Stopping", "Ask", "a,b", "2", "5.6 MB", "5m", "exit status 1", "", "npx x"]);
    }
}
