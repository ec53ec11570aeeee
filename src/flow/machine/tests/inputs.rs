//! Values: what a job is given, the way into a value, and what a schema makes of one.

use super::{World, step};
use crate::flow::machine::inputs::{at_path, coerce, in_map, misfit};
use crate::flow::{Field, FieldType};
use crate::model::JobPhase::{Pending, Running};
use serde_json::{Value, json};

fn of(r#type: FieldType) -> Field {
    Field { r#type, ..Field::default() }
}

fn one_of(options: &[Value]) -> Field {
    Field { options: options.to_vec(), ..of(FieldType::Choice) }
}

#[test]
fn text_becomes_the_number_truth_value_or_option_that_is_wanted_and_else_stays() {
    use FieldType::{Any, Bool, Number, Str, Text};
    let options = one_of(&[json!(1), json!("2"), json!(2), json!(true)]);
    let cases = [
        (of(Number), json!("5"), json!(5)),
        (of(Number), json!(" -1.5 "), json!(-1.5)),
        (of(Number), json!("five"), json!("five")),
        (of(Number), json!(5), json!(5)),
        (of(Number), json!(["5"]), json!(["5"])),
        (of(Bool), json!("true"), json!(true)),
        (of(Bool), json!(" Yes "), json!(true)),
        (of(Bool), json!("1"), json!(true)),
        (of(Bool), json!("FALSE"), json!(false)),
        (of(Bool), json!("no"), json!(false)),
        (of(Bool), json!("0"), json!(false)),
        (of(Bool), json!("maybe"), json!("maybe")),
        (of(Bool), json!(1), json!(1)),
        (options.clone(), json!("1"), json!(1)),
        (options.clone(), json!("true"), json!(true)),
        // What is an option as it stands stays what it is.
        (options.clone(), json!("2"), json!("2")),
        (options.clone(), json!("3"), json!("3")),
        (options, json!(2), json!(2)),
        (of(Any), json!("5"), json!("5")),
        (of(Str), json!("true"), json!("true")),
        (of(Text), json!("5"), json!("5")),
    ];
    for (field, given, expected) in cases {
        assert_eq!(coerce(&field, given.clone()), expected, "{given} as {:?}", field.r#type);
    }
}

#[test]
fn a_value_that_does_not_fit_is_told_with_what_is_wanted() {
    use FieldType::{Any, Bool, Choice, Number, Str, Text};
    let between = |min, max| Field { min, max, ..of(Number) };
    let secret = |field| Field { sensitive: true, ..field };
    let words = || one_of(&[json!("a"), json!(2)]);
    let cases = [
        (of(Any), json!([1]), None),
        (of(Choice), json!([1]), None),
        (of(Str), json!("x"), None),
        (of(Text), json!("x"), None),
        (of(Number), json!(1.5), None),
        (of(Bool), json!(false), None),
        (of(Str), json!(5), Some("must be text, not `5`")),
        (of(Text), json!(null), Some("must be text, not `null`")),
        (of(Number), json!("5"), Some("must be a number, not `\"5\"`")),
        (of(Bool), json!(0), Some("must be `true` or `false`, not `0`")),
        (words(), json!("a"), None),
        (words(), json!(2), None),
        (words(), json!("2"), Some("must be one of `a`, `2`, not `\"2\"`")),
        (Field { options: vec![json!("a")], ..of(Str) }, json!("b"), Some("must be one of `a`, not `\"b\"`")),
        (between(Some(1.0), Some(2.0)), json!(1), None),
        (between(Some(1.0), Some(2.0)), json!(2), None),
        (between(Some(1.0), Some(2.0)), json!(0.9), Some("must be at least 1, not `0.9`")),
        (between(Some(1.0), Some(2.0)), json!(2.1), Some("must be at most 2, not `2.1`")),
        (between(None, Some(2.0)), json!(-9), None),
        (between(Some(1.0), None), json!(9), None),
        (between(None, None), json!(9), None),
        (secret(of(Number)), json!("hunter2"), Some("must be a number, not the value")),
        (secret(words()), json!("hunter2"), Some("must be one of `a`, `2`, not the value")),
        (secret(between(Some(1.0), Some(2.0))), json!(0), Some("must be at least 1, not the value")),
        (secret(between(Some(1.0), Some(2.0))), json!(3), Some("must be at most 2, not the value")),
    ];
    for (field, value, expected) in cases {
        assert_eq!(misfit(&field, &value).as_deref(), expected, "{value} as {:?}", field.r#type);
    }
}

#[test]
fn a_long_value_is_shown_by_its_beginning() {
    let said = |length: usize| misfit(&of(FieldType::Bool), &json!("é".repeat(length))).unwrap();
    let shown = |text: &str| format!("must be `true` or `false`, not {text}");
    // With its quotes, sixty characters are shown whole.
    assert_eq!(said(58), shown(&format!("`\"{}\"`", "é".repeat(58))));
    assert_eq!(said(59), shown(&format!("`\"{}…`", "é".repeat(59))));
    assert_eq!(said(500), shown(&format!("`\"{}…`", "é".repeat(59))));
}

#[test]
fn a_path_leads_through_mappings_and_lists_or_to_nothing() {
    let value = json!({"a": {"b": [10, {"c": 11}]}, "": 12, "t": "text"});
    let cases = [
        ("", value.clone()),
        ("a.b.0", json!(10)),
        ("a.b.1.c", json!(11)),
        ("a.b.2", json!(null)),
        ("a.b.-1", json!(null)),
        ("a.b.c", json!(null)),
        ("a.x.y", json!(null)),
        ("t.0", json!(null)),
        ("x", json!(null)),
    ];
    for (path, expected) in cases {
        let path: Vec<String> = path.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        assert_eq!(at_path(&value, &path), expected, "{path:?}");
        assert_eq!(in_map(value.as_object().unwrap(), &path), expected, "{path:?}");
    }
}

/// A job whose flow declares `n`, a number that it needs, and `c`, an option with a default.
fn job_given(given: Value) -> World {
    let mut world = World::new([step("a").input("n", "$job.n").input("c", "$job.c").input("more", "$job.more")]);
    let n = Field { required: true, max: Some(9.0), ..of(FieldType::Number) };
    let c = Field { default: Some(json!("x")), ..one_of(&[json!("x"), json!("y")]) };
    world.flow.inputs.extend([("n".into(), n), ("c".into(), c)]);
    world.job.spec.inputs.extend(given.as_object().unwrap().clone());
    world.pass();
    world
}

#[test]
fn a_job_begins_with_what_it_is_given_and_with_defaults_for_the_rest() {
    let cases = [
        (json!({"n": 3}), json!({"n": 3, "c": "x", "more": null})),
        (json!({"n": "3", "c": "y"}), json!({"n": 3, "c": "y", "more": null})),
        (json!({"n": 3, "c": null}), json!({"n": 3, "c": "x", "more": null})),
        // What is given beyond what is declared is kept.
        (json!({"n": 3, "more": [1]}), json!({"n": 3, "c": "x", "more": [1]})),
    ];
    for (given, expected) in cases {
        let world = job_given(given);
        world.job_is(Running, "");
        assert_eq!(json!(world.run("a.1").spec.inputs), expected);
    }
}

#[test]
fn a_job_that_is_given_what_does_not_fit_stays_pending_and_says_all_of_it() {
    let cases = [
        (json!({}), "InputsMissing", "set `spec.inputs` for `n`"),
        (json!({"n": null}), "InputsMissing", "set `spec.inputs` for `n`"),
        (json!({"c": "z"}), "InputsMissing", "set `spec.inputs` for `n`"),
        (json!({"n": 10}), "InputsInvalid", "correct `spec.inputs`: `n` must be at most 9, not `10`"),
        (
            json!({"n": "many", "c": "z"}),
            "InputsInvalid",
            "correct `spec.inputs`: `c` must be one of `x`, `y`, not `\"z\"`; `n` must be a number, not `\"many\"`",
        ),
    ];
    for (given, reason, message) in cases {
        let world = job_given(given);
        world.job_is(Pending, reason);
        assert_eq!((world.message(), world.runs.len()), (message, 0));
    }
}
