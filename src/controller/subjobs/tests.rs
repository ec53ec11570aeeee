//! Sub-jobs through whole passes, with mocks for their work: no process is needed for these.

use super::*;
use crate::controller::Rehearsal;
use crate::model::{AnyObject, BootId, Breadth, JobState, Observed, PolicySpec, RunPhase, Span};
use crate::os::StateDir;
use crate::store::{Store, Txn};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use tempfile::TempDir;

/// A store, and a loop on it whose time passes as the test says.
struct Bench {
    _dir: TempDir,
    store: Arc<Store>,
    rehearsal: Rehearsal,
    now: Time,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join("tenure.db")).unwrap());
        let rehearsal = Rehearsal::new(store.clone(), StateDir(dir.path().join("state")));
        Bench { _dir: dir, store, rehearsal, now: Time(1_767_225_600_000) }
    }

    fn put(&self, object: AnyObject) {
        self.store.commit(Txn::new().put(object), self.now).unwrap();
    }

    fn start(&self, name: &str, steps: Value, more: impl FnOnce(&mut JobSpec)) {
        let mut spec = JobSpec { flow: Some(Arc::new(json!({"steps": steps}))), ..JobSpec::default() };
        more(&mut spec);
        self.put(AnyObject::Job(Job { metadata: Meta::named(name), spec, ..Job::default() }));
    }

    fn job(&self, name: &str) -> Job {
        match self.store.get(Kind::Job, name).unwrap() {
            Some(AnyObject::Job(job)) => job,
            other => panic!("{name}: {other:?}"),
        }
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Job)) {
        let mut job = self.job(name);
        change(&mut job);
        self.put(AnyObject::Job(job));
    }

    /// One pass, so many milliseconds later. Gives whether something was written.
    fn pass(&mut self, later_ms: i64) -> bool {
        self.now = Time(self.now.0 + later_ms);
        let observed = Observed {
            look: 1,
            as_of: self.now,
            breadth: Breadth::Host,
            boot_id: BootId("boot".into()),
            workloads: Reading::Known(BTreeMap::new()),
        };
        self.rehearsal.pass(&observed, self.now).unwrap().is_none()
    }

    /// Passes until nothing follows any more.
    fn settle(&mut self) {
        while self.pass(1) {}
    }

    /// The phase of a job, with its reason.
    fn phase(&self, name: &str) -> (JobPhase, String) {
        let status = self.job(name).status;
        (status.phase, status.reason.unwrap_or_default())
    }

    fn jobs(&self) -> Vec<Job> {
        let all = self.store.list(Kind::Job).unwrap().into_iter();
        all.filter_map(|it| if let AnyObject::Job(job) = it { Some(job) } else { None }).collect()
    }
}

fn mock(responses: Value) -> Value {
    json!({"executor": "mock_llm", "latency_range": [0, 0], "responses": responses})
}

/// A mock that never answers in time.
fn slow() -> Value {
    json!({"executor": "mock_llm", "latency_range": [1_000_000, 1_000_000]})
}

fn failing() -> Value {
    json!({"executor": "mock_llm", "latency_range": [0, 0], "failure_rate": 1})
}

#[test]
fn a_thousand_items_are_each_done_once_sixteen_at_a_time_and_leave_nothing_active() {
    const ITEMS: usize = 1_000;
    let mut bench = Bench::new();
    let flow = json!({"steps": {"a": mock(json!({"n": 1}))}});
    bench.start("all", json!({"each": {"for_each": "$job.items", "flow": flow}}), |spec| {
        spec.inputs.insert("items".into(), (0..ITEMS).collect());
    });
    let (mut most, mut passes) = (0, 0);
    while bench.pass(1) {
        passes += 1;
        let snapshot = bench.store.snapshot().unwrap();
        most = most.max(snapshot.jobs.values().filter(|job| job.spec.parent.is_some() && !job.is_over()).count());
    }
    assert_eq!(bench.phase("all").0, JobPhase::Succeeded);
    assert_eq!(most, 16);
    assert!(passes < 6 * ITEMS / 16, "{passes} passes");
    let results = &bench.job("all").status.outputs.unwrap()["results"];
    assert_eq!(*results, json!(vec![json!({"n": 1}); ITEMS]));
    let jobs = bench.jobs();
    assert_eq!(jobs.len(), ITEMS + 1);
    for job in jobs.iter().filter(|job| job.spec.parent.is_some()) {
        assert!(job.status.collected && job.metadata.generation == 1, "{job:?}");
        assert_eq!(job.spec.inputs["item"], json!(index_of(job)));
    }
    assert!(bench.store.snapshot().unwrap().jobs.is_empty());
}

#[test]
fn what_ends_below_ends_what_is_above_in_the_same_transaction_and_what_ends_above_what_is_below() {
    let mut bench = Bench::new();
    let deep = |step: Value| json!({"one": {"flow": {"steps": {"two": {"flow": {"steps": {"work": step}}}}}}});
    bench.start("up", deep(mock(json!({"x": 1}))), |_| ());
    bench.start("down", deep(slow()), |_| ());
    let deepest = |top: &str| format!("{top}.one.1.two.1");
    let is_over = |bench: &Bench| bench.job("up").is_over();
    while !is_over(&bench) {
        assert!(bench.pass(1));
        let ended = bench.jobs().into_iter().filter(|job| job.metadata.name.starts_with("up") && job.is_over()).count();
        assert!(ended == 0 || ended == 3, "{ended} of 3 have ended");
    }
    assert_eq!(bench.job("up").status.outputs, Some(json!({"x": 1})));
    bench.settle();
    assert_eq!(bench.phase(&deepest("down")), (JobPhase::Running, String::new()));
    bench.change("down", |job| job.spec.state = JobState::Cancelled);
    assert!(bench.pass(1));
    let cancelled: Vec<_> =
        ["down".to_owned(), "down.one.1".into(), deepest("down")].map(|name| bench.phase(&name)).into();
    let by = |reason: &str| (JobPhase::Cancelled, reason.to_owned());
    assert_eq!(cancelled, [by("Cancelled"), by("ParentEnded"), by("ParentEnded")]);
    assert!(bench.store.snapshot().unwrap().jobs.is_empty());
}

#[test]
fn sub_jobs_of_a_job_that_was_deleted_end_at_once() {
    let mut bench = Bench::new();
    bench.start("top", json!({"one": {"flow": {"steps": {"two": {"flow": {"steps": {"work": slow()}}}}}}}), |_| ());
    bench.settle();
    bench.store.commit(Txn::new().delete(Kind::Job, "top", 0), bench.now).unwrap();
    assert!(bench.pass(1));
    for name in ["top.one.1", "top.one.1.two.1"] {
        assert_eq!(bench.phase(name), (JobPhase::Cancelled, "ParentEnded".into()));
    }
    assert!(bench.store.snapshot().unwrap().jobs.is_empty());
    // Another job of the name has sub-jobs of these names: what is left is not in its way.
    bench.start("top", json!({"one": {"flow": {"steps": {"work": mock(json!({"x": 1}))}}}}), |_| ());
    for _ in 0..5 {
        bench.rehearsal.resync();
    }
    bench.settle();
    assert_eq!(bench.phase("top").0, JobPhase::Succeeded);
}

#[test]
fn a_retry_decorator_begins_what_failed_below_again() {
    let mut bench = Bench::new();
    let steps = json!({"sub": {"flow": {"steps": {"a": mock(json!({"x": 1})), "b": failing()}},
                               "decorators": [{"retry": {"max_retries": 2}}]}});
    bench.start("top", steps, |_| ());
    bench.settle();
    assert_eq!(bench.phase("top"), (JobPhase::Failed, "StepFailed".into()));
    let child = bench.job("top.sub.1");
    assert_eq!((child.spec.retry, child.status.retried, child.spec.parent.unwrap().round), (2, 2, (1, 3)));
    let attempts = |step: &str| {
        let runs = bench.store.list(Kind::StepRun).unwrap();
        let of = format!("top.sub.1.{step}.");
        runs.iter().filter(|run| run.meta().name.starts_with(&of)).count()
    };
    assert_eq!((attempts("a"), attempts("b")), (1, 3), "what succeeded stays");
}

#[test]
fn a_retry_goes_down_to_what_failed_and_nothing_is_begun_beyond_the_limit() {
    let mut bench = Bench::new();
    let policy = PolicySpec {
        max_concurrent: crate::model::MaxConcurrent { items: 2, ..Default::default() },
        ..PolicySpec::default()
    };
    bench.put(AnyObject::Policy(crate::model::Policy {
        metadata: Meta::named("default"),
        spec: policy,
        ..Default::default()
    }));
    let gate = json!({"gate": {"executor": "external", "when": "item % 2 == 1", "inputs": {"item": "$job.item"},
                               "exits": [{"when": "True", "action": "abandon"}]},
                      "work": mock(json!({"x": 1}))});
    bench.start(
        "top",
        json!({"each": {"for_each": "$job.items", "on_error": "continue", "flow": {"steps": gate}}}),
        |spec| {
            spec.inputs.insert("items".into(), (0..6).collect());
        },
    );
    bench.settle();
    // Whatever waits is abandoned, until all is over.
    let abandon = |bench: &mut Bench| {
        while let Some(run) = waiting(bench) {
            let job = bench.job(&run.spec.job);
            let flow = crate::flow::compile(job.status.flow.as_ref().unwrap()).flow.unwrap();
            let run = crate::flow::fulfil(&flow, &run, serde_json::Map::new(), bench.now).unwrap();
            bench.put(AnyObject::StepRun(run));
            bench.settle();
        }
    };
    abandon(&mut bench);
    assert_eq!(bench.phase("top").0, JobPhase::Succeeded, "with `continue`, some may fail");
    bench.start("again", json!({"each": {"for_each": "$job.items", "flow": {"steps": gate_all()}}}), |spec| {
        spec.inputs.insert("items".into(), (0..5).collect());
    });
    bench.settle();
    abandon(&mut bench);
    assert_eq!(bench.phase("again").0, JobPhase::Failed);
    let first = bench.job("again.each.1-0");
    bench.change("again", |job| job.spec.retry += 1);
    bench.settle();
    assert_eq!(bench.phase("again").0, JobPhase::Running);
    let open = bench.jobs().into_iter().filter(|job| job.metadata.name.starts_with("again.") && !job.is_over());
    let open: BTreeSet<String> = open.map(|job| job.metadata.name).collect();
    assert_eq!(open, BTreeSet::from(["again.each.1-0".to_owned(), "again.each.1-1".to_owned()]));
    let again = bench.job("again.each.1-0");
    assert_eq!((again.metadata.uid, again.spec.retry), (first.metadata.uid, 1));
}

fn gate_all() -> Value {
    json!({"gate": {"executor": "external", "exits": [{"when": "True", "action": "abandon"}]}})
}

fn waiting(bench: &Bench) -> Option<StepRun> {
    let runs = bench.store.list(Kind::StepRun).unwrap();
    runs.into_iter().find_map(|it| match it {
        AnyObject::StepRun(run) if run.status.phase == RunPhase::Suspended => Some(run),
        _ => None,
    })
}

#[test]
fn the_deadline_of_a_job_ends_what_is_below_and_what_waits_above_has_its_own() {
    let mut bench = Bench::new();
    bench.start("top", json!({"sub": {"flow": {"steps": {"work": slow()}}}}), |spec| {
        spec.deadline = Some(Span::seconds(10))
    });
    bench.start("waits", json!({"work": mock(json!({}))}), |spec| {
        spec.after = vec!["top".into()];
        spec.deadline = Some(Span::seconds(5));
    });
    bench.settle();
    bench.pass(9_000);
    // From its start on: it has not begun.
    assert_eq!(bench.phase("waits"), (JobPhase::Pending, "JobsPending".into()));
    assert_eq!(bench.phase("top.sub.1").0, JobPhase::Running);
    bench.pass(2_000);
    assert_eq!(bench.phase("top"), (JobPhase::Failed, "DeadlineExceeded".into()));
    assert_eq!(bench.phase("top.sub.1"), (JobPhase::Cancelled, "ParentEnded".into()));
    bench.settle();
    assert_eq!(bench.phase("waits"), (JobPhase::Failed, "DependencyFailed".into()));
}

#[test]
fn a_job_that_failed_before_it_began_waits_anew_when_it_is_retried() {
    let mut bench = Bench::new();
    bench.start("first", json!({"work": failing()}), |_| ());
    bench.start("second", json!({"work": mock(json!({"x": 1}))}), |spec| spec.after = vec!["first".into()]);
    bench.settle();
    assert_eq!(bench.phase("second"), (JobPhase::Failed, "DependencyFailed".into()));
    bench.store.commit(Txn::new().delete(Kind::Job, "first", 0), bench.now).unwrap();
    bench.change("second", |job| job.spec.retry += 1);
    bench.settle();
    assert_eq!(bench.phase("second"), (JobPhase::Pending, "JobMissing".into()));
    bench.rehearsal.resync();
    bench.start("first", json!({"work": mock(json!({"x": 1}))}), |_| ());
    bench.settle();
    assert_eq!(bench.phase("second").0, JobPhase::Succeeded);
}

#[test]
fn flows_are_nested_so_deep_and_no_deeper() {
    let mut bench = Bench::new();
    let mut flow = json!({"steps": {"work": mock(json!({"x": 1}))}});
    for _ in 0..DEEPEST {
        flow = json!({"steps": {"s": {"flow": flow}}});
    }
    bench.start("deep", flow["steps"].clone(), |_| ());
    bench.settle();
    let job = bench.job("deep");
    assert_eq!(job.status.phase, JobPhase::Failed);
    assert!(job.status.message.unwrap().contains("FlowTooDeep"));
}

#[test]
fn names_fit_and_differ() {
    let run = StepRun::default();
    assert_eq!(name("j.s.1", None, &run), "j.s.1");
    assert_eq!(name("j.s.1", Some(3), &run), "j.s.1-3");
    let (one, other) = (name("j.sö.1", Some(3), &run), name("j.sü.1", Some(3), &run));
    assert!(one != other && crate::manifest::is_name(&one), "{one}");
    let long = name(&"x".repeat(300), Some(1_000), &run);
    assert!(long.len() <= NAME_MAX && long.ends_with("-1000"), "{long}");
}
