//! Stores with much in them: many jobs under way, and many that once were.

#![allow(dead_code, reason = "each of its users needs a part")]

use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use tenure::model::{
    AnyObject, BootId, Breadth, Job, JobPhase, Marks, Meta, Observed, Owner, Pid, ProcId, Reading, RunPhase, RunSpec,
    SeenProcess, SeenWorkload, ShimSeen, StartTime, StepRun, Time, Workload, WorkloadPhase, WorkloadType,
};
use tenure::store::{Store, Txn};

/// The time of everything here.
pub const NOW: Time = Time(1_767_225_600_000);

fn boot() -> BootId {
    BootId::from("boot")
}

fn process(pid: usize) -> ProcId {
    ProcId { pid: Pid::new(i32::try_from(pid).unwrap()).unwrap(), start: StartTime(pid as u64) }
}

/// Jobs `job-0`, `job-1`, …, each with one step, whose script runs.
pub fn populate(store: &Store, jobs: usize) {
    for begin in (0..jobs).step_by(1000) {
        let mut txn = Txn::new();
        for number in begin..jobs.min(begin + 1000) {
            let mut job = Job { metadata: Meta::named(format!("job-{number}")), ..Job::default() };
            job.metadata.uid = format!("0198c0de-0000-7000-8000-{number:012}");
            let flow = json!({"steps": {"work": {"run": "sleep 1000", "outputs": ["answer"]}}});
            let flow = std::sync::Arc::new(flow);
            job.spec.flow = Some(flow.clone());
            job.status.flow = Some(flow);
            job.status.phase = JobPhase::Running;
            job.status.started_at = Some(NOW);
            let uid = format!("0198c0de-0000-7000-9000-{number:012}");
            let mut run = StepRun {
                metadata: Meta::named(format!("job-{number}.work.1")),
                spec: RunSpec {
                    job: job.metadata.name.clone(),
                    job_uid: job.uid(),
                    step: "work".into(),
                    attempt: 1,
                    order: 1,
                    ..RunSpec::default()
                },
                ..StepRun::default()
            };
            run.status.phase = RunPhase::Running;
            run.status.workload = Some(uid.as_str().into());
            run.status.created_at = Some(NOW);
            run.status.started_at = Some(NOW);
            let mut workload = Workload { metadata: Meta::named(uid.clone()), ..Workload::default() };
            workload.metadata.uid = uid;
            workload.spec.r#type = WorkloadType::Script;
            workload.spec.owners = vec![Owner { name: job.metadata.name.clone(), uid: job.uid() }];
            workload.spec.run = Some(run.metadata.name.clone());
            workload.spec.command = vec!["/bin/sh".into(), "-c".into(), "sleep 1000".into()];
            workload.status.phase = WorkloadPhase::Running;
            workload.status.pid = Some(process(2 * number + 1001).pid);
            txn = txn.put(AnyObject::Job(job)).put(AnyObject::StepRun(run)).put(AnyObject::Workload(workload));
        }
        store.commit(txn, NOW).unwrap();
    }
}

/// A look that sees every workload of the store running: a shim and its child each.
pub fn observed(store: &Store) -> Observed {
    let seen = |pid: usize, is_shim: bool| SeenProcess {
        id: process(pid),
        parent: None,
        user: 1000,
        state: 'S',
        command: "sleep 1000".into(),
        rss_bytes: 1 << 20,
        is_shim,
        marks: Marks { environment: true, ..Marks::default() },
    };
    let mut trees = BTreeMap::new();
    for (uid, row) in &store.snapshot().unwrap().workloads {
        let child = usize::try_from(row.status.pid.unwrap().get()).unwrap();
        let shim = ShimSeen { shim: process(child - 1), child: Some(process(child)), boot_id: boot() };
        let tree = SeenWorkload {
            processes: vec![seen(child - 1, true), seen(child, false)],
            run_dir: true,
            shim: Some(shim),
            ..SeenWorkload::default()
        };
        trees.insert(uid.clone(), tree);
    }
    Observed { look: 7, as_of: NOW, breadth: Breadth::Host, boot_id: boot(), workloads: Reading::Known(trees) }
}

/// Adds finished jobs to a store that nobody has open: each with one run and one stopped workload, as they are stored.
pub fn finished(path: &Path, jobs: usize) {
    let mut connection = rusqlite::Connection::open(path).unwrap();
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    connection.pragma_update(None, "cache_size", -200_000).unwrap();
    let txn = connection.transaction().unwrap();
    let mut job = Job { metadata: Meta::named("@NAME"), ..Job::default() };
    job.metadata.uid = "@JOB".into();
    job.spec.flow_ref = Some("flow".into());
    job.status.phase = JobPhase::Succeeded;
    job.status.flow = Some(json!({"steps": {"work": {"run": "echo done", "outputs": ["answer"]}}}).into());
    job.status.finished_at = Some(NOW);
    let mut run = StepRun { metadata: Meta::named("@NAME.work.1"), ..StepRun::default() };
    run.metadata.uid = "@RUN".into();
    (run.spec.job, run.spec.job_uid) = ("@NAME".into(), "@JOB".into());
    (run.spec.step, run.spec.attempt, run.spec.order) = ("work".into(), 1, 1);
    run.status.phase = RunPhase::Completed;
    run.status.workload = Some("@WORKLOAD".into());
    let mut workload = Workload { metadata: Meta::named("@WORKLOAD"), ..Workload::default() };
    workload.metadata.uid = "@WORKLOAD".into();
    workload.spec.owners = vec![Owner { name: "@NAME".into(), uid: "@JOB".into() }];
    workload.spec.run = Some("@NAME.work.1".into());
    workload.status.phase = WorkloadPhase::Stopped;
    let rows = [
        ("Job", "@NAME", "@JOB", "Succeeded", None, AnyObject::Job(job)),
        ("StepRun", "@NAME.work.1", "@RUN", "Completed", Some("@JOB"), AnyObject::StepRun(run)),
        ("Workload", "@WORKLOAD", "@WORKLOAD", "Stopped", Some("@JOB"), AnyObject::Workload(workload)),
    ];
    let query = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1), \
         words AS (SELECT printf('done-%09d', n) AS name, printf('0198aaaa-0000-7000-8000-%012d', n) AS job, \
         printf('0198aaaa-0000-7000-a000-%012d', n) AS run, printf('0198aaaa-0000-7000-9000-%012d', n) AS workload FROM numbers) \
         INSERT INTO objects (kind, name, uid, phase, owner, active, resource_version, json) \
         SELECT ?2, FILL(?3), FILL(?4), ?5, FILL(?6), 0, 1, FILL(?7) FROM words WHERE ?1 > 0";
    let fill = |parameter: &str| {
        format!(
            "replace(replace(replace(replace({parameter}, '@NAME', name), '@JOB', job), '@RUN', run), '@WORKLOAD', workload)"
        )
    };
    let query = ["?3", "?4", "?6", "?7"]
        .iter()
        .fold(query.to_owned(), |query, parameter| query.replace(&format!("FILL({parameter})"), &fill(parameter)));
    for (kind, name, uid, phase, owner, object) in rows {
        let json = object.to_json().to_string();
        txn.execute(&query, rusqlite::params![jobs as i64, kind, name, uid, phase, owner, json]).unwrap();
    }
    txn.commit().unwrap();
    // Into the file, where a start finds it.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}
