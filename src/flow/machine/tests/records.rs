//! What stays to be read afterwards: the events of a pass, and what is recorded on jobs and runs.

use super::{World, step};
use crate::flow::{Effect, Field, OnError, finish, fulfil, next_wake};
use crate::model::{
    Decision, ExitAction, Failure, JobPhase, JobState, Outcome, RunPhase, RunStatus, Span, StepRun, Time,
};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The events of a pass: `type name reason: message`.
fn told(effects: &[Effect]) -> Vec<String> {
    let events = effects.iter().filter_map(|effect| match effect {
        Effect::Event(event) => Some(event),
        Effect::Run(_) | Effect::Job(_) => None,
    });
    events
        .map(|event| {
            assert_eq!(event.details, Value::Null);
            format!("{:?} {:?} {} {}: {}", event.r#type, event.kind, event.name, event.reason, event.message)
        })
        .collect()
}

fn given(outputs: Value) -> Result<Map<String, Value>, Failure> {
    Ok(outputs.as_object().unwrap().clone())
}

fn failed() -> Result<Map<String, Value>, Failure> {
    Err(Failure { reason: "ExitStatus".into(), message: "exit status 1".into() })
}

#[test]
fn a_start_is_told_with_the_attempt() {
    let mut world = World::new([step("a").back_to("a", "attempt == 1", None), step("ask").asks("well?")]);
    assert_eq!(
        told(&world.pass()),
        [
            "Normal Job j JobStarted: its steps run as they become ready",
            "Normal StepRun j.a.1 StepReady: attempt 1: what it waited for is there",
            "Normal StepRun j.ask.1 StepSuspended: attempt 1: it waits for an answer",
        ]
    );
    let ready = RunStatus { created_at: Some(world.now), ..RunStatus::default() };
    assert_eq!(world.run("a.1").status, ready);
    let suspended = RunStatus {
        phase: RunPhase::Suspended,
        message: Some("well?".into()),
        created_at: Some(world.now),
        started_at: Some(world.now),
        ..RunStatus::default()
    };
    assert_eq!(world.run("ask.1").status, suspended);
    assert_eq!((world.job.status.started_at, world.job.status.message.as_deref()), (Some(world.now), None));
    world.end("a", given(json!({"x": 1, "y": 2})));
    assert_eq!(
        told(&world.pass()),
        [
            "Normal StepRun j.a.1 StepCompleted: it gave 2 outputs",
            "Normal StepRun j.a.1 ExitRule: rule `again`: loop to `a`",
            "Normal StepRun j.a.2 StepReady: attempt 2: what it waited for is there",
        ]
    );
}

#[test]
fn what_a_rule_decides_is_told_in_its_words_and_recorded() {
    let decided = |step_a: crate::flow::Step, result| {
        let mut world = World::started([step_a, step("other")]);
        world.end("a", result);
        let told = told(&world.pass());
        (told, world.run("a.1").status.decision.clone())
    };
    let completed = "Normal StepRun j.a.1 StepCompleted: it gave 0 outputs".to_owned();
    let rule = |words: &str| format!("Normal StepRun j.a.1 ExitRule: {words}");
    let decision = |action, rule: &str| Some(Decision { action, rule: Some(rule.into()), target: None, retry: false });
    let nameless = |mut step: crate::flow::Step| {
        step.exits.iter_mut().for_each(|rule| rule.name = None);
        step
    };
    let go = step("a").exit("no", "False", ExitAction::Abandon).exit("go", "True", ExitAction::Advance);
    let advanced = decided(go.clone(), given(json!({})));
    assert_eq!(advanced, (vec![completed.clone(), rule("rule `go`: advance")], decision(ExitAction::Advance, "go")));
    let advanced = decided(nameless(go), given(json!({})));
    assert_eq!(advanced, (vec![completed.clone(), rule("rule 2: advance")], decision(ExitAction::Advance, "rule 2")));
    let (said, of) = decided(step("a").exit("help", "True", ExitAction::Escalate), given(json!({})));
    let escalated = "Warning Job j Escalated: step `a`, rule `help`".to_owned();
    assert_eq!(said, [completed.clone(), rule("rule `help`: escalate"), escalated]);
    assert_eq!(of, decision(ExitAction::Escalate, "help"));
    let (said, of) = decided(step("a").exit("no", "True", ExitAction::Abandon), given(json!({})));
    let abandoned = "Warning Job j JobFailed: Abandoned: step `a`, rule `no`".to_owned();
    assert_eq!(said, [completed.clone(), rule("rule `no`: abandon"), abandoned]);
    assert_eq!(of, decision(ExitAction::Abandon, "no"));
    let (said, of) = decided(step("a").back_to("other", "True", Some(3)), given(json!({})));
    assert_eq!(said[..2], [completed.clone(), rule("rule `again`: loop to `other`")]);
    let back =
        Decision { action: ExitAction::Loop, rule: Some("again".into()), target: Some("other".into()), retry: false };
    assert_eq!(of, Some(back));
    let (said, of) = decided(step("a").back_to("a", "True", Some(1)), given(json!({})));
    assert_eq!(said[..2], [completed.clone(), rule("rule `again`: `a` has run as often as it may; escalate")]);
    assert_eq!(of, decision(ExitAction::Escalate, "again"));
    // Validation refuses a loop to nowhere; if there is one, somebody is asked.
    let (said, _) = decided(step("a").back_to("nowhere", "True", None), given(json!({})));
    assert_eq!(said[1], rule("rule `again`: `nowhere` has run as often as it may; escalate"));
}

#[test]
fn a_failure_is_told_and_answered_by_the_step_or_by_the_job() {
    let ended = |step_a: crate::flow::Step, change: fn(&mut RunStatus)| {
        let mut world = World::started([step_a]);
        world.end("a", failed());
        change(&mut world.runs[0].status);
        told(&world.pass())
    };
    let stays = |_: &mut RunStatus| {};
    let step_failed = "Warning StepRun j.a.1 StepFailed: ExitStatus: exit status 1";
    assert_eq!(
        ended(step("a"), stays),
        [step_failed, "Warning Job j JobFailed: StepFailed: step `a`: ExitStatus: exit status 1"]
    );
    assert_eq!(
        ended(step("a").go_on(), stays),
        [step_failed, "Normal Job j JobSucceeded: Completed: nothing is left to do"]
    );
    // Whatever there is of a reason and a message is said.
    let said = |change| ended(step("a"), change)[0].clone();
    assert_eq!(said(|status| status.message = None), "Warning StepRun j.a.1 StepFailed: ExitStatus");
    assert_eq!(said(|status| status.reason = None), "Warning StepRun j.a.1 StepFailed: exit status 1");
    let neither = said(|status| (status.reason, status.message) = (None, None));
    assert_eq!(neither, "Warning StepRun j.a.1 StepFailed: it failed");
}

#[test]
fn a_rule_that_can_not_be_evaluated_is_told_and_the_next_one_is_asked() {
    let mut world =
        World::started([step("a").exit("no", "nobody", ExitAction::Abandon).exit("go", "True", ExitAction::Advance)]);
    world.end("a", given(json!({})));
    let told = told(&world.pass());
    let warned = "Warning StepRun j.a.1 ExitRuleError: rule `no` counts as not matching: ";
    assert!(told[1].starts_with(warned) && told[1].len() > warned.len(), "{}", told[1]);
    assert_eq!(told[2], "Normal StepRun j.a.1 ExitRule: rule `go`: advance");
}

#[test]
fn a_step_whose_rules_all_pass_by_fails_and_says_how_many_there_were() {
    let mut world =
        World::started([step("a").exit("go", "False", ExitAction::Advance).exit("no", "False", ExitAction::Abandon)]);
    world.end("a", given(json!({})));
    assert_eq!(
        told(&world.pass()),
        [
            "Normal StepRun j.a.1 StepCompleted: it gave 0 outputs",
            "Warning StepRun j.a.1 StepFailed: NoExitRuleMatched: none of the 2 exit rules matched",
            "Warning Job j JobFailed: StepFailed: step `a`: NoExitRuleMatched: none of the 2 exit rules matched",
        ]
    );
    // A failure that no rule answers keeps its own reason.
    let mut world = World::started([step("a").exit("go", "False", ExitAction::Advance).go_on()]);
    world.fails("a");
    let status = &world.run("a.1").status;
    assert_eq!((status.reason.as_deref(), status.finished_at), (Some("ExitStatus"), Some(world.now)));
    let passed = Decision { action: ExitAction::Advance, rule: None, target: None, retry: false };
    assert_eq!(status.decision, Some(passed));
}

#[test]
fn what_a_job_waits_for_is_told_once_and_again_when_it_changes() {
    let mut world = World::new([step("a")]);
    let required = || Field { required: true, ..Field::default() };
    world.flow.inputs.extend([("x".into(), required()), ("y".into(), required())]);
    let missing = |names: &str| format!("Warning Job j InputsMissing: set `spec.inputs` for {names}");
    assert_eq!(told(&world.pass()), [missing("`x`, `y`")]);
    assert!(world.pass().is_empty());
    world.job.spec.inputs.insert("x".into(), json!(1));
    assert_eq!(told(&world.pass()), [missing("`y`")]);
    assert!(world.pass().is_empty());
    // The same words for another reason are news too.
    world.job.status.reason = Some("InputsInvalid".into());
    assert_eq!(told(&world.pass()), [missing("`y`")]);
}

#[test]
fn a_pause_and_its_end_are_told_once() {
    let mut world = World::started([step("a")]);
    world.job.spec.state = JobState::Paused;
    assert_eq!(told(&world.pass()), ["Normal Job j Paused: `spec.state` is `Paused`"]);
    assert_eq!(world.message(), "`spec.state` is `Paused`");
    assert!(world.pass().is_empty());
    world.job.spec.state = JobState::Running;
    assert_eq!(told(&world.pass()), ["Normal Job j JobResumed: new steps may start again"]);
    assert_eq!((world.job.status.reason.as_deref(), world.message()), (None, ""));
    assert!(world.pass().is_empty());
}

#[test]
fn a_second_escalation_changes_nothing_of_the_first() {
    let helps = |name: &str| step(name).exit("help", "True", ExitAction::Escalate);
    let mut world = World::started([helps("a"), helps("b")]);
    world.ok("a");
    let first = world.job.status.clone();
    assert_eq!((first.escalated_generation, first.phase), (Some(1), JobPhase::Paused));
    world.end("b", given(json!({})));
    let told = told(&world.pass());
    assert_eq!(told.last().unwrap(), "Normal StepRun j.b.1 ExitRule: rule `help`: escalate");
    assert_eq!(world.job.status, first);
}

#[test]
fn the_end_of_a_job_is_told_and_recorded_on_what_it_takes_along() {
    let ended = |change: fn(&mut World)| {
        let mut world = World::started([step("a"), step("ask").asks("?")]);
        change(&mut world);
        world.now = Time(2_000);
        let told = told(&world.pass());
        let taken = world.run("a.1").status.clone();
        assert_eq!((taken.phase, taken.finished_at), (RunPhase::Cancelled, Some(world.now)));
        assert_eq!((taken.reason.as_deref(), world.job.status.finished_at), (Some("JobEnded"), Some(world.now)));
        (told, taken.message.unwrap())
    };
    assert_eq!(
        ended(|world| world.job.spec.state = JobState::Cancelled),
        (
            vec!["Normal Job j JobCancelled: Cancelled: `spec.state` is `Cancelled`".into()],
            "its job is Cancelled: Cancelled".into()
        )
    );
    assert_eq!(
        ended(|world| world.job.metadata.deletion_timestamp = Some(world.now)),
        (
            vec!["Normal Job j JobCancelled: Deleted: the job is being deleted".into()],
            "its job is Cancelled: Deleted".into()
        )
    );
    assert_eq!(
        ended(|world| world.job.spec.deadline = Some(Span::seconds(1))),
        (
            vec!["Warning Job j JobFailed: DeadlineExceeded: not done within 1s".into()],
            "its job is Failed: DeadlineExceeded".into()
        )
    );
}

#[test]
fn a_run_left_under_a_job_that_ended_without_a_reason_names_its_phase() {
    let mut world = World::started([step("a"), step("b")]);
    world.runs[1].status.phase = RunPhase::Completed;
    world.job.status.phase = JobPhase::Succeeded;
    let before = world.runs[1].clone();
    world.pass();
    assert_eq!(world.run("a.1").status.message.as_deref(), Some("its job is Succeeded: Succeeded"));
    assert_eq!(world.runs[1], before, "what has ended stays as it ended");
}

#[test]
fn what_a_loop_supersedes_is_told_and_recorded() {
    let mut world =
        World::started([step("a"), step("slow").after("a"), step("b").after("a").back_to("a", "True", None)]);
    world.ok("a");
    world.end("b", given(json!({})));
    let told = told(&world.pass());
    let message = "a loop runs what `slow` depends on again";
    assert!(told.contains(&format!("Normal StepRun j.slow.1 Superseded: {message}")), "{told:?}");
    let status = &world.run("slow.1").status;
    let seen = (status.reason.as_deref(), status.message.as_deref(), status.finished_at);
    assert_eq!(seen, (Some("Superseded"), Some(message), Some(world.now)));
    assert!(!told.iter().any(|told| told.contains("j.b.1 Superseded")), "what has ended is not cancelled: {told:?}");
}

#[test]
fn what_never_ran_is_recorded_as_skipped_when_its_job_settles() {
    let mut world = World::started([step("a"), step("b").after("a").when("False")]);
    world.end("a", given(json!({"x": 1})));
    assert_eq!(
        told(&world.pass())[1..],
        [
            "Normal StepRun j.b.1 StepSkipped: its job settled without it",
            "Normal Job j JobSucceeded: Completed: nothing is left to do",
        ]
    );
    let skipped = RunStatus {
        phase: RunPhase::Skipped,
        reason: Some("NotReached".into()),
        message: Some("its job settled without it".into()),
        created_at: Some(world.now),
        finished_at: Some(world.now),
        ..RunStatus::default()
    };
    assert_eq!(world.run("b.1").status, skipped);
    let status = &world.job.status;
    assert_eq!((status.reason.as_deref(), status.message.as_deref()), (None, None));
    assert_eq!(status.finished_at, Some(world.now));
}

#[test]
fn what_was_cancelled_for_another_reason_than_a_loop_is_not_skipped() {
    let mut world = World::started([step("a"), step("b")]);
    world.runs[1].status.phase = RunPhase::Cancelled;
    world.runs[1].status.reason = Some("JobEnded".into());
    world.ok("a");
    assert_eq!(world.job.status.phase, JobPhase::Succeeded, "a terminal step completed");
    assert_eq!((world.runs.len(), world.phase("b.1")), (2, RunPhase::Cancelled));
}

#[test]
fn a_job_without_an_end_says_which_steps_are_open() {
    let fails =
        |name: &str| step(name).exit("no", "False", ExitAction::Abandon).exit("go", "True", ExitAction::Advance);
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut world = World::started(names.map(fails).into_iter().chain([step("z").after("a")]));
    for name in names {
        world.fails(name);
    }
    world.job_is(JobPhase::Failed, "NoTerminalReached");
    let open = "`a`: Failed, `b`: Failed, `c`: Failed, `d`: Failed, `e`: Failed";
    let expected = format!("nothing is left to run, and no terminal step completed ({open})");
    assert_eq!(world.message(), expected, "five are enough to know it by");
}

#[test]
fn what_is_over_counts_towards_the_end_of_a_job() {
    // No terminal step: the leaf only abandons.
    let ended = |on_error: OnError| {
        let mut a = step("a").exit("go", "True", ExitAction::Advance);
        a.on_error = on_error;
        let mut world = World::started([a, step("b").after("a").exit("no", "False", ExitAction::Abandon)]);
        world.fails("a");
        (world.job.status.phase, world.job.status.reason.clone().unwrap_or_default())
    };
    assert_eq!(ended(OnError::Continue), (JobPhase::Succeeded, String::new()));
    assert_eq!(ended(OnError::Fail), (JobPhase::Failed, "NoTerminalReached".into()));
    // Its leaves stand in for the terminal steps that it has not.
    let mut world = World::started([step("a"), step("b").after("a").exit("no", "False", ExitAction::Abandon)]);
    world.done("a", json!({"x": 1})).done("b", json!({"y": 2}));
    assert_eq!(world.job.status.outputs, Some(json!({"y": 2})));
}

#[test]
fn a_run_may_cost_exactly_what_it_is_allowed() {
    let mut dear = step("a");
    dear.limits.max_cost_usd = Some(0.5);
    let world = World::started([dear]);
    let ended = |cost_usd| {
        let outcome = Outcome { result: given(json!({})), usage: None, cost_usd, session: None };
        finish(&world.flow, world.run("a.1"), &outcome, world.now).status
    };
    assert_eq!(ended(None).phase, RunPhase::Completed);
    assert_eq!(ended(Some(0.5)).phase, RunPhase::Completed);
    let status = ended(Some(0.75));
    assert_eq!((status.phase, status.reason.as_deref()), (RunPhase::Failed, Some("CostLimitExceeded")));
    assert_eq!(status.message.as_deref(), Some("it cost 0.75 USD, 0.5 are allowed (`max_cost_usd`)"));
}

#[test]
fn what_an_outcome_does_not_say_stays_as_it_was() {
    let world = World::started([step("a")]);
    let mut run = world.run("a.1").clone();
    run.status.usage = Some(json!({"in": 1}));
    run.status.session = Some("s".into());
    run.status.cost_usd = Some(0.25);
    (run.status.reason, run.status.message) = (Some("Waits".into()), Some("for a place".into()));
    let silent = Outcome { result: given(json!({"x": 1})), usage: None, cost_usd: None, session: None };
    let status = finish(&world.flow, &run, &silent, world.now).status;
    assert_eq!((status.usage, status.session.as_deref()), (Some(json!({"in": 1})), Some("s")));
    assert_eq!((status.cost_usd, json!(status.outputs)), (Some(0.25), json!({"x": 1})));
    assert_eq!((status.reason, status.message), (None, None));
}

#[test]
fn an_answer_is_recorded_with_its_time_and_only_on_a_run_that_waits() {
    let world = World::started([step("a"), step("ask").asks("?")]);
    let answer = |run: &StepRun| fulfil(&world.flow, run, Map::new(), Time(5_000));
    let run = answer(world.run("ask.1")).unwrap();
    assert_eq!((run.status.phase, run.status.finished_at), (RunPhase::Completed, Some(Time(5_000))));
    assert_eq!(run.status.outputs, Some(Map::new()));
    let refused = answer(world.run("a.1")).unwrap_err();
    assert_eq!(refused, ["run `j.a.1` is Pending: only a Suspended run takes an answer"]);
}

#[test]
fn a_run_expires_by_its_own_time_and_so_does_one_that_waits_for_an_answer() {
    let limited = |mut step: crate::flow::Step| {
        step.limits.max_duration = Some(Duration::from_secs(60));
        step
    };
    let mut world = World::started([limited(step("a")), limited(step("ask").asks("?"))]);
    let wake_at = |world: &World| next_wake(&world.flow, &world.job, &world.runs, world.now);
    assert_eq!(wake_at(&world), Some(Time(61_000)), "the question was asked at once");
    world.runs[0].status.phase = RunPhase::Running;
    world.runs[0].status.started_at = Some(Time(500));
    assert_eq!(wake_at(&world), Some(Time(60_500)));
    world.now = Time(60_499);
    assert!(world.pass().is_empty());
    world.now = Time(60_500);
    world.pass();
    let status = &world.run("a.1").status;
    assert_eq!((status.phase, status.finished_at), (RunPhase::Failed, Some(world.now)));
    assert_eq!(status.message.as_deref(), Some("it took longer than 60 s (`max_duration_minutes`)"));
}

#[test]
fn the_cost_of_a_job_is_told_only_where_a_run_has_one() {
    let mut world = World::started([step("a"), step("b")]);
    assert_eq!(world.job.status.cost_usd, None);
    world.runs[1].status.cost_usd = Some(0.5);
    world.pass();
    assert_eq!(world.job.status.cost_usd, Some(0.5));
    // Of a job that has ended not all runs are at hand.
    world.job.status.phase = JobPhase::Failed;
    world.job.status.cost_usd = Some(9.0);
    world.pass();
    assert_eq!(world.job.status.cost_usd, Some(9.0));
}
