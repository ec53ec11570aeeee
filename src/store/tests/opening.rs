//! Opening, and refusing to.

use super::*;

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
fn a_store_that_lost_everything_is_not_taken_for_a_new_one() {
    let (_dir, path) = scratch();
    let other = scratch();
    let make = |path: &Path| {
        let instance = Store::open(path).unwrap().instance().clone();
        // All in one file.
        stranger(path).pragma_update(None, "journal_mode", "DELETE").unwrap();
        instance
    };
    make(&other.1);
    let instance = make(&path);
    let good = fs::read(&path).unwrap();
    let refused = |what: &str| {
        let before = fs::read(&path).unwrap_or_default();
        let error = Store::open(&path).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains(instance.as_str()), "{error}");
        assert!(fs::read(&path).unwrap_or_default() == before, "it was written to");
    };
    fs::write(&path, "").unwrap();
    refused("is empty");
    fs::remove_file(&path).unwrap();
    refused("is empty");
    fs::copy(&other.1, &path).unwrap();
    refused("is that of instance");
    fs::write(&path, good).unwrap();
    assert_eq!(Store::open(&path).unwrap().instance(), &instance);
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
        assert!(matches!(error, StoreError::Newer { found: 99, known: 3, .. }), "{error}");
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
fn an_older_store_is_brought_up_to_date_with_what_was_left_in_it() {
    let (_dir, path) = scratch();
    let store = Store::open(&path).unwrap();
    let gone = put_job(&store, job("gone"));
    store.commit(Txn::new().put(run(&gone, "a", 1, RunPhase::Completed)), NOW).unwrap();
    drop(store);
    let old = "DROP TRIGGER objects_departed; DROP TABLE departed; DELETE FROM objects WHERE name = 'gone'; \
         DROP INDEX objects_expiry; ALTER TABLE objects DROP COLUMN expires_at; \
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
