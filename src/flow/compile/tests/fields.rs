//! The values that a flow and its steps declare, and how the parts of a mapping are read.

use super::*;

fn typed(r#type: FieldType) -> Field {
    Field { r#type, required: true, ..Field::default() }
}

#[test]
fn a_schema_says_what_a_value_must_be() {
    let not_required = Field { required: false, ..typed(FieldType::Any) };
    let cases = [
        ("", typed(FieldType::Any)),
        ("str", typed(FieldType::Str)),
        ("string", typed(FieldType::Str)),
        ("text", typed(FieldType::Text)),
        ("number", typed(FieldType::Number)),
        ("int", typed(FieldType::Number)),
        ("float", typed(FieldType::Number)),
        ("bool", typed(FieldType::Bool)),
        ("boolean", typed(FieldType::Bool)),
        ("any", typed(FieldType::Any)),
        ("json", typed(FieldType::Any)),
        ("list", typed(FieldType::Any)),
        ("dict", typed(FieldType::Any)),
        ("object", typed(FieldType::Any)),
        ("{}", typed(FieldType::Any)),
        ("{type: number}", typed(FieldType::Number)),
        ("{required: false}", not_required.clone()),
        ("{required: true, default: 1}", Field { default: Some(1.into()), ..typed(FieldType::Any) }),
        // A default makes it optional, unless it says otherwise.
        ("{default: 1}", Field { default: Some(1.into()), ..not_required.clone() }),
        ("{default: null}", typed(FieldType::Any)),
        ("{sensitive: true}", Field { sensitive: true, ..typed(FieldType::Any) }),
        ("{description: a word}", Field { description: Some("a word".into()), ..typed(FieldType::Any) }),
        ("{min: -1.5, max: 7}", Field { min: Some(-1.5), max: Some(7.0), ..typed(FieldType::Any) }),
        ("{type: choice, options: [a, 2]}", Field { options: vec!["a".into(), 2.into()], ..typed(FieldType::Choice) }),
        // Options bind other types too.
        ("{type: str, options: [a]}", Field { options: vec!["a".into()], ..typed(FieldType::Str) }),
    ];
    for (schema, expected) in cases {
        let flow = flow(&format!("inputs: {{v: {schema}}}\nsteps: {{a: {{run: x, outputs: {{v: {schema}}}}}}}"));
        assert_eq!(flow.inputs["v"], expected, "{schema}");
        assert_eq!(flow.steps["a"].outputs["v"], expected, "{schema}");
    }
}

#[test]
fn a_list_of_names_declares_that_each_must_be_given() {
    let flow = flow("inputs: [b, a]\nsteps: {s: {run: x, outputs: [v]}, t: {run: x, outputs: null}}");
    let required = typed(FieldType::Any);
    assert_eq!(flow.inputs, BTreeMap::from([("a".into(), required.clone()), ("b".into(), required.clone())]));
    assert_eq!(flow.steps["s"].outputs, BTreeMap::from([("v".into(), required)]));
    assert_eq!(flow.steps["t"].outputs, BTreeMap::new());
}

#[test]
fn what_is_configured_has_a_value_or_none_and_need_not_be_given() {
    let flow = flow("inputs: {a: str}\nconfig: {b: str, c: {required: true}, d: }\nsteps: {s: {run: x}}");
    let required: Vec<(&str, bool)> = flow.inputs.iter().map(|(name, field)| (name.as_str(), field.required)).collect();
    assert_eq!(required, [("a", true), ("b", false), ("c", true), ("d", false)]);
    assert_eq!(flow.inputs["b"].r#type, FieldType::Str);
}

#[test]
fn a_flow_has_a_name_and_a_description() {
    let flow = flow("name: 5\ndescription: what it is for\nsteps: {a: {run: x}}");
    assert_eq!((flow.name.as_deref(), flow.description.as_deref()), (Some("5"), Some("what it is for")));
}

#[test]
fn a_schema_that_cannot_be_is_told_where_it_is() {
    let types = "the types are str, text, number, bool, and choice";
    let cases = [
        ("5", "inputs.v: a schema must be a mapping".to_owned()),
        ("strr", format!("inputs.v: there is no type `strr` ({types})")),
        ("{type: strr}", format!("inputs.v.type: there is no type `strr` ({types})")),
        ("{type: [str]}", "inputs.v.type: `type` must be a text".into()),
        ("{type: choice}", "inputs.v: a choice needs `options` (write `options: [a, b]`)".into()),
        ("{type: choice, options: []}", "inputs.v: a choice needs `options` (write `options: [a, b]`)".into()),
        ("{options: a}", "inputs.v.options: `options` must be a list".into()),
        ("{required: yes please}", "inputs.v.required: `required` must be true or false".into()),
        ("{sensitive: 1}", "inputs.v.sensitive: `sensitive` must be true or false".into()),
        ("{min: low}", "inputs.v.min: `min` must be a number".into()),
        ("{max: high}", "inputs.v.max: `max` must be a number".into()),
        ("{description: [a]}", "inputs.v.description: `description` must be a text".into()),
    ];
    for (schema, expected) in cases {
        let said = said(&format!("inputs: {{v: {schema}}}\nsteps: {{a: {{run: x}}}}"));
        assert_eq!(said, [format!("Error {expected}")], "{schema}");
    }
    let unknown = said("inputs: {v: {typ: str}}\nsteps: {a: {run: x}}");
    assert_eq!(unknown, ["Warning inputs.v.typ: unknown key `typ` is passed over (did you mean `type`?)"]);
}

#[test]
fn names_that_are_not_names_are_told_where_they_are() {
    let names = "must be a list of names, or a mapping of names to schemas";
    let steps = "steps: {a: {run: x}}";
    assert_eq!(said(&format!("inputs: [a, 5]\n{steps}")), ["Error inputs.1: a name must be a text"]);
    assert_eq!(said(&format!("inputs: word\n{steps}")), [format!("Error inputs: {names}")]);
    assert_eq!(said("steps: {a: {run: x, outputs: 5}}"), [format!("Error steps.a.outputs: {names}")]);
}

#[test]
fn a_document_that_is_no_flow_is_told_so() {
    assert_eq!(said("[1]"), ["Error : a flow must be a mapping"]);
    assert_eq!(said("name: x"), ["Error : the flow has no `steps` (write `steps: {name: {run: …}}`)"]);
    assert_eq!(said("steps: [a]"), ["Error steps: `steps` must be a mapping (write `steps: {name: {run: …}}`)"]);
    assert_eq!(said("steps: {}"), ["Error steps: the flow has no steps"]);
    assert_eq!(
        said("step: 1\nsteps: {a: {run: x}}"),
        ["Warning step: unknown key `step` is passed over (did you mean `steps`?)"]
    );
    assert_eq!(said("zzz: 1\nsteps: {a: {run: x}}"), ["Warning zzz: unknown key `zzz` is passed over"]);
}

#[test]
fn errors_leave_no_flow_and_warnings_do() {
    assert_eq!(compiled("steps: {a: {run: [x]}}").flow, None);
    let warned = compiled("zzz: 1\nsteps: {a: {run: x}}");
    assert_eq!(warned.problems.len(), 1);
    assert_eq!(warned.flow.unwrap().steps.len(), 1);
}

#[test]
fn a_problem_points_at_the_key_or_at_the_value() {
    let problem = |yaml: &str| {
        let mut problems = compiled(yaml).problems;
        assert_eq!(problems.len(), 1, "{problems:?}");
        let problem = problems.remove(0);
        (problem.severity, problem.at_key, problem.offset)
    };
    use Severity::{Error, Warning};
    // What is wrong with a name, or with there being such a key at all, is at the key.
    assert_eq!(problem("zzz: 1\nsteps: {a: {run: x}}"), (Warning, true, 0));
    assert_eq!(problem("containment: x\nsteps: {a: {run: x}}"), (Error, true, 0));
    assert_eq!(problem("steps: {a b: {run: x}}"), (Error, true, 0));
    assert_eq!(problem("inputs: [v]\nsteps: {a: {run: x, inputs: {PATH: $job.v}}}"), (Error, true, 0));
    assert_eq!(problem("steps: {a: {run: [x]}}"), (Error, false, 0));
    // In an expression, at the character.
    assert_eq!(problem("steps: {a: {run: x, when: 1 +* 2}}"), (Error, false, 3));
}

#[test]
fn what_this_version_cannot_do_is_refused_unless_it_asks_for_nothing() {
    let refused = |value: &str| said(&format!("containment: {value}\nsteps: {{a: {{run: x}}}}"));
    let message = "Error containment: `containment` is not supported by this version: machines come with a later version \
                   (remove it)";
    for value in ["[vm]", "{vm: 1}", "vm", "5", "true", "''"] {
        assert_eq!(refused(value), [message], "{value}");
    }
    for value in ["[]", "{}", "false", "null"] {
        assert_eq!(refused(value), [] as [&str; 0], "{value}");
    }
    assert_eq!(
        said("steps: {a: {run: x, containment: vm}}"),
        [message.replace("Error containment", "Error steps.a.containment")]
    );
}

#[test]
fn what_must_hold_before_a_job_begins_has_a_name_and_perhaps_a_check() {
    let requires = |value: &str| flow(&format!("requires: {value}\nsteps: {{a: {{run: x}}}}")).requires;
    let git = requires("[{name: git, check: git --version, install: apt install git, url: \"https://x\"}, jq]");
    assert_eq!(
        git,
        [
            Requirement {
                name: "git".into(),
                check: Some("git --version".into()),
                install: Some("apt install git".into()),
                url: Some("https://x".into()),
            },
            Requirement { name: "jq".into(), ..Requirement::default() },
        ]
    );
    assert_eq!(requires("[]"), []);
    let wrong = |value: &str| said(&format!("requires: {value}\nsteps: {{a: {{run: x}}}}"));
    assert_eq!(wrong("[{check: x}]"), ["Error requires.0: the requirement has no `name`"]);
    assert_eq!(wrong("[5]"), ["Error requires.0: a requirement must be a mapping"]);
    let list = "Error requires: `requires` must be a list (write `requires: [{name: git, check: git --version}]`)";
    assert_eq!(wrong("{git: x}"), [list]);
}

#[test]
fn a_name_that_is_near_is_offered() {
    let offered = |name: &str| {
        let said = said(&format!("steps: {{value: {{run: x}}, other: {{run: x, after: {name}}}}}"));
        said[0].split_once(" (").map(|(_, help)| help.trim_end_matches(')').to_owned())
    };
    assert_eq!(offered("valu").as_deref(), Some("did you mean `value`?"));
    assert_eq!(offered("othr").as_deref(), Some("did you mean `other`?"));
    assert_eq!(offered("zzz"), None);
}
