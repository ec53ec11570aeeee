//! `tenure validate` as authors see it: a folder of broken files, and what is said of each; texts that would break a parser.

#![expect(clippy::expect_used, reason = "a test that can not run the program has to fail")]

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[path = "validate/schema.rs"]
mod schema;

/// Runs it in the folder of broken files; without a terminal, and so without colour.
fn validate(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenure"));
    command.arg("validate").args(arguments).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken"));
    command.output().expect("tenure runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn broken_files() -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let name =
        |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name().into_string().expect("a name");
    let mut files: Vec<String> = std::fs::read_dir(dir).expect("the folder").map(name).collect();
    files.sort();
    files
}

#[test]
fn each_broken_file_is_told_what_is_wrong_with_it() {
    for file in broken_files() {
        let output = validate(&[&file]);
        let shown = format!(
            "{}{}exit status: {}",
            text(&output.stderr),
            text(&output.stdout),
            output.status.code().unwrap_or(-1)
        );
        insta::with_settings!({prepend_module_to_snapshot => false, snapshot_path => "broken.snapshots", omit_expression => true}, {
            insta::assert_snapshot!(file.trim_end_matches(".yaml"), shown);
        });
    }
}

#[test]
fn a_folder_is_checked_in_one_go_and_for_machines_as_a_list() {
    let output = validate(&["-o", "json", "."]);
    assert_eq!(output.status.code(), Some(1));
    let list: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a list");
    let mut files: Vec<&str> = list.iter().filter_map(|found| found["file"].as_str()).collect();
    files.dedup();
    let expected: Vec<String> = broken_files().iter().map(|file| format!("./{file}")).collect();
    assert_eq!(files, expected);
    let found = list.iter().find(|found| found["message"] == "there is no step `colect`").expect("it is found");
    assert_eq!(
        *found,
        json!({
            "file": "./misspelt-steps.yaml", "line": 8, "column": 14, "endColumn": 26, "severity": "error",
            "message": "there is no step `colect`", "help": "did you mean `collect`?",
            "path": ["steps", "report", "inputs", "count"],
        })
    );
    let people = validate(&["."]);
    let last = text(&people.stdout).lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with(&format!("{} files: ", files.len())), "{last}");
}

#[test]
fn warnings_do_not_fail_and_a_file_that_is_not_there_is_told_among_the_others() {
    assert_eq!(validate(&["unbounded-loop.yaml"]).status.code(), Some(0));
    let output = validate(&["nowhere.yaml", "unbounded-loop.yaml"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("the file can not be read: No such file"), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("nothing bounds this loop"));
    assert_eq!(validate(&["nowhere.yaml", "cycle.yaml"]).status.code(), Some(1));
}

/// What is too large to be kept, or what an editor would repair.
fn generated() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let line = "  s: {run: echo}\n";
    vec![
        (
            "nested",
            "[".repeat(10_000_000).into_bytes(),
            "1:4194305 the file is longer than 4 MiB, the most that is read",
        ),
        ("deep", "[".repeat(4_000_000).into_bytes(), "1:49 more than 48 levels are inside of each other"),
        ("deep-maps", "{a: ".repeat(100_000).into_bytes(), "1:193 more than 48 levels are inside of each other"),
        ("deep-lists", "- ".repeat(100_000).into_bytes(), "1:97 more than 48 levels are inside of each other"),
        (
            "large",
            format!("steps:\n{}", line.repeat(600_000)).into_bytes(),
            "246725:7 the file is longer than 4 MiB, the most that is read",
        ),
        ("documents", "---\na: 1\n".repeat(20_000).into_bytes(), "2001:1 the file holds more than 1000 documents"),
        (
            "values",
            format!("[{}]", "1,".repeat(300_000)).into_bytes(),
            "1:400000 the file holds more than 200000 values",
        ),
        ("nul", b"a: \x00b\n".to_vec(), "1:4 unexpected character: `\\u{0}'"),
        ("utf-16", b"\xff\xfes\x00t\x00".to_vec(), "1:1 the text is not UTF-8"),
        ("mark", b"\xef\xbb\xbfstepz: {}\n".to_vec(), "1:1 the document has neither `kind` nor `steps`"),
        ("mark-alone", b"\xef\xbb\xbf".to_vec(), "0:0 the file holds no document"),
        (
            "returns",
            b"steps:\r\n  a: {run: echo}\r\n  b: {run: echo, after: [\xc3\xa9]}\r\n".to_vec(),
            "3:26 there is no step `\u{e9}`",
        ),
    ]
}

#[test]
fn texts_that_would_break_a_parser_are_refused_at_once_and_cheaply() {
    let scratch = tempfile::tempdir().expect("a directory");
    for (name, content, expected) in generated() {
        let path: PathBuf = scratch.path().join(format!("{name}.yaml"));
        std::fs::write(&path, content).expect("it is written");
        let output = validate(&["-o", "json", path.to_str().expect("a path")]);
        let list: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a list");
        let said = |found: &Value| {
            format!("{}:{} {}", found["line"], found["column"], found["message"].as_str().unwrap_or_default())
        };
        assert_eq!(list.iter().map(said).collect::<Vec<_>>(), [expected], "{name}");
    }
}
