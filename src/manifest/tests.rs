//! What people get for what they write.

use super::*;
use crate::model::PathSegment;

fn messages(text: &str) -> Vec<String> {
    let said = |d: &Diagnostic| {
        let help = d.help.as_deref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{}:{}: {}{help}", d.line, d.column, d.message)
    };
    parse("x.yaml", text.as_bytes()).diagnostics.iter().map(said).collect()
}

#[test]
fn objects_and_bare_flows_are_told_apart() {
    let text = "apiVersion: tenure.dev/v1alpha1\nkind: Job\nmetadata: {name: a}\nspec: {flowRef: f, deadline: 2h 30m}\n---\nsteps: {a: {run: echo}}\n";
    let parsed = parse("x.yaml", text.as_bytes());
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    let kinds: Vec<_> = parsed.documents.iter().map(|document| document.kind).collect();
    assert_eq!(kinds, [DocumentKind::Object(Kind::Job), DocumentKind::BareFlow]);
    match &parsed.documents[0].object {
        Some(AnyObject::Job(job)) => assert_eq!(job.spec.deadline.unwrap().0.as_secs(), 9000),
        other => panic!("{other:?}"),
    }
    let json = parse("x.json", br#"{"steps": {"a": {"run": "echo"}}}"#);
    assert_eq!(json.documents[0].kind, DocumentKind::BareFlow);
}

#[test]
fn every_problem_has_its_place_and_says_what_to_do() {
    let header = "apiVersion: tenure.dev/v1alpha1\nkind: Job\n";
    let cases: Vec<(String, Vec<&str>)> = vec![
        (
            format!("{header}metadata: {{name: a}}\nspec:\n  flowReff: f\n  dedline: 1h\n"),
            vec![
                "5:3: unknown key `flowReff` (did you mean `flowRef`?)",
                "6:3: unknown key `dedline` (did you mean `deadline`?)",
            ],
        ),
        (
            format!("{header}metadata: {{name: a}}\nspec: {{deadline: 1h}}\n"),
            vec!["4:1: a job has either `flowRef` or `flow` (name a Flow, or write its steps here)"],
        ),
        (
            format!(
                "{header}metadata: {{name: a}}\nspec: {{flowRef: f, state: Runing, inputs: 3, ttlAfterFinished: []}}\n"
            ),
            vec![
                "4:27: it cannot be `Runing` (did you mean `Running`?)",
                "4:43: this is the number 3, and it must be a mapping",
                "4:46: this is a list, and it must be a duration such as `90s` or `2h 30m`",
            ],
        ),
        (
            format!("{header}metadata: {{name: a}}\nspec:\n  flowRef: f\n  deadline: soon\n"),
            vec!["6:13: `soon` is not a duration such as `90s` or `2h 30m`: expected number at 0"],
        ),
        (
            format!("{header}metadata: {{name: a b}}\nspec: {{flowRef: f}}\n"),
            vec!["3:18: `a b` cannot be a name (use letters, digits, `-`, `_`, and `.`; at most 253)"],
        ),
        (
            "apiVersion: tenure.dev/v1alpha1\nkind: Jobb\n".into(),
            vec!["2:7: there is no kind `Jobb` (did you mean `Job`?)"],
        ),
        ("stepz: {}\n".into(), vec!["1:1: the document has neither `kind` nor `steps` (`stepz` looks like `steps`)"]),
        ("".into(), vec!["0:0: the file holds no document (an object has `kind:`, a flow has `steps:`)"]),
    ];
    for (text, expected) in cases {
        assert_eq!(messages(&text), expected, "{text}");
    }
}

#[test]
fn what_is_no_yaml_is_said_with_its_line() {
    for text in ["steps:\n\ta: 1\n", "steps: {a: [\n", "a: 1\na: 2\n", "a: b: c\n"] {
        let parsed = parse("x.yaml", text.as_bytes());
        assert!(parsed.documents.is_empty(), "{text}");
        assert!(parsed.diagnostics[0].line > 0, "{text}: {:?}", parsed.diagnostics);
    }
    let bytes = parse("x.yaml", b"a: 1\nb: \xff\n");
    assert_eq!((bytes.diagnostics[0].line, bytes.diagnostics[0].column), (2, 4));
}

/// A document in which everything can be asked for: (what is asked for, the place, what is underlined).
#[test]
fn places_are_right_to_the_character() {
    let text = "\u{feff}steps:\r\n  größe: {run: 'é', when: \"ä == \\u00e4 x\"}\r\n  b:\r\n    when: |\r\n      one and\r\n      zwö ==\r\n    run: >-\r\n\
                \x20     a\tb\r\n      c d\r\n    list: &l [x,\t\"y\"]\r\n    again: *l\r\n    none:\r\n    'quoted key': it's plain\r\n";
    let parsed = parse("x.yaml", text.as_bytes());
    assert_eq!(parsed.diagnostics, []);
    let key = |name: &&str| name.parse().map_or_else(|_| PathSegment::Key((*name).to_owned()), PathSegment::Index);
    let cases: [(&str, bool, usize, &str); 17] = [
        ("steps", false, 0, "1:1 steps"),
        ("steps größe", false, 0, "2:3 größe"),
        ("steps größe run", false, 0, "2:16 'é'"),
        ("steps größe when", true, 0, "2:21 when"),
        ("steps größe when", false, 1, "2:29 "),
        ("steps größe when", false, 7, "2:40 x"),
        ("steps größe when", false, 8, "2:41 \""),
        ("steps b when", false, 4, "5:11 and"),
        ("steps b when", false, 8, "6:7 zwö"),
        ("steps b when", false, 12, "6:11 ="),
        ("steps b run", false, 2, "8:9 b"),
        ("steps b run", false, 6, "9:9 d"),
        ("steps b list 1", false, 0, "10:18 \"y\""),
        ("steps b list", false, 0, "10:5 list"),
        ("steps b again 1", false, 0, "10:18 \"y\""),
        ("steps b none", false, 0, "12:5 none"),
        ("steps b missing deep", false, 0, "3:3 b"),
    ];
    for (path, at_key, offset, expected) in cases {
        let path: Vec<PathSegment> = path.split(' ').collect::<Vec<_>>().iter().map(key).collect();
        let message = String::new();
        let problem = Problem { severity: Severity::Error, path: path.clone(), at_key, offset, message, help: None };
        let found = diagnose("x.yaml", text.as_bytes(), &parsed.documents[0].positions, &problem);
        let length = found.end_column - found.column;
        let meant: String = found.source_line.chars().skip(found.column - 1).take(length).collect();
        assert_eq!(format!("{}:{} {meant}", found.line, found.column), expected, "{path:?} {offset}");
    }
}

#[test]
fn of_a_long_line_only_a_part_is_kept_and_its_columns_stay() {
    let text = format!("{{\"steps\": {{\"a\": {{\"run\": \"{}\", \"x\": 1, \"x\": 2}}}}}}", "ä".repeat(100_000));
    let parsed = parse("x.json", text.as_bytes());
    let found = &parsed.diagnostics[0];
    assert_eq!((found.column, found.source_line.chars().count() <= 240), (100_037, true));
    let shown = render(found, false);
    assert!(shown.contains("x.json:1:100037") && shown.contains("\"x\": 2"), "{shown}");
}

#[test]
fn colour_is_there_when_it_is_asked_for_and_what_a_file_says_cannot_steer_the_terminal() {
    let parsed = parse("x\x1b[2J.yaml", "steps: {}\nkind: \"\u{9b}2J\\x1b[2J\"\n".as_bytes());
    let found = &parsed.diagnostics[0];
    assert!(render(found, true).contains("\x1b[1m"));
    for c in ['\x1b', '\u{9b}'] {
        assert!(!render(found, false).contains(c), "{:?}", render(found, false));
    }
}

#[test]
fn bombs_are_defused() {
    let mut alias = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        alias.push_str(&format!("a{level}: &a{level} [{}]\n", vec![before; 10].join(", ")));
    }
    for text in [alias, "[".repeat(100_000), "a: ".to_owned() + &"{a: ".repeat(5_000)] {
        assert!(!parse("x.yaml", text.as_bytes()).diagnostics.is_empty());
    }
}

#[test]
fn a_bare_flow_is_called_as_it_says_or_as_its_file_is() {
    let named = serde_json::json!({"name": "my flow", "steps": {}});
    let unnamed = serde_json::json!({"steps": {}});
    assert_eq!(flow_name("dir/x.flow.yaml", &named), "my-flow");
    assert_eq!(flow_name("dir/x.flow.yaml", &unnamed), "x");
    assert_eq!(flow_name("dir/FLOW.yaml", &unnamed), "dir");
    assert_eq!(job_name("x", &unnamed).len(), "x-".len() + 8);
}
