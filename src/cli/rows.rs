//! The columns of each kind, and the row of an object. Pure: an object is its JSON, as the API shows it.

use super::console::Tone;
use super::table::Cell;
use super::text::{age_at, at, bytes, duration_between, exit, until_at, usd};
use crate::model::{Kind, Time};
use serde_json::Value;

/// The heads of a kind's table.
pub fn heads(kind: Kind, wide: bool) -> Vec<&'static str> {
    let (narrow, more): (&[_], &[_]) = match kind {
        Kind::Job => (&["NAME", "PHASE", "REASON", "AGE"], &["FLOW", "PARENT", "COST", "MESSAGE"]),
        Kind::StepRun => (&["NAME", "STEP", "ATTEMPT", "PHASE", "NEXT", "AGE", "DURATION"], &["WORKLOAD", "MESSAGE"]),
        Kind::Workload => (
            &["NAME", "TYPE", "PHASE", "STAGE", "OWNERS", "PIDS", "MEMORY", "AGE"],
            &["COMMAND", "EXIT", "CAUSE", "LET-GO"],
        ),
        Kind::Flow | Kind::AgentClass | Kind::MachineClass | Kind::Ledger | Kind::Policy => {
            (&["NAME", "AGE"], &["MESSAGE"])
        }
    };
    let more = if wide { more } else { &[] };
    narrow.iter().chain(more).copied().collect()
}

/// The row of an object.
pub fn row(kind: Kind, object: &Value, wide: bool, now: Time) -> Vec<Cell> {
    let text = |path: &str| Cell::from(at(object, path));
    let name = text("/metadata/name");
    let phase = phase(&at(object, "/status/phase"));
    let age = Cell::from(age_at(object, "/metadata/creationTimestamp", now));
    let message = text("/status/message");
    let (mut row, more) = match kind {
        Kind::Job => {
            let more = vec![flow_of(object).into(), text("/spec/parent/job"), cost(object), message];
            (vec![name, phase, text("/status/reason"), age], more)
        }
        Kind::StepRun => {
            let took = duration_between(object, "/status/startedAt", "/status/finishedAt", now);
            let next = until_at(object, "/status/dueAt", now).into();
            let row = vec![name, text("/spec/step"), text("/spec/attempt"), phase, next, age, took.into()];
            (row, vec![text("/status/workload"), message])
        }
        Kind::Workload => {
            let row = vec![
                name,
                text("/spec/type"),
                phase,
                Cell::toned(at(object, "/status/stage/name"), Tone::Warn),
                owners(object).into(),
                pids(object).into(),
                object.pointer("/status/rssBytes").and_then(Value::as_u64).map(bytes).unwrap_or_default().into(),
                age,
            ];
            (row, vec![command(object).into(), exit(object).into(), text("/status/cause"), let_go(object).into()])
        }
        Kind::Flow | Kind::AgentClass | Kind::MachineClass | Kind::Ledger | Kind::Policy => {
            (vec![name, age], vec![message])
        }
    };
    if wide {
        row.extend(more);
    }
    row
}

/// The row of an object that is no more.
pub fn row_of_deleted(kind: Kind, object: &Value, wide: bool, now: Time) -> Vec<Cell> {
    let mut row = row(kind, object, wide, now);
    let place = heads(kind, wide).iter().position(|head| *head == "PHASE");
    match place.and_then(|place| row.get_mut(place)) {
        Some(cell) => *cell = Cell::toned("Deleted", Tone::Dim),
        None => {
            if let Some(cell) = row.first_mut() {
                *cell = format!("{} (deleted)", cell.text()).into();
            }
        }
    }
    row
}

/// A phase in its colour.
pub fn phase(phase: &str) -> Cell {
    Cell::toned(phase, tone_of(phase))
}

/// The colour of a phase.
pub fn tone_of(phase: &str) -> Tone {
    match phase {
        "Running" | "Succeeded" | "Completed" => Tone::Good,
        "Failed" => Tone::Bad,
        "Paused" | "Suspended" | "Stopping" | "Pending" | "Starting" => Tone::Warn,
        "Skipped" | "Cancelled" | "Stopped" => Tone::Dim,
        _ => Tone::Plain,
    }
}

/// The name of a job's flow.
pub fn flow_of(job: &Value) -> String {
    match (job.pointer("/spec/flowRef"), job.pointer("/spec/flow")) {
        (Some(Value::String(name)), _) => name.clone(),
        (_, Some(flow)) => flow["name"].as_str().map_or("(inline)".to_owned(), |name| format!("{name} (inline)")),
        _ => String::new(),
    }
}

/// The names of a workload's owners.
pub fn owners(workload: &Value) -> String {
    let owners = workload.pointer("/spec/owners").and_then(Value::as_array);
    let others = workload.pointer("/spec/foreign/owners").and_then(Value::as_array);
    let names = owners.into_iter().flatten().filter_map(|owner| owner["name"].as_str());
    let names = names.chain(others.into_iter().flatten().filter_map(|owner| owner["job"].as_str()));
    names.collect::<Vec<_>>().join(",")
}

/// What was let go of a workload and lives.
fn let_go(workload: &Value) -> String {
    let all = workload.pointer("/status/letGo").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let words = all.iter().map(|it| format!("{} {}", it["pid"], it["command"].as_str().unwrap_or_default()));
    words.collect::<Vec<_>>().join("; ")
}

/// The pids of a workload's processes: all of them, if they are few.
pub fn pids(workload: &Value) -> String {
    const SHOWN: usize = 4;
    let pids = workload.pointer("/status/pids").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let shown: Vec<String> = pids.iter().take(SHOWN).map(Value::to_string).collect();
    let rest = pids.len().saturating_sub(SHOWN);
    if rest == 0 { shown.join(",") } else { format!("{}+{rest}", shown.join(",")) }
}

/// A workload's command line.
pub fn command(workload: &Value) -> String {
    let words = workload.pointer("/spec/command").and_then(Value::as_array);
    words.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

fn cost(object: &Value) -> Cell {
    object.pointer("/status/costUsd").and_then(Value::as_f64).map(usd).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::super::table::render;
    use super::*;
    use serde_json::json;

    const NOW: Time = Time(1_767_225_605_000);

    fn shown(kind: Kind, objects: &[Value], wide: bool) -> String {
        let rows: Vec<_> = objects.iter().map(|object| row(kind, object, wide, NOW)).collect();
        render(&heads(kind, wide), &rows, false)
    }

    #[test]
    fn jobs_have_a_phase_and_a_reason() {
        let job = json!({
            "metadata": {"name": "triage-482", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"flowRef": "triage", "parent": {"job": "all", "run": "all.each.1"}},
            "status": {"phase": "Failed", "reason": "Abandoned", "message": "step `look`", "costUsd": 0.25},
        });
        let fresh = json!({"metadata": {"name": "b"}, "spec": {"flow": {"steps": {}}}, "status": {"phase": "Pending"}});
        insta::assert_snapshot!(shown(Kind::Job, &[job.clone(), fresh.clone()], false), @r"
        NAME        PHASE    REASON     AGE
        triage-482  Failed   Abandoned  5s
        b           Pending  -          -
        ");
        insta::assert_snapshot!(shown(Kind::Job, &[job, fresh], true), @r"
        NAME        PHASE    REASON     AGE  FLOW      PARENT  COST     MESSAGE
        triage-482  Failed   Abandoned  5s   triage    all     $0.2500  step `look`
        b           Pending  -          -    (inline)  -       -        -
        ");
    }

    #[test]
    fn runs_and_workloads_show_what_they_do() {
        let run = json!({
            "metadata": {"name": "j.look.2", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"step": "look", "attempt": 2},
            "status": {"phase": "Running", "startedAt": "2026-01-01T00:00:01Z", "workload": "0198"},
        });
        let poll = json!({
            "metadata": {"name": "j.ask.1"}, "spec": {"step": "ask", "attempt": 1},
            "status": {"phase": "Suspended", "dueAt": "2026-01-01T00:00:50Z"},
        });
        insta::assert_snapshot!(shown(Kind::StepRun, &[run, poll], true), @r"
        NAME      STEP  ATTEMPT  PHASE      NEXT  AGE  DURATION  WORKLOAD  MESSAGE
        j.look.2  look  2        Running    -     5s   4.0s      0198      -
        j.ask.1   ask   1        Suspended  45s   -    -         -         -
        ");
        let workload = json!({
            "metadata": {"name": "0198", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"type": "Adapter", "owners": [{"name": "a"}, {"name": "b"}], "command": ["npx", "-y", "x"]},
            "status": {"phase": "Stopping", "stage": {"name": "Kill", "round": 1}, "pids": [1, 2, 3, 4, 5, 6],
                       "rssBytes": 412_000_000, "cause": "OwnerTerminal", "exit": {"signal": "SIGKILL"},
                       "letGo": [{"pid": 7, "command": "tmux new", "why": "Detached"}]},
        });
        insta::assert_snapshot!(shown(Kind::Workload, &[workload], true), @r"
        NAME  TYPE     PHASE     STAGE  OWNERS  PIDS       MEMORY  AGE  COMMAND   EXIT     CAUSE          LET-GO
        0198  Adapter  Stopping  Kill   a,b     1,2,3,4+2  412MB   5s   npx -y x  SIGKILL  OwnerTerminal  7 tmux new
        ");
    }

    #[test]
    fn what_is_no_more_says_so() {
        let object = json!({"metadata": {"name": "a"}, "status": {"phase": "Running"}});
        let text =
            |kind| row_of_deleted(kind, &object, false, NOW).iter().map(|c| c.text().to_owned()).collect::<Vec<_>>();
        assert_eq!(text(Kind::Job), ["a", "Deleted", "", ""]);
        assert_eq!(text(Kind::Flow), ["a (deleted)", ""]);
    }
}
