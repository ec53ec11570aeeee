//! The parts of a step, one by one.

use super::*;
use crate::flow::{AgentStep, Dependency, Executor, Input, InputSource, OnError, OutputMode, Prompt, StepField, When};
use crate::model::ExitAction;
use std::time::Duration;

/// What is said of a step with these parts, beside a sound step `a` with the output `v` and a flow with the input `n`.
pub(super) fn said_of(parts: &str) -> Vec<String> {
    let said = said(&format!("inputs: [n]\nsteps:\n  a: {{run: x, outputs: [v]}}\n  b: {{{parts}}}"));
    said.iter().map(|said| said.replacen("steps.b", "b", 1)).collect()
}

/// The step that these parts make.
pub(super) fn step_of(parts: &str) -> crate::flow::Step {
    let flow = flow(&format!("inputs: [n]\nsteps:\n  a: {{run: x, outputs: [v]}}\n  b: {{{parts}}}"));
    assert_eq!(flow.steps.len(), 2);
    flow.steps["b"].clone()
}

fn agent_of(parts: &str) -> AgentStep {
    match step_of(&format!("executor: agent, {parts}")).executor {
        Executor::Agent(agent) => agent,
        other => panic!("no agent: {other:?}"),
    }
}

#[test]
fn a_step_says_what_it_is_where_it_is_and_what_its_failure_means() {
    let step = step_of("run: x");
    assert_eq!((step.name.as_str(), step.description, step.working_dir), ("b", None, None));
    assert_eq!(step.path, [PathSegment::Key("steps".into()), PathSegment::Key("b".into())]);
    assert_eq!((step.on_error, step.limits.max_duration, step.limits.max_cost_usd), (OnError::Fail, None, None));
    let step = step_of("run: x, description: why, working_dir: sub, on_error: continue");
    assert_eq!((step.description.as_deref(), step.working_dir.as_deref()), (Some("why"), Some("sub")));
    assert_eq!(step.on_error, OnError::Continue);
    assert_eq!(step_of("run: x, on_error: fail").on_error, OnError::Fail);
    assert_eq!(
        said_of("run: x, on_error: ignore"),
        ["Error b.on_error: `on_error` cannot be `ignore` (it is one of fail, continue)"]
    );
}

#[test]
fn a_name_of_a_step_is_short_and_plain() {
    let wrong = |name: &str| {
        let help = "use letters, digits, `-`, and `_`; at most 64";
        let message = format!("Error steps.{name}: `{name}` cannot be the name of a step ({help})");
        said(&format!("steps: {{\"{name}\": {{run: x}}}}")) == [message]
    };
    let long = "n".repeat(64);
    for sound in ["a", "A-b_3", "9", &long] {
        assert_eq!(said(&format!("steps: {{\"{sound}\": {{run: x}}}}")), [] as [&str; 0], "{sound}");
    }
    for unsound in ["", "a b", "a.b", "é", "a/b", &format!("{long}n")] {
        assert!(wrong(unsound), "{unsound}");
    }
}

#[test]
fn a_script_that_is_a_lone_path_is_run_relative_to_its_flow() {
    let cases = [
        ("echo hello", "echo hello"),
        ("make", "make"),
        ("''", ""),
        ("bin/check", "exec \"${STEPWISE_FLOW_DIR:-.}\"/'bin/check'"),
        ("' bin/check '", "exec \"${STEPWISE_FLOW_DIR:-.}\"/'bin/check'"),
        ("check.sh", "exec \"${STEPWISE_FLOW_DIR:-.}\"/'check.sh'"),
        ("check.py", "exec python3 \"${STEPWISE_FLOW_DIR:-.}\"/'check.py'"),
        ("sub/check.py", "exec python3 \"${STEPWISE_FLOW_DIR:-.}\"/'sub/check.py'"),
        ("/usr/bin/true", "exec '/usr/bin/true'"),
        ("/opt/check.py", "exec python3 '/opt/check.py'"),
        // More than a path is a command line, as it stands.
        ("bin/check -v", "bin/check -v"),
        ("bin/a;bin/b", "bin/a;bin/b"),
        ("$HOME/bin/check", "$HOME/bin/check"),
        ("'bin/*'", "bin/*"),
        ("' echo a '", " echo a "),
    ];
    for (run, expected) in cases {
        assert_eq!(step_of(&format!("run: {run}")).executor, Executor::Script(expected.into()), "{run}");
    }
}

#[test]
fn a_step_has_exactly_one_thing_to_do() {
    let nothing = "Error b: the step has nothing to do (write `run: …` for a script, or `executor: agent`)";
    assert_eq!(said_of(""), [nothing]);
    assert_eq!(said_of("run: null"), [nothing]);
    assert_eq!(
        said_of("run: x, executor: agent"),
        ["Error b: the step has `run` and `executor` of which it can have one (make two steps of it)"]
    );
    assert_eq!(
        said_of("run: x, flow: y"),
        ["Error b: the step has `run` and `flow` of which it can have one (make two steps of it)"]
    );
    assert_eq!(said_of("run: [x]"), ["Error b.run: `run` must be a text"]);
    assert_eq!(
        said_of("executor: agnt, prompt: x"),
        ["Error b.executor: `executor` cannot be `agnt` (did you mean `agent`?)"]
    );
    assert_eq!(said("steps: {b: x}"), ["Error steps.b: a step must be a mapping"]);
}

#[test]
fn somebody_outside_is_asked_with_or_without_words() {
    let asked = |parts: &str| step_of(parts).executor;
    assert_eq!(asked("executor: external"), Executor::External { prompt: None });
    assert_eq!(asked("executor: external, prompt: well?"), Executor::External { prompt: Some("well?".into()) });
}

#[test]
fn an_agent_is_asked_by_a_text_or_by_a_file() {
    let agent = agent_of("prompt: do it");
    assert_eq!((agent.class.as_str(), agent.prompt), ("claude", Prompt::Text("do it".into())));
    assert_eq!((agent.output_path, agent.model, agent.allowed_paths), (None, None, Vec::new()));
    let agent = agent_of("prompt_file: ask.md, agent: echo, model: m, output_path: o.json, allowed_paths: [a, b]");
    assert_eq!((agent.class.as_str(), agent.prompt), ("echo", Prompt::File("ask.md".into())));
    assert_eq!((agent.output_path.as_deref(), agent.model.as_deref()), (Some("o.json"), Some("m")));
    assert_eq!(agent.allowed_paths, ["a", "b"]);
    assert_eq!(agent_of("prompt: x, allowed_paths: a").allowed_paths, ["a"]);
    let list = "Error b.allowed_paths: `allowed_paths` must be a list of texts";
    assert_eq!(said_of("executor: agent, prompt: x, allowed_paths: [a, 5]"), [list]);
    assert_eq!(said_of("executor: agent, prompt: x, allowed_paths: 5"), [list]);
    assert_eq!(
        said_of("executor: agent"),
        ["Error b: the agent is asked nothing (write `prompt: …` or `prompt_file: …`)"]
    );
    assert_eq!(
        said_of("executor: agent, prompt: x, prompt_file: y"),
        ["Error b: the step has both `prompt` and `prompt_file`"]
    );
}

#[test]
fn an_agent_that_has_outputs_gives_them_through_a_file_unless_it_says_otherwise() {
    let mode = |parts: &str| agent_of(&format!("prompt: x, {parts}")).output_mode;
    assert_eq!(mode(""), OutputMode::Effect);
    assert_eq!(mode("outputs: [v]"), OutputMode::File);
    assert_eq!(mode("outputs: [v], output_mode: effect"), OutputMode::Effect);
    assert_eq!(mode("outputs: [v], output_mode: stream_result"), OutputMode::StreamResult);
    assert_eq!(mode("output_mode: file"), OutputMode::File);
}

#[test]
fn the_limits_of_a_run_are_a_time_and_a_cost() {
    let limits = |parts: &str| {
        let step = step_of(&format!("run: x, limits: {parts}"));
        (step.limits.max_duration.map(|limit| limit.as_secs_f64()), step.limits.max_cost_usd)
    };
    assert_eq!(limits("{max_duration_minutes: 2}"), (Some(120.0), None));
    assert_eq!(limits("{max_duration_minutes: 0.5, max_cost_usd: 1.25}"), (Some(30.0), Some(1.25)));
    // For ever, for all that it matters.
    assert_eq!(limits("{max_duration_minutes: 1e300}"), (Some(3_153_600_000.0), None));
    assert_eq!(limits("{}"), (None, None));
    assert_eq!(limits("null"), (None, None));
    for none in ["0", "-1"] {
        assert_eq!(
            said_of(&format!("run: x, limits: {{max_duration_minutes: {none}}}")),
            ["Error b.limits.max_duration_minutes: `max_duration_minutes` must be more than 0"]
        );
    }
    assert_eq!(step_of("run: x, limits: {max_iterations: 5}").limits.max_iterations, Some(5));
    assert_eq!(said_of("run: x, limits: 5"), ["Error b.limits: `limits` must be a mapping"]);
    assert_eq!(
        said_of("run: x, limits: {max_iterations: 5, max_cost: 1, max_cost_usd: much}"),
        [
            "Warning b.limits.max_cost: unknown key `max_cost` is passed over (did you mean `max_cost_usd`?)",
            "Error b.limits.max_cost_usd: `max_cost_usd` must be a number",
        ]
    );
}

#[test]
fn an_input_comes_from_the_job_or_from_a_step_or_from_the_first_of_several() {
    let field = |step: &str, path: &[&str]| StepField {
        step: step.into(),
        path: path.iter().map(|part| (*part).to_owned()).collect(),
    };
    let of_a = || InputSource::Step(field("a", &["v"]));
    let cases = [
        ("a.v", of_a(), false),
        ("a.v.w.0", InputSource::Step(field("a", &["v", "w", "0"])), false),
        ("$job.n", InputSource::Job(vec!["n".into()]), false),
        ("$job.n.m", InputSource::Job(vec!["n".into(), "m".into()]), false),
        ("{from: a.v}", of_a(), false),
        ("{from: a.v, optional: false}", of_a(), false),
        ("{from: a.v, optional: true}", of_a(), true),
        ("{from: $job.n, optional: true, description: why}", InputSource::Job(vec!["n".into()]), true),
        ("{any_of: [a.v, c.w]}", InputSource::AnyOf(vec![field("a", &["v"]), field("c", &["w"])]), false),
        (
            "{any_of: [a.v, c.w], optional: true}",
            InputSource::AnyOf(vec![field("a", &["v"]), field("c", &["w"])]),
            true,
        ),
    ];
    for (written, source, optional) in cases {
        let steps = format!("a: {{run: x, outputs: [v]}}, c: {{run: x}}, b: {{run: x, inputs: {{i: {written}}}}}");
        let inputs = &flow(&format!("inputs: [n]\nsteps: {{{steps}}}")).steps["b"].inputs;
        assert_eq!(*inputs, BTreeMap::from([("i".into(), Input { source, optional })]), "{written}");
    }
}

#[test]
fn what_is_no_source_is_told_where_it_is() {
    let help = "write `step.field`, or `$job.name` for an input of the job";
    for text in ["a", "$job", "$other.n", ".v", "a.", "a..v", "''"] {
        let shown = text.trim_matches('\'');
        let message = format!("Error b.inputs.i: `{shown}` is not a source ({help})");
        assert_eq!(said_of(&format!("run: x, inputs: {{i: {text}}}")), [message], "{text}");
    }
    let cases = [
        ("5", "Error b.inputs: `inputs` must be a mapping (write `inputs: {name: step.field}`)"),
        ("{i: 5}", "Error b.inputs.i: an input must be a mapping"),
        ("{i: {}}", "Error b.inputs.i: an input needs one of `from` and `any_of`"),
        ("{i: {from: a.v, any_of: [a.v, a.v]}}", "Error b.inputs.i: an input needs one of `from` and `any_of`"),
        (
            "{i: {from: a}}",
            "Error b.inputs.i.from: `a` is not a source (write `step.field`, or `$job.name` for an input of the job)",
        ),
        (
            "{i: {any_of: [a.v]}}",
            "Error b.inputs.i.any_of: `any_of` needs a list of two or more (with one source there is nothing to choose: write it alone)",
        ),
        ("{i: {any_of: [a.v, 5]}}", "Error b.inputs.i.any_of.1: must be a text"),
        ("{i: {any_of: [a.v, $job.n]}}", "Error b.inputs.i.any_of.1: `any_of` chooses among steps"),
        (
            "{i: {from: a.v, optionl: true}}",
            "Warning b.inputs.i.optionl: unknown key `optionl` is passed over (did you mean `optional`?)",
        ),
    ];
    for (inputs, expected) in cases {
        assert_eq!(said_of(&format!("run: x, inputs: {inputs}")), [expected]);
    }
}

#[test]
fn an_input_may_not_be_called_what_means_something_to_the_shell() {
    let said = |name: &str| said_of(&format!("run: x, inputs: {{\"{name}\": a.v}}"));
    for sound in ["i", "_", "Path", "a-b_c9", "LD", "TENURE", "path"] {
        assert_eq!(said(sound), [] as [&str; 0], "{sound}");
    }
    let help = "use another name of letters, digits, `_`, and `-`";
    for unsound in ["", "9a", "-a", "a b", "a$b", "é"] {
        assert_eq!(
            said(unsound),
            [format!("Error b.inputs.{unsound}: `{unsound}` cannot be the name of an input ({help})")]
        );
    }
    let refused =
        ["PATH", "HOME", "IFS", "TMPDIR", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "BASH_FUNC_x", "TENURE_WORKLOAD"];
    for name in refused {
        let message =
            format!("an input cannot be called `{name}`: the name means something to the shell or the loader");
        assert_eq!(said(name), [format!("Error b.inputs.{name}: {message} ({help})")]);
    }
}

#[test]
fn a_step_waits_for_one_or_for_several() {
    let (one, any) = (|name: &str| Dependency::Step(name.into()), || Dependency::AnyOf(vec!["a".into(), "c".into()]));
    let cases = [
        ("a", vec![one("a")]),
        ("[a]", vec![one("a")]),
        ("[a, c]", vec![one("a"), one("c")]),
        ("{any_of: [a, c]}", vec![any()]),
        ("[c, {any_of: [a, c]}]", vec![one("c"), any()]),
        ("[]", vec![]),
        ("null", vec![]),
    ];
    for (written, expected) in cases {
        for name in ["after", "after_resolved"] {
            let steps = format!("a: {{run: x}}, c: {{run: x}}, b: {{run: x, {name}: {written}}}");
            let step = &flow(&format!("steps: {{{steps}}}")).steps["b"];
            let (given, other) =
                if name == "after" { (&step.after, &step.after_resolved) } else { (&step.after_resolved, &step.after) };
            assert_eq!((given.as_slice(), other.as_slice()), (expected.as_slice(), [].as_slice()), "{name}: {written}");
        }
    }
    let holds = "`after` holds names of steps and `any_of` groups";
    assert_eq!(said_of("run: x, after: 5"), [format!("Error b.after: {holds}")]);
    assert_eq!(said_of("run: x, after: [a, 5]"), [format!("Error b.after.1: {holds}")]);
    let two = "`any_of` needs a list of two or more (with one source there is nothing to choose: write it alone)";
    assert_eq!(said_of("run: x, after: {any_of: [a]}"), [format!("Error b.after.any_of: {two}")]);
    assert_eq!(said_of("run: x, after: [{any_of: a}]"), [format!("Error b.after.0.any_of: {two}")]);
}

#[test]
fn a_condition_is_an_expression_or_asks_about_one_input() {
    let when = |written: &str| step_of(&format!("run: x, inputs: {{i: a.v}}, when: {written}")).when;
    let expression = |text: &str| Some(When::Expression(text.into()));
    assert_eq!(when("null"), None);
    assert_eq!(when("i > 1"), expression("i > 1"));
    // What YAML takes for something else is an expression too.
    assert_eq!(when("true"), expression("True"));
    assert_eq!(when("false"), expression("False"));
    assert_eq!(when("5"), expression("5"));
    assert_eq!(when("{input: i, is_present: true}"), Some(When::IsPresent("i".into(), true)));
    assert_eq!(when("{input: i, is_present: false}"), Some(When::IsPresent("i".into(), false)));
    assert_eq!(when("{input: i, is_null: true}"), Some(When::IsNull("i".into(), true)));
    assert_eq!(when("{input: i, is_null: false}"), Some(When::IsNull("i".into(), false)));
    assert_eq!(said_of("run: x, when: [1]"), ["Error b.when: `when` must be an expression"]);
    let one = "Error b.when: `when` as a mapping asks about one input (write `{input: x, is_present: true}` or `{input: x, is_null: true}`)";
    for unclear in ["{}", "{input: i}", "{is_null: true}", "{input: i, is_null: true, is_present: true}"] {
        assert_eq!(said_of(&format!("run: x, inputs: {{i: a.v}}, when: {unclear}")), [one], "{unclear}");
    }
}

#[test]
fn an_exit_rule_has_an_action_and_what_belongs_to_it() {
    let step = step_of(
        "run: x, exits: [{name: n, when: attempt > 2, action: abandon}, {action: advance}, {action: escalate, target: a}, \
         {action: escalate}, {action: loop, target: a, max_iterations: 3, when: True}]",
    );
    type Rule<'r> = (Option<&'r str>, Option<&'r str>, ExitAction, Option<&'r str>, Option<u32>);
    let rules: Vec<Rule<'_>> = step
        .exits
        .iter()
        .map(|rule| {
            (rule.name.as_deref(), rule.when.as_deref(), rule.action, rule.target.as_deref(), rule.max_iterations)
        })
        .collect();
    assert_eq!(
        rules,
        [
            (Some("n"), Some("attempt > 2"), ExitAction::Abandon, None, None),
            (None, None, ExitAction::Advance, None, None),
            (None, None, ExitAction::Escalate, Some("a"), None),
            (None, None, ExitAction::Escalate, None, None),
            (None, Some("True"), ExitAction::Loop, Some("a"), Some(3)),
        ]
    );
}

#[test]
fn an_exit_rule_that_cannot_be_is_told_where_it_is() {
    let cases = [
        ("5", "Error b.exits: `exits` must be a list of rules"),
        ("[5]", "Error b.exits.0: an exit rule must be a mapping"),
        (
            "[{}]",
            "Error b.exits.0: the rule has no `action` (write `action: advance`, `loop`, `escalate`, or `abandon`)",
        ),
        (
            "[{action: 5}]",
            "Error b.exits.0.action: `action` cannot be `5` (it is one of advance, loop, escalate, abandon)",
        ),
        (
            "[{action: loop, max_iterations: 1}]",
            "Error b.exits.0: a `loop` rule needs a `target` (write `target: <step>`)",
        ),
        (
            "[{action: advance, target: a}]",
            "Error b.exits.0.target: only `loop` and `escalate` have a target (remove it)",
        ),
        (
            "[{action: abandon, target: a}]",
            "Error b.exits.0.target: only `loop` and `escalate` have a target (remove it)",
        ),
        ("[{action: advance, when: [1]}]", "Error b.exits.0.when: `when` must be an expression"),
    ];
    for (exits, expected) in cases {
        assert_eq!(said_of(&format!("run: x, exits: {exits}")), [expected]);
    }
    for count in ["0", "-1", "1.5", "4294967296", "many"] {
        assert_eq!(
            said_of(&format!("run: x, exits: [{{action: escalate, max_iterations: {count}}}]")),
            ["Error b.exits.0.max_iterations: `max_iterations` must be a whole number from 1"],
            "{count}"
        );
    }
    let most = step_of("run: x, exits: [{action: escalate, max_iterations: 4294967295}]").exits[0].max_iterations;
    assert_eq!(most, Some(u32::MAX));
    let unknown = said_of("run: x, exits: [{action: advance, wen: x}]");
    assert_eq!(unknown, ["Warning b.exits.0.wen: unknown key `wen` is passed over (did you mean `when`?)"]);
}

#[test]
fn half_a_minute_is_thirty_seconds() {
    assert_eq!(
        step_of("run: x, limits: {max_duration_minutes: 0.5}").limits.max_duration,
        Some(Duration::from_secs(30))
    );
}
