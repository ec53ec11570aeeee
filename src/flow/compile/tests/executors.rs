//! The executors of a step, and what is wrapped around them.

use super::steps::{said_of, step_of};
use super::*;
use crate::flow::{
    AgentStep, Backoff, Cache, Decorator, Executor, FlowSource, ForEach, Idempotency, InputSource, ItemError, LlmStep,
    MockStep, PollStep, Prompt, StepField, SubFlow,
};
use crate::model::Permissions;
use serde_json::json;
use std::time::Duration;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_model_is_asked_one_question() {
    let step = step_of("executor: llm, prompt: do it, model: m, system: be kind, temperature: 0.5, max_tokens: 100");
    let asked = LlmStep {
        model: Some("m".into()),
        prompt: Prompt::Text("do it".into()),
        system: Some("be kind".into()),
        temperature: Some(0.5),
        max_tokens: Some(100),
    };
    assert_eq!(step.executor, Executor::Llm(asked));
    let short = LlmStep { prompt: Prompt::File("ask.md".into()), ..LlmStep::default() };
    assert_eq!(step_of("executor: llm, prompt_file: ask.md").executor, Executor::Llm(short));
    let nothing = "Error b: the model is asked nothing (write `prompt: …` or `prompt_file: …`)";
    assert_eq!(said_of("executor: llm"), [nothing]);
    assert_eq!(
        said_of("executor: llm, prompt: x, system: \"$who\""),
        ["Warning b.system: no input provides `$who` (declare it under `inputs:`, or write `$$` for a dollar sign)"]
    );
}

#[test]
fn a_poll_checks_each_minute_unless_it_says_otherwise() {
    let poll = |interval, prompt: Option<&str>| {
        Executor::Poll(PollStep { check_command: "test -f x".into(), interval, prompt: prompt.map(str::to_owned) })
    };
    assert_eq!(step_of("executor: poll, check_command: test -f x").executor, poll(seconds(60), None));
    let step = step_of("executor: poll, check_command: test -f x, interval_seconds: 2, prompt: waiting");
    assert_eq!(step.executor, poll(seconds(2), Some("waiting")));
    let nothing = "Error b: the poll has nothing to check (write `check_command: …`)";
    assert_eq!(said_of("executor: poll"), [nothing]);
    assert_eq!(
        said_of("executor: poll, check_command: x, interval_seconds: 0"),
        ["Error b.interval_seconds: `interval_seconds` must be more than 0"]
    );
    // The shell has variables of its own.
    assert_eq!(said_of("executor: poll, check_command: echo $n"), [] as [&str; 0]);
}

#[test]
fn a_mock_answers_by_chance() {
    let step = step_of(
        "executor: mock_llm, failure_rate: 0.25, partial_rate: 1, latency_range: [0.5, 2], responses: {v: 1}, prompt: x",
    );
    let mock = MockStep {
        failure_rate: 0.25,
        partial_rate: 1.0,
        latency: (Duration::from_millis(500), seconds(2)),
        responses: json!({"v": 1}).as_object().cloned().unwrap(),
        prompt: Some("x".into()),
    };
    assert_eq!(step.executor, Executor::Mock(mock));
    assert_eq!(step_of("executor: mock_llm").executor, Executor::Mock(MockStep::default()));
    for (parts, wrong) in [
        ("failure_rate: 2", "Error b.failure_rate: `failure_rate` must be from 0 to 1"),
        ("responses: x", "Error b.responses: `responses` must be a mapping"),
        (
            "latency_range: [2, 1]",
            "Error b.latency_range: `latency_range` must be the least and the most (write `latency_range: [0.1, 2]`, in seconds)",
        ),
        (
            "latency_range: 5",
            "Error b.latency_range: `latency_range` must be the least and the most (write `latency_range: [0.1, 2]`, in seconds)",
        ),
    ] {
        assert_eq!(said_of(&format!("executor: mock_llm, {parts}")), [wrong]);
    }
}

#[test]
fn a_script_may_be_called_by_its_name() {
    assert_eq!(step_of("executor: script, run: echo").executor, Executor::Script("echo".into()));
    assert_eq!(step_of("executor: script, command: echo").executor, Executor::Script("echo".into()));
    assert_eq!(said_of("executor: script"), ["Error b: the script has no command (write `run: …`)"]);
}

fn sub_flow(parts: &str) -> SubFlow {
    match step_of(parts).executor {
        Executor::SubFlow(sub) => sub,
        other => panic!("no sub-flow: {other:?}"),
    }
}

#[test]
fn a_flow_inside_of_another_is_named_or_is_there() {
    assert_eq!(sub_flow("flow: other"), SubFlow { flow: FlowSource::Named("other".into()), for_each: None });
    let FlowSource::Inline(written, inner) = sub_flow("flow: {steps: {c: {run: x}}}").flow else { panic!() };
    assert_eq!(written, json!({"steps": {"c": {"run": "x"}}}));
    assert_eq!(inner.steps["c"].executor, Executor::Script("x".into()));
    let path: Vec<_> = ["steps", "b", "flow", "steps", "c"].map(|key| PathSegment::Key(key.into())).into();
    assert_eq!(inner.steps["c"].path, path);
    assert_eq!(
        said_of("flow: [x]"),
        ["Error b.flow: `flow` must name a flow, or be one (write a name, a path, or `flow: {steps: …}`)"]
    );
    // What is wrong inside is told with its place, and nothing is wrong with what the step gives.
    assert_eq!(
        said_of("flow: {steps: {c: {run: x, inputs: {p: $job.v, q: $job.w}}}}, inputs: {v: a.v}"),
        [
            "Warning b.flow.steps.c.inputs.q: the flow declares no input `w` (declare it under `inputs:`, or give it with the job)"
        ]
    );
    assert_eq!(said_of("flow: {}"), ["Error b.flow: the flow has no `steps` (write `steps: {name: {run: …}}`)"]);
}

#[test]
fn flows_inside_of_each_other_have_a_bound() {
    let nested = |depth: usize| {
        let mut yaml = "{run: x}".to_owned();
        for _ in 0..depth {
            yaml = format!("{{flow: {{steps: {{c: {yaml}}}}}}}");
        }
        said(&format!("steps: {{a: {yaml}}}"))
    };
    assert_eq!(nested(16), [] as [&str; 0]);
    let said = nested(17);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].ends_with("more than 16 flows are inside of each other (write it as a flow of its own)"),
        "{said:?}"
    );
}

#[test]
fn a_list_goes_through_a_flow_item_by_item() {
    let list = InputSource::Step(StepField { step: "a".into(), path: vec!["v".into()] });
    let each = |parts: &str| sub_flow(&format!("for_each: a.v, flow: other{parts}")).for_each.unwrap();
    assert_eq!(each(""), ForEach { list: list.clone(), item: "item".into(), on_error: ItemError::FailFast });
    assert_eq!(each(", as: x, on_error: continue").on_error, ItemError::Continue);
    assert_eq!(each(", as: x, on_error: fail_fast").item, "x");
    let of_job = sub_flow("for_each: $job.n, flow: other").for_each.unwrap();
    assert_eq!(of_job.list, InputSource::Job(vec!["n".into()]));
    // The item is one of the inputs of the flow inside.
    assert_eq!(said_of("for_each: a.v, as: x, flow: {steps: {c: {run: y, inputs: {x: $job.x}}}}"), [] as [&str; 0]);
    for (parts, wrong) in [
        ("for_each: a.v", "Error b: `for_each` has no flow (write the `flow:` that each item goes through)"),
        ("for_each: c.v, flow: x", "Error b.for_each: there is no step `c`"),
        ("for_each: a.w, flow: x", "Error b.for_each: step `a` declares no output `w` (its outputs are v)"),
        (
            "for_each: a.v, as: PATH, flow: x",
            "Error b.as: an input cannot be called `PATH`: the name means something to the shell or the loader (use another name of letters, digits, `_`, and `-`)",
        ),
        (
            "for_each: a.v, flow: x, run: y",
            "Error b: the step has `run` and `flow` and `for_each` of which it can have one (make two steps of it)",
        ),
    ] {
        assert_eq!(said_of(parts), [wrong]);
    }
}

#[test]
fn a_step_comes_after_the_list_that_it_goes_through_and_the_step_that_it_forks() {
    let implied = |parts: &str| step_of(parts).implied_sources().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(implied("for_each: a.v, flow: x"), ["a"]);
    assert_eq!(implied("run: x"), [] as [&str; 0]);
    let said = said("steps: {a: {for_each: b.v, flow: x}, b: {run: x, after: a}}");
    assert!(said[0].contains("these steps wait for each other"), "{said:?}");
}

#[test]
fn work_is_wrapped_from_the_outside_in() {
    let of = |yaml: &str| step_of(&format!("run: x, decorators: {yaml}")).decorators;
    let timeout = Decorator::Timeout(seconds(120));
    let retry = Decorator::Retry { max_retries: 3, backoff: Backoff::Exponential };
    let fallback = Decorator::Fallback(Box::new(Executor::Script("y".into())));
    let notification = Decorator::Notification { webhook_url: "http://127.0.0.1/x".into() };
    let all = [timeout.clone(), retry.clone(), fallback.clone(), notification.clone()];
    let long = "[{type: timeout, config: {minutes: 2}}, {type: retry, config: {max_retries: 3, backoff: exponential}}, \
                {type: fallback, config: {fallback_ref: {type: script, config: {run: y}}}}, \
                {type: notification, config: {webhook_url: \"http://127.0.0.1/x\"}}]";
    let short = "[{timeout: {seconds: 120}}, {retry: {max_retries: 3, backoff: exponential}}, \
                 {type: fallback, fallback_ref: {type: script, config: {command: y}}}, \
                 {notification: {webhook_url: \"http://127.0.0.1/x\"}}]";
    assert_eq!(of(long), all);
    assert_eq!(of(short), all);
    assert_eq!(of("[{retry: {max_retries: 1}}]"), [Decorator::Retry { max_retries: 1, backoff: Backoff::None }]);
    for (yaml, wrong) in [
        (
            "5",
            "Error b.decorators: `decorators` must be a list (write `decorators: [{type: retry, config: {max_retries: 3}}]`)",
        ),
        (
            "[{}]",
            "Error b.decorators.0: the decorator has no `type` (write `type: timeout`, `retry`, `fallback`, or `notification`)",
        ),
        ("[{type: rety}]", "Error b.decorators.0.type: `type` cannot be `rety` (did you mean `retry`?)"),
        (
            "[{timeout: {}}]",
            "Error b.decorators.0.timeout: the timeout has no limit (write `seconds: …` or `minutes: …`)",
        ),
        ("[{retry: {}}]", "Error b.decorators.0.retry: the retry has no `max_retries` (write `max_retries: 3`)"),
        (
            "[{type: fallback}]",
            "Error b.decorators.0: the fallback has no `fallback_ref` (write `fallback_ref: {type: script, config: {run: …}}`)",
        ),
        (
            "[{fallback: {fallback_ref: {config: {run: y}}}}]",
            "Error b.decorators.0.fallback.fallback_ref: the fallback has no `type` (write `type: script`, or `agent`)",
        ),
        (
            "[{fallback: {fallback_ref: {type: poll}}}]",
            "Error b.decorators.0.fallback.fallback_ref.type: a poll cannot be a fallback (make a step of it)",
        ),
        ("[{notification: {}}]", "Error b.decorators.0.notification: the notification has no `webhook_url`"),
        (
            "[{notification: {webhook_url: \"ftp://x\"}}]",
            "Error b.decorators.0.notification.webhook_url: `ftp://x` is no URL of a web server (write `http://…` or `https://…`)",
        ),
    ] {
        assert_eq!(said_of(&format!("run: x, decorators: {yaml}")), [wrong]);
    }
}

#[test]
fn a_result_may_be_kept_for_a_while() {
    let of = |yaml: &str| step_of(&format!("run: x, cache: {yaml}")).cache;
    assert_eq!(of("true"), Some(Cache::default()));
    assert_eq!(of("false"), None);
    assert_eq!(
        of("{ttl: 2h 30m, key_extra: v1}"),
        Some(Cache { ttl: Some(seconds(9000)), key_extra: Some("v1".into()) })
    );
    assert_eq!(of("{ttl: 60}").unwrap().ttl, Some(seconds(60)));
    assert_eq!(of("{enabled: false}"), None);
    assert_eq!(said_of("run: x, cache: 5"), ["Error b.cache: `cache` must be a mapping"]);
    assert_eq!(
        said_of("run: x, cache: {ttl: soon}"),
        ["Error b.cache.ttl: `ttl` must be a duration (write `90s`, `2h 30m`, or a number of seconds)"]
    );
}

#[test]
fn outputs_may_be_derived_from_outputs() {
    let step = step_of("run: x, outputs: [v], derived_outputs: {double: v * 2, ok: true}");
    let derived: Vec<(&str, &str)> =
        step.derived_outputs.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(derived, [("double", "v * 2"), ("ok", "True")]);
    let wrong = said_of("run: x, derived_outputs: {d: 1 +, e: [1], f: null}");
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    assert_eq!(wrong[0], "Error b.derived_outputs.e: `e` must be an expression");
    // They are outputs to others.
    let said = said("steps: {a: {run: x, outputs: [v], derived_outputs: {d: v}}, b: {run: x, inputs: {d: a.d}}}");
    assert_eq!(said, [] as [&str; 0]);
}

#[test]
fn a_step_says_whether_its_work_may_be_done_again() {
    assert_eq!(step_of("run: x").idempotency, Idempotency::Idempotent);
    assert_eq!(step_of("run: x, idempotency: non_retriable").idempotency, Idempotency::NonRetriable);
    assert_eq!(step_of("run: x, idempotency: allow_restart").idempotency, Idempotency::AllowRestart);
    assert_eq!(step_of("run: x, idempotency: retriable_with_guard").idempotency, Idempotency::RetriableWithGuard);
}

#[test]
fn agents_share_and_fork_conversations() {
    let step = step_of(
        "executor: agent, prompt: x, session: s, loop_prompt: again, max_continuous_attempts: 3, emit_flow: true, tools: [Read, Bash], permissions: deny",
    );
    let agent = AgentStep {
        class: "claude".into(),
        prompt: Prompt::Text("x".into()),
        output_mode: crate::flow::OutputMode::Effect,
        session: Some("s".into()),
        loop_prompt: Some("again".into()),
        max_continuous_attempts: Some(3),
        emit_flow: true,
        tools: vec!["Read".into(), "Bash".into()],
        permissions: Some(Permissions::Deny),
        ..AgentStep::default()
    };
    assert_eq!(step.executor, Executor::Agent(agent));
    let agent = |name: &str, more: &str| format!("{name}: {{executor: agent, agent: echo, prompt: x{more}}}");
    let steps = |steps: &[String]| said(&format!("steps: {{{}}}", steps.join(", ")));
    // In an order that somebody chose …
    let ordered = [agent("p", ", session: s"), agent("q", ", session: s, after: p")];
    assert_eq!(steps(&ordered), [] as [&str; 0]);
    // … or in none.
    let loose = [agent("p", ", session: s"), agent("q", ", session: s")];
    assert_eq!(
        steps(&loose),
        [
            "Warning steps.q.session: nothing orders this step and `p`, which share the session `s` (write `after: [p]`, or give one of them another session)"
        ]
    );
    assert_eq!(steps(&[agent("p", ""), agent("q", ", fork_from: p")]), [] as [&str; 0]);
    assert_eq!(
        steps(&[agent("p", ""), agent("q", ", fork_from: o")]),
        ["Error steps.q.fork_from: there is no step `o`"]
    );
    assert_eq!(
        steps(&["p: {run: x}".into(), agent("q", ", fork_from: p")]),
        ["Error steps.q.fork_from: step `p` is not done by an agent"]
    );
    let other = "p: {executor: agent, agent: claude, prompt: x}";
    assert_eq!(
        steps(&[other.into(), agent("q", ", fork_from: p")]),
        ["Error steps.q.fork_from: step `p` is done by `claude`, this one by `echo` (give both the same `agent`)"]
    );
}
