//! Who waits for other jobs: `spec.after` and `spec.inputsFrom`, asked until the job begins.
//!
//! A job that succeeded is there for good; one that failed, was cancelled, or was deleted while somebody waited for it fails
//! who waits. To tell one that was deleted from one that is not there yet, the job remembers whom it has seen, in the condition
//! [`SEEN`].

use super::shelf::Shelf;
use crate::model::{Condition, Job, JobPhase, OutputOf, Reading, Time};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The condition of a job that names the jobs before it that were seen.
const SEEN: &str = "JobsSeen";

/// What the jobs before a job mean for it.
#[derive(Debug, PartialEq)]
pub(super) enum Before {
    /// All have succeeded: these are the values that they give.
    Done(BTreeMap<String, Value>),
    /// It waits: the reason, in a word and in words, and whom it has seen by now.
    Wait(&'static str, String, BTreeSet<String>),
    /// It fails: the reason, in a word and in words.
    Fail(&'static str, String),
}

/// The jobs of a pass by name, as far as somebody waits for one.
pub(super) struct Dependencies<'a> {
    by_name: HashMap<&'a str, &'a Arc<Job>>,
    in_circles: BTreeMap<&'a str, Vec<&'a str>>,
    shelf: &'a dyn Shelf,
}

/// Whether a job waits for others before it begins.
pub(super) fn waits(job: &Job) -> bool {
    let asks = !job.spec.after.is_empty() || !job.spec.inputs_from.is_empty();
    asks && job.status.started_at.is_none() && !job.is_over()
}

/// A job that failed before it began, and is to be tried again, waits anew, as if it had seen nobody.
pub(super) fn wait_anew(job: &mut Arc<Job>) {
    if !job.status.phase.is_terminal() {
        return;
    }
    let job = Arc::make_mut(job);
    job.status.retried = job.spec.retry;
    job.status.phase = JobPhase::Pending;
    (job.status.reason, job.status.message, job.status.finished_at) = (None, None, None);
    job.status.conditions.retain(|condition| condition.r#type != SEEN);
}

/// The names of the jobs before a job, each once.
fn names(job: &Job) -> BTreeSet<&str> {
    let of_inputs = job.spec.inputs_from.values().map(|from| from.job.as_str());
    job.spec.after.iter().map(String::as_str).chain(of_inputs).collect()
}

impl<'a> Dependencies<'a> {
    /// Of these jobs. Costs nothing where nobody waits.
    pub(super) fn of(jobs: impl Iterator<Item = &'a Arc<Job>> + Clone, shelf: &'a dyn Shelf) -> Dependencies<'a> {
        let waiting: BTreeMap<&str, BTreeSet<&str>> =
            jobs.clone().filter(|job| waits(job)).map(|job| (job.metadata.name.as_str(), names(job))).collect();
        let by_name = match waiting.is_empty() {
            true => HashMap::new(),
            false => jobs.map(|job| (job.metadata.name.as_str(), job)).collect(),
        };
        Dependencies { by_name, in_circles: circles(waiting), shelf }
    }

    /// What the jobs before this one mean for it.
    pub(super) fn before(&self, job: &Job) -> Before {
        if let Some(circle) = self.in_circles.get(job.metadata.name.as_str()) {
            let words: Vec<String> = circle.iter().map(|name| format!("`{name}`")).collect();
            return Before::Fail("DependencyCircle", format!("jobs wait for each other: {}", words.join(" → ")));
        }
        let mut seen = seen_by(job);
        let (mut missing, mut pending, mut unknown) = (Vec::new(), Vec::new(), None);
        let mut outputs: BTreeMap<&str, Value> = BTreeMap::new();
        for name in names(job) {
            let found = match self.by_name.get(name) {
                Some(job) => Reading::Known(Some(Job::clone(job))),
                None => self.shelf.job(name),
            };
            match found {
                Reading::Unknown(why) => unknown = Some(why),
                Reading::Known(None) if seen.contains(name) => {
                    return Before::Fail("DependencyFailed", format!("job `{name}` was deleted before it succeeded"));
                }
                Reading::Known(None) => missing.push(format!("`{name}`")),
                Reading::Known(Some(other)) => {
                    seen.insert(name.to_owned());
                    let is_deleted = other.metadata.deletion_timestamp.is_some();
                    match other.status.phase {
                        JobPhase::Succeeded => drop(outputs.insert(name, other.status.outputs.unwrap_or_default())),
                        JobPhase::Failed | JobPhase::Cancelled if !other.is_to_be_retried() => {
                            return Before::Fail("DependencyFailed", ended(&other));
                        }
                        _ if is_deleted => {
                            return Before::Fail("DependencyFailed", format!("job `{name}` is being deleted"));
                        }
                        _ => pending.push(format!("`{name}` is {}", other.status.phase.as_str())),
                    }
                }
            }
        }
        if let Some(why) = unknown {
            return Before::Wait("JobsPending", format!("the jobs before it can not be read: {why}"), seen);
        }
        if !missing.is_empty() {
            return Before::Wait("JobMissing", format!("there is no job {} (yet)", missing.join(", ")), seen);
        }
        if !pending.is_empty() {
            return Before::Wait("JobsPending", format!("it waits for other jobs: {}", pending.join(", ")), seen);
        }
        match values(&job.spec.inputs_from, &outputs) {
            Ok(values) => Before::Done(values),
            Err(message) => Before::Fail("OutputMissing", message),
        }
    }
}

fn ended(job: &Job) -> String {
    let reason = job.status.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("job `{}` is {}{reason}", job.metadata.name, job.status.phase.as_str())
}

/// Whom a job has seen so far.
fn seen_by(job: &Job) -> BTreeSet<String> {
    let condition = job.status.conditions.iter().find(|condition| condition.r#type == SEEN);
    let names = condition.into_iter().flat_map(|condition| condition.message.split(", "));
    names.map(str::to_owned).collect()
}

/// Notes on a job whom it has seen.
pub(super) fn note_seen(job: &mut Arc<Job>, seen: &BTreeSet<String>, now: Time) {
    if seen_by(job) == *seen {
        return;
    }
    let message = seen.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let conditions = &mut Arc::make_mut(job).status.conditions;
    conditions.retain(|condition| condition.r#type != SEEN);
    conditions.push(Condition {
        r#type: SEEN.into(),
        status: true,
        reason: "Waiting".into(),
        message,
        last_transition_time: now,
        observed_generation: None,
    });
}

/// The values that the outputs of the jobs before give.
fn values(
    wanted: &BTreeMap<String, OutputOf>,
    outputs: &BTreeMap<&str, Value>,
) -> Result<BTreeMap<String, Value>, String> {
    let none = Value::Object(Map::new());
    let value = |(name, from): (&String, &OutputOf)| {
        let all = outputs.get(from.job.as_str()).unwrap_or(&none);
        let value = match &from.output {
            None => Some(all),
            Some(path) => path.split('.').try_fold(all, |value, key| match value {
                Value::Array(list) => list.get(key.parse::<usize>().ok()?),
                value => value.get(key),
            }),
        };
        let missing = || {
            let output = from.output.as_deref().unwrap_or_default();
            format!("input `{name}`: job `{}` has given no output `{output}`", from.job)
        };
        Ok((name.clone(), value.ok_or_else(missing)?.clone()))
    };
    wanted.iter().map(value).collect()
}

/// Of the jobs that wait, those that wait for themselves in the end, each with its way around.
fn circles<'a>(mut waiting: BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeMap<&'a str, Vec<&'a str>> {
    // Who waits for nobody that waits is in none.
    loop {
        let free: Vec<&str> = waiting
            .iter()
            .filter(|(_, on)| !on.iter().any(|on| waiting.contains_key(on)))
            .map(|(name, _)| *name)
            .collect();
        if free.is_empty() {
            break;
        }
        free.iter().for_each(|name| drop(waiting.remove(name)));
    }
    let around = |start: &'a str| {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut open = vec![start];
        while let Some(name) = open.pop() {
            for &next in waiting.get(name).into_iter().flatten() {
                if next == start {
                    let mut way = vec![start, name];
                    while let Some(&before) =
                        way.last().filter(|last| **last != start).and_then(|last| came_from.get(last))
                    {
                        way.push(before);
                    }
                    way.reverse();
                    return Some((start, way));
                }
                if waiting.contains_key(next) && !came_from.contains_key(next) {
                    came_from.insert(next, name);
                    open.push(next);
                }
            }
        }
        None
    };
    waiting.keys().filter_map(|start| around(start)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Meta;
    use serde_json::json;

    /// The jobs that have ended.
    struct Ended(Vec<Job>);

    impl Shelf for Ended {
        fn job(&self, name: &str) -> Reading<Option<Job>> {
            Reading::Known(self.0.iter().find(|job| job.metadata.name == name).cloned())
        }

        fn flow_file(&self, _: Option<&str>, _: &str) -> Result<super::super::shelf::FlowFile, String> {
            Err("there are no files".to_owned())
        }
    }

    fn job(name: &str, phase: JobPhase, after: &[&str]) -> Arc<Job> {
        let mut job = Job { metadata: Meta::named(name), ..Job::default() };
        job.status.phase = phase;
        job.spec.after = after.iter().map(|name| (*name).to_owned()).collect();
        Arc::new(job)
    }

    fn before(job: &Arc<Job>, others: &[Arc<Job>], ended: &[Arc<Job>]) -> Before {
        let shelf = Ended(ended.iter().map(|job| Job::clone(job)).collect());
        let all: Vec<Arc<Job>> = others.iter().chain([job]).cloned().collect();
        Dependencies::of(all.iter(), &shelf).before(job)
    }

    fn word(before: &Before) -> &str {
        match before {
            Before::Done(_) => "Done",
            Before::Wait(reason, ..) | Before::Fail(reason, _) => reason,
        }
    }

    #[test]
    fn a_job_begins_when_all_before_it_have_succeeded() {
        use JobPhase::*;
        for (phase, expected) in [
            (Pending, "JobsPending"),
            (Running, "JobsPending"),
            (Paused, "JobsPending"),
            (Succeeded, "Done"),
            (Failed, "DependencyFailed"),
            (Cancelled, "DependencyFailed"),
        ] {
            let (one, other) = (job("one", Succeeded, &[]), job("other", phase, &[]));
            let found = before(&job("j", Pending, &["one", "other"]), &[], &[one, other]);
            assert_eq!(word(&found), expected, "{phase:?}: {found:?}");
        }
        assert_eq!(word(&before(&job("j", Pending, &["one"]), &[], &[])), "JobMissing");
        let mut retried = job("one", Failed, &[]);
        Arc::make_mut(&mut retried).spec.retry = 1;
        assert_eq!(word(&before(&job("j", Pending, &["one"]), &[retried], &[])), "JobsPending");
    }

    #[test]
    fn one_that_was_seen_and_is_no_more_was_deleted() {
        let mut waiting = job("j", JobPhase::Pending, &["one"]);
        let Before::Wait(_, _, seen) = before(&waiting, &[job("one", JobPhase::Running, &[])], &[]) else { panic!() };
        note_seen(&mut waiting, &seen, Time(1));
        let noted = waiting.clone();
        note_seen(&mut waiting, &seen, Time(2));
        assert_eq!(waiting, noted);
        assert_eq!(word(&before(&waiting, &[], &[])), "DependencyFailed");
    }

    #[test]
    fn who_waits_for_itself_is_told_the_way_around() {
        let jobs = [
            job("a", JobPhase::Pending, &["b"]),
            job("b", JobPhase::Pending, &["c", "x"]),
            job("c", JobPhase::Pending, &["a"]),
            job("d", JobPhase::Pending, &["a"]),
            job("self", JobPhase::Pending, &["self"]),
        ];
        let of = |at: usize| before(&jobs[at], &jobs, &[]);
        for at in [0, 1, 2] {
            assert_eq!(word(&of(at)), "DependencyCircle", "{:?}", of(at));
        }
        assert_eq!(of(0), Before::Fail("DependencyCircle", "jobs wait for each other: `a` → `b` → `c` → `a`".into()));
        assert_eq!(of(4), Before::Fail("DependencyCircle", "jobs wait for each other: `self` → `self`".into()));
        // It is not in the circle: it fails with it.
        assert_eq!(word(&of(3)), "JobsPending");
    }

    #[test]
    fn outputs_of_the_jobs_before_are_inputs() {
        let mut one = job("one", JobPhase::Succeeded, &[]);
        Arc::make_mut(&mut one).status.outputs = Some(json!({"a": {"b": [1, 2]}}));
        let mut asking = job("j", JobPhase::Pending, &[]);
        let from = |output: Option<&str>| OutputOf { job: "one".into(), output: output.map(str::to_owned) };
        let wanted = [("all", None), ("list", Some("a.b")), ("second", Some("a.b.1"))];
        Arc::make_mut(&mut asking).spec.inputs_from = wanted.map(|(name, output)| (name.into(), from(output))).into();
        let Before::Done(values) = before(&asking, &[], &[one.clone()]) else { panic!() };
        assert_eq!(json!(values), json!({"all": {"a": {"b": [1, 2]}}, "list": [1, 2], "second": 2}));
        Arc::make_mut(&mut asking).spec.inputs_from.insert("x".into(), from(Some("no.such")));
        let message = "input `x`: job `one` has given no output `no.such`".to_owned();
        assert_eq!(before(&asking, &[], &[one]), Before::Fail("OutputMissing", message));
    }
}
