//! A store that is too large to be read before it is used: what runs is served, and nothing is ended before it is known to
//! be whole.

use crate::support::scale::finished;
use crate::support::{Traces, World, wait_for};
use std::fs;
use std::os::unix::fs::FileExt;

/// So many finished jobs make a store that is checked beside its use.
const JOBS: usize = 45_000;

/// A world without a controller, whose store is large and whose one script runs on, unwanted: its job was deleted.
fn leaking() -> (World, Traces) {
    let mut world = World::new();
    world.ok_apply(
        "apiVersion: tenure.dev/v1alpha1\nkind: Job\nmetadata: {name: leak}\nspec:\n  flow:\n    steps:\n      work: {run: sleep 1000}\n",
    );
    let traces = wait_for("the script to run", || {
        let traces = world.traces_of("leak");
        (world.runs("leak").get("work")?["status"]["phase"] == "Running" && traces.processes.len() > 1)
            .then_some(traces)
    });
    world.kill_controller();
    let store = world.state().join("tenure.db");
    let connection = rusqlite::Connection::open(&store).unwrap();
    connection.execute("DELETE FROM objects WHERE kind = 'Job' AND name = 'leak'", []).unwrap();
    drop(connection);
    finished(&store, JOBS);
    let size = fs::metadata(&store).unwrap().len();
    assert!(size > 64 << 20, "{size} bytes are not large");
    (world, traces)
}

fn held_until(world: &World) -> Option<String> {
    let plan: serde_json::Value = serde_json::from_slice(&world.cli(&["plan", "-o", "json"]).stdout).ok()?;
    let held = plan["held"].as_array()?.iter().filter_map(|line| line["reason"].as_str());
    held.filter_map(|reason| reason.split_once("is held back until ")).map(|(_, why)| why.to_owned()).next()
}

#[test]
fn a_large_store_that_is_whole_delays_the_end_of_a_leak_and_no_more() {
    let (mut world, traces) = leaking();
    world.start();
    world.wait_gone(&traces);
    assert!(world.log().contains("the store was checked, and is whole"), "{}", world.log());
}

#[test]
fn a_large_store_that_is_damaged_ends_nothing_and_says_so() {
    let (mut world, traces) = leaking();
    let store = world.state().join("tenure.db");
    let file = fs::File::options().write(true).open(&store).unwrap();
    // Far from what is alive: only the check of the whole finds it.
    let middle = file.metadata().unwrap().len() / 2 / 4096 * 4096;
    file.write_all_at(&[0xa5; 4096], middle).unwrap();
    drop(file);
    world.start();
    let why = wait_for("the damage to be told", || held_until(&world).filter(|why| why.contains("damaged")));
    assert!(why.contains("the store is restored"), "{why}");
    assert!(world.log().contains("nothing is ended any more"), "{}", world.log());
    // Starts go on, and nothing ends: a job that begins and one that ends show that passes were made since.
    world.ok_apply(
        "apiVersion: tenure.dev/v1alpha1\nkind: Job\nmetadata: {name: next}\nspec:\n  flow:\n    steps:\n      work: {run: 'true'}\n",
    );
    world.wait_job("next", "Succeeded");
    assert!(traces.processes.iter().all(|process| process.is_alive()), "{:?}", world.left_of(&traces));
}
