//! Verbs against a controller that is made up: exit statuses, what they send, and what they print.

mod world;

use super::console::Console;
use super::{Cli, execute};
use crate::model::{AnyObject, Flow, Job, Meta, Time};
use crate::store::{Store, Txn};
use clap::Parser;
use serde_json::{Value, json};
use world::{Buffer, ClosedPipe, World};

const NOW: Time = Time(1_767_225_605_000);
const V1: &str = "/apis/tenure.dev/v1alpha1";

fn job(name: &str, phase: &str) -> Value {
    json!({
        "apiVersion": "tenure.dev/v1alpha1", "kind": "Job",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"flowRef": "triage"},
        "status": {"phase": phase},
    })
}

fn run(name: &str, step: &str, attempt: u32, phase: &str) -> Value {
    json!({"kind": "StepRun", "metadata": {"name": name}, "spec": {"job": "a", "step": step, "attempt": attempt},
           "status": {"phase": phase, "workload": format!("w-{step}")}})
}

fn list(items: &[Value]) -> Value {
    json!({"kind": "List", "items": items})
}

fn change(r#type: &str, object: Value) -> Value {
    json!({"type": r#type, "object": object})
}

fn refusal(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "reason": "Some", "message": message, "code": code})
}

#[tokio::test]
async fn a_list_is_a_table_or_whole() {
    let world = World::new(&[
        (&format!("GET {V1}/jobs/a"), 200, job("a", "Running")),
        (&format!("GET {V1}/jobs?labelSelector=team%3Dx%2Cb%3Dc"), 200, list(&[])),
        (&format!("GET {V1}/jobs"), 200, list(&[job("a", "Running"), job("b", "Failed")])),
    ]);
    let (code, out, err) = world.run("get jobs").await;
    assert_eq!((code, err.as_str()), (0, ""));
    insta::assert_snapshot!(out, @r"
    NAME  PHASE    REASON  AGE
    a     Running  -       5s
    b     Failed   -       5s
    ");
    assert_eq!(world.run("get Job -o name").await.1, "job/a\njob/b\n");
    let whole: Value = serde_json::from_str(&world.run("get job -o json").await.1).unwrap();
    assert_eq!(whole, list(&[job("a", "Running"), job("b", "Failed")]));
    for args in ["get job a -o json", "get job/a -o json"] {
        assert_eq!(serde_json::from_str::<Value>(&world.run(args).await.1).unwrap(), job("a", "Running"));
    }
    let yaml = world.run("get job a -o yaml").await.1;
    assert!(yaml.contains("kind: Job\n") && yaml.contains("  phase: Running\n"), "{yaml}");
    let (code, out, err) = world.run("get jobs -l team=x -l b=c").await;
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", "there are no jobs\n"));
}

#[tokio::test]
async fn each_failure_has_its_exit_status_and_says_what_to_do() {
    let world = World::new(&[
        (&format!("GET {V1}/jobs?"), 200, list(&[job("triage", "Running")])),
        (&format!("GET {V1}/stepruns/"), 404, refusal(404, "there is no StepRun")),
        (&format!("GET {V1}/stepruns"), 200, list(&[])),
        (&format!("GET {V1}/jobs/broken"), 500, refusal(500, "the store is damaged")),
        (&format!("GET {V1}/jobs/"), 404, refusal(404, "there is no Job")),
        (&format!("GET {V1}/jobs"), 200, list(&[job("triage", "Running")])),
    ]);
    let mut all = String::new();
    for (args, expected) in [
        ("get job triaje", 3),
        ("get job broken", 1),
        ("get jbos", 2),
        ("get job/a b", 2),
        ("describe job", 2),
        ("delete jobs", 2),
        ("delete job x", 3),
        ("wait x", 3),
        ("start x", 3),
        ("cancel x", 3),
        ("fulfill x y=1", 3),
        ("fulfill x --json [1]", 2),
        ("logs x", 3),
        ("validate /nowhere/x.yaml", 3),
        ("eval 1 --context {", 2),
        ("run --resync 0", 2),
        ("run /nowhere", 2),
    ] {
        let (code, out, err) = world.run(args).await;
        assert_eq!((code, out.as_str()), (expected, ""), "{args}: {err}");
        all.push_str(&format!("$ tenure {args}\n{err}"));
    }
    insta::assert_snapshot!(all, @r#"
    $ tenure get job triaje
    error: failed to get job triaje: there is no job `triaje`
    did you mean `triage`?
    $ tenure get job broken
    error: failed to get Job broken: the store is damaged
    $ tenure get jbos
    error: there is no kind `jbos`
    did you mean `jobs`?
    $ tenure get job/a b
    error: `job/a` names an object already
    name one object at a time
    $ tenure describe job
    error: which job is to be described?
    name one: `tenure get jobs` shows what there is
    $ tenure delete jobs
    error: which jobs are to be deleted?
    name one: `tenure delete KIND NAME`
    $ tenure delete job x
    error: failed to delete job/x: there is no DELETE /apis/tenure.dev/v1alpha1/jobs/x
    $ tenure wait x
    error: failed to get job x: there is no job `x`
    `tenure get jobs` shows what there is
    $ tenure start x
    error: failed to start x: there is no flow `x`
    `tenure get flows` shows what there is
    $ tenure cancel x
    error: failed to cancel job/x: there is no POST /apis/tenure.dev/v1alpha1/jobs/x/cancel
    $ tenure fulfill x y=1
    error: failed to get job x: there is no job `x`
    `tenure get jobs` shows what there is
    $ tenure fulfill x --json [1]
    error: --json is not an object
    write --json '{"key": "value"}'
    $ tenure logs x
    error: failed to get job x: there is no job `x`
    `tenure get jobs` shows what there is
    $ tenure validate /nowhere/x.yaml
    error: the file can not be read: No such file or directory (os error 2)
    --> /nowhere/x.yaml

    $ tenure eval 1 --context {
    error: failed to read the context: it is not JSON: EOF while parsing an object at line 1 column 1
    a file is named with --context @FILE
    $ tenure run --resync 0
    error: --resync 0 would never rest
    give a span such as 10s
    $ tenure run /nowhere
    error: /nowhere is not a directory
    name directories of manifests, or none at all
    "#);
}

#[tokio::test]
async fn without_a_controller_what_reads_reads_the_store_and_what_writes_says_how_to_start_one() {
    let world = World::silent();
    let (code, _, err) = world.run("get jobs").await;
    assert_eq!(code, 1);
    insta::assert_snapshot!(err, @r"
    error: failed to get jobs: no controller runs on STATE
    start one with `tenure run --state STATE`, or name another one's state directory with --state
    ");
    let store = Store::open(&world.state().store_file()).unwrap();
    let flow =
        Flow { metadata: Meta::named("triage"), spec: json!({"steps": {"a": {"run": "true"}}}), ..Flow::default() };
    let job = Job { metadata: Meta::named("a"), ..Job::default() };
    store.commit(Txn::new().put(AnyObject::Flow(flow)).put(AnyObject::Job(job)), NOW).unwrap();
    drop(store);
    let (code, out, err) = world.run("get jobs").await;
    assert_eq!(code, 0);
    insta::assert_snapshot!(out + &err, @r"
    NAME  PHASE    REASON  AGE
    a     Pending  -       0s
    note: no controller runs on STATE; this is what its store last held
    ");
    for (args, expected) in [
        ("get job a", 0),
        ("get job b", 3),
        ("describe job a", 0),
        ("events", 0),
        ("events b", 3),
        ("logs a", 0),
        ("logs b", 3),
        ("plan", 0),
    ] {
        let (code, _, err) = world.run(args).await;
        assert_eq!(code, expected, "{args}: {err}");
        assert!(err.contains("no controller runs"), "{err}");
    }
    for args in [
        "cancel a",
        "start triage",
        "delete job a",
        "fulfill a x=1",
        "wait a",
        "status",
        "get jobs -w",
        "events -w",
        "logs a -f",
    ] {
        let (code, _, err) = world.run(args).await;
        assert_eq!(code, 1, "{args}: {err}");
        assert!(err.contains("start one with `tenure run --state STATE`"), "{args}: {err}");
        assert!(err.lines().filter(|line| !line.starts_with("note:")).count() <= 2, "{args}: {err}");
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_error() {
    let world = World::new(&[(&format!("GET {V1}/jobs"), 200, list(&[job("a", "Running")]))]);
    let err = Buffer::default();
    let mut console = Console::for_test(ClosedPipe, err.clone(), || NOW);
    let state = world.path();
    let cli = Cli::try_parse_from(["tenure", "--state", &state, "get", "jobs"]).unwrap();
    assert_eq!((execute(cli, &mut console).await.code(), err.text().as_str()), (0, ""));
}

#[tokio::test]
async fn a_watch_prints_a_line_a_change() {
    let changes = json!([
        change("ADDED", job("a", "Running")),
        change("ADDED", job("b", "Pending")),
        change("MODIFIED", job("a", "Succeeded")),
        change("DELETED", job("a", "Succeeded")),
    ]);
    let world = World::new(&[
        (&format!("GET {V1}/jobs?watch=1"), 200, changes),
        (&format!("GET {V1}/jobs"), 200, list(&[job("a", "Running")])),
    ]);
    let (code, out, err) = world.run("get jobs --watch").await;
    assert_eq!(code, 1);
    insta::assert_snapshot!(out + &err, @r"
    NAME  PHASE      REASON        AGE
    a     Running    -             5s
    b     Pending    -             5s
    a     Succeeded  -             5s
    a     Deleted    -             5s
    error: failed to watch jobs: the controller has ended
    start it again, then watch again
    ");
}

#[tokio::test]
async fn a_job_is_started_with_its_inputs_and_waited_for() {
    let ended = |phase: &str| json!([change("ADDED", job("t", "Running")), change("MODIFIED", job("t", phase))]);
    for (phase, expected) in [("Succeeded", 0), ("Failed", 1)] {
        let world = World::new(&[
            (&format!("GET {V1}/flows/triage"), 200, json!({})),
            (&format!("POST {V1}/jobs"), 201, json!({})),
            (&format!("GET {V1}/jobs?fieldSelector=metadata.name%3Dt&watch=1"), 200, ended(phase)),
            (&format!("GET {V1}/jobs/t"), 200, job("t", "Running")),
        ]);
        let (code, out, err) = world.run("start triage -i ticket=482 -i who=me --name t --wait").await;
        assert_eq!((code, out.as_str(), err.as_str()), (expected, &*format!("job/t created\njob/t {phase}\n"), ""));
        let (_, body) = world.requests().into_iter().find(|(line, _)| line.starts_with("POST")).unwrap();
        assert_eq!(body["spec"], json!({"flowRef": "triage", "inputs": {"ticket": 482, "who": "me"}}));
    }
    let world = World::new(&[
        (&format!("GET {V1}/jobs?"), 200, json!([])),
        (&format!("GET {V1}/jobs/t"), 200, job("t", "Running")),
    ]);
    let (code, _, err) = world.run("wait job/t --timeout 50ms").await;
    assert_eq!((code, err.contains("it is still Running after 50ms")), (4, true), "{err}");
}

#[tokio::test]
async fn the_suspended_run_of_a_step_is_fulfilled() {
    let runs = list(&[
        run("a.ask.1", "ask", 1, "Completed"),
        run("a.ask.2", "ask", 2, "Suspended"),
        run("a.b.1", "b", 1, "Running"),
    ]);
    for args in ["fulfill a/ask ok=true why=because", "fulfill a ok=true why=because"] {
        let world = World::new(&[
            (&format!("GET {V1}/stepruns/"), 404, refusal(404, "no")),
            (&format!("GET {V1}/stepruns"), 200, runs.clone()),
            (&format!("POST {V1}/stepruns/a.ask.2/fulfill"), 200, json!({})),
        ]);
        assert_eq!(world.run(args).await, (0, "steprun/a.ask.2 fulfilled\n".into(), String::new()));
        assert_eq!(world.requests().last().unwrap().1, json!({"outputs": {"ok": true, "why": "because"}}));
    }
    let world = World::new(&[
        (&format!("GET {V1}/stepruns/"), 404, refusal(404, "no")),
        (&format!("GET {V1}/stepruns"), 200, runs),
    ]);
    let (code, _, err) = world.run("fulfill a/b x=1").await;
    assert_eq!((code, err.contains("a.b.1 is Running")), (1, true), "{err}");
}

#[tokio::test]
async fn a_manifest_with_errors_is_shown_as_a_compiler_does() {
    let cause = json!({"severity": "error", "file": "x.yaml", "line": 2, "column": 1, "sourceLine": "knd: Job",
                       "message": "unknown key `knd`", "help": "did you mean `kind`?"});
    let mut status = refusal(422, "x.yaml:2:1: unknown key `knd`");
    status["details"] = json!({"causes": [cause]});
    let applied = list(&[job("a", "Pending")]);
    let world = World::new(&[("POST /apply", 200, applied), ("POST /apply", 422, status)]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.yaml");
    std::fs::write(&file, "x").unwrap();
    let file = file.to_str().unwrap();
    let (code, out, err) = world.run_with(&["apply", "-f", file, file]).await;
    assert_eq!((code, out.as_str()), (1, "job/a applied\n"));
    insta::assert_snapshot!(err.replace(file, "x.yaml"), @r"
    error: unknown key `knd`
     --> x.yaml:2:1
      |
    2 | knd: Job
      | ^
      |
      = help: did you mean `kind`?
    error: failed to apply x.yaml: it has errors; nothing of it was applied
    ");
    let (_, body) = &world.requests()[0];
    assert_eq!((&body["text"], &body["dir"]), (&json!("x"), &json!(dir.path())));
}

#[tokio::test]
async fn a_plan_with_actions_is_exit_status_two() {
    let plan = json!({"actions": [{"key": "0198", "action": "Signal", "reason": "job a is Failed"}], "held": [{"key": "0199", "reason": "wanted"}]});
    let world = World::new(&[("GET /plan", 200, plan)]);
    let (code, out, _) = world.run("plan").await;
    assert_eq!(code, 2);
    insta::assert_snapshot!(out, @r"
    ACTION  WORKLOAD  REASON
    Signal  0198      job a is Failed
    held    0199      wanted
    ");
    let world = World::new(&[("GET /plan", 200, json!({"actions": [], "held": []}))]);
    assert_eq!(world.run("plan").await, (0, String::new(), "nothing to do\n".into()));
}

#[tokio::test]
async fn logs_show_scripts_as_they_are_and_agents_as_people_read_them() {
    let session = json!({"id": "session/a.ask.1", "result": {"sessionId": "s"}});
    let said = json!({"method": "session/update", "params": {"sessionId": "s", "update": {"sessionUpdate": "agent_message_chunk", "content": {"text": "Yes."}}}});
    let workload = |r#type: &str| json!({"spec": {"type": r#type}, "status": {"phase": "Stopped"}});
    let world = World::new(&[
        (&format!("GET {V1}/jobs/a"), 200, job("a", "Succeeded")),
        (&format!("GET {V1}/stepruns/"), 404, refusal(404, "no")),
        (
            &format!("GET {V1}/stepruns"),
            200,
            list(&[run("a.ask.1", "ask", 1, "Completed"), run("a.b.1", "b", 1, "Completed")]),
        ),
        (&format!("GET {V1}/workloads/w-ask"), 200, workload("Adapter")),
        (&format!("GET {V1}/workloads/w-b"), 200, workload("Script")),
        ("GET /logs/w-ask/stdout", 200, json!([session, said])),
        ("GET /logs/w-b/stdout", 200, json!([{"x": 1}])),
        ("GET /logs/w-b/stderr", 200, json!(["oops"])),
    ]);
    insta::assert_snapshot!(world.run("logs a").await.1, @r#"
    ==> a.ask.1 <==
    Yes.

    ==> a.b.1 <==
    {"x":1}
    "oops"
    "#);
    assert_eq!(world.run("logs a/b --follow").await.1, "{\"x\":1}\n\"oops\"\n");
    assert_eq!(world.run("logs a/b --stderr").await.1, "\"oops\"\n");
    assert_eq!(world.run("logs a/ask --raw").await.1, format!("{session}\n{said}\n"));
    assert_eq!(world.run("logs a/ask").await.1, "Yes.\n");
}

#[tokio::test]
async fn the_events_of_a_job_are_those_of_all_that_is_its_own() {
    let event = |id: u64, kind: &str, name: &str, reason: &str| json!({"id": id, "time": "2026-01-01T00:00:00Z", "kind": kind, "name": name, "type": "Normal", "reason": reason, "message": "it\nhappened"});
    let events = list(&[
        event(1, "Job", "a", "One"),
        event(2, "StepRun", "a.s.1", "Two"),
        event(3, "StepRun", "a.b.s.1", "OfAnotherJob"),
        event(4, "Workload", "w", "Three"),
        event(5, "Workload", "v", "OfAnotherJob"),
        event(6, "Job", "ab", "OfAnotherJob"),
    ]);
    let world = World::new(&[
        (
            &format!("GET {V1}/workloads"),
            200,
            list(&[json!({"metadata": {"name": "w"}, "spec": {"owners": [{"name": "a"}]}})]),
        ),
        (
            "GET /events?watch=1&after=6",
            200,
            json!([event(7, "Job", "a", "Four"), event(8, "Job", "b", "OfAnotherJob")]),
        ),
        ("GET /events", 200, events),
    ]);
    insta::assert_snapshot!(world.run("events a").await.1, @r"
    TIME                      TYPE    REASON  OBJECT         MESSAGE
    2026-01-01T00:00:00.000Z  Normal  One     job/a          it happened
    2026-01-01T00:00:00.000Z  Normal  Two     steprun/a.s.1  it happened
    2026-01-01T00:00:00.000Z  Normal  Three   workload/w     it happened
    ");
    let (_, out, _) = world.run("events a --watch -o json -n 1").await;
    let reasons: Vec<Value> =
        out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["reason"].clone()).collect();
    assert_eq!(reasons, ["Three", "Four"]);
}

#[test]
fn the_command_line_is_sound_and_the_state_directory_is_said_before_or_after() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
    for args in [["tenure", "--state", "/x", "get", "jobs"], ["tenure", "get", "jobs", "--state", "/x"]] {
        assert_eq!(Cli::try_parse_from(args).unwrap().state, Some("/x".into()));
    }
    for args in
        ["tenure frob", "tenure wait a --for Done", "tenure start f -i x", "tenure run --resync soon", "tenure apply"]
    {
        assert_eq!(Cli::try_parse_from(args.split(' ')).unwrap_err().exit_code(), 2, "{args}");
    }
}
