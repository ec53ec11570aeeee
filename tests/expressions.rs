//! The expression language against what CPython says, and against hostile texts.

#![expect(clippy::expect_used, reason = "a test that can not read its corpus has to fail")]

use serde_json::{Map, Value, json};
use tenure::flow::expr::{self, ErrorKind};

#[path = "expressions/bounds.rs"]
mod bounds;

fn names(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("names are an object")
}

/// Numbers by value and sort: `1` is not `1.0`; a float has to be the same to the last bit.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.is_f64() == b.is_f64() && (a == b || a.as_f64() == b.as_f64()),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

/// What is wrong with an answer, if something is.
fn judge(text: &str, env: &Value, due: Result<&Value, &str>) -> Option<String> {
    let got = expr::eval(text, names(env));
    let wrong = match (&got, due) {
        (Ok(got), Ok(due)) => !same(got, due),
        (Err(error), Err(_)) => error.message.is_empty() || error.offset > text.chars().count(),
        // CPython takes `pass` for a keyword; authors write `outputs.pass`.
        (Ok(_), Err("SyntaxError")) if text.contains("outputs.pass ") => false,
        _ => true,
    };
    wrong.then(|| format!("{text}\n  names {env}\n  due {due:?}\n  got {got:?}"))
}

fn report(wrong: &[String], all: usize) {
    assert!(wrong.is_empty(), "{} of {all} are wrong:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

#[test]
fn the_expressions_of_the_corpus_agree_with_cpython() {
    let corpus: Value = serde_json::from_str(include_str!("corpus/expressions.json")).expect("the corpus is JSON");
    let contexts = corpus["contexts"].as_array().expect("contexts");
    let cases = corpus["cases"].as_array().expect("cases");
    let mut wrong = Vec::new();
    for case in cases {
        let env = &contexts[usize::try_from(case["context"].as_u64().expect("a context")).expect("an index")];
        let due = case["error"].as_str().map_or(Ok(&case["value"]), Err);
        wrong.extend(judge(case["expr"].as_str().expect("an expression"), env, due));
    }
    report(&wrong, cases.len());
}

#[test]
fn the_conditions_of_the_corpus_agree_with_cpython() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in include_str!("corpus/conditions.jsonl").lines() {
        let case: Value = serde_json::from_str(line).expect("a line is JSON");
        count += 1;
        let due = case["err"].as_str().map_or(Ok(&case["ok"]), Err);
        wrong.extend(judge(case["expr"].as_str().expect("an expression"), &case["env"], due));
        if let (Ok(value), Some(truth)) = (due, case["bool"].as_bool())
            && expr::truthy(value) != truth
        {
            wrong.push(format!("{value} counts as {}", !truth));
        }
    }
    assert_eq!(count, 3309);
    report(&wrong, count);
}

fn value(text: &str, names_of: Value) -> Value {
    expr::eval(text, names(&names_of)).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn kind(text: &str, names_of: Value) -> ErrorKind {
    match expr::eval(text, names(&names_of)) {
        Ok(value) => panic!("{text} is {value}, not an error"),
        Err(error) => error.kind,
    }
}

#[test]
fn a_keyword_after_a_dot_is_a_field() {
    assert_eq!(
        value("outputs.pass == True and outputs.from.class", json!({"outputs": {"pass": true, "from": {"class": 1}}})),
        json!(1)
    );
}

#[test]
fn a_given_mapping_answers_to_attributes_and_methods_come_first() {
    let given = json!({"outputs": {"items": 1, "a": {"b": [{"c": 2}]}}, "config": {"mode": "x"}});
    assert_eq!(value("outputs.a.b[0].c", given.clone()), json!(2));
    assert_eq!(value("config.mode", given.clone()), json!("x"));
    assert_eq!(value("outputs['items']", given.clone()), json!(1));
    assert_eq!(value("list(outputs.items())[0]", given.clone()), json!(["items", 1]));
    assert_eq!(kind("{'a': 1}.a", given), ErrorKind::Attribute);
}

#[test]
fn what_python_has_and_flows_must_not_use_is_refused() {
    for text in [
        "lambda: 1",
        "(lambda x: x)(1)",
        "f'{x}'",
        "rf'{x}'",
        "b'x'",
        "[x := 1]",
        "(x := 1)",
        "outputs.__class__",
        "outputs._error",
        "().__class__",
        "__import__('os')",
        "float.__globals__",
        "'{0.x}'.format(1)",
        "'{0[0]}'.format('a')",
        "[1].append(2)",
        "outputs.pop('x')",
        "{1}.add(2)",
        "[await x for x in y]",
        "[x async for x in y]",
        "(yield)",
        "1j",
        "outputs @ outputs",
    ] {
        assert_eq!(kind(text, json!({"outputs": {"x": 1}, "x": 1, "y": []})), ErrorKind::Forbidden, "{text}");
    }
    for text in ["open('x')", "eval('1')", "print(1)", "getattr(outputs, 'x')", "type(1)", "globals()"] {
        assert_eq!(kind(text, json!({"outputs": {}})), ErrorKind::Name, "{text}");
    }
}

#[test]
fn an_error_says_where_it_is() {
    for (text, offset, kind) in [
        ("", 0, ErrorKind::Syntax),
        ("a ==", 4, ErrorKind::Syntax),
        ("é == = 1", 5, ErrorKind::Syntax),
        ("a = 1", 2, ErrorKind::Syntax),
        ("a if b", 6, ErrorKind::Syntax),
        ("'abc", 0, ErrorKind::Syntax),
        ("a $ b", 2, ErrorKind::Syntax),
        ("a\nb", 1, ErrorKind::Syntax),
        ("1 + missing", 4, ErrorKind::Name),
        ("'é' + a.b", 8, ErrorKind::Attribute),
        ("a.x < 3 < 'b'", 8, ErrorKind::Type),
        ("a['nope']", 1, ErrorKind::Key),
        ("[1][4]", 3, ErrorKind::Index),
        ("1 + 2 / 0", 6, ErrorKind::ZeroDivision),
        ("float('x')", 5, ErrorKind::Value),
        ("a.__class__", 2, ErrorKind::Forbidden),
        ("2 ** 999", 2, ErrorKind::TooLarge),
    ] {
        let error = expr::eval(text, names(&json!({"a": {"x": 1}, "b": 1}))).expect_err(text);
        assert_eq!((error.offset, error.kind), (offset, kind), "{text}: {error}");
    }
}

#[test]
fn an_error_names_what_there_is() {
    let given = json!({"outputs": {"score": 1, "status": "ok"}, "attempt": 1});
    let message = |text: &str| expr::eval(text, names(&given)).expect_err(text).to_string();
    assert_eq!(message("outputs.scroe"), "there is no field `scroe`; there are score, status");
    assert_eq!(message("atempt > 1"), "there is no name `atempt` here; given are attempt, outputs");
    assert_eq!(message("outputs.score > 'a'"), "int and str can not be compared with `>`");
    assert_eq!(message("'n: ' + outputs.score"), "`+` does not work on a str and a int; make both texts with str(…)");
    assert_eq!(message("(attempt"), "the end is not expected here; `)` is missing");
    assert_eq!(
        message("outputs._error"),
        "`._error`: names that begin with `_` are not reached by a dot; a field is reached with .get(\"_error\")"
    );
}

#[test]
fn the_free_names_are_those_from_outside() {
    let free = |text: &str| -> Vec<(String, usize)> {
        let expr = expr::parse(text).expect(text);
        expr.names().iter().map(|used| (used.name.clone(), used.offset)).collect()
    };
    assert_eq!(free("len(outputs.a) > limit and true"), [("outputs".into(), 4), ("limit".into(), 17)]);
    assert_eq!(free("[x + y for x in xs if x > z]"), [("y".into(), 5), ("xs".into(), 16), ("z".into(), 26)]);
    assert_eq!(free("[x for x in x]"), [("x".into(), 12)]);
    assert_eq!(free("{k: v for k, (v, w) in a.items()}"), [("a".into(), 23)]);
    assert_eq!(free("sorted(k, key=len, reverse=None)"), [("k".into(), 7)]);
}

#[test]
fn python_counts_as_true_what_truthy_does() {
    for (text, truth) in [
        ("0", false),
        ("0.0", false),
        ("-0.0", false),
        ("1e-9", true),
        ("''", false),
        ("' '", true),
        ("[]", false),
        ("[0]", true),
        ("{}", false),
        ("None", false),
        ("{'a': 0}", true),
        ("True", true),
    ] {
        assert_eq!(expr::truthy(&value(text, json!({}))), truth, "{text}");
        assert_eq!(value(&format!("bool({text})"), json!({})), json!(truth), "{text}");
    }
}

#[test]
fn what_is_past_64_bits_or_not_json_is_an_error() {
    assert_eq!(value("2 ** 64 - 1", json!({})), json!(u64::MAX));
    assert_eq!(value("-2 ** 63", json!({})), json!(i64::MIN));
    assert_eq!(value("10 ** 30 > 10 ** 29", json!({})), json!(true));
    assert_eq!(kind("2 ** 64", json!({})), ErrorKind::TooLarge);
    assert_eq!(kind("10 ** 40", json!({})), ErrorKind::TooLarge);
    assert_eq!(kind("float('nan')", json!({})), ErrorKind::Value);
    assert_eq!(kind("1e308 * 10", json!({})), ErrorKind::Value);
    for text in ["len", "outputs.get", "(x for x in [])", "outputs.keys()", "range(3)", "...", "zip()", "{(1, 2): 3}"] {
        assert_eq!(kind(text, json!({"outputs": {}})), ErrorKind::Type, "{text}");
    }
}

#[test]
fn patterns_are_read_as_python_reads_them() {
    for (text, due) in [
        (r"regex_extract('(\\w+)$', 'one\ntwo\n')", json!("two")),
        (r"regex_extract('o', 'foo')", json!("o")),
        (r"regex_extract('(x)?o', 'foo')", json!(null)),
        (r"regex_extract('x', 'foo', 7)", json!(7)),
        (r"regex_extract(pattern='x', text='foo', default='d')", json!("d")),
        (r"regex_extract('[[]a', '[a')", json!("[a")),
        (r"regex_extract('a\Z', 'a')", json!("a")),
        (r"regex_extract('[&&a]+', '&&a')", json!("&&a")),
        (r"regex_extract('(?i)score:\s*(\d+)', 'SCORE:  42')", json!("42")),
    ] {
        assert_eq!(value(text, json!({})), due, "{text}");
    }
    for text in [
        r"regex_extract('(?=a)', 'a')",
        r"regex_extract(r'(a)\1', 'aa')",
        "regex_extract('(', 'a')",
        "regex_extract('(' * 500 + ')' * 500, 'a')",
    ] {
        assert_eq!(kind(text, json!({})), ErrorKind::Value, "{text}");
    }
}
