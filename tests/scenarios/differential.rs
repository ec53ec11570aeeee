//! The store in memory against the real one: the same transactions give the same answers, the same objects, and the same
//! snapshots.

use crate::memory::Memory;
use proptest::prelude::*;
use tenure::model::{
    AnyObject, Event, EventType, Job, JobPhase, JobState, JobUid, Kind, Meta, NoStatus, Object, Owner, Parent,
    PolicySpec, RunPhase, RunSpec, StepRun, Time, Workload, WorkloadPhase,
};
use tenure::store::{Store, StoreError, Txn};

const NOW: Time = Time(1_767_225_600_000);

/// One thing that a transaction does. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Piece {
    /// Which object, its state, and how its revision is chosen: as stored, 0, or one that is wrong.
    Put {
        what: u8,
        state: u8,
        revision: u8,
        uid: u8,
    },
    Delete {
        what: u8,
        revision: u8,
    },
    Event,
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        6 => (0..24_u8, 0..6_u8, 0..12_u8, 0..20_u8)
            .prop_map(|(what, state, revision, uid)| Piece::Put { what, state, revision, uid }),
        2 => (0..24_u8, 0..12_u8).prop_map(|(what, revision)| Piece::Delete { what, revision }),
        1 => Just(Piece::Event),
    ]
}

fn key(what: u8) -> (Kind, String) {
    match what % 24 {
        n @ 0..=3 => (Kind::Job, format!("j{n}")),
        n @ 4..=11 => (Kind::StepRun, format!("j{}.{}.1", n % 4, if n < 8 { "a" } else { "b" })),
        n @ 12..=19 => (Kind::Workload, format!("w{n}")),
        20 => (Kind::Policy, "default".into()),
        21 => (Kind::Policy, "other".into()),
        22 => (Kind::Flow, "f".into()),
        _ => (Kind::AgentClass, "c".into()),
    }
}

fn object(what: u8, state: u8, revision: u64, uid: u8) -> AnyObject {
    let (kind, name) = key(what);
    // Mostly each its own, now and then somebody else's.
    let own = if kind == Kind::Workload { name.clone() } else { format!("uid-{kind}-{name}") };
    let uid = if uid == 0 { "uid-Job-j0".to_owned() } else { own };
    let metadata = Meta { uid, resource_version: revision, ..Meta::named(name) };
    let job_of = |n: u8| (format!("j{}", n % 4), JobUid(format!("uid-Job-j{}", n % 4)));
    match kind {
        Kind::Job => {
            let mut job = Job { metadata, ..Job::default() };
            job.spec.state = [JobState::Running, JobState::Paused][usize::from(state % 2)];
            job.status.phase = [JobPhase::Pending, JobPhase::Running, JobPhase::Failed][usize::from(state % 3)];
            job.status.collected = state >= 4;
            // Half of them are sub-jobs, of one that may not be there.
            if let (true, (name, job_uid)) = (state % 2 == 1, job_of(what + state)) {
                let run = format!("{name}.a.1");
                job.spec.parent =
                    Some(Parent { job: name, job_uid, run, index: None, round: (1, 0), within: Vec::new() });
            }
            AnyObject::Job(job)
        }
        Kind::StepRun => {
            let (job, job_uid) = job_of(what);
            let step = if what % 24 < 8 { "a" } else { "b" };
            let spec = RunSpec { job, job_uid, step: step.into(), attempt: 1, ..RunSpec::default() };
            let mut run = StepRun { metadata, spec, status: Default::default() };
            run.status.phase = [RunPhase::Pending, RunPhase::Running, RunPhase::Completed][usize::from(state % 3)];
            AnyObject::StepRun(run)
        }
        Kind::Workload => {
            let mut row = Workload { metadata, ..Workload::default() };
            row.spec.owners = (0..state % 3).map(|n| job_of(what + n)).map(|(name, uid)| Owner { name, uid }).collect();
            row.status.phase = [WorkloadPhase::Starting, WorkloadPhase::Stopped][usize::from(state % 2)];
            AnyObject::Workload(row)
        }
        Kind::Policy => {
            let spec = PolicySpec { protect: vec![format!("p{state}")], ..PolicySpec::default() };
            AnyObject::Policy(Object { metadata, spec, status: NoStatus::default() })
        }
        Kind::Flow => {
            AnyObject::Flow(Object { metadata, spec: serde_json::json!({"n": state}), status: NoStatus::default() })
        }
        _ => AnyObject::AgentClass(Object { metadata, spec: Default::default(), status: NoStatus::default() }),
    }
}

fn build(pieces: &[Piece], memory: &Memory) -> Txn {
    let revision = |what: u8, choice: u8| {
        let (kind, name) = key(what);
        match choice {
            0 => 0,
            1 => 999,
            _ => memory.get(kind, &name).map_or(0, |object| object.meta().resource_version),
        }
    };
    pieces.iter().fold(Txn::new(), |txn, piece| match *piece {
        Piece::Put { what, state, revision: choice, uid } => txn.put(object(what, state, revision(what, choice), uid)),
        Piece::Delete { what, revision: choice } => {
            let (kind, name) = key(what);
            txn.delete(kind, name, revision(what, choice))
        }
        Piece::Event => txn.event(Event {
            id: 0,
            time: NOW,
            kind: Kind::Job,
            name: "j0".into(),
            r#type: EventType::Normal,
            reason: "Said".into(),
            message: "something".into(),
            details: serde_json::Value::Null,
        }),
    })
}

fn words(error: &StoreError) -> String {
    error.to_string()
}

fn names(mut objects: Vec<AnyObject>) -> Vec<(Kind, String)> {
    objects.sort_by_key(|it| (it.kind(), it.meta().name.clone()));
    objects.iter().map(|it| (it.kind(), it.meta().name.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_in_memory_is_as_the_real_one(txns in prop::collection::vec(prop::collection::vec(piece(), 1..5), 1..25)) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("tenure.db")).unwrap();
        let mut memory = Memory::default();
        for pieces in &txns {
            let txn = build(pieces, &memory);
            let (real, simulated) = (store.commit(txn.clone(), NOW), memory.commit(txn, NOW));
            match (&real, &simulated) {
                (Ok(real), Ok((simulated, _))) => prop_assert_eq!(real, simulated),
                (Err(real), Err(simulated)) => prop_assert_eq!(words(real), words(simulated)),
                (real, simulated) => prop_assert!(false, "{:?} against {:?}", real, simulated.as_ref().map(|(it, _)| it)),
            }
            prop_assert_eq!(&*store.snapshot().unwrap(), &*memory.snapshot());
            prop_assert_eq!(names(store.orphans(1_000).unwrap()), names(memory.orphans()));
        }
        for what in 0..24 {
            let (kind, name) = key(what);
            let real = store.get(kind, &name).unwrap();
            prop_assert_eq!(real.as_ref(), memory.get(kind, &name));
        }
    }
}
