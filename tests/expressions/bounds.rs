//! Whatever the text and the values: an answer, soon, on a small stack.

use super::{kind, names, value};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};
use tenure::flow::expr::{self, ErrorKind, MAX_DEPTH, MAX_TEXT};

#[test]
fn the_ends_of_the_integers_are_no_cliff() {
    let (most, least) = ("170141183460469231731687303715884105727", "(-170141183460469231731687303715884105727 - 1)");
    let slices = "[::2]".repeat(1000);
    for text in [
        format!("-{least}"),
        format!("abs({least})"),
        format!("{least} // -1"),
        format!("{least} % -1 == 0"),
        format!("{most} + 1"),
        format!("{least} - 1"),
        format!("{least} * -1"),
        format!("round({least}, -1)"),
        format!("round({least}, -38)"),
        format!("round({most}, -38)"),
        format!("round(1, {least})"),
        format!("round(1.5, {least})"),
        format!("round(1.5, {most})"),
        format!("{least} in range(1, 5)"),
        format!("{most} in range(-5, 5)"),
        format!("[1][{least}]"),
        format!("[1][{least}:{most}:{least}]"),
        format!("'ab'[{most}::{most}]"),
        format!("range(3)[{least}:{most}:{most}]"),
        format!("list(range(1){slices})"),
        format!("range(9 * 10**18, -9 * 10**18, -9 * 10**18){slices}"),
        format!("'a' * {most}"),
        format!("[1] * {least}"),
        format!("1 << {most}"),
        format!("1 >> {most}"),
        format!("{least} >> 1"),
        format!("{most} << 1"),
        format!("2 ** {least}"),
        format!("2 ** {most}"),
        format!("'a'.find('a', {least}, {most})"),
        format!("[1].index(1, {least}, {most})"),
        format!("'a'.zfill({least})"),
        format!("'a b'.split(None, {most})"),
        format!("'a b'.split(' ', {least})"),
        format!("'a'.replace('a', 'b', {least})"),
        format!("list(enumerate('ab', {most}))"),
        format!("'%d' % {least}"),
        format!("'{{:,}}'.format({least})"),
        format!("int('{most}0')"),
        format!("{most} < 1e300 and {most} == {most}.0"),
        format!("hash({least})"),
        format!("'a\\t'.expandtabs({most})"),
        format!("{{{least}, {most}}}"),
        format!("{least} / {most}"),
        format!("{most} // 0.5"),
        format!("float({least})"),
        format!("sum([{most}, 1])"),
        format!("~{least}"),
    ] {
        if let Err(error) = answers(&text) {
            panic!("{text}: {error}");
        }
    }
    assert_eq!(
        value("round(-15, -1) == -20 and round(-25, -1) == -20 and round(15, -1) == 20", json!({})),
        json!(true)
    );
    assert_eq!(
        value("round(14, -1) == 10 and round(-14, -1) == -10 and round(-16, -1) == -20", json!({})),
        json!(true)
    );
}

#[test]
fn a_large_field_that_is_not_used_costs_nothing() {
    let large = json!({"outputs": {"log": "x".repeat(20 << 20), "rows": vec![0; 500_000], "status": "done"}});
    assert_eq!(value("outputs.status == 'done'", large.clone()), json!(true));
    assert_eq!(value("'END' in outputs.log[-500:]", large.clone()), json!(false));
    assert_eq!(value("outputs.rows[-1]", large.clone()), json!(0));
    assert_eq!(kind("outputs.log + 'x'", large.clone()), ErrorKind::TooLarge);
    assert_eq!(kind("regex_extract('y', outputs.log)", large), ErrorKind::TooLarge);
}

/// Runs `f` on three quarters of a stack of tokio's workers (2 MiB): who calls an expression stands on some of it already.
fn on_a_small_stack(f: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(1536 << 10).spawn(f).expect("a thread");
    assert!(thread.join().is_ok(), "the thread panicked");
}

#[test]
fn nesting_is_refused_before_the_stack_ends() {
    on_a_small_stack(|| {
        let given = json!({"outputs": {"a": 1}, "x": 1, "f": []});
        for count in [200, 3000] {
            let text = format!("[1 for {}a{} in f]", "(".repeat(count), ")".repeat(count));
            assert_eq!(kind(&text, given.clone()), ErrorKind::TooLarge);
        }
        for (open, middle, close) in [
            ("(", "1", ")"),
            ("[", "1", "]"),
            ("{", "1", "}"),
            ("{1: ", "1", "}"),
            ("(1, ", "1", ")"),
            ("[*", "f", "]"),
            ("str(", "1", ")"),
            ("[x for x in ", "f", "]"),
            ("sum(x for x in ", "f", ")"),
            ("f[", "0", "]"),
            ("f[:", "0", "]"),
            ("[[y for y in f] for x in ", "f", "]"),
            ("1 if x else (", "1", ")"),
            ("2 ** ", "1", ""),
            ("-(", "1", ")"),
            ("2 ** -", "1", ""),
            ("x and (x or ", "1", ")"),
            ("not (", "1", ")"),
            ("{x: ", "1", " for x in f}"),
            ("1 + 2 * (", "1", ")"),
            ("max(f, key=", "len", ")"),
            ("list(enumerate(", "f", "))"),
            ("list(zip(f, ", "f", "))"),
            ("x < (", "1", ")"),
            ("[x for x in f if ", "f", "]"),
            ("[x for x in [1] if ", "1", "]"),
            ("sum(0 for x in [1] if [", "1", "])"),
            ("sorted([1], key=None if [", "1", "] else 1)"),
            ("{**{1: ", "1", "}}"),
            ("[y for x in [1] for y in [1] for z in ", "[1]", "]"),
            ("(1).bit_length() + len([", "1", "])"),
            ("{1: 2}.get(", "1", ")"),
            ("1 | 2 ^ 3 & 4 << 5 + 6 * (", "1", ")"),
            ("dict(a=", "1", ")"),
        ] {
            for count in [10, MAX_DEPTH / 4, MAX_DEPTH / 2, MAX_DEPTH, 200, 3000] {
                let text = format!("{}{middle}{}", open.repeat(count), close.repeat(count));
                let result = expr::eval(&text, names(&given));
                if count >= 200 {
                    assert_eq!(result.expect_err(&text).kind, ErrorKind::TooLarge, "{open} {count}");
                }
                // Without the closing half it is an error whatever the count.
                assert!(close.is_empty() || expr::eval(&open.repeat(count), names(&given)).is_err());
            }
        }
    });
}

#[test]
fn the_deepest_that_is_accepted_evaluates() {
    on_a_small_stack(|| {
        // What takes the most stack a level: generators that are walked inside each other.
        for (open, close) in
            [("sum(x for x in [", "])"), ("[x for x in ", "]"), ("max([0, ", "])"), ("sorted([", "][:9])[0]")]
        {
            let deepest = (1..=MAX_DEPTH).rev().find_map(|count| {
                let middle = if open == "[x for x in " { "[1]" } else { "1" };
                let text = format!("{}{middle}{}", open.repeat(count), close.repeat(count));
                expr::eval(&text, &Map::new()).ok().map(|_| count)
            });
            assert!(deepest.is_some_and(|count| count >= 10), "{open} {deepest:?}");
        }
    });
}

#[test]
fn long_chains_are_not_deep() {
    on_a_small_stack(|| {
        let given = json!({"x": 1, "s": "a", "d": {}});
        for (first, next, due) in [
            ("1", " + 1", json!(2001)),
            ("x", " and x", json!(1)),
            ("0", " or 0", json!(0)),
            ("1", " <= 1", json!(true)),
            ("s", ".strip()", json!("a")),
            ("0 if x == 2", " else 0 if x == 3", json!(null)),
            ("1", " * 1", json!(1)),
            ("1", " | 1", json!(1)),
        ] {
            let mut text = format!("{first}{}", next.repeat(2000));
            if due.is_null() {
                text.truncate(16_000);
                text = format!("{}else 7", &text[..text.rfind("else").expect("an else")]);
                assert_eq!(value(&text, given.clone()), json!(7));
                continue;
            }
            if text.chars().count() <= MAX_TEXT {
                assert_eq!(value(&text, given.clone()), due, "{next}");
            }
        }
        for (repeated, last) in [("not ", "x"), ("-", "x"), ("~", "x"), ("- + ", "x")] {
            assert!(expr::eval(&format!("{}{last}", repeated.repeat(4000)), names(&given)).is_ok(), "{repeated}");
        }
        assert!(expr::eval(&"'a' ".repeat(4000), names(&given)).is_ok());
        assert_eq!(kind(&format!("1{}", " + 1".repeat(MAX_TEXT)), given), ErrorKind::TooLarge);
    });
}

#[test]
fn a_deep_value_is_refused_before_the_stack_ends() {
    on_a_small_stack(|| {
        let deep = |levels: usize| (0..levels).fold(json!(1), |inner, _| Value::Array(vec![inner]));
        let given = json!({"a": deep(120), "b": deep(120)});
        assert_eq!(value("a == b and not (a < b) and str(a) == str(b)", given.clone()), json!(true));
        assert_eq!(value("a", given.clone()), given["a"]);
        let mut given = Map::from_iter([("a".to_string(), deep(2000)), ("b".to_string(), deep(2000))]);
        for text in ["a == b", "a < b", "str(a)", "a", "[a] == [b]", "{'k': a}", "'%s' % a", "a in [b]"] {
            assert_eq!(expr::eval(text, &given).expect_err(text).kind, ErrorKind::TooLarge, "{text}");
        }
        // The values have to go piece by piece: dropping them whole is as deep as they are.
        let mut rest: Vec<Value> = given.iter_mut().map(|(_, value)| value.take()).collect();
        while let Some(mut next) = rest.pop() {
            rest.extend(next.as_array_mut().map(std::mem::take).unwrap_or_default());
        }
    });
}

#[test]
fn what_would_take_long_or_much_is_refused_soon() {
    let given = json!({"s": "ab\t".repeat(1000), "xs": (0..2000).collect::<Vec<_>>(), "t": "a".repeat(1 << 20)});
    for text in [
        "sum(range(10**15))",
        "[x for x in range(10**9)]",
        "list(range(10**9))",
        "'a' * 10**9",
        "'a' * 10**18 * 10**18",
        "[0] * 10**9",
        "[] * 10**18 + [0] * 10**18",
        "9**9**9",
        "1 << 10**9",
        "10**18 * 10**18 * 10**18",
        "any(False for x in range(10**12))",
        "'x'.zfill(10**9)",
        "s.expandtabs(10**12)",
        "s.replace('', s * 100)",
        "s.center(10**15)",
        "'%999999999d' % 1",
        "'{:>999999999}'.format(1)",
        "'%.999999999f' % 1.5",
        "s.join([s] * 10000)",
        "str([s] * 10000)",
        "[[[0] * 1000] * 1000] * 1000",
        "str([[[0] * 1000] * 1000] * 1000)",
        "[[[0] * 1000] * 1000] * 1000 == [[[0] * 1000] * 1000] * 1000",
        "[1 for a in xs for b in xs]",
        "[x for x in xs if x in [y for y in xs]]",
        "max(zip(range(10**12), range(10**12)))",
        "dict.fromkeys(range(10**9))",
        "{x: x for x in range(10**9)}",
        "set(range(10**9))",
        "sum([[x] for x in xs], [])",
        "sum((xs for x in xs), [])",
        "sorted([xs + [x] for x in xs])",
        "[t + t for x in xs]",
        "[t[1:] + str(x) for x in xs]",
        "[t.replace('a', 'b') for x in xs]",
        "[len(t) for x in xs for y in xs]",
        "[t.count('b') for x in xs for y in xs]",
        "[t.upper() for x in xs for y in xs]",
        "regex_extract('((a{100}){100}){100}', t)",
        "[regex_extract('a{' + str(x) + '}', 'b') for x in xs]",
        "[regex_extract('(a+)+b', t) for x in xs]",
        "regex_extract('a' * 2000, 'a')",
        "range(10**30)",
        "[x for x in enumerate(range(10**12))]",
        "[[x] * 100000 for x in xs]",
        "(1, 2) * 10**17",
        "[s.split('b') for x in xs]",
        "[s in t for x in xs for y in xs]",
        "round(1e308, -308) + 1 / 0",
        "[[y for y in range(1000)] for x in range(10**6)]",
        "70 in range(0, 10**15, 7) and 1 / 0",
        "1.5 in range(10**12)",
        "range(10**12).count(1.5)",
    ] {
        let start = Instant::now();
        let result = expr::eval(text, names(&given));
        let took = start.elapsed();
        let error = result.map(|_| ()).expect_err(text);
        assert!(
            matches!(
                error.kind,
                ErrorKind::TooLarge | ErrorKind::ZeroDivision | ErrorKind::Forbidden | ErrorKind::Attribute
            ),
            "{text}: {error}"
        );
        println!("{took:>12?} {text}");
        // Loose, because this is a debug build on a machine that does other things as well.
        assert!(took < Duration::from_secs(30), "{text} took {took:?}");
    }
}

#[test]
fn a_pattern_that_backtracks_elsewhere_is_linear_here() {
    let given = json!({"t": format!("{}!", "a".repeat(100_000))});
    for pattern in [
        "(a+)+$",
        "(a|aa)+$",
        "(.*a){12}b",
        r"(\w+\s?)+:",
        "(?i)(a*)*b",
        r"[\w.]+@[\w.]+",
        r"(?:\w{1,20}\s?){3}:",
        "(a{0,99}){0,20}b",
    ] {
        let text = format!("regex_extract({:?}, t)", pattern);
        let start = Instant::now();
        drop(expr::eval(&text, names(&given)));
        println!("{:>12?} {text}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(30), "{text}");
    }
}

/// Texts that come close to expressions.
fn near_expressions() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "outputs",
        "x",
        "xs",
        "s",
        "d",
        "None",
        "True",
        "1",
        "0",
        "-3",
        "2.5",
        "1e400",
        "10**30",
        "'a'",
        "\"b\"",
        "r'\\d'",
        "''",
        "é",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        ".",
        "+",
        "-",
        "*",
        "**",
        "/",
        "//",
        "%",
        "<",
        ">=",
        "==",
        "!=",
        "in",
        "not",
        "is",
        "and",
        "or",
        "if",
        "else",
        "for",
        "i",
        "=",
        "~",
        "&",
        "|",
        "^",
        "<<",
        ">>",
        "len(",
        "sum(",
        "sorted(",
        "max(",
        "str(",
        "int(",
        "float(",
        "list(",
        "dict(",
        "set(",
        "zip(",
        "range(",
        "enumerate(",
        "round(",
        "regex_extract(",
        ".get(",
        ".split(",
        ".join(",
        ".format(",
        ".items()",
        ".replace(",
        ".find(",
        "[::",
        "[-1]",
        "key=",
        "reverse=",
        "'%s %d'",
        "'{:>5.2f}'",
        "lambda",
        "f'",
        "\\",
        "\n",
        "#",
        "...",
        ":=",
        "_",
        "__a__",
        "\u{1F600}",
        "'\u{1F600}é'",
    ]);
    prop::collection::vec((piece, prop::bool::ANY), 0..24).prop_map(|pieces| {
        pieces.into_iter().map(|(piece, space)| format!("{piece}{}", if space { " " } else { "" })).collect()
    })
}

/// Expressions, most of which have a value.
fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "outputs.a",
        "outputs.n",
        "xs",
        "s",
        "d",
        "1",
        "0",
        "-3",
        "2.5",
        "True",
        "None",
        "'a b'",
        "''",
        "'é😀x'",
        "[]",
        "()",
        "{}",
        "10**18",
        "1e300",
        "range(5)",
        "len",
        "d.get",
        "float('nan')",
        "float('inf')",
        "{1, 'a'}",
        "set()",
        "(i for i in xs)",
        "-170141183460469231731687303715884105727",
    ])
    .prop_map(String::from);
    leaf.prop_recursive(5, 40, 3, |inner| {
        let op = prop::sample::select(vec![
            "+", "-", "*", "/", "//", "%", "**", "<<", ">>", "|", "&", "^", "<", "==", "in", "is", "and", "or", ">=",
            "not in",
        ]);
        let call = prop::sample::select(vec![
            "len",
            "sum",
            "sorted",
            "max",
            "min",
            "str",
            "int",
            "float",
            "list",
            "tuple",
            "set",
            "dict",
            "any",
            "all",
            "abs",
            "round",
            "bool",
            "enumerate",
        ]);
        let method = prop::sample::select(vec![
            "split",
            "rsplit",
            "strip",
            "join",
            "find",
            "rfind",
            "count",
            "index",
            "replace",
            "center",
            "zfill",
            "title",
            "swapcase",
            "splitlines",
            "partition",
            "rpartition",
            "format",
            "get",
            "keys",
            "items",
            "union",
            "startswith",
            "endswith",
            "expandtabs",
            "removeprefix",
            "ljust",
        ]);
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (call, inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            (inner.clone(), method.clone(), inner.clone()).prop_map(|(a, m, b)| format!("{a}.{m}({b})")),
            (inner.clone(), method, inner.clone(), inner.clone()).prop_map(|(a, m, b, c)| format!("{a}.{m}({b}, {c})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a})[{b}:{c}]")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a})[{b}:{c}:-2]")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("[{a} for i in {b} if {c}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{{a}: {b}}}")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} if {b} else {c})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("('%s %5.2f' % ({a}, {b}))")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("'{{:>9}} {{!r}}'.format({a}, {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("list(zip({a}, {b}))")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("round({a}, {b}) * [{c}, *{b}]")),
        ]
    })
}

/// Whatever the text, there is a value or an error that lies within the text, and the same one the next time.
fn answers(text: &str) -> Result<(), TestCaseError> {
    let given = json!({"outputs": {"a": "x y", "n": 3}, "x": 1, "xs": [3, 1, 2.5], "s": "héllo wörld", "d": {"k": [1, {"z": null}]}});
    let first = expr::eval(text, names(&given));
    if let Err(error) = &first {
        prop_assert!(error.offset <= text.chars().count(), "{text}: {error:?}");
        prop_assert!(!error.message.is_empty() && !error.message.contains('\n'), "{text}: {error:?}");
    }
    prop_assert_eq!(first, expr::eval(text, names(&given)));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in any::<String>()) {
        answers(&text)?;
    }

    #[test]
    fn no_near_expression_panics(text in near_expressions()) {
        answers(&text)?;
    }

    #[test]
    fn no_expression_panics(text in expressions()) {
        answers(&text)?;
    }
}
