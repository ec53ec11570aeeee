//! What authors get for what they write.

use super::*;
use crate::model::PathSegment;

mod executors;
mod fields;
mod steps;
mod whole;

/// What these parts become, read as the manifests are: `n` is a text, and only `true` and `false` are none.
fn compiled(yaml: &str) -> Compiled {
    let mut options = serde_yaml::Options::default();
    options.strict_booleans = true;
    compile(&serde_yaml::from_str_with_options(yaml, options).unwrap())
}

fn said(yaml: &str) -> Vec<String> {
    let path = |path: &[PathSegment]| {
        let segments = path.iter().map(|segment| match segment {
            PathSegment::Key(key) => key.clone(),
            PathSegment::Index(index) => index.to_string(),
        });
        segments.collect::<Vec<_>>().join(".")
    };
    compiled(yaml)
        .problems
        .iter()
        .map(|p| {
            let help = p.help.as_deref().map(|help| format!(" ({help})")).unwrap_or_default();
            format!("{:?} {}: {}{help}", p.severity, path(&p.path), p.message)
        })
        .collect()
}

/// The flow, of which nothing is said.
fn flow(yaml: &str) -> Flow {
    let compiled = compiled(yaml);
    assert_eq!(compiled.problems, [], "{yaml}");
    compiled.flow.unwrap()
}

#[test]
fn a_sound_flow_has_no_problems() {
    let yaml = "name: x\ninputs: {n: {type: number, default: 3}}\nsteps:\n  a:\n    run: echo\n    outputs: [v]\n  b:\n    executor: agent\n    agent: echo\n    prompt: \"$v $$5\"\n    inputs: {v: a.v, n: $job.n}\n    when: v\n    exits: [{when: True, action: loop, target: a, max_iterations: 3}]\n";
    assert_eq!(said(yaml), Vec::<String>::new());
}

#[test]
fn every_problem_is_found_in_one_go() {
    let yaml = "\
steps:
  a:
    run: echo
    outputs: [value]
    outputz: [x]
  b:
    run: echo
    executor: agent
    inputs: {v: a.valu, w: c.x, PATH: a.value, z: {any_of: [a.value]}}
    exits:
      - {action: loop}
      - {action: advence}
      - {action: loop, target: a}
  d: {}
  e: {run: echo, after: [f]}
  f: {run: echo, after: [e]}
";
    assert_eq!(
        said(yaml),
        [
            "Warning steps.a.outputz: unknown key `outputz` is passed over (did you mean `outputs`?)",
            "Error steps.b: the step has `run` and `executor` of which it can have one (make two steps of it)",
            "Error steps.b.inputs.PATH: an input cannot be called `PATH`: the name means something to the shell or the loader (use another name of letters, digits, `_`, and `-`)",
            "Error steps.b.inputs.z.any_of: `any_of` needs a list of two or more (with one source there is nothing to choose: write it alone)",
            "Error steps.b.exits.0: a `loop` rule needs a `target` (write `target: <step>`)",
            "Error steps.b.exits.1.action: `action` cannot be `advence` (did you mean `advance`?)",
            "Error steps.d: the step has nothing to do (write `run: …` for a script, or `executor: agent`)",
            "Error steps.e: these steps wait for each other: e → f (make one input of the loop `optional`, and close it with a `loop` rule)",
        ]
    );
}

#[test]
fn references_are_checked_against_what_is_declared() {
    let yaml = "steps:\n  a: {run: echo, outputs: [value]}\n  b: {run: echo, inputs: {v: a.valu, w: c.x}, exits: [{action: loop, target: a}]}\n";
    assert_eq!(
        said(yaml),
        [
            "Error steps.b.inputs.v: step `a` declares no output `valu` (did you mean `value`?)",
            "Error steps.b.inputs.w: there is no step `c`",
            "Warning steps.b.exits.0: nothing bounds this loop (write `max_iterations: …`)",
        ]
    );
}
