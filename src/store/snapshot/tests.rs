//! A snapshot that was renewed row by row is the one that reading everything gives: whatever was written, by whomever.

use super::*;
use crate::model::*;
use crate::store::{Txn, lock};
use proptest::prelude::*;
use tempfile::TempDir;

const NOW: Time = Time(1_767_225_600_000);
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// One thing that somebody does to the store.
#[derive(Debug, Clone)]
enum Step {
    /// A job is written in this phase, made if it was not there; of this parent, which may be gone; what is more: is it
    /// collected, and to be retried.
    Job(usize, JobPhase, Option<usize>, bool, bool),
    /// A run of a job, if that is there.
    Run(usize, &'static str, u32, RunPhase),
    /// A workload of two owners, which may be gone.
    Workload(usize, [usize; 2], WorkloadPhase),
    /// A flow and a class.
    Others(usize),
    Policy(u32),
    Delete(Kind, usize),
    /// A job goes, and another one takes its name, in one transaction.
    Replace(usize),
    /// An event only.
    Event,
    /// Another program makes rows inactive, or active, and bumps no revision.
    StrangerEnds(usize),
    StrangerDeletes(usize),
    StrangerWritesNoObject,
    /// Somebody looks, and does not let go of what it saw.
    Look,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = || 0..NAMES.len();
    let job_phase = prop::sample::select(vec![JobPhase::Pending, JobPhase::Running, JobPhase::Failed]);
    let run_phase = prop::sample::select(vec![RunPhase::Pending, RunPhase::Running, RunPhase::Completed]);
    let phase = prop::sample::select(vec![WorkloadPhase::Starting, WorkloadPhase::Running, WorkloadPhase::Stopped]);
    let kind = prop::sample::select(Kind::ALL.to_vec());
    let step = prop_oneof![
        6 => (at(), job_phase, prop::option::of(at()), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(at, phase, parent, collected, retry)| Step::Job(at, phase, parent, collected, retry)),
        4 => (at(), prop::sample::select(vec!["s", "t.u"]), 1..12_u32, run_phase)
            .prop_map(|(at, step, attempt, phase)| Step::Run(at, step, attempt, phase)),
        4 => (at(), [at(), at()], phase).prop_map(|(at, owners, phase)| Step::Workload(at, owners, phase)),
        1 => at().prop_map(Step::Others),
        1 => (1..9_u32).prop_map(Step::Policy),
        3 => (kind, at()).prop_map(|(kind, at)| Step::Delete(kind, at)),
        1 => at().prop_map(Step::Replace),
        1 => Just(Step::Event),
        1 => at().prop_map(Step::StrangerEnds),
        1 => at().prop_map(Step::StrangerDeletes),
        1 => Just(Step::StrangerWritesNoObject),
        3 => Just(Step::Look),
    ];
    prop::collection::vec(step, 1..60)
}

struct Bench {
    _dir: TempDir,
    store: Store,
    stranger: Connection,
    /// Uids of all jobs that ever were, so that owners may be gone.
    uids: Vec<JobUid>,
    held: Option<Arc<Snapshot>>,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tenure.db");
        let store = Store::open(&path).unwrap();
        // The disk is not what is tested here.
        lock(store.writer.as_ref().unwrap()).connection.pragma_update(None, "synchronous", "OFF").unwrap();
        let stranger = Connection::open(&path).unwrap();
        stranger.pragma_update(None, "synchronous", "OFF").unwrap();
        Bench { _dir: dir, store, stranger, uids: vec![JobUid::from("never-was")], held: None }
    }

    fn commit(&mut self, txn: Txn) {
        for object in self.store.commit(txn, NOW).unwrap().objects {
            if let AnyObject::Job(job) = object {
                self.uids.push(job.uid());
            }
        }
    }

    fn put(&mut self, mut object: AnyObject) {
        let stored = self.store.get(object.kind(), &object.meta().name).unwrap();
        object.meta_mut().resource_version = stored.map_or(0, |stored| stored.meta().resource_version);
        self.commit(Txn::new().put(object));
    }

    fn job(&self, at: usize) -> Option<Job> {
        match self.store.get(Kind::Job, NAMES[at]).unwrap() {
            Some(AnyObject::Job(job)) => Some(job),
            _ => None,
        }
    }

    fn newest(&self, at: usize) -> JobUid {
        self.uids[self.uids.len().saturating_sub(1 + at)].clone()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Job(at, phase, parent, collected, retry) => {
                let mut job = Job { metadata: Meta::named(NAMES[*at]), ..Job::default() };
                (job.status.phase, job.status.collected) = (*phase, *collected);
                job.spec.retry = u32::from(*retry);
                job.spec.parent = parent.map(|at| Parent {
                    job: NAMES[at].into(),
                    job_uid: self.newest(at),
                    run: format!("{}.s.1", NAMES[at]),
                    index: None,
                    round: (1, 0),
                    within: Vec::new(),
                });
                self.put(AnyObject::Job(job));
            }
            Step::Run(at, step, attempt, phase) => {
                let Some(job) = self.job(*at) else { return };
                let (name, step) = (format!("{}.{step}.{attempt}", job.metadata.name), (*step).to_owned());
                let spec = RunSpec {
                    job: NAMES[*at].into(),
                    job_uid: job.uid(),
                    step,
                    attempt: *attempt,
                    ..Default::default()
                };
                let mut run = StepRun { metadata: Meta::named(name), spec, status: RunStatus::default() };
                run.status.phase = *phase;
                self.put(AnyObject::StepRun(run));
            }
            Step::Workload(at, owners, phase) => {
                let mut workload = Workload { metadata: Meta::named(format!("w{at}")), ..Workload::default() };
                workload.metadata.uid = workload.metadata.name.clone();
                workload.spec.owners =
                    owners.iter().map(|at| Owner { name: NAMES[*at].into(), uid: self.newest(*at) }).collect();
                workload.status.phase = *phase;
                self.put(AnyObject::Workload(workload));
            }
            Step::Others(at) => {
                let mut flow = Flow { metadata: Meta::named(NAMES[*at]), ..Flow::default() };
                flow.metadata.labels.insert("uids".into(), self.uids.len().to_string());
                self.put(AnyObject::Flow(flow));
                self.put(AnyObject::AgentClass(AgentClass { metadata: Meta::named(NAMES[*at]), ..Default::default() }));
            }
            Step::Policy(most) => {
                let mut policy = Policy { metadata: Meta::named("default"), ..Policy::default() };
                policy.spec.max_reaps_per_minute = *most;
                self.put(AnyObject::Policy(policy));
            }
            Step::Delete(kind, at) => {
                let objects = self.store.list(*kind).unwrap();
                if let Some(object) = objects.get(at % objects.len().max(1)) {
                    self.commit(Txn::new().delete(*kind, object.meta().name.clone(), 0));
                }
            }
            Step::Replace(at) => {
                let job = Job { metadata: Meta::named(NAMES[*at]), ..Job::default() };
                self.commit(Txn::new().delete(Kind::Job, NAMES[*at], 0).put(AnyObject::Job(job)));
            }
            Step::Event => {
                let event = Event {
                    id: 0,
                    time: NOW,
                    kind: Kind::Job,
                    name: "a".into(),
                    r#type: EventType::Normal,
                    reason: "Something".into(),
                    message: "happened".into(),
                    details: serde_json::Value::Null,
                };
                self.commit(Txn::new().event(event));
            }
            Step::StrangerEnds(at) => {
                self.strange("UPDATE objects SET active = 1 - active WHERE name = ?1", NAMES[*at])
            }
            Step::StrangerDeletes(at) => self.strange("DELETE FROM objects WHERE name LIKE ?1 || '%'", NAMES[*at]),
            Step::StrangerWritesNoObject => {
                self.strange("INSERT OR REPLACE INTO meta (key, value) VALUES ('strange', ?1)", "x");
            }
            Step::Look => self.held = Some(self.store.snapshot().unwrap()),
        }
    }

    fn strange(&self, query: &str, parameter: &str) {
        self.stranger.execute(query, [parameter]).unwrap();
    }

    fn whole(&self) -> Snapshot {
        self.store.load(&self.store.reader().connection).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_renewed_snapshot_is_what_reading_everything_gives(steps in steps()) {
        let mut bench = Bench::new();
        for step in &steps {
            let before = bench.held.as_deref().cloned();
            bench.step(step);
            if let (Some(before), false) = (before, matches!(step, Step::Look)) {
                prop_assert_eq!(&before, bench.held.as_deref().unwrap(), "what somebody holds changes");
            }
            if matches!(step, Step::Look) {
                prop_assert_eq!(bench.held.as_deref().unwrap(), &bench.whole());
            }
        }
        prop_assert_eq!(&*bench.store.snapshot().unwrap(), &bench.whole());
    }
}

#[test]
fn a_commit_of_ours_costs_the_rows_that_it_wrote() {
    let mut bench = Bench::new();
    for at in 0..3 {
        bench.step(&Step::Job(at, JobPhase::Running, None, false, false));
        bench.step(&Step::Run(at, "s", 1, RunPhase::Running));
        bench.step(&Step::Workload(at, [0, 0], WorkloadPhase::Running));
    }
    let before = bench.store.snapshot().unwrap();
    bench.step(&Step::Run(0, "s", 1, RunPhase::Completed));
    let after = bench.store.snapshot().unwrap();
    let (first, second) = (bench.job(0).unwrap().uid(), bench.job(1).unwrap().uid());
    assert!(!Arc::ptr_eq(&before.runs[&first], &after.runs[&first]));
    assert!(Arc::ptr_eq(&before.runs[&second], &after.runs[&second]));
    assert!(before.jobs.iter().all(|(uid, job)| Arc::ptr_eq(job, &after.jobs[uid])));
    assert!(before.workloads.iter().all(|(uid, workload)| Arc::ptr_eq(workload, &after.workloads[uid])));
}

#[test]
fn more_changes_than_are_remembered_are_read_as_a_whole() {
    let mut bench = Bench::new();
    bench.step(&Step::Job(0, JobPhase::Running, None, false, false));
    bench.step(&Step::Look);
    let many = (0..21_000).map(|at| Touched::Job(JobUid(at.to_string()), true)).collect();
    lock(bench.store.writer.as_ref().unwrap()).remember(2, many);
    bench.step(&Step::Job(1, JobPhase::Running, None, false, false));
    assert_eq!(&*bench.store.snapshot().unwrap(), &bench.whole());
}
