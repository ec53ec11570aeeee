//! Sub-jobs and jobs that wait for others, as files and processes tell it.

use crate::support::procs;
use crate::support::{World, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

/// A world with a directory that jobs work in.
struct Scene {
    world: World,
    work: PathBuf,
}

impl Scene {
    fn new() -> Scene {
        let world = World::new();
        let work = world.path().join("work");
        fs::create_dir(&work).unwrap();
        Scene { world, work }
    }

    /// Applies a job whose flow has these steps.
    #[track_caller]
    fn job(&self, name: &str, steps: Value, more: Value) {
        let mut spec = json!({"workingDir": self.work, "flow": {"steps": steps}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let job = json!({"apiVersion": "tenure.dev/v1alpha1", "kind": "Job", "metadata": {"name": name}, "spec": spec});
        self.world.ok_apply(&job.to_string());
    }

    #[track_caller]
    fn policy(&self, items: u32) {
        let policy = json!({"apiVersion": "tenure.dev/v1alpha1", "kind": "Policy", "metadata": {"name": "default"},
                            "spec": {"maxConcurrent": {"items": items}}});
        self.world.ok_apply(&policy.to_string());
    }

    fn touch(&self, name: &str) {
        fs::write(self.work.join(name), "").unwrap();
    }

    /// The lines of a file that scripts append to.
    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.work.join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn wait_reason(&self, job: &str, reason: &str) -> Value {
        wait_for(&format!("job {job} to say {reason}\n{}", self.world.log()), || {
            self.world.get("jobs", job).filter(|job| job["status"]["reason"] == reason)
        })
    }

    /// Waits for the processes of a job, and gives what there is of it.
    #[track_caller]
    fn wait_processes(&self, job: &str, least: usize) -> crate::support::Traces {
        wait_for(&format!("the processes of {job}\n{}", self.world.log()), || {
            let traces = self.world.traces_of(job);
            (traces.processes.iter().filter(|it| it.command.contains("sleep")).count() >= least).then_some(traces)
        })
    }
}

/// A flow inside of a flow inside of a flow, with two processes in the end.
fn nested() -> Value {
    let work = json!({"steps": {"work": {"run": "sleep 1000 & sleep 1001; wait"}}});
    let two = json!({"steps": {"three": {"flow": work}}});
    json!({"gate": {"executor": "external", "exits": [{"name": "no", "action": "abandon"}]},
           "one": {"flow": {"steps": {"two": {"flow": two}}}}})
}

const DEEPEST: &str = "top.one.1.two.1.three.1";

/// However a job ends, what its sub-jobs run three levels below ends with it; and nothing else does.
fn nothing_is_left_below(end: impl Fn(&World)) -> (Scene, Option<Value>) {
    let scene = Scene::new();
    scene.job(
        "neighbour",
        json!({"sub": {"flow": {"steps": {"work": {"run": "sleep 1002 & sleep 1003; wait"}}}}}),
        json!({}),
    );
    let neighbour = scene.wait_processes("neighbour.sub.1", 2);
    scene.job("top", nested(), json!({}));
    let traces = scene.wait_processes(DEEPEST, 2);
    end(&scene.world);
    scene.world.wait_gone(&traces);
    assert!(neighbour.processes.iter().all(procs::Process::is_alive), "{}", scene.world.log());
    assert_eq!(scene.world.job("neighbour").unwrap()["status"]["phase"], "Running");
    let deepest = scene.world.get("jobs", DEEPEST);
    (scene, deepest)
}

fn ended_with_its_parent(job: Option<Value>) {
    let status = job.unwrap()["status"].clone();
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Cancelled"), &json!("ParentEnded")));
}

#[test]
fn a_cancelled_job_leaves_nothing_of_its_sub_jobs() {
    ended_with_its_parent(nothing_is_left_below(|world| drop(world.ok(&["cancel", "top"]))).1);
}

#[test]
fn an_abandoned_job_leaves_nothing_of_its_sub_jobs() {
    ended_with_its_parent(nothing_is_left_below(|world| drop(world.ok(&["fulfill", "top/gate", "x=1"]))).1);
}

#[test]
fn a_deleted_job_leaves_nothing_of_its_sub_jobs_and_then_not_even_their_rows() {
    let (scene, _) = nothing_is_left_below(|world| drop(world.ok(&["delete", "job", "top"])));
    wait_for("the rows of the sub-jobs to be gone", || {
        let left = |kind: &str| {
            scene.world.list(kind).iter().any(|it| it["metadata"]["name"].as_str().unwrap().starts_with("top"))
        };
        (!left("jobs") && !left("stepruns")).then_some(())
    });
}

#[test]
fn the_first_item_that_fails_takes_the_others_along() {
    let scene = Scene::new();
    let work =
        r#"if [ "$item" = 2 ]; then while ! [ -e fail ]; do sleep 0.05; done; echo no >&2; exit 3; fi; sleep 1000"#;
    let flow = json!({"steps": {"work": {"run": work, "inputs": {"item": "$job.item"}}}});
    scene.job(
        "all",
        json!({"each": {"for_each": "$job.items", "flow": flow}}),
        json!({"inputs": {"items": [0, 1, 2, 3]}}),
    );
    let traces = [0, 1, 3].map(|item| scene.wait_processes(&format!("all.each.1-{item}"), 1));
    scene.touch("fail");
    let job = scene.world.wait_job("all", "Failed");
    let message = job["status"]["message"].as_str().unwrap();
    assert!(message.contains("item 2") && message.contains("exit status 3: no"), "{message}");
    traces.iter().for_each(|traces| scene.world.wait_gone(traces));
    let phases = [0, 1, 2, 3].map(|item| {
        let job = scene.world.get("jobs", &format!("all.each.1-{item}")).unwrap();
        job["status"]["reason"].as_str().unwrap().to_owned()
    });
    assert_eq!(phases, ["ParentEnded", "ParentEnded", "StepFailed", "ParentEnded"]);
}

#[test]
fn two_hundred_items_are_worked_on_five_at_a_time_and_each_once_whoever_kills_the_controller() {
    const ITEMS: usize = 200;
    let mut scene = Scene::new();
    scene.policy(5);
    let work = r#"echo "+" >>log; echo "$item" >>done; echo "-" >>log; [ $((item % 10)) = 7 ] && exit 1; printf '{"n":%d}' $((item * 2))"#;
    let flow = json!({"steps": {"work": {"run": work, "inputs": {"item": "$job.item"}, "outputs": ["n"]}}});
    let steps = json!({
        "list": {"run": format!("printf '{{\"items\":[%s]}}' \"$(seq -s, 0 {})\"", ITEMS - 1), "outputs": ["items"]},
        "each": {"for_each": "list.items", "flow": flow, "on_error": "continue", "outputs": ["results"]},
    });
    scene.job("all", steps, json!({}));
    for (lines, kill) in [(40, true), (90, true), (150, false), (ITEMS, false)] {
        wait_for(&format!("{lines} items\n{}", scene.world.log()), || {
            (scene.lines("done").len() >= lines).then_some(())
        });
        if kill {
            scene.world.kill_controller();
            scene.world.start();
        }
    }
    let job = scene.world.wait_job("all", "Succeeded");
    let results = job["status"]["outputs"]["results"].as_array().unwrap();
    assert_eq!(results.len(), ITEMS);
    for (item, result) in results.iter().enumerate() {
        if item % 10 == 7 {
            assert!(result["_error"].as_str().is_some_and(|it| it.starts_with("StepFailed")), "{item}: {result}");
        } else {
            assert_eq!(*result, json!({"n": item * 2}), "{item}");
        }
    }
    let mut done: Vec<usize> = scene.lines("done").iter().map(|line| line.parse().unwrap()).collect();
    done.sort_unstable();
    assert_eq!(done, (0..ITEMS).collect::<Vec<_>>(), "each item once");
    let log = scene.lines("log");
    let at_a_time = log.iter().scan(0, |now, line| {
        *now += if line == "+" { 1 } else { -1 };
        Some(*now)
    });
    assert!(at_a_time.max().unwrap() <= 5);
}

#[test]
fn what_failed_below_is_tried_again_in_place_and_what_succeeded_stays() {
    let scene = Scene::new();
    scene.policy(1);
    let work = r#"if [ "$item" = 1 ] && ! [ -e fixed ]; then exit 1; fi; echo "$item" >>log"#;
    let one = json!({"first": {"run": "echo first >>log"},
                     "second": {"run": work, "inputs": {"item": "$job.item"}, "after": ["first"]}});
    let each = json!({"each": {"for_each": "$job.items", "flow": {"steps": one}}});
    let steps = json!({"before": {"run": "echo before >>log"},
                       "middle": {"flow": {"inputs": ["items"], "steps": each}, "inputs": {"items": "$job.items"}, "after": ["before"]}});
    scene.job("top", steps, json!({"inputs": {"items": [0, 1, 2]}}));
    scene.world.wait_job("top", "Failed");
    assert_eq!(scene.lines("log"), ["before", "first", "0", "first"]);
    let refused = scene.world.cli(&["retry", "top.middle.1"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("tenure retry top"), "{refused:?}");
    scene.touch("fixed");
    scene.world.ok(&["retry", "top"]);
    wait_for(&format!("the retry to succeed\n{}", scene.world.log()), || {
        scene.world.job("top").filter(|job| job["status"]["phase"] == "Succeeded")
    });
    assert_eq!(scene.lines("log"), ["before", "first", "0", "first", "1", "first", "2"]);
}

#[test]
fn pausing_a_job_pauses_what_is_below_and_resuming_resumes_it() {
    let scene = Scene::new();
    let below = json!({"steps": {"first": {"run": "while ! [ -e go ]; do sleep 0.05; done"},
                                 "second": {"run": "echo second >>log", "after": ["first"]}}});
    scene.job("top", json!({"middle": {"flow": {"steps": {"sub": {"flow": below}}}}}), json!({}));
    let deepest = "top.middle.1.sub.1";
    scene.wait_processes(deepest, 1);
    scene.world.ok(&["pause", "top"]);
    scene.wait_reason(deepest, "Paused");
    scene.touch("go");
    wait_for("the first step to be over", || {
        scene.world.runs(deepest).get("first").filter(|run| run["status"]["phase"] == "Completed").map(drop)
    });
    assert!(!scene.world.runs(deepest).contains_key("second"));
    assert!(scene.lines("log").is_empty());
    scene.world.ok(&["resume", "top"]);
    scene.world.wait_job("top", "Succeeded");
    assert_eq!(scene.lines("log"), ["second"]);
}

#[test]
fn an_escalation_below_shows_above_and_goes_on_from_there() {
    let scene = Scene::new();
    let ask = json!({"run": "echo asked >>log", "exits": [{"name": "look at it", "action": "escalate"}]});
    let below = json!({"steps": {"ask": ask, "then": {"run": "echo then >>log", "after": ["ask"]}}});
    scene.job("top", json!({"middle": {"flow": {"steps": {"sub": {"flow": below}}}}}), json!({}));
    let top = scene.wait_reason("top", "SubJobEscalated");
    let message = top["status"]["message"].as_str().unwrap();
    assert!(message.contains("`top.middle.1.sub.1`") && message.contains("look at it"), "{message}");
    scene.world.ok(&["resume", "top"]);
    let top = scene.world.wait_job("top", "Succeeded");
    assert_eq!(top["status"].get("reason"), None);
    assert_eq!(scene.lines("log"), ["asked", "then"]);
}

#[test]
fn a_job_begins_after_those_before_it_with_what_they_gave() {
    let scene = Scene::new();
    let give = json!({"give": {"run": "while ! [ -e go ]; do sleep 0.05; done; printf '{\"word\":{\"a\":\"hello\"}}'", "outputs": ["word"]}});
    let say =
        json!({"inputs": ["word"], "steps": {"say": {"run": "echo \"$word\" >>log", "inputs": {"word": "$job.word"}}}});
    let second = json!({"flow": say, "inputsFrom": {"word": {"job": "first", "output": "word.a"}}});
    scene.job("second", json!({}), second);
    scene.wait_reason("second", "JobMissing");
    scene.job("first", give, json!({}));
    scene.wait_reason("second", "JobsPending");
    scene.touch("go");
    scene.world.wait_job("second", "Succeeded");
    assert_eq!(scene.lines("log"), ["hello"]);

    let say = |word: &str| json!({"say": {"run": format!("echo {word} >>log")}});
    scene.job("fails", json!({"no": {"run": "exit 1"}}), json!({}));
    scene.job("third", say("third"), json!({"after": ["first", "fails"]}));
    scene.wait_reason("third", "DependencyFailed");
    scene.job("slow", json!({"wait": {"run": "sleep 1000"}}), json!({}));
    scene.job("fourth", say("fourth"), json!({"after": ["slow"]}));
    scene.wait_reason("fourth", "JobsPending");
    scene.world.ok(&["delete", "job", "slow"]);
    scene.wait_reason("fourth", "DependencyFailed");
    scene.job("ring-a", say("ring"), json!({"after": ["ring-b"]}));
    scene.wait_reason("ring-a", "JobMissing");
    scene.job("ring-b", say("ring"), json!({"after": ["ring-a"]}));
    let circle = scene.wait_reason("ring-a", "DependencyCircle");
    assert_eq!(circle["status"]["phase"], "Failed");
    scene.wait_reason("ring-b", "DependencyCircle");
    assert_eq!(scene.lines("log"), ["hello"]);

    let flow = json!({"apiVersion": "tenure.dev/v1alpha1", "kind": "Flow", "metadata": {"name": "say"},
                      "spec": {"steps": say("after")}});
    scene.world.ok_apply(&flow.to_string());
    scene.world.ok(&["start", "say", "--name", "fifth", "--after", "first", "--after", "job/second"]);
    let fifth = scene.world.wait_job("fifth", "Succeeded");
    assert_eq!(fifth["spec"]["after"], json!(["first", "second"]));
}

#[test]
fn a_flow_is_found_beside_the_one_that_names_it_and_no_flow_is_inside_of_itself() {
    let scene = Scene::new();
    let write = |name: &str, text: &str| fs::write(scene.world.path().join(name), text).unwrap();
    fs::create_dir(scene.world.path().join("whole")).unwrap();
    write("whole/FLOW.yaml", "steps: {inner: {flow: beside}}\n");
    write("whole/beside.flow.yaml", "steps: {say: {run: 'echo beside >>log; echo hello', outputs: [stdout]}}\n");
    scene.job("top", json!({"sub": {"flow": "whole"}}), json!({}));
    let top = scene.world.wait_job("top", "Succeeded");
    assert_eq!(top["status"]["outputs"], json!({"stdout": "hello"}));
    assert_eq!(scene.lines("log"), ["beside"]);
    let told = scene.world.ok(&["describe", "job", "top"]);
    assert!(told.contains("top.sub.1"), "{told}");
    let told = scene.world.ok(&["describe", "job", "top.sub.1.inner.1"]);
    assert!(told.contains("job top.sub.1, run top.sub.1.inner.1"), "{told}");

    write("a.flow.yaml", "steps: {sub: {flow: b}}\n");
    write("b.flow.yaml", "steps: {sub: {flow: a}}\n");
    scene.job("ring", json!({"sub": {"flow": "a"}}), json!({}));
    let ring = scene.world.wait_job("ring", "Failed");
    let message = ring["status"]["message"].as_str().unwrap();
    assert!(message.contains("FlowCircle") && message.contains("b.flow.yaml` → "), "{message}");
    scene.job("lost", json!({"sub": {"flow": "nowhere"}}), json!({}));
    let lost = scene.world.wait_job("lost", "Failed");
    assert!(lost["status"]["message"].as_str().unwrap().contains("FlowMissing"), "{lost:#}");
    // A name that somebody else's job has.
    scene.job("taken.sub.1", json!({"say": {"run": "true"}}), json!({}));
    scene.job("taken", json!({"sub": {"flow": "whole"}}), json!({}));
    let taken = scene.world.wait_job("taken", "Failed");
    assert!(taken["status"]["message"].as_str().unwrap().contains("NameTaken"), "{taken:#}");
}

#[test]
fn a_job_goes_with_all_that_it_had_when_its_time_is_over() {
    let scene = Scene::new();
    let below = json!({"steps": {"say": {"run": "true"}}});
    scene.job("top", json!({"sub": {"flow": below}}), json!({"ttlAfterFinished": "1s"}));
    scene.job("kept", json!({"sub": {"flow": below}}), json!({}));
    wait_for(&format!("the job and what it had to be gone\n{}", scene.world.log()), || {
        let told = scene.world.ok(&["events"]).contains("ttlAfterFinished");
        let names = ["jobs", "stepruns", "workloads"].map(|kind| scene.world.list(kind));
        let left = names.iter().flatten().any(|it| it.to_string().contains("\"top"));
        (told && !left).then_some(())
    });
    scene.world.wait_job("kept", "Succeeded");
    assert!(scene.world.get("jobs", "kept.sub.1").is_some());
}
