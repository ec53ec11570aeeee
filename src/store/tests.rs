//! Tests of the store.

use super::*;
use crate::model::*;
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
fn what_was_committed_is_there_after_reopening() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    let stored = put_job(&store, job("a"));
    store.commit(Txn::new().event(event("a", "JobStarted")), NOW).unwrap();
    let instance = store.instance().clone();
    assert_eq!(instance.as_str().len(), 12);
    assert!(instance.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
    drop(store);

    let store = Store::open(&path).unwrap();
    assert_eq!(store.instance(), &instance);
    assert_eq!(store.list(Kind::Job).unwrap(), [AnyObject::Job(stored)]);
    assert_eq!(store.events(0, 9, &EventFilter::default()).unwrap(), [Event { id: 1, ..event("a", "JobStarted") }]);
    assert_eq!(put_job(&store, job("b")).metadata.resource_version, 3);
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
fn only_its_user_can_read_it() {
    let (_dir, path) = scratch();
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let store = Store::open(&path).unwrap();
    put_job(&store, job("a"));
    for name in ["tenure.db", "tenure.db-wal", "tenure.db-shm"] {
        let mode = fs::metadata(path.with_file_name(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_damaged_file_is_refused() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    for number in 0..200 {
        put_job(&store, job(&format!("job-{number}")));
    }
    drop(store);
    let whole = fs::read(&path).unwrap();
    let mut torn = whole.clone();
    torn.truncate(whole.len() / 2);
    let mut scrambled = whole.clone();
    let middle = whole.len() / 2;
    scrambled[middle..middle + 4096].fill(0xa5);
    let mut headless = whole;
    headless[..100].fill(0);
    for (damage, bytes) in [("torn", torn), ("scrambled", scrambled), ("headless", headless)] {
        fs::write(&path, bytes).unwrap();
        for result in [Store::open(&path), Store::open_read_only(&path)] {
            let error = result.unwrap_err();
            assert!(matches!(error, StoreError::Corrupt { .. }), "{damage}: {error}");
            assert!(error.to_string().contains("nothing will be started or reaped"), "{error}");
        }
    }
}

#[test]
fn a_store_from_the_future_is_refused_and_left_alone() {
    let (_dir, path) = scratch();
    drop(Store::open(&path).unwrap());
    stranger(&path).pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(&path).unwrap();
    for result in [Store::open(&path), Store::open_read_only(&path)] {
        let error = result.unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 99, known: 2, .. }), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn another_programs_database_is_refused_and_left_alone() {
    let (_dir, path) = scratch();
    stranger(&path).execute_batch("CREATE TABLE jobs (id)").unwrap();
    for result in [Store::open(&path), Store::open_read_only(&path)] {
        let error = result.unwrap_err();
        assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
    }
}

#[test]
fn looking_makes_no_store() {
    let (dir, path) = scratch();
    let error = Store::open_read_only(&path).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }));
    insta::assert_snapshot!(
        error.to_string().replace(dir.path().to_str().unwrap(), "DIR"),
        @"there is no store at DIR/tenure.db: start a controller there (`tenure run`), or name its state directory with --state"
    );
    assert!(!path.exists());
}

#[test]
fn looking_sees_what_the_controller_writes_and_writes_nothing() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    let onlooker = Store::open_read_only(&path).unwrap();
    assert_eq!(onlooker.instance(), store.instance());
    assert_eq!(onlooker.snapshot().unwrap().jobs.len(), 0);
    put_job(&store, job("a"));
    assert_eq!(onlooker.snapshot().unwrap().jobs.len(), 1);
    let error = onlooker.commit(Txn::new().delete(Kind::Job, "a", 0), NOW).unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }));
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
fn an_older_store_is_brought_up_to_date_with_what_was_left_in_it() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    let gone = put_job(&store, job("gone"));
    store.commit(Txn::new().put(run(&gone, "a", 1, RunPhase::Completed)), NOW).unwrap();
    drop(store);
    let old = "DROP TRIGGER objects_departed; DROP TABLE departed; DELETE FROM objects WHERE name = 'gone'; \
         PRAGMA user_version = 1";
    stranger(&path).execute_batch(old).unwrap();
    assert!(matches!(Store::open_read_only(&path).unwrap_err(), StoreError::Older { found: 1, .. }));
    let store = Store::open(&path).unwrap();
    assert_eq!(store.orphans(9).unwrap().len(), 1);
}

/// Waits until the check beside has said something else than this.
fn verdict_after(store: &Store, before: &Reading<()>) -> Reading<()> {
    let begun = std::time::Instant::now();
    while store.integrity() == *before {
        assert!(begun.elapsed().as_secs() < 60, "the check came to no end");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    store.integrity()
}

#[test]
fn a_large_store_is_used_before_it_is_known_to_be_whole() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    assert_eq!(store.integrity(), Reading::Known(()));
    for number in 0..200 {
        put_job(&store, job(&format!("job-{number}")));
    }
    drop(store);
    let store = Store::open_within(&path, 0).unwrap();
    assert_eq!(store.snapshot().unwrap().jobs.len(), 200);
    // The verdict may have come already; it is not given before the file was read.
    let verdict = verdict_after(&store, &integrity::being_checked());
    assert_eq!(verdict, Reading::Known(()));
    drop(store);

    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let store = Store::open_within(&path, 0).unwrap();
    let mut changes = store.integrity_changes();
    let verdict = verdict_after(&store, &integrity::being_checked());
    let Reading::Unknown(why) = verdict else { panic!("a damaged store was taken for a whole one") };
    assert!(why.contains("is damaged") && why.contains("is restored"), "{why}");
    assert!(changes.has_changed().unwrap() || matches!(&*changes.borrow_and_update(), Reading::Unknown(_)));
}

#[test]
fn a_check_ends_with_the_store_that_it_is_for() {
    let (_dir, path) = scratch();
    drop(Store::open(&path).unwrap());
    let mut bytes = fs::read(&path).unwrap();
    let length = bytes.len();
    // The last page only: the store opens, and its check reminds for ever.
    bytes[length - 4096..].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let Ok(store) = Store::open_within(&path, 0) else { return };
    let kept = Arc::downgrade(&store.integrity);
    drop(store);
    let begun = std::time::Instant::now();
    while kept.strong_count() > 0 {
        assert!(begun.elapsed().as_secs() < 60, "the check goes on");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
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
