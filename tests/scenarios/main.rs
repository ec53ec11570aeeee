//! Simulated worlds: the loop's decisions and the hands' acts, as they are, in hosts that are out to get them.
//!
//! Every world comes from one number, its seed, and is the same each time. `scripts/simulate SEED` replays one with its whole
//! trace; `scripts/simulate FROM-TO` hunts.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod agents;
mod controller;
mod differential;
mod edge;
mod host;
mod look;
mod memory;
mod nature;
mod people;
mod rules;
mod shim;
mod sim;
mod weather;

use sim::{Counts, Report, run};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many seeds each run of the tests goes through.
const SEEDS: u64 = 10_000;
/// How much of a trace is shown where a rule is broken.
const LAST: usize = 50;

/// Every seed of a range, on all cores. Panics at the first that breaks a rule.
fn hunt(seeds: Range<u64>) -> Counts {
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new((Counts::default(), Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut counts = Counts::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || !found.lock().unwrap().1.is_empty() {
                        break;
                    }
                    let report = run(seed, false);
                    counts += report.counts;
                    if report.broken.is_some() {
                        found.lock().unwrap().1.push(seed);
                    }
                }
                found.lock().unwrap().0 += counts;
            });
        }
    });
    let (counts, broken) = found.into_inner().unwrap();
    if let Some(seed) = broken.into_iter().min() {
        let report = run(seed, true);
        let from = report.trace.len().saturating_sub(LAST);
        panic!("{}", in_words(seed, &report, from));
    }
    counts
}

fn in_words(seed: u64, report: &Report, from: usize) -> String {
    let trace = report.trace[from..].join("\n");
    let broken = report.broken.as_deref().unwrap_or("nothing is broken");
    format!("{trace}\n\nseed {seed}: {broken}\n(its whole trace: scripts/simulate {seed})")
}

#[test]
fn ten_thousand_worlds() {
    let counts = hunt(0..SEEDS);
    println!("{SEEDS} worlds: {counts:?}");
    // A world in which nothing happens proves nothing.
    assert!(counts.crashes > SEEDS && counts.signals > SEEDS && counts.outcomes > SEEDS / 2, "{counts:?}");
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 0..20 {
        let (one, other) = (run(seed, true), run(seed, true));
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert_eq!(one.steps, run(seed, false).steps, "seed {seed}, without its trace");
    }
}

/// `TENURE_SEED=4711` replays one world; `TENURE_SEED=1-100000` hunts.
#[test]
fn replay() {
    let Ok(text) = std::env::var("TENURE_SEED") else { return };
    let number = |text: &str| text.parse::<u64>().expect("TENURE_SEED is a number, or two with `-` between them");
    match text.split_once('-') {
        Some((from, to)) => println!("{:?}", hunt(number(from)..number(to) + 1)),
        None => {
            let seed = number(&text);
            let report = run(seed, true);
            println!("{}", in_words(seed, &report, 0));
            assert!(report.broken.is_none(), "{:?}", report.broken);
        }
    }
}

#[test]
fn the_flows_of_these_worlds_are_flows() {
    for flow in people::FLOWS.iter() {
        let compiled = tenure::flow::compile(flow);
        assert!(compiled.flow.is_some() && compiled.problems.is_empty(), "{flow:#}: {:?}", compiled.problems);
    }
}
