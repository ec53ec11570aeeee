//! `tenure describe`: an object as a story.

use super::args::Describe;
use super::source::Source;
use super::{Done, get, logs, output};
use crate::controller::clock;
use crate::model::{Event, Kind, Time};
use crate::os::StateDir;
use serde_json::Value;

pub(super) async fn describe(args: &Describe, state: &StateDir) -> Done {
    let kind = get::kind(&args.kind)?;
    let source = Source::new(state);
    let object = source.get(kind, &args.name).await?;
    let now = clock();
    let mut text = head(kind, &object, now);
    if kind == Kind::Job {
        let runs = source.list(Kind::StepRun, None).await?;
        text.push_str(&steps(&runs, &args.name, now));
        let workloads = source.list(Kind::Workload, None).await?;
        text.push_str(&processes(&workloads, &args.name));
    }
    let names = logs::names_of(&source, &args.name).await?;
    let about = |event: &Event| {
        names.contains(&event.name) || event.name.strip_prefix(&args.name).is_some_and(|rest| rest.starts_with('.'))
    };
    let events: Vec<Event> = source.events().await?.into_iter().filter(about).collect();
    let last = events.len().saturating_sub(20);
    if let Some(events) = events.get(last..).filter(|events| !events.is_empty()) {
        text.push_str("\nEvents\n");
        text.push_str(&indented(&logs::story(events)));
    }
    print!("{text}");
    Ok(0)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

fn head(kind: Kind, object: &Value, now: Time) -> String {
    let mut rows = vec![
        vec![kind.as_str().to_owned(), object["metadata"]["name"].as_str().unwrap_or_default().to_owned()],
        vec!["Age".into(), output::age(object, now)],
    ];
    let status = &object["status"];
    for (title, key) in [("Phase", "phase"), ("Reason", "reason"), ("Message", "message"), ("Cause", "cause")] {
        if let Some(word) = status[key].as_str() {
            rows.push(vec![title.into(), word.to_owned()]);
        }
    }
    let took = output::took(object, now);
    if !took.is_empty() {
        rows.push(vec!["Took".into(), took]);
    }
    let exit = output::exit(status);
    if !exit.is_empty() {
        rows.push(vec!["Exit".into(), exit]);
    }
    if let Some(outputs) = status.get("outputs").filter(|outputs| !outputs.is_null()) {
        rows.push(vec!["Outputs".into(), outputs.to_string()]);
    }
    let mut text = output::table(&rows);
    if kind.is_authored() && kind != Kind::Job {
        text.push_str("\nSpec\n");
        text.push_str(&indented(&output::pretty(&object["spec"])));
    }
    text
}

fn steps(runs: &[Value], job: &str, now: Time) -> String {
    let mut mine: Vec<&Value> = runs.iter().filter(|run| run["spec"]["job"] == job).collect();
    mine.sort_by_key(|run| (run["status"]["createdAt"].as_str().map(str::to_owned), run["spec"]["attempt"].as_u64()));
    if mine.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = mine
        .iter()
        .map(|run| {
            let rule = run["status"]["decision"]["rule"].as_str().map(|rule| {
                format!("{} by `{rule}`", run["status"]["decision"]["action"].as_str().unwrap_or_default())
            });
            let message = run["status"]["message"].as_str().map(|text| text.replace('\n', " "));
            vec![
                format!("{} #{}", run["spec"]["step"].as_str().unwrap_or_default(), run["spec"]["attempt"]),
                run["status"]["phase"].as_str().unwrap_or_default().to_owned(),
                output::took(run, now),
                [rule, message].into_iter().flatten().collect::<Vec<_>>().join("; "),
            ]
        })
        .collect();
    format!("\nSteps\n{}", indented(&output::table(&rows)))
}

fn processes(workloads: &[Value], job: &str) -> String {
    let owned = |workload: &&Value| {
        workload["spec"]["owners"].as_array().into_iter().flatten().any(|owner| owner["name"] == job)
    };
    let rows: Vec<Vec<String>> = workloads
        .iter()
        .filter(owned)
        .map(|workload| {
            let status = &workload["status"];
            let what = workload["spec"]["class"].as_str().or(workload["spec"]["run"].as_str()).unwrap_or_default();
            let processes = status["pids"].as_array().map_or(0, Vec::len);
            let memory = status["rssBytes"].as_u64().map(output::bytes).unwrap_or_default();
            let phase = status["phase"].as_str().unwrap_or_default();
            let end = match phase {
                "Stopped" => output::exit(status),
                _ => format!("{processes} processes, {memory}"),
            };
            let kind = workload["spec"]["type"].as_str().unwrap_or_default();
            vec![format!("{kind} {what}"), phase.to_owned(), end]
        })
        .collect();
    if rows.is_empty() { String::new() } else { format!("\nWorkloads\n{}", indented(&output::table(&rows))) }
}
