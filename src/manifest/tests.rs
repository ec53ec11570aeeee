//! What people get for what they write.

use super::*;

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
                "5:3: a job has either `flowRef` or `flow` (name a Flow, or write its steps here)",
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
