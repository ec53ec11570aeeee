//! Tests over a real socket.

mod world;

use super::*;
use crate::model::*;
use crate::plan::{Line, Plan};
use crate::store::Txn;
use http_body_util::BodyExt;
use hyper::{Method, StatusCode};
use serde_json::json;
use std::collections::BTreeMap;
use tokio::net::UnixStream;
use tokio::time::timeout;
use world::*;

#[tokio::test]
async fn objects_are_created_read_replaced_patched_and_deleted() {
    let world = World::new().await;
    let jobs = format!("{V1}/jobs");
    let a = format!("{V1}/jobs/a");
    let (code, created) = world.call(Method::POST, &jobs, body("a", json!({"flowRef": "f"}))).await;
    assert_eq!((code, &created["kind"], &created["metadata"]["generation"]), (201, &json!("Job"), &json!(1)));
    world.rung().await;
    assert_eq!(world.get(&a).await, (200, created.clone()));
    let (code, status) = world.call(Method::POST, &jobs, body("a", json!({}))).await;
    assert_eq!((code, status_of(&status)), (409, ("Conflict", 409)));

    let (code, replaced) = world.call(Method::PUT, &a, body("a", json!({"flowRef": "g", "deadline": "2h"}))).await;
    assert_eq!(
        (code, &replaced["spec"]["flowRef"], &replaced["metadata"]["generation"]),
        (200, &json!("g"), &json!(2))
    );
    assert_eq!(replaced["metadata"]["uid"], created["metadata"]["uid"]);
    let patch = json!({"metadata": {"labels": {"team": "x"}}, "spec": {"deadline": null, "state": "Paused"}});
    let (code, patched) = world.call(Method::PATCH, &a, patch).await;
    assert_eq!((code, &patched["spec"]), (200, &json!({"flowRef": "g", "state": "Paused"})));
    assert_eq!(patched["metadata"]["labels"], json!({"team": "x"}));

    let (code, _) = world.call(Method::DELETE, &a, Value::Null).await;
    assert_eq!(code, 200);
    for method in [Method::GET, Method::DELETE, Method::PATCH] {
        let (code, status) = world.call(method, &a, json!({})).await;
        assert_eq!((code, status_of(&status)), (404, ("NotFound", 404)));
    }
}

#[tokio::test]
async fn status_and_what_else_is_not_theirs_stays_as_it_is() {
    let world = World::new().await;
    let mut job = Job { metadata: Meta::named("a"), ..Job::default() };
    job.status.phase = JobPhase::Running;
    job.metadata.annotations.insert(SOURCE_ANNOTATION.to_owned(), "a.yaml".to_owned());
    world.commit(Txn::new().put(AnyObject::Job(job)));
    let before = world.job("a");
    let theirs = json!({
        "metadata": {"name": "a", "uid": "forged", "generation": 9, "annotations": {SOURCE_ANNOTATION: "forged.yaml"}},
        "spec": {},
        "status": {"phase": "Succeeded"},
    });
    let path = format!("{V1}/jobs/a");
    for method in [Method::PUT, Method::PATCH] {
        assert_eq!(world.call(method, &path, theirs.clone()).await.0, 200);
        assert_eq!(world.job("a"), before);
    }
    let mut theirs = theirs;
    theirs["metadata"]["name"] = json!("b");
    let (_, created) = world.call(Method::POST, &format!("{V1}/jobs"), theirs).await;
    assert_eq!((&created["status"]["phase"], &created["metadata"]["annotations"]), (&json!("Pending"), &Value::Null));
    assert_ne!(created["metadata"]["uid"], "forged");
}

#[tokio::test]
async fn a_write_over_a_revision_that_is_no_more_is_a_conflict() {
    let world = World::new().await;
    world.commit(Txn::new().put(AnyObject::Job(Job { metadata: Meta::named("a"), ..Job::default() })));
    let path = format!("{V1}/jobs/a");
    let stale = json!({"metadata": {"name": "a", "resourceVersion": 7}, "spec": {"state": "Paused"}});
    for method in [Method::PUT, Method::PATCH] {
        let (code, status) = world.call(method, &path, stale.clone()).await;
        assert_eq!((code, status_of(&status)), (409, ("Conflict", 409)));
    }
    assert_eq!(world.job("a").spec.state, JobState::Running);
}

#[tokio::test]
async fn what_can_not_be_taken_is_refused_with_a_reason() {
    let world = World::new().await;
    world.commit(Txn::new().put(workload("w")).put(run("j.s.1")));
    let jobs = format!("{V1}/jobs");
    let cases = [
        (Method::POST, jobs.clone(), "{".to_owned(), 400, "Invalid"),
        (Method::POST, jobs.clone(), "[]".to_owned(), 422, "Invalid"),
        (Method::POST, jobs.clone(), body("a/b", json!({})).to_string(), 422, "Invalid"),
        (Method::POST, jobs.clone(), body("a", json!({"sate": "Paused"})).to_string(), 422, "Invalid"),
        (Method::POST, format!("{V1}/flows"), body("a", json!({})).to_string(), 422, "Invalid"),
        (Method::POST, jobs.clone(), " ".repeat(BODY_LIMIT_BYTES + 1), 413, "Invalid"),
        (Method::GET, format!("{jobs}?fieldSelector=spec.state=Paused"), String::new(), 400, "Invalid"),
        (Method::GET, format!("{jobs}?labelSelector=team"), String::new(), 400, "Invalid"),
        (Method::GET, "/events?after=x".to_owned(), String::new(), 400, "Invalid"),
        (Method::GET, format!("{V1}/pods"), String::new(), 404, "NotFound"),
        (Method::GET, "/nowhere".to_owned(), String::new(), 404, "NotFound"),
        (Method::PUT, jobs.clone(), String::new(), 405, "MethodNotAllowed"),
        (Method::POST, format!("{V1}/workloads"), "{}".to_owned(), 405, "MethodNotAllowed"),
        (Method::DELETE, format!("{V1}/workloads/w"), String::new(), 405, "MethodNotAllowed"),
        (Method::PATCH, format!("{V1}/stepruns/j.s.1"), "{}".to_owned(), 405, "MethodNotAllowed"),
        (Method::POST, format!("{V1}/jobs/nobody/cancel"), String::new(), 404, "NotFound"),
        (Method::POST, format!("{V1}/jobs/nobody/explode"), String::new(), 404, "NotFound"),
    ];
    for (method, path, text, code, reason) in cases {
        let response = world.send(method.clone(), &path, text).await;
        assert_eq!(response.status().as_u16(), code, "{method} {path}");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let status: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(status_of(&status), (reason, u64::from(code)), "{method} {path}");
    }
}

#[tokio::test]
async fn a_list_holds_what_is_selected() {
    let world = World::new().await;
    for (name, team, phase) in
        [("a", "x", JobPhase::Running), ("b", "x", JobPhase::Failed), ("c", "y", JobPhase::Running)]
    {
        let mut job = Job { metadata: Meta::named(name), ..Job::default() };
        job.metadata.labels.insert("team".to_owned(), team.to_owned());
        job.status.phase = phase;
        world.commit(Txn::new().put(AnyObject::Job(job)));
    }
    for (query, expected) in [
        ("", vec!["a", "b", "c"]),
        ("?labelSelector=team=x", vec!["a", "b"]),
        ("?labelSelector=team%3Dx,other%3D1", vec![]),
        ("?fieldSelector=status.phase=Running", vec!["a", "c"]),
        ("?fieldSelector=status.phase=Running&labelSelector=team==x", vec!["a"]),
        ("?fieldSelector=metadata.name=c", vec!["c"]),
        ("?fieldSelector=metadata.name=nobody", vec![]),
    ] {
        let (code, list) = world.get(&format!("{V1}/jobs{query}")).await;
        assert_eq!((code, &list["kind"], &list["metadata"]["resourceVersion"]), (200, &json!("List"), &json!(3)));
        let items = list["items"].as_array().unwrap();
        let names: Vec<_> = items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, expected, "{query}");
    }
}

#[tokio::test]
async fn a_watch_tells_every_change_whoever_made_it() {
    let world = World::new().await;
    let path = format!("{V1}/jobs");
    world.call(Method::POST, &path, body("a", json!({}))).await;
    let mut all = world.lines(&format!("{path}?watch=1")).await;
    let mut paused = world.lines(&format!("{path}?watch=1&labelSelector=is=paused")).await;
    assert_eq!(all.change().await, ("ADDED".into(), "a".into()));
    world.call(Method::POST, &path, body("b", json!({}))).await;
    assert_eq!(all.change().await, ("ADDED".into(), "b".into()));
    world.call(Method::PATCH, &format!("{path}/b"), json!({"metadata": {"labels": {"is": "paused"}}})).await;
    assert_eq!(all.change().await, ("MODIFIED".into(), "b".into()));
    assert_eq!(paused.change().await, ("ADDED".into(), "b".into()));
    world.call(Method::PATCH, &format!("{path}/b"), json!({"metadata": {"labels": null}})).await;
    assert_eq!(paused.change().await, ("DELETED".into(), "b".into()));
    assert_eq!(all.change().await, ("MODIFIED".into(), "b".into()));
    let old = world.job("b");
    let replaced = Job { metadata: Meta::named("b"), ..Job::default() };
    world.commit(Txn::new().delete(Kind::Job, "b", 0).put(AnyObject::Job(replaced)));
    let gone = all.next().await.unwrap();
    assert_eq!((&gone["type"], &gone["object"]["metadata"]["uid"]), (&json!("DELETED"), &json!(old.metadata.uid)));
    assert_eq!(all.change().await, ("ADDED".into(), "b".into()));
    let stranger = rusqlite::Connection::open(world.state_dir.store_file()).unwrap();
    stranger.execute("DELETE FROM objects WHERE name = 'a'", []).unwrap();
    assert_eq!(all.change().await, ("DELETED".into(), "a".into()));
}

#[tokio::test]
async fn cancelling_a_job_is_a_wish_for_its_end() {
    let world = World::new().await;
    world.commit(Txn::new().put(AnyObject::Job(Job { metadata: Meta::named("a"), ..Job::default() })));
    for _ in 0..2 {
        let (code, job) = world.call(Method::POST, &format!("{V1}/jobs/a/cancel"), Value::Null).await;
        assert_eq!(
            (code, &job["spec"]["state"], &job["status"]["phase"]),
            (200, &json!("Cancelled"), &json!("Pending"))
        );
    }
    world.rung().await;
    let (_, events) = world.get("/events?kind=job&name=a").await;
    assert_eq!(events["items"].as_array().unwrap().len(), 1);
    assert_eq!(events["items"][0]["reason"], "CancelRequested");
}

#[tokio::test]
async fn a_run_is_fulfilled_through_the_hook() {
    let world = World::new().await;
    world.commit(Txn::new().put(run("j.s.1")));
    let path = format!("{V1}/stepruns/j.s.1/fulfill");
    let (code, object) = world.call(Method::POST, &path, json!({"outputs": {"answer": 42}})).await;
    assert_eq!((code, &object["kind"]), (200, &json!("StepRun")));
    world.rung().await;
    assert_eq!(*world.fulfilled.lock().unwrap(), [("j.s.1".to_owned(), json!({"answer": 42}))]);
    let (code, status) = world.call(Method::POST, &path, json!({"outputs": {}})).await;
    assert_eq!((code, status_of(&status)), (409, ("Conflict", 409)));
    assert_eq!(world.call(Method::POST, &path, json!({})).await.0, 400);
    let nobody = format!("{V1}/stepruns/nobody/fulfill");
    assert_eq!(world.call(Method::POST, &nobody, json!({"outputs": {"answer": 42}})).await.0, 404);
}

#[tokio::test]
async fn a_manifest_is_applied_or_refused_with_all_its_diagnostics() {
    let world = World::new().await;
    let (code, list) =
        world.call(Method::POST, "/apply", json!({"file": "x.yaml", "text": "good", "dir": "/srv"})).await;
    assert_eq!((code, &list["items"][0]["kind"]), (200, &json!("Flow")));
    let (code, status) =
        world.call(Method::POST, "/apply", json!({"file": "x.yaml", "text": "bad", "dir": "/srv"})).await;
    assert_eq!((code, status_of(&status)), (422, ("Invalid", 422)));
    assert_eq!(status["message"], "x.yaml:3:5: unknown field");
    assert_eq!(
        (&status["details"]["causes"][0]["line"], status["details"]["causes"].as_array().unwrap().len()),
        (&json!(3), 1)
    );
    let relative = json!({"file": "x.yaml", "text": "good", "dir": "srv"});
    assert_eq!(world.call(Method::POST, "/apply", relative).await.0, 422);
    assert_eq!(world.get("/plan").await, (200, json!({"actions": []})));
}

#[tokio::test]
async fn events_are_listed_and_followed() {
    let world = World::new().await;
    let record = |name: &str, reason: &str| {
        world.commit(Txn::new().event(objects::event(Kind::Job, name, reason, "it happened")));
    };
    record("a", "One");
    record("b", "Two");
    record("a", "Three");
    let reasons = |list: &Value| -> Vec<String> {
        list["items"].as_array().unwrap().iter().map(|event| event["reason"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(reasons(&world.get("/events").await.1), ["One", "Two", "Three"]);
    assert_eq!(reasons(&world.get("/events?after=1").await.1), ["Two", "Three"]);
    assert_eq!(reasons(&world.get("/events?limit=1").await.1), ["Three"]);
    assert_eq!(reasons(&world.get("/events?name=a&kind=Job").await.1), ["One", "Three"]);
    let mut lines = world.lines("/events?watch=1&after=1&name=a").await;
    assert_eq!(lines.next().await.unwrap()["reason"], "Three");
    record("b", "Four");
    record("a", "Five");
    assert_eq!(lines.next().await.unwrap()["reason"], "Five");
}

#[tokio::test]
async fn transcripts_are_read_from_an_offset_and_from_nowhere_else() {
    let world = World::new().await;
    let uid = WorkloadUid::from("0198-w");
    world.commit(Txn::new().put(workload("0198-w")).put(workload("silent")));
    let text: String = (0..40_000).map(|number| format!("{number}\n")).collect();
    for dir in [world.state_dir.workload(&uid), world.state_dir.log(&WorkloadUid::from("ended"))] {
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("stdout"), &text).unwrap();
        fs::write(dir.join("spec.json"), "secret").unwrap();
    }
    for (path, from) in [
        ("/logs/0198-w/stdout", 0),
        ("/logs/ended/stdout?offset=150000", 150_000),
        ("/logs/0198-w/stdout?offset=999999", 999_999),
    ] {
        let response = world.send(Method::GET, path, "").await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let next: usize = response.headers()["x-offset"].to_str().unwrap().parse().unwrap();
        assert_eq!(next, text.len().max(from));
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert!(bytes == text.as_bytes()[from.min(text.len())..], "{path}");
    }
    // It runs, and has said nothing yet.
    let response = world.send(Method::GET, "/logs/silent/stderr?offset=0", "").await;
    assert_eq!((response.status(), &response.headers()["x-offset"]), (StatusCode::OK, &"0".parse().unwrap()));
    for path in ["/logs/nobody/stdout", "/logs/0198-w/spec.json", "/logs/..%2f0198-w/stdout", "/logs/../stdout"] {
        assert_eq!(world.get(path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn a_workload_is_shown_with_what_the_last_look_saw() {
    let world = World::new().await;
    world.commit(Txn::new().put(workload("w")));
    let path = format!("{V1}/workloads/w");
    let (_, plain) = world.get(&path).await;
    assert_eq!((plain["status"].get("pids"), plain["status"].get("rssBytes")), (None, None));
    let (code, status) = world.get("/readyz").await;
    assert_eq!((code, status_of(&status)), (503, ("Unavailable", 503)));
    assert_eq!(world.get("/status").await.1["lastPass"], Value::Null);

    let process = |pid| SeenProcess {
        id: ProcId { pid: Pid::new(pid).unwrap(), start: StartTime(1) },
        parent: None,
        user: 0,
        state: 'S',
        command: "agent".to_owned(),
        rss_bytes: 1000,
        is_shim: false,
        marks: Marks::default(),
    };
    let seen = SeenWorkload { processes: vec![process(41), process(42)], ..SeenWorkload::default() };
    let observed = Observed {
        look: 5,
        as_of: Time(0),
        breadth: Breadth::Host,
        boot_id: BootId::from("b"),
        workloads: Reading::Known(BTreeMap::from([(WorkloadUid::from("w"), seen)])),
    };
    let pass = Pass { observed: Some(Arc::new(observed)), ..Pass::default() };
    world.passes.send_replace(Arc::new(pass));
    let list = world.get(&format!("{V1}/workloads")).await.1;
    for object in [&world.get(&path).await.1, &list["items"][0]] {
        assert_eq!((&object["status"]["pids"], &object["status"]["rssBytes"]), (&json!([41, 42]), &json!(2000)));
    }
    assert_eq!(world.get(&path).await.1["status"].get("message"), None);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(world.send(Method::GET, path, "").await.status(), StatusCode::OK);
    }
    let (_, status) = world.get("/status").await;
    assert_eq!(status["instance"], world.store.instance().as_str());
    assert_eq!((&status["pid"], &status["lastPass"]["look"]), (&json!(std::process::id()), &json!(5)));
}

#[tokio::test]
async fn a_workload_whose_end_waits_for_something_says_for_what() {
    let world = World::new().await;
    let AnyObject::Workload(mut row) = workload("w") else { panic!() };
    row.status.message = Some("job j is Cancelled".into());
    let held = Line::Held("Kill: 2 processes left; in uninterruptible sleep: 41 (dd)".into(), None);
    let plan = Plan { lines: BTreeMap::from([(WorkloadUid::from("w"), held)]), ..Plan::default() };
    world.passes.send_replace(Arc::new(Pass { plan: Arc::new(plan), ..Pass::default() }));
    let path = format!("{V1}/workloads/w");
    world.commit(Txn::new().put(AnyObject::Workload(row.clone())));
    assert_eq!(world.get(&path).await.1["status"]["message"], "job j is Cancelled");
    row.status.stage = Some(Stage::Kill { round: 7, deadline: Time(0), sent: true });
    row.metadata.resource_version = world.store.get(Kind::Workload, "w").unwrap().unwrap().meta().resource_version;
    world.commit(Txn::new().put(AnyObject::Workload(row)));
    assert_eq!(
        world.get(&path).await.1["status"]["message"],
        "job j is Cancelled (Kill: 2 processes left; in uninterruptible sleep: 41 (dd))"
    );
}

#[tokio::test]
async fn the_socket_is_private_and_replaces_a_dead_one() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = StateDir(dir.path().to_owned());
    drop(bind(&state_dir).unwrap());
    assert!(state_dir.socket().exists(), "a dead controller leaves its socket");
    let _listener = bind(&state_dir).unwrap();
    assert_eq!(fs::metadata(state_dir.socket()).unwrap().permissions().mode() & 0o777, 0o600);
    UnixStream::connect(state_dir.socket()).await.unwrap();
    let error = bind(&StateDir(dir.path().join("x".repeat(120)))).unwrap_err();
    assert!(error.to_string().contains("a shorter state directory is needed"), "{error}");
}

#[tokio::test]
async fn an_orderly_end_ends_the_watches_and_removes_the_socket() {
    let mut world = World::new().await;
    let mut lines = world.lines("/events?watch=1").await;
    world.stop.take().unwrap().send(()).unwrap();
    assert_eq!(lines.next().await, None);
    timeout(PATIENCE, &mut world.server).await.unwrap().unwrap().unwrap();
    assert!(!world.state_dir.socket().exists());
}
