//! What can only be seen of a flow as a whole.

use super::*;

const SOUND: [&str; 0] = [];

#[test]
fn a_reference_to_nothing_is_told_where_it_is() {
    let said_of =
        |parts: &str| said(&format!("inputs: [n]\nsteps: {{a: {{run: x, outputs: [v, w]}}, b: {{run: x, {parts}}}}}"));
    let cases = [
        ("inputs: {i: c.v}", "inputs.i: there is no step `c`"),
        ("inputs: {i: {any_of: [a.v, c.v]}}", "inputs.i: there is no step `c`"),
        ("inputs: {i: a.q}", "inputs.i: step `a` declares no output `q` (its outputs are v, w)"),
        ("inputs: {i: {any_of: [a.v, a.q]}}", "inputs.i: step `a` declares no output `q` (its outputs are v, w)"),
        ("after: c", "after.0: there is no step `c`"),
        ("after: [a, c]", "after.1: there is no step `c`"),
        ("after: [a, {any_of: [a, c]}]", "after.1: there is no step `c`"),
        ("after_resolved: [a, c]", "after_resolved.1: there is no step `c`"),
        ("exits: [{action: advance}, {action: escalate, target: c}]", "exits.1.target: there is no step `c`"),
        ("inputs: {i: a.v}, when: {input: j, is_null: true}", "when: the step has no input `j`"),
        ("inputs: {i: a.v}, when: {input: j, is_present: true}", "when: the step has no input `j`"),
    ];
    for (parts, expected) in cases {
        assert_eq!(said_of(parts), [format!("Error steps.b.{expected}")], "{parts}");
    }
    for sound in [
        "inputs: {i: a.v.deeper}",
        "inputs: {i: $job.n}",
        "after: a",
        "inputs: {i: a.v}, when: {input: i, is_null: true}",
    ] {
        assert_eq!(said_of(sound), SOUND, "{sound}");
    }
    // A step that declares nothing may give anything.
    assert_eq!(said("steps: {a: {run: x}, b: {run: x, inputs: {i: a.anything}}}"), SOUND);
}

#[test]
fn an_input_of_the_job_that_is_not_declared_may_still_be_given_with_it() {
    let said_of = |name: &str| said(&format!("inputs: [number]\nsteps: {{a: {{run: x, inputs: {{i: $job.{name}}}}}}}"));
    let other = "declare it under `inputs:`, or give it with the job";
    assert_eq!(said_of("number"), SOUND);
    assert_eq!(said_of("number.part"), SOUND);
    assert_eq!(said_of("xyz"), [format!("Warning steps.a.inputs.i: the flow declares no input `xyz` ({other})")]);
    assert_eq!(
        said_of("numbr"),
        ["Warning steps.a.inputs.i: the flow declares no input `numbr` (did you mean `number`?)"]
    );
}

#[test]
fn an_expression_that_cannot_be_read_is_told_where_it_is() {
    let places = |parts: &str| {
        let said = said(&format!("steps: {{a: {{run: x, {parts}}}}}"));
        said.iter().map(|said| said.split(": ").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(places("when: 1 +"), ["Error steps.a.when"]);
    assert_eq!(
        places("exits: [{action: advance, when: a}, {action: advance, when: (}]"),
        ["Error steps.a.exits.1.when"]
    );
    assert_eq!(places("when: a, exits: [{action: advance, when: a and b}]"), SOUND);
}

#[test]
fn a_loop_that_nothing_bounds_is_warned_of() {
    let said_of = |does: &str, rules: &str| said(&format!("steps: {{a: {{{does}, exits: [{rules}]}}}}"));
    let unbounded =
        |rule: usize| [format!("Warning steps.a.exits.{rule}: nothing bounds this loop (write `max_iterations: …`)")];
    let script = |rules: &str| said_of("run: x", rules);
    assert_eq!(script("{action: loop, target: a}"), unbounded(0));
    assert_eq!(script("{action: loop, target: a, when: outputs.again}"), unbounded(0));
    assert_eq!(script("{action: advance}, {action: loop, target: a}"), unbounded(1));
    assert_eq!(script("{action: loop, target: a}, {action: advance, when: attempt > 3}"), unbounded(0));
    assert_eq!(said_of("executor: agent, prompt: p", "{action: loop, target: a}"), unbounded(0));
    // By a number, by its condition, or by a rule before it that asks how often.
    assert_eq!(script("{action: loop, target: a, max_iterations: 3}"), SOUND);
    assert_eq!(script("{action: loop, target: a, when: attempt < 3}"), SOUND);
    assert_eq!(script("{action: advance, when: attempt > 3}, {action: loop, target: a}"), SOUND);
    assert_eq!(script("{action: advance}, {action: escalate, target: a}"), SOUND);
    // A person is patient, but not for ever.
    assert_eq!(said_of("executor: external", "{action: loop, target: a}"), SOUND);
}

#[test]
fn a_name_in_a_prompt_that_no_input_provides_is_warned_of() {
    let said_of =
        |does: &str| said(&format!("steps: {{a: {{run: x, outputs: [v]}}, b: {{{does}, inputs: {{value: a.v}}}}}}"));
    let agent = |prompt: &str| said_of(&format!("executor: agent, prompt: \"{prompt}\""));
    let other = "declare it under `inputs:`, or write `$$` for a dollar sign";
    let warned = |name: &str, help: &str| [format!("Warning steps.b.prompt: no input provides `${name}` ({help})")];
    assert_eq!(agent("$value ${value} $value.part $$zzz $5"), SOUND);
    assert_eq!(agent("$zzz"), warned("zzz", other));
    assert_eq!(agent("$valu"), warned("valu", "did you mean `value`?"));
    assert_eq!(agent("write to $STEPWISE_OUTPUT_FILE"), SOUND);
    assert_eq!(said_of("executor: external, prompt: \"$zzz\""), warned("zzz", other));
    assert_eq!(said_of("executor: external"), SOUND);
    assert_eq!(said_of("executor: agent, prompt_file: \"$zzz\""), SOUND, "a file is read when the step runs");
    assert_eq!(said_of("run: echo $zzz"), SOUND, "the shell has variables of its own");
}

#[test]
fn steps_that_wait_for_each_other_are_an_error_unless_one_can_do_without() {
    let said_of = |parts: [&str; 3]| {
        let [a, b, c] = parts;
        said(&format!("steps: {{a: {{run: x, {a}}}, b: {{run: x, {b}}}, c: {{run: x, {c}}}}}"))
    };
    let cycle = |at: &str, names: &str| {
        let help = "make one input of the loop `optional`, and close it with a `loop` rule";
        [format!("Error steps.{at}: these steps wait for each other: {names} ({help})")]
    };
    assert_eq!(said_of(["after: b", "after: a", ""]), cycle("a", "a → b"));
    assert_eq!(said_of(["after: a", "", ""]), cycle("a", "a"));
    assert_eq!(said_of(["after: c", "inputs: {i: a.v}", "after_resolved: b"]), cycle("a", "a → c → b"));
    // What only leads to a cycle is not part of it.
    assert_eq!(said_of(["after: b", "after: c", "after: b"]), cycle("b", "b → c"));
    assert_eq!(said_of(["after: b", "after: c", ""]), SOUND);
    assert_eq!(said_of(["after: [b, c]", "after: c", ""]), SOUND, "two ways to the same step are no cycle");
    // Through what may be absent, where a rule closes the cycle.
    let back = "inputs: {i: {from: b.v, optional: true}}";
    let closes = "after: a, exits: [{action: loop, target: a, max_iterations: 3}]";
    let first = "inputs: {i: {any_of: [b.v, c.v]}}";
    let group = "after: {any_of: [b, c]}";
    let open = [
        "Error steps.a: no rule closes this cycle of steps: a → b (close it with an exit rule `{action: loop, target: …}`, or break it)",
    ];
    for soft in [back, first, group] {
        assert_eq!(said_of([soft, closes, ""]), SOUND, "{soft}");
        assert_eq!(said_of([soft, "after: a", ""]), open, "{soft}");
        assert_eq!(said_of([soft, "after: a, exits: [{action: escalate, target: a}]", ""]), SOUND, "{soft}");
        // A rule that leads out of the cycle does not close it.
        assert_eq!(said_of([soft, "after: a, exits: [{action: escalate, target: c}]", ""]), open, "{soft}");
    }
    assert_eq!(
        said_of(["inputs: {i: {from: a.v, optional: true}}", "", ""]),
        [
            "Error steps.a: no rule closes this cycle of steps: a (close it with an exit rule `{action: loop, target: …}`, or break it)",
        ]
    );
    // One that does not exist is told as such, and is no way round.
    assert_eq!(said_of(["after: zzz", "after: a", ""]), ["Error steps.a.after.0: there is no step `zzz`"]);
}
