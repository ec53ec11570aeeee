//! `tenure describe`: the story of one object.

use super::console::{Console, Tone, one_line, paint};
use super::events::{About, row};
use super::failure::{Done, Exit, Failure};
use super::get::{Format, whole_as_text};
use super::names;
use super::rows::{command, flow_of, owners, pids, tone_of};
use super::source::Source;
use super::table::Columns;
use super::text::{age_at, at, bytes, duration_between, exit, plain, time_at, usd};
use crate::model::{Event, Kind, Time};
use crate::os::StateDir;
use serde_json::Value;

/// Tell the story of one object: what it is, what became of it, and why
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The kind, or KIND/NAME
    kind: String,
    /// The name
    name: Option<String>,
}

/// How many events are told.
const EVENTS: usize = 20;
/// How many sub-jobs are listed.
const SUB_JOBS: usize = 30;
/// The longest value that is shown whole, in characters.
const VALUE_MAX: usize = 200;

pub async fn main(args: Args, state: &StateDir, console: &mut Console) -> Done {
    let (kind, name) = names::kind_and_name(&args.kind, args.name)?;
    let name = name.ok_or_else(|| {
        Failure::usage(format!("which {} is to be described?", kind.as_str().to_lowercase()))
            .help(format!("name one: `tenure get {}` shows what there is", kind.plural()))
    })?;
    let source = Source::open(state, console).await?;
    let object = source.get(kind, &name).await?;
    let mut story = Story { text: String::new(), colour: console.colour, now: (console.now)() };
    story.title(kind, &object);
    let events = match kind {
        Kind::Job => {
            let about = About::of(&source, &name).await?;
            story.job(&object);
            story.runs(&names::runs_of(&source, &name).await?);
            let mut jobs = source.list(Kind::Job, &[]).await?;
            let uid = at(&object, "/metadata/uid");
            jobs.retain(|job| at(job, "/spec/parent/jobUid") == uid);
            story.sub_jobs(&jobs);
            let mut workloads = source.list(Kind::Workload, &[]).await?;
            workloads.retain(|workload| about.has_workload(&at(workload, "/metadata/name")));
            story.workloads(&workloads);
            let mut events = source.events(None, super::events::SEARCHED).await?;
            events.retain(|event| about.covers(event));
            events
        }
        Kind::StepRun => {
            story.run(&object);
            source.events(Some((kind, &name)), EVENTS).await?
        }
        Kind::Workload => {
            story.workload(&object, state);
            source.events(Some((kind, &name)), EVENTS).await?
        }
        Kind::Flow | Kind::AgentClass | Kind::MachineClass | Kind::Ledger | Kind::Policy => {
            story.common(&object);
            story.text.push_str(&format!("\n{}", whole_as_text(&object["spec"], Format::Yaml)?));
            source.events(Some((kind, &name)), EVENTS).await?
        }
    };
    story.events(&events);
    console.print(&story.text)?;
    Ok(Exit::Done)
}

/// The text as it grows.
struct Story {
    text: String,
    colour: bool,
    now: Time,
}

impl Story {
    fn paint(&self, tone: Tone, text: &str) -> String {
        paint(self.colour, tone, text)
    }

    /// `job triage-482: Failed (Abandoned)`, and the message below.
    fn title(&mut self, kind: Kind, object: &Value) {
        let who = format!("{} {}", kind.as_str().to_lowercase(), at(object, "/metadata/name"));
        self.text.push_str(&self.paint(Tone::Bold, &who));
        let (phase, reason) = (at(object, "/status/phase"), at(object, "/status/reason"));
        if !phase.is_empty() {
            let stage = at(object, "/status/stage/name");
            let more: Vec<String> = [stage, reason].into_iter().filter(|text| !text.is_empty()).collect();
            let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
            self.text.push_str(&format!(": {}{more}", self.paint(tone_of(&phase), &phase)));
        }
        self.text.push('\n');
        let message = at(object, "/status/message");
        for line in super::console::harmless(&message).lines() {
            self.text.push_str(&format!("  {line}\n"));
        }
    }

    fn field(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.text.push_str(&format!("  {name:<11} {}\n", one_line(&value)));
        }
    }

    fn heading(&mut self, text: &str) {
        self.text.push_str(&format!("\n{}\n", self.paint(Tone::Bold, text)));
    }

    fn common(&mut self, object: &Value) {
        self.field("created", self.when(object, "/metadata/creationTimestamp"));
        self.field("uid", at(object, "/metadata/uid"));
        for (name, path) in [("labels", "/metadata/labels"), ("annotations", "/metadata/annotations")] {
            self.field(name, pairs(object.pointer(path)));
        }
    }

    /// `2026-… (3m ago)`.
    fn when(&self, object: &Value, path: &str) -> String {
        let age = age_at(object, path, self.now);
        time_at(object, path).map(|time| format!("{time} ({age} ago)")).unwrap_or_default()
    }

    fn job(&mut self, job: &Value) {
        self.field("flow", flow_of(job));
        self.field("wanted", at(job, "/spec/state"));
        self.field("parent", parent(job));
        self.field("after", before(job));
        self.field("inputs", pairs(job.pointer("/spec/inputs")));
        self.field("outputs", pairs(job.pointer("/status/outputs")));
        self.times(job);
        self.field("deadline", at(job, "/spec/deadline"));
        self.field("cost", cost(job));
        self.common(job);
        for condition in job.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten() {
            let status = if condition["status"] == true { "yes" } else { "no" };
            let name = at(condition, "/type");
            self.field(
                "condition",
                format!("{name}: {status} ({}) {}", at(condition, "/reason"), at(condition, "/message")),
            );
        }
    }

    fn times(&mut self, object: &Value) {
        self.field("started", self.when(object, "/status/startedAt"));
        let took = duration_between(object, "/status/startedAt", "/status/finishedAt", self.now);
        match time_at(object, "/status/finishedAt") {
            Some(_) if took.is_empty() => self.field("finished", self.when(object, "/status/finishedAt")),
            Some(_) => self.field("finished", format!("{}, after {took}", self.when(object, "/status/finishedAt"))),
            None => {}
        }
    }

    /// A line a run; below it what it gave, or why it did not.
    fn runs(&mut self, runs: &[Value]) {
        if runs.is_empty() {
            return;
        }
        self.heading("Runs");
        let title = |run: &Value| format!("{} #{}", at(run, "/spec/step"), at(run, "/spec/attempt"));
        let width = runs.iter().map(|run| title(run).chars().count()).max().unwrap_or(0);
        for run in runs {
            let phase = at(run, "/status/phase");
            let took = duration_between(run, "/status/startedAt", "/status/finishedAt", self.now);
            let mut facts = vec![took, cost(run), decision(run)];
            facts.retain(|fact| !fact.is_empty());
            let phase = self.paint(tone_of(&phase), &format!("{phase:<9}"));
            let line = format!("  {:<width$}  {phase}  {}", title(run), facts.join(", "));
            self.text.push_str(&format!("{}\n", line.trim_end()));
            let (reason, message) = (at(run, "/status/reason"), at(run, "/status/message"));
            let mut why = vec![reason, message];
            why.retain(|part| !part.is_empty());
            for detail in [why.join(": "), pairs(run.pointer("/status/outputs"))] {
                if !detail.is_empty() {
                    let detail = one_line(&detail);
                    self.text.push_str(&format!("  {:width$}  {}\n", "", self.paint(Tone::Dim, &detail)));
                }
            }
        }
    }

    /// A line a sub-job: those that are under way or ended badly first, and not more than so many.
    fn sub_jobs(&mut self, jobs: &[Value]) {
        if jobs.is_empty() {
            return;
        }
        self.heading("Sub-jobs");
        let mut jobs: Vec<&Value> = jobs.iter().collect();
        let place = |job: &Value| (at(job, "/spec/parent/run"), job["spec"]["parent"]["index"].as_u64());
        jobs.sort_by_key(|job| (at(job, "/status/phase") == "Succeeded", place(job)));
        let shown = jobs.get(..SUB_JOBS).unwrap_or(&jobs);
        let width = shown.iter().map(|job| at(job, "/metadata/name").chars().count()).max().unwrap_or(0);
        for job in shown {
            let phase = at(job, "/status/phase");
            let took = duration_between(job, "/status/startedAt", "/status/finishedAt", self.now);
            let mut facts = vec![took, cost(job), at(job, "/status/reason")];
            facts.retain(|fact| !fact.is_empty());
            let phase = self.paint(tone_of(&phase), &format!("{phase:<9}"));
            let line = format!("  {:<width$}  {phase}  {}", at(job, "/metadata/name"), facts.join(", "));
            self.text.push_str(&format!("{}\n", line.trim_end()));
        }
        let rest = jobs.len() - shown.len();
        if rest > 0 {
            self.text.push_str(&format!("  and {rest} more\n"));
        }
    }

    fn workloads(&mut self, workloads: &[Value]) {
        if workloads.is_empty() {
            return;
        }
        self.heading("Workloads");
        for workload in workloads {
            let phase = at(workload, "/status/phase");
            let mut facts = vec![at(workload, "/status/stage/name"), self.processes(workload), self.end(workload)];
            facts.retain(|fact| !fact.is_empty());
            let phase = self.paint(tone_of(&phase), &format!("{phase:<8}"));
            let (name, r#type) = (at(workload, "/metadata/name"), at(workload, "/spec/type"));
            self.text.push_str(format!("  {name}  {type:<7}  {phase}  {}", facts.join(", ")).trim_end());
            let command = self.paint(Tone::Dim, &one_line(&command(workload)));
            self.text.push_str(&format!("\n    {command}\n"));
        }
    }

    /// `pids 4711,4712 (3.1MB)`.
    fn processes(&self, workload: &Value) -> String {
        let pids = pids(workload);
        let memory = workload.pointer("/status/rssBytes").and_then(Value::as_u64).filter(|_| !pids.is_empty());
        let memory = memory.map(|memory| format!(" ({})", bytes(memory))).unwrap_or_default();
        if pids.is_empty() { String::new() } else { format!("pids {pids}{memory}") }
    }

    /// `exit 0, OwnerTerminal`.
    fn end(&self, workload: &Value) -> String {
        let exit = exit(workload);
        let exit = if exit.is_empty() { exit } else { format!("exit {exit}") };
        let facts = [exit, at(workload, "/status/cause")];
        facts.into_iter().filter(|fact| !fact.is_empty()).collect::<Vec<_>>().join(", ")
    }

    fn run(&mut self, run: &Value) {
        self.field("job", at(run, "/spec/job"));
        self.field("step", format!("{}, attempt {}", at(run, "/spec/step"), at(run, "/spec/attempt")));
        self.field("inputs", pairs(run.pointer("/spec/inputs")));
        self.field("outputs", pairs(run.pointer("/status/outputs")));
        self.field("decision", decision(run));
        self.field("workload", at(run, "/status/workload"));
        self.field("session", at(run, "/status/session"));
        self.field("usage", shortened(run.pointer("/status/usage")));
        self.field("cost", cost(run));
        self.times(run);
        self.common(run);
    }

    fn workload(&mut self, workload: &Value, state: &StateDir) {
        self.field("type", at(workload, "/spec/type"));
        self.field("class", at(workload, "/spec/class"));
        self.field("owners", owners(workload));
        self.field("run", at(workload, "/spec/run"));
        self.field("command", command(workload));
        self.field("directory", at(workload, "/spec/cwd"));
        self.field("processes", self.processes(workload));
        self.field("main pid", at(workload, "/status/pid"));
        self.field("cause", at(workload, "/status/cause"));
        self.field("exit", exit(workload));
        self.times(workload);
        let transcripts = state.transcripts(&at(workload, "/metadata/name").as_str().into());
        if transcripts.is_dir() {
            self.field("transcripts", transcripts.display().to_string());
        }
        self.common(workload);
    }

    fn events(&mut self, events: &[Event]) {
        let events = events.get(events.len().saturating_sub(EVENTS)..).unwrap_or_default();
        if events.is_empty() {
            return;
        }
        self.heading("Events");
        let rows: Vec<_> = events.iter().map(row).collect();
        let mut columns = Columns::new(&["", "", "", "", ""]);
        rows.iter().for_each(|row| columns.fit(row));
        for row in &rows {
            self.text.push_str(&format!("  {}", columns.line(row, self.colour)));
        }
    }
}

fn cost(object: &Value) -> String {
    object.pointer("/status/costUsd").and_then(Value::as_f64).map(usd).unwrap_or_default()
}

/// `job triage-all, run triage-all.each.1, item 3`.
fn parent(job: &Value) -> String {
    let Some(parent) = job.pointer("/spec/parent") else { return String::new() };
    let item = parent["index"].as_u64().map(|index| format!(", item {index}")).unwrap_or_default();
    format!("job {}, run {}{item}", at(parent, "/job"), at(parent, "/run"))
}

/// The jobs that come before one.
fn before(job: &Value) -> String {
    let after = job.pointer("/spec/after").and_then(Value::as_array).into_iter().flatten();
    let from = job.pointer("/spec/inputsFrom").and_then(Value::as_object).into_iter().flatten();
    let mut names: Vec<&str> = after.chain(from.map(|(_, from)| &from["job"])).filter_map(Value::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

/// `abandon, by rule `not_worth_it``.
fn decision(run: &Value) -> String {
    let action = at(run, "/status/decision/action");
    let target = at(run, "/status/decision/target");
    let target = if target.is_empty() { target } else { format!(" to {target}") };
    let rule = at(run, "/status/decision/rule");
    match (action.is_empty(), rule.is_empty()) {
        (true, _) => String::new(),
        (false, true) => format!("{action}{target}"),
        (false, false) => format!("{action}{target} by rule `{rule}`"),
    }
}

/// `a=1 b=two`.
fn pairs(map: Option<&Value>) -> String {
    let pairs = map.and_then(Value::as_object).into_iter().flatten();
    pairs.map(|(key, value)| format!("{key}={}", cut(&plain(value)))).collect::<Vec<_>>().join(" ")
}

fn shortened(value: Option<&Value>) -> String {
    value.map(|value| cut(&plain(value))).unwrap_or_default()
}

fn cut(text: &str) -> String {
    if text.chars().count() <= VALUE_MAX {
        return text.to_owned();
    }
    text.chars().take(VALUE_MAX).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_is_told_with_its_runs_and_workloads() {
        let job = json!({
            "metadata": {"name": "triage-482", "uid": "u1", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"team": "x"}},
            "spec": {"flowRef": "triage", "inputs": {"ticket": 482}, "state": "Running"},
            "status": {"phase": "Failed", "reason": "Abandoned", "message": "step `look`, rule `not_worth_it`", "costUsd": 0.5,
                       "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:01:05Z"},
        });
        let run = json!({
            "metadata": {"name": "triage-482.look.1"}, "spec": {"step": "look", "attempt": 1},
            "status": {"phase": "Completed", "outputs": {"result": "no"}, "decision": {"action": "abandon", "rule": "not_worth_it"},
                       "startedAt": "2026-01-01T00:00:01Z", "finishedAt": "2026-01-01T00:01:05Z"},
        });
        let other = json!({
            "metadata": {"name": "triage-482.look.1"}, "spec": {"step": "deeper", "attempt": 12},
            "status": {"phase": "Failed", "reason": "ExitStatus", "message": "exit status 1"},
        });
        let workload = json!({
            "metadata": {"name": "0198"}, "spec": {"type": "Adapter", "command": ["tenure-echo"]},
            "status": {"phase": "Stopping", "stage": {"name": "Ask"}, "pids": [41, 42], "rssBytes": 3_100_000, "cause": "OwnerTerminal"},
        });
        let mut story = Story { text: String::new(), colour: false, now: Time(1_767_225_700_000) };
        story.title(Kind::Job, &job);
        story.job(&job);
        story.runs(&[run, other]);
        let sub_job = |name: &str, phase: &str, index: u64| {
            json!({"metadata": {"name": name}, "spec": {"parent": {"job": "triage-482", "run": "triage-482.each.1", "index": index}},
                   "status": {"phase": phase}})
        };
        story.sub_jobs(&[sub_job("each-0", "Succeeded", 0), sub_job("each-1", "Running", 1)]);
        story.workloads(&[workload]);
        insta::assert_snapshot!(story.text, @r"
        job triage-482: Failed (Abandoned)
          step `look`, rule `not_worth_it`
          flow        triage
          wanted      Running
          inputs      ticket=482
          started     2026-01-01T00:00:00.000Z (100s ago)
          finished    2026-01-01T00:01:05.000Z (35s ago), after 1m5s
          cost        $0.5000
          created     2026-01-01T00:00:00.000Z (100s ago)
          uid         u1
          labels      team=x

        Runs
          look #1     Completed  1m4s, abandon by rule `not_worth_it`
                      result=no
          deeper #12  Failed
                      ExitStatus: exit status 1

        Sub-jobs
          each-1  Running
          each-0  Succeeded

        Workloads
          0198  Adapter  Stopping  Ask, pids 41,42 (3.1MB), OwnerTerminal
            tenure-echo
        ");
    }
}
