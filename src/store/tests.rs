//! Tests of the store.

mod opening;

use super::*;
use crate::model::*;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

const NOW: Time = Time(1_767_225_600_000);

fn scratch() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tenure.db");
    (dir, path)
}

fn job(name: &str) -> Job {
    Job { metadata: Meta::named(name), ..Job::default() }
}

fn run(job: &Job, step: &str, attempt: u32, phase: RunPhase) -> AnyObject {
    let mut run = StepRun {
        metadata: Meta::named(format!("{}.{step}.{attempt}", job.metadata.name)),
        spec: RunSpec {
            job: job.metadata.name.clone(),
            job_uid: job.uid(),
            step: step.to_owned(),
            attempt,
            ..RunSpec::default()
        },
        status: RunStatus::default(),
    };
    run.status.phase = phase;
    AnyObject::StepRun(run)
}

fn workload(uid: &str, owners: &[&Job], phase: WorkloadPhase) -> AnyObject {
    let mut workload = Workload { metadata: Meta::named(uid), ..Workload::default() };
    workload.metadata.uid = uid.to_owned();
    workload.spec.owners = owners.iter().map(|job| Owner { name: job.metadata.name.clone(), uid: job.uid() }).collect();
    workload.status.phase = phase;
    AnyObject::Workload(workload)
}

fn event(name: &str, reason: &str) -> Event {
    Event {
        id: 0,
        time: NOW,
        kind: Kind::Job,
        name: name.to_owned(),
        r#type: EventType::Normal,
        reason: reason.to_owned(),
        message: "something happened".to_owned(),
        details: serde_json::json!({"pids": [1, 2]}),
    }
}

/// Writes one job and gives it as stored.
fn put_job(store: &Store, job: Job) -> Job {
    match store.commit(Txn::new().put(AnyObject::Job(job)), NOW).unwrap().objects.remove(0) {
        AnyObject::Job(job) => job,
        other => panic!("{other:?}"),
    }
}

/// Another program's connection to the file.
fn stranger(path: &Path) -> Connection {
    Connection::open(path).unwrap()
}

#[test]
fn a_new_object_is_given_what_it_needs() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    let committed = store.commit(Txn::new().put(AnyObject::Job(job("a"))).put(AnyObject::Job(job("b"))), NOW).unwrap();
    assert_eq!(committed.revision, 1);
    for object in &committed.objects {
        let meta = object.meta();
        assert_eq!((meta.generation, meta.resource_version, meta.creation_timestamp), (1, 1, Some(NOW)));
        assert_eq!(uuid::Uuid::parse_str(&meta.uid).unwrap().get_version_num(), 7);
        assert_eq!(store.get(Kind::Job, &meta.name).unwrap().as_ref(), Some(object));
        assert_eq!(store.get_by_uid(&object.uid()).unwrap().as_ref(), Some(object));
    }
    assert_eq!(store.list(Kind::Job).unwrap(), committed.objects);
}

#[test]
fn generation_counts_changes_of_the_spec_only() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    let mut first = put_job(&store, job("a"));
    first.status.phase = JobPhase::Running;
    let second = put_job(&store, first.clone());
    assert_eq!((second.metadata.generation, second.metadata.resource_version), (1, 2));
    let mut third = second.clone();
    third.spec.state = JobState::Paused;
    third.metadata.generation = 77;
    third.metadata.creation_timestamp = None;
    let third = put_job(&store, third);
    assert_eq!((third.metadata.generation, third.metadata.resource_version), (2, 3));
    assert_eq!((&third.metadata.uid, third.metadata.creation_timestamp), (&first.metadata.uid, Some(NOW)));
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    let stored = put_job(&store, job("a"));
    let mark = store.change_mark().unwrap();
    assert_eq!(store.commit(Txn::new(), NOW).unwrap().revision, 1);
    assert_eq!(put_job(&store, stored.clone()), stored);
    assert_eq!(store.commit(Txn::new().delete(Kind::Job, "nobody", 0), NOW).unwrap().revision, 1);
    assert_eq!(store.change_mark().unwrap(), mark);
    assert_eq!(*store.subscribe().borrow(), 1);
}

#[test]
fn a_write_over_another_revision_is_a_conflict_and_writes_nothing() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    let stored = put_job(&store, job("a"));
    let conflict = |txn: Txn| match store.commit(txn, NOW) {
        Err(StoreError::Conflict { name, expected, found, .. }) => (name, expected, found),
        other => panic!("{other:?}"),
    };
    // New, where there is one; old, where there is a newer one; old, where there is none; and the same for deletes.
    assert_eq!(conflict(Txn::new().put(AnyObject::Job(job("a")))), ("a".into(), 0, 1));
    let mut stale = stored.clone();
    stale.metadata.resource_version = 9;
    let txn = Txn::new()
        .put(AnyObject::Job(job("bystander")))
        .delete(Kind::Job, "a", 1)
        .event(event("a", "Never"))
        .put(AnyObject::Job(stale.clone()));
    assert_eq!(conflict(txn), ("a".into(), 9, 0));
    assert_eq!(conflict(Txn::new().delete(Kind::Job, "a", 7)), ("a".into(), 7, 1));
    assert_eq!(conflict(Txn::new().delete(Kind::Job, "nobody", 7)), ("nobody".into(), 7, 0));

    assert_eq!(store.list(Kind::Job).unwrap(), [AnyObject::Job(stored)]);
    assert_eq!(store.events(0, 10, &EventFilter::default()).unwrap(), []);
    assert_eq!(store.revision().unwrap(), 1);
}

#[test]
fn a_transaction_can_replace_an_object_by_another_of_its_name() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    let old = put_job(&store, job("a"));
    let txn = Txn::new().delete(Kind::Job, "a", old.metadata.resource_version).put(AnyObject::Job(job("a")));
    let new = store.commit(txn, NOW).unwrap().objects.remove(0);
    assert_ne!(new.meta().uid, old.metadata.uid);
    assert!(store.get_by_uid(&Uid(old.metadata.uid)).unwrap().is_none());
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    let stored = put_job(&store, job("a"));
    let mut twin = job("b");
    twin.metadata.uid = stored.metadata.uid.clone();
    let mut nameless = workload("w", &[&stored], WorkloadPhase::Starting);
    nameless.meta_mut().uid = String::new();
    for object in [AnyObject::Job(job("")), AnyObject::Job(twin), nameless] {
        let error = store.commit(Txn::new().put(object), NOW).unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }), "{error}");
    }
    assert_eq!(store.revision().unwrap(), 1);
}

#[test]
fn a_snapshot_has_what_is_active_and_what_that_refers_to() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    let running = put_job(&store, job("running"));
    let ended = |name: &str| {
        let mut job = job(name);
        job.status.phase = JobPhase::Failed;
        put_job(&store, job)
    };
    let (first, second, idle) = (ended("first"), ended("second"), ended("idle"));
    let ghost = {
        let mut job = job("ghost");
        job.metadata.uid = "no-such-job".into();
        job
    };
    let mut policy = Policy { metadata: Meta::named("default"), ..Policy::default() };
    policy.spec.max_reaps_per_minute = 3;
    let mut other_policy = Policy { metadata: Meta::named("other"), ..Policy::default() };
    other_policy.spec.max_reaps_per_minute = 4;
    let txn = Txn::new()
        .put(run(&running, "b", 1, RunPhase::Completed))
        .put(run(&running, "a", 10, RunPhase::Running))
        .put(run(&running, "a", 2, RunPhase::Failed))
        .put(run(&first, "a", 1, RunPhase::Running))
        .put(run(&idle, "a", 1, RunPhase::Completed))
        .put(workload("w1", &[&running, &second, &ghost], WorkloadPhase::Running))
        .put(workload("w2", &[&idle], WorkloadPhase::Stopped))
        .put(AnyObject::Policy(policy))
        .put(AnyObject::Policy(other_policy))
        .put(AnyObject::Flow(Flow { metadata: Meta::named("f"), ..Flow::default() }))
        .put(AnyObject::AgentClass(AgentClass { metadata: Meta::named("c"), ..AgentClass::default() }));
    store.commit(txn, NOW).unwrap();

    let snapshot = store.snapshot().unwrap();
    let mut jobs: Vec<_> = snapshot.jobs.values().map(|job| job.metadata.name.as_str()).collect();
    jobs.sort_unstable();
    assert_eq!(jobs, ["first", "running", "second"]);
    let runs: Vec<_> = snapshot.runs_of(&running.uid()).iter().map(|run| run.metadata.name.as_str()).collect();
    assert_eq!(runs, ["running.a.2", "running.a.10", "running.b.1"]);
    assert_eq!(snapshot.runs.len(), 2);
    assert_eq!(snapshot.workloads.keys().map(WorkloadUid::as_str).collect::<Vec<_>>(), ["w1"]);
    assert_eq!(snapshot.policy.max_reaps_per_minute, 3);
    assert_eq!((snapshot.flows.len(), snapshot.classes.len(), snapshot.revision), (1, 1, 5));
    assert_eq!(store.list_owned(&running.uid()).unwrap().len(), 4);
}

#[test]
fn a_snapshot_is_the_same_until_something_changes() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    put_job(&store, job("a"));
    let before = store.snapshot().unwrap();
    store.get(Kind::Job, "a").unwrap();
    assert!(Arc::ptr_eq(&before, &store.snapshot().unwrap()));
    put_job(&store, job("b"));
    assert_eq!((before.jobs.len(), store.snapshot().unwrap().jobs.len()), (1, 2));
}

#[test]
fn rows_deleted_behind_our_back_are_noticed() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    put_job(&store, job("a"));
    let mark = store.change_mark().unwrap();
    assert_eq!(store.snapshot().unwrap().jobs.len(), 1);
    stranger(&path).execute("DELETE FROM objects WHERE name = 'a'", []).unwrap();
    assert_ne!(store.change_mark().unwrap(), mark);
    assert_eq!(store.snapshot().unwrap().jobs.len(), 0);
}

#[test]
fn a_row_that_does_not_parse_is_an_error_until_it_is_mended() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    put_job(&store, job("a"));
    put_job(&store, job("b"));
    for damage in ["{", "{}", r#"{"metadata":{"name":"b","uid":"x"},"spec":{}}"#] {
        stranger(&path).execute("UPDATE objects SET json = ?1 WHERE name = 'a'", [damage]).unwrap();
        for result in [store.snapshot().map(drop), store.list(Kind::Job).map(drop)] {
            let error = result.unwrap_err();
            assert!(matches!(&error, StoreError::BadRow { kind, name, .. } if kind == "Job" && name == "a"), "{error}");
        }
    }
    store.commit(Txn::new().delete(Kind::Job, "a", 0), NOW).unwrap();
    assert_eq!(store.snapshot().unwrap().jobs.len(), 1);
}

#[test]
fn events_are_found_by_object_and_by_place() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    for number in 0..3 {
        let txn = Txn::new().event(event("a", &format!("A{number}"))).event(event("b", &format!("B{number}")));
        store.commit(txn, NOW).unwrap();
    }
    let reasons = |after, limit, filter: EventFilter| -> Vec<String> {
        store.events(after, limit, &filter).unwrap().into_iter().map(|event| event.reason).collect()
    };
    let of_a = || EventFilter { name: Some("a".into()), kind: Some(Kind::Job), newest: false };
    assert_eq!(reasons(0, 10, of_a()), ["A0", "A1", "A2"]);
    assert_eq!(reasons(1, 2, of_a()), ["A1", "A2"]);
    assert_eq!(reasons(0, 2, of_a()), ["A0", "A1"]);
    assert_eq!(reasons(0, 2, EventFilter { newest: true, ..of_a() }), ["A1", "A2"]);
    assert_eq!(reasons(0, 9, EventFilter { kind: Some(Kind::Flow), ..EventFilter::default() }), [""; 0]);
    assert_eq!(store.prune_events(2).unwrap(), 4);
    assert_eq!(reasons(0, 9, EventFilter::default()), ["A2", "B2"]);
}

#[test]
fn commits_are_told_to_subscribers() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    let mut revisions = store.subscribe();
    assert!(!revisions.has_changed().unwrap());
    put_job(&store, job("a"));
    assert_eq!(*revisions.borrow_and_update(), 1);
}

#[test]
fn a_store_that_was_removed_while_open_is_not_an_empty_store() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    put_job(&store, job("a"));
    fs::remove_file(&path).unwrap();
    assert!(matches!(store.snapshot().unwrap_err(), StoreError::Gone { .. }));
    fs::write(&path, "").unwrap();
    assert!(matches!(store.commit(Txn::new().put(AnyObject::Job(job("b"))), NOW), Err(StoreError::Gone { .. })));
}

#[test]
fn a_pass_reads_through_indexes_only() {
    let (_dir, path) = scratch();
    drop(Store::open(&path).unwrap());
    let connection = stranger(&path);
    let objects = [
        snapshot::ACTIVE,
        snapshot::ENDED_RUNS_OF_ACTIVE_JOBS,
        snapshot::JOB_OF_UID,
        snapshot::ACTIVE_OF_NAME,
        snapshot::RUNS_OF_JOB,
        snapshot::ACTIVE_RUNS_OF_JOB,
        snapshot::RUN_OF_NAME,
        read::LEFT_BEHIND,
        read::EXPIRED,
    ]
    .map(|condition| format!("SELECT {} FROM objects WHERE {condition}", rows::OBJECT));
    let others = [
        format!("DELETE FROM departed WHERE {}", commit::NOTHING_LEFT),
        commit::OLD_EVENTS.to_owned(),
        "SELECT active FROM objects WHERE uid = ?1 AND kind = 'Job'".to_owned(),
    ];
    for query in objects.into_iter().chain(others) {
        let query = format!("EXPLAIN QUERY PLAN {query}");
        let mut statement = connection.prepare(&query).unwrap();
        let parameters = vec!["x"; statement.parameter_count()];
        let steps = statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, String>(3)).unwrap();
        let steps: Vec<String> = steps.collect::<Result<_, _>>().unwrap();
        let by_what_is_alive = |step: &String| {
            let good = [
                "objects_active",
                "objects_owner (owner=?",
                "(uid=?)",
                "(kind=? AND name=?)",
                "SUBQUERY",
                "objects_expiry (expires_at<?)",
                "(rowid<?)",
                // Jobs that went, and of which something is left.
                "SCAN departed",
                "SEARCH events",
            ];
            good.iter().any(|good| step.contains(good))
        };
        assert!(steps.iter().all(by_what_is_alive), "{query}: {steps:?}");
    }
}

#[test]
fn writers_and_readers_of_many_threads_get_along() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for number in 0..10 {
                    let job = put_job(store, job(&format!("{thread}-{number}")));
                    let snapshot = store.snapshot().unwrap();
                    assert!(snapshot.revision >= job.metadata.resource_version);
                    assert_eq!(snapshot.jobs.len() as u64, snapshot.revision);
                }
            });
        }
    });
    assert_eq!(store.revision().unwrap(), 40);
}

#[test]
fn orphans_are_what_ended_of_jobs_that_are_no_more() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    let (kept, gone) = (put_job(&store, job("kept")), put_job(&store, job("gone")));
    let txn = Txn::new()
        .put(run(&kept, "a", 1, RunPhase::Completed))
        .put(run(&gone, "a", 1, RunPhase::Completed))
        .put(run(&gone, "a", 2, RunPhase::Running))
        .put(workload("shared", &[&gone, &kept], WorkloadPhase::Stopped))
        .put(workload("ended", &[&gone], WorkloadPhase::Stopped))
        .put(workload("alive", &[&gone], WorkloadPhase::Running));
    store.commit(txn, NOW).unwrap();
    for _ in 0..2 {
        assert_eq!(store.orphans(9).unwrap(), []);
    }
    store.commit(Txn::new().delete(Kind::Job, "gone", 0), NOW).unwrap();
    let mut names: Vec<_> = store.orphans(9).unwrap().iter().map(|object| object.meta().name.clone()).collect();
    names.sort_unstable();
    assert_eq!(names, ["ended", "gone.a.1"]);
    assert_eq!(store.orphans(1).unwrap().len(), 1);

    // What is alive keeps the job in mind; with the last of it, it is forgotten.
    assert_eq!(store.prune_departed().unwrap(), 0);
    let rest = store.list_owned(&gone.uid()).unwrap();
    let shared = Txn::new().delete(Kind::Workload, "shared", 0);
    let txn = rest.iter().fold(shared, |txn, object| txn.delete(object.kind(), object.meta().name.clone(), 0));
    store.commit(txn, NOW).unwrap();
    assert_eq!(store.prune_departed().unwrap(), 1);
}

#[test]
fn orphans_of_a_job_that_another_program_deleted_are_found() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    let gone = put_job(&store, job("gone"));
    store.commit(Txn::new().put(run(&gone, "a", 1, RunPhase::Completed)), NOW).unwrap();
    stranger(&path).execute("DELETE FROM objects WHERE name = 'gone'", []).unwrap();
    assert_eq!(store.orphans(9).unwrap().len(), 1);
    // It is back, as from a backup: nothing of it is an orphan.
    let mut back = job("back");
    back.metadata.uid = gone.metadata.uid.clone();
    put_job(&store, back);
    assert_eq!(store.orphans(9).unwrap(), []);
}

#[test]
fn a_note_is_kept_with_what_it_was_written_with() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    assert_eq!(store.meta("revision").unwrap(), None);
    let note = |value: &str| store.commit(Txn::new().meta("revision", value), NOW).unwrap().revision;
    assert_eq!([note("one"), note("two"), note("two")], [1, 2, 2]);
    let failing = Txn::new().meta("revision", "three").delete(Kind::Job, "nobody", 7);
    assert!(store.commit(failing, NOW).unwrap_err().is_conflict());
    assert_eq!(store.meta("revision").unwrap().as_deref(), Some("two"));
}

#[test]
fn of_too_many_notes_the_oldest_go() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    let note = |at: i64, length: usize| format!(r#"{{"at":{at},"text":"{}"}}"#, "x".repeat(length));
    let mut txn = Txn::new().meta("other", "stays").meta("cache:none", "no JSON");
    for (key, at, length) in [("c", 3, 10), ("a", 1, 10), ("d", 4, 500), ("b", 2, 10)] {
        txn = txn.meta(format!("cache:{key}"), note(at, length));
    }
    store.commit(txn, NOW).unwrap();
    let left = || {
        let keys = ["none", "a", "b", "c", "d"];
        let there = keys.into_iter().filter(|key| store.meta(&format!("cache:{key}")).unwrap().is_some());
        there.collect::<String>()
    };
    for (most, most_bytes, removed, expected) in
        [(5, 1_000, 0, "noneabcd"), (4, 1_000, 1, "abcd"), (3, 1_000, 1, "bcd"), (3, 560, 1, "cd"), (0, 0, 2, "")]
    {
        assert_eq!(store.prune_notes("cache:", most, most_bytes).unwrap(), removed, "{most} of {most_bytes} bytes");
        assert_eq!(left(), expected, "{most} of {most_bytes} bytes");
    }
    assert_eq!(store.meta("other").unwrap().as_deref(), Some("stays"));
}

#[test]
fn a_job_that_is_over_is_there_for_as_long_as_it_says() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    let put = |name: &str, phase, ttl: Option<u64>| {
        let mut job = job(name);
        job.spec.ttl_after_finished = ttl.map(Span::seconds);
        (job.status.phase, job.status.finished_at) = (phase, Some(NOW));
        put_job(&store, job);
    };
    put("soon", JobPhase::Succeeded, Some(10));
    put("later", JobPhase::Failed, Some(20));
    put("kept", JobPhase::Failed, None);
    put("running", JobPhase::Running, Some(0));
    let expired = |seconds: i64, limit| -> Vec<String> {
        let expired = store.expired(Time(NOW.0 + seconds * 1_000), limit).unwrap();
        expired.iter().map(|object| object.meta().name.clone()).collect()
    };
    assert!(expired(9, 9).is_empty());
    assert_eq!(expired(10, 9), ["soon"]);
    assert_eq!(expired(99, 9), ["soon", "later"]);
    assert_eq!(expired(99, 1), ["soon"]);
    // Somebody wants it to be tried again.
    let Some(AnyObject::Job(mut later)) = store.get(Kind::Job, "later").unwrap() else { panic!() };
    later.spec.retry = 1;
    put_job(&store, later);
    assert_eq!(expired(99, 9), ["soon"]);
}

#[test]
fn a_sub_job_is_there_until_its_run_has_taken_it_in_and_goes_with_its_parent() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    let child_of = |parent: &Job, name: &str| {
        let mut child = job(name);
        let run = format!("{}.s.1", parent.metadata.name);
        child.spec.parent = Some(Parent {
            job: parent.metadata.name.clone(),
            job_uid: parent.uid(),
            run,
            index: None,
            round: (1, 0),
            within: Vec::new(),
        });
        child.status.phase = JobPhase::Running;
        put_job(&store, child)
    };
    let names =
        || store.snapshot().unwrap().jobs.values().map(|job| job.metadata.name.clone()).collect::<BTreeSet<_>>();
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let parent = put_job(&store, job("parent"));
    let mut child = child_of(&parent, "child");
    let mut grandchild = child_of(&child, "grandchild");
    // The parents of what is active are there, whatever they are.
    for (name, phase) in [("parent", JobPhase::Failed), ("child", JobPhase::Failed)] {
        let Some(AnyObject::Job(mut job)) = store.get(Kind::Job, name).unwrap() else { panic!() };
        (job.status.phase, job.status.collected) = (phase, true);
        child = put_job(&store, job);
    }
    assert_eq!(names(), set(&["parent", "child", "grandchild"]));
    grandchild.status.phase = JobPhase::Cancelled;
    let mut grandchild = put_job(&store, grandchild);
    assert_eq!(names(), set(&["parent", "child", "grandchild"]), "nobody has taken it in yet");
    grandchild.status.collected = true;
    put_job(&store, grandchild);
    assert_eq!(names(), set(&[]));

    store.commit(Txn::new().put(run(&child, "a", 1, RunPhase::Completed)).delete(Kind::Job, "parent", 0), NOW).unwrap();
    for expected in [&["child"][..], &["child.a.1", "grandchild"]] {
        let orphans = store.orphans(9).unwrap();
        assert_eq!(orphans.iter().map(|it| it.meta().name.clone()).collect::<BTreeSet<_>>(), set(expected));
        let txn = orphans.iter().fold(Txn::new(), |txn, it| txn.delete(it.kind(), it.meta().name.clone(), 0));
        store.commit(txn, NOW).unwrap();
    }
    assert_eq!(store.orphans(9).unwrap(), []);
}
