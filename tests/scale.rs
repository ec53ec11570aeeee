//! What a pass costs does not grow with what ever was: nothing is written and nothing more is allocated because of jobs that
//! have finished.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/scale.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use support::{NOW, finished, observed, populate};
use tenure::controller::Rehearsal;
use tenure::model::{AnyObject, Kind, Observed};
use tenure::os::StateDir;
use tenure::store::{Store, Txn};

/// Counts what each thread asks for.
struct Counting;

thread_local! {
    static ASKED: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

// SAFETY: everything is the system's allocator's; counting allocates nothing.
#[allow(unsafe_code, reason = "an allocator can not be counted without standing in for it")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ASKED.try_with(|asked| asked.set((asked.get().0 + 1, asked.get().1 + layout.size() as u64)));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations and their bytes of one act. SQLite's own are not among them: its page cache has a limit.
fn allocated(act: impl FnOnce()) -> (u64, u64) {
    let before = ASKED.get();
    act();
    let after = ASKED.get();
    (after.0 - before.0, after.1 - before.1)
}

struct World {
    _dir: tempfile::TempDir,
    state: StateDir,
    store: Arc<Store>,
    observed: Observed,
    rehearsal: Rehearsal,
}

/// A store with some jobs under way and this many finished ones, after the passes that settle it.
fn world(finished_jobs: usize) -> World {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir(dir.path().to_owned());
    let store = Store::open(&state.store_file()).unwrap();
    populate(&store, 50);
    drop(store);
    finished(&state.store_file(), finished_jobs);
    let store = Arc::new(Store::open(&state.store_file()).unwrap());
    let observed = observed(&store);
    let mut rehearsal = Rehearsal::new(store.clone(), state.clone());
    for _ in 0..3 {
        rehearsal.pass(&observed, NOW).unwrap();
        rehearsal.resync();
    }
    World { _dir: dir, state, store, observed, rehearsal }
}

impl World {
    fn pass(&mut self) {
        assert!(self.rehearsal.pass(&self.observed, NOW).unwrap().is_some(), "the jobs were not at rest");
    }

    fn touch(&self, round: u32) {
        let Some(AnyObject::Job(mut job)) = self.store.get(Kind::Job, "job-7").unwrap() else { panic!("no job-7") };
        job.metadata.labels.insert("round".into(), round.to_string());
        self.store.commit(Txn::new().put(AnyObject::Job(job)), NOW).unwrap();
    }
}

fn log_size(file: &Path) -> u64 {
    let mut name = file.as_os_str().to_owned();
    name.push("-wal");
    fs::metadata(name).map_or(0, |meta| meta.len())
}

#[test]
fn a_pass_when_nothing_changed_writes_nothing() {
    let mut world = world(2_000);
    let file = world.state.store_file();
    let stranger = rusqlite::Connection::open(&file).unwrap();
    let version = || stranger.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0)).unwrap();
    let before = (version(), log_size(&file), fs::metadata(&file).unwrap().modified().unwrap());
    for _ in 0..5 {
        world.pass();
        world.rehearsal.resync();
    }
    assert_eq!((version(), log_size(&file), fs::metadata(&file).unwrap().modified().unwrap()), before);
    world.touch(1);
    assert_ne!(version(), before.0, "a write would have been seen");
}

#[test]
fn what_a_pass_allocates_does_not_grow_with_what_ever_was() {
    let costs = |finished_jobs: usize| {
        let mut world = world(finished_jobs);
        let still = allocated(|| world.pass());
        let resync = allocated(|| world.rehearsal.resync());
        world.touch(1);
        world.pass();
        world.touch(2);
        let changed = allocated(|| world.pass());
        let searched = allocated(|| world.rehearsal.resync());
        [still, resync, changed, searched]
    };
    let (none, many) = (costs(0), costs(5_000));
    assert_eq!(none, many, "(allocations, bytes) of a pass, a resync, and both after a change");
    // And they are counted at all.
    assert!(none[0].0 > 50, "{none:?}");
}

#[test]
fn what_changed_costs_what_changed() {
    let mut world = world(0);
    world.touch(1);
    world.pass();
    let still = allocated(|| world.pass());
    world.touch(2);
    let changed = allocated(|| world.pass());
    let all = allocated(|| drop(Store::open(&world.state.store_file()).unwrap().snapshot().unwrap()));
    let renewed = changed.0 - still.0;
    assert!(renewed * 10 < all.0, "one row of 150 cost {renewed} allocations, all of them {}", all.0);
}
